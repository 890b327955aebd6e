//! Vocoder with an inverse Fourier transform: convolutions over frames give a magnitude and a phase for each bin.
//!
//! Source: Siuzdak 2023, "Vocos: closing the gap between time-domain and Fourier-based neural vocoders", arXiv:2306.00814, section 3;
//! the blocks are those of Liu et al. 2022, "A `ConvNet` for the 2020s", arXiv:2201.03545.

use std::path::Path;

use audio::features::mel::{MelSpectrogram, Recipe};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, TchError, Tensor};

use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::json::{read_json, write_json};
use crate::checkpoint::safetensors;
use crate::nn::init::{Start, started};
use crate::nn::weights::{Weights, tensor};

/// Mean and deviation to which natural logarithms of bands are brought.
const STANDARD: [f64; 2] = [-4.0, 2.5];
/// Taps of the convolutions.
const TAPS: i64 = 7;
/// Largest logarithm of a magnitude.
const LOUDEST: f64 = 6.0;
/// Share of a block that passes at the start.
const SCALE: f64 = 0.2;

/// Sizes of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IstftSizes {
    /// Channels.
    pub channels: u32,
    /// Width inside a block.
    pub inner: u32,
    /// Blocks.
    pub layers: u32,
}

/// Content of `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IstftConfig {
    /// Format of the folder.
    pub format: u32,
    /// Kind of vocoder: `istft`.
    pub kind: String,
    /// Spectrogram that it inverts.
    pub mel: MelSpectrogram,
    /// Sizes.
    pub istft: IstftSizes,
}

/// A vocoder.
#[derive(Debug)]
pub struct Istft {
    mel: MelSpectrogram,
    embed: Layer,
    first_norm: Layer,
    blocks: Vec<Block>,
    last_norm: Layer,
    head: Layer,
    window: Tensor,
}

#[derive(Debug)]
struct Layer {
    weight: Tensor,
    bias: Tensor,
}

#[derive(Debug)]
struct Block {
    depthwise: Layer,
    norm: Layer,
    widen: Layer,
    narrow: Layer,
    scale: Tensor,
}

impl IstftConfig {
    /// Describes a vocoder of a spectrogram. None where the frames are not centred, which the transform needs.
    pub fn new(mel: &MelSpectrogram, istft: IstftSizes) -> Option<Self> {
        let centred = matches!(mel.recipe, Recipe::Tacotron | Recipe::Speecht5);
        centred.then(|| Self { format: 1, kind: "istft".to_owned(), mel: mel.clone(), istft })
    }

    /// Tensors: names, shapes and starting values.
    fn tensors(&self) -> Vec<(String, Vec<i64>, Start)> {
        let (channels, inner) = (i64::from(self.istft.channels), i64::from(self.istft.inner));
        let mut list = Vec::new();
        let mut layer = |name: &str, shape: &[i64]| {
            let start = Start::symmetric((shape[1..].iter().product::<i64>() as f64).sqrt().recip());
            list.push((format!("{name}.weight"), shape.to_vec(), start));
            list.push((format!("{name}.bias"), vec![shape[0]], start));
        };
        layer("embed", &[channels, self.mel.num_mel_bins as i64, TAPS]);
        for at in 0..self.istft.layers {
            layer(&format!("blocks.{at}.depthwise"), &[channels, 1, TAPS]);
            layer(&format!("blocks.{at}.widen"), &[inner, channels]);
            layer(&format!("blocks.{at}.narrow"), &[channels, inner]);
        }
        layer("head", &[self.mel.win_length as i64 + 2, channels]);
        let blocks = (0..self.istft.layers).map(|at| format!("blocks.{at}.layer_norm"));
        for norm in ["first_layer_norm", "last_layer_norm"].map(str::to_owned).into_iter().chain(blocks) {
            list.push((format!("{norm}.weight"), vec![channels], Start::Ones));
            list.push((format!("{norm}.bias"), vec![channels], Start::Zeros));
        }
        let scale = |at| (format!("blocks.{at}.scale"), vec![channels], Start::Uniform { low: SCALE, high: SCALE });
        list.extend((0..self.istft.layers).map(scale));
        list
    }

