//! Comparison of two methods that answered the same utterances.
//!
//! Whether one method is better is decided over seeds and utterances together ([`super::t_test`]), and not at all with one seed. The
//! probability over utterances alone compares the trainings at hand:
//!
//! | compared | test over utterances |
//! | --- | --- |
//! | an accuracy, one seed, utterance by utterance | exact `McNemar` |
//! | any other ratio of sums or root of one, F1 of classes, several seeds, or speaker by speaker | approximate randomisation |
//! | EER and minDCF | paired bootstrap of speakers and recordings |
//!
//! With the second, word, character and phoneme errors of single utterances have the matched-pairs test too, which the field quotes.
//! Its normal distribution holds for some fifty utterances and more; approximate randomisation holds for few too, and decides.
//!
//! Approximate randomisation: if the two were equally good, their answers to an utterance could change places. They do so by the
//! toss of a coin, utterance by utterance (or speaker by speaker, and in all seeds alike), and the difference is computed again.
//! The probability is the share of rounds whose difference is at least the one observed. Source: Noreen 1989,
//! "Computer-intensive methods for testing hypotheses"; Yeh 2000, "More accurate tests for the statistical significance of result
//! differences", COLING. The share is estimated until 100 rounds have reached the difference observed, at most so many as asked
//! for: Besag and Clifford 1991, "Sequential Monte Carlo p-values", Biometrika 78(2).

use super::bootstrap::{Draws, Units, units};
use super::seeds::{SeedNoise, TTest, t_test, utterance_variance};
use crate::classification::ClassCounts;
use crate::evidence::Evidence;
use crate::metric::Metric;
use crate::random::Coins;

/// Rounds that must reach the observed difference before the rest is left out.
const ENOUGH: u32 = 100;

/// Comparison of two methods.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Paired {
    /// Metric that was compared.
    pub metric: Metric,
    /// Value of the first, averaged over seeds.
    pub first: f64,
    /// Value of the second, averaged over seeds.
    pub second: f64,
    /// Probability, over utterances alone, of a difference at least as large if the trainings were equally good.
    pub p: f64,
    /// Test behind that probability.
    pub test: Test,
    /// Test over seeds and utterances; none with too few seeds.
    pub over_seeds: Option<TTest>,
    /// For errors among tokens, by utterance: the probability by the matched-pairs test of Gillick and Cox (1989).
    pub matched_pairs: Option<f64>,
    /// Units on which the first, and the second, is the better one, summed over seeds; none where a unit has no score of its own.
    pub better_on: Option<(u64, u64)>,
    /// Number of utterances.
    pub utterances: usize,
    /// Number of seeds that were averaged.
    pub seeds: usize,
}

/// Test over utterances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// See [`mcnemar`].
    Mcnemar,
    /// Answers change places at random.
    ApproximateRandomisation,
    /// Speakers and recordings are drawn, the same for both.
    PairedBootstrap,
}

impl Test {
    /// Name in running text.
    pub fn title(self) -> &'static str {
        match self {
            Test::Mcnemar => "McNemar's exact test",
            Test::ApproximateRandomisation => "approximate randomisation",
            Test::PairedBootstrap => "paired bootstrap",
        }
    }
}

impl Paired {
    /// Returns the better method, or none where seeds and utterances do not show a difference at this level.
    pub fn winner(&self, level: f64) -> Option<Side> {
        self.over_seeds.filter(|test| test.p < level)?;
        if self.metric.improves(self.first, self.second) { Some(Side::First) } else { Some(Side::Second) }
    }
}

impl Paired {
    /// Returns the outcome in words: `better` or `worse` for the first method, `no difference shown`, or why nothing is decided.
    pub fn verdict(&self, level: f64, better: &str, worse: &str) -> String {
        let Some(test) = &self.over_seeds else {
            return if self.seeds < 2 { "not decided, one seed" } else { "not decided, too few seeds" }.to_owned();
        };
        let outcome = match self.winner(level) {
            Some(Side::First) => better,
            Some(Side::Second) => worse,
            None => "no difference shown",
        };
        format!("{outcome}, {} over {} seeds and the utterances", print_p(test.p), self.seeds)
    }
}

/// One of two methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Method named first.
    First,
    /// Method named second.
    Second,
}

/// Error of comparing two scores in pairs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// Nothing to compare.
    #[error("there are no utterances to compare")]
    Empty,
    /// Results for other utterances.
    #[error(
        "the two were tested on other utterances: {first} and {second} of them, {missing} only in one, `{example}` for example"
    )]
    OtherUtterances {
        /// How many the first has.
        first: usize,
        /// How many the second has.
        second: usize,
        /// How many only one of them has.
        missing: usize,
        /// One of these.
        example: String,
    },
    /// The right answers differ.
    #[error("the two were scored against other right answers, of utterance `{id}` for example")]
    OtherReferences {
        /// An utterance.
        id: String,
    },
    /// The metric was not measured for both.
    #[error("`{}` was not measured for both", .metric.name())]
    NoMetric {
        /// The metric.
        metric: Metric,
    },
    /// Speakers are asked for and not known.
    #[error("the speakers of the utterances are not known")]
    NoSpeakers,
}

