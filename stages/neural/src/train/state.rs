//! The state of a training on disk, so that a killed one goes on where it was.
//!
//! ```text
//! state            8 bytes: length of the head; the head: JSON; vectors of 32-bit floats; 32 bytes: BLAKE3 of all before
//! state.previous   the one before
//! state.damaged    one that could not be read
//! state.formatN    one of another format, which another version of this program can read
//! point-STEP       the trained values at a step, in the same form
//! lock             held while a process works here
//! ```
//!
//! A state is written beside, synced, then renamed: whatever happens, one of the two is whole.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pipeline::{Job, StageError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A folder that one process at a time keeps its state in.
#[derive(Debug)]
pub struct StateFolder {
    folder: PathBuf,
    /// Unlocked when the process ends, however it does.
    _lock: File,
}

/// A state that was found.
#[derive(Debug, PartialEq)]
pub struct Found<H> {
    /// Head that was saved with the vectors.
    pub head: H,
    /// The vectors, in the order they were saved in.
    pub vectors: Vec<Vec<f32>>,
}

/// Header in front of the vectors.
#[derive(Serialize, Deserialize)]
struct Head<H> {
    format: u32,
    lengths: Vec<u64>,
    content: H,
}

/// Raised when the file changes.
const FORMAT: u32 = 2;
const STATE: &str = "state";
const PREVIOUS: &str = "state.previous";
const DAMAGED: &str = "state.damaged";
const POINT: &str = "point-";
const LOCK_POLL: Duration = Duration::from_millis(100);

impl StateFolder {
    /// Opens the job's resume folder; waits while another process works in it (the worker of a run that was killed, say).
    ///
    /// Errors: a folder that cannot be written, [`StageError::Stopped`] when a stop is asked for meanwhile.
    pub fn open(job: &Job) -> Result<Self, StageError> {
        let folder = job.resume.clone();
        fs::create_dir_all(&folder).map_err(StageError::io("create", &folder))?;
        let path = folder.join("lock");
        let lock = File::create(&path).map_err(StageError::io("create", &path))?;
        let mut told = false;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Self { folder, _lock: lock }),
                Err(TryLockError::WouldBlock) if job.stop.requested() => return Err(StageError::Stopped),
                Err(TryLockError::WouldBlock) => {
                    if !told {
                        job.progress.note("another process still works on this training: waiting for its end");
                        told = true;
                    }
                    std::thread::sleep(LOCK_POLL);
                }
                Err(TryLockError::Error(source)) => return Err(StageError::io("lock", path)(source)),
            }
        }
    }

    /// Saves a state; the one before is kept beside it.
    ///
    /// Errors: a folder that cannot be written; the states in it are then as before.
    pub fn save<H: Serialize>(&self, head: &H, vectors: &[&[f32]]) -> Result<(), StageError> {
        let (new, state) = (self.folder.join("state.new"), self.folder.join(STATE));
        write(&new, head, vectors).map_err(StageError::io("write", &new))?;
        if state.exists() {
            let previous = self.folder.join(PREVIOUS);
            fs::rename(&state, &previous).map_err(StageError::io("rename", &state))?;
        }
        fs::rename(&new, &state).map_err(StageError::io("rename", &new))?;
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(StageError::io("sync", &self.folder))
    }

    /// The newest whole state. One that is damaged is set aside, and `note` told so.
    pub fn load<H: DeserializeOwned>(&self, note: &dyn Fn(&str)) -> Option<Found<H>> {
        for name in [STATE, PREVIOUS] {
            let path = self.folder.join(name);
            match read(&path) {
                Ok(found) => return Some(found),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    // A state of another format is sound: the version that wrote it can still use it.
                    let other = error.get_ref().and_then(|error| error.downcast_ref::<OtherFormat>());
                    let aside = other.map_or_else(|| DAMAGED.to_owned(), |other| format!("{STATE}.format{}", other.0));
                    let kept = fs::rename(&path, self.folder.join(&aside)).is_ok();
                    let aside = if kept { format!("; set aside as `{aside}`") } else { String::new() };
                    note(&format!("cannot resume from `{}`: {error}{aside}", path.display()));
                }
            }
        }
        None
    }
}

