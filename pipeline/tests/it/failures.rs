//! Stages that fail, and requests to stop.

use std::fs;

use insta::assert_snapshot;
use pipeline::Stop;
use pipeline::event::Event;
use pipeline::run::RunError;

use crate::house::{BOOKS, House, book_of, scratch, slow};

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
    let mut house = House::new();
    house.options.keep_going = true;
    let ended = house.run(&workflow(how));
    assert!(!ended.summary.complete && !ended.summary.stopped);
    assert_eq!(ended.ran(), "after_good good");
    assert_eq!(ended.nodes("failed"), ["bad"]);
    assert_eq!(ended.nodes("blocked"), ["after_bad", "last"]);
    let row = &house.store().runs(1).unwrap()[0];
    assert_eq!(row.outcome.as_deref(), Some("failed"));
    let (chain, hint, _) = ended.failure("bad");

    let folders = scratch(&house.path("store"));
    assert_eq!(folders.len(), 1);
    assert_eq!(fs::read_dir(&folders[0]).unwrap().count(), 1, "only the lock is left of the failed attempt");

    fs::create_dir(house.path("mood")).unwrap();
    fs::write(house.path("mood/calm"), "").unwrap();
    assert_eq!(house.run(&workflow(how)).ran(), "after_bad bad last", "what was finished is served");
    let chain = chain.join(" <- ").replace(&*house.dir.path().to_string_lossy(), "HOUSE");
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
    let mut house = House::new();
    house.cpu = 1;
    let text = "[workflow]\nname = \"stop\"\n[stages.bad]\nrun = \"toy.trouble\"\nhow = \"fail\"\ninputs.texts = \"first\"\n\
                [stages.behind]\nrun = \"toy.join\"\ninputs.texts = \"bad\"\n\
                [stages.first]\nrun = \"toy.text\"\ntext = \"x\"\n[stages.other]\nrun = \"toy.join\"\ninputs.texts = \"first\"\n";
    let ended = house.run(text);
    assert_eq!(ended.ran(), "first", "`bad` is more urgent than `other`, because `behind` waits for it");
    assert_eq!((ended.nodes("failed"), ended.nodes("blocked")), (vec!["bad".into()], vec!["behind".into()]));
    assert_eq!(ended.nodes("stopped"), ["other"]);
    assert!(!ended.summary.stopped, "nobody asked for a stop");
}

#[test]
fn missing_part_of_an_artifact_is_named_with_what_there_is() {
    let text = "[workflow]\nname = \"part\"\n[stages.a]\nrun = \"toy.text\"\ntext = \"x\"\n\
                [stages.b]\nrun = \"toy.join\"\ninputs.texts = \"a/txt\"\n";
    let mut house = House::new();
    let first = house.run(text).failure("b").0.join(" <- ");
    assert_snapshot!(first, @"the artifact has no `txt`; it holds length.txt, text.txt");
    assert_eq!(house.run(text).failure("b").0.join(" <- "), first);
}

const STEPS: &str = "[workflow]\nname = \"steps\"\n[stages.a]\nrun = \"toy.text\"\ntext = \"x\"\n\
                     [stages.b]\nrun = \"toy.steps\"\ninputs.texts = \"a/text.txt\"\nsteps = 40\nmillis = 3\n\
                     [stages.c]\nrun = \"toy.join\"\ninputs.texts = \"b\"\n";

#[test]
fn stop_ends_cleanly_and_the_next_run_resumes() {
    let mut house = House::new();
    let stop = house.stop.clone();
    let ended = house.run_with(STEPS, move |event| {
        if matches!(event, Event::Tick { done: 5, .. }) {
            stop.request();
        }
    });
    assert!(ended.summary.stopped);
    assert_eq!(ended.ran(), "a");
    assert_eq!(ended.nodes("stopped"), ["b", "c"]);
    assert_eq!(house.store().runs(1).unwrap()[0].outcome.as_deref(), Some("stopped"));
    let kept = || fs::read_dir(house.path("store/resume")).unwrap().count();
    assert_eq!(kept(), 1, "the place is kept");

    house.stop = Stop::default();
    let again = house.run(STEPS);
    let notes: Vec<&str> = again
        .events
        .iter()
        .filter_map(|event| if let Event::Note { line, .. } = event { Some(line.as_str()) } else { None })
        .collect();
    assert!(notes.first().is_some_and(|note| note.starts_with("resumed at ")), "{notes:?}");
    assert_eq!(again.ran(), "b c");
    assert_eq!(fs::read_dir(house.path("store/resume")).unwrap().count(), 0, "of no more use");

    let mut fresh = House::new();
    assert_eq!(fresh.run(STEPS).artifacts, again.artifacts);
}

