//! Confidence intervals by drawing the utterances again.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::evidence::{Evidence, TrialScores};
use crate::metric::Metric;
use crate::random::SplitMix;

/// A confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Parameters of confidence intervals.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resampling {
    /// Share of repetitions in which the interval would hold the true value. Default 0.95.
    #[serde(default = "default_confidence")]
    pub confidence: f64,
    /// Number of draws. Default 2000.
    #[serde(default = "default_resamples")]
    pub resamples: u32,
    /// Seed of the draws. Default 0.
    #[serde(default)]
    pub seed: u64,
    /// Units that are drawn: utterances one by one, or speakers with all that they say. Utterances of one speaker succeed and fail together,
    /// so intervals over speakers are the wider and the more honest ones when a model is meant for new speakers. Default `utterance`.
    #[serde(default)]
    pub by: Units,
}

/// Units that are drawn, or swapped, as one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Units {
    /// An utterance, or a trial.
    #[default]
    Utterance,
    /// All utterances of a speaker.
    Speaker,
}

impl Units {
    /// `utterances`, `speakers`.
    pub fn plural(self) -> &'static str {
        match self {
            Units::Utterance => "utterances",
            Units::Speaker => "speakers",
        }
    }
}

fn default_confidence() -> f64 {
    0.95
}

fn default_resamples() -> u32 {
    2000
}

impl Default for Resampling {
    fn default() -> Self {
        Self { confidence: default_confidence(), resamples: default_resamples(), seed: 0, by: Units::Utterance }
    }
}

impl Resampling {
    /// Mistakes in it, as pairs of parameter and sentence.
    pub fn check(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        if !(self.confidence > 0.0 && self.confidence < 1.0) {
            mistakes.push(("interval", format!("expected a confidence between 0 and 1, found {}", self.confidence)));
        }
        if !(100..=1_000_000).contains(&self.resamples) {
            mistakes.push(("interval", format!("expected 100 to 1000000 resamples, found {}", self.resamples)));
        }
        mistakes
    }
}

/// The unit that every utterance belongs to, numbered from 0, and how many there are. None when speakers are asked for and an
/// utterance has none.
pub(super) fn units(evidence: &Evidence, by: Units) -> Option<(Vec<u32>, usize)> {
    match by {
        Units::Utterance => Some(((0..evidence.ids.len() as u32).collect(), evidence.ids.len())),
        Units::Speaker => {
            let mut known: BTreeMap<&str, u32> = BTreeMap::new();
            let number = |speaker| {
                let next = known.len() as u32;
                *known.entry(speaker).or_insert(next)
            };
            let units: Vec<u32> = evidence.speakers.as_ref()?.iter().map(String::as_str).map(number).collect();
            Some((units, known.len()))
        }
    }
}

/// Draws of the utterances of a score, with replacement.
///
/// Trials are not drawn: each depends on two recordings, and these on their speakers, so that drawing trials one by one finds too
/// little variance. Instead speakers are drawn, and for each speaker its recordings; a trial counts as often as the product of
/// its two recordings says. Recordings that a chain of target trials joins are of one speaker.
#[derive(Debug)]
pub(super) struct Draws {
    random: SplitMix,
    /// For each drawn unit the number of times; for trials, of each speaker.
    times: Vec<u32>,
    weights: Vec<u32>,
    members: Members,
}

#[derive(Debug)]
enum Members {
    /// Unit of each utterance.
    Units(Vec<u32>),
    /// Recordings of each speaker; speaker of each recording; times of each recording; both recordings of each trial, and whether it
    /// is of a target.
    Trials { recordings: Vec<Vec<u32>>, speakers: Vec<u32>, times: Vec<u32>, trials: Vec<([u32; 2], bool)> },
}

impl Draws {
    /// Returns none when speakers are asked for and an utterance has none.
    pub(super) fn new(evidence: &Evidence, by: Units, seed: u64) -> Option<Self> {
        let random = SplitMix::new(seed);
        let weights = vec![0; evidence.ids.len()];
        if let Some(trials) = &evidence.trials {
            let speakers = speakers_of(trials);
            let mut recordings = vec![Vec::new(); speakers.iter().max().map_or(0, |most| *most as usize + 1)];
            for (recording, &speaker) in speakers.iter().enumerate() {
                recordings[speaker as usize].push(recording as u32);
            }
            let (drawn, times) = (vec![0; recordings.len()], vec![0; speakers.len()]);
            let trials = trials.recordings.iter().copied().zip(trials.targets.iter().copied()).collect();
            return Some(Self {
                random,
                times: drawn,
                weights,
                members: Members::Trials { recordings, speakers, times, trials },
            });
        }
        let (units, num_units) = units(evidence, by)?;
        Some(Self { random, times: vec![0; num_units], weights, members: Members::Units(units) })
    }

