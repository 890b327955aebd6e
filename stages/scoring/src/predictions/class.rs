//! The answer of a classifier.

use arrow_array::ArrayRef;
use arrow_schema::{DataType, Field};

use super::PredictionRow;
use super::column::{field, integer, integers, optional_text, optional_texts, single, singles, text, texts};

/// The class answered to one utterance.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The utterance.
    pub id: String,
    /// Speaker, where the corpus names one.
    pub speaker: Option<String>,
    /// The right class: index into the list of labels.
    pub label: i64,
    /// The class answered.
    pub prediction: i64,
    /// The right class, in words.
    pub label_text: String,
    /// The class answered, in words.
    pub prediction_text: String,
    /// Length of the utterance in samples.
    pub num_samples: i64,
    /// Cross entropy of the right class, natural log.
    pub loss: f32,
}

impl PredictionRow for Prediction {
    const WHAT: &'static str = "predictions of classes";

    fn columns() -> Vec<Field> {
        vec![
            field("id", DataType::Utf8),
            field("label", DataType::Int64),
            field("prediction", DataType::Int64),
            field("label_text", DataType::Utf8),
            field("prediction_text", DataType::Utf8),
            field("num_samples", DataType::Int64),
            field("loss", DataType::Float32),
            Field::new("speaker", DataType::Utf8, true),
        ]
    }
    fn key(&self) -> (&str, &str) {
        (&self.id, "")
    }
    fn encode(rows: &[&Self]) -> Vec<ArrayRef> {
        vec![
            texts(rows, |row| &row.id),
            integers(rows, |row| row.label),
            integers(rows, |row| row.prediction),
            texts(rows, |row| &row.label_text),
            texts(rows, |row| &row.prediction_text),
            integers(rows, |row| row.num_samples),
            singles(rows, |row| row.loss),
            optional_texts(rows, |row| row.speaker.as_deref()),
        ]
    }
    fn decode(columns: &[&ArrayRef], rows: usize) -> Vec<Self> {
        let row = |row: usize| Self {
            id: text(columns[0], row),
            label: integer(columns[1], row),
            prediction: integer(columns[2], row),
            label_text: text(columns[3], row),
            prediction_text: text(columns[4], row),
            num_samples: integer(columns[5], row),
            loss: single(columns[6], row),
            speaker: optional_text(columns[7], row),
        };
        (0..rows).map(row).collect()
    }
}
