//! Vocoders behind one interface, and their files.
//!
//! ```text
//! config.json         format, kind, spectrogram, and the sizes of the kind
//! model.safetensors   its tensors
//! ```
//!
//! A folder with the files of a published one, see [`PublishedVocoder`], serves as well.

use std::path::{Path, PathBuf};

use audio::features::griffin_lim::GriffinLim;
use audio::features::mel::{self, MelSpectrogram};
use neural_spec::PublishedVocoder;
use neural_spec::published::PublishedError;
use pipeline::StageError;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::{Device, TchError, Tensor};

use crate::checkpoint::json::read_json;
use crate::checkpoint::{pickle, safetensors};
use crate::error::ModelError;
use crate::models::istft::Istft;
use crate::models::vocoder::{Hifigan, HifiganConfig, VocoderError};
use crate::nn::weights::Weights;

/// Description of a vocoder.
pub const FILE_NAME: &str = "config.json";
/// Tensors of a vocoder.
pub const WEIGHTS: &str = "model.safetensors";
/// Format of the files.
pub const FORMAT: u32 = 1;
/// Momentum of Griffin-Lim.
const MOMENTUM: f64 = 0.99;

/// Turns spectrograms into samples.
pub trait Vocoder: Send {
    /// Name in tables and messages.
    fn name(&self) -> &'static str;

    /// Frames of a log mel spectrogram -> samples in [-1, 1].
    ///
    /// Errors: libtorch's.
    fn speak(&mut self, mel: &[Vec<f64>]) -> Result<Vec<f32>, TchError>;
}

/// A vocoder that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenVocoderError {
    /// A folder without one.
    #[error("`{folder}` holds no vocoder: expected `{FILE_NAME}` and `{WEIGHTS}` in it")]
    Absent {
        /// The folder.
        folder: PathBuf,
    },
    /// Files of another format or kind.
    #[error("the vocoder in `{folder}` cannot be used: {problem}")]
    Unknown {
        /// The folder.
        folder: PathBuf,
        /// Problem that was found.
        problem: String,
    },
    /// It was made for other spectrograms.
    #[error("the vocoder in `{folder}` is for other spectrograms: {difference}")]
    OtherSpectrogram {
        /// The folder.
        folder: PathBuf,
        /// How they differ.
        difference: String,
    },
    /// Published files that are no vocoder, or one of other spectrograms.
    #[error(transparent)]
    Published(#[from] PublishedError),
    /// Files that cannot be read.
    #[error(transparent)]
    File(#[from] ModelError),
    /// Tensors that do not fit.
    #[error(transparent)]
    Build(#[from] VocoderError),
}

impl From<OpenVocoderError> for StageError {
    fn from(error: OpenVocoderError) -> Self {
        let hint = match &error {
            OpenVocoderError::Absent { .. } => "give a `vocoder.train` node, or a folder with the files of a published HiFi-GAN",
            OpenVocoderError::OtherSpectrogram { .. } => "give a vocoder that was trained on the spectrograms of the voice",
            OpenVocoderError::Published(error) => error.hint(),
            OpenVocoderError::Build(_) => "take config and weights of one and the same vocoder",
            OpenVocoderError::Unknown { .. } | OpenVocoderError::File(_) => return Self::failed(error),
        };
        Self::failed(error).with_hint(hint)
    }
}

/// Fields of `config.json` that all kinds have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VocoderHead {
    /// Format of the files.
    pub format: u32,
    /// Kind: `hifigan` or `istft`.
    pub kind: String,
    /// Spectrogram that it takes.
    pub mel: MelSpectrogram,
}

/// Opens a vocoder for spectrograms; without a folder, Griffin-Lim of so many iterations.
///
/// Errors: [`OpenVocoderError`]
pub fn open(
    folder: Option<&Path>,
    iterations: usize,
    mel: &MelSpectrogram,
    device: Device,
) -> Result<Box<dyn Vocoder>, OpenVocoderError> {
    let Some(folder) = folder else {
        return Ok(Box::new(GriffinLimVocoder { inner: GriffinLim::new(mel), iterations }));
    };
    if PublishedVocoder::are_in(folder) {
        let files = PublishedVocoder::open(folder)?;
        files.check(mel)?;
        let config = serde_json::from_value(files.network)
            .map_err(|error| OpenVocoderError::Unknown { folder: folder.to_owned(), problem: format!("its sizes: {error}") })?;
        let is_safetensors = files.weights.extension().is_some_and(|end| end == "safetensors");
        let tensors =
            if is_safetensors { safetensors::read(&files.weights, |_| true) } else { pickle::read(&files.weights, |_| true) };
        return hifigan(&config, tensors.map_err(ModelError::from)?, device);
    }
    let path = folder.join(FILE_NAME);
    let weights = folder.join(WEIGHTS);
    if !path.is_file() || !weights.is_file() {
        return Err(OpenVocoderError::Absent { folder: folder.to_owned() });
    }
    let unknown = |problem: String| OpenVocoderError::Unknown { folder: folder.to_owned(), problem };
    let value: Value = read_json(&path).map_err(ModelError::from)?;
    let head: VocoderHead = serde_json::from_value(value.clone()).map_err(|error| unknown(format!("{FILE_NAME}: {error}")))?;
    if head.format != FORMAT {
        return Err(unknown(format!("its format is {}, expected {FORMAT}", head.format)));
    }
    if head.mel != *mel {
        let difference = difference(mel, &head.mel);
        return Err(OpenVocoderError::OtherSpectrogram { folder: folder.to_owned(), difference });
    }
    match head.kind.as_str() {
        "hifigan" => {
            let config: HifiganConfig =
                serde_json::from_value(value["hifigan"].clone()).map_err(|error| unknown(format!("{FILE_NAME}: {error}")))?;
            hifigan(&config, safetensors::read(&weights, |_| true).map_err(ModelError::from)?, device)
        }
        "istft" => {
            let (_, inner) = Istft::read(folder, device).map_err(ModelError::from)?;
            Ok(Box::new(IstftVocoder(inner)))
        }
        other => Err(unknown(format!("its kind is `{other}`, expected `hifigan` or `istft`"))),
    }
}

/// A generator on a device.
fn hifigan(config: &HifiganConfig, mut tensors: Weights, device: Device) -> Result<Box<dyn Vocoder>, OpenVocoderError> {
    for tensor in tensors.values_mut() {
        *tensor = tensor.f_to_device(device).map_err(ModelError::from)?;
    }
    Ok(Box::new(HifiganVocoder { generator: Hifigan::new(config, &tensors)?, device }))
}

/// Sentence about how two spectrograms differ: `n_fft is 1024, expected 512`.
pub(super) fn difference(expected: &MelSpectrogram, found: &MelSpectrogram) -> String {
    let fields = [expected, found].map(|mel| serde_json::to_value(mel).unwrap_or_default());
    let [Value::Object(expected), Value::Object(found)] = &fields else { return String::new() };
    mel::difference(expected, found)
}

struct GriffinLimVocoder {
    inner: GriffinLim,
    iterations: usize,
}

impl Vocoder for GriffinLimVocoder {
    fn name(&self) -> &'static str {
        "griffin_lim"
    }

    fn speak(&mut self, mel: &[Vec<f64>]) -> Result<Vec<f32>, TchError> {
        Ok(self.inner.samples(mel, self.iterations, MOMENTUM).into_iter().map(|sample| sample as f32).collect())
    }
}

