//! Collections, forgetting and sizes.

use std::time::Duration;

use pipeline::run::now_ms;

use super::bed::Bed;
use crate::collect::Forget;

const DAY_MS: i64 = 24 * 3_600_000;
const UNUSED: Duration = Duration::from_secs(90 * 24 * 3600);

fn count(bed: &Bed, folder: &str) -> usize {
    bed.remote.keys().iter().filter(|key| key.starts_with(folder)).count()
}

#[test]
fn traces_go_first_and_their_bytes_a_week_later() {
    let bed = Bed { large: (1 << 20) + 1, ..Bed::new() };
    bed.run("one");
    let cache = bed.cache("one", |_| {});
    let now = now_ms();
    let dry = cache.collect_at(UNUSED, false, now + 100 * DAY_MS).unwrap();
    assert_eq!((dry.traces.count, dry.bytes.count, count(&bed, "t/")), (5, 0, 5), "dry");
    let early = cache.collect_at(UNUSED, true, now + 80 * DAY_MS).unwrap();
    assert_eq!((early.traces.count, early.kept.count), (0, 5));
    let first = cache.collect_at(UNUSED, true, now + 100 * DAY_MS).unwrap();
    assert_eq!((first.traces.count, first.bytes.count, first.later.count), (5, 0, 9));
    assert_eq!([count(&bed, "t/"), count(&bed, "p/"), count(&bed, "f/")], [0, 5, 4]);
    let soon = cache.collect_at(UNUSED, true, now + 106 * DAY_MS).unwrap();
    assert_eq!((soon.bytes.count, soon.later.count), (0, 9));
    let last = cache.collect_at(UNUSED, true, now + 108 * DAY_MS).unwrap();
    assert_eq!((last.bytes.count, last.later.count), (9, 0));
    assert_eq!([count(&bed, "t/"), count(&bed, "p/"), count(&bed, "f/"), count(&bed, "gc/lock")], [0; 4]);
    bed.ledger();
    assert!(bed.run("two").complete);
    assert_eq!(bed.ledger().len(), 5);
}

#[test]
fn what_stays_is_in_the_new_index() {
    let bed = Bed::new();
    bed.run("one");
    let cache = bed.cache("one", |_| {});
    cache.collect_at(UNUSED, true, now_ms()).unwrap();
    cache.collect_at(UNUSED, true, now_ms()).unwrap();
    let index: Vec<String> = bed.remote.keys().into_iter().filter(|key| key.starts_with("i/")).collect();
    assert_eq!(index, ["i/base-00000001"]);
    bed.ledger();
    assert_eq!(bed.run("two").counts.hits, 5);
    assert_eq!(bed.ledger(), [""; 0]);
}

#[test]
fn bytes_without_trace_are_put_again_or_made_again() {
    let bed = Bed::new();
    bed.run("one");
    bed.ledger();
    // A collection that removed bytes under a trace: a miss, and the next upload completes it.
    let pack = bed.remote.keys().into_iter().find(|key| key.starts_with("p/")).unwrap();
    bed.remote.remove(&pack);
    let ended = bed.run("two");
    assert!(ended.complete && ended.counts.hits == 4, "{:?}", ended.counts);
    assert_eq!(bed.ledger().len(), 1);
    assert_eq!(bed.run("three").counts.hits, 5);
}

#[test]
fn results_of_a_writer_can_be_forgotten() {
    let mut bed = Bed::new();
    bed.run("one");
    let ci = bed.key.clone();
    bed.key = crate::key::Key::generate("sick").unwrap().1;
    bed.nodes = 7;
    bed.run("two");
    let cache = bed.cache("one", |_| {});
    let sick = Forget { writer: Some("sick".to_owned()), within: Some(Duration::from_secs(3600)) };
    assert_eq!((cache.forget(&sick, false).unwrap().count, count(&bed, "t/")), (4, 9));
    assert_eq!((cache.forget(&sick, true).unwrap().count, count(&bed, "t/")), (4, 5));
    (bed.key, bed.nodes) = (ci, 4);
    bed.ledger();
    assert_eq!(bed.run("three").counts.hits, 5);
    let usage = cache.usage().unwrap();
    assert_eq!((usage.kinds["traces"].count, usage.kinds["packs"].count), (5, 9));
}

#[test]
fn collections_beside_runs_give_hits_or_misses() {
    let bed = Bed { nodes: 6, ..Bed::new() };
    let good = bed.run("first");
    std::thread::scope(|scope| {
        let (bed, good) = (&bed, &good);
        let collector = scope.spawn(move || {
            let cache = bed.cache("gc", |_| {});
            for round in 0..20 {
                // Far ahead, so that everything is old.
                let _ = cache.collect_at(UNUSED, true, now_ms() + round * 60 * DAY_MS);
            }
        });
        for client in 0..3 {
            scope.spawn(move || {
                for round in 0..8 {
                    let ended = bed.run(&format!("c{client}-{round}"));
                    assert!(ended.complete && ended.artifacts == good.artifacts);
                    assert_eq!(ended.counts.damaged, 0);
                }
            });
        }
        collector.join().unwrap();
    });
}
