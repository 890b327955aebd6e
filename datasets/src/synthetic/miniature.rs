//! Miniatures: a few dozen clips in the layout of a real corpus, with the quirks that its readers must cope with; or a few
//! hundred, with more speakers and sentences, so that a small model can learn from them ([`Miniature::to_learn_from`]).
//!
//! Labels are true to the sound: speakers have voices of their own, emotions a prosody, transcripts are what is said. Not true
//! is the format of some recordings: where the real corpus has FLAC, MP3 or MP4, the miniature has **WAV bytes under the
//! official name**, because nothing here writes those formats. Reading such a file as what its name says fails.
//!
//! Each miniature has a file `MINIATURE.md` in its root. By that a reader knows that published sizes do not apply.

mod esd;
mod fleurs;
mod fluent;
mod fsdd;
mod iemocap;
mod l2_arctic;
mod librispeech;
mod libritts;
mod meld;
mod snips;
mod speech_commands;
mod table;
mod vctk;

use std::path::{Path, PathBuf};

use super::arithmetic::Random;
use super::voice::{Prosody, Voice};
use super::{SynthesisError, Written, phones, publish, wav, wav_of_floats, write};
use crate::place::MINIATURE;

type Say = fn(&Voice, &str, u32, u32) -> Vec<i16>;
type Write = fn(&mut Studio) -> Result<(), SynthesisError>;

/// The corpora that there are miniatures of, by the names of their readers, in order.
pub const MINIATURES: [&str; WRITERS.len()] = {
    let mut names = [""; WRITERS.len()];
    let mut index = 0;
    while index < WRITERS.len() {
        names[index] = WRITERS[index].0;
        index += 1;
    }
    names
};

const WRITERS: [(&str, Write); 13] = [
    ("audio_snips", snips::write),
    ("esd", esd::write),
    ("fleurs", fleurs::write),
    ("fluent_speech_commands", fluent::write),
    ("fsdd", fsdd::write),
    ("iemocap", iemocap::write),
    ("l2_arctic", l2_arctic::write),
    ("librispeech", librispeech::write),
    ("libritts", libritts::write),
    ("meld", meld::write),
    ("speech_commands", speech_commands::write),
    ("table", table::write),
    ("vctk", vctk::write),
];

/// Options of a miniature. Every field changes the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Miniature {
    /// How often each speaker says each thing: 1 to 20. Where splits have speakers of their own, those of dev and test say it
    /// half as often.
    pub takes: u32,
    /// Speakers besides the few that show the layout, 0 to 12 and at most as many as the corpus has names for. With any, what
    /// is said varies too: sentences of known words in ever other order.
    pub more_speakers: u32,
    /// Another seed, other voices and other takes.
    pub seed: u64,
}

impl Default for Miniature {
    /// As small as it gets.
    fn default() -> Self {
        Self { takes: 1, more_speakers: 0, seed: 1 }
    }
}

impl Miniature {
    /// Enough of a corpus for a small model to learn its task from, in minutes of audio; nothing for other corpora than
    /// [`MINIATURES`].
    pub fn to_learn_from(corpus: &str) -> Self {
        let (takes, more_speakers) = match corpus {
            "audio_snips" => (8, 12),
            "esd" => (4, 1),
            "fleurs" => (12, 12),
            "fluent_speech_commands" => (4, 8),
            "fsdd" => (10, 4),
            "iemocap" => (10, 1),
            "l2_arctic" => (16, 4),
            "librispeech" => (12, 8),
            "libritts" => (12, 4),
            "meld" => (20, 4),
            "speech_commands" => (5, 12),
            "table" => (20, 2),
            "vctk" => (4, 6),
            _ => (1, 0),
        };
        Self { takes, more_speakers, ..Self::default() }
    }
}

/// More would use up the numbers that clips have in some of the corpora.
const MOST_TAKES: u32 = 20;
const MOST_SPEAKERS: u32 = 12;

/// Writes a miniature of a corpus, by the name of its reader. The folder appears whole or not at all.
///
/// Errors: [`SynthesisError`]; a folder that has anything in it is never touched.
pub fn write_miniature(corpus: &str, root: &Path, options: Miniature) -> Result<Written, SynthesisError> {
    write_with(corpus, root, options, Voice::say)
}

