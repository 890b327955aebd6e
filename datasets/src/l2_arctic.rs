//! L2-ARCTIC: English sentences read by 24 speakers of six first languages, 44.1 kHz.
//!
//! ```text
//! <root>/ABA/wav/arctic_a0001.wav             <root>/suitcase_corpus/wav/aba.wav
//! <root>/ABA/transcript/arctic_a0001.txt      Author of the danger trail, Philip Steels, etc
//! <root>/ABA/annotation/arctic_a0001.TextGrid     by hand, 150 of each speaker
//! ```
//!
//! Version read: 5.0, each speaker's folder where the release puts it or once more inside itself, as unpacking the speakers'
//! own archives leaves it. Licence: CC BY-NC 4.0. Published sizes: 26 867 sentences, 3 599 of them annotated; 22 stories.
//! Source: Zhao et al. 2018, Interspeech, "L2-ARCTIC: a non-native English speech corpus".
//!
//! The corpus has no splits. `l2arctic`, the default, takes the split by speakers that is usual in work on pronunciation.
//! `l2arctic-sure` is the data of SURE's TTS: all speakers, 512 utterances held out as dev, no test; which ones the published
//! code draws depends on its random generator, here it is those whose ids come first by BLAKE3. `l2arctic-tts` is for voices: all speakers in all splits, other
//! sentences. `l2arctic-annotated` has words
//! and phones as annotated by hand, errors as `correct,said,kind`; of its two broken annotations the utterances are left out.

use std::path::Path;

use crate::folder::Kind;
use crate::place::{Layout, MINIATURE, Place, Recordings, hold_out, hold_out_sentences};
use crate::textgrid;
use crate::{Annotation, Cause, Corpus, CorpusError, Defect, Facts, Listing, Phone, Protocol, Split, Utterance, Word};

const LAYOUT: Layout = Layout {
    corpus: "l2_arctic",
    expected: "`<SPEAKER>/wav/arctic_<name>.wav` and `<SPEAKER>/transcript/arctic_<name>.txt`",
    outer: &["l2arctic_release_v5.0/", "l2arctic_release_v5/"],
};
const STORIES: &str = "suitcase_corpus";
const SURE: &str = "l2arctic-sure";
const ANNOTATED: &str = "l2arctic-annotated";
const SUITCASE: &str = "l2arctic-suitcase";
const TTS: &str = "l2arctic-tts";
const HELD_OUT: usize = 512;

