//! Frozen convolutions computed once: `--set front=cached`.

use std::fs;

use serde_json::Value;
use tests::Project;

fn plan(project: &Project, front: &str) -> Value {
    let answer = project.sure(&["plan", "./tiny.toml", "--json", "--set", &format!("front={front}")]);
    assert!(answer.ok, "{}", answer.err);
    serde_json::from_str(&answer.out).unwrap()
}

/// Stages whose nodes have a verdict, each once.
fn stages(plan: &Value, verdict: &str) -> Vec<String> {
    let nodes = plan["nodes"].as_array().unwrap().iter().filter(|node| node["verdict"] == verdict);
    let mut found: Vec<String> = nodes.map(|node| node["stage"].as_str().unwrap().to_owned()).collect();
    found.dedup();
    found
}

/// The losses of LoRA, as its training left them.
fn losses(project: &Project, plan: &Value) -> Vec<f64> {
    let mut nodes = plan["nodes"].as_array().unwrap().iter();
    let node = nodes.find(|node| node["node"].as_str().unwrap().starts_with("train[method=lora")).unwrap();
    let (start, rest) = node["artifact"].as_str().unwrap().split_at(2);
    let text = fs::read(project.path(&format!(".sure/objects/{start}/{rest}/training.json"))).unwrap();
    let summary: Value = serde_json::from_slice(&text).unwrap();
    let curve = summary["curve"].as_array().unwrap().iter();
    curve.flat_map(|point| ["train_loss", "dev_loss"].map(|name| point[name].as_f64().unwrap())).collect()
}

#[test]
fn the_setting_makes_training_read_stored_convolutions_and_nothing_else_changes() {
    let project = Project::new();
    assert!(project.sure(&["run", "./tiny.toml", "-q"]).ok);
    let from_audio = plan(&project, "audio");
    assert!(!stages(&from_audio, "reuse").contains(&"front".to_owned()), "made where nothing reads it");
    let table = project.table();

    // Only what reads it may run again; fine-tuning, which trains the convolutions, goes on reading audio.
    let before = plan(&project, "cached");
    assert_eq!(stages(&before, "run"), ["front"]);
    assert_eq!(stages(&before, "run_if"), ["train", "evaluate", "score", "table"]);
    let run = project.sure(&["run", "./tiny.toml", "--set", "front=cached", "-q"]);
    assert!(run.ok, "{}", run.err);
    let cached = plan(&project, "cached");
    assert_eq!((&cached["counts"]["run"], &cached["counts"]["run_if"]), (&0.into(), &0.into()));
    let why = project.sure(&["why", "./tiny.toml:train[method=lora]", "--set", "front=cached"]);
    assert!(why.out.contains("input train#0 changed") && why.out.contains("front[seed=1314]#0"), "{}", why.out);

    let (audio, front) = (losses(&project, &from_audio), losses(&project, &cached));
    assert!(audio.len() == 8 && audio.len() == front.len());
    let worst = audio.iter().zip(&front).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst <= 1e-4, "losses differ by {worst:e}");
    assert_eq!(table, project.table());

    // And back: everything is there.
    let back = plan(&project, "audio");
    assert_eq!((&back["counts"]["run"], &back["counts"]["run_if"]), (&0.into(), &0.into()));
}

#[test]
fn stored_convolutions_that_nothing_reads_are_told_of() {
    let project = Project::of("speech_commands");
    let said = |more: &[&str]| {
        let mut args = vec!["plan", "keyword_spotting", "--set", "size=tiny", "--set", "front=cached"];
        args.extend(more);
        let answer = project.sure(&args);
        assert!(answer.ok, "{}", answer.err);
        answer.err.contains("note: `front=cached` changes nothing here")
    };
    assert!(said(&["--set", "protocol=paper"]), "clips are cut");
    assert!(said(&["--set", "method=finetune"]), "the convolutions are trained");
    assert!(!said(&[]));
}

#[test]
fn that_nothing_reads_them_is_told_when_nothing_runs_too() {
    let project = Project::new();
    let run = || project.sure(&["run", "./tiny.toml:shards", "--set", "front=cached"]);
    assert!(run().err.contains("note: `front=cached` changes nothing here"));
    let again = run();
    assert!(again.ok && again.err.contains("0 to run"), "{}", again.err);
    assert!(again.err.contains("note: `front=cached` changes nothing here"), "{}", again.err);
}
