//! Pronunciations of words that the dictionary lacks, learned from the dictionary.
//!
//! A word is read letter by letter; each letter stands for none, one or two phonemes. Which letter of the dictionary stands for which
//! phonemes is found by expectation maximisation over all ways to divide them. A model of order 6 over the pairs of letter and
//! phonemes, smoothed by absolute discounting, then gives the most probable reading of a new word by beam search.
//!
//! Sources: Bisani and Ney 2008, "Joint-sequence models for grapheme-to-phoneme conversion", with one letter per unit; Ney, Essen and
//! Kneser 1994, "On structuring probabilistic dependences in stochastic language modelling", for the discounting.
//! Accuracy: see [`LetterToSound::train`].

use std::collections::{BTreeMap, HashMap};

/// Units before the one that is predicted.
const CONTEXT: usize = 6;
/// Rounds of expectation maximisation.
const ROUNDS: usize = 6;
/// Share of a count that goes to shorter contexts.
const DISCOUNT: f64 = 0.8;
/// Readings kept while a word is read.
const BEAM: usize = 24;
/// Letters that words of the dictionary are made of: apostrophe, then a to z.
const NUM_LETTERS: usize = 27;
/// Index of the end of a word among the units.
const END: u16 = 0;

/// Reads unknown words.
#[derive(Debug, Clone)]
pub struct LetterToSound {
    /// Names of the phonemes.
    phones: Vec<String>,
    /// Phonemes of each unit, by index.
    units: Vec<Vec<u8>>,
    /// Units of each letter.
    of_letter: Vec<Vec<u16>>,
    model: Counts,
}

/// A letter and the one or two phonemes it stands for; 0 where none.
type Pair = (u8, [u8; 2]);

impl LetterToSound {
    /// Learns from words and their phonemes. Words with other characters than letters and apostrophes are left out, and words with
    /// more than two phonemes per letter.
    ///
    /// Trained on 19 of 20 words of the dictionary that comes with the program, it reads 64.0 % of the other 6,245 as listed, 71.8 % without
    /// stress; 6.9 % of the phonemes are wrong then (example `letter_accuracy`).
    pub fn train<'a>(words: impl IntoIterator<Item = (&'a str, &'a [String])>) -> Self {
        let mut names = BTreeMap::<&str, u8>::new();
        let mut entries: Vec<(Vec<u8>, &[String])> = Vec::new();
        for (word, phones) in words {
            let letters: Option<Vec<u8>> = word.chars().map(letter).collect();
            if let Some(letters) = letters.filter(|letters| !letters.is_empty() && phones.len() <= 2 * letters.len()) {
                names.extend(phones.iter().map(|phone| (phone.as_str(), 0)));
                entries.push((letters, phones));
            }
        }
        entries.sort();
        for (index, place) in names.values_mut().zip(1..) {
            *index = place;
        }
        let phones = names.keys().map(|&name| name.to_owned()).collect();
        let entries: Vec<(Vec<u8>, Vec<u8>)> = entries
            .into_iter()
            .map(|(letters, phones)| (letters, phones.iter().map(|phone| names[phone.as_str()]).collect()))
            .collect();

        let pairs = divide(&entries);
        let mut index = BTreeMap::<Pair, u16>::new();
        for pair in pairs.iter().flatten() {
            let next = index.len() as u16 + 1;
            index.entry(*pair).or_insert(next);
        }
        let mut units = vec![Vec::new(); index.len() + 1];
        let mut of_letter = vec![Vec::new(); NUM_LETTERS];
        for (&(letter, phones), &unit) in &index {
            units[unit as usize] = phones.into_iter().filter(|&phone| phone > 0).collect();
            of_letter[letter as usize].push(unit);
        }
        let sequences: Vec<Vec<u16>> =
            pairs.iter().map(|pairs| pairs.iter().map(|pair| index[pair]).chain([END]).collect()).collect();
        Self { phones, units, of_letter, model: Counts::of(&sequences) }
    }

    /// Returns the phonemes of a word; none for one with other characters than letters and apostrophes, or of more than 60 letters.
    pub fn phones(&self, word: &str) -> Option<Vec<String>> {
        let letters: Vec<u8> = word.chars().map(letter).collect::<Option<_>>()?;
        if letters.is_empty() || letters.len() > 60 {
            return None;
        }
        let mut beam: Vec<(f64, Vec<u16>)> = vec![(0.0, Vec::new())];
        for &letter in &letters {
            let mut next = Vec::new();
            for (score, read) in &beam {
                let contexts = self.model.contexts(read);
                for &unit in &self.of_letter[letter as usize] {
                    let mut longer = read.clone();
                    longer.push(unit);
                    next.push((score + self.model.probability(&contexts, unit).ln(), longer));
                }
            }
            next.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
            next.truncate(BEAM);
            beam = next;
        }
        let end = |(score, read): &(f64, Vec<u16>)| score + self.model.probability(&self.model.contexts(read), END).ln();
        // A reading without a phoneme is none.
        let said = |read: &[u16]| read.iter().any(|&unit| !self.units[unit as usize].is_empty());
        let best = beam.iter().filter(|(_, read)| said(read)).max_by(|a, b| end(a).total_cmp(&end(b)))?;
        let phones = best.1.iter().flat_map(|&unit| &self.units[unit as usize]);
        Some(phones.map(|&phone| self.phones[phone as usize - 1].clone()).collect())
    }
}

