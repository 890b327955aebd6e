//! Annotations as Arrow columns, and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Array, ArrayRef, Float64Array, ListArray, RecordBatch, StringArray, StructArray};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, Fields};

use super::{Annotation, Phone, Slot, Times, Word};
use crate::parquet_file::text_at;

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

fn item(of: DataType) -> Arc<Field> {
    Arc::new(Field::new("element", of, true))
}

/// Columns of annotations, in the order of [`encode`]. The column of the label is `keyword`.
pub fn fields() -> Vec<Field> {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let list = |name: &str, of: DataType| Field::new(name, DataType::List(item(of)), true);
    vec![
        text("speaker"),
        text("keyword"),
        text("transcript"),
        text("normalised"),
        list("words", DataType::Struct(word_fields())),
        list("phones", DataType::Struct(phone_fields())),
        list("slots", DataType::Struct(pair_fields())),
        list("tags", DataType::Struct(pair_fields())),
        list("flags", DataType::Utf8),
    ]
}

/// Values of [`fields`].
pub fn encode(all: &[&Annotation]) -> Vec<ArrayRef> {
    let of = |value: fn(&Annotation) -> Option<&str>| texts(all.iter().map(|annotation| value(annotation)));
    let lens = |len: fn(&Annotation) -> usize| all.iter().map(move |annotation| len(annotation));
    let slots = all.iter().flat_map(|one| &one.slots).map(|slot| (slot.name.as_str(), slot.value.as_str()));
    let tags = all.iter().flat_map(|one| &one.tags).map(|(name, value)| (name.as_str(), value.as_str()));
    let flags = all.iter().flat_map(|one| &one.flags).map(|flag| Some(flag.as_str()));
    vec![
        of(|one| one.speaker.as_deref()),
        of(|one| one.label.as_deref()),
        of(|one| one.transcript.as_deref()),
        of(|one| one.normalised.as_deref()),
        list(lens(|one| one.words.len()), words(all)),
        list(lens(|one| one.phones.len()), phones(all)),
        list(lens(|one| one.slots.len()), pairs(slots)),
        list(lens(|one| one.tags.len()), pairs(tags)),
        list(lens(|one| one.flags.len()), texts(flags)),
    ]
}

/// Reads the annotations of a batch. Columns that the batch lacks are taken as absent.
///
/// Errors: a column of another type, as text.
pub fn decode(batch: &RecordBatch) -> Result<Vec<Annotation>, String> {
    let text = |name: &str| text_column(batch, name);
    let [speaker, label, transcript, normalised] = ["speaker", "keyword", "transcript", "normalised"].map(text);
    let (speaker, label, transcript, normalised) = (speaker?, label?, transcript?, normalised?);
    let value = |column: Option<&StringArray>, row: usize| column.and_then(|column| text_at(column, row));
    (0..batch.num_rows())
        .map(|row| {
            Ok(Annotation {
                label: value(label, row),
                speaker: value(speaker, row),
                transcript: value(transcript, row),
                normalised: value(normalised, row),
                words: items(batch, "words", row, |items| structs(items, read_word))?,
                phones: items(batch, "phones", row, |items| structs(items, read_phone))?,
                slots: items(batch, "slots", row, |items| structs(items, read_pair))?,
                tags: items(batch, "tags", row, |items| structs(items, read_pair))?
                    .into_iter()
                    .map(|Slot { name, value }| (name, value))
                    .collect::<BTreeMap<_, _>>(),
                flags: items(batch, "flags", row, |items| {
                    let flags = items.as_string_opt::<i32>()?;
                    Some((0..flags.len()).filter_map(|at| text_at(flags, at)).collect())
                })?,
            })
        })
        .collect()
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn list(lengths: impl Iterator<Item = usize>, values: ArrayRef) -> ArrayRef {
    Arc::new(ListArray::new(item(values.data_type().clone()), OffsetBuffer::from_lengths(lengths), values, None))
}

/// Converts microseconds to seconds: a division of two whole numbers, the same on every machine.
fn secs(us: u64) -> f64 {
    us as f64 / 1e6
}

fn words(all: &[&Annotation]) -> ArrayRef {
    let words = || all.iter().flat_map(|one| &one.words);
    let times = |of: fn(Times) -> u64| -> ArrayRef {
        Arc::new(words().map(|word| word.times.map(|times| secs(of(times)))).collect::<Float64Array>())
    };
    let columns = vec![
        texts(words().map(|word| Some(word.text.as_str()))),
        texts(words().map(|word| word.slot.as_deref())),
        times(|times| times.start_us),
        times(|times| times.end_us),
    ];
    Arc::new(StructArray::new(word_fields(), columns, None))
}

fn phones(all: &[&Annotation]) -> ArrayRef {
    let phones = || all.iter().flat_map(|one| &one.phones);
    let times = |of: fn(Times) -> u64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(phones().map(|phone| secs(of(phone.times)))))
    };
    let columns = vec![
        texts(phones().map(|phone| Some(phone.symbol.as_str()))),
        times(|times| times.start_us),
        times(|times| times.end_us),
    ];
    Arc::new(StructArray::new(phone_fields(), columns, None))
}

