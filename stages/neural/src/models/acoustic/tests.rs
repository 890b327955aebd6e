use std::collections::BTreeMap;
use std::path::PathBuf;

use neural_spec::{LossWeights, Method};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::aligner::Aligner;
use super::block::FftBlock;
use super::model::{Acoustic, Target, Text};
use super::postnet::{BatchNormMode, Postnet};
use super::search::{Tie, best_path, durations, prior};
use super::shape::{PostnetShape, PredictorShape, Shape, ValueEntry};
use super::variance::{Controls, Variance, durations as rounded, means, path_matrix};
use crate::nn::frames::Frames;
use crate::nn::pass::{Mode, Pass};
use crate::nn::weights::Weights;
use crate::peft::Adapters;

/// A case of the reference numbers of speech synthesis.
struct Case {
    name: String,
    folder: PathBuf,
    entry: Value,
    tensors: BTreeMap<String, Tensor>,
}

/// Reads a case; none, with a message, where there are no reference numbers.
fn case(dir: &str, name: &str) -> Option<Case> {
    let root = reference::root()?;
    let entry = reference::case(&root, |case| case["name"] == name && case["dir"] == dir);
    let folder = root.join(dir);
    let tensors = Tensor::read_safetensors(folder.join(entry["file"].as_str().unwrap())).unwrap().into_iter().collect();
    Some(Case { name: name.to_owned(), folder, entry, tensors })
}

impl Case {
    fn get(&self, name: &str) -> Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("{}: no tensor {name}", self.name)).shallow_clone()
    }

    /// Tensors whose names begin with `prefix`, under `to` and the rest of their names; floats with a gradient.
    fn weights(&self, prefix: &str, to: &str) -> Weights {
        let named =
            self.tensors.iter().filter_map(|(name, tensor)| Some((format!("{to}{}", name.strip_prefix(prefix)?), tensor)));
        named.map(|(name, tensor)| (name, tensor.copy().set_requires_grad(tensor.is_floating_point()))).collect()
    }

    fn number(&self, key: &str) -> i64 {
        self.entry[key].as_i64().unwrap()
    }

    /// Whole numbers of a tensor without axes but the first.
    fn counts(&self, name: &str) -> Vec<i64> {
        Vec::try_from(self.get(name).to_kind(Kind::Int64).contiguous().view([-1])).unwrap()
    }

    /// The first numbers of every row of a tensor of whole numbers.
    fn rows(&self, name: &str, counts: &[i64]) -> Vec<Vec<i64>> {
        let row = |(at, &count): (usize, &i64)| {
            Vec::<i64>::try_from(self.get(name).get(at as i64).narrow(0, 0, count).contiguous()).unwrap()
        };
        counts.iter().enumerate().map(row).collect()
    }

    /// Compares shape and values within the tolerance of the case, which is relative to the largest value.
    #[track_caller]
    fn check(&self, name: &str, found: &Tensor) {
        let expected = self.get(name).to_kind(Kind::Double);
        let found = found.detach().to_kind(Kind::Double);
        let found = if found.dim() == 0 { found.unsqueeze(0) } else { found };
        assert_eq!(found.size(), expected.size(), "{}: shape of {name}", self.name);
        let scale = expected.abs().max().double_value(&[]).max(1.0);
        let error = (&found - &expected).abs().max().double_value(&[]) / scale;
        let allowed = self.entry["tolerance"]["scaled"].as_f64().unwrap_or(1e-9);
        println!("GOLDEN {} {name} {:e}", self.name, error / allowed);
        assert!(error <= allowed, "{}: {name} is off by {error:e}, allowed {allowed:e}", self.name);
    }

    /// Compares the gradients of all of `weights` that the case has, under `prefix` and the rest of their names; returns how many.
    #[track_caller]
    fn check_gradients(&self, prefix: &str, weights: &Weights, from: &str) -> usize {
        let mut compared = 0;
        for (name, tensor) in weights {
            let expected = format!("{prefix}{}", name.strip_prefix(from).unwrap());
            if self.tensors.contains_key(&expected) {
                let gradient = tensor.grad();
                self.check(&expected, &if gradient.defined() { gradient } else { tensor.zeros_like() });
                compared += 1;
            }
        }
        compared
    }

    fn names(&self, prefix: &str) -> usize {
        self.tensors.keys().filter(|name| name.starts_with(prefix)).count()
    }

    /// The number behind some words of the description.
    fn number_after(&self, words: &str) -> f64 {
        let rest = self.entry["what"].as_str().unwrap().split(words).nth(1);
        let rest = rest.unwrap_or_else(|| panic!("{}: no `{words}` in its description", self.name));
        rest.trim_start().split([' ', ',', ')']).next().unwrap().parse().unwrap()
    }
}

