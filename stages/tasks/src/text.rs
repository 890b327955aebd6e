//! Text of speech synthesis: from what is written to the symbols that a voice is trained on.
//!
//! ```text
//! "Dr. Smith paid $3." -> doctor smith paid three dollars . -> sil D AA1 K T ER0 S M IH1 TH ... sp sil
//! ```
//!
//! [`spoken()`] (default) or [`published`] rules make words of what is written. A word is looked up in the dictionary; possessives and
//! compounds follow its rule; other words are read by [`letters`], spelled, or refused, as [`Unknown`] says.
//! Every word that the dictionary lacks is reported.

pub mod letters;
pub mod numbers;
pub mod published;
pub mod spoken;

use std::sync::OnceLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::lexicon::{self, Lexicon};
use letters::LetterToSound;
use spoken::{Spoken, Token, spoken};

/// Symbol of padding, always the first.
pub const PADDING: &str = "<pad>";
/// Symbol of the silence at both ends.
pub const SILENCE: &str = "sil";
/// Symbol of a pause.
pub const PAUSE: &str = "sp";

/// Names of the letters.
const LETTERS: [&str; 26] = [
    "EY1",
    "B IY1",
    "S IY1",
    "D IY1",
    "IY1",
    "EH1 F",
    "JH IY1",
    "EY1 CH",
    "AY1",
    "JH EY1",
    "K EY1",
    "EH1 L",
    "EH1 M",
    "EH1 N",
    "OW1",
    "P IY1",
    "K Y UW1",
    "AA1 R",
    "EH1 S",
    "T IY1",
    "Y UW1",
    "V IY1",
    "D AH1 B AH0 L Y UW0",
    "EH1 K S",
    "W AY1",
    "Z IY1",
];

/// Rules that turn text into words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cleaning {
    /// Numbers, dates, amounts, units, abbreviations and acronyms as they are spoken.
    #[default]
    Spoken,
    /// The cleaners of published models, faults included.
    Published,
}

/// Treatment of words that the dictionary and its rule do not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// They are an error.
    Reject,
    /// They are read by letter-to-sound rules learned from the dictionary.
    #[default]
    G2p,
    /// They are spelled.
    Spell,
}

/// Rules of a front end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// Rules that turn text into words.
    pub cleaning: Cleaning,
    /// Vowels keep their stress: 69 phonemes; without it there are 39, better for little data.
    pub stress: bool,
    /// A pause between all words, not only at punctuation: for corpora of words spoken one by one.
    pub word_pauses: bool,
    /// Texts begin and end with silence. Not those of voices whose recordings were cut at their first and last sound. Default true.
    #[serde(skip_serializing_if = "Clone::clone")]
    pub silent_ends: bool,
    /// Treatment of words that the dictionary does not know.
    pub unknown_words: Unknown,
}

impl Default for Rules {
    fn default() -> Self {
        Self { cleaning: Cleaning::Spoken, stress: true, word_pauses: false, silent_ends: true, unknown_words: Unknown::G2p }
    }
}

/// Text that has no symbols.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TextError {
    /// Nothing to say.
    #[error("the text `{text}` has no words")]
    NoWords {
        /// The text, or its beginning.
        text: String,
    },
    /// Words that the dictionary lacks, where it has to know them all.
    #[error("the dictionary does not know {}", quoted(words))]
    Unknown {
        /// The words.
        words: Vec<String>,
    },
    /// Words of letters that nothing here can read.
    #[error("no pronunciation for {}: only English letters can be read", quoted(words))]
    Unreadable {
        /// The words.
        words: Vec<String>,
    },
}

fn quoted(words: &[String]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// Symbols of a text, and how they were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pronounced {
    /// Symbols from the first to the last, silence at both ends unless the rules say otherwise.
    pub symbols: Vec<String>,
    /// Words that the dictionary lacks, with the phonemes they got.
    pub guessed: Vec<(String, Vec<String>)>,
    /// Characters that have no reading.
    pub unread: Vec<char>,
}

/// Front end: dictionary, rules, and letter-to-sound rules that are learned when the first word needs them.
#[derive(Debug)]
pub struct FrontEnd {
    lexicon: Lexicon,
    rules: Rules,
    letters: OnceLock<LetterToSound>,
}

/// Returns the symbols of the rules: padding, silence, pause, then the phonemes in order of the alphabet.
pub fn symbols(stress: bool) -> Vec<String> {
    let mut phones: Vec<String> = lexicon::symbols().into_iter().skip(5).map(|phone| unstressed(phone, stress)).collect();
    phones.dedup();
    [PADDING, SILENCE, PAUSE].map(str::to_owned).into_iter().chain(phones).collect()
}

