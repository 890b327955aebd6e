//! `sure completions`

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::{Shell, generate};

use crate::cli::Cli;
use crate::problem::problem;

#[derive(Args)]
pub(crate) struct CompletionsArgs {
    /// Shell to complete commands in, or `man` for a manual page
    pub(crate) form: CompletionForm,
    /// Write the manual pages of all commands into this folder
    #[arg(long, value_name = "FOLDER")]
    pub(crate) pages: Option<PathBuf>,
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
    if let Some(folder) = &args.pages {
        if !matches!(args.form, CompletionForm::Man) {
            return Err(problem("--pages is for manual pages", "`sure completions man --pages FOLDER`"));
        }
        let written = fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command, folder));
        written.with_context(|| format!("cannot write manual pages into `{}`", folder.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
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
