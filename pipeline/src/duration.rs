//! Durations as people write them.

use std::time::Duration;

/// Reads `250ms`, `90s`, `30m`, `2h` or `1d`; returns `None` for anything else and for zero.
pub fn parse(text: &str) -> Option<Duration> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[number.len()..] {
        "ms" => return number.parse().ok().filter(|millis| *millis > 0).map(Duration::from_millis),
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    let secs = number.parse::<u64>().ok()?.checked_mul(unit)?;
    (secs > 0).then(|| Duration::from_secs(secs))
}

/// Writes a duration as a workflow file would.
pub(crate) fn show(duration: Duration) -> String {
    let secs = duration.as_secs();
    match secs {
        _ if duration.subsec_millis() > 0 => format!("{}ms", duration.as_millis()),
        _ if secs.is_multiple_of(86_400) => format!("{}d", secs / 86_400),
        _ if secs.is_multiple_of(3_600) => format!("{}h", secs / 3_600),
        _ if secs.is_multiple_of(60) => format!("{}m", secs / 60),
        _ => format!("{secs}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_back_as_written() {
        for text in ["250ms", "90s", "30m", "2h", "1d"] {
            assert_eq!(parse(text).map(show).as_deref(), Some(text));
        }
        for text in ["", "s", "2", "-1s", "1.5h", "2 h", "0s", "2w", "99999999999999999999s", "9999999999999999999d"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
