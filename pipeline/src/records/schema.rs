//! Tables of the index.

use rusqlite::Connection;

/// Format of the index. Raised whenever a table or the meaning of a column changes.
pub(super) const VERSION: i32 = 4;

/// Rows are numbered in the order in which they come and found by keys of four bytes: both keep the tables small. Other columns tell
/// the few rows apart that share a key.
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
        started_ms INTEGER NOT NULL, ended_ms INTEGER, outcome TEXT, same INTEGER, members BLOB, steps BLOB, project TEXT);

    -- one row: the name of the record log, how much of it is in the index, the number of the last result
    CREATE TABLE IF NOT EXISTS log(id TEXT NOT NULL, length INTEGER NOT NULL, last INTEGER NOT NULL, epoch INTEGER NOT NULL);
";

/// Format of an index file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// No tables yet.
    Empty,
    /// The format that this program writes.
    Current,
    /// An older one.
    Older(i32),
    /// A newer one.
    Newer(i32),
}

/// Oldest format of an index whose results this program can read: the one before the record log.
pub(super) const OLDEST: i32 = 3;

/// Reads the format of an index.
pub(super) fn format(db: &Connection) -> Result<Format, rusqlite::Error> {
    let version: i32 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let is_empty = !db.prepare("SELECT 1 FROM sqlite_master LIMIT 1")?.exists([])?;
    Ok(match version {
        0 if is_empty => Format::Empty,
        VERSION => Format::Current,
        newer if newer > VERSION => Format::Newer(newer),
        older => Format::Older(older),
    })
}

/// Makes the tables of a new index of a log. `epoch` differs from that of any index before it.
pub(super) fn create(db: &Connection, log_id: &str, epoch: i64) -> Result<(), rusqlite::Error> {
    db.execute_batch(&format!("BEGIN IMMEDIATE; {TABLES} PRAGMA user_version = {VERSION}; COMMIT"))?;
    db.execute("INSERT INTO log(id, length, last, epoch) VALUES (?, 0, 0, ?)", rusqlite::params![log_id, epoch])?;
    Ok(())
}
