//! Trees of files outside the store: what a stage needs of them, and what is in them.
//!
//! A tree is scanned on every plan, but a file is read only when its record in the stat cache does not match: device, inode,
//! size, modification and change time. A file changed so shortly before it was hashed that the clock of the file system
//! could not tell a later change apart is hashed once more after that interval.

mod hash;

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::Digest;

pub(crate) use hash::hash_file;

/// A tree of outside files that a stage reads.
pub struct SourceNeed {
    /// Name of the place, for example `corpora.fsdd`; where it is on this machine is a matter of settings.
    pub place: String,
    /// Whether a file (path relative to the root, `/` between its parts) belongs to what is read. Hidden files never do.
    pub wants: Box<dyn Fn(&str) -> bool + Send + Sync>,
}

/// The files of an outside tree, sorted by path, each with the hash of its content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// Where it is on this machine.
    pub root: PathBuf,
    /// Its files.
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

    /// The digest of all names and contents; where the tree lies does not matter.
    pub fn digest(&self) -> Digest {
        listing_digest(self.files.iter().map(|file| (file.path.as_str(), file.size, file.digest)))
    }
}

/// The Merkle digest of a folder: of its sorted names, sizes and content digests.
pub(crate) fn listing_digest<'a>(files: impl Iterator<Item = (&'a str, u64, Digest)>) -> Digest {
    let mut hasher = blake3::Hasher::new();
    for (path, size, digest) in files {
        hasher.update(&(path.len() as u64).to_le_bytes());
        hasher.update(path.as_bytes());
        hasher.update(&size.to_le_bytes());
        hasher.update(&digest.0);
    }
    Digest(*hasher.finalize().as_bytes())
}

/// What identifies a version of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    device: u64,
    inode: u64,
    size: u64,
    modified: i128,
    changed: i128,
}

impl Stat {
    fn of(meta: &Metadata) -> Self {
        let nanos = |secs: i64, nanos: i64| i128::from(secs) * 1_000_000_000 + i128::from(nanos);
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.len(),
            modified: nanos(meta.mtime(), meta.mtime_nsec()),
            changed: nanos(meta.ctime(), meta.ctime_nsec()),
        }
    }
    /// Whether a later change could carry the same times: file systems tick every 1 to 10 ms.
    fn is_racy(&self, hashed: i128) -> bool {
        self.modified.max(self.changed) + RACY.as_nanos() as i128 >= hashed
    }
}

const RACY: Duration = Duration::from_millis(50);

/// Hashes by path, with the stats they belong to.
type Known = HashMap<String, (Stat, Digest)>;

/// How much a scan had to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScanCost {
    /// Files found.
    pub files: usize,
    /// Files that had to be read.
    pub read: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Lists a tree and hashes what the cache file does not know. `cache` is rewritten when anything changed.
///
/// # Errors
/// A folder that cannot be listed or a file that cannot be read, by name.
pub fn scan(root: &Path, wants: &(dyn Fn(&str) -> bool + Send + Sync), cache: &Path) -> Result<(Tree, ScanCost), ScanError> {
    let known = load(cache, root);
    let mut found = vec![];
    list(root, wants, &mut found)?;
    found.sort_by(|a, b| a.0.cmp(&b.0));

    let mut cost = ScanCost { files: found.len(), ..ScanCost::default() };
    let fresh = |(path, stat): &(String, Stat)| known.get(path).is_some_and(|(old, _)| old == stat);
    let unknown: Vec<&(String, Stat)> = found.iter().filter(|file| !fresh(file)).collect();
    let mut hashed = hash_all(root, &unknown)?;
    let again: Vec<&(String, Stat)> = unknown.iter().filter(|(path, _)| hashed[path].2).copied().collect();
    if !again.is_empty() {
        std::thread::sleep(RACY);
        hashed.extend(hash_all(root, &again)?);
    }
    cost.read = unknown.len();
    cost.bytes = hashed.values().map(|(stat, _, _)| stat.size).sum();

    let mut records = Vec::with_capacity(found.len());
    for (path, stat) in found {
        let (stat, digest) = match hashed.remove(&path) {
            Some((stat, digest, _)) => (stat, digest),
            None => (stat, known[&path].1),
        };
        records.push((path, stat, digest));
    }
    if cost.read > 0 || known.len() != records.len() {
        save(cache, root, &records).map_err(|source| ScanError::Cache { path: cache.to_owned(), source })?;
    }
    let files = records.into_iter().map(|(path, stat, digest)| TreeFile { path, size: stat.size, digest }).collect();
    Ok((Tree { root: root.to_owned(), files }, cost))
}

