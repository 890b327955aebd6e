//! Errors of a store, with advice to the user.

use std::io;
use std::path::{Path, PathBuf};

use crate::Digest;
use crate::records::RecordsError;

/// A store that cannot be used, or not for this.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file or folder of the store cannot be read or written.
    #[error("cannot {action} `{path}`")]
    Io {
        /// The verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The records of results and runs cannot be read or written.
    #[error("the store `{root}` cannot be used")]
    Records {
        /// The store.
        root: PathBuf,
        /// The cause.
        #[source]
        source: RecordsError,
    },
    /// The store is on a file system that other machines share.
    #[error("the store `{root}` is on a network file system ({kind}), where locks do not reach across machines")]
    Network {
        /// The store.
        root: PathBuf,
        /// Type of the file system.
        kind: String,
    },
    /// A process of another machine uses the store, or was killed while it did.
    #[error("the machine {machine} uses this store, or did until it was stopped: it left `{folder}`")]
    OtherMachine {
        /// Name of the other machine.
        machine: String,
        /// Scratch folder of the process.
        folder: PathBuf,
    },
    /// An artifact lacks the part that an input names.
    #[error("the artifact has no `{part}`; it holds {holds}")]
    NoPart {
        /// The part.
        part: String,
        /// Names of the parts that it has.
        holds: String,
    },
    /// Files that a compute node wrote are not those that it told of.
    #[error("the result in `{folder}` is not as its compute node wrote it: {what}")]
    BadResult {
        /// Folder of the result.
        folder: PathBuf,
        /// The first difference.
        what: String,
    },
    /// The artifacts cannot move to a shared folder while the store is in use.
    #[error("another `sure` uses the store `{root}`, whose artifacts have yet to move to `{shared}`")]
    InUse {
        /// The store.
        root: PathBuf,
        /// The shared folder.
        shared: PathBuf,
    },
    /// The store was copied, with the link to artifacts in a shared folder.
    #[error("the store `{root}` is a copy: its artifacts in the shared folder belong to `{other}` on {machine}")]
    Copied {
        /// The copy.
        root: PathBuf,
        /// The store that it is a copy of.
        other: PathBuf,
        /// The machine of the other store.
        machine: String,
        /// File that says so.
        owner: PathBuf,
    },
    /// A stage left something other than files and folders.
    #[error("`{path}` is neither a file nor a folder, and artifacts hold nothing else")]
    NotPlain {
        /// The thing.
        path: PathBuf,
    },
    /// The artifact is not in the store.
    #[error("artifact {digest} is not in the store")]
    Gone {
        /// Digest of the artifact.
        digest: Digest,
    },
}

impl StoreError {
    /// True if there is no room for what was to be written.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded),
            Self::Records { source, .. } => source.is_full(),
            _ => false,
        }
    }

    /// Advice on what the user can do.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            _ if self.is_full() => FULL.to_owned(),
            Self::Records { source: RecordsError::Newer { .. }, .. } => {
                "a newer version of this program wrote it: use that version, or another store (`--store FOLDER`)".to_owned()
            }
            Self::Network { .. } => {
                "keep the store on a local disk: `--store FOLDER`, or `store = \"FOLDER\"` in sure.toml; only its artifacts may be \
                 in a shared folder, which `folder` below `[executor.slurm]` names"
                    .to_owned()
            }
            Self::InUse { .. } => "wait for its end, then run this again".to_owned(),
            Self::Copied { root, owner, .. } => {
                format!(
                    "to give the copy artifacts of its own, remove `{0}/id` and the link `{0}/objects`; if the other store is gone for good, \
                     remove `{1}`",
                    root.display(),
                    owner.display()
                )
            }
            Self::OtherMachine { folder, .. } => {
                format!(
                    "if no `sure` runs there any more, remove `{}`; else give this machine a store of its own",
                    folder.display()
                )
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotADirectory => {
                "a store is a folder: `--store FOLDER`, or `store = \"FOLDER\"` in sure.toml, names another".to_owned()
            }
            Self::Io { source, action: "create" | "write" | "lock", .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "this user may not write here: ask the owner of the store, or name another: `--store FOLDER`, or \
                 `store = \"FOLDER\"` in sure.toml"
                    .to_owned()
            }
            _ => return None,
        })
    }
}

/// Advice when the disk is full.
pub const FULL: &str = "the disk is full: `sure store gc` shows what may be removed from the store";

/// The error of doing `action` with `path`.
pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { action, path, source }
}

/// The error of the records of the store in `root`.
pub(super) fn records_error(root: &Path) -> impl FnOnce(RecordsError) -> StoreError {
    let root = root.to_owned();
    move |source| StoreError::Records { root, source }
}
