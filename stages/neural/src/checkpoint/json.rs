//! JSON files.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::CheckpointError;

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, CheckpointError> {
    let bytes = std::fs::read(path).map_err(CheckpointError::io("read", path))?;
    serde_json::from_slice(&bytes).map_err(|source| CheckpointError::Json { path: path.to_owned(), source })
}

/// Writes indented JSON with a final line break.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), CheckpointError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|source| CheckpointError::Json { path: path.to_owned(), source })?;
    bytes.push(b'\n');
    std::fs::write(path, bytes).map_err(CheckpointError::io("write", path))
}
