//! Identity of a version of a file without reading it, and when that is not enough.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Identity of a version of a file without reading it. Times are in nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    pub(super) modified: i64,
    pub(super) changed: i64,
}

impl Stat {
    /// Bytes of a written stat.
    pub(super) const LEN: usize = 40;
    /// The clocks of file systems tick every 1 to 10 ms; the rest is margin.
    const TICK: i64 = 50_000_000;
    /// Some file systems keep whole seconds (FAT: two).
    const COARSE_TICK: i64 = 2_000_000_000;

    pub(super) fn of(meta: &Metadata) -> Self {
        // Wraps for absurd times, which then are still different from each other.
        let nanos = |secs: i64, nanos: i64| secs.wrapping_mul(1_000_000_000).wrapping_add(nanos);
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.len(),
            modified: nanos(meta.mtime(), meta.mtime_nsec()),
            changed: nanos(meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// True if a change after `now`, when the file is about to be read, could leave the same times.
    ///
    /// The change time decides: no program can set it, so it is when the content last changed or later.
    pub(super) fn is_racy(&self, now: i64) -> bool {
        let tick = if self.changed % 1_000_000_000 == 0 { Self::COARSE_TICK } else { Self::TICK };
        self.changed.saturating_add(tick) >= now
    }

    pub(super) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let fields = [self.device, self.inode, self.size, self.modified as u64, self.changed as u64];
        for (part, field) in bytes.chunks_exact_mut(8).zip(fields) {
            part.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let (fields, _) = bytes.as_chunks::<8>();
        let field = |at: usize| u64::from_le_bytes(fields[at]);
        Self { device: field(0), inode: field(1), size: field(2), modified: field(3) as i64, changed: field(4) as i64 }
    }
}

/// Now, in nanoseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "compared with file times only; no output depends on it")]
pub(super) fn clock() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_survives_being_written() {
        let stat = Stat { device: 1, inode: u64::MAX, size: 3, modified: -4, changed: i64::MIN };
        assert_eq!(Stat::from_bytes(&stat.to_bytes()), stat);
    }

    #[test]
    fn a_file_is_racy_until_the_clock_of_its_file_system_has_surely_ticked() {
        let second = 1_000_000_000;
        let check = |changed: i64, now: i64, racy: bool| {
            let stat = Stat { device: 0, inode: 0, size: 0, modified: 0, changed };
            assert_eq!(stat.is_racy(now), racy, "changed {changed}, read {now}");
        };
        check(second + 1, second + 2, true);
        check(second + 1, second + 1 + Stat::TICK, true);
        check(second + 1, second + 2 + Stat::TICK, false);
        check(second, second + 2 + Stat::TICK, true); // whole seconds
        check(second, second + 1 + Stat::COARSE_TICK, false);
        check(i64::MAX, second, true); // a clock that was wrong: read every time, never trusted
    }
}
