//! Anybody's own recordings, listed in a table.
//!
//! ```text
//! <root>/table.csv          path,split,speaker,label,text
//!                           clips/0001.wav,train,anna,yes,"Yes, of course."
//! <root>/table.jsonl        {"path": "clips/0001.wav", "start": 1.5, "end": 2.25, "text": "Yes"}
//! ```
//!
//! The table is `table` or `metadata`, or one for each split: `train`, `dev` (or `valid`, `validation`, `val`) and `test`; as
//! `.csv` (quoted as in RFC 4180), `.tsv` (no quoting: a quotation mark is one), `.jsonl` (an object a line) or `.parquet`
//! (uncompressed, Snappy, gzip, LZ4 or zstd; the path may be that of an `audio` struct). Columns, in any order, are known by these
//! names:
//!
//! | column | names |
//! | --- | --- |
//! | recording, relative to the table; the only one that must be there | `path`, `file_name`, `filename`, `file`, `audio` |
//! | name of the utterance; the path without its extension when absent | `id` |
//! | split | `split` |
//! | class | `label`, `class`, `emotion`, `keyword`, `intent` |
//! | speaker | `speaker`, `speaker_id`, `client_id` |
//! | what is said; and normalised | `text`, `transcript`, `transcription`, `sentence`; `normalised`, `normalized` |
//! | a stretch of the recording in seconds; the end may be absent | `start`, `end` |
//! | the same in samples of the recording | `start_sample`, `num_samples` |
//!
//! Every other column is a tag. A stretch in seconds needs a WAV or FLAC file, whose header says how long a second is. Without
//! a split of its own, a row goes to train, dev or test (80, 10, 10 of 100) by a hash of its speaker, or of its id where no
//! speaker is known: the same on every machine, and a new row moves no other. Classes are those that occur, sorted.
//! The licence is the owner's, and there are no published sizes.

mod pages;
mod parquet;
mod records;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use crate::folder::Kind;
use crate::place::{Layout, MINIATURE, Place, clean, split_of};
use crate::{Annotation, Cause, Corpus, CorpusError, Facts, Length, Listing, Protocol, Span, Split, Utterance};
use records::{Record, records};

const LAYOUT: Layout = Layout {
    corpus: "table",
    expected: "`table`, `metadata`, or `train`, `dev` and `test`, as .csv, .tsv, .jsonl or .parquet with a column `path`",
    outer: &[],
};
const EXTENSIONS: [&str; 10] = ["wav", "flac", "mp3", "mp4", "m4a", "aac", "ogg", "oga", "opus", "wave"];
/// The stems of tables, and the split of those that are of one.
const TABLES: [(&str, Option<Split>); 8] = [
    ("table", None),
    ("metadata", None),
    ("train", Some(Split::Train)),
    ("dev", Some(Split::Dev)),
    ("valid", Some(Split::Dev)),
    ("validation", Some(Split::Dev)),
    ("val", Some(Split::Dev)),
    ("test", Some(Split::Test)),
];
/// Recordings without a row are looked for this many folders deep: a link may lead back to where it is.
const DEEPEST: u32 = 8;
/// What the column of recordings may be called.
const PATHS: [&str; 5] = ["path", "file_name", "filename", "file", "audio"];
const FORMATS: [&str; 4] = ["csv", "tsv", "jsonl", "parquet"];

static PROTOCOLS: &[Protocol] = &[Protocol {
    name: "table",
    about: "splits of the table; without, 80/10/10 by a hash of the speaker",
    labels: &[],
    expected: None,
}];

/// The reader of tables by their usual names.
#[derive(Debug, Clone, Copy)]
pub struct Table;

/// The reader of tables that are named: relative to the root, and of any name. Those named `train`, `dev` or `test` (or as else
/// splits are called) are of that split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables(pub Vec<String>);

impl Corpus for Table {
    fn name(&self) -> &'static str {
        LAYOUT.corpus
    }
    fn about(&self) -> &'static str {
        "your own recordings, listed in a CSV, TSV, JSON lines or Parquet table"
    }
    fn licence(&self) -> &'static str {
        "the owner's"
    }
    fn protocols(&self) -> &'static [Protocol] {
        PROTOCOLS
    }

    /// Every table and every recording, wherever it lies.
    fn wants(&self, _: &Protocol, path: &str) -> bool {
        path == MINIATURE || is_table(path) || is_recording(path)
    }

    fn facts(&self, _: &Protocol) -> Facts {
        Facts { repeats_names: true, ..Facts::default() }
    }

    fn list(&self, root: &Path, protocol: &Protocol) -> Result<Listing, CorpusError> {
        let usual: Vec<String> = TABLES.iter().flat_map(|(stem, _)| FORMATS.map(|format| format!("{stem}.{format}"))).collect();
        let place = LAYOUT.open(root, &usual.iter().map(String::as_str).collect::<Vec<_>>())?;
        let tables: Vec<&String> = usual.iter().filter(|name| place.is_file(name)).collect();
        for (at, table) in tables.iter().enumerate() {
            if let Some(first) = tables[..at].iter().find(|first| !may_stand_together(first, table)) {
                return Err(place.malformed(table, format!("`{first}` is there too, and only one of them can be meant")));
            }
        }
        read_tables(&place, root, tables, protocol)
    }
}

