//! Reads shards for training from front to back: clips in batches of like length, with the columns that are asked for.
//!
//! [`crate::reader`] keeps the small columns of all shards in memory and reads any clip at any time; this holds no more than a window
//! of clips, whatever the size of the corpus, and reads every byte once and in order. Clips of a window are sorted by length and
//! cut into batches, so that little is padded.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::{BinaryArray, RecordBatch};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use crate::reader::ReadError;
use crate::recording;
use crate::schema::{Annotation, annotations};

/// Columns that are always read.
const ALWAYS: [&str; 3] = ["id", "num_samples", "label"];
/// Columns that are read when they are asked for.
const OPTIONAL: [&str; 9] = ["speaker", "split", "keyword", "transcript", "normalised", "words", "phones", "slots", "tags"];
/// Rows that are taken out of Parquet at once.
const ROWS_AT_ONCE: usize = 64;

/// What is read, and how it is put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamOptions {
    /// What of [`Annotation`] is read besides `id`, `num_samples` and `label`; the rest stays empty.
    pub columns: Vec<String>,
    /// So many clips are read ahead and sorted by length; at least 1.
    pub window: usize,
    /// The most samples of a batch with every clip as long as its longest. A longer clip is a batch of its own.
    pub max_samples: u64,
    /// With a seed, batches of a window come in an order that depends on it alone; without, from short to long.
    pub seed: Option<u64>,
}

/// A clip with what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamedClip {
    /// Of the columns that were asked for.
    pub annotation: Annotation,
    /// Full scale 1, [`Annotation::num_samples`] of them.
    pub samples: Vec<f32>,
}

/// Batches of clips, shard after shard. After an error there is nothing more.
pub struct ShardStream {
    options: StreamOptions,
    paths: VecDeque<PathBuf>,
    open: Option<(PathBuf, ParquetRecordBatchReader)>,
    window: Vec<Waiting>,
    ready: VecDeque<Vec<Waiting>>,
}

/// A clip as stored.
struct Waiting {
    annotation: Annotation,
    bytes: Vec<u8>,
    path: PathBuf,
}

impl ShardStream {
    /// Begins with the first of `paths`; each is opened when it is its turn.
    ///
    /// Errors: a column that shards do not have, or a window without room.
    pub fn open<P: AsRef<Path>>(paths: &[P], options: StreamOptions) -> Result<Self, ReadError> {
        let paths: VecDeque<PathBuf> = paths.iter().map(|path| path.as_ref().to_owned()).collect();
        let problem = |problem: String| ReadError::Layout { path: paths.front().cloned().unwrap_or_default(), problem };
        if let Some(unknown) = options.columns.iter().find(|column| !OPTIONAL.contains(&column.as_str())) {
            return Err(problem(format!("expected a column of {}, asked for `{unknown}`", OPTIONAL.join(", "))));
        }
        if options.window == 0 {
            return Err(problem("expected a window of at least 1 clip".to_owned()));
        }
        Ok(Self { options, paths, open: None, window: Vec::new(), ready: VecDeque::new() })
    }

    /// Reads on until the window is full or all is read.
    fn fill(&mut self) -> Result<(), ReadError> {
        while self.window.len() < self.options.window {
            let Some((path, reader)) = &mut self.open else {
                let Some(path) = self.paths.pop_front() else { return Ok(()) };
                let reader = reader(&path, &self.options.columns)?;
                self.open = Some((path, reader));
                continue;
            };
            match reader.next() {
                None => self.open = None,
                Some(batch) => {
                    let batch = batch.map_err(|error| ReadError::Parquet { path: path.clone(), source: error.into() })?;
                    let rows = rows(&batch, path).map_err(|problem| ReadError::Layout { path: path.clone(), problem })?;
                    self.window.extend(rows);
                }
            }
        }
        Ok(())
    }

