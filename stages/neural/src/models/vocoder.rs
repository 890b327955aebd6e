//! Vocoders that turn mel spectrograms into samples: generators of HiFi-GAN, read from the files of three projects.
//!
//! | file | names | note |
//! | --- | --- | --- |
//! | jik876/hifi-gan `generator_*`, `g_*` | `ups.0.weight_g` | in a dict under `generator` |
//! | transformers `SpeechT5HifiGan` | `upsampler.0.weight_g`, or `upsampler.0.parametrizations.weight.original0` | brings mean and scale of its input |
//! | speechbrain | `ups.0.conv.weight_g` | each convolution wrapped once more, and its input mirrored at the ends |
//!
//! Source: Kong, Kim and Bae 2020, "HiFi-GAN", arXiv:2010.05646, section 2.2 and appendix A.

use std::collections::BTreeMap;

use serde::Deserialize;
use tch::{Kind, TchError, Tensor};

use crate::nn::weights::Weights;

/// Slope of the rectifier in front of the last convolution, the default of PyTorch.
const LAST_SLOPE: f64 = 0.01;

/// Sizes of a generator, from its `config.json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct HifiganConfig {
    /// Factors by which it widens time; their product is the hop length.
    pub upsample_rates: Vec<i64>,
    /// Taps of the transposed convolutions.
    pub upsample_kernel_sizes: Vec<i64>,
    /// Taps of the residual blocks.
    pub resblock_kernel_sizes: Vec<i64>,
    /// Dilations of each residual block.
    pub resblock_dilation_sizes: Vec<Vec<i64>>,
    /// Residual blocks of the first or second kind, `"1"` or `"2"`. Default the first.
    #[serde(default = "first")]
    pub resblock: serde_json::Value,
    /// True if the input is standardised with the mean and scale of the checkpoint.
    #[serde(default)]
    pub normalize_before: bool,
    /// Slope of all rectifiers but the last. Default 0.1.
    #[serde(default = "usual_slope")]
    pub leaky_relu_slope: f64,
}

fn first() -> serde_json::Value {
    "1".into()
}

fn usual_slope() -> f64 {
    0.1
}

/// A generator that cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VocoderError {
    /// A tensor that the configuration asks for is missing, or has another number of axes.
    #[error("the vocoder has no tensor `{name}` of {axes} axes, which its config.json asks for")]
    Missing {
        /// Its name in the layout of jik876/hifi-gan.
        name: String,
        /// Its axes.
        axes: usize,
    },
    /// Lists of different lengths, or a transposed convolution that does not widen time by its rate.
    #[error("the config.json of the vocoder contradicts itself: {problem}")]
    Config {
        /// What contradicts what.
        problem: String,
    },
    /// libtorch refused.
    #[error("libtorch: {0}")]
    Torch(#[from] TchError),
}

/// A generator.
#[derive(Debug)]
pub struct Hifigan {
    first: VocoderConvolution,
    stages: Vec<Upsampling>,
    last: VocoderConvolution,
    /// Mean and scale of the input.
    standard: Option<[Tensor; 2]>,
    slope: f64,
    hop_length: i64,
}

#[derive(Debug)]
struct VocoderConvolution {
    weight: Tensor,
    bias: Tensor,
    /// True if the input is mirrored at its ends; else there are zeros.
    mirrored: bool,
}

/// Widening by a factor, then residual blocks side by side.
#[derive(Debug)]
struct Upsampling {
    widen: VocoderConvolution,
    rate: i64,
    blocks: Vec<ResidualBlock>,
}

/// Residual block: for each dilation one or two convolutions.
#[derive(Debug)]
struct ResidualBlock {
    parts: Vec<(i64, VocoderConvolution, Option<VocoderConvolution>)>,
}

