//! The cache as the engine and the command line see it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt};
use object_store::Error;
use pipeline::manifest::Manifest;
use pipeline::run::now_ms;
use pipeline::shared::{Claim, Offer, SharedCache, SharedResult, Stock};
use pipeline::source::TreeFile;
use pipeline::{Digest, Stop};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Handle, Runtime};
use tokio::time::timeout;

use crate::breaker::{Breaker, NO_ANSWER, PATIENCE, Warn};
use crate::error::{CacheError, Fault, fault, shorten};
use crate::index::{self, Index};
use crate::key::{Key, TrustedKey, random_name};
use crate::lease::Leases;
use crate::local::{Local, Waiting};
use crate::remote::{Broken, Created, Remote};
use crate::settings::{Settings, Upload};
use crate::transfer::Speed;
use crate::upload::Uploads;
use crate::{pack, trace};

/// Object that names the cache.
pub(crate) const ABOUT: &str = "sure-cache.json";
/// Format of a cache.
pub(crate) const FORMAT: u32 = 1;
/// Largest trace that is read.
pub(crate) const LARGEST_TRACE: u64 = 64 << 20;
/// Largest index file that is read: 40 million results.
const LARGEST_INDEX: u64 = 1 << 30;
/// Traces that are asked for at the same time.
const TRACES_AT_ONCE: usize = 64;
/// Duration from which a result is dear.
const DEAR_SECS: f64 = 10.0;
/// Largest artifact that is uploaded.
const LARGEST_ARTIFACT: u64 = 8_000_000_000;
/// Longest time that the end of a run waits for uploads.
const LAST_WAIT: Duration = Duration::from_secs(60);

/// Content of [`ABOUT`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) format: u32,
    pub(crate) id: String,
}

/// A cache of results in an object store.
pub struct Cache {
    core: Arc<Core>,
    runtime: Mutex<Option<Runtime>>,
}

/// Numbers of a cache in one run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Artifacts that were downloaded.
    pub hits: usize,
    /// Results that were uploaded.
    pub uploaded: usize,
    /// Results that wait for a later upload.
    pub waiting: usize,
    /// Objects that were damaged.
    pub damaged: usize,
    /// Traces of writers that are not trusted here.
    pub untrusted: usize,
    /// Results that were made here and not uploaded, because a writer that is not trusted here has uploaded others.
    pub blocked: usize,
    /// Results whose files could not be read or packed for their upload.
    pub failed: usize,
    /// Results that were made here with other bytes than the cache has.
    pub different: usize,
    /// Requests, without retries.
    pub requests: usize,
}

pub(crate) struct Core {
    pub(crate) settings: Settings,
    pub(crate) remote: Remote,
    pub(crate) local: Local,
    pub(crate) key: Option<Key>,
    pub(crate) trusted: Vec<TrustedKey>,
    pub(crate) breaker: Breaker,
    pub(crate) uploads: Uploads,
    pub(crate) leases: Leases,
    pub(crate) speed: Speed,
    /// Entries of the next index file.
    pub(crate) fresh: Mutex<Index>,
    /// Random name of this process.
    pub(crate) writer: String,
    pub(crate) handle: OnceLock<Handle>,
    holds_recordings: fn(&Manifest) -> bool,
    index: Mutex<Loading>,
    loaded: Condvar,
    traces: Mutex<HashMap<Digest, Option<Arc<SharedResult>>>>,
    /// Keys of objects that were found damaged: they are put again.
    damaged: Mutex<HashSet<String>>,
    counts: Mutex<Counts>,
    used: Mutex<HashSet<Digest>>,
    /// True if the object that names the cache is known to be there.
    has_begun: AtomicBool,
}

enum Loading {
    Idle,
    Since(Instant),
    Ready(Index),
    Failed,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cache({})", self.core.remote.name)
    }
}

