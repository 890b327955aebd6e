//! What is known of earlier executions: traces, artifacts and runs, in one `SQLite` database.
//!
//! A trace is committed only after its artifact lies in the store and is on disk, so no trace ever names bytes that are not
//! there. A database that is damaged is set aside and a new one begun: the cost is running again, never a wrong answer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Digest;
use crate::manifest::Manifest;

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
    /// Duration.
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

/// How a node ended in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// `workflow:node`
    pub node: String,
    /// `ran`, `reused`, `failed`, `stopped`, `blocked`
    pub state: String,
    /// Its fingerprint, when it was known.
    pub fingerprint: Option<Digest>,
    /// Duration.
    pub secs: f64,
    /// Its log file.
    pub log: Option<PathBuf>,
    /// The error.
    pub message: Option<String>,
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
    /// Start, in milliseconds since 1970.
    pub started_ms: i64,
    /// `done`, `failed`, `stopped`; none while it runs or when it was killed.
    pub outcome: Option<String>,
}

/// The database.
pub(crate) struct Traces {
    db: Connection,
}

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS artifact(digest BLOB PRIMARY KEY, bytes INTEGER NOT NULL, listing BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS trace(fingerprint BLOB PRIMARY KEY, recipe BLOB NOT NULL, artifact BLOB NOT NULL,
        manifest TEXT NOT NULL, record TEXT NOT NULL) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS trace_recipe ON trace(recipe);
    CREATE TABLE IF NOT EXISTS latest(node TEXT PRIMARY KEY, fingerprint BLOB NOT NULL, previous BLOB, secs REAL NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS run(id INTEGER PRIMARY KEY, workflow TEXT NOT NULL, request TEXT NOT NULL, started_ms INTEGER NOT NULL,
        outcome TEXT);
    CREATE TABLE IF NOT EXISTS step(run INTEGER NOT NULL, node TEXT NOT NULL, step TEXT NOT NULL, PRIMARY KEY(run, node)) WITHOUT ROWID;
";

impl Traces {
    /// Opens or begins the database. Returns the name under which a damaged one was set aside.
    pub(crate) fn open(path: &Path) -> Result<(Self, Option<PathBuf>), rusqlite::Error> {
        match Self::try_open(path) {
            Err(error) if damaged(&error) => Self::begin_anew(path, error).map(|(new, aside)| (new, Some(aside))),
            opened => Ok((opened?, None)),
        }
    }

    /// Sets a damaged database aside and begins a new one. Fails with the error that told of the damage when that cannot be.
    fn begin_anew(path: &Path, error: rusqlite::Error) -> Result<(Self, PathBuf), rusqlite::Error> {
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

    /// Chooses whether the next commits wait for the disk. Traces do; the record of runs may lose its end in a power failure.
    fn durable(&self, wait: bool) -> Result<(), rusqlite::Error> {
        self.db.pragma_update(None, "synchronous", if wait { "FULL" } else { "NORMAL" })
    }

    /// Opens the database again after it turned out to be damaged: the one that another process began meanwhile, or a new one.
    pub(crate) fn reopen(path: &Path, error: rusqlite::Error) -> Result<Self, rusqlite::Error> {
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

    fn try_open(path: &Path) -> Result<Self, rusqlite::Error> {
        let db = Connection::open(path)?;
        db.busy_timeout(std::time::Duration::from_secs(60))?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        // Folding the log into the database costs several fsyncs; SQLite does it when the log has grown, not at every exit.
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        db.execute_batch(SCHEMA)?;
        Ok(Self { db })
    }

    pub(crate) fn artifact_of(&self, fingerprint: Digest) -> Result<Option<Digest>, rusqlite::Error> {
        let mut query = self.db.prepare_cached("SELECT artifact FROM trace WHERE fingerprint = ?")?;
        query.query_row([fingerprint.0], |row| row.get(0)).optional().map(|found| found.map(Digest))
    }

    pub(crate) fn knows_recipe(&self, recipe: Digest) -> Result<bool, rusqlite::Error> {
        self.db.prepare_cached("SELECT 1 FROM trace WHERE recipe = ? LIMIT 1")?.exists([recipe.0])
    }

    pub(crate) fn trace(&self, fingerprint: Digest) -> Result<Option<Trace>, rusqlite::Error> {
        let mut query = self.db.prepare_cached("SELECT artifact, manifest, record FROM trace WHERE fingerprint = ?")?;
        let read = |row: &rusqlite::Row<'_>| {
            Ok(Trace {
                artifact: Digest(row.get(0)?),
                manifest: serde_json::from_str(&row.get::<_, String>(1)?).unwrap_or_default(),
                record: serde_json::from_str(&row.get::<_, String>(2)?).unwrap_or_default(),
            })
        };
        query.query_row([fingerprint.0], read).optional()
    }

    /// Records a trace. The first result of a fingerprint wins, so that two runs never mix results.
    pub(crate) fn commit(&mut self, trace: &Trace) -> Result<Digest, rusqlite::Error> {
        let fingerprint = trace.manifest.fingerprint();
        self.durable(true)?;
        let transaction = self.db.transaction()?;
        transaction.execute(
            "INSERT INTO trace VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            params![
                fingerprint.0,
                trace.manifest.recipe().0,
                trace.artifact.0,
                serde_json::to_string(&trace.manifest).expect("a map of text"),
                serde_json::to_string(&trace.record).expect("plain data"),
            ],
        )?;
        note_latest(&transaction, &trace.record.node, fingerprint, Some(trace.record.secs))?;
        let artifact =
            transaction.query_row("SELECT artifact FROM trace WHERE fingerprint = ?", [fingerprint.0], |row| row.get(0))?;
        transaction.commit()?;
        Ok(Digest(artifact))
    }

    pub(crate) fn forget(&self, fingerprint: Digest) -> Result<(), rusqlite::Error> {
        self.db.execute("DELETE FROM trace WHERE fingerprint = ?", [fingerprint.0]).map(|_| ())
    }

    /// Notes which fingerprints nodes have now, all at once.
    pub(crate) fn note_reused(&mut self, nodes: &[(String, Digest)]) -> Result<(), rusqlite::Error> {
        self.durable(false)?;
        let transaction = self.db.transaction()?;
        for (node, fingerprint) in nodes {
            note_latest(&transaction, node, *fingerprint, None)?;
        }
        transaction.commit()
    }

    /// The fingerprint a node had last, and the one before it.
    pub(crate) fn latest(&self, node: &str) -> Result<Option<(Digest, Option<Digest>)>, rusqlite::Error> {
        let mut query = self.db.prepare_cached("SELECT fingerprint, previous FROM latest WHERE node = ?")?;
        let read = |row: &rusqlite::Row<'_>| Ok((Digest(row.get(0)?), row.get::<_, Option<[u8; 32]>>(1)?.map(Digest)));
        query.query_row([node], read).optional()
    }

    /// How long the nodes of a workflow took when they last ran.
    pub(crate) fn durations(&self, workflow: &str) -> Result<BTreeMap<String, f64>, rusqlite::Error> {
        let (low, high) = (format!("{workflow}:"), format!("{workflow};")); // `;` follows `:`
        let mut query = self.db.prepare("SELECT node, secs FROM latest WHERE node >= ? AND node < ?")?;
        query.query_map([low, high], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    }

    pub(crate) fn add_artifact(&self, digest: Digest, bytes: u64, listing: &[u8]) -> Result<(), rusqlite::Error> {
        let mut insert = self.db.prepare_cached("INSERT INTO artifact VALUES (?, ?, ?) ON CONFLICT DO NOTHING")?;
        insert.execute(params![digest.0, bytes as i64, listing]).map(|_| ())
    }

    pub(crate) fn listing(&self, digest: Digest) -> Result<Option<Vec<u8>>, rusqlite::Error> {
        let mut query = self.db.prepare_cached("SELECT listing FROM artifact WHERE digest = ?")?;
        query.query_row([digest.0], |row| row.get(0)).optional()
    }

    pub(crate) fn begin_run(&self, workflow: &str, request: &str, started_ms: i64) -> Result<i64, rusqlite::Error> {
        self.durable(false)?;
        let row = params![workflow, request, started_ms];
        self.db.execute("INSERT INTO run(workflow, request, started_ms) VALUES (?, ?, ?)", row)?;
        Ok(self.db.last_insert_rowid())
    }

    pub(crate) fn end_run(&mut self, run: i64, outcome: &str, steps: &[Step]) -> Result<(), rusqlite::Error> {
        self.durable(false)?;
        let transaction = self.db.transaction()?;
        for step in steps {
            let text = serde_json::to_string(step).expect("plain data");
            transaction.execute("INSERT OR REPLACE INTO step VALUES (?, ?, ?)", params![run, step.node, text])?;
        }
        transaction.execute("UPDATE run SET outcome = ? WHERE id = ?", params![outcome, run])?;
        transaction.commit()
    }

    pub(crate) fn runs(&self, limit: usize) -> Result<Vec<RunRow>, rusqlite::Error> {
        let mut query = self.db.prepare("SELECT id, workflow, request, started_ms, outcome FROM run ORDER BY id DESC LIMIT ?")?;
        let read = |row: &rusqlite::Row<'_>| {
            Ok(RunRow {
                id: row.get(0)?,
                workflow: row.get(1)?,
                request: row.get(2)?,
                started_ms: row.get(3)?,
                outcome: row.get(4)?,
            })
        };
        query.query_map([limit as i64], read)?.collect()
    }

    pub(crate) fn steps(&self, run: i64) -> Result<Vec<Step>, rusqlite::Error> {
        let mut query = self.db.prepare("SELECT step FROM step WHERE run = ? ORDER BY node")?;
        let texts: Vec<String> = query.query_map([run], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(texts.iter().filter_map(|text| serde_json::from_str(text).ok()).collect())
    }
}

fn note_latest(db: &Connection, node: &str, fingerprint: Digest, secs: Option<f64>) -> Result<(), rusqlite::Error> {
    let mut statement = db.prepare_cached(
        "INSERT INTO latest VALUES (?1, ?2, NULL, coalesce(?3, 0)) ON CONFLICT(node) DO UPDATE SET
            previous = CASE WHEN fingerprint = ?2 THEN previous ELSE fingerprint END,
            fingerprint = ?2, secs = coalesce(?3, secs) WHERE fingerprint <> ?2 OR ?3 IS NOT NULL",
    )?;
    statement.execute(params![node, fingerprint.0, secs]).map(|_| ())
}

/// Whether an error means that the file is no sound database.
pub(crate) fn damaged(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
}
