//! `pytorch_model.bin`: a state dict in PyTorch's zip format.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use tch::{Kind, Tensor};

use super::{CheckpointError, Weights};

/// Reads the tensors whose names `wanted` accepts, as float32 on the CPU.
///
/// Errors: [`CheckpointError::Pickle`] for the older format that is not a zip, for dicts within dicts, and for damaged files.
pub fn read(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<Weights, CheckpointError> {
    let mut magic = [0; 2];
    let mut file = File::open(path).map_err(CheckpointError::io("read", path))?;
    let refused = |reason: String| CheckpointError::Pickle { path: path.to_owned(), reason };
    if file.read_exact(&mut magic).is_err() || &magic != b"PK" {
        return Err(refused(
            "it is no zip archive; load and save it once with a current PyTorch, or use model.safetensors".to_owned(),
        ));
    }
    let tensors = Tensor::loadz_multi(path).map_err(|error| {
        let words = error.to_string();
        refused(words.lines().next().unwrap_or_default().trim().to_owned())
    })?;
    Ok(tensors
        .into_iter()
        .filter(|(name, _)| wanted(name))
        .map(|(name, tensor)| (name, if tensor.is_floating_point() { tensor.to_kind(Kind::Float) } else { tensor }))
        .collect())
}
