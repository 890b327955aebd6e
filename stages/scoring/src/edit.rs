//! Edit distance: the least number of substitutions, deletions and insertions that turn a reference into a hypothesis, and an
//! alignment with that many.
//!
//! Tokens are numbers: the code points of characters, or the places of words in a list (see [`crate::text`]).
//!
//! The distance comes first: a column of the table of distances is kept as two bits per row, 64 rows to a machine word, so that a
//! step of the inner loop fills 64 cells. The alignment needs only the cells that a path with so few errors can reach (Ukkonen
//! 1985, "Algorithms for approximate string matching", Information and Control 64).
//!
//! Of several shortest alignments the one with the most matches counts. The number of matches is then defined, and with it the
//! kinds of errors: with the same number of errors, a match more is a deletion and an insertion in place of two substitutions. Other programs take whichever alignment their search meets first, so that their kinds of errors, and MER, WIP and
//! WIL, may differ; the number of errors does not.
//!
//! Sources: Myers 1999, "A fast bit-vector algorithm for approximate string matching based on dynamic programming", Journal of
//! the ACM 46(3); the form for whole strings: Hyyrö 2003, "A bit-vector algorithm for computing Levenshtein and Damerau edit
//! distances".

use std::collections::HashMap;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Number of errors of each kind, and of reference tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edits {
    /// Tokens replaced by another.
    pub substitutions: u64,
    /// Reference tokens that are missing.
    pub deletions: u64,
    /// Tokens that the reference does not have.
    pub insertions: u64,
    /// Tokens of the reference.
    pub tokens: u64,
}

impl Edits {
    /// Counts the errors of a hypothesis, along the shortest alignment with the most matches.
    ///
    /// An empty reference has an insertion for every token of the hypothesis, among 0 tokens.
    pub fn count(reference: &[u32], hypothesis: &[u32]) -> Self {
        let mut edits = Self { tokens: reference.len() as u64, ..Self::default() };
        for step in align(reference, hypothesis) {
            match step {
                Step::Match => {}
                Step::Substitution => edits.substitutions += 1,
                Step::Deletion => edits.deletions += 1,
                Step::Insertion => edits.insertions += 1,
            }
        }
        edits
    }

    /// Number of all errors.
    pub fn errors(&self) -> u64 {
        self.substitutions + self.deletions + self.insertions
    }

    /// Errors over reference tokens; without tokens 0 when there are no errors, else infinite.
    pub fn rate(&self) -> f64 {
        match (self.errors(), self.tokens) {
            (0, 0) => 0.0,
            (errors, tokens) => errors as f64 / tokens as f64,
        }
    }
}

impl AddAssign for Edits {
    fn add_assign(&mut self, other: Self) {
        self.substitutions += other.substitutions;
        self.deletions += other.deletions;
        self.insertions += other.insertions;
        self.tokens += other.tokens;
    }
}

/// One step of an alignment, from the front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The next tokens of both are equal.
    Match,
    /// The next tokens of both differ.
    Substitution,
    /// The next reference token has no counterpart.
    Deletion,
    /// The next token of the hypothesis has no counterpart.
    Insertion,
}

/// Least number of errors that turn one into the other. Symmetric.
pub fn distance(reference: &[u32], hypothesis: &[u32]) -> u64 {
    let (_, reference, hypothesis) = without_ends(reference, hypothesis);
    // The longer one fills the bits: fewer rounds for the same number of cells.
    let (long, short) = if reference.len() >= hypothesis.len() { (reference, hypothesis) } else { (hypothesis, reference) };
    if short.is_empty() {
        return long.len() as u64;
    }
    let places = Places::of(long);
    let mut columns = Columns::new(long.len());
    for token in short {
        columns.advance(places.get(*token));
    }
    columns.distance
}

