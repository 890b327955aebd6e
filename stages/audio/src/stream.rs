//! Decodes recordings for a model that answers them at once: window after window, without shards.
//!
//! A thread decodes ahead by one window, so memory does not grow with the number of recordings. A clip has the samples that
//! [`crate::shards`] would give it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use datasets::Length;
use pipeline::StageError;
use serde::{Deserialize, Serialize};

use crate::recording::{self, Format, Preparer, Span, Target};

/// A recording that is to be decoded, or a stretch of one: a line of a list in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Id for people.
    pub id: String,
    /// The recording, or the table that contains it.
    pub path: PathBuf,
    /// Row of the table, counted from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<u64>,
    /// First sample at the recording's rate; absent with `num_samples` for a whole recording.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<u64>,
    /// Number of samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_samples: Option<u64>,
}

/// A recording with its samples, or the reason why it has none.
#[derive(Debug)]
pub struct Clip {
    /// The recording.
    pub wanted: Wanted,
    /// Samples at the rate of [`Settings`], or a sentence.
    pub samples: Result<Vec<f32>, String>,
}

/// Form of the clips, and limits.
#[derive(Debug, Clone)]
pub struct Settings {
    /// In Hz.
    pub sample_rate: u32,
    /// Longest clip, in seconds; a longer one is refused.
    pub max_secs: f64,
    /// Samples from which a window ends.
    pub window: usize,
    /// Threads that decode.
    pub threads: usize,
    /// The program `ffmpeg`, for what nothing here decodes.
    pub ffmpeg: Option<PathBuf>,
}

/// Most clips in a window.
const MOST_CLIPS: usize = 4_096;
/// Recordings that each thread decodes between two looks at the size of the window.
const PER_THREAD: usize = 4;

/// The clips of a list, in order, window after window.
#[derive(Debug)]
pub struct Windows {
    windows: Option<Receiver<Result<Vec<Clip>, StageError>>>,
    thread: Option<JoinHandle<()>>,
}

impl Windows {
    /// Starts to decode the recordings of a list: a file with a [`Wanted`] in each line.
    ///
    /// Errors: a list that cannot be opened. What is wrong with a line, or with a table that contains recordings, comes as an item.
    pub fn start(list: &Path, settings: Settings) -> Result<Self, StageError> {
        let lines = BufReader::new(File::open(list).map_err(StageError::io("read", list))?).lines();
        let (sender, windows) = sync_channel(1);
        let mut source = Source { lines, list: list.to_owned(), settings };
        let thread = std::thread::spawn(move || {
            loop {
                let window = source.window();
                let last = window.as_ref().map_or(true, Vec::is_empty);
                if window.as_ref().is_ok_and(Vec::is_empty) || sender.send(window).is_err() || last {
                    return; // the end, nobody listens, or an error
                }
            }
        });
        Ok(Self { windows: Some(windows), thread: Some(thread) })
    }
}

impl Iterator for Windows {
    type Item = Result<Vec<Clip>, StageError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.windows.as_ref()?.recv().ok()
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        self.windows = None; // the thread sees that nobody listens
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic there has been printed
        }
    }
}

/// Recordings that are left to decode.
struct Source {
    lines: Lines<BufReader<File>>,
    list: PathBuf,
    settings: Settings,
}

impl Source {
    /// Returns the next window; an empty one at the end.
    fn window(&mut self) -> Result<Vec<Clip>, StageError> {
        let (mut window, mut samples) = (Vec::new(), 0);
        while samples < self.settings.window && window.len() < MOST_CLIPS {
            let chunk = self.chunk()?;
            if chunk.is_empty() {
                break;
            }
            let clips = self.decode(chunk)?;
            samples += clips.iter().filter_map(|clip| clip.samples.as_ref().ok()).map(Vec::len).sum::<usize>();
            window.extend(clips);
        }
        Ok(window)
    }

    fn chunk(&mut self) -> Result<Vec<Wanted>, StageError> {
        let lines = self.lines.by_ref().take(PER_THREAD * self.settings.threads.max(1));
        let read = |line: std::io::Result<String>| {
            let line = line.map_err(StageError::io("read", &self.list))?;
            serde_json::from_str(&line).map_err(StageError::failed)
        };
        lines.map(read).collect()
    }

    /// Decodes recordings, side by side, and returns them in order.
    fn decode(&self, chunk: Vec<Wanted>) -> Result<Vec<Clip>, StageError> {
        let embedded = Mutex::new(embedded(&chunk)?);
        let rest = Mutex::new(chunk.into_iter().enumerate());
        let decoded = Mutex::new(Vec::new());
        let work = || {
            let target = Target { sample_rate: self.settings.sample_rate, format: Format::Wav };
            let ffmpeg = self.settings.ffmpeg.clone();
            let mut preparer = Preparer::new(target).with_ffmpeg(move || ffmpeg.clone());
            while let Some((at, wanted)) = lock(&rest).next() {
                let key = (wanted.path.clone(), wanted.row.unwrap_or_default());
                let bytes = wanted.row.map(|_| lock(&embedded).remove(&key).unwrap_or_default());
                let samples = self.samples(&mut preparer, &wanted, bytes);
                lock(&decoded).push((at, Clip { wanted, samples }));
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.settings.threads {
                scope.spawn(work);
            }
            work();
        });
        let mut decoded = decoded.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        decoded.sort_by_key(|(at, _)| *at);
        Ok(decoded.into_iter().map(|(_, clip)| clip).collect())
    }

