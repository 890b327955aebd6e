//! Lists the folders of a tree, in parallel, and finds those that differ from the index of the last scan.

use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::iter::Peekable;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::Path;

use rayon::prelude::*;

use super::error::ScanError;
use super::index::{Entries, Entry, Index, Known};
use super::stat::Stat;
use super::trust::Devices;
use crate::Digest;

/// See [`super::SourceNeed::wants`].
pub(super) type Wants<'a> = &'a (dyn Fn(&str) -> bool + Send + Sync);

/// A folder as it is now.
pub(super) struct Listed {
    /// Relative to the root; empty for the root, else with `/` at its end.
    pub(super) path: String,
    pub(super) content: Content,
    pub(super) num_subfolders: usize,
}

/// Content of a folder, compared with the last scan.
pub(super) enum Content {
    /// No change since the folder of this number in the last scan.
    Same(usize),
    /// Other entries, as an index keeps them.
    New {
        entries: Vec<u8>,
        /// Offsets of the files whose content is not known.
        unread: Vec<usize>,
    },
}

/// A folder to list: its path, and its number in the last scan.
type FolderTask = (String, Option<usize>);

/// Entries that are read before the next are asked for; bounds memory in folders of a million files.
const BATCH: usize = 16 * 1024;

/// Lists all folders of a tree, level by level.
pub(super) fn list(root: &Path, wants: Wants<'_>, devices: &Devices, last: Option<&Index>) -> Result<Vec<Listed>, ScanError> {
    if !root.is_dir() {
        return Err(ScanError::Missing { root: root.to_owned() });
    }
    let mut folders = vec![];
    let mut level: Vec<FolderTask> = vec![(String::new(), last.map(|_| 0))];
    while !level.is_empty() {
        let listed = level.into_par_iter().map(|task| list_folder(root, task, wants, devices, last));
        let listed = listed.collect::<Result<Vec<_>, ScanError>>()?;
        level = vec![];
        for (folder, subfolders) in listed {
            folders.push(folder);
            level.extend(subfolders);
        }
    }
    Ok(folders)
}

fn list_folder(
    root: &Path,
    task: FolderTask,
    wants: Wants<'_>,
    devices: &Devices,
    last: Option<&Index>,
) -> Result<(Listed, Vec<FolderTask>), ScanError> {
    let (path, number) = task;
    let found = find(root, &path, wants, devices)?;
    let old = number.and_then(|number| Some((number, last?.folder(number)?)));
    let mut known = old.map(|(_, folder)| Last { entries: folder.entries().peekable(), next_child: folder.first_child });
    let (mut entries, mut unread, mut subfolders) =
        (Vec::with_capacity(old.map_or(0, |(_, old)| old.bytes.len())), vec![], vec![]);
    for DirItem { name, stat } in found {
        let before = known.as_mut().and_then(|known| known.find(&name));
        let file = stat.map(|stat| match before {
            Some((Some(known), _)) if known.stat == stat && !known.racy => known,
            _ => {
                unread.push(entries.len());
                Known { stat, digest: Digest([0; 32]), racy: true }
            }
        });
        if file.is_none() {
            let number = before.and_then(|(file, number)| file.is_none().then_some(number));
            subfolders.push((format!("{path}{name}"), number));
        }
        Entry { name: &name, file }.write(&mut entries);
    }
    let content = match old {
        Some((number, folder)) if unread.is_empty() && folder.bytes == entries => Content::Same(number),
        _ => Content::New { entries, unread },
    };
    Ok((Listed { path, content, num_subfolders: subfolders.len() }, subfolders))
}

/// Entries of a folder in the last scan, asked for in order of their names.
struct Last<'a> {
    entries: Peekable<Entries<'a>>,
    next_child: usize,
}

