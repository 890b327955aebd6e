//! Status, timeline and forecast of a run.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pipeline::event::Event;
use pipeline::records::Step;
use pipeline::run::{RunStatus, status, timeline};
use pipeline::schedule::{Pool, Wait};
use pipeline::store::Store;

use crate::harness::Harness;

const BUSY: &str = "[workflow]\nname = \"busy\"\n[stages.hang]\nrun = \"toy.far\"\nact = \"hang\"\ninputs.texts = \"a\"\n\
    [stages.steps]\nrun = \"toy.steps\"\nsteps = 1\nmillis = 1\ninputs.texts = \"a\"\n\
    [stages.end]\nrun = \"toy.join\"\ninputs.texts = [\"hang\", \"steps\"]\n[stages.a]\nrun = \"toy.text\"\ntext = \"x\"\n";

#[test]
fn running_run_tells_what_it_does_and_for_what_the_others_wait() {
    let mut harness = Harness::new();
    harness.options.timeouts.status = Duration::ZERO;
    let (stop, path) = (harness.stop.clone(), harness.path("store"));
    let seen: Arc<Mutex<Option<RunStatus>>> = Arc::default();
    let (keep, begun) = (Arc::clone(&seen), Instant::now());
    harness.run_with(BUSY, move |event| {
        if !matches!(event, Event::Note { .. }) {
            return;
        }
        let store = Store::open(&path).unwrap();
        let is_running = |status: &RunStatus| status.running.iter().any(|running| running.node == "hang");
        while keep.lock().unwrap().is_none() && begun.elapsed() < Duration::from_secs(60) {
            *keep.lock().unwrap() = status(&store).into_iter().find(is_running);
            std::thread::yield_now();
        }
        stop.request();
    });
    let seen = seen.lock().unwrap().take().expect("the run told what it does");
    let workflow = harness.workflow(BUSY);
    let wait = |id: &str| seen.waits(&workflow, workflow.find(id)[0]);
    assert_eq!((seen.run, seen.workflow.as_str(), seen.pid), (1, "busy", std::process::id()));
    assert_eq!((seen.running.len(), seen.num_queued), (1, 1));
    assert!(seen.running[0].started_ms > 0);
    assert_eq!((wait("hang"), wait("a")), (None, None));
    let holders = vec!["hang".to_owned()];
    assert_eq!(wait("steps"), Some(Wait::Slot { pool: Pool::Cpu, wanted: 2, free: 0, holders }));
    assert_eq!(wait("end"), Some(Wait::For { nodes: vec!["hang".into(), "steps".into()] }));
    assert_eq!(status(harness.store()), [], "it has ended");
}

#[test]
fn status_of_a_killed_run_is_known_for_that_and_removed() {
    let mut harness = Harness::new();
    let folder = harness.store().root().join("runs/7");
    std::fs::create_dir_all(&folder).unwrap();
    let text = "{\"run\":7,\"workflow\":\"w\",\"pid\":1,\"running\":[],\"queued\":[],\"num_queued\":0}";
    std::fs::write(folder.join("status.json"), text).unwrap();
    let lock = std::fs::File::create(folder.join("lock")).unwrap();
    lock.try_lock().unwrap();
    assert_eq!(status(harness.store()).len(), 1);
    drop(lock);
    assert_eq!(status(harness.store()), []);
    assert!(!folder.exists());
}

#[test]
fn timeline_has_a_lane_per_slot_and_per_device() {
    let step = |node: &str, started_ms: i64, secs: f64, gpu: Option<u32>| Step {
        node: format!("w:{node}"),
        state: "ran".to_owned(),
        secs,
        why: Some("new".to_owned()),
        started_ms,
        attempts: 1,
        threads: 1,
        gpu,
        ..Step::default()
    };
    let blocked = Step { node: "w:no".to_owned(), state: "blocked".to_owned(), ..Step::default() };
    let two = Step { other_gpus: vec![4], ..step("two", 1200, 3.0, Some(3)) };
    let steps = [
        step("a", 1000, 2.0, None),
        step("b", 1500, 1.0, None),
        step("c", 2600, 0.5, None),
        step("train", 1200, 3.0, Some(3)),
        two,
        blocked,
    ];
    let trace = timeline(&steps);
    let events = trace["traceEvents"].as_array().unwrap();
    let lines: Vec<String> = events
        .iter()
        .map(|event| match event["ph"].as_str() {
            Some("M") => format!("{} {} {}", event["name"], event["tid"], event["args"]["name"]),
            _ => format!("{} pid {} tid {}: {} + {}", event["name"], event["pid"], event["tid"], event["ts"], event["dur"]),
        })
        .map(|line| line.replace('"', ""))
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    thread_name 0 slot 1
    thread_name 1 slot 2
    thread_name 3000 gpu 3
    thread_name 3001 gpu 3, slot 2
    thread_name 4000 gpu 4
    process_name 0 cpu
    process_name 0 gpu
    a pid 0 tid 0: 0 + 2000000
    train pid 1 tid 3000: 200000 + 3000000
    two pid 1 tid 3001: 200000 + 3000000
    two pid 1 tid 4000: 200000 + 3000000
    b pid 0 tid 1: 500000 + 1000000
    c pid 0 tid 1: 1600000 + 500000
    ");
    insta::assert_snapshot!(events.last().unwrap()["args"].to_string(), @r#"{"node":"w:c","outcome":"ran","reason":"new","message":null,"attempts":1,"threads":1}"#);
}

#[test]
fn second_run_knows_how_long_it_takes_and_why_it_runs() {
    let expected = |events: &[Event]| {
        events
            .iter()
            .find_map(|event| if let Event::RunStarted { expected_secs, .. } = event { Some(*expected_secs) } else { None })
    };
    let text = |suffix: &str| {
        format!(
            "[workflow]\nname = \"again\"\n[stages.a]\nrun = \"toy.text\"\ntext = \"x{suffix}\"\n\
             [stages.b]\nrun = \"toy.steps\"\nsteps = 10\nmillis = 1\ninputs.texts = \"a\"\n"
        )
    };
    let mut harness = Harness::new();
    let first = harness.run(&text(""));
    assert_eq!(expected(&first.events), Some(None));
    assert_eq!(first.step("a").why.as_deref(), Some("new"));
    assert!(first.step("a").started_ms > 0 && first.step("a").threads == 1);
    let second = harness.run(&text("y"));
    assert!(expected(&second.events).unwrap().is_some_and(|secs| secs > 0.0));
    assert_eq!(second.step("a").why.as_deref(), Some("changed: param.text"));
    assert_eq!(second.step("b").why.as_deref(), Some("an input changed"));
}
