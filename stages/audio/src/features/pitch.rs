//! Fundamental frequency by probabilistic YIN.
//!
//! Each frame gives candidates, the troughs of the cumulative mean normalised difference; each candidate's probability is that of
//! the thresholds under which YIN would choose it. A Viterbi search over pitch bins, voiced and unvoiced, then makes one track of them.
//!
//! Sources: de Cheveigne and Kawahara 2002, "YIN, a fundamental frequency estimator for speech and music", equations 1 to 8 and
//! section II.E; Mauch and Dixon 2014, "pYIN", ICASSP. The constants are those of librosa 0.11, with which results agree at a mean threshold of 0.1.

use super::spectrum::Autocorrelation;

/// Number of thresholds between 0 and 1.
const NUM_THRESHOLDS: usize = 100;
/// Decay of the prior over the troughs of a frame, from the shortest period on.
const BOLTZMANN: f64 = 2.0;
/// Pitch bins of a semitone.
const BINS_PER_SEMITONE: f64 = 10.0;
/// Largest change of pitch, in octaves per second.
const MAX_OCTAVES_PER_SEC: f64 = 35.92;
/// Probability that voicing starts or ends between two frames.
const SWITCH: f64 = 0.01;
/// Share of the thresholds below every trough that goes to the deepest trough.
const NO_TROUGH: f64 = 0.01;
/// Logarithm of the probability of what should not happen.
const NEVER: f64 = -708.396_418_532_264_1;

/// Parameters of the tracker.
#[derive(Debug, Clone, PartialEq)]
pub struct Pyin {
    /// In Hz.
    pub sample_rate: u32,
    /// Lowest frequency, in Hz. A frame should hold two periods of it at least, better four.
    pub min_hz: f64,
    /// Highest frequency, in Hz; at most half the sample rate.
    pub max_hz: f64,
    /// Samples of a frame.
    pub frame_length: usize,
    /// Samples from one frame to the next.
    pub hop_length: usize,
    /// Mean of the thresholds below which a trough is voice, whose prior is beta(2, 2 / mean - 2). The paper has 0.1, 0.15 and 0.2.
    pub mean_threshold: f64,
}

/// Pitch of one frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pitch {
    /// Fundamental frequency in Hz; 0 where unvoiced.
    pub hz: f64,
    /// Probability that the frame is voiced, by its own samples alone.
    pub voicing: f64,
}

impl Pyin {
    /// Returns the pitch of `num_frames` frames; frame `t` is centred on sample `t * hop_length + centre`. Outside the recording
    /// there is silence.
    pub fn track(&self, samples: &[f32], num_frames: usize, centre: usize) -> Vec<Pitch> {
        let mut difference = Difference::new(self);
        let bins = self.num_bins();
        let prior = threshold_prior(self.mean_threshold);
        let mut frame = vec![0.0; self.frame_length];
        let mut candidates = Vec::new();
        let mut voicing = Vec::with_capacity(num_frames);
        let mut search = Search::new(bins, self.max_step());
        for at in 0..num_frames {
            let start = (at * self.hop_length + centre) as i64 - (self.frame_length / 2) as i64;
            for (place, at) in frame.iter_mut().zip(start..) {
                *place = usize::try_from(at).ok().and_then(|at| samples.get(at)).copied().map_or(0.0, f64::from);
            }
            self.candidates(difference.of(&frame), &prior, &mut candidates);
            let mut observed = vec![0.0; bins];
            for &(hz, probability) in &candidates {
                let bin = (12.0 * BINS_PER_SEMITONE * (hz / self.min_hz).log2()).round().max(0.0) as usize;
                if let Some(place) = observed.get_mut(bin) {
                    *place = probability;
                }
            }
            let voiced = observed.iter().sum::<f64>().clamp(0.0, 1.0);
            voicing.push(voiced);
            search.step(&observed, (1.0 - voiced) / bins as f64);
        }
        let pitch = |(bin, voicing): (Option<usize>, f64)| {
            let hz = bin.map_or(0.0, |bin| self.min_hz * (bin as f64 / (12.0 * BINS_PER_SEMITONE)).exp2());
            Pitch { hz, voicing }
        };
        search.path().into_iter().zip(voicing).map(pitch).collect()
    }

