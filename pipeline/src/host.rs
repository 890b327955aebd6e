//! This machine: its name, boot and clock.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// Name for the time since this machine started, or for this process where the system gives none.
pub(crate) fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map_or_else(|_| format!("process {}", std::process::id()), |id| id.trim().to_owned())
}

/// Name of this machine that stays the same over boots.
pub(crate) fn machine() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let id = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let id: String = id.trim().chars().take(12).collect();
    if id.is_empty() { name } else { format!("{name} ({id})") }
}

/// The time, in milliseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "the time of a run goes into the record, never into an output")]
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
