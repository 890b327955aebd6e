//! `sure why`

use std::collections::HashSet;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use petgraph::graph::NodeIndex;
use pipeline::Stop;
use pipeline::event::Deaf;
use pipeline::explain::{Explanation, Fate, FileChange, explain, explain_past};
use pipeline::manifest::{INPUT, TOOL};
use pipeline::mistake::suggest;
use pipeline::run::{RunStatus, Running, now_ms, status};
use pipeline::schedule::{Pool, Wait};
use serde_json::{Value, json};

use crate::cli::Place;
use crate::commands::plan::{describe_change, describe_reason};
use crate::commands::runs::find;
use crate::console::{duration, tell_to};
use crate::opening::{Access, Opening, open_store, report_failures, workflow_and_target};
use crate::problem::problem;
use crate::settings::Settings;

#[derive(Args)]
pub(crate) struct WhyArgs {
    /// `train[method=lora]`, or `keyword_spotting:train[method=lora]`; without a workflow, that of the last run
    pub(crate) node: String,
    #[command(flatten)]
    pub(crate) place: Place,
    /// Explain what became of it in an earlier run (see `sure runs`)
    #[arg(long, value_name = "NUMBER")]
    pub(crate) run: Option<i64>,
    /// Print the explanation as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Names shown before the rest is only counted.
const NAMES_SHOWN: usize = 3;
/// Files named before the rest is only counted.
const FILES_SHOWN: usize = 10;

pub(crate) fn why(args: &WhyArgs) -> Result<ExitCode> {
    let (mut opening, pattern) = match args.run {
        Some(run) => in_run(&args.node, run, &args.place)?,
        None => Opening::up_to_node(&args.node, &args.place)?,
    };
    let found = opening.workflow.find(&pattern);
    if found.is_empty() {
        let known = opening.workflow.order.iter().map(|node| &*opening.workflow.graph[*node].stage);
        return Err(problem(format!("no node `{pattern}` in `{}`", opening.workflow.name), suggest(&pattern, known)));
    }
    let (asked, code) = match args.run {
        Some(run) => (past(&opening, &found, run)?, ExitCode::SUCCESS),
        None => present(&mut opening, &found)?,
    };
    if args.json {
        let all: Vec<Value> = asked.iter().map(Asked::to_json).collect::<Result<_>>()?;
        writeln!(io::stdout(), "{}", Value::from(all))?;
    } else {
        let mut seen = HashSet::new();
        for one in &asked {
            if let Some(now) = &one.now {
                tell_to!(io::stdout(), "{} {now}", one.explanation.node)?;
            }
            print(&one.explanation, 0, &mut seen)?;
        }
    }
    Ok(code)
}

/// Answer about one node.
struct Asked {
    explanation: Explanation,
    /// Present state of the node in a run that goes on.
    now: Option<Now>,
}

/// Present state of a node in a run that goes on.
enum Now {
    Runs { run: i64, secs: f64, expected: Option<f64>, threads: usize, gpus: Vec<u32>, host: Option<String> },
    Waits { run: i64, wait: Wait<String> },
}

impl Asked {
    fn to_json(&self) -> Result<Value> {
        let mut value = serde_json::to_value(&self.explanation)?;
        match &self.now {
            Some(Now::Runs { run, secs, .. }) => value["now"] = json!({"run": run, "runs_for_secs": secs}),
            Some(Now::Waits { run, wait }) => value["now"] = json!({"run": run, "waits": wait}),
            None => {}
        }
        Ok(value)
    }
}

impl fmt::Display for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runs { run, secs, host: Some(host), .. } => {
                write!(f, "runs in run {run} on `{host}` of the cluster, submitted {} ago", duration(*secs))
            }
            Self::Runs { run, secs, expected, threads, gpus, .. } => {
                let of = expected.map(|secs| format!(" of about {}", duration(secs))).unwrap_or_default();
                let device = gpus.iter().fold(String::new(), |text, gpu| format!("{text}, GPU {gpu}"));
                write!(f, "runs in run {run}: {}{of}, on {threads} threads{device}", duration(*secs))
            }
            Self::Waits { run, wait } => match wait {
                Wait::For { nodes } => write!(f, "waits in run {run} for {}", some(nodes)),
                Wait::Slot { pool, wanted, free, holders } => {
                    let what = match pool {
                        Pool::Cpu => format!("{wanted} slots of the cpu pool, of which {free} are free"),
                        Pool::Gpu if *wanted > 1 => format!("{wanted} devices of the gpu pool, of which {free} are free"),
                        Pool::Gpu => "a device of the gpu pool".to_owned(),
                        Pool::Memory => format!("{wanted} MiB of the memory pool, of which {free} are free"),
                    };
                    write!(f, "waits in run {run} for {what}; held by {}", some(holders))
                }
                Wait::Behind { node } => write!(f, "waits in run {run}: what it needs is kept for {node}, which is more urgent"),
                Wait::Remote { job, state, reason } => {
                    let state = if state.is_empty() { "not asked about yet" } else { state };
                    let reason = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
                    write!(f, "waits in run {run} on the cluster: job {job} is {state}{reason}")
                }
                Wait::Retry => write!(f, "failed in run {run} in a way that may pass, and is tried again soon"),
            },
        }
    }
}

