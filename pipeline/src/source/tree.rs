//! An outside tree as a stage sees it: every file with the hash of its content.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// The files of an outside tree, sorted by path, each with the hash of its content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// Folder on this machine.
    pub root: PathBuf,
    /// Files.
    pub files: Vec<TreeFile>,
}

/// A file of a [`Tree`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeFile {
    /// Relative to the root, `/` between its parts.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// BLAKE3 of its content.
    pub digest: Digest,
}

impl Tree {
    /// The file at a path relative to the root.
    pub fn find(&self, path: &str) -> Option<&TreeFile> {
        let at = self.files.binary_search_by(|file| file.path.as_str().cmp(path)).ok()?;
        Some(&self.files[at])
    }

    /// Digest of all names and contents, whatever the root.
    pub fn digest(&self) -> Digest {
        listing_digest(self.files.iter().map(|file| (file.path.as_str(), file.size, file.digest)))
    }
}

/// The Merkle digest of a folder: of its sorted names, sizes and content digests.
pub fn listing_digest<'a>(files: impl Iterator<Item = (&'a str, u64, Digest)>) -> Digest {
    let mut hasher = ListingHasher::default();
    for (path, size, digest) in files {
        hasher.add(path, size, digest);
    }
    hasher.finish()
}

/// Takes the files of a folder one by one, in order of their paths.
#[derive(Default)]
pub(super) struct ListingHasher {
    /// Hasher of a long listing; to begin one costs as much as to hash a short listing at once.
    hasher: Option<blake3::Hasher>,
    waiting: Vec<u8>,
}

impl ListingHasher {
    /// BLAKE3 is several times faster on long runs of bytes than on many short ones.
    const RUN: usize = 64 * 1024;

    pub(super) fn add(&mut self, path: &str, size: u64, digest: Digest) {
        self.waiting.reserve(path.len() + 48);
        self.waiting.extend((path.len() as u64).to_le_bytes());
        self.waiting.extend(path.as_bytes());
        self.waiting.extend(size.to_le_bytes());
        self.waiting.extend(digest.0);
        if self.waiting.len() >= Self::RUN {
            self.hasher.get_or_insert_default().update(&self.waiting);
            self.waiting.clear();
        }
    }

    pub(super) fn finish(self) -> Digest {
        match self.hasher {
            None => Digest::of(&self.waiting),
            Some(mut hasher) => Digest(*hasher.update(&self.waiting).finalize().as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_of_a_listing_is_that_of_its_bytes_however_long() {
        for count in [0, 1, 3, 2_000] {
            let file =
                |number: u64| TreeFile { path: format!("f{number:05}"), size: number, digest: Digest::of(&[number as u8]) };
            let tree = Tree { root: PathBuf::new(), files: (0..count).map(file).collect() };
            let bytes = |file: &TreeFile| {
                [&6_u64.to_le_bytes()[..], file.path.as_bytes(), &file.size.to_le_bytes(), &file.digest.0].concat()
            };
            let all: Vec<u8> = tree.files.iter().flat_map(bytes).collect();
            assert_eq!(tree.digest(), Digest::of(&all), "{count} files");
        }
    }
}
