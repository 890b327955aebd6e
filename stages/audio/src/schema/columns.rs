//! Rows as Arrow columns, and back.

use std::sync::Arc;

use arrow_array::builder::BinaryViewBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray};
use arrow_buffer::{Buffer, OffsetBuffer};
use arrow_schema::{DataType, Field, Fields};
use datasets::{Phone, Slot, Times, Word};

use super::Row;

/// What a shard says of an utterance besides its audio.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Annotation {
    /// Unique in the corpus.
    pub id: String,
    /// Who speaks.
    pub speaker: Option<String>,
    /// `train`, `dev` or `test`.
    pub split: String,
    /// Length of the clip in samples.
    pub num_samples: u64,
    /// Index of the class.
    pub label: Option<u32>,
    /// Name of the class.
    pub keyword: Option<String>,
    /// What is said, as distributed.
    pub transcript: Option<String>,
    /// What is said, as the corpus normalises it.
    pub normalised: Option<String>,
    /// The words one by one.
    pub words: Vec<Word>,
    /// The phones one by one.
    pub phones: Vec<Phone>,
    /// What is to be understood.
    pub slots: Vec<Slot>,
    /// Anything else: name and value.
    pub tags: Vec<Slot>,
}

/// Never null, but declared so: `datasets` takes a column for `Audio` only when it is nullable throughout (tried, 5.2).
fn audio_fields(bytes: DataType) -> Fields {
    Fields::from(vec![Field::new("bytes", bytes, true), Field::new("path", DataType::Utf8, true)])
}

fn word_fields() -> Fields {
    let text = ["text", "slot"].map(|name| Field::new(name, DataType::Utf8, true));
    let times = ["start", "end"].map(|name| Field::new(name, DataType::Float64, true));
    text.into_iter().chain(times).collect()
}

fn phone_fields() -> Fields {
    let times = ["start", "end"].map(|name| Field::new(name, DataType::Float64, true));
    std::iter::once(Field::new("symbol", DataType::Utf8, true)).chain(times).collect()
}

fn pair_fields() -> Fields {
    ["name", "value"].map(|name| Field::new(name, DataType::Utf8, true)).into_iter().collect()
}

/// The columns.
pub fn fields() -> Vec<Field> {
    fields_with(DataType::Binary)
}

/// The columns as [`columns`] gives them: each clip stays where it lies and is seen from the column, for a column of all of them
/// would be a copy. In the file there is no difference.
pub(super) fn fields_in_memory() -> Vec<Field> {
    fields_with(DataType::BinaryView)
}

fn fields_with(bytes: DataType) -> Vec<Field> {
    let list = |name: &str, of: DataType| Field::new(name, DataType::List(item(of)), true);
    vec![
        Field::new("audio", DataType::Struct(audio_fields(bytes)), true),
        Field::new("id", DataType::Utf8, false),
        Field::new("speaker", DataType::Utf8, true),
        Field::new("split", DataType::Utf8, false),
        Field::new("sample_rate", DataType::Int32, false),
        Field::new("num_samples", DataType::Int64, false),
        Field::new("label", DataType::Int64, true),
        Field::new("keyword", DataType::Utf8, true),
        Field::new("transcript", DataType::Utf8, true),
        Field::new("normalised", DataType::Utf8, true),
        list("words", DataType::Struct(word_fields())),
        list("phones", DataType::Struct(phone_fields())),
        list("slots", DataType::Struct(pair_fields())),
        list("tags", DataType::Struct(pair_fields())),
        list("flags", DataType::Utf8),
        Field::new("source_path", DataType::Utf8, false),
        Field::new("source_sample_rate", DataType::Int32, false),
        Field::new("source_channels", DataType::Int32, false),
    ]
}

fn item(of: DataType) -> Arc<Field> {
    Arc::new(Field::new("element", of, true))
}

