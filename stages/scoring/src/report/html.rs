//! The page: tables, pictures and details of every run, in one file that needs no other.

#![expect(clippy::format_push_string, reason = "the texts are short, and a template reads best whole")]

use super::Run;
use super::board::{Board, LEVEL};
use super::table::{Table, thousands};
use super::text::{board_cells, board_notes, capital};
use crate::alignment;
use crate::edit::{Edits, Step};
use crate::metric::Metric;
use crate::picture::{Picture, escape};
use crate::plot;
use crate::score::{ClassDetail, Detail, Miss, SlotCounts};
use crate::text::Unit;

const STYLE: &str = include_str!("page.css");
/// More runs than this start folded.
const FEW: usize = 2;
/// At most so many wrong answers are listed per run; the rest is counted.
const MOST_MISTAKES: usize = 200;

pub(super) fn page(title: &str, board: &Board, tables: &[Table], pictures: &[(&str, Picture)], runs: &[Run]) -> String {
    let heading = escape(title);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{heading}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<main>\n<h1>{heading}</h1>\n"
    );
    if board.is_worth_showing() {
        out += &board_table(board);
        for note in board_notes(board, "Bold: ", "*: ") {
            out += &format!("<p class=\"note\">{}</p>\n", escape(&note));
        }
    }
    for table in tables {
        if !table.title.is_empty() {
            out += &format!("<h2>{}</h2>\n", escape(&capital(&table.title)));
        }
        out += &details_table(table);
    }
    if let Some(table) = tables.first() {
        out += &format!("<p class=\"note\">{}</p>\n", escape(&table.note));
    }
    for (_, picture) in pictures {
        out += &figure(picture);
    }
    out += &contests(board);
    out += "<h2>Every run</h2>\n";
    for run in runs {
        out += &details(run, runs.len() <= FEW);
    }
    out + "</main>\n</body>\n</html>\n"
}

/// A cell as it stands in a row, with the attributes of its element.
fn cell(element: &str, attributes: &str, text: &str) -> String {
    format!("<{element}{attributes}>{}</{element}>", escape(text))
}

fn number(numeric: bool) -> &'static str {
    if numeric { " class=\"number\"" } else { "" }
}

fn board_table(board: &Board) -> String {
    // A mark stands behind its number, after a character that no text has.
    let (head, rows) = board_cells(board, |text, mark| format!("{text}\u{1}{mark}"));
    let names = head.iter().map(|column| {
        let name = column.name.split('\u{1}').next().unwrap_or_default();
        cell("th", number(column.numeric), name)
    });
    let mut out = format!("<div class=\"wide\"><table>\n<thead><tr>{}</tr></thead>\n<tbody>\n", names.collect::<String>());
    for row in &rows {
        let cells = row.iter().map(|text| match text.split_once('\u{1}') {
            None => cell("td", "", text),
            Some((text, "*")) => cell("td", " class=\"number best\" title=\"best of its row\"", text),
            Some((text, "**")) => {
                let title = format!(" class=\"number best\" title=\"best of its row, p &lt; {LEVEL} against the runner-up\"");
                cell("td", &title, &format!("{text} *"))
            }
            Some((text, mark)) => cell("td", " class=\"number\"", &format!("{text}{mark}")),
        });
        let published = if row.iter().any(|text| text == "published") { " class=\"published\"" } else { "" };
        out += &format!("<tr{published}>{}</tr>\n", cells.collect::<String>());
    }
    out + "</tbody>\n</table></div>\n"
}

fn details_table(table: &Table) -> String {
    let names = table.head.iter().map(|column| cell("th", number(column.numeric), &column.name));
    let mut out = format!("<div class=\"wide\"><table>\n<thead><tr>{}</tr></thead>\n<tbody>\n", names.collect::<String>());
    for row in &table.rows {
        let cells =
            row.cells.iter().enumerate().map(|(at, text)| match (row.best && at == table.primary, table.head[at].numeric) {
                (true, _) => cell("td", " class=\"number best\"", text),
                (false, numeric) => cell("td", number(numeric), text),
            });
        out += &format!("<tr>{}</tr>\n", cells.collect::<String>());
    }
    out + "</tbody>\n</table></div>\n"
}

