//! Artifacts on disk: immutable folders named by the digest of their content.
//!
//! ```text
//! format                 format of the store
//! objects/ab/cdef...     artifacts
//! records.log            results and runs (see [`crate::records`])
//! traces.db              index of them
//! aside/                 artifacts that turned out to be damaged
//! scratch/<process>/     one folder per attempt; never reused
//! resume/<fingerprint>/  state of a long stage, with which it goes on after being killed
//! locks/                 files for locks of the kernel: making a fingerprint (see `lock`), opening the store, collecting
//! projects/              folders of links to results, which garbage collection keeps
//! stat/                  stat caches of outside trees
//! away/ab/cdef...        empty files for artifacts whose bytes are left in the shared cache (see `away`)
//! logs/<run>/            logs of nodes
//! ```
//!
//! Publishing: hash and protect every file of the attempt, rename it into place, record it; then, many at a time, bring it all
//! to the disk and mark it as durable (see `flush`). Killed anywhere in between, the store holds only whole artifacts, and a power
//! failure loses at most what was not durable.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use crate::Digest;
use crate::records::{ArtifactFiles, Index, RecordsError, ResultId, ResultRecord};
use crate::source::TreeFile;
use crate::stage::Stop;

mod access;
mod away;
pub mod disk;
mod error;
mod flush;
pub mod gc;
mod history;
mod lock;
mod logs;
mod publish;
mod share;
mod snapshot;

pub use crate::source::file_system;
pub use access::network_file_system;
use access::{ScratchFolder, opening};
use away::Away;
use disk::{Act, Disk, Watch, make_movable, remove_all};
pub use error::{FULL, StoreError};
use error::{io_error, records_error};
use flush::{Flusher, Pending};
pub use lock::FingerprintLock;
use lock::Locks;
pub use logs::log_name;
use publish::{FileState, Sealed};
pub(crate) use publish::{HASHED, digest_of_path, part_digest, seal_folder};
pub use share::{share_objects, store_id};
pub use snapshot::StoreSnapshot;

/// A store on disk. Several processes may use one at a time.
pub struct Store {
    /// Folder of the store.
    root: PathBuf,
    /// Folder for everything that is written: the store itself, or a temporary folder while the store may only be read.
    work: PathBuf,
    /// The temporary folder, removed at the end.
    temporary: Option<tempfile::TempDir>,
    disk: Disk,
    records: Arc<Records>,
    flusher: Flusher,
    known: Mutex<HashMap<Digest, Arc<ArtifactFiles>>>,
    /// Results of fingerprints that were looked up.
    found: Mutex<HashMap<Digest, ResultId>>,
    /// State of the files of artifacts of many files when they were known to be sound.
    checked: Mutex<HashMap<Digest, Arc<Vec<FileState>>>>,
    /// Artifacts that are damaged, in a store that may only be read.
    hidden: Mutex<HashSet<Digest>>,
    away: Away,
    /// Opened at once, in a view when it is needed.
    locks: OnceLock<Arc<Locks>>,
    /// Begun at once, in a view when it is needed.
    scratch: OnceLock<ScratchFolder>,
    attempts: AtomicU64,
}

/// Number of files from which those of the part in use are examined before each use, not all of the artifact. Where every part of a
/// corpus is read by a node of its own, examining all would cost the square of their number.
const MANY_FILES: usize = 64;

/// The records, for one thread at a time.
struct Records {
    /// Folder of the index.
    folder: PathBuf,
    /// True if the index is a copy for reading.
    is_view: bool,
    index: Mutex<Index>,
}

/// File that says that a result depends on the version of an external program.
const TOOLS: &str = "tools";

/// Path of an artifact in a store.
fn object_path(root: &Path, artifact: Digest) -> PathBuf {
    artifact.folder_in(&root.join("objects"))
}

impl Store {
    /// Opens a store for writing, beginning it when there is none.
    ///
    /// # Errors
    /// [`StoreError`] when its folders or its records cannot be made, read or written.
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