/// Compares two methods by a metric. Each pair holds the utterances of the first and the second method from one seed.
///
/// `noise` is the variance between seeds, pooled over more methods than these two; by default it is that of the two.
///
/// Errors: [`CompareError`].
pub fn compare(
    pairs: &[(&Evidence, &Evidence)],
    metric: Metric,
    by: Units,
    rounds: u32,
    seed: u64,
    noise: Option<SeedNoise>,
) -> Result<Paired, CompareError> {
    let Some(&(leader, _)) = pairs.first() else { return Err(CompareError::Empty) };
    for (first, second) in pairs {
        comparable(leader, first)?;
        comparable(first, second)?;
    }
    let (units, num_units) = units(leader, by).ok_or(CompareError::NoSpeakers)?;
    let value = |evidence: &Evidence| evidence.values().get(&metric).copied().ok_or(CompareError::NoMetric { metric });
    let values = pairs.iter().map(|(first, second)| Ok((value(first)?, value(second)?))).collect::<Result<Vec<_>, _>>()?;
    let average = |of: fn(&(f64, f64)) -> f64| values.iter().map(of).sum::<f64>() / values.len() as f64;
    let mut found = Paired {
        metric,
        first: average(|pair| pair.0),
        second: average(|pair| pair.1),
        p: 1.0,
        test: Test::ApproximateRandomisation,
        over_seeds: None,
        matched_pairs: None,
        better_on: None,
        utterances: leader.ids.len(),
        seeds: pairs.len(),
    };
    if let Some(differences) = differences(pairs, metric, &units, num_units) {
        let ahead = |sign: f64| differences.iter().filter(|difference| **difference * sign > 0.0).count() as u64;
        let (more, less) = (ahead(1.0), ahead(-1.0));
        let higher = metric.direction() == crate::metric::Direction::HigherIsBetter;
        found.better_on = Some(if higher { (more, less) } else { (less, more) });
        if metric == Metric::Accuracy && pairs.len() == 1 && by == Units::Utterance {
            (found.p, found.test) = (mcnemar(more, less), Test::Mcnemar);
        } else {
            found.p = swap_signs(&differences, rounds, seed);
        }
        if matches!(metric, Metric::Wer | Metric::Cer | Metric::Per) && by == Units::Utterance {
            found.matched_pairs = Some(matched_pairs(&differences));
        }
    } else if leader.ratios.contains_key(&metric) {
        found.p = swap_shares(pairs, metric, (&units, num_units), rounds, seed);
    } else if leader.classes.is_some() {
        found.p = swap_classes(pairs, metric, (&units, num_units), rounds, seed);
    } else if leader.trials.is_some() || leader.tags.is_some() {
        (found.p, found.test) = (draw_trials(pairs, metric, by, rounds, seed), Test::PairedBootstrap);
    }
    let of = |side: fn(&(f64, f64)) -> f64| values.iter().map(side).collect::<Vec<_>>();
    let noise = noise.unwrap_or_else(|| SeedNoise::pooled([&of(|pair| pair.0)[..], &of(|pair| pair.1)]));
    if pairs.len() > 1
        && let Some(variance) = utterance_variance(pairs, metric, by, seed)
    {
        found.over_seeds = t_test(found.first - found.second, variance, pairs.len(), Some(noise));
    }
    Ok(found)
}

/// Checks that both have the same utterances with the same right answers.
///
/// Errors: [`CompareError::OtherUtterances`], [`CompareError::OtherReferences`].
pub fn comparable(first: &Evidence, second: &Evidence) -> Result<(), CompareError> {
    if first.ids != second.ids {
        let only = |one: &Evidence, other: &Evidence| {
            one.ids.iter().filter(|id| other.ids.binary_search(id).is_err()).cloned().collect::<Vec<_>>()
        };
        let mut missing = only(first, second);
        missing.extend(only(second, first));
        let example = missing.first().cloned().unwrap_or_default();
        let (first, second) = (first.ids.len(), second.ids.len());
        return Err(CompareError::OtherUtterances { first, second, missing: missing.len(), example });
    }
    let other = |at: Option<usize>| at.map_or(Ok(()), |at| Err(CompareError::OtherReferences { id: first.ids[at].clone() }));
    if let (Some(a), Some(b)) = (&first.classes, &second.classes) {
        other(a.labels.iter().zip(&b.labels).position(|(a, b)| a != b))?;
    }
    if let (Some(a), Some(b)) = (&first.tags, &second.tags) {
        other(a.labels.iter().zip(&b.labels).position(|(a, b)| a != b))?;
    }
    if let (Some(a), Some(b)) = (&first.trials, &second.trials) {
        other(a.targets.iter().zip(&b.targets).position(|(a, b)| a != b))?;
    }
    for (metric, shares) in first.ratios.iter().filter(|(metric, _)| metric.has_given_whole()) {
        let theirs = second.ratios.get(metric).map_or(&[][..], Vec::as_slice);
        other(shares.iter().zip(theirs).position(|(a, b)| a.whole.total_cmp(&b.whole).is_ne()))?;
    }
    Ok(())
}

