//! Pictures: a confusion matrix, scores against trainable parameters, curves of training, tasks by methods, mean ranks,
//! bars.

mod area;
mod axis;
mod bars;
mod confusion;
mod curve;
mod heat;
mod learning;
mod ranks;
mod scatter;

use crate::picture::{Picture, Text, shorten};

pub use bars::{Series, classes, histogram};
pub use confusion::confusion_matrix;
pub use curve::training_curve;
pub use heat::{HeatCell, HeatRow, heat_table};
pub use learning::{Along, Curve, CurvePanel, dev_curve, learning_curves};
pub use ranks::{critical_difference, rank_diagram};
pub use scatter::{ScatterPanel, ScatterPoint, score_vs_parameters};

/// Place that a picture is drawn for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// A page: panels next to each other, under a title.
    Page,
    /// One column of a paper: panels below each other, without a title.
    Column,
}

impl Layout {
    /// Number of panels next to each other.
    fn per_line(self) -> usize {
        if self == Self::Page { 3 } else { 1 }
    }

    /// Draws the title, if there is one.
    fn title(self, picture: &mut Picture, title: &str, width: f32) {
        if self == Self::Page {
            heading(picture, (24.0, 32.0), TITLE, title, width - 48.0);
        }
    }
}

/// Draws bold text from its left end, shortened to a width.
fn heading(picture: &mut Picture, at: (f32, f32), size: f32, text: &str, width: f32) {
    picture.text(Text::new(at.0, at.1, size, shorten(text, size * BOLD, width)).bold());
}

/// Height of the type of labels, in pixels.
const LABEL: f32 = 12.0;
/// Height of the type of titles.
const TITLE: f32 = 16.0;
/// Width of bold type relative to plain type, about.
const BOLD: f32 = 1.12;
/// Width of a panel in a column, in pixels: 85 mm at 4 pixels per millimetre.
const COLUMN: f32 = 340.0;
