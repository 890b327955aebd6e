//! Answers of the commands about plans, reasons, runs and the store, over a life of edits. No libtorch is needed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::SystemTime;

use insta::assert_snapshot;
use serde_json::Value;
use tests::Project;

/// Runs a command that must succeed; what it prints, with times and digests replaced.
#[track_caller]
fn said(project: &Project, args: &[&str]) -> String {
    let answer = project.sure(args);
    assert!(answer.ok, "{args:?}: {}{}", answer.out, answer.err);
    plain(project, &answer.out)
}

/// Runs a command that must fail; its exit code and what it says.
#[track_caller]
fn refused(project: &Project, args: &[&str]) -> String {
    let answer = project.sure(args);
    assert!(!answer.ok && !answer.err.contains("panicked"), "{args:?}: {}{}", answer.out, answer.err);
    format!("exit {}\n{}", answer.code.unwrap_or(-1), plain(project, &answer.err))
}

/// Replaces what differs from run to run: the folder, digests, dates and durations.
fn plain(project: &Project, text: &str) -> String {
    let text = text.replace(&project.path("").display().to_string(), "HERE/");
    let word = |word: &str| {
        let core = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_hex = core.len() >= 12 && core.chars().all(|c| c.is_ascii_hexdigit());
        let is_number = core.contains('.') && core.parse::<f64>().is_ok();
        let is_date = core.len() == 10 && core.chars().filter(|c| *c == '-').count() == 2;
        let is_time = core.ends_with('Z') && core.contains(':');
        match () {
            () if is_hex => word.replace(core, "DIGEST"),
            () if is_number => word.replace(core, "N"),
            () if is_date => word.replace(core, "DATE"),
            () if is_time => word.replace(core, "TIME"),
            () => word.to_owned(),
        }
    };
    let line = |line: &str| {
        let indent = &line[..line.len() - line.trim_start().len()];
        format!(
            "{}{}",
            indent.get(..indent.len().min(6)).unwrap_or(""),
            line.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
        )
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn plans_reasons_and_runs_read_well_over_a_life_of_edits() {
    let project = Project::new();
    assert_snapshot!("plan_of_a_new_project", said(&project, &["plan", "./tiny.toml"]));
    said(&project, &["run", "./tiny.toml:shards"]);
    assert_snapshot!("plan_with_everything_there", said(&project, &["plan", "./tiny.toml", "shards", "--all"]));
    project.replace("tiny.toml", "sample_rate = 16000", "sample_rate = 8000");
    let shards = ["plan", "./tiny.toml:shards"];
    assert_snapshot!("plan_after_a_parameter", said(&project, &shards));
    assert_snapshot!("plan_of_one_node", said(&project, &[&shards[..], &["--only", "shards#1", "--force", "shards#1"]].concat()));
    assert_snapshot!("why_a_parameter", said(&project, &["why", "./tiny.toml:shards#0-1"]));
    let plan: Value = serde_json::from_str(&project.sure(&[&shards[..], &["--json"]].concat()).out).unwrap();
    assert_eq!(plan["counts"], serde_json::json!({"reuse": 1, "run": 4, "run_if": 0, "blocked": 0}));
    assert_eq!(plan["nodes"][1]["reason"]["changes"][0]["new"], "8000");
    assert_eq!(plan["nodes"][1]["needs"], serde_json::json!(["manifest"]));

    said(&project, &["run", "./tiny.toml", "shards", "--only", "shards#1", "--timeline", "only.json"]);
    let trace: Value = serde_json::from_slice(&fs::read(project.path("only.json")).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    assert_eq!(events.iter().filter(|event| event["ph"] == "X").count(), 1);
    said(&project, &["run", "./tiny.toml", "shards", "--jobs", "1"]);
    fs::write(
        project.path("corpus/yes/new_nohash_0.wav"),
        fs::read(project.path("corpus/stop").read_dir().unwrap().next().unwrap().unwrap().path()).unwrap(),
    )
    .unwrap();
    said(&project, &["run", "./tiny.toml", "shards", "--jobs", "1"]);

    assert_snapshot!("runs", said(&project, &["runs"]));
    assert_snapshot!("nodes_of_a_run", said(&project, &["runs", "2"]));
    assert_snapshot!("why_in_a_run", said(&project, &["why", "--run", "3", "shards#0"]));
    assert_snapshot!("why_in_the_first_run", said(&project, &["why", "--run", "1", "shards#0"]));
    assert_snapshot!("why_a_file", said(&project, &["why", "--run", "4", "manifest"]));
    assert_snapshot!("diff_of_parameters", said(&project, &["diff", "1", "3"]));
    assert_snapshot!("diff_of_files", said(&project, &["diff", "3", "4"]));
    let runs: Value = serde_json::from_str(&project.sure(&["runs", "2", "--json"]).out).unwrap();
    assert_eq!((runs["steps"][0]["node"].as_str(), runs["outcome"].as_str()), (Some("tiny:shards#1"), Some("done")));
    let schema: Value = serde_json::from_str(&project.sure(&["schema"]).out).unwrap();
    assert!(schema["$schema"].as_str().unwrap().contains("2020-12"));
}

/// Paths, sizes and times of everything in the store.
fn store_of(project: &Project) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    let (mut found, mut todo) = (BTreeMap::new(), vec![project.path(".sure")]);
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        // SQLite writes its marks of readers there; they are no part of the records.
        if !path.ends_with("traces.db-shm") {
            found.insert(path, (meta.len(), meta.modified().unwrap()));
        }
    }
    found
}

const READING: [&[&str]; 13] = [
    &["plan", "./tiny.toml:shards"],
    &["plan", "./tiny.toml", "--all", "--json"],
    &["run", "./tiny.toml:shards", "--dry-run"],
    &["why", "shards#0"],
    &["why", "--run", "1", "manifest"],
    &["graph", "./tiny.toml"],
    &["runs"],
    &["runs", "2"],
    &["results", "./tiny.toml"],
    &["diff", "1", "2"],
    &["log", "shards#0"],
    &["store", "du"],
    &["store", "gc"],
];

#[test]
fn commands_about_a_store_begin_none() {
    let project = Project::new();
    for command in [&["store", "du"][..], &["store", "gc"], &["store", "gc", "--yes"], &["store", "verify"], &["runs"]] {
        let answer = project.sure(command);
        assert!(answer.err.contains("no store at") || command == ["runs"], "{command:?}: {}", answer.err);
        assert!(!project.path(".sure").exists(), "{command:?} began a store");
    }
}

#[test]
fn commands_that_read_change_nothing_and_work_on_a_store_of_somebody_else() {
    let project = Project::new();
    said(&project, &["run", "./tiny.toml:shards"]);
    project.replace("tiny.toml", "sample_rate = 16000", "sample_rate = 8000");
    said(&project, &["run", "./tiny.toml:shards"]);
    said(&project, &["plan", "./tiny.toml:shards"]); // files that were new to the first scan are hashed again
    let before = store_of(&project);
    for command in READING {
        let (own, other) = (project.sure(command), project.sure_without_privileges(command));
        assert!(own.ok, "{command:?}: {}", own.err);
        assert_eq!((&own.out, &own.err), (&other.out, &other.err), "{command:?}");
        assert!(store_of(&project) == before, "{command:?} changed the store");
    }

    let recording = project.path("corpus/stop").read_dir().unwrap().next().unwrap().unwrap().path();
    fs::copy(recording, project.path("corpus/yes/0badcafe_nohash_0.wav")).unwrap();
    let other = project.sure_without_privileges(READING[0]);
    assert!(other.ok && store_of(&project) == before && other.out.contains("1 to run"), "{}{}", other.out, other.err);
    let left = project.path(".tmp-of-nobody").read_dir().map_or(0, Iterator::count);
    assert_eq!(left, 0, "the list that could not be kept is removed");
    let own = project.sure(READING[0]);
    assert!(own.out == other.out && store_of(&project) != before, "the new list is kept for the run: {}{}", own.out, own.err);
    said(&project, READING[0]);
    let kept = store_of(&project);
    said(&project, READING[0]);
    assert!(store_of(&project) == kept, "now the store knows the corpus as it is");
}

#[test]
fn the_store_is_kept_in_order() {
    let project = Project::new();
    said(&project, &["run", "./tiny.toml:shards"]);
    project.replace("tiny.toml", "sample_rate = 16000", "sample_rate = 8000");
    said(&project, &["run", "./tiny.toml:shards"]);
    let usage: Value = serde_json::from_str(&project.sure(&["store", "du", "--json"]).out).unwrap();
    assert_eq!(usage["stages"]["tiny:shards"]["count"], 8);
    assert!(said(&project, &["store", "du"]).contains("tiny:shards"));

    assert_eq!(said(&project, &["store", "gc"]), "nothing to remove");
    let old = ["store", "gc", "--keep-runs", "1", "--older-than", "1ms"];
    let told = said(&project, &old);
    assert!(told.contains("4 artifacts tiny:shards") && told.ends_with("nothing is removed without --yes"), "{told}");
    assert!(said(&project, &[&old[..], &["--yes"]].concat()).contains("removed 4 artifacts"));
    let forgotten = refused(&project, &["diff", "1", "2"]);
    assert!(forgotten.starts_with("exit 2\n") && forgotten.contains("the nodes of run 1 were forgotten"), "{forgotten}");
    assert!(said(&project, &["runs", "1"]).contains("its nodes were forgotten"));
    assert!(said(&project, &["plan", "./tiny.toml:shards"]).contains("0 to run"));
    project.replace("tiny.toml", "sample_rate = 8000", "sample_rate = 16000");
    assert!(
        said(&project, &["run", "./tiny.toml:shards"]).is_empty()
            || said(&project, &["plan", "./tiny.toml:shards"]).contains("0 to run")
    );

    assert!(said(&project, &["store", "verify"]).ends_with(": 0 damaged"));
    let plan: Value = serde_json::from_str(&project.sure(&["plan", "./tiny.toml:shards", "--json"]).out).unwrap();
    let artifact = plan["nodes"][1]["artifact"].as_str().unwrap();
    let shard = project.path(&format!(".sure/objects/{}/{}/train.parquet", &artifact[..2], &artifact[2..]));
    let mut bytes = fs::read(&shard).unwrap();
    bytes[100] ^= 1;
    fs::set_permissions(shard.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(&shard).unwrap();
    fs::write(&shard, bytes).unwrap();
    let answer = project.sure(&["store", "verify"]);
    assert!(answer.code == Some(1) && answer.out.contains("shards#0: `train.parquet` differs"), "{}{}", answer.out, answer.err);
    let plan = said(&project, &["plan", "./tiny.toml:shards"]);
    assert!(plan.contains("shards#0 run: its artifact is gone"), "{plan}");
    said(&project, &["run", "./tiny.toml:shards"]);
    assert!(said(&project, &["store", "verify"]).ends_with(": 0 damaged"));
}

#[test]
fn mistakes_on_the_command_line_say_what_is_right() {
    let project = Project::new();
    let mut said = vec![];
    for args in [
        &["run", "keyword_spoting"][..],
        &["plan", "./tiny.toml:shard"],
        &["plan", "./tiny.toml", "train[methd=lora]"],
        &["plan", "./tiny.toml", "train[method=lor]"],
        &["run", "./tiny.toml", "--only", "shrads"],
        &["run", "./tiny.toml", "--force", "tabel"],
        &["plan", "./tiny.toml", "--set", "methd=lora"],
        &["why", "shards"],
        &["why", "--run", "7", "shards"],
        &["diff", "1", "2"],
        &["runs", "5"],
        &["log", "shards"],
        &["run", "./tiny.toml", "--time-limit", "soon"],
        &["store", "gc", "--max-size", "much"],
        &["plan", "./nowhere.toml"],
    ] {
        said.push(format!("$ sure {}\n{}", args.join(" "), refused(&project, args)));
    }
    project.write("sure.toml", "[pools]\ncpu = 0\n");
    said.push(format!("$ sure plan ./tiny.toml\n{}", refused(&project, &["plan", "./tiny.toml"])));
    assert_snapshot!("mistakes_on_the_command_line", said.join("\n\n"));
}

#[test]
fn help_of_the_commands_about_runs() {
    let project = Project::new();
    for command in ["run", "plan", "why", "graph", "runs", "diff", "log"] {
        let answer = project.sure(&[command, "--help"]);
        assert_snapshot!(format!("help_{command}"), answer.out);
    }
    for command in ["du", "gc", "verify"] {
        assert_snapshot!(format!("help_store_{command}"), project.sure(&["store", command, "--help"]).out);
    }
}

#[test]
fn why_takes_the_last_run_of_its_own_project() {
    let (one, other) = (Project::new(), Project::new());
    let store = one.path("shared").display().to_string();
    said(&one, &["run", "./tiny.toml:manifest", "--store", &store]);
    other.replace("tiny.toml", "partitions = 4", "partitions = 2");
    said(&other, &["run", "./tiny.toml:manifest", "--store", &store]);
    let why = said(&one, &["why", "manifest", "--store", &store]);
    assert!(why.contains("in run 1") && !why.contains("in run 2"), "{why}");
}
