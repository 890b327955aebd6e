//! Text from elsewhere, made safe to show.

use std::borrow::Cow;

/// Returns a text in which control characters, except line feed and tab, are escapes such as `\u{1b}`: what a worker or a file
/// says must not move the cursor of a terminal or change its title.
pub fn printable(text: &str) -> Cow<'_, str> {
    let bad = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(bad) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if bad(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_as_escapes() {
        assert_eq!(printable("\u{1b}]0;title\u{7} é\tüber\r\u{9b}2J\nend"), "\\u{1b}]0;title\\u{7} é\tüber\\r\\u{9b}2J\nend");
        assert!(matches!(printable("plain"), Cow::Borrowed("plain")));
    }
}
