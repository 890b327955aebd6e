//! Recordings of the user's own: from a table to a workflow file, a result and the files of it.

use std::fs;

use tests::{Answer, Project, wav};

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
    assert!(text.lines().count() <= 18 && text.contains("corpus = \"table\""), "{text}");
    assert!(text.contains("[stages.targets]\nname = \"mine\"") && text.contains("[stages.score]\nname = \"mine\""), "{text}");

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
        (&["init", "other", "--table", "recordings", "--task", "speech_synthesis"], "`speech_synthesis` adapts no encoder"),
        (&["init", "other", "--table", "recordings", "--checkpoint", "nowhere"], "--checkpoint nowhere: no such folder"),
        (&["init", "other", "--table", "recordings", "--label", "nowhere"], "no column `nowhere` (--label)"),
        (&["plan", "mine.toml", "--checkpoint", "nowhere"], "--checkpoint nowhere: no such folder"),
    ] {
        let answer = project.sure(args);
        assert!(answer.code == Some(2) && answer.err.contains(expected), "{args:?}: {answer:?}");
    }
    assert!(!project.path("other.toml").exists());
}

/// Writes a table with the recordings of the example, in columns of other names and another order.
fn other_columns(project: &Project) {
    let old = fs::read_to_string(project.path("recordings/table.csv")).unwrap();
    let clips: Vec<&str> = old.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    let clips = clips.into_iter().filter(|clip| project.path("recordings").join(clip).is_file()).take(40);
    let row = |(at, clip): (usize, &str)| {
        let part = ["train", "train", "dev", "test"][at % 4];
        format!("{},{},{clip},{part},{}\n", ["no", "yes"][at % 2], ["north", "south"][at / 4 % 2], ["anna", "ben"][at / 8 % 2])
    };
    let rows: String = clips.enumerate().map(row).collect();
    fs::remove_file(project.path("recordings/table.csv")).unwrap();
    project.write("recordings/list.csv", &format!("said,accent,clip,part,who\n{rows}"));
}

#[test]
fn init_names_columns_and_tables_of_any_name() {
    let project = recordings();
    other_columns(&project);
    let refused = project.sure(&["init", "accents", "--table", "recordings"]);
    assert!(refused.code == Some(2) && refused.err.contains("no table in `recordings`"), "{refused:?}");
    assert!(refused.err.contains("echo path,label"), "{refused:?}");
    let refused = project.sure(&["init", "accents", "--table", "recordings/list.csv"]);
    assert!(refused.code == Some(2) && refused.err.contains("no column of labels in the table"), "{refused:?}");
    assert!(refused.err.contains("--label COLUMN") && refused.err.contains("tags: `accent`, `said`, `who`"), "{refused:?}");
    let refused = project.sure(&["init", "accents", "--table", "recordings/list.csv", "--label", "accent"]);
    assert!(refused.code == Some(2) && refused.err.contains("no encoder, and no transcripts"), "{refused:?}");
    assert!(!project.path("accents.toml").exists() && !project.path("sure.toml").exists());

    let columns = ["--label", "accent", "--text", "said", "--speaker", "who"];
    let args: Vec<&str> = ["init", "accents", "--table", "recordings/list.csv"].into_iter().chain(columns).collect();
    let said = good(project.sure(&args));
    assert!(said.contains("label: `accent`; speaker: `who`; text: `said`; split: `part`"), "{said}");
    assert!(said.contains("8 train, 4 dev, 4 test; 2 labels: north, south"), "{said}");
    good(project.sure(&["run", "accents.toml", "targets", "-q"]));
    let folder = good(project.sure(&["path", "targets"]));
    let task = fs::read_to_string(format!("{}/task.json", folder.trim())).unwrap();
    assert!(task.contains("\"north\"") && task.contains("\"south\""), "{task}");
    good(project.sure(&["run", "accents.toml", "encoder_targets", "-q"]));

    // A second table in the same project.
    fs::create_dir(project.path("more")).unwrap();
    fs::write(project.path("more/a.wav"), wav(16_000)).unwrap();
    project.write("more/table.csv", "path,label,text\na.wav,a,yes\n");
    let answer = project.sure(&["init", "more", "--table", "more"]);
    assert!(
        answer.ok && answer.out.contains("is another folder") && answer.out.contains("--corpus table=\"more\""),
        "{answer:?}"
    );
    assert!(answer.err.contains("set is empty, and the workflow will fail"), "{answer:?}");
}

