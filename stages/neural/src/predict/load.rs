//! Reads a model that was trained here or elsewhere: what a training left, an adapter with its encoder, or a checkpoint with a head.

use std::path::{Path, PathBuf};

use neural_spec::{Decoding, Finetune, HeadSpec, Method, Scope};
use pipeline::{Job, StageError};
use serde_json::Value;
use tasks::{Clips, Outputs, Protocol, Task, TaskFile};
use tch::Device;

use crate::checkpoint::config::EncoderConfig;
use crate::checkpoint::files::{CONFIG, VOCABULARY};
use crate::checkpoint::tokenizer;
use crate::device;
use crate::error::ModelError;
use crate::evaluate::{prepare, same_outputs};
use crate::models::heads::SEVERAL_LABELS;
use crate::models::{Model, merge};
use crate::peft::files;
use crate::train::summary::{FILE_NAME, Summary};

/// A model with the task that it answers.
pub(super) struct Loaded {
    pub(super) model: Model,
    pub(super) task: TaskFile,
}

impl Loaded {
    /// How its tokens are found if nobody says.
    pub(super) fn decoding(&self) -> Decoding {
        if self.task.keeps_repeats() { Decoding::Uncollapsed {} } else { Decoding::Greedy {} }
    }
}

/// A folder that contains no model that answers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Something else than a model.
    #[error("`{folder}` contains no model: expected `adapter_config.json`, or `config.json` of a model with a head")]
    Model {
        /// The folder.
        folder: PathBuf,
    },
    /// An adapter alone computes nothing.
    #[error("`{folder}` is an adapter, which needs the encoder that it was trained on")]
    Encoder {
        /// The folder.
        folder: PathBuf,
    },
    /// The model does not say what its outputs are.
    #[error("`{folder}` has no `task.json`: an earlier version trained it")]
    Task {
        /// The folder.
        folder: PathBuf,
    },
    /// A checkpoint without a head, or with one that is not known here.
    #[error("`{folder}` has no head that answers: its `config.json` says {found}")]
    Head {
        /// The folder.
        folder: PathBuf,
        /// Class of the model, or what is missing.
        found: String,
    },
}

impl From<LoadError> for StageError {
    fn from(error: LoadError) -> Self {
        let hint = match error {
            LoadError::Model { .. } => {
                "give a node that trains, `adapter/` or `checkpoint/` of its artifact, or a folder of peft or transformers"
            }
            LoadError::Encoder { .. } => "name it with --checkpoint FOLDER; `models` of the results has the small encoders",
            LoadError::Task { .. } => "train it again, or give its node in the place of its folder",
            LoadError::Head { .. } => "give a model for classes (ForSequenceClassification) or texts (ForCTC, with `vocab.json`)",
        };
        Self::failed(error).with_hint(hint)
    }
}

/// Reads the model of a job, ready to answer.
///
/// Errors: [`LoadError`]; files that cannot be read or do not belong together.
pub(super) fn model(job: &Job) -> Result<Loaded, StageError> {
    let given = job.places.get("model")?;
    let is_model = |folder: &PathBuf| folder.join(files::CONFIG).is_file() || folder.join(CONFIG).is_file();
    let saved = [given.join("adapter"), given.join("checkpoint"), given.to_owned()].into_iter().find(is_model);
    let saved = saved.ok_or_else(|| LoadError::Model { folder: given.to_owned() })?;
    let is_adapter = saved.join(files::CONFIG).is_file();
    let encoder =
        || job.places.0.get("encoder").map(PathBuf::as_path).ok_or_else(|| LoadError::Encoder { folder: saved.clone() });
    let device = device::of_job(job);
    if let Some(described) = [saved.as_path(), given].into_iter().find(|folder| folder.join(FILE_NAME).is_file()) {
        let summary = Summary::read(described)?;
        let task = match job.places.0.get("task") {
            Some(task) => TaskFile::read(task)?,
            None if saved.join(tasks::task::FILE_NAME).is_file() => TaskFile::read(&saved)?,
            None => return Err(LoadError::Task { folder: saved.clone() }.into()),
        };
        same_outputs(&summary.outputs, &task.outputs.names())?;
        return own(job, &summary, task, &saved, if is_adapter { Some(encoder()?) } else { None }, device);
    }
    if !is_adapter {
        return of_transformers(&saved, device);
    }
    // One that peft wrote.
    let merged = job.out.join("merged");
    let doubt = merge(&saved, encoder()?, &merged)?.doubt;
    if let Some(doubt) = &doubt {
        job.progress.note(doubt);
    }
    let loaded = of_transformers(&merged, device);
    std::fs::remove_dir_all(&merged).map_err(StageError::io("remove", &merged))?;
    loaded
}

