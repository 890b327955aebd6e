//! The results of a run: links to the last artifacts, and what of them is worth printing.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use petgraph::Direction;
use pipeline::run::Summary;

use crate::opening::Opening;

/// Makes `results/<workflow>/<stage>` (`<node>` when it has several) point to the artifacts that nothing else uses.
pub(crate) fn link_results(opening: &Opening, summary: &Summary) -> Result<Vec<PathBuf>> {
    let (workflow, folder) = (&opening.workflow, opening.settings.results.join(&opening.workflow.name));
    let mut links = vec![];
    for node in &workflow.order {
        let used =
            workflow.graph.neighbors_directed(*node, Direction::Outgoing).any(|next| summary.artifacts.contains_key(&next));
        if used {
            continue;
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
        let (id, stage) = (&workflow.graph[*node].id, &workflow.graph[*node].stage);
        let alone = workflow.order.iter().filter(|other| workflow.graph[**other].stage == *stage).count() == 1;
        let link = folder.join(if alone { stage.as_ref() } else { id });
        let target = opening.store.path(summary.artifacts[node]);
        if fs::read_link(&link).ok().as_deref() != Some(&*target) {
            let aside = folder.join(format!(".{stage}.{}", std::process::id()));
            let _ = fs::remove_file(&aside); // of a run that was killed right here
            symlink(&target, &aside)
                .and_then(|()| fs::rename(&aside, &link))
                .with_context(|| format!("cannot write `{}`", link.display()))?;
        }
        links.push(link);
    }
    Ok(links)
}

/// Prints tables, and where pictures and pages lie.
pub(crate) fn print_results(links: &[PathBuf]) -> Result<()> {
    let mut out = io::stdout().lock();
    let bare = |link: &&PathBuf| shown(link).is_empty();
    if let Some(folder) = links.iter().find(bare).and_then(|link| link.parent()) {
        writeln!(out, "{}", relative(folder).display())?;
    }
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

/// The pages and pictures of a folder, pages first.
fn shown(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let wanted = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "html" || ending == "png" || ending == "md");
    let mut files: Vec<PathBuf> = entries.filter(wanted).collect();
    files.sort_by_key(|path| (path.extension().map(std::ffi::OsStr::to_owned), path.clone()));
    files
}

fn relative(path: &Path) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).map_or_else(|_| path.to_owned(), Path::to_owned)
}
