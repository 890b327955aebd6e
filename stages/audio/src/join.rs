//! Stage `audio.join`: joins recordings of a speaker to strings with pauses between them, such as digits to numbers.
//!
//! ```text
//! train.parquet dev.parquet test.parquet     always all three, as audio.shards writes them
//! train.clips dev.clips test.clips           where each clip is in them
//! joined.json                                strings, seconds and recordings left out, per split
//! ```
//!
//! Each recording loses its silent ends, is brought to one level and faded in and out (see [`clip`]). A string has the words of its
//! recordings with their times, and the tag `recordings` with their ids.
//! The order of recordings, the pauses and the noise depend on the seed, the split and the speaker alone.

pub mod clip;
mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use datasets::shard::RowInfo;
use datasets::{Annotation, Split, Times, Word};
use pipeline::{Input, Job, Slot, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clips;
use crate::manifest;
use crate::reader::ShardReader;
use crate::recording::{self, Reject};
use crate::schema::{Row, ShardWriter};
use crate::wav::{SAMPLE_RATES, write_pcm16};
use clip::ClipShape;
use random::Random;

/// Tag of a string with the ids of its recordings, separated by spaces.
pub const RECORDINGS: &str = "recordings";

/// Joins recordings of each speaker to strings with pauses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// Rate of the shards, in Hz.
    pub sample_rate: u32,
    /// Speakers to take. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub speakers: Vec<String>,
    /// Strings of the training set. Without it the set is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<Strings>,
    /// Strings of the development set. Without it the set is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<Strings>,
    /// Strings of the test set. Without it the set is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<Strings>,
    /// Shortest and longest pause between two recordings, in seconds.
    #[serde(default = "pause_secs")]
    pub pause_secs: [f64; 2],
    /// Shortest and longest silence at the ends, in seconds.
    #[serde(default = "edge_secs")]
    pub edge_secs: [f64; 2],
    /// Deviation of the noise added to all samples; full scale is 1.
    #[serde(default = "noise")]
    pub noise: f64,
    /// Trimming and level of each recording.
    #[serde(default)]
    pub shape: ClipShape,
    /// Seed of the order, the pauses and the noise.
    pub seed: u64,
}

/// Strings of one split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Strings {
    /// Passes over the recordings, each in another order. Ignored with `like`.
    #[serde(default = "one")]
    pub passes: u32,
    /// Fewest and most recordings of a string. Ignored with `like`.
    #[serde(default = "single")]
    pub recordings: [u32; 2],
    /// Most strings of a speaker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_strings: Option<u32>,
    /// Most recordings of each text by each speaker, the first in order of number. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes: Option<u32>,
    /// Texts to take. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub texts: Vec<String>,
}

fn pause_secs() -> [f64; 2] {
    [0.06, 0.16]
}
fn edge_secs() -> [f64; 2] {
    [0.05, 0.1]
}
fn noise() -> f64 {
    1e-4
}
fn one() -> u32 {
    1
}
fn single() -> [u32; 2] {
    [1, 1]
}

impl Stage for Join {
    const KIND: &'static str = "audio.join";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "joins recordings of each speaker to strings with pauses, such as digits to numbers";

    fn slots() -> Vec<Slot> {
        vec![
            Slot::many("shards", "all parts of an audio.shards node"),
            Slot::optional("like", "an audio.join node whose strings are spoken again by other recordings of the same speakers"),
        ]
    }
    fn outputs(&self) -> Vec<String> {
        clips::shard_files().chain(["joined.json".to_owned()]).collect()
    }

