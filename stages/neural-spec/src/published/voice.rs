//! Published voices: the files of a folder of this machine, and the voice that is made of them.
//!
//! ```text
//! 900000.pth.tar      weights of ming024/FastSpeech2; any name that ends so
//! stats.json          {"pitch": [least, largest, mean, deviation], "energy": [..]}; the first two are standardised
//! speakers.json       {"1958": 0, "2999": 1, ..}: rows of the table of speakers
//! symbols.json        optional: ["_", "-", ..], the symbols in order of the embedding
//! ```
//!
//! Source: the files that the preprocessor of ming024/FastSpeech2 (MIT, commit d4e79eb) leaves next to its features.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pipeline::source::SourceNeed;
use pipeline::{Job, Slot, Stage, StageError};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Published, PublishedError, copy_all, place, require_name, tree, weights_in};
use crate::checkpoint::look_at_zip;
use crate::{Mistakes, environment, require, require_positive};

/// End of the name of a file of weights.
const WEIGHTS_END: &str = ".pth.tar";
/// Name of the weights in an artifact.
const WEIGHTS: &str = "checkpoint.pth.tar";
const STATISTICS: &str = "stats.json";
const SPEAKERS: &str = "speakers.json";
const SYMBOLS: &str = "symbols.json";

/// Takes the folder of a published voice into the store: weights, statistics and speakers of ming024/FastSpeech2. The folder is set under
/// `checkpoints` in the machine's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VoiceCheckpoint {
    /// Name of the folder in the machine's settings: `voice` for the place `checkpoints.voice`.
    pub name: String,
}

/// Makes a voice of a published one. It speaks as published: pitch in Hz and energy on linear scales, texts without silence at their ends.
///
/// The parameters describe its spectrograms, which its files do not. Defaults are those of the published configurations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PublishedVoice {
    /// Heads of its attentions.
    #[schemars(range(min = 1))]
    pub num_attention_heads: u32,
    /// Rate of the recordings in Hz.
    #[schemars(range(min = 1))]
    pub sample_rate: u32,
    /// Samples of a transform.
    #[schemars(range(min = 1))]
    pub n_fft: u32,
    /// Samples from one frame to the next.
    #[schemars(range(min = 1))]
    pub hop_length: u32,
    /// Samples of the window.
    #[schemars(range(min = 1))]
    pub win_length: u32,
    /// Bands.
    #[schemars(range(min = 1))]
    pub num_mel_bins: u32,
    /// Lower edge of the lowest band in Hz.
    pub low_hz: f64,
    /// Upper edge of the highest band in Hz.
    pub high_hz: f64,
    /// A pause between all words, not only at punctuation: for recordings of words spoken one by one.
    pub word_pauses: bool,
    /// Symbols of the longest text that is spoken in one piece. Default 140: about the 1000 frames that it learned from at most.
    #[schemars(range(min = 2))]
    pub longest: u32,
}

impl Default for PublishedVoice {
    fn default() -> Self {
        Self {
            num_attention_heads: 2,
            sample_rate: 22_050,
            n_fft: 1024,
            hop_length: 256,
            win_length: 1024,
            num_mel_bins: 80,
            low_hz: 0.0,
            high_hz: 8000.0,
            word_pauses: false,
            longest: 140,
        }
    }
}

/// A value of `stats.json`, over the symbols of the training set.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(from = "[f64; 4]")]
pub struct PublishedMoments {
    /// Least standardised value.
    pub least: f64,
    /// Largest standardised value.
    pub largest: f64,
    /// Mean, before it is standardised.
    pub mean: f64,
    /// Standard deviation.
    pub std: f64,
}

impl From<[f64; 4]> for PublishedMoments {
    fn from([least, largest, mean, std]: [f64; 4]) -> Self {
        Self { least, largest, mean, std }
    }
}

/// `stats.json` of a published voice.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct PublishedStatistics {
    /// Fundamental frequency in Hz.
    pub pitch: PublishedMoments,
    /// Norm of the magnitudes.
    pub energy: PublishedMoments,
}

/// Files of a published voice, read but for the weights.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishedFiles {
    /// File of the weights.
    pub weights: PathBuf,
    /// Statistics of pitch and energy.
    pub statistics: PublishedStatistics,
    /// Speakers, in the order of their table.
    pub speakers: Vec<String>,
    /// Symbols in the order of the embedding, where the folder has a list.
    pub symbols: Option<Vec<String>>,
}

impl PublishedFiles {
    /// True if a folder is meant to be a published voice, and no encoder.
    pub fn are_in(folder: &Path) -> bool {
        !folder.join("config.json").exists()
            && (folder.join(STATISTICS).exists()
                || weights_in(Published::Voice, folder, is_weights).is_ok_and(|found| !found.is_empty()))
    }

