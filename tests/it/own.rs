//! Recordings of the user's own: from a table to a workflow file, a result and the files of it.

use std::fs;

use tests::{Answer, Project};

#[track_caller]
fn good(answer: Answer) -> String {
    assert!(answer.ok, "{}\n{}", answer.out, answer.err);
    answer.out
}

/// A project with recordings and a table of them, and no `sure.toml`.
fn recordings() -> Project {
    let project = Project::of("table");
    fs::rename(project.path("corpus"), project.path("recordings")).unwrap();
    fs::remove_file(project.path("sure.toml")).unwrap();
    project
}

#[test]
fn init_writes_a_workflow_that_plans_and_prepares() {
    let project = recordings();
    let said = good(project.sure(&["init", "mine", "--table", "recordings"]));
    assert!(said.contains("wrote mine.toml") && said.contains("wrote sure.toml"), "{said}");
    let text = fs::read_to_string(project.path("mine.toml")).unwrap();
    assert!(text.lines().count() <= 16 && text.contains("corpus = \"table\""), "{text}");
    assert!(text.contains("[stages.score]\nname = \"mine\""), "{text}");

    let planned = good(project.sure(&["plan", "mine.toml"]));
    assert!(planned.contains("train[method=lora,seed=3]"), "{planned}");
    let listed = good(project.sure(&["list", "mine.toml"]));
    assert!(listed.starts_with("mine: ") && listed.contains("matrix   method = head_only, lora, finetune"), "{listed}");
    assert_eq!(good(project.sure(&["list", "mine.toml", "--source"])), text);

    good(project.sure(&["run", "mine.toml", "shards#0", "-q"]));
    let folder = good(project.sure(&["path", "shards#0"]));
    assert!(fs::read_dir(folder.trim()).unwrap().count() > 0, "{folder}");
    let missing = project.sure(&["path", "table"]);
    assert!(missing.code == Some(2) && missing.err.contains("no artifact of `table`"), "{missing:?}");

    for (args, expected) in [
        (&["init", "mine", "--table", "recordings"][..], "`mine.toml` exists"),
        (&["init", "other", "--table", "nowhere"], "no folder `nowhere`"),
        (&["init", "other", "--table", "recordings", "--task", "intent"], "`intent` reads no tables"),
        (&["init", "a/b", "--table", "recordings"], "`a/b` is no name of a workflow"),
        (&["plan", "mine.toml", "--checkpoint", "nowhere"], "--checkpoint nowhere: no such folder"),
    ] {
        let answer = project.sure(args);
        assert!(answer.code == Some(2) && answer.err.contains(expected), "{args:?}: {answer:?}");
    }
}

#[test]
fn a_sweep_over_own_recordings_ends_in_one_table_and_names_its_files() {
    let project = recordings();
    good(project.sure(&["init", "mine", "--table", "recordings", "--task", "speaker"]));
    let sets = [
        "size=tiny",
        "method=lora",
        "seed=1",
        "encoder_epochs=1",
        "train.max_steps=2",
        "train.eval_every=2",
        "train.save_every=2",
        "train.method.rank=2,4",
    ];
    good(project.sure(&["init", "words", "--table", "recordings", "--task", "text"]));
    assert!(good(project.sure(&["plan", "words.toml"])).contains("train[method=lora,seed=1]"));
    let args: Vec<&str> = ["run", "mine.toml"].into_iter().chain(sets.iter().flat_map(|set| ["--set", set])).collect();
    let answer = project.sure(&args);
    assert!(answer.ok && answer.err.contains("models and adapters: results/mine/models"), "{answer:?}");
    let rows: Vec<Vec<&str>> = answer.out.lines().map(|line| line.split_whitespace().take(5).collect()).collect();
    assert!(answer.out.contains("◂ best of its sweep on the dev set.") && answer.out.contains(" ◂ "), "{}", answer.out);
    assert!(project.path("results/mine/table/sweep.png").is_file());
    for rank in ["2", "4"] {
        assert!(rows.contains(&vec!["table", "lora", "scratch", rank, "1"]), "{}", answer.out);
    }
    for file in [
        "models/method=lora,rank=2,seed=1/adapter_model.safetensors",
        "models/encoder scratch/model.safetensors",
        "events/method=lora,rank=4,seed=1",
        "predictions/method=lora,rank=4,seed=1/predictions.parquet",
        "table/table.txt",
    ] {
        assert!(project.path("results/mine").join(file).exists(), "{file}");
    }
}

#[test]
fn a_task_of_ones_own_has_its_name_in_tables_and_on_pages() {
    let project = recordings();
    good(project.sure(&["init", "first_names", "--table", "recordings", "--task", "text"]));
    let sets = [
        "size=tiny",
        "method=head_only",
        "seed=1",
        "encoder_epochs=1",
        "train.max_steps=2",
        "train.eval_every=2",
        "train.save_every=2",
    ];
    let args: Vec<&str> = ["run", "first_names.toml"].into_iter().chain(sets.iter().flat_map(|set| ["--set", set])).collect();
    let table = good(project.sure(&args));
    assert!(table.starts_with("results/first_names\nfirst names\n") || table.starts_with("first names\n"), "{table}");
    let folder = project.path("results/first_names/table");
    let page = fs::read_to_string(folder.join("index.html")).unwrap();
    assert!(page.contains("<dd>first names</dd>") && !page.contains("speech recognition"), "{page}");
    // The worst answers can be heard.
    let clips: Vec<&str> =
        page.split("<audio ").skip(1).map(|rest| rest.split("src=\"").nth(1).unwrap().split('"').next().unwrap()).collect();
    assert!(!clips.is_empty(), "{page}");
    for clip in clips {
        assert!(fs::read(folder.join(clip)).unwrap().starts_with(b"RIFF"), "{clip}");
    }
}

#[test]
fn completions_and_the_manual_page_are_printed() {
    let project = recordings();
    for (form, expected) in [("bash", "complete -F"), ("zsh", "#compdef sure"), ("fish", "complete -c sure"), ("man", ".TH sure")]
    {
        let text = good(project.sure(&["completions", form]));
        assert!(text.contains(expected), "{form}: {text}");
    }
}
