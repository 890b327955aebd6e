//! Parts of a micro batch, computed side by side on the cores of a CPU.
//!
//! A small step leaves most of what a second thread could do inside one operation undone. So the utterances of a micro batch are
//! shared out among copies of the model, which read the same values and have gradients of their own; these are added up in a fixed
//! order. What comes out depends on the number of parts, and not on how many threads compute them.

use std::panic::resume_unwind;
use std::thread;

use tch::{TchError, Tensor};

use super::optimizer::Parameters;
use crate::device::use_threads;
use crate::error::ModelError;

/// A copy of a model that computes a part of each micro batch.
pub trait Replica: Send {
    /// Input and targets of one pass.
    type Batch;

    /// Returns the trained tensors, by name, with the names and shapes of those of the model. They are handles.
    fn trainable(&self) -> Vec<(String, Tensor)>;

    /// Goes forward and backward; returns the losses of the utterances, added up and divided by `count`. The gradient of that
    /// adds up in what is trained. All noise follows from `seed`.
    fn learn(&mut self, batch: &Self::Batch, count: f64, seed: u64) -> Result<Tensor, ModelError>;
}

/// A replica of a model whose batches are `B`.
pub type BoxedReplica<B> = Box<dyn Replica<Batch = B>>;

/// The replicas of a model, each with its gradient. (P)
pub(super) struct SideBySide<B> {
    replicas: Vec<(BoxedReplica<B>, Tensor)>,
    threads: usize,
}

impl<B: Send> SideBySide<B> {
    /// Lets the replicas read the values of the parameters; they will compute in so many threads.
    ///
    /// Errors: what libtorch reports.
    pub(super) fn new(replicas: Vec<BoxedReplica<B>>, parameters: &Parameters, threads: usize) -> Result<Self, TchError> {
        let attach = |replica: BoxedReplica<B>| parameters.attach(&replica.trainable()).map(|gradient| (replica, gradient));
        Ok(Self { replicas: replicas.into_iter().map(attach).collect::<Result<_, _>>()?, threads: threads.max(1) })
    }

    /// Rows of each part of a micro batch: all of them where there are no replicas.
    pub(super) fn parts(&self, rows: &[usize]) -> Vec<Vec<usize>> {
        let largest = rows.len().div_ceil(self.replicas.len().max(1)).max(1);
        rows.chunks(largest).map(<[usize]>::to_vec).collect()
    }

    /// True if micro batches are computed in parts.
    pub(super) fn is_used(&self) -> bool {
        !self.replicas.is_empty()
    }

    /// Lets a replica learn from each part, with its seed. Returns their losses, in order, each with the gradient, which must be zero again before
    /// the next call.
    pub(super) fn learn(&mut self, parts: Vec<(B, u64)>, count: f64) -> Vec<(Result<Tensor, ModelError>, &mut Tensor)> {
        let share = parts.len().div_ceil(self.threads).max(1);
        let mut work: Vec<_> = self.replicas.iter_mut().map(|(replica, _)| replica).zip(parts).collect();
        let learn = |share: &mut [(&mut BoxedReplica<B>, (B, u64))]| -> Vec<Result<Tensor, ModelError>> {
            share.iter_mut().map(|(replica, (batch, seed))| replica.learn(batch, count, *seed)).collect()
        };
        use_threads(1); // in one operation, for the threads that begin now, too
        let losses = thread::scope(|scope| {
            let mut shares = work.chunks_mut(share);
            let first = shares.next();
            let others: Vec<_> = shares.map(|share| scope.spawn(|| learn(share))).collect();
            let mut losses = first.map(learn).unwrap_or_default();
            for other in others {
                losses.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
            }
            losses
        });
        use_threads(self.threads);
        losses.into_iter().zip(self.replicas.iter_mut().map(|(_, gradient)| gradient)).collect()
    }
}
