//! How a shard looks: columns, Hugging Face features, and the writer that keeps row groups small.
//!
//! | column | type | note |
//! | --- | --- | --- |
//! | `audio` | struct<bytes: binary, path: string> | uncompressed, PLAIN, no dictionary; Hugging Face `Audio` |
//! | `id` | string | rows are sorted by it |
//! | `speaker` | string, may be null | |
//! | `split` | string | `train`, `dev`, `test` |
//! | `sample_rate` | int32 | of the bytes, in Hz |
//! | `num_samples` | int64 | of the bytes |
//! | `label` | int64, may be null | Hugging Face `ClassLabel` with the names |
//! | `keyword` | string, may be null | the label's name |
//! | `transcript` | string, may be null | as distributed |
//!
//! All but `audio` are zstd. Source of the feature metadata: Hugging Face `datasets` 5.2, tried with it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, Int32Array, Int64Array, RecordBatch, StringArray, StructArray};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use pipeline::StageError;
use serde_json::json;

/// The most rows of a row group.
pub const MAX_GROUP_ROWS: usize = 500;
/// A row group is closed once its audio reaches this many bytes.
pub const MAX_GROUP_BYTES: usize = 16 << 20;
/// The metadata key that Hugging Face reads features from.
pub const HUGGING_FACE: &str = "huggingface";

/// One row of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// A whole WAV file.
    pub bytes: Vec<u8>,
    /// A name that ends in `.wav`: readers take the format from it.
    pub path: String,
    /// Unique in the corpus.
    pub id: String,
    /// Who speaks.
    pub speaker: Option<String>,
    /// `train`, `dev` or `test`.
    pub split: &'static str,
    /// In Hz.
    pub sample_rate: u32,
    /// Samples of `bytes`.
    pub num_samples: u64,
    /// Index of the class.
    pub label: Option<u32>,
    /// Name of the class.
    pub keyword: Option<String>,
    /// What is said.
    pub transcript: Option<String>,
}

/// Writes rows, in the order they come, to one Parquet file.
pub struct ShardWriter {
    path: PathBuf,
    schema: SchemaRef,
    writer: ArrowWriter<File>,
    group: Vec<Row>,
    group_bytes: usize,
}

impl ShardWriter {
    /// Creates the file. `labels` are the names of the classes.
    ///
    /// Errors: a file that cannot be created.
    pub fn create(path: &Path, labels: &[String], sample_rate: u32) -> Result<Self, StageError> {
        // pyarrow takes metadata from the Arrow schema, other readers from the file: it goes into both.
        let features = features(labels, sample_rate);
        let schema = Arc::new(Schema::new_with_metadata(fields(), [(HUGGING_FACE.to_owned(), features.clone())]));
        let features = KeyValue::new(HUGGING_FACE.to_owned(), features);
        let mut properties = table_properties().set_key_value_metadata(Some(vec![features])).set_write_batch_size(16);
        for leaf in ["bytes", "path"] {
            let column = ColumnPath::new(vec!["audio".to_owned(), leaf.to_owned()]);
            properties = properties
                .set_column_compression(column.clone(), Compression::UNCOMPRESSED)
                .set_column_encoding(column.clone(), Encoding::PLAIN)
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_statistics_enabled(column, EnabledStatistics::None);
        }
        let writer = open(path, &schema, properties)?;
        Ok(Self { path: path.to_owned(), schema, writer, group: Vec::new(), group_bytes: 0 })
    }

    /// Adds a row.
    ///
    /// Errors: a file that cannot be written.
    pub fn push(&mut self, row: Row) -> Result<(), StageError> {
        self.group_bytes += row.bytes.len();
        self.group.push(row);
        if self.group.len() == MAX_GROUP_ROWS || self.group_bytes >= MAX_GROUP_BYTES { self.write_group() } else { Ok(()) }
    }

    /// Writes what is left and the footer.
    ///
    /// Errors: a file that cannot be written.
    pub fn finish(mut self) -> Result<(), StageError> {
        self.write_group()?;
        self.writer.close().map_err(write_error(&self.path))?;
        Ok(())
    }

