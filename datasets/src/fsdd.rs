//! Free Spoken Digit Dataset: ten English digits by six speakers, 8 kHz.
//!
//! ```text
//! <root>/recordings/<digit>_<speaker>_<index>.wav        7_jackson_32.wav
//! ```
//!
//! Version read: the one of 3000 recordings (10 digits x 6 speakers x 50, WAV PCM16 mono). Licence: CC BY-SA 4.0.
//! Split, as is customary: index 0 to 4 of each digit and speaker is test; of the rest, 5 to 9 is dev here. That gives
//! 2400 train, 300 dev, 300 test, with the same speakers in all three.
//! Source: <https://github.com/Jakobovski/free-spoken-digit-dataset>.

use std::collections::HashSet;
use std::path::Path;

use crate::folder::{entries, wav_stem};
use crate::place::MINIATURE;
use crate::{Annotation, Corpus, CorpusError, Facts, Listing, Protocol, Split, Utterance};

const FOLDER: &str = "recordings";
const EXPECTED: &str = "`recordings/<digit>_<speaker>_<index>.wav`";
const SPEAKERS: [&str; 6] = ["george", "jackson", "lucas", "nicolas", "theo", "yweweler"];
/// How often each speaker says each digit.
const TAKES: u32 = 50;
const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
const WORDS: [&str; 10] = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];

static PROTOCOLS: &[Protocol] = &[Protocol {
    name: "fsdd",
    about: "ten digits; index 0-4 of each digit and speaker is test, 5-9 dev, the rest train",
    labels: &DIGITS,
    expected: Some([2400, 300, 300]),
}];

/// The reader.
#[derive(Debug, Clone, Copy)]
pub struct Fsdd;

impl Corpus for Fsdd {
    fn name(&self) -> &'static str {
        "fsdd"
    }
    fn about(&self) -> &'static str {
        "Free Spoken Digit Dataset, https://github.com/Jakobovski/free-spoken-digit-dataset"
    }
    fn licence(&self) -> &'static str {
        "CC BY-SA 4.0"
    }
    fn protocols(&self) -> &'static [Protocol] {
        PROTOCOLS
    }
    fn wants(&self, _: &Protocol, path: &str) -> bool {
        path == MINIATURE || path.split_once('/').is_some_and(|(folder, _)| folder == FOLDER)
    }

    fn facts(&self, _: &Protocol) -> Facts {
        const EACH: [u64; 3] = [240, 30, 30];
        const CLASSES: [(&str, [u64; 3]); 10] = [
            ("0", EACH),
            ("1", EACH),
            ("2", EACH),
            ("3", EACH),
            ("4", EACH),
            ("5", EACH),
            ("6", EACH),
            ("7", EACH),
            ("8", EACH),
            ("9", EACH),
        ];
        Facts { classes: &CLASSES, speakers: Some([6; 3]), shares_speakers: true, ..Facts::default() }
    }

    fn list(&self, root: &Path, protocol: &Protocol) -> Result<Listing, CorpusError> {
        let (corpus, root_buf, expected) = (self.name(), root.to_owned(), EXPECTED);
        if !root.is_dir() {
            return Err(CorpusError::NoRoot { corpus, root: root_buf, expected });
        }
        let folder = root.join(FOLDER);
        if !folder.is_dir() {
            return Err(CorpusError::Missing { corpus, root: root_buf, missing: FOLDER.to_owned(), expected });
        }
        let labels = protocol.labels.iter().map(|&label| label.to_owned()).collect();
        let mut listing = Listing { labels, ..Listing::default() };
        listing.hold_against(protocol, root.join(MINIATURE).is_file());
        for entry in entries(&folder)? {
            let path = format!("{FOLDER}/{}", entry.name);
            match wav_stem(&entry).and_then(|stem| utterance(stem, &path)) {
                Ok(utterance) => listing.utterances.push(utterance),
                Err(reason) => listing.skip(path, reason),
            }
        }
        if listing.utterances.is_empty() {
            return Err(listing.empty(corpus, root, expected));
        }
        if listing.expected.is_some() {
            miss(&mut listing);
        }
        Ok(listing.seal())
    }
}

