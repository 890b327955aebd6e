//! English text as it is spoken: numbers, dates, times, amounts, units, abbreviations and acronyms become words.
//!
//! Nothing is dropped silently: characters without a reading are listed in [`Spoken::unread`].

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::numbers::{PLAIN, cardinal, one_by_one, ordinal, plural, year};
use crate::lexicon::Lexicon;

/// A piece of spoken text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// A word in lower case, with apostrophes.
    Word(String),
    /// A letter that is spelled, in lower case.
    Letter(char),
    /// Punctuation at which a speaker pauses: one of `.,;:!?-`.
    Pause(char),
}

/// Text as it is spoken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spoken {
    /// Words, letters and pauses in order.
    pub tokens: Vec<Token>,
    /// Characters that have no reading, in order.
    pub unread: Vec<char>,
}

impl std::fmt::Display for Spoken {
    /// Writes words in lower case, spelled letters in upper case and punctuation behind its word.
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        for (at, token) in self.tokens.iter().enumerate() {
            if at > 0 && !matches!(token, Token::Pause(mark) if *mark != '-') {
                f.write_str(" ")?;
            }
            match token {
                Token::Word(word) => f.write_str(word)?,
                Token::Letter(letter) => write!(f, "{}", letter.to_ascii_uppercase())?,
                Token::Pause(mark) => write!(f, "{mark}")?,
            }
        }
        Ok(())
    }
}

/// Abbreviations that end with a point, and their readings.
const ABBREVIATIONS: [(&str, &str); 44] = [
    ("mr", "mister"),
    ("mrs", "missus"),
    ("ms", "miz"),
    ("dr", "doctor"),
    ("prof", "professor"),
    ("jr", "junior"),
    ("sr", "senior"),
    ("gen", "general"),
    ("capt", "captain"),
    ("lt", "lieutenant"),
    ("col", "colonel"),
    ("sgt", "sergeant"),
    ("maj", "major"),
    ("rev", "reverend"),
    ("hon", "honorable"),
    ("gov", "governor"),
    ("sen", "senator"),
    ("rep", "representative"),
    ("esq", "esquire"),
    ("co", "company"),
    ("corp", "corporation"),
    ("inc", "incorporated"),
    ("ltd", "limited"),
    ("bros", "brothers"),
    ("ave", "avenue"),
    ("blvd", "boulevard"),
    ("rd", "road"),
    ("mt", "mount"),
    ("vs", "versus"),
    ("etc", "et cetera"),
    ("dept", "department"),
    ("est", "established"),
    ("approx", "approximately"),
    ("vol", "volume"),
    ("jan", "january"),
    ("feb", "february"),
    ("apr", "april"),
    ("aug", "august"),
    ("sept", "september"),
    ("oct", "october"),
    ("nov", "november"),
    ("dec", "december"),
    ("e.g", "for example"),
    ("i.e", "that is"),
];

/// Units behind a number: singular and plural.
const UNITS: [(&str, &str, &str); 26] = [
    ("km", "kilometer", "kilometers"),
    ("km/h", "kilometer per hour", "kilometers per hour"),
    ("m", "meter", "meters"),
    ("cm", "centimeter", "centimeters"),
    ("mm", "millimeter", "millimeters"),
    ("kg", "kilogram", "kilograms"),
    ("g", "gram", "grams"),
    ("mg", "milligram", "milligrams"),
    ("l", "liter", "liters"),
    ("ml", "milliliter", "milliliters"),
    ("lb", "pound", "pounds"),
    ("lbs", "pound", "pounds"),
    ("oz", "ounce", "ounces"),
    ("ft", "foot", "feet"),
    ("mi", "mile", "miles"),
    ("mph", "mile per hour", "miles per hour"),
    ("hz", "hertz", "hertz"),
    ("khz", "kilohertz", "kilohertz"),
    ("mhz", "megahertz", "megahertz"),
    ("ghz", "gigahertz", "gigahertz"),
    ("kb", "kilobyte", "kilobytes"),
    ("mb", "megabyte", "megabytes"),
    ("gb", "gigabyte", "gigabytes"),
    ("\u{b0}", "degree", "degrees"),
    ("\u{b0}c", "degree celsius", "degrees celsius"),
    ("\u{b0}f", "degree fahrenheit", "degrees fahrenheit"),
];

