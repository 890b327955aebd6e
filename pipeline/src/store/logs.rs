//! File names of logs.

use crate::Digest;

/// Returns the file name of a node's log.
pub fn log_name(id: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.,=#[]".contains(c) { c } else { '_' };
    let mut name: String = id.chars().map(plain).collect();
    if name.len() > 180 {
        name = format!("{}-{}", &name[..160], Digest::of(id.as_bytes()).short());
    }
    name + ".log"
}