    /// Reads a folder. Of the weights it checks only that the file is whole.
    ///
    /// Errors: [`PublishedError`]
    pub fn open(folder: &Path) -> Result<Self, PublishedError> {
        let name = match &weights_in(Published::Voice, folder, is_weights)?[..] {
            [] => {
                return Err(PublishedError::Missing {
                    model: Published::Voice,
                    folder: folder.to_owned(),
                    what: "`*.pth.tar`".to_owned(),
                });
            }
            [only] => only.clone(),
            several => {
                return Err(PublishedError::Several { folder: folder.to_owned(), files: several.to_vec() });
            }
        };
        let weights = folder.join(name);
        look_at_zip(&weights).map_err(PublishedError::Weights)?;
        let statistics: PublishedStatistics = read(folder, STATISTICS, "four numbers each under `pitch` and `energy`")?;
        for (name, moments) in [("pitch", statistics.pitch), ("energy", statistics.energy)] {
            let PublishedMoments { least, largest, mean, std } = moments;
            if !([least, largest, mean, std].iter().all(|value| value.is_finite()) && least < largest && std > 0.0) {
                let problem = format!(
                    "has no least value, larger one, mean and deviation above 0 under `{name}`, but {least}, {largest}, {mean}, {std}"
                );
                return Err(PublishedError::Content { path: folder.join(STATISTICS), problem });
            }
        }
        let rows: BTreeMap<String, u32> = read(folder, SPEAKERS, "the row of the table by the name of every speaker")?;
        let speakers = by_row(&folder.join(SPEAKERS), rows)?;
        let symbols = if folder.join(SYMBOLS).exists() { Some(read(folder, SYMBOLS, "a list of symbols")?) } else { None };
        Ok(Self { weights, statistics, speakers, symbols })
    }
}

/// True if a file next to the others has weights.
fn is_weights(path: &str) -> bool {
    path.ends_with(WEIGHTS_END) && !path.starts_with('.') && !path.contains('/')
}

/// Reads a file of JSON that is expected to contain `expected`.
fn read<T: DeserializeOwned>(folder: &Path, file: &'static str, expected: &str) -> Result<T, PublishedError> {
    let path = folder.join(file);
    if !path.exists() {
        return Err(PublishedError::Missing { model: Published::Voice, folder: folder.to_owned(), what: format!("`{file}`") });
    }
    let text = fs::read(&path).map_err(|source| PublishedError::Read { model: Published::Voice, path: path.clone(), source })?;
    serde_json::from_slice(&text).map_err(|error| {
        let problem = format!("is expected to hold {expected}: {error}");
        PublishedError::Content { path, problem }
    })
}

/// Names of speakers in the order of their rows, which must be 0 and the numbers after it.
fn by_row(path: &Path, rows: BTreeMap<String, u32>) -> Result<Vec<String>, PublishedError> {
    let wrong = |problem: String| PublishedError::Content { path: path.to_owned(), problem };
    let mut sorted: Vec<(u32, String)> = rows.into_iter().map(|(name, row)| (row, name)).collect();
    sorted.sort();
    if sorted.is_empty() {
        return Err(wrong("names no speaker".to_owned()));
    }
    if let Some((expected, (row, name))) = (0..).zip(&sorted).find(|(expected, (row, _))| expected != row) {
        let problem = if *row < expected { "a row that another has" } else { "a row with none before it" };
        return Err(wrong(format!("gives the speaker `{name}` {problem}, {row}")));
    }
    Ok(sorted.into_iter().map(|(_, name)| name).collect())
}

impl Stage for VoiceCheckpoint {
    const KIND: &'static str = "voice.checkpoint";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Takes the folder of a published voice of this machine into the store";

    fn slots() -> Vec<Slot> {
        Vec::new()
    }
    fn outputs(&self) -> Vec<String> {
        [WEIGHTS, STATISTICS, SPEAKERS].map(str::to_owned).to_vec()
    }
    fn check(&self) -> Mistakes {
        let mut mistakes = Vec::new();
        require_name(&mut mistakes, &self.name);
        mistakes
    }
    fn sources(&self) -> Vec<SourceNeed> {
        let wants = |path: &str| is_weights(path) || [STATISTICS, SPEAKERS, SYMBOLS].contains(&path);
        vec![SourceNeed { place: place(&self.name), wants: Box::new(wants) }]
    }
}

/// Looks at a folder and copies weights, statistics, speakers and symbols into the artifact.
///
/// Errors: [`PublishedError`] for a folder that is no published voice, [`StageError::SourceChanged`] for a file that is no longer
/// the one the plan saw.
pub fn run(params: &VoiceCheckpoint, job: &Job) -> Result<(), StageError> {
    let tree = tree(&params.name, job)?;
    PublishedFiles::open(&tree.root)?;
    copy_all(tree, job, |path| Some(if is_weights(path) { WEIGHTS } else { path }))
}

impl Stage for PublishedVoice {
    const KIND: &'static str = "voice.published";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Makes a voice of a published one";

