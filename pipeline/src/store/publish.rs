//! Making an artifact of the folder that a stage has filled, and checking it later.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::disk::Disk;
use super::{StoreError, io_error};
use crate::Digest;
use crate::records::ArtifactFiles;
use crate::source::{TreeFile, hash_file, listing_digest};

/// A folder whose files are hashed and read-only.
pub(super) struct Sealed {
    pub(super) known: ArtifactFiles,
    /// Folders relative to the artifact, the outermost first; the first is the artifact itself.
    folders: Vec<String>,
}

/// Files up to this size are hashed when a result of a compute node is taken over.
pub(crate) const HASHED: u64 = 1 << 20;

/// One in so many of the larger files is hashed, too.
const SAMPLE: u64 = 100;

/// Checks what a compute node sealed: names and sizes of all files, and the content of all or of some. Returns a folder like one that
/// was sealed here.
pub(super) fn check_sealed(root: &Path, files: &[TreeFile], verify_all: bool) -> Result<Sealed, StoreError> {
    let (paths, folders) = list(root)?;
    let differs = |what: String| Err(StoreError::BadResult { folder: root.to_owned(), what });
    if let Some(missing) = files.iter().find(|file| paths.binary_search(&file.path).is_err()) {
        return differs(format!("`{}` is missing", missing.path));
    }
    if let Some(extra) = paths.iter().find(|path| files.binary_search_by(|file| file.path.cmp(path)).is_err()) {
        return differs(format!("`{extra}` was added"));
    }
    let salt = rustix::process::getpid().as_raw_nonzero().get().unsigned_abs();
    for file in files {
        let full = root.join(&file.path);
        let size = fs::symlink_metadata(&full).map_err(io_error("read", &full))?.len();
        if size != file.size {
            return differs(format!("`{}` has {size} bytes, not {}", file.path, file.size));
        }
        let (first, _) = file.digest.0.split_first_chunk::<8>().expect("digests have 32 bytes");
        let is_in_sample = (u64::from_le_bytes(*first) ^ u64::from(salt)).is_multiple_of(SAMPLE);
        if (verify_all || size <= HASHED || is_in_sample) && !is_sound(root, std::slice::from_ref(file)) {
            return differs(format!("`{}` has other content", file.path));
        }
    }
    let stamp = stamp(root, files).ok_or_else(|| StoreError::BadResult {
        folder: root.to_owned(),
        what: "a file vanished while it was taken over".to_owned(),
    })?;
    Ok(Sealed { known: ArtifactFiles { files: files.to_vec(), stamp }, folders })
}

/// Bytes from which the kernel begins to write a file as soon as it is complete.
const LARGE: u64 = 1 << 20;

/// Hashes and write-protects all files of a folder, and the folders in it. The folder itself has yet to be moved.
pub(super) fn seal(root: &Path, disk: &Disk) -> Result<Sealed, StoreError> {
    let (paths, folders) = list(root)?;
    let files = each(paths, |path| {
        let full = root.join(&path);
        let file = File::open(&full).map_err(io_error("read", &full))?;
        let digest = hash_file(&file).map_err(io_error("read", &full))?;
        let size = file.metadata().map_err(io_error("read", &full))?.len();
        disk.protect(&full, &file).map_err(io_error("protect", &full))?;
        begin_writing(&file, size);
        Ok(TreeFile { path, size, digest })
    });
    let files = files?;
    for folder in folders.iter().skip(1) {
        let full = root.join(folder);
        disk.protect_folder(&full).map_err(io_error("protect", &full))?;
    }
    let stamp = stamp(root, &files).ok_or_else(|| StoreError::Io {
        action: "read",
        path: root.to_owned(),
        source: io::Error::other("a file vanished while the artifact was published"),
    })?;
    Ok(Sealed { known: ArtifactFiles { files, stamp }, folders })
}

/// Hashes and write-protects what a stage left in a folder on a compute node. Returns its files.
pub(crate) fn seal_folder(root: &Path) -> Result<Vec<TreeFile>, StoreError> {
    seal(root, &Disk::default()).map(|sealed| sealed.known.files)
}

/// Hashes a file, or all files of a folder.
pub(crate) fn digest_of_path(path: &Path) -> Result<Digest, StoreError> {
    let hash = |path: &Path| File::open(path).and_then(|file| Ok((hash_file(&file)?, file.metadata()?.len())));
    if !path.is_dir() {
        return hash(path).map(|(digest, _)| digest).map_err(io_error("read", path));
    }
    let (paths, _) = list(path)?;
    let files = each(paths, |name| {
        let full = path.join(&name);
        let (digest, size) = hash(&full).map_err(io_error("read", &full))?;
        Ok(TreeFile { path: name, size, digest })
    });
    Ok(digest_of(&files?))
}

/// Lets the kernel begin to bring a large file to the disk, so that whoever waits for the disk in the end waits for less.
fn begin_writing(file: &File, size: u64) {
    if size >= LARGE {
        // What is written already may leave the cache, by this call's definition; what has just been made is not.
        let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed); // advice: nothing depends on it
    }
}

