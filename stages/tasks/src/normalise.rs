//! The text rules of the tasks: what of a transcript is learned and scored.

use unicode_normalization::UnicodeNormalization;

use crate::Protocol;

/// The marks that the benchmark's reference code deletes.
const MARKS: [char; 8] = [',', '?', '.', '!', '-', ';', ':', '"'];

/// A transcript as speech recognition learns it: lower case, without punctuation.
///
/// `Paper` deletes eight ASCII marks and lowers the case; nothing else, so that `no-no` becomes `nono` and a curly apostrophe
/// stays. `Sound` first straightens apostrophes, composes characters (NFC), and puts a space for hyphens, dashes and ellipses;
/// runs of spaces become one.
pub fn transcript(text: &str, protocol: Protocol) -> String {
    match protocol {
        Protocol::Paper => text.chars().filter(|mark| !MARKS.contains(mark)).collect::<String>().to_lowercase(),
        Protocol::Sound => {
            let plain = |c: char| match c {
                '\u{2018}' | '\u{2019}' | '\u{02bc}' | '`' => Some('\''),
                '-' | '\u{2010}'..='\u{2015}' | '\u{2026}' | '/' => Some(' '),
                '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{feff}' | '(' | ')' | '[' | ']' | '|' => None,
                mark if MARKS.contains(&mark) => None,
                space if space.is_whitespace() => Some(' '),
                other => Some(other),
            };
            let text: String = text.nfc().filter_map(plain).collect::<String>().to_lowercase();
            single_spaces(&text)
        }
    }
}

/// Words as the lexicon has them: lower case, straight apostrophes, no marks.
pub fn words(text: &str) -> Vec<String> {
    transcript(text, Protocol::Sound).split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Without spaces at the ends and with one where there were several.
pub fn single_spaces(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, sound: &str, paper: &str) {
        assert_eq!(transcript(text, Protocol::Sound), sound);
        assert_eq!(transcript(text, Protocol::Paper), paper);
    }

    #[test]
    fn punctuation_goes_and_words_stay_apart() {
        check("Please, go left.", "please go left", "please go left");
        check("No-no-no; it's \"fine\"!", "no no no it's fine", "nonono it's fine");
        check("It\u{2019}s good\u{2026} more", "it's good more", "it\u{2019}s good\u{2026} more");
        check("IT'S GOOD", "it's good", "it's good");
        check("  two   spaces ", "two spaces", "  two   spaces ");
        check("...", "", "");
    }

    #[test]
    fn characters_are_composed() {
        assert_eq!(transcript("cafe\u{301}", Protocol::Sound), "caf\u{e9}");
    }
}
