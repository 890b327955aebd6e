//! Plans and runs a graph of cached stages; knows nothing of what the stages do.

pub mod compare;
mod digest;
pub mod duration;
pub mod event;
pub mod executor;
pub mod explain;
pub mod graph;
mod host;
pub mod limits;
pub mod manifest;
pub mod mistake;
pub mod plan;
pub mod plan_cache;
pub mod protocol;
pub mod records;
pub mod registry;
pub mod remote;
pub mod run;
pub mod schedule;
pub mod shared;
pub mod source;
pub mod spec;
pub mod stage;
pub mod store;
pub mod text;
pub mod toolbox;
pub mod worker;

pub use digest::Digest;
pub use stage::{
    Arity, Borrowed, CpuDemand, Demand, FoundTool, GpuDemand, Input, Inputs, Job, JobProgress, Places, Silent, Slot, Spare,
    Stage, StageError, Stop, Tool, Tools,
};
