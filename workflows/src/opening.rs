//! Common beginning of most commands: the workflow, the store and the machine.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use neural_spec::{Evaluate, Train};
use petgraph::Direction;
use petgraph::graph::NodeIndex;
use pipeline::event::{Deaf, Progress};
use pipeline::graph::{Workflow, build};
use pipeline::mistake::suggest;
use pipeline::plan_cache::PlanKey;
use pipeline::records::RunRow;
use pipeline::registry::Registry;
use pipeline::run::{RunError, Runner, Survey};
use pipeline::source::ScanError;
use pipeline::spec::Spec;
use pipeline::store::{Store, StoreError};
use pipeline::{Digest, Places, Stage, Stop};
use serde::{Deserialize, Serialize};

use crate::cli::{Place, Target};
use crate::console::say;
use crate::library;
use crate::overrides;
use crate::problem::{problem, show};
use crate::settings::{Settings, checkpoint_name, no_run};
use crate::stages::registry;

/// Access to the store that a command needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// To make results.
    Write,
    /// To read, or to plan (see [`Opening::survey`]).
    Read,
}

/// Opens the store. Repairs and damage are reported on standard error.
pub(crate) fn open_store(settings: &Settings, access: Access) -> Result<Store> {
    if let (Access::Write, Some(remote)) = (access, &settings.machine.remote) {
        crate::cluster::share_store(remote, &settings.store)?;
    }
    let opened = match access {
        Access::Write => Store::open(&settings.store),
        Access::Read => Store::view(&settings.store),
    };
    let store = opened.map_err(store_problem)?;
    // Commands that only read plan as a run does; those that make results otherwise than `sure run` read all from this machine.
    store.count_away(access == Access::Read && settings.cache.is_some());
    report_notices(&store);
    Ok(store)
}

/// Reports repairs of the store, each once: several steps of a command may open it.
pub(crate) fn report_notices(store: &Store) {
    static REPORTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut reported = REPORTED.lock().unwrap_or_else(PoisonError::into_inner);
    for notice in store.notices() {
        if !reported.contains(&notice) {
            say!("warning: {notice}");
            reported.insert(notice);
        }
    }
}

/// An error of the store with its hint.
pub(crate) fn store_problem(error: StoreError) -> anyhow::Error {
    match error.hint() {
        Some(hint) => {
            let chain: Vec<String> = anyhow::Chain::new(&error).map(ToString::to_string).collect();
            problem(chain.join(": "), hint)
        }
        None => error.into(),
    }
}

/// Request of a command with its machine, before a graph is built of it.
pub(crate) struct Asking {
    pub(crate) settings: Settings,
    pub(crate) registry: Registry,
    pub(crate) store: Store,
    /// Request, for the record of runs.
    pub(crate) request: Request,
    spec: Spec,
}

/// A workflow with all it runs on.
pub(crate) struct Opening {
    pub(crate) settings: Settings,
    pub(crate) workflow: Workflow,
    pub(crate) store: Store,
    /// Request, for the record of runs.
    pub(crate) request: Request,
    /// Key of the request in the plan cache.
    pub(crate) question: PlanKey,
    /// Digest of the text of the workflow file, with all that it includes.
    pub(crate) text: Digest,
    /// Corpora whose cells are left out.
    pub(crate) left_out: LeftOut,
    /// The store for writing, with the shared cache, once an artifact that was left there is read.
    #[cfg(feature = "cache")]
    pub(crate) bringing: std::cell::OnceCell<Option<Store>>,
}

/// Request of a command, as the record of runs keeps it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) workflow: String,
    pub(crate) set: BTreeMap<String, Vec<String>>,
    pub(crate) targets: Vec<String>,
    /// True if a sweep may have many points.
    #[serde(default)]
    pub(crate) large: bool,
    /// Checkpoints of `--checkpoint`, folders in full.
    #[serde(default)]
    pub(crate) checkpoints: Vec<String>,
    /// Corpus folders given on the command line, so that `why` finds them again.
    #[serde(default)]
    pub(crate) corpora: Places,
}

