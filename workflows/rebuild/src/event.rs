//! The message of a rebuild: at most one, with the worst first. Composes; sends nothing.

use scoring::history::Verdict;
use serde::{Deserialize, Serialize};

use crate::file::RebuildFile;
use crate::record::{Cell, Ended, FORMAT, Finding, NamedCause, Outcome};
use crate::time::Utc;

/// Level of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// A value is worse, beyond noise.
    Alarm,
    /// Cells, or the rebuild, failed.
    Failed,
    /// Recovery of something that was wrong.
    Recovered,
    /// Something else that people want to know.
    Notice,
}

impl Level {
    /// Word in subjects.
    pub fn title(self) -> &'static str {
        match self {
            Self::Alarm => "alarm",
            Self::Failed => "failed",
            Self::Recovered => "recovered",
            Self::Notice => "notice",
        }
    }
}

/// Message of a rebuild.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Format of the message.
    pub format: u32,
    /// Name of the rebuild file.
    pub name: String,
    /// Id of the rebuild. A message has the same id however often it is sent.
    pub rebuild: String,
    /// Moment.
    pub at: Utc,
    /// Level.
    pub level: Level,
    /// The fact, in one line.
    pub title: String,
    /// Everything, in lines.
    pub text: String,
    /// Cells that are named.
    pub cells: Vec<EventCell>,
    /// Page of the rebuild; none without a site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Exit code of the rebuild.
    pub exit_code: u8,
}

/// Cell in a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventCell {
    /// Key.
    pub key: String,
    /// Verdict.
    pub verdict: Verdict,
    /// Metric.
    pub metric: String,
    /// Mean before, as a ratio.
    pub old: Option<f64>,
    /// Mean now.
    pub new: Option<f64>,
    /// Causes.
    pub causes: Vec<String>,
}

/// Cells that a message names before it counts the rest.
const NAMED: usize = 20;

/// Finds an earlier result of a cell, by rebuild and key.
pub type Find<'a> = &'a dyn Fn(&str, &str) -> Option<Cell>;

