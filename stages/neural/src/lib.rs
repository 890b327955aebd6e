//! Encoders, adapters, heads, training and inference on libtorch. The only crate that links it.
//!
//! From the bottom up: `nn` are parts of networks, `checkpoint` reads and writes model folders, `peft` adapts a model, `models` puts
//! an encoder, its adapters and a task head together, `data` makes batches of shards, `train` trains a model on them, `evaluate` lets
//! it answer; `tts` trains voices and vocoders, speaks, and judges speech. No module uses one above it.

pub mod checkpoint;
pub mod data;
pub mod device;
pub mod error;
pub mod evaluate;
pub mod front;
#[cfg(test)]
mod golden;
pub mod models;
pub mod nn;
pub mod peft;
pub mod predict;
pub mod tensorboard;
pub mod train;
pub mod tts;
