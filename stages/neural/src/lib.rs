//! Encoders, adapters, heads, training and inference on libtorch. The only crate that links it.
//!
//! `model` puts an encoder (`encoder`), what adapts it (`adapters`) and a task head (`heads`) together; `checkpoint` is how
//! they lie on disk.

pub mod model;
pub mod encoder;
pub mod adapters;
pub mod heads;
pub mod checkpoint;
pub mod device;
pub mod random;
