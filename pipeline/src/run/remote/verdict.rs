//! What becomes of a task without a result: when to stop waiting, and what to do then. Pure: no clock, no file.

use std::time::Duration;

use super::Retry;
use crate::remote::cluster::{EndClass, State};
use crate::remote::exchange::BEAT;

/// What is known of an element. Ages count from now.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Known {
    /// State that the cluster told last, and how long it has been telling it; none when it does not know the element, has not told yet,
    /// or has not answered for long.
    pub(super) told: Option<(State, Duration)>,
    /// Time from the first to the last answer of the cluster without this element.
    pub(super) missing: Option<Duration>,
    /// How long ago the element told that it lives; none when it never did.
    pub(super) alive: Option<Duration>,
}

/// Decision about an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its results may still come.
    Wait,
    /// They will not. The class is none when the cluster does not say how it ended.
    Over(Option<EndClass>),
}

/// Time after which an element that is said to run, and says nothing itself, is given up. So is one that has told of itself once, and of
/// which the cluster, which does not answer, says nothing.
pub(super) const SILENT: Duration = Duration::from_secs(600);

/// Decides whether results of an element may still come. `delay` is the longest time until a file of a compute node is seen.
pub(super) fn judge(known: &Known, delay: Duration) -> Verdict {
    let is_quiet = |time: Duration| known.alive.is_none_or(|age| age >= time);
    match known.told {
        Some((State::Ended(class), since)) if since >= delay => Verdict::Over(Some(class)),
        Some((State::Running, since)) if since >= SILENT && is_quiet(SILENT) => Verdict::Over(None),
        // A word that nobody knows, or no word at all, is never taken for success, nor for ever.
        Some((State::Unknown, since)) if since >= delay && is_quiet(delay + BEAT * 2) => Verdict::Over(None),
        None if known.missing.is_some_and(|since| since >= delay) && is_quiet(delay + BEAT * 2) => Verdict::Over(None),
        None if known.alive.is_some_and(|age| age >= SILENT.max(delay)) => Verdict::Over(None),
        _ => Verdict::Wait,
    }
}

/// Most attempts without a result.
pub(super) const MOST_LOST: u32 = 3;
/// Most attempts that end early and leave a newer state.
pub(super) const MOST_PROGRESS: u32 = 50;

/// What an attempt without a result left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// Nothing: it had not begun.
    NotBegun,
    /// A newer state than before.
    NewerState,
    /// Nothing new.
    Nothing,
    /// Nothing new, though it had its element for itself.
    NothingAlone,
}

/// What to do with a task whose attempt ended without a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// It is submitted again.
    Again(Retry),
    /// It failed; the text says why, the second one what to do.
    Fail(String, String),
}

