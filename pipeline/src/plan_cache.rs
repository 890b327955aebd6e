//! The plan cache: a shortcut past planning. It keeps the answer of a run that ended complete, for a later run of the same request.
//!
//! The outcome of a run depends on the workflow's text, the settings, the targets, the program, the outside trees and the content of
//! the store; nothing else. An entry names them all. It is valid while
//! - the request is the same (the key of the entry: text, settings, targets, program);
//! - no node of the workflow got another result since (the workflow's generation in the store);
//! - the outside trees have the same digests, by the same scan as always;
//! - every artifact is still in its place, or left in the shared cache. Artifacts are in 256 folders; one whose times are as they were
//!   has lost nothing.
//!
//! It is only a shortcut: whenever something does not match, the run plans as usual, and an entry that is lost costs no more. So an entry
//! of another format is simply not found: the format is part of its name.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::{Event, Progress, report_scan};
use crate::graph::Workflow;
use crate::registry::Registry;
use crate::run::{Machine, Summary, Survey, now_ms};
use crate::source::RecentScans;
use crate::store::{Store, StoreError};
use crate::{Digest, Places};

/// Folder of the entries. Raised with their format: entries of another format are not looked for, and go with the folder.
const FOLDER: &str = "plans/1";

/// Key of an entry: a request for a workflow.
#[derive(Debug, Clone)]
pub struct PlanKey {
    /// Name of the workflow.
    pub workflow: String,
    key: Digest,
}

impl PlanKey {
    /// Makes a key. `text`: digest of the workflow file and all that it includes; `program`: identity of the executable, which changes
    /// whenever the stages may.
    pub fn new(
        workflow: &str,
        text: Digest,
        settings: &BTreeMap<String, Vec<String>>,
        targets: &[String],
        program: &str,
    ) -> Self {
        let asked = serde_json::to_vec(&(workflow, text, settings, targets, program)).expect("plain data");
        Self { workflow: workflow.to_owned(), key: Digest::of(&asked) }
    }

    fn path(&self, store: &Store) -> PathBuf {
        store.work().join(FOLDER).join(self.key.to_string())
    }
}

/// First part of an entry; the names of all artifacts follow.
#[derive(Serialize, Deserialize)]
struct Head {
    generation: i64,
    nodes: usize,
    sources: Vec<SourceState>,
    ends: Vec<End>,
    /// Times of the last change of each of the 256 folders of artifacts.
    folders: Vec<Option<Times>>,
}

/// An outside tree as it was.
#[derive(Serialize, Deserialize)]
struct SourceState {
    node: String,
    kind: String,
    params: Value,
    place: String,
    digest: Digest,
}

/// A final node of a workflow: one that nothing else uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Name of its stage, or its id where the stage has several nodes.
    pub name: String,
    /// Artifact of the node.
    pub artifact: Digest,
}

/// Inode, modification and change time of a folder.
type Times = (u64, i64, i64, i64, i64);

/// A workflow that is up to date as a whole.
#[derive(Debug)]
pub struct UpToDate {
    /// Number of the run that found this; 0 outside of a run.
    pub run: i64,
    /// Number of its nodes.
    pub nodes: usize,
    /// Final nodes.
    pub ends: Vec<End>,
}

/// Returns the final nodes of a workflow that were asked for, with their artifacts.
pub fn ends(workflow: &Workflow, summary: &Summary) -> Vec<End> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for node in &workflow.order {
        *counts.entry(&workflow.graph[*node].stage).or_default() += 1;
    }
    let mut ends = vec![];
    for index in &workflow.order {
        let used = workflow.graph.neighbors(*index).any(|next| summary.artifacts.contains_key(&next));
        let Some(artifact) = summary.artifacts.get(index).filter(|_| !used) else { continue };
        let node = &workflow.graph[*index];
        let name = if counts[&*node.stage] == 1 { node.stage.to_string() } else { node.id.clone() };
        ends.push(End { name, artifact: *artifact });
    }
    ends
}

/// Keeps the answer of a run that ended complete.
///
/// # Errors
/// [`StoreError`] when the store does not answer. An entry that cannot be written is left out.
pub fn keep(key: &PlanKey, workflow: &Workflow, survey: &Survey, summary: &Summary, store: &Store) -> Result<(), StoreError> {
    let mut sources = vec![];
    for index in workflow.order.iter().filter(|index| survey.digests.contains_key(index)) {
        let node = &workflow.graph[*index];
        sources.extend(survey.digests[index].iter().map(|(place, digest)| SourceState {
            node: node.id.clone(),
            kind: node.kind.name.to_owned(),
            params: node.placed.params().clone(),
            place: place.clone(),
            digest: *digest,
        }));
    }
    let artifacts: Vec<Digest> = summary.artifacts.values().copied().collect();
    let generation = store.generation(&workflow.name)?;
    let names = Names::of(&artifacts);
    let (nodes, folders) = (workflow.order.len(), folder_times(store, &names));
    let head = Head { generation, nodes, sources, ends: ends(workflow, summary), folders };
    write(&key.path(store), &head, &names);
    Ok(())
}

