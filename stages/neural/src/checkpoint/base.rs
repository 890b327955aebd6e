//! Identity of an encoder: enough to know it again.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::config::EncoderConfig;
use super::error::CheckpointError;
use super::weights;

/// Identity of an encoder: digest of its weights, and its shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// BLAKE3 of its tensors.
    pub digest: String,
    /// As in its configuration.
    pub model_type: String,
    /// As in its configuration.
    pub hidden_size: i64,
    /// As in its configuration.
    pub num_hidden_layers: usize,
    /// As in its configuration.
    pub intermediate_size: i64,
}

impl std::fmt::Display for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Self { digest, model_type, hidden_size, num_hidden_layers, intermediate_size } = self;
        let short = &digest[..digest.len().min(12)];
        write!(f, "{model_type} with {num_hidden_layers} layers of {hidden_size} and {intermediate_size} (digest {short}…)")
    }
}

impl Base {
    /// The encoder of this configuration, whose tensors have this digest.
    pub fn new(config: &EncoderConfig, digest: String) -> Self {
        let model_type = serde_json::to_value(config.model_type).ok();
        Self {
            digest,
            model_type: model_type.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default(),
            hidden_size: config.hidden_size,
            num_hidden_layers: config.num_hidden_layers,
            intermediate_size: config.intermediate_size,
        }
    }

    /// The encoder in a checkpoint folder.
    ///
    /// Errors: one that cannot be read.
    pub fn read(folder: &Path) -> Result<Self, CheckpointError> {
        let config = EncoderConfig::read(folder)?;
        let tensors = weights::read(folder, &config, tch::Device::Cpu)?;
        let digest = weights::digest(&tensors).map_err(CheckpointError::torch(folder))?;
        Ok(Self::new(&config, digest))
    }
}
