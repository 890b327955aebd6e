//! What a scan found.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use super::index::Index;
use super::tree::{Tree, TreeFile};
use crate::Digest;

/// What a scan found. Its digest is known at once; the list of its files is made when it is first asked for.
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

    /// The first file whose content is not the same in another scan, if there is one.
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
