use std::io::Cursor;

use super::*;
use crate::wav::write_pcm16;

mod broken;
mod containers;
mod formats;
mod odd;
mod tools;

const TO: u32 = 16_000;

/// Without ffmpeg.
fn wav() -> Preparer<'static> {
    Preparer::new(Target { sample_rate: TO, format: Format::Wav })
}

fn flac() -> Preparer<'static> {
    Preparer::new(Target { sample_rate: TO, format: Format::Flac })
}

/// With ffmpeg, if this machine has it.
fn with_ffmpeg() -> Preparer<'static> {
    wav().with_ffmpeg(|| Some("ffmpeg".into()))
}

fn written_flac(samples: &[i16]) -> Vec<u8> {
    let mut writer = crate::encode::flac::FlacWriter::new(TO);
    writer.push(samples);
    writer.finish()
}

#[track_caller]
fn prepared(file: &[u8]) -> Prepared {
    with_ffmpeg().prepare_bytes(file.to_vec(), None).unwrap()
}

#[track_caller]
fn refused(file: &[u8], reason: &str, offset: Option<u64>) {
    let reject = wav().prepare_bytes(file.to_vec(), None).unwrap_err();
    assert_eq!((reject.reason.as_str(), reject.offset), (reason, offset));
}

/// True if a program is on PATH.
fn has(program: &str) -> bool {
    std::process::Command::new(program).arg("-version").output().is_ok()
}

macro_rules! fixtures {
    ($($name:literal),*) => { &[$(($name, include_bytes!(concat!("../../fixtures/", $name)).as_slice())),*] };
}
/// Recordings that only other programs write; `make.sh` beside them says how.
const FIXTURES: &[(&str, &[u8])] = fixtures![
    "tone.wav",
    "alaw.wav",
    "mulaw.wav",
    "adpcm.wav",
    "double.wav",
    "stereo.flac",
    "apart32.flac",
    "apart24.flac",
    "tone.mp3",
    "uncounted.mp3",
    "tone.m4a",
    "fragments.m4a",
    "surround.m4a",
    "tone.aac",
    "tone.ogg",
    "tone.oga",
    "tone.opus",
    "short.aiff",
    "short.aifc",
    "short.au",
    "short.caf",
    "short.sph",
    "short.w64"
];

fn span(start: u64, num_samples: u64) -> Span {
    Span { start, num_samples }
}

fn floats(sample_rate: u32, samples: &[f32]) -> Vec<u8> {
    let spec = hound::WavSpec { channels: 1, sample_rate, bits_per_sample: 32, sample_format: hound::SampleFormat::Float };
    let mut file = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut file, spec).unwrap();
    for &sample in samples {
        writer.write_sample(sample).unwrap();
    }
    writer.finalize().unwrap();
    file.into_inner()
}

fn samples_of(clip: &Prepared) -> Vec<i16> {
    let mut mono = Vec::new();
    samples(&clip.bytes, &mut mono).unwrap();
    mono.iter().map(|&sample| (sample * 32_768.0) as i16).collect()
}

#[test]
fn a_conforming_file_keeps_its_bytes() {
    let file = write_pcm16(TO, &[1, 2, 3]);
    let clip = wav().prepare_bytes(file.clone(), None).unwrap();
    assert_eq!(clip.bytes, file);
    assert_eq!((clip.num_samples, clip.kept), (3, true));
}

#[test]
fn floats_are_rounded_halves_away_from_zero_and_clamped() {
    let step = 1.0 / 32_768.0;
    let input = [0.5 * step, -0.5 * step, 0.49 * step, 1.5 * step, -2.5 * step, 1.0, 7.0, -1.0, -7.0];
    let clip = wav().prepare_bytes(floats(TO, &input), None).unwrap();
    assert_eq!(samples_of(&clip), [1, -1, 0, 2, -3, 32_767, 32_767, -32_768, -32_768]);
    assert!(!clip.kept);
}

#[test]
fn rounding_agrees_with_the_standard_library() {
    for step in -70_000..=70_000 {
        let sample = step as f32 / 65_536.0 * 0.999_9;
        assert_eq!(to_pcm16(sample), (sample * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16, "{sample}");
    }
}

#[test]
fn other_rates_are_resampled() {
    let clip = wav().prepare_bytes(write_pcm16(8_000, &[1_000; 801]), None).unwrap();
    assert_eq!((clip.num_samples, samples_of(&clip).len()), (1_602, 1_602));
    assert_eq!(clip.source, SourceInfo { sample_rate: 8_000, num_channels: 1, container: "wav" });
    let middle = samples_of(&clip)[800];
    assert!((999..=1_001).contains(&middle), "{middle}");
}

#[test]
fn a_stretch_is_cut_out() {
    let file = write_pcm16(TO, &[1, 2, 3, 4]);
    let clip = wav().prepare_bytes(file.clone(), Some(span(1, 2))).unwrap();
    assert_eq!(samples_of(&clip), [2, 3]);
    let error = wav().prepare_bytes(file, Some(span(3, 2))).unwrap_err().to_string();
    assert_eq!(error, "samples 3 to 5 asked for, the recording has 4");
}

#[test]
fn samples_that_are_no_numbers_are_refused() {
    let check = |value: f32, message: &str| {
        let error = wav().prepare_bytes(floats(48_000, &[0.0, value, 0.0]), None).unwrap_err().to_string();
        assert_eq!(error, message);
    };
    check(f32::NAN, "sample 1 is NaN, not a finite number");
    check(f32::INFINITY, "sample 1 is inf, not a finite number");
}

#[test]
fn a_decoder_may_be_used_after_an_error() {
    let mut preparer = wav();
    assert!(preparer.prepare_bytes(b"nonsense".to_vec(), None).is_err());
    assert_eq!(preparer.prepare_bytes(write_pcm16(TO, &[7]), None).unwrap().num_samples, 1);
}
