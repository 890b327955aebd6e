//! Parameter-efficient modules in and beside frozen layers, and the files that hold them.
//!
//! [`neural_spec::Method::added`] lists the tensors of a method; here they are made, and a model asks for the parts built around
//! them: something beside a linear layer, a block behind other layers, a prefix.

mod adalora;
mod bottleneck;
pub(crate) mod changes;
mod config;
mod conv;
pub mod files;
mod ia3;
mod lora;
mod merge;
pub mod origin;
mod pissa;
mod prefix;
mod vera;

use neural_spec::{Architecture, Layers, Method, Start, Vera as Spec};
use tch::{Device, TchError, Tensor};

use self::adalora::AdaLora;
pub(crate) use self::adalora::{LEFT, RIGHT, VALUES};
use self::bottleneck::Bottleneck;
use self::conv::ConvAdapter;
use self::ia3::Ia3;
use self::lora::{Dora, Lora};
use self::merge::{Merge, Merged};
use self::pissa::Split;
pub(crate) use self::prefix::Prefix;
use self::vera::Vera;
use crate::error::ModelError;
use crate::nn::adapter::{BlockAdapter, LinearAdapter};
use crate::nn::init;
use crate::nn::linear::Linear;
use crate::nn::weights::{Weights, tensor};

/// True if an added tensor is outside of the encoder, so that its name lacks the encoder's prefix.
pub(crate) fn is_outside(name: &str) -> bool {
    name.starts_with("prefix_encoder.") || name == Spec::DOWN || name == Spec::UP
}

/// Tensors that a method adds to a model. Without a method, none.
#[derive(Debug, Default)]
pub struct Adapters {
    method: Option<Method>,
    /// Named as [`neural_spec::Added`] are.
    tensors: Weights,
    /// Updates as PiSSA starts them, by name.
    principal: Weights,
    architecture: Option<Architecture>,
}

impl Adapters {
    /// No adapters.
    pub fn new() -> Self {
        Self::default()
    }

    /// The adapters of a method for a model of these weights, seeded. PiSSA takes what it starts from out of the weights.
    ///
    /// Errors: [`ModelError::Method`] when the method does not fit the model.
    pub fn start(
        method: &Method,
        architecture: Architecture,
        model: &Weights,
        seed: u64,
        device: Device,
    ) -> Result<Self, ModelError> {
        let (mut tensors, mut principal) = (Weights::new(), Weights::new());
        for added in method.added(&architecture)? {
            let shape: Vec<i64> = added.shape.iter().copied().map(i64::from).collect();
            let started = |start| init::started(&added.name, &shape, start, seed);
            let tensor = match added.start {
                Start::Zeros => started(init::Start::Zeros)?,
                Start::Ones => started(init::Start::Ones)?,
                Start::Normal { std } => started(init::Start::Normal { std })?,
                Start::Uniform { bound } => started(init::Start::Uniform { low: -bound, high: bound })?,
                Start::Filled { value } => started(init::Start::Uniform { low: value, high: value })?,
                Start::Principal { scale } => {
                    if !principal.contains_key(&added.name) {
                        let module = added.name.trim_end_matches(".lora_A.weight");
                        let mut weight = tensor(model, &format!("{module}.weight"));
                        let Split { down, up, residual } = Split::of(&weight, shape[0], scale)?;
                        tch::no_grad(|| weight.f_copy_(&residual))?;
                        principal.insert(format!("{module}.lora_A.weight"), down);
                        principal.insert(format!("{module}.lora_B.weight"), up);
                    }
                    principal[&added.name].copy()
                }
                Start::RowNorms => {
                    let module = added.name.rsplit_once('.').map_or("", |(module, _)| module);
                    lora::row_norms(&model[&format!("{module}.weight")])?
                }
            };
            tensors.insert(added.name, tensor.f_to_device(device)?.f_set_requires_grad(added.trained)?);
        }
        Ok(Self { method: Some(method.clone()), tensors, principal, architecture: Some(architecture) })
    }

    /// Adapters of a method whose tensors exist: named and shaped as [`Method::added`] lists them.
    pub fn of(method: &Method, architecture: Architecture, tensors: Weights) -> Self {
        Self { method: Some(method.clone()), tensors, principal: Weights::new(), architecture: Some(architecture) }
    }

    /// All their tensors, named relative to the encoder, but for those that are outside of it.
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
            Some(Method::AdaLora(spec)) if has("lora_E") => {
                Some(Box::new(AdaLora::new(&self.tensors, module, spec.scale(), spec.dropout)))
            }
            Some(Method::Vera(spec)) if has("vera_lambda_b") => {
                Some(Box::new(Vera::new(&self.tensors, module, weight, spec.dropout)?))
            }
            Some(Method::Ia3(spec)) if has("ia3_l") => {
                let linear = self.architecture.as_ref().and_then(|model| model.linear(module));
                let at_input = linear.is_some_and(|linear| spec.at_input(linear));
                Some(Box::new(Ia3::new(&self.tensors, module, at_input)))
            }
            _ => None,
        })
    }

    /// Penalty on the tensors themselves, which the loss of an update contains; none for most methods.
    ///
    /// Errors: libtorch's.
    pub(crate) fn penalty(&self) -> Result<Option<Tensor>, TchError> {
        let Some(Method::AdaLora(spec)) = &self.method else { return Ok(None) };
        adalora::penalty(&self.tensors)?.f_mul_scalar(spec.orthogonal).map(Some)
    }

    /// Changes trained tensors into those of the method as it is saved, see [`Method::as_saved`]. Names begin with `prefix`.
    ///
    /// Errors: libtorch's.
    pub(crate) fn convert(&self, trained: &mut Weights, prefix: &str) -> Result<(), TchError> {
        pissa::convert(trained, &self.principal, prefix)
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
