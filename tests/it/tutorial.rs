//! `docs/tutorial.md`, executed: every command of its blocks `sh`, in order, in an empty folder.
//!
//! Trainings are cut to a few updates unless `RUN_SLOW_TESTS=1`. Each block `text` is compared with the output of the commands before it:
//! line by line, numbers and the width of columns aside. A block `text slow` has answers of whole trainings.

use std::process::{Command, Stdio};

use tests::{executable, slow_tests};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/tutorial.md");
/// Programs that a command of the tutorial may begin with.
const PROGRAMS: [&str; 5] = ["sure", "python3", "cat", "head", "ls"];

/// Language and content of the fenced blocks.
fn blocks(text: &str) -> Vec<(&str, &str)> {
    let fenced = text.split("```").skip(1).step_by(2);
    fenced.map(|block| block.split_once('\n').expect("a block has lines")).collect()
}

/// A line without what differs from run to run: numbers, marks of the best, and the width of columns.
fn shape(line: &str) -> String {
    let plain: String = line.chars().filter(|sign| !"*\u{25c2}\u{2020}\u{2500}".contains(*sign)).collect();
    let word = |word: &str| {
        let is_number = word.chars().any(|sign| sign.is_ascii_digit())
            && word.chars().all(|sign| "0123456789.-+eE%()[],\u{b1}\u{2013}".contains(sign));
        if is_number || word == "\u{2013}" { "#".to_owned() } else { word.to_owned() }
    };
    plain.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_command_works_and_prints_what_the_tutorial_shows() {
    let text = std::fs::read_to_string(PAGE).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let programs = executable("sure").parent().unwrap().to_owned();
    let path =
        std::env::join_paths([programs.as_path(), "/usr/local/bin".as_ref(), "/usr/bin".as_ref(), "/bin".as_ref()]).unwrap();
    let (mut printed, mut commands, mut compared) = (String::new(), 0, 0);
    for (language, content) in blocks(&text) {
        match language.trim() {
            "python" => std::fs::write(folder.path().join("make_recordings.py"), content).unwrap(),
            "sh" => {
                printed.clear();
                for line in content.replace("\\\n", " ").lines().filter(|line| !line.trim().is_empty()) {
                    let line = line.split("   #").next().unwrap().trim();
                    assert!(PROGRAMS.contains(&line.split(' ').next().unwrap()), "{line}");
                    let brief = if slow_tests() || !line.starts_with("sure run") { "" } else { " --max-steps 4" };
                    let mut shell = Command::new("sh");
                    shell
                        .args(["-c", &format!("{line}{brief}")])
                        .current_dir(folder.path())
                        .env("PATH", &path)
                        .stdin(Stdio::null());
                    let output = shell.output().unwrap();
                    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
                    assert!(output.status.success(), "{line}\n{out}\n{err}");
                    printed.extend([&*out, "\n", &*err]);
                    commands += 1;
                }
            }
            "text slow" if !slow_tests() => {}
            "text" | "text slow" => {
                let shapes: Vec<String> = printed.lines().map(shape).collect();
                for line in content.lines().filter(|line| !line.trim().is_empty() && line.trim() != "...") {
                    let expected = shape(line);
                    assert!(expected.is_empty() || shapes.contains(&expected), "`{line}` is not printed:\n{printed}");
                    compared += 1;
                }
            }
            "toml" | "csv" => {
                let shown = content.trim();
                assert!(printed.contains(shown), "{shown}\nis not printed:\n{printed}");
                compared += 1;
            }
            other => panic!("a block in `{other}`"),
        }
    }
    assert!(commands >= 10 && compared >= 10, "{commands} commands, {compared} lines compared");
}
