//! Promises of a model beyond its numbers: files that come back, weights that stay, errors that name the mistake.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod small;

use std::fs;
use std::io::Write;
use std::path::Path;

use neural::checkpoint::{EncoderConfig, safetensors, weights};
use neural::error::ModelError;
use neural::models::encoder::{Encoder, Input, Point, random};
use neural::models::{Batch, Model};
use neural::nn::pass::Mode;
use neural::nn::pass::Pass;
use neural::peft::Adapters;
use neural_spec::{ConvNorm, Finetune, HeadSpec, Layers, LinearLayer, Lora, Method, RandomEncoder, Scope};
use tch::{Device, Kind, Tensor};

use crate::small::{batch, shape, take_turn};

fn encoder(norm: ConvNorm, seed: u64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    random::write(&RandomEncoder { shape: shape(norm, 0.2), seed }, folder.path()).unwrap();
    folder
}

fn lora() -> Method {
    let targets = vec![LinearLayer::QProj, LinearLayer::VProj, LinearLayer::OutputDense];
    Method::Lora(Lora { rank: 4, alpha: 8.0, dropout: 0.1, targets, ..Lora::default() })
}

fn finetune() -> Method {
    Method::Finetune(Finetune::default())
}

fn model(encoder: &Path, method: &Method) -> Model {
    let head = HeadSpec::Classification { projector_size: 12, layer_sum: false };
    Model::new(encoder, method, &head, 5, 7, Device::Cpu).unwrap()
}

/// A step of sign descent, which moves every tensor that has a gradient, however small.
fn step(model: &Model, seed: u64) {
    let batch = batch();
    let logits = model.forward(&batch, Mode::Train { seed }).unwrap();
    neural::models::heads::classification::loss(&logits, batch.labels.as_ref().unwrap()).unwrap().backward();
    tch::no_grad(|| {
        for (_, mut tensor) in model.trainable() {
            let gradient = tensor.grad();
            if gradient.defined() {
                let _ = tensor.f_sub_(&(gradient.sign() * 0.01)).unwrap();
                tensor.zero_grad();
            }
        }
    });
}

fn logits(model: &Model) -> Tensor {
    model.forward(&batch(), Mode::Eval).unwrap()
}

fn labels() -> Vec<String> {
    ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec()
}

#[test]
fn random_encoders_depend_on_the_seed_alone() {
    let read = |seed| fs::read(encoder(ConvNorm::Layer, seed).path().join("model.safetensors")).unwrap();
    assert_eq!(read(1), read(1));
    assert_ne!(read(1), read(2));
}

#[test]
fn parameter_counts_follow_the_shapes() {
    let folder = encoder(ConvNorm::Group, 1);
    let counts = model(folder.path(), &lora()).num_parameters();
    // Rank 4 beside q, v (32 -> 32) and output_dense (48 -> 32) of 3 layers; projector 32 -> 12, classifier 12 -> 5.
    assert_eq!(counts.adapters, 3 * (2 * 4 * (32 + 32) + 4 * (48 + 32)));
    assert_eq!(counts.head, 12 * 33 + 5 * 13);
    assert_eq!(counts.trainable, counts.adapters + counts.head);
    assert_eq!(counts.total, counts.encoder + counts.adapters + counts.head);
    let whole = model(folder.path(), &finetune()).num_parameters();
    assert_eq!((whole.trainable, whole.encoder), (counts.encoder + counts.head, counts.encoder));
}

/// Xls-r sizes from the published formula, without making the tensors.
#[test]
fn published_sizes_have_the_published_counts() {
    let count = |config: &EncoderConfig| weights::parameters(config).iter().map(|p| p.shape.iter().product::<i64>()).sum::<i64>();
    assert_eq!(count(&EncoderConfig::default()), 94_371_712);
    let large = EncoderConfig::large();
    assert_eq!(count(&large), 315_438_720);
}

#[test]
fn training_changes_what_is_trained_and_nothing_else() {
    let _turn = take_turn();
    for (norm, method) in
        [(ConvNorm::Layer, lora()), (ConvNorm::Group, Method::Finetune(Finetune { scope: Scope::AllButConv, layers: None }))]
    {
        let folder = encoder(norm, 1);
        let model = model(folder.path(), &method);
        let before: Vec<_> = model.tensors().into_iter().map(|(name, tensor)| (name, tensor.detach().copy())).collect();
        for seed in 0..4 {
            step(&model, seed);
        }
        let trained: Vec<String> = model.trainable().into_iter().map(|(name, _)| name).collect();
        for ((name, before), (_, after)) in before.iter().zip(model.tensors()) {
            assert_eq!(trained.contains(name), *before != after.detach(), "{name}");
        }
    }
}