impl Hifigan {
    /// Builds a generator from the tensors of a file, in any of the layouts.
    ///
    /// Errors: [`VocoderError`]
    pub fn new(config: &HifiganConfig, tensors: &Weights) -> Result<Self, VocoderError> {
        let problem = |problem: String| Err(VocoderError::Config { problem });
        let stages = config.upsample_rates.len();
        if config.upsample_kernel_sizes.len() != stages {
            return problem(format!("{stages} upsample_rates and {} upsample_kernel_sizes", config.upsample_kernel_sizes.len()));
        }
        if config.resblock_kernel_sizes.len() != config.resblock_dilation_sizes.len() {
            let (kernels, dilations) = (config.resblock_kernel_sizes.len(), config.resblock_dilation_sizes.len());
            return problem(format!("{kernels} resblock_kernel_sizes and {dilations} resblock_dilation_sizes"));
        }
        if config.resblock_kernel_sizes.is_empty() {
            return problem("no resblock_kernel_sizes".to_owned());
        }
        for (rate, kernel) in config.upsample_rates.iter().zip(&config.upsample_kernel_sizes) {
            if *rate < 1 || kernel < rate || (kernel - rate) % 2 != 0 {
                return problem(format!("a rate of {rate} with {kernel} taps"));
            }
        }
        let second_kind = config.resblock == "2" || config.resblock == 2;
        let mirrored = tensors.keys().any(|name| name.contains("conv_pre.conv."));
        let tensors = plain(tensors);
        let layer = |name: String| VocoderConvolution::new(&tensors, &name, mirrored);
        let block = |at: usize, dilations: &[i64]| -> Result<ResidualBlock, VocoderError> {
            let part = |(k, &dilation): (usize, &i64)| {
                let name = format!("resblocks.{at}");
                if second_kind {
                    return Ok((dilation, layer(format!("{name}.convs.{k}"))?, None));
                }
                Ok((dilation, layer(format!("{name}.convs1.{k}"))?, Some(layer(format!("{name}.convs2.{k}"))?)))
            };
            Ok(ResidualBlock { parts: dilations.iter().enumerate().map(part).collect::<Result<_, VocoderError>>()? })
        };
        let stage = |(at, &rate): (usize, &i64)| -> Result<Upsampling, VocoderError> {
            let dilations = &config.resblock_dilation_sizes;
            let count = dilations.len();
            let blocks = dilations.iter().enumerate().map(|(k, dilations)| block(at * count + k, dilations));
            Ok(Upsampling { widen: layer(format!("ups.{at}"))?, rate, blocks: blocks.collect::<Result<_, _>>()? })
        };
        let standard = |name: &str| {
            let missing = || VocoderError::Missing { name: name.to_owned(), axes: 1 };
            tensors.get(name).map(Tensor::shallow_clone).ok_or_else(missing)
        };
        Ok(Self {
            first: layer("conv_pre".to_owned())?,
            stages: config.upsample_rates.iter().enumerate().map(stage).collect::<Result<_, _>>()?,
            last: layer("conv_post".to_owned())?,
            standard: if config.normalize_before { Some([standard("mean")?, standard("scale")?]) } else { None },
            slope: config.leaky_relu_slope,
            hop_length: config.upsample_rates.iter().product(),
        })
    }

    /// Samples of one frame.
    pub fn hop_length(&self) -> i64 {
        self.hop_length
    }

    /// Mel bands that it takes.
    pub fn num_mel_bins(&self) -> i64 {
        self.first.weight.size()[1]
    }

    /// Log mel spectrograms (B, T, M) -> samples (B, T * hop length) in [-1, 1].
    ///
    /// Errors: libtorch's.
    pub fn forward(&self, mel: &Tensor) -> Result<Tensor, TchError> {
        let mel = match &self.standard {
            Some([mean, scale]) => mel.f_sub(mean)?.f_div(scale)?,
            None => mel.shallow_clone(),
        };
        let mut x = self.first.convolve(&mel.f_transpose(1, 2)?, 1)?; // (B, C, T)
        for Upsampling { widen, rate, blocks } in &self.stages {
            x = leaky(&x, self.slope)?;
            let padding = (widen.weight.size()[2] - rate) / 2;
            x = x.f_conv_transpose1d(&widen.weight, Some(&widen.bias), *rate, padding, 0, 1, 1)?;
            let mut sum = blocks[0].forward(&x, self.slope)?;
            for block in &blocks[1..] {
                sum = sum.f_add(&block.forward(&x, self.slope)?)?;
            }
            x = sum.f_div_scalar(blocks.len() as f64)?;
        }
        self.last.convolve(&leaky(&x, LAST_SLOPE)?, 1)?.f_tanh()?.f_squeeze_dim(1)
    }
}

