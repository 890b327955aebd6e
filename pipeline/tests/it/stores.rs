//! Stores that are damaged, full, read-only or somewhere else.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use insta::assert_snapshot;
use pipeline::store::{Store, StoreError};

use crate::harness::{BOOKS, Harness, toy};

/// Folds the log of a database into it, so that all pages are in one file.
fn fold(path: &Path) {
    let db = rusqlite::Connection::open(path).unwrap();
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
}

/// The store starts with whatever the database has become, and makes the same again.
#[track_caller]
fn check_damage(name: &str, damage: impl Fn(&mut Vec<u8>)) {
    let mut harness = Harness::with_books();
    let first = harness.run(BOOKS);
    harness.close();
    let path = harness.path("store/traces.db");
    fold(&path);
    let mut bytes = fs::read(&path).unwrap();
    assert!(bytes.len() >= 7 * 4096, "{}", bytes.len());
    damage(&mut bytes);
    fs::write(&path, bytes).unwrap();
    let again = harness.run(BOOKS);
    assert!(again.summary.complete, "{name}");
    assert_eq!(again.artifacts, first.artifacts, "{name}");
    harness.close();
    harness.run(BOOKS); // damage that shows only at the very end of a run costs one more
    harness.close();
    assert_eq!(harness.run(BOOKS).ran(), "", "{name}: healed");
}

#[test]
fn truncated_database_starts_at_any_length() {
    for length in [0, 1, 15, 16, 99, 100, 101, 1000, 4096, 5000, 3 * 4096, 6 * 4096, 6 * 4096 + 1] {
        check_damage(&format!("cut at {length}"), |bytes| bytes.truncate(length));
    }
    check_damage("cut by one byte", |bytes| _ = bytes.pop());
}

#[test]
fn garbage_in_the_database_is_set_aside() {
    check_damage("all garbage", |bytes| bytes.fill(0xA5));
    check_damage("text", |bytes| *bytes = b"this is no database".repeat(100));
    check_damage("header", |bytes| bytes[..16].fill(0));
    for page in 1..7 {
        check_damage(&format!("page {page}"), |bytes| bytes[page * 4096..(page + 1) * 4096].fill(0xA5));
    }
    check_damage("all but the schema", |bytes| bytes[4096..].fill(0xA5));
}

#[test]
fn damaged_log_of_the_database_costs_at_most_running_again() {
    let mut harness = Harness::with_books();
    let first = harness.run(BOOKS);
    harness.close();
    let log = harness.path("store/traces.db-wal");
    let bytes = fs::read(&log).unwrap();
    let cut = |length: usize| bytes[..bytes.len().min(length)].to_vec();
    let spoilt = |from: usize| [&bytes[..from], &vec![0xA5; bytes.len() - from]].concat();
    for damaged in [cut(0), cut(1), cut(31), cut(5000), cut(bytes.len() - 1), spoilt(0), spoilt(32), spoilt(9000)] {
        fs::write(&log, damaged).unwrap();
        let again = harness.run(BOOKS);
        assert_eq!(again.artifacts, first.artifacts);
        harness.close();
    }
}

#[test]
fn opening_tells_where_a_damaged_database_went() {
    let mut harness = Harness::new();
    harness.store();
    harness.close();
    let path = harness.path("store/traces.db");
    fold(&path);
    fs::write(path, "this is no database. ".repeat(50)).unwrap();
    let notices = harness.store().notices();
    let aside = harness.path("store/traces.damaged1").canonicalize().unwrap();
    assert!(notices.len() == 1 && notices[0].contains(&*aside.to_string_lossy()), "{notices:?}");
}

#[test]
fn file_where_the_store_should_be() {
    let harness = Harness::new();
    fs::write(harness.path("store"), "a file").unwrap();
    let Err(error) = Store::open(&harness.path("store")) else { panic!("a file is no store") };
    assert!(
        matches!(&error, StoreError::Io { action: "create", path, .. } if *path == harness.path("store/objects")),
        "{error:?}"
    );
}

#[test]
fn keys_and_artifacts_are_the_same_at_another_place() {
    let made = || {
        let mut harness = Harness::with_books();
        let ended = harness.run(BOOKS);
        let keys = ["books:list", "books:count#2", "books:sum"];
        let keys = keys.map(|node| harness.store().latest(node).unwrap().unwrap().0);
        let keys = keys.map(|trace| harness.store().result(trace).unwrap().unwrap().manifest.fingerprint());
        (ended.artifacts, keys)
    };
    assert_eq!(made(), made());
}

#[test]
fn changed_artifact_is_found_out() {
    let mut harness = Harness::with_books();
    let ended = harness.run(BOOKS);
    let sum = ended.artifacts["sum"];
    assert!(harness.store().is_sound(sum).unwrap());
    let file = harness.store().path(sum).join("text.txt");
    harness.unlock();
    fs::remove_file(&file).unwrap();
    fs::write(&file, "forged").unwrap();
    assert!(!harness.store().is_sound(sum).unwrap());
}

