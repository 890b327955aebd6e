//! The stage `score.task`: scores whatever a task of the benchmark predicts, so that one workflow can hold all tasks.

use pipeline::{Job, Slot, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ScoreClassification, ScoreIntent, ScoreSlots, ScoreText, ScoreVerification};
use super::{run_classification, run_intent, run_slots, run_text, run_verification};
use crate::metric::Metric;
use crate::significance::Resampling;
use crate::text::Unit;

/// Scores predictions as the benchmark scores the task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreTask {
    /// The task.
    pub task: BenchmarkTask,
    /// What methods are compared by where a task has one class per utterance. Default `accuracy`; the benchmark takes
    /// `weighted_f1` for MELD.
    #[serde(default = "accuracy")]
    pub metric: Metric,
    /// The confidence intervals.
    #[serde(default)]
    pub interval: Resampling,
    /// The corpus, for a table where the matrix does not name it.
    #[serde(default)]
    pub corpus: Option<String>,
}

/// A task of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BenchmarkTask {
    /// One class: accuracy and F1.
    Emotion,
    /// One class: accuracy and F1.
    Speaker,
    /// Trials: equal error rate.
    SpeakerVerification,
    /// One class: accuracy and F1.
    KeywordSpotting,
    /// Three classes: all of them right.
    Intent,
    /// Marked text: F1 of the types, character error rate of the values.
    SlotFilling,
    /// Text: word and character error rate.
    SpeechRecognition,
    /// Phonemes: phone error rate.
    PhonemeRecognition,
}

fn accuracy() -> Metric {
    Metric::Accuracy
}

impl BenchmarkTask {
    fn name(self) -> &'static str {
        match self {
            Self::Emotion => "emotion",
            Self::Speaker => "speaker",
            Self::SpeakerVerification => "speaker_verification",
            Self::KeywordSpotting => "keyword_spotting",
            Self::Intent => "intent",
            Self::SlotFilling => "slot_filling",
            Self::SpeechRecognition => "speech_recognition",
            Self::PhonemeRecognition => "phoneme_recognition",
        }
    }
}

impl Stage for ScoreTask {
    const KIND: &'static str = "score.task";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "scores predictions as the benchmark scores the task";

    fn slots() -> Vec<Slot> {
        let mut slots = super::slots("an evaluation, or its predictions.parquet");
        slots.insert(1, Slot::one("labels", "labels.json: the classes in order, for tasks of one class"));
        slots
    }

    fn check(&self) -> Vec<(&'static str, String)> {
        self.classification().check()
    }
}

impl ScoreTask {
    fn classification(&self) -> ScoreClassification {
        let (task, corpus) = self.named();
        ScoreClassification { metric: self.metric, interval: self.interval, task, corpus }
    }

    fn named(&self) -> (Option<String>, Option<String>) {
        (Some(self.task.name().to_owned()), self.corpus.clone())
    }
}

/// Does what the stage for the task's kind of predictions does.
///
/// Errors: as that stage.
pub fn run(params: &ScoreTask, job: &Job) -> Result<(), StageError> {
    let ((task, corpus), interval) = (params.named(), params.interval);
    match params.task {
        BenchmarkTask::Emotion | BenchmarkTask::Speaker | BenchmarkTask::KeywordSpotting => {
            run_classification(&params.classification(), job)
        }
        BenchmarkTask::SpeakerVerification => run_verification(&ScoreVerification { interval, task, corpus }, job),
        BenchmarkTask::Intent => run_intent(&ScoreIntent { interval, task, corpus }, job),
        BenchmarkTask::SlotFilling => run_slots(&ScoreSlots { interval, task, corpus }, job),
        BenchmarkTask::SpeechRecognition => run_text(&ScoreText { unit: Unit::Word, interval, task, corpus }, job),
        BenchmarkTask::PhonemeRecognition => run_text(&ScoreText { unit: Unit::Phone, interval, task, corpus }, job),
    }
}
