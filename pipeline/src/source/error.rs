//! Errors of scanning a tree.

use std::io;
use std::path::PathBuf;

/// A tree that cannot be scanned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// The root is not there.
    #[error("no folder `{root}`")]
    Missing {
        /// The root.
        root: PathBuf,
    },
    /// A folder or file cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The folder or file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A file was written to while it was hashed, again and again.
    #[error("`{path}` changes while it is read")]
    Unsteady {
        /// The file.
        path: PathBuf,
    },
    /// The stat cache cannot be written.
    #[error("cannot write the stat cache `{path}`")]
    Cache {
        /// The cache file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}
