//! Filter banks, cepstra, spectrograms and resampled clips against reference numbers, from the folder that `SURE_GOLDEN` names.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::f64::consts::TAU;

use audio::features::fbank::{FilterBank, Window, cepstra, normalise, stack};
use audio::features::griffin_lim::GriffinLim;
use audio::features::mel::{MelSpectrogram, Recipe};
use audio::resample::Resamplers;
use safetensors::SafeTensors;
use serde_json::Value;

/// A file of reference numbers and its entry in `manifest.json`; none, said aloud, where there is none.
fn golden(name: &str) -> Option<(Vec<u8>, Value)> {
    let root = reference::root()?;
    let case = reference::case(&root, |case| case["kind"] == "audio" && case["name"] == name);
    Some((std::fs::read(reference::file(&root, &case)).unwrap(), case))
}

/// Allowed difference: absolute, and relative to the expected value.
fn tolerance(case: &Value) -> [f64; 2] {
    ["atol", "rtol"].map(|kind| case["tolerance"][kind].as_f64().unwrap())
}

/// A size of a tensor, as the manifest has it.
fn size(case: &Value, tensor: &str, axis: usize) -> usize {
    case["tensors"][tensor][1][axis].as_u64().unwrap() as usize
}

/// The number behind some words of a case's description.
fn number_after(case: &Value, words: &str) -> f64 {
    let rest = case["what"].as_str().unwrap().split(words).nth(1).unwrap_or_else(|| panic!("no `{words}` in {case}"));
    rest.trim_start().split([' ', ',', ';', ':']).next().unwrap().parse().unwrap()
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

#[test]
fn filter_banks_and_cepstra_match_kaldi() {
    let Some((bytes, case)) = golden("kaldi") else { return };
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let (samples, allowed) = (samples(&file, "input"), tolerance(&case));
    let bands = |tensor: &str| size(&case, tensor, 1);
    let low_hz = number_after(&case, "Povey window,");
    let fbank = FilterBank { num_mel_bins: bands("fbank80"), low_hz, high_hz: 0.0, window: Window::Povey, sample_rate: 16_000 };
    let mut frames = fbank.apply(&samples);
    check(("kaldi", &file), "fbank80", &frames, false, allowed);
    normalise(&mut frames);
    let stacked = size(&case, "w2v_bert.input_features", 1) / bands("fbank80");
    check(("kaldi", &file), "w2v_bert.input_features", &stack(&frames, stacked), false, allowed);
    let hann = FilterBank {
        num_mel_bins: bands("fbank40_hann"),
        low_hz: case["options"]["fbank40_hann_low_hz"].as_f64().unwrap(),
        high_hz: -number_after(&case, "to Nyquist -"),
        window: Window::Hann,
        sample_rate: 16_000,
    };
    check(("kaldi", &file), "fbank40_hann", &hann.apply(&samples), false, allowed);
    let narrow = FilterBank { num_mel_bins: number_after(&case, "mfcc13:") as usize, ..fbank };
    let lifter = number_after(&case, "lifter");
    check(("kaldi", &file), "mfcc13", &cepstra(&narrow.apply(&samples), bands("mfcc13"), lifter), false, allowed);
}

#[test]
fn a_frame_needs_its_whole_window() {
    let fbank = FilterBank { num_mel_bins: 80, low_hz: 20.0, high_hz: 0.0, window: Window::Povey, sample_rate: 16_000 };
    let samples: Vec<f32> = (0..1_000).map(|at| (at as f32 * 0.1).sin()).collect();
    for (count, frames) in [(0, 0), (1, 0), (399, 0), (400, 1), (401, 1), (559, 1), (560, 2), (561, 2), (719, 2), (720, 3)] {
        assert_eq!(fbank.apply(&samples[..count]).len(), frames, "{count} samples");
    }
    // One frame has no deviation, and stays finite.
    let mut one = fbank.apply(&samples[..400]);
    normalise(&mut one);
    assert!(one.concat().iter().all(|value| value.abs() < 1e-9), "{one:?}");
}

#[test]
fn spectrograms_match_those_of_vocoders() {
    let Some((bytes, case)) = golden("mel") else { return };
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let (samples, allowed) = (samples(&file, "input"), tolerance(&case));
    let option = |name: &str| case["options"][name].as_f64().unwrap();
    let mel = |recipe| MelSpectrogram {
        sample_rate: option("sample_rate") as u32,
        n_fft: option("n_fft") as usize,
        hop_length: option("hop_length") as usize,
        win_length: option("win_length") as usize,
        num_mel_bins: option("num_mel_bins") as usize,
        low_hz: option("low_hz"),
        high_hz: option("high_hz"),
        recipe,
    };
    check(("mel", &file), "mel_basis_slaney", &mel(Recipe::Tacotron).basis(), false, allowed);
    let magnitudes = mel(Recipe::Tacotron).magnitudes(&samples).collect::<Vec<_>>();
    check(("mel", &file), "tacotron.magnitude", &magnitudes, true, allowed);
    let energy = |frame: &Vec<f64>| frame.iter().map(|bin| bin * bin).sum::<f64>().sqrt();
    let expected = numbers(&file, "tacotron.energy").1;
    assert_eq!(magnitudes.len(), expected.len());
    let share = |(found, expected): (f64, &f64)| (found - expected).abs() / (allowed[0] + allowed[1] * expected);
    report("mel", "tacotron.energy", magnitudes.iter().map(energy).zip(&expected).map(share).fold(0.0, f64::max));
    // The bound is that of as many plain iterations; ours have momentum.
    let (mut vocoder, iterations) = (GriffinLim::new(&mel(Recipe::Tacotron)), number_after(&case, "convergence after") as usize);
    let inverted = vocoder.invert(&magnitudes, iterations, 0.99);
    let bound = numbers(&file, "griffin_lim.spectral_convergence").1[0];
    report("mel", "griffin_lim.spectral_convergence", vocoder.distance(&inverted, &magnitudes) / bound);
    check(("mel", &file), "tacotron.log_mel", &mel(Recipe::Tacotron).apply(&samples), true, allowed);
    check(("mel", &file), "hifigan.log_mel", &mel(Recipe::Hifigan).apply(&samples), true, allowed);
    check(("mel", &file), "whisper_like.power_mel_db", &mel(Recipe::PowerDb).apply(&samples), true, allowed);
    assert!(mel(Recipe::Tacotron).apply(&[]).is_empty());
    assert_eq!(mel(Recipe::Tacotron).apply(&[0.5]).len(), 1);
}

#[test]
fn a_frame_begins_at_every_hop() {
    let mel = |recipe| MelSpectrogram {
        sample_rate: 16_000,
        n_fft: 256,
        hop_length: 64,
        win_length: 256,
        num_mel_bins: 20,
        low_hz: 0.0,
        high_hz: 8000.0,
        recipe,
    };
    let samples: Vec<f32> = (0..1_000).map(|at| (at as f32 * 0.1).sin()).collect();
    // Centred frames: as many as hops fit, and one.
    for (count, frames) in [(511, 8), (512, 9), (513, 9), (575, 9), (576, 10), (577, 10)] {
        assert_eq!(mel(Recipe::Tacotron).apply(&samples[..count]).len(), frames, "{count} samples");
    }
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
    let Some((bytes, case)) = golden("resample") else { return };
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let scaled = case["tolerance"]["scaled"].as_f64().unwrap();
    let mut resamplers = Resamplers::new(TO);
    let rates: Vec<u32> = file.names().iter().filter_map(|name| name.strip_suffix(".input")?.parse().ok()).collect();
    assert!(!rates.is_empty());
    for rate in rates {
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
        report("resample", &name, worst / (scaled * largest));
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
