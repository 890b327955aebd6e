//! Bringing what was committed to the disk, many artifacts at a time.
//!
//! Order, for each artifact: its files and folders, then the folder it was renamed into, then the settled mark of its trace
//! (see [`crate::traces`]). Before that mark the trace is trusted only while this machine runs, and checked by digest after.

use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::disk::{Act, Disk};
use super::{Database, StoreError, io_error, place};
use crate::Digest;
use crate::traces::TraceId;

/// How long a commit may stay unsettled while a run goes on.
const INTERVAL: Duration = Duration::from_secs(1);

/// Up to so many files are brought to the disk one by one; more of them by one call for the whole file system.
const FEW: usize = 16;

/// Something that was committed, and what has to reach the disk before it is settled.
pub(super) struct Pending {
    /// None for what only goes along with a trace to come.
    pub(super) trace: Option<TraceId>,
    pub(super) artifact: Digest,
    /// Files and folders, the innermost first.
    pub(super) paths: Vec<PathBuf>,
}

/// Settles in the background, once a commit has been made.
pub(super) struct Settler {
    work: Arc<Work>,
    thread: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
}

struct Work {
    root: PathBuf,
    disk: Disk,
    database: Arc<Database>,
    pending: Mutex<Vec<Pending>>,
    /// Held while settling, so that whoever waits for the disk waits for what another thread has taken over too.
    settling: Mutex<()>,
}

impl Settler {
    pub(super) fn new(root: PathBuf, disk: Disk, database: Arc<Database>) -> Self {
        let work = Work { root, disk, database, pending: Mutex::default(), settling: Mutex::default() };
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
                    let _ = work.settle(); // what cannot be settled now is tried again, at last by whoever waits for it
                }
            };
            *thread = std::thread::Builder::new().name("settle".to_owned()).spawn(run).ok().map(|thread| (end, thread));
        }
    }

    /// Waits until all that was added is on disk.
    pub(super) fn settle(&self) -> Result<(), StoreError> {
        self.work.settle()
    }
}

impl Drop for Settler {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.thread.lock().ok().and_then(|mut thread| thread.take()) {
            drop(end);
            let _ = thread.join(); // it does not panic
        }
    }
}

impl Work {
    fn settle(&self) -> Result<(), StoreError> {
        let _turn = self.settling.lock().expect("no holder of this lock panics");
        let pending = std::mem::take(&mut *self.pending.lock().expect("no holder of this lock panics"));
        if pending.is_empty() {
            return Ok(());
        }
        let settled = self.bring_to_disk(&pending);
        if settled.is_err() {
            self.pending.lock().expect("no holder of this lock panics").extend(pending);
        }
        settled
    }

    fn bring_to_disk(&self, pending: &[Pending]) -> Result<(), StoreError> {
        let paths: Vec<&PathBuf> = pending.iter().flat_map(|one| &one.paths).collect();
        if paths.len() <= FEW {
            for path in paths {
                match self.disk.sync(path) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {} // set aside meanwhile: no one trusts it
                    synced => synced.map_err(io_error("write", path))?,
                }
            }
        } else {
            self.disk.sync_all(&self.root).map_err(io_error("write", &self.root))?;
        }
        let artifacts = || pending.iter().map(|one| place(&self.root, one.artifact)).collect();
        self.disk.ask(|| Act::Settle(artifacts())).map_err(io_error("write", &self.root))?;
        let traces: Vec<TraceId> = pending.iter().filter_map(|one| one.trace).collect();
        self.database.ask(|database| database.settle(&traces))
    }
}
