//! FLEURS, American English: sentences of Wikipedia read aloud, 16 kHz.
//!
//! ```text
//! <root>/data/en_us/train.tsv      903<TAB>2712093.wav<TAB>"All good", he said.<TAB>all good he said<TAB>a l l | g o o d |...<TAB>158080<TAB>MALE
//! <root>/data/en_us/audio/train/2712093.wav      also dev/ and test/, unpacked from audio/<split>.tar.gz
//! ```
//!
//! Version read: `google/fleurs`, configuration `en_us`. Licence: CC BY 4.0. Published sizes: 2 602 train, 394 dev, 647 test.
//! Source: Conneau et al. 2022, arXiv:2205.12446.
//!
//! The tables have no header and no quoting: a quotation mark is one. A sentence is read by several people, so the file's name
//! is the key. Who reads is not said. The transcript is the raw one, the normalised one is the corpus's own.
//!
//! `fleurs-en_us-20s` leaves out recordings of 20 s and more, from test too, as SURE does: 2 550 / 388 / 637. Its figures are
//! those of an easier test set; all recordings are the sound choice and the default.

use std::path::Path;

use crate::place::{Layout, MINIATURE, Place, Recordings};
use crate::text::lines;
use crate::{Annotation, Corpus, CorpusError, Facts, Listing, Protocol, Split, Utterance};

const LAYOUT: Layout = Layout {
    corpus: "fleurs",
    expected: "`<split>.tsv` and `audio/<split>/<number>.wav`, also in `data/en_us/`",
    outer: &["data/en_us/", "en_us/"],
};
const SAMPLE_RATE: u64 = 16_000;
const SHORT: &str = "fleurs-en_us-20s";

static PROTOCOLS: &[Protocol] = &[
    Protocol {
        name: "fleurs-en_us",
        about: "all recordings, splits as published",
        labels: &[],
        expected: Some([2_602, 394, 647]),
    },
    Protocol {
        name: SHORT,
        about: "recordings shorter than 20 s, in test too, as SURE has it",
        labels: &[],
        expected: Some([2_550, 388, 637]),
    },
];

/// The reader.
#[derive(Debug, Clone, Copy)]
pub struct Fleurs;

impl Corpus for Fleurs {
    fn name(&self) -> &'static str {
        LAYOUT.corpus
    }
    fn about(&self) -> &'static str {
        "FLEURS, American English, https://huggingface.co/datasets/google/fleurs"
    }
    fn licence(&self) -> &'static str {
        "CC BY 4.0"
    }
    fn protocols(&self) -> &'static [Protocol] {
        PROTOCOLS
    }

    fn wants(&self, _: &Protocol, path: &str) -> bool {
        let inner = LAYOUT.inner(path);
        let is_wanted = |split: Split| {
            let is_in = |folder: &str| inner.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
            inner == table(split) || folders(split).iter().any(|folder| is_in(folder))
        };
        path == MINIATURE || Split::ALL.into_iter().any(is_wanted)
    }

    /// A recording of train and another of dev may have the same number for a name.
    fn facts(&self, _: &Protocol) -> Facts {
        Facts { repeats_names: true, ..Facts::default() }
    }

    fn list(&self, root: &Path, protocol: &Protocol) -> Result<Listing, CorpusError> {
        let tables = Split::ALL.map(table);
        let place = LAYOUT.open(root, &[&tables[0], &tables[1], &tables[2]])?;
        let mut listing = Listing::default();
        for split in Split::ALL {
            list_split(&place, split, protocol, &mut listing)?;
        }
        place.finish(listing, protocol)
    }
}

fn table(split: Split) -> String {
    format!("{split}.tsv")
}

/// Where the recordings of a split may be.
fn folders(split: Split) -> [String; 2] {
    [format!("audio/{split}"), split.name().to_owned()]
}

fn list_split(place: &Place, split: Split, protocol: &Protocol, listing: &mut Listing) -> Result<(), CorpusError> {
    let table = table(split);
    if !place.is_file(&table) {
        listing.missing(place.path(&table), "the table of a split is not there");
        return Ok(());
    }
    let Some(folder) = folders(split).into_iter().find(|folder| place.is_dir(folder)) else {
        let [folder, _] = folders(split);
        listing.missing(
            place.path(&folder),
            format!("the recordings of a split are not there; `{folder}.tar.gz` has to be unpacked"),
        );
        return Ok(());
    };
    let mut recordings = Recordings::read(place, &folder, 0, &["wav", "flac"], &[], listing)?;
    for (line, content) in lines(&place.text(&table)?) {
        let row = match parse(content) {
            Ok(row) => row,
            Err(reason) => {
                listing.skip(format!("{}:{line}", place.path(&table)), reason);
                continue;
            }
        };
        let Some(path) = recordings.take(row.name) else {
            let path = place.path(&format!("{folder}/{}.wav", row.name));
            listing.missing(path, format!("line {line} of `{table}` names it, but there is no such recording"));
            continue;
        };
        if protocol.name == SHORT && row.num_samples >= 20 * SAMPLE_RATE {
            listing.leave("lasts 20 s or longer", 1);
            continue;
        }
        listing.utterances.push(row.utterance(path, split));
    }
    recordings.report_left(&format!("no line of `{table}` names it"), listing);
    Ok(())
}

/// Fields of a line.
#[derive(Debug)]
struct Row<'a> {
    sentence: &'a str,
    /// Of the recording, without its extension.
    name: &'a str,
    raw: &'a str,
    normalised: &'a str,
    num_samples: u64,
    gender: &'static str,
}

/// Errors: a reason to skip the line.
fn parse(line: &str) -> Result<Row<'_>, String> {
    let fields: Vec<&str> = line.split('\t').map(str::trim).collect();
    let [sentence, file, raw, normalised, _, num_samples, gender] = fields[..] else {
        return Err(format!("{} fields, expected 7", fields.len()));
    };
    let Some((name, _)) = file.rsplit_once('.').filter(|(name, _)| !name.is_empty() && !name.contains(['/', '\\'])) else {
        return Err(format!("`{file}` is not the name of a recording"));
    };
    let num_samples = num_samples.parse().map_err(|_| format!("`{num_samples}` is not a number of samples"))?;
    let gender = match gender {
        "MALE" => "male",
        "FEMALE" => "female",
        "OTHER" => "other",
        _ => "",
    };
    Ok(Row { sentence, name, raw, normalised, num_samples, gender })
}

impl Row<'_> {
    fn utterance(&self, path: String, split: Split) -> Utterance {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let mut utterance = Utterance {
            duration_ms: self.num_samples.checked_mul(1_000).map(|product| product / SAMPLE_RATE),
            annotation: Annotation { transcript: some(self.raw), normalised: some(self.normalised), ..Annotation::default() },
            ..Utterance::new(format!("{split}/{}", self.name), path, split)
        };
        utterance.tag("sentence", self.sentence);
        utterance.tag("gender", self.gender);
        if utterance.annotation.transcript.is_none() {
            utterance.annotation.flags.push("no transcript".to_owned());
        }
        utterance
    }
}

#[cfg(test)]
mod tests;
