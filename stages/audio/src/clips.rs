//! The side index of a shard: where each clip lies in the file, so that one clip can be had without Parquet, by a positioned
//! read or a memory map.
//!
//! ```text
//! train.parquet          the shard
//! train.clips            "SURECLIP", version 1 (u32), number of rows (u32), then a record of 24 bytes for each row:
//!                        offset (u64), length in bytes (u32), samples (u32), hash of the id (u64)
//! ```
//!
//! Everything is little endian; the hash is the first eight bytes of the BLAKE3 hash of the id. In Python:
//!
//! ```python
//! clips = numpy.fromfile("train.clips", offset=16, dtype="<u8,<u4,<u4,<u8")
//! shard = numpy.memmap("train.parquet")
//! wav = shard[clips["f0"][row]:][:clips["f1"][row]]
//! ```

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use pipeline::StageError;

use crate::reader::ReadError;
use crate::schema::ClipPlace;

const MAGIC: &[u8; 8] = b"SURECLIP";
const VERSION: u32 = 1;
const HEADER: usize = 16;
const RECORD: usize = 24;

/// One row of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clip {
    /// Where the file of the clip begins in the shard.
    pub offset: u64,
    /// In bytes.
    pub len: u32,
    /// In samples.
    pub num_samples: u32,
    /// See [`hash_of`].
    pub hash: u64,
}

/// The hash of an id.
pub fn hash_of(id: &str) -> u64 {
    let hash = blake3::hash(id.as_bytes());
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes"))
}

/// The index that belongs to a shard.
pub fn path_of(shard: &Path) -> PathBuf {
    shard.with_extension("clips")
}

/// Writes the index of a shard: places, and id and samples, by row.
///
/// Errors: a file that cannot be written.
pub(crate) fn write(shard: &Path, places: &[ClipPlace], rows: &[(u64, u64)]) -> Result<(), StageError> {
    let mut bytes = Vec::with_capacity(HEADER + RECORD * places.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(places.len() as u32).to_le_bytes());
    for (place, &(hash, num_samples)) in places.iter().zip(rows) {
        bytes.extend_from_slice(&place.offset.to_le_bytes());
        bytes.extend_from_slice(&place.len.to_le_bytes());
        bytes.extend_from_slice(&(num_samples as u32).to_le_bytes());
        bytes.extend_from_slice(&hash.to_le_bytes());
    }
    let path = path_of(shard);
    fs::write(&path, bytes).map_err(StageError::io("write", &path))
}

/// Reads the index of a shard; none when there is none, or when it is not one of this version.
pub(crate) fn read(shard: &Path) -> Option<Vec<Clip>> {
    let bytes = fs::read(path_of(shard)).ok()?;
    let (header, records) = bytes.split_at_checked(HEADER)?;
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |sum, &byte| sum << 8 | u64::from(byte));
    let fits = &header[..8] == MAGIC && number(&header[8..12]) == u64::from(VERSION);
    if !fits || records.len() as u64 != number(&header[12..]) * RECORD as u64 {
        return None;
    }
    let clip = |record: &[u8]| Clip {
        offset: number(&record[..8]),
        len: number(&record[8..12]) as u32,
        num_samples: number(&record[12..16]) as u32,
        hash: number(&record[16..]),
    };
    Some(records.chunks_exact(RECORD).map(clip).collect())
}

/// A shard of which single clips are wanted, without reading any Parquet.
#[derive(Debug)]
pub struct ClipReader {
    path: PathBuf,
    file: File,
    clips: Vec<Clip>,
}

impl ClipReader {
    /// Opens a shard that has its index beside it.
    ///
    /// Errors: no shard, or no index.
    pub fn open(shard: &Path) -> Result<Self, ReadError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            |source| ReadError::Io { path, source }
        };
        let file = File::open(shard).map_err(io(shard))?;
        let index = path_of(shard);
        File::open(&index).map_err(io(&index))?;
        let problem = || ReadError::Layout { path: index.clone(), problem: "expected an index of version 1".to_owned() };
        let clips = read(shard).ok_or_else(problem)?;
        Ok(Self { path: shard.to_owned(), file, clips })
    }

    /// All rows.
    pub fn clips(&self) -> &[Clip] {
        &self.clips
    }

    /// The row of an id.
    pub fn find(&self, id: &str) -> Option<usize> {
        let hash = hash_of(id);
        self.clips.iter().position(|clip| clip.hash == hash)
    }

    /// The WAV or FLAC file of a row.
    ///
    /// Errors: a shard that cannot be read or is shorter than its index says.
    ///
    /// # Panics
    /// When there is no row `row`.
    pub fn load(&self, row: usize) -> Result<Vec<u8>, ReadError> {
        let Clip { offset, len, .. } = self.clips[row];
        let mut bytes = vec![0; len as usize];
        let read = self.file.read_exact_at(&mut bytes, offset);
        read.map_err(|source| ReadError::Io { path: self.path.clone(), source })?;
        Ok(bytes)
    }
}
