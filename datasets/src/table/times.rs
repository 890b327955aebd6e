//! Stretches of recordings: times as tables write them, and what they mean in samples.

use super::columns::{TimeColumn, Unit};
use crate::{Length, Span};

/// Number of seconds of `1.5`, `1:02.5`, `0:01:02,5`; none if it is no time.
pub(super) fn secs(text: &str) -> Option<f64> {
    let text = text.trim();
    if !text.contains(':') {
        return text.parse().ok().filter(|secs: &f64| secs.is_finite());
    }
    let mut parts = text.split(':').rev();
    let last: f64 = parts.next()?.replace(',', ".").parse().ok()?;
    let mut total = last;
    let mut unit = 60.0;
    for part in parts.by_ref().take(2) {
        total += unit * f64::from(part.parse::<u32>().ok()?);
        unit *= 60.0;
    }
    let is_whole = parts.next().is_none() && (0.0..60.0).contains(&last);
    is_whole.then_some(total)
}

/// True for a number or a clock time.
pub(super) fn is_time(text: &str) -> bool {
    secs(text).is_some()
}

/// True for two times in brackets or with something between them: `[0.5, 1.5]`, `0.5-1.5`.
pub(super) fn is_range(text: &str) -> bool {
    let inner = text.trim().trim_start_matches(['[', '(']).trim_end_matches([']', ')']);
    [", ", ",", "-", "..", ";", " "]
        .iter()
        .any(|between| inner.split_once(between).is_some_and(|(first, second)| is_time(first) && is_time(second.trim())))
}

