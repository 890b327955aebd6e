//! Garbage collection: the use of disk space, the artifacts that may be removed, and a check of those that stay.
//!
//! Collecting is safe while runs go on: the artifacts that a living process uses are held (see [`Store::hold`]), those that it is making
//! are too young, and an artifact that is removed all the same is noticed before it is read, and made again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rayon::prelude::*;
use serde::Serialize;

use super::disk::make_movable;
use super::{Store, StoreError, io_error, publish};
use crate::Digest;
use crate::records::ResultId;

/// Number of artifacts, files or objects, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// Number.
    pub count: usize,
    /// Bytes of their files.
    pub bytes: u64,
}

impl Amount {
    /// Counts one more of this size.
    pub fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

/// Disk space of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Artifacts.
    pub artifacts: Amount,
    /// Artifacts by the stage (`workflow:stage`) that made them last; the list of files that a source saw counts as made by it.
    pub stages: BTreeMap<String, Amount>,
    /// Artifacts that no result names.
    pub unknown: Amount,
    /// Everything else, by folder or file.
    pub others: BTreeMap<String, Amount>,
}

/// Artifacts that a collection keeps: those that any of these names.
#[derive(Debug, Clone, Default)]
pub struct Keep {
    /// Artifacts that the last runs of each workflow in each project ended with.
    pub last_runs: usize,
    /// Artifacts that were made or used within this time.
    pub younger_than: Duration,
    /// Results that the workflows as they are now would reuse.
    pub wanted: HashSet<ResultId>,
    /// When set, artifacts are removed only until all take no more bytes than this, the longest unused first.
    pub max_bytes: Option<u64>,
}

/// An artifact that may be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removable {
    /// The artifact.
    pub artifact: Digest,
    /// Bytes of its files.
    pub bytes: u64,
    /// `workflow:node` that made it last; none when no result names it.
    pub node: Option<String>,
    /// Time of the last use: when it was made or was part of a run, in milliseconds since 1970.
    pub used_ms: i64,
}

/// A damaged artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The artifact.
    pub artifact: Digest,
    /// `workflow:node` that made it last.
    pub node: Option<String>,
    /// The damage: a file that differs, is missing or was added.
    pub what: String,
}

/// Age up to which an artifact that no result names may belong to a run that is about to record it.
const YOUNG: Duration = Duration::from_secs(3600);