#[test]
fn a_training_pass_repeats_with_its_seed() {
    let _turn = take_turn();
    let folder = encoder(ConvNorm::Layer, 1);
    let model = model(folder.path(), &lora());
    let pass = |seed| model.forward(&batch(), Mode::Train { seed }).unwrap().detach();
    let first = pass(3);
    assert_ne!(first, pass(4));
    assert_eq!(first, pass(3));
    assert_ne!(first, logits(&model));
    assert!(!logits(&model).requires_grad());
}

#[test]
fn layers_computed_again_give_the_same_gradients() {
    let _turn = take_turn();
    let last = Method::Lora(Lora { layers: Some(Layers::Last { last: 1 }), dropout: 0.1, ..Lora::default() });
    for norm in [ConvNorm::Layer, ConvNorm::Group] {
        let folder = encoder(norm, 1);
        for (method, layer_sum) in [(finetune(), false), (finetune(), true), (lora(), true), (last.clone(), false)] {
            let head = HeadSpec::Classification { projector_size: 12, layer_sum };
            let gradients = |again: bool| -> Vec<(String, Option<Tensor>)> {
                let mut model = Model::new(folder.path(), &method, &head, 5, 7, Device::Cpu).unwrap();
                model.recompute_layers(again);
                for seed in 0..3 {
                    let batch = batch();
                    let logits = model.forward(&batch, Mode::Train { seed }).unwrap();
                    let loss = neural::models::heads::classification::loss(&logits, batch.labels.as_ref().unwrap()).unwrap();
                    model.backward(&loss).unwrap();
                }
                let gradient = |tensor: Tensor| Some(tensor.grad()).filter(Tensor::defined);
                model.trainable().into_iter().map(|(name, tensor)| (name, gradient(tensor))).collect()
            };
            let (kept, again) = (gradients(false), gradients(true));
            assert!(kept.iter().filter(|(_, gradient)| gradient.is_some()).count() > 4);
            for ((name, kept), (_, again)) in kept.iter().zip(&again) {
                match (kept, again) {
                    (Some(kept), Some(again)) => {
                        let error = (kept - again).abs().max().double_value(&[]);
                        assert!(error <= 1e-6 * (1.0 + kept.abs().max().double_value(&[])), "{name}: {error:e}");
                    }
                    (None, None) => {}
                    _ => panic!("{name} has a gradient in one of the two"),
                }
            }
        }
    }
}

#[test]
fn nothing_below_the_lowest_trained_layer_keeps_a_graph() {
    let _turn = take_turn();
    let folder = encoder(ConvNorm::Layer, 1);
    let config = EncoderConfig::read(folder.path()).unwrap();
    let mut weights = weights::read(folder.path(), &config, Device::Cpu).unwrap();
    for (name, tensor) in &mut weights {
        *tensor = tensor.set_requires_grad(name.starts_with("encoder.layers.1.feed_forward"));
    }
    let encoder = Encoder::new(&EncoderConfig { layerdrop: 0.0, ..config }, &weights, &Adapters::new()).unwrap();
    let batch = batch();
    let input = Input { audio: &batch.audio, num_samples: None, masked: None };
    let mut seen = Vec::new();
    let output =
        encoder.forward(input, &Pass::begin(Mode::Train { seed: 1 }), &mut |point, x| seen.push((point, x.requires_grad())));
    assert!(output.unwrap().last_hidden_state.requires_grad());
    for (point, tracked) in seen {
        let above = matches!(point, Point::LayerInput(2..) | Point::LastLayer);
        assert_eq!(tracked, above, "{point:?}");
    }
}

#[test]
fn frozen_parts_keep_no_graph() {
    let _turn = take_turn();
    let folder = encoder(ConvNorm::Layer, 1);
    let config = EncoderConfig::read(folder.path()).unwrap();
    let weights = weights::read(folder.path(), &config, Device::Cpu).unwrap();
    let encoder = Encoder::new(&config, &weights, &Adapters::new()).unwrap();
    let batch = batch();
    let input = Input { audio: &batch.audio, num_samples: None, masked: None };
    encoder
        .forward(input, &Pass::begin(Mode::Train { seed: 1 }), &mut |point, x| assert!(!x.requires_grad(), "{point:?}"))
        .unwrap();
}

