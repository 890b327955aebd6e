//! An utterance as a corpus reader lists it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Annotation;

/// Part of the data that an utterance belongs to. A corpus's own names for its splits stay in its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Training set.
    Train,
    /// Development set, to choose models by.
    Dev,
    /// Test set, to report.
    Test,
}

impl Split {
    /// All three, in order.
    pub const ALL: [Self; 3] = [Self::Train, Self::Dev, Self::Test];

    /// Returns `train`, `dev` or `test`.
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
    /// Id, unique in the corpus and stable, for example `yes/0a7c2a8d_nohash_0`.
    pub id: String,
    /// Path of the recording: relative to the root, `/` between its parts.
    pub path: String,
    /// Stretch of the recording; all of it when absent.
    pub span: Option<Span>,
    /// Row of the table at `path`, counted from 0, if the recording is in the table.
    pub embedded: Option<u64>,
    /// Split.
    pub split: Split,
    /// Duration in milliseconds as the label file states it. A hint: the recording decides.
    pub duration_ms: Option<u64>,
    /// Labels, texts and tags. The label is one of [`Listing::labels`](crate::Listing::labels).
    pub annotation: Annotation,
}

impl Utterance {
    /// An utterance of which nothing else is known.
    pub fn new(id: impl Into<String>, path: impl Into<String>, split: Split) -> Self {
        Self {
            id: id.into(),
            path: path.into(),
            span: None,
            embedded: None,
            split,
            duration_ms: None,
            annotation: Annotation::default(),
        }
    }

    /// Sets a tag, unless the value is empty.
    pub(crate) fn tag(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.annotation.tags.insert(name.to_owned(), value.to_owned());
        }
    }
}

/// A stretch of a recording, in samples at the recording's own rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First sample.
    pub start: u64,
    /// Number of samples.
    pub num_samples: u64,
}
