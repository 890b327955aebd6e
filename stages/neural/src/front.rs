//! The convolutions of an encoder alone: what they make of an utterance, stored once in the place of its audio. Of an encoder over feature
//! frames, the frames themselves.

use std::fmt::Write;
use std::path::Path;

use audio::features::shard::convert;
use audio::features::{FeatureInfo, Format};
use neural_spec::FeatureFormat;
use pipeline::{Job, Stage, StageError};
use tch::{Device, TchError, Tensor};

use crate::checkpoint::config::EncoderConfig;
use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::preprocessor::Preprocessor;
use crate::checkpoint::weights;
use crate::device;
use crate::error::ModelError;
use crate::models::Model;
use crate::models::encoder::convolutions::{CONVOLUTIONS, convolutions};
use crate::nn::pass::{Mode, Pass};
use crate::nn::waveform::ConvStack;
use crate::nn::weights::Weights;

/// Features that a model cannot take in the place of audio.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrontError {
    /// They are not the output of an encoder's convolutions.
    #[error("an encoder reads audio or the output of its own convolutions (`features.front`), not `{found}`")]
    Kind {
        /// The stage that made them.
        found: String,
    },
    /// They come from other convolutions, or from audio that was prepared otherwise.
    #[error("the features come from convolutions with digest {found}, this encoder's have {expected}")]
    OtherEncoder {
        /// This encoder's.
        expected: String,
        /// The one that made them.
        found: String,
    },
    /// Training would change what made them.
    #[error("the method trains `{tensor}`, so what the convolutions made of the audio cannot be stored beforehand")]
    Trained {
        /// The first tensor of the convolutions that is trained.
        tensor: String,
    },
}

/// The convolutions of an encoder, frozen.
#[derive(Debug)]
pub struct Front {
    config: EncoderConfig,
    preprocessor: Preprocessor,
    /// None where the encoder reads feature frames: those are stored.
    conv: Option<ConvStack>,
    identity: String,
    device: Device,
}

impl Front {
    /// Reads them from a checkpoint folder; nothing else of it is read.
    pub fn read(folder: &Path, device: Device) -> Result<Self, CheckpointError> {
        let config = EncoderConfig::read(folder)?;
        let preprocessor = Preprocessor::read(folder, &config)?;
        let weights = match config.frames {
            None => weights::read_part(folder, &config, device, |name| name.starts_with(CONVOLUTIONS))?,
            Some(_) => Weights::new(),
        };
        let identity = identity(&config, &preprocessor, &weights).map_err(CheckpointError::torch(folder))?;
        let conv = config.frames.is_none().then(|| convolutions(&config, &weights));
        Ok(Self { config, preprocessor, conv, identity, device })
    }

    /// Digest of all that their output depends on.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Numbers of one frame.
    pub fn width(&self) -> usize {
        if let Some(width) = self.preprocessor.width() {
            return width;
        }
        self.config.conv_dim.last().map_or(0, |&width| width as usize)
    }

    /// The frames of one utterance, one after the other: of encoders over feature frames, those that they read. One shorter than a frame needs is padded to one.
    pub fn features(&self, samples: &[f32]) -> Result<Vec<f32>, TchError> {
        let mut samples = samples.to_vec();
        self.preprocessor.prepare(&mut samples);
        let Some(conv) = &self.conv else {
            return Ok(self.preprocessor.frames.map(|frames| frames.compute(&samples)).unwrap_or_default());
        };
        let least = self.config.receptive_field() as usize;
        samples.resize(samples.len().max(least), 0.0);
        let audio = Tensor::f_from_slice(&samples)?.f_unsqueeze(0)?.f_to_device(self.device)?;
        let frames = tch::no_grad(|| conv.forward(&audio, &Pass::begin(Mode::Eval)))?; // (1, T, C)
        Vec::try_from(frames.f_to_device(Device::Cpu)?.f_flatten(0, -1)?)
    }
}

/// BLAKE3 of what the output of the convolutions depends on: their tensors, their shape, and how the audio is prepared.
fn identity(config: &EncoderConfig, preprocessor: &Preprocessor, weights: &Weights) -> Result<String, TchError> {
    let shape = (&config.conv_kernel, &config.conv_stride, config.feat_extract_norm, config.feat_extract_activation);
    let mut text = format!("{}\n{shape:?}\n{}", weights::digest(weights)?, preprocessor.do_normalize);
    if let Some(frames) = &preprocessor.frames {
        let _ = write!(text, "\n{:?}\n{}", config.model_type, frames.width());
    }
    Ok(blake3::hash(text.as_bytes()).to_hex().to_string())
}

/// Checks that a model can be trained and tested on shards with these features; it always can on shards of audio.
///
/// Errors: [`FrontError`].
pub fn require(model: &Model, features: Option<&FeatureInfo>) -> Result<(), StageError> {
    let Some(info) = features else { return Ok(()) };
    if info.kind != neural_spec::Front::KIND {
        return Err(StageError::failed(FrontError::Kind { found: info.kind.clone() }));
    }
    let prefix = format!("{}{CONVOLUTIONS}", model.config().model_type.prefix());
    let tensors: Weights = model
        .tensors()
        .into_iter()
        .filter(|(name, _)| name.starts_with(&prefix))
        .map(|(name, tensor)| (name[prefix.len() - CONVOLUTIONS.len()..].to_owned(), tensor))
        .collect();
    if let Some((tensor, _)) = tensors.iter().find(|(_, tensor)| tensor.requires_grad()) {
        let error = StageError::failed(FrontError::Trained { tensor: tensor.clone() });
        return Err(error.with_hint("read shards of audio, or leave the convolutions frozen (`scope`)"));
    }
    let expected = identity(model.config(), model.preprocessor(), &tensors).map_err(ModelError::from)?;
    let found = info.maker.clone().unwrap_or_default();
    if expected == found { Ok(()) } else { Err(StageError::failed(FrontError::OtherEncoder { expected, found })) }
}

/// The body of the stage `features.front`.
///
/// Errors: a checkpoint or shards that cannot be read, what libtorch reports.
pub fn run(params: &neural_spec::Front, job: &Job) -> Result<(), StageError> {
    device::use_threads(job.threads);
    let front = Front::read(job.inputs.one("encoder"), device::of_job(job)).map_err(StageError::failed)?;
    let format = match params.format {
        FeatureFormat::F32 => Format::F32,
        FeatureFormat::Bf16 => Format::Bf16,
    };
    let mut info = FeatureInfo::new(neural_spec::Front::KIND, front.width(), format);
    info.maker = Some(front.identity().to_owned());
    let rate = front.preprocessor.sampling_rate;
    convert(job.inputs.one("shards"), rate, &info, job, &mut |_, samples| {
        front.features(samples).map_err(|error| ModelError::from(error).into())
    })
}
