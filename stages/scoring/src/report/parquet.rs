//! The table for programs: one row per run, ratios rather than percent.

use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt64Array};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::Run;
use crate::metric::Metric;
use crate::score::Parameters;

/// Columns: task, corpus, method, seed and the other axes as text; the name of the metric that methods are compared by; every
/// metric that a run measured with the ends of its interval (`wer`, `wer_low`, `wer_high`; null where it was not), parameter counts
/// (null when no training stated them) and the number of utterances.
pub(super) fn encode(runs: &[Run]) -> Result<Vec<u8>, ParquetError> {
    let mut others: Vec<&String> = runs.iter().flat_map(|run| run.others.keys()).collect();
    others.sort_unstable();
    others.dedup();

    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    let mut add = |name: &str, array: ArrayRef| columns.push((name.to_owned(), array));
    add("task", text(runs, |run| Some(&run.task)));
    add("corpus", text(runs, |run| Some(&run.corpus)));
    add("method", text(runs, |run| Some(&run.method)));
    add("seed", text(runs, |run| Some(&run.seed)));
    for axis in others {
        add(axis, text(runs, |run| run.others.get(axis).map(String::as_str)));
    }
    add("metric", text(runs, |run| Some(run.scores.primary.name())));
    for metric in Metric::ALL {
        if runs.iter().any(|run| run.scores.metrics.contains_key(&metric)) {
            add(metric.name(), ratio(runs, |run| Some(run.scores.value(metric)).filter(|value| value.is_finite())));
            add(&format!("{}_low", metric.name()), ratio(runs, |run| run.scores.interval(metric).map(|ends| ends.low)));
            add(&format!("{}_high", metric.name()), ratio(runs, |run| run.scores.interval(metric).map(|ends| ends.high)));
        }
    }
    let parameters = |of: fn(&Parameters) -> u64| count(runs, move |run| run.scores.parameters.as_ref().map(of));
    add("trainable_parameters", parameters(|counts| counts.trainable));
    add("total_parameters", parameters(|counts| counts.total));
    add("utterances", count(runs, |run| Some(run.scores.utterances)));

    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    writer.into_inner()
}

fn text<'a>(runs: &'a [Run], of: impl Fn(&'a Run) -> Option<&'a str>) -> ArrayRef {
    Arc::new(runs.iter().map(of).collect::<StringArray>())
}

fn ratio(runs: &[Run], of: impl Fn(&Run) -> Option<f64>) -> ArrayRef {
    Arc::new(runs.iter().map(of).collect::<Float64Array>())
}

fn count(runs: &[Run], of: impl Fn(&Run) -> Option<u64>) -> ArrayRef {
    Arc::new(runs.iter().map(of).collect::<UInt64Array>())
}
