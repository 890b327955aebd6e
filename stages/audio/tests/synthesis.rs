//! Pitch tracks and Griffin-Lim against reference numbers, from the folder that `SURE_GOLDEN` names.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test stops at the first surprise and names what it skips")]

use std::path::Path;

use audio::features::griffin_lim::GriffinLim;
use audio::features::mel::{MelSpectrogram, Recipe};
use audio::features::pitch::Pyin;
use safetensors::SafeTensors;

fn numbers(file: &SafeTensors, name: &str) -> (Vec<usize>, Vec<f64>) {
    let tensor = file.tensor(name).unwrap();
    let values = tensor.data().chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect();
    (tensor.shape().to_vec(), values)
}

/// Reports how far off a result is, as a share of what is allowed.
#[track_caller]
#[expect(clippy::print_stdout, reason = "scripts/golden_table.py reads how far each result is off")]
fn report(case: &str, name: &str, share: f64) {
    println!("GOLDEN {case} {name} {share:e}");
    assert!(share <= 1.0, "{name} is off by {share} times what is allowed");
}

/// Samples of a recording of the corpus next to the reference numbers, or in the project's own folder of corpora.
fn recording(root: &Path, name: &str) -> Option<Vec<f32>> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let candidates = [root.join(".."), own].map(|folder| folder.join("corpora/fsdd/recordings").join(name));
    let Some(path) = candidates.iter().find(|path| path.is_file()) else {
        eprintln!("SKIPPED: no recording `{name}` in corpora/fsdd/recordings");
        return None;
    };
    let mut samples = Vec::new();
    audio::recording::samples(&std::fs::read(path).unwrap(), &mut samples).unwrap();
    Some(samples)
}

#[test]
fn pitch_tracks_match_those_of_librosa() {
    let Some(root) = reference::root() else { return };
    let (case, bytes) = (
        reference::case(&root, |case| case["name"] == "f0" && case["dir"] == "tts"),
        std::fs::read(root.join("tts/f0.safetensors")).unwrap(),
    );
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let (atol, rtol) = (case["tolerance"]["atol"].as_f64().unwrap(), case["tolerance"]["rtol"].as_f64().unwrap());
    let voicing = case["tolerance"]["voicing"].as_f64().unwrap();
    for track in case["tracks"].as_array().unwrap() {
        let name = track["name"].as_str().unwrap();
        let samples = match track["recording"].as_str() {
            Some(recorded) => recording(&root, recorded),
            None => Some(numbers(&file, &format!("{name}.samples")).1.into_iter().map(|x| x as f32).collect()),
        };
        let Some(samples) = samples else { continue };
        let number = |key: &str| track[key].as_u64().unwrap() as usize;
        let pyin = Pyin {
            sample_rate: number("sample_rate") as u32,
            min_hz: track["fmin"].as_f64().unwrap(),
            max_hz: track["fmax"].as_f64().unwrap(),
            frame_length: number("frame_length"),
            hop_length: number("hop_length"),
            mean_threshold: 0.1,
        };
        let expected = numbers(&file, &format!("{name}.pyin.f0")).1;
        let probability = numbers(&file, &format!("{name}.pyin.probability")).1;
        assert_eq!(expected.len(), 1 + samples.len() / pyin.hop_length, "{name}");
        let found = pyin.track(&samples, expected.len(), 0);
        let same = found.iter().zip(&expected).filter(|(found, expected)| (found.hz > 0.0) == (**expected > 0.0)).count();
        let share = same as f64 / expected.len() as f64;
        report("f0", &format!("{name}.voiced"), (1.0 - share) / (1.0 - voicing));
        let off = |(found, expected): (f64, f64)| (found - expected).abs() / (atol + rtol * expected);
        let both = found.iter().zip(&expected).filter(|(found, expected)| found.hz > 0.0 && **expected > 0.0);
        let worst = both.map(|(found, expected)| off((found.hz, *expected))).fold(0.0, f64::max);
        report("f0", &format!("{name}.f0"), worst);
        let worst = found.iter().zip(&probability).map(|(found, expected)| (found.voicing - expected).abs()).fold(0.0, f64::max);
        report("f0", &format!("{name}.probability"), worst / 0.01);
    }
}

#[test]
fn spectrograms_are_inverted_as_published() {
    let Some(root) = reference::root() else { return };
    let (case, bytes) = (
        reference::case(&root, |case| case["name"] == "griffin_lim" && case["dir"] == "tts"),
        std::fs::read(root.join("tts/griffin_lim.safetensors")).unwrap(),
    );
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let scaled = case["tolerance"]["scaled"].as_f64().unwrap();
    let apart = case["tolerance"]["convergence_rtol"].as_f64().unwrap();
    let number = |key: &str| case[key].as_u64().unwrap() as usize;
    let mel = MelSpectrogram {
        sample_rate: number("sample_rate") as u32,
        n_fft: number("fft"),
        hop_length: number("hop"),
        win_length: number("window"),
        num_mel_bins: number("bands"),
        low_hz: 0.0,
        high_hz: number("sample_rate") as f64 / 2.0,
        recipe: Recipe::Tacotron,
    };
    let check = |name: &str, found: &[f64]| {
        let expected = numbers(&file, name).1;
        assert_eq!(found.len(), expected.len(), "{name}");
        let largest = expected.iter().fold(1.0_f64, |most, x| most.max(x.abs()));
        let worst = found.iter().zip(&expected).map(|(found, expected)| (found - expected).abs()).fold(0.0, f64::max);
        report("griffin_lim", name, worst / (scaled * largest));
    };
    let frames = |name: &str| {
        let (shape, values) = numbers(&file, name);
        values.chunks_exact(shape[1]).map(<[f64]>::to_vec).collect::<Vec<_>>()
    };
    let samples: Vec<f32> = numbers(&file, "samples").1.into_iter().map(|x| x as f32).collect();
    check("log_mel", &mel.apply(&samples).concat());
    let mut vocoder = GriffinLim::new(&mel);
    let from_mel = vocoder.magnitudes(&frames("log_mel"));
    check("linear_from_mel", &from_mel.concat());
    let floored = |bins: Vec<f64>| bins.into_iter().map(|bin| bin.max(1e-8)).collect::<Vec<_>>();
    for (kind, magnitudes) in [("true", mel.magnitudes(&samples).map(floored).collect()), ("mel", from_mel)] {
        check(&format!("{kind}.one"), &vocoder.invert(&magnitudes, 0, 0.0));
        check(&format!("{kind}.two"), &vocoder.invert(&magnitudes, 1, 0.99));
        for (speed, momentum) in [("plain", 0.0), ("fast", 0.99)] {
            let prefix = format!("{kind}.convergence.{speed}.");
            let names = file.names();
            let counts: Vec<usize> = names.iter().filter_map(|name| name.strip_prefix(&prefix)?.parse().ok()).collect();
            assert!(!counts.is_empty(), "{prefix}");
            for count in counts {
                let name = format!("{prefix}{count}");
                let bound = numbers(&file, &name).1[0] * (1.0 + apart);
                let found = vocoder.invert(&magnitudes, count - 1, momentum);
                report("griffin_lim", &name, vocoder.distance(&found, &magnitudes) / bound);
            }
        }
    }
}
