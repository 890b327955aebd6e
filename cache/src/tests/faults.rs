//! Faults of the server and of its objects: none is accepted, and no run fails.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::bed::{Bed, Fault, noise};
use crate::index::{self, Entry, Index};

#[test]
fn a_server_that_does_not_serve_costs_a_second_and_one_warning() {
    for fault in [Fault::Absent, Fault::Hangs, Fault::Denies, Fault::Unavailable] {
        let bed = Bed::new();
        bed.run("full");
        let alone = std::time::Instant::now();
        bed.run_with("alone", None);
        let alone = alone.elapsed();
        bed.ledger();
        bed.remote.set(fault);
        let ended = bed.run("one");
        assert!(ended.complete && ended.warnings.len() == 1, "{fault:?}: {:?}", ended.warnings);
        assert_eq!(bed.ledger().len(), 5, "{fault:?}");
        assert!(ended.time < alone + Duration::from_millis(1300), "{fault:?}: {:?} and {alone:?}", ended.time);
    }
}

#[test]
fn a_server_that_refuses_to_write_is_read() {
    let bed = Bed::new();
    bed.run("one");
    bed.ledger();
    bed.remote.set(Fault::DeniesWrites);
    let bed = Bed { nodes: 5, ..bed };
    let ended = bed.run("two");
    assert!(ended.complete && ended.warnings.len() == 1, "{:?}", ended.warnings);
    assert_eq!((bed.ledger(), ended.counts.hits), (vec!["join".to_owned(), "make 4".to_owned()], 4));
}

#[test]
fn a_cut_at_any_write_leaves_no_trace_without_bytes() {
    for writes in 0..14 {
        let bed = Bed { nodes: 2, large: (1 << 20) + 1, ..Bed::new() };
        *bed.remote.writes_left.lock().unwrap() = Some(writes);
        assert!(bed.run("one").complete);
        *bed.remote.writes_left.lock().unwrap() = None;
        let traces = bed.remote.keys().iter().filter(|key| key.starts_with("t/")).count();
        bed.ledger();
        let ended = bed.run("two");
        assert!(ended.complete && ended.counts.damaged == 0, "{writes}: {:?}", ended.counts);
        // What has a trace and is in the index is taken; nothing that is taken is incomplete.
        assert!(ended.counts.hits <= traces, "{writes}");
        assert_eq!(bed.ledger().len(), 3 - ended.counts.hits, "{writes}");
    }
}

/// Flips a bit of an object, or cuts it.
fn damage(bytes: &[u8], step: usize) -> Vec<u8> {
    let random = noise(step as u32, 16);
    let at = usize::from_le_bytes(random[..8].try_into().unwrap()) % bytes.len();
    let mut damaged = bytes.to_vec();
    if step % 4 == 3 {
        damaged.truncate(at);
    } else {
        damaged[at] ^= 1 << (random[9] % 8);
    }
    damaged
}

#[test]
fn damaged_objects_are_never_accepted_and_are_put_again() {
    let bed = Bed { nodes: 2, large: (1 << 20) + 5, ..Bed::new() };
    let good = bed.run("one");
    bed.ledger();
    let keys: Vec<String> = bed.remote.keys().into_iter().filter(|key| key.starts_with(['t', 'p', 'f'])).collect();
    for (step, key) in keys.iter().chain(&keys).chain(&keys).chain(&keys).enumerate() {
        let bytes = bed.remote.read(key);
        bed.remote.write(key, damage(&bytes, step));
        let store = format!("s{step}");
        let ended = bed.run(&store);
        assert!(ended.complete, "{key}");
        assert_eq!(ended.artifacts, good.artifacts, "{key}");
        if ended.counts.damaged > 0 {
            assert_eq!(bed.ledger().len(), 1, "{key}");
        }
        // What this run made again has replaced the damaged object.
        let again = bed.run(&format!("again{step}"));
        assert_eq!((again.counts.hits, again.counts.damaged), (3, 0), "{key} is put again");
        bed.ledger();
        bed.remote.write(key, bytes);
    }
}

#[test]
fn a_damaged_index_costs_results_and_nothing_else() {
    let bed = Bed::new();
    bed.run("one");
    bed.ledger();
    let key = bed.remote.keys().into_iter().find(|key| key.starts_with("i/")).unwrap();
    let bytes = bed.remote.read(&key);
    for step in 0..20 {
        bed.remote.write(&key, damage(&bytes, step));
        assert!(bed.run(&format!("s{step}")).complete);
        bed.remote.keys().iter().filter(|key| key.starts_with("i/")).for_each(|key| bed.remote.remove(key));
        bed.remote.write(&key, bytes.clone());
    }
}

#[test]
fn a_cache_of_a_newer_format_is_left_alone() {
    let bed = Bed::new();
    bed.run("one");
    bed.remote.write("sure-cache.json", br#"{"format":2,"id":"x"}"#.to_vec());
    let ended = bed.run("two");
    assert!(ended.complete && ended.warnings.len() == 1 && ended.warnings[0].contains("format 2"), "{:?}", ended.warnings);
    assert!(bed.cache("two", |_| {}).collect(Duration::ZERO, true).unwrap_err().to_string().contains("format 2"));
}

#[test]
fn a_hundred_thousand_keys_take_few_requests() {
    let bed = Bed::new();
    bed.run("one");
    let mut index = Index::default();
    for number in 0..100_000_u32 {
        let digest = pipeline::Digest::of(&number.to_le_bytes());
        index.add(index::name(digest), Entry { artifact: [0; 8], size_class: 10, has_tools: false, day: 5 });
    }
    bed.remote.write("i/base-00000000", index.to_bytes());
    *bed.remote.round_trip.lock().unwrap() = Duration::from_millis(50);
    let before = bed.remote.requests.load(Ordering::Relaxed);
    let cache = bed.cache("two", |_| {});
    let others: Vec<_> = (200_000..300_000_u32).map(|number| pipeline::Digest::of(&number.to_le_bytes())).collect();
    let begun = std::time::Instant::now();
    let found = pipeline::shared::SharedCache::find(&cache, &others);
    assert!(found.iter().all(Option::is_none));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(bed.remote.requests.load(Ordering::Relaxed) - before <= 4);
}
