//! Convolutions over a waveform, one behind the other.

mod layer;
mod rows;

use tch::{TchError, Tensor};

pub(crate) use self::layer::{ConvLayer, Norm};
use super::activation::Activation;
use super::pass::Pass;

/// Waveform (B, S) -> features (B, T, C): convolutions with norms, each activated.
#[derive(Debug)]
pub(crate) struct ConvStack {
    pub(crate) layers: Vec<ConvLayer>,
    pub(crate) activation: Activation,
}

impl ConvStack {
    pub(crate) fn forward(&self, audio: &Tensor, pass: &Pass) -> Result<Tensor, TchError> {
        if audio.device().is_cuda() && !(pass.trains() && self.layers.iter().any(ConvLayer::is_trained)) {
            return tch::no_grad(|| rows::forward(&self.layers, self.activation, audio));
        }
        let mut h = audio.f_unsqueeze(-1)?; // (B, S, 1)
        for layer in &self.layers {
            h = match &layer.norm {
                Norm::None => layer.convolve(&h, pass)?,
                Norm::Layer(norm) => norm.forward(&layer.convolve(&h, pass)?)?,
                Norm::Group { weight, bias } => layer.convolve_normed(&h, weight, bias)?,
            }; // (B, T, C)
            h = self.activation.replace(h)?;
        }
        Ok(h)
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::nn::norm::LayerNorm;
    use crate::nn::pass::Mode;

    fn stack(shapes: &[(i64, i64)], norm: &str) -> ConvStack {
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        let layer = |(at, &(taps, stride)): (usize, &(i64, i64))| ConvLayer {
            weight: random(&[6, if at == 0 { 1 } else { 6 }, taps]) * 0.3,
            bias: (norm != "none").then(|| random(&[6])),
            stride,
            norm: match norm {
                "group" if at == 0 => Norm::Group { weight: random(&[6]), bias: random(&[6]) },
                "layer" => Norm::Layer(LayerNorm::of(random(&[6]), random(&[6]), 1e-5)),
                _ => Norm::None,
            },
        };
        ConvStack { layers: shapes.iter().enumerate().map(layer).collect(), activation: Activation::Gelu }
    }

    #[test]
    fn rows_of_a_batch_are_the_convolutions_of_its_utterances() {
        tch::manual_seed(5);
        let published = [(10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2)];
        let small = [(20, 10), (8, 4), (8, 4), (4, 2)];
        let odd = [(4, 3), (7, 2), (2, 3), (3, 1)];
        for (shapes, samples) in [(&published[..], [400, 401, 1111]), (&small, [850, 1203, 1490]), (&odd, [90, 91, 123])] {
            for (samples, norm) in samples.into_iter().flat_map(|samples| ["none", "group", "layer"].map(|norm| (samples, norm)))
            {
                let stack = stack(shapes, norm);
                let audio = Tensor::randn([3, samples], (Kind::Float, Device::Cpu));
                let found = tch::no_grad(|| rows::forward(&stack.layers, stack.activation, &audio).unwrap());
                let expected = tch::no_grad(|| stack.forward(&audio, &Pass::begin(Mode::Eval)).unwrap());
                assert_eq!(found.size(), expected.size(), "{shapes:?} {samples} {norm}");
                let scale = expected.abs().max().double_value(&[]).max(1.0);
                let worst = (&found - &expected).abs().max().double_value(&[]) / scale;
                assert!(worst < 1e-5, "{shapes:?} {samples} {norm}: {worst:e}");
            }
        }
    }
}
