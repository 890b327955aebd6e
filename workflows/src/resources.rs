//! Resources that this process was given: cores, memory and GPUs, from CPU affinity, control groups, Slurm and CUDA.
//!
//! All sources are texts (files of `/proc` and `/sys`, environment variables) that [`System`] reads, so that tests need no machine.

use std::fmt;
use std::path::Path;

/// Access to the texts that say what this process was given.
pub(crate) struct System<'a> {
    /// Returns the content of a file.
    pub(crate) read: &'a dyn Fn(&str) -> Option<String>,
    /// Returns the value of an environment variable.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<String>,
    /// True if a file exists.
    pub(crate) exists: &'a dyn Fn(&str) -> bool,
}

impl System<'static> {
    /// Returns the system that this process runs on.
    pub(crate) fn real() -> Self {
        Self {
            read: &|path| std::fs::read_to_string(path).ok(),
            variable: &|name| std::env::var_os(name)?.into_string().ok(),
            exists: &|path| Path::new(path).exists(),
        }
    }
}

/// Amount of a resource, and the source that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limit<T = u64> {
    pub(crate) amount: T,
    pub(crate) source: String,
}

impl<T> Limit<T> {
    fn new(amount: T, source: impl Into<String>) -> Self {
        Self { amount, source: source.into() }
    }
}

impl<T: fmt::Display> fmt::Display for Limit<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.amount, self.source)
    }
}

/// Resources that this process was given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Given {
    /// Cores of the machine.
    pub(crate) cores: Limit<usize>,
    /// Limits on the number of cores, the smallest first.
    pub(crate) cpu: Vec<Limit<usize>>,
    /// Limits on memory in MiB, the smallest first.
    pub(crate) memory_mib: Vec<Limit>,
    /// GPUs, as the numbers by which CUDA knows them in this process.
    pub(crate) gpus: Limit<Vec<u32>>,
    /// True if `CUDA_VISIBLE_DEVICES` restricts the GPUs.
    pub(crate) visible_gpus: bool,
}

impl Given {
    pub(crate) fn of(system: &System<'_>) -> Self {
        let number = |name: &str| (system.variable)(name)?.trim().parse::<u64>().ok().filter(|number| *number > 0);
        let cores = (system.read)("/sys/devices/system/cpu/online").and_then(|list| count(&list));
        let cores = cores.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
        let mut cpu: Vec<Limit<usize>> = vec![];
        let status = (system.read)("/proc/self/status").unwrap_or_default();
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).and_then(count);
        cpu.extend(allowed.map(|count| Limit::new(count, "CPU affinity")));
        let slurm_cpus = number("SLURM_CPUS_PER_TASK").map(|count| count as usize);
        cpu.extend(slurm_cpus.map(|count| Limit::new(count, "SLURM_CPUS_PER_TASK")));
        let mut memory_mib = vec![];
        memory_mib.extend(number("SLURM_MEM_PER_NODE").map(|mib| Limit::new(mib, "SLURM_MEM_PER_NODE")));
        let on_node = slurm_cpus.map(|cpus| cpus as u64).or_else(|| number("SLURM_CPUS_ON_NODE"));
        let per_cpu = number("SLURM_MEM_PER_CPU").zip(on_node);
        memory_mib.extend(per_cpu.map(|(mib, cpus)| Limit::new(mib * cpus, format!("SLURM_MEM_PER_CPU for {cpus} CPUs"))));
        cgroups(system, &mut cpu, &mut memory_mib);
        cpu.sort_by_key(|limit| limit.amount);
        memory_mib.sort_by_key(|limit| limit.amount);
        Self {
            cores: Limit::new(cores, "cores of this machine"),
            cpu,
            memory_mib,
            gpus: gpus(system),
            visible_gpus: (system.variable)("CUDA_VISIBLE_DEVICES").is_some(),
        }
    }

    /// Cores that this process may use.
    pub(crate) fn cpu_limit(&self) -> &Limit<usize> {
        self.cpu.first().filter(|limit| limit.amount < self.cores.amount).unwrap_or(&self.cores)
    }
}

/// Counts the members of a list such as `0-3,8`.
fn count(list: &str) -> Option<usize> {
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        (last.parse::<usize>().ok()? + 1).checked_sub(first.parse().ok()?)
    };
    list.trim().split(',').map(range).sum::<Option<usize>>().filter(|count| *count > 0)
}

