//! `sure push`: uploads a trained model to the Hugging Face Hub.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use hub::{ModelName, PushError, PushOptions, Pusher, Upload, endpoint, uploads};

use crate::cli::Place;
use crate::commands::predict::model;
use crate::commands::store::bytes;
use crate::console::say;
use crate::problem::problem;

#[derive(Args)]
pub(crate) struct PushArgs {
    /// A node that trains, such as `train[method=lora]`, or the folder of an adapter or a checkpoint
    pub(crate) model: String,
    /// Model on the Hub: `hub:ORGANISATION/NAME`
    pub(crate) to: String,
    /// Upload; without it, only list what would be uploaded
    #[arg(long)]
    pub(crate) upload: bool,
    /// Create the model as a private one, if it does not exist
    #[arg(long)]
    pub(crate) private: bool,
    /// Title of the commit
    #[arg(long, value_name = "TEXT", default_value = "Upload a model trained by sure")]
    pub(crate) message: String,
    #[command(flatten)]
    pub(crate) place: Place,
}

/// Runs the command.
pub(crate) fn push(args: &PushArgs) -> Result<ExitCode> {
    let to: ModelName = args.to.parse().map_err(|error: PushError| explain(&error))?;
    let folder = folder(args)?;
    let files = uploads(&folder).map_err(|error| explain(&error))?;
    let total = files.iter().map(|file| file.size).sum();
    let width = files.iter().map(|file| file.name.len()).max().unwrap_or_default();
    let mut out = std::io::stdout().lock();
    for Upload { name, size, .. } in &files {
        writeln!(out, "{name:width$}  {:>8}", bytes(*size)).context("cannot print")?;
    }
    let whole = format!("{} files, {}", files.len(), bytes(total));
    if !args.upload {
        writeln!(out, "{whole}: would go to {}/{to}; nothing was uploaded. --upload does it", endpoint())
            .context("cannot print")?;
        return Ok(ExitCode::SUCCESS);
    }
    let options = PushOptions { message: args.message.clone(), private: args.private };
    let mut told = |file: &Upload| say!("sending {}, {}", file.name, bytes(file.size));
    let pusher = Pusher::from_env().map_err(|error| explain(&error))?;
    let url = pusher.push(&to, &files, &options, &mut told).map_err(|error| explain(&error))?;
    writeln!(out, "{whole}: {url}").context("cannot print")?;
    Ok(ExitCode::SUCCESS)
}

/// Folder of the model: an adapter, or a whole checkpoint, with its model card.
fn folder(args: &PushArgs) -> Result<PathBuf> {
    let given = model::find(&args.model, &args.place)?.places.remove("model").expect("a found model has a folder");
    let is_model = |folder: &PathBuf| folder.join("adapter_config.json").is_file() || folder.join("config.json").is_file();
    let saved = [given.join("adapter"), given.join("checkpoint"), given.clone()].into_iter().find(is_model);
    let saved = saved.ok_or_else(|| {
        let message = format!("`{}` contains no model: expected `adapter_config.json` or `config.json`", given.display());
        problem(message, "name a node that trains, or the folder of an adapter or a checkpoint")
    })?;
    if !saved.join("README.md").is_file() {
        let hint = "`sure run` writes it next to each model; for another model, write it: what it is, its data, its licence";
        return Err(problem(format!("`{}` has no model card (`README.md`)", saved.display()), hint));
    }
    Ok(saved)
}

fn explain(error: &PushError) -> anyhow::Error {
    let hint = match error {
        PushError::Name { .. } => "for example `hub:my-team/keywords-lora`",
        PushError::NoToken { .. } | PushError::Refused { status: 401 | 403, .. } => {
            "a token with the right to write is made at https://huggingface.co/settings/tokens: put it into HF_TOKEN, or `hf auth login`"
        }
        PushError::Connection { .. } => "nothing was committed; run it again: files that the Hub has are not sent twice",
        PushError::Refused { .. } | PushError::Answer { .. } => {
            "nothing was committed; HF_ENDPOINT should name a Hub, if it is set"
        }
        _ => "nothing was committed",
    };
    let chain: Vec<String> =
        std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source()).map(ToString::to_string).collect();
    problem(chain.join(": "), hint)
}
