//! `sure synth`

use std::process::ExitCode;

use anyhow::Result;
use datasets::synthetic::{Options, write_speech_commands};

use crate::cli::SynthArgs;

pub(crate) fn synth(args: &SynthArgs) -> Result<ExitCode> {
    let options = Options { speakers: args.speakers, takes: args.takes, seed: args.seed, ..Options::quickstart() };
    let written = write_speech_commands(&args.folder, &options)?;
    let (words, secs) = (options.words.len(), written.num_samples as f64 / f64::from(options.sample_rate));
    println!("{}: {} clips of {words} words by {} speakers, {secs:.0} s", args.folder.display(), written.clips, args.speakers);
    Ok(ExitCode::SUCCESS)
}
