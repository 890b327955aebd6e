//! The record of runs.

use std::io::{Read, Write};
use std::path::PathBuf;

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::pack::{pack_pairs, unpack_pairs};
use super::{DbError, TraceId, Traces};

/// How a node ended in a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// `workflow:node`
    pub node: String,
    /// `ran`, `source` (a source node that ran before planning), `reused`, `failed`, `stopped`, `blocked`, `held`
    pub state: String,
    /// Duration.
    pub secs: f64,
    /// Its log file, when it was tried.
    pub log: Option<PathBuf>,
    /// The error.
    pub message: Option<String>,
    /// Why it ran.
    #[serde(default)]
    pub why: Option<String>,
    /// Start, in milliseconds since 1970; 0 when it did not start.
    #[serde(default)]
    pub started_ms: i64,
    /// How often it was tried.
    #[serde(default)]
    pub attempts: u32,
    /// Threads it was given.
    #[serde(default)]
    pub threads: usize,
    /// GPU it was given.
    #[serde(default)]
    pub gpu: Option<u32>,
}

/// Steps as they are kept: column by column, which packs twice as well as step by step. Where the log of a step lies follows from
/// its run and its node.
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
}

impl Columns {
    fn of(steps: &[Step]) -> Self {
        let mut all = Self::default();
        for step in steps {
            let Step { node, state, secs, log: _, message, why, started_ms, attempts, threads, gpu } = step.clone();
            all.node.push(node);
            all.state.push(state);
            all.secs.push((secs * 1e6).round() / 1e6); // to the microsecond
            all.message.push(message);
            all.why.push(why);
            all.started_ms.push(started_ms);
            all.attempts.push(attempts);
            all.threads.push(threads);
            all.gpu.push(gpu);
        }
        all
    }

    /// The steps; none of a column that is too short.
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
            })
        };
        (0..self.node.len()).filter_map(step).collect()
    }
}

/// A run in the record.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunRow {
    /// Its number.
    pub id: i64,
    /// The workflow's name.
    pub workflow: String,
    /// How it was asked for: settings and targets, as JSON.
    pub request: String,
    /// Machine.
    pub host: String,
    /// Start, in milliseconds since 1970.
    pub started_ms: i64,
    /// End; none while it runs or when it was killed.
    pub ended_ms: Option<i64>,
    /// `done`, `failed`, `stopped`; none while it runs or when it was killed.
    pub outcome: Option<String>,
}

/// A node of a run that was up to date at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// `workflow:node`
    pub node: String,
    /// What made its artifact, in this run or before.
    pub trace: TraceId,
}

impl Traces {
    pub(crate) fn begin_run(&mut self, workflow: &str, request: &str, host: &str, started_ms: i64) -> Result<i64, DbError> {
        self.members.clear();
        let row = params![workflow, request, host, started_ms];
        let mut insert = self.db.prepare_cached("INSERT INTO run(workflow, request, host, started_ms) VALUES (?, ?, ?, ?)")?;
        insert.execute(row)?;
        Ok(self.db.last_insert_rowid())
    }

    /// Ends a run. A run without a single new step has the members of the one before, which its own need not repeat.
    pub(crate) fn end_run(&mut self, run: i64, outcome: &str, steps: &[Step], ended_ms: i64) -> Result<(), DbError> {
        let members: Vec<(u64, u64)> = std::mem::take(&mut self.members).into_iter().collect();
        let packed = pack_pairs(&members);
        let same = self.like_before(run, &packed)?;
        let packed = same.is_none().then_some(packed);
        let num_steps = steps.len();
        let steps = (!steps.is_empty()).then(|| deflate(&serde_json::to_vec(&Columns::of(steps)).expect("plain data")));
        let mut update =
            self.db.prepare_cached("UPDATE run SET ended_ms = ?, outcome = ?, same = ?, members = ?, steps = ? WHERE id = ?")?;
        update.execute(params![ended_ms, outcome, same, packed, steps, run])?;
        if num_steps > MANY_STEPS {
            // The log of the database stays as large as it ever was. After so much work its folding is no longer felt; while another
            // process reads, it is left to a later run.
            let _ = self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        }
        Ok(())
    }

