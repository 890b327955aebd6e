//! Encoders over waveforms: wav2vec 2.0, HuBERT, WavLM, `UniSpeech`, `UniSpeech-SAT` and data2vec-audio, in the base (post-norm) and the
//! large (pre-norm) style; and over feature frames: the encoder of Whisper, and Wav2Vec2-BERT.
//!
//! Source: Baevski et al. 2020, arXiv:2006.11477; where the published models differ from the paper, they are followed.

mod bias;
mod conformer;
pub(crate) mod convolutions;
mod layer;
mod position;
mod projection;
pub mod random;
mod recompute;
pub mod spec_augment;
mod stem;

use std::cell::RefCell;

use tch::{TchError, Tensor};

use self::bias::PositionBias;
use self::conformer::ConformerLayer;
use self::layer::{Layer, Surroundings};
use self::position::Position;
use self::recompute::{Recompute, backward_from};
use self::stem::Stem;
use crate::checkpoint::config::frames::FrameInput;
use crate::checkpoint::config::{EncoderConfig, ModelType};
use crate::checkpoint::weights::MASK_EMBEDDING;
use crate::nn::frames::Frames;
use crate::nn::norm::LayerNorm;
use crate::nn::pass::Pass;
use crate::nn::weights::Weights;
use crate::peft::{Adapters, Prefix};

/// An encoder on one device. It shares its tensors with the weights it was made from.
///
/// Only what requires a gradient, and what lies above it, keeps a graph: nothing here asks for one of its own accord.
#[derive(Debug)]
pub struct Encoder {
    config: EncoderConfig,
    stem: Stem,
    /// Whisper has none.
    mask_embedding: Option<Tensor>,
    /// Wav2Vec2-BERT has none.
    norm: Option<LayerNorm>,
    /// WavLM alone has one.
    bias: Option<PositionBias>,
    layers: Vec<AnyLayer>,
    prefix: Option<Prefix>,
    recomputes: bool,
    /// Layers of the last training pass that are to be computed again.
    pending: RefCell<Option<Recompute>>,
}

/// A layer of whichever family.
#[derive(Debug)]
enum AnyLayer {
    Transformer(Box<Layer>),
    Conformer(Box<ConformerLayer>),
}

impl AnyLayer {
    fn forward(&self, x: &Tensor, around: &Surroundings) -> Result<Tensor, TchError> {
        match self {
            Self::Transformer(layer) => layer.forward(x, around),
            Self::Conformer(layer) => layer.forward(x, around),
        }
    }
}

/// Input of an encoder.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// (B, S), zero padded on the right; or (B, T, C), what [`crate::front::Front`] made of each utterance, or the feature frames that the
    /// encoder reads, likewise padded.
    pub audio: &'a Tensor,
    /// Samples of each utterance; none to treat padding as sound, as checkpoints without attention mask do.
    pub num_samples: Option<&'a [i64]>,
    /// Frames to mask, (B, T), in the place of randomly chosen ones.
    pub masked: Option<&'a Tensor>,
}

/// Output of an encoder.
#[derive(Debug)]
pub struct Output {
    /// (B, T, H).
    pub last_hidden_state: Tensor,
    /// Which frames are real; none when no lengths were given.
    pub frames: Option<Frames>,
}

/// A point of the forward pass that can be watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Output of the convolutions, (B, T, C).
    ConvFeatures,
    /// Output of the feature projection, before any mask, (B, T, H).
    Projected,
    /// Output of the positional convolution, (B, T, H).
    Position,
    /// Bias of the attention's scores by distance, before a layer's gate, (A, T, T); WavLM alone has it.
    PositionBias,
    /// Input of a transformer layer, (B, T, H).
    LayerInput(usize),
    /// Output of the last layer, before the final norm of a pre-norm encoder, (B, T, H).
    LastLayer,
}