#[test]
fn padding_changes_nothing_in_the_layer_style() {
    let _turn = take_turn();
    let folder = encoder(ConvNorm::Layer, 1);
    let model = model(folder.path(), &finetune());
    let together = logits(&model);
    let batch = batch();
    for (row, &length) in batch.num_samples.iter().enumerate() {
        let audio = batch.audio.narrow(0, row as i64, 1).narrow(1, 0, length);
        let alone = model.forward(&Batch { audio, num_samples: vec![length], labels: None }, Mode::Eval).unwrap();
        let error = (alone - together.narrow(0, row as i64, 1)).abs().max().double_value(&[]);
        assert!(error < 1e-6, "row {row} differs by {error:e}");
    }
}

#[test]
fn training_sees_few_shapes_where_padding_changes_nothing() {
    let _turn = take_turn();
    let masked = |masked| Method::ConvAdapter(neural_spec::ConvAdapter { masked, ..Default::default() });
    for (method, norm, told, pads) in [
        (lora(), ConvNorm::Layer, true, true),
        (masked(true), ConvNorm::Layer, true, true),
        (masked(false), ConvNorm::Layer, true, false),
        (lora(), ConvNorm::Layer, false, false),
        (lora(), ConvNorm::Group, true, false),
    ] {
        let folder = encoder(norm, 1);
        let mut model = model(folder.path(), &method);
        model.use_attention_mask(told);
        for (samples, whole) in [(201, 800), (799, 800), (800, 800), (801, 1_600)] {
            let audio = Tensor::randn([2, samples], (Kind::Float, Device::Cpu));
            let _ = audio.get(1).narrow(0, 150, samples - 150).zero_();
            let batch = Batch { audio, num_samples: vec![samples, 150], labels: None };
            let padded = model.pad_to_parts(&batch).unwrap();
            assert_eq!(padded.audio.size()[1], if pads { whole } else { samples }, "{method:?} {norm:?} {told}");
            let error = (model.forward(&batch, Mode::Eval).unwrap() - model.forward(&padded, Mode::Eval).unwrap()).abs().max();
            assert!(error.double_value(&[]) < 1e-6, "{method:?}: {error:?}");
        }
    }
}

#[test]
fn what_was_trained_comes_back_from_its_files() {
    let _turn = take_turn();
    for method in [finetune(), lora()] {
        let folder = encoder(ConvNorm::Layer, 1);
        let trained = model(folder.path(), &method);
        step(&trained, 1);
        let saved = tempfile::tempdir().unwrap();
        trained.save(saved.path(), &labels()).unwrap();
        let mut fresh = model(folder.path(), &method);
        assert_ne!(logits(&fresh), logits(&trained));
        fresh.load_trained(saved.path()).unwrap();
        assert_eq!(logits(&fresh), logits(&trained), "{}", method.name());

        let kept: Vec<_> = trained.trainable().into_iter().map(|(name, tensor)| (name, tensor.detach().copy())).collect();
        let before = logits(&trained);
        step(&trained, 2);
        assert_ne!(logits(&trained), before);
        trained.set_trainable(&kept).unwrap();
        assert_eq!(logits(&trained), before);
    }
}

#[test]
fn a_finetuned_checkpoint_serves_as_an_encoder() {
    let _turn = take_turn();
    let folder = encoder(ConvNorm::Group, 1);
    let trained = model(folder.path(), &finetune());
    step(&trained, 1);
    let saved = tempfile::tempdir().unwrap();
    trained.save(saved.path(), &labels()).unwrap();
    let next = model(&saved.path().join("checkpoint"), &lora());
    let (name, expected) = ("wav2vec2.encoder.layers.1.attention.q_proj.weight", trained.tensors());
    assert_eq!(next.tensors()[name], expected[name].detach());
    let config: serde_json::Value =
        serde_json::from_slice(&fs::read(saved.path().join("checkpoint/config.json")).unwrap()).unwrap();
    assert_eq!((&config["id2label"]["4"], &config["label2id"]["b"]), (&"e".into(), &1.into()));
}

