//! The tensors that a method trains: which of the encoder's own, and which it adds, with shapes and starting values.
//!
//! The worker builds adapters from this list, and parameters are counted from it without making any.

use std::collections::BTreeMap;

use super::LinearLayer::{self, IntermediateDense, OutputDense};
use super::{BitFit, Bottleneck, ConvAdapter, Finetune, Ia3, Layers, Lora, Method, Place, Prefix, Scope};

/// What a method has to know of an encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dims {
    /// Width of the transformer, H.
    pub hidden_size: u32,
    /// Transformer layers, L.
    pub num_layers: u32,
    /// Inner width of the feed-forward blocks, F.
    pub intermediate_size: u32,
}

/// A tensor that a method adds to a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Added {
    /// Relative to the encoder, but for a prefix, which sits outside of it.
    pub name: String,
    /// Its sizes.
    pub shape: Vec<u32>,
    /// How it starts.
    pub start: Start,
}

/// How an added tensor starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Start {
    /// All zero.
    Zeros,
    /// All one.
    Ones,
    /// Normal around 0.
    Normal {
        /// Its standard deviation.
        std: f64,
    },
    /// Uniform between `-bound` and `bound`.
    Uniform {
        /// The largest magnitude.
        bound: f64,
    },
    /// The lengths of the rows of the weight beside it.
    RowNorms,
}

/// A method that does not fit an encoder.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Misfit {
    /// The encoder ends below.
    #[error("`layers` names layer {layer}, but the encoder has {num_layers} layers, counted from 0")]
    Layer {
        /// What was asked for.
        layer: u32,
        /// What there is.
        num_layers: u32,
    },
    /// The encoder has fewer.
    #[error("`layers` asks for the last {last}, but the encoder has {num_layers} layers")]
    TooManyLayers {
        /// What was asked for.
        last: u32,
        /// What there is.
        num_layers: u32,
    },
    /// An update of this rank would be larger than the layer.
    #[error("`{setting}` is {rank}, but `{module}` of this encoder allows 1 to {limit}, the smaller side of its weight")]
    Rank {
        /// What set it: `rank`, or a pattern of `rank_pattern`.
        setting: String,
        /// The layer.
        module: String,
        /// What was asked for.
        rank: u32,
        /// The smaller side of its weight.
        limit: u32,
    },
    /// The groups of a convolution do not come out even.
    #[error(
        "`bottleneck_dim` is {dim}, which does not divide the encoder's hidden size {hidden_size}, as the grouped convolutions need"
    )]
    Groups {
        /// What was asked for.
        dim: u32,
        /// What it must divide.
        hidden_size: u32,
    },
    /// The gate would have no width.
    #[error("`reduction` is {reduction}, which leaves nothing of the encoder's hidden size {hidden_size}")]
    Reduction {
        /// What was asked for.
        reduction: u32,
        /// What is divided by it.
        hidden_size: u32,
    },
    /// Nobody is called so.
    #[error("pattern `{pattern}` matches none of the adapted layers, as {example} would")]
    NoMatch {
        /// The end of a name.
        pattern: String,
        /// A layer that is adapted.
        example: String,
    },
    /// Two patterns for one layer.
    #[error("patterns `{first}` and `{second}` both match `{module}`: one must go")]
    TwoMatches {
        /// The layer.
        module: String,
        /// One pattern.
        first: String,
        /// Another.
        second: String,
    },
}

impl Misfit {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Layer { .. } | Self::TooManyLayers { .. } => {
                "name layers that the encoder has in `method.layers`, or leave it out for all of them"
            }
            Self::Rank { .. } => {
                "lower it to what the layer allows; `method.rank_pattern` sets another rank for some layers alone"
            }
            Self::Groups { .. } => "set `method.bottleneck_dim` to a divisor of the hidden size, or leave it out for half of it",
            Self::Reduction { .. } => "set `method.reduction` to the hidden size or less, or leave it out for 16",
            Self::NoMatch { .. } => {
                "a pattern is the end of the name of a layer that `method.targets` and `method.layers` choose"
            }
            Self::TwoMatches { .. } => "leave one of the two patterns out, or make them so long that each layer has one",
        }
    }
}

impl Method {
    /// The tensors that it adds to an encoder, in the order of the forward pass.
    ///
    /// Errors: [`Misfit`] when it does not fit the encoder.
    pub fn added(&self, dims: Dims) -> Result<Vec<Added>, Misfit> {
        match self {
            Self::Finetune(_) | Self::HeadOnly(_) | Self::BitFit(_) => {
                Layers::or_all(self.layers(), dims.num_layers)?;
                Ok(Vec::new())
            }
            Self::Bottleneck(bottleneck) => bottleneck.added(dims),
            Self::Prefix(prefix) => prefix.added(dims),
            Self::Lora(lora) => lora.added(dims),
            Self::ConvAdapter(conv) => conv.added(dims),
            Self::Ia3(ia3) => ia3.added(dims),
        }
    }

