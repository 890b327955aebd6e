//! Tables of speech synthesis: alignments of recordings, and synthesised speech.
//!
//! ```text
//! alignment.parquet   the frames of every symbol of a recording
//! speech.parquet      text, symbols, durations, pitch and spectrogram of every clip that was spoken
//! ```
//!
//! `docs/speech-synthesis.md` lists their columns.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{Float32Builder, Int32Builder, ListBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type};
use arrow_array::{Array, ArrayRef, BinaryArray, Float64Array, Int32Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use datasets::parquet_file::{Batch, ParquetFile, ParquetFileError};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use pipeline::StageError;

use crate::clips;
use crate::features::Format;
use crate::features::mel::MelSpectrogram;
use crate::manifest;
use crate::schema::{Row, ShardWriter};

/// File of alignments.
pub const ALIGNMENT: &str = "alignment.parquet";
/// File of synthesised speech.
pub const SPEECH: &str = "speech.parquet";
/// Rows that are written together.
const GROUP_ROWS: usize = 100;

/// Alignment of a recording with its text.
#[derive(Debug, Clone, PartialEq)]
pub struct Alignment {
    /// Id of the recording.
    pub id: String,
    /// Speaker of the recording.
    pub speaker: String,
    /// Text of the recording.
    pub text: String,
    /// Symbols of the text.
    pub symbols: Vec<String>,
    /// Frames of each symbol.
    pub durations: Vec<i32>,
    /// Mean logarithm of the aligner's probability on the path; none where durations were given.
    pub path_log_probability: Option<f64>,
}

impl Alignment {
    /// Frames of the recording.
    pub fn num_frames(&self) -> i32 {
        self.durations.iter().sum()
    }

    /// Share of symbols with one frame.
    pub fn one_frame_share(&self) -> f64 {
        let single = self.durations.iter().filter(|&&frames| frames == 1).count();
        single as f64 / self.durations.len().max(1) as f64
    }

    /// Frames of the longest symbol.
    pub fn longest(&self) -> i32 {
        self.durations.iter().copied().max().unwrap_or(0)
    }
}

/// A clip that was spoken.
#[derive(Debug, Clone, PartialEq)]
pub struct Spoken {
    /// Id: that of the utterance whose text it is.
    pub id: String,
    /// Text.
    pub text: String,
    /// Speaker.
    pub speaker: String,
    /// In Hz.
    pub sample_rate: u32,
    /// Symbols of the text.
    pub symbols: Vec<String>,
    /// Frames of each symbol.
    pub durations: Vec<i32>,
    /// Fundamental frequency of each symbol in Hz, as predicted.
    pub pitch: Vec<f32>,
    /// Energy of each symbol, in the unit of the features.
    pub energy: Vec<f32>,
    /// Spectrogram, frame after frame.
    pub mel: Vec<f32>,
}

fn list_of(name: &str, kind: DataType) -> Field {
    Field::new(name, DataType::List(Arc::new(Field::new("item", kind, true))), false)
}

fn texts<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(values.map(Some).collect::<StringArray>())
}

fn wholes(values: impl Iterator<Item = i32>) -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(values))
}

fn lists_of_texts<'a>(rows: impl Iterator<Item = &'a [String]>) -> ArrayRef {
    let mut list = ListBuilder::new(StringBuilder::new());
    for row in rows {
        for value in row {
            list.values().append_value(value);
        }
        list.append(true);
    }
    Arc::new(list.finish())
}

fn lists_of_wholes<'a>(rows: impl Iterator<Item = &'a [i32]>) -> ArrayRef {
    let mut list = ListBuilder::new(Int32Builder::new());
    for row in rows {
        list.values().append_slice(row);
        list.append(true);
    }
    Arc::new(list.finish())
}

fn lists_of_numbers(rows: impl Iterator<Item = Vec<f32>>) -> ArrayRef {
    let mut list = ListBuilder::new(Float32Builder::new());
    for row in rows {
        list.values().append_slice(&row);
        list.append(true);
    }
    Arc::new(list.finish())
}