/// Contribution of each unit to the mean difference of a ratio of sums. None for other metrics.
fn differences(pairs: &[(&Evidence, &Evidence)], metric: Metric, units: &[u32], num_units: usize) -> Option<Vec<f64>> {
    let mut differences = vec![0.0; num_units];
    for (first, second) in pairs {
        let (first, second) = (first.shares(metric)?, second.shares(metric)?);
        let whole = |shares: &[crate::evidence::Ratio]| shares.iter().map(|share| share.whole).sum::<f64>();
        let (first_whole, second_whole) = (whole(&first), whole(&second));
        for ((a, b), &unit) in first.iter().zip(&second).zip(units) {
            differences[unit as usize] += (a.part / first_whole - b.part / second_whole) / pairs.len() as f64;
        }
    }
    Some(differences)
}

/// Returns the share of rounds that reach a difference; `round` gives the difference of one round.
fn share_of_rounds(observed: f64, rounds: u32, mut round: impl FnMut() -> f64) -> f64 {
    // Sums in another order differ in the last digits.
    let bound = observed.abs() * (1.0 - 1e-9) - 1e-15;
    let mut reached = 0;
    for done in 1..=rounds {
        reached += u32::from(round().abs() >= bound);
        if reached == ENOUGH {
            return f64::from(ENOUGH) / f64::from(done);
        }
    }
    f64::from(reached + 1) / f64::from(rounds + 1)
}

/// Approximate randomisation of a sum: a unit whose answers change places changes its sign.
fn swap_signs(differences: &[f64], rounds: u32, seed: u64) -> f64 {
    let moving: Vec<f64> = differences.iter().copied().filter(|difference| *difference != 0.0).collect();
    let mut coins = Coins::new(seed);
    share_of_rounds(moving.iter().sum(), rounds, || {
        moving.iter().map(|difference| if coins.toss() { -difference } else { *difference }).sum()
    })
}

/// Approximate randomisation of roots of ratios of sums.
fn swap_shares(pairs: &[(&Evidence, &Evidence)], metric: Metric, units: (&[u32], usize), rounds: u32, seed: u64) -> f64 {
    let (units, num_units) = units;
    // Sums of each unit: parts and wholes of the first, parts and wholes of the second.
    let sums = |(first, second): &(&Evidence, &Evidence)| {
        let mut sums = vec![[0.0; 4]; num_units];
        for (at, &unit) in units.iter().enumerate() {
            let (a, b) = (first.ratios[&metric][at], second.ratios[&metric][at]);
            for (sum, share) in sums[unit as usize].iter_mut().zip([a.part, a.whole, b.part, b.whole]) {
                *sum += share;
            }
        }
        sums
    };
    let all: Vec<Vec<[f64; 4]>> = pairs.iter().map(sums).collect();
    let difference = |swapped: &dyn Fn(usize) -> bool| {
        let of = |sums: &Vec<[f64; 4]>| {
            let mut total = [0.0; 4];
            for (unit, own) in sums.iter().enumerate() {
                for (at, share) in own.iter().enumerate() {
                    total[if swapped(unit) { (at + 2) % 4 } else { at }] += share;
                }
            }
            (total[0] / total[1]).sqrt() - (total[2] / total[3]).sqrt()
        };
        all.iter().map(of).sum::<f64>()
    };
    let observed = difference(&|_| false);
    let mut coins = Coins::new(seed);
    let mut tossed = vec![false; num_units];
    share_of_rounds(observed, rounds, || {
        for heads in &mut tossed {
            *heads = coins.toss();
        }
        difference(&|unit| tossed[unit])
    })
}