/// The phoneme without the digit of its stress, unless it is kept.
fn unstressed(mut phone: String, stress: bool) -> String {
    if !stress && phone.ends_with(|c: char| c.is_ascii_digit()) {
        phone.pop();
    }
    phone
}

impl FrontEnd {
    /// Combines a dictionary with rules.
    pub fn new(lexicon: Lexicon, rules: Rules) -> Self {
        Self { lexicon, rules, letters: OnceLock::new() }
    }

    /// The rules.
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// The symbols that texts are made of.
    pub fn symbols(&self) -> Vec<String> {
        symbols(self.rules.stress)
    }

    /// Returns the words and pauses of a text.
    pub fn read(&self, text: &str) -> Spoken {
        match self.rules.cleaning {
            Cleaning::Spoken => spoken(text, &self.lexicon),
            Cleaning::Published => published_tokens(&published::clean(text)),
        }
    }

    /// Returns the symbols of a text.
    ///
    /// Errors: [`TextError`]
    pub fn pronounce(&self, text: &str) -> Result<Pronounced, TextError> {
        let Spoken { tokens, unread } = self.read(text);
        let no_words = || TextError::NoWords { text: text.chars().take(60).collect() };
        let mut found = self.symbols_of(&tokens)?.ok_or_else(no_words)?;
        found.unread = unread;
        Ok(found)
    }

    /// Returns the symbols of a text in pieces of at most `most` symbols: whole sentences where they fit, else clauses, else as many
    /// words as fit. Without silence at the ends, a piece that others follow ends with a pause.
    ///
    /// Errors: [`TextError`]
    pub fn pronounce_long(&self, text: &str, most: usize) -> Result<Vec<Pronounced>, TextError> {
        let Spoken { tokens, unread } = self.read(text);
        let most = if self.rules.silent_ends { most } else { most.saturating_sub(1) };
        let mut pieces = Vec::new();
        for sentence in cut(&tokens, |mark| matches!(mark, '.' | '!' | '?')) {
            self.pieces(sentence, most, 0, &mut pieces)?;
        }
        let Some(first) = pieces.first_mut() else {
            return Err(TextError::NoWords { text: text.chars().take(60).collect() });
        };
        first.unread = unread;
        if let (false, [followed @ .., _]) = (self.rules.silent_ends, &mut pieces[..]) {
            for piece in followed {
                piece.symbols.push(PAUSE.to_owned());
            }
        }
        Ok(pieces)
    }

    /// Adds the pieces of a part of a text. `level` 0 cuts at clauses, 1 between words, 2 not at all.
    fn pieces(&self, tokens: &[Token], most: usize, level: u8, pieces: &mut Vec<Pronounced>) -> Result<(), TextError> {
        let Some(whole) = self.symbols_of(tokens)? else { return Ok(()) };
        if whole.symbols.len() <= most || level == 2 {
            pieces.push(whole);
            return Ok(());
        }
        let parts: Vec<&[Token]> = if level == 0 { cut(tokens, |_| true) } else { tokens.chunks(1).collect() };
        // As many parts after each other as fit.
        let mut from = 0;
        let mut fitting: Option<Pronounced> = None;
        let mut at = 0;
        for part in parts {
            let to = at + part.len();
            match self.symbols_of(&tokens[from..to])? {
                Some(longer) if longer.symbols.len() <= most => fitting = Some(longer),
                Some(_) => {
                    pieces.extend(fitting.take());
                    from = at;
                    match self.symbols_of(part)? {
                        Some(alone) if alone.symbols.len() <= most => fitting = Some(alone),
                        _ => {
                            self.pieces(part, most, level + 1, pieces)?;
                            from = to;
                        }
                    }
                }
                None => {}
            }
            at = to;
        }
        pieces.extend(fitting);
        Ok(())
    }

