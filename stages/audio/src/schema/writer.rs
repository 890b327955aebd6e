//! Writes rows to one Parquet file with small row groups, and says where each clip came to lie.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::arrow::{ArrowWriter, add_encoded_arrow_schema_to_metadata};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, PageIndexPolicy, ParquetMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use pipeline::StageError;

use super::columns::{columns, fields, fields_in_memory};
use super::{HUGGING_FACE, ORIGIN, Row, features};

/// The most rows of a row group.
pub const MAX_GROUP_ROWS: usize = 500;
/// A row group is closed once its audio reaches this many bytes.
pub const MAX_GROUP_BYTES: usize = 16 << 20;

/// Where the clip of a row lies in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClipPlace {
    /// From the beginning of the file.
    pub offset: u64,
    /// In bytes.
    pub len: u32,
}

/// Writes rows, in the order they come, to one Parquet file.
pub struct ShardWriter {
    path: PathBuf,
    schema: SchemaRef,
    writer: ArrowWriter<File>,
    group: Vec<Row>,
    group_bytes: usize,
    /// Of every row so far.
    lengths: Vec<u32>,
}

impl ShardWriter {
    /// Creates the file. `labels` are the names of the classes.
    ///
    /// Errors: a file that cannot be created.
    pub fn create(path: &Path, labels: &[String], sample_rate: u32) -> Result<Self, StageError> {
        Self::create_of(path, labels, sample_rate, None)
    }

    /// The same with a text that says what the shard is of.
    ///
    /// Errors: a file that cannot be created.
    pub fn create_of(path: &Path, labels: &[String], sample_rate: u32, origin: Option<String>) -> Result<Self, StageError> {
        // pyarrow takes metadata from the Arrow schema, other readers from the file: it goes into both.
        let features = features(labels, sample_rate);
        let schema = Schema::new_with_metadata(fields(), [(HUGGING_FACE.to_owned(), features.clone())]);
        let mut pairs = vec![KeyValue::new(HUGGING_FACE.to_owned(), features)];
        pairs.extend(origin.map(|origin| KeyValue::new(ORIGIN.to_owned(), origin)));
        let mut properties = table_properties().set_key_value_metadata(Some(pairs)).set_write_batch_size(16);
        for leaf in ["bytes", "path"] {
            let column = ColumnPath::new(vec!["audio".to_owned(), leaf.to_owned()]);
            properties = properties
                .set_column_compression(column.clone(), Compression::UNCOMPRESSED)
                .set_column_encoding(column.clone(), Encoding::PLAIN)
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_statistics_enabled(column, EnabledStatistics::None);
        }
        let mut properties = properties.build();
        add_encoded_arrow_schema_to_metadata(&schema, &mut properties);
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let schema = Arc::new(Schema::new(fields_in_memory()));
        let writer = open(path, &schema, options)?;
        Ok(Self { path: path.to_owned(), schema, writer, group: Vec::new(), group_bytes: 0, lengths: Vec::new() })
    }

    /// Adds a row.
    ///
    /// Errors: a file that cannot be written.
    pub fn push(&mut self, row: Row) -> Result<(), StageError> {
        self.group_bytes += row.bytes.len();
        self.lengths.push(row.bytes.len() as u32);
        self.group.push(row);
        if self.group.len() == MAX_GROUP_ROWS || self.group_bytes >= MAX_GROUP_BYTES { self.write_group() } else { Ok(()) }
    }

    /// Writes what is left and the footer; gives the places of all clips, in the order of the rows.
    ///
    /// Errors: a file that cannot be written.
    pub fn finish(mut self) -> Result<Vec<ClipPlace>, StageError> {
        self.write_group()?;
        self.writer.close().map_err(write_error(&self.path))?;
        places(&self.path, &self.lengths)
    }

