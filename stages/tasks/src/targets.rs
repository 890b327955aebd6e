//! Stage `task.targets`: turns the annotations of a corpus into the targets of a task.
//!
//! ```text
//! task.json                                what a model puts out, and how clips become batches
//! labels.json                              the outputs' names in order: classes, `action=bring`, tokens
//! vocab.json                               token -> index, for tasks of text
//! train.parquet dev.parquet test.parquet   id, target (classes or tokens), text (the reference); sorted by id
//! left_out.jsonl                           {"split":...,"id":...,"reason":...}
//! report.json                              counts, for people
//! ```
//!
//! It reads the small columns of shards, never the audio.

mod labels;
mod learn;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use datasets::shard::RowInfo;
use pipeline::source::SourceNeed;
use pipeline::{Job, Slot, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::labels::UnknownLabel;
pub use self::learn::{LeftOut, Made, make};
pub use self::table::{Target, read_targets, write_targets};
use crate::head;
use crate::lexicon::Lexicon;
use crate::{Outputs, Protocol, TargetKind, Task, TaskFile, task};

/// The splits, in order.
pub const SPLITS: [&str; 3] = ["train", "dev", "test"];

/// Makes a task's targets from shards: classes, or tokens with their vocabulary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MakeTargets {
    /// The task.
    pub task: Task,
    /// Own name of the task, for the model cards. Default: that of `task`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `sound`, or `paper`: as the benchmark's reference code has it, where that moves numbers.
    #[serde(default)]
    pub protocol: Protocol,
    /// Sets whose characters make the vocabulary of recognition and slots. Default: those of the training set; with `paper` those of
    /// training and test set, for slots those of all sets, with `defects_of_esd` those of the names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<VocabularyOf>,
    /// Words' phonemes, before the dictionary that comes with the program: the folder `lexicons.<name>` of the machine's
    /// settings, with `.txt` files of lines `WORD PHONE PHONE ...`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lexicon: Option<String>,
    /// Treatment of words without phonemes.
    #[serde(default)]
    pub unknown_words: UnknownWords,
    /// Treatment of utterances whose label cannot be learned: the task has no class for it, or no training utterance has it.
    #[serde(default)]
    pub unknown_labels: UnknownLabels,
    /// Text between the labels of an utterance, for `tagging`. Default `;`. Labels may also be a JSON list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub separator: Option<String>,
    /// Longer utterances are left out of all sets, in seconds; those of the benchmark's `LibriSpeech` and FLEURS runs were of 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_duration_secs: Option<f64>,
    /// For recognition by `paper`, as the reference code has it for ESD alone: the vocabulary is that of the utterances' names,
    /// clips are cut to 2.5 s with the whole transcript, and what is shorter counts as 2.5 s of sound. Default false.
    #[serde(default)]
    pub defects_of_esd: bool,
}

/// Text between the labels of an utterance, if nobody says.
pub const SEPARATOR: &str = ";";

/// Sets whose characters make a vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VocabularyOf {
    /// Those of the training set.
    Train,
    /// Those of training and test set.
    TrainAndTest,
    /// Those of all sets.
    All,
    /// Those of the utterances' names: the reference code's mistake for ESD, which leaves no letter in the vocabulary.
    Ids,
}

/// Treatment of words without phonemes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownWords {
    /// Each becomes one unknown phoneme.
    #[default]
    Unk,
    /// Their utterances are left out.
    LeaveOut,
    /// The stage fails and lists them.
    Error,
}

/// Treatment of utterances whose label cannot be learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownLabels {
    /// The stage fails and lists them.
    #[default]
    Error,
    /// They are left out.
    LeaveOut,
}

