//! SpecAugment: masking spans of frames and of features in training.
//!
//! Source: Park et al. 2019, arXiv:1904.08779; the rule for the number of spans is that of the published wav2vec 2.0 code.

use tch::{Device, TchError, Tensor};

use crate::checkpoint::config::EncoderConfig;
use crate::nn::frames::Frames;
use crate::nn::pass::Pass;
use crate::nn::random::Rng;

/// How often an axis is masked.
#[derive(Debug, Clone, Copy)]
pub struct SpanRule {
    /// Share of the axis, overlaps not counted.
    pub probability: f64,
    /// Positions of one span.
    pub length: usize,
    /// Fewest spans.
    pub min_spans: usize,
}

impl SpanRule {
    /// How many spans an utterance gets: `axis` positions in all, `valid` of them real, and one draw in [0, 1) for the batch.
    pub fn num_spans(&self, axis: usize, valid: usize, draw: f64) -> usize {
        let wished = (self.probability * valid as f64 / self.length as f64 + draw) as usize;
        let mut spans = wished.max(self.min_spans);
        if spans * self.length > axis {
            spans = axis / self.length;
        }
        // No more than there are places where a span can start.
        spans.min((valid + 1).saturating_sub(self.length))
    }

    /// Masked positions, (rows, axis) row by row. Nothing is masked on an axis shorter than one span.
    fn draw(&self, axis: usize, valid: &[usize], rng: &mut Rng) -> Vec<bool> {
        let mut masked = vec![false; axis * valid.len()];
        if self.length == 0 || self.length > axis {
            return masked;
        }
        let draw = rng.uniform();
        for (row, &valid) in masked.chunks_exact_mut(axis).zip(valid) {
            let spans = self.num_spans(axis, valid, draw);
            for start in rng.choose(spans, (valid + 1).saturating_sub(self.length)) {
                row[start..start + self.length].fill(true);
            }
        }
        masked
    }
}

/// Masks a batch of projected frames (B, T, H): masked frames become `embedding` (H), masked features 0.
pub(crate) fn apply(
    config: &EncoderConfig,
    frames: &Tensor,
    embedding: &Tensor,
    lengths: Option<&Frames>,
    pass: &Pass,
) -> Result<Tensor, TchError> {
    let &[batch, num_frames, hidden] = frames.size().as_slice() else {
        return Err(TchError::Shape("expected (B, T, H)".to_owned()));
    };
    let mut masked = frames.shallow_clone();
    let rule =
        SpanRule { probability: config.mask_time_prob, length: config.mask_time_length, min_spans: config.mask_time_min_masks };
    if config.apply_spec_augment && rule.probability > 0.0 {
        let all = || vec![num_frames as usize; batch as usize];
        let valid = lengths.map_or_else(all, |lengths| lengths.counts.iter().map(|&count| count as usize).collect());
        if let Some(mask) = pass.with_rng(|rng| rule.draw(num_frames as usize, &valid, rng)) {
            let mask = to_tensor(&mask, &[batch, num_frames], frames.device())?;
            masked = replace_frames(&masked, &mask, embedding)?;
        }
    }
    let rule = SpanRule {
        probability: config.mask_feature_prob,
        length: config.mask_feature_length,
        min_spans: config.mask_feature_min_masks,
    };
    if config.apply_spec_augment && rule.probability > 0.0 {
        let valid = vec![hidden as usize; batch as usize];
        if let Some(mask) = pass.with_rng(|rng| rule.draw(hidden as usize, &valid, rng)) {
            masked = masked.f_masked_fill(&to_tensor(&mask, &[batch, 1, hidden], frames.device())?, 0.0)?;
        }
    }
    Ok(masked)
}

fn to_tensor(mask: &[bool], shape: &[i64], device: Device) -> Result<Tensor, TchError> {
    Tensor::f_from_slice(mask)?.f_view(shape)?.f_to_device(device)
}

/// Puts `embedding` (H) in the place of the frames (B, T, H) that `mask` (B, T) names. Makes a new tensor: others need the old one.
pub(crate) fn replace_frames(frames: &Tensor, mask: &Tensor, embedding: &Tensor) -> Result<Tensor, TchError> {
    embedding.f_where_self(&mask.f_unsqueeze(-1)?, frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_stay_in_what_is_real_and_short_utterances_are_left_alone() {
        let rule = SpanRule { probability: 0.5, length: 4, min_spans: 2 };
        let masked = rule.draw(20, &[20, 9, 4, 3], &mut Rng::new(1));
        let count = |row: usize, from: usize| masked[row * 20 + from..(row + 1) * 20].iter().filter(|&&m| m).count();
        assert!(count(0, 0) >= 4);
        assert!(count(1, 0) >= 4 && count(1, 9) == 0);
        assert_eq!((count(2, 0), count(2, 4), count(3, 0)), (4, 0, 0));
        assert!(rule.draw(3, &[3], &mut Rng::new(1)).iter().all(|masked| !masked));
    }

    #[test]
    fn spans_are_as_many_as_in_the_published_code() {
        let Some(path) = reference::find("train/specaugment_spans.json") else { return };
        let cases: Vec<serde_json::Value> = serde_json::from_value(reference::json(&path)).unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            let number = |name: &str| case[name].as_u64().unwrap() as usize;
            let rule = SpanRule {
                probability: case["prob"].as_f64().unwrap(),
                length: number("length"),
                min_spans: number("min_masks"),
            };
            let found = rule.num_spans(number("sequence"), number("input_length"), case["epsilon"].as_f64().unwrap());
            assert_eq!(found, number("spans"), "{case}");
            println!("GOLDEN specaugment_spans spans 0"); // read by scripts/golden_table.py
        }
    }
}
