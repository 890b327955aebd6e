//! The file `utterances.parquet`.
//!
//! Columns: `id`, `speaker` (null where unknown), `num_samples`; of a classifier `label` and `prediction` as numbers of classes;
//! of a model of several labels lists of them, `labels` and `predictions`, and `scores`, their probabilities; of a verifier `score`, `target` and the numbers of both recordings, `enrol` and `test`; and for every metric that is a ratio of
//! sums, `wer` say, `wer_part` and `wer_whole`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int64Type, UInt32Type};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Float32Array, Float64Array, Int64Array, ListArray, RecordBatch, StringArray, UInt32Array,
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field};
use datasets::parquet_file::{Batch, ParquetFile, ParquetFileError};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::{Classes, Evidence, Ratio};
use crate::metric::Metric;
use crate::tagging::Tags;

/// Name of the file, within the artifact of a score.
pub const FILE_NAME: &str = "utterances.parquet";

/// Error of writing or reading evidence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// The file cannot be read, or it is not what scoring writes.
    #[error(transparent)]
    Read(#[from] ParquetFileError),
    /// The file cannot be made.
    #[error("cannot write `{path}`")]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// The rows cannot be written.
    #[error("cannot write `{path}` as parquet")]
    Parquet {
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: ParquetError,
    },
}

/// Writes evidence; the same evidence gives the same bytes.
///
/// Errors: [`EvidenceError::Io`], [`EvidenceError::Parquet`].
pub fn write(path: &Path, evidence: &Evidence) -> Result<(), EvidenceError> {
    let file = File::create(path).map_err(|source| EvidenceError::Io { path: path.to_owned(), source })?;
    write_rows(file, evidence).map_err(|source| EvidenceError::Parquet { path: path.to_owned(), source })
}

fn write_rows(file: File, evidence: &Evidence) -> Result<(), ParquetError> {
    let mut columns: Vec<(String, ArrayRef, bool)> = Vec::new();
    let mut add = |name: &str, array: ArrayRef| columns.push((name.to_owned(), array, name == "speaker"));
    add("id", Arc::new(StringArray::from_iter_values(&evidence.ids)));
    let speaker = |at: usize| evidence.speakers.as_ref().map(|speakers| speakers[at].as_str());
    add("speaker", Arc::new((0..evidence.ids.len()).map(speaker).collect::<StringArray>()));
    if let Some(lengths) = &evidence.num_samples {
        add("num_samples", Arc::new(Int64Array::from_iter_values(lengths.iter().copied())));
    }
    if let Some(classes) = &evidence.classes {
        add("label", Arc::new(UInt32Array::from_iter_values(classes.labels.iter().copied())));
        add("prediction", Arc::new(UInt32Array::from_iter_values(classes.predictions.iter().copied())));
    }
    if let Some(tags) = &evidence.tags {
        let numbers = |lists: &[Vec<u32>]| Arc::new(UInt32Array::from_iter_values(lists.iter().flatten().copied()));
        add("labels", list(&tags.labels, numbers(&tags.labels)));
        add("predictions", list(&tags.predictions, numbers(&tags.predictions)));
        let scores = Arc::new(Float32Array::from_iter_values(tags.scores.iter().flatten().copied()));
        add("scores", list(&tags.scores, scores));
    }
    if let Some(trials) = &evidence.trials {
        add("score", Arc::new(Float64Array::from_iter_values(trials.scores.iter().copied())));
        add("target", Arc::new(trials.targets.iter().map(|target| Some(*target)).collect::<BooleanArray>()));
        for (side, name) in ["enrol", "test"].into_iter().enumerate() {
            add(name, Arc::new(UInt32Array::from_iter_values(trials.recordings.iter().map(|pair| pair[side]))));
        }
    }
    for (metric, shares) in &evidence.ratios {
        let numbers = |of: fn(&Ratio) -> f64| Arc::new(Float64Array::from_iter_values(shares.iter().map(of)));
        add(&format!("{}_part", metric.name()), numbers(|share| share.part));
        add(&format!("{}_whole", metric.name()), numbers(|share| share.whole));
    }
    let batch = RecordBatch::try_from_iter_with_nullable(columns)?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(())
}

fn item(data_type: DataType) -> Arc<Field> {
    Arc::new(Field::new("item", data_type, false))
}

/// A column of lists from their numbers, one after the other.
fn list<T>(lists: &[Vec<T>], values: ArrayRef) -> ArrayRef {
    let offsets = OffsetBuffer::from_lengths(lists.iter().map(Vec::len));
    Arc::new(ListArray::new(item(values.data_type().clone()), offsets, values, None))
}

/// Reads evidence.
///
/// Errors: [`EvidenceError`].
pub fn read(path: &Path) -> Result<Evidence, EvidenceError> {
    let mut evidence = Evidence::default();
    let mut speakers: Vec<Option<String>> = Vec::new();
    for batch in ParquetFile::open(path, "a file of evidence")?.rows(|_| true)? {
        append(&mut evidence, &mut speakers, &batch?)?;
    }
    evidence.speakers = speakers.into_iter().collect();
    if let Some(classes) = &mut evidence.classes {
        let largest = classes.labels.iter().chain(&classes.predictions).max();
        classes.count = largest.map_or(0, |largest| *largest as usize + 1);
    }
    Ok(evidence)
}

