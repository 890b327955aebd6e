//! Whether outside files stayed as they were while a stage ran.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::Session;
use super::node::Task;
use super::survey::Trees;
use crate::stage::StageError;

/// What the file system says of every file of some trees, in order. It tells also of an edit that was taken back, which the
/// content does not.
pub(super) struct Stamps(Vec<(PathBuf, Option<Stamp>)>);

/// Device, inode, size, and the times of the last change of content and of the inode, in seconds and nanoseconds.
type Stamp = (u64, u64, u64, [i64; 4]);

impl Stamps {
    pub(super) fn of(trees: &Trees) -> Self {
        let stamp = |path: &PathBuf| {
            let meta = fs::metadata(path).ok()?;
            Some((meta.dev(), meta.ino(), meta.len(), [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()]))
        };
        let trees = trees.values().map(|found| found.tree());
        let paths = trees.flat_map(|tree| tree.files.iter().map(|file| tree.root.join(&file.path)).collect::<Vec<_>>());
        Self(paths.map(|path| (path.clone(), stamp(&path))).collect())
    }

    fn first_difference(self, after: &Self) -> Option<PathBuf> {
        let pairs = self.0.into_iter().zip(&after.0);
        pairs.into_iter().find(|((_, before), (_, after))| before != after).map(|((path, _), _)| path)
    }
}

impl Session<'_> {
    /// Notices an outside file that was changed, added, removed or replaced between the scan before and the end of the body.
    /// `before` was taken right before the body began.
    pub(super) fn check_sources(&self, task: &Task, before: Stamps) -> Result<(), StageError> {
        let node = &self.workflow.graph[task.node];
        for need in node.placed.sources() {
            let seen = &task.sources[&need.place];
            let now = self.scan(node, &need.place, &need.wants).map_err(StageError::failed)?;
            if let Some(path) = seen.first_difference(&now) {
                return Err(StageError::SourceChanged { path });
            }
        }
        match before.first_difference(&Stamps::of(&task.sources)) {
            Some(path) => Err(StageError::SourceChanged { path }),
            None => Ok(()),
        }
    }
}
