//! Folder of the history: the record, blobs, the baseline, messages that wait, and the lock.
//!
//! ```text
//! rebuilds.jsonl     the record, see `record`
//! blobs/ab/cdef...   scores, evidence, details and lists of files, zstd, named by BLAKE3 of their content
//! baseline.json      for each cell the rebuild that later ones are compared with
//! unsent/            messages that wait for their channel, see `tell`
//! lock               lock of the kernel while a rebuild goes on; one file system for all who use it
//! ```
//!
//! Every file is written aside, synced and renamed; the record grows by single writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use pipeline::Digest;
use scoring::evidence::{self, Evidence};
use serde::{Deserialize, Serialize};

use crate::file::{self, RebuildFile};
use crate::record::{Begun, Detail, FORMAT, Line, Log, LogError, Outcome, check_format};
use crate::time::{DAY, Every, HOUR, Utc};

/// A history that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// A file cannot be read or written.
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
    /// The record cannot be read.
    #[error("the record `{path}` cannot be used")]
    Log {
        /// The record.
        path: PathBuf,
        /// The cause.
        #[source]
        source: LogError,
    },
    /// A file of the history is not what it should be.
    #[error("`{path}` is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// A file of the history has a newer format.
    #[error("`{path}` has format {found}, and this version reads up to {FORMAT}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Format found.
        found: u32,
    },
    /// The history is on a file system where locks do not reach across machines.
    #[error("the history `{folder}` is on a network file system ({kind}), where locks do not reach across machines")]
    Network {
        /// The folder.
        folder: PathBuf,
        /// Type of the file system.
        kind: String,
    },
    /// Another rebuild file uses the history.
    #[error("the history `{folder}` belongs to `{other}`, and this file is named `{name}`")]
    OtherName {
        /// The folder.
        folder: PathBuf,
        /// Name in the history.
        other: String,
        /// Name of this file.
        name: String,
    },
    /// Another rebuild file of the same name uses the history.
    #[error("the history `{folder}` is that of `{other}`, and this file is `{own}`")]
    OtherFile {
        /// The folder.
        folder: PathBuf,
        /// File that the last rebuild was of.
        other: PathBuf,
        /// This file.
        own: PathBuf,
    },
    /// The clock is behind the record.
    #[error("the clock says {now}, but the last rebuild in `{folder}` began at {last}")]
    Clock {
        /// The folder.
        folder: PathBuf,
        /// The clock.
        now: Utc,
        /// Begin of the last rebuild.
        last: Utc,
    },
    /// A blob is gone.
    #[error("the blob `{name}` is missing or damaged")]
    Blob {
        /// Name of the blob.
        name: String,
    },
}

impl HistoryError {
    /// Advice on what the user can do.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Log { source: LogError::Newer { .. }, .. } | Self::Newer { .. } => "a newer version of this program wrote it: use that version".to_owned(),
            Self::Log { source: LogError::Damaged { .. }, path } => {
                format!("take the line out of `{}`, or get the file back from a copy; nothing else is lost", path.display())
            }
            Self::Damaged { path, .. } if path.ends_with(BASELINE) => {
                format!("get `{}` back from a copy; or remove it, and the values of the next rebuild become the baseline", path.display())
            }
            Self::Network { .. } => "give it a folder on a local disk: `history = \"FOLDER\"` in the rebuild file; copy or `git push` it elsewhere afterwards".to_owned(),
            Self::OtherName { .. } | Self::OtherFile { .. } => "give each rebuild file a history of its own: `history = \"FOLDER\"`".to_owned(),
            Self::Clock { .. } => "set the clock of this machine; if the record is wrong, take its last lines out".to_owned(),
            _ if self.is_full() => "the disk is full".to_owned(),
            _ => return None,
        })
    }

    /// True if there is no room for what was to be written.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HistoryError {
    let path = path.to_owned();
    move |source| HistoryError::Io { action, path, source }
}

/// Baseline of a cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// Rebuild with the values.
    pub rebuild: String,
    /// Moment at which it became the baseline.
    pub since: Utc,
    /// `sure` or the name of a user.
    pub by: String,
    /// Reason.
    pub why: String,
}