/// Composes the message of a rebuild that ended; none when there is nothing to tell. `failures_before`: failed rebuilds in a row before it.
pub fn compose(ended: &Ended, failures_before: u32, file: &RebuildFile, find: Find<'_>) -> Option<Event> {
    let named = |wanted: &dyn Fn(&Cell) -> bool| {
        let chosen = ended.cells.iter().filter(|(_, cell)| wanted(cell));
        chosen.map(|(key, cell)| (key.as_str(), cell)).collect::<Vec<_>>()
    };
    let alarms = named(&|cell| cell.alarm);
    let reminded: Vec<(&str, &Cell)> = named(&|cell| !cell.alarm)
        .into_iter()
        .filter(|(key, _)| ended.open.get(*key).is_some_and(|open| open.told == ended.at && open.since != ended.id))
        .collect();
    let failed = named(&|cell| cell.failed.is_some() || cell.last.verdict == Verdict::Failed);
    let better = named(&|cell| cell.last.verdict == Verdict::Better);
    let other = named(&|cell| cell.last.verdict == Verdict::NotComparable);
    let new = named(&|cell| cell.last.verdict == Verdict::New);
    let gone = named(&|cell| cell.last.verdict == Verdict::Gone);
    let recovered: Vec<(&str, &Cell)> =
        ended.recovered.iter().filter_map(|key| Some((key.as_str(), ended.cells.get(key)?))).collect();
    let is_failure = ended.outcome != Outcome::Done;
    let tells_failure = is_failure && ended.outcome != Outcome::Stopped && matches!(ended.failures, 1 | 3);
    let works_again = !is_failure && failures_before > 0;

    let mut lines: Vec<(Level, String)> = vec![];
    let mut tell = |level, text: String| lines.push((level, text));
    for (key, cell) in &alarms {
        tell(Level::Alarm, loss(key, cell, find));
    }
    for text in &ended.differs {
        tell(Level::Alarm, text.clone());
    }
    for (key, cell) in &reminded {
        tell(Level::Alarm, format!("still open: {}", loss(key, cell, find)));
    }
    if tells_failure {
        let reason = ended.reason.clone().unwrap_or_else(|| ended.outcome.title().to_owned());
        let again = if ended.failures == 3 { ", for the third time" } else { "" };
        tell(Level::Failed, format!("{reason}{again}"));
        for (_, cell) in &failed {
            let why = cell.failed.clone().unwrap_or_else(|| "no result".to_owned());
            tell(Level::Failed, format!("{}: {why}", cell.title()));
        }
    }
    for (_, cell) in &recovered {
        tell(Level::Recovered, format!("{} is {} again, no longer worse than its baseline", subject(cell), cell.print()));
    }
    if works_again {
        let count = if failures_before == 1 { "one that failed".to_owned() } else { format!("{failures_before} that failed") };
        tell(Level::Recovered, format!("the rebuild ended well, after {count}"));
    }
    for (key, cell) in &better {
        tell(Level::Notice, change(key, cell, &cell.last, "better", &cell.causes, find));
    }
    for (key, cell) in &other {
        tell(Level::Notice, change(key, cell, &cell.last, "not comparable", &cell.causes, find));
    }
    if !new.is_empty() {
        tell(Level::Notice, format!("{}: {}", count(new.len(), "new cell"), titles(&new)));
    }
    if !gone.is_empty() {
        tell(Level::Notice, format!("{} gone: {}", count(gone.len(), "cell"), titles(&gone)));
    }
    for notice in &ended.notices {
        tell(Level::Notice, notice.clone());
    }
    if !ended.unconfirmed.is_empty() {
        tell(
            Level::Notice,
            format!("{} more are worse and were not confirmed, since one rebuild confirms four", ended.unconfirmed.len()),
        );
    }
    lines.sort_by_key(|(level, _)| *level as u8);
    let (level, title) = lines.first().cloned()?;
    let same = lines.iter().filter(|(other, _)| *other == level).count();
    let title = if same > 1 { format!("{title}; and {} more", same - 1) } else { title };
    let link = file
        .site
        .as_ref()
        .filter(|site| !site.url.is_empty())
        .map(|site| format!("{}/rebuild/{}.html", site.url, crate::site::page_name(&ended.id)));
    let mut text: Vec<String> = lines.iter().take(NAMED).map(|(_, line)| line.clone()).collect();
    if lines.len() > NAMED {
        text.push(format!("and {} more", lines.len() - NAMED));
    }
    text.push(String::new());
    text.push(format!("rebuild {} of `{}`: {}", ended.id, file.name, summary(ended)));
    text.extend(link.clone());
    let cells = alarms.into_iter().chain(reminded).chain(failed).chain(recovered).chain(better).chain(other).take(NAMED);
    Some(Event {
        format: FORMAT,
        name: file.name.clone(),
        rebuild: ended.id.clone(),
        at: ended.at,
        level,
        title,
        text: text.join("\n"),
        cells: cells.map(|(key, cell)| event_cell(key, cell, find)).collect(),
        link,
        exit_code: ended.exit_code,
    })
}

/// `42 cells: 1 worse, 38 same, 3 moved`
pub fn summary(ended: &Ended) -> String {
    let mut counts: Vec<(Verdict, usize)> = vec![];
    for cell in ended.cells.values() {
        match counts.iter_mut().find(|(verdict, _)| *verdict == cell.last.verdict) {
            Some((_, count)) => *count += 1,
            None => counts.push((cell.last.verdict, 1)),
        }
    }
    counts.sort_by_key(|(verdict, _)| word(*verdict));
    let counts: Vec<String> = counts.into_iter().map(|(verdict, count)| format!("{count} {}", word(verdict))).collect();
    let counts = if counts.is_empty() { String::new() } else { format!(": {}", counts.join(", ")) };
    format!("{}{counts}", count(ended.cells.len(), "cell"))
}

/// Verdict in words.
pub fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Same => "same",
        Verdict::Moved => "moved within noise",
        Verdict::Better => "better",
        Verdict::Worse => "worse",
        Verdict::NotJudged => "not judged (too few seeds)",
        Verdict::NotComparable => "not comparable",
        Verdict::Failed => "failed",
        Verdict::New => "new",
        Verdict::Gone => "gone",
    }
}

/// A number with its noun: `1 cell`, `3 cells`.
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Titles of the first cells, and the number of the others.
pub(crate) fn titles(cells: &[(&str, &Cell)]) -> String {
    let shown: Vec<String> = cells.iter().take(3).map(|(_, cell)| cell.title()).collect();
    let more = if cells.len() > 3 { format!("; and {} more", cells.len() - 3) } else { String::new() };
    format!("{}{more}", shown.join("; "))
}

fn subject(cell: &Cell) -> String {
    let metric = cell.metric.map_or_else(|| "result".to_owned(), |metric| metric.title().to_owned());
    format!("{metric} of {} on {} ({})", cell.method, cell.corpus, cell.task.replace('_', " "))
}

