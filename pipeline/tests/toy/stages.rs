//! Toy text stages: enough to show all that the engine promises. Shared by the tests and by the `toy` program, which is
//! their worker and their driver.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use pipeline::registry::Registry;
use pipeline::source::SourceNeed;
use pipeline::{CpuDemand, Demand, Digest, GpuDemand, Job, Slot, Stage, StageError, Tool};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// All kinds; `worker` is the `toy` program.
pub(crate) fn registry(worker: &Path) -> Registry {
    in_process(Registry::default()).in_worker::<Far>(worker).in_worker::<Missing>("/nonexistent/worker")
}

/// Adds the kinds whose bodies are in this process.
pub(crate) fn in_process(registry: Registry) -> Registry {
    registry
        .here::<List>(list)
        .here::<Count>(count)
        .here::<Text>(text)
        .here::<Join>(join)
        .here::<Steps>(steps)
        .here::<Trouble>(trouble)
        .here::<Shout>(shout)
}

/// A note in the ledger, a file outside the store that tells how often bodies ran. Only tests have one.
pub(crate) fn enter(job: &Job, line: &str) {
    if let Some(path) = job.places.0.get("ledger") {
        let mut ledger = File::options().create(true).append(true).open(path).expect("the ledger can be written");
        ledger.write_all(format!("{line}\n").as_bytes()).expect("the ledger can be written");
    }
}

pub(crate) fn write(job: &Job, name: &str, text: &str) -> Result<(), StageError> {
    let path = job.out.join(name);
    let folder = path.parent().expect("files lie in folders");
    fs::create_dir_all(folder).map_err(StageError::io("create", folder))?;
    fs::write(&path, text).map_err(StageError::io("write", &path))
}

/// The text of an input: of a file, or of all files of a folder in order of their names.
pub(crate) fn read(path: &Path) -> Result<String, StageError> {
    if path.is_file() {
        return fs::read_to_string(path).map_err(StageError::io("read", path));
    }
    let entries = fs::read_dir(path).map_err(StageError::io("list", path))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

/// Lists the books of a folder in parts.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct List {
    /// Into how many parts.
    partitions: u32,
}

impl Stage for List {
    const KIND: &'static str = "toy.list";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "lists the books of a folder";
    fn slots() -> Vec<Slot> {
        vec![]
    }
    fn outputs(&self) -> Vec<String> {
        vec!["names.txt".to_owned()]
    }
    fn sources(&self) -> Vec<SourceNeed> {
        vec![SourceNeed { place: "books".into(), wants: Box::new(|path| path.ends_with(".txt")) }]
    }
    fn partitions(&self) -> Option<u32> {
        Some(self.partitions)
    }
}

/// Does to a book what somebody may do to it while the list is made.
pub(crate) fn meddle(way: &str, book: &Path) {
    let done = match way {
        "edit" => fs::write(book, "edited while the list was made"),
        "add" => fs::write(book.with_extension("more.txt"), "added while the list was made"),
        "remove" => fs::remove_file(book),
        "link" => {
            let aside = book.with_extension("aside");
            fs::rename(book, &aside).and_then(|()| std::os::unix::fs::symlink(&aside, book))
        }
        "edit and take back" => fs::read(book).and_then(|old| fs::write(book, "other").and_then(|()| fs::write(book, old))),
        _ => Err(std::io::Error::other("no such way")),
    };
    done.expect("the book can be written");
}

/// The part a book belongs to.
pub(crate) fn part_of(book: &str, partitions: u32) -> u32 {
    u32::from(Digest::of(book.as_bytes()).0[0]) % partitions
}

fn list(stage: &List, job: &Job) -> Result<(), StageError> {
    enter(job, "list");
    let tree = &job.sources["books"];
    for (way, book) in job.places.0.iter().filter_map(|(place, book)| Some((place.strip_prefix("meanwhile ")?, book))) {
        meddle(way, book);
    }
    let mut lists = vec![String::new(); stage.partitions as usize];
    for file in &tree.files {
        lists[part_of(&file.path, stage.partitions) as usize] += &format!("{} {}\n", file.digest, file.path);
    }
    for (part, lines) in lists.iter().enumerate() {
        write(job, &format!("parts/{part:05}/books.txt"), lines)?;
    }
    let names: String = tree.files.iter().map(|file| format!("{}\n", file.path)).collect();
    write(job, "names.txt", &names)
}

/// Counts the words of the books of one part.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Count {
    /// Shorter words do not count.
    min_length: usize,
}

impl Stage for Count {
    const KIND: &'static str = "toy.count";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "counts the words of some books";
    fn slots() -> Vec<Slot> {
        vec![Slot::one("books", "a part of a list of books")]
    }
    fn outputs(&self) -> Vec<String> {
        vec!["count.txt".to_owned(), "about/books.txt".to_owned()]
    }
}

