//! Open alarms from rebuild to rebuild: which are new, which stay, which end, and which are told again.

use scoring::history::Verdict;

use crate::history::History;
use crate::record::{Cell, Ended, OpenAlarm, Outcome};
use crate::time::DAY;

/// Seconds after which an open alarm is told again.
const AGAIN: i64 = 30 * DAY;

/// True if a loss of a cell is known: an alarm is open, and nothing says that the value fell further.
pub fn is_known(history: &History, key: &str, cell: &Cell) -> bool {
    let last = history.log.ended().next_back();
    last.is_some_and(|last| last.open.contains_key(key)) && cell.last.verdict != Verdict::Worse
}

/// Settles the alarms of a rebuild whose cells are judged, and its exit code. `done` is the code when there is no alarm.
pub fn settle(ended: &mut Ended, history: &History, done: u8) {
    let previous = history.log.ended().next_back();
    let mut open = previous.map(|previous| previous.open.clone()).unwrap_or_default();
    let mut told = false;
    if ended.outcome.is_end() && !ended.fresh {
        let mut recovered = vec![];
        open.retain(|key, alarm| {
            let accepted = history
                .baselines
                .get(key)
                .zip(history.log.find(&alarm.since))
                .is_some_and(|(baseline, raised)| baseline.since > raised.at);
            let cell = ended.cells.get(key).filter(|cell| cell.last.verdict != Verdict::Gone);
            match cell {
                _ if accepted => false,
                None => false,
                Some(cell) if cell.values.is_empty() || cell.last.verdict == Verdict::Same || cell.alarm => true,
                Some(cell) if cell.baseline.verdict == Verdict::Worse => true,
                Some(_) => {
                    recovered.push(key.clone());
                    false
                }
            }
        });
        ended.recovered = recovered;
    }
    for (key, cell) in &mut ended.cells {
        let is_new = !open.contains_key(key) || cell.last.verdict == Verdict::Worse;
        cell.alarm &= is_new;
        if cell.alarm {
            told = true;
            if !ended.fresh {
                open.insert(key.clone(), OpenAlarm { since: ended.id.clone(), told: ended.at });
            }
        }
    }
    for alarm in open.values_mut().filter(|alarm| ended.at.0 - alarm.told.0 >= AGAIN) {
        alarm.told = ended.at;
        told = true;
    }
    ended.open = open;
    let failures = previous.map_or(0, |previous| previous.failures)
        + history.log.killed().iter().filter(|begun| begun.id != ended.id).count() as u32;
    ended.failures = if ended.outcome == Outcome::Done { 0 } else { failures + 1 };
    ended.exit_code = if told { 3 } else { done };
}

/// Factor from which on a longer training is told.
const SLOWER: f64 = 1.5;
/// Earlier trainings that a time is compared with, at most and at least.
const TIMES: (usize, usize) = (5, 3);

