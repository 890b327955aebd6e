//! Results of a run as cells, with everything that each was made of.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;

use anyhow::{Context, Result};
use petgraph::Direction;
use petgraph::graph::NodeIndex;
use pipeline::Digest;
use pipeline::event::Outcome;
use pipeline::graph::{Node, Workflow};
use pipeline::records::{ResultRecord, Step};
use pipeline::run::Summary;
use rebuild::history::History;
use rebuild::judge::{CellNow, Results, SeedNow};
use rebuild::record::{Cost, METRIC, SeedDetail, Source};
use scoring::score::{FILE_NAME, read_scores};
use scoring::{Metric, evidence};
use serde_json::Value;

use super::machine::{program, this_machine};
use crate::artifacts::without_seed;
use crate::commands::rebuild::history_problem;
use crate::opening::Opening;

/// Prefix of the kinds of stages that score.
const SCORES: &str = "score.";
/// Ending of the kinds of stages that train.
const TRAINS: &str = ".train";
/// Fact that a training reports about itself: its peak memory.
const PEAK: &str = "peak_memory_gib";
/// Axis of the seeds.
const SEED: &str = "seed";
/// Name where there is none.
const NONE: &str = "-";

/// Adds the cells of a run to the results of a rebuild. `extra` are settings that tell apart the cells of several runs.
pub(super) fn collect(
    opening: &Opening,
    summary: &Summary,
    extra: &BTreeMap<String, String>,
    history: &History,
    results: &mut Results,
) -> Result<()> {
    let workflow = &opening.workflow;
    let mut reader = Reader { opening, records: HashMap::new(), ids: HashMap::new() };
    for member in opening.store.members(summary.run)? {
        reader.ids.insert(member.node, member.result);
    }
    let machine = this_machine(&opening.settings);
    let program = program(&opening.settings);
    let program = format!(
        "{} {}",
        if program.commit.is_empty() { &program.version } else { &program.commit },
        program.executables.values().cloned().collect::<Vec<_>>().join(" ")
    );
    let mut fields: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    let ran = summary.steps.iter().filter(|step| step.state == "ran");
    let ran: HashMap<&str, &Step> = ran.map(|step| (step.node.split_once(':').map_or("", |(_, id)| id), step)).collect();
    let mut costs: BTreeMap<String, BTreeMap<String, Vec<Cost>>> = BTreeMap::new();
    let mut threads: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut cells: BTreeMap<String, CellNow> = BTreeMap::new();
    let mut further: BTreeMap<String, BTreeMap<Metric, Values>> = BTreeMap::new();
    for index in workflow.order.iter().filter(|index| workflow.graph[**index].kind.name.starts_with(SCORES)) {
        let node = &workflow.graph[*index];
        let (key, empty, seed) = name(node, workflow, extra);
        let cell = cells.entry(key.clone()).or_insert(empty);
        let Some(artifact) = summary.artifacts.get(index) else {
            cell.failed.get_or_insert_with(|| why_failed(opening, summary, *index));
            continue;
        };
        let folder = opening.store.path(*artifact);
        let scores = read_scores(&folder)?;
        let value = scores.primary_value();
        if !value.is_finite() {
            cell.failed.get_or_insert_with(|| format!("{} has no value", scores.primary));
            continue;
        }
        let keep = |name: &str| -> Result<String> {
            let path = folder.join(name);
            let bytes = fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
            history.keep(&bytes).map_err(history_problem)
        };
        let ancestors = ancestors(opening, *index);
        let is_training = |other: &NodeIndex| workflow.graph[*other].kind.name.ends_with(TRAINS);
        let trainings: Vec<NodeIndex> = ancestors.iter().copied().filter(is_training).collect();
        // Sorted: a larger or smaller table has its nodes in another order.
        let trained = trainings.iter().filter_map(|other| Some(summary.artifacts.get(other)?.to_string()));
        let trained: BTreeSet<String> = trained.collect();
        let detail = SeedDetail {
            utterance_set: scores.utterance_set.to_string()[..32].to_owned(),
            trained: Digest::of(trained.into_iter().collect::<Vec<_>>().join("\n").as_bytes()).to_string()[..32].to_owned(),
            scored: artifact.to_string()[..32].to_owned(),
            scores: keep(FILE_NAME)?,
            interval: scores.interval(scores.primary).map(|interval| (interval.low, interval.high)),
        };
        let on = reader.threads(ancestors.iter().copied())?;
        threads.entry(key.clone()).or_default().insert(seed.clone(), on);
        for other in trainings {
            let node = &workflow.graph[other];
            if let Some(step) = ran.get(node.id.as_str()) {
                let of_cell = costs.entry(key.clone()).or_default();
                of_cell.entry(without_seed(&node.id)).or_default().push(reader.cost(other, step)?);
            }
        }
        let of_cell = fields.entry(key.clone()).or_default();
        for other in ancestors.into_iter().chain([*index]) {
            reader.add_fields(other, of_cell)?;
        }
        for metric in scores.further_metrics() {
            let interval = scores.interval(metric).map(|interval| (interval.low, interval.high));
            let values = further.entry(key.clone()).or_default().entry(metric).or_default();
            values.insert(seed.clone(), (scores.value(metric), interval));
        }
        cell.metric = Some(scores.primary);
        cell.utterances = scores.utterances;
        let evidence = keep(evidence::FILE_NAME)?;
        cell.seeds.insert(seed, SeedNow { value, evidence, detail });
    }
    for (key, mut cell) in cells {
        cell.lineage.fields =
            fields.remove(&key).unwrap_or_default().into_iter().map(|(name, values)| (name, joined(&values))).collect();
        cell.costs = costs.remove(&key).unwrap_or_default().into_iter().map(|(node, costs)| (node, over_seeds(&costs))).collect();
        let threads: Vec<String> = threads.remove(&key).unwrap_or_default().into_values().collect();
        let threads = if threads.is_empty() { String::new() } else { format!(", threads {}", threads.join(" ")) };
        (cell.lineage.program, cell.lineage.machine) = (program.clone(), format!("{}{threads}", machine.key()));
        let more = match further.remove(&key) {
            Some(metrics) => metrics.iter().map(|(metric, values)| by_metric(&cell, *metric, values)).collect(),
            None if cell.seeds.is_empty() => failed_before(&cell, history),
            None => vec![],
        };
        for (key, mut cell) in std::iter::once((key, cell)).chain(more) {
            match results.cells.get_mut(&key) {
                None => _ = results.cells.insert(key, cell),
                Some(known) => {
                    known.seeds.append(&mut cell.seeds);
                    known.failed = known.failed.take().or(cell.failed);
                    cell.costs.append(&mut known.costs);
                    known.costs = cell.costs;
                }
            }
        }
    }
    keep_sources(summary, history, results)
}