impl Encoder {
    /// Builds an encoder around weights that [`crate::checkpoint::weights::read`] has checked. Call it after deciding which of them
    /// require a gradient.
    pub fn new(config: &EncoderConfig, weights: &Weights, adapters: &Adapters) -> Result<Self, TchError> {
        Ok(Self {
            stem: Stem::new(config, weights)?,
            mask_embedding: weights.get(MASK_EMBEDDING).map(Tensor::shallow_clone),
            norm: match config.frames {
                None => Some(LayerNorm::new(weights, "encoder.layer_norm", config.layer_norm_eps)),
                Some(FrameInput::Whisper { .. }) => Some(LayerNorm::new(weights, "layer_norm", config.layer_norm_eps)),
                Some(FrameInput::Wav2Vec2Bert(_)) => None,
            },
            bias: (config.model_type == ModelType::Wavlm).then(|| PositionBias::new(config, weights)),
            layers: (0..config.num_hidden_layers)
                .map(|index| match &config.frames {
                    Some(FrameInput::Wav2Vec2Bert(shape)) => ConformerLayer::new(config, shape, weights, adapters, index)
                        .map(|layer| AnyLayer::Conformer(Box::new(layer))),
                    _ => Layer::new(config, weights, adapters, index).map(|layer| AnyLayer::Transformer(Box::new(layer))),
                })
                .collect::<Result<_, _>>()?,
            prefix: adapters.prefix(0),
            recomputes: false,
            pending: RefCell::new(None),
            config: config.clone(),
        })
    }

    /// Lets training keep no activations of layers, and compute each layer again when its gradient is due: the memory of one
    /// layer in the place of all, for one more forward pass. The numbers stay the same. [`Self::backward`] must then be used.
    pub fn recompute_layers(&mut self, on: bool) {
        self.recomputes = on;
    }

    /// Goes backward from a loss that was computed from the last training pass.
    pub fn backward(&self, loss: &Tensor) -> Result<(), TchError> {
        loss.f_backward()?;
        let Some(pending) = self.pending.take() else { return Ok(()) };
        let Recompute { keys, frames, pass, .. } = &pending;
        for step in pending.steps.iter().rev() {
            // Made anew for every layer: a graph serves one backward pass only.
            let bias = self.bias.as_ref().map(|bias| bias.forward(step.input.size()[1])).transpose()?;
            let prefix = self.prefix.as_ref().map(Prefix::unroll).transpose()?.unwrap_or_default();
            let prefix = prefix.get(&step.layer);
            let around = Surroundings { keys: keys.as_ref(), bias: bias.as_ref(), frames: frames.as_ref(), prefix, pass };
            pass.begin_layer(step.layer);
            let output = self.layers[step.layer].forward(&step.input, &around)?;
            backward_from(&output, &step.output.grad())?;
        }
        pending.finish()
    }

