//! Filter banks, cepstra, spectrograms and resampled clips against reference numbers, from the folder that `SURE_GOLDEN` names.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test stops at the first surprise and says aloud what it skips")]

use std::f64::consts::TAU;
use std::path::{Path, PathBuf};

use audio::features::fbank::{FilterBank, Window, cepstra, normalise, stack};
use audio::features::mel::{MelSpectrogram, Recipe};
use audio::resample::Resamplers;
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

fn samples(file: &SafeTensors, name: &str) -> Vec<f32> {
    numbers(file, name).1.into_iter().map(|value| value as f32).collect()
}

/// Compares frames with a tensor (frames, bands), or (bands, frames) when `turned`: `|a - b| <= atol + rtol |b|`.
#[track_caller]
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
    report(case, name, worst);
}

/// Says how far off something is, as a share of what is allowed.
#[track_caller]
#[expect(clippy::print_stdout, reason = "scripts/golden_table.py reads how far each feature is off")]
fn report(case: &str, name: &str, share: f64) {
    println!("GOLDEN {case} {name} {share:e}");
    assert!(share <= 1.0, "{name} is off by {share} times what is allowed");
}

const KALDI: [f64; 2] = [2e-3, 1e-4];
const MEL: [f64; 2] = [5e-5, 2e-4];
/// Of the largest value.
const SCALED: f64 = 5e-5;

#[test]
fn filter_banks_and_cepstra_match_kaldi() {
    let Some(bytes) = golden("kaldi.safetensors") else { return };
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let samples = samples(&file, "input");
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
    let samples = samples(&file, "input");
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
    let magnitudes = mel(Recipe::Tacotron).magnitudes(&samples).collect::<Vec<_>>();
    check(("mel", &file), "tacotron.magnitude", &magnitudes, true, MEL);
    let energy = |frame: &Vec<f64>| frame.iter().map(|bin| bin * bin).sum::<f64>().sqrt();
    let expected = numbers(&file, "tacotron.energy").1;
    assert_eq!(magnitudes.len(), expected.len());
    let share = |(found, expected): (f64, &f64)| (found - expected).abs() / (MEL[0] + MEL[1] * expected);
    report("mel", "tacotron.energy", magnitudes.iter().map(energy).zip(&expected).map(share).fold(0.0, f64::max));
    check(("mel", &file), "tacotron.log_mel", &mel(Recipe::Tacotron).apply(&samples), true, MEL);
    check(("mel", &file), "hifigan.log_mel", &mel(Recipe::Hifigan).apply(&samples), true, MEL);
    check(("mel", &file), "whisper_like.power_mel_db", &mel(Recipe::PowerDb).apply(&samples), true, MEL);
    assert!(mel(Recipe::Tacotron).apply(&[]).is_empty());
    assert_eq!(mel(Recipe::Tacotron).apply(&[0.5]).len(), 1);
}

/// The rate that clips are resampled to, in Hz.
const TO: u32 = 16_000;

/// The part of a clip below `top` of its sampling rate, by the transform of all of it.
fn low_part(clip: &[f64], top: f64) -> Vec<f64> {
    let len = clip.len();
    let turn = |at: usize, bin: usize| TAU * (at * bin % len) as f64 / len as f64;
    let mut part = vec![0.0; len];
    for bin in 0..=(top * len as f64) as usize {
        let sum = |wave: fn(f64) -> f64| clip.iter().enumerate().map(|(at, x)| x * wave(turn(at, bin))).sum::<f64>();
        let (cosine, sine) = (sum(f64::cos), sum(f64::sin));
        let scale = if bin == 0 { 1.0 } else { 2.0 } / len as f64;
        for (at, x) in part.iter_mut().enumerate() {
            *x += scale * (cosine * turn(at, bin).cos() + sine * turn(at, bin).sin());
        }
    }
    part
}

/// Our filter is steeper than each of the reference's, so the two differ close to the highest frequency that is kept. Below seven
/// eighths of it the longest of the reference's filters is as flat as ours, and every sample must be the same.
#[test]
fn resampled_clips_match_the_longest_filter_in_the_band_that_both_keep() {
    let Some(bytes) = golden("resample.safetensors") else { return };
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut resamplers = Resamplers::new(TO);
    for rate in [8_000, 22_050, 44_100, 48_000_u32] {
        let mut clip = Vec::new();
        let mut stream = resamplers.start(rate).unwrap();
        stream.push(&samples(&file, &format!("{rate}.input")), &mut clip);
        stream.finish(&mut clip);
        let name = format!("{rate}.sinc_kaiser");
        let expected = numbers(&file, &name).1;
        assert_eq!(clip.len(), expected.len(), "{name}");
        let largest = expected.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
        // What is cut off at the ends would be in every band.
        let fade = |at: usize| 0.5 - 0.5 * (TAU * (at as f64 + 0.5) / expected.len() as f64).cos();
        let off = |at: usize| (f64::from(clip[at]) - expected[at]) * fade(at);
        let difference: Vec<f64> = (0..clip.len()).map(off).collect();
        let top = 7.0 / 8.0 * f64::from(rate.min(TO)) / 2.0 / f64::from(TO);
        let worst = low_part(&difference, top).into_iter().fold(0.0_f64, |most, x| most.max(x.abs()));
        report("resample", &name, worst / (SCALED * largest));
    }
}

#[test]
fn the_last_of_an_odd_number_of_frames_is_stacked_with_zeros() {
    let frames: Vec<Vec<f64>> = (0..31).map(|at| vec![f64::from(at); 2]).collect();
    let stacked = stack(&frames, 2);
    assert_eq!(stacked.len(), 16);
    assert_eq!(stacked[0], [0.0, 0.0, 1.0, 1.0]);
    assert_eq!(stacked[15], [30.0, 30.0, 0.0, 0.0]);
    assert_eq!(stack(&frames[..1], 2), [[0.0; 4]]);
    assert_eq!(stack(&[], 2), [[0.0; 4]; 0]);
}
