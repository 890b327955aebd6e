//! Registry of the tasks: those of the benchmark, and `tagging`. A new task is one entry of [`TASKS`], plus the code of a new kind of target or score.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use scoring::score::Kind;
use scoring::{Metric, Unit};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Clips, Order, Protocol};

/// Task of the benchmark: a reference to its entry of [`TASKS`]. Files hold its name.
#[derive(Clone, Copy)]
pub struct Task(&'static Entry);

/// Everything that differs between tasks.
#[derive(Debug)]
pub struct Entry {
    /// Name in workflow files, tables and `task.json`.
    pub name: &'static str,
    /// Description for lists of parameters.
    pub about: &'static str,
    /// Kind of target, which decides the outputs of a model.
    pub target: TargetKind,
    /// Metrics of an evaluation on the dev set, in the order of the training curve.
    pub dev_metrics: &'static [Metric],
    /// Preparation of clips by the protocol `paper`.
    pub paper_clips: Clips,
    /// Scoring of the predictions on the test set.
    pub score: Kind,
}

/// Kind of target that an utterance has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// Class: the label that the corpus gives.
    Label,
    /// Class: the speaker.
    Speaker,
    /// Any number of classes: the labels that the corpus gives, in one text.
    Labels,
    /// One class of each group: action, object and place.
    Intent,
    /// Tokens: the characters of the transcript.
    Transcript,
    /// Tokens: the characters of the transcript, with markers of slots.
    Slots,
    /// Tokens: the phonemes of the transcript.
    Phonemes,
}

/// Dev metrics of a task with one class per utterance.
const CLASSES: &[Metric] = &[Metric::Loss, Metric::Accuracy, Metric::MacroF1, Metric::WeightedF1];

/// Whole clips.
const WHOLE: Clips = Clips {
    cut: None,
    pad: None,
    normalise_before_cut: false,
    raw: false,
    unmasked: false,
    unmasked_to: None,
    order: Order::Shuffled,
    halve_above: None,
};

/// Clips of a fixed number of samples.
const fn fixed(samples: usize, normalise_before_cut: bool) -> Clips {
    Clips { cut: Some(samples), pad: Some(samples), normalise_before_cut, ..WHOLE }
}

/// Clips of recognition on ESD as published: cut to 2.5 s, all of which counts as sound, and padded to 12.5 s.
const DEFECTS_OF_ESD: Clips = Clips { cut: Some(40_000), pad: Some(200_000), unmasked_to: Some(40_000), ..WHOLE };

/// All tasks. The lengths of clips are those of the benchmark's reference code: 2.5 s for one class of an utterance, 13.75 s for
/// intents, 12.5 s for texts. Phonemes have every batch padded to its longest clip, as recorded and unmasked.
pub static TASKS: [Entry; 9] = [
    Entry {
        name: "emotion",
        about: "Emotion of an utterance: one class.",
        target: TargetKind::Label,
        dev_metrics: CLASSES,
        paper_clips: fixed(40_000, false),
        score: Kind::Classification,
    },
    Entry {
        name: "speaker",
        about: "Speaker of an utterance, among those of the training set: one class.",
        target: TargetKind::Speaker,
        dev_metrics: CLASSES,
        paper_clips: fixed(40_000, false),
        score: Kind::Classification,
    },
    Entry {
        name: "speaker_verification",
        about: "Similarity of two voices: trials, trained as `speaker`.",
        target: TargetKind::Speaker,
        dev_metrics: CLASSES,
        paper_clips: fixed(40_000, false),
        score: Kind::Verification,
    },
    Entry {
        name: "keyword_spotting",
        about: "Keyword of an utterance: one class.",
        target: TargetKind::Label,
        dev_metrics: CLASSES,
        paper_clips: fixed(40_000, false),
        score: Kind::Classification,
    },
    Entry {
        name: "tagging",
        about: "Labels of an utterance, any number of them.",
        target: TargetKind::Labels,
        dev_metrics: &[Metric::Loss, Metric::MeanAveragePrecision, Metric::MacroF1, Metric::MicroF1, Metric::Accuracy],
        paper_clips: fixed(40_000, false),
        score: Kind::Tagging,
    },
    Entry {
        name: "intent",
        about: "Intent of an utterance: an action, an object and a place.",
        target: TargetKind::Intent,
        dev_metrics: &[Metric::Loss, Metric::Accuracy],
        paper_clips: fixed(220_000, false),
        score: Kind::Intent,
    },
    Entry {
        name: "slot_filling",
        about: "Transcript with the values of slots marked.",
        target: TargetKind::Slots,
        dev_metrics: &[Metric::Loss, Metric::Wer, Metric::SlotTypeF1, Metric::SlotValueCer],
        paper_clips: fixed(200_000, true),
        score: Kind::Slots,
    },
    Entry {
        name: "speech_recognition",
        about: "Transcript in characters.",
        target: TargetKind::Transcript,
        dev_metrics: &[Metric::Loss, Metric::Wer, Metric::Cer],
        paper_clips: fixed(200_000, true),
        score: Kind::Text(Unit::Word),
    },
    Entry {
        name: "phoneme_recognition",
        about: "Transcript in phonemes.",
        target: TargetKind::Phonemes,
        dev_metrics: &[Metric::Loss, Metric::Per],
        paper_clips: Clips { raw: true, unmasked: true, order: Order::LongestTargetFirst, halve_above: Some(300_000), ..WHOLE },
        score: Kind::Text(Unit::Phone),
    },
];