impl Request {
    fn asks_for_front(&self) -> bool {
        self.set.get("front").is_some_and(|values| values.iter().any(|value| value == "cached"))
    }
}

impl Asking {
    pub(crate) fn new(target: &Target, access: Access) -> Result<Self> {
        let mut settings = Settings::load(&target.place.machine, &target.place.corpus)?;
        let set = overrides::given(&target.place)?;
        let here = std::env::current_dir().context("cannot find the current folder")?;
        let mut checkpoints = vec![];
        for (at, given) in target.place.checkpoint.iter().enumerate() {
            let name = checkpoint_name(given);
            if let Some(other) = target.place.checkpoint[..at].iter().find(|other| checkpoint_name(other) == name) {
                let message = format!("--checkpoint {other} and --checkpoint {given} would both be called `{name}` in the table");
                return Err(problem(message, "leave one out, or give it a name of its own below `[checkpoints]` in sure.toml"));
            }
            checkpoints.push(settings.add_checkpoint(given, &here)?);
        }
        let folder = |name: &String| settings.machine.places.0[&format!("corpora.{name}")].clone();
        let corpora = Places(target.place.corpus.iter().map(|(name, _)| (name.clone(), folder(name))).collect());
        let (workflow, first) = workflow_and_target(&target.workflow);
        let targets = first.into_iter().chain(target.targets.iter().map(String::as_str)).map(str::to_owned).collect();
        let large = target.place.yes;
        let request = Request { workflow: workflow.to_owned(), set, targets, large, checkpoints, corpora };
        Self::with(settings, request, access)
    }

    fn with(settings: Settings, request: Request, access: Access) -> Result<Self> {
        settings.check_corpora()?;
        let spec = if request.checkpoints.is_empty() {
            library::find(&request.workflow)?
        } else {
            let names: Vec<String> = request.checkpoints.iter().map(|given| checkpoint_name(given)).collect();
            library::find_with(&request.workflow, &names)?
        };
        let registry = registry(&settings.worker);
        let store = open_store(&settings, access)?;
        Ok(Self { settings, registry, store, request, spec })
    }

    /// Returns the key of the request in the plan cache.
    pub(crate) fn question(&self) -> PlanKey {
        let tools = self.registry.kinds().flat_map(|kind| &kind.tools).map(|tool| self.settings.machine.toolbox.identity(tool));
        let program = std::iter::once(program()).chain(tools).chain(self.absent()).collect::<Vec<_>>().join("\n");
        PlanKey::new(&self.spec.name, self.spec.sources.digest(), &self.request.set, &self.request.targets, &program)
    }

    /// True if stored convolutions were asked for.
    pub(crate) fn asks_for_front(&self) -> bool {
        self.request.asks_for_front()
    }

    /// Corpora of a matrix line `corpus` that are not on this machine.
    fn absent(&self) -> Vec<String> {
        let line = self.spec.axes.iter().find(|axis| axis.matrix && axis.name.value == CORPUS);
        let all = line.into_iter().flat_map(|line| &line.values).filter_map(|value| Some(value.as_str()?.to_owned()));
        all.filter(|name| datasets::find(name).is_some() && self.settings.lacks(&format!("corpora.{name}"))).collect()
    }

    /// Finds the corpora whose cells are left out, for a request that was answered without its graph.
    pub(crate) fn left_out(&self) -> Result<LeftOut> {
        if self.absent().is_empty() {
            return Ok(LeftOut::default());
        }
        let mut spec = self.spec.clone();
        let axes = overrides::apply(&mut spec, &self.registry, &self.request.set, self.request.large)?;
        Ok(LeftOut::find(&spec, &build(&spec, &self.registry, &axes, &self.request.targets)?, &self.settings))
    }

    /// Finds the workflow of a node: the one that the text names, else that of the last run with its settings.
    fn of_node(node: &str, place: &Place, access: Access) -> Result<(Self, String)> {
        if let (workflow, Some(node)) = workflow_and_target(node) {
            let target = Target { workflow: workflow.to_owned(), targets: vec![], place: place.clone() };
            return Ok((Self::new(&target, access)?, node.to_owned()));
        }
        let settings = Settings::load(&place.machine, &place.corpus)?;
        let store = open_store(&settings, Access::Read)?;
        // Other projects may share the store.
        let Some(last) = store.runs(1_000)?.into_iter().find(|row| settings.is_ours(row)) else {
            return Err(no_run(&store, format!("name the workflow too: `sure why keyword_spotting:{node}`")));
        };
        drop(store);
        Ok((as_in(&last, place, access)?, node.to_owned()))
    }