impl Corpus for Tables {
    fn name(&self) -> &'static str {
        LAYOUT.corpus
    }
    fn about(&self) -> &'static str {
        Table.about()
    }
    fn licence(&self) -> &'static str {
        Table.licence()
    }
    fn protocols(&self) -> &'static [Protocol] {
        PROTOCOLS
    }
    fn wants(&self, _: &Protocol, path: &str) -> bool {
        path == MINIATURE || is_recording(path) || self.0.iter().any(|table| table == path)
    }
    fn facts(&self, protocol: &Protocol) -> Facts {
        Table.facts(protocol)
    }

    fn list(&self, root: &Path, protocol: &Protocol) -> Result<Listing, CorpusError> {
        let marks: Vec<&str> = self.0.iter().map(String::as_str).collect();
        let place = LAYOUT.open(root, &marks)?;
        if let Some(missing) = self.0.iter().find(|table| !place.is_file(table)) {
            return Err(place.missing(missing));
        }
        read_tables(&place, root, self.0.iter().collect(), protocol)
    }
}

/// Reads tables one after the other.
fn read_tables(place: &Place, root: &Path, tables: Vec<&String>, protocol: &Protocol) -> Result<Listing, CorpusError> {
    let mut listing = Listing::default();
    let mut reader = Reader { place, root, lengths: BTreeMap::new(), named: BTreeSet::new(), ids: HashMap::new() };
    for table in tables {
        let split = split_of_table(table.rsplit('/').next().unwrap_or(table));
        for record in records(place, table)? {
            let record = match record {
                Ok(record) => record,
                Err((line, reason)) => {
                    listing.skip(format!("{table}:{line}"), reason);
                    continue;
                }
            };
            let row = format!("{table}:{}", record.line);
            match reader.utterance(&record, split).and_then(|utterance| reader.only_one(utterance, &row)) {
                Ok(utterance) => listing.utterances.push(utterance),
                Err(Amiss { cause, reason }) => listing.skip_for(cause, row, reason),
            }
        }
    }
    reader.report_extra(&mut listing)?;
    listing.labels = listing.names_of(|utterance| utterance.annotation.label.as_deref());
    place.finish(listing, protocol)
}

/// Whether a path is that of a table.
fn is_table(path: &str) -> bool {
    path.rsplit_once('.')
        .is_some_and(|(stem, format)| FORMATS.contains(&format) && TABLES.iter().any(|(known, _)| *known == stem))
}

/// The split of a table that is of one.
fn split_of_table(table: &str) -> Option<Split> {
    let (stem, _) = table.rsplit_once('.')?;
    TABLES.iter().find(|(known, _)| *known == stem)?.1
}

/// Whether two tables can both be meant: each is of a split of its own.
fn may_stand_together(first: &str, other: &str) -> bool {
    let splits = (split_of_table(first), split_of_table(other));
    matches!(splits, (Some(first), Some(other)) if first != other)
}

fn is_recording(path: &str) -> bool {
    let extension = path.rsplit_once('.').map(|(_, extension)| extension.to_lowercase());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
}

/// Why a row is skipped.
struct Amiss {
    cause: Cause,
    reason: String,
}

impl<S: Into<String>> From<S> for Amiss {
    fn from(reason: S) -> Self {
        Self { cause: Cause::Unusable, reason: reason.into() }
    }
}

/// What is remembered from row to row.
struct Reader<'a> {
    place: &'a Place<'a>,
    root: &'a Path,
    /// Long recordings have many rows: each header is read once.
    lengths: BTreeMap<String, Option<Length>>,
    /// Recordings that a row names, also a row that was skipped.
    named: BTreeSet<String>,
    /// The row of every id.
    ids: HashMap<String, String>,
}

