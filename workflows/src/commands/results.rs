//! The results of a run: links to the last artifacts, and what of them is worth printing.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use petgraph::Direction;
use pipeline::run::Summary;

use crate::opening::Opening;

/// Makes `results/<workflow>/<node>` point to the artifacts that nothing else uses.
pub(crate) fn link_results(opening: &Opening, summary: &Summary) -> Result<Vec<PathBuf>> {
    let (workflow, folder) = (&opening.workflow, opening.settings.results.join(&opening.workflow.name));
    let mut links = vec![];
    for node in &workflow.order {
        let used = workflow.graph.neighbors_directed(*node, Direction::Outgoing).any(|next| summary.artifacts.contains_key(&next));
        if used {
            continue;
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
        let link = folder.join(&workflow.graph[*node].id);
        let target = opening.store.path(summary.artifacts[node]);
        if fs::read_link(&link).ok().as_deref() != Some(&*target) {
            let aside = folder.join(format!(".{}.{}", workflow.graph[*node].stage, std::process::id()));
            let _ = fs::remove_file(&aside); // of a run that was killed right here
            symlink(&target, &aside).and_then(|()| fs::rename(&aside, &link)).with_context(|| format!("cannot write `{}`", link.display()))?;
        }
        links.push(link);
    }
    Ok(links)
}

/// Prints tables, and where pictures and pages lie.
pub(crate) fn print_results(links: &[PathBuf]) -> Result<()> {
    let mut out = io::stdout().lock();
    for link in links {
        let table = link.join("table.txt");
        if table.is_file() {
            let text = fs::read_to_string(&table).with_context(|| format!("cannot read `{}`", table.display()))?;
            writeln!(out, "{}", text.trim_end())?;
        }
        for path in shown(link) {
            writeln!(out, "{}", relative(&path).display())?;
        }
    }
    Ok(())
}

/// The pages and pictures of a folder, pages first; the folder itself when it has none.
fn shown(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let wanted = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "html" || ending == "png" || ending == "md");
    let mut files: Vec<PathBuf> = entries.filter(wanted).collect();
    files.sort_by_key(|path| (path.extension().map(std::ffi::OsStr::to_owned), path.clone()));
    if files.is_empty() { vec![folder.to_owned()] } else { files }
}

fn relative(path: &Path) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).map_or_else(|_| path.to_owned(), Path::to_owned)
}