    /// Shortest and longest period, in samples.
    fn periods(&self) -> (usize, usize) {
        let rate = f64::from(self.sample_rate);
        let shortest = ((rate / self.max_hz).floor() as usize).max(1);
        (shortest, ((rate / self.min_hz).ceil() as usize).min(self.frame_length - 1))
    }

    fn num_bins(&self) -> usize {
        (12.0 * BINS_PER_SEMITONE * (self.max_hz / self.min_hz).log2()).floor() as usize + 1
    }

    /// Bins that the pitch may move from one frame to the next.
    fn max_step(&self) -> usize {
        let semitones = MAX_OCTAVES_PER_SEC * 12.0 * self.hop_length as f64 / f64::from(self.sample_rate);
        (semitones.round_ties_even() * BINS_PER_SEMITONE) as usize / 2
    }

    /// Finds the candidates of a frame: frequency in Hz and probability. `difference` starts at the shortest period.
    fn candidates(&self, difference: &[f64], prior: &[f64; NUM_THRESHOLDS], found: &mut Vec<(f64, f64)>) {
        found.clear();
        let last = difference.len() - 1;
        let is_trough = |&at: &usize| {
            let below_left = if at == 0 { difference[0] < difference[1] } else { difference[at] < difference[at - 1] };
            below_left && (at == 0 || at == last || difference[at] <= difference[at + 1])
        };
        let troughs: Vec<usize> = (0..=last).filter(is_trough).collect();
        let Some(deepest) = troughs.iter().copied().reduce(|a, b| if difference[b] < difference[a] { b } else { a }) else {
            return;
        };
        // Threshold k is (k + 1) / 100; a trough is below it from its own number on.
        let below_from = |at: usize| {
            let height = difference[at];
            (0..NUM_THRESHOLDS).find(|&k| height < (k + 1) as f64 / NUM_THRESHOLDS as f64).unwrap_or(NUM_THRESHOLDS)
        };
        let from: Vec<usize> = troughs.iter().map(|&at| below_from(at)).collect();
        let mut probabilities = vec![0.0; troughs.len()];
        for (threshold, weight) in prior.iter().enumerate() {
            let count = from.iter().filter(|&&from| from <= threshold).count();
            let mut rank = 0;
            for (place, &from) in probabilities.iter_mut().zip(&from) {
                if from <= threshold {
                    *place += weight * boltzmann(rank, count);
                    rank += 1;
                }
            }
        }
        let minimum = troughs.iter().position(|&at| at == deepest).expect("the deepest trough is one of them");
        probabilities[minimum] += NO_TROUGH * prior[..from[minimum]].iter().sum::<f64>();
        let shortest = self.periods().0 as f64;
        for (&at, &probability) in troughs.iter().zip(&probabilities).filter(|(_, probability)| **probability > 0.0) {
            let period = shortest + at as f64 + parabola(difference, at);
            found.push((f64::from(self.sample_rate) / period, probability));
        }
    }
}

/// Probability of each threshold: differences of the distribution function of a beta distribution of this mean.
fn threshold_prior(mean: f64) -> [f64; NUM_THRESHOLDS] {
    let beta = 2.0 / mean - 2.0;
    let power = |x: f64, by: f64| if by.fract() == 0.0 { x.powi(by as i32) } else { x.powf(by) };
    let below = |x: f64| 1.0 - power(1.0 - x, beta + 1.0) - (beta + 1.0) * x * power(1.0 - x, beta);
    std::array::from_fn(|k| below((k + 1) as f64 / NUM_THRESHOLDS as f64) - below(k as f64 / NUM_THRESHOLDS as f64))
}

/// Probability of the trough of a rank among `count`, by a truncated geometric distribution.
fn boltzmann(rank: i32, count: usize) -> f64 {
    (1.0 - (-BOLTZMANN).exp()) * (-BOLTZMANN * f64::from(rank)).exp() / (1.0 - (-BOLTZMANN * count as f64).exp())
}

/// Distance from `at` to the bottom of the parabola through it and its neighbours; 0 at the ends, and where it would be more than one.
fn parabola(values: &[f64], at: usize) -> f64 {
    if at == 0 || at + 1 == values.len() {
        return 0.0;
    }
    let curve = values[at + 1] + values[at - 1] - 2.0 * values[at];
    let slope = (values[at + 1] - values[at - 1]) / 2.0;
    if slope.abs() >= curve.abs() { 0.0 } else { -slope / curve }
}

