//! `sure results`: links to the final artifacts of a run, and their tables and pages.

mod page;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use pipeline::Digest;
use pipeline::plan_cache::End;
use pipeline::records::RunRow;
use pipeline::store::Store;
use serde::{Deserialize, Serialize};

use crate::artifacts;
use crate::cli::{MachineArgs, Place, Target};
use crate::commands::runs::{find, scores_to_json};
use crate::commands::times;
use crate::console::{fit_stdout, say};
use crate::opening::{Access, Opening, Request, open_store};
use crate::problem::problem;
use crate::settings::{Settings, no_run};

#[derive(Args)]
pub(crate) struct ResultsArgs {
    /// A workflow [default: that of the last run]
    workflow: Option<String>,
    /// The results of an earlier run, by its number
    #[arg(long, value_name = "N", conflicts_with = "workflow")]
    run: Option<i64>,
    /// Print the scores as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

pub(crate) fn results(args: &ResultsArgs) -> Result<ExitCode> {
    let settings = Settings::load(&args.machine, &[])?;
    if args.run.is_some() || args.json {
        return of_run(args, &settings);
    }
    let last = last_run(&settings, args.workflow.as_deref())?;
    let request: Request = serde_json::from_str(&last.request).context("the record of the last run cannot be read")?;
    let set = request.set.iter().map(|(name, values)| (name.clone(), values.join(","))).collect();
    let place = Place { set, yes: request.large, checkpoint: request.checkpoints, ..place(args) };
    let opening = Opening::new(&Target { workflow: request.workflow, targets: request.targets, place }, Access::Read)?;
    let name = &opening.workflow.name;
    let folder = settings.results.join(name);
    let links = links_in(&folder)?;
    if links.is_empty() {
        let hint = format!("`sure run {name}` makes them; a run that was stopped or failed leaves none");
        return Err(problem(format!("no results of `{name}` in `{}`", folder.display()), hint));
    }
    if let Some(made) = Origin::read(&folder).filter(|made| made.run != last.id) {
        let outcome = last.outcome.as_deref().unwrap_or("not ended");
        say!("note: run {} of `{name}` is `{outcome}`; these are the results of run {}", last.id, made.run);
    }
    let (sound, damaged): (Vec<PathBuf>, Vec<PathBuf>) =
        links.into_iter().partition(|link| is_sound(link, &opening.store).unwrap_or(false));
    print_results(&sound)?;
    for link in &damaged {
        let what = if link.exists() { "was changed or emptied" } else { "was removed from the store" };
        say!("warning: `{}` {what}; `sure run {name}` makes it again", relative(link).display());
    }
    writeln!(io::stdout(), "{}", fit_stdout(&times::table(&opening)?.join("\n")))?;
    Ok(if damaged.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The tables of an earlier run, or its scores as JSON: those that the store still has.
fn of_run(args: &ResultsArgs, settings: &Settings) -> Result<ExitCode> {
    let store = open_store(settings, Access::Read)?;
    let run = match args.run {
        Some(number) => find(&store, number)?,
        None => last_run(settings, args.workflow.as_deref())?,
    };
    let gone = || {
        let message = format!("the store has no results of run {}: it made none, or `sure store gc` removed them", run.id);
        problem(message, "`sure runs --scores` lists runs with their scores")
    };
    if args.json {
        let scores = scores_to_json(&store, run.id)?;
        if scores.as_array().is_none_or(Vec::is_empty) {
            return Err(gone());
        }
        writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&scores)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let tables: Vec<PathBuf> = artifacts::of_run(&store, run.id, "report.")?.into_iter().map(|left| left.folder).collect();
    if tables.is_empty() {
        return Err(gone());
    }
    print_results(&tables)?;
    Ok(ExitCode::SUCCESS)
}

fn place(args: &ResultsArgs) -> Place {
    Place { machine: args.machine.clone(), ..Place::default() }
}

/// The last run in this project, of the workflow or of any.
fn last_run(settings: &Settings, workflow: Option<&str>) -> Result<RunRow> {
    let store = open_store(settings, Access::Read)?;
    let wanted = |row: &RunRow| {
        let asked = serde_json::from_str::<Request>(&row.request).map(|request| request.workflow).unwrap_or_default();
        settings.is_ours(row) && workflow.is_none_or(|workflow| workflow == row.workflow || workflow == asked)
    };
    store.runs(1000)?.into_iter().find(wanted).ok_or_else(|| match workflow {
        Some(workflow) => problem(format!("no run of `{workflow}` in this store"), "`sure runs` lists the runs there are"),
        None => no_run(&store, "`sure list` shows the workflows there are"),
    })
}

/// The links to artifacts in a folder, sorted.
fn links_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        entries => entries.with_context(|| format!("cannot list `{}`", folder.display()))?,
    };
    let is_ours =
        |path: &PathBuf| fs::read_link(path).is_ok_and(|target| target.components().any(|part| part.as_os_str() == "objects"));
    let mut links: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_ours).collect();
    links.sort();
    Ok(links)
}

