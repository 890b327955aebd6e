//! Tables that are named on the command line, for the corpus `table`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use datasets::Corpus;
use datasets::table::Tables;

use crate::problem::problem;

/// The reader of tables by name; none when none is named.
pub(super) fn named(corpus: &dyn Corpus, root: &Path, tables: &[PathBuf]) -> Result<Option<Tables>> {
    let below = in_corpus(corpus, root, tables)?;
    Ok(if below.is_empty() { None } else { Some(Tables(below)) })
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
