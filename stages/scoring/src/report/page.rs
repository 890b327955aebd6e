//! Page with tables, pictures and details of every run.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value as Json;

use super::board::{Board, LEVEL};
use super::table::{Column, Table};
use super::text::{board_cells, board_notes, capital};
use super::{NONE, Run};
use crate::alignment;
use crate::clips::ClipFiles;
use crate::edit::{Edits, Step};
use crate::evidence::Evidence;
use crate::metric::Metric;
use crate::picture::Picture;
use crate::plot::{self, Layout};
use crate::score::{ClassDetail, Detail, LabelScore, Miss, Mistake, SlotCounts, SpeakerDetail};
use crate::template::{self, thousands};
use crate::text::Unit;

const TEMPLATE: &str = include_str!("page.html");
/// Number of runs above which details start folded.
const FEW: usize = 2;
/// Number of wrong answers that are listed per run; the rest is counted.
const MOST_MISTAKES: usize = 40;
/// Number of speakers that are listed per run: those with the worst scores.
const MOST_SPEAKERS: usize = 20;
/// Samples per second of the clips that encoders read.
const SAMPLE_RATE: f64 = 16_000.0;

#[derive(Serialize)]
struct Page<'a> {
    title: &'a str,
    about: Vec<Fact>,
    board: Option<Grid>,
    notes: Vec<String>,
    tables: Vec<Section>,
    table_note: &'a str,
    pictures: Vec<Shown<'a>>,
    contests: Vec<String>,
    runs: Vec<RunView>,
}

/// Name and value, one of a row of such.
#[derive(Serialize)]
struct Fact {
    name: String,
    value: String,
}

#[derive(Serialize)]
struct Grid {
    head: Vec<Column>,
    rows: Vec<GridRow>,
}

#[derive(Serialize)]
struct GridRow {
    published: bool,
    cells: Vec<Cell>,
}

#[derive(Serialize)]
struct Cell {
    text: String,
    class: &'static str,
    title: String,
}

#[derive(Serialize)]
struct Section {
    title: String,
    grid: Grid,
}

#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    #[serde(serialize_with = "template::svg")]
    svg: &'a Picture,
}

#[derive(Serialize)]
struct Drawn {
    /// Name of its files below `figures/`; empty if there are none.
    name: String,
    #[serde(serialize_with = "template::svg")]
    svg: Picture,
}

#[derive(Serialize)]
struct RunView {
    name: String,
    open: bool,
    value: String,
    facts: Vec<Fact>,
    notes: Vec<String>,
    pictures: Vec<Drawn>,
    sections: Vec<Section>,
    answers: Vec<Answers>,
}

/// List of wrong answers.
#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the template reads `list.answers`")]
struct Answers {
    title: String,
    note: &'static str,
    answers: Vec<Answer>,
    more: u64,
}

#[derive(Serialize)]
struct Answer {
    id: String,
    /// Files of its clip, if it can be played.
    clip: Option<ClipFiles>,
    note: String,
    reference: String,
    hypothesis: String,
    /// Alignment of both texts; empty for classes.
    steps: Vec<AlignedStep>,
}

#[derive(Serialize)]
struct AlignedStep {
    kind: &'static str,
    reference: String,
    hypothesis: String,
}

/// Number of answers of a list that can be played.
const PLAYED: usize = 10;

/// Ids of the answers that can be played where their clips are given.
pub(super) fn played(runs: &[Run]) -> BTreeSet<String> {
    let lists = runs.iter().flat_map(|run| answers(&run.scores.detail));
    lists.flat_map(|list| list.answers.into_iter().take(PLAYED)).map(|answer| answer.id).collect()
}

/// `clips`: files of clips by id.
pub(super) fn page(
    title: &str,
    board: &Board,
    tables: &[Table],
    pictures: &[(&str, Picture)],
    runs: &[Run],
    clips: &BTreeMap<String, ClipFiles>,
) -> String {
    let shown = board.is_worth_showing();
    let contest = |row: &super::board::BoardRow| {
        let name = row.name();
        row.contests.iter().map(|contest| format!("{name}: {}", contest.sentence())).collect::<Vec<_>>()
    };
    let page = Page {
        title,
        about: about(runs),
        board: shown.then(|| board_grid(board)),
        notes: if shown { board_notes(board, "Bold: ", "*: ") } else { Vec::new() },
        tables: tables.iter().map(section).collect(),
        table_note: tables.first().map_or("", |table| &table.note),
        pictures: pictures.iter().map(|(name, svg)| Shown { name, svg }).collect(),
        contests: board.rows.iter().flat_map(contest).collect(),
        runs: runs.iter().map(|run| view(run, runs.len() <= FEW, clips)).collect(),
    };
    template::render(TEMPLATE, &page)
}

