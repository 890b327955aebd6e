//! Use of all artifacts, for garbage collection.

use std::collections::{HashMap, HashSet};

use super::entry::Entry;
use super::index::Index;
use super::log::Log;
use super::pack::unpack_pairs;
use super::rows::artifact_digest;
use super::{RecordsError, ResultId};
use crate::Digest;

/// An artifact in the index, with its use.
#[derive(Debug, Clone)]
pub(crate) struct StoredArtifact {
    pub(crate) artifact: Digest,
    pub(crate) bytes: u64,
    /// Results that gave it.
    pub(crate) results: Vec<ResultId>,
    /// `workflow:node` of the latest result.
    pub(crate) node: Option<String>,
    /// Time of the last use: when it was made or was part of a run, in milliseconds since 1970.
    pub(crate) used_ms: i64,
}

impl Index {
    /// Every artifact in the index.
    pub(crate) fn inventory(&self) -> Result<Vec<StoredArtifact>, RecordsError> {
        let used = self.last_uses()?;
        let mut by_artifact: HashMap<i64, (Vec<ResultId>, i64, String)> = HashMap::new();
        let mut query = self.db.prepare(
            "SELECT trace.id, artifact, started_ms + trace.ms, node.name FROM trace JOIN node ON node.id = trace.node ORDER BY trace.id",
        )?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let (trace, made): (i64, i64) = (row.get(0)?, row.get(2)?);
            let found = by_artifact.entry(row.get(1)?).or_default();
            found.0.push(ResultId(trace));
            found.1 = found.1.max(made).max(used.get(&(trace as u64)).copied().unwrap_or(0));
            found.2 = row.get(3)?;
        }
        let mut query = self.db.prepare("SELECT rest, key, listing, id, bytes FROM artifact ORDER BY id")?;
        let read = |row: &rusqlite::Row<'_>| Ok((artifact_digest(row, 0)?, row.get::<_, i64>(3)?, row.get::<_, i64>(4)?));
        let all = query.query_map([], read)?.collect::<Result<Vec<_>, _>>()?;
        let stored = |(artifact, row, bytes): (Digest, i64, i64)| {
            let (results, used_ms, node) = by_artifact.remove(&row).unwrap_or_default();
            StoredArtifact { artifact, bytes: bytes as u64, node: (!results.is_empty()).then_some(node), results, used_ms }
        };
        Ok(all.into_iter().map(stored).collect())
    }

    /// Time at which each result was last part of a run.
    fn last_uses(&self) -> Result<HashMap<u64, i64>, RecordsError> {
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
            for (_, trace) in unpack_pairs(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?).unwrap_or_default() {
                let last = used.entry(trace).or_default();
                *last = time.max(*last);
            }
        }
        Ok(used)
    }

    /// Results that the last runs of each workflow ended with, in each project.
    pub(crate) fn members_of_last_runs(&self, count: usize) -> Result<HashSet<ResultId>, RecordsError> {
        let mut query = self.db.prepare(
            "SELECT DISTINCT source FROM (SELECT coalesce(same, id) AS source,
                row_number() OVER (PARTITION BY workflow, project ORDER BY id DESC) AS number FROM run) WHERE number <= ?",
        )?;
        let runs: Vec<i64> = query.query_map([count as i64], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let mut query = self.db.prepare("SELECT members FROM run WHERE id = ? AND members IS NOT NULL")?;
        let mut members = HashSet::new();
        for run in runs {
            let mut rows = query.query([run])?;
            while let Some(row) = rows.next()? {
                let pairs = unpack_pairs(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?).unwrap_or_default();
                members.extend(pairs.into_iter().map(|(_, result)| ResultId(result as i64)));
            }
        }
        Ok(members)
    }

    /// Artifacts that facts of results mention, with the latest such result and its `workflow:node`: the list of files that a source
    /// read is kept as an artifact of its own.
    pub(crate) fn mentioned(&self) -> Result<HashMap<Digest, (ResultId, String)>, RecordsError> {
        let mut query = self.db.prepare(
            "SELECT trace.id, facts, node.name FROM trace JOIN node ON node.id = trace.node
             WHERE facts LIKE '%\"trees\"%' ORDER BY trace.id",
        )?;
        let mut rows = query.query([])?;
        let mut found = HashMap::new();
        while let Some(row) = rows.next()? {
            let facts: serde_json::Value =
                serde_json::from_str(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?).unwrap_or_default();
            let trees = facts.get("trees").and_then(serde_json::Value::as_object).into_iter().flatten();
            for digest in trees.filter_map(|(_, digest)| digest.as_str().and_then(Digest::parse)) {
                found.insert(digest, (ResultId(row.get(0)?), row.get(2)?));
            }
        }
        Ok(found)
    }

    /// Forgets results of artifacts that are gone, as far as no explanation of a node needs them, and what is known of the nodes of
    /// runs before the last `keep` of each workflow in each project; those runs stay in the list.
    pub(crate) fn forget_gone(&mut self, gone: &[Digest], keep: usize) -> Result<(), RecordsError> {
        let numbered = "SELECT id, same, row_number() OVER (PARTITION BY workflow, project ORDER BY id DESC) AS number FROM run";
        let old = format!(
            "WITH numbered AS ({numbered}) SELECT id FROM run WHERE (steps IS NOT NULL OR members IS NOT NULL OR same IS NOT NULL)
             AND id IN (SELECT id FROM numbered WHERE number > ?1)
             AND id NOT IN (SELECT same FROM numbered WHERE same IS NOT NULL AND number <= ?1)"
        );
        self.writing(|writer| {
            if !gone.is_empty() {
                writer.put(&Entry::Collected(gone.to_vec()))?;
            }
            let old: Vec<i64> = writer.db.prepare(&old)?.query_map([keep as i64], |row| row.get(0))?.collect::<Result<_, _>>()?;
            if old.is_empty() { Ok(()) } else { writer.put(&Entry::Shortened(old)) }
        })
    }

    /// Gives the room of forgotten rows and entries back to the file system, when that is worth it.
    pub(crate) fn compact(&mut self) -> Result<(), RecordsError> {
        if self.log.as_ref().map_or(Ok(0), Log::len)? > COMPACTED {
            self.rewrite_log()?;
        }
        let number = |pragma: &str| self.db.query_row(pragma, [], |row| row.get::<_, i64>(0));
        if number("PRAGMA freelist_count")? * 4 > number("PRAGMA page_count")? {
            let _ = self.db.execute_batch("VACUUM"); // another process may be reading: next time
        }
        let _ = self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())); // likewise
        Ok(())
    }
}

/// Bytes of a record log from which it is worth writing it anew without what was forgotten.
const COMPACTED: u64 = 1 << 20;
