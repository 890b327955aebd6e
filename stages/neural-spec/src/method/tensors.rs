//! The tensors that a method trains: which of the model's own, and which it adds, with shapes and starting values.
//!
//! The worker builds adapters from this list, and parameters are counted from it without making any.

use std::collections::BTreeMap;

use super::block::{Bottleneck, ConvAdapter, Prefix};
use super::layers::Layers;
use super::linear::{Ia3, Lora};
use super::misfit::Misfit;
use super::{BitFit, Finetune, Method, Scope};
use crate::sites::{Architecture, BlockPosition, LinearLayer, Site, SiteKind};

/// A tensor that a method adds to a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Added {
    /// Name relative to the model; the table of a prefix is outside of the encoder.
    pub name: String,
    /// Sizes.
    pub shape: Vec<u32>,
    /// Starting values.
    pub start: Start,
    /// False if it keeps them.
    pub trained: bool,
}

/// Starting values of an added tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Start {
    /// All zero.
    Zeros,
    /// All one.
    Ones,
    /// Normal around 0.
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// Uniform between `-bound` and `bound`.
    Uniform {
        /// The largest magnitude.
        bound: f64,
    },
    /// All one value.
    Filled {
        /// The value.
        value: f64,
    },
    /// The lengths of the rows of the weight beside it.
    RowNorms,
    /// The largest singular values and vectors of the weight beside it, so that the update of this scale is the best of its rank.
    Principal {
        /// Factor of the update.
        scale: f64,
    },
}

impl Method {
    /// Returns the tensors that it adds to a model, in the order of the forward pass.
    ///
    /// Errors: [`Misfit`] when it does not fit the model.
    pub fn added(&self, model: &Architecture) -> Result<Vec<Added>, Misfit> {
        match self {
            Self::Finetune(_) | Self::HeadOnly(_) | Self::BitFit(_) => {
                chosen(self.layers(), model)?;
                Ok(Vec::new())
            }
            Self::Bottleneck(bottleneck) => bottleneck.added(model),
            Self::Prefix(prefix) => prefix.added(model),
            Self::Lora(lora) => lora.added(model),
            Self::AdaLora(adalora) => adalora.added(model),
            Self::Vera(vera) => vera.added(model),
            Self::ConvAdapter(conv) => conv.added(model),
            Self::Ia3(ia3) => ia3.added(model),
        }
    }

    /// True if a tensor of the model, named relative to it, is trained.
    ///
    /// Errors: [`Misfit`] when the method names layers that the model does not have.
    pub fn trains(&self, tensor: &str, model: &Architecture) -> Result<bool, Misfit> {
        let (scope, layers) = match self {
            Self::Finetune(Finetune { scope, layers }) => (*scope, layers),
            Self::BitFit(BitFit { scope, layers }) if last_part(tensor) == "bias" => (*scope, layers),
            _ => return Ok(false),
        };
        Ok(match model.layer_of(tensor) {
            Some((stack, layer)) => chosen(layers.as_ref(), model)?[stack].contains(&layer),
            None => match scope {
                Scope::All => true,
                Scope::AllButConv => model.convolutions.is_none_or(|prefix| !tensor.starts_with(prefix)),
                Scope::LayersOnly => false,
            },
        })
    }
}

fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// Layers of each stack that a method is limited to.
fn chosen(layers: Option<&Layers>, model: &Architecture) -> Result<Vec<Vec<u32>>, Misfit> {
    model.stacks.iter().map(|stack| Layers::or_all(layers, stack)).collect()
}

