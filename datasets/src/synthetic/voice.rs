//! A formant synthesiser: a source of pulses and noise, and resonances that follow the segments of a word.
//!
//! Source: Klatt 1980, "Software for a cascade/parallel formant synthesizer", J. Acoust. Soc. Am. 67, 971-995: the resonator
//! (section I, equations 1 to 3), the cascade of formants, and parallel noise for fricatives, much simplified. The glottal
//! pulse is the cubic of Rosenberg 1971 (J. Acoust. Soc. Am. 49, 583-590), differentiated for the radiation at the lips.

use super::arithmetic::{Random, cos_turns, exp};
use super::phones::{Segment, segments, sounds};

/// One speaker.
#[derive(Debug, Clone)]
pub(super) struct Voice {
    seed: u64,
    number: u32,
    /// Mean pitch, in Hz.
    pitch: f64,
    /// Formants relative to an adult male's: the shorter the vocal tract, the higher.
    formant_scale: f64,
    /// Centre of the fourth formant, in Hz: it hardly moves with what is said, so it tells who speaks.
    fourth: f64,
    /// Share of a period that the vocal folds are open.
    open: f64,
    breathiness: f64,
    tempo: f64,
    /// How much of the usual fall of the pitch; below 0 it rises.
    swing: f64,
}

/// A way of saying something, by which listeners tell emotions: all relative to how the speaker usually speaks.
///
/// Directions after Scherer 2003, "Vocal communication of emotion", Speech Communication 40, table 1; sizes are our own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Prosody {
    /// Mean pitch.
    pub(super) pitch: f64,
    /// The fall of the pitch; below 0 it rises.
    pub(super) swing: f64,
    /// Sounds per second.
    pub(super) tempo: f64,
    pub(super) breathiness: f64,
}

/// Widths of the four formants, in Hz.
const WIDTHS: [f64; 4] = [70.0, 90.0, 130.0, 200.0];
/// Clips of the real corpus last at most a second.
const LONGEST_SECS: f64 = 0.95;
/// Parameters follow the segments in steps of this many seconds.
const STEP_SECS: f64 = 0.0025;
/// How fast the tongue moves and how fast amplitudes do: time constants in seconds.
const FORMANT_SECS: f64 = 0.018;
const AMPLITUDE_SECS: f64 = 0.006;

impl Voice {
    /// The voice of a speaker.
    pub(super) fn of(seed: u64, number: u32) -> Self {
        let mut random = Random::of(&[seed, 0x01ce, u64::from(number)]);
        // Multiples of such ratios spread evenly, however many speakers there are; two speakers who are close in one are not in another.
        let spread = |ratio: f64| (f64::from(number) * ratio + 0.5).fract();
        let (place, throat, folds) =
            (spread(0.618_033_988_749_895), spread(0.754_877_666_246_693), spread(0.569_840_290_998_053));
        Self {
            seed,
            number,
            pitch: 90.0 + 150.0 * place + random.between(-6.0, 6.0),
            formant_scale: 0.88 + 0.1 * place + 0.24 * throat + random.between(-0.01, 0.01),
            fourth: 2_900.0 + 1_100.0 * folds + random.between(-40.0, 40.0),
            open: 0.4 + 0.4 * folds + random.between(-0.02, 0.02),
            breathiness: random.between(0.01, 0.06),
            tempo: random.between(0.88, 1.12),
            swing: 1.0,
        }
    }

    /// Returns this speaker's voice in another mood.
    pub(super) fn in_mood(&self, mood: Prosody) -> Self {
        Self {
            pitch: self.pitch * mood.pitch,
            swing: self.swing * mood.swing,
            tempo: self.tempo * mood.tempo,
            breathiness: self.breathiness * mood.breathiness,
            ..self.clone()
        }
    }

    /// Eight hexadecimal digits, different for every number: the mixing can be undone.
    pub(super) fn name(&self) -> String {
        let mut mixed = self.number.wrapping_add(Random::of(&[self.seed, 0x4a3e]).next() as u32);
        mixed = (mixed ^ (mixed >> 16)).wrapping_mul(0x85eb_ca6b);
        mixed = (mixed ^ (mixed >> 13)).wrapping_mul(0xc2b2_ae35);
        format!("{:08x}", mixed ^ (mixed >> 16))
    }

