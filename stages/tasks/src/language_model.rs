//! The stage `task.language_model`: takes a language model of this machine into the store, once it has been read.

use std::fs;

use pipeline::source::SourceNeed;
use pipeline::{Digest, Job, Slot, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ngram::NgramModel;

/// Takes an n-gram model in the ARPA format into the store: for `peft.evaluate`, as `<stage>/model.arpa`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LanguageModel {
    /// Name in the machine's settings: the folder `language_models.<name>`, with one file that ends in `.arpa`.
    pub name: String,
}

/// The file within the artifact.
pub const FILE_NAME: &str = "model.arpa";

/// A folder without the one model.
#[derive(Debug, thiserror::Error)]
#[error("`{folder}` holds {found} files that end in `.arpa`, expected one")]
pub struct NotOne {
    folder: std::path::PathBuf,
    found: usize,
}

fn is_model(path: &str) -> bool {
    std::path::Path::new(path).extension().is_some_and(|ending| ending.eq_ignore_ascii_case("arpa")) && !path.contains('/')
}

impl LanguageModel {
    fn place(&self) -> String {
        format!("language_models.{}", self.name)
    }
}

impl Stage for LanguageModel {
    const KIND: &'static str = "task.language_model";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "takes a language model of this machine into the store";

    fn slots() -> Vec<Slot> {
        Vec::new()
    }
    fn outputs(&self) -> Vec<String> {
        vec![FILE_NAME.to_owned()]
    }
    fn sources(&self) -> Vec<SourceNeed> {
        vec![SourceNeed { place: self.place(), wants: Box::new(is_model) }]
    }
}

/// The body of the stage.
///
/// Errors: [`NotOne`], a file that is no model, [`StageError::SourceChanged`] for one that is no longer what the plan saw.
pub fn run(params: &LanguageModel, job: &Job) -> Result<(), StageError> {
    let place = params.place();
    let tree = job.sources.get(&place).ok_or(StageError::NoPlace { place })?;
    let [file] = &tree.files[..] else {
        return Err(StageError::failed(NotOne { folder: tree.root.clone(), found: tree.files.len() }));
    };
    let path = tree.root.join(&file.path);
    let bytes = fs::read(&path).map_err(StageError::io("read", &path))?;
    if Digest::of(&bytes) != file.digest {
        return Err(StageError::SourceChanged { path });
    }
    let hint = format!("`{}` should be in the ARPA format", path.display());
    NgramModel::parse(&String::from_utf8_lossy(&bytes)).map_err(|error| StageError::failed(error).with_hint(hint))?;
    let to = job.out.join(FILE_NAME);
    fs::write(&to, bytes).map_err(StageError::io("write", &to))
}
