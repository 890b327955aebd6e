//! Times training steps: forward, backward, clipping, update. One JSON line per method, in the words of the Python script that
//! does the same with transformers and peft (see `tests/bench/neural.py`).
//!
//! ```text
//! cargo run --release -p neural --example step_time -- --size large --batch 32 --seconds 10 --precision bf16 --device 0
//! cargo run --release -p neural --example step_time -- --size base --batch 4 --seconds 5 --threads 2 --methods lora6,finetune
//! ```
//!
//! `--front cached` gives it what the frozen convolutions would have made of the audio, as `--set front=cached` does.
//! `--write FOLDER` writes a model and a batch, and prints the loss, for comparison with another program.
//!
//! The encoder has random weights of a published shape: speed does not depend on them. `share_of_peak` compares the operations
//! that a step needs, counted from the shapes, with `--peak-tflops` (790: dense bf16 products measured on an H200).
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

use neural::device::{choose, memory_used, open_cuda_library, use_threads};
use neural::models::encoder::random;
use neural::models::heads::classification::loss;
use neural::models::{Batch, Model};
use neural::nn::pass::Mode;
use neural::train::optimizer::{Constants, Parameters, clip};
use neural_spec::{ConvNorm, EncoderShape, HeadSpec, Method, Optimizer, RandomEncoder};
use serde_json::{Value, json};
use tch::{Cuda, Device, Kind, Tensor};

const RATE: i64 = 16_000;
const CLASSES: i64 = 8;

/// Names of the Python script first; any method of a workflow file goes too, with its defaults.
const METHODS: &str = "forward,lora6,lora_qv,finetune";

fn main() -> Result<(), Box<dyn Error>> {
    open_cuda_library();
    let options = options()?;
    let get = |name: &str, default: &str| options.get(name).cloned().unwrap_or_else(|| default.to_owned());
    use_threads(get("threads", "2").parse()?);
    let device = choose(get("device", "").parse().ok());
    let shape = shape(&get("size", "base"))?;
    let folder = tempfile::tempdir()?;
    random::write(&RandomEncoder { shape: shape.clone(), seed: 1 }, folder.path())?;
    let bench = Benchmark {
        encoder: folder.path(),
        shape: &shape,
        device,
        kind: if get("precision", "fp32") == "bf16" { Kind::BFloat16 } else { Kind::Float },
        batch: get("batch", "4").parse()?,
        seconds: get("seconds", "5").parse()?,
        steps: get("steps", "12").parse()?,
        padded: get("padded", "no") == "yes",
        cached: get("front", "audio") == "cached",
        peak: get("peak-tflops", "790").parse()?,
    };
    if let Some(folder) = options.get("write") {
        println!("{}", bench.write(Path::new(folder))?);
        return Ok(());
    }
    for name in get("methods", METHODS).split(',') {
        match bench.time(name) {
            Ok(line) => println!("{line}"),
            Err(error) => println!("{}", json!({"method": name, "error": error.to_string().lines().next()})),
        }
    }
    Ok(())
}

/// `--name value` pairs.
fn options() -> Result<BTreeMap<String, String>, String> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let pair = |pair: &[String]| match pair {
        [name, value] => name.strip_prefix("--").map(|name| (name.to_owned(), value.clone())),
        _ => None,
    };
    words.chunks(2).map(|words| pair(words).ok_or_else(|| format!("expected --NAME VALUE, found {words:?}"))).collect()
}

struct Benchmark<'a> {
    encoder: &'a Path,
    shape: &'a EncoderShape,
    device: Device,
    kind: Kind,
    batch: i64,
    seconds: f64,
    steps: u32,
    padded: bool,
    cached: bool,
    peak: f64,
}

