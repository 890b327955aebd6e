//! Classes of a table: spellings that are one class, and their order.

use std::collections::BTreeMap;

use super::Row;

/// Texts that other programs write where a value is missing.
const MISSING: [&str; 8] = ["NaN", "nan", "NULL", "null", "None", "NA", "N/A", "<NA>"];

/// Number that a label is, as text: `1`, `1.0` and `01` are one. Whole numbers have any number of digits.
fn spelling(label: &str) -> Option<String> {
    let value = number(label)?;
    let digits = label.strip_prefix('+').unwrap_or(label).trim_start_matches('0');
    let is_long = digits.len() > 15 && digits.bytes().all(|byte| byte.is_ascii_digit());
    Some(if is_long { digits.to_owned() } else { format!("{value:?}") })
}

/// Number that a label is.
fn number(label: &str) -> Option<f64> {
    let is_numeral = label.bytes().all(|byte| byte.is_ascii_digit() || b"+-.".contains(&byte));
    label.parse().ok().filter(|number: &f64| is_numeral && number.is_finite())
}

/// Warns of labels that differ only in case. Labels are in NFC already, so that both Unicode forms of a word are one class.
///
/// Errors: labels that are written in two ways and are one number.
pub(super) fn unify(rows: &mut [Row], warnings: &mut Vec<String>) -> Result<(), String> {
    let mut places: BTreeMap<&str, &str> = BTreeMap::new();
    for row in &*rows {
        if let Some(label) = &row.utterance.annotation.label {
            places.entry(label).or_insert(&row.place);
        }
    }
    for (label, place) in places.iter().filter(|(label, _)| MISSING.contains(label)) {
        warnings.push(format!("{place}: `{label}` is a class like others; leave the value empty where the label is not known"));
    }
    let (mut numbers, mut letters): (BTreeMap<String, &str>, BTreeMap<String, &str>) = Default::default();
    for &label in places.keys() {
        let place = |label: &str| format!("`{label}` ({})", places[label]);
        let known = spelling(label).and_then(|number| numbers.insert(number, label));
        if let Some(other) = known {
            return Err(format!("labels {} and {} are one number: write it in one way", place(other), place(label)));
        }
        if let Some(other) = letters.insert(label.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" "), label) {
            warnings.push(format!(
                "labels {} and {} differ only in case or spaces: they are two classes",
                place(other),
                place(label)
            ));
        }
    }
    Ok(())
}

/// Class names in order: as a table states them, else by number if all are numbers, else by letters.
pub(super) fn in_order(mut occurring: Vec<String>, stated: &[String]) -> Vec<String> {
    if occurring.iter().all(|label| stated.contains(label)) && !stated.is_empty() {
        return stated.to_vec();
    }
    if occurring.iter().all(|label| number(label).is_some()) {
        let by_number = |a: &String, b: &String| number(a).unwrap_or(0.0).total_cmp(&number(b).unwrap_or(0.0));
        occurring.sort_by(by_number);
    }
    occurring
}
