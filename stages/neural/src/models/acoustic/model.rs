//! The whole model: training with recorded speech, and inference.

use std::collections::BTreeMap;

use neural_spec::LossWeights;
use tch::{Device, Kind, TchError, Tensor};

use super::aligner::{Aligner, Alignment};
use super::block::LayerStack;
use super::postnet::{BatchNormMode, Postnet};
use super::search;
use super::shape::Shape;
use super::variance::{Controls, Predicted, Variance, durations, means, path_matrix};
use crate::nn::attention::KeysAndValues;
use crate::nn::frames::Frames;
use crate::nn::pass::{Mode, Pass};
use crate::nn::weights::{Weights, tensor};
use crate::peft::Adapters;

/// An acoustic model. Its tensors are handles: training changes them in place.
pub struct Acoustic {
    embedding: Tensor,
    speakers: Tensor,
    encoder: LayerStack,
    variance: Variance,
    decoder: LayerStack,
    mel: [Tensor; 2],
    postnet: Postnet,
    aligner: Option<Aligner>,
    adapters: Adapters,
    least_frames: i64,
    published: bool,
}

/// Texts of a batch.
#[derive(Debug)]
pub struct Text {
    /// Symbols, (B, P), padded with symbol 0.
    pub symbols: Tensor,
    /// Symbols of each text.
    pub counts: Vec<i64>,
    /// Row of each text's speaker, (B).
    pub speakers: Tensor,
}

/// Recordings of a batch.
#[derive(Debug)]
pub struct Target {
    /// Log mel spectrograms, (B, T, M).
    pub mel: Tensor,
    /// Frames of each recording.
    pub frames: Vec<i64>,
    /// Standardised pitch, (B, T); 0 where unvoiced.
    pub pitch: Tensor,
    /// Standardised energy, (B, T).
    pub energy: Tensor,
    /// Frames of every symbol, when they are known; else the aligner finds them.
    pub durations: Option<Vec<Vec<i64>>>,
    /// Prior of the alignments, (B, T, P), see [`search::priors`]; computed when it is absent.
    pub prior: Option<Tensor>,
}

impl Text {
    /// Moves it to a device.
    ///
    /// Errors: libtorch's.
    pub fn to(&self, device: Device) -> Result<Self, TchError> {
        let (symbols, speakers) = (self.symbols.f_to_device(device)?, self.speakers.f_to_device(device)?);
        Ok(Self { symbols, counts: self.counts.clone(), speakers })
    }
}

impl Target {
    /// Moves it to a device.
    ///
    /// Errors: libtorch's.
    pub fn to(&self, device: Device) -> Result<Self, TchError> {
        Ok(Self {
            mel: self.mel.f_to_device(device)?,
            frames: self.frames.clone(),
            pitch: self.pitch.f_to_device(device)?,
            energy: self.energy.f_to_device(device)?,
            durations: self.durations.clone(),
            prior: self.prior.as_ref().map(|prior| prior.f_to_device(device)).transpose()?,
        })
    }
}

/// Losses of a batch, without axes. Those of the aligner are absent where durations were given.
#[derive(Debug)]
pub struct Losses {
    /// Mean absolute error of the mel spectrogram in front of the post-net.
    pub mel: Tensor,
    /// Mean absolute error of the mel spectrogram behind the post-net.
    pub postnet: Tensor,
    /// Mean squared error of the logarithms of durations plus 1.
    pub duration: Tensor,
    /// Mean squared error of the pitch.
    pub pitch: Tensor,
    /// Mean squared error of the energy.
    pub energy: Tensor,
    /// Loss of all alignments.
    pub forward_sum: Option<Tensor>,
    /// Minus the mean log probability of the best path.
    pub binarisation: Option<Tensor>,
}

impl Losses {
    /// The weighted sum; `binarisation` is a further factor of that loss.
    ///
    /// Errors: libtorch's.
    pub fn total(&self, weights: &LossWeights, binarisation: f64) -> Result<Tensor, TchError> {
        let mut total = self.mel.f_mul_scalar(weights.mel)?;
        let others = [
            (Some(&self.postnet), weights.postnet),
            (Some(&self.duration), weights.duration),
            (Some(&self.pitch), weights.pitch),
            (Some(&self.energy), weights.energy),
            (self.forward_sum.as_ref(), weights.forward_sum),
            (self.binarisation.as_ref(), weights.binarisation * binarisation),
        ];
        for (loss, weight) in others {
            if let Some(loss) = loss.filter(|_| weight > 0.0) {
                total = total.f_add(&loss.f_mul_scalar(weight)?)?;
            }
        }
        Ok(total)
    }
}

