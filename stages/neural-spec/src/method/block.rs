//! Methods that add something to whole transformer layers: bottleneck, ConvAdapter, prefix.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::layers::Layers;
use crate::sites::BlockPosition;
use crate::{Mistakes, require, require_positive, require_probability};

/// A small feed-forward block with a residual: `x + up(activation(down(x)))`.
///
/// Source: Houlsby et al. 2019, arXiv:1902.00751. Defaults are those of the benchmark's reference code, which has neither norm nor gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Bottleneck {
    /// Inner width. Default half of the encoder's hidden size.
    #[schemars(range(min = 1))]
    pub bottleneck_dim: Option<u32>,
    /// Activation between the two layers. Default `relu`.
    pub activation: AdapterActivation,
    /// Positions of the blocks. Default behind the whole layer: `["feed_forward"]`.
    pub places: Vec<BlockPosition>,
    /// Standard deviation of the weights at the start; biases start at 0. Default 0.02.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub init_std: f64,
    /// The transformer layers that get one: a list, `{ from, to }` or `{ last }`. Default all.
    pub layers: Option<Layers>,
}

/// An activation function inside an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AdapterActivation {
    /// max(0, x).
    Relu,
    /// The exact (erf) form.
    Gelu,
    /// x * sigmoid(x).
    #[serde(alias = "swish")]
    Silu,
}

impl Default for Bottleneck {
    fn default() -> Self {
        Self {
            bottleneck_dim: None,
            activation: AdapterActivation::Relu,
            places: vec![BlockPosition::FeedForward],
            init_std: 0.02,
            layers: None,
        }
    }
}

impl Bottleneck {
    pub(super) fn check(&self, mistakes: &mut Mistakes) {
        require_positive(mistakes, "method.bottleneck_dim", self.bottleneck_dim.map_or(1.0, f64::from));
        check_places(&self.places, mistakes);
        require_positive(mistakes, "method.init_std", self.init_std);
        Layers::check(self.layers.as_ref(), mistakes);
    }
}

/// Three grouped convolutions over time and a gate over channels, with a residual: ConvAdapter.
///
/// Source: Li et al. 2023, arXiv:2303.03267, section 2.2, and its reference code, whose numbers are the defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConvAdapter {
    /// Inner width; divides the encoder's hidden size. Default half of it.
    #[schemars(range(min = 1))]
    pub bottleneck_dim: Option<u32>,
    /// Taps of the three convolutions, each odd. Default `[3, 5, 3]`.
    pub kernel_sizes: [u32; 3],
    /// Ratio of the hidden size to the width of the gate (squeeze and excitation). Default 16.
    #[schemars(range(min = 1))]
    pub reduction: u32,
    /// True if frames that are padding are left out of training too, so that it does not depend on the batch. Default false, as
    /// published: there the convolutions and the gate see padding. An evaluation computes each clip as if it were alone either way, but in
    /// the protocol `paper`.
    pub masked: bool,
    /// True if the last convolution starts at 0, so that the block changes nothing at first. Default false, as published.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub zero_start: bool,
    /// Positions of the blocks. Default behind the whole layer: `["feed_forward"]`.
    pub places: Vec<BlockPosition>,
    /// Standard deviation of the gate's weights at the start; convolutions start as in He et al. 2015. Default 0.02.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub init_std: f64,
    /// The transformer layers that get one: a list, `{ from, to }` or `{ last }`. Default all.
    pub layers: Option<Layers>,
}

impl Default for ConvAdapter {
    fn default() -> Self {
        Self {
            bottleneck_dim: None,
            kernel_sizes: [3, 5, 3],
            reduction: 16,
            masked: false,
            zero_start: false,
            places: vec![BlockPosition::FeedForward],
            init_std: 0.02,
            layers: None,
        }
    }
}

impl ConvAdapter {
    pub(super) fn check(&self, mistakes: &mut Mistakes) {
        require_positive(mistakes, "method.bottleneck_dim", self.bottleneck_dim.map_or(1.0, f64::from));
        let odd = self.kernel_sizes.iter().all(|size| size % 2 == 1);
        require(mistakes, odd, "method.kernel_sizes", "odd, so that no frame is lost", format!("{:?}", self.kernel_sizes));
        require_positive(mistakes, "method.reduction", self.reduction.into());
        check_places(&self.places, mistakes);
        require_positive(mistakes, "method.init_std", self.init_std);
        Layers::check(self.layers.as_ref(), mistakes);
    }
}

/// Learned keys and values in front of those of every attention.
///
/// Source: Li and Liang 2021, arXiv:2101.00190, in the form of Liu et al. 2021, arXiv:2110.07602. Defaults are those of the
/// benchmark's reference code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Prefix {
    /// Keys, and values, of each layer. Default 30.
    #[schemars(range(min = 1))]
    pub prefix_len: u32,
    /// Inner width of two linear layers with tanh between that make them from a smaller table. Default none: they are the table.
    #[schemars(range(min = 1))]
    pub projection: Option<u32>,
    /// Dropout of keys and values in training. Default 0.1.
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub dropout: f64,
    /// Standard deviation of the table at the start. Default 1.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub init_std: f64,
    /// The transformer layers that get them: a list, `{ from, to }` or `{ last }`. Default all.
    pub layers: Option<Layers>,
}

impl Default for Prefix {
    fn default() -> Self {
        Self { prefix_len: 30, projection: None, dropout: 0.1, init_std: 1.0, layers: None }
    }
}

impl Prefix {
    pub(super) fn check(&self, mistakes: &mut Mistakes) {
        require_positive(mistakes, "method.prefix_len", self.prefix_len.into());
        require_positive(mistakes, "method.projection", self.projection.map_or(1.0, f64::from));
        require_probability(mistakes, "method.dropout", self.dropout);
        require_positive(mistakes, "method.init_std", self.init_std);
        Layers::check(self.layers.as_ref(), mistakes);
    }
}

fn check_places(places: &[BlockPosition], mistakes: &mut Mistakes) {
    let twice = matches!(places, [first, rest @ ..] if rest.contains(first)) || places.len() > 2;
    let sound = !places.is_empty() && !twice;
    require(mistakes, sound, "method.places", "`attention`, `feed_forward` or both", format!("{places:?}"));
}