impl Benchmark<'_> {
    fn time(&self, name: &str) -> Result<Value, Box<dyn Error>> {
        let trains = name != "forward";
        let method = method(if trains { name } else { "finetune" })?;
        let head = HeadSpec::Classification { projector_size: 256, layer_sum: false };
        let mut model = Model::new(self.encoder, &method, &head, CLASSES as usize, 1, self.device)?;
        let counts = model.num_parameters();
        model.compute_in(self.kind)?;
        model.use_attention_mask(self.padded);
        let mut parameters = Parameters::new(model.trainable(), self.kind, |_| true)?;
        let constants = Constants { rule: Optimizer::Adamw {}, betas: [0.9, 0.999], epsilon: 1e-8, weight_decay: 0.01 };
        let batch = self.batch();
        let labels = Tensor::arange(self.batch, (Kind::Int64, self.device)).remainder(CLASSES);
        let mut step = |index: u64| -> Result<(), Box<dyn Error>> {
            if !trains {
                let _ = model.forward(&batch, Mode::Eval)?;
                return Ok(());
            }
            let logits = model.forward(&batch, Mode::Train { seed: index })?;
            loss(&logits.to_kind(Kind::Float), &labels)?.f_backward()?;
            parameters.collect_gradient()?;
            let _ = clip(parameters.gradient(), 1.0)?;
            Ok(parameters.update(&constants, 1e-4, index)?)
        };
        for index in 1..=3 {
            step(index)?;
        }
        self.wait();
        let start = Instant::now();
        for index in 0..self.steps {
            step(u64::from(index) + 4)?;
        }
        self.wait();
        let secs = start.elapsed().as_secs_f64() / f64::from(self.steps);
        let audio: f64 = batch.num_samples.iter().sum::<i64>() as f64 / RATE as f64;
        let round = |value: f64, digits: i32| (value * 10_f64.powi(digits)).round() / 10_f64.powi(digits);
        let operations = gflop_per_sec(self.shape, self.seconds, name) * audio;
        Ok(json!({
            "method": name,
            "trainable": counts.trainable,
            "step_ms": round(secs * 1e3, 2),
            "audio_s_per_s": round(audio / secs, 1),
            "audio_hours_per_s": round(audio / secs / 3600.0, 3),
            // libtorch keeps what it has freed, so what is in use now is the most that was.
            "peak_GiB": memory_used(self.device).map(|bytes| round(bytes as f64 / f64::from(1 << 30), 2)),
            "share_of_peak": round(operations / secs / (self.peak * 1e3), 4),
            "batch": self.batch,
            "seconds": self.seconds,
            "precision": if self.kind == Kind::Float { "fp32" } else { "bf16" },
            "device": format!("{:?}", self.device),
        }))
    }

    /// Writes a model, a batch and its loss, for another program to compute too.
    fn write(&self, folder: &Path) -> Result<Value, Box<dyn Error>> {
        let head = HeadSpec::Classification { projector_size: 256, layer_sum: false };
        let mut model = Model::new(self.encoder, &method("finetune")?, &head, CLASSES as usize, 1, self.device)?;
        model.use_attention_mask(false);
        let labels: Vec<String> = (0..CLASSES).map(|class| class.to_string()).collect();
        model.save(folder, &labels)?;
        let batch = self.batch();
        let classes = Tensor::arange(self.batch, (Kind::Int64, self.device)).remainder(CLASSES);
        let loss = loss(&model.forward(&batch, Mode::Eval)?, &classes)?.double_value(&[]);
        Tensor::write_safetensors(&[("audio", &batch.audio), ("labels", &classes)], folder.join("batch.safetensors"))?;
        Ok(json!({"loss": loss}))
    }

    fn batch(&self) -> Batch {
        let samples = (self.seconds * RATE as f64) as i64;
        let (batch, place) = (self.batch, (Kind::Float, self.device));
        let audio = if self.cached {
            let strides = self.shape.conv_kernel.iter().zip(&self.shape.conv_stride);
            let frames = strides.fold(samples, |frames, (&taps, &stride)| (frames - i64::from(taps)) / i64::from(stride) + 1);
            Tensor::randn([batch, frames, i64::from(self.shape.conv_dim[self.shape.conv_dim.len() - 1])], place)
        } else {
            Tensor::randn([batch, samples], place)
        };
        // Ragged: from half the length to all of it.
        let length = |row: i64| samples / 2 + samples * row / (2 * (self.batch - 1).max(1));
        let num_samples: Vec<i64> = (0..self.batch).map(|row| if self.padded { length(row) } else { samples }).collect();
        Batch { audio, num_samples, labels: None }
    }

    fn wait(&self) {
        if let Device::Cuda(index) = self.device {
            Cuda::synchronize(index as i64);
        }
    }
}