/// Returns the shortest alignment with the most matches. Where several have as many, it is the one that has, read from the end, a
/// match before a deletion, a deletion before an insertion, and a substitution last.
pub fn align(reference: &[u32], hypothesis: &[u32]) -> Vec<Step> {
    let (prefix, inner_reference, inner_hypothesis) = without_ends(reference, hypothesis);
    let suffix = reference.len() - prefix - inner_reference.len();
    let mut steps = vec![Step::Match; suffix];
    trace_back(inner_reference, inner_hypothesis, &mut steps);
    steps.extend(std::iter::repeat_n(Step::Match, prefix));
    steps.reverse();
    steps
}

/// Length of the common start, and both without common start and end. A shortest alignment matches these.
fn without_ends<'a>(a: &'a [u32], b: &'a [u32]) -> (usize, &'a [u32], &'a [u32]) {
    let prefix = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[prefix..], &b[prefix..]);
    let suffix = a.iter().rev().zip(b.iter().rev()).take_while(|(x, y)| x == y).count();
    (prefix, &a[..a.len() - suffix], &b[..b.len() - suffix])
}

/// Appends the steps of an alignment, last step first.
///
/// A cell of the table holds the cost of turning the first `row` tokens of the reference into the first `column` of the hypothesis.
/// An error costs `ERROR`, and a substitution 1 more: with fewer than `ERROR` substitutions, the least cost has the fewest errors,
/// and of those the fewest substitutions.
fn trace_back(reference: &[u32], hypothesis: &[u32], steps: &mut Vec<Step>) {
    const ERROR: u64 = 1 << 32;
    let (rows, columns) = (reference.len(), hypothesis.len());
    let distance = distance(reference, hypothesis) as usize;
    // A path has `insertions - deletions = columns - rows`, and at most `distance` of both together: `column - row` stays between.
    let most_deletions = (distance + rows - columns) / 2;
    let most_insertions = (distance + columns - rows) / 2;
    let width = most_deletions + most_insertions + 1;
    let mut costs = vec![u64::MAX / 2; (rows + 1) * width];
    let index = |row: usize, column: usize| {
        let place = (column + most_deletions).checked_sub(row).filter(|place| *place < width)?;
        Some(row * width + place)
    };
    let cost = |costs: &[u64], row: usize, column: usize| index(row, column).map_or(u64::MAX / 2, |at| costs[at]);
    for row in 0..=rows {
        for column in row.saturating_sub(most_deletions)..=(row + most_insertions).min(columns) {
            let mut least = if row + column == 0 { 0 } else { u64::MAX / 2 };
            if row > 0 {
                least = least.min(cost(&costs, row - 1, column) + ERROR);
            }
            if column > 0 {
                least = least.min(cost(&costs, row, column - 1) + ERROR);
            }
            if row > 0 && column > 0 {
                let differ = u64::from(reference[row - 1] != hypothesis[column - 1]);
                least = least.min(cost(&costs, row - 1, column - 1) + differ * (ERROR + 1));
            }
            if let Some(at) = index(row, column) {
                costs[at] = least;
            }
        }
    }
    let (mut row, mut column) = (rows, columns);
    while row > 0 || column > 0 {
        let here = cost(&costs, row, column);
        if row > 0 && column > 0 && reference[row - 1] == hypothesis[column - 1] {
            steps.push(Step::Match); // where both ends are equal, the cell equals the one diagonally above
            (row, column) = (row - 1, column - 1);
        } else if row > 0 && cost(&costs, row - 1, column) + ERROR == here {
            steps.push(Step::Deletion);
            row -= 1;
        } else if column > 0 && cost(&costs, row, column - 1) + ERROR == here {
            steps.push(Step::Insertion);
            column -= 1;
        } else {
            steps.push(Step::Substitution);
            (row, column) = (row - 1, column - 1);
        }
    }
}

/// 64 rows of a column: where a cell is one more, and where it is one less, than the cell above it.
#[derive(Debug, Clone, Copy)]
struct Word {
    up: u64,
    down: u64,
}

/// The column that is being filled.
struct Columns {
    words: Vec<Word>,
    /// Mask of the last row within the last word.
    last: u64,
    /// The value in the last row.
    distance: u64,
}