/// Error of making targets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetsError {
    /// Nothing is left in a split.
    #[error("the {split} set has no utterance for {task}: {found} in the shards, {left_out}")]
    EmptySplit {
        /// The split.
        split: &'static str,
        /// The task.
        task: &'static str,
        /// Utterances in the shards.
        found: usize,
        /// Why they were left out.
        left_out: String,
    },
    /// Nothing to tell apart.
    #[error("all {utterances} utterances of the train set are `{label}`: there is nothing to tell apart")]
    OneClass {
        /// How many there are.
        utterances: usize,
        /// The class.
        label: String,
    },
    /// No label at all.
    #[error("none of {utterances} utterances of the train set has a label")]
    NoLabels {
        /// How many there are.
        utterances: usize,
    },
    /// Labels without a class, or without a training utterance.
    #[error("{task} cannot learn every label: {unknown}; those of the train set are {known}")]
    UnknownLabels {
        /// The task.
        task: &'static str,
        /// Which, where, and how many.
        unknown: String,
        /// The labels of the training set.
        known: String,
    },
    /// Labels that the head of a checkpoint does not have.
    #[error("the head of the checkpoint does not have every label: {unknown}; its classes are {known}")]
    NotInHead {
        /// Which, where, and how many.
        unknown: String,
        /// The classes of the head.
        known: String,
    },
    /// A checkpoint with another kind of head than the task needs.
    #[error("{task} cannot use the head of the checkpoint in `{folder}`, which has {kind}")]
    OtherHead {
        /// The task.
        task: &'static str,
        /// Kind of the outputs.
        kind: &'static str,
        /// The checkpoint.
        folder: std::path::PathBuf,
    },
    /// Words without phonemes.
    #[error("{} words have no phonemes: {}{}", words.len(), words[..words.len().min(20)].join(", "), if words.len() > 20 { ", ..." } else { "" })]
    UnknownWords {
        /// All of them.
        words: Vec<String>,
    },
}

impl Stage for MakeTargets {
    const KIND: &'static str = "task.targets";
    const VERSION: u32 = 5;
    const ABOUT: &'static str = "makes what a task learns of each utterance: classes, or tokens with their vocabulary";

    fn slots() -> Vec<Slot> {
        vec![
            Slot::many("shards", "what `audio.shards` left, all parts"),
            Slot::optional("head", "a checkpoint with a head: the outputs are those of its head, in its order"),
        ]
    }

    fn outputs(&self) -> Vec<String> {
        let targets = SPLITS.map(|split| format!("{split}.parquet"));
        targets.into_iter().chain(["labels.json", "left_out.jsonl", "report.json", "task.json"].map(str::to_owned)).collect()
    }
    fn check(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        let of_text = matches!(self.task.target(), TargetKind::Slots | TargetKind::Transcript);
        if self.vocabulary.is_some() && !of_text {
            mistakes.push(("vocabulary", format!("{} has no vocabulary of characters", self.task.name())));
        }
        if self.task.target() != TargetKind::Phonemes && self.lexicon.is_some() {
            mistakes.push(("lexicon", format!("{} needs no phonemes", self.task.name())));
        }
        if self.task.target() != TargetKind::Labels && self.separator.is_some() {
            mistakes.push(("separator", format!("{} has one label, or none", self.task.name())));
        }
        if self.separator.as_deref().is_some_and(|separator| separator.trim().is_empty()) {
            mistakes.push(("separator", "expected a text that is no space, such as `;`".to_owned()));
        }
        if self.defects_of_esd && (self.task.target(), self.protocol) != (TargetKind::Transcript, Protocol::Paper) {
            mistakes.push(("defects_of_esd", "only recognition by the protocol `paper` has them".to_owned()));
        }
        if let Some(secs) = self.max_duration_secs.filter(|secs| !(secs.is_finite() && *secs > 0.0)) {
            mistakes.push(("max_duration_secs", format!("expected a number of seconds above 0, found {secs}")));
        }
        mistakes
    }

    fn sources(&self) -> Vec<SourceNeed> {
        let need = |name: &String| SourceNeed { place: place(name), wants: Box::new(is_lexicon) };
        self.lexicon.iter().map(need).collect()
    }
}

fn place(lexicon: &str) -> String {
    format!("lexicons.{lexicon}")
}

fn is_lexicon(path: &str) -> bool {
    let ending = Path::new(path).extension();
    ending.is_some_and(|ending| ending.eq_ignore_ascii_case("txt")) && !path.contains('/')
}

/// Content of `report.json`.
#[derive(Debug, Default, Serialize)]
struct TargetsReport {
    task: &'static str,
    /// Split -> utterances with a target.
    utterances: BTreeMap<&'static str, usize>,
    /// Split -> reason -> utterances left out.
    left_out: BTreeMap<&'static str, BTreeMap<String, usize>>,
    /// Split -> class -> utterances, for tasks of one class.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    classes: BTreeMap<&'static str, BTreeMap<String, usize>>,
    /// Classes that no training utterance has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    untaught_classes: Vec<String>,
    /// Split -> utterances whose target needs more frames than the published encoder has for them: they cost and teach nothing.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    more_tokens_than_frames: BTreeMap<&'static str, usize>,
    /// Split -> character that the vocabulary lacks -> utterances.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    missing_characters: BTreeMap<&'static str, BTreeMap<char, usize>>,
    /// Split -> words without phonemes, most frequent first, at most a hundred.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    unknown_words: BTreeMap<&'static str, Vec<(String, usize)>>,
}