fn frames(counts: &[i64], length: i64) -> Frames {
    Frames::new(counts, length, Device::Cpu).unwrap()
}

fn train() -> Pass {
    Pass::begin(Mode::Train { seed: 1 })
}

fn small() -> Shape {
    Shape {
        num_symbols: 9,
        num_speakers: 2,
        num_mel_bins: 6,
        hidden: 8,
        heads: 2,
        encoder_layers: 1,
        decoder_layers: 2,
        filter: 12,
        kernels: [5, 1],
        dropout: 0.1,
        predictor: PredictorShape { filter: 8, kernel: 3, dropout: 0.3 },
        values: ValueEntry::Convolution { kernel: 3 },
        predictor_gradient: 0.1,
        energy_after_pitch: false,
        least_frames: 1,
        postnet: PostnetShape { layers: 3, channels: 7, kernel: 5, dropout: 0.2 },
        projection_bias: true,
        aligner: true,
        published: false,
    }
}

#[test]
fn paths_are_those_of_the_published_search() {
    let Some(case) = case("tts", "mas") else { return };
    let values = |name: &str| Vec::<f32>::try_from(case.get(name).contiguous().view([-1])).unwrap();
    let path = |name: &str, tie| {
        let shape = case.get(name).size();
        best_path(&values(name), shape[0] as usize, shape[1] as usize, tie).unwrap()
    };
    let whole = |path: &[usize]| Tensor::from_slice(&path.iter().map(|&at| at as i64).collect::<Vec<_>>());
    let matrices = case.tensors.keys().filter(|name| name.ends_with(".log_probs") && !name.starts_with("ties")).count();
    assert!(matrices > 0);
    for at in 0..matrices {
        let name = format!("{at}.log_probs");
        let found = path(&name, Tie::Keep);
        case.check(&format!("{at}.path"), &whole(&found));
        let positions = case.get(&name).size()[1] as usize;
        case.check(&format!("{at}.durations"), &Tensor::from_slice(&durations(&found, positions)));
        let score = found.iter().enumerate().map(|(t, p)| f64::from(values(&name)[t * positions + p])).sum::<f64>();
        case.check(&format!("{at}.score"), &Tensor::from(score));
    }
    case.check("ties.keep.path", &whole(&path("ties.log_probs", Tie::Keep)));
    case.check("ties.advance.path", &whole(&path("ties.log_probs", Tie::Advance)));
}

#[test]
fn alignments_and_their_losses_match() {
    let Some(case) = case("tts", "alignment") else { return };
    let shape = case.get("prior").size();
    let found = prior(shape[0] as usize, shape[1] as usize);
    case.check("prior", &Tensor::from_slice(&found).view(shape.as_slice()));
    let logits = case.get("attention_logits").copy().set_requires_grad(true);
    let flat = logits.squeeze_dim(1);
    let (positions, frames) = (frames(&[shape[1]], shape[1]), frames(&[shape[0]], shape[0]));
    let loss = super::aligner::forward_sum(&flat, &positions, &frames).unwrap();
    case.check("forward_sum_loss", &loss);
    loss.backward();
    case.check("grad.attention_logits", &logits.grad());
    let log_probabilities = flat.log_softmax(-1, Kind::Float);
    let path = super::aligner::paths(&log_probabilities, &positions, &frames, Tie::Keep).unwrap().remove(0);
    case.check("hard_path", &Tensor::from_slice(&path.iter().map(|&at| at as i64).collect::<Vec<_>>()));
    case.check("durations", &Tensor::from_slice(&durations(&path, shape[1] as usize)));
}

