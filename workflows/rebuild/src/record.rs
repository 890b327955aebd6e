//! Record of all rebuilds, `rebuilds.jsonl`: a line when a rebuild begins, one when it ended, one when its message was sent.
//! It is only appended to. A last line without an end was torn by a kill or a full disk, and does not count.

use std::collections::{BTreeMap, BTreeSet};

use scoring::Metric;
use scoring::history::{Lineage, Verdict};
use serde::{Deserialize, Serialize};

use crate::time::Utc;

/// Format number that this version writes; it reads all up to it.
pub const FORMAT: u32 = 1;

/// Name among the other axes of a cell for a further metric that its runs are judged by, next to the cell of their primary one.
pub const METRIC: &str = "metric";

/// Line of the record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum Line {
    /// A rebuild began.
    Begun(Begun),
    /// A rebuild ended.
    Ended(Box<Ended>),
    /// The message of a rebuild was sent, or could not be.
    Told(Told),
}

/// Begin of a rebuild.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Begun {
    /// Format of the line.
    pub format: u32,
    /// Id of the rebuild: its begin in UTC and a random part, `2026-11-29T02:30:07Z-3f2a`.
    pub id: String,
    /// Name in the rebuild file.
    pub name: String,
    /// Path of the rebuild file; empty in records of earlier versions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// Begin.
    pub at: Utc,
}

/// Outcome of a rebuild.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All cells have a result.
    Done,
    /// Some cells have none.
    Partial,
    /// Nothing ran: no disk space, a missing source, another lock file.
    NotStarted,
    /// The user or the machine stopped the rebuild.
    Stopped,
}

impl Outcome {
    /// True if the rebuild counts for its period.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Done | Self::Partial)
    }

    /// In words.
    pub fn title(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Partial => "some cells failed",
            Self::NotStarted => "not started",
            Self::Stopped => "stopped",
        }
    }
}

/// End of a rebuild, with all that it found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// Format of the line.
    pub format: u32,
    /// Id of the rebuild.
    pub id: String,
    /// Begin.
    pub begun: Utc,
    /// End.
    pub at: Utc,
    /// Outcome.
    pub outcome: Outcome,
    /// Exit code.
    pub exit_code: u8,
    /// Reason for another outcome than [`Outcome::Done`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// True if everything was computed in an empty store.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fresh: bool,
    /// BLAKE3 of the rebuild file.
    pub file: String,
    /// BLAKE3 of the text of each workflow, with all that it includes.
    #[serde(default)]
    pub workflows: BTreeMap<String, String>,
    /// Program.
    pub program: Program,
    /// Machine.
    pub machine: Machine,
    /// Corpora, checkpoints and other places that were read, by name.
    #[serde(default)]
    pub sources: BTreeMap<String, Source>,
    /// Runs, in order.
    #[serde(default)]
    pub runs: Vec<RunOutcome>,
    /// Blob with the details of all cells ([`Detail`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Cells by key.
    #[serde(default)]
    pub cells: BTreeMap<String, Cell>,
    /// Alarms that are open, by cell, with the rebuild that raised them and the moment at which they were last told.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub open: BTreeMap<String, OpenAlarm>,
    /// Cells whose alarm ended by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recovered: Vec<String>,
    /// Losses that were not confirmed because only so many are in one rebuild.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unconfirmed: Vec<String>,
    /// Sentences about values that are not as in the lock file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differs: Vec<String>,
    /// Number of rebuilds in a row that failed, this one included.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u32,
    /// Sentences about other things that a reader should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Program that computed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Version.
    pub version: String,
    /// Commit; empty where the program was built without git.
    pub commit: String,
    /// Compiler.
    #[serde(default)]
    pub rustc: String,
    /// BLAKE3 of each executable, by name.
    pub executables: BTreeMap<String, String>,
}

