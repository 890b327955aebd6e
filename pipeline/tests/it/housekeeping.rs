//! Disk usage, garbage collection and damage.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use pipeline::Digest;
use pipeline::event::{Event, Outcome};
use pipeline::records::ResultId;
use pipeline::store::Store;
use pipeline::store::gc::{Keep, Removable};

use crate::harness::{BOOKS, Ended, Harness};
use crate::stages::part_of;

/// Keeps what the last run ended with, and nothing because of its age.
fn last_run() -> Keep {
    Keep { last_runs: 1, ..Keep::default() }
}

fn nodes(victims: &[Removable]) -> Vec<String> {
    let mut names: Vec<String> =
        victims.iter().map(|victim| victim.node.clone().unwrap_or_default().replace("books:", "")).collect();
    names.sort();
    names
}

/// Overwrites a file of a node's artifact, which is read-only, by force.
fn spoil(harness: &mut Harness, ended: &Ended, node: &str, file: &str) {
    let path = harness.store().path(ended.artifacts[node]).join(file);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&path, "spoilt").unwrap();
}

#[test]
fn what_a_later_run_left_behind_goes_and_the_rest_is_reused() {
    let mut harness = Harness::with_books();
    let first = harness.run(BOOKS);
    let book = fs::read_dir(harness.path("books")).unwrap().next().unwrap().unwrap().path();
    let original = fs::read(&book).unwrap();
    fs::write(&book, "other words").unwrap();
    let second = harness.run(BOOKS);
    harness.close(); // a living process keeps what it has made
    let victims = harness.store().collectable(&last_run()).unwrap();
    let changed: Vec<&String> =
        first.artifacts.iter().filter(|(node, old)| second.artifacts[*node] != **old).map(|(node, _)| node).collect();
    assert!(!changed.is_empty());
    assert!(changed.iter().all(|node| nodes(&victims).contains(node)), "{victims:?} {changed:?}");

    let before = harness.store().usage().unwrap().artifacts;
    let freed = harness.store().collect(&victims, 1).unwrap();
    let after = harness.store().usage().unwrap().artifacts;
    assert_eq!((freed.count, before.bytes - freed.bytes), (victims.len(), after.bytes));
    assert_eq!(harness.run(BOOKS).ran(), "");

    // Back to the first state: what was collected runs again and gives the same.
    fs::write(&book, original).unwrap();
    assert_eq!(harness.run(BOOKS).artifacts, first.artifacts);
}

#[test]
fn collected_artifacts_come_back_when_they_are_wanted_again() {
    let mut harness = Harness::with_books().set("min", &["1"]);
    let text =
        BOOKS.replace("min_length = 1", "min_length = \"{min}\"").replace("[stages.list]", "[settings]\nmin = 1\n[stages.list]");
    let first = harness.run(&text);
    let mut harness = harness.set("min", &["40"]);
    harness.run(&text);
    harness.close();
    let victims = harness.store().collectable(&last_run()).unwrap();
    assert!(nodes(&victims).iter().any(|node| node.starts_with("sum")), "{victims:?}");
    harness.store().collect(&victims, 1).unwrap();
    let mut harness = harness.set("min", &["1"]);
    let again = harness.run(&text);
    assert!(again.summary.complete);
    assert_eq!(again.artifacts, first.artifacts);
    assert!(again.artifacts.values().all(|artifact| harness.store().is_sound(*artifact).unwrap()));
}

#[test]
fn age_size_last_runs_and_wishes_each_keep_what_they_name() {
    let mut harness = Harness::with_books();
    harness.run(BOOKS);
    let sum = harness.store().latest("books:sum").unwrap().unwrap().0;
    harness.close();
    let store = harness.store();
    let none = |keep: &Keep| store.collectable(keep).unwrap().len();
    let all = none(&Keep::default());
    assert!(all >= 7, "{all}");
    assert_eq!(none(&last_run()), 0);
    assert_eq!(none(&Keep { younger_than: Duration::from_secs(60), ..Keep::default() }), 0);
    assert_eq!(none(&Keep { max_bytes: Some(1 << 30), ..Keep::default() }), 0);
    let wanted: HashSet<ResultId> = [sum].into();
    assert_eq!(none(&Keep { wanted, ..Keep::default() }), all - 1);
    let total = store.usage().unwrap().artifacts.bytes;
    let some = store.collectable(&Keep { max_bytes: Some(total / 2), ..Keep::default() }).unwrap();
    let freed: u64 = some.iter().map(|victim| victim.bytes).sum();
    assert!(total - freed <= total / 2, "{total} {freed}");
    let last = some.last().map_or(0, |victim| victim.bytes);
    assert!(total - freed + last > total / 2, "no more than needed goes");
}

