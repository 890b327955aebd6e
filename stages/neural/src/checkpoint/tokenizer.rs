//! Files of a recogniser's tokens, as transformers reads them: `vocab.json` and `tokenizer_config.json`.

use std::path::Path;

use serde_json::json;
use tasks::Vocabulary;

use super::error::CheckpointError;
use super::files::{TOKENIZER, VOCABULARY};
use super::json::write_json;

/// Writes the files of the tokens into `folder`.
///
/// Characters are joined and the delimiter becomes a space; tokens that are words of their own (phones) are joined with spaces.
pub(crate) fn write(folder: &Path, vocabulary: &Vocabulary) -> Result<(), CheckpointError> {
    let token = |id: i64| vocabulary.tokens().get(usize::try_from(id).ok()?);
    let mut config = json!({
        "tokenizer_class": "Wav2Vec2CTCTokenizer",
        "processor_class": "Wav2Vec2Processor",
        "pad_token": token(vocabulary.blank()),
        "unk_token": token(vocabulary.unknown()),
        "bos_token": null,
        "eos_token": null,
        "word_delimiter_token": vocabulary.delimiter().and_then(token),
        "do_lower_case": false,
    });
    if vocabulary.delimiter().is_none() {
        config["tokenizer_class"] = "Wav2Vec2PhonemeCTCTokenizer".into();
        config["do_phonemize"] = false.into();
    }
    write_json(&folder.join(VOCABULARY), &vocabulary.to_map())?;
    write_json(&folder.join(TOKENIZER), &config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::json::read_json;

    #[test]
    fn tokens_are_written_as_transformers_names_them() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str| read_json::<serde_json::Value>(&folder.path().join(name)).unwrap();
        write(folder.path(), &Vocabulary::of_characters(["ab c"].into_iter(), &[])).unwrap();
        assert_eq!(read(VOCABULARY), json!({"a": 0, "b": 1, "c": 2, "|": 3, "[UNK]": 4, "[PAD]": 5}));
        let config = read(TOKENIZER);
        assert_eq!((&config["pad_token"], &config["word_delimiter_token"]), (&json!("[PAD]"), &json!("|")));
        let phones = ["<blank>", "<unk>", "AA"].map(str::to_owned).to_vec();
        write(folder.path(), &Vocabulary::of_symbols(phones, 0, 1, None)).unwrap();
        let config = read(TOKENIZER);
        assert_eq!((&config["pad_token"], &config["do_phonemize"]), (&json!("<blank>"), &json!(false)));
        assert!(config["word_delimiter_token"].is_null());
    }
}
