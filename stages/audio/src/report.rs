//! Content of a shard in numbers that add up over shards: `report.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::manifest::Entry;
use crate::recording::Prepared;

/// Width of a bar of the histogram of lengths, in seconds.
pub const BAR_SECS: f64 = 0.1;

/// Content of `report.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Of the shards, in Hz.
    pub sample_rate: u32,
    /// Utterances that were to become rows.
    pub utterances: u64,
    /// Content of each split.
    pub splits: BTreeMap<String, SplitReport>,
    /// Broken recordings.
    pub rejected: u64,
    /// Left out for their duration.
    pub filtered: u64,
    /// Number of rejects by reason, numbers in it replaced by `#`.
    pub reasons: BTreeMap<String, u64>,
    /// Oddities of recordings that became rows -> how many.
    #[serde(default)]
    pub oddities: BTreeMap<String, u64>,
    /// Rows whose bytes are those of the source.
    pub kept_as_is: u64,
    /// Bytes of the recordings that became rows.
    pub source_bytes: u64,
    /// Bytes of all clips.
    pub clip_bytes: u64,
    /// Rate and channels of the sources -> how many.
    pub sources: BTreeMap<String, u64>,
}

/// Content of a split.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitReport {
    /// Rows.
    pub rows: u64,
    /// Samples, at the rate of the shards.
    pub samples: u64,
    /// The shortest and the longest clip, in samples.
    pub extent: Option<(u64, u64)>,
    /// Number of a bar of [`BAR_SECS`] -> rows.
    pub lengths: BTreeMap<u32, u64>,
    /// Class -> rows.
    pub labels: BTreeMap<String, u64>,
    /// Speaker -> rows.
    pub speakers: BTreeMap<String, u64>,
    /// Rows with a transcript.
    pub transcribed: u64,
    /// Rows with flags.
    pub flagged: u64,
}

/// An utterance that gave no row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Left<'a> {
    pub(crate) path: &'a str,
    pub(crate) reason: &'a str,
    pub(crate) broken: bool,
}

impl Report {
    pub(crate) fn new(utterances: u64, sample_rate: u32) -> Self {
        let splits = datasets::Split::ALL.map(|split| (split.name().to_owned(), SplitReport::default()));
        Self { utterances, sample_rate, splits: splits.into(), ..Self::default() }
    }

    /// Samples of all splits.
    pub fn samples(&self) -> u64 {
        self.splits.values().map(|split| split.samples).sum()
    }

    pub(crate) fn count(&mut self, entry: &Entry, clip: &Prepared) {
        let bar = (clip.num_samples * 10 / u64::from(self.sample_rate)) as u32;
        let split = self.splits.entry(entry.split.name().to_owned()).or_default();
        split.rows += 1;
        split.samples += clip.num_samples;
        split.extent = joined(split.extent, Some((clip.num_samples, clip.num_samples)));
        *split.lengths.entry(bar).or_default() += 1;
        if let Some(label) = &entry.annotation.label {
            *split.labels.entry(label.clone()).or_default() += 1;
        }
        if let Some(speaker) = &entry.annotation.speaker {
            *split.speakers.entry(speaker.clone()).or_default() += 1;
        }
        split.transcribed += u64::from(entry.annotation.transcript.is_some());
        split.flagged += u64::from(!entry.annotation.flags.is_empty() || !clip.flags.is_empty());
        for flag in &clip.flags {
            *self.oddities.entry(flag.text().to_owned()).or_default() += 1;
        }
        self.kept_as_is += u64::from(clip.kept);
        self.source_bytes += entry.size;
        self.clip_bytes += clip.bytes.len() as u64;
        let channels = match clip.source.num_channels {
            1 => "mono".to_owned(),
            2 => "stereo".to_owned(),
            several => format!("{several} channels"),
        };
        let source = format!("{} Hz, {channels}", clip.source.sample_rate);
        *self.sources.entry(source).or_default() += 1;
    }

    pub(crate) fn leave<'a>(&mut self, left: impl Iterator<Item = Left<'a>>) {
        for Left { path, reason, broken } in left {
            *(if broken { &mut self.rejected } else { &mut self.filtered }) += 1;
            *self.reasons.entry(without_numbers(&reason.replace(path, "the recording"))).or_default() += 1;
        }
    }

    /// Adds what another shard holds.
    pub fn add(&mut self, other: &Self) {
        self.sample_rate = self.sample_rate.max(other.sample_rate);
        self.utterances += other.utterances;
        self.rejected += other.rejected;
        self.filtered += other.filtered;
        self.kept_as_is += other.kept_as_is;
        self.source_bytes += other.source_bytes;
        self.clip_bytes += other.clip_bytes;
        add_all(&mut self.reasons, &other.reasons);
        add_all(&mut self.oddities, &other.oddities);
        add_all(&mut self.sources, &other.sources);
        for (name, other) in &other.splits {
            let split = self.splits.entry(name.clone()).or_default();
            split.rows += other.rows;
            split.samples += other.samples;
            split.extent = joined(split.extent, other.extent);
            split.transcribed += other.transcribed;
            split.flagged += other.flagged;
            add_all(&mut split.lengths, &other.lengths);
            add_all(&mut split.labels, &other.labels);
            add_all(&mut split.speakers, &other.speakers);
        }
    }
}

fn joined(a: Option<(u64, u64)>, b: Option<(u64, u64)>) -> Option<(u64, u64)> {
    match (a, b) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        (a, b) => a.or(b),
    }
}

fn add_all<K: Ord + Clone>(sums: &mut BTreeMap<K, u64>, more: &BTreeMap<K, u64>) {
    for (key, count) in more {
        *sums.entry(key.clone()).or_default() += count;
    }
}

/// Replaces numbers, so that reasons of one kind are equal.
fn without_numbers(reason: &str) -> String {
    let mut kind = String::with_capacity(reason.len());
    for letter in reason.chars() {
        match letter {
            '0'..='9' if kind.ends_with('#') => {}
            '0'..='9' => kind.push('#'),
            _ => kind.push(letter),
        }
    }
    kind
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_add_up() {
        let part = |rows, extent| {
            let split = SplitReport { rows, extent, lengths: [(rows as u32, rows)].into(), ..SplitReport::default() };
            Report { splits: [("train".to_owned(), split)].into(), ..Report::new(rows, 16_000) }
        };
        let mut sum = Report::new(0, 16_000);
        for part in [part(2, Some((5, 9))), part(3, Some((4, 6))), part(0, None)] {
            sum.add(&part);
        }
        let train = &sum.splits["train"];
        assert_eq!((sum.utterances, train.rows, train.extent), (5, 5, Some((4, 9))));
        assert_eq!(train.lengths, BTreeMap::from([(0, 0), (2, 2), (3, 3)]));
    }

    #[test]
    fn reasons_are_of_one_kind_wherever_they_are() {
        let mut report = Report::default();
        let left = |path, reason| Left { path, reason, broken: true };
        report.leave([left("a1.wav", "a1.wav: 3 bytes at 17"), left("b.wav", "b.wav: 40 bytes at 5")].into_iter());
        assert_eq!(report.reasons, BTreeMap::from([("the recording: # bytes at #".to_owned(), 2)]));
    }
}
