//! Loads a checkpoint with a head for classes and computes one clip of noise: what an answer costs at least. `tests/bench/predict.py`
//! compares `sure predict` with it.
//!
//! ```text
//! cargo run --release -p neural --example one_pass -- FOLDER --seconds 5 --threads 2
//! ```
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

use neural::device::{choose, open_cuda_library, use_threads};
use neural::models::{Batch, Model};
use neural::nn::pass::Mode;
use neural_spec::{Finetune, HeadSpec, Method, Scope};
use serde_json::json;
use tch::{Kind, Tensor};

const RATE: f64 = 16_000.0;
/// Classes of the checkpoints that `step_time --write` writes.
const CLASSES: usize = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let begun = Instant::now();
    open_cuda_library();
    tch::set_num_interop_threads(1);
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (folder, options) = words.split_first().ok_or("expected a folder")?;
    let options: BTreeMap<&str, &str> = options.chunks_exact(2).map(|pair| (&*pair[0], &*pair[1])).collect();
    let get = |name: &str, default| options.get(name).copied().unwrap_or(default);
    use_threads(get("--threads", "2").parse()?);
    let device = choose(get("--device", "").parse().ok());
    let method = Method::Finetune(Finetune { scope: Scope::All, layers: None });
    let head = HeadSpec::Classification { projector_size: 256, layer_sum: false };
    let model = Model::new(Path::new(folder), &method, &head, CLASSES, 1, device)?;
    let load_secs = begun.elapsed().as_secs_f64();
    let samples = (get("--seconds", "5").parse::<f64>()? * RATE) as i64;
    let audio = Tensor::randn([1, samples], (Kind::Float, device));
    let output = model.forward(&Batch { audio, num_samples: vec![samples], labels: None }, Mode::Eval)?;
    let class = output.argmax(-1, false).int64_value(&[0]); // waits for a GPU
    let forward_secs = begun.elapsed().as_secs_f64() - load_secs;
    println!("{}", json!({ "load_secs": load_secs, "forward_secs": forward_secs, "class": class }));
    Ok(())
}