fn write_error(path: &Path) -> impl Fn(ParquetError) -> StageError {
    let path = path.to_owned();
    move |error| StageError::io("write", path.clone())(std::io::Error::other(error))
}

fn create(path: &Path, schema: &Arc<Schema>) -> Result<ArrowWriter<File>, StageError> {
    let zstd = ZstdLevel::try_new(3).expect("zstd has a level 3");
    let properties =
        WriterProperties::builder().set_created_by("sure".to_owned()).set_compression(Compression::ZSTD(zstd)).build();
    let file = File::create(path).map_err(StageError::io("create", path))?;
    ArrowWriter::try_new(file, Arc::clone(schema), Some(properties)).map_err(write_error(path))
}

/// Writes alignments.
///
/// Errors: a file that cannot be written.
pub fn write_alignments(path: &Path, rows: &[Alignment]) -> Result<(), StageError> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Utf8, false),
        Field::new("speaker", DataType::Utf8, false),
        Field::new("text", DataType::Utf8, false),
        list_of("symbols", DataType::Utf8),
        list_of("durations", DataType::Int32),
        Field::new("num_frames", DataType::Int32, false),
        Field::new("path_log_probability", DataType::Float64, true),
        Field::new("one_frame_share", DataType::Float64, false),
        Field::new("longest", DataType::Int32, false),
    ]));
    let mut writer = create(path, &schema)?;
    for rows in rows.chunks(GROUP_ROWS * 100) {
        let columns: Vec<ArrayRef> = vec![
            texts(rows.iter().map(|row| row.id.as_str())),
            texts(rows.iter().map(|row| row.speaker.as_str())),
            texts(rows.iter().map(|row| row.text.as_str())),
            lists_of_texts(rows.iter().map(|row| row.symbols.as_slice())),
            lists_of_wholes(rows.iter().map(|row| row.durations.as_slice())),
            wholes(rows.iter().map(Alignment::num_frames)),
            Arc::new(rows.iter().map(|row| row.path_log_probability).collect::<Float64Array>()),
            Arc::new(Float64Array::from_iter_values(rows.iter().map(Alignment::one_frame_share))),
            wholes(rows.iter().map(Alignment::longest)),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).expect("the columns are those of the schema");
        writer.write(&batch).map_err(write_error(path))?;
    }
    writer.close().map(drop).map_err(write_error(path))
}

/// Reads alignments, in the order of the file.
///
/// Errors: [`ParquetFileError`].
pub fn read_alignments(path: &Path) -> Result<Vec<Alignment>, ParquetFileError> {
    const KIND: &str = "a table of alignments";
    let mut rows = Vec::new();
    for batch in ParquetFile::open(path, KIND)?.rows(|_| true)? {
        let batch = batch?;
        let [id, speaker, text] = [batch.text("id")?, batch.text("speaker")?, batch.text("text")?];
        let (symbols, durations) = (list(&batch, "symbols")?, list(&batch, "durations")?);
        let found = batch.find("path_log_probability").and_then(|column| column.as_primitive_opt::<Float64Type>());
        for row in 0..batch.num_rows() {
            let (own_symbols, own_durations) = (symbols.value(row), durations.value(row));
            let texts = own_symbols.as_string_opt::<i32>().ok_or_else(|| batch.layout("`symbols` should be texts".to_owned()))?;
            let wholes = own_durations.as_primitive_opt::<Int32Type>();
            let wholes = wholes.ok_or_else(|| batch.layout("`durations` should be whole numbers".to_owned()))?;
            rows.push(Alignment {
                id: id.value(row).to_owned(),
                speaker: speaker.value(row).to_owned(),
                text: text.value(row).to_owned(),
                symbols: texts.iter().map(|symbol| symbol.unwrap_or_default().to_owned()).collect(),
                durations: wholes.values().to_vec(),
                path_log_probability: found.filter(|column| column.is_valid(row)).map(|column| column.value(row)),
            });
        }
    }
    Ok(rows)
}