/// True if the artifact behind a link has the content with which it was published.
fn is_sound(link: &Path, store: &Store) -> Result<bool> {
    let artifact = link.canonicalize().ok().and_then(|target| store.artifact_at(&target));
    Ok(match artifact {
        Some(artifact) => store.usable(artifact, None)?,
        None => link.exists(), // of another store
    })
}

/// The run and the workflow file that a folder of results is from.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// Number of the run.
    pub(crate) run: i64,
    /// Path of the workflow file, or the name of a built-in workflow.
    pub(crate) workflow: String,
}

impl Origin {
    /// Origin of the results of a run that was asked for by a workflow's name or path.
    pub(crate) fn new(run: i64, asked: &str) -> Self {
        let file = Path::new(asked).canonicalize().ok().filter(|path| path.is_file());
        Self { run, workflow: file.map_or_else(|| asked.to_owned(), |path| path.display().to_string()) }
    }

    fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(folder.join(ORIGIN)).ok()?).ok()
    }
}

/// File with the origin of a folder of results.
const ORIGIN: &str = ".run.json";

/// Makes `results/<workflow>/<stage>` (`<node>` when it has several) link to the final artifacts of a run, writes their pages next to
/// them, and removes the links of earlier runs. Links are relative, so that a project can be moved.
pub(crate) fn link_results(
    workflow: &str,
    ends: &[End],
    origin: &Origin,
    settings: &Settings,
    store: &Store,
) -> Result<Vec<PathBuf>> {
    let folder = settings.results.join(workflow);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    if let Some(before) = Origin::read(&folder).filter(|before| before.workflow != origin.workflow) {
        say!(
            "warning: `{}` had results of another workflow of this name, `{}`; they are replaced. Give one of the two another name",
            relative(&folder).display(),
            before.workflow
        );
    }
    let here = folder.canonicalize().with_context(|| format!("cannot open `{}`", folder.display()))?;
    let (mut links, mut new) = (vec![], vec![]);
    for (end, name) in ends.iter().zip(link_names(ends)) {
        let link = folder.join(name);
        let target = path_from(&here, &store.path(end.artifact));
        let is_new = fs::read_link(&link).ok().as_deref() != Some(&*target);
        if is_new {
            let aside = folder.join(format!(".new.{}", std::process::id()));
            let _ = fs::remove_file(&aside); // of a run that was killed right here
            symlink(&target, &aside)
                .and_then(|()| fs::rename(&aside, &link))
                .with_context(|| format!("cannot write `{}`", link.display()))?;
        }
        if is_new || !page::path(&link).is_file() {
            new.push(link.clone());
        }
        links.push(link);
    }
    for stale in links_in(&folder)?.iter().filter(|link| !links.contains(link)) {
        fs::remove_file(stale).with_context(|| format!("cannot remove `{}`", stale.display()))?;
        let _ = fs::remove_file(page::path(stale)); // if it had one
    }
    page::write(&new, origin.run, store)?;
    let path = folder.join(ORIGIN);
    fs::write(&path, serde_json::to_vec(origin)?).with_context(|| format!("cannot write `{}`", path.display()))?;
    store.keep_linked(&settings.results)?;
    Ok(links)
}

