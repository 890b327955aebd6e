//! Clips of shards next to a page, for its audio players, with pictures of them.

mod picture;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use codec::recording;
use datasets::shard::RowInfo;
use datasets::table::embedded;
use pipeline::{Input, StageError};
use serde::Serialize;

/// Files of a clip in the folder `sounds`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ClipFiles {
    /// The clip itself.
    pub(crate) sound: String,
    /// Waveform and spectrogram; none of an empty clip.
    pub(crate) picture: Option<String>,
}

/// Folder of the clips, next to the page.
const FOLDER: &str = "sounds";

/// Copies the clips of some utterances out of shards, as `sounds/001.wav` and so on, and draws each as `sounds/001.png`. Returns the files of
/// each utterance; one that is in no shard has none.
///
/// Errors: a shard that cannot be read; a file that cannot be written.
pub(crate) fn copy(shards: &[Input], wanted: &BTreeSet<String>, out: &Path) -> Result<BTreeMap<String, ClipFiles>, StageError> {
    let mut files = BTreeMap::new();
    for shard in shards {
        let (rows, _) = RowInfo::read(&shard.path, |_| false).map_err(StageError::failed)?;
        let is_new = |(row, _): &(RowInfo, u64)| wanted.contains(&row.id) && !files.contains_key(&row.id);
        let (ids, rows): (Vec<String>, Vec<u64>) = rows.into_iter().zip(0..).filter(is_new).map(|(row, at)| (row.id, at)).unzip();
        if rows.is_empty() {
            continue;
        }
        let folder = out.join(FOLDER);
        fs::create_dir_all(&folder).map_err(StageError::io("create", &folder))?;
        for (id, bytes) in ids.into_iter().zip(embedded(&shard.path, &rows).map_err(StageError::failed)?) {
            let ending = if bytes.starts_with(b"fLaC") { "flac" } else { "wav" };
            let name = format!("{:03}", files.len() + 1);
            let write = |file: &str, bytes: &[u8]| {
                let path = folder.join(file);
                fs::write(&path, bytes).map_err(StageError::io("write", &path))
            };
            let sound = format!("{name}.{ending}");
            write(&sound, &bytes)?;
            let mut samples = Vec::new();
            // A clip that cannot be decoded has no picture; the page says nothing worse than that.
            let drawn = recording::samples(&bytes, &mut samples).ok().and_then(|rate| picture::picture(&samples, rate));
            let picture = drawn.is_some().then(|| format!("{name}.png"));
            if let Some((file, png)) = picture.as_ref().zip(drawn) {
                write(file, &png)?;
            }
            files.insert(id, ClipFiles { sound, picture });
        }
    }
    Ok(files)
}
