//! Files that a controller and compute nodes exchange, in a folder that they share.
//!
//! ```text
//! waves/<wave>/wave.json          intent: tasks and elements; on disk before the array is submitted
//! waves/<wave>/requests, index    requests of the elements, one after the other, and where each begins
//! waves/<wave>/job                id of the array, once it is known
//! waves/<wave>/alive/<e>          written every 30 s by element e: its host, what runs, the last progress
//! waves/<wave>/out/...            output folder and log of each attempt
//! waves/<wave>/done/<t>.<a>.json  result of attempt a of task t: written beside, synced if it took long, then linked under this name
//! waves/<wave>/settled            numbers of the tasks that need no look any more, one a line
//! waves/<wave>/closed             all tasks are settled
//! resume/<fingerprint>/<a>/       state of attempt a of a long stage; `<a>.over` says that nobody waits for its result any more
//! bin/<digest>/                   this program, so that a new version does not disturb open waves
//! objects/                        artifacts
//! ```
//!
//! On a network file system, a name that was looked up in vain may stay absent for a minute, though a listing shows it. So no name is
//! looked up before a listing has shown it.

mod messages;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde::de::DeserializeOwned;

use crate::Digest;
use crate::source::hash_file;

pub use messages::{Alive, BEAT, Done, DoneEnd, ElementRequest, FORMAT, Progress, TaskRequest, Wave, WaveTask};

/// The exchange folder of a store.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    folder: PathBuf,
}

impl Exchange {
    /// Returns the exchange folder of a store in a shared folder.
    pub(crate) fn of(shared: &Path, store: &str) -> Self {
        Self { folder: shared.join(store) }
    }

    pub(crate) fn objects(&self) -> PathBuf {
        self.folder.join("objects")
    }

    pub(crate) fn waves(&self) -> PathBuf {
        self.folder.join("waves")
    }

    pub(crate) fn folder_of(&self, wave: &str) -> WaveFolder {
        WaveFolder(self.waves().join(wave))
    }

    /// Folder of the states of all attempts at a fingerprint.
    pub(crate) fn states(&self, fingerprint: Digest) -> PathBuf {
        self.folder.join("resume").join(fingerprint.to_string())
    }

    /// Removes what closed waves left, all of those that were closed long ago or never begun, and states that nobody has touched for
    /// long.
    pub(crate) fn sweep(&self) {
        let is_older = |path: &Path, age: Duration| {
            let time = fs::metadata(path).and_then(|meta| meta.modified()).ok();
            time.and_then(|time| time.elapsed().ok()).is_some_and(|elapsed| elapsed > age)
        };
        let mut old: Vec<PathBuf> = vec![];
        for name in names_in(&self.waves()) {
            let wave = self.folder_of(&name);
            let names = names_in(&wave.0);
            if names.contains(CLOSED) {
                wave.clear();
                old.extend(Some(wave.0).filter(|folder| is_older(&folder.join(CLOSED), KEPT)));
            } else if !names.contains(WAVE) {
                old.extend(Some(wave.0).filter(|folder| is_older(folder, KEPT))); // its controller was killed before the intent
            }
        }
        let states = names_in(&self.folder.join("resume")).into_iter().map(|name| self.folder.join("resume").join(name));
        for folder in old.into_iter().chain(states.filter(|folder| is_older(folder, KEPT * 4))) {
            let _ = fs::remove_dir_all(folder); // only takes room
        }
    }

    /// Reads the intent of a wave.
    pub(crate) fn read_wave(&self, name: &str) -> Option<Wave> {
        let folder = self.waves().join(name);
        let wave: Wave = names_in(&folder).contains(WAVE).then(|| read_json(&folder.join(WAVE)).ok())??;
        (wave.format == FORMAT).then_some(wave)
    }

