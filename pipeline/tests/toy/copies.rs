//! Stages that copy, as in the graph by which build tools are compared: shards of three chained copies and one merge.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use pipeline::registry::Registry;
use pipeline::source::SourceNeed;
use pipeline::{Job, Slot, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Adds these stages.
pub(crate) fn with_copies(registry: Registry) -> Registry {
    registry.here::<Shelf>(shelf).here::<Copy>(copy).here::<Hole>(hole)
}

/// Takes in the files of a folder, one to a part.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Shelf {
    /// How many files there are.
    partitions: u32,
}

impl Stage for Shelf {
    const KIND: &'static str = "toy.shelf";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "takes in the files of a folder";
    fn slots() -> Vec<Slot> {
        vec![]
    }
    fn outputs(&self) -> Vec<String> {
        Vec::new()
    }
    fn sources(&self) -> Vec<SourceNeed> {
        vec![SourceNeed { place: "books".into(), wants: Box::new(|_| true) }]
    }
    fn partitions(&self) -> Option<u32> {
        Some(self.partitions)
    }
}

fn shelf(stage: &Shelf, job: &Job) -> Result<(), StageError> {
    let tree = &job.sources["books"];
    if tree.files.len() != stage.partitions as usize {
        return Err(StageError::failed(format!("{} files for {} parts", tree.files.len(), stage.partitions)));
    }
    for (part, file) in tree.files.iter().enumerate() {
        let folder = job.out.join(format!("parts/{part:05}"));
        fs::create_dir_all(&folder).map_err(StageError::io("create", &folder))?;
        let from = tree.root.join(&file.path);
        fs::copy(&from, folder.join("text.txt")).map_err(StageError::io("copy", &from))?;
    }
    Ok(())
}

/// Copies a file.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Copy {
    /// The name of the copy. Copies of the same name and content would be one artifact, made once.
    to: String,
    /// Kind of the copying stage.
    by: Copier,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Copier {
    /// This process.
    Call,
    /// A command of the shell, as ninja and make run theirs.
    Shell,
}

impl Stage for Copy {
    const KIND: &'static str = "toy.copy";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "copies a file";
    fn slots() -> Vec<Slot> {
        vec![Slot::one("text", "a folder with one file")]
    }
    fn outputs(&self) -> Vec<String> {
        vec![self.to.clone()]
    }
}

fn copy(stage: &Copy, job: &Job) -> Result<(), StageError> {
    let folder = job.inputs.one("text");
    let mut files = fs::read_dir(folder).map_err(StageError::io("list", folder))?;
    let file = files.next().ok_or_else(|| StageError::failed(format!("nothing in {}", folder.display())))?;
    let (from, to) = (file.map_err(StageError::io("list", folder))?.path(), job.out.join(&stage.to));
    match stage.by {
        Copier::Call => _ = fs::copy(&from, &to).map_err(StageError::io("copy", &from))?,
        Copier::Shell => {
            let copied = Command::new("/bin/sh").args(["-c", "cp \"$0\" \"$1\""]).args([&from, &to]).status();
            if !copied.map_err(StageError::io("run", "/bin/sh"))?.success() {
                return Err(StageError::failed(format!("cp {} {}", from.display(), to.display())));
            }
        }
    }
    Ok(())
}

/// Writes a file with nothing in it, however large.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Hole {
    /// Size of the file.
    bytes: u64,
}

impl Stage for Hole {
    const KIND: &'static str = "toy.hole";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "writes a large file";
    fn slots() -> Vec<Slot> {
        vec![]
    }
    fn outputs(&self) -> Vec<String> {
        vec!["hole".to_owned()]
    }
}

fn hole(stage: &Hole, job: &Job) -> Result<(), StageError> {
    let path: PathBuf = job.out.join("hole");
    File::create(&path).and_then(|file| file.set_len(stage.bytes)).map_err(StageError::io("write", &path))
}