/// Adds the limits of the control groups that this process is in, and of the groups above them.
fn cgroups(system: &System<'_>, cpu: &mut Vec<Limit<usize>>, memory_mib: &mut Vec<Limit>) {
    let text = (system.read)("/proc/self/cgroup").unwrap_or_default();
    for line in text.lines() {
        let Some((controllers, path)) = line.split_once(':').and_then(|(_, rest)| rest.split_once(':')) else { continue };
        let has = |wanted: &str| controllers.split(',').any(|controller| controller == wanted);
        for folder in ancestors(path) {
            let read = |root: &str, file: &str| (system.read)(&format!("/sys/fs/cgroup{root}{folder}/{file}"));
            let source = |file: &str| format!("control group, `{file}`");
            if controllers.is_empty() {
                cpu.extend(read("", "cpu.max").and_then(|text| quota(&text)).map(|amount| Limit::new(amount, source("cpu.max"))));
                let bytes = read("", "memory.max").and_then(|text| text.trim().parse::<u64>().ok());
                memory_mib.extend(bytes.map(|bytes| Limit::new(bytes >> 20, source("memory.max"))));
            }
            if has("cpu") {
                for root in [format!("/{controllers}"), "/cpu".to_owned()] {
                    let texts = read(&root, "cpu.cfs_quota_us").zip(read(&root, "cpu.cfs_period_us"));
                    let amount =
                        texts.and_then(|(quota_us, period_us)| quota(&format!("{} {}", quota_us.trim(), period_us.trim())));
                    cpu.extend(amount.map(|amount| Limit::new(amount, source("cpu.cfs_quota_us"))));
                }
            }
            if has("memory") {
                let bytes = read("/memory", "memory.limit_in_bytes").and_then(|text| text.trim().parse::<u64>().ok());
                let mib = bytes.map(|bytes| bytes >> 20).filter(|mib| *mib < UNLIMITED_MIB);
                memory_mib.extend(mib.map(|mib| Limit::new(mib, source("memory.limit_in_bytes"))));
            }
        }
    }
    cpu.dedup();
    memory_mib.dedup();
}

/// Version 1 of control groups writes "no limit" as a number near 2^63 bytes.
const UNLIMITED_MIB: u64 = 1 << 40;

/// Returns a path and those above it, without a slash at the end: `/a/b`, `/a`, and the empty path of the root.
fn ancestors(path: &str) -> Vec<&str> {
    let path = path.trim_end_matches('/');
    let cuts = path.rmatch_indices('/').map(|(at, _)| &path[..at]);
    std::iter::once(path).chain(cuts).collect()
}

/// Reads time per period, such as `200000 100000`, as a number of cores, at least 1. `max` and -1 are no limit.
fn quota(text: &str) -> Option<usize> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period) = (quota.parse::<usize>().ok()?, period.trim().parse::<usize>().ok()?);
    Some((quota.checked_div(period)?).max(1))
}

