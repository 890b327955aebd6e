//! One transformer layer, in both styles.

use tch::{Device, Kind, TchError, Tensor};

use super::bias::BiasGate;
use super::modules::{LayerNorm, Linear};
use super::{Frames, Pass};
use crate::adapters::{Adapters, Block, KeysAndValues};
use crate::checkpoint::{Activation, EncoderConfig, ModelType, Weights};

/// What every layer of one pass sees beside its input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    /// True where a frame may be attended to, (B, 1, 1, T); none when all may.
    pub(crate) keys: Option<&'a Tensor>,
    /// What distances add to the scores of the attention, (A, T, T); WavLM alone has it.
    pub(crate) bias: Option<&'a Tensor>,
    /// Which frames are real; none when all count.
    pub(crate) frames: Option<&'a Frames>,
    /// What this layer's attention has in front of its keys and values.
    pub(crate) prefix: Option<&'a KeysAndValues>,
    pub(crate) pass: &'a Pass,
}

/// Attention and a feed-forward block, each with a residual around it: (B, T, H) -> (B, T, H).
#[derive(Debug)]
pub(crate) struct Layer {
    attention: Attention,
    attention_norm: LayerNorm,
    feed_forward: FeedForward,
    feed_forward_norm: LayerNorm,
    style: Style,
    /// An adapter behind the whole layer.
    block: Option<Block>,
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

impl Layer {
    /// Errors: libtorch's, out of memory.
    pub(crate) fn new(config: &EncoderConfig, weights: &Weights, adapters: &Adapters, index: usize) -> Result<Self, TchError> {
        let name = format!("encoder.layers.{index}");
        let norm = |part: &str| LayerNorm::new(weights, &format!("{name}.{part}"), config.layer_norm_eps);
        let style = if config.do_stable_layer_norm {
            Style::PreNorm { mms: config.adapter_attn_dim.map(|_| MmsAdapter::new(config, weights, &name)).transpose()? }
        } else {
            Style::PostNorm
        };
        Ok(Self {
            attention: Attention::new(config, weights, adapters, &format!("{name}.attention"))?,
            attention_norm: norm("layer_norm"),
            feed_forward: FeedForward::new(config, weights, adapters, &format!("{name}.feed_forward"))?,
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

/// Self-attention with several heads.
#[derive(Debug)]
struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    /// An adapter behind the output.
    block: Option<Block>,
    num_heads: i64,
    /// WavLM alone has one.
    gate: Option<BiasGate>,
    dropout: f64,
}

impl Attention {
    fn new(config: &EncoderConfig, weights: &Weights, adapters: &Adapters, name: &str) -> Result<Self, TchError> {
        let linear = |part: &str| Linear::new(weights, &format!("{name}.{part}"), adapters);
        Ok(Self {
            query: linear("q_proj")?,
            key: linear("k_proj")?,
            value: linear("v_proj")?,
            out: linear("out_proj")?,
            block: adapters.block(name),
            num_heads: config.num_attention_heads,
            gate: (config.model_type == ModelType::Wavlm).then(|| BiasGate::new(weights, name)),
            dropout: config.attention_dropout,
        })
    }

    fn forward(&self, x: &Tensor, around: &Surroundings) -> Result<Tensor, TchError> {
        let pass = around.pass;
        let &[batch, frames, hidden] = x.size().as_slice() else { return Err(TchError::Shape("expected (B, T, H)".to_owned())) };
        let heads = |made: &Tensor| {
            let split = [batch, frames, self.num_heads, hidden / self.num_heads];
            made.f_view(split)?.f_transpose(1, 2) // (B, A, T, D)
        };
        let [query, key, value] = Linear::forward_all([&self.query, &self.key, &self.value], x, pass)?;
        let (query, mut key, mut value) = (heads(&query)?, heads(&key)?, heads(&value)?);
        let mut mask = self.mask(x, around)?;
        if let Some(prefix) = around.prefix {
            (key, value) = prefix.extend(&key, &value, pass)?;
            mask = mask.map(|mask| prefix.extend_mask(&mask)).transpose()?;
        }
        let mixed = mix([&query, &key, &value], mask.as_ref(), self.dropout, pass)?;
        let merged = mixed.f_transpose(1, 2)?.f_reshape([batch, frames, hidden])?;
        let output = self.out.forward(&merged, pass)?;
        match &self.block {
            Some(block) => block.forward(&output, around.frames),
            None => Ok(output),
        }
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

/// Attention of queries (B, A, T, D) to keys and values (B, A, S, D): softmax of the scaled scores, thinned in training, times the values.
fn mix([query, key, value]: [&Tensor; 3], mask: Option<&Tensor>, dropout: f64, pass: &Pass) -> Result<Tensor, TchError> {
    let dropout = pass.probability(dropout);
    if dropout == 0.0 || query.device() != Device::Cpu {
        return Tensor::f_scaled_dot_product_attention(query, key, value, mask, dropout, false, None, false);
    }
    // Libtorch takes these steps, too, when it drops something on a CPU, but draws one number after the other.
    let scale = (*query.size().last().unwrap_or(&1) as f64).sqrt().recip();
    let mut scores = query.f_mul_scalar(scale)?.f_matmul(&key.f_transpose(-2, -1)?)?; // (B, A, T, S)
    if let Some(mask) = mask {
        scores = match mask.kind() {
            Kind::Bool => scores.f_masked_fill(&mask.f_logical_not()?, f64::NEG_INFINITY)?,
            _ => scores.f_add(mask)?,
        };
    }
    pass.dropout(&scores.f_softmax(-1, scores.kind())?, dropout)?.f_matmul(value)
}

/// Two linear layers with an activation between.
#[derive(Debug)]
struct FeedForward {
    inner: Linear,
    outer: Linear,
    activation: Activation,
    dropout: f64,
}

impl FeedForward {
    fn new(config: &EncoderConfig, weights: &Weights, adapters: &Adapters, name: &str) -> Result<Self, TchError> {
        Ok(Self {
            inner: Linear::new(weights, &format!("{name}.intermediate_dense"), adapters)?,
            outer: Linear::new(weights, &format!("{name}.output_dense"), adapters)?,
            activation: config.hidden_act,
            dropout: config.activation_dropout,
        })
    }

    fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor, TchError> {
        let h = pass.activate_and_drop(self.activation, self.inner.forward(x, pass)?, self.dropout)?;
        self.outer.forward(&h, pass)
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
    fn new(config: &EncoderConfig, weights: &Weights, layer: &str) -> Result<Self, TchError> {
        let name = format!("{layer}.adapter_layer");
        let linear = |part: &str| Linear::new(weights, &format!("{name}.{part}"), &Adapters::new());
        Ok(Self {
            norm: LayerNorm::new(weights, &format!("{name}.norm"), config.layer_norm_eps),
            down: linear("linear_1")?,
            up: linear("linear_2")?,
        })
    }

    fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor, TchError> {
        self.up.forward(&self.down.forward(&self.norm.forward(x)?, pass)?.f_relu()?, pass)
    }
}
