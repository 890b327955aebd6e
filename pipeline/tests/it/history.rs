//! Records of earlier runs, and expected times.

use std::time::{Duration, Instant};

use insta::assert_snapshot;
use pipeline::compare::compare;
use pipeline::event::{Event, Outcome};
use pipeline::explain::{Explanation, Fate, explain_past};
use pipeline::run::Runner;
use pipeline::{Stop, event::Deaf};

use crate::harness::{BOOKS, Harness, book_of};

/// In one line: node, state, what differs, which files, and the same of its causes.
fn told(explanation: &Explanation) -> String {
    let state = match &explanation.fate {
        Fate::InRun { run, state, .. } => format!(" {state} in {run}"),
        _ => String::new(),
    };
    let value = |value: &Option<String>| value.as_deref().filter(|value| value.len() < 20).unwrap_or("..").to_owned();
    let changes =
        explanation.changes.iter().map(|change| format!(" {} {}->{}", change.field, value(&change.old), value(&change.new)));
    let files = explanation.files.iter().map(|file| format!(" file {}", file.path));
    let causes = explanation.causes.iter().map(|cause| format!(" ({})", told(cause)));
    format!("{}{state}:{}", explanation.node, changes.chain(files).chain(causes).collect::<String>())
}

#[test]
fn earlier_runs_are_explained_by_the_runs_before_them() {
    let mut harness = Harness::with_books();
    let longer = BOOKS.replace("min_length = 1", "min_length = 3");
    harness.run(BOOKS);
    harness.run(&longer);
    harness.write(&book_of(2, 1), "another text");
    harness.run(&longer);
    harness.run(BOOKS);
    let workflow = harness.workflow(BOOKS);
    let mut lines = vec![];
    for (run, node) in
        [(1, "count#2"), (2, "count#2"), (3, "count#2"), (3, "count#1"), (3, "sum"), (4, "count#2"), (4, "count#1")]
    {
        let row = harness.store().run(run).unwrap().unwrap();
        let explained = explain_past(&workflow, &row, workflow.find(node)[0], harness.store()).unwrap();
        lines.push(told(&explained.unwrap()));
    }
    assert_snapshot!(lines.join("\n").replace(&book_of(2, 1), "BOOK"), @r"
    count#2 ran in 1:
    count#2 ran in 2: param.min_length 1->3
    count#2 ran in 3: input.books ..->.. (list: input.source books ..->.. file BOOK)
    count#1 reused in 3: param.min_length 1->3
    sum ran in 3: input.texts#2 ..->.. (count#2: input.books ..->.. (list: input.source books ..->.. file BOOK))
    count#2 ran in 4: param.min_length 3->1
    count#1 reused in 4: param.min_length 3->1
    ");
    let mut other = Harness::new();
    other.run("[workflow]\nname = \"books\"\n[stages.other]\nrun = \"toy.text\"\ntext = \"x\"\n");
    let row = other.store().run(1).unwrap().unwrap();
    assert_eq!(explain_past(&workflow, &row, workflow.find("sum")[0], other.store()).unwrap(), None);
}

#[test]
fn runs_are_compared_node_by_node() {
    let mut harness = Harness::with_books();
    harness.run(BOOKS);
    harness.write(&book_of(0, 0), "another text");
    harness.run(&BOOKS.replace("[stages.names]", "[stages.titles]"));
    let found = compare(harness.store(), 1, 2).unwrap();
    let causes: Vec<&str> = found.differ.iter().filter(|node| node.is_cause()).map(|node| node.node.as_str()).collect();
    let others: Vec<&str> = found.differ.iter().filter(|node| !node.is_cause()).map(|node| node.node.as_str()).collect();
    assert_eq!((causes, others), (vec!["list"], vec!["count#0", "sum"]));
    assert_eq!(found.differ.iter().find(|node| node.node == "list").unwrap().files[0].path, book_of(0, 0));
    assert_eq!((found.same, found.gone, found.new), (3, vec!["names".to_owned()], vec!["titles".to_owned()]));
    let same = compare(harness.store(), 2, 2).unwrap();
    assert_eq!((same.same, same.differ.len(), same.gone.len(), same.new.len()), (7, 0, 0, 0));
}

#[test]
fn a_run_tells_how_far_it_is() {
    let text = "[workflow]\nname = \"far\"\n[stages.a]\nrun = \"toy.steps\"\nsteps = 40\nmillis = 5\ninputs.texts = \"t\"\n\
        [stages.t]\nrun = \"toy.text\"\ntext = \"x\"\n[stages.b]\nrun = \"toy.join\"\ninputs.texts = \"a\"\n";
    let mut harness = Harness::new();
    harness.options.timeouts.status = Duration::ZERO;
    harness.run(text);
    let other = text.replace("\"x\"", "\"y\"");
    let workflow = harness.workflow(&other);
    let (plan, _) = harness.survey(&workflow);
    let more = harness.workflow(&format!("{other}[stages.c]\nrun = \"toy.join\"\ninputs.texts = \"t\"\n"));
    let (more_plan, _) = harness.survey(&more);
    let machine = harness.machine();
    let runner = Runner {
        workflow: &workflow,
        store: harness.store(),
        machine: &machine,
        progress: std::sync::Arc::new(Deaf),
        stop: Stop::default(),
    };
    assert!(runner.expected_secs(&plan).unwrap().unwrap() >= 0.2, "forty steps of five milliseconds");
    let runner = Runner { workflow: &more, ..runner };
    assert_eq!(runner.expected_secs(&more_plan).unwrap(), None, "`c` never ran, so nobody knows");
    let ended = harness.run(&other);
    let told = ended.events.iter().any(|event| {
        matches!(event, Event::Progress { done: 1, running: 1, to_run: 0, unsure: 1, secs_left: Some(left) } if *left < 5.0)
    });
    assert!(told, "{:?}", ended.events);
}

#[test]
fn a_time_limit_of_the_run_stops_it_and_is_no_failure_of_a_node() {
    let text = "[workflow]\nname = \"late\"\n[stages.t]\nrun = \"toy.text\"\ntext = \"x\"\n[stages.a]\nrun = \"toy.steps\"\n\
        steps = 2000\nmillis = 5\ninputs.texts = \"t\"\nlimits = { time = \"1h\" }\n";
    let mut harness = Harness::new();
    harness.stop = Stop::default().until(Instant::now() + Duration::from_millis(100));
    let ended = harness.run(text);
    assert!(ended.summary.stopped && !ended.summary.complete && ended.summary.failed.is_empty());
    let failed = |event: &Event| matches!(event, Event::NodeFinished { outcome: Outcome::Failed { .. }, .. });
    assert!(!ended.events.iter().any(failed));
}
