//! Side of the compute node: runs the tasks of one element of a wave, and writes their results.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::exchange::{Alive, BEAT, Done, DoneEnd, ElementRequest, FORMAT, Progress, TaskRequest, WaveFolder, await_path};
use crate::Digest;
use crate::executor::{Call, Executor, InProcess, WorkerProcess};
use crate::host::now_ms;
use crate::protocol::Site;
use crate::registry::{Registry, WorkerProgram};
use crate::schedule::Pools;
use crate::source::TreeFile;
use crate::stage::{JobProgress, Spare, StageError, Stop, asked_for_tool, catch_panic, chain};
use crate::store::disk::remove_all;
use crate::store::{HASHED, digest_of_path, seal_folder};
use crate::toolbox::Toolbox;

/// One element of a wave, on the compute node.
pub struct Element<'a> {
    /// Folder of the wave.
    pub wave: &'a Path,
    /// Number of the element.
    pub number: u32,
    /// Stage kinds.
    pub registry: &'a Registry,
    /// This program as a worker for its own stage kinds, where bodies run in processes of their own.
    pub own_worker: WorkerProgram,
    /// Cores and GPUs of the allocation.
    pub pools: Pools,
    /// External programs of the compute node.
    pub toolbox: Toolbox,
    /// Host name.
    pub host: String,
    /// Job, for people.
    pub job: String,
    /// Request to end early.
    pub stop: Stop,
    /// Set before a request to end early because the time of the element is over.
    pub at_limit: Arc<AtomicBool>,
}

