//! Recordings that are damaged as far as their first bytes and their size tell.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::{Finding, Severity};
use crate::Length;

/// Paths of damaged recordings.
#[derive(Debug, Default)]
pub(super) struct Damage {
    empty: BTreeSet<String>,
    cut: BTreeSet<String>,
    unlike: BTreeSet<String>,
    unreadable: BTreeSet<String>,
}

impl Damage {
    /// Looks at a recording whose header was read. A name that ends in `.wav` or `.flac` promises a header.
    pub(super) fn note(&mut self, root: &Path, path: &str, header: Option<Length>) {
        let is_empty = match header {
            Some(header) => header.num_samples == 0,
            None => fs::metadata(root.join(path)).is_ok_and(|meta| meta.len() == 0),
        };
        let promises = || [".wav", ".flac"].iter().any(|ending| path.to_lowercase().ends_with(ending));
        let found = if is_empty {
            &mut self.empty
        } else if header.is_some_and(|header| header.is_cut) {
            &mut self.cut
        } else if header.is_none() && fs::File::open(root.join(path)).is_err() {
            &mut self.unreadable
        } else if header.is_none() && promises() {
            &mut self.unlike
        } else {
            return;
        };
        found.insert(path.to_owned());
    }

    /// Adds what was found to the findings.
    pub(super) fn report(self, findings: &mut Vec<Finding>) {
        let kinds = [
            (self.unreadable, Severity::Fault, "cannot be opened"),
            (self.empty, Severity::Fault, "without a sample"),
            (self.cut, Severity::Fault, "shorter than the header says"),
            (self.unlike, Severity::Warning, "without a header that says how long it is, as its name promises"),
        ];
        for (paths, severity, what) in kinds {
            if !paths.is_empty() {
                findings.push(Finding { severity, what: format!("{}: {what}", paths.len()), names: paths.into_iter().collect() });
            }
        }
    }
}
