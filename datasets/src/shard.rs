//! Rows of a shard without their audio: what training reads of every utterance, and what targets are made of.

use std::path::Path;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};

use crate::Annotation;
use crate::annotation::columns;
use crate::parquet_file::{Batch, ParquetFile, ParquetFileError};

/// Kind of file, for messages of [`ParquetFile`].
pub const SHARD: &str = "a shard";
/// Sample rate of shards that do not state theirs, in Hz.
const USUAL_RATE: u32 = 16_000;

/// A row of a shard without its audio.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowInfo {
    /// Id, unique in the corpus.
    pub id: String,
    /// Length of the clip in samples.
    pub num_samples: usize,
    /// Sample rate of the clip in Hz.
    pub sample_rate: u32,
    /// Index of the class.
    pub class: Option<u32>,
    /// Labels, texts and tags.
    pub annotation: Annotation,
}

impl RowInfo {
    /// Reads all rows of a shard, in the order of the file, and the names of the classes. Of the columns only those that are
    /// `wanted` are read: the audio never, `id` and `num_samples` always.
    ///
    /// Errors: [`ParquetFileError`].
    pub fn read(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<(Vec<Self>, Vec<String>), ParquetFileError> {
        let file = ParquetFile::open(path, SHARD)?;
        let classes = file.class_names("label");
        let mut rows = Vec::new();
        for batch in file.rows(|path| is_read(path, &wanted))? {
            rows.extend(Self::decode(&batch?)?);
        }
        Ok((rows, classes))
    }

    /// Rows of a batch, which must have the columns `id` and `num_samples`.
    ///
    /// Errors: [`ParquetFileError::Layout`].
    pub fn decode(batch: &Batch) -> Result<Vec<Self>, ParquetFileError> {
        let (ids, num_samples) = (batch.text("id")?, batch.numbers("num_samples")?);
        let rates = batch.find("sample_rate").and_then(|column| column.as_primitive_opt::<Int32Type>());
        let classes = batch.find("label").and_then(|column| column.as_primitive_opt::<Int64Type>());
        let annotations = columns::decode(batch.arrow()).map_err(|problem| batch.layout(problem))?;
        let row = |(row, annotation): (usize, Annotation)| {
            let class = classes.filter(|classes| classes.is_valid(row)).map(|classes| classes.value(row));
            let class = class.map(|class| u32::try_from(class).map_err(|_| batch.layout(format!("a label of {class}"))));
            let samples = num_samples.value(row);
            Ok(Self {
                id: ids.value(row).to_owned(),
                num_samples: samples.try_into().map_err(|_| batch.layout(format!("a length of {samples} samples")))?,
                sample_rate: rates.map_or(USUAL_RATE, |rates| rates.value(row) as u32),
                class: class.transpose()?,
                annotation,
            })
        };
        annotations.into_iter().enumerate().map(row).collect()
    }
}

/// True for the leaf columns that [`RowInfo::read`] reads.
pub fn is_read(path: &str, wanted: impl Fn(&str) -> bool) -> bool {
    let column = path.split('.').next().unwrap_or(path);
    column != "audio" && (["id", "num_samples"].contains(&column) || wanted(column))
}
