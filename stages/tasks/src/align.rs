//! Forced alignment: at which frames a known text is said.
//!
//! Source: Graves, Fernández, Gomez and Schmidhuber 2006, "Connectionist temporal classification", section 4.1, with the largest
//! in the place of the sum.

use crate::frames_needed;

/// Token at a frame, with its probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Aligned {
    /// The token; the blank where nothing is said.
    pub token: i64,
    /// Log probability, natural logarithm.
    pub log_prob: f32,
}

/// Why a text cannot be laid along frames.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AlignError {
    /// Each token needs a frame, and equal neighbours one between them.
    #[error("{frames} frames are too few for {tokens} tokens, which need {needed}")]
    TooFewFrames {
        /// How many frames there are.
        frames: usize,
        /// How many tokens.
        tokens: usize,
        /// Frames that they need.
        needed: usize,
    },
    /// A text is made of the vocabulary's tokens, without blanks.
    #[error("token {token} is none of the {num_tokens} tokens beside the blank")]
    NoSuchToken {
        /// The token.
        token: i64,
        /// How many there are, the blank included.
        num_tokens: usize,
    },
    /// The scores are no whole frames.
    #[error("{found} scores are no whole frames of {num_tokens} tokens")]
    Shape {
        /// How many scores there are.
        found: usize,
        /// How many tokens.
        num_tokens: usize,
    },
    /// The recogniser rules the text out.
    #[error("no way of saying the tokens in these frames has a probability")]
    Impossible,
}

/// The likeliest way of saying `tokens`, frame by frame: tokens with repeats, and blanks.
///
/// `log_probs` holds the natural log probabilities of all `num_tokens` tokens frame by frame. Of two ways that are equally likely,
/// the one that stays longer at a token is taken.
///
/// Errors: [`AlignError`].
pub fn align(log_probs: &[f32], num_tokens: usize, tokens: &[i64], blank: i64) -> Result<Vec<Aligned>, AlignError> {
    if num_tokens == 0 || !log_probs.len().is_multiple_of(num_tokens) {
        return Err(AlignError::Shape { found: log_probs.len(), num_tokens });
    }
    let known = |token: &i64| usize::try_from(*token).is_ok_and(|token| token < num_tokens);
    if let Some(&token) = tokens.iter().chain([&blank]).find(|token| !known(token)).or(tokens.iter().find(|t| **t == blank)) {
        return Err(AlignError::NoSuchToken { token, num_tokens });
    }
    let (frames, needed) = (log_probs.len() / num_tokens, frames_needed(tokens));
    if frames < needed {
        return Err(AlignError::TooFewFrames { frames, tokens: tokens.len(), needed });
    }
    // States: a blank, the first token, a blank, the second, and so on to a last blank.
    let num_states = 2 * tokens.len() + 1;
    let token_of = |state: usize| if state.is_multiple_of(2) { blank } else { tokens[state / 2] };
    // From one token straight to the next, without the blank between, unless the two are equal.
    let may_skip = |state: usize| state >= 3 && !state.is_multiple_of(2) && token_of(state) != token_of(state - 2);
    let mut best = vec![f64::NEG_INFINITY; num_states];
    let mut steps: Vec<u8> = Vec::with_capacity(frames * num_states); // how many states each came forward at each frame
    for (at, frame) in log_probs.chunks_exact(num_tokens).enumerate() {
        let before = best.clone();
        for state in 0..num_states {
            let (mut came, mut score) = (0, if at == 0 && state < 2 { 0.0 } else { f64::NEG_INFINITY });
            if at > 0 {
                score = before[state];
                let most = if may_skip(state) { 2 } else { 1 };
                for step in 1..=most.min(state) {
                    if before[state - step] > score {
                        (came, score) = (step, before[state - step]);
                    }
                }
            }
            best[state] = score + f64::from(frame[token_of(state) as usize]);
            steps.push(came as u8);
        }
    }
    // It ends in the last token or in the blank behind it.
    let mut state = num_states - 1;
    if state > 0 && best[state - 1] >= best[state] {
        state -= 1;
    }
    if frames > 0 && !best[state].is_finite() {
        return Err(AlignError::Impossible);
    }
    let mut path = Vec::with_capacity(frames);
    for at in (0..frames).rev() {
        let token = token_of(state);
        path.push(Aligned { token, log_prob: log_probs[at * num_tokens + token as usize] });
        state -= usize::from(steps[at * num_states + state]);
    }
    path.reverse();
    Ok(path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All ways of filling `frames` frames, tried one after the other.
    fn best_by_trying(log_probs: &[f32], num_tokens: usize, tokens: &[i64]) -> Option<f64> {
        let frames = log_probs.len() / num_tokens;
        let ways = num_tokens.pow(frames as u32);
        let score = |way: usize| {
            let mut rest = way;
            let path: Vec<i64> = (0..frames).map(|_| (rest % num_tokens, rest /= num_tokens).0 as i64).collect();
            let mut said = path.clone();
            said.dedup();
            said.retain(|&token| token != 0);
            let sum = (0..).zip(&path).map(|(at, &token)| f64::from(log_probs[at * num_tokens + token as usize])).sum::<f64>();
            (said == tokens).then_some(sum)
        };
        (0..ways).filter_map(score).max_by(f64::total_cmp)
    }

    proptest! {
        #[test]
        fn no_other_way_is_likelier(
            scores in (0_usize..=6).prop_flat_map(|frames| prop::collection::vec(-9.0_f32..0.0, frames * 3)),
            tokens in prop::collection::vec(1_i64..3, 0..4),
        ) {
            match (align(&scores, 3, &tokens, 0), best_by_trying(&scores, 3, &tokens)) {
                (Ok(path), Some(best)) => {
                    let mut said: Vec<i64> = path.iter().map(|frame| frame.token).collect();
                    let sum: f64 = path.iter().map(|frame| f64::from(frame.log_prob)).sum();
                    prop_assert!((sum - best).abs() < 1e-6, "{sum} and {best}");
                    said.dedup();
                    said.retain(|&token| token != 0);
                    prop_assert_eq!(said, tokens);
                }
                (Err(AlignError::TooFewFrames { .. }), None) => {}
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }

    #[test]
    fn what_cannot_be_said_is_named() {
        let even = [-1.0_f32; 6];
        let error = |scores: &[f32], tokens: &[i64]| align(scores, 3, tokens, 0).unwrap_err().to_string();
        assert_eq!(error(&even, &[1, 1]), "2 frames are too few for 2 tokens, which need 3");
        assert_eq!(error(&even, &[3]), "token 3 is none of the 3 tokens beside the blank");
        assert_eq!(error(&even, &[0]), "token 0 is none of the 3 tokens beside the blank");
        assert_eq!(error(&even, &[-1]), "token -1 is none of the 3 tokens beside the blank");
        assert_eq!(error(&even[..4], &[1]), "4 scores are no whole frames of 3 tokens");
        let never = [0.0, f32::NEG_INFINITY, -1.0, 0.0, f32::NEG_INFINITY, -1.0];
        assert_eq!(error(&never, &[1]), "no way of saying the tokens in these frames has a probability");
        let not_numbers = [f32::NAN; 6];
        assert_eq!(align(&not_numbers, 3, &[1], 0), Err(AlignError::Impossible));
        assert_eq!(align(&[], 3, &[], 0), Ok(vec![]));
    }
}