#[test]
fn stop_before_the_start_runs_nothing() {
    let mut house = House::new();
    house.stop.request();
    let ended = house.run(STEPS);
    assert!(ended.summary.stopped && ended.summary.artifacts.is_empty());
    assert_eq!(house.ledger(), [""; 0]);
}

#[test]
fn file_edited_while_a_source_runs_is_noticed_and_nothing_is_recorded() {
    let mut house = House::with_books();
    let book = house.path("books").join(book_of(1, 1));
    let before = fs::read(&book).unwrap();
    house.places.insert("edit-meanwhile".to_owned(), book.clone());
    let Err(error) = house.try_run(BOOKS, None) else { panic!("the edit went unnoticed") };
    let RunError::Source { node, chain, hint } = error else { panic!("{error}") };
    assert_eq!((node.as_str(), chain), ("list", vec![format!("`{}` changed while the run used it", book.display())]));
    assert!(hint.is_some());
    house.ledger();

    house.places.remove("edit-meanwhile");
    fs::write(&book, before).unwrap();
    let ended = house.run(BOOKS);
    assert_eq!(house.ledger().len(), 7, "the list of the failed run was not kept");
    assert!(ended.summary.complete);
}

/// Every edit has the size of the text before and follows it within the same tick of many file systems.
#[test]
fn no_edit_while_a_source_runs_escapes_notice() {
    let mut house = House::with_books();
    let book = house.path("books").join(book_of(1, 1));
    house.places.insert("edit-meanwhile".to_owned(), book.clone());
    for round in 0..if slow() { 1_000 } else { 100 } {
        fs::write(&book, format!("{round:30}")).unwrap();
        assert!(matches!(house.try_run(BOOKS, None), Err(RunError::Source { .. })), "edit {round}");
        assert_eq!(fs::read(&book).unwrap().len(), 30);
    }
}

#[test]
fn file_edited_after_the_plan_fails_the_node_that_reads_it() {
    let mut house = House::with_books();
    let book = house.path("books").join(book_of(1, 1));
    house.options.keep_going = true;
    let edited = book.clone();
    let ended = house.run_with(BOOKS, move |event| {
        if matches!(event, Event::RunStarted { .. }) {
            fs::write(&edited, "edited").unwrap();
        }
    });
    assert_eq!((ended.nodes("failed"), ended.nodes("blocked")), (vec!["count#1".into()], vec!["sum".into()]));
    assert_eq!(ended.failure("count#1").1.as_deref(), Some("nothing was recorded; run again when the file has settled"));
    assert_eq!(house.run(BOOKS).ran(), "count#1 sum");
}

#[test]
fn missing_place_and_missing_folder_are_named() {
    let mut house = House::new();
    fs::remove_dir(house.path("books")).unwrap();
    let error = |house: &mut House| house.try_run(BOOKS, None).err().unwrap();
    let RunError::Scan { place, source, .. } = error(&mut house) else { panic!() };
    assert_eq!(place, "books");
    assert_eq!(source.to_string(), format!("no folder `{}`", house.path("books").display()));
    house.places.clear();
    assert_eq!(error(&mut house).to_string(), "`list` needs `books`, and no folder is set for it");
}

#[test]
fn a_closed_store_has_no_scratch_folder() {
    let mut house = House::with_books();
    house.run(BOOKS);
    house.close();
    assert!(scratch(&house.path("store")).is_empty());
}
