//! The site of a history: static pages that are readable without scripts, a feed, badges and data files.
//!
//! All pages are made in memory. Those whose bytes are as before are left alone; the others are written aside and renamed, the index
//! last. So a full disk leaves the old site.

mod draw;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use minijinja::value::Serde;
use minijinja::{Environment, Value, context};
use scoring::Metric;
use scoring::history::{TableRow, Verdict, encode_table};
use scoring::significance::print_p;
use serde::Serialize;
use serde_json::json;

use crate::event::{summary, word};
use crate::history::{History, HistoryError, write_aside};
use crate::record::{Cell, Ended, Finding, Line, METRIC, NamedCause, Outcome};
use crate::time::{Every, Utc};
use draw::Dot;

/// Results of a cell that its page lists, and rebuilds that the index lists.
const LISTED: usize = 26;
/// Results of a cell in the small line of the index.
const SPARK: usize = 16;
/// Causes of a rebuild on the index.
const NOTED: usize = 3;
/// Entries of the feed.
const NEWS: usize = 40;

/// Content of a site.
pub struct Site<'a> {
    /// Name of the rebuild file.
    pub name: &'a str,
    /// Schedule.
    pub every: Every,
    /// Address; empty where there is none.
    pub url: &'a str,
    /// History.
    pub history: &'a History,
}

/// File name of the page of a rebuild, without its ending.
pub fn page_name(id: &str) -> String {
    id.replace(':', "-")
}

/// File name of the page of a cell, without its ending.
pub fn slug(key: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '=') { c } else { '-' };
    let text: String = key.chars().map(plain).collect();
    if text.len() <= 100 && key.chars().all(|c| c == ' ' || plain(c) == c) {
        return text;
    }
    let short: String = text.chars().take(80).collect();
    format!("{short}-{}", pipeline::Digest::of(key.as_bytes()).short())
}

/// Writes the site. Returns the number of files that were written.
///
/// Errors: [`HistoryError::Io`]; pages that were not reached stay as they were.
pub fn write(site: &Site<'_>, folder: &Path) -> Result<usize, HistoryError> {
    let mut written = 0;
    let mut files = pages(site);
    let index = files.remove("index.html");
    for (name, bytes) in files.into_iter().chain(index.map(|index| ("index.html".to_owned(), index))) {
        let path = folder.join(&name);
        if fs::read(&path).is_ok_and(|known| known == bytes) {
            continue;
        }
        if let Some(parent) = path.parent() {
            let create = fs::create_dir_all(parent);
            create.map_err(|source| HistoryError::Io { action: "create", path: parent.to_owned(), source })?;
        }
        write_aside(&path, &bytes)?;
        written += 1;
    }
    Ok(written)
}

/// All files of the site, by path.
pub fn pages(site: &Site<'_>) -> BTreeMap<String, Vec<u8>> {
    let maker = Maker::new(site);
    let mut files = BTreeMap::new();
    let style = format!("{}{}", scoring::template::STYLE, include_str!("site/style.css"));
    files.insert("style.css".to_owned(), style.into_bytes());
    let keys: BTreeSet<&String> = site.history.log.ended().flat_map(|ended| ended.cells.keys()).collect();
    let mut rows = vec![];
    for key in &keys {
        let distinct = site.history.log.distinct(key);
        files.insert(format!("cell/{}.html", slug(key)), maker.cell(key, &distinct).into_bytes());
        rows.extend(distinct.iter().flat_map(|(ended, cell)| table_rows(ended, cell)));
    }
    for ended in site.history.log.ended() {
        files.insert(format!("rebuild/{}.html", page_name(&ended.id)), maker.rebuild(ended).into_bytes());
        for (name, text) in maker.diffs(ended) {
            files.insert(format!("diff/{name}.html"), text.into_bytes());
        }
    }
    files.insert("feed.xml".to_owned(), maker.feed().into_bytes());
    for (task, bytes) in maker.badges() {
        files.insert(format!("badge/{task}.svg"), bytes.into_bytes());
    }
    for (name, value) in maker.data(&keys) {
        files.insert(format!("data/{name}.json"), format!("{value}\n").into_bytes());
    }
    if let Ok(table) = encode_table(&rows) {
        files.insert("table.parquet".to_owned(), table);
    }
    files.insert("index.html".to_owned(), maker.index(&keys).into_bytes());
    files
}