/// Machine that computed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Name.
    pub host: String,
    /// Model of the CPU.
    pub cpu: String,
    /// Cores that were used.
    pub cores: usize,
    /// GPUs that were used, with their model where it is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<String>,
    /// Release of the kernel.
    pub kernel: String,
    /// Version of the GPU driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
}

impl Machine {
    /// Key within which results repeat bit for bit and times can be compared.
    pub fn key(&self) -> String {
        let parts = [self.cpu.clone(), format!("{} cores", self.cores)].into_iter().chain(self.gpus.clone());
        parts.collect::<Vec<_>>().join(", ")
    }
}

/// Files that went in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Digest of all names and contents.
    pub digest: String,
    /// Number of files.
    pub files: usize,
    /// Bytes.
    pub bytes: u64,
    /// Blob with the list of files: a digest and a path a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<String>,
}

/// Outcome of one run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunOutcome {
    /// Arguments, as in the rebuild file.
    pub request: String,
    /// Number of the run in the store; 0 if it did not begin.
    pub run: i64,
    /// `done`, `failed`, `stopped` or `not started`.
    pub outcome: String,
    /// Duration.
    pub secs: f64,
    /// Number of nodes that ran, by state.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub nodes: BTreeMap<String, usize>,
    /// Nodes that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<Failure>,
}

/// Node that failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Node.
    pub node: String,
    /// Error with its causes.
    pub message: String,
    /// Last lines of the log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

/// Result of a cell: a task on a corpus by a method, over its seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Task.
    pub task: String,
    /// Corpus.
    pub corpus: String,
    /// Method.
    pub method: String,
    /// Other axes of the matrix.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub others: BTreeMap<String, String>,
    /// Node that scores it, without its seed.
    pub node: String,
    /// Metric; none when it failed and never had a result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<Metric>,
    /// Value by seed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, f64>,
    /// Blob with the evidence by seed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub evidence: BTreeMap<String, String>,
    /// Number of utterances of the test set.
    #[serde(default)]
    pub utterances: u64,
    /// Error, when a seed has no result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// Id of the first rebuild with these results.
    pub since: String,
    /// Comparison with the last result.
    pub last: Finding,
    /// Comparison with the baseline.
    pub baseline: Finding,
    /// Causes of the change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<NamedCause>,
    /// Outcome of the confirmation with new seeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmation: Option<Confirmation>,
    /// True if this rebuild raised an alarm for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alarm: bool,
    /// Cost of each training of this rebuild, by its node without the seed; empty where none ran.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub costs: BTreeMap<String, Cost>,
}

/// Cost of a training, over the seeds of a cell.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Mean duration in seconds.
    pub secs: f64,
    /// Largest peak memory in GiB, of the GPU where one was used; none where the stage reports none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_gib: Option<f64>,
    /// Threads, GPU and, if it is another one, machine of each training: `2`, `4 GPU`, `2 on node7`.
    pub on: BTreeSet<String>,
}

impl Cell {
    /// Mean value over seeds; none without a result.
    pub fn mean(&self) -> Option<f64> {
        (!self.values.is_empty()).then(|| self.values.values().sum::<f64>() / self.values.len() as f64)
    }

    /// Standard deviation over seeds; none with fewer than two.
    pub fn deviation(&self) -> Option<f64> {
        let (mean, count) = (self.mean()?, self.values.len());
        let squares: f64 = self.values.values().map(|value| (value - mean).powi(2)).sum();
        (count > 1).then(|| (squares / (count - 1) as f64).sqrt())
    }

    /// Mean as people read it, with its deviation: `93.45 ± 1.63`.
    pub fn print(&self) -> String {
        let Some((metric, mean)) = self.metric.zip(self.mean()) else { return "–".to_owned() };
        let deviation = self.deviation().map(|deviation| format!(" ± {}", metric.print(deviation)));
        format!("{}{}", metric.print(mean), deviation.unwrap_or_default())
    }

