//! Anybody's own recordings, listed in a table.
//!
//! ```text
//! <root>/table.csv          path,split,speaker,label,text
//!                           clips/0001.wav,train,anna,yes,"Yes, of course."
//! <root>/table.jsonl        {"path": "clips/0001.wav", "start": 1.5, "end": 2.25, "text": "Yes"}
//! ```
//!
//! The usual names of a table are `table`, `metadata` and `manifest`, or one for each split: `train`, `dev` (or `valid`, `validation`,
//! `val`) and `test`; as `.csv` (quoted as in RFC 4180), `.tsv` (a quotation mark is itself), `.jsonl` or `.json` (an object a line,
//! or a list of objects) or `.parquet` (uncompressed, Snappy, gzip, LZ4 or zstd). Parquet files that contain the recordings, as the
//! Hugging Face Hub and `sure prepare` write them, may also be named `train-00000-of-00002...parquet` and be in `data`. A Kaldi data
//! folder is known by its `wav.scp`. [`ColumnNames`] names columns that have other names than the usual ones, [`ACCEPTED`] and
//! the times of `columns`; every other column is a tag.
//!
//! A stretch in seconds needs a WAV, FLAC, AIFF, AU or SPHERE file, whose header tells the sample rate. Without a split, a row goes to
//! train, dev or test (80, 10, 10 of 100) by a hash of its speaker, or of its id if no speaker is known: the same on every machine,
//! and a new row moves no other. Classes are those that occur, sorted; numbers in the order of numbers.
//! The licence is the owner's, and there are no published sizes.

mod columns;
mod files;
mod kaldi;
mod labels;
mod lhotse;
mod pages;
mod parquet;
mod quotes;
mod records;
mod times;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use unicode_normalization::UnicodeNormalization;

pub use self::columns::{ACCEPTED, ColumnNames};
use self::columns::{Columns, Found};
use self::files::Files;
pub use self::parquet::embedded;
use self::records::{Record, Sheet, records};
use self::times::{Stretch, Times};
use crate::place::{Layout, MINIATURE, Place, split_of};
use crate::{Annotation, Cause, Corpus, CorpusError, Facts, Length, Listing, Protocol, Slot, Split, Utterance};

const LAYOUT: Layout = Layout {
    corpus: "table",
    expected: "`table`, `metadata`, or `train`, `dev` and `test`, as .csv, .tsv, .jsonl or .parquet with a column `path`",
    outer: &[],
};
/// Extensions of recordings: files that are looked for, and reported if no row names them.
const EXTENSIONS: [&str; 22] = [
    "wav", "flac", "mp3", "mp4", "m4a", "aac", "ogg", "oga", "opus", "wave", "aif", "aiff", "aifc", "au", "snd", "caf", "w64",
    "sph", "wma", "webm", "amr", "spx",
];
/// Extensions of files that are no recordings and no tables: they do not count as part of the corpus.
const OTHERS: [&str; 40] = [
    "txt",
    "md",
    "rst",
    "html",
    "htm",
    "css",
    "js",
    "pdf",
    "png",
    "jpg",
    "jpeg",
    "gif",
    "svg",
    "py",
    "ipynb",
    "sh",
    "toml",
    "yaml",
    "yml",
    "log",
    "zip",
    "tar",
    "gz",
    "tgz",
    "bz2",
    "xz",
    "7z",
    "doc",
    "docx",
    "xls",
    "xlsx",
    "db",
    "npy",
    "npz",
    "pt",
    "ckpt",
    "safetensors",
    "lab",
    "textgrid",
    "clips",
];
/// Stems of tables, and the split of those that are of one.
const TABLES: [(&str, Option<Split>); 13] = [
    ("table", None),
    ("metadata", None),
    ("manifest", None),
    ("train", Some(Split::Train)),
    ("dev", Some(Split::Dev)),
    ("valid", Some(Split::Dev)),
    ("validation", Some(Split::Dev)),
    ("val", Some(Split::Dev)),
    ("test", Some(Split::Test)),
    ("train_manifest", Some(Split::Train)),
    ("dev_manifest", Some(Split::Dev)),
    ("validation_manifest", Some(Split::Dev)),
    ("test_manifest", Some(Split::Test)),
];
/// Extensions of tables.
pub const FORMATS: [&str; 5] = ["csv", "tsv", "jsonl", "json", "parquet"];
/// Folder in which the Hub keeps its Parquet files.
const HUB_FOLDER: &str = "data/";

