//! The runs of a rebuild: reading their arguments, running them, and the seeds that confirm a loss.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use pipeline::Stop;
use pipeline::event::{Event, Outcome, Progress};
use pipeline::run::{Options, Summary};
use pipeline::store::disk::remove_all;
use rebuild::file::RebuildFile;
use rebuild::history::History;
use rebuild::judge::{Results, SeedNow};
use rebuild::lock::{FileLists, LockFile, unpack_lists};
use rebuild::record::{Cell, Failure, RunOutcome, Source};

use super::collect::{add_failed, cells_of, collect, seeds_of};
use crate::cli::{MachineArgs, Target};
use crate::commands::models::link_models;
use crate::commands::run::{RunArgs, keep_results};
use crate::console;
use crate::opening::{Access, Opening, report_notices, with_hint};
use crate::problem::problem;
use crate::sharing::Sharing;

/// State of a node that ran again and whose result was dropped, since the earlier one has other bytes.
pub(super) const OTHER_BYTES: &str = "gave other bytes";

/// A run of a rebuild file with its arguments read.
pub(crate) struct Planned {
    /// As it is in the file.
    pub(crate) text: String,
    /// File and line: `weekly.toml:3`.
    at: String,
    /// Arguments.
    args: RunArgs,
    /// Settings that tell its cells apart from those of other runs of the file.
    extra: BTreeMap<String, String>,
}

/// Arguments of a run, as `sure run` reads them.
#[derive(Parser)]
#[command(name = "sure run", no_binary_name = true, disable_help_flag = true)]
struct RunLine {
    #[command(flatten)]
    args: RunArgs,
}

/// Reads the arguments of all runs.
pub(crate) fn plan_runs(file: &RebuildFile, machine: &MachineArgs) -> Result<Vec<Planned>> {
    let mut planned = vec![];
    for request in &file.runs {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let at = format!("{name}:{}", request.line);
        let read = RunLine::try_parse_from(&request.words).map_err(|error| {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            problem(format!("{at}: `sure run {}`: {first}", request.text), "`sure run --help` lists the arguments of a run")
        })?;
        let mut args = read.args;
        if args.dry_run || args.json || args.timeline.is_some() || args.time_limit.is_some() || !args.choice.only.is_empty() {
            let hint = "take --dry-run, --json, --timeline, --time-limit and --only out; `time_limit` of the file limits all runs together";
            return Err(problem(
                format!("{at}: `sure run {}`: an argument that a rebuild decides by itself", request.text),
                hint,
            ));
        }
        args.target.place.machine = MachineArgs {
            config: machine.config.clone().or(args.target.place.machine.config),
            store: machine.store.clone().or(args.target.place.machine.store),
            jobs: machine.jobs.or(args.target.place.machine.jobs),
            local: machine.local,
        };
        planned.push(Planned { text: request.text.clone(), at, args, extra: BTreeMap::new() });
    }
    tell_apart(&mut planned);
    Ok(planned)
}

/// Settings by which the runs of one workflow differ become part of their cells' names, but for seeds and parameters of stages.
fn tell_apart(planned: &mut [Planned]) {
    const AXES: [&str; 4] = ["seed", "task", "corpus", "method"];
    let set = |planned: &Planned| -> BTreeMap<String, String> { planned.args.target.place.set.iter().cloned().collect() };
    let all: Vec<(String, BTreeMap<String, String>)> =
        planned.iter().map(|planned| (planned.args.target.workflow.clone(), set(planned))).collect();
    for (at, one) in planned.iter_mut().enumerate() {
        let others = all.iter().enumerate().filter(|(other, (workflow, _))| *other != at && *workflow == all[at].0);
        let names: Vec<&String> = others.flat_map(|(_, (_, theirs))| theirs.keys().chain(all[at].1.keys())).collect();
        for name in names.into_iter().filter(|name| !name.contains('.') && !AXES.contains(&name.as_str())) {
            let value = all[at].1.get(name).filter(|value| !value.contains(','));
            if let Some(value) = value {
                one.extra.insert(name.clone(), value.clone());
            }
        }
    }
}

