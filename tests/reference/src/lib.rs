//! Reference numbers that other programs computed, for tests: the folder that `SURE_GOLDEN` names, else `shared/golden` next to the
//! repository. `manifest.json` describes its cases.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// Returns a file or folder of the reference numbers; none, with a message, where it is missing.
#[expect(clippy::print_stderr, reason = "a test says aloud what it skips")]
pub fn find(path: &str) -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "a test may be told where its reference numbers are")]
    let named = std::env::var("SURE_GOLDEN");
    let root = named.map_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden"), PathBuf::from);
    let found = root.join(path);
    if !found.exists() {
        eprintln!("SKIPPED: no reference numbers at `{}`; set SURE_GOLDEN", found.display());
        return None;
    }
    Some(found)
}

/// Returns the folder of all reference numbers; none, with a message, where it is missing.
pub fn root() -> Option<PathBuf> {
    find("manifest.json")?.parent().map(Path::to_owned)
}

/// Reads a JSON file.
///
/// # Panics
/// When it is not there, or no JSON.
pub fn json(path: &Path) -> Value {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the description of a case of the folder `root`, the first that `is_wanted` accepts.
///
/// # Panics
/// When there is no such case.
pub fn case(root: &Path, is_wanted: impl Fn(&Value) -> bool) -> Value {
    let manifest = json(&root.join("manifest.json"));
    let found = manifest["cases"].as_array().and_then(|cases| cases.iter().find(|case| is_wanted(case)));
    found.expect("a case of that name").clone()
}

/// Returns the file of a case.
pub fn file(root: &Path, case: &Value) -> PathBuf {
    ["dir", "file"].into_iter().filter_map(|part| case[part].as_str()).fold(root.to_owned(), |path, part| path.join(part))
}
