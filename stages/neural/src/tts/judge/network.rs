//! Networks of the judges, on log mel spectrograms.
//!
//! Sources: Graves and Jaitly 2014, "Towards end-to-end speech recognition with recurrent neural networks", for the recogniser; Snyder et
//! al. 2018, "X-vectors", for mean and deviation over time.

use neural_spec::JudgeKind;
use tch::{Device, Kind, Reduction, TchError, Tensor};

use crate::models::heads::{classification, ctc};
use crate::nn::frames::Frames;
use crate::nn::init::{Start, started};
use crate::nn::pass::Pass;
use crate::nn::weights::{Weights, tensor};

/// How far cosines with the speakers are spread before the softmax of the loss.
const SCALE: f64 = 12.0;
/// Dropout behind the first convolution and between the recurrent layers.
const DROPOUT: [f64; 2] = [0.1, 0.2];
/// Recurrent layers, each of two directions.
const LAYERS: i64 = 2;
/// Taps and dilation of the convolutions of the network for speakers.
const DILATED: [(i64, i64); 3] = [(5, 1), (3, 2), (3, 3)];

/// Sizes of a judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Mel bands.
    pub bands: i64,
    /// Width of the layers.
    pub hidden: i64,
    /// Numbers of a speaker's vector.
    pub vector: i64,
    /// Symbols, the blank among them, or speakers.
    pub outputs: i64,
}

/// Tensors of a judge: names, shapes, starting values.
pub fn tensors(kind: JudgeKind, sizes: Sizes) -> Vec<(String, Vec<i64>, Start)> {
    let Sizes { bands, hidden, vector, outputs } = sizes;
    let mut list = Vec::new();
    let mut layer = |name: &str, shape: &[i64]| {
        let start = Start::symmetric((shape[1..].iter().product::<i64>() as f64).sqrt().recip());
        list.push((format!("{name}.weight"), shape.to_vec(), start));
        list.push((format!("{name}.bias"), vec![shape[0]], start));
    };
    match kind {
        JudgeKind::Words => {
            layer("convolutions.0", &[hidden, bands, 5]);
            layer("convolutions.1", &[hidden, hidden, 5]);
            layer("output", &[outputs, 2 * hidden]);
            let start = Start::symmetric((hidden as f64).sqrt().recip());
            for (at, name) in recurrent_names().into_iter().enumerate() {
                let inputs = if at < 8 { hidden } else { 2 * hidden };
                let shape = match at % 4 {
                    0 => vec![3 * hidden, inputs],
                    1 => vec![3 * hidden, hidden],
                    _ => vec![3 * hidden],
                };
                list.push((name, shape, start));
            }
        }
        JudgeKind::Voice => {
            for (at, (taps, _)) in DILATED.into_iter().enumerate() {
                layer(&format!("convolutions.{at}"), &[hidden, if at == 0 { bands } else { hidden }, taps]);
            }
            layer("vector", &[vector, 2 * hidden]);
            let bound = (vector as f64).sqrt().recip();
            list.push(("speakers.weight".to_owned(), vec![outputs, vector], Start::symmetric(bound)));
        }
    }
    list
}

/// Names of the recurrent tensors, in the order of libtorch: by layer and direction, input, state, their biases.
fn recurrent_names() -> Vec<String> {
    let mut names = Vec::new();
    for layer in 0..LAYERS {
        for direction in ["", "_reverse"] {
            names.extend(
                ["weight_ih", "weight_hh", "bias_ih", "bias_hh"].map(|part| format!("recurrent.{part}_l{layer}{direction}")),
            );
        }
    }
    names
}

/// Starting values that follow from `seed`.
///
/// Errors: libtorch's.
pub fn start(kind: JudgeKind, sizes: Sizes, seed: u64, device: Device) -> Result<Weights, TchError> {
    let tensor = |(name, shape, start): (String, Vec<i64>, Start)| {
        let value = started(&name, &shape, start, seed)?.f_to_device(device)?;
        Ok((name, value))
    };
    tensors(kind, sizes).into_iter().map(tensor).collect()
}

#[derive(Debug)]
struct Layer {
    weight: Tensor,
    bias: Tensor,
}

impl Layer {
    fn new(weights: &Weights, name: &str) -> Self {
        Self { weight: tensor(weights, &format!("{name}.weight")), bias: tensor(weights, &format!("{name}.bias")) }
    }

    fn convolve(&self, x: &Tensor, stride: i64, dilation: i64) -> Result<Tensor, TchError> {
        let padding = dilation * (self.weight.size()[2] - 1) / 2;
        x.f_conv1d(&self.weight, Some(&self.bias), stride, padding, dilation, 1)
    }