fn table_rows(ended: &Ended, cell: &Cell) -> Vec<TableRow> {
    let metric = cell.metric.map_or("", Metric::name);
    let names = [&cell.task, &cell.corpus, &cell.method, metric, word(cell.last.verdict)].map(str::to_owned);
    let others = cell.others.iter().map(|(axis, value)| format!("{axis}={value}")).collect::<Vec<_>>().join(",");
    let row = |(seed, value): (&String, &f64)| TableRow {
        rebuild: ended.id.clone(),
        names: names.clone(),
        others: others.clone(),
        seed: seed.clone(),
        value: *value,
    };
    cell.values.iter().map(row).collect()
}

struct Maker<'a> {
    site: &'a Site<'a>,
    environment: Environment<'static>,
}

/// Class of a verdict in the style sheet.
fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Worse => "worse",
        Verdict::Better => "better",
        Verdict::Failed => "failed",
        _ => "",
    }
}

fn causes(causes: &[NamedCause]) -> String {
    causes.iter().map(NamedCause::print).collect::<Vec<_>>().join("; ")
}

/// True if data or settings changed the cell.
fn is_intended(cell: &Cell) -> bool {
    cell.causes.iter().any(|cause| cause.kind == "data" || cause.kind == "settings")
}

/// Verdict of a cell in words, with the outcome of a confirmation.
fn verdict_text(cell: &Cell) -> String {
    let confirmation = match &cell.confirmation {
        Some(found) if found.confirmed => format!(", confirmed by {} new seeds", found.values.len()),
        Some(found) => format!(", a loss was not confirmed by {} new seeds", found.values.len()),
        None => String::new(),
    };
    format!("{}{confirmation}", word(cell.last.verdict))
}

fn p_text(finding: &Finding) -> String {
    finding.test.map_or_else(String::new, |test| print_p(test.p).trim_start_matches("p = ").trim_start_matches("p ").to_owned())
}

fn diff_name(old: &str, new: &str) -> String {
    format!("{}-to-{}", page_name(old), page_name(new))
}

/// Name of the page with the difference that a cell has in a rebuild, where there is one.
fn diff_of(ended: &Ended, cell: &Cell) -> String {
    match &cell.last.against {
        Some(old)
            if matches!(cell.last.verdict, Verdict::Worse | Verdict::Better | Verdict::NotComparable | Verdict::NotJudged)
                || is_intended(cell) =>
        {
            diff_name(old, &ended.id)
        }
        _ => String::new(),
    }
}

#[derive(Serialize)]
struct Row {
    page: String,
    begun: String,
    title: String,
    value: String,
    verdict: String,
    class: &'static str,
    base: String,
    base_class: &'static str,
    p: String,
    cause: String,
    diff: String,
}

fn row(key: &str, ended: &Ended, cell: &Cell) -> Row {
    Row {
        page: slug(key),
        begun: ended.begun.short(),
        title: cell.title(),
        value: cell.print(),
        verdict: verdict_text(cell),
        class: class(cell.last.verdict),
        base: word(cell.baseline.verdict).to_owned(),
        base_class: class(cell.baseline.verdict),
        p: p_text(&cell.last),
        cause: causes(&cell.causes),
        diff: diff_of(ended, cell),
    }
}

impl<'a> Maker<'a> {
    fn new(site: &'a Site<'a>) -> Self {
        let mut environment = scoring::template::environment();
        for (name, text) in [
            ("head.html", include_str!("site/head.html")),
            ("index.html", include_str!("site/index.html")),
            ("cell.html", include_str!("site/cell.html")),
            ("rebuild.html", include_str!("site/rebuild.html")),
            ("diff.html", include_str!("site/diff.html")),
        ] {
            environment.add_template(name, text).expect("a constant of this crate");
        }
        Self { site, environment }
    }