/// Runs a script in which it may mount what it likes, unless this machine forbids that.
fn with_mounts(test: &str, script: &str, harness: &Harness) -> Option<Output> {
    let allowed = Command::new("unshare").args(["-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED {test}: this machine lets nobody mount a file system");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", script]).env("TOY", toy()).env("H", harness.dir.path());
    Some(command.output().unwrap())
}

fn show(output: &Output, harness: &Harness) -> String {
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    text.replace(&*harness.dir.path().to_string_lossy(), "HOUSE")
}

#[test]
fn read_only_store_says_so() {
    let mut harness = Harness::with_books();
    harness.run(BOOKS);
    harness.close();
    fs::write(harness.path("books.toml"), BOOKS).unwrap();
    let script = "mount --bind $H/store $H/store && mount -o remount,ro,bind $H/store && \
                  $TOY drive $H/books.toml $H/store $H/books $H/ledger; echo exit $?";
    let Some(output) = with_mounts("read_only_store_says_so", script, &harness) else { return };
    assert_snapshot!(show(&output, &harness), @r"
    error: cannot lock `HOUSE/store/locks/opening`
    cause: Read-only file system (os error 30)
    exit 2
    ");
}

#[test]
fn full_disk_fails_the_node_and_keeps_what_was_finished() {
    let harness = Harness::with_books();
    let big = "[stages.big]\nrun = \"toy.trouble\"\nhow = \"fill\"\ninputs.texts = \"sum\"\n";
    fs::write(harness.path("books.toml"), BOOKS).unwrap();
    fs::write(harness.path("big.toml"), format!("{BOOKS}{big}")).unwrap();
    fs::create_dir(harness.path("store")).unwrap();
    let script = "mount -t tmpfs -o size=4m tmpfs $H/store && cd $H/store && \
                  $TOY drive $H/big.toml $H/store $H/books $H/ledger | sort; \
                  echo again; $TOY drive $H/books.toml $H/store $H/books $H/ledger; echo exit $?; \
                  head -c 8m /dev/zero > filler 2> /dev/null; echo full; rm $H/books/book1.txt; \
                  $TOY drive $H/books.toml $H/store $H/books $H/ledger > $H/full.txt; echo exit $?; \
                  rm filler; echo free; $TOY drive $H/books.toml $H/store $H/books $H/ledger | sort";
    let Some(output) = with_mounts("full_disk_fails_the_node_and_keeps_what_was_finished", script, &harness) else { return };
    assert_snapshot!(show(&output, &harness), @r"
    failed big
    ran count#0
    ran count#1
    ran count#2
    ran count#3
    ran list
    ran names
    ran sum
    again
    exit 0
    full
    exit 2
    free
    ran count#3
    ran list
    ran names
    ran sum
    ");
    let full = fs::read_to_string(harness.path("full.txt")).unwrap();
    assert!(full.contains("No space left on device") || full.contains("full") || full.contains("failed"), "{full}");
}

#[test]
fn a_full_disk_ends_the_run_at_the_first_sign_and_the_run_is_recorded_as_failed() {
    let harness = Harness::with_books();
    let big = "[stages.big]\nrun = \"toy.trouble\"\nhow = \"fill\"\ninputs.texts = \"names\"\nlimits = { retries = 5 }\n";
    fs::write(harness.path("big.toml"), format!("{BOOKS}{big}")).unwrap();
    fs::create_dir(harness.path("store")).unwrap();
    let script = "mount -t tmpfs -o size=4m tmpfs $H/store && cd $H/store && \
                  $TOY drive $H/big.toml $H/store $H/books $H/ledger > $H/full.txt; \
                  grep -o '\"outcome\":\"[a-z]*\"' records.log; grep -c trouble $H/ledger";
    let test = "a_full_disk_ends_the_run_at_the_first_sign_and_the_run_is_recorded_as_failed";
    let Some(output) = with_mounts(test, script, &harness) else { return };
    assert_snapshot!(show(&output, &harness), @r#"
    "outcome":"failed"
    1
    "#);
}

#[test]
fn every_run_that_began_is_recorded_to_its_end_whatever_room_is_left() {
    let harness = Harness::with_books();
    fs::write(harness.path("books.toml"), BOOKS).unwrap();
    fs::create_dir(harness.path("store")).unwrap();
    let script = "mount -t tmpfs -o size=4m tmpfs $H/store && cd $H/store && \
                  drive() { $TOY drive $H/books.toml $H/store $H/books $H/ledger > $H/said.txt 2>&1; }; \
                  for room in 8 16 24 32 40 48 56 64 96 128; do \
                  drive; head -c 8m /dev/zero > filler 2> /dev/null; truncate -s -${room}K filler; \
                  echo $room > $H/books/book1.txt; drive; rm filler; done; \
                  count() { grep -c \"$1\" records.log; }; \
                  [ $(count ' {\"run\":') = $(count ' {\"ended\":') ] && echo every run has an end; \
                  [ $(count '\"outcome\":\"failed\"') -gt 0 ] && echo some failed";
    let test = "every_run_that_began_is_recorded_to_its_end_whatever_room_is_left";
    let Some(output) = with_mounts(test, script, &harness) else { return };
    assert_snapshot!(show(&output, &harness), @r"
    every run has an end
    some failed
    ");
}
