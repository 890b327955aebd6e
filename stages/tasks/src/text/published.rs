//! English text cleaning as most published synthesisers do it, faults included.
//!
//! Rules: transliteration to ASCII, lower case, numbers to words, a few abbreviations, single spaces (one at either end stays).
//! Known faults, kept so that published models get the text they were trained on: `£20` becomes `pstwenty`, `Mrs.` becomes
//! `misess`, and the digits after a decimal point are read as one number.
//! Source: behaviour of `english_cleaners` in ming024/FastSpeech2, as the reference pairs `tts/text_cleaning` record it.

use super::numbers::{Style, cardinal, ordinal, year};

/// Words as the published number library writes them: a comma stands in front of a group of several words only.
const COMMAS: Style = Style { hundred: " ", group: ", ", last: " " };
const AND: Style = Style { hundred: " and ", group: ", ", last: " and " };

const ABBREVIATIONS: [(&str, &str); 18] = [
    ("mrs", "misess"),
    ("mr", "mister"),
    ("dr", "doctor"),
    ("st", "saint"),
    ("co", "company"),
    ("jr", "junior"),
    ("maj", "major"),
    ("gen", "general"),
    ("drs", "doctors"),
    ("rev", "reverend"),
    ("lt", "lieutenant"),
    ("hon", "honorable"),
    ("sgt", "sergeant"),
    ("capt", "captain"),
    ("esq", "esquire"),
    ("ltd", "limited"),
    ("col", "colonel"),
    ("ft", "fort"),
];

/// Returns `text` as the published cleaners write it.
pub fn clean(text: &str) -> String {
    let ascii = unidecode::unidecode(text).to_lowercase();
    let numbers = numbers(&dollars(&without_commas(&ascii)));
    map_runs(&abbreviations(&numbers), char::is_whitespace, |_, _| " ".to_owned())
}

/// Calls `change` for every longest run of characters that `inside` accepts, and joins the results with what is between.
fn map_runs(text: &str, inside: impl Fn(char) -> bool, change: impl Fn(&str, &str) -> String) -> String {
    let mut out = String::new();
    let mut at = 0;
    while at < text.len() {
        let from = text[at..].find(&inside).map_or(text.len(), |found| at + found);
        let to = text[from..].find(|c| !inside(c)).map_or(text.len(), |found| from + found);
        out += &text[at..from];
        if from < to {
            out += &change(&text[from..to], &text[to..]);
        }
        at = to;
    }
    out
}

/// Takes the commas out of digits: from a digit to the last digit of a run of digits and commas.
fn without_commas(text: &str) -> String {
    map_runs(
        text,
        |c| c.is_ascii_digit() || c == ',',
        |run, _| {
            let start = run.find(|c: char| c.is_ascii_digit()).unwrap_or(run.len());
            let end = run.rfind(|c: char| c.is_ascii_digit()).map_or(start, |at| at + 1);
            format!("{}{}{}", &run[..start], run[start..end].replace(',', ""), &run[end..])
        },
    )
}

/// Amounts of dollars behind their sign.
fn dollars(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out += &rest[..at];
        rest = &rest[at + 1..];
        let run = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ',')).unwrap_or(rest.len());
        let Some(end) = rest[..run].rfind(|c: char| c.is_ascii_digit()).map(|at| at + 1) else {
            out.push('$');
            continue;
        };
        out += &amount(&rest[..end]);
        rest = &rest[end..];
    }
    out + rest
}

fn amount(text: &str) -> String {
    let parts: Vec<&str> = text.split('.').collect();
    let [whole, cents] = match parts[..] {
        [whole] => [whole, ""],
        [whole, cents] => [whole, cents],
        _ => return format!("{text} dollars"),
    };
    let number = |digits: &str| digits.replace(',', "").trim_start_matches('0').to_owned();
    let (whole, cents) = (number(whole), number(cents));
    let unit = |digits: &str, one: &str| format!("{digits} {one}{}", if digits == "1" { "" } else { "s" });
    match (whole.is_empty(), cents.is_empty()) {
        (true, true) => "zero dollars".to_owned(),
        (false, true) => unit(&whole, "dollar"),
        (true, false) => unit(&cents, "cent"),
        (false, false) => format!("{}, {}", unit(&whole, "dollar"), unit(&cents, "cent")),
    }
}

/// Numbers, decimal points between digits, and ordinals.
fn numbers(text: &str) -> String {
    let is_digit = |c: char| c.is_ascii_digit();
    let pointed = points(text);
    map_runs(
        &pointed,
        |c| c.is_ascii_alphanumeric(),
        |run, _| {
            // A run of letters and digits: digits inside it are read where they are.
            let mut out = String::new();
            let mut rest = run;
            while !rest.is_empty() {
                let (before, found) = rest.split_at(rest.find(is_digit).unwrap_or(rest.len()));
                let (digits, after) = found.split_at(found.find(|c| !is_digit(c)).unwrap_or(found.len()));
                out += before;
                rest = after;
                if digits.is_empty() {
                    continue;
                }
                if ["st", "nd", "rd", "th"].iter().any(|ending| after.starts_with(ending)) {
                    out += &ordinal(digits, AND);
                    rest = &after[2..];
                } else {
                    out += &number(digits);
                }
            }
            out
        },
    )
}

/// Decimal points as words. Of `1.2.3` only the first point is one: a number has one point.
fn points(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let digits = |from: usize| rest[from..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |count| from + count);
        let point = digits(at);
        let end = if rest[point..].starts_with('.') { digits(point + 1) } else { point };
        out += &rest[..point];
        if end > point + 1 {
            out += " point ";
            out += &rest[point + 1..end];
            rest = &rest[end..];
        } else {
            rest = &rest[point..];
        }
    }
    out + rest
}

fn number(digits: &str) -> String {
    match digits.parse::<u32>() {
        Ok(number @ 1001..3000) => year(number),
        _ => cardinal(digits, COMMAS),
    }
}

fn abbreviations(text: &str) -> String {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (between, found) = rest.split_at(rest.find(word).unwrap_or(rest.len()));
        let (run, after) = found.split_at(found.find(|c| !word(c)).unwrap_or(found.len()));
        out += between;
        let known = ABBREVIATIONS.iter().find(|(short, _)| *short == run && after.starts_with('.'));
        if let Some((_, long)) = known {
            out += long;
            rest = &after[1..];
        } else {
            out += run;
            rest = after;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that the reference pairs do not contain, as the published cleaners write them.
    #[test]
    fn numbers_are_read_as_the_published_library_reads_them() {
        for (text, expected) in [
            ("3048", "three thousand forty-eight"),
            ("1,005,000", "one million, five thousand"),
            ("1,000,005", "one million five"),
            ("12,345", "twelve thousand, three hundred forty-five"),
            ("3500", "three thousand, five hundred"),
            ("1005th", "one thousand and fifth"),
            ("1.2.3 4.5", "one point two.three four point five"),
            ("1. 2", "one. two"),
            (" a\t5 ", " a five "),
        ] {
            assert_eq!(clean(text), expected, "{text}");
        }
    }
}
