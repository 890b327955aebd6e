//! Clips of shards next to a page, for its audio players.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use datasets::shard::RowInfo;
use datasets::table::embedded;
use pipeline::{Input, StageError};

/// Copies the clips of some utterances out of shards, as `clip-001.wav` and so on. Returns the file of each utterance; one that is in no
/// shard has none.
///
/// Errors: a shard that cannot be read; a file that cannot be written.
pub(crate) fn copy(shards: &[Input], wanted: &BTreeSet<String>, out: &Path) -> Result<BTreeMap<String, String>, StageError> {
    let mut files = BTreeMap::new();
    for shard in shards {
        let (rows, _) = RowInfo::read(&shard.path, |_| false).map_err(StageError::failed)?;
        let is_new = |(row, _): &(RowInfo, u64)| wanted.contains(&row.id) && !files.contains_key(&row.id);
        let (ids, rows): (Vec<String>, Vec<u64>) = rows.into_iter().zip(0..).filter(is_new).map(|(row, at)| (row.id, at)).unzip();
        if rows.is_empty() {
            continue;
        }
        for (id, bytes) in ids.into_iter().zip(embedded(&shard.path, &rows).map_err(StageError::failed)?) {
            let ending = if bytes.starts_with(b"fLaC") { "flac" } else { "wav" };
            let name = format!("clip-{:03}.{ending}", files.len() + 1);
            let path = out.join(&name);
            fs::write(&path, &bytes).map_err(StageError::io("write", &path))?;
            files.insert(id, name);
        }
    }
    Ok(files)
}
