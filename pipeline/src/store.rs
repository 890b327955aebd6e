//! Artifacts on disk: immutable folders named by the digest of their content.
//!
//! ```text
//! objects/ab/cdef...     artifacts
//! scratch/<attempt>/     one folder per attempt; never reused
//! resume/<fingerprint>/  what a long stage keeps to go on after being killed
//! locks/<fingerprint>    kernel locks: one run at a time makes a fingerprint
//! stat/                  stat caches of outside trees
//! logs/<run>/            logs of nodes
//! traces.db              what is known of earlier executions (see [`crate::traces`])
//! ```
//!
//! Publishing: hash and fsync every file and folder of the attempt, rename it into place, fsync the parent, then commit the
//! trace. Killed anywhere in between, the store holds only whole artifacts.

use std::collections::HashMap;
use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rayon::prelude::*;

use crate::Digest;
use crate::source::{TreeFile, hash_file, listing_digest};
use crate::stage::Stop;
use crate::traces::{RunRow, Step, Trace, Traces, damaged};

/// A store on disk. Several processes may use one at a time.
pub struct Store {
    root: PathBuf,
    traces: Mutex<Traces>,
    listings: Mutex<HashMap<Digest, Arc<Vec<TreeFile>>>>,
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

/// Exclusive right to make one fingerprint; ends when dropped, or when the process ends however it ends.
pub struct Claim {
    _file: File,
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { action, path, source }
}

impl Store {
    /// Opens a store, beginning it when there is none.
    ///
    /// # Errors
    /// [`StoreError`] when its folders or its database cannot be made, read or written.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        for folder in ["objects", "scratch", "resume", "locks", "stat", "logs"] {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(io_error("create", &path))?;
        }
        let root = root.canonicalize().map_err(io_error("open", root))?;
        let _opening = opening(&root)?;
        let path = root.join("traces.db");
        let (traces, set_aside) = Traces::open(&path).map_err(|source| StoreError::Database { path, source })?;
        sweep(&root.join("scratch"));
        let session = Session::begin(&root.join("scratch"))?;
        let (traces, listings) = (Mutex::new(traces), Mutex::default());
        let store = Self { root, traces, listings, session, attempts: AtomicU64::new(0), set_aside };
        store.sweep_resume()?;
        Ok(store)
    }

    /// Removes the resume folders of what was finished by a process that was killed right after.
    fn sweep_resume(&self) -> Result<(), StoreError> {
        for entry in fs::read_dir(self.root.join("resume")).into_iter().flatten().flatten() {
            let Some(fingerprint) = entry.file_name().to_str().and_then(Digest::parse) else { continue };
            if self.lookup(fingerprint)?.is_some() && self.try_claim(fingerprint)?.is_some() {
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
        let hex = artifact.to_string();
        self.root.join("objects").join(&hex[..2]).join(&hex[2..])
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
        fs::create_dir(&path).map_err(io_error("create", &path))?;
        Ok(path)
    }

    /// The folder that outlives killed attempts of a fingerprint.
    ///
    /// # Errors
    /// [`StoreError::Io`]
    pub fn resume(&self, fingerprint: Digest) -> Result<PathBuf, StoreError> {
        let path = self.root.join("resume").join(fingerprint.to_string());
        fs::create_dir_all(&path).map_err(io_error("create", &path))?;
        Ok(path)
    }

    /// The stat cache file of an outside tree.
    pub fn stat_cache(&self, place: &str, root: &Path) -> PathBuf {
        let key = format!("{place}\0{}", root.display());
        self.root.join("stat").join(Digest::of(key.as_bytes()).to_string())
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
            match self.try_claim(fingerprint)? {
                Some(claim) => return Ok(Some(claim)),
                None if stop.requested() => return Ok(None),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// None while another run makes this fingerprint.
    fn try_claim(&self, fingerprint: Digest) -> Result<Option<Claim>, StoreError> {
        let path = self.root.join("locks").join(fingerprint.to_string());
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(io_error("create", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Claim { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(io_error("lock", &path)(source)),
        }
    }

    /// Makes an attempt's folder an artifact.
    ///
    /// # Errors
    /// [`StoreError`]; the attempt stays where it is.
    pub fn publish(&self, attempt: &Path) -> Result<Digest, StoreError> {
        let files = seal(attempt)?;
        let digest = digest_of(&files);
        let target = self.path(digest);
        if !target.is_dir() {
            let parent = target.parent().expect("objects lie in folders");
            fs::create_dir_all(parent).map_err(io_error("create", parent))?;
            match fs::rename(attempt, &target) {
                Ok(()) => {}
                Err(_) if target.is_dir() => {} // another run was first, with the same bytes
                Err(source) => return Err(io_error("publish", &target)(source)),
            }
            for folder in [parent, self.root.join("objects").as_path()] {
                sync(folder)?;
            }
        }
        let bytes = files.iter().map(|file| file.size).sum();
        self.database(|traces| traces.add_artifact(digest, bytes, &write_listing(&files)))?;
        self.listings.lock().expect("no holder of this lock panics").insert(digest, Arc::new(files));
        Ok(digest)
    }

    /// The files of an artifact.
    ///
    /// # Errors
    /// [`StoreError::Gone`] when it was never published here; [`StoreError::Database`].
    pub fn listing(&self, artifact: Digest) -> Result<Arc<Vec<TreeFile>>, StoreError> {
        let mut listings = self.listings.lock().expect("no holder of this lock panics");
        if let Some(found) = listings.get(&artifact) {
            return Ok(Arc::clone(found));
        }
        let bytes = self.database(|traces| traces.listing(artifact))?;
        let files = bytes.as_deref().and_then(read_listing).map_or_else(|| self.list_again(artifact), Ok)?;
        let files = Arc::new(files);
        listings.insert(artifact, Arc::clone(&files));
        Ok(files)
    }

    /// Lists an artifact whose listing was lost with a damaged database.
    fn list_again(&self, artifact: Digest) -> Result<Vec<TreeFile>, StoreError> {
        let path = self.path(artifact);
        let files = if path.is_dir() { seal(&path)? } else { vec![] };
        if !path.is_dir() || digest_of(&files) != artifact {
            return Err(StoreError::Gone { digest: artifact });
        }
        let bytes = files.iter().map(|file| file.size).sum();
        self.database(|traces| traces.add_artifact(artifact, bytes, &write_listing(&files)))?;
        Ok(files)
    }

    /// The digest of one file or folder of an artifact, or of all of it.
    ///
    /// # Errors
    /// [`StoreError::NoPart`] when it holds no such thing; otherwise as [`Self::listing`].
    pub fn part_digest(&self, artifact: Digest, part: Option<&str>) -> Result<Digest, StoreError> {
        let Some(part) = part else { return Ok(artifact) };
        let files = self.listing(artifact)?;
        if let Ok(at) = files.binary_search_by(|file| file.path.as_str().cmp(part)) {
            return Ok(files[at].digest);
        }
        let folder = format!("{part}/");
        let first = files.partition_point(|file| file.path < folder); // files are sorted, so those of a folder stand together
        let inside = files[first..].iter().map_while(|file| Some((file.path.strip_prefix(&folder)?, file.size, file.digest)));
        let inside: Vec<_> = inside.collect();
        if inside.is_empty() {
            let mut names: Vec<&str> = files.iter().map(|file| file.path.split('/').next().unwrap_or_default()).collect();
            names.dedup();
            return Err(StoreError::NoPart { part: part.to_owned(), holds: names.join(", ") });
        }
        Ok(listing_digest(inside.into_iter()))
    }

    /// Whether every file of an artifact still has the content it was published with.
    ///
    /// # Errors
    /// As [`Self::listing`].
    pub fn is_sound(&self, artifact: Digest) -> Result<bool, StoreError> {
        let files = self.listing(artifact)?;
        let root = self.path(artifact);
        let sound =
            |file: &TreeFile| File::open(root.join(&file.path)).and_then(|open| hash_file(&open)).ok() == Some(file.digest);
        Ok(files.par_iter().all(sound))
    }

    /// Whether an artifact may be read by a stage. One that is damaged is set aside and what gave it forgotten, so that its
    /// producer runs again.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn usable(&self, artifact: Digest) -> Result<bool, StoreError> {
        Ok(self.has(artifact))
    }

    /// Waits until all that was committed is on disk.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn settle(&self) -> Result<(), StoreError> {
        Ok(()) // a commit waits for the disk already
    }

    /// The trace of a fingerprint.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub fn trace(&self, fingerprint: Digest) -> Result<Option<Trace>, StoreError> {
        self.database(|traces| traces.trace(fingerprint))
    }

    /// The artifact of a fingerprint, when both the trace and the artifact are there.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub fn lookup(&self, fingerprint: Digest) -> Result<Option<Digest>, StoreError> {
        Ok(self.database(|traces| traces.artifact_of(fingerprint))?.filter(|artifact| self.has(*artifact)))
    }

    /// Whether anything was ever made with this recipe (see [`crate::manifest::Manifest::recipe`]).
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub fn knows_recipe(&self, recipe: Digest) -> Result<bool, StoreError> {
        self.database(|traces| traces.knows_recipe(recipe))
    }

    /// Records that a manifest gave an artifact, and clears its resume folder. Returns the artifact that counts: the first one.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub fn commit(&self, trace: &Trace) -> Result<Digest, StoreError> {
        let fingerprint = trace.manifest.fingerprint();
        if self.database(|traces| traces.artifact_of(fingerprint))?.is_some_and(|artifact| !self.has(artifact)) {
            self.database(|traces| traces.forget(fingerprint))?; // its artifact was lost, so it may not win
        }
        let artifact = self.database(|traces| traces.commit(trace))?;
        let resume = self.root.join("resume").join(fingerprint.to_string());
        let _ = fs::remove_dir_all(resume); // of no more use; what stays behind only takes room
        Ok(artifact)
    }

    /// Notes the fingerprints that nodes (`workflow:node`) have in this run without having run.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub fn note_reused(&self, nodes: &[(String, Digest)]) -> Result<(), StoreError> {
        if nodes.is_empty() { Ok(()) } else { self.database(|traces| traces.note_reused(nodes)) }
    }

    /// The fingerprint a node (`workflow:node`) had last, and the one before.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub fn latest(&self, node: &str) -> Result<Option<(Digest, Option<Digest>)>, StoreError> {
        self.database(|traces| traces.latest(node))
    }

    /// How long each node (`workflow:node`) of a workflow took when it last ran.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub fn durations(&self, workflow: &str) -> Result<std::collections::BTreeMap<String, f64>, StoreError> {
        self.database(|traces| traces.durations(workflow))
    }

    /// Enters a run into the record.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub fn begin_run(&self, workflow: &str, request: &str, started_ms: i64) -> Result<i64, StoreError> {
        self.database(|traces| traces.begin_run(workflow, request, started_ms))
    }

    /// Ends a run in the record.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub fn end_run(&self, run: i64, outcome: &str, steps: &[Step]) -> Result<(), StoreError> {
        self.database(|traces| traces.end_run(run, outcome, steps))
    }

    /// The latest runs, newest first.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub fn runs(&self, limit: usize) -> Result<Vec<RunRow>, StoreError> {
        self.database(|traces| traces.runs(limit))
    }

    /// The nodes of a run that did not simply stay as they were.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub fn steps(&self, run: i64) -> Result<Vec<Step>, StoreError> {
        self.database(|traces| traces.steps(run))
    }

    /// Asks the database. When only now it turns out to be damaged, a new one is begun and asked.
    fn database<T>(&self, ask: impl Fn(&mut Traces) -> Result<T, rusqlite::Error>) -> Result<T, StoreError> {
        let mut traces: MutexGuard<'_, Traces> = self.traces.lock().expect("no holder of this lock panics");
        let path = self.root.join("traces.db");
        let answer = match ask(&mut traces) {
            Err(error) if damaged(&error) => {
                let _opening = opening(&self.root)?;
                Traces::reopen(&path, error).and_then(|new| {
                    *traces = new;
                    ask(&mut traces)
                })
            }
            answer => answer,
        };
        answer.map_err(|source| StoreError::Database { path, source })
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

fn digest_of(files: &[TreeFile]) -> Digest {
    listing_digest(files.iter().map(|file| (file.path.as_str(), file.size, file.digest)))
}

/// Hashes, write-protects and fsyncs all files of a folder, and fsyncs its folders.
fn seal(root: &Path) -> Result<Vec<TreeFile>, StoreError> {
    let mut paths = vec![];
    let mut folders = vec![String::new()];
    let mut next = 0;
    while let Some(folder) = folders.get(next).cloned() {
        next += 1;
        let path = root.join(&folder);
        for entry in fs::read_dir(&path).map_err(io_error("list", &path))? {
            let entry = entry.map_err(io_error("list", &path))?;
            let name = entry.file_name().into_string().map_err(|_| StoreError::NotPlain { path: entry.path() })?;
            let relative = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            let kind = entry.file_type().map_err(io_error("list", &path))?;
            if kind.is_dir() {
                folders.push(relative);
            } else if kind.is_file() {
                paths.push(relative);
            } else {
                return Err(StoreError::NotPlain { path: entry.path() });
            }
        }
    }
    paths.sort();
    let files = paths.into_par_iter().map(|path| {
        let full = root.join(&path);
        let file = File::open(&full).map_err(io_error("read", &full))?;
        let digest = hash_file(&file).map_err(io_error("read", &full))?;
        let size = file.metadata().map_err(io_error("read", &full))?.len();
        file.set_permissions(Permissions::from_mode(0o444)).map_err(io_error("protect", &full))?;
        file.sync_all().map_err(io_error("write", &full))?;
        Ok(TreeFile { path, size, digest })
    });
    let files = files.collect::<Result<Vec<_>, StoreError>>()?;
    for folder in folders.iter().rev() {
        sync(&root.join(folder))?;
    }
    Ok(files)
}

fn sync(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|open| open.sync_all()).map_err(io_error("write", folder))
}

fn write_listing(files: &[TreeFile]) -> Vec<u8> {
    let line = |file: &TreeFile| format!("{} {} {}\n", file.digest, file.size, file.path);
    files.iter().map(line).collect::<String>().into_bytes()
}

fn read_listing(bytes: &[u8]) -> Option<Vec<TreeFile>> {
    let line = |line: &str| {
        let mut fields = line.splitn(3, ' ');
        let (digest, size, path) = (Digest::parse(fields.next()?)?, fields.next()?.parse().ok()?, fields.next()?.to_owned());
        Some(TreeFile { path, size, digest })
    };
    std::str::from_utf8(bytes).ok()?.lines().map(line).collect()
}
