//! What is known of earlier executions: traces, artifacts and runs, in one `SQLite` database.
//!
//! A trace is *settled* once the bytes of its artifact are known to be on disk. Until then it carries the boot it was written
//! in: as long as that boot lasts, the kernel holds the bytes and the trace is good; after a power failure it is a *doubt*, and
//! whoever opens the store next checks the artifact by digest. So a commit need not wait for the disk, and no trace is ever
//! trusted that names bytes which are not there. A database that is damaged is set aside and a new one begun: the cost is
//! running again, never a wrong answer.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Digest;
use crate::manifest::{Manifest, PARTITION};
use crate::source::{TreeFile, listing_digest};

mod inventory;
mod pack;
mod runs;
mod schema;

pub(crate) use inventory::Stored;
use pack::{Names, Numbers, pack_listing, pack_manifest, unpack_listing, unpack_manifest};
pub use runs::{Member, RunRow, Step};

/// An execution that ended well: this manifest gave this artifact.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// What the output depends on.
    pub manifest: Manifest,
    /// What came out.
    pub artifact: Digest,
    /// How it came about. Nothing here enters a fingerprint.
    pub record: Record,
}

/// The provenance of an artifact.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// `workflow:node`
    pub node: String,
    /// Start, in milliseconds since 1970.
    pub started_ms: i64,
    /// Duration; kept to the millisecond.
    pub secs: f64,
    /// Machine.
    pub host: String,
    /// Threads it was given.
    pub threads: usize,
    /// GPU it was given.
    pub gpu: Option<u32>,
    /// What the body reported about itself.
    pub facts: BTreeMap<String, Value>,
}

/// A trace in this store. Traces are numbered in the order in which they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct TraceId(pub i64);

/// What is known of an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    /// Its files.
    pub(crate) files: Vec<TreeFile>,
    /// See [`crate::store`]: what its files looked like from outside when it was last known to be sound.
    pub(crate) stamp: u32,
}

/// What a fingerprint gave.
pub(crate) struct Found {
    pub(crate) trace: TraceId,
    pub(crate) artifact: Digest,
    pub(crate) known: Known,
}

/// A trace whose artifact may not have reached the disk before the power failed.
pub(crate) struct Doubt {
    pub(crate) trace: TraceId,
    pub(crate) artifact: Digest,
}

/// The database.
pub(crate) struct Traces {
    db: Connection,
    /// The boot of this machine, as unsettled traces name it.
    boot: String,
    words: HashMap<String, u64>,
    rows: HashMap<Digest, u64>,
    recipes: HashMap<Digest, u64>,
    /// The nodes of the run that is going on, with their traces.
    members: BTreeMap<u64, u64>,
}

/// A database that cannot be used.
pub(crate) type DbError = rusqlite::Error;

impl Traces {
    /// Opens or begins the database. Returns the name under which a damaged or outdated one was set aside.
    pub(crate) fn open(path: &Path) -> Result<(Self, Option<PathBuf>), DbError> {
        match Self::try_open(path) {
            Err(error) if damaged(&error) => Self::begin_anew(path, error).map(|(new, aside)| (new, Some(aside))),
            opened => Ok((opened?, None)),
        }
    }

    /// Sets a damaged database aside and begins a new one. Fails with the error that told of the damage when that cannot be.
    fn begin_anew(path: &Path, error: DbError) -> Result<(Self, PathBuf), DbError> {
        let aside = (1..=u32::MAX).map(|n| path.with_extension(format!("damaged{n}"))).find(|aside| !aside.exists());
        let aside = aside.expect("some number is free");
        if std::fs::rename(path, &aside).is_err() {
            return Err(error);
        }
        for extra in ["db-wal", "db-shm"] {
            let _ = std::fs::remove_file(path.with_extension(extra)); // belonged to the damaged one
        }
        Ok((Self::try_open(path)?, aside))
    }

    /// Opens the database again after it turned out to be damaged: the one that another process began meanwhile, or a new one.
    pub(crate) fn reopen(path: &Path, error: DbError) -> Result<Self, DbError> {
        match Self::try_open(path) {
            Ok(found) if found.is_sound() => Ok(found),
            found => {
                drop(found);
                Self::begin_anew(path, error).map(|(new, _)| new)
            }
        }
    }

    fn is_sound(&self) -> bool {
        let answer = self.db.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
        answer.is_ok_and(|answer| answer == "ok")
    }

