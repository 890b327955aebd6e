//! One transformer layer, in both styles, and that of Whisper.

use tch::{TchError, Tensor};

use super::bias::BiasGate;
use crate::checkpoint::config::{EncoderConfig, ModelType};
use crate::nn::adapter::BlockAdapter;
use crate::nn::attention::{Attention, Context, KeysAndValues};
use crate::nn::feed_forward::FeedForward;
use crate::nn::frames::Frames;
use crate::nn::linear::Linear;
use crate::nn::norm::LayerNorm;
use crate::nn::pass::Pass;
use crate::nn::weights::Weights;
use crate::peft::Adapters;

/// Surroundings of a layer in one pass: what it looks at besides its input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    /// True where a frame may be attended to, (B, 1, 1, T); none when all may.
    pub(crate) keys: Option<&'a Tensor>,
    /// Bias of the attention's scores by distance, (A, T, T); WavLM alone has it.
    pub(crate) bias: Option<&'a Tensor>,
    /// Which frames are real; none when all count.
    pub(crate) frames: Option<&'a Frames>,
    /// Keys and values in front of those of this layer's attention.
    pub(crate) prefix: Option<&'a KeysAndValues>,
    pub(crate) pass: &'a Pass,
}

/// Attention and a feed-forward block, each with a residual around it: (B, T, H) -> (B, T, H).
#[derive(Debug)]
pub(crate) struct Layer {
    attention: GatedAttention,
    attention_norm: LayerNorm,
    feed_forward: FeedForward,
    feed_forward_norm: LayerNorm,
    style: Style,
    /// An adapter behind the whole layer.
    block: Option<Box<dyn BlockAdapter>>,
    dropout: f64,
}

/// Where the norms sit.
#[derive(Debug)]
enum Style {
    /// Base: behind each residual.
    PostNorm,
    /// Large: in front of each block. MMS checkpoints add a small block of their own.
    PreNorm { mms: Option<MmsAdapter> },
}

/// Names of the modules of a layer.
struct Names {
    /// Prefix of the layers.
    layers: &'static str,
    attention: &'static str,
    attention_norm: &'static str,
    inner: &'static str,
    outer: &'static str,
}

const USUAL: Names = Names {
    layers: "encoder.layers.",
    attention: "attention",
    attention_norm: "layer_norm",
    inner: "feed_forward.intermediate_dense",
    outer: "feed_forward.output_dense",
};
const WHISPER: Names =
    Names { layers: "layers.", attention: "self_attn", attention_norm: "self_attn_layer_norm", inner: "fc1", outer: "fc2" };

impl Layer {
    /// Errors: libtorch's, out of memory.
    pub(crate) fn new(config: &EncoderConfig, weights: &Weights, adapters: &Adapters, index: usize) -> Result<Self, TchError> {
        let names = if config.model_type == ModelType::Whisper { WHISPER } else { USUAL };
        let name = format!("{}{index}", names.layers);
        let norm = |part: &str| LayerNorm::new(weights, &format!("{name}.{part}"), config.layer_norm_eps);
        let style = if config.do_stable_layer_norm {
            Style::PreNorm { mms: config.adapter_attn_dim.map(|_| MmsAdapter::new(config, weights, &name)) }
        } else {
            Style::PostNorm
        };
        Ok(Self {
            attention: GatedAttention::new(config, weights, adapters, &format!("{name}.{}", names.attention))?,
            attention_norm: norm(names.attention_norm),
            feed_forward: FeedForward {
                inner: adapters.linear(weights, &format!("{name}.{}", names.inner))?,
                outer: adapters.linear(weights, &format!("{name}.{}", names.outer))?,
                activation: config.hidden_act,
                dropout: config.activation_dropout,
            },
            feed_forward_norm: norm("final_layer_norm"),
            style,
            block: adapters.block(&name),
            dropout: config.hidden_dropout,
        })
    }

