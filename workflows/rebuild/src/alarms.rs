//! Open alarms from rebuild to rebuild: which are new, which stay, which end, and which are told again.

use std::collections::BTreeMap;

use scoring::history::Verdict;

use crate::event::{count, titles};
use crate::history::History;
use crate::record::{Cell, Cost, Ended, OpenAlarm, Outcome};
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

/// Factor at which a rebuild reports a longer training, or one with more memory.
const DEARER: f64 = 1.5;
/// Earlier trainings that a cost is compared with, at most and at least.
const COMPARED: (usize, usize) = (5, 3);

/// Sentences about trainings that took longer, or more memory, than the median of earlier ones on the same machine. They are no alarm.
pub fn dearer(ended: &Ended, history: &History) -> Vec<String> {
    let mut notices = vec![];
    if let Some((count, title, factor, median)) = rise(ended, history, |cost| Some(cost.secs)) {
        notices
            .push(format!("{count} trained for longer than before: {title} for {factor:.1} times the median of {median:.0} s"));
    }
    if let Some((count, title, factor, median)) = rise(ended, history, |cost| cost.peak_gib) {
        notices.push(format!(
            "{count} trained with more memory than before: {title} with {factor:.1} times the median of {median:.2} GiB"
        ));
    }
    notices
}

/// Cells in which a cost of a training rose, as `2 of 42 cells`, and the largest rise: title, factor, median of before.
fn rise(ended: &Ended, history: &History, of: fn(&Cost) -> Option<f64>) -> Option<(String, String, f64, f64)> {
    let key = ended.machine.key();
    let mut found: BTreeMap<&String, (f64, f64, String)> = BTreeMap::new();
    for (name, cell) in &ended.cells {
        for (node, cost) in &cell.costs {
            let Some(value) = of(cost) else { continue };
            let earlier = history.log.results(name).rev().filter(|(earlier, _)| earlier.machine.key() == key);
            let earlier = earlier.filter_map(|(_, cell)| cell.costs.get(node)).filter(|earlier| earlier.on == cost.on);
            let mut values: Vec<f64> = earlier.filter_map(of).take(COMPARED.0).collect();
            values.sort_by(f64::total_cmp);
            let median = values.get(values.len() / 2).copied().unwrap_or(f64::INFINITY);
            let factor = value / median;
            if values.len() >= COMPARED.1 && factor >= DEARER && found.get(name).is_none_or(|known| factor > known.0) {
                found.insert(name, (factor, median, format!("{} ({node})", cell.title())));
            }
        }
    }
    let count = format!("{} of {} cells", found.len(), ended.cells.len());
    let (factor, median, title) = found.into_values().max_by(|a, b| a.0.total_cmp(&b.0))?;
    Some((count, title, factor, median))
}

/// Sentence about cells that were no longer part of the table and are again.
pub fn back(ended: &Ended, history: &History) -> Option<String> {
    let last = history.log.ended().rev().find(|ended| ended.outcome.is_end() && !ended.fresh).filter(|_| !ended.fresh)?;
    let was_gone = |key: &String| last.cells.get(key).is_none_or(|cell| cell.last.verdict == Verdict::Gone);
    let is_back = |(key, cell): &(&String, &Cell)| {
        was_gone(key) && !matches!(cell.last.verdict, Verdict::New | Verdict::Gone | Verdict::Failed)
    };
    let found: Vec<(&str, &Cell)> = ended.cells.iter().filter(is_back).map(|(key, cell)| (key.as_str(), cell)).collect();
    (!found.is_empty()).then(|| format!("{} back: {}", count(found.len(), "cell"), titles(&found)))
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
    fn longer_trainings_and_more_memory_on_the_same_machine_are_told() {
        const NONE: [&str; 0] = [];
        let folder = tempfile::tempdir().unwrap();
        let lock = History::lock(folder.path()).unwrap().unwrap();
        let mut history = History::read(folder.path()).unwrap();
        let took = |id: &str, secs: f64, gib: f64| {
            let mut end = ended(id, 0, Outcome::Done, 0.5);
            let cost = Cost { secs, peak_gib: Some(gib), on: ["2".to_owned()].into() };
            end.cells.get_mut(KEY).unwrap().costs.insert("train".to_owned(), cost);
            end
        };
        // Weeks without a training lie between.
        for (id, secs, gib) in [("a", 100.0, 2.0), ("b", 110.0, 2.2), ("c", 90.0, 1.8)] {
            assert_eq!(dearer(&took("x", 1000.0, 9.0), &history), NONE, "too few");
            history.append(&lock, Line::Ended(Box::new(took(id, secs, gib)))).unwrap();
            history.append(&lock, Line::Ended(Box::new(ended(id, 0, Outcome::Done, 0.5)))).unwrap();
        }
        assert_eq!(dearer(&took("d", 149.0, 2.9), &history), NONE);
        let longer = "1 of 1 cells trained for longer than before: speech recognition, fsdd, lora (train) for 2.0 times the median of 100 s";
        let larger = "1 of 1 cells trained with more memory than before: speech recognition, fsdd, lora (train) with 1.6 times the median of 2.00 GiB";
        assert_eq!(dearer(&took("d", 200.0, 2.9), &history), [longer]);
        assert_eq!(dearer(&took("d", 149.0, 3.2), &history), [larger]);
        assert_eq!(dearer(&took("d", 200.0, 3.2), &history), [longer, larger]);
        let mut elsewhere = took("d", 200.0, 3.2);
        elsewhere.machine.cpu = "another".to_owned();
        assert_eq!(dearer(&elsewhere, &history), NONE);
        let mut fewer = took("d", 200.0, 3.2);
        fewer.cells.get_mut(KEY).unwrap().costs.get_mut("train").unwrap().on = ["1".to_owned()].into();
        assert_eq!(dearer(&fewer, &history), NONE, "with fewer threads");
        let mut unknown = took("d", 100.0, 0.0);
        unknown.cells.get_mut(KEY).unwrap().costs.get_mut("train").unwrap().peak_gib = None;
        assert_eq!(dearer(&unknown, &history), NONE);
    }

    #[test]
    fn a_cell_that_is_back_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let lock = History::lock(folder.path()).unwrap().unwrap();
        let mut history = History::read(folder.path()).unwrap();
        let mut week = |verdict: Option<Verdict>| {
            let mut end = ended("w", 0, Outcome::Done, 0.5);
            match verdict {
                Some(verdict) => end.cells.get_mut(KEY).unwrap().last = Finding::of(verdict),
                None => end.cells.clear(),
            }
            let told = back(&end, &history);
            history.append(&lock, Line::Ended(Box::new(end))).unwrap();
            told
        };
        let told = Some("1 cell back: speech recognition, fsdd, lora".to_owned());
        assert_eq!(week(Some(Verdict::New)), None);
        assert_eq!(week(Some(Verdict::Same)), None);
        assert_eq!(week(Some(Verdict::Gone)), None);
        assert_eq!(week(Some(Verdict::Same)), told, "after a week");
        assert_eq!(week(Some(Verdict::Same)), None);
        assert_eq!(week(Some(Verdict::Gone)), None);
        assert_eq!(week(None), None);
        assert_eq!(week(Some(Verdict::Moved)), told, "after two weeks, with another value");
        assert_eq!(week(Some(Verdict::Failed)), None);
        assert_eq!(week(Some(Verdict::Same)), None, "it was not gone");
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
