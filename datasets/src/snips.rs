//! Audio SNIPS: sentences to a voice assistant with intent and slots, read by sixteen synthetic voices, 16 kHz.
//!
//! ```text
//! <root>/all.iob.snips.txt     Ivy-snips-train-0 BOS ADD ANOTHER SONG EOS<TAB>O O O music_item AddToPlaylist
//! <root>/slots.txt             O, then 39 slots, one a line
//! <root>/train/Ivy-snips-train-0.wav      also valid/ and test/
//! ```
//!
//! Version read: the copy prepared for SUPERB (`snips.zip`). Its official form, MP3 with texts in another repository, is not
//! read: making the transcripts of the prepared copy from it takes rules that nobody wrote down. Licence: MIT (prepared copy).
//! Published sizes: 13 084, 700 and 700 sentences; in SUPERB's voices 104 672 / 2 800 / 2 800, in all 209 344 / 11 200 / 11 200.
//! Source: Coucke et al. 2018, arXiv:1805.10190; Lai et al. 2021, arXiv:2010.13105; for the preparation, S3PRL.
//!
//! `snips-superb`, the default, has eight voices to train on, four others for dev and four others for test. `snips-all` is what
//! SURE does: all sixteen voices in all three splits, so that every voice of the test set has been heard in training. Figures
//! of the two do not compare.
//!
//! The label is the intent. Words and slots are as distributed: a slot has no `B-` or `I-`, so that neighbouring words of one
//! slot are one value. Words that are only punctuation, and `&`, are left to the task.

use std::collections::BTreeSet;
use std::path::Path;

use crate::place::{Layout, MINIATURE, Recordings};
use crate::text::lines;
use crate::{Annotation, Corpus, CorpusError, Facts, Listing, Protocol, Slot, Split, Utterance, Word};

const LAYOUT: Layout = Layout {
    corpus: "audio_snips",
    expected: "`all.iob.snips.txt`, `slots.txt` and `<train, valid, test>/<Voice>-snips-<split>-<number>.wav`",
    outer: &["SNIPS/"],
};
const SENTENCES: &str = "all.iob.snips.txt";
const SLOTS: &str = "slots.txt";

const INTENTS: [&str; 7] =
    ["AddToPlaylist", "BookRestaurant", "GetWeather", "PlayMusic", "RateBook", "SearchCreativeWork", "SearchScreeningEvent"];
/// SUPERB's voices of train, dev and test.
const VOICES: [&[&str]; 3] = [
    &["Ivy", "Joanna", "Joey", "Justin", "Kendra", "Kimberly", "Matthew", "Salli"],
    &["Aditi", "Amy", "Geraint", "Nicole"],
    &["Brian", "Emma", "Raveena", "Russell"],
];
const ALL: &str = "snips-all";

static PROTOCOLS: &[Protocol] = &[
    Protocol {
        name: "snips-superb",
        about: "the voices of SUPERB: eight to train on, four others for dev, four others for test",
        labels: &INTENTS,
        expected: Some([104_672, 2_800, 2_800]),
    },
    Protocol {
        name: ALL,
        about: "all sixteen voices in all splits, as SURE has it: test voices are heard in training",
        labels: &INTENTS,
        expected: Some([209_344, 11_200, 11_200]),
    },
];

/// The reader.
#[derive(Debug, Clone, Copy)]
pub struct AudioSnips;