/// A tree that cannot be scanned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// The root is not there.
    #[error("no folder `{root}`")]
    Missing {
        /// The root.
        root: PathBuf,
    },
    /// A folder or file cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The folder or file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A name that is not Unicode cannot be written down.
    #[error("the name `{path}` is not valid Unicode")]
    Name {
        /// The file.
        path: PathBuf,
    },
    /// A file was written to while it was hashed, again and again.
    #[error("`{path}` changes while it is read")]
    Unsteady {
        /// The file.
        path: PathBuf,
    },
    /// The cache file cannot be written.
    #[error("cannot write the stat cache `{path}`")]
    Cache {
        /// The cache file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

fn list(root: &Path, wants: &(dyn Fn(&str) -> bool + Send + Sync), found: &mut Vec<(String, Stat)>) -> Result<(), ScanError> {
    if !root.is_dir() {
        return Err(ScanError::Missing { root: root.to_owned() });
    }
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let path = root.join(&folder);
        let read = |source| ScanError::Read { path: path.clone(), source };
        for entry in fs::read_dir(&path).map_err(read)? {
            let entry = entry.map_err(read)?;
            let name = entry.file_name().into_string().map_err(|_| ScanError::Name { path: entry.path() })?;
            if name.starts_with('.') {
                continue;
            }
            let relative = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            let kind = entry.file_type().map_err(read)?;
            if kind.is_dir() {
                folders.push(relative);
            } else if wants(&relative) {
                // Links are followed: what counts is the content behind them.
                match fs::metadata(entry.path()) {
                    Ok(meta) if meta.is_dir() => folders.push(relative),
                    Ok(meta) => found.push((relative, Stat::of(&meta))),
                    Err(source) => return Err(ScanError::Read { path: entry.path(), source }),
                }
            } else if kind.is_symlink() && fs::metadata(entry.path()).is_ok_and(|meta| meta.is_dir()) {
                folders.push(relative);
            }
        }
    }
    Ok(())
}

/// A hashed file, and whether it has to be hashed again because its clock is too coarse.
type Hashed = HashMap<String, (Stat, Digest, bool)>;

fn hash_all(root: &Path, files: &[&(String, Stat)]) -> Result<Hashed, ScanError> {
    files.par_iter().map(|(path, _)| Ok((path.clone(), hash_one(&root.join(path))?))).collect()
}

fn hash_one(path: &Path) -> Result<(Stat, Digest, bool), ScanError> {
    let read = |source| ScanError::Read { path: path.to_owned(), source };
    for _ in 0..3 {
        let now = clock();
        let file = File::open(path).map_err(read)?;
        let before = Stat::of(&file.metadata().map_err(read)?);
        let digest = hash_file(&file).map_err(read)?;
        if Stat::of(&fs::metadata(path).map_err(read)?) == before {
            return Ok((before, digest, before.is_racy(now)));
        }
    }
    Err(ScanError::Unsteady { path: path.to_owned() })
}

#[expect(clippy::disallowed_methods, reason = "compared with file times only; no output depends on it")]
fn clock() -> i128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i128)
}

/// First bytes of a cache file; raised with its format.
const MAGIC: &[u8; 8] = b"surestt1";

