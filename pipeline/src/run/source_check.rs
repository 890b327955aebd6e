//! Checks that outside files stay as they are while a stage runs.

use std::collections::BTreeMap;

use super::Runner;
use super::survey::scan_name;
use super::task::{Task, Trees};
use crate::source::{RecentScans, distrust};
use crate::stage::StageError;

impl Runner<'_> {
    /// The outside trees of a node right before its body begins. What was seen while planning may be hours old.
    ///
    /// # Errors
    /// [`StageError::SourceChanged`] when a file has another content by now.
    pub(super) fn sources_before(&self, task: &Task) -> Result<Trees, StageError> {
        if task.just_looked {
            return Ok(task.sources.clone());
        }
        let now = self.look_again(task)?;
        for (place, seen) in &task.sources {
            if let Some(path) = seen.first_difference(&now[place]) {
                return Err(StageError::SourceChanged { path });
            }
        }
        Ok(now)
    }

    /// Notices an outside file that was changed, added, removed or replaced since `before`.
    ///
    /// # Errors
    /// [`StageError::SourceChanged`] when there is one.
    pub(super) fn check_sources(&self, task: &Task, before: &Trees) -> Result<(), StageError> {
        let after = self.look_again(task)?;
        let touched = before.iter().find_map(|(place, seen)| Some((place, seen.first_touched(&after[place])?)));
        let Some((place, path)) = touched else { return Ok(()) };
        if let Some(root) = self.machine.places.0.get(place) {
            let name = scan_name(&self.workflow.graph[task.node], place);
            distrust(root, &self.store.stat_cache(&name, root), &path);
        }
        Err(StageError::SourceChanged { path })
    }

    fn look_again(&self, task: &Task) -> Result<Trees, StageError> {
        let node = &self.workflow.graph[task.node];
        let mut trees = BTreeMap::new();
        for need in node.placed.sources() {
            let tree = self.scan(node, &need, &mut RecentScans::default()).map_err(StageError::failed)?;
            trees.insert(need.place, tree);
        }
        Ok(trees)
    }
}
