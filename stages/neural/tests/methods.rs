//! Promises of every method beyond its numbers: frozen weights stay, nothing below is differentiated, files come back, merging
//! changes nothing, parameters are those counted without libtorch, and what does not fit is named.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod small;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use neural::checkpoint::{EncoderConfig, safetensors, weights};
use neural::error::ModelError;
use neural::models::encoder::{Encoder, Input, Point, random};
use neural::models::{Batch, Model, merge};
use neural::nn::pass::Mode;
use neural::nn::pass::Pass;
use neural::peft::origin::Certainty;
use neural::peft::{Adapters, files};
use neural_spec::{Added, ConvNorm, EncoderShape, HeadSpec, Method, RandomEncoder};
use serde_json::json;
use tch::{Device, Tensor};

use crate::small::{batch, shape, take_turn};

fn encoder(norm: ConvNorm, seed: u64) -> tempfile::TempDir {
    written(shape(norm, 0.0), seed)
}

fn written(shape: EncoderShape, seed: u64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    random::write(&RandomEncoder { shape, seed }, folder.path()).unwrap();
    folder
}

/// Every method at its defaults, and the variants that are computed differently.
fn methods() -> Vec<Method> {
    [
        json!({"name": "finetune"}),
        json!({"name": "finetune", "scope": "all_but_conv"}),
        json!({"name": "finetune", "layers": {"last": 1}}),
        json!({"name": "finetune", "scope": "layers_only", "layers": {"last": 2}}),
        json!({"name": "head_only"}),
        json!({"name": "bottleneck"}),
        json!({"name": "bottleneck", "bottleneck_dim": 4, "activation": "gelu", "places": ["attention", "feed_forward"], "layers": [1]}),
        json!({"name": "prefix"}),
        json!({"name": "prefix", "prefix_len": 3, "projection": 5, "dropout": 0.3, "layers": {"from": 1, "to": 2}}),
        json!({"name": "lora"}),
        json!({"name": "lora", "rank": 2, "dropout": 0.2, "rslora": true, "targets": ["q_proj", "output_dense"],
            "rank_pattern": {"output_dense": 3}, "alpha_pattern": {"layers.2.attention.q_proj": 5.0}, "layers": [0, 2]}),
        json!({"name": "lora", "rank": 2, "alpha": 4.0, "dora": true, "layers": [2]}),
        json!({"name": "lora", "rank": 2, "alpha": 4.0, "dropout": 0.2, "dora": true}),
        json!({"name": "lora", "rank": 3, "alpha": 2.0, "pissa": true}),
        json!({"name": "lora", "rank": 2, "alpha": 2.0, "pissa": true, "rslora": true, "dropout": 0.2, "targets": ["v_proj", "output_dense"],
            "rank_pattern": {"v_proj": 4}, "alpha_pattern": {"output_dense": 5.0}, "layers": [1]}),
        json!({"name": "adalora"}),
        json!({"name": "adalora", "rank": 2, "init_rank": 3, "alpha": 5.0, "dropout": 0.2, "targets": ["q_proj", "output_dense"], "layers": [1]}),
        json!({"name": "vera", "rank": 20}),
        json!({"name": "vera", "rank": 40, "dropout": 0.2, "targets": ["v_proj", "intermediate_dense"], "layers": [0, 2]}),
        json!({"name": "convadapter", "reduction": 2}), // at this width 16 would leave but two units, and neither may be alive
        json!({"name": "convadapter", "bottleneck_dim": 8, "kernel_sizes": [5, 3, 1], "reduction": 4, "masked": true,
            "places": ["attention"], "layers": [2]}),
        json!({"name": "ia3"}),
        json!({"name": "ia3", "targets": ["q_proj", "intermediate_dense"], "feedforward": ["intermediate_dense"], "layers": [1]}),
        json!({"name": "bitfit"}),
        json!({"name": "bitfit", "scope": "layers_only", "layers": {"last": 1}}),
    ]
    .map(|text| serde_json::from_value(text).unwrap())
    .into()
}

