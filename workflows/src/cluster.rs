//! The cluster of `[executor.slurm]`: from the settings of this machine to the options of a run.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use pipeline::Places;
use pipeline::remote::slurm::Slurm;
use pipeline::remote::{Options, Remote};
use pipeline::store::{share_objects, store_id};

use crate::opening::store_problem;
use crate::sure_toml::SlurmSection;

/// Hidden command by which a job runs an element of a wave.
pub(crate) const NODE: &str = "node";

/// Cores of a stage that uses all it gets, when sure.toml does not say.
const CPUS: usize = 4;
/// Memory of an element in MiB, when sure.toml does not say.
const MEMORY_MIB: u64 = 4000;
/// Time until a result is seen, when sure.toml does not say: as long as network file systems keep what they know of names.
const RESULT_DELAY: Duration = Duration::from_secs(60);

/// Variables that jobs get. Others of the shell that starts a run must not change what happens on a compute node.
const VARIABLES: [&str; 8] = ["HOME", "USER", "LOGNAME", "PATH", "LANG", "SLURM_CONF", "LD_LIBRARY_PATH", "LIBTORCH"];

/// Returns the cluster that a section of `sure.toml` describes. `base` is the folder of the file, `worker` runs neural stages.
pub(crate) fn remote(section: &SlurmSection, base: &Path, worker: &Path) -> Result<Remote> {
    let option = |name: &str| section.options.get(name).cloned().filter(|text| !text.is_empty());
    let environment = VARIABLES.iter().filter_map(|name| Some(((*name).into(), std::env::var_os(name)?)));
    let gres = section.gres.clone().unwrap_or_else(|| "gpu:1".to_owned());
    let gres = Some(gres).filter(|gres| !gres.is_empty());
    let gpu = gres.is_some();
    let slurm = Slurm {
        partition: option("partition"),
        account: option("account"),
        qos: option("qos"),
        constraint: option("constraint"),
        gres,
        time: section.time,
        extra: section.extra.clone(),
        environment: environment.collect(),
    };
    let options = Options {
        folder: base.join(section.folder.clone().unwrap_or_default()),
        program: std::env::current_exe().context("cannot find this program")?,
        arguments: vec![NODE.to_owned(), "--worker".to_owned(), worker.display().to_string()],
        cpus: section.cpus.unwrap_or(CPUS),
        gpu,
        memory_mib: section.memory_mib.unwrap_or(MEMORY_MIB),
        places: Places(section.places.iter().map(|(place, folder)| (place.clone(), base.join(folder))).collect()),
        max_running: section.max_running,
        max_array: section.max_array,
        max_tasks: section.max_tasks,
        result_delay: section.result_delay.unwrap_or(RESULT_DELAY),
        verify_all: section.verify_all,
        cancel: false,
    };
    Ok(Remote { cluster: Arc::new(slurm), options })
}

/// Returns the folder in which compute nodes find the artifacts of a store.
pub(crate) fn shared_objects(remote: &Remote, id: &str) -> PathBuf {
    remote.options.folder.join(id).join("objects")
}

/// Moves the artifacts of a store to where compute nodes find them, unless they are there.
pub(crate) fn share_store(remote: &Remote, root: &Path) -> Result<()> {
    let folder = &remote.options.folder;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot create `{}`, the `folder` of `[executor.slurm]`", folder.display()))?;
    let id = store_id(root).map_err(store_problem)?;
    share_objects(root, &shared_objects(remote, &id)).map_err(store_problem)
}
