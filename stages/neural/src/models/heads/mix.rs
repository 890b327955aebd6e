//! A learned mix of an encoder's layers (Yang et al. 2021, SUPERB, arXiv:2105.01051, section 3).

use tch::{Kind, TchError, Tensor};

use crate::nn::weights::Weights;

/// The tensor's name, as transformers has it.
pub(super) const NAME: &str = "layer_weights";

/// Scores of the inputs of all layers and of the encoder's output, (L + 1), whose softmax mixes them.
#[derive(Debug)]
pub struct LayerMix {
    scores: Tensor,
}

impl LayerMix {
    /// Equal scores.
    pub(super) fn start(num_layers: usize) -> Result<Tensor, TchError> {
        let states = num_layers as i64 + 1;
        Tensor::f_ones(states, (Kind::Float, tch::Device::Cpu))?.f_div_scalar(states)
    }

    /// The mix, where the head has one.
    pub(super) fn of(weights: &Weights) -> Option<Self> {
        weights.get(NAME).map(|scores| Self { scores: scores.shallow_clone() })
    }

    /// The mix of `states`, all of one shape.
    pub(super) fn apply(&self, states: &[Tensor]) -> Result<Tensor, TchError> {
        let mut shape = vec![1; states[0].dim() + 1];
        shape[0] = -1;
        let shares = self.scores.f_softmax(0, Kind::Float)?.f_to_kind(states[0].kind())?.f_view(&shape[..])?;
        shares.f_mul(&Tensor::f_stack(states, 0)?)?.f_sum_dim_intlist(0, false, states[0].kind())
    }
}

/// The states mixed, or the last of them.
pub(super) fn mixed(mix: Option<&LayerMix>, states: &[Tensor]) -> Result<Tensor, TchError> {
    match mix {
        Some(mix) => mix.apply(states),
        None => Ok(states[states.len() - 1].shallow_clone()),
    }
}
