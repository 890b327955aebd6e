//! Times training steps of a small encoder on this machine: `cargo run --release -p neural --example step_time [threads] [norm]`.
//!
//! The batch is 32 clips of 0.5 s, the encoder has about a million parameters; `norm` is `group` or `layer`.
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::time::Instant;

use neural::device::use_threads;
use neural::encoder::random;
use neural::heads::classification::loss;
use neural::model::{Batch, Mode, Model};
use neural_spec::{ConvNorm, EncoderShape, Finetune, HeadSpec, LinearLayer, Lora, Method, RandomEncoder, Scope};
use tch::{Device, Kind, Tensor};

const CLIPS: i64 = 32;
const SAMPLES: i64 = 8_000;
const STEPS: u32 = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let threads = arguments.next().map_or(Ok(2), |text| text.parse())?;
    let norm = if arguments.next().as_deref() == Some("layer") { ConvNorm::Layer } else { ConvNorm::Group };
    use_threads(threads);
    let folder = tempfile::tempdir()?;
    random::write(&RandomEncoder { shape: shape(norm), seed: 1 }, folder.path())?;
    println!("{CLIPS} clips of {SAMPLES} samples, {threads} threads, {norm:?} norm");
    let targets = vec![LinearLayer::QProj, LinearLayer::VProj];
    for (name, method) in [
        ("finetune", Method::Finetune(Finetune::default())),
        ("finetune, convolutions frozen", Method::Finetune(Finetune { scope: Scope::AllButConv, layers: None })),
        ("lora on q and v", Method::Lora(Lora { alpha: 8.0, targets, ..Lora::default() })),
    ] {
        let head = HeadSpec::Classification { projector_size: 256, layer_sum: false };
        let model = Model::new(folder.path(), &method, &head, 10, 1, Device::Cpu)?;
        let counts = model.num_parameters();
        println!("{name}: {} parameters, {} trained", counts.total, counts.trainable);
        time("  evaluation", || {
            let _ = model.forward(&batch(), Mode::Eval)?;
            Ok(())
        })?;
        time("  training step", || {
            let batch = batch();
            let logits = model.forward(&batch, Mode::Train { seed: 1 })?;
            Ok(loss(&logits, batch.labels.as_ref().expect("the batch has labels"))?.f_backward()?)
        })?;
    }
    Ok(())
}

fn time(what: &str, mut body: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<(), Box<dyn Error>> {
    body()?;
    let start = Instant::now();
    for _ in 0..STEPS {
        body()?;
    }
    println!("{what}: {:.1} ms", start.elapsed().as_secs_f64() * 1e3 / f64::from(STEPS));
    Ok(())
}

fn batch() -> Batch {
    let audio = Tensor::randn([CLIPS, SAMPLES], (Kind::Float, Device::Cpu));
    let num_samples = (0..CLIPS).map(|row| SAMPLES - 40 * row).collect();
    Batch { audio, num_samples, labels: Some(Tensor::arange(CLIPS, (Kind::Int64, Device::Cpu)).remainder(10)) }
}

fn shape(norm: ConvNorm) -> EncoderShape {
    EncoderShape {
        hidden_size: 128,
        num_hidden_layers: 4,
        num_attention_heads: 4,
        intermediate_size: 512,
        conv_dim: vec![64; 7],
        conv_kernel: vec![10, 3, 3, 3, 3, 2, 2],
        conv_stride: vec![5, 2, 2, 2, 2, 2, 2],
        conv_bias: norm == ConvNorm::Layer,
        feat_extract_norm: norm,
        do_stable_layer_norm: norm == ConvNorm::Layer,
        num_conv_pos_embeddings: 32,
        num_conv_pos_embedding_groups: 8,
        hidden_dropout: 0.1,
        attention_dropout: 0.1,
        activation_dropout: 0.1,
        feat_proj_dropout: 0.0,
        layerdrop: 0.0,
        mask_time_prob: 0.05,
        mask_time_length: 10,
        mask_time_min_masks: 1,
        mask_feature_prob: 0.0,
        mask_feature_length: 10,
    }
}
