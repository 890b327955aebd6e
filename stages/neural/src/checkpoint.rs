//! Checkpoint folders in the Hugging Face layout: `config.json`, `preprocessor_config.json` and the weights.
//!
//! Reads `model.safetensors`, a sharded list of such files, and `pytorch_model.bin`; writes the first.

pub mod base;
pub mod config;
pub mod error;
mod fields;
pub(crate) mod files;
pub(crate) mod json;
pub mod pickle;
pub mod preprocessor;
pub mod safetensors;
pub(crate) mod tokenizer;
pub mod weights;

pub use self::config::frames::FrameInput;
pub use self::config::{EncoderConfig, FeatureNorm, ModelType};
pub use self::error::CheckpointError;
pub use self::preprocessor::Preprocessor;
pub use crate::nn::activation::Activation;
pub use crate::nn::weights::Weights;
