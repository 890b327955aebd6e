//! A folder of books, a store and a machine of its own for each test.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use pipeline::event::{Event, Outcome, Progress};
use pipeline::graph::{Settings, Workflow, build};
use pipeline::plan::{Plan, Verdict};
use pipeline::records::Step;
use pipeline::registry::WorkerProgram;
use pipeline::remote::Remote;
use pipeline::run::{Machine, Options, RunError, Runner, Summary};
use pipeline::schedule::Pools;
use pipeline::shared::SharedCache;
use pipeline::source::scan;
use pipeline::spec::parse;
use pipeline::store::Store;
use pipeline::store::disk::Watch;
use pipeline::toolbox::Toolbox;
use pipeline::{Digest, Places, Stop};
use tempfile::TempDir;

use crate::stages;

/// Keeps every event; a hook may react to one while the run goes on.
#[derive(Default)]
pub(crate) struct Recorder {
    events: Mutex<Vec<Event>>,
    hook: Option<Hook>,
}

pub(crate) type Hook = Box<dyn Fn(&Event) + Send + Sync>;

impl Progress for Recorder {
    fn event(&self, event: &Event) {
        if let Some(hook) = &self.hook {
            hook(event);
        }
        self.events.lock().unwrap().push(event.clone());
    }
}

/// Result of a run.
pub(crate) struct Ended {
    pub(crate) summary: Summary,
    pub(crate) events: Vec<Event>,
    /// Node id -> artifact.
    pub(crate) artifacts: BTreeMap<String, Digest>,
}

impl Ended {
    /// The nodes that ended in this way, sorted.
    pub(crate) fn nodes(&self, state: &str) -> Vec<String> {
        let name = |node: &str| node.split_once(':').unwrap().1.to_owned();
        let steps = self.summary.steps.iter().filter(|step| step.state == state);
        let mut nodes: Vec<String> = steps.map(|step| name(&step.node)).collect();
        nodes.sort();
        nodes
    }
    pub(crate) fn ran(&self) -> String {
        self.nodes("ran").join(" ")
    }
    /// The record of a node.
    #[track_caller]
    pub(crate) fn step(&self, id: &str) -> &Step {
        let found: Vec<&Step> = self.summary.steps.iter().filter(|step| step.node.ends_with(&format!(":{id}"))).collect();
        assert_eq!(found.len(), 1, "{id}: {:?}", self.summary.steps);
        found[0]
    }
    /// How many outside files were read while looking for changes.
    pub(crate) fn files_read(&self) -> usize {
        let read = |event: &Event| if let Event::Scanned { read, .. } = event { *read } else { 0 };
        self.events.iter().map(read).sum()
    }
    /// The error chain, hint and log of a failed node.
    #[track_caller]
    pub(crate) fn failure(&self, id: &str) -> (Vec<String>, Option<String>, PathBuf) {
        let found = self.events.iter().find_map(|event| match event {
            Event::NodeFinished { node, outcome: Outcome::Failed { chain, hint, log, .. }, .. } if node == id => {
                Some((chain.clone(), hint.clone(), log.clone()))
            }
            _ => None,
        });
        found.unwrap_or_else(|| panic!("{id} did not fail: {:?}", self.summary.steps))
    }
}

/// A workflow's source scan, plan and all it needs.
pub(crate) struct Harness {
    pub(crate) dir: TempDir,
    pub(crate) places: BTreeMap<String, PathBuf>,
    pub(crate) settings: Settings,
    pub(crate) targets: Vec<String>,
    pub(crate) options: Options,
    pub(crate) stop: Stop,
    pub(crate) cpu: usize,
    pub(crate) toolbox: Toolbox,
    pub(crate) own_worker: Option<WorkerProgram>,
    pub(crate) remote: Option<Remote>,
    pub(crate) shared: Option<Arc<dyn SharedCache>>,
    store: Option<Store>,
}

/// The `toy` program, which `cargo test` builds as an example.
pub(crate) fn toy() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().unwrap().parent().unwrap().join("examples/toy");
    assert!(path.is_file(), "build it first: cargo build -p pipeline --example toy");
    path
}

