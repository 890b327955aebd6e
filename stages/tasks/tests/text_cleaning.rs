//! Published text cleaning against reference pairs, from the folder that `SURE_GOLDEN` names.

#[test]
fn published_cleaners_write_what_they_wrote() {
    let Some(path) = reference::find("tts/text_cleaning.json") else { return };
    let file = reference::json(&path);
    for pair in file["pairs"].as_array().unwrap() {
        let text = pair["text"].as_str().unwrap();
        assert_eq!(tasks::text::published::clean(text), pair["english_cleaners"], "{text}");
        println!("GOLDEN text_cleaning pair 0"); // read by scripts/golden_table.py
    }
}
