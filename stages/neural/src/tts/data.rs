//! Utterances that a voice learns from: symbols of their texts, spectrograms, pitch and energy.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use audio::features::mel::{Energy, MelSpectrogram};
use audio::features::streams::StreamReader;
use audio::reader::ShardReader;
use audio::speech::Alignment;
use datasets::Annotation;
use pipeline::{Input, Job, StageError};
use serde::{Deserialize, Serialize};
use tasks::text::{FrontEnd, Rules, SILENCE};
use tch::{Device, TchError, Tensor};

use super::error::TtsError;
use super::voice::{Moments, PitchScale, Statistics, VoiceConfig};
use crate::data::{BatchLimit, DataError, by_length, shuffled};
use crate::models::acoustic::{Target, Text, search};
use crate::train::learner::TrainingData;

/// Speaker of recordings that name none.
const ONLY_SPEAKER: &str = "speaker";
/// Batches made ahead of the one in use.
const AHEAD: usize = 4;
/// Spectrograms of at most so many numbers are kept in memory.
const KEPT_NUMBERS: usize = 256 << 20;

/// An utterance.
#[derive(Debug, Clone)]
pub(super) struct Utterance {
    pub(super) id: String,
    pub(super) speaker: String,
    pub(super) text: String,
    pub(super) symbols: Vec<String>,
    /// Frames that are used: all of the recording, unless it was cut.
    pub(super) num_frames: usize,
    /// Frames of the recording, and the first one that is used.
    recorded_frames: usize,
    first_frame: usize,
    num_samples: usize,
    /// Row of the shards.
    row: usize,
    /// Fundamental frequency of every frame in Hz, 0 where unvoiced.
    f0: Vec<f32>,
    energy: Vec<f32>,
}

/// An utterance that is not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rejected {
    /// Id of the utterance.
    pub id: String,
    /// Why.
    pub reason: String,
}

/// Utterances of a split, before a voice is known.
#[derive(Debug)]
pub(super) struct Corpus {
    shards: ShardReader,
    pub(super) utterances: Vec<Utterance>,
    pub(super) rejected: Vec<Rejected>,
    /// Utterances without a voiced frame.
    pub(super) unvoiced: Vec<String>,
    /// Words that the dictionary lacks, with the phonemes they got.
    pub(super) guessed: BTreeMap<String, String>,
    pub(super) mel: MelSpectrogram,
    pub(super) energy: Energy,
    sample_rate: u32,
}

/// Text of a recording: as the corpus normalises it, as distributed, or its class.
pub(super) fn text_of(annotation: &Annotation) -> Option<&str> {
    let texts = [&annotation.normalised, &annotation.transcript, &annotation.label];
    texts.into_iter().find_map(|text| text.as_deref().filter(|text| !text.trim().is_empty()))
}

/// Speaker of a recording.
pub(super) fn speaker_of(annotation: &Annotation) -> &str {
    annotation.speaker.as_deref().unwrap_or(ONLY_SPEAKER)
}