/// Writes the files of a miniature without sound, which is fast: for tests of layouts.
///
/// Errors: as [`write_miniature`].
#[cfg(test)]
pub(crate) fn write_mute(corpus: &str, root: &Path, options: Miniature) -> Result<Written, SynthesisError> {
    write_with(corpus, root, options, |_, _, _, _| vec![0; 100])
}

fn write_with(corpus: &str, root: &Path, options: Miniature, say: Say) -> Result<Written, SynthesisError> {
    let Some((name, body)) = WRITERS.iter().find(|(name, _)| *name == corpus) else {
        return Err(SynthesisError::Corpus { corpus: corpus.to_owned() });
    };
    if !(1..=MOST_TAKES).contains(&options.takes) {
        return Err(SynthesisError::Number { expected: "1 to 20 takes", found: u64::from(options.takes) });
    }
    if options.more_speakers > MOST_SPEAKERS {
        return Err(SynthesisError::Number { expected: "0 to 12 more speakers", found: u64::from(options.more_speakers) });
    }
    publish(root, |aside| {
        let mut studio = Studio { folder: aside.to_owned(), options, say, written: Written::default() };
        studio.text(MINIATURE, &about(name))?;
        body(&mut studio)?;
        Ok(studio.written)
    })
}

fn about(corpus: &str) -> String {
    format!(
        "# A miniature of `{corpus}`\n\n\
        Nobody spoke this: a formant synthesiser did, in the folder layout of the real corpus. Public domain (CC0).\n\
        Every recording is WAV inside, whatever its name says.\n"
    )
}

/// How every word is pronounced, in the form of the `LibriSpeech` lexicon: capitals, `ARPAbet`, the first vowel stressed.
fn lexicon() -> String {
    let mut lines: Vec<String> = phones::words()
        .map(|word| {
            let mut stress = 1;
            let phones = phones::sounds(word).iter().map(|phone| {
                let is_vowel = phone.starts_with(['A', 'E', 'I', 'O', 'U']);
                let shown = if is_vowel { format!("{phone}{stress}") } else { (*phone).to_owned() };
                stress = if is_vowel { 0 } else { stress };
                shown
            });
            let phones = phones.collect::<Vec<_>>().join(" ");
            format!("{}\t{phones}\n", if word == "its" { "IT'S".to_owned() } else { word.to_uppercase() })
        })
        .collect();
    lines.sort();
    lines.concat()
}

/// How an emotion sounds.
fn mood(emotion: &str) -> Prosody {
    let prosody = |pitch, swing, tempo, breathiness| Prosody { pitch, swing, tempo, breathiness };
    match emotion.to_lowercase().as_str() {
        "angry" | "anger" | "ang" => prosody(1.05, 1.5, 1.5, 0.3),
        "happy" | "joy" | "hap" | "exc" => prosody(1.45, 4.0, 1.15, 1.0),
        "sad" | "sadness" => prosody(0.8, 0.3, 0.65, 3.0),
        "surprise" | "sur" => prosody(1.5, -4.0, 1.0, 1.0),
        "fear" | "fea" => prosody(1.4, 0.1, 1.5, 6.0),
        "disgust" | "dis" | "fru" => prosody(0.75, 3.0, 0.75, 0.5),
        _ => prosody(1.0, 1.0, 1.0, 1.0),
    }
}

/// Line that a speaker says: text and manner.
#[derive(Debug, Clone, Copy)]
struct Line<'a> {
    speaker: u32,
    take: u32,
    emotion: &'a str,
    text: &'a str,
}

/// Writes the files of one miniature.
struct Studio {
    folder: PathBuf,
    options: Miniature,
    say: Say,
    written: Written,
}

/// Words of the sentences beyond the fixed ones: few, and as different as possible.
const VOCABULARY: [&str; 20] = [
    "one", "two", "three", "four", "five", "six", "seven", "yes", "no", "left", "right", "stop", "go", "happy", "dog", "cat",
    "house", "tree", "music", "please",
];

impl Studio {
    /// True if the miniature shows more than the layout.
    fn is_varied(&self) -> bool {
        self.options.more_speakers > 0
    }