struct IstftVocoder(Istft);

impl Vocoder for IstftVocoder {
    fn name(&self) -> &'static str {
        "istft"
    }

    fn speak(&mut self, mel: &[Vec<f64>]) -> Result<Vec<f32>, TchError> {
        let bands = mel.first().map_or(0, Vec::len) as i64;
        if mel.len() < 2 {
            return Ok(Vec::new());
        }
        let values: Vec<f32> = mel.iter().flatten().map(|&value| value as f32).collect();
        self.0.samples(&Tensor::f_from_slice(&values)?.f_view([-1, bands])?)
    }
}

struct HifiganVocoder {
    generator: Hifigan,
    device: Device,
}

impl Vocoder for HifiganVocoder {
    fn name(&self) -> &'static str {
        "hifigan"
    }

    fn speak(&mut self, mel: &[Vec<f64>]) -> Result<Vec<f32>, TchError> {
        let bands = mel.first().map_or(0, Vec::len) as i64;
        if bands == 0 {
            return Ok(Vec::new());
        }
        let values: Vec<f32> = mel.iter().flatten().map(|&value| value as f32).collect();
        tch::no_grad(|| {
            let frames = Tensor::f_from_slice(&values)?.f_view([1, -1, bands])?.f_to_device(self.device)?;
            Vec::<f32>::try_from(self.generator.forward(&frames)?.f_view([-1])?.f_to_device(Device::Cpu)?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mel(hop_length: usize) -> MelSpectrogram {
        serde_json::from_value(serde_json::json!({
            "sample_rate": 8000, "n_fft": 64, "hop_length": hop_length, "win_length": 64, "num_mel_bins": 4, "low_hz": 0.0,
            "high_hz": 4000.0, "recipe": "tacotron",
        }))
        .unwrap()
    }

    #[test]
    fn a_vocoder_of_other_spectrograms_or_kinds_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |value: &Value| {
            std::fs::write(folder.path().join(FILE_NAME), value.to_string()).unwrap();
            open(Some(folder.path()), 1, &mel(16), Device::Cpu).err().unwrap().to_string()
        };
        let mut value = serde_json::json!({"format": 1, "kind": "wavenet", "mel": mel(20)});
        assert!(refused(&value).contains("holds no vocoder"), "{}", refused(&value));
        std::fs::write(folder.path().join(WEIGHTS), "").unwrap();
        let error = refused(&value);
        assert!(error.ends_with("is for other spectrograms: hop_length is 20, expected 16"), "{error}");
        value["mel"]["hop_length"] = 16.into();
        assert!(refused(&value).contains("its kind is `wavenet`"), "{}", refused(&value));
        value["format"] = 2.into();
        assert!(refused(&value).contains("its format is 2, expected 1"), "{}", refused(&value));
    }
}
