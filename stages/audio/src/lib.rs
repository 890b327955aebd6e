//! Stages that turn a corpus into Parquet shards of clean audio: [`manifest`] lists it, [`shards`] decodes, resamples and
//! writes it, [`reader`] gives training the clips back one by one, [`summary`] counts what all parts hold. Pure Rust; knows
//! nothing of tensors.
//!
//! ```text
//! corpus folder -> corpus.manifest -> parts/00000/utterances.jsonl -> audio.shards -> train.parquet dev.parquet test.parquet
//! ```

pub mod clips;
pub mod decode;
pub mod features;
pub mod manifest;
pub mod reader;
pub mod report;
pub mod resample;
pub mod schema;
pub mod shards;
pub mod summary;
pub mod wav;

#[cfg(test)]
mod testing;
