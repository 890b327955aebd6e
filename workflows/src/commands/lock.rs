//! `sure lock`: everything that goes into a rebuild, for `sure rebuild --locked`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use rebuild::event::count;
use rebuild::history::{History, write_aside};
use rebuild::lock::{LockFile, LockedSource, pack_lists};

use crate::cli::MachineArgs;
use crate::commands::rebuild::{
    enter, history_problem, libraries, lists_path, locked_inputs, plan_runs, program, read_file, this_machine,
};
use crate::settings::Settings;

#[derive(Args)]
pub(crate) struct LockArgs {
    /// The rebuild file
    file: PathBuf,
    /// The lock file to write [default: next to the rebuild file, with the ending `.lock`]
    #[arg(long, short, value_name = "LOCK")]
    out: Option<PathBuf>,
    #[command(flatten)]
    machine: MachineArgs,
}

pub(crate) fn lock(args: &LockArgs) -> Result<ExitCode> {
    let (file, _) = read_file(&args.file)?;
    let here = std::env::current_dir()?;
    let out = args.out.as_ref().map_or_else(|| file.path.with_extension("lock"), |out| here.join(out));
    let machine = enter(&file, &args.machine)?;
    let planned = plan_runs(&file, &machine)?;
    let settings = Settings::load(&machine, &[])?;
    let inputs = locked_inputs(&planned)?;
    let history = History::read(&file.history).map_err(history_problem)?;
    history.check_owner(&file).map_err(history_problem)?;
    let last = history.log.ended().rev().find(|ended| ended.outcome.is_end() && !ended.fresh);
    let runs = planned.iter().map(|planned| planned.text.clone()).collect();
    let mut lock = LockFile::new(&file.name, runs, program(&settings), this_machine(&settings).key(), last);
    pipeline::Digest::of(include_bytes!("../../../Cargo.lock")).to_string()[..32].clone_into(&mut lock.cargo_lock);
    lock.libraries = libraries();
    lock.workflows = inputs.workflows;
    for (place, source) in inputs.sources {
        let from =
            place.strip_prefix("corpora.").and_then(datasets::find).map_or_else(String::new, |corpus| corpus.about().to_owned());
        let from = place.strip_prefix("checkpoints.").and_then(|name| settings.hub.get(name)).map_or(from, ToString::to_string);
        lock.sources.insert(place, LockedSource { digest: source.digest, files: source.files, bytes: source.bytes, from });
    }
    write_aside(&lists_path(&out), &pack_lists(&inputs.lists)?).map_err(history_problem)?;
    write_aside(&out, lock.text().as_bytes()).map_err(history_problem)?;
    println!("{}: {}, {}", out.display(), count(lock.sources.len(), "source"), count(lock.cells.len(), "cell"));
    Ok(ExitCode::SUCCESS)
}
