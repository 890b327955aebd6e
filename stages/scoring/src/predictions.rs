//! The file `predictions.parquet`: what a classifier answered, one row per utterance.
//!
//! Evaluation writes it and scoring reads it; both do so through this module, so the schema stands in one place. Knows
//! nothing of metrics.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{ArrayRef, Float32Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

/// The name of the file within the artifact of an evaluation.
pub const FILE_NAME: &str = "predictions.parquet";

/// The answer to one utterance.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The utterance.
    pub id: String,
    /// The right class: index into the list of labels.
    pub label: i64,
    /// The class answered.
    pub prediction: i64,
    /// The right class, in words.
    pub label_text: String,
    /// The class answered, in words.
    pub prediction_text: String,
    /// Length of the utterance in samples.
    pub num_samples: i64,
    /// Cross entropy of the right class, natural log.
    pub loss: f32,
}

/// Why a file of predictions cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PredictionsError {
    /// The file cannot be made or opened.
    #[error("cannot {action} `{path}`")]
    Io {
        /// The verb: `write`, `read`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// It is not Parquet, or it is damaged.
    #[error("cannot {action} `{path}` as parquet")]
    Parquet {
        /// The verb: `write`, `read`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: ParquetError,
    },
    /// Another schema.
    #[error("`{path}` holds no predictions: column `{column}` should be {expected}, found {found}")]
    Column {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// Its type here.
        expected: DataType,
        /// What the file has.
        found: String,
    },
    /// A value is missing.
    #[error("`{path}` has {count} empty values in column `{column}`, expected none")]
    Null {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// How many.
        count: usize,
    },
    /// One utterance was answered twice.
    #[error("utterance `{id}` has two predictions, expected one")]
    Duplicate {
        /// The utterance.
        id: String,
    },
}

/// The columns, in order; none may hold nulls.
pub fn schema() -> Schema {
    let column = |name, data_type| Field::new(name, data_type, false);
    Schema::new(vec![
        column("id", DataType::Utf8),
        column("label", DataType::Int64),
        column("prediction", DataType::Int64),
        column("label_text", DataType::Utf8),
        column("prediction_text", DataType::Utf8),
        column("num_samples", DataType::Int64),
        column("loss", DataType::Float32),
    ])
}

/// Writes predictions, sorted by id; the same predictions give the same bytes, whatever their order.
///
/// Errors: [`PredictionsError::Duplicate`] when an id occurs twice; [`PredictionsError::Io`] and
/// [`PredictionsError::Parquet`] when the file cannot be written.
pub fn write(path: &Path, predictions: &[Prediction]) -> Result<(), PredictionsError> {
    let mut rows: Vec<&Prediction> = predictions.iter().collect();
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    if let Some(pair) = rows.windows(2).find(|pair| pair[0].id == pair[1].id) {
        return Err(PredictionsError::Duplicate { id: pair[0].id.clone() });
    }
    let file = File::create(path).map_err(io("write", path))?;
    write_rows(file, &rows).map_err(parquet("write", path))
}

fn write_rows(file: File, rows: &[&Prediction]) -> Result<(), ParquetError> {
    let text =
        |get: fn(&Prediction) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(|row| get(row)))) };
    let number =
        |get: fn(&Prediction) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| get(row)))) };
    let columns = vec![
        text(|row| &row.id),
        number(|row| row.label),
        number(|row| row.prediction),
        text(|row| &row.label_text),
        text(|row| &row.prediction_text),
        number(|row| row.num_samples),
        Arc::new(Float32Array::from_iter_values(rows.iter().map(|row| row.loss))) as ArrayRef,
    ];
    let batch = RecordBatch::try_new(Arc::new(schema()), columns)?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(())
}

/// Reads predictions, in the order of the file. Columns beyond those of [`schema`] are stepped over.
///
/// Errors: [`PredictionsError::Io`] and [`PredictionsError::Parquet`] when the file cannot be read,
/// [`PredictionsError::Column`] and [`PredictionsError::Null`] when it holds something else.
pub fn read(path: &Path) -> Result<Vec<Prediction>, PredictionsError> {
    let file = File::open(path).map_err(io("read", path))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(ParquetRecordBatchReaderBuilder::build)
        .map_err(parquet("read", path))?;
    let mut predictions = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|source| parquet("read", path)(source.into()))?;
        append(&mut predictions, &batch, path)?;
    }
    Ok(predictions)
}

