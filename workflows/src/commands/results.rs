//! The results of a run: links to the last artifacts, and what of them is worth printing.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pipeline::memo::End;
use pipeline::store::Store;

use crate::settings::Settings;

/// Makes `results/<workflow>/<stage>` (`<node>` when it has several) point to the artifacts that nothing else uses.
pub(crate) fn link_results(workflow: &str, ends: &[End], settings: &Settings, store: &Store) -> Result<Vec<PathBuf>> {
    let folder = settings.results.join(workflow);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    let mut links = vec![];
    for end in ends {
        let link = folder.join(end.name.replace('/', "_")); // a value of the matrix may hold a path
        let target = store.path(end.artifact);
        if fs::read_link(&link).ok().as_deref() != Some(&*target) {
            let aside = folder.join(format!(".new.{}", std::process::id()));
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
