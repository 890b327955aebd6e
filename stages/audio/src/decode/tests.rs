use std::io::Cursor;

use super::*;

const TO: u32 = 16_000;

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

fn samples_of(clip: &Clip) -> Vec<i16> {
    hound::WavReader::new(Cursor::new(&clip.bytes)).unwrap().samples().map(Result::unwrap).collect()
}

#[test]
fn a_conforming_file_keeps_its_bytes() {
    let mut file = wav::write_pcm16(TO, &[1, 2, 3]);
    file.extend_from_slice(b"LIST\x02\0\0\0ab");
    let clip = Decoder::new(TO).decode(file.clone(), None).unwrap();
    assert_eq!(clip.bytes, file);
    assert_eq!((clip.num_samples, clip.source.kept), (3, true));
}

#[test]
fn floats_are_rounded_halves_away_from_zero_and_clamped() {
    let step = 1.0 / 32_768.0;
    let input = [0.5 * step, -0.5 * step, 0.49 * step, 1.5 * step, -2.5 * step, 1.0, 7.0, -1.0, -7.0];
    let clip = Decoder::new(TO).decode(floats(TO, &input), None).unwrap();
    assert_eq!(samples_of(&clip), [1, -1, 0, 2, -3, 32_767, 32_767, -32_768, -32_768]);
    assert!(!clip.source.kept);
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
    let clip = Decoder::new(TO).decode(wav::write_pcm16(8_000, &[1_000; 801]), None).unwrap();
    assert_eq!((clip.num_samples, samples_of(&clip).len()), (1_602, 1_602));
    assert_eq!(clip.source, Source { sample_rate: 8_000, num_channels: 1, kept: false });
    let middle = samples_of(&clip)[800];
    assert!((999..=1_001).contains(&middle), "{middle}");
}

#[test]
fn a_stretch_is_cut_out() {
    let file = wav::write_pcm16(TO, &[1, 2, 3, 4]);
    let clip = Decoder::new(TO).decode(file.clone(), Some((1, 2))).unwrap();
    assert_eq!(samples_of(&clip), [2, 3]);
    let error = Decoder::new(TO).decode(file, Some((3, 2))).unwrap_err().to_string();
    assert_eq!(error, "samples 3 to 5 asked for, the recording has 4");
}

#[test]
fn samples_that_are_no_numbers_are_refused() {
    let check = |value: f32, message: &str| {
        let error = Decoder::new(TO).decode(floats(48_000, &[0.0, value, 0.0]), None).unwrap_err().to_string();
        assert_eq!(error, message);
    };
    check(f32::NAN, "sample 1 is NaN, not a finite number");
    check(f32::INFINITY, "sample 1 is inf, not a finite number");
}

#[test]
fn a_decoder_may_be_used_after_an_error() {
    let mut decoder = Decoder::new(TO);
    assert!(decoder.decode(b"nonsense".to_vec(), None).is_err());
    assert_eq!(decoder.decode(wav::write_pcm16(TO, &[7]), None).unwrap().num_samples, 1);
}
