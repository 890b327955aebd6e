//! Metrics, result tables and plots.

pub mod classification;
pub mod metric;
pub mod picture;
pub mod plot;
pub mod predictions;
pub mod report;
pub mod score;
pub mod significance;

pub use classification::{ClassScore, Confusion};
pub use metric::{Direction, Metric};
pub use predictions::{Prediction, PredictionsError};
pub use report::ReportTable;
pub use score::{ScoreClassification, Scores};
