//! Files of a recogniser's tokens, as transformers reads them: `vocab.json` and `tokenizer_config.json`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use tasks::Vocabulary;

use super::config::ModelType;
use super::error::CheckpointError;
use super::files::{TOKENIZER, VOCABULARY};
use super::json::{read_json, write_json};

/// Writes the files of the tokens into `folder`.
///
/// Characters are joined and the delimiter becomes a space; tokens that are words of their own (phones) are joined with spaces.
pub(crate) fn write(folder: &Path, vocabulary: &Vocabulary, family: ModelType) -> Result<(), CheckpointError> {
    let token = |id: i64| vocabulary.tokens().get(usize::try_from(id).ok()?);
    let mut config = json!({
        "tokenizer_class": "Wav2Vec2CTCTokenizer",
        "processor_class": if family == ModelType::Wav2vec2Bert { "Wav2Vec2BertProcessor" } else { "Wav2Vec2Processor" },
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

/// Reads the tokens of a recogniser; none when a special token is not in the vocabulary. What `tokenizer_config.json` does not say is as
/// transformers has it.
///
/// Errors: files that cannot be read.
pub(crate) fn read(folder: &Path) -> Result<Option<Vocabulary>, CheckpointError> {
    let ids: BTreeMap<String, i64> = read_json(&folder.join(VOCABULARY))?;
    let path = folder.join(TOKENIZER);
    let config: Value = if path.exists() { read_json(&path)? } else { json!({}) };
    let named = |name: &str, usual: &str| {
        let token = &config[name];
        token.as_str().or_else(|| token["content"].as_str()).unwrap_or(usual).to_owned()
    };
    let has_words = config["tokenizer_class"] != "Wav2Vec2PhonemeCTCTokenizer";
    let delimiter = has_words.then(|| named("word_delimiter_token", "|"));
    Ok(Vocabulary::with_special(&ids, delimiter.as_deref(), &named("unk_token", "<unk>"), &named("pad_token", "<pad>")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::json::read_json;

    #[test]
    fn tokens_are_written_as_transformers_names_them() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str| read_json::<serde_json::Value>(&folder.path().join(name)).unwrap();
        write(folder.path(), &Vocabulary::of_characters(["ab c"].into_iter(), &[]), ModelType::Wav2vec2).unwrap();
        assert_eq!(read(VOCABULARY), json!({"a": 0, "b": 1, "c": 2, "|": 3, "[UNK]": 4, "[PAD]": 5}));
        let config = read(TOKENIZER);
        assert_eq!((&config["pad_token"], &config["word_delimiter_token"]), (&json!("[PAD]"), &json!("|")));
        let phones = ["<blank>", "<unk>", "AA"].map(str::to_owned).to_vec();
        write(folder.path(), &Vocabulary::of_symbols(phones, 0, 1, None), ModelType::Wav2vec2).unwrap();
        let config = read(TOKENIZER);
        assert_eq!((&config["pad_token"], &config["do_phonemize"]), (&json!("<blank>"), &json!(false)));
        assert!(config["word_delimiter_token"].is_null());
        let phones = super::read(folder.path()).unwrap().unwrap();
        assert_eq!((phones.blank(), phones.unknown(), phones.delimiter()), (0, 1, None));
    }

    #[test]
    fn tokens_of_published_recognisers_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let characters = Vocabulary::of_characters(["ab c"].into_iter(), &[]);
        write(folder.path(), &characters, ModelType::Wav2vec2).unwrap();
        assert_eq!(super::read(folder.path()).unwrap(), Some(characters));
        std::fs::remove_file(folder.path().join(TOKENIZER)).unwrap();
        assert_eq!(super::read(folder.path()).unwrap(), None); // its tokens are not the usual ones
        std::fs::write(folder.path().join(VOCABULARY), r#"{"<pad>":0,"<unk>":1,"|":2,"E":3}"#).unwrap();
        let published = super::read(folder.path()).unwrap().unwrap();
        assert_eq!((published.blank(), published.unknown(), published.delimiter()), (0, 1, Some(2)));
    }
}