    /// Runs the encoder; `watch` sees the tensors on the way.
    ///
    /// Audio shorter than [`EncoderConfig::receptive_field`] is zero padded to one frame.
    pub fn forward(&self, input: Input, pass: &Pass, watch: &mut dyn FnMut(Point, &Tensor)) -> Result<Output, TchError> {
        let config = &self.config;
        let features = match &self.stem {
            Stem::Waveform { conv, .. } if input.audio.dim() != 3 => conv.forward(&self.long_enough(input.audio)?, pass)?,
            _ => input.audio.shallow_clone(),
        }; // (B, T, C), of Whisper two frames for one
        watch(Point::ConvFeatures, &features);
        let of = |num_frames: i64, count: &dyn Fn(i64) -> i64| {
            let counts = input.num_samples.map(|samples| samples.iter().map(|&samples| count(samples)).collect::<Vec<_>>());
            counts.map(|counts| Frames::new(&counts, num_frames, features.device())).transpose()
        };
        let input_frames = of(features.size()[1], &|samples| config.num_input_frames(samples))?;
        let projected = self.stem.project(&features, input_frames.as_ref(), pass)?; // (B, T, H)
        watch(Point::Projected, &projected);
        let num_frames = projected.size()[1];
        let frames = of(num_frames, &|samples| config.num_frames(samples))?;
        let frames = frames.map(|frames| Frames { alone: pass.is_alone(), ..frames });
        let mut x = match (input.masked, &self.mask_embedding) {
            (_, None) => projected,
            (Some(mask), Some(embedding)) => spec_augment::replace_frames(&projected, mask, embedding)?,
            (None, Some(embedding)) => spec_augment::apply(config, &projected, embedding, frames.as_ref(), pass)?,
        };
        let mut keys = None;
        if let Some(frames) = &frames {
            x = frames.zero_padding(&x)?;
            keys = frames.keys()?;
        }

        if let Some(position) = self.stem.position(&x, frames.as_ref())? {
            watch(Point::Position, &position);
            x = x.f_add(&position)?;
        }
        if let Some(norm) = self.norm.as_ref().filter(|_| !config.do_stable_layer_norm) {
            x = norm.forward(&x)?;
        }
        x = pass.dropout(&x, config.hidden_dropout)?;
        let bias = self.bias.as_ref().map(|bias| bias.forward(num_frames)).transpose()?;
        if let Some(bias) = &bias {
            watch(Point::PositionBias, bias);
        }
        let prefix = self.prefix.as_ref().map(Prefix::unroll).transpose()?.unwrap_or_default();
        let around = Surroundings { keys: keys.as_ref(), bias: bias.as_ref(), frames: frames.as_ref(), prefix: None, pass };
        let mut recompute = (self.recomputes && pass.trains()).then(|| Recompute::new(pass, keys.as_ref(), frames.as_ref()));
        if let Some(recompute) = &mut recompute {
            x = recompute.begin(x)?;
        }
        for (index, layer) in self.layers.iter().enumerate() {
            watch(Point::LayerInput(index), &x);
            // The published WavLM makes its position bias in layer 0 and never skips it.
            let always = index == 0 && self.bias.is_some();
            if always || !pass.happens(config.layerdrop) {
                pass.begin_layer(index);
                let run = || layer.forward(&x, &Surroundings { prefix: prefix.get(&index), ..around });
                x = match &mut recompute {
                    Some(recompute) => recompute.run(index, &x, run)?,
                    None => run()?,
                };
            }
        }
        *self.pending.borrow_mut() = recompute;
        watch(Point::LastLayer, &x);
        if let Some(norm) = self.norm.as_ref().filter(|_| config.do_stable_layer_norm) {
            x = norm.forward(&x)?;
        }
        Ok(Output { last_hidden_state: x, frames })
    }

    /// Output of the convolutions (B, T, C) for utterances (B, S) that are computed one by one, zero padded.
    pub fn convolve_each(&self, audio: &Tensor, num_samples: &[i64], pass: &Pass) -> Result<Tensor, TchError> {
        let one = |(&samples, row): (&i64, i64)| {
            let own = audio.f_narrow(0, row, 1)?.f_narrow(1, 0, samples)?;
            match &self.stem {
                Stem::Waveform { conv, .. } => conv.forward(&self.long_enough(&own)?, pass),
                Stem::Whisper(_) | Stem::Stacked(_) => Ok(own), // frames are computed one by one already
            }
        };
        let each = num_samples.iter().zip(0..).map(one).collect::<Result<Vec<_>, _>>()?;
        let longest = each.iter().map(|own| own.size()[1]).max().unwrap_or(0);
        let padded = |own: &Tensor| own.f_constant_pad_nd([0, 0, 0, longest - own.size()[1]]);
        Tensor::f_cat(&each.iter().map(padded).collect::<Result<Vec<_>, _>>()?, 0)
    }

    /// The wide positional convolution's weight after weight normalisation, (H, H / groups, K); none of narrow ones.
    pub fn position_weight(&self) -> Result<Option<Tensor>, TchError> {
        match &self.stem {
            Stem::Waveform { position: Position::Wide(conv), .. } => conv.effective_weight().map(Some),
            _ => Ok(None),
        }
    }

    fn long_enough(&self, audio: &Tensor) -> Result<Tensor, TchError> {
        let missing = self.config.receptive_field() - audio.size()[1];
        if missing > 0 { audio.f_constant_pad_nd([0, missing]) } else { Ok(audio.shallow_clone()) }
    }
}
