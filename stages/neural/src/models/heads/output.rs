//! Output of a head, and the targets of its loss.

use tch::Tensor;

/// Output of a head for a batch.
#[derive(Debug)]
pub struct HeadOutput {
    /// (B, outputs), for CTC (B, T, outputs).
    pub logits: Tensor,
    /// Real frames of each utterance, for CTC.
    pub frames: Vec<i64>,
    /// The speakers' vectors (B, size), for x-vectors.
    pub embeddings: Option<Tensor>,
}

/// Targets of a batch.
#[derive(Debug)]
pub enum Targets {
    /// A class for each utterance, (B) int64.
    Classes(Tensor),
    /// A class of each group for each utterance, counted within the group, (B, groups) int64.
    Groups(Tensor),
    /// 1 for each label that an utterance has, (B, labels) float32.
    Tags(Tensor),
    /// Tokens of each utterance.
    Tokens {
        /// By utterance.
        ids: Vec<Vec<i64>>,
        /// The token that stands for nothing.
        blank: i64,
    },
}

impl Targets {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Classes(_) => "one class for each utterance",
            Self::Groups(_) => "several classes for each utterance",
            Self::Tags(_) => "labels for each utterance",
            Self::Tokens { .. } => "tokens",
        }
    }
}
