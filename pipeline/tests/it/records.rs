//! Results and runs outlive the index: deleted, damaged, outdated, newer and stale ones, and damage of the record log.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use pipeline::Stop;
use pipeline::compare::compare;
use pipeline::event::{Deaf, Event};
use pipeline::explain::{explain, explain_past};
use pipeline::run::Runner;
use pipeline::store::gc::Keep;
use pipeline::store::{Store, StoreError};

use crate::harness::{BOOKS, Harness, book_of};

/// Three runs: the first, one after an edit, and one that finds nothing to do.
fn with_history() -> Harness {
    let mut harness = Harness::with_books();
    harness.run(BOOKS);
    harness.write(&book_of(2, 1), "another text");
    harness.run(BOOKS);
    harness.run(BOOKS);
    harness.close();
    harness
}

/// Everything that commands report from the records.
fn answers(harness: &mut Harness) -> String {
    let workflow = harness.workflow(BOOKS);
    let (plan, _) = harness.survey(&workflow);
    let plan_text = harness.plan(BOOKS);
    let store = harness.store();
    let mut out = vec![plan_text];
    for run in store.runs(100).unwrap() {
        out.push(format!("{run:?}\n{:?}\n{:?}", store.steps(run.id).unwrap(), store.members(run.id).unwrap()));
        for node in &workflow.order {
            out.push(format!("{:?}", explain_past(&workflow, &run, *node, store).unwrap()));
        }
    }
    for node in &workflow.order {
        let latest = store.latest(&workflow.key(&workflow.graph[*node])).unwrap();
        let result = latest.and_then(|(now, _)| store.result(now).unwrap());
        out.push(format!("{latest:?} {result:?} {:?}", explain(&workflow, &plan, *node, store).unwrap()));
    }
    out.push(format!("{:?}", compare(store, 1, 2).unwrap()));
    let mut durations: Vec<_> = store.durations("books").unwrap().into_iter().collect();
    durations.sort_by(|a, b| a.0.cmp(&b.0));
    out.push(format!("{durations:?}"));
    out.join("\n")
}

fn remove_index(harness: &Harness) {
    for name in ["traces.db", "traces.db-wal", "traces.db-shm"] {
        let _ = fs::remove_file(harness.path("store").join(name));
    }
}

fn sql(harness: &Harness, statements: &str) {
    let db = rusqlite::Connection::open(harness.path("store/traces.db")).unwrap();
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    db.execute_batch(statements).unwrap();
}

/// The store as the version before the record log left it.
fn as_before_the_record_log(harness: &Harness) {
    sql(harness, "DROP TABLE log; ALTER TABLE run DROP COLUMN project; PRAGMA user_version = 3");
    for name in ["records.log", "format", "reserve"] {
        fs::remove_file(harness.path("store").join(name)).unwrap();
    }
}

#[test]
fn without_the_index_and_all_that_is_derived_everything_is_as_before() {
    let mut harness = with_history();
    let before = answers(&mut harness);
    harness.close();
    remove_index(&harness);
    for derived in ["stat", "plans"] {
        let _ = fs::remove_dir_all(harness.path("store").join(derived));
    }
    let notices = harness.store().notices();
    assert!(notices.len() == 1 && notices[0].contains("made again from the record log: 10 results, 3 runs"), "{notices:?}");
    assert_eq!(answers(&mut harness), before);
    harness.close();
    assert_eq!(harness.run(BOOKS).ran(), "");
    assert_eq!(harness.store().notices(), Vec::<String>::new(), "once");
    assert_eq!(harness.store().verify(true, &|_| {}).unwrap(), []);
}

#[test]
fn a_store_of_the_version_before_the_record_log_is_migrated() {
    let mut harness = with_history();
    let before = answers(&mut harness);
    harness.close();
    as_before_the_record_log(&harness);
    let old = snapshot(&harness.path("store"));
    let view = Store::view(&harness.path("store")).unwrap();
    let notices = view.notices();
    assert!(notices.len() == 1 && notices[0].contains("older format 3"), "{notices:?}");
    assert_eq!(view.runs(100).unwrap().len(), 3);
    drop(view);
    assert_eq!(snapshot(&harness.path("store")), old, "reading migrates nothing");
    let notices = harness.store().notices();
    assert!(notices.len() == 1 && notices[0].contains("(10 results, 3 runs)"), "{notices:?}");
    assert_eq!(answers(&mut harness), before);
    harness.close();
    assert!(harness.path("store/traces.format31").is_file(), "the old index is kept");
    assert_eq!(harness.run(BOOKS).ran(), "");
    harness.close();
    remove_index(&harness);
    assert_eq!(harness.run(BOOKS).ran(), "");
}

