//! The files of a tree as a scan found them, in the form in which they are kept on disk.
//!
//! ```text
//! magic | digest of the tree | files | folders | root: length, text      (numbers: 8 bytes, little-endian)
//! table: per folder, and once more for the end: where its entries start, the number of its first subfolder
//! entries, folder by folder: length of the name (2 bytes), name; files: state (1), stat (40), BLAKE3 (32)
//! BLAKE3 of all that
//! ```
//!
//! Folders stand level by level, so that those of one folder are neighbours and need no numbers. Entries are sorted, and names
//! of folders end in `/`: so sorted, a walk meets all files in order of their paths.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::stat::Stat;
use super::tree::ListingHasher;
use crate::Digest;

/// First bytes of an index of any format.
const FAMILY: &[u8; 7] = b"surestt";
/// First bytes of an index; raised with its format.
const MAGIC: &[u8; 8] = b"surestt2";
/// Bytes of a row of the table.
const ROW: usize = 16;
/// Bytes of a known version.
const KNOWN: usize = 1 + Stat::LEN + 32;

/// The files of a tree as a scan found them.
pub(super) struct Index {
    /// All but the checksum at the end.
    bytes: Vec<u8>,
    table: usize,
    entries: usize,
    num_files: usize,
    num_folders: usize,
    digest: Digest,
}

/// Outcome of loading an index.
pub(super) enum Loaded {
    /// The index.
    Index(Index),
    /// There is one of another format.
    OtherFormat,
    /// There is none, it is damaged, or it is of another root.
    Nothing,
}

/// Known version of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    /// Stat of the file.
    pub(super) stat: Stat,
    /// Digest of its content.
    pub(super) digest: Digest,
    /// True if a later change could have the same stat.
    pub(super) racy: bool,
}

/// A file or subfolder.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    /// Name; `/` at the end of a folder's.
    pub(super) name: &'a str,
    /// Known version, when it is a file.
    pub(super) file: Option<Known>,
}

/// A folder and its entries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Folder<'a> {
    /// Entries as they are kept.
    pub(super) bytes: &'a [u8],
    /// The number of its first subfolder; the others follow.
    pub(super) first_child: usize,
}

impl Index {
    /// Joins the entries of all folders, level by level, each with the number of its subfolders.
    pub(super) fn build<B: AsRef<[u8]>>(root: &Path, folders: Vec<(B, usize)>) -> Self {
        let root = root.as_os_str().as_encoded_bytes();
        let num_folders = folders.len();
        let table = MAGIC.len() + 32 + 3 * 8 + root.len();
        let entries = table + (num_folders + 1) * ROW;
        let size: usize = folders.iter().map(|(bytes, _)| bytes.as_ref().len()).sum();
        let mut bytes = Vec::with_capacity(entries + size);
        bytes.extend(MAGIC);
        bytes.extend([0; 32 + 8]); // known once everything is in place
        bytes.extend((num_folders as u64).to_le_bytes());
        bytes.extend((root.len() as u64).to_le_bytes());
        bytes.extend(root);
        let (mut start, mut first_child) = (0, 1);
        for (folder, children) in folders.iter().map(|(bytes, children)| (bytes.as_ref().len(), *children)).chain([(0, 0)]) {
            bytes.extend((start as u64).to_le_bytes());
            bytes.extend((first_child as u64).to_le_bytes());
            start += folder;
            first_child += children;
        }
        for (folder, _) in folders {
            bytes.extend(folder.as_ref()); // and is dropped at once: this can be much
        }
        let mut index = Self { bytes, table, entries, num_files: 0, num_folders, digest: Digest([0; 32]) };
        let mut hasher = ListingHasher::default();
        let mut num_files = 0;
        index.each(|path, known| {
            hasher.add(path, known.stat.size, known.digest);
            num_files += 1;
        });
        (index.num_files, index.digest) = (num_files, hasher.finish());
        index.bytes[8..40].copy_from_slice(&index.digest.0);
        index.bytes[40..48].copy_from_slice(&(num_files as u64).to_le_bytes());
        index
    }

