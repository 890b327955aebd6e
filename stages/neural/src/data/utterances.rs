//! The utterances of a split, and their samples as a model wants them.

use std::path::Path;

use audio::features::FeatureInfo;
use audio::reader::{ReadError, ShardReader};
use pipeline::{Input, StageError};

use crate::checkpoint::Preprocessor;

/// The labelled utterances of one split.
#[derive(Debug)]
pub struct Utterances {
    shards: ShardReader,
    labels: Vec<i64>,
    lengths: Vec<usize>,
    num_classes: usize,
    preprocessor: Preprocessor,
}

/// Data that a classifier cannot be trained or tested on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A shard cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Nothing to learn from.
    #[error("the {split} set has no utterances")]
    Empty {
        /// `train`, `dev` or `test`.
        split: &'static str,
    },
    /// An utterance without a class.
    #[error("utterance `{id}` of the {split} set has no label")]
    NoLabel {
        /// The utterance.
        id: String,
        /// `train`, `dev` or `test`.
        split: &'static str,
    },
    /// Shards and list of classes belong to different manifests.
    #[error("the shards of the {split} set have the classes {found:?}, `labels` has {expected:?}")]
    OtherLabels {
        /// `train`, `dev` or `test`.
        split: &'static str,
        /// What the list says.
        expected: Vec<String>,
        /// What the shards say.
        found: Vec<String>,
    },
    /// A fault of ours: the thread that loads batches went away.
    #[error("the thread that loads batches ended before the last batch")]
    LoaderEnded,
    /// The list of classes is not one.
    #[error("`{path}` is not a list of classes")]
    Labels {
        /// The file.
        path: std::path::PathBuf,
        /// Where it departs from a JSON list of texts.
        #[source]
        source: serde_json::Error,
    },
}

impl From<DataError> for StageError {
    fn from(error: DataError) -> Self {
        Self::failed(error)
    }
}

/// Reads `labels.json`: the classes, in the order of their indices.
///
/// Errors: a file that cannot be read, [`DataError::Labels`].
pub fn read_labels(path: &Path) -> Result<Vec<String>, StageError> {
    let text = std::fs::read(path).map_err(StageError::io("read", path))?;
    serde_json::from_slice(&text).map_err(|source| StageError::failed(DataError::Labels { path: path.to_owned(), source }))
}

impl Utterances {
    /// Opens the shards of a split. `classes` is the list of labels; the preprocessor is the encoder's.
    ///
    /// Errors: [`DataError`].
    pub fn open(
        split: &'static str,
        shards: &[Input],
        classes: &[String],
        preprocessor: Preprocessor,
    ) -> Result<Self, DataError> {
        let paths: Vec<&Path> = shards.iter().map(|input| input.path.as_path()).collect();
        let shards = ShardReader::open(&paths)?;
        if shards.rows().is_empty() {
            return Err(DataError::Empty { split });
        }
        if shards.labels() != classes {
            return Err(DataError::OtherLabels { split, expected: classes.to_vec(), found: shards.labels().to_vec() });
        }
        let label = |row: &audio::reader::RowInfo| {
            let known = row.label.filter(|&label| (label as usize) < classes.len());
            known.map(i64::from).ok_or_else(|| DataError::NoLabel { id: row.id.clone(), split })
        };
        let labels = shards.rows().iter().map(label).collect::<Result<_, _>>()?;
        let lengths = shards.rows().iter().map(|row| row.num_samples).collect();
        Ok(Self { shards, labels, lengths, num_classes: classes.len(), preprocessor })
    }

    /// Lengths in samples, by row; rows are in order of id.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }
    /// Classes, by row.
    pub fn labels(&self) -> &[i64] {
        &self.labels
    }
    /// How many classes there are.
    pub fn num_classes(&self) -> usize {
        self.num_classes
    }
    /// The id of a row.
    pub fn id(&self, row: usize) -> &str {
        &self.shards.rows()[row].id
    }
    /// The speaker of a row, where the corpus names one.
    pub fn speaker(&self, row: usize) -> Option<&str> {
        self.shards.rows()[row].speaker.as_deref()
    }

    /// What the shards hold in the place of audio; none when they hold audio.
    pub fn features(&self) -> Option<&FeatureInfo> {
        self.shards.features()
    }

    /// The samples of a row, as the encoder wants them; or its features, frame after frame, where the shards hold those.
    ///
    /// Errors: [`DataError::Read`].
    pub fn samples(&self, row: usize) -> Result<Vec<f32>, DataError> {
        if let Some(features) = self.shards.load_features(row)? {
            return Ok(features);
        }
        let mut samples = self.shards.load(row)?;
        self.preprocessor.prepare(&mut samples);
        Ok(samples)
    }
}
