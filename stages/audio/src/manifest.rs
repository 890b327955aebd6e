//! The stage `corpus.manifest`: lists a corpus, and gives each utterance the digest of its recording.
//!
//! It reads no audio: the engine has hashed the files. The list is split into parts by a stable hash of the utterance id, so
//! that a changed recording changes one part, and with it one shard. The artifact:
//!
//! ```text
//! labels.json                        the classes, in the order of their indices: ["off","up",...]
//! classes.json                       the same for whatever else can be told apart: {"speaker":[...],"action":[...]}
//! corpus.json                        name, protocol, licence, utterances per split and label, skipped, unused
//! skipped.jsonl                      {"path":...,"reason":...}
//! parts/00000/utterances.jsonl       one Entry per line, sorted by id; every part is there, some may be empty
//! parts/00000/place.json             what the part is of: {"place":"corpora.fsdd","corpus":"fsdd","protocol":...,"licence":...}
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use datasets::parquet_file::ParquetFileError;
use datasets::table::{ColumnNames, Tables};
use datasets::{Annotation, Cause, Corpus, CorpusError, Listing, Protocol, Split, Utterance};
use pipeline::source::{SourceNeed, Tree};
use pipeline::{Digest, Job, Slot, Stage, StageError};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Lists a corpus: utterances with split, label, speaker, transcript and the digest of each recording.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The corpus, by the name of its reader: `fsdd`, `speech_commands`. Its folder is the place `corpora.<corpus>` of the
    /// machine's settings.
    pub corpus: String,
    /// How the corpus is split and labelled, for example `gsc-v2-11`. The reader's first protocol when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Tables of the corpus `table` that are not named `table`, `metadata` or as a split: relative to its folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<String>,
    /// Columns of the tables of the corpus `table` that have other names than the usual ones (`sure list table`), for example
    /// `{ label = ["accent"], text = "words" }`: `path`, `label`, `speaker`, `text`, `split`, `start`, `end`, `duration`, `tag`.
    #[serde(default, skip_serializing_if = "ColumnNames::is_empty")]
    pub columns: ColumnNames,
    /// Largest share of recordings that a copy may lack, 0 to 1; a copy that lacks more, or has an empty split, is an error.
    /// Default: a copy may lack any share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_missing_share: Option<f64>,
    /// Number of parts that the list is split into. Each part is decoded by a node of its own; a changed recording reruns one.
    pub partitions: u32,
}

/// The most parts a list may be split into.
const MAX_PARTITIONS: u32 = 100_000;

impl Stage for Manifest {
    const KIND: &'static str = "corpus.manifest";
    const VERSION: u32 = 6;
    const ABOUT: &'static str = "lists a corpus: utterances with splits, labels and the digest of each recording";

    fn slots() -> Vec<Slot> {
        Vec::new()
    }

    fn outputs(&self) -> Vec<String> {
        ["classes.json", "corpus.json", "labels.json", "skipped.jsonl"].map(str::to_owned).to_vec()
    }
    fn check(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        match datasets::find(&self.corpus) {
            None => {
                let known: Vec<_> = datasets::ALL.iter().map(|corpus| corpus.name()).collect();
                mistakes.push(("corpus", format!("no reader for corpus `{}`, only for {}", self.corpus, known.join(", "))));
            }
            Some(corpus) => {
                if let Err(error) = corpus.protocol(self.protocol.as_deref()) {
                    mistakes.push(("protocol", error.to_string()));
                }
            }
        }
        if !self.tables.is_empty() && self.corpus != "table" {
            mistakes.push(("tables", format!("only the corpus `table` has tables to be named, not `{}`", self.corpus)));
        }
        if !self.columns.is_empty() && self.corpus != "table" {
            mistakes.push(("columns", format!("only the corpus `table` has columns to be named, not `{}`", self.corpus)));
        }
        if let Some(share) = self.max_missing_share.filter(|share| !(0.0..=1.0).contains(share)) {
            mistakes.push(("max_missing_share", format!("expected a share of 0 to 1, found {share}")));
        }
        if !(1..=MAX_PARTITIONS).contains(&self.partitions) {
            mistakes.push(("partitions", format!("expected 1 to {MAX_PARTITIONS}, found {}", self.partitions)));
        }
        mistakes
    }

    fn sources(&self) -> Vec<SourceNeed> {
        let Ok((corpus, protocol)) = self.reader() else { return Vec::new() };
        vec![SourceNeed { place: self.place(), wants: Box::new(move |path| corpus.get().wants(protocol, path)) }]
    }

    fn partitions(&self) -> Option<u32> {
        Some(self.partitions)
    }
}

