//! Keeping house: what takes room, what may go, and whether everything is still what it was.
//!
//! Collecting is safe beside a running build: what a living process uses is held (see [`Store::hold`]), what it is making is too
//! young to go, and an artifact that goes all the same is noticed before it is read and made again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rayon::prelude::*;
use serde::Serialize;

use super::{Store, StoreError, io_error, publish};
use crate::Digest;
use crate::records::ResultId;

/// Number of things and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// How many.
    pub count: usize,
    /// Bytes of their files.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

/// What takes room in a store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Artifacts.
    pub artifacts: Amount,
    /// Artifacts by the stage (`workflow:stage`) that made them last; the list of files that a source saw counts as made by it.
    pub stages: BTreeMap<String, Amount>,
    /// Artifacts that no trace leads to.
    pub unknown: Amount,
    /// Everything else, by folder or file.
    pub others: BTreeMap<String, Amount>,
}

/// What a collection shall keep. An artifact stays when any of these wants it.
#[derive(Debug, Clone, Default)]
pub struct Keep {
    /// What the last runs of each workflow ended with.
    pub last_runs: usize,
    /// What was made or used within this time.
    pub younger_than: Duration,
    /// What the workflows as they are now would reuse.
    pub wanted: HashSet<ResultId>,
    /// When set, what is not wanted goes only until the artifacts take no more bytes than this, the longest unused first.
    pub max_bytes: Option<u64>,
}

/// An artifact that may go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Victim {
    /// The artifact.
    pub artifact: Digest,
    /// Its bytes.
    pub bytes: u64,
    /// `workflow:node` that made it last; none when no trace leads to it.
    pub node: Option<String>,
    /// When it was last made or part of a run, in milliseconds since 1970.
    pub used_ms: i64,
}

/// An artifact that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The artifact.
    pub artifact: Digest,
    /// `workflow:node` that made it last.
    pub node: Option<String>,
    /// What is wrong: a file that differs, is missing or was added.
    pub what: String,
}

/// Artifacts that no trace leads to may belong to a run that is about to record them.
const YOUNG: Duration = Duration::from_secs(3600);

impl Store {
    /// What takes room.
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
        for name in ["aside", "logs", "plans", "records.log", "resume", "scratch", "stat", "traces.db", "traces.db-wal"] {
            let amount = amount(&self.root().join(name));
            if amount.count > 0 {
                usage.others.insert(name.to_owned(), amount);
            }
        }
        Ok(usage)
    }

    /// The artifacts in their places, with the time at which each was put there.
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

    /// The artifacts that nothing wants any more, the longest unused first.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn collectable(&self, keep: &Keep) -> Result<Vec<Victim>, StoreError> {
        let stored = self.records.ask(|index| index.inventory())?;
        let known: HashMap<Digest, _> = stored.into_iter().map(|stored| (stored.artifact, stored)).collect();
        let mut wanted = self.records.ask(|index| index.members_of_last_runs(keep.last_runs))?;
        wanted.extend(&keep.wanted);
        let mentioned = self.records.ask(|index| index.mentioned())?;
        let held = self.held();
        let mut total = 0;
        let mut victims = vec![];
        for (artifact, made) in self.artifacts()? {
            let stored = known.get(&artifact);
            let bytes = stored.map_or_else(|| amount(&self.path(artifact)).bytes, |stored| stored.bytes);
            total += bytes;
            let results = stored.map_or(&[][..], |stored| &stored.results);
            let by = mentioned.get(&artifact);
            let is_wanted = results.iter().chain(by.map(|(result, _)| result)).any(|result| wanted.contains(result));
            let used_ms = stored.map_or(0, |stored| stored.used_ms).max(millis(made));
            let limit = if results.is_empty() { keep.younger_than.max(YOUNG) } else { keep.younger_than };
            let age = SystemTime::UNIX_EPOCH
                .checked_add(Duration::from_millis(used_ms.max(0) as u64))
                .and_then(|used| used.elapsed().ok())
                .unwrap_or_default();
            if !is_wanted && age >= limit && !held.contains(&artifact) {
                let node = stored.and_then(|stored| stored.node.clone()).or_else(|| by.map(|(_, node)| node.clone()));
                victims.push(Victim { artifact, bytes, node, used_ms });
            }
        }
        victims.sort_by_key(|victim| (victim.used_ms, victim.artifact));
        if let Some(most) = keep.max_bytes {
            let enough = |victim: &Victim| {
                let over = total > most;
                total -= if over { victim.bytes } else { 0 };
                over
            };
            let count = victims.iter().map(enough).take_while(|over| *over).count();
            victims.truncate(count);
        }
        Ok(victims)
    }

    /// Removes artifacts that [`Self::collectable`] named, with what is left of runs before the last `keep_runs` of each workflow.
    /// Returns what was freed; whatever a process has begun to use meanwhile stays.
    ///
    /// # Errors
    /// [`StoreError`]; what is removed until then stays removed, and every node is then reused or runs again.
    pub fn collect(&self, victims: &[Victim], keep_runs: usize) -> Result<Amount, StoreError> {
        let _alone = self.collecting()?;
        let held = self.held();
        let bin = self.attempt()?;
        let (mut freed, mut gone) = (Amount::default(), vec![]);
        for victim in victims.iter().filter(|victim| !held.contains(&victim.artifact)) {
            let from = self.path(victim.artifact);
            publish::make_movable(&from);
            match self.disk.rename(&from, &bin.join(victim.artifact.to_string())) {
                Ok(()) => freed.add(victim.bytes),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(io_error("remove", &from)(source)),
            }
            self.known.lock().expect("no holder of this lock panics").remove(&victim.artifact);
            gone.push(victim.artifact);
        }
        self.disk.remove(&bin).map_err(io_error("remove", &bin))?;
        self.records.ask(|index| index.forget_gone(&gone, keep_runs.max(1)).and_then(|()| index.compact()))?;
        self.remove_old_logs(keep_runs.max(1))?;
        Ok(freed)
    }

    /// One collection at a time.
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
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for run in &runs {
            let count = counts.entry(&run.workflow).or_default();
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
        let path = self.scratch.folder.join("holds");
        let bytes: Vec<u8> = artifacts.into_iter().flat_map(|artifact| artifact.0).collect();
        let file = File::options().create(true).append(true).open(&path);
        file.and_then(|mut file| file.write_all(&bytes)).map_err(io_error("write", &path))
    }

    /// What living processes hold.
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

    /// Reads artifacts and compares them with their digests. Damaged ones are set aside, unless `only_look`.
    /// `tell` is told of each artifact that is done, with its bytes.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn verify(&self, only_look: bool, tell: &(dyn Fn(u64) + Sync)) -> Result<Vec<Damage>, StoreError> {
        let stored = self.records.ask(|index| index.inventory())?;
        let present = stored.into_par_iter().filter(|stored| self.has(stored.artifact));
        let check = |stored: crate::records::StoredArtifact| {
            let what = match self.known(stored.artifact) {
                Ok(known) => publish::first_damage(&self.path(stored.artifact), &known.files),
                Err(error) => Some(error.to_string()),
            };
            tell(stored.bytes);
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

/// `workflow:stage` of `workflow:stage[point]#part`.
fn stage_of(node: &str) -> &str {
    node.split(['[', '#']).next().unwrap_or(node)
}

fn millis(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// The files below a path, or the file itself.
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