/// Currencies: sign, unit, units, hundredth, hundredths.
const CURRENCIES: [(char, [&str; 4]); 4] = [
    ('$', ["dollar", "dollars", "cent", "cents"]),
    ('\u{a3}', ["pound", "pounds", "penny", "pence"]),
    ('\u{20ac}', ["euro", "euros", "cent", "cents"]),
    ('\u{a5}', ["yen", "yen", "sen", "sen"]),
];

/// Symbols that are words of their own.
const SYMBOLS: [(char, &str); 9] = [
    ('&', "and"),
    ('+', "plus"),
    ('=', "equals"),
    ('@', "at"),
    ('%', "percent"),
    ('\u{d7}', "times"),
    ('#', "number"),
    ('\u{b0}', "degrees"),
    ('\u{2044}', "over"),
];

/// Capitals that are an acronym although the dictionary has a word of these letters.
const SPELLED: [&str; 2] = ["us", "ok"];

const MAGNITUDES: [&str; 4] = ["thousand", "million", "billion", "trillion"];

/// Returns `text` as it is spoken. `lexicon` decides whether capitals are a word (NASA) or are spelled (BBC).
pub fn spoken(text: &str, lexicon: &Lexicon) -> Spoken {
    let plain = straight(text);
    let tokens: Vec<&str> = plain.split_whitespace().collect();
    // Where everything is in capitals, they say nothing.
    let capitals = plain.chars().any(char::is_lowercase);
    let mut reader = Reader { lexicon, capitals, out: Spoken::default() };
    let mut at = 0;
    while at < tokens.len() {
        at += reader.token(tokens[at], &tokens[at + 1..]);
    }
    reader.out
}

/// Straightens quotes and dashes, and composes characters.
fn straight(text: &str) -> String {
    let mut out = String::new();
    for c in text.nfkc() {
        match c {
            '\u{2018}' | '\u{2019}' | '\u{02bc}' | '`' | '\u{b4}' => out.push('\''),
            '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{ab}' | '\u{bb}' => out.push('"'),
            '\u{2010}'..='\u{2012}' | '\u{2212}' => out.push('-'),
            '\u{2013}' if out.ends_with(|c: char| c.is_ascii_digit()) => out.push('-'),
            '\u{2013}'..='\u{2015}' => out += " - ",
            '\u{feff}' | '\u{200b}'..='\u{200d}' | '\u{ad}' => {}
            other => out.push(other),
        }
    }
    out.replace("--", " - ")
}

/// A number at the beginning of a text: its digits without commas, those behind the point, and what follows.
fn leading_number(text: &str) -> Option<(String, &str, &str)> {
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let first = digits(text);
    if first == 0 {
        return None;
    }
    let (mut whole, mut rest) = (text[..first].to_owned(), &text[first..]);
    while first <= 3 && rest.starts_with(',') && digits(&rest[1..]) == 3 {
        whole += &rest[1..4];
        rest = &rest[4..];
    }
    let decimals = rest.strip_prefix('.').map_or(0, digits);
    if decimals == 0 {
        return Some((whole, "", rest));
    }
    Some((whole, &rest[1..=decimals], &rest[1 + decimals..]))
}

/// Words of a number: digits behind a point one by one, and so those of a number that begins with 0.
fn number(whole: &str, decimals: &str) -> String {
    let whole = if whole.len() > 1 && whole.starts_with('0') { one_by_one(whole) } else { cardinal(whole, PLAIN) };
    if decimals.is_empty() { whole } else { format!("{whole} point {}", one_by_one(decimals)) }
}

/// Words of a plain whole number, which may be a year.
fn number_or_year(whole: &str, original: &str) -> String {
    match whole.parse::<u32>() {
        Ok(number @ 1100..2100) if original.len() == 4 => year(number),
        _ => number(whole, ""),
    }
}

struct Reader<'a> {
    lexicon: &'a Lexicon,
    /// Capitals mean something.
    capitals: bool,
    out: Spoken,
}