    /// Asks for a node and what it depends on, and no more: that is all an explanation needs. When no stage has such a name it asks
    /// for everything, so that whoever looks for the node can say which names are near.
    fn only(mut self, node: &str) -> Self {
        let stage = node.split(['[', '#']).next().unwrap_or(node);
        let is_known = self.spec.stages.iter().any(|known| known.name.value == stage);
        self.request.targets = if is_known { vec![node.to_owned()] } else { vec![] };
        self
    }

    /// Builds the graph.
    pub(crate) fn open(self) -> Result<Opening> {
        let (question, text) = (self.question(), self.spec.sources.digest());
        let Self { settings, registry, store, request, mut spec } = self;
        let mut axes = overrides::apply(&mut spec, &registry, &request.set, request.large)?;
        let mut workflow = build(&spec, &registry, &axes, &request.targets)?;
        let left_out = LeftOut::find(&spec, &workflow, &settings);
        if !left_out.corpora.is_empty() {
            axes.insert(CORPUS.to_owned(), left_out.rest.clone());
            workflow = build(&spec, &registry, &axes, &request.targets)?;
        }
        for need in workflow.order.iter().flat_map(|node| workflow.graph[*node].placed.sources()) {
            settings.check_place(&need.place)?;
        }
        crate::spectrograms::check(&workflow)?;
        Ok(Opening {
            settings,
            workflow,
            store,
            request,
            question,
            text,
            left_out,
            #[cfg(feature = "cache")]
            bringing: std::cell::OnceCell::new(),
        })
    }
}

/// Corpora of the matrix line `corpus` whose cells are left out, because this machine lacks a corpus that they need.
#[derive(Debug, Default)]
pub(crate) struct LeftOut {
    /// Values of the line that are left out.
    pub(crate) corpora: Vec<String>,
    /// Corpora that this machine lacks, by name.
    pub(crate) lacking: Vec<String>,
    /// Values of the line that remain.
    rest: Vec<String>,
}

impl LeftOut {
    /// Finds them in a graph. Where every cell lacks something, none is left out: the error that follows says what is missing.
    fn find(spec: &Spec, workflow: &Workflow, settings: &Settings) -> Self {
        if !spec.axes.iter().any(|axis| axis.matrix && axis.name.value == CORPUS) {
            return Self::default();
        }
        let mut known: BTreeMap<String, bool> = BTreeMap::new();
        let mut lacks: HashMap<NodeIndex, BTreeSet<String>> = HashMap::new();
        let mut cells: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for index in &workflow.order {
            let node = &workflow.graph[*index];
            let mut own: BTreeSet<String> = BTreeSet::new();
            for need in node.placed.sources() {
                let Some(name) = need.place.strip_prefix("corpora.") else { continue };
                if *known.entry(name.to_owned()).or_insert_with(|| settings.lacks(&need.place)) {
                    own.insert(name.to_owned());
                }
            }
            for before in workflow.graph.neighbors_directed(*index, Direction::Incoming) {
                own.extend(lacks.get(&before).into_iter().flatten().cloned());
            }
            if let Some(corpus) = node.point.get(CORPUS) {
                cells.entry(corpus.to_owned()).or_default().extend(own.iter().cloned());
            }
            if !own.is_empty() {
                lacks.insert(*index, own);
            }
        }
        let (without, with): (Vec<_>, Vec<_>) = cells.into_iter().partition(|(_, lacking)| !lacking.is_empty());
        if with.is_empty() {
            return Self::default();
        }
        let lacking: BTreeSet<String> = without.iter().flat_map(|(_, lacking)| lacking.clone()).collect();
        let corpora: Vec<String> = without.into_iter().map(|(corpus, _)| corpus).collect();
        let line = workflow.axes.iter().find(|(axis, _)| axis == CORPUS).into_iter().flat_map(|(_, values)| values);
        let rest = line.filter(|value| !corpora.contains(value)).cloned().collect();
        Self { corpora, lacking: lacking.into_iter().collect(), rest }
    }

