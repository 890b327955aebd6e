//! Nodes on a cluster: waves of ready nodes become job arrays, and each element of an array runs its tasks with the ordinary executors.
//!
//! The cluster is a transport. The controller (a `sure run`) writes the intent of a wave to a shared folder before it submits the
//! array; an element writes the result of each task there, and only these files count. What the queue of the cluster says is a hint:
//! it explains a wait, and it says when to stop waiting for a result. See [`exchange`] for the files, [`element`] for the side of the
//! compute node, [`cluster`] for what is asked of a cluster, and [`slurm`] for how Slurm answers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::Places;
use crate::schedule::{Pools, Want};
use crate::stage::{CpuDemand, Demand};

pub mod cluster;
mod command;
pub mod element;
pub mod exchange;
pub mod slurm;
mod states;

use cluster::{Class, Cluster};

/// A cluster, and how nodes run there.
#[derive(Debug, Clone)]
pub struct Remote {
    /// The cluster.
    pub cluster: Arc<dyn Cluster>,
    /// How nodes run there.
    pub options: Options,
}

/// How nodes run on a cluster.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder that this machine and the compute nodes share.
    pub folder: PathBuf,
    /// This program; elements run a copy of it.
    pub program: PathBuf,
    /// Arguments that make the program run an element; the wave's folder and the element's number follow.
    pub arguments: Vec<String>,
    /// Cores of a stage that uses all it gets.
    pub cpus: usize,
    /// True if stages that prefer a GPU get one.
    pub gpu: bool,
    /// Least memory of an element, in MiB.
    pub memory_mib: u64,
    /// Folders of places on the compute nodes, where they differ from those of this machine.
    pub places: Places,
    /// Most elements of an array that run at once.
    pub max_running: Option<u32>,
    /// Most elements of one array.
    pub max_array: Option<u32>,
    /// Most tasks of one element.
    pub max_tasks: Option<u32>,
    /// Longest time until a result that a compute node has written is seen here.
    pub result_delay: Duration,
    /// True if every byte of a result is hashed here; otherwise small files and a sample of the large ones.
    pub verify_all: bool,
    /// True if a run that stops cancels its jobs; otherwise the next run takes them over.
    pub cancel: bool,
}

impl Options {
    /// Returns what a task claims of a compute node, where it has one device.
    pub(crate) fn class(&self, demand: Demand) -> Class {
        let demand = Demand { devices: None, ..demand };
        let asked = if let CpuDemand::Threads(threads) = demand.cpu { threads } else { 1 };
        let pools = Pools { cpu: self.cpus.max(asked), gpus: if self.gpu { vec![0] } else { vec![] }, memory_mib: None };
        let Want { threads, gpu, .. } = Want::new(demand, &pools);
        Class { threads, gpu, memory_mib: demand.memory_mib.max(self.memory_mib) }
    }
}