    fn slots() -> Vec<Slot> {
        vec![Slot::one("checkpoint", "the files of a published voice (`voice.checkpoint`)")]
    }
    fn check(&self) -> Mistakes {
        let mut mistakes = Vec::new();
        for (name, value) in [
            ("num_attention_heads", self.num_attention_heads),
            ("sample_rate", self.sample_rate),
            ("n_fft", self.n_fft),
            ("hop_length", self.hop_length),
            ("win_length", self.win_length),
            ("num_mel_bins", self.num_mel_bins),
        ] {
            require_positive(&mut mistakes, name, value.into());
        }
        let fits = self.win_length <= self.n_fft;
        require(&mut mistakes, fits, "win_length", &format!("at most n_fft ({})", self.n_fft), self.win_length);
        let (low, high, most) = (self.low_hz, self.high_hz, f64::from(self.sample_rate) / 2.0);
        require(&mut mistakes, (0.0..most).contains(&low), "low_hz", &format!("from 0 to below {most}"), low);
        let fits = high > low && high <= most;
        require(&mut mistakes, fits, "high_hz", &format!("above low_hz ({low}) and at most {most}"), high);
        require(&mut mistakes, self.longest >= 2, "longest", "2 or more", self.longest);
        mistakes
    }
    fn outputs(&self) -> Vec<String> {
        vec!["voice".to_owned()]
    }
    fn environment(&self) -> Vec<(&'static str, String)> {
        environment()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 3] = [
        ("900000.pth.tar", "PK\x03\x04 and so on PK\x05\x06 the end"),
        (STATISTICS, r#"{"pitch": [-2.5, 11.5, 163.5, 61.5], "energy": [-1.25, 9.75, 41.5, 33.5]}"#),
        (SPEAKERS, r#"{"ben": 1, "ann": 0}"#),
    ];

    /// Opens a folder with the good files but for one, which is another or, without a text, missing.
    fn open(file: &str, text: Option<&str>) -> Result<PublishedFiles, PublishedError> {
        let folder = tempfile::tempdir().unwrap();
        for (name, good) in GOOD.into_iter().filter(|(name, _)| *name != file) {
            fs::write(folder.path().join(name), good).unwrap();
        }
        if let Some(text) = text {
            fs::write(folder.path().join(file), text).unwrap();
        }
        assert!(PublishedFiles::are_in(folder.path()));
        PublishedFiles::open(folder.path())
    }

    #[track_caller]
    fn check(file: &str, text: Option<&str>, expected: &str) {
        let error = open(file, text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn files_of_a_published_voice_are_read() {
        let files = open("none", Some("")).unwrap();
        assert_eq!((files.speakers, files.symbols), (vec!["ann".to_owned(), "ben".to_owned()], None));
        assert_eq!(files.statistics.pitch, [-2.5, 11.5, 163.5, 61.5].into());
        assert!(files.weights.ends_with("900000.pth.tar"));
        let files = open(SYMBOLS, Some(r#"["_", "@AA0"]"#)).unwrap();
        assert_eq!(files.symbols, Some(vec!["_".to_owned(), "@AA0".to_owned()]));
    }

    #[test]
    fn what_is_missing_or_something_else_is_named() {
        check("900000.pth.tar", None, "no `*.pth.tar` in the folder of a published voice");
        check("100000.pth.tar", Some("PK"), "several files of weights in");
        check("100000.pth.tar", Some("PK"), "`100000.pth.tar`, `900000.pth.tar`");
        check("900000.pth.tar", Some("PK\x03\x04 and so on"), "the end of the zip archive is missing");
        check("900000.pth.tar", Some("a pickle"), "is no zip archive");
        check(STATISTICS, None, "no `stats.json`");
        check(STATISTICS, Some("{"), "is expected to hold four numbers each under `pitch` and `energy`");
        check(STATISTICS, Some(r#"{"pitch": [0, 1, 2], "energy": [0, 1, 2, 3]}"#), "is expected to hold four numbers");
        check(STATISTICS, Some(r#"{"pitch": [0, 1, 2, 0], "energy": [0, 1, 2, 3]}"#), "deviation above 0 under `pitch`");
        check(SPEAKERS, None, "no `speakers.json`");
        check(SPEAKERS, Some("[]"), "the row of the table by the name of every speaker");
        check(SPEAKERS, Some("{}"), "names no speaker");
        check(SPEAKERS, Some(r#"{"ann": 0, "ben": 2}"#), "gives the speaker `ben` a row with none before it, 2");
        check(SPEAKERS, Some(r#"{"ann": 0, "ben": 0}"#), "gives the speaker `ben` a row that another has, 0");
        check(SPEAKERS, Some(r#"{"ann": "f"}"#), "the row of the table by the name of every speaker");
        check(SYMBOLS, Some("{}"), "is expected to hold a list of symbols");
    }

    #[test]
    fn numbers_without_sense_are_named() {
        assert_eq!(PublishedVoice::default().check(), []);
        let stage: PublishedVoice = serde_json::from_str(r#"{"win_length":2048,"high_hz":20000,"longest":0}"#).unwrap();
        let names: Vec<_> = stage.check().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["win_length", "high_hz", "longest"]);
    }
}