#[derive(Serialize, Deserialize)]
struct Baselines {
    format: u32,
    cells: BTreeMap<String, Baseline>,
}

/// Folder of a history, with what it contains.
#[derive(Debug)]
pub struct History {
    folder: PathBuf,
    /// The record.
    pub log: Log,
    /// Baselines by cell.
    pub baselines: BTreeMap<String, Baseline>,
}

/// The only right to change a history; ends when dropped, or when the process ends however it ends.
#[derive(Debug)]
pub struct HistoryLock {
    _file: File,
}

const RECORD: &str = "rebuilds.jsonl";
const BASELINE: &str = "baseline.json";
/// Hexadecimal digits of the name of a blob: 128 bits.
const NAME: usize = 32;
/// Beginning of a Parquet file, which is compressed already.
const PARQUET: &[u8] = b"PAR1";
/// Results of a cell whose evidence is kept.
pub const KEPT: usize = 8;

impl History {
    /// Reads a history; an absent folder is an empty one.
    ///
    /// Errors: [`HistoryError`].
    pub fn read(folder: &Path) -> Result<Self, HistoryError> {
        let path = folder.join(RECORD);
        let bytes = read_if_there(&path)?.unwrap_or_default();
        let log = Log::parse(&bytes).map_err(|source| HistoryError::Log { path, source })?;
        let path = folder.join(BASELINE);
        let baselines = match read_if_there(&path)? {
            None => BTreeMap::new(),
            Some(bytes) => {
                check_format(&bytes, 1).map_err(|error| match error {
                    LogError::Newer { found, .. } => HistoryError::Newer { path: path.clone(), found },
                    LogError::Damaged { source, .. } => HistoryError::Damaged { path: path.clone(), source },
                })?;
                let read = serde_json::from_slice::<Baselines>(&bytes);
                read.map_err(|source| HistoryError::Damaged { path, source })?.cells
            }
        };
        Ok(Self { folder: folder.to_owned(), log, baselines })
    }

