//! Quotation marks of a CSV table: those that RFC 4180 does not allow are errors, so that no row disappears in another.

/// Returns the fields that continue in the next line because of an open quotation mark, with their lines.
///
/// Errors: line and problem of a quotation mark that is not closed or not where it should be.
pub(super) fn check(text: &str, delimiter: u8) -> Result<Vec<(u64, String)>, (u64, String)> {
    let bytes = text.as_bytes();
    let mut warnings = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        // One field, from its first byte to the delimiter or line end behind it.
        let spaces = bytes[at..].iter().take_while(|&&byte| byte == b' ').count();
        if bytes.get(at + spaces) != Some(&b'"') {
            let len = bytes[at..].iter().take_while(|&&byte| byte != delimiter && byte != b'\n').count();
            line += u64::from(bytes.get(at + len) == Some(&b'\n'));
            at += len + 1;
            continue;
        }
        if spaces > 0 {
            return Err((
                line,
                "a space before a quotation mark: write `\"a\",\"b\"` without spaces around the comma".to_owned(),
            ));
        }
        let opened = line;
        at += 1;
        loop {
            match bytes.get(at) {
                None => {
                    return Err((
                        opened,
                        "the quotation mark is not closed; one within a quoted value is written twice: `\"\"`".to_owned(),
                    ));
                }
                Some(b'"') if bytes.get(at + 1) == Some(&b'"') => at += 2,
                Some(b'"') => break,
                Some(&byte) => {
                    line += u64::from(byte == b'\n');
                    at += 1;
                }
            }
        }
        at += 1;
        if line > opened {
            warnings.push((opened, format!("a quoted value goes on until line {line}")));
        }
        match &bytes[at..] {
            [] => {}
            [b'\r', b'\n', ..] => (at, line) = (at + 2, line + 1),
            [b'\n', ..] => (at, line) = (at + 1, line + 1),
            [byte, ..] if *byte == delimiter => at += 1,
            [byte, ..] => {
                let problem =
                    if *byte == b' ' { "a space after a quotation mark" } else { "text after the closing quotation mark" };
                let opened = if line > opened { format!(" of line {opened}") } else { String::new() };
                return Err((
                    line,
                    format!("{problem}{opened}: a quoted value ends with its mark, and one within it is written twice"),
                ));
            }
        }
    }
    Ok(warnings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_text(text: &str, expected: Result<&[u64], (u64, &str)>) {
        match (check(text, b','), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found.into_iter().map(|warning| warning.0).collect::<Vec<_>>(), expected),
            (Err((line, problem)), Err((expected, start))) => {
                assert!(line == expected && problem.starts_with(start), "{line}: {problem}");
            }
            (found, _) => panic!("{found:?}"),
        }
    }

    #[test]
    fn quotation_marks_that_hide_rows_are_named_with_their_line() {
        check_text("a,b\n\"x, \"\"y\"\"\",z\r\n,\"\"\n5\" nail,q", Ok(&[]));
        check_text("a,b\nx,\"two\nlines\"\ny,z\n", Ok(&[2]));
        check_text("a,b\nx,\"hello\nb,good\nc,bye\n", Err((2, "the quotation mark is not closed")));
        check_text("a,b\nx,\"hello\nb,\"good\"\n", Err((3, "text after the closing quotation mark of line 2")));
        check_text("\"path\" , \"label\"\n", Err((1, "a space after a quotation mark")));
        check_text("path, \"label\"\n", Err((1, "a space before a quotation mark")));
    }
}
