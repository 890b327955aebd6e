//! Decoding the recordings of a part: by the thread of the node, and by whatever threads are idle just then.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pipeline::source::UNREADABLE;
use pipeline::{Borrowed, Digest, Job, Spare, StageError};

use super::{FFMPEG, Shards, ShardsError};
use crate::manifest::{Entry, Origin};
use crate::recording::{Prepared, Preparer, Recording, Reject as Refusal, Span, Target, WHOLE_IN_MEMORY};

/// An utterance that gives no row.
pub(super) struct Reject {
    pub(super) reason: String,
    /// True if it is broken, and not only too short or too long.
    pub(super) broken: bool,
    /// Offset of the fault in the file, in bytes.
    pub(super) offset: Option<u64>,
}

/// A clip with the index of its class, or a reject.
pub(super) type Decoded = Result<(Prepared, Option<u32>), Reject>;

/// Decodes the utterances of a part.
pub(super) struct Recordings<'a> {
    root: PathBuf,
    labels: &'a [String],
    params: &'a Shards,
    threads: usize,
    spare: &'a Spare,
    job: &'a Job,
    /// Preparers that no thread uses.
    preparers: Mutex<Vec<Preparer<'a>>>,
    /// Recordings of the batch that are in tables, by table and row.
    embedded: Mutex<HashMap<(String, u64), Vec<u8>>>,
}

/// State that the threads of a batch share.
struct Shared<'a> {
    /// Utterances that no thread has taken.
    rest: std::iter::Enumerate<std::slice::Iter<'a, Entry>>,
    /// Results by utterance.
    decoded: Vec<Option<Decoded>>,
    /// Error that ends the work.
    error: Option<StageError>,
}

impl Shared<'_> {
    fn fail(&mut self, error: StageError) {
        self.rest = [].iter().enumerate();
        self.error.get_or_insert(error);
    }
}

/// An utterance that is being decoded: its index, entry and class.
type Taken<'a> = (usize, &'a Entry, Option<u32>);

impl<'a> Recordings<'a> {
    pub(super) fn new(job: &'a Job, origin: &Origin, labels: &'a [String], params: &'a Shards) -> Result<Self, StageError> {
        let root = job.places.get(&origin.place)?.to_owned();
        Ok(Self {
            root,
            labels,
            params,
            job,
            threads: job.threads.max(1),
            spare: &job.spare,
            preparers: Mutex::default(),
            embedded: Mutex::default(),
        })
    }

    /// Returns the clip of each utterance with the index of its class, or the reason why there is none. Errors: a recording that changed since the plan, cannot
    /// be read, or that this machine cannot decode now.
    pub(super) fn decode(&self, entries: &[Entry]) -> Result<Vec<Decoded>, StageError> {
        *lock(&self.embedded) = self.read_embedded(entries)?;
        let decoded = entries.iter().map(|_| None).collect();
        let shared = Mutex::new(Shared { rest: entries.iter().enumerate(), decoded, error: None });
        std::thread::scope(|scope| {
            let help = |borrowed: Option<Borrowed>| {
                scope.spawn(|| {
                    self.work(&shared, || {});
                    drop(borrowed);
                });
            };
            (1..self.threads).for_each(|_| help(None));
            self.work(&shared, || {
                while lock(&shared).rest.len() > 1
                    && let Some(borrowed) = self.spare.borrow()
                {
                    help(Some(borrowed));
                }
            });
        });
        let Shared { decoded, error, .. } = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
        match error {
            Some(error) => Err(error),
            None => Ok(decoded.into_iter().map(|decoded| decoded.expect("every utterance was prepared or refused")).collect()),
        }
    }

    /// Reads the recordings of a batch that are in tables, each table once.
    fn read_embedded(&self, entries: &[Entry]) -> Result<HashMap<(String, u64), Vec<u8>>, StageError> {
        let mut rows: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        for entry in entries {
            if let Some(row) = entry.row {
                rows.entry(&entry.path).or_default().insert(row);
            }
        }
        let mut found = HashMap::new();
        for (table, rows) in rows {
            let rows: Vec<u64> = rows.into_iter().collect();
            let clips = datasets::table::embedded(&self.root.join(table), &rows).map_err(StageError::failed)?;
            found.extend(rows.into_iter().map(|row| (table.to_owned(), row)).zip(clips));
        }
        Ok(found)
    }

