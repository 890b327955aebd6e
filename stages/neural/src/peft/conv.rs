//! ConvAdapter: grouped convolutions over time and a gate over channels, with a residual.

use tch::{Kind, TchError, Tensor};

use crate::nn::adapter::BlockAdapter;
use crate::nn::frames::Frames;
use crate::nn::norm::LayerNorm;
use crate::nn::weights::{Weights, tensor};

/// Epsilon of the block's own norm.
const NORM_EPS: f64 = 1e-5;

/// `x + gate(z) * z`, with `z = conv3(conv2(relu(conv1(norm(x)))))` and `gate(z) = sigmoid(up(relu(down(mean over time of z))))`.
///
/// Shapes: `x` (B, T, H) -> (B, T, H); `conv1` (c, H / c, 3), `conv2` (c, 1, 5), `conv3` (H, 1, 3), each in c groups, without bias
/// and padded with zeros to keep T; `down` (H / 16, H), `up` (H, H / 16), without bias.
/// Start: convolutions normal with deviation sqrt(2 / fan in), gate normal with deviation 0.02, so that the gate is about a half:
/// not near the identity.
/// Source: Li et al. 2023, arXiv:2303.03267, section 2.2, in the form of its reference code; the gate from Hu et al. 2018,
/// arXiv:1709.01507. As published, convolutions and mean run over padding too, so a padded utterance gets another result than alone.
/// The masked form sets padding to zero before each convolution and averages over real frames only; so does an evaluation of single clips.
#[derive(Debug)]
pub(crate) struct ConvAdapter {
    norm: LayerNorm,
    convolutions: [Tensor; 3],
    down: Tensor,
    up: Tensor,
    masked: bool,
}

impl ConvAdapter {
    pub(super) fn new(spec: &neural_spec::ConvAdapter, tensors: &Weights, block: &str) -> Self {
        let part = |name: &str| tensor(tensors, &format!("{block}.{name}"));
        Self {
            norm: LayerNorm::new(tensors, &format!("{block}.layer_norm1"), NORM_EPS),
            convolutions: [part("conv1.weight"), part("conv2.weight"), part("conv3.weight")],
            down: part("se3.fc.0.weight"),
            up: part("se3.fc.2.weight"),
            masked: spec.masked,
        }
    }
}

impl BlockAdapter for ConvAdapter {
    fn forward(&self, x: &Tensor, frames: Option<&Frames>) -> Result<Tensor, TchError> {
        let frames = frames.filter(|frames| self.masked || frames.alone);
        let [first, second, third] = &self.convolutions;
        let groups = second.size()[0];
        let convolve = |z: &Tensor, weight: &Tensor| {
            let z = frames.map_or_else(|| Ok(z.shallow_clone()), |frames| frames.zero_padding(z))?; // (B, T, C)
            z.f_transpose(1, 2)?.f_conv1d(weight, None::<Tensor>, 1, weight.size()[2] / 2, 1, groups)?.f_transpose(1, 2)
        };
        let z = convolve(&self.norm.forward(x)?, first)?.f_relu()?;
        let z = convolve(&convolve(&z, second)?, third)?; // (B, T, H)
        let mean = match frames {
            Some(frames) => frames.mean(&z)?,
            None => z.f_mean_dim(1, false, None::<Kind>)?,
        }; // (B, H)
        let narrow = mean.f_linear(&self.down, None::<Tensor>)?.f_relu()?;
        let gate = narrow.f_linear(&self.up, None::<Tensor>)?.f_sigmoid()?.f_unsqueeze(1)?; // (B, 1, H)
        x.f_addcmul(&z, &gate)
    }
}
