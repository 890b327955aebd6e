//! Opening the records of a store: checks the index, and makes it again from the record log when that is needed.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use rusqlite::OpenFlags;

use super::entry::Entry;
use super::index::Index;
use super::log::{self, Log, ReadReport};
use super::schema::{self, Format, OLDEST, VERSION};
use super::{INDEX, LOG, RecordsError};

const WRITE: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);
const READ: OpenFlags = OpenFlags::SQLITE_OPEN_READ_ONLY.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

/// State of an index file.
enum Found {
    /// There is none, or it has no tables.
    Missing,
    /// It can be used.
    Sound(Index),
    /// It is of the format before the record log.
    Importable(Index),
    /// It is of a format that this program cannot read any more.
    Outdated(i32),
    /// It cannot be read.
    Damaged(RecordsError),
}

impl Found {
    /// Examines an index file for writing.
    fn look(path: &Path) -> Result<Self, RecordsError> {
        Self::with(path, path, WRITE)
    }

    /// Examines an index file without changing anything beside it. `copy` is a folder for a copy, where that is needed.
    fn peek(path: &Path, copy: &Path) -> Result<Self, RecordsError> {
        let found = if fs::metadata(path.with_extension("db-shm")).is_ok_and(|meta| meta.len() > 0) {
            Self::with(path, path, READ)
        } else {
            // To open it would make the file by which the processes that use an index agree.
            for ending in ["db", "db-wal"] {
                let (from, to) = (path.with_extension(ending), copy.join("peeked").with_extension(ending));
                let copied = if from.exists() { fs::copy(from, to).map(|_| ()) } else { Ok(()) };
                copied.map_err(|source| RecordsError::Log { action: "copy the index of", path: path.to_owned(), source })?;
            }
            Self::with(path, &copy.join("peeked.db"), WRITE)
        };
        match found {
            Err(RecordsError::Index(error)) => Ok(Self::Damaged(error.into())), // locked away, or on a disk without its own files
            found => found,
        }
    }

    fn with(path: &Path, name: &Path, flags: OpenFlags) -> Result<Self, RecordsError> {
        if fs::metadata(path).map_or(0, |meta| meta.len()) == 0 {
            return Ok(Self::Missing);
        }
        if let Some(found) = written_format(path).filter(|found| *found > VERSION as u32) {
            return Err(RecordsError::Newer { part: "index", found, known: VERSION as u32 }); // SQLite does not touch it
        }
        let read = Index::connect(name, flags).and_then(|index| Ok((schema::format(&index.db)?, index)));
        Ok(match read {
            Ok((Format::Empty, _)) => Self::Missing,
            Ok((Format::Current, index)) => Self::Sound(index),
            Ok((Format::Older(OLDEST), index)) => Self::Importable(index),
            Ok((Format::Older(format), _)) => Self::Outdated(format),
            Ok((Format::Newer(format), _)) => {
                return Err(RecordsError::Newer { part: "index", found: format as u32, known: VERSION as u32 });
            }
            Err(error) if error.is_damage() => Self::Damaged(error),
            Err(error) => return Err(error),
        })
    }
}

impl Index {
    /// Opens the records in a folder for writing, beginning them when there are none. The caller sees to it that no other process
    /// does so at the same time.
    pub(crate) fn open(folder: &Path) -> Result<Self, RecordsError> {
        let path = folder.join(INDEX);
        let is_new = log::head_of(&folder.join(LOG))?.is_none();
        match Found::look(&path)? {
            Found::Sound(index) => match index.attach(folder) {
                Err(error) if error.is_damage() => Self::replace_damaged(folder, &error),
                attached => attached,
            },
            Found::Missing if is_new => Self::rebuild(folder, None),
            Found::Missing => Self::rebuild(folder, Some("the index of the store was missing")),
            Found::Importable(old) if is_new => Self::import(folder, old),
            Found::Importable(old) => {
                drop(old);
                Self::replace_outdated(folder, OLDEST, is_new)
            }
            Found::Outdated(format) => Self::replace_outdated(folder, format, is_new),
            Found::Damaged(error) => Self::replace_damaged(folder, &error),
        }
    }