    fn write_group(&mut self) -> Result<(), StageError> {
        let rows = std::mem::take(&mut self.group);
        self.group_bytes = 0;
        if rows.is_empty() {
            return Ok(());
        }
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns(&rows)).expect("the columns are those of the schema");
        let written = self.writer.write(&batch).and_then(|()| self.writer.flush());
        written.map_err(write_error(&self.path))
    }
}

/// Writes a small table of text columns, none null.
pub(crate) fn write_text_table(path: &Path, columns: &[(&str, Vec<&str>)]) -> Result<(), StageError> {
    let fields: Vec<_> = columns.iter().map(|(name, _)| Field::new(*name, DataType::Utf8, false)).collect();
    let schema = Arc::new(Schema::new(fields));
    let arrays = columns.iter().map(|(_, values)| Arc::new(StringArray::from(values.clone())) as ArrayRef).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).expect("columns of one length, as the schema says");
    let mut writer = open(path, &schema, table_properties())?;
    writer.write(&batch).map_err(write_error(path))?;
    writer.close().map_err(write_error(path))?;
    Ok(())
}

fn table_properties() -> WriterPropertiesBuilder {
    let zstd = ZstdLevel::try_new(3).expect("zstd has a level 3");
    WriterProperties::builder()
        .set_created_by("sure".to_owned())
        .set_max_row_group_row_count(Some(MAX_GROUP_ROWS))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_compression(Compression::ZSTD(zstd))
}

fn open(path: &Path, schema: &SchemaRef, properties: WriterPropertiesBuilder) -> Result<ArrowWriter<File>, StageError> {
    let file = File::create(path).map_err(StageError::io("create", path))?;
    ArrowWriter::try_new(file, Arc::clone(schema), Some(properties.build())).map_err(write_error(path))
}

fn write_error(path: &Path) -> impl FnOnce(ParquetError) -> StageError {
    let path = path.to_owned();
    |error| StageError::io("write", path)(std::io::Error::other(error))
}

/// Never null, but declared so: `datasets` takes a column for `Audio` only when it is nullable throughout (tried, 5.2).
fn audio_fields() -> Fields {
    Fields::from(vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)])
}

/// The columns.
pub fn fields() -> Vec<Field> {
    vec![
        Field::new("audio", DataType::Struct(audio_fields()), true),
        Field::new("id", DataType::Utf8, false),
        Field::new("speaker", DataType::Utf8, true),
        Field::new("split", DataType::Utf8, false),
        Field::new("sample_rate", DataType::Int32, false),
        Field::new("num_samples", DataType::Int64, false),
        Field::new("label", DataType::Int64, true),
        Field::new("keyword", DataType::Utf8, true),
        Field::new("transcript", DataType::Utf8, true),
    ]
}

/// The features in Hugging Face's words, in the order of the columns.
fn features(labels: &[String], sample_rate: u32) -> String {
    let value = |dtype: &str| json!({"dtype": dtype, "_type": "Value"});
    let features = json!({
        "audio": {"sampling_rate": sample_rate, "_type": "Audio"},
        "id": value("string"),
        "speaker": value("string"),
        "split": value("string"),
        "sample_rate": value("int32"),
        "num_samples": value("int64"),
        "label": {"names": labels, "_type": "ClassLabel"},
        "keyword": value("string"),
        "transcript": value("string"),
    });
    json!({"info": {"features": features}}).to_string()
}

fn columns(rows: &[Row]) -> Vec<ArrayRef> {
    fn text<'a>(rows: &'a [Row], of: impl Fn(&'a Row) -> Option<&'a str>) -> ArrayRef {
        Arc::new(rows.iter().map(of).collect::<StringArray>())
    }
    let bytes: ArrayRef = Arc::new(BinaryArray::from_iter_values(rows.iter().map(|row| &row.bytes)));
    let audio = StructArray::new(audio_fields(), vec![bytes, text(rows, |row| Some(&row.path))], None);
    vec![
        Arc::new(audio),
        text(rows, |row| Some(&row.id)),
        text(rows, |row| row.speaker.as_deref()),
        text(rows, |row| Some(row.split)),
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.sample_rate as i32))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.num_samples as i64))),
        Arc::new(rows.iter().map(|row| row.label.map(i64::from)).collect::<Int64Array>()),
        text(rows, |row| row.keyword.as_deref()),
        text(rows, |row| row.transcript.as_deref()),
    ]
}
