//! A layer of encoder and decoder, and stacks of them.

use std::cell::RefCell;
use std::collections::BTreeMap;

use tch::{Device, Kind, TchError, Tensor};

use super::convolution::Convolution;
use super::shape::Shape;
use crate::nn::adapter::BlockAdapter;
use crate::nn::attention::{Attention, Context, KeysAndValues};
use crate::nn::frames::Frames;
use crate::nn::norm::LayerNorm;
use crate::nn::pass::Pass;
use crate::nn::weights::Weights;
use crate::peft::Adapters;

/// Epsilon of all layer norms.
pub(super) const NORM_EPS: f64 = 1e-5;

/// A layer: attention, then two convolutions, each with a residual and a norm behind; then the adapter.
///
/// Shapes: (B, T, H) -> (B, T, H). Padding is zero behind the attention and at the end.
/// Source: Ren et al. 2021, arXiv:2006.04558, section 2.2, in the form of ming024/FastSpeech2.
#[derive(Debug)]
pub(super) struct FftBlock {
    attention: Attention,
    norms: [LayerNorm; 2],
    convolutions: [Convolution; 2],
    adapter: Option<Box<dyn BlockAdapter>>,
    dropout: f64,
}

impl FftBlock {
    pub(super) fn new(weights: &Weights, name: &str, heads: i64, dropout: f64, adapters: &Adapters) -> Result<Self, TchError> {
        let linear = |part: &str| adapters.linear(weights, &format!("{name}.slf_attn.{part}"));
        Ok(Self {
            attention: Attention {
                query: linear("w_qs")?,
                key: linear("w_ks")?,
                value: linear("w_vs")?,
                out: linear("fc")?,
                block: None,
                num_heads: heads,
                dropout: 0.0,
            },
            norms: ["slf_attn", "pos_ffn"].map(|part| LayerNorm::new(weights, &format!("{name}.{part}.layer_norm"), NORM_EPS)),
            convolutions: ["w_1", "w_2"].map(|part| Convolution::new(weights, &format!("{name}.pos_ffn.{part}"))),
            adapter: adapters.block(name),
            dropout,
        })
    }

    pub(super) fn forward(
        &self,
        x: &Tensor,
        frames: &Frames,
        prefix: Option<&KeysAndValues>,
        pass: &Pass,
    ) -> Result<Tensor, TchError> {
        let mask = frames.keys()?;
        let context = Context { mask: mask.as_ref(), prefix, frames: Some(frames), pass };
        let attended = self.attention.attend(self.attention.project(x, pass)?, &context)?;
        let x = frames.zero_padding(&self.norms[0].forward(&pass.add_dropped(x, &attended, self.dropout)?)?)?;
        let wide = self.convolutions[0].forward(&x.f_transpose(1, 2)?)?.f_relu()?;
        let convolved = self.convolutions[1].forward(&wide)?.f_transpose(1, 2)?;
        let x = self.norms[1].forward(&pass.add_dropped(&x, &convolved, self.dropout)?)?;
        match &self.adapter {
            Some(adapter) => frames.zero_padding(&adapter.forward(&x, Some(frames))?),
            None => frames.zero_padding(&x),
        }
    }
}

/// Encoder or decoder without its embedding: positions are marked, then the layers run one behind the other.
#[derive(Debug)]
pub(super) struct LayerStack {
    blocks: Vec<FftBlock>,
    /// Index of its first layer among those of the model, for their noise.
    first: usize,
    /// Marks of the positions that were needed so far.
    marks: RefCell<Option<Tensor>>,
}

impl LayerStack {
    /// `name` is `encoder` or `decoder`.
    pub(super) fn new(weights: &Weights, name: &str, shape: &Shape, adapters: &Adapters) -> Result<Self, TchError> {
        let (first, layers) = match name {
            "encoder" => (0, shape.encoder_layers),
            _ => (shape.encoder_layers, shape.decoder_layers),
        };
        let block =
            |layer: usize| FftBlock::new(weights, &format!("{name}.layer_stack.{layer}"), shape.heads, shape.dropout, adapters);
        Ok(Self { blocks: (0..layers).map(block).collect::<Result<_, _>>()?, first, marks: RefCell::new(None) })
    }

    /// (B, T, H) -> (B, T, H).
    pub(super) fn forward(
        &self,
        x: &Tensor,
        frames: &Frames,
        prefixes: &BTreeMap<usize, KeysAndValues>,
        pass: &Pass,
    ) -> Result<Tensor, TchError> {
        let (_, length, hidden) = x.size3()?;
        let known = self.marks.borrow_mut().take().filter(|marks| marks.size()[0] >= length && marks.device() == x.device());
        let marks = known.map_or_else(|| sinusoids(length, hidden, x.device()), Ok)?;
        let mut x = frames.zero_padding(&x.f_add(&marks.f_narrow(0, 0, length)?)?)?;
        self.marks.replace(Some(marks));
        for (layer, block) in self.blocks.iter().enumerate() {
            pass.begin_layer(self.first + layer);
            x = block.forward(&x, frames, prefixes.get(&layer), pass)?;
        }
        Ok(x)
    }
}

/// Marks of positions, (T, H): `sin` at even places, `cos` at odd ones, of `t / 10000^(2 floor(i / 2) / H)`. Computed for any length;
/// published checkpoints hold a table of the first thousand.
/// Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.
pub(super) fn sinusoids(length: i64, hidden: i64, device: Device) -> Result<Tensor, TchError> {
    let angle = |t: i64, i: i64| t as f64 / 10_000_f64.powf((2 * (i / 2)) as f64 / hidden as f64);
    let mark = |at: i64| {
        let (t, i) = (at / hidden, at % hidden);
        (if i % 2 == 0 { angle(t, i).sin() } else { angle(t, i).cos() }) as f32
    };
    let values: Vec<f32> = (0..length * hidden).map(mark).collect();
    Tensor::f_from_slice(&values)?.f_view([length, hidden])?.f_to_device(device)?.f_to_kind(Kind::Float)
}
