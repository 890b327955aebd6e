//! A trained model answers recordings: the same as in its workflow, from wherever model and recordings are.

mod tasks;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use scoring::predictions::{FILE_NAME, Predictions, read_any};
use serde_json::Value;
use tests::{Answer, Project, contents, executable};

#[track_caller]
fn good(answer: Answer) -> String {
    assert!(answer.ok, "{}\n{}", answer.out, answer.err);
    answer.out
}

fn path(project: &Project, node: &str) -> Vec<PathBuf> {
    good(project.sure(&["path", node])).lines().map(PathBuf::from).collect()
}

/// The parts of the test set, in shards.
fn test_set(project: &Project) -> Vec<String> {
    path(project, "shards").iter().map(|part| part.join("test.parquet").display().to_string()).collect()
}

/// Answers by id.
fn answers(file: &Path) -> BTreeMap<String, Value> {
    let text = fs::read_to_string(file).unwrap();
    let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.map(|row| (row["id"].as_str().unwrap().to_owned(), row)).collect()
}

/// Asks a model about the test set.
#[track_caller]
fn ask(project: &Project, model: &str, more: &[&str]) -> BTreeMap<String, Value> {
    let test = test_set(project);
    let mut args = vec!["predict", model, "--out", "answers.jsonl"];
    args.extend(test.iter().map(String::as_str).chain(more.iter().copied()));
    good(project.sure(&args));
    answers(&project.path("answers.jsonl"))
}

fn predictions(project: &Project, node: &str) -> Predictions {
    read_any(&path(project, node)[0].join(FILE_NAME)).unwrap()
}

