//! One utterance, and all that a corpus may say about it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

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

/// One labelled stretch of speech. What a corpus does not say is absent or empty.
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
    /// The class of the corpus's own task: the word for keywords, the emotion, the intent. Always one of
    /// [`Listing::labels`](crate::Listing::labels).
    pub label: Option<String>,
    /// Who speaks, where known.
    pub speaker: Option<String>,
    /// What is said, as distributed.
    pub transcript: Option<String>,
    /// What is said, as the corpus itself normalises it.
    pub normalised: Option<String>,
    /// The words one by one, where a corpus annotates words.
    pub words: Vec<Word>,
    /// The phones one by one, where a corpus annotates phones.
    pub phones: Vec<Phone>,
    /// What is to be understood, in the order of the corpus: action, object and location, or the slots of a sentence.
    pub slots: Vec<Slot>,
    /// Anything else, by name: `gender`, `accent`, `sentiment`.
    pub tags: BTreeMap<String, String>,
    /// Known problems and doubts that are no reason to leave it out, a sentence each.
    pub flags: Vec<String>,
    /// How long its label file says it lasts. A hint: what the recording holds is the truth.
    pub duration_ms: Option<u64>,
}

impl Utterance {
    /// An utterance of which nothing else is known.
    pub fn new(id: impl Into<String>, path: impl Into<String>, split: Split) -> Self {
        Self {
            id: id.into(),
            path: path.into(),
            span: None,
            split,
            label: None,
            speaker: None,
            transcript: None,
            normalised: None,
            words: Vec::new(),
            phones: Vec::new(),
            slots: Vec::new(),
            tags: BTreeMap::new(),
            flags: Vec::new(),
            duration_ms: None,
        }
    }

    /// Sets a tag, unless there is nothing to say.
    pub(crate) fn tag(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.tags.insert(name.to_owned(), value.to_owned());
        }
    }
}

/// A stretch of a recording, in samples at the recording's own rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first sample.
    pub start: u64,
    /// How many.
    pub num_samples: u64,
}

/// A word of an utterance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Word {
    /// As distributed.
    pub text: String,
    /// The slot whose value it is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// When it is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<Times>,
}

/// A phone of an utterance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phone {
    /// As distributed: `AH0`, `sil`; in hand annotations of errors `correct,said,kind`.
    pub symbol: String,
    /// When it is said.
    pub times: Times,
}

/// From when to when, in microseconds from the beginning of the utterance: finer than any sample, and whole numbers compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Times {
    /// The beginning.
    pub start_us: u64,
    /// The end.
    pub end_us: u64,
}

/// A slot and what fills it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// For example `object`.
    pub name: String,
    /// For example `lights`.
    pub value: String,
}
