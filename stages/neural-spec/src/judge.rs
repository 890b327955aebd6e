//! Judges of synthesised speech: networks that are trained on recordings alone, and what they say of synthesised clips.

use pipeline::{Demand, Slot, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::train::threads;
use crate::{Mistakes, environment, require, require_positive};

/// Trains a judge of synthesised speech on mel spectrograms of recordings: a recogniser or a network that tells speakers apart.
///
/// Both are small and learn in a minute or two from half an hour of speech. What a judge must not care about is varied in training:
/// level, tilt, a floor of noise, roughness and smear of the spectrum, missing bands and frames. The point that is best on the dev set
/// is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JudgeTrain {
    /// Kind of judgement: `words` or `voice`.
    pub judge: JudgeKind,
    /// Width of its layers. Default 128.
    #[serde(default = "hidden")]
    #[schemars(range(min = 1))]
    pub hidden: u32,
    /// Numbers of a speaker's vector. Default 64.
    #[serde(default = "vector_size")]
    #[schemars(range(min = 1))]
    pub vector_size: u32,
    /// Passes over the recordings.
    #[schemars(range(min = 1))]
    pub epochs: u32,
    /// Utterances of a step.
    #[schemars(range(min = 1))]
    pub batch_size: u32,
    /// Learning rate of AdamW after 100 steps, or a tenth of them; from the middle of the training it falls to 0.
    pub learning_rate: f64,
    /// Weight decay; biases are exempt. Default 0.01.
    #[serde(default = "weight_decay")]
    pub weight_decay: f64,
    /// True if spectrograms are varied in training. Default true.
    #[serde(default = "yes")]
    pub vary: bool,
    /// CPU threads; 0 for the whole pool. Default 0.
    #[serde(default)]
    pub threads: u32,
    /// Seed of the parameters, the order, dropout and variations.
    pub seed: u64,
}

/// See [`JudgeTrain::judge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JudgeKind {
    /// A recogniser: two convolutions, two bidirectional recurrent layers, letters by connectionist temporal classification.
    Words,
    /// A network for speakers: three dilated convolutions, mean and deviation over time, a vector; cosines between vectors.
    Voice,
}

/// Judges synthesised speech: the words that a recogniser hears, likeness of the voice, and the distance from recordings of the same
/// texts. Recordings and speech are feature shards with pitch; an utterance is compared with the recording of the same id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TtsEvaluate {
    /// Speakers whose speech is judged. Default: all of the speech.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub speakers: Vec<String>,
    /// True if each utterance is compared with a recording. False for texts that were never recorded. Default true.
    #[serde(default = "yes")]
    pub distances: bool,
    /// CPU threads; 0 for the whole pool. Default 0.
    #[serde(default)]
    pub threads: u32,
}

fn hidden() -> u32 {
    128
}
fn vector_size() -> u32 {
    64
}
fn weight_decay() -> f64 {
    0.01
}
fn yes() -> bool {
    true
}

impl Stage for JudgeTrain {
    const KIND: &'static str = "judge.train";
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "Trains a judge of synthesised speech on recordings: a recogniser or a network for speakers";

    fn slots() -> Vec<Slot> {
        vec![Slot::one("features", "a features.log_mel node of recordings, with energy: train.parquet and dev.parquet")]
    }
    fn check(&self) -> Mistakes {
        let mut mistakes = Vec::new();
        for (name, value) in [
            ("hidden", self.hidden.into()),
            ("vector_size", self.vector_size.into()),
            ("epochs", self.epochs.into()),
            ("batch_size", self.batch_size.into()),
            ("learning_rate", self.learning_rate),
        ] {
            require_positive(&mut mistakes, name, value);
        }
        let decay = self.weight_decay;
        require(&mut mistakes, decay.is_finite() && decay >= 0.0, "weight_decay", "at least 0", decay);
        mistakes
    }
    fn outputs(&self) -> Vec<String> {
        ["judge.json", "model.safetensors", "training.json", "events"].map(str::to_owned).to_vec()
    }
    fn environment(&self) -> Vec<(&'static str, String)> {
        environment()
    }
    fn demand(&self) -> Demand {
        // So small that a GPU would not help; the same device gives the same bytes.
        Demand { cpu: threads(self.threads), ..Demand::default() }
    }
}

impl Stage for TtsEvaluate {
    const KIND: &'static str = "tts.evaluate";
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "Judges synthesised speech: words, voice, and distance from recordings of the same texts";

    fn slots() -> Vec<Slot> {
        vec![
            Slot::one(
                "reference",
                "recordings: test.parquet of a features.pitch node, with all speakers among whom the voice is to be told",
            ),
            Slot::one("speech", "what is judged: test.parquet of a features.pitch node of synthesised clips, or of recordings"),
            Slot::one("words", "a judge.train node for words"),
            Slot::one("voice", "a judge.train node for voices"),
        ]
    }
    fn outputs(&self) -> Vec<String> {
        ["predictions.parquet"].map(str::to_owned).to_vec()
    }
    fn environment(&self) -> Vec<(&'static str, String)> {
        environment()
    }
    fn demand(&self) -> Demand {
        // So small that a GPU would not help; the same device gives the same bytes.
        Demand { cpu: threads(self.threads), ..Demand::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_without_sense_are_named() {
        let text = r#"{"judge":"words","epochs":0,"batch_size":24,"learning_rate":-1,"weight_decay":-1,"seed":1}"#;
        let stage: JudgeTrain = serde_json::from_str(text).unwrap();
        assert_eq!((stage.hidden, stage.vector_size, stage.vary), (128, 64, true));
        let names: Vec<_> = stage.check().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["epochs", "learning_rate", "weight_decay"]);
    }
}
