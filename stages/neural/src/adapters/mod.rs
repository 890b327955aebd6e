//! Parameter-efficient modules beside frozen layers, and the files that hold them.

pub mod files;
pub mod lora;

use std::collections::BTreeMap;

use neural_spec::{Dims, Method};
use tch::{Device, TchError, Tensor};

pub use self::lora::Lora;
use crate::checkpoint::EncoderConfig;
use crate::checkpoint::weights::{Start, started};
use crate::encoder::Pass;
use crate::model::ModelError;

/// Adapters by the module they belong to, named relative to the encoder: `encoder.layers.0.attention.q_proj`.
pub type Adapters = BTreeMap<String, Adapter>;

/// The adapters of a method, seeded, on `device`, all of them trained.
///
/// Errors: [`ModelError::Method`] when the method does not fit the encoder.
pub fn build(method: &Method, config: &EncoderConfig, seed: u64, device: Device) -> Result<Adapters, ModelError> {
    let mut tensors = BTreeMap::new();
    for added in method.added(dims(config))? {
        let start = match added.start {
            neural_spec::Start::Zeros => Start::Zeros,
            neural_spec::Start::Ones => Start::Ones,
            neural_spec::Start::Normal { std } => Start::Normal { std },
            neural_spec::Start::Uniform { bound } => Start::Uniform { low: -bound, high: bound },
            neural_spec::Start::RowNorms => Start::Ones,
        };
        let shape: Vec<i64> = added.shape.iter().copied().map(i64::from).collect();
        let tensor = started(&added.name, &shape, start, seed)?.f_to_device(device)?.f_set_requires_grad(true)?;
        tensors.insert(added.name, tensor);
    }
    let mut adapters = Adapters::new();
    if let Method::Lora(lora) = method {
        for (name, down) in &tensors {
            let Some(module) = name.strip_suffix(".lora_A.weight") else { continue };
            let up = &tensors[&format!("{module}.lora_B.weight")];
            adapters.insert(module.to_owned(), Adapter::Lora(Lora::new(lora, module, down, up)?));
        }
    }
    Ok(adapters)
}

/// What a method has to know of an encoder.
fn dims(config: &EncoderConfig) -> Dims {
    Dims {
        hidden_size: config.hidden_size as u32,
        num_layers: config.num_hidden_layers as u32,
        intermediate_size: config.intermediate_size as u32,
    }
}

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
