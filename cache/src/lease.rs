//! Leases: a machine says that it makes a fingerprint, so that others do something else meanwhile.
//!
//! A lease is an object that its holder created and renews. Nothing depends on it but time: if it is lost, two machines do the same work.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use object_store::Error;
use pipeline::Digest;
use pipeline::run::now_ms;
use pipeline::shared::Claim;
use tokio::task::AbortHandle;

use crate::cache::Core;
use crate::remote::Created;

/// Times of leases.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// Expected seconds from which a node is worth a lease.
    pub(crate) dear: f64,
    /// Time between two renewals.
    pub(crate) renew: Duration,
    /// Age at which a lease is dead.
    pub(crate) dead: Duration,
}

const TIMING: Timing = Timing { dear: 60.0, renew: Duration::from_secs(60), dead: Duration::from_secs(300) };
/// Shortest and longest time that a machine waits for another, in seconds.
const SHORTEST_WAIT: f64 = 5.0;
const LONGEST_WAIT: f64 = 3600.0;

/// Leases of this process.
pub(crate) struct Leases {
    held: Mutex<HashMap<Digest, Held>>,
    /// Since when other machines have been seen at work.
    elsewhere: Mutex<HashMap<Digest, Instant>>,
    /// Clock of the server minus that of this machine, in milliseconds.
    offset: Mutex<Option<i64>>,
    timing: Mutex<Timing>,
}

struct Held {
    tag: Arc<Mutex<String>>,
    renewal: AbortHandle,
    /// True if the node has ended, and its result has yet to be uploaded.
    is_over: bool,
}

impl Default for Leases {
    fn default() -> Self {
        Self { held: Mutex::default(), elsewhere: Mutex::default(), offset: Mutex::default(), timing: Mutex::new(TIMING) }
    }
}

impl Leases {
    pub(crate) fn timing(&self) -> Timing {
        *self.timing.lock().expect("no holder of this lock panics")
    }

