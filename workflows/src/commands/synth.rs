//! `sure synth`

use std::process::ExitCode;

use anyhow::Result;
use datasets::synthetic::{Miniature, Options, write_miniature, write_speech_commands};

use crate::cli::SynthArgs;
use crate::problem::problem;

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
