//! Reads shards for training: a small index of all rows in memory, and the samples of one clip at a time from disk.
//!
//! Opening reads the small columns only. The audio column is uncompressed and PLAIN, so each clip is a contiguous range of
//! bytes; where the ranges of a row group lie is found when one of its clips is first asked for, and kept. A clip is then one
//! positioned read, so that corpora far larger than memory stream. (Positioned reads instead of a memory map: as fast for
//! clips of tens of kilobytes, without `unsafe`, and a file that shrinks is an error instead of a crash.)

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, RecordBatch};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::column::page::{Page, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use parquet::file::serialized_reader::SerializedPageReader;

use crate::features::{FEATURES, FeatureInfo};
use crate::recording::{self, Reject};
use crate::schema::{Annotation, HUGGING_FACE, annotations, optional_text};

/// Shards that were opened together. Safe to use from many threads.
#[derive(Debug)]
pub struct ShardReader {
    shards: Vec<Shard>,
    rows: Vec<RowInfo>,
    labels: Vec<String>,
}

/// What is known of an utterance without its audio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowInfo {
    /// Unique in the corpus.
    pub id: String,
    /// Index of the class.
    pub label: Option<u32>,
    /// Name of the class.
    pub keyword: Option<String>,
    /// Who speaks.
    pub speaker: Option<String>,
    /// What is said.
    pub transcript: Option<String>,
    /// Length in samples.
    pub num_samples: usize,
    shard: u32,
    row_group: u32,
    /// In the row group.
    row: u32,
}

/// Why shards cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file cannot be read.
    #[error("cannot read `{path}`")]
    Io {
        /// The shard.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Not Parquet, or damaged.
    #[error("`{path}` is not a Parquet file that can be read")]
    Parquet {
        /// The shard.
        path: PathBuf,
        /// The cause.
        #[source]
        source: ParquetError,
    },
    /// Parquet, but not as `audio.shards` writes it.
    #[error("`{path}` is not a shard: {problem}")]
    Layout {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        problem: String,
    },
    /// The classes of two shards differ.
    #[error("`{path}` has other labels than `{first}`")]
    Labels {
        /// The shard that differs.
        path: PathBuf,
        /// The first shard.
        first: PathBuf,
    },
    /// The audio of a row is not as the row says.
    #[error("the audio of `{id}` in `{path}` is damaged")]
    Audio {
        /// The utterance.
        id: String,
        /// The shard.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Reject,
    },
}

impl ShardReader {
    /// Opens shards and reads their small columns.
    ///
    /// Errors: [`ReadError`] naming the file.
    pub fn open<P: AsRef<Path>>(paths: &[P]) -> Result<Self, ReadError> {
        let (mut shards, mut rows, mut labels) = (Vec::<Shard>::new(), Vec::new(), Vec::new());
        for path in paths {
            let (shard, names) = Shard::open(path.as_ref(), shards.len() as u32, &mut rows)?;
            match shards.first() {
                None => labels = names,
                Some(first) if labels != names => {
                    return Err(ReadError::Labels { path: shard.path, first: first.path.clone() });
                }
                Some(first) if first.features != shard.features => {
                    let problem = format!("expected the features of `{}`", first.path.display());
                    return Err(shard.layout(problem));
                }
                Some(_) => {}
            }
            shards.push(shard);
        }
        rows.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(Self { shards, rows, labels })
    }

    /// What a shard says of every utterance besides the audio, which is not read: for what is learned from them. In order of id.
    ///
    /// Errors: [`ReadError`] naming the file.
    pub fn annotations<P: AsRef<Path>>(paths: &[P]) -> Result<Vec<Annotation>, ReadError> {
        let mut all = Vec::new();
        for path in paths {
            let path = path.as_ref();
            let parquet = |source| ReadError::Parquet { path: path.to_owned(), source };
            let layout = |problem: String| ReadError::Layout { path: path.to_owned(), problem };
            let file = File::open(path).map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
            let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(parquet)?;
            let mask = ProjectionMask::columns(builder.parquet_schema(), ANNOTATION_COLUMNS);
            for batch in builder.with_projection(mask).build().map_err(parquet)? {
                let batch = batch.map_err(|error| parquet(error.into()))?;
                all.extend(annotations(&batch).map_err(layout)?);
            }
        }
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(all)
    }

