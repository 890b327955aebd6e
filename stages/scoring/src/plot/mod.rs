//! The pictures: a confusion matrix, accuracy against trainable parameters, a training curve.

mod axis;
mod confusion;
mod curve;
mod scatter;

pub use confusion::confusion_matrix;
pub use curve::training_curve;
pub use scatter::{ScatterPoint, accuracy_vs_parameters};

/// Height of the type of labels, in pixels.
const LABEL: f32 = 12.0;
/// Height of the type of titles.
const TITLE: f32 = 16.0;