#[test]
fn the_aligner_matches_the_published_one_without_its_padding() {
    let Some(case) = case("tts", "aligner") else { return };
    let weights = case.weights("param.", "");
    let inputs = ["text", "mel", "speaker"].map(|name| case.get(name).copy().set_requires_grad(true));
    let [text, mel, speaker] = &inputs;
    let positions = frames(&case.counts("text_lengths"), text.size()[1]);
    let real = frames(&case.counts("mel_lengths"), mel.size()[1]);
    let prior = case.get("prior");
    for (leaks, prefix) in [(true, "published."), (false, "")] {
        let aligner = Aligner::new(&weights, "", leaks);
        let alignment = aligner.align([text, mel, speaker], &positions, &real, &prior).unwrap();
        let counts = case.counts("text_lengths");
        let found: Vec<Vec<i64>> =
            alignment.paths.iter().zip(&counts).map(|(path, &count)| durations(path, count as usize)).collect();
        let (path, _) = path_matrix(&found, text.size()[1], Device::Cpu).unwrap();
        let binarisation = alignment.binarisation(&path).unwrap();
        case.check(&format!("{prefix}forward_sum"), &alignment.forward_sum);
        case.check(&format!("{prefix}binarisation"), &binarisation);
        if leaks {
            continue;
        }
        assert_eq!(found, case.rows("durations", &counts));
        case.check("distance", &aligner.distance([text, mel, speaker], &positions, &real).unwrap());
        // Positions of padding are 0 in the file, and frames of padding where they are probabilities.
        let dead = positions.real.as_ref().unwrap().unsqueeze(1).logical_not();
        case.check("logits", &alignment.logits.masked_fill(&dead, 0.0));
        case.check("soft", &real.zero_padding(&alignment.log_probabilities.exp()).unwrap());
        (alignment.forward_sum + binarisation).backward();
        case.check_gradients("grad.", &weights, "");
        for (name, tensor) in ["text", "mel", "speaker"].iter().zip(&inputs) {
            case.check(&format!("grad.{name}"), &tensor.grad());
        }
    }
}

/// Adapters of a method whose tensors are those of a case. Names of the case begin with `from`, those of modules with `to`.
fn adapters(case: &Case, method: &str, from: &str, to: &str, architecture: neural_spec::Architecture) -> (Adapters, Weights) {
    let mut tensors = case.weights(from, to);
    let rows = |end: &str| tensors.iter().find(|(name, _)| name.ends_with(end)).unwrap().1.size()[0];
    let method = match method {
        "bottleneck" => serde_json::json!({"name": "bottleneck", "bottleneck_dim": rows("adapter_down.0.weight")}),
        // The reference's factor is 1 / rank.
        "lora" => serde_json::json!({"name": "lora", "rank": rows("lora_A"), "alpha": 1.0, "targets": ["q_proj", "v_proj"]}),
        "conv" => serde_json::json!({
            "name": "convadapter", "masked": case.name.starts_with("model"), "bottleneck_dim": rows("conv2.weight"),
            "reduction": i64::from(architecture.sites[0].size_in) / rows("se3.fc.0.weight"),
        }),
        "prefix" => {
            let rows = tensors.values().next().unwrap().size()[1];
            serde_json::json!({"name": "prefix", "prefix_len": rows, "dropout": 0.0})
        }
        _ => return (Adapters::new(), Weights::new()),
    };
    let method: Method = serde_json::from_value(method).unwrap();
    let named: Weights = if matches!(method, Method::Prefix(_)) {
        prefix_tables(&tensors, &architecture)
    } else {
        // Ours end with `.weight`, as those of peft do.
        let name = |name: &str| {
            if name.ends_with("lora_A") || name.ends_with("lora_B") { format!("{name}.weight") } else { name.to_owned() }
        };
        tensors = tensors.into_iter().map(|(key, tensor)| (name(&key), tensor)).collect();
        tensors.iter().map(|(key, tensor)| (key.clone(), tensor.shallow_clone())).collect()
    };
    (Adapters::of(&method, architecture, named), tensors)
}