    /// All rows in order of id, so that the order depends neither on how many shards there are nor on that of the paths.
    pub fn rows(&self) -> &[RowInfo] {
        &self.rows
    }

    /// The classes, in the order of their indices.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// What takes the place of the audio; none in shards of audio. Those that were opened together have the same.
    pub fn features(&self) -> Option<&FeatureInfo> {
        self.shards.first().and_then(|shard| shard.features.as_ref())
    }

    /// The features of a row, frame after frame; none in shards of audio.
    ///
    /// Errors: [`ReadError`] naming the shard.
    ///
    /// # Panics
    /// When there is no row `row`.
    pub fn load_features(&self, row: usize) -> Result<Option<Vec<f32>>, ReadError> {
        let Some(info) = self.features() else { return Ok(None) };
        Ok(Some(info.format.decode(&self.load_wav(row)?)))
    }

    /// The samples of a row: [`RowInfo::num_samples`] values in [-1, 1).
    ///
    /// Errors: [`ReadError`] naming the shard or the utterance.
    ///
    /// # Panics
    /// When there is no row `row`.
    pub fn load(&self, row: usize) -> Result<Vec<f32>, ReadError> {
        let mut samples = Vec::new();
        self.load_into(row, &mut samples)?;
        Ok(samples)
    }

    /// Like [`ShardReader::load`], into a buffer that is cleared first.
    ///
    /// Errors: [`ReadError`] naming the shard or the utterance.
    ///
    /// # Panics
    /// When there is no row `row`.
    pub fn load_into(&self, row: usize, samples: &mut Vec<f32>) -> Result<(), ReadError> {
        let bytes = self.load_wav(row)?;
        let info = &self.rows[row];
        recording::samples(&bytes, samples).map_err(|source| ReadError::Audio {
            id: info.id.clone(),
            path: self.shards[info.shard as usize].path.clone(),
            source,
        })?;
        if samples.len() == info.num_samples {
            return Ok(());
        }
        let shard = &self.shards[info.shard as usize];
        Err(shard.layout(format!("`{}` should have {} samples and has {}", info.id, info.num_samples, samples.len())))
    }

    /// The WAV or FLAC file of a row, as stored.
    ///
    /// Errors: [`ReadError`] naming the shard.
    ///
    /// # Panics
    /// When there is no row `row`.
    pub fn load_wav(&self, row: usize) -> Result<Vec<u8>, ReadError> {
        let info = &self.rows[row];
        let shard = &self.shards[info.shard as usize];
        let range = shard.ranges(info.row_group as usize)?[info.row as usize];
        let mut bytes = vec![0; range.len as usize];
        shard.file.read_exact_at(&mut bytes, range.offset).map_err(|source| shard.io(source))?;
        Ok(bytes)
    }
}

/// Where the WAV file of a row lies in the shard.
#[derive(Debug, Clone, Copy)]
struct Range {
    offset: u64,
    len: u32,
}

/// One open file.
#[derive(Debug)]
struct Shard {
    path: PathBuf,
    file: Arc<File>,
    metadata: Arc<ParquetMetaData>,
    /// Which leaf column `audio.bytes` is, or `features`.
    audio_column: usize,
    /// What is in the place of the audio.
    features: Option<FeatureInfo>,
    /// Per row group, once known.
    ranges: Vec<OnceLock<Vec<Range>>>,
    /// Held while pages are read: parquet's reader of files moves the file's one cursor.
    cursor: Mutex<()>,
}

const ANNOTATION_COLUMNS: [&str; 12] =
    ["id", "speaker", "split", "num_samples", "label", "keyword", "transcript", "normalised", "words", "phones", "slots", "tags"];
const INDEX_COLUMNS: [&str; 6] = ["id", "speaker", "num_samples", "label", "keyword", "transcript"];

