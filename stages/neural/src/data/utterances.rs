//! The utterances of a split: their samples as a model wants them, and what is to be learned of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use audio::features::FeatureInfo;
use audio::reader::{ReadError, ShardReader};
use datasets::parquet_file::ParquetFileError;
use pipeline::{Input, StageError};
use tasks::targets::{Target, read_targets};
use tasks::{Clips, Order, Outputs, TaskFile};
use tch::Tensor;

use super::batches::{BatchLimit, longest_first, shuffled};
use crate::checkpoint::preprocessor::Preprocessor;
use crate::error::TOO_LONG;
use crate::models::heads::Targets;

/// Length of the longest clip, in seconds: attention over it takes some 40 GB in each layer of a base encoder.
const LONGEST_SECS: u32 = 600;

/// The utterances of one split that have a target.
#[derive(Debug)]
pub struct Utterances {
    shards: ShardReader,
    /// Rows of the shards, by row here.
    rows: Vec<usize>,
    targets: Vec<Target>,
    /// Lengths that batches count, in samples.
    lengths: Vec<usize>,
    task: TaskFile,
    preprocessor: Preprocessor,
}

/// Data that cannot be trained or tested on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A shard cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Targets cannot be read.
    #[error(transparent)]
    Targets(#[from] ParquetFileError),
    /// Nothing to learn from.
    #[error("the {split} set has no utterances")]
    Empty {
        /// `train`, `dev` or `test`.
        split: &'static str,
    },
    /// Targets and shards belong to different corpora.
    #[error("`{targets}` has a target for `{id}`, which is not in the shards of the {split} set")]
    NoAudio {
        /// The targets.
        targets: PathBuf,
        /// The utterance.
        id: String,
        /// `train`, `dev` or `test`.
        split: &'static str,
    },
    /// Targets and task belong to different tasks.
    #[error("the target of `{id}` in `{targets}` is {found:?}, and the task has {outputs} outputs")]
    OtherTask {
        /// The targets.
        targets: PathBuf,
        /// The utterance.
        id: String,
        /// Target of the utterance.
        found: Vec<i64>,
        /// How many outputs the task has.
        outputs: usize,
    },
    /// Targets and task belong to different tasks, though the numbers would fit.
    #[error("the target of `{id}` in `{targets}` is `{text}`, and with the outputs of the task it would be `{meant}`")]
    OtherOutputs {
        /// The targets.
        targets: PathBuf,
        /// The utterance.
        id: String,
        /// Text of the target.
        text: String,
        /// Meaning of the target in the task.
        meant: String,
    },
    /// Features of whole clips cannot be cut.
    #[error("the {split} set holds features of whole clips, and the task cuts, pads or feeds them as they are")]
    CutFeatures {
        /// `train`, `dev` or `test`.
        split: &'static str,
    },
    /// A clip that the encoder has no positions for, or no machine has the memory for.
    #[error(
        "`{id}` of the {split} set has {secs:.1} s, and {} {limit_secs} s ({count} {} longer)",
        if *is_of_encoder { "this encoder has positions for" } else { "memory grows with the square of the length: clips may have" },
        if *count == 1 { "utterance is" } else { "utterances are" }
    )]
    TooLong {
        /// `train`, `dev` or `test`.
        split: &'static str,
        /// The longest utterance.
        id: String,
        /// Its length.
        secs: f64,
        /// Length of the longest one that is possible.
        limit_secs: f64,
        /// True if the encoder sets the limit.
        is_of_encoder: bool,
        /// How many are too long.
        count: usize,
    },
    /// There is no memory for a batch.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
    /// A fault of ours: the thread that loads batches went away.
    #[error("the thread that loads batches ended before the last batch")]
    LoaderEnded,
}

impl From<DataError> for StageError {
    fn from(error: DataError) -> Self {
        let hint = match error {
            DataError::OtherTask { .. } | DataError::OtherOutputs { .. } => {
                "take targets and `task.json` from one and the same `task.targets`"
            }
            DataError::NoAudio { .. } => "take the shards that the targets were made of",
            DataError::TooLong { is_of_encoder: true, .. } => TOO_LONG,
            DataError::TooLong { .. } => {
                "cut it: a table may list stretches (columns `start` and `end`); or leave it out: `--set audio.shards.max_duration_secs=60`"
            }
            _ => return Self::failed(error),
        };
        Self::failed(error).with_hint(hint)
    }
}

