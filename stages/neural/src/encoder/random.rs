//! Encoders with random weights, written as checkpoint folders.

use std::path::Path;

use neural_spec::RandomEncoder;
use pipeline::{Job, StageError};

use crate::checkpoint::{EncoderConfig, Preprocessor, WEIGHTS, safetensors, weights};
use crate::model::ModelError;

/// The body of the stage `encoder.random`.
pub fn run(params: &RandomEncoder, job: &Job) -> Result<(), StageError> {
    write(params, &job.out).map_err(StageError::failed)
}

/// Writes a seeded random encoder into `folder`: `config.json`, `preprocessor_config.json`, `model.safetensors`.
///
/// The same shape and seed give the same bytes on every machine.
pub fn write(params: &RandomEncoder, folder: &Path) -> Result<(), ModelError> {
    let config = EncoderConfig::of_shape(&params.shape);
    config.write(folder)?;
    // There is no published habit to follow, and padding that is known to be padding is the better one.
    Preprocessor::usual(true).write(folder)?;
    safetensors::write(&folder.join(WEIGHTS), &weights::random(&config, params.seed)?)?;
    Ok(())
}
