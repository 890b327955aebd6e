//! Trees of files outside the store: the files that a stage needs, with their digests.
//!
//! A tree is scanned on every plan, but a file is read only when the index of the last scan does not know it: device, inode,
//! size, modification and change time. A file that was written to so shortly before it was hashed that a later edit could
//! carry the same times is *racy*: the index says so, and the next scan reads it again. See `trust` for file systems whose times do not
//! count.
//!
//! No such index can see a program that holds a file mapped and writes to a page that is waiting for the disk already: the file system
//! then moves no time. `sure run --rehash` reads every file.

mod error;
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
mod trust;
mod walk;

pub use error::ScanError;
pub(crate) use hash::hash_file;
pub use listing::Listing;
pub use mount::file_system;
pub use recent::RecentScans;
pub(crate) use scan::distrust;
pub use scan::{ScanCost, UNREADABLE, scan};
pub use tree::listing_digest;
pub use tree::{Tree, TreeFile};

/// A tree of outside files that a stage reads.
pub struct SourceNeed {
    /// Name of the place, for example `corpora.fsdd`; the settings give its folder.
    pub place: String,
    /// Decides whether a stage reads a file (path relative to the root, `/` between its parts). Hidden files are never read.
    pub wants: Box<dyn Fn(&str) -> bool + Send + Sync>,
}
