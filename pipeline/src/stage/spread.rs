//! Work of a body on several threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::{Borrowed, Job, StageError};

impl Job {
    /// Returns `work` of every number below `count`, in order, computed by the threads of the body and by those that it can borrow
    /// meanwhile.
    ///
    /// # Errors
    /// The error of the lowest number with an error, on any number of threads; [`StageError::Stopped`] after a request to stop.
    pub fn spread<T: Send>(
        &self,
        count: usize,
        work: impl Fn(usize) -> Result<T, StageError> + Sync,
    ) -> Result<Vec<T>, StageError> {
        let next = AtomicUsize::new(0);
        let results: Mutex<Vec<_>> = Mutex::new((0..count).map(|_| None).collect());
        let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&at| at < count);
        let work_at = |at: usize| {
            let result = if self.stop.requested() { Err(StageError::Stopped) } else { work(at) };
            if result.is_err() {
                next.store(count, Ordering::Relaxed); // those before it are taken already
            }
            results.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(result);
        };
        std::thread::scope(|scope| {
            let help = |borrowed: Option<Borrowed>| {
                scope.spawn(|| {
                    std::iter::from_fn(take).for_each(work_at);
                    drop(borrowed);
                });
            };
            (1..self.threads.min(count)).for_each(|_| help(None));
            while let Some(at) = take() {
                while next.load(Ordering::Relaxed) < count
                    && let Some(borrowed) = self.spare.borrow()
                {
                    help(Some(borrowed));
                }
                work_at(at);
            }
        });
        // Behind an error there may be numbers that nobody took; the error comes first.
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Barrier;

    use super::*;
    use crate::{Inputs, Places, Silent, Spare, Stop, Tools};

    fn job(threads: usize, spare: usize) -> Job {
        Job {
            inputs: Inputs::default(),
            sources: BTreeMap::default(),
            places: Places::default(),
            partition: None,
            out: "out".into(),
            resume: "resume".into(),
            threads,
            spare: Spare::of(spare),
            gpu: None,
            others: vec![],
            tools: Tools::default(),
            progress: Box::new(Silent),
            stop: Stop::default(),
        }
    }

    #[test]
    fn results_are_in_order_on_any_number_of_threads() {
        for (threads, spare) in [(1, 0), (3, 0), (1, 3), (2, 9)] {
            let job = job(threads, spare);
            assert_eq!(job.spread(100, |at| Ok(at * at)).unwrap(), (0..100).map(|at| at * at).collect::<Vec<_>>());
            assert!(job.spread(0, |_| Ok(())).unwrap().is_empty());
            assert_eq!(
                std::iter::from_fn(|| job.spare.borrow()).take(20).collect::<Vec<_>>().len(),
                spare,
                "all were given back"
            );
        }
    }

    #[test]
    fn idle_threads_of_the_machine_take_part() {
        let both = Barrier::new(2); // ends only when two threads are at work at once
        let job = job(1, 1);
        assert_eq!(job.spread(2, |_| Ok(both.wait().is_leader())).unwrap().len(), 2);
    }

    #[test]
    fn the_error_is_that_of_the_lowest_number() {
        for threads in [1, 4] {
            let fails = |at: usize| if at % 7 == 6 { Err(StageError::failed(format!("number {at}"))) } else { Ok(at) };
            assert!(job(threads, 0).spread(50, fails).unwrap_err().to_string().contains("number 6"));
        }
    }

    #[test]
    fn a_request_to_stop_ends_the_work() {
        let stop = Stop::default();
        stop.request();
        let job = Job { stop, ..job(2, 0) };
        assert!(matches!(job.spread(3, Ok).unwrap_err(), StageError::Stopped));
    }
}
