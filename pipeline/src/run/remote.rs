//! Nodes on a cluster, the side of the controller: one thread submits waves, one takes over results. See [`crate::remote`].
//!
//! The fingerprint of a task stays locked from its preparation until its result is recorded, so two runs of a store never submit the
//! same. Whoever gets the lock first looks for the fingerprint in the waves of the exchange folder, and takes over what is under way
//! there: so a run goes on after it was stopped or killed.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{Scope, Thread};

use petgraph::graph::NodeIndex;

use super::node::Attempt;
use super::status::Away;
use super::task::{End, Task};
use super::thread_pool::Ended;
use super::{Runner, Timeouts};
use crate::event::Event;
use crate::remote::Remote;
use crate::remote::cluster::Class;
use crate::remote::exchange::Exchange;
use crate::schedule::Wait;

mod index;
mod pack;
mod submit;
mod take;
mod verdict;

use take::OpenWave;

/// A task for the cluster.
pub(super) struct Item {
    pub(super) task: Arc<Task>,
    /// Number of the attempt in this run, counted from 1.
    pub(super) number: u32,
    pub(super) class: Class,
    pub(super) expected_secs: Option<f64>,
    /// True if it runs here unless it is under way on the cluster.
    is_short: bool,
    /// The attempt, from its preparation on.
    held: Option<Attempt>,
    retry: Retry,
}

impl Item {
    pub(super) fn new(task: Arc<Task>, number: u32, class: Class, expected_secs: Option<f64>, is_short: bool) -> Self {
        Self { task, number, class, expected_secs, is_short, held: None, retry: Retry::default() }
    }
}

/// What happened to a task on the cluster so far, beside failures of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Retry {
    /// Attempts without a result.
    lost: u32,
    /// Attempts that ended early and left a newer state.
    progress: u32,
    /// True if it gets more memory.
    more_memory: bool,
    /// Hosts where an attempt was lost.
    exclude: BTreeSet<String>,
}

/// State that the threads share.
struct Shared {
    waves: Mutex<Vec<OpenWave>>,
    /// Where each node is, for display.
    away: Mutex<HashMap<NodeIndex, Where>>,
    /// No more is submitted, and what is under way is left to whoever takes it over.
    detached: AtomicBool,
    /// That is the next round of this run.
    for_next_round: AtomicBool,
    /// The run is over.
    closing: AtomicBool,
}

/// Where a node is, for display.
#[derive(Debug, Clone, Default)]
struct Where {
    job: String,
    state: String,
    reason: String,
    /// Host that runs it.
    host: Option<String>,
}

/// What both threads work with.
#[derive(Clone)]
struct Context<'env> {
    runner: &'env Runner<'env>,
    timeouts: &'env Timeouts,
    remote: &'env Remote,
    exchange: Exchange,
    store: String,
    shared: Arc<Shared>,
    ended: Sender<Ended>,
    /// To the thread that submits.
    items: Sender<Vec<Item>>,
}

/// The two threads.
pub(super) struct RemotePool<'env> {
    context: Context<'env>,
    taker: Thread,
}

impl<'env> RemotePool<'env> {
    /// Starts the threads, where the machine has a cluster.
    pub(super) fn new<'scope>(
        scope: &'scope Scope<'scope, 'env>,
        runner: &'env Runner<'env>,
        timeouts: &'env Timeouts,
        ended: Sender<Ended>,
    ) -> Result<Option<Self>, crate::store::StoreError>
    where
        'env: 'scope,
    {
        let Some(remote) = &runner.machine.remote else { return Ok(None) };
        let store = crate::store::store_id(runner.store.root())?;
        let exchange = Exchange::of(&remote.options.folder, &store);
        let (items, incoming) = channel();
        let shared = Shared {
            waves: Mutex::default(),
            away: Mutex::default(),
            detached: AtomicBool::new(false),
            for_next_round: AtomicBool::new(false),
            closing: AtomicBool::new(false),
        };
        let context = Context { runner, timeouts, remote, exchange, store, shared: Arc::new(shared), ended, items };
        let (for_submit, for_take) = (context.clone(), context.clone());
        scope.spawn(move || submit::Submitter::new(for_submit).serve(&incoming));
        let taker = scope.spawn(move || take::Taker::new(for_take).serve());
        Ok(Some(Self { context, taker: taker.thread().clone() }))
    }

    /// Has nodes run on the cluster.
    pub(super) fn start(&self, items: Vec<Item>) {
        let _ = self.context.items.send(items); // the other end is open as long as this one
    }

    /// Submits nothing more, and leaves what is under way to the next round of this run or to the next run, or cancels it. Every node
    /// ends with [`End::Detached`].
    pub(super) fn detach(&self, for_next_round: bool) {
        self.context.shared.for_next_round.store(for_next_round, Ordering::Relaxed);
        if !self.context.shared.detached.swap(true, Ordering::Relaxed) {
            self.start(vec![]); // wakes the thread
            self.taker.unpark();
        }
    }

    /// Where a node is; none for one that runs here.
    pub(super) fn away(&self, node: NodeIndex) -> Option<Away> {
        let away = self.context.shared.away.lock().expect("no holder of this lock panics");
        let Where { job, state, reason, host } = away.get(&node)?.clone();
        Some(Away { host, wait: Wait::Remote { job, state, reason } })
    }

    /// Number of nodes that wait on the cluster.
    pub(super) fn waiting(&self) -> usize {
        let away = self.context.shared.away.lock().expect("no holder of this lock panics");
        away.values().filter(|at| at.host.is_none()).count()
    }
}

impl Drop for RemotePool<'_> {
    fn drop(&mut self) {
        self.context.shared.closing.store(true, Ordering::Relaxed);
        self.start(vec![]);
        self.taker.unpark();
    }
}

impl Context<'_> {
    fn is_detached(&self) -> bool {
        self.shared.detached.load(Ordering::Relaxed)
    }

    fn is_closing(&self) -> bool {
        self.shared.closing.load(Ordering::Relaxed)
    }

    fn end(&self, item: Item, end: End, secs: f64) {
        self.shared.away.lock().expect("no holder of this lock panics").remove(&item.task.node);
        drop(item.held); // first: whoever waits for the fingerprint may go on
        let _ = self.ended.send(Ended { task: item.task, end, secs }); // nobody listens after an error
    }

    fn set_where(&self, node: NodeIndex, at: Where) {
        self.shared.away.lock().expect("no holder of this lock panics").insert(node, at);
    }

    fn say(&self, (running, queued): (usize, usize), line: String) {
        self.runner.progress.event(&Event::Cluster { running, queued, line });
    }

    fn note(&self, task: &Task, line: String) {
        let node = self.runner.workflow.graph[task.node].id.clone();
        self.runner.progress.event(&Event::Note { node, line });
    }
}
