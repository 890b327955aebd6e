//! Reference numbers for the tests of training, from the folder named by `SURE_GOLDEN`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tch::{Device, Kind, Tensor};

pub(crate) use self::place::device;
use self::place::slack;
use crate::device::{choose, open_cuda_library};

#[path = "../tests/device/mod.rs"]
mod place;

/// A case with its tensors.
pub(crate) struct Golden {
    /// Description of the case.
    pub(crate) what: String,
    /// The backbone it uses, for cases that have one.
    pub(crate) base: Option<PathBuf>,
    /// Options of the method, as peft names them.
    pub(crate) method: Value,
    name: String,
    tensors: BTreeMap<String, Tensor>,
    tolerance: Value,
}

fn case(root: &Path, dir: &str, name: &str) -> Value {
    reference::case(root, |case| case["name"] == name && case["dir"] == dir)
}

/// A case that is a JSON file.
pub(crate) fn json(dir: &str, name: &str) -> Option<Value> {
    let root = reference::root()?;
    Some(reference::json(&reference::file(&root, &case(&root, dir, name))))
}

/// A case that is a file of tensors.
pub(crate) fn open(dir: &str, name: &str) -> Option<Golden> {
    reference::root().map(|root| read(&root, dir, name))
}

/// One of a set of the repository.
pub(crate) fn own(set: &str, dir: &str, name: &str) -> Golden {
    read(&PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden")).join(set), dir, name)
}

fn read(root: &Path, dir: &str, name: &str) -> Golden {
    let case = case(root, dir, name);
    let tensors = Tensor::read_safetensors(reference::file(root, &case)).unwrap().into_iter().collect();
    let what = case["what"].as_str().unwrap().to_owned();
    let base = case["base"].as_str().map(|base| root.join(base));
    let (tolerance, method) = (case["tolerance"].clone(), case["method"].clone());
    Golden { what, base, name: name.to_owned(), tensors, tolerance, method }
}

impl Golden {
    /// The number behind some words of the description.
    pub(crate) fn number_after(&self, words: &str) -> f64 {
        let rest = self.what.split(words).nth(1).unwrap();
        rest.trim_start().split([' ', ',', ':', ';']).next().unwrap().parse().unwrap()
    }

    pub(crate) fn get(&self, name: &str) -> Option<Tensor> {
        self.tensors.get(name).map(|tensor| tensor.to_device(device()))
    }
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Compares shape and values within the case's tolerance.
    #[track_caller]
    pub(crate) fn check(&self, name: &str, found: &Tensor) {
        let (expected, found) = (&self.tensors[name], found.to_device(Device::Cpu));
        assert_eq!(found.size(), expected.size(), "shape of {name}");
        let (found, expected) = (found.detach().to_kind(Kind::Double), expected.to_kind(Kind::Double));
        let number = |form: &str| self.tolerance[form].as_f64();
        let allowed = match number("scaled") {
            Some(share) => expected.abs().max().clamp_min(1.0) * share * slack(),
            None => (expected.abs() * number("rtol").unwrap_or(0.0) + number("atol").unwrap_or(0.0)) * slack(),
        };
        let share = ((&found - &expected).abs() / allowed).max().double_value(&[]);
        println!("GOLDEN {} {name} {share:e}", self.name); // read by scripts/golden_table.py
        assert!(share <= 1.0, "{name} is off by {share} times what is allowed");
    }
}
