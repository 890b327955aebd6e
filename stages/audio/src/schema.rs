//! Columns of a shard, and the feature metadata that Hugging Face reads.
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
//! All but `audio` are zstd. Lists are empty where a corpus gives nothing, never null. The columns from `speaker` to `flags`
//! that annotate the clip are those of [`datasets::annotation::columns`]. Source of the feature metadata: Hugging
//! Face `datasets` 5.2, tried with it.

mod columns;
mod writer;

use arrow_schema::{DataType, Field};
use datasets::Split;
use datasets::shard::RowInfo;
use serde_json::{Map, Value, json};

pub use columns::fields;
pub use datasets::parquet_file::HUGGING_FACE;
pub use writer::{ClipPlace, MAX_GROUP_BYTES, MAX_GROUP_ROWS, ShardWriter};
pub(crate) use writer::{Column, write_table};

/// Metadata key for the origin of a shard: corpus, protocol and licence, as JSON.
pub const ORIGIN: &str = "sure";

/// A row of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// A whole WAV or FLAC file.
    pub bytes: Vec<u8>,
    /// Name that ends in `.wav` or `.flac`: readers take the format from it.
    pub path: String,
    /// Split.
    pub split: Split,
    /// Id, length, class and annotation.
    pub info: RowInfo,
    /// Path of the recording.
    pub source_path: String,
    /// Sample rate of the recording in Hz.
    pub source_sample_rate: u32,
    /// Number of channels of the recording.
    pub source_channels: u16,
}

/// Feature metadata for Hugging Face, in the order of the columns. A label without class names is a number.
fn features(labels: &[String], sample_rate: u32) -> String {
    let mut features = Map::new();
    for field in fields() {
        let feature = match field.name().as_str() {
            "audio" => json!({"sampling_rate": sample_rate, "_type": "Audio"}),
            "label" if !labels.is_empty() => json!({"names": labels, "_type": "ClassLabel"}),
            _ => feature(&field),
        };
        features.insert(field.name().clone(), feature);
    }
    json!({"info": {"features": features}}).to_string()
}

/// Feature of a column, by its type.
fn feature(field: &Field) -> Value {
    let value = |dtype: &str| json!({"dtype": dtype, "_type": "Value"});
    match field.data_type() {
        DataType::List(item) => json!({"feature": feature(item), "_type": "List"}),
        DataType::Struct(fields) => {
            fields.iter().map(|field| (field.name().clone(), feature(field))).collect::<Map<_, _>>().into()
        }
        DataType::Utf8 => value("string"),
        other => value(&other.to_string().to_lowercase()),
    }
}
