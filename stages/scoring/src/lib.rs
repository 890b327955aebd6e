//! Metrics, result tables and plots.
//!
//! Stages `score.*` turn predictions into scores, [`ReportTable`] gathers scores into tables, pictures and a page. Beneath them
//! the metrics ([`classification`], [`text`], [`slots`], [`verification`]), the contribution of every utterance to them
//! ([`evidence`]), intervals and tests ([`significance`]), and pictures that need nothing from the machine ([`picture`],
//! [`plot`]). Knows nothing of audio or tensors.

pub mod answers;
pub mod predictions;

pub mod alignment;
pub mod classification;
pub mod distance;
pub mod edit;
pub mod iob;
pub mod metric;
pub mod slots;
pub mod tagging;
pub mod text;
pub mod verification;

pub mod random;

pub mod errors;
pub mod evidence;
pub mod significance;

pub mod corpus;
pub mod history;
pub mod listen;
pub mod report;
pub mod score;

mod clips;
pub mod picture;
pub mod plot;
pub mod template;

pub use classification::{ClassScore, Confusion};
pub use edit::Edits;
pub use listen::ReportListen;
pub use metric::{Direction, Metric};
pub use predictions::{
    Intents, Prediction, Predictions, PredictionsError, SlotAnswer, Synthesised, Tagged, Transcription, Trial,
};
pub use report::ReportTable;
pub use score::{
    ScoreClassification, ScoreIntent, ScoreSlots, ScoreSynthesis, ScoreTagging, ScoreText, ScoreVerification, Scores,
};
pub use text::Unit;
