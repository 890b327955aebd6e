//! Decoding the recordings of a part: by the thread of the node, and by whatever threads are idle just then.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use pipeline::source::UNREADABLE;
use pipeline::{Borrowed, Digest, Job, Spare, StageError};

use super::Shards;
use crate::manifest::{Entry, Origin};
use crate::recording::{Prepared, Preparer, Reject as Refusal, Span, Target};
use crate::sums::LANES;

/// An utterance that gives no row.
pub(super) struct Reject {
    pub(super) reason: String,
    /// Whether it is broken, and not only too short or too long.
    pub(super) broken: bool,
    /// Where in the file the trouble is, in bytes.
    pub(super) offset: Option<u64>,
}

/// A clip with the index of its class, or why there is none.
pub(super) type Decoded = Result<(Prepared, Option<u32>), Reject>;

/// So many are decoded together by one thread, that their MD5 sums fill the lanes: see [`Preparer::prepare_all`].
const MOST_TOGETHER: usize = LANES;
/// So many at least where several threads share the work, that none has much left when the others are done.
const FEWEST_TOGETHER: usize = 4;

/// Larger files are not read whole, but piece by piece.
const WHOLE_IN_MEMORY: u64 = 32 << 20;

/// All that is needed to decode utterances.
pub(super) struct Recordings<'a> {
    root: PathBuf,
    labels: &'a [String],
    params: &'a Shards,
    threads: usize,
    spare: &'a Spare,
    /// Those that no thread uses.
    preparers: Mutex<Vec<Preparer>>,
}

/// Utterances that no thread has taken, and what became of the others.
struct Shared<'a> {
    rest: &'a [Entry],
    threads: usize,
    /// With how many were left when they were taken.
    decoded: Vec<(usize, Result<Vec<Decoded>, StageError>)>,
}

impl<'a> Recordings<'a> {
    pub(super) fn new(job: &'a Job, origin: &Origin, labels: &'a [String], params: &'a Shards) -> Result<Self, StageError> {
        let root = job.places.get(&origin.place)?.to_owned();
        Ok(Self { root, labels, params, threads: job.threads.max(1), spare: &job.spare, preparers: Mutex::default() })
    }

    /// Of each its clip and the index of its class, or why there is none. Errors: a recording that changed since the plan or cannot
    /// be read.
    pub(super) fn decode(&self, entries: &[Entry]) -> Result<Vec<Decoded>, StageError> {
        let shared = Mutex::new(Shared { rest: entries, threads: 1, decoded: Vec::new() });
        std::thread::scope(|scope| {
            let help = |borrowed: Option<Borrowed>| {
                lock(&shared).threads += 1;
                scope.spawn(|| {
                    self.work(&shared, || {});
                    lock(&shared).threads -= 1;
                    drop(borrowed);
                });
            };
            (1..self.threads).for_each(|_| help(None));
            self.work(&shared, || {
                while lock(&shared).rest.len() > FEWEST_TOGETHER
                    && let Some(borrowed) = self.spare.borrow()
                {
                    help(Some(borrowed));
                }
            });
        });
        let mut decoded = shared.into_inner().unwrap_or_else(PoisonError::into_inner).decoded;
        decoded.sort_by_key(|(left, _)| std::cmp::Reverse(*left));
        let groups: Result<Vec<_>, StageError> = decoded.into_iter().map(|(_, group)| group).collect();
        Ok(groups?.into_iter().flatten().collect())
    }

    /// Takes and decodes until nothing is left. `between` is called before each time.
    fn work(&self, shared: &Mutex<Shared<'_>>, between: impl Fn()) {
        let target = Target { sample_rate: self.params.sample_rate, format: self.params.format };
        let mut preparer = lock(&self.preparers).pop().unwrap_or_else(|| Preparer::new(target));
        loop {
            between();
            let (left, group) = lock(shared).take();
            if group.is_empty() {
                break;
            }
            let decoded = self.decode_together(group, &mut preparer);
            lock(shared).decoded.push((left, decoded));
        }
        lock(&self.preparers).push(preparer);
    }

    fn decode_together(&self, entries: &[Entry], preparer: &mut Preparer) -> Result<Vec<Decoded>, StageError> {
        let mut decoded: Vec<Option<Decoded>> = entries.iter().map(|_| None).collect();
        let (mut waiting, mut files) = (Vec::new(), Vec::new());
        for (index, entry) in entries.iter().enumerate() {
            let label = match self.label(entry) {
                Ok(label) => label,
                Err(reason) => {
                    decoded[index] = Some(Err(Reject { reason, broken: true, offset: None }));
                    continue;
                }
            };
            if entry.digest == UNREADABLE {
                let reason = "no permission to read it".to_owned();
                decoded[index] = Some(Err(Reject { reason, broken: true, offset: None }));
                continue;
            }
            let path = self.root.join(&entry.path);
            let span = entry.start.zip(entry.num_samples).map(|(start, num_samples)| Span { start, num_samples });
            if entry.size > WHOLE_IN_MEMORY {
                check_unread(&path, entry)?;
                decoded[index] = Some(self.judged(preparer.prepare(&path, span), label));
            } else {
                files.push((read(&path, entry)?, span));
                waiting.push((index, label));
            }
        }
        for ((index, label), made) in waiting.into_iter().zip(preparer.prepare_all(files)) {
            decoded[index] = Some(self.judged(made, label));
        }
        Ok(decoded.into_iter().map(|decoded| decoded.expect("every entry was prepared or refused")).collect())
    }

    /// The index of an utterance's class. Errors: the class is not known.
    fn label(&self, entry: &Entry) -> Result<Option<u32>, String> {
        let Some(name) = &entry.label else { return Ok(None) };
        let index = self.labels.iter().position(|label| label == name);
        index.map(|index| Some(index as u32)).ok_or_else(|| format!("label `{name}` is not in labels.json"))
    }

    /// A clip that is as long as asked for.
    fn judged(&self, made: Result<Prepared, Refusal>, label: Option<u32>) -> Decoded {
        let clip = made.map_err(|Refusal { reason, offset }| Reject { reason, broken: true, offset })?;
        let duration = clip.num_samples as f64 / f64::from(self.params.sample_rate);
        let limits = (self.params.min_duration_secs, self.params.max_duration_secs);
        let reason = match limits {
            (Some(min), _) if duration < min => format!("{duration:.3} s, shorter than the {min} s asked for"),
            (_, Some(max)) if duration > max => format!("{duration:.3} s, longer than the {max} s asked for"),
            _ => return Ok((clip, label)),
        };
        Err(Reject { reason, broken: false, offset: None })
    }
}

impl<'a> Shared<'a> {
    /// The next ones, and how many there were.
    fn take(&mut self) -> (usize, &'a [Entry]) {
        let left = self.rest.len();
        let fair = if self.threads > 1 { left.div_ceil(2 * self.threads).max(FEWEST_TOGETHER) } else { left };
        let (group, rest) = self.rest.split_at(fair.min(MOST_TOGETHER).min(left));
        self.rest = rest;
        (left, group)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
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

/// The same for a file that is too large to be held in memory.
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