impl ResidualBlock {
    fn forward(&self, x: &Tensor, slope: f64) -> Result<Tensor, TchError> {
        let mut x = x.shallow_clone();
        for (dilation, first, second) in &self.parts {
            let mut y = first.convolve(&leaky(&x, slope)?, *dilation)?;
            if let Some(second) = second {
                y = second.convolve(&leaky(&y, slope)?, 1)?;
            }
            x = x.f_add(&y)?;
        }
        Ok(x)
    }
}

/// `x` where positive, `slope * x` elsewhere.
fn leaky(x: &Tensor, slope: f64) -> Result<Tensor, TchError> {
    x.f_maximum(&x.f_mul_scalar(slope)?)
}

impl VocoderConvolution {
    /// The weight itself, or its gain and direction multiplied.
    fn new(tensors: &BTreeMap<String, Tensor>, name: &str, mirrored: bool) -> Result<Self, VocoderError> {
        let get = |part: &str, axes: usize| {
            let name = format!("{name}.{part}");
            let found = tensors.get(&name).filter(|tensor| tensor.dim() == axes);
            found.map(Tensor::shallow_clone).ok_or(VocoderError::Missing { name, axes })
        };
        let weight = match (get("weight", 3), get("weight_g", 3), get("weight_v", 3)) {
            (Ok(weight), _, _) => weight,
            (_, Ok(gain), Ok(direction)) => {
                let norm = direction.f_square()?.f_sum_dim_intlist([1_i64, 2].as_slice(), true, None::<Kind>)?.f_sqrt()?;
                direction.f_mul(&gain.f_div(&norm)?)?
            }
            (Err(missing), _, _) => return Err(missing),
        };
        Ok(Self { weight, bias: get("bias", 1)?, mirrored })
    }

    /// (B, in, T) -> (B, out, T).
    fn convolve(&self, x: &Tensor, dilation: i64) -> Result<Tensor, TchError> {
        let padding = dilation * (self.weight.size()[2] - 1) / 2;
        if self.mirrored && x.size()[2] > padding {
            let x = x.f_reflection_pad1d([padding, padding])?;
            return x.f_conv1d(&self.weight, Some(&self.bias), 1, 0, dilation, 1);
        }
        x.f_conv1d(&self.weight, Some(&self.bias), 1, padding, dilation, 1)
    }
}

