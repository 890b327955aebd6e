//! The aligner: which frames of a recording belong to which position of its text.

use tch::{Device, Kind, Reduction, TchError, Tensor};

use super::convolution::Convolution;
use super::search::{Tie, best_path};
use crate::nn::frames::Frames;
use crate::nn::weights::{Weights, tensor};

/// Factor of the squared distance between the networks of text and mel.
const TEMPERATURE: f64 = 0.0005;
/// Added to the prior before the logarithm.
const PRIOR_FLOOR: f64 = 1e-8;
/// Logit of the blank that stands in front of the positions.
const BLANK: f64 = -1.0;
/// Logit of what cannot be.
const DEAD: f64 = -1e9;

/// Alignment network: distances between what it makes of positions and of frames.
///
/// Source: Badlani et al. 2022, arXiv:2108.10447, sections 3.1 to 3.3, in the form of NVIDIA's code with speakers as in CTTS.
#[derive(Debug)]
pub(super) struct Aligner {
    keys: [Convolution; 2],
    queries: [Convolution; 3],
    /// Speaker -> what is added to positions (H, H) and to frames (M, H).
    speaker: [Tensor; 2],
    /// True if the softmax runs over padded positions too and ties of the search step on, as in the published code.
    leaks: bool,
}

/// An alignment of a batch, with its losses.
#[derive(Debug)]
pub(super) struct Alignment {
    /// Logits, (B, T, P); very low where a position is padding.
    #[cfg(test)]
    pub(super) logits: Tensor,
    /// Logarithms of the probabilities of positions at each frame, (B, T, P).
    pub(super) log_probabilities: Tensor,
    /// Position of each real frame on the best path; empty for an utterance with more positions than frames.
    pub(super) paths: Vec<Vec<usize>>,
    /// Mean over utterances of the loss of all alignments, each over its number of positions. No axes.
    pub(super) forward_sum: Tensor,
}

impl Aligner {
    /// Builds it around the tensors whose names begin with `prefix`.
    pub(super) fn new(weights: &Weights, prefix: &str, leaks: bool) -> Self {
        let convolution = |name: &str| Convolution::new(weights, &format!("{prefix}{name}.conv"));
        Self {
            keys: ["key_proj.0", "key_proj.2"].map(convolution),
            queries: ["query_proj.0", "query_proj.2", "query_proj.4"].map(convolution),
            speaker: ["key_spk_proj", "query_spk_proj"].map(|name| tensor(weights, &format!("{prefix}{name}.linear.weight"))),
            leaks,
        }
    }

    /// Squared distances times a negative factor: text (B, P, H), mel (B, T, M), speaker (B, H) -> (B, T, P).
    pub(super) fn distance(
        &self,
        [text, mel, speaker]: [&Tensor; 3],
        positions: &Frames,
        frames: &Frames,
    ) -> Result<Tensor, TchError> {
        let [to_text, to_mel] = &self.speaker;
        let with = |x: &Tensor, to: &Tensor, real: &Frames| {
            let added = speaker.f_linear(to, None::<Tensor>)?.f_unsqueeze(1)?;
            real.zero_padding(&x.f_add(&added)?)?.f_transpose(1, 2)
        };
        let keys = self.keys[1].forward(&self.keys[0].forward(&with(text, to_text, positions)?)?.f_relu()?)?; // (B, M, P)
        let wide = self.queries[0].forward(&with(mel, to_mel, frames)?)?.f_relu()?;
        let queries = self.queries[2].forward(&self.queries[1].forward(&wide)?.f_relu()?)?; // (B, M, T)
        let square = |x: &Tensor| x.f_square()?.f_sum_dim_intlist(1, false, None::<Kind>);
        let product = queries.f_transpose(1, 2)?.f_bmm(&keys)?; // (B, T, P)
        let squares = square(&queries)?.f_unsqueeze(2)?.f_add(&square(&keys)?.f_unsqueeze(1)?)?;
        squares.f_sub(&product.f_mul_scalar(2.0)?)?.f_mul_scalar(-TEMPERATURE)
    }