    /// Says a word once: 16-bit samples, less than a second.
    pub(super) fn say(&self, word: &str, take: u32, sample_rate: u32) -> Vec<i16> {
        let letters = word.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(257).wrapping_add(u64::from(byte)));
        let mut random = Random::of(&[self.seed, 0x5a1d, u64::from(self.number), letters, u64::from(take)]);
        let tempo = self.tempo * random.between(0.85, 1.2);
        let mut score = vec![pause(random.between(0.02, 0.08))];
        for sound in sounds(word) {
            let stretch = random.between(0.85, 1.2) / tempo;
            let shift = self.formant_scale * random.between(0.96, 1.04);
            score.extend(segments(sound).into_iter().map(|segment| Segment {
                formants: segment.formants.map(|hz| hz * shift),
                hiss_hz: segment.hiss_hz * random.between(0.93, 1.07),
                hiss: segment.hiss * random.between(0.7, 1.3),
                breath: segment.breath * random.between(0.7, 1.3),
                secs: segment.secs * stretch,
                ..segment
            }));
        }
        score.push(pause(random.between(0.05, 0.1)));
        let total: f64 = score.iter().map(|segment| segment.secs).sum();
        let squeeze = (LONGEST_SECS / total).min(1.0);
        for segment in &mut score {
            segment.secs *= squeeze;
        }
        let clip = self.render(&score, &mut random, f64::from(sample_rate));
        finish(clip, &mut random)
    }

    fn render(&self, score: &[Segment], random: &mut Random, rate: f64) -> Vec<f64> {
        let total: f64 = score.iter().map(|segment| segment.secs).sum();
        let (pitch, fall) = (self.pitch * random.between(0.9, 1.12), random.between(0.05, 0.3) * self.swing);
        let step_len = (STEP_SECS * rate).round().max(1.0) as usize;
        let num_steps = (total / STEP_SECS).ceil() as usize;
        let mut now = score[0];
        now.formants = score[1].formants;
        let (slow, fast) = (1.0 - exp(-STEP_SECS / FORMANT_SECS), 1.0 - exp(-STEP_SECS / AMPLITUDE_SECS));
        let (mut tract, mut mouth) = ([Resonator::default(); 4], Resonator::default());
        let mut folds = Folds { phase: 0.0, wobble: 1.0 };
        let mut clip = Vec::with_capacity(num_steps * step_len);
        for step in 0..num_steps {
            let secs = step as f64 * STEP_SECS;
            approach(&mut now, target(score, secs), slow, fast);
            let hz = [now.formants[0], now.formants[1], now.formants[2], self.fourth];
            for ((resonator, hz), width) in tract.iter_mut().zip(hz).zip(WIDTHS) {
                resonator.tune(hz, width, rate);
            }
            mouth.tune(now.hiss_hz, now.hiss_width, rate);
            // The gain of a resonance grows with its centre: leave the level to the amplitude.
            let mouth_gain = now.hiss * now.hiss_width / rate * 4.0;
            let frequency = pitch * (1.0 + fall * (0.5 - secs / total));
            for _ in 0..step_len {
                let pulse = folds.pulse(frequency / rate, self.open, random);
                let breath = random.noise() * (now.breath * 0.3 + now.voicing * self.breathiness);
                let mut sample = now.voicing * pulse + breath;
                for resonator in &mut tract {
                    sample = resonator.filter(sample);
                }
                clip.push(sample + mouth.peak(random.noise()) * mouth_gain);
            }
        }
        clip
    }
}

fn pause(secs: f64) -> Segment {
    Segment {
        formants: [500.0, 1500.0, 2500.0],
        voicing: 0.0,
        breath: 0.0,
        hiss: 0.0,
        hiss_hz: 4_000.0,
        hiss_width: 4_000.0,
        secs,
    }
}

/// The segment at a time; in a pause the tongue already is where the neighbour wants it.
fn target(score: &[Segment], secs: f64) -> Segment {
    let mut end = 0.0;
    let at = score.iter().position(|segment| {
        end += segment.secs;
        secs < end
    });
    let at = at.unwrap_or(score.len() - 1);
    let mut target = score[at];
    if at == 0 {
        target.formants = score[1].formants;
    } else if at == score.len() - 1 {
        target.formants = score[at - 1].formants;
    }
    target
}