    /// Opens a store for reading: changes nothing in it and takes no lock, and begins none where there is none. Scans and results of
    /// source stages, which planning may need, go to a temporary folder.
    ///
    /// # Errors
    /// [`StoreError`] when a newer version of this program wrote the store, or its records cannot be read.
    pub fn view(root: &Path) -> Result<Self, StoreError> {
        access::check_format(root)?;
        let temporary = tempfile::Builder::new().prefix("sure-").tempdir();
        let temporary = temporary.map_err(|source| io_error("create", &std::env::temp_dir())(source))?;
        let (work, disk) = (temporary.path().to_owned(), Disk::default());
        let stat = work.join("stat"); // other folders are made when something is to be written
        fs::create_dir(&stat).map_err(io_error("create", &stat))?;
        let is_shared = access::check_file_system(root).is_err();
        let index = Index::view(root, &work, is_shared).map_err(records_error(root))?;
        let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
        Self::with(root, work, Some(temporary), disk, index)
    }

    /// Opens the store of this view for writing, and keeps the scans of the view in it. Returns none when that is not possible, or not
    /// without making, repairing or migrating something.
    pub fn reopen_for_writing(&self) -> Option<Self> {
        let is_writable = || rustix::fs::access(&self.root, rustix::fs::Access::WRITE_OK).is_ok();
        if !self.is_view() || !Index::is_current(&self.root) || !is_writable() {
            return None;
        }
        let store = Self::open(&self.root).ok()?;
        store.count_away(self.counts_away());
        for scan in self.new_scans() {
            let (from, to) = (self.work.join("stat").join(&scan), store.work.join("stat").join(&scan));
            let Ok(aside) = store.scratch().map(|folder| folder.join(scan)) else { continue };
            let _ = fs::copy(from, &aside).and_then(|_| fs::rename(aside, to)); // without it, the files are hashed again
        }
        Some(store)
    }

