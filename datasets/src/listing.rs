//! Listing of a corpus: the utterances that a reader found, and the entries that it left out.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{CorpusError, Protocol, Split, Utterance};

/// A file left out, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Skipped {
    /// Relative to the root. For a row of a label file `<file>:<line>`, unless the row names a recording.
    pub path: String,
    /// A sentence without a full stop.
    pub reason: String,
    /// Cause, for programs. Not written: the reason gives it in words.
    #[serde(skip)]
    pub cause: Cause,
}

/// Cause for which an entry was left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// It is there, but not as it should be.
    #[default]
    Unusable,
    /// A label file names it, and it is not there.
    Missing,
    /// It is there, and no label file names it.
    Extra,
    /// Known to be bad in every copy of the corpus.
    Known,
}

/// Utterances that a reader found, and entries that it left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Sorted by id; ids are unique.
    pub utterances: Vec<Utterance>,
    /// Sorted by path.
    pub skipped: Vec<Skipped>,
    /// Facts for people that are no problem: which column of a table is used for what.
    pub notes: Vec<String>,
    /// Problems that are no reason to leave anything out, with file and line where there is one.
    pub warnings: Vec<String>,
    /// Recordings that are sound but that the protocol has no use for: why, and how many.
    pub unused: BTreeMap<String, u64>,
    /// The classes of [`crate::Annotation::label`], in the order of their indices.
    pub labels: Vec<String>,
    /// The classes of whatever else can be told apart, in the order of their indices: `speaker`, `action`, `slot`.
    pub classes: BTreeMap<String, Vec<String>>,
    /// Utterances of train, dev and test that this should have, where that is known. A difference deserves a warning.
    pub expected: Option<[u64; 3]>,
    /// It says of itself that it is synthetic: nothing that is published applies to it.
    pub is_synthetic: bool,
}

impl Listing {
    /// How many utterances a split has.
    pub fn count(&self, split: Split) -> u64 {
        self.utterances.iter().filter(|utterance| utterance.split == split).count() as u64
    }

    /// Says which published sizes it should have: none when it is synthetic.
    pub(crate) fn hold_against(&mut self, protocol: &Protocol, is_synthetic: bool) {
        self.is_synthetic = is_synthetic;
        self.expected = protocol.expected.filter(|_| !is_synthetic);
    }

    /// The error that there is no utterance.
    pub(crate) fn empty(mut self, corpus: &'static str, root: &Path, expected: &'static str) -> CorpusError {
        // What a label file names says more than what it does not name.
        self.skipped.sort_by(|a, b| (a.cause == Cause::Extra, a).cmp(&(b.cause == Cause::Extra, b)));
        let first = self.skipped.first().map(|skipped| format!("{}: {}", skipped.path, skipped.reason));
        CorpusError::Empty { corpus, root: root.to_owned(), skipped: self.skipped.len(), first, expected }
    }

    /// Sorts, and moves all but the first of several utterances with one id to the skipped.
    pub(crate) fn seal(mut self) -> Self {
        self.utterances.sort_by(|a, b| (&a.id, &a.path).cmp(&(&b.id, &b.path)));
        let mut utterances = std::mem::take(&mut self.utterances);
        utterances.dedup_by(|next, first| {
            let is_second = next.id == first.id;
            if is_second {
                self.skip(std::mem::take(&mut next.path), format!("its id `{}` is that of `{}`", next.id, first.path));
            }
            is_second
        });
        self.utterances = utterances;
        self.skipped.sort();
        self
    }

    /// Notes a file as left out.
    pub(crate) fn skip(&mut self, path: impl Into<String>, reason: impl Into<String>) {
        self.skip_for(Cause::Unusable, path, reason);
    }

    /// Notes a recording that a label file names and that is not there.
    pub(crate) fn missing(&mut self, path: impl Into<String>, reason: impl Into<String>) {
        self.skip_for(Cause::Missing, path, reason);
    }

    /// Notes a recording that no label file names.
    pub(crate) fn extra(&mut self, path: impl Into<String>, reason: impl Into<String>) {
        self.skip_for(Cause::Extra, path, reason);
    }

    /// Notes a file as left out, and what is amiss.
    pub(crate) fn skip_for(&mut self, cause: Cause, path: impl Into<String>, reason: impl Into<String>) {
        self.skipped.push(Skipped { path: path.into(), reason: reason.into(), cause });
    }

    /// Counts recordings that the protocol has no use for.
    pub(crate) fn leave(&mut self, why: impl Into<String>, count: u64) {
        if count > 0 {
            *self.unused.entry(why.into()).or_default() += count;
        }
    }

    /// The names that a property of the utterances takes, sorted: classes of a corpus that has no fixed list of them.
    pub(crate) fn names_of<'a>(&'a self, property: impl Fn(&'a Utterance) -> Option<&'a str>) -> Vec<String> {
        let mut names: Vec<&str> = self.utterances.iter().filter_map(property).collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(str::to_owned).collect()
    }
}