/// Decides what to do with a task after an attempt without a result.
pub(super) fn after(retry: &Retry, class: Option<EndClass>, host: &str, left: Left, memory_mib: u64) -> Next {
    let mut next = retry.clone();
    let goes_on = matches!(left, Left::NewerState | Left::NotBegun) && retry.progress < MOST_PROGRESS;
    let fail = |text: &str, hint: &str| Next::Fail(text.to_owned(), hint.to_owned());
    match class {
        Some(EndClass::Cancelled) => {
            return fail("its job was cancelled on the cluster", "run again to submit it anew");
        }
        Some(EndClass::OutOfMemory) if retry.more_memory => {
            let text = format!("it ran out of memory on the cluster, also with {} MiB", memory_mib * 3 / 2);
            return Next::Fail(
                text,
                "`limits = { memory_mib = ... }` of the stage in the workflow file asks for more".to_owned(),
            );
        }
        Some(EndClass::OutOfMemory) => next.more_memory = true,
        Some(EndClass::TimedOut | EndClass::Preempted | EndClass::HostFailed) | None if goes_on => next.progress += 1,
        // Others may have used up the time of its element.
        Some(EndClass::TimedOut) if left == Left::Nothing && retry.lost == 0 => next.lost += 1,
        Some(EndClass::TimedOut) => {
            let text = "its job reached its time limit without a newer state than before";
            return fail(text, "`time` below `[executor.slurm]` in sure.toml allows more");
        }
        Some(EndClass::Preempted | EndClass::Completed | EndClass::Failed | EndClass::HostFailed) | None => next.lost += 1,
    }
    if class != Some(EndClass::Preempted) && class != Some(EndClass::TimedOut) && !host.is_empty() && !next.more_memory {
        next.exclude.insert(host.to_owned());
    }
    if next.lost > MOST_LOST {
        let text = format!("its job left no result, {} times", next.lost);
        return Next::Fail(text, "the log says what the cluster told; `sure doctor` checks the setup".to_owned());
    }
    Next::Again(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_secs(60);

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[track_caller]
    fn check(told: Option<(State, u64)>, missing: Option<u64>, alive: Option<u64>, expected: Verdict) {
        let told = told.map(|(state, since)| (state, secs(since)));
        let known = Known { told, missing: missing.map(secs), alive: alive.map(secs) };
        assert_eq!(judge(&known, DELAY), expected, "{known:?}");
    }

    #[test]
    fn a_result_is_waited_for_while_it_may_come_and_not_for_ever() {
        use Verdict::{Over, Wait};
        check(None, None, None, Wait); // the cluster has not answered
        check(None, Some(59), None, Wait);
        check(None, Some(60), None, Over(None));
        check(None, Some(600), Some(20), Wait); // it lives, whatever the cluster says
        check(None, Some(600), Some(121), Over(None));
        check(None, None, Some(599), Wait);
        check(None, None, Some(600), Over(None)); // it was alive, and the cluster does not answer
        check(Some((State::Queued, 1_000_000)), None, None, Wait);
        check(Some((State::Queued, 1_000_000)), None, Some(1_000_000), Wait); // suspended, perhaps
        check(Some((State::Running, 599)), None, None, Wait);
        check(Some((State::Running, 10_000)), None, Some(30), Wait);
        check(Some((State::Running, 10_000)), None, Some(601), Over(None));
        check(Some((State::Unknown, 61)), None, None, Over(None));
        check(Some((State::Unknown, 61)), None, Some(30), Wait);
        for class in [EndClass::Completed, EndClass::Failed, EndClass::HostFailed, EndClass::Cancelled] {
            check(Some((State::Ended(class), 59)), None, None, Wait); // its files may be late
            check(Some((State::Ended(class), 60)), None, Some(1), Over(Some(class)));
        }
    }

    #[track_caller]
    fn next(retry: &Retry, class: Option<EndClass>, progress: bool) -> Option<Retry> {
        match after(retry, class, "n1", if progress { Left::NewerState } else { Left::NothingAlone }, 100) {
            Next::Again(retry) => Some(retry),
            Next::Fail(..) => None,
        }
    }

    #[test]
    fn every_end_without_a_result_leads_to_another_attempt_or_to_a_failure() {
        let first = Retry::default();
        let lost = |lost: u32| Retry { lost, exclude: ["n1".to_owned()].into(), ..Retry::default() };
        for class in [Some(EndClass::HostFailed), Some(EndClass::Failed), Some(EndClass::Completed), None] {
            assert_eq!(next(&first, class, false), Some(lost(1)), "{class:?}");
            assert_eq!(next(&lost(MOST_LOST), class, false), None, "{class:?}");
        }
        let progress = |progress: u32| Retry { progress, ..Retry::default() };
        for class in [EndClass::TimedOut, EndClass::Preempted] {
            assert_eq!(next(&first, Some(class), true), Some(progress(1)));
            assert_eq!(next(&progress(MOST_PROGRESS - 1), Some(class), true), Some(progress(MOST_PROGRESS)));
        }
        assert_eq!(next(&progress(MOST_PROGRESS), Some(EndClass::TimedOut), true), None);
        assert_eq!(next(&first, Some(EndClass::TimedOut), false), None);
        assert_eq!(next(&first, Some(EndClass::Preempted), false), Some(Retry { lost: 1, ..Retry::default() }));
        let on_other_host = Retry { progress: 1, exclude: ["n1".to_owned()].into(), ..Retry::default() };
        assert_eq!(next(&first, Some(EndClass::HostFailed), true), Some(on_other_host));
        let more = Retry { more_memory: true, ..Retry::default() };
        assert_eq!(next(&first, Some(EndClass::OutOfMemory), false), Some(more.clone()));
        assert_eq!(next(&more, Some(EndClass::OutOfMemory), true), None);
        assert_eq!(next(&first, Some(EndClass::Cancelled), true), None);
        let timed_out = |left| after(&first, Some(EndClass::TimedOut), "n1", left, 100);
        assert_eq!(timed_out(Left::NotBegun), Next::Again(progress(1)));
        assert_eq!(timed_out(Left::Nothing), Next::Again(Retry { lost: 1, ..Retry::default() }));
    }
}
