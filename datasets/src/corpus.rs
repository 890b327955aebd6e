//! What a reader is and what it finds.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::CorpusError;

/// Reads one corpus as its makers distribute it.
///
/// Bad entries are results, not failures: every one left out is counted and named.
pub trait Corpus: Send + Sync {
    /// The name that workflow files use, for example `fsdd`.
    fn name(&self) -> &'static str;
    /// Its full name and where it comes from, in one line.
    fn about(&self) -> &'static str;
    /// The licence of the recordings.
    fn licence(&self) -> &'static str;
    /// The ways of turning it into labelled splits; the first is the default.
    fn protocols(&self) -> &'static [Protocol];
    /// Whether a file (path relative to the root, `/` between its parts) can change what [`Corpus::list`] finds or is one
    /// of its recordings. Hidden files never are.
    fn wants(&self, protocol: &Protocol, path: &str) -> bool;
    /// Lists all utterances of a protocol in order of id, without decoding audio.
    ///
    /// Errors: [`CorpusError`] when nothing of the corpus can be read; single bad files are in [`Listing::skipped`].
    fn list(&self, root: &Path, protocol: &Protocol) -> Result<Listing, CorpusError>;

    /// The protocol of a name, or the default one.
    ///
    /// Errors: [`CorpusError::Protocol`] naming those there are.
    fn protocol(&self, name: Option<&str>) -> Result<&'static Protocol, CorpusError> {
        let all = self.protocols();
        let Some(name) = name else { return Ok(&all[0]) };
        all.iter().find(|protocol| protocol.name == name).ok_or_else(|| CorpusError::Protocol {
            corpus: self.name(),
            name: name.to_owned(),
            known: all.iter().map(|protocol| protocol.name).collect::<Vec<_>>().join(", "),
        })
    }
}

/// A named way of turning a corpus into labelled splits. It shows in results, because numbers of two protocols do not compare.
#[derive(Debug, PartialEq, Eq)]
pub struct Protocol {
    /// For example `gsc-v2-11`.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// The classes, in the order of their indices.
    pub labels: &'static [&'static str],
    /// Utterances of train, dev and test in the published corpus, where that is known.
    pub expected: Option<[u64; 3]>,
}

/// Which part of the data an utterance belongs to. A corpus's own names for them stay in its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// To learn from.
    Train,
    /// To choose by.
    Dev,
    /// To report.
    Test,
}

impl Split {
    /// All three, in order.
    pub const ALL: [Self; 3] = [Self::Train, Self::Dev, Self::Test];

    /// `train`, `dev` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Dev => "dev",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One labelled stretch of speech.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Utterance {
    /// Unique in the corpus and stable, for example `yes/0a7c2a8d_nohash_0`.
    pub id: String,
    /// The recording: relative to the root, `/` between its parts.
    pub path: String,
    /// The stretch of the recording; all of it when absent.
    pub span: Option<Span>,
    /// The part it belongs to.
    pub split: Split,
    /// The class (for keyword spotting the word), always one of [`Listing::labels`].
    pub label: Option<String>,
    /// Who speaks, where known.
    pub speaker: Option<String>,
    /// What is said, as distributed.
    pub transcript: Option<String>,
}

/// A stretch of a recording, in samples at the recording's own rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first sample.
    pub start: u64,
    /// How many.
    pub num_samples: u64,
}

/// A file left out, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Skipped {
    /// Relative to the root.
    pub path: String,
    /// A sentence without a full stop.
    pub reason: String,
}

/// What a reader found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Sorted by id; ids are unique.
    pub utterances: Vec<Utterance>,
    /// Sorted by path.
    pub skipped: Vec<Skipped>,
    /// Recordings that are sound but that the protocol has no use for: why, and how many.
    pub unused: BTreeMap<String, u64>,
    /// The classes, in the order of their indices.
    pub labels: Vec<String>,
    /// Utterances of train, dev and test that this should have, where that is known. A difference deserves a warning.
    pub expected: Option<[u64; 3]>,
}

impl Listing {
    /// How many utterances a split has.
    pub fn count(&self, split: Split) -> u64 {
        self.utterances.iter().filter(|utterance| utterance.split == split).count() as u64
    }

    /// Sorts, and moves all but the first of several utterances with one id to the skipped.
    pub(crate) fn seal(mut self) -> Self {
        self.utterances.sort_by(|a, b| (&a.id, &a.path).cmp(&(&b.id, &b.path)));
        let mut unique: Vec<Utterance> = Vec::with_capacity(self.utterances.len());
        for utterance in self.utterances {
            match unique.last() {
                Some(last) if last.id == utterance.id => {
                    let reason = format!("its id `{}` is that of `{}`", utterance.id, last.path);
                    self.skipped.push(Skipped { path: utterance.path, reason });
                }
                _ => unique.push(utterance),
            }
        }
        self.utterances = unique;
        self.skipped.sort();
        self
    }

    /// Notes a file as left out.
    pub(crate) fn skip(&mut self, path: impl Into<String>, reason: impl Into<String>) {
        self.skipped.push(Skipped { path: path.into(), reason: reason.into() });
    }
}