impl Corpus for AudioSnips {
    fn name(&self) -> &'static str {
        LAYOUT.corpus
    }
    fn about(&self) -> &'static str {
        "Audio SNIPS as prepared for SUPERB, intents and slots, https://arxiv.org/abs/2010.13105"
    }
    fn licence(&self) -> &'static str {
        "MIT (prepared copy)"
    }
    fn protocols(&self) -> &'static [Protocol] {
        PROTOCOLS
    }

    /// Recordings of voices that the protocol does not use in a split are not wanted; names that are of no voice are.
    fn wants(&self, protocol: &Protocol, path: &str) -> bool {
        let inner = LAYOUT.inner(path);
        match inner.split_once('/') {
            None => [SENTENCES, SLOTS].contains(&inner) || path == MINIATURE,
            Some((folder, name)) => split_of(folder).is_some_and(|split| is_of_use(protocol, split, name)),
        }
    }

    fn facts(&self, protocol: &Protocol) -> Facts {
        let is_all = protocol.name == ALL;
        let speakers = if is_all { [16; 3] } else { VOICES.map(|voices| voices.len() as u64) };
        Facts { speakers: Some(speakers), shares_speakers: is_all, ..Facts::default() }
    }

    fn list(&self, root: &Path, protocol: &Protocol) -> Result<Listing, CorpusError> {
        let place = LAYOUT.open(root, &[SENTENCES])?;
        if !place.is_file(SLOTS) {
            return Err(place.missing(SLOTS));
        }
        let mut listing = Listing::default();
        let slots = slots(&place.text(SLOTS)?);
        let mut recordings = Vec::new();
        for split in Split::ALL {
            recordings.push(Recordings::read(&place, folder(split), 0, &["wav"], &[], &mut listing)?);
        }
        for (line, content) in lines(&place.text(SENTENCES)?) {
            let (split, mut utterance) = match parse(content) {
                Ok(parsed) => parsed,
                Err(reason) => {
                    listing.skip(format!("{}:{line}", place.path(SENTENCES)), reason);
                    continue;
                }
            };
            if !is_of_use(protocol, split, &utterance.id) {
                listing.leave("read by a voice that the protocol does not use in this split", 1);
                continue;
            }
            let Some(path) = recordings[split as usize].take(&utterance.id) else {
                let path = place.path(&format!("{}/{}.wav", folder(split), utterance.id));
                listing.missing(path, format!("line {line} of `{SENTENCES}` names it, but there is no such recording"));
                continue;
            };
            let known = |slot: &Slot| slots.contains(&slot.name);
            for slot in utterance.annotation.slots.iter().filter(|slot| !known(slot)) {
                utterance.annotation.flags.push(format!("slot `{}` is not in `{SLOTS}`", slot.name));
            }
            utterance.path = path;
            listing.utterances.push(utterance);
        }
        for (split, recordings) in Split::ALL.into_iter().zip(recordings) {
            for (key, path) in recordings.left().filter(|(key, _)| is_of_use(protocol, split, key)) {
                listing.extra(path, format!("no line of `{SENTENCES}` is about `{key}`"));
            }
        }
        listing.classes.insert("slot".to_owned(), slots);
        place.finish(listing, protocol)
    }
}

fn folder(split: Split) -> &'static str {
    match split {
        Split::Train => "train",
        Split::Dev => "valid",
        Split::Test => "test",
    }
}

fn split_of(name: &str) -> Option<Split> {
    Split::ALL.into_iter().find(|split| folder(*split) == name)
}

/// True if a protocol uses the voice of a recording in a split. The reader reports a name that belongs to no voice.
fn is_of_use(protocol: &Protocol, split: Split, name: &str) -> bool {
    let voice = name.split('-').next().unwrap_or_default();
    protocol.name == ALL || VOICES[split as usize].contains(&voice) || !VOICES.iter().any(|voices| voices.contains(&voice))
}

/// The slots in the order of the file, without the first, which stands for none.
fn slots(text: &str) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let names = lines(text).map(|(_, line)| line.trim()).filter(|name| *name != "O");
    names.filter(|name| seen.insert(*name)).map(str::to_owned).collect()
}

/// The split and the utterance (without a path) of a line. Errors: a reason to skip it.
fn parse(line: &str) -> Result<(Split, Utterance), String> {
    let Some((words, slots)) = line.split_once('\t') else { return Err("no tab between words and slots".to_owned()) };
    let mut words = words.split_whitespace();
    let id = words.next().unwrap_or_default();
    let parts: Vec<&str> = id.split('-').collect();
    let [voice, "snips", split, number] = parts[..] else {
        return Err(format!("`{id}` is not `<Voice>-snips-<split>-<number>`"));
    };
    let split = split_of(split).ok_or_else(|| format!("split `{split}` of `{id}` is not train, valid or test"))?;
    if voice.is_empty() || number.is_empty() || id.contains('/') {
        return Err(format!("`{id}` is not `<Voice>-snips-<split>-<number>`"));
    }
    let (words, slots): (Vec<&str>, Vec<&str>) = (words.collect(), slots.split_whitespace().collect());
    let (["BOS", words @ .., "EOS"], ["O", slots @ .., intent]) = (&words[..], &slots[..]) else {
        return Err("words do not stand between BOS and EOS, or slots not between O and an intent".to_owned());
    };
    if words.len() != slots.len() {
        return Err(format!("{} words and {} slots", words.len(), slots.len()));
    }
    if !INTENTS.contains(intent) {
        return Err(format!("intent `{intent}` is not one of the seven"));
    }
    let mut utterance = Utterance {
        annotation: Annotation {
            label: Some((*intent).to_owned()),
            speaker: Some(voice.to_owned()),
            transcript: Some(words.join(" ")),
            words: Vec::with_capacity(words.len()),
            ..Annotation::default()
        },
        ..Utterance::new(id, "", split)
    };
    let mut last = "O";
    for (&text, &slot) in words.iter().zip(slots) {
        let name = Some(slot.to_owned()).filter(|slot| slot != "O");
        match (&name, utterance.annotation.slots.last_mut()) {
            (Some(_), Some(run)) if slot == last => run.value = format!("{} {text}", run.value),
            (Some(name), _) => utterance.annotation.slots.push(Slot { name: name.clone(), value: text.to_owned() }),
            (None, _) => {}
        }
        utterance.annotation.words.push(Word { text: text.to_owned(), slot: name, times: None });
        last = slot;
    }
    Ok((split, utterance))
}

#[cfg(test)]
mod tests;