impl Columns {
    /// The column before the first token: row k holds k.
    fn new(rows: usize) -> Self {
        let words = vec![Word { up: u64::MAX, down: 0 }; rows.div_ceil(64)];
        Self { words, last: 1 << ((rows - 1) % 64), distance: rows as u64 }
    }

    /// Goes on to the next column; bit k of `equal` says whether the token of row k is the column's own.
    fn advance(&mut self, equal: &[u64]) {
        // Row 0 grows by one from column to column.
        let (mut more, mut less) = (1_u64, 0_u64);
        let last = self.words.len() - 1;
        for (k, (word, &equal)) in self.words.iter_mut().zip(equal).enumerate() {
            let Word { up, down } = *word;
            let vertical = equal | down;
            let equal = equal | less;
            let diagonal = (((equal & up).wrapping_add(up)) ^ up) | equal;
            let rises = down | !(diagonal | up);
            let falls = up & diagonal;
            if k == last {
                self.distance += u64::from(rises & self.last != 0);
                self.distance -= u64::from(falls & self.last != 0);
            }
            let (right, left) = ((rises << 1) | more, (falls << 1) | less);
            (more, less) = (rises >> 63, falls >> 63);
            *word = Word { up: left | !(vertical | right), down: right & vertical };
        }
    }
}

/// For every token of a text the bits of the rows where it stands.
struct Places {
    num_words: usize,
    /// Start of a token's bits within `bits`, for tokens below 128 (ASCII); 0 when it does not occur.
    low: [u32; 128],
    others: HashMap<u32, u32>,
    /// The first `num_words` words are zero: a token that does not occur.
    bits: Vec<u64>,
}

impl Places {
    fn of(text: &[u32]) -> Self {
        let num_words = text.len().div_ceil(64);
        let mut places = Self { num_words, low: [0; 128], others: HashMap::new(), bits: vec![0; num_words] };
        for (row, token) in text.iter().enumerate() {
            let start = match places.low.get_mut(*token as usize) {
                Some(start) => start,
                None => places.others.entry(*token).or_insert(0),
            };
            if *start == 0 {
                *start = places.bits.len() as u32;
                places.bits.resize(places.bits.len() + num_words, 0);
            }
            places.bits[*start as usize + row / 64] |= 1 << (row % 64);
        }
        places
    }