/// Approximate randomisation of the metrics of classifiers.
fn swap_classes(pairs: &[(&Evidence, &Evidence)], metric: Metric, units: (&[u32], usize), rounds: u32, seed: u64) -> f64 {
    let (units, num_units) = units;
    let all: Vec<_> = pairs.iter().filter_map(|(a, b)| Some((a.classes.as_ref()?, b.classes.as_ref()?))).collect();
    let count = all.iter().map(|(a, b)| a.count.max(b.count)).max().unwrap_or(0);
    // What both answer alike is counted once.
    let mut common = vec![ClassCounts::new(count); all.len()];
    let mut moving: Vec<Vec<(u32, u32, u32, u32)>> = vec![Vec::new(); all.len()];
    for (seed, (a, b)) in all.iter().enumerate() {
        for (at, &label) in a.labels.iter().enumerate() {
            let (first, second) = (a.predictions[at], b.predictions[at]);
            if first == second {
                common[seed].add(label as usize, first as usize, 1);
            } else {
                moving[seed].push((units[at], label, first, second));
            }
        }
    }
    let difference = |swapped: &dyn Fn(u32) -> bool| {
        let mut sum = 0.0;
        for (common, moving) in common.iter().zip(&moving) {
            let (mut first, mut second) = (common.clone(), common.clone());
            for &(unit, label, a, b) in moving {
                let (a, b) = if swapped(unit) { (b, a) } else { (a, b) };
                first.add(label as usize, a as usize, 1);
                second.add(label as usize, b as usize, 1);
            }
            sum += first.value(metric) - second.value(metric);
        }
        sum
    };
    let observed = difference(&|_| false);
    let mut coins = Coins::new(seed);
    let mut tossed = vec![false; num_units];
    share_of_rounds(observed, rounds, || {
        for heads in &mut tossed {
            *heads = coins.toss();
        }
        difference(&|unit| tossed[unit as usize])
    })
}

/// Paired bootstrap of metrics that are no sums, those of verifiers and of labels: twice the share of draws whose difference has the other sign.
///
/// Source: Efron and Tibshirani 1993, section 16.4, read as an interval turned round.
fn draw_trials(pairs: &[(&Evidence, &Evidence)], metric: Metric, by: Units, rounds: u32, seed: u64) -> f64 {
    let Some(mut draws) = Draws::new(pairs[0].0, by, seed) else { return 1.0 };
    let all: Vec<_> = pairs.iter().map(|(a, b)| (a.weigher(), b.weigher())).collect();
    let (mut below, mut above, mut drawn) = (0_u32, 0_u32, 0_u32);
    for _ in 0..rounds.min(2000) {
        let weights = draws.draw();
        let difference: f64 = all.iter().map(|(a, b)| a.values(weights)[&metric] - b.values(weights)[&metric]).sum();
        if difference.is_finite() {
            drawn += 1;
            below += u32::from(difference <= 0.0);
            above += u32::from(difference >= 0.0);
        }
    }
    f64::min(1.0, 2.0 * f64::from(below.min(above) + 1) / f64::from(drawn + 1))
}

/// Exact two-sided `McNemar` test of two classifiers that answered the same utterances.
///
/// `only_first` utterances were answered rightly by the first alone, `only_second` by the second alone. Returns the
/// probability of a split at least as uneven if the two were equally good: 1 when both are 0.
///
/// Source: `McNemar` 1947, Psychometrika 12(2); exact form: binomial with probability one half.
pub fn mcnemar(only_first: u64, only_second: u64) -> f64 {
    let trials = only_first + only_second;
    let fewer = only_first.min(only_second);
    if 2 * fewer == trials {
        return 1.0;
    }
    // log C(trials, k), grown from k = 0; one half to the power of `trials` underflows unless kept as a logarithm.
    let mut log_choose = 0.0;
    let mut tail = 0.0;
    for k in 0..=fewer {
        tail += f64::exp(log_choose - trials as f64 * std::f64::consts::LN_2);
        log_choose += ((trials - k) as f64).ln() - ((k + 1) as f64).ln();
    }
    f64::min(1.0, 2.0 * tail)
}

/// Prints a probability: `p = 0.034`, or `p < 0.001`.
pub fn print_p(p: f64) -> String {
    if p < 0.001 { "p < 0.001".to_owned() } else { format!("p = {p:.3}") }
}

/// Two-sided matched-pairs test of two recognisers that answered the same utterances.
///
/// `differences` are the errors of the first less those of the second, in any unit, by utterance; utterances are taken as
/// independent, and so are the test's segments. Returns the probability of a mean difference at least as large if the two were
/// equally good: 1 when nothing differs, and when there are fewer than two utterances.
///
/// Source: Gillick and Cox 1989, "Some statistical issues in the comparison of speech recognition algorithms", ICASSP, section 3;
/// known as MAPSSWE from NIST's `sctk`, which cuts utterances further where both recognisers are right for a while.
pub(crate) fn matched_pairs(differences: &[f64]) -> f64 {
    let count = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / count;
    let variance = differences.iter().map(|difference| (difference - mean).powi(2)).sum::<f64>() / (count - 1.0);
    if count < 2.0 || mean == 0.0 {
        return 1.0;
    }
    let z = mean / (variance / count).sqrt(); // infinite when all utterances differ alike
    libm::erfc(z.abs() / std::f64::consts::SQRT_2)
}

#[cfg(test)]
mod tests;
