//! Lines of the record log. Documented for readers in other languages in `docs/store-format.md`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::Provenance;
use super::steps::Step;
use crate::Digest;
use crate::manifest::Manifest;
use crate::source::TreeFile;

/// One line of the record log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Entry<'a> {
    /// First line.
    Log(Head),
    /// A manifest gave an artifact. Replaces an earlier result of the same fingerprint.
    Result(ResultEntry<'a>),
    /// Nodes have other results than before, without having run.
    Latest(Vec<Latest>),
    /// The artifacts of these results are on disk.
    Durable(Vec<i64>),
    /// These results were forgotten: a power failure took their artifacts.
    Lost(Vec<i64>),
    /// `sure store gc` removed these artifacts. Results that no explanation needs are forgotten with them.
    Collected(Vec<Digest>),
    /// A run began.
    Run(RunEntry<'a>),
    /// A run ended.
    Ended(EndEntry<'a>),
    /// `sure store gc` forgot the nodes of these runs.
    Shortened(Vec<i64>),
}

/// First line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// Raised when an older program could misread the log.
    pub(crate) format: u32,
    /// Random name of this log; another one says that the log was replaced.
    pub(crate) id: String,
}

/// A result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ResultEntry<'a> {
    /// Number of the result.
    pub(crate) id: i64,
    /// Digest of the manifest.
    pub(crate) fingerprint: Digest,
    /// Digest of the artifact.
    pub(crate) artifact: Digest,
    /// Everything that the output depends on.
    pub(crate) manifest: Cow<'a, Manifest>,
    /// How, where and when it was made.
    pub(crate) provenance: Cow<'a, Provenance>,
    /// Files of the artifact.
    pub(crate) files: Cow<'a, [TreeFile]>,
    /// Checksum of inodes, sizes and times of the files; a mismatch makes the files be hashed again.
    pub(crate) stamp: u32,
    /// Boot of the machine, until the artifact is on disk; absent in logs that were written as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) boot: Option<Cow<'a, str>>,
}

/// A node with its result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Latest {
    /// `workflow:node`
    pub(crate) node: String,
    /// Number of the result.
    pub(crate) result: i64,
    /// Duration in milliseconds, when it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ms: Option<i64>,
}

/// Begin of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunEntry<'a> {
    /// Number of the run.
    pub(crate) run: i64,
    /// Workflow.
    pub(crate) workflow: Cow<'a, str>,
    /// Settings and targets, as JSON.
    pub(crate) request: Cow<'a, str>,
    /// Folder of the project: where its `sure.toml` is, or the results folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) project: Option<Cow<'a, str>>,
    /// Machine.
    pub(crate) host: Cow<'a, str>,
    /// Start, in milliseconds since 1970.
    pub(crate) started_ms: i64,
}

/// End of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct EndEntry<'a> {
    /// Number of the run.
    pub(crate) run: i64,
    /// End, in milliseconds since 1970.
    pub(crate) ended_ms: i64,
    /// `done`, `failed` or `stopped`.
    pub(crate) outcome: Cow<'a, str>,
    /// The run that ended with the same results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) same: Option<i64>,
    /// Nodes that were up to date at the end, with the numbers of their results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) members: Option<Vec<(String, i64)>>,
    /// How each node ended that did not stay as it was.
    #[serde(default, skip_serializing_if = "<[Step]>::is_empty")]
    pub(crate) steps: Cow<'a, [Step]>,
}
