//! Shows what happens during a run: bars on a terminal, plain lines elsewhere, JSON lines for programs.

mod fit;
mod hours;
mod live;
mod plain;
mod say;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use console::style;
pub(crate) use fit::{fit_stdout, tell, tell_to};
use pipeline::event::{Event, Outcome, Progress};
pub(crate) use say::{Bars, end_bars, say, write_line};

/// The listener that fits.
pub(crate) fn pick(quiet: bool, json: bool) -> Arc<dyn Progress> {
    match (json, quiet, io::stderr().is_terminal()) {
        (true, ..) => Arc::new(Json),
        (false, true, _) => Arc::new(plain::Plain::quiet()),
        (false, false, true) => Arc::new(live::Live::new()),
        (false, false, false) => Arc::new(plain::Plain::new()),
    }
}

/// Picks the console for making shards alone: one bar, in hours of audio.
pub(crate) fn pick_hours(quiet: bool, json: bool) -> Arc<dyn Progress> {
    if json {
        return Arc::new(Json);
    }
    Arc::new(hours::Hours::new(!quiet && io::stderr().is_terminal(), quiet))
}

/// Events as JSON lines on standard output.
struct Json;

impl Progress for Json {
    fn event(&self, event: &Event) {
        let line = serde_json::to_string(event).expect("events hold nothing that JSON cannot");
        let _ = writeln!(io::stdout(), "{line}"); // a reader that is gone needs no events
    }
}

/// A failure with its causes, its hint and the end of its log.
fn failure(node: &str, outcome: &Outcome) -> Option<String> {
    let Outcome::Failed { chain, hint, log, last_lines } = outcome else { return None };
    let head = style("error:").for_stderr().red().bold();
    let mut lines = vec![format!("{head} {node}: {}", chain.first().map_or("failed", String::as_str))];
    lines.extend(chain.iter().skip(1).map(|cause| format!("  because: {cause}")));
    lines.extend(hint.iter().map(|hint| format!("  hint: {hint}")));
    if !last_lines.is_empty() {
        lines.push(format!("  log: {}", log.display()));
        lines.extend(last_lines.iter().map(|line| format!("    {line}")));
    }
    Some(lines.join("\n"))
}

/// A result that does not repeat: the node gave other bytes than the same inputs gave before.
fn other_bytes(node: &str, outcome: &Outcome) -> Option<String> {
    let Outcome::Ran { path, dropped: Some(dropped) } = outcome else { return None };
    let head = style("warning:").for_stderr().yellow().bold();
    Some(format!(
        "{head} {node}: it gave other bytes than before. The earlier result is kept (`{}`), and nothing reads the new one (`{}`)",
        path.display(),
        dropped.display()
    ))
}

/// Nodes that were not run because of another one; shown together at the end of a run.
#[derive(Default)]
struct NotRun(BTreeMap<String, Vec<String>>);

impl NotRun {
    /// More nodes than this are only counted.
    const MAX_NAMES: usize = 3;

    fn add(&mut self, node: &str, outcome: &Outcome) {
        let reason = match outcome {
            Outcome::Blocked { by } => format!("{by} failed"),
            Outcome::Held { by } => format!("{by} is not up to date and --only leaves it alone"),
            _ => return,
        };
        self.0.entry(reason).or_default().push(node.to_owned());
    }

    /// Returns one line for each reason.
    fn take_lines(&mut self) -> Vec<String> {
        let line = |(reason, nodes): (String, Vec<String>)| match nodes.len() {
            0..=Self::MAX_NAMES => format!("{}: not run, since {reason}", nodes.join(", ")),
            count => format!("{count} nodes not run, since {reason}"),
        };
        std::mem::take(&mut self.0).into_iter().map(line).collect()
    }
}

/// `4.2 s`, `3 min 20 s`, `2 h 5 min`
pub(crate) fn duration(secs: f64) -> String {
    let whole = secs as u64;
    match whole {
        0..10 => format!("{secs:.1} s"),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole / 60 % 60),
    }
}

