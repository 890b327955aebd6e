//! The trait of a corpus reader.

use std::path::Path;

use crate::{CorpusError, Listing};

/// Reads one corpus as its makers distribute it.
///
/// Bad entries are results, not failures: every one left out is counted and named.
pub trait Corpus: Send + Sync {
    /// The name that workflow files use, for example `fsdd`.
    fn name(&self) -> &'static str;
    /// Full name and origin of the corpus, in one line.
    fn about(&self) -> &'static str;
    /// The licence of the recordings.
    fn licence(&self) -> &'static str;
    /// The ways of turning it into labelled splits; the first is the default.
    fn protocols(&self) -> &'static [Protocol];
    /// True if a file (path relative to the root, `/` between its parts) can change what [`Corpus::list`] finds or is one
    /// of its recordings. Hidden files never are.
    fn wants(&self, protocol: &Protocol, path: &str) -> bool;
    /// Lists all utterances of a protocol in order of id, without decoding audio.
    ///
    /// Errors: [`CorpusError`] when nothing of the corpus can be read; single bad files are in [`Listing::skipped`].
    fn list(&self, root: &Path, protocol: &Protocol) -> Result<Listing, CorpusError>;

    /// Facts about the published corpus beyond [`Protocol::expected`], for comparison with a copy.
    fn facts(&self, _: &Protocol) -> Facts {
        Facts::default()
    }

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

/// Facts about a published corpus, as one protocol sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Facts {
    /// Utterances of those splits whose size is known where [`Protocol::expected`] is not.
    pub utterances: [Option<u64>; 3],
    /// Utterances of classes in train, dev and test.
    pub classes: &'static [(&'static str, [u64; 3])],
    /// By how many a count of a class may differ: rows without a usable recording whose class is not known here.
    pub class_slack: u64,
    /// Hours of train, dev and test, as the makers state them.
    pub hours: Option<[f64; 3]>,
    /// Speakers of train, dev and test.
    pub speakers: Option<[u64; 3]>,
    /// Recordings known to be bad in every copy.
    pub defects: &'static [Defect],
    /// True if speakers are in several splits on purpose.
    pub shares_speakers: bool,
    /// Recordings of different utterances may have one file name, in different folders.
    pub repeats_names: bool,
}

/// A recording known to be bad in every copy of a corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defect {
    /// The id of its utterance.
    pub id: &'static str,
    /// Description of the defect.
    pub problem: &'static str,
    /// True if the reader keeps it, with a flag.
    pub kept: bool,
}