fn fact(name: &str, value: impl Into<String>) -> Fact {
    Fact { name: name.to_owned(), value: value.into() }
}

/// Facts about all runs together: values of the axes.
fn about(runs: &[Run]) -> Vec<Fact> {
    let list = |of: &dyn Fn(&Run) -> String| {
        let mut values: Vec<String> = Vec::new();
        for value in runs.iter().map(of) {
            if value != NONE && !values.contains(&value) {
                values.push(value);
            }
        }
        values.join(", ")
    };
    let mut facts = vec![fact("runs", runs.len().to_string())];
    let mut add = |name: &str, value: String| {
        if !value.is_empty() {
            facts.push(fact(name, value));
        }
    };
    add("tasks", list(&|run| super::spaced(&run.task)));
    add("corpora", list(&|run| run.corpus.clone()));
    add("methods", list(&|run| run.method.clone()));
    add("seeds", list(&|run| run.seed.clone()));
    let axes: BTreeSet<&String> = runs.iter().flat_map(|run| run.others.keys()).collect();
    for axis in axes {
        add(axis, list(&|run| run.others.get(axis).cloned().unwrap_or_else(|| NONE.to_owned())));
    }
    facts
}

fn cell(text: impl Into<String>, class: &'static str) -> Cell {
    Cell { text: text.into(), class, title: String::new() }
}

fn numeric(numeric: bool) -> &'static str {
    if numeric { "number" } else { "" }
}

fn board_grid(board: &Board) -> Grid {
    // A mark follows its number, after a character that no text has.
    let (mut head, rows) = board_cells(board, |text, mark| format!("{text}\u{1}{mark}"));
    for column in &mut head {
        column.name.truncate(column.name.find('\u{1}').unwrap_or(column.name.len()));
    }
    let row = |row: &Vec<String>| GridRow {
        published: row.iter().any(|text| text == "published"),
        cells: row
            .iter()
            .zip(&head)
            .map(|(text, column)| match text.split_once('\u{1}') {
                None => cell(text, numeric(column.numeric)),
                Some((text, "*")) => Cell { title: "best of its row".to_owned(), ..cell(text, "number best") },
                Some((text, "**")) => Cell {
                    title: format!("best of its row, p < {LEVEL} against the runner-up"),
                    ..cell(format!("{text} *"), "number best")
                },
                Some((text, mark)) => cell(format!("{text}{mark}"), "number"),
            })
            .collect(),
    };
    let rows = rows.iter().map(row).collect();
    Grid { head, rows }
}

fn section(table: &Table) -> Section {
    let row = |row: &super::table::TableRow| GridRow {
        published: false,
        cells: row
            .cells
            .iter()
            .enumerate()
            .map(|(at, text)| {
                let best = row.best && at == table.primary;
                cell(text, if best { "number best" } else { numeric(table.head[at].numeric) })
            })
            .collect(),
    };
    let grid = Grid { head: table.head.clone(), rows: table.rows.iter().map(row).collect() };
    Section { title: capital(&table.title), grid }
}

