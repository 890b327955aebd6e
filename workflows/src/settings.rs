//! Settings of this machine, from `sure.toml`, the command line and what the system gives this process. Nothing of it enters a
//! fingerprint.
//!
//! ```toml
//! store = ".sure"            # folder of the artifacts
//! results = "results"        # folder of links to the latest results
//! worker = "sure-neural"     # executable for neural stages
//! isolate = true             # every stage runs in a process of its own, so that one that crashes ends no other
//! [corpora]
//! fsdd = "/data/fsdd"        # `~` and variables such as `$DATA` are replaced
//! [checkpoints]
//! wav2vec2-large = "/data/wav2vec2-large-xlsr-53-english"
//! wav2vec2-base = "hub:facebook/wav2vec2-base@COMMIT"       # where `sure fetch` puts it
//! [lexicons]
//! librispeech = "/data/librispeech-lexicon"
//! [language_models]
//! librispeech = "/data/librispeech-lm"
//! [pools]
//! cpu = 8
//! gpus = [0, 1]            # device numbers; a node gets one of them for itself. [0, 0, 1, 1]: two small nodes share each
//! memory_mib = 64000       # what nodes that claim memory share
//! [executor.slurm]         # nodes run on a cluster; see docs/cluster.md
//! folder = "/shared/sure"
//! [cache]
//! url = "s3://bucket/sure" # results that several machines share (`docs/cache.md`)
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hub::Pinned;
use pipeline::Places;
use pipeline::mistake::suggest;
use pipeline::records::RunRow;
use pipeline::registry::WorkerProgram;
use pipeline::run::Machine;
use pipeline::schedule::Pools;
use pipeline::store::Store;
use pipeline::toolbox::Toolbox;

use crate::cli::MachineArgs;
use crate::problem::problem;
use crate::resources::{Given, Limit, System};
use crate::sharing::CacheSettings;
use crate::sure_toml::{self, Mistake, Written, expand};

/// Settings of this machine after the command line was read.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The `sure.toml` in use.
    pub(crate) file: Option<PathBuf>,
    pub(crate) store: PathBuf,
    pub(crate) results: PathBuf,
    pub(crate) worker: PathBuf,
    pub(crate) machine: Machine,
    /// Sizes of the pools, with their sources.
    pub(crate) pools: PoolSizes,
    /// Checkpoints on the Hub, by name.
    pub(crate) hub: BTreeMap<String, Pinned>,
    /// Settings of the shared cache.
    #[cfg_attr(not(feature = "cache"), allow(dead_code, reason = "a build without the cache has none"))]
    pub(crate) cache: Option<CacheSettings>,
    /// Mistakes in the file that do not concern every command: of corpora, checkpoints and other places.
    pub(crate) mistakes: Vec<Mistake>,
}

/// Sizes of the resource pools, with their sources.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PoolSizes {
    pub(crate) cpu: Limit<usize>,
    pub(crate) memory_mib: Option<Limit>,
    pub(crate) gpus: Limit<Vec<u32>>,
}

const NAME: &str = "sure.toml";

impl Settings {
    /// Reads the settings for a command that needs them to be right.
    ///
    /// Errors: every mistake in `sure.toml` that does not concern a single place; see [`Settings::check_place`].
    pub(crate) fn load(args: &MachineArgs, corpora: &[(String, String)]) -> Result<Self> {
        let mut settings = Self::examine(args, corpora)?;
        let (of_places, others): (Vec<_>, Vec<_>) = settings.mistakes.into_iter().partition(Mistake::is_of_place);
        refuse(&others)?;
        settings.mistakes = of_places;
        Ok(settings)
    }

