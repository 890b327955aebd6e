//! Harness for end-to-end tests: scratch folders with a small corpus, and the two executables as a user runs them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use datasets::synthetic::{Miniature, Options, write_miniature, write_speech_commands};
use serde_json::Value;

/// A folder with a corpus, settings and a workflow file, removed when dropped.
pub struct Project {
    folder: tempfile::TempDir,
}

/// A workflow small enough for a test: the keyword task with a tiny encoder and a few steps.
const WORKFLOW: &str = include_str!("../it/tiny.toml");

impl Project {
    /// A project with the synthetic corpus: 4 speakers, 2 takes of 11 words.
    ///
    /// # Panics
    /// When the scratch folder cannot be written.
    pub fn new() -> Self {
        let project = Self { folder: tempfile::tempdir().expect("a scratch folder") };
        let options = Options { speakers: 4, takes: 2, ..Options::quickstart() };
        write_speech_commands(&project.path("corpus"), &options).expect("a synthetic corpus");
        project.write("sure.toml", "[corpora]\nspeech_commands = \"corpus\"\n");
        project.write("tiny.toml", WORKFLOW);
        project
    }

    /// A project with a synthetic copy of one corpus, for the workflows that come with the program.
    ///
    /// # Panics
    /// When the scratch folder cannot be written.
    pub fn of(corpus: &str) -> Self {
        let project = Self { folder: tempfile::tempdir().expect("a scratch folder") };
        let options = Miniature { takes: 2, more_speakers: 2, seed: 1 };
        write_miniature(corpus, &project.path("corpus"), options).expect("a synthetic corpus");
        project.write("sure.toml", &format!("[corpora]\n{corpus} = \"corpus\"\n"));
        project
    }

    /// A path inside it.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// Writes a file.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, relative: &str, text: &str) {
        fs::write(self.path(relative), text).expect("a writable scratch folder");
    }

    /// Replaces text in a file that must contain it.
    ///
    /// # Panics
    /// When it does not.
    pub fn replace(&self, relative: &str, old: &str, new: &str) {
        let text = fs::read_to_string(self.path(relative)).expect("a readable file");
        assert!(text.contains(old), "`{old}` is not in {relative}");
        self.write(relative, &text.replace(old, new));
    }

    /// Runs `sure` here.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn sure(&self, args: &[&str]) -> Answer {
        Answer::from(self.command(args).output().expect("sure starts"))
    }

    /// Runs `sure` here with variables of the environment.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn sure_with(&self, args: &[&str], variables: &[(&str, &str)]) -> Answer {
        Answer::from(self.command(args).envs(variables.iter().copied()).output().expect("sure starts"))
    }

    /// Starts `sure` here in the background, with variables of the environment.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_with(&self, args: &[&str], variables: &[(&str, &str)]) -> Child {
        let mut command = self.command(args);
        command.envs(variables.iter().copied()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("sure starts")
    }

    /// Runs `sure` here as somebody whom permissions hold back: the superuser becomes nobody.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn sure_without_privileges(&self, args: &[&str]) -> Answer {
        const NOBODY: u32 = 65_534;
        let mut command = self.command(args);
        if rustix::process::geteuid().is_root() {
            let own = self.path(".sure-of-nobody"); // the folder of the build may be closed to others
            fs::copy(executable("sure"), &own).expect("a writable scratch folder");
            fs::set_permissions(self.path(""), Permissions::from_mode(0o777)).expect("a folder of one's own");
            let temporary = self.path(".tmp-of-nobody");
            fs::create_dir_all(&temporary).expect("a folder of one's own");
            fs::set_permissions(&temporary, Permissions::from_mode(0o777)).expect("a folder of one's own");
            command = Command::new(own);
            command.env("TMPDIR", temporary);
            command.args(args).current_dir(self.folder.path()).stdin(Stdio::null()).uid(NOBODY).gid(NOBODY);
        }
        Answer::from(command.output().expect("sure starts"))
    }

    /// Starts `sure` here, in the background.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("sure starts")
    }

    /// Starts `sure` here, in the background, with pipes for its output.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_piped(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sure starts")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(executable("sure"));
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    /// The plan of the tiny workflow: node and verdict.
    ///
    /// # Panics
    /// When planning fails.
    pub fn plan(&self) -> Vec<(String, String)> {
        let answer = self.sure(&["plan", "./tiny.toml", "--json"]);
        assert!(answer.ok, "{}", answer.err);
        let plan: Value = serde_json::from_str(&answer.out).expect("a plan is JSON");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        plan["nodes"].as_array().expect("a list").iter().map(|node| (text(&node["node"]), text(&node["verdict"]))).collect()
    }

    /// The nodes of the plan with a verdict, by stage and partition, without matrix points and repeats.
    pub fn planned(&self, verdict: &str) -> Vec<String> {
        let short = |id: &str| {
            let (stage, rest) = id.split_once('[').unwrap_or((id, ""));
            let partition = rest.split_once('#').map(|(_, number)| format!("#{number}")).unwrap_or_default();
            format!("{stage}{partition}")
        };
        let mut names: Vec<String> = self.plan().iter().filter(|(_, is)| is == verdict).map(|(id, _)| short(id)).collect();
        names.dedup();
        names
    }

    /// The text of the results table.
    ///
    /// # Panics
    /// When there is none.
    pub fn table(&self) -> String {
        fs::read_to_string(self.path("results/tiny/table/table.txt")).expect("a table")
    }
}

impl Default for Project {
    fn default() -> Self {
        Self::new()
    }
}

/// Output of a program, and whether it succeeded.
#[derive(Debug)]
pub struct Answer {
    /// Exit code 0.
    pub ok: bool,
    /// The exit code; none after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { ok: output.status.success(), code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// An executable of this workspace: it lies two folders above a test's own.
///
/// # Panics
/// When it is not built: `cargo build --workspace --bins` comes before the tests.
pub fn executable(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("this program has a path");
    let path = own.ancestors().nth(2).map_or_else(PathBuf::new, |folder| folder.join(name));
    assert!(path.is_file(), "`{}` is not built: run `cargo build --workspace --bins` first", path.display());
    path
}

/// True if slow tests were requested with `RUN_SLOW_TESTS=1`; they take more rounds then.
#[expect(clippy::disallowed_methods, reason = "the switch for slow tests is a variable by convention")]
pub fn slow_tests() -> bool {
    std::env::var("RUN_SLOW_TESTS").is_ok_and(|value| value == "1")
}

/// The contents of all files below a folder, by relative path.
///
/// # Panics
/// When they cannot be read.
pub fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = vec![];
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.strip_prefix(folder).expect("below").to_owned(), fs::read(&path).expect("a readable file")));
            }
        }
    }
    found.sort();
    found
}

/// A recording of 16 bits at 16 kHz.
pub fn wav(len: u32) -> Vec<u8> {
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + 2 * len).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data");
    bytes.extend((2 * len).to_le_bytes());
    bytes.extend((0..len).flat_map(|at| (100 * (at as i16 % 50)).to_le_bytes()));
    bytes
}
