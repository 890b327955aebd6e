//! The folder that people see: links to what the store holds, under names that Python expects.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use audio::report::Report;
use audio::summary::Statistics;
use datasets::Split;
use pipeline::Digest;
use pipeline::graph::Workflow;
use pipeline::run::Summary;
use pipeline::store::Store;
use serde::{Deserialize, Serialize};

/// Files that were published: name -> file of the store, relative to it.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Published {
    /// Files in the folder of the shards.
    shards: BTreeMap<String, PathBuf>,
    /// Files in the folder next to it.
    links: BTreeMap<String, PathBuf>,
}

impl Published {
    /// Path and file of the store of each file.
    fn files(&self, out: &Path, about: &Path) -> BTreeMap<PathBuf, PathBuf> {
        let of = |folder: &Path, links: &BTreeMap<String, PathBuf>| -> Vec<(PathBuf, PathBuf)> {
            links.iter().map(|(name, file)| (folder.join(name), file.clone())).collect()
        };
        of(out, &self.shards).into_iter().chain(of(about, &self.links)).collect()
    }
}

const RECORD: &str = "published.json";
const CLIPS: &str = "clips";
pub(super) const STATISTICS: &str = "statistics.json";
const SKIPPED: &str = "skipped.jsonl";
const CARD: &str = "README.md";

/// Statistics of a run, in the store.
pub(super) fn statistics(workflow: &Workflow, summary: &Summary, store: &Store) -> PathBuf {
    let made = workflow.order.iter().find(|index| &*workflow.graph[**index].stage == "statistics");
    let artifact = made.and_then(|index| summary.artifacts.get(index)).expect("a complete run made its statistics");
    store.path(*artifact).join("statistics.json")
}

/// Reads the statistics of a corpus.
pub(super) fn read_statistics(path: &Path) -> Result<Statistics> {
    read_json(path)
}

/// Makes the folder show what a run made; removes what an earlier run put there and this one did not.
pub(super) fn publish(
    out: &Path,
    about: &Path,
    workflow: &Workflow,
    summary: &Summary,
    store: &Store,
    shards: u32,
) -> Result<()> {
    let mut now = Published::default();
    for index in &workflow.order {
        let Some(&artifact) = summary.artifacts.get(index) else { continue };
        let node = &workflow.graph[*index];
        let from = store.path(artifact);
        let from = from.strip_prefix(store.root()).unwrap_or(&from);
        let mut shard = |name: String, file: &str| now.shards.insert(name, from.join(file));
        let mut link = |name: String, file: &str| now.links.insert(name, from.join(file));
        match (&*node.stage, node.partition) {
            ("shards", Some(part)) => {
                let report: Report = read_json(&store.path(artifact).join("report.json"))?;
                let filled = |split: &Split| report.splits.get(split.name()).is_some_and(|split| split.rows > 0);
                for split in Split::ALL.iter().filter(|split| filled(split)) {
                    let name = format!("{split}-{part:05}-of-{shards:05}");
                    shard(format!("{name}.parquet"), &format!("{split}.parquet"));
                    link(format!("{CLIPS}/{name}.clips"), &format!("{split}.clips"));
                }
            }
            ("manifest", None) => {
                let is_filled = |meta: fs::Metadata| meta.len() > 0;
                if fs::metadata(store.path(artifact).join(SKIPPED)).is_ok_and(is_filled) {
                    link(SKIPPED.to_owned(), SKIPPED);
                }
            }
            ("statistics", _) => {
                for name in ["statistics.json", "rejects.parquet"] {
                    link(name.to_owned(), name);
                }
            }
            ("page", _) => {
                for name in names_in(&store.path(artifact))? {
                    link(name.clone(), &name);
                }
            }
            _ => {}
        }
    }
    let before: Published = read_json(&store.root().join(RECORD)).unwrap_or_default();
    let (new, old) = (now.files(out, about), before.files(out, about));
    // Both are in the record while links change, so that a run that is killed here leaves nothing behind for good.
    let both = |before: &BTreeMap<String, PathBuf>, now: &BTreeMap<String, PathBuf>| {
        before.iter().chain(now).map(|(name, file)| (name.clone(), file.clone())).collect()
    };
    let record = Published { shards: both(&before.shards, &now.shards), links: both(&before.links, &now.links) };
    write_json(&store.root().join(RECORD), &record)?;
    for path in old.keys().filter(|path| !new.contains_key(*path)) {
        let _ = fs::remove_file(path); // it may be gone already
    }
    link_all(&new, about, store)?;
    fs::write(about.join(CARD), card(out, about)?).with_context(|| format!("cannot write `{CARD}`"))?;
    write_json(&store.root().join(RECORD), &now)
}

/// Names of the files in a folder and in the folders inside it.
fn names_in(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            names.extend(names_in(&path)?.into_iter().map(|inner| format!("{name}/{inner}")));
        } else {
            names.push(name);
        }
    }
    Ok(names)
}

fn link_all(files: &BTreeMap<PathBuf, PathBuf>, about: &Path, store: &Store) -> Result<()> {
    let clips = about.join(CLIPS);
    fs::create_dir_all(&clips).with_context(|| format!("cannot create `{}`", clips.display()))?;
    files.iter().try_for_each(|(path, file)| {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
        }
        link(&store.root().join(file), path)
    })
}

