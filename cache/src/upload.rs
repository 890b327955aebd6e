//! Uploads in the background: first the bytes, then the trace, then the index. A kill at any moment leaves no trace without bytes.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, ErrorKind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use object_store::Error;
use pipeline::Digest;
use pipeline::run::now_ms;
use pipeline::shared::SharedResult;
use tokio::sync::Semaphore;

use crate::cache::{Core, Counts, LARGEST_TRACE, file_key, pack_key, trace_key};
use crate::index::{self, Entry};
use crate::local::Waiting;
use crate::remote::{Broken, Created};
use crate::{pack, trace};

/// Uploads that travel at the same time.
const AT_ONCE: usize = 4;
/// Age from which bytes are put again, so that a collection that is about to remove them does not.
const OLD_MS: i64 = 5 * 24 * 3_600_000;
/// Time between two index files of one process.
const INDEX_PACE: Duration = Duration::from_secs(30);

/// Uploads of this process.
pub(crate) struct Uploads {
    pending: Mutex<Pending>,
    ended: Condvar,
    slots: Semaphore,
}

#[derive(Default)]
struct Pending {
    results: HashSet<Digest>,
    writes_index: bool,
}

impl Default for Uploads {
    fn default() -> Self {
        Self { pending: Mutex::default(), ended: Condvar::new(), slots: Semaphore::new(AT_ONCE) }
    }
}

impl Uploads {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().expect("no holder of this lock panics")
    }

    /// Number of results that are not uploaded yet.
    pub(crate) fn len(&self) -> usize {
        self.pending().results.len()
    }

    pub(crate) fn has(&self, fingerprint: Digest) -> bool {
        self.pending().results.contains(&fingerprint)
    }

    /// Waits until an upload ends, for so long at most.
    pub(crate) fn wait(&self, time: Duration) {
        drop(self.ended.wait_timeout(self.pending(), time));
    }
}

impl Core {
    /// Uploads a result in the background.
    pub(crate) fn enqueue(self: &Arc<Self>, waiting: Waiting) {
        let Some(handle) = self.handle.get() else { return };
        let fingerprint = waiting.fingerprint;
        let mut pending = self.uploads.pending();
        if !pending.results.insert(fingerprint) {
            return;
        }
        let is_first = !std::mem::replace(&mut pending.writes_index, true);
        drop(pending);
        if is_first {
            let core = Arc::clone(self);
            handle.spawn(async move {
                loop {
                    tokio::time::sleep(INDEX_PACE).await;
                    if core.may_write() {
                        let _ = core.flush_index().await; // only hints
                    }
                }
            });
        }
        let core = Arc::clone(self);
        handle.spawn(async move {
            let _slot = core.uploads.slots.acquire().await;
            if core.may_write() {
                match core.upload(&waiting).await {
                    Ok(counts) => {
                        let Counts { uploaded, blocked, .. } = &mut *core.counts();
                        *if counts { uploaded } else { blocked } += 1;
                        core.breaker.answered();
                        core.local.remove_outbox(fingerprint);
                    }
                    Err(Broken::Remote(error)) => core.failed_to_write(&error),
                    // Its files are gone or damaged: nothing to upload.
                    Err(Broken::Disk(error)) if !matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                        core.local.remove_outbox(fingerprint);
                        core.counts().failed += 1;
                    }
                    Err(_) => core.counts().failed += 1,
                }
            }
            core.uploads.pending().results.remove(&fingerprint);
            core.uploads.ended.notify_all();
            crate::lease::uploaded(&core, fingerprint).await;
        });
    }

    /// Uploads a result. Returns false if the cache has one that does not count here.
    async fn upload(&self, waiting: &Waiting) -> Result<bool, Broken> {
        let Waiting { fingerprint, result } = waiting;
        let folder = self.local.artifact(result.artifact);
        self.begin().await.map_err(Broken::Remote)?;
        let (begun, mut bytes) = (Instant::now(), 0);
        for file in pack::large(&result.files) {
            let key = file_key(file.digest);
            if self.lacks(&key, Some(file.size)).await.map_err(Broken::Remote)? {
                let state = self.local.parts(&key);
                bytes += self.remote.put_file(&key, &folder.join(&file.path), Some(file.digest), &state).await?;
            }
        }
        if pack::small(&result.files).next().is_some() {
            let key = pack_key(result.artifact);
            if self.lacks(&key, None).await.map_err(Broken::Remote)? {
                bytes += self.upload_pack(&key, result).await?;
            }
        }
        self.speed.measured(bytes, begun.elapsed().as_secs_f64());
        if !self.upload_trace(*fingerprint, result).await.map_err(Broken::Remote)? {
            return Ok(false);
        }
        let entry = Entry::new(result, index::day(now_ms()));
        self.fresh.lock().expect("no holder of this lock panics").add(index::name(*fingerprint), entry);
        Ok(true)
    }

    async fn upload_pack(&self, key: &str, result: &SharedResult) -> Result<u64, Broken> {
        let scratch = self.local.scratch();
        let (folder, files, path) = (self.local.artifact(result.artifact), result.files.clone(), scratch.0.clone());
        let write = move || pack::write(&folder, &files, BufWriter::new(File::create(path)?));
        let written = tokio::task::spawn_blocking(write).await;
        written.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(Broken::Disk)?;
        // A later process makes a pack again, so its parts cannot be continued.
        let state = self.local.scratch();
        self.remote.put_file(key, &scratch.0, None, &state.0).await
    }

    /// True if bytes have to be uploaded.
    async fn lacks(&self, key: &str, size: Option<u64>) -> Result<bool, Error> {
        if self.is_damaged(key) {
            return Ok(true);
        }
        let meta = self.remote.head(key).await?;
        Ok(meta.is_none_or(|meta| {
            size.is_some_and(|size| size != meta.size) || now_ms() - meta.last_modified.timestamp_millis() > OLD_MS
        }))
    }

    /// Creates a trace. The first one stays, unless it is damaged. Returns false if that one does not count here.
    async fn upload_trace(&self, fingerprint: Digest, result: &SharedResult) -> Result<bool, Error> {
        let Some(writer) = &self.key else { return Ok(true) };
        let key = trace_key(fingerprint);
        let mut result = result.clone();
        result.provenance.facts.remove("cache");
        let bytes = trace::encode(fingerprint, &result, now_ms(), writer);
        if self.is_damaged(&key) {
            return self.remote.put(&key, bytes.into()).await.map(|_| true);
        }
        if self.remote.create(&key, bytes.clone().into()).await? == Created::Exists
            && let Some((there, _)) = self.remote.get(&key, LARGEST_TRACE).await?
        {
            match trace::decode(&there, fingerprint, &self.trusted) {
                Err(trace::Bad::Damaged) => _ = self.remote.put(&key, bytes.into()).await?,
                Err(trace::Bad::Untrusted) => return Ok(false),
                Ok(there) if there.result.artifact != result.artifact => self.counts().different += 1,
                Ok(_) => {}
            }
        }
        Ok(true)
    }
}