    fn write_group(&mut self) -> Result<(), StageError> {
        let mut rows = std::mem::take(&mut self.group);
        self.group_bytes = 0;
        if rows.is_empty() {
            return Ok(());
        }
        let batch =
            RecordBatch::try_new(Arc::clone(&self.schema), columns(&mut rows)).expect("the columns are those of the schema");
        drop(rows);
        let written = self.writer.write(&batch).and_then(|()| self.writer.flush());
        written.map_err(write_error(&self.path))
    }
}

/// Finds the clips in a file that was just written. A page of a PLAIN column ends with its values, each behind its length in four
/// bytes, so that places follow from lengths; the lengths in the file are compared with those that are known.
/// Source: Parquet format specification, "Plain encoding".
fn places(path: &Path, lengths: &[u32]) -> Result<Vec<ClipPlace>, StageError> {
    let file = File::open(path).map_err(StageError::io("read", path))?;
    let options = ArrowReaderOptions::new().with_offset_index_policy(PageIndexPolicy::Required);
    let metadata = ArrowReaderMetadata::load(&file, options).map_err(write_error(path))?;
    let metadata: &ParquetMetaData = metadata.metadata();
    let columns = metadata.file_metadata().schema_descr().columns();
    let column = columns.iter().position(|column| column.path().string() == "audio.bytes").expect("a shard has audio");
    let (mut found, mut rest) = (Vec::with_capacity(lengths.len()), lengths);
    for group in 0..metadata.num_row_groups() {
        let num_rows = metadata.row_group(group).num_rows() as usize;
        let index = metadata.page_index_for_row_group(group);
        let pages = index.page_locations(column).cloned().unwrap_or_default();
        for (at, page) in pages.iter().enumerate() {
            let end = pages.get(at + 1).map_or(num_rows, |next| next.first_row_index as usize);
            let (of_page, after) = rest.split_at(end - page.first_row_index as usize);
            let values: u64 = of_page.iter().map(|&len| u64::from(len) + 4).sum();
            let mut offset = page.offset as u64 + page.compressed_page_size as u64 - values;
            for &len in of_page {
                let mut prefix = [0; 4];
                file.read_exact_at(&mut prefix, offset).map_err(StageError::io("read", path))?;
                assert_eq!(u32::from_le_bytes(prefix), len, "a PLAIN page ends with its values");
                found.push(ClipPlace { offset: offset + 4, len });
                offset += u64::from(len) + 4;
            }
            rest = after;
        }
    }
    Ok(found)
}

/// A column of a small table.
pub(crate) enum Column<'a> {
    /// Text, never null.
    Text(Vec<&'a str>),
    /// Numbers, may be null.
    Number(Vec<Option<u64>>),
}

/// Writes a small table.
pub(crate) fn write_table(path: &Path, columns: Vec<(&str, Column)>) -> Result<(), StageError> {
    let (fields, arrays): (Vec<_>, Vec<ArrayRef>) = columns
        .into_iter()
        .map(|(name, column)| match column {
            Column::Text(values) => (Field::new(name, DataType::Utf8, false), Arc::new(StringArray::from(values)) as ArrayRef),
            Column::Number(values) => {
                let numbers: Int64Array = values.into_iter().map(|value| value.map(|value| value as i64)).collect();
                (Field::new(name, DataType::Int64, true), Arc::new(numbers) as ArrayRef)
            }
        })
        .unzip();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).expect("columns of one length, as the schema says");
    let mut writer = open(path, &schema, ArrowWriterOptions::new().with_properties(table_properties().build()))?;
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

fn open(path: &Path, schema: &SchemaRef, options: ArrowWriterOptions) -> Result<ArrowWriter<File>, StageError> {
    let file = File::create(path).map_err(StageError::io("create", path))?;
    ArrowWriter::try_new_with_options(file, Arc::clone(schema), options).map_err(write_error(path))
}

fn write_error(path: &Path) -> impl FnOnce(ParquetError) -> StageError {
    let path = path.to_owned();
    |error| StageError::io("write", path)(std::io::Error::other(error))
}
