//! The queued nodes, in one queue for all that need the same: to find who starts next, only the heads are looked at, however
//! long the queues are.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use super::pools::{Amounts, Free, Pools, Want};

/// How long the path through a node takes, then its place in the order: the greater, the more urgent.
pub(super) type Urgency = (u64, Reverse<usize>);

#[derive(Default)]
pub(super) struct Queues {
    classes: Vec<Class>,
    by_want: HashMap<Want, usize>,
    /// The head of every queue that is not empty, with its class.
    heads: BTreeSet<(Urgency, usize)>,
    /// Number of nodes that a waiting one let by, by its place.
    overtaken: HashMap<usize, usize>,
    len: usize,
}

struct Class {
    want: Want,
    queue: BTreeSet<Urgency>,
}

impl Queues {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push(&mut self, want: Want, urgency: Urgency) {
        let class = *self.by_want.entry(want).or_insert_with(|| {
            self.classes.push(Class { want, queue: BTreeSet::new() });
            self.classes.len() - 1
        });
        let queue = &mut self.classes[class].queue;
        let head = queue.last().copied();
        if head.is_none_or(|head| urgency > head) {
            head.map(|head| self.heads.remove(&(head, class)));
            self.heads.insert((urgency, class));
        }
        queue.insert(urgency);
        self.len += 1;
    }

    /// Takes out the most urgent node that fits, by its place in the order. What a more urgent one waits for is kept for that
    /// one, or it would wait for ever. Only threads go to others meanwhile, lest they stand idle behind a long training: to as many
    /// nodes as the machine has slots, and of those that feed a device to as many as there are devices.
    pub(super) fn pop(&mut self, free: &Free, size: &Pools) -> Option<(Want, usize)> {
        let free = free.amounts();
        let mut left = free;
        let mut waiting: Vec<usize> = vec![];
        let mut found = None;
        for (urgency, class) in self.heads.iter().rev() {
            if free.cpu == 0 {
                break; // every node takes a thread
            }
            let want = self.classes[*class].want;
            let most = if want.gpu { size.gpus.len() } else { size.cpu };
            let may_wait = |place: &usize| self.overtaken.get(place).is_none_or(|count| *count < most);
            let may_overtake = Amounts { cpu: free.cpu, ..left }.cover(&want);
            if left.cover(&want) {
                found = Some((*urgency, *class, false));
                break;
            } else if may_overtake && waiting.iter().all(may_wait) {
                found = Some((*urgency, *class, true));
                break;
            }
            left.keep_for(&want);
            waiting.push(urgency.1.0);
        }
        let (urgency, class, overtakes) = found?;
        if overtakes {
            for place in waiting {
                *self.overtaken.entry(place).or_default() += 1;
            }
        }
        self.overtaken.remove(&urgency.1.0);
        let Class { want, queue } = &mut self.classes[class];
        self.heads.remove(&(urgency, class));
        queue.remove(&urgency);
        self.heads.extend(queue.last().map(|head| (*head, class)));
        self.len -= 1;
        Some((*want, urgency.1.0))
    }

    /// The place of the most urgent head that does not fit, among those before `urgency`.
    pub(super) fn kept_for(&self, free: &Free, urgency: Urgency) -> Option<usize> {
        let before = self.heads.iter().rev().take_while(|(head, _)| *head > urgency);
        let mut waiting = before.filter(|(_, class)| free.lack(&self.classes[*class].want).is_some());
        waiting.next().map(|(head, _)| head.1.0)
    }

    /// The places of the most urgent nodes, at most so many of them.
    pub(super) fn first(&self, most: usize) -> Vec<usize> {
        let mut found: Vec<Urgency> =
            self.classes.iter().flat_map(|class| class.queue.iter().rev().take(most)).copied().collect();
        found.sort_unstable_by_key(|urgency| Reverse(*urgency));
        found.truncate(most);
        found.into_iter().map(|urgency| urgency.1.0).collect()
    }
}
