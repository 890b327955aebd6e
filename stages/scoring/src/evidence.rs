//! Evidence: the contribution of every utterance to a score.
//!
//! Scores, their intervals and paired tests are all computed from it: a metric is a function of the utterances and of how often
//! each of them counts. It is stored next to the scores as `utterances.parquet`, one row per utterance.

mod file;

use std::collections::BTreeMap;

use crate::classification::ClassCounts;
use crate::metric::Metric;
use crate::tagging::{self, RankedTags, Tags};
use crate::verification::Trials;

pub use file::{EvidenceError, FILE_NAME, read, write};

/// Contribution to a ratio of sums: errors among tokens, right answers among answers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Ratio {
    /// Numerator.
    pub part: f64,
    /// Denominator.
    pub whole: f64,
}

/// Right and answered class of every utterance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classes {
    /// Number of classes.
    pub count: usize,
    /// Right classes.
    pub labels: Vec<u32>,
    /// Classes answered.
    pub predictions: Vec<u32>,
}

/// Score and recordings of every trial.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrialScores {
    /// Similarity; higher means more alike.
    pub scores: Vec<f64>,
    /// True where both recordings are of one voice.
    pub targets: Vec<bool>,
    /// Numbers of both recordings of a trial.
    pub recordings: Vec<[u32; 2]>,
}

/// Utterances of a score, sorted by id. An empty field was not measured.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence {
    /// Ids of utterances, or of trials.
    pub ids: Vec<String>,
    /// Speakers, when every utterance has one.
    pub speakers: Option<Vec<String>>,
    /// Lengths in samples; none for trials, and in older files.
    pub num_samples: Option<Vec<i64>>,
    /// Metrics that are a ratio of sums, or the root of one.
    pub ratios: BTreeMap<Metric, Vec<Ratio>>,
    /// Answers of a classifier.
    pub classes: Option<Classes>,
    /// Answers of a model that gives any number of labels.
    pub tags: Option<Tags>,
    /// Trials of a verifier.
    pub trials: Option<TrialScores>,
}

/// Probability of a target in the costs that are reported as minDCF.
///
/// Source: the `VoxCeleb` Speaker Recognition Challenge, whose first track takes 0.05.
pub const TARGET_PROBABILITY: f64 = 0.05;

impl Evidence {
    /// Metrics that can be computed, in the order of printing.
    pub fn metrics(&self) -> Vec<Metric> {
        let mut metrics: Vec<Metric> = self.ratios.keys().copied().collect();
        if self.classes.is_some() {
            metrics.extend(ClassCounts::METRICS);
        }
        if self.tags.is_some() {
            metrics.extend(tagging::METRICS);
        }
        if self.trials.is_some() {
            metrics.extend([Metric::Eer, Metric::MinDcf]);
        }
        metrics.sort_unstable();
        metrics.dedup();
        metrics
    }

    /// Contribution of every utterance to a metric that is a ratio of sums; none for other metrics, roots of such ratios among them.
    pub fn shares(&self, metric: Metric) -> Option<Vec<Ratio>> {
        if metric.is_root() {
            return None;
        }
        if let Some(shares) = self.ratios.get(&metric) {
            return Some(shares.clone());
        }
        let classes = self.classes.as_ref().filter(|_| metric == Metric::Accuracy)?;
        let right = |(label, prediction)| Ratio { part: f64::from(u8::from(label == prediction)), whole: 1.0 };
        Some(classes.labels.iter().zip(&classes.predictions).map(right).collect())
    }

    /// Every metric when each utterance counts once; not a number where undefined.
    pub fn values(&self) -> BTreeMap<Metric, f64> {
        self.weigher().values(&vec![1; self.ids.len()])
    }

    /// Metrics of a classifier that answers the most frequent class to every utterance; empty for other evidence.
    pub fn chance(&self) -> BTreeMap<Metric, f64> {
        let Some(classes) = &self.classes else { return BTreeMap::new() };
        let mut support = vec![0_u64; classes.count];
        for &label in &classes.labels {
            support[label as usize] += 1;
        }
        let most = (0..classes.count).rev().max_by_key(|class| support[*class]).unwrap_or(0);
        let mut counts = ClassCounts::new(classes.count);
        for (class, &times) in support.iter().enumerate() {
            counts.add(class, most, times);
        }
        ClassCounts::METRICS.map(|metric| (metric, counts.value(metric))).into()
    }

