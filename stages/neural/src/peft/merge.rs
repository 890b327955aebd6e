//! Interface of the adapters that can be folded into the layer that carries them.

use tch::{TchError, Tensor};

use crate::nn::adapter::LinearAdapter;

/// Weight and bias of a linear layer that gives the same without its adapter.
pub(super) struct Merged {
    pub(super) weight: Tensor,
    pub(super) bias: Option<Tensor>,
}

/// An adapter of a linear layer that is a change of its weight and bias.
pub(super) trait Merge: LinearAdapter {
    /// Folds the adapter into the layer.
    fn merge(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<Merged, TchError>;
}
