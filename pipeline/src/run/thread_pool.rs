//! The threads that run nodes: as many as run at once, started when they are first needed.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::Scope;
use std::time::Instant;

use super::task::{End, Task};
use super::{Runner, Timeouts};
use crate::schedule::Grant;

/// Work for a thread.
pub(super) struct Work {
    pub(super) task: Arc<Task>,
    pub(super) grant: Grant,
    pub(super) attempt: u32,
}

/// Work that has ended.
pub(super) struct Ended {
    pub(super) task: Arc<Task>,
    pub(super) end: End,
    pub(super) secs: f64,
}

/// The threads. They end when it is dropped.
pub(super) struct ThreadPool<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    runner: &'env Runner<'env>,
    timeouts: &'env Timeouts,
    size: usize,
    work: Sender<Work>,
    queue: Arc<Mutex<Receiver<Work>>>,
    ended: Sender<Ended>,
}

impl<'scope, 'env> ThreadPool<'scope, 'env> {
    pub(super) fn new(
        scope: &'scope Scope<'scope, 'env>,
        runner: &'env Runner<'env>,
        timeouts: &'env Timeouts,
        ended: Sender<Ended>,
    ) -> Self {
        let (work, queue) = channel();
        Self { scope, runner, timeouts, size: 0, work, queue: Arc::new(Mutex::new(queue)), ended }
    }

    /// Has a node run. `running` nodes run then, each in a thread.
    pub(super) fn start(&mut self, work: Work, running: usize) {
        if self.size < running {
            self.size += 1;
            let (queue, ended) = (Arc::clone(&self.queue), self.ended.clone());
            let (runner, timeouts) = (self.runner, self.timeouts);
            self.scope.spawn(move || serve(runner, timeouts, &queue, &ended));
        }
        let _ = self.work.send(work); // `self` holds the other end, too
    }
}

fn serve(runner: &Runner<'_>, timeouts: &Timeouts, queue: &Mutex<Receiver<Work>>, ended: &Sender<Ended>) {
    loop {
        let next = queue.lock().expect("no holder of this lock panics").recv();
        let Ok(Work { task, grant, attempt }) = next else { return };
        let begun = Instant::now();
        let end = runner.execute(&task, &grant, attempt, timeouts);
        let _ = ended.send(Ended { task, end, secs: begun.elapsed().as_secs_f64() }); // nobody listens after an error
    }
}
