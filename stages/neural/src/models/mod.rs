//! Models: an encoder with adapters and a task head.

pub mod encoder;
pub mod heads;
mod merge;
mod model;
mod values;

pub use self::merge::{Merged, merge};
pub use self::model::{Batch, LastState, Model, ParameterCounts};
