//! Parameter-efficient modules beside frozen layers, and the files that hold them.

pub mod files;
pub mod lora;

use std::collections::BTreeMap;

use tch::{TchError, Tensor};

pub use self::lora::{Lora, LoraOptions};
use crate::encoder::Pass;

/// Adapters by the module they belong to, named relative to the encoder: `encoder.layers.0.attention.q_proj`.
pub type Adapters = BTreeMap<String, Adapter>;

/// What may sit beside a linear layer.
#[derive(Debug)]
pub enum Adapter {
    /// A low-rank update.
    Lora(Lora),
}

impl Adapter {
    /// The layer's output with this adapter's share: `input` (.., in) and the frozen layer's `output` (.., out) -> (.., out).
    pub(crate) fn apply(&self, input: &Tensor, output: &Tensor, pass: &Pass) -> Result<Tensor, TchError> {
        match self {
            Self::Lora(lora) => lora.apply(input, output, pass),
        }
    }

    /// Another handle on the same tensors.
    pub(crate) fn share(&self) -> Self {
        match self {
            Self::Lora(lora) => Self::Lora(lora.share()),
        }
    }

    /// Its trainable tensors, by the names that follow the module's.
    pub fn tensors(&self) -> Vec<(&'static str, &Tensor)> {
        match self {
            Self::Lora(lora) => vec![("lora_A.weight", &lora.down), ("lora_B.weight", &lora.up)],
        }
    }
}
