//! Bringing what was committed to the disk, many artifacts at a time.
//!
//! Order, for each artifact: its files and folders, then the folder it was renamed into, then the mark that its result
//! is durable (see [`crate::records`]). Before that mark the result is trusted only while this machine runs, and checked by digest
//! after.

use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::disk::{Act, Disk};
use super::{Records, StoreError, io_error, object_path};
use crate::Digest;
use crate::records::ResultId;

/// Longest time until a commit is brought to the disk while a run goes on.
const INTERVAL: Duration = Duration::from_secs(1);

/// Number of files up to which each is brought to the disk by a call of its own; more are by one call for the whole file system.
const FEW: usize = 16;

/// An artifact that was committed, with the files that have to reach the disk before its result is durable.
pub(super) struct Pending {
    /// None for an artifact that is part of a result to come.
    pub(super) result: Option<ResultId>,
    pub(super) artifact: Digest,
    /// Files and folders, the innermost first.
    pub(super) paths: Vec<PathBuf>,
}

/// Brings commits to the disk in the background, from the first commit on.
pub(super) struct Flusher {
    work: Arc<Work>,
    thread: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
}

struct Work {
    root: PathBuf,
    disk: Disk,
    records: Arc<Records>,
    pending: Mutex<Vec<Pending>>,
    /// Held while flushing, so that a thread that waits for the disk also waits for what another thread has taken over.
    flushing: Mutex<()>,
}

impl Flusher {
    pub(super) fn new(root: PathBuf, disk: Disk, records: Arc<Records>) -> Self {
        let work = Work { root, disk, records, pending: Mutex::default(), flushing: Mutex::default() };
        Self { work: Arc::new(work), thread: Mutex::default() }
    }

    pub(super) fn add(&self, pending: Pending) {
        self.work.pending.lock().expect("no holder of this lock panics").push(pending);
        let mut thread = self.thread.lock().expect("no holder of this lock panics");
        if thread.is_none() {
            let (end, ended) = mpsc::channel();
            let work = Arc::clone(&self.work);
            let run = move || {
                while matches!(ended.recv_timeout(INTERVAL), Err(RecvTimeoutError::Timeout)) {
                    let _ = work.flush(); // what cannot be written now is tried again, at last by the caller that waits for it
                }
            };
            *thread = std::thread::Builder::new().name("flush".to_owned()).spawn(run).ok().map(|thread| (end, thread));
        }
    }

    /// Waits until all that was added is on disk.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        self.work.flush()
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.thread.lock().ok().and_then(|mut thread| thread.take()) {
            drop(end);
            let _ = thread.join(); // it does not panic
        }
    }
}

impl Work {
    fn flush(&self) -> Result<(), StoreError> {
        let _turn = self.flushing.lock().expect("no holder of this lock panics");
        let pending = std::mem::take(&mut *self.pending.lock().expect("no holder of this lock panics"));
        if pending.is_empty() {
            return Ok(());
        }
        let flushed = self.bring_to_disk(&pending);
        if flushed.is_err() {
            self.pending.lock().expect("no holder of this lock panics").extend(pending);
        }
        flushed
    }

    fn bring_to_disk(&self, pending: &[Pending]) -> Result<(), StoreError> {
        let paths: Vec<&PathBuf> = pending.iter().flat_map(|one| &one.paths).collect();
        if paths.len() <= FEW {
            for path in paths {
                match self.disk.sync(path) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {} // set aside meanwhile: nothing trusts it
                    synced => synced.map_err(io_error("write", path))?,
                }
            }
        } else {
            self.disk.sync_all(&self.root).map_err(io_error("write", &self.root))?;
            let objects = self.root.join("objects");
            if objects.is_symlink() {
                self.disk.sync_all(&objects).map_err(io_error("write", &objects))?; // perhaps another file system
            }
        }
        let artifacts = || pending.iter().map(|one| object_path(&self.root, one.artifact)).collect();
        self.disk.ask(|| Act::MarkDurable(artifacts())).map_err(io_error("write", &self.root))?;
        let results: Vec<ResultId> = pending.iter().filter_map(|one| one.result).collect();
        self.records.ask(|index| index.mark_durable(&results))
    }
}
