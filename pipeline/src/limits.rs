//! Limits of a stage in a workflow file: `limits = { time = "2h", retries = 2, memory_mib = 4000, threads = 2, devices = 2, site = "local" }`.
//!
//! Limits change how a node runs, never what it makes, so they are not part of a fingerprint.

use std::time::Duration;

use crate::duration;
use crate::mistake::Mistake;
use crate::spec::{Located, Term};
use crate::stage::{CpuDemand, Demand};

/// Limits of a stage. Where one is not set, the stage decides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Longest time of one attempt.
    pub time: Option<Duration>,
    /// Number of further attempts after a failure that may pass.
    pub retries: Option<u32>,
    /// See [`Demand::memory_mib`].
    pub memory_mib: Option<u64>,
    /// See [`CpuDemand::Threads`].
    pub threads: Option<usize>,
    /// See [`Demand::devices`].
    pub devices: Option<usize>,
    /// True if it never runs on a cluster.
    pub local: bool,
}

impl Limits {
    /// Returns a stage's own claims with those that the workflow file sets.
    pub fn over(&self, demand: Demand) -> Demand {
        Demand {
            cpu: self.threads.map_or(demand.cpu, CpuDemand::Threads),
            memory_mib: self.memory_mib.unwrap_or(demand.memory_mib),
            devices: self.devices.or(demand.devices),
            ..demand
        }
    }
}

const KEYS: [&str; 6] = ["time", "retries", "memory_mib", "threads", "devices", "site"];

/// Reads the value of the key `limits`.
pub(crate) fn read(term: &Located<Term>, mistakes: &mut Vec<Mistake>) -> Limits {
    let mut limits = Limits::default();
    let Term::Table(pairs) = &term.value else {
        mistakes.push(Mistake::new(&term.at, "`limits` should be a table: `limits = { time = \"2h\", retries = 2 }`"));
        return limits;
    };
    for (key, value) in pairs {
        let mut number = |least: u64| {
            let found = if let Term::Scalar(value) = &value.value { value.as_u64() } else { None };
            let found = found.filter(|number| *number >= least);
            if found.is_none() {
                let text = format!("`limits.{}` should be a whole number, at least {least}", key.value);
                mistakes.push(Mistake::new(&value.at, text));
            }
            found
        };
        match key.value.as_str() {
            "retries" => limits.retries = number(0).map(|number| number.min(u64::from(u32::MAX)) as u32),
            "memory_mib" => limits.memory_mib = number(1),
            "threads" => limits.threads = number(1).map(|number| number as usize),
            "devices" => limits.devices = number(1).map(|number| number as usize),
            "site" => {
                limits.local = value.value.as_str() == Some("local");
                if !limits.local {
                    let text =
                        "`limits.site` should be \"local\": a stage without it runs on the cluster of sure.toml, if there is one";
                    mistakes.push(Mistake::new(&value.at, text));
                }
            }
            "time" => {
                limits.time = value.value.as_str().and_then(duration::parse);
                if limits.time.is_none() {
                    let text = "`limits.time` should be a duration such as \"90s\", \"30m\", \"2h\" or \"1d\"";
                    mistakes.push(Mistake::new(&value.at, text));
                }
            }
            _ => mistakes.push(Mistake::unknown(&key.at, "limit", &key.value, KEYS)),
        }
    }
    limits
}
