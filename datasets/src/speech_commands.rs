//! Google Speech Commands, versions 0.01 and 0.02: single English words of at most a second, 16 kHz.
//!
//! ```text
//! <root>/<word>/<8 hex digits>_nohash_<n>.wav             yes/0a7c2a8d_nohash_0.wav
//! <root>/testing_list.txt  validation_list.txt            lines `yes/0a7c2a8d_nohash_0.wav`
//! <root>/_background_noise_/*.wav                         a minute or more each
//! <root>/speech_commands_test_set_v0.02/<label>/*.wav     the separate 12-class test archive, when there
//! ```
//!
//! The hexadecimal part names the speaker. Train is every word file in neither list. Licence: CC BY 4.0.
//! Published sizes of train, validation and test: version 0.01 51 088 / 6 798 / 6 835, version 0.02 84 843 / 9 981 / 11 005;
//! the eleven words of SURE in version 0.02 33 724 / 4 076 / 4 474.
//! Source: Warden 2018, arXiv:1804.03209.
//!
//! In the 12-class protocols all words but ten are `_unknown_` (all of them: balancing is left to training), and `_silence_`
//! comes from the background files, cut into whole seconds without overlap: of each file the first 80 % of the seconds are
//! train, the next 10 % dev, the rest test. Their test set is the separate archive where it lies in the root under its own
//! name (`speech_commands_test_set_v0.01` or `..._v0.02`); without it, what the testing list and the silence rule say. The
//! published test results of SUPERB are on the archive (3 081 utterances in version 0.01, 4 890 in 0.02); `sure corpus check`
//! finds fault with a copy without it.

mod lists;
mod silence;

use std::path::Path;

use crate::folder::{Entry, Kind, entries, wav_stem};
use crate::{Annotation, Corpus, CorpusError, Facts, Listing, Protocol, Split, Utterance};
use lists::Lists;

pub(crate) const TESTING_LIST: &str = "testing_list.txt";
pub(crate) const VALIDATION_LIST: &str = "validation_list.txt";
pub(crate) const README: &str = "README.md";
pub(crate) const BACKGROUND: &str = "_background_noise_";
const EXPECTED: &str = "`<word>/*.wav`, `testing_list.txt` and `validation_list.txt`";
const UNKNOWN: &str = "_unknown_";
const SILENCE: &str = "_silence_";

/// The words of version 0.02 in the order of the corpus's documentation; version 0.01 has the first thirty.
pub(crate) const WORDS: [&str; 35] = [
    "yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "zero", "one", "two", "three", "four", "five", "six",
    "seven", "eight", "nine", "bed", "bird", "cat", "dog", "happy", "house", "marvin", "sheila", "tree", "wow", "backward",
    "forward", "follow", "learn", "visual",
];
/// The order of SURE.
const ELEVEN: [&str; 11] = ["off", "up", "stop", "four", "no", "down", "left", "go", "yes", "on", "right"];
/// The order of SUPERB.
const TWELVE: [&str; 12] = ["yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", SILENCE, UNKNOWN];

const V1: &str = "0.01";
const V2: &str = "0.02";

static PROTOCOLS: &[Protocol] = &[
    Protocol {
        name: "gsc-v2-11",
        about: "version 0.02, the eleven keywords of SURE, no unknown and no silence class",
        labels: &ELEVEN,
        expected: Some([33_724, 4_076, 4_474]),
    },
    Protocol { name: "gsc-v1-11", about: "version 0.01, the eleven keywords of SURE", labels: &ELEVEN, expected: None },
    Protocol { name: "gsc-v1-12", about: "version 0.01, ten commands, unknown and silence", labels: &TWELVE, expected: None },
    Protocol { name: "gsc-v2-12", about: "version 0.02, ten commands, unknown and silence", labels: &TWELVE, expected: None },
    Protocol {
        name: "gsc-v1-30",
        about: "version 0.01, all thirty words",
        labels: WORDS.split_at(30).0,
        expected: Some([51_088, 6_798, 6_835]),
    },
    Protocol {
        name: "gsc-v2-35",
        about: "version 0.02, all thirty-five words",
        labels: &WORDS,
        expected: Some([84_843, 9_981, 11_005]),
    },
];

/// The reader.
#[derive(Debug, Clone, Copy)]
pub struct SpeechCommands;

impl Corpus for SpeechCommands {
    fn name(&self) -> &'static str {
        "speech_commands"
    }
    fn about(&self) -> &'static str {
        "Google Speech Commands 0.01 and 0.02, https://arxiv.org/abs/1804.03209"
    }
    fn licence(&self) -> &'static str {
        "CC BY 4.0"
    }
    fn protocols(&self) -> &'static [Protocol] {
        PROTOCOLS
    }

    /// The lists and the README (which name the version), and every folder that is not known to be of no use.
    fn wants(&self, protocol: &Protocol, path: &str) -> bool {
        match path.split_once('/') {
            None => [TESTING_LIST, VALIDATION_LIST, README].contains(&path),
            Some((folder, _)) => uses(protocol, folder),
        }
    }

    /// In different words, a speaker's takes have the same names. The silences of a file share it among the splits. Of twelve
    /// classes the size of the test archive is published.
    fn facts(&self, protocol: &Protocol) -> Facts {
        let test = is_twelve(protocol).then(|| if version(protocol) == V1 { 3_081 } else { 4_890 });
        Facts { utterances: [None, None, test], repeats_names: true, ..Facts::default() }
    }

    fn list(&self, root: &Path, protocol: &Protocol) -> Result<Listing, CorpusError> {
        let (corpus, root_buf, expected) = (self.name(), root.to_owned(), EXPECTED);
        if !root.is_dir() {
            return Err(CorpusError::NoRoot { corpus, root: root_buf, expected });
        }
        for missing in [TESTING_LIST, VALIDATION_LIST] {
            if !root.join(missing).is_file() {
                return Err(CorpusError::Missing { corpus, root: root_buf, missing: missing.to_owned(), expected });
            }
        }
        let mut lists = Lists::read(root)?;
        lists.check_version(root, protocol.name, version(protocol))?;

        let labels = protocol.labels.iter().map(|&label| label.to_owned()).collect();
        let mut listing = Listing { labels, ..Listing::default() };
        listing.hold_against(protocol, lists.synthetic);
        for entry in entries(root)? {
            if entry.kind != Kind::Folder || !uses(protocol, &entry.name) || special(&entry.name) {
                continue;
            }
            list_word(root, &entry.name, protocol, &mut lists, &mut listing)?;
        }
        lists.report_absent(|word| uses(protocol, word), &mut listing);
        if listing.utterances.is_empty() {
            return Err(listing.empty(corpus, root, expected));
        }
        if is_twelve(protocol) {
            silence::list(root, SILENCE, &mut listing)?;
            list_test_archive(root, protocol, &mut listing)?;
        }
        Ok(listing.seal())
    }
}