/// Returns the kept answer, if it is still valid. Trees that were scanned for that are left in `scans`.
///
/// # Errors
/// [`StoreError`] when the store does not answer.
pub fn lookup(
    key: &PlanKey,
    store: &Store,
    registry: &Registry,
    places: &Places,
    progress: &dyn Progress,
    scans: &mut RecentScans,
) -> Result<Option<UpToDate>, StoreError> {
    let path = key.path(store);
    let Some((mut head, artifacts)) = read(&path) else { return Ok(None) };
    if store.generation(&key.workflow)? != head.generation {
        return Ok(None);
    }
    for end in &head.ends {
        if !store.usable(end.artifact, None)? {
            return Ok(None); // emptied or edited: planning in full finds that it is gone
        }
    }
    let mut scan = |source: &SourceState| scan(source, store, registry, places, progress, scans);
    if !head.sources.iter().all(|source| scan(source) == Some(source.digest)) {
        return Ok(None);
    }
    match check_folders(store, &head.folders, &artifacts) {
        Folders::Same => {}
        Folders::Lost => return Ok(None),
        Folders::Touched => {
            head.folders = folder_times(store, &artifacts);
            write(&path, &head, &artifacts);
        }
    }
    Ok(Some(UpToDate { run: 0, nodes: head.nodes, ends: head.ends }))
}

/// Makes a whole run of the kept answer, if that is still valid: reported and recorded as any other. Trees that were scanned for that
/// are left in `scans`.
///
/// # Errors
/// [`StoreError`] when the store does not answer.
pub fn run_if_up_to_date(
    key: &PlanKey,
    (request, project): (&str, Option<&str>),
    store: &Store,
    registry: &Registry,
    machine: &Machine,
    progress: &dyn Progress,
    scans: &mut RecentScans,
) -> Result<Option<UpToDate>, StoreError> {
    let begun = Instant::now();
    let Some(up_to_date) = lookup(key, store, registry, &machine.places, progress, scans)? else { return Ok(None) };
    let run = store.begin_run(&key.workflow, request, project, &machine.host, now_ms())?;
    let (workflow, reuse) = (key.workflow.clone(), up_to_date.nodes);
    progress.event(&Event::RunStarted { run, workflow, reuse, run_nodes: 0, maybe: 0, expected_secs: Some(0.0) });
    store.end_same(run, now_ms())?;
    progress.event(&Event::RunFinished { run, complete: true, secs: begun.elapsed().as_secs_f64() });
    Ok(Some(UpToDate { run, ..up_to_date }))
}

/// Scans an outside tree. Returns its digest; none when that fails: the plan then says why.
fn scan(
    source: &SourceState,
    store: &Store,
    registry: &Registry,
    places: &Places,
    progress: &dyn Progress,
    scans: &mut RecentScans,
) -> Option<Digest> {
    let Value::Object(params) = source.params.clone() else { return None };
    let stage = registry.get(&source.kind)?.place(params).ok()?;
    let need = stage.sources().into_iter().find(|need| need.place == source.place)?;
    let root = places.0.get(&source.place)?;
    let cache = store.stat_cache(&format!("{} {} {}", source.place, source.kind, stage.params()), root);
    let (tree, cost) = scans.scan(root, &need.wants, cache).ok()?;
    if let Some(cost) = cost {
        report_scan(progress, &source.node, cost);
    }
    Some(tree.digest())
}

/// Names of the artifacts that are needed, sorted: their folder, which is the first byte of their digest, and the eight bytes after
/// it. That is enough to tell them apart in a folder.
struct Names(Vec<(u8, [u8; 8])>);

impl Names {
    fn of(artifacts: &[Digest]) -> Self {
        let mut names: Vec<_> = artifacts.iter().filter_map(|artifact| short_name(artifact.0)).collect();
        names.sort_unstable();
        names.dedup();
        Self(names)
    }

    /// Returns the names folder by folder.
    fn folders(&self) -> impl Iterator<Item = (u8, &[(u8, [u8; 8])])> {
        self.0.chunk_by(|a, b| a.0 == b.0).map(|group| (group[0].0, group))
    }

