//! Trees of files outside the store: what a stage needs of them, and what is in them.
//!
//! A tree is scanned on every plan, but a file is read only when the index of the last scan does not know it: device, inode,
//! size, modification and change time. A file that was written to so shortly before it was hashed that a later edit could
//! carry the same times is *racy*: the index says so, and the next scan reads it again.
//!
//! What no such index can see is a program that holds a file mapped and writes to a page that is waiting for the disk
//! already: the file system then moves no time.

mod hash;
mod index;
mod listing;
mod mount;
mod recent;
mod scan;
mod stat;
#[cfg(test)]
mod tests;
mod tree;
mod walk;

pub(crate) use hash::hash_file;
pub use listing::Listing;
pub(crate) use mount::file_system;
pub use recent::RecentScans;
pub use scan::{ScanCost, ScanError, UNREADABLE, scan};
pub(crate) use tree::listing_digest;
pub use tree::{Tree, TreeFile};

/// A tree of outside files that a stage reads.
pub struct SourceNeed {
    /// Name of the place, for example `corpora.fsdd`; where it is on this machine is a matter of settings.
    pub place: String,
    /// Whether a file (path relative to the root, `/` between its parts) belongs to what is read. Hidden files never do.
    pub wants: Box<dyn Fn(&str) -> bool + Send + Sync>,
}