/// Sentence about trainings that took longer than the median of earlier ones on the same machine. It is no alarm.
pub fn slower(ended: &Ended, history: &History) -> Option<String> {
    let key = ended.machine.key();
    let mut found: Vec<(f64, &Cell)> = vec![];
    for (name, cell) in &ended.cells {
        let Some(secs) = cell.secs else { continue };
        let earlier = history.log.results(name).rev().filter(|(earlier, _)| earlier.machine.key() == key);
        let mut times: Vec<f64> = earlier.filter_map(|(_, cell)| cell.secs).take(TIMES.0).collect();
        times.sort_by(f64::total_cmp);
        let median = times.get(times.len() / 2).copied().unwrap_or(f64::INFINITY);
        if times.len() >= TIMES.1 && secs > SLOWER * median {
            found.push((secs / median, cell));
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (factor, cell) = found.first()?;
    Some(format!(
        "{} of {} cells trained for longer than before: {} for {factor:.1} times the median",
        found.len(),
        ended.cells.len(),
        cell.title()
    ))
}

/// Number of rebuilds that failed in a row before this one, killed ones included.
pub fn failures_before(history: &History, id: &str) -> u32 {
    let last = history.log.ended().next_back().map_or(0, |last| last.failures);
    last + history.log.killed().iter().filter(|begun| begun.id != id).count() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Baseline;
    use crate::record::tests::ended;
    use crate::record::{Finding, Line};
    use crate::time::Utc;

    const KEY: &str = "speech_recognition fsdd lora";

    struct Weeks {
        folder: tempfile::TempDir,
        week: i64,
    }

    impl Weeks {
        /// The next week: verdicts against the last result and the baseline. Returns the exit code and the recovered cells.
        fn next(&mut self, last: Verdict, baseline: Verdict, alarm: bool) -> (u8, usize, usize) {
            let lock = History::lock(self.folder.path()).unwrap().unwrap();
            let mut history = History::read(self.folder.path()).unwrap();
            self.week += 1;
            let mut end = ended(&self.week.to_string(), self.week * 7 * DAY, Outcome::Done, self.week as f64);
            let cell = end.cells.get_mut(KEY).unwrap();
            (cell.last, cell.baseline, cell.alarm) = (Finding::of(last), Finding::of(baseline), alarm);
            settle(&mut end, &history, 0);
            let found = (end.exit_code, end.open.len(), end.recovered.len());
            history.append(&lock, Line::Ended(Box::new(end))).unwrap();
            found
        }
    }

    #[test]
    fn an_alarm_is_raised_once_told_again_after_a_month_and_ends_once() {
        let mut weeks = Weeks { folder: tempfile::tempdir().unwrap(), week: 0 };
        assert_eq!(weeks.next(Verdict::New, Verdict::New, false), (0, 0, 0));
        assert_eq!(weeks.next(Verdict::Worse, Verdict::Worse, true), (3, 1, 0));
        for _ in 0..4 {
            assert_eq!(weeks.next(Verdict::Same, Verdict::Worse, false), (0, 1, 0));
        }
        assert_eq!(weeks.next(Verdict::Same, Verdict::Worse, false), (3, 1, 0), "after five weeks");
        assert_eq!(weeks.next(Verdict::Moved, Verdict::Worse, true), (0, 1, 0), "known already");
        assert_eq!(weeks.next(Verdict::Worse, Verdict::Worse, true), (3, 1, 0), "worse still");
        assert_eq!(weeks.next(Verdict::Better, Verdict::Moved, false), (0, 0, 1));
        assert_eq!(weeks.next(Verdict::Same, Verdict::Moved, false), (0, 0, 0));
    }

    #[test]
    fn longer_trainings_on_the_same_machine_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let lock = History::lock(folder.path()).unwrap().unwrap();
        let mut history = History::read(folder.path()).unwrap();
        let took = |id: &str, secs: f64| {
            let mut end = ended(id, 0, Outcome::Done, 0.5);
            end.cells.get_mut(KEY).unwrap().secs = Some(secs);
            end
        };
        for (id, secs) in [("a", 100.0), ("b", 110.0), ("c", 90.0)] {
            assert_eq!(slower(&took("x", 1000.0), &history), None, "too few");
            history.append(&lock, Line::Ended(Box::new(took(id, secs)))).unwrap();
        }
        assert_eq!(slower(&took("d", 149.0), &history), None);
        let told = slower(&took("d", 200.0), &history).unwrap();
        assert_eq!(told, "1 of 1 cells trained for longer than before: speech recognition, fsdd, lora for 2.0 times the median");
        let mut elsewhere = took("d", 200.0);
        elsewhere.machine.cpu = "another".to_owned();
        assert_eq!(slower(&elsewhere, &history), None);
    }

    #[test]
    fn an_accepted_value_ends_an_alarm_without_a_word() {
        let mut weeks = Weeks { folder: tempfile::tempdir().unwrap(), week: 0 };
        assert_eq!(weeks.next(Verdict::Worse, Verdict::Worse, true), (3, 1, 0));
        let lock = History::lock(weeks.folder.path()).unwrap().unwrap();
        let mut history = History::read(weeks.folder.path()).unwrap();
        let baseline = Baseline { rebuild: "1".to_owned(), since: Utc(8 * DAY), by: "ann".to_owned(), why: "x".to_owned() };
        history.set_baselines(&lock, [(KEY.to_owned(), baseline)].into()).unwrap();
        drop(lock);
        assert_eq!(weeks.next(Verdict::Same, Verdict::Same, false), (0, 0, 0));
    }
}
