//! Slots marked within text, `play B-artist the beatles E-artist now`, and how well they were found. Knows no files.
//!
//! Both scores are those of S3PRL's slot filling (Lai et al. 2021, "Semi-supervised spoken language understanding via
//! self-supervised speech and language model pretraining"; Yang et al. 2021, SUPERB, arXiv:2105.01051), which the benchmark takes
//! over. One thing differs: pairs of slot and value are kept as pairs, so a value may hold `;` and `:`.

use std::collections::BTreeSet;

use crate::edit::Edits;
use crate::text::Unit;

/// A slot and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// `artist`
    pub name: String,
    /// `the beatles`
    pub value: String,
}

/// A value of the reference and what was found for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Slot of the reference.
    pub reference: Slot,
    /// The closest value of the same slot in the hypothesis; empty when the slot is missing there.
    pub hypothesis: String,
    /// Errors in characters.
    pub edits: Edits,
}

/// How well the slots of one utterance were found.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotScore {
    /// F1 between the sets of slot names: 1 when both are empty, 0 when only one is.
    pub type_f1: f64,
    /// Every value of the reference, in order.
    pub values: Vec<Found>,
}

/// Scores the slots of a hypothesis.
///
/// Values that the reference does not have cost nothing here; that is as the benchmark defines it.
pub fn score(reference: &str, hypothesis: &str) -> SlotScore {
    let (wanted, given) = (slots(reference), slots(hypothesis));
    // Only the hypothesis is cleaned of markers within values.
    let given: Vec<Slot> = given.into_iter().map(|slot| Slot { value: without_markers(&slot.value), ..slot }).collect();
    let type_f1 = type_f1(&wanted, &given);
    SlotScore { type_f1, values: wanted.into_iter().map(|slot| closest(slot, &given)).collect() }
}

impl SlotScore {
    /// All character errors of the values.
    pub fn edits(&self) -> Edits {
        let mut all = Edits::default();
        for found in &self.values {
            all += found.edits;
        }
        all
    }
}

/// The slots of a text, from left to right. One begins at `B-name` and ends at the next `E-name` of the same name; what cannot be
/// closed is no slot, and neither is one without a value.
pub fn slots(text: &str) -> Vec<Slot> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let Some(name) = words[at].strip_prefix("B-") else {
            at += 1;
            continue;
        };
        let is_end = |word: &&str| word.strip_prefix("E-") == Some(name);
        // At least one word between the two.
        match words.iter().skip(at + 2).position(is_end) {
            Some(length) => {
                let end = at + 2 + length;
                found.push(Slot { name: name.to_owned(), value: words[at + 1..end].join(" ") });
                at = end + 1;
            }
            None => at += 1,
        }
    }
    found
}

/// The text without markers; the words of the values stay.
pub fn without_markers(text: &str) -> String {
    let is_word = |word: &&str| !word.starts_with("B-") && !word.starts_with("E-");
    text.split_whitespace().filter(is_word).collect::<Vec<_>>().join(" ")
}

fn type_f1(wanted: &[Slot], given: &[Slot]) -> f64 {
    let names = |slots: &[Slot]| slots.iter().map(|slot| slot.name.clone()).collect::<BTreeSet<_>>();
    let (wanted, given) = (names(wanted), names(given));
    if wanted.is_empty() && given.is_empty() {
        return 1.0;
    }
    2.0 * wanted.intersection(&given).count() as f64 / (wanted.len() + given.len()) as f64
}

/// Among equally close values the first counts.
fn closest(reference: Slot, given: &[Slot]) -> Found {
    let same = given.iter().filter(|slot| slot.name == reference.name).map(|slot| slot.value.as_str());
    let tried = same.map(|value| (Unit::Character.count(&reference.value, value), value.to_owned()));
    let best = tried.min_by(|a, b| a.0.rate().total_cmp(&b.0.rate()));
    let (edits, hypothesis) = best.unwrap_or_else(|| (Unit::Character.count(&reference.value, ""), String::new()));
    Found { reference, hypothesis, edits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str)]) {
        let found = slots(text);
        let found: Vec<(&str, &str)> = found.iter().map(|slot| (slot.name.as_str(), slot.value.as_str())).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn slots_lie_between_their_markers() {
        check("play B-artist the beatles E-artist now", &[("artist", "the beatles")]);
        check("B-a x E-a  B-b  y  z E-b", &[("a", "x"), ("b", "y z")]);
        check("B-a x E-b", &[]);
        check("B-a E-a", &[]);
        check("B-a one B-b two E-b E-a", &[("a", "one B-b two E-b")]);
        check("B-a B-a x E-a", &[("a", "B-a x")]);
        check("E-a x B-a", &[]);
    }

    #[test]
    fn the_closest_value_of_the_same_slot_counts() {
        let found = score("B-city rome E-city", "B-city paris E-city B-city rom E-city B-date rome E-date");
        assert_eq!(found.values[0].hypothesis, "rom");
        assert_eq!((found.edits().errors(), found.edits().tokens), (1, 4));
        assert!((found.type_f1 - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn a_missing_slot_is_all_deletions_and_a_spurious_one_is_free() {
        let found = score("B-a one E-a", "one");
        assert_eq!((found.edits().deletions, found.type_f1.to_bits()), (3, 0));
        let found = score("one", "B-a one E-a");
        assert_eq!((found.edits(), found.type_f1.to_bits()), (Edits::default(), 0));
    }

    #[test]
    fn words_stay_when_markers_go() {
        assert_eq!(without_markers("play B-artist the  beatles E-artist now"), "play the beatles now");
    }
}