fn append(evidence: &mut Evidence, speakers: &mut Vec<Option<String>>, batch: &Batch) -> Result<(), ParquetFileError> {
    let column = |name: &str, expected: DataType| {
        let column = batch.column(name, &expected)?;
        match column.null_count() {
            0 => Ok(column),
            _ if name == "speaker" => Ok(column),
            nulls => Err(batch.layout(format!("column `{name}` should have a value in each row, {nulls} rows have none"))),
        }
    };
    let has = |name: &str| batch.find(name).is_some();
    let numbers = |name: &str| Ok(column(name, DataType::Float64)?.as_primitive::<Float64Type>().values().to_vec());
    let classes = |name: &str| Ok(column(name, DataType::UInt32)?.as_primitive::<UInt32Type>().values().to_vec());
    evidence.ids.extend(column("id", DataType::Utf8)?.as_string::<i32>().iter().flatten().map(str::to_owned));
    speakers.extend(column("speaker", DataType::Utf8)?.as_string::<i32>().iter().map(|name| name.map(str::to_owned)));
    if has("label") {
        let all = evidence.classes.get_or_insert(Classes { count: 0, labels: Vec::new(), predictions: Vec::new() });
        all.labels.extend(classes("label")?);
        all.predictions.extend(classes("prediction")?);
    }
    if has("labels") {
        let lists = |name: &str| {
            let column = column(name, DataType::List(item(DataType::UInt32)))?.as_list::<i32>();
            let list = |at: usize| column.value(at).as_primitive::<UInt32Type>().values().to_vec();
            Ok::<Vec<Vec<u32>>, ParquetFileError>((0..column.len()).map(list).collect())
        };
        let all: &mut Tags = evidence.tags.get_or_insert_default();
        all.labels.extend(lists("labels")?);
        all.predictions.extend(lists("predictions")?);
        let scores = column("scores", DataType::List(item(DataType::Float32)))?.as_list::<i32>();
        let list = |at: usize| scores.value(at).as_primitive::<Float32Type>().values().to_vec();
        all.scores.extend((0..scores.len()).map(list));
        all.count = all.scores.first().map_or(0, Vec::len);
    }
    if has("num_samples") {
        let lengths = column("num_samples", DataType::Int64)?.as_primitive::<Int64Type>().values();
        evidence.num_samples.get_or_insert_default().extend(lengths);
    }
    if has("score") {
        let all = evidence.trials.get_or_insert_default();
        all.scores.extend(numbers("score")?);
        all.targets.extend(column("target", DataType::Boolean)?.as_boolean().values().iter());
        let pairs = classes("enrol")?.into_iter().zip(classes("test")?);
        all.recordings.extend(pairs.map(|(enrol, test)| [enrol, test]));
    }
    for metric in Metric::ALL {
        let (part, whole) = (format!("{}_part", metric.name()), format!("{}_whole", metric.name()));
        if has(&part) {
            let shares = numbers(&part)?.into_iter().zip(numbers(&whole)?).map(|(part, whole)| Ratio { part, whole });
            evidence.ratios.entry(metric).or_default().extend(shares);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::evidence::TrialScores;

    #[track_caller]
    fn check(evidence: &Evidence) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        write(&path, evidence).unwrap();
        assert_eq!(read(&path).unwrap(), *evidence);
    }

    #[test]
    fn evidence_comes_back() {
        let ids = || ["a", "b"].map(str::to_owned).to_vec();
        let shares = vec![Ratio { part: 1.0, whole: 3.0 }, Ratio { part: 0.0, whole: 0.0 }];
        let ratios = BTreeMap::from([(Metric::Wer, shares.clone()), (Metric::Loss, shares)]);
        check(&Evidence { ids: ids(), speakers: Some(ids()), ratios, ..Evidence::default() });
        let classes = Classes { count: 3, labels: vec![0, 2], predictions: vec![1, 2] };
        check(&Evidence { ids: ids(), num_samples: Some(vec![3, 4]), classes: Some(classes), ..Evidence::default() });
        let tags = Tags {
            count: 2,
            labels: vec![vec![0, 1], vec![]],
            predictions: vec![vec![], vec![1]],
            scores: vec![vec![0.5, 0.25], vec![0.0, 1.0]],
        };
        check(&Evidence { ids: ids(), tags: Some(tags), ..Evidence::default() });
        let trials = TrialScores { scores: vec![0.5, -1.0], targets: vec![true, false], recordings: vec![[0, 1], [0, 2]] };
        check(&Evidence { ids: ids(), trials: Some(trials), ..Evidence::default() });
    }

    #[test]
    fn another_table_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        let rows = [crate::Trial { enrol_id: "a".to_owned(), test_id: "b".to_owned(), score: 1.0, target: true }];
        crate::predictions::write(&path, &rows).unwrap();
        let message = read(&path).unwrap_err().to_string();
        assert!(message.ends_with("is not a file of evidence: column `id` should be Utf8, found no such column"), "{message}");
    }
}
