//! The `sure` command line. Only this crate prints: results go to standard output, everything else to standard error.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is the program that talks to people")]

mod cli;
mod commands;
mod console;
mod library;
mod opening;
mod overrides;
mod problem;
mod settings;
mod stages;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match &cli.command {
        Command::Run(args) => commands::run::run(args),
        Command::Plan(args) => commands::plan::plan(args),
        Command::Why(args) => commands::why::why(args),
        Command::Graph(args) => commands::graph::graph(args),
        Command::Runs(args) => commands::runs::runs(args),
        Command::Log(args) => commands::runs::log(args),
        Command::List(args) => commands::list::list(args),
        Command::Methods(args) => commands::methods::methods(args),
        Command::Doctor(args) => commands::doctor::doctor(args),
        Command::Synth(args) => commands::synth::synth(args),
        Command::Prepare(args) => commands::prepare::prepare(args),
        Command::Corpus(args) => commands::corpus::corpus(args),
    };
    outcome.unwrap_or_else(|error| {
        problem::show(&error);
        ExitCode::from(2)
    })
}
