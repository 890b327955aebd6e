//! Lines of the two label files of a dialog.

/// One turn of a dialog.
#[derive(Debug, PartialEq)]
pub(super) struct Turn<'a> {
    pub(super) id: &'a str,
    /// `F` or `M`.
    pub(super) actor: char,
    pub(super) emotion: &'a str,
    /// Valence, activation, dominance.
    pub(super) ratings: [&'a str; 3],
    pub(super) duration_ms: Option<u64>,
}

/// A turn of a label file: `None` for lines that are about something else. Errors: a reason to skip it.
pub(super) fn parse_turn(line: &str) -> Option<Result<Turn<'_>, String>> {
    let line = line.trim();
    if !line.starts_with('[') || line.contains("START_TIME") {
        return None;
    }
    Some(read_turn(line))
}

fn read_turn(line: &str) -> Result<Turn<'_>, String> {
    let fields: Vec<&str> = line.split('\t').map(str::trim).collect();
    let [times, id, emotion, ratings] = fields[..] else { return Err(format!("{} fields, expected 4", fields.len())) };
    let inside = |text: &'static str, field: &str| Err(format!("`{field}` is not {text}"));
    let Some(times) = brackets(times) else { return inside("two times in brackets", times) };
    let Some(ratings) = brackets(ratings) else { return inside("three ratings in brackets", ratings) };
    let mut parts = ratings.splitn(3, ',').map(str::trim);
    let ratings = [(); 3].map(|()| parts.next().unwrap_or_default());
    let actor = id.rsplit('_').next().and_then(|turn| turn.chars().next());
    match actor {
        Some(actor @ ('F' | 'M')) if !id.contains('/') => Ok(Turn { id, actor, emotion, ratings, duration_ms: duration(times) }),
        _ => Err(format!("turn `{id}` does not end in `_F<number>` or `_M<number>`")),
    }
}

fn brackets(field: &str) -> Option<&str> {
    field.strip_prefix('[')?.strip_suffix(']')
}

/// Milliseconds between `6.2901 - 8.2357`.
fn duration(times: &str) -> Option<u64> {
    let (start, end) = times.split_once('-')?;
    let secs = end.trim().parse::<f64>().ok()? - start.trim().parse::<f64>().ok()?;
    (0.0..1e6).contains(&secs).then(|| (secs * 1e3).round() as u64)
}

/// The turn and the text of `Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.`
pub(super) fn parse_transcript(line: &str) -> Option<(&str, &str)> {
    let (id, rest) = line.trim().split_once(" [")?;
    let (_, text) = rest.split_once("]:")?;
    Some((id.trim(), text.trim())).filter(|(id, text)| !id.contains(' ') && !text.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn turns_are_read_and_other_lines_passed_over() {
        let line = "[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 1.5000, 3.0000]";
        let ratings = ["2.5000", "1.5000", "3.0000"];
        let turn = Turn { id: "Ses01F_impro01_F000", actor: 'F', emotion: "neu", ratings, duration_ms: Some(1_946) };
        assert_eq!(parse_turn(line), Some(Ok(turn)));
        for other in
            ["", "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", "[START_TIME - END_TIME] TURN_NAME", "C-E2:\tNeutral;"]
        {
            assert_eq!(parse_turn(other), None);
        }
        let error = |line| parse_turn(line).unwrap().unwrap_err();
        assert_eq!(error("[1 - 2]\tx"), "2 fields, expected 4");
        assert_eq!(error("[1 - 2]\tSes01\tneu\t[1, 2, 3]"), "turn `Ses01` does not end in `_F<number>` or `_M<number>`");
        assert_eq!(error("[1 - 2\tSes01_F0\tneu\t[1, 2, 3]"), "`[1 - 2` is not two times in brackets");
    }

    #[test]
    fn transcripts_are_read() {
        let line = "Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me. [LAUGHTER]";
        assert_eq!(parse_transcript(line), Some(("Ses01F_impro01_F000", "Excuse me. [LAUGHTER]")));
        assert_eq!(parse_transcript("M: What?"), None);
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line in "\\[[0-9. -]{0,9}\\]\t[SFM_0-9]{0,9}\t[a-z]{0,3}\t\\[[0-9., ]{0,9}\\]?|\\PC{0,60}") {
            let _ = parse_turn(&line);
            parse_transcript(&line);
        }
    }
}