/// Tables of a prefix from the keys and values (heads, P, D) of every layer: row p holds those of all layers of a stack.
fn prefix_tables(tensors: &Weights, architecture: &neural_spec::Architecture) -> Weights {
    let stack = |stack: &neural_spec::Stack| {
        let part = |layer: u32, part: &str| {
            let tensor = &tensors[&format!("{}{layer}.prefix.{part}", stack.prefix)];
            tensor.permute([1, 0, 2]).reshape([tensor.size()[1], -1]) // (P, H)
        };
        let parts: Vec<Tensor> = (0..stack.num_layers).flat_map(|layer| [part(layer, "key"), part(layer, "value")]).collect();
        (format!("{}.embedding.weight", stack.prefix_table), Tensor::cat(&parts, 1))
    };
    architecture.stacks.iter().filter(|stack| stack.num_layers > 0).map(stack).collect()
}

#[test]
fn a_layer_matches_with_every_method() {
    for method in ["none", "bottleneck", "conv", "lora", "prefix"] {
        let Some(case) = case("tts", &format!("fft_block_{method}")) else { return };
        let layer = "encoder.layer_stack.0";
        let weights = case.weights("param.", &format!("{layer}."));
        let input = case.get("input").copy().set_requires_grad(true);
        let hidden = input.size()[2] as u32;
        let architecture = neural_spec::Architecture::acoustic(hidden, [1, 0]);
        let (adapters, added) = adapters(&case, method, "adapter.", &format!("{layer}."), architecture);
        let block = FftBlock::new(&weights, layer, case.number("heads"), 0.0, &adapters).unwrap();
        let real = case.get("padding").logical_not().to_kind(Kind::Int64);
        let counts = Vec::<i64>::try_from(real.sum_dim_intlist(1, false, Kind::Int64)).unwrap();
        let prefixes = adapters.prefix(0).map(|prefix| prefix.unroll().unwrap());
        let prefix = prefixes.as_ref().and_then(|prefixes| prefixes.get(&0));
        let output = block.forward(&input, &frames(&counts, input.size()[1]), prefix, &train()).unwrap();
        case.check("output", &output);
        let loss = (output * case.get("output_weights")).sum(Kind::Float);
        case.check("loss", &loss);
        loss.backward();
        case.check("grad.input", &input.grad());
        let renamed: Weights = added
            .into_iter()
            .map(|(name, tensor)| (name.replace("lora_A.weight", "lora_A").replace("lora_B.weight", "lora_B"), tensor))
            .collect();
        assert_eq!(case.check_gradients("grad.", &renamed, &format!("{layer}.")), case.names("grad.") - 1, "{method}");
    }
}

#[test]
fn positions_are_repeated_by_their_durations() {
    let Some(case) = case("tts", "length_regulator") else { return };
    let input = case.get("input");
    let counts = vec![input.size()[1]; input.size()[0] as usize];
    let (path, frames) = path_matrix(&case.rows("durations", &counts), input.size()[1], Device::Cpu).unwrap();
    case.check("output", &path.bmm(&input));
    assert_eq!(frames.counts, case.counts("lengths"));
}

