//! A vector for each utterance that tells speakers apart.
//!
//! Source: Snyder, Garcia-Romero, Sell, Povey and Khudanpur 2018, "X-vectors", section 2; for the loss Wang, Cheng, Liu and
//! Liu 2018, "Additive margin softmax for face verification", arXiv:1801.05599, equation 6.

use tch::{Kind, TchError, Tensor};

use super::classification;
use super::mix::{LayerMix, mixed};
use super::output::HeadOutput;
use crate::nn::frames::Frames;
use crate::nn::init::Start;
use crate::nn::weights::{Weights, tensor};

/// Hidden states (B, T, H) -> projector -> layers over time -> mean and deviation over the real frames -> two linear layers.
/// The output of the first is the speaker's vector.
#[derive(Debug)]
pub struct Xvector {
    projector: [Tensor; 2],
    layers: Vec<TimeLayer>,
    extractor: [Tensor; 2],
    classifier: [Tensor; 2],
    /// A direction for each speaker of the training set, (size, speakers).
    objective: Tensor,
    /// How far cosines are spread before the softmax.
    scale: f64,
    /// Margin by which the right speaker's cosine has to be better.
    margin: f64,
    pub(super) mix: Option<LayerMix>,
}

/// A convolution over time and a rectifier.
#[derive(Debug)]
struct TimeLayer {
    /// (out, K * in): one row holds the frames one after the other, each with all channels.
    weight: Tensor,
    bias: Tensor,
    dilation: i64,
    /// Frames that it sees.
    kernel: i64,
}

/// Names, shapes and starts of the tensors.
///
/// Starts keep the size of what passes through (He et al. 2015, arXiv:1502.01852, equation 10). The normal deviates of 0.02 that
/// transformers starts with leave a thousandth of it after five layers, and the first steps' biases drown that.
pub(super) fn tensors(hidden: i64, dims: &[u32], kernels: &[u32], size: i64, speakers: i64) -> Vec<(String, Vec<i64>, Start)> {
    let mut list = Vec::new();
    let mut linear = |name: &str, out: i64, into: i64, gain: f64| {
        list.push((format!("{name}.weight"), vec![out, into], Start::Normal { std: (gain / into as f64).sqrt() }));
        list.push((format!("{name}.bias"), vec![out], Start::Zeros));
    };
    let mut width = i64::from(dims[0]);
    linear("projector", width, hidden, 1.0);
    for (at, (&dim, &kernel)) in dims.iter().zip(kernels).enumerate() {
        linear(&format!("tdnn.{at}.kernel"), dim.into(), width * i64::from(kernel), 2.0);
        width = dim.into();
    }
    linear("feature_extractor", size, 2 * width, 1.0);
    linear("classifier", size, size, 1.0);
    list.push(("objective.weight".to_owned(), vec![size, speakers], Start::Normal { std: 1.0 }));
    list
}

impl Xvector {
    /// A head around tensors as [`super::Head::start`] names them.
    pub fn new(weights: &Weights, kernels: &[u32], dilations: &[u32], scale: f64, margin: f64) -> Self {
        let pair = |name: &str| [tensor(weights, &format!("{name}.weight")), tensor(weights, &format!("{name}.bias"))];
        let layer = |(at, (&kernel, &dilation)): (usize, (&u32, &u32))| {
            let [weight, bias] = pair(&format!("tdnn.{at}.kernel"));
            TimeLayer { weight, bias, dilation: dilation.into(), kernel: kernel.into() }
        };
        Self {
            projector: pair("projector"),
            layers: kernels.iter().zip(dilations).enumerate().map(layer).collect(),
            extractor: pair("feature_extractor"),
            classifier: pair("classifier"),
            objective: tensor(weights, "objective.weight"),
            scale,
            margin,
            mix: LayerMix::of(weights),
        }
    }

