//! `sure plan`

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use petgraph::graph::NodeIndex;
use pipeline::Stop;
use pipeline::event::Deaf;
use pipeline::graph::Workflow;
use pipeline::manifest::{Change, INPUT, TOOL};
use pipeline::plan::{Plan, Reason, Verdict};
use pipeline::run::Supply;
use serde_json::{Value, json};

use crate::cli::{Choice, Target};
use crate::console::{duration, fit_stdout, say, tell_to};
use crate::opening::{Access, Opening, report_failures};
use crate::sharing::Sharing;

#[derive(Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) choice: Choice,
    /// List reused nodes too
    #[arg(long, short)]
    pub(crate) all: bool,
    /// Do not ask the shared cache
    #[arg(long)]
    pub(crate) offline: bool,
    /// Print the plan as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn plan(args: &PlanArgs) -> Result<ExitCode> {
    let mut opening = Opening::new(&args.target, Access::Read)?;
    opening.tell_idle_front();
    opening.rehash(args.choice.rehash);
    show_plan(&mut opening, &args.choice, args.offline, args.all, args.json)
}

/// Plans and prints the plan. Where something would run, the shared cache is asked, unless `offline`.
pub(crate) fn show_plan(opening: &mut Opening, choice: &Choice, offline: bool, all: bool, json: bool) -> Result<ExitCode> {
    let forced = opening.find(&choice.force, "--force")?;
    let only = opening.find(&choice.only, "--only")?;
    let mut survey = opening.survey()?;
    let code = report_failures(&mut survey);
    if let Some(text) = opening.left_out.text() {
        say!("note: {text}");
    }
    let mut plan = opening.runner(Arc::new(Deaf), Stop::default()).plan(&survey, &forced)?;
    let mut supply = Supply::default();
    if !plan.is_done() && !offline {
        opening.settings.machine.shared = Sharing::to_look(&opening.settings, &opening.store).cache();
        let runner = opening.runner(Arc::new(Deaf), Stop::default());
        if let Some(supplied) = runner.supply(&survey, &forced, &opening.read())? {
            supply = supplied;
            plan = std::mem::take(&mut supply.plan);
        }
    }
    let runner = opening.runner(Arc::new(Deaf), Stop::default());
    let shown = Shown { only: &only, all, expected: runner.expected_secs(&plan)?, supply: &supply };
    if json {
        writeln!(io::stdout(), "{}", shown.to_json(&opening.workflow, &plan))?;
    } else {
        shown.print(&opening.workflow, &plan)?;
    }
    Ok(code)
}

/// How a plan is shown.
pub(crate) struct Shown<'a> {
    /// The only nodes that may run, when not empty.
    pub(crate) only: &'a HashSet<NodeIndex>,
    /// True if reused nodes are listed too.
    pub(crate) all: bool,
    /// How long it takes at most, going by earlier executions.
    pub(crate) expected: Option<f64>,
    /// What the shared cache supplies.
    pub(crate) supply: &'a Supply,
}

