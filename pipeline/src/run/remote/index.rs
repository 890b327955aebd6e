//! Tasks of the waves in the exchange folder, by fingerprint.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::Digest;
use crate::remote::exchange::{Exchange, Wave, names_in};

/// Tasks of the open waves of a store.
#[derive(Default)]
pub(super) struct Index {
    /// Waves that were read.
    known: HashSet<String>,
    /// The newest attempt at a fingerprint: its number, its wave, and its task there.
    newest: HashMap<Digest, (u32, String, u32)>,
}

impl Index {
    /// Reads the waves that are new since the last time. `is_made` tells of a result that the store has: its task needs no look.
    pub(super) fn refresh(&mut self, exchange: &Exchange, store: &str, is_made: impl Fn(Digest) -> bool) {
        for name in names_in(&exchange.waves()) {
            let folder = exchange.folder_of(&name);
            if self.known.contains(&name) {
                continue;
            }
            if folder.is_closed() {
                self.known.insert(name);
                continue;
            }
            let Some(wave) = exchange.read_wave(&name).filter(|wave| wave.store == store) else { continue }; // written just now
            let mut settled = folder.settled();
            for (number, task) in wave.tasks.iter().enumerate() {
                let number = number as u32;
                if !settled.contains(&number) && !task.forced && is_made(task.fingerprint) {
                    folder.settle(number);
                    settled.insert(number);
                }
            }
            if settled.len() == wave.tasks.len() {
                folder.close();
            }
            self.add(&wave, &settled);
        }
    }

    /// Adds a wave. What is settled in it is not under way any more; its attempts count.
    pub(super) fn add(&mut self, wave: &Wave, settled: &BTreeSet<u32>) {
        self.known.insert(wave.name.clone());
        for (number, task) in wave.tasks.iter().enumerate() {
            let newest = self.newest.entry(task.fingerprint).or_default();
            if task.attempt > newest.0 {
                let at = if settled.contains(&(number as u32)) { String::new() } else { wave.name.clone() };
                *newest = (task.attempt, at, number as u32);
            }
        }
    }

    /// Returns the number of the last attempt at a fingerprint; 0 when there was none.
    pub(super) fn last_attempt(&self, fingerprint: Digest) -> u32 {
        self.newest.get(&fingerprint).map_or(0, |newest| newest.0)
    }

    /// Returns the wave and the task of the attempt at a fingerprint that may be under way.
    pub(super) fn under_way(&self, fingerprint: Digest, exchange: &Exchange) -> Option<(String, u32)> {
        let (_, wave, task) = self.newest.get(&fingerprint).filter(|newest| !newest.1.is_empty())?;
        (!exchange.folder_of(wave).settled().contains(task)).then(|| (wave.clone(), *task))
    }
}