static PROTOCOLS: &[Protocol] = &[Protocol {
    name: "table",
    about: "splits of the table; without, 80/10/10 by a hash of the speaker",
    labels: &[],
    expected: None,
}];

/// Reader of tables by their usual names and columns.
#[derive(Debug, Clone, Copy)]
pub struct Table;

/// Reader of tables whose names or columns a user states.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    /// Paths relative to the root; the usual names if empty. Tables named as a split are of that split.
    pub tables: Vec<String>,
    /// Columns that have other names than the usual ones.
    pub columns: ColumnNames,
}

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

    /// Every table and every file that may be a recording, in any folder.
    fn wants(&self, _: &Protocol, path: &str) -> bool {
        path == MINIATURE || is_usual_table(path) || kaldi::is_part(path) || may_be_recording(path)
    }

    fn facts(&self, _: &Protocol) -> Facts {
        Facts { repeats_names: true, ..Facts::default() }
    }

    fn list(&self, root: &Path, protocol: &Protocol) -> Result<Listing, CorpusError> {
        Tables::default().list(root, protocol)
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
    fn wants(&self, protocol: &Protocol, path: &str) -> bool {
        if self.tables.is_empty() {
            return Table.wants(protocol, path);
        }
        self.tables.iter().any(|table| table == path) || path == MINIATURE || (may_be_recording(path) && !is_usual_table(path))
    }
    fn facts(&self, protocol: &Protocol) -> Facts {
        Table.facts(protocol)
    }

    fn list(&self, root: &Path, protocol: &Protocol) -> Result<Listing, CorpusError> {
        let mut tables = self.tables.clone();
        let place = if tables.is_empty() {
            let usual: Vec<String> =
                TABLES.iter().flat_map(|(stem, _)| FORMATS.map(|format| format!("{stem}.{format}"))).collect();
            let (place, found) = usual_tables(root, &usual)?;
            tables = found;
            place
        } else {
            LAYOUT.open(root, &tables.iter().map(String::as_str).collect::<Vec<_>>())?
        };
        if let Some(missing) = tables.iter().find(|table| !place.is_file(table)) {
            return Err(place.missing(missing));
        }
        Reader::new(&place, root, &self.columns).read(&tables, protocol)
    }
}

/// Tables by their usual names.
///
/// Errors: none is there, or two of which only one can be meant.
fn usual_tables<'a>(root: &'a Path, usual: &[String]) -> Result<(Place<'a>, Vec<String>), CorpusError> {
    let sharded = |folder: &str| -> Vec<String> {
        let entries = std::fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| Some(format!("{folder}{}", entry.file_name().into_string().ok()?)));
        let mut names: Vec<String> = names.filter(|path| is_sharded(path)).collect();
        names.sort();
        names
    };
    let place = match LAYOUT.open(root, &usual.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(place) => place,
        Err(error) => {
            let kaldi: Vec<String> =
                ["", "train/", "dev/", "valid/", "test/"].map(|folder| format!("{folder}{}", kaldi::MARK)).into();
            let found: Vec<String> = kaldi.into_iter().filter(|mark| root.join(mark).is_file()).collect();
            let found = [found, sharded(""), sharded(HUB_FOLDER)].into_iter().find(|found| !found.is_empty());
            let found = found.unwrap_or_else(|| in_split_folders(root));
            let Some(first) = found.first() else { return Err(lhotse::manifest(root).unwrap_or(error)) };
            let place = LAYOUT.open(root, &[first])?;
            let is_ours = is_sharded(first) && parquet::is_own_shard(&place.full(first)); // those leave empty shards out
            if let Some((present, missing)) = missing_shard(&found).filter(|_| !is_ours) {
                let problem =
                    format!("`{missing}` is not there: the copy is not complete; `--table` names what is to be read of it");
                return Err(place.malformed(present, problem));
            }
            return Ok((place, found));
        }
    };
    let tables: Vec<String> = usual.iter().filter(|name| place.is_file(name)).cloned().collect();
    for (at, table) in tables.iter().enumerate() {
        if let Some(first) = tables[..at].iter().find(|first| !may_both_be_meant(first, table)) {
            return Err(place.malformed(table, format!("`{first}` is there too, and only one of them can be meant")));
        }
    }
    Ok((place, tables))
}

