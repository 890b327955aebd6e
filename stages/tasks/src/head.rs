//! Outputs of the head of a checkpoint in the layout of transformers: classes of `config.json`, or tokens of `vocab.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{Outputs, Vocabulary};

/// A checkpoint whose head cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// A file cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A file holds something else.
    #[error("`{path}` does not hold what it should")]
    Json {
        /// The file.
        path: PathBuf,
        /// Where it departs.
        #[source]
        source: serde_json::Error,
    },
    /// The checkpoint has no head that is known.
    #[error(
        "the checkpoint in `{folder}` is a `{found}`: expected one with a head of tokens (`...ForCTC`) or classes (`...ForSequenceClassification`)"
    )]
    NoHead {
        /// The folder.
        folder: PathBuf,
        /// Class of the model, as the configuration names it.
        found: String,
    },
    /// Tokens and head do not belong together.
    #[error("`{path}` does not fit the head of the checkpoint: {problem}")]
    Vocabulary {
        /// The file of the tokens.
        path: PathBuf,
        /// How they differ.
        problem: String,
    },
}

/// Reads the outputs of the head of a checkpoint.
///
/// Errors: [`HeadError`].
pub fn read(folder: &Path) -> Result<Outputs, HeadError> {
    let config = json(&folder.join("config.json"))?;
    let class = config["architectures"][0].as_str().unwrap_or("bare encoder").to_owned();
    if class.ends_with("ForCTC") {
        return tokens(folder, &config).map(Outputs::Tokens);
    }
    let named: Option<BTreeMap<usize, String>> = config["id2label"]
        .as_object()
        .and_then(|labels| labels.iter().map(|(id, label)| Some((id.parse().ok()?, label.as_str()?.to_owned()))).collect());
    match named.filter(|labels| labels.keys().copied().eq(0..labels.len())) {
        Some(labels) if class.ends_with("ForSequenceClassification") => {
            let labels = labels.into_values().collect();
            let several = config["problem_type"] == "multi_label_classification";
            Ok(if several { Outputs::Tags { labels } } else { Outputs::Classes { labels } })
        }
        _ => Err(HeadError::NoHead { folder: folder.to_owned(), found: class }),
    }
}

fn tokens(folder: &Path, config: &Value) -> Result<Vocabulary, HeadError> {
    let path = folder.join("vocab.json");
    let wrong = |problem: String| HeadError::Vocabulary { path: path.clone(), problem };
    let map: BTreeMap<String, i64> =
        serde_json::from_value(json(&path)?).map_err(|source| HeadError::Json { path: path.clone(), source })?;
    let size = config["vocab_size"].as_i64().unwrap_or(32); // the default of transformers
    if map.len() as i64 != size {
        return Err(wrong(format!("it has {} tokens, the head {size}", map.len())));
    }
    let mut tokens = vec![None; map.len()];
    for (token, &id) in &map {
        let place = usize::try_from(id).ok().and_then(|id| tokens.get_mut(id));
        *place.ok_or_else(|| wrong(format!("`{token}` has index {id} of {size}")))? = Some(token.clone());
    }
    let tokens: Vec<String> =
        tokens.into_iter().collect::<Option<_>>().ok_or_else(|| wrong("an index is taken twice".to_owned()))?;
    let settings = folder.join("tokenizer_config.json");
    let settings = if settings.exists() { json(&settings)? } else { Value::Null };
    let special = folder.join("special_tokens_map.json");
    let special = if special.exists() { json(&special)? } else { Value::Null };
    // Named in either file, as text or with further fields; else the default of transformers.
    let named = |name: &str, usual: &str| {
        let of = |file: &Value| file[name].as_str().or_else(|| file[name]["content"].as_str()).map(str::to_owned);
        of(&settings).or_else(|| of(&special)).unwrap_or_else(|| usual.to_owned())
    };
    let id = |name: &str, usual: &str| {
        let token = named(name, usual);
        map.get(&token).copied().ok_or_else(|| wrong(format!("it lacks `{token}`, the {name}")))
    };
    let (blank, unknown) = (id("pad_token", "<pad>")?, id("unk_token", "<unk>")?);
    if let Some(stated) = config["pad_token_id"].as_i64().filter(|&stated| stated != blank) {
        return Err(wrong(format!("the pad_token has index {blank}, config.json has pad_token_id {stated}")));
    }
    let joined = settings["tokenizer_class"] != "Wav2Vec2PhonemeCTCTokenizer";
    let delimiter = if joined { Some(id("word_delimiter_token", "|")?) } else { None };
    Ok(Vocabulary::of_tokens(tokens, delimiter, unknown, blank))
}

fn json(path: &Path) -> Result<Value, HeadError> {
    let text = fs::read(path).map_err(|source| HeadError::Read { path: path.to_owned(), source })?;
    serde_json::from_slice(&text).map_err(|source| HeadError::Json { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(files: &[(&str, &str)], expected: Result<&[&str], &str>) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        match (read(folder.path()), expected) {
            (Ok(outputs), Ok(names)) => assert_eq!(outputs.names(), names),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, _) => panic!("{found:?}, expected {expected:?}"),
        }
    }

    const CTC: &str = r#"{"architectures":["Wav2Vec2ForCTC"],"vocab_size":4,"pad_token_id":0}"#;
    const TOKENS: &str = r#"{"<pad>":0,"|":1,"A":2,"<unk>":3}"#;

    #[test]
    fn heads_of_published_checkpoints_are_read() {
        check(&[("config.json", CTC), ("vocab.json", TOKENS)], Ok(&["<pad>", "|", "A", "<unk>"]));
        let own = [
            ("config.json", r#"{"architectures":["HubertForCTC"],"vocab_size":4,"pad_token_id":3}"#),
            ("vocab.json", r#"{"a":0,"|":1,"[UNK]":2,"[PAD]":3}"#),
            ("tokenizer_config.json", r#"{"pad_token":"[PAD]","unk_token":{"content":"[UNK]"}}"#),
        ];
        check(&own, Ok(&["a", "|", "[UNK]", "[PAD]"]));
        let classes = r#"{"architectures":["Wav2Vec2ForSequenceClassification"],"id2label":{"1":"no","0":"yes"}}"#;
        check(&[("config.json", classes)], Ok(&["yes", "no"]));
    }

    #[test]
    fn files_that_contradict_each_other_are_refused() {
        check(&[("config.json", r#"{"architectures":["Wav2Vec2Model"]}"#)], Err("is a `Wav2Vec2Model`"));
        check(&[("config.json", CTC)], Err("vocab.json"));
        check(&[("config.json", CTC), ("vocab.json", r#"{"<pad>":0}"#)], Err("it has 1 tokens, the head 4"));
        check(&[("config.json", CTC), ("vocab.json", r#"{"<pad>":0,"|":1,"A":2,"B":2}"#)], Err("an index is taken twice"));
        check(
            &[("config.json", CTC), ("vocab.json", r#"{"<pad>":0,"|":1,"A":2,"B":3}"#)],
            Err("it lacks `<unk>`, the unk_token"),
        );
        let other = CTC.replace("\"pad_token_id\":0", "\"pad_token_id\":2");
        check(
            &[("config.json", &other), ("vocab.json", TOKENS)],
            Err("the pad_token has index 0, config.json has pad_token_id 2"),
        );
    }
}