    fn check(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        if !SAMPLE_RATES.contains(&self.sample_rate) {
            let (least, most) = (SAMPLE_RATES.start(), SAMPLE_RATES.end());
            mistakes.push(("sample_rate", format!("expected {least} to {most} Hz, found {}", self.sample_rate)));
        }
        for (name, [least, most]) in [("pause_secs", self.pause_secs), ("edge_secs", self.edge_secs)] {
            if !(0.0 <= least && least <= most && most <= 10.0) {
                mistakes.push((name, format!("expected two numbers of 0 to 10 s in order, found {least} and {most}")));
            }
        }
        if !(0.0..=0.1).contains(&self.noise) {
            mistakes.push(("noise", format!("expected 0 to 0.1, found {}", self.noise)));
        }
        if let Some(problem) = self.shape.problem() {
            mistakes.push(("shape", problem));
        }
        if [&self.train, &self.dev, &self.test].iter().all(|strings| strings.is_none()) {
            mistakes.push(("train", "expected strings for one of train, dev and test at least, found none".to_owned()));
        }
        for (name, strings) in [("train", &self.train), ("dev", &self.dev), ("test", &self.test)] {
            let Some(Strings { passes, recordings: [least, most], max_strings, takes, .. }) = strings else { continue };
            if !(1 <= *least && least <= most && *most <= 1000) {
                mistakes
                    .push((name, format!("`recordings` should be two numbers of 1 to 1000 in order, not {least} and {most}")));
            }
            let counts = [("passes", Some(*passes)), ("max_strings", *max_strings), ("takes", *takes)];
            for (parameter, _) in counts.into_iter().filter(|(_, count)| *count == Some(0)) {
                mistakes.push((name, format!("`{parameter}` should be 1 or more, not 0")));
            }
        }
        mistakes
    }
}

/// Recordings that cannot be joined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// No recording fits the parameters.
    #[error("the {split} set has no recording of {wanted}")]
    Nothing {
        /// Name of the split.
        split: &'static str,
        /// Property that no recording has.
        wanted: String,
    },
    /// A text of a string that no other recording has.
    #[error("outside the {split} set `{speaker}` has no recording of `{text}`, which the string `{id}` needs")]
    NoOther {
        /// Name of the split.
        split: &'static str,
        /// The speaker.
        speaker: String,
        /// The text.
        text: String,
        /// The string.
        id: String,
    },
    /// A clip that cannot be decoded.
    #[error("the clip of `{id}` is damaged")]
    Audio {
        /// The recording.
        id: String,
        /// The cause.
        #[source]
        source: Reject,
    },
    /// A shard of another rate.
    #[error("`{id}` has {found} Hz, expected {expected} Hz")]
    Rate {
        /// The recording.
        id: String,
        /// In Hz.
        found: u32,
        /// In Hz.
        expected: u32,
    },
}

/// Counts of one split.
#[derive(Debug, Default, Serialize)]
struct Count {
    strings: u64,
    secs: f64,
    /// Recordings without a sound, by id.
    silent: Vec<String>,
    /// Recordings without a text or a speaker, by id, with what they lack.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    incomplete: BTreeMap<String, &'static str>,
}

/// Body of the stage.
///
/// Errors: shards that cannot be read; [`JoinError`]; files that cannot be written.
pub fn run(params: &Join, job: &Job) -> Result<(), StageError> {
    let mut counts = BTreeMap::new();
    let like = job.inputs.optional("like");
    for (split, strings) in Split::ALL.into_iter().zip([&params.train, &params.dev, &params.test]) {
        let path = job.out.join(format!("{split}.parquet"));
        let mut writer = ShardWriter::create(&path, &[], params.sample_rate)?;
        let (mut rows, mut count) = (Vec::new(), Count::default());
        if let Some(strings) = strings {
            let found = match like {
                None => Strung::plan(params, strings, split, job)?,
                Some(like) => {
                    let rows = read_rows(&[like.join(format!("{split}.parquet"))])?;
                    Strung::again(params, strings, split, &rows, job)?
                }
            };
            let total = found.strings.len() as u64;
            let mut silent = BTreeSet::new();
            for (string, done) in found.strings.iter().zip(1..) {
                if job.stop.requested() {
                    return Err(StageError::Stopped);
                }
                if let Some(row) = found.row(params, split, string, &mut silent)? {
                    rows.push((clips::hash_of(&row.info.id), row.info.num_samples as u64));
                    count.strings += 1;
                    count.secs += row.info.num_samples as f64 / f64::from(params.sample_rate);
                    writer.push(row)?;
                }
                job.progress.tick(done, total, "strings", &string.id);
            }
            if count.strings == 0 {
                let wanted = "any sound: all recordings are silent".to_owned();
                return Err(StageError::failed(JoinError::Nothing { split: split.name(), wanted }));
            }
            if let Some(first) = silent.first() {
                job.progress.note(&format!("{} silent recordings left out of {split}; the first: {first}", silent.len()));
            }
            count.silent = silent.into_iter().collect();
            if let Some((first, lacks)) = found.incomplete.first_key_value() {
                let number = found.incomplete.len();
                job.progress.note(&format!("{number} recordings left out of {split}; the first, {first}, has no {lacks}"));
            }
            count.incomplete = found.incomplete;
        }
        let places = writer.finish()?;
        clips::write(&path, &places, &rows)?;
        counts.insert(split.name(), count);
    }
    manifest::write_json(&job.out.join("joined.json"), &counts)
}

