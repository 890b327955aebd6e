//! Stages that fail, and requests to stop.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Once;
use std::time::Duration;

use insta::assert_snapshot;
use pipeline::Stop;
use pipeline::event::{Event, Outcome};
use pipeline::explain::{Fate, explain};
use pipeline::run::{RunError, Runner};

use crate::harness::{BOOKS, Ended, Harness, book_of, scratch, slow};
use crate::stages::meddle;

/// A good stage, one in trouble, one behind each.
fn workflow(how: &str) -> String {
    format!(
        "[workflow]\nname = \"trouble\"\n[stages.good]\nrun = \"toy.text\"\ntext = \"fine\"\n\
         [stages.bad]\nrun = \"toy.trouble\"\nhow = \"{how}\"\ninputs.texts = \"good\"\n\
         [stages.after_good]\nrun = \"toy.join\"\ninputs.texts = \"good/text.txt\"\n\
         [stages.after_bad]\nrun = \"toy.join\"\ninputs.texts = \"bad/text.txt\"\n\
         [stages.last]\nrun = \"toy.join\"\ninputs.texts = [\"after_bad\", \"after_good\"]\n"
    )
}

/// Runs with trouble, shows the error, then runs again in calm.
#[track_caller]
fn check(how: &str) -> String {
    let mut harness = Harness::new();
    harness.options.keep_going = true;
    let ended = harness.run(&workflow(how));
    assert!(!ended.summary.complete && !ended.summary.stopped);
    assert_eq!(ended.ran(), "after_good good");
    assert_eq!(ended.nodes("failed"), ["bad"]);
    assert_eq!(ended.nodes("blocked"), ["after_bad", "last"]);
    let row = &harness.store().runs(1).unwrap()[0];
    assert_eq!(row.outcome.as_deref(), Some("failed"));
    let (chain, hint, _) = ended.failure("bad");

    let folders = scratch(&harness.path("store"));
    assert_eq!(folders.len(), 1);
    let left = fs::read_dir(&folders[0]).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir());
    assert_eq!(left.count(), 0, "nothing is left of the failed attempt");

    fs::create_dir(harness.path("mood")).unwrap();
    fs::write(harness.path("mood/calm"), "").unwrap();
    assert_eq!(harness.run(&workflow(how)).ran(), "after_bad bad last", "what was finished is served");
    let chain = chain.join(" <- ").replace(&*harness.dir.path().to_string_lossy(), "HOUSE");
    let chain = chain.split("scratch/").map(|piece| piece.trim_start_matches(|c: char| c.is_ascii_digit() || c == '/'));
    format!("{} | {}", chain.collect::<Vec<_>>().join("scratch/"), hint.unwrap_or_default())
}

#[test]
fn failing_stage_tells_causes_and_hint() {
    assert_snapshot!(check("fail"), @"the ink is dry <- the pot is empty | fill the pot");
}

#[test]
fn panic_is_a_failure() {
    assert_snapshot!(check("panic"), @"the stage panicked: no ink in the pot | this is a bug in the stage, please report it");
}

#[test]
fn symlinks_are_refused() {
    assert_snapshot!(check("symlink"), @"`HOUSE/store/scratch/link` is neither a file nor a folder, and artifacts hold nothing else |");
}

#[test]
fn without_keep_going_nothing_new_starts() {
    let mut harness = Harness::new();
    harness.cpu = 1;
    let text = "[workflow]\nname = \"stop\"\n[stages.bad]\nrun = \"toy.trouble\"\nhow = \"fail\"\ninputs.texts = \"first\"\n\
                [stages.behind]\nrun = \"toy.join\"\ninputs.texts = \"bad\"\n\
                [stages.first]\nrun = \"toy.text\"\ntext = \"x\"\n[stages.other]\nrun = \"toy.join\"\ninputs.texts = \"first\"\n";
    let ended = harness.run(text);
    assert_eq!(ended.ran(), "first", "`bad` is more urgent than `other`, because `behind` waits for it");
    assert_eq!((ended.nodes("failed"), ended.nodes("blocked")), (vec!["bad".into()], vec!["behind".into()]));
    assert_eq!(ended.nodes("stopped"), ["other"]);
    assert!(!ended.summary.stopped, "nobody asked for a stop");
}

