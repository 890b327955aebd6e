//! Stages that turn a corpus into Parquet shards of clean audio: [`manifest`] lists it, [`shards`] writes one clip for each
//! utterance, [`reader`] gives the clips to training, [`summary`] counts all parts together, [`stream`] decodes without shards. The crate `codec` decodes and encodes.
//! Pure Rust, without tensors.
//!
//! ```text
//! corpus folder -> corpus.manifest -> parts/00000/utterances.jsonl -> audio.shards -> train.parquet dev.parquet test.parquet
//! ```

mod clips;
pub mod features;
pub mod join;
pub mod manifest;
pub mod reader;
pub mod report;
pub mod schema;
pub mod shards;
pub mod speech;
pub mod stream;
pub mod summary;

pub use codec::{recording, resample, wav};

#[cfg(test)]
mod testing;