/// A table from names of columns, the first of words and the others of numbers.
fn small_table(title: impl Into<String>, names: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Section {
    let head = names.iter().enumerate().map(|(at, name)| Column { name: (*name).to_owned(), numeric: at > 0 }).collect();
    let row = |row: Vec<String>| GridRow {
        published: false,
        cells: row.into_iter().enumerate().map(|(at, text)| cell(text, numeric(at > 0))).collect(),
    };
    Section { title: title.into(), grid: Grid { head, rows: rows.map(row).collect() } }
}

fn with_unit(metric: Metric, value: f64) -> String {
    let unit = metric.unit();
    if unit.is_empty() || !value.is_finite() { metric.print(value) } else { format!("{} {unit}", metric.print(value)) }
}

/// Table of the scores of each speaker's synthesised voice.
fn voices(speakers: &[SpeakerDetail]) -> Section {
    let names = ["speaker", "utterances", "WER (%)", "similarity", "accuracy (%)", "MCD (dB)", "mean error of length (%)"];
    let print = |metric: Metric, value: Option<f64>| metric.print(value.unwrap_or(f64::NAN));
    let row = |speaker: &SpeakerDetail| {
        vec![
            speaker.name.clone(),
            thousands(speaker.utterances),
            print(Metric::Wer, speaker.wer),
            print(Metric::SpeakerSimilarity, Some(speaker.similarity)),
            print(Metric::SpeakerAccuracy, Some(speaker.accuracy)),
            print(Metric::Mcd, speaker.mcd),
            print(Metric::DurationError, speaker.duration_bias),
        ]
    };
    small_table("Voices", &names, speakers.iter().map(row))
}

/// The lists of wrong answers, worst first.
fn answers(detail: &Detail) -> Vec<Answers> {
    match detail {
        Detail::Classification(detail) => mistakes("Wrong answers, worst first", &detail.mistakes).into_iter().collect(),
        Detail::Tagging { mistakes: all, .. } => mistakes("Wrong answers, worst first", all).into_iter().collect(),
        Detail::Intent { slots } => {
            let list = |(slot, detail): &(String, ClassDetail)| {
                mistakes(&format!("{}: wrong answers, worst first", capital(slot)), &detail.mistakes)
            };
            slots.iter().filter_map(list).collect()
        }
        Detail::Text { edits, worst, .. } | Detail::Synthesis { edits, worst, .. } => {
            misses(worst, edits.first().map_or(Unit::Word, |(unit, _)| *unit)).into_iter().collect()
        }
        Detail::Slots { worst, .. } => misses(worst, Unit::Word).into_iter().collect(),
        Detail::Verification { .. } => Vec::new(),
    }
}

fn view(run: &Run, open: bool, clips: &BTreeMap<String, ClipFiles>) -> RunView {
    let (scores, name) = (&run.scores, run.name());
    let mut view = RunView {
        open,
        value: format!("{} {}", scores.primary, with_unit(scores.primary, scores.primary_value())),
        facts: run_facts(run),
        notes: scores.notes.iter().map(|note| format!("{}.", capital(note))).collect(),
        pictures: matrices(run).into_iter().map(|matrix| Drawn { svg: matrix.draw(Layout::Page), name: matrix.name }).collect(),
        sections: Vec::new(),
        answers: answers(&scores.detail),
        name,
    };
    for answer in view.answers.iter_mut().flat_map(|list| &mut list.answers) {
        answer.clip = clips.get(&answer.id).cloned();
    }
    match &scores.detail {
        Detail::Classification(detail) => view.sections.push(classes(detail)),
        Detail::Intent { .. } => {}
        Detail::Tagging { labels, .. } => view.sections.push(label_table(labels)),
        Detail::Text { edits, .. } => {
            view.sections.push(errors(&edits.iter().map(|(unit, edits)| (unit.plural(), *edits)).collect::<Vec<_>>()));
        }
        Detail::Slots { words, values, slots, .. } => {
            view.sections.push(errors(&[("words, without markers", *words), ("characters of values", *values)]));
            view.sections.push(slot_table(slots));
        }
        Detail::Synthesis { edits, speakers, .. } => {
            view.sections.push(errors(&edits.iter().map(|(unit, edits)| (unit.plural(), *edits)).collect::<Vec<_>>()));
            view.sections.push(voices(speakers));
        }
        Detail::Verification { targets, others } => {
            view.notes.push(format!("{} trials of one voice, {} of two.", thousands(*targets), thousands(*others)));
        }
    }
    if let Some(evidence) = &run.evidence {
        view.sections.extend(by_speaker(evidence, scores.primary));
        view.sections.extend(by_length(evidence, scores.primary));
    }
    let title = format!("Training: {}", view.name);
    let curve = scores.training.as_ref().and_then(|training| plot::training_curve(&title, training));
    view.pictures.extend(curve.map(|svg| Drawn { svg, name: String::new() }));
    view
}

fn run_facts(run: &Run) -> Vec<Fact> {
    let scores = &run.scores;
    let mut facts: Vec<Fact> =
        scores.metrics.iter().map(|(metric, score)| fact(metric.title(), with_unit(*metric, score.value))).collect();
    if let Some(chance) = scores.chance.get(&scores.primary) {
        facts.push(fact(&format!("{} by chance", scores.primary), with_unit(scores.primary, *chance)));
    }
    let counted = if matches!(scores.detail, Detail::Verification { .. }) { "trials" } else { "utterances" };
    facts.push(fact(counted, thousands(scores.utterances)));
    let samples = run.evidence.as_ref().and_then(|evidence| evidence.num_samples.as_ref());
    if let Some(samples) = samples {
        let secs = samples.iter().sum::<i64>() as f64 / SAMPLE_RATE;
        facts.push(fact("length of the test set", duration(secs)));
    }
    match &scores.detail {
        Detail::Classification(detail) => facts.push(fact("classes", detail.labels.len().to_string())),
        Detail::Tagging { labels, .. } => facts.push(fact("labels", labels.len().to_string())),
        Detail::Intent { slots } => {
            let counts: Vec<String> = slots.iter().map(|(slot, detail)| format!("{slot} {}", detail.labels.len())).collect();
            facts.push(fact("classes", counts.join(", ")));
        }
        _ => {}
    }
    if let Some(counts) = scores.parameters {
        facts.push(fact("trained parameters", format!("{} of {}", thousands(counts.trainable), thousands(counts.total))));
    }
    if let Some(training) = &scores.training {
        facts.extend(training_facts(training));
    }
    facts
}

/// Settings and outcome of a training, as `training.json` has them.
fn training_facts(training: &Json) -> Vec<Fact> {
    let mut facts = Vec::new();
    for (field, name) in [("method", "method"), ("head", "head"), ("precision", "precision"), ("metric", "judged by")] {
        if let Some(value) = training.get(field) {
            facts.push(fact(name, settings(value)));
        }
    }
    let step = |field: &str| training.get(field).and_then(Json::as_u64).map(thousands);
    if let (Some(best), Some(all)) = (step("best_step"), step("steps")) {
        facts.push(fact("best step", format!("{best} of {all}")));
    }
    facts
}

/// `{"name": "lora", "rank": 8, "alpha_pattern": {}, "rank_pattern": {"q_proj": 2}}` as `lora, rank 8, rank pattern (q_proj 2)`.
fn settings(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Object(fields) => {
            let name = fields.get("name").map(settings);
            let others = fields.iter().filter(|(field, value)| *field != "name" && !is_empty(value));
            let others = others.map(|(field, value)| match value {
                Json::Object(own) => {
                    let own: Vec<String> = own.iter().map(|(key, value)| format!("{key} {}", settings(value))).collect();
                    format!("{} ({})", super::spaced(field), own.join(", "))
                }
                _ => format!("{} {}", super::spaced(field), settings(value)),
            });
            name.into_iter().chain(others).collect::<Vec<_>>().join(", ")
        }
        Json::Array(values) => values.iter().map(settings).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// True if a setting says nothing.
fn is_empty(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::Object(fields) => fields.is_empty(),
        Json::Array(values) => values.is_empty(),
        _ => false,
    }
}

/// `1.25 h`, `3.2 min`, `40.0 s`
fn duration(secs: f64) -> String {
    if secs >= 3600.0 {
        format!("{:.2} h", secs / 3600.0)
    } else if secs >= 60.0 {
        format!("{:.1} min", secs / 60.0)
    } else {
        format!("{secs:.1} s")
    }
}

/// Value of a metric over some of the utterances.
fn value_of(evidence: &Evidence, metric: Metric, wanted: impl Fn(usize) -> bool) -> f64 {
    let weights: Vec<u32> = (0..evidence.ids.len()).map(|at| u32::from(wanted(at))).collect();
    evidence.weigher().values(&weights).get(&metric).copied().unwrap_or(f64::NAN)
}

fn by_speaker(evidence: &Evidence, metric: Metric) -> Option<Section> {
    let speakers = evidence.speakers.as_ref()?;
    let mut counts: BTreeMap<&String, u64> = BTreeMap::new();
    for speaker in speakers {
        *counts.entry(speaker).or_default() += 1;
    }
    if counts.len() < 2 {
        return None;
    }
    let scored = counts.into_iter().map(|(speaker, count)| {
        let value = value_of(evidence, metric, |at| speakers[at] == *speaker);
        (speaker, count, value)
    });
    let mut scored: Vec<_> = scored.collect();
    let worse_first = |a: f64, b: f64| if metric.higher_is_better() { a.total_cmp(&b) } else { b.total_cmp(&a) };
    scored.sort_by(|a, b| worse_first(a.2, b.2).then_with(|| a.0.cmp(b.0)));
    let title = match scored.len() {
        all if all > MOST_SPEAKERS => format!("The {MOST_SPEAKERS} speakers with the worst scores, of {all}"),
        _ => "Scores by speaker, worst first".to_owned(),
    };
    let rows = scored.into_iter().take(MOST_SPEAKERS);
    let rows = rows.map(|(speaker, count, value)| vec![speaker.clone(), metric.print(value), thousands(count)]);
    Some(small_table(title, &["speaker", &metric.title_with_unit(), "utterances"], rows))
}

/// Scores in four ranges of length with as many utterances each, as far as lengths differ.
fn by_length(evidence: &Evidence, metric: Metric) -> Option<Section> {
    let lengths = evidence.num_samples.as_ref()?;
    let mut sorted = lengths.clone();
    sorted.sort_unstable();
    let quarter = |at: usize| sorted.get((sorted.len() * at / 4).min(sorted.len().saturating_sub(1))).copied();
    let mut ends = vec![quarter(0)?, quarter(1)?, quarter(2)?, quarter(3)?, sorted.last()? + 1];
    ends.dedup();
    if ends.len() < 3 {
        return None;
    }
    let secs = |samples: i64| format!("{:.2}", samples as f64 / SAMPLE_RATE);
    let row = |range: &[i64]| {
        let inside = |at: usize| (range[0]..range[1]).contains(&lengths[at]);
        let count = (0..lengths.len()).filter(|at| inside(*at)).count() as u64;
        let longest = lengths.iter().copied().filter(|length| (range[0]..range[1]).contains(length)).max().unwrap_or(range[0]);
        let name = format!("{} to {} s", secs(range[0]), secs(longest));
        vec![name, metric.print(value_of(evidence, metric, inside)), thousands(count)]
    };
    let rows: Vec<_> = ends.windows(2).map(row).collect();
    Some(small_table("Scores by length", &["length", &metric.title_with_unit(), "utterances"], rows.into_iter()))
}

/// A confusion matrix of a run.
pub(super) struct Matrix<'a> {
    title: String,
    /// Name of its files below `figures/`.
    pub(super) name: String,
    detail: &'a ClassDetail,
}

