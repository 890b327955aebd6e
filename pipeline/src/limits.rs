//! `limits = { time = "2h", retries = 2, memory_mib = 4000, threads = 2 }`: what a workflow file allows a stage, and asks for it.
//!
//! Limits say how a node is run, never what it makes, so they are no part of a fingerprint.

use std::time::Duration;

use crate::mistake::Mistake;
use crate::spec::{Located, Term};
use crate::stage::{Claims, CpuClaim};

/// What a workflow file says about running a stage; what it leaves open is the stage's own matter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// How long one attempt may take.
    pub time: Option<Duration>,
    /// How often it is tried again after a failure that may pass.
    pub retries: Option<u32>,
    /// See [`Claims::memory_mib`].
    pub memory_mib: Option<u64>,
    /// See [`CpuClaim::Threads`].
    pub threads: Option<usize>,
}

impl Limits {
    /// A stage's own claims, changed as the workflow file says.
    pub fn over(&self, claims: Claims) -> Claims {
        Claims {
            cpu: self.threads.map_or(claims.cpu, CpuClaim::Threads),
            memory_mib: self.memory_mib.unwrap_or(claims.memory_mib),
            ..claims
        }
    }
}

const KEYS: [&str; 4] = ["time", "retries", "memory_mib", "threads"];

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
            "time" => {
                limits.time = value.value.as_str().and_then(duration);
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

/// Reads a duration: `250ms`, `90s`, `30m`, `2h`, `1d`. None when it is something else, or no time at all.
pub fn duration(text: &str) -> Option<Duration> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[number.len()..] {
        "ms" => return number.parse().ok().filter(|millis| *millis > 0).map(Duration::from_millis),
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    let secs = number.parse::<u64>().ok()?.checked_mul(unit)?;
    (secs > 0).then(|| Duration::from_secs(secs))
}

/// The way a workflow file would write a duration.
pub(crate) fn show(duration: Duration) -> String {
    let secs = duration.as_secs();
    match secs {
        _ if duration.subsec_millis() > 0 => format!("{}ms", duration.as_millis()),
        _ if secs.is_multiple_of(86_400) => format!("{}d", secs / 86_400),
        _ if secs.is_multiple_of(3_600) => format!("{}h", secs / 3_600),
        _ if secs.is_multiple_of(60) => format!("{}m", secs / 60),
        _ => format!("{secs}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_back_as_written() {
        for text in ["250ms", "90s", "30m", "2h", "1d"] {
            assert_eq!(duration(text).map(show).as_deref(), Some(text));
        }
        for text in ["", "s", "2", "-1s", "1.5h", "2 h", "0s", "2w", "99999999999999999999s", "9999999999999999999d"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
