//! Slots within a text: `PLAY B-genre ROCK E-genre MUSIC`.

/// A word and the slot whose value it is part of.
pub type Tagged<'a> = (&'a str, Option<&'a str>);

/// Words that are only these marks are left out of targets, as in the benchmark's reference code.
const MARKS: [char; 6] = ['?', '!', '.', ',', ';', '-'];

/// The text with a token before and after every run of words of one slot; spaces between all of them.
pub fn marked<'a>(words: impl Iterator<Item = Tagged<'a>>) -> String {
    let mut pieces: Vec<String> = Vec::new();
    let mut open: Option<&str> = None;
    for (word, slot) in words {
        if word.chars().all(|c| MARKS.contains(&c)) {
            continue;
        }
        if open != slot {
            pieces.extend(open.map(|name| format!("E-{name}")));
            pieces.extend(slot.map(|name| format!("B-{name}")));
            open = slot;
        }
        pieces.push(if word == "&" { "AND".to_owned() } else { word.to_owned() });
    }
    pieces.extend(open.map(|name| format!("E-{name}")));
    pieces.join(" ")
}

/// How many spaces the benchmark's reference code puts between the pieces of a marked text: words are joined with spaces and
/// explicit separators, so that separators repeat.
///
/// Three between words and in front of a slot, two inside its ends, four behind it.
pub fn with_published_separators(marked: &str) -> String {
    let mut text = String::new();
    let mut before: Option<&str> = None;
    for piece in marked.split(' ') {
        let spaces = match before {
            None => 0,
            Some(before) if before.starts_with("B-") || piece.starts_with("E-") => 2,
            Some(before) if before.starts_with("E-") => 4,
            Some(_) => 3,
        };
        text.push_str(&" ".repeat(spaces));
        text.push_str(piece);
        before = Some(piece);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_a_slot_are_wrapped_and_marks_left_out() {
        let words = [
            ("PLAY", None),
            ("ROCK", Some("genre")),
            ("&", Some("genre")),
            ("ROLL", Some("genre")),
            (",", None),
            ("IN", None),
            ("ROME", Some("city")),
            ("ITALY", Some("country")),
        ];
        let text = "PLAY B-genre ROCK AND ROLL E-genre IN B-city ROME E-city B-country ITALY E-country";
        assert_eq!(marked(words.into_iter()), text);
        assert_eq!(marked([("?", None)].into_iter()), "");
        assert_eq!(with_published_separators("PLAY IT B-genre ROCK E-genre NOW"), "PLAY   IT   B-genre  ROCK  E-genre    NOW");
    }
}
