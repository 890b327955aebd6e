//! `sure node`: what a job on a cluster runs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use clap::Args;
use pipeline::Stop;
use pipeline::remote::element::Element;
use pipeline::schedule::Pools;
use pipeline::toolbox::Toolbox;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::console::say;
use crate::resources::{Given, System};
use crate::settings::own_worker;
use crate::stages::registry;

#[derive(Args)]
pub(crate) struct NodeArgs {
    /// Folder of the wave
    wave: PathBuf,
    /// Number of the element
    element: u32,
    /// Executable for neural stages
    #[arg(long, default_value = "sure-neural")]
    worker: PathBuf,
}

/// Runs one element of a wave with the resources of its allocation.
pub(crate) fn node(args: &NodeArgs) -> Result<ExitCode> {
    let system = System::real();
    let given = Given::of(&system);
    let variable = |name: &str| (system.variable)(name).unwrap_or_default();
    // Files are hashed by no more threads than the allocation has. An error says that it was settled before.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(given.cpu_limit().amount).build_global();
    let (stop, at_limit) = (Stop::default(), Arc::new(AtomicBool::new(false)));
    let mut signals = Signals::new([SIGUSR2, SIGTERM, SIGINT]).context("cannot listen for signals")?;
    let (asked, limit) = (stop.clone(), Arc::clone(&at_limit));
    std::thread::spawn(move || {
        for signal in signals.forever() {
            limit.fetch_or(signal == SIGUSR2, Ordering::Relaxed);
            asked.request();
        }
    });
    let named = variable("SLURMD_NODENAME");
    let host = if named.is_empty() { rustix::system::uname().nodename().to_string_lossy().into_owned() } else { named };
    let job = format!("{}_{}", variable("SLURM_ARRAY_JOB_ID"), variable("SLURM_ARRAY_TASK_ID"));
    say!("job {job} on {host}: cores {}; GPUs {:?} ({})", given.cpu_limit(), given.gpus.amount, given.gpus.source);
    let element = Element {
        wave: &args.wave,
        number: args.element,
        registry: &registry(&args.worker),
        own_worker: own_worker()?,
        pools: Pools { cpu: given.cpu_limit().amount, gpus: given.gpus.amount, memory_mib: None },
        toolbox: Toolbox::new(&std::env::var_os("PATH").unwrap_or_default()),
        host,
        job,
        stop,
        at_limit,
    };
    let bad = element.run()?;
    if bad > 0 {
        say!("{bad} tasks did not end well: their results say why");
    }
    Ok(ExitCode::SUCCESS) // the job did what it had to: results are files
}
