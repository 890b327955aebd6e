//! The stage `audio.summary`: counts what all parts of a corpus hold.
//!
//! ```text
//! statistics.json     the corpus, and the sum of all parts' reports: hours, lengths, classes, speakers, rejects by reason
//! rejects.parquet     the rejects of all parts
//! ```

use std::path::Path;

use arrow_array::{Array, StringArray};
use datasets::parquet_file::{ParquetFile, ParquetFileError};
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

    fn outputs(&self) -> Vec<String> {
        ["rejects.parquet", "statistics.json"].map(str::to_owned).to_vec()
    }
    fn slots() -> Vec<Slot> {
        vec![
            Slot::one("corpus", "the corpus.json of a corpus.manifest"),
            Slot::many("shards", "all parts of an audio.shards: the folders with report.json and rejects.parquet"),
        ]
    }
}

/// Content of `statistics.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// Listing of the corpus.
    pub corpus: CorpusSummary,
    /// Sum of the reports of all parts.
    pub shards: Report,
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
    fn read(&mut self, path: &Path) -> Result<(), ParquetFileError> {
        for batch in ParquetFile::open(path, "a table of rejects")?.rows(|_| true)? {
            let batch = batch?;
            let mut texts: Vec<&StringArray> = Vec::with_capacity(TEXTS.len());
            for name in TEXTS {
                texts.push(batch.text(name)?);
            }
            let offsets = batch.numbers("offset")?;
            for row in 0..batch.num_rows() {
                let values = std::array::from_fn(|at| texts[at].value(row).to_owned());
                self.0.push((values, offsets.is_valid(row).then(|| offsets.value(row) as u64)));
            }
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