    fn samples(&self, preparer: &mut Preparer<'_>, wanted: &Wanted, bytes: Option<Vec<u8>>) -> Result<Vec<f32>, String> {
        let Settings { sample_rate, max_secs, .. } = self.settings;
        let in_time = |secs: f64| {
            let text =
                || format!("{secs:.1} s, longer than the {max_secs} s of --max-secs: cut it, or list stretches of it in a table");
            if secs > max_secs { Err(text()) } else { Ok(()) }
        };
        let span = wanted.start.zip(wanted.num_samples).map(|(start, num_samples)| Span { start, num_samples });
        // What a header says is too long is not decoded.
        if let (None, None, Some(length)) = (&bytes, span, Length::read(&wanted.path)) {
            in_time(length.secs())?;
        }
        let made = match bytes {
            Some(bytes) => preparer.prepare_bytes(bytes, span),
            None => preparer.prepare(&wanted.path, span),
        };
        let made = made.map_err(|refusal| refusal.reason)?;
        in_time(made.num_samples as f64 / f64::from(sample_rate))?;
        let mut samples = Vec::new();
        recording::samples(&made.bytes, &mut samples).map_err(|refusal| refusal.reason)?;
        Ok(samples)
    }
}

/// Reads the recordings that are in tables, each table once.
fn embedded(chunk: &[Wanted]) -> Result<HashMap<(PathBuf, u64), Vec<u8>>, StageError> {
    let mut rows: BTreeMap<&Path, BTreeSet<u64>> = BTreeMap::new();
    for wanted in chunk {
        if let Some(row) = wanted.row {
            rows.entry(&wanted.path).or_default().insert(row);
        }
    }
    let mut found = HashMap::new();
    for (table, rows) in rows {
        let rows: Vec<u64> = rows.into_iter().collect();
        let recordings = datasets::table::embedded(table, &rows).map_err(StageError::failed)?;
        found.extend(rows.into_iter().map(|row| (table.to_owned(), row)).zip(recordings));
    }
    Ok(found)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wav::write_pcm16;

    fn settings() -> Settings {
        Settings { sample_rate: 16_000, max_secs: 2.0, window: 16_000, threads: 2, ffmpeg: None }
    }

    fn wanted(path: &Path) -> Wanted {
        Wanted { id: path.display().to_string(), path: path.to_owned(), row: None, start: None, num_samples: None }
    }

    fn list(folder: &Path, all: &[Wanted]) -> PathBuf {
        let path = folder.join("list.jsonl");
        let text: String = all.iter().flat_map(|one| [serde_json::to_string(one).unwrap(), "\n".to_owned()]).collect();
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn windows_are_small_and_in_order_and_name_what_is_amiss() {
        let folder = tempfile::tempdir().unwrap();
        let mut all = Vec::new();
        for at in 0..40_i16 {
            let path = folder.path().join(format!("{at}.wav"));
            std::fs::write(&path, write_pcm16(16_000, &vec![at; 8_000])).unwrap();
            all.push(wanted(&path));
        }
        all[3].path = folder.path().join("missing.wav");
        std::fs::write(&all[5].path, "no audio at all, but some text").unwrap();
        std::fs::write(&all[6].path, write_pcm16(16_000, &vec![1; 48_000])).unwrap();
        (all[7].start, all[7].num_samples) = (Some(100), Some(50));
        let windows: Vec<Vec<Clip>> =
            Windows::start(&list(folder.path(), &all), settings()).unwrap().map(Result::unwrap).collect();
        assert!(windows.len() > 3 && windows.iter().all(|window| window.len() <= 16), "{}", windows.len());
        let clips: Vec<Clip> = windows.into_iter().flatten().collect();
        assert!(clips.iter().map(|clip| &clip.wanted).eq(&all));
        for (at, part) in [(3, "cannot be read"), (5, "not an audio file"), (6, "3.0 s, longer than the 2 s of --max-secs")] {
            let reason = clips[at].samples.as_ref().unwrap_err();
            assert!(reason.contains(part), "{reason}");
        }
        assert_eq!(clips[7].samples.as_ref().unwrap(), &vec![7.0 / 32_768.0; 50]);
        assert_eq!(clips[39].samples.as_ref().unwrap(), &vec![39.0 / 32_768.0; 8_000]);
    }

    #[test]
    fn a_damaged_list_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("list.jsonl"), "{\n").unwrap();
        let mut windows = Windows::start(&folder.path().join("list.jsonl"), settings()).unwrap();
        assert!(windows.next().unwrap().is_err());
        assert!(windows.next().is_none());
        assert!(Windows::start(&folder.path().join("none"), settings()).is_err());
    }
}
