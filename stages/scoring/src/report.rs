//! Stage `report.table`: turns the scores of many runs into tables, pictures and a page.
//!
//! Runs that differ by seed only share a row. The board sets tasks against methods; the tables below it give the details of each
//! task. Times are not part of it, because an artifact does not depend on time; `sure results` prints them.

mod board;
mod group;
mod page;
mod parquet;
mod published;
mod sweep;
mod table;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use pipeline::{Input, Job, Slot, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clips;
use crate::evidence::{self, Evidence};
use crate::metric::Metric;
use crate::plot::{self, Along, Curve, CurvePanel, Layout, ScatterPanel, ScatterPoint};
use crate::score::{self, Scores, read_scores, write};
use crate::significance::Units;
use board::Board;
use group::Group;

pub use published::{Certainty, PUBLISHED, Published};

/// Gathers the scores of many runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportTable {
    /// Title of the table and of the page.
    pub title: String,
    /// True to show the known values of the published benchmark (wav2vec 2.0 large) next to those of the same task, corpus and
    /// method in any case. Default false: they say nothing about a small encoder or a synthetic corpus, and are shown only next to
    /// runs whose axis `backbone` is `published`.
    #[serde(default)]
    pub published: bool,
    /// Methods that are shown and not ranked, such as recordings next to synthetic speech. Scores without an axis `method` are named by
    /// their axis `anchor`. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub anchors: Vec<String>,
    /// Rounds of the tests of significance. Default 10000.
    #[serde(default = "default_rounds")]
    pub rounds: u32,
}

fn default_rounds() -> u32 {
    10_000
}

impl Stage for ReportTable {
    const KIND: &'static str = "report.table";
    const VERSION: u32 = 10;
    const ABOUT: &'static str = "tables of all scores, tasks by methods and in detail, with pictures and a page";

    fn slots() -> Vec<Slot> {
        vec![
            Slot::many("scores", "artifacts of score.*; the axes task, corpus, method and seed of the matrix name them"),
            Slot::any("clips", "shards of the test set, for players of the worst answers"),
        ]
    }
    fn outputs(&self) -> Vec<String> {
        ["table.txt", "table.md", "table.parquet", "index.html", "figures", "score_vs_parameters.png", "score_vs_parameters.svg"]
            .map(str::to_owned)
            .to_vec()
    }

    fn check(&self) -> Vec<(&'static str, String)> {
        if (100..=10_000_000).contains(&self.rounds) {
            return Vec::new();
        }
        vec![("rounds", format!("expected 100 to 10000000, found {}", self.rounds))]
    }
}

/// Scores at one point of the matrix.
#[derive(Debug)]
struct Run {
    task: String,
    corpus: String,
    method: String,
    seed: String,
    /// Other axes.
    others: BTreeMap<String, String>,
    /// Other axes whose value not all runs share.
    telling: BTreeMap<String, String>,
    scores: Scores,
    /// Evidence of the scores; none when only the file of scores was given.
    evidence: Option<Evidence>,
}

/// Axis of the matrix that names runs which no method made: recordings next to synthetic speech.
pub(crate) const ANCHOR: &str = "anchor";

/// Name where nothing gives one.
const NONE: &str = "-";