    fn get(&self, token: u32) -> &[u64] {
        let start = match self.low.get(token as usize) {
            Some(start) => *start,
            None => self.others.get(&token).copied().unwrap_or(0),
        } as usize;
        &self.bits[start..start + self.num_words]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The table of distances, cell by cell.
    fn plain(a: &[u32], b: &[u32]) -> u64 {
        let mut row: Vec<u64> = (0..=b.len() as u64).collect();
        for (i, x) in a.iter().enumerate() {
            let mut diagonal = row[0];
            row[0] = i as u64 + 1;
            for (j, y) in b.iter().enumerate() {
                let least = (diagonal + u64::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
                diagonal = row[j + 1];
                row[j + 1] = least;
            }
        }
        row[b.len()]
    }

    /// The most matches that any shortest alignment has, by trying all of them.
    fn most_matches(a: &[u32], b: &[u32], errors: u64) -> Option<u64> {
        match (a.split_first(), b.split_first()) {
            (None, _) | (_, None) => (errors == (a.len() + b.len()) as u64).then_some(0),
            (Some((x, rest_a)), Some((y, rest_b))) => {
                let (here, cost) = if x == y { (1, 0) } else { (0, 1) };
                let less = |cost: u64| errors.checked_sub(cost);
                let diagonal = less(cost).and_then(|left| most_matches(rest_a, rest_b, left)).map(|found| found + here);
                let (down, right) = (
                    less(1).and_then(|left| most_matches(rest_a, b, left)),
                    less(1).and_then(|left| most_matches(a, rest_b, left)),
                );
                [diagonal, down, right].into_iter().flatten().max()
            }
        }
    }

    /// True if the steps lead through both from end to end, and matches are of equal tokens.
    fn leads_through(a: &[u32], b: &[u32], steps: &[Step]) -> bool {
        let (mut i, mut j) = (0, 0);
        for step in steps {
            match step {
                Step::Deletion => i += 1,
                Step::Insertion => j += 1,
                Step::Match | Step::Substitution => {
                    if (a[i] == b[j]) != (*step == Step::Match) {
                        return false;
                    }
                    (i, j) = (i + 1, j + 1);
                }
            }
        }
        (i, j) == (a.len(), b.len())
    }

    #[track_caller]
    fn check(a: &[u32], b: &[u32]) {
        let expected = plain(a, b);
        assert_eq!(distance(a, b), expected, "{a:?} {b:?}");
        assert_eq!(Edits::count(a, b).errors(), expected, "{a:?} {b:?}");
        assert!(leads_through(a, b, &align(a, b)), "{a:?} {b:?}");
    }

    fn chars(text: &str) -> Vec<u32> {
        text.chars().map(u32::from).collect()
    }

    #[test]
    fn known_pairs() {
        for (a, b) in
            [("", ""), ("", "abc"), ("abc", ""), ("kitten", "sitting"), ("größer", "grosse"), ("日本語", "日本"), ("aaaa", "aa")]
        {
            check(&chars(a), &chars(b));
        }
        assert_eq!(distance(&chars("kitten"), &chars("sitting")), 3);
    }

    #[test]
    fn every_length_around_a_word_of_the_machine() {
        for length in [1, 2, 63, 64, 65, 127, 128, 129, 200] {
            let a: Vec<u32> = (0..length).map(|k| k * k % 7).collect();
            let b: Vec<u32> = (0..length + 3).map(|k| (k * k + k / 5) % 7).collect();
            check(&a, &b);
            check(&b, &a);
            check(&a, &a);
        }
    }

    #[test]
    fn the_alignment_with_most_matches_counts() {
        // Two errors either way: two substitutions and no match, or a deletion, a match and an insertion.
        let found = Edits::count(&[1, 2], &[2, 3]);
        assert_eq!(found, Edits { substitutions: 0, deletions: 1, insertions: 1, tokens: 2 });
        assert_eq!(found.hits(), 1);
        assert_eq!(align(&[1, 2], &[2, 3]), [Step::Deletion, Step::Match, Step::Insertion]);
    }

    #[test]
    fn kinds_of_errors_are_told_apart() {
        let found = Edits::count(&[1, 2, 3, 4], &[1, 3, 9, 4, 5]);
        assert_eq!(found.errors(), 3);
        assert_eq!(Edits::count(&[1, 2], &[]), Edits { deletions: 2, tokens: 2, ..Edits::default() });
        assert_eq!(Edits::count(&[1, 2], &[1, 7]), Edits { substitutions: 1, tokens: 2, ..Edits::default() });
    }

    #[test]
    fn insertions_count_against_an_empty_reference() {
        let found = Edits::count(&[], &[4, 5, 6]);
        assert_eq!(found, Edits { insertions: 3, ..Edits::default() });
        assert!(found.rate().is_infinite());
        assert_eq!(Edits::count(&[], &[]).rate().to_bits(), 0);
        let mut pooled = found;
        pooled += Edits::count(&[1, 2, 3, 4], &[1, 2, 3, 4]);
        assert!((pooled.rate() - 0.75).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn agrees_with_the_plain_table(a in prop::collection::vec(0_u32..4, 0..150), b in prop::collection::vec(0_u32..4, 0..150)) {
            check(&a, &b);
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
        }
        #[test]
        fn has_the_most_matches_of_all_shortest_alignments(
            a in prop::collection::vec(0_u32..4, 0..8),
            b in prop::collection::vec(0_u32..4, 0..8),
        ) {
            let found = Edits::count(&a, &b);
            prop_assert_eq!(Some(found.hits()), most_matches(&a, &b, found.errors()), "{:?} {:?}", a, b);
        }
        #[test]
        fn agrees_on_rare_tokens(a in prop::collection::vec(100_u32..140, 0..90), b in prop::collection::vec(100_u32..140, 0..90)) {
            check(&a, &b);
        }
    }
}
