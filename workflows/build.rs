//! Finds the commit that is built, for `--version` and for the provenance of results. Without git, or outside the repository of this
//! program, there is none; `SURE_COMMIT` names one then.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    println!("cargo::rerun-if-env-changed=SURE_COMMIT");
    // Edits of the sources, so that the mark of uncommitted changes is right.
    for folder in
        ["pipeline/src", "datasets/src", "hub/src", "stages", "workflows/src", "workflows/parts", "workflows/rebuild/src"]
    {
        println!("cargo::rerun-if-changed={}", root.join(folder).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    let given = std::env::var_os("SURE_COMMIT").and_then(|commit| commit.into_string().ok()).filter(|commit| !commit.is_empty());
    let commit = given.or_else(|| commit(&root)).unwrap_or_default();
    let version = env!("CARGO_PKG_VERSION");
    let shown = if commit.is_empty() { version.to_owned() } else { format!("{version} ({commit})") };
    println!("cargo::rustc-env=SURE_VERSION={shown}");
    println!("cargo::rustc-env=SURE_COMMIT={commit}");
    let compiler = std::env::var_os("RUSTC").and_then(|rustc| output(Command::new(rustc).arg("--version")));
    println!("cargo::rustc-env=SURE_RUSTC={}", compiler.unwrap_or_default());
}

/// `5c5606e12ab3`, or `5c5606e12ab3-dirty` with uncommitted changes.
fn commit(root: &Path) -> Option<String> {
    let git = |args: &[&str]| output(Command::new("git").arg("-C").arg(root).args(args));
    let top = PathBuf::from(git(&["rev-parse", "--show-toplevel"])?);
    if top.canonicalize().ok()? != root.canonicalize().ok()? {
        return None; // the repository of something that contains these sources
    }
    let log = root.join(git(&["rev-parse", "--git-path", "logs/HEAD"])?);
    if log.is_file() {
        println!("cargo::rerun-if-changed={}", log.display());
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changes = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changes.is_empty() { commit } else { format!("{commit}-dirty") })
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