    /// Writes the number of names in each of the 256 folders, then the eight bytes of each name.
    fn to_bytes(&self) -> Vec<u8> {
        let mut counts = [0_u32; 256];
        self.0.iter().for_each(|(folder, _)| counts[usize::from(*folder)] += 1);
        counts.iter().flat_map(|count| count.to_le_bytes()).chain(self.0.iter().flat_map(|(_, name)| *name)).collect()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (counts, names) = bytes.split_at_checked(256 * 4)?;
        let (counts, names) = (counts.as_chunks::<4>().0, names.as_chunks::<8>().0);
        let folders =
            (0..=255_u8).zip(counts).flat_map(|(folder, count)| std::iter::repeat_n(folder, u32::from_le_bytes(*count) as usize));
        let all: Vec<_> = folders.zip(names.iter().copied()).collect();
        (all.len() == names.len()).then_some(Self(all))
    }
}

fn short_name(digest: [u8; 32]) -> Option<(u8, [u8; 8])> {
    let (folder, rest) = digest.split_first()?;
    rest.first_chunk::<8>().map(|name| (*folder, *name))
}

/// True if a folder has all these artifacts, or they are left in the shared cache.
fn holds(store: &Store, first: u8, names: &[(u8, [u8; 8])]) -> bool {
    let prefix = format!("{first:02x}");
    let digest = |entry: fs::DirEntry| {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let digest = Digest::parse(&format!("{prefix}{}", entry.file_name().to_str()?)).filter(|_| is_folder)?;
        short_name(digest.0)
    };
    let mut there: HashSet<_> = fs::read_dir(folder(store, first)).into_iter().flatten().flatten().filter_map(digest).collect();
    if store.counts_away() {
        let left = fs::read_dir(store.away_folder(first)).into_iter().flatten().flatten();
        let digest = |entry: fs::DirEntry| Digest::parse(&format!("{prefix}{}", entry.file_name().to_str()?));
        there.extend(left.filter_map(|entry| short_name(digest(entry)?.0)));
    }
    names.iter().all(|name| there.contains(name))
}

enum Folders {
    Same,
    /// Something was added or removed, but nothing that is needed.
    Touched,
    Lost,
}

fn check_folders(store: &Store, before: &[Option<Times>], artifacts: &Names) -> Folders {
    let mut result = Folders::Same;
    for (first, group) in artifacts.folders() {
        let now = times(&folder(store, first));
        let old = before.get(usize::from(first)).copied().flatten();
        if now.is_none() || now != old {
            result = Folders::Touched;
            if !holds(store, first, group) {
                return Folders::Lost;
            }
        }
    }
    result
}

/// Returns the times of the folders of artifacts; none for one that changed so lately that a later change could give the same.
fn folder_times(store: &Store, artifacts: &Names) -> Vec<Option<Times>> {
    let used: HashSet<u8> = artifacts.folders().map(|(first, _)| first).collect();
    let now = clock();
    let settled = |times: &Times| times.1.max(times.3) + 1 < now;
    (0..=255).map(|first| used.contains(&first).then(|| times(&folder(store, first))).flatten().filter(settled)).collect()
}

fn folder(store: &Store, first: u8) -> PathBuf {
    store.root().join("objects").join(format!("{first:02x}"))
}

fn times(folder: &Path) -> Option<Times> {
    let meta = fs::metadata(folder).ok()?;
    Some((meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()))
}

#[expect(clippy::disallowed_methods, reason = "compared with file times only; no output depends on it")]
fn clock() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// Writes the length of the head, head, names, and the digest of all that.
fn write(path: &Path, head: &Head, artifacts: &Names) {
    let head = serde_json::to_vec(head).expect("plain data");
    let mut bytes = (head.len() as u64).to_le_bytes().to_vec();
    bytes.extend(head);
    bytes.extend(artifacts.to_bytes());
    let sum = Digest::of(&bytes);
    bytes.extend(sum.0);
    let folder = path.parent().expect("entries are in a folder");
    let aside = path.with_extension(std::process::id().to_string());
    let written = fs::create_dir_all(folder)
        .and_then(|()| File::create(&aside))
        .and_then(|mut file| file.write_all(&bytes))
        .and_then(|()| fs::rename(&aside, path));
    if written.is_err() {
        let _ = fs::remove_file(aside); // only a shortcut is lost
    }
    forget_old(folder);
}

/// Number of entries that are kept.
const MOST: usize = 64;

fn forget_old(folder: &Path) {
    let mut files: Vec<(SystemTime, PathBuf)> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    files.sort();
    for (_, path) in files.iter().rev().skip(MOST) {
        let _ = fs::remove_file(path); // only a shortcut is lost
    }
}

fn read(path: &Path) -> Option<(Head, Names)> {
    let bytes = fs::read(path).ok()?;
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    if Digest::of(body).0 != sum {
        return None;
    }
    let (length, rest) = body.split_first_chunk::<8>()?;
    let (head, names) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    Some((serde_json::from_slice(head).ok()?, Names::from_bytes(names)?))
}
