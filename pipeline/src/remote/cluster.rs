//! Interface to a cluster: six calls.

use std::fmt::Debug;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A cluster that runs arrays of jobs.
pub trait Cluster: Send + Sync + Debug {
    /// Submits an array and returns its job id.
    ///
    /// # Errors
    /// [`SubmitError`]
    fn submit(&self, job: &ArrayJob<'_>) -> Result<String, SubmitError>;

    /// Returns every element of the arrays with these names that the cluster knows, ended ones included.
    ///
    /// # Errors
    /// [`ClusterError`] when the cluster gave no answer that can be read: that says nothing about the jobs.
    fn look(&self, names: &[String]) -> Result<Vec<Seen>, ClusterError>;

    /// Cancels elements of an array.
    ///
    /// # Errors
    /// [`ClusterError`]
    fn cancel(&self, job: &str, elements: &[u32]) -> Result<(), ClusterError>;

    /// Returns the limits of the cluster.
    ///
    /// # Errors
    /// [`ClusterError`]
    fn limits(&self) -> Result<ClusterLimits, ClusterError>;

    /// Asks whether the cluster would take a job with such claims, without submitting it.
    ///
    /// # Errors
    /// [`ClusterError`] with the cluster's objection.
    fn check(&self, class: Class) -> Result<(), ClusterError>;

    /// Returns name and version of the cluster's software.
    ///
    /// # Errors
    /// [`ClusterError`]
    fn version(&self) -> Result<String, ClusterError>;
}

/// An array of jobs.
#[derive(Debug)]
pub struct ArrayJob<'a> {
    /// Unique name.
    pub name: &'a str,
    /// Number of elements.
    pub elements: u32,
    /// What each element claims.
    pub class: Class,
    /// Hosts on which it must not run.
    pub exclude: &'a [String],
    /// Most elements that run at once.
    pub max_running: Option<u32>,
    /// Script of an element; the element's number is in the environment.
    pub script: &'a Path,
    /// Folder for the output of the elements, one file each.
    pub logs: &'a Path,
}

/// Claims of a task, which are those of its element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Class {
    /// Cores.
    pub threads: usize,
    /// True if it takes a GPU.
    pub gpu: bool,
    /// Memory, in MiB.
    pub memory_mib: u64,
}

/// An array that was not submitted, or perhaps was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// A limit on the number of jobs: fewer elements, or later.
    #[error("{0}")]
    TooMany(String),
    /// The cluster will not take such a job.
    #[error("{0}")]
    Refused(String),
    /// The cluster did not answer, or not clearly. The array may have been submitted.
    #[error("{0}")]
    Unclear(String),
}

/// A call that gave no answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("`{command}` {problem}")]
pub struct ClusterError {
    /// The program that was called.
    pub command: String,
    /// What went wrong.
    pub problem: String,
}

/// An element as the cluster sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Name of the array.
    pub name: String,
    /// Job id of the array.
    pub job: String,
    /// Number of the element.
    pub element: u32,
    /// State.
    pub state: State,
    /// State in the cluster's own word.
    pub word: String,
    /// Reason for the state in the cluster's own word; may be empty.
    pub reason: String,
    /// Host; empty before it runs.
    pub host: String,
}

/// State of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It waits.
    Queued,
    /// It runs, or is about to begin or end.
    Running,
    /// It has ended.
    Ended(EndClass),
    /// A word that this program does not know.
    Unknown,
}

/// How an element ended, as the cluster sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndClass {
    /// With exit code 0.
    Completed,
    /// With another exit code or a signal, or it could not be launched.
    Failed,
    /// At its time limit.
    TimedOut,
    /// Out of memory.
    OutOfMemory,
    /// Its host failed.
    HostFailed,
    /// To make room for another job.
    Preempted,
    /// Somebody cancelled it.
    Cancelled,
}

/// Limits of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterLimits {
    /// Most elements of an array.
    pub max_array: u32,
    /// Seconds for which ended jobs are remembered.
    pub min_job_age_secs: u64,
}
