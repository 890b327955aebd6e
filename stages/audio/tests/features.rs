//! Filter banks, cepstra and spectrograms against reference numbers, from the folder that `SURE_GOLDEN` names.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test stops at the first surprise and says aloud what it skips")]

use std::path::{Path, PathBuf};

use audio::features::fbank::{FilterBank, Window, cepstra, normalise, stack};
use audio::features::mel::{MelSpectrogram, Recipe};
use safetensors::SafeTensors;

/// The bytes of a file of reference numbers; none, said aloud, where there is none.
fn golden(name: &str) -> Option<Vec<u8>> {
    #[expect(clippy::disallowed_methods, reason = "a test may be told where its reference numbers lie")]
    let named = std::env::var("SURE_GOLDEN");
    let root = named.map_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden"), PathBuf::from);
    let path = root.join("audio").join(name);
    if !path.is_file() {
        eprintln!("SKIPPED: no reference numbers at `{}`; set SURE_GOLDEN", path.display());
        return None;
    }
    Some(std::fs::read(path).unwrap())
}

fn numbers(file: &SafeTensors, name: &str) -> (Vec<usize>, Vec<f64>) {
    let tensor = file.tensor(name).unwrap();
    let values = tensor.data().chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect();
    (tensor.shape().to_vec(), values)
}

fn samples(file: &SafeTensors) -> Vec<f32> {
    numbers(file, "input").1.into_iter().map(|value| value as f32).collect()
}

/// Compares frames with a tensor (frames, bands), or (bands, frames) when `turned`: `|a - b| <= atol + rtol |b|`.
#[track_caller]
#[expect(clippy::print_stdout, reason = "scripts/golden_table.py reads how far each feature is off")]
fn check((case, file): (&str, &SafeTensors), name: &str, frames: &[Vec<f64>], turned: bool, [atol, rtol]: [f64; 2]) {
    let (shape, expected) = numbers(file, name);
    let found = [frames.len(), frames[0].len()];
    assert_eq!(shape, if turned { [found[1], found[0]] } else { found }, "shape of {name}");
    let mut worst = 0.0_f64;
    for (at, expected) in expected.iter().enumerate() {
        let (row, column) = (at / shape[1], at % shape[1]);
        let found = if turned { frames[column][row] } else { frames[row][column] };
        worst = worst.max((found - expected).abs() / (atol + rtol * expected.abs()));
    }
    println!("GOLDEN {case} {name} {worst:e}");
    assert!(worst <= 1.0, "{name} is off by {worst} times what is allowed");
}

const KALDI: [f64; 2] = [2e-3, 1e-4];
const MEL: [f64; 2] = [5e-5, 2e-4];

#[test]
fn filter_banks_and_cepstra_match_kaldi() {
    let Some(bytes) = golden("kaldi.safetensors") else { return };
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let samples = samples(&file);
    let fbank = FilterBank { num_mel_bins: 80, low_hz: 20.0, high_hz: 0.0, window: Window::Povey, sample_rate: 16_000 };
    let mut frames = fbank.apply(&samples);
    check(("kaldi", &file), "fbank80", &frames, false, KALDI);
    normalise(&mut frames);
    check(("kaldi", &file), "w2v_bert.input_features", &stack(&frames, 2), false, KALDI);
    let hann = FilterBank { num_mel_bins: 40, low_hz: 60.0, high_hz: -400.0, window: Window::Hann, sample_rate: 16_000 };
    check(("kaldi", &file), "fbank40_hann", &hann.apply(&samples), false, KALDI);
    let bands = FilterBank { num_mel_bins: 23, ..fbank };
    check(("kaldi", &file), "mfcc13", &cepstra(&bands.apply(&samples), 13, 22.0), false, KALDI);
    assert!(bands.apply(&samples[..399]).is_empty());
    assert_eq!(bands.apply(&samples[..400]).len(), 1);
}

#[test]
fn spectrograms_match_those_of_vocoders() {
    let Some(bytes) = golden("mel.safetensors") else { return };
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let samples = samples(&file);
    let mel = |recipe| MelSpectrogram {
        sample_rate: 22_050,
        n_fft: 1024,
        hop_length: 256,
        win_length: 1024,
        num_mel_bins: 80,
        low_hz: 0.0,
        high_hz: 8000.0,
        recipe,
    };
    check(("mel", &file), "mel_basis_slaney", &mel(Recipe::Tacotron).basis(), false, MEL);
    check(("mel", &file), "tacotron.log_mel", &mel(Recipe::Tacotron).apply(&samples), true, MEL);
    check(("mel", &file), "hifigan.log_mel", &mel(Recipe::Hifigan).apply(&samples), true, MEL);
    check(("mel", &file), "whisper_like.power_mel_db", &mel(Recipe::PowerDb).apply(&samples), true, MEL);
    assert!(mel(Recipe::Tacotron).apply(&[]).is_empty());
    assert_eq!(mel(Recipe::Tacotron).apply(&[0.5]).len(), 1);
}
