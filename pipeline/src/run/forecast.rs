//! Expected times of nodes and of a run, from earlier executions.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use petgraph::graph::NodeIndex;

use super::Runner;
use crate::event::Event;
use crate::plan::{Plan, Verdict};
use crate::schedule::{Schedule, expected_secs};
use crate::store::StoreError;

/// How long each node took when it last ran, by its index; where that is not known, how long others of its stage took.
pub(super) fn durations(runner: &Runner<'_>) -> Result<Vec<Option<f64>>, StoreError> {
    let workflow = runner.workflow;
    let mut secs = vec![None; workflow.graph.node_count()];
    let times = runner.store.durations(&workflow.name)?;
    if times.is_empty() {
        return Ok(secs);
    }
    let mut stages: HashMap<&str, (f64, f64)> = HashMap::new();
    for node in &workflow.order {
        let weight = &workflow.graph[*node];
        if let Some(found) = times.get(&workflow.key(weight)) {
            secs[node.index()] = Some(*found);
            let (sum, count) = stages.entry(&weight.stage).or_default();
            (*sum, *count) = (*sum + found, *count + 1.0);
        }
    }
    for node in &workflow.order {
        let mean = || stages.get(&*workflow.graph[*node].stage).map(|(sum, count)| sum / count);
        secs[node.index()] = secs[node.index()].or_else(mean);
    }
    Ok(secs)
}

/// Time that the nodes that run take together; none when that of one of them is not known, or there are none.
pub(super) fn time_of(
    runner: &Runner<'_>,
    runs: impl Fn(NodeIndex) -> bool,
    secs: impl Fn(NodeIndex) -> Option<f64>,
) -> Option<f64> {
    let mut known = vec![None; runner.workflow.graph.node_count()];
    for node in runner.workflow.order.iter().filter(|node| runs(**node)) {
        known[node.index()] = Some(secs(*node)?);
    }
    let expected = expected_secs(runner.workflow, &runner.machine.pools, |node| known[node.index()]);
    (expected > 0.0).then_some(expected)
}

impl Runner<'_> {
    /// Longest time that a plan takes, going by earlier executions; none when a node has never run, nor another of its stage.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn expected_secs(&self, plan: &Plan) -> Result<Option<f64>, StoreError> {
        let secs = durations(self)?;
        let mut runs = vec![false; secs.len()];
        for (node, verdict) in &plan.verdicts {
            runs[node.index()] = matches!(verdict, Verdict::Run(_) | Verdict::RunIf(_));
        }
        Ok(time_of(self, |node| runs[node.index()], |node| secs[node.index()]))
    }
}

/// Tells the listener from time to time how far a run is.
pub(super) struct Forecast {
    told: Instant,
    pause: Duration,
}

/// State of a node that is not done.
pub(super) struct Open {
    /// For how long it has been running; none when it is not.
    pub(super) running: Option<f64>,
    /// True if the node may turn out not to be needed.
    pub(super) unsure: bool,
}

impl Forecast {
    pub(super) fn new(pause: Duration) -> Self {
        Self { told: Instant::now(), pause }
    }

    /// Tells how far the run is. So many of its running nodes wait on a cluster.
    pub(super) fn tell_when_due(
        &mut self,
        runner: &Runner<'_>,
        schedule: &Schedule<'_>,
        secs: &[Option<f64>],
        waiting: usize,
        look: impl Fn(NodeIndex) -> Open,
    ) {
        if self.told.elapsed() < self.pause {
            return;
        }
        let begun = Instant::now();
        let (mut done, mut to_run, mut unsure) = (0, 0, 0);
        for node in &runner.workflow.order {
            if schedule.is_done(*node) {
                done += 1;
            } else if schedule.is_open(*node) && !schedule.is_running(*node) {
                let counter = if look(*node).unsure { &mut unsure } else { &mut to_run };
                *counter += 1;
            }
        }
        let left = |node: NodeIndex| {
            let whole = secs[node.index()]?;
            Some(look(node).running.map_or(whole, |so_far| (whole - so_far).max(0.0)))
        };
        let secs_left = time_of(runner, |node| schedule.is_open(node), left);
        // What waits on a cluster has been sent away, and does not run yet.
        let (running, to_run) = (schedule.running().saturating_sub(waiting), to_run + waiting.min(schedule.running()));
        runner.progress.event(&Event::Progress { done, running, to_run, unsure, secs_left });
        self.pause = self.pause.max(begun.elapsed() * 50); // where looking at all nodes takes long, it is done seldom
        self.told = Instant::now();
    }
}
