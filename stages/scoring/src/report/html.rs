//! The page: table, pictures and details of every run, in one file that needs no other.

#![expect(clippy::format_push_string, reason = "the texts are short, and a template reads best whole")]

use super::table::{Table, thousands};
use super::{Comparison, Run};
use crate::metric::Metric;
use crate::picture::{Picture, escape};
use crate::plot;

const STYLE: &str = include_str!("page.css");
/// More runs than this start folded.
const FEW: usize = 2;
/// At most so many wrong answers are listed per run; the rest is counted.
const MOST_MISTAKES: usize = 200;

pub(super) fn page(title: &str, table: &Table, comparisons: &[Comparison], scatter: &Picture, runs: &[Run]) -> String {
    let heading = escape(title);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{heading}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<main>\n<h1>{heading}</h1>\n"
    );
    out += &results(table);
    out += &format!("<p class=\"note\">{}</p>\n", escape(&table.note));
    out += &figure(scatter);
    if !comparisons.is_empty() {
        out += "<h2>Are the differences real?</h2>\n<p class=\"note\">McNemar's exact test over the utterances that only \
                one of two answered rightly; p is the chance of such a split if both were equally good.</p>\n<ul>\n";
        for comparison in comparisons {
            out += &format!("<li>{}</li>\n", escape(&comparison.sentence()));
        }
        out += "</ul>\n";
    }
    out += "<h2>Every run</h2>\n";
    for run in runs {
        out += &details(run, runs.len() <= FEW);
    }
    out + "</main>\n</body>\n</html>\n"
}

fn results(table: &Table) -> String {
    let class = |at: usize| if table.head[at].numeric { " class=\"number\"" } else { "" };
    let head = table.head.iter().enumerate().map(|(at, column)| format!("<th{}>{}</th>", class(at), escape(&column.name)));
    let mut out = format!("<div class=\"wide\"><table>\n<thead><tr>{}</tr></thead>\n<tbody>\n", head.collect::<String>());
    for row in &table.rows {
        let cells = row.cells.iter().enumerate().map(|(at, cell)| format!("<td{}>{}</td>", class(at), escape(cell)));
        let best = if row.best { " class=\"best\" title=\"the most accurate on its corpus\"" } else { "" };
        out += &format!("<tr{best}>{}</tr>\n", cells.collect::<String>());
    }
    out + "</tbody>\n</table></div>\n"
}

fn figure(picture: &Picture) -> String {
    format!("<figure>\n{}</figure>\n", picture.svg())
}

fn details(run: &Run, open: bool) -> String {
    let (scores, name) = (&run.scores, run.name());
    let open = if open { " open" } else { "" };
    let accuracy = 100.0 * scores.accuracy();
    let mut out = format!("<details{open}>\n<summary><b>{}</b> <span>{accuracy:.2} % right</span></summary>\n", escape(&name));
    out += "<dl>\n";
    for metric in Metric::ALL {
        out += &format!("<div><dt>{metric}</dt><dd>{:.4}</dd></div>\n", scores.metric(metric));
    }
    out += &format!("<div><dt>right</dt><dd>{} of {}</dd></div>\n", thousands(scores.right), thousands(scores.utterances));
    out += "</dl>\n";
    out += &figure(&plot::confusion_matrix(&format!("Confusion matrix: {name}"), &scores.labels, &scores.confusion));
    let curve = scores.training.as_ref().and_then(|training| plot::training_curve(&format!("Training: {name}"), training));
    out += &curve.as_ref().map(figure).unwrap_or_default();
    out += &classes(run);
    out += &mistakes(run);
    out + "</details>\n"
}

fn classes(run: &Run) -> String {
    let mut out = "<h3>Classes</h3>\n<div class=\"wide\"><table>\n<thead><tr><th>class</th><th class=\"number\">precision</th>\
                   <th class=\"number\">recall</th><th class=\"number\">F1</th><th class=\"number\">utterances</th></tr></thead>\n\
                   <tbody>\n"
        .to_owned();
    for (label, score) in run.scores.labels.iter().zip(&run.scores.classes) {
        let ratios = [score.precision, score.recall, score.f1];
        let ratios = ratios.map(|ratio| format!("<td class=\"number\">{:.2}</td>", 100.0 * ratio)).concat();
        let support = thousands(score.support);
        out += &format!("<tr><td>{}</td>{ratios}<td class=\"number\">{support}</td></tr>\n", escape(label));
    }
    out + "</tbody>\n</table></div>\n"
}

fn mistakes(run: &Run) -> String {
    let (all, count) = (&run.scores.mistakes, run.scores.mistakes.len());
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
