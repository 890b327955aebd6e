//! Output of an encoder's frozen convolutions for every utterance.
//!
//! In a workflow it stands between shards and training, part by part:
//!
//! ```toml
//! [stages.front]
//! run = "features.front"
//! each = "manifest"
//! inputs.shards = "shards"
//! inputs.encoder = "published"
//! format = "bf16"
//!
//! [stages.train]
//! inputs.train = "front/train.parquet"      # in the place of "shards/train.parquet"
//! ```

use pipeline::{CpuDemand, Demand, GpuDemand, Slot, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::environment;

/// Runs the convolutions of an encoder over every utterance of a shard. Training and evaluation take the result in the place of
/// the audio, when the method leaves the convolutions frozen: everything else (masks, dropout, adapters) comes after them.
///
/// Each utterance is computed alone, without padding. Encoders of the large style see no difference; those of the base style
/// normalise over time, and so see here what they see in inference, not what a padded batch would show them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Front {
    /// How a number is stored.
    pub format: FeatureFormat,
}

/// How a number of a feature is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FeatureFormat {
    /// 32 bits: exact.
    F32,
    /// bfloat16: half the disk, three significant digits.
    Bf16,
}

impl Stage for Front {
    const KIND: &'static str = "features.front";
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "Runs an encoder's frozen convolutions over every utterance, once";

    fn slots() -> Vec<Slot> {
        vec![
            Slot::one("shards", "what an audio.shards node left: train.parquet, dev.parquet and test.parquet"),
            Slot::one("encoder", "a Hugging Face checkpoint folder"),
        ]
    }
    fn outputs(&self) -> Vec<String> {
        ["train.parquet", "dev.parquet", "test.parquet"].map(str::to_owned).to_vec()
    }
    fn environment(&self) -> Vec<(&'static str, String)> {
        environment()
    }
    fn demand(&self) -> Demand {
        Demand { cpu: CpuDemand::All, gpu: GpuDemand::Prefer, ..Demand::default() }
    }
}
