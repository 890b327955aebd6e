//! Checks a copy of a corpus: `cargo run -p datasets --example check -- <corpus> <folder> [<protocol>]`.

use std::path::Path;
use std::process::ExitCode;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its user")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (Some(corpus), Some(root)) = (arguments.first().and_then(|name| datasets::find(name)), arguments.get(1)) else {
        let names: Vec<_> = datasets::ALL.iter().map(|corpus| corpus.name()).collect();
        eprintln!("name a corpus ({}) and its folder", names.join(", "));
        return ExitCode::FAILURE;
    };
    let protocol = corpus.protocol(arguments.get(2).map(String::as_str));
    match protocol.and_then(|protocol| datasets::check::check(corpus, protocol, Path::new(root), &|_| None)) {
        Ok(report) => {
            print!("{report}");
            if report.passes() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
