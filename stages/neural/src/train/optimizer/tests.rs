use super::*;
use crate::golden::{self, Golden};

fn flatten(tensors: &[Tensor]) -> Tensor {
    Tensor::cat(&tensors.iter().map(|tensor| tensor.reshape(-1)).collect::<Vec<_>>(), 0)
}

/// The constants of an optimiser in the manifest's words: `adamw: lr 3e-3, betas 0.9 0.98, eps 1e-6, decay 0.05; ...`.
fn constants(what: &str, name: &str) -> (f64, Constants) {
    let part = what.split(';').find_map(|part| part.trim().strip_prefix(&format!("{name}: "))).unwrap();
    let words: Vec<&str> = part.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    let after = |name: &str, offset: usize| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + offset)?.parse::<f64>().ok()
    };
    let rule = match name {
        "adamw" => Optimizer::Adamw {},
        "sgd" => Optimizer::Sgd { momentum: after("momentum", 1).unwrap(), nesterov: words.contains(&"nesterov") },
        _ => Optimizer::Adam {},
    };
    // Where nothing is said, PyTorch's own.
    let betas = [after("betas", 1).unwrap_or(0.9), after("betas", 2).unwrap_or(0.999)];
    let weight_decay = after("decay", 1).or(after("L2", 1)).unwrap_or(0.0);
    (after("lr", 1).unwrap(), Constants { rule, betas, epsilon: after("eps", 1).unwrap_or(1e-8), weight_decay })
}

fn check(golden: &Golden, name: &str) {
    let (rate, optimizer) = constants(&golden.what, name);
    let tensors: Vec<(String, Tensor)> =
        (0..).map_while(|i| Some((i.to_string(), golden.get(&format!("{name}.init.{i}"))?.set_requires_grad(true)))).collect();
    assert!(!tensors.is_empty());
    let count = tensors.len();
    let mut parameters = Parameters::new(tensors, Kind::Float, |_| true).unwrap();
    for step in 0.. {
        let grads: Option<Vec<Tensor>> = (0..count).map(|i| golden.get(&format!("{name}.grad.{step}.{i}"))).collect();
        let Some(grads) = grads else {
            assert!(step > 0);
            return;
        };
        parameters.gradient().copy_(&flatten(&grads));
        parameters.update(&optimizer, rate, step + 1).unwrap();
        for (i, (_, tensor)) in parameters.named.iter().enumerate() {
            golden.check(&format!("{name}.after.{step}.{i}"), tensor);
        }
    }
}

#[test]
fn updates_are_those_of_the_reference() {
    let Some(golden) = golden::open("train", "optimizers") else { return };
    for name in ["adamw", "adam", "adam_l2", "sgd"] {
        check(&golden, name);
    }
}

#[test]
fn clipping_is_that_of_the_reference() {
    let Some(golden) = golden::open("train", "optimizers") else { return };
    let max_norm: f64 = golden.what.rsplit("global norm to ").next().unwrap().trim().parse().unwrap();
    let grads: Vec<Tensor> = (0..).map_while(|i| golden.get(&format!("clip.grad.{i}"))).collect();
    let mut flat = flatten(&grads);
    let norm = clip(&mut flat, max_norm).unwrap();
    golden.check("clip.total_norm", &norm.view(1));
    let mut start = 0;
    for (i, grad) in grads.iter().enumerate() {
        let count = grad.numel() as i64;
        golden.check(&format!("clip.after.{i}"), &flat.narrow(0, start, count).view_as(grad));
        start += count;
    }
}

fn leaf(values: &[f32]) -> Tensor {
    Tensor::from_slice(values).set_requires_grad(true)
}

#[test]
fn tensors_stay_views_of_the_vector() {
    let named = vec![("a".to_owned(), leaf(&[1.0, 2.0])), ("b".to_owned(), leaf(&[3.0]))];
    let [a, b] = [named[0].1.shallow_clone(), named[1].1.shallow_clone()];
    let mut parameters = Parameters::new(named, Kind::Float, |name| name == "a").unwrap();
    let floats = |tensor: &Tensor| Vec::<f32>::try_from(tensor).unwrap();
    assert_eq!(floats(parameters.gradient()), [0.0; 3]);
    for _ in 0..2 {
        (&a * &a).sum(Kind::Float).backward();
        parameters.collect_gradient().unwrap();
    }
    assert_eq!(floats(parameters.gradient()), [4.0, 8.0, 0.0], "of two micro batches, and none where there is none");
    parameters.forget_gradient().unwrap();
    assert_eq!(floats(&a.grad()), [0.0; 2], "gradients are views too");
    let still = Constants { rule: Optimizer::Adamw {}, betas: [0.9, 0.999], epsilon: 1e-8, weight_decay: 1.0 };
    parameters.update(&still, 0.5, 1).unwrap();
    assert_eq!(floats(&a), [0.5, 1.0]);
    assert_eq!(floats(&b), [3.0], "exempt from decay");
}