#[test]
fn an_index_of_an_even_older_format_is_made_again_and_reported() {
    let mut harness = with_history();
    let before = answers(&mut harness);
    harness.close();
    sql(&harness, "PRAGMA user_version = 2");
    let view = Store::view(&harness.path("store")).unwrap();
    assert_eq!(view.runs(100).unwrap().len(), 3, "the log is read");
    assert!(view.notices()[0].contains("older format 2"));
    let notices = harness.store().notices();
    assert!(notices.len() == 1 && notices[0].contains("format 2") && notices[0].contains("10 results"), "{notices:?}");
    assert_eq!(answers(&mut harness), before);
    harness.close();
    assert!(harness.path("store/traces.format21").is_file());
}

#[test]
fn a_newer_store_is_refused_whatever_says_so() {
    let check = |change: &dyn Fn(&Harness), part: &str| {
        let harness = with_history();
        change(&harness);
        let before = snapshot(&harness.path("store"));
        for open in [Store::open, Store::view] {
            let Err(error) = open(&harness.path("store")) else { panic!("{part} is newer") };
            assert!(error.hint().unwrap().contains("newer version"), "{error:?}");
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(cause.contains(part), "{cause}");
        }
        assert_eq!(snapshot(&harness.path("store")), before);
    };
    check(&|harness| sql(harness, "PRAGMA user_version = 99"), "index has format 99");
    check(&|harness| fs::write(harness.path("store/format"), "2\n").unwrap(), "folder has format 2");
    check(
        &|harness| {
            let path = harness.path("store/records.log");
            let text = fs::read_to_string(&path).unwrap();
            let (_, rest) = text.split_once('\n').unwrap();
            let json = r#"{"log":{"format":2,"id":"x"}}"#;
            let sum = &pipeline::Digest::of(json.as_bytes()).to_string()[..16];
            fs::write(path, format!("{sum} {json}\n{rest}")).unwrap();
        },
        "record log has format 2",
    );
}

#[test]
fn a_torn_tail_of_the_log_is_cut_and_reported_and_costs_one_result_at_most() {
    let mut harness = Harness::with_books();
    let first = harness.run(BOOKS);
    harness.close();
    let log = harness.path("store/records.log");
    let bytes = fs::read(&log).unwrap();
    let last_results = bytes.windows(10).rposition(|window| window == b" {\"result\"").unwrap();
    for length in (last_results..bytes.len()).step_by(97) {
        fs::write(&log, &bytes[..length]).unwrap();
        remove_index(&harness);
        let is_torn = bytes[length - 1] != b'\n';
        let notices = harness.store().notices();
        assert_eq!(notices.iter().any(|notice| notice.contains("cut off")), is_torn, "{length}: {notices:?}");
        let again = harness.run(BOOKS);
        assert_eq!(again.artifacts, first.artifacts);
        assert!(again.ran().split_whitespace().count() <= 1, "{length}: {}", again.ran());
        harness.close();
        let text = fs::read_to_string(&log).unwrap();
        assert!(text.ends_with('\n') && text.lines().all(|line| line.ends_with('}')), "{length}");
    }
}

#[test]
fn a_damaged_line_of_the_log_is_skipped_and_reported_and_costs_what_it_held() {
    let mut harness = Harness::with_books();
    let first = harness.run(BOOKS);
    harness.close();
    let log = harness.path("store/records.log");
    let good = fs::read_to_string(&log).unwrap();
    let at = good.find("books:count#1").unwrap();
    let mut bytes = good.clone().into_bytes();
    bytes[at] ^= 1;
    fs::write(&log, &bytes).unwrap();
    assert_eq!(harness.run(BOOKS).ran(), "", "the index is whole");
    harness.close();
    remove_index(&harness);
    let notices = harness.store().notices();
    assert!(notices.iter().any(|notice| notice.contains("1 damaged line of the record log is skipped")), "{notices:?}");
    let again = harness.run(BOOKS);
    assert_eq!(again.ran(), "count#1");
    assert_eq!(again.artifacts, first.artifacts);
}

