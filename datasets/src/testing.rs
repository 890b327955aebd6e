//! Helpers for the tests of all readers.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::synthetic::{Miniature, write_mute};
use crate::{Annotation, Corpus, CorpusError, Listing, Utterance, find};

/// A mute miniature in a folder of its own.
pub(crate) struct Copy {
    folder: TempDir,
    corpus: &'static dyn Corpus,
}

impl Copy {
    pub(crate) fn of(corpus: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_mute(corpus, &folder.path().join("root"), Miniature::default()).unwrap();
        Self { folder, corpus: find(corpus).unwrap() }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub(crate) fn list(&self, protocol: &str) -> Result<Listing, CorpusError> {
        self.corpus.list(&self.root(), self.corpus.protocol(Some(protocol)).unwrap())
    }

    pub(crate) fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub(crate) fn remove(&self, path: &str) {
        let path = self.root().join(path);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
}

/// An utterance in a line.
pub(crate) fn shown(utterance: &Utterance) -> String {
    let Utterance { id, split, path, annotation: Annotation { label, speaker, transcript, .. }, .. } = utterance;
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    format!("{id} {split} {} {} {path} {}", text(label), text(speaker), text(transcript))
}

/// The utterance of an id in a line.
#[track_caller]
pub(crate) fn shown_id(listing: &Listing, id: &str) -> String {
    shown(listing.utterances.iter().find(|utterance| utterance.id == id).unwrap_or_else(|| panic!("no utterance `{id}`")))
}

/// Returns the entries that were left out, a line each.
pub(crate) fn reasons(listing: &Listing) -> Vec<String> {
    listing.skipped.iter().map(|skipped| format!("{}: {}", skipped.path, skipped.reason)).collect()
}

/// All files below a folder, relative to it, sorted.
pub(crate) fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}
