//! A cache of results that several machines share, as the engine sees it.
//!
//! The engine knows no protocol and no server: a [`SharedCache`] answers from what it knows, and every answer is checked here and in the
//! store. A cache can make a run faster. It cannot make one fail, and it cannot change a result: a manifest has to have the fingerprint
//! that was asked for, the list of files the digest of the artifact, and each file its digest in that list.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::manifest::Manifest;
use crate::records::{Provenance, ResultRecord};
use crate::source::{TreeFile, listing_digest};

/// A cache of results that several machines share.
///
/// No method returns an error: a cache that does not answer has nothing. It reports that once, by its own means.
pub trait SharedCache: Send + Sync + fmt::Debug {
    /// Says what the cache may have, so that nobody looks for what it cannot have.
    fn stock(&self) -> Stock;

    /// Returns the results of these fingerprints, for planning; `None` where there is none.
    fn find(&self, fingerprints: &[Digest]) -> Vec<Option<Arc<SharedResult>>>;

    /// Returns the result of a node that is about to run. Another machine may have made it since the plan.
    fn ask(&self, fingerprint: Digest, expected_secs: Option<f64>) -> Option<Arc<SharedResult>>;

    /// Writes the files of an artifact into an empty folder. Returns true if all are there with the digests that their list names.
    fn download(&self, artifact: Digest, files: &[TreeFile], folder: &Path) -> bool;

    /// Asks to be the only machine that makes a fingerprint.
    fn claim(&self, fingerprint: Digest, expected_secs: Option<f64>) -> Claim;

    /// Offers a new result. The cache decides whether it uploads it, and does so in the background.
    fn offer(&self, offer: Offer);

    /// Notes that a run used these results.
    fn used(&self, fingerprints: &[Digest]);
}

/// Kinds of results that a cache may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stock {
    /// None: it is empty, or does not answer.
    Nothing,
    /// Results that used no external program.
    Plain,
    /// Results that depend on the version of an external program, too.
    WithTools,
}

/// A result in a shared cache.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SharedResult {
    /// Everything that the output depends on.
    pub manifest: Manifest,
    /// Digest of the output.
    pub artifact: Digest,
    /// Files of the artifact, sorted by path.
    pub files: Vec<TreeFile>,
    /// How, where and when it was made.
    pub provenance: Provenance,
}

impl SharedResult {
    /// True if this is a result of the fingerprint, and its files are those of its artifact, with paths that stay in its folder.
    pub fn is_of(&self, fingerprint: Digest) -> bool {
        let files = self.files.iter().map(|file| (file.path.as_str(), file.size, file.digest));
        let is_sorted = self.files.is_sorted_by(|a, b| a.path < b.path);
        self.manifest.fingerprint() == fingerprint
            && is_sorted
            && self.files.iter().all(|file| is_inside(&file.path))
            && listing_digest(files) == self.artifact
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.size))
    }

    pub(crate) fn record(&self) -> ResultRecord {
        ResultRecord { manifest: self.manifest.clone(), artifact: self.artifact, provenance: self.provenance.clone() }
    }
}

/// True if a relative path names a file below its folder.
fn is_inside(path: &str) -> bool {
    !path.contains(['\\', '\0']) && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Answer to [`SharedCache::claim`].
pub enum Claim {
    /// This machine makes it. The claim ends when the value is dropped.
    Mine(Box<dyn Send>),
    /// Another machine makes it at this moment.
    Elsewhere,
    /// Nobody is asked.
    Free,
}

/// A new result for a shared cache.
#[derive(Debug, Clone)]
pub struct Offer {
    /// Fingerprint of the manifest.
    pub fingerprint: Digest,
    /// The result.
    pub result: SharedResult,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_counts_only_for_its_fingerprint_and_its_files() {
        let file = |path: &str| TreeFile { path: path.to_owned(), size: 3, digest: Digest::of(b"abc") };
        let result = |files: Vec<TreeFile>| {
            let manifest = Manifest([("stage".to_owned(), "a".to_owned())].into());
            let artifact = listing_digest(files.iter().map(|file| (file.path.as_str(), file.size, file.digest)));
            SharedResult { manifest, artifact, files, provenance: Provenance::default() }
        };
        let good = result(vec![file("a"), file("b/c")]);
        let fingerprint = good.manifest.fingerprint();
        assert!(good.is_of(fingerprint) && !good.is_of(Digest::of(b"another")));
        let other = SharedResult { artifact: Digest::of(b"x"), ..good };
        assert!(!other.is_of(fingerprint), "of another artifact");
        for path in ["../a", "/a", "a//b", "a/./b", "", "a\\b", "a/.."] {
            assert!(!result(vec![file(path)]).is_of(fingerprint), "{path}");
        }
        assert!(!result(vec![file("b"), file("a")]).is_of(fingerprint), "not sorted");
        assert!(!result(vec![file("a"), file("a")]).is_of(fingerprint), "the same path twice");
    }
}
