//! Artifacts on disk: immutable folders named by the digest of their content.
//!
//! ```text
//! objects/ab/cdef...     artifacts
//! aside/                 artifacts that turned out to be damaged, for whoever wants to look at them
//! scratch/<process>/     one folder per attempt; never reused
//! resume/<fingerprint>/  what a long stage keeps to go on after being killed
//! locks/                 files for locks of the kernel: who makes what (see `claim`), opens the store, collects
//! stat/                  stat caches of outside trees
//! logs/<run>/            logs of nodes
//! traces.db              what is known of earlier executions (see [`crate::traces`])
//! ```
//!
//! Publishing: hash and protect every file of the attempt, rename it into place, record it; then, many at a time, bring it all
//! to the disk and settle it (see `settle`). Killed anywhere in between, the store holds only whole artifacts, and a power
//! failure loses at most what was not settled.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::Digest;
use crate::plan::Parts;
use crate::run::log_name;
use crate::source::TreeFile;
use crate::stage::Stop;
use crate::traces::{DbError, Known, Member, RunRow, Step, Trace, TraceId, Traces, damaged};

mod claim;
pub mod disk;
pub mod house;
mod publish;
mod recall;
mod settle;

pub use claim::Claim;
use claim::Claims;
use disk::{Act, Disk, Watch};
use publish::Look;
pub use recall::Recall;
use settle::{Pending, Settler};

/// A store on disk. Several processes may use one at a time.
pub struct Store {
    root: PathBuf,
    disk: Disk,
    database: Arc<Database>,
    settler: Settler,
    known: Mutex<HashMap<Digest, Arc<Known>>>,
    /// The traces of fingerprints that were looked up.
    found: Mutex<HashMap<Digest, TraceId>>,
    /// What the files of artifacts of many files looked like when they were known to be sound.
    looked_at: Mutex<HashMap<Digest, Arc<Vec<Look>>>>,
    claims: Arc<Claims>,
    session: Session,
    attempts: AtomicU64,
    /// The damaged database that opening set aside.
    pub set_aside: Option<PathBuf>,
}

/// What keeps this process's scratch folders from being cleaned away by another.
struct Session {
    folder: PathBuf,
    _lock: File,
}

/// A store that cannot be used, or not for this.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file or folder of the store cannot be read or written.
    #[error("cannot {action} `{path}`")]
    Io {
        /// The verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The database answers with an error.
    #[error("the store's database `{path}` cannot be used")]
    Database {
        /// The database.
        path: PathBuf,
        /// The cause.
        #[source]
        source: rusqlite::Error,
    },
    /// An artifact lacks the part that an input names.
    #[error("the artifact has no `{part}`; it holds {holds}")]
    NoPart {
        /// The part.
        part: String,
        /// What it holds.
        holds: String,
    },
    /// A stage left something other than files and folders.
    #[error("`{path}` is neither a file nor a folder, and artifacts hold nothing else")]
    NotPlain {
        /// The thing.
        path: PathBuf,
    },
    /// The artifact is not in the store.
    #[error("artifact {digest} is not in the store")]
    Gone {
        /// Its digest.
        digest: Digest,
    },
}

/// To look at each file of an artifact before each use would cost the square of their number where every part of a corpus is
/// used by a node of its own. So of artifacts with more files than this, all are looked at before the first use in a process, and
/// then those of the part that is used.
const MANY_FILES: usize = 64;

/// The database, for one thread at a time.
struct Database {
    root: PathBuf,
    traces: Mutex<Traces>,
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { action, path, source }
}

/// Where an artifact lies in a store.
fn place(root: &Path, artifact: Digest) -> PathBuf {
    let hex = artifact.to_string();
    root.join("objects").join(&hex[..2]).join(&hex[2..])
}

