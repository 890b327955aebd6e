//! `pytorch_model.bin`: a state dict in PyTorch's zip format.
//!
//! A pickle is a program. This reader knows the handful of instructions and the few names that a dict of tensors needs, runs
//! nothing else, and refuses a file that asks for more.

mod machine;

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use tch::{Kind, Tensor};
use zip::ZipArchive;

use self::machine::{Stored, run};
use super::error::CheckpointError;
use crate::nn::weights::Weights;

/// The largest program we read: names and shapes, no numbers.
const MAX_PROGRAM_BYTES: u64 = 100_000_000;

/// Reads the tensors whose names `wanted` accepts, as float32 on the CPU (integers stay what they are).
///
/// A dict of tensors may be in another one, under `state_dict`, `model`, `model_state_dict` or `generator`.
/// Errors: [`CheckpointError::Pickle`] for the older format that is not a zip, for anything that is not tensors, and for damage.
pub fn read(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<Weights, CheckpointError> {
    let refused = |reason: String| CheckpointError::Pickle { path: path.to_owned(), reason };
    let mut file = File::open(path).map_err(CheckpointError::io("read", path))?;
    let mut magic = [0; 2];
    if file.read_exact(&mut magic).is_err() || &magic != b"PK" {
        let reason = "it is no zip archive; load and save it once with a current PyTorch, or use model.safetensors";
        return Err(refused(reason.to_owned()));
    }
    file.rewind().map_err(CheckpointError::io("read", path))?;
    let mut archive = ZipArchive::new(file).map_err(|error| refused(format!("the zip archive is damaged ({error})")))?;
    let program = archive.file_names().find(|name| name.ends_with("/data.pkl")).map(str::to_owned);
    let Some(program) = program else { return Err(refused("it holds no `data.pkl`".to_owned())) };
    let folder = program.trim_end_matches("data.pkl").to_owned();
    if let Ok(order) = member(&mut archive, &format!("{folder}byteorder"), 16)
        && order != b"little"
    {
        return Err(refused("its numbers are stored big end first".to_owned()));
    }
    let program = member(&mut archive, &program, MAX_PROGRAM_BYTES).map_err(refused)?;
    let stored = run(&program).map_err(refused)?;

    let mut weights = Weights::new();
    let mut storage = (String::new(), Vec::new());
    for (name, tensor) in stored.into_iter().filter(|(name, _)| wanted(name)) {
        let element = tensor.kind.elt_size_in_bytes() as u64;
        if storage.0 != tensor.storage {
            let limit = tensor.storage_len.saturating_mul(element);
            let bytes = member(&mut archive, &format!("{folder}data/{}", tensor.storage), limit).map_err(refused)?;
            storage = (tensor.storage.clone(), bytes);
        }
        let tensor = assemble(&tensor, &storage.1).map_err(|reason| refused(format!("`{name}`: {reason}")))?;
        let tensor = if tensor.is_floating_point() { tensor.to_kind(Kind::Float) } else { tensor };
        weights.insert(name, tensor);
    }
    Ok(weights)
}

/// A member of the archive, of at most `limit` bytes.
fn member(archive: &mut ZipArchive<File>, name: &str, limit: u64) -> Result<Vec<u8>, String> {
    let member = archive.by_name(name).map_err(|error| format!("`{name}` in it cannot be read ({error})"))?;
    let size = member.size();
    if size > limit {
        return Err(format!("`{name}` in it has {size} bytes, expected at most {limit}"));
    }
    let mut bytes = Vec::with_capacity(size as usize);
    member.take(limit).read_to_end(&mut bytes).map_err(|error| format!("`{name}` in it cannot be read ({error})"))?;
    Ok(bytes)
}

/// A tensor from the bytes of its storage.
fn assemble(tensor: &Stored, bytes: &[u8]) -> Result<Tensor, String> {
    let element = tensor.kind.elt_size_in_bytes();
    let count = (bytes.len() / element) as i64;
    let whole = Tensor::f_from_data_size(&bytes[..count as usize * element], &[count], tensor.kind);
    let last = tensor.shape.iter().zip(&tensor.stride).try_fold(tensor.offset, |at, (&size, &stride)| {
        (size > 0 && stride >= 0).then(|| stride.checked_mul(size - 1)?.checked_add(at)).flatten()
    });
    match last {
        Some(last) if tensor.offset >= 0 && last < count && tensor.shape.len() == tensor.stride.len() => {
            let view = whole.and_then(|whole| whole.f_as_strided(&tensor.shape, &tensor.stride, tensor.offset));
            view.and_then(|view| view.f_contiguous()).map_err(|error| error.to_string())
        }
        _ => Err(format!("shape {:?} does not fit a storage of {count} numbers", tensor.shape)),
    }
}
