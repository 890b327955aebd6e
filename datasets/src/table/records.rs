//! Rows of a table in any of its formats, by the names of their columns.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::columns::has_path;
use super::quotes;
use crate::CorpusError;
use crate::place::Place;
use crate::text::{Row, lines, rows};

/// One row.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Record {
    /// Line of the file, or row of a Parquet file, counted from 1.
    pub(super) line: u64,
    /// Column -> value as written. Columns without a value may be absent.
    pub(super) fields: BTreeMap<String, String>,
    /// Row of the table, counted from 0, if the recording is in it.
    pub(super) embedded: Option<u64>,
}

/// A row, or its line and why it cannot be read.
pub(super) type Read = Result<Record, (u64, String)>;

/// All rows of a table.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Sheet {
    /// Names of the columns, in the order of the table.
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Read>,
    /// Line and problem that is no reason to leave a row out.
    pub(super) warnings: Vec<(u64, String)>,
    /// Warnings about other files than the table, with their names and lines.
    pub(super) elsewhere: Vec<String>,
    /// Columns whose values cannot be written as text.
    pub(super) left_out: Vec<String>,
    /// Column of the recordings, if they are in the table.
    pub(super) audio: Option<String>,
    /// Class names of columns that contain indices.
    pub(super) classes: BTreeMap<String, Vec<String>>,
}

/// Reads a table.
///
/// Errors: a file that cannot be read, or one whose first row cannot be that of a table. `path` is the column of recordings, if
/// the user names one.
pub(super) fn records(place: &Place, table: &str, path: Option<&str>) -> Result<Sheet, CorpusError> {
    let malformed = |problem| place.malformed(table, problem);
    if table.ends_with(".parquet") {
        return super::parquet::sheet(&place.full(table)).map_err(malformed);
    }
    let bytes = place.bytes(table)?;
    let (text, encoding) = decoded(&bytes).map_err(malformed)?;
    let is_json = matches!(table.rsplit_once('.'), Some((_, "jsonl" | "json")));
    let mut sheet = if is_json {
        from_json(&text).map_err(malformed)?
    } else {
        from_delimited(&text, table.ends_with(".tsv"), path).map_err(malformed)?
    };
    sheet.warnings.extend(encoding.map(|problem| (1, problem)));
    Ok(sheet)
}

