//! The Python that some tests ask: with torch, transformers, peft and TensorBoard.

use std::path::{Path, PathBuf};

/// The interpreter to ask; none, said aloud, where there is none. `SURE_PEFT_PYTHON` names it, `tests/compat/models.sh` makes one.
#[expect(clippy::print_stderr, reason = "a test says aloud what it skips")]
pub(crate) fn python() -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "a test may be told where Python is")]
    let named = std::env::var("SURE_PEFT_PYTHON").ok().map(PathBuf::from);
    let made = || std::env::home_dir().map(|home| home.join(".cache/sure/bench-neural/bin/python"));
    let found = named.or_else(made).filter(|python| python.exists());
    if found.is_none() {
        eprintln!("SKIPPED: no Python with peft and TensorBoard; `tests/compat/models.sh` makes it");
    }
    found
}

/// The repository, where the scripts are.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