fn method(text: serde_json::Value) -> Method {
    serde_json::from_value(text).unwrap()
}

fn head() -> HeadSpec {
    serde_json::from_value(json!({"name": "classification", "projector_size": 12})).unwrap()
}

fn try_model(encoder: &Path, method: &Method) -> Result<Model, ModelError> {
    Model::new(encoder, method, &head(), 5, 7, Device::Cpu)
}

fn model(encoder: &Path, method: &Method) -> Model {
    try_model(encoder, method).unwrap()
}

fn backward(model: &Model, seed: u64) {
    let batch = batch();
    let logits = model.forward(&batch, Mode::Train { seed }).unwrap();
    logits.cross_entropy_for_logits(batch.labels.as_ref().unwrap()).backward();
}

/// A step of sign descent, which moves every tensor that has a gradient, however small.
fn step(model: &Model, seed: u64) {
    backward(model, seed);
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

#[track_caller]
fn assert_close(a: &Tensor, b: &Tensor, what: &str) {
    let error = (a - b).abs().max().double_value(&[]);
    assert!(error < 1e-5, "{what}: off by {error:e}");
}

#[test]
fn training_changes_what_is_trained_and_nothing_else() {
    let _turn = take_turn();
    let folder = encoder(ConvNorm::Layer, 1);
    for method in methods() {
        let model = model(folder.path(), &method);
        let before: Vec<_> = model.tensors().into_iter().map(|(name, tensor)| (name, tensor.detach().copy())).collect();
        for seed in 0..3 {
            step(&model, seed);
        }
        let trained: BTreeSet<String> = model.trainable().into_iter().map(|(name, _)| name).collect();
        for ((name, before), (_, after)) in before.iter().zip(model.tensors()) {
            // A bias of keys shifts all scores of a query alike: its gradient is zero, or the rounding of it.
            if !(name.ends_with("k_proj.bias") && trained.contains(name)) {
                assert_eq!(trained.contains(name), *before != after.detach(), "{method:?}: {name}");
            }
            assert!(trained.contains(name) || !after.grad().defined(), "{method:?}: {name} has a gradient");
        }
    }
}

#[test]
fn an_evaluation_of_single_clips_does_not_depend_on_the_batch() {
    let _turn = take_turn();
    for norm in [ConvNorm::Group, ConvNorm::Layer] {
        let folder = encoder(norm, 1);
        for method in methods() {
            let mut model = model(folder.path(), &method);
            for seed in 0..3 {
                step(&model, seed);
            }
            model.answer_as_single_clips();
            let together = logits(&model);
            let Batch { audio, num_samples, .. } = batch();
            for (row, &samples) in num_samples.iter().enumerate() {
                let audio = audio.narrow(0, row as i64, 1).narrow(1, 0, samples);
                let alone = model.forward(&Batch { audio, num_samples: vec![samples], labels: None }, Mode::Eval).unwrap();
                assert_close(&together.narrow(0, row as i64, 1), &alone, &format!("{norm:?}, {method:?}, clip {row}"));
            }
        }
    }
}

#[test]
fn an_xvector_of_a_single_clip_does_not_depend_on_the_batch() {
    let _turn = take_turn();
    let folder = encoder(ConvNorm::Layer, 1);
    let head: HeadSpec = serde_json::from_value(json!({"name": "xvector", "tdnn_dim": [8, 8], "tdnn_kernel": [3, 3],
        "tdnn_dilation": [1, 3], "output_size": 6}))
    .unwrap();
    let mut model = Model::new(folder.path(), &method(json!({"name": "head_only"})), &head, 5, 7, Device::Cpu).unwrap();
    model.answer_as_single_clips();
    let together = logits(&model);
    let Batch { audio, num_samples, .. } = batch();
    for (row, &samples) in num_samples.iter().enumerate() {
        let audio = audio.narrow(0, row as i64, 1).narrow(1, 0, samples);
        let alone = model.forward(&Batch { audio, num_samples: vec![samples], labels: None }, Mode::Eval).unwrap();
        assert_close(&together.narrow(0, row as i64, 1), &alone, &format!("clip {row}"));
    }
}

/// The lowest transformer layer whose output depends on what is trained; none when the front is trained too.
fn lowest(method: &Method) -> Option<usize> {
    let Ok(text) = serde_json::to_value(method) else { panic!("a method is JSON") };
    let in_front = matches!(method, Method::Finetune(_) | Method::BitFit(_)) && text["scope"] != "layers_only";
    if in_front {
        return None;
    }
    if matches!(method, Method::HeadOnly(_)) {
        return Some(3);
    }
    Some(method.layers().map_or(0, |layers| layers.of(&architecture().stacks[0]).unwrap()[0] as usize))
}

#[test]
fn nothing_below_the_lowest_trained_layer_has_a_graph() {
    let _turn = take_turn();
    for norm in [ConvNorm::Layer, ConvNorm::Group] {
        let folder = encoder(norm, 1);
        let config = EncoderConfig::read(folder.path()).unwrap();
        for method in methods() {
            let Some(lowest) = lowest(&method) else { continue };
            let mut weights = weights::read(folder.path(), &config, Device::Cpu).unwrap();
            for (name, tensor) in &mut weights {
                *tensor = tensor.set_requires_grad(method.trains(name, &architecture()).unwrap());
            }
            let adapters = Adapters::start(&method, config.architecture(), &weights, 1, Device::Cpu).unwrap();
            let encoder = Encoder::new(&config, &weights, &adapters).unwrap();
            let batch = batch();
            let input = Input { audio: &batch.audio, num_samples: Some(&batch.num_samples), masked: None };
            let mut watch = |point: Point, x: &Tensor| {
                let expected = match point {
                    Point::LayerInput(layer) => layer > lowest,
                    Point::LastLayer => lowest < 3,
                    _ => false,
                };
                assert_eq!(x.requires_grad(), expected, "{method:?} at {point:?}");
            };
            encoder.forward(input, &Pass::begin(Mode::Train { seed: 1 }), &mut watch).unwrap();
        }
    }
}

#[test]
fn what_was_trained_comes_back_from_its_files() {
    let _turn = take_turn();
    let folder = encoder(ConvNorm::Layer, 1);
    for method in methods() {
        let trained = model(folder.path(), &method);
        step(&trained, 1);
        let saved = tempfile::tempdir().unwrap();
        trained.save(saved.path(), &labels()).unwrap();
        let mut fresh = model(folder.path(), &method.as_saved());
        assert_ne!(logits(&fresh), logits(&trained), "{method:?}");
        fresh.load_trained(saved.path()).unwrap();
        if method == method.as_saved() {
            assert_eq!(logits(&fresh), logits(&trained), "{method:?}");
        } else {
            assert_close(&logits(&fresh), &logits(&trained), "PiSSA on the encoder's own weights");
        }
        if !matches!(method, Method::Finetune(_)) {
            check_adapter_folder(&saved.path().join("adapter"), &trained);
        }
    }
}

/// The folder tells its method, and holds what was trained and little more.
fn check_adapter_folder(folder: &Path, trained: &Model) {
    let read = files::read_method(folder, &architecture()).unwrap();
    let added = read.added(&architecture()).unwrap();
    assert_eq!(added, trained.method().as_saved().added(&architecture()).unwrap());
    let size = fs::metadata(folder.join("adapter_model.safetensors")).unwrap().len();
    // All that is added is written, trained or not, and a PiSSA together with its start.
    let numbers = |list: &[Added]| list.iter().map(|added| added.shape.iter().product::<u32>()).sum::<u32>();
    let own: Vec<Added> = trained.method().added(&architecture()).unwrap().into_iter().filter(|added| added.trained).collect();
    let parameters = 4 * (trained.num_parameters().trainable - u64::from(numbers(&own)) + u64::from(numbers(&added)));
    let names = 200 * trained.trainable().len() as u64;
    assert!((parameters..parameters + names + 200).contains(&size), "{size} bytes for {parameters} of parameters");
}

fn architecture() -> neural_spec::Architecture {
    neural_spec::Architecture::encoder(32, 48, 3)
}

#[test]
fn merging_changes_no_answer() {
    let _turn = take_turn();
    for norm in [ConvNorm::Layer, ConvNorm::Group] {
        let folder = encoder(norm, 1);
        for method in methods() {
            let model = model(folder.path(), &method);
            for seed in 0..3 {
                step(&model, seed);
            }
            let (before, kept) = (logits(&model), model.tensors()["wav2vec2.encoder.layers.2.attention.q_proj.weight"].copy());
            match model.merged() {
                Ok(merged) => {
                    assert_close(&logits(&merged), &before, method.name());
                    let saved = tempfile::tempdir().unwrap();
                    merged.save(saved.path(), &labels()).unwrap();
                    let whole = saved.path().join("checkpoint");
                    let mut loaded = crate::model(&whole, &Method::Finetune(neural_spec::Finetune::default()));
                    loaded.load_trained(saved.path()).unwrap();
                    assert_eq!(logits(&loaded), logits(&merged), "{method:?}");
                }
                Err(error) => {
                    assert!(matches!(method.name(), "bottleneck" | "prefix" | "convadapter"), "{method:?}: {error}");
                    assert!(error.to_string().contains(method.name()), "{error}");
                }
            }
            assert_eq!(model.tensors()["wav2vec2.encoder.layers.2.attention.q_proj.weight"], kept, "{method:?}");
            assert_eq!(logits(&model), before, "{method:?}");
        }
    }
}

#[test]
fn parameters_are_those_counted_without_libtorch() {
    for norm in [ConvNorm::Layer, ConvNorm::Group] {
        let (folder, shape) = (encoder(norm, 1), shape(norm, 0.0));
        for method in methods() {
            let found = model(folder.path(), &method).num_parameters();
            let counted = method.count(&shape).unwrap();
            assert_eq!((found.encoder, found.adapters), (counted.encoder, counted.added), "{method:?}");
            assert_eq!(found.trainable - found.head, counted.trained, "{method:?}");
        }
    }
}

#[test]
fn only_the_masked_convolutions_do_without_looking_at_padding() {
    let _turn = take_turn();
    let folder = encoder(ConvNorm::Layer, 1);
    let last = |batch: &Batch| {
        let length = batch.num_samples[2];
        let audio = batch.audio.narrow(0, 2, 1).narrow(1, 0, length);
        Batch { audio, num_samples: vec![length], labels: None }
    };
    for method in methods() {
        let model = model(folder.path(), &method);
        let alone = model.forward(&last(&batch()), Mode::Eval).unwrap();
        let error = (alone - logits(&model).narrow(0, 2, 1)).abs().max().double_value(&[]);
        let sees_padding = matches!(&method, Method::ConvAdapter(conv) if !conv.masked);
        assert_eq!(error > 1e-5, sees_padding, "{method:?}: {error:e}");
    }
}

#[test]
fn an_adapter_is_refused_on_another_encoder() {
    let (first, second) = (encoder(ConvNorm::Layer, 1), encoder(ConvNorm::Layer, 2));
    let wider = written(EncoderShape { hidden_size: 64, num_hidden_layers: 4, ..shape(ConvNorm::Layer, 0.0) }, 1);
    for method in methods().into_iter().filter(|method| !matches!(method, Method::Finetune(_))) {
        let saved = tempfile::tempdir().unwrap();
        model(first.path(), &method).save(saved.path(), &labels()).unwrap();
        let error = model(second.path(), &method).load_trained(saved.path()).unwrap_err();
        assert!(matches!(error, ModelError::OtherBase { .. }), "{error}");
        assert!(error.to_string().contains("same shape, but other weights"), "{error}");
        let error = model(wider.path(), &method).load_trained(saved.path()).unwrap_err().to_string();
        assert!(error.contains("wav2vec2 with 3 layers of 32") && error.contains("wav2vec2 with 4 layers of 64"), "{error}");
    }
}

#[test]
fn what_does_not_fit_the_encoder_is_named() {
    let folder = encoder(ConvNorm::Layer, 1);
    for (text, expected) in [
        (
            json!({"name": "lora", "rank": 33}),
            "`rank` is 33, but `encoder.layers.0.attention.q_proj` of this encoder allows 1 to 32",
        ),
        (json!({"name": "lora", "rank_pattern": {"q_proj": 40}}), "`rank_pattern.q_proj` is 40"),
        (json!({"name": "lora", "rank_pattern": {"q_porj": 4}}), "pattern `q_porj` matches none"),
        (json!({"name": "lora", "alpha_pattern": {"q_proj": 4, "attention.q_proj": 2}}), "both match"),
        (json!({"name": "lora", "layers": [0, 3]}), "`layers` names layer 3, but the encoder has 3 layers"),
        (json!({"name": "ia3", "layers": {"from": 1, "to": 7}}), "`layers` names layer 7"),
        (json!({"name": "prefix", "layers": {"last": 4}}), "`layers` asks for the last 4, but the encoder has 3 layers"),
        (json!({"name": "finetune", "layers": [5]}), "`layers` names layer 5"),
        (json!({"name": "bitfit", "layers": [5]}), "`layers` names layer 5"),
        (
            json!({"name": "convadapter", "bottleneck_dim": 5}),
            "`bottleneck_dim` is 5, which does not divide the encoder's hidden size 32",
        ),
        (json!({"name": "convadapter", "reduction": 64}), "`reduction` is 64, which leaves nothing"),
    ] {
        let error = try_model(folder.path(), &method(text)).unwrap_err();
        assert!(error.to_string().contains(expected) && error.hint().is_some(), "{error}: {:?}", error.hint());
    }
}

#[test]
fn damaged_adapter_folders_say_what_is_wrong() {
    let folder = encoder(ConvNorm::Layer, 1);
    let method = method(json!({"name": "prefix", "prefix_len": 3}));
    let check = |spoil: &dyn Fn(&Path), expected: &str| {
        let saved = tempfile::tempdir().unwrap();
        let mut model = model(folder.path(), &method);
        model.save(saved.path(), &labels()).unwrap();
        let adapter = saved.path().join("adapter");
        spoil(&adapter);
        let error = files::read_method(&adapter, &architecture())
            .map_err(ModelError::from)
            .and_then(|_| model.load_adapter(&adapter))
            .unwrap_err();
        let text = format!("{:#}", anyhow_chain(&error));
        assert!(text.contains(expected), "{text}");
    };
    let config = "adapter_config.json";
    check(&|adapter| fs::remove_file(adapter.join(config)).unwrap(), "cannot read");
    check(&|adapter| fs::write(adapter.join(config), "{}").unwrap(), "peft_type is missing");
    check(&|adapter| fs::write(adapter.join(config), r#"{"peft_type":"OFT"}"#).unwrap(), "peft_type `OFT` is not supported");
    check(&|adapter| fs::remove_file(adapter.join("adapter_model.safetensors")).unwrap(), "cannot read");
    check(&|adapter| fs::write(adapter.join("sure.json"), "[]").unwrap(), "sure.json");
    let cut = |adapter: &Path| {
        let path = adapter.join("adapter_model.safetensors");
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    };
    check(&cut, "damaged");
    let poisoned = |adapter: &Path| {
        let path = adapter.join("adapter_model.safetensors");
        let mut weights = safetensors::read(&path, |_| true).unwrap();
        let _ = weights.get_mut("classifier.bias").unwrap().fill_(f64::NAN);
        safetensors::write(&path, &weights).unwrap();
    };
    check(&poisoned, "`classifier.bias` holds NaN");
}

fn anyhow_chain(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {}", anyhow_chain(cause)))
}

#[test]
fn an_adapter_is_merged_into_a_checkpoint_of_its_own() {
    let _turn = take_turn();
    let folder = encoder(ConvNorm::Layer, 1);
    let scratch = tempfile::tempdir().unwrap();
    let (trained, out) = (scratch.path().join("trained"), scratch.path().join("new/merged"));
    let lora = model(folder.path(), &method(json!({"name": "lora", "rank": 2, "alpha": 4.0})));
    for seed in 0..3 {
        step(&lora, seed);
    }
    lora.save(&trained, &labels()).unwrap();
    let made = merge(&trained, folder.path(), &out).unwrap();
    assert_eq!((made.counts.adapters, made.doubt), (0, None));
    let names: BTreeSet<_> = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names, ["config.json", "model.safetensors", "preprocessor_config.json"].map(str::to_owned).into());
    assert_eq!(fs::read_dir(scratch.path().join("new")).unwrap().count(), 1, "nothing is left beside it");
    assert_close(&logits(&whole(&out)), &logits(&lora), "merged");

    // As peft leaves it: no word of the encoder, the classes and the head.
    as_peft_leaves_it(&trained.join("adapter"), None);
    let foreign = scratch.path().join("foreign");
    merge(&trained.join("adapter"), folder.path(), &foreign).unwrap();
    assert_eq!(logits(&whole(&foreign)), logits(&whole(&out)));
    let config: serde_json::Value = serde_json::from_slice(&fs::read(foreign.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["id2label"]["4"], "LABEL_4");

    let refused = |adapter: &Path, encoder: &Path, out: &Path| merge(adapter, encoder, out).unwrap_err().to_string();
    assert!(refused(&trained, folder.path(), &out).contains("exists already"));
    let elsewhere = scratch.path().join("elsewhere");
    let prefix = model(folder.path(), &method(json!({"name": "prefix"})));
    prefix.save(&scratch.path().join("prefix"), &labels()).unwrap();
    assert!(
        refused(&scratch.path().join("prefix"), folder.path(), &elsewhere).contains("`prefix` adds to what the encoder computes")
    );
    let wider = written(EncoderShape { hidden_size: 64, ..shape(ConvNorm::Layer, 0.0) }, 1);
    assert!(refused(&trained, folder.path(), Path::new("")).contains("has no name"));
    let nowhere = scratch.path().join("nowhere");
    for (adapter, encoder, hint) in [
        (&*nowhere, folder.path(), "an adapter's folder"),
        (folder.path(), folder.path(), "an adapter's folder"),
        (&*trained, &*nowhere, "an encoder's folder"),
        (&*trained, wider.path(), "the encoder that the adapter was trained on"),
        (&*scratch.path().join("prefix"), folder.path(), "beside its encoder"),
    ] {
        let error = merge(adapter, encoder, &elsewhere).unwrap_err();
        assert!(error.hint().is_some_and(|text| text.contains(hint)), "{error}: {:?}", error.hint());
    }
    let error = refused(&trained, wider.path(), &elsewhere);
    assert!(error.contains("does not fit an encoder (Wav2Vec2) with 3 layers of 64"), "{error}");
    assert!(error.contains("has shape [2, 32], expected [2, 64]") && error.contains("more"), "{error}");
    let whole = model(folder.path(), &method(json!({"name": "finetune"})));
    whole.save(&scratch.path().join("finetuned"), &labels()).unwrap();
    assert!(refused(&scratch.path().join("finetuned"), folder.path(), &elsewhere).contains("cannot read"));
    assert!(!elsewhere.exists());
}

/// Rewrites an adapter folder as peft would: without what only this project writes, and with the encoder's name.
fn as_peft_leaves_it(adapter: &Path, named: Option<&str>) {
    let (weights, config) = (adapter.join("adapter_model.safetensors"), adapter.join("adapter_config.json"));
    safetensors::write(&weights, &safetensors::read(&weights, |_| true).unwrap()).unwrap();
    let mut said: serde_json::Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    said["base_model_name_or_path"] = json!(named);
    fs::write(config, said.to_string()).unwrap();
    let _ = fs::remove_file(adapter.join("sure.json"));
}

#[test]
fn an_adapter_without_our_own_files_is_held_against_the_encoder_that_it_names() {
    let (own, other) = (encoder(ConvNorm::Layer, 1), encoder(ConvNorm::Layer, 2));
    let saved = tempfile::tempdir().unwrap();
    let adapter = saved.path().join("adapter");
    let lora = method(json!({"name": "lora", "rank": 2}));
    model(own.path(), &lora).save(saved.path(), &labels()).unwrap();
    let load = |encoder: &Path| model(encoder, &lora).load_adapter(&adapter);
    let doubt = |encoder: &Path| load(encoder).unwrap().doubt(&adapter, encoder).unwrap();

    // The two files that peft knows still say which weights they belong to.
    fs::remove_file(adapter.join("sure.json")).unwrap();
    assert_eq!(load(own.path()).unwrap(), Certainty::Same);
    let error = load(other.path()).unwrap_err().to_string();
    assert!(error.contains("same shape, but other weights"), "{error}");

    // A folder that is there is compared.
    as_peft_leaves_it(&adapter, own.path().to_str());
    assert_eq!(load(own.path()).unwrap(), Certainty::Same);
    let error = load(other.path()).unwrap_err();
    assert!(matches!(error, ModelError::OtherBase { .. }), "{error}");

    // A name can only raise a doubt, which names both.
    as_peft_leaves_it(&adapter, Some("facebook/wav2vec2-base"));
    let words = doubt(other.path()).unwrap();
    let name = other.path().file_name().unwrap().to_str().unwrap();
    assert!(words.contains("trained on `facebook/wav2vec2-base`") && words.contains(&format!("goes by `{name}`")), "{words}");
    let cached = saved.path().join("models--facebook--wav2vec2-base/snapshots/1");
    fs::create_dir_all(&cached).unwrap();
    for entry in fs::read_dir(other.path()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, cached.join(path.file_name().unwrap())).unwrap();
    }
    assert_eq!(doubt(&cached), None);
    as_peft_leaves_it(&adapter, Some("facebook/wav2vec2-base-960h"));
    let error = load(&cached).unwrap().doubt(&adapter, &cached).unwrap_err();
    let expected = "was made for another encoder: for `facebook/wav2vec2-base-960h`, this one is `facebook/wav2vec2-base`";
    assert!(error.to_string().contains(expected) && error.hint().is_some(), "{error}");
    as_peft_leaves_it(&adapter, None);
    assert!(doubt(own.path()).unwrap().contains("nothing in"));
}

/// A checkpoint folder with its head.
fn whole(folder: &Path) -> Model {
    let finetune = method(json!({"name": "finetune"}));
    let model = model(folder, &finetune);
    let stored = safetensors::read(&folder.join("model.safetensors"), |_| true).unwrap();
    model.set_trainable(&stored.into_iter().collect::<Vec<_>>()).unwrap();
    model
}

#[test]
fn an_adapter_of_another_family_is_told_by_its_names() {
    let folder = encoder(ConvNorm::Layer, 1);
    let saved = tempfile::tempdir().unwrap();
    let mut model = model(folder.path(), &method(json!({"name": "ia3"})));
    model.save(saved.path(), &labels()).unwrap();
    let adapter = saved.path().join("adapter");
    let path = adapter.join("adapter_model.safetensors");
    let hubert = safetensors::read(&path, |_| true).unwrap();
    let hubert = hubert.into_iter().map(|(name, tensor)| (name.replace("wav2vec2", "hubert"), tensor)).collect();
    safetensors::write(&path, &hubert).unwrap();
    let error = model.load_adapter(&adapter).unwrap_err().to_string();
    assert!(error.contains("was made for a Hubert encoder, this one is Wav2Vec2"), "{error}");
}

#[test]
fn adapters_that_transformers_would_pass_by_say_so() {
    let read = |model_type: &str, name: &str| {
        let folder = encoder(ConvNorm::Layer, 1);
        let config = EncoderConfig {
            model_type: serde_json::from_value(json!(model_type)).unwrap(),
            ..EncoderConfig::read(folder.path()).unwrap()
        };
        files::caveat(&config, &method(json!({"name": name})))
    };
    assert!(read("wavlm", "lora").unwrap().contains("merge"));
    assert!(read("wavlm", "ia3").is_some());
    assert_eq!((read("wav2vec2", "lora"), read("wavlm", "prefix")), (None, None));
}