/// NVIDIA devices, found without loading any library. Under `CUDA_VISIBLE_DEVICES` CUDA numbers the listed devices from 0, and
/// ignores all from the first one on that does not exist.
fn gpus(system: &System<'_>) -> Limit<Vec<u32>> {
    let devices = (0..64).take_while(|index| (system.exists)(&format!("/dev/nvidia{index}"))).count() as u32;
    let all = || Limit::new((0..devices).collect(), "devices of this machine");
    let Some(list) = (system.variable)("CUDA_VISIBLE_DEVICES") else { return all() };
    let mut seen: Vec<&str> = vec![];
    for name in list.split(',').map(str::trim) {
        let exists =
            name.parse::<u32>().map_or_else(|_| name.starts_with("GPU-") || name.starts_with("MIG-"), |index| index < devices);
        if !exists || seen.contains(&name) {
            break;
        }
        seen.push(name);
    }
    Limit::new((0..seen.len().min(64) as u32).collect(), format!("CUDA_VISIBLE_DEVICES={list}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Returns the limits given by files, by variables (names without a slash), on a machine with as many GPUs.
    fn given(texts: &[(&str, &str)], gpus: u32) -> Given {
        let texts: BTreeMap<&str, &str> = texts.iter().copied().collect();
        let get = |name: &str| texts.get(name).map(|text| (*text).to_owned());
        let exists = |path: &str| path.strip_prefix("/dev/nvidia").and_then(|n| n.parse().ok()).is_some_and(|n: u32| n < gpus);
        Given::of(&System { read: &get, variable: &get, exists: &exists })
    }

    const ONLINE: (&str, &str) = ("/sys/devices/system/cpu/online", "0-63\n");

    #[track_caller]
    fn check_cpu(texts: &[(&str, &str)], expected: &str) {
        assert_eq!(given(&[&[ONLINE], texts].concat(), 0).cpu_limit().to_string(), expected);
    }

    #[test]
    fn the_smallest_limit_on_cores_counts() {
        check_cpu(&[], "64 (cores of this machine)");
        let affinity = ("/proc/self/status", "Name:\tsure\nCpus_allowed:\tff\nCpus_allowed_list:\t0-3,8,10-11\n");
        check_cpu(&[affinity], "7 (CPU affinity)");
        check_cpu(&[affinity, ("SLURM_CPUS_PER_TASK", "4")], "4 (SLURM_CPUS_PER_TASK)");
        check_cpu(&[affinity, ("SLURM_CPUS_PER_TASK", "16")], "7 (CPU affinity)");
        check_cpu(&[("SLURM_CPUS_PER_TASK", "many")], "64 (cores of this machine)");
        check_cpu(&[("/proc/self/status", "Cpus_allowed_list:\t0-63\n")], "64 (cores of this machine)");
    }

    #[test]
    fn limits_of_control_groups_count_at_every_level() {
        let two = ("/proc/self/cgroup", "0::/slurm/job_7/step_0\n");
        check_cpu(&[two, ("/sys/fs/cgroup/slurm/job_7/cpu.max", "350000 100000\n")], "3 (control group, `cpu.max`)");
        check_cpu(&[two, ("/sys/fs/cgroup/slurm/job_7/step_0/cpu.max", "max 100000\n")], "64 (cores of this machine)");
        check_cpu(
            &[("/proc/self/cgroup", "0::/\n"), ("/sys/fs/cgroup/cpu.max", "50000 100000\n")],
            "1 (control group, `cpu.max`)",
        );
        let one = ("/proc/self/cgroup", "9:memory:/docker/a\n4:cpu,cpuacct:/docker/a\n");
        let quota = |root: &'static str, quota: &'static str| [(root, quota)];
        let period = ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
        let path = "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us";
        check_cpu(&[&quota(path, "200000\n")[..], &[one, period]].concat(), "2 (control group, `cpu.cfs_quota_us`)");
        check_cpu(&[&quota(path, "-1\n")[..], &[one, period]].concat(), "64 (cores of this machine)");
    }

    #[track_caller]
    fn check_memory(texts: &[(&str, &str)], expected: Option<&str>) {
        assert_eq!(given(texts, 0).memory_mib.first().map(ToString::to_string).as_deref(), expected);
    }

    #[test]
    fn the_smallest_limit_on_memory_counts() {
        check_memory(&[], None);
        check_memory(&[("SLURM_MEM_PER_NODE", "4096")], Some("4096 (SLURM_MEM_PER_NODE)"));
        check_memory(&[("SLURM_MEM_PER_NODE", "0")], None); // all of the node
        let per_cpu = [("SLURM_MEM_PER_CPU", "1000"), ("SLURM_CPUS_ON_NODE", "8")];
        check_memory(&per_cpu, Some("8000 (SLURM_MEM_PER_CPU for 8 CPUs)"));
        let asked = [&per_cpu[..], &[("SLURM_CPUS_PER_TASK", "2")]].concat();
        check_memory(&asked, Some("2000 (SLURM_MEM_PER_CPU for 2 CPUs)"));
        let two = [
            ("/proc/self/cgroup", "0::/a/b\n"),
            ("/sys/fs/cgroup/a/memory.max", "2147483648\n"),
            ("/sys/fs/cgroup/a/b/memory.max", "max\n"),
        ];
        check_memory(&two, Some("2048 (control group, `memory.max`)"));
        let one = ("/proc/self/cgroup", "9:memory:/docker/a\n");
        let limit = |bytes: &'static str| ("/sys/fs/cgroup/memory/docker/a/memory.limit_in_bytes", bytes);
        check_memory(&[one, limit("1073741824\n")], Some("1024 (control group, `memory.limit_in_bytes`)"));
        check_memory(&[one, limit("9223372036854771712\n")], None);
    }

    #[track_caller]
    fn check_gpus(visible: Option<&str>, gpus: u32, expected: &[u32]) {
        let variable = visible.map(|visible| ("CUDA_VISIBLE_DEVICES", visible));
        assert_eq!(given(variable.as_slice(), gpus).gpus.amount, expected, "{visible:?}");
    }

    #[test]
    fn only_the_visible_gpus_are_offered() {
        check_gpus(None, 2, &[0, 1]);
        check_gpus(Some("3,1"), 8, &[0, 1]); // by the numbers that CUDA gives them
        check_gpus(Some(""), 8, &[]);
        check_gpus(Some("-1"), 8, &[]);
        check_gpus(Some("0,-1,2"), 8, &[0]);
        check_gpus(Some("0,9"), 8, &[0]);
        check_gpus(Some("GPU-8932f937-d72c,MIG-1"), 8, &[0, 1]);
        check_gpus(Some("0"), 0, &[]);
        check_gpus(Some("NoDevFiles"), 1, &[]);
    }
}
