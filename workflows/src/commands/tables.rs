//! Tables that are named on the command line, for the corpus `table`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use datasets::Corpus;
use datasets::table::{ACCEPTED, ColumnNames, Table, Tables};

use crate::console::tell;
use crate::problem::problem;

/// Columns of a table that have other names than the usual ones.
#[derive(Args, Clone, Default)]
pub(crate) struct ColumnArgs {
    /// Column of `table` with the paths of the recordings
    #[arg(long, value_name = "COLUMN")]
    path: Option<String>,
    /// Column of `table` with the class; several separated by commas: a group for each
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    label: Vec<String>,
    /// Column of `table` with the speaker
    #[arg(long, value_name = "COLUMN")]
    speaker: Option<String>,
    /// Column of `table` with the transcript
    #[arg(long, value_name = "COLUMN")]
    text: Option<String>,
    /// Column of `table` with the split
    #[arg(long, value_name = "COLUMN")]
    split: Option<String>,
    /// Column of `table` with the begin of a stretch: seconds, or samples if its name ends in `_samples`
    #[arg(long, value_name = "COLUMN")]
    start: Option<String>,
    /// Column of `table` with the end of a stretch
    #[arg(long, value_name = "COLUMN")]
    end: Option<String>,
    /// Column of `table` with the duration of a stretch
    #[arg(long, value_name = "COLUMN")]
    duration: Option<String>,
    /// Columns of `table` that are tags, whatever their names look like
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    tag: Vec<String>,
}

impl ColumnArgs {
    /// Columns that are named.
    ///
    /// Errors: the corpus has no table.
    pub(super) fn names(&self, corpus: &dyn Corpus) -> Result<ColumnNames> {
        let Self { path, label, speaker, text, split, start, end, duration, tag } = self.clone();
        let names = ColumnNames { path, label, speaker, text, split, start, end, duration, tag };
        if !names.is_empty() && corpus.name() != Table.name() {
            let hint = format!(
                "leave out --path, --label and the like, or read the recordings as `table` instead of `{}`",
                corpus.name()
            );
            return Err(problem(format!("`{}` is not read from a table of yours", corpus.name()), hint));
        }
        Ok(names)
    }
}

/// Prints the names of columns that are known, with an example.
pub(super) fn describe() {
    tell!("columns (in any order and any case; `_`, space and `-` are the same):");
    for (meaning, names) in ACCEPTED {
        tell!("  {meaning:<8} {}", names.join(", "));
    }
    tell!("  begin    start, start_time, begin, offset, onset, ... in seconds; start_ms, start_samples in other units");
    tell!("  end      end, end_time, stop, ... or duration, dur, num_samples");
    tell!(
        "Every other column is a tag. --path, --label, --speaker, --text, --split, --start, --end, --duration and --tag name columns."
    );
    tell!("splits: train (training), dev (valid, validation, val, development), test (testing)");
    tell!("example table.csv:");
    for line in
        ["path,split,speaker,label,text", "clips/0001.wav,train,anna,yes,\"Yes, of course.\"", "clips/0002.wav,test,bob,no,No."]
    {
        tell!("  {line}");
    }
}

/// Reader of tables or columns that are named; none if nothing is named.
pub(super) fn named(corpus: &dyn Corpus, root: &Path, tables: &[PathBuf], columns: &ColumnArgs) -> Result<Option<Tables>> {
    let (tables, columns) = (in_corpus(corpus, root, tables)?, columns.names(corpus)?);
    Ok(if tables.is_empty() && columns.is_empty() { None } else { Some(Tables { tables, columns }) })
}

/// Tables by their paths in the corpus.
pub(super) fn in_corpus(corpus: &dyn Corpus, root: &Path, tables: &[PathBuf]) -> Result<Vec<String>> {
    if !tables.is_empty() && corpus.name() != "table" {
        let hint = format!("leave out --table, or read the recordings as `table` instead of `{}`", corpus.name());
        return Err(problem(format!("`{}` is not read from a table of yours", corpus.name()), hint));
    }
    tables.iter().map(|table| below(root, table)).collect()
}

/// A table by its path in the corpus.
fn below(root: &Path, table: &Path) -> Result<String> {
    let full_root = root.canonicalize().with_context(|| format!("cannot open `{}`", root.display()))?;
    let Ok(full) = root.join(table).canonicalize().or_else(|_| table.canonicalize()) else {
        let hint = format!("looked for it in `{}` and here", root.display());
        return Err(problem(format!("no table `{}`", table.display()), hint));
    };
    let inner = full.strip_prefix(&full_root).ok().and_then(|inner| inner.to_str()).map(str::to_owned);
    inner.ok_or_else(|| {
        let message = format!("the table `{}` is not below `{}`", table.display(), root.display());
        problem(message, "paths in a table are relative to --root, and the table should lie there too")
    })
}
