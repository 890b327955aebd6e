//! Threads of the pool that no node holds at the moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};

/// Threads that a body may borrow, beyond its own, for a short piece of work at a time: when few nodes are left to run, these
/// should not have one thread each. While a borrowed one is not yet given back, a node that starts runs beside it.
#[derive(Debug, Clone, Default)]
pub struct Spare(Arc<AtomicIsize>);

/// One thread, given back when it is dropped.
#[derive(Debug)]
pub struct Borrowed(Arc<AtomicIsize>);

impl Spare {
    /// So many threads, which no run takes away again; for tests and examples.
    pub fn of(threads: usize) -> Self {
        Self(Arc::new(AtomicIsize::new(threads as isize)))
    }

    /// One of them, if there is one.
    pub fn borrow(&self) -> Option<Borrowed> {
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count > 0).then(|| count - 1));
        taken.ok().map(|_| Borrowed(Arc::clone(&self.0)))
    }

    /// So many more are free, or fewer.
    pub(crate) fn change(&self, by: isize) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_lent_than_there_are() {
        let spare = Spare::of(2);
        let (first, second) = (spare.borrow(), spare.borrow());
        assert!(first.is_some() && second.is_some() && spare.borrow().is_none());
        spare.change(-1); // a node started meanwhile
        drop(first);
        assert!(spare.borrow().is_none());
        drop(second);
        assert!(spare.borrow().is_some());
        assert!(Spare::default().borrow().is_none());
    }
}
