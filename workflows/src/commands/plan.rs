//! `sure plan`

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use pipeline::Stop;
use pipeline::event::Deaf;
use pipeline::graph::Workflow;
use pipeline::manifest::{Change, INPUT};
use pipeline::plan::{Plan, Reason, Verdict};
use serde_json::json;

use crate::cli::PlanArgs;
use crate::opening::{Opening, survey};

pub(crate) fn plan(args: &PlanArgs) -> Result<ExitCode> {
    let opening = Opening::new(&args.target)?;
    let session = opening.session(Arc::new(Deaf), Stop::default());
    let survey = survey(&session)?;
    let plan = session.plan(&survey, &std::collections::HashSet::new())?;
    if args.json {
        println!("{}", to_json(&opening.workflow, &plan));
    } else {
        print_plan(&opening.workflow, &plan, args.all);
    }
    Ok(ExitCode::SUCCESS)
}

fn to_json(workflow: &Workflow, plan: &Plan) -> serde_json::Value {
    let nodes = plan.verdicts.iter().map(|(index, verdict)| {
        let node = &workflow.graph[*index].id;
        match verdict {
            Verdict::Reuse { fingerprint, artifact } => {
                json!({"node": node, "verdict": "reuse", "fingerprint": fingerprint, "artifact": artifact})
            }
            Verdict::Run(reason) => json!({"node": node, "verdict": "run", "reason": reason}),
            Verdict::RunIf(open) => {
                let open: Vec<&str> = open.iter().map(|from| workflow.graph[*from].id.as_str()).collect();
                json!({"node": node, "verdict": "run_if", "changes": open})
            }
        }
    });
    json!({"workflow": workflow.name, "nodes": nodes.collect::<Vec<_>>()})
}

/// Prints a plan; partitions of a stage with the same fate share a line.
pub(crate) fn print_plan(workflow: &Workflow, plan: &Plan, all: bool) {
    let mut lines: Vec<(String, String, Vec<u32>)> = vec![];
    let mut places: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (index, verdict) in &plan.verdicts {
        let node = &workflow.graph[*index];
        let name = node.id.split('#').next().unwrap_or_default().to_owned();
        let fate = describe(workflow, verdict);
        if !all && matches!(verdict, Verdict::Reuse { .. }) {
            continue;
        }
        let place = *places.entry((name.clone(), fate.clone())).or_insert_with(|| {
            lines.push((name, fate, vec![]));
            lines.len() - 1
        });
        lines[place].2.extend(node.partition);
    }
    for (name, fate, partitions) in &lines {
        println!("  {name}{}  {fate}", numbers(partitions));
    }
    let (reuse, run, maybe) = plan.counts();
    println!("{}: {reuse} reused, {run} to run, {maybe} to run if an input changes", workflow.name);
}

fn describe(workflow: &Workflow, verdict: &Verdict) -> String {
    match verdict {
        Verdict::Reuse { .. } => "reuse".to_owned(),
        Verdict::Run(reason) => format!("run: {}", describe_reason(reason)),
        Verdict::RunIf(open) if open.is_empty() => "run unless another node makes the same".to_owned(),
        Verdict::RunIf(open) => {
            let mut names: Vec<&str> = open.iter().map(|from| workflow.graph[*from].id.as_str()).collect();
            let more = names.len().saturating_sub(3);
            names.truncate(3);
            let more = if more > 0 { format!(" or {more} more") } else { String::new() };
            format!("run if {}{more} changes", names.join(" or "))
        }
    }
}

/// A reason in half a line.
pub(crate) fn describe_reason(reason: &Reason) -> String {
    match reason {
        Reason::New => "never ran here".to_owned(),
        Reason::Gone => "its artifact is gone".to_owned(),
        Reason::Forced => "forced".to_owned(),
        Reason::Changed { changes } => {
            let names: Vec<String> = changes.iter().take(3).map(describe_change).collect();
            let more = if changes.len() > 3 { format!(" and {} more", changes.len() - 3) } else { String::new() };
            format!("{}{more}", names.join(", "))
        }
    }
}

/// A change in a few words.
pub(crate) fn describe_change(change: &Change) -> String {
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
    if let Some(input) = change.field.strip_prefix(INPUT) {
        return match (&change.old, &change.new) {
            (None, _) => format!("input {input} is new"),
            (_, None) => format!("input {input} is no longer there"),
            _ => format!("input {input} changed"),
        };
    }
    let name = change.field.strip_prefix("param.").unwrap_or(&change.field);
    format!("{name}: {} -> {}", shown(&change.old), shown(&change.new))
}

/// `#0-3,7`
fn numbers(partitions: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = vec![];
    for number in partitions {
        match ranges.last_mut() {
            Some((_, end)) if *end + 1 == *number => *end = *number,
            _ => ranges.push((*number, *number)),
        }
    }
    let text: Vec<String> =
        ranges.iter().map(|(start, end)| if start == end { start.to_string() } else { format!("{start}-{end}") }).collect();
    if text.is_empty() { String::new() } else { format!("#{}", text.join(",")) }
}
