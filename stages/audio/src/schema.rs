//! How a shard looks: its columns, and the features by which Hugging Face knows them.
//!
//! | column | type | note |
//! | --- | --- | --- |
//! | `audio` | struct<bytes: binary, path: string> | uncompressed, PLAIN, no dictionary; Hugging Face `Audio` |
//! | `id` | string | rows are sorted by it |
//! | `speaker` | string, may be null | |
//! | `split` | string | `train`, `dev`, `test` |
//! | `sample_rate` | int32 | of the bytes, in Hz |
//! | `num_samples` | int64 | of the bytes |
//! | `label` | int64, may be null | Hugging Face `ClassLabel` with the names, where there are any |
//! | `keyword` | string, may be null | the label's name |
//! | `transcript` | string, may be null | as distributed |
//! | `normalised` | string, may be null | as the corpus normalises it |
//! | `words` | `list<struct<text, slot, start, end>>` | slot and times (in seconds) may be null |
//! | `phones` | `list<struct<symbol, start, end>>` | times in seconds |
//! | `slots` | `list<struct<name, value>>` | action, object and location, or the slots of a sentence |
//! | `tags` | `list<struct<name, value>>` | whatever else the corpus says, sorted by name |
//! | `flags` | `list<string>` | known problems, a sentence each |
//! | `source_path` | string | the recording, relative to the corpus |
//! | `source_sample_rate`, `source_channels` | int32 | what it was |
//!
//! All but `audio` are zstd. Lists are empty where a corpus says nothing, never null. Sources of the feature metadata: Hugging
//! Face `datasets` 5.2, tried with it.

mod columns;
mod writer;

use datasets::{Phone, Slot, Word};
use serde_json::{Value, json};

pub use columns::{Annotation, fields};
pub(crate) use columns::{annotations, optional_text};
pub use writer::{ClipPlace, MAX_GROUP_BYTES, MAX_GROUP_ROWS, ShardWriter};
pub(crate) use writer::{Column, write_table};

/// The metadata key that Hugging Face reads features from.
pub const HUGGING_FACE: &str = "huggingface";
/// The metadata key that says what a shard is of: corpus, protocol and licence, as JSON.
pub const ORIGIN: &str = "sure";

/// One row of a shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    /// A whole WAV or FLAC file.
    pub bytes: Vec<u8>,
    /// A name that ends in `.wav` or `.flac`: readers take the format from it.
    pub path: String,
    /// Unique in the corpus.
    pub id: String,
    /// Who speaks.
    pub speaker: Option<String>,
    /// `train`, `dev` or `test`.
    pub split: &'static str,
    /// In Hz.
    pub sample_rate: u32,
    /// Samples of `bytes`.
    pub num_samples: u64,
    /// Index of the class.
    pub label: Option<u32>,
    /// Name of the class.
    pub keyword: Option<String>,
    /// What is said.
    pub transcript: Option<String>,
    /// What is said, as the corpus normalises it.
    pub normalised: Option<String>,
    /// The words one by one.
    pub words: Vec<Word>,
    /// The phones one by one.
    pub phones: Vec<Phone>,
    /// What is to be understood.
    pub slots: Vec<Slot>,
    /// Anything else: name and value.
    pub tags: Vec<Slot>,
    /// Known problems.
    pub flags: Vec<String>,
    /// The recording.
    pub source_path: String,
    /// The recording's rate, in Hz.
    pub source_sample_rate: u32,
    /// The recording's channels.
    pub source_channels: u16,
}

/// The features in Hugging Face's words, in the order of the columns. A class without names would be none: without names the
/// label is a number.
fn features(labels: &[String], sample_rate: u32) -> String {
    let value = |dtype: &str| json!({"dtype": dtype, "_type": "Value"});
    let list = |feature: Value| json!({"feature": feature, "_type": "List"});
    let (text, time) = (value("string"), value("float64"));
    let label = if labels.is_empty() { value("int64") } else { json!({"names": labels, "_type": "ClassLabel"}) };
    let features = json!({
        "audio": {"sampling_rate": sample_rate, "_type": "Audio"},
        "id": text,
        "speaker": text,
        "split": text,
        "sample_rate": value("int32"),
        "num_samples": value("int64"),
        "label": label,
        "keyword": text,
        "transcript": text,
        "normalised": text,
        "words": list(json!({"text": text, "slot": text, "start": time, "end": time})),
        "phones": list(json!({"symbol": text, "start": time, "end": time})),
        "slots": list(json!({"name": text, "value": text})),
        "tags": list(json!({"name": text, "value": text})),
        "flags": list(text.clone()),
        "source_path": text,
        "source_sample_rate": value("int32"),
        "source_channels": value("int32"),
    });
    json!({"info": {"features": features}}).to_string()
}