    fn try_open(path: &Path) -> Result<Self, DbError> {
        let db = Connection::open(path)?;
        db.busy_timeout(std::time::Duration::from_secs(60))?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "NORMAL")?;
        // Folding the log into the database costs several fsyncs; SQLite does it when the log has grown, not at every exit.
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        // Without this guarantee SQLite prepares a statement again for each value bound to it, which costs more than the answer.
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        db.set_prepared_statement_cache_capacity(64);
        schema::prepare(&db)?;
        let (words, rows, recipes) = (HashMap::new(), HashMap::new(), HashMap::new());
        Ok(Self { db, boot: boot(), words, rows, recipes, members: BTreeMap::new() })
    }

    /// Another view of the database, which does not change while it is open, and answers without the cost of a lock each time.
    pub(crate) fn snapshot(path: &Path) -> Result<Self, DbError> {
        let traces = Self::try_open(path)?;
        traces.db.execute_batch("BEGIN")?;
        Ok(traces)
    }

    /// What a fingerprint gave.
    pub(crate) fn find(&self, fingerprint: Digest) -> Result<Option<Found>, DbError> {
        let mut query = self.db.prepare_cached(
            "SELECT trace.id, artifact.rest, artifact.key, artifact.listing, artifact.stamp
             FROM trace JOIN artifact ON artifact.id = trace.artifact WHERE trace.key = ?1 AND trace.rest = ?2",
        )?;
        let (key, rest) = halves(fingerprint);
        let read = |row: &Row<'_>| {
            let (artifact, files) = read_artifact(row, 1)?;
            Ok(Found { trace: TraceId(row.get(0)?), artifact, known: Known { files, stamp: row.get(4)? } })
        };
        query.query_row(params![key, rest], read).optional()
    }

    /// All that anything was ever made with.
    pub(crate) fn recipes(&self) -> Result<Recipes, DbError> {
        let mut query = self.db.prepare("SELECT recipe.key, partition FROM trace JOIN recipe ON recipe.id = trace.recipe")?;
        let found = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
        Ok(Recipes(found))
    }

    pub(crate) fn trace_of(&self, fingerprint: Digest) -> Result<Option<TraceId>, DbError> {
        let (key, rest) = halves(fingerprint);
        let mut query = self.db.prepare_cached("SELECT id FROM trace WHERE key = ? AND rest = ?")?;
        query.query_row(params![key, rest], |row| row.get(0).map(TraceId)).optional()
    }

    pub(crate) fn trace(&self, id: TraceId) -> Result<Option<Trace>, DbError> {
        let mut query = self.db.prepare_cached(
            "SELECT artifact.rest, artifact.key, artifact.listing, trace.manifest, node.name, started_ms, trace.ms, host, threads, gpu, facts,
             recipe.manifest, partition FROM trace JOIN artifact ON artifact.id = trace.artifact JOIN node ON node.id = trace.node
             JOIN recipe ON recipe.id = trace.recipe WHERE trace.id = ?",
        )?;
        let read = |row: &Row<'_>| {
            let manifest: (Vec<u8>, Vec<u8>, Option<u32>) = (row.get(11)?, row.get(3)?, row.get(12)?);
            let record = Record {
                node: row.get(4)?,
                started_ms: row.get(5)?,
                secs: row.get::<_, i64>(6)? as f64 / 1e3,
                host: Reader(&self.db).word(row.get::<_, i64>(7)? as u64)?.unwrap_or_default(),
                threads: row.get::<_, i64>(8)? as usize,
                gpu: row.get(9)?,
                facts: row.get::<_, Option<String>>(10)?.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
            };
            Ok((artifact_digest(row, 0)?, manifest, record))
        };
        let Some((artifact, manifest, record)) = query.query_row([id.0], read).optional()? else { return Ok(None) };
        let (recipe, inputs, partition) = manifest;
        let unpack = |bytes: &[u8]| unpack_manifest(bytes, &mut Reader(&self.db));
        let Some((mut manifest, inputs)) = unpack(&recipe)?.zip(unpack(&inputs)?) else { return Ok(None) };
        manifest.0.extend(inputs.0);
        if let Some(partition) = partition {
            manifest.field(PARTITION, &partition.to_string());
        }
        Ok(Some(Trace { manifest, artifact, record }))
    }

    /// Records a trace together with its artifact. The first result of a fingerprint wins, so that two runs never mix results,
    /// unless `lost` says that its artifact is not there any more. The trace is not settled yet.
    pub(crate) fn commit(
        &mut self,
        trace: &Trace,
        known: &Known,
        lost: impl Fn(Digest) -> bool,
    ) -> Result<(TraceId, Digest), DbError> {
        let (key, rest) = halves(trace.manifest.fingerprint());
        let (recipe, partition, inputs) = trace.manifest.split();
        let boot = self.boot.clone();
        self.writing(|writer| {
            let artifact = writer.add_artifact(trace.artifact, known)?;
            if let Some((id, first)) = writer.first_of(key, rest)? {
                if !lost(first) {
                    writer.note_latest(&trace.record.node, TraceId(id), Some(trace.record.secs))?;
                    return Ok((TraceId(id), first));
                }
                writer.db.prepare_cached("DELETE FROM trace WHERE id = ?")?.execute([id])?;
            }
            let (recipe, manifest) = (writer.recipe(&recipe)?, pack_manifest(&inputs, writer)?);
            let (boot, host) = (writer.word(&boot)?, writer.word(&trace.record.host)?);
            let facts = (!trace.record.facts.is_empty())
                .then(|| serde_json::to_string(&trace.record.facts).expect("a map of plain data"));
            let node = writer.node(&trace.record.node)?;
            let record = &trace.record;
            writer
                .db
                .prepare_cached(
                    "INSERT INTO trace(key, rest, recipe, partition, artifact, node, boot, started_ms, ms, host, threads, gpu, facts,
                     manifest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                )?
                .execute(params![
                    key,
                    rest,
                    recipe as i64,
                    partition,
                    artifact as i64,
                    node as i64,
                    boot as i64,
                    record.started_ms,
                    (record.secs * 1e3).round() as i64,
                    host as i64,
                    record.threads as i64,
                    record.gpu,
                    facts,
                    manifest,
                ])?;
            let id = TraceId(writer.db.last_insert_rowid());
            writer.note_latest(&trace.record.node, id, Some(trace.record.secs))?;
            Ok((id, trace.artifact))
        })
    }

    /// Notes that the bytes of these traces are on disk. Waits until that note, and all before it, is on disk too.
    pub(crate) fn settle(&mut self, traces: &[TraceId]) -> Result<(), DbError> {
        self.db.pragma_update(None, "synchronous", "FULL")?;
        let settled = self.writing(|writer| {
            let mut update = writer.db.prepare_cached("UPDATE trace SET boot = NULL WHERE id = ?")?;
            traces.iter().try_for_each(|trace| update.execute([trace.0]).map(|_| ()))
        });
        self.db.pragma_update(None, "synchronous", "NORMAL")?;
        settled
    }

    /// The traces that an earlier boot left unsettled.
    pub(crate) fn doubts(&self) -> Result<Vec<Doubt>, DbError> {
        let mut query = self.db.prepare(
            "SELECT trace.id, artifact.rest, artifact.key, artifact.listing FROM trace JOIN artifact ON artifact.id = trace.artifact
             WHERE boot IS NOT NULL AND boot IS NOT (SELECT id FROM word WHERE text = ?)",
        )?;
        let read = |row: &Row<'_>| Ok(Doubt { trace: TraceId(row.get(0)?), artifact: artifact_digest(row, 1)? });
        query.query_map([&self.boot], read)?.collect()
    }

    pub(crate) fn forget(&mut self, trace: TraceId) -> Result<(), DbError> {
        self.writing(|writer| writer.db.execute("DELETE FROM trace WHERE id = ?", [trace.0]).map(|_| ()))
    }

    /// Enters an artifact that no trace names, or a new stamp of one that is known.
    pub(crate) fn add_artifact(&mut self, digest: Digest, known: &Known) -> Result<(), DbError> {
        self.writing(|writer| {
            let row = writer.add_artifact(digest, known)?;
            let mut update = writer.db.prepare_cached("UPDATE artifact SET stamp = ?1 WHERE id = ?2 AND stamp <> ?1")?;
            update.execute(params![known.stamp, row as i64]).map(|_| ())
        })
    }

    /// What is known of an artifact.
    pub(crate) fn known(&self, digest: Digest) -> Result<Option<Known>, DbError> {
        let mut query = self.db.prepare_cached("SELECT rest, key, listing, stamp FROM artifact WHERE key = ?")?;
        let mut rows = query.query([halves(digest).0])?;
        while let Some(row) = rows.next()? {
            if artifact_digest(row, 0)? == digest {
                let (listing, stamp) = (row.get_ref(2)?.as_blob()?, row.get(3)?);
                let collected = listing.is_empty() && row.get_ref(0)? != ValueRef::Null;
                let files = unpack_listing(listing).filter(|_| !collected);
                return Ok(files.map(|files| Known { files, stamp }));
            }
        }
        Ok(None)
    }

    /// The trace a node had last, and the one before it.
    pub(crate) fn latest(&self, node: &str) -> Result<Option<(TraceId, Option<TraceId>)>, DbError> {
        let mut query = self.db.prepare_cached("SELECT now, before FROM node WHERE key = ? AND name = ?")?;
        let read = |row: &Row<'_>| Ok((row.get::<_, Option<i64>>(0)?.map(TraceId), row.get::<_, Option<i64>>(1)?.map(TraceId)));
        let found = query.query_row(params![key_of(node), node], read).optional()?;
        Ok(found.and_then(|(now, before)| Some((now?, before))))
    }

    /// How long the nodes of a workflow took when they last ran.
    pub(crate) fn durations(&self, workflow: &str) -> Result<HashMap<String, f64>, DbError> {
        let (low, high) = (format!("{workflow}:"), format!("{workflow};")); // `;` follows `:`
        let mut query = self.db.prepare("SELECT name, ms FROM node WHERE ms IS NOT NULL AND name >= ? AND name < ?")?;
        query.query_map([low, high], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as f64 / 1e3)))?.collect()
    }

    /// Notes which traces nodes have now, all at once.
    pub(crate) fn note_reused(&mut self, nodes: &[(String, TraceId)]) -> Result<(), DbError> {
        let known = if nodes.len() < MANY { HashMap::new() } else { self.all_nodes()? };
        let is_known = |node: &str, trace: TraceId| known.get(&key_of(node)).filter(|(_, now)| *now == Some(trace.0));
        let mut changed = vec![];
        for (node, trace) in nodes {
            if let Some((row, _)) = is_known(node, *trace) {
                self.members.insert(*row, trace.0 as u64);
            } else {
                changed.push((node, *trace));
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        self.writing(|writer| changed.iter().try_for_each(|(node, trace)| writer.note_latest(node, *trace, None)))
    }

    /// Row and latest trace of every node, by key. Two nodes with the same key would share the entry of one; then the other
    /// is told apart by its trace.
    fn all_nodes(&self) -> Result<HashMap<i32, (u64, Option<i64>)>, DbError> {
        let mut query = self.db.prepare_cached("SELECT key, id, now FROM node")?;
        query.query_map([], |row| Ok((row.get(0)?, (row.get::<_, i64>(1)? as u64, row.get(2)?))))?.collect()
    }

    /// A number that changes whenever a node of the workflow has another trace than before.
    pub(crate) fn generation(&self, workflow: &str) -> Result<i64, DbError> {
        let mut query = self.db.prepare_cached("SELECT generation FROM workflow WHERE name = ?")?;
        Ok(query.query_row([workflow], |row| row.get(0)).optional()?.unwrap_or(0))
    }

    /// Writes in one transaction.
    fn writing<T>(&mut self, write: impl FnOnce(&mut Writer<'_>) -> Result<T, DbError>) -> Result<T, DbError> {
        let transaction = rusqlite::Transaction::new_unchecked(&self.db, rusqlite::TransactionBehavior::Immediate)?;
        let Self { words, rows, recipes, members, .. } = self;
        let mut writer = Writer { db: &transaction, words, rows, recipes, members };
        let result = write(&mut writer).and_then(|written| transaction.commit().map(|()| written));
        if result.is_err() {
            self.words.clear(); // numbers given out in vain
            self.rows.clear();
            self.recipes.clear();
        }
        result
    }
}

/// An open transaction, with what this process remembers of the numbers in it.
struct Writer<'a> {
    db: &'a Connection,
    words: &'a mut HashMap<String, u64>,
    rows: &'a mut HashMap<Digest, u64>,
    recipes: &'a mut HashMap<Digest, u64>,
    members: &'a mut BTreeMap<u64, u64>,
}

impl Writer<'_> {
    fn first_of(&self, key: i32, rest: i64) -> Result<Option<(i64, Digest)>, DbError> {
        let mut query = self.db.prepare_cached(
            "SELECT trace.id, artifact.rest, artifact.key, artifact.listing FROM trace JOIN artifact ON artifact.id = trace.artifact
             WHERE trace.key = ?1 AND trace.rest = ?2",
        )?;
        query.query_row(params![key, rest], |row| Ok((row.get(0)?, artifact_digest(row, 1)?))).optional()
    }

    fn add_artifact(&mut self, digest: Digest, known: &Known) -> Result<u64, DbError> {
        let row = self.artifact(digest)?;
        let bytes: u64 = known.files.iter().map(|file| file.size).sum();
        let listing = pack_listing(&known.files);
        if let Some(row) = row {
            let back =
                "UPDATE artifact SET bytes = ?, stamp = ?, listing = ? WHERE id = ? AND rest IS NOT NULL AND listing = x''";
            self.db.prepare_cached(back)?.execute(params![bytes as i64, known.stamp, listing, row as i64])?;
            return Ok(row);
        }
        let rest = (listing.len() > HASHED_MOST).then(|| &digest.0[4..]);
        self.db
            .prepare_cached("INSERT INTO artifact(key, rest, bytes, stamp, listing) VALUES (?, ?, ?, ?, ?)")?
            .execute(params![halves(digest).0, rest, bytes as i64, known.stamp, listing])?;
        let row = self.db.last_insert_rowid() as u64;
        self.rows.insert(digest, row);
        Ok(row)
    }

    /// The row of a recipe.
    fn recipe(&mut self, recipe: &Manifest) -> Result<u64, DbError> {
        let digest = recipe.fingerprint();
        if let Some(row) = self.recipes.get(&digest) {
            return Ok(*row);
        }
        let key = recipe_key(digest);
        let mut query = self.db.prepare_cached("SELECT id FROM recipe WHERE key = ?")?;
        let row = if let Some(row) = query.query_row([key], |row| row.get::<_, i64>(0)).optional()? {
            row
        } else {
            let manifest = pack_manifest(recipe, self)?;
            self.db.prepare_cached("INSERT INTO recipe(key, manifest) VALUES (?, ?)")?.execute(params![key, manifest])?;
            self.db.last_insert_rowid()
        };
        self.recipes.insert(digest, row as u64);
        Ok(row as u64)
    }

    /// The row of a node.
    fn node(&mut self, name: &str) -> Result<u64, DbError> {
        let key = key_of(name);
        let mut query = self.db.prepare_cached("SELECT id FROM node WHERE key = ? AND name = ?")?;
        if let Some(id) = query.query_row(params![key, name], |row| row.get::<_, i64>(0)).optional()? {
            return Ok(id as u64);
        }
        self.db.prepare_cached("INSERT INTO node(key, name) VALUES (?, ?)")?.execute(params![key, name])?;
        Ok(self.db.last_insert_rowid() as u64)
    }

    fn note_latest(&mut self, node: &str, trace: TraceId, secs: Option<f64>) -> Result<(), DbError> {
        let row = self.node(node)?;
        self.members.insert(row, trace.0 as u64);
        let mut update = self.db.prepare_cached(
            "UPDATE node SET before = CASE WHEN now IS ?2 THEN before ELSE now END, now = ?2, ms = coalesce(?3, ms)
             WHERE id = ?1 AND (now IS NOT ?2 OR ?3 IS NOT NULL)",
        )?;
        let ms = secs.map(|secs| (secs * 1e3).round() as i64);
        if update.execute(params![row as i64, trace.0, ms])? > 0 {
            let workflow = node.split(':').next().unwrap_or_default();
            let mut bump = self.db.prepare_cached(
                "INSERT INTO workflow VALUES (?, 1) ON CONFLICT(name) DO UPDATE SET generation = generation + 1",
            )?;
            bump.execute([workflow])?;
        }
        Ok(())
    }
}