impl Cache {
    /// Makes a cache ready; asks nothing yet. `store` is the folder of the store, or one for what is read only now; `holds_recordings` says of a manifest whether its
    /// artifact contains recordings; `warn` prints a warning.
    ///
    /// # Errors
    /// Settings and keys that cannot be used.
    pub fn open(
        settings: &Settings,
        store: &Path,
        holds_recordings: fn(&Manifest) -> bool,
        warn: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Self, CacheError> {
        let key = Key::find(Key::file().as_deref())?;
        Self::with(settings, Remote::open(settings)?, store, key, holds_recordings, Arc::new(warn))
    }

    pub(crate) fn with(
        settings: &Settings,
        remote: Remote,
        store: &Path,
        key: Option<Key>,
        holds_recordings: fn(&Manifest) -> bool,
        warn: Warn,
    ) -> Result<Self, CacheError> {
        let io = |source| CacheError::Io { action: "create", path: store.join("cache").display().to_string(), source };
        let local = Local::open(store, &settings.url).map_err(io)?;
        let mut trusted = settings.trusted.clone();
        trusted.extend(key.as_ref().map(Key::public));
        let breaker = Breaker::new(&remote.name, warn);
        if settings.write && key.is_none() {
            breaker.refused_to_write("`write = true` needs a key to sign with (`sure cache key NAME` makes one)");
        }
        let core = Core {
            settings: settings.clone(),
            remote,
            local,
            key,
            trusted,
            breaker,
            uploads: Uploads::default(),
            leases: Leases::default(),
            speed: Speed::default(),
            fresh: Mutex::default(),
            writer: random_name(),
            handle: OnceLock::new(),
            holds_recordings,
            index: Mutex::new(Loading::Idle),
            loaded: Condvar::new(),
            traces: Mutex::default(),
            damaged: Mutex::default(),
            counts: Mutex::default(),
            used: Mutex::default(),
            has_begun: AtomicBool::new(false),
        };
        Ok(Self { core: Arc::new(core), runtime: Mutex::default() })
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// The runtime, started when it is first needed. None when the system gives no thread.
    pub(crate) fn handle(&self) -> Option<&Handle> {
        if self.core.handle.get().is_none() {
            let mut runtime = self.runtime.lock().expect("no holder of this lock panics");
            if runtime.is_none() {
                let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().ok()?;
                let _ = self.core.handle.set(built.handle().clone());
                *runtime = Some(built);
            }
        }
        self.core.handle.get()
    }

    /// Begins to read the index, and to upload what earlier runs left. Returns at once.
    fn start(&self) {
        let Some(handle) = self.handle() else { return };
        let mut index = self.core.index();
        if !matches!(*index, Loading::Idle) {
            return;
        }
        *index = Loading::Since(Instant::now());
        drop(index);
        let core = Arc::clone(&self.core);
        handle.spawn(async move {
            let loaded = core.load_index().await;
            if loaded.is_ok() && core.may_write() {
                core.local.sweep();
                for waiting in core.local.waiting() {
                    core.enqueue(waiting);
                }
            }
            // Whoever waits for the index finds what is left to upload under way.
            *core.index() = loaded.map_or(Loading::Failed, Loading::Ready);
            core.loaded.notify_all();
        });
    }

    /// Waits until the index is there, or until planning should not wait any longer.
    fn wait_for_index(&self) {
        self.start();
        let mut index = self.core.index();
        while let Loading::Since(begun) = *index {
            let left = PATIENCE.saturating_sub(begun.elapsed());
            if left.is_zero() {
                drop(index);
                if !self.core.breaker.has_answered() {
                    // Without a key, the library asks the platform for one first.
                    let has_key = !self.core.settings.url.starts_with("s3://") || std::env::var_os("AWS_ACCESS_KEY_ID").is_some();
                    let lacks = if has_key { "" } else { ", and AWS_ACCESS_KEY_ID is not set" };
                    self.core.breaker.turn_off(&format!("{NO_ANSWER}{lacks}"));
                }
                return;
            }
            index = self.core.loaded.wait_timeout(index, left).expect("no holder of this lock panics").0;
        }
    }

    /// Waits for uploads, for a minute at most; what is left is uploaded by a later run. Returns what this run did.
    pub fn close(&self, stop: &Stop) -> Counts {
        let core = &self.core;
        core.note_used();
        if let Some(handle) = core.handle.get() {
            let begun = Instant::now();
            let mut checked = (Instant::now(), core.uploads.len());
            while core.uploads.len() > 0 && begun.elapsed() < LAST_WAIT && !stop.requested() && core.breaker.allows_writing() {
                core.uploads.wait(Duration::from_millis(100));
                if core.uploads.len() != checked.1 {
                    checked = (Instant::now(), core.uploads.len());
                } else if checked.0.elapsed() >= PATIENCE {
                    let head = wait_at_most(handle, PATIENCE, core.remote.head(ABOUT));
                    if !matches!(head, Some(Ok(_))) {
                        core.breaker.turn_off("uploads get no answer");
                    }
                    checked.0 = Instant::now() + Duration::from_secs(4); // a slow upload is no fault
                }
            }
            if !core.breaker.is_off() {
                let _ = wait_at_most(handle, Duration::from_secs(2), core.flush_index()); // only hints
                let _ = wait_at_most(handle, PATIENCE, core.leases.end(core)); // they end by themselves
            }
        }
        let waiting = core.local.waiting().len();
        Counts { waiting, ..*core.counts() }
    }

    /// Uploads what waits. Returns what was done.
    pub fn push(&self, stop: &Stop, progress: impl Fn(usize)) -> Counts {
        self.wait_for_index();
        while self.core.uploads.len() > 0 && !stop.requested() && self.core.breaker.allows_writing() {
            progress(self.core.uploads.len());
            self.core.uploads.wait(Duration::from_secs(1));
        }
        self.close(stop)
    }

    /// Offers a result, however cheap it was to make. Returns false if it may not be uploaded.
    pub fn offer_anyway(&self, offer: Offer) -> bool {
        let core = &self.core;
        let may = core.settings.recordings || !(core.holds_recordings)(&offer.result.manifest);
        if !may || offer.result.bytes() > LARGEST_ARTIFACT || !core.settings.write || core.key.is_none() {
            return false;
        }
        let waiting = Waiting { fingerprint: offer.fingerprint, result: offer.result };
        let _ = core.local.put_outbox(&waiting); // on a full disk only this process uploads it
        if self.handle().is_some() && core.may_write() {
            core.enqueue(waiting);
        }
        true
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.lock().ok().and_then(|mut runtime| runtime.take()) {
            runtime.shutdown_background(); // what still travels is in the outbox
        }
    }
}

impl SharedCache for Cache {
    fn stock(&self) -> Stock {
        if !self.core.breaker.allows() {
            return Stock::Nothing;
        }
        self.wait_for_index();
        match &*self.core.index() {
            Loading::Ready(index) => index.stock(),
            _ => Stock::Nothing,
        }
    }

    fn find(&self, fingerprints: &[Digest]) -> Vec<Option<Arc<SharedResult>>> {
        let core = &self.core;
        let none = vec![None; fingerprints.len()];
        if fingerprints.is_empty() || !core.breaker.allows() {
            return none;
        }
        self.wait_for_index();
        let Some(handle) = core.handle.get() else { return none };
        let wanted: Vec<Digest> = {
            let index = core.index();
            let Loading::Ready(index) = &*index else { return none };
            let traces = core.traces();
            let is_open = |one: &&Digest| index.get(**one).is_some() && !traces.contains_key(*one);
            fingerprints.iter().filter(is_open).copied().collect()
        };
        let begun = Instant::now();
        let got = futures_util::stream::iter(wanted).map(|one| async move { (one, core.get_trace(one).await) });
        let got: Vec<_> = handle.block_on(got.buffer_unordered(TRACES_AT_ONCE).collect());
        let mut traces = core.traces();
        let mut failed = false;
        for (fingerprint, found) in got {
            match found {
                Ok(found) => _ = traces.insert(fingerprint, found),
                Err(()) => failed = true,
            }
        }
        let answers = fingerprints.iter().map(|one| traces.get(one).cloned().flatten()).collect();
        drop(traces);
        if failed {
            core.breaker.lost(begun.elapsed(), NO_ANSWER);
        }
        answers
    }

    fn ask(&self, fingerprint: Digest, expected_secs: Option<f64>) -> Option<Arc<SharedResult>> {
        let core = &self.core;
        if !core.breaker.allows() {
            return None;
        }
        if let Some(Some(found)) = core.traces().get(&fingerprint) {
            return Some(Arc::clone(found));
        }
        self.start();
        // What is worth a lease is worth a question: the holder of the lease may have uploaded its result just now.
        let is_dear = expected_secs.is_some_and(|secs| secs >= DEAR_SECS.min(core.leases.timing().dear));
        let is_known = matches!(&*core.index(), Loading::Ready(index) if index.get(fingerprint).is_some());
        let was_asked = core.traces().contains_key(&fingerprint);
        if !is_dear && (!is_known || was_asked) {
            return None;
        }
        let begun = Instant::now();
        let found = self.handle()?.block_on(core.get_trace(fingerprint));
        match found {
            Ok(found) => {
                core.traces().insert(fingerprint, found.clone());
                found
            }
            Err(()) => {
                core.breaker.lost(begun.elapsed(), NO_ANSWER);
                None
            }
        }
    }

    fn download(&self, artifact: Digest, files: &[TreeFile], folder: &Path) -> bool {
        let core = &self.core;
        let Some(handle) = self.handle().filter(|_| core.breaker.allows()) else { return false };
        let begun = Instant::now();
        let got = handle.block_on(core.download(artifact, files, folder));
        match got {
            Ok(()) => core.counts().hits += 1,
            Err(true) => core.breaker.lost(begun.elapsed().min(PATIENCE), "a download got no answer"),
            Err(false) => {}
        }
        got.is_ok()
    }

    fn claim(&self, fingerprint: Digest, expected_secs: Option<f64>) -> Claim {
        let Some(secs) = expected_secs.filter(|secs| *secs >= self.core.leases.timing().dear) else { return Claim::Free };
        if !self.core.may_write() {
            return Claim::Free;
        }
        let Some(handle) = self.handle() else { return Claim::Free };
        let begun = Instant::now();
        let claim = wait_at_most(handle, PATIENCE, crate::lease::claim(&self.core, fingerprint, secs));
        match claim {
            Some(Ok(claim)) => claim,
            Some(Err(error)) => {
                self.core.failed_to_write(&error);
                self.core.breaker.lost(begun.elapsed(), NO_ANSWER);
                Claim::Free
            }
            None => {
                self.core.breaker.failed(Fault::Trouble, NO_ANSWER);
                self.core.breaker.lost(begun.elapsed(), NO_ANSWER);
                Claim::Free
            }
        }
    }

    fn offer(&self, offer: Offer) {
        let core = &self.core;
        let (bytes, secs) = (offer.result.bytes(), offer.result.provenance.secs);
        let is_dear = secs >= DEAR_SECS && secs > core.speed.secs(bytes);
        if core.settings.upload == Upload::All || is_dear {
            self.offer_anyway(offer);
        }
    }

    fn used(&self, fingerprints: &[Digest]) {
        self.core.used.lock().expect("no holder of this lock panics").extend(fingerprints);
    }
}

impl Core {
    fn index(&self) -> MutexGuard<'_, Loading> {
        self.index.lock().expect("no holder of this lock panics")
    }

    fn traces(&self) -> MutexGuard<'_, HashMap<Digest, Option<Arc<SharedResult>>>> {
        self.traces.lock().expect("no holder of this lock panics")
    }