    /// How often something is said in a split whose speakers are its own.
    fn takes_of(&self, split: &str) -> u32 {
        if split.starts_with("train") { self.options.takes } else { self.options.takes.div_ceil(2) }
    }

    /// The sentence of a number: two to four words of the vocabulary.
    fn sentence(&self, number: u32) -> String {
        let mut random = Random::of(&[self.options.seed, 0x5e47, u64::from(number)]);
        let words = (0..2 + random.next() % 3).map(|_| VOCABULARY[(random.next() % VOCABULARY.len() as u64) as usize]);
        words.collect::<Vec<_>>().join(" ")
    }

    /// Returns the sentence as written: with a capital and a full stop.
    fn written_sentence(&self, number: u32) -> String {
        let sentence = self.sentence(number);
        format!("{}{}.", sentence[..1].to_uppercase(), &sentence[1..])
    }

    /// Says a text in 16-bit WAV.
    fn clip(&mut self, path: &str, sample_rate: u32, line: Line) -> Result<(), SynthesisError> {
        let samples = self.speak(sample_rate, line)?;
        self.bytes(path, &wav(&samples, sample_rate))
    }

    /// Says a text in WAV of 32-bit floating-point numbers.
    fn clip_of_floats(&mut self, path: &str, sample_rate: u32, line: Line) -> Result<(), SynthesisError> {
        let samples = self.speak(sample_rate, line)?;
        self.bytes(path, &wav_of_floats(&samples, sample_rate))
    }

    /// The samples of a text. What is not a letter parts words, but an apostrophe is passed over, and `&` is a word.
    fn speak(&mut self, sample_rate: u32, line: Line) -> Result<Vec<i16>, SynthesisError> {
        let voice = Voice::of(self.options.seed, line.speaker).in_mood(mood(line.emotion));
        let text = line.text.to_lowercase().replace(['\'', '\u{2019}'], "").replace('&', "and");
        let mut samples = Vec::new();
        for word in text.split(|letter: char| !letter.is_ascii_alphabetic()).filter(|word| !word.is_empty()) {
            if phones::sounds(word).is_empty() {
                return Err(SynthesisError::Word { word: word.to_owned() });
            }
            samples.extend((self.say)(&voice, word, line.take, sample_rate));
        }
        self.written.clips += 1;
        self.written.num_samples += samples.len() as u64;
        self.written.micros += samples.len() as u64 * 1_000_000 / u64::from(sample_rate);
        Ok(samples)
    }

    fn text(&self, path: &str, text: &str) -> Result<(), SynthesisError> {
        self.bytes(path, text.as_bytes())
    }

    fn bytes(&self, path: &str, bytes: &[u8]) -> Result<(), SynthesisError> {
        write(&self.folder.join(path), bytes)
    }

