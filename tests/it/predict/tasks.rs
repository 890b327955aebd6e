//! Every task and every method answers as in its workflow; models of other programs answer too.

use scoring::slots::{slots, without_markers};

use super::*;

const METHODS: [&str; 12] =
    ["finetune", "bottleneck", "prefix", "lora", "convadapter", "head_only", "ia3", "bitfit", "dora", "pissa", "adalora", "vera"];

/// Answers of a model of classes are those of an evaluation.
#[track_caller]
fn same_classes(found: &BTreeMap<String, Value>, expected: Predictions) {
    let Predictions::Classes(expected) = expected else { panic!() };
    assert_eq!(found.len(), expected.len());
    for row in expected {
        let answer = &found[&row.id];
        assert_eq!(answer["prediction"], row.prediction_text, "{answer}");
        let p = answer[format!("p_{}", row.label_text)].as_f64().unwrap();
        assert!((-p.ln() - f64::from(row.loss)).abs() < 1e-4, "{answer} {row:?}");
    }
}

#[test]
fn every_method_answers_as_in_its_workflow() {
    let methods = format!("method={}", METHODS.join(","));
    let project = run_briefly("speech_commands", "keyword_spotting", &["encoder_epochs=1", &methods]);
    let mut losses = std::collections::BTreeSet::new();
    for method in METHODS {
        let expected = predictions(&project, &format!("evaluate[method={method}]"));
        let Predictions::Classes(rows) = &expected else { panic!() };
        losses.insert(rows[0].loss.to_bits());
        same_classes(&ask(&project, &format!("train[method={method}]"), &[]), expected);
    }
    assert_eq!(losses.len(), METHODS.len(), "no two methods give the same model");
}

#[test]
fn intents_have_a_class_and_its_probability_for_each_group() {
    let project = run_briefly("fluent_speech_commands", "intent", &["encoder_epochs=1"]);
    let found = ask(&project, "train", &[]);
    let Predictions::Intents(expected) = predictions(&project, "evaluate") else { panic!() };
    assert_eq!(found.len(), expected.len());
    for row in expected {
        let answer = &found[&row.id];
        let mut loss = 0.0;
        for slot in &row.slots {
            assert_eq!(answer[&slot.slot], slot.prediction, "{answer}");
            let p = answer[format!("p_{}", slot.slot)].as_f64().unwrap();
            assert!(p > 0.0 && p <= 1.0, "{answer}");
            loss -= p.ln();
        }
        // The loss is that of the right classes, and the answer has the probability of the best ones.
        let right = row.slots.iter().all(|slot| slot.label == slot.prediction);
        let (own, best) = (f64::from(row.loss), loss);
        assert!(if right { (own - best).abs() < 1e-4 } else { best < own + 1e-4 }, "{answer} {row:?}");
    }
    let csv = good(project.sure(&["predict", "train", &test_set(&project)[0]]));
    assert!(csv.starts_with("id,secs,action,p_action,object,p_object,location,p_location\n"), "{csv}");
}

#[test]
fn slots_are_those_of_the_workflow() {
    // A rate at which letters and markers come within a few steps.
    let more = ["encoder_epochs=3", "method=finetune", "train.learning_rate=3e-3", "train.max_steps=30"];
    let project = run_briefly("audio_snips", "slot_filling", &more);
    let found = ask(&project, "train", &[]);
    let Predictions::Texts(expected) = predictions(&project, "evaluate") else { panic!() };
    assert_eq!(found.len(), expected.len());
    assert!(expected.iter().any(|row| !row.hypothesis.is_empty()), "{expected:?}");
    for row in expected {
        let answer = &found[&row.id];
        assert_eq!(answer["text"], without_markers(&row.hypothesis), "{answer}");
        let listed: Vec<(String, String)> =
            slots(&row.hypothesis).into_iter().map(|slot| (slot.name, without_markers(&slot.value))).collect();
        let text = |slot: &Value, field: &str| slot[field].as_str().unwrap().to_owned();
        let told = answer["slots"].as_array().unwrap().iter().map(|slot| (text(slot, "slot"), text(slot, "value")));
        assert_eq!(told.collect::<Vec<_>>(), listed, "{answer}");
    }
}

