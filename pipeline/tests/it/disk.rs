//! Kills, errors and power failures at every change of the disk.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use pipeline::Digest;
use pipeline::store::Store;
use pipeline::store::disk::{Act, Watch};

use crate::harness::{BOOKS, Harness, slow, toy};

/// Result of an undisturbed run.
fn undisturbed() -> BTreeMap<String, Digest> {
    Harness::with_books().run(BOOKS).artifacts
}

/// Everything is made, the same as it would have been, and nothing is left lying about.
#[track_caller]
fn check_complete(harness: &mut Harness, expected: &BTreeMap<String, Digest>, when: &str) {
    let ended = harness.run(BOOKS);
    assert!(ended.summary.complete, "{when}");
    assert_eq!(&ended.artifacts, expected, "{when}");
    harness.close();
    let again = harness.run(BOOKS);
    assert_eq!(again.ran(), "", "{when}");
    assert_eq!(harness.store().verify(true, &|_| {}).unwrap(), [], "{when}");
    harness.close();
    assert_eq!(fs::read_dir(harness.path("store/resume")).unwrap().count(), 0, "{when}");
}

/// Refuses one act, and counts them.
#[derive(Default)]
struct Refusing {
    count: Mutex<usize>,
    refused: Option<usize>,
    code: i32,
}

impl Watch for Refusing {
    fn before(&self, _: &Act) -> io::Result<()> {
        let mut count = self.count.lock().unwrap();
        *count += 1;
        if Some(*count) == self.refused { Err(io::Error::from_raw_os_error(self.code)) } else { Ok(()) }
    }
}

const NO_SPACE: i32 = 28;
const INPUT_OUTPUT: i32 = 5;

#[test]
fn an_error_at_any_write_loses_nothing_that_was_finished() {
    let expected = undisturbed();
    let counting = Arc::new(Refusing::default());
    let mut harness = Harness::with_books();
    harness.watch(counting.clone());
    harness.run(BOOKS);
    harness.close();
    let all = *counting.count.lock().unwrap();
    assert!(all > 40, "{all}");
    for code in [NO_SPACE, INPUT_OUTPUT] {
        for refused in 1..=all {
            let mut harness = Harness::with_books();
            let watch = Arc::new(Refusing { refused: Some(refused), code, ..Refusing::default() });
            // The error ends the opening of the store, a node or the run; whichever, it is told and not a panic.
            if let Ok(store) = Store::open_watched(&harness.path("store"), watch.clone()) {
                harness.use_store(store);
                let _ = harness.try_run(BOOKS, None);
            }
            harness.close();
            let when = format!("error {code} at write {refused} of {all}");
            check_complete(&mut harness, &expected, &when);
        }
    }
}

#[test]
fn a_kill_at_any_write_costs_at_most_what_was_running() {
    let expected = undisturbed();
    let drive = |harness: &Harness, stop_at: Option<usize>| {
        fs::write(harness.path("books.toml"), BOOKS).unwrap();
        let paths = ["books.toml", "store", "books", "ledger"].map(|name| harness.path(name));
        let mut command = Command::new(toy());
        command.arg("drive").args(paths).stdout(Stdio::piped());
        if let Some(act) = stop_at {
            command.env("TOY_STOP_AT", act.to_string());
        }
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let ran: Vec<String> = text.lines().filter_map(|line| line.strip_prefix("ran ")).map(str::to_owned).collect();
        (output.status.success(), ran)
    };
    let mut act = 1;
    loop {
        let mut harness = Harness::with_books();
        let (ended, before) = drive(&harness, Some(act));
        let killed_ledger = harness.ledger();
        let (success, after) = drive(&harness, None);
        assert!(success, "killed before write {act}");
        assert!(after.iter().all(|node| !before.contains(node)), "killed before write {act}: {before:?} {after:?}");
        // Bodies that had begun and were not recorded run again: no more of them than slots.
        let twice = killed_ledger.len() + harness.ledger().len();
        assert!(twice <= 7 + 2, "killed before write {act}: {twice} bodies ran");
        check_complete(&mut harness, &expected, &format!("killed before write {act}"));
        if ended {
            assert!(act > 40, "{act}");
            return;
        }
        act += if slow() { 1 } else { 3 };
    }
}

/// Keeps every act.
#[derive(Default)]
struct Recording(Mutex<Vec<Act>>);

impl Watch for Recording {
    fn before(&self, act: &Act) -> io::Result<()> {
        self.0.lock().unwrap().push(act.clone());
        Ok(())
    }
}

/// State of the disk after a power failure: only what was brought there. Names count as well as contents: a rename is on
/// the disk when the folder it led into was brought there afterwards.
#[derive(Default)]
struct AfterPowerFailure {
    /// Artifacts whose name is there.
    named: HashSet<PathBuf>,
    /// Files and folders whose content is there.
    synced: HashSet<PathBuf>,
    /// Renamed, but perhaps not on the disk.
    renamed: Vec<PathBuf>,
    /// Everything below these was brought there by a call for the whole file system.
    whole: HashSet<PathBuf>,
}