/// The body of the stage.
///
/// Errors: shards that cannot be read, [`TargetsError`], a lexicon that is none.
pub fn run(params: &MakeTargets, job: &Job) -> Result<(), StageError> {
    let lexicon = lexicon(params, job)?;
    let (mut splits, mut labels) = (Vec::new(), Vec::new());
    for split in SPLITS {
        let mut utterances = Vec::new();
        for shard in job.inputs.many("shards") {
            let read = RowInfo::read(&shard.path.join(format!("{split}.parquet")), |_| true);
            let (rows, classes) = read.map_err(StageError::failed)?;
            utterances.extend(rows);
            labels = classes;
        }
        utterances.sort_by(|a, b| a.id.cmp(&b.id));
        splits.push(utterances);
    }
    let [train, dev, test] = &splits[..] else { unreachable!("there are three splits") };
    let head = job.inputs.optional("head").map(|folder| own_head(params, folder)).transpose()?;
    let made = make(params, &labels, [train, dev, test], lexicon.as_ref(), head.as_ref());
    let report = examine(params, &splits, &made, head.is_some()).map_err(explain)?;
    tell(&report, job);

    let file = TaskFile {
        task: params.task,
        name: params.name.clone(),
        protocol: params.protocol,
        outputs: made.outputs,
        clips: params.task.clips(params.protocol, params.defects_of_esd),
    };
    file.write(&job.out)?;
    write_json(&job.out.join("labels.json"), &file.outputs.names())?;
    if let Outputs::Tokens(vocabulary) = &file.outputs {
        write_json(&job.out.join("vocab.json"), &vocabulary.to_map())?;
    }
    for (split, targets) in SPLITS.into_iter().zip(&made.targets) {
        write_targets(&job.out.join(format!("{split}.parquet")), targets)?;
    }
    let lines: Result<Vec<String>, _> = made.left_out.iter().map(serde_json::to_string).collect();
    let list: String = lines.map_err(StageError::failed)?.into_iter().map(|line| line + "\n").collect();
    let path = job.out.join("left_out.jsonl");
    fs::write(&path, list).map_err(StageError::io("write", &path))?;
    write_json(&job.out.join("report.json"), &report)?;
    let total = splits.iter().map(Vec::len).sum::<usize>() as u64;
    job.progress.tick(total, total, "utterances", "");
    Ok(())
}

/// Outputs of a checkpoint's head, for a task that has such.
fn own_head(params: &MakeTargets, folder: &Path) -> Result<Outputs, StageError> {
    let outputs = head::read(folder).map_err(|error| {
        StageError::failed(error).with_hint("take a fine-tuned checkpoint with the files of its tokens, as transformers saves it")
    })?;
    let fits = match params.task.target() {
        TargetKind::Label | TargetKind::Speaker => matches!(outputs, Outputs::Classes { .. }),
        TargetKind::Labels => matches!(outputs, Outputs::Tags { .. }),
        TargetKind::Transcript => matches!(outputs, Outputs::Tokens(_)),
        TargetKind::Intent | TargetKind::Slots | TargetKind::Phonemes => false,
    };
    if fits {
        return Ok(outputs);
    }
    let kind = match outputs {
        Outputs::Tokens(_) => "tokens",
        Outputs::Tags { .. } => "any number of labels",
        Outputs::Classes { .. } | Outputs::Groups { .. } => "classes",
    };
    let error = TargetsError::OtherHead { task: params.task.name(), kind, folder: folder.to_owned() };
    Err(StageError::failed(error).with_hint("a head of characters does speech recognition, one of classes a task of one class"))
}

fn lexicon(params: &MakeTargets, job: &Job) -> Result<Option<Lexicon>, StageError> {
    if params.task.target() != TargetKind::Phonemes {
        return Ok(None);
    }
    let Some(name) = &params.lexicon else { return Ok(Some(Lexicon::cmudict())) };
    let place = place(name);
    let tree = job.sources.get(&place).ok_or(StageError::NoPlace { place })?;
    let mut own: Option<Lexicon> = None;
    for file in &tree.files {
        let path = tree.root.join(&file.path);
        let bytes = fs::read(&path).map_err(StageError::io("read", &path))?;
        if pipeline::Digest::of(&bytes) != file.digest {
            return Err(StageError::SourceChanged { path });
        }
        let text = String::from_utf8_lossy(&bytes);
        let found = Lexicon::parse(&text).map_err(|error| {
            StageError::failed(error).with_hint(format!("`{}` should have a word and its phonemes on each line", path.display()))
        })?;
        own = Some(match own {
            Some(before) => before.backed_by(found),
            None => found,
        });
    }
    let dictionary = Lexicon::cmudict();
    Ok(Some(own.map_or_else(|| dictionary.clone(), |own| own.backed_by(dictionary.clone()))))
}

