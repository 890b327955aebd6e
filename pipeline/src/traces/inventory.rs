//! What the database knows of all artifacts at once, for keeping house.

use std::collections::{HashMap, HashSet};

use super::pack::{Numbers, unpack_pairs};
use super::{DbError, TraceId, Traces, artifact_digest};
use crate::Digest;

/// An artifact and what is known of its use.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) artifact: Digest,
    pub(crate) bytes: u64,
    /// The traces that gave it.
    pub(crate) traces: Vec<TraceId>,
    /// `workflow:node` of the latest of them.
    pub(crate) node: Option<String>,
    /// When it was last made, or was part of a run, in milliseconds since 1970.
    pub(crate) used_ms: i64,
}

impl Traces {
    /// Every artifact that the database knows.
    pub(crate) fn inventory(&self) -> Result<Vec<Stored>, DbError> {
        let used = self.last_uses()?;
        let mut by_artifact: HashMap<i64, (Vec<TraceId>, i64, String)> = HashMap::new();
        let mut query = self.db.prepare(
            "SELECT trace.id, artifact, started_ms + trace.ms, node.name FROM trace JOIN node ON node.id = trace.node ORDER BY trace.id",
        )?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let (trace, made): (i64, i64) = (row.get(0)?, row.get(2)?);
            let found = by_artifact.entry(row.get(1)?).or_default();
            found.0.push(TraceId(trace));
            found.1 = found.1.max(made).max(used.get(&(trace as u64)).copied().unwrap_or(0));
            found.2 = row.get(3)?;
        }
        let mut query = self.db.prepare("SELECT rest, key, listing, id, bytes FROM artifact ORDER BY id")?;
        let read = |row: &rusqlite::Row<'_>| Ok((artifact_digest(row, 0)?, row.get::<_, i64>(3)?, row.get::<_, i64>(4)?));
        let all = query.query_map([], read)?.collect::<Result<Vec<_>, _>>()?;
        let stored = |(artifact, row, bytes): (Digest, i64, i64)| {
            let (traces, used_ms, node) = by_artifact.remove(&row).unwrap_or_default();
            Stored { artifact, bytes: bytes as u64, node: (!traces.is_empty()).then_some(node), traces, used_ms }
        };
        Ok(all.into_iter().map(stored).collect())
    }

    /// When each trace was last part of a run.
    fn last_uses(&self) -> Result<HashMap<u64, i64>, DbError> {
        let mut times: HashMap<i64, i64> = HashMap::new();
        let mut query = self.db.prepare("SELECT coalesce(same, id), coalesce(ended_ms, started_ms) FROM run")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let time = times.entry(row.get(0)?).or_default();
            *time = row.get::<_, i64>(1)?.max(*time);
        }
        let mut used: HashMap<u64, i64> = HashMap::new();
        let mut query = self.db.prepare("SELECT id, members FROM run WHERE members IS NOT NULL")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let time = times.get(&row.get(0)?).copied().unwrap_or(0);
            for (_, trace) in unpack_pairs(row.get_ref(1)?.as_blob()?).unwrap_or_default() {
                let last = used.entry(trace).or_default();
                *last = time.max(*last);
            }
        }
        Ok(used)
    }

    /// The traces of the last runs of each workflow.
    pub(crate) fn members_of_last_runs(&self, count: usize) -> Result<HashSet<TraceId>, DbError> {
        let mut query = self.db.prepare(
            "SELECT DISTINCT place FROM (SELECT coalesce(same, id) AS place,
                row_number() OVER (PARTITION BY workflow ORDER BY id DESC) AS number FROM run) WHERE number <= ?",
        )?;
        let runs: Vec<i64> = query.query_map([count as i64], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let mut query = self.db.prepare("SELECT members FROM run WHERE id = ? AND members IS NOT NULL")?;
        let mut members = HashSet::new();
        for run in runs {
            let mut rows = query.query([run])?;
            while let Some(row) = rows.next()? {
                let pairs = unpack_pairs(row.get_ref(0)?.as_blob()?).unwrap_or_default();
                members.extend(pairs.into_iter().map(|(_, trace)| TraceId(trace as i64)));
            }
        }
        Ok(members)
    }

    /// Artifacts that facts of traces mention, with the latest such trace and its `workflow:node`: the list of files that a source
    /// saw is kept as an artifact beside the source's own.
    pub(crate) fn mentioned(&self) -> Result<HashMap<Digest, (TraceId, String)>, DbError> {
        let mut query = self.db.prepare(
            "SELECT trace.id, facts, node.name FROM trace JOIN node ON node.id = trace.node
             WHERE facts LIKE '%\"trees\"%' ORDER BY trace.id",
        )?;
        let mut rows = query.query([])?;
        let mut found = HashMap::new();
        while let Some(row) = rows.next()? {
            let facts: serde_json::Value = serde_json::from_str(row.get_ref(1)?.as_str()?).unwrap_or_default();
            let trees = facts.get("trees").and_then(serde_json::Value::as_object).into_iter().flatten();
            for digest in trees.filter_map(|(_, digest)| digest.as_str().and_then(Digest::parse)) {
                found.insert(digest, (TraceId(row.get(0)?), row.get(2)?));
            }
        }
        Ok(found)
    }

    /// Forgets traces of artifacts that are gone, as far as no explanation of a node needs them, and the artifacts' files.
    pub(crate) fn forget_gone(&mut self, gone: &[Digest]) -> Result<(), DbError> {
        self.writing(|writer| {
            for artifact in gone {
                let Some(row) = writer.artifact(*artifact)?.map(|row| row as i64) else { continue };
                writer.db.execute(
                    "DELETE FROM trace WHERE artifact = ?1 AND id NOT IN (SELECT now FROM node WHERE now IS NOT NULL)
                     AND id NOT IN (SELECT before FROM node WHERE before IS NOT NULL)",
                    [row],
                )?;
                // Manifests may name it by its row, so what stays of that is the digest.
                writer.db.execute(
                    "UPDATE artifact SET rest = ?2, listing = x'', bytes = 0 WHERE id = ?1",
                    rusqlite::params![row, &artifact.0[4..]],
                )?;
            }
            Ok(())
        })
    }

    /// Drops what was recorded of the nodes of old runs; the runs themselves stay in the list.
    pub(crate) fn shorten_runs(&mut self, keep: usize) -> Result<(), DbError> {
        self.writing(|writer| {
            let shorten = "UPDATE run SET steps = NULL, members = NULL, same = NULL WHERE id IN (SELECT id FROM (
                SELECT id, row_number() OVER (PARTITION BY workflow ORDER BY id DESC) AS number FROM run) WHERE number > ?1)
                AND id NOT IN (SELECT same FROM run WHERE same IS NOT NULL AND id IN (SELECT id FROM (
                SELECT id, row_number() OVER (PARTITION BY workflow ORDER BY id DESC) AS number FROM run) WHERE number <= ?1))";
            writer.db.execute(shorten, [keep as i64]).map(|_| ())
        })
    }

    /// Gives the room of forgotten rows back to the file system, when that is worth it and nobody else is at work.
    pub(crate) fn compact(&self) -> Result<(), DbError> {
        let number = |pragma: &str| self.db.query_row(pragma, [], |row| row.get::<_, i64>(0));
        if number("PRAGMA freelist_count")? * 4 > number("PRAGMA page_count")? {
            let _ = self.db.execute_batch("VACUUM"); // another process may be reading: next time
        }
        let _ = self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())); // likewise
        Ok(())
    }
}
