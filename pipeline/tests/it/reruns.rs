//! Nodes that run again, and nodes that do not.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use insta::assert_snapshot;
use pipeline::event::Event;
use pipeline::explain::explain;
use pipeline::run::Options;

use crate::harness::{BOOKS, Ended, Harness, book_of};

const ALL: &str = "count#0 count#1 count#2 count#3 names sum";

#[test]
fn second_run_runs_nothing_and_reads_no_file() {
    let mut harness = Harness::with_books();
    harness.let_books_age();
    let first = harness.run(BOOKS);
    assert_eq!((first.ran().as_str(), first.files_read()), (ALL, 8));
    assert_eq!(harness.ledger().len(), 7);
    harness.close();

    let second = harness.run(BOOKS);
    assert!(second.summary.complete);
    assert_eq!((second.ran().as_str(), second.files_read()), ("", 0));
    assert_eq!(harness.ledger(), [""; 0]);
    assert_eq!(second.artifacts, first.artifacts);
}

#[test]
fn touched_file_runs_nothing() {
    let mut harness = Harness::with_books();
    harness.let_books_age();
    harness.run(BOOKS);
    let book = harness.path("books").join(book_of(2, 0));
    let bytes = fs::read(&book).unwrap();
    fs::write(&book, bytes).unwrap();
    File::options().write(true).open(&book).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    let again = harness.run(BOOKS);
    assert_eq!((again.ran().as_str(), again.files_read()), ("", 1));
}

