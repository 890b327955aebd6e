//! Shows what happens during a run: bars on a terminal, plain lines elsewhere, JSON lines for programs.

mod hours;
mod live;
mod plain;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use pipeline::event::{Event, Outcome, Progress};

/// The listener that fits.
pub(crate) fn pick(quiet: bool, json: bool) -> Arc<dyn Progress> {
    match (json, quiet, io::stderr().is_terminal()) {
        (true, ..) => Arc::new(Json),
        (false, true, _) => Arc::new(plain::Plain::quiet()),
        (false, false, true) => Arc::new(live::Live::new()),
        (false, false, false) => Arc::new(plain::Plain::new()),
    }
}

/// The same for the making of shards alone: one bar, in hours of audio.
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
    let mut lines = vec![format!("error: {node}: {}", chain.first().map_or("failed", String::as_str))];
    lines.extend(chain.iter().skip(1).map(|cause| format!("  because: {cause}")));
    lines.extend(hint.iter().map(|hint| format!("  hint: {hint}")));
    if !last_lines.is_empty() {
        lines.push(format!("  log: {}", log.display()));
        lines.extend(last_lines.iter().map(|line| format!("    {line}")));
    }
    Some(lines.join("\n"))
}

/// `4.2 s`, `3 min 20 s`, `2 h 5 min`
fn duration(secs: f64) -> String {
    let whole = secs as u64;
    match whole {
        0..10 => format!("{secs:.1} s"),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole / 60 % 60),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        let shown: Vec<String> = [0.04, 9.96, 12.9, 200.0, 7500.0].into_iter().map(duration).collect();
        assert_eq!(shown, ["0.0 s", "10.0 s", "12 s", "3 min 20 s", "2 h 5 min"]);
    }
}
