//! Resource pools of a machine, and what running nodes hold of them.

use serde::{Deserialize, Serialize};

use crate::stage::{CpuDemand, Demand, GpuDemand, Spare};

/// Resource pools of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pools {
    /// Slots of the `cpu` pool; at least 1.
    pub cpu: usize,
    /// Devices of the `gpu` pool; one that is named twice serves two nodes at a time.
    pub gpus: Vec<u32>,
    /// Memory, in MiB; none when it is not limited.
    pub memory_mib: Option<u64>,
}

/// One of the pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// Slots, one per thread.
    Cpu,
    /// Devices.
    Gpu,
    /// MiB.
    Memory,
}

/// Resources that a running node holds.
#[derive(Debug, Clone, Default)]
pub struct Grant {
    /// Slots of the `cpu` pool, which is also the number of threads it may use.
    pub threads: usize,
    /// The slots that nobody holds.
    pub spare: Spare,
    /// A device of the `gpu` pool.
    pub gpu: Option<u32>,
    /// See [`Job::others`](crate::Job::others).
    pub others: Vec<Option<u32>>,
    /// Memory, in MiB.
    pub memory_mib: u64,
}

impl Grant {
    /// Returns the devices beyond the first of the `gpu` pool.
    pub(crate) fn other_gpus(&self) -> Vec<u32> {
        self.others.iter().copied().flatten().collect()
    }

    /// Returns the threads that each device has.
    pub(crate) fn threads_per_device(&self) -> usize {
        (self.threads / (1 + self.others.len())).max(1)
    }
}

/// Resources that a node needs to start. Nodes that need the same wait in one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Want {
    /// Slots of the `cpu` pool, at least 1.
    pub threads: usize,
    /// True if it takes devices of the `gpu` pool.
    pub gpu: bool,
    /// Devices, at least 1: of the `gpu` pool, or shares of the threads.
    pub devices: usize,
    /// Memory, in MiB.
    pub memory_mib: u64,
}

impl Want {
    /// Demand, cut down to what the pools hold, so that no node waits for ever.
    pub fn new(demand: Demand, pools: &Pools) -> Self {
        let gpu = demand.gpu == GpuDemand::Prefer && !pools.gpus.is_empty();
        let most = if gpu { pools.gpus.len() } else { pools.cpu };
        let devices = demand.devices.unwrap_or(1).clamp(1, most.max(1));
        let per_device = match demand.cpu {
            CpuDemand::One => 1,
            CpuDemand::All if gpu => 1,
            CpuDemand::All => pools.cpu,
            CpuDemand::Threads(number) => number,
        };
        let threads = per_device.saturating_mul(devices).clamp(1, pools.cpu);
        Self { threads, gpu, devices, memory_mib: pools.memory_mib.map_or(0, |size| demand.memory_mib.min(size)) }
    }

    /// Returns the devices of the `gpu` pool that it takes.
    pub(super) fn gpus(&self) -> usize {
        if self.gpu { self.devices } else { 0 }
    }
}

/// Free resources.
#[derive(Debug)]
pub(super) struct Free {
    cpu: usize,
    /// Free threads, for the nodes that run.
    spare: Spare,
    gpus: Vec<u32>,
    /// Devices that nodes hold.
    busy: Vec<u32>,
    memory_mib: u64,
}

/// A pool that has too little for a node.
pub(super) struct Lack {
    pub(super) pool: Pool,
    pub(super) wanted: u64,
    pub(super) free: u64,
}

impl Free {
    pub(super) fn of(pools: &Pools) -> Self {
        Self {
            cpu: pools.cpu,
            spare: Spare::of(pools.cpu),
            gpus: pools.gpus.clone(),
            busy: Vec::new(),
            memory_mib: pools.memory_mib.unwrap_or(0),
        }
    }

    pub(super) fn amounts(&self) -> Amounts {
        Amounts { cpu: self.cpu, gpus: self.gpus.len(), memory_mib: self.memory_mib }
    }

    /// The first pool that has too little, the scarcest first.
    pub(super) fn lack(&self, want: &Want) -> Option<Lack> {
        let free = self.amounts();
        if free.gpus < want.gpus() {
            return Some(Lack { pool: Pool::Gpu, wanted: want.gpus() as u64, free: free.gpus as u64 });
        }
        if free.memory_mib < want.memory_mib {
            return Some(Lack { pool: Pool::Memory, wanted: want.memory_mib, free: free.memory_mib });
        }
        let lacks_cpu = free.cpu < want.threads;
        lacks_cpu.then_some(Lack { pool: Pool::Cpu, wanted: want.threads as u64, free: free.cpu as u64 })
    }

    /// Gives out what fits.
    pub(super) fn take(&mut self, want: &Want) -> Grant {
        debug_assert!(self.lack(want).is_none());
        self.cpu -= want.threads;
        self.spare.change(-(want.threads as isize));
        self.memory_mib -= want.memory_mib;
        let mut gpus = (0..want.gpus()).map(|_| self.idlest());
        let gpu = gpus.next().flatten();
        let others = if want.gpu { gpus.collect() } else { vec![None; want.devices - 1] };
        Grant { threads: want.threads, spare: self.spare.clone(), gpu, others, memory_mib: want.memory_mib }
    }

    /// A device, the one that serves fewest nodes; among equals the first.
    fn idlest(&mut self) -> Option<u32> {
        let serves = |device: u32| self.busy.iter().filter(|busy| **busy == device).count();
        let at = (0..self.gpus.len()).min_by_key(|&at| serves(self.gpus[at]))?;
        let device = self.gpus.remove(at);
        self.busy.push(device);
        Some(device)
    }

    pub(super) fn give_back(&mut self, grant: &Grant) {
        self.cpu += grant.threads;
        self.spare.change(grant.threads as isize);
        self.memory_mib += grant.memory_mib;
        for gpu in grant.gpu.into_iter().chain(grant.other_gpus()) {
            if let Some(at) = self.busy.iter().position(|device| *device == gpu) {
                self.gpus.push(self.busy.swap_remove(at));
                self.gpus.sort_unstable();
            }
        }
    }
}

/// How much of each pool.
#[derive(Debug, Clone, Copy)]
pub(super) struct Amounts {
    pub(super) cpu: usize,
    pub(super) gpus: usize,
    pub(super) memory_mib: u64,
}

impl Amounts {
    pub(super) fn cover(&self, want: &Want) -> bool {
        self.cpu >= want.threads && self.gpus >= want.gpus() && self.memory_mib >= want.memory_mib
    }

    /// Keeps for a waiting node what must not go to a less urgent one: each pool in which it lacks something, and the scarcer
    /// ones that it has already. In the order device, memory, threads each is secured before the next, so that the node gets
    /// all of them in the end; and a node that waits for a device does not keep threads idle meanwhile.
    pub(super) fn keep_for(&mut self, want: &Want) {
        let lacks_cpu = self.cpu < want.threads;
        let lacks_memory = self.memory_mib < want.memory_mib;
        self.gpus -= want.gpus().min(self.gpus);
        if lacks_cpu || lacks_memory {
            self.memory_mib -= want.memory_mib.min(self.memory_mib);
        }
        if lacks_cpu {
            self.cpu -= want.threads.min(self.cpu);
        }
    }
}
