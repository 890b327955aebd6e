//! A checkpoint of the full wav2vec2-large shape: how fast it loads, how much memory it takes, and that it runs.
//!
//! ```sh
//! RUN_SLOW_TESTS=1 cargo test -p neural --test large -- --nocapture      # 3 GB of memory, 1.3 GB of disk
//! ```
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test stops at the first surprise and says aloud what it measured"
)]
#![expect(clippy::disallowed_methods, reason = "whether slow tests run is said by the environment")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use neural::checkpoint::{EncoderConfig, weights};
use neural::models::encoder::random;
use neural::models::{Batch, Model};
use neural::nn::pass::Mode;
use neural_spec::{HeadSpec, LinearLayer, Lora, Method};
use tch::{Device, Kind, Tensor};

/// Names the checkpoint to a process of its own, whose memory holds nothing else.
const FOLDER: &str = "SURE_LARGE_CHECKPOINT";
const SECS: f64 = 3.0;
const OVERHEAD: f64 = 1.3;

#[test]
fn a_large_checkpoint_loads_fast_in_little_memory_and_runs() {
    if std::env::var("RUN_SLOW_TESTS").is_err() {
        return eprintln!("SKIPPED: makes a checkpoint of 1.3 GB; set RUN_SLOW_TESTS=1");
    }
    let folder = tempfile::tempdir().unwrap();
    random::write_quickly(&EncoderConfig::large(), 1, folder.path()).unwrap();
    let test = std::env::current_exe().unwrap();
    let child = Command::new(test)
        .args(["--exact", "loading_in_a_process_of_its_own", "--nocapture"])
        .env(FOLDER, folder.path())
        .status()
        .unwrap();
    assert!(child.success());
}

#[test]
fn loading_in_a_process_of_its_own() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let folder = PathBuf::from(folder);
    let size = fs::metadata(folder.join("model.safetensors")).unwrap().len() as f64;
    fs::read(folder.join("config.json")).unwrap();
    std::io::copy(&mut fs::File::open(folder.join("model.safetensors")).unwrap(), &mut std::io::sink()).unwrap(); // into the page cache

    let config = EncoderConfig::read(&folder).unwrap();
    let (start, busy) = (Instant::now(), busy_secs());
    let loaded = weights::read(&folder, &config, Device::Cpu).unwrap();
    let (secs, busy, peak) = (start.elapsed().as_secs_f64(), busy_secs() - busy, peak_memory());
    let parameters: usize = loaded.values().map(Tensor::numel).sum();
    eprintln!(
        "{parameters} parameters, {:.0} MB: loaded and checked in {secs:.2} s ({busy:.2} s of them busy), peak of the process {:.2} times that",
        size / 1e6,
        peak / size
    );
    assert_eq!(parameters, 315_438_720);
    // What the machine does beside it must not decide.
    assert!(busy < SECS, "{busy} s");
    assert!(peak < OVERHEAD * size, "{peak} bytes for {size}");
    drop(loaded);
    step(&folder);
}

/// A forward pass and a step of LoRA on four seconds of noise.
fn step(folder: &Path) {
    let method = Method::Lora(Lora { targets: vec![LinearLayer::QProj, LinearLayer::VProj], ..Lora::default() });
    let head = HeadSpec::Classification { projector_size: 256, layer_sum: false };
    let model = Model::new(folder, &method, &head, 5, 1, Device::Cpu).unwrap();
    assert_eq!(model.num_parameters().adapters, 786_432);
    let audio = Tensor::randn([2, 32_000], (Kind::Float, Device::Cpu));
    let batch = Batch { audio, num_samples: vec![32_000, 20_000], labels: None };
    let start = Instant::now();
    let before = model.forward(&batch, Mode::Eval).unwrap();
    let forward = start.elapsed();
    assert!(before.isfinite().all().int64_value(&[]) == 1);
    let start = Instant::now();
    let logits = model.forward(&batch, Mode::Train { seed: 1 }).unwrap();
    neural::models::heads::classification::loss(&logits, &Tensor::from_slice(&[0_i64, 3])).unwrap().backward();
    tch::no_grad(|| {
        for (_, mut tensor) in model.trainable() {
            let gradient = tensor.grad();
            if gradient.defined() {
                let _ = tensor.f_sub_(&(gradient.sign() * 1e-3)).unwrap();
            }
        }
    });
    eprintln!("4 s of audio: forward {:.1} s, LoRA step {:.1} s", forward.as_secs_f64(), start.elapsed().as_secs_f64());
    assert_ne!(model.forward(&batch, Mode::Eval).unwrap(), before);
}

/// Processor time of this process so far, all threads together, in seconds.
fn busy_secs() -> f64 {
    const TICKS_PER_SEC: f64 = 100.0; // USER_HZ, the same on every Linux
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / TICKS_PER_SEC
}

/// The most memory this process has had, in bytes.
fn peak_memory() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
}