/// Recordings and the strings to make of them.
struct Strung {
    reader: ShardReader,
    recordings: Vec<RowInfo>,
    strings: Vec<Planned>,
    /// Recordings that cannot be used, with what they lack.
    incomplete: BTreeMap<String, &'static str>,
}

/// Rows by speaker and text.
type Groups = BTreeMap<String, BTreeMap<String, Vec<usize>>>;

/// A string to be made.
struct Planned {
    id: String,
    speaker: String,
    /// Rows of the recordings.
    parts: Vec<usize>,
}

impl Strung {
    fn open(splits: &[Split], job: &Job) -> Result<Self, StageError> {
        let files =
            |Input { path, .. }: &Input| splits.iter().map(|split| path.join(format!("{split}.parquet"))).collect::<Vec<_>>();
        let paths: Vec<PathBuf> = job.inputs.many("shards").iter().flat_map(files).collect();
        let reader = ShardReader::open(&paths).map_err(StageError::failed)?;
        let recordings = read_rows(&paths)?;
        Ok(Self { reader, recordings, strings: Vec::new(), incomplete: BTreeMap::new() })
    }

    /// Rows by speaker and text, in natural order of the ids.
    fn groups(&mut self, params: &Join, strings: &Strings) -> Groups {
        let mut groups = Groups::new();
        for (row, recording) in self.recordings.iter().enumerate() {
            let (text, speaker) = match (text_of(&recording.annotation), recording.annotation.speaker.as_deref()) {
                (Some(text), Some(speaker)) => (text, speaker),
                (text, _) => {
                    self.incomplete.insert(recording.id.clone(), if text.is_none() { "text" } else { "speaker" });
                    continue;
                }
            };
            let wanted = (params.speakers.is_empty() || params.speakers.iter().any(|name| name == speaker))
                && (strings.texts.is_empty() || strings.texts.iter().any(|wanted| wanted == text));
            if wanted {
                groups.entry(speaker.to_owned()).or_default().entry(text.to_owned()).or_default().push(row);
            }
        }
        for rows in groups.values_mut().flat_map(BTreeMap::values_mut) {
            rows.sort_by(|&a, &b| natural(&self.recordings[a].id).cmp(&natural(&self.recordings[b].id)));
            rows.truncate(strings.takes.map_or(usize::MAX, |takes| takes as usize));
        }
        groups
    }