#[test]
fn an_adapter_is_refused_on_another_encoder() {
    let (first, second) = (encoder(ConvNorm::Layer, 1), encoder(ConvNorm::Layer, 2));
    let saved = tempfile::tempdir().unwrap();
    model(first.path(), &lora()).save(saved.path(), &labels()).unwrap();
    let error = model(second.path(), &lora()).load_trained(saved.path()).unwrap_err();
    assert!(matches!(error, ModelError::OtherBase { .. }), "{error}");
    let wider = Method::Lora(Lora { alpha: 8.0, targets: vec![LinearLayer::QProj], ..Lora::default() });
    let error = model(first.path(), &wider).load_trained(saved.path()).unwrap_err().to_string();
    assert!(
        error.contains("q_proj.lora_A.weight` has shape [4, 32], expected [8, 32]") && error.contains("unexpected"),
        "{error}"
    );
}

#[test]
fn impossible_requests_are_named() {
    let _turn = take_turn();
    let folder = encoder(ConvNorm::Layer, 1);
    let head = HeadSpec::Classification { projector_size: 12, layer_sum: true };
    let wide = Method::Lora(Lora { rank: 33, targets: vec![LinearLayer::QProj], rslora: true, ..Lora::default() });
    let error = Model::new(folder.path(), &wide, &head, 5, 7, Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("`rank` is 33") && error.contains("q_proj"), "{error}");
    let model = Model::new(folder.path(), &lora(), &head, 5, 7, Device::Cpu).unwrap();
    let too_long = Batch { num_samples: vec![700, 701, 90], ..batch() };
    assert!(model.forward(&too_long, Mode::Eval).unwrap_err().to_string().contains("701"));
    let empty = Batch { audio: Tensor::zeros([0, 700], (Kind::Float, Device::Cpu)), num_samples: vec![], labels: None };
    assert!(model.forward(&empty, Mode::Eval).unwrap_err().to_string().contains("0 rows"));
    // Shorter than one frame needs: padded, not refused.
    let short = Batch { audio: Tensor::zeros([1, 3], (Kind::Float, Device::Cpu)), num_samples: vec![3], labels: None };
    assert_eq!(model.forward(&short, Mode::Eval).unwrap().size(), [1, 5]);
}

/// Reads an encoder after `spoil` has had its way with its folder.
#[track_caller]
fn check_broken(spoil: impl Fn(&Path), expected: &[&str]) {
    let folder = encoder(ConvNorm::Layer, 1);
    spoil(folder.path());
    let error = Model::new(
        folder.path(),
        &finetune(),
        &HeadSpec::Classification { projector_size: 4, layer_sum: false },
        2,
        1,
        Device::Cpu,
    )
    .unwrap_err();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    for part in expected {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    assert!(error.hint().is_some(), "nothing says what to do about: {text}");
}

fn edit(folder: &Path, change: impl Fn(&mut neural::checkpoint::Weights)) {
    let path = folder.join("model.safetensors");
    let mut weights = safetensors::read(&path, |_| true).unwrap();
    change(&mut weights);
    safetensors::write(&path, &weights).unwrap();
}

#[test]
fn broken_checkpoints_say_what_is_broken() {
    let weights = "model.safetensors";
    check_broken(|folder| fs::remove_file(folder.join("config.json")).unwrap(), &["cannot read", "config.json"]);
    check_broken(|folder| fs::remove_file(folder.join(weights)).unwrap(), &["no weights in", "pytorch_model.bin"]);
    check_broken(|folder| fs::write(folder.join("config.json"), "{\"hidden_size\": }").unwrap(), &["config.json", "line 1"]);
    for keep in [3, 200, 20_000] {
        let cut = |folder: &Path| {
            let bytes = fs::read(folder.join(weights)).unwrap();
            fs::write(folder.join(weights), &bytes[..keep]).unwrap();
        };
        check_broken(cut, &[weights, "damaged", &keep.to_string()]);
    }
    let several = |folder: &Path| {
        edit(folder, |weights| {
            weights.remove("encoder.layer_norm.bias");
            weights.insert("encoder.layers.9.odd".to_owned(), Tensor::zeros([2], (Kind::Float, Device::Cpu)));
            weights.insert("encoder.layer_norm.weight".to_owned(), Tensor::zeros([5], (Kind::Float, Device::Cpu)));
            let _ = weights.get_mut("encoder.layers.0.layer_norm.bias").unwrap().fill_(f64::NAN);
        });
    };
    let expected = [
        "`encoder.layer_norm.bias` is missing",
        "`encoder.layers.9.odd` is unexpected",
        "`encoder.layer_norm.weight` has shape [5], expected [32]",
        "`encoder.layers.0.layer_norm.bias` holds NaN",
    ];
    check_broken(several, &expected);
    let poisoned = |folder: &Path| {
        edit(folder, |weights| {
            let _ = weights.get_mut("encoder.layers.0.layer_norm.bias").unwrap().fill_(f64::INFINITY);
        });
    };
    check_broken(poisoned, &["are damaged: `encoder.layers.0.layer_norm.bias` holds NaN or infinite values"]);
    // Weights of another architecture are told as such, and a long list is cut.
    let other = |folder: &Path| {
        edit(folder, |weights| {
            *weights = std::mem::take(weights).into_iter().map(|(name, tensor)| (format!("bert.{name}"), tensor)).collect();
        });
    };
    check_broken(other, &["another architecture", "`bert.encoder", "none of them of a Wav2Vec2 encoder"]);
    let reshaped = |folder: &Path| {
        edit(folder, |weights| {
            for tensor in weights.values_mut() {
                *tensor = tensor.unsqueeze(0);
            }
        });
    };
    check_broken(reshaped, &["has shape [1, 32], expected [32]", "more of the kind"]);
    let pickle = |bytes: &'static [u8]| {
        move |folder: &Path| {
            fs::remove_file(folder.join(weights)).unwrap();
            fs::write(folder.join("pytorch_model.bin"), bytes).unwrap();
        }
    };
    check_broken(pickle(b"\x80\x02}q"), &["pytorch_model.bin", "no zip archive"]);
    check_broken(pickle(b"PK\x03\x04 and no more"), &["pytorch_model.bin", "not a flat state dict", "damaged"]);
}

