//! Stages that run in a worker process, and what becomes of the run when that goes wrong.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use insta::assert_snapshot;
use pipeline::event::{Event, Outcome};
use pipeline::executor::Detached;
use pipeline::protocol::{FORMAT, InputRefs, Request, Site};
use pipeline::registry::WorkerProgram;
use pipeline::{Silent, StageError, Stop};

use crate::harness::{BOOKS, Harness, toy};

fn workflow(act: &str) -> String {
    format!(
        "[workflow]\nname = \"far\"\n[stages.good]\nrun = \"toy.far\"\nact = \"write\"\ntext = \"fine\"\ninputs.texts = \"start\"\n\
         [stages.start]\nrun = \"toy.text\"\ntext = \"so \"\n\
         [stages.bad]\nrun = \"toy.far\"\nact = \"{act}\"\ntext = \"over\"\ninputs.texts = \"start/text.txt\"\n\
         [stages.end]\nrun = \"toy.join\"\ninputs.texts = [\"good/text.txt\", \"bad/text.txt\"]\n"
    )
}

/// The node fails alone; the error and the log are shown.
#[track_caller]
fn check(act: &str) -> String {
    let mut harness = Harness::new();
    harness.options.keep_going = true;
    let ended = harness.run(&workflow(act));
    assert_eq!(ended.ran(), "good start");
    assert_eq!((ended.nodes("failed"), ended.nodes("blocked")), (vec!["bad".into()], vec!["end".into()]));
    let (chain, hint, log) = ended.failure("bad");
    assert!(log.is_file(), "{}", log.display());
    format!("{} | {}", chain.join(" <- "), hint.unwrap_or_default())
}

#[test]
fn worker_does_what_a_stage_here_does() {
    let mut harness = Harness::new();
    let ended = harness.run(&workflow("write"));
    assert_eq!(harness.text(&ended, "end", "text.txt"), "3so fineso over");
    assert_eq!(harness.run(&workflow("write")).ran(), "");
    let (fingerprint, _) = harness.store().latest("far:bad").unwrap().unwrap();
    let facts = harness.store().result(fingerprint).unwrap().unwrap().provenance.facts;
    assert!(facts.contains_key("pid"));
}

#[test]
fn failure_in_a_worker_keeps_causes_and_hint() {
    assert_snapshot!(check("fail"), @"the ink is dry <- the pot is empty | fill the pot");
}

#[test]
fn panic_in_a_worker_is_a_failure() {
    assert_snapshot!(check("panic"), @"the stage panicked: no ink | this is a bug in the stage, please report it");
}

#[test]
fn worker_that_aborts_fails_its_node_alone() {
    assert_snapshot!(check("abort"), @"the worker ended without a result: signal 6 |");
}

#[test]
fn worker_that_exits_without_a_word_fails_its_node_alone() {
    assert_snapshot!(check("exit"), @"the worker ended without a result: exit code 0 |");
}

