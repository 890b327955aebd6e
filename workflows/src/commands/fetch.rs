//! `sure fetch`: downloads checkpoints from the Hub into its cache on this machine.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use hub::{Hub, HubError, Pinned};

use crate::cli::MachineArgs;
use crate::problem::problem;
use crate::settings::Settings;
use crate::sure_toml::PINNED;

#[derive(Args)]
pub(crate) struct FetchArgs {
    /// Names under `[checkpoints]` in sure.toml, or `hub:ORGANISATION/NAME@COMMIT` [default: all of the Hub's in sure.toml]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
}

/// Runs the command.
pub(crate) fn fetch(args: &FetchArgs) -> Result<ExitCode> {
    let wanted = wanted(args)?;
    let hub = Hub::from_env()?;
    for name in wanted {
        let folder = hub.fetch(&name).map_err(|error| explain(&error, &name))?;
        writeln!(std::io::stdout(), "{}", folder.display()).context("cannot print")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The checkpoints that were asked for: names of `sure.toml`, or of the Hub; all of the Hub's in `sure.toml` when none were named.
fn wanted(args: &FetchArgs) -> Result<Vec<Pinned>> {
    let settings = Settings::load(&args.machine, &[])?;
    for name in &args.names {
        settings.check_place(&format!("checkpoints.{name}"))?;
    }
    let known = settings.hub;
    if args.names.is_empty() {
        let example = "`[checkpoints] wav2vec2_base = \"hub:facebook/wav2vec2-base@COMMIT\"` in sure.toml names one";
        return if known.is_empty() {
            Err(problem("no checkpoint on the Hub is named", example))
        } else {
            Ok(known.into_values().collect())
        };
    }
    let find = |name: &String| -> Result<Pinned> {
        if name.starts_with(hub::SCHEME) {
            return name.parse().map_err(|error| refuse(&error));
        }
        let names: Vec<&str> = known.keys().map(String::as_str).collect();
        let found = known.get(name).cloned();
        found.ok_or_else(|| {
            problem(format!("`{name}` is no checkpoint on the Hub"), format!("sure.toml has: {}", names.join(", ")))
        })
    };
    args.names.iter().map(find).collect()
}

/// A name that is not pinned.
fn refuse(error: &HubError) -> anyhow::Error {
    problem(error.to_string(), PINNED)
}

fn explain(error: &HubError, name: &Pinned) -> anyhow::Error {
    let hint = match error {
        HubError::Fetch { .. } => format!("run it again, and it goes on where it ended; or {}", name.by_hand()),
        HubError::NotThere { .. } => {
            "look at name and commit on the Hub; for models that ask for a login, `hf auth login` first".to_owned()
        }
        HubError::Checksum { .. } => "run it again".to_owned(),
        _ => name.by_hand(),
    };
    let chain: Vec<String> =
        std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source()).map(ToString::to_string).collect();
    problem(chain.join(": "), hint)
}