    /// Sentence for people; none where nothing is left out.
    pub(crate) fn text(&self) -> Option<String> {
        let more: Vec<&str> = self.corpora.iter().filter(|name| !self.lacking.contains(name)).map(String::as_str).collect();
        let more = if more.is_empty() { String::new() } else { format!("; and {}, which need them", more.join(", ")) };
        (!self.corpora.is_empty())
            .then(|| format!("left out, since this machine has no folder for them: {}{more}", self.lacking.join(", ")))
    }
}

/// The workflow of an earlier run, set as it was then.
fn as_in(run: &RunRow, place: &Place, access: Access) -> Result<Asking> {
    let last: Request =
        serde_json::from_str(&run.request).with_context(|| format!("the record of run {} cannot be read", run.id))?;
    let mut place = place.clone();
    for (name, path) in &last.corpora.0 {
        if !place.corpus.iter().any(|(given, _)| given == name) {
            place.corpus.push((name.clone(), path.display().to_string()));
        }
    }
    let given = overrides::given(&place)?;
    place.set.extend(
        last.set.iter().filter(|(name, _)| !overrides::sets(&given, name)).map(|(name, values)| (name.clone(), values.join(","))),
    );
    place.yes |= last.large;
    if place.checkpoint.is_empty() {
        place.checkpoint = last.checkpoints;
    }
    let target = Target { workflow: last.workflow, targets: vec![], place };
    Asking::new(&target, access)
}

/// `keyword_spotting:train[seed=1]` as workflow and target. A colon inside brackets is part of a value.
pub(crate) fn workflow_and_target(text: &str) -> (&str, Option<&str>) {
    // A colon in the path of a workflow file is part of the path.
    if Path::new(text).is_file() {
        return (text, None);
    }
    let head = text.find('[').unwrap_or(text.len());
    text[..head].rfind(':').map_or((text, None), |at| (&text[..at], Some(&text[at + 1..])))
}

/// Matrix line of the corpora.
const CORPUS: &str = "corpus";

/// Identity of this build of the program.
fn program() -> String {
    let meta = std::env::current_exe().and_then(fs::metadata);
    let known = meta.map(|meta| format!("{} {} {}.{}", meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()));
    format!("{} {}", env!("CARGO_PKG_VERSION"), known.unwrap_or_default())
}

impl Opening {
    pub(crate) fn new(target: &Target, access: Access) -> Result<Self> {
        Asking::new(target, access)?.open()
    }

    /// Opens the workflow of a node: the one it names, else that of the last run, set as it was then.
    pub(crate) fn of_node(node: &str, place: &Place) -> Result<(Self, String)> {
        let (asking, node) = Asking::of_node(node, place, Access::Read)?;
        Ok((asking.open()?, node))
    }

    /// Opens the workflow of a node, as far as the node needs it.
    pub(crate) fn up_to_node(node: &str, place: &Place) -> Result<(Self, String)> {
        let (asking, node) = Asking::of_node(node, place, Access::Read)?;
        Ok((asking.only(&node).open()?, node))
    }

    /// Opens the workflow of an earlier run, all of it, set as it was then.
    pub(crate) fn as_in(run: &RunRow, place: &Place) -> Result<Self> {
        as_in(run, place, Access::Read)?.open()
    }

    /// Opens the workflow of an earlier run, as far as a node needs it.
    pub(crate) fn up_to_node_in(node: &str, run: &RunRow, place: &Place) -> Result<Self> {
        as_in(run, place, Access::Read)?.only(node).open()
    }

    /// Says when stored convolutions were asked for, and nothing that was asked for reads them.
    pub(crate) fn tell_idle_front(&self) {
        if self.request.asks_for_front() && !self.workflow.order.iter().any(|&node| &*self.workflow.graph[node].stage == "front")
        {
            say!(
                "note: `front=cached` changes nothing here: no stage that was asked for reads stored convolutions. Where clips are cut \
                 (`protocol=paper`) or the convolutions are trained (`finetune`), audio is read"
            );
        }
    }