fn pairs<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> ArrayRef {
    let columns = vec![texts(pairs.clone().map(|(name, _)| Some(name))), texts(pairs.map(|(_, value)| Some(value)))];
    Arc::new(StructArray::new(pair_fields(), columns, None))
}

/// Column of text that may be missing. Errors: the column has another type.
fn text_column<'a>(batch: &'a RecordBatch, name: &str) -> Result<Option<&'a StringArray>, String> {
    let Some(column) = batch.column_by_name(name) else { return Ok(None) };
    let text = column.as_string_opt::<i32>();
    text.map(Some).ok_or_else(|| format!("column `{name}` should be text, found {}", column.data_type()))
}

/// Values in the list of a row. A list that is missing is empty. Errors: another type than in a shard.
fn items<T: Default>(batch: &RecordBatch, name: &str, row: usize, read: impl Fn(&ArrayRef) -> Option<T>) -> Result<T, String> {
    let Some(column) = batch.column_by_name(name) else { return Ok(T::default()) };
    let wrong = || format!("column `{name}` should be as in a shard, found {}", column.data_type());
    let list = column.as_list_opt::<i32>().ok_or_else(wrong)?;
    if list.is_null(row) {
        return Ok(T::default());
    }
    read(&list.value(row)).ok_or_else(wrong)
}

fn structs<T>(items: &ArrayRef, read: impl Fn(&StructArray, usize) -> Option<T>) -> Option<Vec<T>> {
    let items = items.as_struct_opt()?;
    (0..items.len()).map(|at| read(items, at)).collect()
}

/// Value of a text field; the outer `None` if there is no such field.
fn read_text(of: &StructArray, name: &str, at: usize) -> Option<Option<String>> {
    Some(text_at(of.column_by_name(name)?.as_string_opt::<i32>()?, at))
}

/// Begin and end; the inner `None` if one of them is null.
fn read_times(of: &StructArray, at: usize) -> Option<Option<Times>> {
    let us = |name: &str| {
        let column = of.column_by_name(name)?.as_primitive_opt::<Float64Type>()?;
        Some(column.is_valid(at).then(|| (column.value(at) * 1e6).round().max(0.0) as u64))
    };
    let (start, end) = (us("start")?, us("end")?);
    Some(start.zip(end).map(|(start_us, end_us)| Times { start_us, end_us }))
}

fn read_word(of: &StructArray, at: usize) -> Option<Word> {
    Some(Word { text: read_text(of, "text", at)??, slot: read_text(of, "slot", at)?, times: read_times(of, at)? })
}

fn read_phone(of: &StructArray, at: usize) -> Option<Phone> {
    Some(Phone { symbol: read_text(of, "symbol", at)??, times: read_times(of, at)?? })
}

fn read_pair(of: &StructArray, at: usize) -> Option<Slot> {
    Some(Slot { name: read_text(of, "name", at)??, value: read_text(of, "value", at)?? })
}

#[cfg(test)]
mod tests {
    use arrow_schema::Schema;

    use super::*;

    #[test]
    fn annotations_come_back_and_missing_columns_are_absent() {
        let slot = |name: &str, value: &str| Slot { name: name.to_owned(), value: value.to_owned() };
        let times = |start_us, end_us| Times { start_us, end_us };
        let full = Annotation {
            label: Some("yes".to_owned()),
            speaker: Some("ann".to_owned()),
            transcript: Some("Yes, \u{201c}please\u{201d}\u{0}".to_owned()),
            normalised: Some("yes please".to_owned()),
            words: vec![
                Word { text: "Yes".to_owned(), slot: None, times: Some(times(0, 333_333)) },
                Word { text: "please".to_owned(), slot: Some("manner".to_owned()), times: None },
            ],
            phones: vec![Phone { symbol: "Y".to_owned(), times: times(10, 123_457) }],
            slots: vec![slot("manner", "please"), slot("manner", "")],
            tags: [("gender".to_owned(), "female".to_owned())].into(),
            flags: vec!["too short".to_owned()],
        };
        let bare = Annotation::default();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields())), encode(&[&full, &bare])).unwrap();
        assert_eq!(decode(&batch).unwrap(), [full.clone(), bare]);
        let some = batch.project(&[1, 4]).unwrap();
        let expected = Annotation { label: full.label, words: full.words, ..Annotation::default() };
        assert_eq!(decode(&some).unwrap()[0], expected);
        let wrong = RecordBatch::try_from_iter([("words", texts([Some("x")].into_iter()))]).unwrap();
        assert_eq!(decode(&wrong).unwrap_err(), "column `words` should be as in a shard, found Utf8");
    }
}
