//! One bar for all shards, in hours of audio.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use audio::shards::AUDIO_UNIT;
use indicatif::{ProgressBar, ProgressStyle};
use pipeline::event::{Event, Outcome, Progress};

use super::say;
use super::{Bars, duration, end_bars, failure};

/// Time between two lines where there is no bar.
const PACE: Duration = Duration::from_secs(10);

pub(super) struct Hours {
    /// The bar, and what it is drawn on.
    bar: Option<(ProgressBar, Bars)>,
    quiet: bool,
    state: Mutex<State>,
}

struct State {
    begun: Instant,
    told: Instant,
    /// Node -> seconds done, seconds in all, as far as is known.
    nodes: BTreeMap<String, (u64, u64)>,
    /// Shards that run or will.
    total: usize,
}

impl Hours {
    pub(super) fn new(on_terminal: bool, quiet: bool) -> Self {
        let now = Instant::now();
        let bar = on_terminal.then(|| {
            let bars = Bars::new();
            let bar = bars.add(ProgressBar::new(0));
            bar.set_style(ProgressStyle::with_template("{prefix} [{bar:8}] {msg}").expect("a constant").progress_chars("=> "));
            (bar, bars)
        });
        Self { bar, quiet, state: Mutex::new(State { begun: now, told: now, nodes: BTreeMap::new(), total: 0 }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    fn say(&self, line: &str) {
        if !self.quiet {
            say!("{line}");
        }
    }

    fn begin(&self, nodes: usize) {
        let mut state = self.state();
        (state.begun, state.told) = (Instant::now(), Instant::now());
        // The list, the sums and the page take no time to speak of.
        state.total = nodes.saturating_sub(2).max(1);
        if let Some((bar, _)) = &self.bar {
            bar.set_prefix("shards");
            bar.set_message("looking at the first recordings");
            bar.enable_steady_tick(Duration::from_millis(200));
        }
    }

    fn advance(&self, node: &str, done: u64, total: u64) {
        let mut state = self.state();
        state.nodes.insert(node.to_owned(), (done, total));
        let text = state.text();
        let (done, total) = state.sums();
        if let Some((bar, _)) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
            bar.set_message(text);
        } else if state.told.elapsed() >= PACE {
            state.told = Instant::now();
            drop(state);
            self.say(&text);
        }
    }
}

impl State {
    /// Seconds of audio done, and in all: shards that have not begun count as the mean of those that have, which holds because
    /// recordings are spread over them by a hash.
    fn sums(&self) -> (u64, u64) {
        let (mut done, mut known) = (0, 0);
        for (of_node, total) in self.nodes.values() {
            done += of_node;
            known += total;
        }
        let unknown = self.total.saturating_sub(self.nodes.len()) as u64;
        (done, known + unknown * known / (self.nodes.len() as u64).max(1))
    }

    /// `1.20 of 3.40 h of audio, 1500 times real time, 5 s left`
    fn text(&self) -> String {
        let (done, total) = self.sums();
        let elapsed = self.begun.elapsed().as_secs_f64().max(1e-3);
        let speed = done as f64 / elapsed;
        let left = if speed > 0.0 { duration((total - done.min(total)) as f64 / speed) } else { "?".to_owned() };
        let hours = |secs: u64| secs as f64 / 3_600.0;
        format!("{:.2} of {:.2} h of audio, {speed:.0} times real time, {left} left", hours(done), hours(total))
    }
}

impl Progress for Hours {
    fn event(&self, event: &Event) {
        match event {
            Event::Scanned { files, read, bytes, .. } if *read > 0 => {
                self.say(&format!("{files} files, {read} new or changed ({:.1} MB read)", *bytes as f64 / 1e6));
            }
            Event::RunStarted { run_nodes: 0, maybe: 0, .. } => {}
            Event::RunStarted { run_nodes, maybe, .. } => self.begin(run_nodes + maybe),
            Event::Tick { node, done, total, unit, .. } if unit == AUDIO_UNIT => self.advance(node, *done, *total),
            Event::Note { line, .. } => self.say(line),
            Event::NodeFinished { node, outcome, .. } => match outcome {
                Outcome::Failed { .. } => {
                    let text = failure(node, outcome).unwrap_or_default();
                    if self.quiet { say!("{text}") } else { self.say(&text) }
                }
                Outcome::Reused => {
                    let mut state = self.state();
                    state.total = state.total.saturating_sub(1).max(1);
                }
                _ => {}
            },
            Event::RunFinished { complete, secs, .. } => {
                if let Some((bar, _)) = &self.bar {
                    bar.finish_and_clear();
                    end_bars();
                }
                self.say(&format!("{} after {}", if *complete { "up to date" } else { "not complete" }, duration(*secs)));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_that_have_not_begun_count_as_the_others_do() {
        let hours = Hours::new(false, true);
        hours.begin(6);
        hours.advance("shards#0", 1_800, 3_600);
        assert_eq!(hours.state().sums(), (1_800, 4 * 3_600));
        hours.advance("shards#1", 1_200, 1_200);
        assert_eq!(hours.state().sums(), (3_000, 2 * 4_800));
        assert!(hours.state().text().starts_with("0.83 of 2.67 h of audio, "));
        // One that turns out not to be needed is not waited for.
        hours.event(&Event::NodeFinished { node: "shards#2".to_owned(), outcome: Outcome::Reused, secs: 0.0 });
        assert_eq!(hours.state().sums(), (3_000, 4_800 + 2_400));
    }
}