/// Reads a lock file with the lists of files next to it.
pub(super) fn read_lock(path: &Path) -> Result<(LockFile, FileLists)> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read the lock file `{}`", path.display()))?;
    let lock = LockFile::parse(&text)
        .map_err(|error| problem(format!("`{}`: {error}", path.display()), "`sure lock FILE -o LOCK` writes one"))?;
    let lists = fs::read(lists_path(path)).ok().and_then(|bytes| unpack_lists(&bytes).ok()).unwrap_or_default();
    Ok((lock, lists))
}

/// Path of the lists of files of a lock file.
pub(crate) fn lists_path(lock: &Path) -> PathBuf {
    let mut name = lock.as_os_str().to_owned();
    name.push(".files.zst");
    name.into()
}

/// Opens all runs. Returns the places that they need and that are not there, each with a sentence.
///
/// Errors: a workflow or a setting that does not exist, two runs with the same cell, and runs without any cell.
pub(crate) fn check_runs(planned: &[Planned]) -> Result<BTreeMap<String, String>> {
    let mut missing = BTreeMap::new();
    let mut known: BTreeMap<(String, String), &Planned> = BTreeMap::new();
    for one in planned {
        let opening = Opening::new(&one.args.target, Access::Read);
        let opening = opening.with_context(|| format!("{}: `sure run {}` cannot begin", one.at, one.text))?;
        for name in opening.left_out.lacking.iter().filter(|_| !one.args.allow_missing) {
            missing.insert(format!("corpora.{name}"), format!("no folder for `corpora.{name}`"));
        }
        for need in opening.workflow.order.iter().flat_map(|node| opening.workflow.graph[*node].placed.sources()) {
            let text = match opening.settings.machine.places.0.get(&need.place) {
                None => format!("no folder is set for `{}`", need.place),
                Some(path) if !path.exists() => format!("`{}` is not there: `{}`", need.place, path.display()),
                Some(_) => continue,
            };
            missing.entry(need.place.clone()).or_insert(text);
        }
        for cell in cells_of(&opening.workflow, &one.extra) {
            let Some(other) = known.insert(cell.clone(), one).filter(|other| !std::ptr::eq(*other, one)) else { continue };
            let (key, seed) = cell;
            return Err(problem(
                format!(
                    "{}: `sure run {}` has the cell `{key}` with seed {seed}, and so has `sure run {}`",
                    one.at, one.text, other.text
                ),
                "one result would replace the other: compare settings within one run (`--set NAME=A,B`), or in files of their own",
            ));
        }
    }
    if known.is_empty() && missing.is_empty() {
        let hint = "a rebuild compares scores: name a workflow of `sure list`, or one with a stage `score.…`";
        return Err(problem("the runs of this file have no cell: none of them scores anything", hint));
    }
    Ok(missing)
}

/// Inputs of all runs as they are now.
#[derive(Default)]
pub(crate) struct Inputs {
    pub(crate) workflows: BTreeMap<String, String>,
    pub(crate) sources: BTreeMap<String, Source>,
    pub(crate) lists: FileLists,
}

/// Scans the inputs of all runs, without running anything but the listing of corpora.
pub(crate) fn locked_inputs(planned: &[Planned]) -> Result<Inputs> {
    let mut inputs = Inputs::default();
    for one in planned {
        let mut opening = Opening::new(&one.args.target, Access::Read)?;
        inputs.workflows.insert(opening.workflow.name.clone(), opening.text.to_string()[..32].to_owned());
        for (place, tree) in opening.survey()?.files() {
            let list = tree.files.iter().map(|file| (file.path.clone(), file.digest.to_string()[..32].to_owned())).collect();
            inputs.lists.insert(place.clone(), list);
            let source = Source {
                digest: tree.digest().to_string()[..32].to_owned(),
                files: tree.files.len(),
                bytes: tree.files.iter().map(|file| file.size).sum(),
                list: None,
            };
            inputs.sources.insert(place, source);
        }
    }
    Ok(inputs)
}