#[test]
fn durations_pitch_and_energy_match() {
    for name in ["variance_conv", "variance_bins"] {
        let Some(case) = case("tts", name) else { return };
        let mut weights = case.weights("param.", "");
        let values = match case.entry["embedding"].as_str().unwrap() {
            "bins" => {
                for value in ["pitch_bins", "energy_bins"] {
                    weights.insert(value.to_owned(), case.get("bins"));
                }
                ValueEntry::Bins { count: case.get("bins").size()[0] + 1 }
            }
            _ => ValueEntry::Convolution { kernel: case.number("kernel") },
        };
        let predictor = PredictorShape { dropout: 0.0, ..small().predictor };
        let predictor_gradient = case.entry["predictor_grad"].as_f64().unwrap();
        let variance = Variance::new(&weights, "", &Shape { predictor, values, predictor_gradient, ..small() });
        let input = case.get("input").copy().set_requires_grad(true);
        let counts = case.counts("text_lengths");
        let positions = frames(&counts, input.size()[1]);
        let given = case.rows("durations", &counts);
        let (path, real) = path_matrix(&given, input.size()[1], Device::Cpu).unwrap();
        assert_eq!(real.counts, case.counts("output_lengths"));
        let (f0, energy) = (case.get("f0_frames"), case.get("energy_frames"));
        let pitch_target = means(&path, &f0, &f0.ne(0.0).to_kind(Kind::Float)).unwrap();
        let energy_target = means(&path, &energy, &energy.ones_like()).unwrap();
        case.check("pitch_target", &pitch_target);
        case.check("energy_target", &energy_target);
        let (x, predicted) = variance.teach(&input, [&pitch_target, &energy_target], &positions, &train()).unwrap();
        let output = path.bmm(&x);
        case.check("output", &output);
        for (name, found) in
            [("log_durations", &predicted.log_durations), ("pitch", &predicted.pitch), ("energy", &predicted.energy)]
        {
            case.check(name, found);
        }
        let squared = |found: &Tensor, wanted: &Tensor| super::model::squared_error(found, wanted, &positions).unwrap();
        let duration = squared(&predicted.log_durations, &case.get("durations").to_kind(Kind::Float).log1p());
        let (pitch, energy) = (squared(&predicted.pitch, &pitch_target), squared(&predicted.energy, &energy_target));
        case.check("loss.duration", &duration);
        case.check("loss.pitch", &pitch);
        case.check("loss.energy", &energy);
        let loss = (output * case.get("output_weights")).sum(Kind::Float) / 10.0 + duration + pitch + energy;
        case.check("loss", &loss);
        loss.backward();
        case.check("grad.input", &input.grad());
        assert_eq!(case.check_gradients("grad.", &weights, ""), case.names("grad.") - 1);

        // The reference moves the pitch up by 0.5 and the energy down by 0.25, at two thirds of the pace.
        let controlled = Controls { pace: 1.5, pitch: 0.5, energy: -0.25, ..Controls::default() };
        for (mode, controls) in [("plain", Controls::default()), ("controlled", controlled)] {
            let (x, predicted) = variance.predict(&input, &controls, &positions, &Pass::begin(Mode::Eval)).unwrap();
            let found = rounded(&predicted.log_durations, controls.pace, &positions, 0).unwrap();
            assert_eq!(found, case.rows(&format!("infer.{mode}.durations"), &counts));
            let (path, _) = path_matrix(&found, input.size()[1], Device::Cpu).unwrap();
            case.check(&format!("infer.{mode}.output"), &path.bmm(&x));
        }
    }
}

#[test]
fn the_post_net_matches_with_and_without_its_padding() {
    for name in ["postnet_masked", "postnet"] {
        let Some(case) = case("tts", name) else { return };
        let length = case.get("input").size()[1];
        let counts = if name == "postnet" { vec![length; case.get("input").size()[0] as usize] } else { case.counts("lengths") };
        let real = frames(&counts, length);
        for (mode, statistics) in [("eval", BatchNormMode::Running), ("train", BatchNormMode::Batch)] {
            let mut weights = case.weights("param.", "");
            for (name, tensor) in &mut weights {
                if name.contains("running") {
                    *tensor = tensor.detach();
                }
            }
            let layers = weights.keys().filter(|name| name.ends_with("conv.weight")).count();
            let input = case.get("input").copy().set_requires_grad(true);
            let postnet = Postnet::new(&weights, "", layers, 0.0);
            let output = postnet.forward(&input, &real, statistics, &train()).unwrap();
            case.check(&format!("{mode}.output"), &output);
            (output * case.get("output_weights")).sum(Kind::Float).backward();
            case.check(&format!("{mode}.grad.input"), &input.grad());
            let prefix = format!("{mode}.grad.");
            assert_eq!(case.check_gradients(&prefix, &weights, ""), case.names(&prefix) - 1);
            for (name, tensor) in weights.iter().filter(|(name, _)| name.contains("running")) {
                let expected = if mode == "train" { format!("after.{name}") } else { format!("param.{name}") };
                case.check(&expected, tensor);
            }
        }
    }
}

/// The published checkpoint of the cases of whole models, and its sizes.
fn checkpoint(case: &Case) -> (Weights, Shape) {
    let path = case.folder.join("checkpoint.safetensors");
    let tensors: Weights = Tensor::read_safetensors(&path).unwrap().into_iter().collect();
    let (weights, mut shape) = super::published::from_tensors(&path, tensors, case.number("heads")).unwrap();
    (shape.dropout, shape.predictor.dropout, shape.postnet.dropout) = (0.0, 0.0, 0.0);
    (weights, shape)
}