/// `40 results from the shared cache, 26.6 MB in 1.2 s`
fn from_cache(results: usize, bytes: u64, secs: f64) -> String {
    format!("{results} results from the shared cache, {:.1} MB in {secs:.1} s", bytes as f64 / 1e6)
}

/// `40/900 steps, loss 0.12`
fn position(done: u64, total: u64, unit: &str, note: &str) -> String {
    let mut text = if total > 0 { format!("{done}/{total} {unit}") } else { format!("{done} {unit}") };
    if !note.is_empty() {
        text += ", ";
        text += note;
    }
    text
}

/// How far a run is.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    done: usize,
    running: usize,
    to_run: usize,
    /// Of these is not known yet whether they are needed.
    unsure: usize,
    secs_left: Option<f64>,
}

impl Counts {
    /// The counts that an event tells, if it tells any.
    fn of(event: &Event) -> Option<Self> {
        match *event {
            Event::RunStarted { reuse, run_nodes, maybe, expected_secs, .. } => {
                Some(Self { done: reuse, running: 0, to_run: run_nodes, unsure: maybe, secs_left: expected_secs })
            }
            Event::Progress { done, running, to_run, unsure, secs_left } => {
                Some(Self { done, running, to_run, unsure, secs_left })
            }
            _ => None,
        }
    }

    /// A bar of so many characters: done, running, to run, and not known yet to be needed.
    fn bar(&self, width: usize) -> [String; 4] {
        let parts = [self.done, self.running, self.to_run, self.unsure];
        let total = parts.iter().sum::<usize>().max(1);
        let (mut upto, mut drawn) = (0, 0);
        ["=", ">", "-", "."]
            .iter()
            .zip(parts)
            .map(|(mark, part)| {
                upto += part;
                let end = (upto * width).div_ceil(total);
                let length = end - drawn;
                drawn = end;
                mark.repeat(length)
            })
            .collect::<Vec<_>>()
            .try_into()
            .expect("four parts")
    }
}

/// `14 done, 2 running, 5 to run, 7 if an input changes; about 3 min 20 s left`
impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} done, {} running", self.done, self.running)?;
        for (count, what) in [(self.to_run, "to run"), (self.unsure, "if an input changes")] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        match self.secs_left.filter(|secs| *secs >= 1.0) {
            Some(secs) if self.unsure > 0 => write!(f, "; at most {} left", duration(secs)),
            Some(secs) => write!(f, "; about {} left", duration(secs)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        let shown: Vec<String> = [0.04, 9.96, 12.9, 200.0, 7500.0].into_iter().map(duration).collect();
        assert_eq!(shown, ["0.0 s", "10.0 s", "12 s", "3 min 20 s", "2 h 5 min"]);
    }

    #[test]
    fn nodes_that_were_not_run_share_a_line() {
        let mut not_run = NotRun::default();
        for node in 0..35 {
            not_run.add(&format!("n{node}"), &Outcome::Blocked { by: "manifest".to_owned() });
        }
        not_run.add("score", &Outcome::Held { by: "train".to_owned() });
        not_run.add("page", &Outcome::Reused);
        let expected = [
            "35 nodes not run, since manifest failed",
            "score: not run, since train is not up to date and --only leaves it alone",
        ];
        assert_eq!(not_run.take_lines(), expected);
        assert!(not_run.take_lines().is_empty());
    }

    #[test]
    fn counts_read_well_and_fill_the_bar() {
        let counts = Counts { done: 14, running: 2, to_run: 5, unsure: 7, secs_left: Some(200.0) };
        assert_eq!(counts.to_string(), "14 done, 2 running, 5 to run, 7 if an input changes; at most 3 min 20 s left");
        assert_eq!(counts.bar(28).concat(), "==============>>-----.......");
        let counts = Counts { done: 3, running: 1, ..Counts::default() };
        assert_eq!(counts.to_string(), "3 done, 1 running");
        assert_eq!(counts.bar(8).concat(), "======>>");
        assert_eq!(Counts::default().bar(8).concat(), "");
    }
}
