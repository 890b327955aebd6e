//! Plain lines: one per node that did something, and one every ten seconds for a node that takes long.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use pipeline::event::{Event, Outcome, Progress};

use super::say;
use super::{Counts, NotRun, duration, failure, from_cache, other_bytes, position};

/// Time between two lines of a node's progress.
const PACE: Duration = Duration::from_secs(10);
/// Time between two lines about the run as a whole.
const PACE_OF_RUN: Duration = Duration::from_secs(30);

pub(super) struct Plain {
    state: Mutex<State>,
    quiet: bool,
}

#[derive(Default)]
struct State {
    told: HashMap<String, Instant>,
    told_run: Option<Instant>,
    reused: usize,
    not_run: NotRun,
}

impl Plain {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), quiet: false }
    }
    pub(super) fn quiet() -> Self {
        Self { quiet: true, ..Self::new() }
    }
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
    fn say(&self, line: &str) {
        if !self.quiet {
            say!("{line}");
        }
    }
    fn node_finished(&self, node: &str, outcome: &Outcome, secs: f64) {
        match outcome {
            Outcome::Ran { .. } => {
                self.say(&format!("{node}: ran in {}", duration(secs)));
                if let Some(line) = other_bytes(node, outcome) {
                    say!("{line}");
                }
            }
            Outcome::Reused => self.state().reused += 1,
            Outcome::Failed { .. } => say!("{}", failure(node, outcome).unwrap_or_default()),
            Outcome::Stopped if secs > 0.0 => self.say(&format!("{node}: stopped")),
            Outcome::Stopped => {}
            Outcome::Blocked { .. } | Outcome::Held { .. } => self.state().not_run.add(node, outcome),
        }
    }
}

impl Progress for Plain {
    fn event(&self, event: &Event) {
        match event {
            Event::Scanned { node, files, read, bytes } if *read > 0 => {
                self.say(&format!("{node}: {files} files, {read} new or changed ({:.1} MB read)", *bytes as f64 / 1e6));
            }
            Event::FromCache { results, bytes, secs } => self.say(&from_cache(*results, *bytes, *secs)),
            Event::RunStarted { workflow, reuse, run_nodes, maybe, .. } => {
                self.say(&format!("{workflow}: {reuse} reused, {run_nodes} to run, {maybe} to run if an input changes"));
            }
            Event::NodeStarted { node, .. } => _ = self.state().told.insert(node.clone(), Instant::now()),
            Event::Tick { node, done, total, unit, note } => {
                let mut state = self.state();
                let due = state.told.get(node).is_none_or(|last| last.elapsed() >= PACE);
                if due {
                    state.told.insert(node.clone(), Instant::now());
                    self.say(&format!("{node}: {}", position(*done, *total, unit, note)));
                }
            }
            Event::Progress { .. } => {
                let mut state = self.state();
                let told = *state.told_run.get_or_insert_with(Instant::now);
                if told.elapsed() >= PACE_OF_RUN {
                    state.told_run = Some(Instant::now());
                    self.say(&Counts::of(event).unwrap_or_default().to_string());
                }
            }
            Event::Cluster { line, .. } => self.say(line),
            Event::Note { node, line } => self.say(&format!("{node}: {line}")),
            Event::NodeFinished { node, outcome, secs } => self.node_finished(node, outcome, *secs),
            Event::RunFinished { complete, secs, .. } => {
                let not_run = self.state().not_run.take_lines();
                for line in &not_run {
                    self.say(line);
                }
                let reused = self.state().reused;
                let reused = if reused > 0 { format!(", {reused} turned out not to need it") } else { String::new() };
                let end = if *complete { "up to date" } else { "not complete" };
                self.say(&format!("{end} after {}{reused}", duration(*secs)));
            }
            Event::Scanned { .. } => {}
        }
    }
}
