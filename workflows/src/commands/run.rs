//! `sure run`

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use neural_spec::Train;
use pipeline::event::Progress;
use pipeline::graph::Node;
use pipeline::plan_cache::{self, UpToDate};
use pipeline::run::{Options, Summary};
use pipeline::source::RecentScans;
use pipeline::{Stage, Stop};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::{self, Choice, Target};
use crate::commands::models::link_models;
use crate::commands::plan::show_plan;
use crate::commands::results::{Origin, link_results, print_results, relative};
use crate::commands::runs::write_timeline;
use crate::console::{self, duration, end_bars, say};
use crate::opening::{Access, Asking, LeftOut, Opening, report_notices, with_hint};
use crate::sharing::Sharing;

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Go on with what does not depend on a failed node
    #[arg(long, short = 'k')]
    pub(crate) keep_going: bool,
    #[command(flatten)]
    pub(crate) choice: Choice,
    /// Leave out cells whose corpus is not on this machine, without exit code 1
    #[arg(long)]
    pub(crate) allow_missing: bool,
    /// Only show the plan
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Stop cleanly after this time, as Ctrl-C does: `90s`, `30m`, `2h`
    #[arg(long, value_name = "TIME", value_parser = cli::duration)]
    pub(crate) time_limit: Option<Duration>,
    /// Run every node on this machine, whatever cluster sure.toml names
    #[arg(long)]
    pub(crate) local: bool,
    /// When stopped, cancel the jobs on the cluster; else they go on, and the next run takes their results over
    #[arg(long)]
    pub(crate) cancel: bool,
    /// Write a timeline of the run for `chrome://tracing` or Perfetto
    #[arg(long, value_name = "FILE")]
    pub(crate) timeline: Option<PathBuf>,
    /// Do not ask the shared cache
    #[arg(long)]
    pub(crate) offline: bool,
    /// Print nothing but errors and results
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Print events as JSON lines on standard output instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// Exit code of a run that was stopped by a signal, as shells report SIGINT.
pub(crate) const STOPPED: u8 = 130;

pub(crate) fn run(args: &RunArgs) -> Result<ExitCode> {
    let mut target = args.target.clone();
    target.place.machine.local = args.local;
    let mut asking = Asking::new(&target, if args.dry_run { Access::Read } else { Access::Write })?;
    if let Some(remote) = &mut asking.settings.machine.remote {
        remote.options.cancel = args.cancel;
    }
    asking.store.count_away(asking.settings.cache.is_some());
    let stop = Stop::default();
    listen_for_signals(&stop, KEPT)?;
    let stop = args.time_limit.map_or_else(|| stop.clone(), |limit| stop.until(Instant::now() + limit));
    let progress: Arc<dyn Progress> = console::pick(args.quiet, args.json);
    let mut scans = RecentScans::default();
    if args.choice.force.is_empty()
        && args.choice.only.is_empty()
        && args.timeline.is_none()
        && !args.dry_run
        && !args.choice.rehash
        && !asking.asks_for_front() // whether anything reads it is told every time, and only the graph knows
        && let Some(found) = run_if_up_to_date(&asking, &*progress, &mut scans)?
    {
        drop(progress);
        let origin = Origin::new(found.run, &asking.request.workflow);
        show(args, &link_results(&asking.question().workflow, &found.ends, &origin, &asking.settings, &asking.store)?)?;
        return Ok(report_left_out(args, &asking.left_out()?).unwrap_or(ExitCode::SUCCESS));
    }
    let mut opening = asking.open()?;
    opening.tell_idle_front();
    opening.rehash(args.choice.rehash);
    if args.dry_run {
        return show_plan(&mut opening, &args.choice, args.offline, false, args.json);
    }
    let sharing = Sharing::open(&opening.settings, args.offline);
    opening.settings.machine.shared = sharing.cache();
    let runner = opening.runner(Arc::clone(&progress), stop.clone());
    let options = Options {
        keep_going: args.keep_going,
        forced: opening.find(&args.choice.force, "--force")?,
        only: opening.find(&args.choice.only, "--only")?,
        read: opening.read(),
        request: serde_json::to_string(&opening.request)?,
        project: Some(opening.settings.project()),
        scans,
        ..Options::default()
    };
    let ran = runner.run(&options);
    sharing.close(&stop, args.quiet || args.json);
    report_notices(&opening.store);
    let summary = ran.map_err(with_hint)?;
    drop(progress);
    if let Some(path) = &args.timeline {
        write_timeline(path, &summary.steps)?;
    }
    if !summary.complete {
        if let Some(limit) = args.time_limit.filter(|_| summary.stopped) {
            say!("stopped: the time limit of {} is over; run it again to continue", duration(limit.as_secs_f64()));
        }
        if let Some(seeds) = other_seeds(&opening, &summary) {
            say!("  hint: `--set seed={seeds}` leaves the seeds that failed out, and makes the table of the others");
        }
        return Ok(if summary.stopped { ExitCode::from(STOPPED) } else { ExitCode::FAILURE });
    }
    if !options.only.is_empty() {
        return Ok(ExitCode::SUCCESS); // the rest of the workflow may be out of date: nothing to link to
    }
    show(args, &keep_results(&opening, &summary)?)?;
    let models = link_models(&opening, &summary)?;
    if let Some(models) = models.filter(|_| !args.json && !args.quiet) {
        say!("models and adapters: {}", relative(&models).display());
    }
    if !args.quiet && !args.json && has_trained(&opening, &summary) {
        say!("`sure results` shows this again, with times, speed and memory");
    }
    Ok(report_left_out(args, &opening.left_out).unwrap_or(ExitCode::SUCCESS))
}

