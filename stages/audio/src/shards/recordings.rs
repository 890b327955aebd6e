//! Decoding the recordings of a part: by the thread of the node, and by whatever threads are idle just then.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pipeline::source::UNREADABLE;
use pipeline::{Borrowed, Digest, Job, Spare, StageError};

use super::Shards;
use crate::manifest::{Entry, Origin};
use crate::recording::{Draft, Prepared, Preparer, Reject as Refusal, Span, Target, WHOLE_IN_MEMORY, settle};
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

/// What the threads that work on a batch have in common.
struct Shared<'a> {
    /// Utterances that no thread has taken.
    rest: std::iter::Enumerate<std::slice::Iter<'a, Entry>>,
    /// Those whose sums are still to be made.
    drafts: Vec<(usize, Made)>,
    /// The others.
    decoded: Vec<Option<Decoded>>,
    /// Ends the work.
    error: Option<StageError>,
}

/// A clip without its sums, with the index of its class.
type Made = (Result<Draft, Refusal>, Option<u32>);

impl<'a> Recordings<'a> {
    pub(super) fn new(job: &'a Job, origin: &Origin, labels: &'a [String], params: &'a Shards) -> Result<Self, StageError> {
        let root = job.places.get(&origin.place)?.to_owned();
        Ok(Self { root, labels, params, threads: job.threads.max(1), spare: &job.spare, preparers: Mutex::default() })
    }

    /// Of each its clip and the index of its class, or why there is none. Errors: a recording that changed since the plan or cannot
    /// be read.
    pub(super) fn decode(&self, entries: &[Entry]) -> Result<Vec<Decoded>, StageError> {
        let decoded = entries.iter().map(|_| None).collect();
        let shared = Mutex::new(Shared { rest: entries.iter().enumerate(), drafts: Vec::new(), decoded, error: None });
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
        let drafts = std::mem::take(&mut lock(&shared).drafts);
        self.settle(drafts, &shared);
        let Shared { decoded, error, .. } = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
        match error {
            Some(error) => Err(error),
            None => Ok(decoded.into_iter().map(|decoded| decoded.expect("every utterance was prepared or refused")).collect()),
        }
    }

    /// Takes and decodes one utterance after the other until none is left. `between` is called before each.
    fn work(&self, shared: &Mutex<Shared<'_>>, between: impl Fn()) {
        let target = Target { sample_rate: self.params.sample_rate, format: self.params.format };
        let mut preparer = lock(&self.preparers).pop().unwrap_or_else(|| Preparer::new(target));
        loop {
            between();
            let Some((index, entry)) = lock(shared).rest.next() else { break };
            let made = self.draft(entry, &mut preparer);
            let mut held = lock(shared);
            match made {
                Ok(Ok(made)) => held.drafts.push((index, made)),
                Ok(Err(reject)) => held.decoded[index] = Some(Err(reject)),
                Err(error) => {
                    held.rest = [].iter().enumerate();
                    held.error.get_or_insert(error);
                }
            }
            if held.drafts.len() == LANES {
                let drafts = std::mem::take(&mut held.drafts);
                drop(held);
                self.settle(drafts, shared);
            }
        }
        lock(&self.preparers).push(preparer);
    }

    /// What is to be settled of an utterance, or why there is nothing. Errors: as of [`Self::decode`].
    fn draft(&self, entry: &Entry, preparer: &mut Preparer) -> Result<Result<Made, Reject>, StageError> {
        let refused = |reason| Ok(Err(Reject { reason, broken: true, offset: None }));
        let label = match self.label(entry) {
            Ok(label) => label,
            Err(reason) => return refused(reason),
        };
        if entry.digest == UNREADABLE {
            return refused("no permission to read it".to_owned());
        }
        let path = self.root.join(&entry.path);
        let span = entry.start.zip(entry.num_samples).map(|(start, num_samples)| Span { start, num_samples });
        let draft = if entry.size > WHOLE_IN_MEMORY {
            check_unread(&path, entry)?;
            let draft = preparer.draft(&path, span);
            if draft.as_ref().is_ok_and(|draft| draft.kept().is_some_and(|bytes| Digest::of(bytes) != entry.digest)) {
                return Err(StageError::SourceChanged { path });
            }
            draft
        } else {
            preparer.draft_bytes(read(&path, entry)?, span)
        };
        Ok(Ok((draft, label)))
    }

    fn settle(&self, drafts: Vec<(usize, Made)>, shared: &Mutex<Shared<'_>>) {
        let (places, drafts): (Vec<_>, Vec<_>) =
            drafts.into_iter().map(|(index, (draft, label))| ((index, label), draft)).unzip();
        let clips = settle(drafts);
        let mut held = lock(shared);
        for ((index, label), clip) in places.into_iter().zip(clips) {
            held.decoded[index] = Some(self.judged(clip, label));
        }
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
