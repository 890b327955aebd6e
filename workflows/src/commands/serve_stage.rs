//! `sure serve-stage`: worker for the stage kinds of this program.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use pipeline::worker::Worker;

use crate::stages::registry;

#[derive(Args)]
pub(crate) struct ServeStageArgs {
    /// Folder of the request; without it, standard input and output are used
    folder: Option<PathBuf>,
}

pub(crate) fn serve_stage(args: &ServeStageArgs) -> ExitCode {
    let registry = registry(Path::new("sure-neural")); // stage kinds of other programs are not served
    let program = concat!("sure ", env!("CARGO_PKG_VERSION"));
    Worker { program, registry: &registry, environment: vec![] }.serve(args.folder.as_deref())
}
