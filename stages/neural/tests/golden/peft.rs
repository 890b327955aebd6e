//! Every method against reference numbers: logits, loss, gradients, a step, and the same without the adapter and merged.

use std::path::Path;

use neural::checkpoint::EncoderConfig;
use neural::error::ModelError;
use neural::models::{Batch, Model, merge};
use neural::nn::pass::Mode;
use neural::nn::weights::Weights;
use neural::peft::files;
use neural_spec::{AdapterActivation, BitFit, BlockPosition, Bottleneck, ConvAdapter, HeadOnly, Lora, Method, Prefix};
use serde_json::Value;
use tch::Tensor;

use crate::device::device;
use crate::support::{Case, cases, read};
use crate::{check_logits, finetuned, head_of};

#[test]
fn methods_match() {
    for case in cases("peft", |_, _| true) {
        check_method(&case);
    }
}

fn check_method(case: &Case) {
    let folder = case.folder.join("adapter");
    let of_peft = folder.is_dir();
    let (method, stored) = if of_peft {
        (
            files::read_method(&folder, &EncoderConfig::read(&case.base).unwrap().architecture()).unwrap(),
            files::read_weights(&folder).unwrap().into_iter().collect::<Vec<_>>(),
        )
    } else {
        (own_method(&case.options), read(&case.folder.join("adapter.safetensors")))
    };
    let (head, num_labels) = head_of(&stored);
    let mut model = Model::new(&case.base, &method, &head, num_labels, 1, device()).unwrap();
    check_start(case, &model);
    check_principal(case, &model);

    if of_peft {
        model.load_adapter(&folder).unwrap();
    } else {
        model.set_trainable(&stored).unwrap();
    }
    assert_eq!(model.num_parameters().trainable, case.options["trainable"].as_u64().unwrap(), "{}", case.name);
    check_logits(case, &mut model);
    if case.has("single.logits") {
        case.check("single.logits", &model.forward(&alone(case), Mode::Eval).unwrap());
    }
    check_merged(case, &model);
    if of_peft && case.has("merged.logits") {
        check_merged_files(case, &folder);
    }
    check_converted(case, &method, &stored);
    let in_head = |name: &str| name.starts_with("projector.") || name.starts_with("classifier.");
    let head: Vec<_> = stored.into_iter().filter(|(name, _)| in_head(name)).collect();
    let mut base = finetuned(case, &head);
    base.use_attention_mask(true);
    case.check("base.logits", &base.forward(&case.batch(), Mode::Eval).unwrap());
    // Ranks that were dropped are zeros here, and missing in peft: both give the same answers, and are trained differently.
    if case.has("loss") {
        case.check_training(&model, |name| if of_peft { format!("base_model.model.{name}") } else { name.to_owned() });
    }
}

/// A folder of peft, merged as a file of another program, gives the same.
fn check_merged_files(case: &Case, folder: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("merged");
    merge(folder, &case.base, &out).unwrap();
    let mut model = Model::with_own_head(&out, device()).unwrap();
    model.use_attention_mask(true);
    case.check("merged.logits", &model.forward(&case.batch(), Mode::Eval).unwrap());
}

/// What PiSSA starts from: the frozen weights, and its factors up to the signs of the singular vectors.
fn check_principal(case: &Case, model: &Model) {
    let mut compared = 0;
    for (name, tensor) in model.tensors() {
        for (prefix, tensor) in [("start", tensor.shallow_clone()), ("start_abs", tensor.abs())] {
            if case.has(&format!("{prefix}.{name}")) {
                case.check(&format!("{prefix}.{name}"), &tensor);
                compared += 1;
            }
        }
    }
    assert_eq!(compared, case.names().filter(|name| name.starts_with("start")).count(), "{}", case.name);
}

