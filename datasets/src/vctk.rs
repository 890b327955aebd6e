//! VCTK: English sentences read by speakers with many accents, 48 kHz.
//!
//! ```text
//! <root>/wav48_silence_trimmed/p225/p225_001_mic1.flac     version 0.92, and _mic2
//! <root>/wav48/p225/p225_001.wav                           version 0.80
//! <root>/txt/p225/p225_001.txt                             Please call Stella.
//! <root>/speaker-info.txt                                  p225  23  F    English    Southern  England
//! ```
//!
//! Versions read: 0.92 and 0.80. Licence: CC BY 4.0 (0.92), ODC-By 1.0 (0.80). Published sizes: SURE logs 35 024 train,
//! 4 318 validation and 4 318 test from 107 speakers, one microphone.
//! Source: Yamagishi, Veaux and `MacDonald` 2019, <https://doi.org/10.7488/ds/2645>; for the speakers, SURE's list.
//!
//! The 107 speakers are those of version 0.92 without p280 (it has no second microphone), p315 (it has no texts) and s5. The label is the
//! speaker. Of each speaker's n recordings the first n - 2 floor(n / 10) are train, then come dev and test, floor(n / 10) each.
//!
//! SURE splits in the order in which the file system lists files, which nobody can reproduce, and does not say which
//! microphone it took. Here the order is that of the names, so the sizes are SURE's and the members are not; the microphone is
//! the protocol's. A sentence recorded by both microphones is in no protocol twice. Some texts of p362 have no recording in any
//! copy. What of a speaker has no text is kept, with a flag.

use std::collections::BTreeMap;
use std::path::Path;

use crate::folder::{Kind, stem};
use crate::place::{Layout, MINIATURE, Place};
use crate::{Annotation, Cause, Corpus, CorpusError, Facts, Listing, Protocol, Split, Utterance};

const LAYOUT: Layout = Layout {
    corpus: "vctk",
    expected: "`wav48_silence_trimmed/<speaker>/<speaker>_<number>_mic1.flac` (0.92) or `wav48/<speaker>/<speaker>_<number>.wav` \
               (0.80), and `txt/<speaker>/<speaker>_<number>.txt`",
    outer: &["VCTK-Corpus-0.92/", "VCTK-Corpus/"],
};

const SPEAKERS: [&str; 107] = [
    "p225", "p226", "p227", "p228", "p229", "p230", "p231", "p232", "p233", "p234", "p236", "p237", "p238", "p239", "p240",
    "p241", "p243", "p244", "p245", "p246", "p247", "p248", "p249", "p250", "p251", "p252", "p253", "p254", "p255", "p256",
    "p257", "p258", "p259", "p260", "p261", "p262", "p263", "p264", "p265", "p266", "p267", "p268", "p269", "p270", "p271",
    "p272", "p273", "p274", "p275", "p276", "p277", "p278", "p279", "p281", "p282", "p283", "p284", "p285", "p286", "p287",
    "p288", "p292", "p293", "p294", "p295", "p297", "p298", "p299", "p300", "p301", "p302", "p303", "p304", "p305", "p306",
    "p307", "p308", "p310", "p311", "p312", "p313", "p314", "p316", "p317", "p318", "p323", "p326", "p329", "p330", "p333",
    "p334", "p335", "p336", "p339", "p340", "p341", "p343", "p345", "p347", "p351", "p360", "p361", "p362", "p363", "p364",
    "p374", "p376",
];
/// Speakers that no protocol has.
const LEFT_OUT: [&str; 3] = ["p280", "p315", "s5"];
/// Some texts of this speaker were never recorded.
const TEXTS_TO_SPARE: &str = "p362";
const SIZES: Option<[u64; 3]> = Some([35_024, 4_318, 4_318]);

static PROTOCOLS: &[Protocol] = &[
    Protocol {
        name: "vctk-0.92-mic1",
        about: "version 0.92, first microphone, 107 speakers, 80/10/10 of each in order of name",
        labels: &SPEAKERS,
        expected: SIZES,
    },
    Protocol {
        name: "vctk-0.92-mic2",
        about: "version 0.92, second microphone, 107 speakers, 80/10/10 of each in order of name",
        labels: &SPEAKERS,
        expected: SIZES,
    },
    Protocol {
        name: "vctk-0.80",
        about: "version 0.80 or a converted `wav48/`, 107 speakers, 80/10/10 of each in order of name",
        labels: &SPEAKERS,
        expected: None,
    },
];

