//! Mounted file systems.

use std::fs;
use std::path::Path;

/// Type of the file system that a path is on, as `/proc/self/mountinfo` names it: `ext4`, `nfs4`, `fuse.sshfs`.
pub fn file_system(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mut best: Option<(usize, &str)> = None;
    for line in mounts.lines() {
        // 36 35 98:0 /root /mount/point options optional... - type source options
        let (head, tail) = line.split_once(" - ")?;
        let point = unescape(head.split(' ').nth(4)?);
        let depth = Path::new(&point).components().count();
        // A later mount on the same point hides the earlier one.
        if path.starts_with(&point) && best.is_none_or(|(found, _)| depth >= found) {
            best = Some((depth, tail.split(' ').next()?));
        }
    }
    best.map(|(_, kind)| kind.to_owned())
}

/// Replaces `\040` and other octal escapes.
fn unescape(text: &str) -> String {
    let mut out = vec![];
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let octal =
            tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|text| u8::from_str_radix(text, 8).ok());
        match octal.filter(|_| *first == b'\\') {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_on_a_file_system() {
        assert_eq!(file_system(Path::new("/proc/self")).as_deref(), Some("proc"));
        assert!(file_system(&std::env::temp_dir()).is_some());
        assert_eq!(file_system(Path::new("/no/such/path")), None);
    }

    #[test]
    fn escapes_in_mount_points_are_read() {
        assert_eq!(unescape("/a\\040b\\134c"), "/a b\\c");
    }
}