    /// Strings of every speaker: in each pass all recordings in random order, cut into strings of random length.
    fn plan(params: &Join, strings: &Strings, split: Split, job: &Job) -> Result<Self, StageError> {
        let mut found = Self::open(&[split], job)?;
        let groups = found.groups(params, strings);
        let absent = params.speakers.iter().find(|speaker| !groups.contains_key(*speaker));
        let wanted = match absent {
            Some(speaker) => Some(format!("the speaker `{speaker}`")),
            None if groups.is_empty() && !found.incomplete.is_empty() => {
                let of = |(id, lacks): (&String, &&str)| format!("a speaker and a text: `{id}` has no {lacks}");
                found.incomplete.first_key_value().map(of)
            }
            None if groups.is_empty() => Some("these texts".to_owned()),
            None => None,
        };
        if let Some(wanted) = wanted {
            return Err(StageError::failed(JoinError::Nothing { split: split.name(), wanted }));
        }
        for (speaker, texts) in groups {
            let mut random = Random::of(params.seed, &[split.name(), &speaker]);
            let all: Vec<usize> = texts.into_values().flatten().collect();
            let mut number = 0;
            'passes: for _ in 0..strings.passes {
                let mut order = all.clone();
                random.shuffle(&mut order);
                let mut rest = &order[..];
                while !rest.is_empty() {
                    if strings.max_strings == Some(number) {
                        break 'passes;
                    }
                    let [least, most] = strings.recordings;
                    let length = random.between(least as usize, most as usize).min(rest.len());
                    let (parts, after) = rest.split_at(length);
                    rest = after;
                    let id = format!("{speaker}-{split}-{number:06}");
                    found.strings.push(Planned { id, speaker: speaker.clone(), parts: parts.to_vec() });
                    number += 1;
                }
            }
        }
        found.strings.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    /// The strings of another node, with recordings of the other splits.
    fn again(params: &Join, strings: &Strings, split: Split, like: &[RowInfo], job: &Job) -> Result<Self, StageError> {
        let others: Vec<Split> = Split::ALL.into_iter().filter(|&other| other != split).collect();
        let mut found = Self::open(&others, job)?;
        let groups = found.groups(params, strings);
        let mut taken = BTreeMap::<&str, u32>::new();
        for string in like {
            let speaker = string.annotation.speaker.as_deref().unwrap_or_default();
            let number = taken.entry(speaker).or_default();
            let unwanted = !params.speakers.is_empty() && !params.speakers.iter().any(|name| name == speaker);
            if unwanted || strings.max_strings.is_some_and(|most| *number >= most) {
                continue;
            }
            *number += 1;
            let mut random = Random::of(params.seed, &["like", &string.id]);
            let mut parts = Vec::new();
            for Word { text, .. } in &string.annotation.words {
                let rows = groups.get(speaker).and_then(|texts| texts.get(text)).filter(|rows| !rows.is_empty());
                let rows = rows.ok_or_else(|| {
                    let (speaker, text, id) = (speaker.to_owned(), text.clone(), string.id.clone());
                    StageError::failed(JoinError::NoOther { split: split.name(), speaker, text, id })
                })?;
                parts.push(rows[random.between(0, rows.len() - 1)]);
            }
            found.strings.push(Planned { id: string.id.clone(), speaker: speaker.to_owned(), parts });
        }
        if found.strings.is_empty() {
            let wanted = "the strings of `like`: it has none of these speakers".to_owned();
            return Err(StageError::failed(JoinError::Nothing { split: split.name(), wanted }));
        }
        Ok(found)
    }

