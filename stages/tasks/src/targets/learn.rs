//! Targets of each utterance, from the annotations in shards. No files.

use std::collections::{BTreeMap, BTreeSet};

use datasets::shard::RowInfo;
use serde::Serialize;

use super::labels::{self, UnknownLabel, take_untaught};
use super::{MakeTargets, SEPARATOR, SPLITS, Target, UnknownWords, VocabularyOf};
use crate::intent::NoClass;
use crate::lexicon::{self, Lexicon};
use crate::{Outputs, Protocol, TargetKind, Vocabulary, intent, normalise, slots};

/// Targets of a task, with counts. Lists are by split: train, dev, test.
#[derive(Debug)]
pub struct Made {
    /// Outputs of a model.
    pub outputs: Outputs,
    /// In order of id.
    pub targets: [Vec<Target>; 3],
    /// Rows without a target.
    pub left_out: Vec<LeftOut>,
    /// Those among them whose label cannot be learned.
    pub unknown_labels: Vec<UnknownLabel>,
    /// Characters that the vocabulary lacks, and how many utterances have them.
    pub missing_characters: [BTreeMap<char, usize>; 3],
    /// Words without phonemes, and how often they occur.
    pub unknown_words: [BTreeMap<String, usize>; 3],
}

/// An utterance without a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// `train`, `dev` or `test`.
    pub split: &'static str,
    /// The utterance.
    pub id: String,
    /// Why.
    pub reason: String,
}

/// Makes the targets of a task. `head` are the outputs of a head that exists, which are then those of the task. `labels` are the classes of the corpus, `splits` the utterances of train, dev and test; phonemes
/// need a lexicon.
///
/// # Panics
/// When phonemes are asked for without a lexicon.
pub fn make(
    params: &MakeTargets,
    labels: &[String],
    splits: [&[RowInfo]; 3],
    lexicon: Option<&Lexicon>,
    head: Option<&Outputs>,
) -> Made {
    let work = Work { params, splits, left_out: Vec::new(), head };
    let own_labels = match head {
        Some(Outputs::Classes { labels }) => Some(labels.clone()),
        _ => None,
    };
    match params.task.target() {
        TargetKind::Label => {
            let of =
                |utterance: &RowInfo| utterance.annotation.label.clone().ok_or_else(|| "no label of the corpus's set".to_owned());
            work.classes(own_labels.unwrap_or_else(|| labels.to_vec()), of)
        }
        TargetKind::Speaker => {
            let speakers: BTreeSet<String> =
                splits[0].iter().filter_map(|utterance| utterance.annotation.speaker.clone()).collect();
            let of = |utterance: &RowInfo| utterance.annotation.speaker.clone().ok_or_else(|| "no speaker".to_owned());
            work.classes(own_labels.unwrap_or_else(|| speakers.into_iter().collect()), of)
        }
        TargetKind::Labels => work.tags(),
        TargetKind::Intent => work.intents(),
        TargetKind::Transcript => {
            let of = |utterance: &RowInfo| {
                let text = utterance
                    .annotation
                    .normalised
                    .as_ref()
                    .or(utterance.annotation.transcript.as_ref())
                    .ok_or("no transcript")?;
                Ok(normalise::transcript(text, params.protocol))
            };
            work.characters(&[], of, str::to_owned)
        }
        TargetKind::Slots => {
            let names =
                |split: &[RowInfo]| split.iter().flat_map(|u| &u.annotation.words).filter_map(|word| word.slot.clone()).collect();
            let paper = params.protocol == Protocol::Paper;
            let sets = if paper { &splits[..] } else { &splits[..1] };
            let names: BTreeSet<String> = sets.iter().flat_map(|split| -> BTreeSet<String> { names(split) }).collect();
            let of = |utterance: &RowInfo| {
                let words = utterance.annotation.words.iter().map(|word| (word.text.as_str(), word.slot.as_deref()));
                if utterance.annotation.words.is_empty() { Err("no words") } else { Ok(slots::marked(words)) }
            };
            let encoded = |text: &str| if paper { slots::with_published_separators(text) } else { text.to_owned() };
            work.characters(&names.into_iter().collect::<Vec<_>>(), of, encoded)
        }
        TargetKind::Phonemes => work.phonemes(lexicon.expect("phonemes come with a lexicon")),
    }
}

struct Work<'a> {
    params: &'a MakeTargets,
    splits: [&'a [RowInfo]; 3],
    left_out: Vec<LeftOut>,
    /// Outputs of a head that exists.
    head: Option<&'a Outputs>,
}