/// Begin, end and duration of a row, each with its unit, as far as the row has them.
#[derive(Debug, Default)]
pub(super) struct Times<'a> {
    pub(super) start: Vec<(&'a str, Unit)>,
    pub(super) end: Vec<(&'a str, Unit)>,
    pub(super) duration: Vec<(&'a str, Unit)>,
}

/// Stretch of a row, and what should be known of it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Stretch {
    /// All of the recording when absent.
    pub(super) span: Option<Span>,
    pub(super) duration_ms: Option<u64>,
    pub(super) flag: Option<String>,
}

/// A difference between a duration in a table and that of the recording that is rounding.
const ROUNDING_SECS: f64 = 0.05;
const ROUNDING_SHARE: f64 = 0.01;

impl<'a> Times<'a> {
    /// Values of a row that are not empty.
    pub(super) fn of(columns: &[TimeColumn], value: impl Fn(&str) -> Option<&'a str>) -> Vec<(&'a str, Unit)> {
        columns.iter().filter_map(|column| Some((value(&column.name)?, column.unit))).collect()
    }

    /// Stretch in samples. `length` is that of the recording, as far as its header tells.
    ///
    /// Errors: values that are no times, or of which no stretch can be made.
    pub(super) fn stretch(&self, length: Option<Length>) -> Result<Stretch, String> {
        let (starts_and_ends, all) = (self.start.len() + self.end.len(), [&self.start, &self.end, &self.duration]);
        if all.iter().any(|values| values.len() > 1) {
            return Err("a stretch is in seconds or in samples, not in both".to_owned());
        }
        if starts_and_ends == 0 {
            return match self.duration.first() {
                None => Ok(Stretch::default()),
                Some((text, unit)) => duration_alone(text, *unit, length),
            };
        }
        let sample = |value: Option<&(&str, Unit)>| value.map(|(text, unit)| samples(text, *unit, length)).transpose();
        let start = sample(self.start.first())?.unwrap_or(0);
        let end = match (sample(self.end.first())?, sample(self.duration.first())?, length) {
            (Some(end), _, _) => end,
            (None, Some(duration), _) => start.saturating_add(duration),
            (None, None, Some(length)) => length.num_samples,
            (None, None, None) => {
                return Err("a stretch without an end, of a recording whose length its header does not tell".to_owned());
            }
        };
        let mut flag = None;
        let end = match length {
            Some(length) if end > length.num_samples => {
                let over = (end - length.num_samples) as f64 / f64::from(length.sample_rate);
                if over > ROUNDING_SECS {
                    flag = Some(format!("the stretch ends {over:.2} s after the recording"));
                }
                length.num_samples
            }
            _ => end,
        };
        match end.checked_sub(start) {
            Some(num_samples) if num_samples > 0 => {
                Ok(Stretch { span: Some(Span { start, num_samples }), duration_ms: None, flag })
            }
            _ => Err(match length {
                Some(length) => format!("a stretch without samples: the recording lasts {:.3} s", length.secs()),
                None => "a stretch without samples".to_owned(),
            }),
        }
    }
}

/// A duration without a begin: that of the whole recording, or of a stretch at its begin.
fn duration_alone(text: &str, unit: Unit, length: Option<Length>) -> Result<Stretch, String> {
    let Unit::Secs(per_unit) = unit else { return Ok(Stretch::default()) };
    let secs = secs(text).map(|number| number * per_unit).filter(|secs| (0.0..1e9).contains(secs) && *secs > 0.0);
    let secs = secs.ok_or_else(|| format!("`{text}` is not a duration in seconds"))?;
    let whole = Stretch { duration_ms: Some((secs * 1e3).round() as u64), ..Stretch::default() };
    let Some(length) = length else { return Ok(whole) };
    let (lasts, rounding) = (length.secs(), ROUNDING_SECS.max(ROUNDING_SHARE * length.secs()));
    if secs > lasts + rounding {
        return Ok(Stretch { flag: Some(format!("the table has {secs:.2} s, the recording lasts {lasts:.2} s")), ..whole });
    }
    if secs >= lasts - rounding {
        return Ok(whole);
    }
    let num_samples = samples(text, unit, Some(length))?;
    Ok(Stretch { span: Some(Span { start: 0, num_samples }), ..Stretch::default() })
}

/// Nearest sample.
fn samples(text: &str, unit: Unit, length: Option<Length>) -> Result<u64, String> {
    match unit {
        Unit::Samples => {
            let whole = text.strip_suffix(".0").unwrap_or(text);
            whole.parse().map_err(|_| format!("`{text}` is not a number of samples"))
        }
        Unit::Secs(per_unit) => {
            let Some(length) = length else {
                return Err("a stretch in seconds of a recording whose header does not tell its sample rate: \
                            give `start_sample` and `num_samples`"
                    .to_owned());
            };
            let secs = secs(text).map(|number| number * per_unit).filter(|secs| (0.0..1e9).contains(secs));
            let secs = secs.ok_or_else(|| format!("`{text}` is not a time in seconds"))?;
            Ok((secs * f64::from(length.sample_rate)).round() as u64)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Length = Length { sample_rate: 8_000, num_samples: 8_000, is_cut: false };

    #[test]
    fn times_are_numbers_or_clock_times() {
        let cases =
            [("1.5", Some(1.5)), ("1:02.5", Some(62.5)), ("0:01:02,5", Some(62.5)), ("1:75", None), ("a", None), ("nan", None)];
        for (text, expected) in cases {
            assert_eq!(secs(text), expected, "{text}");
        }
        assert!(["[0.5, 1.5]", "0.5-1.5", "(0, 1)", "0:01 0:02"].into_iter().all(is_range));
        assert!(!["0.5", "2020-01-02", "a-b", ""].into_iter().any(is_range));
    }

    #[test]
    fn a_stretch_without_what_its_header_tells_is_refused() {
        let secs = |text| vec![(text, Unit::Secs(1.0))];
        let none = Times { start: secs("0"), end: secs("1"), duration: Vec::new() }.stretch(None).unwrap_err();
        assert!(none.ends_with("give `start_sample` and `num_samples`"), "{none}");
        let over = Times { start: secs("0.5"), end: Vec::new(), duration: secs("0.6") }.stretch(Some(SECOND)).unwrap();
        assert_eq!(over.span, Some(Span { start: 4_000, num_samples: 4_000 }));
        assert_eq!(over.flag.as_deref(), Some("the stretch ends 0.10 s after the recording"));
    }

    #[test]
    fn a_duration_alone_is_the_whole_recording_or_its_begin() {
        let alone = |text| duration_alone(text, Unit::Secs(1.0), Some(SECOND)).unwrap();
        assert_eq!(alone("0.98"), Stretch { duration_ms: Some(980), ..Stretch::default() });
        assert_eq!(alone("0.5").span, Some(Span { start: 0, num_samples: 4_000 }));
        assert_eq!(alone("3").flag.as_deref(), Some("the table has 3.00 s, the recording lasts 1.00 s"));
        assert_eq!(duration_alone("500", Unit::Secs(1e-3), Some(SECOND)).unwrap().span.unwrap().num_samples, 4_000);
        assert!(duration_alone("0", Unit::Secs(1.0), None).is_err());
    }

    proptest! {
        #[test]
        fn any_times_are_a_stretch_or_a_reason(start in "[0-9.:,einf-]{0,6}", end in "[0-9.:einf-]{0,6}") {
            let value = |text| vec![(text, Unit::Secs(1.0))];
            let times = Times { start: value(start.as_str()), end: value(end.as_str()), duration: Vec::new() };
            if let Ok(Stretch { span: Some(span), .. }) = times.stretch(Some(SECOND)) {
                prop_assert!(span.num_samples > 0 && span.start + span.num_samples <= 8_000);
            }
            let _ = Times { start: Vec::new(), end: Vec::new(), duration: value(&end) }.stretch(None);
            let _ = (samples(&start, Unit::Samples, None), is_range(&end));
        }
    }
}
