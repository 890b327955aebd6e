//! Targets on disk: a Parquet table for each split.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{Int64Builder, ListBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use datasets::parquet_file::{ParquetFile, ParquetFileError};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use pipeline::StageError;

/// Target of an utterance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The utterance.
    pub id: String,
    /// Class, class of each group, or tokens.
    pub target: Vec<i64>,
    /// Target as text, for people and for scoring: the class, `activate, lights, none`, or the reference text.
    pub text: String,
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
/// Errors: [`ParquetFileError`].
pub fn read_targets(path: &Path) -> Result<Vec<Target>, ParquetFileError> {
    let mut targets = Vec::new();
    for batch in ParquetFile::open(path, "a table of targets")?.rows(|_| true)? {
        let batch = batch?;
        let (id, text) = (batch.text("id")?, batch.text("text")?);
        let layout = || batch.layout("column `target` should be a list of int64".to_owned());
        let lists = batch.find("target").and_then(|column| column.as_list_opt::<i32>()).ok_or_else(layout)?;
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