impl Utterances {
    /// Opens the shards of a split and the targets of its utterances; those without a target are passed over.
    ///
    /// Errors: [`DataError`].
    pub fn open(
        split: &'static str,
        shards: &[Input],
        targets: &Path,
        task: &TaskFile,
        preprocessor: Preprocessor,
    ) -> Result<Self, DataError> {
        let paths: Vec<&Path> = shards.iter().map(|input| input.path.as_path()).collect();
        let shards = ShardReader::open(&paths)?;
        let by_id: BTreeMap<&str, usize> = shards.rows().iter().map(|row| row.id.as_str()).zip(0..).collect();
        let list = read_targets(targets)?;
        if list.is_empty() {
            return Err(DataError::Empty { split });
        }
        let mut rows = Vec::with_capacity(list.len());
        for target in &list {
            if !fits(&target.target, &task.outputs) {
                let (targets, id, found) = (targets.to_owned(), target.id.clone(), target.target.clone());
                return Err(DataError::OtherTask { targets, id, found, outputs: task.outputs.len() });
            }
            let row = by_id.get(target.id.as_str()).copied();
            rows.push(row.ok_or_else(|| DataError::NoAudio { targets: targets.to_owned(), id: target.id.clone(), split })?);
        }
        if let Some((target, meant)) = misread(&list, &task.outputs) {
            let (targets, id, text) = (targets.to_owned(), target.id.clone(), target.text.clone());
            return Err(DataError::OtherOutputs { targets, id, text, meant });
        }
        let clips = &task.clips;
        if shards.features().is_some() && (clips.cut.is_some() || clips.pad.is_some() || clips.unmasked_to.is_some() || clips.raw)
        {
            return Err(DataError::CutFeatures { split });
        }
        let length = |&row: &usize| {
            let own = shards.rows()[row].num_samples.min(clips.cut.unwrap_or(usize::MAX));
            own.max(clips.pad.unwrap_or(0))
        };
        let lengths: Vec<usize> = rows.iter().map(length).collect();
        let of_encoder = preprocessor.frames.and_then(|frames| frames.max_samples());
        let limit = of_encoder.unwrap_or(i64::from(LONGEST_SECS) * i64::from(preprocessor.sampling_rate));
        let too_long = |&(_, length): &(usize, usize)| length as i64 > limit;
        let all: Vec<(usize, usize)> = lengths.iter().copied().enumerate().filter(too_long).collect();
        if let Some(&(row, length)) = all.iter().max_by_key(|(_, length)| length) {
            let rate = f64::from(preprocessor.sampling_rate);
            let (secs, limit_secs) = (length as f64 / rate, limit as f64 / rate);
            let (id, count, is_of_encoder) = (list[row].id.clone(), all.len(), of_encoder.is_some());
            return Err(DataError::TooLong { split, id, secs, limit_secs, is_of_encoder, count });
        }
        Ok(Self { shards, rows, targets: list, lengths, task: task.clone(), preprocessor })
    }

    /// Lengths in samples as batches count them, by row; rows are in order of id.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }
    /// Targets, by row.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }
    /// Outputs of a model.
    pub fn outputs(&self) -> &Outputs {
        &self.task.outputs
    }
    /// How clips become batches.
    pub fn clips(&self) -> &Clips {
        &self.task.clips
    }
    /// The id of a row.
    pub fn id(&self, row: usize) -> &str {
        &self.targets[row].id
    }
    /// The speaker of a row.
    pub fn speaker(&self, row: usize) -> Option<&str> {
        self.shards.rows()[self.rows[row]].annotation.speaker.as_deref()
    }
    /// The samples of a row's recording, before any cut.
    pub fn num_samples(&self, row: usize) -> usize {
        self.shards.rows()[self.rows[row]].num_samples
    }

    /// Corpus, protocol, licence and split of the shards, as JSON; none where they do not say.
    pub fn origin(&self) -> Option<&str> {
        self.shards.origin()
    }

    /// Features in the shards; none when they hold audio.
    pub fn features(&self) -> Option<&FeatureInfo> {
        self.shards.features()
    }

    /// Values of a frame of [`Self::samples`]; none where those are samples.
    pub fn width(&self) -> Option<usize> {
        self.features().map(|features| features.width).or(self.preprocessor.width())
    }

    /// The batches of one epoch of training, in order. The same seed and epoch give the same batches.
    pub fn batches(&self, limit: BatchLimit, seed: u64, epoch: u64) -> Vec<Vec<usize>> {
        let mut batches = match self.clips().order {
            Order::Shuffled => shuffled(&self.lengths, limit, seed, epoch),
            Order::LongestTargetFirst => {
                let tokens: Vec<usize> = self.targets.iter().map(|target| target.target.len()).collect();
                longest_first(&tokens, &self.lengths, limit)
            }
        };
        if let Some(most) = self.clips().halve_above {
            for batch in batches.iter_mut().filter(|batch| batch.len() > 1 && self.num_samples(batch[0]) > most) {
                batch.truncate(batch.len() / 2);
            }
        }
        batches
    }