/// Keeps the lists of the files that the run read, with their digests.
fn keep_sources(summary: &Summary, history: &History, results: &mut Results) -> Result<()> {
    for (place, tree) in summary.survey.files() {
        let list: Vec<String> =
            tree.files.iter().map(|file| format!("{} {}\n", &file.digest.to_string()[..32], file.path)).collect();
        let source = Source {
            digest: tree.digest().to_string()[..32].to_owned(),
            files: tree.files.len(),
            bytes: tree.files.iter().map(|file| file.size).sum(),
            list: Some(history.keep(list.concat().as_bytes()).map_err(history_problem)?),
        };
        results.sources.insert(place, source);
    }
    Ok(())
}

/// Value of a metric and its interval over utterances, by seed.
type Values = BTreeMap<String, (f64, Option<(f64, f64)>)>;

/// The cell of a further metric of the same runs, with its key.
fn by_metric(cell: &CellNow, metric: Metric, values: &Values) -> (String, CellNow) {
    let mut other = CellNow { metric: Some(metric), costs: BTreeMap::new(), ..cell.clone() };
    other.others.insert(METRIC.to_owned(), metric.name().to_owned());
    other.seeds.retain(|seed, _| values.get(seed).is_some_and(|(value, _)| value.is_finite()));
    for (seed, result) in &mut other.seeds {
        (result.value, result.detail.interval) = values[seed];
    }
    if other.seeds.len() < cell.seeds.len() {
        other.failed.get_or_insert_with(|| format!("{metric} has no value"));
    }
    (key_of(&other), other)
}

/// The cells of further metrics that the runs of a cell without results had before.
fn failed_before(cell: &CellNow, history: &History) -> Vec<(String, CellNow)> {
    let last = history.log.ended().rev().find(|ended| ended.outcome.is_end());
    let metrics = last.into_iter().flat_map(|ended| &ended.cells).filter_map(|(key, before)| {
        let mut others = before.others.clone();
        others.remove(METRIC)?;
        let same = before.task == cell.task && before.corpus == cell.corpus && before.method == cell.method;
        (same && others == cell.others).then(|| (key.clone(), CellNow { others: before.others.clone(), ..cell.clone() }))
    });
    metrics.collect()
}

