//! Encoders with random weights, written as checkpoint folders.

use std::path::Path;

use neural_spec::RandomEncoder;
use pipeline::{Job, StageError};
use tch::{Device, Kind, Tensor};

use crate::checkpoint::config::{EncoderConfig, FeatureNorm};
use crate::checkpoint::files::WEIGHTS;
use crate::checkpoint::preprocessor::Preprocessor;
use crate::checkpoint::weights::{Parameter, Start};
use crate::checkpoint::{safetensors, weights};
use crate::error::ModelError;
use crate::nn::weights::Weights;

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

/// Writes an encoder of any configuration with random weights drawn by libtorch: for measurements, where a large one should
/// not take minutes. Its bytes depend on the version of libtorch.
pub fn write_quickly(config: &EncoderConfig, seed: i64, folder: &Path) -> Result<(), ModelError> {
    tch::manual_seed(seed);
    let device = (Kind::Float, Device::Cpu);
    let mut tensors = Weights::new();
    for Parameter { name, shape, start } in weights::parameters(config) {
        let tensor = match start {
            Start::Zeros => Tensor::f_zeros(&shape, device)?,
            Start::Ones | Start::DirectionNorm => Tensor::f_ones(&shape, device)?,
            Start::Normal { std } => Tensor::f_randn(&shape, device)?.f_mul_scalar(std)?,
            Start::Uniform { low, high } => Tensor::f_rand(&shape, device)?.f_mul_scalar(high - low)?.f_add_scalar(low)?,
        };
        tensors.insert(name, tensor);
    }
    config.write(folder)?;
    Preprocessor::usual(config.feat_extract_norm == FeatureNorm::Layer).write(folder)?;
    Ok(safetensors::write(&folder.join(WEIGHTS), &tensors)?)
}