/// Tables in folders that are named as splits: `train/metadata.csv`.
fn in_split_folders(root: &Path) -> Vec<String> {
    let folders = std::fs::read_dir(root).into_iter().flatten().flatten();
    let folders = folders.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| split_named(name).is_some());
    let tables = folders.flat_map(|folder| {
        let names = TABLES.iter().filter(|(_, split)| split.is_none());
        names.flat_map(move |(stem, _)| FORMATS.map(|format| format!("{folder}/{stem}.{format}"))).collect::<Vec<_>>()
    });
    let mut tables: Vec<String> = tables.filter(|table| root.join(table).is_file()).collect();
    tables.sort();
    tables
}

/// Finds one of several Parquet files that is not there though the name of another counts it. Returns that other and the one.
fn missing_shard(tables: &[String]) -> Option<(&str, String)> {
    tables.iter().filter(|table| is_sharded(table)).find_map(|table| {
        let (before, rest) = table.split_once('-')?;
        let (count, after) = rest.split_once("-of-")?.1.split_at_checked(5)?;
        let is_there = |number: u32| tables.iter().any(|other| other.starts_with(&format!("{before}-{number:05}-of-{count}")));
        let number = (0..count.parse().ok()?).find(|&number| !is_there(number))?;
        // Names of several files may end in a digest each.
        let after = if after == ".parquet" { after } else { "-*.parquet" };
        Some((table.as_str(), format!("{before}-{number:05}-of-{count}{after}")))
    })
}

/// True for a table with one of the usual names.
pub fn is_usual_table(path: &str) -> bool {
    let inner = path.split_once('/').filter(|(folder, _)| split_named(folder).is_some()).map_or(path, |(_, inner)| inner);
    let is_known = inner
        .rsplit_once('.')
        .is_some_and(|(stem, format)| FORMATS.contains(&format) && TABLES.iter().any(|(known, _)| *known == stem));
    is_known || is_sharded(path)
}

/// True for a Parquet file of several, as the Hub and `sure prepare` name them: `data/train-00000-of-00002-0123.parquet`.
fn is_sharded(path: &str) -> bool {
    let name = path.strip_prefix(HUB_FOLDER).unwrap_or(path);
    let Some(stem) = name.strip_suffix(".parquet").filter(|stem| !stem.contains('/')) else { return false };
    let parts: Vec<&str> = stem.split('-').collect();
    let is_number = |text: &&str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    matches!(parts[..], [split, first, "of", all, ..] if split_named(split).is_some() && is_number(&first) && is_number(&all))
}

/// Split of a table that is of one.
fn split_of_table(table: &str) -> Option<Split> {
    if table.ends_with(kaldi::MARK) {
        return split_named(table.split('/').next()?);
    }
    let name = table.rsplit('/').next().unwrap_or(table);
    if is_sharded(name) {
        return split_named(name.split('-').next()?);
    }
    let (stem, _) = name.rsplit_once('.')?;
    TABLES.iter().find(|(known, _)| *known == stem).and_then(|(_, split)| *split).or_else(|| split_of_folders(table))
}

/// Split that the folders of a path name, if they name one.
fn split_of_folders(path: &str) -> Option<Split> {
    let (folders, _) = path.rsplit_once('/')?;
    let mut splits = folders.split('/').filter_map(split_named);
    splits.next().filter(|first| splits.all(|other| other == *first))
}

/// True if two tables can both be meant: each is of a split of its own.
fn may_both_be_meant(first: &str, other: &str) -> bool {
    let splits = (split_of_table(first), split_of_table(other));
    matches!(splits, (Some(first), Some(other)) if first != other)
}

fn extension(path: &str) -> Option<String> {
    path.rsplit('/').next()?.rsplit_once('.').map(|(_, extension)| extension.to_lowercase())
}

/// True for the extension of a recording.
pub fn is_recording(path: &str) -> bool {
    extension(path).is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
}