/// File names of links, one for each final node: none like another, on file systems that ignore case, too.
fn link_names(ends: &[End]) -> Vec<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for end in ends {
        *counts.entry(end.name.to_lowercase()).or_default() += 1;
    }
    ends.iter().map(|end| link_name(&end.name, counts[&end.name.to_lowercase()] > 1)).collect()
}

/// Bytes of the longest file name without a digest; file systems allow 255.
const LONGEST: usize = 200;

/// File name of a link: the node's name, with `%2F` for `/` and the like. A long name, or one that differs from another only in case,
/// is told apart by a digest.
pub(super) fn link_name(name: &str, is_ambiguous: bool) -> String {
    let mut text = String::new();
    for (at, c) in name.chars().enumerate() {
        if c == '/' || c == '%' || c == '~' || c.is_control() || at == 0 && c == '.' {
            let mut bytes = [0; 4];
            text.extend(c.encode_utf8(&mut bytes).bytes().map(|byte| format!("%{byte:02X}")));
        } else {
            text.push(c);
        }
    }
    if text.len() <= LONGEST && !is_ambiguous {
        return text;
    }
    text.truncate((0..=LONGEST.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0));
    format!("{text}~{}", Digest::of(name.as_bytes()).short())
}

/// Relative path from a folder to another path; both are absolute.
pub(super) fn path_from(folder: &Path, to: &Path) -> PathBuf {
    let common = folder.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = folder.components().skip(common).map(|_| Component::ParentDir);
    up.chain(to.components().skip(common)).collect()
}

/// Prints tables, and the paths of pictures and pages.
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
            writeln!(out, "{}", fit_stdout(&text))?;
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
    let page = page::path(folder);
    if let Some(index) = files.iter_mut().find(|path| path.ends_with(page::INDEX)).filter(|_| page.is_file()) {
        *index = page;
    }
    files
}

pub(super) fn relative(path: &Path) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).map_or_else(|_| path.to_owned(), Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        let end = |name: &&str| End { name: (*name).to_owned(), artifact: Digest::of(b"") };
        link_names(&names.iter().map(end).collect::<Vec<_>>())
    }

    #[test]
    fn links_of_different_nodes_have_different_names() {
        assert_eq!(names(&["table", "score[a=x]#3"]), ["table", "score[a=x]#3"]);
        assert_eq!(names(&["s[a=x/y]", "s[a=x_y]", "s[a=x%2Fy]", ".."]), ["s[a=x%2Fy]", "s[a=x_y]", "s[a=x%252Fy]", "%2E."]);
        let (long, other) = (format!("s[a={}]", "z".repeat(260)), format!("s[a={}y]", "z".repeat(260)));
        let long = names(&[&long, &other, "s[a=é]"]);
        assert!(long[0] != long[1] && long.iter().all(|name| name.len() <= 255), "{long:?}");
        let case = names(&["s[a=X]", "s[a=x]", "t"]);
        assert!(case[0].to_lowercase() != case[1].to_lowercase() && case[2] == "t", "{case:?}");
    }

    #[test]
    fn links_lead_up_to_the_common_folder() {
        let check = |from: &str, to: &str, expected: &str| {
            assert_eq!(path_from(Path::new(from), Path::new(to)), Path::new(expected));
        };
        check("/p/results/w", "/p/.sure/objects/ab/cd", "../../.sure/objects/ab/cd");
        check("/p", "/p/x", "x");
        check("/a/b", "/c", "../../c");
    }
}
