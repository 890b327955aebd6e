//! The answer of a recogniser.

use arrow_array::ArrayRef;
use arrow_schema::{DataType, Field};

use super::PredictionRow;
use super::column::{field, integer, integers, optional_text, optional_texts, single, singles, text, texts};

/// The text recognised in one utterance.
///
/// Words are separated by spaces. Slot filling marks values within the text, `play B-artist the beatles E-artist now`;
/// phonemes are written as symbols separated by spaces, `HH AH0 L OW1`.
#[derive(Debug, Clone, PartialEq)]
pub struct Transcription {
    /// The utterance.
    pub id: String,
    /// Speaker, where the corpus names one.
    pub speaker: Option<String>,
    /// Reference.
    pub reference: String,
    /// Hypothesis.
    pub hypothesis: String,
    /// Length of the utterance in samples.
    pub num_samples: i64,
    /// CTC loss of the reference divided by its length, natural log; 0 where the reference has more tokens than there are frames.
    pub loss: f32,
}

impl PredictionRow for Transcription {
    const WHAT: &'static str = "predictions of texts";

    fn columns() -> Vec<Field> {
        vec![
            field("id", DataType::Utf8),
            field("reference", DataType::Utf8),
            field("hypothesis", DataType::Utf8),
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
            texts(rows, |row| &row.reference),
            texts(rows, |row| &row.hypothesis),
            integers(rows, |row| row.num_samples),
            singles(rows, |row| row.loss),
            optional_texts(rows, |row| row.speaker.as_deref()),
        ]
    }
    fn decode(columns: &[&ArrayRef], rows: usize) -> Vec<Self> {
        let row = |row: usize| Self {
            id: text(columns[0], row),
            reference: text(columns[1], row),
            hypothesis: text(columns[2], row),
            num_samples: integer(columns[3], row),
            loss: single(columns[4], row),
            speaker: optional_text(columns[5], row),
        };
        (0..rows).map(row).collect()
    }
}
