//! LibriSpeech: audio books, 16 kHz.
//!
//! ```text
//! <root>/train-clean-100/103/1240/103-1240-0000.flac
//! <root>/train-clean-100/103/1240/103-1240.trans.txt     103-1240-0000 CHAPTER ONE MISSUS RACHEL LYNDE IS SURPRISED
//! <root>/SPEAKERS.TXT                                    103  | F | train-clean-100  | 30.12 | Karen Savage
//! ```
//!
//! Version read: OpenSLR 12, and Mini LibriSpeech (OpenSLR 31), which lies in the same way. Licence: CC BY 4.0.
//! Published sizes: train-clean-100 28 539, train-clean-360 104 014, train-other-500 148 688; dev-clean 2 703, dev-other 2 864;
//! test-clean 2 620, test-other 2 939.
//! Source: Panayotov et al. 2015, ICASSP, "Librispeech: an ASR corpus based on public domain audio books".
//!
//! `librispeech-100-20s` leaves out recordings of 20 s and more, from test too, by the length in their headers: that is what
//! SURE's runs of fine-tuning, LoRA and prefix tuning on 28 538 / 2 642 / 2 528 utterances did. All recordings are the sound
//! choice and the default.

mod chapters;

use std::path::Path;

use crate::place::{Layout, MINIATURE};
use crate::{Corpus, CorpusError, Facts, Length, Listing, Protocol, Split};
pub(crate) use chapters::{Subset, genders, is_in, list_chapters};

const LAYOUT: Layout = Layout {
    corpus: "librispeech",
    expected: "`<subset>/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac` and `<speaker>-<chapter>.trans.txt`",
    outer: &["LibriSpeech/"],
};
const SPEAKERS: &str = "SPEAKERS.TXT";
const SHORT: &str = "librispeech-100-20s";
const SHORT_SECS: f64 = 20.0;

static PROTOCOLS: &[Protocol] = &[
    Protocol {
        name: "librispeech-100",
        about: "train-clean-100, dev-clean, test-clean",
        labels: &[],
        expected: Some([28_539, 2_703, 2_620]),
    },
    Protocol {
        name: SHORT,
        about: "as librispeech-100, recordings shorter than 20 s, in test too, as most of SURE's runs have it",
        labels: &[],
        expected: Some([28_538, 2_642, 2_528]),
    },
    Protocol {
        name: "librispeech-960",
        about: "all three train subsets, dev-clean, test-clean",
        labels: &[],
        expected: Some([281_241, 2_703, 2_620]),
    },
    Protocol {
        name: "librispeech-960-other",
        about: "all three train subsets, dev-other, test-other",
        labels: &[],
        expected: Some([281_241, 2_864, 2_939]),
    },
    Protocol {
        name: "librispeech-mini",
        about: "train-clean-5 and dev-clean-2 of Mini LibriSpeech, no test",
        labels: &[],
        expected: None,
    },
];

/// The subsets of a protocol.
fn subsets(protocol: &Protocol) -> &'static [Subset] {
    use Split::{Dev, Test, Train};
    match protocol.name {
        "librispeech-960" => &[
            ("train-clean-100", Train),
            ("train-clean-360", Train),
            ("train-other-500", Train),
            ("dev-clean", Dev),
            ("test-clean", Test),
        ],
        "librispeech-960-other" => &[
            ("train-clean-100", Train),
            ("train-clean-360", Train),
            ("train-other-500", Train),
            ("dev-other", Dev),
            ("test-other", Test),
        ],
        "librispeech-mini" => &[("train-clean-5", Train), ("dev-clean-2", Dev)],
        _ => &[("train-clean-100", Train), ("dev-clean", Dev), ("test-clean", Test)],
    }
}

/// The reader.
#[derive(Debug, Clone, Copy)]
pub struct LibriSpeech;

