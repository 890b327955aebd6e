//! The list of recordings that a model is to answer: files, folders and tables become lines of JSON.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use audio::stream::Wanted;
use datasets::table::{FORMATS, Table, Tables, is_recording, is_usual_table, may_be_recording};
use datasets::{Cause, Corpus};
use pipeline::Stop;

use crate::commands::tables::ColumnArgs;
use crate::console::say;
use crate::problem::problem;

/// Folders inside each other that are looked into.
const DEEPEST: usize = 32;

/// Writes the list, in the order of the inputs, each folder in order of its names.
///
/// Errors: an input that is not there or is no recording; a folder without any; a table that cannot be read.
pub(super) fn write_list(path: &Path, inputs: &[PathBuf], columns: &ColumnArgs, stop: &Stop) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot write `{}`", path.display()))?;
    let mut list = List { file: BufWriter::new(file), count: 0 };
    for input in inputs {
        let before = list.count;
        let extension = input.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_lowercase();
        if !input.exists() {
            return Err(problem(format!("no file or folder `{}`", input.display()), "name recordings, folders or tables"));
        }
        if input.is_dir() {
            let tables = table_in(input);
            if tables {
                list.table(input, &[], columns)?;
            } else {
                list.folder(input, 0, stop)?;
            }
            if list.count == before {
                let hint = "it should contain recordings (.wav, .flac, .mp3, .m4a, .ogg, ...) or a table of them (table.csv)";
                return Err(problem(format!("no recordings in `{}`", input.display()), hint));
            }
        } else if FORMATS.contains(&extension.as_str()) {
            let folder = input.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let name = input.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            list.table(folder, &[name], columns)?;
        } else if may_be_recording(&input.to_string_lossy()) {
            list.push(&recording(input))?;
        } else {
            let hint =
                "name recordings (.wav, .flac, .mp3, .m4a, .ogg, ...), folders of them, or tables (.csv, .jsonl, .parquet)";
            return Err(problem(format!("`{}` is no recording", input.display()), hint));
        }
    }
    list.file.flush().with_context(|| format!("cannot write `{}`", path.display()))
}

/// True if a folder has a table by its usual name, or tables in shards.
fn table_in(folder: &Path) -> bool {
    let names = fs::read_dir(folder).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let names: BTreeSet<String> = names.collect();
    names.iter().any(|name| is_usual_table(name) || name == "wav.scp")
}

fn recording(path: &Path) -> Wanted {
    let full = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    Wanted { id: path.display().to_string(), path: full, row: None, start: None, num_samples: None }
}

struct List {
    file: BufWriter<File>,
    count: u64,
}

impl List {
    fn push(&mut self, wanted: &Wanted) -> Result<()> {
        self.count += 1;
        writeln!(self.file, "{}", serde_json::to_string(wanted)?).context("cannot write the list of recordings")
    }

    /// Adds the recordings of a folder and of those inside.
    fn folder(&mut self, folder: &Path, depth: usize, stop: &Stop) -> Result<()> {
        if depth > DEEPEST || stop.requested() {
            return Ok(());
        }
        let entries = fs::read_dir(folder).with_context(|| format!("cannot list `{}`", folder.display()))?;
        let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<BTreeSet<_>>>();
        for path in paths.with_context(|| format!("cannot list `{}`", folder.display()))? {
            if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
                continue;
            }
            if path.is_dir() {
                self.folder(&path, depth + 1, stop)?;
            } else if is_recording(&path.to_string_lossy()) {
                self.push(&recording(&path))?;
            }
        }
        Ok(())
    }

    /// Adds the rows of tables in a folder. Rows without a recording are told of.
    fn table(&mut self, folder: &Path, tables: &[String], columns: &ColumnArgs) -> Result<()> {
        let reader = Tables { tables: tables.to_vec(), columns: columns.names(&Table)? };
        let listing = reader.list(folder, &reader.protocols()[0])?;
        for skipped in listing.skipped.iter().filter(|skipped| skipped.cause != Cause::Extra) {
            say!("left out: {}: {}", skipped.path, skipped.reason);
        }
        let root = folder.canonicalize().with_context(|| format!("cannot open `{}`", folder.display()))?;
        for utterance in listing.utterances {
            self.push(&Wanted {
                id: utterance.id,
                path: root.join(&utterance.path),
                row: utterance.embedded,
                start: utterance.span.map(|span| span.start),
                num_samples: utterance.span.map(|span| span.num_samples),
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_a_table_is_a_table() {
        let folder = std::env::temp_dir().join(format!("sure-predict-test.{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("a.wav"), "").unwrap();
        assert!(!table_in(&folder));
        fs::write(folder.join("metadata.csv"), "").unwrap();
        assert!(table_in(&folder));
        fs::remove_dir_all(&folder).unwrap();
    }
}
