//! Columns of the index: keys made of digests, words, and digests of artifacts.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row};

use super::pack::unpack_listing;
use crate::Digest;
use crate::source::{TreeFile, listing_digest};

/// Text of a word.
pub(super) fn word(db: &Connection, number: u64) -> Result<Option<String>, rusqlite::Error> {
    let mut query = db.prepare_cached("SELECT text FROM word WHERE id = ?")?;
    query.query_row([number as i64], |row| row.get(0)).optional()
}

/// Longer listings are not hashed to learn the digest of their artifact; its row holds it.
pub(super) const HASHED_MOST: usize = 4096;

/// Digest of an artifact from its columns `rest`, `key` and `listing`, in this order.
pub(super) fn artifact_digest(row: &Row<'_>, first: usize) -> Result<Digest, rusqlite::Error> {
    if let Some(rest) = row.get::<_, Option<[u8; 28]>>(first)? {
        let mut digest = [0; 32];
        digest[..4].copy_from_slice(&row.get::<_, i32>(first + 1)?.to_be_bytes());
        digest[4..].copy_from_slice(&rest);
        return Ok(Digest(digest));
    }
    read_artifact(row, first).map(|(digest, _)| digest)
}

/// Digest and files of an artifact. A damaged listing gives a digest that no artifact has.
pub(super) fn read_artifact(row: &Row<'_>, first: usize) -> Result<(Digest, Vec<TreeFile>), rusqlite::Error> {
    let files = unpack_listing(row.get_ref(first + 2)?.as_blob()?).unwrap_or_default();
    let digest = if row.get_ref(first)? == ValueRef::Null {
        listing_digest(files.iter().map(|file| (file.path.as_str(), file.size, file.digest)))
    } else {
        artifact_digest(row, first)?
    };
    Ok((digest, files))
}

/// First 12 bytes of a digest as two numbers: enough to tell all fingerprints of a store apart, and a key of four bytes.
pub(super) fn halves(digest: Digest) -> (i32, i64) {
    let (first, rest) = digest.0.split_first_chunk::<4>().expect("digests have 32 bytes");
    let (second, _) = rest.split_first_chunk::<8>().expect("digests have 32 bytes");
    (i32::from_be_bytes(*first), i64::from_be_bytes(*second))
}

pub(super) fn key_of(name: &str) -> i32 {
    halves(Digest::of(name.as_bytes())).0
}

pub(super) fn recipe_key(recipe: Digest) -> i64 {
    let (first, _) = recipe.0.split_first_chunk::<8>().expect("digests have 32 bytes");
    i64::from_be_bytes(*first)
}
