//! Reruns: which nodes run again, and which do not.

use std::fs;
use std::process::Command;

use tests::{Project, executable};

/// A recording of a split, by the lists of the corpus.
fn recording(project: &Project, list: Option<&str>) -> String {
    let listed = |name: &str| fs::read_to_string(project.path(&format!("corpus/{name}"))).unwrap();
    if let Some(list) = list {
        return listed(list).lines().next().unwrap().to_owned();
    }
    let held_out = listed("testing_list.txt") + &listed("validation_list.txt");
    let mut files: Vec<String> = fs::read_dir(project.path("corpus/yes"))
        .unwrap()
        .map(|e| format!("yes/{}", e.unwrap().file_name().to_str().unwrap()))
        .collect();
    files.sort();
    files.into_iter().find(|file| !held_out.contains(file.as_str())).unwrap()
}

/// Makes a recording a little quieter: other bytes, still speech.
fn edit(project: &Project, recording: &str) {
    let path = project.path(&format!("corpus/{recording}"));
    let mut bytes = fs::read(&path).unwrap();
    for sample in bytes[44..].chunks_exact_mut(2) {
        let quieter = i16::from_le_bytes([sample[0], sample[1]]) / 2;
        sample.copy_from_slice(&quieter.to_le_bytes());
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn second_run_reuses_everything_and_edits_rerun_only_what_they_touch() {
    let project = Project::new();
    let first = project.sure(&["run", "./tiny.toml"]);
    assert!(first.ok, "{}", first.err);
    assert!(first.out.contains("lora") && first.out.contains("results/tiny/table.html"), "{}", first.out);
    let table = project.table();

    // Nothing changed: nothing runs.
    assert!(project.plan().iter().all(|(_, verdict)| verdict == "reuse"), "{:?}", project.plan());
    let second = project.sure(&["run", "./tiny.toml"]);
    assert!(second.ok && second.err.contains("0 to run, 0 to run if"), "{}", second.err);

    // Touched, not changed: nothing runs.
    let train = recording(&project, None);
    let now = fs::File::options().write(true).open(project.path(&format!("corpus/{train}"))).unwrap();
    now.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000)).unwrap();
    assert!(project.planned("run").is_empty() && project.planned("run_if").is_empty());

    // A test recording: one shard, then evaluation, not training.
    let test = recording(&project, Some("testing_list.txt"));
    edit(&project, &test);
    let planned = project.planned("run");
    assert!(planned.len() == 1 && planned[0].starts_with("shards#"), "{planned:?}");
    let why = project.sure(&["why", "tiny:shards", "--set", "corpus=speech_commands"]);
    assert!(!why.ok, "a workflow file is named by its path: {}", why.out);
    let why = project.sure(&["why", &format!("./tiny.toml:{}", planned[0])]);
    assert!(why.out.contains(&format!("changed {test} (")), "{}{}", why.out, why.err);
    let log = project.sure(&["run", "./tiny.toml"]);
    assert!(log.ok && log.err.contains("shards#") && log.err.contains("evaluate["), "{}", log.err);
    assert!(!log.err.contains("train["), "a test recording must not cause training: {}", log.err);
    let why = project.sure(&["why", "evaluate[method=lora]"]);
    assert!(why.out.contains(&test), "{}{}", why.out, why.err);

    // A training recording: one shard, then training.
    edit(&project, &train);
    assert_eq!(project.planned("run").len(), 1);
    let maybe = project.planned("run_if");
    assert!(maybe.contains(&"train".to_owned()) && maybe.contains(&"table".to_owned()), "{maybe:?}");
    let log = project.sure(&["run", "./tiny.toml"]);
    assert!(log.ok && log.err.contains("train["), "{}", log.err);

    // A parameter of one method: only that method's training.
    project.replace("tiny.toml", "rank = 8", "rank = 4");
    let planned = project.plan();
    let trained: Vec<&str> =
        planned.iter().filter(|(id, verdict)| verdict == "run" && id.starts_with("train")).map(|(id, _)| &**id).collect();
    assert!(trained.len() == 1 && trained[0].contains("method=lora"), "{trained:?}");
    let why = project.sure(&["why", "./tiny.toml:train[method=lora]"]);
    assert!(why.out.contains("method.rank: 8 -> 4"), "{}", why.out);
    assert!(!table.is_empty());
}

#[test]
fn the_program_that_plans_links_no_libtorch() {
    let linked = Command::new("ldd").arg(executable("sure")).output().unwrap();
    let text = String::from_utf8_lossy(&linked.stdout).into_owned();
    assert!(text.contains("libc.so"), "{text}");
    assert!(!text.contains("libtorch") && !text.contains("libc10"), "{text}");
}

#[test]
fn the_graph_is_drawn_in_every_form_without_a_corpus() {
    let project = Project::new();
    fs::remove_dir_all(project.path("corpus")).unwrap();
    for (form, start) in [("dot", "digraph"), ("svg", "<svg"), ("mermaid", "flowchart")] {
        let answer = project.sure(&["graph", "./tiny.toml", "--format", form]);
        assert!(answer.ok && answer.out.trim_start().starts_with(start), "{form}: {}{}", answer.out, answer.err);
    }
}
