//! Cuts of a lhotse manifest as rows of a table, and advice for its other manifests.

use std::path::Path;

use serde_json::{Map, Value};

use super::columns::LHOTSE;
use crate::CorpusError;

/// Error for a folder without a table in which lhotse keeps manifests; none if there are no such files.
pub(super) fn manifest(root: &Path) -> Option<CorpusError> {
    let entries = std::fs::read_dir(root).ok()?.flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    let found = |kind: &str| {
        let is_kind = |stem: &str| stem.split(['_', '-', '.']).any(|word| word == kind);
        let stem = |name: &str| name.strip_suffix(".gz").unwrap_or(name).strip_suffix(".jsonl").map(str::to_owned);
        names.iter().find(|name| stem(name).is_some_and(|stem| is_kind(&stem)))
    };
    let (name, advice) = match (found("cuts"), found("supervisions").or_else(|| found("recordings"))) {
        (Some(cuts), _) if cuts.ends_with(".gz") => (cuts, "unpack it (`gunzip`), and name it with --table".to_owned()),
        (Some(cuts), _) => (cuts, "name it with --table".to_owned()),
        (None, Some(part)) => (part, format!("{LHOTSE} there, and name `cuts.jsonl` with --table")),
        (None, None) => return None,
    };
    let problem = format!("no table has one of the usual names, and this one looks like a manifest of lhotse: {advice}");
    Some(CorpusError::Malformed { path: root.join(name), problem })
}

/// Rows of a JSON object: one for each supervision of a lhotse cut, or one for a cut without any, else the object itself.
///
/// Errors: a cut of one channel of several.
pub(super) fn rows(mut object: Map<String, Value>) -> Result<Vec<Map<String, Value>>, String> {
    let first = object.get("recording").map(|recording| &recording["sources"][0]);
    let source = first.and_then(|first| first["source"].as_str()).map(str::to_owned);
    let num_channels = first.and_then(|first| first["channels"].as_array()).map_or(1, Vec::len);
    let (Some(source), Some(Value::Array(mut supervisions))) = (source, object.remove("supervisions")) else {
        return Ok(vec![object]);
    };
    if num_channels > 1 && object.get("channel").is_some_and(Value::is_number) {
        return Err(format!("a cut of one of {num_channels} channels, which would be averaged: split the channels first"));
    }
    let begin = object.get("start").and_then(Value::as_f64).unwrap_or(0.0);
    if supervisions.is_empty() {
        let field = |name: &str| object.get(name).map(|value| (name.to_owned(), value.clone()));
        supervisions.push(Value::Object(["id", "duration"].into_iter().filter_map(field).collect()));
    }
    Ok(supervisions
        .into_iter()
        .filter_map(|supervision| {
            let Value::Object(mut row) = supervision else { return None };
            // Times of a supervision count from the begin of its cut.
            let start = begin + row.get("start").and_then(Value::as_f64).unwrap_or(0.0);
            if let Some(Value::Object(custom)) = row.remove("custom") {
                row.extend(custom.into_iter().filter(|(_, value)| !value.is_object()));
            }
            for spare in ["recording_id", "channel", "alignment"] {
                row.remove(spare);
            }
            row.insert("start".to_owned(), start.into());
            row.insert("path".to_owned(), source.clone().into());
            Some(row)
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_manifests_is_refused_with_advice() {
        let root = tempfile::tempdir().unwrap();
        let said = |name: &str| {
            std::fs::write(root.path().join(name), "").unwrap();
            manifest(root.path()).map_or_else(String::new, |error| error.to_string())
        };
        assert_eq!(said("notes.jsonl"), "");
        let parts = said("fsdd_recordings_train.jsonl.gz");
        assert!(
            parts.contains("fsdd_recordings_train.jsonl.gz` cannot be understood: no table has one of the usual names"),
            "{parts}"
        );
        assert!(parts.ends_with("cuts.jsonl` there, and name `cuts.jsonl` with --table"), "{parts}");
        assert!(said("fsdd_supervisions_train.jsonl.gz").contains("fsdd_supervisions_train"));
        assert!(said("cuts_train.jsonl.gz").ends_with("unpack it (`gunzip`), and name it with --table"));
        assert!(said("cuts.jsonl").ends_with("lhotse: name it with --table"));
    }

    #[test]
    fn supervisions_of_a_cut_are_rows() {
        let cut = r#"{"id": "c", "start": 2.0, "duration": 3.0, "channel": 0, "type": "MonoCut",
            "supervisions": [{"id": "s", "recording_id": "r", "start": 0.5, "duration": 1.0, "channel": 0, "text": "hi",
            "speaker": "ann", "custom": {"accent": "welsh"}}],
            "recording": {"id": "r", "sources": [{"type": "file", "channels": [0], "source": "a.wav"}], "sampling_rate": 16000}}"#;
        let Value::Object(cut) = serde_json::from_str(cut).unwrap() else { panic!("an object") };
        let expected = r#"{"id":"s","start":2.5,"duration":1.0,"text":"hi","speaker":"ann","accent":"welsh","path":"a.wav"}"#;
        let found = rows(cut.clone()).unwrap();
        assert_eq!(
            found.iter().map(|row| Value::from(row.clone())).collect::<Vec<_>>(),
            [serde_json::from_str::<Value>(expected).unwrap()]
        );
        let plain: Map<_, _> = [("path".to_owned(), Value::from("b.wav"))].into_iter().collect();
        assert_eq!(rows(plain.clone()).unwrap(), [plain]);
        let mut silent = cut.clone();
        silent["supervisions"] = Value::Array(Vec::new());
        let expected = r#"{"id":"c","duration":3.0,"start":2.0,"path":"a.wav"}"#;
        assert_eq!(Value::from(rows(silent).unwrap().remove(0)), serde_json::from_str::<Value>(expected).unwrap());
        let mut stereo = cut;
        stereo["recording"]["sources"][0]["channels"] = vec![0, 1].into();
        assert!(rows(stereo).unwrap_err().starts_with("a cut of one of 2 channels"));
    }
}
