//! Bringing a workflow up to date: scan the sources, plan, run what must run, publish and record.
//!
//! A run has one or more *rounds*, usually one. If an artifact that a node is about to read is damaged or gone, the round starts no
//! more nodes and waits for those that run. Then the rest is planned again, and the next round makes that artifact again.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use petgraph::graph::NodeIndex;

use crate::Digest;
use crate::event::{Event, Outcome, Progress};
use crate::graph::{Node, Workflow};
use crate::plan::{Plan, Question, Verdict, plan};
use crate::records::Step;
use crate::registry::WorkerProgram;
use crate::remote::Remote;
use crate::schedule::Pools;
use crate::shared::SharedCache;
use crate::source::{RecentScans, ScanError};
use crate::stage::{Places, Stop, Tool};
use crate::store::{Store, StoreError};
use crate::toolbox::Toolbox;

mod survey;

mod round;

mod forecast;
mod ready;
mod thread_pool;

mod node;
mod remote;
mod reporter;
mod shared;
mod source_check;
mod task;

mod outcome;
mod state;
mod status;
mod timeline;

pub use crate::host::now_ms;
use round::Round;
pub use shared::Supply;
use state::RunState;
pub use status::{RunStatus, Running, status};
pub use survey::Survey;
pub use timeline::timeline;

/// Properties of this machine; none of them enters a fingerprint.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// Folders of places outside the store.
    pub places: Places,
    /// Slots and devices.
    pub pools: Pools,
    /// External programs.
    pub toolbox: Toolbox,
    /// Program that runs the bodies of this process in a process of its own each; none to run them in this process.
    pub own_worker: Option<WorkerProgram>,
    /// Host name, for the record.
    pub host: String,
    /// Version and commit of this program, for the record; empty where they do not matter.
    pub program: String,
    /// Cluster on which nodes run; none to run all of them here.
    pub remote: Option<Remote>,
    /// Results that other machines share, if there are any.
    pub shared: Option<Arc<dyn SharedCache>>,
}

/// Options of a run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Go on with what does not depend on a failed node.
    pub keep_going: bool,
    /// Nodes to run whatever is remembered.
    pub forced: HashSet<NodeIndex>,
    /// The only nodes that may run, when not empty: all others are taken as they are.
    pub only: HashSet<NodeIndex>,
    /// Nodes whose results the caller reads after the run, beside those that nothing depends on: their bytes are on this machine then.
    /// Of other nodes that stay as they are, the bytes may be left in the shared cache.
    pub read: HashSet<NodeIndex>,
    /// Request of the user, for the record.
    pub request: String,
    /// Folder of the project that asks, for the record.
    pub project: Option<String>,
    /// Scans of outside trees that were made right before.
    pub scans: RecentScans,
    /// Waiting times of a run.
    pub timeouts: Timeouts,
}

impl Options {
    fn may_run(&self, node: NodeIndex) -> bool {
        self.only.is_empty() || self.only.contains(&node)
    }
}

/// Waiting times of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// From asking a worker to stop until it is killed.
    pub grace: Duration,
    /// From a first failure until the second attempt; twice as long before each further one.
    pub pause: Duration,
    /// The longest pause between two attempts.
    pub longest_pause: Duration,
    /// Between two writes of the status file (see [`status()`]), and between two tellings of [`Event::Progress`].
    pub status: Duration,
    /// Between two looks at a node that another machine makes.
    pub elsewhere: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let secs = Duration::from_secs;
        Self { grace: secs(10), pause: secs(1), longest_pause: secs(60), status: secs(1), elsewhere: secs(2) }
    }
}

impl Timeouts {
    /// The pause after an attempt, counted from 1.
    fn after(&self, attempt: u32) -> Duration {
        self.pause.saturating_mul(1 << (attempt - 1).min(20)).min(self.longest_pause)
    }
}

/// Reason why a workflow could not be planned or run at all. A node that fails is not such an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// This machine's settings name no such place.
    #[error("`{node}` needs `{place}`, and no folder is set for it")]
    NoPlace {
        /// The source node.
        node: String,
        /// The place.
        place: String,
    },
    /// An outside tree cannot be read.
    #[error("`{node}` cannot read `{place}`")]
    Scan {
        /// The source node.
        node: String,
        /// The place.
        place: String,
        /// The cause.
        #[source]
        source: ScanError,
    },
    /// A source node failed while the sources were looked through.
    #[error("`{node}` failed")]
    Source {
        /// The node.
        node: String,
        /// Messages of the error and its causes, outermost first.
        chain: Vec<String>,
        /// Hint for the user.
        hint: Option<String>,
    },
}

/// Result of a run.
#[derive(Debug)]
pub struct Summary {
    /// Number of the run.
    pub run: i64,
    /// True if every wanted node is up to date.
    pub complete: bool,
    /// True if it ended early because that was asked for.
    pub stopped: bool,
    /// Outcome of each node that did not stay as it was.
    pub steps: Vec<Step>,
    /// Every failed node with its [`Outcome::Failed`], once, in the order in which they failed.
    pub failed: Vec<(String, Outcome)>,
    /// The artifacts that are up to date.
    pub artifacts: HashMap<NodeIndex, Digest>,
    /// State of the sources.
    pub survey: Survey,
}

/// Workflow with everything that it runs on.
pub struct Runner<'a> {
    /// The workflow.
    pub workflow: &'a Workflow,
    /// The store.
    pub store: &'a Store,
    /// The machine.
    pub machine: &'a Machine,
    /// The listener.
    pub progress: Arc<dyn Progress>,
    /// The way to end early.
    pub stop: Stop,
}

