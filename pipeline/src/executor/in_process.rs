//! Executor that runs a body on the calling thread.

use super::{Call, Executor};
use crate::stage::StageError;

/// Runs bodies in this process, on the calling thread. A body that ends the process ends the run.
#[derive(Debug, Clone, Copy)]
pub struct InProcess;

impl Executor for InProcess {
    fn execute(&self, call: Call<'_>) -> Result<(), StageError> {
        let placed = call.placed;
        placed.run_here(&call.into_job()).expect("a kind without a worker program has its body in this process")
    }
}
