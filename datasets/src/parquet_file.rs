//! Opens and reads Parquet files. All crates of the project read Parquet through this module, so that a file that is missing,
//! damaged or of another layout is reported in the same words everywhere.

mod page;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use parquet::file::reader::SerializedFileReader;

pub use page::PlainPage;

/// Why a Parquet file cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParquetFileError {
    /// The file cannot be opened.
    #[error("cannot read `{path}`")]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// The file is not Parquet, or it is damaged.
    #[error("`{path}` is not a Parquet file that can be read")]
    Parquet {
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: ParquetError,
    },
    /// A column is missing or of another type.
    #[error("`{path}` is not {kind}: {problem}")]
    Layout {
        /// Path of the file.
        path: PathBuf,
        /// Kind of file that was expected, with its article: `a shard`.
        kind: &'static str,
        /// Description of the problem: what was expected and what was found.
        problem: String,
    },
}

/// Path and expected kind of a file, for messages.
#[derive(Debug, Clone)]
struct Source {
    path: Arc<Path>,
    kind: &'static str,
}

impl Source {
    fn parquet(&self, source: ParquetError) -> ParquetFileError {
        ParquetFileError::Parquet { path: self.path.to_path_buf(), source }
    }

    fn layout(&self, problem: String) -> ParquetFileError {
        ParquetFileError::Layout { path: self.path.to_path_buf(), kind: self.kind, problem }
    }
}

/// An open Parquet file whose metadata has been read.
pub struct ParquetFile {
    source: Source,
    builder: ParquetRecordBatchReaderBuilder<File>,
}

impl ParquetFile {
    /// Opens a file. `kind` names what it should be, with its article: `a shard`.
    ///
    /// Errors: [`ParquetFileError::Io`], [`ParquetFileError::Parquet`].
    pub fn open(path: &Path, kind: &'static str) -> Result<Self, ParquetFileError> {
        Self::open_with(path, kind, ArrowReaderOptions::new())
    }

    /// Opens a file that has a page index, and reads the index.
    ///
    /// Errors: as of [`Self::open`]; a file without a page index.
    pub fn open_indexed(path: &Path, kind: &'static str) -> Result<Self, ParquetFileError> {
        Self::open_with(path, kind, ArrowReaderOptions::new().with_offset_index_policy(PageIndexPolicy::Required))
    }

