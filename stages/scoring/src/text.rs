//! Errors of recognised text in words, characters and phones. Knows no files.
//!
//! Runs of white space count as one space, and none at the ends counts. Nothing else is normalised: what a task regards as equal,
//! case and punctuation say, it makes equal before it writes its predictions.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::edit::{Edits, Step, align};
use crate::metric::Metric;

/// Unit of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Words, between spaces.
    Word,
    /// Characters (Unicode code points), spaces between words counted.
    Character,
    /// Phones, between spaces.
    Phone,
}

impl Unit {
    /// The rate of errors in this unit.
    pub fn metric(self) -> Metric {
        match self {
            Unit::Word => Metric::Wer,
            Unit::Character => Metric::Cer,
            Unit::Phone => Metric::Per,
        }
    }

    /// For people.
    pub fn plural(self) -> &'static str {
        match self {
            Unit::Word => "words",
            Unit::Character => "characters",
            Unit::Phone => "phones",
        }
    }

    /// The tokens of a text.
    pub fn tokens(self, text: &str) -> Vec<String> {
        match self {
            Unit::Word | Unit::Phone => text.split_whitespace().map(str::to_owned).collect(),
            Unit::Character => characters(text).map(String::from).collect(),
        }
    }

    /// Counts the errors of a hypothesis.
    pub fn count(self, reference: &str, hypothesis: &str) -> Edits {
        let (reference, hypothesis) = self.numbers(reference, hypothesis);
        Edits::count(&reference, &hypothesis)
    }

    /// Returns the alignment of two texts, over [`Unit::tokens`]; see [`align`].
    pub fn align(self, reference: &str, hypothesis: &str) -> Vec<Step> {
        let (reference, hypothesis) = self.numbers(reference, hypothesis);
        align(&reference, &hypothesis)
    }

    /// The tokens of both as numbers, equal where the tokens are.
    fn numbers(self, reference: &str, hypothesis: &str) -> (Vec<u32>, Vec<u32>) {
        match self {
            Unit::Character => (characters(reference).map(u32::from).collect(), characters(hypothesis).map(u32::from).collect()),
            Unit::Word | Unit::Phone => {
                let mut known: HashMap<&str, u32> = HashMap::new();
                let mut number = |token| {
                    let next = known.len() as u32;
                    *known.entry(token).or_insert(next)
                };
                let reference = reference.split_whitespace().map(&mut number).collect();
                (reference, hypothesis.split_whitespace().map(&mut number).collect())
            }
        }
    }
}

/// The characters of a text, white space as said above.
pub(crate) fn characters(text: &str) -> impl Iterator<Item = char> {
    text.split_whitespace().enumerate().flat_map(|(at, word)| (at > 0).then_some(' ').into_iter().chain(word.chars()))
}

/// Further summaries of word errors. All need the number of matches, which is that of the shortest alignment with the most matches
/// (see [`crate::edit`]). `jiwer` takes the alignment that its search meets first, which may have fewer: its MER and WIL are then
/// higher, and its WIP is lower.
///
/// Source: Morris, Maier and Green 2004, "From WER and RIL to MER and WIL", Interspeech.
impl Edits {
    /// Number of reference tokens that were recognised.
    pub fn hits(&self) -> u64 {
        self.tokens - self.substitutions - self.deletions
    }
    /// Match error rate: errors over all steps of the alignment; 0 without any.
    pub fn match_error_rate(&self) -> f64 {
        let steps = self.hits() + self.errors();
        if steps == 0 { 0.0 } else { self.errors() as f64 / steps as f64 }
    }
    /// Word information preserved: the share of matches in the reference times that in the hypothesis.
    pub fn word_information_preserved(&self) -> f64 {
        let (hits, recognised) = (self.hits() as f64, self.hits() + self.substitutions + self.insertions);
        if self.tokens == 0 || recognised == 0 { 0.0 } else { hits / self.tokens as f64 * (hits / recognised as f64) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(unit: Unit, reference: &str, hypothesis: &str, errors: u64, tokens: u64) {
        let found = unit.count(reference, hypothesis);
        assert_eq!((found.errors(), found.tokens), (errors, tokens), "{reference:?} {hypothesis:?}");
    }

    #[test]
    fn substitution_insertion_and_deletion_each_count_once() {
        check(Unit::Word, "turn the lights on", "turn lights off please", 3, 4);
        check(Unit::Phone, "HH AH0 L OW1", "HH L OW1", 1, 4);
        check(Unit::Character, "a far", "a dog", 3, 5);
    }

    #[test]
    fn white_space_counts_once_and_not_at_the_ends() {
        check(Unit::Word, "  one \t two\n", "one two", 0, 2);
        check(Unit::Character, " one   two ", "one two", 0, 7);
        check(Unit::Character, "größe", "grosse", 3, 5);
    }

    #[test]
    fn an_empty_reference_has_no_tokens() {
        check(Unit::Word, "  ", "some words", 2, 0);
        check(Unit::Character, "", "ab c", 4, 0);
        check(Unit::Word, "", "", 0, 0);
    }

    #[test]
    fn tokens_and_alignments_have_the_same_length() {
        let (reference, hypothesis) = ("the cat  sat", "the hat sat down");
        for unit in [Unit::Word, Unit::Character] {
            let steps = unit.align(reference, hypothesis);
            let of = |other: Step| steps.iter().filter(|step| **step != other).count();
            assert_eq!(of(Step::Insertion), unit.tokens(reference).len());
            assert_eq!(of(Step::Deletion), unit.tokens(hypothesis).len());
        }
    }
}
