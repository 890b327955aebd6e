//! A workflow whose nodes note that they ran, stores, and an object store with faults.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use pipeline::event::Deaf;
use pipeline::graph::{Settings as Set, Workflow, build};
use pipeline::manifest::Manifest;
use pipeline::registry::Registry;
use pipeline::run::{Machine, Options, Runner, Timeouts};
use pipeline::schedule::Pools;
use pipeline::spec::parse;
use pipeline::store::Store;
use pipeline::{Digest, Job, Slot, Stage, StageError, Stop};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::cache::{Cache, Counts};
use crate::key::Key;
use crate::lease::Timing;
use crate::remote::Remote;
use crate::settings::{Settings, Upload};

/// Writes files that its seed decides.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Make {
    seed: u32,
    /// File of lines, one for each execution.
    ledger: String,
    /// Duration.
    ms: u64,
    /// Bytes of the large file.
    large: usize,
}

impl Stage for Make {
    const KIND: &'static str = "toy.make";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "writes files";
    fn slots() -> Vec<Slot> {
        vec![]
    }
    fn outputs(&self) -> Vec<String> {
        vec!["small/a".to_owned()]
    }
}

fn note(ledger: &str, line: &str) -> std::result::Result<(), StageError> {
    let file = fs::File::options().create(true).append(true).open(ledger);
    file.and_then(|mut file| std::io::Write::write_all(&mut file, format!("{line}\n").as_bytes()))
        .map_err(StageError::io("write", ledger))
}

fn make(stage: &Make, job: &Job) -> std::result::Result<(), StageError> {
    note(&stage.ledger, &format!("make {}", stage.seed))?;
    std::thread::sleep(Duration::from_millis(stage.ms));
    let write = |name: &str, bytes: &[u8]| fs::write(job.out.join(name), bytes).map_err(StageError::io("write", &job.out));
    fs::create_dir(job.out.join("small")).map_err(StageError::io("create", &job.out))?;
    write("small/a", format!("words of {} ", stage.seed).repeat(100).as_bytes())?;
    write("small/b", &noise(stage.seed, 500))?;
    if stage.large > 0 {
        write("large", &noise(stage.seed, stage.large))?;
    }
    Ok(())
}

/// Bytes without any pattern.
pub(super) fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Joins what others wrote.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Join {
    ledger: String,
}

impl Stage for Join {
    const KIND: &'static str = "toy.join";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "joins files";
    fn slots() -> Vec<Slot> {
        vec![Slot::many("parts", "files")]
    }
    fn outputs(&self) -> Vec<String> {
        vec!["all".to_owned()]
    }
}

fn join(stage: &Join, job: &Job) -> std::result::Result<(), StageError> {
    note(&stage.ledger, "join")?;
    let read = |path: &std::path::Path| fs::read(path).map_err(StageError::io("read", path));
    let parts: std::result::Result<Vec<_>, _> = job.inputs.many("parts").iter().map(|input| read(&input.path)).collect();
    fs::write(job.out.join("all"), parts?.concat()).map_err(StageError::io("write", &job.out))
}

/// A folder with a ledger, a key, and an object store that all caches of a test share.
pub(super) struct Bed {
    pub(super) dir: TempDir,
    pub(super) remote: Arc<Faulty>,
    pub(super) settings: Settings,
    pub(super) key: String,
    pub(super) nodes: usize,
    pub(super) ms: u64,
    pub(super) large: usize,
    pub(super) timing: Timing,
    pub(super) holds_recordings: fn(&Manifest) -> bool,
    pub(super) cpu: usize,
    /// True if all results are read after a run.
    pub(super) reads_all: bool,
}

/// End of a run.
pub(super) struct Ended {
    pub(super) complete: bool,
    pub(super) counts: Counts,
    pub(super) warnings: Vec<String>,
    /// Node -> artifact.
    pub(super) artifacts: BTreeMap<String, Digest>,
    pub(super) time: Duration,
}