    fn open_with(path: &Path, kind: &'static str, options: ArrowReaderOptions) -> Result<Self, ParquetFileError> {
        let file = File::open(path).map_err(|source| ParquetFileError::Io { path: path.to_owned(), source })?;
        let source = Source { path: path.into(), kind };
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options);
        Ok(Self { builder: builder.map_err(|error| source.parquet(error))?, source })
    }

    /// Metadata of the file.
    pub fn metadata(&self) -> &Arc<ParquetMetaData> {
        self.builder.metadata()
    }

    /// Columns with their Arrow types.
    pub fn schema(&self) -> &SchemaRef {
        self.builder.schema()
    }

    /// Number of a leaf column, by its path: `audio.bytes`.
    ///
    /// Errors: [`ParquetFileError::Layout`] if there is no such column.
    pub fn leaf(&self, path: &str) -> Result<usize, ParquetFileError> {
        let leaf = self.builder.parquet_schema().columns().iter().position(|column| column.path().string() == path);
        leaf.ok_or_else(|| self.layout(format!("expected a column `{path}`, found none")))
    }

    /// Text under a key of the file's metadata.
    pub fn note(&self, key: &str) -> Option<&str> {
        let pairs = self.metadata().file_metadata().key_value_metadata()?;
        pairs.iter().find(|pair| pair.key == key)?.value.as_deref()
    }

    /// Class names of the column `label` in the metadata that Hugging Face reads; empty if the label is not a class.
    pub fn class_names(&self, column: &str) -> Vec<String> {
        let value: serde_json::Value =
            self.note(HUGGING_FACE).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let names = value["info"]["features"][column]["names"].as_array();
        names.map_or_else(Vec::new, |names| names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect())
    }

    /// Error that reports another layout than the expected one.
    pub fn layout(&self, problem: String) -> ParquetFileError {
        self.source.layout(problem)
    }

    /// Reader of rows of any type, one at a time.
    ///
    /// Errors: a file that cannot be read.
    pub(crate) fn record_reader(&self) -> Result<SerializedFileReader<File>, ParquetError> {
        SerializedFileReader::new(File::open(&self.source.path)?)
    }

    /// Reads all rows of the leaf columns whose path (`label`, `audio.bytes`) is `wanted`.
    ///
    /// Errors: [`ParquetFileError::Parquet`], here and from the iterator.
    pub fn rows(self, wanted: impl Fn(&str) -> bool) -> Result<Batches, ParquetFileError> {
        self.read(wanted, |builder| builder)
    }

    /// Reads all rows of the `wanted` leaf columns in one batch.
    ///
    /// Errors: [`ParquetFileError::Parquet`]; rows that do not fit into one batch.
    pub fn whole(self, wanted: impl Fn(&str) -> bool) -> Result<RecordBatch, ParquetFileError> {
        let source = self.source.clone();
        let rows = self.metadata().file_metadata().num_rows().max(1) as usize;
        let roots: Vec<usize> =
            self.schema().fields().iter().enumerate().filter(|(_, f)| wanted(f.name())).map(|(at, _)| at).collect();
        let schema = Arc::new(self.schema().project(&roots).map_err(|error| source.parquet(error.into()))?);
        let batches =
            self.read(|path| wanted(path.split('.').next().unwrap_or(path)), |builder| builder.with_batch_size(rows))?;
        let batches = batches.collect::<Result<Vec<_>, _>>()?;
        match batches.as_slice() {
            [] => Ok(RecordBatch::new_empty(schema)),
            // The batch alone has lost the metadata of the file.
            [batch] => {
                let columns = batch.batch.columns().to_vec();
                RecordBatch::try_new(schema, columns).map_err(|error| source.parquet(error.into()))
            }
            _ => Err(source.layout(format!("expected its rows in one batch, found {}", batches.len()))),
        }
    }

    /// Reads some rows, counted from 0 and in ascending order, of the `wanted` leaf columns.
    ///
    /// Errors: [`ParquetFileError::Parquet`], here and from the iterator.
    pub fn some_rows(self, rows: &[u64], wanted: impl Fn(&str) -> bool) -> Result<Batches, ParquetFileError> {
        let (mut selectors, mut at) = (Vec::new(), 0);
        for &row in rows {
            selectors.extend((row > at).then(|| RowSelector::skip((row - at) as usize)));
            selectors.push(RowSelector::select(1));
            at = row + 1;
        }
        let selection: RowSelection = selectors.into();
        self.read(wanted, |builder| builder.with_row_selection(selection).with_batch_size(64))
    }

    fn read(
        self,
        wanted: impl Fn(&str) -> bool,
        set: impl FnOnce(ParquetRecordBatchReaderBuilder<File>) -> ParquetRecordBatchReaderBuilder<File>,
    ) -> Result<Batches, ParquetFileError> {
        let Self { source, builder } = self;
        let columns = builder.parquet_schema().columns().iter().enumerate();
        let leaves: Vec<usize> = columns.filter(|(_, column)| wanted(&column.path().string())).map(|(at, _)| at).collect();
        let mask = ProjectionMask::leaves(builder.parquet_schema(), leaves);
        let reader = set(builder.with_projection(mask)).build().map_err(|error| source.parquet(error))?;
        Ok(Batches { source, reader })
    }
}

/// Metadata key that Hugging Face reads features from.
pub const HUGGING_FACE: &str = "huggingface";

/// Rows of a file, some at a time.
pub struct Batches {
    source: Source,
    reader: ParquetRecordBatchReader,
}

impl Iterator for Batches {
    type Item = Result<Batch, ParquetFileError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.reader.next()?;
        let source = self.source.clone();
        Some(match batch {
            Ok(batch) => Ok(Batch { source, batch }),
            Err(error) => Err(source.parquet(error.into())),
        })
    }
}