/// Counts the targets. Fails where they are of no use.
fn examine(params: &MakeTargets, splits: &[Vec<RowInfo>], made: &Made, has_head: bool) -> Result<TargetsReport, TargetsError> {
    require_labels(params, made, has_head)?;
    let mut report = TargetsReport { task: params.task.name(), ..TargetsReport::default() };
    for ((split, utterances), targets) in SPLITS.into_iter().zip(splits).zip(&made.targets) {
        let reasons = report.left_out.entry(split).or_default();
        for left in made.left_out.iter().filter(|left| left.split == split) {
            *reasons.entry(left.reason.clone()).or_insert(0) += 1;
        }
        if targets.is_empty() {
            let listed: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
            let left_out =
                if listed.is_empty() { "none left out".to_owned() } else { format!("left out: {}", listed.join(", ")) };
            return Err(TargetsError::EmptySplit { split, task: params.task.name(), found: utterances.len(), left_out });
        }
        report.utterances.insert(split, targets.len());
        match &made.outputs {
            Outputs::Classes { labels } => {
                let counts = report.classes.entry(split).or_default();
                for target in targets {
                    *counts.entry(labels[target.target[0] as usize].clone()).or_insert(0) += 1;
                }
            }
            Outputs::Tags { labels } => {
                let counts = report.classes.entry(split).or_default();
                for label in targets.iter().flat_map(|target| &target.target) {
                    *counts.entry(labels[*label as usize].clone()).or_insert(0) += 1;
                }
            }
            Outputs::Groups { .. } => {}
            Outputs::Tokens(_) => {
                let samples: BTreeMap<&str, usize> =
                    utterances.iter().map(|utterance| (utterance.id.as_str(), utterance.num_samples)).collect();
                let clips = params.task.clips(params.protocol, params.defects_of_esd);
                let too_long = targets.iter().filter(|target| {
                    let samples = samples.get(target.id.as_str()).copied().unwrap_or(0);
                    let heard = samples.min(clips.cut.unwrap_or(usize::MAX)).max(clips.unmasked_to.unwrap_or(0));
                    crate::frames_needed(&target.target) > published_frames(heard)
                });
                report.more_tokens_than_frames.insert(split, too_long.count());
            }
        }
    }
    if let Outputs::Classes { labels } = &made.outputs {
        let taught = &report.classes[SPLITS[0]];
        report.untaught_classes = labels.iter().filter(|label| !taught.contains_key(*label)).cloned().collect();
    }
    for (split, missing) in SPLITS.into_iter().zip(&made.missing_characters) {
        if !missing.is_empty() {
            report.missing_characters.insert(split, missing.clone());
        }
    }
    for (split, words) in SPLITS.into_iter().zip(&made.unknown_words) {
        let mut words: Vec<(String, usize)> = words.iter().map(|(word, count)| (word.clone(), *count)).collect();
        words.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        words.truncate(100);
        if !words.is_empty() {
            report.unknown_words.insert(split, words);
        }
    }
    if params.unknown_words == UnknownWords::Error {
        let words: BTreeSet<&String> = made.unknown_words.iter().flat_map(BTreeMap::keys).collect();
        if !words.is_empty() {
            return Err(TargetsError::UnknownWords { words: words.into_iter().cloned().collect() });
        }
    }
    Ok(report)
}

