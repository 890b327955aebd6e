//! LibriTTS: audio books cut into sentences, with case and punctuation, 24 kHz.
//!
//! ```text
//! <root>/train-clean-100/103/1241/103_1241_000000_000001.wav
//! <root>/train-clean-100/103/1241/103_1241.trans.tsv        103_1241_000000_000001<TAB>matthew Cuthbert is surprised<TAB>matthew Cuthbert is surprised
//! <root>/train-clean-100/103/1241/103_1241_000000_000001.normalized.txt     and .original.txt: the same texts, a file each
//! ```
//!
//! Version read: OpenSLR 60, and LibriTTS-R (OpenSLR 141), which lies in the same way. Licence: CC BY 4.0.
//! Published sizes: train-clean-100 33 236, train-clean-360 116 500, train-other-500 205 044, dev-clean 5 736, dev-other
//! 4 613, test-clean 4 837, test-other 5 120.
//! Source: Zen et al. 2019, arXiv:1904.02882.
//!
//! The transcript is the original text, the normalised one the corpus's own. An id that the table lacks is looked for in its
//! own two files.
//!
//! `libritts-sure` is the data of SURE's TTS: train-clean-100 alone, 512 utterances held out as dev, no test. Which 512 the
//! published code draws depends on its random generator; here it is those whose ids come first by BLAKE3. A test set of
//! speakers of its own is the sound choice for recognition and the default. `libritts-tts` is for voices: the same speakers in all
//! splits, other sentences.

use std::collections::BTreeMap;
use std::path::Path;

use crate::librispeech::{Subset, genders, is_in, list_chapters};
use crate::place::{Layout, MINIATURE, Place, hold_out, hold_out_sentences};
use crate::text::lines;
use crate::{Corpus, CorpusError, Defect, Facts, Listing, Protocol, Split};

const LAYOUT: Layout = Layout {
    corpus: "libritts",
    expected: "`<subset>/<speaker>/<chapter>/<speaker>_<chapter>_<paragraph>_<sentence>.wav` and `<speaker>_<chapter>.trans.tsv`",
    outer: &["LibriTTS/", "LibriTTS_R/"],
};
const SPEAKERS: &str = "SPEAKERS.txt";
const SURE: &str = "libritts-sure";
const TTS: &str = "libritts-tts";
const HELD_OUT: usize = 512;

static PROTOCOLS: &[Protocol] = &[
    Protocol {
        name: "libritts-100",
        about: "train-clean-100, dev-clean, test-clean",
        labels: &[],
        expected: Some([33_236, 5_736, 4_837]),
    },
    Protocol {
        name: SURE,
        about: "train-clean-100 with 512 utterances held out as dev, no test, as SURE's TTS has it",
        labels: &[],
        expected: Some([32_724, 512, 0]),
    },
    Protocol {
        name: TTS,
        about: "train-clean-100 with one of twenty sentences held out as test and one as dev, for voices of its speakers",
        labels: &[],
        expected: None,
    },
    Protocol {
        name: "libritts-all",
        about: "all three train subsets, dev-clean, test-clean",
        labels: &[],
        expected: Some([354_780, 5_736, 4_837]),
    },
    Protocol {
        name: "libritts-all-other",
        about: "all three train subsets, dev-other, test-other",
        labels: &[],
        expected: Some([354_780, 4_613, 5_120]),
    },
];

fn subsets(protocol: &Protocol) -> &'static [Subset] {
    use Split::{Dev, Test, Train};
    match protocol.name {
        SURE | TTS => &[("train-clean-100", Train)],
        "libritts-all" => &[
            ("train-clean-100", Train),
            ("train-clean-360", Train),
            ("train-other-500", Train),
            ("dev-clean", Dev),
            ("test-clean", Test),
        ],
        "libritts-all-other" => &[
            ("train-clean-100", Train),
            ("train-clean-360", Train),
            ("train-other-500", Train),
            ("dev-other", Dev),
            ("test-other", Test),
        ],
        _ => &[("train-clean-100", Train), ("dev-clean", Dev), ("test-clean", Test)],
    }
}

static DEFECTS: [Defect; 1] =
    [Defect { id: "1092_134562_000013_000004", problem: "reported as corrupt in LibriTTS-R", kept: true }];

/// The reader.
#[derive(Debug, Clone, Copy)]
pub struct LibriTts;

