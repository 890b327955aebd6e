//! Encoders, adapters, heads, training and inference on libtorch. The only crate that links it.
//!
//! `model` puts an encoder (`encoder`), what adapts it (`adapters`) and a task head (`heads`) together; `checkpoint` is how
//! they lie on disk. `train` trains a model on batches that `data` makes of shards, `evaluate` lets it answer.

pub mod train;
pub mod evaluate;
pub mod data;
pub mod model;
pub mod encoder;
pub mod adapters;
pub mod heads;
pub mod checkpoint;
pub mod device;
pub mod random;
pub mod tensorboard;