/// True unless the extension is that of something else.
pub fn may_be_recording(path: &str) -> bool {
    let is_other = |extension: &str| OTHERS.contains(&extension) || FORMATS.contains(&extension);
    !extension(path).is_some_and(|extension| is_other(&extension))
}

fn split_named(name: &str) -> Option<Split> {
    match name.trim().to_lowercase().as_str() {
        "train" | "training" => Some(Split::Train),
        "dev" | "valid" | "validation" | "val" | "development" => Some(Split::Dev),
        "test" | "testing" => Some(Split::Test),
        _ => None,
    }
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

/// A row that has been read, and where it is.
struct Row {
    /// Name and line of the table.
    place: String,
    utterance: Utterance,
    /// True if the id is that of the table.
    has_id: bool,
}

/// State of a table reader from row to row.
struct Reader<'a> {
    place: &'a Place<'a>,
    root: &'a Path,
    names: &'a ColumnNames,
    files: Files<'a>,
    /// Long recordings have many rows: each header is read once.
    lengths: BTreeMap<String, Option<Length>>,
    /// Recordings that a row names, also a row that was skipped.
    named: BTreeSet<String>,
    listing: Listing,
    rows: Vec<Row>,
    /// Class names that a table states, in its order.
    classes: Vec<String>,
    /// Labels as they are written first, and where, by their Unicode form NFC.
    spellings: HashMap<String, (String, String)>,
    states_splits: bool,
    /// First row with a duration and without the length of its recording, and how many there are.
    unchecked: Option<(String, u64)>,
}

impl<'a> Reader<'a> {
    fn new(place: &'a Place<'a>, root: &'a Path, names: &'a ColumnNames) -> Self {
        Self {
            place,
            root,
            names,
            files: Files::new(place, root),
            lengths: BTreeMap::new(),
            named: BTreeSet::new(),
            listing: Listing::default(),
            rows: Vec::new(),
            classes: Vec::new(),
            spellings: HashMap::new(),
            states_splits: false,
            unchecked: None,
        }
    }

    /// Reads tables one after the other.
    fn read(mut self, tables: &[String], protocol: &Protocol) -> Result<Listing, CorpusError> {
        for table in tables {
            self.read_table(table)?;
        }
        self.split_by_folders();
        self.name_rows();
        self.take_rows();
        let tables = tables.join(", ");
        if let Err(problem) = labels::unify(&mut self.rows, &mut self.listing.warnings) {
            return Err(self.place.malformed(&tables, problem));
        }
        self.warn();
        let Self { mut listing, rows, classes, .. } = self;
        listing.utterances = rows.into_iter().map(|row| row.utterance).collect();
        self.files.report_extra(&self.named, &mut listing)?;
        listing.labels = labels::in_order(listing.names_of(|utterance| utterance.annotation.label.as_deref()), &classes);
        if self.names.label.len() > 1 {
            for name in &self.names.label {
                let value = |utterance: &Utterance| utterance.annotation.slots.iter().find(|slot| slot.name == *name).cloned();
                let values: BTreeSet<String> = listing.utterances.iter().filter_map(value).map(|slot| slot.value).collect();
                listing.classes.insert(name.clone(), labels::in_order(values.into_iter().collect(), &[]));
            }
        }
        self.place.finish(listing, protocol)
    }