    /// Loads the index that a file contains for a root.
    pub(super) fn load(path: &Path, root: &Path) -> Loaded {
        let Ok(bytes) = fs::read(path) else { return Loaded::Nothing };
        let is_other = bytes.starts_with(FAMILY) && !bytes.starts_with(MAGIC);
        if is_other { Loaded::OtherFormat } else { Self::parse(bytes, root).map_or(Loaded::Nothing, Loaded::Index) }
    }

    /// Marks a file as racy, so that the next scan reads it. Returns false if the index does not have it.
    pub(super) fn distrust(&mut self, path: &str) -> bool {
        let mut number = 0;
        let mut rest = path;
        loop {
            let Some(folder) = self.folder(number) else { return false };
            let start = self.entries + self.row(number).map_or(0, |(start, _)| start);
            let (name, is_file) = rest.split_once('/').map_or((rest, true), |(name, _)| (name, false));
            let (mut at, mut child, mut found) = (start, folder.first_child, None);
            for entry in folder.entries() {
                let is_folder = entry.file.is_none();
                if is_folder != is_file && entry.name.trim_end_matches('/') == name {
                    found = Some((at + 2 + entry.name.len(), child));
                }
                child += usize::from(is_folder);
                at += 2 + entry.name.len() + if is_folder { 0 } else { KNOWN };
            }
            match found {
                Some((flag, _)) if is_file => {
                    self.bytes[flag] = 1;
                    return true;
                }
                Some((_, child)) => (number, rest) = (child, &rest[name.len() + 1..]),
                None => return false,
            }
        }
    }

    /// Row of the table: the offset of a folder's entries, and the number of its first subfolder.
    fn row(&self, number: usize) -> Option<(usize, usize)> {
        let mut row = self.bytes.get(self.table + number * ROW..self.entries)?;
        Some((u64::from_le_bytes(take(&mut row)?) as usize, u64::from_le_bytes(take(&mut row)?) as usize))
    }

    fn parse(mut bytes: Vec<u8>, root: &Path) -> Option<Self> {
        let body = bytes.len().checked_sub(32)?;
        if Digest::of(&bytes[..body]).0 != bytes[body..] {
            return None;
        }
        bytes.truncate(body);
        let mut rest = bytes.strip_prefix(MAGIC)?;
        let digest = Digest(take(&mut rest)?);
        let mut number = || take(&mut rest).and_then(|bytes| usize::try_from(u64::from_le_bytes(bytes)).ok());
        let (num_files, num_folders, root_len) = (number()?, number()?, number()?);
        if rest.get(..root_len)? != root.as_os_str().as_encoded_bytes() {
            return None;
        }
        let table = bytes.len() - rest.len() + root_len;
        let entries = num_folders.checked_add(1)?.checked_mul(ROW)?.checked_add(table)?;
        (entries <= bytes.len()).then_some(Self { bytes, table, entries, num_files, num_folders, digest })
    }

