//! Metrics, result tables and plots.

pub mod predictions;

pub use predictions::{Prediction, PredictionsError};