    /// Ends a run that found everything as the run before it of the same workflow left it.
    pub(crate) fn end_same(&mut self, run: i64, ended_ms: i64) -> Result<(), DbError> {
        let same = self.before(run)?;
        let mut update = self.db.prepare_cached("UPDATE run SET ended_ms = ?, outcome = 'done', same = ? WHERE id = ?")?;
        update.execute(params![ended_ms, same, run]).map(|_| ())
    }

    /// The run before this one of the same workflow that holds members.
    fn before(&self, run: i64) -> Result<Option<i64>, DbError> {
        let mut query = self.db.prepare_cached(
            "SELECT coalesce(same, id) FROM run WHERE id < ?1 AND workflow = (SELECT workflow FROM run WHERE id = ?1)
             AND (same IS NOT NULL OR members IS NOT NULL) ORDER BY id DESC LIMIT 1",
        )?;
        query.query_row([run], |row| row.get(0)).optional()
    }

    fn like_before(&self, run: i64, packed: &[u8]) -> Result<Option<i64>, DbError> {
        let Some(before) = self.before(run)? else { return Ok(None) };
        let mut query = self.db.prepare_cached("SELECT 1 FROM run WHERE id = ? AND members = ?")?;
        Ok(query.exists(params![before, packed])?.then_some(before))
    }

    pub(crate) fn runs(&self, limit: usize) -> Result<Vec<RunRow>, DbError> {
        let mut query = self.db.prepare(&format!("{SELECT} ORDER BY id DESC LIMIT ?"))?;
        query.query_map([limit as i64], read_run)?.collect()
    }

    pub(crate) fn run(&self, run: i64) -> Result<Option<RunRow>, DbError> {
        self.db.prepare(&format!("{SELECT} WHERE id = ?"))?.query_row([run], read_run).optional()
    }

    pub(crate) fn steps(&self, run: i64) -> Result<Vec<Step>, DbError> {
        let mut query = self.db.prepare_cached("SELECT steps FROM run WHERE id = ?")?;
        let bytes: Option<Vec<u8>> = query.query_row([run], |row| row.get(0)).optional()?.flatten();
        let text = bytes.map(|bytes| inflate(&bytes)).unwrap_or_default();
        let columns: Columns = serde_json::from_slice(&text).unwrap_or_default(); // damaged: nothing to show
        let mut steps = columns.steps();
        steps.sort_by(|a, b| a.node.cmp(&b.node));
        Ok(steps)
    }

    /// The nodes that were up to date at the end of a run, by name.
    pub(crate) fn members(&self, run: i64) -> Result<Vec<Member>, DbError> {
        let mut query =
            self.db.prepare_cached("SELECT members FROM run WHERE id = (SELECT coalesce(same, id) FROM run WHERE id = ?)")?;
        let bytes: Option<Vec<u8>> = query.query_row([run], |row| row.get(0)).optional()?.flatten();
        let pairs = bytes.and_then(|bytes| unpack_pairs(&bytes)).unwrap_or_default();
        let mut name = self.db.prepare_cached("SELECT name FROM node WHERE id = ?")?;
        let mut members = vec![];
        for (node, trace) in pairs {
            if let Some(node) = name.query_row([node as i64], |row| row.get(0)).optional()? {
                members.push(Member { node, trace: TraceId(trace as i64) });
            }
        }
        members.sort_by(|a, b| a.node.cmp(&b.node));
        Ok(members)
    }
}

/// With more steps than this a run leaves a long log of the database.
const MANY_STEPS: usize = 500;

const SELECT: &str = "SELECT id, workflow, request, host, started_ms, ended_ms, outcome FROM run";

fn read_run(row: &Row<'_>) -> Result<RunRow, DbError> {
    Ok(RunRow {
        id: row.get(0)?,
        workflow: row.get(1)?,
        request: row.get(2)?,
        host: row.get(3)?,
        started_ms: row.get(4)?,
        ended_ms: row.get(5)?,
        outcome: row.get(6)?,
    })
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
