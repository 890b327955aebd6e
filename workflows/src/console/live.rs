//! Bars on a terminal: one for the run, one for each running node.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use pipeline::event::{Event, Outcome, Progress};

use super::{Counts, NotRun, duration, failure, from_cache, other_bytes};

pub(super) struct Live {
    bars: MultiProgress,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    run: Option<ProgressBar>,
    nodes: HashMap<String, ProgressBar>,
    counts: Counts,
    not_run: NotRun,
}

impl Live {
    pub(super) fn new() -> Self {
        Self { bars: MultiProgress::new(), state: Mutex::default() }
    }
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
    /// Prints above the bars; `MultiProgress::println` prints nothing when standard error is no terminal, which does not happen here.
    fn say(&self, text: &str) {
        let _ = self.bars.println(text); // a terminal that is gone needs no lines
    }

    fn begin(&self, workflow: &str) {
        let bar = self.bars.add(ProgressBar::new(0).with_style(style("{prefix} {msg}  {elapsed}")));
        bar.set_prefix(workflow.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        self.state().run = Some(bar);
    }

    fn show(&self, counts: Counts) {
        let mut state = self.state();
        state.counts = counts;
        if let Some(run) = &state.run {
            run.set_message(line(counts));
        }
    }

    fn start(&self, node: &str, expected: Option<f64>) {
        let bar = self.bars.add(ProgressBar::new(0).with_style(style("  {spinner} {prefix}  {elapsed}  {msg}")));
        bar.set_prefix(node.to_owned());
        if let Some(secs) = expected.filter(|secs| *secs >= 1.0) {
            bar.set_message(format!("took {} last time", duration(secs)));
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
                "  {{spinner}} {{prefix}} [{{bar:20}}] {{pos}}/{{len}} {unit}  {{elapsed}}, {{eta}} left  {{msg}}"
            )));
        }
        bar.set_position(done);
        bar.set_message(message.to_owned());
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
            self.say(&line);
        }
        match outcome {
            Outcome::Ran { .. } if secs >= 1.0 => self.say(&format!("{node}: ran in {}", duration(secs))),
            Outcome::Failed { .. } => self.say(&failure(node, outcome).unwrap_or_default()),
            Outcome::Blocked { .. } | Outcome::Held { .. } => self.state().not_run.add(node, outcome),
            _ => {}
        }
    }
}

impl Progress for Live {
    fn event(&self, event: &Event) {
        match event {
            Event::Scanned { node, files, read, bytes } if *read > 0 => {
                self.say(&format!("{node}: {files} files, {read} new or changed ({:.1} MB read)", *bytes as f64 / 1e6));
            }
            Event::Scanned { .. } => {}
            Event::FromCache { results, bytes, secs } => self.say(&from_cache(*results, *bytes, *secs)),
            Event::RunStarted { workflow, .. } => {
                self.begin(workflow);
                self.show(Counts::of(event).unwrap_or_default());
            }
            Event::Progress { .. } => self.show(Counts::of(event).unwrap_or_default()),
            Event::Cluster { line, .. } => self.say(line),
            Event::NodeStarted { node, expected_secs } => self.start(node, *expected_secs),
            Event::Tick { node, done, total, unit, note } => self.advance(node, (*done, *total), unit, note),
            Event::Note { node, line } => self.say(&format!("{node}: {line}")),
            Event::NodeFinished { node, outcome, secs } => self.finish(node, outcome, *secs),
            Event::RunFinished { complete, secs, .. } => {
                if let Some(run) = self.state().run.take() {
                    run.finish_and_clear();
                }
                let not_run = self.state().not_run.take_lines();
                for line in &not_run {
                    self.say(line);
                }
                self.say(&format!("{} after {}", if *complete { "up to date" } else { "not complete" }, duration(*secs)));
            }
        }
    }
}

/// The bar with its counts, in colours unless `NO_COLOR` is set.
fn line(counts: Counts) -> String {
    let [done, running, to_run, unsure] = counts.bar(30);
    let paint = |text: String| console::style(text).for_stderr();
    format!("[{}{}{to_run}{}] {counts}", paint(done).green(), paint(running).cyan().bold(), paint(unsure).dim())
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("templates are constants of this file").progress_chars("=> ")
}