    fn read_table(&mut self, table: &str) -> Result<(), CorpusError> {
        let split = split_of_table(table);
        self.states_splits |= split.is_some();
        let malformed = |problem| self.place.malformed(table, problem);
        if table.ends_with(".parquet") && self.names.is_empty() {
            let own = parquet::own_shard(&self.place.full(table), table).map_err(malformed)?;
            if let Some((utterances, classes)) = own {
                self.states_splits = true;
                self.classes = classes;
                let row = |(utterance, row)| Row { place: format!("{table}:{row}"), utterance, has_id: true };
                self.rows.extend(utterances.into_iter().zip(1..).map(row));
                return Ok(());
            }
        }
        let mut sheet = if table.ends_with(kaldi::MARK) {
            kaldi::sheet(self.place, table)?
        } else {
            records(self.place, table, self.names.path.as_deref())?
        };
        let columns = Columns::choose(&found(&sheet), self.names, sheet.audio.as_deref()).map_err(malformed)?;
        self.states_splits |= columns.split.is_some();
        self.listing.notes.push(columns.report(table, &sheet.left_out));
        if let Some(channel) = columns.channel() {
            self.listing
                .warnings
                .push(format!("{table}: column `{channel}` is only a tag: the channels of a recording are averaged"));
        }
        let warning = |(line, problem): (u64, String)| format!("{table}:{line}: {problem}");
        self.listing.warnings.extend(sheet.warnings.drain(..).map(warning));
        self.listing.warnings.append(&mut sheet.elsewhere);
        if let Some(names) = columns.labels.first().and_then(|label| sheet.classes.get(label)) {
            self.classes.clone_from(names);
        }
        let folder = table.rfind('/').map_or("", |at| &table[..=at]);
        let mut unknown: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for record in sheet.rows {
            let record = match record {
                Ok(record) => record,
                Err((line, reason)) => {
                    self.listing.skip(format!("{table}:{line}"), reason);
                    continue;
                }
            };
            let place = format!("{table}:{}", record.line);
            if let Some(name) = columns.split.as_ref().and_then(|split| record.fields.get(split)).map(|name| name.trim())
                && !name.is_empty()
                && split_named(name).is_none()
            {
                unknown.entry(name.to_owned()).or_insert((record.line, 0)).1 += 1;
            }
            match self.utterance(&record, &columns, split, table, folder) {
                Ok((utterance, has_id)) => self.rows.push(Row { place, utterance, has_id }),
                Err(Amiss { cause, reason }) => self.listing.skip_for(cause, place, reason),
            }
        }
        for (name, (line, count)) in unknown {
            self.listing.warnings.push(format!(
                "{table}:{line}: split `{name}` is not train, dev or test: {count} row{} left out",
                if count == 1 { "" } else { "s" }
            ));
        }
        Ok(())
    }

    /// Utterance of a row, and true if its id is that of the table. Errors: a reason to skip the row.
    fn utterance(
        &mut self,
        record: &Record,
        columns: &Columns,
        split: Option<Split>,
        table: &str,
        folder: &str,
    ) -> Result<(Utterance, bool), Amiss> {
        let value = |name: &str| record.fields.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
        let named = |name: &Option<String>| name.as_deref().and_then(value);
        if let Some((name, _)) = record.fields.iter().find(|(_, value)| value.contains('\0')) {
            return Err(format!("column `{name}` contains a zero byte (NUL), which no text has").into());
        }
        let given = record.fields.get(&columns.path).map_or("", String::as_str);
        let path = match record.embedded {
            Some(_) => table.to_owned(),
            None => self.files.find(given, folder)?,
        };
        self.named.insert(path.clone());
        if record.embedded.is_none() && !may_be_recording(&path) {
            return Err(format!("`{path}` has the extension of a file that is no recording").into());
        }
        let times = Times {
            start: Times::of(&columns.starts, value),
            end: Times::of(&columns.ends, value),
            duration: Times::of(&columns.durations, value),
        };
        let length = if record.embedded.is_some() { None } else { self.length(&path) };
        let Stretch { span, duration_ms, flag } = times.stretch(length)?;
        if duration_ms.is_some() && length.is_none() {
            let (_, count) = self.unchecked.get_or_insert_with(|| (format!("{table}:{}", record.line), 0));
            *count += 1;
        }

        let form = |text: &str| text.nfc().collect::<String>();
        let labels: Vec<(&String, &str)> = columns.labels.iter().filter_map(|name| Some((name, value(name)?))).collect();
        let label = (labels.len() == columns.labels.len() && !labels.is_empty())
            .then(|| labels.iter().map(|(_, label)| form(label)).collect::<Vec<_>>().join("|"));
        for (_, written) in &labels {
            self.note_spelling(form(written), written, &format!("{table}:{}", record.line));
        }
        let groups = labels.iter().filter(|_| columns.labels.len() > 1);
        let slots = groups.map(|(name, label)| Slot { name: (*name).clone(), value: form(label) }).collect();
        let speaker = named(&columns.speaker).map(form);

        let own_id = named(&columns.id).map(str::to_owned);
        let has_id = own_id.is_some();
        let id = own_id.unwrap_or_else(|| match (record.embedded, span) {
            (Some(_), _) if !given.trim().is_empty() => stem(given.trim()).to_owned(),
            (Some(row), _) => format!("{}/{row:06}", table.trim_end_matches(".parquet")),
            (None, None) => stem(&path).to_owned(),
            (None, Some(span)) => format!("{}#{}+{}", stem(&path), span.start, span.num_samples),
        });
        let split = match (named(&columns.split), split) {
            (None, Some(split)) => split,
            (None, None) => split_of(speaker.as_deref().unwrap_or(&id), 10, 10),
            (Some(name), of_table) => match (split_named(name), of_table) {
                (None, _) => return Err(format!("split `{}` is not train, dev or test", name.to_lowercase()).into()),
                (Some(own), Some(other)) if own != other => {
                    return Err(format!("split `{name}` in the table of {other}").into());
                }
                (Some(own), _) => own,
            },
        };
        let tags = columns.tags.iter().filter_map(|name| Some((name.to_lowercase(), value(name)?.to_owned()))).collect();
        let annotation = Annotation {
            label,
            speaker,
            transcript: named(&columns.text).map(str::to_owned),
            normalised: named(&columns.normalised).map(str::to_owned),
            slots,
            tags,
            flags: flag.into_iter().collect(),
            ..Annotation::default()
        };
        let utterance = Utterance { span, duration_ms, annotation, embedded: record.embedded, ..Utterance::new(id, path, split) };
        Ok((utterance, has_id))
    }

