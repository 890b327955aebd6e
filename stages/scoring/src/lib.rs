//! Metrics, result tables and plots.
//!
//! Two stages: [`ScoreClassification`] turns predictions into scores, [`ReportTable`] gathers scores into a table, a picture
//! and a page. Beneath them the metrics ([`classification`]), how far to trust them ([`significance`]), and pictures that
//! need nothing from the machine ([`picture`], [`plot`]). Knows nothing of audio or tensors.

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
pub use predictions::{Intents, Prediction, Predictions, PredictionsError, SlotAnswer, Transcription, Trial};
pub use report::ReportTable;
pub use score::{ScoreClassification, Scores};
