//! Record of all rebuilds: `rebuilds.jsonl`, one line when a rebuild begins and one when it ends.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Cause, Verdict};
use crate::metric::Metric;

/// Format number that this version reads and writes.
const FORMAT: u32 = 1;

/// Line of the record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum Line {
    /// A rebuild began.
    Begun {
        /// Format of the line.
        format: u32,
        /// Id of the rebuild: its start in UTC and a random part, `2026-11-29T02:30:07Z-3f2a`.
        id: String,
    },
    /// A rebuild ended.
    Ended {
        /// Format of the line.
        format: u32,
        /// Id of the rebuild.
        id: String,
        /// End, in UTC.
        at: String,
        /// Outcome.
        outcome: Outcome,
        /// Cells by key: `keyword_spotting fsdd lora`.
        cells: BTreeMap<String, Cell>,
    },
}

/// Outcome of a rebuild.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All cells have a result.
    Done,
    /// Some cells failed.
    Partial,
    /// Nothing ran: no disk space, a missing source, another lock file.
    NotStarted,
    /// The user stopped the rebuild.
    Stopped,
}

/// Result of a cell in one rebuild.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Metric that the cell is judged by.
    pub metric: Metric,
    /// Value by seed.
    pub values: BTreeMap<String, f64>,
    /// Digest of the evidence by seed.
    pub evidence: BTreeMap<String, String>,
    /// Verdict against the last result.
    pub verdict: Verdict,
    /// Verdict against the baseline.
    pub against_baseline: Verdict,
    /// Causes of the change.
    pub causes: Vec<Cause>,
}

/// All lines of the record, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Log {
    /// Lines.
    pub lines: Vec<Line>,
    /// Number of bytes of whole lines. A torn line after them is to be cut off before the next is written.
    pub whole: usize,
}

/// Error of reading the record.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// Line of a newer format.
    #[error("line {line} has format {found}, and this version reads up to {FORMAT}")]
    Newer {
        /// Number of the line, from 1.
        line: usize,
        /// Format found.
        found: u32,
    },
    /// Line before the last that is not one.
    #[error("line {line} is damaged")]
    Damaged {
        /// Number of the line, from 1.
        line: usize,
        /// Cause.
        #[source]
        source: serde_json::Error,
    },
}

impl Log {
    /// Reads the record. A last line without an end was torn by a kill or a full disk, and is left out.
    ///
    /// Errors: [`LogError`].
    pub fn parse(text: &str) -> Result<Self, LogError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut lines = Vec::new();
        for (at, line) in text[..whole].lines().enumerate() {
            let damaged = |source| LogError::Damaged { line: at + 1, source };
            let Format { format } = serde_json::from_str(line).map_err(damaged)?;
            if format > FORMAT {
                return Err(LogError::Newer { line: at + 1, found: format });
            }
            lines.push(serde_json::from_str(line).map_err(damaged)?);
        }
        Ok(Self { lines, whole })
    }

    /// Ids of rebuilds that began and never ended: the program was killed, or is still running.
    pub fn open(&self) -> Vec<&str> {
        let ended = |wanted: &str| self.lines.iter().any(|line| matches!(line, Line::Ended { id, .. } if id == wanted));
        let begun = self.lines.iter().filter_map(|line| match line {
            Line::Begun { id, .. } => Some(id.as_str()),
            Line::Ended { .. } => None,
        });
        begun.filter(|id| !ended(id)).collect()
    }

    /// Results of a cell, oldest first, with the id of their rebuild.
    pub fn cell<'a>(&'a self, key: &'a str) -> impl Iterator<Item = (&'a str, &'a Cell)> {
        self.lines.iter().filter_map(move |line| match line {
            Line::Ended { id, cells, .. } => Some((id.as_str(), cells.get(key)?)),
            Line::Begun { .. } => None,
        })
    }
}

impl Line {
    /// A line for the begin of a rebuild.
    pub fn begun(id: &str) -> Self {
        Self::Begun { format: FORMAT, id: id.to_owned() }
    }

    /// A line for the end of a rebuild.
    pub fn ended(id: &str, at: &str, outcome: Outcome, cells: BTreeMap<String, Cell>) -> Self {
        Self::Ended { format: FORMAT, id: id.to_owned(), at: at.to_owned(), outcome, cells }
    }

    /// Text of the line with its end, for one write.
    ///
    /// Errors: a value that is not a number.
    pub fn text(&self) -> serde_json::Result<String> {
        serde_json::to_string(self).map(|text| text + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> String {
        let cell = |value: f64| Cell {
            metric: Metric::Wer,
            values: BTreeMap::from([("1".to_owned(), value)]),
            evidence: BTreeMap::from([("1".to_owned(), "ab12".to_owned())]),
            verdict: Verdict::Worse,
            against_baseline: Verdict::Moved,
            causes: vec![Cause::Hardware],
        };
        let cells = |value| BTreeMap::from([("recognition fsdd lora".to_owned(), cell(value))]);
        let lines = [
            Line::begun("a"),
            Line::ended("a", "2026-11-29T04:00:00Z", Outcome::Done, cells(0.25)),
            Line::begun("b"),
            Line::begun("c"),
            Line::ended("c", "2026-12-06T04:00:00Z", Outcome::Partial, cells(0.5)),
        ];
        lines.iter().map(|line| line.text().unwrap()).collect()
    }

    #[test]
    fn a_record_cut_at_any_byte_keeps_its_whole_lines() {
        let text = record();
        let all = Log::parse(&text).unwrap();
        assert_eq!((all.lines.len(), all.whole, all.open()), (5, text.len(), vec!["b"]));
        let values: Vec<_> = all.cell("recognition fsdd lora").map(|(id, cell)| (id, cell.values["1"])).collect();
        assert_eq!(values, [("a", 0.25), ("c", 0.5)]);
        for cut in 0..text.len() {
            let part = Log::parse(&text[..cut]).unwrap();
            assert_eq!(part.lines, all.lines[..part.lines.len()]);
            assert!(part.whole <= cut && text[part.whole..cut].find('\n').is_none());
        }
    }

    #[test]
    fn damage_and_newer_formats_are_named() {
        let error = |text: &str| Log::parse(text).unwrap_err().to_string();
        assert_eq!(error("{\"line\":\"begun\",\"format\":1,\"id\":\"a\"}\n{\"line\n"), "line 2 is damaged");
        assert_eq!(error("{\"line\":\"other\",\"format\":9}\n"), "line 1 has format 9, and this version reads up to 1");
    }
}
