//! `sure completions`

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::{Shell, generate};

use crate::cli::Cli;

#[derive(Args)]
pub(crate) struct CompletionsArgs {
    /// Shell to complete commands in, or `man` for a manual page
    pub(crate) form: CompletionForm,
}

/// Form of a description of the command line.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum CompletionForm {
    Bash,
    Zsh,
    Fish,
    Man,
}

pub(crate) fn completions(args: &CompletionsArgs) -> Result<ExitCode> {
    let mut command = Cli::command();
    let mut text = vec![];
    let shell = match args.form {
        CompletionForm::Bash => Some(Shell::Bash),
        CompletionForm::Zsh => Some(Shell::Zsh),
        CompletionForm::Fish => Some(Shell::Fish),
        CompletionForm::Man => None,
    };
    match shell {
        Some(shell) => generate(shell, &mut command, "sure", &mut text),
        None => clap_mangen::Man::new(command).render(&mut text)?,
    }
    io::stdout().write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}