/// Cumulative mean normalised difference of frames.
struct Difference {
    shortest: usize,
    longest: usize,
    autocorrelation: Autocorrelation,
    values: Vec<f64>,
}

impl Difference {
    fn new(params: &Pyin) -> Self {
        let (shortest, longest) = params.periods();
        Self { shortest, longest, autocorrelation: Autocorrelation::new(params.frame_length), values: Vec::new() }
    }

    /// Values from the shortest to the longest period. Beyond its end the frame counts as silence.
    fn of(&mut self, frame: &[f64]) -> &[f64] {
        let lags = self.autocorrelation.of(frame, self.longest + 1);
        self.values.clear();
        let (mut head, mut sum) = (0.0, 0.0);
        for lag in 1..=self.longest {
            head += frame[lag - 1] * frame[lag - 1];
            let difference = 2.0 * (lags[0] - lags[lag]) - head;
            sum += difference;
            if lag >= self.shortest {
                self.values.push(difference / (sum / lag as f64 + f64::MIN_POSITIVE));
            }
        }
        &self.values
    }
}

/// Viterbi search over pitch bins, each voiced and unvoiced.
struct Search {
    bins: usize,
    step: usize,
    /// Logarithm of the weight of a move by `-step..=step` bins.
    moves: Vec<f64>,
    /// Logarithm of the sum of the weights of the moves from a bin that stay within the bins.
    norms: Vec<f64>,
    /// Best logarithm so far of each state: voiced bins, then unvoiced ones.
    best: Vec<f64>,
    /// Per frame, the state before each state.
    from: Vec<Vec<u32>>,
}

impl Search {
    fn new(bins: usize, step: usize) -> Self {
        let weight = |distance: usize| 1.0 - distance as f64 / (step + 1) as f64;
        let moves = (0..=2 * step).map(|at| weight(at.abs_diff(step)).ln()).collect();
        let norm = |bin: usize| {
            let (low, high) = (bin.saturating_sub(step), (bin + step).min(bins - 1));
            (low..=high).map(|to| weight(to.abs_diff(bin))).sum::<f64>().ln()
        };
        let norms = (0..bins).map(norm).collect();
        Self { bins, step, moves, norms, best: Vec::new(), from: Vec::new() }
    }

    /// Takes the next frame: probabilities of the voiced bins, and of each unvoiced one.
    fn step(&mut self, voiced: &[f64], unvoiced: f64) {
        let log = |probability: f64| (probability + f64::MIN_POSITIVE).ln();
        let observed = voiced.iter().map(|&p| log(p)).chain(std::iter::repeat_n(log(unvoiced), self.bins));
        if self.best.is_empty() {
            let start = -((2 * self.bins) as f64).ln();
            self.best = observed.map(|seen| start + seen).collect();
            self.from.push(Vec::new());
            return;
        }
        let (stay, switch) = ((1.0 - SWITCH).ln(), SWITCH.ln());
        let scaled: Vec<f64> = self.best.iter().enumerate().map(|(at, best)| best - self.norms[at % self.bins]).collect();
        let (on, off) = scaled.split_at(self.bins);
        // A move beyond the band is not impossible, only as unlikely as what was not observed at all.
        let (far, far_from) = largest(&self.best);
        let (mut best, mut from) = (vec![0.0; 2 * self.bins], vec![0; 2 * self.bins]);
        for bin in 0..self.bins {
            let (low, high) = (bin.saturating_sub(self.step), (bin + self.step + 1).min(self.bins));
            let moves = &self.moves[low + self.step - bin..];
            let reach = |states: &[f64]| {
                let mut found = (f64::NEG_INFINITY, 0);
                for (at, (state, weight)) in states[low..high].iter().zip(moves).enumerate() {
                    let value = state + weight;
                    if value > found.0 {
                        found = (value, low + at);
                    }
                }
                found
            };
            let ((voiced, voiced_from), (unvoiced, unvoiced_from)) = (reach(on), reach(off));
            let choose = |voiced: f64, unvoiced: f64| {
                let near = if voiced >= unvoiced { (voiced, voiced_from) } else { (unvoiced, self.bins + unvoiced_from) };
                if far + NEVER > near.0 { (far + NEVER, far_from) } else { near }
            };
            for (state, (value, state_from)) in
                [(bin, choose(voiced + stay, unvoiced + switch)), (self.bins + bin, choose(voiced + switch, unvoiced + stay))]
            {
                best[state] = value;
                from[state] = state_from as u32;
            }
        }
        self.best = best.into_iter().zip(observed).map(|(best, seen)| best + seen).collect();
        self.from.push(from);
    }

