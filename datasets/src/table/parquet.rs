//! Rows of a Parquet table, as pandas, polars or the Hugging Face Hub write it: columns of text, numbers, truth values, times and
//! lists of them, and recordings in a struct of `bytes` and `path`. Shards of `sure prepare` are read as what they are.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use parquet::basic::{ConvertedType, Type as Physical};
use parquet::errors::ParquetError;
use parquet::file::reader::FileReader;
use parquet::record::Field;
use parquet::schema::types::{ColumnPath, Type};

use super::pages;
use super::records::{Record, Sheet, no_twins};
use crate::parquet_file::{ParquetFile, ParquetFileError};
use crate::shard::{RowInfo, SHARD, is_read};
use crate::{Split, Utterance};

const TABLE: &str = "a table";

/// Reads a table. Errors: why it cannot be read.
pub(super) fn sheet(path: &Path) -> Result<Sheet, String> {
    guarded(|| read(path))
}

/// Runs a reader of a file from elsewhere: the reader of Parquet may panic on a damaged file.
fn guarded<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err("it is damaged".to_owned()))
}

fn open(path: &Path) -> Result<ParquetFile, String> {
    ParquetFile::open(path, TABLE).map_err(|error| match error {
        ParquetFileError::Io { source, .. } => format!("it cannot be opened: {source}"),
        ParquetFileError::Parquet { source, .. } => failed(source),
        ParquetFileError::Layout { problem, .. } => problem,
    })
}

fn failed(error: ParquetError) -> String {
    format!("it is not a Parquet table that can be read: {error}")
}

fn read(path: &Path) -> Result<Sheet, String> {
    let file = open(path)?;
    let reader = file.record_reader().map_err(failed)?;
    let schema = reader.metadata().file_metadata().schema();
    let (mut columns, mut left_out, mut audio) = (Vec::new(), Vec::new(), None);
    for column in schema.get_fields() {
        match wanted(column) {
            Some(wanted) => columns.push(wanted),
            None if audio_of(column).is_none() => left_out.push(column.name().to_owned()),
            None => {}
        }
        if audio.is_none() && audio_of(column).is_some() && has_values(&file, &format!("{}.bytes", column.name())) {
            audio = Some(column.name().to_owned());
        }
    }
    let mut names: Vec<String> = columns.iter().map(|column| column.name().trim().to_owned()).collect();
    no_twins(&names)?;
    pages::check(path, reader.metadata(), |path: &ColumnPath| {
        let wanted = columns.iter().find(|column| path.parts().first().is_some_and(|name| name == column.name()));
        wanted.is_some_and(|column| audio_of(column).is_none() || path.parts().get(1).is_some_and(|name| name == "path"))
    })?;
    let classes: BTreeMap<String, Vec<String>> =
        names.iter().map(|name| (name.clone(), file.class_names(name))).filter(|(_, classes)| !classes.is_empty()).collect();
    let projection = Type::group_type_builder(schema.name()).with_fields(columns).build().map_err(failed)?;
    let rows = reader.get_row_iter(Some(projection)).map_err(failed)?;
    let record = |(row, at): (Result<parquet::record::Row, _>, u64)| {
        let row = row.map_err(failed)?;
        let fields = row.get_column_iter().map(|(name, field)| {
            let name = name.trim().to_owned();
            let value = match classes.get(&name) {
                Some(classes) => class(field, classes).map_err(|found| {
                    format!("row {} has the class {found} in column `{name}`, of {} classes", at + 1, classes.len())
                })?,
                None => text(field),
            };
            Ok((name, value))
        });
        let fields = fields.collect::<Result<_, String>>()?;
        Ok(Ok(Record { line: at + 1, fields, embedded: audio.is_some().then_some(at) }))
    };
    let rows = rows.zip(0..).map(record).collect::<Result<_, String>>()?;
    if let Some(audio) = audio.as_ref().filter(|audio| !names.contains(*audio)) {
        names.push(audio.clone());
    }
    Ok(Sheet { columns: names, rows, left_out, audio, classes, ..Sheet::default() })
}

/// A column as far as it is read: of a struct of audio without the bytes.
fn wanted(column: &Arc<Type>) -> Option<Arc<Type>> {
    if column.is_primitive() {
        return is_plain(column).then(|| Arc::clone(column));
    }
    if let Some(path) = column.get_fields().iter().find(|field| field.name() == "path" && field.is_primitive()) {
        let group = Type::group_type_builder(column.name()).with_fields(vec![Arc::clone(path)]);
        return group.with_repetition(column.get_basic_info().repetition()).build().ok().map(Arc::new);
    }
    // A list of plain values: a group of a repeated group of one column.
    let [repeated] = column.get_fields() else { return None };
    if column.get_basic_info().converted_type() != ConvertedType::LIST || repeated.is_primitive() {
        return None;
    }
    let [item] = repeated.get_fields() else { return None };
    (item.is_primitive() && is_plain(item)).then(|| Arc::clone(column))
}

fn is_plain(column: &Type) -> bool {
    let is_text = column.get_basic_info().converted_type() == ConvertedType::UTF8;
    is_text || !matches!(column.get_physical_type(), Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY | Physical::INT96)
}