impl Numbers for Writer<'_> {
    type Error = DbError;

    fn word(&mut self, text: &str) -> Result<u64, DbError> {
        if let Some(number) = self.words.get(text) {
            return Ok(*number);
        }
        let mut query = self.db.prepare_cached("SELECT id FROM word WHERE text = ?")?;
        let number = if let Some(number) = query.query_row([text], |row| row.get::<_, i64>(0)).optional()? {
            number
        } else {
            self.db.prepare_cached("INSERT INTO word(text) VALUES (?)")?.execute([text])?;
            self.db.last_insert_rowid()
        };
        self.words.insert(text.to_owned(), number as u64);
        Ok(number as u64)
    }

    fn artifact(&mut self, digest: Digest) -> Result<Option<u64>, DbError> {
        if let Some(row) = self.rows.get(&digest) {
            return Ok(Some(*row));
        }
        let mut query = self.db.prepare_cached("SELECT rest, key, listing, id FROM artifact WHERE key = ?")?;
        let mut rows = query.query([halves(digest).0])?;
        while let Some(row) = rows.next()? {
            if artifact_digest(row, 0)? == digest {
                let number = row.get::<_, i64>(3)? as u64;
                self.rows.insert(digest, number);
                return Ok(Some(number));
            }
        }
        Ok(None)
    }
}

