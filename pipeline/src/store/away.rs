//! Artifacts that are left in the shared cache until something reads them: the store knows their results and the list of their files,
//! and has no bytes.
//!
//! An empty file `away/ab/cdef...` stands for each. It is a hint: when the cache does not give the bytes, the file goes, the artifact
//! counts as gone, and its node runs.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use super::{Store, StoreError, io_error};
use crate::Digest;
use crate::manifest::TOOL;
use crate::records::ArtifactFiles;
use crate::shared::{SharedCache, SharedResult};
use crate::source::TreeFile;
use crate::stage::Stop;

/// Folder of the files that stand for artifacts.
const FOLDER: &str = "away";

/// State of the artifacts that are left in the shared cache.
#[derive(Debug, Default)]
pub(super) struct Away {
    /// True if they count as present.
    counts: AtomicBool,
    cache: OnceLock<Arc<dyn SharedCache>>,
    /// Artifacts that the cache did not give: they are not left there again.
    failed: Mutex<HashSet<Digest>>,
}

impl Store {
    /// Says whether artifacts that are left in the shared cache count as present: at first they do not. Whoever reads one asks
    /// [`Self::usable`] before.
    pub fn count_away(&self, counts: bool) {
        self.away.counts.store(counts, Ordering::Relaxed);
    }

    /// True if artifacts that are left in the shared cache count as present.
    pub(crate) fn counts_away(&self) -> bool {
        self.away.counts.load(Ordering::Relaxed)
    }

    /// Names the cache that has the artifacts that are left there.
    pub fn lend(&self, cache: Arc<dyn SharedCache>) {
        let _ = self.away.cache.set(cache); // a store has one cache
    }

    fn mark(&self, artifact: Digest) -> PathBuf {
        artifact.folder_in(&self.root.join(FOLDER))
    }

    /// True if an artifact is left in the shared cache, as far as this store knows.
    pub fn is_left(&self, artifact: Digest) -> bool {
        self.mark(artifact).is_file() && !self.has(artifact)
    }

    /// True if an artifact counts as present and is left in the shared cache.
    pub(crate) fn is_away(&self, artifact: Digest) -> bool {
        self.counts_away() && self.is_left(artifact)
    }

    /// Folder of the files that stand for artifacts whose digest begins with a byte.
    pub(crate) fn away_folder(&self, first: u8) -> PathBuf {
        self.root.join(FOLDER).join(format!("{first:02x}"))
    }

    /// Records a result of the shared cache and leaves its bytes there. Returns false if that is of no use: the cache did not give them
    /// before, or another result counts.
    pub(crate) fn leave(&self, result: &SharedResult) -> Result<bool, StoreError> {
        let artifact = result.artifact;
        if self.away.failed.lock().expect("no holder of this lock panics").contains(&artifact) {
            return Ok(false);
        }
        if !self.has(artifact) {
            let mark = self.mark(artifact);
            let made = mark.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| File::create(&mark));
            made.map_err(io_error("write", &mark))?;
            self.remember(artifact, ArtifactFiles { files: result.files.clone(), stamp: 0 });
        }
        self.record_shared(result)
    }

    /// Records a result of the shared cache. Returns false if another result counts.
    pub(crate) fn record_shared(&self, result: &SharedResult) -> Result<bool, StoreError> {
        if result.manifest.0.keys().any(|name| name.starts_with(TOOL)) {
            self.note_results_of_tools()?;
        }
        Ok(self.commit(&result.record())? == result.artifact)
    }

    /// Downloads an artifact of a shared cache. Returns false if the cache cannot give it.
    pub(crate) fn download(&self, cache: &dyn SharedCache, artifact: Digest, files: &[TreeFile]) -> Result<bool, StoreError> {
        let folder = self.attempt()?;
        let published = if cache.download(artifact, files, &folder) { Some(self.publish(&folder)) } else { None };
        let _ = fs::remove_dir_all(&folder); // when it was published, it is not there any more
        Ok(published.transpose()? == Some(artifact))
    }

    /// Downloads an artifact that is left in the shared cache. Returns false if it was not left there, or the cache does not give it:
    /// then it is not left there any more.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn bring(&self, artifact: Digest) -> Result<bool, StoreError> {
        if self.is_view() || !self.is_left(artifact) {
            return Ok(false);
        }
        // Of several nodes that read it, one downloads it.
        let Some(_turn) = self.lock(artifact, &Stop::default())? else { return Ok(false) };
        if !self.is_left(artifact) {
            return Ok(self.has(artifact));
        }
        let came = match (self.away.cache.get(), self.known(artifact)) {
            (Some(cache), Ok(known)) => self.download(&**cache, artifact, &known.files)?,
            _ => false,
        };
        let _ = fs::remove_file(self.mark(artifact)); // beside the artifact it says nothing; without it, it would say so again
        if !came {
            self.away.failed.lock().expect("no holder of this lock panics").insert(artifact);
        }
        Ok(came)
    }
}
