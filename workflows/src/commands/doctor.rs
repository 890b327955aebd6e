//! `sure doctor`

mod cluster;

use std::error::Error;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::Args;
use datasets::{Listing, Split};
use neural_spec::{PublishedFiles, PublishedVocoder};
use pipeline::Tool;
use pipeline::executor::WorkerProcess;
use pipeline::registry::Registry;
use pipeline::stage::chain;
use pipeline::store::Store;
use pipeline::text::printable;
use serde_json::Value;

use crate::cli::MachineArgs;
use crate::console::tell;
use crate::settings::{PoolSizes, Settings};
use crate::stages::{GET_WORKER, registry};

#[derive(Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
}

/// Examines everything, whatever is wrong.
pub(crate) fn doctor(args: &DoctorArgs) -> Result<ExitCode> {
    let settings = Settings::examine(&args.machine, &[])?;
    let mut report = Report { missing: 0 };
    Report::good("sure", env!("CARGO_PKG_VERSION"));
    match &settings.file {
        Some(file) => Report::good("settings", &file.display().to_string()),
        None => Report::good("settings", "no sure.toml here or above: defaults"),
    }
    for mistake in &settings.mistakes {
        report.bad("settings", &mistake.text(), &mistake.hint);
    }
    check_pools(&settings);
    check_store(&settings, &mut report);
    if let Some(remote) = &settings.machine.remote {
        cluster::check(remote, &settings.store, &mut report);
    }
    let registry = registry(&settings.worker);
    check_worker(&settings, &registry, &mut report);
    let mut tools: Vec<_> = registry.kinds().flat_map(|kind| &kind.tools).collect();
    tools.dedup();
    for tool in tools {
        check_tool(&settings, tool);
    }
    for (place, path) in &settings.machine.places.0 {
        check_place(place, path, &mut report);
    }
    let names_corpora = |place: &str| place.starts_with("corpora.");
    let mistaken = settings.mistakes.iter().any(|mistake| names_corpora(&mistake.key));
    if !mistaken && !settings.machine.places.0.keys().any(|place| names_corpora(place)) {
        let hint = "add `fsdd = \"FOLDER\"` to `[corpora]` in sure.toml, give --corpus fsdd=FOLDER, or make one: sure synth speech_commands FOLDER";
        Report::note("corpora", "no folder is set", hint);
    }
    Ok(if report.missing == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Findings, as lines on standard output.
struct Report {
    missing: usize,
}

impl Report {
    fn good(name: &str, text: &str) {
        tell!("ok       {name:<12} {}", printable(text));
    }
    fn note(name: &str, text: &str, hint: &str) {
        tell!("note     {name:<12} {}\n{:22}{}", printable(text), "", printable(hint));
    }
    fn bad(&mut self, name: &str, text: &str, hint: &str) {
        self.missing += 1;
        tell!("missing  {name:<12} {}\n{:22}{}", printable(text), "", printable(hint));
    }
}

fn check_pools(settings: &Settings) {
    let PoolSizes { cpu, memory_mib, .. } = &settings.pools;
    let slots = if cpu.amount == 1 { "1 slot".to_owned() } else { format!("{} slots", cpu.amount) };
    Report::good("cpu pool", &format!("{slots}: {}", cpu.source));
    match memory_mib {
        Some(limit) => Report::good("memory pool", &format!("{} MiB: {}", limit.amount, limit.source)),
        None => Report::good("memory pool", &format!("not limited; this machine has {:.1} GiB", memory_gib())),
    }
}

fn check_tool(settings: &Settings, tool: &Tool) {
    let found = settings.machine.toolbox.find(tool);
    match found.path {
        Some(path) => Report::good(tool.name, &format!("{}: {}", path.display(), found.version)),
        None => Report::note(
            tool.name,
            "not on PATH",
            "stages that need it leave out what only it can read; install it if that matters",
        ),
    }
}

/// Examines the folder of a corpus, a checkpoint or something else.
fn check_place(place: &str, path: &Path, report: &mut Report) {
    let causes = |error: &dyn Error| chain(error).join(": ");
    let (section, name) = place.split_once('.').unwrap_or((place, ""));
    if !path.is_dir() {
        let hint = if section == "checkpoints" {
            format!("correct it in sure.toml; `sure fetch {name}` downloads one that is named as `hub:...`")
        } else {
            "correct it in sure.toml".to_owned()
        };
        return report.bad(place, &format!("no folder `{}`", path.display()), &hint);
    }
    match section {
        "checkpoints" if PublishedFiles::are_in(path) => match PublishedFiles::open(path) {
            Ok(files) => Report::good(place, &format!("{}: a voice of {} speakers", path.display(), files.speakers.len())),
            Err(error) => report.bad(place, &causes(&error), error.hint()),
        },
        "checkpoints" if PublishedVocoder::are_in(path) => match PublishedVocoder::open(path) {
            Ok(_) => Report::good(place, &format!("{}: a vocoder", path.display())),
            Err(error) => report.bad(place, &causes(&error), error.hint()),
        },
        "checkpoints" => match neural_spec::checkpoint::look_at(path) {
            Ok(()) => Report::good(place, &path.display().to_string()),
            Err(error) => report.bad(place, &causes(&error), error.hint()),
        },
        "corpora" => {
            let Some(corpus) = datasets::find(name) else { return };
            let protocol = &corpus.protocols()[0];
            match corpus.list(path, protocol) {
                Ok(listing) => Report::good(place, &contents(path, protocol.name, &listing)),
                Err(error) => {
                    let other = datasets::recognise(path, name).map(|other| format!("it looks like a copy of `{other}`: "));
                    let hint = format!(
                        "{}correct it in sure.toml; `sure corpus check {name}` examines it closely",
                        other.unwrap_or_default()
                    );
                    report.bad(place, &causes(&error), &hint);
                }
            }
        }
        _ => Report::good(place, &path.display().to_string()),
    }
}

/// Counts what a corpus contains.
fn contents(path: &Path, protocol: &str, listing: &Listing) -> String {
    let [train, dev, test] = [Split::Train, Split::Dev, Split::Test].map(|split| listing.count(split));
    let skipped = listing.skipped.len();
    let skipped = if skipped > 0 { format!("; {skipped} left out") } else { String::new() };
    format!("{}: {protocol}, {train} train, {dev} dev, {test} test utterances{skipped}", path.display())
}

fn check_store(settings: &Settings, report: &mut Report) {
    let path = &settings.store;
    if !path.exists() {
        return Report::good("store", &format!("`{}`, begun by the first run ({})", path.display(), free(path)));
    }
    match Store::view(path) {
        Ok(store) => {
            let runs = store.runs(usize::MAX >> 1).map_or(0, |runs| runs.len());
            Report::good("store", &format!("`{}`, {runs} runs ({})", store.root().display(), free(path)));
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            report.bad(
                "store",
                &format!("{error}{cause}"),
                "it should be a folder you may write to; --store or `store` in sure.toml names another",
            );
        }
    }
}

/// Free space of the file system that holds a path or will hold it.
fn free(path: &Path) -> String {
    let there = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(path);
    rustix::fs::statvfs(there).map_or_else(
        |error| format!("free space unknown: {error}"),
        |stat| format!("{:.1} GiB free", stat.f_bavail as f64 * stat.f_frsize as f64 / f64::from(1 << 30)),
    )
}

fn memory_gib() -> f64 {
    rustix::system::sysinfo().totalram as f64 / f64::from(1 << 30)
}

fn check_worker(settings: &Settings, registry: &Registry, report: &mut Report) {
    let worker = &settings.worker;
    let hint = &format!("{GET_WORKER}; without it all but neural stages work");
    let output = match Command::new(worker).arg("probe").output() {
        Ok(output) if output.status.success() => output,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return report.bad("worker", &format!("`{}` does not start: {said}", worker.display()), hint);
        }
        Err(error) => return report.bad("worker", &format!("`{}`: {error}", worker.display()), hint),
    };
    let environment = [("libtorch".to_owned(), neural_spec::LIBTORCH.to_owned())].into();
    let mut programs = registry.kinds().filter_map(|kind| Some((kind, kind.worker.as_ref()?)));
    let wrong = programs.find_map(|(kind, program)| match WorkerProcess(program).hello() {
        Ok(hello) => hello.check(kind.name, kind.version, &environment).err().map(|mismatch| mismatch.to_string()),
        Err(error) => Some(chain(&error).join(": ")),
    });
    match wrong {
        None => Report::good("worker", &worker.display().to_string()),
        Some(text) => report.bad("worker", &format!("`{}`: {text}", worker.display()), hint),
    }
    let probe: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    Report::good("libtorch", probe["libtorch"].as_str().unwrap_or("unknown version"));
    let devices = probe["devices"].as_array().map_or(0, Vec::len);
    let source = &settings.pools.gpus.source;
    match (settings.machine.pools.gpus.len(), probe["cuda"].as_bool().unwrap_or(false)) {
        (0, _) => Report::note(
            "gpu pool",
            &format!("no device: {source}"),
            "training runs on the CPU; `gpus = [0]` under `[pools]` in sure.toml sets devices",
        ),
        (count, true) => {
            let text = format!("nodes that may use it at once: {count}: {source}; devices seen by CUDA: {devices}");
            Report::good("gpu pool", &text);
        }
        (count, false) => {
            let hint = "this libtorch has no CUDA or finds no driver; set LIBTORCH to an install with CUDA, or `gpus = []`";
            let number = if count == 1 { "1 device".to_owned() } else { format!("{count} devices") };
            report.bad("gpu pool", &format!("{number} ({source}), but libtorch sees no CUDA"), hint);
        }
    }
}
