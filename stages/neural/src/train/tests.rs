//! A whole training, update by update, against reference numbers.

use neural_spec::{HeadSpec, LinearLayer, Lora, Method, Optimizer, Schedule};

use tch::{Kind, Tensor};

use super::optimizer::{Constants, Parameters, clip};
use crate::golden;
use crate::models::{Batch, Model};
use crate::nn::pass::Mode;
use crate::train::schedule;

#[test]
fn a_run_of_lora_is_that_of_the_reference() {
    let Some(golden) = golden::open("train", "lora_run") else { return };
    let word_after = |words: &str| {
        let rest = golden.what.split(words).nth(1).unwrap();
        rest.trim_start().split([' ', ',', ':']).next().unwrap().parse::<f64>().unwrap()
    };
    let prefix = "init.base_model.model.";
    let init: Vec<(String, Tensor)> =
        golden.names().filter_map(|name| Some((name.strip_prefix(prefix)?.to_owned(), golden.get(name)?))).collect();
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