#[test]
fn missing_part_of_an_artifact_is_named_with_what_there_is() {
    let text = "[workflow]\nname = \"part\"\n[stages.a]\nrun = \"toy.text\"\ntext = \"x\"\n\
                [stages.b]\nrun = \"toy.join\"\ninputs.texts = \"a/txt\"\n";
    let mut harness = Harness::new();
    let first = harness.run(text).failure("b").0.join(" <- ");
    assert_snapshot!(first, @"the artifact has no `txt`; it holds length.txt, text.txt");
    assert_eq!(harness.run(text).failure("b").0.join(" <- "), first);
}

const STEPS: &str = "[workflow]\nname = \"steps\"\n[stages.a]\nrun = \"toy.text\"\ntext = \"x\"\n\
                     [stages.b]\nrun = \"toy.steps\"\ninputs.texts = \"a/text.txt\"\nsteps = 40\nmillis = 3\n\
                     [stages.c]\nrun = \"toy.join\"\ninputs.texts = \"b\"\n";

#[test]
fn stop_ends_cleanly_and_the_next_run_resumes() {
    let mut harness = Harness::new();
    let stop = harness.stop.clone();
    let ended = harness.run_with(STEPS, move |event| {
        if matches!(event, Event::Tick { done: 5, .. }) {
            stop.request();
        }
    });
    assert!(ended.summary.stopped);
    assert_eq!(ended.ran(), "a");
    assert_eq!(ended.nodes("stopped"), ["b", "c"]);
    assert_eq!(harness.store().runs(1).unwrap()[0].outcome.as_deref(), Some("stopped"));
    let kept = || fs::read_dir(harness.path("store/resume")).unwrap().count();
    assert_eq!(kept(), 1, "the place is kept");

    harness.stop = Stop::default();
    let again = harness.run(STEPS);
    let notes: Vec<&str> = again
        .events
        .iter()
        .filter_map(|event| if let Event::Note { line, .. } = event { Some(line.as_str()) } else { None })
        .collect();
    assert!(notes.first().is_some_and(|note| note.starts_with("resumed at ")), "{notes:?}");
    assert_eq!(again.ran(), "b c");
    assert_eq!(fs::read_dir(harness.path("store/resume")).unwrap().count(), 0, "of no more use");

    let mut fresh = Harness::new();
    assert_eq!(fresh.run(STEPS).artifacts, again.artifacts);
}

#[test]
fn stop_before_the_start_runs_nothing() {
    let mut harness = Harness::new();
    harness.stop.request();
    let ended = harness.run(STEPS);
    assert!(ended.summary.stopped && ended.summary.artifacts.is_empty());
    assert_eq!(harness.ledger(), [""; 0]);
}

/// Changes to a book while the list is made, and how the error names each.
const MEDDLING: [(&str, &str); 5] =
    [("edit", "BOOK"), ("add", "BOOK.more.txt"), ("remove", "BOOK"), ("link", "BOOK"), ("edit and take back", "BOOK")];

/// The error of the list, after which the next run makes it again: nothing was kept.
#[track_caller]
fn check_meddling(harness: &mut Harness, ended: &Ended, book: &Path, named: &str) {
    assert_eq!(ended.nodes("failed"), ["list"]);
    let (chain, hint, _) = ended.failure("list");
    let named = named.replace("BOOK.more.txt", &book.with_extension("more.txt").display().to_string());
    let named = named.replace("BOOK", &book.display().to_string());
    assert_eq!(chain, [format!("`{named}` changed while the run used it")]);
    assert_eq!(hint.as_deref(), Some("nothing was recorded; run again when the file has settled"));
    assert_eq!(harness.store().latest("books:list").unwrap(), None);
    harness.places.retain(|place, _| !place.starts_with("meanwhile "));
    harness.ledger();
    assert!(harness.run(BOOKS).summary.complete);
    assert_eq!(harness.ledger().iter().filter(|line| *line == "list").count(), 1);
}

