//! The outcome of a scan.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use super::index::Index;
use super::tree::{Tree, TreeFile};
use crate::Digest;

/// Outcome of a scan. The digest is known at once; the list of the files is made when it is first asked for.
#[derive(Debug)]
pub struct Listing {
    root: PathBuf,
    index: Index,
    tree: OnceLock<Arc<Tree>>,
}

impl Listing {
    pub(super) fn new(root: PathBuf, index: Index) -> Self {
        Self { root, index, tree: OnceLock::new() }
    }

    /// The digest of all names and contents, as [`Tree::digest`] gives it.
    pub fn digest(&self) -> Digest {
        self.index.digest()
    }

    /// How many files there are.
    pub fn num_files(&self) -> usize {
        self.index.num_files()
    }

    /// The files.
    pub fn tree(&self) -> Arc<Tree> {
        let tree = self.tree.get_or_init(|| {
            let mut files = Vec::with_capacity(self.num_files());
            self.index.each(|path, known| {
                files.push(TreeFile { path: path.to_owned(), size: known.stat.size, digest: known.digest });
            });
            Arc::new(Tree { root: self.root.clone(), files })
        });
        Arc::clone(tree)
    }

    /// Returns the first file that was written to, replaced, added or removed between this scan and a later one. This finds an
    /// edit that was taken back, too, which the content does not show.
    pub(crate) fn first_touched(&self, later: &Self) -> Option<PathBuf> {
        if self.index.is_same(&later.index) || self.index.versions() == later.index.versions() {
            return None;
        }
        let versions = |index: &Index| {
            let mut all = BTreeMap::new();
            index.each(|path, known| _ = all.insert(path.to_owned(), (known.stat, known.digest)));
            all
        };
        let (before, after) = (versions(&self.index), versions(&later.index));
        let touched = before.iter().find(|(path, version)| after.get(*path) != Some(version));
        let added = || after.iter().find(|(path, _)| !before.contains_key(*path));
        touched.or_else(added).map(|(path, _)| self.root.join(path))
    }

    /// Returns the first file whose content is not the same in another scan, if there is one.
    pub fn first_difference(&self, other: &Self) -> Option<PathBuf> {
        if self.digest() == other.digest() {
            return None;
        }
        let (before, after) = (self.tree(), other.tree());
        let changed = before.files.iter().find(|file| after.find(&file.path) != Some(file));
        let added = || after.files.iter().find(|file| before.find(&file.path).is_none());
        changed.or_else(added).map(|file| self.root.join(&file.path))
    }
}