impl Store {
    /// Opens a store, beginning it when there is none.
    ///
    /// # Errors
    /// [`StoreError`] when its folders or its database cannot be made, read or written.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        Self::open_with(root, Disk::default())
    }

    /// Opens a store of which every change is watched, for tests.
    ///
    /// # Errors
    /// As [`Self::open`], and whatever the watch refuses.
    pub fn open_watched(root: &Path, watch: Arc<dyn Watch>) -> Result<Self, StoreError> {
        Self::open_with(root, Disk::watched(watch))
    }

    fn open_with(root: &Path, disk: Disk) -> Result<Self, StoreError> {
        for folder in ["objects", "scratch", "resume", "locks", "stat", "logs"] {
            let path = root.join(folder);
            if !path.is_dir() {
                disk.make_folders(&path).map_err(io_error("create", &path))?;
            }
        }
        let root = root.canonicalize().map_err(io_error("open", root))?;
        let opening = opening(&root)?;
        let (traces, set_aside) = Traces::open(&database_path(&root)).map_err(database_error(&root))?;
        sweep(&root.join("scratch"));
        let session = Session::begin(&root.join("scratch"))?;
        let claims = Claims::open(&root.join("locks"))?;
        let database = Arc::new(Database { root: root.clone(), traces: Mutex::new(traces) });
        let settler = Settler::new(root.clone(), disk.clone(), Arc::clone(&database));
        let attempts = AtomicU64::new(0);
        let store = Self {
            root,
            disk,
            database,
            settler,
            known: Mutex::default(),
            found: Mutex::default(),
            looked_at: Mutex::default(),
            claims,
            session,
            attempts,
            set_aside,
        };
        drop(opening); // what follows may find the database damaged, and then opens it again
        store.resolve_doubts()?;
        store.sweep_resume()?;
        Ok(store)
    }

    /// After a power failure: checks the artifacts that may not have reached the disk, by digest.
    fn resolve_doubts(&self) -> Result<(), StoreError> {
        let doubts = self.database.ask(|database| database.doubts())?;
        let mut settled = vec![];
        for doubt in doubts {
            if self.is_sound(doubt.artifact).unwrap_or(false) {
                settled.push(doubt.trace);
            } else {
                self.put_aside(doubt.artifact)?;
                self.database.ask(|database| database.forget(doubt.trace))?;
            }
        }
        if !settled.is_empty() {
            self.disk.sync_all(&self.root).map_err(io_error("write", &self.root))?;
            self.database.ask(|database| database.settle(&settled))?;
        }
        Ok(())
    }

    /// Removes the resume folders of what was finished by a process that was killed right after.
    fn sweep_resume(&self) -> Result<(), StoreError> {
        for entry in fs::read_dir(self.root.join("resume")).into_iter().flatten().flatten() {
            let Some(fingerprint) = entry.file_name().to_str().and_then(Digest::parse) else { continue };
            if self.lookup(fingerprint)?.is_some() && self.claims.try_claim(fingerprint)?.is_some() {
                let _ = fs::remove_dir_all(entry.path()); // what stays behind only takes room
            }
        }
        Ok(())
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where an artifact lies.
    pub fn path(&self, artifact: Digest) -> PathBuf {
        place(&self.root, artifact)
    }

    /// Whether an artifact is there.
    pub fn has(&self, artifact: Digest) -> bool {
        self.path(artifact).is_dir()
    }

    /// A new empty folder for one attempt, and a place beside it for what shall not be published.
    ///
    /// # Errors
    /// [`StoreError::Io`]
    pub fn attempt(&self) -> Result<PathBuf, StoreError> {
        let path = self.session.folder.join(self.attempts.fetch_add(1, Ordering::Relaxed).to_string());
        self.disk.make_folder(&path).map_err(io_error("create", &path))?;
        Ok(path)
    }

    /// The folder that outlives killed attempts of a fingerprint; it may not exist yet.
    pub fn resume_path(&self, fingerprint: Digest) -> PathBuf {
        self.root.join("resume").join(fingerprint.to_string())
    }

    /// The folder that outlives killed attempts of a fingerprint.
    ///
    /// # Errors
    /// [`StoreError::Io`]
    pub fn resume(&self, fingerprint: Digest) -> Result<PathBuf, StoreError> {
        let path = self.resume_path(fingerprint);
        self.disk.make_folders(&path).map_err(io_error("create", &path))?;
        Ok(path)
    }

    /// The stat cache file of an outside tree.
    pub fn stat_cache(&self, place: &str, root: &Path) -> PathBuf {
        let key = format!("{place}\0{}", root.display());
        self.root.join("stat").join(Digest::of(key.as_bytes()).to_string())
    }

    /// Where the log of a node lies.
    pub(crate) fn log_path(&self, run: i64, id: &str) -> PathBuf {
        self.root.join("logs").join(run.to_string()).join(log_name(id))
    }

    /// The folder for the logs of a run.
    ///
    /// # Errors
    /// [`StoreError::Io`]
    pub fn logs(&self, run: i64) -> Result<PathBuf, StoreError> {
        let path = self.root.join("logs").join(run.to_string());
        fs::create_dir_all(&path).map_err(io_error("create", &path))?;
        Ok(path)
    }

    /// Waits until no other run makes this fingerprint. None when a stop was asked for meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Io`]
    pub fn claim(&self, fingerprint: Digest, stop: &Stop) -> Result<Option<Claim>, StoreError> {
        loop {
            match self.claims.try_claim(fingerprint)? {
                Some(claim) => return Ok(Some(claim)),
                None if stop.requested() => return Ok(None),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Whether an artifact, or a part of it, may be read by a stage. One that is damaged is set aside, so that its producer runs
    /// again.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn usable(&self, artifact: Digest, part: Option<&str>) -> Result<bool, StoreError> {
        let known = match self.known(artifact) {
            Ok(known) => known,
            Err(StoreError::Gone { .. }) => {
                self.put_aside(artifact)?;
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let path = self.path(artifact);
        let looked_at = || self.looked_at.lock().expect("no holder of this lock panics");
        let before = looked_at().get(&artifact).cloned();
        if let Some(before) = before {
            let places = publish::places_of(&known.files, part);
            if publish::looks(&path, &known.files[places.clone()]).is_some_and(|now| now == before[places]) {
                return Ok(true);
            }
            looked_at().remove(&artifact);
        }
        let looks = publish::looks(&path, &known.files);
        let stamp = looks.as_deref().map(publish::stamp_of);
        if stamp == Some(known.stamp) {
            if let Some(looks) = looks.filter(|looks| looks.len() > MANY_FILES) {
                looked_at().insert(artifact, Arc::new(looks));
            }
            return Ok(true);
        }
        if stamp.is_none() || !publish::is_sound(&path, &known.files) {
            self.put_aside(artifact)?;
            return Ok(false);
        }
        // Touched or copied, but the bytes are what they were.
        let known = Known { files: known.files.clone(), stamp: stamp.unwrap_or_default() };
        self.database.ask(|database| database.add_artifact(artifact, &known))?;
        self.remember(artifact, known);
        Ok(true)
    }

    /// Whether every file of an artifact still has the content it was published with.
    ///
    /// # Errors
    /// As [`Self::listing`].
    pub fn is_sound(&self, artifact: Digest) -> Result<bool, StoreError> {
        Ok(publish::is_sound(&self.path(artifact), &self.known(artifact)?.files))
    }

    /// Moves a damaged artifact out of the way. What gave it counts as gone from then on.
    fn put_aside(&self, artifact: Digest) -> Result<(), StoreError> {
        let path = self.path(artifact);
        if path.symlink_metadata().is_err() {
            return Ok(());
        }
        let folder = self.root.join("aside");
        self.disk.make_folders(&folder).map_err(io_error("create", &folder))?;
        let name = artifact.to_string();
        let aside = (0..u32::MAX).map(|n| folder.join(format!("{name}.{n}"))).find(|aside| !aside.exists());
        let aside = aside.expect("some number is free");
        match self.disk.rename(&path, &aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("set aside", &path)(error)),
            _ => Ok(()), // another process was first
        }
    }

    /// Makes an attempt's folder an artifact. It counts once it is part of a trace that is committed.
    ///
    /// # Errors
    /// [`StoreError`]; the attempt stays where it is.
    pub fn publish(&self, attempt: &Path) -> Result<Digest, StoreError> {
        let sealed = publish::seal(attempt, &self.disk)?;
        let artifact = publish::digest_of(&sealed.known.files);
        let target = self.path(artifact);
        if target.is_dir() && self.usable(artifact, None)? {
            return Ok(artifact);
        }
        let parent = target.parent().expect("objects lie in folders");
        let mut paths = publish::insides(&target, &sealed);
        if !parent.is_dir() {
            self.disk.make_folders(parent).map_err(io_error("create", parent))?;
            paths.push(self.root.join("objects"));
        }
        match self.disk.rename(attempt, &target) {
            Ok(()) => {}
            Err(_) if target.is_dir() => return Ok(artifact), // another run was first, with the same bytes
            Err(source) => return Err(io_error("publish", &target)(source)),
        }
        paths.push(parent.to_owned());
        self.settler.add(Pending { trace: None, artifact, paths });
        self.remember(artifact, sealed.known);
        Ok(artifact)
    }

    fn remember(&self, artifact: Digest, known: Known) -> Arc<Known> {
        let known = Arc::new(known);
        self.known.lock().expect("no holder of this lock panics").insert(artifact, Arc::clone(&known));
        known
    }

    /// The files of an artifact.
    ///
    /// # Errors
    /// [`StoreError::Gone`] when it was never published here; [`StoreError::Database`].
    pub fn listing(&self, artifact: Digest) -> Result<Vec<TreeFile>, StoreError> {
        Ok(self.known(artifact)?.files.clone())
    }

    fn known(&self, artifact: Digest) -> Result<Arc<Known>, StoreError> {
        if let Some(found) = self.known.lock().expect("no holder of this lock panics").get(&artifact) {
            return Ok(Arc::clone(found));
        }
        let known = self.database.ask(|database| database.known(artifact))?;
        let known = known.map_or_else(|| self.list_again(artifact), Ok)?;
        Ok(self.remember(artifact, known))
    }

    /// Lists an artifact whose listing was lost with a damaged database.
    fn list_again(&self, artifact: Digest) -> Result<Known, StoreError> {
        let path = self.path(artifact);
        let sealed = if path.is_dir() { Some(publish::seal(&path, &self.disk)?) } else { None };
        let Some(sealed) = sealed.filter(|sealed| publish::digest_of(&sealed.known.files) == artifact) else {
            return Err(StoreError::Gone { digest: artifact });
        };
        self.database.ask(|database| database.add_artifact(artifact, &sealed.known))?;
        Ok(sealed.known)
    }

    /// A trace.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub fn trace(&self, id: TraceId) -> Result<Option<Trace>, StoreError> {
        self.database.ask(|database| database.trace(id))
    }

    /// The trace of a fingerprint.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub fn trace_of(&self, fingerprint: Digest) -> Result<Option<TraceId>, StoreError> {
        self.database.ask(|database| database.trace_of(fingerprint))
    }

    /// The artifact of a fingerprint, when both the trace and the artifact are there.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub fn lookup(&self, fingerprint: Digest) -> Result<Option<Digest>, StoreError> {
        let found = self.database.ask(|database| database.find(fingerprint))?.filter(|found| self.has(found.artifact));
        Ok(found.map(|found| {
            self.found.lock().expect("no holder of this lock panics").insert(fingerprint, found.trace);
            found.artifact
        }))
    }

    /// Asks what is remembered, as of one moment; for planning.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn recall<T>(&self, ask: impl Fn(&Recall<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        match Recall::new(self).and_then(|recall| ask(&recall)) {
            Err(StoreError::Database { source, .. }) if damaged(&source) => {
                self.database.renew(source)?;
                ask(&Recall::new(self)?)
            }
            answer => answer,
        }
    }

    /// Records that a manifest gave an artifact, and clears its resume folder. Returns the artifact that counts: the first one.
    /// A kill at any time after that loses nothing; [`Self::settle`] waits until a power failure does not either.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn commit(&self, trace: &Trace) -> Result<Digest, StoreError> {
        let known = self.known(trace.artifact)?;
        self.disk.ask(|| Act::Record(self.path(trace.artifact))).map_err(io_error("write", &database_path(&self.root)))?;
        let lost = |artifact: Digest| artifact != trace.artifact && !self.has(artifact);
        let (id, artifact) = self.database.ask(|database| database.commit(trace, &known, lost))?;
        self.settler.add(Pending { trace: Some(id), artifact, paths: vec![] });
        self.found.lock().expect("no holder of this lock panics").insert(trace.manifest.fingerprint(), id);
        self.hold([artifact])?;
        let resume = self.resume_path(trace.manifest.fingerprint());
        let _ = fs::remove_dir_all(resume); // of no more use; what stays behind only takes room
        Ok(artifact)
    }

    /// Waits until all that was committed is on disk.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn settle(&self) -> Result<(), StoreError> {
        self.settler.settle()
    }

    /// Notes the fingerprints that nodes (`workflow:node`) have in this run without having run.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub fn note_reused(&self, nodes: &[(String, Digest)]) -> Result<(), StoreError> {
        let mut traces = Vec::with_capacity(nodes.len());
        for (node, fingerprint) in nodes {
            let found = self.found.lock().expect("no holder of this lock panics").get(fingerprint).copied();
            let trace = found.map_or_else(|| self.trace_of(*fingerprint), |trace| Ok(Some(trace)))?;
            traces.extend(trace.map(|trace| (node.clone(), trace)));
        }
        self.database.ask(|database| database.note_reused(&traces))
    }

    /// The trace a node (`workflow:node`) had last, and the one before.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub fn latest(&self, node: &str) -> Result<Option<(TraceId, Option<TraceId>)>, StoreError> {
        self.database.ask(|database| database.latest(node))
    }

    /// How long each node (`workflow:node`) of a workflow took when it last ran.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub fn durations(&self, workflow: &str) -> Result<HashMap<String, f64>, StoreError> {
        self.database.ask(|database| database.durations(workflow))
    }

    /// A number that changes whenever a node of the workflow has another trace than before.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub fn generation(&self, workflow: &str) -> Result<i64, StoreError> {
        self.database.ask(|database| database.generation(workflow))
    }

    /// Enters a run into the record.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub fn begin_run(&self, workflow: &str, request: &str, host: &str, started_ms: i64) -> Result<i64, StoreError> {
        self.database.ask(|database| database.begin_run(workflow, request, host, started_ms))
    }

    /// Ends a run in the record.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub fn end_run(&self, run: i64, outcome: &str, steps: &[Step], ended_ms: i64) -> Result<(), StoreError> {
        self.database.ask(|database| database.end_run(run, outcome, steps, ended_ms))
    }

    /// Ends a run that found everything as the run before it of the same workflow left it.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub fn end_same(&self, run: i64, ended_ms: i64) -> Result<(), StoreError> {
        self.database.ask(|database| database.end_same(run, ended_ms))
    }

    /// The latest runs, newest first.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub fn runs(&self, limit: usize) -> Result<Vec<RunRow>, StoreError> {
        self.database.ask(|database| database.runs(limit))
    }

    /// One run.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub fn run(&self, run: i64) -> Result<Option<RunRow>, StoreError> {
        self.database.ask(|database| database.run(run))
    }

    /// The nodes of a run that did not simply stay as they were.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub fn steps(&self, run: i64) -> Result<Vec<Step>, StoreError> {
        let mut steps = self.database.ask(|database| database.steps(run))?;
        for step in steps.iter_mut().filter(|step| step.attempts > 0) {
            let id = step.node.split_once(':').map_or(step.node.as_str(), |(_, id)| id);
            step.log = Some(self.log_path(run, id));
        }
        Ok(steps)
    }

    /// The nodes that were up to date at the end of a run, with what made them, by name.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub fn members(&self, run: i64) -> Result<Vec<Member>, StoreError> {
        self.database.ask(|database| database.members(run))
    }
}

