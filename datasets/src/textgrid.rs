//! Annotations in Praat's text format, long or short.
//!
//! ```text
//! File type = "ooTextFile"
//! Object class = "TextGrid"
//! xmin = 0
//! ...
//!         intervals [1]:
//!             xmin = 0
//!             xmax = 0.115
//!             text = "sil"
//! ```
//!
//! Source: the page on the formats of text grids in the Praat manual: what matters are free-standing numbers, quoted texts (a quotation mark is
//! written twice) and flags in angle brackets; everything else is for people, as is what follows a `!`.

use crate::Times;

/// A tier of intervals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tier {
    pub(crate) name: String,
    pub(crate) intervals: Vec<(Times, String)>,
}

/// The interval tiers of a file. Errors: what was expected where.
pub(crate) fn parse(text: &str) -> Result<Vec<Tier>, String> {
    let mut values = Values { rest: text, line: 1 };
    for expected in ["ooTextFile", "TextGrid"] {
        let found = values.text("the kind of file")?;
        if found != expected {
            return Err(format!("line {}: expected `{expected}`, found `{}`", values.line, found.escape_default()));
        }
    }
    let _times = (values.number("the beginning")?, values.number("the end")?);
    let mut tiers = Vec::new();
    for _ in 0..values.count("the number of tiers")? {
        let class = values.text("the class of a tier")?;
        let is_points = match class.as_str() {
            "IntervalTier" => false,
            "TextTier" => true,
            _ => return Err(format!("line {}: unknown class of tier `{}`", values.line, class.escape_default())),
        };
        let name = values.text("the name of a tier")?;
        let _times = (values.number("the beginning of a tier")?, values.number("the end of a tier")?);
        let count = values.count("the number of intervals")?;
        let mut intervals = Vec::new();
        for _ in 0..count {
            let start_us = values.micros("the beginning of an interval")?;
            let end_us = if is_points { start_us } else { values.micros("the end of an interval")? };
            if end_us < start_us {
                return Err(format!("line {}: an interval that ends before it begins", values.line));
            }
            intervals.push((Times { start_us, end_us }, values.text("the text of an interval")?));
        }
        if !is_points {
            tiers.push(Tier { name, intervals });
        }
    }
    Ok(tiers)
}

/// Nothing that is annotated lasts longer than a year.
const MOST_SECS: f64 = 3.2e7;

/// The values of a file, one after the other.
struct Values<'a> {
    rest: &'a str,
    line: usize,
}

enum Value {
    Text(String),
    Number(f64),
}