/// Writes a folder for each class with a table whose rows say so, and nothing else.
fn folders_of_classes(project: &Project, classes: &[&str]) {
    let mut rows = vec!["path,split,word".to_owned()];
    for (at, class) in classes.iter().enumerate() {
        fs::create_dir_all(project.path("by_class").join(class)).unwrap();
        for split in ["train", "dev", "test"] {
            fs::write(project.path(&format!("by_class/{class}/{split} {at}.wav")), wav(16_000)).unwrap();
            rows.push(format!("{class}/{split} {at}.wav,{split},{class}"));
        }
    }
    project.write("by_class/table.csv", &(rows.join("\n") + "\n"));
}

#[test]
fn init_takes_one_column_for_class_and_text_and_knows_settings_of_a_folder_above() {
    let project = recordings();
    folders_of_classes(&project, &["yes", "no"]);
    fs::create_dir(project.path("sub")).unwrap();
    project.write("sure.toml", "[checkpoints]\ncheckpoint = \"elsewhere\"\n");
    let below = |args: &[&str]| {
        let mut sure = std::process::Command::new(tests::executable("sure"));
        Answer::from(sure.args(args).current_dir(project.path("sub")).output().unwrap())
    };
    let columns = ["--label", "word", "--text", "word"];
    let said = below(&[&["init", "words", "--table", "../by_class"][..], &columns].concat());
    assert!(said.ok && said.out.contains("label: `word`; text: `word`; split: `split`"), "{said:?}");
    let root = project.path("").canonicalize().unwrap();
    let line = format!("add table = {:?} below `[corpora]` of {}", root.join("by_class"), root.join("sure.toml").display());
    assert!(said.out.contains(&line), "{line}: {said:?}");
    let said = below(&[&["init", "more", "--table", "../by_class", "--checkpoint", "../by_class"][..], &columns].concat());
    assert!(said.out.contains("is another folder") && said.out.contains("write that name into more.toml"), "{said:?}");
    good(below(&["run", "words.toml", "targets", "encoder_targets", "-q", "--corpus", "table=../by_class"]));

    // Errors are reported before anything runs.
    folders_of_classes(&project, &["yes"]);
    let said = project.sure(&[&["init", "one", "--table", "by_class"][..], &columns].concat());
    assert!(said.ok && said.out.contains("; 1 label: yes\n"), "{said:?}");
    assert!(said.err.contains("every row is `yes`, so there is nothing to tell apart"), "{said:?}");
    fs::create_dir(project.path("manifests")).unwrap();
    project.write("manifests/recordings.jsonl.gz", "");
    for (args, expected) in [
        (["--table", "manifests"].as_slice(), "`lhotse cut simple -r RECORDINGS -s SUPERVISIONS cuts.jsonl` there"),
        (&["--table", "recordings", "--checkpoint", "hub:someone/model"], "`Files and versions`"),
    ] {
        let answer = project.sure(&[&["init", "other"][..], args].concat());
        assert!(answer.code == Some(2) && answer.err.contains(expected), "{args:?}: {answer:?}");
    }
    assert!(!project.path("other.toml").exists());
}

#[test]
fn bounds_of_parameters_are_listed() {
    let listed = good(Project::new().sure(&["list", "peft.train", "lora"]));
    let line = |name: &str| listed.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
    assert!(line("rank ").contains("integer at least 1, default 8"), "{listed}");
    assert!(line("alpha ").contains("number above 0, default 1.0"), "{listed}");
    assert!(line("dropout ").contains("number at least 0 and below 1, default 0.0"), "{listed}");
}

#[test]
fn every_task_whose_columns_a_table_has_runs_on_it() {
    let project = recordings();
    for task in ["emotion", "keyword_spotting", "phoneme_recognition", "speaker", "speech_recognition", "tagging"] {
        let planned = good(project.sure(&["plan", task, "--set", "corpus=table", "--corpus", "table=recordings"]));
        assert!(planned.contains("train[method=lora"), "{planned}");
    }
    // Another corpus for the encoder is asked for as before.
    let sets = ["--set", "corpus=table", "--set", "encoder_corpus=fsdd"];
    let answer = project.sure(&[&["plan", "speaker", "--corpus", "table=recordings"][..], &sets].concat());
    assert!(answer.code == Some(1) && answer.err.contains("needs `corpora.fsdd`"), "{answer:?}");
}