impl Corpus for LibriTts {
    fn name(&self) -> &'static str {
        LAYOUT.corpus
    }
    fn about(&self) -> &'static str {
        "LibriTTS and LibriTTS-R, audio books for synthesis, https://www.openslr.org/60"
    }
    fn licence(&self) -> &'static str {
        "CC BY 4.0"
    }
    fn protocols(&self) -> &'static [Protocol] {
        PROTOCOLS
    }

    fn wants(&self, protocol: &Protocol, path: &str) -> bool {
        let inner = LAYOUT.inner(path);
        path == MINIATURE || inner == SPEAKERS || is_in(subsets(protocol), inner) && !inner.ends_with(".book.tsv")
    }

    fn facts(&self, protocol: &Protocol) -> Facts {
        let common = Facts { defects: &DEFECTS, ..Facts::default() };
        match protocol.name {
            SURE | TTS => Facts { shares_speakers: true, ..common },
            "libritts-all-other" => Facts { hours: Some([555.15, 6.43, 6.69]), speakers: Some([2_311, 33, 33]), ..common },
            "libritts-all" => Facts { hours: Some([555.15, 8.97, 8.56]), speakers: Some([2_311, 40, 39]), ..common },
            _ => Facts { hours: Some([53.78, 8.97, 8.56]), speakers: Some([247, 40, 39]), ..common },
        }
    }

    fn list(&self, root: &Path, protocol: &Protocol) -> Result<Listing, CorpusError> {
        let subsets = subsets(protocol);
        let place = LAYOUT.open(root, &subsets.iter().map(|(name, _)| *name).collect::<Vec<_>>())?;
        let genders = genders(&place, SPEAKERS)?;
        let mut listing = Listing::default();
        for &subset in subsets {
            list_chapters(&place, subset, &mut listing, |place, chapter, listing| {
                let table = format!("{}/{}.trans.tsv", chapter.folder, chapter.stem('_'));
                let mut texts = texts(place, &table, listing)?;
                let known = [".trans.tsv", ".book.tsv", ".original.txt", ".normalized.txt"];
                let recordings = chapter.recordings(place, &["wav", "flac"], &known, listing)?;
                for (id, path) in recordings.all() {
                    let own = || own_texts(place, &format!("{}/{id}", chapter.folder));
                    let (original, normalised) = texts.remove(id).unwrap_or_else(own);
                    let mut utterance = chapter.utterance(id, path.to_owned(), original, &genders);
                    utterance.annotation.normalised = normalised;
                    let problems = DEFECTS.iter().filter(|defect| defect.id == id).map(|defect| defect.problem.to_owned());
                    utterance.annotation.flags.extend(problems);
                    listing.utterances.push(utterance);
                }
                for id in texts.keys() {
                    let path = place.path(&format!("{}/{id}.wav", chapter.folder));
                    listing.missing(path, "the table of its chapter names it, but there is no such recording");
                }
                Ok(())
            })?;
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

/// Original and normalised.
type Texts = (Option<String>, Option<String>);

/// The texts of a chapter by id. Without the table there are none.
fn texts(place: &Place, table: &str, listing: &mut Listing) -> Result<BTreeMap<String, Texts>, CorpusError> {
    let mut found = BTreeMap::new();
    if !place.is_file(table) {
        return Ok(found);
    }
    for (line, content) in lines(&place.text(table)?) {
        match parse(content) {
            None => listing.skip(format!("{}:{line}", place.path(table)), "not an id and two texts, parted by tabs"),
            Some((id, _)) if found.contains_key(id) => {
                listing.skip(format!("{}:{line}", place.path(table)), format!("a second line of `{id}`"));
            }
            Some((id, texts)) => drop(found.insert(id.to_owned(), texts)),
        }
    }
    Ok(found)
}

fn parse(line: &str) -> Option<(&str, Texts)> {
    let mut fields = line.split('\t').map(str::trim);
    let (id, original, normalised) = (fields.next()?, fields.next()?, fields.next()?);
    let is_id = id.split('_').count() == 4 && id.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    is_id.then(|| (id, (some(original), some(normalised))))
}

/// The texts in the two files of an utterance.
fn own_texts(place: &Place, inner: &str) -> Texts {
    let read = |ending: &str| place.clip_text(&format!("{inner}.{ending}.txt"));
    (read("original"), read("normalized"))
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
