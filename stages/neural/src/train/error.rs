//! Errors of a training.

/// A training that cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// Loss or gradient is not finite.
    #[error("step {step} gave loss {loss} and gradient norm {norm} on utterances {}", ids.join(", "))]
    NotFinite {
        /// The update, counted from 1.
        step: u64,
        /// Loss of the update.
        loss: f32,
        /// Norm of its gradient.
        norm: f32,
        /// Utterances of the update.
        ids: Vec<String>,
    },
    /// The head learns another kind of task.
    #[error("{head} cannot learn {task}")]
    OtherHead {
        /// Kind of the head.
        head: &'static str,
        /// The task.
        task: &'static str,
    },
    /// The phases of AdaLoRA fill the training.
    #[error("`tinit` and `tfinal` of `adalora` leave no update of {total} in which ranks are dropped")]
    Phases {
        /// Updates of the training.
        total: u64,
    },
    /// A process that computes on another device cannot go on.
    #[error("{device} of this training {how}")]
    Device {
        /// The device.
        device: String,
        /// End of the process, as the rest of the sentence.
        how: String,
    },
    /// A device of the `gpu` pool that libtorch cannot use.
    #[error("libtorch cannot use device {0} of the gpu pool, and the training was given it beside another")]
    Unusable(u32),
    /// The best point is to be chosen by what the task does not measure.
    #[error("metric `{metric}` is not measured for this head: choose {}", measured.join(", "))]
    NotMeasured {
        /// The metric that was asked for.
        metric: &'static str,
        /// Metrics that are measured.
        measured: Vec<&'static str>,
    },
}
