//! Predictions of a trained model.

use pipeline::{Claims, CpuClaim, GpuClaim, Slot, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Mistakes, environment, require_positive};

/// Predicts the class of every utterance of a test set with a trained model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Evaluate {
    /// Most seconds of audio in a batch, padding counted. Sums are rounded differently in batches of another shape, so it
    /// can move the last digits of a score.
    pub batch_secs: f64,
}

impl Stage for Evaluate {
    const KIND: &'static str = "peft.evaluate";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Predicts the class of every utterance of a test set";

    fn slots() -> Vec<Slot> {
        vec![
            Slot::many("test", "shards of labelled utterances (test.parquet)"),
            Slot::one("model", "what `peft.train` left"),
            Slot::one("encoder", "the encoder it was trained on"),
            Slot::one("labels", "the classes in order (labels.json)"),
        ]
    }
    fn check(&self) -> Mistakes {
        let mut mistakes = Vec::new();
        require_positive(&mut mistakes, "batch_secs", self.batch_secs);
        mistakes
    }
    fn environment(&self) -> Vec<(&'static str, String)> {
        environment()
    }
    fn claims(&self) -> Claims {
        Claims { cpu: CpuClaim::All, gpu: GpuClaim::Prefer, ..Claims::default() }
    }
}