/// Field `bytes` of a struct of audio.
fn audio_of(column: &Type) -> Option<&Arc<Type>> {
    let fields = if column.is_group() { column.get_fields() } else { return None };
    let is_bytes = |field: &&Arc<Type>| field.is_primitive() && field.get_physical_type() == Physical::BYTE_ARRAY;
    fields.iter().find(|field| field.name() == "bytes").filter(is_bytes)
}

/// True unless all values of a leaf column are null.
fn has_values(file: &ParquetFile, leaf: &str) -> bool {
    let Ok(leaf) = file.leaf(leaf) else { return false };
    file.metadata().row_groups().iter().any(|group| {
        let nulls = group.column(leaf).statistics().and_then(parquet::file::statistics::Statistics::null_count_opt);
        nulls.is_none_or(|nulls| nulls < group.num_rows() as u64)
    })
}

/// Name of a class; -1 and null mean none. Errors: an index that has no name.
fn class(field: &Field, classes: &[String]) -> Result<String, String> {
    let index = text(field);
    if index.is_empty() || index == "-1" {
        return Ok(String::new());
    }
    index.parse().ok().and_then(|index: usize| classes.get(index)).cloned().ok_or(index)
}

fn text(field: &Field) -> String {
    match field {
        Field::Null => String::new(),
        Field::Str(text) => text.clone(),
        // Of a struct only the path was asked for.
        Field::Group(row) => row.get_column_iter().next().map(|(_, field)| text(field)).unwrap_or_default(),
        Field::Float(number) => number.to_string(),
        Field::Double(number) => number.to_string(),
        other => other.to_string(),
    }
}

/// Bytes of the recordings in a table, for some of its rows, counted from 0 and in ascending order.
///
/// Errors: a table that cannot be read or has no recordings.
pub fn embedded(path: &Path, rows: &[u64]) -> Result<Vec<Vec<u8>>, ParquetFileError> {
    let file = ParquetFile::open(path, TABLE)?;
    let leaves = file.metadata().file_metadata().schema_descr().columns().iter().map(|column| column.path().string());
    let Some(leaf) = leaves.into_iter().find(|leaf| leaf.matches('.').count() == 1 && leaf.ends_with(".bytes")) else {
        return Err(file.layout("expected recordings in a column with the field `bytes`, found none".to_owned()));
    };
    let mut found = Vec::with_capacity(rows.len());
    for batch in file.some_rows(rows, |path| path == leaf)? {
        let batch = batch?;
        let column = batch.arrow().column(0).as_struct_opt().map(|audio| audio.column(0));
        let column = column.ok_or_else(|| batch.layout(format!("`{leaf}` is not a field of a struct")))?;
        for row in 0..batch.num_rows() {
            let bytes = if column.is_null(row) {
                Some(&[][..])
            } else if let Some(bytes) = column.as_binary_opt::<i32>() {
                Some(bytes.value(row))
            } else if let Some(bytes) = column.as_binary_opt::<i64>() {
                Some(bytes.value(row))
            } else {
                column.as_binary_view_opt().map(|bytes| bytes.value(row))
            };
            let bytes = bytes.ok_or_else(|| batch.layout(format!("`{leaf}` should be binary, found {}", column.data_type())))?;
            found.push(bytes.to_vec());
        }
    }
    Ok(found)
}

/// True for a shard of `sure prepare`.
pub(super) fn is_own_shard(path: &Path) -> bool {
    guarded(|| Ok(has_own_columns(&open(path)?))).unwrap_or(false)
}

fn has_own_columns(file: &ParquetFile) -> bool {
    ["audio.bytes", "id", "split", "keyword", "num_samples", "source_path"].iter().all(|leaf| file.leaf(leaf).is_ok())
}

/// Utterances and class names of a shard of `sure prepare`.
type OwnShard = (Vec<Utterance>, Vec<String>);

/// Reads a shard of `sure prepare`; none if the table is none.
///
/// Errors: why the shard cannot be read.
pub(super) fn own_shard(path: &Path, table: &str) -> Result<Option<OwnShard>, String> {
    guarded(|| {
        let file = open(path)?;
        if !has_own_columns(&file) {
            return Ok(None);
        }
        let classes = file.class_names("label");
        let mut utterances: Vec<Utterance> = Vec::new();
        let shown = |error: ParquetFileError| format!("it is not {SHARD} that can be read: {error}");
        for batch in file.rows(|path| is_read(path, |_| true)).map_err(shown)? {
            let batch = batch.map_err(shown)?;
            let splits = batch.text("split").map_err(shown)?;
            for (row, info) in RowInfo::decode(&batch).map_err(shown)?.into_iter().enumerate() {
                let name = splits.value(row);
                let split = Split::ALL.into_iter().find(|split| split.name() == name);
                let split = split.ok_or_else(|| format!("row {} has the split `{name}`", utterances.len() + 1))?;
                let embedded = Some(utterances.len() as u64);
                utterances.push(Utterance { embedded, annotation: info.annotation, ..Utterance::new(info.id, table, split) });
            }
        }
        Ok(Some((utterances, classes)))
    })
}