    /// Names of the stat caches that scans through this view have written: none when the trees are as the store knows them.
    fn new_scans(&self) -> Vec<std::ffi::OsString> {
        let entries = fs::read_dir(self.work.join("stat")).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file())).map(|entry| entry.file_name()).collect()
    }

    /// True if scans through this view found the trees as the store knows them.
    pub(crate) fn has_no_new_scan(&self) -> bool {
        self.new_scans().is_empty()
    }

    fn open_with(root: &Path, disk: Disk) -> Result<Self, StoreError> {
        access::check_file_system(root)?;
        share::check_owner(root)?;
        access::check_format(root)?;
        access::share_with_group(root);
        make_folders(root, &disk)?;
        let root = root.canonicalize().map_err(io_error("open", root))?;
        let opening = opening(&root)?;
        let index = Index::open(&root).map_err(records_error(&root))?;
        access::write_format(&root)?;
        access::make_reserve(&root);
        let _ = fs::remove_dir_all(root.join("memo")); // the plan cache of an older version
        access::sweep(&root.join("scratch"))?;
        let store = Self::with(root.clone(), root, None, disk, index)?;
        drop(opening); // what follows may find the index damaged, and then opens it again
        store.check_doubtful()?;
        store.sweep_resume()?;
        Ok(store)
    }

    fn with(
        root: PathBuf,
        work: PathBuf,
        temporary: Option<tempfile::TempDir>,
        disk: Disk,
        index: Index,
    ) -> Result<Self, StoreError> {
        let is_view = temporary.is_some();
        let records = Arc::new(Records { folder: work.clone(), is_view, index: Mutex::new(index) });
        let flusher = Flusher::new(work.clone(), disk.clone(), Arc::clone(&records));
        let store = Self {
            root,
            work,
            temporary,
            disk,
            records,
            flusher,
            known: Mutex::default(),
            found: Mutex::default(),
            checked: Mutex::default(),
            hidden: Mutex::default(),
            away: Away::default(),
            locks: OnceLock::new(),
            scratch: OnceLock::new(),
            attempts: AtomicU64::new(0),
        };
        if !is_view {
            store.scratch()?;
            store.locks()?;
        }
        Ok(store)
    }

    /// Folder of this process for attempts.
    fn scratch(&self) -> Result<&Path, StoreError> {
        if self.scratch.get().is_none() {
            let _ = self.scratch.set(ScratchFolder::begin(&self.work.join("scratch"))?); // of two threads one is first
        }
        Ok(&self.scratch.get().expect("it was set just now").folder)
    }

    /// Locks of fingerprints.
    fn locks(&self) -> Result<&Arc<Locks>, StoreError> {
        if self.locks.get().is_none() {
            let _ = self.locks.set(Locks::open(&self.work.join("locks"))?); // of two threads one is first
        }
        Ok(self.locks.get().expect("it was set just now"))
    }

    /// True if this process may only read the store.
    pub fn is_view(&self) -> bool {
        self.records.is_view
    }

    /// Repairs since the last call, and what reading found damaged, one sentence each: for the user.
    pub fn notices(&self) -> Vec<String> {
        self.records.index.lock().expect("no holder of this lock panics").take_notices()
    }

    /// After a power failure: checks the artifacts that may not have reached the disk, by digest.
    fn check_doubtful(&self) -> Result<(), StoreError> {
        let (mut durable, mut lost) = (vec![], vec![]);
        for doubtful in self.records.ask(|index| index.doubtful())? {
            if self.is_sound(doubtful.artifact).unwrap_or(false) {
                durable.push(doubtful.result);
            } else {
                self.put_aside(doubtful.artifact)?;
                lost.push(doubtful.result);
            }
        }
        if !lost.is_empty() {
            self.records.ask(|index| index.forget(&lost))?;
        }
        if !durable.is_empty() {
            self.disk.sync_all(&self.root).map_err(io_error("write", &self.root))?;
            self.records.ask(|index| index.mark_durable(&durable))?;
        }
        Ok(())
    }

    /// Removes the resume folders of what was finished by a process that was killed right after.
    fn sweep_resume(&self) -> Result<(), StoreError> {
        for entry in fs::read_dir(self.root.join("resume")).into_iter().flatten().flatten() {
            let Some(fingerprint) = entry.file_name().to_str().and_then(Digest::parse) else { continue };
            if self.lookup(fingerprint)?.is_some() && self.locks()?.try_lock(fingerprint)?.is_some() {
                let _ = fs::remove_dir_all(entry.path()); // what stays behind only takes room
            }
        }
        Ok(())
    }

    /// Folder for what is written: the store, or a temporary folder while it may only be read.
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// Folder of the store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Path of an artifact.
    pub fn path(&self, artifact: Digest) -> PathBuf {
        let path = object_path(&self.work, artifact);
        if self.is_view() && !path.is_dir() { object_path(&self.root, artifact) } else { path }
    }

    /// Folder of all artifacts.
    pub fn objects(&self) -> PathBuf {
        self.work.join("objects")
    }

    /// True if an artifact is in its place.
    pub fn has(&self, artifact: Digest) -> bool {
        self.path(artifact).is_dir() && !self.is_hidden(artifact)
    }

    /// True if an artifact was found damaged in a store that may only be read.
    fn is_hidden(&self, artifact: Digest) -> bool {
        self.is_view() && self.hidden.lock().expect("no holder of this lock panics").contains(&artifact)
    }

    /// Makes a new empty folder for one attempt.
    ///
    /// # Errors
    /// [`StoreError::Io`]
    pub fn attempt(&self) -> Result<PathBuf, StoreError> {
        let path = self.scratch()?.join(self.attempts.fetch_add(1, Ordering::Relaxed).to_string());
        self.disk.make_folder(&path).map_err(io_error("create", &path))?;
        Ok(path)
    }

    /// Path of the folder that outlives killed attempts of a fingerprint; it may not exist yet.
    pub fn resume_path(&self, fingerprint: Digest) -> PathBuf {
        self.work.join("resume").join(fingerprint.to_string())
    }

    /// Makes the folder that outlives killed attempts of a fingerprint.
    ///
    /// # Errors
    /// [`StoreError::Io`]
    pub fn resume(&self, fingerprint: Digest) -> Result<PathBuf, StoreError> {
        let path = self.resume_path(fingerprint);
        self.disk.make_folders(&path).map_err(io_error("create", &path))?;
        Ok(path)
    }

    /// Path of the stat cache of an outside tree.
    pub fn stat_cache(&self, place: &str, root: &Path) -> PathBuf {
        let key = format!("{place}\0{}", root.display());
        let name = Digest::of(key.as_bytes()).to_string();
        let path = self.work.join("stat").join(&name);
        let kept = self.root.join("stat").join(name);
        if self.is_view() && kept.exists() && !path.exists() {
            let _ = std::os::unix::fs::symlink(kept, &path); // a scan that finds a change puts a file in its place
        }
        path
    }

    /// Empties the stat cache of an outside tree.
    pub(crate) fn forget_stat_cache(&self, place: &str, root: &Path) {
        let path = self.stat_cache(place, root);
        let _ = fs::remove_file(&path); // none yet: all is read anyway
        if self.is_view() {
            let _ = File::create(path); // hides that of the store
        }
    }

    /// Path of the log of a node.
    pub(crate) fn log_path(&self, run: i64, id: &str) -> PathBuf {
        let root = if self.is_view() && run == 0 { &self.work } else { &self.root };
        root.join("logs").join(run.to_string()).join(log_name(id))
    }

    /// Makes the folder for the logs of a run.
    ///
    /// # Errors
    /// [`StoreError::Io`]
    pub fn logs(&self, run: i64) -> Result<PathBuf, StoreError> {
        let path = self.work.join("logs").join(run.to_string());
        fs::create_dir_all(&path).map_err(io_error("create", &path))?;
        Ok(path)
    }

    /// Locks a fingerprint. Returns none while another run makes it.
    ///
    /// # Errors
    /// [`StoreError::Io`]
    pub(crate) fn try_lock(&self, fingerprint: Digest) -> Result<Option<FingerprintLock>, StoreError> {
        self.locks()?.try_lock(fingerprint)
    }

    /// Waits until no other run makes this fingerprint. Returns none when a stop was asked for meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Io`]
    pub fn lock(&self, fingerprint: Digest, stop: &Stop) -> Result<Option<FingerprintLock>, StoreError> {
        loop {
            match self.locks()?.try_lock(fingerprint)? {
                Some(lock) => return Ok(Some(lock)),
                None if stop.requested() => return Ok(None),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Checks an artifact, or a part of it, before a stage reads it. One that is damaged is set aside, so that its producer runs
    /// again; one that is left in the shared cache is downloaded. Returns true if it is sound.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn usable(&self, artifact: Digest, part: Option<&str>) -> Result<bool, StoreError> {
        if self.is_away(artifact) && !self.bring(artifact)? {
            return Ok(false);
        }
        let known = match self.known(artifact) {
            Ok(known) => known,
            Err(StoreError::Gone { .. }) => {
                self.put_aside(artifact)?;
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let path = self.path(artifact);
        let checked = || self.checked.lock().expect("no holder of this lock panics");
        let before = checked().get(&artifact).cloned();
        if let Some(before) = before {
            let range = publish::range_of(&known.files, part);
            if publish::states(&path, &known.files[range.clone()]).is_some_and(|now| now == before[range]) {
                return Ok(true);
            }
            checked().remove(&artifact);
        }
        let states = publish::states(&path, &known.files);
        let stamp = states.as_deref().map(publish::stamp_of);
        if stamp == Some(known.stamp) {
            if let Some(states) = states.filter(|states| states.len() > MANY_FILES) {
                checked().insert(artifact, Arc::new(states));
            }
            return Ok(true);
        }
        if stamp.is_none() || !publish::is_sound(&path, &known.files) {
            self.put_aside(artifact)?;
            return Ok(false);
        }
        // Touched or copied, but the bytes are what they were.
        let known = ArtifactFiles { files: known.files.clone(), stamp: stamp.unwrap_or_default() };
        self.records.ask(|index| index.add_artifact(artifact, &known))?;
        self.remember(artifact, known);
        Ok(true)
    }

    /// Hashes an artifact. Returns true if every file still has the content it was published with.
    ///
    /// # Errors
    /// As [`Self::listing`].
    pub fn is_sound(&self, artifact: Digest) -> Result<bool, StoreError> {
        Ok(publish::is_sound(&self.path(artifact), &self.known(artifact)?.files))
    }

    /// Moves a damaged artifact out of the way. From then on it counts as gone.
    fn put_aside(&self, artifact: Digest) -> Result<(), StoreError> {
        let path = object_path(&self.work, artifact);
        if path.symlink_metadata().is_err() {
            self.hidden.lock().expect("no holder of this lock panics").insert(artifact);
            return Ok(());
        }
        make_movable(&path);
        let folder = self.root.join("aside");
        self.disk.make_folders(&folder).map_err(io_error("create", &folder))?;
        let name = artifact.to_string();
        let aside = (0..u32::MAX).map(|n| folder.join(format!("{name}.{n}"))).find(|aside| !aside.exists());
        let aside = aside.expect("some number is free");
        match self.move_folder(&path, &aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("set aside", &path)(error)),
            _ => Ok(()), // another process was first
        }
    }

    /// Makes an attempt's folder an artifact. It counts once it is part of a result that is committed.
    ///
    /// # Errors
    /// [`StoreError`]; the attempt stays where it is.
    pub fn publish(&self, attempt: &Path) -> Result<Digest, StoreError> {
        self.place(attempt, publish::seal(attempt, &self.disk)?)
    }

    /// Moves a sealed folder to its place among the artifacts.
    fn place(&self, attempt: &Path, sealed: Sealed) -> Result<Digest, StoreError> {
        let artifact = publish::digest_of(&sealed.known.files);
        let target = object_path(&self.work, artifact);
        if self.has(artifact) && self.usable(artifact, None)? {
            return Ok(artifact);
        }
        let parent = target.parent().expect("objects lie in folders");
        let mut paths = publish::insides(&target, &sealed);
        if !parent.is_dir() {
            self.disk.make_folders(parent).map_err(io_error("create", parent))?;
            paths.push(self.root.join("objects"));
        }
        match self.move_folder(attempt, &target) {
            Ok(()) => {}
            Err(_) if target.is_dir() => return Ok(artifact), // another run was first, with the same bytes
            Err(source) => return Err(io_error("publish", &target)(source)),
        }
        self.disk.protect_folder(&target).map_err(io_error("protect", &target))?;
        paths.push(parent.to_owned());
        self.flusher.add(Pending { result: None, artifact, paths });
        self.remember(artifact, sealed.known);
        Ok(artifact)
    }

    fn remember(&self, artifact: Digest, known: ArtifactFiles) -> Arc<ArtifactFiles> {
        let known = Arc::new(known);
        self.known.lock().expect("no holder of this lock panics").insert(artifact, Arc::clone(&known));
        known
    }

    /// Returns the digest of a file or folder of an artifact; without `part`, of the whole artifact.
    ///
    /// # Errors
    /// [`StoreError::NoPart`], and as [`Self::listing`].
    pub fn part_digest(&self, artifact: Digest, part: Option<&str>) -> Result<Digest, StoreError> {
        let Some(part) = part else { return Ok(artifact) };
        publish::part_digest(&self.known(artifact)?.files, part)
    }

    /// Returns the files of an artifact.
    ///
    /// # Errors
    /// [`StoreError::Gone`] when it was never published here; [`StoreError::Records`].
    pub fn listing(&self, artifact: Digest) -> Result<Vec<TreeFile>, StoreError> {
        Ok(self.known(artifact)?.files.clone())
    }

    fn known(&self, artifact: Digest) -> Result<Arc<ArtifactFiles>, StoreError> {
        if let Some(found) = self.known.lock().expect("no holder of this lock panics").get(&artifact) {
            return Ok(Arc::clone(found));
        }
        let known = self.records.ask(|index| index.files(artifact))?;
        let known = known.map_or_else(|| self.list_again(artifact), Ok)?;
        Ok(self.remember(artifact, known))
    }

    /// Hashes an artifact that the index does not know.
    fn list_again(&self, artifact: Digest) -> Result<ArtifactFiles, StoreError> {
        let path = self.path(artifact);
        let sealed = if path.is_dir() { Some(publish::seal(&path, &self.disk)?) } else { None };
        let Some(sealed) = sealed.filter(|sealed| publish::digest_of(&sealed.known.files) == artifact) else {
            return Err(StoreError::Gone { digest: artifact });
        };
        self.records.ask(|index| index.add_artifact(artifact, &sealed.known))?;
        Ok(sealed.known)
    }

    /// Looks a fingerprint up. Returns its artifact, when both the result and the artifact are there, or it is left in the shared cache
    /// and that counts (see [`Self::count_away`]).
    ///
    /// # Errors
    /// [`StoreError::Records`]
    pub fn lookup(&self, fingerprint: Digest) -> Result<Option<Digest>, StoreError> {
        let found = self.records.ask(|index| index.find(fingerprint))?;
        let found = found.filter(|found| self.has(found.artifact) || self.is_away(found.artifact));
        Ok(found.map(|found| {
            self.found.lock().expect("no holder of this lock panics").insert(fingerprint, found.result);
            found.artifact
        }))
    }

    /// True if a result may depend on the version of an external program. Where none does, no program is asked for its version.
    pub(crate) fn has_results_of_tools(&self) -> bool {
        self.root.join(TOOLS).exists()
    }

    /// Notes that a result depends on the version of an external program.
    ///
    /// # Errors
    /// [`StoreError::Io`]
    pub(crate) fn note_results_of_tools(&self) -> Result<(), StoreError> {
        let path = self.root.join(TOOLS);
        if path.exists() { Ok(()) } else { fs::write(&path, "").map_err(io_error("write", &path)) }
    }

    /// Asks the records, as of one moment; for planning.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn snapshot<T>(&self, ask: impl Fn(&StoreSnapshot<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        match StoreSnapshot::new(self).and_then(|snapshot| ask(&snapshot)) {
            Err(StoreError::Records { source, .. }) if source.is_damage() => {
                self.records.renew(&source).map_err(records_error(&self.root))?;
                ask(&StoreSnapshot::new(self)?)
            }
            answer => answer,
        }
    }

    /// Records that a manifest gave an artifact, and clears its resume folder. Returns the artifact that counts: the first one.
    /// A kill at any time after that loses nothing; [`Self::flush`] waits until a power failure does not either.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn commit(&self, result: &ResultRecord) -> Result<Digest, StoreError> {
        let known = self.known(result.artifact)?;
        self.disk.ask(|| Act::Record(self.path(result.artifact))).map_err(io_error("write", &self.root.join("records.log")))?;
        let lost = |artifact: Digest| artifact != result.artifact && !self.has(artifact);
        let (id, artifact) = self.records.ask(|index| index.commit(result, &known, lost))?;
        self.flusher.add(Pending { result: Some(id), artifact, paths: vec![] });
        let fingerprint = result.manifest.fingerprint();
        self.found.lock().expect("no holder of this lock panics").insert(fingerprint, id);
        self.hold([artifact])?;
        let _ = fs::remove_dir_all(self.resume_path(fingerprint)); // of no more use; what stays behind only takes room
        Ok(artifact)
    }

    /// Waits until everything that was committed is on disk.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn flush(&self) -> Result<(), StoreError> {
        self.flusher.flush()
    }
}