impl<'a> Work<'a> {
    /// A target for every utterance that `of` has one for.
    fn each(&mut self, mut of: impl FnMut(usize, &'a RowInfo) -> Result<Target, String>) -> [Vec<Target>; 3] {
        let limit = self.params.max_duration_secs;
        let splits = self.splits;
        std::array::from_fn(|at| {
            let mut targets = Vec::new();
            for utterance in splits[at] {
                let secs = utterance.num_samples as f64 / f64::from(utterance.sample_rate.max(1));
                let made = match limit.filter(|limit| secs >= *limit) {
                    Some(limit) => Err(format!("of {limit} s or more")),
                    None => of(at, utterance),
                };
                match made {
                    Ok(target) => targets.push(target),
                    Err(reason) => self.left_out.push(LeftOut { split: SPLITS[at], id: utterance.id.clone(), reason }),
                }
            }
            targets
        })
    }

    fn done(self, outputs: Outputs, targets: [Vec<Target>; 3]) -> Made {
        let Self { left_out, .. } = self;
        let (missing_characters, unknown_words) = Default::default();
        Made { outputs, targets, left_out, unknown_labels: Vec::new(), missing_characters, unknown_words }
    }

    /// Result for a task of classes, of which dev and test set have no others than the training set. `unknown` are utterances
    /// left out already.
    fn done_with_classes(mut self, outputs: Outputs, mut targets: [Vec<Target>; 3], mut unknown: Vec<UnknownLabel>) -> Made {
        let untaught = if self.head.is_some() { Vec::new() } else { take_untaught(&outputs, &mut targets) };
        let reason = |one: &UnknownLabel| format!("no training utterance is `{}`", one.label);
        let left_out = untaught.iter().map(|one| LeftOut { split: one.split, id: one.id.clone(), reason: reason(one) });
        self.left_out.extend(left_out);
        unknown.extend(untaught);
        Made { unknown_labels: unknown, ..self.done(outputs, targets) }
    }

    fn classes(mut self, labels: Vec<String>, of: impl Fn(&RowInfo) -> Result<String, String>) -> Made {
        let ids: BTreeMap<&str, i64> = labels.iter().map(String::as_str).zip(0..).collect();
        let mut unknown = Vec::new();
        let targets = self.each(|split, utterance| {
            let text = of(utterance)?;
            let Some(&class) = ids.get(text.as_str()) else {
                let reason = format!("`{text}` is not among the classes");
                unknown.push(UnknownLabel { split: SPLITS[split], id: utterance.id.clone(), label: text });
                return Err(reason);
            };
            Ok(Target { id: utterance.id.clone(), target: vec![class], text })
        });
        self.done_with_classes(Outputs::Classes { labels }, targets, unknown)
    }

    /// The labels of the training set, in order of the alphabet. Numbers of a target are in order too.
    fn tags(mut self) -> Made {
        let separator = self.params.separator.as_deref().unwrap_or(SEPARATOR);
        let train = self.splits[0].iter().filter_map(|utterance| utterance.annotation.label.as_deref());
        let labels: BTreeSet<String> = train.flat_map(|label| labels::several(label, separator)).collect();
        let labels = match self.head {
            Some(Outputs::Tags { labels }) => labels.clone(),
            _ => labels.into_iter().collect::<Vec<_>>(),
        };
        let ids: BTreeMap<&str, i64> = labels.iter().map(String::as_str).zip(0..).collect();
        let mut unknown = Vec::new();
        let targets = self.each(|split, utterance| {
            let label = utterance.annotation.label.as_deref().ok_or("no label of the corpus's set")?;
            let own = labels::several(label, separator);
            if let Some(other) = own.iter().find(|label| !ids.contains_key(label.as_str())) {
                unknown.push(UnknownLabel { split: SPLITS[split], id: utterance.id.clone(), label: other.clone() });
                return Err(format!("no training utterance is `{other}`"));
            }
            let mut target: Vec<i64> = own.iter().map(|label| ids[label.as_str()]).collect();
            target.sort_unstable();
            let names: Vec<&str> = target.iter().map(|&id| labels[id as usize].as_str()).collect();
            let text = names.join(", ");
            Ok(Target { id: utterance.id.clone(), target, text })
        });
        Made { unknown_labels: unknown, ..self.done(Outputs::Tags { labels }, targets) }
    }

    fn intents(mut self) -> Made {
        let groups = intent::groups();
        let mut unknown = Vec::new();
        let targets = self.each(|split, utterance| {
            let classes = intent::classes(&groups, &utterance.annotation.slots).map_err(|NoClass { slot, value }| {
                let Some(value) = value else { return format!("no {slot}") };
                let label = format!("{slot}={value}");
                unknown.push(UnknownLabel { split: SPLITS[split], id: utterance.id.clone(), label });
                format!("no class for {slot} `{value}`")
            })?;
            let names = groups.iter().zip(&classes).map(|(group, &class)| group.labels[class as usize].as_str());
            let text = names.collect::<Vec<_>>().join(", ");
            Ok(Target { id: utterance.id.clone(), target: classes, text })
        });
        self.done_with_classes(Outputs::Groups { groups }, targets, unknown)
    }

    /// `of` gives the reference text, `encoded` how it is spelled in tokens.
    fn characters(
        mut self,
        slots: &[String],
        of: impl Fn(&RowInfo) -> Result<String, &'static str>,
        encoded: impl Fn(&str) -> String,
    ) -> Made {
        let texts = self.splits.map(|split| split.iter().map(&of).collect::<Vec<_>>());
        let paper = self.params.protocol == Protocol::Paper;
        let whose = self.params.vocabulary.unwrap_or(match (paper, self.params.task.target()) {
            (false, _) => VocabularyOf::Train,
            (true, _) if self.params.defects_of_esd => VocabularyOf::Ids,
            (true, TargetKind::Slots) => VocabularyOf::All,
            (true, _) => VocabularyOf::TrainAndTest,
        });
        let sets: &[usize] = match whose {
            VocabularyOf::Train => &[0],
            VocabularyOf::TrainAndTest => &[0, 2],
            VocabularyOf::All => &[0, 1, 2],
            VocabularyOf::Ids => &[],
        };
        let words = sets.iter().flat_map(|&set| texts[set].iter().flatten()).flat_map(|text| text.split(' '));
        let plain = words.filter(|word| !is_slot_token(word, slots));
        let vocabulary = if let Some(Outputs::Tokens(vocabulary)) = self.head {
            vocabulary.clone()
        } else if whose == VocabularyOf::Ids {
            // The two characters are a byte-order mark read as Latin-1, which the reference code takes for part of a name.
            let names = self.splits[0].iter().map(|utterance| utterance.id.rsplit('/').next().unwrap_or_default());
            Vocabulary::of_characters(names.chain(["\u{ff}\u{fe}"]), slots)
        } else {
            Vocabulary::of_characters(plain, slots)
        };
        let mut missing: [BTreeMap<char, usize>; 3] = Default::default();
        let capital = self.head.is_some() && vocabulary.is_capital();
        let targets = self.each(|split, utterance| {
            let text = of(utterance)?;
            let text = if capital { text.to_uppercase() } else { text };
            if split == 0 && text.is_empty() {
                return Err("an empty transcript".to_owned());
            }
            for character in vocabulary.missing(&text) {
                *missing[split].entry(character).or_insert(0) += 1;
            }
            let target = vocabulary.encode(&encoded(&text));
            // The reference code scores against the text that it decodes from a target, unknown characters included.
            let text = if paper { vocabulary.decode_to_score(&target) } else { normalise::single_spaces(&text) };
            Ok(Target { id: utterance.id.clone(), target, text })
        });
        Made { missing_characters: missing, ..self.done(Outputs::Tokens(vocabulary), targets) }
    }

    fn phonemes(mut self, lexicon: &Lexicon) -> Made {
        let end = (self.params.protocol == Protocol::Paper).then_some(lexicon::END);
        let vocabulary = Vocabulary::of_symbols(lexicon::symbols(), lexicon::PADDING, lexicon::UNKNOWN, Some(lexicon::END));
        let mut unknown: [BTreeMap<String, usize>; 3] = Default::default();
        let leave_out = self.params.unknown_words == UnknownWords::LeaveOut;
        let targets = self.each(|split, utterance| {
            let text =
                utterance.annotation.normalised.as_ref().or(utterance.annotation.transcript.as_ref()).ok_or("no transcript")?;
            let words = normalise::words(text);
            if split == 0 && words.is_empty() {
                return Err("an empty transcript".to_owned());
            }
            let (mut phones, mut misses) = (Vec::new(), 0);
            for word in words {
                if let Some(found) = lexicon.phones(&word) {
                    phones.extend(found);
                } else {
                    *unknown[split].entry(word).or_insert(0) += 1;
                    phones.push("<unk>".to_owned());
                    misses += 1;
                }
            }
            if leave_out && misses > 0 {
                return Err("a word without phonemes".to_owned());
            }
            let text = phones.join(" ");
            let mut target = vocabulary.encode(&text);
            target.extend(end);
            Ok(Target { id: utterance.id.clone(), target, text })
        });
        Made { unknown_words: unknown, ..self.done(Outputs::Tokens(vocabulary), targets) }
    }
}

/// True if a word of a marked text is one end of a slot.
fn is_slot_token(word: &str, slots: &[String]) -> bool {
    let name = word.strip_prefix("B-").or_else(|| word.strip_prefix("E-"));
    name.is_some_and(|name| slots.iter().any(|slot| slot == name))
}