    fn linear(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_linear(&self.weight, Some(&self.bias))
    }
}

/// Recogniser: spectrogram -> letters.
#[derive(Debug)]
pub struct Words {
    convolutions: [Layer; 2],
    recurrent: Vec<Tensor>,
    hidden: i64,
    output: Layer,
}

impl Words {
    /// Builds it around tensors as [`tensors`] names them.
    pub fn new(weights: &Weights) -> Self {
        let convolutions = [0, 1].map(|at| Layer::new(weights, &format!("convolutions.{at}")));
        let hidden = convolutions[0].bias.size()[0];
        let recurrent = recurrent_names().iter().map(|name| tensor(weights, name)).collect();
        Self { convolutions, recurrent, hidden, output: Layer::new(weights, "output") }
    }

    /// Spectrograms (B, T, bands), the longest first, of which `counts` frames are real -> logits (B, T / 2, symbols) and how many are
    /// real. Padding has no influence.
    ///
    /// Errors: libtorch's.
    pub fn forward(&self, mel: &Tensor, counts: &[i64], pass: &Pass) -> Result<(Tensor, Vec<i64>), TchError> {
        let counts: Vec<i64> = counts.iter().map(|count| (count + 1) / 2).collect();
        let x = self.convolutions[0].convolve(&mel.f_transpose(1, 2)?, 2, 1)?.f_relu()?.f_transpose(1, 2)?; // (B, T / 2, H)
        let frames = Frames::new(&counts, x.size()[1], x.device())?;
        let x = frames.zero_padding(&pass.dropout(&x, DROPOUT[0])?)?;
        let x = self.convolutions[1].convolve(&x.f_transpose(1, 2)?, 1, 1)?.f_relu()?.f_transpose(1, 2)?;
        let (packed, sizes) = x.f_internal_pack_padded_sequence(&Tensor::f_from_slice(&counts)?, true)?;
        let state = Tensor::f_zeros([2 * LAYERS, counts.len() as i64, self.hidden], (Kind::Float, x.device()))?;
        let dropout = pass.probability(DROPOUT[1]);
        let (packed, _) =
            Tensor::f_gru_data(&packed, &sizes, &state, &self.recurrent, true, LAYERS, dropout, dropout > 0.0, true)?;
        let (x, _) = Tensor::f_internal_pad_packed_sequence(&packed, &sizes, true, 0.0, x.size()[1])?;
        Ok((self.output.linear(&x)?, counts))
    }

    /// Loss of each utterance's letters, divided by their number: (B). Letters that do not fit the frames cost nothing.
    ///
    /// Errors: libtorch's.
    pub fn losses(logits: &Tensor, counts: &[i64], letters: &[Vec<i64>]) -> Result<Tensor, TchError> {
        ctc::losses(logits, counts, letters, 0, Reduction::None, true)
    }
}

/// Network for speakers: spectrogram -> vector of length 1.
#[derive(Debug)]
pub struct Voice {
    convolutions: Vec<Layer>,
    vector: Layer,
    speakers: Tensor,
}

impl Voice {
    /// Builds it around tensors as [`tensors`] names them.
    pub fn new(weights: &Weights) -> Self {
        let convolutions = (0..DILATED.len()).map(|at| Layer::new(weights, &format!("convolutions.{at}"))).collect();
        Self { convolutions, vector: Layer::new(weights, "vector"), speakers: tensor(weights, "speakers.weight") }
    }

    /// Spectrograms (B, T, bands), of which `counts` frames are real -> vectors (B, size) of length 1. Padding has no influence.
    ///
    /// Errors: libtorch's.
    pub fn forward(&self, mel: &Tensor, counts: &[i64]) -> Result<Tensor, TchError> {
        let frames = Frames::new(counts, mel.size()[1], mel.device())?;
        let mut x = mel.shallow_clone();
        for (layer, (_, dilation)) in self.convolutions.iter().zip(DILATED) {
            x = layer.convolve(&x.f_transpose(1, 2)?, 1, dilation)?.f_transpose(1, 2)?;
            x = x.f_layer_norm([x.size()[2]], None::<&Tensor>, None::<&Tensor>, 1e-5, false)?.f_relu()?;
            x = frames.zero_padding(&x)?;
        }
        let mean = frames.mean(&x)?; // (B, H)
        let off = x.f_sub(&mean.f_unsqueeze(1)?)?.f_square()?;
        let deviation = frames.mean(&frames.zero_padding(&off)?)?.f_add_scalar(1e-5)?.f_sqrt()?;
        unit(&self.vector.linear(&Tensor::f_cat(&[mean, deviation], 1)?)?)
    }