/// Name, first language, gender, split of a speaker.
type Speaker = (&'static str, &'static str, &'static str, Split);

const SPEAKERS: [Speaker; 24] = {
    use Split::{Dev, Test, Train};
    [
        ("ABA", "Arabic", "male", Train),
        ("SKA", "Arabic", "female", Train),
        ("YBAA", "Arabic", "male", Dev),
        ("ZHAA", "Arabic", "female", Test),
        ("BWC", "Mandarin", "male", Train),
        ("LXC", "Mandarin", "female", Train),
        ("NCC", "Mandarin", "female", Dev),
        ("TXHC", "Mandarin", "male", Test),
        ("ASI", "Hindi", "male", Train),
        ("RRBI", "Hindi", "male", Train),
        ("SVBI", "Hindi", "female", Dev),
        ("TNI", "Hindi", "female", Test),
        ("HJK", "Korean", "female", Train),
        ("HKK", "Korean", "male", Train),
        ("YDCK", "Korean", "female", Dev),
        ("YKWK", "Korean", "male", Test),
        ("EBVS", "Spanish", "male", Train),
        ("ERMS", "Spanish", "male", Train),
        ("MBMPS", "Spanish", "female", Dev),
        ("NJS", "Spanish", "female", Test),
        ("HQTV", "Vietnamese", "male", Train),
        ("PNV", "Vietnamese", "female", Train),
        ("THV", "Vietnamese", "female", Dev),
        ("TLV", "Vietnamese", "male", Test),
    ]
};

static DEFECTS: [Defect; 2] = [
    Defect { id: "YDCK/arctic_a0209", problem: "its annotation is broken in the release", kept: false },
    Defect { id: "YDCK/arctic_a0272", problem: "its annotation is broken in the release", kept: false },
];

static PROTOCOLS: &[Protocol] = &[
    Protocol {
        name: "l2arctic",
        about: "sentences, split by speakers: 12 train, 6 dev, 6 test",
        labels: &[],
        expected: Some([13_290, 6_788, 6_789]),
    },
    Protocol {
        name: SURE,
        about: "all sentences with 512 held out as dev, no test, as SURE's TTS has it",
        labels: &[],
        expected: Some([26_355, HELD_OUT as u64, 0]),
    },
    Protocol {
        name: TTS,
        about: "all sentences with one of twenty held out as test and one as dev, whoever says it, for voices of its speakers",
        labels: &[],
        expected: None,
    },
    Protocol {
        name: ANNOTATED,
        about: "sentences with words and phones annotated by hand, split by speakers",
        labels: &[],
        expected: Some([1_800, 897, 900]),
    },
    Protocol { name: SUITCASE, about: "spontaneous stories, all of them test", labels: &[], expected: Some([0, 0, 22]) },
];

/// The reader.
#[derive(Debug, Clone, Copy)]
pub struct L2Arctic;

impl Corpus for L2Arctic {
    fn name(&self) -> &'static str {
        LAYOUT.corpus
    }
    fn about(&self) -> &'static str {
        "L2-ARCTIC 5.0, English of non-native speakers, https://psi.engr.tamu.edu/l2-arctic-corpus/"
    }
    fn licence(&self) -> &'static str {
        "CC BY-NC 4.0"
    }
    fn protocols(&self) -> &'static [Protocol] {
        PROTOCOLS
    }

    fn wants(&self, protocol: &Protocol, path: &str) -> bool {
        let (inner, is_suitcase) = (LAYOUT.inner(path), protocol.name == SUITCASE);
        let Some((top, rest)) = inner.split_once('/') else { return path == MINIATURE };
        let rest = rest.strip_prefix(top).and_then(|rest| rest.strip_prefix('/')).unwrap_or(rest);
        let is_speaker = SPEAKERS.iter().any(|(name, ..)| *name == top);
        let of_use = ["wav/", "transcript/"].iter().any(|folder| rest.starts_with(folder))
            || protocol.name == ANNOTATED && rest.starts_with("annotation/");
        of_use && if is_suitcase { top == STORIES } else { is_speaker }
    }

    fn facts(&self, protocol: &Protocol) -> Facts {
        match protocol.name {
            SURE | TTS => Facts { shares_speakers: true, repeats_names: true, ..Facts::default() },
            SUITCASE => Facts { hours: Some([0.0, 0.0, 0.435]), speakers: Some([0, 0, 22]), ..Facts::default() },
            name => {
                let defects: &[Defect] = if name == ANNOTATED { &DEFECTS } else { &[] };
                Facts { speakers: Some([12, 6, 6]), defects, repeats_names: true, ..Facts::default() }
            }
        }
    }

    fn list(&self, root: &Path, protocol: &Protocol) -> Result<Listing, CorpusError> {
        let mut listing = Listing::default();
        if protocol.name == SUITCASE {
            let place = LAYOUT.open(root, &[STORIES])?;
            list_folder(&place, STORIES, protocol, &mut listing, |stem| {
                let speaker = SPEAKERS.iter().find(|(name, ..)| name.eq_ignore_ascii_case(stem));
                let speaker = speaker.ok_or_else(|| format!("`{stem}` is not a speaker of L2-ARCTIC"))?;
                Ok((format!("{STORIES}/{stem}"), *speaker, Split::Test))
            })?;
            return place.finish(listing, protocol);
        }
        let place = LAYOUT.open(root, &SPEAKERS.map(|(name, ..)| name))?;
        for speaker in SPEAKERS {
            let (name, .., split) = speaker;
            let folder =
                [name.to_owned(), format!("{name}/{name}")].into_iter().find(|inner| place.is_dir(&format!("{inner}/wav")));
            if let Some(folder) = folder {
                list_folder(&place, &folder, protocol, &mut listing, |stem| match stem.strip_prefix("arctic_") {
                    Some(_) => Ok((format!("{name}/{stem}"), speaker, split)),
                    None => Err("its name is not `arctic_<name>.wav`".to_owned()),
                })?;
            } else if !place.is_miniature {
                listing.missing(place.path(&format!("{name}/wav")), "no recordings of this speaker");
            }
        }
        if protocol.name == SURE {
            hold_out(&mut listing, HELD_OUT);
        }
        if protocol.name == TTS {
            hold_out_sentences(&mut listing);
        }
        place.finish(listing, protocol)
    }
}

