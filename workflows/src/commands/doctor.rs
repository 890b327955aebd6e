//! `sure doctor`

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::Args;
use pipeline::store::Store;
use serde_json::Value;

use crate::cli::MachineArgs;
use crate::settings::Settings;

#[derive(Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
}

pub(crate) fn doctor(args: &DoctorArgs) -> Result<ExitCode> {
    let settings = Settings::load(&args.machine, &[])?;
    let mut report = Report { missing: 0 };
    Report::good("sure", env!("CARGO_PKG_VERSION"));
    match &settings.file {
        Some(file) => Report::good("settings", &file.display().to_string()),
        None => Report::good("settings", "no sure.toml here or above: defaults"),
    }
    let pools = &settings.machine.pools;
    Report::good("cpu pool", &format!("{} slots, {:.1} GiB of memory", pools.cpu, memory_gib()));
    check_store(&settings, &mut report);
    check_worker(&settings, &mut report);
    for (place, path) in &settings.machine.places.0 {
        if !path.is_dir() {
            report.bad(place, &format!("no folder `{}`", path.display()), "correct it in sure.toml");
        } else if place.starts_with("checkpoints.")
            && let Err(error) = neural_spec::checkpoint::look_at(path)
        {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            report.bad(place, &format!("{error}{cause}"), error.hint());
        } else {
            Report::good(place, &path.display().to_string());
        }
    }
    if !settings.machine.places.0.keys().any(|place| place.starts_with("corpora.")) {
        let hint = "add `fsdd = \"FOLDER\"` to `[corpora]` in sure.toml, give --corpus fsdd=FOLDER, or make one: sure synth speech_commands FOLDER";
        Report::note("corpora", "no folder is set", hint);
    }
    Ok(if report.missing == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Report {
    missing: usize,
}

impl Report {
    fn good(name: &str, text: &str) {
        println!("ok       {name:<12} {text}");
    }
    fn note(name: &str, text: &str, hint: &str) {
        println!("note     {name:<12} {text}\n{:22}{hint}", "");
    }
    fn bad(&mut self, name: &str, text: &str, hint: &str) {
        self.missing += 1;
        println!("missing  {name:<12} {text}\n{:22}{hint}", "");
    }
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

fn check_worker(settings: &Settings, report: &mut Report) {
    let worker = &settings.worker;
    let hint =
        "`make build` in the repository builds it beside `sure` and fetches libtorch; without it all but neural stages work";
    let output = match Command::new(worker).arg("probe").output() {
        Ok(output) if output.status.success() => output,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return report.bad("worker", &format!("`{}` does not start: {said}", worker.display()), hint);
        }
        Err(error) => return report.bad("worker", &format!("`{}`: {error}", worker.display()), hint),
    };
    Report::good("worker", &worker.display().to_string());
    let probe: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    Report::good("libtorch", probe["libtorch"].as_str().unwrap_or("unknown version"));
    let devices = probe["devices"].as_array().map_or(0, Vec::len);
    match (settings.machine.pools.gpus.len(), probe["cuda"].as_bool().unwrap_or(false)) {
        (0, _) => Report::note(
            "gpu pool",
            "no device",
            "training runs on the CPU; `gpus = [0]` under `[pools]` in sure.toml sets devices",
        ),
        (count, true) => {
            Report::good("gpu pool", &format!("nodes that may use it at once: {count}; devices seen by CUDA: {devices}"));
        }
        (count, false) => {
            let hint = "this libtorch has no CUDA or finds no driver; set LIBTORCH to an install with CUDA, or `gpus = []`";
            report.bad("gpu pool", &format!("{count} devices, but libtorch sees no CUDA"), hint);
        }
    }
}
