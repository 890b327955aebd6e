//! Outcomes of the nodes of a run.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::PathBuf;

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde::{Deserialize, Serialize};

/// Outcome of one node in a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// `workflow:node`
    pub node: String,
    /// `ran`, `source` (a source node that ran before planning), `reused`, `failed`, `stopped`, `blocked`, `held`
    pub state: String,
    /// Duration.
    pub secs: f64,
    /// Log file, when it was tried.
    pub log: Option<PathBuf>,
    /// Error message.
    pub message: Option<String>,
    /// Reason why it ran.
    #[serde(default)]
    pub why: Option<String>,
    /// Start, in milliseconds since 1970; 0 when it did not start.
    #[serde(default)]
    pub started_ms: i64,
    /// Number of attempts.
    #[serde(default)]
    pub attempts: u32,
    /// Threads it was given.
    #[serde(default)]
    pub threads: usize,
    /// GPU it was given.
    #[serde(default)]
    pub gpu: Option<u32>,
    /// Further GPUs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_gpus: Vec<u32>,
}

/// Steps as the index keeps them: column by column, which packs twice as well as step by step. The path of a log follows from the run
/// and the node.
#[derive(Default, Serialize, Deserialize)]
struct Columns {
    node: Vec<String>,
    state: Vec<String>,
    secs: Vec<f64>,
    message: Vec<Option<String>>,
    why: Vec<Option<String>>,
    started_ms: Vec<i64>,
    attempts: Vec<u32>,
    threads: Vec<usize>,
    gpu: Vec<Option<u32>>,
    /// By the number of the step; most have none.
    #[serde(default)]
    other_gpus: BTreeMap<usize, Vec<u32>>,
}

impl Columns {
    fn of(steps: &[Step]) -> Self {
        let mut all = Self::default();
        for step in steps {
            let Step { node, state, secs, log: _, message, why, started_ms, attempts, threads, gpu, other_gpus } = step.clone();
            all.node.push(node);
            all.state.push(state);
            all.secs.push((secs * 1e6).round() / 1e6); // to the microsecond
            all.message.push(message);
            all.why.push(why);
            all.started_ms.push(started_ms);
            all.attempts.push(attempts);
            all.threads.push(threads);
            all.gpu.push(gpu);
            if !other_gpus.is_empty() {
                all.other_gpus.insert(all.node.len() - 1, other_gpus);
            }
        }
        all
    }

    /// Returns the steps, without those that a column is too short for.
    fn steps(&self) -> Vec<Step> {
        let step = |at: usize| {
            Some(Step {
                node: self.node[at].clone(),
                state: self.state.get(at)?.clone(),
                secs: *self.secs.get(at)?,
                log: None,
                message: self.message.get(at)?.clone(),
                why: self.why.get(at)?.clone(),
                started_ms: *self.started_ms.get(at)?,
                attempts: *self.attempts.get(at)?,
                threads: *self.threads.get(at)?,
                gpu: *self.gpu.get(at)?,
                other_gpus: self.other_gpus.get(&at).cloned().unwrap_or_default(),
            })
        };
        (0..self.node.len()).filter_map(step).collect()
    }
}

pub(super) fn pack_steps(steps: &[Step]) -> Vec<u8> {
    deflate(&serde_json::to_vec(&Columns::of(steps)).expect("plain data"))
}

pub(super) fn unpack_steps(bytes: &[u8]) -> Vec<Step> {
    let columns: Columns = serde_json::from_slice(&inflate(bytes)).unwrap_or_default(); // damaged: nothing to show
    columns.steps()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(vec![], Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("writing to memory cannot fail")
}

fn inflate(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    let _ = DeflateDecoder::new(bytes).read_to_end(&mut out); // damaged: what could be read
    out
}
