//! Monotonic alignment search, and the prior of alignments.

use tch::{TchError, Tensor};

/// Choice between two equally good ways into a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tie {
    /// It was entered earlier.
    Keep,
    /// It is entered now, as in the published search.
    Advance,
}

/// Returns the position of every frame on the best path through `scores` (frames x positions, row after row): the first frame at the
/// first position, the last at the last, at most one position further from frame to frame. None with more positions than frames.
///
/// Source: Kim et al. 2020, "Glow-TTS", arXiv:2005.11129, algorithm 1.
pub fn best_path(scores: &[f32], frames: usize, positions: usize, tie: Tie) -> Option<Vec<usize>> {
    if positions == 0 || positions > frames {
        return None;
    }
    let score = |t: usize, p: usize| f64::from(scores[t * positions + p]);
    let mut best = vec![f64::NEG_INFINITY; positions];
    best[0] = score(0, 0);
    let mut entered = vec![false; frames * positions];
    for t in 1..frames {
        for p in (0..positions.min(t + 1)).rev() {
            let (stay, step) = (best[p], if p > 0 { best[p - 1] } else { f64::NEG_INFINITY });
            let steps = match tie {
                Tie::Keep => step > stay,
                Tie::Advance => step >= stay && p > 0,
            };
            entered[t * positions + p] = steps;
            best[p] = score(t, p) + if steps { step } else { stay };
        }
    }
    let mut path = vec![positions - 1; frames];
    for t in (1..frames).rev() {
        path[t - 1] = path[t] - usize::from(entered[t * positions + path[t]]);
    }
    Some(path)
}

/// Returns the frames of every position of a path.
pub fn durations(path: &[usize], positions: usize) -> Vec<i64> {
    let mut counts = vec![0; positions];
    for &position in path {
        counts[position] += 1;
    }
    counts
}

/// Returns the prior of alignments, frames x positions row after row: the beta-binomial distribution of `positions - 1` trials with
/// parameters `t` and `frames + 1 - t` at frame `t`, counted from 1.
///
/// Source: Badlani et al. 2022, arXiv:2108.10447, section 3.3.
pub fn prior(frames: usize, positions: usize) -> Vec<f32> {
    // Logarithms of factorials: all parameters are whole numbers.
    let mut factorials = vec![0.0_f64; frames + positions + 2];
    for n in 1..factorials.len() {
        factorials[n] = factorials[n - 1] + (n as f64).ln();
    }
    // Beta(a, b) = (a - 1)! (b - 1)! / (a + b - 1)!
    let beta = |a: usize, b: usize| factorials[a - 1] + factorials[b - 1] - factorials[a + b - 1];
    let trials = positions - 1;
    let choose = |k: usize| factorials[trials] - factorials[k] - factorials[trials - k];
    let at = |t: usize, k: usize| {
        let (alpha, rest) = (t, frames + 1 - t);
        (choose(k) + beta(k + alpha, trials - k + rest) - beta(alpha, rest)).exp() as f32
    };
    (1..=frames).flat_map(|t| (0..positions).map(move |k| (t, k))).map(|(t, k)| at(t, k)).collect()
}

/// Returns the priors of a batch, padded with 0: (B, T, P), on the CPU. `padded` are T and P.
///
/// Errors: libtorch's.
pub fn priors(positions: &[i64], frames: &[i64], padded: [i64; 2]) -> Result<Tensor, TchError> {
    let [num_frames, num_positions] = padded.map(|size| size as usize);
    let mut values = vec![0.0_f32; positions.len() * num_frames * num_positions];
    let utterances = positions.iter().zip(frames);
    for ((&positions, &frames), rows) in utterances.zip(values.chunks_exact_mut(num_frames * num_positions)) {
        let own = prior(frames as usize, positions as usize);
        for (row, own) in rows.chunks_exact_mut(num_positions).zip(own.chunks_exact(positions as usize)) {
            row[..own.len()].copy_from_slice(own);
        }
    }
    Tensor::f_from_slice(&values)?.f_view([positions.len() as i64, padded[0], padded[1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_the_best_of_all() {
        // Every path of 6 frames over 3 positions, by its two steps.
        let scores: Vec<f32> = (0..18).map(|at| ((at * 7 + at * at) % 11) as f32 / 3.0).collect();
        let sum = |path: &[usize]| path.iter().enumerate().map(|(t, p)| f64::from(scores[t * 3 + p])).sum::<f64>();
        let paths =
            (1..5).flat_map(|a| (a + 1..6).map(move |b| (0..6).map(|t| usize::from(t >= a) + usize::from(t >= b)).collect()));
        let best = paths.map(|path: Vec<usize>| sum(&path)).fold(f64::NEG_INFINITY, f64::max);
        let found = best_path(&scores, 6, 3, Tie::Keep).unwrap();
        assert!((sum(&found) - best).abs() < 1e-9);
        assert_eq!(durations(&found, 3).iter().sum::<i64>(), 6);
    }

    #[test]
    fn more_positions_than_frames_have_no_path() {
        assert_eq!(best_path(&[0.0; 6], 2, 3, Tie::Keep), None);
        assert_eq!(best_path(&[], 3, 0, Tie::Keep), None);
        assert_eq!(best_path(&[0.0; 9], 3, 3, Tie::Advance), Some(vec![0, 1, 2]));
        assert_eq!(best_path(&[0.0; 4], 4, 1, Tie::Advance), Some(vec![0; 4]));
    }

    #[test]
    fn the_prior_of_a_frame_sums_to_one() {
        for (frames, positions) in [(1, 1), (5, 5), (40, 7)] {
            for row in prior(frames, positions).chunks_exact(positions) {
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            }
        }
    }
}
