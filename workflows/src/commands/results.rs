//! The results of a run: links to the last artifacts, and what of them is worth printing; `sure results`.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use pipeline::plan_cache::End;
use pipeline::store::Store;

use crate::cli::{MachineArgs, Place, Target};
use crate::commands::times;
use crate::opening::{Access, Opening, Request, open_store};
use crate::problem::problem;
use crate::settings::Settings;

#[derive(Args)]
pub(crate) struct ResultsArgs {
    /// A workflow [default: that of the last run]
    workflow: Option<String>,
    #[command(flatten)]
    machine: MachineArgs,
}

pub(crate) fn results(args: &ResultsArgs) -> Result<ExitCode> {
    let settings = Settings::load(&args.machine, &[])?;
    let request = last_request(&settings, args.workflow.as_deref())?;
    let set = request.set.iter().map(|(name, values)| (name.clone(), values.join(","))).collect();
    let place = Place { set, yes: request.large, ..place(args) };
    let opening = Opening::new(&Target { workflow: request.workflow, targets: request.targets, place }, Access::View)?;
    let folder = settings.results.join(&opening.workflow.name);
    let entries = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut links: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    links.sort();
    if links.is_empty() {
        let name = &opening.workflow.name;
        let hint = format!("`sure run {name}` makes them; a run that was stopped or failed leaves none");
        return Err(problem(format!("no results of `{name}` in `{}`", folder.display()), hint));
    }
    print_results(&links)?;
    let mut out = io::stdout().lock();
    for line in times::table(&opening)? {
        writeln!(out, "{line}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn place(args: &ResultsArgs) -> Place {
    Place { machine: args.machine.clone(), ..Place::default() }
}

/// What the last run, of the workflow or of any, was asked for.
fn last_request(settings: &Settings, workflow: Option<&str>) -> Result<Request> {
    let store = open_store(settings, Access::View)?;
    let requests = store.runs(1000)?.into_iter().map(|row| (row.workflow, row.request));
    let wanted = |(name, request): &(String, String)| {
        let asked = serde_json::from_str::<Request>(request).map(|request| request.workflow).unwrap_or_default();
        workflow.is_none_or(|workflow| workflow == name || workflow == asked)
    };
    match (requests.into_iter().find(wanted), workflow) {
        (Some((_, request)), _) => serde_json::from_str(&request).context("the record of the last run cannot be read"),
        (None, Some(workflow)) => {
            Err(problem(format!("no run of `{workflow}` in this store"), "`sure runs` lists the runs there are"))
        }
        (None, None) => Err(problem("no run yet in this store", "`sure list` shows the workflows there are")),
    }
}

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