/// The comparison by which a cell is worse.
pub fn worse(cell: &Cell) -> &Finding {
    if cell.last.verdict == Verdict::Worse || cell.baseline.verdict != Verdict::Worse { &cell.last } else { &cell.baseline }
}

fn loss(key: &str, cell: &Cell, find: Find<'_>) -> String {
    let finding = worse(cell);
    let how = if std::ptr::eq(finding, &raw const cell.baseline) { "worse than the baseline" } else { "worse" };
    change(key, cell, finding, how, &cell.causes, find)
}

fn change(key: &str, cell: &Cell, finding: &Finding, how: &str, causes: &[NamedCause], find: Find<'_>) -> String {
    let before = finding.against.as_ref().and_then(|id| find(id, key));
    let values = match before {
        Some(before) => format!("{} -> {}", before.print(), cell.print()),
        None => cell.print(),
    };
    let causes: Vec<String> = causes.iter().map(NamedCause::print).collect();
    let causes = if causes.is_empty() { String::new() } else { format!("; cause: {}", causes.join("; ")) };
    format!("{} {values}, {how}{causes}", subject(cell))
}

fn event_cell(key: &str, cell: &Cell, find: Find<'_>) -> EventCell {
    let finding = worse(cell);
    EventCell {
        key: key.to_owned(),
        verdict: finding.verdict,
        metric: cell.metric.map_or_else(String::new, |metric| metric.name().to_owned()),
        old: finding.against.as_ref().and_then(|id| find(id, key)?.mean()),
        new: cell.mean(),
        causes: cell.causes.iter().map(NamedCause::print).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::record::OpenAlarm;
    use crate::record::tests::ended;

    fn file() -> RebuildFile {
        let text = "name = \"weekly\"\nevery = \"day 03:00\"\nruns = [\"benchmark\"]\n[site]\nfolder = \"www\"\nurl = \"https://e.org\"\n";
        crate::file::read(Path::new("/p/weekly.toml"), text).unwrap()
    }

    fn event(ended: &Ended, failures_before: u32) -> Option<Event> {
        let before = ended.cells.values().next().map(|cell| Cell { values: [("1".to_owned(), 0.073)].into(), ..cell.clone() });
        compose(ended, failures_before, &file(), &|_, _| before.clone())
    }

    #[test]
    fn the_worst_comes_first_and_nothing_is_told_of_a_quiet_week() {
        let mut quiet = ended("a", 0, Outcome::Done, 0.081);
        let cell = quiet.cells.values_mut().next().unwrap();
        cell.last.verdict = Verdict::Same;
        assert_eq!(event(&quiet, 0), None);
        assert_eq!(event(&quiet, 2).unwrap().title, "the rebuild ended well, after 2 that failed");
        let mut alarm = quiet.clone();
        let cell = alarm.cells.values_mut().next().unwrap();
        (cell.last.verdict, cell.last.against, cell.alarm) = (Verdict::Worse, Some("z".to_owned()), true);
        cell.causes = vec![NamedCause { kind: "library".to_owned(), text: "libtorch 2.11 -> 2.12".to_owned() }];
        alarm.notices = vec!["the rebuild before was killed".to_owned()];
        let told = event(&alarm, 0).unwrap();
        assert_eq!(
            told.title,
            "WER of lora on fsdd (speech recognition) 7.30 -> 8.10, worse; cause: library: libtorch 2.11 -> 2.12"
        );
        assert_eq!((told.level, told.link.as_deref()), (Level::Alarm, Some("https://e.org/rebuild/a.html")));
        assert!(
            told.text.contains("\nthe rebuild before was killed\n") && told.text.contains("1 cell: 1 worse"),
            "{}",
            told.text
        );
        let mut open = quiet.clone();
        open.open.insert("speech_recognition fsdd lora".to_owned(), OpenAlarm { since: "z".to_owned(), told: open.at });
        assert!(event(&open, 0).unwrap().title.starts_with("still open: WER of lora"));
    }

    #[test]
    fn failures_are_told_at_the_first_and_the_third_time() {
        let mut failed = ended("a", 0, Outcome::NotStarted, 0.5);
        failed.cells.clear();
        failed.reason = Some("only 3 GB are free".to_owned());
        let told = |failures| event(&Ended { failures, ..failed.clone() }, failures - 1).map(|event| event.title);
        assert_eq!(told(1).as_deref(), Some("only 3 GB are free"));
        assert_eq!(told(2), None);
        assert_eq!(told(3).as_deref(), Some("only 3 GB are free, for the third time"));
        assert_eq!(told(4), None);
    }
}
