//! Emotional Speech Dataset: ten English and ten Mandarin speakers say the same sentences in five emotions, 16 kHz.
//!
//! ```text
//! <root>/0011/0011.txt                      0011_000351<TAB>The nine the eggs, I keep.<TAB>Angry
//! <root>/0011/Angry/train/0011_000371.wav   layout A; in layout B the recordings lie in the emotion's own folder
//! ```
//!
//! Version read: the one release there is, in both layouts, alone or inside the folders its archives put around it. Licence:
//! for research, on a signed form. Published sizes of each language: 15 000 train, 1 000 evaluation, 1 500 test, which is 300,
//! 20 and 30 of each speaker and emotion.
//! Source: Zhou et al. 2021, arXiv:2010.14794, and the release's own `ReadMe.txt`.
//!
//! The emotion is the folder's name; the third field of the transcripts is not relied on. Layout A has the splits as folders.
//! In layout B the number of a clip decides as it does in layout A: of the 350 numbers of an emotion the first 20 are
//! evaluation, the next 30 test. Transcripts come in four encodings, and about fifteen English lines lack a tab; what they say
//! is kept as it is, curly quotes included.
//!
//! `esd-en-sure-asr` is what the code published with SURE reads for speech recognition: it takes UTF-16 for 8-bit text, so that
//! the first utterance of each such file is lost (five of evaluation). Its log has one training utterance less besides, for a
//! reason that is not known. All utterances, as `esd-en` has them, is the sound choice and the default.

mod transcripts;

use std::path::Path;

use crate::folder::{Entry, Kind, stem};
use crate::place::{Layout, MINIATURE, Place};
use crate::{Annotation, Corpus, CorpusError, Facts, Listing, Protocol, Split, Utterance};
use transcripts::Transcripts;

const LAYOUT: Layout = Layout {
    corpus: "esd",
    expected: "`<speaker 0001 to 0020>/<emotion>/[<split>/]<speaker>_<number>.wav` and `<speaker>/<speaker>.txt`",
    outer: &[
        "Emotional Speech Dataset (ESD)/Emotion Speech Dataset/",
        "Emotional Speech Dataset (ESD)/",
        "Emotion Speech Dataset/",
        "ESD/",
    ],
};

/// The first ten speak Mandarin, the others English.
const SPEAKERS: [&str; 20] = [
    "0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010", "0011", "0012", "0013", "0014", "0015",
    "0016", "0017", "0018", "0019", "0020",
];
const MALE: [&str; 10] = ["0004", "0005", "0006", "0008", "0010", "0011", "0012", "0013", "0014", "0020"];
/// The order of SURE.
const EMOTIONS: [&str; 5] = ["Angry", "Happy", "Neutral", "Surprise", "Sad"];
/// The order of the numbers: 350 each.
const BLOCKS: [&str; 5] = ["Neutral", "Angry", "Happy", "Sad", "Surprise"];
const BLOCK_LEN: u32 = 350;
const SURE_ASR: &str = "esd-en-sure-asr";

static PROTOCOLS: &[Protocol] = &[
    Protocol {
        name: "esd-en",
        about: "the ten English speakers, five emotions, splits as published",
        labels: &EMOTIONS,
        expected: Some([15_000, 1_000, 1_500]),
    },
    Protocol {
        name: "esd-zh",
        about: "the ten Mandarin speakers, five emotions, splits as published",
        labels: &EMOTIONS,
        expected: Some([15_000, 1_000, 1_500]),
    },
    Protocol {
        name: SURE_ASR,
        about: "as esd-en, without the first utterance of each UTF-16 transcript, which SURE's code loses",
        labels: &EMOTIONS,
        expected: Some([15_000, 995, 1_500]),
    },
];

/// The reader.
#[derive(Debug, Clone, Copy)]
pub struct Esd;

impl Corpus for Esd {
    fn name(&self) -> &'static str {
        LAYOUT.corpus
    }
    fn about(&self) -> &'static str {
        "Emotional Speech Dataset, https://github.com/HLTSingapore/Emotional-Speech-Data"
    }
    fn licence(&self) -> &'static str {
        "research only, signed form"
    }
    fn protocols(&self) -> &'static [Protocol] {
        PROTOCOLS
    }

    fn wants(&self, protocol: &Protocol, path: &str) -> bool {
        let speaker = LAYOUT.inner(path).split_once('/').map(|(folder, _)| folder);
        path == MINIATURE || speaker.is_some_and(|speaker| speakers(protocol).contains(&speaker))
    }

    fn facts(&self, protocol: &Protocol) -> Facts {
        const EACH: [u64; 3] = [3_000, 200, 300];
        const CLASSES: [(&str, [u64; 3]); 5] =
            [("Angry", EACH), ("Happy", EACH), ("Neutral", EACH), ("Surprise", EACH), ("Sad", EACH)];
        let classes: &[_] = if protocol.name == SURE_ASR { &[] } else { &CLASSES };
        Facts { classes, speakers: Some([10; 3]), shares_speakers: true, ..Facts::default() }
    }

    fn list(&self, root: &Path, protocol: &Protocol) -> Result<Listing, CorpusError> {
        let place = LAYOUT.open(root, speakers(protocol))?;
        let mut listing = Listing::default();
        for &speaker in speakers(protocol) {
            if place.is_dir(speaker) {
                list_speaker(&place, speaker, protocol, &mut listing)?;
            } else if !place.is_miniature {
                listing.missing(place.path(speaker), "no folder of this speaker");
            }
        }
        place.finish(listing, protocol)
    }
}

