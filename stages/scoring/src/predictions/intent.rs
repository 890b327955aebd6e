//! The answer of a classifier with several classes per utterance, one in each slot.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, ListArray, StringArray, StructArray};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, Fields};

use super::PredictionRow;
use super::column::{field, integer, integers, optional_text, optional_texts, single, singles, text, texts};

/// The value answered in each slot of one utterance.
#[derive(Debug, Clone, PartialEq)]
pub struct Intents {
    /// The utterance.
    pub id: String,
    /// Speaker, where the corpus names one.
    pub speaker: Option<String>,
    /// Every slot, in the same order in all utterances.
    pub slots: Vec<SlotAnswer>,
    /// Length of the utterance in samples.
    pub num_samples: i64,
    /// Sum of the slots' cross entropies, natural log.
    pub loss: f32,
}

/// The value answered in one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotAnswer {
    /// The slot: `action`.
    pub slot: String,
    /// Right value: `activate`.
    pub label: String,
    /// The value answered.
    pub prediction: String,
}

impl Intents {
    /// How many slots have the right value.
    pub fn num_right(&self) -> usize {
        self.slots.iter().filter(|answer| answer.label == answer.prediction).count()
    }
    /// True if every slot has the right value.
    pub fn is_right(&self) -> bool {
        self.num_right() == self.slots.len()
    }
}

fn parts() -> Fields {
    Fields::from(["slot", "label", "prediction"].map(|name| field(name, DataType::Utf8)).to_vec())
}

fn item() -> Arc<Field> {
    Arc::new(field("item", DataType::Struct(parts())))
}

impl PredictionRow for Intents {
    const WHAT: &'static str = "predictions of intents";

    fn columns() -> Vec<Field> {
        vec![
            field("id", DataType::Utf8),
            field("slots", DataType::List(item())),
            field("num_samples", DataType::Int64),
            field("loss", DataType::Float32),
            Field::new("speaker", DataType::Utf8, true),
        ]
    }
    fn key(&self) -> (&str, &str) {
        (&self.id, "")
    }
    fn encode(rows: &[&Self]) -> Vec<ArrayRef> {
        let answers: Vec<&SlotAnswer> = rows.iter().flat_map(|row| &row.slots).collect();
        let part = |get: fn(&SlotAnswer) -> &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(answers.iter().map(|answer| get(answer))))
        };
        let columns = vec![part(|one| &one.slot), part(|one| &one.label), part(|one| &one.prediction)];
        let offsets = OffsetBuffer::from_lengths(rows.iter().map(|row| row.slots.len()));
        let slots = ListArray::new(item(), offsets, Arc::new(StructArray::new(parts(), columns, None)), None);
        vec![
            texts(rows, |row| &row.id),
            Arc::new(slots),
            integers(rows, |row| row.num_samples),
            singles(rows, |row| row.loss),
            optional_texts(rows, |row| row.speaker.as_deref()),
        ]
    }
    fn decode(columns: &[&ArrayRef], rows: usize) -> Vec<Self> {
        let slots = |row: usize| {
            let answers = columns[1].as_list::<i32>().value(row);
            let parts: Vec<ArrayRef> = answers.as_struct().columns().to_vec();
            let answer =
                |at| SlotAnswer { slot: text(&parts[0], at), label: text(&parts[1], at), prediction: text(&parts[2], at) };
            (0..answers.len()).map(answer).collect()
        };
        let row = |row: usize| Self {
            id: text(columns[0], row),
            slots: slots(row),
            num_samples: integer(columns[2], row),
            loss: single(columns[3], row),
            speaker: optional_text(columns[4], row),
        };
        (0..rows).map(row).collect()
    }
}
