//! File `predictions.parquet`: the answers of a model, one row per utterance (or per trial).
//!
//! Evaluation writes it and scoring reads it; both do so through this module, so that every schema is defined in one place. There is
//! one kind of row per kind of answer:
//!
//! | row | answer | columns beside `id`, `speaker`, `num_samples`, `loss` |
//! | --- | --- | --- |
//! | [`Prediction`] | a class | `label`, `prediction`, `label_text`, `prediction_text` |
//! | [`Transcription`] | a text | `reference`, `hypothesis` |
//! | [`Intents`] | one value in each of several slots | `slots`: a list of structs `slot`, `label`, `prediction` |
//! | [`Tagged`] | any number of labels | `labels`, `predictions`: lists of labels; `scores`: probability of each label |
//! | [`Synthesised`] | speech of a given text | those of a text, and what its sound is like |
//! | [`Trial`] | how alike two recordings are | `enrol_id`, `test_id`, `score`, `target` (no other columns) |
//!
//! Knows nothing of metrics.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use datasets::parquet_file::{ParquetFile, ParquetFileError};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

mod any;
mod class;
mod column;
mod intent;
mod speech;
mod tags;
mod text;
mod trial;

pub use any::{Predictions, read_any};
pub use class::Prediction;
pub use intent::{Intents, SlotAnswer};
pub use speech::{Sound, Synthesised, Voice};
pub use tags::Tagged;
pub use text::Transcription;
pub use trial::Trial;

/// Name of the file, within the artifact of an evaluation.
pub const FILE_NAME: &str = "predictions.parquet";

/// A row of a file of predictions.
pub trait PredictionRow: Sized {
    /// Description of the rows, for messages: `predictions of classes`.
    const WHAT: &'static str;
    /// The columns, in order.
    fn columns() -> Vec<Field>;
    /// Key of the row: unique, and the order of the file.
    fn key(&self) -> (&str, &str);
    /// The columns of rows.
    fn encode(rows: &[&Self]) -> Vec<ArrayRef>;
    /// All rows of columns, which are in order and have the types of [`PredictionRow::columns`].
    fn decode(columns: &[&ArrayRef], rows: usize) -> Vec<Self>;
}

/// Prediction about one utterance.
pub trait UtteranceRow: PredictionRow {
    /// Id of the utterance.
    fn id(&self) -> &str;
    /// Speaker, where the corpus names one.
    fn speaker(&self) -> Option<&str>;
    /// Length in samples.
    fn num_samples(&self) -> i64;
    /// Loss of the right answer, natural log.
    fn loss(&self) -> f32;
}

macro_rules! utterance_row {
    ($($row:ty),*) => {$(
        impl UtteranceRow for $row {
            fn id(&self) -> &str {
                &self.id
            }
            fn speaker(&self) -> Option<&str> {
                self.speaker.as_deref()
            }
            fn num_samples(&self) -> i64 {
                self.num_samples
            }
            fn loss(&self) -> f32 {
                self.loss
            }
        }
    )*};
}
utterance_row!(Prediction, Transcription, Intents, Tagged);

impl UtteranceRow for Synthesised {
    fn id(&self) -> &str {
        self.text.id()
    }
    fn speaker(&self) -> Option<&str> {
        self.text.speaker()
    }
    fn num_samples(&self) -> i64 {
        self.text.num_samples()
    }
    fn loss(&self) -> f32 {
        self.text.loss()
    }
}

/// Error of writing or reading a file of predictions.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PredictionsError {
    /// The file cannot be read, or it is not Parquet.
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
    /// Another schema.
    #[error("`{path}` holds no {what}: column `{column}` should be {expected}, found {found}")]
    Column {
        /// The file.
        path: PathBuf,
        /// Expected kind of predictions.
        what: &'static str,
        /// The column.
        column: String,
        /// Expected type.
        expected: DataType,
        /// Type found.
        found: String,
    },
    /// None of the schemas.
    #[error("`{path}` holds no predictions: its columns are {found}")]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The names of its columns.
        found: String,
    },
    /// A value is missing.
    #[error("`{path}` has {count} empty values in column `{column}`, expected none")]
    Null {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// Number of missing values.
        count: usize,
    },
    /// One utterance was answered twice.
    #[error("utterance `{id}` has two predictions, expected one")]
    Duplicate {
        /// The utterance, or the two of a trial.
        id: String,
    },
}