impl Parts for Store {
    fn part_digest(&self, artifact: Digest, part: Option<&str>) -> Result<Digest, StoreError> {
        let Some(part) = part else { return Ok(artifact) };
        publish::part_digest(&self.known(artifact)?.files, part)
    }
}

fn database_path(root: &Path) -> PathBuf {
    root.join("traces.db")
}

fn database_error(root: &Path) -> impl FnOnce(DbError) -> StoreError {
    let path = database_path(root);
    move |source| StoreError::Database { path, source }
}

impl Database {
    /// Asks the database. When only now it turns out to be damaged, a new one is begun and asked.
    fn ask<T>(&self, mut ask: impl FnMut(&mut Traces) -> Result<T, DbError>) -> Result<T, StoreError> {
        let mut traces: MutexGuard<'_, Traces> = self.traces.lock().expect("no holder of this lock panics");
        let answer = match ask(&mut traces) {
            Err(error) if damaged(&error) => {
                drop(traces);
                self.renew(error)?;
                traces = self.traces.lock().expect("no holder of this lock panics");
                ask(&mut traces)
            }
            answer => answer,
        };
        answer.map_err(database_error(&self.root))
    }

    /// Replaces the database after an error that told of damage.
    fn renew(&self, error: DbError) -> Result<(), StoreError> {
        let _opening = opening(&self.root)?;
        let mut traces = self.traces.lock().expect("no holder of this lock panics");
        *traces = Traces::reopen(&database_path(&self.root), error).map_err(database_error(&self.root))?;
        Ok(())
    }
}

