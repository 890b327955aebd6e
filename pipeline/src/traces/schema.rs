//! The tables, and what becomes of a database of another version.

use rusqlite::{Connection, ffi};

use super::DbError;

/// Raised whenever a table or the meaning of a column changes.
const VERSION: i32 = 3;

/// Rows are numbered in the order in which they come, and found by keys of four bytes, because both keep the tables small; what
/// else a row holds tells apart the few that share a key.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS word(id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);

    -- key: the first 4 bytes of the digest; rest: the others, unless hashing the listing gives the digest at no cost
    CREATE TABLE IF NOT EXISTS artifact(id INTEGER PRIMARY KEY, key INTEGER NOT NULL, rest BLOB, bytes INTEGER NOT NULL,
        stamp INTEGER NOT NULL, listing BLOB NOT NULL);
    CREATE INDEX IF NOT EXISTS artifact_key ON artifact(key);

    -- what the nodes of a stage share of their manifests: neither inputs nor partition; key: the first 8 bytes of its digest
    CREATE TABLE IF NOT EXISTS recipe(id INTEGER PRIMARY KEY, key INTEGER NOT NULL UNIQUE, manifest BLOB NOT NULL);

    -- key, rest: the first 12 bytes of the fingerprint; boot, host: words; manifest: the inputs
    CREATE TABLE IF NOT EXISTS trace(id INTEGER PRIMARY KEY, key INTEGER NOT NULL, rest INTEGER NOT NULL, recipe INTEGER NOT NULL,
        partition INTEGER, artifact INTEGER NOT NULL, node INTEGER NOT NULL, boot INTEGER, started_ms INTEGER NOT NULL,
        ms INTEGER NOT NULL, host INTEGER NOT NULL, threads INTEGER NOT NULL, gpu INTEGER, facts TEXT, manifest BLOB NOT NULL);
    CREATE INDEX IF NOT EXISTS trace_key ON trace(key);
    CREATE INDEX IF NOT EXISTS trace_unsettled ON trace(boot) WHERE boot IS NOT NULL;

    -- now, before: traces; ms: how long it took when it last ran
    CREATE TABLE IF NOT EXISTS node(id INTEGER PRIMARY KEY, key INTEGER NOT NULL, name TEXT NOT NULL, now INTEGER, before INTEGER,
        ms INTEGER);
    CREATE INDEX IF NOT EXISTS node_key ON node(key);
    CREATE TABLE IF NOT EXISTS workflow(name TEXT PRIMARY KEY, generation INTEGER NOT NULL) WITHOUT ROWID;

    -- members: pairs of node and trace, or `same` as those of an earlier run; steps: compressed
    CREATE TABLE IF NOT EXISTS run(id INTEGER PRIMARY KEY, workflow TEXT NOT NULL, request TEXT NOT NULL, host TEXT NOT NULL,
        started_ms INTEGER NOT NULL, ended_ms INTEGER, outcome TEXT, same INTEGER, members BLOB, steps BLOB);
";

/// Makes the tables of a new database. One of an older version counts as damaged: it is set aside, and what it knew runs again.
pub(super) fn prepare(db: &Connection) -> Result<(), DbError> {
    let version: i32 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == VERSION {
        return Ok(());
    }
    let is_new = !db.prepare("SELECT 1 FROM sqlite_master LIMIT 1")?.exists([])?;
    if version > VERSION || !is_new {
        let (code, text) = if version > VERSION {
            (
                ffi::SQLITE_MISMATCH,
                format!("it has format {version}, and this program knows {VERSION} and older: use a newer one"),
            )
        } else {
            (ffi::SQLITE_NOTADB, format!("it has format {version}, and this program writes {VERSION}"))
        };
        return Err(DbError::SqliteFailure(ffi::Error::new(code), Some(text)));
    }
    db.execute_batch(&format!("BEGIN IMMEDIATE; {TABLES} PRAGMA user_version = {VERSION}; COMMIT"))
}
