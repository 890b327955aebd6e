//! Parts of neural networks: they take numbers, names and tensors, and know no checkpoint, encoder, head or method.
//!
//! A layer can carry an adapter (`adapter`); which one, and where, is decided above.

pub mod activation;
pub(crate) mod adapter;
pub(crate) mod attention;
pub(crate) mod feed_forward;
pub mod frames;
pub mod init;
pub(crate) mod linear;
pub(crate) mod native;
pub(crate) mod norm;
pub mod pass;
pub mod random;
pub(crate) mod waveform;
pub mod weights;

pub use native::libtorch_version;