/// Sites of some kinds in the layers that a method is limited to, in the order of the forward pass.
///
/// Errors: [`Misfit::NoSite`] when the model has none of these kinds.
pub(super) fn sites<'a>(
    method: &'static str,
    kinds: &[SiteKind],
    layers: Option<&Layers>,
    model: &'a Architecture,
) -> Result<Vec<&'a Site>, Misfit> {
    let chosen = chosen(layers, model)?;
    if !model.sites.iter().any(|site| kinds.contains(&site.kind)) {
        let name = |kind: &SiteKind| match kind {
            SiteKind::Linear(linear) => format!("`{}`", linear.name()),
            SiteKind::Block(BlockPosition::Attention) => "`attention`".to_owned(),
            SiteKind::Block(BlockPosition::FeedForward) => "`feed_forward`".to_owned(),
            SiteKind::KeysAndValues => "keys and values".to_owned(),
        };
        return Err(Misfit::NoSite { method, wanted: kinds.iter().map(name).collect() });
    }
    let wanted = |site: &&Site| kinds.contains(&site.kind) && chosen[site.stack].contains(&site.layer);
    Ok(model.sites.iter().filter(wanted).collect())
}

/// Kinds of the sites of these linear layers.
pub(super) fn linears(targets: &[LinearLayer]) -> Vec<SiteKind> {
    targets.iter().copied().map(SiteKind::Linear).collect()
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

    fn added(&self, model: &Architecture) -> Result<Vec<Added>, Misfit> {
        let sites = sites("lora", &linears(&self.targets), self.layers.as_ref(), model)?;
        for pattern in self.rank_pattern.keys().chain(self.alpha_pattern.keys()) {
            if !sites.iter().any(|site| ends_with(&site.name, pattern)) {
                let example = sites.first().map_or_else(String::new, |site| format!("the end of `{}`", site.name));
                return Err(Misfit::NoMatch { pattern: pattern.clone(), example });
            }
        }
        let mut list = Vec::new();
        for Site { name, size_in, size_out, .. } in sites {
            // A PiSSA is saved with twice its rank.
            let (rank, limit) = (self.rank_of(name)?, *size_in.min(size_out) / if self.pissa { 2 } else { 1 });
            if rank < 1 || rank > limit {
                let pattern = only_match(&self.rank_pattern, name)?;
                let setting = pattern.map_or_else(|| "rank".to_owned(), |(end, _)| format!("rank_pattern.{end}"));
                let side = if self.pissa { "half of the smaller side" } else { "the smaller side" };
                return Err(Misfit::Rank { setting, module: name.clone(), rank, limit, side });
            }
            let scale = self.scale_of(name)?;
            // Kaiming uniform with a slope of sqrt(5), which comes to this bound.
            let usual = [Start::Uniform { bound: f64::from(*size_in).sqrt().recip() }, Start::Zeros];
            let [down, up] = if self.pissa { [Start::Principal { scale }; 2] } else { usual };
            list.push(added(name, "lora_A.weight", &[rank, *size_in], down));
            list.push(added(name, "lora_B.weight", &[*size_out, rank], up));
            if self.dora {
                list.push(added(name, "lora_magnitude_vector", &[*size_out], Start::RowNorms));
            }
        }
        Ok(list)
    }
}

/// True if the last parts of a module's name are `end`.
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
    /// True if the input of a linear layer is scaled instead of its output.
    pub fn at_input(&self, linear: LinearLayer) -> bool {
        self.feedforward.contains(&linear)
    }

    fn added(&self, model: &Architecture) -> Result<Vec<Added>, Misfit> {
        let sites = sites("ia3", &linears(&self.targets), self.layers.as_ref(), model)?;
        let shape = |site: &Site| match site.kind {
            SiteKind::Linear(linear) if self.at_input(linear) => [1, site.size_in],
            _ => [site.size_out, 1],
        };
        Ok(sites.into_iter().map(|site| added(&site.name, "ia3_l", &shape(site), Start::Ones)).collect())
    }
}

/// Sites of the blocks at these positions, and the module of the block at each.
fn blocks<'a>(
    method: &'static str,
    positions: &[BlockPosition],
    layers: Option<&Layers>,
    model: &'a Architecture,
) -> Result<Vec<(String, &'a Site)>, Misfit> {
    let kinds: Vec<SiteKind> = positions.iter().copied().map(SiteKind::Block).collect();
    let sites = sites(method, &kinds, layers, model)?;
    Ok(sites.into_iter().map(|site| (format!("{}.adapterblock", site.name), site)).collect())
}

