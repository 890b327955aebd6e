//! One class for a whole utterance.

use tch::{Reduction, TchError, Tensor};

use super::mix::{LayerMix, mixed};
use crate::nn::frames::Frames;
use crate::nn::weights::{Weights, tensor};

/// Hidden states (B, T, H) -> logits (B, classes): mean over the real frames, projector (P, H), classifier (classes, P).
///
/// The published head projects first and averages then; both are linear, so the order does not change the result, and this one
/// costs a T-th.
#[derive(Debug)]
pub struct Classification {
    projector: [Tensor; 2],
    classifier: [Tensor; 2],
    pub(super) mix: Option<LayerMix>,
}

impl Classification {
    /// A head around tensors as [`super::Head::start`] names them.
    pub fn new(weights: &Weights) -> Self {
        let pair = |name: &str| [tensor(weights, &format!("{name}.weight")), tensor(weights, &format!("{name}.bias"))];
        Self { projector: pair("projector"), classifier: pair("classifier"), mix: LayerMix::of(weights) }
    }

    /// `states`: the last hidden state; or the inputs of every layer and then the last hidden state, when it mixes layers.
    pub fn forward(&self, states: &[Tensor], frames: Option<&Frames>) -> Result<Tensor, TchError> {
        let mean = |state: &Tensor| match frames {
            Some(frames) => frames.mean(state),
            None => state.f_mean_dim(1, false, state.kind()),
        };
        // The mean of a mix is the mix of the means.
        let states = if self.mix.is_some() { states } else { &states[states.len() - 1..] };
        let means = states.iter().map(mean).collect::<Result<Vec<_>, _>>()?;
        let pooled = mixed(self.mix.as_ref(), &means)?; // (B, H)
        let [weight, bias] = &self.projector;
        let pooled = pooled.f_to_kind(weight.kind())?;
        let projected = pooled.f_linear(weight, Some(bias))?;
        let [weight, bias] = &self.classifier;
        projected.f_linear(weight, Some(bias))
    }
}

/// Cross entropy of `logits` (B, classes) against `classes` (B), of each utterance, in nats.
pub fn losses(logits: &Tensor, classes: &Tensor) -> Result<Tensor, TchError> {
    cross_entropy(logits, classes, Reduction::None)
}

/// Cross entropy of `logits` (B, classes) against `classes` (B), averaged over the batch; natural logarithm.
pub fn loss(logits: &Tensor, classes: &Tensor) -> Result<Tensor, TchError> {
    cross_entropy(logits, classes, Reduction::Mean)
}

fn cross_entropy(logits: &Tensor, classes: &Tensor, reduction: Reduction) -> Result<Tensor, TchError> {
    let classes = classes.f_to_device(logits.device())?;
    // -100 is the class to leave out, which no utterance has.
    logits.f_to_kind(tch::Kind::Float)?.f_cross_entropy_loss(&classes, None::<Tensor>, reduction, -100, 0.0)
}