impl Shown<'_> {
    fn may_run(&self, node: NodeIndex) -> bool {
        self.only.is_empty() || self.only.contains(&node)
    }

    /// For programs. Every node is there, in an order in which they could run.
    pub(crate) fn to_json(&self, workflow: &Workflow, plan: &Plan) -> Value {
        let id = |node: &NodeIndex| workflow.graph[*node].id.as_str();
        let mut nodes = vec![];
        for (index, verdict) in &plan.verdicts {
            let node = &workflow.graph[*index];
            let mut needs: Vec<&str> = node.inputs.iter().map(|edge| id(&edge.from)).collect();
            needs.dedup();
            let point: serde_json::Map<String, Value> =
                node.point.iter().map(|(axis, value)| (axis.to_owned(), value.into())).collect();
            let mut shown = json!({
                "node": node.id, "stage": *node.stage, "kind": node.kind.name, "point": point, "partition": node.partition, "needs": needs,
            });
            let fate = match verdict {
                Verdict::Reuse { fingerprint, artifact } => {
                    let from_cache = self.supply.nodes.contains_key(index);
                    json!({"verdict": "reuse", "fingerprint": fingerprint, "artifact": artifact, "from_cache": from_cache})
                }
                Verdict::Blocked { by } => json!({"verdict": "blocked", "by": id(by)}),
                _ if !self.may_run(*index) => json!({"verdict": "held"}),
                Verdict::Run(reason) => json!({"verdict": "run", "reason": reason}),
                Verdict::RunIf(open) => json!({"verdict": "run_if", "changes": open.iter().map(id).collect::<Vec<_>>()}),
            };
            for (name, value) in fate.as_object().into_iter().flatten() {
                shown[name] = value.clone();
            }
            nodes.push(shown);
        }
        let (reuse, run, run_if) = self.counts(plan);
        let blocked = plan.verdicts.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Blocked { .. })).count();
        let settings: serde_json::Map<String, Value> =
            workflow.axes.iter().map(|(name, values)| (name.clone(), json!(values))).collect();
        let (bytes, to_download) = self.bytes();
        json!({
            "workflow": workflow.name, "settings": settings, "counts": {"reuse": reuse, "run": run, "run_if": run_if, "blocked": blocked},
            "from_cache": {"results": self.supply.nodes.len(), "bytes": bytes, "to_download": to_download},
            "expected_secs": self.expected, "nodes": nodes,
        })
    }

    /// Bytes of what the shared cache supplies: of all, and of what is downloaded.
    fn bytes(&self) -> (u64, u64) {
        let Supply { nodes, read, .. } = self.supply;
        (nodes.values().sum(), nodes.iter().filter(|(node, _)| read.contains(node)).map(|(_, bytes)| bytes).sum())
    }

    fn counts(&self, plan: &Plan) -> (usize, usize, usize) {
        let (reuse, ..) = plan.counts();
        let mut rest = (0, 0);
        for (_, verdict) in plan.verdicts.iter().filter(|(node, _)| self.may_run(*node)) {
            match verdict {
                Verdict::Reuse { .. } | Verdict::Blocked { .. } => {}
                Verdict::Run(_) => rest.0 += 1,
                Verdict::RunIf(_) => rest.1 += 1,
            }
        }
        (reuse, rest.0, rest.1)
    }

    /// For people; partitions of a stage with the same fate share a line.
    pub(crate) fn print(&self, workflow: &Workflow, plan: &Plan) -> Result<()> {
        let mut lines: Vec<(String, String, Vec<u32>)> = vec![];
        let mut places: BTreeMap<(String, String), usize> = BTreeMap::new();
        for (index, verdict) in &plan.verdicts {
            let node = &workflow.graph[*index];
            let is_reused = matches!(verdict, Verdict::Reuse { .. });
            let is_blocked = matches!(verdict, Verdict::Blocked { .. });
            if is_reused && !self.all || !is_reused && !is_blocked && !self.may_run(*index) {
                continue;
            }
            let name = node.id.split('#').next().unwrap_or_default().to_owned();
            let from_cache = self.supply.nodes.contains_key(index);
            let fate = if from_cache { "reuse from the shared cache".to_owned() } else { describe(workflow, verdict) };
            let place = *places.entry((name.clone(), fate.clone())).or_insert_with(|| {
                lines.push((name, fate, vec![]));
                lines.len() - 1
            });
            lines[place].2.extend(node.partition);
        }
        for (name, fate, partitions) in &lines {
            writeln!(io::stdout(), "{}", fit_stdout(&format!("  {name}{}  {fate}", numbers(partitions))))?;
        }
        let (reuse, run, maybe) = self.counts(plan);
        let time = self.expected.filter(|secs| *secs >= 1.0 && self.only.is_empty());
        let time = time.map(|secs| format!("; at most {} going by earlier runs", duration(secs))).unwrap_or_default();
        tell_to!(io::stdout(), "{}: {reuse} reused, {run} to run, {maybe} to run if an input changes{time}", workflow.name)?;
        if !self.supply.nodes.is_empty() {
            let (results, (all, read)) = (self.supply.nodes.len(), self.bytes());
            let (all, read) = (all as f64 / 1e6, read as f64 / 1e6);
            writeln!(
                io::stdout(),
                "{results} of the reused are in the shared cache; {read:.1} of their {all:.1} MB are downloaded"
            )?;
        }
        let blocked = plan.verdicts.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Blocked { .. })).count();
        if blocked > 0 {
            writeln!(io::stdout(), "{blocked} cannot run, since a source fails")?;
        }
        let held = plan.verdicts.len() - reuse - run - maybe - blocked;
        if held > 0 {
            writeln!(io::stdout(), "{held} left alone: they are out of date, and --only names others")?;
        }
        Ok(())
    }
}

fn describe(workflow: &Workflow, verdict: &Verdict) -> String {
    match verdict {
        Verdict::Reuse { .. } => "reuse".to_owned(),
        Verdict::Run(reason) => format!("run: {}", describe_reason(reason)),
        Verdict::Blocked { by } => format!("cannot run, since {} fails", workflow.graph[*by].id),
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
    if let Some(tool) = change.field.strip_prefix(TOOL) {
        return format!("program {tool}: {} -> {}", shown(&change.old), shown(&change.new));
    }
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