    /// Writes the intent of a wave with its requests, and brings it to the disk. The script is the one that each element runs.
    pub(crate) fn begin_wave(&self, wave: &Wave, requests: &[ElementRequest], command: &[String]) -> io::Result<WaveFolder> {
        let folder = self.waves().join(&wave.name);
        for inner in ["alive", "out", "done", "log"] {
            fs::create_dir_all(folder.join(inner))?;
        }
        let (mut all, mut index) = (vec![], vec![]);
        for request in requests {
            let text = serde_json::to_vec(request).map_err(io::Error::other)?;
            let _ = writeln!(index, "{:>15} {:>15}", all.len(), text.len()); // writing to a string cannot fail
            all.extend(text);
        }
        write_synced(&folder.join("requests"), &all)?;
        write_synced(&folder.join("index"), &index)?;
        let words: Vec<String> = command.iter().map(|word| quoted(word)).collect();
        let script =
            format!("#!/bin/sh\nexec {} {} \"$SLURM_ARRAY_TASK_ID\"\n", words.join(" "), quoted(&folder.display().to_string()));
        write_synced(&folder.join(SCRIPT), script.as_bytes())?;
        replace(&folder.join(WAVE), &serde_json::to_vec(wave).map_err(io::Error::other)?)?;
        Ok(WaveFolder(folder))
    }

    /// Copies this program into the exchange folder, and returns the copy.
    pub(crate) fn keep_program(&self, program: &Path) -> io::Result<PathBuf> {
        let digest = hash_file(&File::open(program)?)?;
        let folder = self.folder.join("bin").join(digest.short());
        let name = program.file_name().ok_or_else(|| io::Error::other("the program has no name"))?;
        let copy = folder.join(name);
        if !names_in(&folder).contains(&*name.to_string_lossy()) {
            fs::create_dir_all(&folder)?;
            let aside = folder.join(format!("{}{NEW}", std::process::id()));
            fs::copy(program, &aside)?;
            fs::set_permissions(&aside, fs::Permissions::from_mode(0o755))?;
            File::open(&aside)?.sync_all()?;
            fs::rename(aside, &copy)?;
        }
        Ok(copy)
    }

    /// Notes that nobody waits for the result of an attempt any more. It may go on all the same, so no other gets its number, nor with it
    /// its folders.
    pub(crate) fn give_up(&self, fingerprint: Digest, attempt: u32) {
        let states = self.states(fingerprint);
        // Without it, a number may come twice once the wave is closed.
        let _ = fs::create_dir_all(&states).and_then(|()| fs::write(states.join(format!("{attempt}.over")), b""));
    }

    /// Returns the greatest attempt of which a state is kept or that was given up, 0 when there is none.
    pub(crate) fn last_state(&self, fingerprint: Digest) -> u32 {
        let names = names_in(&self.states(fingerprint));
        names.iter().filter_map(|name| name.split('.').next()?.parse().ok()).max().unwrap_or(0)
    }

    /// Makes the folder for the state of an attempt, with the newest state of the attempts before it. `local` is a state that this
    /// machine has.
    pub(crate) fn begin_state(&self, fingerprint: Digest, attempt: u32, local: &Path) -> io::Result<()> {
        let states = self.states(fingerprint);
        let earlier = names_in(&states).into_iter().filter(|name| name.parse::<u32>().is_ok()).map(|name| states.join(name));
        let newest = earlier.chain([local.to_owned()]).filter_map(|folder| Some((newest_file(&folder)?, folder))).max();
        let Some((_, from)) = newest else { return Ok(()) }; // most bodies need no state
        let to = states.join(attempt.to_string());
        take_state(&from, &to)?;
        write_synced(&states.join(format!("{attempt}.begun")), b"") // what is newer than this file is progress
    }

    /// True if an attempt has saved a state of its own.
    pub(crate) fn has_progress(&self, fingerprint: Digest, attempt: u32) -> bool {
        let states = self.states(fingerprint);
        let names = names_in(&states);
        if !names.contains(&attempt.to_string()) {
            return false;
        }
        let marker = format!("{attempt}.begun");
        let begun = names.contains(&marker).then(|| fs::metadata(states.join(marker)).and_then(|meta| meta.modified()).ok());
        newest_file(&states.join(attempt.to_string())).is_some_and(|newest| begun.flatten().is_none_or(|begun| newest > begun))
    }
}

/// Time for which a closed wave is remembered.
const KEPT: Duration = Duration::from_secs(7 * 86_400);