fn contests(board: &Board) -> String {
    if board.rows.iter().all(|row| row.contests.is_empty()) {
        return String::new();
    }
    let mut out = "<h2>Are the differences real?</h2>\n<p class=\"note\">The best of each row against the others, on the same \
                   utterances; p is the chance of a difference at least as large if both were equally good. Not corrected for the \
                   number of comparisons.</p>\n<ul>\n"
        .to_owned();
    for row in &board.rows {
        for contest in &row.contests {
            let sentence = format!("{}: {}", row.name(), contest.sentence());
            out += &format!("<li>{}</li>\n", escape(&sentence));
        }
    }
    out + "</ul>\n"
}

fn figure(picture: &Picture) -> String {
    format!("<figure>\n{}</figure>\n", picture.svg())
}

fn details(run: &Run, open: bool) -> String {
    let (scores, name) = (&run.scores, run.name());
    let open = if open { " open" } else { "" };
    let (primary, unit) = (scores.primary, if scores.primary.is_percent() { " %" } else { "" });
    let value = format!("{primary} {}{unit}", primary.print(scores.primary_value()));
    let mut out = format!("<details{open}>\n<summary><b>{}</b> <span>{value}</span></summary>\n<dl>\n", escape(&name));
    for (metric, score) in &scores.metrics {
        let unit = if metric.is_percent() { " %" } else { "" };
        out += &format!("<div><dt>{metric}</dt><dd>{}{unit}</dd></div>\n", metric.print(score.value));
    }
    out += &format!("<div><dt>utterances</dt><dd>{}</dd></div>\n</dl>\n", thousands(scores.utterances));
    for note in &scores.notes {
        out += &format!("<p class=\"note\">{}</p>\n", escape(&format!("{}.", capital(note))));
    }
    match &scores.detail {
        Detail::Classification(detail) => {
            out += &figure(&plot::confusion_matrix(&format!("Confusion matrix: {name}"), &detail.labels, &detail.confusion));
            out += &classes(detail);
            out += &mistakes(detail);
        }
        Detail::Intent { slots } => {
            for (slot, detail) in slots {
                let title = format!("{}: {name}", capital(slot));
                out += &figure(&plot::confusion_matrix(&title, &detail.labels, &detail.confusion));
            }
            for (slot, detail) in slots {
                out += &format!("<h3>{}</h3>\n", escape(&capital(slot)));
                out += &mistakes(detail);
            }
        }
        Detail::Text { edits, worst, .. } => {
            out += &error_table(&edits.iter().map(|(unit, edits)| (unit.plural(), *edits)).collect::<Vec<_>>());
            let unit = edits.first().map_or(Unit::Word, |(unit, _)| *unit);
            out += &misses(worst, unit);
        }
        Detail::Slots { words, values, slots, worst } => {
            out += &error_table(&[("words, without markers", *words), ("characters of values", *values)]);
            out += &slot_table(slots);
            out += &misses(worst, Unit::Word);
        }
        Detail::Verification { targets, others } => {
            out +=
                &format!("<p class=\"note\">{} trials of one voice, {} of two.</p>\n", thousands(*targets), thousands(*others));
        }
    }
    let curve = scores.training.as_ref().and_then(|training| plot::training_curve(&format!("Training: {name}"), training));
    out += &curve.as_ref().map(figure).unwrap_or_default();
    out + "</details>\n"
}

