//! The decision about a node whose inputs are all there.

use petgraph::graph::NodeIndex;

use super::state::RunState;
use super::survey::Survey;
use super::task::Task;
use super::{Options, RunError, Runner, log_of};
use crate::Digest;
use crate::graph::Edge;
use crate::plan::{Verdict, add_inputs, base_manifest};
use crate::protocol::{InputRef, InputRefs};
use crate::stage::StageError;
use crate::store::StoreError;

/// Decision about a node whose inputs exist.
pub(super) enum Ready {
    /// It runs.
    Run(Task),
    /// It is up to date: its fingerprint and artifact.
    Known(Digest, Digest),
    /// It would have to run, and this run leaves it alone.
    LeftAlone,
    /// An artifact that it reads is not there any more.
    Damaged(Digest),
    /// It cannot run.
    Broken(StageError),
}

impl Runner<'_> {
    /// `verdict` is the plan's.
    pub(super) fn prepare(
        &self,
        index: NodeIndex,
        verdict: Option<&Verdict>,
        survey: &Survey,
        options: &Options,
        state: &mut RunState<'_>,
    ) -> Result<Ready, RunError> {
        let node = &self.workflow.graph[index];
        let mut manifest = base_manifest(node, survey.digests.get(&index));
        let digest = |edge: &Edge| self.store.part_digest(state.summary.artifacts[&edge.from], edge.part.as_deref());
        match add_inputs(&mut manifest, node, digest) {
            Ok(()) => {}
            Err(StoreError::Gone { digest }) => return Ok(Ready::Damaged(digest)),
            Err(error @ StoreError::NoPart { .. }) => return Ok(Ready::Broken(StageError::failed(error))),
            Err(error) => return Err(error.into()),
        }
        let forced = options.forced.contains(&index) && !state.made.contains(&index);
        let may_run = options.may_run(index);
        // What surely runs is looked up once more anyway, when its turn comes.
        if (!may_run || !forced && !matches!(verdict, Some(Verdict::Run(_))))
            && let Some((fingerprint, artifact)) = self.lookup(node, &manifest)?
            && (!self.store.is_away(artifact) || !self.is_end(index, &options.read) || self.store.usable(artifact, None)?)
        {
            return Ok(Ready::Known(fingerprint, artifact));
        }
        if !may_run {
            return Ok(Ready::LeftAlone);
        }
        let mut inputs = InputRefs::default();
        for edge in &node.inputs {
            let (artifact, part) = (state.summary.artifacts[&edge.from], edge.part.clone());
            let input = InputRef { artifact, part, point: edge.point.to_map(), partition: edge.partition };
            inputs.0.entry(edge.slot.to_string()).or_default().push(input);
        }
        let sources = survey.trees.get(&index).cloned().unwrap_or_default();
        state.make_log_folder()?;
        let log = log_of(self.store, state.run, node);
        Ok(Ready::Run(Task { node: index, manifest, inputs, sources, just_looked: false, log, forced, expected_secs: None }))
    }
}