const WAVE: &str = "wave.json";
const CLOSED: &str = "closed";
const SETTLED: &str = "settled";
const JOB: &str = "job";
/// The script of an element.
pub(crate) const SCRIPT: &str = "script";
/// End of the name of a file that is not complete.
const NEW: &str = ".new";

/// The folder of a wave.
#[derive(Debug, Clone)]
pub(crate) struct WaveFolder(pub(crate) PathBuf);

impl WaveFolder {
    pub(crate) fn job(&self) -> Option<String> {
        let text = names_in(&self.0).contains(JOB).then(|| fs::read_to_string(self.0.join(JOB)).ok())??;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    pub(crate) fn set_job(&self, job: &str) -> io::Result<()> {
        replace(&self.0.join(JOB), job.as_bytes())
    }

    /// Names of the results, each `<task>.<attempt>.json`.
    pub(crate) fn results(&self) -> BTreeSet<String> {
        names_in(&self.0.join("done")).into_iter().filter(|name| name.ends_with(".json")).collect()
    }

    pub(crate) fn read_result(&self, name: &str) -> io::Result<Done> {
        let done: Done = read_json(&self.0.join("done").join(name))?;
        if done.format == FORMAT { Ok(done) } else { Err(io::Error::other(format!("format {} is not known", done.format))) }
    }

    pub(crate) fn out(&self, name: &str) -> PathBuf {
        self.0.join("out").join(name)
    }

    /// Names of the output folders of an attempt that have a log.
    pub(crate) fn logs_of(&self, task: u32, attempt: u32) -> Vec<String> {
        let (begin, names) = (format!("{task}.{attempt}-"), names_in(&self.0.join("out")));
        let logs = names.iter().filter(|name| name.starts_with(&begin)).filter_map(|name| name.strip_suffix(".log"));
        logs.map(str::to_owned).collect()
    }

    /// The last states that elements told, with the time at which each file changed.
    pub(crate) fn alive(&self) -> Vec<(u32, SystemTime, PathBuf)> {
        let folder = self.0.join("alive");
        let look = |name: String| {
            let path = folder.join(&name);
            Some((name.parse().ok()?, fs::metadata(&path).and_then(|meta| meta.modified()).ok()?, path))
        };
        names_in(&folder).into_iter().filter_map(look).collect()
    }

    pub(crate) fn is_closed(&self) -> bool {
        names_in(&self.0).contains(CLOSED)
    }

    /// Marks a task as settled.
    pub(crate) fn settle(&self, task: u32) {
        let file = File::options().create(true).append(true).open(self.0.join(SETTLED));
        let _ = file.and_then(|mut file| file.write_all(format!("{task}\n").as_bytes())); // else the store tells that its result is there
    }

    pub(crate) fn settled(&self) -> BTreeSet<u32> {
        let text = names_in(&self.0).contains(SETTLED).then(|| fs::read_to_string(self.0.join(SETTLED)).ok()).flatten();
        text.unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Closes the wave: only its intent stays, as a record. Nobody waits until the rest is removed, which takes milliseconds a file on
    /// some file systems: what is left when this process ends is removed by the next run.
    pub(crate) fn close(&self) {
        let _ = write_synced(&self.0.join(CLOSED), b""); // one that stays open is looked at once more
        let wave = self.clone();
        std::thread::spawn(move || wave.clear());
    }

    fn clear(&self) {
        for inner in ["alive", "out", "done", "requests", "index"] {
            let path = self.0.join(inner);
            let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path)); // only takes room
        }
    }

    /// Removes a wave that was surely not submitted.
    pub(crate) fn discard(&self) {
        let _ = fs::remove_file(self.0.join(WAVE)); // first: without it there is no wave
        let _ = fs::remove_dir_all(&self.0); // only takes room
    }

