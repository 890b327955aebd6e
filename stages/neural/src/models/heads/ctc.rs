//! A token or nothing for each frame: connectionist temporal classification.
//!
//! Source: Graves, Fernández, Gomez and Schmidhuber 2006, "Connectionist temporal classification", section 4.

use tch::{Kind, Reduction, TchError, Tensor};

use super::mix::{LayerMix, mixed};
use super::output::HeadOutput;
use crate::nn::frames::Frames;
use crate::nn::pass::Pass;
use crate::nn::weights::{Weights, tensor};

/// Hidden states (B, T, H) -> logits (B, T, tokens): dropout, then one linear layer.
#[derive(Debug)]
pub struct Ctc {
    weight: Tensor,
    bias: Tensor,
    dropout: f64,
    pub(super) mix: Option<LayerMix>,
}

impl Ctc {
    /// A head around tensors as [`super::Head::start`] names them.
    pub fn new(weights: &Weights, dropout: f64) -> Self {
        Self {
            weight: tensor(weights, "lm_head.weight"),
            bias: tensor(weights, "lm_head.bias"),
            dropout,
            mix: LayerMix::of(weights),
        }
    }

    /// `states` as for [`super::Head::forward`]. Without `frames` every frame counts.
    pub fn forward(&self, states: &[Tensor], frames: Option<&Frames>, pass: &Pass) -> Result<HeadOutput, TchError> {
        let state = pass.dropout(&mixed(self.mix.as_ref(), states)?, self.dropout)?; // (B, T, H)
        let logits = state.f_linear(&self.weight, Some(&self.bias))?;
        let (batch, num_frames, _) = logits.size3()?;
        let frames = frames.map_or_else(|| vec![num_frames; batch as usize], |frames| frames.counts.clone());
        Ok(HeadOutput { logits, frames, embeddings: None })
    }
}

/// The CTC loss of `logits` (B, T, tokens) against the tokens of each utterance, in 32-bit floats and nats.
///
/// With `Reduction::None` each utterance's loss is divided by its number of tokens (at least 1), so that their mean is what
/// `Reduction::Mean` gives. A target that does not fit its frames has an infinite loss; `zero_infinity` makes it, and its
/// gradient, 0.
pub fn losses(
    logits: &Tensor,
    frames: &[i64],
    ids: &[Vec<i64>],
    blank: i64,
    reduction: Reduction,
    zero_infinity: bool,
) -> Result<Tensor, TchError> {
    let lengths: Vec<i64> = ids.iter().map(|tokens| tokens.len() as i64).collect();
    let targets = Tensor::f_from_slice(&ids.concat())?.f_to_device(logits.device())?;
    let log_probs = logits.f_log_softmax(-1, Kind::Float)?.f_transpose(0, 1)?; // (T, B, tokens)
    let losses = Tensor::f_ctc_loss(&log_probs, &targets, frames, &lengths[..], blank, reduction, zero_infinity)?;
    if reduction != Reduction::None {
        return Ok(losses);
    }
    let tokens: Vec<f32> = lengths.iter().map(|&length| length.max(1) as f32).collect();
    losses.f_div(&Tensor::f_from_slice(&tokens)?.f_to_device(losses.device())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    fn logits(frames: i64) -> Tensor {
        tch::manual_seed(7);
        Tensor::randn([2, frames, 5], (Kind::Float, tch::Device::Cpu)).set_requires_grad(true)
    }

    #[test]
    fn a_target_that_does_not_fit_costs_nothing_and_teaches_nothing() {
        let logits = logits(4);
        let ids = vec![vec![1, 1, 2], vec![3, 4]]; // the first wants 4 frames and has 3
        let losses = losses(&logits, &[3, 4], &ids, 0, Reduction::None, true).unwrap();
        let values = Vec::<f32>::try_from(&losses).unwrap();
        assert!(values[0] == 0.0 && values[1] > 0.0, "{values:?}");
        losses.sum(Kind::Float).backward();
        let gradient = logits.grad();
        assert!(gradient.get(0).abs().max().double_value(&[]) <= 0.0);
        assert!(gradient.get(1).abs().max().double_value(&[]) > 0.0);
        assert_eq!([&ids[0][..], &ids[1], &[]].map(tasks::frames_needed), [4, 2, 0]);
    }

    #[test]
    fn an_empty_target_is_silence_throughout() {
        let logits = logits(4);
        let losses = losses(&logits, &[4, 4], &[vec![], vec![2]], 0, Reduction::None, true).unwrap();
        let silence = -logits.detach().log_softmax(-1, Kind::Float).get(0).select(1, 0).sum(Kind::Float);
        assert!((losses.double_value(&[0]) - silence.double_value(&[])).abs() < 1e-5);
    }

    #[test]
    fn forced_alignment_matches_the_reference() {
        let Some(case) = golden::open("text", "forced_align") else { return };
        let numbers = |name: &str| Vec::<f32>::try_from(case.get(name).unwrap().flatten(0, -1)).unwrap();
        let tokens = Vec::<i64>::try_from(case.get("targets").unwrap().flatten(0, -1)).unwrap();
        let num_tokens = *case.get("log_probs").unwrap().size().last().unwrap() as usize;
        let blank = case.what.split("blank ").nth(1).and_then(|rest| rest.split(':').next()).unwrap().parse().unwrap();
        let path = tasks::align::align(&numbers("log_probs"), num_tokens, &tokens, blank).unwrap();
        let said: Vec<i64> = path.iter().map(|frame| frame.token).collect();
        case.check("path", &Tensor::from_slice(&said).unsqueeze(0));
        let scores: Vec<f32> = path.iter().map(|frame| frame.log_prob).collect();
        case.check("scores", &Tensor::from_slice(&scores).unsqueeze(0));
    }
}