impl Matrix<'_> {
    pub(super) fn draw(&self, layout: Layout) -> Picture {
        plot::confusion_matrix(&self.title, &self.detail.labels, &self.detail.confusion, layout)
    }
}

/// Returns the confusion matrices of a run: one of a task with classes, one for each group of an intent.
pub(super) fn matrices(run: &Run) -> Vec<Matrix<'_>> {
    let (class, groups) = match &run.scores.detail {
        Detail::Classification(detail) => (Some(detail), &[][..]),
        Detail::Intent { slots } => (None, slots.as_slice()),
        _ => (None, &[][..]),
    };
    let run_name = run.name();
    let parts = run_name.split(|sign: char| !sign.is_alphanumeric()).filter(|part| !part.is_empty());
    let file = parts.collect::<Vec<_>>().join("_");
    let title = format!("Confusion matrix: {run_name}");
    let of_class = class.map(|detail| Matrix { title, name: format!("confusion_{file}"), detail });
    let mut all: Vec<Matrix> = of_class.into_iter().collect();
    for (group, detail) in groups {
        all.push(Matrix { title: format!("{}: {run_name}", capital(group)), name: format!("confusion_{group}_{file}"), detail });
    }
    all
}

fn classes(detail: &ClassDetail) -> Section {
    let row = |(label, score): (&String, &crate::classification::ClassScore)| {
        let mut cells = vec![label.clone()];
        cells.extend([score.precision, score.recall, score.f1].map(|ratio| format!("{:.2}", 100.0 * ratio)));
        cells.push(thousands(score.support));
        cells
    };
    let rows = detail.labels.iter().zip(&detail.classes).map(row);
    small_table("Classes", &["class", "precision", "recall", "F1", "utterances"], rows)
}