    /// End of an element's own output, for people.
    pub(crate) fn last_words(&self, element: u32) -> Option<String> {
        let mut bytes = vec![];
        let mut file = File::open(self.0.join("log").join(format!("{element}.log"))).ok()?;
        let size = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(2000))).ok()?;
        file.take(2000).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.lines().rev().find(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned())
    }

    /// Reads the request of an element.
    pub(crate) fn read_request(&self, element: u32) -> io::Result<ElementRequest> {
        const LINE: usize = 32;
        let index = fs::read_to_string(self.0.join("index"))?;
        let at = element as usize * LINE;
        let line = index.get(at..at + LINE).ok_or_else(|| io::Error::other(format!("there is no element {element}")))?;
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let [start, length] = numbers.as_slice() else { return Err(io::Error::other("the index is damaged")) };
        let mut file = File::open(self.0.join("requests"))?;
        file.seek(SeekFrom::Start(*start))?;
        let mut text = vec![0; *length as usize];
        file.read_exact(&mut text)?;
        serde_json::from_slice(&text).map_err(io::Error::other)
    }

    /// Tells the state of an element.
    pub(crate) fn tell(&self, element: u32, alive: &Alive) -> io::Result<()> {
        let text = serde_json::to_vec(alive).map_err(io::Error::other)?;
        let path = self.0.join("alive").join(element.to_string());
        let aside = path.with_extension("new");
        fs::write(&aside, text)?;
        fs::rename(aside, path)
    }

    /// Writes a result, unless there is one already. Returns true if this one counts.
    pub(crate) fn write_result(&self, task: u32, attempt: u32, done: &Done) -> io::Result<bool> {
        let text = serde_json::to_vec(done).map_err(io::Error::other)?;
        let path = self.0.join("done").join(format!("{task}.{attempt}.json"));
        let aside = self.0.join("done").join(format!("{task}.{attempt}.{}-{}{NEW}", done.host, std::process::id()));
        if done.secs < SYNCED_SECS {
            fs::write(&aside, &text)?;
        } else {
            write_synced(&aside, &text)?;
        }
        let linked = fs::hard_link(&aside, &path);
        let first = match linked {
            Ok(()) => true,
            // A server whose first answer was lost says so of the link that it has made: then the file has two names.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::metadata(&aside).is_ok_and(|meta| meta.nlink() > 1),
            Err(_) => return fs::rename(&aside, &path).map(|()| true), // a file system without links
        };
        let _ = fs::remove_file(aside); // only takes room
        Ok(first) // one that a power failure takes back or tears is a result that was lost: the task runs again
    }
}

/// Least time of a task whose result is synced to the disk before it is reported. Syncing takes longer than many tasks, and a result
/// that a power failure tears cannot be read: the task counts as lost and runs again.
const SYNCED_SECS: f64 = 1.0;

/// Names in a folder; none when it cannot be listed.
pub(crate) fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Waits until a listing shows a path that another machine has made. Returns true if it did in time.
pub(crate) fn await_path(path: &Path, patience: Duration) -> bool {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return false };
    let begun = Instant::now();
    loop {
        if names_in(parent).contains(&*name.to_string_lossy()) && path.symlink_metadata().is_ok() {
            return true;
        }
        if begun.elapsed() >= patience {
            return false;
        }
        std::thread::sleep(Duration::from_secs(1).min(patience));
    }
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    serde_json::from_slice(&fs::read(path)?).map_err(io::Error::other)
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Writes a file beside, then renames it.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = path.with_extension("new");
    write_synced(&aside, bytes)?;
    fs::rename(aside, path)?;
    let folder = path.parent().map_or_else(PathBuf::new, Path::to_owned);
    let _ = File::open(folder).and_then(|folder| folder.sync_all()); // some file systems cannot
    Ok(())
}

/// A word for `sh`.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Time of the last change of a file in a folder of states; none without files.
fn newest_file(folder: &Path) -> Option<SystemTime> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let times = entries.filter_map(|entry| {
        let name = entry.file_name();
        let name = name.to_str()?;
        let meta = entry.metadata().ok().filter(|meta| meta.is_file() && name != LOCK && !name.ends_with(NEW))?;
        meta.modified().ok()
    });
    times.max()
}

/// File that a body may hold a lock on.
const LOCK: &str = "lock";

/// Size from which a file of a state is linked, not copied: such files are replaced, never written in place.
const LINKED: u64 = 1 << 20;

