//! Stages that run in a worker process, and what becomes of the run when that goes wrong.

use std::fs;
use std::process::Command;
use std::time::Duration;

use insta::assert_snapshot;
use pipeline::Stop;
use pipeline::event::{Event, Outcome};

use crate::house::House;

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
    let mut house = House::new();
    house.options.keep_going = true;
    let ended = house.run(&workflow(act));
    assert_eq!(ended.ran(), "good start");
    assert_eq!((ended.nodes("failed"), ended.nodes("blocked")), (vec!["bad".into()], vec!["end".into()]));
    let (chain, hint, log) = ended.failure("bad");
    assert!(log.is_file(), "{}", log.display());
    format!("{} | {}", chain.join(" <- "), hint.unwrap_or_default())
}

#[test]
fn worker_does_what_a_stage_here_does() {
    let mut house = House::new();
    let ended = house.run(&workflow("write"));
    assert_eq!(house.text(&ended, "end", "text.txt"), "3so fineso over");
    assert_eq!(house.run(&workflow("write")).ran(), "");
    let (fingerprint, _) = house.store().latest("far:bad").unwrap().unwrap();
    let facts = house.store().result(fingerprint).unwrap().unwrap().provenance.facts;
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
    let mut house = House::new();
    let ended = house.run(&workflow("garbage"));
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
    let mut house = House::new();
    let ended = house.run("[workflow]\nname = \"none\"\n[stages.a]\nrun = \"toy.missing\"\n");
    assert_snapshot!(ended.failure("a").0.join(" <- "), @"cannot start `/nonexistent/worker` <- No such file or directory (os error 2)");
}

#[test]
fn killed_worker_fails_its_node_alone() {
    let mut house = House::new();
    house.options.keep_going = true;
    let ended = house.run_with(&workflow("hang"), |event| {
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
    let mut house = House::new();
    let stop = house.stop.clone();
    let ended = house.run_with(&workflow("hang"), move |event| {
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
    let mut house = House::new();
    let stop = house.stop.clone();
    house.run_with(&workflow("steps"), move |event| {
        if matches!(event, Event::Tick { done: 3, .. }) {
            stop.request();
        }
    });
    house.stop = Stop::default();
    let ended = house.run(&workflow("steps"));
    assert!(ended.summary.complete);
    assert!(ended.events.iter().any(|event| matches!(event, Event::Note { line, .. } if line.starts_with("resumed at "))));
}

#[test]
fn worker_program_without_a_request_says_what_is_wrong() {
    let answer = |input: &str| {
        let path = tempfile::NamedTempFile::new().unwrap();
        fs::write(path.path(), input).unwrap();
        let output = Command::new(crate::house::toy()).arg("run").stdin(fs::File::open(path.path()).unwrap()).output().unwrap();
        format!("{} {}", output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap().trim())
    };
    assert_snapshot!(answer(""), @r#"2 {"event":"failed","chain":["no request on standard input"],"hint":null,"transient":false}"#);
    assert_snapshot!(answer("{}\n"), @r#"2 {"event":"failed","chain":["the request is not valid: missing field `kind` at line 1 column 2"],"hint":null,"transient":false}"#);
}

/// Workers that do not end by themselves are killed soon.
fn impatient() -> House {
    let mut house = House::new();
    house.options.keep_going = true;
    house.options.patience.grace = Duration::from_millis(50);
    house
}

#[test]
fn worker_that_ignores_a_stop_is_killed_after_a_while() {
    let mut house = impatient();
    let stop = house.stop.clone();
    let ended = house.run_with(&workflow("ignore"), move |event| {
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
    let mut house = impatient();
    let ended = house.run(&workflow("noise"));
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
    let mut house = impatient();
    house.options.patience.pause = Duration::from_millis(1);
    let text = |retries| workflow("mortal").replace("text = \"over\"", &format!("text = \"over\"\nlimits.retries = {retries}"));
    let ended = house.run(&text(1));
    assert_eq!((ended.nodes("failed"), ended.step("bad").attempts), (vec!["bad".to_owned()], 2));
    let mut house = impatient();
    house.options.patience.pause = Duration::from_millis(1);
    let ended = house.run(&text(2));
    assert!(ended.summary.complete);
    assert_eq!(ended.step("bad").attempts, 3);
}