impl Runner<'_> {
    /// Plans a run.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn plan(&self, survey: &Survey, forced: &HashSet<NodeIndex>) -> Result<Plan, StoreError> {
        let failed = survey.failures.keys().copied().collect();
        let (toolbox, matter) = (&self.machine.toolbox, self.store.has_results_of_tools());
        let tools = |tools: &[Tool]| if matter { toolbox.tools(tools) } else { toolbox.located(tools) };
        let question = Question { workflow: self.workflow, sources: &survey.digests, failed: &failed, forced, tools: &tools };
        loop {
            let plan = self.store.snapshot(|snapshot| plan(&question, snapshot))?;
            if self.final_results_are_sound(&plan)? {
                return Ok(plan);
            }
        }
    }

    /// Checks the results that no other node would read before use. One that was emptied or edited is set aside, so that the next plan
    /// makes it again. One that is left in the shared cache is not looked at.
    fn final_results_are_sound(&self, plan: &Plan) -> Result<bool, StoreError> {
        let mut all = true;
        for (node, verdict) in &plan.verdicts {
            let is_final = || self.workflow.graph.neighbors(*node).next().is_none();
            if let Verdict::Reuse { artifact, .. } = verdict
                && is_final()
                && !self.store.is_away(*artifact)
            {
                all &= self.store.usable(*artifact, None)?;
            }
        }
        Ok(all)
    }

    /// Looks through the outside trees, plans, and runs what must run.
    ///
    /// # Errors
    /// [`RunError`] when the store fails, or a source cannot be looked through and [`Options::keep_going`] is not set; a failing
    /// node is part of the [`Summary`].
    pub fn run(&self, options: &Options) -> Result<Summary, RunError> {
        let begun = Instant::now();
        let _ = status(self.store); // removes what killed runs left
        if let Some(cache) = &self.machine.shared {
            self.store.lend(Arc::clone(cache));
            self.store.count_away(true);
        }
        let run = self.store.begin_run(
            &self.workflow.name,
            &options.request,
            options.project.as_deref(),
            &self.machine.host,
            now_ms(),
        )?;
        let mut state = RunState::new(self, run);
        let through = self.go_through(options, &mut state);
        let mut summary = state.close();
        let wanted = |node: &&NodeIndex| options.may_run(**node);
        summary.complete = self.workflow.order.iter().filter(wanted).all(|node| summary.artifacts.contains_key(node));
        summary.complete &= through.is_ok();
        summary.stopped = self.stop.requested() && !summary.complete;
        let outcome = match () {
            () if summary.complete => "done",
            () if summary.stopped => "stopped",
            () => "failed",
        };
        let ended = self.store.end_run(run, outcome, &summary.steps, now_ms());
        through?;
        ended?;
        self.progress.event(&Event::RunFinished { run, complete: summary.complete, secs: begun.elapsed().as_secs_f64() });
        Ok(summary)
    }

    /// Survey, plan, then rounds until nothing is left to do.
    fn go_through(&self, options: &Options, state: &mut RunState<'_>) -> Result<(), RunError> {
        let survey = self.survey_in_run(options, state.run)?;
        for (node, tried) in &survey.made {
            state.looked_through(*node, tried);
        }
        self.rounds(&survey, options, state)?;
        state.summary.survey = survey;
        Ok(())
    }

    /// Plans a round, with what the shared cache has of it.
    fn plan_and_bring(&self, survey: &Survey, forced: &HashSet<NodeIndex>, options: &Options) -> Result<Plan, RunError> {
        let begun = Instant::now();
        let mut plan = self.plan(survey, forced)?;
        let results = if plan.is_done() { 0 } else { self.take_over(survey, forced)? };
        if results > 0 {
            plan = self.plan(survey, forced)?;
        }
        loop {
            let Some(bytes) = self.bring_what_is_read(&plan, &options.read)? else {
                // What did not come has to be made, which may need more; not by a run that is to stop.
                self.store.count_away(!self.stop.requested());
                plan = self.plan(survey, forced)?;
                continue;
            };
            if results > 0 || bytes > 0 {
                self.progress.event(&Event::FromCache { results, bytes, secs: begun.elapsed().as_secs_f64() });
            }
            return Ok(plan);
        }
    }

    fn rounds(&self, survey: &Survey, options: &Options, state: &mut RunState<'_>) -> Result<(), RunError> {
        let mut forced = options.forced.clone();
        forced.retain(|node| options.may_run(*node));
        loop {
            let plan = self.plan_and_bring(survey, &forced, options)?;
            let again = if plan.is_done() && survey.failures.is_empty() {
                state.started(&plan, None);
                state.all_reused(&plan);
                false
            } else {
                Round::new(self, survey, &plan, options, state)?.go()?
            };
            if !again {
                if let Some(cache) = &self.machine.shared {
                    cache.used(&state.reused.iter().map(|(_, fingerprint)| *fingerprint).collect::<Vec<_>>());
                }
                return Ok(self.store.note_reused(&state.reused)?);
            }
            forced.retain(|node| !state.made.contains(node));
        }
    }
}

/// Run number of nodes that run while planning, outside any run.
const NO_RUN: i64 = 0;

/// Returns the path of a node's log.
fn log_of(store: &Store, run: i64, node: &Node) -> PathBuf {
    store.log_path(run, &node.id)
}
