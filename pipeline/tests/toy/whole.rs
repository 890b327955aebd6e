//! Commands that do what a command of a program built on the engine does, as a whole process: for measuring from outside.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use pipeline::event::Deaf;
use pipeline::explain::explain;
use pipeline::graph::{Settings, Workflow, build};
use pipeline::plan_cache::{self, PlanKey};
use pipeline::registry::Registry;
use pipeline::run::{Machine, Options, Runner, Survey};
use pipeline::schedule::Pools;
use pipeline::source::{RecentScans, scan};
use pipeline::spec::{Spec, parse};
use pipeline::store::Store;
use pipeline::{Places, Stop};

use crate::{copies, stages};

type Answer = Result<bool, Box<dyn Error>>;

/// A workflow file, the store and the machine.
struct Setting {
    spec: Spec,
    registry: Registry,
    store: Store,
    machine: Machine,
}

impl Setting {
    fn new(workflow: &str, store: Store, books: &str) -> Result<Self, Box<dyn Error>> {
        let registry = copies::with_copies(stages::registry(&std::env::current_exe()?));
        let places = Places([("books".to_owned(), books.into())].into());
        let machine = Machine { places, pools: Pools { cpu: 2, ..Pools::default() }, ..Machine::default() };
        let spec = parse(workflow, &fs::read_to_string(workflow)?)?;
        Ok(Self { spec, registry, store, machine })
    }
    fn workflow(&self, targets: &[String]) -> Result<Workflow, Box<dyn Error>> {
        Ok(build(&self.spec, &self.registry, &Settings::new(), targets)?)
    }
    /// Surveys the sources for a plan; a current store is only read.
    fn survey(&mut self, workflow: &Workflow) -> Result<Survey, Box<dyn Error>> {
        if let Some(survey) = self.runner(workflow).survey_if_current()? {
            return Ok(survey);
        }
        if let Some(store) = self.store.reopen_for_writing() {
            self.store = store;
        }
        Ok(self.runner(workflow).survey()?)
    }
    fn runner<'a>(&'a self, workflow: &'a Workflow) -> Runner<'a> {
        let (store, machine) = (&self.store, &self.machine);
        Runner { workflow, store, machine, progress: Arc::new(Deaf), stop: Stop::default() }
    }
}

/// Brings a workflow up to date.
pub(crate) fn up(workflow: &str, store: &str, books: &str) -> Answer {
    let setting = Setting::new(workflow, Store::open(Path::new(store))?, books)?;
    let question = PlanKey::new(&setting.spec.name, setting.spec.sources.digest(), &Settings::new(), &[], "toy");
    let Setting { store, registry, machine, .. } = &setting;
    let mut scans = RecentScans::default();
    if let Some(found) = plan_cache::run_if_up_to_date(&question, ("", None), store, registry, machine, &Deaf, &mut scans)? {
        println!("{} nodes, none ran", found.nodes);
        return Ok(true);
    }
    let workflow = setting.workflow(&[])?;
    let runner = setting.runner(&workflow);
    let summary = runner.run(&Options { scans, ..Options::default() })?;
    let ran = summary.steps.iter().filter(|step| step.state == "ran").count();
    println!("{} nodes, {ran} ran", workflow.order.len());
    if summary.complete {
        plan_cache::keep(&question, &workflow, &summary.survey, &summary, store)?;
    }
    Ok(summary.complete)
}

/// Plans a workflow in full, without the shortcut of a kept answer.
pub(crate) fn plan(workflow: &str, store: &str, books: &str) -> Answer {
    let mut setting = Setting::new(workflow, Store::view(Path::new(store))?, books)?;
    let workflow = setting.workflow(&[])?;
    let survey = setting.survey(&workflow)?;
    let (reuse, run, maybe) = setting.runner(&workflow).plan(&survey, &Options::default().forced)?.counts();
    println!("reuse {reuse}, run {run}, maybe {maybe}");
    Ok(true)
}

/// Explains a node; only what it depends on is planned.
pub(crate) fn why(workflow: &str, store: &str, books: &str, node: &str) -> Answer {
    let mut setting = Setting::new(workflow, Store::view(Path::new(store))?, books)?;
    let workflow = setting.workflow(&[node.to_owned()])?;
    let survey = setting.survey(&workflow)?;
    let plan = setting.runner(&workflow).plan(&survey, &Options::default().forced)?;
    for node in workflow.find(node) {
        println!("{}", serde_json::to_string(&explain(&workflow, &plan, node, &setting.store)?)?);
    }
    Ok(true)
}

/// Looks through a tree of files as a source stage does.
pub(crate) fn look_through(root: &str, cache: &str) -> Answer {
    let begun = Instant::now();
    let (found, cost) = scan(Path::new(root), &|_| true, Path::new(cache))?;
    let (secs, digest) = (begun.elapsed().as_secs_f64(), found.digest());
    println!("{} files, {} read, {} bytes, {:.1} ms, {digest}", cost.files, cost.read, cost.bytes, secs * 1e3);
    Ok(true)
}

/// Does a command, then tells how much memory this process has taken at most.
pub(crate) fn with_peak(command: impl FnOnce() -> Answer) -> Answer {
    let answer = command()?;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(peak) = status.lines().find_map(|line| line.strip_prefix("VmHWM:")) {
        println!("peak {}", peak.trim());
    }
    Ok(answer)
}
