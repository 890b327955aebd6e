//! Results travel from one store to another.

use std::collections::HashSet;
use std::sync::Barrier;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pipeline::Stop;
use pipeline::shared::SharedCache;

use super::bed::{Bed, Ended, Fault};
use crate::settings::{Settings, Upload};
use crate::trace::tests::result;

#[test]
fn another_store_gets_everything_and_runs_nothing() {
    let bed = Bed { large: (1 << 20) + 17, ..Bed::new() };
    let first = bed.run("one");
    assert!(first.complete && first.counts.uploaded == 5 && first.counts.waiting == 0, "{:?}", first.counts);
    assert_eq!(bed.ledger().len(), 5);
    let second = bed.run("two");
    assert!(second.complete && second.warnings.is_empty(), "{:?}", second.warnings);
    assert_eq!(bed.ledger(), [""; 0]);
    assert_eq!((second.artifacts, second.counts.hits), (first.artifacts, 5));
    let folders: Vec<String> = bed.remote.keys().iter().map(|key| key.split('/').next().unwrap().to_owned()).collect();
    let count = |folder: &str| folders.iter().filter(|found| *found == folder).count();
    assert_eq!(["t", "p", "f", "i", "sure-cache.json"].map(count), [5, 5, 4, 1, 1]);
    assert_eq!(folders.len(), 16);
}

/// Artifacts of a run that are in the store.
fn here(bed: &Bed, store: &str, ended: &Ended) -> Vec<String> {
    let objects = bed.store(store).join("objects");
    let there = |artifact: &pipeline::Digest| artifact.folder_in(&objects).is_dir();
    ended.artifacts.iter().filter(|(_, artifact)| there(artifact)).map(|(node, _)| node.clone()).collect()
}

#[test]
fn what_nothing_reads_stays_in_the_cache_until_something_does() {
    let mut bed = Bed { large: (1 << 20) + 17, reads_all: false, ..Bed::new() };
    let first = bed.run("one");
    bed.ledger();
    let second = bed.run("two");
    assert_eq!((second.complete, second.counts.hits, &second.artifacts), (true, 1, &first.artifacts));
    assert_eq!(here(&bed, "two", &second), ["all"]);
    let before = bed.remote.requests.load(Ordering::Relaxed);
    let again = bed.run("two");
    assert_eq!((again.complete, again.artifacts), (true, second.artifacts));
    assert_eq!(bed.remote.requests.load(Ordering::Relaxed), before, "nothing is to do");
    bed.nodes = 5;
    let more = bed.run("two");
    assert_eq!((more.complete, more.counts.hits), (true, 4), "the new node reads the four others");
    assert_eq!(bed.ledger(), ["join", "make 4"]);
    assert_eq!(here(&bed, "two", &more).len(), 6);
    // Without the cache, and with one that has lost the bytes, what was left there is made again.
    bed.nodes = 4;
    bed.run("three");
    bed.run("four");
    bed.nodes = 5;
    let keys: Vec<String> = bed.remote.keys().into_iter().filter(|key| key.starts_with(['p', 'f'])).collect();
    for key in &keys {
        bed.remote.remove(key);
    }
    bed.ledger();
    assert!(bed.run_with("three", None).0);
    assert_eq!(bed.ledger(), ["join", "make 0", "make 1", "make 2", "make 3", "make 4"]);
    let lost = bed.run("four");
    assert!(lost.complete && lost.warnings.is_empty(), "{:?}", lost.warnings);
    assert_eq!(bed.ledger(), ["join", "make 0", "make 1", "make 2", "make 3", "make 4"]);
    assert_eq!(here(&bed, "four", &lost).len(), 6);
}

#[test]
fn a_server_that_goes_away_costs_what_was_left_there_and_no_run() {
    for fault in [Fault::Absent, Fault::Hangs, Fault::Denies, Fault::Unavailable] {
        let mut bed = Bed { reads_all: false, ..Bed::new() };
        bed.run("one");
        bed.run("two");
        bed.ledger();
        bed.nodes = 5;
        bed.remote.set(fault);
        let ended = bed.run("two");
        assert!(ended.complete && ended.warnings.len() == 1, "{fault:?}: {:?}", ended.warnings);
        assert_eq!(bed.ledger(), ["join", "make 0", "make 1", "make 2", "make 3", "make 4"], "{fault:?}");
    }
}