/// Random choices and repetitions grow with it.
#[expect(clippy::disallowed_methods, reason = "decides how long the tests take, not what they compute")]
pub(crate) fn slow() -> bool {
    std::env::var("RUN_SLOW_TESTS").is_ok_and(|value| value == "1")
}

impl Harness {
    pub(crate) fn new() -> Self {
        // In memory where there is room for that: most of the time would go into waiting for the disk.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        fs::create_dir(dir.path().join("books")).unwrap();
        let places = [("books", "books"), ("ledger", "ledger"), ("mood", "mood")];
        let places = places.map(|(name, path)| (name.to_owned(), dir.path().join(path))).into();
        let (settings, targets, options) = (Settings::new(), vec![], Options::default());
        Self {
            dir,
            places,
            settings,
            targets,
            options,
            stop: Stop::default(),
            cpu: 2,
            toolbox: Toolbox::default(),
            own_worker: None,
            remote: None,
            shared: None,
            store: None,
        }
    }

    /// With eight books, two in each of the four parts of [`BOOKS`].
    pub(crate) fn with_books() -> Self {
        let harness = Self::new();
        for part in 0..4 {
            for number in 0..2 {
                harness.write(&book_of(part, number), &"word ".repeat((part as usize + 1) * 10 + number));
            }
        }
        harness
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, book: &str, text: &str) {
        fs::write(self.path("books").join(book), text).unwrap();
    }

    /// Until the books are so old that no edit could leave them their times: from then on each is read once.
    pub(crate) fn let_books_age(&self) {
        let cache = self.path("age");
        while scan(&self.path("books"), &|_| true, &cache).unwrap().1.read > 0 {}
        fs::remove_file(cache).unwrap();
    }

    pub(crate) fn set(mut self, name: &str, values: &[&str]) -> Self {
        self.settings.insert(name.to_owned(), values.iter().map(ToString::to_string).collect());
        self
    }

