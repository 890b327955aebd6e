//! Collection: removing what nobody has used for a long time, while others read and write.
//!
//! Traces go first. Bytes that no trace names go at a later collection, a week after one has seen them so. An uploader puts bytes again
//! that are older than five days, so bytes that it relies on are younger than those that go. Whatever happens in between, a lookup finds
//! a whole result or none.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use object_store::Error;
use pipeline::Digest;
use pipeline::run::now_ms;
use pipeline::store::gc::Amount;
use serde::{Deserialize, Serialize};

use crate::cache::{ABOUT, About, Cache, Core, FORMAT, LARGEST_TRACE, base_number, file_key, index_files, pack_key};
use crate::error::{CacheError, shorten};
use crate::index::{self, Entry, Index};
use crate::remote::{Created, Listed};
use crate::{pack, trace};

const DAY_MS: i64 = 24 * 3_600_000;
/// Age up to which bytes that no trace names may be those of a trace to come.
const GRACE_MS: i64 = 7 * DAY_MS;
/// Age at which leases and the lock of a collection are left over.
const STALE_MS: i64 = DAY_MS;
/// Requests that travel at the same time.
const AT_ONCE: usize = 64;

const LOCK: &str = "gc/lock";
const STATE: &str = "gc/state";

/// Outcome of a collection, or of one that would remove nothing yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// Traces.
    pub traces: Amount,
    /// Packs and files.
    pub bytes: Amount,
    /// Packs and files that no trace names, and that a later collection removes.
    pub later: Amount,
    /// Traces that stay.
    pub kept: Amount,
}

/// Size of a cache.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Objects by kind.
    pub kinds: BTreeMap<&'static str, Amount>,
}

/// Since when each key has been seen without a trace that names it.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    unnamed: HashMap<String, i64>,
}

/// Choice of traces to forget.
#[derive(Debug, Clone, Default)]
pub struct Forget {
    /// Those of this writer.
    pub writer: Option<String>,
    /// Those that were uploaded within this time.
    pub within: Option<Duration>,
}

impl Cache {
    /// Removes what has not been used for `unused`; without `yes` it only counts.
    ///
    /// # Errors
    /// [`CacheError`]
    pub fn collect(&self, unused: Duration, yes: bool) -> Result<Collected, CacheError> {
        self.collect_at(unused, yes, now_ms())
    }

    pub(crate) fn collect_at(&self, unused: Duration, yes: bool, now: i64) -> Result<Collected, CacheError> {
        let core = self.core();
        self.ask("collect", async {
            check_format(core).await?;
            if yes && !lock(core, now).await? {
                return Ok(None);
            }
            let collected = collect(core, unused.as_millis() as i64, yes, now).await;
            if yes {
                core.remote.delete(LOCK).await?;
            }
            collected.map(Some)
        })?
        .ok_or_else(|| CacheError::Access {
            cache: core.remote.name.clone(),
            action: "collect",
            message: "another collection is going on".to_owned(),
        })
    }

    /// Removes traces; without `yes` it only counts. Their bytes go with the collections that follow.
    ///
    /// # Errors
    /// [`CacheError`]
    pub fn forget(&self, choice: &Forget, yes: bool) -> Result<Amount, CacheError> {
        let core = self.core();
        self.ask("forget", async {
            check_format(core).await?;
            let listed = core.remote.list("t").await?;
            let traces = read_traces(core, &listed).await?;
            let since = choice.within.map_or(i64::MIN, |within| now_ms() - within.as_millis() as i64);
            let (mut amount, mut keys) = (Amount::default(), vec![]);
            for (listed, trace) in traces {
                let (writer, time_ms) = trace.map_or((None, listed.modified_ms), |trace| (Some(trace.writer), trace.time_ms));
                if (choice.writer.is_none() || choice.writer == writer) && time_ms >= since {
                    amount.add(listed.size);
                    keys.push(listed.key);
                }
            }
            if yes {
                core.remote.delete_all(keys).await?;
            }
            Ok(amount)
        })
    }

    /// Returns the size of the cache.
    ///
    /// # Errors
    /// [`CacheError`]
    pub fn usage(&self) -> Result<Usage, CacheError> {
        const KINDS: [(&str, &str); 6] =
            [("t", "traces"), ("p", "packs"), ("f", "files"), ("i", "index"), ("c", "leases"), ("gc", "collection")];
        let core = self.core();
        self.ask("list", async {
            let mut usage = Usage::default();
            let lists = futures_util::stream::iter(KINDS)
                .map(|(folder, kind)| async move { Ok::<_, Error>((kind, core.remote.list(folder).await?)) });
            for (kind, listed) in lists.buffered(KINDS.len()).try_collect::<Vec<_>>().await? {
                let amount = usage.kinds.entry(kind).or_default();
                for object in &listed {
                    amount.add(object.size);
                }
            }
            Ok(usage)
        })
    }

    /// Waits for an answer, for a command that is about the cache alone.
    pub(crate) fn ask<T>(&self, action: &'static str, asked: impl Future<Output = Result<T, Error>>) -> Result<T, CacheError> {
        let cache = self.core().remote.name.clone();
        let Some(handle) = self.handle() else {
            return Err(CacheError::Access { cache, action, message: "the system gives no thread".to_owned() });
        };
        handle.block_on(asked).map_err(|error| CacheError::Access { cache, action, message: shorten(&error) })
    }
}