#[test]
fn what_a_living_process_uses_stays() {
    let mut harness = Harness::with_books();
    let ended = harness.run(BOOKS);
    harness.close();
    let other = Store::open(&harness.path("store")).unwrap();
    other.hold(ended.artifacts.values().copied()).unwrap();
    assert!(
        harness
            .store()
            .collectable(&Keep::default())
            .unwrap()
            .iter()
            .all(|victim| !ended.artifacts.values().any(|a| *a == victim.artifact))
    );
    drop(other);
    assert!(harness.store().collectable(&Keep::default()).unwrap().len() >= ended.artifacts.len() - 1);
}

#[test]
fn verify_names_every_damage_and_the_producers_run_again() {
    let mut harness = Harness::with_books();
    let first = harness.run(BOOKS);
    spoil(&mut harness, &first, "sum", "text.txt");
    harness.unlock();
    fs::remove_file(harness.store().path(first.artifacts["count#1"]).join("count.txt")).unwrap();
    fs::write(harness.store().path(first.artifacts["names"]).join("extra"), "x").unwrap();
    harness.close();
    let found = harness.store().verify(true, &|_| {}).unwrap();
    let told: Vec<String> =
        found.iter().map(|damage| format!("{} {}", damage.node.as_deref().unwrap_or(""), damage.what)).collect();
    assert_eq!(told, ["books:count#1 `count.txt` is missing", "books:names `extra` was added", "books:sum `text.txt` differs"]);
    assert_eq!(harness.store().verify(false, &|_| {}).unwrap().len(), 3, "looking changes nothing");
    assert_eq!(harness.store().verify(false, &|_| {}).unwrap(), []);
    let again = harness.run(BOOKS);
    assert_eq!(again.ran(), "count#1 names sum");
    assert_eq!(again.artifacts, first.artifacts);
}

#[test]
fn damage_is_noticed_on_use() {
    let mut harness = Harness::with_books();
    let first = harness.run(BOOKS);
    spoil(&mut harness, &first, "sum", "text.txt");
    let (sum, names): (Digest, Digest) = (first.artifacts["sum"], first.artifacts["names"]);
    harness.close();
    assert!(harness.store().usable(names, None).unwrap());
    assert!(!harness.store().usable(sum, None).unwrap());
    assert!(!harness.store().has(sum));
    assert_eq!(fs::read_dir(harness.path("store/aside")).unwrap().count(), 1);
}

/// Of an artifact with so many files only those of the part that a node reads are looked at before each use.
#[test]
fn damage_to_a_part_of_a_large_artifact_in_the_middle_of_a_run_is_noticed_by_the_node_that_reads_it() {
    let text = BOOKS.replace("partitions = 4", "partitions = 100").replace("min_length = 1", "min_length = \"{min}\"");
    let text = text.replace("[stages.list]", "[settings]\nmin = 1\n[stages.list]");
    let mut undisturbed = Harness::with_books().set("min", &["2"]);
    let expected = undisturbed.run(&text);
    let mut harness = Harness::with_books();
    harness.cpu = 1;
    let first = harness.run(&text);
    let mut harness = harness.set("min", &["2"]);
    let books = fs::read_dir(harness.path("books")).unwrap().map(|book| book.unwrap().file_name().into_string().unwrap());
    let last = books.map(|book| part_of(&book, 100)).max().unwrap();
    let path = harness.store().path(first.artifacts["list"]).join(format!("parts/{last:05}/books.txt"));
    assert_ne!(fs::read(&path).unwrap(), b"");
    let spoilt = std::sync::atomic::AtomicBool::new(false);
    let again = harness.run_with(&text, move |event| {
        let done = matches!(event, Event::NodeFinished { node, .. } if node == "count#0");
        if done && !spoilt.swap(true, std::sync::atomic::Ordering::SeqCst) {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            fs::write(&path, "").unwrap(); // no books: a count of 0 would be recorded
        }
    });
    assert!(again.summary.complete && again.nodes("ran").contains(&"list".to_owned()), "{}", again.ran());
    assert_eq!(again.artifacts, expected.artifacts);
    assert_eq!(fs::read_dir(harness.path("store/aside")).unwrap().count(), 1);
    assert_eq!(harness.store().verify(true, &|_| {}).unwrap(), []);
}

#[test]
fn touched_artifacts_are_read_once_and_stay() {
    let mut harness = Harness::with_books();
    let first = harness.run(BOOKS);
    let path = harness.store().path(first.artifacts["sum"]).join("text.txt");
    let text = fs::read(&path).unwrap();
    harness.unlock();
    fs::remove_file(&path).unwrap();
    fs::write(&path, text).unwrap(); // another file with the same content, as a copy of the store would have
    harness.close();
    assert!(harness.store().usable(first.artifacts["sum"], None).unwrap());
    harness.close();
    assert!(harness.store().usable(first.artifacts["sum"], None).unwrap());
}