    /// Cosines of vectors with the speakers of the training: (B, speakers).
    ///
    /// Errors: libtorch's.
    pub fn cosines(&self, vectors: &Tensor) -> Result<Tensor, TchError> {
        vectors.f_matmul(&unit(&self.speakers)?.f_transpose(0, 1)?)
    }

    /// Loss of each utterance's speaker: (B).
    ///
    /// Errors: libtorch's.
    pub fn losses(&self, vectors: &Tensor, speakers: &[i64]) -> Result<Tensor, TchError> {
        classification::losses(&self.cosines(vectors)?.f_mul_scalar(SCALE)?, &Tensor::f_from_slice(speakers)?)
    }
}

/// Rows of length 1.
fn unit(x: &Tensor) -> Result<Tensor, TchError> {
    x.f_div(&x.f_linalg_norm(2.0, 1_i64, true, Kind::Float)?.f_clamp_min(1e-12)?)
}

/// One of the two judges.
#[derive(Debug)]
pub enum Network {
    /// See [`Words`].
    Words(Words),
    /// See [`Voice`].
    Voice(Voice),
}

impl Network {
    /// Builds a judge around its tensors.
    pub fn new(kind: JudgeKind, weights: &Weights) -> Self {
        match kind {
            JudgeKind::Words => Self::Words(Words::new(weights)),
            JudgeKind::Voice => Self::Voice(Voice::new(weights)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::pass::Mode;

    const SIZES: Sizes = Sizes { bands: 6, hidden: 8, vector: 5, outputs: 4 };

    /// Two utterances of 9 and 6 frames, padded with what must not matter.
    fn batch() -> (Tensor, Vec<i64>, Tensor) {
        tch::manual_seed(3);
        let mel = Tensor::randn([2, 9, 6], (Kind::Float, Device::Cpu));
        let alone = mel.get(1).narrow(0, 0, 6).unsqueeze(0);
        let _ = mel.get(1).narrow(0, 6, 3).fill_(0.0);
        (mel, vec![9, 6], alone)
    }

    #[track_caller]
    fn close(a: &Tensor, b: &Tensor) {
        assert!((a - b).abs().max().double_value(&[]) < 1e-5, "{a} {b}");
    }

    #[test]
    fn a_batch_of_words_is_what_its_utterances_are_alone() {
        let words = Words::new(&start(JudgeKind::Words, SIZES, 1, Device::Cpu).unwrap());
        let (mel, counts, alone) = batch();
        let pass = Pass::begin(Mode::Eval);
        let (both, frames) = words.forward(&mel, &counts, &pass).unwrap();
        let (one, _) = words.forward(&alone, &[6], &pass).unwrap();
        assert_eq!((both.size(), frames), (vec![2, 5, 4], vec![5, 3]));
        close(&both.get(1).narrow(0, 0, 3), &one.get(0));
    }

    #[test]
    fn a_batch_of_voices_is_what_its_utterances_are_alone() {
        let voice = Voice::new(&start(JudgeKind::Voice, SIZES, 1, Device::Cpu).unwrap());
        let (mel, counts, alone) = batch();
        let both = voice.forward(&mel, &counts).unwrap();
        close(&both.get(1), &voice.forward(&alone, &[6]).unwrap().get(0));
        close(&both.square().sum_dim_intlist(1, false, Kind::Float), &Tensor::ones([2], (Kind::Float, Device::Cpu)));
    }

    #[test]
    fn gradients_reach_every_tensor() {
        for kind in [JudgeKind::Words, JudgeKind::Voice] {
            let mut weights = start(kind, SIZES, 1, Device::Cpu).unwrap();
            for tensor in weights.values_mut() {
                *tensor = tensor.set_requires_grad(true);
            }
            let (mel, counts, _) = batch();
            let losses = match Network::new(kind, &weights) {
                Network::Words(words) => {
                    let (logits, frames) = words.forward(&mel, &counts, &Pass::begin(Mode::Train { seed: 1 })).unwrap();
                    Words::losses(&logits, &frames, &[vec![1, 2], vec![3]]).unwrap()
                }
                Network::Voice(voice) => voice.losses(&voice.forward(&mel, &counts).unwrap(), &[0, 3]).unwrap(),
            };
            losses.sum(Kind::Float).backward();
            for (name, tensor) in &weights {
                assert!(tensor.grad().abs().max().double_value(&[]) > 0.0, "{name}");
            }
        }
    }
}