impl Shard {
    fn open(path: &Path, number: u32, rows: &mut Vec<RowInfo>) -> Result<(Self, Vec<String>), ReadError> {
        let parquet = |source| ReadError::Parquet { path: path.to_owned(), source };
        let layout = |problem: String| ReadError::Layout { path: path.to_owned(), problem };
        let file = Arc::new(File::open(path).map_err(|source| ReadError::Io { path: path.to_owned(), source })?);
        let own_cursor = File::open(path).map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
        let options = ArrowReaderOptions::new().with_offset_index_policy(PageIndexPolicy::Required);
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(own_cursor, options).map_err(parquet)?;
        let metadata = Arc::clone(builder.metadata());
        let columns = builder.parquet_schema().columns();
        let features = features_of(&metadata).map_err(layout)?;
        let wanted = if features.is_some() { crate::features::shard::COLUMN } else { "audio.bytes" };
        let audio_column = columns.iter().position(|column| column.path().string() == wanted);
        let audio_column = audio_column.ok_or_else(|| layout(format!("expected a column `{wanted}`, found none")))?;
        let labels = labels_of(&metadata).map_err(layout)?;

        let mask = ProjectionMask::columns(builder.parquet_schema(), INDEX_COLUMNS);
        let batches = builder.with_projection(mask).build().map_err(parquet)?;
        let mut places = metadata.row_groups().iter().zip(0..).flat_map(|(group, number)| {
            let num_rows = u32::try_from(group.num_rows()).unwrap_or(0);
            (0..num_rows).map(move |row| (number, row))
        });
        for batch in batches {
            let batch = batch.map_err(|error| parquet(error.into()))?;
            read_index(&batch, number, &mut places, rows).map_err(layout)?;
        }
        let ranges = metadata.row_groups().iter().map(|_| OnceLock::new()).collect();
        Ok((Self { path: path.to_owned(), file, metadata, audio_column, features, ranges, cursor: Mutex::new(()) }, labels))
    }

    /// Where the clips of a row group lie.
    fn ranges(&self, row_group: usize) -> Result<&[Range], ReadError> {
        let known = &self.ranges[row_group];
        if let Some(ranges) = known.get() {
            return Ok(ranges);
        }
        let _alone = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get().is_none() {
            let ranges = self.find_ranges(row_group)?;
            known.get_or_init(|| ranges);
        }
        Ok(known.get().map_or(&[], Vec::as_slice))
    }

    /// Walks the pages of the audio column. A PLAIN page is its definition levels (which say what is null; for a column that
    /// may have nulls, behind their length in four bytes), then the values, each behind its length in four bytes.
    /// Source: Parquet format specification, "Data Pages" and "Plain encoding".
    fn find_ranges(&self, row_group: usize) -> Result<Vec<Range>, ReadError> {
        let group = self.metadata.row_group(row_group);
        let column = group.column(self.audio_column);
        let num_rows = group.num_rows() as usize;
        if column.compression() != parquet::basic::Compression::UNCOMPRESSED {
            return Err(self.layout(format!("expected `audio.bytes` uncompressed, found {}", column.compression())));
        }
        let index = self.metadata.page_index_for_row_group(row_group);
        let Some(pages) = index.page_locations(self.audio_column).cloned() else {
            return Err(self.layout("expected a page index, found none".to_owned()));
        };
        let parquet = |source| ReadError::Parquet { path: self.path.clone(), source };
        let mut reader =
            SerializedPageReader::new(Arc::clone(&self.file), column, num_rows, Some(pages.clone())).map_err(parquet)?;
        let mut ranges = Vec::with_capacity(num_rows);
        for page in &pages {
            let Some(Page::DataPage { buf, encoding: parquet::basic::Encoding::PLAIN, .. }) =
                reader.get_next_page().map_err(parquet)?
            else {
                return Err(self.layout("expected `audio.bytes` in PLAIN pages of version 1".to_owned()));
            };
            // The location covers the page's header too, and the header comes first.
            let page_start = page.offset as u64 + (page.compressed_page_size as u64).saturating_sub(buf.len() as u64);
            let len_at = |at: usize| buf.get(at..at + 4).map(|len| u32::from_le_bytes([len[0], len[1], len[2], len[3]]));
            let has_levels = column.column_descr().max_def_level() > 0;
            let mut at = if has_levels { 4 + len_at(0).unwrap_or(0) as usize } else { 0 };
            while let Some(len) = len_at(at) {
                ranges.push(Range { offset: page_start + at as u64 + 4, len });
                at += 4 + len as usize;
            }
            if at != buf.len() {
                return Err(self.layout("a page of `audio.bytes` does not end with a value".to_owned()));
            }
        }
        if ranges.len() != num_rows {
            return Err(self.layout(format!("expected {num_rows} clips in row group {row_group}, found {}", ranges.len())));
        }
        Ok(ranges)
    }

