//! Adapters go to the Python library peft and come back: same logits there, same logits here.
//!
//! Runs where Python has torch, transformers and peft: `SURE_PEFT_PYTHON` names the interpreter, `tests/compat/peft.sh` makes one.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod python;

use std::fs;
use std::path::Path;
use std::process::Command;

use neural::checkpoint::safetensors;
use neural::models::encoder::random;
use neural::models::{Batch, Model};
use neural::nn::pass::Mode;
use neural_spec::{ConvNorm, EncoderShape, HeadSpec, Method, RandomEncoder};
use python::{python, root};
use serde_json::json;
use tch::{Device, Kind, Tensor};

fn methods() -> Vec<(&'static str, Method, bool)> {
    [
        ("lora", json!({"name": "lora", "rank": 4, "alpha": 8.0}), false),
        (
            "lora_layer_sum",
            json!({"name": "lora", "rank": 2, "alpha": 3.5, "targets": ["q_proj", "v_proj"], "layers": {"last": 2}}),
            true,
        ),
        (
            "rslora_pattern",
            json!({"name": "lora", "rank": 4, "alpha": 2.0, "rslora": true, "rank_pattern": {"output_dense": 2,
            "layers.1.attention.k_proj": 6}, "alpha_pattern": {"attention.q_proj": 7.0}}),
            false,
        ),
        ("dora", json!({"name": "lora", "rank": 3, "alpha": 6.0, "dora": true, "dropout": 0.1}), false),
        ("ia3", json!({"name": "ia3"}), false),
        (
            "ia3_one_layer",
            json!({"name": "ia3", "targets": ["q_proj", "intermediate_dense"], "feedforward": ["intermediate_dense"],
            "layers": [1]}),
            false,
        ),
    ]
    .map(|(name, method, layer_sum)| (name, serde_json::from_value(method).unwrap(), layer_sum))
    .into()
}

#[test]
fn adapters_go_to_peft_and_come_back() {
    let Some(python) = python() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let encoder = scratch.path().join("encoder");
    fs::create_dir(&encoder).unwrap();
    random::write(&RandomEncoder { shape: shape(), seed: 1 }, &encoder).unwrap();
    let batch = batch();
    let samples = Tensor::arange(700, (Kind::Int64, Device::Cpu));
    let mask = samples.unsqueeze(0).less_tensor(&Tensor::from_slice(&batch.num_samples).unsqueeze(1)).to_kind(Kind::Int64);
    write(&scratch.path().join("input.safetensors"), &[("audio", &batch.audio), ("mask", &mask)]);

    let model = |method: &Method, layer_sum: bool| {
        let head: HeadSpec =
            serde_json::from_value(json!({"name": "classification", "projector_size": 12, "layer_sum": layer_sum})).unwrap();
        Model::new(&encoder, method, &head, 5, 7, Device::Cpu).unwrap()
    };
    let mut made = Vec::new();
    for (name, method, layer_sum) in methods() {
        let model = model(&method, layer_sum);
        tch::manual_seed(2);
        for (_, mut tensor) in model.trainable() {
            let _ = tch::no_grad(|| tensor.f_add_(&(tensor.randn_like() * 0.1)).unwrap());
        }
        let folder = scratch.path().join(name);
        fs::create_dir(&folder).unwrap();
        let labels = ["a", "b", "c", "d", "e"].map(str::to_owned);
        model.save(&folder, &labels).unwrap();
        let logits = model.forward(&batch, Mode::Eval).unwrap();
        write(&folder.join("logits.safetensors"), &[("logits", &logits)]);
        made.push((name, method, layer_sum, logits));
    }

    let script = root().join("tests/compat/peft.py");
    let output = Command::new(&python).arg(&script).arg(scratch.path()).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    eprintln!("{said}");

    for (name, method, layer_sum, logits) in made {
        let again = scratch.path().join(name).join("again");
        let read = neural::peft::files::read_method(&again, &architecture()).unwrap();
        assert_eq!(read.added(&architecture()).unwrap(), method.added(&architecture()).unwrap(), "{name}");
        if layer_sum {
            continue; // peft keeps modules, and the weights of the mix are a lone tensor.
        }
        let mut back = model(&read, layer_sum);
        back.load_adapter(&again).unwrap();
        assert_eq!(back.forward(&batch, Mode::Eval).unwrap(), logits, "{name}");
    }
}

fn write(path: &Path, tensors: &[(&str, &Tensor)]) {
    let named = tensors.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.shallow_clone())).collect();
    safetensors::write(path, &named).unwrap();
}

fn batch() -> Batch {
    tch::manual_seed(1);
    let audio = Tensor::randn([3, 700], (Kind::Float, Device::Cpu));
    let num_samples = vec![700, 512, 90];
    for (row, &length) in num_samples.iter().enumerate() {
        let _ = audio.get(row as i64).narrow(0, length, 700 - length).zero_();
    }
    Batch { audio, num_samples, labels: None }
}

fn architecture() -> neural_spec::Architecture {
    shape().architecture()
}

fn shape() -> EncoderShape {
    EncoderShape {
        hidden_size: 32,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        intermediate_size: 48,
        conv_dim: vec![16, 16],
        conv_kernel: vec![10, 3],
        conv_stride: vec![5, 2],
        num_conv_pos_embeddings: 8,
        num_conv_pos_embedding_groups: 4,
        feat_extract_norm: ConvNorm::Layer,
        ..EncoderShape::wav2vec2_large()
    }
}
