//! Conformer layers of Wav2Vec2-BERT.
//!
//! Source: Gulati et al. 2020, arXiv:2005.08100; distances between frames enter the attention as in Shaw et al. 2018, arXiv:1803.02155, on
//! the side of the keys; the convolution sees the past alone, as in the published model.

use tch::{Device, Kind, TchError, Tensor};

use super::layer::Surroundings;
use crate::checkpoint::config::EncoderConfig;
use crate::checkpoint::config::frames::Conformer as Shape;
use crate::nn::activation::Activation;
use crate::nn::adapter::BlockAdapter;
use crate::nn::attention::{Attention, Context};
use crate::nn::feed_forward::FeedForward;
use crate::nn::frames::Frames;
use crate::nn::norm::LayerNorm;
use crate::nn::pass::Pass;
use crate::nn::weights::{Weights, tensor};
use crate::peft::Adapters;

/// Half a feed-forward block, attention, convolution, half a feed-forward block, each with a residual around it, and a norm:
/// (B, T, H) -> (B, T, H).
#[derive(Debug)]
pub(crate) struct ConformerLayer {
    feed_forwards: [(LayerNorm, FeedForward); 2],
    attention_norm: LayerNorm,
    attention: Attention,
    distances: Distances,
    convolution: Convolution,
    norm: LayerNorm,
    /// An adapter behind the whole layer.
    block: Option<Box<dyn BlockAdapter>>,
    hidden_dropout: f64,
}

impl ConformerLayer {
    /// Errors: libtorch's, out of memory.
    pub(crate) fn new(
        config: &EncoderConfig,
        shape: &Shape,
        weights: &Weights,
        adapters: &Adapters,
        index: usize,
    ) -> Result<Self, TchError> {
        let name = format!("encoder.layers.{index}");
        let norm = |part: &str| LayerNorm::new(weights, &format!("{name}.{part}"), config.layer_norm_eps);
        let linear = |part: &str| adapters.linear(weights, &format!("{name}.{part}"));
        let feed_forward = |part: &str| {
            let block = FeedForward {
                inner: linear(&format!("{part}.intermediate_dense"))?,
                outer: linear(&format!("{part}.output_dense"))?,
                activation: config.hidden_act,
                dropout: config.activation_dropout,
            };
            Ok::<_, TchError>((norm(&format!("{part}_layer_norm")), block))
        };
        let attention = Attention {
            query: linear("self_attn.linear_q")?,
            key: linear("self_attn.linear_k")?,
            value: linear("self_attn.linear_v")?,
            out: linear("self_attn.linear_out")?,
            block: adapters.block(&format!("{name}.self_attn")),
            num_heads: config.num_attention_heads,
            dropout: config.attention_dropout,
        };
        Ok(Self {
            feed_forwards: [feed_forward("ffn1")?, feed_forward("ffn2")?],
            attention_norm: norm("self_attn_layer_norm"),
            attention,
            distances: Distances {
                embedding: tensor(weights, &format!("{name}.self_attn.distance_embedding.weight")),
                left: shape.left_max_position_embeddings,
                right: shape.right_max_position_embeddings,
            },
            convolution: Convolution::new(config, shape, weights, &format!("{name}.conv_module")),
            norm: norm("final_layer_norm"),
            block: adapters.block(&name),
            hidden_dropout: config.hidden_dropout,
        })
    }

    /// (B, T, H) -> (B, T, H).
    pub(crate) fn forward(&self, x: &Tensor, around: &Surroundings) -> Result<Tensor, TchError> {
        let &Surroundings { prefix, frames, pass, .. } = around;
        let [first, second] = &self.feed_forwards;
        let x = self.add_half(x, first, pass)?;

        let h = self.attention_norm.forward(&x)?;
        let projected = self.attention.project(&h, pass)?;
        let bias = self.distances.forward(projected.query())?; // (B, A, T, T)
        let mask = match around.keys {
            Some(keys) => bias.f_masked_fill(&keys.f_logical_not()?, f64::NEG_INFINITY)?,
            None => bias,
        };
        let attended = self.attention.attend(projected, &Context { mask: Some(&mask), prefix, frames, pass })?;
        let x = pass.add_dropped(&x, &attended, self.attention.dropout)?;

        let x = x.f_add(&self.convolution.forward(&x, frames, pass)?)?;
        let x = self.norm.forward(&self.add_half(&x, second, pass)?)?;
        match &self.block {
            Some(block) => block.forward(&x, frames),
            None => Ok(x),
        }
    }