/// Key of a cell.
fn key_of(cell: &CellNow) -> String {
    let others: Vec<String> = cell.others.iter().map(|(axis, value)| format!(" {axis}={value}")).collect();
    format!("{} {} {}{}", cell.task, cell.corpus, cell.method, others.concat())
}

/// Adds the cells of a run that ended by an error, as far as no run has a result of them.
pub(super) fn add_failed(
    workflow: &Workflow,
    extra: &BTreeMap<String, String>,
    why: &str,
    history: &History,
    results: &mut Results,
) {
    for node in workflow.order.iter().map(|index| &workflow.graph[*index]).filter(|node| node.kind.name.starts_with(SCORES)) {
        let (key, empty, _) = name(node, workflow, extra);
        let cell = CellNow { failed: Some(why.to_owned()), ..empty };
        for (key, cell) in failed_before(&cell, history).into_iter().chain([(key, cell)]) {
            results.cells.entry(key).or_insert(cell);
        }
    }
}

/// Mean duration, largest memory and all machines.
fn over_seeds(costs: &[Cost]) -> Cost {
    let mean = costs.iter().map(|cost| cost.secs).sum::<f64>() / costs.len().max(1) as f64;
    Cost {
        secs: (mean * 1e3).round() / 1e3,
        peak_gib: costs.iter().filter_map(|cost| cost.peak_gib).reduce(f64::max),
        on: costs.iter().flat_map(|cost| cost.on.clone()).collect(),
    }
}

/// Keys of the cells of a workflow, each with its seed.
pub(super) fn cells_of(workflow: &Workflow, extra: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let nodes = workflow.order.iter().map(|index| &workflow.graph[*index]);
    let scores = nodes.filter(|node| node.kind.name.starts_with(SCORES));
    scores.map(|node| name(node, workflow, extra)).map(|(key, _, seed)| (key, seed)).collect()
}

/// Results of new seeds of one cell.
pub(super) fn seeds_of(
    opening: &Opening,
    summary: &Summary,
    key: &str,
    extra: &BTreeMap<String, String>,
    history: &History,
) -> Result<BTreeMap<String, SeedNow>> {
    let mut results = Results::default();
    collect(opening, summary, extra, history, &mut results)?;
    Ok(results.cells.remove(key).map(|cell| cell.seeds).unwrap_or_default())
}

/// Key of the cell of a node that scores, the cell without results, and the seed.
fn name(node: &Node, workflow: &Workflow, extra: &BTreeMap<String, String>) -> (String, CellNow, String) {
    let params = node.placed.params();
    let setting = |name: &str| match workflow.axes.iter().find(|(axis, _)| axis == name) {
        Some((_, values)) if values.len() == 1 => values.first().cloned(),
        _ => None,
    };
    let param = |name: &str| params.get(name).and_then(Value::as_str).map(str::to_owned).or_else(|| setting(name));
    let mut point = node.point.to_map();
    let task = point.remove("task").or_else(|| param("task")).unwrap_or_else(|| workflow.name.clone());
    let corpus = point.remove("corpus").or_else(|| param("corpus")).unwrap_or_else(|| NONE.to_owned());
    let method = point.remove("method").or_else(|| point.remove("anchor")).unwrap_or_else(|| NONE.to_owned());
    let seed = point.remove(SEED).unwrap_or_else(|| NONE.to_owned());
    point.extend(extra.clone());
    let cell = CellNow {
        task,
        corpus,
        method,
        others: point,
        node: without_seed(&node.id),
        metric: None,
        utterances: 0,
        failed: None,
        seeds: BTreeMap::new(),
        lineage: scoring::history::Lineage::default(),
        costs: BTreeMap::new(),
    };
    (key_of(&cell), cell, seed)
}

/// All nodes that a node was made from.
fn ancestors(opening: &Opening, node: NodeIndex) -> Vec<NodeIndex> {
    let (mut seen, mut todo) = (HashSet::from([node]), vec![node]);
    let mut found = vec![];
    while let Some(next) = todo.pop() {
        for other in opening.workflow.graph.neighbors_directed(next, Direction::Incoming) {
            if seen.insert(other) {
                found.push(other);
                todo.push(other);
            }
        }
    }
    found.sort_unstable();
    found
}