/// The plain LoRA that peft converts a PiSSA to is the one that this project saves.
/// `stored`: the tensors of the PiSSA, whose head peft leaves out when it converts.
fn check_converted(case: &Case, method: &Method, stored: &[(String, Tensor)]) {
    let folder = case.folder.join("converted");
    if !folder.is_dir() {
        return assert_eq!(method.as_saved(), *method, "{}", case.name);
    }
    let converted = files::read_method(&folder, &EncoderConfig::read(&case.base).unwrap().architecture()).unwrap();
    let (Method::Lora(expected), Method::Lora(found)) = (method.as_saved(), converted) else { panic!("{}", case.name) };
    assert!((expected.alpha - found.alpha).abs() < 1e-9, "{}: {} and {}", case.name, expected.alpha, found.alpha);
    assert_eq!(Lora { alpha: found.alpha, ..expected }, found, "{}", case.name);
    let (head, num_labels) = head_of(stored);
    let mut model = Model::new(&case.base, &Method::Lora(found), &head, num_labels, 1, device()).unwrap();
    let mut values: Weights = stored.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
    values.extend(files::read_weights(&folder).unwrap());
    model.set_trainable(&values.into_iter().collect::<Vec<_>>()).unwrap();
    check_logits(case, &mut model);
}

/// Where a method starts as the identity, adapter on and off agree before anything is loaded.
fn check_start(case: &Case, model: &Model) {
    let off = match model.merged() {
        Ok(merged) => merged.forward(&case.batch(), Mode::Eval).unwrap(),
        Err(error) => return assert!(matches!(error, ModelError::CannotMerge { .. }), "{}: {error}", case.name),
    };
    let on = model.forward(&case.batch(), Mode::Eval).unwrap();
    if matches!(model.method(), Method::Lora(lora) if lora.dora || lora.pissa) {
        // The length of a row is not the root of its square, to the last bit; nor is a weight the sum of its parts.
        let error = (&on - &off).abs().max().double_value(&[]);
        assert!(error < 1e-6, "{}: {error:e}", case.name);
    } else {
        assert_eq!(on, off, "{}", case.name);
    }
}

/// The model without its adapter gives the same; methods that are more than a change of weights say so.
fn check_merged(case: &Case, model: &Model) {
    let mut merged = match model.merged() {
        Ok(merged) => merged,
        Err(error) => return assert!(matches!(error, ModelError::CannotMerge { .. }), "{}: {error}", case.name),
    };
    merged.use_attention_mask(true);
    let expected = if case.has("merged.logits") { "merged.logits" } else { "mask.logits" };
    case.check(expected, &merged.forward(&case.batch(), Mode::Eval).unwrap());
    for (name, tensor) in merged.tensors() {
        if case.has(&format!("merged.{name}")) {
            case.check(&format!("merged.{name}"), &tensor);
        }
    }
}

/// The last utterance without padding.
fn alone(case: &Case) -> Batch {
    let Batch { audio, num_samples, .. } = case.batch();
    let last = num_samples.len() - 1;
    let length = num_samples[last];
    Batch { audio: audio.narrow(0, last as i64, 1).narrow(1, 0, length), num_samples: vec![length], labels: None }
}

/// A method of this project's own, as the manifest describes it.
fn own_method(case: &Value) -> Method {
    let options = &case["options"];
    let number = |name: &str| options[name].as_u64().map(|value| value as u32);
    let places = || {
        let of = |place: &Value| if place == "attn" { BlockPosition::Attention } else { BlockPosition::FeedForward };
        options["at"].as_array().unwrap().iter().map(of).collect()
    };
    match case["method"].as_str().unwrap() {
        "bottleneck" => {
            let activation = options.get("act").cloned().unwrap_or_else(|| "relu".into());
            let activation: AdapterActivation = serde_json::from_value(activation).unwrap();
            Method::Bottleneck(Bottleneck {
                bottleneck_dim: number("dim"),
                activation,
                places: places(),
                ..Bottleneck::default()
            })
        }
        "conv" => Method::ConvAdapter(ConvAdapter {
            bottleneck_dim: number("dim"),
            reduction: number("se_reduction").unwrap(),
            masked: options["masked"].as_bool().unwrap_or(false),
            places: places(),
            ..ConvAdapter::default()
        }),
        "prefix" => Method::Prefix(Prefix {
            prefix_len: number("len").unwrap(),
            projection: number("projection"),
            dropout: 0.0,
            ..Prefix::default()
        }),
        "bitfit" => Method::BitFit(BitFit::default()),
        "none" => Method::HeadOnly(HeadOnly {}),
        other => panic!("unknown method {other}"),
    }
}