    #[cfg(test)]
    pub(crate) fn set_timing(&self, timing: Timing) {
        *self.timing.lock().unwrap() = timing;
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Digest, Held>> {
        self.held.lock().expect("no holder of this lock panics")
    }

    /// Ends all leases.
    pub(crate) async fn end(&self, core: &Core) {
        let all: Vec<(Digest, Held)> = self.held().drain().collect();
        for (fingerprint, held) in all {
            end(core, fingerprint, held).await;
        }
    }
}

fn key(fingerprint: Digest) -> String {
    format!("c/{fingerprint}")
}

fn body(core: &Core) -> Vec<u8> {
    format!("{{\"owner\":\"{}\",\"time_ms\":{}}}\n", core.writer, now_ms()).into_bytes()
}

/// Ends a lease, unless another machine has taken it over.
async fn end(core: &Core, fingerprint: Digest, held: Held) {
    held.renewal.abort();
    let tag = held.tag.lock().expect("no holder of this lock panics").clone();
    let key = key(fingerprint);
    if let Ok(Some(meta)) = core.remote.head(&key).await
        && meta.e_tag.is_none_or(|found| found == tag)
    {
        let _ = core.remote.delete(&key).await; // it ends by itself
    }
}

/// Ends the lease of a node that has ended, now that its result is uploaded.
pub(crate) async fn uploaded(core: &Arc<Core>, fingerprint: Digest) {
    let held = {
        let mut held = core.leases.held();
        if held.get(&fingerprint).is_some_and(|held| held.is_over) { held.remove(&fingerprint) } else { None }
    };
    if let Some(held) = held {
        end(core, fingerprint, held).await;
    }
}

/// Right to make a fingerprint.
struct Guard {
    core: Arc<Core>,
    fingerprint: Digest,
}

impl Drop for Guard {
    /// Ends the lease, or has the upload of the result end it.
    fn drop(&mut self) {
        let (core, fingerprint) = (Arc::clone(&self.core), self.fingerprint);
        if let Some(held) = core.leases.held().get_mut(&fingerprint) {
            held.is_over = true;
        }
        if !core.uploads.has(fingerprint)
            && let Some(handle) = self.core.handle.get()
        {
            handle.spawn(async move { uploaded(&core, fingerprint).await });
        }
    }
}

/// Claims a fingerprint.
pub(crate) async fn claim(core: &Arc<Core>, fingerprint: Digest, expected_secs: f64) -> Result<Claim, Error> {
    if !is_supported(core).await? {
        return Ok(Claim::Free);
    }
    let key = key(fingerprint);
    if let Created::Yes(tag) = core.remote.create(&key, body(core).into()).await? {
        return Ok(hold(core, fingerprint, tag.unwrap_or_default()));
    }
    let Some(meta) = core.remote.head(&key).await? else { return Ok(Claim::Elsewhere) }; // it ended just now: the next look finds a result
    let age_ms = now_ms() + offset(core).await? - meta.last_modified.timestamp_millis();
    let timing = core.leases.timing();
    if age_ms > timing.dead.as_millis() as i64
        && let Some(tag) = meta.e_tag
        && let Some(tag) = core.remote.replace(&key, &tag, body(core).into()).await?
    {
        return Ok(hold(core, fingerprint, tag));
    }
    let mut elsewhere = core.leases.elsewhere.lock().expect("no holder of this lock panics");
    let since = *elsewhere.entry(fingerprint).or_insert_with(Instant::now);
    let longest = (2.0 * expected_secs).clamp(SHORTEST_WAIT, LONGEST_WAIT);
    Ok(if since.elapsed().as_secs_f64() > longest { Claim::Free } else { Claim::Elsewhere })
}

fn hold(core: &Arc<Core>, fingerprint: Digest, tag: String) -> Claim {
    let tag = Arc::new(Mutex::new(tag));
    let (here, shared, every) = (Arc::clone(core), Arc::clone(&tag), core.leases.timing().renew);
    let renewal = tokio::spawn(async move {
        loop {
            tokio::time::sleep(every).await;
            let old = shared.lock().expect("no holder of this lock panics").clone();
            match here.remote.replace(&key(fingerprint), &old, body(&here).into()).await {
                Ok(Some(new)) => *shared.lock().expect("no holder of this lock panics") = new,
                Ok(None) => return, // another machine has it
                Err(_) => {}        // again at the next time
            }
        }
    });
    let held = Held { tag, renewal: renewal.abort_handle(), is_over: false };
    core.leases.held().insert(fingerprint, held);
    Claim::Mine(Box::new(Guard { core: Arc::clone(core), fingerprint }))
}

/// Returns the clock of the server minus that of this machine.
async fn offset(core: &Core) -> Result<i64, Error> {
    if let Some(offset) = *core.leases.offset.lock().expect("no holder of this lock panics") {
        return Ok(offset);
    }
    let key = format!("c/clock-{}", core.writer);
    core.remote.put(&key, body(core).into()).await?;
    let now = now_ms();
    let meta = core.remote.head(&key).await?;
    core.remote.delete(&key).await?;
    let offset = meta.map_or(0, |meta| meta.last_modified.timestamp_millis() - now);
    *core.leases.offset.lock().expect("no holder of this lock panics") = Some(offset);
    Ok(offset)
}

/// True if the server honours conditions. Asked once a day.
async fn is_supported(core: &Core) -> Result<bool, Error> {
    const QUESTION: &str = "conditions";
    if let Some(answer) = core.local.verdict(QUESTION) {
        return Ok(answer == "yes");
    }
    let answer = honours_conditions(core).await?;
    core.local.keep_verdict(QUESTION, if answer { "yes" } else { "no" });
    Ok(answer)
}

/// Tries whether the server refuses to create what exists, and to replace what has changed.
pub(crate) async fn honours_conditions(core: &Core) -> Result<bool, Error> {
    let key = format!("c/probe-{}", crate::key::random_name());
    let first = core.remote.create(&key, "1".into()).await?;
    let second = core.remote.create(&key, "2".into()).await?;
    let replaced = core.remote.replace(&key, "\"00000000000000000000000000000000\"", "3".into()).await?;
    core.remote.delete(&key).await?;
    Ok(matches!(first, Created::Yes(Some(_))) && second == Created::Exists && replaced.is_none())
}