fn speakers(protocol: &Protocol) -> &'static [&'static str] {
    let (mandarin, english) = SPEAKERS.split_at(10);
    if protocol.name == "esd-zh" { mandarin } else { english }
}

fn list_speaker(place: &Place, speaker: &'static str, protocol: &Protocol, listing: &mut Listing) -> Result<(), CorpusError> {
    let mut transcripts = Transcripts::read(place, speaker, listing)?;
    let lost = if protocol.name == SURE_ASR { transcripts.lost.clone() } else { None };
    let mut clip = |entry: &Entry, folder: &str, emotion: &'static str, split: Option<Split>, listing: &mut Listing| {
        let path = place.path(&format!("{folder}/{}", entry.name));
        let found = stem(entry, &["wav"]).and_then(|stem| Ok((stem, number(stem, speaker)?)));
        let (stem, number) = match found {
            Ok(found) => found,
            Err(reason) => return listing.skip(path, reason),
        };
        let transcript = transcripts.take(stem);
        if lost.as_deref() == Some(stem) {
            return listing.leave("first utterance of a UTF-16 transcript, which SURE's code loses", 1);
        }
        let (block, by_number) = place_of(number);
        let mut utterance = Utterance {
            annotation: Annotation {
                label: Some(emotion.to_owned()),
                speaker: Some(speaker.to_owned()),
                ..Annotation::default()
            },
            ..Utterance::new(stem, path, split.unwrap_or(by_number))
        };
        if block != emotion {
            utterance.annotation.flags.push(format!("by its number the emotion is {block}"));
        }
        if let Some(split) = split.filter(|split| *split != by_number) {
            utterance.annotation.flags.push(format!("in the folder of {split}, by its number in {by_number}"));
        }
        if transcript.is_none() {
            utterance.annotation.flags.push("no transcript".to_owned());
        }
        utterance.annotation.transcript = transcript;
        utterance.tag("gender", if MALE.contains(&speaker) { "male" } else { "female" });
        listing.utterances.push(utterance);
    };

    for entry in place.entries(speaker)? {
        let folder = format!("{speaker}/{}", entry.name);
        let emotion = EMOTIONS.iter().find(|emotion| emotion.eq_ignore_ascii_case(&entry.name));
        match (entry.kind, emotion) {
            (Kind::Folder, Some(emotion)) => {
                for entry in place.entries(&folder)? {
                    let inner = format!("{folder}/{}", entry.name);
                    match (entry.kind, split_of(&entry.name)) {
                        (Kind::Folder, Some(split)) => {
                            for entry in place.entries(&inner)? {
                                clip(&entry, &inner, emotion, Some(split), listing);
                            }
                        }
                        (Kind::Folder, None) => {
                            listing.skip(place.path(&inner), "not a folder of train, evaluation or test");
                        }
                        _ => clip(&entry, &folder, emotion, None, listing),
                    }
                }
            }
            (Kind::Folder, None) => listing.skip(place.path(&folder), "not the folder of an emotion"),
            _ if entry.name == format!("{speaker}.txt") => {}
            _ => listing.skip(place.path(&folder), "neither the transcript nor the folder of an emotion"),
        }
    }
    transcripts.report_left(place, speaker, listing);
    Ok(())
}

/// Returns the split of a folder of the corpus.
fn split_of(folder: &str) -> Option<Split> {
    match folder {
        "train" => Some(Split::Train),
        "evaluation" => Some(Split::Dev),
        "test" => Some(Split::Test),
        _ => None,
    }
}

/// The number of a clip of a speaker.
fn number(stem: &str, speaker: &str) -> Result<u32, String> {
    let Some((found, digits)) = stem.split_once('_').filter(|(_, digits)| digits.bytes().all(|digit| digit.is_ascii_digit()))
    else {
        return Err("its name is not `<speaker>_<number>.wav`".to_owned());
    };
    match digits.parse::<u32>() {
        _ if found != speaker => Err(format!("speaker `{found}` in the folder of `{speaker}`")),
        Ok(number @ 1..=1_750) => Ok(number),
        _ => Err(format!("number `{digits}` is not 1 to 1750")),
    }
}

/// The emotion and the split of a number.
fn place_of(number: u32) -> (&'static str, Split) {
    let (block, within) = ((number - 1) / BLOCK_LEN, (number - 1) % BLOCK_LEN);
    let split = match within {
        0..20 => Split::Dev,
        20..50 => Split::Test,
        _ => Split::Train,
    };
    (BLOCKS[block as usize], split)
}

#[cfg(test)]
mod tests;