#[test]
fn file_meddled_with_while_a_source_runs_is_noticed_and_nothing_is_recorded() {
    for (way, named) in MEDDLING {
        let mut harness = Harness::with_books();
        let book = harness.path("books").join(book_of(1, 1));
        harness.places.insert(format!("meanwhile {way}"), book.clone());
        let ended = harness.run(BOOKS);
        check_meddling(&mut harness, &ended, &book, named);
    }
}

#[test]
fn file_meddled_with_between_scan_and_start_is_noticed() {
    // A link to the same content, or an edit taken back before the body began, is no change.
    for (way, named) in &MEDDLING[..3] {
        let mut harness = Harness::with_books();
        let book = harness.path("books").join(book_of(1, 1));
        let (once, at) = (Once::new(), book.clone());
        let ended = harness.run_with(BOOKS, move |event| {
            if matches!(event, Event::Scanned { .. }) {
                once.call_once(|| meddle(way, &at));
            }
        });
        check_meddling(&mut harness, &ended, &book, named);
    }
}

#[test]
fn failing_source_is_one_of_the_failed_nodes_of_a_run() {
    let text = format!("{BOOKS}[stages.other]\nrun = \"toy.text\"\ntext = \"x\"\n");
    for keep_going in [false, true] {
        let mut harness = Harness::with_books();
        harness.options.keep_going = keep_going;
        harness.places.insert("meanwhile remove".to_owned(), harness.path("books").join(book_of(1, 1)));
        let ended = harness.run(&text);
        assert_eq!(ended.nodes("failed"), ["list"]);
        assert_eq!(ended.ran(), if keep_going { "other" } else { "" });
        assert_eq!(ended.nodes("blocked").len(), 6);
        let (_, _, log) = ended.failure("list");
        assert_eq!(log, harness.store().root().join(format!("logs/{}/list.log", ended.summary.run)));
        assert_eq!(harness.store().runs(1).unwrap()[0].outcome.as_deref(), Some("failed"));
        assert_eq!(ended.summary.failed.len(), 1);
    }
}

#[test]
fn source_that_cannot_be_scanned_ends_a_run_unless_it_keeps_going() {
    let text = format!("{BOOKS}[stages.other]\nrun = \"toy.text\"\ntext = \"x\"\n");
    let mut harness = Harness::with_books();
    harness.places.remove("books");
    let error = harness.try_run(&text, None).err().unwrap();
    assert_eq!(error.to_string(), "`list` needs `books`, and no folder is set for it");
    assert_eq!(harness.store().runs(1).unwrap()[0].outcome.as_deref(), Some("failed"));
    harness.options.keep_going = true;
    let ended = harness.run(&text);
    assert_eq!((ended.ran().as_str(), ended.nodes("failed")), ("other", vec!["list".to_owned()]));
    assert_eq!(ended.failure("list").0, [error.to_string()]);
}

#[test]
fn source_that_fails_while_planning_blocks_only_what_depends_on_it() {
    let text = format!("{BOOKS}[stages.other]\nrun = \"toy.text\"\ntext = \"x\"\n");
    let blocked = "blocked count#0\nblocked count#1\nblocked count#2\nblocked count#3\nblocked list\nblocked names\nblocked sum";
    let mut harness = Harness::with_books();
    let book = harness.path("books").join(book_of(1, 1));
    harness.places.insert("meanwhile remove".to_owned(), book);
    assert_eq!(harness.plan(&text), format!("{blocked}\nrun other"), "it cannot be brought up to date");
    harness.places.remove("books");
    assert_eq!(harness.plan(&text), format!("{blocked}\nrun other"), "it cannot be looked through");

    let (workflow, machine) = (harness.workflow(&text), harness.machine());
    let progress = std::sync::Arc::new(pipeline::event::Deaf);
    let runner = Runner { workflow: &workflow, store: harness.store(), machine: &machine, progress, stop: Stop::default() };
    let survey = runner.survey().unwrap();
    let plan = runner.plan(&survey, &HashSet::new()).unwrap();
    let sum = explain(&workflow, &plan, workflow.find("sum")[0], runner.store).unwrap();
    assert_eq!(sum.fate, Fate::Blocked { by: "list".to_owned() });
    assert_eq!(survey.complete().unwrap_err().to_string(), "`list` needs `books`, and no folder is set for it");
}

