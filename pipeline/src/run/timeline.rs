//! The steps of a run as a Chrome trace, which `chrome://tracing` and Perfetto show.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::records::Step;

/// The process under which a lane stands.
const CPU: u32 = 0;
const GPU: u32 = 1;
/// More lanes than nodes share a GPU.
const LANES: u32 = 1000;

/// As many lanes per GPU as nodes shared it, and as many others as nodes ran at once. Times are in microseconds since the first start.
pub fn timeline(steps: &[Step]) -> Value {
    let mut ran: Vec<&Step> = steps.iter().filter(|step| step.started_ms > 0 && step.attempts > 0).collect();
    ran.sort_by(|a, b| (a.started_ms, &a.node).cmp(&(b.started_ms, &b.node)));
    let first = ran.first().map_or(0, |step| step.started_ms);
    let mut lanes = BTreeMap::new();
    let mut free_from: BTreeMap<Option<u32>, Vec<i64>> = BTreeMap::new();
    let mut events = vec![];
    for step in ran {
        let start = (step.started_ms - first) * 1000;
        let length = (step.secs * 1e6) as i64;
        for gpu in std::iter::once(step.gpu).chain(step.other_gpus.iter().copied().map(Some)) {
            let number = lane(free_from.entry(gpu).or_default(), start, start + length);
            let lane = gpu.map_or((CPU, number), |gpu| (GPU, gpu * LANES + number));
            lanes.entry(lane).or_insert_with(|| match (gpu, number) {
                (Some(gpu), 0) => format!("gpu {gpu}"),
                (Some(gpu), number) => format!("gpu {gpu}, slot {}", number + 1),
                (None, number) => format!("slot {}", number + 1),
            });
            events.push(json!({
                "name": step.node.split_once(':').map_or(step.node.as_str(), |(_, node)| node),
                "cat": step.state, "ph": "X", "ts": start, "dur": length, "pid": lane.0, "tid": lane.1,
                "args": {
                    "node": step.node, "outcome": step.state, "reason": step.why, "message": step.message,
                    "attempts": step.attempts, "threads": step.threads,
                },
            }));
        }
    }
    let name = |what: &str, (pid, tid): (u32, u32), name: &str| json!({ "name": what, "ph": "M", "pid": pid, "tid": tid, "args": { "name": name } });
    let mut all: Vec<Value> = lanes.iter().map(|(lane, text)| name("thread_name", *lane, text)).collect();
    for (pid, text) in [(CPU, "cpu"), (GPU, "gpu")] {
        if lanes.keys().any(|lane| lane.0 == pid) {
            all.push(name("process_name", (pid, 0), text));
        }
    }
    all.append(&mut events);
    json!({ "traceEvents": all, "displayTimeUnit": "ms" })
}

/// The first lane that is free at `start`; it is taken until `end`.
fn lane(free_from: &mut Vec<i64>, start: i64, end: i64) -> u32 {
    let found = free_from.iter().position(|free| *free <= start).unwrap_or_else(|| {
        free_from.push(0);
        free_from.len() - 1
    });
    free_from[found] = end;
    found as u32
}
