//! Files of a cache in the store of this machine: copies of index files, uploads that wait, and scratch files.
//!
//! ```text
//! cache/<cache>/index/      copies of index files
//! cache/<cache>/outbox/     results that are not uploaded yet, one file each; parts of large uploads
//! cache/<cache>/scratch/    files of this moment
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use pipeline::Digest;
use pipeline::shared::SharedResult;
use serde::{Deserialize, Serialize};

pub(crate) struct Local {
    root: PathBuf,
    /// Folder of all artifacts of the store.
    objects: PathBuf,
    numbers: AtomicU64,
}

/// A result that waits for its upload.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Waiting {
    pub(crate) fingerprint: Digest,
    pub(crate) result: SharedResult,
}

impl Local {
    pub(crate) fn open(store: &Path, url: &str) -> io::Result<Self> {
        let root = store.join("cache").join(Digest::of(url.as_bytes()).short());
        for folder in ["index", "outbox", "scratch"] {
            fs::create_dir_all(root.join(folder))?;
        }
        Ok(Self { root, objects: store.join("objects"), numbers: AtomicU64::new(0) })
    }

    /// Folder of an artifact in the store.
    pub(crate) fn artifact(&self, artifact: Digest) -> PathBuf {
        artifact.folder_in(&self.objects)
    }

    /// Path for a file of this moment.
    pub(crate) fn scratch(&self) -> ScratchFile {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        ScratchFile(self.root.join("scratch").join(format!("{}-{number}", std::process::id())))
    }

    /// Removes scratch files of processes that were killed.
    pub(crate) fn sweep(&self) {
        for entry in fs::read_dir(self.root.join("scratch")).into_iter().flatten().flatten() {
            let age = entry.metadata().and_then(|meta| meta.modified()).ok().and_then(|time| time.elapsed().ok());
            if age.is_some_and(|age| age.as_secs() > 24 * 3600) {
                let _ = fs::remove_file(entry.path()); // only takes room
            }
        }
    }

    fn index(&self, key: &str) -> PathBuf {
        self.root.join("index").join(key.replace('/', "-"))
    }

    /// Returns a copy of an index file. They never change under one name.
    pub(crate) fn read_index(&self, key: &str, size: u64) -> Option<Vec<u8>> {
        fs::read(self.index(key)).ok().filter(|bytes| bytes.len() as u64 == size)
    }

    pub(crate) fn keep_index(&self, key: &str, bytes: &[u8]) {
        let aside = self.scratch();
        let _ = fs::write(&aside.0, bytes).and_then(|()| fs::rename(&aside.0, self.index(key))); // only a copy
    }

    /// Removes the copies of index files that are not there any more.
    pub(crate) fn forget_index(&self, keep: &[String]) {
        let keep: Vec<PathBuf> = keep.iter().map(|key| self.index(key)).collect();
        for entry in fs::read_dir(self.root.join("index")).into_iter().flatten().flatten() {
            if !keep.contains(&entry.path()) {
                let _ = fs::remove_file(entry.path()); // only takes room
            }
        }
    }

    fn outbox(&self, fingerprint: Digest) -> PathBuf {
        self.root.join("outbox").join(format!("{fingerprint}.json"))
    }

    /// File that remembers the parts of a large upload.
    pub(crate) fn parts(&self, key: &str) -> PathBuf {
        self.root.join("outbox").join(format!("{}.parts", key.replace('/', "-")))
    }

    pub(crate) fn put_outbox(&self, waiting: &Waiting) -> io::Result<()> {
        let aside = self.scratch();
        fs::write(&aside.0, serde_json::to_vec(waiting)?)?;
        fs::rename(&aside.0, self.outbox(waiting.fingerprint))
    }

    pub(crate) fn remove_outbox(&self, fingerprint: Digest) {
        let _ = fs::remove_file(self.outbox(fingerprint)); // else it is found to be there already
    }

    /// Results that earlier processes did not upload. Their artifacts may be gone.
    pub(crate) fn waiting(&self) -> Vec<Waiting> {
        let mut all = vec![];
        for entry in fs::read_dir(self.root.join("outbox")).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|end| end != "json") {
                continue;
            }
            let waiting: Option<Waiting> = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            match waiting.filter(|waiting| self.artifact(waiting.result.artifact).is_dir()) {
                Some(waiting) => all.push(waiting),
                None => _ = fs::remove_file(path), // of another version, or its artifact is gone
            }
        }
        all.sort_by_key(|waiting| waiting.fingerprint);
        all
    }

    /// Answer to a question about the server, if it is younger than a day.
    pub(crate) fn verdict(&self, question: &str) -> Option<String> {
        let path = self.root.join(question);
        let age = fs::metadata(&path).and_then(|meta| meta.modified()).ok()?.elapsed().ok()?;
        if age.as_secs() > 24 * 3600 { None } else { fs::read_to_string(path).ok() }
    }

    pub(crate) fn keep_verdict(&self, question: &str, answer: &str) {
        let _ = fs::write(self.root.join(question), answer); // asked again next time
    }
}

/// File that is removed when it goes out of use.
pub(crate) struct ScratchFile(pub(crate) PathBuf);

impl Drop for ScratchFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0); // renamed ones are not there any more
    }
}
