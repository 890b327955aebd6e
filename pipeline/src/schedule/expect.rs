//! How long a run will take.

use petgraph::graph::NodeIndex;

use super::pools::{Pools, Want};
use crate::graph::Workflow;

/// How long some nodes take together: the longest path through them, or the work of a pool shared among its slots, whichever
/// is longer. `secs` is none for a node that does not run. Nothing can be faster; a good schedule is hardly slower.
pub fn expected_secs(workflow: &Workflow, pools: &Pools, secs: impl Fn(NodeIndex) -> Option<f64>) -> f64 {
    let mut paths = vec![0.0_f64; workflow.graph.node_count()];
    let (mut longest, mut cpu, mut gpu, mut memory) = (0.0_f64, 0.0, 0.0, 0.0);
    for node in workflow.order.iter().rev() {
        let after = workflow.graph.neighbors(*node).map(|next| paths[next.index()]).fold(0.0, f64::max);
        let own = secs(*node).unwrap_or(0.0);
        paths[node.index()] = own + after;
        longest = longest.max(own + after);
        if own > 0.0 {
            let weight = &workflow.graph[*node];
            let want = Want::new(weight.limits.over(weight.placed.demand()), pools);
            cpu += own * want.threads as f64;
            gpu += own * want.gpus() as f64;
            memory += own * want.memory_mib as f64;
        }
    }
    let share = |work: f64, size: f64| if size > 0.0 { work / size } else { 0.0 };
    let cpu = share(cpu, pools.cpu.max(1) as f64);
    let gpu = share(gpu, pools.gpus.len() as f64);
    let memory = share(memory, pools.memory_mib.unwrap_or(0) as f64);
    longest.max(cpu).max(gpu).max(memory)
}