impl Reader<'_> {
    fn words(&mut self, text: &str) {
        self.out.tokens.extend(text.split([' ', '-']).filter(|word| !word.is_empty()).map(|word| Token::Word(word.to_owned())));
    }

    fn letters(&mut self, letters: &str) {
        self.out.tokens.extend(letters.chars().map(|letter| Token::Letter(letter.to_ascii_lowercase())));
    }

    /// Adds a pause, unless there is one already or nothing before it.
    fn pause(&mut self, mark: char) {
        match self.out.tokens.last_mut() {
            // The end of a sentence is stronger than a comma.
            Some(Token::Pause('.' | '!' | '?')) | None => {}
            Some(Token::Pause(before)) => *before = mark,
            Some(_) => self.out.tokens.push(Token::Pause(mark)),
        }
    }

    /// Reads the token and returns how many were used, one or two.
    fn token(&mut self, token: &str, after: &[&str]) -> usize {
        if matches!(token, "-" | "/" | "|") {
            self.pause('-');
            return 1;
        }
        let core = token.trim_start_matches(['"', '(', '[', '{', '<', '*', '_']);
        if token[..token.len() - core.len()].contains(['(', '[', '{']) {
            self.pause(',');
        }
        let end = |c: char| matches!(c, '"' | ')' | ']' | '}' | '>' | '.' | ',' | ';' | ':' | '!' | '?' | '*' | '_');
        let body = core.trim_end_matches(end);
        let mut tail = &core[body.len()..];
        let mut used = 1;
        if !body.is_empty() {
            if tail.starts_with('.') && self.abbreviation(body, after) {
                // Its point is also that of the sentence at the end of the text, or before a capital.
                if after.is_empty() && tail.len() == 1 {
                    self.pause('.');
                }
                tail = &tail[1..];
            } else {
                used = self.core(body, if tail.is_empty() { after } else { &[] });
                if used == 2 {
                    tail = &after[0][after[0].trim_end_matches(end).len()..];
                }
            }
        }
        for mark in tail.chars() {
            match mark {
                '.' | ',' | ';' | ':' | '!' | '?' => self.pause(mark),
                ')' | ']' | '}' => self.pause(','),
                _ => {}
            }
        }
        used
    }

    /// Reads what a point made an abbreviation; false when it is none.
    fn abbreviation(&mut self, body: &str, after: &[&str]) -> bool {
        let lower = body.to_lowercase();
        let next = after.first().copied().unwrap_or_default();
        let name_follows = next.starts_with(char::is_uppercase);
        match lower.as_str() {
            "st" => self.words(if name_follows { "saint" } else { "street" }),
            "no" if next.starts_with(|c: char| c.is_ascii_digit()) => self.words("number"),
            "ft" if name_follows => self.words("fort"),
            "a.m" | "p.m" => self.letters(&lower.replace('.', "")),
            _ => match ABBREVIATIONS.iter().find(|(short, _)| *short == lower) {
                // `sen`, `rep`, `col` and others are words or names too: in lower case at the end of a sentence.
                Some((short, long))
                    if !after.is_empty() || body.starts_with(char::is_uppercase) || matches!(*short, "etc" | "e.g" | "i.e") =>
                {
                    self.words(long);
                }
                None if is_dotted(body) => self.letters(&lower.replace('.', "")),
                _ => return false,
            },
        }
        true
    }

    /// Reads a token without the punctuation around it; `after` is empty where punctuation follows. Returns how many tokens were used.
    fn core(&mut self, body: &str, after: &[&str]) -> usize {
        let next = after.first().copied().unwrap_or_default();
        let next_word = next.trim_end_matches(|c: char| !c.is_alphanumeric());
        if is_dotted(body) {
            self.letters(&body.replace('.', ""));
            return 1;
        }
        if let Some((_, names)) = CURRENCIES.iter().find(|(sign, _)| body.starts_with(*sign)) {
            let rest = &body[body.chars().next().map_or(0, char::len_utf8)..];
            if let Some((whole, decimals, "")) = leading_number(rest) {
                return self.amount(&whole, decimals, *names, next_word);
            }
        }
        let (sign, unsigned) = match body.strip_prefix('-') {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => ("minus", rest),
            _ => ("", body),
        };
        if let Some(used) = self.numeral(sign, unsigned, next_word) {
            return used;
        }
        if let Some(rest) = body.strip_prefix('\'').filter(|rest| rest.len() == 3 && rest.ends_with('s'))
            && rest[..2].bytes().all(|b| b.is_ascii_digit())
        {
            self.words(&plural(&cardinal(&rest[..2], PLAIN)));
            return 1;
        }
        self.word(body);
        1
    }

    /// Reads an amount of money; `3.50` has cents, `3.5 million` has not.
    fn amount(&mut self, whole: &str, decimals: &str, [unit, units, cent, cents]: [&str; 4], next: &str) -> usize {
        let one = |digits: &str, one: &'static str| digits.trim_start_matches('0') == one;
        if let Some(magnitude) = MAGNITUDES.iter().find(|magnitude| **magnitude == next) {
            self.words(&format!("{} {magnitude} {units}", number(whole, decimals)));
            return 2;
        }
        if decimals.len() != 2 {
            let name = if one(whole, "1") && decimals.is_empty() { unit } else { units };
            self.words(&format!("{} {name}", number(whole, decimals)));
            return 1;
        }
        let hundredths = decimals.trim_start_matches('0');
        let of_cents = || format!("{} {}", cardinal(hundredths, PLAIN), if one(hundredths, "1") { cent } else { cents });
        let of_units = || format!("{} {}", number(whole, ""), if one(whole, "1") { unit } else { units });
        match (one(whole, ""), hundredths.is_empty()) {
            (true, false) => self.words(&of_cents()),
            (_, true) => self.words(&of_units()),
            (false, false) => self.words(&format!("{} and {}", of_units(), of_cents())),
        }
        1
    }

    /// Reads a token that begins with a number; none when it is not one.
    fn numeral(&mut self, sign: &str, body: &str, next: &str) -> Option<usize> {
        let (whole, decimals, rest) = leading_number(body)?;
        self.words(sign);
        let lower = rest.to_lowercase();
        let is_one = whole == "1" && decimals.is_empty();
        match lower.as_str() {
            "" => {
                let unit = UNITS.iter().find(|(short, _, _)| *short == next.to_lowercase() && *short != "m" && *short != "g");
                let counted = unit.is_some() || MAGNITUDES.contains(&next);
                let plain = decimals.is_empty() && !counted && sign.is_empty();
                self.words(&if plain { number_or_year(&whole, body) } else { number(&whole, decimals) });
                if let Some((_, one, many)) = unit {
                    self.words(if is_one { one } else { many });
                    return Some(2);
                }
                return Some(1 + usize::from(self.half_of_day(next)));
            }
            "%" => self.words(&format!("{} percent", number(&whole, decimals))),
            "st" | "nd" | "rd" | "th" if decimals.is_empty() => self.words(&ordinal(&whole, PLAIN)),
            "s" | "'s" if decimals.is_empty() => self.words(&plural(&number_or_year(&whole, &whole))),
            "am" | "pm" if decimals.is_empty() => {
                self.words(&number(&whole, ""));
                self.letters(&lower);
            }
            "k" | "bn" => {
                let magnitude = if lower == "k" { "thousand" } else { "billion" };
                self.words(&format!("{} {magnitude}", number(&whole, decimals)));
            }
            _ => {
                if let Some((_, one, many)) = UNITS.iter().find(|(short, _, _)| *short == lower) {
                    self.words(&format!("{} {}", number(&whole, decimals), if is_one { one } else { many }));
                } else if decimals.is_empty() && self.time(&whole, &lower, next) {
                    return Some(1 + usize::from(self.half_of_day(next)));
                } else {
                    self.compound(&whole, decimals, body, rest);
                }
            }
        }
        Some(1)
    }

    /// Reads `am` or `pm` behind a time; false when it is something else.
    fn half_of_day(&mut self, next: &str) -> bool {
        let is_half = matches!(next, "am" | "pm" | "AM" | "PM");
        if is_half {
            self.letters(next);
        }
        is_half
    }

    /// Reads a time of day, `rest` being all behind the hours; false when it is none.
    fn time(&mut self, hours: &str, rest: &str, next: &str) -> bool {
        let Some(rest) = rest.strip_prefix(':').filter(|rest| rest.is_char_boundary(2) && rest.len() >= 2) else { return false };
        let (minutes, rest) = rest.split_at(2);
        let below = |text: &str, limit: u32| text.parse::<u32>().is_ok_and(|number| number < limit);
        if hours.len() > 2 || !below(hours, 25) || !below(minutes, 60) {
            return false;
        }
        let (seconds, half) = match rest.strip_prefix(':') {
            Some(rest) if rest.len() >= 2 && rest.is_char_boundary(2) && below(&rest[..2], 60) => rest.split_at(2),
            _ => ("", rest),
        };
        if !matches!(half, "" | "am" | "pm" | "a.m" | "p.m") {
            return false;
        }
        self.words(&cardinal(hours, PLAIN));
        match minutes {
            "00" if !seconds.is_empty() => self.words("zero minutes"),
            "00" if half.is_empty() && !matches!(next, "am" | "pm" | "AM" | "PM") => self.words("o'clock"),
            "00" => {}
            _ if minutes.starts_with('0') => self.words(&format!("oh {}", cardinal(minutes, PLAIN))),
            _ => self.words(&cardinal(minutes, PLAIN)),
        }
        if !seconds.is_empty() {
            self.words(&format!("and {} seconds", cardinal(seconds, PLAIN)));
        }
        self.letters(&half.replace('.', ""));
        true
    }

    /// Reads a number with something else behind it: a fraction, a range, a date, a mixture of letters and digits.
    fn compound(&mut self, whole: &str, decimals: &str, body: &str, rest: &str) {
        let separator = rest.chars().next().unwrap_or(' ');
        let following = leading_number(&rest[separator.len_utf8()..]);
        let first = body.len() - rest.len();
        match (separator, following) {
            ('/' | '\u{2044}', Some((below, "", ""))) if decimals.is_empty() => {
                let count = cardinal(whole, PLAIN);
                let many = whole != "1";
                match below.as_str() {
                    "2" => self.words(&format!("{count} {}", if many { "halves" } else { "half" })),
                    "4" => self.words(&format!("{count} {}", if many { "quarters" } else { "quarter" })),
                    "3" | "5" | "6" | "7" | "8" | "9" | "10" => {
                        let part = ordinal(&below, PLAIN);
                        self.words(&format!("{count} {part}{}", if many { "s" } else { "" }));
                    }
                    _ => self.words(&format!("{count} over {}", cardinal(&below, PLAIN))),
                }
            }
            ('-', Some((to, to_decimals, ""))) => {
                self.words(&if decimals.is_empty() { number_or_year(whole, &body[..first]) } else { number(whole, decimals) });
                let rising = matches!((whole.parse::<u64>(), to.parse::<u64>()), (Ok(a), Ok(b)) if a < b);
                if rising {
                    self.words("to");
                }
                self.words(&if to_decimals.is_empty() { number_or_year(&to, &to) } else { number(&to, to_decimals) });
            }
            ('x' | '\u{d7}', Some((by, by_decimals, ""))) => {
                self.words(&format!("{} by {}", number(whole, decimals), number(&by, by_decimals)));
            }
            _ => {
                self.words(&if decimals.is_empty() { number_or_year(whole, &body[..first]) } else { number(whole, decimals) });
                self.word(rest);
            }
        }
    }

    /// Reads a token that is no number: words joined by hyphens, capitals, mixtures, addresses.
    fn word(&mut self, body: &str) {
        let mixed = body.contains(|c: char| c.is_ascii_digit());
        let address = body.contains("://") || body.contains("www.") || (body.contains('@') && body.contains('.'));
        let mut run = String::new();
        let mut rest = body.chars().peekable();
        while let Some(c) = rest.next() {
            if c.is_alphabetic() || is_combining_mark(c) || c == '\'' {
                run.push(c);
                continue;
            }
            self.run(&std::mem::take(&mut run), mixed);
            if c.is_ascii_digit() {
                let mut digits = String::from(c);
                while let Some(digit) = rest.next_if(char::is_ascii_digit) {
                    digits.push(digit);
                }
                self.words(&number(&digits, ""));
            } else if address && matches!(c, '.' | '/' | '_') {
                self.words(match c {
                    '.' => "dot",
                    '/' => "slash",
                    _ => "underscore",
                });
            } else if let Some((_, word)) = SYMBOLS.iter().find(|(symbol, _)| *symbol == c) {
                self.words(word);
            } else if let Some((_, names)) = CURRENCIES.iter().find(|(sign, _)| *sign == c) {
                self.words(names[1]);
            } else if matches!(c, ':' | ';' | ',') && rest.peek().is_some() && !address {
                self.pause(c);
            } else if !matches!(
                c,
                '-' | '/' | '.' | '_' | '"' | '~' | '*' | '(' | ')' | '[' | ']' | '{' | '}' | ',' | ':' | '!' | '?' | ';'
            ) {
                self.out.unread.push(c);
            }
        }
        self.run(&run, mixed);
    }

    /// Reads a run of letters, `mixed` with digits.
    fn run(&mut self, run: &str, mixed: bool) {
        let run = run.trim_matches('\'').to_owned() + if run.len() > 1 && run.ends_with("s'") { "'" } else { "" };
        if run.is_empty() {
            return;
        }
        // Accents go, as the dictionary has none.
        let folded: String = run.nfd().filter(|&c| !is_combining_mark(c)).collect();
        let (stem, ending) = folded.strip_suffix("'s").map_or((folded.as_str(), ""), |stem| (stem, "'s"));
        let lower = folded.to_lowercase();
        let all_capitals = stem.len() > 1 && stem.chars().all(|c| c.is_ascii_uppercase());
        let listed = self.lexicon.contains(&stem.to_lowercase());
        let plural = stem.len() > 2 && stem.ends_with('s') && stem[..stem.len() - 1].chars().all(|c| c.is_ascii_uppercase());
        let spelled = SPELLED.contains(&stem.to_lowercase().as_str());
        let short = mixed && folded.len() <= 3 && folded.chars().all(|c| c.is_ascii_uppercase());
        if short || folded == "www" {
            self.letters(&folded);
        } else if self.capitals && all_capitals && (spelled || !listed) {
            self.letters(stem);
            if !ending.is_empty() {
                self.join_s();
            }
        } else if self.capitals && plural && !listed {
            self.letters(&stem[..stem.len() - 1]);
            self.join_s();
        } else {
            self.out.tokens.push(Token::Word(lower));
        }
    }

    /// Turns the last spelled letter into a word with `'s`: the plural and genitive of `TV`.
    fn join_s(&mut self) {
        if let Some(Token::Letter(letter)) = self.out.tokens.pop() {
            self.out.tokens.push(Token::Word(format!("{letter}.'s")));
        }
    }
}