    /// Cuts the window into batches.
    fn cut(&mut self) {
        let mut clips = std::mem::take(&mut self.window);
        // What is over the window belongs to the next one, so that batches depend on nothing but the options.
        self.window = clips.split_off(clips.len().min(self.options.window));
        clips.sort_by(|a, b| (a.annotation.num_samples, &a.annotation.id).cmp(&(b.annotation.num_samples, &b.annotation.id)));
        let mut batches: Vec<Vec<Waiting>> = Vec::new();
        for clip in clips {
            match batches.last_mut() {
                Some(batch) if (batch.len() as u64 + 1) * clip.annotation.num_samples <= self.options.max_samples => {
                    batch.push(clip);
                }
                _ => batches.push(vec![clip]),
            }
        }
        if let Some(seed) = self.options.seed {
            batches.sort_by_cached_key(|batch| {
                let id = batch.first().map_or("", |clip| clip.annotation.id.as_str());
                *blake3::Hasher::new().update(&seed.to_le_bytes()).update(id.as_bytes()).finalize().as_bytes()
            });
        }
        self.ready = batches.into();
    }

    fn stop(&mut self) {
        (self.open, self.paths, self.window, self.ready) = (None, VecDeque::new(), Vec::new(), VecDeque::new());
    }
}

impl Iterator for ShardStream {
    type Item = Result<Vec<StreamedClip>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty() {
            if let Err(error) = self.fill() {
                self.stop();
                return Some(Err(error));
            }
            self.cut();
        }
        let batch: Result<Vec<_>, _> = self.ready.pop_front()?.into_iter().map(decode).collect();
        if batch.is_err() {
            self.stop();
        }
        Some(batch)
    }
}

fn reader(path: &Path, columns: &[String]) -> Result<ParquetRecordBatchReader, ReadError> {
    let parquet = |source| ReadError::Parquet { path: path.to_owned(), source };
    let file = File::open(path).map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(parquet)?;
    let wanted = ALWAYS.iter().copied().chain(["audio.bytes"]).chain(columns.iter().map(String::as_str));
    let mask = ProjectionMask::columns(builder.parquet_schema(), wanted);
    builder.with_projection(mask).with_batch_size(ROWS_AT_ONCE).build().map_err(parquet)
}

fn rows(batch: &RecordBatch, path: &Path) -> Result<Vec<Waiting>, String> {
    let audio = batch.column_by_name("audio").and_then(|audio| audio.as_struct_opt());
    let bytes = audio.and_then(|audio| audio.column_by_name("bytes")).and_then(|bytes| bytes.as_binary_opt::<i32>());
    let bytes: &BinaryArray = bytes.ok_or("expected a column `audio.bytes`, found none")?;
    let rows = annotations(batch)?.into_iter().enumerate();
    Ok(rows.map(|(at, annotation)| Waiting { annotation, bytes: bytes.value(at).to_vec(), path: path.to_owned() }).collect())
}

