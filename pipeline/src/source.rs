//! Trees of files outside the store: what a stage needs of them, and what is in them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A tree of outside files that a stage reads.
pub struct SourceNeed {
    /// Name of the place, for example `corpora.fsdd`; where it is on this machine is a matter of settings.
    pub place: String,
    /// Whether a file (path relative to the root, `/` between its parts) belongs to what is read. Hidden files never do.
    pub wants: Box<dyn Fn(&str) -> bool + Send + Sync>,
}

/// The files of an outside tree, sorted by path, each with the hash of its content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// Where it is on this machine.
    pub root: PathBuf,
    /// Its files.
    pub files: Vec<TreeFile>,
}

/// A file of a [`Tree`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeFile {
    /// Relative to the root, `/` between its parts.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// BLAKE3 of its content.
    pub digest: crate::Digest,
}

impl Tree {
    /// The file at a path relative to the root.
    pub fn find(&self, path: &str) -> Option<&TreeFile> {
        let at = self.files.binary_search_by(|file| file.path.as_str().cmp(path)).ok()?;
        Some(&self.files[at])
    }
}
