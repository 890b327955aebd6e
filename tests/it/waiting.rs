//! Reasons why a node of a run waits, seen from another process; pictures with states. No libtorch is needed.

use std::fs;
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tests::Project;

/// While the test holds every claim, a run cannot make anything: what it started stays where it is.
#[test]
fn why_says_for_which_slot_and_for_which_node_a_node_of_a_running_run_waits() {
    let project = Project::new();
    assert!(project.sure(&["run", "./tiny.toml:manifest"]).ok);
    let claims = (0..64).map(|number| {
        let path = project.path(&format!(".sure/locks/claims.{number:02x}"));
        let file = fs::File::options().create(true).truncate(false).read(true).write(true).open(path).unwrap();
        fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        file
    });
    let claims: Vec<fs::File> = claims.collect();
    let mut run = project.start(&["run", "./tiny.toml:targets", "--jobs", "1"]);
    let status = project.path(".sure/runs/2/status.json");
    while !status.exists() {
        assert!(run.try_wait().unwrap().is_none(), "the run ended");
        thread::sleep(Duration::from_millis(20));
    }
    let why = |node: &str| project.sure(&["why", &format!("./tiny.toml:{node}")]).out;
    let shards = why("shards");
    let slot = "waits in run 2 for 1 slots of the cpu pool, of which 0 are free; held by shards#";
    assert_eq!(shards.matches(slot).count(), 3, "{shards}");
    assert_eq!(shards.matches("runs in run 2: ").count(), 1, "{shards}");
    let targets = why("targets");
    assert!(targets.contains("targets waits in run 2 for shards#"), "{targets}");
    let json: Value = serde_json::from_str(&project.sure(&["why", "./tiny.toml:targets", "--json"]).out).unwrap();
    assert_eq!((json[0]["now"]["run"].as_u64(), json[0]["node"].as_str()), (Some(2), Some("targets")));

    kill_process(Pid::from_child(&run), Signal::INT).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(130), "stopped while it waits for a claim");
    assert!(!why("targets").contains("waits in run"), "nothing runs any more");
    drop(claims);
    assert!(project.sure(&["run", "./tiny.toml:targets"]).ok, "and nothing is left locked");
}

#[test]
fn a_picture_shows_what_failed_and_folds_a_large_graph_by_stage() {
    let project = Project::new();
    let dot = |more: &[&str]| {
        let answer = project.sure(&[&["graph", "./tiny.toml", "--format", "dot"], more].concat());
        assert!(answer.ok, "{}", answer.err);
        answer.out
    };
    let line = |text: &str, stage: &str| {
        let found: Vec<&str> = text.lines().filter(|line| line.contains(&format!("tooltip=\"{stage}"))).collect();
        assert_eq!(found.len(), 1, "{stage}: {text}");
        found[0].to_owned()
    };
    let fresh = line(&dot(&[]), "shards");
    for take in 0..2 {
        for entry in fs::read_dir(project.path("corpus/yes")).unwrap().flatten().skip(take) {
            fs::write(entry.path(), b"no recording").unwrap();
        }
    }
    assert_eq!(project.sure(&["run", "./tiny.toml:shards", "--keep-going"]).code, Some(1));
    let failed = line(&dot(&[]), "shards");
    assert!(failed != fresh && failed.contains("#b33c3c"), "{fresh}\n{failed}");

    let seeds: Vec<String> = (0..40).map(|seed| seed.to_string()).collect();
    let many = format!("seed={}", seeds.join(","));
    let folded = dot(&["--set", &many]);
    assert!(line(&folded, "train").contains("80 nodes"), "{folded}");
    assert!(!folded.contains("seed = 7"), "{folded}");
    let svg = project.sure(&["graph", "./tiny.toml", "--format", "svg", "--set", &many]).out;
    assert!(svg.contains("80 nodes") && !svg.contains("seed = 7"));
}