fn label_table(labels: &[LabelScore]) -> Section {
    let row = |label: &LabelScore| {
        let ratios = [label.score.precision, label.score.recall, label.score.f1];
        let mut cells = vec![label.name.clone()];
        cells.extend(ratios.map(|ratio| format!("{:.2}", 100.0 * ratio)));
        cells.push(Metric::MeanAveragePrecision.print(label.average_precision.unwrap_or(f64::NAN)));
        cells.push(thousands(label.score.support));
        cells
    };
    let names = ["label", "precision", "recall", "F1", "average precision", "utterances"];
    small_table("Labels", &names, labels.iter().map(row))
}

fn mistakes(title: &str, mistakes: &[Mistake]) -> Option<Answers> {
    let mut all: Vec<&Mistake> = mistakes.iter().collect();
    all.sort_by(|a, b| b.loss.unwrap_or(0.0).total_cmp(&a.loss.unwrap_or(0.0)).then_with(|| a.id.cmp(&b.id)));
    let answer = |mistake: &&Mistake| Answer {
        id: mistake.id.clone(),
        clip: None,
        note: mistake.loss.map(|loss| format!("loss {loss:.2}")).unwrap_or_default(),
        reference: mistake.label.clone(),
        hypothesis: mistake.prediction.clone(),
        steps: Vec::new(),
    };
    let more = all.len().saturating_sub(MOST_MISTAKES) as u64;
    let answers: Vec<Answer> = all.iter().take(MOST_MISTAKES).map(answer).collect();
    (!answers.is_empty()).then(|| Answers { title: title.to_owned(), note: "", answers, more })
}