    /// Starting values that follow from `seed`.
    ///
    /// Errors: libtorch's.
    pub fn start(&self, seed: u64, device: Device) -> Result<Weights, TchError> {
        let tensor = |(name, shape, start): (String, Vec<i64>, Start)| {
            let value = started(&name, &shape, start, seed)?.f_to_device(device)?;
            Ok((name, value))
        };
        self.tensors().into_iter().map(tensor).collect()
    }

    /// Writes the folder of a vocoder.
    ///
    /// Errors: files that cannot be written.
    pub fn write(&self, folder: &Path, weights: &Weights) -> Result<(), CheckpointError> {
        write_json(&folder.join("config.json"), self)?;
        safetensors::write(&folder.join("model.safetensors"), weights)
    }
}

impl Istft {
    /// Builds a vocoder around tensors as [`IstftConfig::start`] names them.
    ///
    /// Errors: libtorch's.
    pub fn new(config: &IstftConfig, weights: &Weights, device: Device) -> Result<Self, TchError> {
        let layer = |name: &str| Layer {
            weight: tensor(weights, &format!("{name}.weight")),
            bias: tensor(weights, &format!("{name}.bias")),
        };
        let block = |at: u32| Block {
            depthwise: layer(&format!("blocks.{at}.depthwise")),
            norm: layer(&format!("blocks.{at}.layer_norm")),
            widen: layer(&format!("blocks.{at}.widen")),
            narrow: layer(&format!("blocks.{at}.narrow")),
            scale: tensor(weights, &format!("blocks.{at}.scale")),
        };
        Ok(Self {
            mel: config.mel.clone(),
            embed: layer("embed"),
            first_norm: layer("first_layer_norm"),
            blocks: (0..config.istft.layers).map(block).collect(),
            last_norm: layer("last_layer_norm"),
            head: layer("head"),
            window: Tensor::f_hann_window(config.mel.win_length as i64, (Kind::Float, device))?,
        })
    }

    /// Reads the folder of a vocoder.
    ///
    /// Errors: files that cannot be read, tensors of other shapes than `config.json` says.
    pub fn read(folder: &Path, device: Device) -> Result<(IstftConfig, Self), CheckpointError> {
        let config: IstftConfig = read_json(&folder.join("config.json"))?;
        let path = folder.join("model.safetensors");
        let mut weights = safetensors::read(&path, |_| true)?;
        for (name, shape, _) in config.tensors() {
            let Some(tensor) = weights.get_mut(&name).filter(|tensor| tensor.size() == shape) else {
                let reason = format!("expected a tensor `{name}` of shape {shape:?}");
                return Err(CheckpointError::Damaged { path, reason });
            };
            *tensor = tensor.f_to_device(device).map_err(CheckpointError::torch(&path))?;
        }
        let vocoder = Self::new(&config, &weights, device).map_err(CheckpointError::torch(&path))?;
        Ok((config, vocoder))
    }

    /// Log mel spectrograms (B, T, bands), in the logarithm of the recipe -> samples (B, (T - 1) * hop length). At least two frames.
    ///
    /// Errors: libtorch's.
    pub fn forward(&self, mel: &Tensor) -> Result<Tensor, TchError> {
        let natural = if self.mel.recipe == Recipe::Speecht5 { std::f64::consts::LN_10 } else { 1.0 };
        let standard = mel.f_mul_scalar(natural / STANDARD[1])?.f_sub_scalar(STANDARD[0] / STANDARD[1])?;
        let mut x = self.embed.convolve(&standard.f_transpose(1, 2)?, 1)?.f_transpose(1, 2)?; // (B, T, C)
        x = self.first_norm.normalise(&x)?;
        for block in &self.blocks {
            let y = block.depthwise.convolve(&x.f_transpose(1, 2)?, x.size()[2])?.f_transpose(1, 2)?;
            let y = block.widen.linear(&block.norm.normalise(&y)?)?.f_gelu("none")?;
            x = x.f_add(&block.narrow.linear(&y)?.f_mul(&block.scale)?)?;
        }
        let bins = self.head.linear(&self.last_norm.normalise(&x)?)?.f_transpose(1, 2)?; // (B, 2 * bins, T)
        let half = bins.size()[1] / 2;
        let magnitude = bins.f_narrow(1, 0, half)?.f_clamp_max(LOUDEST)?.f_exp()?;
        let phase = bins.f_narrow(1, half, half)?;
        let spectrum = Tensor::f_complex(&magnitude.f_mul(&phase.f_cos()?)?, &magnitude.f_mul(&phase.f_sin()?)?)?;
        let (window, hop) = (self.mel.win_length as i64, self.mel.hop_length as i64);
        let length = hop * (mel.size()[1] - 1);
        spectrum.f_istft(window, hop, window, Some(&self.window), true, false, true, length, false)
    }