    /// Decodes one utterance after the other until none is left. Calls `between` before each.
    fn work(&self, shared: &Mutex<Shared<'_>>, between: impl Fn()) {
        let job = self.job;
        let target = Target { sample_rate: self.params.sample_rate, format: self.params.format };
        let mut preparer = lock(&self.preparers)
            .pop()
            .unwrap_or_else(|| Preparer::new(target).with_ffmpeg(move || job.tool(FFMPEG).map(Path::to_owned)));
        let next = || loop {
            between();
            let (index, entry) = lock(shared).rest.next()?;
            match self.open(entry) {
                Ok(Ok((recording, label))) => {
                    let span = entry.start.zip(entry.num_samples).map(|(start, num_samples)| Span { start, num_samples });
                    return Some(((index, entry, label), recording, span));
                }
                Ok(Err(reason)) => {
                    lock(shared).decoded[index] = Some(Err(Reject { reason, broken: true, offset: None }));
                }
                Err(error) => {
                    lock(shared).fail(error);
                    return None;
                }
            }
        };
        preparer.prepare_each(next, |(index, entry, label): Taken<'_>, clip| match self.judged(entry, clip, label) {
            Ok(decoded) => lock(shared).decoded[index] = Some(decoded),
            Err(error) => lock(shared).fail(error),
        });
        lock(&self.preparers).push(preparer);
    }

    /// Returns the recording of an utterance and the index of its class, or the reason why there is none. Errors: as of
    /// [`Self::decode`].
    fn open(&self, entry: &Entry) -> Result<Result<(Recording, Option<u32>), String>, StageError> {
        let label = match self.label(entry) {
            Ok(label) => label,
            Err(reason) => return Ok(Err(reason)),
        };
        if entry.digest == UNREADABLE {
            return Ok(Err("no permission to read it".to_owned()));
        }
        let path = self.root.join(&entry.path);
        if let Some(row) = entry.row {
            let bytes = lock(&self.embedded).remove(&(entry.path.clone(), row)).unwrap_or_default();
            if Digest::of(&bytes) != entry.digest {
                return Err(StageError::SourceChanged { path });
            }
            return Ok(Ok((Recording::Bytes(bytes), label)));
        }
        if entry.size > WHOLE_IN_MEMORY {
            check_unread(&path, entry)?;
            return Ok(Ok((Recording::File(path), label)));
        }
        Ok(Ok((Recording::Bytes(read(&path, entry)?), label)))
    }

    /// The index of an utterance's class. Errors: the class is not known.
    fn label(&self, entry: &Entry) -> Result<Option<u32>, String> {
        let Some(name) = &entry.annotation.label else { return Ok(None) };
        let index = self.labels.iter().position(|label| label == name);
        index.map(|index| Some(index as u32)).ok_or_else(|| format!("label `{name}` is not in labels.json"))
    }

    /// Returns the clip if its length is within the limits. Errors: a large recording that changed while it was read, and a fault of this machine.
    fn judged(&self, entry: &Entry, made: Result<Prepared, Refusal>, label: Option<u32>) -> Result<Decoded, StageError> {
        let clip = match made {
            Ok(clip) => clip,
            // What came in the way must not become part of an artifact.
            Err(Refusal { reason, of_machine: true, .. }) => {
                return Err(StageError::failed(ShardsError::Machine { path: entry.path.clone(), reason }));
            }
            Err(Refusal { reason, offset, .. }) => return Ok(Err(Reject { reason, broken: true, offset })),
        };
        if clip.kept && entry.row.is_none() && entry.size > WHOLE_IN_MEMORY && Digest::of(&clip.bytes) != entry.digest {
            return Err(StageError::SourceChanged { path: self.root.join(&entry.path) });
        }
        let duration = clip.num_samples as f64 / f64::from(self.params.sample_rate);
        let limits = (self.params.min_duration_secs, self.params.max_duration_secs);
        let reason = match limits {
            (Some(min), _) if duration < min => format!("{duration:.3} s, shorter than the {min} s asked for"),
            (_, Some(max)) if duration > max => format!("{duration:.3} s, longer than the {max} s asked for"),
            _ => return Ok(Ok((clip, label))),
        };
        Ok(Err(Reject { reason, broken: false, offset: None }))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads a file and compares it with the manifest. A file whose content the manifest knows and that cannot be read now fails the
/// node and is no reject: what came in the way must not become part of an artifact.
fn read(path: &Path, entry: &Entry) -> Result<Vec<u8>, StageError> {
    let changed = || StageError::SourceChanged { path: path.to_owned() };
    match fs::read(path) {
        Ok(bytes) if Digest::of(&bytes) == entry.digest => Ok(bytes),
        Ok(_) => Err(changed()),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(changed()),
        Err(error) => Err(StageError::io("read", path)(error)),
    }
}

/// Compares a file that is too large for memory with the manifest.
fn check_unread(path: &Path, entry: &Entry) -> Result<(), StageError> {
    let changed = || StageError::SourceChanged { path: path.to_owned() };
    let hash = fs::File::open(path).and_then(|file| Ok(blake3::Hasher::new().update_reader(file)?.finalize()));
    match hash {
        Ok(hash) if Digest(*hash.as_bytes()) == entry.digest => Ok(()),
        Ok(_) => Err(changed()),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(changed()),
        Err(error) => Err(StageError::io("read", path)(error)),
    }
}
