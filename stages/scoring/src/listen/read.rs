//! Reads clips, features and alignments of a page.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use datasets::parquet_file::{Batch, ParquetFile, ParquetFileError};
use datasets::shard::{RowInfo, SHARD};
use serde::Deserialize;

/// Table with symbols and durations next to synthesised clips.
const SPEECH: &str = "speech.parquet";
/// Metadata key of a feature shard.
const FEATURES: &str = "sure.features";

/// The test set of a folder of shards.
pub(super) struct Clips {
    path: PathBuf,
    /// Rows in order of the file.
    pub(super) rows: Vec<RowInfo>,
    /// Symbols and their frames, where the clips were synthesised, by id.
    pub(super) durations: BTreeMap<String, (Vec<String>, Vec<u32>)>,
}

fn test_set(path: &Path) -> PathBuf {
    if path.is_dir() { path.join("test.parquet") } else { path.to_owned() }
}

/// The bytes of a row of a binary column, whatever its layout.
fn bytes(column: &ArrayRef, row: usize) -> Option<Vec<u8>> {
    let value = match column.data_type() {
        DataType::Binary => column.as_binary::<i32>().value(row),
        DataType::LargeBinary => column.as_binary::<i64>().value(row),
        DataType::BinaryView => column.as_binary_view().value(row),
        _ => return None,
    };
    Some(value.to_vec())
}

impl Clips {
    pub(super) fn open(path: &Path) -> Result<Self, ParquetFileError> {
        let file = test_set(path);
        let is_kept = |column: &str| ["speaker", "transcript", "label", "keyword", "sample_rate"].contains(&column);
        let (rows, _) = RowInfo::read(&file, is_kept)?;
        let speech = path.is_dir().then(|| path.join(SPEECH)).filter(|speech| speech.is_file());
        let durations = match speech {
            Some(speech) => {
                // Clips of a vocoder alone have no symbols.
                let spoken = Alignment::read(&speech)?.into_iter().filter(|row| !row.symbols.is_empty());
                spoken.map(|row| (row.id, (row.symbols, row.durations))).collect()
            }
            None => BTreeMap::new(),
        };
        Ok(Self { path: file, rows, durations })
    }

    /// Audio file of a clip and the ending of its name; none where there is no such clip.
    pub(super) fn audio(&self, id: &str) -> Result<Option<(Vec<u8>, &'static str)>, ParquetFileError> {
        let Some(row) = self.rows.iter().position(|row| row.id == id) else { return Ok(None) };
        let file = ParquetFile::open(&self.path, SHARD)?;
        let lacking = file.layout(format!("expected the audio of `{id}`, found none"));
        let Some(batch) = file.some_rows(&[row as u64], |path| path.starts_with("audio."))?.next().transpose()? else {
            return Err(lacking);
        };
        let column = batch.find("audio").and_then(|audio| audio.as_struct_opt()).and_then(|audio| audio.column_by_name("bytes"));
        let Some(bytes) = column.and_then(|column| bytes(column, 0)) else { return Err(lacking) };
        let kind = if bytes.starts_with(b"fLaC") { "flac" } else { "wav" };
        Ok(Some((bytes, kind)))
    }
}

/// Frames of an utterance.
pub(super) struct Frames {
    /// Mel bands of each frame, natural logarithm.
    pub(super) mel: Vec<Vec<f32>>,
    /// Pitch of each frame in Hz, 0 where unvoiced; empty where it was not tracked.
    pub(super) f0: Vec<f32>,
}

/// The part of the description of a feature shard that a page needs.
#[derive(Debug, Deserialize)]
struct Description {
    width: usize,
    format: String,
    #[serde(default)]
    mel: Option<Spectrogram>,
}

#[derive(Debug, Deserialize)]
struct Spectrogram {
    recipe: String,
}

/// The test set of a feature shard.
pub(super) struct Features {
    path: PathBuf,
    ids: Vec<String>,
    description: Description,
}