#[test]
fn whole_models_match_the_published_code() {
    for method in ["none", "bottleneck", "conv", "lora", "prefix"] {
        let Some(case) = case("tts/model", &format!("model_{method}")) else { return };
        let (mut weights, shape) = checkpoint(&case);
        let frozen = method != "none";
        for (name, tensor) in &mut weights {
            let statistic = name.contains("running") || name.ends_with("_bins");
            let trained = !statistic && (!frozen || name == "speaker_emb.weight");
            *tensor = tensor.copy().set_requires_grad(trained);
        }
        let (adapters, added) = adapters(&case, method, "adapter.", "", shape.architecture());
        let model = Acoustic::new(&weights, &shape, adapters).unwrap();
        let text = Text { symbols: case.get("tokens"), counts: case.counts("token_lengths"), speakers: case.get("speaker") };
        let durations = case.rows("durations", &text.counts);
        let statistics = if frozen { BatchNormMode::Running } else { BatchNormMode::Batch };
        let targets = [case.get("pitch_target"), case.get("energy_target")];
        let taught = model.teach(&text, &durations, [&targets[0], &targets[1]], statistics, &train()).unwrap();
        assert_eq!(taught.frames.counts, case.counts("mel_lengths"));
        case.check("train.mel_before", &taught.before);
        case.check("train.mel_after", &taught.after);
        let predicted = &taught.predicted;
        for (name, found) in
            [("log_durations", &predicted.log_durations), ("pitch", &predicted.pitch), ("energy", &predicted.energy)]
        {
            case.check(&format!("train.{name}"), found);
        }
        let positions = frames(&text.counts, text.symbols.size()[1]);
        let mel = case.get("mel");
        let absolute = |found: &Tensor| super::model::absolute_error(found, &mel, &taught.frames).unwrap();
        let squared = |found: &Tensor, wanted: &Tensor| super::model::squared_error(found, wanted, &positions).unwrap();
        let losses = [
            ("mel", absolute(&taught.before)),
            ("postnet_mel", absolute(&taught.after)),
            ("pitch", squared(&predicted.pitch, &targets[0])),
            ("energy", squared(&predicted.energy, &targets[1])),
            ("duration", squared(&predicted.log_durations, &case.get("durations").to_kind(Kind::Float).log1p())),
        ];
        for (name, loss) in &losses {
            case.check(&format!("loss.{name}"), loss);
        }
        let total = losses.iter().map(|(_, loss)| loss.shallow_clone()).reduce(|a, b| a + b).unwrap();
        case.check("loss.total", &total);
        total.backward();

        let plain = |name: &str| name.replace("lora_A.weight", "lora_A").replace("lora_B.weight", "lora_B");
        let mut trained: Weights = added.into_iter().map(|(name, tensor)| (plain(&name), tensor)).collect();
        trained.extend(
            weights
                .iter()
                .filter(|(_, tensor)| tensor.requires_grad())
                .map(|(name, tensor)| (name.clone(), tensor.shallow_clone())),
        );
        assert_eq!(case.check_gradients("grad.", &trained, ""), case.names("grad."), "{method}");
        let squares = trained
            .values()
            .filter(|tensor| tensor.grad().defined())
            .map(|tensor| tensor.grad().square().sum(Kind::Double).double_value(&[]));
        let norm = squares.sum::<f64>().sqrt();
        case.check("grad_norm", &Tensor::from(norm));
        let clip = (case.number_after("clipped to norm") / norm).min(1.0);
        let (rate, epsilon) = (case.number_after("Adam step (lr"), case.number_after("eps"));
        for (name, tensor) in &trained {
            let expected = format!("after_step.{name}");
            if case.tensors.contains_key(&expected) {
                // The first step of Adam in closed form: both bias corrections cancel.
                let gradient = tensor.grad() * clip;
                case.check(&expected, &(tensor.detach() - &gradient / (gradient.abs() + epsilon) * rate));
            }
        }
        for (name, tensor) in weights.iter().filter(|(name, _)| case.tensors.contains_key(&format!("after.{name}"))) {
            case.check(&format!("after.{name}"), tensor);
        }
    }
}

