//! Metrics by name, with their direction and their form in print. Computes nothing.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Metric of a score or of a training curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Metric {
    /// Share of right answers; of intents, the share of utterances with every slot right; of several labels, with
    /// exactly the right ones. Formerly `exact_match` in trainings of intents.
    #[serde(alias = "exact_match")]
    Accuracy,
    /// F1 of each class, averaged over the classes that occur.
    MacroF1,
    /// F1 of each class, averaged by how often the class is the right answer.
    WeightedF1,
    /// F1 over all decisions pooled; equals accuracy when every utterance has one class.
    MicroF1,
    /// Recall of each class, averaged over the classes that occur.
    UnweightedAverageRecall,
    /// Correlation of answers and truth, from -1 to 1, 0 for guessing.
    Matthews,
    /// Average precision of each label, averaged over the labels that occur.
    MeanAveragePrecision,
    /// Share of slots with the right value, over all slots of all utterances.
    SlotAccuracy,
    /// All word errors over all reference words.
    Wer,
    /// All character errors over all reference characters, spaces counted.
    Cer,
    /// All phone errors over all reference phones.
    Per,
    /// Share of utterances with any error.
    SentenceErrorRate,
    /// F1 between the sets of slot names of an utterance, averaged over utterances.
    SlotTypeF1,
    /// Character errors of the values of slots over all characters of reference values.
    SlotValueCer,
    /// The rate at which false acceptances and false rejections are equally frequent.
    Eer,
    /// The least cost of errors over all thresholds, over that of answering without looking.
    MinDcf,
    /// Cosine between the voice of a synthesised utterance and the mean voice of its speaker's recordings.
    SpeakerSimilarity,
    /// Share of synthesised utterances whose voice is nearest to the right speaker.
    SpeakerAccuracy,
    /// Mel-cepstral distortion from a recording of the same text, in dB.
    Mcd,
    /// Root mean square error of the fundamental frequency in cents, over frames that are voiced in both.
    F0Rmse,
    /// Share of frames of which one is voiced and the other is not.
    VoicingError,
    /// Share of frames, voiced in both, whose frequencies are more than a fifth apart.
    GrossPitchError,
    /// Mean absolute error of the length, relative to the recording.
    DurationError,
    /// Deviation of the spectrum over time, relative to the recording: below 1 where it is smoother than speech.
    VarianceRatio,
    /// Mean loss of the right answer, natural log.
    Loss,
}

/// Direction in which a metric improves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// A larger value is better.
    HigherIsBetter,
    /// A smaller value is better.
    LowerIsBetter,
}

impl Metric {
    /// All metrics, in the order of printing.
    pub const ALL: [Metric; 25] = [
        Metric::Accuracy,
        Metric::MacroF1,
        Metric::WeightedF1,
        Metric::MicroF1,
        Metric::UnweightedAverageRecall,
        Metric::Matthews,
        Metric::MeanAveragePrecision,
        Metric::SlotAccuracy,
        Metric::Wer,
        Metric::Cer,
        Metric::Per,
        Metric::SentenceErrorRate,
        Metric::SlotTypeF1,
        Metric::SlotValueCer,
        Metric::Eer,
        Metric::MinDcf,
        Metric::SpeakerSimilarity,
        Metric::SpeakerAccuracy,
        Metric::Mcd,
        Metric::F0Rmse,
        Metric::VoicingError,
        Metric::GrossPitchError,
        Metric::DurationError,
        Metric::VarianceRatio,
        Metric::Loss,
    ];