/// Store of a rebuild that starts from nothing; removed in the end.
pub(super) struct FreshStore {
    pub(super) folder: PathBuf,
}

impl FreshStore {
    pub(super) fn new(store: &Path) -> Result<Self> {
        let mut name = store.file_name().unwrap_or_default().to_owned();
        name.push(".fresh");
        let folder = store.with_file_name(name);
        if folder.exists() {
            remove_all(&folder).with_context(|| format!("cannot remove `{}`, left by an earlier rebuild", folder.display()))?;
        }
        Ok(Self { folder })
    }
}

impl Drop for FreshStore {
    fn drop(&mut self) {
        let _ = remove_all(&self.folder); // the next fresh rebuild removes what stayed
    }
}

/// How a run is to be done.
#[expect(clippy::struct_excessive_bools, reason = "flags of the command line")]
pub(super) struct Goal<'a> {
    pub(super) planned: &'a Planned,
    pub(super) keep_going: bool,
    pub(super) fresh: bool,
    /// True to compute everything on this machine, without the shared cache.
    pub(super) offline: bool,
    pub(super) quiet: bool,
}

/// Runs, and collects the cells.
pub(super) fn run(
    goal: &Goal<'_>,
    machine: &MachineArgs,
    stop: &Stop,
    history: &History,
    results: &mut Results,
    workflows: &mut BTreeMap<String, String>,
) -> Result<RunOutcome> {
    let begun = Instant::now();
    let mut target = goal.planned.args.target.clone();
    if goal.fresh {
        target.place.machine.store.clone_from(&machine.store);
    }
    let (opening, summary) = bring_up_to_date(&target, goal, stop)?;
    workflows.insert(opening.workflow.name.clone(), opening.text.to_string()[..32].to_owned());
    collect(&opening, &summary, &goal.planned.extra, history, results)?;
    if summary.complete && !goal.fresh {
        keep_results(&opening, &summary)?;
        link_models(&opening, &summary)?;
    }
    let mut nodes: BTreeMap<String, usize> = BTreeMap::new();
    for step in &summary.steps {
        let is_other = step.state == "ran" && step.message.is_some(); // nothing else is said of a node that ran
        *nodes.entry(if is_other { OTHER_BYTES.to_owned() } else { step.state.clone() }).or_default() += 1;
    }
    let outcome = match () {
        () if summary.complete => "done",
        () if summary.stopped => "stopped",
        () => "failed",
    };
    Ok(RunOutcome {
        request: goal.planned.text.clone(),
        run: summary.run,
        outcome: outcome.to_owned(),
        secs: begun.elapsed().as_secs_f64(),
        nodes,
        failed: summary.failed.iter().filter_map(failure).collect(),
    })
}

fn failure((node, outcome): &(String, Outcome)) -> Option<Failure> {
    let Outcome::Failed { chain, last_lines, .. } = outcome else { return None };
    Some(Failure { node: node.clone(), message: chain.join(": "), log: last_lines.clone() })
}

/// A run that could not begin, or that ended by an error. Its cells failed.
pub(super) fn not_run(planned: &Planned, error: &anyhow::Error, history: &History, results: &mut Results) -> RunOutcome {
    let message = error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
    if let Ok(opening) = Opening::new(&planned.args.target, Access::Read) {
        add_failed(&opening.workflow, &planned.extra, &message, history, results);
    }
    RunOutcome {
        request: planned.text.clone(),
        outcome: "not started".to_owned(),
        failed: vec![Failure { message, ..Failure::default() }],
        ..RunOutcome::default()
    }
}

