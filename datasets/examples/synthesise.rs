//! Writes the quickstart corpus and lists it: `cargo run -p datasets --example synthesise -- <new folder>`.

use std::path::PathBuf;
use std::process::ExitCode;

use datasets::synthetic::{Options, write_speech_commands};
use datasets::{Corpus, Split, speech_commands::SpeechCommands};

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its user")]
fn main() -> ExitCode {
    let Some(root) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("name a new folder");
        return ExitCode::FAILURE;
    };
    let written = match write_speech_commands(&root, &Options::quickstart()) {
        Ok(written) => written,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    println!("{} clips, {:.0} s", written.clips, written.secs());
    match SpeechCommands.protocol(None).and_then(|protocol| SpeechCommands.list(&root, protocol)) {
        Ok(listing) => {
            for split in Split::ALL {
                println!("{split}: {}", listing.count(split));
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
