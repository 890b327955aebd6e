//! External programs that stage bodies call.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// An external program that a stage kind may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tool {
    /// File name of the executable: `ffmpeg`.
    pub name: &'static str,
    /// Argument that makes it print its version: `-version`.
    pub version_argument: &'static str,
}

/// An external program as a machine has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundTool {
    /// The executable; `None` when the machine lacks it.
    pub path: Option<PathBuf>,
    /// First line of what it prints about its version; [`FoundTool::MISSING`] when the machine lacks it, empty if it was not asked.
    pub version: String,
}

impl FoundTool {
    /// Version of a program that the machine lacks.
    pub const MISSING: &'static str = "missing";

    /// Returns a program that the machine lacks.
    pub fn missing() -> Self {
        Self { path: None, version: Self::MISSING.to_owned() }
    }
}

/// External programs by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tools(pub BTreeMap<String, FoundTool>);

impl Tools {
    /// Returns a program that the stage names.
    pub fn get(&self, name: &str) -> Option<&FoundTool> {
        self.0.get(name)
    }
}

/// Name of the fact (see [`super::JobProgress::fact`]) that a body asked for a program.
pub(crate) fn fact(name: &str) -> String {
    format!("tool.{name}")
}

/// True if the facts of an execution contain that its body asked for a program.
pub(crate) fn asked_for_tool(facts: &BTreeMap<String, serde_json::Value>, name: &str) -> bool {
    facts.contains_key(&fact(name))
}
