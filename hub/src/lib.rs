//! Models on the Hugging Face Hub: names with a pinned revision, where they lie in the Hub's cache on this machine, their
//! download into it, and the upload of a folder.
//!
//! The cache is the one that Python's `huggingface_hub` uses, so that nothing is downloaded twice. A file that was broken off
//! is taken up where it ended; each is compared with the Hub's checksum before it counts. Knows nothing of what is in the files.

mod check;
mod push;
/// The files of the model at that commit.
fn list(repo: &ApiRepo, name: &Pinned) -> Result<BTreeSet<String>, HubError> {
    let info = repo.info().map_err(|source| match source.to_string() {
        text if ["401", "403", "404"].iter().any(|status| text.contains(status)) => {
            HubError::NotThere { repo: name.repo.clone(), commit: name.commit.clone() }
        }
        _ => HubError::Fetch { what: "the list of files".to_owned(), repo: name.repo.clone(), source: Box::new(source) },
    })?;
    if info.sha != name.commit {
        return Err(HubError::NotThere { repo: name.repo.clone(), commit: name.commit.clone() });
    }
    Ok(info.siblings.into_iter().map(|file| file.rfilename).collect())
}

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use serde::Deserialize;

pub use push::{ModelName, PushError, PushOptions, Pusher, Upload, endpoint, uploads};

/// A model at one commit: `hub:facebook/wav2vec2-base@0b5b8e868dd84f03fd87d01f9c4ff0f080fecfe8`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    repo: String,
    commit: String,
}

/// Prefix of names on the Hub.
pub const SCHEME: &str = "hub:";