#[test]
fn a_batch_of_texts_gives_what_its_texts_give_alone() {
    for method in ["none", "bottleneck", "conv", "lora", "prefix"] {
        let Some(case) = case("tts/model", &format!("model_{method}")) else { return };
        let (weights, shape) = checkpoint(&case);
        let (adapters, _) = adapters(&case, method, "adapter.", "", shape.architecture());
        let model = Acoustic::new(&weights, &shape, adapters).unwrap();
        let alone = (0..).map(|at| format!("alone.{at}.tokens"));
        let texts: Vec<Vec<i64>> =
            alone.take_while(|name| case.tensors.contains_key(name)).map(|name| case.counts(&name)).collect();
        assert!(!texts.is_empty());
        let longest = texts.iter().map(Vec::len).max().unwrap();
        let padded: Vec<i64> =
            texts.iter().flat_map(|text| text.iter().copied().chain(std::iter::repeat(0)).take(longest)).collect();
        let text = Text {
            symbols: Tensor::from_slice(&padded).view([texts.len() as i64, -1]),
            counts: texts.iter().map(|text| text.len() as i64).collect(),
            speakers: Tensor::arange(texts.len() as i64, (Kind::Int64, Device::Cpu)),
        };
        for (at, spoken) in model.speak(&text, &Controls::default()).unwrap().into_iter().enumerate() {
            assert_eq!(spoken.durations, case.counts(&format!("alone.{at}.durations")));
            case.check(&format!("alone.{at}.mel_after"), &spoken.mel);
            case.check(&format!("alone.{at}.pitch"), &Tensor::from_slice(&spoken.pitch));
            case.check(&format!("alone.{at}.energy"), &Tensor::from_slice(&spoken.energy));
        }
    }
}

#[test]
fn published_checkpoints_are_read_and_other_models_refused() {
    let Some(case) = case("tts/model", "model_none") else { return };
    let (weights, shape) = checkpoint(&case);
    let (read, found) = super::published::read(&case.folder.join("900000.pth.tar"), case.number("heads")).unwrap();
    assert_eq!(
        (found.hidden, found.encoder_layers, found.decoder_layers),
        (shape.hidden, shape.encoder_layers, shape.decoder_layers)
    );
    assert_eq!(read.len(), weights.len());
    for (name, tensor) in &weights {
        assert_eq!(read[name], *tensor, "{name}");
    }
    let copy = || -> Weights { weights.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect() };
    let refused = |name: &str| {
        let mut tensors = copy();
        tensors.insert(name.to_owned(), Tensor::zeros([1], (Kind::Float, Device::Cpu)));
        super::published::from_tensors(&case.folder, tensors, case.number("heads")).unwrap_err().to_string()
    };
    assert!(refused("variance_adaptor.cwt_predictor.linear.weight").contains("continuous wavelet transform"));
    assert!(refused("encoder.layers.0.op.self_attn.in_proj_weight").contains("`transformer_fs2`"));
    assert!(refused("head.weight").contains("`head.weight` is unexpected"));
    let mut few = copy();
    few.remove("mel_linear.bias");
    let error = super::published::from_tensors(&case.folder, few, case.number("heads")).unwrap_err().to_string();
    assert!(error.contains("`mel_linear.bias` is missing"), "{error}");
    // CTTS: names with `linear`, no biases.
    let renamed = copy().into_iter().filter_map(|(name, tensor)| {
        let projection = name.contains("slf_attn.w_") || name.contains("slf_attn.fc");
        if projection && name.ends_with(".bias") {
            return None;
        }
        Some((if projection { name.replace(".weight", ".linear.weight") } else { name }, tensor))
    });
    let (_, found) = super::published::from_tensors(&case.folder, renamed.collect(), case.number("heads")).unwrap();
    assert!(!found.projection_bias && !found.aligner);
}

/// A batch of two utterances of different lengths, random but the same every time.
fn utterances() -> (Text, Target) {
    let mut rng = crate::nn::random::Rng::new(7);
    let mut draw = |count: usize| (0..count).map(|_| rng.normal() as f32).collect::<Vec<_>>();
    let mel = Tensor::from_slice(&draw(2 * 20 * 6)).view([2, 20, 6]);
    let (pitch, energy) = (draw(40), draw(40));
    let text = Text {
        symbols: Tensor::from_slice(&[1_i64, 3, 4, 5, 1, 1, 6, 1, 0, 0]).view([2, 5]),
        counts: vec![5, 3],
        speakers: Tensor::from_slice(&[0_i64, 1]),
    };
    let (pitch, energy) = (Tensor::from_slice(&pitch).view([2, 20]), Tensor::from_slice(&energy).view([2, 20]));
    (text, Target { mel, frames: vec![20, 12], pitch, energy, durations: None, prior: None })
}