#[test]
fn an_index_behind_the_log_takes_over_the_rest() {
    let mut harness = Harness::with_books();
    harness.run(BOOKS);
    harness.close();
    sql(&harness, "");
    let old = fs::read(harness.path("store/traces.db")).unwrap();
    harness.write(&book_of(2, 1), "another text");
    let second = harness.run(BOOKS);
    harness.close();
    remove_index(&harness);
    fs::write(harness.path("store/traces.db"), old).unwrap(); // as if it was killed before the index was written
    let view = Store::view(&harness.path("store")).unwrap();
    assert_eq!(view.runs(9).unwrap().len(), 2);
    let again = harness.run(BOOKS);
    assert_eq!((again.ran().as_str(), again.artifacts), ("", second.artifacts));
    assert_eq!(harness.store().runs(9).unwrap().len(), 3);
}

#[test]
fn a_lost_or_shortened_log_is_written_again_from_the_index() {
    let mut harness = with_history();
    let before = answers(&mut harness);
    harness.close();
    let log = harness.path("store/records.log");
    for is_lost in [true, false] {
        let whole = fs::read(&log).unwrap();
        fs::remove_file(&log).unwrap();
        if !is_lost {
            fs::write(&log, &whole[..whole.len() / 2]).unwrap();
        }
        let notices = harness.store().notices();
        assert!(notices.len() == 1 && notices[0].contains("written again from the index"), "{notices:?}");
        assert_eq!(answers(&mut harness), before);
        harness.close();
        remove_index(&harness);
        assert_eq!(answers(&mut harness), before, "the new log is whole");
        harness.close();
    }
}

#[test]
fn of_an_index_and_a_log_that_do_not_belong_together_the_one_with_more_results_counts() {
    let mut harness = with_history();
    let before = answers(&mut harness);
    harness.close();
    let mut other = Harness::with_books();
    other.run(BOOKS);
    other.close();
    sql(&other, "");
    let log = harness.path("store/records.log");
    let own = fs::read(&log).unwrap();
    fs::copy(other.path("store/records.log"), &log).unwrap();
    let notices = harness.store().notices();
    assert!(notices.len() == 1 && notices[0].contains("records.damaged1"), "{notices:?}");
    assert_eq!(answers(&mut harness), before);
    harness.close();
    let index = fs::read(other.path("store/traces.db")).unwrap();
    remove_index(&harness);
    fs::write(harness.path("store/traces.db"), index).unwrap();
    fs::write(&log, own).unwrap();
    assert_eq!(answers(&mut harness), before);
}

#[test]
fn two_openings_of_a_store_append_to_one_log() {
    let mut harness = Harness::with_books();
    harness.run(BOOKS);
    let other = Store::open(&harness.path("store")).unwrap();
    let one = harness.store().begin_run("w", "1", None, "here", 1).unwrap();
    let two = other.begin_run("w", "2", Some("/p"), "here", 2).unwrap();
    other.end_run(two, "failed", &[], 3).unwrap();
    harness.store().end_run(one, "done", &[], 4).unwrap();
    assert_eq!((one, two), (2, 3));
    drop(other);
    harness.close();
    remove_index(&harness);
    let runs = harness.store().runs(9).unwrap();
    let shown: Vec<_> = runs.iter().map(|run| (run.id, run.request.as_str(), run.outcome.as_deref())).collect();
    assert_eq!(shown, [(3, "2", Some("failed")), (2, "1", Some("done")), (1, "", Some("done"))]);
    assert_eq!(runs[0].project.as_deref(), Some("/p"));
}

#[test]
fn collecting_keeps_the_log_and_the_index_alike() {
    let mut harness = with_history();
    harness.run(&BOOKS.replace("min_length = 1", "min_length = 3"));
    harness.close();
    let keep = Keep { last_runs: 1, ..Keep::default() };
    let removable = harness.store().collectable(&keep).unwrap();
    assert!(!removable.is_empty());
    harness.store().collect(&removable, 1).unwrap();
    let told = |harness: &mut Harness| {
        let store = harness.store();
        let runs = store.runs(9).unwrap();
        let members: Vec<_> = runs.iter().map(|run| store.members(run.id).unwrap()).collect();
        let latest: Vec<_> = ["list", "sum"].map(|node| store.latest(&format!("books:{node}")).unwrap()).into();
        format!("{runs:?} {members:?} {latest:?}")
    };
    let before = told(&mut harness);
    assert!(before.contains("shortened: true") && before.contains("shortened: false"), "{before}");
    harness.close();
    remove_index(&harness);
    assert_eq!(told(&mut harness), before);
}