/// The folder of recordings, and what the names of the microphone's recordings end in.
fn tree(protocol: &Protocol) -> (&'static str, Option<&'static str>) {
    match protocol.name {
        "vctk-0.92-mic1" => ("wav48_silence_trimmed", Some("_mic1")),
        "vctk-0.92-mic2" => ("wav48_silence_trimmed", Some("_mic2")),
        _ => ("wav48", None),
    }
}

/// The reader.
#[derive(Debug, Clone, Copy)]
pub struct Vctk;

impl Corpus for Vctk {
    fn name(&self) -> &'static str {
        LAYOUT.corpus
    }
    fn about(&self) -> &'static str {
        "CSTR VCTK Corpus 0.92 and 0.80, https://doi.org/10.7488/ds/2645"
    }
    fn licence(&self) -> &'static str {
        "CC BY 4.0 (0.92), ODC-By 1.0 (0.80)"
    }
    fn protocols(&self) -> &'static [Protocol] {
        PROTOCOLS
    }

    fn wants(&self, protocol: &Protocol, path: &str) -> bool {
        let (folder, microphone) = tree(protocol);
        let mut parts = LAYOUT.inner(path).splitn(3, '/');
        match (parts.next(), parts.next(), parts.next()) {
            (_, Some(speaker), Some(_)) if LEFT_OUT.contains(&speaker) => false,
            (Some(top), Some(_), Some(name)) if top == folder => microphone.is_none_or(|own| !is_other_microphone(name, own)),
            (Some(top), Some(_), None) if top == folder => true,
            (Some("txt"), Some(_), Some(_)) | (Some("speaker-info.txt"), None, None) => true,
            _ => path == MINIATURE,
        }
    }

    fn facts(&self, _: &Protocol) -> Facts {
        Facts { speakers: Some([107; 3]), shares_speakers: true, ..Facts::default() }
    }

    fn list(&self, root: &Path, protocol: &Protocol) -> Result<Listing, CorpusError> {
        let (folder, microphone) = tree(protocol);
        let place = LAYOUT.open(root, &[folder])?;
        let info =
            if place.is_file("speaker-info.txt") { speaker_info(&place.text("speaker-info.txt")?) } else { BTreeMap::new() };
        let mut listing = Listing::default();
        for entry in place.entries(folder)? {
            let speaker = entry.name.as_str();
            if entry.kind == Kind::Folder && SPEAKERS.contains(&speaker) {
                list_speaker(&place, folder, speaker, microphone, info.get(speaker), &mut listing)?;
            } else if !LEFT_OUT.contains(&speaker) {
                listing.skip(place.path(&format!("{folder}/{speaker}")), "not the folder of a speaker of VCTK");
            }
        }
        if !place.is_miniature {
            for speaker in SPEAKERS.into_iter().filter(|speaker| !place.is_dir(&format!("{folder}/{speaker}"))) {
                listing.missing(place.path(&format!("{folder}/{speaker}")), "no folder of this speaker");
            }
        }
        place.finish(listing, protocol)
    }
}

/// True if a recording is of another microphone than `own`.
fn is_other_microphone(name: &str, own: &str) -> bool {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    (stem.ends_with("_mic1") || stem.ends_with("_mic2")) && !stem.ends_with(own)
}