/// Text of a table, and what is odd about its encoding. Errors: a zero byte, a file of another kind.
fn decoded(bytes: &[u8]) -> Result<(String, Option<String>), String> {
    let kinds: [(&[u8], &str); 7] = [
        (b"\x1f\x8b", "it is compressed with gzip: unpack it first (`gunzip`)"),
        (b"\x28\xb5\x2f\xfd", "it is compressed with zstd: unpack it first (`unzstd`)"),
        (b"\xfd7zXZ", "it is compressed with xz: unpack it first (`unxz`)"),
        (b"PK\x03\x04", "it is a ZIP archive or a spreadsheet: unpack it, or save the sheet as CSV"),
        (b"\xd0\xcf\x11\xe0", "it is a spreadsheet or document of an old Office: save it as CSV"),
        (b"PAR1", "it is Parquet: name it `.parquet`"),
        (b"SQLite format 3", "it is a database: write its table as CSV"),
    ];
    if let Some((_, problem)) = kinds.iter().find(|(beginning, _)| bytes.starts_with(beginning)) {
        return Err((*problem).to_owned());
    }
    let zeros = bytes.iter().take(1_000).filter(|&&byte| byte == 0).count();
    let has_mark = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    let is_wide = has_mark || zeros * 4 > bytes.len().min(1_000);
    let zero = |text: &str| {
        let line = 1 + text.bytes().take_while(|&byte| byte != 0).filter(|&byte| byte == b'\n').count();
        format!("line {line} contains a zero byte (NUL), which no text has")
    };
    if is_wide {
        let text = crate::text::decode(bytes, crate::text::Fallback::Windows1252);
        return if text.contains('\0') { Err(zero(&text)) } else { Ok((text, None)) };
    }
    if bytes.contains(&0) {
        return Err(zero(&String::from_utf8_lossy(bytes)));
    }
    let encoding = std::str::from_utf8(bytes).err().map(|error| {
        let line = 1 + bytes[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count();
        format!("line {line} is not UTF-8: the table is read as Windows-1252")
    });
    Ok((crate::text::decode(bytes, crate::text::Fallback::Windows1252), encoding))
}

fn from_delimited(text: &str, is_tsv: bool, path: Option<&str>) -> Result<Sheet, String> {
    if let Some(rows) = ljspeech(text) {
        return Ok(rows);
    }
    let cut = |delimiter| if delimiter == b'\t' { tab_rows(text) } else { rows(text, delimiter) };
    let names = |rows: &[Row]| -> Vec<String> {
        rows.first().map_or_else(Vec::new, |row| row.fields.iter().map(|name| name.trim().trim_matches('"').to_owned()).collect())
    };
    let is_header = |names: &[String]| has_path(names) || path.is_some_and(|path| names.iter().any(|name| name == path));
    let usual = if is_tsv { b'\t' } else { b',' };
    let others = [b',', b'\t', b';', b'|'].into_iter().filter(|&delimiter| delimiter != usual);
    let delimiter = std::iter::once(usual).chain(others).find(|&delimiter| is_header(&names(&cut(delimiter)))).unwrap_or(usual);
    let mut sheet = Sheet::default();
    if delimiter != usual {
        let [found, expected] =
            [delimiter, usual].map(|byte| if byte == b'\t' { "tabs".to_owned() } else { format!("`{}`", byte as char) });
        sheet.warnings.push((1, format!("fields are separated by {found}, not by {expected}")));
    }
    if delimiter != b'\t' {
        let odd = quotes::check(text, delimiter).map_err(|(line, problem)| format!("line {line}: {problem}"))?;
        sheet.warnings.extend(odd);
    }
    let rows = cut(delimiter);
    let Some((first, rows)) = rows.split_first() else { return Err("it is empty".to_owned()) };
    sheet.columns = first.fields.iter().map(|name| name.trim().to_owned()).collect();
    no_twins(&sheet.columns)?;
    let record = |row: &Row| {
        let (found, expected) = (row.fields.len(), sheet.columns.len());
        if found != expected {
            let hint = if found > expected && delimiter == b',' { "; a value with a comma needs quotation marks" } else { "" };
            return Err((row.line, format!("{found} fields, expected {expected}{hint}")));
        }
        let fields = sheet.columns.iter().cloned().zip(row.fields.iter().cloned()).filter(|(name, _)| !name.is_empty());
        Ok(Record { line: row.line, fields: fields.collect(), embedded: None })
    };
    sheet.rows = rows.iter().map(record).collect();
    sheet.columns.retain(|name| !name.is_empty());
    Ok(sheet)
}

/// Errors: two columns with one name.
pub(super) fn no_twins(columns: &[String]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    match columns.iter().find(|name| !name.is_empty() && !seen.insert(name.to_lowercase())) {
        Some(twice) => Err(format!("two columns `{twice}`")),
        None => Ok(()),
    }
}

fn tab_rows(text: &str) -> Vec<Row> {
    lines(text).map(|(line, content)| Row { line, fields: content.split('\t').map(str::to_owned).collect() }).collect()
}

/// Form of `LJSpeech`: no header, `LJ001-0001|text|normalised text`, quotation marks are themselves.
fn ljspeech(text: &str) -> Option<Sheet> {
    let parts = |line: &str| line.split('|').map(str::to_owned).collect::<Vec<_>>();
    let (_, first) = lines(text).next()?;
    let first = parts(first);
    let columns = ["path", "text", "normalised"].map(str::to_owned);
    if !(2..=3).contains(&first.len()) || first[0].contains([' ', ',']) || has_path(&first) || !first[1].contains(' ') {
        return None;
    }
    let record = |(line, content): (u64, &str)| match parts(content) {
        fields if fields.len() == first.len() => {
            Ok(Record { line, fields: columns.iter().cloned().zip(fields).collect(), embedded: None })
        }
        fields => Err((line, format!("{} fields, expected {}", fields.len(), first.len()))),
    };
    let rows = lines(text).map(record).collect();
    let warnings = vec![(1, "no line of column names: read as LJSpeech's `name|text|normalised text`".to_owned())];
    Some(Sheet { columns: columns[..first.len()].to_vec(), rows, warnings, ..Sheet::default() })
}

/// JSON lines, or one JSON list of objects.
fn from_json(text: &str) -> Result<Sheet, String> {
    let mut sheet = Sheet::default();
    let mut add = |line: u64, value: Result<Value, String>| {
        let objects = match value {
            Ok(Value::Object(object)) => match super::lhotse::rows(object) {
                Ok(objects) => objects,
                Err(problem) => return sheet.rows.push(Err((line, problem))),
            },
            Ok(_) => return sheet.rows.push(Err((line, "not a JSON object".to_owned()))),
            Err(problem) => return sheet.rows.push(Err((line, problem))),
        };
        for object in objects {
            for name in object.keys().map(|name| name.trim()) {
                if !sheet.columns.iter().any(|known| known == name) {
                    sheet.columns.push(name.to_owned());
                }
            }
            sheet.rows.push(Ok(from_object(line, object)));
        }
    };
    if text.trim_start().starts_with('[') {
        let list: Vec<Value> = serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
        (1..).zip(list).for_each(|(row, value)| add(row, Ok(value)));
    } else {
        for (line, content) in lines(text) {
            add(line, serde_json::from_str(content).map_err(|error| format!("not JSON: {error}")));
        }
    }
    no_twins(&sheet.columns)?;
    match sheet.rows.first() {
        Some(Err((line, problem))) if sheet.columns.is_empty() => Err(format!("line {line}: {problem}")),
        _ => Ok(sheet),
    }
}

/// Numbers and truth values are taken as written; of `{"audio": {"path": ...}}` the path; of lists the JSON.
fn from_object(line: u64, object: Map<String, Value>) -> Record {
    let text = |value: Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text,
        Value::Object(object) => match object.get("path") {
            Some(Value::String(path)) => path.clone(),
            _ => Value::Object(object).to_string(),
        },
        other => other.to_string(),
    };
    let fields = object.into_iter().map(|(name, value)| (name.trim().to_owned(), text(value)));
    Record { line, fields: fields.collect(), embedded: None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(record: &Read) -> String {
        match record {
            Ok(Record { line, fields, .. }) => {
                let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("{line} {}", fields.join(" "))
            }
            Err((line, reason)) => format!("{line} {reason}"),
        }
    }

    fn csv(text: &str) -> Result<Sheet, String> {
        from_delimited(text, false, None)
    }

    fn json(line: &str) -> String {
        shown(&from_json(line).unwrap().rows[0])
    }

    #[test]
    fn the_three_formats_say_the_same() {
        let csv = csv("path, text \r\na.wav,\"x, \"\"y\"\"\"\r\nb.wav\r\n").unwrap();
        let tsv = from_delimited("path\ttext\na.wav\tx, \"y\"\nb.wav\n", true, None).unwrap();
        assert_eq!(csv, tsv);
        assert_eq!(csv.rows.iter().map(shown).collect::<Vec<_>>(), ["2 path=a.wav text=x, \"y\"", "3 1 fields, expected 2"]);
        assert_eq!(json(r#"{"path": "a.wav", "text": "x, \"y\""}"#), "1 path=a.wav text=x, \"y\"");
        let list = from_json(r#"[{"path": "a.wav"}, 1]"#).unwrap();
        assert_eq!(list.rows.iter().map(shown).collect::<Vec<_>>(), ["1 path=a.wav", "2 not a JSON object"]);
    }

    #[test]
    fn json_values_are_taken_as_written() {
        let line = r#"{"audio": {"path": "a.wav", "bytes": null}, "start": 1.50, "ok": true, "no": null, "list": [1]}"#;
        assert_eq!(json(line), "1 audio=a.wav list=[1] no= ok=true start=1.5");
        assert!(from_json("{").unwrap_err().starts_with("line 1: not JSON: "));
        let sheet = from_json("{\"path\": \"a.wav\"}\n{\n").unwrap();
        assert!(shown(&sheet.rows[1]).starts_with("2 not JSON: "));
        assert!(from_json("[{]").unwrap_err().starts_with("it is not JSON"));
    }

    #[test]
    fn other_delimiters_and_tables_without_a_header_are_read_with_a_warning() {
        let sheet = csv("path;text\na.wav;x, y\n").unwrap();
        assert_eq!((shown(&sheet.rows[0]), sheet.warnings.len()), ("2 path=a.wav text=x, y".to_owned(), 1));
        let sheet = csv("LJ1-1|He said \"no.|he said no\nLJ1-2|Two|two|2\n").unwrap();
        assert_eq!(shown(&sheet.rows[0]), "1 normalised=he said no path=LJ1-1 text=He said \"no.");
        assert_eq!((shown(&sheet.rows[1]), sheet.warnings[0].0), ("2 4 fields, expected 3".to_owned(), 1));
    }

    #[test]
    fn what_is_wrong_with_a_whole_table_is_an_error_with_its_line() {
        assert_eq!(csv("path,PATH\n").unwrap_err(), "two columns `PATH`");
        assert_eq!(csv("").unwrap_err(), "it is empty");
        assert!(csv("path,text\na.wav,\"hello\nb.wav,x\n").unwrap_err().starts_with("line 2: the quotation mark is not closed"));
        assert!(decoded(b"path,text\na.wav,x\0y\n").unwrap_err().starts_with("line 2 contains a zero byte"));
        let (text, warning) = decoded(b"path,text\na.wav,caf\xe9\n").unwrap();
        assert!(text.ends_with("caf\u{e9}\n") && warning.unwrap().starts_with("line 2 is not UTF-8"));
        let wide: Vec<u8> = "path,text\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(decoded(&wide).unwrap(), ("path,text\n".to_owned(), None));
    }

    #[test]
    fn a_value_with_too_many_commas_is_explained() {
        let sheet = csv("path,text\na.wav,yes, of course\n").unwrap();
        assert_eq!(shown(&sheet.rows[0]), "2 3 fields, expected 2; a value with a comma needs quotation marks");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-z,\t\"{}:|\n\\PC]{0,120}") {
            let _ = (csv(&text), from_delimited(&text, true, None), from_json(&text), decoded(text.as_bytes()));
        }
    }
}