/// True for letters with a point between each two: `U.S`.
fn is_dotted(body: &str) -> bool {
    let mut parts = body.split('.');
    body.contains('.') && parts.all(|part| part.len() == 1 && part.bytes().all(|b| b.is_ascii_alphabetic()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let lexicon = Lexicon::parse("NASA N AE1 S AH0\nUS AH1 S\nIT IH1 T\nNO N OW1\n").unwrap();
        assert_eq!(spoken(text, &lexicon).to_string(), expected);
    }

    #[test]
    fn numbers_are_read_by_their_kind() {
        check("It is 10,000 miles.", "it is ten thousand miles.");
        check("1,234,567 people", "one million two hundred thirty four thousand five hundred sixty seven people");
        check("0.5 and 3.14159", "zero point five and three point one four one five nine");
        check("He came 1st, 23rd or 101st.", "he came first, twenty third or one hundred first.");
        check(
            "1905, 1900, 2007, 2010 and 3000",
            "nineteen oh five, nineteen hundred, two thousand seven, twenty ten and three thousand",
        );
        check("the 1990s and '90s", "the nineteen nineties and nineties");
        check("agent 007 at -5 degrees", "agent zero zero seven at minus five degrees");
        check("1/2, 3/4 and 2/3 of 7-8", "one half, three quarters and two thirds of seven to eight");
        check("1500 km, 1 km and 5km", "one thousand five hundred kilometers, one kilometer and five kilometers");
    }

    #[test]
    fn money_times_and_percent_are_read_out() {
        check("$3.50 for $1 or $0.01", "three dollars and fifty cents for one dollar or one cent");
        check("\u{a3}20 and \u{20ac}1,000.25", "twenty pounds and one thousand euros and twenty five cents");
        check("$3.5 million, 100%.", "three point five million dollars, one hundred percent.");
        check("at 3:05 pm, 12:30 or 7:00", "at three oh five P M, twelve thirty or seven o'clock");
        check("7:45pm, 9 a.m. today", "seven forty five P M, nine A M today");
    }

    #[test]
    fn abbreviations_and_acronyms_are_told_apart() {
        check("Dr. Smith vs. Mrs. Jones, St. John's, Main St.", "doctor smith versus missus jones, saint john's, main street.");
        check("the U.S. Army, the US, NASA, BBC and TVs", "the U S army, the U S, nasa, B B C and T v.'s");
        check("No. 7, please. No.", "number seven, please. no.");
        check("IT IS THE BBC", "it is the bbc");
        check("an MP3, B2B", "an M P three, B two B");
    }

    #[test]
    fn marks_become_pauses_and_nothing_is_lost() {
        check("Well \u{2014} \u{201c}yes\u{201d} (no)\u{2026} go!", "well - yes, no. go!");
        check("na\u{ef}ve caf\u{e9} d\u{e9}j\u{e0} vu", "naive cafe deja vu");
        check("it's   a\ttest; rock&roll", "it's a test; rock and roll");
        check("see www.example.com/a", "see W W W dot example dot com slash a");
        let lexicon = Lexicon::parse("A AH0\n").unwrap();
        let found = spoken("a \u{2603} \u{4e2d}", &lexicon);
        assert_eq!(found.unread, ['\u{2603}']);
        assert_eq!(found.tokens.last(), Some(&Token::Word("\u{4e2d}".to_owned())));
        assert!(spoken("...", &lexicon).tokens.is_empty() && spoken("", &lexicon).tokens.is_empty());
    }
}
