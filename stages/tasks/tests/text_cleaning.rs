//! Published text cleaning against reference pairs, from the folder that `SURE_GOLDEN` names.

use std::path::{Path, PathBuf};

#[test]
fn published_cleaners_write_what_they_wrote() {
    #[expect(clippy::disallowed_methods, reason = "a test may be given the folder of its reference numbers")]
    let named = std::env::var("SURE_GOLDEN");
    let root = named.map_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden"), PathBuf::from);
    let path = root.join("tts/text_cleaning.json");
    if !path.is_file() {
        eprintln!("SKIPPED: no reference pairs at `{}`; set SURE_GOLDEN", path.display());
        return;
    }
    let file: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for pair in file["pairs"].as_array().unwrap() {
        let text = pair["text"].as_str().unwrap();
        assert_eq!(tasks::text::published::clean(text), pair["english_cleaners"], "{text}");
        println!("GOLDEN text_cleaning pair 0"); // read by scripts/golden_table.py
    }
}
