//! Scans that were made a moment ago.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Listing, ScanCost, ScanError, scan};

/// Scans that were made a moment ago, so that the next step need not repeat them: several nodes may read the same tree, and a run plans
/// right after it found that an earlier answer is not valid any more.
#[derive(Debug, Clone, Default)]
pub struct RecentScans(HashMap<PathBuf, Arc<Listing>>);

impl RecentScans {
    /// Scans a tree as [`scan()`] does, once for each cache file. The cost is that of the scan that was made; none when it was not.
    ///
    /// # Errors
    /// As [`scan()`].
    pub fn scan(
        &mut self,
        root: &Path,
        wants: &(dyn Fn(&str) -> bool + Send + Sync),
        cache: PathBuf,
    ) -> Result<(Arc<Listing>, Option<ScanCost>), ScanError> {
        if let Some(known) = self.0.get(&cache) {
            return Ok((Arc::clone(known), None));
        }
        let (listing, cost) = scan(root, wants, &cache)?;
        let listing = Arc::new(listing);
        self.0.insert(cache, Arc::clone(&listing));
        Ok((listing, Some(cost)))
    }
}
