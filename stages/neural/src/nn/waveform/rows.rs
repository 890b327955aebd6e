//! Frozen convolutions of a whole batch as a few matrix products, for GPUs.
//!
//! Behind the first convolution every utterance gets so many frames that each later stride divides them without rest. The frames
//! of all utterances are then the rows of one matrix, and as many rows as a stride, side by side, are again rows of one: as many
//! taps as a stride are one product over the batch, and the taps behind them another, of the rows behind, added in place. A frame
//! that sees beyond its utterance is behind the last real one, and is cut off in the end.

use tch::{TchError, Tensor};

use super::layer::{ConvLayer, Norm};
use crate::nn::activation::Activation;

/// Widths of matrices that a GPU multiplies at full speed are multiples of this.
const LANES: i64 = 8;

/// Waveform (B, S) -> features (B, T, C), without a graph.
pub(super) fn forward(layers: &[ConvLayer], activation: Activation, audio: &Tensor) -> Result<Tensor, TchError> {
    let (batch, samples) = audio.size2()?;
    let (mut frames, mut h) = (samples, audio.shallow_clone());
    for (at, layer) in layers.iter().enumerate() {
        frames = (frames - layer.weight.size()[2]) / layer.stride + 1;
        h = if at == 0 {
            let whole: i64 = layers[1..].iter().map(|layer| layer.stride).product();
            layer.first_rows(audio, frames, (frames + whole - 1) / whole * whole)?
        } else {
            layer.rows(&h)?
        }; // (B * frames or more, C)
        h = match &layer.norm {
            Norm::Layer(norm) => norm.forward_activated(&h, activation)?,
            Norm::None | Norm::Group { .. } => activation.replace(h)?,
        };
    }
    let channels = h.size()[1];
    h.f_view([batch, -1, channels])?.f_narrow(1, 0, frames)
}

impl ConvLayer {
    /// Waveform (B, S) -> (B * rows, C), of which the first `frames` of each utterance are real.
    fn first_rows(&self, audio: &Tensor, frames: i64, rows: i64) -> Result<Tensor, TchError> {
        let ((batch, samples), (out, _, taps)) = (audio.size2()?, self.weight.size3()?);
        let missing = ((rows - 1) * self.stride + taps - samples).max(0);
        let windows = audio.f_constant_pad_nd([0, missing])?.f_unfold(1, taps, self.stride)?.f_narrow(1, 0, rows)?; // (B, rows, K)
        let normed = matches!(self.norm, Norm::Group { .. });
        let used = taps + i64::from(normed);
        let width = (used + LANES - 1) / LANES * LANES;
        let wide = Tensor::f_zeros([batch, rows, width], (audio.kind(), audio.device()))?;
        wide.f_narrow(2, 0, taps)?.f_copy_(&windows)?;
        let widened = |weight: &Tensor| weight.f_constant_pad_nd([0, width - used]);
        match &self.norm {
            Norm::Group { weight: gain, bias: shift } => {
                let _ = wide.f_narrow(2, taps, 1)?.f_fill_(1.0)?;
                let weight = self.normed_weight(&windows.f_narrow(1, 0, frames)?, gain, shift)?; // (B, C, K + 1)
                wide.f_bmm(&widened(&weight)?.f_transpose(1, 2)?)?.f_view([-1, out])
            }
            Norm::None | Norm::Layer(_) => {
                let weight = widened(&self.weight.f_view([out, taps])?)?;
                wide.f_view([-1, width])?.f_linear(&weight, self.bias.as_ref())
            }
        }
    }

    /// Rows (R, C) -> (R / stride, C').
    fn rows(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let ((rows, channels), (out, _, taps)) = (x.size2()?, self.weight.size3()?);
        let rows = rows / self.stride;
        let side_by_side = x.f_view([rows, self.stride * channels])?;
        let weight = self.weight.f_permute([0, 2, 1])?.f_reshape([out, taps * channels])?;
        let part = |first: i64| -> Result<[Tensor; 2], TchError> {
            let (behind, width) = (first / self.stride, self.stride.min(taps - first) * channels);
            let seen = side_by_side.f_narrow(0, behind, rows - behind)?.f_narrow(1, 0, width)?;
            Ok([seen, weight.f_narrow(1, first * channels, width)?])
        };
        let [seen, of] = part(0)?;
        let result = seen.f_linear(&of, self.bias.as_ref())?;
        for first in (self.stride..taps).step_by(self.stride as usize) {
            let [seen, of] = part(first)?;
            let _ = result.f_narrow(0, 0, seen.size()[0])?.f_addmm_(&seen, &of.f_transpose(0, 1)?)?;
        }
        Ok(result)
    }
}
