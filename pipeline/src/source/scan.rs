//! Scanning a tree: list it, hash the files that the last scan does not know, keep the index for the next.

use std::fs::File;
use std::io;
use std::path::Path;

use rayon::prelude::*;

use super::error::ScanError;
use super::hash::hash_file;
use super::index::{Entry, Index, Known, Loaded};
use super::listing::Listing;
use super::stat::{Stat, clock};
use super::trust::Devices;
use super::walk::{Content, Listed, Wants, leads_nowhere, list};
use crate::Digest;

/// Digest that stands for the content of a file that may not be read, of a link to nothing, or of a file whose name is not Unicode. Each stage
/// decides whether such a file matters.
pub const UNREADABLE: Digest = Digest([0xff; 32]);

/// Cost of a scan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScanCost {
    /// Files found.
    pub files: usize,
    /// Files that had to be read.
    pub read: usize,
    /// Bytes of these files.
    pub bytes: u64,
    /// True if there was a stat cache of another format, so that every file had to be read.
    pub other_format: bool,
}

/// Lists a tree and hashes what the cache file does not know. `cache` is rewritten when anything changed.
///
/// Links are followed, but for those to a folder that they lie in. Hidden files and what is neither file nor folder (pipes,
/// sockets, devices) never count.
///
/// # Errors
/// A folder that cannot be listed or a file that cannot be read, by name; but a file without permission, a link to nothing, and a
/// file whose name is not Unicode are [`UNREADABLE`].
pub fn scan(root: &Path, wants: &(dyn Fn(&str) -> bool + Send + Sync), cache: &Path) -> Result<(Listing, ScanCost), ScanError> {
    scan_at(root, wants, cache, &Devices::new(root), &clock)
}

/// [`scan`] with another clock and other trust in file systems.
pub(super) fn scan_at(
    root: &Path,
    wants: Wants<'_>,
    cache: &Path,
    devices: &Devices,
    clock: &(dyn Fn() -> i64 + Sync),
) -> Result<(Listing, ScanCost), ScanError> {
    let (last, other_format) = match Index::load(cache, root) {
        Loaded::Index(index) => (Some(index), false),
        Loaded::OtherFormat => (None, true),
        Loaded::Nothing => (None, false),
    };
    let mut folders = list(root, wants, devices, last.as_ref())?;
    let hashed = folders.par_iter_mut().map(|folder| hash_unread(root, folder, devices, clock));
    let (read, bytes) = hashed.try_reduce(|| (0, 0), |a, b| Ok((a.0 + b.0, a.1 + b.1)))?;
    let index = match last {
        Some(last) if is_same(&folders, &last) => last,
        last => {
            let index = Index::build(root, with_bytes(folders, last.as_ref()));
            if !last.is_some_and(|last| last.is_same(&index)) {
                index.save(cache).map_err(|source| ScanError::Cache { path: cache.to_owned(), source })?;
            }
            index
        }
    };
    let cost = ScanCost { files: index.num_files(), read, bytes, other_format };
    Ok((Listing::new(root.to_owned(), index), cost))
}

/// Makes the next scan of a tree read a file again, whatever its stat: it changed while a stage read it, and its times may not tell
/// the versions apart that were there meanwhile.
pub(crate) fn distrust(root: &Path, cache: &Path, file: &Path) {
    let relative = file.strip_prefix(root).ok().and_then(Path::to_str);
    if let (Loaded::Index(mut index), Some(relative)) = (Index::load(cache, root), relative)
        && index.distrust(relative)
    {
        let _ = index.save(cache).or_else(|_| std::fs::remove_file(cache)); // without a cache everything is read
    }
}

fn is_same(folders: &[Listed], last: &Index) -> bool {
    folders.len() == last.num_folders() && folders.iter().all(|folder| matches!(folder.content, Content::Same(_)))
}

/// The entries of every folder, and the number of its subfolders.
fn with_bytes(folders: Vec<Listed>, last: Option<&Index>) -> Vec<(Entries<'_>, usize)> {
    let bytes = |content| match content {
        Content::New { entries, .. } => Entries::New(entries),
        Content::Same(number) => Entries::Old(last.and_then(|last| last.folder(number)).map_or(&[], |folder| folder.bytes)),
    };
    folders.into_iter().map(|folder| (bytes(folder.content), folder.num_subfolders)).collect()
}

enum Entries<'a> {
    Old(&'a [u8]),
    New(Vec<u8>),
}

impl AsRef<[u8]> for Entries<'_> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Old(bytes) => bytes,
            Self::New(bytes) => bytes,
        }
    }
}

/// Hashes the files of a folder whose content is not known; returns how many there were, and their bytes.
fn hash_unread(
    root: &Path,
    folder: &mut Listed,
    devices: &Devices,
    clock: &(dyn Fn() -> i64 + Sync),
) -> Result<(usize, u64), ScanError> {
    let Content::New { entries, unread } = &mut folder.content else { return Ok((0, 0)) };
    let path = root.join(&folder.path);
    let hashed = unread.par_iter().map(|place| {
        let entry = Entry::at(entries, *place).expect("the walk noted where entries stand");
        let walked = entry.file.expect("only files are noted").stat;
        hash_one(&path.join(entry.name), walked, devices, clock)
    });
    let hashed = hashed.collect::<Result<Vec<Known>, ScanError>>()?;
    for (place, known) in unread.iter().zip(&hashed) {
        Entry::replace(entries, *place, known);
    }
    Ok((hashed.len(), hashed.iter().map(|known| known.stat.size).sum()))
}

/// Hashes a file. `walked` is the stat that the walk saw.
fn hash_one(path: &Path, walked: Stat, devices: &Devices, clock: &(dyn Fn() -> i64 + Sync)) -> Result<Known, ScanError> {
    let failed = |source| ScanError::Read { path: path.to_owned(), source };
    for _ in 0..3 {
        let now = clock();
        let file = match File::open(path) {
            Err(error) if is_for_good(&error, path) => {
                return Ok(Known { stat: walked, digest: UNREADABLE, racy: true }); // the next scan may be allowed to read it, or find it
            }
            file => file.map_err(failed)?,
        };
        let (stat, is_trusted) = devices.stat(&file.metadata().map_err(failed)?, path);
        let digest = match hash_file(&file) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue, // cut off meanwhile
            digest => digest.map_err(failed)?,
        };
        // If another file stands at the path by now, the next scan meets another inode.
        if devices.stat(&file.metadata().map_err(failed)?, path).0 == stat {
            return Ok(Known { stat, digest, racy: !is_trusted || stat.is_racy(now) });
        }
    }
    Err(ScanError::Unsteady { path: path.to_owned() })
}

/// True if a file that the walk saw can never be opened, rather than being gone meanwhile: no permission, a link to nothing, or a name
/// that is not Unicode.
fn is_for_good(error: &io::Error, path: &Path) -> bool {
    let is_lossy = || path.file_name().is_some_and(|name| name.to_string_lossy().contains(char::REPLACEMENT_CHARACTER));
    error.kind() == io::ErrorKind::PermissionDenied || leads_nowhere(error) && (path.is_symlink() || is_lossy())
}