impl Values<'_> {
    fn text(&mut self, what: &str) -> Result<String, String> {
        match self.next() {
            Some(Value::Text(text)) => Ok(text),
            Some(Value::Number(number)) => Err(format!("line {}: expected {what}, found the number {number}", self.line)),
            None => Err(format!("ends before {what}")),
        }
    }

    fn number(&mut self, what: &str) -> Result<f64, String> {
        match self.next() {
            Some(Value::Number(number)) => Ok(number),
            Some(Value::Text(text)) => Err(format!("line {}: expected {what}, found `{}`", self.line, text.escape_default())),
            None => Err(format!("ends before {what}")),
        }
    }

    /// A time in seconds, as microseconds.
    fn micros(&mut self, what: &str) -> Result<u64, String> {
        let secs = self.number(what)?;
        if (0.0..MOST_SECS).contains(&secs) {
            Ok((secs * 1e6).round() as u64)
        } else {
            Err(format!("line {}: {what} is at {secs} s", self.line))
        }
    }

    fn count(&mut self, what: &str) -> Result<u64, String> {
        let number = self.number(what)?;
        if number >= 0.0 && number.fract() == 0.0 {
            Ok(number as u64)
        } else {
            Err(format!("line {}: {what} is {number}", self.line))
        }
    }

    fn next(&mut self) -> Option<Value> {
        loop {
            let word_start = self.rest.trim_start();
            self.skip(self.rest.len() - word_start.len());
            let first = self.rest.chars().next()?;
            if first == '"' {
                return self.quoted().map(Value::Text);
            }
            if first == '!' {
                self.skip(self.rest.find('\n').unwrap_or(self.rest.len()));
                continue;
            }
            let len = self.rest.find(char::is_whitespace).unwrap_or(self.rest.len());
            let word = &self.rest[..len];
            // `inf` and `nan` are numbers to Rust and none to Praat.
            let is_number = first.is_ascii_digit() || ['-', '+', '.'].contains(&first);
            let number = word.parse::<f64>().ok().filter(|_| is_number);
            self.skip(len);
            if let Some(number) = number {
                return Some(Value::Number(number));
            }
        }
    }

    /// A text up to a quotation mark that is not followed by another.
    fn quoted(&mut self) -> Option<String> {
        let mut text = String::new();
        let mut letters = self.rest.char_indices().skip(1).peekable();
        while let Some((at, letter)) = letters.next() {
            if letter != '"' {
                text.push(letter);
            } else if letters.next_if(|(_, next)| *next == '"').is_some() {
                text.push('"');
            } else {
                self.skip(at + 1);
                return Some(text);
            }
        }
        self.skip(self.rest.len());
        None
    }

    fn skip(&mut self, len: usize) {
        let (passed, rest) = self.rest.split_at(len);
        self.line += passed.matches('\n').count();
        self.rest = rest;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LONG: &str = r#"File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0 
xmax = 0.5 
tiers? <exists> 
size = 2 
item []: 
    item [1]:
        class = "IntervalTier" 
        name = "words" 
        xmin = 0 
        xmax = 0.5 
        intervals: size = 2 
        intervals [1]:
            xmin = 0 
            xmax = 0.115 
            text = "say ""no""" 
        intervals [2]:
            xmin = 0.115 
            xmax = 0.5 
            text = "" 
    item [2]:
        class = "TextTier" 
        name = "points" 
        xmin = 0 
        xmax = 0.5 
        points: size = 1 
        points [1]:
            number = 0.2 
            mark = "x" 
"#;
    const SHORT: &str = "File type = \"ooTextFile\"\nObject class = \"TextGrid\"\n\n0\n0.5 ! the end\n<exists>\n1\n\"IntervalTier\"\n\"words\"\n0\n0.5\n2\n0\n0.115\n\"say \"\"no\"\"\"\n0.115\n0.5\n\"\"\n";

    #[test]
    fn long_and_short_form_say_the_same() {
        let times = |start_us, end_us| Times { start_us, end_us };
        let intervals = vec![(times(0, 115_000), "say \"no\"".to_owned()), (times(115_000, 500_000), String::new())];
        let expected = vec![Tier { name: "words".to_owned(), intervals }];
        assert_eq!(parse(LONG).unwrap(), expected);
        assert_eq!(parse(SHORT).unwrap(), expected);
    }

    #[test]
    fn damage_is_named_with_its_line() {
        let check = |from: &str, to: &str, message: &str| assert_eq!(parse(&LONG.replacen(from, to, 1)).unwrap_err(), message);
        check("TextGrid", "Pitch", "line 2: expected `TextGrid`, found `Pitch`");
        check("\"IntervalTier\"", "\"Tier\"", "line 10: unknown class of tier `Tier`");
        check("xmax = 0.115", "xmax = \"0.115\"", "line 17: expected the end of an interval, found `0.115`");
        check("xmin = 0.115", "xmin = 0.6", "line 21: an interval that ends before it begins");
        check("xmax = 0.115", "xmax = -1", "line 17: the end of an interval is at -1 s");
        check(
            "size = 2 \n        intervals [1]",
            "size = 1e18\n        intervals [1]",
            "line 24: expected the beginning of an interval, found `TextTier`",
        );
        let cut = LONG.find("text =").unwrap();
        assert_eq!(parse(&LONG[..cut]).unwrap_err(), "ends before the text of an interval");
        assert_eq!(parse("").unwrap_err(), "ends before the kind of file");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,80}", at in 0_usize..LONG.len(), cut in 0_usize..LONG.len()) {
            let _ = parse(&text);
            let mut damaged = LONG.to_owned();
            damaged.insert_str(at, &text);
            let _ = parse(&damaged);
            let _ = parse(&LONG[..cut]);
        }
    }
}
