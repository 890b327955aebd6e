//! The rows of a Parquet table: its columns of text, numbers and truth values, and of a struct (Hugging Face's `audio`) the field
//! `path`. Other columns are passed over unread.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{ConvertedType, Type as Physical};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::{ColumnPath, Type};

use super::pages;
use super::records::{Record, has_path};

/// Errors: why it cannot be read.
pub(super) fn rows(path: &Path) -> Result<Vec<Record>, String> {
    // The reader takes a damaged file apart by its own word; where that makes it panic, the file is no table.
    catch_unwind(AssertUnwindSafe(|| read(path))).unwrap_or_else(|_| Err("it is damaged".to_owned()))
}

fn read(path: &Path) -> Result<Vec<Record>, String> {
    let failed = |error: parquet::errors::ParquetError| format!("it is not a Parquet table that can be read: {error}");
    let file = File::open(path).map_err(|error| format!("it cannot be opened: {error}"))?;
    let pages = file.try_clone().map_err(|error| format!("it cannot be opened: {error}"))?;
    let reader = SerializedFileReader::new(file).map_err(failed)?;
    let schema = reader.metadata().file_metadata().schema();
    let columns: Vec<Arc<Type>> = schema.get_fields().iter().filter_map(wanted).collect();
    let mut names: Vec<String> = columns.iter().map(|column| column.name().trim().to_lowercase()).collect();
    has_path(&names)?;
    names.sort();
    if let Some((twice, _)) = names.iter().zip(&names[names.len().min(1)..]).find(|(first, second)| first == second) {
        return Err(format!("two columns `{twice}`"));
    }
    let is_read = |path: &ColumnPath| {
        let wanted = columns.iter().find(|column| path.parts().first().is_some_and(|name| name == column.name()));
        wanted.is_some_and(|column| column.is_primitive() || path.parts().get(1).is_some_and(|name| name == "path"))
    };
    pages::check(&pages, reader.metadata(), is_read)?;
    let projection = Type::group_type_builder(schema.name()).with_fields(columns).build().map_err(failed)?;
    let rows = reader.get_row_iter(Some(projection)).map_err(failed)?;
    let record = |(row, line): (Result<parquet::record::Row, _>, u64)| {
        let row = row.map_err(failed)?;
        let fields = row.get_column_iter().map(|(name, field)| (name.trim().to_lowercase(), text(field)));
        Ok(Record { line, fields: fields.collect() })
    };
    rows.zip(1..).map(record).collect()
}

/// A column as far as it is read: without the bytes of an audio struct.
fn wanted(column: &Arc<Type>) -> Option<Arc<Type>> {
    if column.is_primitive() {
        let info = column.get_basic_info();
        let is_text = info.converted_type() == ConvertedType::UTF8;
        let is_number =
            !matches!(column.get_physical_type(), Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY | Physical::INT96);
        return (is_text || is_number).then(|| Arc::clone(column));
    }
    let path = column.get_fields().iter().find(|field| field.name() == "path" && field.is_primitive())?;
    let info = column.get_basic_info();
    let group = Type::group_type_builder(column.name()).with_fields(vec![Arc::clone(path)]);
    group.with_repetition(info.repetition()).build().ok().map(Arc::new)
}

fn text(field: &Field) -> String {
    match field {
        Field::Str(text) => text.trim().to_owned(),
        Field::Bool(value) => value.to_string(),
        Field::Byte(number) => number.to_string(),
        Field::Short(number) => number.to_string(),
        Field::Int(number) => number.to_string(),
        Field::Long(number) => number.to_string(),
        Field::UByte(number) => number.to_string(),
        Field::UShort(number) => number.to_string(),
        Field::UInt(number) => number.to_string(),
        Field::ULong(number) => number.to_string(),
        Field::Float(number) => number.to_string(),
        Field::Double(number) => number.to_string(),
        Field::Group(row) => {
            // Of a struct only the path was asked for.
            row.get_column_iter().next().map(|(_, field)| text(field)).unwrap_or_default()
        }
        _ => String::new(),
    }
}