impl Corpus {
    /// Reads feature shards and makes symbols of their texts. An utterance that cannot be used is rejected, with the reason.
    ///
    /// Errors: shards that cannot be read or have no pitch or energy; a split of which nothing is left.
    pub(super) fn open(split: &'static str, inputs: &[Input], front: &FrontEnd, job: &Job) -> Result<Self, StageError> {
        let paths: Vec<&PathBuf> = inputs.iter().map(|input| &input.path).collect();
        let shards = ShardReader::open(&paths).map_err(StageError::failed)?;
        let rows: BTreeMap<&str, usize> = shards.rows().iter().enumerate().map(|(at, row)| (row.id.as_str(), at)).collect();
        let mut found = Vec::new();
        let (mut rejected, mut unvoiced, mut guessed, mut unread) = (Vec::new(), Vec::new(), BTreeMap::new(), Vec::new());
        let mut kind: Option<(MelSpectrogram, Energy)> = None;
        for path in paths {
            let reader = StreamReader::open(path).map_err(StageError::failed)?;
            let wrong = |problem: &str| TtsError::Features { path: path.clone(), problem: problem.to_owned() };
            let info = reader.info();
            let mel = info.mel.clone().ok_or_else(|| wrong("its features are no spectrogram with an energy"))?;
            let energy = info.energy.ok_or_else(|| wrong("its features do not say the scale of their energy"))?;
            if info.stream("f0").is_none() {
                return Err(wrong("it has no pitch").into());
            }
            match &kind {
                Some(known) if *known != (mel.clone(), energy) => {
                    return Err(wrong("its spectrograms are of another kind than those of the first shard").into());
                }
                _ => kind = Some((mel, energy)),
            }
            let [f0, energy] = ["f0", "energy"].map(|name| reader.whole(name).map_err(StageError::failed));
            for ((row, f0), energy) in reader.rows().iter().zip(f0?).zip(energy?) {
                if job.stop.requested() {
                    return Err(StageError::Stopped);
                }
                let speaker = speaker_of(&row.annotation).to_owned();
                let mut reject = |reason: String| rejected.push(Rejected { id: row.id.clone(), reason });
                let Some(text) = text_of(&row.annotation) else {
                    reject("it has no text".to_owned());
                    continue;
                };
                let pronounced = match front.pronounce(text) {
                    Ok(pronounced) => pronounced,
                    Err(error) => {
                        reject(error.to_string());
                        continue;
                    }
                };
                let (symbols, num_frames) = (pronounced.symbols, f0.len());
                // A recording has silence at its ends, be it in the text or not.
                let needed = symbols.len() + if front.rules().silent_ends { 0 } else { 2 };
                if needed > num_frames {
                    reject(format!("{needed} symbols and only {num_frames} frames"));
                    continue;
                }
                if f0.iter().chain(&energy).any(|value| !value.is_finite()) {
                    reject("its pitch or energy is no number".to_owned());
                    continue;
                }
                if f0.iter().all(|&hz| hz <= 0.0) {
                    unvoiced.push(row.id.clone());
                }
                unread.extend(pronounced.unread);
                guessed.extend(pronounced.guessed.into_iter().map(|(word, phones)| (word, phones.join(" "))));
                let (id, text, num_samples) = (row.id.clone(), text.to_owned(), row.num_samples);
                let at = rows[row.id.as_str()];
                let (recorded_frames, first_frame) = (num_frames, 0);
                found.push(Utterance {
                    id,
                    speaker,
                    text,
                    symbols,
                    num_frames,
                    recorded_frames,
                    first_frame,
                    num_samples,
                    row: at,
                    f0,
                    energy,
                });
            }
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        let (Some((mel, energy)), false) = (kind, found.is_empty()) else {
            let reason = rejected.first().map_or_else(|| "it is empty".to_owned(), |one| format!("`{}`: {}", one.id, one.reason));
            return Err(TtsError::Nothing { split, reason }.into());
        };
        let sample_rate = mel.sample_rate;
        let read = Self { shards, utterances: found, rejected, unvoiced, guessed, mel, energy, sample_rate };
        read.note_oddities(split, &unread, job);
        Ok(read)
    }

    /// Tells which utterances are left out, and what is odd about the others.
    fn note_oddities(&self, split: &str, unread: &[char], job: &Job) {
        let Self { utterances: found, rejected, unvoiced, guessed, .. } = self;
        if let Some(first) = rejected.first() {
            let all = rejected.len() + found.len();
            job.progress.note(&format!(
                "{split}: {} of {all} utterances rejected; `{}`: {}",
                rejected.len(),
                first.id,
                first.reason
            ));
        }
        if unvoiced.len() == found.len() {
            job.progress.note(&format!(
                "warning: {split}: none of {} utterances has a voiced frame, so there is no pitch to learn: are they speech?",
                found.len()
            ));
        } else if let Some(first) = unvoiced.first() {
            job.progress.note(&format!("{split}: {} utterances without a voiced frame; the first: `{first}`", unvoiced.len()));
        }
        if let Some((word, phones)) = guessed.iter().next() {
            let count = guessed.len();
            job.progress.note(&format!("{split}: {count} words are not in the dictionary; `{word}` is read as {phones}"));
        }
        if let Some(unread) = without_reading(unread) {
            job.progress.note(&format!("{split}: {unread}"));
        }
    }

    /// Names of its speakers, sorted.
    pub(super) fn speakers(&self) -> Vec<String> {
        let names: BTreeSet<&String> = self.utterances.iter().map(|utterance| &utterance.speaker).collect();
        names.into_iter().cloned().collect()
    }

    /// Speakers with a single utterance.
    pub(super) fn heard_once(&self) -> Vec<String> {
        let mut counts = BTreeMap::<&str, usize>::new();
        for utterance in &self.utterances {
            *counts.entry(&utterance.speaker).or_default() += 1;
        }
        counts.into_iter().filter(|&(_, count)| count == 1).map(|(name, _)| name.to_owned()).collect()
    }

    /// Symbols of the longest text.
    pub(super) fn longest(&self) -> usize {
        self.utterances.iter().map(|utterance| utterance.symbols.len()).max().unwrap_or(0)
    }

    /// Statistics of pitch and energy.
    pub(super) fn statistics(&self) -> Statistics {
        let all = |values: fn(&Utterance) -> &[f32]| self.utterances.iter().flat_map(values).map(|&value| f64::from(value));
        let voiced = all(|utterance| &utterance.f0).filter(|&hz| hz > 0.0).map(f64::ln);
        Statistics { pitch: Moments::of(voiced), energy: Moments::of(all(|utterance| &utterance.energy)) }
    }

    /// Least and largest standardised pitch and energy.
    pub(super) fn limits(&self, statistics: &Statistics) -> [[f64; 2]; 2] {
        let of = |moments: Moments, values: &mut dyn Iterator<Item = f64>| {
            let ends = values.fold([0.0_f64; 2], |[least, most], value| {
                let value = moments.standardise(value);
                [least.min(value), most.max(value)]
            });
            if ends[1] > ends[0] { ends } else { [-1.0, 1.0] }
        };
        let pitch = self.utterances.iter().flat_map(|utterance| &utterance.f0).filter(|&&hz| hz > 0.0);
        let energy = self.utterances.iter().flat_map(|utterance| &utterance.energy);
        [
            of(statistics.pitch, &mut pitch.map(|&hz| f64::from(hz).ln())),
            of(statistics.energy, &mut energy.map(|&value| f64::from(value))),
        ]
    }
}

/// Utterances of a split as a voice takes them.
#[derive(Debug)]
pub(super) struct VoiceData {
    corpus: Corpus,
    statistics: Statistics,
    pitch: PitchScale,
    /// Numbers of the symbols, by utterance.
    symbols: Vec<Vec<i64>>,
    /// Rows of the speakers.
    speakers: Vec<i64>,
    /// Frames of every symbol, where they are known.
    durations: Option<Vec<Vec<i64>>>,
    lengths: Vec<usize>,
    /// Spectrograms that are kept in memory; empty where they are read when they are needed.
    mels: Vec<Vec<f32>>,
}

/// Some utterances.
#[derive(Debug)]
pub(super) struct VoiceBatch {
    pub(super) rows: Vec<usize>,
    pub(super) text: Text,
    pub(super) target: Target,
}

impl VoiceData {
    /// Prepares a corpus for a voice; `alignment` has the durations of its utterances. If the table has silence at the ends of the texts
    /// and the voice has none there, the utterances are cut to the frames between.
    ///
    /// Errors: a speaker or symbol that the voice does not have; an alignment that does not fit; shards that cannot be read.
    pub(super) fn new(mut corpus: Corpus, config: &VoiceConfig, alignment: Option<&[Alignment]>) -> Result<Self, StageError> {
        let mut symbols = Vec::new();
        let mut speakers = Vec::new();
        for utterance in &corpus.utterances {
            let unknown =
                |symbol| TtsError::Text { id: utterance.id.clone(), problem: format!("the voice has no symbol `{symbol}`") };
            symbols.push(config.numbers(&utterance.symbols).map_err(unknown)?);
            speakers.push(config.speaker(&utterance.speaker)?);
        }
        let durations = alignment.map(|rows| durations(&mut corpus.utterances, rows, config.text)).transpose()?;
        if config.pitch == PitchScale::Hertz {
            for utterance in &mut corpus.utterances {
                draw_through(&mut utterance.f0);
            }
        }
        let lengths: Vec<usize> = corpus.utterances.iter().map(|utterance| utterance.num_frames).collect();
        let (statistics, pitch) = (config.statistics, config.pitch);
        let mut data = Self { corpus, statistics, pitch, symbols, speakers, durations, lengths, mels: Vec::new() };
        if data.lengths.iter().sum::<usize>() * data.width() <= KEPT_NUMBERS {
            data.mels = (0..data.lengths.len()).map(|row| data.read(row)).collect::<Result<_, _>>()?;
        }
        Ok(data)
    }

