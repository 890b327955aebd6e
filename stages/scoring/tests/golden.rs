//! Compares the metrics with reference values computed elsewhere (`metrics/*.json` of the golden files).

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says when it skips")]

use std::path::{Path, PathBuf};

use scoring::iob::{Entities, EntityScore, Reading};
use scoring::verification::Trials;
use scoring::{Confusion, Edits, Unit, slots};
use serde_json::Value;

/// Cases of the manifest whose file has this name.
fn cases(folder: &Path, name: &str) -> Vec<(PathBuf, f64, f64)> {
    let manifest = reference::json(&folder.join("manifest.json"));
    let wanted = manifest["cases"].as_array().unwrap().iter().filter(|case| case["name"] == name);
    let case = |case: &Value| {
        let tolerance = |kind: &str| case["tolerance"][kind].as_f64().unwrap_or(0.0);
        (reference::file(folder, case), tolerance("atol"), tolerance("rtol"))
    };
    wanted.map(case).collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        value => vec![value.as_f64().expect("a number")],
    }
}

fn classes(value: &Value) -> impl Iterator<Item = i64> {
    value.as_array().unwrap().iter().map(|class| class.as_i64().unwrap())
}

#[test]
fn classification_agrees_with_the_reference() {
    let Some(folder) = reference::root() else { return };
    let files = cases(&folder, "classification");
    assert!(!files.is_empty(), "the manifest lists no classification metrics");
    for (file, atol, rtol) in files {
        for (at, case) in reference::json(&file).as_array().unwrap().iter().enumerate() {
            check(case, atol, rtol, &format!("{} case {at}", file.display()));
        }
    }
}

fn check(case: &Value, atol: f64, rtol: f64, place: &str) {
    let num_classes = case["classes"].as_u64().unwrap() as usize;
    let pairs = classes(&case["labels"]).zip(classes(&case["predictions"]));
    let found = Confusion::count(num_classes, pairs).unwrap();
    let per_class = |of: fn(&scoring::ClassScore) -> f64| found.classes().iter().map(of).collect::<Vec<_>>();
    for (field, expected) in case.as_object().unwrap() {
        let ours = match field.as_str() {
            "classes" | "labels" | "predictions" => continue,
            "accuracy" => vec![found.accuracy()],
            "unweighted_average_recall" => vec![found.unweighted_average_recall()],
            "precision" => per_class(|class| class.precision),
            "recall" => per_class(|class| class.recall),
            "f1" => per_class(|class| class.f1),
            "support" => per_class(|class| class.support as f64),
            "macro_f1" => vec![found.macro_f1()],
            "weighted_f1" => vec![found.weighted_f1()],
            "micro_f1" => vec![found.micro_f1()],
            "matthews" => vec![found.matthews()],
            "confusion" => found.rows().iter().flatten().map(|&count| count as f64).collect(),
            other => panic!("{place}: no metric for `{other}`"),
        };
        let expected = numbers(expected);
        assert_eq!(ours.len(), expected.len(), "{place}: `{field}`");
        for (ours, expected) in ours.iter().zip(expected) {
            let bound = atol + rtol * expected.abs();
            println!("GOLDEN classification {field} {:e}", (ours - expected).abs() / bound); // read by scripts/golden_table.py
            assert!((ours - expected).abs() <= bound, "{place}: `{field}` is {ours}, expected {expected} within {bound}");
        }
    }
}

/// The files of one subject, with their tolerance; none when the golden files are absent.
fn each(subject: &str, mut check: impl FnMut(&Value, Tolerance)) {
    let Some(folder) = reference::root() else { return };
    let files = cases(&folder, subject);
    assert!(!files.is_empty(), "the manifest lists no `{subject}`");
    for (file, atol, rtol) in files {
        check(&reference::json(&file), Tolerance { subject, atol, rtol });
    }
}

/// How far a value may be from the reference.
#[derive(Clone, Copy)]
struct Tolerance<'a> {
    subject: &'a str,
    atol: f64,
    rtol: f64,
}

impl Tolerance<'_> {
    #[track_caller]
    fn check(self, ours: f64, expected: &Value, what: &str) {
        let expected = expected.as_f64().unwrap();
        let bound = self.atol + self.rtol * expected.abs();
        println!("GOLDEN {} value {:e}", self.subject, (ours - expected).abs() / bound); // read by scripts/golden_table.py
        assert!((ours - expected).abs() <= bound, "{what} is {ours}, expected {expected} within {bound}");
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap()
}

#[test]
fn error_rates_agree_with_the_reference() {
    each("wer_cer", |file, tolerance| {
        for (unit, rate, kinds) in [(Unit::Word, "wer", "words"), (Unit::Character, "cer", "characters")] {
            let mut all = Edits::default();
            for pair in file["pairs"].as_array().unwrap() {
                let edits = unit.count(text(pair, "reference"), text(pair, "hypothesis"));
                tolerance.check(edits.rate(), &pair[rate], &format!("{rate} of {pair}"));
                all += edits;
            }
            let corpus = &file["corpus"];
            tolerance.check(all.rate(), &corpus[rate], rate);
            let of = |kind: &str| corpus[kinds][kind].as_u64().unwrap();
            assert_eq!(all.errors(), of("substitutions") + of("deletions") + of("insertions"), "{kinds}");
            if unit == Unit::Word {
                check_words(all, of("hits"), corpus, tolerance);
            }
        }
    });
}