fn list<'a>(batch: &'a Batch, name: &str) -> Result<&'a arrow_array::ListArray, ParquetFileError> {
    let column = batch.find(name).and_then(|column| column.as_list_opt::<i32>());
    column.ok_or_else(|| batch.layout(format!("expected a column of lists `{name}`, found none")))
}

/// Writes synthesised speech: a shard of audio, two empty ones beside it, and a table with what is behind the audio.
pub struct SpeechWriter {
    folder: PathBuf,
    sample_rate: u32,
    /// Mel bands.
    bands: usize,
    shard: ShardWriter,
    /// Hash of the id and samples of each row, for the index of clips.
    clips: Vec<(u64, u64)>,
    schema: Arc<Schema>,
    table: ArrowWriter<File>,
    group: Vec<Spoken>,
}

impl SpeechWriter {
    /// Creates the files in a folder.
    ///
    /// Errors: files that cannot be created.
    pub fn create(folder: &Path, mel: &MelSpectrogram) -> Result<Self, StageError> {
        let (sample_rate, bands) = (mel.sample_rate, mel.num_mel_bins.max(1));
        for split in ["train", "dev"] {
            let path = folder.join(format!("{split}.parquet"));
            let places = ShardWriter::create(&path, &[], sample_rate)?.finish()?;
            clips::write(&path, &places, &[])?;
        }
        let shard = ShardWriter::create(&folder.join("test.parquet"), &[], sample_rate)?;
        let schema = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Utf8, false),
            Field::new("text", DataType::Utf8, false),
            Field::new("speaker", DataType::Utf8, false),
            Field::new("sample_rate", DataType::Int32, false),
            Field::new("num_frames", DataType::Int32, false),
            list_of("symbols", DataType::Utf8),
            list_of("durations", DataType::Int32),
            list_of("pitch", DataType::Float32),
            list_of("f0", DataType::Float32),
            list_of("energy", DataType::Float32),
            Field::new("mel", DataType::Binary, false),
        ]));
        let table = create(&folder.join(SPEECH), &schema)?;
        let (clips, group) = (Vec::new(), Vec::new());
        Ok(Self { folder: folder.to_owned(), sample_rate, bands, shard, clips, schema, table, group })
    }

    /// Adds a clip, whose audio is `row`. Clips come in order of id.
    ///
    /// Errors: files that cannot be written.
    pub fn push(&mut self, row: Row, spoken: Spoken) -> Result<(), StageError> {
        self.clips.push((clips::hash_of(&row.info.id), row.info.num_samples as u64));
        self.shard.push(row)?;
        self.group.push(spoken);
        if self.group.len() == GROUP_ROWS { self.write_group() } else { Ok(()) }
    }

    fn write_group(&mut self) -> Result<(), StageError> {
        let rows = std::mem::take(&mut self.group);
        if rows.is_empty() {
            return Ok(());
        }
        let rate = self.sample_rate as i32;
        let mels: Vec<Vec<u8>> = rows.iter().map(|row| Format::F32.encode(&row.mel)).collect();
        let columns: Vec<ArrayRef> = vec![
            texts(rows.iter().map(|row| row.id.as_str())),
            texts(rows.iter().map(|row| row.text.as_str())),
            texts(rows.iter().map(|row| row.speaker.as_str())),
            wholes(rows.iter().map(|_| rate)),
            wholes(rows.iter().map(|row| (row.mel.len() / self.bands) as i32)),
            lists_of_texts(rows.iter().map(|row| row.symbols.as_slice())),
            lists_of_wholes(rows.iter().map(|row| row.durations.as_slice())),
            lists_of_numbers(rows.iter().map(|row| row.pitch.clone())),
            lists_of_numbers(rows.iter().map(Spoken::frame_pitch)),
            lists_of_numbers(rows.iter().map(|row| row.energy.clone())),
            Arc::new(BinaryArray::from_iter_values(mels.iter())),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns).expect("the columns are those of the schema");
        let path = self.folder.join(SPEECH);
        self.table.write(&batch).and_then(|()| self.table.flush()).map_err(write_error(&path))
    }

    /// Writes what is left, and `summary` as `speech.json`.
    ///
    /// Errors: files that cannot be written.
    pub fn finish(mut self, summary: &serde_json::Value) -> Result<(), StageError> {
        self.write_group()?;
        let path = self.folder.join(SPEECH);
        self.table.close().map_err(write_error(&path))?;
        let places = self.shard.finish()?;
        clips::write(&self.folder.join("test.parquet"), &places, &self.clips)?;
        manifest::write_json(&self.folder.join("speech.json"), summary)
    }
}