fn letter(c: char) -> Option<u8> {
    match c {
        '\'' => Some(0),
        'a'..='z' => Some(c as u8 - b'a' + 1),
        _ => None,
    }
}

/// Number of pairs of a letter with none, one or two of 255 phonemes; indices are dense enough for a table.
fn place((letter, [first, second]): Pair) -> usize {
    (letter as usize * 96 + first as usize) * 96 + second as usize
}

/// Ways in which a letter can stand for phonemes from `at` on.
fn options(letter: u8, phones: &[u8], at: usize) -> impl Iterator<Item = (usize, Pair)> + '_ {
    (0..=2).filter(move |taken| at + taken <= phones.len()).map(move |taken| {
        let phone = |n: usize| if taken > n { phones[at + n] } else { 0 };
        (taken, (letter, [phone(0), phone(1)]))
    })
}

/// Divides the phonemes of every word among its letters.
fn divide(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<Vec<Pair>> {
    // At first each phoneme is as likely for each letter, and one phoneme more likely than none or two.
    let mut weights = vec![0.0_f64; NUM_LETTERS * 96 * 96];
    for (at, weight) in weights.iter_mut().enumerate() {
        *weight = match (at / 96 % 96, at % 96) {
            (0, _) => 0.1,
            (_, 0) => 0.05,
            _ => 0.0005,
        };
    }
    for _ in 0..ROUNDS {
        let mut counts = vec![0.0; weights.len()];
        for (letters, phones) in entries {
            expect(letters, phones, &weights, &mut counts);
        }
        // Shares of each letter.
        for (shares, counts) in weights.chunks_exact_mut(96 * 96).zip(counts.chunks_exact(96 * 96)) {
            let sum = counts.iter().sum::<f64>().max(f64::MIN_POSITIVE);
            for (share, count) in shares.iter_mut().zip(counts) {
                *share = count / sum;
            }
        }
    }
    entries.iter().filter_map(|(letters, phones)| best(letters, phones, &weights)).collect()
}

/// Adds the expected number of each pair in a word.
fn expect(letters: &[u8], phones: &[u8], weights: &[f64], counts: &mut [f64]) {
    let width = phones.len() + 1;
    let mut ahead = vec![0.0; (letters.len() + 1) * width];
    let mut back = ahead.clone();
    ahead[0] = 1.0;
    for (row, &letter) in letters.iter().enumerate() {
        for at in 0..width {
            let here = ahead[row * width + at];
            if here > 0.0 {
                for (taken, pair) in options(letter, phones, at) {
                    ahead[(row + 1) * width + at + taken] += here * weights[place(pair)];
                }
            }
        }
    }
    back[letters.len() * width + phones.len()] = 1.0;
    for (row, &letter) in letters.iter().enumerate().rev() {
        for at in 0..width {
            let sum =
                options(letter, phones, at).map(|(taken, pair)| weights[place(pair)] * back[(row + 1) * width + at + taken]);
            back[row * width + at] = sum.sum();
        }
    }
    let total = back[0];
    if total <= 0.0 {
        return;
    }
    for (row, &letter) in letters.iter().enumerate() {
        for at in 0..width {
            let here = ahead[row * width + at] / total;
            if here > 0.0 {
                for (taken, pair) in options(letter, phones, at) {
                    counts[place(pair)] += here * weights[place(pair)] * back[(row + 1) * width + at + taken];
                }
            }
        }
    }
}

/// The most probable division of a word; none when there is none.
fn best(letters: &[u8], phones: &[u8], weights: &[f64]) -> Option<Vec<Pair>> {
    let width = phones.len() + 1;
    let mut score = vec![f64::NEG_INFINITY; (letters.len() + 1) * width];
    let mut from = vec![None; score.len()];
    score[0] = 0.0;
    for (row, &letter) in letters.iter().enumerate() {
        for at in 0..width {
            let here = score[row * width + at];
            if here == f64::NEG_INFINITY {
                continue;
            }
            for (taken, pair) in options(letter, phones, at) {
                let value = here + weights[place(pair)].ln();
                let to = (row + 1) * width + at + taken;
                if value > score[to] {
                    score[to] = value;
                    from[to] = Some((at, pair));
                }
            }
        }
    }
    let mut at = phones.len();
    let mut pairs = Vec::with_capacity(letters.len());
    for row in (1..=letters.len()).rev() {
        let (before, pair) = from[row * width + at]?;
        pairs.push(pair);
        at = before;
    }
    pairs.reverse();
    Some(pairs)
}

/// Units behind a context: their range, and the sum of their counts.
#[derive(Debug, Clone, Copy)]
struct UnitContext {
    from: u32,
    to: u32,
    total: u32,
}

/// Counts of units behind contexts of up to [`CONTEXT`] units.
#[derive(Debug, Clone)]
struct Counts {
    /// Where the units of a context are, by the hash of its units.
    contexts: HashMap<u64, UnitContext>,
    /// Units behind contexts, in order, and their counts.
    units: Vec<u16>,
    occurrences: Vec<u32>,
}

/// Hash of the units of a context, the last one first.
fn extend(hash: u64, unit: u16) -> u64 {
    (hash ^ (u64::from(unit) + 1)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
}

/// Marks the beginning of a word, as if it were a unit.
const START: u16 = u16::MAX;

impl Counts {
    fn of(sequences: &[Vec<u16>]) -> Self {
        let mut seen = Vec::new();
        for sequence in sequences {
            for (at, &unit) in sequence.iter().enumerate() {
                let mut hash = 0;
                seen.push((hash, unit));
                for back in 1..=CONTEXT.min(at + 1) {
                    hash = extend(hash, if back <= at { sequence[at - back] } else { START });
                    seen.push((hash, unit));
                }
            }
        }
        seen.sort_unstable();
        let (mut contexts, mut units, mut counts) = (HashMap::new(), Vec::new(), Vec::<u32>::new());
        let mut before = None;
        for (hash, unit) in seen {
            if before == Some((hash, unit)) {
                *counts.last_mut().expect("a unit was seen before") += 1;
            } else {
                before = Some((hash, unit));
                units.push(unit);
                counts.push(1);
            }
            let context = contexts.entry(hash).or_insert(UnitContext { from: units.len() as u32 - 1, to: 0, total: 0 });
            context.to = units.len() as u32;
            context.total += 1;
        }
        Self { contexts, units, occurrences: counts }
    }

    /// The known contexts behind `read`, the shortest first: units and their counts.
    fn contexts(&self, read: &[u16]) -> Vec<UnitContext> {
        let before = read.iter().rev().copied().chain([START]).take(CONTEXT);
        let hashes = std::iter::once(0).chain(before.scan(0, |hash, unit| {
            *hash = extend(*hash, unit);
            Some(*hash)
        }));
        hashes.map_while(|hash| self.contexts.get(&hash).copied()).collect()
    }

    /// Probability of a unit behind contexts, each mixed with the shorter one.
    fn probability(&self, contexts: &[UnitContext], unit: u16) -> f64 {
        let mut probability = 1e-7;
        for context in contexts {
            let range = context.from as usize..context.to as usize;
            let (units, total) = (&self.units[range.clone()], f64::from(context.total));
            let count = units.binary_search(&unit).map_or(0.0, |at| f64::from(self.occurrences[range.start + at]));
            probability = (count - DISCOUNT).max(0.0) / total + DISCOUNT * units.len() as f64 / total * probability;
        }
        probability
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<(String, Vec<String>)> {
        let line = |line: &str| {
            let mut fields = line.split(' ').map(str::to_owned);
            (fields.next().unwrap(), fields.collect())
        };
        text.lines().map(line).collect()
    }

    fn train(words: &[(String, Vec<String>)]) -> LetterToSound {
        LetterToSound::train(words.iter().map(|(word, phones)| (word.as_str(), &phones[..])))
    }

    #[test]
    fn words_of_known_parts_are_read() {
        let model = train(&words(
            "cat K AE T\nhat HH AE T\nhot HH AA T\ncot K AA T\nbox B AA K S\nphone F OW N\nbone B OW N\ntone T OW N",
        ));
        let read = |word: &str| model.phones(word).map(|phones| phones.join(" "));
        assert_eq!(read("bat").as_deref(), Some("B AE T"));
        assert_eq!(read("cox").as_deref(), Some("K AA K S"));
        assert_eq!(read("hone").as_deref(), Some("HH OW N"));
        for none in ["", "caf\u{e9}", "\u{4e2d}", &"a".repeat(61)] {
            assert_eq!(read(none), None);
        }
    }

    #[test]
    fn training_does_not_depend_on_the_order_of_the_words() {
        let mut list = words("cat K AE T\nbox B AA K S\nphone F OW N\nbone B OW N");
        let first = train(&list).phones("phox");
        list.reverse();
        assert_eq!(train(&list).phones("phox"), first);
        assert!(first.is_some());
    }
}
