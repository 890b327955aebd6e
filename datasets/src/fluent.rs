//! Fluent Speech Commands: spoken commands to a home, each with an action, an object and a location, 16 kHz.
//!
//! ```text
//! <root>/data/train_data.csv       ,path,speakerId,transcription,action,object,location
//!                                  0,wavs/speakers/2BqVo8kVB2Skwgyb/0a3129c0-4474-11e9-a9a5-5dbec3b8816a.wav,2BqVo8kVB2Skwgyb,Change language,change language,none,none
//! <root>/wavs/speakers/<speaker>/<uuid>.wav
//! ```
//!
//! Version read: the one release there is. Licence: Fluent Speech Commands Public License (academic research).
//! Published sizes: 23 132 train, 3 118 valid, 3 793 test; 97 speakers, none in two splits; 31 intents.
//! Source: Lugosch et al. 2019, arXiv:1904.03670.
//!
//! The label is the intent, `action|object|location`. The three are also slots by themselves, with their classes in the order
//! that SURE gives the outputs of its three heads.

use std::path::Path;

use crate::place::{Layout, MINIATURE, Place, Recordings, clean};
use crate::text::{Header, Row, rows};
use crate::{Annotation, Corpus, CorpusError, Facts, Listing, Protocol, Slot, Split, Utterance};

const LAYOUT: Layout = Layout {
    corpus: "fluent_speech_commands",
    expected: "`data/<train, valid, test>_data.csv` and `wavs/speakers/<speaker>/<uuid>.wav`",
    outer: &["fluent_speech_commands_dataset/"],
};
const RECORDINGS: &str = "wavs/speakers";

/// The orders of SURE.
const ACTIONS: [&str; 6] = ["change language", "activate", "deactivate", "increase", "decrease", "bring"];
const OBJECTS: [&str; 14] = [
    "none",
    "music",
    "lights",
    "volume",
    "heat",
    "lamp",
    "newspaper",
    "juice",
    "socks",
    "Chinese",
    "Korean",
    "English",
    "German",
    "shoes",
];
const LOCATIONS: [&str; 4] = ["none", "kitchen", "bedroom", "washroom"];
/// The three slots of an intent, each with its values in the order of SURE.
pub const SLOTS: [(&str, &[&str]); 3] = [("action", &ACTIONS), ("object", &OBJECTS), ("location", &LOCATIONS)];
const INTENTS: [&str; 31] = [
    "activate|lamp|none",
    "activate|lights|bedroom",
    "activate|lights|kitchen",
    "activate|lights|none",
    "activate|lights|washroom",
    "activate|music|none",
    "bring|juice|none",
    "bring|newspaper|none",
    "bring|shoes|none",
    "bring|socks|none",
    "change language|Chinese|none",
    "change language|English|none",
    "change language|German|none",
    "change language|Korean|none",
    "change language|none|none",
    "deactivate|lamp|none",
    "deactivate|lights|bedroom",
    "deactivate|lights|kitchen",
    "deactivate|lights|none",
    "deactivate|lights|washroom",
    "deactivate|music|none",
    "decrease|heat|bedroom",
    "decrease|heat|kitchen",
    "decrease|heat|none",
    "decrease|heat|washroom",
    "decrease|volume|none",
    "increase|heat|bedroom",
    "increase|heat|kitchen",
    "increase|heat|none",
    "increase|heat|washroom",
    "increase|volume|none",
];

static PROTOCOLS: &[Protocol] = &[Protocol {
    name: "fsc",
    about: "31 intents of action, object and location, splits as published",
    labels: &INTENTS,
    expected: Some([23_132, 3_118, 3_793]),
}];

/// The reader.
#[derive(Debug, Clone, Copy)]
pub struct FluentSpeechCommands;

