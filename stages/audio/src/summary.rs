//! The stage `audio.summary`: counts what all parts of a corpus hold.
//!
//! ```text
//! statistics.json     the corpus, and the sum of all parts' reports: hours, lengths, classes, speakers, rejects by reason
//! rejects.parquet     the rejects of all parts
//! ```

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, RecordBatch, StringArray};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use pipeline::{Job, Slot, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::manifest::{self, Summary as CorpusSummary};
use crate::report::Report;
use crate::schema::{Column, write_table};

/// Adds up the reports of a corpus's shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Summary {}

impl Stage for Summary {
    const KIND: &'static str = "audio.summary";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "adds up what the shards of a corpus hold: hours, lengths, classes, rejects";

    fn slots() -> Vec<Slot> {
        vec![
            Slot::one("corpus", "the corpus.json of a corpus.manifest"),
            Slot::many("shards", "all parts of an audio.shards: the folders with report.json and rejects.parquet"),
        ]
    }
}

/// What `statistics.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// What was listed.
    pub corpus: CorpusSummary,
    /// What became of it.
    pub shards: Report,
}

/// The table of rejects of a part is not as `audio.shards` writes it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SummaryError {
    /// No Parquet, or damaged.
    #[error("cannot read `{path}`")]
    Parquet {
        /// The table.
        path: PathBuf,
        /// The cause.
        #[source]
        source: ParquetError,
    },
    /// Other columns.
    #[error("`{path}` is not a table of rejects: no column `{column}`")]
    Column {
        /// The table.
        path: PathBuf,
        /// What is not there.
        column: &'static str,
    },
}

/// The body of the stage.
///
/// Errors: an input that is not as `audio.shards` writes it; files that cannot be written.
pub fn run(_: &Summary, job: &Job) -> Result<(), StageError> {
    let corpus = manifest::read_summary(job.inputs.one("corpus"))?;
    let mut shards = Report::default();
    let mut rejects = Rejects::default();
    for part in job.inputs.many("shards") {
        shards.add(&manifest::read_json(&part.path.join("report.json"))?);
        rejects.read(&part.path.join("rejects.parquet")).map_err(StageError::failed)?;
    }
    manifest::write_json(&job.out.join("statistics.json"), &Statistics { corpus, shards })?;
    rejects.write(&job.out.join("rejects.parquet"))
}

/// The texts and offset of every reject.
#[derive(Default)]
struct Rejects(Vec<([String; 4], Option<u64>)>);

const TEXTS: [&str; 4] = ["id", "path", "reason", "kind"];

impl Rejects {
    fn read(&mut self, path: &Path) -> Result<(), SummaryError> {
        let parquet = |source| SummaryError::Parquet { path: path.to_owned(), source };
        let file = File::open(path).map_err(|error| parquet(ParquetError::External(Box::new(error))))?;
        let batches = ParquetRecordBatchReaderBuilder::try_new(file).and_then(ParquetRecordBatchReaderBuilder::build);
        for batch in batches.map_err(parquet)? {
            self.add(&batch.map_err(|error| parquet(error.into()))?, path)?;
        }
        Ok(())
    }

    fn add(&mut self, batch: &RecordBatch, path: &Path) -> Result<(), SummaryError> {
        let missing = |column| SummaryError::Column { path: path.to_owned(), column };
        let mut texts: Vec<&StringArray> = Vec::with_capacity(TEXTS.len());
        for name in TEXTS {
            let column = batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
            texts.push(column.ok_or_else(|| missing(name))?);
        }
        let offsets = batch.column_by_name("offset").and_then(|column| column.as_primitive_opt::<Int64Type>());
        let offsets = offsets.ok_or_else(|| missing("offset"))?;
        for row in 0..batch.num_rows() {
            let values = std::array::from_fn(|at| texts[at].value(row).to_owned());
            self.0.push((values, offsets.is_valid(row).then(|| offsets.value(row) as u64)));
        }
        Ok(())
    }

    /// Sorted, so that the parts' number does not matter.
    fn write(mut self, path: &Path) -> Result<(), StageError> {
        self.0.sort();
        let texts = TEXTS
            .iter()
            .enumerate()
            .map(|(at, &name)| (name, Column::Text(self.0.iter().map(|(texts, _)| texts[at].as_str()).collect())));
        let offsets = ("offset", Column::Number(self.0.iter().map(|(_, offset)| *offset).collect()));
        write_table(path, texts.chain([offsets]).collect())
    }
}
