//! The tokens of a recogniser, and the way from text to tokens and back.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Stands between words.
pub const DELIMITER: &str = "|";
/// Stands for a character that the vocabulary lacks.
pub const UNKNOWN: &str = "[UNK]";
/// Stands for nothing: the blank of CTC.
pub const BLANK: &str = "[PAD]";

/// Tokens by index. Those of more than one character (slots, phones) are never split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Vocabulary {
    tokens: Vec<String>,
    ids: BTreeMap<String, i64>,
    /// Stands between words; none where tokens are words of their own.
    delimiter: Option<i64>,
    unknown: i64,
    blank: i64,
    /// Ends an utterance; decoding stops there.
    end: Option<i64>,
}

/// As it lies in files.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Written {
    tokens: Vec<String>,
    delimiter: Option<i64>,
    unknown: i64,
    blank: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<i64>,
}

impl From<Written> for Vocabulary {
    fn from(Written { tokens, delimiter, unknown, blank, end }: Written) -> Self {
        let ids = tokens.iter().cloned().zip(0..).collect();
        Self { tokens, ids, delimiter, unknown, blank, end }
    }
}

impl From<Vocabulary> for Written {
    fn from(Vocabulary { tokens, delimiter, unknown, blank, end, .. }: Vocabulary) -> Self {
        Self { tokens, delimiter, unknown, blank, end }
    }
}

/// A word in decoded frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WordSpan {
    /// The word.
    pub word: String,
    /// First frame.
    pub start: usize,
    /// The frame after its last.
    pub end: usize,
}

