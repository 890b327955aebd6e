//! A whole training, update by update, against reference numbers.

use std::collections::BTreeMap;

use neural_spec::{AdaLora, HeadSpec, LinearLayer, Lora, Method, Optimizer, Schedule};

use tch::{Kind, Tensor};

use super::optimizer::{Constants, Parameters, clip};
use super::ranks::Ranks;
use crate::golden::{self, Golden};
use crate::models::{Batch, Model};
use crate::nn::pass::Mode;
use crate::train::schedule;

/// Trained tensors at the start.
fn start(golden: &Golden) -> Vec<(String, Tensor)> {
    let prefix = "init.base_model.model.";
    golden.names().filter_map(|name| Some((name.strip_prefix(prefix)?.to_owned(), golden.get(name)?))).collect()
}

#[test]
fn a_run_of_lora_is_that_of_the_reference() {
    let Some(golden) = golden::open("train", "lora_run") else { return };
    let word_after = |words: &str| golden.number_after(words);
    let init = start(&golden);
    let size = |end: &str| init.iter().find(|(name, _)| name.ends_with(end)).unwrap().1.size()[0];
    let is_target =
        |linear: LinearLayer| init.iter().any(|(name, _)| name.ends_with(&format!(".{}.lora_A.weight", linear.name())));
    let method = Method::Lora(Lora {
        rank: size("lora_A.weight") as u32,
        alpha: word_after("alpha"),
        targets: LinearLayer::ALL.into_iter().filter(|linear| is_target(*linear)).collect(),
        ..Lora::default()
    });
    let head = HeadSpec::Classification { projector_size: size("projector.weight") as u32, layer_sum: false };
    let labels = size("classifier.bias") as usize;
    let mut model = Model::new(golden.base.as_deref().unwrap(), &method, &head, labels, 0, golden::device()).unwrap();
    model.use_attention_mask(true);
    model.set_trainable(&init).unwrap();

    let batches: Vec<_> = (0..).map_while(|i| golden.get(&format!("batch.{i}.input_values"))).collect();
    let (num_steps, micro_batches) = (golden.get("losses").unwrap().numel(), word_after("each over") as usize);
    let optimizer =
        Constants { rule: Optimizer::Adamw {}, betas: [0.9, 0.999], epsilon: 1e-8, weight_decay: word_after("decay") };
    let (warmup, max_norm, top) = (word_after("schedule with") as u64, word_after("clip to norm"), word_after("AdamW lr"));
    let mut parameters = Parameters::new(model.trainable(), Kind::Float, |_| true).unwrap();
    let (mut losses, mut norms, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for step in 0..num_steps {
        let mut loss = 0.0;
        for micro in 0..micro_batches {
            let at = (step * micro_batches + micro) % batches.len();
            let mask = golden.get(&format!("batch.{at}.attention_mask")).unwrap();
            let num_samples = Vec::try_from(mask.sum_dim_intlist(1, false, Kind::Int64)).unwrap();
            let batch = Batch { audio: batches[at].shallow_clone(), num_samples, labels: None };
            let labels = golden.get(&format!("batch.{at}.labels")).unwrap();
            let logits = model.forward(&batch, Mode::Train { seed: 0 }).unwrap();
            let share = crate::models::heads::classification::loss(&logits, &labels).unwrap() / micro_batches as f64;
            share.backward();
            loss += share.double_value(&[]);
        }
        let norm = clip(parameters.gradient(), max_norm).unwrap();
        let rate = top * schedule::factor(&Schedule::Linear {}, step as u64, warmup, num_steps as u64);
        parameters.update(&optimizer, rate, step as u64 + 1).unwrap();
        losses.push(loss);
        norms.push(norm.double_value(&[]));
        rates.push(rate);
    }
    golden.check("losses", &Tensor::from_slice(&losses));
    golden.check("grad_norms", &Tensor::from_slice(&norms));
    golden.check("rates", &Tensor::from_slice(&rates));
    for (name, tensor) in model.trainable() {
        golden.check(&format!("final.base_model.model.{name}"), &tensor);
    }
}

#[test]
fn a_run_of_adalora_drops_the_ranks_that_peft_drops() {
    let golden = golden::own("adapters", "train", "adalora_run");
    let number = |name: &str| golden.method[name].as_f64().unwrap();
    let whole = |name: &str| number(name) as u32;
    let spec = AdaLora {
        rank: whole("target_r"),
        init_rank: whole("init_r"),
        alpha: number("lora_alpha"),
        tinit: Some(whole("tinit")),
        tfinal: Some(whole("tfinal")),
        delta_t: whole("deltaT"),
        beta1: number("beta1"),
        beta2: number("beta2"),
        orthogonal: number("orth_reg_weight"),
        ..AdaLora::default()
    };
    let init = start(&golden);
    let size = |end: &str| init.iter().find(|(name, _)| name.ends_with(end)).unwrap().1.size()[0];
    let head = HeadSpec::Classification { projector_size: size("projector.weight") as u32, layer_sum: false };
    let base = golden.base.as_deref().unwrap();
    let labels = size("classifier.bias") as usize;
    let mut model = Model::new(base, &Method::AdaLora(spec.clone()), &head, labels, 0, golden::device()).unwrap();
    model.use_attention_mask(true);
    model.set_trainable(&init).unwrap();

    let inputs: BTreeMap<String, Tensor> =
        Tensor::read_safetensors(base.join("golden.safetensors")).unwrap().into_iter().collect();
    let num_samples = Vec::try_from(inputs["attention_mask"].sum_dim_intlist(1, false, Kind::Int64)).unwrap();
    let batch = Batch { audio: inputs["input_values"].to_device(golden::device()), num_samples, labels: None };
    let labels = Tensor::from_slice(&[0_i64, 3, 4]).to_device(golden::device());
    let optimizer = Constants {
        rule: Optimizer::Adamw {},
        betas: [0.9, 0.999],
        epsilon: golden.number_after("eps"),
        weight_decay: golden.number_after("decay"),
    };
    let (rate, max_norm) = (golden.number_after("AdamW lr"), golden.number_after("clip to norm"));
    let num_steps = golden.get("losses").unwrap().numel() as u64;
    let mut parameters = Parameters::new(model.trainable(), Kind::Float, |_| true).unwrap();
    let mut ranks = Ranks::start(Some(&spec), num_steps, &parameters).unwrap().unwrap();
    let (mut losses, mut left) = (Vec::new(), Vec::new());
    for update in 1..=num_steps {
        let logits = model.forward(&batch, Mode::Train { seed: 0 }).unwrap();
        let loss = crate::models::heads::classification::loss(&logits, &labels).unwrap() + model.penalty().unwrap().unwrap();
        loss.backward();
        let _ = clip(parameters.gradient(), max_norm).unwrap();
        let gradient = parameters.gradient().copy();
        parameters.update(&optimizer, rate, update).unwrap();
        ranks.after(update, &gradient, &mut parameters).unwrap();
        losses.push(loss.double_value(&[]));
        let count = |(name, tensor): (String, Tensor)| {
            if name.ends_with("lora_E") { tensor.count_nonzero(None::<i64>).int64_value(&[]) } else { 0 }
        };
        left.push(model.trainable().into_iter().map(count).sum::<i64>());
    }
    golden.check("losses", &Tensor::from_slice(&losses));
    assert_eq!(left, Vec::<i64>::try_from(golden.get("ranks").unwrap()).unwrap());
    for (name, tensor) in model.trainable() {
        golden.check(&format!("final.base_model.model.{name}"), &tensor);
    }
}