    fn width(&self) -> usize {
        self.corpus.mel.num_mel_bins
    }

    /// The spectrogram of an utterance, the frames that are used.
    fn read(&self, row: usize) -> Result<Vec<f32>, StageError> {
        let (utterance, width) = (&self.corpus.utterances[row], self.width());
        let mut mel = self.corpus.shards.load_features(utterance.row).map_err(StageError::failed)?.unwrap_or_default();
        if mel.len() != utterance.recorded_frames * width {
            let problem =
                format!("the spectrogram has {} numbers, which are not {} frames", mel.len(), utterance.recorded_frames);
            return Err(TtsError::Text { id: utterance.id.clone(), problem }.into());
        }
        mel.truncate((utterance.first_frame + utterance.num_frames) * width);
        mel.drain(..utterance.first_frame * width);
        Ok(mel)
    }

    pub(super) fn utterances(&self) -> &[Utterance] {
        &self.corpus.utterances
    }

    pub(super) fn durations(&self, row: usize) -> Option<&[i64]> {
        self.durations.as_ref().map(|all| all[row].as_slice())
    }

    /// Batches of all utterances, longest first.
    pub(super) fn in_order(&self, limit: BatchLimit) -> Vec<Vec<usize>> {
        by_length(&self.lengths, limit)
    }