/// Outcome of a training pass.
#[derive(Debug)]
pub struct Trained {
    /// Losses.
    pub losses: Losses,
    /// Mel spectrograms behind the post-net, (B, T, M), 0 at padding.
    pub mel: Tensor,
    /// Frames of every symbol: given, or found by the aligner. Empty for a text with more symbols than frames.
    pub durations: Vec<Vec<i64>>,
    /// Mean log probability of each utterance's path, where the aligner found it.
    pub path_log_probabilities: Option<Vec<f64>>,
}

/// A text as it is spoken.
#[derive(Debug)]
pub struct Speech {
    /// Log mel spectrogram, (T, M).
    pub mel: Tensor,
    /// Frames of every symbol.
    pub durations: Vec<i64>,
    /// Standardised pitch of every symbol, as predicted.
    pub pitch: Vec<f32>,
    /// Standardised energy of every symbol, as predicted.
    pub energy: Vec<f32>,
}

/// Output for positions whose durations, pitch and energy are known.
pub(super) struct Taught {
    pub(super) before: Tensor,
    pub(super) after: Tensor,
    pub(super) predicted: Predicted,
    pub(super) frames: Frames,
}

impl Acoustic {
    /// Builds a model around tensors that fit `shape`, and adapters of [`Shape::architecture`].
    ///
    /// Errors: libtorch's.
    ///
    /// # Panics
    /// When a tensor is missing.
    pub fn new(weights: &Weights, shape: &Shape, adapters: Adapters) -> Result<Self, TchError> {
        Ok(Self {
            embedding: tensor(weights, "encoder.src_word_emb.weight"),
            speakers: tensor(weights, "speaker_emb.weight"),
            encoder: LayerStack::new(weights, "encoder", shape, &adapters)?,
            variance: Variance::new(weights, "variance_adaptor.", shape),
            decoder: LayerStack::new(weights, "decoder", shape, &adapters)?,
            mel: ["weight", "bias"].map(|part| tensor(weights, &format!("mel_linear.{part}"))),
            postnet: Postnet::new(weights, "postnet.", shape.postnet.layers, shape.postnet.dropout),
            aligner: shape.aligner.then(|| Aligner::new(weights, "aligner.", shape.published)),
            adapters,
            least_frames: shape.least_frames,
            published: shape.published,
        })
    }

    /// Device of its tensors.
    pub fn device(&self) -> Device {
        self.embedding.device()
    }

    /// The learned keys and values of a stack, by layer.
    fn prefixes(&self, stack: usize) -> Result<BTreeMap<usize, KeysAndValues>, TchError> {
        self.adapters.prefix(stack).map_or_else(|| Ok(BTreeMap::new()), |prefix| prefix.unroll())
    }

    fn speaker(&self, text: &Text) -> Result<Tensor, TchError> {
        Tensor::f_embedding(&self.speakers, &text.speakers, -1, false, false) // (B, H)
    }

    fn embed(&self, text: &Text) -> Result<Tensor, TchError> {
        Tensor::f_embedding(&self.embedding, &text.symbols, 0, false, false) // (B, P, H)
    }

    /// Encodes texts and adds their speakers: (B, P, H).
    fn encode(&self, text: &Text, positions: &Frames, pass: &Pass) -> Result<Tensor, TchError> {
        let encoded = self.encoder.forward(&self.embed(text)?, positions, &self.prefixes(0)?, pass)?;
        let with_speaker = encoded.f_add(&self.speaker(text)?.f_unsqueeze(1)?)?;
        if self.published { Ok(with_speaker) } else { positions.zero_padding(&with_speaker) }
    }

    /// Mask of the parts behind the encoder: none as in the published code, else `real`.
    fn seen<'a>(&self, real: &'a Frames, all: &'a mut Option<Frames>) -> &'a Frames {
        match &real.real {
            Some(mask) if self.published => {
                let size = mask.size();
                all.insert(Frames { counts: vec![size[1]; size[0] as usize], real: None, alone: real.alone })
            }
            _ => real,
        }
    }

    /// Decodes frames (B, T, H): mel spectrograms in front of the post-net and behind it.
    fn decode(&self, x: &Tensor, frames: &Frames, statistics: BatchNormMode, pass: &Pass) -> Result<[Tensor; 2], TchError> {
        let x = self.decoder.forward(x, frames, &self.prefixes(1)?, pass)?;
        let [weight, bias] = &self.mel;
        let (mut all, x) = (None, x.f_linear(weight, Some(bias))?);
        let seen = self.seen(frames, &mut all);
        let before = seen.zero_padding(&x)?;
        let after = frames.zero_padding(&self.postnet.forward(&before, seen, statistics, pass)?)?;
        Ok([before, after])
    }

