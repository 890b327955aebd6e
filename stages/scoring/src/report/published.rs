//! Known results of the published benchmark (Li et al. 2023, arXiv:2303.03267), which used wav2vec 2.0 large.
//!
//! Its tables could not be had; these are the cells found elsewhere.

use crate::metric::Metric;

/// How sure a published value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certainty {
    /// Stated by the paper, as quoted by a third party's digest of its text.
    Paper,
    /// The test value in a log that the authors committed to their repository: probably the paper's run, not confirmed.
    Log,
}

impl Certainty {
    /// `P`, `L`
    pub fn mark(self) -> &'static str {
        match self {
            Certainty::Paper => "P",
            Certainty::Log => "L",
        }
    }
}

/// A published value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Published {
    /// The task.
    pub task: &'static str,
    /// The corpus.
    pub corpus: &'static str,
    /// The method.
    pub method: &'static str,
    /// Metric.
    pub metric: Metric,
    /// A ratio, not percent.
    pub value: f64,
    /// How sure it is.
    pub certainty: Certainty,
}

const fn cell(
    task: &'static str,
    corpus: &'static str,
    method: &'static str,
    metric: Metric,
    value: f64,
    certainty: Certainty,
) -> Published {
    Published { task, corpus, method, metric, value, certainty }
}

/// Every cell that is known. Where a log has several runs of one cell, that of the learning rate and width that the published
/// scripts name, or else the best.
pub const PUBLISHED: [Published; 18] = {
    use Certainty::{Log, Paper};
    use Metric::{Accuracy, Per, SlotTypeF1, SlotValueCer, WeightedF1, Wer};
    [
        cell("emotion", "esd", "finetune", Accuracy, 0.9653, Paper),
        cell("emotion", "esd", "convadapter", Accuracy, 0.9187, Log),
        cell("emotion", "meld", "convadapter", WeightedF1, 0.4629, Log),
        cell("speaker", "esd", "convadapter", Accuracy, 0.9960, Log),
        cell("speaker", "vctk", "convadapter", Accuracy, 0.9761, Log),
        cell("speech_recognition", "fleurs", "bottleneck", Wer, 0.2179, Log),
        cell("speech_recognition", "fleurs", "lora", Wer, 0.1653, Log),
        cell("speech_recognition", "librispeech", "finetune", Wer, 0.0903, Paper),
        cell("speech_recognition", "librispeech", "prefix", Wer, 0.1022, Log),
        cell("speech_recognition", "librispeech", "lora", Wer, 0.1014, Log),
        cell("phoneme_recognition", "librispeech", "bottleneck", Per, 0.1356, Log),
        cell("intent", "fluent_speech_commands", "convadapter", Accuracy, 0.9560, Log),
        cell("slot_filling", "audio_snips", "finetune", SlotTypeF1, 0.9389, Log),
        cell("slot_filling", "audio_snips", "finetune", SlotValueCer, 0.1411, Log),
        cell("slot_filling", "audio_snips", "prefix", SlotTypeF1, 0.6232, Log),
        cell("slot_filling", "audio_snips", "prefix", SlotValueCer, 0.6041, Log),
        cell("keyword_spotting", "speech_commands", "finetune", Accuracy, 0.9908, Paper),
        cell("keyword_spotting", "speech_commands", "convadapter", Accuracy, 0.9899, Log),
    ]
};

/// The value of a cell.
pub(super) fn find(task: &str, corpus: &str, method: &str, metric: Metric) -> Option<(f64, Certainty)> {
    let cell = PUBLISHED.iter().find(|cell| (cell.task, cell.corpus, cell.method, cell.metric) == (task, corpus, method, metric));
    cell.map(|cell| (cell.value, cell.certainty))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_found_by_task_corpus_method_and_metric() {
        assert_eq!(find("emotion", "esd", "finetune", Metric::Accuracy), Some((0.9653, Certainty::Paper)));
        assert_eq!(find("emotion", "esd", "finetune", Metric::WeightedF1), None);
        assert_eq!(find("emotion", "meld", "finetune", Metric::WeightedF1), None);
    }

    #[test]
    fn no_cell_stands_twice_and_all_are_ratios() {
        for (at, a) in PUBLISHED.iter().enumerate() {
            assert!(a.value > 0.0 && a.value < 1.0, "{a:?}");
            let same = |b: &&Published| (a.task, a.corpus, a.method, a.metric) == (b.task, b.corpus, b.method, b.metric);
            assert!(!PUBLISHED[at + 1..].iter().any(|b| same(&b)), "{a:?}");
        }
    }
}
