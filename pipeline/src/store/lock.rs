//! Locks of fingerprints: at any moment one thread of one process makes a fingerprint.
//!
//! All are locks of the kernel on one file that nobody reads: a lock covers the byte whose number is the beginning of its
//! fingerprint. So it costs no file of its own, and ends with the process that holds it, however that ends. Two fingerprints that
//! begin with the same 62 bits would wait for each other, which does no harm.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::{StoreError, io_error};
use crate::Digest;

/// The lock file, with the bytes that this process has locked: the kernel tells processes apart, not the threads of one.
#[derive(Debug)]
pub(super) struct Locks {
    file: File,
    path: PathBuf,
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
        let path = folder.join("claims"); // named so since the first version: old and new programs exclude each other
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        let file = file.map_err(io_error("open", &path))?;
        Ok(Arc::new(Self { file, path, mine: Mutex::default() }))
    }

    /// Locks a fingerprint. Returns none while another run or thread makes it.
    pub(super) fn try_lock(self: &Arc<Self>, fingerprint: Digest) -> Result<Option<FingerprintLock>, StoreError> {
        let byte = byte_of(fingerprint);
        let mut mine = self.mine.lock().expect("no holder of this lock panics");
        if mine.contains(&byte) {
            return Ok(None);
        }
        match self.set(byte, libc::F_WRLCK) {
            Ok(()) => {
                mine.insert(byte);
                Ok(Some(FingerprintLock { locks: Arc::clone(self), byte }))
            }
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
            Err(error) => Err(io_error("lock", &self.path)(io::Error::from(error))),
        }
    }

    fn set(&self, byte: i64, kind: libc::c_int) -> nix::Result<()> {
        let (kind, whence) = (kind as libc::c_short, libc::SEEK_SET as libc::c_short);
        let lock = libc::flock { l_type: kind, l_whence: whence, l_start: byte, l_len: 1, l_pid: 0 };
        // Not the older locks of POSIX: those end when any other handle of the file is closed.
        fcntl(&self.file, FcntlArg::F_OFD_SETLK(&lock)).map(|_| ())
    }
}

impl Drop for FingerprintLock {
    fn drop(&mut self) {
        let mut mine = self.locks.mine.lock().expect("no holder of this lock panics");
        let _ = self.locks.set(self.byte, libc::F_UNLCK); // of a lock that is held: nothing can go wrong
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