#[test]
fn phonemes_are_those_of_the_workflow() {
    let project = run_briefly("librispeech", "phoneme_recognition", &["encoder_epochs=3"]);
    let found = ask(&project, "train", &[]);
    let Predictions::Texts(expected) = predictions(&project, "evaluate") else { panic!() };
    assert_eq!(found.len(), expected.len());
    assert!(expected.iter().any(|row| !row.hypothesis.is_empty()), "{expected:?}");
    for row in expected {
        let answer = &found[&row.id];
        assert_eq!(answer["text"], row.hypothesis, "{answer}");
        assert!(answer.get("words").is_none(), "every symbol is a word of its own");
    }
    models_of_tokens_without_our_files(&project, &found);
}

/// Without our files, an adapter is one that peft saves, and a fine-tuned model one that transformers saves.
fn models_of_tokens_without_our_files(project: &Project, own: &BTreeMap<String, Value>) {
    copy(&path(project, "train")[0].join("adapter"), &project.path("adapter"));
    copy(&path(project, "scratch")[0].join("checkpoint"), &project.path("foreign"));
    forget_our_files(project, "adapter");
    forget_our_files(project, "foreign");
    let found = ask(project, "./adapter", &["--checkpoint", "foreign"]);
    assert_eq!(found.len(), own.len());
    for (id, answer) in own {
        assert_eq!(found[id]["text"], answer["text"], "{id}");
    }
    assert!(own.values().any(|answer| answer["text"] != ""), "{own:?}");
    assert_eq!(ask(project, "./foreign", &[]).len(), own.len());

    for (file, expected) in [("vocab.json", "ForCTC, and there is no `vocab.json`"), ("model.safetensors", "no weights in")] {
        copy(&project.path("foreign"), &project.path("broken"));
        fs::remove_file(project.path("broken").join(file)).unwrap();
        let answer = project.sure(&["predict", "./broken", &test_set(project)[0]]);
        assert!(answer.code == Some(2) && answer.err.contains(expected), "{answer:?}");
        fs::remove_dir_all(project.path("broken")).unwrap();
    }
    let config = fs::read_to_string(project.path("foreign/config.json")).unwrap();
    assert!(config.contains("Wav2Vec2ForCTC"), "{config}");
    project.write("foreign/config.json", &config.replace("Wav2Vec2ForCTC", "Wav2Vec2Model"));
    let answer = project.sure(&["predict", "./foreign", &test_set(project)[0]]);
    let expected = "`foreign` has no head that answers: its `config.json` says Wav2Vec2Model";
    assert!(
        answer.code == Some(2) && answer.err.replace(&project.path("").display().to_string(), "").contains(expected),
        "{answer:?}"
    );
}

/// Removes what `sure` writes next to the files of transformers and peft.
fn forget_our_files(project: &Project, folder: &str) {
    for file in ["training.json", "task.json"] {
        let path = project.path(folder).join(file);
        assert!(path.is_file(), "{}", path.display());
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn models_without_our_files_answer_the_same() {
    let project = trained();
    for (method, folder) in [("finetune", "checkpoint"), ("lora", "adapter")] {
        let node = format!("train[method={method}]");
        let expected = ask(&project, &node, &[]);
        copy(&path(&project, &node)[0].join(folder), &project.path(folder));
        forget_our_files(&project, folder);
        let encoder = ["--checkpoint", "checkpoint"];
        let found = ask(&project, &format!("./{folder}"), if method == "lora" { &encoder } else { &[] });
        assert_eq!(found.len(), expected.len());
        for (id, answer) in &expected {
            assert_eq!(found[id]["prediction"], answer["prediction"], "{method} {id}");
            let (a, b) = (found[id]["probability"].as_f64().unwrap(), answer["probability"].as_f64().unwrap());
            assert!((a - b).abs() < 1e-5, "{method} {id}: {a} {b}");
        }
    }
}