    /// Forgets the stat caches of the workflow's sources when that was asked for, so that all their files are read.
    pub(crate) fn rehash(&self, asked: bool) {
        for index in self.workflow.order.iter().filter(|_| asked) {
            self.store.forget_scans(&self.workflow.graph[*index], &self.settings.machine.places);
        }
    }

    /// The nodes that patterns name; a pattern without any is a mistake. `option` is how it was given.
    pub(crate) fn find(&self, patterns: &[String], option: &str) -> Result<HashSet<NodeIndex>> {
        let mut all = HashSet::new();
        for pattern in patterns {
            let found = self.workflow.find(pattern);
            if found.is_empty() {
                let known = self.workflow.order.iter().map(|node| &*self.workflow.graph[*node].stage);
                return Err(problem(format!("{option} {pattern}: no such node"), suggest(pattern, known)));
            }
            all.extend(found);
        }
        Ok(all)
    }

    /// Surveys the sources for a command that plans. A store that knows the sources as they are is only read. Else it is opened for
    /// writing where that is possible, so that the run that follows need not scan and list the sources again.
    pub(crate) fn survey(&mut self) -> Result<Survey> {
        let known = self.runner(Arc::new(Deaf), Stop::default()).survey_if_current();
        if let Some(survey) = known.map_err(with_hint)? {
            return Ok(survey);
        }
        if let Some(store) = self.store.reopen_for_writing() {
            report_notices(&store);
            self.store = store;
        }
        self.runner(Arc::new(Deaf), Stop::default()).survey().map_err(with_hint)
    }

    /// Nodes whose results `sure run` links and other commands read, beside the final ones.
    pub(crate) fn read(&self) -> HashSet<NodeIndex> {
        let is_read = |index: &&NodeIndex| {
            let kind = self.workflow.graph[**index].kind.name;
            [Train::KIND, Evaluate::KIND].contains(&kind) || ["score.", "report."].iter().any(|begin| kind.starts_with(begin))
        };
        self.workflow.order.iter().filter(is_read).copied().collect()
    }

    pub(crate) fn runner(&self, progress: Arc<dyn Progress>, stop: Stop) -> Runner<'_> {
        Runner { workflow: &self.workflow, store: &self.store, machine: &self.settings.machine, progress, stop }
    }
}

/// Reports the sources that failed on standard error. They block the nodes that depend on them.
pub(crate) fn report_failures(survey: &mut Survey) -> ExitCode {
    let errors = std::mem::take(&mut survey.errors);
    let code = if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    for (_, error) in errors {
        show(&with_hint(error));
    }
    code
}

/// Turns an error that stops planning or running into one with a hint.
pub(crate) fn with_hint(error: RunError) -> anyhow::Error {
    match &error {
        RunError::NoPlace { place, .. } => {
            let (section, name) = place.split_once('.').unwrap_or(("corpora", place));
            let or = if section == "corpora" { format!(", or give `--corpus {name}=FOLDER`") } else { String::new() };
            let hint = format!("add `{name} = \"FOLDER\"` to `[{section}]` in sure.toml{or}");
            problem(error.to_string(), hint)
        }
        RunError::Source { node, chain, hint: Some(hint) } => {
            problem(format!("`{node}` failed: {}", chain.join(": ")), hint.clone())
        }
        RunError::Source { node, chain, hint: None } => anyhow::anyhow!("`{node}` failed: {}", chain.join(": ")),
        RunError::Scan { place, source: ScanError::Missing { root }, .. } if place.starts_with("checkpoints.") => {
            let name = place.trim_start_matches("checkpoints.");
            let hint = format!(
                "`sure fetch {name}` downloads a checkpoint that sure.toml names as `hub:...`; else correct its folder there"
            );
            problem(format!("{error}: no folder `{}`", root.display()), hint)
        }
        _ => match error {
            RunError::Store(error) => store_problem(error),
            error => error.into(),
        },
    }
}