/// Writes `table.txt`, `table.md`, `table.parquet`, `index.html` and the pictures `score_vs_parameters`, `learning_curves` (when
/// trainings were given), `sweep` (of a parameter with several values), `benchmark` (of several tasks or corpora and methods) and `ranks`
/// (of three or more tasks and methods), each as
/// `.svg` and `.png`, and under `figures/`, for a column of a paper, as `.svg` and `.pdf`, with the confusion matrices. Clips of the worst answers are next to the
/// page.
///
/// Errors: [`StageError::Failed`] when a file of scores is not one, [`StageError::Io`] when files cannot be read or written.
pub fn run(params: &ReportTable, job: &Job) -> Result<(), StageError> {
    let mut runs = job.inputs.many("scores").iter().map(read_run).collect::<Result<Vec<_>, _>>()?;
    tell_apart(&mut runs);
    let groups = group::groups(&runs);
    let board = Board::new(&groups, params);
    let tables = table::details(&groups, &board);
    let pictures_for = |layout| pictures(&groups, &board, layout);
    let pictures = pictures_for(Layout::Page);
    let out = |name: &str| job.out.join(name);
    write(&out("table.txt"), text::plain(&params.title, &board, &tables).as_bytes())?;
    write(&out("table.md"), text::markdown(&params.title, &board, &tables).as_bytes())?;
    write(&out("table.parquet"), &parquet::encode(&runs).map_err(StageError::failed)?)?;
    for (name, picture) in &pictures {
        write(&out(&format!("{name}.svg")), picture.svg().as_bytes())?;
        write(&out(&format!("{name}.png")), &picture.png(2.0))?;
    }
    let figures = out("figures");
    std::fs::create_dir_all(&figures).map_err(StageError::io("create", &figures))?;
    for (name, picture) in pictures_for(Layout::Column) {
        write(&figures.join(format!("{name}.svg")), picture.outlined_svg().as_bytes())?;
        write(&figures.join(format!("{name}.pdf")), &picture.pdf())?;
    }
    for matrix in runs.iter().flat_map(page::matrices) {
        let picture = matrix.draw(Layout::Column);
        write(&figures.join(format!("{}.svg", matrix.name)), picture.outlined_svg().as_bytes())?;
        write(&figures.join(format!("{}.pdf", matrix.name)), &picture.pdf())?;
    }
    let clips = clips::copy(job.inputs.many("clips"), &page::played(&runs), &job.out)?;
    write(&out("index.html"), page::page(&params.title, &board, &tables, &pictures, &runs, &clips).as_bytes())
}

fn read_run(input: &Input) -> Result<Run, StageError> {
    let scores = read_scores(&input.path)?;
    let evidence = match input.path.is_dir().then(|| input.path.join(evidence::FILE_NAME)).filter(|path| path.is_file()) {
        Some(path) => Some(evidence::read(&path).map_err(StageError::failed)?),
        None => None,
    };
    let mut others = input.point.clone();
    let mut axis =
        |name: &str, else_: &Option<String>| others.remove(name).or_else(|| else_.clone()).unwrap_or_else(|| NONE.to_owned());
    let (task, corpus) = (axis("task", &scores.task), axis("corpus", &scores.corpus));
    let anchor = input.point.get(ANCHOR).cloned();
    let (method, seed) = (axis("method", &anchor), axis("seed", &None));
    others.remove(ANCHOR);
    Ok(Run { task, corpus, method, seed, others, telling: BTreeMap::new(), scores, evidence })
}

fn tell_apart(runs: &mut [Run]) {
    let Some(first) = runs.first().map(|run| run.others.clone()) else { return };
    let mut differing: BTreeSet<String> = BTreeSet::new();
    for run in runs.iter() {
        let axes = first.keys().chain(run.others.keys());
        differing.extend(axes.filter(|axis| first.get(*axis) != run.others.get(*axis)).cloned());
    }
    for run in runs {
        run.telling = run.others.clone();
        run.telling.retain(|axis, _| differing.contains(axis));
    }
}

impl Run {
    /// Name for headings: the axes that differ.
    fn name(&self) -> String {
        let seed = if self.seed == NONE { String::new() } else { format!("seed {}", self.seed) };
        let others = self.telling.iter().map(|(axis, value)| format!("{axis} {value}"));
        let parts = [spaced(&self.task), self.corpus.clone(), self.method.clone()].into_iter().chain(others).chain([seed]);
        let parts: Vec<String> = parts.filter(|part| !part.is_empty() && part != NONE).collect();
        if parts.is_empty() { "run".to_owned() } else { parts.join(", ") }
    }
}

/// `speech_recognition` as `speech recognition`.
fn spaced(name: &str) -> String {
    name.replace('_', " ")
}