/// The columns of a kind of row, in order.
pub fn schema<R: PredictionRow>() -> Schema {
    Schema::new(R::columns())
}

/// Writes predictions, sorted by key; the same predictions give the same bytes, whatever their order.
///
/// Errors: [`PredictionsError::Duplicate`] when a key occurs twice; [`PredictionsError::Io`] and
/// [`PredictionsError::Parquet`] when the file cannot be written.
pub fn write<R: PredictionRow>(path: &Path, predictions: &[R]) -> Result<(), PredictionsError> {
    let mut rows: Vec<&R> = predictions.iter().collect();
    rows.sort_by(|a, b| a.key().cmp(&b.key()));
    refuse_doubles(&rows)?;
    let file = File::create(path).map_err(|source| PredictionsError::Io { path: path.to_owned(), source })?;
    write_rows(file, &rows).map_err(|source| PredictionsError::Parquet { path: path.to_owned(), source })
}

fn write_rows<R: PredictionRow>(file: File, rows: &[&R]) -> Result<(), ParquetError> {
    let batch = RecordBatch::try_new(Arc::new(schema::<R>()), R::encode(rows))?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(())
}

/// Reads predictions, sorted by key. Columns beyond those of [`schema`] are stepped over.
///
/// Errors: [`PredictionsError::Read`] when the file cannot be read,
/// [`PredictionsError::Column`] and [`PredictionsError::Null`] when it holds something else,
/// [`PredictionsError::Duplicate`] when a key occurs twice.
pub fn read<R: PredictionRow>(path: &Path) -> Result<Vec<R>, PredictionsError> {
    let mut predictions = Vec::new();
    for batch in open(path)?.rows(|_| true)? {
        let batch = batch?;
        let columns = R::columns();
        let columns = columns.iter().map(|field| column(batch.arrow(), field, path, R::WHAT)).collect::<Result<Vec<_>, _>>()?;
        predictions.extend(R::decode(&columns, batch.num_rows()));
    }
    predictions.sort_by(|a: &R, b: &R| a.key().cmp(&b.key()));
    refuse_doubles(&predictions.iter().collect::<Vec<_>>())?;
    Ok(predictions)
}

fn open(path: &Path) -> Result<ParquetFile, ParquetFileError> {
    ParquetFile::open(path, "a file of predictions")
}

/// `rows` are sorted by key.
fn refuse_doubles<R: PredictionRow>(rows: &[&R]) -> Result<(), PredictionsError> {
    match rows.windows(2).find(|pair| pair[0].key() == pair[1].key()) {
        Some(pair) => {
            let (first, second) = pair[0].key();
            let id = if second.is_empty() { first.to_owned() } else { format!("{first}, {second}") };
            Err(PredictionsError::Duplicate { id })
        }
        None => Ok(()),
    }
}

/// The column of a field, with the type and without the nulls that the schema promises.
fn column<'a>(batch: &'a RecordBatch, field: &Field, path: &Path, what: &'static str) -> Result<&'a ArrayRef, PredictionsError> {
    let wrong = |found: String| PredictionsError::Column {
        path: path.to_owned(),
        what,
        column: field.name().clone(),
        expected: field.data_type().clone(),
        found,
    };
    let array = batch.column_by_name(field.name()).ok_or_else(|| wrong("no such column".to_owned()))?;
    if array.data_type() != field.data_type() {
        return Err(wrong(array.data_type().to_string()));
    }
    match array.null_count() {
        _ if field.is_nullable() => Ok(array),
        0 => Ok(array),
        count => Err(PredictionsError::Null { path: path.to_owned(), column: field.name().clone(), count }),
    }
}

#[cfg(test)]
mod tests;
