//! English number words.

const SMALL: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 10] = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
const GROUPS: [&str; 12] = [
    "",
    "thousand",
    "million",
    "billion",
    "trillion",
    "quadrillion",
    "quintillion",
    "sextillion",
    "septillion",
    "octillion",
    "nonillion",
    "decillion",
];
/// Ordinals that are not the cardinal and `th`.
const ORDINALS: [(&str, &str); 7] = [
    ("one", "first"),
    ("two", "second"),
    ("three", "third"),
    ("five", "fifth"),
    ("eight", "eighth"),
    ("nine", "ninth"),
    ("twelve", "twelfth"),
];

/// Separators of the words of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Between hundreds and the rest: a space, or ` and `.
    pub hundred: &'static str,
    /// Between groups of three digits.
    pub group: &'static str,
    /// Between the last two groups where the last is below one hundred.
    pub last: &'static str,
}

/// Plain words: `one million two hundred thirty four thousand five hundred sixty seven`.
pub const PLAIN: Style = Style { hundred: " ", group: " ", last: " " };

/// Words of a number below one hundred.
fn tens(number: u32) -> String {
    match number {
        0..20 => SMALL[number as usize].to_owned(),
        _ if number.is_multiple_of(10) => TENS[number as usize / 10].to_owned(),
        _ => format!("{}-{}", TENS[number as usize / 10], SMALL[number as usize % 10]),
    }
}

/// Words of a number below one thousand.
fn hundreds(number: u32, style: Style) -> String {
    match (number / 100, number % 100) {
        (0, rest) => tens(rest),
        (hundreds, 0) => format!("{} hundred", SMALL[hundreds as usize]),
        (hundreds, rest) => format!("{} hundred{}{}", SMALL[hundreds as usize], style.hundred, tens(rest)),
    }
}

/// Words of a whole number of ASCII digits. One of more than 36 digits is read digit by digit.
pub fn cardinal(digits: &str, style: Style) -> String {
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return SMALL[0].to_owned();
    }
    if digits.len() > 3 * GROUPS.len() {
        return one_by_one(digits);
    }
    let mut groups = Vec::new();
    let mut rest = digits;
    while !rest.is_empty() {
        let (before, group) = rest.split_at(rest.len().saturating_sub(3));
        groups.push(group.parse::<u32>().unwrap_or(0));
        rest = before;
    }
    let spoken: Vec<(usize, u32)> = groups.into_iter().enumerate().filter(|(_, group)| *group > 0).rev().collect();
    let mut text = String::new();
    for (at, &(power, group)) in spoken.iter().enumerate() {
        if at > 0 {
            text += if power == 0 && group < 100 { style.last } else { style.group };
        }
        text += &hundreds(group, style);
        if power > 0 {
            text.push(' ');
            text += GROUPS[power];
        }
    }
    text
}

/// Words of a number with its last word as an ordinal: `twenty-third`, `one thousandth`.
pub fn ordinal(digits: &str, style: Style) -> String {
    let words = cardinal(digits, style);
    let (before, last) = words.split_at(words.rfind([' ', '-']).map_or(0, |at| at + 1));
    let last = match ORDINALS.iter().find(|(cardinal, _)| *cardinal == last) {
        Some((_, ordinal)) => (*ordinal).to_owned(),
        None => match last.strip_suffix('y') {
            Some(stem) => format!("{stem}ieth"),
            None => format!("{last}th"),
        },
    };
    format!("{before}{last}")
}

/// Digits one after the other.
pub fn one_by_one(digits: &str) -> String {
    let words: Vec<&str> = digits.chars().filter_map(|c| c.to_digit(10)).map(|digit| SMALL[digit as usize]).collect();
    words.join(" ")
}

/// Words of a year of four digits: in pairs, except 2000 to 2009.
pub fn year(number: u32) -> String {
    match (number / 100, number % 100) {
        (20, 0..10) => cardinal(&number.to_string(), PLAIN),
        (century, 0) => format!("{} hundred", tens(century)),
        (century, rest @ 1..10) => format!("{} oh {}", tens(century), tens(rest)),
        (century, rest) => format!("{} {}", tens(century), tens(rest)),
    }
}

/// Plural of a number word: `nineties`, `hundreds`, `sixes`.
pub fn plural(words: &str) -> String {
    match words {
        _ if words.ends_with('y') => format!("{}ies", &words[..words.len() - 1]),
        _ if words.ends_with('x') => format!("{words}es"),
        _ => format!("{words}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_words() {
        for (digits, words) in [
            ("0", "zero"),
            ("007", "seven"),
            ("13", "thirteen"),
            ("40", "forty"),
            ("100", "one hundred"),
            ("1000000", "one million"),
            ("1234567", "one million two hundred thirty-four thousand five hundred sixty-seven"),
            ("1000001", "one million one"),
        ] {
            assert_eq!(cardinal(digits, PLAIN), words);
        }
        assert_eq!(cardinal(&"9".repeat(40), PLAIN), ["nine"; 40].join(" "));
    }

    #[test]
    fn ordinals_years_and_plurals_have_theirs() {
        for (digits, words) in
            [("1", "first"), ("12", "twelfth"), ("20", "twentieth"), ("83", "eighty-third"), ("100", "one hundredth")]
        {
            assert_eq!(ordinal(digits, PLAIN), words);
        }
        for (number, words) in [
            (1999, "nineteen ninety-nine"),
            (1905, "nineteen oh five"),
            (1900, "nineteen hundred"),
            (2000, "two thousand"),
            (2007, "two thousand seven"),
            (2010, "twenty ten"),
        ] {
            assert_eq!(year(number), words);
        }
        assert_eq!([plural("ninety"), plural("nineteen hundred"), plural("six")], ["nineties", "nineteen hundreds", "sixes"]);
    }
}
