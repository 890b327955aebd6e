//! Entries for everything that an index knows: how a log is made of an index.

use std::borrow::Cow;

use rusqlite::OptionalExtension;

use super::entry::{EndEntry, Entry, Latest, ResultEntry, RunEntry};
use super::index::Index;
use super::log::Log;
use super::pack::unpack_pairs;
use super::rows::word;
use super::schema::{self, Format};
use super::steps::unpack_steps;
use super::{ArtifactFiles, RecordsError, ResultId};

/// Receives one entry after the other.
pub(super) type Put<'a> = &'a mut dyn FnMut(&Entry<'_>) -> Result<(), RecordsError>;

impl Index {
    /// Passes an entry for everything that the index knows to `put`: results, nodes, runs. Returns how many results cannot be read.
    pub(super) fn export(&self, put: Put<'_>) -> Result<usize, RecordsError> {
        let mut unreadable = 0;
        let mut query = self.db.prepare("SELECT id, boot FROM trace ORDER BY id")?;
        let all = query.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?)))?;
        for (id, boot) in all.collect::<Result<Vec<_>, _>>()? {
            let Some(result) = self.result(ResultId(id))? else {
                unreadable += 1;
                continue;
            };
            let boot = boot.map(|boot| word(&self.db, boot as u64)).transpose()?.map(|text| text.unwrap_or_default().into());
            let files = self.files(result.artifact)?.unwrap_or(ArtifactFiles { files: vec![], stamp: 0 });
            put(&Entry::Result(ResultEntry {
                id,
                fingerprint: result.manifest.fingerprint(),
                artifact: result.artifact,
                manifest: Cow::Owned(result.manifest),
                provenance: Cow::Owned(result.provenance),
                files: files.files.into(),
                stamp: files.stamp,
                boot,
            }))?;
        }
        self.export_nodes(put)?;
        self.export_runs(put)?;
        Ok(unreadable)
    }

    /// Results of the nodes: the one before the last, then the last.
    fn export_nodes(&self, put: Put<'_>) -> Result<(), RecordsError> {
        let mut query = self.db.prepare("SELECT name, now, before, ms FROM node WHERE now IS NOT NULL ORDER BY id")?;
        let mut rows = query.query([])?;
        let mut latest = vec![];
        while let Some(row) = rows.next()? {
            let node: String = row.get(0)?;
            if let Some(result) = row.get(2)? {
                latest.push(Latest { node: node.clone(), result, ms: None });
            }
            latest.push(Latest { node, result: row.get(1)?, ms: row.get(3)? });
        }
        latest.chunks(1000).try_for_each(|nodes| put(&Entry::Latest(nodes.to_vec())))
    }

    fn export_runs(&self, put: Put<'_>) -> Result<(), RecordsError> {
        let project = if schema::format(&self.db)? == Format::Current { "project" } else { "NULL" };
        let mut query = self.db.prepare(&format!(
            "SELECT id, workflow, request, host, started_ms, {project}, ended_ms, outcome, same, members, steps FROM run ORDER BY id"
        ))?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let run: i64 = row.get(0)?;
            let text = |at: usize| row.get::<_, String>(at).map(Cow::Owned);
            let project = row.get::<_, Option<String>>(5)?.map(Cow::Owned);
            let (workflow, request, host) = (text(1)?, text(2)?, text(3)?);
            put(&Entry::Run(RunEntry { run, workflow, request, project, host, started_ms: row.get(4)? }))?;
            let (Some(ended_ms), Some(outcome)) = (row.get(6)?, row.get::<_, Option<String>>(7)?) else { continue };
            let pairs = row.get::<_, Option<Vec<u8>>>(9)?.and_then(|bytes| unpack_pairs(&bytes));
            let members = pairs.map(|pairs| self.named(&pairs)).transpose()?;
            let steps = row.get::<_, Option<Vec<u8>>>(10)?.map(|bytes| unpack_steps(&bytes)).unwrap_or_default();
            let (outcome, same) = (outcome.into(), row.get(8)?);
            put(&Entry::Ended(EndEntry { run, ended_ms, outcome, same, members, steps: steps.into() }))?;
        }
        Ok(())
    }

    /// Writes the record log again, from the index.
    pub(super) fn rewrite_log(&mut self) -> Result<(), RecordsError> {
        let transaction = rusqlite::Transaction::new_unchecked(&self.db, rusqlite::TransactionBehavior::Immediate)?;
        let log = Log::replace(&self.log_path, |put| self.export(put).map(|_| ()))?;
        let length = log.len()? as i64;
        transaction.execute("UPDATE log SET id = ?, length = ?", rusqlite::params![log.id, length])?;
        transaction.commit()?;
        self.log = Some(log);
        Ok(())
    }

    /// Name and length of the log that the index was made from.
    pub(super) fn position(&self) -> Result<Option<(String, u64)>, RecordsError> {
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64));
        Ok(self.db.query_row("SELECT id, length FROM log", [], read).optional()?)
    }
}