impl Features {
    pub(super) fn open(path: &Path) -> Result<Self, ParquetFileError> {
        let path = test_set(path);
        let file = ParquetFile::open(&path, SHARD)?;
        let text = file.note(FEATURES).ok_or_else(|| file.layout("expected features, found a shard of audio".to_owned()))?;
        let description: Description =
            serde_json::from_str(text).map_err(|error| file.layout(format!("metadata `{FEATURES}`: {error}")))?;
        if description.width == 0 {
            return Err(file.layout("frames without numbers".to_owned()));
        }
        let (rows, _) = RowInfo::read(&path, |_| false)?;
        Ok(Self { path, ids: rows.into_iter().map(|row| row.id).collect(), description })
    }

    /// Frames of an utterance; none where there is no such utterance.
    pub(super) fn load(&self, id: &str) -> Result<Option<Frames>, ParquetFileError> {
        let Some(row) = self.ids.iter().position(|other| other == id) else { return Ok(None) };
        let file = ParquetFile::open(&self.path, SHARD)?;
        let wanted = |path: &str| ["features", "features_f0"].contains(&path);
        let Some(batch) = file.some_rows(&[row as u64], wanted)?.next().transpose()? else { return Ok(None) };
        let column = |name: &str| batch.find(name).and_then(|column| bytes(column, 0));
        let single = |bytes: Vec<u8>| bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let half = |bytes: Vec<u8>| {
            bytes.chunks_exact(2).map(|b| f32::from_bits(u32::from(u16::from_le_bytes([b[0], b[1]])) << 16)).collect()
        };
        let values: Vec<f32> =
            column("features").map(if self.description.format == "bf16" { half } else { single }).unwrap_or_default();
        let decimal = self.description.mel.as_ref().is_some_and(|mel| mel.recipe == "speecht5");
        let factor = if decimal { std::f32::consts::LN_10 } else { 1.0 };
        let mel = values.chunks_exact(self.description.width).map(|frame| frame.iter().map(|log| log * factor).collect());
        Ok(Some(Frames { mel: mel.collect(), f0: column("features_f0").map(single).unwrap_or_default() }))
    }
}

/// Symbols of an utterance and their frames.
pub(super) struct Alignment {
    pub(super) id: String,
    pub(super) speaker: String,
    pub(super) symbols: Vec<String>,
    pub(super) durations: Vec<u32>,
    /// Mean log probability of a frame; 0 for synthesised speech, which has none.
    pub(super) quality: f64,
}

impl Alignment {
    /// Reads a table of alignments.
    pub(super) fn read(path: &Path) -> Result<Vec<Self>, ParquetFileError> {
        let names = ["id", "speaker", "symbols", "durations", "path_log_probability"];
        let file = ParquetFile::open(path, "a table of alignments")?;
        let mut found = Vec::new();
        for batch in file.rows(|path| names.contains(&path.split('.').next().unwrap_or(path)))? {
            found.extend(Self::decode(&batch?)?);
        }
        Ok(found)
    }

    fn decode(batch: &Batch) -> Result<Vec<Self>, ParquetFileError> {
        let (ids, speakers) = (batch.text("id")?, batch.text("speaker")?);
        let lists = |name: &str| {
            let list = batch.find(name).and_then(|column| column.as_list_opt::<i32>());
            list.ok_or_else(|| batch.layout(format!("column `{name}` should be a list")))
        };
        let (symbols, durations) = (lists("symbols")?, lists("durations")?);
        let quality =
            batch.find("path_log_probability").and_then(|column| column.as_primitive_opt::<arrow_array::types::Float64Type>());
        let row = |row: usize| {
            let (own, frames) = (symbols.value(row), durations.value(row));
            let wrong = || batch.layout(format!("row {row} should have a duration for each symbol"));
            let own = own.as_string_opt::<i32>().ok_or_else(wrong)?;
            let frames = frames.as_primitive_opt::<Int32Type>().ok_or_else(wrong)?;
            if own.len() != frames.len() {
                return Err(wrong());
            }
            Ok(Self {
                id: ids.value(row).to_owned(),
                speaker: speakers.value(row).to_owned(),
                symbols: own.iter().map(|symbol| symbol.unwrap_or_default().to_owned()).collect(),
                durations: frames.values().iter().map(|&frames| u32::try_from(frames).unwrap_or(0)).collect(),
                quality: quality.map_or(0.0, |quality| quality.value(row)),
            })
        };
        (0..batch.num_rows()).map(row).collect()
    }
}