#[test]
fn garbage_on_standard_output_is_noted_and_does_no_harm() {
    let mut harness = Harness::new();
    let ended = harness.run(&workflow("garbage"));
    assert!(ended.summary.complete, "{:?}", ended.summary.steps);
    let note = |event: &Event| if let Event::Note { line, .. } = event { Some(line.clone()) } else { None };
    let notes: Vec<String> = ended.events.iter().filter_map(note).collect();
    assert_snapshot!(notes.join("\n"), @r#"
    {"event": "nonsense"}
    plain words
    �� not text
    [1, 2
    "#);
}

#[test]
fn missing_worker_program_is_named() {
    let mut harness = Harness::new();
    let ended = harness.run("[workflow]\nname = \"none\"\n[stages.a]\nrun = \"toy.missing\"\n");
    assert_snapshot!(ended.failure("a").0.join(" <- "), @"cannot start `/nonexistent/worker` <- No such file or directory (os error 2)");
}

#[test]
fn killed_worker_fails_its_node_alone() {
    let mut harness = Harness::new();
    harness.options.keep_going = true;
    let ended = harness.run_with(&workflow("hang"), |event| {
        if let Event::Note { line, .. } = event
            && let Some(pid) = line.strip_prefix("pid ")
        {
            assert!(Command::new("kill").args(["-9", pid]).status().unwrap().success());
        }
    });
    assert_eq!((ended.nodes("failed"), ended.nodes("blocked")), (vec!["bad".into()], vec!["end".into()]));
    assert_snapshot!(ended.failure("bad").0.join(" <- "), @"the worker ended without a result: killed (signal 9), perhaps because memory ran out");
}

#[test]
fn stop_reaches_the_worker() {
    let mut harness = Harness::new();
    let stop = harness.stop.clone();
    let ended = harness.run_with(&workflow("hang"), move |event| {
        if matches!(event, Event::Note { .. }) {
            stop.request();
        }
    });
    assert!(ended.summary.stopped);
    assert!(ended.nodes("failed").is_empty());
    assert!(ended.nodes("stopped").contains(&"bad".to_owned()));
}

#[test]
fn stopped_worker_resumes() {
    let mut harness = Harness::new();
    let stop = harness.stop.clone();
    harness.run_with(&workflow("steps"), move |event| {
        if matches!(event, Event::Tick { done: 3, .. }) {
            stop.request();
        }
    });
    harness.stop = Stop::default();
    let ended = harness.run(&workflow("steps"));
    assert!(ended.summary.complete);
    assert!(ended.events.iter().any(|event| matches!(event, Event::Note { line, .. } if line.starts_with("resumed at "))));
}

#[test]
fn worker_program_without_a_request_says_what_is_wrong() {
    let answer = |input: &str| {
        let path = tempfile::NamedTempFile::new().unwrap();
        fs::write(path.path(), input).unwrap();
        let output = Command::new(toy()).arg("run").stdin(fs::File::open(path.path()).unwrap()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let last = text.lines().last().unwrap();
        assert!(text.starts_with(r#"{"event":"hello","format":1,"program":"toy 1.0","kinds":{"toy.count":1,"#), "{text}");
        format!("{} {last}", output.status.code().unwrap())
    };
    assert_snapshot!(answer(""), @r#"2 {"event":"failed","chain":["no request on standard input"],"hint":null,"transient":false}"#);
    assert_snapshot!(answer("{}\n"), @r#"2 {"event":"failed","chain":["the request is not valid: missing field `format` at line 1 column 2"],"hint":null,"transient":false}"#);
    let old = serde_json::to_string(&Request { version: 7, ..request(Path::new("/")) }).unwrap();
    assert_snapshot!(answer(&old), @r#"2 {"event":"failed","chain":["the worker `toy 1.0` has version 1 of stage kind `toy.text`, and the plan expects version 7"],"hint":"`sure` and its worker must come from one build: build both again, or correct `worker` in sure.toml","transient":false}"#);
}

/// A harness in which every stage runs in a worker process: a script.
fn house_with(script: &str) -> Harness {
    let mut harness = Harness::new();
    let path = harness.path("worker");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    harness.own_worker = Some(path.into());
    harness
}

const ONE_TEXT: &str = "[workflow]\nname = \"one\"\n[stages.a]\nrun = \"toy.text\"\ntext = \"x\"\n";

#[test]
fn worker_of_another_build_stores_nothing() {
    let error = |script: &str| {
        let mut harness = house_with(script);
        let (chain, hint, _) = harness.run(ONE_TEXT).failure("a");
        harness.own_worker = None;
        assert_eq!(harness.run(ONE_TEXT).ran(), "a", "nothing of the wrong worker was kept");
        format!("{} | {}", chain.join(" <- "), hint.unwrap_or_default())
    };
    let hello = |format: u32, version: u32| {
        format!(
            r#"{{"event":"hello","format":{format},"program":"old 0.9","kinds":{{"toy.text":{version}}},"environment":{{}}}}"#
        )
    };
    let says =
        |lines: &[&str]| format!("read request; {}", lines.iter().map(|line| format!("echo '{line}'; ")).collect::<String>());
    let done = r#"{"event":"done"}"#;
    assert_snapshot!(error(&says(&[&hello(1, 0), done])), @"the worker `old 0.9` has version 0 of stage kind `toy.text`, and the plan expects version 1 | `sure` and its worker must come from one build: build both again, or correct `worker` in sure.toml");
    assert_snapshot!(error(&says(&[&hello(2, 1), done])), @"the worker `old 0.9` speaks version 2 of the protocol, and `sure` version 1 | `sure` and its worker must come from one build: build both again, or correct `worker` in sure.toml");
    let unnamed = error(&says(&[done]));
    assert!(unnamed.contains("does not name its stage kinds and their versions: it is of another build"), "{unnamed}");
    assert_snapshot!(error(&says(&[&hello(1, 1), done])), @"the stage reported success, but did not write `text.txt`, which it always writes | this is a bug in the stage or in its worker program");
}

#[test]
fn worker_that_writes_a_part_of_what_its_stage_promises_has_failed() {
    let error = |kind: &str, params: &str, writes: &str| {
        let hello = format!(r#"{{"event":"hello","format":1,"program":"lazy","kinds":{{"{kind}":1}},"environment":{{}}}}"#);
        let find_out = r#"out=$(printf '%s' "$request" | sed 's/.*"out":"\([^"]*\)".*/\1/')"#;
        let script =
            format!("read -r request; {find_out}; cd \"$out\" && {writes}; echo '{hello}'; echo '{{\"event\":\"done\"}}'");
        let mut harness = Harness::with_books();
        let path = harness.path("worker");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        harness.own_worker = Some(path.into());
        harness.options.keep_going = true;
        harness.run(&format!("[workflow]\nname = \"one\"\n[stages.a]\nrun = \"{kind}\"\n{params}\n")).failure("a").0.join(" <- ")
    };
    assert_snapshot!(error("toy.text", "text = \"x\"", "echo x > text.txt"), @"the stage reported success, but did not write `length.txt`, which it always writes");
    assert_snapshot!(error("toy.list", "partitions = 2", "echo x > names.txt; mkdir -p parts/00000"), @"the stage reported success, but did not write `parts/00001`, which it always writes");
}

#[test]
fn worker_of_another_version_is_ended_at_once() {
    let hello = r#"{"event":"hello","format":1,"program":"old 0.9","kinds":{},"environment":{}}"#;
    let begun = Instant::now();
    let ended = house_with(&format!("echo '{hello}'; exec sleep 60")).run(ONE_TEXT);
    assert_snapshot!(ended.failure("a").0.join(" <- "), @"the worker `old 0.9` has no stage kind `toy.text`");
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[test]
fn every_kind_runs_in_a_worker_with_the_same_result() {
    let text = format!("{BOOKS}[stages.far]\nrun = \"toy.far\"\nact = \"write\"\ninputs.texts = \"sum\"\n");
    let here = Harness::with_books().run(&text);
    let mut harness = Harness::with_books();
    harness.own_worker = Some(toy().into());
    let there = harness.run(&text);
    assert!(here.summary.complete && here.artifacts == there.artifacts);
    harness.own_worker = None;
    assert_eq!(harness.run(&text).ran(), "", "where a stage ran is in no fingerprint");
}

fn request(out: &Path) -> Request {
    Request {
        format: FORMAT,
        kind: "toy.text".to_owned(),
        version: 1,
        environment: BTreeMap::new(),
        params: serde_json::json!({"text": "hello"}),
        inputs: InputRefs::default(),
        sources: BTreeMap::new(),
        partition: None,
        site: Site { out: out.to_owned(), resume: out.join("resume"), threads: 1, ..Site::default() },
    }
}

/// Starts a worker with files from a process that ends at once; returns its folder.
fn outlive(harness: &Harness, request: &Request) -> PathBuf {
    let (file, folder) = (harness.path("request.json"), harness.path("detached"));
    fs::create_dir_all(&request.site.out).unwrap();
    fs::write(&file, serde_json::to_vec(request).unwrap()).unwrap();
    let status = Command::new(toy()).arg("detach").args([&file, &folder]).status().unwrap();
    assert!(status.success());
    folder
}

#[test]
fn worker_with_files_outlives_its_client() {
    let harness = Harness::new();
    let out = harness.path("out");
    let folder = outlive(&harness, &request(&out));
    let program = WorkerProgram::from(toy());
    Detached::of(&program, &folder).follow(&Silent, &Stop::default()).unwrap();
    assert_eq!(fs::read_to_string(out.join("text.txt")).unwrap(), "hello");
    Detached::of(&program, &folder).follow(&Silent, &Stop::default()).unwrap(); // its messages stay
}

#[test]
fn worker_with_files_is_stopped_by_a_file_and_its_death_is_noticed() {
    let program = WorkerProgram::from(toy());
    let steps = |harness: &Harness| Request {
        kind: "toy.steps".to_owned(),
        params: serde_json::json!({"steps": 10_000, "millis": 10}),
        ..request(&harness.path("out"))
    };
    let harness = Harness::new();
    let folder = outlive(&harness, &steps(&harness));
    let stop = Stop::default();
    stop.request();
    let ended = Detached::of(&program, &folder).follow(&Silent, &stop);
    assert!(matches!(ended, Err(StageError::Stopped)), "{ended:?}");

    let harness = Harness::new();
    let trouble =
        Request { kind: "toy.far".to_owned(), params: serde_json::json!({"act": "abort"}), ..request(&harness.path("out")) };
    let folder = outlive(&harness, &trouble);
    let ended = Detached::of(&program, &folder).follow(&Silent, &Stop::default());
    assert!(ended.as_ref().is_err_and(StageError::is_transient), "{ended:?}");
}

#[test]
fn control_characters_of_a_worker_do_not_reach_the_terminal() {
    let hello = r#"{"event":"hello","format":1,"program":"x","kinds":{"toy.text":1},"environment":{}}"#;
    let failed = r#"{"event":"failed","chain":["dry \u001b[2Jink"],"hint":"\u0007"}"#;
    let raw = r"raw \033]0;title\007";
    let ended = house_with(&format!("echo '{hello}'; printf '{raw}\\n'; printf '%s\\n' '{failed}'; exit 1")).run(ONE_TEXT);
    let note = |event: &Event| if let Event::Note { line, .. } = event { Some(line.clone()) } else { None };
    assert_eq!(ended.events.iter().find_map(note).as_deref(), Some(r"raw \u{1b}]0;title\u{7}"));
    let (chain, hint, _) = ended.failure("a");
    assert_eq!((chain, hint), (vec![r"dry \u{1b}[2Jink".to_owned()], Some(r"\u{7}".to_owned())));
}

/// Workers that do not end by themselves are killed soon.
fn impatient() -> Harness {
    let mut harness = Harness::new();
    harness.options.keep_going = true;
    harness.options.timeouts.grace = Duration::from_millis(50);
    harness
}

#[test]
fn worker_that_ignores_a_stop_is_killed_after_a_while() {
    let mut harness = impatient();
    let stop = harness.stop.clone();
    let ended = harness.run_with(&workflow("ignore"), move |event| {
        if matches!(event, Event::Note { .. }) {
            stop.request();
        }
    });
    assert!(ended.summary.stopped && ended.nodes("failed").is_empty());
    assert!(ended.nodes("stopped").contains(&"bad".to_owned()));
}

#[test]
fn worker_that_closes_its_output_and_hangs_is_killed() {
    let ended = impatient().run(&workflow("mute"));
    assert_snapshot!(ended.failure("bad").0.join(" <- "), @"the worker ended without a result: it closed its output and then hung, so it was killed");
}

#[test]
fn process_that_a_dead_worker_left_behind_delays_nobody() {
    let ended = impatient().run(&workflow("orphan"));
    assert_snapshot!(ended.failure("bad").0.join(" <- "), @"the worker ended without a result: exit code 7");
}

#[test]
fn much_noise_goes_into_the_log_and_its_end_is_shown() {
    let mut harness = impatient();
    let ended = harness.run(&workflow("noise"));
    let (_, failed) = &ended.summary.failed[0];
    let Outcome::Failed { chain, last_lines, log, .. } = failed else { panic!("{failed:?}") };
    assert_eq!(chain.join(" <- "), "the ink is dry <- so much noise");
    assert!(fs::metadata(log).unwrap().len() > 40 << 20);
    assert!(last_lines.len() <= 10 && last_lines.iter().all(|line| line.len() <= 500));
}

#[test]
fn worker_is_stopped_at_its_time_limit_and_killed_when_it_ignores_that() {
    for act in ["hang", "ignore"] {
        let text = workflow(act).replace("text = \"over\"", "text = \"over\"\nlimits = { time = \"100ms\", retries = 3 }");
        let ended = impatient().run(&text);
        assert_eq!(ended.nodes("failed"), ["bad"]);
        let (chain, hint, _) = ended.failure("bad");
        assert_eq!(chain, ["not done within its time limit of 100ms"]);
        assert!(hint.is_some());
        assert_eq!(ended.step("bad").attempts, 1, "more of the same time would not help");
    }
}

#[test]
fn worker_that_dies_is_tried_again() {
    let mut harness = impatient();
    harness.options.timeouts.pause = Duration::from_millis(1);
    let text = |retries| workflow("mortal").replace("text = \"over\"", &format!("text = \"over\"\nlimits.retries = {retries}"));
    let ended = harness.run(&text(1));
    assert_eq!((ended.nodes("failed"), ended.step("bad").attempts), (vec!["bad".to_owned()], 2));
    let mut harness = impatient();
    harness.options.timeouts.pause = Duration::from_millis(1);
    let ended = harness.run(&text(2));
    assert!(ended.summary.complete);
    assert_eq!(ended.step("bad").attempts, 3);
}