    /// Aligns a batch; `prior` (B, T, P) has 0 where there is no frame or position.
    pub(super) fn align(
        &self,
        inputs: [&Tensor; 3],
        positions: &Frames,
        frames: &Frames,
        prior: &Tensor,
    ) -> Result<Alignment, TchError> {
        let distance = self.distance(inputs, positions, frames)?;
        let own = if self.leaks { distance } else { without_dead(&distance, positions)? };
        let logits = own.f_log_softmax(-1, None::<Kind>)?.f_add(&prior.f_add_scalar(PRIOR_FLOOR)?.f_log()?)?;
        let logits = without_dead(&logits, positions)?;
        let log_probabilities = logits.f_log_softmax(-1, None::<Kind>)?;
        let forward_sum = forward_sum(&logits, positions, frames)?;
        let tie = if self.leaks { Tie::Advance } else { Tie::Keep };
        let paths = paths(&log_probabilities, positions, frames, tie)?;
        Ok(Alignment {
            #[cfg(test)]
            logits,
            log_probabilities,
            paths,
            forward_sum,
        })
    }
}

impl Alignment {
    /// Minus the mean log probability of the frames on the path, (B, T, P) of zeros and ones. No axes.
    pub(super) fn binarisation(&self, path: &Tensor) -> Result<Tensor, TchError> {
        let frames = self.paths.iter().map(Vec::len).sum::<usize>().max(1);
        path.f_mul(&self.log_probabilities)?.f_sum(None::<Kind>)?.f_mul_scalar(-1.0 / frames as f64)
    }
}

/// Makes positions of padding impossible.
fn without_dead(logits: &Tensor, positions: &Frames) -> Result<Tensor, TchError> {
    match &positions.real {
        Some(real) => logits.f_masked_fill(&real.f_logical_not()?.f_unsqueeze(1)?, DEAD),
        None => Ok(logits.shallow_clone()),
    }
}

/// The loss of all monotonic alignments: CTC over the positions in order, with a blank of fixed logit in front.
pub(super) fn forward_sum(logits: &Tensor, positions: &Frames, frames: &Frames) -> Result<Tensor, TchError> {
    let (batch, num_frames, length) = logits.size3()?;
    let device = logits.device();
    let blank = Tensor::f_full([batch, num_frames, 1], BLANK, (logits.kind(), device))?;
    let with_blank = Tensor::f_cat(&[&blank, logits], -1)?.f_log_softmax(-1, None::<Kind>)?.f_transpose(0, 1)?; // (T, B, 1 + P)
    let targets =
        Tensor::f_arange_start(1, length + 1, (Kind::Int64, device))?.f_unsqueeze(0)?.f_expand([batch, length], false)?;
    let counts = |of: &Frames| Tensor::f_from_slice(&of.counts);
    let (frames, positions) = (counts(frames)?, counts(positions)?);
    let losses = Tensor::f_ctc_loss_tensor(&with_blank, &targets.f_contiguous()?, &frames, &positions, 0, Reduction::None, true)?;
    losses.f_div(&positions.f_to_device(device)?)?.f_mean(None::<Kind>)
}

/// The best path of each utterance.
pub(super) fn paths(
    log_probabilities: &Tensor,
    positions: &Frames,
    frames: &Frames,
    tie: Tie,
) -> Result<Vec<Vec<usize>>, TchError> {
    let (_, length, width) = log_probabilities.size3()?;
    let flat = log_probabilities.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?.f_view([-1])?;
    let values = Vec::<f32>::try_from(flat)?;
    let path = |(at, (&count, &positions)): (usize, (&i64, &i64))| {
        let (from, width, positions) = (at * (length * width) as usize, width as usize, positions as usize);
        let rows = values[from..].chunks_exact(width).take(count as usize);
        let own: Vec<f32> = rows.flat_map(|row| &row[..positions]).copied().collect();
        best_path(&own, count as usize, positions, tie).unwrap_or_default()
    };
    Ok(frames.counts.iter().zip(&positions.counts).enumerate().map(path).collect())
}
