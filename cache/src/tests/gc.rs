//! Collections, forgetting and sizes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pipeline::run::now_ms;

use super::bed::Bed;
use crate::collect::Forget;
use crate::key::Key;
use crate::trace::tests::result;

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

/// Objects of results that no run asks for: as many traces and packs.
fn strangers(bed: &Bed, count: usize) -> Vec<(String, Vec<u8>)> {
    let key = Key::parse(&bed.key).unwrap();
    let objects = |number: usize| {
        let (fingerprint, result) = result(&number.to_string(), &[("x", &number.to_le_bytes())]);
        let pack = (crate::cache::pack_key(result.artifact), number.to_le_bytes().to_vec());
        [(crate::cache::trace_key(fingerprint), crate::trace::encode(fingerprint, &result, now_ms(), &key)), pack]
    };
    (0..count / 2).flat_map(objects).collect()
}

/// With `RUN_SLOW_TESTS=1` for five minutes beside 100,000 other objects.
#[test]
fn collections_beside_runs_give_hits_or_misses() {
    let is_slow = std::env::var_os("RUN_SLOW_TESTS").is_some_and(|value| value == "1");
    let (others, time) = if is_slow { (100_000, Duration::from_secs(300)) } else { (200, Duration::from_secs(2)) };
    let bed = Bed { nodes: 6, ..Bed::new() };
    let good = bed.run("first");
    let others = strangers(&bed, others);
    let (begun, ended) = (Instant::now(), AtomicUsize::new(0));
    let collections = std::thread::scope(|scope| {
        let (bed, good, ended) = (&bed, &good, &ended);
        let collector = scope.spawn(move || {
            let cache = bed.cache("gc", |_| {});
            let mut rounds = 0;
            while ended.load(Ordering::Relaxed) < 4 {
                bed.remote.write_all(&others);
                // Far ahead, so that everything is old.
                let _ = cache.collect_at(UNUSED, true, now_ms() + rounds % 20 * 60 * DAY_MS);
                rounds += 1;
            }
            rounds
        });
        for client in 0..4 {
            scope.spawn(move || {
                let mut round = 0;
                while begun.elapsed() < time {
                    let store = format!("c{client}-{round}");
                    let run = bed.run(&store);
                    assert!(run.complete && run.artifacts == good.artifacts);
                    assert_eq!(run.counts.damaged, 0);
                    super::bed::remove(&bed.store(&store));
                    round += 1;
                }
                ended.fetch_add(1, Ordering::Relaxed);
            });
        }
        collector.join().unwrap()
    });
    assert!(collections >= 2, "{collections}");
    eprintln!("{collections} collections in {:.0} s", begun.elapsed().as_secs_f64());
}