/// Checks that the training set has more than one label, and all that dev and test set have. An empty set is reported elsewhere.
///
/// A head that exists knows its classes already.
fn require_labels(params: &MakeTargets, made: &Made, has_head: bool) -> Result<(), TargetsError> {
    let train = &made.targets[0];
    if let (Outputs::Tags { labels }, false) = (&made.outputs, has_head)
        && labels.is_empty()
    {
        return Err(TargetsError::NoLabels { utterances: train.len() });
    }
    if matches!(made.outputs, Outputs::Tokens(_)) || train.is_empty() {
        return Ok(());
    }
    if !has_head && train.iter().all(|target| target.target == train[0].target) {
        return Err(TargetsError::OneClass { utterances: train.len(), label: train[0].text.clone() });
    }
    if params.unknown_labels == UnknownLabels::LeaveOut || made.unknown_labels.is_empty() {
        return Ok(());
    }
    if let (true, Outputs::Classes { labels } | Outputs::Tags { labels }) = (has_head, &made.outputs) {
        return Err(TargetsError::NotInHead {
            unknown: labels::describe(&made.unknown_labels),
            known: labels::shortened(labels.iter().map(|label| format!("`{label}`")), ", "),
        });
    }
    let known = labels::names(&made.outputs, train).into_iter().map(|label| format!("`{label}`"));
    Err(TargetsError::UnknownLabels {
        task: params.task.name(),
        unknown: labels::describe(&made.unknown_labels),
        known: labels::shortened(known, ", "),
    })
}

/// Frames that the published convolutions give (Baevski et al. 2020, section 4.2).
fn published_frames(num_samples: usize) -> usize {
    let layers = [(10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2)];
    layers
        .into_iter()
        .fold(num_samples, |samples, (kernel, stride)| if samples < kernel { 0 } else { (samples - kernel) / stride + 1 })
}

fn explain(error: TargetsError) -> StageError {
    let hint = match &error {
        TargetsError::EmptySplit { found: 0, .. } => {
            "`sure corpus check` says what a copy lacks, and `sure log` what was skipped; another protocol of the corpus may split it otherwise; a table of your own needs rows of each split (column `split`), or more speakers or rows to split"
        }
        TargetsError::EmptySplit { .. } => {
            "another protocol of the corpus may leave out other utterances; a table of your own needs the column that the task learns: `label`, `speaker` or `text`"
        }
        TargetsError::NoLabels { .. } => "write the labels of each utterance into the column `label`: `dog;rain`, or a JSON list",
        TargetsError::OneClass { .. } => {
            "choose another corpus, or another protocol of it; in a table of your own, the rows of the train set need two labels or more"
        }
        TargetsError::UnknownLabels { .. } => {
            "correct the labels, or give the train set utterances of each; or leave those utterances out: `--set task.targets.unknown_labels=leave_out`"
        }
        TargetsError::NotInHead { .. } => {
            "take a corpus with the labels of the head, or a fresh head; or leave those utterances out: `--set task.targets.unknown_labels=leave_out`"
        }
        TargetsError::OtherHead { .. } => "choose a task that the head can do",
        TargetsError::UnknownWords { .. } => {
            "add them to a lexicon (`lexicon = \"NAME\"`, and its folder under `[lexicons]` in sure.toml), or choose another `unknown_words`"
        }
    };
    StageError::failed(error).with_hint(hint)
}

/// `1 utterance`, `2 utterances`.
fn utterances(count: usize) -> String {
    format!("{count} utterance{}", if count == 1 { "" } else { "s" })
}

/// Reports what users should know at once.
fn tell(report: &TargetsReport, job: &Job) {
    for (split, reasons) in &report.left_out {
        for (reason, count) in reasons {
            job.progress.note(&format!("{split}: {} left out: {reason}", utterances(*count)));
        }
    }
    if !report.untaught_classes.is_empty() {
        let listed = report.untaught_classes.iter().map(|label| format!("`{label}`"));
        job.progress.note(&format!("train: no utterance is {}: not learned", labels::shortened(listed, ", ")));
    }
    for (split, count) in report.more_tokens_than_frames.iter().filter(|(_, count)| **count > 0) {
        let have = if *count == 1 { "has" } else { "have" };
        job.progress.note(&format!("{split}: {} {have} more tokens than frames: a loss of 0 each", utterances(*count)));
    }
    for (split, missing) in &report.missing_characters {
        let listed: String = missing.keys().collect();
        job.progress.note(&format!("{split}: the vocabulary lacks `{listed}`"));
    }
    for (split, words) in &report.unknown_words {
        let listed: Vec<&str> = words.iter().take(8).map(|(word, _)| word.as_str()).collect();
        job.progress.note(&format!("{split}: {} words without phonemes, among them {}", words.len(), listed.join(", ")));
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), StageError> {
    let mut text = serde_json::to_vec_pretty(value).map_err(StageError::failed)?;
    text.push(b'\n');
    fs::write(path, text).map_err(StageError::io("write", path))
}

/// The file of the task within the artifact.
pub const TASK_FILE: &str = task::FILE_NAME;

#[cfg(test)]
mod tests;