    pub(crate) fn workflow(&self, text: &str) -> Workflow {
        let spec = parse("toy.toml", text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        build(&spec, &stages::registry(&toy()), &self.settings, &self.targets).unwrap_or_else(|mistakes| panic!("{mistakes}"))
    }

    pub(crate) fn store(&mut self) -> &Store {
        let path = self.path("store");
        self.store.get_or_insert_with(|| Store::open(&path).unwrap())
    }

    /// Opens the store with a watch over what it does to the disk.
    pub(crate) fn watch(&mut self, watch: Arc<dyn Watch>) {
        self.store = Some(Store::open_watched(&self.path("store"), watch).unwrap());
    }

    pub(crate) fn use_store(&mut self, store: Store) {
        self.store = Some(store);
    }

    /// Closes the store, as the end of a process does.
    pub(crate) fn close(&mut self) {
        self.store = None;
    }

    /// Makes the folders of artifacts writable, for tests that damage them.
    pub(crate) fn unlock(&self) {
        let mut folders = vec![self.path("store/objects"), self.path("store/scratch"), self.path("store/aside")];
        while let Some(folder) = folders.pop() {
            let _ = fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)); // not made yet
            let inside = fs::read_dir(folder).into_iter().flatten().flatten();
            folders.extend(inside.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()));
        }
    }

    /// How often bodies ran since the last look.
    pub(crate) fn ledger(&self) -> Vec<String> {
        let lines = fs::read_to_string(self.path("ledger")).unwrap_or_default();
        let _ = fs::remove_file(self.path("ledger"));
        let mut lines: Vec<String> = lines.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    pub(crate) fn machine(&self) -> Machine {
        Machine {
            places: Places(self.places.clone()),
            pools: Pools { cpu: self.cpu, ..Pools::default() },
            toolbox: self.toolbox.clone(),
            own_worker: self.own_worker.clone(),
            host: "here".to_owned(),
            program: "toy 1".to_owned(),
            remote: self.remote.clone(),
            shared: self.shared.clone(),
        }
    }

    /// Plan of a run, as `verdict node` lines in order of the nodes' names.
    pub(crate) fn plan(&mut self, text: &str) -> String {
        let workflow = self.workflow(text);
        let (plan, _) = self.survey(&workflow);
        let mut lines: Vec<String> =
            plan.verdicts.iter().map(|(node, verdict)| format!("{} {}", word(verdict), workflow.graph[*node].id)).collect();
        lines.sort();
        lines.join("\n")
    }

    /// A plan and how many files were read for it.
    pub(crate) fn survey(&mut self, workflow: &Workflow) -> (Plan, Vec<Event>) {
        let (machine, forced, stop) = (self.machine(), self.options.forced.clone(), self.stop.clone());
        let recorder = Arc::new(Recorder::default());
        let runner = Runner { workflow, store: self.store(), machine: &machine, progress: recorder.clone(), stop };
        let survey = runner.survey().unwrap();
        let plan = runner.plan(&survey, &forced).unwrap();
        let events = recorder.events.lock().unwrap().clone();
        (plan, events)
    }

    #[track_caller]
    pub(crate) fn run(&mut self, text: &str) -> Ended {
        self.try_run(text, None).unwrap()
    }

    #[track_caller]
    pub(crate) fn run_with(&mut self, text: &str, hook: impl Fn(&Event) + Send + Sync + 'static) -> Ended {
        self.try_run(text, Some(Box::new(hook))).unwrap()
    }

    pub(crate) fn try_run(&mut self, text: &str, hook: Option<Hook>) -> Result<Ended, RunError> {
        let workflow = self.workflow(text);
        self.run_workflow(&workflow, hook)
    }

    pub(crate) fn run_workflow(&mut self, workflow: &Workflow, hook: Option<Hook>) -> Result<Ended, RunError> {
        let (machine, stop, options) = (self.machine(), self.stop.clone(), self.options.clone());
        let recorder = Arc::new(Recorder { events: Mutex::default(), hook });
        let runner = Runner { workflow, store: self.store(), machine: &machine, progress: recorder.clone(), stop };
        let summary = runner.run(&options)?;
        let artifacts = summary.artifacts.iter().map(|(node, digest)| (workflow.graph[*node].id.clone(), *digest)).collect();
        let events = recorder.events.lock().unwrap().clone();
        Ok(Ended { summary, events, artifacts })
    }

    /// The content of a file of a node's artifact.
    #[track_caller]
    pub(crate) fn text(&mut self, ended: &Ended, node: &str, file: &str) -> String {
        let artifact = *ended.artifacts.get(node).unwrap_or_else(|| panic!("no artifact of {node}: {:?}", ended.artifacts));
        fs::read_to_string(self.store().path(artifact).join(file)).unwrap()
    }
}

impl Drop for Harness {
    /// Lets the folder be removed by users who are bound to permissions.
    fn drop(&mut self) {
        if !rustix::process::geteuid().is_root() {
            self.unlock();
        }
    }
}

/// A verdict as one word.
pub(crate) fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Reuse { .. } => "reuse",
        Verdict::Run(_) => "run",
        Verdict::RunIf(_) => "maybe",
        Verdict::Blocked { .. } => "blocked",
    }
}

/// The name of a book that falls into a part of four.
pub(crate) fn book_of(part: u32, number: usize) -> String {
    (0..).map(|n| format!("book{n}.txt")).filter(|name| stages::part_of(name, 4) == part).nth(number).unwrap()
}

/// Every folder that a killed process may have left in the store's scratch folder.
pub(crate) fn scratch(store: &Path) -> Vec<PathBuf> {
    fs::read_dir(store.join("scratch")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// List, count part by part, add up.
pub(crate) const BOOKS: &str = r#"
[workflow]
name = "books"
[stages.list]
run = "toy.list"
partitions = 4
[stages.count]
run = "toy.count"
each = "list"
inputs.books = "list"
min_length = 1
[stages.sum]
run = "toy.join"
inputs.texts = "count/count.txt"
[stages.names]
run = "toy.join"
inputs.texts = "list/names.txt"
"#;