/// Keeps the answer of a complete run for the next one, and links its results. Returns the links.
pub(crate) fn keep_results(opening: &Opening, summary: &Summary) -> Result<Vec<PathBuf>> {
    plan_cache::keep(&opening.question, &opening.workflow, &summary.survey, summary, &opening.store)?;
    let ends = plan_cache::ends(&opening.workflow, summary);
    let origin = Origin::new(summary.run, &opening.request.workflow);
    link_results(&opening.workflow.name, &ends, &origin, &opening.settings, &opening.store)
}

fn show(args: &RunArgs, links: &[PathBuf]) -> Result<()> {
    if args.json { Ok(()) } else { print_results(links) }
}

/// Reports corpora that are not on this machine. Returns the exit code when they should be.
fn report_left_out(args: &RunArgs, left_out: &LeftOut) -> Option<ExitCode> {
    let text = left_out.text()?;
    if args.allow_missing {
        say!("note: {text}");
        return None;
    }
    say!("warning: {text}");
    say!("  hint: add `NAME = \"FOLDER\"` to `[corpora]` in sure.toml, or give --allow-missing");
    Some(ExitCode::FAILURE)
}

/// Seeds without a failed node, where some have one and no other node failed.
fn other_seeds(opening: &Opening, summary: &Summary) -> Option<String> {
    let workflow = &opening.workflow;
    let failed: HashSet<&str> = summary.failed.iter().map(|(node, _)| node.as_str()).collect();
    let nodes = || workflow.order.iter().map(|&index| &workflow.graph[index]);
    let seed = |node: &&Node| node.point.get("seed").map(str::to_owned);
    let poor: HashSet<String> =
        nodes().filter(|node| failed.contains(&*node.id)).map(|node| seed(&node)).collect::<Option<_>>()?;
    let mut others: Vec<String> = Vec::new();
    for seed in nodes().filter_map(|node| seed(&node)) {
        if !poor.contains(&seed) && !others.contains(&seed) {
            others.push(seed);
        }
    }
    (!poor.is_empty() && !others.is_empty()).then(|| others.join(","))
}

/// True if a training ran and was not reused.
fn has_trained(opening: &Opening, summary: &Summary) -> bool {
    let ran: HashSet<&str> = summary.steps.iter().filter(|step| step.state == "ran").map(|step| step.node.as_str()).collect();
    let nodes = opening.workflow.order.iter().map(|&index| &opening.workflow.graph[index]);
    let mut trainings = nodes.filter(|node| node.kind.name == Train::KIND);
    trainings.any(|node| ran.contains(&*format!("{}:{}", opening.workflow.name, node.id)))
}

/// Answers at once when nothing has changed since a run that ended complete.
fn run_if_up_to_date(asking: &Asking, progress: &dyn Progress, scans: &mut RecentScans) -> Result<Option<UpToDate>> {
    let (store, machine) = (&asking.store, &asking.settings.machine);
    let request = serde_json::to_string(&asking.request)?;
    Ok(plan_cache::run_if_up_to_date(
        &asking.question(),
        (&request, Some(&asking.settings.project())),
        store,
        &asking.registry,
        machine,
        progress,
        scans,
    )?)
}

/// True if this process was started to ignore a signal.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).map(str::trim);
    mask.and_then(|mask| u64::from_str_radix(mask, 16).ok()).is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Remains of a stopped run, for people.
pub(crate) const KEPT: &str = "running nodes keep their state";

/// Makes the first signal end the run cleanly, and the second at once; `left` says what a clean end leaves. Workers notice the end of
/// this process by themselves.
pub(crate) fn listen_for_signals(stop: &Stop, left: &'static str) -> Result<()> {
    let hang_up = (!is_ignored(SIGHUP)).then_some(SIGHUP); // `nohup` ignores it, and means that
    let mut signals = Signals::new([SIGINT, SIGTERM].into_iter().chain(hang_up)).context("cannot listen for signals")?;
    let stop = stop.clone();
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if stop.requested() {
                end_bars();
                std::process::exit(i32::from(STOPPED));
            }
            say!("stopping; {left} (press again to stop at once)");
            stop.request();
        }
    });
    Ok(())
}