fn append(predictions: &mut Vec<Prediction>, batch: &RecordBatch, path: &Path) -> Result<(), PredictionsError> {
    let columns = schema().fields().iter().map(|field| column(batch, field, path)).collect::<Result<Vec<_>, _>>()?;
    let text = |at: usize, row: usize| columns[at].as_string::<i32>().value(row).to_owned();
    let number = |at: usize, row: usize| columns[at].as_primitive::<Int64Type>().value(row);
    predictions.extend((0..batch.num_rows()).map(|row| Prediction {
        id: text(0, row),
        label: number(1, row),
        prediction: number(2, row),
        label_text: text(3, row),
        prediction_text: text(4, row),
        num_samples: number(5, row),
        loss: columns[6].as_primitive::<Float32Type>().value(row),
    }));
    Ok(())
}

/// The column of a field, with the type and without the nulls that the schema promises.
fn column<'a>(batch: &'a RecordBatch, field: &Field, path: &Path) -> Result<&'a ArrayRef, PredictionsError> {
    let wrong = |found: String| PredictionsError::Column {
        path: path.to_owned(),
        column: field.name().clone(),
        expected: field.data_type().clone(),
        found,
    };
    let array = batch.column_by_name(field.name()).ok_or_else(|| wrong("no such column".to_owned()))?;
    if array.data_type() != field.data_type() {
        return Err(wrong(array.data_type().to_string()));
    }
    match array.null_count() {
        0 => Ok(array),
        count => Err(PredictionsError::Null { path: path.to_owned(), column: field.name().clone(), count }),
    }
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PredictionsError {
    let path = path.to_owned();
    move |source| PredictionsError::Io { action, path, source }
}

fn parquet(action: &'static str, path: &Path) -> impl FnOnce(ParquetError) -> PredictionsError {
    let path = path.to_owned();
    move |source| PredictionsError::Parquet { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prediction(id: &str, label: i64, prediction: i64) -> Prediction {
        let words = ["down", "up", "größer"];
        Prediction {
            id: id.to_owned(),
            label,
            prediction,
            label_text: words[label as usize].to_owned(),
            prediction_text: words[prediction as usize].to_owned(),
            num_samples: 16_000 + label,
            loss: 0.125 + prediction as f32,
        }
    }

    #[test]
    fn rows_come_back_sorted_by_id() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        let rows = [prediction("b", 1, 1), prediction("a", 0, 2)];
        write(&path, &rows).unwrap();
        assert_eq!(read(&path).unwrap(), [rows[1].clone(), rows[0].clone()]);
    }

    #[test]
    fn no_rows_are_a_file_of_no_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        write(&path, &[]).unwrap();
        assert_eq!(read(&path).unwrap(), []);
    }

    #[test]
    fn the_order_of_the_rows_leaves_the_bytes_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        let mut rows: Vec<_> = (0..50).map(|i| prediction(&format!("id{i:03}"), i % 3, (i + 1) % 3)).collect();
        write(&one, &rows).unwrap();
        rows.reverse();
        write(&other, &rows).unwrap();
        assert_eq!(std::fs::read(one).unwrap(), std::fs::read(other).unwrap());
    }

    #[test]
    fn two_answers_to_one_utterance_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = write(&folder.path().join("x"), &[prediction("a", 0, 1), prediction("a", 0, 2)]).unwrap_err();
        assert_eq!(error.to_string(), "utterance `a` has two predictions, expected one");
    }

    #[test]
    fn what_is_not_predictions_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other.parquet");
        std::fs::write(&path, b"no parquet at all").unwrap();
        assert!(matches!(read(&path).unwrap_err(), PredictionsError::Parquet { .. }));

        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
        let batch = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![1]))]).unwrap();
        let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let message = read(&path).unwrap_err().to_string();
        assert!(message.ends_with("column `id` should be Utf8, found Int64"), "{message}");
        assert!(matches!(read(&folder.path().join("absent")).unwrap_err(), PredictionsError::Io { .. }));
    }
}