fn copy(from: &Path, to: &Path) {
    for (name, bytes) in contents(from) {
        let path = to.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// A short run of the workflow with classes.
fn trained() -> Project {
    let project = Project::new();
    good(project.sure(&["run", "./tiny.toml", "-q"]));
    project
}

#[test]
fn classes_are_those_of_the_workflow() {
    let project = trained();
    let mut of_node = BTreeMap::new();
    for method in ["finetune", "lora"] {
        let found = ask(&project, &format!("train[method={method}]"), &[]);
        let Predictions::Classes(expected) = predictions(&project, &format!("evaluate[method={method}]")) else { panic!() };
        assert_eq!(found.len(), expected.len());
        for row in expected {
            let answer = &found[&row.id];
            assert_eq!(answer["prediction"], row.prediction_text, "{answer}");
            let p = |label: &str| answer[format!("p_{label}")].as_f64().unwrap();
            assert!((-p(&row.label_text).ln() - f64::from(row.loss)).abs() < 1e-4, "{answer} {row:?}");
            assert!((p(&row.prediction_text) - answer["probability"].as_f64().unwrap()).abs() < 1e-9, "{answer}");
        }
        of_node.insert(method, found);
    }

    // By the links to its folder, and far from its store with its encoder.
    let links = [("finetune", "encoder method=finetune,seed=1314"), ("lora", "method=lora,seed=1314")];
    let links = links.map(|(method, name)| (method, format!("results/tiny/models/{name}")));
    for (method, link) in &links {
        assert_eq!(ask(&project, link, &[]), of_node[method]);
    }
    let (far, encoder) = (project.path("elsewhere/adapter"), project.path("elsewhere/encoder"));
    copy(&project.path(&links[1].1).canonicalize().unwrap(), &far);
    copy(&project.path(&links[0].1).canonicalize().unwrap(), &encoder);
    assert_eq!(ask(&project, "elsewhere/adapter", &["--checkpoint", "elsewhere/encoder"]), of_node["lora"]);
    assert_eq!(ask(&project, "elsewhere/encoder", &[]), of_node["finetune"]);

    // Recordings themselves, as CSV on standard output and as Parquet.
    let csv = good(project.sure(&["predict", "train[method=lora]", "corpus"]));
    let mut lines = csv.lines();
    let head: Vec<&str> = lines.next().unwrap().split(',').collect();
    assert!(head[..4] == ["id", "secs", "prediction", "probability"] && head.contains(&"p_yes"), "{csv}");
    let told: BTreeMap<&str, &str> =
        lines.map(|line| (line.split(',').next().unwrap(), line.split(',').nth(2).unwrap())).collect();
    for (id, answer) in &of_node["lora"] {
        assert_eq!(told.get(format!("corpus/{id}.wav").as_str()).copied(), answer["prediction"].as_str(), "{id}");
    }
    good(project.sure(&["predict", "train[method=lora]", "corpus", "--out", "all.parquet"]));
    assert!(fs::read(project.path("all.parquet")).unwrap().starts_with(b"PAR1"));
    let leftovers = |name: &str| name.starts_with(".sure-predict");
    assert!(!fs::read_dir(project.path("")).unwrap().flatten().any(|entry| leftovers(&entry.file_name().to_string_lossy())));

    refusals(&project);
}

/// What cannot be answered is refused with a reason, and leaves no file.
#[expect(clippy::print_stderr, reason = "a test says aloud what it skips")]
fn refusals(project: &Project) {
    let model = "train[method=lora]";
    project.write("notes.txt", "no recording");
    project.write("film.mkv", "not even a film");
    fs::create_dir(project.path("empty")).unwrap();
    copy(&project.path("elsewhere/adapter"), &project.path("damaged"));
    project.write("damaged/training.json", "{}");
    copy(&project.path("elsewhere/adapter"), &project.path("old"));
    fs::remove_file(project.path("old/task.json")).unwrap();
    let wav = &*path(project, "manifest")[0].display().to_string();
    for (args, expected) in [
        (&[model, "notes.txt"][..], "`notes.txt` is no recording"),
        (&[model, "film.mkv"], "none of 1 recordings can be answered; film.mkv: "),
        (&[model, "empty"], "no recordings in `empty`"),
        (&[model, "nowhere.wav"], "no file or folder `nowhere.wav`"),
        (&[model, "corpus", "--out", "answers.txt"], "name a file that ends in .csv, .jsonl or .parquet"),
        (&[model, "corpus", "--out", "nowhere/answers.csv"], "--out nowhere/answers.csv: no folder `nowhere`"),
        (&[model, "corpus", "--max-secs", "0.01"], "longer than the 0.01 s of --max-secs"),
        (&[model, "corpus", "--similar-to", "corpus"], "needs a model of voices"),
        (&["train", "corpus"], "`train` names 2 models"),
        (&["evaluate", "corpus"], "`evaluate` trains no model"),
        (&["trian", "corpus"], "did you mean `train`?"),
        (&["./nowhere", "corpus"], "no folder `./nowhere`"),
        (&["corpus", "corpus"], "contains no model"),
        (&[wav, "corpus"], "contains no model"),
        (&["elsewhere/adapter", "corpus"], "needs the encoder that it was trained on"),
        (&["elsewhere/adapter", "corpus", "--checkpoint", "elsewhere/adapter"], "no weights in"),
        (&["damaged", "corpus", "--checkpoint", "elsewhere/encoder"], "is not the summary of a training"),
        (&["old", "corpus", "--checkpoint", "elsewhere/encoder"], "has no `task.json`: an earlier version trained it"),
    ] {
        let mut all = vec!["predict"];
        all.extend(args);
        if !args.contains(&"--out") {
            all.extend(["--out", "refused.csv"]);
        }
        let answer = project.sure(&all);
        assert!(answer.code == Some(2) && answer.err.contains(expected), "{args:?}: {answer:?}");
        assert!(!project.path("refused.csv").exists() && !answer.err.contains("panicked"), "{args:?}: {answer:?}");
    }
    // One that cannot be read among others: the others are answered, and the exit code says so.
    fs::write(project.path("empty/bad.wav"), "RIFF").unwrap();
    let first = fs::read_dir(project.path("corpus/yes")).unwrap().flatten().next().unwrap().path();
    fs::copy(&first, project.path("empty/good.wav")).unwrap();
    let answer = project.sure(&["predict", model, "empty"]);
    assert!(answer.code == Some(1) && answer.err.contains("left out: empty/bad.wav: "), "{answer:?}");
    assert!(answer.out.lines().count() == 2 && answer.out.contains("empty/good.wav,"), "{answer:?}");
    // A video gives its sound, or the reason why it has none.
    let video = |name: &str, inputs: &[&str]| {
        let made =
            Command::new("ffmpeg").args(["-v", "error"]).args(inputs).arg(project.path(name)).stdin(Stdio::null()).status();
        made.is_ok_and(|status| status.success())
    };
    let (picture, sound) = (["-f", "lavfi", "-i", "testsrc=d=1:s=64x64:r=5"], ["-f", "lavfi", "-i", "sine=d=1"]);
    if video("silent.mp4", &picture) && video("loud.mp4", &[picture, sound].concat()) {
        let answer = project.sure(&["predict", model, "silent.mp4"]);
        assert!(answer.code == Some(2) && answer.err.contains("silent.mp4: mp4: no audio track"), "{answer:?}");
        assert!(good(project.sure(&["predict", model, "loud.mp4"])).contains("loud.mp4,1"));
    } else {
        assert!(std::env::var_os("SURE_NEEDS_TOOLS").is_none(), "`ffmpeg` is not on PATH");
    }
    // A disk without room for the answers, and one without room for anything.
    for (size, filled) in [("64k", "8"), ("8k", "2")] {
        fs::create_dir_all(project.path("small")).unwrap();
        let mount = format!("mount -t tmpfs -o size={size} tmpfs small");
        let fill = format!("dd if=/dev/zero of=small/filler bs=4096 count={filled} 2>/dev/null");
        let predict = format!("exec $SURE predict '{model}' corpus --out small/answers.jsonl");
        let mut shell = Command::new("unshare");
        shell.args(["--mount", "sh", "-c", &format!("{mount} || exit 77; {fill}; {predict}")]).current_dir(project.path(""));
        shell.env("SURE", executable("sure")).stdin(Stdio::null());
        let Ok(output) = shell.output() else { break };
        if output.status.code() == Some(77) || String::from_utf8_lossy(&output.stderr).contains("unshare failed") {
            eprintln!("no small file systems can be mounted here: full disks are not tested");
            break;
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(2) && said.contains("No space left") && said.contains("hint: make room"),
            "{size}: {said}"
        );
    }
    // A full disk behind standard output.
    let mut full = Command::new(executable("sure"));
    full.args(["predict", model, "empty/good.wav"]).current_dir(project.path("")).stdout(File::create("/dev/full").unwrap());
    let output = full.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("cannot write the answers to standard output"), "{said}");
}

/// Runs a workflow that comes with the program, small and short.
fn run_briefly(corpus: &str, workflow: &str, more: &[&str]) -> Project {
    let project = Project::of(corpus);
    let encoder = format!("encoder_corpus={corpus}");
    let sets = ["size=tiny", "method=lora", &encoder, "train.max_steps=6", "train.eval_every=3", "train.save_every=3"];
    let name = |set: &str| set.split('=').next().unwrap_or_default().to_owned();
    let sets = sets.iter().filter(|set| more.iter().all(|other| name(other) != name(set)));
    let args: Vec<&str> = sets.chain(more).flat_map(|set| ["--set", set]).collect();
    good(project.sure(&[&["run", workflow, "-q"], &args[..]].concat()));
    project
}

#[test]
fn texts_are_those_of_the_workflow_and_words_have_times() {
    let project = run_briefly("librispeech", "speech_recognition", &["encoder_epochs=3", "train.max_steps=30", "seed=3"]);
    let found = ask(&project, "train", &[]);
    let Predictions::Texts(expected) = predictions(&project, "evaluate") else { panic!() };
    assert_eq!(found.len(), expected.len());
    assert!(expected.iter().any(|row| !row.hypothesis.is_empty()), "{expected:?}");
    for row in expected {
        let answer = &found[&row.id];
        assert_eq!(answer["text"], row.hypothesis, "{answer}");
        let words = answer["words"].as_array().unwrap();
        let text: Vec<&str> = words.iter().map(|word| word["word"].as_str().unwrap()).collect();
        assert_eq!(text.join(" "), row.hypothesis);
        let mut last = 0.0;
        for time in words.iter().flat_map(|word| [&word["start"], &word["end"]]).map(|time| time.as_f64().unwrap()) {
            assert!(time >= last && time <= answer["secs"].as_f64().unwrap(), "{answer}");
            last = time;
        }
    }
    // The best of the whole is at least as likely as the best of each frame: other texts may come.
    assert_eq!(ask(&project, "train", &["--beam", "4"]).len(), found.len());
}

#[test]
fn voices_are_compared_as_in_the_workflow() {
    let more = ["encoder_epochs=1", "score=speaker_verification", "evaluate.trials=40", "manifest.partitions=1"];
    let project = run_briefly("esd", "speaker", &more);
    let Predictions::Trials(trials) = predictions(&project, "evaluate") else { panic!() };
    let enrolled = &trials[0].enrol_id;
    let list = fs::read_to_string(path(&project, "manifest")[0].join("parts/00000/utterances.jsonl")).unwrap();
    let mut entries = list.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let entry = entries.find(|entry| entry["id"] == **enrolled).unwrap();
    let recording = format!("corpus/{}", entry["path"].as_str().unwrap());
    let found = ask(&project, "train", &["--similar-to", &recording]);
    let mut compared = 0;
    for trial in trials.iter().filter(|trial| trial.enrol_id == *enrolled) {
        let similarity = found[&trial.test_id]["similarity"].as_f64().unwrap();
        assert!((similarity - trial.score).abs() < 1e-5, "{trial:?} {similarity}");
        compared += 1;
    }
    assert!(compared > 0 && found.values().all(|answer| answer["prediction"].is_string()));
}
