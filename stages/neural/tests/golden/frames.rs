//! Encoders over feature frames, and the frames that they read, against reference numbers.

use std::path::Path;

use neural::checkpoint::{EncoderConfig, FrameInput, ModelType, safetensors, weights};
use neural::front::Front;
use neural::models::encoder::{Encoder, Input, Point};
use neural::models::{Batch, Model};
use neural::nn::frames::Frames;
use neural::nn::pass::{Mode, Pass};
use neural::peft::Adapters;
use neural_spec::{HeadOnly, HeadSpec, Method};
use tch::{Kind, Tensor};

use crate::device::device;
use crate::support::{Case, cases, reads_frames};

#[test]
fn encoders_over_frames_match_at_every_layer() {
    let all = cases("backbone", |_, base| reads_frames(base));
    assert!(all.len() >= 2, "both families have a case");
    for case in all {
        check_encoder(&case);
    }
}

fn check_encoder(case: &Case) {
    let config = EncoderConfig::read(&case.base).unwrap();
    let weights = weights::read(&case.base, &config, device()).unwrap();
    let encoder = Encoder::new(&config, &weights, &Adapters::new()).unwrap();
    let (frames, lengths) = case.audio();
    let counts: Vec<i64> = lengths.iter().map(|&samples| config.num_frames(samples)).collect();
    let run = |prefix: &str, input: Input| {
        let mut compared = 0;
        let mut check = |name: String, tensor: &Tensor| {
            let name = format!("{prefix}.{name}");
            if !case.has(&name) {
                return;
            }
            // The reference of Whisper was computed clip by clip: where there is nothing, it has zeros.
            let alone = config.model_type == ModelType::Whisper && prefix == "mask";
            let real = Frames::new(&counts, tensor.size()[1], device()).unwrap();
            case.check(&name, &if alone { masked(&real, tensor) } else { tensor.shallow_clone() });
            compared += 1;
        };
        let mut watch = |point: Point, tensor: &Tensor| match point {
            Point::LayerInput(index) => check(format!("hidden_states.{index}"), tensor),
            Point::LastLayer => check("layer_out.last".to_owned(), tensor),
            _ => {}
        };
        let output = encoder.forward(input, &Pass::begin(Mode::Eval), &mut watch).unwrap();
        check("last_hidden_state".to_owned(), &output.last_hidden_state);
        compared
    };
    let whole = Input { audio: &frames, num_samples: Some(&lengths), masked: None };
    assert!(run("mask", whole) > config.num_hidden_layers);
    if case.has("nomask.last_hidden_state") {
        assert!(run("nomask", Input { num_samples: None, ..whole }) > config.num_hidden_layers);
    }
    if case.has("single.last_hidden_state") {
        let last = lengths.len() - 1;
        let alone = frames.narrow(0, last as i64, 1).narrow(1, 0, config.num_input_frames(lengths[last]));
        assert_eq!(run("single", Input { audio: &alone, num_samples: None, masked: None }), 1);
    }
}

fn masked(frames: &Frames, x: &Tensor) -> Tensor {
    match &frames.real {
        Some(real) => x.masked_fill(&real.logical_not().unsqueeze(-1), 0.0),
        None => x.shallow_clone(),
    }
}

