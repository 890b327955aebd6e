//! The stage `report.corpus`: what the shards of a corpus hold, as one page with pictures.
//!
//! ```text
//! index.html                      hours, lengths, classes, speakers, sources and rejects
//! lengths.png classes.png         its pictures; `classes.png` only where a corpus has classes
//! ```

#![expect(clippy::format_push_string, reason = "the texts are short, and a template reads best whole")]

use std::collections::BTreeMap;
use std::fs;

use pipeline::{Job, Slot, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::picture::{Picture, escape};
use crate::plot::{self, Series};

/// Draws what a corpus's shards hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportCorpus {}

impl Stage for ReportCorpus {
    const KIND: &'static str = "report.corpus";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "a page on what the shards of a corpus hold: hours, lengths, classes, rejects";

    fn slots() -> Vec<Slot> {
        vec![Slot::one("statistics", "the statistics.json of an audio.summary")]
    }
}

/// What of `statistics.json` is shown.
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
    /// Where it departs.
    #[source]
    pub source: serde_json::Error,
}

/// How wide the bars are that `audio.shards` counts, in seconds.
const BAR_SECS: f64 = 0.1;
/// So many of those become one when there are too many to be seen.
const WIDER: [u32; 8] = [1, 2, 5, 10, 20, 50, 100, 600];
const MOST_BARS: u32 = 60;
const STYLE: &str = include_str!("report/page.css");
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
    write("index.html", page(&statistics, &pictures).as_bytes())
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

fn page(statistics: &Statistics, pictures: &[(&str, Picture)]) -> String {
    let Statistics { corpus, shards } = statistics;
    let heading = escape(&format!("{}: {}", corpus.name, corpus.protocol));
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{heading}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<main>\n<h1>{heading}</h1>\n<p>{}. Licence: {}.</p>\n",
        escape(&corpus.about),
        escape(&corpus.licence)
    );
    out += &splits(statistics);
    for (_, picture) in pictures {
        out += &format!("<figure>\n{}</figure>\n", picture.svg());
    }
    let share = if shards.source_bytes > 0 { shards.clip_bytes as f64 / shards.source_bytes as f64 } else { 0.0 };
    out += &format!(
        "<h2>Recordings</h2>\n<p>{} of {} kept their bytes; the clips take {:.1} MB, {:.2} of the recordings.</p>\n",
        shards.kept_as_is,
        shards.utterances,
        shards.clip_bytes as f64 / 1e6,
        share
    );
    out += &counts("recordings", &shards.sources);
    out += &format!(
        "<h2>Left out</h2>\n<p>{} broken and {} too short or too long (<code>rejects.parquet</code> names them); \
         {} skipped when the corpus was listed.</p>\n",
        shards.rejected, shards.filtered, corpus.skipped
    );
    out += &counts("reason", &shards.reasons);
    out += &counts("not used by this protocol", &corpus.unused);
    out + "</main>\n</body>\n</html>\n"
}

fn splits(statistics: &Statistics) -> String {
    let columns = ["utterances", "hours", "shortest", "mean", "longest", "speakers", "with text", "flagged"];
    let mut out = "<div class=\"wide\"><table>\n<thead><tr><th>split</th>".to_owned();
    for name in columns {
        out += &format!("<th class=\"number\">{name}</th>");
    }
    out += "</tr></thead>\n<tbody>\n";
    let secs = |samples: f64| format!("{:.2} s", samples / f64::from(statistics.shards.sample_rate.max(1)));
    for (name, split) in statistics.splits() {
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
        out += &format!("<tr><td>{name}</td>");
        for cell in cells {
            out += &format!("<td class=\"number\">{cell}</td>");
        }
        out += "</tr>\n";
    }
    out + "</tbody>\n</table></div>\n"
}

/// A table of counts, the largest first; nothing when there is none.
fn counts(what: &str, counts: &BTreeMap<String, u64>) -> String {
    if counts.is_empty() {
        return String::new();
    }
    let mut rows: Vec<_> = counts.iter().collect();
    rows.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), name.as_str()));
    let mut out =
        format!("<div class=\"wide\"><table>\n<thead><tr><th>{what}</th><th class=\"number\">count</th></tr></thead>\n<tbody>\n");
    for (name, count) in rows {
        out += &format!("<tr><td>{}</td><td class=\"number\">{count}</td></tr>\n", escape(name));
    }
    out + "</tbody>\n</table></div>\n"
}
