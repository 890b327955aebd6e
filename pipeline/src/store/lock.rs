//! Locks of fingerprints: at any moment one thread of one process makes a fingerprint.
//!
//! All are locks of the kernel on files that nobody reads: a lock covers the byte whose number is the beginning of its
//! fingerprint. So it costs no file of its own, and ends with the process that holds it, however that ends. Two fingerprints that
//! begin with the same 62 bits would wait for each other, which does no harm.
//!
//! The kernel looks through all locks of a file each time it sets or ends one. So there are several files, and the first bits of a
//! fingerprint choose one: 10,000 locks in one file cost 1.4 s of processor time.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::{StoreError, io_error};
use crate::Digest;

/// Number of lock files.
const FILES: usize = 64;

/// The lock files, with the bytes that this process has locked: the kernel tells processes apart, not the threads of one.
#[derive(Debug)]
pub(super) struct Locks {
    folder: PathBuf,
    /// Each is opened when it is first needed.
    files: [OnceLock<File>; FILES],
    mine: Mutex<HashSet<i64>>,
}

/// Exclusive right to make one fingerprint; ends when dropped, or when the process ends however it ends.
#[derive(Debug)]
pub struct FingerprintLock {
    locks: Arc<Locks>,
    byte: i64,
}

impl Locks {
    pub(super) fn open(folder: &Path) -> Result<Arc<Self>, StoreError> {
        std::fs::create_dir_all(folder).map_err(io_error("create", folder))?;
        let files = std::array::from_fn(|_| OnceLock::new());
        Ok(Arc::new(Self { folder: folder.to_owned(), files, mine: Mutex::default() }))
    }

    /// Returns the file with a byte.
    fn file_of(&self, byte: i64) -> Result<&File, StoreError> {
        let number = (byte >> (62 - FILES.ilog2())) as usize;
        if self.files[number].get().is_none() {
            let path = self.path(number);
            let file = File::options().create(true).truncate(false).read(true).write(true).open(&path);
            let _ = self.files[number].set(file.map_err(io_error("open", &path))?); // of two threads one is first
        }
        Ok(self.files[number].get().expect("it was set just now"))
    }

    fn path(&self, number: usize) -> PathBuf {
        self.folder.join(format!("claims.{number:02x}"))
    }

    /// Locks a fingerprint. Returns none while another run or thread makes it.
    pub(super) fn try_lock(self: &Arc<Self>, fingerprint: Digest) -> Result<Option<FingerprintLock>, StoreError> {
        let byte = byte_of(fingerprint);
        let mut mine = self.mine.lock().expect("no holder of this lock panics");
        if mine.contains(&byte) {
            return Ok(None);
        }
        match set(self.file_of(byte)?, byte, libc::F_WRLCK) {
            Ok(()) => {
                mine.insert(byte);
                Ok(Some(FingerprintLock { locks: Arc::clone(self), byte }))
            }
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
            Err(error) => Err(io_error("lock in", &self.folder)(io::Error::from(error))),
        }
    }
}

fn set(file: &File, byte: i64, kind: libc::c_int) -> nix::Result<()> {
    let (kind, whence) = (kind as libc::c_short, libc::SEEK_SET as libc::c_short);
    let lock = libc::flock { l_type: kind, l_whence: whence, l_start: byte, l_len: 1, l_pid: 0 };
    // Not the older locks of POSIX: those end when any other handle of the file is closed.
    fcntl(file, FcntlArg::F_OFD_SETLK(&lock)).map(|_| ())
}

impl Drop for FingerprintLock {
    fn drop(&mut self) {
        let mut mine = self.locks.mine.lock().expect("no holder of this lock panics");
        if let Ok(file) = self.locks.file_of(self.byte) {
            let _ = set(file, self.byte, libc::F_UNLCK); // of a lock that is held: nothing can go wrong
        }
        mine.remove(&self.byte);
    }
}

/// Returns the byte of a fingerprint: offsets in files are positive numbers, and one has to follow.
fn byte_of(fingerprint: Digest) -> i64 {
    let (first, _) = fingerprint.0.split_first_chunk::<8>().expect("digests have 32 bytes");
    i64::from_be_bytes(*first) & (i64::MAX >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_locked_once_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let (here, there) = (Locks::open(folder.path()).unwrap(), Locks::open(folder.path()).unwrap());
        let (one, other) = (Digest::of(b"one"), Digest([0xFF; 32]));
        let held = here.try_lock(one).unwrap().unwrap();
        assert!(here.try_lock(one).unwrap().is_none(), "by another thread");
        assert!(there.try_lock(one).unwrap().is_none(), "by another opening of the store");
        let beside = there.try_lock(other).unwrap();
        assert!(beside.is_some() && here.try_lock(other).unwrap().is_none(), "another fingerprint is free, once");
        drop(held);
        assert!(there.try_lock(one).unwrap().is_some(), "after its end it is free again");
        assert!(here.try_lock(one).unwrap().is_some());
    }
}
