//! Runs the stages on files: what they leave, that it is the same every time, and what bad input gives.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;

use pipeline::{Input, Inputs, Job, Places, Silent, Spare, Stage, StageError, Stop, Tools};
use scoring::predictions::{self, PredictionRow};
use scoring::score::Detail;
use scoring::significance::{Resampling, Units};
use scoring::{
    Intents, Metric, Prediction, ReportTable, ScoreClassification, ScoreIntent, ScoreSlots, ScoreText, ScoreVerification, Scores,
    SlotAnswer, Transcription, Trial, Unit, report, score,
};

const INTERVAL: Resampling = Resampling { confidence: 0.95, resamples: 200, seed: 1, by: Units::Utterance };

fn input(path: &Path, point: &[(&str, &str)]) -> Input {
    let point = point.iter().map(|(axis, value)| ((*axis).to_owned(), (*value).to_owned())).collect();
    Input { path: path.to_owned(), point, partition: None }
}

fn job(inputs: BTreeMap<String, Vec<Input>>, out: &Path) -> Job {
    fs::create_dir_all(out).unwrap();
    let (sources, places, progress, stop) = (BTreeMap::new(), Places::default(), Box::new(Silent), Stop::default());
    let (inputs, out, resume) = (Inputs(inputs), out.to_owned(), out.join("resume"));
    Job {
        inputs,
        sources,
        places,
        partition: None,
        out,
        resume,
        threads: 1,
        spare: Spare::default(),
        gpu: None,
        others: vec![],
        tools: Tools::default(),
        progress,
        stop,
    }
}

/// A job whose predictions, labels and training lie in a folder of their own.
fn job_of<R: PredictionRow>(out: &Path, rows: &[R], labels: &str, training: &str) -> Job {
    let from = out.join("in");
    fs::create_dir_all(&from).unwrap();
    predictions::write(&from.join(predictions::FILE_NAME), rows).unwrap();
    fs::write(from.join("labels.json"), labels).unwrap();
    fs::write(from.join("training.json"), training).unwrap();
    let slots = ["predictions", "labels", "training"].map(|slot| (slot.to_owned(), vec![input(&from, &[])]));
    job(BTreeMap::from(slots), out)
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

fn classification(out: &Path, rows: &[Prediction], labels: &str, training: &str) -> Result<(), StageError> {
    let params = ScoreClassification { interval: INTERVAL, ..ScoreClassification::default() };
    score::run(&params, &job_of(out, rows, labels, training))
}

fn transcriptions(pairs: &[(&str, &str)]) -> Vec<Transcription> {
    let row = |(at, (reference, hypothesis)): (usize, &(&str, &str))| Transcription {
        id: format!("u{at}"),
        reference: (*reference).to_owned(),
        hypothesis: (*hypothesis).to_owned(),
        num_samples: 16_000,
        loss: 0.5,
        speaker: Some(format!("s{}", at / 2)),
    };
    pairs.iter().enumerate().map(row).collect()
}

fn text(unit: Unit) -> ScoreText {
    ScoreText { unit, interval: INTERVAL, task: Some("speech_recognition".to_owned()), corpus: None }
}

fn read(out: &Path) -> Scores {
    score::read_scores(out).unwrap()
}

#[track_caller]
fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-12, "{found}, expected {expected}");
}

/// The error with all its causes in one line.
fn whole(error: &StageError) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

const LABELS: &str = r#"["no", "<yes>"]"#;
const TRAINING: &str = r#"{"parameters": {"total": 200, "trainable": 50, "head": 3}, "best_step": 2, "other": null,
    "curve": [{"step": 1, "loss": 0.7, "dev_accuracy": 0.5}, {"step": 2, "loss": 0.2, "dev_accuracy": null}]}"#;

#[test]
fn scores_and_report_are_whole_and_the_same_every_time() {
    let folder = tempfile::tempdir().unwrap();
    let files = |name: &str| {
        let (scores, out) = (folder.path().join(name).join("scores"), folder.path().join(name).join("report"));
        classification(&scores, &answers(), LABELS, TRAINING).unwrap();
        let point = [("corpus", "tones"), ("method", "lora"), ("seed", "1"), ("width", "48")];
        let inputs = BTreeMap::from([("scores".to_owned(), vec![input(&scores, &point)])]);
        report::run(
            &ReportTable { title: "A & B".to_owned(), published: false, anchors: Vec::new(), rounds: 1000 },
            &job(inputs, &out),
        )
        .unwrap();
        let found = read(&scores);
        close(found.primary_value(), 0.75);
        let Detail::Classification(detail) = &found.detail else { panic!("{:?}", found.detail) };
        assert_eq!((found.utterances, detail.mistakes[0].id.as_str()), (4, "u2"));
        assert_eq!(found.parameters.unwrap().trainable, 50);
        let names = ["table.txt", "table.md", "table.parquet", "index.html"];
        let pictures = ["score_vs_parameters.svg", "score_vs_parameters.png", "learning_curves.svg"];
        let mut bytes: Vec<Vec<u8>> = names.iter().chain(&pictures).map(|name| fs::read(out.join(name)).unwrap()).collect();
        let beside = ["scores.json", "utterances.parquet", "confusion.svg", "confusion.png"];
        bytes.extend(beside.map(|name| fs::read(scores.join(name)).unwrap()));
        bytes
    };
    let first = files("one");
    assert!(first == files("other"));
    let page = String::from_utf8(first[3].clone()).unwrap();
    assert!(page.contains("<h1>A &amp; B</h1>") && page.contains("&lt;yes&gt;") && !page.contains("<yes>"));
    assert!(page.contains("Training: tones, lora, seed 1"), "the training curve is shown, without the width that all share");
    let outside = page.matches("http").count() - page.matches("http://www.w3.org/2000/svg").count();
    assert!(outside == 0 && !page.contains("src=") && !page.contains("@import"), "the page needs no other file");
    let table = String::from_utf8(first[0].clone()).unwrap();
    assert!(table.contains("75.00") && table.contains("25.00 %") && table.contains("width"), "{table}");
}