#[test]
fn code_in_a_checkpoint_is_refused_and_never_run() {
    let scratch = tempfile::tempdir().unwrap();
    let marker = scratch.path().join("marker");
    // What `pickle.dumps` makes of an object whose `__reduce__` is `(os.system, ("touch MARKER",))`.
    let call = format!("touch {}", marker.display());
    let mut program = b"\x80\x02cposix\nsystem\nX".to_vec();
    program.extend((call.len() as u32).to_le_bytes());
    program.extend(call.as_bytes());
    program.extend(b"\x85R.");
    let spoil = |folder: &Path| {
        fs::remove_file(folder.join("model.safetensors")).unwrap();
        let mut archive = zip::ZipWriter::new(fs::File::create(folder.join("pytorch_model.bin")).unwrap());
        archive
            .start_file("archive/data.pkl", zip::write::FileOptions::default().compression_method(zip::CompressionMethod::Stored))
            .unwrap();
        archive.write_all(&program).unwrap();
        archive.finish().unwrap();
    };
    check_broken(spoil, &["pytorch_model.bin", "`posix.system`", "nothing of it was run"]);
    assert!(!marker.exists());
}

#[test]
fn sharded_and_prefixed_checkpoints_are_read() {
    let folder = encoder(ConvNorm::Layer, 1);
    let config = EncoderConfig::read(folder.path()).unwrap();
    let whole = weights::read(folder.path(), &config, Device::Cpu).unwrap();
    let expected = weights::digest(&whole).unwrap();

    let mut map = serde_json::Map::new();
    for (part, file) in ["model-1.safetensors", "model-2.safetensors"].into_iter().enumerate() {
        let half = whole.iter().enumerate().filter(|(at, _)| at % 2 == part).map(|(_, (name, tensor))| {
            map.insert(format!("wav2vec2.{name}"), file.into());
            (format!("wav2vec2.{name}"), tensor.shallow_clone())
        });
        safetensors::write(&folder.path().join(file), &half.collect()).unwrap();
    }
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    fs::write(folder.path().join("model.safetensors.index.json"), serde_json::json!({ "weight_map": map }).to_string()).unwrap();
    let sharded = weights::read(folder.path(), &config, Device::Cpu).unwrap();
    assert_eq!(weights::digest(&sharded).unwrap(), expected);
}