    /// (B, T, H) -> (B, T, H).
    pub(crate) fn forward(&self, x: &Tensor, around: &Surroundings) -> Result<Tensor, TchError> {
        let x = self.without_block(x, around)?;
        match &self.block {
            Some(block) => block.forward(&x, around.frames),
            None => Ok(x),
        }
    }

    fn without_block(&self, x: &Tensor, around: &Surroundings) -> Result<Tensor, TchError> {
        let pass = around.pass;
        match &self.style {
            Style::PostNorm => {
                let attended = self.attention.forward(x, around)?;
                let x = self.attention_norm.forward(&pass.add_dropped(x, &attended, self.dropout)?)?;
                let h = self.feed_forward.forward(&x, pass)?;
                self.feed_forward_norm.forward(&pass.add_dropped(&x, &h, self.dropout)?)
            }
            Style::PreNorm { mms } => {
                let attended = self.attention.forward(&self.attention_norm.forward(x)?, around)?;
                let x = pass.add_dropped(x, &attended, self.dropout)?;
                let h = self.feed_forward.forward(&self.feed_forward_norm.forward(&x)?, pass)?;
                let x = pass.add_dropped(&x, &h, self.dropout)?;
                match mms {
                    Some(adapter) => x.f_add(&adapter.forward(&x, pass)?),
                    None => Ok(x),
                }
            }
        }
    }
}

/// The attention of a layer, with WavLM's gate on its position bias.
#[derive(Debug)]
struct GatedAttention {
    attention: Attention,
    /// WavLM alone has one.
    gate: Option<BiasGate>,
}

impl GatedAttention {
    fn new(config: &EncoderConfig, weights: &Weights, adapters: &Adapters, name: &str) -> Result<Self, TchError> {
        let linear = |part: &str| adapters.linear(weights, &format!("{name}.{part}"));
        let attention = Attention {
            query: linear("q_proj")?,
            key: linear("k_proj")?,
            value: linear("v_proj")?,
            out: linear("out_proj")?,
            block: adapters.block(name),
            num_heads: config.num_attention_heads,
            dropout: config.attention_dropout,
        };
        Ok(Self { attention, gate: (config.model_type == ModelType::Wavlm).then(|| BiasGate::new(weights, name)) })
    }

    fn forward(&self, x: &Tensor, around: &Surroundings) -> Result<Tensor, TchError> {
        let &Surroundings { prefix, frames, pass, .. } = around;
        let projected = self.attention.project(x, pass)?;
        let mask = self.mask(x, around)?;
        self.attention.attend(projected, &Context { mask: mask.as_ref(), prefix, frames, pass })
    }

    /// Which keys count (true or false), or what is added to the scores: minus infinity at keys that do not.
    fn mask(&self, x: &Tensor, around: &Surroundings) -> Result<Option<Tensor>, TchError> {
        let (Some(gate), Some(bias)) = (&self.gate, around.bias) else { return Ok(around.keys.map(Tensor::shallow_clone)) };
        let added = gate.forward(x, bias)?; // (B, A, T, T)
        match around.keys {
            Some(keys) => Ok(Some(added.f_masked_fill(&keys.f_logical_not()?, f64::NEG_INFINITY)?)),
            None => Ok(Some(added)),
        }
    }
}

/// The block that MMS checkpoints have in each layer: `linear_2(relu(linear_1(norm(x))))`.
#[derive(Debug)]
struct MmsAdapter {
    norm: LayerNorm,
    down: Linear,
    up: Linear,
}

impl MmsAdapter {
    fn new(config: &EncoderConfig, weights: &Weights, layer: &str) -> Self {
        let name = format!("{layer}.adapter_layer");
        let linear = |part: &str| Linear::new(weights, &format!("{name}.{part}"), None);
        Self {
            norm: LayerNorm::new(weights, &format!("{name}.norm"), config.layer_norm_eps),
            down: linear("linear_1"),
            up: linear("linear_2"),
        }
    }

    fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor, TchError> {
        self.up.forward(&self.down.forward(&self.norm.forward(x)?, pass)?.f_relu()?, pass)
    }
}
