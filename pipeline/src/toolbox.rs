//! Search for external programs on this machine.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use crate::Digest;
use crate::stage::{FoundTool, Tool, Tools};

/// External programs of this machine. Each is searched, and asked for its version, when it is first needed.
#[derive(Debug, Clone, Default)]
pub struct Toolbox {
    folders: Arc<Vec<PathBuf>>,
    found: Arc<Mutex<BTreeMap<&'static str, FoundTool>>>,
}

impl Toolbox {
    /// Returns the programs of the folders that a value of `PATH` lists.
    pub fn new(path: &OsStr) -> Self {
        Self { folders: Arc::new(std::env::split_paths(path).collect()), found: Arc::default() }
    }

    /// Returns a program with its version.
    pub fn find(&self, tool: &Tool) -> FoundTool {
        let mut found = self.found.lock().expect("no holder of this lock panics");
        let found = found.entry(tool.name).or_insert_with(|| match self.search(tool.name) {
            Some(path) => FoundTool { version: version(&path, tool.version_argument), path: Some(path) },
            None => FoundTool::missing(),
        });
        found.clone()
    }

    /// Returns several programs with their versions.
    pub fn tools(&self, tools: &[Tool]) -> Tools {
        Tools(tools.iter().map(|tool| (tool.name.to_owned(), self.find(tool))).collect())
    }

    /// Returns several programs without asking them for their versions, which takes a process each (60 ms of processor time for ffmpeg).
    pub fn located(&self, tools: &[Tool]) -> Tools {
        let located = |tool: &Tool| match self.search(tool.name) {
            path @ Some(_) => FoundTool { path, version: String::new() },
            None => FoundTool::missing(),
        };
        Tools(tools.iter().map(|tool| (tool.name.to_owned(), located(tool))).collect())
    }

    /// Returns a text that changes when a program is installed, removed or replaced. Starts nothing.
    pub fn identity(&self, tool: &Tool) -> String {
        let known = self.search(tool.name).and_then(|path| fs::metadata(&path).ok().zip(Some(path)));
        let known = known.map(|(meta, path)| format!("{} {} {} {}", path.display(), meta.ino(), meta.len(), meta.mtime()));
        format!("{} {}", tool.name, known.as_deref().unwrap_or(FoundTool::MISSING))
    }

    fn search(&self, name: &str) -> Option<PathBuf> {
        let is_program =
            |path: &PathBuf| fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
        self.folders.iter().map(|folder| folder.join(name)).find(is_program)
    }
}

/// Time in which a program must print its version.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of its answer that are read.
const MAX_ANSWER: u64 = 4096;

/// Characters of the answer that are kept.
const MAX_CHARS: usize = 120;

/// Returns what a program prints about its version: the first line, and a digest of the others. Builds of one version of ffmpeg may
/// read other formats; they differ in the line `configuration`.
fn version(program: &Path, argument: &str) -> String {
    let child = Command::new(program).arg(argument).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let Ok(mut child) = child else { return UNKNOWN.to_owned() };
    let stdout = child.stdout.take().expect("standard output is piped");
    let (answer, answered) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = vec![];
        let _ = stdout.take(MAX_ANSWER).read_to_end(&mut bytes); // what was read before an error counts
        let _ = answer.send(bytes); // nobody waits any more after `PATIENCE`
    });
    let bytes = answered.recv_timeout(PATIENCE).unwrap_or_default();
    let _ = child.kill(); // most have ended by themselves
    let _ = child.wait();
    let rest = bytes.iter().position(|&byte| byte == b'\n').map_or(&[][..], |at| &bytes[at..]);
    let line = first_line(&bytes);
    if rest.trim_ascii().is_empty() { line } else { format!("{line}, build {}", Digest::of(rest).short()) }
}

/// Version of a program that prints none.
const UNKNOWN: &str = "unknown version";

fn first_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line: String = text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(MAX_CHARS).collect();
    if line.trim().is_empty() { UNKNOWN.to_owned() } else { line.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOL: Tool = Tool { name: "shout", version_argument: "-version" };

    fn install(folder: &Path, script: &str) {
        let path = folder.join(TOOL.name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_program_is_found_in_the_first_folder_that_has_it() {
        let (empty, full) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(empty.path().join(TOOL.name), "no program").unwrap();
        install(full.path(), "[ \"$1\" = -version ] && printf 'shout version 7.1 \\033[1m(c)\\nmore\\n'");
        let path = std::env::join_paths([empty.path(), full.path()]).unwrap();
        let found = Toolbox::new(&path).find(&TOOL);
        assert_eq!(found.path, Some(full.path().join(TOOL.name)));
        assert!(found.version.starts_with("shout version 7.1 [1m(c), build "), "{}", found.version);
        // Another build of the same version.
        let other = tempfile::tempdir().unwrap();
        install(other.path(), "printf 'shout version 7.1 \\033[1m(c)\\nless\\n'");
        assert_ne!(Toolbox::new(other.path().as_os_str()).find(&TOOL).version, found.version);
        let short = tempfile::tempdir().unwrap();
        install(short.path(), "echo shout 7");
        assert_eq!(Toolbox::new(short.path().as_os_str()).find(&TOOL).version, "shout 7");
        assert_eq!(Toolbox::new(empty.path().as_os_str()).find(&TOOL), FoundTool::missing());
    }

    #[test]
    fn a_program_without_a_version_counts_as_unknown() {
        let folder = tempfile::tempdir().unwrap();
        install(folder.path(), "exit 3");
        assert_eq!(Toolbox::new(folder.path().as_os_str()).find(&TOOL).version, UNKNOWN);
    }

    #[test]
    fn the_identity_tells_a_replaced_program_from_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let identity = || Toolbox::new(folder.path().as_os_str()).identity(&TOOL);
        let missing = identity();
        install(folder.path(), "exit 0");
        let first = identity();
        install(folder.path(), "exit 0 # of another build");
        assert!(missing != first && first != identity());
    }
}
