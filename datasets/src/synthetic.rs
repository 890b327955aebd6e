//! A small corpus of our own in the layout of Speech Commands 0.02, so that everything can be tried without a download; and
//! [miniatures](write_miniature) of all other corpora, with the quirks of the real ones.
//!
//! A formant synthesiser speaks single words in many voices. What it says is meant to be learnable and not trivial: speakers
//! differ in pitch, vocal tract and voice quality, takes in tempo, melody, level and background noise. Speakers of the dev and
//! test lists are not those of the training set, as in the real corpus. The same options give the same bytes on every machine:
//! the random generator and the functions beyond + - * / are our own (`arithmetic`), and samples are whole numbers.

mod arithmetic;
#[expect(clippy::format_push_string, reason = "label files are short, and writing to a string cannot fail")]
mod miniature;
mod phones;
mod voice;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::speech_commands::{BACKGROUND, README, TESTING_LIST, VALIDATION_LIST, WORDS};
use arithmetic::Random;
#[cfg(test)]
pub(crate) use miniature::write_mute;
pub use miniature::{MINIATURES, Miniature, write_miniature};
use voice::Voice;

/// Options of a synthetic corpus. Every field changes the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Voices; an eighth of them (at least one) each for dev and test, so at least 3.
    pub speakers: u32,
    /// How often each speaker says each word.
    pub takes: u32,
    /// Another seed, other voices and other takes.
    pub seed: u64,
    /// Words of Speech Commands.
    pub words: Vec<String>,
    /// In Hz. The real corpus has 16000.
    pub sample_rate: u32,
}

impl Options {
    /// Sixteen speakers, five takes, the eleven keywords of SURE: 880 clips of half a second, 660 of them to train on.
    pub fn quickstart() -> Self {
        let words = ["off", "up", "stop", "four", "no", "down", "left", "go", "yes", "on", "right"];
        Self { speakers: 16, takes: 5, seed: 1, words: words.map(str::to_owned).to_vec(), sample_rate: 16_000 }
    }
}

/// Counts of the files that were written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Word clips.
    pub clips: u64,
    /// Their samples.
    pub num_samples: u64,
    /// How long they last, in microseconds.
    pub micros: u64,
}

impl Written {
    /// How long the clips last, in seconds.
    pub fn secs(&self) -> f64 {
        self.micros as f64 / 1e6
    }
}

/// Why no corpus was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SynthesisError {
    /// There is something already.
    #[error("`{root}` is there and not an empty folder")]
    Occupied {
        /// Where the corpus should go.
        root: PathBuf,
    },
    /// A word that cannot be said.
    #[error("no way to say `{word}`, only {}", WORDS.join(", "))]
    Word {
        /// The word.
        word: String,
    },
    /// A corpus that has no miniature.
    #[error("no miniature of `{corpus}`, only of {}", MINIATURES.join(", "))]
    Corpus {
        /// The name asked for.
        corpus: String,
    },
    /// A number that makes no corpus.
    #[error("expected {expected}, found {found}")]
    Number {
        /// Of what, and how many.
        expected: &'static str,
        /// Value in the options.
        found: u64,
    },
    /// A file or folder cannot be written.
    #[error("cannot write `{path}`")]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Writes a corpus in the layout of Speech Commands 0.02. The folder appears whole or not at all.
///
/// Errors: [`SynthesisError`]; a folder that has anything in it is never touched.
pub fn write_speech_commands(root: &Path, options: &Options) -> Result<Written, SynthesisError> {
    check(options)?;
    publish(root, |aside| write_aside(aside, options))
}

/// Writes a folder aside and renames it into place.
fn publish(root: &Path, write: impl FnOnce(&Path) -> Result<Written, SynthesisError>) -> Result<Written, SynthesisError> {
    if fs::symlink_metadata(root).is_ok() && !fs::read_dir(root).is_ok_and(|mut entries| entries.next().is_none()) {
        return Err(SynthesisError::Occupied { root: root.to_owned() });
    }
    let name = root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let aside = root.with_file_name(format!(".{name}.partial"));
    if aside.exists() {
        fs::remove_dir_all(&aside).map_err(write_error(&aside))?;
    }
    let written = write(&aside)?;
    // Renaming onto an empty folder replaces it.
    fs::rename(&aside, root).map_err(write_error(root))?;
    Ok(written)
}

fn check(options: &Options) -> Result<(), SynthesisError> {
    let number = |expected, found: u32, fits: bool| {
        if fits { Ok(()) } else { Err(SynthesisError::Number { expected, found: u64::from(found) }) }
    };
    number("3 speakers or more (train, dev and test have their own)", options.speakers, options.speakers >= 3)?;
    number("1 take or more", options.takes, options.takes >= 1)?;
    number("1 word or more", options.words.len() as u32, !options.words.is_empty())?;
    number("a sample rate of 8000 to 192000 Hz", options.sample_rate, (8_000..=192_000).contains(&options.sample_rate))?;
    match options.words.iter().find(|word| !WORDS.contains(&word.as_str())) {
        Some(word) => Err(SynthesisError::Word { word: word.clone() }),
        None => Ok(()),
    }
}