    /// Joins the recordings of a string; none when all are silent.
    fn row(
        &self,
        params: &Join,
        split: Split,
        string: &Planned,
        silent: &mut BTreeSet<String>,
    ) -> Result<Option<Row>, StageError> {
        let rate = params.sample_rate;
        let mut random = Random::of(params.seed, &["sound", &string.id]);
        let mut pause = |[least, most]: [f64; 2]| {
            let samples = |secs: f64| (secs * f64::from(rate)).round() as usize;
            random.between(samples(least), samples(most))
        };
        let mut samples = vec![0.0; pause(params.edge_secs)];
        let (mut words, mut texts, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        for &part in &string.parts {
            let spoken = &self.recordings[part];
            let mut source = Vec::new();
            let bytes = self.reader.load_wav(part).map_err(StageError::failed)?;
            let found = recording::samples(&bytes, &mut source).map_err(|source| {
                let id = spoken.id.clone();
                StageError::failed(JoinError::Audio { id, source })
            })?;
            if found != rate {
                let error = JoinError::Rate { id: spoken.id.clone(), found, expected: rate };
                return Err(StageError::failed(error).with_hint("`sample_rate` of audio.shards and audio.join must be the same"));
            }
            let Some((sound, trimmed)) = params.shape.apply(&source, rate) else {
                silent.insert(spoken.id.clone());
                continue;
            };
            if !ids.is_empty() {
                samples.resize(samples.len() + pause(params.pause_secs), 0.0);
            }
            let text = text_of(&spoken.annotation).expect("recordings without text were left out");
            words.extend(words_of(&spoken.annotation, text, samples.len(), trimmed, sound.len(), rate));
            samples.extend_from_slice(&sound);
            texts.push(text);
            ids.push(spoken.id.as_str());
        }
        if ids.is_empty() {
            return Ok(None);
        }
        samples.resize(samples.len() + pause(params.edge_secs), 0.0);
        let quantise =
            |sample: &f64| ((sample + params.noise * random.normal()) * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16;
        let quantised: Vec<i16> = samples.iter().map(quantise).collect();
        let text = texts.join(" ");
        let annotation = Annotation {
            speaker: Some(string.speaker.clone()),
            transcript: Some(text),
            words,
            tags: [(RECORDINGS.to_owned(), ids.join(" "))].into(),
            ..Annotation::default()
        };
        let (id, num_samples) = (string.id.clone(), quantised.len());
        Ok(Some(Row {
            bytes: write_pcm16(rate, &quantised),
            path: format!("{id}.wav"),
            split,
            info: RowInfo { id, num_samples, sample_rate: rate, class: None, annotation },
            source_path: ids.join("+"),
            source_sample_rate: rate,
            source_channels: 1,
        }))
    }
}

/// Rows of shards, in order of id as [`ShardReader`] has them.
fn read_rows(paths: &[PathBuf]) -> Result<Vec<RowInfo>, StageError> {
    let mut rows = Vec::new();
    for path in paths {
        rows.extend(RowInfo::read(path, |_| true).map_err(StageError::failed)?.0);
    }
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(rows)
}

/// Text of a recording: as the corpus normalises it, as distributed, or its class.
fn text_of(recording: &Annotation) -> Option<&str> {
    let texts = [&recording.normalised, &recording.transcript, &recording.label];
    texts.into_iter().find_map(|text| text.as_deref().filter(|text| !text.trim().is_empty()))
}

/// Words of a recording that begins at sample `start` of a string, and has lost `trimmed` samples before its first.
fn words_of(recording: &Annotation, text: &str, start: usize, trimmed: usize, length: usize, rate: u32) -> Vec<Word> {
    let us = |samples: usize| samples as u64 * 1_000_000 / u64::from(rate);
    let whole = Times { start_us: us(start), end_us: us(start + length) };
    if !recording.words.is_empty() && recording.words.iter().all(|word| word.times.is_some()) {
        let shift = |time: u64| (time + us(start)).saturating_sub(us(trimmed)).clamp(whole.start_us, whole.end_us);
        let shifted = |times: Times| Times { start_us: shift(times.start_us), end_us: shift(times.end_us) };
        return recording.words.iter().map(|word| Word { times: word.times.map(shifted), ..word.clone() }).collect();
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    let times = (words.len() == 1).then_some(whole);
    words.into_iter().map(|word| Word { text: word.to_owned(), slot: None, times }).collect()
}

/// Key that sorts numbers in an id by value: `7_jackson_9` comes before `7_jackson_10`.
fn natural(id: &str) -> Vec<(&str, u64)> {
    let mut parts = Vec::new();
    let mut rest = id;
    while !rest.is_empty() {
        let (text, after) = rest.split_at(rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len()));
        let (digits, after) = after.split_at(after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len()));
        parts.push((text, digits.parse().unwrap_or(u64::MAX)));
        rest = after;
    }
    parts
}

#[cfg(test)]
mod tests;