#[test]
fn input_frames_match_those_of_the_published_extractors() {
    let all = cases("audio", |case, _| case["name"] == "input_frames");
    let case = all.first().unwrap();
    let [atol, rtol] = ["atol", "rtol"].map(|kind| case.options["tolerance"][kind].as_f64().unwrap());
    let lengths: Vec<String> = case.names().filter_map(|name| name.strip_prefix("samples.")).map(str::to_owned).collect();
    assert!(lengths.len() >= 3);
    let conformer = serde_json::json!({"feature_projection_input_dim": 160, "left_max_position_embeddings": 1,
        "right_max_position_embeddings": 1, "conv_depthwise_kernel_size": 1, "conformer_conv_dropout": 0.0});
    let whisper = |num_mel_bins| FrameInput::Whisper { num_mel_bins, max_positions: 1500 };
    for (name, input) in [
        ("whisper80", whisper(80)),
        ("whisper128", whisper(128)),
        ("w2v_bert", FrameInput::Wav2Vec2Bert(serde_json::from_value(conformer).unwrap())),
    ] {
        for length in &lengths {
            let samples = Vec::<f32>::try_from(case.get(&format!("samples.{length}"))).unwrap();
            let expected = case.get(&format!("{name}.{length}"));
            let found = Tensor::from_slice(&input.compute(&samples)).view([-1, input.width()]).to_device(device());
            assert_eq!(found.size(), expected.size(), "{name}.{length}");
            let allowed = expected.abs() * rtol + atol;
            let worst = ((&found - expected).abs() / allowed).max().double_value(&[]);
            println!("GOLDEN input_frames {name}.{length} {worst:e}"); // read by scripts/golden_table.py
            assert!(worst <= 1.0, "{name}.{length} is off by {worst} of what is allowed");
        }
    }
}

#[test]
fn stored_frames_are_those_that_training_would_compute() {
    for name in FOLDERS {
        let case = backbone(name);
        let front = Front::read(&case.base, device()).unwrap();
        let config = EncoderConfig::read(&case.base).unwrap();
        let samples: Vec<f32> = (0..4_001).map(|at| (at as f32 * 0.2).sin() * 0.1).collect();
        assert_eq!(front.features(&samples).unwrap(), config.frames.unwrap().compute(&samples));
        assert_eq!(front.width() as i64, config.frames.unwrap().width());
    }
}

const FOLDERS: [&str; 2] = ["whisper", "wav2vec2_bert"];

fn backbone(name: &str) -> Case {
    cases("backbone", |case, _| case["name"] == name).into_iter().next().unwrap()
}

fn classes() -> HeadSpec {
    HeadSpec::Classification { projector_size: 6, layer_sum: true }
}

#[test]
fn every_method_trains_is_saved_and_answers_a_clip_as_if_it_were_alone() {
    for (name, method) in FOLDERS.into_iter().flat_map(|name| methods().map(|method| (name, method))) {
        let case = backbone(name);
        let what = format!("{name}, {}", method.name());
        let fresh = |method: &Method| Model::new(&case.base, method, &classes(), 5, 3, device()).unwrap();
        let mut model = fresh(&method);
        model.answer_as_single_clips();
        let (audio, num_samples) = case.audio();
        let labels = Tensor::from_slice(&[0_i64, 3, 4]).to_device(device());
        let batch = Batch { audio, num_samples, labels: None };
        let logits = model.forward(&batch, Mode::Train { seed: 1 }).unwrap();
        let loss = neural::models::heads::classification::loss(&logits, &labels).unwrap();
        model.backward(&loss).unwrap();
        for (tensor, mut value) in model.trainable() {
            assert!(value.grad().defined(), "{what}: no gradient for {tensor}");
            let step = Tensor::randn_like(&value) * 0.1;
            let _ = tch::no_grad(|| value.f_add_(&step)).unwrap();
        }
        let whole = model.forward(&batch, Mode::Eval).unwrap();
        for (row, &samples) in batch.num_samples.iter().enumerate() {
            let frames = model.config().num_input_frames(samples);
            let audio = batch.audio.narrow(0, row as i64, 1).narrow(1, 0, frames);
            let alone = model.forward(&Batch { audio, num_samples: vec![samples], labels: None }, Mode::Eval).unwrap();
            let error = (whole.narrow(0, row as i64, 1) - alone).abs().max().double_value(&[]);
            assert!(error < 2e-5, "{what}: clip {row} differs by {error:e} in a batch");
        }
        let folder = tempfile::tempdir().unwrap();
        let labels: Vec<String> = ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec();
        let written = model.save(folder.path(), &labels).unwrap();
        let mut again = fresh(&method.as_saved());
        again.answer_as_single_clips();
        again.load_trained(folder.path()).unwrap();
        let error = (again.forward(&batch, Mode::Eval).unwrap() - whole).abs().max().double_value(&[]);
        // A PiSSA is saved on the encoder's own weights, which rounds otherwise.
        let allowed = if method == method.as_saved() { 0.0 } else { 1e-5 };
        assert!(error <= allowed, "{what}: saved and read, it is off by {error:e}");
        // What describes the encoder comes back as it was, whatever its family calls the fields.
        let (before, after) = (EncoderConfig::read(&case.base).unwrap(), EncoderConfig::read(&written).unwrap());
        assert_eq!(after.architecture(), before.architecture(), "{what}");
        assert_eq!(after.frames, before.frames, "{what}");
    }
}