impl Bottleneck {
    fn added(&self, model: &Architecture) -> Result<Vec<Added>, Misfit> {
        let mut list = Vec::new();
        for (block, site) in blocks("bottleneck", &self.places, self.layers.as_ref(), model)? {
            let hidden = site.size_out;
            let dim = self.bottleneck_dim.unwrap_or(hidden / 2);
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
    fn added(&self, model: &Architecture) -> Result<Vec<Added>, Misfit> {
        let mut list = Vec::new();
        for (block, site) in blocks("convadapter", &self.places, self.layers.as_ref(), model)? {
            let hidden = site.size_out;
            let dim = self.bottleneck_dim.unwrap_or(hidden / 2);
            if dim == 0 || !hidden.is_multiple_of(dim) {
                return Err(Misfit::Groups { dim, hidden_size: hidden });
            }
            let gate = hidden / self.reduction.max(1);
            if gate == 0 {
                return Err(Misfit::Reduction { reduction: self.reduction, hidden_size: hidden });
            }
            list.push(added(&block, "layer_norm1.weight", &[hidden], Start::Ones));
            list.push(added(&block, "layer_norm1.bias", &[hidden], Start::Zeros));
            let shapes = [[dim, hidden / dim], [dim, 1], [hidden, 1]];
            for (at, (&[size_out, group_in], &taps)) in shapes.iter().zip(&self.kernel_sizes).enumerate() {
                // Kaiming normal over the inputs, with the gain of a rectifier.
                let std = (2.0 / (f64::from(group_in) * f64::from(taps))).sqrt();
                let start = if self.zero_start && at + 1 == shapes.len() { Start::Zeros } else { Start::Normal { std } };
                list.push(added(&block, &format!("conv{}.weight", at + 1), &[size_out, group_in, taps], start));
            }
            let start = Start::Normal { std: self.init_std };
            list.push(added(&block, "se3.fc.0.weight", &[gate, hidden], start));
            list.push(added(&block, "se3.fc.2.weight", &[hidden, gate], start));
        }
        Ok(list)
    }
}

impl Prefix {
    /// One table for each stack: keys and values of its layers, side by side.
    fn added(&self, model: &Architecture) -> Result<Vec<Added>, Misfit> {
        /// Starting values of transformers' linear layers.
        const LINEAR: Start = Start::Normal { std: 0.02 };
        let sites = sites("prefix", &[SiteKind::KeysAndValues], self.layers.as_ref(), model)?;
        let mut list = Vec::new();
        for (at, stack) in model.stacks.iter().enumerate() {
            let widths: Vec<u32> = sites.iter().filter(|site| site.stack == at).map(|site| site.size_out).collect();
            let Some(&hidden) = widths.first() else { continue };
            let width = 2 * widths.iter().sum::<u32>();
            let part = |name, shape: &[u32], start| added(stack.prefix_table, name, shape, start);
            let table = |width| part("embedding.weight", &[self.prefix_len, width], Start::Normal { std: self.init_std });
            match self.projection {
                None => list.push(table(width)),
                Some(inner) => list.extend([
                    table(hidden),
                    part("trans.0.weight", &[inner, hidden], LINEAR),
                    part("trans.0.bias", &[inner], Start::Zeros),
                    part("trans.2.weight", &[width, inner], LINEAR),
                    part("trans.2.bias", &[width], Start::Zeros),
                ]),
            }
        }
        Ok(list)
    }
}

pub(super) fn added(module: &str, part: &str, shape: &[u32], start: Start) -> Added {
    Added { name: format!("{module}.{part}"), shape: shape.to_vec(), start, trained: true }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sites::Stack;

    /// Two stacks of feed-forward transformer blocks, as in speech synthesis: their attentions have linear layers, the blocks
    /// behind them convolutions.
    fn two_stacks(hidden: u32, depths: [u32; 2]) -> Architecture {
        let names = ["encoder", "decoder"];
        let prefixes = ["encoder.layer_stack.", "decoder.layer_stack."];
        let tables = ["encoder.prefix_encoder", "decoder.prefix_encoder"];
        let stack = |at: usize| {
            let (label, prefix, prefix_table) = (names[at], prefixes[at], tables[at]);
            Stack { label, prefix, prefix_table, num_layers: depths[at] }
        };
        let layers = (0..2).flat_map(|at| (0..depths[at]).map(move |layer| (at, layer)));
        let in_layer = |(stack, layer): (usize, u32)| {
            let site = move |part: &str, kind| Site {
                name: format!("{}{layer}{part}", prefixes[stack]),
                kind,
                stack,
                layer,
                size_in: hidden,
                size_out: hidden,
            };
            [
                site(".slf_attn.w_qs", SiteKind::Linear(LinearLayer::QProj)),
                site(".slf_attn.w_ks", SiteKind::Linear(LinearLayer::KProj)),
                site(".slf_attn.w_vs", SiteKind::Linear(LinearLayer::VProj)),
                site(".slf_attn.fc", SiteKind::Linear(LinearLayer::OutProj)),
                site(".slf_attn", SiteKind::KeysAndValues),
                site("", SiteKind::Block(BlockPosition::FeedForward)),
            ]
        };
        Architecture { stacks: (0..2).map(stack).collect(), sites: layers.flat_map(in_layer).collect(), convolutions: None }
    }

    fn method(text: &str) -> Method {
        serde_json::from_str(text).unwrap()
    }

    fn count(method: &Method, model: &Architecture) -> u32 {
        method.added(model).unwrap().iter().map(|added| added.shape.iter().product::<u32>()).sum()
    }

    const QUERIES_AND_VALUES: &str = r#"{"name":"lora","targets":["q_proj","v_proj"]}"#;

    #[test]
    fn two_stacks_of_different_depth_have_the_published_counts() {
        for (text, published, small) in [
            (r#"{"name":"bottleneck"}"#, 659_200, 46_800),
            (r#"{"name":"convadapter"}"#, 108_800, 10_800),
            (QUERIES_AND_VALUES, 81_920, 15_360),
            (r#"{"name":"prefix"}"#, 153_600, 28_800),
        ] {
            assert_eq!(count(&method(text), &two_stacks(256, [4, 6])), published, "{text}");
            assert_eq!(count(&method(text), &two_stacks(96, [2, 3])), small, "{text}");
        }
    }

    #[test]
    fn names_and_limits_follow_the_stacks() {
        let model = two_stacks(8, [1, 2]);
        let names = |text: &str| method(text).added(&model).unwrap().into_iter().map(|added| added.name).collect::<Vec<_>>();
        let lora = names(r#"{"name":"lora","rank":2,"targets":["q_proj"]}"#);
        assert_eq!(lora.len(), 6);
        assert_eq!(lora[0], "encoder.layer_stack.0.slf_attn.w_qs.lora_A.weight");
        assert_eq!(lora[5], "decoder.layer_stack.1.slf_attn.w_qs.lora_B.weight");
        assert_eq!(
            names(r#"{"name":"prefix"}"#),
            ["encoder.prefix_encoder.embedding.weight", "decoder.prefix_encoder.embedding.weight"]
        );
        let last = method(r#"{"name":"bitfit","scope":"layers_only","layers":{"last":1}}"#);
        let trains = |name: &str| last.trains(name, &model).unwrap();
        assert!(trains("encoder.layer_stack.0.slf_attn.fc.bias") && trains("decoder.layer_stack.1.slf_attn.fc.bias"));
        assert!(!trains("decoder.layer_stack.0.slf_attn.fc.bias") && !trains("decoder.layer_stack.1.slf_attn.fc.weight"));
        let error = method(r#"{"name":"prefix","layers":{"last":2}}"#).added(&model).unwrap_err().to_string();
        assert_eq!(error, "`layers` asks for the last 2, but the encoder has 1 layers");
        let error = method(r#"{"name":"lora","rank":2,"targets":["output_dense"]}"#).added(&model).unwrap_err().to_string();
        assert_eq!(error, "`lora` has nowhere to go: the model has none of `output_dense`");
        assert_eq!(names(r#"{"name":"bottleneck","places":["attention","feed_forward"]}"#).len(), 12);
    }
}