impl Task {
    /// All tasks, in the order of [`TASKS`].
    pub fn all() -> impl Iterator<Item = Self> {
        TASKS.iter().map(Self)
    }

    /// Returns the task of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|task| task.name() == name)
    }

    /// Name in workflow files, tables and `task.json`.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Kind of target that an utterance has.
    pub fn target(self) -> TargetKind {
        self.0.target
    }

    /// Metrics of an evaluation on the dev set, in the order of the training curve.
    pub fn dev_metrics(self) -> &'static [Metric] {
        self.0.dev_metrics
    }

    /// Scoring of the predictions on the test set.
    pub fn score(self) -> Kind {
        self.0.score
    }

    /// Preparation of clips. `defects_of_esd` chooses the published preparation of recognition on ESD.
    pub fn clips(self, protocol: Protocol, defects_of_esd: bool) -> Clips {
        match (protocol, self.target()) {
            (Protocol::Sound, _) => WHOLE,
            (Protocol::Paper, TargetKind::Transcript) if defects_of_esd => DEFECTS_OF_ESD,
            (Protocol::Paper, _) => self.0.paper_clips.clone(),
        }
    }
}

impl PartialEq for Task {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Task {}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Task {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Task {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const NAMES: [&str; TASKS.len()] = {
            let mut names = [""; TASKS.len()];
            let mut at = 0;
            while at < names.len() {
                names[at] = TASKS[at].name;
                at += 1;
            }
            names
        };
        let name = Cow::<str>::deserialize(deserializer)?;
        Self::named(&name).ok_or_else(|| D::Error::unknown_variant(&name, &NAMES))
    }
}

impl JsonSchema for Task {
    fn schema_name() -> Cow<'static, str> {
        "Task".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let one = |entry: &Entry| serde_json::json!({ "description": entry.about, "type": "string", "const": entry.name });
        let all: Vec<_> = TASKS.iter().map(one).collect();
        schemars::json_schema!({ "description": "Task of the benchmark.", "oneOf": all })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_read_by_its_name_and_another_name_lists_all() {
        for task in Task::all() {
            let text = serde_json::to_string(&task).unwrap();
            assert_eq!(text, format!("\"{}\"", task.name()));
            assert_eq!(serde_json::from_str::<Task>(&text).unwrap(), task);
        }
        let error = serde_json::from_str::<Task>("\"emotions\"").unwrap_err().to_string();
        assert!(error.contains("unknown variant `emotions`, expected one of `emotion`, `speaker`,"), "{error}");
    }

    #[test]
    fn every_task_is_judged_by_its_loss_and_by_what_it_is_scored_by() {
        for entry in &TASKS {
            let scored = match entry.score {
                Kind::Classification | Kind::Intent => Metric::Accuracy,
                Kind::Slots => Metric::SlotTypeF1,
                Kind::Tagging => Metric::MeanAveragePrecision,
                Kind::Text(unit) => unit.metric(),
                Kind::Verification => Metric::Loss, // a dev set has no trials
            };
            assert!(entry.dev_metrics.contains(&Metric::Loss) && entry.dev_metrics.contains(&scored), "{}", entry.name);
        }
    }

    #[test]
    fn clips_are_whole_unless_the_paper_cuts_them() {
        let task = |name| Task::named(name).unwrap();
        assert!(Task::all().all(|task| task.clips(Protocol::Sound, false) == Clips::default()));
        assert_eq!(task("emotion").clips(Protocol::Paper, false).cut, Some(40_000));
        assert_eq!(task("intent").clips(Protocol::Paper, true).pad, Some(220_000));
        assert_eq!(task("speech_recognition").clips(Protocol::Paper, false).unmasked_to, None);
        assert_eq!(task("speech_recognition").clips(Protocol::Paper, true).unmasked_to, Some(40_000));
        assert!(task("phoneme_recognition").clips(Protocol::Paper, false).raw);
    }
}
