//! The answer of a verifier.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, BooleanArray};
use arrow_schema::{DataType, Field};

use super::PredictionRow;
use super::column::{double, doubles, field, text, texts};

/// How alike the voices of two recordings are.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// The recording of the voice that is claimed.
    pub enrol_id: String,
    /// The recording to verify.
    pub test_id: String,
    /// Higher means more alike; any scale.
    pub score: f64,
    /// True if both are of one voice.
    pub target: bool,
}

impl PredictionRow for Trial {
    const WHAT: &'static str = "verification trials";

    fn columns() -> Vec<Field> {
        vec![
            field("enrol_id", DataType::Utf8),
            field("test_id", DataType::Utf8),
            field("score", DataType::Float64),
            field("target", DataType::Boolean),
        ]
    }
    fn key(&self) -> (&str, &str) {
        (&self.enrol_id, &self.test_id)
    }
    fn encode(rows: &[&Self]) -> Vec<ArrayRef> {
        vec![
            texts(rows, |row| &row.enrol_id),
            texts(rows, |row| &row.test_id),
            doubles(rows, |row| row.score),
            Arc::new(rows.iter().map(|row| Some(row.target)).collect::<BooleanArray>()),
        ]
    }
    fn decode(columns: &[&ArrayRef], rows: usize) -> Vec<Self> {
        let row = |row: usize| Self {
            enrol_id: text(columns[0], row),
            test_id: text(columns[1], row),
            score: double(columns[2], row),
            target: columns[3].as_boolean().value(row),
        };
        (0..rows).map(row).collect()
    }
}