/// The error of the nearest node before it that failed.
fn why_failed(opening: &Opening, summary: &Summary, node: NodeIndex) -> String {
    let before: HashSet<String> =
        ancestors(opening, node).into_iter().chain([node]).map(|index| opening.workflow.graph[index].id.clone()).collect();
    let failure = summary.failed.iter().find(|(node, _)| before.contains(node));
    match failure {
        Some((node, Outcome::Failed { chain, .. })) => format!("{node}: {}", chain.join(": ")),
        _ if summary.stopped => "not reached before the end".to_owned(),
        _ => "not run".to_owned(),
    }
}

/// One value of several: itself, or the digest of all where they differ.
fn joined(values: &BTreeSet<String>) -> String {
    match values.first() {
        Some(only) if values.len() == 1 => only.clone(),
        _ => Digest::of(values.iter().cloned().collect::<Vec<_>>().join("\n").as_bytes()).short(),
    }
}

/// Reads manifests, each once.
struct Reader<'a> {
    opening: &'a Opening,
    records: HashMap<NodeIndex, Option<ResultRecord>>,
    ids: HashMap<String, pipeline::records::ResultId>,
}

impl Reader<'_> {
    fn record(&mut self, index: NodeIndex) -> Result<Option<&ResultRecord>> {
        if !self.records.contains_key(&index) {
            let id = self.ids.get(&self.opening.workflow.key(&self.opening.workflow.graph[index]));
            let record = id.map(|id| self.opening.store.result(*id)).transpose()?.flatten();
            self.records.insert(index, record);
        }
        Ok(self.records[&index].as_ref())
    }

    /// Cost of a training that ran.
    fn cost(&mut self, index: NodeIndex, step: &Step) -> Result<Cost> {
        let own = self.opening.settings.machine.host.clone();
        let provenance = self.record(index)?.map(|record| &record.provenance);
        let elsewhere = provenance.filter(|found| found.host != own).map(|found| format!(" on {}", found.host));
        let gpu = if step.gpu.is_some() { " GPU" } else { "" };
        Ok(Cost {
            secs: step.secs,
            peak_gib: provenance.and_then(|found| found.facts.get(PEAK)?.as_f64()),
            on: [format!("{}{gpu}{}", step.threads, elsewhere.unwrap_or_default())].into(),
        })
    }

    /// Threads and devices of the trainings and evaluations among some nodes: `1+2`. With other threads, results differ by rounding.
    fn threads(&mut self, nodes: impl Iterator<Item = NodeIndex>) -> Result<String> {
        let mut all = vec![];
        for index in nodes {
            let kind = self.opening.workflow.graph[index].kind.name;
            if !kind.ends_with(TRAINS) && !kind.ends_with(".evaluate") {
                continue;
            }
            if let Some(record) = self.record(index)? {
                let gpu = if record.provenance.gpu.is_some() { "g" } else { "" };
                all.push(format!("{}{gpu}", record.provenance.threads));
            }
        }
        all.sort(); // a larger or smaller table has its nodes in another order
        Ok(all.join("+"))
    }

    /// Adds the fields of a node's manifest by `stage/field`. Inputs are left out, because their nodes have fields of their own, and so
    /// is the seed of the point.
    fn add_fields(&mut self, index: NodeIndex, fields: &mut BTreeMap<String, BTreeSet<String>>) -> Result<()> {
        let node = &self.opening.workflow.graph[index];
        let seed = node.point.get(SEED).map(str::to_owned);
        let stage = node.stage.clone();
        let Some(record) = self.record(index)? else { return Ok(()) };
        for (name, value) in &record.manifest.0 {
            let name = match name.strip_prefix("input.") {
                Some(rest) => match rest.split_once(' ') {
                    Some(("source", place)) => format!("source.{place}"),
                    Some(("tool", tool)) => format!("environment.{tool}"),
                    _ => continue,
                },
                None if name == "partition" => continue,
                None if name.ends_with(SEED) && seed.as_deref() == Some(value.trim_matches('"')) => continue,
                None => name.clone(),
            };
            fields.entry(format!("{stage}/{name}")).or_default().insert(value.clone());
        }
        Ok(())
    }
}