    /// The symbols of words and pauses; none without a word.
    fn symbols_of(&self, tokens: &[Token]) -> Result<Option<Pronounced>, TextError> {
        let mut found = Pronounced::default();
        let (mut unknown, mut unreadable) = (Vec::new(), Vec::new());
        let (mut pause, mut any) = (false, false);
        let silence = self.rules.silent_ends.then(|| SILENCE.to_owned());
        found.symbols.extend(silence.clone());
        for token in tokens {
            let phones = match token {
                Token::Pause(_) => {
                    pause = any;
                    continue;
                }
                Token::Letter(letter) => name_of(*letter),
                Token::Word(word) => match self.word(word) {
                    Ok((phones, listed)) => {
                        if !listed {
                            found.guessed.push((word.clone(), phones.clone()));
                        }
                        phones
                    }
                    Err(list) => {
                        let list = if list { &mut unreadable } else { &mut unknown };
                        list.push(word.clone());
                        continue;
                    }
                },
            };
            if any && (pause || self.rules.word_pauses) {
                found.symbols.push(PAUSE.to_owned());
            }
            (pause, any) = (false, true);
            found.symbols.extend(phones.into_iter().map(|phone| unstressed(phone, self.rules.stress)));
        }
        if !unreadable.is_empty() {
            return Err(TextError::Unreadable { words: unreadable });
        }
        if !unknown.is_empty() {
            return Err(TextError::Unknown { words: unknown });
        }
        found.symbols.extend(silence);
        Ok(any.then_some(found))
    }

    /// The phonemes of a word, and true if the dictionary knows it. Errors: true if nothing can read it.
    fn word(&self, word: &str) -> Result<(Vec<String>, bool), bool> {
        if let Some(letter) = word.strip_suffix(".'s").filter(|stem| stem.len() == 1) {
            return Ok((lexicon::with_s(letter.chars().flat_map(name_of).collect()), true));
        }
        if let Some(phones) = self.lexicon.phones(word) {
            return Ok((phones, true));
        }
        let (stem, has_s) = word.strip_suffix("'s").map_or((word, false), |stem| (stem, true));
        let spell = || {
            let names: Vec<String> = stem.chars().flat_map(name_of).collect();
            (!names.is_empty() && stem.chars().all(|c| c.is_ascii_alphabetic() || c == '\'')).then_some(names)
        };
        let phones = match self.rules.unknown_words {
            Unknown::Reject => return Err(false),
            Unknown::Spell => spell(),
            Unknown::G2p => {
                let train = || {
                    // Readings of more than one letter: single letters of the dictionary are names.
                    LetterToSound::train(self.lexicon.iter().filter(|(word, _)| word.len() > 1))
                };
                self.letters.get_or_init(train).phones(stem).or_else(spell)
            }
        };
        let phones = phones.ok_or(true)?;
        Ok((if has_s { lexicon::with_s(phones) } else { phones }, false))
    }
}

/// The phonemes of the name of a letter; none for other characters.
fn name_of(letter: char) -> Vec<String> {
    let name = u32::from(letter).checked_sub(u32::from('a')).and_then(|at| LETTERS.get(at as usize));
    name.map_or_else(Vec::new, |name| name.split(' ').map(str::to_owned).collect())
}

/// Cuts tokens behind the pauses that `ends` accepts.
fn cut(tokens: &[Token], ends: impl Fn(char) -> bool) -> Vec<&[Token]> {
    tokens.split_inclusive(|token| matches!(token, Token::Pause(mark) if ends(*mark))).collect()
}