    /// Writes the index aside, then renames. It may be lost at any time, so nothing waits for the disk.
    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed); // threads may scan the same tree
        let aside = path.with_extension(format!("tmp{}-{number}", std::process::id()));
        let written = File::create(&aside).and_then(|mut file| {
            file.write_all(&self.bytes)?;
            file.write_all(&Digest::of(&self.bytes).0)
        });
        let done = written.and_then(|()| fs::rename(&aside, path));
        if done.is_err() {
            let _ = fs::remove_file(&aside); // a full disk should not keep half of it
        }
        done
    }

    /// See [`super::Tree::digest`].
    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    pub(super) fn num_files(&self) -> usize {
        self.num_files
    }

    pub(super) fn num_folders(&self) -> usize {
        self.num_folders
    }

    /// True if it would be written as the same bytes.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }

    /// A folder by its number; the root is number 0.
    pub(super) fn folder(&self, number: usize) -> Option<Folder<'_>> {
        let ((start, first_child), (end, _)) = (self.row(number)?, self.row(number + 1)?);
        Some(Folder { bytes: self.bytes[self.entries..].get(start..end)?, first_child })
    }

    /// Digest of the versions of all files: their names, stats and contents.
    pub(super) fn versions(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        let mut waiting = vec![]; // many short runs of bytes would be several times slower
        self.each(|path, known| {
            waiting.extend((path.len() as u64).to_le_bytes());
            waiting.extend(path.as_bytes());
            waiting.extend(known.stat.to_bytes());
            waiting.extend(known.digest.0);
            if waiting.len() > 64 * 1024 {
                hasher.update(&waiting);
                waiting.clear();
            }
        });
        Digest(*hasher.update(&waiting).finalize().as_bytes())
    }

    /// Visits every file in order of its path.
    pub(super) fn each(&self, mut visit: impl FnMut(&str, &Known)) {
        let mut path = String::new();
        let mut way: Vec<(Entries<'_>, usize, usize)> = vec![]; // of the folders we are in: what is left, next subfolder, path
        let enter = |number| self.folder(number).map(|folder| (folder.entries(), folder.first_child));
        way.extend(enter(0).map(|(entries, child)| (entries, child, 0)));
        while let Some((entries, next_child, length)) = way.last_mut() {
            path.truncate(*length);
            let Some(entry) = entries.next() else {
                way.pop();
                continue;
            };
            path.push_str(entry.name);
            if let Some(known) = &entry.file {
                visit(&path, known);
            } else {
                let child = *next_child;
                *next_child += 1;
                way.extend(enter(child).map(|(entries, child)| (entries, child, path.len())));
            }
        }
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Index({} files, {})", self.num_files, self.digest.short())
    }
}

impl<'a> Folder<'a> {
    /// Files and subfolders, sorted by name.
    pub(super) fn entries(&self) -> Entries<'a> {
        Entries { rest: self.bytes }
    }
}

/// The entries of a folder.
pub(super) struct Entries<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let length = usize::from(u16::from_le_bytes(take(&mut self.rest)?));
        let (name, rest) = self.rest.split_at_checked(length)?;
        let name = std::str::from_utf8(name).ok()?;
        self.rest = rest;
        let file = if name.ends_with('/') { None } else { Some(Known::from_bytes(&take(&mut self.rest)?)) };
        Some(Entry { name, file })
    }
}

impl Entry<'_> {
    /// Adds the entry to those of its folder.
    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend((self.name.len() as u16).to_le_bytes()); // file systems allow 255 bytes
        bytes.extend(self.name.as_bytes());
        if let Some(known) = &self.file {
            bytes.extend(known.to_bytes());
        }
    }

    /// Reads the file at an offset among the entries of its folder.
    pub(super) fn at(bytes: &[u8], offset: usize) -> Option<Entry<'_>> {
        Entries { rest: bytes.get(offset..)? }.next()
    }

    /// Replaces the known version of the file at an offset.
    pub(super) fn replace(bytes: &mut [u8], offset: usize, known: &Known) {
        let name = usize::from(u16::from_le_bytes([bytes[offset], bytes[offset + 1]]));
        let start = offset + 2 + name;
        bytes[start..start + KNOWN].copy_from_slice(&known.to_bytes());
    }
}

impl Known {
    fn to_bytes(self) -> [u8; KNOWN] {
        let mut bytes = [0; KNOWN];
        bytes[0] = u8::from(self.racy);
        bytes[1..=Stat::LEN].copy_from_slice(&self.stat.to_bytes());
        bytes[1 + Stat::LEN..].copy_from_slice(&self.digest.0);
        bytes
    }

    fn from_bytes(bytes: &[u8; KNOWN]) -> Self {
        let mut rest = &bytes[1..];
        let stat = take(&mut rest).expect("a record holds a stat");
        let digest = take(&mut rest).expect("a record holds a digest");
        Self { stat: Stat::from_bytes(&stat), digest: Digest(digest), racy: bytes[0] != 0 }
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}
