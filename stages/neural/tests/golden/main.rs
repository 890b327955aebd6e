//! The encoder, the head and LoRA against reference numbers of transformers and peft.
//!
//! The numbers lie in the folder that `SURE_GOLDEN` names, `../shared/golden` beside the repository when unset.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test stops at the first surprise and says aloud what it skips")]

mod cepstra;
#[path = "../device/mod.rs"]
mod device;
mod frames;
mod heads;
mod peft;
mod support;

use std::path::Path;

use neural::checkpoint::{EncoderConfig, ModelType, weights};
use neural::device::{choose, open_cuda_library};
use neural::models::Model;
use neural::models::encoder::{Encoder, Input, Point};
use neural::nn::frames::Frames;
use neural::nn::pass::{Mode, Pass};
use neural::peft::Adapters;
use neural_spec::{Finetune, HeadSpec, LastState, Method};
use support::{Case, cases, reads_samples};
use tch::{Kind, Tensor};

use crate::device::device;

#[test]
fn encoders_match_at_every_point() {
    for case in cases("backbone", |_, base| reads_samples(base)) {
        check_encoder(&case, &case.base);
        if case.base.join("pytorch_model.bin").exists() {
            // The same weights under their older names.
            let folder = tempfile::tempdir().unwrap();
            for file in ["config.json", "pytorch_model.bin"] {
                std::fs::copy(case.base.join(file), folder.path().join(file)).unwrap();
            }
            check_encoder(&case, folder.path());
        }
    }
}

fn check_encoder(case: &Case, folder: &Path) {
    let config = EncoderConfig::read(folder).unwrap();
    let weights = weights::read(folder, &config, device()).unwrap();
    let encoder = Encoder::new(&config, &weights, &Adapters::new()).unwrap();
    if let Some(weight) = encoder.position_weight().unwrap() {
        case.check("pos_conv_weight", &weight);
    }
    let (audio, lengths) = case.audio();
    let run = |prefix: &str, input: Input| {
        let mut check = |point: Point, tensor: &Tensor| {
            let name = match point {
                Point::ConvFeatures => "conv_features".to_owned(),
                Point::Projected => "projected".to_owned(),
                Point::Position => "pos_conv".to_owned(),
                Point::PositionBias if prefix == "single" => return,
                Point::PositionBias => return case.check("position_bias", tensor),
                Point::LayerInput(index) => format!("hidden_states.{index}"),
                Point::LastLayer => "layer_out.last".to_owned(),
            };
            let name = format!("{prefix}.{name}");
            if case.names().any(|known| known == name) {
                case.check(&name, tensor);
            }
        };
        let output = encoder.forward(input, &Pass::begin(Mode::Eval), &mut check).unwrap();
        case.check(&format!("{prefix}.last_hidden_state"), &output.last_hidden_state);
    };
    let whole = Input { audio: &audio, num_samples: None, masked: None };
    run("nomask", whole);
    run("mask", Input { num_samples: Some(&lengths), ..whole });
    let masked = case.get("mask_time_indices").to_kind(Kind::Bool);
    run("spec", Input { num_samples: Some(&lengths), masked: Some(&masked), ..whole });
    let alone = audio.narrow(0, lengths.len() as i64 - 1, 1).narrow(1, 0, lengths[lengths.len() - 1]);
    run("single", Input { audio: &alone, ..whole });

    let num_frames = case.get("feature_mask").size()[1];
    if config.model_type == ModelType::Wavlm {
        let buckets = config.buckets();
        let all: Vec<i64> = (0..num_frames).flat_map(|query| (0..num_frames).map(move |key| buckets.of(key - query))).collect();
        assert_eq!(all, Vec::<i64>::try_from(case.get("relative_buckets").flatten(0, -1)).unwrap(), "{}", case.name);
    }
    let counts: Vec<i64> = lengths.iter().map(|&samples| config.num_frames(samples)).collect();
    let frames = Frames::new(&counts, num_frames, device()).unwrap();
    assert_eq!(frames.counts, Vec::<i64>::try_from(case.get("feature_lengths")).unwrap());
    assert_eq!(frames.real.unwrap().to_kind(Kind::Uint8), *case.get("feature_mask"));
}

#[test]
fn classification_heads_match() {
    for case in cases("head", |case, _| case["name"].as_str().unwrap().starts_with("seqcls_")) {
        let head = support::read(&case.folder.join("head.safetensors"));
        let mut model = finetuned(&case, &head);
        check_logits(&case, &mut model);
        if case.names().any(|name| name == "mask.logits.last_before_norm") {
            model.close_mix_with(LastState::BeforeNorm);
            case.check("mask.logits.last_before_norm", &model.forward(&case.batch(), Mode::Eval).unwrap());
            model.close_mix_with(LastState::AfterNorm);
        }
        case.check_training(&model, str::to_owned);
    }
}

/// A model whose encoder is the case's base, all of it trained, with a given head.
pub(crate) fn finetuned(case: &Case, head: &[(String, Tensor)]) -> Model {
    let (spec, num_labels) = head_of(head);
    let mut model = Model::new(&case.base, &Method::Finetune(Finetune::default()), &spec, num_labels, 1, device()).unwrap();
    model.close_mix_with(LastState::AfterNorm); // as the references are computed
    let mut tensors = model.tensors();
    for (name, value) in head {
        tch::no_grad(|| tensors.get_mut(name).unwrap().copy_(value));
    }
    model
}

pub(crate) fn head_of(tensors: &[(String, Tensor)]) -> (HeadSpec, usize) {
    let rows = |name: &str| tensors.iter().find(|(known, _)| known == name).unwrap().1.size()[0];
    let layer_sum = tensors.iter().any(|(name, _)| name == "layer_weights");
    (HeadSpec::Classification { projector_size: rows("projector.weight") as u32, layer_sum }, rows("classifier.weight") as usize)
}

/// Logits without and with an attention mask; leaves it on.
pub(crate) fn check_logits(case: &Case, model: &mut Model) {
    for (name, mask) in [("nomask.logits", false), ("mask.logits", true)] {
        if name == "nomask.logits" && model.config().frames.is_some() {
            continue; // what reads frames is always told which of them are padding
        }
        model.use_attention_mask(mask);
        case.check(name, &model.forward(&case.batch(), Mode::Eval).unwrap());
    }
}