/// Lists the recordings of a folder with `wav`, `transcript` and perhaps `annotation`. `identify` makes of a recording's name
/// the id, the speaker and the split.
fn list_folder(
    place: &Place,
    folder: &str,
    protocol: &Protocol,
    listing: &mut Listing,
    identify: impl Fn(&str) -> Result<(String, Speaker, Split), String>,
) -> Result<(), CorpusError> {
    let recordings = Recordings::read(place, &format!("{folder}/wav"), 0, &["wav"], &[], listing)?;
    let names_in = |inner: &str, extension: &str| names(place, &format!("{folder}/{inner}"), extension);
    let mut texts = names_in("transcript", "txt")?;
    let mut grids = if protocol.name == ANNOTATED { names_in("annotation", "textgrid")? } else { Names::default() };
    for (stem, path) in recordings.all() {
        let (id, (speaker, language, gender, _), split) = match identify(stem) {
            Ok(found) => found,
            Err(reason) => {
                listing.skip(path, reason);
                continue;
            }
        };
        let mut utterance = Utterance {
            annotation: Annotation { speaker: Some(speaker.to_owned()), ..Annotation::default() },
            ..Utterance::new(id, path, split)
        };
        utterance.tag("first_language", language);
        utterance.tag("gender", gender);
        utterance.annotation.transcript = texts.remove(stem).and_then(|inner| place.clip_text(&inner));
        if utterance.annotation.transcript.is_none() {
            utterance.annotation.flags.push("no transcript".to_owned());
        }
        if protocol.name == ANNOTATED {
            let Some(grid) = grids.remove(stem) else {
                listing.leave("not annotated by hand", 1);
                continue;
            };
            if let Some(defect) = DEFECTS.iter().find(|defect| defect.id == utterance.id) {
                listing.skip_for(Cause::Known, path, defect.problem);
                continue;
            }
            let text = place.clip_text(&grid).unwrap_or_default();
            if let Err(problem) = annotate(&mut utterance, &text) {
                listing.skip(path, problem);
                continue;
            }
        }
        listing.utterances.push(utterance);
    }
    for (stem, inner) in texts.into_iter().chain(grids) {
        listing.missing(
            place.path(&format!("{folder}/wav/{stem}.wav")),
            format!("there is `{inner}`, but no recording of this name"),
        );
    }
    Ok(())
}

/// Name without extension -> path in the corpus.
type Names = std::collections::BTreeMap<String, String>;

/// The files of a folder with an extension. A folder that is not there has none.
fn names(place: &Place, inner: &str, extension: &str) -> Result<Names, CorpusError> {
    if !place.is_dir(inner) {
        return Ok(Names::new());
    }
    let files = place.entries(inner)?.into_iter().filter(|entry| entry.kind == Kind::File);
    let named = files.filter_map(|entry| {
        let stem = crate::folder::stem(&entry, &[extension]).ok()?;
        Some((stem.to_owned(), format!("{inner}/{}", entry.name)))
    });
    Ok(named.collect())
}

/// Takes words and phones from an annotation. Errors: why it cannot be read.
fn annotate(utterance: &mut Utterance, text: &str) -> Result<(), String> {
    let tiers = textgrid::parse(text).map_err(|problem| format!("the annotation cannot be read: {problem}"))?;
    let tier = |name: &str| {
        let found = tiers.iter().find(|tier| tier.name.eq_ignore_ascii_case(name));
        found.ok_or_else(|| format!("the annotation has no tier `{name}`"))
    };
    let (words, phones) = (tier("words")?, tier("phones")?);
    let words = words.intervals.iter().filter(|(_, text)| !text.trim().is_empty());
    utterance.annotation.words =
        words.map(|(times, text)| Word { text: text.trim().to_owned(), slot: None, times: Some(*times) }).collect();
    let phones = phones.intervals.iter().filter(|(_, symbol)| !symbol.trim().is_empty());
    utterance.annotation.phones =
        phones.map(|(times, symbol)| Phone { symbol: symbol.trim().to_owned(), times: *times }).collect();
    Ok(())
}

#[cfg(test)]
mod tests;