    /// Reads the settings and leaves all mistakes of `sure.toml` in [`Settings::mistakes`].
    pub(crate) fn examine(args: &MachineArgs, corpora: &[(String, String)]) -> Result<Self> {
        let here = std::env::current_dir().context("cannot find the current folder")?;
        let system = System::real();
        let file = match &args.config {
            Some(path) if path.is_file() => Some(path.clone()),
            Some(path) => {
                return Err(problem(format!("no file `{}`", path.display()), "--config names the settings of this machine"));
            }
            None => here.ancestors().map(|folder| folder.join(NAME)).find(|path| path.is_file()),
        };
        let written = file.as_deref().map_or_else(Written::default, |file| read(file, &system));
        let base = file.as_deref().and_then(Path::parent).filter(|base| !base.as_os_str().is_empty()).unwrap_or(&here);
        let base = base.canonicalize().with_context(|| format!("cannot open `{}`", base.display()))?;

        let mut places: BTreeMap<String, PathBuf> =
            written.places.into_iter().map(|(place, path)| (place, base.join(path))).collect();
        let mut mistakes = written.mistakes;
        for (at, (name, path)) in corpora.iter().enumerate() {
            if let Some((_, other)) = corpora[..at].iter().find(|(before, _)| before == name) {
                let message = format!("--corpus {name} is given twice: `{other}` and `{path}`");
                return Err(problem(message, "a run reads a corpus from one folder: leave the other out"));
            }
            if datasets::find(name).is_none() {
                let hint = suggest(name, datasets::ALL.iter().map(|corpus| corpus.name()));
                return Err(problem(format!("--corpus {name}={path}: no reader for a corpus `{name}`"), hint));
            }
            let folder = expand(path, system.variable);
            let folder = folder.map_err(|why| problem(format!("--corpus {name}={path}: {why}"), "write the path in full"))?;
            let place = format!("corpora.{name}");
            mistakes.retain(|mistake| mistake.key != place); // the command line overrules the file
            places.insert(place, here.join(folder));
        }
        let pools = PoolSizes::new(args.jobs, written.cpu, written.memory_mib, written.gpus, Given::of(&system));
        if pools.cpu.amount == 0 {
            return Err(problem("the cpu pool has no slot", "--jobs should be at least 1"));
        }
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        if pools.cpu.amount < cores {
            // Files are listed and hashed by no more threads, too. An error says that it was settled before.
            let _ = rayon::ThreadPoolBuilder::new().num_threads(pools.cpu.amount).build_global();
        }
        let worker =
            written.worker.map_or_else(next_to_us, |path| if path.components().count() > 1 { base.join(path) } else { path });
        let remote = written
            .slurm
            .as_ref()
            .filter(|_| !args.local)
            .map(|slurm| crate::cluster::remote(slurm, &base, &worker))
            .transpose()?;
        let machine = Machine {
            remote,
            places: Places(places),
            pools: pools.pools(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            program: crate::cli::VERSION.to_owned(),
            toolbox: Toolbox::new(&std::env::var_os("PATH").unwrap_or_default()),
            own_worker: written.isolate.then(own_worker).transpose()?,
            shared: None, // see `Sharing`
        };
        Ok(Self {
            store: args
                .store
                .as_ref()
                .map_or_else(|| base.join(written.store.unwrap_or(".sure".into())), |store| here.join(store)),
            results: base.join(written.results.unwrap_or("results".into())),
            worker,
            machine,
            pools,
            hub: written.hub,
            cache: written.cache,
            mistakes,
            file,
        })
    }

    /// Fails when `sure.toml` is wrong about a place that is needed, or names a corpus that no reader knows.
    pub(crate) fn check_place(&self, place: &str) -> Result<()> {
        refuse(&self.mistakes.iter().filter(|mistake| mistake.key == place).cloned().collect::<Vec<_>>())
    }

    /// Returns the folder of a place, if there is one.
    pub(crate) fn place(&self, place: &str) -> Result<Option<PathBuf>> {
        self.check_place(place)?;
        Ok(self.machine.places.0.get(place).cloned())
    }

    /// True if a place has no folder on this machine.
    pub(crate) fn lacks(&self, place: &str) -> bool {
        self.machine.places.0.get(place).is_none_or(|path| !path.exists())
    }

    /// Fails when `[corpora]` names a corpus that no reader knows.
    pub(crate) fn check_corpora(&self) -> Result<()> {
        let is_unknown =
            |mistake: &&Mistake| mistake.key.strip_prefix("corpora.").is_some_and(|name| datasets::find(name).is_none());
        refuse(&self.mistakes.iter().filter(is_unknown).cloned().collect::<Vec<_>>())
    }
}

impl Settings {
    /// Name of the project, by which the store tells apart the runs of several: the folder of its results.
    pub(crate) fn project(&self) -> String {
        self.results.display().to_string()
    }