    fn render(&self, template: &str, page: Value) -> String {
        let template = self.environment.get_template(template).expect("it was added");
        template.render(page).expect("the template fits its page") + "\n"
    }

    fn log(&self) -> &'a crate::record::Log {
        &self.site.history.log
    }

    fn index(&self, keys: &BTreeSet<&String>) -> String {
        let none = BTreeMap::new();
        let latest = self.log().ended().rev().find(|ended| ended.outcome.is_end() && !ended.fresh);
        let cells = latest.map_or(&none, |ended| &ended.cells);
        let mut methods: Vec<String> = vec![];
        let mut rows: Vec<([String; 3], BTreeMap<&str, Value>)> = vec![];
        for (key, cell) in cells.iter().filter(|(key, cell)| keys.contains(key) && cell.last.verdict != Verdict::Gone) {
            if !methods.contains(&cell.method) {
                methods.push(cell.method.clone());
            }
            let others = cell.others.iter().filter(|(axis, _)| *axis != METRIC); // it has a column
            let others = others.map(|(axis, value)| format!(", {axis} {value}")).collect::<Vec<_>>().concat();
            let metric = cell.metric.map_or_else(String::new, |metric| {
                format!("{} {}", metric.title_with_unit(), if metric.higher_is_better() { "↑" } else { "↓" })
            });
            let head = [cell.task.replace('_', " "), format!("{}{others}", cell.corpus), metric];
            let means: Vec<f64> = self.log().distinct(key).iter().filter_map(|(_, cell)| cell.mean()).collect();
            let is_open = latest.is_some_and(|ended| ended.open.contains_key(key));
            let (note, class) = match cell.last.verdict {
                _ if cell.failed.is_some() => ("failed", "failed"),
                Verdict::Same | Verdict::Moved if is_open => ("worse (open alarm)", "worse"),
                Verdict::Same | Verdict::Moved | Verdict::New => ("", ""),
                verdict => (word(verdict), class(verdict)),
            };
            let spark = draw::spark(&means[means.len().saturating_sub(SPARK)..]);
            let value = context! { page => slug(key), value => cell.print(), spark, note, class };
            match rows.iter_mut().find(|(known, _)| *known == head) {
                Some((_, row)) => _ = row.insert(&cell.method, value),
                None => rows.push((head, BTreeMap::from([(cell.method.as_str(), value)]))),
            }
        }
        let rows: Vec<Value> = rows
            .iter()
            .map(|(head, row)| {
                let cells: Vec<Value> =
                    methods.iter().map(|method| row.get(method.as_str()).cloned().unwrap_or(Value::from(()))).collect();
                let [task, corpus, metric] = head.clone();
                context! { task, corpus, metric, cells }
            })
            .collect();
        let newest = self.log().ended().next_back();
        let open: Vec<Value> = newest
            .into_iter()
            .flat_map(|ended| ended.open.iter().filter_map(|(key, open)| Some((key, open, ended.cells.get(key)?))))
            .map(|(key, open, cell)| context! { since => open.since.chars().take(10).collect::<String>(), page => slug(key), title => cell.title() })
            .collect();
        let count = self.log().ended().count();
        let rebuilds: Vec<Value> = self.log().ended().rev().take(LISTED).map(Self::rebuild_row).collect();
        let last = self.log().ended().rev().find(|ended| ended.outcome.is_end());
        let next = last.map(|ended| self.site.every.next(ended.begun));
        self.render(
            "index.html",
            context! {
                title => format!("Rebuilds: {}", self.site.name),
                root => "",
                last => last.map(|ended| context! { at => ended.at.to_string(), short => ended.at.short() }),
                next => next.map(|next| next.to_string()),
                next_short => next.map(Utc::short),
                period => self.site.every.period(),
                open,
                methods,
                rows,
                rebuilds,
                older => count.saturating_sub(LISTED),
            },
        )
    }

    fn rebuild_row(ended: &Ended) -> Value {
        let mut notes: Vec<String> = ended.reason.iter().cloned().collect();
        notes.extend(ended.differs.iter().chain(&ended.notices).cloned());
        let mut told: Vec<((String, &str), usize)> = vec![];
        for cell in ended.cells.values().filter(|cell| !cell.causes.is_empty()) {
            let key = (causes(&cell.causes), word(cell.last.verdict));
            match told.iter_mut().find(|(known, _)| *known == key) {
                Some((_, count)) => *count += 1,
                None => told.push((key, 1)),
            }
        }
        let more = told.len().saturating_sub(NOTED);
        let cells = |count: usize| if count == 1 { "1 cell".to_owned() } else { format!("{count} cells") };
        notes
            .extend(told.into_iter().take(NOTED).map(|((cause, verdict), count)| format!("{cause}: {} {verdict}", cells(count))));
        if more > 0 {
            notes.push(format!("and {more} more"));
        }
        let is_bad = ended.outcome != Outcome::Done || ended.exit_code == 3;
        let outcome = if ended.exit_code == 3 { "alarm" } else { ended.outcome.title() };
        let fresh = if ended.fresh { " (from an empty store)" } else { "" };
        context! {
            page => page_name(&ended.id),
            begun => ended.begun.short(),
            outcome => format!("{outcome}{fresh}"),
            class => if is_bad { "failed" } else { "" },
            summary => if ended.cells.is_empty() { String::new() } else { summary(ended) },
            program => format!("{} {}", ended.program.version, ended.program.commit),
            notes => notes.join(". "),
        }
    }

    fn cell(&self, key: &str, distinct: &[(&Ended, &Cell)]) -> String {
        let last = self.log().ended().rev().find_map(|ended| Some((ended, ended.cells.get(key)?)));
        let Some((_, newest)) = last else { return String::new() };
        let metric = newest.metric.unwrap_or(Metric::Accuracy);
        let baseline = self.site.history.baselines.get(key);
        let base_cell = baseline.and_then(|baseline| self.log().find(&baseline.rebuild)?.cells.get(key));
        let same_metric: Vec<&(&Ended, &Cell)> = distinct.iter().filter(|(_, cell)| cell.metric == newest.metric).collect();
        let dots: Vec<Dot> = same_metric
            .iter()
            .map(|(ended, cell)| Dot { at: ended.begun, values: cell.values.values().copied().collect(), is_alarm: cell.alarm })
            .collect();
        let means: Vec<f64> = dots.iter().map(Dot::mean).collect();
        let plot = draw::plot(metric, &dots, base_cell.and_then(Cell::mean), &steps::steps(&means));
        let mut facts = vec![
            ("task".to_owned(), newest.task.replace('_', " ")),
            ("corpus".to_owned(), newest.corpus.clone()),
            ("method".to_owned(), newest.method.clone()),
        ];
        facts.extend(newest.others.clone().into_iter().filter(|(axis, _)| axis != METRIC));
        facts.push((
            "metric".to_owned(),
            format!("{}, {} is better", metric.title_with_unit(), if metric.higher_is_better() { "higher" } else { "lower" }),
        ));
        facts.push(("utterances".to_owned(), newest.utterances.to_string()));
        facts.push(("present value".to_owned(), newest.print()));
        if let (Some(baseline), Some(cell)) = (baseline, base_cell) {
            let text = format!(
                "{}, of {} ({}, by {})",
                cell.print(),
                baseline.rebuild.chars().take(10).collect::<String>(),
                baseline.why,
                baseline.by
            );
            facts.push(("baseline".to_owned(), text));
        }
        let rows =
            distinct.iter().rev().take(LISTED).map(|(ended, cell)| Row { page: page_name(&ended.id), ..row(key, ended, cell) });
        let rows: Vec<Value> = rows.map(|row| Value::from(Serde(row))).collect();
        let evidence = |seed: &String| newest.evidence.get(seed).cloned().unwrap_or_default();
        let seeds: Vec<(String, String, String)> =
            newest.values.iter().map(|(seed, value)| (seed.clone(), metric.print(*value), evidence(seed))).collect();
        self.render(
            "cell.html",
            context! {
                title => newest.title(),
                name => self.site.name.to_owned(),
                root => "../",
                facts,
                failed => newest.failed.clone(),
                plot,
                legend => "Dots: seeds. Line: their mean. Dashed: baseline. Grey: levels between steps, where at least eight results show some. Large dots: alarms.",
                metric => metric.title_with_unit(),
                rows,
                older => distinct.len().saturating_sub(LISTED),
                seeds,
            },
        )
    }

    fn rebuild(&self, ended: &Ended) -> String {
        let machine = ended.machine.key();
        let facts: Vec<(&str, String)> = [
            ("begun", format!("{} UTC", ended.begun.short())),
            ("took", format!("{:.0} min", (ended.at.0 - ended.begun.0) as f64 / 60.0)),
            ("outcome", format!("{} (exit code {})", ended.outcome.title(), ended.exit_code)),
            ("store", if ended.fresh { "empty: everything was computed again".to_owned() } else { String::new() }),
            ("program", format!("sure {} {}", ended.program.version, ended.program.commit)),
            ("compiler", ended.program.rustc.clone()),
            ("host", ended.machine.host.clone()),
            ("machine", machine.trim_start_matches(", ").to_owned()),
            ("kernel", ended.machine.kernel.clone()),
            ("driver", ended.machine.driver.clone().unwrap_or_default()),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect();
        let is_told = |cell: &Cell| {
            !matches!(cell.last.verdict, Verdict::Same | Verdict::Moved)
                || cell.alarm
                || cell.confirmation.is_some()
                || cell.failed.is_some()
                || is_intended(cell)
        };
        let rows = ended.cells.iter().filter(|(_, cell)| is_told(cell)).map(|(key, cell)| row(key, ended, cell));
        let rows: Vec<Value> = rows.map(|row| Value::from(Serde(row))).collect();
        let runs: Vec<Value> = ended
            .runs
            .iter()
            .map(|run| {
                let nodes = run.nodes.iter().map(|(state, count)| format!("{count} {state}")).collect::<Vec<_>>().join(", ");
                let class = if run.outcome == "done" { "" } else { "failed" };
                context! { request => run.request.clone(), outcome => run.outcome.clone(), minutes => format!("{:.1}", run.secs / 60.0), nodes, class }
            })
            .collect();
        let failures: Vec<Value> = ended
            .runs
            .iter()
            .flat_map(|run| &run.failed)
            .map(|failure| context! { node => failure.node.clone(), message => failure.message.clone(), log => failure.log.clone() })
            .collect();
        let source = |(place, source): (&String, &crate::record::Source)| {
            (
                place.clone(),
                source.files,
                format!("{:.1}", source.bytes as f64 / 1e6),
                source.digest.chars().take(12).collect::<String>(),
            )
        };
        let checkout = if ended.program.commit.is_empty() {
            String::new()
        } else {
            format!("git checkout {}    # then build\n", ended.program.commit.trim_end_matches("-dirty"))
        };
        let again: Vec<String> = ended.runs.iter().map(|run| format!("sure run {} --keep-going\n", run.request)).collect();
        self.render(
            "rebuild.html",
            context! {
                title => format!("Rebuild of {}", ended.begun.short()),
                name => self.site.name.to_owned(),
                root => "../",
                facts,
                reason => ended.reason.clone(),
                notices => ended.differs.iter().chain(&ended.notices).cloned().collect::<Vec<_>>(),
                rows,
                summary => summary(ended),
                runs,
                failures,
                sources => ended.sources.iter().map(source).collect::<Vec<_>>(),
                again => format!("{checkout}{}", again.concat()).trim_end(),
            },
        )
    }

    /// Pages of differences: one for each earlier rebuild that a cell with a verdict was compared with.
    fn diffs(&self, ended: &Ended) -> Vec<(String, String)> {
        let mut pairs: BTreeMap<&str, Vec<(&String, &Cell)>> = BTreeMap::new();
        for (key, cell) in &ended.cells {
            if let Some(old) = cell.last.against.as_deref().filter(|_| !diff_of(ended, cell).is_empty()) {
                pairs.entry(old).or_default().push((key, cell));
            }
        }
        let page = |(old, cells): (&str, Vec<(&String, &Cell)>)| {
            let before = self.log().find(old)?;
            let program = |ended: &Ended| format!("{} {}", ended.program.version, ended.program.commit);
            let machine: Vec<(&str, String, String)> = [
                ("program", program(before), program(ended)),
                ("machine", before.machine.key(), ended.machine.key()),
                ("host", before.machine.host.clone(), ended.machine.host.clone()),
                ("kernel", before.machine.kernel.clone(), ended.machine.kernel.clone()),
            ]
            .into_iter()
            .filter(|(_, old, new)| old != new)
            .collect();
            let row = |(key, cell): &(&String, &Cell)| {
                let metric = cell.metric.unwrap_or(Metric::Accuracy);
                let test = cell.last.test;
                let scaled = |value: f64| format!("{:+.*}", metric.decimals(), value * metric.scale());
                context! {
                    page => slug(key),
                    title => cell.title(),
                    before => before.cells.get(*key).map_or_else(String::new, Cell::print),
                    value => cell.print(),
                    difference => test.map_or_else(String::new, |test| scaled(test.difference)),
                    error => test.map_or_else(String::new, |test| metric.print((test.utterance_variance + test.training_variance).sqrt())),
                    seeds => test.map_or_else(String::new, |test| test.seeds.to_string()),
                    p => p_text(&cell.last),
                    verdict => verdict_text(cell),
                    class => class(cell.last.verdict),
                    cause => causes(&cell.causes),
                }
            };
            let page = context! {
                title => "Difference between two rebuilds",
                name => self.site.name.to_owned(),
                root => "../",
                old => page_name(&before.id),
                new => page_name(&ended.id),
                old_short => before.begun.short(),
                new_short => ended.begun.short(),
                machine,
                rows => cells.iter().map(row).collect::<Vec<_>>(),
            };
            Some((diff_name(old, &ended.id), self.render("diff.html", page)))
        };
        pairs.into_iter().filter_map(page).collect()
    }

    /// Atom feed of alarms and recoveries. The feed and its entries keep their ids for ever. Source: RFC 4287.
    fn feed(&self) -> String {
        let name = self.site.name;
        let first = self.log().lines.iter().find_map(|line| match line {
            Line::Begun(begun) => Some(begun.id.as_str()),
            _ => None,
        });
        let news: Vec<(&Ended, &'static str, Vec<&Cell>)> = self
            .log()
            .ended()
            .rev()
            .flat_map(|ended| {
                let alarms: Vec<&Cell> = ended.cells.values().filter(|cell| cell.alarm).collect();
                let recovered: Vec<&Cell> = ended.recovered.iter().filter_map(|key| ended.cells.get(key)).collect();
                [(ended, "alarm", alarms), (ended, "recovered", recovered)]
            })
            .filter(|(_, _, cells)| !cells.is_empty())
            .take(NEWS)
            .collect();
        let link = |path: &str| if self.site.url.is_empty() { path.to_owned() } else { format!("{}/{path}", self.site.url) };
        let oldest = self.log().ended().next().map_or(Utc(0), |ended| ended.at);
        let updated = news.first().map_or(oldest, |(ended, ..)| ended.at);
        let mut entries = vec![];
        let out = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<feed xmlns=\"http://www.w3.org/2005/Atom\">\n<title>Rebuilds: {}</title>\n<id>{}</id>\n\
             <updated>{updated}</updated>\n<author><name>sure</name></author>\n<link rel=\"self\" href=\"{}\"/>\n<link href=\"{}\"/>\n",
            escape(name),
            urn(&[name, first.unwrap_or_default()]),
            escape(&link("feed.xml")),
            escape(&link("index.html"))
        );
        for (ended, what, cells) in news {
            let line = |cell: &&Cell| [format!("{} {}", cell.title(), cell.print()), causes(&cell.causes)].join(": ");
            let lines: Vec<String> = cells.iter().map(|cell| line(cell).trim_end_matches(": ").to_owned()).collect();
            let title = format!(
                "{what}: {}{}",
                cells[0].title(),
                if cells.len() > 1 { format!(" and {} more", cells.len() - 1) } else { String::new() }
            );
            entries.push(format!(
                "<entry>\n<title>{}</title>\n<id>{}</id>\n<updated>{}</updated>\n<link href=\"{}\"/>\n<content type=\"text\">{}</content>\n</entry>\n",
                escape(&title),
                urn(&[name, &ended.id, what]),
                ended.at,
                escape(&link(&format!("rebuild/{}.html", page_name(&ended.id)))),
                escape(&lines.join("\n"))
            ));
        }
        format!("{out}{}</feed>\n", entries.concat())
    }

    fn badges(&self) -> Vec<(String, String)> {
        let Some(last) = self.log().ended().rev().find(|ended| ended.outcome.is_end() && !ended.fresh) else { return vec![] };
        let mut tasks: BTreeMap<&str, (&'static str, bool)> = BTreeMap::new();
        for (key, cell) in &last.cells {
            let state = match () {
                () if cell.failed.is_some() || cell.last.verdict == Verdict::Failed => ("failed", true),
                () if last.open.contains_key(key) || cell.alarm => ("worse", true),
                () => ("ok", false),
            };
            let known = tasks.entry(&cell.task).or_insert(state);
            if state.1 && !known.1 {
                *known = state;
            }
        }
        tasks
            .into_iter()
            .map(|(task, (state, is_bad))| (slug(task), draw::badge(&escape(&task.replace('_', " ")), state, is_bad)))
            .collect()
    }

    fn data(&self, keys: &BTreeSet<&String>) -> Vec<(&'static str, serde_json::Value)> {
        let last = self.log().ended().rev().find(|ended| ended.outcome.is_end() && !ended.fresh);
        let cells = last.map_or(json!({}), |ended| json!({"rebuild": ended.id, "at": ended.at, "cells": ended.cells}));
        let rebuilds: Vec<serde_json::Value> = self
            .log()
            .ended()
            .map(|ended| {
                json!({"id": ended.id, "begun": ended.begun, "ended": ended.at, "outcome": ended.outcome, "exit_code": ended.exit_code,
                    "fresh": ended.fresh, "commit": ended.program.commit, "reason": ended.reason})
            })
            .collect();
        let rounded = |value: f64| (value * 1e6).round() / 1e6;
        let mut history = serde_json::Map::new();
        for key in keys {
            let results: Vec<serde_json::Value> = self
                .log()
                .distinct(key)
                .iter()
                .map(|(ended, cell)| {
                    let values: Vec<f64> = cell.values.values().map(|value| rounded(*value)).collect();
                    json!([ended.id, cell.last.verdict, values])
                })
                .collect();
            history.insert((*key).clone(), results.into());
        }
        vec![("cells", cells), ("rebuilds", rebuilds.into()), ("history", history.into())]
    }
}

/// Name of an entry of the feed, from what makes it unique. Source: RFC 9562, section 5.8.
fn urn(parts: &[&str]) -> String {
    let text = pipeline::Digest::of(parts.join("\n").as_bytes()).to_string();
    format!("urn:uuid:{}-{}-8{}-a{}-{}", &text[..8], &text[8..12], &text[12..15], &text[15..18], &text[18..30])
}

/// Text for XML, without the characters that it cannot contain.
fn escape(text: &str) -> String {
    let clean: String =
        text.chars().filter(|c| (!c.is_control() || *c == '\n') && !matches!(c, '\u{fffe}' | '\u{ffff}')).collect();
    clean.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests;
