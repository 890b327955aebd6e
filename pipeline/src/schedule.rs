//! Which node may start next. Pure: no thread, no clock.
//!
//! A node is *waiting* for its inputs, then *ready* (whoever runs the schedule decides whether it must run), then *queued* for a
//! slot, *running*, and *done* or *failed*. Of the queued nodes, the one at the head of the longest remaining path starts first.

use std::collections::{BTreeSet, HashMap, VecDeque};

use petgraph::Direction;
use petgraph::graph::NodeIndex;

use crate::graph::Workflow;
use crate::stage::{Claims, CpuClaim, GpuClaim};

/// What a machine has to give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pools {
    /// Slots of the `cpu` pool; at least 1.
    pub cpu: usize,
    /// Devices of the `gpu` pool.
    pub gpus: Vec<u32>,
}

/// What a running node holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Slots of the `cpu` pool, which is also the number of threads it may use.
    pub threads: usize,
    /// A device of the `gpu` pool.
    pub gpu: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Waiting(usize),
    Ready,
    Queued,
    Running(Grant),
    Done,
    Failed,
    Blocked(NodeIndex),
}

/// The states of all nodes, and the queues between them.
pub struct Schedule<'a> {
    workflow: &'a Workflow,
    states: HashMap<NodeIndex, State>,
    ready: VecDeque<NodeIndex>,
    /// Queued nodes, the most urgent last.
    queue: BTreeSet<(u64, std::cmp::Reverse<usize>, NodeIndex)>,
    rank: HashMap<NodeIndex, (u64, usize)>,
    free: Pools,
    size: Pools,
    running: usize,
}

impl<'a> Schedule<'a> {
    /// All nodes waiting. `secs` tells how long a node takes, as far as that is known.
    pub fn new(workflow: &'a Workflow, pools: Pools, secs: impl Fn(NodeIndex) -> Option<f64>) -> Self {
        let mut rank = HashMap::new();
        for (place, node) in workflow.order.iter().enumerate().rev() {
            let after = workflow.graph.neighbors(*node).filter_map(|next| rank.get(&next).map(|(path, _)| *path)).max();
            let own = (secs(*node).unwrap_or(1.0) * 1000.0) as u64;
            rank.insert(*node, (own + after.unwrap_or(0), place));
        }
        let producers = |node: &NodeIndex| workflow.graph.neighbors_directed(*node, Direction::Incoming).count();
        let states = workflow.order.iter().map(|node| (*node, State::Waiting(producers(node)))).collect();
        let pools = Pools { cpu: pools.cpu.max(1), ..pools };
        let (ready, queue) = (VecDeque::new(), BTreeSet::new());
        let mut schedule = Self { workflow, states, ready, queue, rank, free: pools.clone(), size: pools, running: 0 };
        for node in &workflow.order {
            if schedule.states[node] == State::Waiting(0) {
                schedule.make_ready(*node);
            }
        }
        schedule
    }

    fn make_ready(&mut self, node: NodeIndex) {
        self.states.insert(node, State::Ready);
        self.ready.push_back(node);
    }

    /// A node whose inputs are all there; it must then be queued, done or failed.
    pub fn next_ready(&mut self) -> Option<NodeIndex> {
        self.ready.pop_front()
    }

    /// A ready node must run.
    pub fn queue(&mut self, node: NodeIndex) {
        debug_assert_eq!(self.states[&node], State::Ready);
        self.states.insert(node, State::Queued);
        let (path, place) = self.rank[&node];
        self.queue.insert((path, std::cmp::Reverse(place), node));
    }

    /// The most urgent queued node that fits, with what it is given. While one waits for all of the `cpu` pool, no less urgent
    /// one takes a slot, or it would wait for ever.
    pub fn next_start(&mut self) -> Option<(NodeIndex, Grant)> {
        let mut blocked = false;
        let mut found = None;
        for entry in self.queue.iter().rev() {
            if self.free.cpu == 0 || blocked && self.free.gpus.is_empty() {
                break; // nothing further down could start: without this, each start costs a walk over the whole queue
            }
            let claims = self.workflow.graph[entry.2].placed.claims();
            let takes_device = claims.gpu == GpuClaim::Prefer && !self.size.gpus.is_empty();
            if let Some(grant) = self.grant(claims).filter(|_| !blocked || takes_device) {
                found = Some((*entry, grant));
                break;
            }
            blocked |= !takes_device;
        }
        let (entry, grant) = found?;
        self.queue.remove(&entry);
        self.free.cpu -= grant.threads.min(self.free.cpu);
        self.free.gpus.retain(|gpu| Some(*gpu) != grant.gpu);
        self.states.insert(entry.2, State::Running(grant.clone()));
        self.running += 1;
        Some((entry.2, grant))
    }

    fn grant(&self, claims: Claims) -> Option<Grant> {
        if claims.gpu == GpuClaim::Prefer && !self.size.gpus.is_empty() {
            let gpu = *self.free.gpus.first()?;
            return (self.free.cpu > 0).then_some(Grant { threads: 1, gpu: Some(gpu) });
        }
        let threads = match claims.cpu {
            CpuClaim::One => 1,
            CpuClaim::All => self.size.cpu,
        };
        (self.free.cpu >= threads).then_some(Grant { threads, gpu: None })
    }

    /// A node is up to date.
    pub fn done(&mut self, node: NodeIndex) {
        self.release(node, State::Done);
        let consumers: Vec<NodeIndex> = self.workflow.graph.neighbors(node).collect();
        for consumer in consumers {
            match self.states.get(&consumer) {
                Some(State::Waiting(1)) => self.make_ready(consumer),
                Some(State::Waiting(count)) => _ = self.states.insert(consumer, State::Waiting(count - 1)),
                _ => {}
            }
        }
    }

    /// A node failed; all that depends on it is blocked.
    pub fn failed(&mut self, node: NodeIndex) {
        self.release(node, State::Failed);
        let mut todo = vec![node];
        while let Some(at) = todo.pop() {
            for consumer in self.workflow.graph.neighbors(at).collect::<Vec<_>>() {
                if matches!(self.states.get(&consumer), Some(State::Waiting(_))) {
                    self.states.insert(consumer, State::Blocked(node));
                    todo.push(consumer);
                }
            }
        }
    }

    fn release(&mut self, node: NodeIndex, state: State) {
        if let Some(State::Running(grant)) = self.states.insert(node, state) {
            self.free.cpu += grant.threads;
            self.free.gpus.extend(grant.gpu);
            self.free.gpus.sort_unstable();
            self.running -= 1;
        }
    }

    /// Number of nodes that run now.
    pub fn running(&self) -> usize {
        self.running
    }

    /// The nodes that will not run, with the node whose failure blocks them (none when the run ended before their turn).
    pub fn left_over(&self) -> Vec<(NodeIndex, Option<NodeIndex>)> {
        let left = |node: &NodeIndex| match self.states[node] {
            State::Done | State::Failed => None,
            State::Blocked(by) => Some((*node, Some(by))),
            _ => Some((*node, None)),
        };
        self.workflow.order.iter().filter_map(left).collect()
    }
}
