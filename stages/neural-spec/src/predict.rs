//! Answers of a trained model to recordings without references. Only `sure predict` asks for them: they are no part of a workflow.

use pipeline::{CpuDemand, Demand, GpuDemand, Slot, Stage, Tool};
use schemars::JsonSchema;
use scoring::answers::AnswerFormat;
use serde::{Deserialize, Serialize};

use crate::{Decoding, Mistakes, environment, require_positive};

/// Answers recordings: classes with probabilities, texts, slots, or how alike voices are.
///
/// Everything it reads is named by places: `model` (what a training left, an adapter, or a checkpoint with a head), `encoder` for an
/// adapter, `list` (recordings, see `audio::stream`), and where there are some `task`, `language_model` and `similar_to` (a list).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Predict {
    /// Most seconds of audio in a batch, padding counted.
    pub batch_secs: f64,
    /// Longest recording, in seconds.
    pub max_secs: f64,
    /// Format of the file of answers.
    pub format: AnswerFormat,
    /// How tokens are found in a recogniser's scores. Absent: as training scored its dev set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoding: Option<Decoding>,
}

/// Program that decodes what nothing here decodes.
pub const FFMPEG: &str = "ffmpeg";

impl Predict {
    /// File of the answers, in the folder of the output.
    pub fn file_name(&self) -> String {
        format!("answers.{}", self.format.extension())
    }
}

impl Stage for Predict {
    const KIND: &'static str = "peft.predict";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Answers recordings without references";

    fn slots() -> Vec<Slot> {
        Vec::new()
    }
    fn tools() -> Vec<Tool> {
        vec![Tool { name: FFMPEG, version_argument: "-version" }]
    }
    fn check(&self) -> Mistakes {
        let mut mistakes = Vec::new();
        require_positive(&mut mistakes, "batch_secs", self.batch_secs);
        require_positive(&mut mistakes, "max_secs", self.max_secs);
        if let Some(decoding) = &self.decoding {
            decoding.check(&mut mistakes);
        }
        mistakes
    }
    fn outputs(&self) -> Vec<String> {
        vec![self.file_name()]
    }
    fn environment(&self) -> Vec<(&'static str, String)> {
        environment()
    }
    fn demand(&self) -> Demand {
        Demand { cpu: CpuDemand::All, gpu: GpuDemand::Prefer, ..Demand::default() }
    }
}
