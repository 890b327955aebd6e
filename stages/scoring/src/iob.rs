//! Entities marked by tags, one per word: `B-city I-city O`. Scores them as sequence labelling does. Knows no files.
//!
//! Source of the scheme: Ramshaw and Marcus 1995, "Text chunking using transformation-based learning"; of the lenient reading, the
//! evaluation of the CoNLL-2000 shared task.

use std::collections::{BTreeMap, BTreeSet};

/// How tags are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// An entity also begins at an `I-` that continues none.
    Lenient,
    /// Entities begin at `B-` only.
    Strict,
}

/// Precision, recall and their harmonic mean; 0 where undefined.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EntityScore {
    /// Share of right ones among the entities found.
    pub precision: f64,
    /// Share of the entities that were found.
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
}

/// Counts of one kind of entity.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    right: u64,
    found: u64,
    wanted: u64,
}

impl Counts {
    fn score(self) -> EntityScore {
        let ratio = |right: u64, all: u64| if all == 0 { 0.0 } else { right as f64 / all as f64 };
        EntityScore {
            precision: ratio(self.right, self.found),
            recall: ratio(self.right, self.wanted),
            f1: ratio(2 * self.right, self.found + self.wanted),
        }
    }
}

/// Entities of labelled and predicted tags, sentence by sentence.
#[derive(Debug, Clone, Default)]
pub struct Entities {
    by_kind: BTreeMap<String, Counts>,
}

impl Entities {
    /// Counts entities; one is right when its kind, start and end are.
    pub fn count<'a>(sentences: impl IntoIterator<Item = (&'a [String], &'a [String])>, reading: Reading) -> Self {
        let mut counts = Self::default();
        for (labels, predictions) in sentences {
            let (wanted, found) = (entities(labels, reading), entities(predictions, reading));
            for entity in &wanted {
                counts.of(&entity.0).wanted += 1;
            }
            for entity in &found {
                counts.of(&entity.0).found += 1;
            }
            for entity in wanted.intersection(&found) {
                counts.of(&entity.0).right += 1;
            }
        }
        counts
    }

    fn of(&mut self, kind: &str) -> &mut Counts {
        self.by_kind.entry(kind.to_owned()).or_default()
    }

    /// Over all entities pooled.
    pub fn micro(&self) -> EntityScore {
        let mut all = Counts::default();
        for counts in self.by_kind.values() {
            all.right += counts.right;
            all.found += counts.found;
            all.wanted += counts.wanted;
        }
        all.score()
    }

    /// Of each kind, averaged over kinds that occur on either side.
    pub fn macro_average(&self) -> EntityScore {
        let scores: Vec<EntityScore> = self.by_kind.values().map(|counts| counts.score()).collect();
        let mean = |of: fn(&EntityScore) -> f64| {
            if scores.is_empty() { 0.0 } else { scores.iter().map(of).sum::<f64>() / scores.len() as f64 }
        };
        EntityScore { precision: mean(|one| one.precision), recall: mean(|one| one.recall), f1: mean(|one| one.f1) }
    }
}

/// Kind, first tag and the tag after the last, of every entity.
fn entities(tags: &[String], reading: Reading) -> BTreeSet<(String, usize, usize)> {
    let mut found = BTreeSet::new();
    let mut open: Option<(&str, usize)> = None;
    for (at, tag) in tags.iter().map(String::as_str).chain([""]).enumerate() {
        let (mark, kind) = tag.split_once('-').unwrap_or((tag, ""));
        let goes_on = mark == "I" && open.is_some_and(|(name, _)| name == kind);
        if goes_on {
            continue;
        }
        if let Some((name, start)) = open.take() {
            found.insert((name.to_owned(), start, at));
        }
        if mark == "B" || (mark == "I" && reading == Reading::Lenient) {
            open = Some((kind, at));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(tags: &str, reading: Reading, expected: &[(&str, usize, usize)]) {
        let tags: Vec<String> = tags.split_whitespace().map(str::to_owned).collect();
        let found = entities(&tags, reading);
        let found: Vec<_> = found.iter().map(|(kind, start, end)| (kind.as_str(), *start, *end)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn entities_end_where_the_next_tag_does_not_continue_them() {
        check("B-a I-a O B-a", Reading::Strict, &[("a", 0, 2), ("a", 3, 4)]);
        check("B-a B-a I-b", Reading::Strict, &[("a", 0, 1), ("a", 1, 2)]);
        check("I-a I-a O I-b", Reading::Lenient, &[("a", 0, 2), ("b", 3, 4)]);
        check("I-a I-a O I-b", Reading::Strict, &[]);
        check("", Reading::Lenient, &[]);
    }
}