fn bring_up_to_date(target: &Target, goal: &Goal<'_>, stop: &Stop) -> Result<(Opening, Summary)> {
    let (args, quiet) = (&goal.planned.args, goal.quiet);
    let mut opening = Opening::new(target, Access::Write)?;
    opening.rehash(args.choice.rehash);
    let sharing = Sharing::open(&opening.settings, goal.offline || args.offline);
    opening.settings.machine.shared = sharing.cache();
    let progress: Arc<dyn Progress> = if quiet { Arc::new(Quiet) } else { console::pick(false, false) };
    let runner = opening.runner(progress, stop.clone());
    let options = Options {
        keep_going: goal.keep_going || args.keep_going,
        forced: opening.find(&args.choice.force, "--force")?,
        request: serde_json::to_string(&opening.request)?,
        project: Some(opening.settings.project()),
        ..Options::default()
    };
    let ran = runner.run(&options);
    sharing.close(stop, quiet);
    if !quiet {
        report_notices(&opening.store);
    }
    let summary = ran.map_err(with_hint)?;
    Ok((opening, summary))
}

/// Listens to nothing: what failed is in the record and in the message of the rebuild.
struct Quiet;

impl Progress for Quiet {
    fn event(&self, _: &Event) {}
}

/// Trains a cell with seeds that it did not have.
pub(super) fn confirm(
    planned: &[Planned],
    (key, cell): (&str, &Cell),
    (count, offline): (u32, bool),
    machine: &MachineArgs,
    stop: &Stop,
    history: &History,
) -> Result<BTreeMap<String, SeedNow>> {
    let largest = cell.values.keys().filter_map(|seed| seed.parse::<u64>().ok()).max().unwrap_or(0);
    let seeds: Vec<String> = (1..=u64::from(count)).map(|more| (largest + more).to_string()).collect();
    for one in planned {
        let mut target = one.args.target.clone();
        target.place.machine.store = machine.store.clone().or(target.place.machine.store);
        target.place.set.retain(|(name, _)| name != "seed");
        target.place.set.push(("seed".to_owned(), seeds.join(",")));
        target.targets = vec![cell.node.clone()];
        // Another run of the file may have this node; the key says whose cell it is.
        if Opening::new(&target, Access::Read).is_err() {
            continue;
        }
        let goal = Goal { planned: one, keep_going: true, fresh: false, offline, quiet: true };
        let (opening, summary) = bring_up_to_date(&target, &goal, stop)?;
        let found = seeds_of(&opening, &summary, key, &one.extra, history)?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(BTreeMap::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(runs: &[&str]) -> Vec<BTreeMap<String, String>> {
        let list: Vec<String> = runs.iter().map(|run| format!("{run:?}")).collect();
        let text = format!("name = \"w\"\nevery = \"day 03:00\"\nruns = [{}]\n", list.join(", "));
        let file = rebuild::file::read(Path::new("/p/w.toml"), &text).unwrap();
        plan_runs(&file, &MachineArgs::default()).unwrap().into_iter().map(|planned| planned.extra).collect()
    }

    #[test]
    fn settings_tell_the_cells_of_two_runs_apart_and_change_no_name_of_a_run_alone() {
        let pair = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        assert_eq!(planned(&["benchmark --set protocol=paper --set seed=1,2"]), [BTreeMap::new()]);
        assert_eq!(planned(&["benchmark", "emotion --set protocol=paper"]), [BTreeMap::new(), BTreeMap::new()]);
        let both = planned(&["benchmark --set seed=1", "benchmark --set protocol=paper --set train.patience=3"]);
        assert_eq!(both, [BTreeMap::new(), pair("protocol", "paper")]);
        let both =
            planned(&["emotion --set corpus=esd --set backbone=scratch", "emotion --set corpus=meld --set backbone=published"]);
        assert_eq!(both, [pair("backbone", "scratch"), pair("backbone", "published")]);
    }
}