impl AfterPowerFailure {
    fn take(&mut self, act: &Act) {
        match act {
            Act::Rename { to, .. } => self.renamed.push(to.clone()),
            Act::Sync(path) => {
                self.synced.insert(path.clone());
                let (there, not) = self.renamed.drain(..).partition(|to| to.parent() == Some(path));
                self.renamed = not;
                self.named.extend::<Vec<PathBuf>>(there);
            }
            Act::SyncAll(_) => {
                self.whole.extend(self.renamed.iter().cloned());
                self.named.extend(self.renamed.drain(..));
            }
            _ => {}
        }
    }

    /// True if an artifact would exist with all its bytes.
    fn holds(&self, artifact: &Path) -> bool {
        let synced = |path: &Path| self.synced.contains(path);
        self.named.contains(artifact)
            && (self.whole.contains(artifact) || everything_in(artifact).iter().all(|path| synced(path)))
    }
}

/// A folder and all files and folders in it.
fn everything_in(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    let mut next = 0;
    while let Some(at) = found.get(next).cloned() {
        next += 1;
        if at.is_dir() {
            found.extend(fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found
}

#[test]
fn nothing_is_settled_before_all_its_bytes_are_on_the_disk() {
    let recording = Arc::new(Recording::default());
    let mut harness = Harness::with_books();
    harness.watch(recording.clone());
    harness.run(BOOKS);
    harness.write("book0.txt", "some other words");
    let small = "[workflow]\nname = \"small\"\n[stages.one]\nrun = \"toy.text\"\ntext = \"one\"\n";
    harness.run(small); // few enough to be brought to the disk file by file
    harness.run(BOOKS);
    let acts = std::mem::take(&mut *recording.0.lock().unwrap());
    let mut disk = AfterPowerFailure::default();
    let mut settled = 0;
    for act in &acts {
        disk.take(act);
        if let Act::MarkDurable(artifacts) = act {
            for artifact in artifacts {
                assert!(disk.holds(artifact), "{} is settled too early", artifact.display());
                settled += 1;
            }
        }
    }
    assert!(settled >= 10, "{settled}");
    let recorded: Vec<&PathBuf> =
        acts.iter().filter_map(|act| if let Act::Record(path) = act { Some(path) } else { None }).collect();
    assert!(recorded.len() >= 10 && recorded.len() <= settled, "{} recorded, {settled} settled", recorded.len());
    assert!(acts.iter().any(|act| matches!(act, Act::SyncAll(_))) && acts.iter().any(|act| matches!(act, Act::Sync(_))));
}

/// Makes all traces look as if they were written before the machine started, and not known to be on the disk.
fn power_failure(harness: &Harness) {
    let db = rusqlite::Connection::open(harness.path("store/traces.db")).unwrap();
    db.execute("UPDATE trace SET boot = 0", []).unwrap();
}

#[test]
fn after_a_power_failure_what_is_whole_is_kept_and_what_is_torn_runs_again() {
    let mut harness = Harness::with_books();
    let first = harness.run(BOOKS);
    let path = |harness: &mut Harness, node: &str| harness.store().path(first.artifacts[node]);
    let (torn, empty, gone) = (path(&mut harness, "count#1"), path(&mut harness, "names"), path(&mut harness, "count#2"));
    harness.close();
    power_failure(&harness);
    harness.unlock();
    for file in [torn.join("count.txt"), empty.join("text.txt")] {
        let bytes = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    }
    fs::remove_dir_all(gone).unwrap();
    let again = harness.run(BOOKS);
    assert_eq!(again.ran(), "count#1 count#2 names");
    assert_eq!(again.artifacts, first.artifacts);
    harness.close();
    assert_eq!(harness.run(BOOKS).ran(), "");
    assert_eq!(harness.store().verify(true, &|_| {}).unwrap(), []);
}

/// Cuts the log of the database, where the last commits are, at every byte of its last records.
#[test]
fn state_cut_at_any_byte_of_its_last_records_starts_and_makes_the_same() {
    let mut harness = Harness::with_books();
    let first = harness.run(BOOKS);
    harness.close();
    let store = harness.path("store");
    let log = store.join("traces.db-wal");
    let (bytes, database) = (fs::read(&log).unwrap(), fs::read(store.join("traces.db")).unwrap());
    let frame = 4096 + 24;
    assert!(bytes.len() > 6 * frame, "{}", bytes.len());
    let mut made: HashMap<String, usize> = HashMap::new();
    for length in (bytes.len() - 3 * frame..bytes.len()).step_by(if slow() { 1 } else { 61 }) {
        fs::write(store.join("traces.db"), &database).unwrap();
        fs::write(&log, &bytes[..length]).unwrap();
        let _ = fs::remove_file(store.join("traces.db-shm"));
        let again = harness.run(BOOKS);
        assert_eq!(again.artifacts, first.artifacts, "cut at {length}");
        *made.entry(again.ran()).or_default() += 1;
        harness.close();
    }
    // The last records are of the last nodes and of the run itself: the others are never made again.
    assert!(made.keys().all(|ran| ran.split_whitespace().count() <= 2), "{made:?}");
}
