//! Plans and runs a graph of cached stages; knows nothing of what the stages do.

mod digest;
pub mod source;
pub mod stage;
pub mod worker;

pub use digest::Digest;
pub use stage::{
    Arity, Claims, CpuClaim, GpuClaim, Input, Inputs, Job, JobProgress, Places, Silent, Slot, Stage, StageError, Stop,
};