impl Store {
    /// Returns the disk space of the store.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let mut usage = Usage::default();
        let stored = self.records.ask(|index| index.inventory())?;
        let known: HashMap<Digest, _> = stored.into_iter().map(|stored| (stored.artifact, stored)).collect();
        let mentioned = self.records.ask(|index| index.mentioned())?;
        for (artifact, _) in self.artifacts()? {
            let stored = known.get(&artifact);
            let bytes = stored.map_or_else(|| amount(&self.path(artifact)).bytes, |stored| stored.bytes);
            usage.artifacts.add(bytes);
            let by = mentioned.get(&artifact).map(|(_, node)| node.as_str());
            match stored.and_then(|stored| stored.node.as_deref()).or(by) {
                Some(node) => usage.stages.entry(stage_of(node).to_owned()).or_default().add(bytes),
                None => usage.unknown.add(bytes),
            }
        }
        for name in ["aside", "cache", "logs", "plans", "records.log", "resume", "scratch", "stat", "traces.db", "traces.db-wal"]
        {
            let amount = amount(&self.root().join(name));
            if amount.count > 0 {
                usage.others.insert(name.to_owned(), amount);
            }
        }
        Ok(usage)
    }

    /// Lists the artifacts, with the time at which each was put in its place.
    fn artifacts(&self) -> Result<Vec<(Digest, SystemTime)>, StoreError> {
        let root = self.root().join("objects");
        let mut found = vec![];
        for folder in fs::read_dir(&root).map_err(io_error("list", &root))?.flatten() {
            let Ok(prefix) = folder.file_name().into_string() else { continue };
            for entry in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
                let name = entry.file_name().into_string().unwrap_or_default();
                let Some(digest) = Digest::parse(&format!("{prefix}{name}")) else { continue };
                let made = entry.metadata().and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
                found.push((digest, made));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Lists the artifacts that nothing needs any more, the longest unused first.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn collectable(&self, keep: &Keep) -> Result<Vec<Removable>, StoreError> {
        let stored = self.records.ask(|index| index.inventory())?;
        let known: HashMap<Digest, _> = stored.into_iter().map(|stored| (stored.artifact, stored)).collect();
        let mut wanted = self.records.ask(|index| index.members_of_last_runs(keep.last_runs))?;
        wanted.extend(&keep.wanted);
        let mentioned = self.records.ask(|index| index.mentioned())?;
        let (held, linked) = (self.held(), self.linked());
        let mut total = 0;
        let mut removable = vec![];
        for (artifact, made) in self.artifacts()? {
            let stored = known.get(&artifact);
            let bytes = stored.map_or_else(|| amount(&self.path(artifact)).bytes, |stored| stored.bytes);
            total += bytes;
            let results = stored.map_or(&[][..], |stored| &stored.results);
            let by = mentioned.get(&artifact);
            let is_wanted = linked.contains(&artifact)
                || results.iter().chain(by.map(|(result, _)| result)).any(|result| wanted.contains(result));
            let used_ms = stored.map_or(0, |stored| stored.used_ms).max(millis(made));
            let limit = if results.is_empty() { keep.younger_than.max(YOUNG) } else { keep.younger_than };
            let age = SystemTime::UNIX_EPOCH
                .checked_add(Duration::from_millis(used_ms.max(0) as u64))
                .and_then(|used| used.elapsed().ok())
                .unwrap_or_default();
            if !is_wanted && age >= limit && !held.contains(&artifact) {
                let node = stored.and_then(|stored| stored.node.clone()).or_else(|| by.map(|(_, node)| node.clone()));
                removable.push(Removable { artifact, bytes, node, used_ms });
            }
        }
        removable.sort_by_key(|one| (one.used_ms, one.artifact));
        if let Some(most) = keep.max_bytes {
            let enough = |one: &Removable| {
                let over = total > most;
                total -= if over { one.bytes } else { 0 };
                over
            };
            let count = removable.iter().map(enough).take_while(|over| *over).count();
            removable.truncate(count);
        }
        Ok(removable)
    }

    /// Removes artifacts that [`Self::collectable`] named, and the nodes and logs of runs before the last `keep_runs` of each workflow in
    /// each project. Artifacts that a process has begun to use meanwhile stay. Returns what was removed.
    ///
    /// # Errors
    /// [`StoreError`]; artifacts that were removed until then stay removed, and their nodes run again when they are needed.
    pub fn collect(&self, removable: &[Removable], keep_runs: usize) -> Result<Amount, StoreError> {
        let _alone = self.collecting()?;
        let mut held = self.held();
        held.extend(self.linked());
        let bin = self.attempt()?;
        let (mut freed, mut gone) = (Amount::default(), vec![]);
        for one in removable.iter().filter(|one| !held.contains(&one.artifact)) {
            let from = self.path(one.artifact);
            make_movable(&from);
            match self.disk.rename(&from, &bin.join(one.artifact.to_string())) {
                Ok(()) => freed.add(one.bytes),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(io_error("remove", &from)(source)),
            }
            self.known.lock().expect("no holder of this lock panics").remove(&one.artifact);
            gone.push(one.artifact);
        }
        self.disk.remove(&bin).map_err(io_error("remove", &bin))?;
        self.records.ask(|index| index.forget_gone(&gone, keep_runs.max(1)).and_then(|()| index.compact()))?;
        self.remove_old_logs(keep_runs.max(1))?;
        Ok(freed)
    }

    /// Lets one collection run at a time.
    fn collecting(&self) -> Result<File, StoreError> {
        let path = self.root().join("locks").join("collecting");
        let file = File::create(&path).map_err(io_error("create", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => {
                Err(io_error("collect in", self.root())(std::io::Error::other("another collection is going on")))
            }
            Err(TryLockError::Error(source)) => Err(io_error("lock", &path)(source)),
        }
    }

    fn remove_old_logs(&self, keep: usize) -> Result<(), StoreError> {
        let runs = self.runs(usize::MAX >> 1)?;
        let mut counts: HashMap<(&str, Option<&str>), usize> = HashMap::new();
        for run in &runs {
            let count = counts.entry((&run.workflow, run.project.as_deref())).or_default();
            *count += 1;
            if *count > keep {
                let _ = fs::remove_dir_all(self.root().join("logs").join(run.id.to_string())); // only logs
            }
        }
        Ok(())
    }

    /// Keeps artifacts from being collected as long as this process lives.
    ///
    /// # Errors
    /// [`StoreError::Io`]
    pub fn hold(&self, artifacts: impl IntoIterator<Item = Digest>) -> Result<(), StoreError> {
        let path = self.scratch()?.join("holds");
        let bytes: Vec<u8> = artifacts.into_iter().flat_map(|artifact| artifact.0).collect();
        let file = File::options().create(true).append(true).open(&path);
        file.and_then(|mut file| file.write_all(&bytes)).map_err(io_error("write", &path))
    }

    /// Keeps the artifacts that links in a folder, or in its folders, lead to from being collected, as long as the links exist.
    ///
    /// # Errors
    /// [`StoreError::Io`]
    pub fn keep_linked(&self, results: &Path) -> Result<(), StoreError> {
        let folder = self.root().join(PROJECTS);
        let results = results.canonicalize().map_err(io_error("open", results))?;
        let path = folder.join(Digest::of(results.as_os_str().as_encoded_bytes()).short());
        if path.exists() {
            return Ok(());
        }
        fs::create_dir_all(&folder).map_err(io_error("create", &folder))?;
        fs::write(&path, results.as_os_str().as_encoded_bytes()).map_err(io_error("write", &path))
    }

    /// Artifacts that the results of any project link to.
    fn linked(&self) -> HashSet<Digest> {
        let mut linked = HashSet::new();
        for entry in fs::read_dir(self.root().join(PROJECTS)).into_iter().flatten().flatten() {
            let results = fs::read(entry.path()).unwrap_or_default();
            let results = PathBuf::from(std::ffi::OsString::from_vec(results));
            let workflows = fs::read_dir(results).into_iter().flatten().flatten();
            for link in workflows.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten().flatten()) {
                linked.extend(link.path().canonicalize().ok().and_then(|target| self.artifact_at(&target)));
            }
        }
        linked
    }

    /// Digest of the artifact whose folder is at a path of this store.
    pub fn artifact_at(&self, path: &Path) -> Option<Digest> {
        let inside = path.strip_prefix(self.root().join("objects")).ok()?;
        let mut parts = inside.components().map(|part| part.as_os_str().to_str());
        let (prefix, name) = (parts.next()??, parts.next()??);
        Digest::parse(&format!("{prefix}{name}"))
    }

    /// Artifacts that living processes hold.
    fn held(&self) -> HashSet<Digest> {
        let mut held = HashSet::new();
        for entry in fs::read_dir(self.root().join("scratch")).into_iter().flatten().flatten() {
            let lock = File::open(entry.path().join("lock"));
            if lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))) {
                let bytes = fs::read(entry.path().join("holds")).unwrap_or_default();
                held.extend(bytes.chunks_exact(32).filter_map(|digest| digest.try_into().ok().map(Digest)));
            }
        }
        held
    }

    /// Hashes artifacts and compares them with their digests. Damaged ones are set aside, unless `only_look`. `report` receives the bytes
    /// of each artifact that is done.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn verify(&self, only_look: bool, report: &(dyn Fn(u64) + Sync)) -> Result<Vec<Damage>, StoreError> {
        let stored = self.records.ask(|index| index.inventory())?;
        let present = stored.into_par_iter().filter(|stored| self.has(stored.artifact));
        let check = |stored: crate::records::StoredArtifact| {
            let what = match self.known(stored.artifact) {
                Ok(known) => publish::first_damage(&self.path(stored.artifact), &known.files),
                Err(error) => Some(error.to_string()),
            };
            report(stored.bytes);
            what.map(|what| Damage { artifact: stored.artifact, node: stored.node, what })
        };
        let mut found: Vec<Damage> = present.filter_map(check).collect();
        found.sort_by(|a, b| (&a.node, a.artifact).cmp(&(&b.node, b.artifact)));
        if !only_look {
            for damage in &found {
                self.put_aside(damage.artifact)?;
            }
        }
        Ok(found)
    }
}

/// Folder of the paths of result folders.
const PROJECTS: &str = "projects";

/// `workflow:stage` of `workflow:stage[point]#part`.
fn stage_of(node: &str) -> &str {
    node.split(['[', '#']).next().unwrap_or(node)
}

fn millis(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Number and bytes of the files below a path, or of the file itself.
fn amount(path: &Path) -> Amount {
    let mut amount = Amount::default();
    let mut todo: Vec<PathBuf> = vec![path.to_owned()];
    while let Some(at) = todo.pop() {
        match fs::symlink_metadata(&at) {
            Ok(meta) if meta.is_dir() => todo.extend(fs::read_dir(&at).into_iter().flatten().flatten().map(|entry| entry.path())),
            Ok(meta) => amount.add(meta.len()),
            Err(_) => {}
        }
    }
    amount
}