    /// Prepares for computing metrics many times.
    pub fn weigher(&self) -> Weigher<'_> {
        let trials = self.trials.as_ref();
        let trials = trials.map(|trials| Trials::new(trials.scores.iter().copied().zip(trials.targets.iter().copied())));
        Weigher { evidence: self, trials, tags: self.tags.as_ref().map(Tags::ranked) }
    }
}

/// Computes all metrics of utterances that count more or less often.
#[derive(Debug)]
pub struct Weigher<'a> {
    evidence: &'a Evidence,
    trials: Option<Trials>,
    tags: Option<RankedTags<'a>>,
}

impl Weigher<'_> {
    /// Every metric when utterance k counts `weights[k]` times; not a number where undefined.
    pub fn values(&self, weights: &[u32]) -> BTreeMap<Metric, f64> {
        let mut values = BTreeMap::new();
        if let Some(classes) = &self.evidence.classes {
            let mut counts = ClassCounts::new(classes.count);
            for ((&label, &prediction), &weight) in classes.labels.iter().zip(&classes.predictions).zip(weights) {
                counts.add(label as usize, prediction as usize, u64::from(weight));
            }
            values.extend(ClassCounts::METRICS.map(|metric| (metric, counts.value(metric))));
        }
        if let Some(tags) = &self.tags {
            values.extend(tags.values(weights));
        }
        if let Some(trials) = &self.trials {
            let weight = |at: usize| f64::from(weights[at]);
            values.insert(Metric::Eer, trials.eer_weighted(weight));
            values.insert(Metric::MinDcf, trials.min_dcf_weighted(TARGET_PROBABILITY, weight));
        }
        for (metric, shares) in &self.evidence.ratios {
            let (mut part, mut whole) = (0.0, 0.0);
            for (share, &weight) in shares.iter().zip(weights) {
                part += share.part * f64::from(weight);
                whole += share.whole * f64::from(weight);
            }
            let ratio: f64 = part / whole;
            values.insert(*metric, if metric.is_root() { ratio.sqrt() } else { ratio });
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_the_most_frequent_class() {
        let classes = Classes { count: 3, labels: vec![0, 1, 1, 0, 1], predictions: vec![0; 5] };
        let evidence = Evidence { classes: Some(classes), ..Evidence::default() };
        let chance = evidence.chance();
        assert!(
            (chance[&Metric::Accuracy] - 0.6).abs() < 1e-12 && (chance[&Metric::UnweightedAverageRecall] - 0.5).abs() < 1e-12
        );
        assert!(Evidence::default().chance().is_empty());
    }

    #[test]
    fn a_ratio_is_one_of_sums() {
        let share = |part, whole| Ratio { part, whole };
        let evidence = Evidence {
            ids: ["a", "b", "c"].map(str::to_owned).to_vec(),
            ratios: BTreeMap::from([(Metric::Wer, vec![share(1.0, 2.0), share(0.0, 8.0), share(3.0, 0.0)])]),
            ..Evidence::default()
        };
        assert!((evidence.values()[&Metric::Wer] - 0.4).abs() < 1e-12, "insertions count against an empty reference");
        assert!((evidence.weigher().values(&[2, 1, 0])[&Metric::Wer] - 2.0 / 12.0).abs() < 1e-12);
        assert_eq!(evidence.metrics(), [Metric::Wer]);
    }

    #[test]
    fn classes_carry_six_metrics() {
        let classes = Classes { count: 2, labels: vec![0, 1, 1, 0], predictions: vec![0, 1, 0, 0] };
        let evidence =
            Evidence { ids: ["a", "b", "c", "d"].map(str::to_owned).to_vec(), classes: Some(classes), ..Evidence::default() };
        let values = evidence.values();
        assert_eq!(values.len(), 6);
        assert!((values[&Metric::Accuracy] - 0.75).abs() < 1e-12);
        let shares = evidence.shares(Metric::Accuracy).unwrap();
        assert!((shares.iter().map(|share| share.part).sum::<f64>() - 3.0).abs() < 1e-12);
        assert!(evidence.shares(Metric::MacroF1).is_none());
    }
}