    /// Name in running text.
    pub fn title(self) -> &'static str {
        match self {
            Metric::Accuracy => "accuracy",
            Metric::MacroF1 => "macro F1",
            Metric::WeightedF1 => "weighted F1",
            Metric::MicroF1 => "micro F1",
            Metric::UnweightedAverageRecall => "unweighted average recall",
            Metric::Matthews => "Matthews correlation",
            Metric::MeanAveragePrecision => "mAP",
            Metric::SlotAccuracy => "slot accuracy",
            Metric::Wer => "WER",
            Metric::Cer => "CER",
            Metric::Per => "PER",
            Metric::SentenceErrorRate => "sentence error rate",
            Metric::SlotTypeF1 => "slot type F1",
            Metric::SlotValueCer => "slot value CER",
            Metric::Eer => "EER",
            Metric::MinDcf => "minDCF",
            Metric::SpeakerSimilarity => "speaker similarity",
            Metric::SpeakerAccuracy => "speaker accuracy",
            Metric::Mcd => "MCD",
            Metric::F0Rmse => "F0 RMSE",
            Metric::VoicingError => "voicing error",
            Metric::GrossPitchError => "gross pitch error",
            Metric::DurationError => "duration error",
            Metric::VarianceRatio => "variance ratio",
            Metric::Loss => "loss",
        }
    }

    /// Name in files and settings: `slot_type_f1`.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Accuracy => "accuracy",
            Metric::MacroF1 => "macro_f1",
            Metric::WeightedF1 => "weighted_f1",
            Metric::MicroF1 => "micro_f1",
            Metric::UnweightedAverageRecall => "unweighted_average_recall",
            Metric::Matthews => "matthews",
            Metric::MeanAveragePrecision => "mean_average_precision",
            Metric::SlotAccuracy => "slot_accuracy",
            Metric::Wer => "wer",
            Metric::Cer => "cer",
            Metric::Per => "per",
            Metric::SentenceErrorRate => "sentence_error_rate",
            Metric::SlotTypeF1 => "slot_type_f1",
            Metric::SlotValueCer => "slot_value_cer",
            Metric::Eer => "eer",
            Metric::MinDcf => "min_dcf",
            Metric::SpeakerSimilarity => "speaker_similarity",
            Metric::SpeakerAccuracy => "speaker_accuracy",
            Metric::Mcd => "mcd",
            Metric::F0Rmse => "f0_rmse",
            Metric::VoicingError => "voicing_error",
            Metric::GrossPitchError => "gross_pitch_error",
            Metric::DurationError => "duration_error",
            Metric::VarianceRatio => "variance_ratio",
            Metric::Loss => "loss",
        }
    }

    /// Direction in which the metric improves.
    pub fn direction(self) -> Direction {
        match self {
            Metric::Wer
            | Metric::Cer
            | Metric::Per
            | Metric::SentenceErrorRate
            | Metric::SlotValueCer
            | Metric::Eer
            | Metric::MinDcf
            | Metric::Mcd
            | Metric::F0Rmse
            | Metric::VoicingError
            | Metric::GrossPitchError
            | Metric::DurationError
            | Metric::Loss => Direction::LowerIsBetter,
            _ => Direction::HigherIsBetter,
        }
    }

    /// True if a larger value is better.
    pub fn higher_is_better(self) -> bool {
        self.direction() == Direction::HigherIsBetter
    }

    /// Unit of a printed value: `%` for a ratio that people read in percent; empty for a number of its own.
    pub fn unit(self) -> &'static str {
        match self {
            Metric::Matthews | Metric::MinDcf | Metric::SpeakerSimilarity | Metric::VarianceRatio | Metric::Loss => "",
            Metric::Mcd => "dB",
            Metric::F0Rmse => "cents",
            _ => "%",
        }
    }

    /// True if the metric is a ratio that people read in percent.
    pub fn is_percent(self) -> bool {
        self.unit() == "%"
    }

    /// True if the value is the root of a ratio of sums.
    pub fn is_root(self) -> bool {
        self == Metric::F0Rmse
    }

    /// True if the denominator of an utterance depends on the references alone, not on the answer.
    pub(crate) fn has_given_whole(self) -> bool {
        !matches!(self, Metric::F0Rmse | Metric::GrossPitchError | Metric::VarianceRatio | Metric::Loss)
    }

    /// Factor of a printed value: 100 for percent.
    pub fn scale(self) -> f64 {
        if self.is_percent() { 100.0 } else { 1.0 }
    }

    /// Decimals of a scaled value in print.
    pub fn decimals(self) -> usize {
        match self {
            Metric::F0Rmse => 0,
            Metric::Mcd | Metric::VarianceRatio => 2,
            Metric::SpeakerSimilarity => 3,
            _ if self.is_percent() => 2,
            _ => 4,
        }
    }

    /// Prints a value as people read it: `93.33`, without the sign of percent; `–` when it is not a number.
    pub fn print(self, value: f64) -> String {
        if value.is_finite() { format!("{:.*}", self.decimals(), value * self.scale()) } else { "–".to_owned() }
    }

    /// Name with its unit: `accuracy (%)`, `MCD (dB)`, `loss`.
    pub fn title_with_unit(self) -> String {
        match self.unit() {
            "" => self.title().to_owned(),
            unit => format!("{} ({unit})", self.title()),
        }
    }

    /// True if `value` improves on `other`. Nothing improves on itself, and a value that is not a number improves on nothing.
    pub fn improves(self, value: f64, other: f64) -> bool {
        match self.direction() {
            Direction::HigherIsBetter => value > other,
            Direction::LowerIsBetter => value < other,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_loss_and_a_higher_accuracy_improve() {
        assert!(Metric::Loss.improves(0.1, 0.2) && !Metric::Loss.improves(0.2, 0.1));
        assert!(Metric::Wer.improves(0.1, 0.2) && !Metric::Eer.improves(0.2, 0.1));
        assert!(Metric::Accuracy.improves(0.2, 0.1) && !Metric::Accuracy.improves(0.1, 0.2));
        for metric in Metric::ALL {
            assert!(!metric.improves(0.5, 0.5) && !metric.improves(f64::NAN, 0.5));
        }
    }

    #[test]
    fn files_spell_every_metric_by_its_name() {
        for metric in Metric::ALL {
            assert_eq!(serde_json::to_string(&metric).unwrap(), format!("\"{}\"", metric.name()));
        }
        assert!(Metric::ALL.is_sorted(), "all of them, in the order of their definition");
    }

    #[test]
    fn ratios_are_printed_in_percent() {
        assert_eq!(Metric::Wer.print(0.0903), "9.03");
        assert_eq!(Metric::Loss.print(0.25), "0.2500");
        assert_eq!(Metric::Accuracy.print(f64::NAN), "–");
        assert_eq!(Metric::Wer.title_with_unit(), "WER (%)");
        assert_eq!(Metric::Mcd.print(3.274), "3.27");
        assert_eq!([Metric::Mcd, Metric::SpeakerSimilarity].map(Metric::title_with_unit), ["MCD (dB)", "speaker similarity"]);
    }
}