/// Lists the files, sorted, and the folders below a folder; all relative to it.
fn list(root: &Path) -> Result<(Vec<String>, Vec<String>), StoreError> {
    let mut paths = vec![];
    let mut folders = vec![String::new()];
    let mut next = 0;
    while let Some(folder) = folders.get(next).cloned() {
        next += 1;
        let path = root.join(&folder);
        for entry in fs::read_dir(&path).map_err(io_error("list", &path))? {
            let entry = entry.map_err(io_error("list", &path))?;
            let name = entry.file_name().into_string().map_err(|_| StoreError::NotPlain { path: entry.path() })?;
            let relative = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            let kind = entry.file_type().map_err(io_error("list", &path))?;
            if kind.is_dir() {
                folders.push(relative);
            } else if kind.is_file() {
                paths.push(relative);
            } else {
                return Err(StoreError::NotPlain { path: entry.path() });
            }
        }
    }
    paths.sort();
    Ok((paths, folders))
}

/// Number of files from which all cores are used.
const MANY: usize = 64;

/// Does the same to all, on all cores when there are many. For few it would take longer to wait until another node's work leaves a
/// core.
fn each<T: Send, R: Send, E: Send>(all: Vec<T>, act: impl Fn(T) -> Result<R, E> + Sync + Send) -> Result<Vec<R>, E> {
    if all.len() < MANY { all.into_iter().map(act).collect() } else { all.into_par_iter().map(act).collect() }
}

/// Lists the files and folders of an artifact in its place, the innermost first.
pub(super) fn insides(target: &Path, sealed: &Sealed) -> Vec<PathBuf> {
    let files = sealed.known.files.iter().map(|file| target.join(&file.path));
    files.chain(sealed.folders.iter().rev().map(|folder| target.join(folder))).collect()
}

/// Checksum of the state of files: it changes with every write to one of them. None when one is missing.
pub(super) fn stamp(root: &Path, files: &[TreeFile]) -> Option<u32> {
    states(root, files).map(|states| stamp_of(&states))
}

/// State of a file: inode, size, and the times of the last change of content and of the inode.
pub(super) type FileState = [i64; 6];

/// State of each file. None when one is missing.
pub(super) fn states(root: &Path, files: &[TreeFile]) -> Option<Vec<FileState>> {
    let look = |file: &TreeFile| {
        let meta = fs::symlink_metadata(root.join(&file.path)).ok().filter(fs::Metadata::is_file)?;
        Some([meta.ino() as i64, meta.len() as i64, meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()])
    };
    files.iter().map(look).collect()
}

/// Checksum of states.
pub(super) fn stamp_of(states: &[FileState]) -> u32 {
    let bytes: Vec<u8> = states.as_flattened().iter().flat_map(|number| number.to_le_bytes()).collect();
    let (first, _) = Digest::of(&bytes).0.split_first_chunk::<4>().map(|(first, rest)| (*first, rest.len())).unwrap_or_default();
    u32::from_le_bytes(first)
}

/// Range of the files of a part of an artifact among all of its files.
pub(super) fn range_of(files: &[TreeFile], part: Option<&str>) -> Range<usize> {
    let Some(part) = part else { return 0..files.len() };
    if let Ok(at) = files.binary_search_by(|file| file.path.as_str().cmp(part)) {
        return at..at + 1;
    }
    let folder = format!("{part}/");
    let first = files.partition_point(|file| file.path < folder); // files are sorted, so those of a folder stand together
    let count = files[first..].iter().take_while(|file| file.path.starts_with(&folder)).count();
    first..first + count
}

/// Hashes all files. Returns true if they have the content that they should have.
pub(super) fn is_sound(root: &Path, files: &[TreeFile]) -> bool {
    let sound = |file: &TreeFile| {
        let digest = File::open(root.join(&file.path)).and_then(|open| hash_file(&open));
        digest.ok() == Some(file.digest)
    };
    root.is_dir() && files.par_iter().all(sound)
}

/// Describes the first damage of an artifact: a file that differs, is missing or was added.
pub(super) fn first_damage(root: &Path, files: &[TreeFile]) -> Option<String> {
    let Ok((paths, _)) = list(root) else { return Some("it cannot be listed".to_owned()) };
    if let Some(extra) = paths.iter().find(|path| files.binary_search_by(|file| file.path.cmp(path)).is_err()) {
        return Some(format!("`{extra}` was added"));
    }
    if let Some(missing) = files.iter().find(|file| paths.binary_search(&file.path).is_err()) {
        return Some(format!("`{}` is missing", missing.path));
    }
    files.iter().find(|file| !is_sound(root, std::slice::from_ref(file))).map(|file| format!("`{}` differs", file.path))
}

pub(super) fn digest_of(files: &[TreeFile]) -> Digest {
    listing_digest(files.iter().map(|file| (file.path.as_str(), file.size, file.digest)))
}

/// Digest of one file or folder of an artifact.
pub(crate) fn part_digest(files: &[TreeFile], part: &str) -> Result<Digest, StoreError> {
    if let Ok(at) = files.binary_search_by(|file| file.path.as_str().cmp(part)) {
        return Ok(files[at].digest);
    }
    let folder = format!("{part}/");
    let first = files.partition_point(|file| file.path < folder); // files are sorted, so those of a folder stand together
    let inside = files[first..].iter().map_while(|file| Some((file.path.strip_prefix(&folder)?, file.size, file.digest)));
    let inside: Vec<_> = inside.collect();
    if inside.is_empty() {
        let mut names: Vec<&str> = files.iter().map(|file| file.path.split('/').next().unwrap_or_default()).collect();
        names.dedup();
        return Err(StoreError::NoPart { part: part.to_owned(), holds: names.join(", ") });
    }
    Ok(listing_digest(inside.into_iter()))
}
