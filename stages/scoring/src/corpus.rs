//! Stage `report.corpus`: describes the shards of a corpus on one page with pictures.
//!
//! ```text
//! index.html                      hours, lengths, classes, speakers, sources and rejects
//! lengths.png classes.png         its pictures; `classes.png` only where a corpus has classes
//! sounds/001.wav sounds/001.png .. some clips of each class
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use datasets::shard::RowInfo;
use pipeline::{Input, Job, Slot, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clips::{self, ClipFiles};
use crate::picture::Picture;
use crate::plot::{self, Series};
use crate::template;

/// Describes the shards of a corpus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportCorpus {}

impl Stage for ReportCorpus {
    const KIND: &'static str = "report.corpus";
    const VERSION: u32 = 5;
    const ABOUT: &'static str = "a page on what the shards of a corpus hold: hours, lengths, classes, rejects";

    fn slots() -> Vec<Slot> {
        vec![
            Slot::one("statistics", "the statistics.json of an audio.summary"),
            Slot::any("clips", "shards, for players of some clips of each class"),
        ]
    }
    fn outputs(&self) -> Vec<String> {
        vec!["index.html".to_owned(), "lengths.png".to_owned()]
    }
}

/// Part of `statistics.json` that is shown.
#[derive(Debug, Deserialize)]
struct Statistics {
    corpus: Corpus,
    shards: Shards,
}

#[derive(Debug, Deserialize)]
struct Corpus {
    #[serde(rename = "corpus")]
    name: String,
    about: String,
    protocol: String,
    licence: String,
    skipped: u64,
    unused: BTreeMap<String, u64>,
    labels: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Shards {
    sample_rate: u32,
    utterances: u64,
    splits: BTreeMap<String, Split>,
    rejected: u64,
    filtered: u64,
    reasons: BTreeMap<String, u64>,
    kept_as_is: u64,
    source_bytes: u64,
    clip_bytes: u64,
    sources: BTreeMap<String, u64>,
}

#[derive(Debug, Deserialize)]
struct Split {
    rows: u64,
    samples: u64,
    extent: Option<(u64, u64)>,
    lengths: BTreeMap<u32, u64>,
    labels: BTreeMap<String, u64>,
    speakers: BTreeMap<String, u64>,
    transcribed: u64,
    flagged: u64,
}

/// `statistics.json` is not as expected.
#[derive(Debug, thiserror::Error)]
#[error("`{path}` is not what `audio.summary` writes")]
pub struct StatisticsError {
    /// The file.
    pub path: std::path::PathBuf,
    /// Cause.
    #[source]
    pub source: serde_json::Error,
}

/// Width of the bars that `audio.shards` counts, in seconds.
const BAR_SECS: f64 = 0.1;
/// Numbers of bars that may be joined to one when there are too many.
const WIDER: [u32; 8] = [1, 2, 5, 10, 20, 50, 100, 600];
const MOST_BARS: u32 = 60;
const ORDER: [&str; 3] = ["train", "dev", "test"];

/// The body of the stage.
///
/// Errors: [`StatisticsError`]; files that cannot be read or written.
pub fn run(_: &ReportCorpus, job: &Job) -> Result<(), StageError> {
    let path = job.inputs.one("statistics");
    let bytes = fs::read(path).map_err(StageError::io("read", path))?;
    let statistics: Statistics =
        serde_json::from_slice(&bytes).map_err(|source| StageError::failed(StatisticsError { path: path.to_owned(), source }))?;
    let pictures = pictures(&statistics);
    let write = |name: &str, bytes: &[u8]| {
        let path = job.out.join(name);
        fs::write(&path, bytes).map_err(StageError::io("write", &path))
    };
    for (name, picture) in &pictures {
        write(&format!("{name}.png"), &picture.png(2.0))?;
    }
    let heard = heard(job.inputs.many("clips"), &job.out)?;
    write("index.html", page(&statistics, &pictures, &heard).as_bytes())
}

/// Clips of each class that can be played.
const CLIPS_OF_A_CLASS: usize = 2;
/// Clips that can be played where there are no classes.
const CLIPS_WITHOUT_CLASSES: usize = 6;
/// Classes whose clips can be played.
const CLASSES_HEARD: usize = 40;

/// A class with its clips.
#[derive(Serialize)]
struct Heard {
    /// Name; empty where there are no classes.
    class: String,
    /// Files.
    clips: Vec<ClipFiles>,
}

/// The first clips of each class, in the order of the classes.
fn heard(shards: &[Input], out: &Path) -> Result<Vec<Heard>, StageError> {
    let mut ids: BTreeMap<(u32, String), Vec<String>> = BTreeMap::new();
    for shard in shards {
        let (rows, names) = RowInfo::read(&shard.path, |column| column == "label").map_err(StageError::failed)?;
        for row in rows {
            let class = row.class.map(|class| (class, names.get(class as usize).cloned().unwrap_or_default()));
            let most = if class.is_some() { CLIPS_OF_A_CLASS } else { CLIPS_WITHOUT_CLASSES };
            let of_class = ids.entry(class.unwrap_or_default()).or_default();
            if of_class.len() < most {
                of_class.push(row.id);
            }
        }
    }
    let ids: Vec<_> = ids.into_iter().take(CLASSES_HEARD).collect();
    let files = clips::copy(shards, &ids.iter().flat_map(|(_, ids)| ids).cloned().collect(), out)?;
    let clips = |ids: Vec<String>| ids.iter().filter_map(|id| files.get(id).cloned()).collect();
    Ok(ids.into_iter().map(|((_, class), ids)| Heard { class, clips: clips(ids) }).collect())
}

impl Statistics {
    fn splits(&self) -> impl Iterator<Item = (&'static str, &Split)> {
        ORDER.iter().filter_map(|name| Some((*name, self.shards.splits.get(*name)?))).filter(|(_, split)| split.rows > 0)
    }

    fn hours(&self, samples: u64) -> f64 {
        samples as f64 / f64::from(self.shards.sample_rate.max(1)) / 3_600.0
    }
}

fn pictures(statistics: &Statistics) -> Vec<(&'static str, Picture)> {
    let last = statistics.splits().filter_map(|(_, split)| split.lengths.keys().next_back()).max().copied().unwrap_or(0);
    let wider = WIDER.into_iter().find(|wider| last / wider < MOST_BARS).unwrap_or(WIDER[WIDER.len() - 1]);
    let lengths = |(name, split): (&str, &Split)| {
        let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
        for (bar, count) in &split.lengths {
            *counts.entry(bar / wider).or_default() += count;
        }
        let counts = counts.into_iter().map(|(bar, count)| (f64::from(bar * wider) * BAR_SECS, count));
        Series { name: name.to_owned(), counts: counts.collect() }
    };
    let series: Vec<Series> = statistics.splits().map(lengths).collect();
    let bar = f64::from(wider) * BAR_SECS;
    let mut pictures = vec![("lengths", plot::histogram("Lengths of the clips", "seconds", bar, &series))];
    let names: Vec<String> = statistics.corpus.labels.keys().cloned().collect();
    if names.len() > 1 {
        let classes = |(name, split): (&str, &Split)| Series {
            name: name.to_owned(),
            counts: names.iter().enumerate().filter_map(|(at, name)| Some((at as f64, *split.labels.get(name)?))).collect(),
        };
        let series: Vec<Series> = statistics.splits().map(classes).collect();
        pictures.push(("classes", plot::classes("Utterances of every class", &names, &series)));
    }
    pictures
}

#[derive(Serialize)]
struct Page<'a> {
    title: String,
    about: &'a str,
    licence: &'a str,
    columns: [&'static str; 8],
    splits: Vec<SplitRow>,
    pictures: Vec<Shown<'a>>,
    heard: &'a [Heard],
    /// Classes whose clips cannot be played.
    more_classes: usize,
    kept: u64,
    utterances: u64,
    megabytes: String,
    share: String,
    sources: Counts<'a>,
    rejected: u64,
    filtered: u64,
    skipped: u64,
    reasons: Counts<'a>,
    unused: Counts<'a>,
}

#[derive(Serialize)]
struct Shown<'a> {
    #[serde(serialize_with = "template::svg")]
    svg: &'a Picture,
}

#[derive(Serialize)]
struct SplitRow {
    name: &'static str,
    cells: [String; 8],
}

/// Table of counts, the largest first.
#[derive(Serialize)]
struct Counts<'a> {
    title: &'static str,
    rows: Vec<Count<'a>>,
}