    /// Runs the model on texts with known durations, and pitch and energy (B, P) of every symbol.
    pub(super) fn teach(
        &self,
        text: &Text,
        durations: &[Vec<i64>],
        values: [&Tensor; 2],
        statistics: BatchNormMode,
        pass: &Pass,
    ) -> Result<Taught, TchError> {
        let positions = self.positions(text)?;
        let (path, frames) = path_matrix(durations, text.symbols.size()[1], self.device())?;
        let x = self.encode(text, &positions, pass)?;
        let mut all = None;
        let (x, predicted) = self.variance.teach(&x, values, self.seen(&positions, &mut all), pass)?;
        // As a product, whose backward pass is one, too, and gives the same bits on every run.
        let [before, after] = self.decode(&path.f_bmm(&x)?, &frames, statistics, pass)?;
        Ok(Taught { before, after, predicted, frames })
    }

    fn positions(&self, text: &Text) -> Result<Frames, TchError> {
        Frames::new(&text.counts, text.symbols.size()[1], self.device())
    }

    /// Runs the model on recorded speech. Every text has at most as many symbols as its recording has frames.
    ///
    /// Errors: libtorch's.
    ///
    /// # Panics
    /// Without durations, if the model has no aligner.
    pub fn train(&self, text: &Text, target: &Target, statistics: BatchNormMode, mode: Mode) -> Result<Trained, TchError> {
        let pass = Pass::begin(mode);
        let (num_positions, device) = (text.symbols.size()[1], self.device());
        let positions = self.positions(text)?;
        let frames = Frames::new(&target.frames, target.mel.size()[1], device)?;
        let alignment = match &target.durations {
            Some(_) => None,
            None => Some(self.find_alignment(text, target, &positions, &frames)?),
        };
        let durations = match (&target.durations, &alignment) {
            (Some(given), _) => given.clone(),
            (None, Some(alignment)) => durations_of(alignment, text),
            (None, None) => Vec::new(),
        };
        let (path, _) = path_matrix(&durations, num_positions, device)?;
        let all = Tensor::f_ones_like(&target.pitch)?;
        let voiced = target.pitch.f_ne(0.0)?.f_to_kind(Kind::Float)?;
        let pitch = means(&path, &target.pitch, &voiced)?;
        let energy = means(&path, &target.energy, &all)?;
        let taught = self.teach(text, &durations, [&pitch, &energy], statistics, &pass)?;

        let counts: Vec<f32> = durations.iter().flat_map(|own| padded(own, num_positions as usize)).collect();
        let counts = Tensor::f_from_slice(&counts)?.f_view([-1, num_positions])?.f_to_device(device)?;
        let squared = |found: &Tensor, wanted: &Tensor| squared_error(found, wanted, &positions);
        let absolute = |found: &Tensor| absolute_error(found, &target.mel, &taught.frames);
        let losses = Losses {
            mel: absolute(&taught.before)?,
            postnet: absolute(&taught.after)?,
            duration: squared(&taught.predicted.log_durations, &counts.f_log1p()?)?,
            pitch: squared(&taught.predicted.pitch, &pitch)?,
            energy: if self.published {
                let column = |x: &Tensor| x.f_unsqueeze(-1);
                absolute_error(&column(&taught.predicted.energy)?, &column(&energy)?, &positions)?
            } else {
                squared(&taught.predicted.energy, &energy)?
            },
            forward_sum: alignment.as_ref().map(|alignment| alignment.forward_sum.shallow_clone()),
            binarisation: alignment.as_ref().map(|alignment| alignment.binarisation(&path)).transpose()?,
        };
        let path_log_probabilities = alignment.map(|alignment| log_probabilities(&alignment, &path, target)).transpose()?;
        Ok(Trained { losses, mel: taught.after, durations, path_log_probabilities })
    }

    /// Aligns a batch.
    ///
    /// # Panics
    /// If the model has no aligner.
    fn find_alignment(&self, text: &Text, target: &Target, positions: &Frames, frames: &Frames) -> Result<Alignment, TchError> {
        let aligner = self.aligner.as_ref().expect("a model without an aligner is given durations");
        let prior = match &target.prior {
            Some(prior) => prior.shallow_clone(),
            None => {
                let padded = [target.mel.size()[1], text.symbols.size()[1]];
                search::priors(&text.counts, &target.frames, padded)?.f_to_device(self.device())?
            }
        };
        aligner.align([&self.embed(text)?, &target.mel, &self.speaker(text)?], positions, frames, &prior)
    }

