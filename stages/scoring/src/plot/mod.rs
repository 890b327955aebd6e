//! The pictures: a confusion matrix, scores against trainable parameters, curves of training, tasks by methods, bars.

mod area;
mod axis;
mod bars;
mod confusion;
mod curve;
mod heat;
mod learning;
mod scatter;

pub use bars::{Series, classes, histogram};
pub use confusion::confusion_matrix;
pub use curve::training_curve;
pub use heat::{HeatCell, HeatRow, heat_table};
pub use learning::{Curve, CurvePanel, dev_curve, learning_curves};
pub use scatter::{ScatterPanel, ScatterPoint, score_vs_parameters};

/// Height of the type of labels, in pixels.
const LABEL: f32 = 12.0;
/// Height of the type of titles.
const TITLE: f32 = 16.0;
