//! Output of the commands on results: tables, errors, comparisons.

use serde_json::Value;
use tests::Project;

#[track_caller]
fn says(project: &Project, command: &[&str], texts: &[&str]) -> String {
    let answer = project.sure(command);
    assert!(answer.ok, "{command:?}: {}", answer.err);
    for text in texts {
        assert!(answer.out.contains(text), "`{text}` is not in what {command:?} says:\n{}", answer.out);
    }
    answer.out
}

#[track_caller]
fn refuses(project: &Project, command: &[&str], texts: &[&str]) {
    let answer = project.sure(command);
    assert!(!answer.ok && answer.out.is_empty(), "{command:?} says {}", answer.out);
    for text in texts {
        assert!(answer.err.contains(text), "`{text}` is not in what {command:?} says:\n{}", answer.err);
    }
    assert!(!answer.err.contains("panicked"), "{}", answer.err);
}

#[test]
fn results_errors_and_comparisons_follow_a_run() {
    let project = Project::new();
    refuses(&project, &["results"], &["no run yet"]);
    let first = project.sure(&["run", "./tiny.toml"]);
    assert!(first.ok, "{}", first.err);
    let pace = first.err.lines().find(|line| line.starts_with("train[method=lora,seed=1314]: 24 steps of ")).unwrap();
    assert!(pace.contains(" ms, ") && pace.contains(" of audio a second; at most ") && pace.ends_with(" GiB"), "{pace}");
    assert!(first.err.trim_end().ends_with("with times, speed and memory"), "{}", first.err);
    let second = project.sure(&["run", "./tiny.toml"]);
    assert!(second.ok && !second.err.contains("sure results"), "nothing was trained: {}", second.err);

    let again =
        says(&project, &["results"], &["accuracy", "finetune", "lora", "GPU hours", "train finetune", "results/tiny/table.html"]);
    assert!(again.contains(project.table().trim_end()), "the same table as the run left:\n{again}");
    let (_, trainings) = again.split_once("\ntraining ").unwrap();
    for method in ["train finetune", "train lora"] {
        let line = trainings.lines().find(|line| line.starts_with(method)).unwrap();
        assert!(line.contains(" ms ") && line.contains(" % ") && line.ends_with(" GiB"), "{line}");
    }
    refuses(&project, &["results", "nothing"], &["no run of `nothing`"]);
    // The page of the run that made the table: a run with nothing to do leaves it.
    let page = std::fs::read_to_string(project.path("results/tiny/table.html")).unwrap();
    let facts = ["<base href=\"table/\">", "<dd>1, begun 20", "<dt>version</dt>", "<dd>tiny.toml</dd>", "href=\"../models/\""];
    for expected in facts.into_iter().chain(["<td>learning_rate</td>", "(method=lora)"]) {
        assert!(page.contains(expected), "`{expected}` is not on the page:\n{page}");
    }

    // A node that scores or trains stands for the evaluation beside it.
    let errors = says(&project, &["errors", "evaluate[method=lora]"], &["evaluate[method=lora", "utterances wrong"]);
    assert_eq!(errors, says(&project, &["errors", "score[method=lora]"], &[]));
    assert_eq!(errors, says(&project, &["errors", "train[method=lora]"], &[]));
    let json = says(&project, &["errors", "evaluate", "--json", "--limit", "3"], &[]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 2, "one for each method");
    assert!(json[0]["errors"]["worst"].as_array().unwrap().len() <= 3);
    refuses(&project, &["errors", "evaluat"], &["no node `evaluat`", "did you mean `evaluate`?"]);
    refuses(&project, &["errors", "manifest"], &["has left no predictions"]);

    let compared = ["compare", "score[method=finetune]", "train[method=lora]"];
    says(&project, &compared, &["score[method=finetune", "against score[method=lora", "McNemar's exact test", "accuracy (%)"]);
    let json: Value =
        serde_json::from_str(&says(&project, &["compare", "score[method=lora]", "score[method=lora]", "--json"], &[])).unwrap();
    let p = json["metrics"][0]["p"].as_f64().unwrap();
    assert!((p - 1.0).abs() < 1e-12, "nothing differs from itself: {json}");
    refuses(&project, &["compare", "score", "score[method=lora]"], &["several nodes of one seed"]);
    refuses(
        &project,
        &["compare", "score[method=finetune]", "score[method=lora]", "--metric", "wer"],
        &["no metric `wer`", "accuracy"],
    );

    // A method stands for its score, and a run for all of its scores.
    let by_name = says(&project, &["compare", "finetune", "lora"], &["score[method=finetune", "against score[method=lora"]);
    assert_eq!(by_name, says(&project, &compared, &[]));
    refuses(&project, &["compare", "finetun", "lora"], &["no node `finetun`"]);
    let same =
        says(&project, &["compare", "1:lora", "2:score[method=lora]"], &["1:score[method=lora", "against 2:score[method=lora"]);
    assert!(same.contains("p = 1.000"), "{same}");
    says(&project, &["compare", "1", "2"], &["1:score[method=finetune", "1:score[method=lora"]);
    refuses(&project, &["compare", "1:prefix", "2"], &["no node `prefix` in run 1", "score[method=lora"]);
    refuses(&project, &["compare", "1", "99"], &["no run 99"]);

    // Another training: scores by run, and what changed.
    let other = project.sure(&["run", "./tiny.toml", "-q", "--set", "train.max_steps=6"]);
    assert!(other.ok, "{}", other.err);
    let runs = says(&project, &["runs", "--scores"], &["accuracy (%) ", "  score[method=lora,seed=1314]", " to "]);
    assert_eq!(runs.matches("  score[method=lora,").count(), 3, "{runs}");
    let earlier = says(&project, &["results", "--run", "1"], &["accuracy", "lora", "index.html"]);
    assert!(earlier.contains(again.lines().find(|line| line.contains("speech_commands  lora")).unwrap()), "{earlier}");
    let json: Value = serde_json::from_str(&says(&project, &["results", "--run", "1", "--json"], &[])).unwrap();
    let of_run: Value = serde_json::from_str(&says(&project, &["runs", "1", "--scores", "--json"], &[])).unwrap();
    assert_eq!(json, of_run["scores"]);
    let lora = json.as_array().unwrap().iter().find(|score| score["node"] == "score[method=lora,seed=1314]").unwrap();
    let old = 100.0 * lora["metrics"]["accuracy"]["value"].as_f64().unwrap();
    let json: Value = serde_json::from_str(&says(&project, &["results", "--json"], &[])).unwrap();
    let lora = json.as_array().unwrap().iter().find(|score| score["node"] == "score[method=lora,seed=1314]").unwrap();
    let new = 100.0 * lora["metrics"]["accuracy"]["value"].as_f64().unwrap();
    refuses(&project, &["results", "--run", "99"], &["no run 99"]);
    let differ = says(&project, &["diff", "1", "3"], &["train.max_steps", "p: over utterances alone"]);
    let line = differ.lines().find(|line| line.starts_with("score[method=lora,seed=1314] ") && line.contains(" accuracy (%) "));
    if (old - new).abs() > 1e-9 {
        let cells: Vec<&str> = line.unwrap_or_else(|| panic!("{differ}")).split_whitespace().collect();
        assert_eq!(cells[3..6], [format!("{old:.2}"), format!("{new:.2}"), format!("{:+.2}", new - old)], "{differ}");
    } else {
        assert_eq!(line, None, "{differ}");
    }
}

#[test]
fn a_failed_seed_leaves_a_way_to_the_table_of_the_others() {
    let project = Project::new();
    let by_seed = "learning_rate = { by = \"seed\", \"2\" = 1e30, default = 2e-3 }";
    project.replace("tiny.toml", "learning_rate = { by = \"method\", finetune = 1.5e-3, lora = 2e-3 }", by_seed);
    let run = ["run", "./tiny.toml", "-q", "-k", "--set", "method=lora", "--set", "train.max_steps=6", "--set"];
    let failed = project.sure(&[&run[..], &["seed=1,2,3"]].concat());
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.err.contains(",seed=2]: step"), "{}", failed.err);
    assert!(failed.err.contains("hint: `--set seed=1,3` leaves the seeds that failed out"), "{}", failed.err);
    let others = project.sure(&[&run[..], &["seed=1,3"]].concat());
    assert!(others.ok, "{others:?}");
}
