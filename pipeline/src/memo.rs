//! A shortcut past planning: the answer of a run that ended complete, kept for when the same is asked again and nothing has changed.
//!
//! What a run finds depends on the workflow's text, the settings, the targets, the program, the outside trees and what the store
//! holds; nothing else. A memo names them all. It holds while
//! - the question is the same (its key: text, settings, targets, program);
//! - no node of the workflow got another trace since (the workflow's generation in the store);
//! - the outside trees have the same digests, by the same scan as always;
//! - every artifact is still in its place. Artifacts lie in 256 folders; one whose times are as they were has lost nothing.
//!
//! It is only a shortcut: whenever something does not match, the run plans as usual, and a memo that is lost costs no more.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::{Event, Progress};
use crate::graph::Workflow;
use crate::registry::Registry;
use crate::run::{Machine, Summary, Survey, now_ms};
use crate::source::{Looked, ScanCost};
use crate::store::{Store, StoreError};
use crate::{Digest, Places};

/// What is asked of a workflow.
#[derive(Debug, Clone)]
pub struct Question {
    /// The workflow's name.
    pub workflow: String,
    key: Digest,
}

impl Question {
    /// `text`: the digest of the workflow file and all it includes; `program`: what changes whenever the stages may (the executable's identity).
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
        store.root().join("memo").join(self.key.to_string())
    }
}

/// The first part of a memo; the names of all artifacts follow.
#[derive(Serialize, Deserialize)]
struct Head {
    generation: i64,
    nodes: usize,
    sources: Vec<SourceMemo>,
    ends: Vec<End>,
    /// For each of the 256 folders of artifacts, when it last changed.
    folders: Vec<Option<Times>>,
}

/// An outside tree as it was.
#[derive(Serialize, Deserialize)]
struct SourceMemo {
    node: String,
    kind: String,
    params: Value,
    place: String,
    digest: Digest,
}

/// A node that nothing else uses: what a workflow is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Its stage, or its id where the stage has several nodes.
    pub name: String,
    /// What it made.
    pub artifact: Digest,
}

/// Inode, modification and change time.
type Times = (u64, i64, i64, i64, i64);

/// A workflow that is up to date as a whole.
#[derive(Debug)]
pub struct Standing {
    /// Number of its nodes.
    pub nodes: usize,
    /// What it is for.
    pub ends: Vec<End>,
}