/// Takes over a state: large files by links, small ones by copies.
fn take_state(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let (path, target) = (entry.path(), to.join(&name));
        let Ok(meta) = entry.metadata() else { continue }; // it was replaced just now
        if name == LOCK || name.ends_with(NEW) {
            continue;
        }
        let taken = if meta.is_dir() {
            take_state(&path, &target)
        } else if meta.len() >= LINKED {
            fs::hard_link(&path, &target).or_else(|_| fs::copy(&path, &target).map(|_| ()))
        } else {
            fs::copy(&path, &target).map(|_| ())
        };
        match taken {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn of_two_results_of_an_attempt_the_first_counts() {
        let folder = tempfile::tempdir().unwrap();
        let wave = WaveFolder(folder.path().to_owned());
        fs::create_dir(folder.path().join("done")).unwrap();
        let done = |host: &str| Done {
            format: FORMAT,
            fingerprint: Digest::of(b"a"),
            end: DoneEnd::Stopped { at_limit: false, begun: true },
            out: String::new(),
            started_ms: 0,
            secs: 0.0,
            host: host.to_owned(),
            job: String::new(),
            threads: 1,
            gpu: None,
            facts: BTreeMap::new(),
            notes: vec![],
            tools: BTreeMap::new(),
        };
        assert!(wave.write_result(3, 1, &done("n1")).unwrap());
        assert!(!wave.write_result(3, 1, &done("n2")).unwrap());
        assert_eq!(wave.results().into_iter().collect::<Vec<_>>(), ["3.1.json"]);
        assert_eq!(wave.read_result("3.1.json").unwrap().host, "n1");
    }

    #[test]
    fn a_new_attempt_begins_with_the_newest_state() {
        let folder = tempfile::tempdir().unwrap();
        let (exchange, made) = (Exchange::of(folder.path(), "s"), Digest::of(b"a"));
        let local = folder.path().join("local");
        exchange.begin_state(made, 1, &local).unwrap();
        assert!(!exchange.has_progress(made, 1) && exchange.last_state(made) == 0);
        let state = |attempt: u32| exchange.states(made).join(attempt.to_string()).join("state");
        fs::create_dir_all(state(1).parent().unwrap()).unwrap();
        fs::write(state(1), "ten steps").unwrap();
        fs::write(state(1).with_extension("new"), "half a sta").unwrap();
        assert!(exchange.has_progress(made, 1) && exchange.last_state(made) == 1);
        exchange.begin_state(made, 2, &local).unwrap();
        assert_eq!(fs::read_to_string(state(2)).unwrap(), "ten steps");
        assert!(!state(2).with_extension("new").exists());
        assert!(!exchange.has_progress(made, 2), "it was only taken over");
        std::thread::sleep(Duration::from_millis(20));
        fs::write(state(2), "twenty steps").unwrap();
        assert!(exchange.has_progress(made, 2));
        assert_eq!(fs::read_to_string(state(1)).unwrap(), "ten steps");
    }

    #[test]
    fn an_attempt_that_was_given_up_keeps_its_number() {
        let folder = tempfile::tempdir().unwrap();
        let (exchange, made) = (Exchange::of(folder.path(), "s"), Digest::of(b"a"));
        exchange.give_up(made, 3);
        assert_eq!(exchange.last_state(made), 3);
        exchange.begin_state(made, 4, &folder.path().join("local")).unwrap();
        assert!(!exchange.states(made).join("4").exists(), "it is no state");
    }

    #[test]
    fn folders_of_waves_that_were_never_begun_go_when_they_are_old() {
        let folder = tempfile::tempdir().unwrap();
        let exchange = Exchange::of(folder.path(), "s");
        let begun = |name: &str, file: &str, is_old: bool| {
            let wave = exchange.folder_of(name).0;
            fs::create_dir_all(&wave).unwrap();
            fs::write(wave.join(file), b"").unwrap();
            for path in [wave.join(file), wave].iter().filter(|_| is_old) {
                File::open(path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
            }
        };
        begun("killed", "requests", true);
        begun("being-written", "requests", false);
        begun("open", WAVE, true);
        begun("closed", CLOSED, true);
        begun("closed-just-now", CLOSED, false);
        exchange.sweep();
        let left: Vec<String> = names_in(&exchange.waves()).into_iter().collect();
        assert_eq!(left, ["being-written", "closed-just-now", "open"]);
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quoted("a b'c$d"), r"'a b'\''c$d'");
    }
}