    /// `states` as for [`super::Head::forward`]. Utterances with too few frames for the layers are padded with zeros.
    ///
    /// In a padded batch some frames that reach into the padding count too, as in transformers, which leaves dilation out of account; not
    /// where each utterance is computed as if it were alone.
    pub fn forward(&self, states: &[Tensor], frames: Option<&Frames>) -> Result<HeadOutput, TchError> {
        let [weight, bias] = &self.projector;
        let mut state = mixed(self.mix.as_ref(), states)?.f_linear(weight, Some(bias))?; // (B, T, C)
        let alone = frames.filter(|frames| frames.alone);
        if let Some(frames) = alone {
            state = frames.zero_padding(&state)?;
        }
        let shorter_by: i64 = self.layers.iter().map(|layer| layer.dilation * (layer.kernel - 1)).sum();
        let in_a_batch = self.layers.iter().map(|layer| layer.kernel - 1).sum();
        let not_counted: i64 = if alone.is_some() { shorter_by } else { in_a_batch };
        let (batch, num_frames, _) = state.size3()?;
        // Two frames must be left, or there is no deviation.
        let missing = (shorter_by + 2 - num_frames).max(0);
        let mut x = state.f_transpose(1, 2)?.f_constant_pad_nd([0, missing])?; // (B, C, T)
        for layer in &self.layers {
            let weight = layer.weight.f_view([layer.weight.size()[0], layer.kernel, -1])?.f_transpose(1, 2)?; // (out, in, K)
            x = x.f_conv1d(&weight, Some(&layer.bias), 1, 0, layer.dilation, 1)?.f_relu()?;
        }
        let left = x.size()[2];
        let counts = frames.map_or_else(|| vec![num_frames; batch as usize], |frames| frames.counts.clone());
        let pooled = counts.iter().zip(0..).map(|(&count, row)| {
            let own = x.f_get(row)?.f_narrow(1, 0, (count - not_counted).clamp(2, left))?.f_to_kind(Kind::Float)?; // (C, own T)
            let (deviation, mean) = own.f_std_mean_dim(1, true, false)?;
            Tensor::f_cat(&[mean, deviation], 0)
        });
        let pooled = Tensor::f_stack(&pooled.collect::<Result<Vec<_>, _>>()?, 0)?.f_to_kind(state.kind())?; // (B, 2C)
        let [weight, bias] = &self.extractor;
        let embeddings = pooled.f_linear(weight, Some(bias))?;
        let [weight, bias] = &self.classifier;
        let logits = embeddings.f_linear(weight, Some(bias))?;
        Ok(HeadOutput { logits, frames: Vec::new(), embeddings: Some(embeddings) })
    }

    /// Cosines (B, speakers) between outputs and the speakers' directions.
    pub fn cosines(&self, logits: &Tensor) -> Result<Tensor, TchError> {
        let unit = |tensor: &Tensor, dim: i64| {
            let tensor = tensor.f_to_kind(Kind::Float)?;
            let norm = tensor.f_linalg_norm(2.0, dim, true, Kind::Float)?.f_clamp_min(1e-12)?;
            tensor.f_div(&norm)
        };
        unit(logits, 1)?.f_matmul(&unit(&self.objective, 0)?)
    }

    /// Scaled cosines (B, speakers), whose softmax is the probability of each speaker.
    pub fn scores(&self, logits: &Tensor) -> Result<Tensor, TchError> {
        self.cosines(logits)?.f_mul_scalar(self.scale)
    }

    /// Cross entropy of the scaled cosines, the right speaker's lowered by the margin: (B).
    pub fn losses(&self, logits: &Tensor, classes: &Tensor) -> Result<Tensor, TchError> {
        let cosines = self.cosines(logits)?;
        let right = classes.f_to_device(logits.device())?.f_one_hot(cosines.size()[1])?.f_to_kind(Kind::Float)?;
        let scores = cosines.f_sub(&right.f_mul_scalar(self.margin)?)?.f_mul_scalar(self.scale)?;
        classification::losses(&scores, classes)
    }
}
