//! Trust in the times that a file system gives.
//!
//! A stat identifies a version of a file only where every write moves a change time that no program can set, and where the same device
//! number means the same disk. Local file systems that are known for that are trusted. On others that keep change times the stat counts as
//! long as the same mount lasts: another image or export may be mounted in its place later. Where change times mean nothing (FAT,
//! SMB, most of FUSE) files are hashed on every scan.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Mutex;

use rustix::fs::{AtFlags, CWD, StatxFlags};

use super::stat::Stat;
use crate::Digest;
use crate::host::boot;

/// Trust in the stats of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// A stat identifies a version for ever.
    Full,
    /// A stat identifies a version as long as this mount lasts; the number stands for the mount.
    Mount(u64),
    /// A stat identifies nothing.
    None,
}

/// Magic numbers (`statfs(2)`) of local file systems that are trusted: bcachefs, btrfs, ext2 to ext4, F2FS, overlay, ramfs, tmpfs, XFS, ZFS.
const LOCAL: [u32; 9] =
    [0xca45_1a4e, 0x9123_683e, 0xef53, 0xf2f5_2010, 0x794c_7630, 0x8584_58f6, 0x0102_1994, 0x5846_5342, 0x2fc1_2fc1];

/// Magic numbers of file systems with change times that may be another one after the next mount: AFS, `BeeGFS`, Ceph, EROFS, GPFS,
/// ISO 9660, Lustre, NFS, `SquashFS`, UDF.
const REMOUNTED: [u32; 10] =
    [0x5346_414f, 0x1983_0326, 0x00c3_6400, 0xe0f5_e1e2, 0x4750_4653, 0x9660, 0x0bd0_0bd0, 0x6969, 0x7371_7368, 0x1501_3346];

/// Device number of loop devices: an image in a file, behind which another may be next time.
const LOOP: u32 = 7;

/// Trust in each device that a scan meets.
pub(super) struct Devices {
    root: (u64, Trust),
    others: Mutex<HashMap<u64, Trust>>,
    of: fn(&Path) -> Trust,
}

impl Devices {
    pub(super) fn new(root: &Path) -> Self {
        Self::judged_by(root, trust)
    }

    /// Trust as a function says, for tests.
    pub(super) fn judged_by(root: &Path, of: fn(&Path) -> Trust) -> Self {
        let device = fs::metadata(root).map_or(0, |meta| meta.dev());
        Self { root: (device, of(root)), others: Mutex::default(), of }
    }

    /// Stat of a file at a path, and true if it identifies the version of the file.
    pub(super) fn stat(&self, meta: &Metadata, path: &Path) -> (Stat, bool) {
        let stat = Stat::of(meta);
        let trust = if stat.device == self.root.0 {
            self.root.1
        } else {
            let mut others = self.others.lock().expect("no holder of this lock panics");
            *others.entry(stat.device).or_insert_with(|| (self.of)(path))
        };
        match trust {
            Trust::Full => (stat, true),
            Trust::Mount(mount) => (Stat { device: stat.device ^ mount, ..stat }, true),
            Trust::None => (stat, false),
        }
    }
}

/// Trust in the file system that a path is on.
fn trust(path: &Path) -> Trust {
    let Ok(system) = rustix::fs::statfs(path) else { return Trust::None };
    let magic = system.f_type as u32;
    let device = fs::metadata(path).map_or(0, |meta| meta.dev());
    match () {
        () if LOCAL.contains(&magic) && rustix::fs::major(device) != LOOP => Trust::Full,
        () if LOCAL.contains(&magic) || REMOUNTED.contains(&magic) => mount(path).map_or(Trust::None, Trust::Mount),
        () => Trust::None,
    }
}

/// Number that stands for a mount: no other mount has it, before the next boot or after.
fn mount(path: &Path) -> Option<u64> {
    // STATX_MNT_ID_UNIQUE (Linux 6.8) is never used again; the plain one may be, after an unmount.
    let unique = StatxFlags::from_bits_retain(0x4000);
    let found = [unique, StatxFlags::MNT_ID].into_iter().find_map(|flag| {
        let stat = rustix::fs::statx(CWD, path, AtFlags::empty(), flag).ok()?;
        (stat.stx_mask & flag.bits() != 0).then_some((flag == unique, stat.stx_mnt_id))
    });
    let digest = Digest::of(format!("{} {:?}", boot(), found?).as_bytes());
    digest.0.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_not_trusted_and_a_mount_has_one_number() {
        assert_eq!(trust(Path::new("/proc/self")), Trust::None);
        assert_eq!(trust(Path::new("/no/such/path")), Trust::None);
        assert_eq!(mount(Path::new("/proc")), mount(Path::new("/proc/self/stat")));
        assert_ne!(mount(Path::new("/proc")), mount(Path::new("/sys")));
    }
}