    /// Writes the file that macOS adds next to each file of an archive.
    fn debris(&self, path: &str) -> Result<(), SynthesisError> {
        let beside = match path.rsplit_once('/') {
            Some((folder, name)) => format!("{folder}/._{name}"),
            None => format!("._{path}"),
        };
        self.bytes(&beside, b"\0\x05\x16\x07\0\x02\0\0Mac OS X        ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::files;
    use crate::{Split, find};

    /// Path, bytes, and bytes that are not 0, of the recordings in a folder.
    fn recordings(root: &Path) -> Vec<(String, usize, u64)> {
        let is_recording = |path: &String| [".wav", ".flac", ".mp4"].iter().any(|ending| path.to_lowercase().ends_with(ending));
        let read = |path: String| {
            let bytes = std::fs::read(root.join(&path)).unwrap();
            let loud = bytes.iter().skip(44).filter(|byte| **byte != 0).count() as u64;
            (path, bytes.len(), loud)
        };
        let clips = files(root).into_iter().filter(|path| is_recording(path) && !path.contains("._"));
        clips.map(read).filter(|(_, len, _)| *len > 0).collect()
    }

    #[test]
    fn every_miniature_can_be_spoken() {
        let folder = tempfile::tempdir().unwrap();
        for corpus in MINIATURES {
            let root = folder.path().join(corpus);
            let written = write_miniature(corpus, &root, Miniature::default()).unwrap();
            let clips = recordings(&root);
            assert!(clips.len() as u64 >= written.clips && written.clips > 0, "{corpus}: {} of {}", clips.len(), written.clips);
            for (path, len, loud) in clips {
                assert!(len > 2_000 && loud as usize > len / 2, "{corpus}/{path}: {len} bytes, {loud} not 0");
            }
        }
    }

    #[test]
    fn the_same_options_give_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, seed: u64| {
            let root = folder.path().join(name);
            write_miniature("table", &root, Miniature { seed, ..Miniature::default() }).unwrap();
            let mut hasher = blake3::Hasher::new();
            for path in files(&root) {
                hasher.update(path.as_bytes()).update(&std::fs::read(root.join(path)).unwrap());
            }
            hasher.finalize()
        };
        assert_eq!(write("first", 1), write("second", 1));
        assert_ne!(write("third", 1), write("fourth", 2));
    }

    #[test]
    fn more_takes_are_more_utterances_and_the_same_quirks() {
        let folder = tempfile::tempdir().unwrap();
        for corpus in MINIATURES {
            let list = |takes| {
                let root = folder.path().join(format!("{corpus}{takes}"));
                write_mute(corpus, &root, Miniature { takes, ..Miniature::default() }).unwrap();
                let corpus = find(corpus).unwrap();
                let listing = corpus.list(&root, &corpus.protocols()[0]).unwrap();
                let flagged = listing.utterances.iter().filter(|utterance| !utterance.annotation.flags.is_empty()).count();
                (listing.utterances.len(), listing.skipped.len(), flagged)
            };
            let ((few, skipped, flagged), (many, skipped_of_many, flagged_of_many)) = (list(1), list(3));
            assert!(many >= 2 * few && skipped == skipped_of_many, "{corpus}: {few} {skipped}, {many} {skipped_of_many}");
            assert!(flagged <= flagged_of_many, "{corpus}: {flagged}, {flagged_of_many}");
        }
    }

    #[test]
    fn there_is_enough_to_learn_from_in_every_split() {
        let folder = tempfile::tempdir().unwrap();
        for name in MINIATURES {
            let root = folder.path().join(name);
            let written = write_mute(name, &root, Miniature::to_learn_from(name)).unwrap();
            let corpus = find(name).unwrap();
            let listing = corpus.list(&root, &corpus.protocols()[0]).unwrap();
            let [train, dev, test] = Split::ALL.map(|split| listing.count(split));
            // IEMOCAP's splits are sessions, FSDD and a table hold out what their names and rows say.
            assert!(train >= 80 && dev >= 20 && test >= 20, "{name}: {train} {dev} {test} of {} clips", written.clips);
            let speakers = listing.names_of(|utterance| utterance.annotation.speaker.as_deref()).len();
            assert!(speakers >= 4 || name == "fleurs", "{name}: {speakers} speakers");
        }
    }

    #[test]
    fn emotions_sound_different() {
        let voice = Voice::of(1, 0);
        let said = |emotion: &str| voice.in_mood(mood(emotion)).say("no", 0, 16_000);
        let len = |emotion: &str| said(emotion).len();
        assert!(
            len("Sad") > len("Neutral") && len("Neutral") > len("Angry"),
            "{} {} {}",
            len("Sad"),
            len("Neutral"),
            len("Angry")
        );
        let emotions = ["neutral", "anger", "joy", "sadness", "surprise", "fear", "disgust"];
        let mut clips: Vec<_> = emotions.iter().map(|emotion| said(emotion)).collect();
        clips.sort();
        clips.dedup();
        assert_eq!(clips.len(), emotions.len());
        assert_eq!(said("neutral"), voice.say("no", 0, 16_000));
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let check = |corpus: &str, takes, message: &str| {
            let options = Miniature { takes, ..Miniature::default() };
            let error = write_miniature(corpus, &folder.path().join("new"), options).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        };
        check("nonesuch", 1, "no miniature of `nonesuch`, only of ");
        check("esd", 0, "expected 1 to 20 takes, found 0");
        check("esd", 21, "expected 1 to 20 takes, found 21");
        let options = Miniature { more_speakers: 13, ..Miniature::default() };
        let error = write_miniature("esd", &folder.path().join("new"), options).unwrap_err().to_string();
        assert_eq!(error, "expected 0 to 12 more speakers, found 13");
    }
}
