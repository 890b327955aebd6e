//! Reference files for tests, from the folder named by `SURE_GOLDEN`.

use std::path::PathBuf;

use serde_json::Value;

/// A JSON file of the reference numbers; none, said aloud, where there are none.
pub(crate) fn golden(path: &str) -> Option<Value> {
    #[expect(clippy::disallowed_methods, reason = "a test may be told where its reference numbers lie")]
    let named = std::env::var("SURE_GOLDEN");
    let root =
        named.map_or_else(|_| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/golden")), PathBuf::from);
    let Ok(text) = std::fs::read(root.join(path)) else {
        eprintln!("SKIPPED: no reference numbers at `{}`; set SURE_GOLDEN", root.display());
        return None;
    };
    Some(serde_json::from_slice(&text).expect("the reference files are JSON"))
}
