//! The header of a safetensors file.

use std::fs::File;
use std::io::{self, Read};

use safetensors::tensor::Metadata;

/// The bytes in front of a header that give its length.
pub const LENGTH_BYTES: u64 = 8;
/// No header is longer, as in the safetensors crate.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Why a file has no header that can be trusted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The file could not be read.
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    /// The file is truncated, or its header false.
    #[error("{0}")]
    Damaged(String),
}

/// The header, checked against the size of the file, and where the data behind it starts. The file is read from its beginning.
///
/// Errors: [`HeaderError`].
pub fn read(file: &mut File) -> Result<(u64, Metadata), HeaderError> {
    let damaged = |reason: String| Err(HeaderError::Damaged(reason));
    let size = file.metadata()?.len();
    let mut length = [0; LENGTH_BYTES as usize];
    if size < LENGTH_BYTES {
        return damaged(format!("{size} bytes are too few for a safetensors file"));
    }
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER_BYTES || length > size - LENGTH_BYTES {
        return damaged(format!("its header claims {length} bytes and the file has {size}"));
    }
    let mut text = vec![0; length as usize];
    file.read_exact(&mut text)?;
    let header: Metadata = match serde_json::from_slice(&text) {
        Ok(header) => header,
        Err(error) => return damaged(format!("its header is wrong ({error})")),
    };
    let expected = LENGTH_BYTES + length + header.data_len() as u64;
    if size != expected {
        return damaged(format!("its header describes {expected} bytes and the file has {size}"));
    }
    Ok((LENGTH_BYTES + length, header))
}