    /// Locks a history, making the folder when there is none. None while another process has the lock.
    ///
    /// Errors: [`HistoryError::Network`], [`HistoryError::Io`].
    pub fn lock(folder: &Path) -> Result<Option<HistoryLock>, HistoryError> {
        if let Some(kind) = pipeline::store::network_file_system(folder) {
            return Err(HistoryError::Network { folder: folder.to_owned(), kind });
        }
        for folder in [folder.to_owned(), folder.join("blobs"), folder.join("unsent")] {
            fs::create_dir_all(&folder).map_err(io_error("create", &folder))?;
        }
        let path = folder.join("lock");
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        let file = file.map_err(io_error("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(HistoryLock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(io_error("lock", &path)(source)),
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Checks that the history belongs to a rebuild file.
    ///
    /// Errors: [`HistoryError::OtherName`], [`HistoryError::OtherFile`].
    pub fn check_owner(&self, file: &RebuildFile) -> Result<(), HistoryError> {
        self.last_begun().map_or(Ok(()), |last| check_owner(file, &last.name, &last.file))
    }

    fn last_begun(&self) -> Option<&Begun> {
        self.log.lines.iter().rev().find_map(|line| match line {
            Line::Begun(begun) => Some(begun),
            _ => None,
        })
    }

    /// Checks that the history belongs to a rebuild file, and that the clock is not far behind it.
    ///
    /// Errors: [`HistoryError::OtherName`], [`HistoryError::OtherFile`], [`HistoryError::Clock`].
    pub fn check(&self, file: &RebuildFile, now: Utc) -> Result<(), HistoryError> {
        self.check_owner(file)?;
        self.last_begun().map_or(Ok(()), |last| check_clock(&self.folder, last.at, now))
    }

    /// Adds a line to the record: one write, synced. A torn line is cut off before.
    ///
    /// Errors: [`HistoryError::Io`]; the record is as it was then.
    pub fn append(&mut self, _lock: &HistoryLock, line: Line) -> Result<(), HistoryError> {
        let path = self.folder.join(RECORD);
        let is_new = !path.exists();
        let text = line.text().map_err(|source| HistoryError::Damaged { path: path.clone(), source })?;
        let write = || {
            let mut file = File::options().create(true).truncate(false).write(true).open(&path)?;
            file.set_len(self.log.whole)?;
            file.seek(SeekFrom::Start(self.log.whole))?;
            if let Err(error) = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()) {
                let _ = file.set_len(self.log.whole); // a torn line is cut off by the next reader too
                return Err(error);
            }
            if is_new { File::open(&self.folder)?.sync_all() } else { Ok(()) }
        };
        write().map_err(io_error("write", &path))?;
        self.log.whole += text.len() as u64;
        self.log.torn = 0;
        self.log.lines.push(line);
        Ok(())
    }

    /// Replaces the baselines.
    ///
    /// Errors: [`HistoryError::Io`].
    pub fn set_baselines(&mut self, _lock: &HistoryLock, cells: BTreeMap<String, Baseline>) -> Result<(), HistoryError> {
        let path = self.folder.join(BASELINE);
        let text = serde_json::to_vec_pretty(&Baselines { format: FORMAT, cells: cells.clone() });
        let text = text.map_err(|source| HistoryError::Damaged { path: path.clone(), source })?;
        write_aside(&path, &text)?;
        self.baselines = cells;
        Ok(())
    }

    /// Keeps bytes as a blob; one that is damaged is written again. Returns its name.
    ///
    /// Errors: [`HistoryError::Io`].
    pub fn keep(&self, bytes: &[u8]) -> Result<String, HistoryError> {
        let name = Digest::of(bytes).to_string()[..NAME].to_owned();
        let path = self.blob_path(&name);
        if self.blob(&name).is_err() {
            let folder = path.parent().unwrap_or(&self.folder);
            fs::create_dir_all(folder).map_err(io_error("create", folder))?;
            let packed = if bytes.starts_with(PARQUET) { Ok(bytes.to_vec()) } else { zstd::encode_all(bytes, 6) };
            write_aside(&path, &packed.map_err(io_error("compress", &path))?)?;
        }
        Ok(name)
    }

    /// Returns the bytes of a blob.
    ///
    /// Errors: [`HistoryError::Blob`] when it is missing or damaged.
    pub fn blob(&self, name: &str) -> Result<Vec<u8>, HistoryError> {
        let gone = || HistoryError::Blob { name: name.to_owned() };
        if name.len() != NAME || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(gone());
        }
        let packed = fs::read(self.blob_path(name)).map_err(|_| gone())?;
        let bytes = if packed.starts_with(PARQUET) { packed } else { zstd::decode_all(&packed[..]).map_err(|_| gone())? };
        if Digest::of(&bytes).to_string()[..NAME] == *name { Ok(bytes) } else { Err(gone()) }
    }

    /// Returns the details of the cells of a rebuild.
    ///
    /// Errors: [`HistoryError::Blob`].
    pub fn detail(&self, name: &str) -> Result<Detail, HistoryError> {
        serde_json::from_slice(&self.blob(name)?).map_err(|_| HistoryError::Blob { name: name.to_owned() })
    }

    /// Returns the evidence in a blob.
    ///
    /// Errors: [`HistoryError::Blob`] when it is missing, damaged or no evidence.
    pub fn evidence(&self, name: &str) -> Result<Evidence, HistoryError> {
        self.blob(name)?; // compares the digest
        evidence::read(&self.blob_path(name)).map_err(|_| HistoryError::Blob { name: name.to_owned() })
    }

    fn blob_path(&self, name: &str) -> PathBuf {
        self.folder.join("blobs").join(&name[..2]).join(&name[2..])
    }

    /// Removes the blobs that no later comparison needs: evidence of results older than the last [`KEPT`] distinct ones of a cell, unless
    /// they are its baseline. Returns the number of blobs removed.
    ///
    /// Errors: [`HistoryError::Io`].
    pub fn collect(&self, _lock: &HistoryLock) -> Result<usize, HistoryError> {
        let mut wanted: BTreeSet<String> = BTreeSet::new();
        let mut rebuilds: BTreeSet<&str> = self.baselines.values().map(|baseline| baseline.rebuild.as_str()).collect();
        let keys: BTreeSet<&String> = self.log.ended().flat_map(|ended| ended.cells.keys()).collect();
        for key in keys {
            for (ended, cell) in self.log.distinct(key).into_iter().rev().take(KEPT) {
                wanted.extend(cell.evidence.values().cloned());
                rebuilds.insert(&ended.id);
            }
            let baseline = self.baselines.get(key).and_then(|baseline| self.log.find(&baseline.rebuild)?.cells.get(key));
            wanted.extend(baseline.into_iter().flat_map(|cell| cell.evidence.values().cloned()));
        }
        rebuilds.extend(self.log.ended().rev().take(KEPT).map(|ended| ended.id.as_str()));
        for ended in self.log.ended().filter(|ended| rebuilds.contains(ended.id.as_str())) {
            wanted.extend(ended.detail.clone());
            wanted.extend(ended.sources.values().filter_map(|source| source.list.clone()));
            let detail = ended.detail.as_ref().and_then(|name| self.detail(name).ok()).unwrap_or_default();
            for (key, cell) in &detail.cells {
                let kept = ended.cells.get(key).is_some_and(|cell| cell.evidence.values().any(|name| wanted.contains(name)));
                wanted.extend(cell.seeds.values().filter(|_| kept).map(|seed| seed.scores.clone()));
            }
        }
        let mut removed = 0;
        let root = self.folder.join("blobs");
        for folder in fs::read_dir(&root).map_err(io_error("list", &root))?.flatten() {
            let prefix = folder.file_name().to_string_lossy().into_owned();
            for entry in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
                let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
                if !wanted.contains(&name) && fs::remove_file(entry.path()).is_ok() {
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }
}

fn check_owner(file: &RebuildFile, name: &str, path: &str) -> Result<(), HistoryError> {
    let folder = file.history.clone();
    if name != file.name {
        return Err(HistoryError::OtherName { folder, other: name.to_owned(), name: file.name.clone() });
    }
    let other = Path::new(path);
    if !path.is_empty() && other != file.path && shares_history(other, file) {
        return Err(HistoryError::OtherFile { folder, other: other.to_owned(), own: file.path.clone() });
    }
    Ok(())
}

/// True if another file uses the history of a rebuild file now. A file that was renamed or moved away does not.
fn shares_history(other: &Path, file: &RebuildFile) -> bool {
    let id = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let Ok(text) = fs::read_to_string(other) else { return false };
    let theirs = file::read(other, &text).ok().map(|other| other.history);
    id(other) != id(&file.path) && theirs.is_some_and(|theirs| id(&theirs) == id(&file.history))
}

fn check_clock(folder: &Path, last: Utc, now: Utc) -> Result<(), HistoryError> {
    if last.0 > now.0 + DAY {
        return Err(HistoryError::Clock { folder: folder.to_owned(), now, last });
    }
    Ok(())
}

/// Writes a file aside, syncs it and renames it into place.
///
/// Errors: [`HistoryError::Io`]; the old file stays.
pub fn write_aside(path: &Path, bytes: &[u8]) -> Result<(), HistoryError> {
    let aside = path.with_extension(format!("new.{}", std::process::id()));
    let write = || {
        let mut file = File::create(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&aside, path)
    };
    write().map_err(|source| {
        let _ = fs::remove_file(&aside); // only takes room
        io_error("write", path)(source)
    })
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, HistoryError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", path)(error)),
    }
}

/// Answer to the question whether a rebuild is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// It is, for this instant of the schedule.
    Yes(Utc),
    /// It is not before this moment.
    No(Utc),
}

/// Beginning of a line, as far as due-ness needs it.
#[derive(Debug, Clone, Deserialize)]
struct Head {
    line: String,
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    file: String,
    at: Utc,
    #[serde(default)]
    outcome: Option<Outcome>,
}

/// Pauses before the second, third and fourth attempt of a rebuild that could not end: 1, 4 and 12 hours, and a little less, so that a
/// timer that asks every hour does not just miss them.
const PAUSES: [i64; 3] = [HOUR - 300, 4 * HOUR - 300, 12 * HOUR - 300];
/// Bytes of the end of the record that are read first.
const TAIL: u64 = 256 << 10;

/// Answers whether a rebuild is due, from the end of the record alone. A rebuild is due if none that began since the last instant of the
/// schedule has ended. One that could not end is tried again after 1, 4 and 12 hours, then at the next instant.
///
/// Errors: [`HistoryError`].
pub fn due(file: &RebuildFile, now: Utc) -> Result<Due, HistoryError> {
    let instant = file.every.last(now);
    let end = heads(&file.history, TAIL);
    let is_cut = end.as_ref().map_or(true, |heads| heads.first().is_some_and(|head| head.at >= instant));
    let heads = if is_cut { heads(&file.history, u64::MAX) } else { end }?;
    if let Some(last) = heads.iter().rev().find(|head| head.line == "begun") {
        check_owner(file, &last.name, &last.file)?;
        check_clock(&file.history, last.at, now)?;
    }
    Ok(decide(&heads, file.every, now))
}

fn decide(heads: &[Head], every: Every, now: Utc) -> Due {
    let instant = every.last(now);
    let attempts: Vec<&Head> = heads.iter().filter(|head| head.line == "begun" && head.at >= instant).collect();
    let has_ended =
        |id: &str| heads.iter().any(|head| head.line == "ended" && head.id == id && head.outcome.is_some_and(Outcome::is_end));
    let Some(last) = attempts.last() else { return Due::Yes(instant) };
    if attempts.iter().any(|attempt| has_ended(&attempt.id)) {
        return Due::No(every.next(now));
    }
    match PAUSES.get(attempts.len() - 1) {
        Some(pause) if last.at.0 + pause <= now.0 => Due::Yes(instant),
        Some(pause) => Due::No(Utc(last.at.0 + pause).min(every.next(now))),
        None => Due::No(every.next(now)),
    }
}

/// Heads of the whole lines within the last bytes of the record.
fn heads(folder: &Path, most: u64) -> Result<Vec<Head>, HistoryError> {
    let path = folder.join(RECORD);
    let mut file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        file => file.map_err(io_error("read", &path))?,
    };
    let mut bytes = vec![];
    let read = || {
        let from = file.metadata()?.len().saturating_sub(most);
        file.seek(SeekFrom::Start(from))?;
        file.read_to_end(&mut bytes)?;
        Ok(from)
    };
    let from: u64 = { read }().map_err(io_error("read", &path))?;
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let begin = if from == 0 { 0 } else { bytes[..end].iter().position(|byte| *byte == b'\n').map_or(end, |at| at + 1) };
    let lines = bytes[begin..end].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let head = |(at, line): (usize, &[u8])| {
        check_format(line, at + 1)?;
        serde_json::from_slice::<Head>(line).map_err(|source| LogError::Damaged { line: at + 1, source })
    };
    let read: Result<Vec<Head>, LogError> = lines.enumerate().map(head).collect();
    read.map_err(|source| HistoryError::Log { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Begun;
    use crate::record::tests::{begun, ended};

    fn at(text: &str) -> Utc {
        text.parse().unwrap()
    }

    fn head(line: &str, id: &str, at_: &str, outcome: Option<Outcome>) -> Head {
        let (line, id) = (line.to_owned(), id.to_owned());
        Head { line, id, name: "weekly".to_owned(), file: String::new(), at: at(at_), outcome }
    }

    fn file_of(history: &Path, name: &str) -> RebuildFile {
        let text = format!("name = \"{name}\"\nevery = \"day 00:00\"\nruns = [\"x\"]\nhistory = \"{}\"\n", history.display());
        file::read(Path::new("/p/weekly.toml"), &text).unwrap()
    }

    #[test]
    fn one_rebuild_is_due_in_a_period_however_often_and_late_a_timer_asks() {
        let every: Every = "sunday 02:30".parse().unwrap();
        let (mut heads, mut started) = (vec![], vec![]);
        // Hourly ticks over both nights on which clocks change in Europe, but for five weeks with the machine off.
        let mut now = at("2026-03-20T00:17:00Z");
        while now < at("2026-11-10T00:00:00Z") {
            let is_off = now > at("2026-06-01T00:00:00Z") && now < at("2026-07-06T00:00:00Z");
            for _ in 0..if is_off { 0 } else { 3 } {
                if let Due::Yes(instant) = decide(&heads, every, now) {
                    let id = heads.len().to_string();
                    heads.push(Head { at: now, ..head("begun", &id, "2026-01-01T00:00:00Z", None) });
                    heads.push(Head { at: now, ..head("ended", &id, "2026-01-01T00:00:00Z", Some(Outcome::Done)) });
                    started.push((instant, now));
                }
            }
            now = Utc(now.0 + HOUR);
        }
        let instants: Vec<Utc> = started.iter().map(|(instant, _)| *instant).collect();
        assert!(instants.windows(2).all(|pair| pair[0] < pair[1]), "no period twice");
        assert_eq!(instants.len(), 35 - 4, "34 Sundays and the one before, without the four that nobody was there for");
        assert!(started.contains(&(at("2026-03-29T02:30:00Z"), at("2026-03-29T03:17:00Z"))));
        assert!(started.contains(&(at("2026-10-25T02:30:00Z"), at("2026-10-25T03:17:00Z"))));
        assert!(started.contains(&(at("2026-07-05T02:30:00Z"), at("2026-07-06T00:17:00Z"))), "{started:?}");
    }

    #[test]
    fn what_could_not_end_is_tried_again_after_pauses_that_grow() {
        let every: Every = "sunday 02:30".parse().unwrap();
        let mut heads = vec![head("begun", "a", "2026-11-29T03:00:00Z", None)];
        let due = |heads: &[Head], now: &str| decide(heads, every, at(now));
        assert_eq!(due(&heads, "2026-11-29T03:54:59Z"), Due::No(at("2026-11-29T03:55:00Z")));
        assert_eq!(due(&heads, "2026-11-29T03:55:00Z"), Due::Yes(at("2026-11-29T02:30:00Z")));
        heads.push(head("begun", "b", "2026-11-29T04:00:00Z", None));
        heads.push(head("ended", "b", "2026-11-29T04:00:01Z", Some(Outcome::NotStarted)));
        assert_eq!(due(&heads, "2026-11-29T07:54:00Z"), Due::No(at("2026-11-29T07:55:00Z")));
        heads.push(head("begun", "c", "2026-11-29T08:00:00Z", None));
        heads.push(head("begun", "d", "2026-11-29T20:00:00Z", None));
        assert_eq!(due(&heads, "2026-12-05T00:00:00Z"), Due::No(at("2026-12-06T02:30:00Z")));
        assert_eq!(due(&heads, "2026-12-06T02:30:00Z"), Due::Yes(at("2026-12-06T02:30:00Z")));
        heads.push(head("ended", "d", "2026-11-29T21:00:00Z", Some(Outcome::Partial)));
        assert_eq!(due(&heads, "2026-11-30T00:00:00Z"), Due::No(at("2026-12-06T02:30:00Z")), "some cells failed: it counts");
    }

    #[test]
    fn the_record_survives_torn_lines_and_refuses_other_names_clocks_and_formats() {
        let folder = tempfile::tempdir().unwrap();
        let lock = History::lock(folder.path()).unwrap().unwrap();
        assert!(History::lock(folder.path()).unwrap().is_none(), "by somebody else");
        let mut history = History::read(folder.path()).unwrap();
        history.append(&lock, begun("a")).unwrap();
        let path = folder.path().join(RECORD);
        fs::write(&path, [fs::read(&path).unwrap(), b"{\"line\":\"en".to_vec()].concat()).unwrap();
        let mut history = History::read(folder.path()).unwrap();
        assert_eq!((history.log.lines.len(), history.log.torn), (1, 11));
        history.append(&lock, Line::Ended(Box::new(ended("a", 0, Outcome::Done, 0.5)))).unwrap();
        assert_eq!(History::read(folder.path()).unwrap().log.lines, history.log.lines);
        let file = |name: &str| file_of(folder.path(), name);
        assert_eq!(due(&file("weekly"), Utc(100)).unwrap(), Due::No(Utc(86_400)));
        assert!(matches!(due(&file("daily"), Utc(100)), Err(HistoryError::OtherName { .. })));
        assert!(matches!(history.check(&file("weekly"), Utc(-2 * 86_400)), Err(HistoryError::Clock { .. })));
        // Nothing but the number may be as it is now.
        let kept = fs::read(&path).unwrap();
        fs::write(&path, [&kept[..], b"{\"format\":7,\"when\":1}\n"].concat()).unwrap();
        for error in [due(&file("weekly"), Utc(100)).unwrap_err(), History::read(folder.path()).unwrap_err()] {
            let HistoryError::Log { source: LogError::Newer { line: 3, found: 7 }, .. } = error else { panic!("{error:?}") };
            assert!(error.hint().unwrap().contains("newer version"), "{error}");
        }
        fs::write(&path, kept).unwrap();
        fs::write(folder.path().join(BASELINE), "{\"format\":7,\"of\":[]}").unwrap();
        let error = History::read(folder.path()).unwrap_err();
        assert!(matches!(error, HistoryError::Newer { found: 7, .. }) && error.hint().is_some(), "{error:?}");
        fs::remove_file(folder.path().join(BASELINE)).unwrap();
        // Another file of the same name uses it, until it is gone or has a history of its own.
        let other = folder.path().join("other.toml");
        let text = |history: &str| format!("name = \"weekly\"\nevery = \"day 00:00\"\nruns = [\"x\"]\nhistory = \"{history}\"\n");
        fs::write(&other, text(".")).unwrap();
        let begun = Begun {
            format: FORMAT,
            id: "b".to_owned(),
            name: "weekly".to_owned(),
            file: other.display().to_string(),
            at: Utc(0),
        };
        history.append(&lock, Line::Begun(begun)).unwrap();
        assert!(matches!(due(&file("weekly"), Utc(100)), Err(HistoryError::OtherFile { .. })));
        assert!(matches!(history.check(&file("weekly"), Utc(100)), Err(HistoryError::OtherFile { .. })));
        fs::write(&other, text("elsewhere")).unwrap();
        assert!(due(&file("weekly"), Utc(100)).is_ok());
        fs::remove_file(&other).unwrap();
        assert!(history.check(&file("weekly"), Utc(100)).is_ok());
        fs::write(&path, "no line\n").unwrap();
        assert!(History::read(folder.path()).is_err());
    }

    #[test]
    fn blobs_come_back_or_are_missed_and_old_evidence_goes() {
        let folder = tempfile::tempdir().unwrap();
        let lock = History::lock(folder.path()).unwrap().unwrap();
        let mut history = History::read(folder.path()).unwrap();
        let name = history.keep(b"one").unwrap();
        assert_eq!(history.blob(&name).unwrap(), b"one");
        fs::write(history.blob_path(&name), b"other").unwrap();
        assert!(matches!(history.blob(&name), Err(HistoryError::Blob { .. })));
        assert_eq!(history.keep(b"one").unwrap(), name);
        assert_eq!(history.blob(&name).unwrap(), b"one", "written again");
        assert!(history.blob("../../etc/passwd").is_err());
        let mut names = vec![];
        for number in 0..12 {
            let evidence = history.keep(format!("evidence {number}").as_bytes()).unwrap();
            let mut end = ended(&number.to_string(), i64::from(number), Outcome::Done, f64::from(number));
            end.cells.values_mut().for_each(|cell| _ = cell.evidence.insert("1".to_owned(), evidence.clone()));
            history.append(&lock, Line::Ended(Box::new(end))).unwrap();
            names.push(evidence);
        }
        let baseline = Baseline { rebuild: "1".to_owned(), since: Utc(0), by: "sure".to_owned(), why: "first".to_owned() };
        history.set_baselines(&lock, BTreeMap::from([("speech_recognition fsdd lora".to_owned(), baseline)])).unwrap();
        history.collect(&lock).unwrap();
        let kept: Vec<usize> = (0..12).filter(|at| history.blob(&names[*at]).is_ok()).collect();
        assert_eq!(kept, [1, 4, 5, 6, 7, 8, 9, 10, 11]);
        assert_eq!(History::read(folder.path()).unwrap().baselines, history.baselines);
    }
}