/// Looks up what numbers stand for.
struct Reader<'a>(&'a Connection);

impl Names for Reader<'_> {
    type Error = DbError;

    fn word(&mut self, number: u64) -> Result<Option<String>, DbError> {
        let mut query = self.0.prepare_cached("SELECT text FROM word WHERE id = ?")?;
        query.query_row([number as i64], |row| row.get(0)).optional()
    }

    fn artifact(&mut self, row: u64) -> Result<Option<Digest>, DbError> {
        let mut query = self.0.prepare_cached("SELECT rest, key, listing FROM artifact WHERE id = ?")?;
        query.query_row([row as i64], |row| artifact_digest(row, 0)).optional()
    }
}

/// To look at all nodes at once is cheaper than to ask for so many one by one.
const MANY: usize = 100;

/// Longer listings are not hashed to learn the digest of their artifact; its row holds it.
const HASHED_MOST: usize = 4096;

/// The digest of an artifact from its columns `rest`, `key` and `listing`, which stand in this order.
fn artifact_digest(row: &Row<'_>, first: usize) -> Result<Digest, DbError> {
    if let Some(rest) = row.get::<_, Option<[u8; 28]>>(first)? {
        let mut digest = [0; 32];
        digest[..4].copy_from_slice(&row.get::<_, i32>(first + 1)?.to_be_bytes());
        digest[4..].copy_from_slice(&rest);
        return Ok(Digest(digest));
    }
    read_artifact(row, first).map(|(digest, _)| digest)
}

