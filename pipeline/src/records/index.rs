//! The index: an `SQLite` database made from the record log, for lookups.
//!
//! Every change is made in one transaction, which holds the write lock of the database: it first takes over what other processes
//! appended to the log, then applies its own entries, appends them to the log and commits. So the index never knows more than the
//! log, and a kill between the two costs nothing: the next transaction takes over the rest.
//!
//! A result is *durable* once the bytes of its artifact are known to be on disk. Until then it carries the boot it was written
//! in: as long as that boot lasts, the kernel holds the bytes and the result is good. After a power failure it is doubtful, and the
//! next process that opens the store checks the artifact by digest. So a commit need not wait for the disk.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};

use super::entry::{Entry, Latest, ResultEntry};
use super::log::Log;
use super::pack::{Names, unpack_listing, unpack_manifest};
use super::rows::{artifact_digest, halves, key_of, read_artifact, recipe_key, word};
use super::writer::Writer;
use super::{ArtifactFiles, Doubtful, Hit, Provenance, RecordsError, ResultId, ResultRecord};
use crate::Digest;
use crate::host::boot;
use crate::manifest::PARTITION;

/// The index of a store, with its record log.
pub(crate) struct Index {
    pub(super) db: Connection,
    /// Name and flags by which `db` was opened.
    opened: (PathBuf, OpenFlags),
    /// Path for a copy of the index, in a view that may only read `db`: made before the first change.
    pub(super) copy: Option<PathBuf>,
    /// None in a view.
    pub(super) log: Option<Log>,
    pub(super) log_path: PathBuf,
    /// Boot of this machine, as results name it that are not durable yet.
    boot: String,
    pub(super) words: HashMap<String, u64>,
    pub(super) rows: HashMap<Digest, u64>,
    pub(super) recipes: HashMap<Digest, u64>,
    /// The nodes of the run in progress, with their results.
    pub(super) members: BTreeMap<u64, u64>,
    /// Repairs since the last call of [`Index::take_notices`], one sentence each.
    pub(super) notices: Vec<String>,
}

impl Index {
    /// Opens an index that exists, of any format.
    pub(super) fn connect(path: &Path, flags: OpenFlags) -> Result<Self, RecordsError> {
        let db = Connection::open_with_flags(path, flags)?;
        db.busy_timeout(std::time::Duration::from_secs(60))?;
        // Without this guarantee SQLite prepares a statement again for each value bound to it, which costs more than the answer.
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        if !flags.contains(OpenFlags::SQLITE_OPEN_READ_ONLY) {
            db.pragma_update(None, "journal_mode", "WAL")?;
            db.pragma_update(None, "synchronous", "NORMAL")?;
            // Folding the log into the database costs several fsyncs; SQLite does it when the log has grown, not at every exit.
            db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        }
        db.set_prepared_statement_cache_capacity(64);
        let (words, rows, recipes) = (HashMap::new(), HashMap::new(), HashMap::new());
        let log_path = path.with_file_name(super::LOG);
        let (boot, members, opened) = (boot(), BTreeMap::new(), (path.to_owned(), flags));
        Ok(Self { db, opened, copy: None, log: None, log_path, boot, words, rows, recipes, members, notices: vec![] })
    }

    /// Opens the index once more, as of this moment: it does not change, and answers without the cost of a lock each time.
    pub(crate) fn snapshot(&self) -> Result<Self, RecordsError> {
        let (path, flags) = &self.opened;
        let index = Self::connect(path, *flags)?;
        index.db.execute_batch("BEGIN")?;
        Ok(index)
    }

    /// Repairs that were made since the last call.
    pub(crate) fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    /// Puts repairs of an earlier index of the same store before those of this one.
    pub(crate) fn add_notices(&mut self, before: Vec<String>) {
        self.notices.splice(..0, before);
    }