impl Corpus for FluentSpeechCommands {
    fn name(&self) -> &'static str {
        LAYOUT.corpus
    }
    fn about(&self) -> &'static str {
        "Fluent Speech Commands, spoken intents, https://arxiv.org/abs/1904.03670"
    }
    fn licence(&self) -> &'static str {
        "Fluent Speech Commands Public License (academic research)"
    }
    fn protocols(&self) -> &'static [Protocol] {
        PROTOCOLS
    }

    fn wants(&self, _: &Protocol, path: &str) -> bool {
        let inner = LAYOUT.inner(path);
        path == MINIATURE
            || inner.strip_prefix(RECORDINGS).is_some_and(|rest| rest.starts_with('/'))
            || Split::ALL.into_iter().any(|split| inner == table(split))
    }

    fn facts(&self, _: &Protocol) -> Facts {
        Facts { speakers: Some([77, 10, 10]), ..Facts::default() }
    }

    fn list(&self, root: &Path, protocol: &Protocol) -> Result<Listing, CorpusError> {
        let tables = Split::ALL.map(table);
        let place = LAYOUT.open(root, &tables)?;
        let mut listing = Listing::default();
        let mut recordings = Recordings::read(&place, RECORDINGS, 1, &["wav"], &[], &mut listing)?;
        for (split, table) in Split::ALL.into_iter().zip(tables) {
            if place.is_file(table) {
                list_split(&place, split, table, &mut recordings, &mut listing)?;
            } else {
                listing.missing(place.path(table), "the table of a split is not there");
            }
        }
        recordings.report_left("no row of the three tables names it", &mut listing);
        for (slot, classes) in SLOTS {
            listing.classes.insert(slot.to_owned(), classes.iter().map(|&class| class.to_owned()).collect());
        }
        place.finish(listing, protocol)
    }
}

fn table(split: Split) -> &'static str {
    match split {
        Split::Train => "data/train_data.csv",
        Split::Dev => "data/valid_data.csv",
        Split::Test => "data/test_data.csv",
    }
}

fn list_split(
    place: &Place,
    split: Split,
    table: &str,
    recordings: &mut Recordings,
    listing: &mut Listing,
) -> Result<(), CorpusError> {
    let rows = rows(&place.text(table)?, b',');
    let Some((first, rows)) = rows.split_first() else { return Err(place.malformed(table, "it is empty".to_owned())) };
    let header = Header::new(first);
    let columns = header
        .columns(["path", "speakerid", "transcription", "action", "object", "location"])
        .map_err(|name| place.malformed(table, format!("its first row has no column `{name}`")))?;
    for row in rows {
        match parse(row, header.len(), columns) {
            Err(reason) => listing.skip(format!("{}:{}", place.path(table), row.line), reason),
            Ok((key, mut utterance)) => match recordings.take(&key) {
                None => {
                    let path = place.path(&format!("{RECORDINGS}/{key}.wav"));
                    listing.missing(path, format!("row {} of `{table}` names it, but there is no such recording", row.line));
                }
                Some(path) => {
                    (utterance.path, utterance.split) = (path, split);
                    listing.utterances.push(utterance);
                }
            },
        }
    }
    Ok(())
}

/// The key of the recording and all that a row says of it. Errors: a reason to skip the row.
fn parse(row: &Row, len: usize, columns: [usize; 6]) -> Result<(String, Utterance), String> {
    if row.fields.len() != len {
        return Err(format!("{} fields, expected {len}", row.fields.len()));
    }
    let [path, speaker, transcript, action, object, location] = columns.map(|at| row.fields[at].trim());
    let path = clean(path)?;
    let key =
        path.strip_prefix(RECORDINGS).and_then(|rest| rest.strip_prefix('/')).and_then(|rest| Some(rest.rsplit_once('.')?.0));
    let Some(key) = key.filter(|key| key.matches('/').count() == 1) else {
        return Err(format!("path `{path}` is not `{RECORDINGS}/<speaker>/<uuid>.wav`"));
    };
    let slots = [action, object, location];
    if let Some(((slot, _), found)) = SLOTS.into_iter().zip(slots).find(|((_, values), found)| !values.contains(found)) {
        return Err(format!("{slot} `{found}` is not one of {slot}s of the corpus"));
    }
    let intent = format!("{action}|{object}|{location}");
    if !INTENTS.contains(&intent.as_str()) {
        return Err(format!("intent `{intent}` is not one of the 31"));
    }
    let slots = SLOTS.iter().zip(slots).map(|((name, _), value)| Slot { name: (*name).to_owned(), value: value.to_owned() });
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let utterance = Utterance {
        annotation: Annotation {
            label: Some(intent),
            speaker: some(speaker),
            transcript: some(transcript),
            slots: slots.collect(),
            ..Annotation::default()
        },
        ..Utterance::new(key, "", Split::Train)
    };
    Ok((key.to_owned(), utterance))
}

#[cfg(test)]
mod tests;