fn decode(clip: Waiting) -> Result<StreamedClip, ReadError> {
    let Waiting { annotation, bytes, path } = clip;
    let mut samples = Vec::with_capacity(annotation.num_samples as usize % (1 << 28));
    if let Err(source) = recording::samples(&bytes, &mut samples) {
        return Err(ReadError::Audio { id: annotation.id, path, source });
    }
    if samples.len() as u64 != annotation.num_samples {
        let problem = format!("`{}` should have {} samples and has {}", annotation.id, annotation.num_samples, samples.len());
        return Err(ReadError::Layout { path, problem });
    }
    Ok(StreamedClip { annotation, samples })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::reader::ShardReader;
    use crate::testing::Bench;

    fn options() -> StreamOptions {
        StreamOptions { columns: Vec::new(), window: 50, max_samples: 6_000, seed: None }
    }

    fn shards() -> (Bench, Vec<PathBuf>) {
        let bench = Bench::new(5);
        let manifest = bench.manifest("manifest", 2).unwrap();
        let made = [0, 1].map(|part| bench.shards(&format!("shard{part}"), &manifest, part, 1).unwrap());
        let paths = made.iter().flat_map(|made| ["train", "dev", "test"].map(|split| made.join(format!("{split}.parquet"))));
        (bench, paths.collect())
    }

    fn stream(paths: &[PathBuf], options: StreamOptions) -> Vec<Vec<StreamedClip>> {
        ShardStream::open(paths, options).unwrap().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn every_clip_comes_once_and_as_the_other_reader_gives_it() {
        let (_bench, paths) = shards();
        let reader = ShardReader::open(&paths).unwrap();
        let streamed: BTreeMap<String, Vec<f32>> =
            stream(&paths, options()).into_iter().flatten().map(|clip| (clip.annotation.id, clip.samples)).collect();
        let clips = stream(&paths, options()).iter().map(Vec::len).sum::<usize>();
        assert_eq!((clips, streamed.len()), (120, 120));
        for (row, info) in reader.rows().iter().enumerate() {
            assert_eq!(streamed[&info.id], reader.load(row).unwrap(), "{}", info.id);
        }
    }

    #[test]
    fn batches_hold_clips_of_like_length_within_their_bounds() {
        let (_bench, paths) = shards();
        let batches = stream(&paths, options());
        let (mut padded, mut whole) = (0, 0);
        for batch in &batches {
            let longest = batch.iter().map(|clip| clip.samples.len()).max().unwrap();
            assert!(batch.len() == 1 || batch.len() * longest <= 6_000);
            padded += batch.len() * longest;
            whole += batch.iter().map(|clip| clip.samples.len()).sum::<usize>();
        }
        assert!(padded * 100 < whole * 103, "{padded} for {whole} samples");
        let alone = stream(&paths, StreamOptions { max_samples: 0, ..options() });
        assert!(alone.iter().all(|batch| batch.len() == 1));
    }

    #[test]
    fn only_the_columns_asked_for_are_read() {
        let (_bench, paths) = shards();
        let clips = |columns: &[&str]| {
            let columns = columns.iter().map(|&column| column.to_owned()).collect();
            stream(&paths, StreamOptions { columns, ..options() })
                .into_iter()
                .flatten()
                .map(|clip| clip.annotation)
                .collect::<Vec<_>>()
        };
        assert!(clips(&[]).iter().all(|clip| clip.speaker.is_none() && clip.split.is_empty() && clip.label.is_some()));
        assert!(clips(&["speaker"]).iter().all(|clip| clip.speaker.is_some() && clip.transcript.is_none()));
        let error = ShardStream::open(&paths, StreamOptions { columns: vec!["loudness".to_owned()], ..options() }).err().unwrap();
        assert!(error.to_string().contains("asked for `loudness`"), "{error}");
    }

    #[test]
    fn a_seed_decides_the_order_and_nothing_else() {
        let (_bench, paths) = shards();
        let ids = |seed| -> Vec<Vec<String>> {
            let batches = stream(&paths, StreamOptions { seed, ..options() });
            batches.into_iter().map(|batch| batch.into_iter().map(|clip| clip.annotation.id).collect()).collect()
        };
        let sorted = |seed| {
            let mut batches = ids(seed);
            batches.sort();
            batches
        };
        assert_eq!(ids(Some(1)), ids(Some(1)));
        assert_ne!(ids(Some(1)), ids(Some(2)));
        assert_eq!(sorted(Some(1)), sorted(None));
    }

    #[test]
    fn a_shard_that_is_none_ends_the_stream_with_its_name() {
        let (bench, mut paths) = shards();
        let stray = bench.folder.path().join("stray.parquet");
        std::fs::write(&stray, b"PAR1").unwrap();
        paths.push(stray);
        let mut stream = ShardStream::open(&paths, options()).unwrap();
        let errors: Vec<_> = stream.by_ref().filter_map(Result::err).collect();
        assert!(matches!(errors.as_slice(), [ReadError::Parquet { path, .. }] if path.ends_with("stray.parquet")), "{errors:?}");
        assert!(stream.next().is_none());
        assert!(ShardStream::open(&paths, StreamOptions { window: 0, ..options() }).is_err());
    }
}
