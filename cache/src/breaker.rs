//! Health of the cache: when to stop asking a server that does not answer, and the one warning about it.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::error::Fault;

/// Prints a warning.
pub(crate) type Warn = Arc<dyn Fn(&str) + Send + Sync>;

/// Failures in a row that open the breaker.
const FAILURES: u32 = 3;
/// Time for which nothing is asked then.
const OPEN: Duration = Duration::from_secs(30);
/// Openings that end the use of the cache.
const OPENINGS: u32 = 3;
/// Time of a run that may be lost by waiting for nothing: with what else it takes to give up, less than a second.
pub(crate) const PATIENCE: Duration = Duration::from_millis(900);
/// Words for a server that was waited for so long.
pub(crate) const NO_ANSWER: &str = "no answer within 0.9 s";

/// Health of a cache in one process.
pub(crate) struct Breaker {
    state: Mutex<State>,
    warn: Warn,
    cache: String,
}

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct State {
    has_answered: bool,
    failures: u32,
    openings: u32,
    open_until: Option<Instant>,
    lost: Duration,
    off: bool,
    is_read_only: bool,
    warned: bool,
}

impl Breaker {
    pub(crate) fn new(cache: &str, warn: Warn) -> Self {
        Self { state: Mutex::default(), warn, cache: cache.to_owned() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// True if the server may be asked.
    pub(crate) fn allows(&self) -> bool {
        let state = self.state();
        !state.off && state.open_until.is_none_or(|until| until <= Instant::now())
    }

    /// True if the server may be asked to write.
    pub(crate) fn allows_writing(&self) -> bool {
        self.allows() && !self.state().is_read_only
    }

    /// True if the server is not asked any more.
    pub(crate) fn is_off(&self) -> bool {
        self.state().off
    }

    /// True if the server has answered any request.
    pub(crate) fn has_answered(&self) -> bool {
        self.state().has_answered
    }

    /// Notes an answer.
    pub(crate) fn answered(&self) {
        let mut state = self.state();
        (state.has_answered, state.failures) = (true, 0);
    }

    /// Notes a failed request; `message` says why.
    pub(crate) fn failed(&self, fault: Fault, message: &str) {
        let mut state = self.state();
        match fault {
            Fault::Missing => (state.has_answered, state.failures) = (true, 0),
            Fault::Denied => self.end(&mut state, message),
            Fault::Trouble => {
                state.failures += 1;
                if !state.has_answered {
                    self.end(&mut state, message);
                } else if state.failures >= FAILURES {
                    (state.failures, state.open_until) = (0, Some(Instant::now() + OPEN));
                    state.openings += 1;
                    if state.openings >= OPENINGS || state.lost >= PATIENCE {
                        self.end(&mut state, message);
                    }
                }
            }
        }
    }

    /// Notes that uploads are refused. Results are still read.
    pub(crate) fn refused_to_write(&self, message: &str) {
        let mut state = self.state();
        if !std::mem::replace(&mut state.is_read_only, true) {
            self.warn_once(&mut state, &format!("{message}; this run uploads nothing"));
        }
    }

    /// Notes that the run waited in vain for this long.
    pub(crate) fn lost(&self, time: Duration, message: &str) {
        let mut state = self.state();
        state.lost += time;
        if state.lost >= PATIENCE && state.failures > 0 {
            self.end(&mut state, message);
        }
    }

    fn end(&self, state: &mut State, message: &str) {
        state.off = true;
        self.warn_once(state, &format!("{message}; the run goes on without it"));
    }

    /// Warns, unless that was done. Not every fault deserves a line of its own.
    fn warn_once(&self, state: &mut State, text: &str) {
        if !std::mem::replace(&mut state.warned, true) {
            (self.warn)(&format!("the cache {}: {text} (`sure cache check` examines it)", self.cache));
        }
    }

    /// Ends the use of the cache for a reason that is no failed request.
    pub(crate) fn turn_off(&self, message: &str) {
        let mut state = self.state();
        self.end(&mut state, message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> (Breaker, Arc<Mutex<Vec<String>>>) {
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let here = Arc::clone(&said);
        (Breaker::new("s3://b", Arc::new(move |text: &str| here.lock().unwrap().push(text.to_owned()))), said)
    }

    #[test]
    fn a_server_that_never_answered_is_given_up_at_once_with_one_warning() {
        let (breaker, said) = breaker();
        breaker.failed(Fault::Trouble, "connection refused");
        breaker.failed(Fault::Trouble, "connection refused");
        assert!(breaker.is_off() && !breaker.allows());
        assert_eq!(
            *said.lock().unwrap(),
            ["the cache s3://b: connection refused; the run goes on without it (`sure cache check` examines it)"]
        );
    }

    #[test]
    fn a_server_that_answered_gets_a_pause_after_three_failures_in_a_row() {
        let (breaker, said) = breaker();
        breaker.answered();
        breaker.failed(Fault::Trouble, "503");
        breaker.failed(Fault::Trouble, "503");
        breaker.failed(Fault::Missing, "not found");
        breaker.failed(Fault::Trouble, "503");
        breaker.failed(Fault::Trouble, "503");
        assert!(breaker.allows());
        breaker.failed(Fault::Trouble, "503");
        assert!(!breaker.allows() && !breaker.is_off() && said.lock().unwrap().is_empty());
        for _ in 0..6 {
            breaker.failed(Fault::Trouble, "503");
        }
        assert!(breaker.is_off() && said.lock().unwrap().len() == 1);
    }

    #[test]
    fn waiting_in_vain_ends_it_and_so_does_a_refusal() {
        let (one, _) = breaker();
        one.answered();
        one.failed(Fault::Trouble, "no answer");
        one.lost(PATIENCE, "no answer");
        assert!(one.is_off());
        let (other, _) = breaker();
        other.answered();
        other.failed(Fault::Denied, "403");
        assert!(other.is_off());
        let (third, said) = breaker();
        third.refused_to_write("403");
        assert!(third.allows() && !third.allows_writing() && said.lock().unwrap().len() == 1);
    }
}