fn list_speaker(
    place: &Place,
    folder: &str,
    speaker: &str,
    microphone: Option<&str>,
    info: Option<&Info>,
    listing: &mut Listing,
) -> Result<(), CorpusError> {
    let texts_folder = format!("txt/{speaker}");
    let mut texts = BTreeMap::new();
    if place.is_dir(&texts_folder) {
        for entry in place.entries(&texts_folder)? {
            let inner = format!("{texts_folder}/{}", entry.name);
            match stem(&entry, &["txt"]) {
                Ok(stem) => drop(texts.insert(stem.to_owned(), inner)),
                Err(reason) => listing.skip(place.path(&inner), reason),
            }
        }
    }
    let mut found = Vec::new();
    for entry in place.entries(&format!("{folder}/{speaker}"))? {
        if microphone.is_some_and(|own| is_other_microphone(&entry.name, own)) {
            continue;
        }
        let path = place.path(&format!("{folder}/{speaker}/{}", entry.name));
        match stem(&entry, &["flac", "wav"]).and_then(|stem| Ok((stem, prompt(stem, speaker, microphone)?))) {
            Ok((stem, prompt)) => found.push((stem.to_owned(), prompt.to_owned(), path)),
            Err(reason) => listing.skip(path, reason),
        }
    }
    found.sort();
    found.dedup_by(|next, first| {
        let is_same = next.1 == first.1;
        if is_same {
            listing.skip(next.2.clone(), format!("the same sentence as `{}`", first.2));
        }
        is_same
    });

    let held_out = found.len() / 10;
    let num_train = found.len() - 2 * held_out;
    for (index, (id, prompt, path)) in found.into_iter().enumerate() {
        let split = match index {
            _ if index < num_train => Split::Train,
            _ if index < num_train + held_out => Split::Dev,
            _ => Split::Test,
        };
        let mut utterance = Utterance {
            annotation: Annotation {
                label: Some(speaker.to_owned()),
                speaker: Some(speaker.to_owned()),
                ..Annotation::default()
            },
            ..Utterance::new(id, path, split)
        };
        let text = texts.remove(&prompt).and_then(|inner| place.clip_text(&inner));
        // Should there be more lines, the first is the prompt.
        utterance.annotation.transcript = text.and_then(|text| text.lines().next().map(|line| line.trim().to_owned()));
        if utterance.annotation.transcript.is_none() {
            utterance.annotation.flags.push("no transcript".to_owned());
        }
        for (name, value) in info.into_iter().flatten() {
            utterance.tag(name, value);
        }
        listing.utterances.push(utterance);
    }
    let ending = microphone.map_or_else(|| ".wav".to_owned(), |own| format!("{own}.flac"));
    for prompt in texts.into_keys() {
        let path = place.path(&format!("{folder}/{speaker}/{prompt}{ending}"));
        if speaker == TEXTS_TO_SPARE {
            listing.skip_for(Cause::Known, path, "this speaker has more texts than recordings in every copy");
        } else {
            listing.missing(path, format!("`{texts_folder}` has its text, but there is no recording"));
        }
    }
    Ok(())
}

/// `p225_001` of `p225_001_mic1`.
fn prompt<'a>(stem: &'a str, speaker: &str, microphone: Option<&str>) -> Result<&'a str, String> {
    let prompt = match microphone {
        Some(own) => stem.strip_suffix(own).ok_or_else(|| format!("its name does not end in `{own}`"))?,
        None => stem.strip_suffix("_mic1").or_else(|| stem.strip_suffix("_mic2")).unwrap_or(stem),
    };
    match prompt.split_once('_') {
        Some((found, number)) if found == speaker && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(prompt)
        }
        _ => Err(format!("its name is not `{speaker}_<number>{}`", microphone.unwrap_or_default())),
    }
}

/// Names and values.
type Info = Vec<(&'static str, String)>;

/// Reads `speaker-info.txt`: columns of any width, a region of several words or none, and sometimes a
/// comment in parentheses. Version 0.80 leaves out the `p`.
fn speaker_info(text: &str) -> BTreeMap<String, Info> {
    let mut speakers = BTreeMap::new();
    for line in text.lines() {
        let line = line.split('(').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let (Some(id), Some(age), Some(gender), Some(accent)) = (words.next(), words.next(), words.next(), words.next()) else {
            continue;
        };
        let gender = match gender {
            "F" => "female",
            "M" => "male",
            _ => continue, // The first line has names of columns.
        };
        let id = if id.bytes().all(|digit| digit.is_ascii_digit()) { format!("p{id}") } else { id.to_owned() };
        let region = words.collect::<Vec<_>>().join(" ");
        let info =
            vec![("age", age.to_owned()), ("gender", gender.to_owned()), ("accent", accent.to_owned()), ("region", region)];
        speakers.insert(id, info);
    }
    speakers
}

#[cfg(test)]
mod tests;
