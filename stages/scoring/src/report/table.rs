//! Detailed tables: one per kind of task, a row per corpus, method and other axes.

use super::board::Board;
use super::group::{Group, one_class_note};
use super::sweep::{self, OnDev};
use super::{NONE, Run, interval_note, spaced};
use crate::metric::Metric;
use crate::template::thousands;

/// Cells of text under a heading.
#[derive(Debug)]
pub(super) struct Table {
    /// The task; empty when there is one table only.
    pub(super) title: String,
    pub(super) head: Vec<Column>,
    pub(super) rows: Vec<TableRow>,
    /// Note on the numbers.
    pub(super) note: String,
    /// The column of the metric that methods are compared by.
    pub(super) primary: usize,
}

/// A column.
#[derive(Debug, Clone, serde::Serialize)]
pub(super) struct Column {
    pub(super) name: String,
    /// True for numbers, which are aligned to the right.
    pub(super) numeric: bool,
}

/// The cells of one group of runs.
#[derive(Debug)]
pub(super) struct TableRow {
    pub(super) cells: Vec<String>,
    /// True if no other method of its task and corpus is better.
    pub(super) best: bool,
}

/// Metrics that have no column unless methods are compared by them.
const HIDDEN: [Metric; 4] = [Metric::MicroF1, Metric::UnweightedAverageRecall, Metric::Matthews, Metric::Loss];

impl Column {
    fn words(name: &str) -> Self {
        Self { name: name.to_owned(), numeric: false }
    }
    pub(super) fn numbers(name: &str) -> Self {
        Self { name: name.to_owned(), numeric: true }
    }
}

/// One table per task and metric to compare by.
pub(super) fn details(groups: &[Group], board: &Board) -> Vec<Table> {
    let mut sections: Vec<(&str, Metric, Vec<&Group>)> = Vec::new();
    for group in groups {
        let (task, metric) = (group.runs[0].task.as_str(), group.runs[0].scores.primary);
        match sections.iter_mut().find(|section| (section.0, section.1) == (task, metric)) {
            Some(section) => section.2.push(group),
            None => sections.push((task, metric, vec![group])),
        }
    }
    let several = sections.len() > 1;
    let note = note(groups, board);
    let table = |(task, metric, mut groups): (&str, Metric, Vec<&Group>)| {
        // Corpus by corpus, in order of appearance.
        let mut corpora: Vec<&str> = groups.iter().map(|group| group.runs[0].corpus.as_str()).collect();
        let mut seen = std::collections::BTreeSet::new();
        corpora.retain(|corpus| seen.insert(*corpus));
        groups.sort_by_key(|group| corpora.iter().position(|corpus| *corpus == group.runs[0].corpus));
        let title = match (several, task) {
            (false, _) => String::new(),
            (true, NONE) => metric.title().to_owned(),
            (true, task) => spaced(task),
        };
        table(title, metric, &groups, board, note.clone())
    };
    sections.into_iter().map(table).collect()
}

fn note(groups: &[Group], board: &Board) -> String {
    let several = groups.iter().any(|group| group.runs.len() > 1);
    let over_seeds = if several { ", ends averaged over seeds; ± is the standard deviation over seeds" } else { "" };
    let measured =
        |metric: Metric| groups.iter().any(|group| group.runs.iter().any(|run| run.scores.metrics.contains_key(&metric)));
    let units =
        if measured(Metric::Mcd) { ", MCD in dB, F0 RMSE in cents, similarity and variance ratio as they are" } else { "" };
    // Under a board, its notes say so.
    let is_marked = !board.is_worth_showing() && groups.iter().any(Group::answers_one_class);
    let mark = if is_marked { format!(" {}", one_class_note()) } else { String::new() };
    format!(
        "Scores in percent{units}; {}{over_seeds}. Chance: the best answer that does not depend on the recording.{mark}",
        interval_note(groups)
    )
}

fn table(title: String, primary: Metric, groups: &[&Group], board: &Board, note: String) -> Table {
    let runs = || groups.iter().flat_map(|group| group.runs.iter().copied());
    let mut axes: Vec<&str> = runs().flat_map(|run: &Run| run.others.keys()).map(String::as_str).collect();
    axes.sort_unstable();
    axes.dedup();
    let measured = |metric: &Metric| runs().any(|run| run.scores.metrics.contains_key(metric));
    let further: Vec<Metric> =
        Metric::ALL.into_iter().filter(|metric| *metric != primary && !HIDDEN.contains(metric) && measured(metric)).collect();
    let mut head: Vec<Column> = ["corpus", "method"].into_iter().chain(axes.iter().copied()).map(Column::words).collect();
    head.push(Column::numbers("seed"));
    let primary_column = head.len();
    head.push(Column::numbers(primary.title()));
    head.extend(["interval", "chance"].map(Column::numbers));
    let judged = sweep::judged(groups);
    let on_dev = judged.iter().flatten().next().map(|one| one.metric);
    head.extend(on_dev.map(|metric| Column::numbers(&format!("dev {}", metric.title()))));
    head.extend(further.iter().map(|metric| Column::numbers(metric.title())));
    let counted = runs().next().map_or("utterances", |run| match run.scores.detail {
        crate::score::Detail::Verification { .. } => "trials",
        _ => "utterances",
    });
    head.extend(["trainable", "share", "total", counted].map(Column::numbers));
    let row = |(group, judged): (&&Group, &Option<OnDev>)| {
        let dev = on_dev.map(|_| judged.as_ref().map_or_else(|| "–".to_owned(), OnDev::print));
        TableRow { cells: cells(group, &axes, primary, dev, &further), best: board.is_best(group) }
    };
    let note = if on_dev.is_some() { format!("{note} {BEST_ON_DEV} best of its sweep on the dev set.") } else { note };
    Table { title, head, rows: groups.iter().zip(&judged).map(row).collect(), note, primary: primary_column }
}

/// Mark of the value that the dev set chooses.
const BEST_ON_DEV: char = '◂';

impl OnDev {
    fn print(&self) -> String {
        let mark = if self.best { BEST_ON_DEV } else { ' ' };
        format!("{} {mark}", self.metric.print(self.value))
    }
}

fn cells(group: &Group, axes: &[&str], primary: Metric, dev: Option<String>, further: &[Metric]) -> Vec<String> {
    let first = group.runs[0];
    let mut cells = vec![first.corpus.clone(), first.method.clone()];
    cells.extend(axes.iter().map(|axis| first.others.get(*axis).cloned().unwrap_or_else(|| NONE.to_owned())));
    cells.push(if group.runs.len() == 1 { first.seed.clone() } else { format!("{} seeds", group.runs.len()) });
    cells.push(group.print(primary));
    cells.push(match group.interval(primary) {
        Some(interval) => format!("{} to {}", primary.print(interval.low), primary.print(interval.high)),
        None => "–".to_owned(),
    });
    cells.push(primary.print(group.chance(primary)));
    cells.extend(dev);
    cells.extend(further.iter().map(|metric| group.print(*metric)));
    match group.parameters() {
        Some(counts) => {
            let share = 100.0 * counts.trainable as f64 / (counts.total as f64).max(1.0);
            cells.extend([thousands(counts.trainable), format!("{share:.2} %"), thousands(counts.total)]);
        }
        None => cells.extend(["–", "–", "–"].map(str::to_owned)),
    }
    let counts = || group.runs.iter().map(|run| run.scores.utterances);
    let (least, most) = (counts().min().unwrap_or(0), counts().max().unwrap_or(0));
    cells.push(if least == most { thousands(most) } else { format!("{} to {}", thousands(least), thousands(most)) });
    cells
}
