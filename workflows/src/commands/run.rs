//! `sure run`

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use pipeline::Stop;
use pipeline::event::Progress;
use pipeline::memo::{self, End, Standing};
use pipeline::mistake::suggest;
use pipeline::run::Options;
use pipeline::store::Store;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::RunArgs;
use crate::commands::plan::print_plan;
use crate::commands::results::{link_results, print_results};
use crate::console;
use crate::opening::{Asking, survey, with_hint};
use crate::problem::problem;
use crate::settings::Settings;

/// Exit code of a run that was stopped by a signal, as shells report SIGINT.
pub(crate) const STOPPED: u8 = 130;

pub(crate) fn run(args: &RunArgs) -> Result<ExitCode> {
    let asking = Asking::new(&args.target)?;
    let stop = Stop::default();
    listen_for_signals(&stop)?;
    let progress: Arc<dyn Progress> = console::pick(args.quiet, args.json);
    if args.force.is_empty()
        && !args.dry_run
        && let Some(standing) = stand_still(&asking, &*progress)?
    {
        drop(progress);
        return show_results(args, &asking.question().workflow, &standing.ends, &asking.settings, &asking.store);
    }
    let opening = asking.open()?;
    let session = opening.session(Arc::clone(&progress), stop);
    let mut options = Options { keep_going: args.keep_going, ..Options::default() };
    options.request = serde_json::to_string(&opening.request)?;
    for pattern in &args.force {
        let found = opening.workflow.find(pattern);
        if found.is_empty() {
            let known = opening.workflow.order.iter().map(|node| &*opening.workflow.graph[*node].stage);
            return Err(problem(format!("--force {pattern}: no such node"), suggest(pattern, known)));
        }
        options.forced.extend(found);
    }
    if args.dry_run {
        let survey = survey(&session)?;
        let plan = session.plan(&survey, &options.forced)?;
        print_plan(&opening.workflow, &plan, false);
        return Ok(ExitCode::SUCCESS);
    }
    let summary = session.run(&options).map_err(with_hint)?;
    drop(progress);
    if !summary.complete {
        return Ok(if summary.stopped { ExitCode::from(STOPPED) } else { ExitCode::FAILURE });
    }
    memo::keep(&opening.question, &opening.workflow, &summary.survey, &summary, &opening.store)?;
    let ends = memo::ends(&opening.workflow, &summary);
    show_results(args, &opening.workflow.name, &ends, &opening.settings, &opening.store)
}

/// Answers at once when nothing has changed since a run that ended complete.
fn stand_still(asking: &Asking, progress: &dyn Progress) -> Result<Option<Standing>> {
    let (store, machine) = (&asking.store, &asking.settings.machine);
    let request = serde_json::to_string(&asking.request)?;
    Ok(memo::stand_still(&asking.question(), &request, store, &asking.registry, machine, progress)?)
}

fn show_results(args: &RunArgs, workflow: &str, ends: &[End], settings: &Settings, store: &Store) -> Result<ExitCode> {
    let links = link_results(workflow, ends, settings, store)?;
    if !args.json {
        print_results(&links)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The first signal ends the run cleanly, the second at once. Workers notice the end of this process by themselves.
pub(crate) fn listen_for_signals(stop: &Stop) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot listen for signals")?;
    let stop = stop.clone();
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if stop.requested() {
                std::process::exit(i32::from(STOPPED));
            }
            eprintln!("\nstopping; what runs keeps its state (again: stop at once)");
            stop.request();
        }
    });
    Ok(())
}