#[derive(Serialize)]
struct Count<'a> {
    name: &'a str,
    count: u64,
}

fn page(statistics: &Statistics, pictures: &[(&str, Picture)], heard: &[Heard]) -> String {
    let Statistics { corpus, shards } = statistics;
    let share = if shards.source_bytes > 0 { shards.clip_bytes as f64 / shards.source_bytes as f64 } else { 0.0 };
    let page = Page {
        title: format!("{}: {}", corpus.name, corpus.protocol),
        about: &corpus.about,
        licence: &corpus.licence,
        columns: ["utterances", "hours", "shortest", "mean", "longest", "speakers", "with text", "flagged"],
        splits: splits(statistics),
        pictures: pictures.iter().map(|(_, svg)| Shown { svg }).collect(),
        heard,
        more_classes: corpus.labels.len().saturating_sub(heard.len()),
        kept: shards.kept_as_is,
        utterances: shards.utterances,
        megabytes: format!("{:.1}", shards.clip_bytes as f64 / 1e6),
        share: format!("{share:.2}"),
        sources: counts("recordings", &shards.sources),
        rejected: shards.rejected,
        filtered: shards.filtered,
        skipped: corpus.skipped,
        reasons: counts("reason", &shards.reasons),
        unused: counts("not used by this protocol", &corpus.unused),
    };
    template::render(include_str!("corpus.html"), &page)
}

fn splits(statistics: &Statistics) -> Vec<SplitRow> {
    let secs = |samples: f64| format!("{:.2} s", samples / f64::from(statistics.shards.sample_rate.max(1)));
    let row = |(name, split): (&'static str, &Split)| {
        let (shortest, longest) = split.extent.unwrap_or_default();
        let cells = [
            split.rows.to_string(),
            format!("{:.2}", statistics.hours(split.samples)),
            secs(shortest as f64),
            secs(split.samples as f64 / split.rows as f64),
            secs(longest as f64),
            split.speakers.len().to_string(),
            split.transcribed.to_string(),
            split.flagged.to_string(),
        ];
        SplitRow { name, cells }
    };
    statistics.splits().map(row).collect()
}

fn counts<'a>(title: &'static str, counts: &'a BTreeMap<String, u64>) -> Counts<'a> {
    let mut rows: Vec<_> = counts.iter().map(|(name, count)| Count { name, count: *count }).collect();
    rows.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.name.cmp(b.name)));
    Counts { title, rows }
}