fn write_aside(aside: &Path, options: &Options) -> Result<Written, SynthesisError> {
    let mut written = Written::default();
    let (mut testing, mut validation) = (Vec::new(), Vec::new());
    let held_out = (options.speakers / 8).max(1);
    let mut words: Vec<&str> = options.words.iter().map(String::as_str).collect();
    words.sort_unstable();
    words.dedup();
    for word in words {
        for speaker in 0..options.speakers {
            let voice = Voice::of(options.seed, speaker);
            for take in 0..options.takes {
                let samples = voice.say(word, take, options.sample_rate);
                written.clips += 1;
                written.num_samples += samples.len() as u64;
                written.micros += samples.len() as u64 * 1_000_000 / u64::from(options.sample_rate);
                let name = format!("{word}/{}_nohash_{take}.wav", voice.name());
                write(&aside.join(&name), &wav(&samples, options.sample_rate))?;
                match speaker / held_out {
                    0 => testing.push(name),
                    1 => validation.push(name),
                    _ => {}
                }
            }
        }
    }
    for (list, names) in [(TESTING_LIST, testing), (VALIDATION_LIST, validation)] {
        write(&aside.join(list), (names.join("\n") + "\n").as_bytes())?;
    }
    write(&aside.join(README), readme(options).as_bytes())?;
    write_background(&aside.join(BACKGROUND), options)?;
    Ok(written)
}

fn readme(options: &Options) -> String {
    let Options { speakers, takes, seed, words, sample_rate } = options;
    format!(
        "# Speech Commands Data Set v0.02, synthetic stand-in\n\n\
        Nobody spoke this: a formant synthesiser did, in the folder layout of Speech Commands 0.02. Public domain (CC0).\n\n\
        {} words, {speakers} speakers, {takes} takes of each, {sample_rate} Hz, seed {seed}.\n",
        words.len()
    )
}

/// Ten seconds each of three kinds of noise.
fn write_background(folder: &Path, options: &Options) -> Result<(), SynthesisError> {
    let len = options.sample_rate as usize * 10;
    let kinds: [(&str, voice::Noise); 3] = [
        ("white_noise", voice::Noise { colour: 0.0, swell_hz: 0.0 }),
        ("pink_noise", voice::Noise { colour: 0.9, swell_hz: 0.0 }),
        ("running_tap", voice::Noise { colour: -0.6, swell_hz: 0.7 }),
    ];
    for (number, (name, noise)) in (0..).zip(kinds) {
        let samples = noise.samples(&mut Random::of(&[options.seed, 0xbac6, number]), len, options.sample_rate);
        write(&folder.join(format!("{name}.wav")), &wav(&samples, options.sample_rate))?;
    }
    write(&folder.join(README), b"Noise for the silence class, synthetic as the rest.\n")
}

/// 16-bit mono PCM with the plain 44-byte header.
fn wav(samples: &[i16], sample_rate: u32) -> Vec<u8> {
    const PCM: u16 = 1;
    let mut file = wav_header(PCM, samples.len(), sample_rate, 2);
    file.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    file
}

/// Returns a WAV file of the samples as 32-bit floating-point numbers of -1 to 1.
fn wav_of_floats(samples: &[i16], sample_rate: u32) -> Vec<u8> {
    const FLOAT: u16 = 3;
    let mut file = wav_header(FLOAT, samples.len(), sample_rate, 4);
    file.extend(samples.iter().flat_map(|&sample| (f32::from(sample) / 32_768.0).to_le_bytes()));
    file
}

fn wav_header(format: u16, num_samples: usize, sample_rate: u32, sample_len: u16) -> Vec<u8> {
    let num_bytes = num_samples as u32 * u32::from(sample_len);
    let mut file = Vec::with_capacity(44 + num_bytes as usize);
    file.extend_from_slice(b"RIFF");
    file.extend_from_slice(&(36 + num_bytes).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt \x10\0\0\0");
    file.extend_from_slice(&format.to_le_bytes());
    file.extend_from_slice(b"\x01\0");
    file.extend_from_slice(&sample_rate.to_le_bytes());
    file.extend_from_slice(&(sample_rate * u32::from(sample_len)).to_le_bytes());
    file.extend_from_slice(&sample_len.to_le_bytes());
    file.extend_from_slice(&(sample_len * 8).to_le_bytes());
    file.extend_from_slice(b"data");
    file.extend_from_slice(&num_bytes.to_le_bytes());
    file
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), SynthesisError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(write_error(folder))?;
    }
    fs::write(path, bytes).map_err(write_error(path))
}

fn write_error(path: &Path) -> impl FnOnce(io::Error) -> SynthesisError {
    let path = path.to_owned();
    |source| SynthesisError::Write { path, source }
}

#[cfg(test)]
mod tests;