#[test]
fn a_project_that_was_moved_keeps_its_results() {
    let project = recordings();
    good(project.sure(&["init", "mine", "--table", "recordings"]));
    let run = |folder: &str| {
        good(project.sure(&["run", "mine.toml", "shards#0", "-q", "--config", &format!("{folder}/sure.toml")]));
    };
    let path = |folder: &str| project.sure(&["path", "shards#0", "--config", &format!("{folder}/sure.toml")]);
    for folder in ["a", "c"] {
        fs::create_dir(project.path(folder)).unwrap();
    }
    project.write("a/sure.toml", "[corpora]\ntable = \"../recordings\"\n");
    run("a");
    fs::rename(project.path("a"), project.path("b")).unwrap();
    assert!(good(path("b")).contains("/b/.sure/"));

    // Another project with the same store.
    project.write("c/sure.toml", "store = \"../b/.sure\"\n[corpora]\ntable = \"../recordings\"\n");
    run("b");
    let answer = path("c");
    assert!(answer.code == Some(2) && answer.err.contains("no run of this project in this store"), "{answer:?}");
    assert!(answer.err.contains("/b/results`"), "{answer:?}");
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
    // Every figure of the page is there for a paper, confusion matrices included.
    let page = fs::read_to_string(project.path("results/mine/table/index.html")).unwrap();
    let links: Vec<&str> = page.split("href=\"figures/").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(links.iter().filter(|link| link.starts_with("confusion_") && link.ends_with(".pdf")).count(), 2, "{links:?}");
    for link in links {
        let content = fs::read(project.path("results/mine/table/figures").join(link)).unwrap();
        assert!(content.starts_with(if link.ends_with(".pdf") { b"%PDF" } else { b"<svg" }), "{link}");
    }
    for rank in ["2", "4"] {
        assert!(rows.contains(&vec!["table", "lora", "scratch", rank, "1"]), "{}", answer.out);
    }
    for file in [
        "models/method=lora,rank=2,seed=1/adapter_model.safetensors",
        "models/encoder scratch_voices/model.safetensors",
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
    let models = project.path("results/first_names/models");
    let model = fs::read_dir(models).unwrap().next().unwrap().unwrap().path();
    let card = fs::read_to_string(model.join("README.md")).unwrap();
    assert!(
        card.contains("for first names, ") && card.contains("| task | first_names (`speech_recognition`), protocol"),
        "{card}"
    );
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
    good(project.sure(&["completions", "man", "--pages", "man"]));
    for (page, expected) in
        [("sure.1", "Exit codes"), ("sure-run.1", "checkpoint"), ("sure-store-gc.1", ".TH"), ("sure-push.1", "upload")]
    {
        let text = fs::read_to_string(project.path("man").join(page)).unwrap();
        assert!(text.contains(expected), "{page}: {text}");
    }
    let refused = project.sure(&["completions", "bash", "--pages", "man"]);
    assert!(refused.code == Some(2) && refused.err.contains("--pages is for manual pages"), "{refused:?}");
}

/// Writes a table whose rows have none to two of three labels, in all splits.
fn several_labels(project: &Project) {
    let old = fs::read_to_string(project.path("recordings/table.csv")).unwrap();
    let clips = old.lines().skip(1).filter_map(|line| line.split(',').next());
    let clips: Vec<&str> = clips.filter(|clip| project.path("recordings").join(clip).is_file()).collect();
    let sets = ["first", "first;second", "second;third", "\"[\"\"third\"\"]\"", "\"[]\""];
    let splits = ["train", "train", "dev", "test"];
    let rows = clips.iter().enumerate().map(|(at, clip)| {
        let text = ["yes", "no"][at % 2];
        format!("{clip},{},{},{text}\n", splits[at % splits.len()], sets[at % sets.len()])
    });
    project.write("recordings/table.csv", &format!("path,split,label,text\n{}", rows.collect::<String>()));
}

#[test]
fn any_number_of_labels_is_learned_scored_and_answered() {
    let project = recordings();
    several_labels(&project);
    good(project.sure(&["init", "sounds", "--table", "recordings", "--task", "labels"]));
    let sets = ["size=tiny", "method=lora,finetune", "seed=1", "encoder_epochs=1", "train.max_steps=6", "train.eval_every=3"];
    let sets = sets.into_iter().chain(["train.save_every=3"]).flat_map(|set| ["--set", set]);
    let table = good(project.sure(&["run", "sounds.toml"].into_iter().chain(sets).collect::<Vec<_>>()));
    assert!(table.contains("sounds") && table.contains("mAP") && table.contains("macro F1"), "{table}");
    let begins: Vec<&str> =
        table.lines().filter(|line| line.contains(" against ")).map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(begins, ["sounds, table", "sounds, table, macro F1"], "{table}");
    let page = fs::read_to_string(project.path("results/sounds/table/index.html")).unwrap();
    for expected in ["<h3>Labels</h3>", "average precision", "<td>second</td>", "mAP by chance"] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    let errors = good(project.sure(&["errors", "evaluate[method=lora]"]));
    assert!(errors.contains("utterances wrong"), "{errors}");

    let path = |node: &str| std::path::PathBuf::from(good(project.sure(&["path", node])).lines().next().unwrap());
    let file = path("evaluate[method=lora]").join(scoring::predictions::FILE_NAME);
    let scoring::Predictions::Tags(expected) = scoring::predictions::read_any(&file).unwrap() else { panic!() };
    let labels = ["first", "second", "third"];
    let tests: Vec<String> = good(project.sure(&["path", "shards"])).lines().map(|part| format!("{part}/test.parquet")).collect();
    let adapter = path("train[method=lora]").join("adapter");
    let config = fs::read_to_string(adapter.join("config.json")).unwrap();
    assert!(config.contains("\"problem_type\": \"multi_label_classification\""), "{config}");
    for model in ["train[method=lora]", "train[method=finetune]"] {
        let mut args = vec!["predict", model, "--out", "answers.jsonl"];
        args.extend(tests.iter().map(String::as_str));
        good(project.sure(&args));
        if model.contains("finetune") {
            continue;
        }
        let text = fs::read_to_string(project.path("answers.jsonl")).unwrap();
        let answers: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(answers.len(), expected.len());
        for row in &expected {
            let answer = answers.iter().find(|answer| answer["id"] == *row.id).unwrap();
            assert_eq!(answer["labels"], serde_json::json!(row.predictions), "{answer}");
            let mut loss = 0.0;
            for (label, score) in labels.iter().zip(&row.scores) {
                let p = answer[format!("p_{label}")].as_f64().unwrap();
                assert!((p - f64::from(*score)).abs() < 1e-5, "{answer} {row:?}");
                let right = if row.labels.iter().any(|own| own == label) { p } else { 1.0 - p };
                loss -= right.ln() / labels.len() as f64;
            }
            assert!((loss - f64::from(row.loss)).abs() < 1e-4, "{answer} {row:?}");
        }
    }
    let refused = project.sure(&["run", "sounds.toml:targets", "--set", "targets.separator= "]);
    assert!(refused.code == Some(2) && refused.err.contains("separator"), "{refused:?}");
}

/// A project whose table has these lines; the recordings are those of the example.
fn with_table(lines: &str) -> Project {
    let project = recordings();
    let old = fs::read_to_string(project.path("recordings/table.csv")).unwrap();
    let clips: Vec<String> = old.lines().skip(1).map(|line| line.split(',').next().unwrap().to_owned()).collect();
    let clip = |text: String, at: usize| text.replace(&format!("CLIP{at}"), &clips[at]);
    good(project.sure(&["init", "mine", "--table", "recordings"]));
    project.write("recordings/table.csv", &(0..6).fold(lines.to_owned(), clip));
    project
}

#[test]
fn tables_that_teach_nothing_are_refused_with_a_reason() {
    for (lines, expected, hint) in [
        (
            "path,split\nCLIP0,train\nCLIP1,dev\nCLIP2,test\n",
            "the train set has no utterance for keyword_spotting: 1 in the shards, left out: 1 no label",
            "needs the column that the task learns: `label`",
        ),
        (
            "path,split,label\nCLIP0,train,a\nCLIP1,train,a\nCLIP2,dev,a\nCLIP3,test,a\n",
            "all 2 utterances of the train set are `a`: there is nothing to tell apart",
            "need two labels or more",
        ),
        (
            "path,label\nCLIP0,a\nCLIP1,b\n",
            "set has no utterance for keyword_spotting: 0 in the shards",
            "needs rows of each split",
        ),
        (
            "path,split,label\nCLIP0,train,a\nCLIP1,train,b\nCLIP2,dev,c\nCLIP3,test,a\n",
            "1 utterance of the dev set is `c`, the first `",
            "give the train set utterances of each",
        ),
        (
            "path,split,label\nCLIP0,train,1\nCLIP1,train,1.0\nCLIP2,dev,1\nCLIP3,test,1\n",
            "labels `1` (table.csv:2) and `1.0` (table.csv:3) are one number",
            "",
        ),
    ] {
        let answer = with_table(lines).sure(&["run", "mine.toml", "targets", "-q"]);
        assert!(answer.code == Some(1) && answer.err.contains(expected) && answer.err.contains(hint), "{lines}: {answer:?}");
        assert!(!answer.err.contains("panicked"), "{answer:?}");
    }
    let cases = "path,split,label\nCLIP0,train,Yes\nCLIP1,train,yes\nCLIP2,train,no\nCLIP3,dev,no\nCLIP4,test,yes\n";
    let answer = with_table(cases).sure(&["run", "mine.toml", "targets"]);
    assert!(answer.ok && answer.err.contains("differ only in case") && answer.err.contains("`Yes`"), "{answer:?}");
}

#[test]
fn a_clip_that_no_memory_holds_is_named_before_training() {
    let rows = "long.wav,train,a,yes\nCLIP1,train,b,no\nCLIP2,dev,a,yes\nCLIP3,test,b,no\n";
    let project = with_table(&format!("path,split,label,text\n{rows}"));
    fs::write(project.path("recordings/long.wav"), wav(601 * 16_000)).unwrap();
    let answer = project.sure(&["run", "mine.toml", "scratch", "-q"]);
    assert!(answer.code == Some(1) && answer.err.contains("of the train set has 601.0 s"), "{answer:?}");
    assert!(answer.err.contains("clips may have 600 s (1 utterance is longer)"), "{answer:?}");
    assert!(answer.err.contains("columns `start` and `end`"), "{answer:?}");
    // The way out that the hint names.
    let without = ["run", "mine.toml", "scratch", "-q", "--max-steps", "2", "--set", "audio.shards.max_duration_secs=60"];
    good(project.sure(&without));
}

#[test]
fn sweeps_and_encoders_that_cannot_be_meant_are_refused() {
    let project = with_table("path,split,label,text\nCLIP0,train,a,yes\nCLIP1,train,b,no\nCLIP2,dev,b,no\nCLIP3,test,a,yes\n");
    let list = |count: usize, end: &str| (1..=count).map(|at| format!("{at}{end}")).collect::<Vec<_>>().join(",");
    let (rates, ranks) = (format!("train.learning_rate={}", list(100, "e-4")), format!("train.method.rank={}", list(100, "")));
    let sweep = ["plan", "mine.toml", "--set", &rates, "--set", &ranks, "--set", "method=lora"];
    let answer = project.sure(&sweep);
    assert!(answer.code == Some(2) && answer.err.contains("the sweep has 10000 points"), "{answer:?}");
    assert!(answer.err.contains("`--yes` when that is meant"), "{answer:?}");

    fs::create_dir(project.path("empty_encoder")).unwrap();
    let config = r#"{"model_type":"wav2vec2","hidden_size":16,"num_hidden_layers":1,"architectures":["Wav2Vec2Model"]}"#;
    project.write("empty_encoder/config.json", config);
    let answer = project.sure(&["plan", "mine.toml", "--checkpoint", "./empty_encoder"]);
    assert!(answer.code == Some(1) && answer.err.contains("no weights in"), "{answer:?}");

    fs::create_dir_all(project.path("other/empty_encoder")).unwrap();
    for (args, expected) in [
        (["--checkpoint", "./empty_encoder", "--checkpoint", "other/empty_encoder"], "would both be called `empty_encoder`"),
        (["--set", "method=lora", "--set", "method=finetune"], "`--set method=lora,finetune`"),
        (["--max-steps", "3", "--set", "peft.train.max_steps=4"], "and --max-steps set the same parameter"),
        (["--corpus", "table=recordings", "--corpus", "table=other"], "--corpus table is given twice: `recordings` and `other`"),
    ] {
        let answer = project.sure(&[&["plan", "mine.toml"][..], &args].concat());
        assert!(answer.code == Some(2) && answer.err.contains(expected), "{args:?}: {answer:?}");
    }

    // A workflow may be called as one of its stages.
    good(project.sure(&["init", "train", "--table", "recordings"]));
    assert!(good(project.sure(&["plan", "train.toml"])).contains("train[method=lora,seed=1]"));
}