/// The same with the artifact's files. A damaged listing gives a digest that no artifact has.
fn read_artifact(row: &Row<'_>, first: usize) -> Result<(Digest, Vec<TreeFile>), DbError> {
    let files = unpack_listing(row.get_ref(first + 2)?.as_blob()?).unwrap_or_default();
    let digest = if row.get_ref(first)? == ValueRef::Null {
        listing_digest(files.iter().map(|file| (file.path.as_str(), file.size, file.digest)))
    } else {
        artifact_digest(row, first)?
    };
    Ok((digest, files))
}

/// The first 12 bytes of a digest as two numbers: enough to tell all fingerprints of a store apart, and a key of four bytes.
fn halves(digest: Digest) -> (i32, i64) {
    let (first, rest) = digest.0.split_first_chunk::<4>().expect("digests have 32 bytes");
    let (second, _) = rest.split_first_chunk::<8>().expect("digests have 32 bytes");
    (i32::from_be_bytes(*first), i64::from_be_bytes(*second))
}

fn key_of(name: &str) -> i32 {
    halves(Digest::of(name.as_bytes())).0
}

fn recipe_key(recipe: Digest) -> i64 {
    let (first, _) = recipe.0.split_first_chunk::<8>().expect("digests have 32 bytes");
    i64::from_be_bytes(*first)
}

/// All that anything was ever made with.
pub(crate) struct Recipes(HashSet<(i64, Option<u32>)>);

impl Recipes {
    /// Whether anything was made with this recipe, for this partition.
    pub(crate) fn contains(&self, recipe: Digest, partition: Option<u32>) -> bool {
        self.0.contains(&(recipe_key(recipe), partition))
    }
}

/// A name for the time since this machine started, or for this process where the system does not tell.
fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map_or_else(|_| format!("process {}", std::process::id()), |id| id.trim().to_owned())
}

/// Whether an error means that the file is no sound database.
pub(crate) fn damaged(error: &DbError) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
}
