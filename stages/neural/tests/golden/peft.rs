//! Every method against reference numbers: logits, loss, gradients, a step, and the same without the adapter and merged.

use neural::checkpoint::EncoderConfig;
use neural::error::ModelError;
use neural::models::{Batch, Model};
use neural::nn::pass::Mode;
use neural::peft::files;
use neural_spec::{AdapterActivation, BitFit, BlockPosition, Bottleneck, ConvAdapter, HeadOnly, Method, Prefix};
use serde_json::Value;

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
    let in_head = |name: &str| name.starts_with("projector.") || name.starts_with("classifier.");
    let head: Vec<_> = stored.into_iter().filter(|(name, _)| in_head(name)).collect();
    let mut base = finetuned(case, &head);
    base.use_attention_mask(true);
    case.check("base.logits", &base.forward(&case.batch(), Mode::Eval).unwrap());
    case.check_training(&model, |name| if of_peft { format!("base_model.model.{name}") } else { name.to_owned() });
}

/// Where a method starts as the identity, adapter on and off agree before anything is loaded.
fn check_start(case: &Case, model: &Model) {
    let off = match model.merged() {
        Ok(merged) => merged.forward(&case.batch(), Mode::Eval).unwrap(),
        Err(error) => return assert!(matches!(error, ModelError::CannotMerge { .. }), "{}: {error}", case.name),
    };
    let on = model.forward(&case.batch(), Mode::Eval).unwrap();
    if matches!(model.method(), Method::Lora(lora) if lora.dora) {
        // The length of a row is not the root of its square, to the last bit.
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