/// Paths, sizes and times of everything in a folder.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    let mut found = BTreeMap::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        // SQLite writes its marks of readers there; they are no part of the records.
        if !path.ends_with("traces.db-shm") {
            found.insert(path, (meta.len(), meta.modified().unwrap()));
        }
    }
    found
}

#[test]
fn reading_changes_nothing_and_begins_no_store() {
    let mut harness = with_history();
    let writer_answers = answers(&mut harness);
    harness.close();
    let before = snapshot(&harness.path("store"));
    harness.use_store(Store::view(&harness.path("store")).unwrap());
    assert_eq!(answers(&mut harness), writer_answers);
    harness.write(&book_of(2, 1), "a third text"); // the list of books runs while planning, elsewhere
    assert!(harness.plan(BOOKS).contains("run count#2"), "{}", harness.plan(BOOKS));
    harness.close();
    assert_eq!(snapshot(&harness.path("store")), before);

    let mut harness = Harness::with_books();
    harness.use_store(Store::view(&harness.path("store")).unwrap());
    assert!(harness.plan(BOOKS).contains("run count#2"), "{}", harness.plan(BOOKS));
    assert_eq!(harness.store().runs(9).unwrap(), []);
    harness.close();
    assert!(!harness.path("store").exists());
}

#[test]
fn planning_opens_the_store_for_writing_only_when_a_source_has_changed() {
    let mut harness = with_history();
    harness.let_books_age();
    harness.plan(BOOKS); // and is scanned once more as it is now
    harness.close();
    let path = harness.path("store");
    let (workflow, machine) = (harness.workflow(BOOKS), harness.machine());
    let is_current = |store: &Store| {
        let runner = Runner { workflow: &workflow, store, machine: &machine, progress: Arc::new(Deaf), stop: Stop::default() };
        runner.survey_if_current().unwrap().is_some()
    };
    let before = snapshot(&path);
    assert!(is_current(&Store::view(&path).unwrap()));
    assert_eq!(snapshot(&path), before);
    harness.write(&book_of(2, 1), "a third text");
    harness.let_books_age();
    let view = Store::view(&path).unwrap();
    assert!(!is_current(&view));
    assert_eq!(snapshot(&path), before);
    harness.use_store(view.reopen_for_writing().unwrap());
    let (_, events) = harness.survey(&workflow);
    assert!(
        !events.iter().any(|event| matches!(event, Event::Scanned { read: 1.., .. })),
        "the scan of the view is kept: {events:?}"
    );
    harness.close();
    assert!(is_current(&Store::view(&path).unwrap()), "and so is the list of books");
}

#[test]
fn a_damaged_index_is_left_alone_by_reading_commands() {
    let mut harness = with_history();
    harness.run(BOOKS);
    harness.close();
    sql(&harness, "");
    fs::write(harness.path("store/traces.db"), "this is no database. ".repeat(50)).unwrap();
    let before = snapshot(&harness.path("store"));
    let view = Store::view(&harness.path("store")).unwrap();
    assert!(view.is_view() && view.notices()[0].contains("cannot be read"));
    assert_eq!(view.runs(9).unwrap().len(), 4);
    drop(view);
    assert_eq!(snapshot(&harness.path("store")), before);
    assert_eq!(harness.run(BOOKS).ran(), "", "and nothing is lost");
}

#[test]
fn a_store_that_another_machine_uses_is_refused() {
    let mut harness = with_history();
    let scratch = harness.path("store/scratch/4194998");
    fs::create_dir(&scratch).unwrap();
    fs::write(scratch.join("lock"), "far away\nanother boot\n").unwrap();
    let Err(error) = Store::open(&harness.path("store")) else { panic!("its lock cannot be seen from here") };
    assert!(matches!(&error, StoreError::OtherMachine { machine, .. } if machine == "far away"), "{error:?}");
    assert!(error.hint().unwrap().contains("4194998"));
    assert!(scratch.exists(), "its attempts are spared");
    assert_eq!(Store::view(&harness.path("store")).unwrap().runs(9).unwrap().len(), 3, "reading is safe");
    fs::remove_dir_all(scratch).unwrap();
    assert_eq!(harness.run(BOOKS).ran(), "");
}