#[test]
fn changed_file_reruns_its_partition_and_what_lies_downstream_as_planned() {
    let mut harness = Harness::with_books();
    harness.run(BOOKS);
    harness.write(&book_of(2, 1), "a longer text than before, so that the count changes as well and goes on downstream");
    assert_snapshot!(harness.plan(BOOKS), @r"
    maybe sum
    reuse count#0
    reuse count#1
    reuse count#3
    reuse list
    reuse names
    run count#2
    ");
    let again = harness.run(BOOKS);
    assert_eq!(again.ran(), "count#2 sum");
    assert_eq!(harness.text(&again, "count#2", "count.txt"), "46\n");
}

#[test]
fn changed_file_with_the_same_count_stops_at_its_partition() {
    let mut harness = Harness::with_books();
    harness.run(BOOKS);
    harness.write(&book_of(1, 0), &"term ".repeat(20));
    assert_eq!(harness.run(BOOKS).ran(), "count#1", "sum reads only count.txt, whose bytes are the same");
}

#[test]
fn added_and_removed_files_rerun_their_partition() {
    let mut harness = Harness::with_books();
    harness.run(BOOKS);
    harness.write(&book_of(3, 2), "one more book");
    assert_eq!(harness.run(BOOKS).ran(), "count#3 names sum");
    fs::remove_file(harness.path("books").join(book_of(0, 0))).unwrap();
    assert_eq!(harness.run(BOOKS).ran(), "count#0 names sum");
    // Back to what once was: everything is known already.
    harness.write(&book_of(0, 0), &"word ".repeat(10));
    fs::remove_file(harness.path("books").join(book_of(3, 2))).unwrap();
    assert_eq!(harness.run(BOOKS).ran(), "");
}

#[test]
fn changed_parameter_reruns_exactly_downstream() {
    let mut harness = Harness::with_books();
    harness.run(BOOKS);
    let longer = BOOKS.replace("min_length = 1", "min_length = 5");
    assert_snapshot!(harness.plan(&longer), @r"
    maybe sum
    reuse list
    reuse names
    run count#0
    run count#1
    run count#2
    run count#3
    ");
    let again = harness.run(&longer);
    assert_eq!(again.ran(), "count#0 count#1 count#2 count#3 sum");
    assert_eq!(harness.text(&again, "sum", "text.txt"), "0\n0\n0\n0\n");
}

#[test]
fn same_bytes_stop_a_rerun_also_for_folders_of_an_artifact() {
    let workflow = |first: &str, keep: usize| {
        format!(
            "[workflow]\nname = \"cut\"\n[stages.a]\nrun = \"toy.text\"\ntext = \"{first}\"\n\
             [stages.head]\nrun = \"toy.join\"\ninputs.texts = \"a/text.txt\"\nkeep = {keep}\n\
             [stages.whole]\nrun = \"toy.join\"\ninputs.texts = \"head\"\n\
             [stages.length]\nrun = \"toy.join\"\ninputs.texts = \"a/length.txt\"\n"
        )
    };
    let mut harness = Harness::new();
    assert_eq!(harness.run(&workflow("red ink", 3)).ran(), "a head length whole");
    assert_snapshot!(harness.plan(&workflow("red pen", 3)), @r"
    maybe head
    maybe length
    maybe whole
    run a
    ");
    let again = harness.run(&workflow("red pen", 3));
    assert_eq!((again.ran().as_str(), again.nodes("reused").join(" ").as_str()), ("a head", "length whole"));
    assert_eq!(harness.run(&workflow("red rubber", 3)).ran(), "a head length");

    let mut harness = Harness::with_books();
    let folder = BOOKS.replace("count/count.txt", "count/about");
    let sums = harness.run(&folder);
    assert!(harness.text(&sums, "sum", "text.txt").contains(".txt\n"));
    harness.write(&book_of(0, 0), "other words");
    assert_eq!(harness.run(&folder).ran(), "count#0", "the folder `about` names the books and not their words");
}

#[test]
fn forced_node_runs_and_what_follows_is_reused_when_the_bytes_are_the_same() {
    let mut harness = Harness::with_books();
    harness.run(BOOKS);
    let workflow = harness.workflow(BOOKS);
    harness.options.forced.extend(workflow.find("count#1"));
    let again = harness.run(BOOKS);
    assert_eq!(again.ran(), "count#1");
    assert!(again.summary.complete);
}

#[test]
fn lost_artifact_is_made_again_and_the_reason_says_so() {
    let mut harness = Harness::with_books();
    let first = harness.run(BOOKS);
    let lost = harness.store().path(first.artifacts["count#3"]);
    harness.unlock();
    fs::remove_dir_all(lost).unwrap();
    assert_eq!(harness.plan(BOOKS).lines().find(|line| line.ends_with("count#3")), Some("run count#3"));
    let again = harness.run(BOOKS);
    assert_eq!(again.ran(), "count#3");
    assert_eq!(again.artifacts, first.artifacts);
}

#[test]
fn explanation_names_the_file_the_parameter_and_the_input() {
    let mut harness = Harness::with_books();
    harness.run(BOOKS);
    let book = book_of(2, 1);
    harness.write(&book, "changed");
    let workflow = harness.workflow(BOOKS);
    let (plan, _) = harness.survey(&workflow);
    let node = workflow.find("count#2")[0];
    let why = explain(&workflow, &plan, node, harness.store()).unwrap();
    assert_eq!(why.changes.iter().map(|change| change.field.as_str()).collect::<Vec<_>>(), ["input.books"]);
    assert_eq!(why.causes[0].node, "list");
    assert_eq!(why.causes[0].files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), [book.as_str()]);

    let ended = harness.run(BOOKS);
    assert!(ended.summary.complete);
    let workflow = harness.workflow(&BOOKS.replace("min_length = 1", "min_length = 3"));
    let (plan, _) = harness.survey(&workflow);
    let why = explain(&workflow, &plan, workflow.find("count#0")[0], harness.store()).unwrap();
    let change = &why.changes[0];
    assert_eq!((change.field.as_str(), change.old.as_deref(), change.new.as_deref()), ("param.min_length", Some("1"), Some("3")));
    assert!(why.causes.is_empty());
}

#[test]
fn explanation_of_many_diamonds_stays_small() {
    let mut text = "[workflow]\nname = \"diamonds\"\n[stages.s0]\nrun = \"toy.text\"\ntext = \"VERSION\"\n".to_owned();
    for level in 1..=30 {
        let before = format!("s{}", level - 1);
        for side in ["l", "r"] {
            text += &format!(
                "[stages.{side}{level}]\nrun = \"toy.join\"\ninputs.texts = \"{before}/text.txt\"\nsuffix = \"{side}\"\n"
            );
        }
        text += &format!("[stages.s{level}]\nrun = \"toy.join\"\ninputs.texts = [\"l{level}\", \"r{level}\"]\nkeep = 9\n");
    }
    let mut harness = Harness::new();
    harness.run(&text.replace("VERSION", "one"));
    harness.run(&text.replace("VERSION", "two"));
    let text = text.replace("VERSION", "three");
    let workflow = harness.workflow(&text);
    let (plan, _) = harness.survey(&workflow);
    let why = explain(&workflow, &plan, workflow.find("s30")[0], harness.store()).unwrap();
    let size = serde_json::to_string(&why).unwrap().len();
    assert!(size < 100_000, "2^30 branches would not fit, {size} bytes do");
}

#[test]
fn facts_logs_and_runs_are_recorded() {
    let mut harness = Harness::with_books();
    let ended = harness.run(BOOKS);
    let store = harness.store();
    let run = &store.runs(1).unwrap()[0];
    assert_eq!((run.id, run.workflow.as_str(), run.outcome.as_deref()), (ended.summary.run, "books", Some("done")));
    assert_eq!(store.steps(run.id).unwrap().len(), 7, "and the source");
    let (fingerprint, before) = store.latest("books:sum").unwrap().unwrap();
    assert_eq!(before, None);
    let trace = store.result(fingerprint).unwrap().unwrap();
    assert_eq!((trace.provenance.host.as_str(), trace.artifact), ("here", ended.artifacts["sum"]));
    assert!(ended.events.iter().any(|event| matches!(event, Event::RunFinished { complete: true, .. })));
}

#[test]
fn fewer_inputs_are_a_change_and_not_a_loss() {
    let text = "[workflow]\nname = \"less\"\n[matrix]\nn = [1, 2]\n[stages.a]\nrun = \"toy.text\"\ntext = \"n {n}\"\n\
                [stages.all]\nrun = \"toy.join\"\ngather = [\"n\"]\ninputs.texts = \"a/text.txt\"\n";
    let mut harness = Harness::new();
    harness.run(text);
    let mut harness = harness.set("n", &["1"]);
    let workflow = harness.workflow(text);
    let (plan, _) = harness.survey(&workflow);
    let why = explain(&workflow, &plan, workflow.find("all")[0], harness.store()).unwrap();
    assert_eq!(why.changes.iter().map(|change| change.field.as_str()).collect::<Vec<_>>(), ["input.texts[n=2]"]);
}

#[test]
fn an_input_named_three_times_is_not_the_same_as_twice() {
    let text = |list: &str| {
        format!(
            "[workflow]\nname = \"twice\"\n[stages.a]\nrun = \"toy.text\"\ntext = \"x\"\n\
             [stages.b]\nrun = \"toy.join\"\ninputs.texts = [{list}]\n"
        )
    };
    let one = "\"a/text.txt\"";
    let mut harness = Harness::new();
    harness.run(&text(&[one; 2].join(", ")));
    let three = harness.run(&text(&[one; 3].join(", ")));
    assert_eq!(harness.text(&three, "b", "text.txt"), "xxx");
}

const CHAIN: &str = "[workflow]\nname = \"chain\"\n[stages.a]\nrun = \"toy.text\"\ntext = \"x\"\n\
    [stages.b]\nrun = \"toy.join\"\ninputs.texts = \"a\"\nsuffix = \"b\"\n\
    [stages.bad]\nrun = \"toy.trouble\"\nhow = \"fail\"\ninputs.texts = \"a\"\n\
    [stages.c]\nrun = \"toy.join\"\ninputs.texts = \"b/text.txt\"\nsuffix = \"!\"\n\
    [stages.d]\nrun = \"toy.join\"\ninputs.texts = \"c\"\n";

fn remove(artifact: &Path) {
    fs::set_permissions(artifact, fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_dir_all(artifact).unwrap();
}

fn forge(artifact: &Path) {
    let file = artifact.join("text.txt");
    fs::set_permissions(artifact, fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(&file).unwrap();
    fs::write(&file, "forged").unwrap();
}

/// Runs all but `bad`, then again with another suffix, while the artifact of `b` comes to harm as often as `times` says.
fn harm(harm: fn(&Path), times: usize, forced: &[&str]) -> (Harness, Ended) {
    let mut harness = Harness::new();
    harness.options.keep_going = true;
    let ended = harness.run(CHAIN);
    assert_eq!(ended.ran(), "a b c d");
    harness.ledger();
    let lost = harness.store().path(ended.artifacts["b"]);
    let text = CHAIN.replace('!', "?");
    let workflow = harness.workflow(&text);
    harness.options.forced = forced.iter().map(|node| workflow.find(node)[0]).collect();
    let left = AtomicUsize::new(times);
    let ended = harness.run_with(&text, move |event| {
        let is_start = matches!(event, Event::NodeStarted { node, .. } if node == "c");
        if is_start && left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
            harm(&lost);
        }
    });
    (harness, ended)
}

#[test]
fn lost_or_damaged_input_is_made_again_within_the_run() {
    for (how, times) in [(remove as fn(&Path), 1), (remove, 2), (remove, 3), (forge, 1), (forge, 2)] {
        let (mut harness, ended) = harm(how, times, &[]);
        assert_eq!(harness.text(&ended, "d", "text.txt"), "1xb?", "as if nothing had happened");
        assert_eq!(ended.nodes("failed"), ["bad"]);
        assert_eq!(ended.step("bad").attempts, 1, "a failed node is not run again in another round");
        assert_eq!(ended.artifacts.len(), 4);
        assert!(["b", "c", "d"].iter().all(|node| ended.nodes("ran").iter().any(|ran| ran == node)), "{}", ended.ran());
        let bodies = harness.ledger().into_iter().filter(|line| line == "join").count();
        assert_eq!(bodies, times + 2, "`b` once per harm, then `c` and `d`");
    }
}

#[test]
fn forced_node_runs_once_though_an_input_of_another_is_lost() {
    let (harness, ended) = harm(remove, 1, &["a"]);
    assert_eq!(ended.ran(), "a b c d");
    assert_eq!(harness.ledger().iter().filter(|line| *line == "text x").count(), 1);
}

#[test]
fn input_that_is_lost_again_and_again_fails_its_node() {
    let (mut harness, ended) = harm(remove, 100, &[]);
    assert_eq!((ended.nodes("failed"), ended.nodes("blocked")), (vec!["bad".into(), "c".into()], vec!["d".into()]));
    let chain = ended.failure("c").0.join(" <- ");
    assert!(chain.ends_with(" is damaged or gone, again and again"), "{chain}");
    assert_eq!(harness.run(&CHAIN.replace('!', "?")).ran(), "b c d");
}

#[test]
fn input_that_vanishes_while_a_body_reads_it_is_made_again() {
    let text = "[workflow]\nname = \"vanish\"\n[stages.a]\nrun = \"toy.text\"\ntext = \"x\"\n\
                [stages.b]\nrun = \"toy.steps\"\ninputs.texts = \"a/text.txt\"\nsteps = 3\nmillis = 1\n";
    let mut harness = Harness::new();
    let (root, once) = (harness.path("store/objects"), Once::new());
    let ended = harness.run_with(text, move |event| {
        if matches!(event, Event::Tick { done: 2, .. }) {
            once.call_once(|| fs::remove_dir_all(&root).and_then(|()| fs::create_dir(&root)).unwrap());
        }
    });
    assert!(ended.summary.complete, "{:?}", ended.summary.steps);
    assert_eq!(ended.ran(), "a a b");
}

#[test]
fn only_leaves_all_others_alone() {
    let text = CHAIN.replace("[stages.bad]\nrun = \"toy.trouble\"\nhow = \"fail\"\ninputs.texts = \"a\"\n", "");
    let mut harness = Harness::new();
    let workflow = harness.workflow(&text);
    let only = |nodes: &[&str]| nodes.iter().map(|node| workflow.find(node)[0]).collect();

    harness.options.only = only(&["c"]);
    let ended = harness.run(&text);
    assert!(!ended.summary.complete);
    assert_eq!(ended.nodes("held"), ["c"]);
    assert_eq!(ended.step("c").message.as_deref(), Some("`a` is not up to date, and --only leaves it alone"));
    assert_eq!((ended.summary.steps.len(), harness.ledger().len()), (1, 0), "nothing is said of the others");

    harness.options.only = only(&["a", "b"]);
    let ended = harness.run(&text);
    assert!(ended.summary.complete, "all that was asked for");
    assert_eq!(ended.ran(), "a b");

    harness.options.only = only(&["c"]);
    harness.options.forced = only(&["a", "c"]);
    assert_eq!(harness.run(&text).ran(), "c", "what is left alone is not forced either");
    harness.options = Options::default();
    assert_eq!(harness.run(&text).ran(), "d");
}

#[test]
fn only_does_not_bring_a_source_up_to_date() {
    let mut harness = Harness::with_books();
    let workflow = harness.workflow(BOOKS);
    harness.options.only = workflow.find("sum").into_iter().collect();
    assert_eq!(harness.run(BOOKS).nodes("held"), ["sum"]);
    assert_eq!(harness.ledger(), [""; 0]);
}
