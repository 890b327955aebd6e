//! The toy program on a cluster: the controller, and the element on a compute node.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pipeline::event::{Event, Progress};
use pipeline::registry::WorkerProgram;
use pipeline::remote::element::Element;
use pipeline::remote::slurm::Slurm;
use pipeline::remote::{Options, Remote};
use pipeline::run::{Machine, Options as RunOptions, Runner};
use pipeline::schedule::Pools;
use pipeline::store::{Store, share_objects, store_id};
use pipeline::toolbox::Toolbox;
use pipeline::{Places, Stop};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::{Lines, graph, stages};

/// Where a run on a cluster takes place.
pub(crate) struct Place<'a> {
    pub(crate) workflow: &'a str,
    pub(crate) store: &'a str,
    pub(crate) books: &'a str,
    pub(crate) ledger: &'a str,
    pub(crate) folder: &'a str,
    pub(crate) delay: &'a str,
    pub(crate) extra: &'a [&'a str],
}

/// Prints what ended, and on standard error all else.
struct Loud;

impl Progress for Loud {
    fn event(&self, event: &Event) {
        match event {
            Event::Cluster { line, .. } => eprintln!("{line}"),
            Event::Note { node, line } => eprintln!("{node}: {line}"),
            Event::NodeFinished { node, outcome: pipeline::event::Outcome::Failed { chain, hint, .. }, .. } => {
                eprintln!("{node}: {}; hint: {}", chain.join(": "), hint.as_deref().unwrap_or("none"));
            }
            _ => {}
        }
        Lines.event(event);
    }
}

#[expect(clippy::disallowed_methods, reason = "jobs get the environment of this program")]
pub(crate) fn drive(place: &Place<'_>) -> Result<bool, Box<dyn Error>> {
    let workflow = graph(&std::fs::read_to_string(place.workflow)?)?;
    let folder = std::path::absolute(place.folder)?;
    let id = store_id(Path::new(place.store))?;
    share_objects(Path::new(place.store), &folder.join(id).join("objects"))?;
    let store = Store::open(Path::new(place.store))?;
    let places = [("books", place.books), ("ledger", place.ledger)].map(|(name, path)| (name.to_owned(), PathBuf::from(path)));
    let (gpu, cancel) = (place.extra.contains(&"--gres"), std::env::var("TOY_CANCEL").is_ok());
    let time = std::env::var("TOY_TIME").ok().map(|secs| secs.parse()).transpose()?.map(Duration::from_secs);
    let extra = place.extra.iter().filter(|option| **option != "--gres").map(ToString::to_string).collect();
    let slurm = Slurm {
        gres: gpu.then(|| "gpu:1".to_owned()),
        time,
        extra,
        environment: std::env::vars_os().collect(),
        ..Slurm::default()
    };
    let options = Options {
        folder,
        program: std::env::current_exe()?,
        arguments: vec!["node".to_owned()],
        cpus: 1,
        gpu,
        memory_mib: 100,
        places: Places::default(),
        max_running: None,
        max_array: None,
        max_tasks: std::env::var("TOY_ALONE").ok().map(|_| 1),
        result_delay: Duration::from_secs_f64(place.delay.parse()?),
        verify_all: false,
        cancel,
    };
    let machine = Machine {
        places: Places(places.into()),
        pools: Pools { cpu: 2, ..Pools::default() },
        host: "here".to_owned(),
        remote: Some(Remote { cluster: Arc::new(slurm), options }),
        ..Machine::default()
    };
    let stop = Stop::default();
    let asked = stop.clone();
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || signals.forever().for_each(|_| asked.request()));
    let runner = Runner { workflow: &workflow, store: &store, machine: &machine, progress: Arc::new(Loud), stop };
    Ok(runner.run(&RunOptions { keep_going: true, ..RunOptions::default() })?.complete)
}

#[expect(clippy::disallowed_methods, reason = "Slurm tells an element by variables what it is")]
pub(crate) fn node(wave: &str, element: &str) -> Result<bool, Box<dyn Error>> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let (stop, at_limit) = (Stop::default(), Arc::new(AtomicBool::new(false)));
    let mut signals = Signals::new([SIGUSR2, SIGTERM, SIGINT])?;
    let (asked, limit) = (stop.clone(), Arc::clone(&at_limit));
    std::thread::spawn(move || {
        for signal in signals.forever() {
            limit.fetch_or(signal == SIGUSR2, Ordering::Relaxed);
            asked.request();
        }
    });
    let program = std::env::current_exe()?;
    let element = Element {
        wave: Path::new(wave),
        number: element.parse()?,
        registry: &stages::registry(&program),
        own_worker: WorkerProgram::from(program.clone()),
        pools: Pools { cpu: variable("SLURM_CPUS_PER_TASK").parse().unwrap_or(1), gpus: vec![], memory_mib: None },
        toolbox: Toolbox::new(&std::env::var_os("PATH").unwrap_or_default()),
        host: variable("SLURMD_NODENAME"),
        job: format!("{}_{}", variable("SLURM_ARRAY_JOB_ID"), variable("SLURM_ARRAY_TASK_ID")),
        stop,
        at_limit,
    };
    Ok(element.run()? == 0)
}
