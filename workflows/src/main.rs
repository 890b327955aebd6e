//! The `sure` command line. Only this crate prints: results go to standard output, everything else to standard error.
#![allow(clippy::print_stdout, reason = "this is the program that talks to people")]

mod artifacts;
mod cli;
mod cluster;
mod commands;
mod console;
mod draw;
mod library;
mod opening;
mod overrides;
mod problem;
mod resources;
mod settings;
mod sharing;
mod spectrograms;
mod stages;
mod sure_toml;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    end_without_panic_when_output_fails();
    let cli = Cli::parse();
    let outcome = match &cli.command {
        Command::Run(args) => commands::run::run(args),
        Command::Plan(args) => commands::plan::plan(args),
        Command::Say(args) => commands::say::say(args),
        Command::Why(args) => commands::why::why(args),
        Command::Graph(args) => commands::graph::graph(args),
        Command::Runs(args) => commands::runs::runs(args),
        Command::Diff(args) => commands::diff::diff(args),
        Command::Log(args) => commands::log::log(args),
        #[cfg(feature = "cache")]
        Command::Cache(command) => commands::cache::cache(command),
        Command::Store(command) => commands::store::store(command),
        Command::Schema => commands::schema::schema(),
        Command::Rebuild(args) => commands::rebuild::rebuild(args),
        Command::Schedule(args) => commands::schedule::schedule(args),
        Command::History(args) => commands::history::history(args),
        Command::Lock(args) => commands::lock::lock(args),
        Command::Init(args) => commands::init::init(args),
        Command::Predict(args) => commands::predict::predict(args),
        Command::Push(args) => commands::push::push(args),
        Command::Path(args) => commands::path::path(args),
        Command::Completions(args) => commands::completions::completions(args),
        Command::Results(args) => commands::results::results(args),
        Command::Errors(args) => commands::errors::errors(args),
        Command::Compare(args) => commands::compare::compare(args),
        Command::List(args) => commands::list::list(args),
        Command::Methods(args) => commands::methods::methods(args),
        Command::Fetch(args) => commands::fetch::fetch(args),
        Command::Doctor(args) => commands::doctor::doctor(args),
        Command::Synth(args) => commands::synth::synth(args),
        Command::Prepare(args) => commands::prepare::prepare(args),
        Command::Corpus(args) => commands::corpus::corpus(args),
        Command::Node(args) => commands::node::node(args),
        Command::ServeStage(args) => Ok(commands::serve_stage::serve_stage(args)),
    };
    outcome.unwrap_or_else(|error| {
        let is_closed = |cause: &(dyn std::error::Error + 'static)| {
            cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
        };
        if error.chain().any(is_closed) {
            return ExitCode::SUCCESS; // whoever reads our output has seen enough: `sure plan ... | head`
        }
        problem::show(&error);
        ExitCode::from(2)
    })
}

/// `println!` panics when its line cannot be written: because whoever reads our output has seen enough (`sure corpus list | head`),
/// which is no error, or because it goes to a file on a full disk.
fn end_without_panic_when_output_fails() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let text = info.payload().downcast_ref::<String>().map_or("", String::as_str);
        match text.strip_prefix("failed printing to stdout: ") {
            Some(cause) if cause.contains("Broken pipe") => std::process::exit(0),
            Some(cause) => {
                console::say!("error: cannot write to standard output: {cause}");
                std::process::exit(2)
            }
            None => default(info),
        }
    }));
}