impl Corpus for LibriSpeech {
    fn name(&self) -> &'static str {
        LAYOUT.corpus
    }
    fn about(&self) -> &'static str {
        "LibriSpeech, audio books, https://www.openslr.org/12"
    }
    fn licence(&self) -> &'static str {
        "CC BY 4.0"
    }
    fn protocols(&self) -> &'static [Protocol] {
        PROTOCOLS
    }

    fn wants(&self, protocol: &Protocol, path: &str) -> bool {
        let inner = LAYOUT.inner(path);
        path == MINIATURE || inner == SPEAKERS || is_in(subsets(protocol), inner)
    }

    fn facts(&self, protocol: &Protocol) -> Facts {
        match protocol.name {
            "librispeech-100" => Facts { hours: Some([100.6, 5.4, 5.4]), speakers: Some([251, 40, 40]), ..Facts::default() },
            SHORT => Facts { speakers: Some([251, 40, 40]), ..Facts::default() },
            "librispeech-960" => Facts { hours: Some([960.9, 5.4, 5.4]), speakers: Some([2_338, 40, 40]), ..Facts::default() },
            "librispeech-960-other" => {
                Facts { hours: Some([960.9, 5.3, 5.1]), speakers: Some([2_338, 33, 33]), ..Facts::default() }
            }
            _ => Facts::default(),
        }
    }

    fn list(&self, root: &Path, protocol: &Protocol) -> Result<Listing, CorpusError> {
        let subsets = subsets(protocol);
        let place = LAYOUT.open(root, &subsets.iter().map(|(name, _)| *name).collect::<Vec<_>>())?;
        let genders = genders(&place, SPEAKERS)?;
        let mut listing = Listing::default();
        for &subset in subsets {
            list_chapters(&place, subset, &mut listing, |place, chapter, listing| {
                let trans = format!("{}.trans.txt", chapter.stem('-'));
                let mut recordings = chapter.recordings(place, &["flac", "wav"], &[&trans], listing)?;
                for (id, text) in transcripts(place, &format!("{}/{trans}", chapter.folder), listing)? {
                    match recordings.take(&id) {
                        Some(path) if text.is_empty() => listing.skip(path, format!("`{trans}` names it, without a text")),
                        Some(path) => listing.utterances.push(chapter.utterance(&id, path, Some(text), &genders)),
                        None => {
                            let path = place.path(&format!("{}/{id}.flac", chapter.folder));
                            listing.missing(path, format!("`{trans}` names it, but there is no such recording"));
                        }
                    }
                }
                recordings.report_left(&format!("`{trans}` does not name it"), listing);
                Ok(())
            })?;
        }
        if protocol.name == SHORT {
            keep_short(root, &mut listing);
        }
        place.finish(listing, protocol)
    }
}

/// The ids and texts of a file, in its order. Without the file there are none.
fn transcripts(place: &crate::place::Place, inner: &str, listing: &mut Listing) -> Result<Vec<(String, String)>, CorpusError> {
    if !place.is_file(inner) {
        listing.missing(place.path(inner), "the transcripts of a chapter are not there");
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for (line, content) in crate::text::lines(&place.text(inner)?) {
        match parse(content) {
            Some((id, text)) => found.push((id.to_owned(), text.to_owned())),
            None => listing.skip(format!("{}:{line}", place.path(inner)), "not an id, a space and a text"),
        }
    }
    Ok(found)
}

/// The id and the text of a line; the text may be missing.
fn parse(line: &str) -> Option<(&str, &str)> {
    let (id, text) = line.trim().split_once(char::is_whitespace).unwrap_or((line.trim(), ""));
    let is_id = id.split('-').count() == 3 && id.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    is_id.then_some((id, text.trim()))
}

/// Leaves out what lasts 20 s or longer, and names what does not say how long it lasts.
fn keep_short(root: &Path, listing: &mut Listing) {
    for utterance in std::mem::take(&mut listing.utterances) {
        match Length::read(&root.join(&utterance.path)) {
            None => listing.skip(utterance.path, "its header does not say how long it lasts, and the protocol goes by that"),
            Some(length) if length.secs() >= SHORT_SECS => listing.leave("lasts 20 s or longer", 1),
            Some(_) => listing.utterances.push(utterance),
        }
    }
}

#[cfg(test)]
mod tests;
