//! Why a corpus cannot be read at all.

use std::io;
use std::path::PathBuf;

/// A corpus that cannot be read at all, or a request that makes no sense for it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CorpusError {
    /// The folder itself is not there.
    #[error("no {corpus} corpus at `{root}`: expected a folder with {expected}")]
    NoRoot {
        /// Name of the reader.
        corpus: &'static str,
        /// Where it was looked for.
        root: PathBuf,
        /// Description of a folder of this corpus.
        expected: &'static str,
    },
    /// Something without which the corpus cannot be read is not there.
    #[error("no {corpus} corpus at `{root}`: `{missing}` is not there, expected {expected}")]
    Missing {
        /// Name of the reader.
        corpus: &'static str,
        /// Where the corpus was looked for.
        root: PathBuf,
        /// Relative to the root.
        missing: String,
        /// Description of a folder of this corpus.
        expected: &'static str,
    },
    /// The folders are there, and nothing in them is of use.
    #[error("the {corpus} corpus at `{root}` has no recording that can be used, {}", why_empty(*.skipped, .first.as_deref(), .expected))]
    Empty {
        /// Name of the reader.
        corpus: &'static str,
        /// Where it was looked for.
        root: PathBuf,
        /// How many files and rows were left out.
        skipped: usize,
        /// The first of them, with its reason.
        first: Option<String>,
        /// Description of a folder of this corpus.
        expected: &'static str,
    },
    /// Another version of the corpus than the protocol is made for.
    #[error("protocol `{protocol}` is made for version {wanted}, but `{root}` holds version {found} ({evidence})")]
    Version {
        /// Name of the protocol.
        protocol: &'static str,
        /// The version it is made for.
        wanted: &'static str,
        /// Where the corpus is.
        root: PathBuf,
        /// Version of the corpus.
        found: &'static str,
        /// By what that was seen.
        evidence: String,
    },
    /// The corpus has no protocol of that name.
    #[error("corpus `{corpus}` has no protocol `{name}`, only {known}")]
    Protocol {
        /// Name of the reader.
        corpus: &'static str,
        /// The name asked for.
        name: String,
        /// Those there are.
        known: String,
    },
    /// A folder cannot be listed.
    #[error("cannot list `{path}`")]
    List {
        /// The folder.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A file of labels or lists cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A file of labels or lists is not of the kind that the corpus has.
    #[error("`{path}` cannot be understood: {problem}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Description of the problem: what was expected and what was found.
        problem: String,
    },
}

fn why_empty(skipped: usize, first: Option<&str>, expected: &str) -> String {
    match first {
        None => format!("expected {expected}"),
        Some(first) => format!("expected {expected}; {skipped} left out, the first: {first}"),
    }
}
