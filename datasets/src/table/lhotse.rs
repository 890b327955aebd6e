//! Cuts of a lhotse manifest as rows of a table.

use serde_json::{Map, Value};

/// Rows of a JSON object: one for each supervision of a lhotse cut, else the object itself.
pub(super) fn rows(mut object: Map<String, Value>) -> Vec<Map<String, Value>> {
    let source = object.get("recording").and_then(|recording| recording["sources"][0]["source"].as_str()).map(str::to_owned);
    let (Some(source), Some(Value::Array(supervisions))) = (source, object.remove("supervisions")) else { return vec![object] };
    let begin = object.get("start").and_then(Value::as_f64).unwrap_or(0.0);
    supervisions
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
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn supervisions_of_a_cut_are_rows() {
        let cut = r#"{"id": "c", "start": 2.0, "duration": 3.0, "channel": 0, "type": "MonoCut",
            "supervisions": [{"id": "s", "recording_id": "r", "start": 0.5, "duration": 1.0, "channel": 0, "text": "hi",
            "speaker": "ann", "custom": {"accent": "welsh"}}],
            "recording": {"id": "r", "sources": [{"type": "file", "channels": [0], "source": "a.wav"}], "sampling_rate": 16000}}"#;
        let Value::Object(cut) = serde_json::from_str(cut).unwrap() else { panic!("an object") };
        let expected = r#"{"id":"s","start":2.5,"duration":1.0,"text":"hi","speaker":"ann","accent":"welsh","path":"a.wav"}"#;
        let found = rows(cut);
        assert_eq!(
            found.iter().map(|row| Value::from(row.clone())).collect::<Vec<_>>(),
            [serde_json::from_str::<Value>(expected).unwrap()]
        );
        let plain: Map<_, _> = [("path".to_owned(), Value::from("b.wav"))].into_iter().collect();
        assert_eq!(rows(plain.clone()), [plain]);
    }
}