    /// True if a run is of this project. One without a project is. So is one whose folder is gone, if the store is in this project: the
    /// project was moved, with its store.
    pub(crate) fn is_ours(&self, run: &RunRow) -> bool {
        let Some(of) = &run.project else { return true };
        let was_moved = || {
            let here = self.results.parent().unwrap_or(&self.results);
            let has_store = self.store.canonicalize().is_ok_and(|store| store.starts_with(here));
            has_store && !Path::new(of).parent().is_some_and(Path::exists)
        };
        *of == self.project() || was_moved()
    }
}

/// The error that a store has no run of this project.
pub(crate) fn no_run(store: &Store, hint: impl Into<String>) -> anyhow::Error {
    match store.runs(1).ok().and_then(|runs| runs.into_iter().next()) {
        Some(other) => {
            let of = other.project.unwrap_or_default();
            let hint = format!("`sure runs` lists them; the last is of the project with the results in `{of}`");
            problem("no run of this project in this store, which has runs of others", hint)
        }
        None => problem("no run yet in this store", hint),
    }
}

impl Settings {
    /// Adds what `--checkpoint` gives: a name below `[checkpoints]`, a folder, or a name of the Hub. Returns it with the folder in
    /// full.
    pub(crate) fn add_checkpoint(&mut self, given: &str, here: &Path) -> Result<String> {
        let name = checkpoint_name(given);
        let place = format!("checkpoints.{name}");
        if given.starts_with(hub::SCHEME) {
            let pinned: Pinned = given.parse().map_err(|error: hub::HubError| problem(error.to_string(), sure_toml::PINNED))?;
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

fn refuse(mistakes: &[Mistake]) -> Result<()> {
    let Some(first) = mistakes.first() else { return Ok(()) };
    let texts: Vec<String> = mistakes.iter().map(Mistake::text).collect();
    let hint = if mistakes.len() == 1 { first.hint.clone() } else { "`sure doctor` examines the whole file".to_owned() };
    Err(problem(texts.join("\n       "), hint))
}

/// Reads `sure.toml`. One that cannot be read is a mistake as any other in it.
fn read(path: &Path, system: &System<'_>) -> Written {
    match fs::read(path) {
        Ok(bytes) => {
            let mut written = sure_toml::read(path, &String::from_utf8_lossy(&bytes), system.variable);
            if let Err(error) = std::str::from_utf8(&bytes) {
                written.not_text(path, &bytes[..error.valid_up_to()]);
            }
            written
        }
        Err(error) => Written::unreadable(path, &error),
    }
}

/// Returns this program as a worker for its own stage kinds.
pub(crate) fn own_worker() -> Result<WorkerProgram> {
    let path = std::env::current_exe().context("cannot find this program")?;
    Ok(WorkerProgram { path, arguments: vec![crate::stages::SERVE], ..WorkerProgram::default() })
}

/// Returns `sure-neural` next to this executable, else the one that the shell finds.
fn next_to_us() -> PathBuf {
    let beside = std::env::current_exe().ok().map(|exe| exe.with_file_name("sure-neural")).filter(|path| path.is_file());
    beside.unwrap_or_else(|| "sure-neural".into())
}

impl PoolSizes {
    /// Chooses sizes: `jobs` of the command line; else those of `sure.toml`, cut down to what this process was given where that
    /// is less than the machine has; else what it was given.
    fn new(jobs: Option<usize>, cpu: Option<usize>, memory_mib: Option<u64>, gpus: Option<Vec<u32>>, given: Given) -> Self {
        let limit = given.cpu_limit().clone();
        let is_restricted = limit != given.cores;
        let cpu = match (jobs, cpu) {
            (Some(amount), _) => Limit { amount, source: "--jobs".to_owned() },
            (None, Some(asked)) if is_restricted && asked > limit.amount => {
                Limit { amount: limit.amount, source: format!("{}; sure.toml asks for {asked}", limit.source) }
            }
            (None, Some(amount)) => Limit { amount, source: "sure.toml".to_owned() },
            (None, None) => limit,
        };
        let memory_mib = match (memory_mib, given.memory_mib.into_iter().next()) {
            (Some(asked), Some(limit)) if asked > limit.amount => {
                Some(Limit { amount: limit.amount, source: format!("{}; sure.toml asks for {asked}", limit.source) })
            }
            (Some(amount), _) => Some(Limit { amount, source: "sure.toml".to_owned() }),
            (None, limit) => limit,
        };
        let gpus = match gpus {
            None => given.gpus,
            Some(asked) if given.visible_gpus => {
                let amount: Vec<u32> = asked.iter().copied().filter(|id| given.gpus.amount.contains(id)).collect();
                let source = if amount == asked {
                    "sure.toml".to_owned()
                } else {
                    format!("{}; sure.toml asks for {asked:?}", given.gpus.source)
                };
                Limit { amount, source }
            }
            Some(amount) => Limit { amount, source: "sure.toml".to_owned() },
        };
        Self { cpu, memory_mib, gpus }
    }

    fn pools(&self) -> Pools {
        let memory_mib = self.memory_mib.as_ref().map(|limit| limit.amount);
        Pools { cpu: self.cpu.amount, gpus: self.gpus.amount.clone(), memory_mib }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that may use 4 of 8 cores, 1000 MiB and two of the GPUs; the others are set by `sure.toml`.
    #[track_caller]
    fn check(jobs: Option<usize>, cpu: Option<usize>, memory_mib: Option<u64>, gpus: Option<&[u32]>, expected: [&str; 3]) {
        let limit = |amount: u64, source: &str| Limit { amount, source: source.to_owned() };
        let cores = |amount: usize, source: &str| Limit { amount, source: source.to_owned() };
        let given = Given {
            cores: cores(8, "cores of this machine"),
            cpu: vec![cores(4, "CPU affinity")],
            memory_mib: vec![limit(1000, "SLURM_MEM_PER_NODE")],
            gpus: Limit { amount: vec![0, 1], source: "CUDA_VISIBLE_DEVICES=4,5".to_owned() },
            visible_gpus: true,
        };
        let found = PoolSizes::new(jobs, cpu, memory_mib, gpus.map(<[u32]>::to_vec), given);
        let gpus = format!("{:?} ({})", found.gpus.amount, found.gpus.source);
        assert_eq!([found.cpu.to_string(), found.memory_mib.unwrap().to_string(), gpus], expected);
    }

    #[test]
    fn pools_are_no_larger_than_what_the_process_was_given() {
        let given = ["4 (CPU affinity)", "1000 (SLURM_MEM_PER_NODE)", "[0, 1] (CUDA_VISIBLE_DEVICES=4,5)"];
        check(None, None, None, None, given);
        check(None, Some(2), Some(500), Some(&[1, 1]), ["2 (sure.toml)", "500 (sure.toml)", "[1, 1] (sure.toml)"]);
        check(
            None,
            Some(8),
            Some(9000),
            Some(&[0, 4]),
            [
                "4 (CPU affinity; sure.toml asks for 8)",
                "1000 (SLURM_MEM_PER_NODE; sure.toml asks for 9000)",
                "[0] (CUDA_VISIBLE_DEVICES=4,5; sure.toml asks for [0, 4])",
            ],
        );
        check(Some(6), Some(2), None, Some(&[]), ["6 (--jobs)", given[1], "[] (sure.toml)"]);
    }
}
