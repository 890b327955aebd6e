//! The rows of a table in any of its formats, by the names of their columns.

use std::collections::BTreeMap;

use serde_json::Value;

use super::PATHS;
use crate::CorpusError;
use crate::place::Place;
use crate::text::{Row, lines, rows};

/// One row.
#[derive(Debug, PartialEq)]
pub(super) struct Record {
    /// Counted from 1.
    pub(super) line: u64,
    /// Column, in lower case -> value, without spaces around it.
    pub(super) fields: BTreeMap<String, String>,
}

/// A row, or the line and the reason why it is none.
type Found = Result<Record, (u64, String)>;

/// The rows of a table.
///
/// Errors: a file that cannot be read, or one whose first row cannot be that of a table.
pub(super) fn records(place: &Place, table: &str) -> Result<Vec<Found>, CorpusError> {
    if table.ends_with(".parquet") {
        let rows = super::parquet::rows(&place.full(table)).map_err(|problem| place.malformed(table, problem))?;
        return Ok(rows.into_iter().map(Ok).collect());
    }
    let text = place.text(table)?;
    let rows = match table.rsplit_once('.') {
        Some((_, "jsonl")) => return Ok(lines(&text).map(|(line, content)| from_json(line, content)).collect()),
        Some((_, "tsv")) => tab_rows(&text),
        _ => rows(&text, b','),
    };
    from_rows(&rows).map_err(|problem| place.malformed(table, problem))
}

fn tab_rows(text: &str) -> Vec<Row> {
    lines(text).map(|(line, content)| Row { line, fields: content.split('\t').map(str::to_owned).collect() }).collect()
}

fn from_rows(rows: &[Row]) -> Result<Vec<Found>, String> {
    let Some((first, rows)) = rows.split_first() else { return Err("it is empty".to_owned()) };
    let columns: Vec<String> = first.fields.iter().map(|name| name.trim().to_lowercase()).collect();
    if let Some(twice) = columns.iter().enumerate().find(|(at, name)| !name.is_empty() && columns[..*at].contains(name)) {
        return Err(format!("two columns `{}`", twice.1));
    }
    has_path(&columns)?;
    let record = |row: &Row| {
        if row.fields.len() != columns.len() {
            return Err((row.line, format!("{} fields, expected {}", row.fields.len(), columns.len())));
        }
        let fields = columns.iter().cloned().zip(row.fields.iter().map(|value| value.trim().to_owned()));
        Ok(Record { line: row.line, fields: fields.filter(|(name, _)| !name.is_empty()).collect() })
    };
    Ok(rows.iter().map(record).collect())
}

/// Errors: no column names the recordings. Then fields are perhaps parted by something else than they should be.
pub(super) fn has_path(columns: &[String]) -> Result<(), String> {
    if columns.iter().any(|column| PATHS.contains(&column.as_str())) {
        return Ok(());
    }
    let (first, others) = (PATHS[0], PATHS[1..].join("`, `"));
    let found = columns.iter().map(|column| format!("`{}`", column.escape_debug())).collect::<Vec<_>>().join(", ");
    let is_one = columns.len() == 1 && columns[0].contains([';', ',', '\t', '|']);
    let hint = if is_one { "; fields are parted by commas in .csv, by tabs in .tsv" } else { "" };
    Err(format!("no column `{first}` (or `{others}`) says where the recordings are, found {found}{hint}"))
}

/// Numbers and truth values are taken as written; of `{"audio": {"path": ...}}` the path; of lists the JSON.
fn from_json(line: u64, content: &str) -> Found {
    let object = match serde_json::from_str(content) {
        Ok(Value::Object(object)) => object,
        Ok(_) => return Err((line, "not a JSON object".to_owned())),
        Err(error) => return Err((line, format!("not JSON: {error}"))),
    };
    let text = |value: Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.trim().to_owned(),
        Value::Object(object) => match object.get("path") {
            Some(Value::String(path)) => path.clone(),
            _ => Value::Object(object).to_string(),
        },
        other => other.to_string(),
    };
    Ok(Record { line, fields: object.into_iter().map(|(name, value)| (name.trim().to_lowercase(), text(value))).collect() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(record: &Found) -> String {
        match record {
            Ok(Record { line, fields }) => {
                let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("{line} {}", fields.join(" "))
            }
            Err((line, reason)) => format!("{line} {reason}"),
        }
    }

    #[test]
    fn the_three_formats_say_the_same() {
        let csv = from_rows(&rows("Path, Text \r\na.wav,\"x, \"\"y\"\"\"\r\nb.wav\r\n", b',')).unwrap();
        let tsv = from_rows(&tab_rows("path\ttext\na.wav\tx, \"y\"\nb.wav\n")).unwrap();
        assert_eq!(csv, tsv);
        assert_eq!(csv.iter().map(shown).collect::<Vec<_>>(), ["2 path=a.wav text=x, \"y\"", "3 1 fields, expected 2"]);
        let json = from_json(2, r#"{"Path": "a.wav", "text": "x, \"y\""}"#);
        assert_eq!(json, csv[0]);
    }

    #[test]
    fn json_values_are_taken_as_written() {
        let line = r#"{"audio": {"path": "a.wav", "bytes": null}, "start": 1.50, "ok": true, "no": null, "list": [1]}"#;
        assert_eq!(shown(&from_json(1, line)), "1 audio=a.wav list=[1] no= ok=true start=1.5");
        assert_eq!(shown(&from_json(1, "[]")), "1 not a JSON object");
        assert!(shown(&from_json(1, "{")).starts_with("1 not JSON: "));
    }

    #[test]
    fn a_table_says_each_column_once() {
        assert_eq!(from_rows(&tab_rows("path\tPATH\n")).unwrap_err(), "two columns `path`");
        assert_eq!(from_rows(&[]).unwrap_err(), "it is empty");
    }

    #[test]
    fn a_table_without_a_column_of_recordings_is_refused_with_what_it_has() {
        let error = |text: &str| from_rows(&rows(text, b',')).unwrap_err();
        assert!(error("name,text\na.wav,x\n").ends_with("says where the recordings are, found `name`, `text`"));
        assert!(
            error("path;text\na.wav;x\n").ends_with("found `path;text`; fields are parted by commas in .csv, by tabs in .tsv")
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-z,\t\"{}:\n\\PC]{0,120}") {
            let _ = from_rows(&rows(&text, b','));
            let _ = from_rows(&tab_rows(&text));
            let _ = from_json(1, &text);
        }
    }
}
