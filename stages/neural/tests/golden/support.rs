//! Cases of the reference numbers: read from `manifest.json`, compared within the tolerance it states.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use neural::checkpoint::EncoderConfig;
use neural::models::{Batch, Model};
use neural::nn::pass::Mode;
use serde_json::Value;
use tch::{Kind, Tensor};

use crate::device::{device, slack};

pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    pub(crate) base: PathBuf,
    pub(crate) options: Value,
    tensors: BTreeMap<String, Tensor>,
}

/// Sets of reference numbers of the repository.
const OWN: [&str; 3] = ["encoders", "frames", "adapters"];

/// Folders of reference numbers: those of the repository, and the one that `SURE_GOLDEN` names where there is one.
fn roots() -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    OWN.map(|name| own.join(name)).into_iter().chain(reference::root()).collect()
}

/// Cases of a folder.
pub(crate) fn manifest(root: &Path) -> Vec<Value> {
    let manifest: Value = serde_json::from_slice(&std::fs::read(root.join("manifest.json")).unwrap()).unwrap();
    manifest["cases"].as_array().unwrap().clone()
}

/// The number behind a word of the description of a case: `lr 1e-2, betas 0.9 0.999, eps 1e-3`.
pub(crate) fn find_number(case: &Value, word: &str) -> Option<f64> {
    let words: Vec<&str> = case["what"].as_str()?.split([' ', ',', ';', '(', ')', ':']).filter(|word| !word.is_empty()).collect();
    let wanted: Vec<&str> = word.split(' ').collect();
    let at = words.windows(wanted.len()).position(|found| found == wanted)?;
    words.get(at + wanted.len())?.parse().ok()
}

/// Cases of a kind that `wanted` accepts, given the case and the folder of its backbone.
pub(crate) fn cases(kind: &str, wanted: impl Fn(&Value, &Path) -> bool) -> Vec<Case> {
    let roots = roots();
    let mut found = Vec::new();
    for root in &roots {
        for options in manifest(root).iter().filter(|case| case["kind"] == kind) {
            let folder = root.join(options["dir"].as_str().unwrap());
            let base = options["base"].as_str().map_or_else(|| folder.clone(), |base| root.join(base));
            if wanted(options, &base) {
                let tensors = read(&folder.join("golden.safetensors")).into_iter().collect();
                let name = options["name"].as_str().unwrap().to_owned();
                found.push(Case { name, folder, base, options: options.clone(), tensors });
            }
        }
    }
    assert!(roots.len() == OWN.len() || !found.is_empty(), "no case of kind {kind} in the manifest");
    found
}

/// The tensors of a file, on the device that computes.
pub(crate) fn read(file: &Path) -> Vec<(String, Tensor)> {
    let tensors = Tensor::read_safetensors(file).unwrap();
    tensors.into_iter().map(|(name, tensor)| (name, tensor.to_device(device()))).collect()
}

/// True if a checkpoint folder holds an encoder over samples.
pub(crate) fn reads_samples(base: &Path) -> bool {
    EncoderConfig::read(base).is_ok_and(|config| config.frames.is_none())
}

/// True if a checkpoint folder holds an encoder over feature frames.
pub(crate) fn reads_frames(base: &Path) -> bool {
    EncoderConfig::read(base).is_ok_and(|config| config.frames.is_some())
}

impl Case {
    pub(crate) fn get(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("{}: no tensor {name}", self.name))
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// See [`find_number`]; a panic without one.
    pub(crate) fn number_after(&self, word: &str) -> f64 {
        self.find_number(word).unwrap_or_else(|| panic!("{}: no number behind `{word}`", self.name))
    }

    /// As [`Self::number_after`]; none where the description has no such word.
    pub(crate) fn find_number(&self, word: &str) -> Option<f64> {
        find_number(&self.options, word)
    }

