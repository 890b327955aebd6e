//! `sure.toml`: where things are on this machine. Nothing of it enters a fingerprint.
//!
//! ```toml
//! store = ".sure"            # where artifacts are kept
//! results = "results"        # where links to the latest results are put
//! worker = "sure-neural"     # the executable for neural stages
//! [corpora]
//! fsdd = "/data/fsdd"
//! [checkpoints]
//! wav2vec2-large = "/data/wav2vec2-large-xlsr-53-english"
//! wav2vec2-base = "hub:facebook/wav2vec2-base@COMMIT"       # where `sure fetch` puts it
//! [lexicons]
//! librispeech = "/data/librispeech-lexicon"
//! [language_models]
//! librispeech = "/data/librispeech-lm"
//! [pools]
//! cpu = 8
//! gpus = [0, 1]            # device ids; a node gets one of them for itself. [0, 0, 1, 1]: two small nodes share each
//! memory_mib = 64000       # what nodes that claim memory share
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hub::Pinned;
use pipeline::Places;
use pipeline::mistake::suggest;
use pipeline::run::Machine;
use pipeline::schedule::Pools;
use serde::Deserialize;

use crate::cli::MachineArgs;
use crate::commands::fetch::refuse;
use crate::problem::problem;

/// The file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    store: Option<PathBuf>,
    results: Option<PathBuf>,
    worker: Option<PathBuf>,
    corpora: BTreeMap<String, PathBuf>,
    checkpoints: BTreeMap<String, String>,
    lexicons: BTreeMap<String, PathBuf>,
    language_models: BTreeMap<String, PathBuf>,
    pools: PoolsSection,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PoolsSection {
    cpu: Option<usize>,
    gpus: Option<Vec<u32>>,
    memory_mib: Option<u64>,
}

/// Settings of this machine after the command line was read.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The `sure.toml` in use.
    pub(crate) file: Option<PathBuf>,
    pub(crate) store: PathBuf,
    pub(crate) results: PathBuf,
    pub(crate) worker: PathBuf,
    pub(crate) machine: Machine,
    /// The checkpoints that are on the Hub, by their names.
    pub(crate) hub: BTreeMap<String, Pinned>,
}

const NAME: &str = "sure.toml";

impl Settings {
    /// Reads the settings: the file, then what the command line says.
    pub(crate) fn load(args: &MachineArgs, corpora: &[(String, String)]) -> Result<Self> {
        let here = std::env::current_dir().context("cannot find the current folder")?;
        let file = match &args.config {
            Some(path) if path.is_file() => Some(path.clone()),
            Some(path) => {
                return Err(problem(format!("no file `{}`", path.display()), "--config names the settings of this machine"));
            }
            None => here.ancestors().map(|folder| folder.join(NAME)).find(|path| path.is_file()),
        };
        let written = file.as_deref().map_or_else(|| Ok(File::default()), read)?;
        let base = file.as_deref().and_then(Path::parent).filter(|base| !base.as_os_str().is_empty()).unwrap_or(&here);
        let base = base.canonicalize().with_context(|| format!("cannot open `{}`", base.display()))?;

        let mut places = BTreeMap::new();
        let named = |section: &'static str, map: BTreeMap<String, PathBuf>| {
            let base = base.clone();
            map.into_iter().map(move |(name, path)| (format!("{section}.{name}"), base.join(path)))
        };
        places.extend(named("corpora", written.corpora));
        let mut on_hub = BTreeMap::new();
        for (name, place) in written.checkpoints {
            let folder = if place.starts_with(hub::SCHEME) {
                let pinned: Pinned = place.parse().map_err(|error| refuse(&error))?;
                let folder = pinned.folder();
                on_hub.insert(name.clone(), pinned);
                folder
            } else {
                base.join(place)
            };
            places.insert(format!("checkpoints.{name}"), folder);
        }
        places.extend(named("lexicons", written.lexicons));
        places.extend(named("language_models", written.language_models));
        places.extend(corpora.iter().map(|(name, path)| (format!("corpora.{name}"), here.join(path))));

        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let pools = Pools {
            cpu: args.jobs.or(written.pools.cpu).unwrap_or(cores),
            gpus: written.pools.gpus.unwrap_or_else(gpus),
            memory_mib: written.pools.memory_mib,
        };
        if pools.cpu == 0 {
            return Err(problem("the cpu pool has no slot", "`pools.cpu` or --jobs should be at least 1"));
        }
        if pools.cpu < cores {
            // Files are listed and hashed by no more threads, too. An error says that it was settled before.
            let _ = rayon::ThreadPoolBuilder::new().num_threads(pools.cpu).build_global();
        }
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Ok(Self {
            store: args
                .store
                .as_ref()
                .map_or_else(|| base.join(written.store.unwrap_or(".sure".into())), |store| here.join(store)),
            results: base.join(written.results.unwrap_or("results".into())),
            worker: written
                .worker
                .map_or_else(beside_us, |path| if path.components().count() > 1 { base.join(path) } else { path }),
            machine: Machine { places: Places(places), pools, host },
            hub: on_hub,
            file,
        })
    }
}

