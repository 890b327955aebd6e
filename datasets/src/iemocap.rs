//! IEMOCAP: ten actors in five sessions of two, acted and improvised, 16 kHz.
//!
//! ```text
//! <root>/Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav
//! <root>/Session1/dialog/EmoEvaluation/Ses01F_impro01.txt      [6.2901 - 8.2357]<TAB>Ses01F_impro01_F000<TAB>neu<TAB>[2.5000, 2.5000, 2.5000]
//! <root>/Session1/dialog/transcriptions/Ses01F_impro01.txt     Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.
//! ```
//!
//! Version read: `IEMOCAP_full_release`. Licence: a form of USC. Published sizes: 5 531 turns of four classes, by session
//! 1 085, 1 023, 1 151, 1 031 and 1 241.
//! Source: Busso et al. 2008, Language Resources and Evaluation 42; for the four classes, SUPERB.
//!
//! `iemocap-4`, the default: neutral, happy with excited merged in, angry, sad; sessions 1 to 3 train, 4 dev, 5 test.
//! `iemocap-sure`: all eleven labels, `xxx` (annotators disagree) among them, same sessions, as SURE's code has it. SUPERB's
//! five folds are `iemocap-4-fold1` to `-fold5`: the session named is test, of the others a fifth of the turns is dev, drawn
//! by BLAKE3 of their ids (SUPERB draws by a random generator), so dev speakers are heard in training.

mod turns;

use std::collections::BTreeMap;
use std::path::Path;

use crate::place::{Layout, MINIATURE, Place, Recordings, split_of};
use crate::{Annotation, Corpus, CorpusError, Facts, Listing, Protocol, Split, Utterance};
use turns::{Turn, parse_transcript, parse_turn};

const LAYOUT: Layout = Layout {
    corpus: "iemocap",
    expected: "`Session<1 to 5>/sentences/wav/<dialog>/<turn>.wav` and `Session<1 to 5>/dialog/EmoEvaluation/<dialog>.txt`",
    outer: &["IEMOCAP_full_release/"],
};
const SESSIONS: [&str; 5] = ["Session1", "Session2", "Session3", "Session4", "Session5"];
const FOUR: [&str; 4] = ["neu", "hap", "ang", "sad"];
/// The order of SURE.
const ELEVEN: [&str; 11] = ["sad", "xxx", "ang", "fru", "fea", "exc", "hap", "sur", "oth", "neu", "dis"];

static PROTOCOLS: &[Protocol] = &[
    Protocol {
        name: "iemocap-4",
        about: "neutral, happy or excited, angry, sad; sessions 1 to 3, 4 and 5",
        labels: &FOUR,
        expected: Some([3_259, 1_031, 1_241]),
    },
    Protocol {
        name: "iemocap-sure",
        about: "all eleven labels; sessions 1 to 3, 4 and 5, as SURE has it",
        labels: &ELEVEN,
        expected: None,
    },
    Protocol { name: "iemocap-4-fold1", about: "four classes, session 1 is test", labels: &FOUR, expected: None },
    Protocol { name: "iemocap-4-fold2", about: "four classes, session 2 is test", labels: &FOUR, expected: None },
    Protocol { name: "iemocap-4-fold3", about: "four classes, session 3 is test", labels: &FOUR, expected: None },
    Protocol { name: "iemocap-4-fold4", about: "four classes, session 4 is test", labels: &FOUR, expected: None },
    Protocol { name: "iemocap-4-fold5", about: "four classes, session 5 is test", labels: &FOUR, expected: None },
];

/// The reader.
#[derive(Debug, Clone, Copy)]
pub struct Iemocap;

impl Corpus for Iemocap {
    fn name(&self) -> &'static str {
        LAYOUT.corpus
    }
    fn about(&self) -> &'static str {
        "IEMOCAP, acted emotions of ten actors, https://sail.usc.edu/iemocap/"
    }
    fn licence(&self) -> &'static str {
        "licence form of USC"
    }
    fn protocols(&self) -> &'static [Protocol] {
        PROTOCOLS
    }

    /// Folders inside `EmoEvaluation` hold what single annotators said and are not read.
    fn wants(&self, _: &Protocol, path: &str) -> bool {
        let Some((session, rest)) = LAYOUT.inner(path).split_once('/') else { return path == MINIATURE };
        let is_file_in = |folder: &str| rest.strip_prefix(folder).is_some_and(|name| !name.contains('/'));
        SESSIONS.contains(&session)
            && (rest.starts_with("sentences/wav/") || is_file_in("dialog/EmoEvaluation/") || is_file_in("dialog/transcriptions/"))
    }

    fn facts(&self, protocol: &Protocol) -> Facts {
        const CLASSES: [(&str, [u64; 3]); 4] =
            [("neu", [1_066, 258, 384]), ("hap", [891, 303, 442]), ("ang", [606, 327, 170]), ("sad", [696, 143, 245])];
        match (protocol.name, fold(protocol)) {
            ("iemocap-4", _) => Facts { classes: &CLASSES, speakers: Some([6, 2, 2]), ..Facts::default() },
            (_, Some(session)) => {
                let test = [1_085, 1_023, 1_151, 1_031, 1_241].get(session as usize - 1).copied();
                Facts { utterances: [None, None, test], speakers: Some([8, 8, 2]), shares_speakers: true, ..Facts::default() }
            }
            _ => Facts { speakers: Some([6, 2, 2]), ..Facts::default() },
        }
    }

    fn list(&self, root: &Path, protocol: &Protocol) -> Result<Listing, CorpusError> {
        let place = LAYOUT.open(root, &SESSIONS)?;
        let mut listing = Listing::default();
        for (session, number) in SESSIONS.into_iter().zip(1..) {
            if place.is_dir(session) {
                list_session(&place, session, number, protocol, &mut listing)?;
            } else {
                listing.missing(place.path(session), "a session is not there");
            }
        }
        place.finish(listing, protocol)
    }
}