/// The tensors with the names of jik876/hifi-gan.
fn plain(tensors: &Weights) -> BTreeMap<String, Tensor> {
    let rename = |name: &str| {
        let name = name.strip_prefix("module.").unwrap_or(name).replace("upsampler.", "ups.");
        let name = name
            .replace("parametrizations.weight.original0", "weight_g")
            .replace("parametrizations.weight.original1", "weight_v");
        // Behind `conv_pre` and the like, speechbrain has a `conv` of its own.
        name.replace(".conv.weight", ".weight").replace(".conv.bias", ".bias")
    };
    tensors.iter().map(|(name, tensor)| (rename(name), tensor.shallow_clone())).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::Value;

    use super::*;
    use crate::checkpoint::pickle;

    /// Folder of a case, and the allowed share of its largest value.
    fn folder(name: &str) -> Option<(PathBuf, f64)> {
        let root = reference::root()?;
        let case = reference::case(&root, |case| case["name"] == name);
        let folder = root.join("tts").join(name);
        Some((folder, case["tolerance"]["scaled"].as_f64().unwrap()))
    }

    fn read(path: PathBuf) -> Weights {
        Tensor::read_safetensors(path).unwrap().into_iter().collect()
    }

    #[track_caller]
    fn check(case: &str, name: &str, found: &Tensor, expected: &Tensor, scaled: f64) {
        assert_eq!(found.size(), expected.size(), "{case}: {name}");
        let error = (found - expected).abs().max().double_value(&[]);
        let allowed = scaled * expected.abs().max().double_value(&[]).max(1.0);
        println!("GOLDEN {case} {name} {:e}", error / allowed);
        assert!(error <= allowed, "{case}: {name} is off by {error:e}");
    }

    #[test]
    fn the_original_generator_matches() {
        let Some((folder, scaled)) = folder("hifigan") else { return };
        let config: HifiganConfig = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
        let golden = read(folder.join("golden.safetensors"));
        let files = [pickle::read(&folder.join("generator.pth"), |_| true).unwrap(), read(folder.join("generator.safetensors"))];
        for tensors in files {
            let vocoder = Hifigan::new(&config, &tensors).unwrap();
            // (B, M, T) in the file.
            let audio = vocoder.forward(&golden["mel"].transpose(1, 2)).unwrap();
            assert_eq!(audio.size()[1], golden["mel"].size()[2] * vocoder.hop_length());
            check("hifigan", "audio", &audio, &golden["audio"].squeeze_dim(1), scaled);
            // Each convolution wrapped once more, as in speechbrain's files: far from the ends it is the same generator.
            let wrap = |name: &str| name.replace(".weight", ".conv.weight").replace(".bias", ".conv.bias");
            let wrapped: Weights = tensors.iter().map(|(name, tensor)| (wrap(name), tensor.shallow_clone())).collect();
            let repeats = 1 + 120 / golden["mel"].size()[2];
            let long = golden["mel"].transpose(1, 2).repeat([1, repeats, 1]);
            let [zeros, mirrored] = [&vocoder, &Hifigan::new(&config, &wrapped).unwrap()].map(|one| one.forward(&long).unwrap());
            assert_ne!(zeros, mirrored);
            let length = zeros.size()[1];
            let [zeros, mirrored] = [zeros, mirrored].map(|audio| audio.narrow(1, length / 2 - 16, 32));
            check("hifigan", "wrapped", &mirrored, &zeros, 1e-6);
        }
    }

    #[test]
    fn the_convolutions_of_speechbrain_mirror_the_ends() {
        let tensors = [("one.weight".to_owned(), Tensor::ones([1, 1, 3], (Kind::Float, tch::Device::Cpu)))];
        let bias = ("one.bias".to_owned(), Tensor::zeros([1], (Kind::Float, tch::Device::Cpu)));
        let tensors = tensors.into_iter().chain([bias]).collect();
        let x = Tensor::from_slice(&[1_f32, 2.0, 3.0, 4.0]).view([1, 1, 4]);
        for (mirrored, dilation, expected) in [(false, 1, [3_f32, 6.0, 9.0, 7.0]), (true, 1, [5.0, 6.0, 9.0, 10.0])] {
            let one = VocoderConvolution::new(&tensors, "one", mirrored).unwrap();
            assert_eq!(one.convolve(&x, dilation).unwrap().view([4]), Tensor::from_slice(&expected));
        }
    }

    #[test]
    fn the_generator_of_transformers_matches() {
        let Some((folder, scaled)) = folder("hifigan_hf") else { return };
        let config: Value = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
        let config: HifiganConfig = serde_json::from_value(config).unwrap();
        let golden = read(folder.join("golden.safetensors"));
        let files = [pickle::read(&folder.join("pytorch_model.bin"), |_| true).unwrap(), read(folder.join("model.safetensors"))];
        for tensors in files {
            let vocoder = Hifigan::new(&config, &tensors).unwrap();
            check("hifigan_hf", "audio", &vocoder.forward(&golden["mel"]).unwrap(), &golden["audio"], scaled);
            let first = vocoder.forward(&golden["mel"].narrow(0, 0, 1)).unwrap();
            check("hifigan_hf", "audio_of_first", &first.squeeze_dim(0), &golden["audio_of_first"], scaled);
        }
    }

    #[test]
    fn a_generator_that_does_not_fit_its_configuration_is_refused() {
        let json = serde_json::json!({
            "upsample_rates": [4, 4], "upsample_kernel_sizes": [8], "resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1]],
        });
        let mut config: HifiganConfig = serde_json::from_value(json).unwrap();
        let error = Hifigan::new(&config, &Weights::new()).unwrap_err().to_string();
        assert!(error.contains("2 upsample_rates and 1 upsample_kernel_sizes"), "{error}");
        config.upsample_kernel_sizes = vec![8, 7];
        let error = Hifigan::new(&config, &Weights::new()).unwrap_err().to_string();
        assert!(error.contains("a rate of 4 with 7 taps"), "{error}");
        config.upsample_kernel_sizes = vec![8, 8];
        let error = Hifigan::new(&config, &Weights::new()).unwrap_err().to_string();
        assert!(error.contains("no tensor `conv_pre.weight` of 3 axes"), "{error}");
    }
}