    fn add_half(&self, x: &Tensor, (norm, block): &(LayerNorm, FeedForward), pass: &Pass) -> Result<Tensor, TchError> {
        let h = block.forward(&norm.forward(x)?, pass)?;
        x.f_add(&pass.dropout(&h, self.hidden_dropout)?.f_mul_scalar(0.5)?)
    }
}

/// Learned embeddings of distances between frames. All distances beyond the ends share the last one.
#[derive(Debug)]
struct Distances {
    /// (left + right + 1, D).
    embedding: Tensor,
    left: i64,
    right: i64,
}

impl Distances {
    /// Queries (B, A, T, D) -> what is added to their scores, (B, A, T, T).
    fn forward(&self, query: &Tensor) -> Result<Tensor, TchError> {
        let (batch, heads, frames, width) = query.size4()?;
        let scale = (width as f64).sqrt().recip();
        let scores = query.f_matmul(&self.embedding.f_transpose(0, 1)?)?.f_mul_scalar(scale)?; // (B, A, T, distances)
        let index = self.index(frames, query.device())?.f_expand([batch, heads, frames, frames], false)?;
        scores.f_gather(-1, &index, false)
    }

    /// Row of the embedding for each query and key, (T, T).
    fn index(&self, frames: i64, device: Device) -> Result<Tensor, TchError> {
        let position = Tensor::f_arange(frames, (Kind::Int64, device))?;
        let distance = position.f_unsqueeze(0)?.f_sub(&position.f_unsqueeze(1)?)?;
        distance.f_clamp(-self.left, self.right)?.f_add_scalar(self.left)
    }
}

/// A gated convolution over the frames so far, each channel by itself.
#[derive(Debug)]
struct Convolution {
    norm: LayerNorm,
    /// (2 * H, H, 1), without bias.
    widen: Tensor,
    /// (H, 1, taps), without bias.
    depthwise: Tensor,
    depthwise_norm: LayerNorm,
    activation: Activation,
    /// (H, H, 1), without bias.
    mix: Tensor,
    dropout: f64,
}

impl Convolution {
    fn new(config: &EncoderConfig, shape: &Shape, weights: &Weights, name: &str) -> Self {
        let norm = |part: &str| LayerNorm::new(weights, &format!("{name}.{part}"), config.layer_norm_eps);
        let weight = |part: &str| tensor(weights, &format!("{name}.{part}.weight"));
        Self {
            norm: norm("layer_norm"),
            widen: weight("pointwise_conv1"),
            depthwise: weight("depthwise_conv"),
            depthwise_norm: norm("depthwise_layer_norm"),
            activation: config.hidden_act,
            mix: weight("pointwise_conv2"),
            dropout: shape.conformer_conv_dropout,
        }
    }

    /// (B, T, H) -> (B, T, H). Padding counts as silence.
    fn forward(&self, x: &Tensor, frames: Option<&Frames>, pass: &Pass) -> Result<Tensor, TchError> {
        let pointwise = |x: &Tensor, weight: &Tensor| x.f_linear(&weight.f_squeeze_dim(-1)?, None::<Tensor>);
        let mut h = self.norm.forward(x)?;
        if let Some(frames) = frames {
            h = frames.zero_padding(&h)?;
        }
        let h = pointwise(&h, &self.widen)?.f_glu(-1)?.f_transpose(1, 2)?; // (B, H, T)
        let &[channels, _, taps] = self.depthwise.size().as_slice() else {
            return Err(TchError::Shape("expected (H, 1, taps)".to_owned()));
        };
        let h = h.f_constant_pad_nd([taps - 1, 0])?.f_conv1d(&self.depthwise, None::<Tensor>, 1, 0, 1, channels)?;
        let h = self.activation.replace(self.depthwise_norm.forward(&h.f_transpose(1, 2)?)?)?;
        pass.dropout(&pointwise(&h, &self.mix)?, self.dropout)
    }
}