    fn io(&self, source: std::io::Error) -> ReadError {
        ReadError::Io { path: self.path.clone(), source }
    }

    fn layout(&self, problem: String) -> ReadError {
        ReadError::Layout { path: self.path.clone(), problem }
    }
}

/// What takes the place of the audio; none in a shard of audio.
fn features_of(metadata: &ParquetMetaData) -> Result<Option<FeatureInfo>, String> {
    let pairs = metadata.file_metadata().key_value_metadata();
    let text = pairs.and_then(|pairs| pairs.iter().find(|pair| pair.key == FEATURES)).and_then(|pair| pair.value.as_deref());
    text.map(|text| serde_json::from_str(text).map_err(|error| format!("metadata `{FEATURES}`: {error}"))).transpose()
}

/// The class names in the Hugging Face metadata; none when the label is no class.
fn labels_of(metadata: &ParquetMetaData) -> Result<Vec<String>, String> {
    let pairs = metadata.file_metadata().key_value_metadata();
    let text = pairs.and_then(|pairs| pairs.iter().find(|pair| pair.key == HUGGING_FACE)).and_then(|pair| pair.value.as_deref());
    let text = text.ok_or_else(|| format!("expected metadata under `{HUGGING_FACE}`, found none"))?;
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| format!("metadata `{HUGGING_FACE}`: {error}"))?;
    let names = value["info"]["features"]["label"]["names"].as_array();
    Ok(names.map_or_else(Vec::new, |names| names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()))
}

/// Adds the rows of a batch of small columns to the index.
fn read_index(
    batch: &RecordBatch,
    shard: u32,
    places: &mut impl Iterator<Item = (u32, u32)>,
    rows: &mut Vec<RowInfo>,
) -> Result<(), String> {
    let column = |name: &str| batch.column_by_name(name).ok_or_else(|| format!("expected a column `{name}`, found none"));
    let text = |name: &str| {
        let column = column(name)?;
        column.as_string_opt::<i32>().ok_or_else(|| format!("expected `{name}` as text, found {}", column.data_type()))
    };
    let number = |name: &str| {
        let column = column(name)?;
        column.as_primitive_opt::<Int64Type>().ok_or_else(|| format!("expected `{name}` as int64, found {}", column.data_type()))
    };
    let (id, speaker, keyword, transcript) = (text("id")?, text("speaker")?, text("keyword")?, text("transcript")?);
    let (num_samples, label) = (number("num_samples")?, number("label")?);
    let optional = |column, at| optional_text(Some(column), at);
    for at in 0..batch.num_rows() {
        let (row_group, row) = places.next().ok_or("more rows than its row groups count")?;
        let samples = num_samples.value(at);
        rows.push(RowInfo {
            id: id.value(at).to_owned(),
            label: if label.is_valid(at) {
                Some(u32::try_from(label.value(at)).map_err(|_| format!("a label of {}", label.value(at)))?)
            } else {
                None
            },
            keyword: optional(keyword, at),
            speaker: optional(speaker, at),
            transcript: optional(transcript, at),
            num_samples: usize::try_from(samples).map_err(|_| format!("a length of {samples} samples"))?,
            shard,
            row_group,
            row,
        });
    }
    Ok(())
}