    /// The best path: a bin for each frame, none where unvoiced.
    fn path(self) -> Vec<Option<usize>> {
        let mut state = largest(&self.best).1;
        let mut path = Vec::with_capacity(self.from.len());
        for from in self.from.iter().rev() {
            path.push((state < self.bins).then_some(state));
            state = from.get(state).map_or(0, |&from| from as usize);
        }
        path.reverse();
        path
    }
}

/// The largest of the values and its place, the first of several.
fn largest(values: &[f64]) -> (f64, usize) {
    let mut found = (f64::NEG_INFINITY, 0);
    for (at, &value) in values.iter().enumerate() {
        if value > found.0 {
            found = (value, at);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;

    const PARAMS: Pyin =
        Pyin { sample_rate: 8_000, min_hz: 60.0, max_hz: 400.0, frame_length: 512, hop_length: 100, mean_threshold: 0.1 };

    /// A tone with overtones that fall off, at `hz`.
    fn tone(hz: f64, num_samples: usize) -> Vec<f32> {
        let wave = |at: usize| (1..8).map(|k| (TAU * hz * f64::from(k) * at as f64 / 8e3).sin() / f64::from(k)).sum::<f64>();
        (0..num_samples).map(|at| (0.1 * wave(at)) as f32).collect()
    }

    #[test]
    fn a_tone_is_found_within_ten_cents() {
        for hz in [70.0, 123.4, 220.0, 300.0] {
            let track = PARAMS.track(&tone(hz, 8_000), 81, 0);
            for pitch in &track[3..78] {
                let cents = 1200.0 * (pitch.hz / hz).log2();
                assert!(cents.abs() < 10.0 && pitch.voicing > 0.2, "{hz}: {pitch:?}");
            }
        }
    }

    #[test]
    fn silence_noise_and_a_click_are_unvoiced() {
        let mut state = 1_u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (f64::from(state) / f64::from(u32::MAX) - 0.5) as f32
        };
        let noise: Vec<f32> = (0..8_000).map(|_| noise()).collect();
        let mut click = vec![0.0; 8_000];
        click[4_000] = 1.0;
        for samples in [vec![0.0; 8_000], noise, click] {
            let track = PARAMS.track(&samples, 81, 0);
            let voiced = track.iter().filter(|pitch| pitch.hz > 0.0).count();
            assert!(voiced <= 2, "{voiced} of 81 frames are voiced");
        }
    }

    #[test]
    fn thresholds_have_the_mean_asked_for() {
        for mean in [0.1, 0.15, 0.2] {
            let prior = threshold_prior(mean);
            let found: f64 = prior.iter().zip(0..).map(|(weight, k)| weight * (f64::from(k) + 0.5) / 100.0).sum();
            assert!((found - mean).abs() < 1e-3 && (prior.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{mean}: {found}");
        }
    }

    #[test]
    fn a_short_rough_sound_is_heard_with_higher_thresholds() {
        let mut state = 1_u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (f64::from(state) / f64::from(u32::MAX) - 0.5) as f32
        };
        // A fifth of a second between silence.
        let sound = tone(95.0, 8_000).into_iter().enumerate().map(|(at, sample)| {
            let noise = noise();
            if (3_000..4_500).contains(&at) { sample + 0.2 * noise } else { 1e-4 * noise }
        });
        let sound: Vec<f32> = sound.collect();
        let voiced = |mean_threshold: f64| {
            let track = Pyin { mean_threshold, ..PARAMS }.track(&sound, 81, 0);
            track.iter().filter(|pitch| pitch.hz > 0.0).count()
        };
        // librosa's pYIN finds 0 and 18.
        assert_eq!(voiced(0.1), 0);
        assert!((16..=20).contains(&voiced(0.2)), "{}", voiced(0.2));
    }

    #[test]
    fn clips_of_no_and_few_samples_have_the_frames_asked_for() {
        assert!(PARAMS.track(&[], 0, 0).is_empty());
        assert_eq!(PARAMS.track(&[0.5], 1, 0).len(), 1);
        assert_eq!(PARAMS.track(&tone(100.0, 250), 3, 50).len(), 3);
    }
}