/// Lets one collection at a time remove anything.
async fn lock(core: &Core, now: i64) -> Result<bool, Error> {
    if let Created::Yes(_) = core.remote.create(LOCK, core.writer.clone().into()).await? {
        return Ok(true);
    }
    let Some(meta) = core.remote.head(LOCK).await? else { return Ok(false) };
    if now - meta.last_modified.timestamp_millis() < STALE_MS {
        return Ok(false);
    }
    let tag = meta.e_tag.unwrap_or_default();
    Ok(core.remote.replace(LOCK, &tag, core.writer.clone().into()).await?.is_some())
}

async fn read_traces(core: &Core, listed: &[Listed]) -> Result<Vec<(Listed, Option<trace::Trace>)>, Error> {
    let read = |listed: Listed| async move {
        let Some(fingerprint) = fingerprint_of(&listed.key) else { return Ok((listed, None)) };
        let bytes = core.remote.get(&listed.key, LARGEST_TRACE).await?;
        let trace = bytes.and_then(|(bytes, _)| trace::read(&bytes, fingerprint).ok());
        Ok::<_, Error>((listed, trace))
    };
    futures_util::stream::iter(listed.to_vec()).map(read).buffer_unordered(AT_ONCE).try_collect().await
}

fn fingerprint_of(key: &str) -> Option<Digest> {
    Digest::parse(key.strip_prefix("t/")?.split('/').nth(1)?)
}

/// Refuses a cache of a newer format, whose traces this program would take for damaged ones.
async fn check_format(core: &Core) -> Result<(), Error> {
    let about: Option<About> = core.remote.get(ABOUT, 1 << 16).await?.and_then(|(bytes, _)| serde_json::from_slice(&bytes).ok());
    match about {
        Some(about) if about.format > FORMAT => {
            let source = format!("it has format {}, and this program reads formats up to {FORMAT}", about.format).into();
            Err(Error::Generic { store: "cache", source })
        }
        _ => Ok(()),
    }
}

async fn collect(core: &Core, unused_ms: i64, yes: bool, now: i64) -> Result<Collected, Error> {
    let remote = &core.remote;
    let (traces, packs, files, indexes, leases, state) = tokio::try_join!(
        remote.list("t"),
        remote.list("p"),
        remote.list("f"),
        remote.list("i"),
        remote.list("c"),
        remote.get(STATE, 1 << 30)
    )?;
    let index = read_index(core, &indexes).await?;
    let mut collected = Collected::default();

    let used = |listed: &Listed| {
        let day = fingerprint_of(&listed.key).and_then(|fingerprint| index.get(fingerprint)).map_or(0, |entry| entry.day);
        listed.modified_ms.max(index::end_of(day))
    };
    let (stay, go): (Vec<Listed>, Vec<Listed>) = traces.into_iter().partition(|listed| now - used(listed) < unused_ms);
    let read = read_traces(core, &stay).await?;
    let mut named: HashSet<String> = HashSet::new();
    let mut renewed = Index::default();
    let mut go: Vec<Listed> = go;
    for (listed, trace) in read {
        let Some(trace) = trace else {
            go.push(listed); // damaged: of no use to anybody
            continue;
        };
        collected.kept.add(listed.size);
        if let Some(fingerprint) = fingerprint_of(&listed.key) {
            let entry = Entry::new(&trace.result, index::day(used(&listed)));
            renewed.add(index::name(fingerprint), entry);
        }
        if pack::small(&trace.result.files).next().is_some() {
            named.insert(pack_key(trace.result.artifact));
        }
        named.extend(pack::large(&trace.result.files).map(|file| file_key(file.digest)));
    }
    for listed in &go {
        collected.traces.add(listed.size);
    }

    let before: State = state.and_then(|(bytes, _)| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let (mut after, mut bytes_to_go) = (State::default(), vec![]);
    for listed in packs.iter().chain(&files).filter(|listed| !named.contains(&listed.key)) {
        let since = before.unnamed.get(&listed.key).copied().unwrap_or(now);
        if now - since >= GRACE_MS && now - listed.modified_ms >= GRACE_MS {
            collected.bytes.add(listed.size);
            bytes_to_go.push(listed.key.clone());
        } else {
            collected.later.add(listed.size);
            after.unnamed.insert(listed.key.clone(), since);
        }
    }
    if !yes {
        return Ok(collected);
    }
    remote.delete_all(go.into_iter().map(|listed| listed.key).collect()).await?;
    remote.delete_all(bytes_to_go).await?;
    remote.put(STATE, serde_json::to_vec(&after).expect("plain data").into()).await?;
    replace_index(core, &indexes, &renewed).await?;
    let left_over = leases.into_iter().filter(|listed| now - listed.modified_ms > STALE_MS).map(|listed| listed.key);
    remote.delete_all(left_over.collect()).await?;
    Ok(collected)
}

async fn read_index(core: &Core, listed: &[Listed]) -> Result<Index, Error> {
    let mut index = Index::default();
    let files: Vec<(String, u64)> = listed.iter().map(|listed| (listed.key.clone(), listed.size)).collect();
    for (key, _) in index_files(&files) {
        if let Some((bytes, _)) = core.remote.get(&key, 1 << 30).await? {
            index.add_all(&bytes);
        }
    }
    Ok(index)
}

/// Writes a new base, then removes the files that it replaces. Segments that were written meanwhile stay.
async fn replace_index(core: &Core, listed: &[Listed], index: &Index) -> Result<(), Error> {
    let next = listed.iter().filter_map(|listed| base_number(&listed.key)).max().map_or(0, |number| number + 1);
    if let Created::Yes(_) = core.remote.create(&format!("i/base-{next:08}"), index.to_bytes().into()).await? {
        core.remote.delete_all(listed.iter().map(|listed| listed.key.clone()).collect()).await?;
    }
    Ok(())
}
