//! One pass over the schedule: decide about what is ready, start what fits, take over what ended, until nothing runs.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use petgraph::graph::NodeIndex;

use super::forecast::{Forecast, Open, durations, time_of};
use super::node::DamagedInput;
use super::outcome::{Tried, is_disk_full, outcome_of};
use super::ready::Ready;
use super::remote::{Item, RemotePool};
use super::state::{RunState, why};
use super::survey::Survey;
use super::task::{End, Task, retries};
use super::thread_pool::{Ended, ThreadPool, Work};
use super::{Options, RunError, Runner, now_ms};
use crate::Digest;
use crate::event::{Event, Outcome};
use crate::plan::{Plan, Verdict};
use crate::schedule::Schedule;
use crate::stage::{StageError, chain};

/// How often the run looks whether a stop was asked for while nothing else happens.
const STOP_POLL: Duration = Duration::from_millis(100);

/// Time that nodes gather before they are sent to the cluster: since the last one, and since the first one.
const GATHER: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Nodes that take less time, in seconds, stay on this machine: the way to the cluster would take longer.
const SHORT_SECS: f64 = 5.0;

/// So many ready nodes of a stage are sent to the cluster, however short they are.
const MANY_SIBLINGS: usize = 50;

/// How often an artifact may be found damaged by one node before that fails.
const MOST_DAMAGE: u32 = 3;

pub(super) struct Round<'r, 'l> {
    runner: &'r Runner<'r>,
    survey: &'r Survey,
    options: &'r Options,
    state: &'r mut RunState<'l>,
    /// By index of the node.
    verdicts: Vec<Option<&'r Verdict>>,
    /// How long each node took last, by its index.
    secs: Vec<Option<f64>>,
    /// Time that the nodes of a stage took together in this round, and their number.
    taken: HashMap<&'r str, (f64, u32)>,
    schedule: Schedule<'r>,
    forecast: Forecast,
    /// Nodes that are queued, run or rest.
    tasks: HashMap<NodeIndex, Attempt>,
    /// Nodes that are tried again, and when.
    resting: BinaryHeap<Reverse<(Instant, NodeIndex)>>,
    /// Nodes that may run on the cluster and are not on their way yet: how many and which share an array is known a moment later.
    undecided: Vec<NodeIndex>,
    /// When the first and the last of them became ready.
    gathering: (Instant, Instant),
    /// Nodes that would have to run, and may not.
    left_alone: HashSet<NodeIndex>,
    /// Nothing more is started.
    halted: bool,
    /// Nothing more is started in this round, because an artifact has to be made again.
    damaged: bool,
}

/// A node that must run, and how that goes so far.
struct Attempt {
    task: Arc<Task>,
    tried: Tried,
}

impl<'r, 'l> Round<'r, 'l> {
    pub(super) fn new(
        runner: &'r Runner<'r>,
        survey: &'r Survey,
        plan: &'r Plan,
        options: &'r Options,
        state: &'r mut RunState<'l>,
    ) -> Result<Self, RunError> {
        let mut verdicts = vec![None; runner.workflow.graph.node_count()];
        for (node, verdict) in &plan.verdicts {
            verdicts[node.index()] = Some(verdict);
        }
        let secs = durations(runner)?;
        let runs = |node: NodeIndex| matches!(verdicts[node.index()], Some(Verdict::Run(_) | Verdict::RunIf(_)));
        state.started(plan, time_of(runner, |node| runs(node) && options.may_run(node), |node| secs[node.index()]));
        let schedule = Schedule::new(runner.workflow, runner.machine.pools.clone(), |node| secs[node.index()]);
        let halted = !survey.failures.is_empty() && !options.keep_going;
        let (tasks, resting, left_alone) = (HashMap::new(), BinaryHeap::new(), HashSet::new());
        Ok(Self {
            runner,
            survey,
            options,
            state,
            verdicts,
            secs,
            taken: HashMap::new(),
            schedule,
            forecast: Forecast::new(options.timeouts.status),
            tasks,
            resting,
            undecided: vec![],
            gathering: (Instant::now(), Instant::now()),
            left_alone,
            halted,
            damaged: false,
        })
    }

