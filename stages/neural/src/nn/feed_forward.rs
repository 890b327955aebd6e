//! The feed-forward block of a transformer layer.

use tch::{TchError, Tensor};

use super::activation::Activation;
use super::linear::Linear;
use super::pass::Pass;

/// Two linear layers with an activation and dropout between.
#[derive(Debug)]
pub(crate) struct FeedForward {
    pub(crate) inner: Linear,
    pub(crate) outer: Linear,
    pub(crate) activation: Activation,
    pub(crate) dropout: f64,
}

impl FeedForward {
    /// (B, T, H) -> (B, T, H).
    pub(crate) fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor, TchError> {
        let h = pass.activate_and_drop(self.activation, self.inner.forward(x, pass)?, self.dropout)?;
        self.outer.forward(&h, pass)
    }
}
