//! Merging an adapter into its encoder: a plain checkpoint folder that needs no adapter any more.

use std::fs;
use std::path::Path;

use neural_spec::{HeadSpec, LastState};
use tasks::Vocabulary;
use tch::Device;

use super::model::{Model, ParameterCounts, other_shape};
use crate::checkpoint::config::EncoderConfig;
use crate::checkpoint::error::CheckpointError;
use crate::error::ModelError;
use crate::nn::weights::Weights;
use crate::peft::files;

/// Outcome of a merge.
#[derive(Debug, Clone)]
pub struct Merged {
    /// Parameters of the checkpoint.
    pub counts: ParameterCounts,
    /// Why it is not certain that the adapter belongs to the encoder.
    pub doubt: Option<String>,
}

/// Merges `adapter` (a folder of its own, or what a training left) into `encoder` and writes the checkpoint folder `out`.
///
/// Errors: [`ModelError::CannotMerge`] for a method that is more than a change of weights; [`ModelError::OtherBase`] for an adapter
/// of another encoder; [`ModelError::Exists`] rather than writing over anything. `out` appears whole or not at all.
pub fn merge(adapter: &Path, encoder: &Path, out: &Path) -> Result<Merged, ModelError> {
    if out.file_name().is_none() {
        return Err(ModelError::NoName);
    }
    if out.exists() {
        return Err(ModelError::Exists { path: out.to_owned() });
    }
    let inside = adapter.join("adapter");
    let adapter = if inside.is_dir() { inside.as_path() } else { adapter };
    let config = EncoderConfig::read(encoder)?;
    let method = files::read_method(adapter, &config.architecture())?;
    let (head, labels, last_state, vocabulary) = match files::read_origin(adapter)? {
        Some(origin) => {
            let ids = || origin.labels.iter().cloned().zip(0..).collect();
            let vocabulary = origin.vocabulary.clone().or_else(|| Vocabulary::from_map(&ids()));
            (origin.head, origin.labels, origin.layer_sum_last, vocabulary)
        }
        None => head_of(&files::read_weights(adapter)?)
            .map(|(head, labels)| (head, labels, LastState::default(), None))
            .ok_or_else(|| ModelError::NoHead { folder: adapter.to_owned() })?,
    };
    // Every value that the seed would draw is read.
    let model = Model::new(encoder, &method, &head, labels.len(), 0, Device::Cpu);
    let mut model = match model {
        Err(ModelError::Method(misfit)) => {
            return Err(other_shape(adapter, &config, vec![misfit.to_string()]));
        }
        other => other?,
    };
    model.close_mix_with(last_state);
    model.name_tokens(vocabulary);
    let doubt = model.load_adapter(adapter)?.doubt(adapter, encoder)?;
    let merged = model.merged()?;

    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(CheckpointError::io("create", parent))?;
    let name = out.file_name().unwrap_or_default().to_string_lossy();
    let beside = parent.join(format!(".{name}.{}", std::process::id()));
    fs::create_dir(&beside).map_err(CheckpointError::io("create", &beside))?;
    let written = merged
        .save_whole(&beside, &labels)
        .and_then(|()| fs::rename(&beside, out).map_err(|error| CheckpointError::io("create", out)(error).into()));
    if written.is_err() {
        // The reason why it was not written matters more than that a leftover stays.
        let _ = fs::remove_dir_all(&beside);
    }
    written.map(|()| Merged { counts: merged.num_parameters(), doubt })
}

/// The head of an adapter that another program wrote, and names for its classes as transformers has them.
fn head_of(tensors: &Weights) -> Option<(HeadSpec, Vec<String>)> {
    let rows = |name: &str| tensors.get(name).map(|tensor| tensor.size()[0] as u32);
    let (projector_size, classes) = (rows("projector.weight")?, rows("classifier.weight")?);
    let head = HeadSpec::Classification { projector_size, layer_sum: tensors.contains_key("layer_weights") };
    Some((head, (0..classes).map(|class| format!("LABEL_{class}")).collect()))
}
