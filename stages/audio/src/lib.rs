//! Stages that turn a corpus into Parquet shards of clean audio: [`manifest`] lists it, [`shards`] writes what
//! [`recording`] makes of each recording, [`reader`] gives training the clips back one by one and [`stream`] in batches, [`summary`] counts what all parts hold. Pure Rust; knows
//! nothing of tensors.
//!
//! ```text
//! corpus folder -> corpus.manifest -> parts/00000/utterances.jsonl -> audio.shards -> train.parquet dev.parquet test.parquet
//! one recording -> decode -> resample -> encode -> a clip, or the reason why not
//! ```

pub mod clips;
pub mod decode;
pub mod encode;
pub mod features;
pub mod manifest;
pub mod reader;
pub mod recording;
pub mod report;
pub mod resample;
pub mod schema;
pub mod shards;
pub mod stream;
pub mod summary;
mod sums;
pub mod wav;

#[cfg(test)]
mod testing;
