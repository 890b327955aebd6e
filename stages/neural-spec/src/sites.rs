//! Sites of a model: where an adapter can be attached. An architecture declares them; methods, their tensors and parameter counts, and
//! the files of adapters follow from the list.

use serde::{Deserialize, Serialize};

/// A linear layer of a transformer layer, by its part in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LinearLayer {
    /// Queries of the attention.
    QProj,
    /// Keys of the attention.
    KProj,
    /// Values of the attention.
    VProj,
    /// Output of the attention.
    OutProj,
    /// First layer of the feed-forward block.
    IntermediateDense,
    /// Second layer of the feed-forward block.
    OutputDense,
}

impl LinearLayer {
    /// All of them, in the order of the forward pass.
    pub const ALL: [Self; 6] = [Self::QProj, Self::KProj, Self::VProj, Self::OutProj, Self::IntermediateDense, Self::OutputDense];

    /// Name of the layer in settings, and of its module in the published encoders.
    pub fn name(self) -> &'static str {
        match self {
            Self::QProj => "q_proj",
            Self::KProj => "k_proj",
            Self::VProj => "v_proj",
            Self::OutProj => "out_proj",
            Self::IntermediateDense => "intermediate_dense",
            Self::OutputDense => "output_dense",
        }
    }

    /// True if it belongs to the attention.
    pub fn is_attention(self) -> bool {
        !matches!(self, Self::IntermediateDense | Self::OutputDense)
    }
}

/// Position of a block in a transformer layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BlockPosition {
    /// Behind the attention's output layer, in front of dropout and residual.
    Attention,
    /// Behind the whole layer: after the residual of the feed-forward block in a pre-norm encoder, after the last norm in a
    /// post-norm encoder.
    FeedForward,
}

/// Kind of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SiteKind {
    /// A linear layer: something beside it.
    Linear(LinearLayer),
    /// The end of a part of a layer: a block behind it.
    Block(BlockPosition),
    /// Keys and values of an attention: more of them in front.
    KeysAndValues,
}

/// A place of a model where an adapter can be attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Name of the module, relative to the model.
    pub name: String,
    /// Kind of the site.
    pub kind: SiteKind,
    /// Index of its stack in [`Architecture::stacks`].
    pub stack: usize,
    /// Layer of that stack, counted from 0.
    pub layer: u32,
    /// Width of the input.
    pub size_in: u32,
    /// Width of the output.
    pub size_out: u32,
}

/// Layers of one shape, one behind the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// Name of the stack in messages: `encoder`.
    pub label: &'static str,
    /// Prefix of the names of its layers: `encoder.layers.` of `encoder.layers.3`.
    pub prefix: &'static str,
    /// Module of the table that prefix tuning adds.
    pub prefix_table: &'static str,
    /// Number of layers.
    pub num_layers: u32,
}

/// A model as methods see it: its stacks of layers, and the sites in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Architecture {
    /// Stacks of layers, in the order of the forward pass.
    pub stacks: Vec<Stack>,
    /// Sites, by stack and layer and in the order of the forward pass.
    pub sites: Vec<Site>,
    /// Prefix of the names of the convolutions over the input, where there are some.
    pub convolutions: Option<&'static str>,
}

impl Architecture {
    /// The architecture of wav2vec 2.0 and its relatives.
    pub fn encoder(hidden_size: u32, intermediate_size: u32, num_layers: u32) -> Self {
        let block = |linear: LinearLayer| if linear.is_attention() { "attention" } else { "feed_forward" };
        let parts = LinearLayer::ALL.map(|linear| (format!("{}.{}", block(linear), linear.name()), linear));
        let widths = [hidden_size, intermediate_size];
        Self::of_layers("encoder.layers.", num_layers, widths, "attention", &parts, Some("feature_extractor."))
    }

    /// The architecture of the Whisper encoder.
    pub fn whisper(hidden_size: u32, intermediate_size: u32, num_layers: u32) -> Self {
        let name = |linear: LinearLayer| match linear {
            LinearLayer::IntermediateDense => "fc1".to_owned(),
            LinearLayer::OutputDense => "fc2".to_owned(),
            _ => format!("self_attn.{}", linear.name()),
        };
        let parts = LinearLayer::ALL.map(|linear| (name(linear), linear));
        Self::of_layers("layers.", num_layers, [hidden_size, intermediate_size], "self_attn", &parts, Some("conv"))
    }