    /// True when another round is needed.
    pub(super) fn go(mut self) -> Result<bool, RunError> {
        let (ended, ends) = channel();
        let (runner, timeouts) = (self.runner, &self.options.timeouts);
        std::thread::scope(|scope| {
            let remote = RemotePool::new(scope, runner, timeouts, ended.clone())?;
            let mut thread_pool = ThreadPool::new(scope, runner, timeouts, ended);
            let ended = self.until_nothing_runs(&mut thread_pool, remote.as_ref(), &ends);
            if ended.is_err() {
                runner.stop.request(); // what still runs could not be recorded
            }
            ended
        })?;
        let again = self.damaged && !self.halted;
        if again {
            self.state.summary.artifacts.clear(); // the next plan tells anew
        } else {
            self.report_left_over();
        }
        Ok(again)
    }

    fn until_nothing_runs(
        &mut self,
        thread_pool: &mut ThreadPool<'_, '_>,
        remote: Option<&RemotePool<'_>>,
        ends: &Receiver<Ended>,
    ) -> Result<(), RunError> {
        loop {
            while let Some(node) = self.schedule.next_ready() {
                self.decide(node)?;
            }
            self.wake_rested();
            self.halted |= self.runner.stop.requested();
            if !self.halted && !self.damaged {
                if let Some(remote) = remote {
                    self.send_away(remote);
                }
                self.start_what_fits(thread_pool);
            } else if let Some(remote) = remote {
                remote.detach(self.damaged && !self.halted);
            }
            let nothing_comes = self.halted || self.damaged || self.schedule.resting() == 0 && self.undecided.is_empty();
            if self.schedule.running() == 0 && nothing_comes {
                return Ok(());
            }
            match ends.recv_timeout(self.pause()) {
                Ok(ended) => {
                    self.take(ended);
                    while let Ok(ended) = ends.try_recv() {
                        self.take(ended);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("the thread_pool holds a sender"),
            }
            self.write_status(remote);
            self.tell_progress(remote);
        }
    }

    /// True if a node may run on the cluster.
    fn may_go_away(&self, node: NodeIndex) -> bool {
        let node = &self.runner.workflow.graph[node];
        self.runner.machine.remote.is_some() && !node.limits.local && node.placed.sources().is_empty()
    }

    /// A node that may run on the cluster is ready, or rested.
    fn gather(&mut self, node: NodeIndex) {
        let now = Instant::now();
        self.gathering = (if self.undecided.is_empty() { now } else { self.gathering.0 }, now);
        self.undecided.push(node);
    }

    /// Decides where the nodes run that have gathered: a few short ones run here, the others on the cluster.
    fn send_away(&mut self, remote: &RemotePool<'_>) {
        let (first, last) = self.gathering;
        if self.undecided.is_empty() || last.elapsed() < GATHER.0 && first.elapsed() < GATHER.1 {
            return;
        }
        let Some(options) = self.runner.machine.remote.as_ref().map(|remote| &remote.options) else { return };
        let graph = &self.runner.workflow.graph;
        let nodes = std::mem::take(&mut self.undecided);
        let mut siblings: HashMap<&str, usize> = HashMap::new();
        for node in &nodes {
            *siblings.entry(&graph[*node].stage).or_default() += 1;
        }
        let mut items = vec![];
        for node in nodes {
            let weight = &graph[node];
            // Nothing is known at first: what ends teaches, so that scores of many trainings do not queue one by one.
            let mean = || self.taken.get(&*weight.stage).map(|(secs, count)| secs / f64::from(*count));
            let secs = self.secs[node.index()].or_else(mean);
            self.schedule.start_elsewhere(node);
            let attempt = self.tasks.get_mut(&node).expect("only prepared nodes gather");
            let class = options.class(weight.limits.over(weight.placed.demand()));
            // A time on a GPU of the cluster says nothing of this machine.
            let is_short = !class.gpu && secs.is_some_and(|secs| secs < SHORT_SECS) && siblings[&*weight.stage] < MANY_SIBLINGS;
            attempt.tried.attempts += 1;
            if attempt.tried.attempts == 1 {
                attempt.tried.started_ms = now_ms();
            }
            attempt.tried.threads = class.threads;
            items.push(Item::new(Arc::clone(&attempt.task), attempt.tried.attempts, class, secs, is_short));
        }
        if !items.is_empty() {
            remote.start(items);
        }
    }

    fn tell_progress(&mut self, remote: Option<&RemotePool<'_>>) {
        let waiting = remote.map_or(0, RemotePool::waiting);
        let Self { runner, forecast, schedule, secs, tasks, verdicts, .. } = self;
        let now = now_ms();
        forecast.tell_when_due(runner, schedule, secs, waiting, |node| {
            let attempt = tasks.get(&node);
            let running = attempt.filter(|_| schedule.is_running(node));
            let running = running.map(|attempt| (now - attempt.tried.started_ms).max(0) as f64 / 1e3);
            Open { running, unsure: attempt.is_none() && matches!(verdicts[node.index()], Some(Verdict::RunIf(_))) }
        });
    }

    /// Decides about a node whose inputs exist.
    fn decide(&mut self, node: NodeIndex) -> Result<(), RunError> {
        if self.state.failed.contains(&node) {
            self.schedule.failed(node); // in an earlier round
            return Ok(());
        }
        if let Some(outcome) = self.survey.failures.get(&node) {
            self.schedule.failed(node);
            self.state.finished(node, outcome.clone(), &Tried { attempts: 1, ..Tried::default() });
            return Ok(());
        }
        if let Some(Verdict::Reuse { fingerprint, artifact }) = self.verdicts[node.index()] {
            self.state.reused(node, *fingerprint, *artifact);
            self.schedule.done(node);
            return Ok(());
        }
        match self.runner.prepare(node, self.verdicts[node.index()], self.survey, self.options, self.state)? {
            Ready::Run(mut task) => {
                task.expected_secs = self.secs[node.index()];
                let why = self.verdicts[node.index()].and_then(why);
                self.tasks.insert(node, Attempt { task: Arc::new(task), tried: Tried { why, ..Tried::default() } });
                if self.may_go_away(node) { self.gather(node) } else { self.schedule.queue(node) }
            }
            Ready::Known(fingerprint, artifact) => {
                self.state.reused(node, fingerprint, artifact);
                self.schedule.done(node);
                self.state.finished(node, Outcome::Reused, &Tried::default());
            }
            Ready::LeftAlone => {
                self.left_alone.insert(node);
                self.schedule.failed(node);
            }
            Ready::Damaged(artifact) => {
                self.schedule.rest(node);
                self.make_again(node, artifact, &Tried::default());
            }
            Ready::Broken(error) => self.fail(node, &error, &Tried::default()),
        }
        Ok(())
    }

    fn wake_rested(&mut self) {
        let now = Instant::now();
        while self.resting.peek().is_some_and(|Reverse((due, _))| *due <= now) {
            let Some(Reverse((_, node))) = self.resting.pop() else { return };
            if self.may_go_away(node) { self.gather(node) } else { self.schedule.queue(node) }
        }
    }

    fn start_what_fits(&mut self, thread_pool: &mut ThreadPool<'_, '_>) {
        while let Some((node, grant)) = self.schedule.next_start() {
            let attempt = self.tasks.get_mut(&node).expect("only prepared nodes are queued");
            let tried = &mut attempt.tried;
            tried.attempts += 1;
            if tried.started_ms == 0 {
                tried.started_ms = now_ms();
                let (node, expected_secs) = (self.runner.workflow.graph[node].id.clone(), self.secs[node.index()]);
                self.runner.progress.event(&Event::NodeStarted { node, expected_secs });
            }
            (tried.threads, tried.gpu, tried.other_gpus) = (grant.threads, grant.gpu, grant.other_gpus());
            let work = Work { task: Arc::clone(&attempt.task), grant, attempt: tried.attempts };
            self.note_small_memory(node);
            thread_pool.start(work, self.schedule.running());
        }
    }

    /// Says that a node runs with less memory than it claims, when that is so.
    fn note_small_memory(&self, node: NodeIndex) {
        let Some(size) = self.runner.machine.pools.memory_mib else { return };
        let weight = &self.runner.workflow.graph[node];
        let wanted = weight.limits.over(weight.placed.demand()).memory_mib;
        if wanted > size {
            let line =
                format!("it claims {wanted} MiB of memory and the pool has {size}, so no other that claims any runs beside it");
            self.runner.progress.event(&Event::Note { node: weight.id.clone(), line });
        }
    }

    /// How long to wait for the end of a node at most.
    fn pause(&self) -> Duration {
        let next = self.resting.peek().map(|Reverse((due, _))| due.saturating_duration_since(Instant::now()));
        let longest = if self.undecided.is_empty() { STOP_POLL } else { GATHER.0 };
        next.map_or(longest, |next| next.min(longest))
    }

    /// Takes over how an attempt ended.
    fn take(&mut self, ended: Ended) {
        let Ended { task, end, secs } = ended;
        let node = task.node;
        let Some(Attempt { task, mut tried }) = self.tasks.remove(&node) else { return };
        tried.secs += secs;
        match end {
            End::Made(artifact, dropped) => {
                let (sum, count) = self.taken.entry(&self.runner.workflow.graph[node].stage).or_default();
                (*sum, *count) = (*sum + secs, *count + 1);
                self.state.summary.artifacts.insert(node, artifact);
                self.schedule.done(node);
                let dropped = dropped.map(|dropped| self.runner.store.path(dropped));
                self.state.finished(node, Outcome::Ran { path: self.runner.store.path(artifact), dropped }, &tried);
            }
            End::Found(fingerprint, artifact) => {
                self.state.reused(node, fingerprint, artifact);
                self.schedule.done(node);
                self.state.finished(node, Outcome::Reused, &tried);
            }
            End::Damaged(artifact) => {
                self.schedule.rest(node);
                self.make_again(node, artifact, &tried);
            }
            End::Here => {
                tried.attempts -= 1;
                self.tasks.insert(node, Attempt { task, tried });
                self.schedule.rest(node);
                self.schedule.queue(node);
            }
            End::Detached => self.schedule.rest(node), // until another run, or another round, takes it over
            End::Elsewhere => {
                tried.attempts -= 1; // it was none
                self.schedule.rest(node);
                self.resting.push(Reverse((Instant::now() + self.options.timeouts.elsewhere, node)));
                self.tasks.insert(node, Attempt { task, tried });
            }
            End::Failed(error) => {
                let left = retries(&self.runner.workflow.graph[node]).saturating_sub(tried.attempts - 1);
                if error.is_transient() && !is_disk_full(&error) && left > 0 && !self.halted && !self.runner.stop.requested() {
                    self.try_again(node, Attempt { task, tried }, &error);
                } else {
                    self.fail(node, &error, &tried);
                }
            }
        }
    }

    /// Lets a node rest, then try again. Meanwhile it holds nothing.
    fn try_again(&mut self, node: NodeIndex, attempt: Attempt, error: &StageError) {
        let number = attempt.tried.attempts;
        let pause = self.options.timeouts.after(number);
        let of = retries(&self.runner.workflow.graph[node]) + 1;
        let line = format!("attempt {number} of {of} failed: {}; again in {pause:?}", chain(error).join(": "));
        self.tell(node, &attempt.task, line);
        self.schedule.rest(node);
        self.resting.push(Reverse((Instant::now() + pause, node)));
        self.tasks.insert(node, attempt);
    }

    fn tell(&self, node: NodeIndex, task: &Task, line: String) {
        let log = std::fs::File::options().create(true).append(true).open(&task.log);
        let _ = log.and_then(|mut log| std::io::Write::write_all(&mut log, format!("{line}\n").as_bytes())); // a courtesy
        self.runner.progress.event(&Event::Note { node: self.runner.workflow.graph[node].id.clone(), line });
    }

    /// Has what gave a damaged artifact run again, in another round.
    fn make_again(&mut self, node: NodeIndex, digest: Digest, tried: &Tried) {
        let times = self.state.damage.entry(node).or_default();
        *times += 1;
        if *times > MOST_DAMAGE {
            return self.fail(node, &StageError::failed(DamagedInput { digest }), tried);
        }
        self.damaged = true;
        let line = format!("its input {digest} is damaged or gone: it is made again");
        self.runner.progress.event(&Event::Note { node: self.runner.workflow.graph[node].id.clone(), line });
    }

    fn fail(&mut self, node: NodeIndex, error: &StageError, tried: &Tried) {
        self.schedule.failed(node);
        self.halted |= !self.options.keep_going || is_disk_full(error);
        let log = super::log_of(self.runner.store, self.state.run, &self.runner.workflow.graph[node]);
        self.state.finished(node, outcome_of(error, &log), tried);
    }

    /// Tells of every node that had no turn.
    fn report_left_over(&mut self) {
        for (node, by) in self.schedule.left_over() {
            let name = |by: NodeIndex| self.runner.workflow.graph[by].id.clone();
            let outcome = match by {
                _ if !self.options.may_run(node) => continue,
                Some(by) if self.left_alone.contains(&by) => Outcome::Held { by: name(by) },
                Some(by) if !self.runner.stop.requested() => Outcome::Blocked { by: name(by) },
                _ => Outcome::Stopped,
            };
            self.state.finished(node, outcome, &Tried::default());
        }
    }

    fn write_status(&mut self, remote: Option<&RemotePool<'_>>) {
        let Self { state, schedule, tasks, secs, options, .. } = self;
        let times = |node: NodeIndex| (tasks.get(&node).map_or(0, |attempt| attempt.tried.started_ms), secs[node.index()]);
        state.status.write_when_due(options.timeouts.status, schedule, times, |node| remote?.away(node));
    }
}
