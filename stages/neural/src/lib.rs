//! Encoders, adapters, heads, training and inference on libtorch. The only crate that links it.
//!
//! `model` puts an encoder (`encoder`), what adapts it (`adapters`) and a task head (`heads`) together; `checkpoint` is how
//! they lie on disk. `train` trains a model on batches that `data` makes of shards, `evaluate` lets it answer.

pub mod adapters;
pub mod checkpoint;
pub mod data;
pub mod device;
pub mod encoder;
pub mod evaluate;
pub mod heads;
pub mod model;
mod native;
pub mod random;
pub mod tensorboard;
pub mod train;