    /// The architecture of Wav2Vec2-BERT, whose layers have two feed-forward blocks.
    pub fn wav2vec2_bert(hidden_size: u32, intermediate_size: u32, num_layers: u32) -> Self {
        let parts = [
            ("ffn1.intermediate_dense", LinearLayer::IntermediateDense),
            ("ffn1.output_dense", LinearLayer::OutputDense),
            ("self_attn.linear_q", LinearLayer::QProj),
            ("self_attn.linear_k", LinearLayer::KProj),
            ("self_attn.linear_v", LinearLayer::VProj),
            ("self_attn.linear_out", LinearLayer::OutProj),
            ("ffn2.intermediate_dense", LinearLayer::IntermediateDense),
            ("ffn2.output_dense", LinearLayer::OutputDense),
        ];
        let parts = parts.map(|(name, linear)| (name.to_owned(), linear));
        Self::of_layers("encoder.layers.", num_layers, [hidden_size, intermediate_size], "self_attn", &parts, None)
    }

    /// One stack of layers with these linear layers, and an attention of this name.
    fn of_layers(
        prefix: &'static str,
        num_layers: u32,
        [hidden_size, intermediate_size]: [u32; 2],
        attention: &str,
        parts: &[(String, LinearLayer)],
        convolutions: Option<&'static str>,
    ) -> Self {
        let same = [hidden_size, hidden_size];
        let mut sites = Vec::new();
        for layer in 0..num_layers {
            let mut site = |part: &str, kind, [size_in, size_out]: [u32; 2]| {
                let dot = if part.is_empty() { "" } else { "." };
                let name = format!("{prefix}{layer}{dot}{part}");
                sites.push(Site { name, kind, stack: 0, layer, size_in, size_out });
            };
            for (part, linear) in parts {
                let widths = match linear {
                    LinearLayer::IntermediateDense => [hidden_size, intermediate_size],
                    LinearLayer::OutputDense => [intermediate_size, hidden_size],
                    _ => same,
                };
                site(part, SiteKind::Linear(*linear), widths);
            }
            site(attention, SiteKind::KeysAndValues, same);
            site(attention, SiteKind::Block(BlockPosition::Attention), same);
            site("", SiteKind::Block(BlockPosition::FeedForward), same);
        }
        let stack = Stack { label: "encoder", prefix, prefix_table: "prefix_encoder", num_layers };
        Self { sites, stacks: vec![stack], convolutions }
    }

    /// The acoustic model of speech synthesis: an encoder and a decoder of one width. Its feed-forward layers are convolutions, and no
    /// sites of linear layers.
    pub fn acoustic(hidden_size: u32, [encoder_layers, decoder_layers]: [u32; 2]) -> Self {
        let stack = |label, prefix, prefix_table, num_layers| Stack { label, prefix, prefix_table, num_layers };
        let stacks = vec![
            stack("encoder", "encoder.layer_stack.", "encoder.prefix", encoder_layers),
            stack("decoder", "decoder.layer_stack.", "decoder.prefix", decoder_layers),
        ];
        let linears = [
            ("w_qs", LinearLayer::QProj),
            ("w_ks", LinearLayer::KProj),
            ("w_vs", LinearLayer::VProj),
            ("fc", LinearLayer::OutProj),
        ];
        let mut sites = Vec::new();
        for (at, stack) in stacks.iter().enumerate() {
            for layer in 0..stack.num_layers {
                let mut site = |part: &str, kind| {
                    let name = format!("{}{layer}{part}", stack.prefix);
                    sites.push(Site { name, kind, stack: at, layer, size_in: hidden_size, size_out: hidden_size });
                };
                for (part, linear) in linears {
                    site(&format!(".slf_attn.{part}"), SiteKind::Linear(linear));
                }
                site(".slf_attn", SiteKind::KeysAndValues);
                site("", SiteKind::Block(BlockPosition::FeedForward));
            }
        }
        Self { stacks, sites, convolutions: None }
    }

    /// Returns the stack and the layer that a tensor or module belongs to; none outside of the stacks.
    pub fn layer_of(&self, name: &str) -> Option<(usize, u32)> {
        let of = |stack: &Stack| name.strip_prefix(stack.prefix)?.split('.').next()?.parse().ok();
        self.stacks.iter().enumerate().find_map(|(at, stack)| Some((at, of(stack)?)))
    }

    /// Returns the linear layer of this name; none where no adapter can be attached.
    pub fn linear(&self, name: &str) -> Option<LinearLayer> {
        self.sites.iter().find_map(|site| match site.kind {
            SiteKind::Linear(linear) if site.name == name => Some(linear),
            _ => None,
        })
    }
}