    /// Looks a fingerprint up.
    pub(crate) fn find(&self, fingerprint: Digest) -> Result<Option<Hit>, RecordsError> {
        let mut query = self.db.prepare_cached(
            "SELECT trace.id, artifact.rest, artifact.key, artifact.listing, artifact.stamp
             FROM trace JOIN artifact ON artifact.id = trace.artifact WHERE trace.key = ?1 AND trace.rest = ?2",
        )?;
        let (key, rest) = halves(fingerprint);
        let read = |row: &Row<'_>| {
            let (artifact, files) = read_artifact(row, 1)?;
            Ok(Hit { result: ResultId(row.get(0)?), artifact, files: ArtifactFiles { files, stamp: row.get(4)? } })
        };
        Ok(query.query_row(params![key, rest], read).optional()?)
    }

    /// All recipes that anything was ever made with.
    pub(crate) fn recipes(&self) -> Result<Recipes, RecordsError> {
        let mut query = self.db.prepare("SELECT recipe.key, partition FROM trace JOIN recipe ON recipe.id = trace.recipe")?;
        let found = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
        Ok(Recipes(found))
    }

    /// Number of the result of a fingerprint.
    pub(crate) fn result_of(&self, fingerprint: Digest) -> Result<Option<ResultId>, RecordsError> {
        let (key, rest) = halves(fingerprint);
        let mut query = self.db.prepare_cached("SELECT id FROM trace WHERE key = ? AND rest = ?")?;
        Ok(query.query_row(params![key, rest], |row| row.get(0).map(ResultId)).optional()?)
    }

    /// A result.
    pub(crate) fn result(&self, id: ResultId) -> Result<Option<ResultRecord>, RecordsError> {
        let mut query = self.db.prepare_cached(
            "SELECT artifact.rest, artifact.key, artifact.listing, trace.manifest, node.name, started_ms, trace.ms, host, threads, gpu, facts,
             recipe.manifest, partition FROM trace JOIN artifact ON artifact.id = trace.artifact JOIN node ON node.id = trace.node
             JOIN recipe ON recipe.id = trace.recipe WHERE trace.id = ?",
        )?;
        let read = |row: &Row<'_>| {
            let manifest: (Vec<u8>, Vec<u8>, Option<u32>) = (row.get(11)?, row.get(3)?, row.get(12)?);
            let provenance = Provenance {
                node: row.get(4)?,
                started_ms: row.get(5)?,
                secs: row.get::<_, i64>(6)? as f64 / 1e3,
                host: word(&self.db, row.get::<_, i64>(7)? as u64)?.unwrap_or_default(),
                threads: row.get::<_, i64>(8)? as usize,
                gpu: row.get(9)?,
                facts: row.get::<_, Option<String>>(10)?.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
            };
            Ok((artifact_digest(row, 0)?, manifest, provenance))
        };
        let Some((artifact, manifest, provenance)) = query.query_row([id.0], read).optional()? else { return Ok(None) };
        let (recipe, inputs, partition) = manifest;
        let unpack = |bytes: &[u8]| unpack_manifest(bytes, &mut Reader(&self.db));
        let Some((mut manifest, inputs)) = unpack(&recipe)?.zip(unpack(&inputs)?) else { return Ok(None) };
        manifest.0.extend(inputs.0);
        if let Some(partition) = partition {
            manifest.field(PARTITION, &partition.to_string());
        }
        Ok(Some(ResultRecord { manifest, artifact, provenance }))
    }

    /// Records a result. The first result of a fingerprint wins, so that two runs never mix results, unless `lost` says that its
    /// artifact is gone. The result is not durable yet. Returns the result that counts.
    pub(crate) fn commit(
        &mut self,
        result: &ResultRecord,
        files: &ArtifactFiles,
        lost: impl Fn(Digest) -> bool,
    ) -> Result<(ResultId, Digest), RecordsError> {
        let fingerprint = result.manifest.fingerprint();
        let (key, rest) = halves(fingerprint);
        let boot = self.boot.clone();
        let ms = (result.provenance.secs * 1e3).round() as i64;
        let provenance = Provenance { secs: ms as f64 / 1e3, ..result.provenance.clone() };
        self.writing(|writer| {
            if let Some((id, first)) = writer.first_of(key, rest)?.filter(|(_, first)| !lost(*first)) {
                let node = result.provenance.node.clone();
                writer.put(&Entry::Latest(vec![Latest { node, result: id, ms: Some(ms) }]))?;
                return Ok((ResultId(id), first));
            }
            let id = writer.next_id();
            writer.put(&Entry::Result(ResultEntry {
                id,
                fingerprint,
                artifact: result.artifact,
                manifest: Cow::Borrowed(&result.manifest),
                provenance: Cow::Borrowed(&provenance),
                files: files.files.as_slice().into(),
                stamp: files.stamp,
                boot: Some(boot.as_str().into()),
            }))?;
            Ok((ResultId(id), result.artifact))
        })
    }

    /// Notes that the artifacts of these results are on disk. Waits until that note, and all before it, is on disk too.
    pub(crate) fn mark_durable(&mut self, results: &[ResultId]) -> Result<(), RecordsError> {
        self.db.pragma_update(None, "synchronous", "FULL")?;
        let marked = self.writing(|writer| {
            writer.put(&Entry::Durable(results.iter().map(|result| result.0).collect()))?;
            writer.sync = true;
            Ok(())
        });
        self.db.pragma_update(None, "synchronous", "NORMAL")?;
        marked
    }

    /// Results that an earlier boot left without knowing that they are on disk.
    pub(crate) fn doubtful(&self) -> Result<Vec<Doubtful>, RecordsError> {
        let mut query = self.db.prepare(
            "SELECT trace.id, artifact.rest, artifact.key, artifact.listing FROM trace JOIN artifact ON artifact.id = trace.artifact
             WHERE boot IS NOT NULL AND boot IS NOT (SELECT id FROM word WHERE text = ?)",
        )?;
        let read = |row: &Row<'_>| Ok(Doubtful { result: ResultId(row.get(0)?), artifact: artifact_digest(row, 1)? });
        Ok(query.query_map([&self.boot], read)?.collect::<Result<_, _>>()?)
    }

    /// Forgets results whose artifacts a power failure took.
    pub(crate) fn forget(&mut self, results: &[ResultId]) -> Result<(), RecordsError> {
        self.writing(|writer| writer.put(&Entry::Lost(results.iter().map(|result| result.0).collect())))
    }

    /// Enters the files of an artifact that no result names, or a new stamp of one that is known. The log does not keep this: the
    /// files are hashed again instead.
    pub(crate) fn add_artifact(&mut self, digest: Digest, files: &ArtifactFiles) -> Result<(), RecordsError> {
        self.writing(|writer| {
            let row = writer.add_artifact(digest, &files.files, files.stamp)?;
            let mut update = writer.db.prepare_cached("UPDATE artifact SET stamp = ?1 WHERE id = ?2 AND stamp <> ?1")?;
            update.execute(params![files.stamp, row as i64])?;
            Ok(())
        })
    }

    /// Files of an artifact.
    pub(crate) fn files(&self, digest: Digest) -> Result<Option<ArtifactFiles>, RecordsError> {
        let mut query = self.db.prepare_cached("SELECT rest, key, listing, stamp FROM artifact WHERE key = ?")?;
        let mut rows = query.query([halves(digest).0])?;
        while let Some(row) = rows.next()? {
            if artifact_digest(row, 0)? == digest {
                let (listing, stamp) = (row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?, row.get(3)?);
                let collected = listing.is_empty() && row.get_ref(0)? != ValueRef::Null;
                let files = unpack_listing(listing).filter(|_| !collected);
                return Ok(files.map(|files| ArtifactFiles { files, stamp }));
            }
        }
        Ok(None)
    }

    /// Last result of a node, and the one before it.
    pub(crate) fn latest(&self, node: &str) -> Result<Option<(ResultId, Option<ResultId>)>, RecordsError> {
        let mut query = self.db.prepare_cached("SELECT now, before FROM node WHERE key = ? AND name = ?")?;
        let read = |row: &Row<'_>| Ok((row.get::<_, Option<i64>>(0)?.map(ResultId), row.get::<_, Option<i64>>(1)?.map(ResultId)));
        let found = query.query_row(params![key_of(node), node], read).optional()?;
        Ok(found.and_then(|(now, before)| Some((now?, before))))
    }

    /// Last result that a node made before another one.
    pub(crate) fn result_before(&self, node: &str, result: ResultId) -> Result<Option<ResultId>, RecordsError> {
        let mut query = self.db.prepare_cached(
            "SELECT max(id) FROM trace WHERE id < ? AND node = (SELECT id FROM node WHERE key = ? AND name = ?)",
        )?;
        Ok(query.query_row(params![result.0, key_of(node), node], |row| Ok(row.get::<_, Option<i64>>(0)?.map(ResultId)))?)
    }

    /// Run that made a result: the last one of its workflow that began before it did.
    pub(crate) fn run_of(&self, result: ResultId) -> Result<Option<i64>, RecordsError> {
        let mut query = self.db.prepare_cached(
            "SELECT max(run.id) FROM run, trace JOIN node ON node.id = trace.node WHERE trace.id = ?
             AND run.workflow = substr(node.name, 1, instr(node.name, ':') - 1) AND run.started_ms <= trace.started_ms
             AND (run.ended_ms IS NULL OR run.ended_ms >= trace.started_ms)",
        )?;
        Ok(query.query_row([result.0], |row| row.get(0))?)
    }

    /// Duration of each node of a workflow when it last ran, in seconds.
    pub(crate) fn durations(&self, workflow: &str) -> Result<HashMap<String, f64>, RecordsError> {
        let (low, high) = (format!("{workflow}:"), format!("{workflow};")); // `;` follows `:`
        let mut query = self.db.prepare("SELECT name, ms FROM node WHERE ms IS NOT NULL AND name >= ? AND name < ?")?;
        let durations = query.query_map([low, high], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as f64 / 1e3)))?;
        Ok(durations.collect::<Result<_, _>>()?)
    }

    /// Notes the results that nodes have now, all at once.
    pub(crate) fn note_reused(&mut self, nodes: &[(String, ResultId)]) -> Result<(), RecordsError> {
        let known = if nodes.len() < MANY { HashMap::new() } else { self.all_nodes()? };
        let is_known = |node: &str, result: ResultId| known.get(&key_of(node)).filter(|(_, now)| *now == Some(result.0));
        let mut changed = vec![];
        for (node, result) in nodes {
            if let Some((row, _)) = is_known(node, *result) {
                self.members.insert(*row, result.0 as u64);
            } else {
                changed.push((node, *result));
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        self.writing(|writer| {
            let mut moved = vec![];
            for (node, result) in changed {
                if !writer.has_latest(node, result)? {
                    moved.push(Latest { node: node.clone(), result: result.0, ms: None });
                }
            }
            if moved.is_empty() { Ok(()) } else { writer.put(&Entry::Latest(moved)) }
        })
    }

    /// Row and latest result of every node, by key. Two nodes with the same key would share the entry of one; then the other
    /// is told apart by its result.
    fn all_nodes(&self) -> Result<HashMap<i32, (u64, Option<i64>)>, RecordsError> {
        let mut query = self.db.prepare_cached("SELECT key, id, now FROM node")?;
        let nodes = query.query_map([], |row| Ok((row.get(0)?, (row.get::<_, i64>(1)? as u64, row.get(2)?))))?;
        Ok(nodes.collect::<Result<_, _>>()?)
    }

    /// Number that changes whenever a node of the workflow has another result than before.
    pub(crate) fn generation(&self, workflow: &str) -> Result<i64, RecordsError> {
        let mut query = self
            .db
            .prepare_cached("SELECT log.epoch + coalesce((SELECT generation FROM workflow WHERE name = ?), 0) FROM log")?;
        Ok(query.query_row([workflow], |row| row.get(0))?)
    }

    /// Writes in one transaction: takes over what others appended to the log, then makes the changes, then appends their entries.
    pub(super) fn writing<T>(
        &mut self,
        write: impl FnOnce(&mut Writer<'_>) -> Result<T, RecordsError>,
    ) -> Result<T, RecordsError> {
        if let Some(copy) = self.copy.take() {
            *self = self.copy_to(&copy)?;
        }
        let transaction = rusqlite::Transaction::new_unchecked(&self.db, rusqlite::TransactionBehavior::Immediate)?;
        let Self { words, rows, recipes, members, log, notices, log_path, .. } = self;
        let mut writer = Writer::new(&transaction, words, rows, recipes, members);
        let work = || {
            let length = match log {
                Some(log) => writer.catch_up(log, log_path, notices)?,
                None => writer.begin()?,
            };
            let written = write(&mut writer)?;
            match log {
                _ if writer.lines.is_empty() => {}
                Some(log) => {
                    log.append(&writer.lines, length)?;
                    writer.note_position(length + writer.lines.len() as u64)?;
                    if writer.sync {
                        log.sync()?;
                    }
                }
                None => writer.note_position(length)?,
            }
            Ok(written)
        };
        let result = work().and_then(|written| Ok(transaction.commit().map(|()| written)?));
        if result.is_err() {
            self.words.clear(); // numbers given out in vain
            self.rows.clear();
            self.recipes.clear();
        }
        result
    }
}

/// Looks up what numbers of packed manifests stand for.
struct Reader<'a>(&'a Connection);

impl Names for Reader<'_> {
    type Error = RecordsError;

    fn word(&mut self, number: u64) -> Result<Option<String>, RecordsError> {
        Ok(word(self.0, number)?)
    }

    fn artifact(&mut self, row: u64) -> Result<Option<Digest>, RecordsError> {
        let mut query = self.0.prepare_cached("SELECT rest, key, listing FROM artifact WHERE id = ?")?;
        Ok(query.query_row([row as i64], |row| artifact_digest(row, 0)).optional()?)
    }
}

/// Number of nodes from which one query for all is cheaper than one query for each.
const MANY: usize = 100;

/// All recipes that anything was ever made with.
pub(crate) struct Recipes(HashSet<(i64, Option<u32>)>);

impl Recipes {
    /// True if anything was made with this recipe, for this partition.
    pub(crate) fn contains(&self, recipe: Digest, partition: Option<u32>) -> bool {
        self.0.contains(&(recipe_key(recipe), partition))
    }
}
