//! Confidence intervals by drawing the utterances anew.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::random::SplitMix;
use crate::evidence::Evidence;
use crate::metric::Metric;

/// A confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// How intervals are made.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resampling {
    /// Share of repetitions in which the interval would hold the true value. Default 0.95.
    #[serde(default = "default_confidence")]
    pub confidence: f64,
    /// How many times the utterances are drawn anew. Default 2000.
    #[serde(default = "default_resamples")]
    pub resamples: u32,
    /// Where the generator of those draws starts. Default 0.
    #[serde(default)]
    pub seed: u64,
    /// What is drawn: utterances one by one, or speakers with all that they say. Utterances of one speaker succeed and fail together,
    /// so intervals over speakers are the wider and the more honest ones when a model is meant for new speakers. Default `utterance`.
    #[serde(default)]
    pub by: Units,
}

/// What is drawn, or swapped, as one.
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

/// The interval of every metric by the percentile bootstrap, utterances or speakers drawn with replacement.
///
/// When every utterance is right in a share of right utterances, or none is, all draws agree and would claim certainty; the end
/// that could move is then that of Clopper and Pearson 1934: `(alpha / 2)^(1 / utterances)` from the other end. Other metrics on
/// whose value all draws agree have no interval. None in all when speakers are asked for and an utterance has none.
///
/// Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3; drawing of speakers: Bisani and Ney 2004,
/// "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP, section 4.
pub fn intervals(evidence: &Evidence, resampling: &Resampling) -> Option<BTreeMap<Metric, Interval>> {
    let (units, num_units) = units(evidence, resampling.by)?;
    let weigher = evidence.weigher();
    let mut random = SplitMix(resampling.seed);
    let mut drawn: BTreeMap<Metric, Vec<f64>> = BTreeMap::new();
    let (mut times, mut weights) = (vec![0_u32; num_units], vec![0_u32; units.len()]);
    for _ in 0..resampling.resamples {
        times.fill(0);
        for _ in 0..num_units {
            times[random.below(num_units as u64) as usize] += 1;
        }
        for (weight, &unit) in weights.iter_mut().zip(&units) {
            *weight = times[unit as usize];
        }
        for (metric, value) in weigher.values(&weights) {
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

    #[test]
    fn a_rate_that_cannot_vary_has_no_interval() {
        let share = Ratio { part: 0.0, whole: 4.0 };
        let ids = ["a", "b"].map(str::to_owned).to_vec();
        let ratios = BTreeMap::from([(Metric::Wer, vec![share; 2])]);
        let evidence = Evidence { ids, ratios, ..Evidence::default() };
        assert!(intervals(&evidence, &Resampling::default()).unwrap().is_empty());
    }
}