    pub(crate) fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().expect("no holder of this lock panics")
    }

    /// True if this process may upload at this moment.
    pub(crate) fn may_write(&self) -> bool {
        self.settings.write && self.key.is_some() && self.breaker.allows_writing()
    }

    pub(crate) fn failed(&self, error: &Error) {
        self.breaker.failed(fault(error), &shorten(error));
    }

    /// A refusal to write leaves reading as it is.
    pub(crate) fn failed_to_write(&self, error: &Error) {
        match fault(error) {
            Fault::Denied => self.breaker.refused_to_write(&shorten(error)),
            other => self.breaker.failed(other, &shorten(error)),
        }
    }

    pub(crate) fn is_damaged(&self, key: &str) -> bool {
        self.damaged.lock().expect("no holder of this lock panics").contains(key)
    }

    fn note_damage(&self, key: String) {
        self.damaged.lock().expect("no holder of this lock panics").insert(key);
        self.counts().damaged += 1;
    }

    async fn load_index(&self) -> Result<Index, ()> {
        let loaded = self.try_load_index().await;
        loaded.map_err(|error| self.failed(&error))
    }

    async fn try_load_index(&self) -> Result<Index, Error> {
        let (about, listed) = tokio::try_join!(self.remote.get(ABOUT, 1 << 16), self.remote.list("i"))?;
        self.breaker.answered();
        let about: Option<About> = about.and_then(|(bytes, _)| serde_json::from_slice(&bytes).ok());
        if let Some(newer) = about.filter(|about| about.format > FORMAT) {
            self.breaker.turn_off(&format!("it has format {}, and this program reads formats up to {FORMAT}", newer.format));
            return Ok(Index::default());
        }
        let files = index_files(&listed.iter().map(|file| (file.key.clone(), file.size)).collect::<Vec<_>>());
        let get = |(key, size): (String, u64)| async move {
            if let Some(bytes) = self.local.read_index(&key, size) {
                return Ok::<_, Error>(bytes);
            }
            let bytes = self.remote.get(&key, LARGEST_INDEX).await?.map(|(bytes, _)| bytes.to_vec()).unwrap_or_default();
            self.local.keep_index(&key, &bytes);
            Ok(bytes)
        };
        let names: Vec<String> = files.iter().map(|(key, _)| key.clone()).collect();
        let all: Vec<Vec<u8>> = futures_util::stream::iter(files).map(get).buffered(16).try_collect().await?;
        self.local.forget_index(&names);
        let mut index = Index::default();
        for bytes in &all {
            index.add_all(bytes);
        }
        Ok(index)
    }

    /// Asks for a trace. The error is a request that failed.
    async fn get_trace(&self, fingerprint: Digest) -> Result<Option<Arc<SharedResult>>, ()> {
        if !self.breaker.allows() {
            return Err(());
        }
        let key = trace_key(fingerprint);
        self.counts().requests += 1;
        let bytes = match timeout(PATIENCE, self.remote.get(&key, LARGEST_TRACE)).await {
            Ok(Ok(found)) => {
                self.breaker.answered();
                found
            }
            Ok(Err(error)) => {
                self.failed(&error);
                return Err(());
            }
            Err(_) => {
                self.breaker.failed(Fault::Trouble, NO_ANSWER);
                return Err(());
            }
        };
        let Some((bytes, _)) = bytes else { return Ok(None) };
        match trace::decode(&bytes, fingerprint, &self.trusted) {
            Ok(trace) => {
                let mut result = trace.result;
                result.provenance.facts.insert("cache".to_owned(), trace.writer.into());
                Ok(Some(Arc::new(result)))
            }
            Err(trace::Bad::Damaged) => {
                self.note_damage(key);
                Ok(None)
            }
            Err(trace::Bad::Untrusted) => {
                self.counts().untrusted += 1;
                Ok(None)
            }
        }
    }

    /// Downloads the files of an artifact. The error is true if a request failed.
    async fn download(&self, artifact: Digest, files: &[TreeFile], folder: &Path) -> Result<(), bool> {
        let has_small = pack::small(files).next().is_some();
        let pack = async { if has_small { self.download_pack(artifact, files, folder).await } else { Ok(()) } };
        let large = futures_util::stream::iter(pack::large(files).map(Ok));
        let large = large.try_for_each_concurrent(4, |file| self.download_file(file, folder));
        tokio::try_join!(pack, large).map(|_| ())
    }

    async fn download_pack(&self, artifact: Digest, files: &[TreeFile], folder: &Path) -> Result<(), bool> {
        let key = pack_key(artifact);
        let longest = pack::small(files).map(|file| file.size).sum::<u64>();
        let scratch = self.local.scratch();
        let mut out = BufWriter::new(File::create(&scratch.0).map_err(|_| false)?);
        self.receive(&key, longest + longest / 64 + 4096, |bytes| out.write_all(bytes)).await?;
        out.flush().map_err(|_| false)?;
        drop(out);
        let (files, folder, path) = (files.to_vec(), folder.to_owned(), scratch.0.clone());
        let read = move || pack::read(BufReader::new(File::open(path)?), &files, &folder);
        match tokio::task::spawn_blocking(read).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof) => {
                self.note_damage(key);
                Err(false)
            }
            _ => Err(false), // the disk of this machine
        }
    }

    async fn download_file(&self, file: &TreeFile, folder: &Path) -> Result<(), bool> {
        let key = file_key(file.digest);
        let path = folder.join(&file.path);
        let begin = || {
            std::fs::create_dir_all(path.parent().unwrap_or(folder))?;
            File::create(&path)
        };
        let mut out = begin().map_err(|_| false)?;
        let mut hasher = blake3::Hasher::new();
        let size = self
            .receive(&key, file.size, |bytes| {
                hasher.update(bytes);
                out.write_all(bytes)
            })
            .await?;
        if size != file.size || hasher.finalize().as_bytes() != &file.digest.0 {
            self.note_damage(key);
            return Err(false);
        }
        Ok(())
    }

    /// Passes an object on. The error is true if a request failed.
    async fn receive(&self, key: &str, longest: u64, take: impl FnMut(&[u8]) -> std::io::Result<()> + Send) -> Result<u64, bool> {
        self.counts().requests += 1;
        match self.remote.stream(key, longest, take).await {
            Ok(size) => {
                self.breaker.answered();
                Ok(size)
            }
            Err(Broken::Missing | Broken::Disk(_)) => Err(false), // collected meanwhile, or a fault of this machine
            Err(Broken::TooLong) => {
                self.note_damage(key.to_owned());
                Err(false)
            }
            Err(Broken::Remote(error)) => {
                self.failed(&error);
                Err(true)
            }
        }
    }

    /// Writes the object that names the cache, where there is none.
    pub(crate) async fn begin(&self) -> Result<(), Error> {
        if self.has_begun.load(Ordering::Relaxed) {
            return Ok(());
        }
        let about = About { format: FORMAT, id: random_name() };
        let bytes = serde_json::to_vec(&about).expect("plain data");
        if self.remote.head(ABOUT).await?.is_none() {
            let _: Created = self.remote.create(ABOUT, bytes.into()).await?;
        }
        self.has_begun.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Notes the results that this run used, once a day.
    fn note_used(&self) {
        if !self.may_write() {
            return;
        }
        let today = index::day(now_ms());
        let used: Vec<Digest> = {
            let mut used = self.used.lock().expect("no holder of this lock panics");
            used.drain().collect()
        };
        let index = self.index();
        let Loading::Ready(index) = &*index else { return };
        let mut fresh = self.fresh.lock().expect("no holder of this lock panics");
        for fingerprint in used {
            if let Some(entry) = index.get(fingerprint).filter(|entry| entry.day < today) {
                fresh.add(index::name(fingerprint), index::Entry { day: today, ..entry });
            }
        }
    }

    /// Writes the entries of the next index file.
    pub(crate) async fn flush_index(&self) -> Result<(), Error> {
        let fresh = std::mem::take(&mut *self.fresh.lock().expect("no holder of this lock panics"));
        if fresh.len() == 0 {
            return Ok(());
        }
        let key = format!("i/new/{:015}-{}-{}", now_ms(), self.writer, random_name());
        self.remote.put(&key, fresh.to_bytes().into()).await.map(|_| ())
    }
}