    /// Whether a tensor of the encoder, named relative to it, is trained.
    ///
    /// Errors: [`Misfit`] when the method names layers that the encoder does not have.
    pub fn trains(&self, tensor: &str, num_layers: u32) -> Result<bool, Misfit> {
        let (scope, layers) = match self {
            Self::Finetune(Finetune { scope, layers }) => (*scope, layers),
            Self::BitFit(BitFit { scope, layers }) if last_part(tensor) == "bias" => (*scope, layers),
            _ => return Ok(false),
        };
        Ok(match layer_of(tensor) {
            Some(layer) => Layers::or_all(layers.as_ref(), num_layers)?.contains(&layer),
            None => match scope {
                Scope::All => true,
                Scope::AllButConv => !tensor.starts_with("feature_extractor."),
                Scope::LayersOnly => false,
            },
        })
    }
}

fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// The transformer layer that a tensor or module of the encoder is part of.
fn layer_of(name: &str) -> Option<u32> {
    name.strip_prefix("encoder.layers.")?.split('.').next()?.parse().ok()
}

/// A linear layer of the transformer with its sizes.
struct Module {
    name: String,
    size_out: u32,
    size_in: u32,
}

/// The linear layers that are targeted.
fn modules(targets: &[LinearLayer], layers: Option<&Layers>, dims: Dims) -> Result<Vec<Module>, Misfit> {
    let (hidden, inner) = (dims.hidden_size, dims.intermediate_size);
    let mut found = Vec::new();
    for layer in Layers::or_all(layers, dims.num_layers)? {
        for linear in LinearLayer::ALL.into_iter().filter(|linear| targets.contains(linear)) {
            let (size_out, size_in) = match linear {
                IntermediateDense => (inner, hidden),
                OutputDense => (hidden, inner),
                _ => (hidden, hidden),
            };
            found.push(Module { name: linear.in_layer(layer), size_out, size_in });
        }
    }
    Ok(found)
}

impl Lora {
    /// The rank of the update beside a layer.
    fn rank_of(&self, module: &str) -> Result<u32, Misfit> {
        Ok(only_match(&self.rank_pattern, module)?.map_or(self.rank, |(_, rank)| rank))
    }

    /// The factor of the update beside a layer.
    ///
    /// Errors: [`Misfit::TwoMatches`].
    pub fn scale_of(&self, module: &str) -> Result<f64, Misfit> {
        let rank = f64::from(self.rank_of(module)?);
        let alpha = only_match(&self.alpha_pattern, module)?.map_or(self.alpha, |(_, alpha)| alpha);
        Ok(if self.rslora { alpha / rank.sqrt() } else { alpha / rank })
    }

    fn added(&self, dims: Dims) -> Result<Vec<Added>, Misfit> {
        let modules = modules(&self.targets, self.layers.as_ref(), dims)?;
        for pattern in self.rank_pattern.keys().chain(self.alpha_pattern.keys()) {
            if !modules.iter().any(|module| ends_with(&module.name, pattern)) {
                let example = modules.first().map_or_else(String::new, |module| format!("the end of `{}`", module.name));
                return Err(Misfit::NoMatch { pattern: pattern.clone(), example });
            }
        }
        let mut list = Vec::new();
        for Module { name, size_out, size_in } in modules {
            let (rank, limit) = (self.rank_of(&name)?, size_in.min(size_out));
            if rank < 1 || rank > limit {
                let pattern = only_match(&self.rank_pattern, &name)?;
                let setting = pattern.map_or_else(|| "rank".to_owned(), |(end, _)| format!("rank_pattern.{end}"));
                return Err(Misfit::Rank { setting, module: name, rank, limit });
            }
            self.scale_of(&name)?;
            // Kaiming uniform with a slope of sqrt(5), which comes to this bound.
            let bound = f64::from(size_in).sqrt().recip();
            list.push(added(&name, "lora_A.weight", &[rank, size_in], Start::Uniform { bound }));
            list.push(added(&name, "lora_B.weight", &[size_out, rank], Start::Zeros));
            if self.dora {
                list.push(added(&name, "lora_magnitude_vector", &[size_out], Start::RowNorms));
            }
        }
        Ok(list)
    }
}

/// Whether the last parts of a module's name are `end`.
fn ends_with(module: &str, end: &str) -> bool {
    module.strip_suffix(end).is_some_and(|front| front.is_empty() || front.ends_with('.'))
}

/// The one pattern that matches, and its value; peft would take the first of several, which nobody should have to know.
fn only_match<'a, T: Copy>(patterns: &'a BTreeMap<String, T>, module: &str) -> Result<Option<(&'a str, T)>, Misfit> {
    let mut matching = patterns.iter().filter(|(end, _)| ends_with(module, end));
    let Some((first, &value)) = matching.next() else { return Ok(None) };
    match matching.next() {
        Some((second, _)) => Err(Misfit::TwoMatches { module: module.to_owned(), first: first.clone(), second: second.clone() }),
        None => Ok(Some((first, value))),
    }
}

