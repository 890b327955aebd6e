//! Access to a store: its format, the file system it is on, and the processes that use it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::disk::remove_all;
use super::{StoreError, io_error, records_error};
use crate::host::{boot, machine};
use crate::records::RecordsError;

/// Format of a store as a whole: which folders it has and how the record log is read. An older program refuses a newer store.
pub(super) const FORMAT: u32 = 1;

/// Name of the file that holds the format.
const FORMAT_FILE: &str = "format";

/// Refuses a store of a newer format.
pub(super) fn check_format(root: &Path) -> Result<(), StoreError> {
    let text = fs::read_to_string(root.join(FORMAT_FILE)).unwrap_or_default(); // of a store before this file
    match text.trim().parse::<u32>() {
        Ok(found) if found > FORMAT => Err(records_error(root)(RecordsError::Newer { part: "folder", found, known: FORMAT })),
        _ => Ok(()),
    }
}

/// Writes the format of a store that has none yet.
pub(super) fn write_format(root: &Path) -> Result<(), StoreError> {
    let path = root.join(FORMAT_FILE);
    if path.exists() {
        return Ok(());
    }
    fs::write(&path, format!("{FORMAT}\n")).map_err(io_error("write", &path))
}

/// File that keeps room for the end of a run on a full disk.
pub(super) const RESERVE: &str = "reserve";

/// Bytes of the reserve.
const RESERVED: usize = 512 << 10;

/// Makes the reserve. Without room for it there is none.
pub(super) fn make_reserve(root: &Path) {
    let path = root.join(RESERVE);
    if !path.exists() && fs::write(&path, vec![0xff; RESERVED]).is_err() {
        let _ = fs::remove_file(&path); // half of it is of no use
    }
}

/// File systems that other machines share: kernel locks and the memory map of the index do not reach across machines.
const NETWORK: [&str; 16] = [
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "gfs2", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs",
    "pvfs2", "smb3",
];

/// File systems in user space that keep their files on a disk of this machine. What others do nobody knows: most are clients of a
/// server, and one that passes on another folder forwards no locks.
const LOCAL_IN_USER_SPACE: [&str; 6] =
    ["fuse.encfs", "fuse.exfat", "fuse.fuse-overlayfs", "fuse.gocryptfs", "fuse.ntfs-3g", "fuse.overlayfs"];

/// Returns the type of a file system that other machines may share, where locks do not reach across machines; none for a local one. A
/// path that is yet to be made is judged by the folder that it will be in.
pub fn network_file_system(path: &Path) -> Option<String> {
    let full = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = full.ancestors().find(|folder| folder.exists())?;
    crate::source::file_system(there).filter(|kind| is_shared(kind))
}

/// Refuses a store on a network file system.
pub(super) fn check_file_system(root: &Path) -> Result<(), StoreError> {
    match network_file_system(root) {
        Some(kind) => Err(StoreError::Network { root: root.to_owned(), kind }),
        None => Ok(()),
    }
}

/// True for a type of file system that other machines may share.
fn is_shared(kind: &str) -> bool {
    let in_user_space = kind == "fuse" || kind.starts_with("fuse.");
    NETWORK.contains(&kind) || kind == "smbfs" || in_user_space && !LOCAL_IN_USER_SPACE.contains(&kind)
}

/// Lets a group use a store together: when the group may write its folder, it may write everything that this process makes.
pub(super) fn share_with_group(root: &Path) {
    let is_shared = fs::metadata(root).is_ok_and(|meta| meta.mode() & 0o020 != 0);
    if is_shared {
        let group = rustix::fs::Mode::RWXG;
        let mask = rustix::process::umask(rustix::fs::Mode::empty());
        rustix::process::umask(mask.difference(group));
    }
}

/// Folder of this process for attempts. A kernel lock keeps other processes from removing it.
pub(super) struct ScratchFolder {
    pub(super) folder: PathBuf,
    _lock: File,
}

/// Name of the lock file in a scratch folder. It names the machine and the boot, since a kernel lock means nothing on another machine.
const LOCK: &str = "lock";

impl ScratchFolder {
    pub(super) fn begin(scratch: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(scratch).map_err(io_error("create", scratch))?;
        let mut number = u64::from(std::process::id());
        loop {
            let folder = scratch.join(number.to_string());
            match fs::create_dir(&folder) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    number += 1 << 32;
                    continue;
                }
                Err(source) => return Err(io_error("create", &folder)(source)),
            }
            let path = folder.join(LOCK);
            let owner = format!("{}\n{}\n", machine(), boot());
            let lock = File::create(&path).and_then(|file| file.lock().map(|()| file));
            let lock = lock.and_then(|mut file| file.write_all(owner.as_bytes()).map(|()| file));
            return Ok(Self { _lock: lock.map_err(io_error("lock", &path))?, folder });
        }
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        let _ = remove_all(&self.folder); // what cannot be removed now is swept by a later run
    }
}

/// Removes the scratch folders of processes that are gone: those whose lock is free.
///
/// # Errors
/// [`StoreError::OtherMachine`] when a process of another machine may be at work: its lock cannot be seen from here.
pub(super) fn sweep(scratch: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(scratch).into_iter().flatten().flatten() {
        // A folder without its lock file was made a moment ago, or was left by a kill between two calls: spare the first.
        let age = entry.metadata().and_then(|meta| meta.modified()).ok().and_then(|time| time.elapsed().ok());
        let lock = File::open(entry.path().join(LOCK)); // held until the folder is gone
        let free = match &lock {
            Ok(lock) => lock.try_lock().is_ok(),
            Err(_) => age.is_some_and(|age| age > Duration::from_secs(60)),
        };
        if !free {
            continue;
        }
        let owner = fs::read_to_string(entry.path().join(LOCK)).unwrap_or_default();
        if let Some((other, its_boot)) = owner.trim_end().split_once('\n')
            && its_boot != boot()
            && other != machine()
        {
            return Err(StoreError::OtherMachine { machine: other.to_owned(), folder: entry.path() });
        }
        let _ = remove_all(&entry.path());
    }
    Ok(())
}

/// Lets one process at a time open the store for writing. Another might otherwise set aside the index that this one has just begun,
/// or sweep this one's scratch folder before it is locked.
pub(super) fn opening(root: &Path) -> Result<File, StoreError> {
    let path = root.join("locks").join("opening");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    file.and_then(|file| file.lock().map(|()| file)).map_err(io_error("lock", &path))
}

#[cfg(test)]
mod tests {
    use super::is_shared;

    #[test]
    fn file_systems_of_other_machines_and_unknown_ones_in_user_space_are_shared() {
        for kind in ["nfs", "nfs4", "lustre", "gpfs", "cifs", "smb3", "9p", "fuse", "fuse.sshfs", "fuse.bindfs", "fuse.juicefs"] {
            assert!(is_shared(kind), "{kind}");
        }
        for kind in ["", "ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuseblk", "fuse.fuse-overlayfs", "virtiofs"] {
            assert!(!is_shared(kind), "{kind}");
        }
    }
}
