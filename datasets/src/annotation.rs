//! Annotation of an utterance: one struct, from the corpus reader to the training target.
//!
//! [`Utterance`](crate::Utterance), the entries of a manifest, the rows of a shard and what targets are made of all embed
//! [`Annotation`]. A new field is added here and in [`columns`], which says how it looks in Parquet.

pub mod columns;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Annotation of an utterance by its corpus. Fields that the corpus does not give are absent or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotation {
    /// Class of the corpus's own task: the word for keywords, the emotion, the intent.
    pub label: Option<String>,
    /// Speaker.
    pub speaker: Option<String>,
    /// Transcript as distributed.
    pub transcript: Option<String>,
    /// Transcript as the corpus itself normalises it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalised: Option<String>,
    /// Words in order, if the corpus annotates words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<Word>,
    /// Phones in order, if the corpus annotates phones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phones: Vec<Phone>,
    /// Slots in the order of the corpus: action, object and location, or the slots of a sentence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<Slot>,
    /// Other properties by name: `gender`, `accent`, `sentiment`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Known problems that are no reason to leave the utterance out, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
}

/// A word of an utterance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Word {
    /// Text as distributed.
    pub text: String,
    /// Slot whose value the word is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// Begin and end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<Times>,
}

/// A phone of an utterance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phone {
    /// Symbol as distributed: `AH0`, `sil`; in hand annotations of errors `correct,said,kind`.
    pub symbol: String,
    /// Begin and end.
    pub times: Times,
}

/// Begin and end in microseconds from the beginning of the utterance: finer than any sample, and whole numbers compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Times {
    /// Begin.
    pub start_us: u64,
    /// End.
    pub end_us: u64,
}

/// A slot and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// Name, for example `object`.
    pub name: String,
    /// Value, for example `lights`.
    pub value: String,
}