    /// Puts utterances together, on the CPU.
    ///
    /// Errors: shards that cannot be read; libtorch's.
    pub(super) fn batch(&self, rows: &[usize]) -> Result<VoiceBatch, StageError> {
        let width = self.width();
        let counts: Vec<i64> = rows.iter().map(|&row| self.symbols[row].len() as i64).collect();
        let frames: Vec<i64> = rows.iter().map(|&row| self.lengths[row] as i64).collect();
        let longest = |of: &[i64]| of.iter().copied().max().unwrap_or(1) as usize;
        let (positions, length) = (longest(&counts), longest(&frames));
        let mut symbols = vec![0_i64; rows.len() * positions];
        let mut mel = vec![0.0_f32; rows.len() * length * width];
        let [mut pitch, mut energy] = [(); 2].map(|()| vec![0.0_f32; rows.len() * length]);
        let Statistics { pitch: of_pitch, energy: of_energy } = self.statistics;
        for (at, &row) in rows.iter().enumerate() {
            let (own, utterance) = (&self.symbols[row], &self.corpus.utterances[row]);
            symbols[at * positions..][..own.len()].copy_from_slice(own);
            let read;
            let values = match self.mels.get(row) {
                Some(kept) => kept,
                None => {
                    read = self.read(row)?;
                    &read
                }
            };
            mel[at * length * width..][..values.len()].copy_from_slice(values);
            for (place, &hz) in pitch[at * length..].iter_mut().zip(&utterance.f0) {
                *place = if hz > 0.0 { of_pitch.standardise(self.pitch.of_hertz(hz.into())) as f32 } else { 0.0 };
            }
            for (place, &value) in energy[at * length..].iter_mut().zip(&utterance.energy) {
                *place = of_energy.standardise(f64::from(value)) as f32;
            }
        }
        let (batch, positions, length) = (rows.len() as i64, positions as i64, length as i64);
        let durations: Option<Vec<Vec<i64>>> =
            self.durations.as_ref().map(|all| rows.iter().map(|&row| all[row].clone()).collect());
        let speakers: Vec<i64> = rows.iter().map(|&row| self.speakers[row]).collect();
        let made = || -> Result<VoiceBatch, TchError> {
            let prior = if durations.is_none() { Some(search::priors(&counts, &frames, [length, positions])?) } else { None };
            let text = Text {
                symbols: Tensor::f_from_slice(&symbols)?.f_view([batch, positions])?,
                counts: counts.clone(),
                speakers: Tensor::f_from_slice(&speakers)?,
            };
            let target = Target {
                mel: Tensor::f_from_slice(&mel)?.f_view([batch, length, width as i64])?,
                frames: frames.clone(),
                pitch: Tensor::f_from_slice(&pitch)?.f_view([batch, length])?,
                energy: Tensor::f_from_slice(&energy)?.f_view([batch, length])?,
                durations,
                prior,
            };
            Ok(VoiceBatch { rows: rows.to_vec(), text, target })
        };
        made().map_err(|error| crate::error::ModelError::from(error).into())
    }
}

/// Durations of utterances from a table. Utterances are cut where the table has silence at their ends and the texts have none.
fn durations(utterances: &mut [Utterance], rows: &[Alignment], rules: Rules) -> Result<Vec<Vec<i64>>, TtsError> {
    let by_id: BTreeMap<&str, &Alignment> = rows.iter().map(|row| (row.id.as_str(), row)).collect();
    let own = |utterance: &mut Utterance| {
        let wrong = |problem: String| TtsError::Alignment { id: utterance.id.clone(), problem };
        let row = by_id.get(utterance.id.as_str()).ok_or_else(|| wrong("the table has no such utterance".to_owned()))?;
        let (frames, count) = (&row.durations, row.symbols.len());
        let inner = match &row.symbols[..] {
            [first, .., last] if !rules.silent_ends && first == SILENCE && last == SILENCE => 1..count - 1,
            _ => 0..count,
        };
        if row.symbols[inner.clone()] != utterance.symbols {
            return Err(wrong(format!("it is of the symbols {}, not {}", row.symbols.join(" "), utterance.symbols.join(" "))));
        }
        if row.num_frames() as usize != utterance.num_frames || frames.iter().any(|&frames| frames < 0) {
            return Err(wrong(format!("it has {} frames, and the recording {}", row.num_frames(), utterance.num_frames)));
        }
        if frames.len() != count {
            return Err(wrong(format!("it has {} durations of {count} symbols", frames.len())));
        }
        let first: i32 = frames[..inner.start].iter().sum();
        let durations: Vec<i64> = frames[inner].iter().map(|&frames| frames.into()).collect();
        utterance.cut(first as usize, durations.iter().sum::<i64>() as usize);
        Ok(durations)
    };
    utterances.iter_mut().map(own).collect()
}

impl Utterance {
    /// Keeps so many frames from a first one on.
    fn cut(&mut self, first: usize, count: usize) {
        (self.first_frame, self.num_frames) = (first, count);
        for values in [&mut self.f0, &mut self.energy] {
            values.truncate(first + count);
            values.drain(..first);
        }
    }
}

/// Sentence about characters that were left out; none where there are none.
pub(super) fn without_reading(unread: &[char]) -> Option<String> {
    let each: BTreeSet<&char> = unread.iter().collect();
    let shown = each.iter().map(|c| format!("`{c}`")).collect::<Vec<_>>().join(", ");
    (!each.is_empty()).then(|| format!("characters without a reading are left out: {shown}"))
}

/// Draws straight lines through the frames without voice (0 Hz), level ones at the ends. Without any voice all stay 0.
fn draw_through(f0: &mut [f32]) {
    let mut before: Option<(usize, f32)> = None;
    for at in 0..f0.len() {
        let hz = f0[at];
        if hz <= 0.0 {
            continue;
        }
        let (from, start) = before.map_or((0, hz), |(from, start)| (from + 1, start));
        let gap = at - from;
        for (step, place) in (1..).zip(&mut f0[from..at]) {
            *place = start + (hz - start) * (step as f32 / (gap + 1) as f32);
        }
        before = Some((at, hz));
    }
    if let Some((last, hz)) = before {
        f0[last..].fill(hz);
    }
}

/// Utterances of a training, and the size of a batch.
pub(super) struct TrainingSet {
    pub(super) data: Arc<VoiceData>,
    /// Size of a batch; its samples are frames.
    pub(super) limit: BatchLimit,
    /// Seed of the order.
    pub(super) seed: u64,
}

impl TrainingData for TrainingSet {
    type Batch = VoiceBatch;

