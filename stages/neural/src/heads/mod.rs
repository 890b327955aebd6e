//! Task heads: from the encoder's frames to what a task asks for.

pub mod classification;

pub use self::classification::Classification;
