//! Tasks of the benchmark: their registry, their targets and their text rules. No libtorch, no audio.
//!
//! [`TASKS`] lists the tasks. `targets` is the stage between shards and training, `score` the one after evaluation. `task` is the
//! file that describes the outputs of a model; `vocabulary`,
//! `normalise`, `slots` and `lexicon` are the text rules behind it; `beam` and `ngram` turn a recogniser's scores into text,
//! `align` says at which frames a known text is said.

pub mod align;
pub mod beam;
pub mod head;
pub mod intent;
pub mod language_model;
pub mod lexicon;
pub mod ngram;
pub mod normalise;
mod registry;
pub mod score;
pub mod slots;
pub mod targets;
pub mod task;
pub mod text;
pub mod vocabulary;

pub use registry::{Entry, TASKS, TargetKind, Task};
pub use score::ScoreTask;
pub use task::{Clips, Group, Order, Outputs, Protocol, TaskFile, TaskFileError};
pub use vocabulary::Vocabulary;

/// The fewest frames that can say `tokens`: one each, and one for the blank between two that are equal.
pub fn frames_needed(tokens: &[i64]) -> usize {
    tokens.len() + tokens.windows(2).filter(|pair| pair[0] == pair[1]).count()
}