impl Manifest {
    fn place(&self) -> String {
        format!("corpora.{}", self.corpus)
    }

    fn reader(&self) -> Result<(Reader, &'static Protocol), ManifestError> {
        let corpus = datasets::find(&self.corpus).ok_or_else(|| ManifestError::NoReader { corpus: self.corpus.clone() })?;
        let protocol = corpus.protocol(self.protocol.as_deref())?;
        let reader = if self.tables.is_empty() && self.columns.is_empty() {
            Reader::Known(corpus)
        } else {
            Reader::Tables(Tables { tables: self.tables.clone(), columns: self.columns.clone() })
        };
        Ok((reader, protocol))
    }
}

/// Reader of the corpus.
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
enum Reader {
    Known(&'static dyn Corpus),
    Tables(Tables),
}

impl Reader {
    fn get(&self) -> &dyn Corpus {
        match self {
            Self::Known(corpus) => *corpus,
            Self::Tables(tables) => tables,
        }
    }
}

/// A corpus that gives no manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// No reader of that name.
    #[error("no reader for corpus `{corpus}`")]
    NoReader {
        /// The name asked for.
        corpus: String,
    },
    /// The corpus cannot be read.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// The reader found nothing of use.
    #[error("corpus `{corpus}` has no utterance for protocol `{protocol}`: {skipped} files were skipped, the first: {first}")]
    Empty {
        /// The corpus.
        corpus: &'static str,
        /// The protocol.
        protocol: &'static str,
        /// How many files were skipped.
        skipped: usize,
        /// The first of them, with its reason.
        first: String,
    },
    /// The copy lacks recordings.
    #[error(
        "the copy of `{corpus}` lacks {missing} of {total} recordings, more than the allowed share of {allowed}; the first: {first}"
    )]
    Incomplete {
        /// Name of the corpus.
        corpus: &'static str,
        /// Number of recordings that are missing, or of rows that cannot be used.
        missing: u64,
        /// Number of recordings that there should be.
        total: u64,
        /// The parameter `max_missing_share`.
        allowed: f64,
        /// The first of them, with its reason.
        first: String,
    },
    /// A split that should have utterances has none.
    #[error("the {split} set of `{corpus}` is empty, though the published one has {expected} utterances")]
    EmptySplit {
        /// Name of the corpus.
        corpus: &'static str,
        /// Name of the split.
        split: Split,
        /// Utterances of the published split.
        expected: u64,
    },
    /// A table of recordings cannot be read.
    #[error(transparent)]
    Table(#[from] ParquetFileError),
    /// A file of a manifest is not as this stage writes it.
    #[error("line {line} of `{path}` is not as a manifest has it")]
    Line {
        /// The file.
        path: std::path::PathBuf,
        /// Counted from 1.
        line: usize,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
}

/// A line of `utterances.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Id, unique in the corpus.
    pub id: String,
    /// Path of the recording, relative to the corpus folder.
    pub path: String,
    /// BLAKE3 digest of the recording.
    pub digest: Digest,
    /// Size of the recording in bytes.
    pub size: u64,
    /// Row of the table at `path`, counted from 0, if the recording is in the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<u64>,
    /// Split.
    pub split: Split,
    /// Labels, texts and tags.
    #[serde(flatten)]
    pub annotation: Annotation,
    /// First sample of the utterance in the recording, at the recording's rate. Absent with `num_samples` for a whole recording.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<u64>,
    /// Number of samples of the recording.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_samples: Option<u64>,
}

impl Entry {
    /// Path of the recording for people: with the row, if it is in a table.
    pub fn shown_path(&self) -> String {
        match self.row {
            Some(row) => format!("{}#{row}", self.path),
            None => self.path.clone(),
        }
    }
}

/// Content of `place.json` of a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The place that the recordings are in.
    pub place: String,
    /// The reader.
    pub corpus: String,
    /// The protocol, never absent here.
    pub protocol: String,
    /// The licence of the recordings.
    pub licence: String,
}

/// What `corpus.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The reader.
    pub corpus: String,
    /// Where the corpus comes from.
    pub about: String,
    /// The protocol, never absent here.
    pub protocol: String,
    /// The licence of the recordings.
    pub licence: String,
    /// Split -> utterances.
    pub splits: BTreeMap<String, u64>,
    /// Label -> split -> utterances; labels sorted by name.
    pub labels: BTreeMap<String, BTreeMap<String, u64>>,
    /// Files left out, listed in `skipped.jsonl`.
    pub skipped: u64,
    /// Sound recordings the protocol has no use for: why -> how many.
    pub unused: BTreeMap<String, u64>,
}

