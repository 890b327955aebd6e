//! `sure schema`

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use pipeline::spec;

use crate::stages::registry;

/// Prints the JSON Schema of workflow files, with every stage kind and its parameters.
pub(crate) fn schema() -> Result<ExitCode> {
    let schema = spec::schema(&registry(Path::new("sure-neural"))); // where the worker is does not matter here
    writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&schema)?)?;
    Ok(ExitCode::SUCCESS)
}
