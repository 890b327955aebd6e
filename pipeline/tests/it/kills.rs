//! Drivers that are killed at random moments, and several drivers on one store.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pipeline::Digest;

use crate::harness::{Harness, scratch, slow, toy};

/// Parts, steps in this process and steps in a worker: about a third of a second in all.
const WORK: &str = r#"
[workflow]
name = "work"
[stages.list]
run = "toy.list"
partitions = 4
[stages.count]
run = "toy.count"
each = "list"
inputs.books = "list"
min_length = 1
[stages.sum]
run = "toy.join"
inputs.texts = "count/count.txt"
[stages.here]
run = "toy.steps"
inputs.texts = "sum"
steps = 20
millis = 5
[stages.far]
run = "toy.far"
act = "steps"
inputs.texts = "sum"
[stages.end]
run = "toy.join"
inputs.texts = ["here/text.txt", "far/text.txt"]
"#;

fn furnish() -> Harness {
    let harness = Harness::with_books();
    fs::write(harness.path("work.toml"), WORK).unwrap();
    harness
}

fn drive(harness: &Harness) -> Child {
    let paths = ["work.toml", "store", "books", "ledger"].map(|name| harness.path(name));
    Command::new(toy()).arg("drive").args(paths).stdout(Stdio::piped()).spawn().unwrap()
}

/// Waits for the end; the nodes that it says ran.
#[track_caller]
fn finish(driver: Child) -> (bool, Vec<String>) {
    let output = driver.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("error"), "{text}");
    (output.status.success(), text.lines().filter_map(|line| line.strip_prefix("ran ")).map(str::to_owned).collect())
}

/// Result of an undisturbed run, and its time.
fn undisturbed() -> (BTreeMap<String, Digest>, Duration) {
    let mut harness = furnish();
    let begun = Instant::now();
    assert!(finish(drive(&harness)).0);
    let took = begun.elapsed();
    (harness.run(WORK).artifacts, took)
}

/// Everything is there, and the same as it would have been.
#[track_caller]
fn check_complete(harness: &mut Harness, expected: &BTreeMap<String, Digest>) {
    let ended = harness.run(WORK);
    assert_eq!(ended.ran(), "");
    assert_eq!(&ended.artifacts, expected);
    for artifact in ended.artifacts.values() {
        assert!(harness.store().is_sound(*artifact).unwrap());
    }
    harness.close();
    let left = |folder: &str| fs::read_dir(harness.path("store").join(folder)).unwrap().count();
    assert_eq!(left("resume"), 0);
    assert!(scratch(&harness.path("store")).is_empty(), "what killed runs left is swept");
}

#[test]
fn killed_drivers_lose_nothing_that_was_finished() {
    let (expected, took) = undisturbed();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / f64::from(1_u32 << 31)
    };
    for _ in 0..if slow() { 70 } else { 4 } {
        let mut harness = furnish();
        let mut done: Vec<String> = vec![];
        for kill in 0..4 {
            let mut driver = drive(&harness);
            if kill < 3 {
                std::thread::sleep(took.mul_f64(random() * 0.9)); // a killer has no other clock than time
                driver.kill().unwrap();
            }
            let (success, ran) = finish(driver);
            assert!(kill < 3 || success);
            assert!(ran.iter().all(|node| !done.contains(node)), "{ran:?} ran again after {done:?}");
            done.extend(ran);
        }
        check_complete(&mut harness, &expected);
    }
}

#[test]
fn several_drivers_make_each_fingerprint_once() {
    let (expected, _) = undisturbed();
    for count in [2, 8] {
        let mut harness = furnish();
        let drivers: Vec<Child> = (0..count).map(|_| drive(&harness)).collect();
        let ended: Vec<(bool, Vec<String>)> = drivers.into_iter().map(finish).collect();
        assert!(ended.iter().all(|(success, _)| *success));
        let expected_ledger = ["count#0", "count#1", "count#2", "count#3", "far ", "join", "join", "list", "steps"];
        assert_eq!(harness.ledger(), expected_ledger);
        let mut ran: Vec<&String> = ended.iter().flat_map(|(_, ran)| ran).collect();
        ran.sort();
        assert_eq!(ran, ["count#0", "count#1", "count#2", "count#3", "end", "far", "here", "list", "sum"]);
        check_complete(&mut harness, &expected);
    }
}

#[test]
fn scratch_of_a_living_process_is_spared() {
    let mut harness = furnish();
    let attempt = harness.store().attempt().unwrap();
    let dead = harness.path("store/scratch/4194999");
    fs::create_dir(&dead).unwrap();
    fs::write(dead.join("lock"), "").unwrap();
    assert!(finish(drive(&harness)).0);
    assert!(attempt.is_dir());
    assert!(!Path::new(&dead).exists());
}
