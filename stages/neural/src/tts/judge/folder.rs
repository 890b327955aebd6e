//! The folder of a trained judge.

use std::path::Path;

use audio::features::mel::MelSpectrogram;
use neural_spec::JudgeKind;
use pipeline::StageError;
use serde::{Deserialize, Serialize};
use tch::Device;

use super::JudgeError;
use super::network::{Network, Sizes, tensors};
use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::json::{read_json, write_json};
use crate::checkpoint::safetensors;
use crate::error::ModelError;
use crate::nn::weights::Weights;

const FILE: &str = "judge.json";
const MODEL: &str = "model.safetensors";
/// Raised when the files change.
const FORMAT: u32 = 1;

/// Content of `judge.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgeFile {
    /// Format of the folder.
    pub format: u32,
    /// Kind of judgement.
    pub judge: JudgeKind,
    /// Spectrogram that it was trained on.
    pub mel: MelSpectrogram,
    /// Width of the layers.
    pub hidden: u32,
    /// Numbers of a speaker's vector.
    pub vector_size: u32,
    /// Characters, the first of them empty for the blank; or speakers.
    pub outputs: Vec<String>,
}

/// A trained judge.
#[derive(Debug)]
pub struct Judge {
    /// Description.
    pub file: JudgeFile,
    /// The network.
    pub network: Network,
    /// Device of its tensors.
    pub device: Device,
}

fn name(kind: JudgeKind) -> &'static str {
    match kind {
        JudgeKind::Words => "words",
        JudgeKind::Voice => "voices",
    }
}

impl JudgeFile {
    /// Describes a judge that is to be trained.
    pub fn new(params: &neural_spec::JudgeTrain, mel: &MelSpectrogram, outputs: Vec<String>) -> Self {
        let neural_spec::JudgeTrain { judge, hidden, vector_size, .. } = *params;
        Self { format: FORMAT, judge, mel: mel.clone(), hidden, vector_size, outputs }
    }

    /// Sizes of the network.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            bands: self.mel.num_mel_bins as i64,
            hidden: self.hidden.into(),
            vector: self.vector_size.into(),
            outputs: self.outputs.len() as i64,
        }
    }

    /// Writes the folder.
    pub(super) fn write(&self, folder: &Path, weights: &Weights) -> Result<(), StageError> {
        let written = write_json(&folder.join(FILE), self).and_then(|()| safetensors::write(&folder.join(MODEL), weights));
        Ok(written.map_err(ModelError::from)?)
    }
}

impl Judge {
    /// Reads a judge of a kind.
    ///
    /// Errors: a folder that holds none, damaged files.
    pub fn open(folder: &Path, kind: JudgeKind, device: Device) -> Result<Self, StageError> {
        let none = |found| {
            let error = JudgeError::NoJudge { folder: folder.to_owned(), expected: name(kind), found };
            StageError::failed(error).with_hint("give a judge.train node of that kind")
        };
        if !folder.join(FILE).is_file() {
            return Err(none(None));
        }
        let file: JudgeFile = read_json(&folder.join(FILE)).map_err(ModelError::from)?;
        if file.judge != kind {
            return Err(none(Some(name(file.judge))));
        }
        let path = folder.join(MODEL);
        let mut weights = safetensors::read(&path, |_| true).map_err(ModelError::from)?;
        for (name, shape, _) in tensors(kind, file.sizes()) {
            if weights.get(&name).map(tch::Tensor::size).as_ref() != Some(&shape) {
                let reason = format!("expected a tensor `{name}` of shape {shape:?}");
                return Err(ModelError::from(CheckpointError::Damaged { path, reason }).into());
            }
        }
        for tensor in weights.values_mut() {
            *tensor = tensor.f_to_device(device).map_err(ModelError::from)?;
        }
        Ok(Self { network: Network::new(kind, &weights), file, device })
    }
}
