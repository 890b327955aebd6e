//! Predictions of a trained model.

use pipeline::{Demand, Slot, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::train::prefer_gpu;
use crate::{Mistakes, environment, require, require_positive};

/// Answers every utterance of a test set with a trained model: classes, texts, or how alike voices are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Evaluate {
    /// Most seconds of audio in a batch, padding counted. Sums are rounded differently in batches of another shape, so it
    /// can move the last digits of a score.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub batch_secs: f64,
    /// CPU threads; 0 for the whole pool. Default 0.
    #[serde(default)]
    pub threads: u32,
    /// How tokens are found in a recogniser's scores. Default greedy, as in the benchmark.
    #[serde(default)]
    pub decoding: Decoding,
    /// For x-vectors: how many pairs of test utterances are compared, half of them of one speaker, instead of naming speakers.
    /// All of them when there are fewer. Default 0: speakers are named.
    #[serde(default)]
    pub trials: u32,
}

/// How tokens are found in a recogniser's scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum Decoding {
    /// The best token of each frame; runs become one, blanks go.
    Greedy {},
    /// The best token of each frame, runs left as they are: how the benchmark's reference code scores phonemes.
    Uncollapsed {},
    /// The most likely text, with a language model of words where one is given.
    Beam {
        /// Texts that are followed at once.
        width: u32,
        /// Weight of the language model.
        #[schemars(range(min = 0.0))]
        lm_weight: f64,
        /// Added to the score for each word.
        word_bonus: f64,
    },
}

impl Decoding {
    /// Notes mistakes in its numbers.
    pub(crate) fn check(&self, mistakes: &mut Mistakes) {
        if let Self::Beam { width, lm_weight, word_bonus } = *self {
            require_positive(mistakes, "decoding.width", width.into());
            require(mistakes, lm_weight.is_finite() && lm_weight >= 0.0, "decoding.lm_weight", "at least 0", lm_weight);
            require(mistakes, word_bonus.is_finite(), "decoding.word_bonus", "a number", word_bonus);
        }
    }
}

impl Default for Decoding {
    fn default() -> Self {
        Self::Greedy {}
    }
}

impl Stage for Evaluate {
    const KIND: &'static str = "peft.evaluate";
    const VERSION: u32 = 5;
    const ABOUT: &'static str = "Answers every utterance of a test set: classes, texts, or how alike voices are";

    fn slots() -> Vec<Slot> {
        vec![
            Slot::many("test", "shards of utterances (test.parquet)"),
            Slot::one("targets", "what they should be answered with (test.parquet of `task.targets`)"),
            Slot::one("task", "what the task is (task.json of `task.targets`)"),
            Slot::optional("model", "what `peft.train` left; without it the head is that of the encoder's checkpoint"),
            Slot::one("encoder", "the encoder it was trained on"),
            Slot::optional("language_model", "a model of words in the ARPA format, for decoding by beam search"),
        ]
    }
    fn check(&self) -> Mistakes {
        let mut mistakes = Vec::new();
        require_positive(&mut mistakes, "batch_secs", self.batch_secs);
        self.decoding.check(&mut mistakes);
        mistakes
    }
    fn outputs(&self) -> Vec<String> {
        ["predictions.parquet"].map(str::to_owned).to_vec()
    }
    fn environment(&self) -> Vec<(&'static str, String)> {
        environment()
    }
    fn demand(&self) -> Demand {
        prefer_gpu(self.threads)
    }
}
