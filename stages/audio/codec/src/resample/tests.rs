//! Tones pin gain, alias, shift and length for every rate that corpora come in.

use std::f64::consts::TAU;

use super::*;

const TO: u32 = 16_000;
/// A whole clip at once.
fn resampled(resamplers: &mut Resamplers, clip: &[f32], from: u32) -> Vec<f32> {
    let mut output = Vec::new();
    let mut stream = resamplers.start(from).unwrap();
    stream.push(clip, &mut output);
    stream.finish(&mut output);
    output
}

const RATES: [u32; 6] = [8_000, 22_050, 24_000, 32_000, 44_100, 48_000];

fn tone(hz: f64, rate: u32, secs: f64) -> Vec<f32> {
    let len = (secs * f64::from(rate)) as usize;
    (0..len).map(|n| (0.5 * (TAU * hz * n as f64 / f64::from(rate)).sin()) as f32).collect()
}

/// Amplitude and phase (in output samples, late is positive) of a tone at `hz`, by least squares over the middle of the clip.
fn measure(clip: &[f32], hz: f64) -> (f64, f64) {
    let (mut sine, mut cosine) = (0.0, 0.0);
    let middle = clip.len() / 5..clip.len() * 4 / 5;
    let weight = |n: usize| {
        let x = (n - middle.start) as f64 / middle.len() as f64;
        0.5 - 0.5 * (TAU * x).cos()
    };
    let total: f64 = middle.clone().map(weight).sum();
    for n in middle.clone() {
        let angle = TAU * hz * n as f64 / f64::from(TO);
        sine += weight(n) * f64::from(clip[n]) * angle.sin();
        cosine += weight(n) * f64::from(clip[n]) * angle.cos();
    }
    let (sine, cosine) = (2.0 * sine / total, 2.0 * cosine / total);
    let late = -cosine.atan2(sine) / TAU * f64::from(TO) / hz;
    (sine.hypot(cosine), late)
}

fn decibels(ratio: f64) -> f64 {
    20.0 * ratio.log10()
}

#[test]
fn tones_below_7200_hz_keep_level_and_time() {
    for rate in RATES {
        let mut resamplers = Resamplers::new(TO);
        let top = f64::from(rate) / 2.0 * 0.9;
        for hz in [100.0, 1_000.0, 3_000.0, 5_000.0, 7_000.0, 7_200.0].into_iter().filter(|&hz| hz <= top) {
            let (amplitude, late) = measure(&resampled(&mut resamplers, &tone(hz, rate, 1.0), rate), hz);
            let gain = decibels(amplitude / 0.5);
            assert!(gain.abs() < 0.1, "{rate} Hz, tone of {hz} Hz: {gain:.3} dB");
            assert!(late.abs() < 0.005, "{rate} Hz, tone of {hz} Hz: {late:.4} samples late");
        }
    }
}

#[test]
fn tones_above_8050_hz_are_gone() {
    for rate in RATES.into_iter().filter(|&rate| rate > TO) {
        let mut resamplers = Resamplers::new(TO);
        for hz in [8_050.0, 8_500.0, 10_000.0].into_iter().filter(|&hz| hz < f64::from(rate) / 2.0) {
            let input = tone(hz, rate, 1.0);
            let output = resampled(&mut resamplers, &input, rate);
            // The ends are left out: a tone that starts at once has every frequency in it.
            let middle = &output[output.len() / 5..output.len() * 4 / 5];
            let power = middle.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>() / middle.len() as f64;
            let level = decibels(power.sqrt() / (0.5 / 2.0_f64.sqrt()));
            assert!(level < -120.0, "{rate} Hz, tone of {hz} Hz: {level:.1} dB");
        }
    }
}

#[test]
fn an_impulse_stays_where_it_is() {
    for rate in RATES {
        let mut clip = vec![0.0; rate as usize];
        clip[rate as usize / 2] = 1.0;
        let mut resamplers = Resamplers::new(TO);
        let output = resampled(&mut resamplers, &clip, rate);
        let peak = (0..output.len()).max_by(|&a, &b| output[a].total_cmp(&output[b])).unwrap();
        assert_eq!(peak, TO as usize / 2, "{rate} Hz");
    }
}

#[test]
fn the_length_is_the_ratio_rounded_up() {
    for rate in RATES.into_iter().chain([11_025, 12_000, 96_000, 44_056]) {
        let mut resamplers = Resamplers::new(TO);
        for len in [1, 2, 3, 147, 160, 441, 1_000, 1_535, 1_536, 1_537, 4_321] {
            let expected = (len as f64 * 16_000.0 / f64::from(rate)).ceil() as usize;
            assert_eq!(resampled(&mut resamplers, &vec![0.1; len], rate).len(), expected, "{len} samples at {rate} Hz");
        }
    }
}

#[test]
fn a_clip_does_not_depend_on_the_one_before() {
    let (first, second) = (tone(440.0, 44_100, 0.3), tone(3_000.0, 44_100, 0.21));
    let mut fresh = Resamplers::new(TO);
    let alone = resampled(&mut fresh, &second, 44_100);
    let mut used = Resamplers::new(TO);
    resampled(&mut used, &first, 44_100);
    resampled(&mut used, &first, 8_000);
    assert_eq!(resampled(&mut used, &second, 44_100), alone);
}

#[test]
fn blocks_follow_the_rule() {
    let check = |rate, expected| assert_eq!(block_len(rate, TO), expected, "{rate} Hz");
    check(48_000, 1_536);
    check(44_100, 1_764);
    check(22_050, 1_764);
    check(24_000, 1_536);
    check(32_000, 1_536);
    check(8_000, 1_536);
    check(11_025, 1_764);
}

#[test]
fn the_same_rate_changes_nothing() {
    let clip = tone(440.0, TO, 0.1);
    assert_eq!(resampled(&mut Resamplers::new(TO), &clip, TO), clip);
}

#[test]
fn a_rate_of_0_is_an_error() {
    let error = Resamplers::new(TO).start(0).err().unwrap().to_string();
    assert!(error.starts_with("cannot resample from 0 Hz to 16000 Hz"), "{error}");
}

#[test]
fn pieces_give_the_same_as_the_whole() {
    let clip = tone(440.0, 44_100, 0.3);
    let mut resamplers = Resamplers::new(TO);
    let whole = resampled(&mut resamplers, &clip, 44_100);
    for len in [1, 100, 1_764, 1_765, 5_000] {
        let mut output = Vec::new();
        let mut stream = resamplers.start(44_100).unwrap();
        clip.chunks(len).for_each(|piece| stream.push(piece, &mut output));
        stream.finish(&mut output);
        assert!(output == whole, "pieces of {len}");
    }
}

#[test]
fn resamplers_of_odd_rates_do_not_pile_up() {
    let mut resamplers = Resamplers::new(TO);
    for rate in (700_001..700_009).step_by(2) {
        assert!(resamplers.start(rate).is_ok());
        assert!(resamplers.by_rate.len() <= 2, "{rate}");
    }
}
