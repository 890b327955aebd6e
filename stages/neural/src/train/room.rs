//! When memory runs out: what would have fitted.

use neural_spec::Precision;
use pipeline::StageError;

use super::fit::Bench;
use crate::data::Loader;
use crate::model::{Mode, ModelError};

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
pub(super) fn explain(error: ModelError, bench: &Bench, rows: &[usize]) -> StageError {
    if !error.is_out_of_memory() {
        return error.into();
    }
    let longest = rows.iter().map(|&row| bench.train.lengths()[row]).max().unwrap_or(0);
    let secs = longest as f64 / f64::from(bench.model.preprocessor().sampling_rate);
    let fitting = largest(rows.len(), |count| fits(bench, &rows[..count]));
    let (found, hint) = if fitting == 0 {
        let more = match (bench.params.gradient_checkpointing, bench.params.precision) {
            (false, _) => "set `gradient_checkpointing = true`, or leave out utterances that long",
            (true, Precision::Fp32) => "set `precision = \"bf16\"`, or leave out utterances that long",
            (true, Precision::Bf16) => "leave out utterances that long, or train fewer layers",
        };
        ("not even one of its utterances fits".to_owned(), more.to_owned())
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

/// Whether a training step over some utterances goes through.
fn fits(bench: &Bench, rows: &[usize]) -> bool {
    let Some(Ok(prepared)) = Loader::start(bench.train, vec![rows.to_vec()], bench.model.device()).next() else { return false };
    let loss = bench.task.loss(bench.model, &prepared, Mode::Train { seed: 0 });
    loss.is_ok_and(|loss| bench.model.backward(&loss).is_ok())
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
            for room in 0..limit {
                assert_eq!(largest(limit, |count| count <= room), room, "below {limit}");
            }
        }
    }

    #[test]
    fn sizes_are_said_in_words() {
        assert_eq!(batch(1, 10.04), "1 utterance, 10.0 s of audio with padding");
        assert!((rounded_down(12.37) - 12.3).abs() < 1e-12);
    }
}
