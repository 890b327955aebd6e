//! Edit distance: how many substitutions, deletions and insertions turn a reference into a hypothesis, and which.
//!
//! Tokens are numbers: the code points of characters, or the places of words in a list (see [`crate::text`]). A column of the
//! table of distances is kept as two bits per row, 64 rows to a machine word, so that a step of the inner loop fills 64 cells.
//!
//! Sources: Myers 1999, "A fast bit-vector algorithm for approximate string matching based on dynamic programming", Journal of
//! the ACM 46(3); the form for whole strings and for tracing alignments back: Hyyrö 2003, "A bit-vector algorithm for computing
//! Levenshtein and Damerau edit distances", and Hyyrö 2004, "A note on bit-parallel alignment computation".

use std::collections::HashMap;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// How often each kind of error occurs, and among how many reference tokens.
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
    /// Counts the errors of a hypothesis, along one of the shortest alignments.
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

    /// All errors; the same for every shortest alignment, which the kinds are not.
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

/// The least number of errors that turns one into the other. Symmetric.
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

/// One of the shortest alignments. Among equally short ones it tries, from the end, a match, a deletion, an insertion, and a
/// substitution last: so what is right on both sides stands together.
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
fn trace_back(reference: &[u32], hypothesis: &[u32], steps: &mut Vec<Step>) {
    let (mut row, mut column) = (reference.len(), hypothesis.len());
    if row > 0 && column > 0 {
        let places = Places::of(reference);
        let mut columns = Columns::new(row);
        let mut kept = Vec::with_capacity(column * columns.words.len());
        for token in hypothesis {
            columns.advance(places.get(*token));
            kept.extend_from_slice(&columns.words);
        }
        let num_words = columns.words.len();
        // How a cell differs from the one above it: bit `row - 1` of the column `column - 1`.
        let at = |row: usize, column: usize| (&kept[(column - 1) * num_words + (row - 1) / 64], 1_u64 << ((row - 1) % 64));
        while row > 0 && column > 0 {
            // Where both ends are equal, the cell equals the one diagonally above.
            if reference[row - 1] == hypothesis[column - 1] {
                steps.push(Step::Match);
                (row, column) = (row - 1, column - 1);
                continue;
            }
            let (word, bit) = at(row, column);
            if word.up & bit != 0 {
                steps.push(Step::Deletion); // the cell above is one less
                row -= 1;
                continue;
            }
            // The cell here is one more than the lesser of the cells to the left and diagonally above.
            let from_left = column > 1 && {
                let (word, bit) = at(row, column - 1);
                word.up & bit == 0
            };
            column -= 1;
            if from_left {
                steps.push(Step::Insertion);
                continue;
            }
            row -= 1;
            steps.push(Step::Substitution);
        }
    }
    steps.extend(std::iter::repeat_n(Step::Deletion, row));
    steps.extend(std::iter::repeat_n(Step::Insertion, column));
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

    /// Whether the steps lead through both from end to end and say the truth about equal tokens.
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
        fn agrees_on_rare_tokens(a in prop::collection::vec(100_u32..140, 0..90), b in prop::collection::vec(100_u32..140, 0..90)) {
            check(&a, &b);
        }
    }
}
