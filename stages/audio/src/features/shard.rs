//! File format of features: a shard whose audio has been replaced.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BinaryArray, Int32Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use datasets::parquet_file::{ParquetFile, ParquetFileError};
use datasets::shard::{RowInfo, SHARD};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use pipeline::{Job, StageError};

use super::{FEATURES, FeatureInfo, Length, StreamInfo};
use crate::reader::ShardReader;
use crate::schema::HUGGING_FACE;

/// The column that holds the numbers.
pub const COLUMN: &str = "features";
/// The files of a folder of shards.
pub const FILES: [&str; 3] = ["train.parquet", "dev.parquet", "test.parquet"];
/// A row group is closed once its features reach this many bytes.
const MAX_GROUP_BYTES: usize = 16 << 20;
/// The most rows of a row group.
const MAX_GROUP_ROWS: usize = 500;
/// The most rows whose features are in memory before they are written, and the most samples of several.
const MAX_BATCH_ROWS: usize = 64;
const MAX_BATCH_SAMPLES: usize = 1 << 24;

/// Features that cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeatureError {
    /// The shards are at another rate.
    #[error("`{path}` has recordings at {found} Hz, `{id}` for one; expected {expected} Hz")]
    Rate {
        /// The shard.
        path: PathBuf,
        /// An utterance.
        id: String,
        /// In Hz.
        found: u32,
        /// In Hz.
        expected: u32,
    },
    /// Frames of different widths, or rows that do not come in the order of the file.
    #[error("`{path}` cannot be given features: {problem}")]
    Layout {
        /// The shard.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// The id and the samples of an utterance -> its frames, one after the other.
pub type Compute<'a> = dyn FnMut(&str, &[f32]) -> Result<Vec<f32>, StageError> + 'a;

/// Shard, row, id and samples of an utterance -> its frames, then the numbers of each further stream.
pub type ComputeStreams<'a> = dyn Fn(usize, usize, &str, &[f32]) -> Result<Vec<Vec<f32>>, StageError> + Sync + 'a;

/// Rows of a shard, by the place of the file in [`FILES`] -> their streams.
type ComputeRows<'a> = dyn FnMut(usize, &ShardReader, Range<usize>) -> Result<Vec<Vec<Vec<f32>>>, StageError> + 'a;

/// Computes the features of every utterance of a folder of shards and writes the three files again, with features in the
/// place of the audio. `compute` gets samples in [-1, 1) at `sample_rate` Hz and gives frames, one after the other.
///
/// Errors: shards that cannot be read or are at another rate, files that cannot be written, what `compute` reports.
pub fn convert(folder: &Path, sample_rate: u32, info: &FeatureInfo, job: &Job, compute: &mut Compute) -> Result<(), StageError> {
    convert_rows(folder, sample_rate, info, job, 1, &mut |_, reader, rows| {
        let one = |row: usize| Ok(vec![compute(&reader.rows()[row].id, &reader.load(row).map_err(StageError::failed)?)?]);
        rows.map(one).collect()
    })
}

/// Like [`convert`], with all streams that `info` names, on several threads. The first two arguments of `compute` are the place of the
/// file in [`FILES`] and the row in it.
///
/// Errors: as [`convert`], and a stream of another length than `info` says.
pub fn convert_streams(
    folder: &Path,
    sample_rate: u32,
    info: &FeatureInfo,
    job: &Job,
    compute: &ComputeStreams,
) -> Result<(), StageError> {
    convert_rows(folder, sample_rate, info, job, MAX_BATCH_ROWS, &mut |file, reader, rows| {
        job.spread(rows.len(), |at| {
            let row = rows.start + at;
            compute(file, row, &reader.rows()[row].id, &reader.load(row).map_err(StageError::failed)?)
        })
    })
}

/// Gives `compute` at most `at_once` rows of a shard at a time, fewer where they are long, and writes the streams that it returns.
fn convert_rows(
    folder: &Path,
    sample_rate: u32,
    info: &FeatureInfo,
    job: &Job,
    at_once: usize,
    compute: &mut ComputeRows,
) -> Result<(), StageError> {
    let mut sources = Vec::new();
    for file in FILES {
        let path = folder.join(file);
        let reader = ShardReader::open(&[&path]).map_err(StageError::failed)?;
        sources.push((path, reader));
    }
    let total: usize = sources.iter().map(|(_, reader)| reader.rows().len()).sum();
    let mut done = 0;
    for (number, ((path, reader), file)) in sources.iter().zip(FILES).enumerate() {
        let mut writer = Writer::create(path, &job.out.join(file), info)?;
        writer.require_rate(sample_rate)?;
        let all = reader.rows();
        let mut start = 0;
        while start < all.len() {
            if job.stop.requested() {
                return Err(StageError::Stopped);
            }
            let mut num_samples = 0;
            let fits = |row: &&RowInfo| {
                num_samples += row.num_samples;
                num_samples <= MAX_BATCH_SAMPLES
            };
            let rows = start..start + all[start..].iter().take(at_once).take_while(fits).count().max(1);
            for (row, streams) in all[rows.clone()].iter().zip(compute(number, reader, rows.clone())?) {
                writer.push(&row.id, &streams)?;
                done += 1;
                job.progress.tick(done, total as u64, "utterances", &row.id);
            }
            start = rows.end;
        }
        writer.finish()?;
    }
    Ok(())
}

/// Copies a shard row group by row group, without its audio and with features.
struct Writer {
    source: PathBuf,
    target: PathBuf,
    /// All rows of the source but their audio, in the file's order, which is that of the ids.
    rest: RecordBatch,
    schema: Arc<Schema>,
    parquet: ArrowWriter<File>,
    info: FeatureInfo,
    /// Features of rows not yet written: frames, then the further streams.
    group: Vec<Vec<Vec<u8>>>,
    written: usize,
}

impl Writer {
    fn create(source: &Path, target: &Path, info: &FeatureInfo) -> Result<Self, StageError> {
        let rest = read_rest(source).map_err(StageError::failed)?;
        let mut fields = vec![Field::new(COLUMN, DataType::Binary, false), Field::new("num_frames", DataType::Int32, false)];
        fields.extend(info.streams.iter().map(|stream| Field::new(stream.column(), DataType::Binary, false)));
        fields.extend(rest.schema().fields().iter().map(|field| field.as_ref().clone()));
        let text = serde_json::to_string(info).expect("plain fields become JSON");
        let mut metadata = rest.schema().metadata().clone();
        metadata.insert(FEATURES.to_owned(), text);
        if let Some(features) = metadata.get(HUGGING_FACE).map(|text| without_audio(text, info)) {
            metadata.insert(HUGGING_FACE.to_owned(), features);
        }
        let mut pairs: Vec<KeyValue> = metadata.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
        pairs.sort_by(|a, b| a.key.cmp(&b.key));
        let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
        let mut properties = WriterProperties::builder()
            .set_created_by("sure".to_owned())
            .set_key_value_metadata(Some(pairs))
            .set_write_batch_size(16)
            .set_max_row_group_row_count(Some(MAX_GROUP_ROWS))
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).expect("zstd has a level 3")));
        // As the audio of a shard: every utterance is one range of bytes.
        for column in std::iter::once(COLUMN.to_owned()).chain(info.streams.iter().map(StreamInfo::column)) {
            let column = ColumnPath::new(vec![column]);
            properties = properties
                .set_column_compression(column.clone(), Compression::UNCOMPRESSED)
                .set_column_encoding(column.clone(), Encoding::PLAIN)
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_statistics_enabled(column, EnabledStatistics::None);
        }
        let properties = properties.build();
        let file = File::create(target).map_err(StageError::io("create", target))?;
        let parquet = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties)).map_err(write_error(target))?;
        let (source, target) = (source.to_owned(), target.to_owned());
        Ok(Self { source, target, rest, schema, parquet, info: info.clone(), group: Vec::new(), written: 0 })
    }

    /// Errors: a row at another rate.
    fn require_rate(&self, expected: u32) -> Result<(), StageError> {
        let column = |name: &str| self.rest.column_by_name(name).cloned();
        let (Some(rates), Some(ids)) = (column("sample_rate"), column("id")) else { return Ok(()) };
        let Some(rates) = rates.as_any().downcast_ref::<Int32Array>() else { return Ok(()) };
        let Some(at) = rates.values().iter().position(|&rate| rate as u32 != expected) else { return Ok(()) };
        let id = ids.as_any().downcast_ref::<StringArray>().map_or_else(String::new, |ids| ids.value(at).to_owned());
        let error = FeatureError::Rate { path: self.source.clone(), id, found: rates.value(at) as u32, expected };
        Err(StageError::failed(error).with_hint("`sample_rate` of audio.shards and of the features must be the same"))
    }

    /// Adds the streams of the next row, which is the utterance `id`.
    fn push(&mut self, id: &str, streams: &[Vec<f32>]) -> Result<(), StageError> {
        let problem = |problem: String| StageError::failed(FeatureError::Layout { path: self.source.clone(), problem });
        let at = self.written + self.group.len();
        let ids = self.rest.column_by_name("id").and_then(|column| column.as_any().downcast_ref::<StringArray>());
        if ids.is_none_or(|ids| at >= ids.len() || ids.value(at) != id) {
            return Err(problem(format!("its rows are not in order of id at `{id}`")));
        }
        let info = &self.info;
        let [frames, further @ ..] = streams else { return Err(problem(format!("`{id}` has no frames"))) };
        if !frames.len().is_multiple_of(info.width) {
            return Err(problem(format!("`{id}` has {} numbers, which are no frames of {}", frames.len(), info.width)));
        }
        let num_frames = frames.len() / info.width;
        if further.len() != info.streams.len() {
            return Err(problem(format!("`{id}` has {} streams, expected {}", further.len() + 1, info.streams.len() + 1)));
        }
        let mut row = vec![info.format.encode(frames)];
        for (values, stream) in further.iter().zip(&info.streams) {
            let entries = values.len() / stream.width.max(1);
            let fits = match stream.length {
                Length::Frames => entries == num_frames,
                Length::Utterance => entries == 1,
                Length::Any => true,
            };
            if !fits || !values.len().is_multiple_of(stream.width.max(1)) {
                let (name, found, width) = (&stream.name, values.len(), stream.width);
                return Err(problem(format!(
                    "`{id}` has {found} numbers of `{name}`, of width {width}, for {num_frames} frames"
                )));
            }
            row.push(stream.format.encode(values));
        }
        self.group.push(row);
        let bytes: usize = self.group.iter().map(|row| row[0].len()).sum();
        if bytes >= MAX_GROUP_BYTES || self.group.len() == MAX_GROUP_ROWS { self.write_group() } else { Ok(()) }
    }

    fn finish(mut self) -> Result<(), StageError> {
        self.write_group()?;
        self.parquet.close().map_err(write_error(&self.target))?;
        Ok(())
    }

    fn write_group(&mut self) -> Result<(), StageError> {
        let group = std::mem::take(&mut self.group);
        if group.is_empty() {
            return Ok(());
        }
        let frame = self.info.width * self.info.format.size();
        let frames = Int32Array::from_iter_values(group.iter().map(|row| (row[0].len() / frame) as i32));
        let stream = |at: usize| -> ArrayRef { Arc::new(BinaryArray::from_iter_values(group.iter().map(|row| &row[at]))) };
        let mut columns: Vec<ArrayRef> = vec![stream(0), Arc::new(frames)];
        columns.extend((1..=self.info.streams.len()).map(stream));
        columns.extend(self.rest.slice(self.written, group.len()).columns().iter().cloned());
        self.written += group.len();
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns).expect("the columns are those of the schema");
        let written = self.parquet.write(&batch).and_then(|()| self.parquet.flush());
        written.map_err(write_error(&self.target))
    }
}

/// Returns every column but the audio, all rows.
fn read_rest(path: &Path) -> Result<RecordBatch, ParquetFileError> {
    ParquetFile::open(path, SHARD)?.whole(|column| column != "audio")
}

/// Returns Hugging Face's list of columns with the audio replaced.
fn without_audio(text: &str, info: &FeatureInfo) -> String {
    let Ok(mut value) = serde_json::from_str::<serde_json::Value>(text) else { return text.to_owned() };
    if let Some(columns) = value["info"]["features"].as_object_mut() {
        let mut changed = serde_json::Map::new();
        let value = |dtype: &str| serde_json::json!({"dtype": dtype, "_type": "Value"});
        changed.insert(COLUMN.to_owned(), value("binary"));
        changed.insert("num_frames".to_owned(), value("int32"));
        changed.extend(info.streams.iter().map(|stream| (stream.column(), value("binary"))));
        changed.extend(std::mem::take(columns).into_iter().filter(|(name, _)| name != "audio"));
        *columns = changed;
    }
    value.to_string()
}

fn write_error(path: &Path) -> impl FnOnce(ParquetError) -> StageError {
    let path = path.to_owned();
    |error| StageError::io("write", path)(std::io::Error::other(error))
}