/// The reference counts the matches of the alignment that its search meets first; ours has the most. Where both have as many, the
/// rates that depend on them agree; else ours are the better ones.
fn check_words(ours: Edits, hits: u64, corpus: &Value, tolerance: Tolerance) {
    let (mer, wip) = (ours.match_error_rate(), ours.word_information_preserved());
    let of = |name: &str| corpus[name].as_f64().unwrap();
    if ours.hits() == hits {
        tolerance.check(mer, &corpus["mer"], "mer");
        tolerance.check(wip, &corpus["wip"], "wip");
        tolerance.check(1.0 - wip, &corpus["wil"], "wil");
    } else {
        assert!(ours.hits() > hits && mer < of("mer") && wip > of("wip"), "{ours:?}: the reference has {hits} matches");
    }
}

#[test]
fn slots_agree_with_the_reference() {
    each("slots", |file, tolerance| {
        let (mut sum, mut values, mut found) = (0.0, Edits::default(), Vec::new());
        let pairs = file["pairs"].as_array().unwrap();
        for pair in pairs {
            let score = slots::score(text(pair, "reference"), text(pair, "hypothesis"));
            tolerance.check(score.type_f1, &pair["type_f1"], &pair.to_string());
            sum += score.type_f1;
            values += score.edits();
            found.extend(score.values.into_iter().map(|found| (found.reference.value, found.hypothesis)));
        }
        tolerance.check(sum / pairs.len() as f64, &file["slot_type_f1"], "slot_type_f1");
        tolerance.check(values.rate(), &file["slot_value_cer"], "slot_value_cer");
        let expected = file["values"].as_array().unwrap().iter();
        let expected: Vec<_> =
            expected.map(|value| (text(value, "reference").to_owned(), text(value, "hypothesis").to_owned())).collect();
        assert_eq!(found, expected);
    });
}

#[test]
fn intents_agree_with_the_reference() {
    each("intent", |file, tolerance| {
        let rows = file["rows"].as_array().unwrap();
        let row = |(at, row): (usize, &Value)| {
            let slots = 0..row["label"].as_array().unwrap().len();
            let slot = |k: usize| scoring::SlotAnswer {
                slot: format!("slot {k}"),
                label: row["label"][k].to_string(),
                prediction: row["prediction"][k].to_string(),
            };
            scoring::Intents {
                id: format!("u{at:03}"),
                slots: slots.map(slot).collect(),
                num_samples: 1,
                loss: 0.0,
                speaker: None,
            }
        };
        let rows: Vec<scoring::Intents> = rows.iter().enumerate().map(row).collect();
        let right = rows.iter().filter(|row| row.is_right()).count();
        tolerance.check(right as f64 / rows.len() as f64, &file["accuracy"], "accuracy");
    });
}

#[test]
fn verification_agrees_with_the_reference() {
    each("verification", |file, tolerance| {
        let scores = numbers(&file["scores"]);
        let trials = Trials::new(scores.into_iter().zip(classes(&file["labels"]).map(|label| label == 1)));
        tolerance.check(trials.eer(), &file["eer"], "eer");
        let costs =
            file.as_object().unwrap().iter().filter_map(|(name, value)| Some((name, name.strip_prefix("min_dcf_p")?, value)));
        let mut checked = 0;
        for (name, probability, expected) in costs {
            tolerance.check(trials.min_dcf(probability.parse().unwrap()), expected, name);
            checked += 1;
        }
        assert!(checked > 0, "the file has no `min_dcf_p`");
    });
}

#[test]
fn entities_agree_with_the_reference() {
    each("iob", |file, tolerance| {
        let tags = |name: &str| -> Vec<Vec<String>> { serde_json::from_value(file[name].clone()).unwrap() };
        let (labels, predictions) = (tags("labels"), tags("predictions"));
        let sentences = || labels.iter().map(Vec::as_slice).zip(predictions.iter().map(Vec::as_slice));
        let check = |found: EntityScore, name: &str| {
            for (part, value) in [("precision", found.precision), ("recall", found.recall), ("f1", found.f1)] {
                tolerance.check(value, &file[name][part], &format!("{name} {part}"));
            }
        };
        let lenient = Entities::count(sentences(), Reading::Lenient);
        check(lenient.micro(), "default_micro");
        check(lenient.macro_average(), "default_macro");
        check(Entities::count(sentences(), Reading::Strict).micro(), "strict_micro");
        let all = || labels.iter().flatten().zip(predictions.iter().flatten());
        let right = all().filter(|(label, prediction)| label == prediction).count();
        tolerance.check(right as f64 / all().count() as f64, &file["token_accuracy"], "token_accuracy");
    });
}