/// Every edit has the size of the text before and follows it within the same tick of many file systems.
#[test]
fn no_edit_while_a_source_runs_escapes_notice() {
    let mut harness = Harness::with_books();
    let book = harness.path("books").join(book_of(1, 1));
    harness.places.insert("meanwhile edit".to_owned(), book.clone());
    for round in 0..if slow() { 1_000 } else { 100 } {
        fs::write(&book, format!("{round:30}")).unwrap();
        assert_eq!(harness.run(BOOKS).nodes("failed"), ["list"], "edit {round}");
        assert_eq!(fs::read(&book).unwrap().len(), 30);
    }
}

#[test]
fn file_edited_after_the_plan_fails_the_node_that_reads_it() {
    let mut harness = Harness::with_books();
    let book = harness.path("books").join(book_of(1, 1));
    harness.options.keep_going = true;
    let edited = book.clone();
    let ended = harness.run_with(BOOKS, move |event| {
        if matches!(event, Event::RunStarted { .. }) {
            fs::write(&edited, "edited").unwrap();
        }
    });
    assert_eq!((ended.nodes("failed"), ended.nodes("blocked")), (vec!["count#1".into()], vec!["sum".into()]));
    assert_eq!(ended.failure("count#1").1.as_deref(), Some("nothing was recorded; run again when the file has settled"));
    assert_eq!(harness.run(BOOKS).ran(), "count#1 sum");
}

#[test]
fn missing_place_and_missing_folder_are_named() {
    let mut harness = Harness::new();
    fs::remove_dir(harness.path("books")).unwrap();
    let error = |harness: &mut Harness| harness.try_run(BOOKS, None).err().unwrap();
    let RunError::Scan { place, source, .. } = error(&mut harness) else { panic!() };
    assert_eq!(place, "books");
    assert_eq!(source.to_string(), format!("no folder `{}`", harness.path("books").display()));
    harness.places.clear();
    assert_eq!(error(&mut harness).to_string(), "`list` needs `books`, and no folder is set for it");
}

#[test]
fn a_closed_store_has_no_scratch_folder() {
    let mut harness = Harness::with_books();
    harness.run(BOOKS);
    harness.close();
    assert!(scratch(&harness.path("store")).is_empty());
}

/// One node in trouble, with limits.
fn limited(how: &str, limits: &str) -> String {
    format!(
        "[workflow]\nname = \"one\"\n[stages.bad]\nrun = \"toy.trouble\"\nhow = \"{how}\"\nlimits = {limits}\ninputs.texts = \"a\"\n[stages.a]\nrun = \"toy.text\"\ntext = \"x\"\n"
    )
}

