//! Writes the side index of a shard: the position of each clip in the file, so that other programs can read one clip without
//! Parquet, by a positioned read or a memory map. [`crate::reader`] does not need it.
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

use std::fs;
use std::path::{Path, PathBuf};

use datasets::Split;
use pipeline::StageError;

use crate::schema::ClipPlace;

const MAGIC: &[u8; 8] = b"SURECLIP";
const VERSION: u32 = 1;
const HEADER: usize = 16;
const RECORD: usize = 24;

/// Returns the names of the shards of all splits and of their indices.
pub(crate) fn shard_files() -> impl Iterator<Item = String> {
    Split::ALL.into_iter().flat_map(|split| ["parquet", "clips"].map(|ending| format!("{split}.{ending}")))
}

/// Returns the hash of an id.
pub(crate) fn hash_of(id: &str) -> u64 {
    let hash = blake3::hash(id.as_bytes());
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes"))
}

/// Returns the path of a shard's index.
fn path_of(shard: &Path) -> PathBuf {
    shard.with_extension("clips")
}

/// Writes the index of a shard. `rows` are the hash of the id and the number of samples of each row.
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
