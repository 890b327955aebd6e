//! Reads shards for training: a small index of all rows in memory, and the samples of one clip at a time from disk.
//!
//! Opening reads the small columns only. The audio column is uncompressed and PLAIN, so each clip is a contiguous range of
//! bytes; where the ranges of a row group lie is found when one of its clips is first asked for, and kept. A clip is then one
//! positioned read, so that corpora far larger than memory stream. (Positioned reads instead of a memory map: as fast for
//! clips of tens of kilobytes, without `unsafe`, and a file that shrinks is an error instead of a crash.)

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use datasets::parquet_file::{HUGGING_FACE, ParquetFile, ParquetFileError, PlainPage};
use datasets::shard::{RowInfo, SHARD, is_read};
use parquet::file::metadata::ParquetMetaData;

use crate::features::{FEATURES, FeatureInfo};
use crate::recording::{self, Reject};
use crate::schema::ORIGIN;

/// Shards that were opened together. Safe to use from many threads.
#[derive(Debug)]
pub struct ShardReader {
    shards: Vec<Shard>,
    rows: Vec<RowInfo>,
    /// Position of each of `rows`.
    positions: Vec<Position>,
    labels: Vec<String>,
}

/// Position of a row in the shards.
#[derive(Debug, Clone, Copy)]
struct Position {
    shard: u32,
    row_group: u32,
    /// Row in the row group.
    row: u32,
}

/// Why shards cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file cannot be read, or is not as `audio.shards` writes it.
    #[error(transparent)]
    File(#[from] ParquetFileError),
    /// The classes of two shards differ.
    #[error("`{path}` has other labels than `{first}`")]
    Labels {
        /// Shard that differs.
        path: PathBuf,
        /// First shard.
        first: PathBuf,
    },
    /// The audio of a row differs from its description.
    #[error("the audio of `{id}` in `{path}` is damaged")]
    Audio {
        /// Id of the utterance.
        id: String,
        /// Path of the shard.
        path: PathBuf,
        /// Cause.
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
                    return Err(shard.layout(problem).into());
                }
                Some(_) => {}
            }
            shards.push(shard);
        }
        rows.sort_by(|(a, _): &(RowInfo, _), (b, _)| a.id.cmp(&b.id));
        let (rows, positions) = rows.into_iter().unzip();
        Ok(Self { shards, rows, positions, labels })
    }

    /// All rows in order of id, so that the order depends neither on the number of shards nor on the order of the paths. Of the
    /// annotation only label, speaker and transcript are read.
    pub fn rows(&self) -> &[RowInfo] {
        &self.rows
    }

    /// Names of the classes, in the order of their indices.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Corpus, protocol, licence and split of the first shard, as JSON; none where the shards do not say.
    pub fn origin(&self) -> Option<&str> {
        self.shards.first().and_then(|shard| shard.origin.as_deref())
    }

    /// Features that take the place of the audio; absent in shards of audio. Shards that were opened together have the same.
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
        let (info, shard) = (&self.rows[row], &self.shards[self.positions[row].shard as usize]);
        recording::samples(&bytes, samples).map_err(|source| ReadError::Audio {
            id: info.id.clone(),
            path: shard.path.clone(),
            source,
        })?;
        if samples.len() == info.num_samples {
            return Ok(());
        }
        Err(shard.layout(format!("`{}` should have {} samples and has {}", info.id, info.num_samples, samples.len())).into())
    }

    /// The WAV or FLAC file of a row, as stored.
    ///
    /// Errors: [`ReadError`] naming the shard.
    ///
    /// # Panics
    /// When there is no row `row`.
    pub fn load_wav(&self, row: usize) -> Result<Vec<u8>, ReadError> {
        let position = self.positions[row];
        let shard = &self.shards[position.shard as usize];
        let range = shard.ranges(position.row_group as usize)?[position.row as usize];
        let mut bytes = vec![0; range.len as usize];
        shard.file.read_exact_at(&mut bytes, range.offset).map_err(|source| shard.io(source))?;
        Ok(bytes)
    }
}

/// Bytes of the shard that are the WAV or FLAC file of a row.
#[derive(Debug, Clone, Copy)]
struct Range {
    offset: u64,
    len: u32,
}

/// One open file.
#[derive(Debug)]
struct Shard {
    path: PathBuf,
    file: File,
    metadata: Arc<ParquetMetaData>,
    /// Which leaf column `audio.bytes` is, or `features`.
    audio_column: usize,
    /// What is in the place of the audio.
    features: Option<FeatureInfo>,
    /// Corpus, protocol, licence and split, as JSON.
    origin: Option<String>,
    /// Per row group, once known.
    ranges: Vec<OnceLock<Vec<Range>>>,
}

/// Columns of the index besides those that are always read.
const INDEX_COLUMNS: [&str; 5] = ["speaker", "sample_rate", "label", "keyword", "transcript"];