/// Waits for an answer, for so long at most.
fn wait_at_most<T>(handle: &Handle, time: Duration, asked: impl Future<Output = T>) -> Option<T> {
    handle.block_on(async { timeout(time, asked).await.ok() })
}

/// Chooses the index files to read: the newest base, and all segments.
pub(crate) fn index_files(listed: &[(String, u64)]) -> Vec<(String, u64)> {
    let newest = listed.iter().filter_map(|(key, size)| Some((base_number(key)?, key, *size))).max();
    let base = newest.map(|(_, key, size)| (key.clone(), size));
    let segments = listed.iter().filter(|(key, _)| key.starts_with("i/new/")).cloned();
    base.into_iter().chain(segments).collect()
}

/// Number of a base file.
pub(crate) fn base_number(key: &str) -> Option<u64> {
    key.strip_prefix("i/base-")?.parse().ok()
}

fn key(folder: char, digest: Digest) -> String {
    let hex = digest.to_string();
    format!("{folder}/{}/{hex}", &hex[..2])
}

/// Key of a trace.
pub(crate) fn trace_key(fingerprint: Digest) -> String {
    key('t', fingerprint)
}

/// Key of the small files of an artifact.
pub(crate) fn pack_key(artifact: Digest) -> String {
    key('p', artifact)
}

/// Key of a large file.
pub(crate) fn file_key(digest: Digest) -> String {
    key('f', digest)
}
