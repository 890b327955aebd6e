//! A user's mistakes: a clear error that names the thing, exit code not 0, nothing lost.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::Value;
use tests::{Project, executable, wav};

/// Makes the shards of the tiny workflow and expects that to fail with all of these texts.
#[track_caller]
fn fails(project: &Project, texts: &[&str]) {
    fails_at(project, &["run", "./tiny.toml", "shards"], texts);
}

/// Expects a command to fail with all of these texts.
#[track_caller]
fn fails_at(project: &Project, command: &[&str], texts: &[&str]) {
    let answer = project.sure(command);
    assert!(!answer.ok, "should fail; said {}", answer.err);
    for text in texts {
        assert!(answer.err.contains(text), "`{text}` is not in:\n{}", answer.err);
    }
    assert!(!answer.err.contains("panicked"), "{}", answer.err);
}

#[test]
fn a_missing_or_empty_corpus_is_named_with_what_to_do() {
    let project = Project::new();
    project.write("sure.toml", "");
    fails(&project, &["corpora.speech_commands", "--corpus speech_commands=FOLDER"]);
    project.write("sure.toml", "[corpora]\nspeech_commands = \"nowhere\"\n");
    fails(&project, &["nowhere"]);
    fs::create_dir(project.path("empty")).unwrap();
    project.write("sure.toml", "[corpora]\nspeech_commands = \"empty\"\n");
    fails(&project, &["empty"]);
}

#[test]
fn settings_with_a_typo_name_file_and_line() {
    let project = Project::new();
    project.write("sure.toml", "\n[corpra]\nfsdd = \"x\"\n");
    fails(&project, &["sure.toml:2", "corpra", "did you mean `corpora`?"]);
}

#[test]
fn settings_in_another_encoding_and_a_store_that_is_a_file_are_named() {
    let project = Project::new();
    fs::write(project.path("sure.toml"), b"store = \".sure\"\n# caf\xe9\n").unwrap();
    fails(&project, &["sure.toml:2: not UTF-8", "save the file as UTF-8"]);
    project.write("sure.toml", "store = \"tiny.toml\"\n[corpora]\nspeech_commands = \"corpus\"\n");
    fails(&project, &["tiny.toml", "a store is a folder"]);
}

#[test]
fn all_mistakes_of_a_workflow_are_shown_at_once() {
    let project = Project::new();
    project.replace("tiny.toml", "run = \"audio.shards\"", "run = \"audio.shard\"");
    project.replace("tiny.toml", "max_steps = 24", "max_step = 24");
    project.replace("tiny.toml", "inputs.model = \"train\"", "inputs.modle = \"trian\"");
    let texts =
        ["audio.shard", "did you mean `audio.shards`?", "max_step", "did you mean `max_steps`?", "modle", "trian", "tiny.toml:"];
    fails_at(&project, &["plan", "./tiny.toml"], &texts);
}

#[test]
fn broken_recordings_become_rejects_and_too_many_fail_the_node() {
    let project = Project::new();
    let word = project.path("corpus/stop");
    let mut files: Vec<_> = fs::read_dir(word).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    fs::write(&files[0], b"this is no recording").unwrap();
    fails(&project, &[files[0].file_name().unwrap().to_str().unwrap()]);
    project.replace("tiny.toml", "max_reject_share = 0.01", "max_reject_share = 0.2");
    assert!(project.sure(&["run", "./tiny.toml", "shards"]).ok);
}