/// Points of a training that are kept, by step.
impl StateFolder {
    /// Keeps the trained values of a step.
    ///
    /// Errors: a folder that cannot be written.
    pub fn keep_point(&self, step: u64, values: &[f32]) -> Result<(), StageError> {
        let (new, point) = (self.folder.join("point.new"), self.point_path(step));
        write(&new, &step, &[values]).map_err(StageError::io("write", &new))?;
        fs::rename(&new, &point).map_err(StageError::io("rename", &new))
    }

    /// The trained values of a step that was kept.
    ///
    /// Errors: a file that cannot be read or is damaged.
    pub fn point(&self, step: u64) -> Result<Vec<f32>, StageError> {
        let path = self.point_path(step);
        let mut found = read::<u64>(&path).map_err(StageError::io("read", &path))?;
        found.vectors.pop().ok_or_else(|| StageError::io("read", &path)(damaged("it holds no values")))
    }

    /// Removes all points but those of some steps. To be called when no saved state names the others any longer.
    pub fn drop_points(&self, kept: &[u64]) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let step = name.to_str().and_then(|name| name.strip_prefix(POINT)?.parse().ok());
            if step.is_some_and(|step: u64| !kept.contains(&step)) {
                let _ = fs::remove_file(entry.path()); // one that stays takes room, and goes with the folder
            }
        }
    }

    fn point_path(&self, step: u64) -> PathBuf {
        self.folder.join(format!("{POINT}{step}"))
    }
}

fn write<H: Serialize>(path: &Path, head: &H, vectors: &[&[f32]]) -> io::Result<()> {
    let lengths = vectors.iter().map(|vector| vector.len() as u64).collect();
    let head = serde_json::to_vec(&Head { format: FORMAT, lengths, content: head })?;
    let file = File::create(path)?;
    let mut out = Hashing { inner: BufWriter::with_capacity(1 << 20, file), hasher: blake3::Hasher::new() };
    out.write_all(&(head.len() as u64).to_le_bytes())?;
    out.write_all(&head)?;
    for vector in vectors {
        for block in vector.chunks(1 << 16) {
            let bytes: Vec<u8> = block.iter().flat_map(|value| value.to_le_bytes()).collect();
            out.write_all(&bytes)?;
        }
    }
    let Hashing { mut inner, hasher } = out;
    inner.write_all(hasher.finalize().as_bytes())?;
    inner.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

fn read<H: DeserializeOwned>(path: &Path) -> io::Result<Found<H>> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut from = Hashing { inner: BufReader::with_capacity(1 << 20, file), hasher: blake3::Hasher::new() };
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    // Checked before anything is allocated: a damaged file may claim any length.
    let fits = |bytes: u64| if bytes <= size { Ok(bytes as usize) } else { Err(damaged("it is cut off")) };
    let mut head = vec![0; fits(length)?];
    from.read_exact(&mut head)?;
    let head: Head<H> = serde_json::from_slice(&head)?;
    if head.format != FORMAT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, OtherFormat(head.format)));
    }
    let mut vectors = Vec::new();
    for length in head.lengths {
        let mut bytes = vec![0; fits(length.saturating_mul(4))?];
        from.read_exact(&mut bytes)?;
        vectors.push(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect());
    }
    let mut digest = [0; blake3::OUT_LEN];
    from.inner.read_exact(&mut digest)?;
    if from.hasher.finalize() != blake3::Hash::from_bytes(digest) {
        return Err(damaged("its checksum is wrong"));
    }
    Ok(Found { head: head.content, vectors })
}

/// A state of a format that this version does not read.
#[derive(Debug, thiserror::Error)]
#[error("another version of this program wrote it (format {0}, and this one reads {FORMAT})")]
struct OtherFormat(u32);

fn damaged(how: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, how)
}