/// A few names.
fn some(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMES_SHOWN);
    let shown = names.iter().take(NAMES_SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

/// Explains what happens to nodes now, or happened last.
fn present(opening: &mut Opening, nodes: &[NodeIndex]) -> Result<(Vec<Asked>, ExitCode)> {
    let mut survey = opening.survey()?;
    let code = report_failures(&mut survey);
    let opening = &*opening;
    let statuses: Vec<RunStatus> =
        status(&opening.store).into_iter().filter(|status| status.workflow == opening.workflow.name).collect();
    let runner = opening.runner(Arc::new(Deaf), Stop::default());
    let plan = runner.plan(&survey, &HashSet::new())?;
    let asked = nodes.iter().map(|node| {
        let explanation = explain(&opening.workflow, &plan, *node, &opening.store)?;
        let now = statuses.iter().rev().find_map(|status| now(opening, status, *node));
        Ok(Asked { explanation, now })
    });
    Ok((asked.collect::<Result<_>>()?, code))
}

fn now(opening: &Opening, status: &RunStatus, node: NodeIndex) -> Option<Now> {
    let run = status.run;
    let id = &opening.workflow.graph[node].id;
    if let Some(Running { started_ms, expected_secs, threads, gpu, other_gpus, host, .. }) =
        status.running.iter().find(|running| running.node == *id)
    {
        let secs = (now_ms() - started_ms).max(0) as f64 / 1e3;
        let (expected, host) = (*expected_secs, host.clone());
        let gpus = gpu.iter().chain(other_gpus).copied().collect();
        return Some(Now::Runs { run, secs, expected, threads: *threads, gpus, host });
    }
    status.waits(&opening.workflow, node).map(|wait| Now::Waits { run, wait })
}

/// Explains what became of nodes in an earlier run.
fn past(opening: &Opening, nodes: &[NodeIndex], run: i64) -> Result<Vec<Asked>> {
    let row = find(&opening.store, run)?;
    let mut asked = vec![];
    for node in nodes {
        let explanation = explain_past(&opening.workflow, &row, *node, &opening.store)?;
        asked.extend(explanation.map(|explanation| Asked { explanation, now: None }));
    }
    if asked.is_empty() {
        let hint = "it was not part of it, or the run was killed, or its nodes were forgotten by `sure store gc`";
        return Err(problem(format!("run {run} knows nothing of this node"), hint));
    }
    Ok(asked)
}

/// The workflow of an earlier run, set as it was then.
fn in_run(node: &str, run: i64, place: &Place) -> Result<(Opening, String)> {
    let row = find(&open_store(&Settings::load(&place.machine, &place.corpus)?, Access::Read)?, run)?;
    let node = workflow_and_target(node).1.unwrap_or(node);
    Ok((Opening::up_to_node_in(node, &row, place)?, node.to_owned()))
}

/// Prints an explanation and, indented, its causes; a node that stands above already is only named.
fn print(explanation: &Explanation, depth: usize, seen: &mut HashSet<String>) -> Result<()> {
    let indent = "  ".repeat(depth);
    let fate = match &explanation.fate {
        Fate::Run(reason) => format!("runs: {}", describe_reason(reason)),
        Fate::RunIf(names) if names.is_empty() => "runs unless another node makes the same".to_owned(),
        Fate::RunIf(names) if names.len() == 1 => format!("runs if {} changes", names[0]),
        Fate::RunIf(names) => format!("runs if one of {} inputs changes", names.len()),
        Fate::Blocked { by } if *by == explanation.node => "cannot run: it fails while the sources are looked through".to_owned(),
        Fate::Blocked { by } => format!("cannot run, since {by} fails"),
        Fate::LastRan => format!("is up to date; it last ran{} because of", in_run_of(explanation)),
        Fate::InRun { run, state, message, why } => {
            let told = message.as_deref().or(why.as_deref()).map(|text| format!(" ({text})")).unwrap_or_default();
            format!("was `{state}` in run {run}{told}")
        }
        Fate::FirstRun => {
            format!("is up to date; it ran once, for the first time{}", in_run_of(explanation).trim_end_matches(','))
        }
    };
    tell_to!(io::stdout(), "{indent}{} {fate}", explanation.node)?;
    if !seen.insert(explanation.node.clone()) {
        return Ok(());
    }
    for change in &explanation.changes {
        let of_input = change.field.starts_with(INPUT) && !change.field.starts_with(TOOL);
        let digests = if let (true, Some(old), Some(new)) = (of_input, &change.old, &change.new) {
            format!(" ({} -> {})", &old[..old.len().min(12)], &new[..new.len().min(12)])
        } else {
            String::new()
        };
        tell_to!(io::stdout(), "{indent}  - {}{digests}", describe_change(change))?;
    }
    for file in explanation.files.iter().take(FILES_SHOWN) {
        tell_to!(io::stdout(), "{indent}    {}", describe_file(file))?;
    }
    if explanation.files.len() > FILES_SHOWN {
        writeln!(io::stdout(), "{indent}    and {} more files", explanation.files.len() - FILES_SHOWN)?;
    }
    for cause in &explanation.causes {
        print(cause, depth + 1, seen)?;
    }
    Ok(())
}

/// The run that made the artifact of an up-to-date node.
fn in_run_of(explanation: &Explanation) -> String {
    explanation.made_in.map(|run| format!(" in run {run},")).unwrap_or_default()
}

pub(crate) fn describe_file(file: &FileChange) -> String {
    let short = |digest: &str| digest[..digest.len().min(12)].to_owned();
    match (&file.old, &file.new) {
        (None, Some(new)) => format!("added {} ({})", file.path, short(new)),
        (Some(old), None) => format!("removed {} ({})", file.path, short(old)),
        (Some(old), Some(new)) => format!("changed {} ({} -> {})", file.path, short(old), short(new)),
        (None, None) => file.path.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(wait: Wait<String>, expected: &str) {
        assert_eq!(Now::Waits { run: 3, wait }.to_string(), expected);
    }

    #[test]
    fn a_waiting_node_says_what_for() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let nodes = names(&["a", "b", "c", "d", "e"]);
        check(Wait::For { nodes }, "waits in run 3 for a, b, c and 2 more");
        let holders = names(&["train"]);
        let slot = |pool, wanted, free| Wait::Slot { pool, wanted, free, holders: holders.clone() };
        check(slot(Pool::Cpu, 4, 1), "waits in run 3 for 4 slots of the cpu pool, of which 1 are free; held by train");
        check(slot(Pool::Gpu, 1, 0), "waits in run 3 for a device of the gpu pool; held by train");
        check(slot(Pool::Gpu, 2, 1), "waits in run 3 for 2 devices of the gpu pool, of which 1 are free; held by train");
        check(
            slot(Pool::Memory, 900, 100),
            "waits in run 3 for 900 MiB of the memory pool, of which 100 are free; held by train",
        );
        let node = "train".to_owned();
        check(Wait::Behind { node }, "waits in run 3: what it needs is kept for train, which is more urgent");
        check(Wait::Retry, "failed in run 3 in a way that may pass, and is tried again soon");
        let remote = |state: &str, reason: &str| Wait::Remote { job: "77_3".into(), state: state.into(), reason: reason.into() };
        check(remote("PENDING", "Resources"), "waits in run 3 on the cluster: job 77_3 is PENDING (Resources)");
        check(remote("", ""), "waits in run 3 on the cluster: job 77_3 is not asked about yet");
        let runs = Now::Runs { run: 3, secs: 5.0, expected: None, threads: 2, gpus: vec![], host: Some("n1".to_owned()) };
        assert_eq!(runs.to_string(), "runs in run 3 on `n1` of the cluster, submitted 5.0 s ago");
        let runs = Now::Runs { run: 3, secs: 5.0, expected: Some(70.0), threads: 2, gpus: vec![1, 3], host: None };
        assert_eq!(runs.to_string(), "runs in run 3: 5.0 s of about 1 min 10 s, on 2 threads, GPU 1, GPU 3");
    }
}
