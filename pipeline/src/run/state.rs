//! State of a run, and its reports: events to the listener, steps for the record, and the summary.

use std::collections::{HashMap, HashSet};

use petgraph::graph::NodeIndex;

use super::outcome::Tried;
use super::status::StatusFile;
use super::{Runner, Summary, Survey, log_of};
use crate::Digest;
use crate::event::{Event, Outcome};
use crate::plan::{Plan, Verdict};
use crate::records::Step;
use crate::store::StoreError;

/// State of a run, through all its rounds.
pub(super) struct RunState<'a> {
    runner: &'a Runner<'a>,
    pub(super) run: i64,
    pub(super) summary: Summary,
    /// Nodes that did not run, with their fingerprints.
    pub(super) reused: Vec<(String, Digest)>,
    /// Nodes that ran well.
    pub(super) made: HashSet<NodeIndex>,
    /// Nodes that failed.
    pub(super) failed: HashSet<NodeIndex>,
    /// How often an input of a node turned out damaged.
    pub(super) damage: HashMap<NodeIndex, u32>,
    pub(super) status: StatusFile<'a>,
    has_started: bool,
    has_logs: bool,
}

impl<'a> RunState<'a> {
    pub(super) fn new(runner: &'a Runner<'a>, run: i64) -> Self {
        let (artifacts, steps, failed) = (HashMap::new(), vec![], vec![]);
        Self {
            runner,
            run,
            summary: Summary { run, complete: false, stopped: false, steps, failed, artifacts, survey: Survey::default() },
            reused: vec![],
            made: HashSet::new(),
            failed: HashSet::new(),
            damage: HashMap::new(),
            status: StatusFile::new(runner, run),
            has_started: false,
            has_logs: false,
        }
    }

    /// Tells the first plan of the run.
    pub(super) fn started(&mut self, plan: &Plan, expected_secs: Option<f64>) {
        if !std::mem::replace(&mut self.has_started, true) {
            let (reuse, run_nodes, maybe) = plan.counts();
            let workflow = self.runner.workflow.name.clone();
            self.runner.progress.event(&Event::RunStarted { run: self.run, workflow, reuse, run_nodes, maybe, expected_secs });
        }
    }

    /// Makes the folder for this run's logs when it is first needed.
    pub(super) fn make_log_folder(&mut self) -> Result<(), StoreError> {
        if !std::mem::replace(&mut self.has_logs, true) {
            self.runner.store.logs(self.run)?;
        }
        Ok(())
    }

    /// A node stays as it was.
    pub(super) fn reused(&mut self, node: NodeIndex, fingerprint: Digest, artifact: Digest) {
        self.summary.artifacts.insert(node, artifact);
        self.reused.push((self.runner.workflow.key(&self.runner.workflow.graph[node]), fingerprint));
    }

    /// Everything stays as it was.
    pub(super) fn all_reused(&mut self, plan: &Plan) {
        for (node, verdict) in &plan.verdicts {
            if let Verdict::Reuse { fingerprint, artifact } = verdict {
                self.reused(*node, *fingerprint, *artifact);
            }
        }
    }

    /// A node ended.
    pub(super) fn finished(&mut self, index: NodeIndex, outcome: Outcome, tried: &Tried) {
        let node = &self.runner.workflow.graph[index];
        let (state, message) = match &outcome {
            Outcome::Ran { dropped: None, .. } => ("ran", None),
            Outcome::Ran { dropped: Some(_), .. } => {
                ("ran", Some("gave other bytes than before; the earlier result is kept".to_owned()))
            }
            Outcome::Reused => ("reused", None),
            Outcome::Failed { chain, .. } => ("failed", Some(chain.join(": "))),
            Outcome::Stopped => ("stopped", None),
            Outcome::Blocked { by } => ("blocked", Some(format!("`{by}` failed"))),
            Outcome::Held { by } => ("held", Some(format!("`{by}` is not up to date, and --only leaves it alone"))),
        };
        match &outcome {
            Outcome::Ran { .. } => _ = self.made.insert(index),
            Outcome::Failed { .. } => {
                self.failed.insert(index);
                self.summary.failed.push((node.id.clone(), outcome.clone()));
            }
            _ => {}
        }
        self.record(index, state, message, tried);
        self.runner.progress.event(&Event::NodeFinished { node: node.id.clone(), outcome, secs: tried.secs });
    }

    /// A source node ran while the sources were looked through.
    pub(super) fn looked_through(&mut self, index: NodeIndex, tried: &Tried) {
        self.record(index, "source", None, tried);
    }

    fn record(&mut self, index: NodeIndex, state: &str, message: Option<String>, tried: &Tried) {
        let node = &self.runner.workflow.graph[index];
        let log = (tried.attempts > 0).then(|| log_of(self.runner.store, self.run, node));
        self.summary.steps.push(Step {
            node: self.runner.workflow.key(node),
            state: state.to_owned(),
            secs: tried.secs,
            log,
            message,
            why: tried.why.clone(),
            started_ms: tried.started_ms,
            attempts: tried.attempts,
            threads: tried.threads,
            gpu: tried.gpu,
            other_gpus: tried.other_gpus.clone(),
        });
    }

    pub(super) fn close(self) -> Summary {
        self.summary
    }
}

/// Why a plan says that a node runs, in few words.
pub(super) fn why(verdict: &Verdict) -> Option<String> {
    use crate::plan::Reason;
    match verdict {
        Verdict::Reuse { .. } | Verdict::Blocked { .. } => None,
        Verdict::Run(Reason::New) => Some("new".to_owned()),
        Verdict::Run(Reason::Gone) => Some("its artifact was gone".to_owned()),
        Verdict::Run(Reason::Forced) => Some("forced".to_owned()),
        Verdict::Run(Reason::Changed { changes }) => {
            let names: Vec<&str> = changes.iter().take(4).map(|change| change.field.as_str()).collect();
            let more = changes.len().saturating_sub(names.len());
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            Some(format!("changed: {}{more}", names.join(", ")))
        }
        Verdict::RunIf(_) => Some("an input changed".to_owned()),
    }
}
