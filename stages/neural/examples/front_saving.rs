//! Time that computing an encoder's frozen convolutions once saves, and its cost on disk.
//!
//! ```sh
//! cargo run --release -p neural --example front_saving -- [base|large] [secs] [clips] [threads]
//! ```
//! Times steps of LoRA on queries and values from audio and from stored features, in turns; and writes both formats of features.
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::time::Instant;

use audio::features::Format;
use neural::checkpoint::EncoderConfig;
use neural::device::use_threads;
use neural::front::Front;
use neural::models::encoder::random;
use neural::models::heads::classification::loss;
use neural::models::{Batch, Model};
use neural::nn::pass::Mode;
use neural_spec::{HeadSpec, LinearLayer, Lora, Method};
use tch::{Device, Kind, Tensor};

const RATE: f64 = 16_000.0;
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: f64| arguments.get(at).map_or(Ok(default), |text| text.parse());
    let large = arguments.first().is_some_and(|shape| shape == "large");
    let (secs, clips, threads) = (number(1, 5.0)?, number(2, if large { 2.0 } else { 4.0 })? as i64, number(3, 2.0)? as usize);
    use_threads(threads);
    let folder = tempfile::tempdir()?;
    let config = if large { EncoderConfig::large() } else { EncoderConfig::default() };
    random::write_quickly(&EncoderConfig { layerdrop: 0.0, ..config }, 1, folder.path())?;
    let head = HeadSpec::Classification { projector_size: 256, layer_sum: false };
    let method = Method::Lora(Lora { targets: vec![LinearLayer::QProj, LinearLayer::VProj], ..Lora::default() });
    let model = Model::new(folder.path(), &method, &head, 5, 1, Device::Cpu)?;
    let front = Front::read(folder.path(), Device::Cpu)?;

    let samples = (secs * RATE) as i64;
    let audio = Tensor::randn([clips, samples], (Kind::Float, Device::Cpu));
    let mut rows = Vec::new();
    for clip in 0..clips {
        rows.push(front.features(&Vec::<f32>::try_from(audio.get(clip))?)?);
    }
    let features = Tensor::from_slice(&rows.concat()).view([clips, -1, front.width() as i64]);
    for (name, format) in [("f32", Format::F32), ("bf16", Format::Bf16)] {
        let bytes: usize = rows.iter().map(|row| format.encode(row).len()).sum();
        println!("features in {name}: {:.1} kB per second of audio", bytes as f64 / 1e3 / (secs * clips as f64));
    }

    let step = |audio: &Tensor| -> Result<f64, Box<dyn Error>> {
        let batch = Batch { audio: audio.shallow_clone(), num_samples: vec![samples; clips as usize], labels: None };
        let start = Instant::now();
        let logits = model.forward(&batch, Mode::Train { seed: 1 })?;
        loss(&logits, &Tensor::zeros([clips], (Kind::Int64, Device::Cpu)))?.f_backward()?;
        Ok(start.elapsed().as_secs_f64())
    };
    let (mut from_audio, mut from_front) = (Vec::new(), Vec::new());
    step(&audio)?;
    step(&features)?;
    for _ in 0..ROUNDS {
        from_audio.push(step(&audio)?);
        from_front.push(step(&features)?);
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let (audio, front) = (median(&mut from_audio), median(&mut from_front));
    println!(
        "{} shape, {clips} clips of {secs} s, {threads} threads, LoRA on queries and values: a step takes {audio:.2} s from audio, {front:.2} s from the stored front: {:.0} % less",
        if large { "large" } else { "base" },
        100.0 * (1.0 - front / audio)
    );
    Ok(())
}