/// Sets aside what an earlier run published and somebody has edited since, so that this run makes it again: the files in the folder
/// are those of the store under second names.
pub(super) fn set_edited_aside(store: &Store) -> Result<()> {
    let published: Published = read_json(&store.root().join(RECORD)).unwrap_or_default();
    let files = published.shards.values().chain(published.links.values());
    let artifacts: BTreeSet<Digest> = files.filter_map(|file| store.artifact_at(&store.root().join(file))).collect();
    for artifact in artifacts.into_iter().filter(|artifact| store.has(*artifact)) {
        store.usable(artifact, None)?;
    }
    Ok(())
}

/// Makes the folder show again what it showed; false when what it showed is not known.
pub(super) fn again(out: &Path, about: &Path, store: &Store) -> Result<bool> {
    let Ok(published) = read_json::<Published>(&store.root().join(RECORD)) else { return Ok(false) };
    let files = published.files(out, about);
    if files.is_empty() || !files.values().all(|file| store.root().join(file).is_file()) {
        return Ok(false);
    }
    link_all(&files, about, store)?;
    if !about.join(CARD).is_file() {
        fs::write(about.join(CARD), card(out, about)?).with_context(|| format!("cannot write `{CARD}`"))?;
    }
    Ok(true)
}

/// A second name for a file, which replaces whatever has that name. Where the file system has no second names, a copy.
fn link(from: &Path, to: &Path) -> Result<()> {
    let id = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    if id(from).is_some() && id(from) == id(to) {
        return Ok(());
    }
    let name = to.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let aside = to.with_file_name(format!(".{name}.{}", std::process::id()));
    let _ = fs::remove_file(&aside); // of a run that was killed right here
    fs::hard_link(from, &aside)
        .or_else(|_| fs::copy(from, &aside).map(drop))
        .and_then(|()| fs::rename(&aside, to))
        .with_context(|| format!("cannot write `{}`", to.display()))
}

/// One sentence on what the folder holds.
pub(super) fn sentence(about: &Path, shown: &Path) -> Result<String> {
    let Statistics { corpus, shards } = read_json(&about.join(STATISTICS))?;
    let rows = Split::ALL.map(|split| format!("{} {split}", shards.splits.get(split.name()).map_or(0, |split| split.rows)));
    let hours = shards.samples() as f64 / f64::from(shards.sample_rate.max(1)) / 3_600.0;
    let mut text = format!("{} as {}: {}; {hours:.2} h", corpus.corpus, corpus.protocol, rows.join(", "));
    let mut left = Vec::new();
    if shards.rejected > 0 {
        left.push(format!("{} broken, see rejects.parquet", shards.rejected));
    }
    if corpus.skipped > 0 {
        left.push(format!("{} skipped, see {SKIPPED}", corpus.skipped));
    }
    if !left.is_empty() {
        let _ = write!(text, "; {}", left.join("; ")); // writing to a string cannot fail
    }
    let _ = write!(text, "\n{}", shown.join("index.html").display());
    Ok(text)
}

/// Description of the folder.
fn card(out: &Path, about: &Path) -> Result<String> {
    let Statistics { corpus, shards } = read_json(&about.join(STATISTICS))?;
    let filled = || Split::ALL.iter().filter(|split| shards.splits.get(split.name()).is_some_and(|split| split.rows > 0));
    let mut text =
        format!("# {}\n\n{}\n\nProtocol `{}`. Licence: {}.\n\n", corpus.corpus, corpus.about, corpus.protocol, corpus.licence);
    let rate = f64::from(shards.sample_rate.max(1));
    text.push_str("| split | utterances | hours |\n| --- | --- | --- |\n");
    for split in filled() {
        let of_split = &shards.splits[split.name()];
        let _ = writeln!(text, "| {split} | {} | {:.2} |", of_split.rows, of_split.samples as f64 / rate / 3_600.0);
    }
    let folder = out.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let files = filled().map(|split| format!("\"{split}\": \"{folder}/{split}-*.parquet\"")).collect::<Vec<_>>().join(", ");
    let _ = write!(
        text,
        "\nThe column `label` has the index of the class, `keyword` its name, `split` the split.\n\n\
        ```python\nimport pandas\ntable = pandas.read_parquet(\"{folder}\")\n\
        import polars\ntable = polars.read_parquet(\"{folder}\")\n\
        import datasets\ncorpus = datasets.load_dataset(\"parquet\", data_files={{{files}}})\n```\n\n\
        `statistics.json` and `index.html` describe the corpus, `rejects.parquet` lists recordings that could not be decoded, \
        `skipped.jsonl` (if it is there) what the reader left out, each with the reason.\n"
    );
    Ok(text)
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T> {
    let bytes = fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("`{}` is not as expected", path.display()))
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let aside = path.with_extension("new");
    fs::write(&aside, serde_json::to_vec_pretty(value)?)
        .and_then(|()| fs::rename(&aside, path))
        .with_context(|| format!("cannot write `{}`", path.display()))
}
