//! `sure synth`

use std::process::ExitCode;

use anyhow::Result;
use datasets::synthetic::{Options, write_speech_commands};

use crate::cli::SynthArgs;

pub(crate) fn synth(args: &SynthArgs) -> Result<ExitCode> {
    let options = Options { speakers: args.speakers, takes: args.takes, seed: args.seed, ..Options::default() };
    let written = write_speech_commands(&args.folder, &options)?;
    println!("{}: {} recordings of {} words by {} speakers", args.folder.display(), written.recordings, written.words, args.speakers);
    Ok(ExitCode::SUCCESS)
}