/// Writes the cache aside, then renames. It is only a cache: a torn or foreign one is ignored on reading.
fn save(cache: &Path, root: &Path, records: &[(String, Stat, Digest)]) -> io::Result<()> {
    let mut bytes = MAGIC.to_vec();
    put_text(&mut bytes, &root.to_string_lossy());
    for (path, stat, digest) in records {
        put_text(&mut bytes, path);
        for number in [stat.device, stat.inode, stat.size] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(stat.modified.to_le_bytes());
        bytes.extend(stat.changed.to_le_bytes());
        bytes.extend(digest.0);
    }
    let sum = Digest::of(&bytes);
    let aside = cache.with_extension(format!("tmp{}", std::process::id()));
    let mut file = File::create(&aside)?;
    file.write_all(&bytes)?;
    file.write_all(&sum.0)?;
    drop(file);
    fs::rename(aside, cache)
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn load(cache: &Path, root: &Path) -> Known {
    fs::read(cache).ok().and_then(|bytes| read_records(&bytes, root)).unwrap_or_default()
}

fn read_records(bytes: &[u8], root: &Path) -> Option<Known> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    if Digest::of(body).0 != sum {
        return None;
    }
    let mut rest = body.strip_prefix(MAGIC.as_slice())?;
    if take_text(&mut rest)? != root.to_string_lossy() {
        return None;
    }
    let mut known = Known::new();
    while !rest.is_empty() {
        let path = take_text(&mut rest)?;
        let mut number = || take::<8>(&mut rest).map(u64::from_le_bytes);
        let (device, inode, size) = (number()?, number()?, number()?);
        let mut time = || take::<16>(&mut rest).map(i128::from_le_bytes);
        let (modified, changed) = (time()?, time()?);
        let digest = Digest(take::<32>(&mut rest)?);
        known.insert(path, (Stat { device, inode, size, modified, changed }, digest));
    }
    Some(known)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn take_text(rest: &mut &[u8]) -> Option<String> {
    let length = u32::from_le_bytes(take::<4>(rest)?) as usize;
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    String::from_utf8(head.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder {
        dir: tempfile::TempDir,
    }

    impl Folder {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().unwrap() }
        }
        fn root(&self) -> PathBuf {
            self.dir.path().join("tree")
        }
        fn write(&self, path: &str, text: &str) {
            let path = self.root().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fn scan(&self) -> (Tree, ScanCost) {
            scan(&self.root(), &|path| !path.ends_with("skip"), &self.dir.path().join("cache")).unwrap()
        }
    }

    #[test]
    fn second_scan_reads_nothing_and_hidden_or_unwanted_files_never_count() {
        let folder = Folder::new();
        for path in ["a.txt", "b/c.txt", ".hidden", "b/.d", "x.skip"] {
            folder.write(path, path);
        }
        let (tree, cost) = folder.scan();
        assert_eq!(tree.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["a.txt", "b/c.txt"]);
        assert_eq!(cost.read, 2);
        let (again, cost) = folder.scan();
        assert_eq!((again, cost.read), (tree, 0));
    }

    #[test]
    fn same_size_edit_with_restored_time_is_seen() {
        let folder = Folder::new();
        folder.write("a", "one");
        let (before, _) = folder.scan();
        let path = folder.root().join("a");
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, "two").unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        let (after, cost) = folder.scan();
        assert_eq!(cost.read, 1);
        assert_ne!(before.digest(), after.digest());
    }

    #[test]
    fn damaged_cache_costs_time_and_nothing_else() {
        let folder = Folder::new();
        folder.write("a", "one");
        let (tree, _) = folder.scan();
        let cache = folder.dir.path().join("cache");
        let bytes = fs::read(&cache).unwrap();
        for length in 0..bytes.len() {
            fs::write(&cache, &bytes[..length]).unwrap();
            let (again, cost) = folder.scan();
            assert_eq!((again, cost.read), (tree.clone(), 1), "cut at {length}");
        }
    }

    #[test]
    fn a_missing_root_is_named() {
        let folder = Folder::new();
        let error = scan(&folder.root(), &|_| true, &folder.dir.path().join("cache")).unwrap_err();
        assert!(matches!(error, ScanError::Missing { root } if root == folder.root()));
    }
}
