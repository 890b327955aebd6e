//! Errors of a method that does not fit a model.

/// A method that does not fit a model.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Misfit {
    /// The stack has no such layer.
    #[error("`layers` names layer {layer}, but the {stack} has {num_layers} layers, counted from 0")]
    Layer {
        /// The layer that was asked for.
        layer: u32,
        /// The stack of layers.
        stack: &'static str,
        /// The layers that it has.
        num_layers: u32,
    },
    /// The stack has fewer layers.
    #[error("`layers` asks for the last {last}, but the {stack} has {num_layers} layers")]
    TooManyLayers {
        /// The number that was asked for.
        last: u32,
        /// The stack of layers.
        stack: &'static str,
        /// The layers that it has.
        num_layers: u32,
    },
    /// The model has no site of the kinds that the method needs.
    #[error("`{method}` has nowhere to go: the model has none of {}", wanted.join(", "))]
    NoSite {
        /// Name of the method.
        method: &'static str,
        /// The sites that it asks for.
        wanted: Vec<String>,
    },
    /// An update of this rank would be larger than the layer.
    #[error("`{setting}` is {rank}, but `{module}` of this encoder allows 1 to {limit}, {side} of its weight")]
    Rank {
        /// Setting that asks for the rank: `rank`, or a pattern of `rank_pattern`.
        setting: String,
        /// The layer.
        module: String,
        /// The rank that was asked for.
        rank: u32,
        /// The largest one.
        limit: u32,
        /// What that is.
        side: &'static str,
    },
    /// The channels of a convolution cannot be divided into its groups.
    #[error(
        "`bottleneck_dim` is {dim}, which does not divide the encoder's hidden size {hidden_size}, as the grouped convolutions need"
    )]
    Groups {
        /// The width that was asked for.
        dim: u32,
        /// The width that it must divide.
        hidden_size: u32,
    },
    /// The gate would have no width.
    #[error("`reduction` is {reduction}, which leaves nothing of the encoder's hidden size {hidden_size}")]
    Reduction {
        /// The reduction that was asked for.
        reduction: u32,
        /// The width that is divided by it.
        hidden_size: u32,
    },
    /// A pattern matches no layer.
    #[error("pattern `{pattern}` matches none of the adapted layers, as {example} would")]
    NoMatch {
        /// The end of a name.
        pattern: String,
        /// A layer that is adapted.
        example: String,
    },
    /// Two patterns match one layer.
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
    /// Advice to the user.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Layer { .. } | Self::TooManyLayers { .. } => {
                "name layers that the encoder has in `method.layers`, or leave it out for all of them"
            }
            Self::NoSite { .. } => "choose other `method.targets` or `method.places`, or another method",
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
