//! Utterances and their targets for training and evaluation: which belong in one batch, and batches made ahead of their use.
//!
//! Knows shards and batches; knows neither models nor losses.

mod batches;
mod loader;
mod utterances;

pub use batches::{BatchLimit, by_length, longest_first, shuffled};
pub(crate) use loader::batch;
pub use loader::{Loader, Prepared};
pub(crate) use utterances::prepared;
pub use utterances::{DataError, Utterances};