/// Some rows of a file.
#[derive(Debug, Clone)]
pub struct Batch {
    source: Source,
    batch: RecordBatch,
}

impl Batch {
    /// Rows as Arrow has them.
    pub fn arrow(&self) -> &RecordBatch {
        &self.batch
    }

    /// Number of rows.
    pub fn num_rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// Column of a name.
    pub fn find(&self, name: &str) -> Option<&ArrayRef> {
        self.batch.column_by_name(name)
    }

    /// Column of a name and type.
    ///
    /// Errors: [`ParquetFileError::Layout`].
    pub fn column(&self, name: &str, expected: &DataType) -> Result<&ArrayRef, ParquetFileError> {
        match self.find(name) {
            Some(column) if column.data_type() == expected => Ok(column),
            Some(column) => Err(self.layout(format!("column `{name}` should be {expected}, found {}", column.data_type()))),
            None => Err(self.layout(format!("column `{name}` should be {expected}, found no such column"))),
        }
    }

    /// Column of text.
    ///
    /// Errors: [`ParquetFileError::Layout`].
    pub fn text(&self, name: &str) -> Result<&StringArray, ParquetFileError> {
        Ok(self.column(name, &DataType::Utf8)?.as_string())
    }

    /// Column of whole numbers.
    ///
    /// Errors: [`ParquetFileError::Layout`].
    pub fn numbers(&self, name: &str) -> Result<&Int64Array, ParquetFileError> {
        Ok(self.column(name, &DataType::Int64)?.as_primitive::<Int64Type>())
    }

    /// Error that reports another layout than the expected one.
    pub fn layout(&self, problem: String) -> ParquetFileError {
        self.source.layout(problem)
    }
}

/// Value of a row in a column of text, unless it is null.
pub fn text_at(column: &StringArray, row: usize) -> Option<String> {
    column.is_valid(row).then(|| column.value(row).to_owned())
}

#[cfg(test)]
mod tests {
    use parquet::arrow::ArrowWriter;

    use super::*;

    fn written(folder: &Path) -> PathBuf {
        let id: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("c"), Some("d")]));
        let size: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
        let batch = RecordBatch::try_from_iter([("id", id), ("size", size)]).unwrap();
        let path = folder.join("x.parquet");
        let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        path
    }

    #[test]
    fn wanted_columns_and_rows_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path());
        let open = || ParquetFile::open(&path, "a table").unwrap();
        let batch = open().rows(|path| path == "id").unwrap().next().unwrap().unwrap();
        assert_eq!((batch.num_rows(), batch.find("size")), (4, None));
        assert_eq!((text_at(batch.text("id").unwrap(), 0), text_at(batch.text("id").unwrap(), 1)), (Some("a".to_owned()), None));
        let some: Vec<_> = open().some_rows(&[1, 3], |_| true).unwrap().map(Result::unwrap).collect();
        assert_eq!(some.iter().flat_map(|batch| batch.numbers("size").unwrap().values().to_vec()).collect::<Vec<_>>(), [2, 4]);
        assert_eq!(open().whole(|name| name == "size").unwrap().num_rows(), 4);
        assert_eq!((open().leaf("size").unwrap(), open().class_names("label").len()), (1, 0));
    }

    #[test]
    fn each_kind_of_error_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path());
        let error = |path: &Path| ParquetFile::open(path, "a shard").err().unwrap();
        assert!(matches!(error(&folder.path().join("none")), ParquetFileError::Io { .. }));
        std::fs::write(folder.path().join("text"), "no table").unwrap();
        assert!(matches!(error(&folder.path().join("text")), ParquetFileError::Parquet { .. }));
        let batch = ParquetFile::open(&path, "a shard").unwrap().rows(|_| true).unwrap().next().unwrap().unwrap();
        let message = batch.text("size").unwrap_err().to_string();
        assert!(message.ends_with("is not a shard: column `size` should be Utf8, found Int64"), "{message}");
        let message = batch.numbers("label").unwrap_err().to_string();
        assert!(message.ends_with("column `label` should be Int64, found no such column"), "{message}");
    }
}