impl Shard {
    fn open(path: &Path, number: u32, rows: &mut Vec<(RowInfo, Position)>) -> Result<(Self, Vec<String>), ReadError> {
        let io = |source| ParquetFileError::Io { path: path.to_owned(), source };
        let (own_file, file) = (File::open(path).map_err(io)?, ParquetFile::open_indexed(path, SHARD)?);
        let metadata = Arc::clone(file.metadata());
        let features = features_of(&file)?;
        let audio_column = file.leaf(if features.is_some() { crate::features::shard::COLUMN } else { "audio.bytes" })?;
        if file.note(HUGGING_FACE).is_none() {
            return Err(file.layout(format!("expected metadata under `{HUGGING_FACE}`, found none")).into());
        }
        let labels = file.class_names("label");
        let origin = file.note(ORIGIN).map(str::to_owned);
        let mut positions = metadata.row_groups().iter().zip(0..).flat_map(|(group, row_group)| {
            let num_rows = u32::try_from(group.num_rows()).unwrap_or(0);
            (0..num_rows).map(move |row| Position { shard: number, row_group, row })
        });
        for batch in file.rows(|path| is_read(path, |column| INDEX_COLUMNS.contains(&column)))? {
            rows.extend(RowInfo::decode(&batch?)?.into_iter().zip(positions.by_ref()));
        }
        let ranges = metadata.row_groups().iter().map(|_| OnceLock::new()).collect();
        let shard = Self { path: path.to_owned(), file: own_file, metadata, audio_column, features, origin, ranges };
        Ok((shard, labels))
    }

    /// Returns the byte ranges of the clips of a row group.
    fn ranges(&self, row_group: usize) -> Result<&[Range], ReadError> {
        let known = &self.ranges[row_group];
        if let Some(ranges) = known.get() {
            return Ok(ranges);
        }
        let ranges = self.find_ranges(row_group)?;
        Ok(known.get_or_init(|| ranges))
    }

    /// Walks the pages of the audio column. A PLAIN page is its definition levels (which say what is null; for a column that
    /// may have nulls, behind their length in four bytes), then the values, each behind its length in four bytes. Only the
    /// lengths are read, so that the first epoch does not read the clips twice.
    /// Source: Parquet format specification, "Data Pages" and "Plain encoding".
    fn find_ranges(&self, row_group: usize) -> Result<Vec<Range>, ReadError> {
        let group = self.metadata.row_group(row_group);
        let column = group.column(self.audio_column);
        let num_rows = group.num_rows() as usize;
        if column.compression() != parquet::basic::Compression::UNCOMPRESSED {
            return Err(self.layout(format!("expected `audio.bytes` uncompressed, found {}", column.compression())).into());
        }
        let index = self.metadata.page_index_for_row_group(row_group);
        let Some(pages) = index.page_locations(self.audio_column).cloned() else {
            return Err(self.layout("expected a page index, found none".to_owned()).into());
        };
        let len_at = |at: u64| {
            let mut len = [0; 4];
            self.file.read_exact_at(&mut len, at).map_err(|source| self.io(source))?;
            Ok::<_, ReadError>(u32::from_le_bytes(len))
        };
        let has_levels = column.column_descr().max_def_level() > 0;
        let mut ranges = Vec::with_capacity(num_rows);
        for page in &pages {
            let Some(PlainPage { start, len }) =
                PlainPage::read(&self.file, page.offset as u64).map_err(|source| self.io(source))?
            else {
                return Err(self.layout("expected `audio.bytes` in PLAIN pages of version 1".to_owned()).into());
            };
            let end = start + len;
            let mut at = if has_levels { start + 4 + u64::from(len_at(start)?) } else { start };
            while at + 4 <= end {
                let len = len_at(at)?;
                ranges.push(Range { offset: at + 4, len });
                at += 4 + u64::from(len);
            }
            if at != end {
                return Err(self.layout("a page of `audio.bytes` does not end with a value".to_owned()).into());
            }
        }
        if ranges.len() != num_rows {
            return Err(self
                .layout(format!("expected {num_rows} clips in row group {row_group}, found {}", ranges.len()))
                .into());
        }
        Ok(ranges)
    }

    fn io(&self, source: std::io::Error) -> ReadError {
        ParquetFileError::Io { path: self.path.clone(), source }.into()
    }

    fn layout(&self, problem: String) -> ParquetFileError {
        ParquetFileError::Layout { path: self.path.clone(), kind: SHARD, problem }
    }
}

/// Features that take the place of the audio; absent in a shard of audio.
fn features_of(file: &ParquetFile) -> Result<Option<FeatureInfo>, ParquetFileError> {
    let parse = |text| serde_json::from_str(text).map_err(|error| file.layout(format!("metadata `{FEATURES}`: {error}")));
    file.note(FEATURES).map(parse).transpose()
}
