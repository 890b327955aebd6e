//! Targets on disk: a Parquet table for each split.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{Int64Builder, ListBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use pipeline::StageError;

/// What is learned of an utterance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The utterance.
    pub id: String,
    /// Its class, its class of each group, or its tokens.
    pub target: Vec<i64>,
    /// The same for people and for scoring: the class, `activate, lights, none`, or the reference text.
    pub text: String,
}

/// A file that holds no targets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The file cannot be read.
    #[error("cannot read `{path}`")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Not Parquet, or damaged.
    #[error("`{path}` is not a Parquet file that can be read")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: ParquetError,
    },
    /// A column is missing or of another type.
    #[error("`{path}` holds no targets: expected the columns `id`, `target` (list of int64) and `text`")]
    Layout {
        /// The file.
        path: PathBuf,
    },
}

fn item() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Int64, false))
}

/// Writes the targets of a split, in the order given.
///
/// Errors: a file that cannot be written.
pub fn write_targets(path: &Path, targets: &[Target]) -> Result<(), StageError> {
    let fields = vec![
        Field::new("id", DataType::Utf8, false),
        Field::new("target", DataType::List(item()), false),
        Field::new("text", DataType::Utf8, false),
    ];
    let schema = Arc::new(Schema::new(fields));
    let mut lists = ListBuilder::new(Int64Builder::new()).with_field(item());
    for target in targets {
        lists.values().append_slice(&target.target);
        lists.append(true);
    }
    let texts = |of: fn(&Target) -> &str| Arc::new(StringArray::from_iter_values(targets.iter().map(of))) as ArrayRef;
    let columns: Vec<ArrayRef> = vec![texts(|target| &target.id), Arc::new(lists.finish()), texts(|target| &target.text)];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).expect("columns of one length, as the schema says");
    let failed = |error: ParquetError| StageError::io("write", path)(std::io::Error::other(error));
    let file = File::create(path).map_err(StageError::io("create", path))?;
    let properties = WriterProperties::builder()
        .set_created_by("sure".to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).expect("zstd has a level 3")))
        .build();
    let mut writer = ArrowWriter::try_new(file, schema, Some(properties)).map_err(failed)?;
    writer.write(&batch).map_err(failed)?;
    writer.close().map_err(failed)?;
    Ok(())
}

/// Reads the targets of a split.
///
/// Errors: [`TableError`].
pub fn read_targets(path: &Path) -> Result<Vec<Target>, TableError> {
    let parquet = |source| TableError::Parquet { path: path.to_owned(), source };
    let layout = || TableError::Layout { path: path.to_owned() };
    let file = File::open(path).map_err(|source| TableError::Io { path: path.to_owned(), source })?;
    let mut targets = Vec::new();
    for batch in
        ParquetRecordBatchReaderBuilder::try_new(file).and_then(ParquetRecordBatchReaderBuilder::build).map_err(parquet)?
    {
        let batch = batch.map_err(|error| parquet(error.into()))?;
        let text = |name: &str| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>()).ok_or_else(layout);
        let (id, text) = (text("id")?, text("text")?);
        let lists = batch.column_by_name("target").and_then(|column| column.as_list_opt::<i32>()).ok_or_else(layout)?;
        for row in 0..batch.num_rows() {
            let values = lists.value(row);
            let values = values.as_primitive_opt::<Int64Type>().ok_or_else(layout)?;
            targets.push(Target {
                id: id.value(row).to_owned(),
                target: values.values().to_vec(),
                text: text.value(row).to_owned(),
            });
        }
    }
    Ok(targets)
}