/// Moves part of the way to the target.
fn approach(now: &mut Segment, target: Segment, slow: f64, fast: f64) {
    for (hz, goal) in now.formants.iter_mut().zip(target.formants) {
        *hz += slow * (goal - *hz);
    }
    now.voicing += fast * (target.voicing - now.voicing);
    now.breath += fast * (target.breath - now.breath);
    now.hiss += fast * (target.hiss - now.hiss);
    (now.hiss_hz, now.hiss_width) =
        if target.hiss > 0.0 { (target.hiss_hz, target.hiss_width) } else { (now.hiss_hz, now.hiss_width) };
}

/// The vocal folds.
struct Folds {
    /// Within the period, 0 to 1.
    phase: f64,
    /// No two periods are equally long.
    wobble: f64,
}

impl Folds {
    /// The next sample of the pulse train; `step` is the share of a period that a sample lasts.
    fn pulse(&mut self, step: f64, open: f64, random: &mut Random) -> f64 {
        self.phase += step * self.wobble;
        if self.phase >= 1.0 {
            self.phase -= 1.0;
            self.wobble = random.between(0.985, 1.015);
        }
        let place = self.phase / open;
        if place < 1.0 { place * (2.0 - 3.0 * place) } else { 0.0 }
    }
}

/// `y[n] = gain x[n] + b y[n-1] + c y[n-2]`, with gain 1 at 0 Hz.
#[derive(Debug, Clone, Copy, Default)]
struct Resonator {
    gain: f64,
    b: f64,
    c: f64,
    last: f64,
    before: f64,
}

impl Resonator {
    fn tune(&mut self, hz: f64, width: f64, rate: f64) {
        let radius = exp(-std::f64::consts::PI * width / rate);
        self.c = -radius * radius;
        self.b = 2.0 * radius * cos_turns(hz.min(0.45 * rate) / rate);
        self.gain = 1.0 - self.b - self.c;
    }

    fn filter(&mut self, input: f64) -> f64 {
        let output = self.gain * input + self.b * self.last + self.c * self.before;
        (self.before, self.last) = (self.last, output);
        output
    }

    /// Like `filter`, but without the gain that makes low sounds pass unchanged.
    fn peak(&mut self, input: f64) -> f64 {
        let output = input + self.b * self.last + self.c * self.before;
        (self.before, self.last) = (self.last, output);
        output
    }
}

/// Adds a quiet background and sets the level.
fn finish(mut clip: Vec<f64>, random: &mut Random) -> Vec<i16> {
    let peak = clip.iter().fold(1e-9_f64, |peak, sample| peak.max(sample.abs()));
    // 20 to 45 dB below the peak: 10^(-x/20) is e^(-x ln(10) / 20).
    let background = peak * exp(-random.between(20.0, 45.0) * 0.115_129_254_649_702_28) * 0.5;
    let colour = random.between(0.0, 0.9);
    let mut low = 0.0;
    for sample in &mut clip {
        low = colour * low + (1.0 - colour) * random.noise();
        *sample += background * low;
    }
    let level = random.between(0.25, 0.9) * 32_767.0 / (peak + 2.0 * background);
    clip.into_iter().map(|sample| to_i16(sample * level)).collect()
}

fn to_i16(sample: f64) -> i16 {
    (sample + 0.5).floor().clamp(-32_768.0, 32_767.0) as i16
}

/// Background noise of a colour.
pub(super) struct Noise {
    /// How much of the last sample stays: above 0 dull, below 0 sharp; within (-1, 1).
    pub(super) colour: f64,
    /// How often it swells in a second.
    pub(super) swell_hz: f64,
}

impl Noise {
    pub(super) fn samples(&self, random: &mut Random, len: usize, sample_rate: u32) -> Vec<i16> {
        let mut last = 0.0;
        let sample = |n: usize| {
            last = self.colour * last + (1.0 - self.colour.abs()) * random.noise();
            let swell = 1.0 - 0.4 * (1.0 - cos_turns(self.swell_hz * n as f64 / f64::from(sample_rate)));
            to_i16(6_000.0 * swell * last)
        };
        (0..len).map(sample).collect()
    }
}
