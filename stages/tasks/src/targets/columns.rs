//! What shards say of their utterances, without the audio.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, RecordBatch, StructArray};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;

/// What a corpus says of an utterance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Utterance {
    /// Unique in the corpus.
    pub id: String,
    /// Length in samples.
    pub num_samples: usize,
    /// In Hz.
    pub sample_rate: u32,
    /// Name of the corpus's own class.
    pub label: Option<String>,
    /// All classes of the corpus, in order.
    pub labels: std::rc::Rc<Vec<String>>,
    /// Who speaks.
    pub speaker: Option<String>,
    /// What is said, as distributed.
    pub transcript: Option<String>,
    /// What is said, as the corpus normalises it.
    pub normalised: Option<String>,
    /// The words with the slot that each is part of.
    pub words: Vec<(String, Option<String>)>,
    /// Slots and their values.
    pub slots: Vec<(String, String)>,
}

/// A file that is no shard.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ColumnsError {
    /// The file cannot be read.
    #[error("cannot read `{path}`")]
    Io {
        /// The shard.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Not Parquet, or damaged.
    #[error("`{path}` is not a Parquet file that can be read")]
    Parquet {
        /// The shard.
        path: PathBuf,
        /// The cause.
        #[source]
        source: ParquetError,
    },
    /// A column is missing or of another type.
    #[error("`{path}` is not a shard: {problem}")]
    Layout {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        problem: String,
    },
}

/// Adds the utterances of a shard.
///
/// Errors: [`ColumnsError`].
pub fn read_columns(path: &Path, utterances: &mut Vec<Utterance>) -> Result<(), ColumnsError> {
    let parquet = |source| ColumnsError::Parquet { path: path.to_owned(), source };
    let file = File::open(path).map_err(|source| ColumnsError::Io { path: path.to_owned(), source })?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(parquet)?;
    let labels = std::rc::Rc::new(class_names(&builder));
    let audio = |path: &str| path == "audio" || path.starts_with("audio.");
    let columns = builder.parquet_schema().columns().iter().enumerate();
    let small: Vec<usize> = columns.filter(|(_, column)| !audio(&column.path().string())).map(|(at, _)| at).collect();
    let mask = ProjectionMask::leaves(builder.parquet_schema(), small);
    for batch in builder.with_projection(mask).build().map_err(parquet)? {
        let batch = batch.map_err(|error| parquet(error.into()))?;
        read_batch(&batch, &labels, utterances).map_err(|problem| ColumnsError::Layout { path: path.to_owned(), problem })?;
    }
    Ok(())
}

/// The classes in the metadata that Hugging Face reads features from.
fn class_names(builder: &ParquetRecordBatchReaderBuilder<File>) -> Vec<String> {
    let pairs = builder.metadata().file_metadata().key_value_metadata();
    let text = pairs.and_then(|pairs| pairs.iter().find(|pair| pair.key == "huggingface")).and_then(|pair| pair.value.as_deref());
    let value: serde_json::Value = text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let names = value["info"]["features"]["label"]["names"].as_array();
    names.map_or_else(Vec::new, |names| names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect())
}

fn read_batch(batch: &RecordBatch, labels: &std::rc::Rc<Vec<String>>, utterances: &mut Vec<Utterance>) -> Result<(), String> {
    let column = |name: &str| batch.column_by_name(name).ok_or_else(|| format!("expected a column `{name}`, found none"));
    let text = |name: &str, row: usize| -> Result<Option<String>, String> {
        let Some(column) = batch.column_by_name(name) else { return Ok(None) };
        let texts = column.as_string_opt::<i32>().ok_or_else(|| format!("expected `{name}` as text"))?;
        Ok(texts.is_valid(row).then(|| texts.value(row).to_owned()))
    };
    let id = column("id")?.as_string_opt::<i32>().ok_or("expected `id` as text")?;
    let samples = column("num_samples")?.as_primitive_opt::<Int64Type>().ok_or("expected `num_samples` as int64")?;
    let rate = batch.column_by_name("sample_rate").and_then(|column| column.as_primitive_opt::<arrow_array::types::Int32Type>());
    let label = batch.column_by_name("label").and_then(|column| column.as_primitive_opt::<Int64Type>());
    for row in 0..batch.num_rows() {
        let class = label.filter(|label| label.is_valid(row)).and_then(|label| labels.get(label.value(row) as usize));
        let pairs = |name: &str, fields: [&str; 2]| pairs(batch, name, fields, row);
        utterances.push(Utterance {
            id: id.value(row).to_owned(),
            num_samples: usize::try_from(samples.value(row)).map_err(|_| "a length below 0".to_owned())?,
            sample_rate: rate.map_or(16_000, |rate| rate.value(row) as u32),
            label: class.cloned(),
            labels: std::rc::Rc::clone(labels),
            speaker: text("speaker", row)?,
            transcript: text("transcript", row)?,
            normalised: text("normalised", row)?,
            words: pairs("words", ["text", "slot"])?.into_iter().filter_map(|(word, slot)| Some((word?, slot))).collect(),
            slots: pairs("slots", ["name", "value"])?.into_iter().filter_map(|(name, value)| Some((name?, value?))).collect(),
        });
    }
    Ok(())
}

type Pair = (Option<String>, Option<String>);

/// Two text fields of every struct of a list column; nothing where there is no such column.
fn pairs(batch: &RecordBatch, name: &str, fields: [&str; 2], row: usize) -> Result<Vec<Pair>, String> {
    let Some(column) = batch.column_by_name(name) else { return Ok(Vec::new()) };
    let list = column.as_list_opt::<i32>().ok_or_else(|| format!("expected `{name}` as a list"))?;
    if list.is_null(row) {
        return Ok(Vec::new());
    }
    let items = list.value(row);
    let items: &StructArray = items.as_struct_opt().ok_or_else(|| format!("expected `{name}` as a list of structs"))?;
    let field = |field: &str| {
        let column = items.column_by_name(field).and_then(|column| column.as_string_opt::<i32>());
        column.ok_or_else(|| format!("expected a text `{field}` in `{name}`"))
    };
    let [first, second] = [field(fields[0])?, field(fields[1])?];
    let value = |texts: &arrow_array::StringArray, at: usize| texts.is_valid(at).then(|| texts.value(at).to_owned());
    Ok((0..items.len()).map(|at| (value(first, at), value(second, at))).collect())
}
