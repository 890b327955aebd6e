//! Results and runs of a store.

use std::collections::HashMap;
use std::fs;

use super::access::RESERVE;
use super::{Store, StoreError};
use crate::Digest;
use crate::records::{Member, ResultId, ResultRecord, RunRow, Step};

impl Store {
    /// Returns a result by its number.
    ///
    /// # Errors
    /// [`StoreError::Records`]
    pub fn result(&self, id: ResultId) -> Result<Option<ResultRecord>, StoreError> {
        self.records.ask(|index| index.result(id))
    }

    /// Returns the number of the result of a fingerprint.
    ///
    /// # Errors
    /// [`StoreError::Records`]
    pub fn result_of(&self, fingerprint: Digest) -> Result<Option<ResultId>, StoreError> {
        self.records.ask(|index| index.result_of(fingerprint))
    }

    /// Notes the fingerprints that nodes (`workflow:node`) have in this run without having run.
    ///
    /// # Errors
    /// [`StoreError::Records`]
    pub fn note_reused(&self, nodes: &[(String, Digest)]) -> Result<(), StoreError> {
        let mut results = Vec::with_capacity(nodes.len());
        for (node, fingerprint) in nodes {
            let found = self.found.lock().expect("no holder of this lock panics").get(fingerprint).copied();
            let result = found.map_or_else(|| self.result_of(*fingerprint), |result| Ok(Some(result)))?;
            results.extend(result.map(|result| (node.clone(), result)));
        }
        self.records.ask(|index| index.note_reused(&results))
    }

    /// Returns the last result of a node (`workflow:node`), and the one before.
    ///
    /// # Errors
    /// [`StoreError::Records`]
    pub fn latest(&self, node: &str) -> Result<Option<(ResultId, Option<ResultId>)>, StoreError> {
        self.records.ask(|index| index.latest(node))
    }

    /// Returns the last result that a node (`workflow:node`) made before another one.
    ///
    /// # Errors
    /// [`StoreError::Records`]
    pub fn result_before(&self, node: &str, result: ResultId) -> Result<Option<ResultId>, StoreError> {
        self.records.ask(|index| index.result_before(node, result))
    }

    /// Returns the number of the run that made a result; none when it was made while planning, or the run is not known.
    ///
    /// # Errors
    /// [`StoreError::Records`]
    pub fn run_of(&self, result: ResultId) -> Result<Option<i64>, StoreError> {
        self.records.ask(|index| index.run_of(result))
    }

    /// Returns the duration of each node (`workflow:node`) of a workflow when it last ran, in seconds.
    ///
    /// # Errors
    /// [`StoreError::Records`]
    pub fn durations(&self, workflow: &str) -> Result<HashMap<String, f64>, StoreError> {
        self.records.ask(|index| index.durations(workflow))
    }

    /// Returns a number that changes whenever a node of the workflow has another result than before.
    ///
    /// # Errors
    /// [`StoreError::Records`]
    pub fn generation(&self, workflow: &str) -> Result<i64, StoreError> {
        self.records.ask(|index| index.generation(workflow))
    }

    /// Records the begin of a run. Returns its number.
    ///
    /// # Errors
    /// [`StoreError::Records`]
    pub fn begin_run(
        &self,
        workflow: &str,
        request: &str,
        project: Option<&str>,
        host: &str,
        started_ms: i64,
    ) -> Result<i64, StoreError> {
        self.records.ask(|index| index.begin_run(workflow, request, project, host, started_ms))
    }

    /// Brings what a run made to the disk and records its end.
    ///
    /// # Errors
    /// [`StoreError`] when the disk or the records cannot be written.
    pub fn end_run(&self, run: i64, outcome: &str, steps: &[Step], ended_ms: i64) -> Result<(), StoreError> {
        let end = || {
            self.flush()?;
            self.records.ask(|index| index.end_run(run, outcome, steps, ended_ms))
        };
        match end() {
            // The end of a run must be recorded on a full disk, too.
            Err(error) if error.is_full() && fs::remove_file(self.root.join(RESERVE)).is_ok() => end(),
            ended => ended,
        }
    }

    /// Records the end of a run that found everything as the run before it of the same workflow left it.
    ///
    /// # Errors
    /// [`StoreError::Records`]
    pub fn end_same(&self, run: i64, ended_ms: i64) -> Result<(), StoreError> {
        self.records.ask(|index| index.end_same(run, ended_ms))
    }

    /// Returns the latest runs, newest first.
    ///
    /// # Errors
    /// [`StoreError::Records`]
    pub fn runs(&self, limit: usize) -> Result<Vec<RunRow>, StoreError> {
        self.records.ask(|index| index.runs(limit))
    }

    /// Returns a run by its number.
    ///
    /// # Errors
    /// [`StoreError::Records`]
    pub fn run(&self, run: i64) -> Result<Option<RunRow>, StoreError> {
        self.records.ask(|index| index.run(run))
    }

    /// Returns the nodes of a run that did not simply stay as they were.
    ///
    /// # Errors
    /// [`StoreError::Records`]
    pub fn steps(&self, run: i64) -> Result<Vec<Step>, StoreError> {
        let mut steps = self.records.ask(|index| index.steps(run))?;
        for step in steps.iter_mut().filter(|step| step.attempts > 0) {
            let id = step.node.split_once(':').map_or(step.node.as_str(), |(_, id)| id);
            step.log = Some(self.log_path(run, id));
        }
        Ok(steps)
    }

    /// Returns the nodes that were up to date at the end of a run, with their results, by name.
    ///
    /// # Errors
    /// [`StoreError::Records`]
    pub fn members(&self, run: i64) -> Result<Vec<Member>, StoreError> {
        self.records.ask(|index| index.members(run))
    }
}
