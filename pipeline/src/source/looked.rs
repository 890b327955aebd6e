//! Trees that were looked through a moment ago.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Listing, ScanCost, ScanError, scan};

/// Trees that were looked through a moment ago, so that what follows at once need not do it again: several nodes may read the
/// same tree, and a run plans right after it saw that an earlier answer no longer holds.
#[derive(Debug, Clone, Default)]
pub struct Looked(HashMap<PathBuf, Arc<Listing>>);

impl Looked {
    /// As [`scan()`], once for each cache file; a cost is told of the scan that was made.
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