impl Session {
    fn begin(scratch: &Path) -> Result<Self, StoreError> {
        let mut number = u64::from(std::process::id());
        loop {
            let folder = scratch.join(number.to_string());
            match fs::create_dir(&folder) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    number += 1 << 32;
                    continue;
                }
                Err(source) => return Err(io_error("create", &folder)(source)),
            }
            let path = folder.join("lock");
            let lock = File::create(&path).and_then(|file| file.lock().map(|()| file));
            return Ok(Self { _lock: lock.map_err(io_error("lock", &path))?, folder });
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder); // what cannot be removed now is swept by a later run
    }
}

/// Lets one process at a time open the store. Another might otherwise set aside the database that this one has just begun,
/// or sweep this one's scratch folder before it is locked.
fn opening(root: &Path) -> Result<File, StoreError> {
    let path = root.join("locks").join("opening");
    let lock = File::create(&path).and_then(|file| file.lock().map(|()| file));
    lock.map_err(io_error("lock", &path))
}

/// Removes the scratch folders of processes that are gone: those whose lock is free.
fn sweep(scratch: &Path) {
    for entry in fs::read_dir(scratch).into_iter().flatten().flatten() {
        // A folder without its lock file was made a moment ago, or was left by a kill between two calls: spare the first.
        let age = entry.metadata().and_then(|meta| meta.modified()).ok().and_then(|time| time.elapsed().ok());
        let lock = File::open(entry.path().join("lock")); // held until the folder is gone
        let free = match &lock {
            Ok(lock) => lock.try_lock().is_ok(),
            Err(_) => age.is_some_and(|age| age > Duration::from_secs(60)),
        };
        if free {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