impl Spoken {
    /// Fundamental frequency of each frame: that of its symbol.
    pub fn frame_pitch(&self) -> Vec<f32> {
        let symbols = self.pitch.iter().zip(&self.durations);
        symbols.flat_map(|(&pitch, &frames)| std::iter::repeat_n(pitch, usize::try_from(frames).unwrap_or(0))).collect()
    }
}

#[cfg(test)]
mod tests {
    use datasets::Split;
    use datasets::shard::RowInfo;

    use super::*;
    use crate::reader::ShardReader;
    use crate::wav::write_pcm16;

    #[test]
    fn alignments_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(ALIGNMENT);
        let row = |id: &str, path_log_probability| Alignment {
            id: id.to_owned(),
            speaker: "ann".to_owned(),
            text: "a b".to_owned(),
            symbols: ["sil", "AH", "sil"].map(str::to_owned).to_vec(),
            durations: vec![1, 7, 1],
            path_log_probability,
        };
        let rows = [row("x", Some(-0.25)), row("y", None)];
        write_alignments(&path, &rows).unwrap();
        assert_eq!(read_alignments(&path).unwrap(), rows);
        assert_eq!((rows[0].num_frames(), rows[0].longest()), (9, 7));
        assert!((rows[0].one_frame_share() - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn speech_is_a_shard_and_a_table() {
        let folder = tempfile::tempdir().unwrap();
        let mel = serde_json::json!({
            "sample_rate": 8000, "n_fft": 256, "hop_length": 100, "win_length": 256, "num_mel_bins": 2, "low_hz": 0.0,
            "high_hz": 4000.0, "recipe": "tacotron",
        });
        let mut writer = SpeechWriter::create(folder.path(), &serde_json::from_value(mel).unwrap()).unwrap();
        for id in ["a", "b"] {
            let samples = [0, 100, -100, 0];
            let info = RowInfo { id: id.to_owned(), num_samples: 4, sample_rate: 8_000, ..RowInfo::default() };
            let row = Row {
                bytes: write_pcm16(8_000, &samples),
                path: format!("{id}.wav"),
                split: Split::Test,
                info,
                source_path: String::new(),
                source_sample_rate: 8_000,
                source_channels: 1,
            };
            let spoken = Spoken {
                id: id.to_owned(),
                text: "one".to_owned(),
                speaker: "ann".to_owned(),
                sample_rate: 8_000,
                symbols: vec!["sil".to_owned(), "W".to_owned()],
                durations: vec![1, 2],
                pitch: vec![100.0, 120.0],
                energy: vec![0.5, 0.75],
                mel: vec![-1.0; 6],
            };
            assert_eq!(spoken.frame_pitch(), [100.0, 120.0, 120.0]);
            writer.push(row, spoken).unwrap();
        }
        writer.finish(&serde_json::json!({"clips": 2})).unwrap();
        let paths: Vec<PathBuf> = ["train", "dev", "test"].map(|split| folder.path().join(format!("{split}.parquet"))).to_vec();
        let reader = ShardReader::open(&paths).unwrap();
        assert_eq!(reader.rows().len(), 2);
        assert_eq!(reader.load(1).unwrap().len(), 4);
        let table = ParquetFile::open(&folder.path().join(SPEECH), "speech").unwrap().whole(|_| true).unwrap();
        assert_eq!((table.num_rows(), table.num_columns()), (2, 11));
        let frames = table.column_by_name("num_frames").unwrap().as_primitive::<Int32Type>();
        assert_eq!(frames.values()[..], [3, 3]);
    }
}