impl Vocabulary {
    /// The sorted characters of `texts` (spaces aside), then `slots` with a token for each end, then the special tokens.
    pub fn of_characters<'a>(texts: impl Iterator<Item = &'a str>, slots: &[String]) -> Self {
        let characters: BTreeSet<char> = texts.flat_map(str::chars).filter(|&c| c != ' ' && c != '|').collect();
        let slots = slots.iter().flat_map(|slot| [format!("B-{slot}"), format!("E-{slot}")]);
        let special = [DELIMITER, UNKNOWN, BLANK].map(str::to_owned);
        let tokens: Vec<String> = characters.into_iter().map(String::from).chain(slots).chain(special).collect();
        let last = tokens.len() as i64;
        Written { tokens, delimiter: Some(last - 3), unknown: last - 2, blank: last - 1, end: None }.into()
    }

    /// Tokens of a given order, each a word of its own.
    pub fn of_symbols(tokens: Vec<String>, blank: i64, unknown: i64, end: Option<i64>) -> Self {
        Written { tokens, delimiter: None, unknown, blank, end }.into()
    }

    /// Tokens of a given order, joined to words where there is a delimiter.
    pub fn of_tokens(tokens: Vec<String>, delimiter: Option<i64>, unknown: i64, blank: i64) -> Self {
        Written { tokens, delimiter, unknown, blank, end: None }.into()
    }

    /// True if it has capital letters and no small ones.
    pub fn is_capital(&self) -> bool {
        let letters = || self.tokens.iter().filter(|token| token.chars().count() == 1).flat_map(|token| token.chars());
        letters().any(char::is_uppercase) && !letters().any(char::is_lowercase)
    }

    /// From `vocab.json` of a checkpoint: token to index, with the special tokens of [`DELIMITER`], [`UNKNOWN`] and [`BLANK`];
    /// none when one of them is missing or an index is not taken once.
    pub fn from_map(map: &BTreeMap<String, i64>) -> Option<Self> {
        Self::with_special(map, Some(DELIMITER), UNKNOWN, BLANK)
    }

    /// As [`Self::from_map`], with special tokens of other names. Without a delimiter every token is a word.
    pub fn with_special(map: &BTreeMap<String, i64>, delimiter: Option<&str>, unknown: &str, blank: &str) -> Option<Self> {
        let mut tokens = vec![None; map.len()];
        for (token, &id) in map {
            *tokens.get_mut(usize::try_from(id).ok()?)? = Some(token.clone());
        }
        let id = |token: &str| map.get(token).copied();
        let tokens = tokens.into_iter().collect::<Option<_>>()?;
        let delimiter = match delimiter {
            Some(token) => Some(id(token)?),
            None => None,
        };
        Some(Written { tokens, delimiter, unknown: id(unknown)?, blank: id(blank)?, end: None }.into())
    }

    /// Tokens by index.
    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }
    /// The index of a token.
    pub fn id(&self, token: &str) -> Option<i64> {
        self.ids.get(token).copied()
    }
    /// The blank of CTC.
    pub fn blank(&self) -> i64 {
        self.blank
    }
    /// The token for what is not in the vocabulary.
    pub fn unknown(&self) -> i64 {
        self.unknown
    }
    /// The token between words; none where every token is a word.
    pub fn delimiter(&self) -> Option<i64> {
        self.delimiter
    }

    /// Token -> index, as checkpoints have it in `vocab.json`.
    pub fn to_map(&self) -> BTreeMap<String, i64> {
        self.ids.clone()
    }

    /// The characters of `text` that are no token. For vocabularies of characters.
    pub fn missing(&self, text: &str) -> BTreeSet<char> {
        let words = text.split(' ').filter(|word| self.id(word).is_none());
        let mut buffer = [0; 4];
        words.flat_map(str::chars).filter(|c| self.id(c.encode_utf8(&mut buffer)).is_none()).collect()
    }

    /// Text to tokens. Spaces become delimiters, but for those beside a slot token; what is no token becomes unknown.
    ///
    /// Where tokens are words of their own, text is split at spaces.
    pub fn encode(&self, text: &str) -> Vec<i64> {
        let Some(delimiter) = self.delimiter else {
            return text.split_whitespace().map(|word| self.id(word).unwrap_or(self.unknown)).collect();
        };
        // Stretches of characters between tokens of more than one.
        let mut ids = Vec::new();
        let mut stretch = String::new();
        let (mut after_token, mut is_first) = (false, true);
        let characters = |stretch: &str, ids: &mut Vec<i64>| {
            let mut buffer = [0; 4];
            ids.extend(stretch.chars().map(|c| match c {
                ' ' => delimiter,
                other => self.id(other.encode_utf8(&mut buffer)).unwrap_or(self.unknown),
            }));
        };
        for word in text.split(' ') {
            if let Some(token) = self.id(word).filter(|_| word.chars().nth(1).is_some()) {
                let plain = stretch.trim_end_matches(' ');
                characters(if after_token { plain.trim_start_matches(' ') } else { plain }, &mut ids);
                ids.push(token);
                stretch.clear();
                (after_token, is_first) = (true, true);
                continue;
            }
            if !is_first {
                stretch.push(' ');
            }
            stretch.push_str(word);
            is_first = false;
        }
        characters(if after_token { stretch.trim_start_matches(' ') } else { &stretch }, &mut ids);
        ids
    }

    /// The most likely token of each frame to tokens: runs become one, blanks go, what follows an end token goes.
    pub fn collapse(&self, frames: &[i64]) -> Vec<i64> {
        let mut tokens = frames.to_vec();
        tokens.dedup();
        self.without_blanks(&tokens)
    }

    /// Without blanks and what follows an end token. Runs stay: how the benchmark's reference code scores phonemes.
    pub fn without_blanks(&self, frames: &[i64]) -> Vec<i64> {
        let until_end = frames.iter().copied().take_while(|&token| Some(token) != self.end);
        until_end.filter(|&token| token != self.blank).collect()
    }

    /// Tokens to text: characters joined, delimiters as spaces, no space at the ends.
    pub fn decode(&self, ids: &[i64]) -> String {
        let Some(delimiter) = self.delimiter else {
            return ids.iter().map(|&id| self.token(id)).collect::<Vec<_>>().join(" ");
        };
        let text: String = ids.iter().map(|&id| if id == delimiter { " " } else { self.token(id) }).collect();
        text.trim().to_owned()
    }

    /// Tokens to text as it is scored: slot tokens stand between spaces, and there is never more than one space.
    pub fn decode_to_score(&self, ids: &[i64]) -> String {
        if self.delimiter.is_none() {
            return self.decode(ids);
        }
        let mut text = String::new();
        for &id in ids {
            let token = self.token(id);
            let is_slot = token.starts_with("B-") || token.starts_with("E-");
            match token {
                _ if Some(id) == self.delimiter => text.push(' '),
                slot if is_slot && slot.len() > 2 => text.extend([" ", slot, " "]),
                other => text.push_str(other),
            }
        }
        crate::normalise::single_spaces(&text)
    }

    /// The words of decoded frames with their places.
    pub fn word_spans(&self, frames: &[i64]) -> Vec<WordSpan> {
        let mut spans: Vec<WordSpan> = Vec::new();
        let (mut open, mut at) = (false, 0);
        while at < frames.len() {
            let id = frames[at];
            let end = at + frames[at..].iter().take_while(|&&other| other == id).count();
            if Some(id) == self.delimiter {
                open = false;
            } else if id != self.blank {
                match spans.last_mut().filter(|_| open) {
                    Some(span) => {
                        span.word.push_str(self.token(id));
                        span.end = end;
                    }
                    None => spans.push(WordSpan { word: self.token(id).to_owned(), start: at, end }),
                }
                open = true;
            }
            at = end;
        }
        spans
    }

    fn token(&self, id: i64) -> &str {
        usize::try_from(id).ok().and_then(|id| self.tokens.get(id)).map_or(UNKNOWN, String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// Compares, and says so for `scripts/golden_table.py`.
    #[track_caller]
    fn check<T: PartialEq + std::fmt::Debug>((name, what, at): (&str, &str, usize), found: &T, expected: &T) {
        assert_eq!(found, expected, "{what}.{at}");
        println!("GOLDEN ctc_text_{name} {what}.{at} 0");
    }

    #[test]
    fn encoding_and_decoding_are_those_of_the_reference() {
        let Some(folder) = reference::find("text") else { return };
        for name in ["plain", "slots"] {
            let [cases, map] = ["ctc", "vocab"].map(|file| reference::json(&folder.join(format!("{file}_{name}.json"))));
            let vocabulary = Vocabulary::from_map(&serde_json::from_value(map).unwrap()).unwrap();
            let list = |of: &str| cases[of].as_array().unwrap().clone();
            let ids = |value: &Value| serde_json::from_value::<Vec<i64>>(value.clone()).unwrap();
            for (at, case) in list("encode").iter().enumerate() {
                check((name, "encode", at), &vocabulary.encode(case["text"].as_str().unwrap()), &ids(&case["ids"]));
            }
            for (at, case) in list("greedy_decode").iter().enumerate() {
                let found = vocabulary.decode(&vocabulary.collapse(&ids(&case["frames"])));
                check((name, "greedy_decode", at), &found.as_str(), &case["text"].as_str().unwrap());
            }
            for (at, case) in list("decode_without_grouping").iter().enumerate() {
                let found = vocabulary.decode(&vocabulary.without_blanks(&ids(&case["ids"])));
                check((name, "decode_without_grouping", at), &found.as_str(), &case["text"].as_str().unwrap());
            }
            for (at, case) in list("word_offsets").iter().enumerate() {
                let number = |word: &Value, name: &str| word[name].as_u64().unwrap() as usize;
                let expected: Vec<WordSpan> = case["words"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|word| WordSpan {
                        word: word["word"].as_str().unwrap().to_owned(),
                        start: number(word, "start_offset"),
                        end: number(word, "end_offset"),
                    })
                    .collect();
                check((name, "word_offsets", at), &vocabulary.word_spans(&ids(&case["frames"])), &expected);
            }
        }
    }

    fn slots() -> Vocabulary {
        Vocabulary::of_characters(["play music", "in rome"].into_iter(), &["city".to_owned(), "genre".to_owned()])
    }

    #[test]
    fn characters_are_sorted_and_special_tokens_last() {
        let vocabulary = slots();
        let tokens: Vec<&str> = vocabulary.tokens().iter().map(String::as_str).collect();
        let expected = "a c e i l m n o p r s u y B-city E-city B-genre E-genre | [UNK] [PAD]";
        assert_eq!(tokens.join(" "), expected);
        let json = serde_json::to_string(&vocabulary).unwrap();
        assert_eq!(serde_json::from_str::<Vocabulary>(&json).unwrap(), vocabulary);
        assert_eq!(Vocabulary::from_map(&vocabulary.to_map()).unwrap(), vocabulary);
    }

    #[test]
    fn missing_characters_are_named_and_become_unknown() {
        let vocabulary = slots();
        assert_eq!(vocabulary.missing("play jazz B-city"), ['j', 'z'].into());
        assert_eq!(vocabulary.decode(&vocabulary.encode("jam")), "[UNK]am");
    }

    #[test]
    fn an_end_token_ends_an_utterance() {
        let tokens = ["<pad>", "<eos>", "<unk>", "AA", "B"].map(str::to_owned).to_vec();
        let vocabulary = Vocabulary::of_symbols(tokens, 0, 2, Some(1));
        assert_eq!(vocabulary.decode(&vocabulary.collapse(&[0, 3, 3, 0, 3, 4, 1, 4])), "AA AA B");
        assert_eq!(vocabulary.decode(&vocabulary.without_blanks(&[0, 3, 3, 0, 4])), "AA AA B");
        assert_eq!(vocabulary.encode("B AA XX"), [4, 3, 2]);
    }

    proptest! {
        #[test]
        fn what_was_encoded_decodes_to_the_same(words in prop::collection::vec("[acei]{1,4}|B-city|E-city", 0..8)) {
            let text = words.join(" ");
            let vocabulary = slots();
            let ids = vocabulary.encode(&text);
            prop_assert_eq!(vocabulary.decode_to_score(&ids), text);
            // With a blank after each token nothing is lost in frames either.
            let frames: Vec<i64> = ids.iter().flat_map(|&id| [id, id, vocabulary.blank()]).collect();
            prop_assert_eq!(vocabulary.collapse(&frames), ids);
        }
    }
}
