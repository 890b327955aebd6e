//! Reading and writing safetensors files, one tensor in memory at a time.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use neural_spec::checkpoint::header::{self, HeaderError, LENGTH_BYTES};
use safetensors::tensor::Metadata;
use safetensors::{Dtype, View};
use serde_json::Value;
use tch::{Kind, Tensor};

use super::error::CheckpointError;
use crate::nn::weights::Weights;

/// Reads the tensors whose names `wanted` accepts, as float32 on the CPU (integers stay what they are).
///
/// Errors: [`CheckpointError::Damaged`] for a truncated file or a false header.
pub fn read(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<Weights, CheckpointError> {
    let mut file = File::open(path).map_err(CheckpointError::io("read", path))?;
    let (start, header) = read_header(&mut file, path)?;
    let mut weights = Weights::new();
    let mut bytes = Vec::new(); // one buffer for all: filling new memory costs more than reading a file that is in memory
    for name in header.offset_keys().into_iter().filter(|name| wanted(name)) {
        let info = header.info(&name).expect("the name comes from the same header");
        let (from, to) = info.data_offsets;
        bytes.resize(to - from, 0);
        file.seek(SeekFrom::Start(start + from as u64)).map_err(CheckpointError::io("read", path))?;
        file.read_exact(&mut bytes).map_err(CheckpointError::io("read", path))?;
        let Some(kind) = kind_of(info.dtype) else {
            let reason = format!("tensor `{name}` has type {:?}, which is not supported", info.dtype);
            return Err(CheckpointError::Damaged { path: path.to_owned(), reason });
        };
        let shape: Vec<i64> = info.shape.iter().map(|&size| size as i64).collect();
        let tensor = Tensor::f_from_data_size(&bytes, &shape, kind).map_err(CheckpointError::torch(path))?;
        let tensor = if tensor.is_floating_point() { tensor.to_kind(Kind::Float) } else { tensor };
        weights.insert(name, tensor);
    }
    Ok(weights)
}

/// The header and where the data behind it starts; checked against the size of the file.
fn read_header(file: &mut File, path: &Path) -> Result<(u64, Metadata), CheckpointError> {
    header::read(file).map_err(|error| match error {
        HeaderError::Io(source) => CheckpointError::io("read", path)(source),
        other => CheckpointError::Damaged { path: path.to_owned(), reason: other.to_string() },
    })
}

fn kind_of(dtype: Dtype) -> Option<Kind> {
    Some(match dtype {
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::F32 => Kind::Float,
        Dtype::F64 => Kind::Double,
        Dtype::U8 => Kind::Uint8,
        Dtype::I32 => Kind::Int,
        Dtype::I64 => Kind::Int64,
        Dtype::BOOL => Kind::Bool,
        _ => return None,
    })
}

/// A note that [`write_with_note`] put into a file's header; none when it has no such note.
///
/// Errors: [`CheckpointError::Damaged`] for a truncated file or a false header.
pub fn note(path: &Path, name: &str) -> Result<Option<String>, CheckpointError> {
    let mut file = File::open(path).map_err(CheckpointError::io("read", path))?;
    let (_, header) = read_header(&mut file, path)?;
    Ok(header.metadata().as_ref().and_then(|notes| notes.get(name).cloned()))
}

/// Writes tensors as float32, sorted by name, so that equal tensors give equal bytes.
pub fn write(path: &Path, weights: &Weights) -> Result<(), CheckpointError> {
    let views = views(path, weights)?;
    safetensors::serialize_to_file(views, Some(format_note()), path).map_err(not_written(path))
}

/// Writes tensors as [`write()`] does, with a note in the header, which other programs ignore. For files that fit in memory twice.
pub fn write_with_note(path: &Path, weights: &Weights, name: &str, text: &str) -> Result<(), CheckpointError> {
    let mut bytes = safetensors::serialize(views(path, weights)?, Some(format_note())).map_err(not_written(path))?;
    // Two notes given to the crate would come out in the order of a hash map, another one each time.
    let (head, rest) = bytes.split_at(LENGTH_BYTES as usize);
    let length = u64::from_le_bytes(head.try_into().expect("split there")) as usize;
    let mut header: Value = serde_json::from_slice(&rest[..length]).expect("the crate writes JSON");
    header["__metadata__"][name] = text.into();
    let mut header = header.to_string().into_bytes();
    header.resize(header.len().next_multiple_of(LENGTH_BYTES as usize), b' ');
    let front = (header.len() as u64).to_le_bytes().into_iter().chain(header).collect::<Vec<_>>();
    bytes.splice(..LENGTH_BYTES as usize + length, front);
    std::fs::write(path, bytes).map_err(CheckpointError::io("write", path))
}

fn views<'a>(path: &Path, weights: &'a Weights) -> Result<Vec<(&'a String, FloatView)>, CheckpointError> {
    let view = |(name, tensor)| Ok((name, FloatView::of(tensor).map_err(CheckpointError::torch(path))?));
    weights.iter().map(view).collect()
}

/// transformers refuses files whose header does not say which framework wrote them.
fn format_note() -> HashMap<String, String> {
    HashMap::from([("format".to_owned(), "pt".to_owned())])
}

fn not_written(path: &Path) -> impl FnOnce(safetensors::SafeTensorError) -> CheckpointError {
    let path = path.to_owned();
    move |error| match error {
        safetensors::SafeTensorError::IoError(source) => CheckpointError::Io { action: "write", path, source },
        other => CheckpointError::Damaged { path, reason: other.to_string() },
    }
}

/// A tensor's bytes, copied out of libtorch.
struct FloatView {
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl FloatView {
    fn of(tensor: &Tensor) -> Result<Self, tch::TchError> {
        let tensor = tensor.detach().f_to_device(tch::Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
        let mut bytes = vec![0; tensor.numel() * size_of::<f32>()];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        Ok(Self { shape: tensor.size().into_iter().map(|size| size as usize).collect(), bytes })
    }
}

impl View for FloatView {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        (&self.bytes).into()
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}