/// Rows as the columns of [`fields_in_memory`], which take the clips out of the rows.
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
    let paths = text(rows.iter().map(|row| Some(row.path.as_str())));
    let audio = StructArray::new(audio_fields(DataType::BinaryView), vec![clips, paths], None);
    let whole = |number: fn(&Row) -> u32| -> ArrayRef {
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| number(row) as i32)))
    };
    vec![
        Arc::new(audio),
        text(rows.iter().map(|row| Some(row.id.as_str()))),
        text(rows.iter().map(|row| row.speaker.as_deref())),
        text(rows.iter().map(|row| Some(row.split))),
        whole(|row| row.sample_rate),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.num_samples as i64))),
        Arc::new(rows.iter().map(|row| row.label.map(i64::from)).collect::<Int64Array>()),
        text(rows.iter().map(|row| row.keyword.as_deref())),
        text(rows.iter().map(|row| row.transcript.as_deref())),
        text(rows.iter().map(|row| row.normalised.as_deref())),
        list(rows.iter().map(|row| row.words.len()), words(rows)),
        list(rows.iter().map(|row| row.phones.len()), phones(rows)),
        list(rows.iter().map(|row| row.slots.len()), pairs(rows.iter().flat_map(|row| &row.slots))),
        list(rows.iter().map(|row| row.tags.len()), pairs(rows.iter().flat_map(|row| &row.tags))),
        list(
            rows.iter().map(|row| row.flags.len()),
            text(rows.iter().flat_map(|row| &row.flags).map(|flag| Some(flag.as_str()))),
        ),
        text(rows.iter().map(|row| Some(row.source_path.as_str()))),
        whole(|row| row.source_sample_rate),
        whole(|row| u32::from(row.source_channels)),
    ]
}

fn text<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn list(lengths: impl Iterator<Item = usize>, values: ArrayRef) -> ArrayRef {
    Arc::new(ListArray::new(item(values.data_type().clone()), OffsetBuffer::from_lengths(lengths), values, None))
}

/// Microseconds as seconds: a division of two whole numbers, the same on every machine.
fn secs(us: u64) -> f64 {
    us as f64 / 1e6
}

fn words(rows: &[Row]) -> ArrayRef {
    let all = || rows.iter().flat_map(|row| &row.words);
    let times = |of: fn(Times) -> u64| -> ArrayRef {
        Arc::new(all().map(|word| word.times.map(|times| secs(of(times)))).collect::<Float64Array>())
    };
    let columns = vec![
        text(all().map(|word| Some(word.text.as_str()))),
        text(all().map(|word| word.slot.as_deref())),
        times(|times| times.start_us),
        times(|times| times.end_us),
    ];
    Arc::new(StructArray::new(word_fields(), columns, None))
}

fn phones(rows: &[Row]) -> ArrayRef {
    let all = || rows.iter().flat_map(|row| &row.phones);
    let times =
        |of: fn(Times) -> u64| -> ArrayRef { Arc::new(Float64Array::from_iter_values(all().map(|phone| secs(of(phone.times))))) };
    let columns =
        vec![text(all().map(|phone| Some(phone.symbol.as_str()))), times(|times| times.start_us), times(|times| times.end_us)];
    Arc::new(StructArray::new(phone_fields(), columns, None))
}

fn pairs<'a>(pairs: impl Iterator<Item = &'a Slot> + Clone) -> ArrayRef {
    let columns =
        vec![text(pairs.clone().map(|pair| Some(pair.name.as_str()))), text(pairs.map(|pair| Some(pair.value.as_str())))];
    Arc::new(StructArray::new(pair_fields(), columns, None))
}