    /// Draws once, and returns how often each utterance or trial counts.
    pub(super) fn draw(&mut self) -> &[u32] {
        let mut draw = |times: &mut [u32], among: &[u32]| {
            for _ in 0..among.len() {
                times[among[self.random.below(among.len())] as usize] += 1;
            }
        };
        self.times.fill(0);
        let all: Vec<u32> = (0..self.times.len() as u32).collect();
        draw(&mut self.times, &all);
        match &mut self.members {
            Members::Units(units) => {
                for (weight, &unit) in self.weights.iter_mut().zip(&*units) {
                    *weight = self.times[unit as usize];
                }
            }
            Members::Trials { recordings, speakers, times, trials } => {
                times.fill(0);
                for own in &*recordings {
                    draw(times, own);
                }
                for (weight, ([enrol, test], target)) in self.weights.iter_mut().zip(&*trials) {
                    let (enrol, test) = (*enrol as usize, *test as usize);
                    let drawn = |recording: usize| self.times[speakers[recording] as usize];
                    // A speaker drawn twice is two speakers, whose recordings are not compared with each other.
                    let of_speakers = if *target { drawn(enrol) } else { drawn(enrol) * drawn(test) };
                    *weight = of_speakers * times[enrol] * times[test];
                }
            }
        }
        &self.weights
    }
}

/// Representative of the set of `at`, in disjoint sets in which each member points to another or to itself.
fn root(joined: &mut [usize], mut at: usize) -> usize {
    while joined[at] != at {
        joined[at] = joined[joined[at]];
        at = joined[at];
    }
    at
}

/// Number of the speaker of each recording.
fn speakers_of(trials: &TrialScores) -> Vec<u32> {
    let count = trials.recordings.iter().flatten().max().map_or(0, |most| *most as usize + 1);
    let mut joined: Vec<usize> = (0..count).collect();
    for (&[enrol, test], _) in trials.recordings.iter().zip(&trials.targets).filter(|(_, target)| **target) {
        let (a, b) = (root(&mut joined, enrol as usize), root(&mut joined, test as usize));
        joined[a.max(b)] = a.min(b);
    }
    let mut numbers: BTreeMap<usize, u32> = BTreeMap::new();
    let roots: Vec<usize> = (0..count).map(|recording| root(&mut joined, recording)).collect();
    for &root in &roots {
        let next = numbers.len() as u32;
        numbers.entry(root).or_insert(next);
    }
    roots.iter().map(|root| numbers[root]).collect()
}

/// Returns the interval of every metric by the percentile bootstrap, utterances or speakers drawn with replacement. Of trials,
/// speakers and their recordings are drawn, whatever the units.
///
/// When every utterance is right in a share of right utterances, or none is, all draws agree and would claim certainty; the end
/// that could move is then that of Clopper and Pearson 1934: `(alpha / 2)^(1 / utterances)` from the other end. Other metrics on
/// whose value all draws agree have no interval. None in all when speakers are asked for and an utterance has none.
///
/// Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3; drawing of speakers: Bisani and Ney 2004,
/// "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP, section 4.
pub fn intervals(evidence: &Evidence, resampling: &Resampling) -> Option<BTreeMap<Metric, Interval>> {
    let mut draws = Draws::new(evidence, resampling.by, resampling.seed)?;
    let num_units = draws.times.len();
    let weigher = evidence.weigher();
    let mut drawn: BTreeMap<Metric, Vec<f64>> = BTreeMap::new();
    for _ in 0..resampling.resamples {
        for (metric, value) in weigher.values(draws.draw()) {
            if value.is_finite() {
                drawn.entry(metric).or_default().push(value);
            }
        }
    }
    let tail = (1.0 - resampling.confidence) / 2.0;
    let interval = |(metric, mut values): (Metric, Vec<f64>)| {
        values.sort_by(f64::total_cmp);
        let certain = values[values.len() - 1] - values[0] <= f64::EPSILON;
        let interval = if certain {
            is_share_of_units(metric).then(|| reach(values[0], num_units, tail)).flatten()?
        } else {
            Interval { low: quantile(&values, tail), high: quantile(&values, 1.0 - tail) }
        };
        Some((metric, interval))
    };
    Some(drawn.into_iter().filter_map(interval).collect())
}

fn is_share_of_units(metric: Metric) -> bool {
    matches!(metric, Metric::Accuracy | Metric::SentenceErrorRate | Metric::SlotAccuracy)
}

/// The interval of a share that was 0 or 1 in all of `count` cases.
fn reach(share: f64, count: usize, tail: f64) -> Option<Interval> {
    let reach = tail.powf(1.0 / count as f64);
    match share {
        share if share <= 0.0 => Some(Interval { low: 0.0, high: 1.0 - reach }),
        share if share >= 1.0 => Some(Interval { low: reach, high: 1.0 }),
        _ => None, // a single unit, say
    }
}

