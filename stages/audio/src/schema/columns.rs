//! Rows as Arrow columns.

use std::sync::Arc;

use arrow_array::builder::BinaryViewBuilder;
use arrow_array::{ArrayRef, Int32Array, Int64Array, StringArray, StructArray};
use arrow_buffer::Buffer;
use arrow_schema::{DataType, Field, Fields};
use datasets::annotation::columns as annotation;

use super::Row;

/// Never null, but declared so: `datasets` takes a column for `Audio` only when it is nullable throughout (tried, 5.2).
fn audio_fields(bytes: DataType) -> Fields {
    Fields::from(vec![Field::new("bytes", bytes, true), Field::new("path", DataType::Utf8, true)])
}

/// Columns of a shard.
pub fn fields() -> Vec<Field> {
    fields_with(DataType::Binary)
}

/// Columns as [`columns`] returns them: each clip stays in its own buffer and the column refers to it, which saves a copy of all
/// clips. The file is the same.
pub(super) fn fields_in_memory() -> Vec<Field> {
    fields_with(DataType::BinaryView)
}

fn fields_with(bytes: DataType) -> Vec<Field> {
    let mut annotation = annotation::fields().into_iter();
    let speaker = annotation.next().expect("an annotation has columns");
    let mut fields = vec![
        Field::new("audio", DataType::Struct(audio_fields(bytes)), true),
        Field::new("id", DataType::Utf8, false),
        speaker,
        Field::new("split", DataType::Utf8, false),
        Field::new("sample_rate", DataType::Int32, false),
        Field::new("num_samples", DataType::Int64, false),
        Field::new("label", DataType::Int64, true),
    ];
    fields.extend(annotation);
    fields.push(Field::new("source_path", DataType::Utf8, false));
    fields.extend(["source_sample_rate", "source_channels"].map(|name| Field::new(name, DataType::Int32, false)));
    fields
}

/// Returns the rows as the columns of [`fields_in_memory`], which take the clips out of the rows.
pub(super) fn columns(rows: &mut [Row]) -> Vec<ArrayRef> {
    let mut clips = BinaryViewBuilder::new();
    for row in &mut *rows {
        let clip = std::mem::take(&mut row.bytes);
        let len = clip.len() as u32;
        let block = clips.append_block(Buffer::from_vec(clip));
        clips.try_append_view(block, 0, len).expect("a block holds its clip");
    }
    let rows = &*rows;
    let clips: ArrayRef = Arc::new(clips.finish());
    let text =
        |value: fn(&Row) -> &str| -> ArrayRef { Arc::new(rows.iter().map(|row| Some(value(row))).collect::<StringArray>()) };
    let whole = |number: fn(&Row) -> u32| -> ArrayRef {
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| number(row) as i32)))
    };
    let audio = StructArray::new(audio_fields(DataType::BinaryView), vec![clips, text(|row| &row.path)], None);
    let mut annotation = annotation::encode(&rows.iter().map(|row| &row.info.annotation).collect::<Vec<_>>()).into_iter();
    let speaker = annotation.next().expect("an annotation has columns");
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(audio),
        text(|row| &row.info.id),
        speaker,
        text(|row| row.split.name()),
        whole(|row| row.info.sample_rate),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.info.num_samples as i64))),
        Arc::new(rows.iter().map(|row| row.info.class.map(i64::from)).collect::<Int64Array>()),
    ];
    columns.extend(annotation);
    columns.push(text(|row| &row.source_path));
    columns.push(whole(|row| row.source_sample_rate));
    columns.push(whole(|row| u32::from(row.source_channels)));
    columns
}
