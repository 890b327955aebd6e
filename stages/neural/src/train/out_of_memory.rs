//! When memory runs out: the largest part of the batch that fits.

use pipeline::StageError;

use super::learner::{Learner, TrainingData};
use crate::error::ModelError;

/// A batch that memory does not hold.
#[derive(Debug, thiserror::Error)]
#[error("out of memory with a batch of {}: {found}", batch(*.utterances, *.secs))]
pub(super) struct OutOfMemory {
    utterances: usize,
    /// Padding counted.
    secs: f64,
    found: String,
    #[source]
    source: ModelError,
}

/// The error of a training step; when memory ran out, with the largest part of the batch that fits, which is tried out.
///
/// `hint`: advice when not even one utterance fits.
pub(super) fn explain<L: Learner, D: TrainingData<Batch = L::Batch>>(
    error: ModelError,
    learner: &L,
    data: &D,
    rows: &[usize],
    hint: &str,
) -> StageError {
    if !error.is_out_of_memory() {
        return error.into();
    }
    let secs = rows.iter().map(|&row| data.secs(row)).fold(0.0, f64::max);
    let fitting = largest(rows.len(), |count| fits(learner, data, &rows[..count]));
    let (found, hint) = if fitting == 0 {
        ("not even one of its utterances fits".to_owned(), hint.to_owned())
    } else {
        let fit = secs * fitting as f64;
        let hint = format!(
            "set `batch_secs = {}` or `batch_size = {fitting}`, and raise `accumulation` to keep the update as large",
            rounded_down(fit)
        );
        (format!("{} of it fit", batch(fitting, fit)), hint)
    };
    let utterances = rows.len();
    StageError::failed(OutOfMemory { utterances, secs: secs * utterances as f64, found, source: error }).with_hint(hint)
}

fn batch(utterances: usize, secs: f64) -> String {
    let plural = if utterances == 1 { "" } else { "s" };
    format!("{utterances} utterance{plural}, {secs:.1} s of audio with padding")
}

/// To a tenth, so that the batch that was tried is the largest that the number lets through.
fn rounded_down(secs: f64) -> f64 {
    (secs * 10.0).floor() / 10.0
}

/// True if a training step over some utterances goes through.
fn fits<L: Learner, D: TrainingData<Batch = L::Batch>>(learner: &L, data: &D, rows: &[usize]) -> bool {
    let Some(Ok(batch)) = data.load(vec![rows.to_vec()], learner.device()).next() else { return false };
    learner.loss(&batch, 0).is_ok_and(|loss| learner.backward(&loss).is_ok())
}

/// The largest count below `limit` that fits, 0 when none does. Whatever fits, less of it fits.
fn largest(limit: usize, fits: impl Fn(usize) -> bool) -> usize {
    let (mut good, mut bad) = (0, limit);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if fits(middle) { good = middle } else { bad = middle }
    }
    good
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_that_fits_is_found() {
        for limit in 1..40 {
            for fitting in 0..limit {
                assert_eq!(largest(limit, |count| count <= fitting), fitting, "below {limit}");
            }
        }
    }

    #[test]
    fn sizes_are_said_in_words() {
        assert_eq!(batch(1, 10.04), "1 utterance, 10.0 s of audio with padding");
        assert!((rounded_down(12.37) - 12.3).abs() < 1e-12);
    }
}
