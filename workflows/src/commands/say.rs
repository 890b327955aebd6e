//! `sure say`: speaks a text with a trained voice. The worker program does it.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::{Args, value_parser};
use neural_spec::VoiceControls;
use pipeline::mistake::suggest;
use serde_json::json;

use crate::artifacts;
use crate::cli::Place;
use crate::opening::Opening;
use crate::problem::problem;
use crate::settings::Settings;
use crate::stages::GET_WORKER;

#[derive(Args)]
pub(crate) struct SayArgs {
    /// The text
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    text: Option<String>,
    /// A text file, in the place of a text
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A voice: its folder, or a node that trained it, such as `voice[method=lora]` or `speech_synthesis:voice[method=lora]`
    #[arg(long, value_name = "NODE|FOLDER")]
    voice: String,
    /// Who speaks; not needed for a voice of one speaker
    #[arg(long, value_name = "NAME")]
    speaker: Option<String>,
    /// The WAV file to write; its name ends in `.wav`
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// A vocoder, likewise [default: Griffin-Lim, without training]
    #[arg(long, value_name = "NODE|FOLDER")]
    vocoder: Option<String>,
    /// Iterations of Griffin-Lim
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = value_parser!(u32).range(1..))]
    griffin_lim: u32,
    /// Factor of all durations: 1.2 is slower, 0.8 faster
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    pace: f64,
    /// Change of the pitch in semitones
    #[arg(long, value_name = "SEMITONES", default_value_t = 0.0, allow_negative_numbers = true)]
    pitch: f64,
    /// Change of the energy in decibels
    #[arg(long, value_name = "DB", default_value_t = 0.0, allow_negative_numbers = true)]
    energy: f64,
    #[command(flatten)]
    place: Place,
}

pub(crate) fn say(args: &SayArgs) -> Result<ExitCode> {
    let text = match (&args.text, &args.file) {
        (Some(text), _) => text.clone(),
        (None, Some(file)) => std::fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))?,
        (None, None) => String::new(),
    };
    if !args.out.extension().is_some_and(|end| end.eq_ignore_ascii_case("wav")) {
        let message = format!("`{}`: speech is written as WAV alone", args.out.display());
        return Err(problem(message, "name a file that ends in `.wav`"));
    }
    let controls = VoiceControls { pace: args.pace, pitch: args.pitch, energy: args.energy };
    if let Some((name, mistake)) = controls.check().into_iter().next() {
        return Err(problem(
            format!("--{}: {mistake}", name.trim_start_matches("controls.")),
            "`sure say --help` says what it does",
        ));
    }
    let settings = Settings::load(&args.place.machine, &args.place.corpus)?;
    let voice = folder(&args.voice, &args.place, "voice/config.json")?;
    let vocoder = args.vocoder.as_deref().map(|vocoder| folder(vocoder, &args.place, "config.json")).transpose()?;
    let request = json!({
        "voice": voice,
        "speaker": args.speaker,
        "text": text,
        "out": args.out,
        "vocoder": vocoder,
        "griffin_lim": args.griffin_lim,
        "controls": controls,
    });
    let status = Command::new(&settings.worker).arg("say").arg(request.to_string()).status().map_err(|error| {
        let message = format!("cannot start the worker `{}`: {error}", settings.worker.display());
        problem(message, GET_WORKER)
    })?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

/// A folder, or the one artifact of a node; `file` is in it.
fn folder(given: &str, place: &Place, file: &str) -> Result<PathBuf> {
    let path = Path::new(given);
    if path.is_dir() {
        return Ok(path.to_owned());
    }
    // A node may be named with the file of its workflow.
    if given.contains('/') && !given.contains(".toml") {
        return Err(problem(format!("no folder `{given}`"), "name a folder, or a node of a workflow"));
    }
    let (opening, pattern) = Opening::of_node(given, place)?;
    let workflow = &opening.workflow;
    let nodes = workflow.find(&pattern);
    if nodes.is_empty() {
        let known = workflow.order.iter().map(|node| &*workflow.graph[*node].stage);
        return Err(problem(format!("no node `{pattern}` in `{}`", workflow.name), suggest(&pattern, known)));
    }
    let mut found = vec![];
    for node in nodes {
        if let Some(folder) = artifacts::last_with(&opening, node, file)? {
            found.push((workflow.graph[node].id.clone(), folder));
        }
    }
    match &found[..] {
        [(_, folder)] => Ok(folder.clone()),
        [] => {
            let message = format!("`{pattern}` of `{}` has left no `{file}`", workflow.name);
            Err(problem(message, format!("`sure run {} {pattern}` makes it", opening.request.workflow)))
        }
        several => {
            let names: Vec<String> = several.iter().map(|(name, _)| format!("`{name}`")).collect();
            Err(problem(format!("`{given}` names several nodes: {}", names.join(", ")), "name one of them"))
        }
    }
}
