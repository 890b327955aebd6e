//! Which encoder an adapter was trained on, and what says so.
//!
//! An adapter of this project records its encoder twice: in `sure.json` and in the header of its tensors, so that the two files that peft
//! knows are enough. An adapter of another program names its encoder at most. A folder of this machine is compared, two names of the Hub
//! are compared with each other, and any other name that differs is reported, but proves nothing.

use std::path::{Path, PathBuf};

use crate::checkpoint::base::Base;
use crate::checkpoint::config::EncoderConfig;
use crate::error::ModelError;

/// Reference of an adapter to its encoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BaseReference {
    /// Digest and shape of the encoder.
    Recorded(Base),
    /// The `base_model_name_or_path` of peft: a name of the Hub, or a folder of some machine.
    Named(String),
    /// No reference.
    Absent,
}

/// Outcome of comparing the encoder of an adapter with the one that it was put on, where the shapes fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Certainty {
    /// It was trained on these very weights.
    Same,
    /// The adapter names an encoder that is not at hand.
    Named(String),
    /// The adapter names none.
    Unknown,
}

impl BaseReference {
    /// The encoder that was meant, where that can be found out here. As in transformers, a folder goes before a name of the Hub.
    pub(crate) fn base(&self) -> Option<Base> {
        match self {
            Self::Recorded(base) => Some(base.clone()),
            Self::Named(name) if Path::new(name).is_dir() => Base::read(Path::new(name)).ok(),
            Self::Named(_) | Self::Absent => None,
        }
    }
}

impl Certainty {
    /// Why it is not certain that an adapter belongs to the encoder in `folder`; none when it is, or when their names agree.
    ///
    /// Errors: [`ModelError::OtherName`] when both have names of the Hub, and not the same; a folder whose `config.json` cannot be read.
    pub fn doubt(&self, adapter_folder: &Path, folder: &Path) -> Result<Option<String>, ModelError> {
        let (adapter, encoder) = (adapter_folder.display(), folder.display());
        let checked = "only names and shapes of tensors were compared";
        let wanted = match self {
            Self::Same => return Ok(None),
            Self::Unknown => {
                return Ok(Some(format!(
                    "nothing in `{adapter}` says which encoder it was trained on: {checked} with `{encoder}`"
                )));
            }
            Self::Named(name) => name,
        };
        let known = names(folder, &EncoderConfig::read(folder)?);
        if known.iter().any(|name| agree(wanted, name)) {
            return Ok(None);
        }
        if let (Some(found), false, true) = (repository(folder), is_path(wanted), wanted.contains('/')) {
            return Err(ModelError::OtherName { folder: adapter_folder.to_owned(), expected: wanted.clone(), found });
        }
        let known = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ");
        Ok(Some(format!(
            "the adapter in `{adapter}` was trained on `{wanted}`, but the encoder in `{encoder}` goes by {known}: {checked}"
        )))
    }
}

/// The names that a checkpoint folder goes by: that of its repository in a cache of the Hub; elsewhere its own and the one in its
/// `config.json`, which may be that of what it was made from.
fn names(folder: &Path, config: &EncoderConfig) -> Vec<String> {
    if let Some(repository) = repository(folder) {
        return vec![repository];
    }
    let own = whole(folder).file_name().map(|name| name.to_string_lossy().into_owned());
    let inside = config.other.get("_name_or_path").and_then(|name| name.as_str()).filter(|name| !name.is_empty());
    let mut names: Vec<String> = own.into_iter().chain(inside.map(str::to_owned)).collect();
    names.dedup();
    names
}

/// `facebook/hubert-base-ls960` for a folder inside `models--facebook--hubert-base-ls960`.
fn repository(folder: &Path) -> Option<String> {
    let whole = whole(folder);
    let mut parts = whole.iter().rev().map(|part| part.to_string_lossy());
    parts.find_map(|part| Some(part.strip_prefix("models--")?.replace("--", "/")))
}

fn whole(folder: &Path) -> PathBuf {
    folder.canonicalize().unwrap_or_else(|_| folder.to_owned())
}

/// True if a name is a folder's rather than one of the Hub.
fn is_path(name: &str) -> bool {
    name.starts_with(['/', '.', '~']) || name.matches('/').count() > 1
}

/// True if the name that an adapter gives is one that an encoder goes by. A copy of `facebook/wav2vec2-base` may lie in a folder
/// `wav2vec2-base`; the last part of a path of some other machine (`checkpoint-500`) says nothing.
fn agree(wanted: &str, name: &str) -> bool {
    let last = |name: &str| name.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_lowercase();
    wanted == name || (!is_path(wanted) && last(wanted) == last(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(wanted: &str, name: &str, expected: bool) {
        assert_eq!(agree(wanted, name), expected, "{wanted} and {name}");
    }

    #[test]
    fn names_of_the_hub_are_known_by_their_last_part_and_paths_as_a_whole() {
        check("facebook/wav2vec2-base", "facebook/wav2vec2-base", true);
        check("facebook/wav2vec2-base", "wav2vec2-base", true);
        check("facebook/wav2vec2-base", "mirror/Wav2Vec2-Base", true);
        check("facebook/wav2vec2-base", "facebook/wav2vec2-base-960h", false);
        check("facebook/wav2vec2-base", "wav2vec2", false);
        check("/home/a/checkpoint-500", "checkpoint-500", false);
        check("/home/a/checkpoint-500", "/home/a/checkpoint-500", true);
    }

    #[test]
    fn a_folder_goes_by_its_repository_and_by_what_its_configuration_says() {
        let scratch = tempfile::tempdir().unwrap();
        let (cached, plain) = (scratch.path().join("models--facebook--hubert-base/snapshots/0123"), scratch.path().join("mine"));
        std::fs::create_dir_all(&cached).unwrap();
        let mut config = EncoderConfig::default();
        assert_eq!(names(&plain, &config), ["mine"]);
        config.other.insert("_name_or_path".to_owned(), "some/parent".into());
        assert_eq!(names(&plain, &config), ["mine", "some/parent"]);
        assert_eq!(names(&cached, &config), ["facebook/hubert-base"]);
    }
}