impl Bed {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let settings = Settings { write: true, upload: Upload::All, ..Settings::of("s3://test") };
        let timing = Timing { dear: f64::MAX, renew: Duration::from_millis(200), dead: Duration::from_millis(1500) };
        let (remote, key) = (Arc::new(Faulty::default()), Key::generate("ci").unwrap().1);
        Self {
            dir,
            remote,
            settings,
            key,
            nodes: 4,
            ms: 0,
            large: 0,
            timing,
            holds_recordings: |_| false,
            cpu: 2,
            reads_all: true,
        }
    }

    pub(super) fn store(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn workflow(&self) -> Workflow {
        let ledger = self.dir.path().join("ledger").display().to_string();
        let seeds: Vec<String> = (0..self.nodes).map(|seed| seed.to_string()).collect();
        let (seeds, ms, large) = (seeds.join(", "), self.ms, self.large);
        let text = format!(
            "[workflow]\nname = \"toy\"\n[matrix]\nseed = [{seeds}]\n[stages.make]\nrun = \"toy.make\"\nseed = \"{{seed}}\"\n\
             ledger = \"{ledger}\"\nms = {ms}\nlarge = {large}\n[stages.all]\nrun = \"toy.join\"\nledger = \"{ledger}\"\n\
             gather = [\"seed\"]\ninputs.parts = \"make/small/b\"\n"
        );
        let registry = Registry::default().here::<Make>(make).here::<Join>(join);
        let spec = parse("toy.toml", &text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        build(&spec, &registry, &Set::new(), &[]).unwrap_or_else(|mistakes| panic!("{mistakes}"))
    }

    pub(super) fn cache(&self, store: &str, warn: impl Fn(&str) + Send + Sync + 'static) -> Cache {
        let dynamic: Arc<dyn ObjectStore> = Arc::clone(&self.remote) as _;
        let remote = Remote::of(dynamic, Some(Arc::new(self.remote.inner.clone())), "", &self.settings);
        let key = Key::parse(&self.key);
        let store = self.store(store);
        let cache = Cache::with(&self.settings, remote, &store, key, self.holds_recordings, Arc::new(warn)).unwrap();
        cache.core().leases.set_timing(self.timing);
        cache
    }

    /// Runs the workflow over a store, with the cache.
    pub(super) fn run(&self, store: &str) -> Ended {
        let warnings: Arc<Mutex<Vec<String>>> = Arc::default();
        let said = Arc::clone(&warnings);
        let cache = Arc::new(self.cache(store, move |text| said.lock().unwrap().push(text.to_owned())));
        let begun = Instant::now();
        let (complete, artifacts) = self.run_with(store, Some(Arc::clone(&cache)));
        let counts = cache.close(&Stop::default());
        let warnings = warnings.lock().unwrap().clone();
        Ended { complete, counts, warnings, artifacts, time: begun.elapsed() }
    }

    pub(super) fn run_with(&self, store: &str, cache: Option<Arc<Cache>>) -> (bool, BTreeMap<String, Digest>) {
        let (workflow, store) = (self.workflow(), Store::open(&self.store(store)).unwrap());
        let machine = Machine {
            pools: Pools { cpu: self.cpu, ..Pools::default() },
            shared: cache.map(|cache| cache as _),
            ..Machine::default()
        };
        let runner =
            Runner { workflow: &workflow, store: &store, machine: &machine, progress: Arc::new(Deaf), stop: Stop::default() };
        let timeouts = Timeouts { elsewhere: Duration::from_millis(50), ..Timeouts::default() };
        let read = workflow.order.iter().copied().filter(|_| self.reads_all).collect();
        let summary = runner.run(&Options { timeouts, read, ..Options::default() }).unwrap();
        let artifacts = summary.artifacts.iter();
        let artifacts = artifacts.map(|(node, artifact)| (workflow.graph[*node].id.clone(), *artifact)).collect();
        (summary.complete, artifacts)
    }

    /// Executions since the last call.
    pub(super) fn ledger(&self) -> Vec<String> {
        let path = self.dir.path().join("ledger");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

/// An object store in memory with faults.
#[derive(Debug, Default)]
pub(super) struct Faulty {
    pub(super) inner: InMemory,
    pub(super) requests: AtomicUsize,
    pub(super) fault: Mutex<Fault>,
    pub(super) ignores_conditions: AtomicBool,
    /// Writes that still succeed, when they are counted.
    pub(super) writes_left: Mutex<Option<usize>>,
    /// Duration of every request.
    pub(super) round_trip: Mutex<Duration>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    #[default]
    None,
    Absent,
    Hangs,
    Denies,
    Unavailable,
    DeniesWrites,
}

impl std::fmt::Display for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Faulty")
    }
}

impl Faulty {
    pub(super) fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    async fn enter(&self, writes: bool) -> Result<()> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let (fault, round_trip) = (*self.fault.lock().unwrap(), *self.round_trip.lock().unwrap());
        if !round_trip.is_zero() {
            tokio::time::sleep(round_trip).await;
        }
        let generic = |text: &str| Error::Generic { store: "test", source: text.into() };
        let denied = || Error::PermissionDenied { path: "x".to_owned(), source: "403".into() };
        match fault {
            Fault::None | Fault::DeniesWrites if !writes => {}
            Fault::None => {}
            Fault::Absent => return Err(generic("Connection refused (os error 111)")),
            Fault::Unavailable => return Err(generic("Server returned non-2xx status code: 503 Service Unavailable: <x/>")),
            Fault::Denies | Fault::DeniesWrites => return Err(denied()),
            Fault::Hangs => std::future::pending().await,
        }
        if writes && let Some(left) = &mut *self.writes_left.lock().unwrap() {
            *left = left.checked_sub(1).ok_or_else(|| generic("cut"))?;
        }
        Ok(())
    }

    /// Keys of all objects.
    pub(super) fn keys(&self) -> Vec<String> {
        let list = self.inner.list(None).map(|meta| meta.unwrap().location.to_string());
        let mut keys: Vec<String> = block(list.collect());
        keys.sort();
        keys
    }

    pub(super) fn read(&self, key: &str) -> Vec<u8> {
        block(async { self.inner.get(&Path::from(key)).await.unwrap().bytes().await.unwrap().to_vec() })
    }

    pub(super) fn write(&self, key: &str, bytes: Vec<u8>) {
        block(self.inner.put(&Path::from(key), bytes.into())).unwrap();
    }

    pub(super) fn write_all(&self, objects: &[(String, Vec<u8>)]) {
        block(async {
            for (key, bytes) in objects {
                self.inner.put(&Path::from(key.as_str()), bytes.clone().into()).await.unwrap();
            }
        });
    }

    pub(super) fn remove(&self, key: &str) {
        block(self.inner.delete(&Path::from(key))).unwrap();
    }
}

/// Removes a store, whose artifacts are read-only.
pub(super) fn remove(store: &std::path::Path) {
    let _ = pipeline::store::disk::remove_all(store); // an upload in the background may write a file meanwhile
}

pub(super) fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.enter(true).await?;
        let ignored = self.ignores_conditions.load(Ordering::Relaxed);
        let opts = if ignored { PutOptions::from(PutMode::Overwrite) } else { opts };
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.enter(true).await?;
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.enter(false).await?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let fault = *self.fault.lock().unwrap();
        self.requests.fetch_add(1, Ordering::Relaxed);
        match fault {
            Fault::Hangs => futures_util::stream::pending().boxed(),
            Fault::None | Fault::DeniesWrites => self.inner.list(prefix),
            Fault::Denies => {
                let error = Error::PermissionDenied { path: "x".to_owned(), source: "403".into() };
                futures_util::stream::once(async { Err(error) }).boxed()
            }
            Fault::Absent | Fault::Unavailable => {
                let error = Error::Generic { store: "test", source: "Connection refused (os error 111)".into() };
                futures_util::stream::once(async { Err(error) }).boxed()
            }
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