/// An element that cannot be run at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ElementError {
    /// The wave is not there, or cannot be read.
    #[error("cannot read element {element} of the wave `{wave}`")]
    Request {
        /// Folder of the wave.
        wave: PathBuf,
        /// Number of the element.
        element: u32,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The wave is of another version.
    #[error("the wave `{wave}` has format {found}, and this program reads format {FORMAT}")]
    Format {
        /// Folder of the wave.
        wave: PathBuf,
        /// Format of the wave.
        found: u32,
    },
    /// A result cannot be written.
    #[error("cannot write a result of the wave `{wave}`")]
    Result {
        /// Folder of the wave.
        wave: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// A request that this program cannot run.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error("this program has no stage kind `{0}`")]
    Kind(String),
    #[error("the parameters of the request are not valid: {0}")]
    Params(String),
}

/// An artifact, or a part of it.
type Part = (Digest, Option<Arc<str>>);

/// State of an element while it runs.
#[derive(Debug)]
struct State {
    alive: Mutex<Alive>,
    /// Inputs that were verified, and what was wrong with them.
    verified: Mutex<BTreeMap<Part, Option<String>>>,
}

impl Element<'_> {
    /// Runs the tasks of the element. Returns the number of those that did not end well.
    ///
    /// # Errors
    /// [`ElementError`]
    pub fn run(&self) -> Result<usize, ElementError> {
        let wave = WaveFolder(self.wave.to_owned());
        let unreadable = |source| ElementError::Request { wave: self.wave.to_owned(), element: self.number, source };
        // What nobody waits for any more does not begin: this element may come late, or for the second time.
        if wave.is_closed() {
            return Ok(0);
        }
        if !await_path(&self.wave.join("index"), PATIENCE) {
            return Err(unreadable(io::Error::new(io::ErrorKind::NotFound, "there is no such wave")));
        }
        let request = wave.read_request(self.number).map_err(unreadable)?;
        if request.format != FORMAT {
            return Err(ElementError::Format { wave: self.wave.to_owned(), found: request.format });
        }
        let settled = wave.settled();
        let alive = Alive { host: self.host.clone(), job: self.job.clone(), ..Alive::default() };
        let state = Arc::new(State { alive: Mutex::new(alive), verified: Mutex::default() });
        let all = request.tasks.len().max(1);
        let threads = if request.class.gpu { 1 } else { (self.pools.cpu / request.class.threads.max(1)).clamp(1, all) };
        let (over, ended) = mpsc::channel::<()>();
        let spare = Spare::of(self.pools.cpu);
        let work = Work { element: self, wave: &wave, request: &request, settled, state: &state, spare };
        let (next, bad) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let outcome = std::thread::scope(|scope| {
            let (told, shown) = (&wave, &state);
            scope.spawn(move || self.tell(told, shown, &ended));
            let running: Vec<_> = (1..threads).map(|_| scope.spawn(|| work.serve(&next, &bad))).collect();
            let mut outcome = work.serve(&next, &bad);
            for thread in running {
                outcome = outcome.and(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            drop(over);
            outcome
        });
        outcome.map_err(|source| ElementError::Result { wave: self.wave.to_owned(), source })?;
        Ok(bad.into_inner())
    }

    /// Tells the state of the element now and then, until it ends.
    fn tell(&self, wave: &WaveFolder, state: &State, ended: &mpsc::Receiver<()>) {
        // Soon at first: what it begins with is news.
        let first = [200, 2_000, 10_000].map(Duration::from_millis);
        for pause in first.into_iter().chain(std::iter::repeat(BEAT)) {
            let mut alive = state.alive.lock().expect("no holder of this lock panics");
            alive.beat += 1;
            let told = alive.clone();
            drop(alive);
            let _ = wave.tell(self.number, &told); // news for people; results are written by themselves
            if ended.recv_timeout(pause) != Err(mpsc::RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    fn stopped(&self, begun: bool) -> DoneEnd {
        DoneEnd::Stopped { at_limit: self.at_limit.load(Ordering::Relaxed), begun }
    }
}

/// Time until the files of a wave must be seen.
const PATIENCE: Duration = Duration::from_secs(120);

/// The tasks of an element, for the threads that run them.
struct Work<'a> {
    element: &'a Element<'a>,
    wave: &'a WaveFolder,
    request: &'a ElementRequest,
    settled: BTreeSet<u32>,
    state: &'a Arc<State>,
    spare: Spare,
}

impl Work<'_> {
    /// Runs one task after the other, as long as there are any.
    fn serve(&self, next: &AtomicUsize, bad: &AtomicUsize) -> io::Result<()> {
        let threads = self.request.class.threads as isize;
        while let Some(task) = self.request.tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
            if self.settled.contains(&task.task) {
                continue;
            }
            self.spare.change(-threads);
            let done = self.attempt(task);
            self.spare.change(threads);
            let is_good = matches!(done.end, DoneEnd::Ok { .. });
            bad.fetch_add(usize::from(!is_good), Ordering::Relaxed);
            let first = self.wave.write_result(task.task, task.attempt, &done)?;
            if !first || !is_good {
                let _ = remove_all(&self.wave.out(&done.out)); // nobody reads it
            }
        }
        Ok(())
    }

    fn attempt(&self, task: &TaskRequest) -> Done {
        let Element { host, job, pools, .. } = self.element;
        // No two attempts share a folder, not even when the same element runs twice.
        let out = format!("{}.{}-{host}-{}", task.task, task.attempt, std::process::id());
        let (started_ms, begun) = (now_ms(), Instant::now());
        let log = self.wave.out(&format!("{out}.log"));
        let reporter = Reporter { task: task.task, log, state: Arc::clone(self.state), kept: Arc::default() };
        reporter.tick(0, 0, "", "");
        let gpu = if self.request.class.gpu { pools.gpus.first().copied() } else { None };
        let end = if self.element.stop.requested() {
            self.element.stopped(false)
        } else {
            catch_panic(|| self.body(task, &out, gpu, &reporter)).unwrap_or_else(|error| self.end_of(error))
        };
        self.state.alive.lock().expect("no holder of this lock panics").running.remove(&task.task);
        let Kept { facts, notes } = std::mem::take(&mut *reporter.kept.lock().expect("no holder of this lock panics"));
        let tools = self.element.registry.get(&task.request.kind).map(|kind| kind.tools.clone()).unwrap_or_default();
        let asked = tools.iter().filter(|tool| asked_for_tool(&facts, tool.name));
        let tools = asked.map(|tool| (tool.name.to_owned(), self.element.toolbox.find(tool).version)).collect();
        Done {
            format: FORMAT,
            fingerprint: task.fingerprint,
            end,
            out,
            started_ms,
            secs: begun.elapsed().as_secs_f64(),
            host: host.clone(),
            job: job.clone(),
            threads: self.request.class.threads,
            gpu,
            facts,
            notes,
            tools,
        }
    }

    fn end_of(&self, error: StageError) -> DoneEnd {
        match error {
            StageError::Stopped => self.element.stopped(true),
            StageError::SourceChanged { path } => DoneEnd::SourceChanged { path },
            error => DoneEnd::Failed {
                chain: chain(&error),
                hint: error.hint(),
                transient: error.is_transient(),
                timed_out: matches!(error, StageError::TimedOut { .. }),
            },
        }
    }

    /// Verifies the inputs, runs the body, and seals what it left.
    fn body(&self, task: &TaskRequest, out: &str, gpu: Option<u32>, reporter: &Reporter) -> Result<DoneEnd, StageError> {
        let asked = &task.request;
        let unknown = || StageError::failed(RequestError::Kind(asked.kind.clone())).with_hint(crate::protocol::REBUILD);
        let kind = self.element.registry.get(&asked.kind).ok_or_else(unknown)?;
        let placed = kind.read(asked.params.clone()).map_err(|mistakes| {
            let texts: Vec<String> = mistakes.into_iter().map(|mistake| mistake.message).collect();
            StageError::failed(RequestError::Params(texts.join("; ")))
        })?;
        for (artifact, part, digest) in &task.inputs {
            if let Some(problem) = self.verify(&asked.site.objects, *artifact, part.as_ref(), *digest) {
                return Ok(DoneEnd::BadInput { artifact: *artifact, problem });
            }
        }
        let path = self.wave.out(out);
        fs::create_dir(&path).map_err(StageError::io("create", &path))?;
        if self.request.class.gpu && gpu.is_none() {
            reporter.note("this compute node offers no GPU that CUDA sees: computing on the CPU");
        }
        let limit = task.limit_secs.map(Duration::from_secs_f64);
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        let stop = deadline.map_or_else(|| self.element.stop.clone(), |deadline| self.element.stop.until(deadline));
        let site = Site { out: path.clone(), tools: self.element.toolbox.located(&kind.tools), gpu, ..asked.site.clone() };
        let call = Call {
            kind,
            placed: &*placed,
            inputs: &asked.inputs,
            sources: asked.sources.clone(),
            partition: asked.partition,
            site,
            spare: self.spare.clone(),
            progress: Box::new(reporter.clone()),
            stop: stop.clone(),
            log: &reporter.log,
            grace: Duration::from_secs_f64(self.request.grace_secs),
        };
        let own = self.request.isolate.then_some(&self.element.own_worker);
        let ended = match kind.worker.as_ref().or(own) {
            Some(program) => WorkerProcess(program).execute(call),
            None => InProcess.execute(call),
        };
        match limit {
            Some(limit) if stop.expired() && !self.element.stop.requested() => return Err(StageError::TimedOut { limit }),
            _ => ended?,
        }
        let listing = seal_folder(&path).map_err(StageError::failed)?;
        bring_to_disk(&path, &listing).map_err(StageError::io("write", &path))?;
        Ok(DoneEnd::Ok { listing })
    }

    /// Hashes an input, once per element. Returns what is wrong with it.
    fn verify(&self, objects: &Path, artifact: Digest, part: Option<&Arc<str>>, digest: Digest) -> Option<String> {
        let mut verified = self.state.verified.lock().expect("no holder of this lock panics");
        let known = verified.entry((artifact, part.cloned())).or_insert_with(|| {
            let folder = artifact.folder_in(objects);
            if !await_path(&folder, Duration::from_secs_f64(self.request.delay_secs)) {
                return Some(format!("there is no `{}`", folder.display()));
            }
            let path = part.map_or_else(|| folder.clone(), |part| folder.join(&**part));
            match digest_of_path(&path) {
                Ok(found) if found == digest => None,
                Ok(found) => Some(format!("`{}` has the digest {found}, not {digest}", path.display())),
                Err(error) => Some(chain(&error).join(": ")),
            }
        });
        known.clone()
    }
}

/// Brings the large files of a result to the disk before it is told of. Small ones are hashed when the result is taken over: one that a
/// power failure damaged is found then, and waiting for the disk for each would take longer than many a task.
fn bring_to_disk(folder: &Path, listing: &[TreeFile]) -> io::Result<()> {
    let large = listing.iter().filter(|file| file.size > HASHED);
    large.map(|file| File::open(folder.join(&file.path))).try_for_each(|file| file?.sync_all())
}

/// Facts and notes of a task.
#[derive(Debug, Default)]
struct Kept {
    facts: BTreeMap<String, Value>,
    notes: Vec<String>,
}

/// Takes the progress of one task.
#[derive(Debug, Clone)]
struct Reporter {
    task: u32,
    log: PathBuf,
    state: Arc<State>,
    kept: Arc<Mutex<Kept>>,
}

/// Notes of a task that are kept for the controller; all are in the log.
const MOST_NOTES: usize = 100;

impl JobProgress for Reporter {
    fn tick(&self, done: u64, total: u64, unit: &str, note: &str) {
        let progress = Progress { done, total, unit: unit.to_owned(), note: note.to_owned() };
        self.state.alive.lock().expect("no holder of this lock panics").running.insert(self.task, progress);
    }
    fn note(&self, line: &str) {
        let log = File::options().create(true).append(true).open(&self.log);
        let _ = log.and_then(|mut log| writeln!(log, "{line}")); // the log is a courtesy
        let mut kept = self.kept.lock().expect("no holder of this lock panics");
        if kept.notes.len() < MOST_NOTES {
            kept.notes.push(line.to_owned());
        }
    }
    fn fact(&self, name: &str, value: Value) {
        self.kept.lock().expect("no holder of this lock panics").facts.insert(name.to_owned(), value);
    }
}