impl Ia3 {
    fn added(&self, dims: Dims) -> Result<Vec<Added>, Misfit> {
        let modules = modules(&self.targets, self.layers.as_ref(), dims)?;
        let at_input = |module: &Module| self.feedforward.iter().any(|linear| ends_with(&module.name, linear.module()));
        Ok(modules
            .iter()
            .map(|module| {
                let shape = if at_input(module) { [1, module.size_in] } else { [module.size_out, 1] };
                added(&module.name, "ia3_l", &shape, Start::Ones)
            })
            .collect())
    }
}

/// The modules in which blocks of these places sit.
fn blocks(places: &[Place], layers: Option<&Layers>, dims: Dims) -> Result<Vec<String>, Misfit> {
    let layers = Layers::or_all(layers, dims.num_layers)?;
    let in_layer = |layer| {
        let order = [(Place::Attention, ".attention"), (Place::FeedForward, "")];
        let used = order.into_iter().filter(|(place, _)| places.contains(place));
        used.map(move |(_, part)| format!("encoder.layers.{layer}{part}.adapterblock"))
    };
    Ok(layers.into_iter().flat_map(in_layer).collect())
}

impl Bottleneck {
    fn added(&self, dims: Dims) -> Result<Vec<Added>, Misfit> {
        let hidden = dims.hidden_size;
        let dim = self.bottleneck_dim.unwrap_or(hidden / 2);
        let mut list = Vec::new();
        for block in blocks(&self.places, self.layers.as_ref(), dims)? {
            let start = Start::Normal { std: self.init_std };
            list.extend([
                added(&block, "bottleneck_adapter.adapter_down.0.weight", &[dim, hidden], start),
                added(&block, "bottleneck_adapter.adapter_down.0.bias", &[dim], Start::Zeros),
                added(&block, "bottleneck_adapter.adapter_up.weight", &[hidden, dim], start),
                added(&block, "bottleneck_adapter.adapter_up.bias", &[hidden], Start::Zeros),
            ]);
        }
        Ok(list)
    }
}

impl ConvAdapter {
    fn added(&self, dims: Dims) -> Result<Vec<Added>, Misfit> {
        let hidden = dims.hidden_size;
        let dim = self.bottleneck_dim.unwrap_or(hidden / 2);
        if dim == 0 || !hidden.is_multiple_of(dim) {
            return Err(Misfit::Groups { dim, hidden_size: hidden });
        }
        let gate = hidden / self.reduction.max(1);
        if gate == 0 {
            return Err(Misfit::Reduction { reduction: self.reduction, hidden_size: hidden });
        }
        let mut list = Vec::new();
        for block in blocks(&self.places, self.layers.as_ref(), dims)? {
            list.push(added(&block, "layer_norm1.weight", &[hidden], Start::Ones));
            list.push(added(&block, "layer_norm1.bias", &[hidden], Start::Zeros));
            let shapes = [[dim, hidden / dim], [dim, 1], [hidden, 1]];
            for (at, (&[size_out, group_in], &taps)) in shapes.iter().zip(&self.kernel_sizes).enumerate() {
                // Kaiming normal over the inputs, with the gain of a rectifier.
                let std = (2.0 / (f64::from(group_in) * f64::from(taps))).sqrt();
                list.push(added(&block, &format!("conv{}.weight", at + 1), &[size_out, group_in, taps], Start::Normal { std }));
            }
            let start = Start::Normal { std: self.init_std };
            list.push(added(&block, "se3.fc.0.weight", &[gate, hidden], start));
            list.push(added(&block, "se3.fc.2.weight", &[hidden, gate], start));
        }
        Ok(list)
    }
}

impl Prefix {
    fn added(&self, dims: Dims) -> Result<Vec<Added>, Misfit> {
        /// How transformers starts linear layers.
        const LINEAR: Start = Start::Normal { std: 0.02 };
        let layers = Layers::or_all(self.layers.as_ref(), dims.num_layers)?;
        let (hidden, width) = (dims.hidden_size, 2 * layers.len() as u32 * dims.hidden_size);
        let table =
            |width| added("prefix_encoder", "embedding.weight", &[self.prefix_len, width], Start::Normal { std: self.init_std });
        let Some(inner) = self.projection else { return Ok(vec![table(width)]) };
        Ok(vec![
            table(hidden),
            added("prefix_encoder", "trans.0.weight", &[inner, hidden], LINEAR),
            added("prefix_encoder", "trans.0.bias", &[inner], Start::Zeros),
            added("prefix_encoder", "trans.2.weight", &[width, inner], LINEAR),
            added("prefix_encoder", "trans.2.bias", &[width], Start::Zeros),
        ])
    }
}

fn added(module: &str, part: &str, shape: &[u32], start: Start) -> Added {
    Added { name: format!("{module}.{part}"), shape: shape.to_vec(), start }
}