impl Drop for Store {
    /// Removes the temporary folder, in which artifacts are read-only folders.
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = remove_all(temporary.path()); // what cannot be removed only takes room
        }
    }
}

fn make_folders(root: &Path, disk: &Disk) -> Result<(), StoreError> {
    for folder in ["objects", "scratch", "resume", "locks", "stat", "logs"] {
        let path = root.join(folder);
        if !path.is_dir() {
            disk.make_folders(&path).map_err(io_error("create", &path))?;
        }
    }
    Ok(())
}

impl Records {
    /// Asks the index. When only now it turns out to be damaged, it is made again and asked once more.
    fn ask<T>(&self, mut ask: impl FnMut(&mut Index) -> Result<T, RecordsError>) -> Result<T, StoreError> {
        let mut index: MutexGuard<'_, Index> = self.index.lock().expect("no holder of this lock panics");
        let answer = match ask(&mut index) {
            Err(error) if error.is_damage() && !self.is_view => {
                drop(index);
                self.renew(&error).and_then(|()| ask(&mut self.index.lock().expect("no holder of this lock panics")))
            }
            answer => answer,
        };
        answer.map_err(records_error(&self.folder))
    }

    /// Replaces the index after an error that told of damage.
    fn renew(&self, error: &RecordsError) -> Result<(), RecordsError> {
        let _opening = opening(&self.folder).map_err(|error| match error {
            StoreError::Io { action, path, source } => RecordsError::Log { action, path, source },
            _ => unreachable!("locking gives no other error"),
        })?;
        let mut index = self.index.lock().expect("no holder of this lock panics");
        let notices = index.take_notices();
        *index = Index::reopen(&self.folder, error)?;
        index.add_notices(notices);
        Ok(())
    }
}