#[test]
fn pieces_change_no_number() {
    let count = 3 * PIECE + 1_234;
    // Not from libtorch's generator, which other tests draw from at the same time.
    let vector = |which: i64| (Tensor::arange(count, (Kind::Float, tch::Device::Cpu)) * which).sin();
    let constants = Constants { rule: Optimizer::Adamw {}, betas: [0.9, 0.98], epsilon: 1e-8, weight_decay: 0.01 };
    let start = || Piece {
        values: vector(1),
        first: vector(2),
        second: vector(3).abs(),
        decays: vector(4).gt(0.0).to_kind(Kind::Float),
        gradient: vector(5),
    };
    let whole = start();
    let values = whole.values.shallow_clone();
    whole.update(&constants, 0.1, 3).unwrap();
    for threads in [1, 2, 3, 8] {
        let parts = start();
        in_pieces(&parts, threads, |part| part.update(&constants, 0.1, 3)).unwrap();
        assert_eq!(parts.values, values, "{threads} threads");
    }
}

/// The kernel runs on the CPU too, where it can be compared.
#[test]
fn the_fused_kernel_computes_the_same() {
    let tensors = || ["bias", "a", "b", "norm", "c"].map(|name| (name.to_owned(), leaf(&[0.5, -1.0, 2.0])));
    let decays = |name: &str| name.len() == 1;
    let constants = Constants { rule: Optimizer::Adamw {}, betas: [0.9, 0.98], epsilon: 1e-6, weight_decay: 0.3 };
    let mut plain = Parameters::new(tensors().into(), Kind::Float, decays).unwrap();
    let mut fused = Parameters::new(tensors().into(), Kind::Float, decays).unwrap();
    let runs = runs(&fused.named, &decays);
    assert_eq!(runs, [(3, false), (6, true), (3, false), (3, true)]);
    fused.fused = Some(slices([&fused.values, &fused.gradient, &fused.first, &fused.second], &runs).unwrap());
    for step in 1..=5 {
        let gradient = (Tensor::arange(15, (Kind::Float, Device::Cpu)) * step).sin();
        for parameters in [&mut plain, &mut fused] {
            parameters.gradient().copy_(&gradient);
            parameters.update(&constants, 1e-2, step as u64).unwrap();
            assert_eq!(Vec::<f32>::try_from(&*parameters.gradient()).unwrap(), [0.0; 15]);
        }
        assert!((&plain.values - &fused.values).abs().max().double_value(&[]) < 1e-6, "step {step}");
    }
    assert!(
        plain.values.double_value(&[3]) < plain.values.double_value(&[0]) + 0.5,
        "what decays moves apart from what does not"
    );
}

#[test]
fn tensors_of_odd_sizes_leave_the_others_aligned() {
    let named: Vec<_> = [31, 8, 5, 16]
        .map(|count| (count.to_string(), Tensor::ones([count], (Kind::Float, Device::Cpu)).set_requires_grad(true)))
        .into();
    let handles: Vec<Tensor> = named.iter().map(|(_, tensor)| tensor.shallow_clone()).collect();
    let parameters = Parameters::new(named, Kind::BFloat16, |_| true).unwrap();
    let order: Vec<&str> = parameters.named.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(order, ["8", "16", "31", "5"]);
    let start = |tensor: &Tensor| tensor.data_ptr() as usize - parameters.rounded.as_ref().unwrap().values.data_ptr() as usize;
    assert_eq!([start(&handles[1]), start(&handles[3])], [0, 16]);
}

#[test]
fn sixteen_bits_lose_no_small_update() {
    // Half a rounding step of a 16-bit 1 is 2^-9: updates of a hundredth of that would never move it.
    let named = vec![("a".to_owned(), leaf(&[1.0]))];
    let a = named[0].1.shallow_clone();
    let mut parameters = Parameters::new(named, Kind::BFloat16, |_| false).unwrap();
    assert_eq!(a.kind(), Kind::BFloat16);
    let optimizer = Constants { rule: Optimizer::Adamw {}, betas: [0.0, 0.0], epsilon: 0.0, weight_decay: 0.0 };
    // With these constants a step is the rate, whatever the gradient.
    for step in 1..=1000 {
        (&a * 3.0).sum(Kind::Float).backward();
        parameters.collect_gradient().unwrap();
        assert!((parameters.gradient().double_value(&[0]) - 3.0).abs() < 1e-6);
        parameters.update(&optimizer, 1e-5, step).unwrap();
    }
    assert!((parameters.values.double_value(&[0]) - 0.99).abs() < 1e-4);
    assert!((a.double_value(&[0]) - 0.99).abs() < 4e-3, "and the tensor follows");
}
