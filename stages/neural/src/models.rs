//! Models: an encoder with adapters and a task head; an acoustic model and vocoders of speech synthesis.

pub mod acoustic;
pub(crate) mod card;
pub mod encoder;
pub mod heads;
pub mod istft;
mod merge;
mod model;
mod values;
pub mod vocoder;

pub use self::merge::{Merged, merge};
pub use self::model::{Batch, Model, ParameterCounts};
