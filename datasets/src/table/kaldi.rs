//! A Kaldi data folder as a table: `wav.scp`, and where they are there `segments`, `text`, `utt2spk` and `utt2lang`.
//!
//! ```text
//! wav.scp     REC1 clips/rec1.wav           id of a recording, path
//! segments    UTT1 REC1 0.50 2.25           id of an utterance, its recording, begin and end in seconds
//! text        UTT1 WHAT IS SAID
//! utt2spk     UTT1 SPEAKER1
//! ```

use std::collections::BTreeMap;

use super::records::{Record, Sheet};
use crate::CorpusError;
use crate::place::Place;
use crate::text::lines;

/// File that makes a folder a Kaldi data folder.
pub(super) const MARK: &str = "wav.scp";

/// True for a file of a Kaldi data folder that is read.
pub(super) fn is_part(path: &str) -> bool {
    [MARK, "segments", "text", "utt2spk", "utt2lang"].contains(&path.rsplit('/').next().unwrap_or(path))
}

/// Reads the data folder whose `wav.scp` is `mark`.
///
/// Errors: a file that cannot be read.
pub(super) fn sheet(place: &Place, mark: &str) -> Result<Sheet, CorpusError> {
    let folder = mark.strip_suffix(MARK).unwrap_or_default();
    let mut sheet = Sheet::default();
    let mut warnings = Vec::new();
    let mut file = |name: &str, columns: &[&str]| -> Result<BTreeMap<String, (u64, String)>, CorpusError> {
        let path = format!("{folder}{name}");
        if !place.is_file(&path) {
            return Ok(BTreeMap::new());
        }
        sheet.columns.extend(columns.iter().map(|&column| column.to_owned()));
        let text = place.text(&path)?;
        let mut pairs: BTreeMap<String, (u64, String)> = BTreeMap::new();
        for (number, line) in lines(&text) {
            let (key, value) = line.trim().split_once(char::is_whitespace).unwrap_or((line.trim(), ""));
            let value = value.trim();
            match pairs.get(key) {
                Some((first, known)) if known != value => {
                    let problem = format!("`{key}` is in line {first} with another value: this line is left out");
                    warnings.push(format!("{path}:{number}: {problem}"));
                }
                Some(_) => {}
                None => drop(pairs.insert(key.to_owned(), (number, value.to_owned()))),
            }
        }
        Ok(pairs)
    };
    let recordings = file(MARK, &["path", "id"])?;
    let segments = file("segments", &["start", "end"])?;
    let others = [("text", "text"), ("utt2spk", "speaker"), ("utt2lang", "lang")];
    let others = others.map(|(name, column)| file(name, &[column]).map(|values| (name, column, values)));
    let [texts, speakers, langs] = others;
    let others = [texts?, speakers?, langs?];
    let of_recordings = if segments.is_empty() { &recordings } else { &segments };
    for (name, _, values) in &others {
        let mut unknown = values.iter().filter(|(id, _)| !of_recordings.contains_key(*id));
        if let Some((id, (line, _))) = unknown.next() {
            let count = 1 + unknown.count();
            let lines = if count == 1 { "1 such line".to_owned() } else { format!("{count} such lines") };
            warnings.push(format!("{folder}{name}:{line}: `{id}` has no recording ({lines})"));
        }
    }
    sheet.elsewhere = warnings;
    let mut add = |line: u64, id: &str, path: &str, times: &[(&str, &str)]| {
        if path.ends_with('|') {
            let problem = format!("`{id}` is the output of a command, which is not run: convert it to a file");
            return sheet.rows.push(Err((line, problem)));
        }
        let mut fields: BTreeMap<String, String> = [("id", id), ("path", path)]
            .iter()
            .chain(times)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        for (_, name, values) in &others {
            if let Some((_, value)) = values.get(id) {
                fields.insert((*name).to_owned(), value.clone());
            }
        }
        sheet.rows.push(Ok(Record { line, fields, embedded: None }));
    };
    if segments.is_empty() {
        for (id, (line, path)) in &recordings {
            add(*line, id, path, &[]);
        }
        return Ok(sheet);
    }
    let mut unknown = Vec::new();
    for (id, (line, value)) in &segments {
        let parts: Vec<&str> = value.split_whitespace().collect();
        match parts[..] {
            [recording, start, end] if recordings.contains_key(recording) => {
                // An end of -1 is that of the recording.
                let times = [("start", start), ("end", if end.starts_with('-') { "" } else { end })];
                add(*line, id, &recordings[recording].1, &times);
            }
            [recording, _, _] => unknown.push((*line, format!("`{recording}` of `segments` is not in `{MARK}`"))),
            _ => unknown.push((*line, "expected an id, a recording, a begin and an end in `segments`".to_owned())),
        }
    }
    sheet.rows.extend(unknown.into_iter().map(Err));
    Ok(sheet)
}