#[test]
fn of_nodes_that_read_the_same_one_downloads_it() {
    let bed = Bed { nodes: 1, large: 3 << 20, reads_all: false, ..Bed::new() };
    let first = bed.run("one");
    bed.run("two");
    let cache = std::sync::Arc::new(bed.cache("two", |_| {}));
    let store = pipeline::store::Store::open(&bed.store("two")).unwrap();
    store.lend(std::sync::Arc::clone(&cache) as _);
    let made = first.artifacts.iter().find(|(node, _)| *node != "all").map(|(_, artifact)| *artifact).unwrap();
    assert!(store.is_left(made) && !store.has(made));
    let came = std::thread::scope(|scope| {
        let threads = [0; 4].map(|_| scope.spawn(|| store.bring(made).unwrap() || store.has(made)));
        threads.map(|thread| thread.join().unwrap())
    });
    assert_eq!((came, cache.close(&Stop::default()).hits), ([true; 4], 1));
    assert!(store.is_sound(made).unwrap() && !store.is_left(made));
}

#[test]
fn a_plan_says_what_the_cache_supplies() {
    let mut bed = Bed { large: 4000, reads_all: false, ..Bed::new() };
    bed.run("one");
    bed.nodes = 5;
    let (workflow, store) = (bed.workflow(), pipeline::store::Store::open(&bed.store("two")).unwrap());
    let machine = pipeline::run::Machine {
        shared: Some(std::sync::Arc::new(bed.cache("two", |_| {}))),
        ..pipeline::run::Machine::default()
    };
    let progress = std::sync::Arc::new(pipeline::event::Deaf);
    let runner = pipeline::run::Runner { workflow: &workflow, store: &store, machine: &machine, progress, stop: Stop::default() };
    let supply = runner.supply(&runner.survey().unwrap(), &HashSet::new(), &HashSet::new()).unwrap().unwrap();
    assert_eq!(supply.plan.counts(), (4, 2, 0));
    let bytes: Vec<u64> = supply.nodes.values().copied().collect();
    assert!(bytes.len() == 4 && bytes.iter().all(|bytes| *bytes > 4000), "{bytes:?}");
    assert_eq!(supply.read.len(), 4, "the node that joins them runs");
    assert_eq!(store.usage().unwrap().artifacts.count, 0, "nothing was downloaded");
}

#[test]
fn a_plan_with_nothing_to_do_sends_no_request() {
    let bed = Bed::new();
    bed.run("one");
    let before = bed.remote.requests.load(Ordering::Relaxed);
    assert!(bed.run("one").complete);
    assert_eq!(bed.remote.requests.load(Ordering::Relaxed), before);
}

#[test]
fn only_what_changed_is_made_and_the_rest_comes_from_the_cache() {
    let mut bed = Bed::new();
    bed.run("one");
    bed.ledger();
    bed.nodes = 5;
    let more = bed.run("two");
    assert!(more.complete);
    assert_eq!(bed.ledger(), ["join", "make 4"]);
    assert_eq!(more.counts.hits, 4);
}

#[test]
fn without_permission_or_key_nothing_is_uploaded_and_untrusted_results_do_not_count() {
    let mut bed = Bed::new();
    bed.settings.write = false;
    assert!(bed.run("one").complete);
    assert_eq!(bed.remote.keys(), [""; 0]);
    bed.settings.write = true;
    bed.run("two");
    bed.ledger();
    bed.key = crate::key::Key::generate("other").unwrap().1;
    let other = bed.run("three");
    assert!(other.complete && other.counts.untrusted == 5 && other.counts.hits == 0, "{:?}", other.counts);
    assert_eq!(bed.ledger().len(), 5);
    assert_eq!((other.counts.uploaded, other.counts.blocked), (0, 5), "the first traces stay, and that is said");
}