/// Words and pauses of text that the published cleaners wrote: words end at spaces and at `,;.-?!`.
fn published_tokens(text: &str) -> Spoken {
    let mut found = Spoken::default();
    let mut word = String::new();
    for c in text.chars().chain([' ']) {
        if matches!(c, ' ' | ',' | ';' | '.' | '-' | '?' | '!') {
            if !word.is_empty() {
                found.tokens.push(Token::Word(std::mem::take(&mut word)));
            }
            if c != ' ' {
                found.tokens.push(Token::Pause(c));
            }
        } else if c.is_ascii_alphabetic() || c == '\'' {
            word.push(c);
        } else {
            found.unread.push(c);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn front_end(rules: Rules) -> FrontEnd {
        let lexicon = "A AH0\nCAT K AE1 T\nSAT S AE1 T\nON AA1 N\nMAT M AE1 T\nTHREE TH R IY1\nHAT HH AE1 T\nTV T IY1 V IY1\n";
        FrontEnd::new(Lexicon::parse(lexicon).unwrap(), rules)
    }

    #[track_caller]
    fn check(rules: Rules, text: &str, expected: &str) {
        assert_eq!(front_end(rules).pronounce(text).unwrap().symbols.join(" "), expected);
    }

    #[test]
    fn symbols_are_padding_silence_pause_and_phonemes() {
        let with = symbols(true);
        assert_eq!((with.len(), &with[..4]), (72, &["<pad>", "sil", "sp", "AA0"].map(str::to_owned)[..]));
        let without = symbols(false);
        assert_eq!((without.len(), without[3].as_str(), without[41].as_str()), (42, "AA", "ZH"));
    }

    #[test]
    fn words_become_symbols_with_pauses_at_punctuation() {
        let rules = Rules::default();
        check(rules, "A cat sat, on a mat.", "sil AH0 K AE1 T S AE1 T sp AA1 N AH0 M AE1 T sil");
        check(rules, "3 cat'", "sil TH R IY1 K AE1 T sil");
        check(Rules { stress: false, word_pauses: true, ..rules }, "A cat sat.", "sil AH sp K AE T sp S AE T sil");
        check(rules, "a U.S. cat's TVs", "sil AH0 Y UW1 EH1 S K AE1 T S T IY1 V IY1 Z sil");
    }

    #[test]
    fn texts_without_silent_ends_have_pauses_inside_only() {
        let rules = Rules { silent_ends: false, ..Rules::default() };
        check(rules, "A cat sat, on a mat.", "AH0 K AE1 T S AE1 T sp AA1 N AH0 M AE1 T");
        let pieces = front_end(rules).pronounce_long("A cat. A mat.", 5).unwrap();
        let pieces: Vec<String> = pieces.into_iter().map(|piece| piece.symbols.join(" ")).collect();
        assert_eq!(pieces, ["AH0 K AE1 T sp", "AH0 M AE1 T"]);
        // Rules that texts had before are written as before.
        let written = |rules: Rules| serde_json::to_string(&rules).unwrap();
        let before = r#"{"cleaning":"spoken","stress":true,"word_pauses":false,"unknown_words":"g2p"}"#;
        assert_eq!(written(Rules::default()), before);
        assert_eq!(serde_json::from_str::<Rules>(before).unwrap(), Rules::default());
        assert_eq!(serde_json::from_str::<Rules>(&written(rules)).unwrap(), rules);
    }

    #[test]
    fn unknown_words_are_read_spelled_or_refused_but_never_dropped() {
        let read = front_end(Rules::default()).pronounce("a hat bat").unwrap();
        assert_eq!(read.guessed.len(), 1);
        assert_eq!(read.guessed[0].0, "bat");
        let spell = Rules { unknown_words: Unknown::Spell, ..Rules::default() };
        check(spell, "cat bat's", "sil K AE1 T B IY1 EY1 T IY1 Z sil");
        let reject = front_end(Rules { unknown_words: Unknown::Reject, ..Rules::default() });
        let error = reject.pronounce("a bat, a bird").unwrap_err();
        assert_eq!(error.to_string(), "the dictionary does not know `bat`, `bird`");
        let error = front_end(Rules::default()).pronounce("a \u{4e2d}\u{6587} cat").unwrap_err();
        assert_eq!(error.to_string(), "no pronunciation for `\u{4e2d}\u{6587}`: only English letters can be read");
        assert_eq!(front_end(Rules::default()).pronounce("a \u{2603} cat").unwrap().unread, ['\u{2603}']);
    }

    #[test]
    fn texts_without_words_are_an_error() {
        for text in ["", "  ", "...", "?!", "\u{2603}"] {
            let error = front_end(Rules::default()).pronounce(text).unwrap_err();
            assert_eq!(error, TextError::NoWords { text: text.to_owned() });
            assert!(front_end(Rules::default()).pronounce_long(text, 10).is_err());
        }
    }

    #[test]
    fn long_texts_are_cut_at_sentences_then_clauses_then_words() {
        let front_end = front_end(Rules::default());
        let pieces = |text: &str, most: usize| {
            let pieces = front_end.pronounce_long(text, most).unwrap();
            assert!(pieces.iter().all(|piece| piece.symbols.len() <= most.max(5)));
            pieces.iter().map(|piece| piece.symbols[1..piece.symbols.len() - 1].join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(pieces("A cat. A mat.", 40), ["AH0 K AE1 T", "AH0 M AE1 T"]);
        assert_eq!(pieces("A cat, a mat, a hat.", 12), ["AH0 K AE1 T sp AH0 M AE1 T", "AH0 HH AE1 T"]);
        assert_eq!(pieces("A cat sat on a mat", 9), ["AH0 K AE1 T S AE1 T", "AA1 N AH0 M AE1 T"]);
        assert_eq!(pieces("cat", 2), ["K AE1 T"]);
    }
}