    /// Title for people: `keyword spotting, speech_commands, lora`.
    pub fn title(&self) -> String {
        let others = self.others.iter().map(|(axis, value)| format!("{axis} {value}"));
        let parts = [self.task.replace('_', " "), self.corpus.clone(), self.method.clone()].into_iter().chain(others);
        parts.filter(|part| !part.is_empty() && part != "-").collect::<Vec<_>>().join(", ")
    }
}

/// Comparison of a cell with an earlier result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Verdict.
    pub verdict: Verdict,
    /// Rebuild that it was compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<String>,
    /// Numbers of the test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<Numbers>,
}

impl Finding {
    /// A verdict without a test.
    pub fn of(verdict: Verdict) -> Self {
        Self { verdict, against: None, test: None }
    }
}

/// Numbers of a test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Numbers {
    /// Mean difference over the common seeds, new less old.
    pub difference: f64,
    /// Variance of it when utterances are drawn again.
    pub utterance_variance: f64,
    /// Variance of it between trainings.
    pub training_variance: f64,
    /// Number of common seeds.
    pub seeds: usize,
    /// Degrees of freedom; none where no training changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degrees: Option<u32>,
    /// Probability of such a difference by chance.
    pub p: f64,
}

/// Cause in words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NamedCause {
    /// `data`, `settings`, `code`, `library`, `code without a version`, `hardware`, `not repeatable`, `unexplained`.
    pub kind: String,
    /// Difference: `libtorch 2.11 -> 2.12`.
    pub text: String,
}

impl NamedCause {
    /// `library: libtorch 2.11 -> 2.12`
    pub fn print(&self) -> String {
        if self.text.is_empty() { self.kind.clone() } else { format!("{}: {}", self.kind, self.text) }
    }
}

/// Outcome of the confirmation of a loss with seeds that the cell did not have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Confirmation {
    /// Values of the new seeds.
    pub values: BTreeMap<String, f64>,
    /// True if old and new seeds together show the loss.
    pub confirmed: bool,
    /// Probability over all seeds; none when the new trainings failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p: Option<f64>,
}

/// Open alarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenAlarm {
    /// Rebuild that raised it.
    pub since: String,
    /// Moment at which it was last told.
    pub told: Utc,
}

/// A message was sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// Format of the line.
    pub format: u32,
    /// Id of the rebuild.
    pub id: String,
    /// Moment.
    pub at: Utc,
    /// Channels that took it.
    pub sent: Vec<String>,
    /// Channels that did not; the message is kept for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<String>,
}

/// Details of the cells of a rebuild, kept as a blob because it stays the same from week to week.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Detail {
    /// By key.
    pub cells: BTreeMap<String, CellDetail>,
}

/// Details of a cell.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CellDetail {
    /// Everything that it was made of.
    pub lineage: Lineage,
    /// By seed.
    pub seeds: BTreeMap<String, SeedDetail>,
}

/// Details of the result of one seed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SeedDetail {
    /// Digest of the sorted ids of the utterances.
    pub utterance_set: String,
    /// Digest of the artifacts of all trainings behind it.
    pub trained: String,
    /// Digest of the artifact of the score.
    pub scored: String,
    /// Blob with `scores.json`.
    pub scores: String,
    /// Confidence interval over utterances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<(f64, f64)>,
}

/// All lines of the record, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Log {
    /// Lines.
    pub lines: Vec<Line>,
    /// Number of bytes of whole lines. A torn line after them is to be cut off before the next is written.
    pub whole: u64,
    /// Number of bytes of the torn line.
    pub torn: u64,
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

#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// Refuses a line of a newer format before anything else of it is read.
pub(crate) fn check_format(text: &[u8], line: usize) -> Result<(), LogError> {
    let Format { format } = serde_json::from_slice(text).map_err(|source| LogError::Damaged { line, source })?;
    if format > FORMAT { Err(LogError::Newer { line, found: format }) } else { Ok(()) }
}

