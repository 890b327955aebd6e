//! Executors: where the body of a stage runs.
//!
//! [`Executor`] is the one way in which the engine calls a body. An executor neither plans nor publishes: it gets inputs and an empty
//! folder, and returns when the body has ended.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::protocol::{FORMAT, InputRefs, Request, Site};
use crate::registry::{Kind, Placed};
use crate::source::Tree;
use crate::stage::{Job, JobProgress, Spare, StageError, Stop};

mod detached;
mod in_process;
mod worker;

pub use detached::Detached;
pub use in_process::InProcess;
pub(crate) use worker::result_of_failure;
pub use worker::{WorkerError, WorkerProcess};

/// A place where bodies run.
pub trait Executor {
    /// Runs a body until it has ended.
    ///
    /// # Errors
    /// That of the body, or of the executor when the body could not run or did not end by itself.
    fn execute(&self, call: Call<'_>) -> Result<(), StageError>;
}

/// Call of a body.
pub struct Call<'a> {
    /// Stage kind.
    pub kind: &'a Kind,
    /// Stage with its parameters.
    pub placed: &'a dyn Placed,
    /// Inputs by digest.
    pub inputs: &'a InputRefs,
    /// See [`Job::sources`].
    pub sources: BTreeMap<String, Arc<Tree>>,
    /// See [`Job::partition`].
    pub partition: Option<u32>,
    /// Paths and resources of this machine.
    pub site: Site,
    /// See [`Job::spare`].
    pub spare: Spare,
    /// Listener for the progress of the body.
    pub progress: Box<dyn JobProgress>,
    /// Request to end early.
    pub stop: Stop,
    /// Log of the node.
    pub log: &'a Path,
    /// Time from a request to stop until the body is ended by force, where that is possible.
    pub grace: Duration,
}

impl Call<'_> {
    /// Returns the call as plain data, for another process.
    pub fn request(&self) -> Request {
        Request {
            format: FORMAT,
            kind: self.kind.name.to_owned(),
            version: self.kind.version,
            environment: self.placed.environment().into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            params: self.placed.params().clone(),
            inputs: self.inputs.clone(),
            sources: self.sources.clone(),
            partition: self.partition,
            site: self.site.clone(),
        }
    }

    /// Returns the call as the job that a body takes in this process.
    fn into_job(self) -> Job {
        self.site.into_job(self.inputs, self.sources, self.partition, self.spare, self.progress, self.stop)
    }
}
