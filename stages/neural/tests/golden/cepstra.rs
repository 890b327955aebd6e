//! Mel cepstra of recordings, as `tts.evaluate` computes them, against reference numbers.

use std::path::PathBuf;

use audio::features::mel::{MelSpectrogram, Recipe};
use scoring::distance::{NUM_COEFFICIENTS, cepstra};
use tch::{Kind, Tensor};

use crate::support::{find_number, manifest};

#[test]
fn cepstra_of_recordings_match() {
    let Some(root) = reference::root() else { return };
    let cases = manifest(&root);
    let Some(case) = cases.iter().find(|case| case["name"] == "mcd") else { return };
    let [atol, rtol] = ["atol", "rtol"].map(|kind| case["tolerance"][kind].as_f64().unwrap());
    let number = |word: &str| find_number(case, word).unwrap_or_else(|| panic!("no number behind `{word}`"));
    let sample_rate = number("tacotron");
    let mel = MelSpectrogram {
        sample_rate: sample_rate as u32,
        n_fft: number("fft") as usize,
        hop_length: number("hop") as usize,
        win_length: number("window") as usize,
        num_mel_bins: case["what"].as_str().unwrap().split(" bands").next().unwrap().rsplit(' ').next().unwrap().parse().unwrap(),
        low_hz: 0.0,
        high_hz: sample_rate / 2.0,
        recipe: Recipe::Tacotron,
    };
    let tensors = crate::support::read(&root.join("tts").join(case["file"].as_str().unwrap()));
    for (at, pair) in case["pairs"].as_array().unwrap().iter().enumerate() {
        for side in ["a", "b"] {
            let Some(samples) = recording(&root, pair[side].as_str().unwrap()) else { continue };
            let found = cepstra(&mel.apply(&samples), NUM_COEFFICIENTS + 1);
            let found = Tensor::from_slice(&found.concat()).view([found.len() as i64, -1]);
            let name = format!("{at}.{side}.cepstra");
            let expected =
                tensors.iter().find(|(known, _)| *known == name).unwrap().1.to_device(tch::Device::Cpu).to_kind(Kind::Double);
            assert_eq!(found.size(), expected.size(), "{name}");
            let share = ((&found - &expected).abs() / (expected.abs() * rtol + atol)).max().double_value(&[]);
            println!("GOLDEN mcd {name} {share:e}"); // read by scripts/golden_table.py
            assert!(share <= 1.0, "{name} is off by {share} of what is allowed");
        }
    }
}

/// Samples of a recording of the corpus next to the reference numbers, or in the project's own folder of corpora.
fn recording(root: &std::path::Path, name: &str) -> Option<Vec<f32>> {
    let own = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared"));
    let candidates = [root.join(".."), own].map(|folder| folder.join("corpora/fsdd/recordings").join(name));
    let Some(path) = candidates.iter().find(|path| path.is_file()) else {
        eprintln!("SKIPPED: no recording `{name}` in corpora/fsdd/recordings");
        return None;
    };
    let mut samples = Vec::new();
    audio::recording::samples(&std::fs::read(path).unwrap(), &mut samples).unwrap();
    Some(samples)
}
