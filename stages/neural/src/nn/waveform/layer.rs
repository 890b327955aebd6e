//! One convolution over a waveform or over the frames of the one before, with its norm.

use tch::{Device, Kind, TchError, Tensor};

use crate::nn::norm::LayerNorm;
use crate::nn::pass::Pass;
use crate::nn::weights::{Weights, tensor};

/// Guard against division by zero in the norms of convolutions, whatever `layer_norm_eps` says, as in the published models.
const CONV_NORM_EPS: f64 = 1e-5;

/// A convolution over time without padding, and the norm behind it.
#[derive(Debug)]
pub(crate) struct ConvLayer {
    /// (C', C, K).
    pub(crate) weight: Tensor,
    pub(crate) bias: Option<Tensor>,
    pub(crate) stride: i64,
    pub(crate) norm: Norm,
}

/// Norm behind a convolution.
#[derive(Debug)]
pub(crate) enum Norm {
    None,
    /// Per channel over time, padding included.
    Group {
        weight: Tensor,
        bias: Tensor,
    },
    /// Over channels.
    Layer(LayerNorm),
}

impl Norm {
    /// Group norm with one channel a group, around `NAME.weight` and `NAME.bias`.
    pub(crate) fn group(weights: &Weights, name: &str) -> Self {
        Self::Group { weight: tensor(weights, &format!("{name}.weight")), bias: tensor(weights, &format!("{name}.bias")) }
    }

    /// Layer norm over channels, around `NAME.weight` and `NAME.bias`.
    pub(crate) fn layer(weights: &Weights, name: &str) -> Self {
        Self::Layer(LayerNorm::new(weights, name, CONV_NORM_EPS))
    }
}

impl ConvLayer {
    pub(super) fn is_trained(&self) -> bool {
        let norm = match &self.norm {
            Norm::None => false,
            Norm::Group { weight, bias } => weight.requires_grad() || bias.requires_grad(),
            Norm::Layer(norm) => norm.is_trained(),
        };
        norm || self.weight.requires_grad() || self.bias.as_ref().is_some_and(Tensor::requires_grad)
    }

    /// (B, S, C) -> (B, T, C'), channels last all the way: half the time of the usual order on a CPU, since neither the
    /// convolution nor the norm behind it needs a transposed copy.
    pub(super) fn convolve(&self, x: &Tensor, pass: &Pass) -> Result<Tensor, TchError> {
        let (out, channels, taps) = self.weight.size3()?;
        if channels == 1 {
            // A product with windows of the waveform; the general way would have to guess the order of a lone channel.
            return self.windows(x)?.f_linear(&self.weight.f_view([out, taps])?, self.bias.as_ref());
        }
        let trained = |tensor: &Tensor| pass.trains() && tensor.requires_grad();
        let keeps_graph = trained(x) || trained(&self.weight) || self.bias.as_ref().is_some_and(trained);
        if x.device() == Device::Cpu && x.kind() == Kind::Float && !keeps_graph {
            return self.products(x);
        }
        let flat = x.f_transpose(1, 2)?.f_unsqueeze(2)?; // (B, C, 1, S), channels last in memory
        let weight = self.weight.f_unsqueeze(2)?;
        flat.f_conv2d(&weight, self.bias.as_ref(), [1, self.stride], [0, 0], [1, 1], 1)?.f_squeeze_dim(2)?.f_transpose(1, 2)
    }

    /// Samples of a waveform (B, S, 1) that each output frame sees: (B, T, K).
    fn windows(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_squeeze_dim(-1)?.f_unfold(1, self.weight.size()[2], self.stride)
    }

    /// The convolution as matrix products, without a graph: faster than libtorch's own. As many taps as one stride are one
    /// product: their samples lie side by side, and those of the next frame right behind them.
    fn products(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let x = x.f_contiguous()?;
        let ((batch, samples, channels), (out, _, taps)) = (x.size3()?, self.weight.size3()?);
        let frames = (samples - taps) / self.stride + 1;
        let weight = self.weight.f_permute([2, 1, 0])?.f_contiguous()?; // (K, C, C')
        let result = Tensor::f_empty([batch, frames, out], (x.kind(), x.device()))?;
        for (x, mut result) in x.f_unbind(0)?.iter().zip(result.f_unbind(0)?) {
            let mut begun = self.bias.as_ref().map(|bias| result.f_copy_(bias)).transpose()?.is_some();
            for first in (0..taps).step_by(self.stride as usize) {
                let side = self.stride.min(taps - first) * channels;
                let weight = weight.f_narrow(0, first, side / channels)?.f_view([side, out])?;
                let seen = x.f_narrow(0, first, samples - first)?; // None below: from its first sample on
                let rows = seen.f_as_strided([frames, side], [self.stride * channels, 1], None)?;
                let _ = if begun { result.f_addmm_(&rows, &weight)? } else { rows.f_mm_out(&result, &weight)? };
                begun = true;
            }
        }
        Ok(result)
    }

    /// A convolution over a waveform (B, S, 1), each channel then brought to zero mean and unit variance over time: (B, T, C).
    pub(super) fn convolve_normed(&self, x: &Tensor, gain: &Tensor, shift: &Tensor) -> Result<Tensor, TchError> {
        let windows = self.windows(x)?;
        let weight = self.normed_weight(&windows, gain, shift)?; // (B, C, K + 1)
        let ones = windows.f_narrow(-1, 0, 1)?.f_ones_like()?;
        Tensor::f_cat(&[windows, ones], -1)?.f_bmm(&weight.f_transpose(1, 2)?)
    }