    /// True if the index of a store can be used as it is.
    pub(crate) fn is_current(folder: &Path) -> bool {
        let Ok(copy) = tempfile::tempdir() else { return false };
        matches!(Found::peek(&folder.join(INDEX), copy.path()), Ok(Found::Sound(_)))
    }

    /// Replaces an index that turned out to be damaged while it was in use, unless another process did so meanwhile.
    pub(crate) fn reopen(folder: &Path, error: &RecordsError) -> Result<Self, RecordsError> {
        match Found::look(&folder.join(INDEX))? {
            Found::Sound(index) if index.is_sound() => index.attach(folder),
            found => {
                drop(found);
                Self::replace_damaged(folder, error)
            }
        }
    }

    fn is_sound(&self) -> bool {
        let answer = self.db.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
        answer.is_ok_and(|answer| answer == "ok")
    }

    /// Opens the log of a sound index, and brings one up to date with the other.
    fn attach(mut self, folder: &Path) -> Result<Self, RecordsError> {
        let path = folder.join(LOG);
        let Some((id, known)) = self.position()? else {
            return Err(RecordsError::Index(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
                Some("it names no record log".to_owned()),
            )));
        };
        let head = log::head_of(&path)?;
        let length = fs::metadata(&path).map_or(0, |meta| meta.len());
        match head {
            Some(head) if head.id != id && last_result(&path)? >= self.last()? => {
                drop(self);
                return Self::rebuild(folder, Some("the index of the store belonged to an older record log"));
            }
            Some(head) if head.id == id && length >= known => self.log = Some(Log::open(&path)?),
            lost => {
                // Results are durable in the log before the index says so. The index knows more, so the log is made again from it.
                let aside = if lost.is_some() { Some(set_aside(&path, "damaged")?) } else { None };
                let aside = aside.map(|aside| format!(", the old one is `{}`", aside.display())).unwrap_or_default();
                self.rewrite_log()?;
                self.notices.push(format!(
                    "the record log was missing or older than the index: it was written again from the index{aside}"
                ));
            }
        }
        if length > known {
            self.writing(|_| Ok(()))?;
        }
        Ok(self)
    }

    /// Number of the last result.
    fn last(&self) -> Result<i64, RecordsError> {
        Ok(self.db.query_row("SELECT last FROM log", [], |row| row.get(0))?)
    }

    /// Makes the index again from the record log. `why` is told to the user, with what was found.
    fn rebuild(folder: &Path, why: Option<&str>) -> Result<Self, RecordsError> {
        let (path, new) = (folder.join(INDEX), folder.join("traces.new"));
        let log = Log::open(&folder.join(LOG))?;
        let (index, report) = Self::build(&new, &log.id, |each| log.read(0, each))?;
        drop(index);
        if report.torn > 0 {
            log.cut(report.end)?;
        }
        for extra in ["db-wal", "db-shm"] {
            let _ = fs::remove_file(path.with_extension(extra)); // belonged to the old one
        }
        let failed = |source| RecordsError::Log { action: "replace the index of", path: folder.join(LOG), source };
        fs::rename(&new, &path).map_err(failed)?;
        let mut index = Self::connect(&path, WRITE)?;
        index.log = Some(log);
        if let Some(why) = why {
            index.notices.push(format!("{why}; it was made again from the record log: {}", index.counts()?));
        }
        index.notices.extend(report.sentences());
        Ok(index)
    }

    /// Makes an index in a file of its own from the entries that `read` passes on.
    fn build(
        path: &Path,
        log_id: &str,
        read: impl FnOnce(&mut dyn FnMut(&Entry<'_>) -> Result<(), RecordsError>) -> Result<ReadReport, RecordsError>,
    ) -> Result<(Self, ReadReport), RecordsError> {
        for extra in ["", "-wal", "-shm", "-journal"] {
            let _ = fs::remove_file(format!("{}{extra}", path.display())); // of one that was killed
        }
        let failed = |source| RecordsError::Log { action: "write the index of", path: path.to_owned(), source };
        fs::File::create(path).map_err(failed)?; // with the permissions of other files, which SQLite would restrict
        let mut index = Self::connect(path, WRITE)?;
        index.db.pragma_update(None, "journal_mode", "OFF")?;
        index.db.pragma_update(None, "synchronous", "OFF")?;
        schema::create(&index.db, log_id, crate::host::now_ms().saturating_mul(1000))?;
        let report = index.writing(|writer| {
            let report = read(&mut |entry| writer.apply(entry))?;
            writer.note_position(report.end)?;
            Ok(report)
        })?;
        index.members.clear();
        fs::File::open(path).and_then(|file| file.sync_all()).map_err(failed)?;
        Ok((index, report))
    }

    /// Writes the records of an index of the format before the record log into one, and makes a new index of that.
    fn import(folder: &Path, old: Self) -> Result<Self, RecordsError> {
        let mut unreadable = 0;
        Log::replace(&folder.join(LOG), |put| {
            unreadable = old.export(put)?;
            Ok(())
        })?;
        let _ = old.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())); // so that one file holds all of it
        drop(old);
        let aside = set_aside(&folder.join(INDEX), &format!("format{OLDEST}"))?;
        let mut index = Self::rebuild(folder, None)?;
        let counts = index.counts()?;
        index.notices.push(format!(
            "the store was of an older format: its records are now in `{LOG}` ({counts}); the old index is `{}`",
            aside.display()
        ));
        if unreadable > 0 {
            index
                .notices
                .push(format!("{unreadable} results of the old index cannot be read; they run again when they are needed"));
        }
        Ok(index)
    }

    fn replace_outdated(folder: &Path, format: i32, is_new: bool) -> Result<Self, RecordsError> {
        let aside = set_aside(&folder.join(INDEX), &format!("format{format}"))?;
        let lost = if is_new { "; there is no record log, so what it knew runs again" } else { "" };
        let why = format!(
            "the index of the store has format {format}, and this program writes {VERSION}; it is set aside as `{}`{lost}",
            aside.display()
        );
        Self::rebuild(folder, Some(&why))
    }

    fn replace_damaged(folder: &Path, error: &RecordsError) -> Result<Self, RecordsError> {
        let is_new = log::head_of(&folder.join(LOG))?.is_none();
        let aside = set_aside(&folder.join(INDEX), "damaged")?;
        let lost = if is_new { "; there is no record log, so what it knew runs again" } else { "" };
        let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        let why = format!("the index of the store was damaged ({cause}); it is set aside as `{}`{lost}", aside.display());
        Self::rebuild(folder, Some(&why))
    }

    /// Makes a copy of the index of a store in another folder, without changing the store: for reading commands. Takes no lock. If the
    /// store is on a file system that other machines share, the record log is read instead: `SQLite` maps a file of the index into memory
    /// and may cut it, which kills a process of another machine that uses it.
    pub(crate) fn view(folder: &Path, copy: &Path, is_shared: bool) -> Result<Self, RecordsError> {
        let (path, new) = (folder.join(INDEX), copy.join(INDEX));
        let log_path = folder.join(LOG);
        let head = log::head_of(&log_path)?;
        let length = fs::metadata(&log_path).map_or(0, |meta| meta.len());
        if let (true, Some(head)) = (is_shared, &head) {
            return Ok(Self::build(&new, &head.id, |each| log::read(&log_path, 0, each))?.0);
        }
        let found = if is_shared { Found::Missing } else { Found::peek(&path, copy)? };
        let why = match found {
            Found::Sound(mut index) => {
                index.copy = index.db.is_readonly("main")?.then_some(new.clone());
                match index.fit(head.as_ref().map(|head| head.id.as_str()), length, &log_path) {
                    Ok(true) => return Ok(index),
                    Ok(false) => "the index does not fit the record log".to_owned(),
                    Err(error) => format!("the index cannot be read ({})", source_of(&error)),
                }
            }
            Found::Importable(old) if head.is_none() => {
                let (index, _) = Self::build(&new, "", |each| {
                    old.export(each)?;
                    Ok(ReadReport::default())
                })?;
                return Ok(index.with_notice(format!(
                    "the index of the store has the older format {OLDEST}; the next `sure run` migrates it"
                )));
            }
            Found::Missing if head.is_none() => return Ok(Self::build(&new, "", |_| Ok(ReadReport::default()))?.0),
            Found::Missing => "the index of the store is missing".to_owned(),
            Found::Importable(_) => format!("the index of the store has the older format {OLDEST}"),
            Found::Outdated(format) => format!("the index of the store has the older format {format}"),
            Found::Damaged(error) => format!("the index of the store cannot be read ({})", source_of(&error)),
        };
        let Some(head) = head else {
            let (index, _) = Self::build(&new, "", |_| Ok(ReadReport::default()))?;
            return Ok(index.with_notice(format!("{why}, and there is no record log: nothing is known")));
        };
        let (index, report) = Self::build(&new, &head.id, |each| log::read(&log_path, 0, each))?;
        let mut index =
            index.with_notice(format!("{why}; the record log was read instead. The next `sure run` makes the index again"));
        index.notices.extend(report.sentences().into_iter().filter(|_| !report.damaged.is_empty()));
        Ok(index)
    }

    /// Takes over into a view what the log has beyond the index. Returns false if the index does not belong to the log.
    fn fit(&mut self, id: Option<&str>, length: u64, log_path: &Path) -> Result<bool, RecordsError> {
        let Some((own, known)) = self.position()? else { return Ok(false) };
        if id.is_some_and(|id| id != own) {
            return Ok(false);
        }
        if id.is_some() && known < length {
            self.writing(|writer| {
                let report = log::read(log_path, known, |entry| writer.apply(entry))?;
                writer.note_position(report.end)
            })?;
            self.members.clear();
        }
        Ok(true)
    }

    /// Copies the index to a file that does not outlive this process.
    pub(super) fn copy_to(&self, new: &Path) -> Result<Self, RecordsError> {
        let mut copy = rusqlite::Connection::open(new)?;
        copy.pragma_update(None, "synchronous", "OFF")?;
        rusqlite::backup::Backup::new(&self.db, &mut copy)?.run_to_completion(i32::MAX, std::time::Duration::ZERO, None)?;
        drop(copy);
        let mut index = Self::connect(new, WRITE)?;
        index.notices.clone_from(&self.notices);
        index.members.clone_from(&self.members);
        Ok(index)
    }

    fn with_notice(mut self, notice: String) -> Self {
        self.notices.push(notice);
        self
    }

    fn counts(&self) -> Result<String, RecordsError> {
        let count = |what: &str, table: &str| {
            let count: i64 = self.db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
            Ok::<_, RecordsError>(format!("{count} {what}{}", if count == 1 { "" } else { "s" }))
        };
        Ok(format!("{}, {}", count("result", "trace")?, count("run", "run")?))
    }
}

/// Format that the head of an index file names. A newer one may be in a log of `SQLite` that is not folded into the file yet.
fn written_format(path: &Path) -> Option<u32> {
    let mut head = [0; 64];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut head)).ok()?;
    let (_, format) = head.split_last_chunk::<4>()?;
    head.starts_with(b"SQLite format 3\0").then(|| u32::from_be_bytes(*format))
}

/// Number of the last result in a log.
fn last_result(path: &Path) -> Result<i64, RecordsError> {
    let mut last = 0;
    log::read(path, 0, |entry| {
        if let Entry::Result(result) = entry {
            last = result.id.max(last);
        }
        Ok(())
    })?;
    Ok(last)
}

/// Renames a file so that it is out of the way, with all that belongs to it. Returns its new name.
fn set_aside(path: &Path, why: &str) -> Result<PathBuf, RecordsError> {
    let aside = (1..=u32::MAX).map(|n| path.with_extension(format!("{why}{n}"))).find(|aside| !aside.exists());
    let aside = aside.expect("some number is free");
    fs::rename(path, &aside).map_err(|source| RecordsError::Log { action: "set aside", path: path.to_owned(), source })?;
    Ok(aside)
}

fn source_of(error: &RecordsError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}