/// Hashes what passes.
struct Hashing<T> {
    inner: T,
    hasher: blake3::Hasher,
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn folder() -> (tempfile::TempDir, StateFolder) {
        let folder = tempfile::tempdir().unwrap();
        let lock = File::create(folder.path().join("lock")).unwrap();
        let state = StateFolder { folder: folder.path().to_owned(), _lock: lock };
        (folder, state)
    }

    fn load(state: &StateFolder) -> (Option<u32>, Vec<String>) {
        let notes = RefCell::new(Vec::new());
        let found = state.load::<u32>(&|line| notes.borrow_mut().push(line.to_owned()));
        (found.map(|found| found.head), notes.into_inner())
    }

    #[test]
    fn what_is_saved_is_found_bit_by_bit() {
        let (_folder, state) = folder();
        let odd = [f32::MIN_POSITIVE / 2.0, -0.0, 1.0e-30, f32::MAX];
        state.save(&("head", 0.1_f32, 0.1_f64), &[&odd, &[], &[1.5]]).unwrap();
        let found = state.load::<(String, f32, f64)>(&|line| panic!("{line}")).unwrap();
        assert_eq!(found.head, ("head".to_owned(), 0.1, 0.1));
        let bits = |vector: &[f32]| vector.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&found.vectors[0]), bits(&odd));
        assert_eq!(found.vectors[1..], [vec![], vec![1.5]]);
    }

    #[test]
    fn nothing_saved_is_nothing_found() {
        let (_folder, state) = folder();
        assert_eq!(load(&state), (None, vec![]));
    }

    #[test]
    fn a_damaged_state_is_set_aside_and_the_one_before_used() {
        let (folder, state) = folder();
        state.save(&1, &[&[1.0; 100]]).unwrap();
        state.save(&2, &[&[2.0; 100]]).unwrap();
        let path = folder.path().join(STATE);
        let whole = fs::read(&path).unwrap();
        for at in [0, 4, 12, 200, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&path, &bytes).unwrap();
            let (found, notes) = load(&state);
            assert_eq!(found, Some(1), "byte {at}");
            assert!(notes[0].contains("set aside"), "{notes:?}");
            assert!(folder.path().join(DAMAGED).exists() && !path.exists());
        }
        for length in [0, 5, 20, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(load(&state).0, Some(1), "cut to {length} bytes");
        }
    }

    #[test]
    fn a_state_of_another_format_is_kept_and_the_note_says_which() {
        let (folder, state) = folder();
        state.save(&1, &[&[1.0]]).unwrap();
        let path = folder.path().join(STATE);
        let text = fs::read(&path).unwrap();
        let (old, new) = (format!("\"format\":{FORMAT}"), format!("\"format\":{}", FORMAT + 1));
        let at = text.windows(old.len()).position(|window| window == old.as_bytes()).unwrap();
        let changed = [&text[..at], new.as_bytes(), &text[at + old.len()..]].concat();
        fs::write(&path, &changed).unwrap();
        let (found, notes) = load(&state);
        assert_eq!(found, None);
        assert!(notes.len() == 1 && notes[0].contains(&format!("format {}", FORMAT + 1)), "{notes:?}");
        assert_eq!(fs::read(folder.path().join(format!("state.format{}", FORMAT + 1))).unwrap(), changed);
    }

    #[test]
    fn points_are_kept_until_they_are_dropped() {
        let (_folder, state) = folder();
        for step in [5, 10, 15] {
            state.keep_point(step, &[step as f32, 0.5]).unwrap();
        }
        state.drop_points(&[5, 15]);
        assert_eq!(state.point(15).unwrap(), [15.0, 0.5]);
        assert!(state.point(10).is_err());
        assert_eq!(state.point(5).unwrap(), [5.0, 0.5]);
    }

    #[test]
    fn two_damaged_states_are_nothing_found() {
        let (folder, state) = folder();
        state.save(&1, &[&[1.0]]).unwrap();
        state.save(&2, &[&[2.0]]).unwrap();
        fs::write(folder.path().join(STATE), "torn").unwrap();
        fs::write(folder.path().join(PREVIOUS), "").unwrap();
        let (found, notes) = load(&state);
        assert_eq!((found, notes.len()), (None, 2));
    }
}