    /// The samples of a row, as the encoder wants them, without padding; or its features, frame after frame, where the shards
    /// hold those or the encoder reads those.
    ///
    /// Errors: [`DataError::Read`].
    pub fn samples(&self, row: usize) -> Result<Vec<f32>, DataError> {
        if let Some(features) = self.shards.load_features(self.rows[row])? {
            return Ok(features);
        }
        Ok(prepared(self.shards.load(self.rows[row])?, self.clips(), &self.preprocessor))
    }

    /// The targets of some rows, as the head of the task wants them.
    pub fn batch_targets(&self, rows: &[usize]) -> Targets {
        let own = |&row: &usize| self.targets[row].target.clone();
        let ids: Vec<Vec<i64>> = rows.iter().map(own).collect();
        match &self.task.outputs {
            Outputs::Classes { .. } => Targets::Classes(Tensor::from_slice(&ids.concat())),
            Outputs::Tags { labels } => {
                let mut tags = vec![0.0_f32; rows.len() * labels.len()];
                for (row, own) in ids.iter().enumerate() {
                    for &label in own {
                        tags[row * labels.len() + label as usize] = 1.0;
                    }
                }
                Targets::Tags(Tensor::from_slice(&tags).view([rows.len() as i64, labels.len() as i64]))
            }
            Outputs::Groups { groups } => {
                Targets::Groups(Tensor::from_slice(&ids.concat()).view([rows.len() as i64, groups.len() as i64]))
            }
            Outputs::Tokens(vocabulary) => Targets::Tokens { ids, blank: vocabulary.blank() },
        }
    }
}

/// Cuts and normalises the samples of a clip, and makes feature frames of them where the encoder reads those.
pub(crate) fn prepared(mut samples: Vec<f32>, clips: &Clips, preprocessor: &Preprocessor) -> Vec<f32> {
    if clips.normalise_before_cut && !clips.raw {
        preprocessor.prepare(&mut samples);
    }
    samples.truncate(clips.cut.unwrap_or(usize::MAX));
    if !clips.normalise_before_cut && !clips.raw {
        preprocessor.prepare(&mut samples);
    }
    let Some(frames) = &preprocessor.frames else { return samples };
    // What counts as sound is part of the frames.
    samples.resize(heard(samples.len(), clips), 0.0);
    frames.compute(&samples)
}

/// Samples of a recording that count as sound, of `num_samples`.
pub(crate) fn heard(num_samples: usize, clips: &Clips) -> usize {
    num_samples.min(clips.cut.unwrap_or(usize::MAX)).max(clips.unmasked_to.unwrap_or(1)).max(1)
}

/// True if a target is one of a task with these outputs.
fn fits(target: &[i64], outputs: &Outputs) -> bool {
    let within = |value: i64, count: usize| usize::try_from(value).is_ok_and(|value| value < count);
    match outputs {
        Outputs::Classes { labels } => target.len() == 1 && within(target[0], labels.len()),
        Outputs::Tags { labels } => target.iter().all(|&value| within(value, labels.len())) && target.is_sorted(),
        Outputs::Groups { groups } => {
            target.len() == groups.len() && target.iter().zip(groups).all(|(&value, group)| within(value, group.labels.len()))
        }
        Outputs::Tokens(vocabulary) => target.iter().all(|&value| within(value, vocabulary.tokens().len())),
    }
}

/// A target whose numbers mean something else than its text says, and what they mean: it was made for other outputs.
///
/// Texts may differ here and there, where a vocabulary lacks characters; that none is spelled as it reads tells another vocabulary.
fn misread<'a>(targets: &'a [Target], outputs: &Outputs) -> Option<(&'a Target, String)> {
    let mut readings = targets.iter().filter_map(|target| Some((target, meaning(&target.target, outputs)?)));
    let differs = |(target, meant): &(&Target, String)| target.text != *meant;
    match outputs {
        Outputs::Classes { .. } | Outputs::Tags { .. } | Outputs::Groups { .. } => readings.find(differs),
        Outputs::Tokens(_) => {
            let first = readings.next().filter(differs)?;
            readings.all(|one| differs(&one)).then_some(first)
        }
    }
}

/// Meaning of numbers with these outputs; none where that is unknown.
fn meaning(target: &[i64], outputs: &Outputs) -> Option<String> {
    match outputs {
        Outputs::Classes { labels } => Some(labels[target[0] as usize].clone()),
        Outputs::Tags { labels } => Some(target.iter().map(|&id| &*labels[id as usize]).collect::<Vec<_>>().join(", ")),
        Outputs::Groups { groups } => {
            let names = groups.iter().zip(target).map(|(group, &class)| group.labels[class as usize].as_str());
            Some(names.collect::<Vec<_>>().join(", "))
        }
        Outputs::Tokens(vocabulary) => {
            let tokens = vocabulary.without_blanks(target); // and without an end token
            let known = !tokens.is_empty() && !tokens.contains(&vocabulary.unknown());
            known.then(|| vocabulary.decode_to_score(&tokens))
        }
    }
}
