//! Records of earlier executions: results and runs.
//!
//! The record log (`log`) is the lasting form: one checksummed line of JSON for each thing that happened, independent of any
//! database. The index (`index`) is an `SQLite` database made from it, for fast lookups. It is rebuilt from the log when it is
//! missing, damaged or of another format. See `docs/store-format.md`.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Digest;
use crate::manifest::Manifest;
use crate::source::TreeFile;

pub(crate) mod entry;
mod export;
pub(crate) mod index;
mod inventory;
pub(crate) mod log;
mod open;
mod pack;
mod rows;
mod runs;
mod schema;
mod steps;
mod writer;

pub(crate) use index::{Index, Recipes};
pub(crate) use inventory::StoredArtifact;
pub use runs::{Member, RunRow};
pub use steps::Step;

/// File name of the record log.
pub(crate) const LOG: &str = "records.log";
/// File name of the index. Versions of this program that know no record log find it here and refuse it by its format.
pub(crate) const INDEX: &str = "traces.db";

/// Result of an execution that ended well: this manifest gave this artifact.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultRecord {
    /// Everything that the output depends on.
    pub manifest: Manifest,
    /// Digest of the output.
    pub artifact: Digest,
    /// How, where and when it was made. Nothing here enters a fingerprint.
    pub provenance: Provenance,
}

/// Provenance of an artifact.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// `workflow:node`
    pub node: String,
    /// Start, in milliseconds since 1970.
    pub started_ms: i64,
    /// Duration; kept to the millisecond.
    pub secs: f64,
    /// Machine.
    pub host: String,
    /// Threads it was given.
    pub threads: usize,
    /// GPU it was given.
    pub gpu: Option<u32>,
    /// Facts that the body reported about itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, Value>,
}

/// Number of a result in its store, in the order in which results came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ResultId(pub i64);

/// Files of an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArtifactFiles {
    /// Paths, sizes and digests.
    pub(crate) files: Vec<TreeFile>,
    /// Checksum of inodes, sizes and times of the files when they were last known to be sound.
    pub(crate) stamp: u32,
}

/// Answer to the lookup of a fingerprint.
pub(crate) struct Hit {
    pub(crate) result: ResultId,
    pub(crate) artifact: Digest,
    pub(crate) files: ArtifactFiles,
}

/// Result whose artifact may not have reached the disk before the power failed.
pub(crate) struct Doubtful {
    pub(crate) result: ResultId,
    pub(crate) artifact: Digest,
}

/// Records that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordsError {
    /// The index answers with an error.
    #[error("the index cannot be used")]
    Index(#[from] rusqlite::Error),
    /// The record log cannot be read or written.
    #[error("cannot {action} the record log `{path}`")]
    Log {
        /// The verb.
        action: &'static str,
        /// The log.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A newer version of this program wrote the store.
    #[error("its {part} has format {found}, and this program reads formats up to {known}")]
    Newer {
        /// `index`, `record log` or `store`.
        part: &'static str,
        /// Format of the file.
        found: u32,
        /// Newest format that this program reads.
        known: u32,
    },
}

impl RecordsError {
    /// True if the index is damaged, so that it must be rebuilt.
    pub(crate) fn is_damage(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        matches!(self, Self::Index(error) if matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase)))
    }

    /// True if there is no room for what was to be written.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Index(error) => error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull),
            Self::Log { source, .. } => matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded),
            Self::Newer { .. } => false,
        }
    }
}