    /// The weights of that convolution for each utterance, (B, C, K + 1), from what its frames see, (B, T, K).
    ///
    /// Mean and variance of a channel follow from those of the few samples that a frame sees, and go into the weights of the
    /// product: nothing passes over the output, the largest tensor of all. In 64 bits, since neighbouring samples of speech are so
    /// alike that a variance can be a millionth of what it is the difference of.
    pub(super) fn normed_weight(&self, windows: &Tensor, gain: &Tensor, shift: &Tensor) -> Result<Tensor, TchError> {
        let (out, _, taps) = self.weight.size3()?;
        let wide = |tensor: &Tensor| tensor.f_to_kind(Kind::Double);
        let samples = wide(windows)?;
        let mean = samples.f_mean_dim(1, true, Kind::Double)?; // (B, 1, K)
        let centred = samples.f_sub(&mean)?;
        let covariance = centred.f_transpose(1, 2)?.f_bmm(&centred)?.f_div_scalar(windows.size()[1])?; // (B, K, K)
        let weight = wide(&self.weight.f_view([out, taps])?)?; // (C, K)
        let variance = weight.f_matmul(&covariance)?.f_mul(&weight)?.f_sum_dim_intlist(-1, false, Kind::Double)?; // (B, C)
        let scale = wide(gain)?.f_div(&variance.f_clamp_min(0.0)?.f_add_scalar(CONV_NORM_EPS)?.f_sqrt()?)?.f_unsqueeze(-1)?; // (B, C, 1)
        let mut offset = weight.f_matmul(&mean.f_transpose(1, 2)?)?.f_neg()?; // (B, C, 1)
        if let Some(bias) = &self.bias {
            // Taken away with the mean that it moved.
            let bias = wide(bias)?.f_unsqueeze(-1)?;
            offset = bias.f_add(&offset.f_sub(&bias)?)?;
        }
        let offset = offset.f_mul(&scale)?.f_add(&wide(shift)?.f_unsqueeze(-1)?)?;
        // The offset is the weight of a sample that is always 1.
        Tensor::f_cat(&[weight.f_mul(&scale)?, offset], -1)?.f_to_kind(windows.kind())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::pass::Mode;

    fn layer(shape: [i64; 3], stride: i64, bias: bool) -> ConvLayer {
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu)).set_requires_grad(true);
        ConvLayer { weight: random(&shape), bias: bias.then(|| random(&shape[..1])), stride, norm: Norm::None }
    }

    #[track_caller]
    fn assert_close(found: &Tensor, expected: &Tensor, allowed: f64) {
        assert_eq!(found.size(), expected.size());
        let scale = expected.abs().max().double_value(&[]);
        let worst = (found - expected).abs().max().double_value(&[]) / scale;
        assert!(worst <= allowed, "off by {worst:e} of the largest value");
    }

    #[test]
    fn products_are_the_convolution_for_every_stride_and_remainder() {
        tch::manual_seed(3);
        for (taps, stride) in [(3, 2), (2, 2), (8, 4), (3, 1), (2, 3), (5, 3)] {
            for (samples, bias) in [(taps, false), (taps + 1, true), (23, true), (24, false)] {
                let layer = layer([5, 4, taps], stride, bias);
                let x = Tensor::randn([2, samples, 4], (Kind::Float, Device::Cpu));
                let found = tch::no_grad(|| layer.convolve(&x, &Pass::begin(Mode::Eval)).unwrap());
                let expected = layer.convolve(&x, &Pass::begin(Mode::Train { seed: 1 })).unwrap();
                assert!(expected.requires_grad() && !found.requires_grad());
                assert_close(&found, &expected, 1e-5);
            }
        }
    }

    /// A waveform as slow as a hum: neighbouring samples are so alike that most weights see a difference of large numbers.
    #[test]
    fn norms_from_the_statistics_of_windows_are_those_over_the_output() {
        tch::manual_seed(4);
        for bias in [false, true] {
            let layer = layer([6, 1, 10], 5, bias);
            let [gain, shift] =
                [1.5, -0.5].map(|mean| (Tensor::randn([6], (Kind::Float, Device::Cpu)) + mean).set_requires_grad(true));
            let time = Tensor::arange(4000, (Kind::Float, Device::Cpu)) * 0.02;
            let audio = Tensor::stack(&[time.sin() + 0.3, time.cos() * 2.0, Tensor::zeros_like(&time)], 0).unsqueeze(-1);
            let audio = audio + Tensor::randn([3, 4000, 1], (Kind::Float, Device::Cpu)) * 1e-3;
            let normed = layer.convolve_normed(&audio, &gain, &shift).unwrap();
            let in_64_bits = |tensor: &Tensor| tensor.detach().to_kind(Kind::Double).set_requires_grad(true);
            let (wide_gain, wide_shift) = (in_64_bits(&gain), in_64_bits(&shift));
            let wide = ConvLayer {
                weight: in_64_bits(&layer.weight),
                bias: layer.bias.as_ref().map(in_64_bits),
                stride: layer.stride,
                norm: Norm::None,
            };
            let pass = Pass::begin(Mode::Train { seed: 1 });
            let plain = wide.convolve(&audio.to_kind(Kind::Double), &pass).unwrap().transpose(1, 2);
            let expected = plain.group_norm(6, Some(&wide_gain), Some(&wide_shift), CONV_NORM_EPS, false).transpose(1, 2);
            assert_close(&normed.to_kind(Kind::Double), &expected, 1e-4);

            let pull = Tensor::randn(normed.size(), (Kind::Double, Device::Cpu));
            (normed * &pull).sum(Kind::Double).backward();
            (expected * &pull).sum(Kind::Double).backward();
            for (found, expected) in [(&layer.weight, &wide.weight), (&gain, &wide_gain), (&shift, &wide_shift)] {
                assert_close(&found.grad().to_kind(Kind::Double), &expected.grad(), 1e-4);
            }
        }
    }
}