/// A checkpoint that cannot be had from the Hub.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The name is not one.
    #[error("`{text}` is no checkpoint on the Hub: expected `hub:ORGANISATION/NAME@COMMIT` with all 40 digits of the commit")]
    Name {
        /// As written.
        text: String,
    },
    /// There is no such model, or no such commit of it; or it is not for everybody.
    #[error("the Hub has no model `{repo}` at commit {commit}, or does not show it to everybody")]
    NotThere {
        /// The model.
        repo: String,
        /// The commit.
        commit: String,
    },
    /// No answer, or none that can be used.
    #[error("cannot fetch {what} of `{repo}`")]
    Fetch {
        /// A file, or the list of files.
        what: String,
        /// The model.
        repo: String,
        /// Reason of the failure.
        #[source]
        source: Box<ApiError>,
    },
    /// It holds no weights in a layout we read.
    #[error("`{repo}` at commit {commit} lacks `{missing}`")]
    Lacks {
        /// The model.
        repo: String,
        /// The commit.
        commit: String,
        /// The file.
        missing: String,
    },
    /// Download with another size or digest than the Hub states.
    #[error("`{file}` of `{repo}` arrived damaged: its checksum is {found}, the Hub says {expected}; it was deleted")]
    Checksum {
        /// The file.
        file: String,
        /// The model.
        repo: String,
        /// The Hub's.
        expected: String,
        /// Ours.
        found: String,
    },
    /// The Hub gives no checksum that we know for it.
    #[error("the Hub gives `{tag}` as the checksum of `{file}`, which is neither SHA-256 nor a Git hash")]
    NoChecksum {
        /// The file.
        file: String,
        /// The entity tag.
        tag: String,
    },
    /// A file of the cache cannot be read or removed.
    #[error("cannot {action} `{path}`")]
    Io {
        /// The verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

impl Pinned {
    /// The folder it has, or would have, in the Hub's cache on this machine.
    pub fn folder(&self) -> PathBuf {
        self.folder_in(Cache::from_env().path())
    }

    fn folder_in(&self, cache: &Path) -> PathBuf {
        cache.join(format!("models--{}", self.repo.replace('/', "--"))).join("snapshots").join(&self.commit)
    }

    /// Returns the steps for a machine that does not reach the Hub.
    pub fn by_hand(&self) -> String {
        format!(
            "on a machine with internet: `hf download {} --revision {} --local-dir FOLDER`; copy FOLDER here and name it in sure.toml instead",
            self.repo, self.commit
        )
    }
}

/// True for the name of an organisation or of a model.
fn is_plain(part: &str) -> bool {
    !part.is_empty() && !part.starts_with('.') && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

impl FromStr for Pinned {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let parts = text.strip_prefix(SCHEME).and_then(|rest| rest.split_once('@'));
        let parts = parts.and_then(|(repo, commit)| Some((repo.split_once('/')?, commit)));
        match parts {
            Some(((organisation, name), commit))
                if is_plain(organisation)
                    && is_plain(name)
                    && commit.len() == 40
                    && commit.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c)) =>
            {
                Ok(Self { repo: format!("{organisation}/{name}"), commit: commit.to_owned() })
            }
            _ => Err(HubError::Name { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}@{}", self.repo, self.commit)
    }
}

const CONFIG: &str = "config.json";
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const PICKLE: &str = "pytorch_model.bin";
/// Taken along where they are.
const BESIDE: [&str; 4] = ["preprocessor_config.json", "vocab.json", "tokenizer_config.json", "special_tokens_map.json"];

/// The Hub and its cache on this machine.
#[derive(Debug)]
pub struct Hub {
    api: hf_hub::api::sync::Api,
    cache: PathBuf,
}

impl Hub {
    /// As the environment says (`HF_HOME`, `HF_ENDPOINT`). Progress is drawn on standard error when that is a terminal.
    ///
    /// Errors: [`HubError::Fetch`] when a client cannot be made.
    pub fn from_env() -> Result<Self, HubError> {
        Self::new(ApiBuilder::from_env().with_retries(3), Cache::from_env().path().clone())
    }

    fn new(builder: ApiBuilder, cache: PathBuf) -> Result<Self, HubError> {
        let failed =
            |source| HubError::Fetch { what: "anything".to_owned(), repo: "the Hub".to_owned(), source: Box::new(source) };
        Ok(Self { api: builder.build().map_err(failed)?, cache })
    }

    /// Downloads what a checkpoint needs and is not there yet; gives its folder in the cache.
    ///
    /// Errors: [`HubError`]. What was downloaded stays, so that another attempt goes on from there.
    pub fn fetch(&self, name: &Pinned) -> Result<PathBuf, HubError> {
        let repo = self.api.repo(Repo::with_revision(name.repo.clone(), RepoType::Model, name.commit.clone()));
        let there = list(&repo, name)?;
        let lacks =
            |file: &str| HubError::Lacks { repo: name.repo.clone(), commit: name.commit.clone(), missing: file.to_owned() };
        if !there.contains(CONFIG) {
            return Err(lacks(CONFIG));
        }
        let folder = name.folder_in(&self.cache);
        let get = |file: &str| self.get(&repo, name, &folder, file);
        get(CONFIG)?;
        for file in BESIDE.into_iter().filter(|&file| there.contains(file)) {
            get(file)?;
        }
        if there.contains(SINGLE) {
            get(SINGLE)?;
        } else if there.contains(INDEX) {
            get(INDEX)?;
            for file in parts(&folder.join(INDEX))? {
                if !there.contains(&file) {
                    return Err(lacks(&file));
                }
                get(&file)?;
            }
        } else if there.contains(PICKLE) {
            get(PICKLE)?;
        } else {
            return Err(lacks(SINGLE));
        }
        Ok(folder)
    }

    /// Downloads one file and compares it with the Hub's checksum, unless it is there.
    fn get(&self, repo: &ApiRepo, name: &Pinned, folder: &Path, file: &str) -> Result<(), HubError> {
        let place = folder.join(file);
        if place.exists() {
            return Ok(());
        }
        let failed = |source| HubError::Fetch { what: format!("`{file}`"), repo: name.repo.clone(), source: Box::new(source) };
        match repo.download(file) {
            // A file that was whole when the program was killed leaves nothing to ask for.
            Err(error) if error.to_string().contains("416") => {
                self.forget_parts(name)?;
                repo.download(file).map_err(failed)?
            }
            result => result.map_err(failed)?,
        };
        let blob = fs::canonicalize(&place).map_err(HubError::io("find", &place))?;
        let tag = blob.file_name().map_or_else(String::new, |tag| tag.to_string_lossy().into_owned());
        let Some(found) = check::checksum(&blob, tag.len()).map_err(HubError::io("read", &blob))? else {
            return Err(HubError::NoChecksum { file: file.to_owned(), tag });
        };
        if found == tag {
            return Ok(());
        }
        for path in [&place, &blob] {
            fs::remove_file(path).map_err(HubError::io("remove", path))?;
        }
        Err(HubError::Checksum { file: file.to_owned(), repo: name.repo.clone(), expected: tag, found })
    }

    /// Removes what downloads that were broken off left of a model.
    fn forget_parts(&self, name: &Pinned) -> Result<(), HubError> {
        let folder = name.folder_in(&self.cache).join("../../blobs");
        for entry in fs::read_dir(&folder).map_err(HubError::io("list", &folder))?.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "part") {
                fs::remove_file(&path).map_err(HubError::io("remove", &path))?;
            }
        }
        Ok(())
    }
}

impl HubError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// The files that a list of weight files names.
fn parts(index: &Path) -> Result<BTreeSet<String>, HubError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = fs::read(index).map_err(HubError::io("read", index))?;
    let listed: Index = serde_json::from_slice(&text).map_err(|error| HubError::io("read", index)(error.into()))?;
    Ok(listed.weight_map.into_values().collect())
}