fn methods() -> [Method; 12] {
    [
        r#"{"name":"finetune"}"#,
        r#"{"name":"head_only"}"#,
        r#"{"name":"lora","rank":2}"#,
        r#"{"name":"lora","rank":2,"dora":true}"#,
        r#"{"name":"lora","rank":2,"pissa":true}"#,
        r#"{"name":"adalora","rank":2,"init_rank":3}"#,
        r#"{"name":"vera","rank":6}"#,
        r#"{"name":"ia3"}"#,
        r#"{"name":"bitfit","scope":"layers_only"}"#,
        r#"{"name":"bottleneck","places":["attention","feed_forward"]}"#,
        r#"{"name":"prefix","prefix_len":3,"dropout":0.0}"#,
        r#"{"name":"convadapter","reduction":4,"masked":true}"#,
    ]
    .map(|text| serde_json::from_str(text).unwrap())
}

#[test]
fn what_does_not_fit_an_encoder_over_frames_is_named() {
    let case = backbone("whisper");
    let copy = |change: &dyn Fn(&Path)| {
        let folder = tempfile::tempdir().unwrap();
        for file in ["config.json", "preprocessor_config.json", "model.safetensors"] {
            std::fs::copy(case.base.join(file), folder.path().join(file)).unwrap();
        }
        change(folder.path());
        let made = Model::new(folder.path(), &Method::HeadOnly(HeadOnly {}), &classes(), 5, 1, device());
        made.map(|_| ()).unwrap_err().to_string()
    };
    let replace = |folder: &Path, file: &str, [from, to]: [&str; 2]| {
        let path = folder.join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    };
    let error = copy(&|folder| {
        let kept = safetensors::read(&folder.join("model.safetensors"), |name| !name.starts_with("model.encoder.")).unwrap();
        assert!(!kept.is_empty(), "the decoder is there");
        safetensors::write(&folder.join("model.safetensors"), &kept).unwrap();
    });
    assert!(error.contains("no tensor begins with `model.encoder.` or `encoder.`: the encoder is missing"), "{error}");
    let error = copy(&|folder| {
        replace(folder, "config.json", ["\"num_mel_bins\": 6", "\"num_mel_bins\": 7"]);
    });
    assert!(error.contains("feature_size must be 7, as config.json has it, not 6"), "{error}");
    let error = copy(&|folder| {
        replace(folder, "config.json", ["\"num_mel_bins\": 6", "\"num_mel_bins\": 7"]);
        replace(folder, "preprocessor_config.json", ["\"feature_size\": 6", "\"feature_size\": 7"]);
    });
    assert!(error.contains("`conv1.weight` has shape [16, 6, 3], expected [16, 7, 3]"), "{error}");

    let model = Model::new(&case.base, &Method::HeadOnly(HeadOnly {}), &classes(), 5, 1, device()).unwrap();
    let longest = model.config().max_samples().unwrap();
    let audio = Tensor::zeros([1, 42, 6], (Kind::Float, device()));
    let error = model.forward(&Batch { audio, num_samples: vec![longest + 1], labels: None }, Mode::Eval).unwrap_err();
    assert_eq!(error.to_string(), "a clip of 0.4 s is longer than the 0.4 s that this encoder has positions for");
    assert!(error.hint().unwrap().contains("shorter utterances"));
    let audio = Tensor::zeros([1, 6400], (Kind::Float, device()));
    let samples = model.forward(&Batch { audio, num_samples: vec![6400], labels: None }, Mode::Eval);
    assert!(samples.is_err(), "samples are no frames");
}
