//! Checks of `[executor.slurm]`.

use std::fs;
use std::path::Path;

use pipeline::remote::Remote;
use pipeline::remote::cluster::Class;
use pipeline::stage::chain;
use pipeline::store::file_system;

use super::Report;

/// Examines the cluster without submitting a job.
pub(super) fn check(remote: &Remote, store: &Path, report: &mut Report) {
    let cluster = &remote.cluster;
    match cluster.version() {
        Ok(version) => Report::good("cluster", &version),
        Err(error) => {
            let hint =
                "install the client programs of Slurm (`sbatch`, `squeue`, `scancel`, `scontrol`), or run `sure` on a login node";
            return report.bad("cluster", &error.to_string(), hint);
        }
    }
    match cluster.limits() {
        Ok(limits) => {
            let text =
                format!("arrays of up to {} elements; ended jobs are known for {} s", limits.max_array, limits.min_job_age_secs);
            Report::good("cluster", &text);
        }
        Err(error) => {
            let hint = "`scontrol ping` says whether the controller of Slurm is up; jobs go on meanwhile, and runs wait";
            report.bad("cluster", &error.to_string(), hint);
        }
    }
    let options = &remote.options;
    let class = Class { threads: options.cpus, gpu: options.gpu, memory_mib: options.memory_mib };
    match cluster.check(class) {
        Ok(()) => Report::good("cluster", "it would take a job with the options of `[executor.slurm]`"),
        Err(error) => {
            let hint = "correct `partition`, `account`, `qos`, `constraint`, `gres`, `time`, `cpus` or `memory_mib` below `[executor.slurm]`; `sinfo` lists partitions";
            report.bad("cluster", &chain(&error).join(": "), hint);
        }
    }
    check_folder(&remote.options.folder, store, report);
}

/// Examines the exchange folder: it can be written, a program in it can be run, and its file system is one that others may share.
fn check_folder(folder: &Path, store: &Path, report: &mut Report) {
    let hint = "`folder` below `[executor.slurm]` should be a folder that this machine and all compute nodes may write";
    let probe = folder.join(format!(".sure-doctor-{}", std::process::id()));
    let written = fs::create_dir_all(folder).and_then(|()| fs::copy("/bin/true", &probe));
    if let Err(error) = written {
        return report.bad("exchange", &format!("`{}` cannot be written: {error}", folder.display()), hint);
    }
    let linked = fs::hard_link(&probe, probe.with_extension("link"));
    let ran = std::process::Command::new(&probe).status();
    let _ = fs::remove_file(probe.with_extension("link")); // it may not be there
    let _ = fs::remove_file(&probe); // written just now
    if !ran.is_ok_and(|status| status.success()) {
        let hint = "it is mounted without the right to run programs (noexec): name another folder";
        return report.bad("exchange", &format!("programs in `{}` cannot be run", folder.display()), hint);
    }
    let kind = file_system(folder).unwrap_or_else(|| "unknown".to_owned());
    let text = format!("`{}` on {kind}", folder.display());
    if linked.is_err() {
        Report::note("exchange", &text, "it has no hard links: states of trainings are copied instead");
    } else if matches!(kind.as_str(), "ext4" | "xfs" | "btrfs" | "tmpfs" | "overlay") {
        Report::note(
            "exchange",
            &text,
            "this is a disk of this machine: make sure that the compute nodes see it under the same path",
        );
    } else {
        Report::good("exchange", &text);
    }
    if store.starts_with(folder) {
        let hint = "the store itself belongs on a disk of this machine; `sure` puts its artifacts into the exchange folder";
        report.bad("exchange", &format!("the store `{}` is in it", store.display()), hint);
    }
}
