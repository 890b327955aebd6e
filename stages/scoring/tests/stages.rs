//! Runs both stages on files: what they leave, that it is the same every time, and what bad input gives.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;

use pipeline::{Input, Inputs, Job, Places, Silent, Stage, StageError, Stop};
use scoring::{Prediction, ReportTable, ScoreClassification, Scores, predictions, report, score};

const PARAMS: ScoreClassification = ScoreClassification { confidence: 0.95, resamples: 200, seed: 1 };

fn input(path: &Path, point: &[(&str, &str)]) -> Input {
    let point = point.iter().map(|(axis, value)| ((*axis).to_owned(), (*value).to_owned())).collect();
    Input { path: path.to_owned(), point, partition: None }
}

fn job(inputs: BTreeMap<String, Vec<Input>>, out: &Path) -> Job {
    fs::create_dir_all(out).unwrap();
    let (sources, places, progress, stop) = (BTreeMap::new(), Places::default(), Box::new(Silent), Stop::default());
    let (inputs, out, resume) = (Inputs(inputs), out.to_owned(), out.join("resume"));
    Job { inputs, sources, places, partition: None, out, resume, threads: 1, gpu: None, progress, stop }
}

/// Four utterances of the classes `no` and `<yes>`, one answered wrongly.
fn answers() -> Vec<Prediction> {
    let words = ["no", "<yes>"];
    let answer = |(at, (label, prediction)): (usize, (usize, usize))| Prediction {
        id: format!("u{at}"),
        label: label as i64,
        prediction: prediction as i64,
        label_text: words[label].to_owned(),
        prediction_text: words[prediction].to_owned(),
        num_samples: 16_000,
        loss: 0.25,
        speaker: None,
    };
    [(0, 0), (1, 1), (1, 0), (0, 0)].into_iter().enumerate().map(answer).collect()
}

/// Scores predictions in a folder of their own; the scores land in `out`.
fn scored(out: &Path, rows: &[Prediction], labels: &str, training: &str) -> Result<(), StageError> {
    let from = out.join("in");
    fs::create_dir_all(&from).unwrap();
    predictions::write(&from.join(predictions::FILE_NAME), rows).unwrap();
    fs::write(from.join("labels.json"), labels).unwrap();
    fs::write(from.join("training.json"), training).unwrap();
    let slots = ["predictions", "labels", "training"].map(|slot| (slot.to_owned(), vec![input(&from, &[])]));
    score::run(&PARAMS, &job(BTreeMap::from(slots), out))
}

const LABELS: &str = r#"["no", "<yes>"]"#;
const TRAINING: &str = r#"{"parameters": {"total": 200, "trainable": 50, "head": 3}, "best_step": 2, "other": null,
    "curve": [{"step": 1, "loss": 0.7, "dev_accuracy": 0.5}, {"step": 2, "loss": 0.2, "dev_accuracy": null}]}"#;

#[test]
fn scores_and_report_are_whole_and_the_same_every_time() {
    let folder = tempfile::tempdir().unwrap();
    let files = |name: &str| {
        let (scores, out) = (folder.path().join(name).join("scores"), folder.path().join(name).join("report"));
        scored(&scores, &answers(), LABELS, TRAINING).unwrap();
        let point = [("corpus", "tones"), ("method", "lora"), ("seed", "1"), ("width", "48")];
        let inputs = BTreeMap::from([("scores".to_owned(), vec![input(&scores, &point)])]);
        report::run(&ReportTable { title: "A & B".to_owned() }, &job(inputs, &out)).unwrap();
        let found: Scores = serde_json::from_slice(&fs::read(scores.join("scores.json")).unwrap()).unwrap();
        assert_eq!((found.right, found.utterances, found.mistakes[0].id.as_str()), (3, 4, "u2"));
        assert_eq!(found.parameters.unwrap().trainable, 50);
        let names = ["table.txt", "table.md", "table.parquet", "index.html"];
        let pictures = ["accuracy_vs_parameters.svg", "accuracy_vs_parameters.png"];
        let mut bytes: Vec<Vec<u8>> = names.iter().chain(&pictures).map(|name| fs::read(out.join(name)).unwrap()).collect();
        bytes.extend(["scores.json", "confusion.svg", "confusion.png"].map(|name| fs::read(scores.join(name)).unwrap()));
        bytes
    };
    let first = files("one");
    assert!(first == files("other"));
    let page = String::from_utf8(first[3].clone()).unwrap();
    assert!(page.contains("<h1>A &amp; B</h1>") && page.contains("&lt;yes&gt;") && !page.contains("<yes>"));
    assert!(page.contains("Training: tones, lora, width 48, seed 1"), "the training curve is shown");
    let outside = page.matches("http").count() - page.matches("http://www.w3.org/2000/svg").count();
    assert!(outside == 0 && !page.contains("src=") && !page.contains("@import"), "the page needs no other file");
    let table = String::from_utf8(first[0].clone()).unwrap();
    assert!(table.contains("75.00") && table.contains("25.00 %") && table.contains("width"), "{table}");
}

#[test]
fn bad_input_is_named() {
    #[track_caller]
    fn check(rows: &[Prediction], labels: &str, training: &str, part: &str) {
        let folder = tempfile::tempdir().unwrap();
        let error = scored(folder.path(), rows, labels, training).unwrap_err();
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            text = format!("{text}: {inner}");
            cause = inner.source();
        }
        assert!(text.contains(part), "{text}");
    }
    let mut beyond = answers();
    beyond[1].prediction = 7;
    check(&[], LABELS, TRAINING, "holds no predictions");
    check(&beyond, LABELS, TRAINING, "utterance `u1` has class 7");
    check(&answers(), r#"["<yes>", "no"]"#, TRAINING, "utterance `u0` has class 0 (`no`)");
    check(&answers(), "{", TRAINING, "is not a list of labels");
    check(&answers(), LABELS, "[", "is not a training record");
}

#[test]
fn parameters_out_of_range_are_mistakes() {
    assert!(PARAMS.check().is_empty());
    let found = ScoreClassification { confidence: 1.0, resamples: 0, seed: 0 }.check();
    assert_eq!(found.iter().map(|mistake| mistake.0).collect::<Vec<_>>(), ["confidence", "resamples"]);
}