impl Log {
    /// Reads the record.
    ///
    /// Errors: [`LogError`].
    pub fn parse(text: &[u8]) -> Result<Self, LogError> {
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let mut lines = Vec::new();
        for (at, line) in text[..whole].split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            let damaged = |source| LogError::Damaged { line: at + 1, source };
            check_format(line, at + 1)?;
            lines.push(serde_json::from_slice(line).map_err(damaged)?);
        }
        Ok(Self { lines, whole: whole as u64, torn: (text.len() - whole) as u64 })
    }

    /// Rebuilds that ended, oldest first.
    pub fn ended(&self) -> impl DoubleEndedIterator<Item = &Ended> {
        self.lines.iter().filter_map(|line| match line {
            Line::Ended(ended) => Some(&**ended),
            _ => None,
        })
    }

    /// The end of a rebuild.
    pub fn find(&self, id: &str) -> Option<&Ended> {
        self.ended().rev().find(|ended| ended.id == id)
    }

    /// Rebuilds that began and never ended: the program was killed, or is still running.
    pub fn open(&self) -> Vec<&Begun> {
        let ended: BTreeSet<&str> = self.ended().map(|ended| ended.id.as_str()).collect();
        let begun = self.lines.iter().filter_map(|line| match line {
            Line::Begun(begun) => Some(begun),
            _ => None,
        });
        begun.filter(|begun| !ended.contains(begun.id.as_str())).collect()
    }

    /// Rebuilds that were killed since the last one that ended.
    pub fn killed(&self) -> Vec<&Begun> {
        let mut open = self.open();
        let last = self.lines.iter().rposition(|line| matches!(line, Line::Ended(_)));
        let later = |begun: &&Begun| {
            self.lines.iter().rposition(|line| matches!(line, Line::Begun(other) if other.id == begun.id)) > last
        };
        open.retain(later);
        open
    }

    /// Results of a cell, oldest first, each with its rebuild; failed ones are left out.
    pub fn results<'a>(&'a self, key: &str) -> impl DoubleEndedIterator<Item = (&'a Ended, &'a Cell)> + use<'a> {
        let key = key.to_owned();
        self.ended().filter_map(move |ended| {
            let cell = ended.cells.get(&key)?;
            (!cell.values.is_empty()).then_some((ended, cell))
        })
    }

    /// Results of a cell that differ from the one before, oldest first.
    pub fn distinct<'a>(&'a self, key: &str) -> Vec<(&'a Ended, &'a Cell)> {
        let mut found: Vec<(&Ended, &Cell)> = vec![];
        for (ended, cell) in self.results(key) {
            let is_known =
                found.iter().rev().take(2).any(|(_, known)| known.evidence == cell.evidence && same_values(known, cell));
            if !is_known {
                found.push((ended, cell));
            }
        }
        found
    }
}

fn same_values(one: &Cell, other: &Cell) -> bool {
    one.values.len() == other.values.len()
        && one.values.iter().zip(&other.values).all(|(a, b)| a.0 == b.0 && a.1.to_bits() == b.1.to_bits())
}

