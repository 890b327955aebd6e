//! Metrics, result tables and plots.

pub mod classification;
pub mod metric;
pub mod predictions;
pub mod significance;

pub use classification::{ClassScore, Confusion};
pub use metric::{Direction, Metric};
pub use predictions::{Prediction, PredictionsError};