/// A method by name.
fn method(name: &str) -> Result<Method, Box<dyn Error>> {
    const SIX: [&str; 6] = ["q_proj", "k_proj", "v_proj", "out_proj", "intermediate_dense", "output_dense"];
    let lora =
        |targets: &[&str]| json!({"name": "lora", "rank": 8, "alpha": 16, "dropout": 0, "targets": targets, "rslora": false});
    let value = match name {
        "lora6" => lora(&SIX),
        "lora_qv" => lora(&["q_proj", "v_proj"]),
        // As in the Python script, with the convolutions over the waveform frozen.
        "finetune" => json!({"name": "finetune", "scope": "all_but_conv"}),
        "finetune_all" => json!({"name": "finetune", "scope": "all"}),
        other => json!({"name": other}),
    };
    Ok(serde_json::from_value(value)?)
}

/// 10^9 multiplications and additions per second of audio, each counted as one, from the shapes.
fn gflop_per_sec(shape: &EncoderShape, seconds: f64, method: &str) -> f64 {
    let (mut rate, mut channels, mut conv) = (RATE as f64, 1.0, 0.0);
    for ((&width, &kernel), &stride) in shape.conv_dim.iter().zip(&shape.conv_kernel).zip(&shape.conv_stride) {
        rate /= f64::from(stride);
        conv += 2.0 * rate * channels * f64::from(width) * f64::from(kernel);
        channels = f64::from(width);
    }
    let hidden = f64::from(shape.hidden_size);
    let taps = f64::from(shape.num_conv_pos_embeddings) / f64::from(shape.num_conv_pos_embedding_groups);
    let front = 2.0 * rate * (channels * hidden + hidden * hidden * taps);
    let layers = f64::from(shape.num_hidden_layers);
    let linear = 2.0 * rate * layers * (4.0 * hidden * hidden + 2.0 * hidden * f64::from(shape.intermediate_size));
    let attention = 4.0 * rate * layers * hidden * rate * seconds;
    let total = match method {
        "forward" | "head_only" => conv + front + linear + attention,
        "finetune" => conv + 3.0 * (front + linear + attention),
        "finetune_all" => 3.0 * (conv + front + linear + attention),
        // Adapters: gradients of the inputs, not of the frozen weights; the adapters' own share is left out.
        _ => conv + front + 2.0 * linear + 3.0 * attention,
    };
    total / 1e9
}

/// The published shapes.
fn shape(size: &str) -> Result<EncoderShape, String> {
    let (hidden, layers, heads, inner, large) = match size {
        "base" => (768, 12, 12, 3072, false),
        "large" => (1024, 24, 16, 4096, true),
        "tiny" => (48, 2, 4, 96, false),
        other => return Err(format!("no size `{other}`: tiny, base or large")),
    };
    let tiny = size == "tiny";
    Ok(EncoderShape {
        hidden_size: hidden,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        intermediate_size: inner,
        conv_dim: vec![if tiny { 32 } else { 512 }; 7],
        conv_kernel: vec![10, 3, 3, 3, 3, 2, 2],
        conv_stride: vec![5, 2, 2, 2, 2, 2, 2],
        conv_bias: large,
        feat_extract_norm: if large { ConvNorm::Layer } else { ConvNorm::Group },
        do_stable_layer_norm: large,
        num_conv_pos_embeddings: if tiny { 16 } else { 128 },
        num_conv_pos_embedding_groups: if tiny { 4 } else { 16 },
        hidden_dropout: 0.1,
        attention_dropout: 0.1,
        activation_dropout: 0.1,
        feat_proj_dropout: 0.0,
        layerdrop: 0.0,
        mask_time_prob: 0.0,
        mask_time_length: 10,
        mask_time_min_masks: 2,
        mask_feature_prob: 0.0,
        mask_feature_length: 10,
    })
}