/// The part of an utterance: the first eight bytes of the BLAKE3 hash of its id, little endian, modulo the number of parts.
pub fn partition_of(id: &str, partitions: u32) -> u32 {
    let hash = blake3::hash(id.as_bytes());
    let head: [u8; 8] = hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes");
    (u64::from_le_bytes(head) % u64::from(partitions)) as u32
}

/// The folder of a part inside the artifact.
pub fn part_folder(partition: u32) -> String {
    format!("parts/{partition:05}")
}

/// The body of the stage.
///
/// Errors: a corpus that cannot be read or has no utterance; [`StageError::SourceChanged`] when the reader lists a recording
/// that the engine has not hashed.
pub fn run(params: &Manifest, job: &Job) -> Result<(), StageError> {
    let (reader, protocol) = params.reader().map_err(StageError::failed)?;
    let corpus = reader.get();
    let place = params.place();
    let tree = job.sources.get(&place).ok_or(StageError::NoPlace { place })?;
    let listing = corpus.list(&tree.root, protocol).map_err(|error| explain(error, &params.corpus, &tree.root))?;
    if listing.utterances.is_empty() {
        let first = listing.skipped.first().map_or_else(|| "none".to_owned(), |s| format!("{}: {}", s.path, s.reason));
        let (corpus, protocol, skipped) = (corpus.name(), protocol.name, listing.skipped.len());
        return Err(StageError::failed(ManifestError::Empty { corpus, protocol, skipped, first }));
    }
    let summary = summarise(corpus, protocol, &listing);
    warn(&summary, &listing, job);
    if let Some(allowed) = params.max_missing_share {
        require_complete(corpus, protocol, &listing, allowed)?;
    }

    write_json(&job.out.join("labels.json"), &listing.labels)?;
    write_json(&job.out.join("classes.json"), &listing.classes)?;
    write_json(&job.out.join("corpus.json"), &summary)?;
    write_lines(&job.out.join("skipped.jsonl"), &listing.skipped)?;
    let total = listing.utterances.len() as u64;
    let mut parts: Vec<Vec<Entry>> = vec![Vec::new(); params.partitions as usize];
    let embedded = embedded(&listing, tree)?;
    for utterance in listing.utterances {
        let part = partition_of(&utterance.id, params.partitions);
        parts[part as usize].push(entry(utterance, tree, &embedded)?);
    }
    let (corpus, protocol, licence) = (corpus.name().to_owned(), protocol.name.to_owned(), corpus.licence().to_owned());
    let origin = Origin { place: params.place(), corpus, protocol, licence };
    write_parts(&job.out, &parts, &origin, job.threads)?;
    job.progress.tick(total, total, "utterances", "");
    Ok(())
}

/// Writes the folders of all parts. With `n` threads, each writes every `n`th folder.
fn write_parts(out: &Path, parts: &[Vec<Entry>], origin: &Origin, threads: usize) -> Result<(), StageError> {
    let write = |part: usize| {
        let folder = out.join(part_folder(part as u32));
        fs::create_dir_all(&folder).map_err(StageError::io("create", &folder))?;
        write_lines(&folder.join("utterances.jsonl"), &parts[part])?;
        write_json(&folder.join("place.json"), origin)
    };
    let threads = threads.clamp(1, parts.len());
    std::thread::scope(|scope| {
        let start = |first: usize| scope.spawn(move || (first..parts.len()).step_by(threads).try_for_each(&write));
        let started: Vec<_> = (1..threads).map(start).collect();
        let here = (0..parts.len()).step_by(threads).try_for_each(&write);
        let joined = started.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.fold(here, Result::and)
    })
}

/// Reads the entries of one part.
///
/// Errors: a file that cannot be read, or a line that is not an entry.
pub fn read_entries(part: &Path) -> Result<Vec<Entry>, StageError> {
    let path = part.join("utterances.jsonl");
    let text = fs::read_to_string(&path).map_err(StageError::io("read", &path))?;
    let parse = |(index, line)| {
        serde_json::from_str(line)
            .map_err(|source| StageError::failed(ManifestError::Line { path: path.clone(), line: index + 1, source }))
    };
    text.lines().enumerate().map(parse).collect()
}

/// Reads `labels.json`: the classes in the order of their indices.
///
/// Errors: a file that cannot be read or is not a list of names.
pub fn read_labels(path: &Path) -> Result<Vec<String>, StageError> {
    read_json(path)
}

/// Reads what a part is of.
///
/// Errors: a file that cannot be read or is not as expected.
pub fn read_origin(part: &Path) -> Result<Origin, StageError> {
    read_json(&part.join("place.json"))
}

