//! Schedule: the order in which nodes start. Pure: no thread, no clock.
//!
//! A node is *waiting* for its inputs, then *ready* (whoever runs the schedule decides whether it must run), then *queued* for a
//! slot, *running*, and *done* or *failed*; one that is tried again later is *resting* in between. Of the queued nodes, the one
//! at the head of the longest remaining path starts first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use petgraph::Direction;
use petgraph::graph::NodeIndex;

use crate::graph::Workflow;

mod expect;
mod pools;
mod queues;

pub use expect::expected_secs;
use pools::{Free, Lack};
pub use pools::{Grant, Pool, Pools, Want};
use queues::{Queues, Urgency};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// For so many producers.
    Waiting(u32),
    Ready,
    Queued,
    Running,
    Resting,
    Done,
    Failed,
    Blocked(NodeIndex),
    /// Not one of the wanted nodes.
    Absent,
}

/// Reason why a node does not run yet.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "wait")]
pub enum Wait<N = NodeIndex> {
    /// These nodes, whose artifacts it reads, are not done.
    For {
        /// The nodes.
        nodes: Vec<N>,
    },
    /// A pool has too little left.
    Slot {
        /// The pool.
        pool: Pool,
        /// Amount that the node needs.
        wanted: u64,
        /// Amount that is free.
        free: u64,
        /// Nodes that hold some of it.
        holders: Vec<N>,
    },
    /// Resources that it needs are kept for a more urgent node.
    Behind {
        /// That node.
        node: N,
    },
    /// It failed in a way that may pass, and is tried again soon.
    Retry,
    /// Its job waits on the cluster.
    Remote {
        /// Job and element: `1234_5`; the name of the array before its job is known.
        job: String,
        /// State in the cluster's own word.
        state: String,
        /// Reason in the cluster's own word; may be empty.
        reason: String,
    },
}

impl<N> Wait<N> {
    /// Renames the nodes.
    pub fn map<M>(self, name: impl Fn(N) -> M) -> Wait<M> {
        match self {
            Self::For { nodes } => Wait::For { nodes: nodes.into_iter().map(name).collect() },
            Self::Slot { pool, wanted, free, holders } => {
                Wait::Slot { pool, wanted, free, holders: holders.into_iter().map(name).collect() }
            }
            Self::Behind { node } => Wait::Behind { node: name(node) },
            Self::Retry => Wait::Retry,
            Self::Remote { job, state, reason } => Wait::Remote { job, state, reason },
        }
    }
}

/// The states of all nodes, and the queues between them.
pub struct Schedule<'a> {
    workflow: &'a Workflow,
    /// By index of the node.
    states: Vec<State>,
    /// By index of the node: how long the path through it to the end takes in milliseconds, then its place in the order.
    urgency: Vec<Urgency>,
    ready: VecDeque<NodeIndex>,
    queues: Queues,
    free: Free,
    size: Pools,
    running: BTreeMap<NodeIndex, Grant>,
    resting: usize,
}

impl<'a> Schedule<'a> {
    /// All nodes waiting. `secs` tells how long a node takes, as far as that is known.
    pub fn new(workflow: &'a Workflow, pools: Pools, secs: impl Fn(NodeIndex) -> Option<f64>) -> Self {
        let count = workflow.graph.node_count();
        let mut urgency = vec![(0, Reverse(0)); count];
        for (place, node) in workflow.order.iter().enumerate().rev() {
            let after = workflow.graph.neighbors(*node).map(|next| urgency[next.index()].0).max();
            let own = (secs(*node).unwrap_or(1.0) * 1000.0) as u64;
            urgency[node.index()] = (own + after.unwrap_or(0), Reverse(place));
        }
        let mut states = vec![State::Absent; count];
        let mut ready = VecDeque::new();
        for node in &workflow.order {
            let producers = workflow.graph.neighbors_directed(*node, Direction::Incoming).count() as u32;
            states[node.index()] = if producers == 0 { State::Ready } else { State::Waiting(producers) };
            if producers == 0 {
                ready.push_back(*node);
            }
        }
        let size = Pools { cpu: pools.cpu.max(1), ..pools };
        let (free, queues) = (Free::of(&size), Queues::default());
        Self { workflow, states, urgency, ready, queues, free, size, running: BTreeMap::new(), resting: 0 }
    }

    /// A node whose inputs are all there; it must then be queued, done or failed.
    pub fn next_ready(&mut self) -> Option<NodeIndex> {
        self.ready.pop_front()
    }

    /// A ready node must run, or a resting one is tried again.
    pub fn queue(&mut self, node: NodeIndex) {
        debug_assert!(matches!(self.states[node.index()], State::Ready | State::Resting));
        self.release(node, State::Queued);
        self.queues.push(self.want(node), self.urgency[node.index()]);
    }

    /// A ready node runs, or a resting one again, without anything of the pools of this machine.
    pub fn start_elsewhere(&mut self, node: NodeIndex) {
        debug_assert!(matches!(self.states[node.index()], State::Ready | State::Resting));
        self.release(node, State::Running);
        self.running.insert(node, Grant::default());
    }

