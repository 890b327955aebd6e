//! Changes of the index: each is an entry of the record log, applied to the tables.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::entry::{EndEntry, Entry, ResultEntry, RunEntry};
use super::log::{Log, line};
use super::pack::{Numbers, pack_listing, pack_manifest, pack_pairs};
use super::rows::{HASHED_MOST, artifact_digest, halves, key_of, recipe_key};
use super::steps::pack_steps;
use super::{RecordsError, ResultId};
use crate::Digest;
use crate::manifest::Manifest;
use crate::source::TreeFile;

/// An open transaction, with the numbers of words, artifacts and recipes that this process remembers.
pub(super) struct Writer<'a> {
    pub(super) db: &'a Connection,
    words: &'a mut HashMap<String, u64>,
    rows: &'a mut HashMap<Digest, u64>,
    recipes: &'a mut HashMap<Digest, u64>,
    members: &'a mut BTreeMap<u64, u64>,
    /// Lines that this transaction adds to the log.
    pub(super) lines: Vec<u8>,
    /// True if the log must be on disk before the transaction ends.
    pub(super) sync: bool,
    /// Number of the last result.
    last: i64,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        db: &'a Connection,
        words: &'a mut HashMap<String, u64>,
        rows: &'a mut HashMap<Digest, u64>,
        recipes: &'a mut HashMap<Digest, u64>,
        members: &'a mut BTreeMap<u64, u64>,
    ) -> Self {
        Self { db, words, rows, recipes, members, lines: vec![], sync: false, last: 0 }
    }

    /// Reads how much of the log the index has, and the number of the last result.
    pub(super) fn begin(&mut self) -> Result<u64, RecordsError> {
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)? as u64, row.get(1)?));
        let (length, last) = self.db.prepare_cached("SELECT length, last FROM log")?.query_row([], read)?;
        self.last = last;
        Ok(length)
    }

    /// Takes over the entries that other processes appended. Returns the length of the log.
    pub(super) fn catch_up(&mut self, log: &mut Log, path: &Path, notices: &mut Vec<String>) -> Result<u64, RecordsError> {
        let read = |row: &rusqlite::Row<'_>| Ok((row.get_ref(0)?.as_str()? == log.id, row.get::<_, i64>(1)? as u64, row.get(2)?));
        let (is_same, mut known, last) = self.db.prepare_cached("SELECT id, length, last FROM log")?.query_row([], read)?;
        self.last = last;
        if !is_same {
            *log = Log::open(path)?; // another process wrote it anew
            let id: String = self.db.query_row("SELECT id FROM log", [], |row| row.get(0))?;
            if id != log.id {
                return Err(rusqlite::Error::SqliteFailure(
                    rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
                    Some("it belongs to another record log".to_owned()),
                )
                .into());
            }
            known = self.db.query_row("SELECT length FROM log", [], |row| row.get::<_, i64>(0))? as u64;
        }
        let length = log.len()?;
        if length <= known {
            return Ok(length);
        }
        let members = self.members.clone(); // those of this process's run, not of another's
        let report = log.read(known, |entry| self.apply(entry))?;
        *self.members = members;
        if report.torn > 0 {
            log.cut(report.end)?;
        }
        notices.extend(report.sentences());
        self.note_position(report.end)?;
        Ok(report.end)
    }

    pub(super) fn note_position(&mut self, length: u64) -> Result<(), RecordsError> {
        self.db.prepare_cached("UPDATE log SET length = ?, last = ?")?.execute([length as i64, self.last])?;
        Ok(())
    }

    /// Applies an entry and adds it to the log.
    pub(super) fn put(&mut self, entry: &Entry<'_>) -> Result<(), RecordsError> {
        self.apply(entry)?;
        self.add_line(entry);
        Ok(())
    }

    /// Adds an entry to the log whose changes are made otherwise.
    pub(super) fn add_line(&mut self, entry: &Entry<'_>) {
        self.lines.extend(line(entry));
    }

    /// Makes the changes that an entry stands for. Entries that were applied before change nothing.
    pub(super) fn apply(&mut self, entry: &Entry<'_>) -> Result<(), RecordsError> {
        match entry {
            Entry::Log(_) => Ok(()),
            Entry::Result(result) => self.result(result),
            Entry::Latest(nodes) => {
                nodes.iter().try_for_each(|latest| self.note_latest(&latest.node, ResultId(latest.result), latest.ms))
            }
            Entry::Durable(results) => {
                let mut update = self.db.prepare_cached("UPDATE trace SET boot = NULL WHERE id = ?")?;
                results.iter().try_for_each(|result| update.execute([result]).map(|_| ()))?;
                Ok(())
            }
            Entry::Lost(results) => {
                let mut delete = self.db.prepare_cached("DELETE FROM trace WHERE id = ?")?;
                results.iter().try_for_each(|result| delete.execute([result]).map(|_| ()))?;
                Ok(())
            }
            Entry::Collected(artifacts) => artifacts.iter().try_for_each(|artifact| self.forget_artifact(*artifact)),
            Entry::Run(run) => self.begin_run(run),
            Entry::Ended(end) => self.end_run(end),
            Entry::Shortened(runs) => {
                let shorten = "UPDATE run SET steps = NULL, members = NULL, same = NULL WHERE id = ?";
                let mut shorten = self.db.prepare_cached(shorten)?;
                runs.iter().try_for_each(|run| shorten.execute([run]).map(|_| ()))?;
                Ok(())
            }
        }
    }

    /// Number for the next result; never given out before, not even to one that is forgotten.
    pub(super) fn next_id(&self) -> i64 {
        self.last + 1
    }

    fn result(&mut self, entry: &ResultEntry<'_>) -> Result<(), RecordsError> {
        let (key, rest) = halves(entry.fingerprint);
        let (recipe, partition, inputs) = entry.manifest.split();
        let artifact = self.add_artifact(entry.artifact, &entry.files, entry.stamp)?;
        self.db.prepare_cached("DELETE FROM trace WHERE key = ? AND rest = ?")?.execute(params![key, rest])?;
        let (recipe, manifest) = (self.recipe(&recipe)?, pack_manifest(&inputs, self)?);
        let provenance = &entry.provenance;
        let boot = entry.boot.as_ref().map(|boot| self.word(boot)).transpose()?.map(|word| word as i64);
        let host = self.word(&provenance.host)?;
        let facts =
            (!provenance.facts.is_empty()).then(|| serde_json::to_string(&provenance.facts).expect("a map of plain data"));
        let node = self.node(&provenance.node)?;
        let ms = (provenance.secs * 1e3).round() as i64;
        self.db
            .prepare_cached(
                "INSERT OR REPLACE INTO trace(id, key, rest, recipe, partition, artifact, node, boot, started_ms, ms, host, threads,
                 gpu, facts, manifest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                entry.id,
                key,
                rest,
                recipe as i64,
                partition,
                artifact as i64,
                node as i64,
                boot,
                provenance.started_ms,
                ms,
                host as i64,
                provenance.threads as i64,
                provenance.gpu,
                facts,
                manifest,
            ])?;
        self.last = entry.id.max(self.last);
        self.note_latest(&provenance.node, ResultId(entry.id), Some(ms))
    }

    /// Result of a fingerprint, with its artifact.
    pub(super) fn first_of(&self, key: i32, rest: i64) -> Result<Option<(i64, Digest)>, RecordsError> {
        let mut query = self.db.prepare_cached(
            "SELECT trace.id, artifact.rest, artifact.key, artifact.listing FROM trace JOIN artifact ON artifact.id = trace.artifact
             WHERE trace.key = ?1 AND trace.rest = ?2",
        )?;
        Ok(query.query_row(params![key, rest], |row| Ok((row.get(0)?, artifact_digest(row, 1)?))).optional()?)
    }

    pub(super) fn add_artifact(&mut self, digest: Digest, files: &[TreeFile], stamp: u32) -> Result<u64, RecordsError> {
        let row = self.artifact(digest)?;
        let bytes: u64 = files.iter().map(|file| file.size).sum();
        let listing = pack_listing(files);
        if let Some(row) = row {
            let back =
                "UPDATE artifact SET bytes = ?, stamp = ?, listing = ? WHERE id = ? AND rest IS NOT NULL AND listing = x''";
            self.db.prepare_cached(back)?.execute(params![bytes as i64, stamp, listing, row as i64])?;
            return Ok(row);
        }
        let rest = (listing.len() > HASHED_MOST).then(|| &digest.0[4..]);
        self.db
            .prepare_cached("INSERT INTO artifact(key, rest, bytes, stamp, listing) VALUES (?, ?, ?, ?, ?)")?
            .execute(params![halves(digest).0, rest, bytes as i64, stamp, listing])?;
        let row = self.db.last_insert_rowid() as u64;
        self.rows.insert(digest, row);
        Ok(row)
    }

    /// Forgets the results of an artifact that is gone, as far as no explanation of a node needs them, and the artifact's files.
    fn forget_artifact(&mut self, artifact: Digest) -> Result<(), RecordsError> {
        let Some(row) = self.artifact(artifact)?.map(|row| row as i64) else { return Ok(()) };
        self.db.execute(
            "DELETE FROM trace WHERE artifact = ?1 AND id NOT IN (SELECT now FROM node WHERE now IS NOT NULL)
             AND id NOT IN (SELECT before FROM node WHERE before IS NOT NULL)",
            [row],
        )?;
        // Manifests may name it by its row, so the digest stays.
        self.db
            .execute("UPDATE artifact SET rest = ?2, listing = x'', bytes = 0 WHERE id = ?1", params![row, &artifact.0[4..]])?;
        Ok(())
    }

    /// Row of a recipe.
    fn recipe(&mut self, recipe: &Manifest) -> Result<u64, RecordsError> {
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

    /// Row of a node.
    fn node(&mut self, name: &str) -> Result<u64, RecordsError> {
        let key = key_of(name);
        let mut query = self.db.prepare_cached("SELECT id FROM node WHERE key = ? AND name = ?")?;
        if let Some(id) = query.query_row(params![key, name], |row| row.get::<_, i64>(0)).optional()? {
            return Ok(id as u64);
        }
        self.db.prepare_cached("INSERT INTO node(key, name) VALUES (?, ?)")?.execute(params![key, name])?;
        Ok(self.db.last_insert_rowid() as u64)
    }

    /// True if a node has this result already; it is then a member of the run in progress.
    pub(super) fn has_latest(&mut self, node: &str, result: ResultId) -> Result<bool, RecordsError> {
        let row = self.node(node)?;
        let mut query = self.db.prepare_cached("SELECT 1 FROM node WHERE id = ? AND now = ?")?;
        let has = query.exists(params![row as i64, result.0])?;
        if has {
            self.members.insert(row, result.0 as u64);
        }
        Ok(has)
    }

    fn note_latest(&mut self, node: &str, result: ResultId, ms: Option<i64>) -> Result<(), RecordsError> {
        let row = self.node(node)?;
        self.members.insert(row, result.0 as u64);
        let mut update = self.db.prepare_cached(
            "UPDATE node SET before = CASE WHEN now IS ?2 THEN before ELSE now END, now = ?2, ms = coalesce(?3, ms)
             WHERE id = ?1 AND (now IS NOT ?2 OR ?3 IS NOT NULL)",
        )?;
        if update.execute(params![row as i64, result.0, ms])? > 0 {
            let workflow = node.split(':').next().unwrap_or_default();
            let mut bump = self.db.prepare_cached(
                "INSERT INTO workflow VALUES (?, 1) ON CONFLICT(name) DO UPDATE SET generation = generation + 1",
            )?;
            bump.execute([workflow])?;
        }
        Ok(())
    }

    fn begin_run(&mut self, entry: &RunEntry<'_>) -> Result<(), RecordsError> {
        let RunEntry { run, workflow, request, project, host, started_ms } = entry;
        self.db
            .prepare_cached(
                "INSERT OR IGNORE INTO run(id, workflow, request, project, host, started_ms) VALUES (?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![run, workflow, request, project, host, started_ms])?;
        Ok(())
    }

    /// Ends a run whose members are given by name.
    fn end_run(&mut self, entry: &EndEntry<'_>) -> Result<(), RecordsError> {
        let members = entry.members.as_ref().map(|members| {
            let pairs = members.iter().map(|(node, result)| Ok((self.node(node)?, *result as u64)));
            let mut pairs = pairs.collect::<Result<Vec<_>, RecordsError>>()?;
            pairs.sort_unstable();
            Ok::<_, RecordsError>(pack_pairs(&pairs))
        });
        self.store_end(entry, members.transpose()?)
    }

    /// Ends a run whose members are packed already.
    pub(super) fn store_end(&mut self, entry: &EndEntry<'_>, members: Option<Vec<u8>>) -> Result<(), RecordsError> {
        let EndEntry { run, ended_ms, outcome, same, steps, .. } = entry;
        let steps = (!steps.is_empty()).then(|| pack_steps(steps));
        self.db
            .prepare_cached("UPDATE run SET ended_ms = ?, outcome = ?, same = ?, members = ?, steps = ? WHERE id = ?")?
            .execute(params![ended_ms, outcome, same, members, steps, run])?;
        Ok(())
    }
}

impl Numbers for Writer<'_> {
    type Error = RecordsError;

    fn word(&mut self, text: &str) -> Result<u64, RecordsError> {
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

    fn artifact(&mut self, digest: Digest) -> Result<Option<u64>, RecordsError> {
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