/// Pictures with their names, in the order of the page.
fn pictures(groups: &[Group], board: &Board, layout: Layout) -> Vec<(&'static str, crate::picture::Picture)> {
    let mut pictures = Vec::new();
    if board.rows.len() > 1 && board.methods.len() > 1 {
        pictures.push(("benchmark", plot::heat_table("Tasks by methods", &board.methods, &board.heat(), layout)));
    }
    let (ranks, tasks) = board.ranks();
    let title = "Mean ranks of the methods, and which are not told apart";
    pictures.extend(plot::rank_diagram(title, &ranks, tasks, layout).map(|picture| ("ranks", picture)));
    pictures.push((
        "score_vs_parameters",
        plot::score_vs_parameters("Scores against trainable parameters", &scatter(groups), layout),
    ));
    let curves = curves(groups);
    if !curves.is_empty() {
        pictures.push(("learning_curves", plot::learning_curves("Learning curves on the dev set", &curves, layout)));
    }
    let sweeps = sweep::panels(groups);
    if !sweeps.is_empty() {
        pictures.push(("sweep", plot::learning_curves("Sweep: scores on the dev set", &sweeps, layout)));
    }
    pictures
}

/// One panel per task and metric, one colour per corpus.
fn scatter(groups: &[Group]) -> Vec<ScatterPanel> {
    let mut panels: Vec<ScatterPanel> = Vec::new();
    for group in groups {
        let first = group.runs[0];
        let (metric, task) = (first.scores.primary, spaced(&first.task));
        let title = if task == NONE { String::new() } else { task };
        let known = panels.iter().position(|panel| panel.title == title && panel.metric == metric);
        let at = known.unwrap_or(panels.len());
        if known.is_none() {
            panels.push(ScatterPanel { title, metric, points: Vec::new() });
        }
        let panel = &mut panels[at];
        let Some(parameters) = group.parameters().filter(|parameters| parameters.trainable > 0) else { continue };
        let others = first.telling.values().cloned();
        panel.points.push(ScatterPoint {
            group: first.corpus.clone(),
            label: [first.method.clone()].into_iter().chain(others).collect::<Vec<_>>().join(", "),
            parameters: parameters.trainable as f64,
            value: group.mean(metric),
            interval: group.interval(metric),
        });
    }
    panels
}

/// One panel per task and corpus, one line per run: of what is scored, or else of what the training was judged by, where a dev set
/// has no score of that kind, as in verification.
fn curves(groups: &[Group]) -> Vec<CurvePanel> {
    let mut panels: Vec<CurvePanel> = Vec::new();
    for group in groups {
        for run in &group.runs {
            let Some(training) = &run.scores.training else { continue };
            let judged_by = training.get("metric").and_then(|name| Metric::deserialize(name).ok());
            let metrics = [Some(run.scores.primary), judged_by].into_iter().flatten();
            let mut known = metrics.filter_map(|metric| Some((metric, plot::dev_curve(training, metric)?)));
            let Some((metric, points)) = known.next() else { continue };
            let title = [spaced(&run.task), run.corpus.clone()].into_iter().filter(|part| part != NONE).collect::<Vec<_>>();
            let (title, others) = (title.join(", "), run.telling.values().cloned());
            let label = [run.method.clone()].into_iter().chain(others).collect::<Vec<_>>().join(", ");
            let known = panels.iter().position(|panel| panel.title == title && panel.metric == metric);
            let at = known.unwrap_or(panels.len());
            if known.is_none() {
                panels.push(CurvePanel { title, metric, along: Along::Steps, curves: Vec::new() });
            }
            let panel = &mut panels[at];
            panel.curves.push(Curve { label, points });
        }
    }
    panels
}

/// Units that are swapped in tests: those that the intervals draw.
fn units(group: &Group) -> Units {
    group.runs[0].scores.interval.by
}

/// Description of the intervals, once for all that are made alike.
fn interval_note(groups: &[Group]) -> String {
    score::describe(groups.iter().flat_map(|group| &group.runs).map(|run| &run.scores))
}

#[cfg(test)]
mod tests;
