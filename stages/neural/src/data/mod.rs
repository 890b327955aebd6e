//! Labelled utterances for training and evaluation: which belong in one batch, and batches made ahead of their use.
//!
//! Knows shards and batches; knows neither models nor losses.

mod batches;
mod loader;
mod utterances;

pub use batches::{BatchLimit, by_length, shuffled};
pub use loader::{Loader, Prepared};
pub use utterances::{DataError, Utterances, read_labels};