#[test]
fn errors_of_text_are_pooled_and_empty_references_count() {
    let folder = tempfile::tempdir().unwrap();
    let rows = transcriptions(&[("turn the lights on", "turn lights off please"), ("stop", "stop"), ("", "uh huh")]);
    score::run(&text(Unit::Word), &job_of(folder.path(), &rows, LABELS, TRAINING)).unwrap();
    let found = read(folder.path());
    close(found.value(Metric::Wer), 5.0 / 5.0);
    close(found.value(Metric::SentenceErrorRate), 2.0 / 3.0);
    assert!(found.value(Metric::Cer) > 0.0 && found.value(Metric::Per).is_nan());
    assert_eq!(found.notes, ["1 of 3 references are empty; the 2 words recognised there count as insertions"]);
    let Detail::Text { edits, empty_references, worst } = &found.detail else { panic!("{:?}", found.detail) };
    assert_eq!((edits[0].1.insertions >= 2, *empty_references), (true, 1));
    assert_eq!(worst.iter().map(|miss| (miss.id.as_str(), miss.errors)).collect::<Vec<_>>(), [("u0", 3), ("u2", 2)]);
    assert_eq!(found.task.as_deref(), Some("speech_recognition"));
    let metrics = score::read_metrics(folder.path()).unwrap();
    assert!(metrics.iter().any(|(name, score)| *name == "wer" && (score.value - 1.0).abs() < 1e-12));
}

#[test]
fn phones_slots_intents_and_trials_are_scored() {
    let folder = tempfile::tempdir().unwrap();
    let out = |name: &str| folder.path().join(name);
    let rows = transcriptions(&[("HH AH0 L OW1", "HH L OW1"), ("Y EH1 S", "Y EH1 S")]);
    score::run(&text(Unit::Phone), &job_of(&out("phones"), &rows, LABELS, TRAINING)).unwrap();
    close(read(&out("phones")).value(Metric::Per), 1.0 / 7.0);

    let rows = transcriptions(&[("go to B-city rome E-city", "go to B-city rom E-city"), ("no slots", "B-date x E-date")]);
    score::run(&ScoreSlots { interval: INTERVAL, ..ScoreSlots::default() }, &job_of(&out("slots"), &rows, "", TRAINING)).unwrap();
    let found = read(&out("slots"));
    close(found.primary_value(), 0.5);
    close(found.value(Metric::SlotValueCer), 0.25);
    let Detail::Slots { slots, .. } = &found.detail else { panic!("{:?}", found.detail) };
    assert_eq!((slots["city"].both, slots["date"].hypothesis, slots["date"].reference), (1, 1, 0));

    let slot = |slot: &str, label: &str, prediction: &str| SlotAnswer {
        slot: slot.to_owned(),
        label: label.to_owned(),
        prediction: prediction.to_owned(),
    };
    let intents = |id: &str, object: &str| Intents {
        id: id.to_owned(),
        slots: vec![slot("action", "activate", "activate"), slot("object", "lamp", object)],
        num_samples: 1,
        loss: 0.5,
        speaker: None,
    };
    let rows = [intents("a", "lamp"), intents("b", "music")];
    score::run(&ScoreIntent { interval: INTERVAL, ..ScoreIntent::default() }, &job_of(&out("intent"), &rows, "", TRAINING))
        .unwrap();
    let found = read(&out("intent"));
    close(found.primary_value(), 0.5);
    close(found.value(Metric::SlotAccuracy), 0.75);

    let trial = |test: &str, score, target| Trial { enrol_id: "e".to_owned(), test_id: test.to_owned(), score, target };
    let rows = [trial("a", 0.9, true), trial("b", 0.1, false), trial("c", 0.8, true), trial("d", 0.85, false)];
    let params = ScoreVerification { interval: INTERVAL, ..ScoreVerification::default() };
    score::run(&params, &job_of(&out("trials"), &rows, "", TRAINING)).unwrap();
    close(read(&out("trials")).primary_value(), 0.5);

    // One report of all of them, with and without what they were computed from.
    let inputs = ["phones", "slots", "intent", "trials"].map(|name| input(&out(name), &[("task", name), ("method", "lora")]));
    let mut inputs = inputs.to_vec();
    inputs.push(input(&out("phones").join("scores.json"), &[("task", "phones"), ("method", "full")]));
    let job = job(BTreeMap::from([("scores".to_owned(), inputs)]), &out("report"));
    report::run(&ReportTable { title: "All".to_owned(), published: true, anchors: Vec::new(), rounds: 1000 }, &job).unwrap();
    let table = fs::read_to_string(out("report").join("table.txt")).unwrap();
    for part in ["PER", "slot type F1", "slot value CER", "EER", "Intent", "not compared"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    let page = fs::read_to_string(out("report").join("index.html")).unwrap();
    assert!(page.contains("<del>AH0</del>") && page.contains("rom"), "the worst utterances are shown with their errors");
    assert!(out("report").join("benchmark.svg").is_file());
}

#[test]
fn losses_that_are_not_numbers_are_left_out_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut rows = answers();
    rows[1].loss = f32::NAN;
    rows[2].loss = f32::INFINITY;
    classification(folder.path(), &rows, LABELS, TRAINING).unwrap();
    let found = read(folder.path());
    close(found.value(Metric::Loss), 0.25);
    assert_eq!(found.notes, ["2 of 4 losses are not finite numbers; the mean loss leaves them out"]);
    for row in &mut rows {
        row.loss = f32::NAN;
    }
    classification(folder.path(), &rows, LABELS, TRAINING).unwrap();
    assert!(!read(folder.path()).metrics.contains_key(&Metric::Loss));
}

