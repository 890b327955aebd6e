//! This program and this machine, for the record of a rebuild.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use pipeline::Digest;
use rebuild::record::{Machine, Program};

use crate::settings::Settings;

/// This program: its version, commit, compiler, and the content of both executables.
pub(crate) fn program(settings: &Settings) -> Program {
    let own = std::env::current_exe().unwrap_or_default();
    let executables = [("sure", &own), ("sure-neural", &settings.worker)];
    let executables = executables.into_iter().filter_map(|(name, path)| Some((name.to_owned(), digest_of(path)?)));
    Program {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: env!("SURE_COMMIT").to_owned(),
        rustc: env!("SURE_RUSTC").to_owned(),
        executables: executables.collect(),
    }
}

/// Digest of an executable. Each is read once: they are large, and every run of a rebuild asks.
fn digest_of(path: &Path) -> Option<String> {
    static KNOWN: Mutex<BTreeMap<PathBuf, String>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(digest) = known.get(path) {
        return Some(digest.clone());
    }
    let digest = Digest::of(&fs::read(path).ok()?).to_string()[..32].to_owned();
    known.insert(path.to_owned(), digest.clone());
    Some(digest)
}

/// Releases of libraries that results depend on.
pub(crate) fn libraries() -> BTreeMap<String, String> {
    BTreeMap::from([("libtorch".to_owned(), neural_spec::LIBTORCH.to_owned())])
}

/// This machine, as far as results and times depend on it.
pub(crate) fn this_machine(settings: &Settings) -> Machine {
    let system = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name").and_then(|rest| rest.split_once(':')));
    let cpu = model.map_or_else(|| text(system.machine()), |(_, model)| model.trim().to_owned());
    let driver = fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
    let driver = driver
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))
        .map(str::to_owned);
    let mut gpus: Vec<u32> = settings.pools.gpus.amount.clone();
    gpus.dedup();
    Machine {
        host: settings.machine.host.clone(),
        cpu,
        cores: settings.pools.cpu.amount,
        gpus: gpus.into_iter().map(gpu).collect(),
        kernel: text(system.release()),
        driver,
    }
}

/// Model of a GPU, from its driver.
fn gpu(number: u32) -> String {
    let folders = fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten();
    let mut models: Vec<String> = folders
        .filter_map(|folder| fs::read_to_string(folder.path().join("information")).ok())
        .filter_map(|text| text.lines().find_map(|line| line.strip_prefix("Model:").map(|model| model.trim().to_owned())))
        .collect();
    models.sort();
    models.into_iter().nth(number as usize).unwrap_or_else(|| format!("GPU {number}"))
}