    fn batches(&self, epoch: u64) -> Vec<Vec<usize>> {
        shuffled(&self.data.lengths, self.limit, self.seed, epoch)
    }

    fn load(&self, rows: Vec<Vec<usize>>, _device: Device) -> impl Iterator<Item = Result<VoiceBatch, StageError>> {
        let (sender, batches) = sync_channel(AHEAD);
        let (data, mut left) = (Arc::clone(&self.data), rows.len());
        std::thread::spawn(move || {
            for rows in rows {
                let made = data.batch(&rows);
                let failed = made.is_err();
                if sender.send(made).is_err() || failed {
                    return; // nobody waits for more
                }
            }
        });
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            Some(batches.recv().unwrap_or_else(|_| Err(DataError::LoaderEnded.into())))
        })
    }

    fn id(&self, row: usize) -> &str {
        &self.data.corpus.utterances[row].id
    }

    fn secs(&self, row: usize) -> f64 {
        self.data.corpus.utterances[row].num_samples as f64 / f64::from(self.data.corpus.sample_rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_drawn_through_what_has_no_voice() {
        let drawn = |f0: &[f32]| {
            let mut f0 = f0.to_vec();
            draw_through(&mut f0);
            f0
        };
        assert_eq!(
            drawn(&[0.0, 0.0, 100.0, 0.0, 0.0, 130.0, 120.0, 0.0]),
            [100.0, 100.0, 100.0, 110.0, 120.0, 130.0, 120.0, 120.0]
        );
        assert_eq!(drawn(&[80.0, 90.0]), [80.0, 90.0]);
        assert_eq!(drawn(&[0.0; 3]), [0.0; 3]);
        assert_eq!(drawn(&[]), [0.0; 0]);
    }
}
