//! Errors as people see them: what is wrong, why, and what to do.

use crate::console::say;
use std::fmt;

/// An error with a hint.
#[derive(Debug)]
pub(crate) struct Problem {
    message: String,
    hint: String,
}

#[cfg(test)]
impl Problem {
    pub(crate) fn hint(&self) -> &str {
        &self.hint
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

/// Makes an error with a hint.
pub(crate) fn problem(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    Problem { message: message.into(), hint: hint.into() }.into()
}

/// Prints an error with its causes and its hint.
pub(crate) fn show(error: &anyhow::Error) {
    say!("{} {error}", console::style("error:").for_stderr().red().bold());
    let mut last = error.to_string();
    for cause in error.chain().skip(1) {
        let text = cause.to_string();
        if text != last {
            say!("  because: {text}");
        }
        last = text;
    }
    if let Some(hint) = error.chain().find_map(|cause| cause.downcast_ref::<Problem>()).map(|problem| &problem.hint) {
        say!("  hint: {hint}");
    }
}