impl Settings {
    /// Name of the project, by which the store tells apart the runs of several: the folder of its results.
    pub(crate) fn project(&self) -> String {
        self.results.display().to_string()
    }
}

impl Settings {
    /// Adds what `--checkpoint` gives: a name below `[checkpoints]`, a folder, or a name of the Hub. Returns it with the folder in
    /// full.
    pub(crate) fn add_checkpoint(&mut self, given: &str, here: &Path) -> Result<String> {
        let name = checkpoint_name(given);
        let place = format!("checkpoints.{name}");
        if given.starts_with(hub::SCHEME) {
            let pinned: Pinned = given.parse().map_err(|error| refuse(&error))?;
            self.machine.places.0.insert(place, pinned.folder());
            self.hub.insert(name, pinned);
        } else if given.contains('/') || !self.machine.places.0.contains_key(&place) {
            let folder = here.join(given);
            if !folder.is_dir() {
                let known = self.machine.places.0.keys().filter_map(|place| place.strip_prefix("checkpoints."));
                let hint = format!(
                    "give a folder, `hub:ORGANISATION/NAME@COMMIT`, or a name below `[checkpoints]`: {}",
                    suggest(given, known)
                );
                return Err(problem(format!("--checkpoint {given}: no such folder and no such name in sure.toml"), hint));
            }
            let full = folder.display().to_string();
            self.machine.places.0.insert(place, folder);
            return Ok(full);
        }
        Ok(given.to_owned())
    }
}

/// Returns the name of a checkpoint in tables: the last part of its folder or of its name on the Hub.
pub(crate) fn checkpoint_name(given: &str) -> String {
    let path = given.trim_end_matches('/').split('@').next().unwrap_or(given);
    path.rsplit(['/', ':']).next().unwrap_or(path).replace([',', '[', ']', '{', '}', '#', '*'], "_")
}

fn read(path: &Path) -> Result<File> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        let known = "known are `store`, `results`, `worker`, `[corpora]`, `[checkpoints]`, `[lexicons]`, `[language_models]` and `[pools]` with `cpu`, `gpus` and `memory_mib`";
        problem(format!("{}:{line}: {}", path.display(), error.message().trim()), known)
    })
}

/// `sure-neural` beside this executable, else wherever the shell finds it.
fn beside_us() -> PathBuf {
    let beside = std::env::current_exe().ok().map(|exe| exe.with_file_name("sure-neural")).filter(|path| path.is_file());
    beside.unwrap_or_else(|| "sure-neural".into())
}

/// The NVIDIA devices of this machine, found without loading any library.
fn gpus() -> Vec<u32> {
    (0..64).take_while(|index| Path::new(&format!("/dev/nvidia{index}")).exists()).collect()
}