impl Reader<'_> {
    /// Errors: another row has the id already.
    fn only_one(&mut self, utterance: Utterance, row: &str) -> Result<Utterance, Amiss> {
        match self.ids.entry(utterance.id.clone()) {
            Entry::Occupied(first) => Err(format!("its id `{}` is that of `{}`", utterance.id, first.get()).into()),
            Entry::Vacant(place) => {
                place.insert(row.to_owned());
                Ok(utterance)
            }
        }
    }

    /// Errors: a reason to skip the row.
    fn utterance(&mut self, record: &Record, split: Option<Split>) -> Result<Utterance, Amiss> {
        let mut rest = record.fields.clone();
        let mut take = |names: &[&str]| names.iter().find_map(|name| rest.remove(*name).filter(|value| !value.is_empty()));
        let given = take(&PATHS).ok_or("no `path`")?;
        let path = clean(&given)?;
        self.named.insert(path.clone());
        if !is_recording(&path) {
            return Err(format!("`{path}` is not a recording: expected one of .{}", EXTENSIONS.join(", .")).into());
        }
        if self.place.is_dir(&path) {
            return Err(format!("`{path}` is a folder, not a file").into());
        }
        if !self.place.is_file(&path) {
            return Err(Amiss { cause: Cause::Missing, reason: format!("`{path}` is not there") });
        }
        let (id, own_split) = (take(&["id"]), take(&["split"]));
        let (label, speaker) =
            (take(&["label", "class", "emotion", "keyword", "intent"]), take(&["speaker", "speaker_id", "client_id"]));
        let (transcript, normalised) =
            (take(&["text", "transcript", "transcription", "sentence"]), take(&["normalised", "normalized"]));
        let samples = (take(&["start_sample"]), take(&["num_samples"]));
        let secs = (take(&["start"]), take(&["end"]));

        let span = match (&samples, &secs) {
            ((None, None), (None, None)) => None,
            ((Some(start), Some(count)), (None, None)) => Some(span_in_samples(start, count)?),
            ((None, None), (start, end)) => Some(span_in_secs(start.as_deref(), end.as_deref(), self.length(&path))?),
            _ => return Err("a stretch is either `start` and `end` or both `start_sample` and `num_samples`".into()),
        };
        let stem = path.rsplit_once('.').map_or(path.as_str(), |(stem, _)| stem);
        let id = id.unwrap_or_else(|| match span {
            None => stem.to_owned(),
            Some(Span { start, num_samples }) => format!("{stem}#{start}+{num_samples}"),
        });
        let split = match (own_split.as_deref().map(str::to_lowercase).as_deref(), split) {
            (None, Some(split)) => split,
            (None, None) => split_of(speaker.as_deref().unwrap_or(&id), 10, 10),
            (Some(name), of_table) => match (split_named(name), of_table) {
                (None, _) => return Err(format!("split `{name}` is not train, dev or test").into()),
                (Some(own), Some(other)) if own != other => {
                    return Err(format!("split `{name}` in the table of {other}").into());
                }
                (Some(own), _) => own,
            },
        };
        let tags = rest.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        Ok(Utterance {
            span,
            annotation: Annotation { label, speaker, transcript, normalised, tags, ..Annotation::default() },
            ..Utterance::new(id, path, split)
        })
    }

    fn length(&mut self, path: &str) -> Option<Length> {
        if let Some(known) = self.lengths.get(path) {
            return *known;
        }
        let length = Length::read(&self.root.join(path));
        self.lengths.insert(path.to_owned(), length);
        length
    }

    /// Notes recordings that no row names.
    fn report_extra(&self, listing: &mut Listing) -> Result<(), CorpusError> {
        let mut folders = vec![(String::new(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            for entry in self.place.entries(&folder)? {
                let path = format!("{folder}{}", entry.name);
                match entry.kind {
                    Kind::Folder if depth < DEEPEST => folders.push((format!("{path}/"), depth + 1)),
                    _ if is_recording(&path) && !self.named.contains(&path) => listing.extra(path, "no row names it"),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

fn split_named(name: &str) -> Option<Split> {
    match name {
        "train" => Some(Split::Train),
        "dev" | "valid" | "validation" | "val" => Some(Split::Dev),
        "test" => Some(Split::Test),
        _ => None,
    }
}

fn span_in_samples(start: &str, count: &str) -> Result<Span, String> {
    match (start.parse(), count.parse()) {
        (Ok(start), Ok(num_samples)) if num_samples > 0 => Ok(Span { start, num_samples }),
        _ => Err(format!("a stretch of `{count}` samples from `{start}`")),
    }
}

/// The nearest samples. An end after the recording's own is the recording's own.
fn span_in_secs(start: Option<&str>, end: Option<&str>, length: Option<Length>) -> Result<Span, String> {
    let Some(length) = length else {
        return Err("a stretch in seconds of a recording whose header is no WAV or FLAC: give `start_sample` and `num_samples`"
            .to_owned());
    };
    let sample = |text: Option<&str>, otherwise: u64| {
        let Some(text) = text else { return Ok(otherwise) };
        let secs: f64 = text.parse().map_err(|_| format!("`{text}` is not a time in seconds"))?;
        if !(0.0..1e9).contains(&secs) {
            return Err(format!("`{text}` is not a time in seconds"));
        }
        Ok((secs * f64::from(length.sample_rate)).round() as u64)
    };
    let (start, end) = (sample(start, 0)?, sample(end, length.num_samples)?.min(length.num_samples));
    match end.checked_sub(start) {
        Some(num_samples) if num_samples > 0 => Ok(Span { start, num_samples }),
        _ => Err(format!("a stretch without samples: the recording lasts {:.3} s", length.secs())),
    }
}

#[cfg(test)]
mod tests;