impl Last<'_> {
    /// Returns the known version of a file, or the number of a folder.
    fn find(&mut self, name: &str) -> Option<(Option<Known>, usize)> {
        while let Some(entry) = self.entries.next_if(|entry| entry.name <= name) {
            let number = self.next_child;
            self.next_child += usize::from(entry.file.is_none());
            if entry.name == name {
                return Some((entry.file, number));
            }
        }
        None
    }
}

/// A file with its stat, or a folder; `/` stands at the end of a folder's name.
struct DirItem {
    name: String,
    stat: Option<Stat>,
}

/// Lists the wanted files and the subfolders of a folder, sorted by name.
fn find(root: &Path, folder: &str, wants: Wants<'_>, devices: &Devices) -> Result<Vec<DirItem>, ScanError> {
    let path = root.join(folder);
    let failed = |source| ScanError::Read { path: path.clone(), source };
    let mut entries = match fs::read_dir(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.is_empty() => return Ok(vec![]), // gone meanwhile
        entries => entries.map_err(failed)?,
    };
    let mut found = vec![];
    loop {
        let mut batch = entries.by_ref().take(BATCH).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        if batch.is_empty() {
            break;
        }
        batch.sort_unstable_by_key(DirEntryExt::ino); // neighbours in memory and on disk
        let examined = batch.par_iter().with_min_len(256).map(|entry| examine(root, folder, entry, wants, devices));
        found.extend(examined.collect::<Result<Vec<_>, _>>()?.into_iter().flatten());
    }
    found.sort_unstable_by(|a: &DirItem, b| a.name.cmp(&b.name));
    found.dedup_by(|a, b| a.name == b.name); // two names of which nothing else is left
    Ok(found)
}

/// Examines an entry of a folder. Links are followed: the content behind them counts.
fn examine(
    root: &Path,
    folder: &str,
    entry: &DirEntry,
    wants: Wants<'_>,
    devices: &Devices,
) -> Result<Option<DirItem>, ScanError> {
    // What is not Unicode in a name is replaced: such a file counts, and cannot be read by that name.
    let name = entry.file_name().to_string_lossy().into_owned();
    if name.starts_with('.') {
        return Ok(None);
    }
    let failed = |source| ScanError::Read { path: entry.path(), source };
    let kind = entry.file_type().map_err(failed)?;
    if kind.is_dir() {
        return Ok(Some(DirItem { name: name + "/", stat: None }));
    }
    let wanted = wants(&format!("{folder}{name}"));
    let meta = if kind.is_symlink() {
        match fs::metadata(entry.path()) {
            Err(_) if !wanted => return Ok(None),
            Err(error) if leads_nowhere(&error) => {
                let (stat, _) = devices.stat(&entry.metadata().map_err(failed)?, root); // of the link itself
                return Ok(Some(DirItem { name, stat: Some(stat) }));
            }
            meta => meta.map_err(failed)?,
        }
    } else if wanted && kind.is_file() {
        match entry.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None), // gone meanwhile
            meta => meta.map_err(failed)?,
        }
    } else {
        return Ok(None); // not asked for, or a pipe, socket or device, which has no content
    };
    if meta.is_dir() {
        // A link to a folder that it lies in: all that is there counts already.
        let circle = leads_up(root, folder, &meta).map_err(failed)?;
        return Ok((!circle).then(|| DirItem { name: name + "/", stat: None }));
    }
    Ok((wanted && meta.is_file()).then(|| DirItem { name, stat: Some(devices.stat(&meta, &entry.path()).0) }))
}

/// True if a link leads nowhere: nothing is there, or it leads in a circle.
pub(super) fn leads_nowhere(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

/// True if a folder is one of those on the way from the root to `folder`.
fn leads_up(root: &Path, folder: &str, meta: &Metadata) -> io::Result<bool> {
    let ends = [0].into_iter().chain(folder.match_indices('/').map(|(at, _)| at));
    for end in ends {
        let above = fs::metadata(root.join(&folder[..end]))?;
        if (above.dev(), above.ino()) == (meta.dev(), meta.ino()) {
            return Ok(true);
        }
    }
    Ok(false)
}
