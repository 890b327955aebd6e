//! Packing: which tasks share an element, and which elements an array.

use std::collections::{BTreeMap, BTreeSet};

use super::Item;
use crate::remote::cluster::Class;

/// Time that an element should last, in seconds: much longer than it takes to start one, much shorter than the run.
const TARGET_SECS: f64 = 120.0;

/// Tasks of unknown length in an element without a GPU.
const UNKNOWN: f64 = 16.0;

/// Most tasks of an element.
pub(super) const MOST: usize = 1000;

/// Tasks of one array: those of each element.
pub(super) struct Array {
    pub(super) class: Class,
    pub(super) exclude: BTreeSet<String>,
    pub(super) isolate: bool,
    pub(super) elements: Vec<Vec<Item>>,
}

/// Packs tasks into arrays of at most so many elements, with at most so many tasks each. Only tasks with the same claims share an array. One of which an attempt was lost
/// gets an element of its own, and bodies processes of their own: it may have ended what was beside it.
pub(super) fn pack(items: Vec<Item>, max_array: usize, max_tasks: usize) -> Vec<Array> {
    let mut groups: BTreeMap<(Class, BTreeSet<String>, bool), Vec<Item>> = BTreeMap::new();
    for item in items {
        let class = claims(&item);
        groups.entry((class, item.retry.exclude.clone(), item.retry.lost > 0)).or_default().push(item);
    }
    let mut arrays = vec![];
    for ((class, exclude, alone), items) in groups {
        let mut elements: Vec<Vec<Item>> = vec![];
        let mut secs = TARGET_SECS;
        for item in items {
            let unknown = if class.gpu { TARGET_SECS } else { TARGET_SECS / UNKNOWN };
            let takes = item.expected_secs.unwrap_or(unknown).max(TARGET_SECS / MOST as f64);
            match elements.last_mut().filter(|_| !alone && secs + takes <= TARGET_SECS * (1.0 + 1e-9)) {
                Some(last) if last.len() < max_tasks => last.push(item),
                _ => {
                    elements.push(vec![item]);
                    secs = 0.0;
                }
            }
            secs += takes;
        }
        while !elements.is_empty() {
            let rest = elements.split_off(elements.len().min(max_array.max(1)));
            arrays.push(Array { class, exclude: exclude.clone(), isolate: alone, elements });
            elements = rest;
        }
    }
    arrays
}

/// What a task claims: half as much memory again after it ran out of it.
pub(super) fn claims(item: &Item) -> Class {
    let memory_mib = if item.retry.more_memory { item.class.memory_mib * 3 / 2 } else { item.class.memory_mib };
    Class { memory_mib, ..item.class }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use petgraph::graph::NodeIndex;

    use super::super::super::task::Task;
    use super::super::Retry;
    use super::*;
    use crate::manifest::Manifest;

    fn item(secs: Option<f64>, gpu: bool) -> Item {
        let task = Task {
            node: NodeIndex::new(0),
            manifest: Manifest::default(),
            inputs: crate::protocol::InputRefs::default(),
            sources: std::collections::BTreeMap::new(),
            just_looked: false,
            log: std::path::PathBuf::new(),
            forced: false,
            expected_secs: None,
        };
        Item::new(Arc::new(task), 1, Class { threads: 1, gpu, memory_mib: 100 }, secs, false)
    }

    #[track_caller]
    fn check(items: Vec<Item>, max_array: usize, expected: &[&[usize]]) {
        let found: Vec<Vec<usize>> =
            pack(items, max_array, MOST).iter().map(|array| array.elements.iter().map(Vec::len).collect()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn elements_last_some_minutes_and_arrays_stay_within_the_limit() {
        let many = |count: usize, secs, gpu| (0..count).map(|_| item(secs, gpu)).collect::<Vec<_>>();
        check(vec![], 10, &[]);
        check(many(40, None, false), 10, &[&[16, 16, 8]]);
        check(many(3, None, true), 10, &[&[1, 1, 1]]);
        check(many(5, Some(60.0), false), 10, &[&[2, 2, 1]]);
        check(many(2, Some(7200.0), false), 10, &[&[1, 1]]);
        check(many(2500, Some(0.0), false), 10, &[&[1000, 1000, 500]]);
        let two: Vec<usize> = pack(many(5, None, false), 10, 2)[0].elements.iter().map(Vec::len).collect();
        assert_eq!(two, [2, 2, 1]);
        check(many(7, None, true), 3, &[&[1, 1, 1], &[1, 1, 1], &[1]]);
        let mut mixed = many(2, None, false);
        mixed.extend(many(1, None, true));
        check(mixed, 10, &[&[2], &[1]]);
    }

    #[test]
    fn a_task_that_was_lost_is_alone_elsewhere_and_one_without_memory_gets_more() {
        let mut items: Vec<Item> = (0..4).map(|_| item(None, false)).collect();
        items[1].retry = Retry { lost: 1, exclude: BTreeSet::from(["n1".to_owned()]), ..Retry::default() };
        items[2].retry.more_memory = true;
        let arrays = pack(items, 10, MOST);
        let shown: Vec<String> = arrays
            .iter()
            .map(|array| {
                let count: usize = array.elements.iter().map(Vec::len).sum();
                format!("{count} {} {:?} {}", array.class.memory_mib, array.exclude, array.isolate)
            })
            .collect();
        assert_eq!(shown, ["2 100 {} false", "1 100 {\"n1\"} true", "1 150 {} false"]);
    }
}