fn count(stage: &Count, job: &Job) -> Result<(), StageError> {
    enter(job, &format!("count#{}", job.partition.unwrap_or_default()));
    let mut report = String::new();
    let mut words = 0;
    for line in read(&job.inputs.one("books").join("books.txt"))?.lines() {
        let (digest, book) = line.split_once(' ').expect("the list has two columns");
        let path = job.places.get("books")?.join(book);
        let bytes = fs::read(&path).map_err(StageError::io("read", &path))?;
        if Digest::of(&bytes).to_string() != digest {
            return Err(StageError::SourceChanged { path });
        }
        let text = String::from_utf8_lossy(&bytes);
        words += text.split_whitespace().filter(|word| word.len() >= stage.min_length).count();
        report += &format!("{book}\n");
    }
    write(job, "count.txt", &format!("{words}\n"))?;
    write(job, "about/books.txt", &report)
}

/// Writes a text.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Text {
    /// The text.
    text: String,
}

impl Stage for Text {
    const KIND: &'static str = "toy.text";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "writes a text";
    fn slots() -> Vec<Slot> {
        vec![]
    }
    fn outputs(&self) -> Vec<String> {
        vec!["text.txt".to_owned(), "length.txt".to_owned()]
    }
}

fn text(stage: &Text, job: &Job) -> Result<(), StageError> {
    enter(job, &format!("text {}", stage.text));
    write(job, "text.txt", &stage.text)?;
    write(job, "length.txt", &stage.text.len().to_string())
}

/// Puts texts one after the other.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Join {
    /// Text that follows them.
    #[serde(default)]
    suffix: String,
    /// How many bytes are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keep: Option<usize>,
}

impl Stage for Join {
    const KIND: &'static str = "toy.join";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "puts texts one after the other";
    fn slots() -> Vec<Slot> {
        vec![Slot::many("texts", "the texts"), Slot::optional("title", "what comes first")]
    }
    fn outputs(&self) -> Vec<String> {
        vec!["text.txt".to_owned()]
    }
}

fn join(stage: &Join, job: &Job) -> Result<(), StageError> {
    enter(job, "join");
    let mut all = job.inputs.optional("title").map_or_else(|| Ok(String::new()), read)?;
    for input in job.inputs.many("texts") {
        for (axis, value) in &input.point {
            all += &format!("{axis}={value}: ");
        }
        all += &read(&input.path)?;
    }
    all += &stage.suffix;
    all.truncate(stage.keep.unwrap_or(all.len()));
    write(job, "text.txt", &all)
}

/// Works in small steps, keeps its place in the resume folder and heeds a request to stop.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Steps {
    /// How many.
    steps: u32,
    /// Milliseconds each.
    millis: u64,
}

impl Stage for Steps {
    const KIND: &'static str = "toy.steps";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "works in small steps";
    fn slots() -> Vec<Slot> {
        vec![Slot::many("texts", "anything")]
    }
    fn outputs(&self) -> Vec<String> {
        vec!["text.txt".to_owned()]
    }
    fn demand(&self) -> Demand {
        Demand { cpu: CpuDemand::All, ..Demand::default() }
    }
}

fn steps(stage: &Steps, job: &Job) -> Result<(), StageError> {
    enter(job, "steps");
    small_steps(stage.steps, stage.millis, job)
}

pub(crate) fn small_steps(steps: u32, millis: u64, job: &Job) -> Result<(), StageError> {
    let resume = job.resume()?;
    let place = resume.join("place");
    let begin: u32 = fs::read_to_string(&place).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    if begin > 0 {
        job.progress.note(&format!("resumed at {begin}"));
    }
    for step in begin..steps {
        if job.stop.requested() {
            return Err(StageError::Stopped);
        }
        std::thread::sleep(std::time::Duration::from_millis(millis));
        let aside = resume.join("aside");
        fs::write(&aside, (step + 1).to_string()).map_err(StageError::io("write", &aside))?;
        fs::rename(&aside, &place).map_err(StageError::io("write", &place))?;
        job.progress.tick(u64::from(step) + 1, u64::from(steps), "steps", "");
    }
    let texts: Result<String, StageError> = job.inputs.many("texts").iter().map(|input| read(&input.path)).collect();
    write(job, "text.txt", &format!("{} after {steps} steps", texts?))
}

/// Goes wrong.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Trouble {
    /// How; while the file `calm` of the place `mood` is there, not at all.
    how: How,
}

/// A way to go wrong.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum How {
    Fail,
    Panic,
    Symlink,
    Fill,
    /// Fails twice in a way that may pass; tells its folder and thread each time.
    Flaky,
    /// Goes on until it is asked to stop.
    Slow,
    /// Goes on until the deadline has passed, and is done then.
    Late,
}