/// Names every recording of the published corpus that is not there.
fn miss(listing: &mut Listing) {
    let found: HashSet<String> = listing.utterances.iter().map(|utterance| utterance.id.clone()).collect();
    let names = DIGITS.iter().flat_map(|digit| SPEAKERS.iter().map(move |speaker| format!("{digit}_{speaker}")));
    for id in names.flat_map(|name| (0..TAKES).map(move |index| format!("{name}_{index}"))).filter(|id| !found.contains(id)) {
        listing.missing(format!("{FOLDER}/{id}.wav"), "the published corpus has it");
    }
}

/// Returns the utterance that the name of a recording describes, or why there is none.
fn utterance(stem: &str, path: &str) -> Result<Utterance, String> {
    let parts = stem.split_once('_').and_then(|(digit, rest)| Some((digit, rest.rsplit_once('_')?)));
    let Some((digit, (speaker, index))) = parts.filter(|(_, (speaker, _))| !speaker.is_empty()) else {
        return Err("its name is not `<digit>_<speaker>_<index>`".to_owned());
    };
    let Some(label) = DIGITS.iter().position(|&known| known == digit) else {
        return Err(format!("label `{digit}` is not one of the ten digits"));
    };
    let split = match index.parse::<u32>() {
        Ok(0..=4) => Split::Test,
        Ok(5..=9) => Split::Dev,
        Ok(_) => Split::Train,
        Err(_) => return Err(format!("index `{index}` is not a number")),
    };
    Ok(Utterance {
        annotation: Annotation {
            label: Some(digit.to_owned()),
            speaker: Some(speaker.to_owned()),
            transcript: Some(WORDS[label].to_owned()),
            ..Annotation::default()
        },
        ..Utterance::new(stem, path, split)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::listing::Cause;

    fn list(root: &Path) -> Result<Listing, CorpusError> {
        Fsdd.list(root, Fsdd.protocol(None).unwrap())
    }

    #[test]
    fn index_decides_the_split_and_bad_names_are_skipped_with_reasons() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(FOLDER);
        fs::create_dir(&folder).unwrap();
        let names = [
            "7_jackson_32.wav",
            "7_jackson_4.wav",
            "0_mary_ann_5.wav",
            "12_theo_3.wav",
            "x.wav",
            "1_theo_x.wav",
            "notes.txt",
            "._1_theo_1.wav",
        ];
        for name in names {
            fs::write(folder.join(name), b"").unwrap();
        }
        fs::create_dir(folder.join("9_theo_0.wav")).unwrap();
        let listing = list(root.path()).unwrap();
        let seen: Vec<_> =
            listing.utterances.iter().map(|u| (u.id.as_str(), u.split, u.annotation.speaker.as_deref().unwrap())).collect();
        let expected = [
            ("0_mary_ann_5", Split::Dev, "mary_ann"),
            ("7_jackson_32", Split::Train, "jackson"),
            ("7_jackson_4", Split::Test, "jackson"),
        ];
        assert_eq!(seen, expected);
        assert_eq!(listing.utterances[1].annotation.transcript.as_deref(), Some("seven"));
        let (missing, others): (Vec<_>, Vec<_>) = listing.skipped.iter().partition(|skipped| skipped.cause == Cause::Missing);
        assert_eq!(missing.len(), 3000 - 2); // Mary Ann is nobody's list
        assert!(missing.iter().all(|skipped| !skipped.path.ends_with("7_jackson_32.wav")));
        let skipped: Vec<_> = others.iter().map(|s| format!("{}: {}", s.path, s.reason)).collect();
        let reasons = [
            "recordings/12_theo_3.wav: label `12` is not one of the ten digits",
            "recordings/1_theo_x.wav: index `x` is not a number",
            "recordings/9_theo_0.wav: a folder, not a file",
            "recordings/notes.txt: not a .wav file",
            "recordings/x.wav: its name is not `<digit>_<speaker>_<index>`",
        ];
        assert_eq!(skipped, reasons);
    }

    #[test]
    fn missing_and_empty_folders_say_what_was_expected() {
        let root = tempfile::tempdir().unwrap();
        let check = |path: &Path, part: &str| {
            let error = list(path).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("recordings"), "{error}");
        };
        check(&root.path().join("nowhere"), "expected a folder with");
        check(root.path(), "`recordings` is not there");
        fs::create_dir(root.path().join(FOLDER)).unwrap();
        check(root.path(), "has no recording that can be used, expected `recordings/");
    }
}
