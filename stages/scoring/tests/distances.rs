//! Mel-cepstral distortion and pitch errors against reference numbers, from the folder that `SURE_GOLDEN` names.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use safetensors::{Dtype, SafeTensors};
use scoring::distance::{PitchError, distortion};

/// A file of reference numbers and what is allowed, absolute and of a value; none, with a message, where there is none.
fn golden(name: &str) -> Option<(Vec<u8>, [f64; 2])> {
    let root = reference::root()?;
    let case = reference::case(&root, |case| case["kind"] == "tts" && case["name"] == name);
    let allowed = ["atol", "rtol"].map(|kind| case["tolerance"][kind].as_f64().unwrap());
    Some((std::fs::read(reference::file(&root, &case)).unwrap(), allowed))
}

fn numbers(file: &SafeTensors, name: &str) -> (Vec<usize>, Vec<f64>) {
    let tensor = file.tensor(name).unwrap();
    let bytes = tensor.data();
    let values = match tensor.dtype() {
        Dtype::I64 => bytes.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64).collect(),
        _ => bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect(),
    };
    (tensor.shape().to_vec(), values)
}

fn frames(file: &SafeTensors, name: &str) -> Vec<Vec<f64>> {
    let (shape, values) = numbers(file, name);
    values.chunks_exact(shape[1]).map(<[f64]>::to_vec).collect()
}

/// Compares with a single number: `|a - b| <= atol + rtol |b|`.
#[track_caller]
#[expect(clippy::print_stdout, reason = "scripts/golden_table.py reads how far each result is off")]
fn check((case, file): (&str, &SafeTensors), name: &str, found: f64, [atol, rtol]: [f64; 2]) {
    let expected = numbers(file, name).1[0];
    let share = (found - expected).abs() / (atol + rtol * expected.abs());
    println!("GOLDEN {case} {name} {share:e}");
    assert!(share <= 1.0, "{name}: {found}, expected {expected}");
}

#[test]
fn distortion_matches_along_the_path() {
    let Some((bytes, tolerance)) = golden("mcd") else { return };
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let pairs = file.names().iter().filter(|name| name.strip_suffix(".mcd").is_some()).count();
    assert!(pairs > 0);
    for pair in 0..pairs {
        let (a, b) = (frames(&file, &format!("{pair}.a.cepstra")), frames(&file, &format!("{pair}.b.cepstra")));
        let (path, found) = distortion(&a, &b).unwrap();
        check(("mcd", &file), &format!("{pair}.mcd"), found, tolerance);
        check(("mcd", &file), &format!("{pair}.cost"), path.cost, tolerance);
        check(("mcd", &file), &format!("{pair}.path_length"), path.pairs.len() as f64, tolerance);
    }
}

#[test]
fn distances_of_cepstra_and_pitch_match() {
    let Some((bytes, tolerance)) = golden("distances") else { return };
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let case = ("distances", &file);
    let (path, found) = distortion(&frames(&file, "a"), &frames(&file, "b")).unwrap();
    check(case, "mcd", found, tolerance);
    check(case, "path_length", path.pairs.len() as f64, tolerance);
    let pairs = numbers(&file, "f0.a").1.into_iter().zip(numbers(&file, "f0.b").1);
    let error = PitchError::of(pairs);
    check(case, "f0.rmse_hz", error.rmse_hz().unwrap(), tolerance);
    check(case, "f0.rmse_cents", error.rmse_cents().unwrap(), tolerance);
    check(case, "f0.voicing_error", error.voicing_error().unwrap(), tolerance);
    check(case, "f0.gross_error", error.gross_error().unwrap(), tolerance);
}