fn errors(rows: &[(&str, Edits)]) -> Section {
    let row = |(name, edits): &(&str, Edits)| {
        let counts = [edits.substitutions, edits.deletions, edits.insertions, edits.errors(), edits.tokens];
        let mut cells = vec![(*name).to_owned()];
        cells.extend(counts.map(thousands));
        cells.push(Metric::Wer.print(edits.rate()));
        cells
    };
    let names = ["errors in", "substitutions", "deletions", "insertions", "all", "of", "rate (%)"];
    small_table("Errors", &names, rows.iter().map(row))
}

fn slot_table(slots: &BTreeMap<String, SlotCounts>) -> Section {
    let row = |(name, counts): (&String, &SlotCounts)| {
        let missed = counts.reference - counts.both;
        let spurious = counts.hypothesis - counts.both;
        let mut cells = vec![name.clone()];
        cells.extend([counts.reference, counts.both, missed, spurious].map(thousands));
        cells
    };
    small_table("Slots, counted once per utterance", &["slot", "said", "found", "missed", "spurious"], slots.iter().map(row))
}

/// Worst utterances, reference above hypothesis.
fn misses(worst: &[Miss], unit: Unit) -> Option<Answers> {
    let answer = |miss: &Miss| Answer {
        id: miss.id.clone(),
        clip: None,
        note: if miss.errors == 1 { "1 error".to_owned() } else { format!("{} errors", miss.errors) },
        reference: miss.reference.clone(),
        hypothesis: miss.hypothesis.clone(),
        steps: alignment::cells(unit, &miss.reference, &miss.hypothesis).into_iter().map(aligned).collect(),
    };
    let note = "Reference above, hypothesis below. Struck out: in the reference only; marked: in the hypothesis only.";
    let answers: Vec<Answer> = worst.iter().map(answer).collect();
    (!answers.is_empty()).then(|| Answers { title: "Worst utterances".to_owned(), note, answers, more: 0 })
}

fn aligned(cell: alignment::Cell) -> AlignedStep {
    let kind = match cell.step {
        Step::Match => "match",
        Step::Deletion => "deletion",
        Step::Insertion => "insertion",
        Step::Substitution => "substitution",
    };
    AlignedStep { kind, reference: cell.reference, hypothesis: cell.hypothesis }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::settings;

    #[test]
    fn settings_that_say_nothing_are_left_out() {
        let method = json!({"name": "lora", "rank": 8, "targets": ["q_proj", "v_proj"], "rank_pattern": {}, "layers": null});
        assert_eq!(settings(&method), "lora, rank 8, targets q_proj v_proj");
        let method = json!({"name": "lora", "rank": 8, "rank_pattern": {"layers.1.v_proj": 4, "q_proj": 2}});
        assert_eq!(settings(&method), "lora, rank 8, rank pattern (layers.1.v_proj 4, q_proj 2)");
    }
}
