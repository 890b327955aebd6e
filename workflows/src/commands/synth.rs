//! `sure synth`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use datasets::synthetic::{Miniature, Options, write_miniature, write_speech_commands};

use crate::problem::problem;

#[derive(Args)]
pub(crate) struct SynthArgs {
    /// The corpus whose layout it has
    #[arg(value_parser = datasets::synthetic::MINIATURES)]
    pub(crate) corpus: String,
    /// The folder to make; it must not exist or be empty
    pub(crate) folder: PathBuf,
    /// Number of speakers, of `speech_commands` [default: 16]
    #[arg(long)]
    pub(crate) speakers: Option<u32>,
    /// Speakers besides those that every miniature of the corpus has, of all others [default: enough to learn from]
    #[arg(long, value_name = "N", conflicts_with = "speakers")]
    pub(crate) more_speakers: Option<u32>,
    /// How often each speaker says each thing [default: enough to learn from]
    #[arg(long)]
    pub(crate) takes: Option<u32>,
    /// With everything that is odd about real copies: damaged names, stray files, rows without recordings. The others have that
    /// always; `speech_commands` is clean without
    #[arg(long)]
    pub(crate) quirks: bool,
    /// Seed; the same seed gives the same bytes everywhere
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

pub(crate) fn synth(args: &SynthArgs) -> Result<ExitCode> {
    let is_words = args.corpus == "speech_commands" && !args.quirks && args.more_speakers.is_none();
    if args.speakers.is_some() && !is_words {
        return Err(problem(
            "--speakers is for `speech_commands` alone",
            "say --more-speakers N: how many more than the few there are",
        ));
    }
    let written = if is_words {
        let usual = Options::quickstart();
        let (speakers, takes) = (args.speakers.unwrap_or(usual.speakers), args.takes.unwrap_or(usual.takes));
        write_speech_commands(&args.folder, &Options { speakers, takes, seed: args.seed, ..usual })?
    } else {
        let usual = Miniature::to_learn_from(&args.corpus);
        let takes = args.takes.unwrap_or(usual.takes);
        let more_speakers = args.more_speakers.unwrap_or(usual.more_speakers);
        write_miniature(&args.corpus, &args.folder, Miniature { takes, more_speakers, seed: args.seed })?
    };
    println!("{}: {} clips of a synthetic {}, {:.0} s", args.folder.display(), written.clips, args.corpus, written.secs());
    Ok(ExitCode::SUCCESS)
}
