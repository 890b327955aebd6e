//! Lines on standard error, above the bars that are drawn there.

use std::fmt::Arguments;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard};

use indicatif::{MultiProgress, ProgressBar};
use rustix::process::getpgrp;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};

use super::fit::fit_stderr;

/// A line on standard error, as `eprintln!`. That one panics when the line cannot be written (a file on a full disk, a terminal
/// that is gone), and no run should end for want of a line.
macro_rules! say {
    ($($words:tt)*) => { $crate::console::write_line(format_args!($($words)*)) };
}
pub(crate) use say;

/// Bars on standard error, while there are any.
struct Drawn {
    bars: MultiProgress,
    /// Modes of the terminal before.
    modes: Option<Termios>,
}

static DRAWN: Mutex<Option<Drawn>> = Mutex::new(None);

fn drawn() -> MutexGuard<'static, Option<Drawn>> {
    DRAWN.lock().expect("no holder of this lock panics")
}

pub(crate) fn write_line(line: Arguments<'_>) {
    let text = fit_stderr(&line.to_string());
    let bars = drawn().as_ref().map(|drawn| drawn.bars.clone());
    let _ = match bars {
        Some(bars) => bars.println(text),
        None => writeln!(io::stderr(), "{text}"),
    }; // see `say!`
}

/// Bars on standard error, which is a terminal. While they exist, every line of [`say!`] goes above them.
#[derive(Debug)]
pub(crate) struct Bars(MultiProgress);

impl Bars {
    pub(crate) fn new() -> Self {
        let bars = MultiProgress::new();
        *drawn() = Some(Drawn { bars: bars.clone(), modes: draw_through_signals() });
        Self(bars)
    }

    /// Adds a bar below the others.
    pub(crate) fn add(&self, bar: ProgressBar) -> ProgressBar {
        self.0.add(bar)
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        end_bars();
    }
}

/// Gives the terminal its modes back; to be called before an exit that drops nothing.
pub(crate) fn end_bars() {
    if let Some(Drawn { modes: Some(modes), .. }) = drawn().take() {
        let _ = tcsetattr(io::stderr(), OptionalActions::Now, &modes); // a terminal that is gone has no modes
    }
}

/// Keeps the terminal from writing `^C`, and from dropping what is drawn at that moment: in both cases, the bars would then be cleared in
/// other lines than theirs. Returns the modes as they were; none where the terminal is not ours to change, as for a process in the
/// background, which would be stopped.
fn draw_through_signals() -> Option<Termios> {
    let terminal = io::stderr();
    if tcgetpgrp(&terminal).ok()? != getpgrp() {
        return None;
    }
    let modes = tcgetattr(&terminal).ok()?;
    let mut other = modes.clone();
    other.local_modes.remove(LocalModes::ECHOCTL);
    other.local_modes.insert(LocalModes::NOFLSH);
    tcsetattr(&terminal, OptionalActions::Now, &other).ok()?;
    Some(modes)
}