#[test]
fn training_lowers_the_loss_and_aligns_by_itself() {
    let shape = Shape { dropout: 0.0, predictor: PredictorShape { dropout: 0.0, ..small().predictor }, ..small() };
    let mut weights = super::start(&shape, 3, Device::Cpu).unwrap();
    for parameter in super::parameters(&shape).iter().filter(|parameter| parameter.trained) {
        let tensor = weights.remove(&parameter.name).unwrap();
        weights.insert(parameter.name.clone(), tensor.set_requires_grad(true));
    }
    let model = Acoustic::new(&weights, &shape, Adapters::new()).unwrap();
    let (text, target) = utterances();
    let mut losses = Vec::new();
    for step in 0..60 {
        let trained = model.train(&text, &target, BatchNormMode::Batch, Mode::Train { seed: step }).unwrap();
        let frames: Vec<i64> = trained.durations.iter().map(|own| own.iter().sum()).collect();
        assert_eq!(frames, target.frames);
        assert_eq!(trained.path_log_probabilities.unwrap().len(), 2);
        let loss = trained.losses.total(&LossWeights::default(), 1.0).unwrap();
        losses.push(loss.double_value(&[]));
        loss.backward();
        tch::no_grad(|| {
            for tensor in weights.values_mut().filter(|tensor| tensor.requires_grad() && tensor.grad().defined()) {
                let step = tensor.grad() * 0.02;
                let _ = tensor.f_sub_(&step).unwrap();
                tensor.zero_grad();
            }
        });
    }
    assert!(losses[59] < 0.8 * losses[0], "{losses:?}");
}

#[test]
fn a_frozen_model_keeps_its_statistics_and_new_adapters_count_as_specified() {
    let (text, target) = utterances();
    let shape = small();
    let weights = super::start(&shape, 3, Device::Cpu).unwrap();
    let before: Weights = weights.iter().map(|(name, tensor)| (name.clone(), tensor.copy())).collect();
    let method: Method =
        serde_json::from_value(serde_json::json!({"name": "lora", "rank": 2, "targets": ["q_proj", "v_proj"]})).unwrap();
    let adapters = Adapters::start(&method, shape.architecture(), &weights, 5, Device::Cpu).unwrap();
    let model = Acoustic::new(&weights, &shape, adapters).unwrap();
    let trained = model.train(&text, &target, BatchNormMode::Running, Mode::Train { seed: 1 }).unwrap();
    trained.losses.total(&LossWeights::default(), 0.0).unwrap().backward();
    for (name, tensor) in &weights {
        assert_eq!(*tensor, before[name], "{name}");
    }
}

/// Counts of the published size of SURE, and of the small model of the digits.
#[test]
fn methods_add_the_published_number_of_parameters() {
    let count = |method: Value, hidden: u32, layers: [u32; 2]| {
        let method: Method = serde_json::from_value(method).unwrap();
        let added = method.added(&neural_spec::Architecture::acoustic(hidden, layers)).unwrap();
        added.iter().map(|tensor| tensor.shape.iter().product::<u32>()).sum::<u32>()
    };
    for (method, sure, digits) in [
        (serde_json::json!({"name": "bottleneck"}), 659_200, 46_800),
        (serde_json::json!({"name": "convadapter"}), 108_800, 10_800),
        (serde_json::json!({"name": "lora", "rank": 8, "alpha": 1.0, "targets": ["q_proj", "v_proj"]}), 81_920, 15_360),
        (serde_json::json!({"name": "prefix", "prefix_len": 30}), 153_600, 28_800),
    ] {
        assert_eq!(count(method.clone(), 256, [4, 6]), sure, "{method}");
        assert_eq!(count(method.clone(), 96, [2, 3]), digits, "{method}");
    }
}