/// Reads `corpus.json`.
///
/// Errors: a file that cannot be read or is not as expected.
pub fn read_summary(path: &Path) -> Result<Summary, StageError> {
    read_json(path)
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, StageError> {
    let bytes = fs::read(path).map_err(StageError::io("read", path))?;
    serde_json::from_slice(&bytes).map_err(|source| {
        let line = source.line();
        StageError::failed(ManifestError::Line { path: path.to_owned(), line, source })
    })
}

fn explain(error: CorpusError, name: &str, root: &Path) -> StageError {
    let hint = match &error {
        CorpusError::NoRoot { .. } | CorpusError::Missing { .. } | CorpusError::Empty { .. } => {
            if let Some(other) = datasets::recognise(root, name) {
                format!("this folder looks like the corpus `{other}`")
            } else if matches!(error, CorpusError::Empty { first: Some(_), .. }) {
                return StageError::failed(error);
            } else {
                format!(
                    "the folder that holds the corpus is given by `--root` (sure prepare), by `--corpus {name}=FOLDER` (sure run) \
                     or by `{name} = \"FOLDER\"` in `[corpora]` of sure.toml"
                )
            }
        }
        CorpusError::Malformed { problem, .. } if name == "table" && problem.contains("--") => {
            "options such as --path are those of `sure init` and `sure prepare`; a workflow names columns itself: `columns.path = \"file\"` \
             below `[stages.manifest]`"
                .to_owned()
        }
        CorpusError::Version { .. } => "choose the protocol of the version you have, or fetch the other version".to_owned(),
        _ => return StageError::failed(error),
    };
    StageError::failed(error).with_hint(hint)
}

/// Number of recordings that a copy lacks, and the first of them. Miniatures lack some on purpose. Of a table, rows that cannot be
/// used are missing too.
fn missing(corpus: &str, listing: &Listing) -> (u64, Option<String>) {
    if listing.is_synthetic {
        return (0, None);
    }
    let is_missing = |cause| cause == Cause::Missing || (cause == Cause::Unusable && corpus == "table");
    let mut gone = listing.skipped.iter().filter(|skipped| is_missing(skipped.cause)).peekable();
    let first = gone.peek().map(|skipped| format!("{}: {}", skipped.path, skipped.reason));
    let unlisted: u64 = Split::ALL
        .iter()
        .map(|&split| listing.expected.map_or(0, |expected| expected[split as usize].saturating_sub(listing.count(split))))
        .sum();
    ((gone.count() as u64).max(unlisted), first)
}

/// Errors: a copy that lacks more than the allowed share, or a published split without an utterance.
fn require_complete(reader: &dyn Corpus, protocol: &Protocol, listing: &Listing, allowed: f64) -> Result<(), StageError> {
    let corpus = reader.name();
    let hint =
        "add what is missing, or accept the copy as it is: `--allow-incomplete` (`--max-rejects SHARE` allows a larger share)";
    // Published sizes do not apply to a miniature, but the splits of the first protocol do.
    let is_first = reader.protocols()[0].name == protocol.name;
    let published = listing.expected.or(protocol.expected.filter(|_| is_first));
    for split in Split::ALL {
        let expected = published.map_or(0, |expected| expected[split as usize]);
        if expected > 0 && listing.count(split) == 0 {
            return Err(StageError::failed(ManifestError::EmptySplit { corpus, split, expected }).with_hint(hint));
        }
    }
    let (missing, first) = missing(corpus, listing);
    let total = listing.utterances.len() as u64 + missing;
    if missing as f64 <= allowed * total as f64 {
        return Ok(());
    }
    let first = first.unwrap_or_else(|| "see the published sizes (`sure corpus check`)".to_owned());
    Err(StageError::failed(ManifestError::Incomplete { corpus, missing, total, allowed, first }).with_hint(hint))
}

/// Digests and sizes of recordings in tables, by table and row.
type Embedded = BTreeMap<(String, u64), (Digest, u64)>;

/// Reads the digests and sizes of the recordings that are in tables.
fn embedded(listing: &Listing, tree: &Tree) -> Result<Embedded, StageError> {
    /// Rows that are in memory at once.
    const ROWS: usize = 256;
    let mut rows: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for utterance in &listing.utterances {
        if let Some(row) = utterance.embedded {
            rows.entry(&utterance.path).or_default().push(row);
        }
    }
    let mut found = BTreeMap::new();
    for (table, mut rows) in rows {
        rows.sort_unstable();
        for rows in rows.chunks(ROWS) {
            let clips = datasets::table::embedded(&tree.root.join(table), rows).map_err(StageError::failed)?;
            for (&row, bytes) in rows.iter().zip(clips) {
                found.insert((table.to_owned(), row), (Digest::of(&bytes), bytes.len() as u64));
            }
        }
    }
    Ok(found)
}

fn entry(utterance: Utterance, tree: &Tree, embedded: &BTreeMap<(String, u64), (Digest, u64)>) -> Result<Entry, StageError> {
    let Some(file) = tree.find(&utterance.path) else {
        return Err(StageError::SourceChanged { path: tree.root.join(utterance.path) });
    };
    let row = utterance.embedded.and_then(|row| embedded.get(&(utterance.path.clone(), row)));
    let (digest, size) = row.copied().unwrap_or((file.digest, file.size));
    Ok(Entry {
        id: utterance.id,
        path: utterance.path,
        digest,
        size,
        row: utterance.embedded,
        split: utterance.split,
        start: utterance.span.map(|span| span.start),
        num_samples: utterance.span.map(|span| span.num_samples),
        annotation: utterance.annotation,
    })
}

fn summarise(corpus: &dyn Corpus, protocol: &Protocol, listing: &Listing) -> Summary {
    let splits = Split::ALL.map(|split| (split.name().to_owned(), listing.count(split)));
    let mut labels: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for name in &listing.labels {
        labels.insert(name.clone(), Split::ALL.map(|split| (split.name().to_owned(), 0)).into());
    }
    for utterance in &listing.utterances {
        let counts = utterance.annotation.label.as_ref().and_then(|label| labels.get_mut(label));
        if let Some(count) = counts.and_then(|counts| counts.get_mut(utterance.split.name())) {
            *count += 1;
        }
    }
    Summary {
        corpus: corpus.name().to_owned(),
        about: corpus.about().to_owned(),
        protocol: protocol.name.to_owned(),
        licence: corpus.licence().to_owned(),
        splits: splits.into(),
        labels,
        skipped: listing.skipped.len() as u64,
        unused: listing.unused.clone(),
    }
}

/// Reports what a person should know: how a table was read, what was left out and why, and sizes that differ from the published.
fn warn(summary: &Summary, listing: &Listing, job: &Job) {
    /// Kinds of problems that are reported; the rest is in `skipped.jsonl`.
    const SHOWN: usize = 8;
    for note in &listing.notes {
        job.progress.note(note);
    }
    for warning in &listing.warnings {
        job.progress.note(&format!("warning: {warning}"));
    }
    if let Some(first) = listing.skipped.first() {
        let files = if listing.skipped.len() == 1 { "file or row" } else { "files and rows" };
        job.progress.note(&format!(
            "{} {files} skipped, see skipped.jsonl; the first: {}: {}",
            listing.skipped.len(),
            first.path,
            first.reason
        ));
        let mut kinds: BTreeMap<String, (usize, &datasets::Skipped)> = BTreeMap::new();
        for skipped in &listing.skipped {
            kinds.entry(kind_of(&skipped.reason)).or_insert((0, skipped)).0 += 1;
        }
        if kinds.len() > 1 {
            for (count, first) in kinds.values().take(SHOWN) {
                job.progress.note(&format!("skipped: {count} like {}: {}", first.path, first.reason));
            }
        }
    }
    let Some(expected) = listing.expected else { return };
    let found = Split::ALL.map(|split| listing.count(split));
    if found != expected {
        let line = |counts: [u64; 3]| format!("{} train, {} dev, {} test", counts[0], counts[1], counts[2]);
        job.progress.note(&format!(
            "protocol `{}` has {} utterances as published, found {}",
            summary.protocol,
            line(expected),
            line(found)
        ));
    }
}

/// Reason without the names in it: the kind of problem.
fn kind_of(reason: &str) -> String {
    reason.split('`').step_by(2).collect::<Vec<_>>().join("_").replace(|letter: char| letter.is_ascii_digit(), "")
}

/// Writes one JSON value, indented, with a newline at the end.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), StageError> {
    let mut text = serde_json::to_string_pretty(value).expect("plain structs with text keys always serialise");
    text.push('\n');
    fs::write(path, text).map_err(StageError::io("write", path))
}

/// Writes one JSON value per line.
fn write_lines<T: Serialize>(path: &Path, values: &[T]) -> Result<(), StageError> {
    let mut file = BufWriter::new(File::create(path).map_err(StageError::io("create", path))?);
    for value in values {
        let line = serde_json::to_string(value).expect("plain structs with text keys always serialise");
        writeln!(file, "{line}").map_err(StageError::io("write", path))?;
    }
    file.flush().map_err(StageError::io("write", path))
}

#[cfg(test)]
mod tests;