#[test]
fn cheap_results_and_recordings_stay_here() {
    let mut bed = Bed::new();
    bed.settings.upload = Upload::Dear;
    bed.run("one");
    assert_eq!(bed.remote.keys(), [""; 0]);
    bed.settings.upload = Upload::All;
    bed.holds_recordings = |manifest| manifest.0["stage"] == "toy.make";
    bed.run("two");
    let traces = |bed: &Bed| bed.remote.keys().iter().filter(|key| key.starts_with("t/")).count();
    assert_eq!(traces(&bed), 1);
    bed.settings.recordings = true;
    bed.run("three");
    assert_eq!(traces(&bed), 5);
}

#[test]
fn dear_results_travel() {
    let bed = Bed { settings: Settings { write: true, ..Settings::of("s3://test") }, ..Bed::new() };
    let cache = bed.cache("one", |_| {});
    let (fingerprint, mut shared) = result("a", &[("x", b"1")]);
    let folder = shared.artifact.folder_in(&bed.store("one").join("objects"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("x"), b"1").unwrap();
    shared.provenance.secs = 9.0;
    cache.offer(pipeline::shared::Offer { fingerprint, result: shared.clone() });
    assert_eq!(cache.close(&Stop::default()).uploaded, 0);
    shared.provenance.secs = 11.0;
    cache.offer(pipeline::shared::Offer { fingerprint, result: shared });
    assert_eq!(cache.close(&Stop::default()).uploaded, 1);
}

#[test]
fn what_cannot_be_read_is_told_and_what_cannot_be_noted_is_uploaded() {
    let bed = Bed::new();
    let (fingerprint, shared) = result("a", &[("x", b"1")]);
    let offer = || pipeline::shared::Offer { fingerprint, result: shared.clone() };
    let cache = bed.cache("one", |_| {});
    assert!(cache.offer_anyway(offer()));
    let counts = cache.close(&Stop::default());
    assert_eq!((counts.uploaded, counts.failed, counts.waiting), (0, 1, 0), "its files are gone");
    let folder = shared.artifact.folder_in(&bed.store("one").join("objects"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("x"), b"1").unwrap();
    // As on a full disk: nothing can be added to the results that wait.
    let cache = bed.cache("one", |_| {});
    let outbox = std::fs::read_dir(bed.store("one").join("cache")).unwrap().next().unwrap().unwrap().path().join("outbox");
    std::fs::remove_dir(&outbox).unwrap();
    std::fs::write(&outbox, b"").unwrap();
    assert!(cache.offer_anyway(offer()));
    let counts = cache.close(&Stop::default());
    assert_eq!((counts.uploaded, counts.failed), (1, 0));
}

#[test]
fn uploads_that_failed_wait_for_a_later_run() {
    let bed = Bed::new();
    bed.remote.set(Fault::Absent);
    let first = bed.run("one");
    assert!(first.complete && first.counts.waiting == 5 && first.warnings.len() == 1, "{:?}", first.warnings);
    bed.remote.set(Fault::None);
    let pushed = bed.cache("one", |_| {}).push(&Stop::default(), |_| {});
    assert_eq!((pushed.uploaded, pushed.waiting), (5, 0));
    bed.ledger();
    assert_eq!(bed.run("two").counts.hits, 5);
    assert_eq!(bed.ledger(), [""; 0]);
}

#[test]
fn two_stores_at_once_share_the_work() {
    let mut bed = Bed { nodes: 49, ms: 60, cpu: 4, ..Bed::new() };
    bed.timing.dear = 0.0;
    // Expected durations come from an earlier run: other seeds of the same stage.
    for store in ["one", "two"] {
        let other =
            Bed { nodes: 1, ms: 61, settings: Settings::of("s3://other"), dir: tempfile::tempdir().unwrap(), ..Bed::new() };
        other.run("x");
        copy(&other.store("x"), &bed.store(store));
    }
    let barrier = Barrier::new(2);
    let [one, two] = std::thread::scope(|scope| {
        ["one", "two"]
            .map(|store| {
                let (bed, barrier) = (&bed, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    bed.run(store)
                })
            })
            .map(|thread| thread.join().unwrap())
    });
    assert!(one.complete && two.complete);
    assert_eq!(one.artifacts, two.artifacts);
    let mut made = bed.ledger();
    let all = made.len();
    made.dedup();
    let twice = all - made.len();
    assert!(made.len() == 50 && twice <= 2, "{twice} nodes were made twice");
    assert!(bed.remote.keys().iter().all(|key| !key.starts_with("c/")), "leases end: {:?}", bed.remote.keys());
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let copied = std::process::Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

#[test]
fn a_lease_ends_with_its_holder_and_a_dead_one_is_taken_over() {
    let mut bed = Bed::new();
    bed.timing.dear = 1.0;
    let (one, two) = (bed.cache("one", |_| {}), bed.cache("two", |_| {}));
    let fingerprint = pipeline::Digest::of(b"x");
    let claim = |cache: &crate::Cache| cache.claim(fingerprint, Some(100.0));
    assert!(matches!(one.claim(fingerprint, Some(0.5)), pipeline::shared::Claim::Free), "not worth it");
    let held = claim(&one);
    assert!(matches!(held, pipeline::shared::Claim::Mine(_)));
    assert!(matches!(claim(&two), pipeline::shared::Claim::Elsewhere));
    std::thread::sleep(Duration::from_secs(2)); // longer than an unrenewed lease lives
    assert!(matches!(claim(&two), pipeline::shared::Claim::Elsewhere), "it is renewed");
    drop(held);
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while !matches!(claim(&two), pipeline::shared::Claim::Mine(_)) {
        assert!(std::time::Instant::now() < deadline, "it ends with its holder");
    }
    bed.remote.write(&format!("c/{fingerprint}"), b"left by a machine that is gone".to_vec());
    let three = bed.cache("three", |_| {});
    assert!(matches!(claim(&three), pipeline::shared::Claim::Elsewhere));
    std::thread::sleep(Duration::from_millis(1700));
    assert!(matches!(claim(&three), pipeline::shared::Claim::Mine(_)), "nobody renewed it");
}

#[test]
fn a_server_that_ignores_conditions_gets_no_leases_and_loses_nothing() {
    let mut bed = Bed::new();
    bed.timing.dear = 0.0;
    bed.remote.ignores_conditions.store(true, Ordering::Relaxed);
    let cache = bed.cache("one", |_| {});
    assert!(matches!(cache.claim(pipeline::Digest::of(b"x"), Some(1.0)), pipeline::shared::Claim::Free));
    let found = cache.check();
    let conditions = found.iter().find(|finding| finding.what == "conditions").unwrap();
    assert!(!conditions.good && conditions.text.starts_with("ignored"), "{conditions:?}");
    bed.run("one");
    bed.ledger();
    assert_eq!(bed.run("two").counts.hits, 5);
    assert_eq!(bed.ledger(), [""; 0]);
}

#[test]
fn a_limit_of_speed_slows_downloads() {
    let mut bed = Bed { large: 1 << 21, nodes: 3, ..Bed::new() };
    bed.run("one");
    bed.settings.down_limit = Some(4 << 20);
    let begun = std::time::Instant::now();
    assert_eq!(bed.run("two").counts.hits, 4);
    // The first file goes at once, the third one waits for two.
    assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());
}

#[test]
fn the_first_result_stays_and_another_one_is_told() {
    let bed = Bed { nodes: 1, ..Bed::new() };
    bed.run("one");
    let traces: Vec<String> = bed.remote.keys().into_iter().filter(|key| key.starts_with("t/")).collect();
    let before: Vec<Vec<u8>> = traces.iter().map(|key| bed.remote.read(key)).collect();
    // The same manifest with other files, as of a stage that does not repeat.
    let cache = bed.cache("two", |_| {});
    let fingerprint = pipeline::Digest::parse(traces[0].rsplit('/').next().unwrap()).unwrap();
    let manifest = crate::trace::read(&before[0], fingerprint).unwrap().result.manifest;
    let (_, other) = result("other", &[("x", b"other")]);
    let folder = other.artifact.folder_in(&bed.store("two").join("objects"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("x"), b"other").unwrap();
    let shared = pipeline::shared::SharedResult { manifest, ..other };
    assert!(cache.offer_anyway(pipeline::shared::Offer { fingerprint, result: shared }));
    assert_eq!(cache.close(&Stop::default()).different, 1);
    assert_eq!(bed.remote.read(&traces[0]), before[0]);
}