/// The value below which the share `at` of the sorted values lies, interpolated linearly between neighbours.
fn quantile(sorted: &[f64], at: f64) -> f64 {
    let place = at * (sorted.len() - 1) as f64;
    let (below, share) = (place.floor() as usize, place.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] * (1.0 - share) + sorted[above] * share
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{Classes, Ratio};

    /// So many of 300 utterances right.
    fn accuracy(right: usize, total: usize) -> Evidence {
        let labels = vec![0; total];
        let predictions = (0..total).map(|at| u32::from(at >= right)).collect();
        let ids = (0..total).map(|at| format!("u{at:04}")).collect();
        Evidence { ids, classes: Some(Classes { count: 2, labels, predictions }), ..Evidence::default() }
    }

    fn of(evidence: &Evidence, confidence: f64, by: Units) -> Interval {
        let resampling = Resampling { confidence, resamples: 4000, seed: 7, by };
        intervals(evidence, &resampling).unwrap()[&Metric::Accuracy]
    }

    #[test]
    fn the_interval_is_that_of_the_binomial() {
        // For 276 of 300 the normal approximation gives 0.92 +- 1.96 * 0.01566.
        let evidence = accuracy(276, 300);
        let found = of(&evidence, 0.95, Units::Utterance);
        assert!((found.low - 0.8893).abs() < 0.005 && (found.high - 0.9507).abs() < 0.005, "{found:?}");
        assert_eq!(found, of(&evidence, 0.95, Units::Utterance));
        let wider = of(&evidence, 0.99, Units::Utterance);
        assert!(wider.low < found.low && wider.high > found.high);
    }

    #[test]
    fn a_perfect_score_is_not_a_certain_one() {
        let found = of(&accuracy(100, 100), 0.95, Units::Utterance);
        assert!((found.low - 0.963_783).abs() < 1e-6 && found.high > 0.999_999, "{found:?}");
        let none = of(&accuracy(0, 100), 0.95, Units::Utterance);
        assert!((none.high - (1.0 - found.low)).abs() < 1e-12, "{none:?}");
    }

    #[test]
    fn speakers_who_fail_as_a_whole_widen_the_interval() {
        let mut evidence = accuracy(270, 300);
        assert!(intervals(&evidence, &Resampling { by: Units::Speaker, ..Resampling::default() }).is_none());
        // The 30 mistakes are all that the last of ten speakers says.
        evidence.speakers = Some((0..300).map(|at| format!("s{}", at / 30)).collect());
        let (alone, together) = (of(&evidence, 0.95, Units::Utterance), of(&evidence, 0.95, Units::Speaker));
        assert!(together.high - together.low > 2.0 * (alone.high - alone.low), "{alone:?} {together:?}");
    }

    /// All pairs of recordings, `each` of every speaker; a recording is as alike to others as its speaker's voice is distinct.
    fn verification(speakers: u32, each: u32) -> Evidence {
        let noise =
            |a: u32, b: u32| f64::from(a.wrapping_mul(2_654_435_761).wrapping_add(b.wrapping_mul(40_503)) >> 16) / 65_536.0;
        let all: Vec<(u32, u32)> = (0..speakers).flat_map(|speaker| (0..each).map(move |k| (speaker, k))).collect();
        let mut trials = TrialScores::default();
        for (a, one) in all.iter().enumerate() {
            for (b, other) in all.iter().enumerate().skip(a + 1) {
                let target = one.0 == other.0;
                // Some recordings are noisy, and their trials fail together.
                let blurred = noise(a as u32, 7) + noise(b as u32, 7);
                trials.scores.push(f64::from(u8::from(target)) * 0.7 + blurred + 0.5 * noise(a as u32, b as u32));
                trials.targets.push(target);
                trials.recordings.push([a as u32, b as u32]);
            }
        }
        let ids = (0..trials.scores.len()).map(|at| format!("t{at:05}")).collect();
        Evidence { ids, trials: Some(trials), ..Evidence::default() }
    }

    #[test]
    fn speakers_are_read_from_target_trials() {
        let trials = TrialScores {
            scores: vec![0.0; 4],
            targets: vec![true, false, true, true],
            recordings: vec![[0, 2], [0, 1], [2, 4], [1, 3]],
        };
        assert_eq!(speakers_of(&trials), [0, 1, 0, 1, 0]);
    }

    #[test]
    fn drawing_recordings_finds_more_variance_than_drawing_trials() {
        let evidence = verification(8, 6);
        let resampling = Resampling { resamples: 400, ..Resampling::default() };
        let found = intervals(&evidence, &resampling).unwrap()[&Metric::Eer];
        let (weigher, count) = (evidence.weigher(), evidence.ids.len());
        let mut random = SplitMix::new(5);
        let mut alone: Vec<f64> = (0..400)
            .map(|_| {
                let mut weights = vec![0; count];
                for _ in 0..count {
                    weights[random.below(count)] += 1;
                }
                weigher.values(&weights)[&Metric::Eer]
            })
            .collect();
        alone.sort_by(f64::total_cmp);
        let of_trials = quantile(&alone, 0.975) - quantile(&alone, 0.025);
        assert!(found.high - found.low > 1.5 * of_trials, "{found:?}, of trials {of_trials}");
    }

    #[test]
    fn a_rate_that_cannot_vary_has_no_interval() {
        let share = Ratio { part: 0.0, whole: 4.0 };
        let ids = ["a", "b"].map(str::to_owned).to_vec();
        let ratios = BTreeMap::from([(Metric::Wer, vec![share; 2])]);
        let evidence = Evidence { ids, ratios, ..Evidence::default() };
        assert!(intervals(&evidence, &Resampling::default()).unwrap().is_empty());
    }
}