fn is_twelve(protocol: &Protocol) -> bool {
    protocol.labels.contains(&UNKNOWN)
}

/// The version of the corpus a protocol is made for.
fn version(protocol: &Protocol) -> &'static str {
    if protocol.name.starts_with("gsc-v1") { V1 } else { V2 }
}

fn test_archive(protocol: &Protocol) -> String {
    format!("speech_commands_test_set_v{}", version(protocol))
}

fn special(folder: &str) -> bool {
    folder == BACKGROUND || folder.starts_with("speech_commands_test_set_v")
}

/// True if a folder of the root matters. An unknown word does: its files are skipped with a reason.
fn uses(protocol: &Protocol, folder: &str) -> bool {
    if special(folder) {
        return is_twelve(protocol) && (folder == BACKGROUND || folder == test_archive(protocol));
    }
    is_twelve(protocol) || protocol.labels.contains(&folder) || !WORDS.contains(&folder)
}

/// The class of a word.
fn label_of(protocol: &Protocol, word: &str) -> Option<&'static str> {
    let own = protocol.labels.iter().copied().find(|&label| label == word);
    own.or_else(|| (is_twelve(protocol) && WORDS.contains(&word)).then_some(UNKNOWN))
}

/// Lists one word folder.
fn list_word(root: &Path, word: &str, protocol: &Protocol, lists: &mut Lists, listing: &mut Listing) -> Result<(), CorpusError> {
    let label = label_of(protocol, word);
    for entry in entries(&root.join(word))? {
        let path = format!("{word}/{}", entry.name);
        let split = lists.take(&path);
        let found = match label {
            None => Err(format!("label `{word}` is not a word of Speech Commands")),
            Some(label) => stem_and_speaker(&entry).map(|(stem, speaker)| (label, stem, speaker)),
        };
        let (label, stem, speaker) = match found {
            Ok(found) => found,
            Err(reason) => {
                listing.skip(path, reason);
                continue;
            }
        };
        match split {
            Err(reason) => listing.skip(path, reason),
            Ok(split) => listing.utterances.push(Utterance {
                annotation: Annotation {
                    label: Some(label.to_owned()),
                    speaker: Some(speaker.to_owned()),
                    transcript: Some(word.to_owned()),
                    ..Annotation::default()
                },
                ..Utterance::new(format!("{word}/{stem}"), path, split)
            }),
        }
    }
    Ok(())
}

/// `0a7c2a8d_nohash_0` and `0a7c2a8d`.
fn stem_and_speaker(entry: &Entry) -> Result<(&str, &str), String> {
    let stem = wav_stem(entry)?;
    let is_hex = |text: &str| text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match stem.split_once("_nohash_") {
        Some((speaker, take)) if is_hex(speaker) && take.parse::<u32>().is_ok() => Ok((stem, speaker)),
        _ => Err("its name is not `<8 hexadecimal digits>_nohash_<number>.wav`".to_owned()),
    }
}

/// Puts the separate test archive, where there is one, in the place of the test split of the lists.
fn list_test_archive(root: &Path, protocol: &Protocol, listing: &mut Listing) -> Result<(), CorpusError> {
    let archive = test_archive(protocol);
    if !root.join(&archive).is_dir() {
        return Ok(());
    }
    let before = listing.utterances.len();
    listing.utterances.retain(|utterance| utterance.split != Split::Test);
    let replaced = (before - listing.utterances.len()) as u64;
    listing.unused.insert(format!("test utterances of the lists, replaced by `{archive}`"), replaced);
    for folder in entries(&root.join(&archive))? {
        if folder.kind != Kind::Folder {
            continue;
        }
        let label = protocol.labels.iter().copied().find(|&label| label == folder.name);
        for entry in entries(&root.join(&archive).join(&folder.name))? {
            let path = format!("{archive}/{}/{}", folder.name, entry.name);
            let stem = match (label, wav_stem(&entry)) {
                (None, _) => Err(format!("label `{}` is not one of the twelve", folder.name)),
                (Some(_), stem) => stem,
            };
            match stem {
                Err(reason) => listing.skip(path, reason),
                Ok(stem) => listing.utterances.push(Utterance {
                    annotation: Annotation {
                        label: label.map(str::to_owned),
                        speaker: stem_and_speaker(&entry).ok().map(|(_, speaker)| speaker.to_owned()),
                        transcript: label.filter(|label| !label.starts_with('_')).map(str::to_owned),
                        ..Annotation::default()
                    },
                    ..Utterance::new(format!("test_set/{}/{stem}", folder.name), path, Split::Test)
                }),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