    /// Samples of one log mel spectrogram (T, bands); none of less than two frames.
    ///
    /// Errors: libtorch's.
    pub fn samples(&self, mel: &Tensor) -> Result<Vec<f32>, TchError> {
        if mel.size()[0] < 2 {
            return Ok(Vec::new());
        }
        let mel = mel.f_to_device(self.window.device())?.f_unsqueeze(0)?;
        let samples = tch::no_grad(|| self.forward(&mel))?;
        Vec::try_from(samples.f_get(0)?.f_clamp(-1.0, 1.0)?)
    }
}

impl Layer {
    /// (B, in, T) -> (B, out, T).
    fn convolve(&self, x: &Tensor, groups: i64) -> Result<Tensor, TchError> {
        x.f_conv1d(&self.weight, Some(&self.bias), 1, TAPS / 2, 1, groups)
    }

    fn linear(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_linear(&self.weight, Some(&self.bias))
    }

    fn normalise(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_layer_norm([x.size()[2]], Some(&self.weight), Some(&self.bias), 1e-5, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> IstftConfig {
        let (sample_rate, n_fft, hop_length, win_length) = (8_000, 64, 16, 48);
        let (num_mel_bins, low_hz, high_hz, recipe) = (5, 0.0, 4_000.0, Recipe::Tacotron);
        let mel = MelSpectrogram { sample_rate, n_fft, hop_length, win_length, num_mel_bins, low_hz, high_hz, recipe };
        IstftConfig::new(&mel, IstftSizes { channels: 6, inner: 8, layers: 2 }).unwrap()
    }

    #[test]
    fn a_folder_gives_the_same_samples_again() {
        let (config, folder) = (config(), tempfile::tempdir().unwrap());
        let weights = config.start(3, Device::Cpu).unwrap();
        let vocoder = Istft::new(&config, &weights, Device::Cpu).unwrap();
        tch::manual_seed(1);
        let mel = Tensor::randn([7, 5], (Kind::Float, Device::Cpu)) - 4.0;
        let samples = vocoder.samples(&mel).unwrap();
        assert_eq!(samples.len(), 6 * 16);
        assert!(samples.iter().any(|&sample| sample != 0.0) && vocoder.samples(&mel.narrow(0, 0, 1)).unwrap().is_empty());
        config.write(folder.path(), &weights).unwrap();
        let (again, read) = Istft::read(folder.path(), Device::Cpu).unwrap();
        assert_eq!((again, read.samples(&mel).unwrap()), (config, samples));
    }

    #[test]
    fn frames_that_are_not_centred_and_tensors_of_another_shape_are_refused() {
        let (config, folder) = (config(), tempfile::tempdir().unwrap());
        let mel = MelSpectrogram { recipe: Recipe::Hifigan, ..config.mel.clone() };
        assert!(IstftConfig::new(&mel, config.istft).is_none());
        config.write(folder.path(), &config.start(3, Device::Cpu).unwrap()).unwrap();
        let wider = IstftConfig { istft: IstftSizes { inner: 9, ..config.istft }, ..config };
        write_json(&folder.path().join("config.json"), &wider).unwrap();
        let error = Istft::read(folder.path(), Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("expected a tensor `blocks.0.widen.weight` of shape [9, 6]"), "{error}");
    }
}