    /// Compares shape and values within the case's tolerance, which is relative to the largest value.
    #[track_caller]
    #[expect(clippy::print_stdout, reason = "scripts/golden_table.py reads how far each tensor is off")]
    pub(crate) fn check(&self, name: &str, found: &Tensor) {
        let expected = self.get(name).to_kind(Kind::Double);
        let found = found.detach().to_device(device()).to_kind(Kind::Double);
        let found = if found.dim() == 0 { found.unsqueeze(0) } else { found };
        assert_eq!(found.size(), expected.size(), "{}: shape of {name}", self.name);
        let scale = expected.abs().max().double_value(&[]).max(1.0);
        let error = (&found - &expected).abs().max().double_value(&[]) / scale;
        let allowed = self.options["tolerance"]["scaled"].as_f64().unwrap() * slack();
        println!("GOLDEN {} {name} {:e}", self.name, error / allowed);
        assert!(error <= allowed, "{}: {name} is off by {error:e}, allowed {allowed:e}", self.name);
    }

    /// The backbone's own batch: audio, or feature frames, and the samples of each utterance.
    pub(crate) fn audio(&self) -> (Tensor, Vec<i64>) {
        let tensors: BTreeMap<String, Tensor> = read(&self.base.join("golden.safetensors")).into_iter().collect();
        let lengths = tensors["attention_mask"].sum_dim_intlist(1, false, Kind::Int64);
        if let Some(frames) = tensors.get("input_features") {
            let config = EncoderConfig::read(&self.base).unwrap();
            // The fewest samples of which so many frames are made.
            let samples = |frames: &i64| (1..1 << 30).find(|&samples| config.num_input_frames(samples) == *frames).unwrap();
            let lengths = Vec::<i64>::try_from(lengths).unwrap();
            return (frames.shallow_clone(), lengths.iter().map(samples).collect());
        }
        (tensors["input_values"].shallow_clone(), Vec::try_from(lengths).unwrap())
    }

    pub(crate) fn batch(&self) -> Batch {
        let (audio, num_samples) = self.audio();
        Batch { audio, num_samples, labels: Some(self.get("labels").shallow_clone()) }
    }

    /// Loss and gradients of the masked run in training mode, and every trained tensor after one step of AdamW.
    pub(crate) fn check_training(&self, model: &Model, named: impl Fn(&str) -> String) {
        let max_norm = self.find_number("clipping to").unwrap_or(f64::INFINITY);
        let batch = self.batch();
        let logits = model.forward(&batch, Mode::Train { seed: 1 }).unwrap();
        let mut loss = neural::models::heads::classification::loss(&logits, batch.labels.as_ref().unwrap()).unwrap();
        if let Some(penalty) = model.penalty().unwrap() {
            loss += penalty;
        }
        self.check("loss", &loss);
        loss.backward();
        let trained = model.trainable();
        let norm =
            trained.iter().map(|(_, tensor)| tensor.grad().square().sum(Kind::Double).double_value(&[])).sum::<f64>().sqrt();
        let clip = (max_norm / norm).min(1.0);
        let mut compared = 0;
        for (name, tensor) in &trained {
            let (gradient, after) = (format!("grad.{}", named(name)), format!("after_step.{}", named(name)));
            if self.names().any(|known| known == gradient) {
                self.check(&gradient, &tensor.grad());
                compared += 1;
            }
            if self.names().any(|known| known == after) {
                // The first step of AdamW in closed form: both bias corrections cancel.
                // The form of the set fixes the step of a case that does not describe its own.
                let step = [("lr", 1e-2), ("eps", 1e-3), ("weight decay", 0.01)];
                let [rate, epsilon, decay] = step.map(|(word, usual)| self.find_number(word).unwrap_or(usual));
                let gradient = tensor.grad() * clip;
                let stepped = tensor.detach() * (1.0 - rate * decay) - &gradient / (gradient.abs() + epsilon) * rate;
                self.check(&after, &stepped);
            }
        }
        assert_eq!(compared, self.names().filter(|name| name.starts_with("grad.")).count(), "{}: gradients", self.name);
        if self.names().any(|name| name == "grad_total_norm") {
            self.check("grad_total_norm", &Tensor::from(norm));
        }
    }
}