impl Line {
    /// Text of the line with its end, for one write.
    ///
    /// Errors: a value that JSON cannot hold.
    pub fn text(&self) -> serde_json::Result<String> {
        serde_json::to_string(self).map(|text| text + "\n")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn begun(id: &str) -> Line {
        Line::Begun(Begun { format: FORMAT, id: id.to_owned(), name: "weekly".to_owned(), file: String::new(), at: Utc(0) })
    }

    pub(crate) fn cell(value: f64) -> Cell {
        Cell {
            task: "speech_recognition".to_owned(),
            corpus: "fsdd".to_owned(),
            method: "lora".to_owned(),
            others: BTreeMap::new(),
            node: "score[method=lora]".to_owned(),
            metric: Some(Metric::Wer),
            values: BTreeMap::from([("1".to_owned(), value)]),
            evidence: BTreeMap::from([("1".to_owned(), format!("{value}"))]),
            utterances: 300,
            failed: None,
            since: "a".to_owned(),
            last: Finding::of(Verdict::Worse),
            baseline: Finding::of(Verdict::Moved),
            causes: vec![NamedCause { kind: "hardware".to_owned(), text: String::new() }],
            confirmation: None,
            alarm: false,
            costs: BTreeMap::new(),
        }
    }

    pub(crate) fn ended(id: &str, at: i64, outcome: Outcome, value: f64) -> Ended {
        Ended {
            format: FORMAT,
            id: id.to_owned(),
            begun: Utc(at),
            at: Utc(at + 60),
            outcome,
            exit_code: 0,
            reason: None,
            fresh: false,
            file: String::new(),
            workflows: BTreeMap::new(),
            program: Program::default(),
            machine: Machine::default(),
            sources: BTreeMap::new(),
            runs: vec![],
            detail: None,
            cells: BTreeMap::from([("speech_recognition fsdd lora".to_owned(), cell(value))]),
            open: BTreeMap::new(),
            recovered: vec![],
            unconfirmed: vec![],
            differs: vec![],
            failures: 0,
            notices: vec![],
        }
    }

    fn record() -> String {
        let end = |id: &str, at, value| Line::Ended(Box::new(ended(id, at, Outcome::Done, value)));
        let told =
            Line::Told(Told { format: FORMAT, id: "a".to_owned(), at: Utc(61), sent: vec!["mail".to_owned()], kept: vec![] });
        let lines = [begun("a"), end("a", 0, 0.25), told, begun("b"), begun("c"), end("c", 700, 0.5), begun("d")];
        lines.iter().map(|line| line.text().unwrap()).collect()
    }

    #[test]
    fn a_record_cut_at_any_byte_keeps_its_whole_lines() {
        let text = record();
        let all = Log::parse(text.as_bytes()).unwrap();
        assert_eq!((all.lines.len(), all.whole, all.torn), (7, text.len() as u64, 0));
        let ids = |begun: Vec<&Begun>| begun.iter().map(|begun| begun.id.clone()).collect::<Vec<_>>();
        assert_eq!((ids(all.open()), ids(all.killed())), (vec!["b".to_owned(), "d".to_owned()], vec!["d".to_owned()]));
        let values: Vec<_> =
            all.results("speech_recognition fsdd lora").map(|(ended, cell)| (ended.id.as_str(), cell.values["1"])).collect();
        assert_eq!(values, [("a", 0.25), ("c", 0.5)]);
        for cut in 0..text.len() {
            let part = Log::parse(&text.as_bytes()[..cut]).unwrap();
            assert_eq!(part.lines, all.lines[..part.lines.len()]);
            assert_eq!(part.whole + part.torn, cut as u64);
        }
    }

    #[test]
    fn damage_and_newer_formats_are_named() {
        let error = |text: &str| Log::parse(text.as_bytes()).unwrap_err().to_string();
        let good = begun("a").text().unwrap();
        assert_eq!(error(&format!("{good}{{\"line\n")), "line 2 is damaged");
        assert_eq!(error("{\"line\":\"other\",\"format\":9}\n"), "line 1 has format 9, and this version reads up to 1");
    }

    #[test]
    fn a_result_that_stays_counts_once() {
        let end = |id: &str, value| Line::Ended(Box::new(ended(id, 0, Outcome::Done, value)));
        let lines = vec![end("a", 0.1), end("b", 0.1), end("c", 0.2), end("d", 0.2), end("e", 0.3)];
        let log = Log { lines, whole: 0, torn: 0 };
        let ids: Vec<&str> = log.distinct("speech_recognition fsdd lora").iter().map(|(ended, _)| ended.id.as_str()).collect();
        assert_eq!(ids, ["a", "c", "e"]);
    }
}
