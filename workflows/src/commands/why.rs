//! `sure why`

use std::collections::HashSet;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use pipeline::Stop;
use pipeline::event::Deaf;
use pipeline::explain::{Explanation, Fate, FileChange, explain};
use pipeline::manifest::INPUT;
use pipeline::mistake::suggest;

use crate::cli::WhyArgs;
use crate::commands::plan::{describe_change, describe_reason};
use crate::opening::{Opening, survey};
use crate::problem::problem;

/// Files named before the rest is only counted.
const FILES_SHOWN: usize = 10;

pub(crate) fn why(args: &WhyArgs) -> Result<ExitCode> {
    let (opening, pattern) = Opening::of_node(&args.node, &args.place)?;
    let found = opening.workflow.find(&pattern);
    if found.is_empty() {
        let known = opening.workflow.order.iter().map(|node| &*opening.workflow.graph[*node].stage);
        return Err(problem(format!("no node `{pattern}` in `{}`", opening.workflow.name), suggest(&pattern, known)));
    }
    let session = opening.session(Arc::new(Deaf), Stop::default());
    let survey = survey(&session)?;
    let plan = session.plan(&survey, &HashSet::new())?;
    let explained = found.into_iter().map(|node| explain(&opening.workflow, &plan, node, &opening.store));
    let explained = explained.collect::<Result<Vec<_>, _>>()?;
    if args.json {
        println!("{}", serde_json::to_string(&explained)?);
    } else {
        let mut seen = HashSet::new();
        for explanation in &explained {
            print(explanation, 0, &mut seen);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints an explanation and, indented, its causes; a node that stands above already is only named.
fn print(explanation: &Explanation, depth: usize, seen: &mut HashSet<String>) {
    let indent = "  ".repeat(depth);
    let fate = match &explanation.fate {
        Fate::Run(reason) => format!("runs: {}", describe_reason(reason)),
        Fate::RunIf(names) if names.is_empty() => "runs unless another node makes the same".to_owned(),
        Fate::RunIf(names) if names.len() == 1 => format!("runs if {} changes", names[0]),
        Fate::RunIf(names) => format!("runs if one of {} inputs changes", names.len()),
        Fate::LastRan => "is up to date; it last ran because of".to_owned(),
        Fate::FirstRun => "is up to date; it ran once, for the first time".to_owned(),
    };
    println!("{indent}{} {fate}", explanation.node);
    if !seen.insert(explanation.node.clone()) {
        return;
    }
    for change in &explanation.changes {
        let of_input = change.field.starts_with(INPUT);
        let digests = if let (true, Some(old), Some(new)) = (of_input, &change.old, &change.new) {
            format!(" ({} -> {})", &old[..old.len().min(12)], &new[..new.len().min(12)])
        } else {
            String::new()
        };
        println!("{indent}  - {}{digests}", describe_change(change));
    }
    for file in explanation.files.iter().take(FILES_SHOWN) {
        println!("{indent}    {}", describe_file(file));
    }
    if explanation.files.len() > FILES_SHOWN {
        println!("{indent}    and {} more files", explanation.files.len() - FILES_SHOWN);
    }
    for cause in &explanation.causes {
        print(cause, depth + 1, seen);
    }
}

fn describe_file(file: &FileChange) -> String {
    let short = |digest: &str| digest[..digest.len().min(12)].to_owned();
    match (&file.old, &file.new) {
        (None, Some(new)) => format!("added {} ({})", file.path, short(new)),
        (Some(old), None) => format!("removed {} ({})", file.path, short(old)),
        (Some(old), Some(new)) => format!("changed {} ({} -> {})", file.path, short(old), short(new)),
        (None, None) => file.path.clone(),
    }
}