/// A model that was trained here. `encoder`: that of an adapter.
fn own(
    job: &Job,
    summary: &Summary,
    task: TaskFile,
    saved: &Path,
    encoder: Option<&Path>,
    device: Device,
) -> Result<Loaded, StageError> {
    // The seed is of no account: every parameter that it would draw is read.
    let start = |encoder| Model::new(encoder, &summary.method.as_saved(), &summary.head, task.outputs.len(), 0, device);
    let mut model = start(encoder.unwrap_or(saved))?;
    model.close_mix_with(summary.layer_sum_last);
    match encoder {
        Some(encoder) => {
            let doubt = model.load_adapter(saved)?.doubt(saved, encoder)?;
            if let Some(doubt) = &doubt {
                job.progress.note(doubt);
            }
        }
        None => model.load_head(saved)?,
    }
    prepare(&mut model, &task);
    Ok(Loaded { model, task })
}

/// A checkpoint of transformers with a head.
fn of_transformers(folder: &Path, device: Device) -> Result<Loaded, StageError> {
    let config = EncoderConfig::read(folder).map_err(ModelError::from)?;
    let class = config.other.get("architectures").and_then(|list| list[0].as_str()).unwrap_or("no class").to_owned();
    let no_head = |found: &str| LoadError::Head { folder: folder.to_owned(), found: found.to_owned() };
    let number = |name: &str| config.other.get(name).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok());
    let layer_sum = config.other.get("use_weighted_layer_sum").and_then(Value::as_bool).unwrap_or(false);
    let (task, outputs, head) = if class.ends_with("ForCTC") {
        let vocabulary =
            folder.join(VOCABULARY).is_file().then(|| tokenizer::read(folder)).transpose().map_err(ModelError::from)?;
        let vocabulary =
            vocabulary.flatten().ok_or_else(|| no_head("ForCTC, and there is no `vocab.json` with its special tokens"))?;
        ("speech_recognition", Outputs::Tokens(vocabulary), HeadSpec::Ctc { dropout: 0.0, layer_sum })
    } else if class.ends_with("ForSequenceClassification") || class.ends_with("ForAudioClassification") {
        let labels = labels(&config).ok_or_else(|| no_head("no `id2label` with a name for each class"))?;
        let projector_size = number("classifier_proj_size").unwrap_or(256); // as in transformers
        if config.other.get("problem_type").is_some_and(|kind| kind == SEVERAL_LABELS) {
            ("tagging", Outputs::Tags { labels }, HeadSpec::Tagging { projector_size, layer_sum })
        } else {
            ("keyword_spotting", Outputs::Classes { labels }, HeadSpec::Classification { projector_size, layer_sum })
        }
    } else {
        return Err(no_head(&class).into());
    };
    let method = Method::Finetune(Finetune { scope: Scope::All, layers: None });
    let mut model = Model::new(folder, &method, &head, outputs.len(), 0, device)?;
    if let Some(last) = config.other.get("layer_sum_last").and_then(|last| serde_json::from_value(last.clone()).ok()) {
        model.close_mix_with(last);
    }
    model.load_head(folder)?;
    let task = Task::named(task).expect("a known task");
    let task = TaskFile { task, name: None, protocol: Protocol::Sound, outputs, clips: Clips::default() };
    prepare(&mut model, &task);
    Ok(Loaded { model, task })
}

/// Names of the classes, by index.
fn labels(config: &EncoderConfig) -> Option<Vec<String>> {
    let names = config.other.get("id2label")?.as_object()?;
    (0..names.len()).map(|id| Some(names.get(&id.to_string())?.as_str()?.to_owned())).collect()
}
