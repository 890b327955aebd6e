//! CTC, x-vector and several classes against reference numbers.

use std::collections::BTreeMap;

use neural::models::Model;
use neural::models::heads::{Head, HeadOutput, Targets, ctc};
use neural::nn::pass::Mode;
use neural_spec::{Finetune, HeadSpec, Method};
use serde_json::Value;
use tch::{Kind, Reduction, Tensor};

use crate::device::device;
use crate::support::{Case, cases, read};

/// The reference model of a case: all of its base trained, with the case's head.
fn model(case: &Case, spec: &HeadSpec, num_outputs: usize) -> Model {
    let model = Model::new(&case.base, &Method::Finetune(Finetune::default()), spec, num_outputs, 1, device()).unwrap();
    let tensors = model.tensors();
    for (name, value) in read(&case.folder.join("head.safetensors")) {
        let target = tensors.get(&name).unwrap_or_else(|| panic!("no tensor {name} in the model"));
        tch::no_grad(|| target.shallow_clone().copy_(&value));
    }
    model
}

fn check_gradients(case: &Case, gradients: &BTreeMap<String, Tensor>) {
    let wanted: Vec<String> = case.names().filter_map(|name| name.strip_prefix("grad.")).map(str::to_owned).collect();
    for name in wanted {
        assert!(gradients[&name].defined(), "{}: no gradient for {name}", case.name);
        case.check(&format!("grad.{name}"), &gradients[&name]);
    }
}

#[test]
fn ctc_heads_match() {
    let named = |case: &Value, start: &str| case["name"].as_str().unwrap().starts_with(start);
    for case in cases("head", |case, _| named(case, "ctc_")) {
        let outputs = case.get("logits").size()[2] as usize;
        let mut model = model(&case, &HeadSpec::Ctc { dropout: 0.0, layer_sum: false }, outputs);
        model.use_attention_mask(true);
        let scores = model.outputs(&case.batch(), Mode::Train { seed: 1 }).unwrap();
        case.check("logits", &scores.logits);
        assert_eq!(scores.frames, Vec::<i64>::try_from(case.get("frame_lengths")).unwrap());
        assert_eq!(model.head().best(&scores).unwrap(), *case.get("greedy_ids"));

        let ids = rows(case.get("labels"));
        let blank = case.number_after("blank id") as i64;
        let loss = |reduction| ctc::losses(&scores.logits, &scores.frames, &ids, blank, reduction, true).unwrap();
        case.check("loss.sum", &loss(Reduction::Sum));
        case.check("loss.mean", &loss(Reduction::Mean));
        let targets = Targets::Tokens { ids: ids.clone(), blank };
        let each = model.head().losses(&scores, &targets).unwrap();
        let lengths = Tensor::from_slice(&ids.iter().map(|ids| ids.len() as f32).collect::<Vec<_>>()).to_device(device());
        case.check("loss.none", &(&each * lengths));
        // What training adds up is the reference's mean.
        let mean = each.mean(Kind::Float);
        case.check("loss.mean", &mean);
        let mut named = model.trainable();
        named.push(("logits".to_owned(), scores.logits.shallow_clone()));
        let tensors: Vec<&Tensor> = named.iter().map(|(_, tensor)| tensor).collect();
        let gradients = Tensor::run_backward(&[&mean], &tensors, false, false);
        check_gradients(&case, &named.iter().map(|(name, _)| name.clone()).zip(gradients).collect());

        // The reference has it for the last utterance.
        let ids = rows(case.get("impossible.labels"));
        for (name, zero) in [("impossible.loss", false), ("impossible.loss.zero_infinity", true)] {
            let found: Vec<f64> = (0..scores.frames.len())
                .map(|row| {
                    let logits = scores.logits.narrow(0, row as i64, 1);
                    let frames = [scores.frames[row]];
                    ctc::losses(&logits, &frames, &ids, blank, Reduction::Mean, zero).unwrap().double_value(&[])
                })
                .collect();
            let expected = case.get(name).double_value(&[0]);
            assert!(found.contains(&expected), "{name}: expected {expected}, found {found:?}");
        }
    }
}

/// Rows of a padded matrix of tokens without the padding of -100.
fn rows(labels: &Tensor) -> Vec<Vec<i64>> {
    let all = Vec::<Vec<i64>>::try_from(labels).unwrap();
    all.into_iter().map(|row| row.into_iter().filter(|&token| token >= 0).collect()).collect()
}

#[test]
fn xvector_heads_match() {
    let named = |case: &Value| case["name"].as_str().unwrap().starts_with("xvector_");
    for case in cases("head", |case, _| named(case)) {
        let list = |name: &str| serde_json::from_value(case.options["config_override"][name].clone()).unwrap();
        let spec = HeadSpec::Xvector {
            tdnn_dim: list("tdnn_dim"),
            tdnn_kernel: list("tdnn_kernel"),
            tdnn_dilation: list("tdnn_dilation"),
            output_size: case.options["config_override"]["xvector_output_dim"].as_u64().unwrap() as u32,
            scale: case.number_after("scale"),
            margin: case.number_after("margin"),
            layer_sum: false,
        };
        let speakers = case.get("grad.objective.weight").size()[1] as usize;
        let mut model = model(&case, &spec, speakers);
        let targets = || Targets::Classes(case.get("labels").shallow_clone());
        for (mask, logits, loss) in [(false, "nomask.logits", "nomask.loss"), (true, "mask.logits", "loss")] {
            model.use_attention_mask(mask);
            let scores = model.outputs(&case.batch(), Mode::Train { seed: 1 }).unwrap();
            case.check(logits, &scores.logits);
            let mean = model.head().losses(&scores, &targets()).unwrap().mean(Kind::Float);
            case.check(loss, &mean);
            if mask {
                case.check("mask.embeddings", scores.embeddings.as_ref().unwrap());
                mean.backward();
                let gradients = model.trainable().into_iter().map(|(name, tensor)| (name, tensor.grad()));
                check_gradients(&case, &gradients.collect());
            }
        }
    }
}

#[test]
fn losses_of_several_classes_match() {
    for case in cases("head", |case, _| case["name"] == "multi_label_intent") {
        let sizes: Vec<u32> = serde_json::from_value(case.options["slices"].clone()).unwrap();
        let classes = sizes.iter().sum::<u32>() as usize;
        let spec = HeadSpec::MultiLabel { sizes, projector_size: 4, layer_sum: false };
        let head = Head::new(&spec, &Head::start(&spec, 8, 1, classes, 1).unwrap());
        let logits = case.get("logits").copy().set_requires_grad(true);
        let scores = HeadOutput { logits: logits.shallow_clone(), frames: Vec::new(), embeddings: None };
        let loss = head.losses(&scores, &Targets::Groups(case.get("labels").shallow_clone())).unwrap().mean(Kind::Float);
        case.check("loss", &loss);
        loss.backward();
        case.check("grad.logits", &logits.grad());
        assert_eq!(head.best(&scores).unwrap().size(), case.get("labels").size());
    }
}