    /// Warns, once, of a label that is written in two Unicode forms.
    fn note_spelling(&mut self, form: String, written: &str, place: &str) {
        if form.is_ascii() {
            return;
        }
        let (first, first_place) = self.spellings.entry(form).or_insert_with(|| (written.to_owned(), place.to_owned()));
        if first.as_str() != written && !first_place.is_empty() {
            self.listing
                .warnings
                .push(format!("{place}: label `{written}` is that of {first_place} in another Unicode form: they are one class"));
            first_place.clear();
        }
    }

    fn length(&mut self, path: &str) -> Option<Length> {
        if let Some(known) = self.lengths.get(path) {
            return *known;
        }
        let length = Length::read(&self.root.join(path));
        self.lengths.insert(path.to_owned(), length);
        length
    }

    /// Takes the splits that the folders of the recordings name, if no table has splits and every recording is in such a folder.
    fn split_by_folders(&mut self) {
        if self.states_splits || self.rows.iter().any(|row| row.utterance.embedded.is_some()) {
            return;
        }
        let splits: Vec<Option<Split>> = self.rows.iter().map(|row| split_of_folders(&row.utterance.path)).collect();
        let named: BTreeSet<Split> = splits.iter().flatten().copied().collect();
        if named.len() < 2 || splits.contains(&None) {
            return;
        }
        for (row, split) in self.rows.iter_mut().zip(splits.into_iter().flatten()) {
            row.utterance.split = split;
        }
        self.states_splits = true;
        let names = named.iter().map(|split| format!("`{split}`")).collect::<Vec<_>>().join(", ");
        self.listing.notes.push(format!("splits: the folders of the recordings, for {names}"));
    }

    /// Gives recordings whose ids clash the ids of their paths: a column of ids that are not unique, or `a.wav` and `a.flac`.
    fn name_rows(&mut self) {
        let recording = |row: &Row| {
            (row.utterance.path.clone(), row.utterance.embedded, row.utterance.span.map(|s| (s.start, s.num_samples)))
        };
        let mut of_id: HashMap<&str, BTreeSet<_>> = HashMap::new();
        for row in &self.rows {
            of_id.entry(&row.utterance.id).or_default().insert(recording(row));
        }
        let clashes: BTreeSet<String> =
            of_id.into_iter().filter(|(_, recordings)| recordings.len() > 1).map(|(id, _)| id.to_owned()).collect();
        let is_clash = |row: &&Row| row.has_id && clashes.contains(&row.utterance.id);
        if let Some(first) = self.rows.iter().filter(is_clash).nth(1) {
            let count = self.rows.iter().filter(is_clash).count();
            self.listing.warnings.push(format!(
                "{}: id `{}` is that of another recording too: {count} rows get the path of their recording as id",
                first.place, first.utterance.id
            ));
        }
        for row in self.rows.iter_mut().filter(|row| clashes.contains(&row.utterance.id)) {
            let Utterance { path, span, embedded, .. } = &row.utterance;
            let part = match (span, embedded) {
                (Some(span), _) => format!("#{}+{}", span.start, span.num_samples),
                (None, Some(at)) => format!("#{at:06}"),
                (None, None) => String::new(),
            };
            row.utterance.id = format!("{path}{part}");
        }
    }