#[test]
fn bad_input_is_named() {
    #[track_caller]
    fn check(run: impl FnOnce(&Path) -> Result<(), StageError>, part: &str) {
        let folder = tempfile::tempdir().unwrap();
        let error = run(folder.path()).unwrap_err();
        assert!(whole(&error).contains(part), "{}", whole(&error));
        assert!(!folder.path().join("scores.json").exists());
    }
    let mut beyond = answers();
    beyond[1].prediction = 7;
    check(|out| classification(out, &[], LABELS, TRAINING), "holds no predictions");
    check(|out| classification(out, &beyond, LABELS, TRAINING), "utterance `u1` has class 7");
    check(|out| classification(out, &answers(), r#"["<yes>", "no"]"#, TRAINING), "utterance `u0` has class 0 (`no`)");
    check(|out| classification(out, &answers(), "{", TRAINING), "is not a list of labels");
    check(|out| classification(out, &answers(), LABELS, "["), "is not a training record");

    let run = |rows: &[(&str, &str)], params: ScoreText| {
        let rows = transcriptions(rows);
        move |out: &Path| score::run(&params, &job_of(out, &rows, LABELS, TRAINING))
    };
    check(run(&[("", "x"), ("  ", "y")], text(Unit::Word)), "`wer` has no value: all references are empty");
    let by_speaker = Resampling { by: Units::Speaker, ..INTERVAL };
    let params = ScoreClassification { interval: by_speaker, ..ScoreClassification::default() };
    check(|out| score::run(&params, &job_of(out, &answers(), LABELS, TRAINING)), "utterance `u0` has no speaker");
    let text_for_classes = transcriptions(&[("a", "b")]);
    check(
        |out| score::run(&ScoreClassification::default(), &job_of(out, &text_for_classes, LABELS, TRAINING)),
        "holds no predictions of classes: column `label`",
    );
    let trial = |score| Trial { enrol_id: "e".to_owned(), test_id: "t".to_owned(), score, target: true };
    let verify =
        |score: f64| move |out: &Path| score::run(&ScoreVerification::default(), &job_of(out, &[trial(score)], LABELS, TRAINING));
    check(verify(f64::NAN), "the trial of `e` and `t` has the score NaN");
    check(verify(0.5), "`eer` has no value: there must be trials of one voice and trials of two");
    let intents = |id: &str, slot: &str| Intents {
        id: id.to_owned(),
        slots: vec![SlotAnswer { slot: slot.to_owned(), label: "x".to_owned(), prediction: "y".to_owned() }],
        num_samples: 1,
        loss: 0.0,
        speaker: None,
    };
    let rows = [intents("a", "action"), intents("b", "object")];
    check(
        |out| score::run(&ScoreIntent::default(), &job_of(out, &rows, LABELS, TRAINING)),
        "utterance `b` has the slots [\"object\"], expected [\"action\"] as in `a`",
    );
}

#[test]
fn parameters_out_of_range_are_mistakes() {
    assert!(ScoreClassification::default().check().is_empty());
    let interval = Resampling { confidence: 1.0, resamples: 0, ..INTERVAL };
    let found = ScoreClassification { interval, metric: Metric::Wer, ..ScoreClassification::default() }.check();
    assert_eq!(found.iter().map(|mistake| mistake.0).collect::<Vec<_>>(), ["interval", "interval", "metric"]);
    let by_speaker = Resampling { by: Units::Speaker, ..INTERVAL };
    assert!(ScoreVerification { interval: by_speaker, ..ScoreVerification::default() }.check().is_empty());
    assert_eq!(ReportTable { title: String::new(), published: false, anchors: Vec::new(), rounds: 1 }.check().len(), 1);
}
