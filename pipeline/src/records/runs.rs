//! Records of runs.

use rusqlite::{OptionalExtension, Row};
use serde::Serialize;

use super::entry::{EndEntry, Entry, RunEntry};
use super::index::Index;
use super::pack::{pack_pairs, unpack_pairs};
use super::steps::{Step, unpack_steps};
use super::{RecordsError, ResultId};

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunRow {
    /// Number of the run.
    pub id: i64,
    /// Name of the workflow.
    pub workflow: String,
    /// Settings and targets that were asked for, as JSON.
    pub request: String,
    /// Folder of the project that the run belongs to; none for runs of older versions.
    pub project: Option<String>,
    /// Machine.
    pub host: String,
    /// Start, in milliseconds since 1970.
    pub started_ms: i64,
    /// End; none while it runs or when it was killed.
    pub ended_ms: Option<i64>,
    /// `done`, `failed`, `stopped`; none while it runs or when it was killed.
    pub outcome: Option<String>,
    /// True if `sure store gc` forgot its nodes.
    pub shortened: bool,
}

/// A node of a run that was up to date at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// `workflow:node`
    pub node: String,
    /// The result that it had, made in this run or before.
    #[serde(rename = "trace")]
    pub result: ResultId,
}

impl Index {
    /// Records the begin of a run. Returns its number.
    pub(crate) fn begin_run(
        &mut self,
        workflow: &str,
        request: &str,
        project: Option<&str>,
        host: &str,
        started_ms: i64,
    ) -> Result<i64, RecordsError> {
        self.members.clear();
        self.writing(|writer| {
            let last =
                writer.db.prepare_cached("SELECT coalesce(max(id), 0) FROM run")?.query_row([], |row| row.get::<_, i64>(0))?;
            let (workflow, request, project, host) = (workflow.into(), request.into(), project.map(Into::into), host.into());
            writer.put(&Entry::Run(RunEntry { run: last + 1, workflow, request, project, host, started_ms }))?;
            Ok(last + 1)
        })
    }

    /// Records the end of a run. A run without a single new result has the members of the one before, which it need not repeat.
    pub(crate) fn end_run(&mut self, run: i64, outcome: &str, steps: &[Step], ended_ms: i64) -> Result<(), RecordsError> {
        let pairs: Vec<(u64, u64)> = self.members.iter().map(|(node, result)| (*node, *result)).collect();
        let packed = pack_pairs(&pairs);
        let same = self.like_before(run, &packed)?;
        let members = if same.is_none() { Some(self.named(&pairs)?) } else { None };
        let packed = same.is_none().then_some(packed);
        self.writing(|writer| {
            let end = EndEntry { run, ended_ms, outcome: outcome.into(), same, members, steps: steps.into() };
            writer.store_end(&end, packed)?;
            writer.add_line(&Entry::Ended(end));
            Ok(())
        })?;
        self.members.clear();
        if steps.len() > MANY_STEPS {
            // The log of the database stays as large as it ever was. After so much work its folding is no longer felt; while another
            // process reads, it is left to a later run.
            let _ = self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        }
        Ok(())
    }

    /// Records the end of a run that found everything as the run before it of the same workflow left it.
    pub(crate) fn end_same(&mut self, run: i64, ended_ms: i64) -> Result<(), RecordsError> {
        let same = self.before(run)?;
        let end = EndEntry { run, ended_ms, outcome: "done".into(), same, members: None, steps: [].as_slice().into() };
        self.writing(|writer| writer.put(&Entry::Ended(end)))
    }

    /// The run before this one of the same workflow that has members.
    fn before(&self, run: i64) -> Result<Option<i64>, RecordsError> {
        let mut query = self.db.prepare_cached(
            "SELECT coalesce(same, id) FROM run WHERE id < ?1 AND workflow = (SELECT workflow FROM run WHERE id = ?1)
             AND (same IS NOT NULL OR members IS NOT NULL) ORDER BY id DESC LIMIT 1",
        )?;
        Ok(query.query_row([run], |row| row.get(0)).optional()?)
    }

    fn like_before(&self, run: i64, packed: &[u8]) -> Result<Option<i64>, RecordsError> {
        let Some(before) = self.before(run)? else { return Ok(None) };
        let mut query = self.db.prepare_cached("SELECT 1 FROM run WHERE id = ? AND members = ?")?;
        Ok(query.exists(rusqlite::params![before, packed])?.then_some(before))
    }

    /// The latest runs, newest first.
    pub(crate) fn runs(&self, limit: usize) -> Result<Vec<RunRow>, RecordsError> {
        let mut query = self.db.prepare(&format!("{SELECT} ORDER BY id DESC LIMIT ?"))?;
        Ok(query.query_map([limit as i64], read_run)?.collect::<Result<_, _>>()?)
    }

    /// A run by its number.
    pub(crate) fn run(&self, run: i64) -> Result<Option<RunRow>, RecordsError> {
        Ok(self.db.prepare(&format!("{SELECT} WHERE id = ?"))?.query_row([run], read_run).optional()?)
    }

    /// Steps of a run, by name of the node.
    pub(crate) fn steps(&self, run: i64) -> Result<Vec<Step>, RecordsError> {
        let mut query = self.db.prepare_cached("SELECT steps FROM run WHERE id = ?")?;
        let bytes: Option<Vec<u8>> = query.query_row([run], |row| row.get(0)).optional()?.flatten();
        let mut steps = bytes.map(|bytes| unpack_steps(&bytes)).unwrap_or_default();
        steps.sort_by(|a, b| a.node.cmp(&b.node));
        Ok(steps)
    }

    /// Nodes that were up to date at the end of a run, by name.
    pub(crate) fn members(&self, run: i64) -> Result<Vec<Member>, RecordsError> {
        let mut query =
            self.db.prepare_cached("SELECT members FROM run WHERE id = (SELECT coalesce(same, id) FROM run WHERE id = ?)")?;
        let bytes: Option<Vec<u8>> = query.query_row([run], |row| row.get(0)).optional()?.flatten();
        let pairs = bytes.and_then(|bytes| unpack_pairs(&bytes)).unwrap_or_default();
        let named = self.named(&pairs)?.into_iter();
        let mut members: Vec<Member> = named.map(|(node, result)| Member { node, result: ResultId(result) }).collect();
        members.sort_by(|a, b| a.node.cmp(&b.node));
        Ok(members)
    }

    /// Members by the names of their nodes instead of their rows.
    pub(super) fn named(&self, pairs: &[(u64, u64)]) -> Result<Vec<(String, i64)>, RecordsError> {
        let mut name = self.db.prepare_cached("SELECT name FROM node WHERE id = ?")?;
        let mut members = Vec::with_capacity(pairs.len());
        for (node, result) in pairs {
            let node = name.query_row([*node as i64], |row| row.get(0)).optional()?;
            members.extend(node.map(|node| (node, *result as i64)));
        }
        Ok(members)
    }
}

/// With more steps than this a run leaves a long log of the database.
const MANY_STEPS: usize = 500;

const SELECT: &str = "SELECT id, workflow, request, host, started_ms, ended_ms, outcome, project,
    outcome IS NOT NULL AND steps IS NULL AND members IS NULL AND same IS NULL FROM run";

fn read_run(row: &Row<'_>) -> Result<RunRow, rusqlite::Error> {
    Ok(RunRow {
        id: row.get(0)?,
        workflow: row.get(1)?,
        request: row.get(2)?,
        host: row.get(3)?,
        started_ms: row.get(4)?,
        ended_ms: row.get(5)?,
        outcome: row.get(6)?,
        project: row.get(7)?,
        shortened: row.get(8)?,
    })
}