#[test]
fn failure_that_may_pass_is_tried_again_in_a_fresh_folder() {
    let mut harness = Harness::new();
    harness.options.timeouts.pause = Duration::from_millis(1);
    let ended = harness.run(&limited("flaky", "{ retries = 2 }"));
    assert!(ended.summary.complete);
    let step = ended.step("bad");
    assert_eq!((step.attempts, step.state.as_str()), (3, "ran"));
    let log = fs::read_to_string(step.log.as_ref().unwrap()).unwrap();
    assert_snapshot!(log, @r"
    try 1 found 0 files
    attempt 1 of 3 failed: the ink is dry: the pot is empty; again in 1ms
    attempt 2 of 3
    try 2 found 0 files
    attempt 2 of 3 failed: the ink is dry: the pot is empty; again in 2ms
    attempt 3 of 3
    try 3 found 0 files
    ");
    let (fingerprint, _) = harness.store().latest("one:bad").unwrap().unwrap();
    assert_eq!(harness.store().result(fingerprint).unwrap().unwrap().provenance.facts["attempt"], 3);
    assert_eq!(ended.events.iter().filter(|event| matches!(event, Event::NodeStarted { .. })).count(), 2);
}

#[test]
fn retries_run_out_and_a_verdict_is_not_repeated() {
    let mut harness = Harness::new();
    harness.options.timeouts.pause = Duration::from_millis(1);
    let ended = harness.run(&limited("flaky", "{ retries = 1 }"));
    assert_eq!((ended.nodes("failed"), ended.step("bad").attempts), (vec!["bad".to_owned()], 2));
    let Outcome::Failed { last_lines, .. } = &ended.summary.failed[0].1 else { panic!() };
    assert_eq!(last_lines.last().unwrap(), "try 2 found 0 files");
    for how in ["fail", "panic"] {
        assert_eq!(harness.run(&limited(how, "{ retries = 5 }")).step("bad").attempts, 1);
    }
}

#[test]
fn stop_interrupts_the_pause_between_attempts() {
    let mut harness = Harness::new();
    harness.options.timeouts.pause = Duration::from_secs(3600);
    harness.options.timeouts.longest_pause = Duration::from_secs(3600);
    let stop = harness.stop.clone();
    let ended = harness.run_with(&limited("flaky", "{ retries = 9 }"), move |event| {
        if matches!(event, Event::Note { line, .. } if line.contains("again in")) {
            stop.request();
        }
    });
    assert!(ended.summary.stopped);
    assert_eq!(ended.nodes("stopped"), ["bad"]);
}

#[test]
fn time_limit_ends_a_stage_here() {
    for how in ["slow", "late"] {
        let mut harness = Harness::new();
        let ended = harness.run(&limited(how, "{ time = \"20ms\" }"));
        assert_eq!(ended.failure("bad").0, ["not done within its time limit of 20ms"]);
        assert!(!ended.summary.stopped);
    }
}

#[test]
fn limits_are_no_part_of_a_fingerprint() {
    let mut harness = Harness::new();
    fs::create_dir(harness.path("mood")).unwrap();
    fs::write(harness.path("mood/calm"), "").unwrap();
    harness.run(&limited("fail", "{}"));
    let all = "{ time = \"1h\", retries = 2, memory_mib = 5, threads = 2 }";
    assert_eq!(harness.run(&limited("fail", all)).ran(), "");
}

#[test]
fn mistakes_in_limits_are_placed() {
    let harness = Harness::new();
    let text = limited("fail", "{ time = \"2 hours\", retries = -1, memory_mib = 0, threads = \"two\", devices = 0, tries = 1 }");
    let spec = pipeline::spec::parse("toy.toml", &text).unwrap();
    let registry = crate::stages::registry(Path::new("toy"));
    let mistakes = pipeline::graph::build(&spec, &registry, &harness.settings, &[]).unwrap_err();
    assert_snapshot!(mistakes.to_string(), @r#"
    6 mistakes in `toy.toml`
      toy.toml:6: `limits.time` should be a duration such as "90s", "30m", "2h" or "1d"
      toy.toml:6: `limits.retries` should be a whole number, at least 0
      toy.toml:6: `limits.memory_mib` should be a whole number, at least 1
      toy.toml:6: `limits.threads` should be a whole number, at least 1
      toy.toml:6: `limits.devices` should be a whole number, at least 1
      toy.toml:6: unknown limit `tries`
          did you mean `retries`?
    "#);
    let spec = pipeline::spec::parse("toy.toml", &limited("fail", "{ devices = 2 }")).unwrap();
    let mistakes = pipeline::graph::build(&spec, &registry, &harness.settings, &[]).unwrap_err();
    assert_snapshot!(mistakes.to_string(), @r"
    1 mistake in `toy.toml`
      toy.toml:3: `limits.devices`: a node of `toy.trouble` computes on one device
          leave it out
    ");
}