impl Stage for Trouble {
    const KIND: &'static str = "toy.trouble";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "goes wrong";
    fn slots() -> Vec<Slot> {
        vec![Slot::many("texts", "anything")]
    }
    fn outputs(&self) -> Vec<String> {
        Vec::new()
    }
}

/// An error with a cause.
#[derive(Debug, thiserror::Error)]
#[error("the ink is dry")]
pub(crate) struct Dry {
    #[source]
    pub(crate) source: std::io::Error,
}

fn trouble(stage: &Trouble, job: &Job) -> Result<(), StageError> {
    enter(job, "trouble");
    let calm = job.places.0.get("mood").is_some_and(|mood| mood.join("calm").exists());
    match stage.how {
        _ if calm => {}
        How::Fail => {
            let source = std::io::Error::other("the pot is empty");
            return Err(StageError::failed(Dry { source }).with_hint("fill the pot"));
        }
        How::Panic => panic!("no ink in {}", "the pot"),
        How::Symlink => {
            let path = job.out.join("link");
            std::os::unix::fs::symlink("/etc/hostname", &path).map_err(StageError::io("link", &path))?;
        }
        How::Flaky => {
            let tries = job.resume()?.join("tries");
            let count = fs::read_to_string(&tries).ok().and_then(|text| text.parse().ok()).unwrap_or(0) + 1;
            fs::write(&tries, count.to_string()).map_err(StageError::io("write", &tries))?;
            let left = fs::read_dir(&job.out).map_err(StageError::io("list", &job.out))?.count();
            job.progress.note(&format!("try {count} found {left} files"));
            write(job, "half.txt", "half")?;
            if count < 3 {
                return Err(StageError::failed(Dry { source: std::io::Error::other("the pot is empty") }).transient());
            }
        }
        How::Slow => {
            while !job.stop.requested() {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            return Err(StageError::Stopped);
        }
        How::Late => {
            while !job.stop.expired() {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
        How::Fill => write(job, "big.bin", &"x".repeat(64 << 20))?,
    }
    write(job, "text.txt", "calm")
}

/// Writes a text in capitals; calls the program `shout` for a text that ends with `!`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shout {
    text: String,
    /// Ends well without writing anything.
    #[serde(default)]
    lazy: bool,
}

impl Stage for Shout {
    const KIND: &'static str = "toy.shout";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "writes a text in capitals";
    fn slots() -> Vec<Slot> {
        vec![]
    }
    fn tools() -> Vec<Tool> {
        vec![Tool { name: "shout", version_argument: "--version" }]
    }
    fn outputs(&self) -> Vec<String> {
        vec!["text.txt".to_owned()]
    }
}

fn shout(stage: &Shout, job: &Job) -> Result<(), StageError> {
    enter(job, &format!("shout {}", stage.text));
    let loud = stage.text.ends_with('!');
    let text = match loud.then(|| job.tool("shout")) {
        _ if stage.lazy => return write(job, "other.txt", ""),
        None => stage.text.to_uppercase(),
        Some(None) => "nobody shouts".to_owned(),
        Some(Some(program)) => {
            let output =
                std::process::Command::new(program).arg(&stage.text).output().map_err(StageError::io("start", program))?;
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
    };
    write(job, "text.txt", &text)
}

/// Goes wrong in a worker.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Far {
    /// Action of the worker.
    pub(crate) act: Act,
    /// Text to write.
    #[serde(default)]
    pub(crate) text: String,
}

/// Action of a worker.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Act {
    Write,
    Fail,
    Panic,
    Abort,
    Exit,
    Garbage,
    Steps,
    Hang,
    /// Never ends and heeds nothing.
    Ignore,
    /// Closes its output and hangs.
    Mute,
    /// Writes a lot to standard error, and a long line to standard output.
    Noise,
    /// Ends without a word, leaving a process behind that holds its output open.
    Orphan,
    /// Dies the first two times.
    Mortal,
}

impl Stage for Far {
    const KIND: &'static str = "toy.far";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "does something in a worker process";
    fn slots() -> Vec<Slot> {
        vec![Slot::many("texts", "anything")]
    }
    fn outputs(&self) -> Vec<String> {
        Vec::new()
    }
    fn demand(&self) -> Demand {
        Demand { cpu: CpuDemand::All, gpu: GpuDemand::Prefer, devices: Some(1), ..Demand::default() }
    }
}

/// A stage whose worker program is not installed.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Missing {}

impl Stage for Missing {
    const KIND: &'static str = "toy.missing";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "has no worker program";
    fn slots() -> Vec<Slot> {
        vec![]
    }
    fn outputs(&self) -> Vec<String> {
        Vec::new()
    }
}