/// A table from names of columns, the first of words and the others of numbers.
fn small_table(names: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let head: String = names.iter().enumerate().map(|(at, name)| cell("th", number(at > 0), name)).collect();
    let row = |row: Vec<String>| {
        let cells: String = row.iter().enumerate().map(|(at, text)| cell("td", number(at > 0), text)).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let rows: String = rows.map(row).collect();
    format!("<div class=\"wide\"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n")
}

fn classes(detail: &ClassDetail) -> String {
    let row = |(label, score): (&String, &crate::classification::ClassScore)| {
        let mut cells = vec![label.clone()];
        cells.extend([score.precision, score.recall, score.f1].map(|ratio| format!("{:.2}", 100.0 * ratio)));
        cells.push(thousands(score.support));
        cells
    };
    let rows = detail.labels.iter().zip(&detail.classes).map(row);
    format!("<h3>Classes</h3>\n{}", small_table(&["class", "precision", "recall", "F1", "utterances"], rows))
}

fn mistakes(detail: &ClassDetail) -> String {
    let (all, count) = (&detail.mistakes, detail.mistakes.len());
    if count == 0 {
        return String::new();
    }
    let mut out = format!("<details class=\"inner\">\n<summary>{} wrong answers</summary>\n<ul>\n", thousands(count as u64));
    for mistake in all.iter().take(MOST_MISTAKES) {
        let (id, label, prediction) = (escape(&mistake.id), escape(&mistake.label), escape(&mistake.prediction));
        out += &format!("<li><code>{id}</code>: {label}, answered {prediction}</li>\n");
    }
    out += "</ul>\n";
    if count > MOST_MISTAKES {
        out += &format!("<p class=\"note\">and {} more</p>\n", thousands((count - MOST_MISTAKES) as u64));
    }
    out + "</details>\n"
}

fn error_table(rows: &[(&str, Edits)]) -> String {
    let row = |(name, edits): &(&str, Edits)| {
        let counts = [edits.substitutions, edits.deletions, edits.insertions, edits.errors(), edits.tokens];
        let mut cells = vec![(*name).to_owned()];
        cells.extend(counts.map(thousands));
        cells.push(Metric::Wer.print(edits.rate()));
        cells
    };
    let names = ["errors in", "substitutions", "deletions", "insertions", "all", "of", "rate (%)"];
    format!("<h3>Errors</h3>\n{}", small_table(&names, rows.iter().map(row)))
}

fn slot_table(slots: &std::collections::BTreeMap<String, SlotCounts>) -> String {
    let row = |(name, counts): (&String, &SlotCounts)| {
        let missed = counts.reference - counts.both;
        let spurious = counts.hypothesis - counts.both;
        let mut cells = vec![name.clone()];
        cells.extend([counts.reference, counts.both, missed, spurious].map(thousands));
        cells
    };
    let rows = slots.iter().map(row);
    format!("<h3>Slots, counted once per utterance</h3>\n{}", small_table(&["slot", "said", "found", "missed", "spurious"], rows))
}

/// The worst utterances, reference and hypothesis in one line: what is missing struck out, what was added marked.
fn misses(worst: &[Miss], unit: Unit) -> String {
    if worst.is_empty() {
        return String::new();
    }
    let mut out = "<h3>The worst utterances</h3>\n<p class=\"note\">Struck out: said and not recognised; marked: recognised and \
                   not said.</p>\n<ul class=\"misses\">\n"
        .to_owned();
    for miss in worst {
        let errors = if miss.errors == 1 { "1 error".to_owned() } else { format!("{} errors", miss.errors) };
        out += &format!("<li><code>{}</code> <span>{errors}</span><br>{}</li>\n", escape(&miss.id), marked(miss, unit));
    }
    out + "</ul>\n"
}

fn marked(miss: &Miss, unit: Unit) -> String {
    let gap = if unit == Unit::Character { "" } else { " " };
    let cells = alignment::cells(unit, &miss.reference, &miss.hypothesis);
    let cell = |cell: &alignment::Cell| {
        let (reference, hypothesis) = (escape(&cell.reference), escape(&cell.hypothesis));
        match cell.step {
            Step::Match => reference,
            Step::Deletion => format!("<del>{reference}</del>"),
            Step::Insertion => format!("<ins>{hypothesis}</ins>"),
            Step::Substitution => format!("<del>{reference}</del>{gap}<ins>{hypothesis}</ins>"),
        }
    };
    cells.iter().map(cell).collect::<Vec<_>>().join(gap)
}