/// The annotations of a batch, which may lack columns that say nothing. Errors: what is not as expected.
pub(crate) fn annotations(batch: &RecordBatch) -> Result<Vec<Annotation>, String> {
    let number = |name: &str| {
        let column = batch.column_by_name(name).ok_or_else(|| format!("expected a column `{name}`, found none"))?;
        column.as_primitive_opt::<Int64Type>().ok_or_else(|| format!("expected `{name}` as int64, found {}", column.data_type()))
    };
    let (num_samples, label) = (number("num_samples")?, number("label")?);
    let id = text_column(batch, "id")?.ok_or("expected a column `id`, found none")?;
    let optional = ["speaker", "split", "keyword", "transcript", "normalised"].map(|name| text_column(batch, name));
    let [speaker, split, keyword, transcript, normalised] = optional;
    let (speaker, split, keyword) = (speaker?, split?, keyword?);
    let (transcript, normalised) = (transcript?, normalised?);
    let mut found = Vec::with_capacity(batch.num_rows());
    for at in 0..batch.num_rows() {
        found.push(Annotation {
            id: id.value(at).to_owned(),
            speaker: optional_text(speaker, at),
            split: optional_text(split, at).unwrap_or_default(),
            num_samples: u64::try_from(num_samples.value(at)).map_err(|_| format!("{} samples", num_samples.value(at)))?,
            label: if label.is_valid(at) {
                Some(u32::try_from(label.value(at)).map_err(|_| format!("a label of {}", label.value(at)))?)
            } else {
                None
            },
            keyword: optional_text(keyword, at),
            transcript: optional_text(transcript, at),
            normalised: optional_text(normalised, at),
            words: structs(batch, "words", at, read_word)?,
            phones: structs(batch, "phones", at, read_phone)?,
            slots: structs(batch, "slots", at, read_pair)?,
            tags: structs(batch, "tags", at, read_pair)?,
        });
    }
    Ok(found)
}

/// A column of text that may not be there. Errors: it is something else.
fn text_column<'a>(batch: &'a RecordBatch, name: &str) -> Result<Option<&'a StringArray>, String> {
    let Some(column) = batch.column_by_name(name) else { return Ok(None) };
    let text = column.as_string_opt::<i32>();
    text.map(Some).ok_or_else(|| format!("expected `{name}` as text, found {}", column.data_type()))
}

/// The value of a row, if there is one.
pub(crate) fn optional_text(column: Option<&StringArray>, at: usize) -> Option<String> {
    column.filter(|column| column.is_valid(at)).map(|column| column.value(at).to_owned())
}

/// The structs in a row's list. A list that is not there is empty. Errors: it is no list of structs, or not of these.
fn structs<T>(
    batch: &RecordBatch,
    name: &str,
    at: usize,
    read: fn(&StructArray, usize) -> Result<T, Foreign>,
) -> Result<Vec<T>, String> {
    let Some(column) = batch.column_by_name(name) else { return Ok(Vec::new()) };
    let wrong = || format!("expected `{name}` as in a shard, found {}", column.data_type());
    let list = column.as_list_opt::<i32>().ok_or_else(wrong)?;
    if list.is_null(at) {
        return Ok(Vec::new());
    }
    let values = list.value(at);
    let values = values.as_struct_opt().ok_or_else(wrong)?;
    (0..values.len()).map(|at| read(values, at).map_err(|_| wrong())).collect()
}

/// The columns of a struct are others than those of a shard.
struct Foreign;

fn read_text(of: &StructArray, name: &str, at: usize) -> Result<Option<String>, Foreign> {
    let column = of.column_by_name(name).and_then(|column| column.as_string_opt::<i32>()).ok_or(Foreign)?;
    Ok(optional_text(Some(column), at))
}

/// Times that are null are none.
fn read_times(of: &StructArray, at: usize) -> Result<Option<Times>, Foreign> {
    let us = |name: &str| {
        let column = of.column_by_name(name).and_then(|column| column.as_primitive_opt::<Float64Type>()).ok_or(Foreign)?;
        Ok(column.is_valid(at).then(|| (column.value(at) * 1e6).round().max(0.0) as u64))
    };
    let (start, end) = (us("start")?, us("end")?);
    Ok(start.zip(end).map(|(start_us, end_us)| Times { start_us, end_us }))
}

fn read_word(of: &StructArray, at: usize) -> Result<Word, Foreign> {
    let text = read_text(of, "text", at)?.ok_or(Foreign)?;
    Ok(Word { text, slot: read_text(of, "slot", at)?, times: read_times(of, at)? })
}

fn read_phone(of: &StructArray, at: usize) -> Result<Phone, Foreign> {
    let symbol = read_text(of, "symbol", at)?.ok_or(Foreign)?;
    Ok(Phone { symbol, times: read_times(of, at)?.ok_or(Foreign)? })
}

fn read_pair(of: &StructArray, at: usize) -> Result<Slot, Foreign> {
    let name = read_text(of, "name", at)?.ok_or(Foreign)?;
    Ok(Slot { name, value: read_text(of, "value", at)?.ok_or(Foreign)? })
}
