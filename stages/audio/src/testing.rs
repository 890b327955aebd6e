//! Fixtures of the tests of both stages: a corpus in the FSDD layout, and jobs without an engine.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datasets::table::ColumnNames;
use pipeline::source::{Tree, TreeFile};
use pipeline::toolbox::Toolbox;
use pipeline::{Digest, Input, Inputs, Job, Places, Silent, Spare, Stage, StageError, Stop};
use tempfile::TempDir;

use crate::manifest::{self, Manifest};
use crate::recording::Format;
use crate::shards::{self, Shards};
use crate::wav::write_pcm16;

pub(crate) const PLACE: &str = "corpora.fsdd";

/// A corpus, and folders for what is made of it.
pub(crate) struct Fixture {
    pub(crate) folder: TempDir,
}

impl Fixture {
    /// A corpus of `digits` digits, two speakers and twelve indices at 8 kHz.
    pub(crate) fn new(digits: u32) -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir_all(bench.corpus().join("recordings")).unwrap();
        for digit in 0..digits {
            for speaker in ["ann", "bob"] {
                for index in 0..12 {
                    let len = 400 + 10 * digit as usize + index;
                    let samples: Vec<i16> = (0..len).map(|n| ((n * n * (3 + index)) % 2_001) as i16 - 1_000).collect();
                    bench.record(&format!("{digit}_{speaker}_{index}"), &write_pcm16(8_000, &samples));
                }
            }
        }
        bench
    }

    pub(crate) fn corpus(&self) -> PathBuf {
        self.folder.path().join("corpus")
    }

    pub(crate) fn record(&self, id: &str, bytes: &[u8]) {
        fs::write(self.corpus().join(format!("recordings/{id}.wav")), bytes).unwrap();
    }

    /// The tree as the engine would hash it.
    pub(crate) fn tree(&self) -> Tree {
        let mut tree = Tree { root: self.corpus(), files: Vec::new() };
        for entry in fs::read_dir(self.corpus().join("recordings")).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                let bytes = fs::read(entry.path()).unwrap();
                let path = format!("recordings/{}", entry.file_name().into_string().unwrap());
                tree.files.push(TreeFile { path, size: bytes.len() as u64, digest: Digest::of(&bytes) });
            }
        }
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        tree
    }

    /// A job that writes to the folder `out` of the bench.
    pub(crate) fn job(&self, out: &str, inputs: &[(&str, PathBuf)], tree: Option<Tree>) -> Job {
        let out = self.folder.path().join(out);
        fs::create_dir_all(&out).unwrap();
        let input = |path: &PathBuf| vec![Input { path: path.clone(), point: BTreeMap::new(), partition: None }];
        Job {
            inputs: Inputs(inputs.iter().map(|(slot, path)| ((*slot).to_owned(), input(path))).collect()),
            sources: tree.map(|tree| (PLACE.to_owned(), Arc::new(tree))).into_iter().collect(),
            places: Places([(PLACE.to_owned(), self.corpus())].into()),
            partition: None,
            resume: out.join("resume"),
            out,
            threads: 1,
            spare: Spare::default(),
            tools: Toolbox::new(&std::env::var_os("PATH").unwrap_or_default()).tools(&Shards::tools()),
            gpu: None,
            others: vec![],
            progress: Box::new(Silent),
            stop: Stop::default(),
        }
    }

    /// Runs the manifest stage into `out`.
    pub(crate) fn manifest(&self, out: &str, partitions: u32) -> Result<PathBuf, StageError> {
        let params = Manifest {
            corpus: "fsdd".to_owned(),
            protocol: None,
            tables: Vec::new(),
            columns: ColumnNames::default(),
            max_missing_share: None,
            partitions,
        };
        let job = self.job(out, &[], Some(self.tree()));
        manifest::run(&params, &job)?;
        Ok(job.out)
    }

    /// Runs the shards stage on a part of a manifest, into `out`.
    pub(crate) fn shards(&self, out: &str, manifest: &Path, part: u32, threads: usize) -> Result<PathBuf, StageError> {
        Self::run_shards(Job { threads, ..self.shards_job(out, manifest, part) })
    }

    /// Runs the shards stage on the first part, by one thread and those that it may borrow.
    pub(crate) fn helped_shards(&self, out: &str, manifest: &Path, spare: &Spare) -> Result<PathBuf, StageError> {
        Self::run_shards(Job { spare: spare.clone(), ..self.shards_job(out, manifest, 0) })
    }

    fn shards_job(&self, out: &str, manifest: &Path, part: u32) -> Job {
        let inputs = [("manifest", manifest.join(manifest::part_folder(part))), ("labels", manifest.join("labels.json"))];
        self.job(out, &inputs, None)
    }

    fn run_shards(job: Job) -> Result<PathBuf, StageError> {
        shards::run(&params(), &job)?;
        Ok(job.out)
    }
}

/// Parameters of the shards stage in tests.
pub(crate) fn params() -> Shards {
    Shards { sample_rate: 16_000, max_reject_share: 0.1, format: Format::Wav, min_duration_secs: None, max_duration_secs: None }
}
