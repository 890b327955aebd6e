//! Parameter-efficient modules in and beside frozen layers, and the files that hold them.
//!
//! [`neural_spec::Method::added`] lists the tensors of a method; here they are made, and a model asks for the parts built around
//! them: something beside a linear layer, a block behind other layers, a prefix.

mod bottleneck;
pub(crate) mod changes;
mod config;
mod conv;
pub mod files;
mod ia3;
mod lora;
mod merge;
pub mod origin;
mod prefix;

use neural_spec::{Architecture, Layers, Method, Start};
use tch::{Device, TchError, Tensor};

use self::bottleneck::Bottleneck;
use self::conv::ConvAdapter;
use self::ia3::Ia3;
use self::lora::{Dora, Lora};
use self::merge::{Merge, Merged};
pub(crate) use self::prefix::Prefix;
use crate::error::ModelError;
use crate::nn::adapter::{BlockAdapter, LinearAdapter};
use crate::nn::init;
use crate::nn::linear::Linear;
use crate::nn::weights::{Weights, tensor};

/// Tensors that a method adds to a model. Without a method, none.
#[derive(Debug, Default)]
pub struct Adapters {
    method: Option<Method>,
    /// Named as [`neural_spec::Added`] are.
    tensors: Weights,
    architecture: Option<Architecture>,
}

impl Adapters {
    /// No adapters.
    pub fn new() -> Self {
        Self::default()
    }

    /// The adapters of a method for a model of these weights, seeded, all of them trained.
    ///
    /// Errors: [`ModelError::Method`] when the method does not fit the model.
    pub fn start(
        method: &Method,
        architecture: Architecture,
        model: &Weights,
        seed: u64,
        device: Device,
    ) -> Result<Self, ModelError> {
        let mut tensors = Weights::new();
        for added in method.added(&architecture)? {
            let shape: Vec<i64> = added.shape.iter().copied().map(i64::from).collect();
            let started = |start| init::started(&added.name, &shape, start, seed);
            let tensor = match added.start {
                Start::Zeros => started(init::Start::Zeros)?,
                Start::Ones => started(init::Start::Ones)?,
                Start::Normal { std } => started(init::Start::Normal { std })?,
                Start::Uniform { bound } => started(init::Start::Uniform { low: -bound, high: bound })?,
                Start::RowNorms => {
                    let module = added.name.rsplit_once('.').map_or("", |(module, _)| module);
                    lora::row_norms(&model[&format!("{module}.weight")])?
                }
            };
            tensors.insert(added.name, tensor.f_to_device(device)?.f_set_requires_grad(true)?);
        }
        Ok(Self { method: Some(method.clone()), tensors, architecture: Some(architecture) })
    }

    /// Adapters of a method whose tensors exist: named and shaped as [`Method::added`] lists them.
    pub fn of(method: &Method, architecture: Architecture, tensors: Weights) -> Self {
        Self { method: Some(method.clone()), tensors, architecture: Some(architecture) }
    }

    /// All their tensors, named relative to the encoder, but for a prefix, which sits outside of it.
    pub fn tensors(&self) -> &Weights {
        &self.tensors
    }

    /// A linear layer of this name, with what the method puts beside it.
    ///
    /// Errors: libtorch's, out of memory.
    pub(crate) fn linear(&self, weights: &Weights, module: &str) -> Result<Linear, TchError> {
        let beside = self.beside(module, &tensor(weights, &format!("{module}.weight")))?;
        Ok(Linear::new(weights, module, beside.map(|adapter| adapter as Box<dyn LinearAdapter>)))
    }

    /// The adapter of a linear layer of this name and weight.
    fn beside(&self, module: &str, weight: &Tensor) -> Result<Option<Box<dyn Merge>>, TchError> {
        let has = |part: &str| self.tensors.contains_key(&format!("{module}.{part}"));
        Ok(match &self.method {
            Some(Method::Lora(spec)) if has("lora_A.weight") => {
                let lora = Lora::new(spec, &self.tensors, module).expect("patterns were checked when the tensors were listed");
                Some(if spec.dora { Box::new(Dora::new(lora, &self.tensors, module, weight)?) } else { Box::new(lora) })
            }
            Some(Method::Ia3(spec)) if has("ia3_l") => {
                let linear = self.architecture.as_ref().and_then(|model| model.linear(module));
                let at_input = linear.is_some_and(|linear| spec.at_input(linear));
                Some(Box::new(Ia3::new(&self.tensors, module, at_input)))
            }
            _ => None,
        })
    }

    /// The block at the end of a part of the model: a transformer layer, or its attention.
    pub(crate) fn block(&self, part: &str) -> Option<Box<dyn BlockAdapter>> {
        let name = format!("{part}.adapterblock");
        let has = |part: &str| self.tensors.contains_key(&format!("{name}.{part}"));
        match &self.method {
            Some(Method::Bottleneck(spec)) if has("bottleneck_adapter.adapter_up.weight") => {
                Some(Box::new(Bottleneck::new(spec, &self.tensors, &name)))
            }
            Some(Method::ConvAdapter(spec)) if has("conv1.weight") => {
                Some(Box::new(ConvAdapter::new(spec, &self.tensors, &name)))
            }
            _ => None,
        }
    }

    /// The keys and values in front of the attentions of a stack.
    pub(crate) fn prefix(&self, stack: usize) -> Option<Prefix> {
        let (Some(Method::Prefix(spec)), Some(model)) = (&self.method, &self.architecture) else { return None };
        let stack = &model.stacks[stack];
        let layers = Layers::or_all(spec.layers.as_ref(), stack).expect("layers were checked when the tensors were listed");
        let layers = layers.into_iter().map(|layer| layer as usize).collect();
        Some(Prefix::new(spec, stack.prefix_table, layers, &self.tensors))
    }

    /// Weights of the encoder that do without the adapters: copies where one was merged, the same tensors elsewhere.
    ///
    /// Errors: [`ModelError::CannotMerge`] for a method that is more than a change of weights.
    pub(crate) fn merge_into(&self, encoder: &Weights) -> Result<Weights, ModelError> {
        if let Some(method @ (Method::Bottleneck(_) | Method::ConvAdapter(_) | Method::Prefix(_))) = &self.method {
            return Err(ModelError::CannotMerge { method: method.name() });
        }
        let mut merged: Weights = encoder.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        for (name, weight) in encoder {
            let Some(module) = name.strip_suffix(".weight") else { continue };
            let Some(beside) = self.beside(module, weight)? else { continue };
            let bias_name = format!("{module}.bias");
            let Merged { weight, bias } = tch::no_grad(|| beside.merge(weight, encoder.get(&bias_name)))?;
            merged.insert(name.clone(), weight);
            merged.extend(bias.map(|bias| (bias_name, bias)));
        }
        Ok(merged)
    }
}