#[test]
fn usage_counts_everything() {
    let mut harness = Harness::with_books();
    let ended = harness.run(BOOKS);
    let usage = harness.store().usage().unwrap();
    let distinct: HashSet<Digest> = ended.artifacts.values().copied().collect();
    assert_eq!(usage.artifacts.count, distinct.len() + 1, "and the list of what the source saw");
    assert_eq!(usage.unknown.count, 0, "the list counts as made by the source: {:?}", usage.stages);
    assert_eq!(usage.stages["books:count"].count, 4);
    assert!(usage.others["traces.db"].bytes > 0);
}

#[test]
fn a_final_result_that_was_emptied_or_edited_is_not_up_to_date() {
    let mut harness = Harness::with_books();
    let first = harness.run(BOOKS);
    let path = harness.store().path(first.artifacts["sum"]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o555, "a folder that nothing is removed from");
    let (books, sum) = (harness.store().path(first.artifacts["count#1"]).join("about"), path.join("text.txt"));
    assert_eq!(fs::metadata(books).unwrap().permissions().mode() & 0o777, 0o555);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(&sum).unwrap();
    harness.close();
    harness.use_store(Store::view(&harness.path("store")).unwrap());
    assert!(harness.plan(BOOKS).contains("run sum"), "a plan says so, and moves nothing");
    assert!(path.is_dir());
    harness.close();
    assert_eq!(harness.run(BOOKS).ran(), "sum");
    spoil(&mut harness, &first, "sum", "text.txt");
    harness.close();
    let again = harness.run(BOOKS);
    assert_eq!((again.ran().as_str(), again.artifacts), ("sum", first.artifacts));
}

#[test]
fn runs_count_in_each_project_and_linked_artifacts_stay() {
    let mut harness = Harness::with_books();
    harness.options.project = Some("/one".to_owned());
    let one = harness.run(BOOKS);
    harness.options.project = Some("/two".to_owned());
    let two = harness.run(&BOOKS.replace("min_length = 1", "min_length = 30"));
    assert_ne!(one.artifacts["sum"], two.artifacts["sum"]);
    harness.close();
    assert_eq!(harness.store().collectable(&last_run()).unwrap(), [], "the last run of either project counts");
    harness.options.project = Some("/one".to_owned());
    harness.run(&BOOKS.replace("min_length = 1", "min_length = 40"));
    harness.close();
    let gone = |harness: &mut Harness| {
        harness.store().collectable(&last_run()).unwrap().iter().any(|r| r.artifact == one.artifacts["sum"])
    };
    assert!(gone(&mut harness));
    let results = harness.path("results");
    fs::create_dir_all(results.join("books")).unwrap();
    std::os::unix::fs::symlink(harness.store().path(one.artifacts["sum"]), results.join("books/sum")).unwrap();
    harness.store().keep_linked(&results).unwrap();
    assert!(!gone(&mut harness));
    fs::remove_file(results.join("books/sum")).unwrap();
    assert!(gone(&mut harness));
}

#[test]
fn a_forced_node_that_gives_other_bytes_is_reported() {
    let text = "[workflow]\nname = \"w\"\n[stages.t]\nrun = \"toy.trouble\"\nhow = \"flaky\"\ninputs.texts = \"a\"\nlimits = { retries = 2 }\n\
                [stages.a]\nrun = \"toy.text\"\ntext = \"a\"\n";
    let mut harness = Harness::new();
    harness.options.timeouts.pause = Duration::from_millis(1);
    fs::create_dir(harness.path("mood")).unwrap();
    fs::write(harness.path("mood/calm"), "").unwrap();
    let first = harness.run(text);
    fs::remove_file(harness.path("mood/calm")).unwrap();
    let workflow = harness.workflow(text);
    harness.options.forced = workflow.find("t").into_iter().collect();
    let again = harness.run(text);
    assert_eq!(again.artifacts, first.artifacts, "the first result counts");
    let told = again.events.iter().find_map(|event| match event {
        Event::NodeFinished { outcome: Outcome::Ran { path, dropped: Some(dropped) }, .. } => Some((path, dropped)),
        _ => None,
    });
    let (path, dropped) = told.expect("the other bytes are reported");
    assert!(*path == harness.store().path(first.artifacts["t"]) && dropped != path && dropped.is_dir());
    let steps = harness.store().steps(2).unwrap();
    assert!(
        steps.iter().any(|step| step.message.as_deref().is_some_and(|text| text.starts_with("gave other bytes"))),
        "{steps:?}"
    );
}

#[test]
fn a_store_of_a_group_can_be_written_by_the_group() {
    let mut harness = Harness::with_books();
    fs::create_dir(harness.path("store")).unwrap();
    fs::set_permissions(harness.path("store"), fs::Permissions::from_mode(0o775)).unwrap();
    harness.run(BOOKS);
    let mode = |name: &str| fs::metadata(harness.path("store").join(name)).unwrap().permissions().mode();
    for name in ["objects", "locks/opening", "locks", "records.log", "traces.db", "stat", "logs/1"] {
        assert_eq!(mode(name) & 0o060, 0o060, "{name}: {:o}", mode(name));
    }
}