    /// True if the model has an aligner.
    pub fn has_aligner(&self) -> bool {
        self.aligner.is_some()
    }

    /// Returns the frames of every symbol, and the mean log probability of each path. Keeps no graph.
    ///
    /// Errors: libtorch's.
    ///
    /// # Panics
    /// If the model has no aligner.
    pub fn align(&self, text: &Text, target: &Target) -> Result<(Vec<Vec<i64>>, Vec<f64>), TchError> {
        tch::no_grad(|| {
            let positions = self.positions(text)?;
            let frames = Frames::new(&target.frames, target.mel.size()[1], self.device())?;
            let alignment = self.find_alignment(text, target, &positions, &frames)?;
            let durations = durations_of(&alignment, text);
            let (path, _) = path_matrix(&durations, text.symbols.size()[1], self.device())?;
            let probabilities = log_probabilities(&alignment, &path, target)?;
            Ok((durations, probabilities))
        })
    }

    /// Speaks texts. The same texts give the same numbers, whatever they are in a batch with.
    ///
    /// Errors: libtorch's.
    pub fn speak(&self, text: &Text, controls: &Controls) -> Result<Vec<Speech>, TchError> {
        tch::no_grad(|| {
            let pass = Pass::begin(Mode::Eval);
            let positions = self.positions(text)?;
            let x = self.encode(text, &positions, &pass)?;
            let (x, predicted) = self.variance.predict(&x, controls, &positions, &pass)?;
            let mut durations = durations(&predicted.log_durations, controls.pace, &positions, self.least_frames)?;
            for own in durations.iter_mut().filter(|own| own.iter().all(|&count| count == 0)) {
                // Something is said of every text, be it a single frame.
                own[0] = 1;
            }
            let (path, frames) = path_matrix(&durations, text.symbols.size()[1], self.device())?;
            let [_, after] = self.decode(&path.f_bmm(&x)?, &frames, BatchNormMode::Running, &pass)?;
            let mut spoken = Vec::new();
            for (at, durations) in durations.into_iter().enumerate() {
                let row = |of: &Tensor, count: i64| of.f_select(0, at as i64)?.f_narrow(0, 0, count)?.f_to_device(Device::Cpu);
                let values = |of: &Tensor| Vec::<f32>::try_from(row(of, text.counts[at])?.f_contiguous()?);
                let mel = row(&after, frames.counts[at])?;
                let (pitch, energy) = (values(&predicted.pitch)?, values(&predicted.energy)?);
                spoken.push(Speech { mel, durations, pitch, energy });
            }
            Ok(spoken)
        })
    }
}

/// Frames of every symbol on the best paths.
fn durations_of(alignment: &Alignment, text: &Text) -> Vec<Vec<i64>> {
    let found = alignment.paths.iter().zip(&text.counts);
    found.map(|(path, &count)| search::durations(path, count as usize)).collect()
}

/// Mean log probability of the frames of each path, (B, T, P) of zeros and ones.
fn log_probabilities(alignment: &Alignment, path: &Tensor, target: &Target) -> Result<Vec<f64>, TchError> {
    let product = path.f_mul(&alignment.log_probabilities.f_detach()?)?;
    let sums = product.f_sum_dim_intlist([1_i64, 2].as_slice(), false, Kind::Double)?;
    let sums = Vec::<f64>::try_from(sums.f_to_device(Device::Cpu)?)?;
    Ok(sums.into_iter().zip(&target.frames).map(|(sum, &frames)| sum / frames as f64).collect())
}

fn padded(own: &[i64], length: usize) -> impl Iterator<Item = f32> {
    own.iter().map(|&count| count as f32).chain(std::iter::repeat(0.0)).take(length)
}

/// Mean squared error over real positions, (B, P) each.
pub(super) fn squared_error(found: &Tensor, wanted: &Tensor, positions: &Frames) -> Result<Tensor, TchError> {
    let squares = found.f_sub(wanted)?.f_square()?.f_unsqueeze(-1)?;
    let count = positions.counts.iter().sum::<i64>() as f64;
    positions.zero_padding(&squares)?.f_sum(None::<Kind>)?.f_div_scalar(count)
}

/// Mean absolute error over real frames and bands, (B, T, M) each.
pub(super) fn absolute_error(found: &Tensor, wanted: &Tensor, frames: &Frames) -> Result<Tensor, TchError> {
    let errors = found.f_sub(wanted)?.f_abs()?;
    let count = (frames.counts.iter().sum::<i64>() * wanted.size()[2]) as f64;
    frames.zero_padding(&errors)?.f_sum(None::<Kind>)?.f_div_scalar(count)
}