/// The wanted nodes of a workflow that nothing else uses, with what they made.
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
/// [`StoreError`] when the store does not answer. A memo that cannot be written is left out.
pub fn keep(
    question: &Question,
    workflow: &Workflow,
    survey: &Survey,
    summary: &Summary,
    store: &Store,
) -> Result<(), StoreError> {
    let mut sources = vec![];
    for index in workflow.order.iter().filter(|index| survey.digests.contains_key(index)) {
        let node = &workflow.graph[*index];
        sources.extend(survey.digests[index].iter().map(|(place, digest)| SourceMemo {
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
    write(&question.path(store), &head, &names);
    Ok(())
}

/// The kept answer, when it still holds. Trees that were looked through to find out are left in `looked`.
///
/// # Errors
/// [`StoreError`] when the store does not answer.
pub fn recall(
    question: &Question,
    store: &Store,
    registry: &Registry,
    places: &Places,
    progress: &dyn Progress,
    looked: &mut Looked,
) -> Result<Option<Standing>, StoreError> {
    let path = question.path(store);
    let Some((mut head, artifacts)) = read(&path) else { return Ok(None) };
    if store.generation(&question.workflow)? != head.generation {
        return Ok(None);
    }
    let mut look = |source: &SourceMemo| look_through(source, store, registry, places, progress, looked);
    if !head.sources.iter().all(|source| look(source) == Some(source.digest)) {
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
    Ok(Some(Standing { nodes: head.nodes, ends: head.ends }))
}

/// A whole run, when the kept answer holds: it is told of and recorded as any other. Trees that were looked through to find out
/// are left in `looked`.
///
/// # Errors
/// [`StoreError`] when the store does not answer.
pub fn stand_still(
    question: &Question,
    request: &str,
    store: &Store,
    registry: &Registry,
    machine: &Machine,
    progress: &dyn Progress,
    looked: &mut Looked,
) -> Result<Option<Standing>, StoreError> {
    let begun = Instant::now();
    let Some(standing) = recall(question, store, registry, &machine.places, progress, looked)? else { return Ok(None) };
    let run = store.begin_run(&question.workflow, request, &machine.host, now_ms())?;
    let (workflow, reuse) = (question.workflow.clone(), standing.nodes);
    progress.event(&Event::RunStarted { run, workflow, reuse, run_nodes: 0, maybe: 0, expected_secs: Some(0.0) });
    store.end_same(run, now_ms())?;
    progress.event(&Event::RunFinished { run, complete: true, secs: begun.elapsed().as_secs_f64() });
    Ok(Some(standing))
}

/// The digest of an outside tree now. Whatever goes wrong is left to the plan, which says what it is.
fn look_through(
    source: &SourceMemo,
    store: &Store,
    registry: &Registry,
    places: &Places,
    progress: &dyn Progress,
    looked: &mut Looked,
) -> Option<Digest> {
    let Value::Object(params) = source.params.clone() else { return None };
    let stage = registry.get(&source.kind)?.place(params).ok()?;
    let need = stage.sources().into_iter().find(|need| need.place == source.place)?;
    let root = places.0.get(&source.place)?;
    let cache = store.stat_cache(&format!("{} {} {}", source.place, source.kind, stage.params()), root);
    let (tree, cost) = looked.scan(root, &need.wants, cache).ok()?;
    if let Some(ScanCost { files, read, bytes }) = cost {
        progress.event(&Event::Scanned { node: source.node.clone(), files, read, bytes });
    }
    Some(tree.digest())
}

/// The artifacts that are needed, sorted: the folder they lie in, which is the first byte of their digest, and the eight bytes after
/// it. That is enough to tell them apart in a folder.
struct Names(Vec<(u8, [u8; 8])>);

impl Names {
    fn of(artifacts: &[Digest]) -> Self {
        let mut names: Vec<_> = artifacts.iter().filter_map(|artifact| short_name(artifact.0)).collect();
        names.sort_unstable();
        names.dedup();
        Self(names)
    }

    /// Folder by folder.
    fn folders(&self) -> impl Iterator<Item = (u8, &[(u8, [u8; 8])])> {
        self.0.chunk_by(|a, b| a.0 == b.0).map(|group| (group[0].0, group))
    }

    /// For each of the 256 folders how many there are, then the eight bytes of each.
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

/// Whether a folder holds all these artifacts.
fn holds(store: &Store, first: u8, names: &[(u8, [u8; 8])]) -> bool {
    let prefix = format!("{first:02x}");
    let digest = |entry: fs::DirEntry| {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let digest = Digest::parse(&format!("{prefix}{}", entry.file_name().to_str()?)).filter(|_| is_folder)?;
        short_name(digest.0)
    };
    let there: HashSet<_> = fs::read_dir(folder(store, first)).into_iter().flatten().flatten().filter_map(digest).collect();
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

/// The times of the folders that hold artifacts; none for one that changed so lately that a later change could look the same.
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

/// Length of the head, head, names, and the digest of all that.
fn write(path: &Path, head: &Head, artifacts: &Names) {
    let head = serde_json::to_vec(head).expect("plain data");
    let mut bytes = (head.len() as u64).to_le_bytes().to_vec();
    bytes.extend(head);
    bytes.extend(artifacts.to_bytes());
    let sum = Digest::of(&bytes);
    bytes.extend(sum.0);
    let folder = path.parent().expect("memos lie in a folder");
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

/// The number of memos that are kept.
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