    /// Skips rows that repeat an id, and warns if they contradict the first.
    fn take_rows(&mut self) {
        let mut first: HashMap<String, usize> = HashMap::new();
        let mut kept: Vec<Row> = Vec::with_capacity(self.rows.len());
        for row in std::mem::take(&mut self.rows) {
            let Some(&at) = first.get(&row.utterance.id) else {
                first.insert(row.utterance.id.clone(), kept.len());
                kept.push(row);
                continue;
            };
            let (known, Row { place, utterance, .. }) = (&kept[at], row);
            let facts = |utterance: &Utterance| {
                let Annotation { label, transcript, speaker, .. } = &utterance.annotation;
                let shown = |value: &Option<String>| value.as_deref().map_or("none".to_owned(), |value| format!("`{value}`"));
                let split = format!("`{}`", utterance.split);
                [("label", shown(label)), ("split", split), ("text", shown(transcript)), ("speaker", shown(speaker))]
            };
            let mut pairs = facts(&utterance).into_iter().zip(facts(&known.utterance));
            let reason = match pairs.find(|(own, other)| own != other) {
                None => format!("its id `{}` is that of `{}`", utterance.id, known.place),
                Some(((fact, own), (_, other))) => {
                    let reason = format!("`{}` has the {fact} {own} here and {other} in `{}`", utterance.id, known.place);
                    self.listing.warnings.push(format!("{place}: {reason}: this row is left out"));
                    reason
                }
            };
            self.listing.skip(place, reason);
        }
        self.rows = kept;
    }

    /// Warnings about what the tables lack.
    fn warn(&mut self) {
        let lacks = |field: fn(&Annotation) -> bool| {
            !self.rows.is_empty() && !self.rows.iter().any(|row| field(&row.utterance.annotation))
        };
        let (no_speaker, no_label, no_text) =
            (lacks(|one| one.speaker.is_some()), lacks(|one| one.label.is_some()), lacks(|one| one.transcript.is_some()));
        if let Some((place, count)) = &self.unchecked {
            self.listing.warnings.push(format!(
                "{place}: a duration, of a recording whose header does not tell its length ({count} such row{}): the whole recording is \
                 taken; WAV, FLAC, AIFF, AU and SPHERE tell it",
                if *count == 1 { "" } else { "s" }
            ));
        }
        let mut add = |text: &str| self.listing.warnings.push(text.to_owned());
        if no_speaker {
            add(if self.states_splits {
                "no column of speakers (--speaker COLUMN): nothing shows whether splits share speakers"
            } else {
                "no column of speakers (--speaker COLUMN): rows are split one by one, and splits may share speakers"
            });
        }
        match (no_label, no_text) {
            (true, true) => {
                add("no column of labels (--label COLUMN) and none of transcripts (--text COLUMN): no task can learn from this");
            }
            (true, false) => add("no column of labels (--label COLUMN): only tasks of transcripts can learn from this"),
            _ => {}
        }
    }
}

/// Columns of a sheet with some of their values.
fn found(sheet: &Sheet) -> Vec<Found<'_>> {
    const LOOKED_AT: usize = 1_000;
    let values = |name: &str| {
        let records = sheet.rows.iter().flatten().take(LOOKED_AT);
        records.filter_map(|record| record.fields.get(name)).map(|value| value.trim()).filter(|value| !value.is_empty()).collect()
    };
    sheet.columns.iter().map(|name| Found { name, values: values(name) }).collect()
}

fn stem(path: &str) -> &str {
    path.rsplit_once('.').filter(|(_, extension)| !extension.contains('/')).map_or(path, |(stem, _)| stem)
}

#[cfg(test)]
mod tests;