    /// Returns what a node takes of the pools: its claims, at most the size of each pool.
    pub fn want(&self, node: NodeIndex) -> Want {
        let node = &self.workflow.graph[node];
        Want::new(node.limits.over(node.placed.demand()), &self.size)
    }

    /// The most urgent queued node that fits, with what it is given.
    pub fn next_start(&mut self) -> Option<(NodeIndex, Grant)> {
        let (want, place) = self.queues.pop(&self.free, &self.size)?;
        let node = self.workflow.order[place];
        let grant = self.free.take(&want);
        self.states[node.index()] = State::Running;
        self.running.insert(node, grant.clone());
        Some((node, grant))
    }

    /// A node is up to date.
    pub fn done(&mut self, node: NodeIndex) {
        self.release(node, State::Done);
        for consumer in self.workflow.graph.neighbors(node) {
            match &mut self.states[consumer.index()] {
                state @ State::Waiting(1) => {
                    *state = State::Ready;
                    self.ready.push_back(consumer);
                }
                State::Waiting(count) => *count -= 1,
                _ => {}
            }
        }
    }

    /// A node failed; all that depends on it is blocked.
    pub fn failed(&mut self, node: NodeIndex) {
        self.release(node, State::Failed);
        let mut todo = vec![node];
        while let Some(at) = todo.pop() {
            for consumer in self.workflow.graph.neighbors(at) {
                let state = &mut self.states[consumer.index()];
                if matches!(state, State::Waiting(_)) {
                    *state = State::Blocked(node);
                    todo.push(consumer);
                }
            }
        }
    }

    /// A node gives back what it holds, if anything, and is queued again later.
    pub fn rest(&mut self, node: NodeIndex) {
        self.release(node, State::Resting);
        self.resting += 1;
    }

    fn release(&mut self, node: NodeIndex, state: State) {
        let before = std::mem::replace(&mut self.states[node.index()], state);
        self.resting -= usize::from(before == State::Resting);
        if let Some(grant) = self.running.remove(&node) {
            self.free.give_back(&grant);
        }
    }

    /// True if a node is up to date.
    pub fn is_done(&self, node: NodeIndex) -> bool {
        self.states[node.index()] == State::Done
    }

    /// True if a node runs now.
    pub fn is_running(&self, node: NodeIndex) -> bool {
        self.states[node.index()] == State::Running
    }

    /// True if a node runs or has still to run.
    pub fn is_open(&self, node: NodeIndex) -> bool {
        !matches!(self.states[node.index()], State::Done | State::Failed | State::Blocked(_) | State::Absent)
    }

    /// Number of nodes that run now.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Number of nodes that will be queued again.
    pub fn resting(&self) -> usize {
        self.resting
    }

    /// Number of nodes that wait for a slot.
    pub fn queued(&self) -> usize {
        self.queues.len()
    }

    /// The most urgent queued nodes, at most so many.
    pub fn next_in_line(&self, most: usize) -> Vec<NodeIndex> {
        self.queues.first(most).into_iter().map(|place| self.workflow.order[place]).collect()
    }

    /// The running nodes, with what they hold.
    pub fn running_nodes(&self) -> impl Iterator<Item = (NodeIndex, &Grant)> {
        self.running.iter().map(|(node, grant)| (*node, grant))
    }

    /// Why a node does not run; none when it runs, has ended, will never run, or is about to start.
    pub fn waits(&self, node: NodeIndex) -> Option<Wait> {
        match self.states[node.index()] {
            State::Waiting(_) => {
                let producers = self.workflow.graph.neighbors_directed(node, Direction::Incoming);
                let mut nodes: Vec<_> = producers.filter(|from| self.states[from.index()] != State::Done).collect();
                nodes.sort();
                Some(Wait::For { nodes })
            }
            State::Queued => self.waits_in_queue(node),
            State::Resting => Some(Wait::Retry),
            _ => None,
        }
    }

    fn waits_in_queue(&self, node: NodeIndex) -> Option<Wait> {
        let want = self.want(node);
        if let Some(Lack { pool, wanted, free }) = self.free.lack(&want) {
            let holds = |grant: &Grant| match pool {
                Pool::Cpu => grant.threads > 0,
                Pool::Gpu => grant.gpu.is_some(),
                Pool::Memory => grant.memory_mib > 0,
            };
            let holders = self.running.iter().filter(|(_, grant)| holds(grant)).map(|(node, _)| *node).collect();
            return Some(Wait::Slot { pool, wanted, free, holders });
        }
        let first = self.queues.kept_for(&self.free, self.urgency[node.index()])?;
        Some(Wait::Behind { node: self.workflow.order[first] })
    }

    /// The nodes that will not run, with the node whose failure blocks them (none when the run ended before their turn).
    pub fn left_over(&self) -> Vec<(NodeIndex, Option<NodeIndex>)> {
        let left = |node: &NodeIndex| match self.states[node.index()] {
            State::Done | State::Failed | State::Absent => None,
            State::Blocked(by) => Some((*node, Some(by))),
            State::Waiting(_) | State::Ready | State::Queued | State::Running | State::Resting => Some((*node, None)),
        };
        self.workflow.order.iter().filter_map(left).collect()
    }
}