/// The session that is test, in a protocol of folds.
fn fold(protocol: &Protocol) -> Option<u32> {
    protocol.name.strip_prefix("iemocap-4-fold")?.parse().ok()
}

fn split_for(protocol: &Protocol, session: u32, id: &str) -> Split {
    match (fold(protocol), session) {
        (Some(test), session) if test == session => Split::Test,
        (Some(_), _) => split_of(id, 20, 0),
        (None, 1..=3) => Split::Train,
        (None, 4) => Split::Dev,
        (None, _) => Split::Test,
    }
}

fn list_session(
    place: &Place,
    session: &str,
    number: u32,
    protocol: &Protocol,
    listing: &mut Listing,
) -> Result<(), CorpusError> {
    let recordings_folder = format!("{session}/sentences/wav");
    let mut recordings = Recordings::read(place, &recordings_folder, 1, &["wav"], &[], listing)?;
    let transcripts = transcripts(place, &format!("{session}/dialog/transcriptions"))?;
    let labels_folder = format!("{session}/dialog/EmoEvaluation");
    if !place.is_dir(&labels_folder) {
        listing.missing(place.path(&labels_folder), "the labels of a session are not there");
        return Ok(());
    }
    for entry in place.entries(&labels_folder)? {
        let Ok(dialog) = crate::folder::stem(&entry, &["txt"]) else { continue };
        let inner = format!("{labels_folder}/{}", entry.name);
        for (line, content) in crate::text::lines(&place.text(&inner)?) {
            let turn = match parse_turn(content) {
                None => continue,
                Some(Ok(turn)) => turn,
                Some(Err(reason)) => {
                    listing.skip(format!("{}:{line}", place.path(&inner)), reason);
                    continue;
                }
            };
            let Some(path) = recordings.take(&format!("{dialog}/{}", turn.id)) else {
                let path = place.path(&format!("{recordings_folder}/{dialog}/{}.wav", turn.id));
                listing.missing(path, format!("line {line} of `{dialog}.txt` names it, but there is no such recording"));
                continue;
            };
            // Excited is merged into happy where there is no class of its own.
            let emotion = if turn.emotion == "exc" && !protocol.labels.contains(&"exc") { "hap" } else { turn.emotion };
            let Some(label) = protocol.labels.iter().find(|label| **label == emotion) else {
                if ELEVEN.contains(&emotion) {
                    listing.leave(format!("emotion `{emotion}` is not one of four"), 1);
                } else {
                    listing.skip(path, format!("emotion `{emotion}` is not one of the corpus"));
                }
                continue;
            };
            let mut utterance = utterance(&turn, path, split_for(protocol, number, turn.id), number);
            utterance.annotation.label = Some((*label).to_owned());
            utterance.annotation.transcript = transcripts.get(turn.id).cloned();
            if utterance.annotation.transcript.is_none() {
                utterance.annotation.flags.push("no transcript".to_owned());
            }
            listing.utterances.push(utterance);
        }
    }
    recordings.report_left("no line of the labels names it", listing);
    Ok(())
}

fn utterance(turn: &Turn, path: String, split: Split, session: u32) -> Utterance {
    let mut utterance = Utterance {
        duration_ms: turn.duration_ms,
        annotation: Annotation { speaker: Some(format!("Ses{session:02}{}", turn.actor)), ..Annotation::default() },
        ..Utterance::new(turn.id, path, split)
    };
    utterance.tag("gender", if turn.actor == 'F' { "female" } else { "male" });
    for (name, value) in ["valence", "activation", "dominance"].into_iter().zip(turn.ratings) {
        utterance.tag(name, value);
    }
    utterance
}

/// Turn -> what is said, of all dialogs of a session. Without the folder there are none.
fn transcripts(place: &Place, folder: &str) -> Result<BTreeMap<String, String>, CorpusError> {
    let mut found = BTreeMap::new();
    if !place.is_dir(folder) {
        return Ok(found);
    }
    for entry in place.entries(folder)? {
        if crate::folder::stem(&entry, &["txt"]).is_ok() {
            let text = place.text(&format!("{folder}/{}", entry.name))?;
            let lines = text.lines().filter_map(parse_transcript);
            found.extend(lines.map(|(id, text)| (id.to_owned(), text.to_owned())));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
