//! The answer of a model that gives an utterance any number of labels.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array, ArrayRef, Float32Array, ListArray, StringArray};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field};

use super::PredictionRow;
use super::column::{field, integer, integers, optional_text, optional_texts, single, singles, text, texts};

/// The labels answered to one utterance.
#[derive(Debug, Clone, PartialEq)]
pub struct Tagged {
    /// The utterance.
    pub id: String,
    /// Speaker, where the corpus names one.
    pub speaker: Option<String>,
    /// Right labels, in order of the list of labels.
    pub labels: Vec<String>,
    /// Labels answered, in the same order.
    pub predictions: Vec<String>,
    /// Probability of each label of the list.
    pub scores: Vec<f32>,
    /// Length of the utterance in samples.
    pub num_samples: i64,
    /// Mean binary cross entropy over the labels, natural log.
    pub loss: f32,
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(field("item", item)))
}

fn lists<'a>(rows: &[&'a Tagged], get: impl Fn(&'a Tagged) -> &'a [String]) -> ArrayRef {
    let offsets = OffsetBuffer::from_lengths(rows.iter().map(|row| get(row).len()));
    let values = StringArray::from_iter_values(rows.iter().flat_map(|row| get(row)));
    Arc::new(ListArray::new(Arc::new(field("item", DataType::Utf8)), offsets, Arc::new(values), None))
}

impl PredictionRow for Tagged {
    const WHAT: &'static str = "predictions of several labels";

    fn columns() -> Vec<Field> {
        vec![
            field("id", DataType::Utf8),
            field("labels", list(DataType::Utf8)),
            field("predictions", list(DataType::Utf8)),
            field("scores", list(DataType::Float32)),
            field("num_samples", DataType::Int64),
            field("loss", DataType::Float32),
            Field::new("speaker", DataType::Utf8, true),
        ]
    }
    fn key(&self) -> (&str, &str) {
        (&self.id, "")
    }
    fn encode(rows: &[&Self]) -> Vec<ArrayRef> {
        let offsets = OffsetBuffer::from_lengths(rows.iter().map(|row| row.scores.len()));
        let values = Float32Array::from_iter_values(rows.iter().flat_map(|row| row.scores.iter().copied()));
        let scores = ListArray::new(Arc::new(field("item", DataType::Float32)), offsets, Arc::new(values), None);
        vec![
            texts(rows, |row| &row.id),
            lists(rows, |row| &row.labels),
            lists(rows, |row| &row.predictions),
            Arc::new(scores),
            integers(rows, |row| row.num_samples),
            singles(rows, |row| row.loss),
            optional_texts(rows, |row| row.speaker.as_deref()),
        ]
    }
    fn decode(columns: &[&ArrayRef], rows: usize) -> Vec<Self> {
        let names = |column: usize, row: usize| {
            let values = columns[column].as_list::<i32>().value(row);
            (0..values.len()).map(|at| text(&values, at)).collect()
        };
        let row = |row: usize| Self {
            id: text(columns[0], row),
            labels: names(1, row),
            predictions: names(2, row),
            scores: columns[3].as_list::<i32>().value(row).as_primitive::<Float32Type>().values().to_vec(),
            num_samples: integer(columns[4], row),
            loss: single(columns[5], row),
            speaker: optional_text(columns[6], row),
        };
        (0..rows).map(row).collect()
    }
}