#[test]
fn a_checkpoint_of_something_else_or_cut_short_is_refused_before_anything_is_made() {
    let project = Project::of("speech_commands");
    let settings = "[corpora]\nspeech_commands = \"corpus\"\n[checkpoints]\nbackbone = \"encoder\"\n";
    project.write("sure.toml", settings);
    fs::create_dir(project.path("encoder")).unwrap();
    project.write("encoder/config.json", r#"{"model_type":"bert"}"#);
    project.write("encoder/model.safetensors", "\u{2}\0\0\0\0\0\0\0{}");
    let command = ["plan", "keyword_spotting", "--set", "backbone=published"];
    fails_at(&project, &command, &["describes a `bert`, expected one of `wav2vec2`", "hint: point `checkpoints`"]);
    project.write("encoder/config.json", r#"{"model_type":"wav2vec2","hidden_size":16,"num_hidden_layers":1}"#);
    project.write("encoder/model.safetensors", "\u{2}\0\0\0\0\0\0\0{");
    let command = ["run", "keyword_spotting", "--set", "backbone=published"];
    fails_at(&project, &command, &["model.safetensors` is damaged", "hint: fetch or copy the file again", "19 nodes not run"]);
    let doctor = project.sure(&["doctor"]);
    assert!(!doctor.ok && doctor.out.contains("model.safetensors` is damaged"), "{}", doctor.out);
    // Settings that cannot be read are one more mistake.
    fs::set_permissions(project.path("sure.toml"), fs::Permissions::from_mode(0o000)).unwrap();
    let doctor = project.sure_without_privileges(&["doctor"]);
    assert!(doctor.out.contains("sure.toml: cannot be read: Permission denied"), "{}{}", doctor.out, doctor.err);
    assert!(!doctor.ok && doctor.out.contains("cpu pool"), "{}", doctor.out);
}

/// The encoder of the tiny workflow sees some 850 samples for one frame; published ones see 400.
#[test]
fn clips_shorter_than_a_frame_are_learned_and_tested_and_empty_ones_left_out() {
    let project = Project::new();
    project.replace("tiny.toml", "max_reject_share = 0.01", "max_reject_share = 0.2");
    project.replace("tiny.toml", "max_steps = 24", "max_steps = 2");
    let workflow = fs::read_to_string(project.path("tiny.toml")).unwrap();
    let alone = workflow.lines().map(|line| if line.starts_with("batch_secs") { "batch_secs = 0.01" } else { line });
    project.write("tiny.toml", &alone.collect::<Vec<_>>().join("\n"));
    let listed = |name: &str| fs::read_to_string(project.path(name)).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
    let (test, dev) = (listed("corpus/testing_list.txt"), listed("corpus/validation_list.txt"));
    let mut stop: Vec<_> = fs::read_dir(project.path("corpus/stop")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    stop.sort();
    let names = stop.into_iter().map(|name| format!("stop/{}", name.into_string().unwrap()));
    let train: Vec<_> = names.filter(|name| !test.contains(name) && !dev.contains(name)).collect();
    for (clip, len) in [(&train[0], 1), (&train[1], 0), (&test[0], 10), (&dev[0], 399)] {
        fs::write(project.path("corpus").join(clip), wav(len)).unwrap();
    }
    let answer = project.sure(&["run", "./tiny.toml", "--set", "method=lora"]);
    assert!(answer.ok, "{}", answer.err);
    let expected = format!("1 utterance left out, see rejects.parquet; the first: {}: 0 samples", train[1]);
    assert!(answer.err.contains(&expected), "{}", answer.err);
    let tested = answer.out.lines().find(|line| line.contains(" lora ") && line.contains("scratch")).unwrap();
    assert!(tested.trim_end().ends_with(&test.len().to_string()), "the clip of 10 samples is tested: {tested}");
}

#[test]
fn a_word_that_no_training_recording_says_is_refused_or_left_out_by_name() {
    let project = Project::new();
    let lists =
        ["testing", "validation"].map(|list| fs::read_to_string(project.path(&format!("corpus/{list}_list.txt"))).unwrap());
    for entry in fs::read_dir(project.path("corpus/stop")).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("stop/{}", path.file_name().unwrap().to_str().unwrap());
        if !lists.iter().any(|list| list.contains(&name)) {
            fs::remove_file(path).unwrap();
        }
    }
    let leave_out = "task.targets.unknown_labels=leave_out";
    let texts = [
        "of the dev set are `stop`, the first `stop/",
        "of the test set are `stop`",
        "those of the train set are `off`",
        leave_out,
    ];
    fails_at(&project, &["run", "./tiny.toml:targets"], &texts);
    let answer = project.sure(&["run", "./tiny.toml:targets", "--set", leave_out]);
    assert!(answer.ok && answer.err.contains("left out: no training utterance is `stop`"), "{}", answer.err);
    assert!(answer.err.contains("targets: train: no utterance is `stop`: not learned"), "{}", answer.err);
}

#[test]
fn a_missing_worker_fails_the_neural_nodes_only_and_says_how_to_get_it() {
    let project = Project::new();
    project.write("sure.toml", "worker = \"./no-such-worker\"\n[corpora]\nspeech_commands = \"corpus\"\n");
    let answer = project.sure(&["run", "./tiny.toml", "--keep-going"]);
    assert_eq!(answer.code, Some(1));
    assert!(answer.err.contains("no-such-worker") && answer.err.contains("make build"), "{}", answer.err);
    assert!(project.planned("reuse").iter().any(|node| node.starts_with("shards")), "what was finished is kept");
}

#[test]
fn a_store_that_cannot_be_written_is_named() {
    let project = Project::new();
    project.write("occupied", "a file where the store should be");
    let answer = project.sure(&["run", "./tiny.toml", "--store", "occupied"]);
    assert!(answer.code == Some(2) && answer.err.contains("occupied"), "{}", answer.err);
}

#[test]
fn a_reader_that_leaves_early_ends_a_listing_without_a_word() {
    for command in [["corpus", "list"], ["list", "peft.train"]] {
        let mut program = Command::new(executable("sure"));
        let mut child = program.args(command).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        assert!(ended.status.success() && ended.stderr.is_empty(), "{}", String::from_utf8_lossy(&ended.stderr));
    }
}

/// `/dev/full` is a file on a full disk.
#[test]
fn lines_that_cannot_be_written_end_no_command_with_a_panic() {
    let project = Project::new();
    let full = || fs::File::options().write(true).open("/dev/full").unwrap();
    let code = |args: &[&str], out: Stdio, err: Stdio| {
        let mut program = Command::new(executable("sure"));
        program.args(args).current_dir(project.path("")).stdin(Stdio::null()).stdout(out).stderr(err);
        let ended = program.output().unwrap();
        (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
    };
    let err = |args: &[&str]| code(args, Stdio::null(), full().into()).0;
    assert_eq!(err(&["run", "./tiny.toml:shards"]), Some(0), "its progress is lost, and nothing else");
    assert_eq!(err(&["plan", "./no-such-file.toml"]), Some(2));
    assert_eq!(err(&["no-such-command"]), Some(2));
    assert_eq!(err(&["prepare", "speech_commands", "--root", "corpus", "--out", "shards"]), Some(0));
    for args in [&["list"][..], &["plan", "./tiny.toml"], &["schema"], &["corpus", "list"]] {
        let (code, err) = code(args, full().into(), Stdio::piped());
        assert!(code == Some(2) && err.starts_with("error: ") && err.contains("No space left"), "{args:?}: {code:?} {err}");
    }
}

#[test]
fn a_source_that_fails_leaves_the_rest_of_a_plan_and_of_a_run() {
    let project = Project::new();
    project.write("sure.toml", "worker = \"./no-such-worker\"\n");
    let plan = project.sure(&["plan", "./tiny.toml"]);
    assert_eq!(plan.code, Some(1));
    assert!(plan.err.contains("`manifest` needs `corpora.speech_commands`") && plan.err.contains("hint: "), "{}", plan.err);
    assert!(plan.out.contains("shards#0-3  cannot run, since manifest fails"), "{}", plan.out);
    assert!(plan.out.contains("random[seed=1314]  run: never ran here"), "{}", plan.out);
    let json: Value = serde_json::from_str(&project.sure(&["plan", "./tiny.toml", "--json"]).out).unwrap();
    assert_eq!(json["counts"]["blocked"], json["nodes"].as_array().unwrap().len() - 1);
    let why = project.sure(&["why", "./tiny.toml:targets"]);
    assert!(why.code == Some(1) && why.out.contains("targets cannot run, since manifest fails"), "{}{}", why.out, why.err);

    let run = project.sure(&["run", "./tiny.toml", "--keep-going"]);
    assert_eq!(run.code, Some(1));
    assert!(run.err.contains("error: random[seed=1314]"), "what does not depend on it was tried: {}", run.err);
    assert!(run.err.contains("12 nodes not run, since manifest failed"), "{}", run.err);
}

#[test]
fn a_damaged_checkpoint_is_named_with_what_took_it_in() {
    let project = Project::new();
    fs::create_dir(project.path("backbone")).unwrap();
    project.write("backbone/config.json", "{}");
    project.write("backbone/model.safetensors", "\u{2}\0\0\0\0\0\0\0{}"); // whole, but empty: only training finds that out
    project.write("sure.toml", "[corpora]\nspeech_commands = \"corpus\"\n[checkpoints]\nbackbone = \"backbone\"\n");
    let command = ["run", "./tiny.toml:train[method=lora]", "--set", "backbone=published"];
    fails_at(
        &project,
        &command,
        &["no tensor of an encoder is among them", "hint: take config.json and weights from one", "made by `published`"],
    );
    assert!(!project.planned("reuse").iter().any(|node| node.starts_with("train")));
}

#[test]
fn corpora_that_this_machine_lacks_are_left_out_and_reported() {
    let project = Project::new();
    let table = "[stages.table]\nrun = \"report.table\"\ntitle = \"Two\"\ngather = [\"*\"]\ninputs.scores = \"score\"\n";
    let used = "[use.task]\ntiny = { workflow = \"./tiny.toml\", corpus = [\"speech_commands\", \"fsdd\"] }\n";
    project.write("two.toml", &format!("[workflow]\nname = \"two\"\nabout = \"two corpora\"\n{used}{table}"));
    let plan = project.sure(&["plan", "./two.toml"]);
    assert!(plan.ok && plan.err.contains("left out, since this machine has no folder for them: fsdd"), "{}", plan.err);
    assert!(plan.out.contains("score[corpus=speech_commands,") && !plan.out.contains("corpus=fsdd"), "{}", plan.out);
    for _ in 0..2 {
        // The second time nothing has changed, and a shorter way is taken.
        let run = project.sure(&["run", "./two.toml:shards", "-q"]);
        assert_eq!(run.code, Some(1), "{}", run.err);
        assert!(run.err.contains("warning: left out") && run.err.contains("--allow-missing"), "{}", run.err);
    }
    let allowed = project.sure(&["run", "./two.toml:shards", "-q", "--allow-missing"]);
    assert!(allowed.ok && allowed.err.contains("note: left out"), "{}", allowed.err);
    // When the corpus comes, it is part of the same request again.
    fs::rename(project.path("corpus"), project.path("moved")).unwrap();
    let none = project.sure(&["run", "./two.toml:shards", "-q", "--allow-missing"]);
    assert!(none.code == Some(2) || none.code == Some(1), "{none:?}");
    assert!(none.err.contains("corpora.speech_commands") || none.err.contains("corpora.fsdd"), "{}", none.err);
}

#[test]
fn a_cell_that_needs_another_corpus_is_left_out_with_it_and_other_tasks_do_not_care() {
    let project = Project::of("librispeech");
    // LibriTTS is there, and its voices need VCTK too.
    let plan = project.sure(&["plan", "benchmark", "--set", "size=tiny", "--corpus", "libritts=corpus"]);
    let expected = "note: left out, since this machine has no folder for them: audio_snips, esd, fleurs, fluent_speech_commands, \
        l2_arctic, meld, speech_commands, vctk; and libritts, which need them";
    assert!(plan.ok && plan.err.contains(expected), "{}", plan.err);
    assert!(plan.out.contains("task=phoneme_recognition") && !plan.out.contains("synthesis"), "{}", plan.out);
    let narrow = project.sure(&["plan", "benchmark", "--set", "size=tiny", "--set", "task=phoneme_recognition"]);
    assert!(narrow.ok && !narrow.err.contains("left out"), "{}", narrow.err);
    let none = project.sure(&["plan", "benchmark", "--set", "task=speech_synthesis", "--corpus", "libritts=corpus"]);
    assert!(none.code == Some(1) && none.err.contains("corpora.vctk"), "{}", none.err);
}

#[test]
fn speech_that_cannot_be_made_is_refused_before_a_voice_is_looked_for() {
    let project = Project::new();
    let say = |arguments: &[&str], texts: &[&str]| {
        fails_at(&project, &[&["say", "--voice", "nowhere", "a text"], arguments].concat(), texts);
    };
    say(&["-o", "a.mp3"], &["`a.mp3`", "name a file that ends in `.wav`"]);
    say(&["-o", "-"], &["`-`", "name a file that ends in `.wav`"]);
    say(&["-o", "a.wav", "--pace", "nan"], &["--pace: must be between 0.1 and 10"]);
    say(&["-o", "a.wav", "--pitch", "30"], &["--pitch: must be between -24 and 24 semitones"]);
    say(&["-o", "a.wav", "--griffin-lim", "0"], &["--griffin-lim"]);
}
