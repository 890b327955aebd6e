//! Outcome of one node: how its attempts went, and the end of its log after a failure.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::event::Outcome;
use crate::stage::{StageError, chain};
use crate::store::FULL;
use crate::text::printable;

/// Execution of a node, over all its attempts.
#[derive(Debug, Clone, Default)]
pub(super) struct Tried {
    pub(super) why: Option<String>,
    pub(super) started_ms: i64,
    pub(super) secs: f64,
    pub(super) attempts: u32,
    pub(super) threads: usize,
    pub(super) gpu: Option<u32>,
    pub(super) other_gpus: Vec<u32>,
}

/// Returns the outcome of a node that ended with an error.
pub(super) fn outcome_of(error: &StageError, log: &Path) -> Outcome {
    if matches!(error, StageError::Stopped) {
        return Outcome::Stopped;
    }
    let hint = error.hint().or_else(|| is_disk_full(error).then(|| FULL.to_owned()));
    failure(chain(error), hint, log)
}

/// True if a node failed because the disk is full: every other node would fail, too.
pub(super) fn is_disk_full(error: &StageError) -> bool {
    let signs = ["No space left on device", "Disk quota exceeded", "database or disk is full"];
    chain(error).iter().any(|text| signs.iter().any(|sign| text.contains(sign)))
}

pub(super) fn failure(chain: Vec<String>, hint: Option<String>, log: &Path) -> Outcome {
    let clean = |text: String| printable(&text).into_owned();
    Outcome::Failed {
        chain: chain.into_iter().map(clean).collect(),
        hint: hint.map(clean),
        log: log.to_owned(),
        last_lines: last_lines(log).into_iter().map(clean).collect(),
    }
}

/// Lines of a log that are shown.
const SHOWN: usize = 10;
/// Bytes of a log that are looked at for them: a log may be of any size.
const TAIL: u64 = 16 << 10;
/// Characters of a line that are shown.
const WIDTH: usize = 500;

/// Returns the last lines of a log; none when there is no log.
fn last_lines(log: &Path) -> Vec<String> {
    let mut bytes = vec![];
    let read = File::open(log).and_then(|mut file| {
        let size = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(size.saturating_sub(TAIL)))?;
        file.take(TAIL).read_to_end(&mut bytes)?;
        Ok(size)
    });
    let Ok(size) = read else { return vec![] };
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<&str> = text.lines().collect();
    if size > TAIL && lines.len() > 1 {
        lines.remove(0); // cut somewhere in its middle
    }
    let shown = &lines[lines.len().saturating_sub(SHOWN)..];
    shown.iter().map(|line| line.chars().take(WIDTH).collect()).collect()
}
