//! Bars on a terminal: one for the run, one for each running node.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use console::{Term, truncate_str};
use indicatif::{ProgressBar, ProgressStyle};
use pipeline::event::{Event, Outcome, Progress};

use super::say;
use super::{Bars, Counts, NotRun, duration, end_bars, failure, from_cache, other_bytes};

/// Columns of a node's line besides its name and its note.
const BESIDE_NAME: usize = 46;
/// Columns that a node's name has at least.
const NAME: usize = 20;
/// Columns that stay free at the end of a line.
const FREE: usize = 2;

pub(super) struct Live {
    bars: Bars,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The bar of the run.
    run: Option<ProgressBar>,
    workflow: String,
    nodes: HashMap<String, ProgressBar>,
    counts: Counts,
    not_run: NotRun,
}

impl Live {
    pub(super) fn new() -> Self {
        Self { bars: Bars::new(), state: Mutex::default() }
    }
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    fn begin(&self, workflow: &str) {
        let bar = self.bars.add(ProgressBar::new(0).with_style(style("{prefix}  {elapsed}\n  {msg}")));
        bar.enable_steady_tick(Duration::from_millis(200));
        let mut state = self.state();
        state.run = Some(bar);
        workflow.clone_into(&mut state.workflow);
    }

    fn show(&self, counts: Counts) {
        let mut state = self.state();
        state.counts = counts;
        if let Some(run) = &state.run {
            run.set_prefix(format!("{} {}", state.workflow, marks(counts)));
            run.set_message(truncate_str(&counts.to_string(), columns().saturating_sub(2), "…").into_owned());
        }
    }

    fn start(&self, node: &str, expected: Option<f64>) {
        let bar = self.bars.add(ProgressBar::new(0).with_style(style("  {spinner} {prefix}  {elapsed}  {msg}")));
        bar.set_prefix(shortened(node, columns().saturating_sub(BESIDE_NAME).max(NAME)));
        if let Some(secs) = expected.filter(|secs| *secs >= 1.0) {
            note(&bar, &format!("took {} last time", duration(secs)));
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        let mut state = self.state();
        state.nodes.insert(node.to_owned(), bar);
        let mut counts = state.counts; // until the run tells anew, and knows better which of them it was
        counts.running += 1;
        let queue = if counts.to_run > 0 { &mut counts.to_run } else { &mut counts.unsure };
        *queue = queue.saturating_sub(1);
        drop(state);
        self.show(counts);
    }

    fn advance(&self, node: &str, (done, total): (u64, u64), unit: &str, message: &str) {
        let Some(bar) = self.state().nodes.get(node).cloned() else { return };
        if total > 0 && bar.length() != Some(total) {
            bar.set_length(total);
            bar.set_style(style(&format!(
                "  {{spinner}} {{prefix}} [{{bar:10}}] {{pos}}/{{len}} {unit}  {{elapsed}}, {{eta}} left  {{msg}}"
            )));
        }
        bar.set_position(done);
        note(&bar, message);
    }

    fn finish(&self, node: &str, outcome: &Outcome, secs: f64) {
        let mut state = self.state();
        if let Some(bar) = state.nodes.remove(node) {
            bar.finish_and_clear();
        }
        let mut counts = state.counts; // until the run tells anew
        match outcome {
            Outcome::Ran { .. } => {
                counts.done += 1;
                counts.running = counts.running.saturating_sub(1);
            }
            Outcome::Reused => {
                counts.done += 1;
                counts.unsure = counts.unsure.saturating_sub(1);
            }
            _ => {}
        }
        drop(state);
        self.show(counts);
        if let Some(line) = other_bytes(node, outcome) {
            say!("{line}");
        }
        match outcome {
            Outcome::Ran { .. } if secs >= 1.0 => say!("{node}: ran in {}", duration(secs)),
            Outcome::Failed { .. } => say!("{}", failure(node, outcome).unwrap_or_default()),
            Outcome::Blocked { .. } | Outcome::Held { .. } => self.state().not_run.add(node, outcome),
            _ => {}
        }
    }
}

impl Progress for Live {
    fn event(&self, event: &Event) {
        match event {
            Event::Scanned { node, files, read, bytes } if *read > 0 => {
                say!("{node}: {files} files, {read} new or changed ({:.1} MB read)", *bytes as f64 / 1e6);
            }
            Event::Scanned { .. } => {}
            Event::FromCache { results, bytes, secs } => say!("{}", from_cache(*results, *bytes, *secs)),
            Event::RunStarted { workflow, .. } => {
                self.begin(workflow);
                self.show(Counts::of(event).unwrap_or_default());
            }
            Event::Progress { .. } => self.show(Counts::of(event).unwrap_or_default()),
            Event::Cluster { line, .. } => say!("{line}"),
            Event::NodeStarted { node, expected_secs } => self.start(node, *expected_secs),
            Event::Tick { node, done, total, unit, note } => self.advance(node, (*done, *total), unit, note),
            Event::Note { node, line } => say!("{node}: {line}"),
            Event::NodeFinished { node, outcome, secs } => self.finish(node, outcome, *secs),
            Event::RunFinished { complete, secs, .. } => {
                if let Some(run) = self.state().run.take() {
                    run.finish_and_clear();
                }
                end_bars();
                let not_run = self.state().not_run.take_lines();
                for line in &not_run {
                    say!("{line}");
                }
                say!("{} after {}", if *complete { "up to date" } else { "not complete" }, duration(*secs));
            }
        }
    }
}

/// Columns of the terminal that lines may have.
fn columns() -> usize {
    usize::from(Term::stderr().size().1).saturating_sub(FREE)
}

/// Sets the note of a node's line, as far as there is room for it.
fn note(bar: &ProgressBar, text: &str) {
    let room = columns().saturating_sub(bar.prefix().chars().count() + BESIDE_NAME);
    bar.set_message(truncate_str(text, room, "…").into_owned());
}

/// The bar of the run, in colours unless `NO_COLOR` is set.
fn marks(counts: Counts) -> String {
    let [done, running, to_run, unsure] = counts.bar(30);
    let paint = |text: String| console::style(text).for_stderr();
    format!("[{}{}{to_run}{}]", paint(done).green(), paint(running).cyan().bold(), paint(unsure).dim())
}

/// A name with its middle left out, if it is longer than so many characters.
fn shortened(name: &str, most: usize) -> String {
    let count = name.chars().count();
    if count <= most {
        return name.to_owned();
    }
    let begin = most / 2;
    let end = count - (most - 1 - begin);
    name.chars().take(begin).chain(['…']).chain(name.chars().skip(end)).collect()
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("templates are constants of this file").progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::shortened;

    #[test]
    fn long_names_lose_their_middle() {
        assert_eq!(shortened("train[method=lora]", 18), "train[method=lora]");
        assert_eq!(shortened("train[method=lora]", 9), "trai…ora]");
        assert_eq!(shortened("train[method=lora]", 10), "train…ora]");
    }
}
