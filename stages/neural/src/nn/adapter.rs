//! Interfaces of the adapters that a layer can carry.

use std::fmt::Debug;

use tch::{TchError, Tensor};

use super::frames::Frames;
use super::native::LowRank;
use super::pass::Pass;

/// An adapter of one linear layer.
pub(crate) trait LinearAdapter: Debug + Send {
    /// Returns the output of the layer with the adapter's share: (.., in) -> (.., out).
    fn forward(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, pass: &Pass) -> Result<Tensor, TchError>;

    /// The adapter as two products, where it is no more than that in this pass.
    fn low_rank(&self, pass: &Pass) -> Option<LowRank<'_>> {
        let _ = pass;
        None
    }
}

/// An adapter behind a block of layers.
pub(crate) trait BlockAdapter: Debug + Send {
    /// (B, T, H) -> (B, T, H); `frames` says which are real, none that all count.
    fn forward(&self, x: &Tensor, frames: Option<&Frames>) -> Result<Tensor, TchError>;
}
