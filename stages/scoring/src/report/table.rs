//! The table for people: as text, Markdown and cells.

#![expect(clippy::format_push_string, reason = "the texts are short, and a template reads best whole")]

use std::fmt::Write;

use super::{Comparison, Group, Run};
use crate::metric::Metric;
use crate::score::Scores;

/// More comparisons than this are shown on the page only.
const FEW: usize = 12;

/// Cells of text under a heading.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) head: Vec<Column>,
    pub(super) rows: Vec<Row>,
    /// What the numbers mean.
    pub(super) note: String,
}

/// A column.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: String,
    /// Numbers stand to the right.
    pub(super) numeric: bool,
}

/// The cells of one group of runs.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) cells: Vec<String>,
    /// The most accurate on its corpus.
    pub(super) best: bool,
}

impl Table {
    /// One row per group.
    pub(super) fn new(runs: &[Run], groups: &[Group]) -> Self {
        let mut others: Vec<&str> = runs.iter().flat_map(|run| run.others.keys()).map(String::as_str).collect();
        others.sort_unstable();
        others.dedup();
        let confidence = runs.first().map_or(0.95, |run| run.scores.confidence);
        let interval = format!("{} % interval", trim(100.0 * confidence));
        let words = ["corpus", "method"].into_iter().chain(others.iter().copied());
        let numbers = ["seed", "accuracy", &interval, "macro F1", "weighted F1", "trainable", "share", "total", "utterances"];
        let column = |numeric| move |name: &str| Column { name: name.to_owned(), numeric };
        let head = words.map(column(false)).chain(numbers.into_iter().map(column(true))).collect();
        let rows = groups.iter().map(|group| Row { cells: cells(group, &others), best: group.best }).collect();
        let several = groups.iter().any(|group| group.runs.len() > 1);
        let over_seeds = if several { ", ends averaged over seeds; ± is the standard deviation over seeds" } else { "" };
        let note = format!("Accuracy and F1 in percent; interval: bootstrap over utterances{over_seeds}.");
        Self { head, rows, note }
    }

    /// For a terminal.
    pub(super) fn text(&self, title: &str, comparisons: &[Comparison]) -> String {
        let width = |at: usize| {
            let cells = self.rows.iter().map(|row| row.cells[at].chars().count());
            cells.chain([self.head[at].name.chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let rule = format!("{}\n", "─".repeat(widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1)));
        let line = |cells: Vec<&str>| {
            let pad = |(at, cell): (usize, &&str)| {
                let space = " ".repeat(widths[at].saturating_sub(cell.chars().count()));
                if self.head[at].numeric { format!("{space}{cell}") } else { format!("{cell}{space}") }
            };
            format!("{}\n", cells.iter().enumerate().map(pad).collect::<Vec<_>>().join("  ").trim_end())
        };
        let mut out = format!("{title}\n\n{}{rule}", line(self.head.iter().map(|column| column.name.as_str()).collect()));
        for row in &self.rows {
            out += &line(row.cells.iter().map(String::as_str).collect());
        }
        out += &rule;
        out += &self.note;
        out.push('\n');
        for comparison in few(comparisons) {
            out += &comparison.sentence();
            out.push('\n');
        }
        out
    }

    /// For a README; the best accuracy of each corpus in bold.
    pub(super) fn markdown(&self, title: &str, comparisons: &[Comparison]) -> String {
        let mut out = format!("# {title}\n\n");
        let mut line = |cells: &[String]| writeln!(out, "| {} |", cells.join(" | ")).expect("a string takes any text");
        line(&self.head.iter().map(|column| escape(&column.name)).collect::<Vec<_>>());
        line(&self.head.iter().map(|column| if column.numeric { "--:" } else { "---" }.to_owned()).collect::<Vec<_>>());
        for row in &self.rows {
            let cell = |(at, cell): (usize, &String)| {
                let strong = row.best && self.head[at].name == "accuracy";
                if strong { format!("**{}**", escape(cell)) } else { escape(cell) }
            };
            line(&row.cells.iter().enumerate().map(cell).collect::<Vec<_>>());
        }
        out += &format!("\n{}\n", self.note);
        if !few(comparisons).is_empty() {
            out.push('\n');
        }
        for comparison in few(comparisons) {
            out += &format!("- {}\n", escape(&comparison.sentence()));
        }
        out
    }
}

fn few(comparisons: &[Comparison]) -> &[Comparison] {
    if comparisons.len() > FEW { &[] } else { comparisons }
}

fn cells(group: &Group, others: &[&str]) -> Vec<String> {
    let first = group.runs[0];
    let mut cells = vec![first.corpus.clone(), first.method.clone()];
    cells.extend(others.iter().map(|axis| first.others.get(*axis).cloned().unwrap_or_else(|| "-".to_owned())));
    cells.push(if group.runs.len() == 1 { first.seed.clone() } else { format!("{} seeds", group.runs.len()) });
    cells.push(percent(group, Scores::accuracy));
    let interval = group.interval();
    cells.push(format!("{:.2} to {:.2}", 100.0 * interval.low, 100.0 * interval.high));
    cells.push(percent(group, |scores| scores.metric(Metric::MacroF1)));
    cells.push(percent(group, |scores| scores.metric(Metric::WeightedF1)));
    match group.parameters() {
        Some(counts) => {
            let share = 100.0 * counts.trainable as f64 / (counts.total as f64).max(1.0);
            cells.extend([thousands(counts.trainable), format!("{share:.2} %"), thousands(counts.total)]);
        }
        None => cells.extend(["-", "-", "-"].map(str::to_owned)),
    }
    let counts = || group.runs.iter().map(|run| run.scores.utterances);
    let (least, most) = (counts().min().unwrap_or(0), counts().max().unwrap_or(0));
    cells.push(if least == most { thousands(most) } else { format!("{} to {}", thousands(least), thousands(most)) });
    cells
}

fn percent(group: &Group, of: impl Fn(&Scores) -> f64 + Copy) -> String {
    let mean = 100.0 * group.mean(of);
    match group.deviation(of) {
        Some(deviation) => format!("{mean:.2} ± {:.2}", 100.0 * deviation),
        None => format!("{mean:.2}"),
    }
}

/// `1234567` as `1,234,567`.
pub(super) fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `95` rather than `95.00`, but `99.5`.
fn trim(value: f64) -> String {
    format!("{value:.2}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Keeps Markdown from reading a name as markup.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace('*', "\\*").replace('_', "\\_").replace('<', "&lt;").replace('\n', " ")
}
