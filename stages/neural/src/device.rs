//! Which device computes, and the one piece of unsafe code: opening libtorch's CUDA half.
#![expect(unsafe_code, reason = "opening a shared library runs its initialisers, which Rust cannot vouch for")]

use std::path::PathBuf;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use pipeline::Job;
use tch::{Cuda, Device};

/// State of the CUDA half of libtorch in this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CudaLibrary {
    /// It was opened.
    Opened(PathBuf),
    /// This libtorch has none.
    Absent,
    /// It is there and does not open; nearly always because the CUDA libraries it needs are not.
    Refused {
        /// The library.
        path: PathBuf,
        /// The loader's words.
        reason: String,
    },
}

/// Opens `libtorch_cuda.so` beside the `libtorch_cpu.so` in use, when there is one.
///
/// To be called first of all: libtorch keeps its first answer to "is there CUDA?" for the life of the process, and executables
/// are linked against the CPU half only, so that they start on machines without CUDA.
pub fn open_cuda_library() -> CudaLibrary {
    let Some(path) = cuda_library() else { return CudaLibrary::Absent };
    // SAFETY: the library belongs to the libtorch that this process already runs on, and its initialisers only register
    // kernels with it. It stays open until the process ends, so no pointer into it can dangle.
    match unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) } {
        Ok(library) => {
            std::mem::forget(library);
            CudaLibrary::Opened(path)
        }
        Err(error) => CudaLibrary::Refused { path, reason: error.to_string() },
    }
}

/// The file beside the real `libtorch_cpu.so`, which the kernel's list of mapped files names without links.
fn cuda_library() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let cpu =
        maps.lines().filter_map(|line| line.find('/').map(|at| &line[at..])).find(|path| path.ends_with("/libtorch_cpu.so"))?;
    let cuda = PathBuf::from(cpu).with_file_name("libtorch_cuda.so");
    cuda.is_file().then_some(cuda)
}

/// The device to compute on: the GPU of that index when one is asked for and can be used, else the CPU.
pub fn choose(gpu: Option<u32>) -> Device {
    match gpu {
        Some(index) if i64::from(index) < Cuda::device_count() => Device::Cuda(index as usize),
        _ => Device::Cpu,
    }
}

/// The device of a job; when that is not the GPU that it was given, the user is told why, and what would be faster.
pub fn of_job(job: &Job) -> Device {
    let device = choose(job.gpu);
    if let (Some(index), false) = (job.gpu, device.is_cuda()) {
        let why = match open_cuda_library() {
            CudaLibrary::Opened(_) => format!("CUDA sees {} devices", Cuda::device_count()),
            CudaLibrary::Absent => "this libtorch has no CUDA".to_owned(),
            CudaLibrary::Refused { path, reason } => format!("`{}` does not open: {reason}", path.display()),
        };
        job.progress.note(&format!(
            "device {index} of the gpu pool is not used, {why}: computing on the CPU, threads: {}. `gpus = []` under `[pools]` in \
             sure.toml gives it the whole cpu pool; `sure doctor` says more",
            job.threads
        ));
    }
    device
}

/// Bytes in use: on the GPU by everybody, libtorch's reserve counted, which is what must fit; on a CPU by this process.
pub fn memory_used(device: Device) -> Option<u64> {
    if device.is_cuda() {
        return gpu_memory_used();
    }
    process_memory("VmRSS:")
}

/// The most bytes that were ever in use: on a CPU by this process, whatever it did; on the GPU those in use now, which is the
/// same at the end of a training, because libtorch gives nothing of its reserve back.
pub fn peak_memory(device: Device) -> Option<u64> {
    if device.is_cuda() { gpu_memory_used() } else { process_memory("VmHWM:") }
}

/// A size that the kernel keeps of this process, in bytes.
fn process_memory(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// Asks the CUDA runtime that libtorch has loaded, about the device in use.
fn gpu_memory_used() -> Option<u64> {
    type MemGetInfo = unsafe extern "C" fn(*mut usize, *mut usize) -> i32;
    let (mut free, mut total) = (0_usize, 0_usize);
    // SAFETY: the library is already in this process, so opening it runs nothing; the function has had this signature since
    // CUDA 2.0 (CUDA Runtime API, "cudaMemGetInfo") and writes one size through each pointer.
    let status = unsafe {
        let library = Library::open(Some("libcudart.so.13"), RTLD_NOW).ok()?;
        let ask = library.get::<MemGetInfo>(b"cudaMemGetInfo\0").ok()?;
        ask(&raw mut free, &raw mut total)
    };
    (status == 0).then_some(total.saturating_sub(free) as u64)
}

/// Lets libtorch use `threads` threads for one operation.
pub fn use_threads(threads: usize) {
    tch::set_num_threads(threads.clamp(1, 1024) as i32);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use pipeline::{Inputs, JobProgress, Places, Spare, Stop, Tools};

    use super::*;

    #[test]
    fn memory_in_use_follows_what_is_allocated() {
        let before = memory_used(Device::Cpu).unwrap();
        let big = tch::Tensor::ones([64 << 20], (tch::Kind::Uint8, Device::Cpu));
        let after = memory_used(Device::Cpu).unwrap();
        assert!(after >= before + (60 << 20), "{before} {after} {big:?}");
        drop(big);
        let peak = peak_memory(Device::Cpu).unwrap();
        assert!(peak >= before + (60 << 20), "what was given back counts too: {before} {peak}");
    }

    #[derive(Debug, Default, Clone)]
    struct Recorder(Arc<Mutex<Vec<String>>>);

    impl JobProgress for Recorder {
        fn tick(&self, _: u64, _: u64, _: &str, _: &str) {}
        fn note(&self, line: &str) {
            self.0.lock().unwrap().push(line.to_owned());
        }
        fn fact(&self, _: &str, _: serde_json::Value) {}
    }

    #[test]
    fn a_gpu_that_is_not_there_is_told_of() {
        let told = Recorder::default();
        let job = |gpu| Job {
            inputs: Inputs::default(),
            sources: BTreeMap::new(),
            places: Places::default(),
            partition: None,
            out: PathBuf::new(),
            resume: PathBuf::new(),
            threads: 1,
            spare: Spare::default(),
            tools: Tools::default(),
            gpu,
            others: vec![],
            progress: Box::new(told.clone()),
            stop: Stop::default(),
        };
        assert_eq!(of_job(&job(None)), Device::Cpu);
        assert!(told.0.lock().unwrap().is_empty());
        assert_eq!(of_job(&job(Some(9_999))), Device::Cpu);
        let told = told.0.lock().unwrap().concat();
        assert!(told.starts_with("device 9999 of the gpu pool is not used, ") && told.contains("`gpus = []`"), "{told}");
    }

    #[test]
    fn without_a_gpu_the_cpu_computes() {
        // The library may be there or not; what counts is that asking does no harm and that the answer is a device that works.
        let opened = open_cuda_library();
        let device = choose(Some(9_999));
        assert_eq!(device, Device::Cpu, "{opened:?}");
        assert_eq!(tch::Tensor::ones([2], (tch::Kind::Int64, device)).sum(tch::Kind::Int64).int64_value(&[]), 2);
    }
}
