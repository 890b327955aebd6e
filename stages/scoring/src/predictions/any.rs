//! Predictions of any kind, told apart by their columns.

use std::path::Path;

use super::{Intents, Prediction, PredictionRow, PredictionsError, Tagged, Transcription, Trial, open, read};

/// Content of a file of predictions.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Predictions {
    /// One class per utterance.
    Classes(Vec<Prediction>),
    /// One text per utterance.
    Texts(Vec<Transcription>),
    /// One value in each of several slots.
    Intents(Vec<Intents>),
    /// Any number of labels per utterance.
    Tags(Vec<Tagged>),
    /// Likeness of pairs of recordings.
    Trials(Vec<Trial>),
}

/// Reads predictions of whatever kind they are.
///
/// Errors: [`PredictionsError::Unknown`] when the columns are those of no kind; else as [`read`].
pub fn read_any(path: &Path) -> Result<Predictions, PredictionsError> {
    let schema = open(path)?.schema().clone();
    let has = |names: Vec<arrow_schema::Field>| names.iter().all(|field| schema.field_with_name(field.name()).is_ok());
    if has(Prediction::columns()) {
        read(path).map(Predictions::Classes)
    } else if has(Transcription::columns()) {
        read(path).map(Predictions::Texts)
    } else if has(Intents::columns()) {
        read(path).map(Predictions::Intents)
    } else if has(Tagged::columns()) {
        read(path).map(Predictions::Tags)
    } else if has(Trial::columns()) {
        read(path).map(Predictions::Trials)
    } else {
        let found = schema.fields().iter().map(|field| format!("`{}`", field.name())).collect::<Vec<_>>().join(", ");
        Err(PredictionsError::Unknown { path: path.to_owned(), found })
    }
}
