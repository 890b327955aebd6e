//! Compares the metrics with reference values computed elsewhere (`metrics/*.json` of the golden files).

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says when it skips")]

use std::path::{Path, PathBuf};

use scoring::Confusion;
use serde_json::Value;

/// The folder of golden files; none when it is absent, which is said loudly.
fn golden() -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "tests find the golden files by this variable")]
    let named = std::env::var("SURE_GOLDEN").map(PathBuf::from);
    let folder = named.unwrap_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden"));
    if folder.join("manifest.json").is_file() {
        return Some(folder);
    }
    println!("SKIPPED: NO GOLDEN FILES IN `{}`; set SURE_GOLDEN", folder.display());
    None
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Cases of the manifest whose file has this name.
fn cases(folder: &Path, name: &str) -> Vec<(PathBuf, f64, f64)> {
    let manifest = read(&folder.join("manifest.json"));
    let wanted = manifest["cases"].as_array().unwrap().iter().filter(|case| case["name"] == name);
    let case = |case: &Value| {
        let file = folder.join(case["dir"].as_str().unwrap()).join(case["file"].as_str().unwrap());
        let tolerance = |kind: &str| case["tolerance"][kind].as_f64().unwrap_or(0.0);
        (file, tolerance("atol"), tolerance("rtol"))
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
    let Some(folder) = golden() else { return };
    let files = cases(&folder, "classification");
    assert!(!files.is_empty(), "the manifest lists no classification metrics");
    for (file, atol, rtol) in files {
        for (at, case) in read(&file).as_array().unwrap().iter().enumerate() {
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
            assert!((ours - expected).abs() <= bound, "{place}: `{field}` is {ours}, expected {expected} within {bound}");
        }
    }
}
