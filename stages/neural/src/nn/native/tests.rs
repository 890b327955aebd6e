//! Without a GPU.

use tch::Kind;

use super::*;

fn leaf(shape: &[i64], trained: bool) -> Tensor {
    Tensor::randn(shape, (Kind::Float, Device::Cpu)).set_requires_grad(trained)
}

struct Layer {
    weight: Tensor,
    bias: Option<Tensor>,
    update: Option<(Tensor, Tensor, f64)>,
}

impl Layer {
    fn new(out: i64, trained: bool, update: Option<(i64, f64)>) -> Self {
        let update = update.map(|(rank, scale)| (leaf(&[rank, 5], true), leaf(&[out, rank], true), scale));
        Self { weight: leaf(&[out, 5], trained), bias: Some(leaf(&[out], trained)), update }
    }

    fn without_bias(self) -> Self {
        Self { bias: None, ..self }
    }

    fn parts(&self) -> LinearParts<'_> {
        let update = self.update.as_ref().map(|(down, up, scale)| LowRank { down, up, scale: *scale });
        LinearParts { weight: &self.weight, bias: self.bias.as_ref(), update }
    }

    fn plain(&self, x: &Tensor) -> Tensor {
        let output = x.linear(&self.weight, self.bias.as_ref());
        let update = self.update.as_ref();
        update.map_or(output.shallow_clone(), |(down, up, scale)| output + x.matmul(&down.tr()).matmul(&up.tr()) * *scale)
    }

    fn trained(&self) -> Vec<&Tensor> {
        let update = self.update.iter().flat_map(|(down, up, _)| [down, up]);
        [&self.weight].into_iter().chain(&self.bias).chain(update).filter(|tensor| tensor.requires_grad()).collect()
    }
}

fn check(layers: &[Layer; 3], trained_input: bool) {
    let x = leaf(&[7, 5], trained_input);
    let found = linears(&x, layers.each_ref().map(Layer::parts)).unwrap();
    let expected = layers.each_ref().map(|layer| layer.plain(&x));
    let pulls = expected.each_ref().map(|expected| leaf(&expected.size(), false));
    // Twice the second result, so that its gradient is a sum; the third as a view of another order.
    let loss = |results: &[Tensor; 3]| {
        let [a, b, c] = [0, 1, 2].map(|at| (&results[at] * &pulls[at]).sum(Kind::Float));
        a + b + (&results[1] * &pulls[1]).sum(Kind::Float) + c + (results[2].tr() * pulls[2].tr()).sum(Kind::Float)
    };
    let mut wanted: Vec<&Tensor> = layers.iter().flat_map(Layer::trained).collect();
    wanted.extend(trained_input.then_some(&x));
    let gradients = [&found, &expected].map(|results| Tensor::run_backward(&[loss(results)], &wanted, false, false));
    let pairs = found.iter().zip(&expected).chain(gradients[0].iter().zip(&gradients[1]));
    for (found, expected) in pairs {
        assert_eq!(found.size(), expected.size());
        assert!((found - expected).abs().max().double_value(&[]) < 1e-4, "{found} {expected}");
    }
}

#[test]
fn linears_are_those_of_autograd() {
    tch::manual_seed(11);
    for trained_input in [false, true] {
        let low_rank = |out, rank, scale| Layer::new(out, false, Some((rank, scale)));
        check(&[low_rank(3, 2, 0.5), low_rank(4, 2, 0.5), low_rank(3, 1, 1.0)], trained_input);
        check(&[low_rank(3, 2, 0.5), Layer::new(4, false, None), low_rank(3, 3, 2.0)], trained_input);
        check(&[Layer::new(3, true, None), Layer::new(4, true, Some((2, 0.5))), Layer::new(3, true, None)], trained_input);
        let bare = |trained, update| Layer::new(3, trained, update).without_bias();
        check(&[bare(true, None), bare(false, Some((2, 0.5))), Layer::new(4, true, Some((1, 2.0)))], trained_input);
        check(&[bare(true, Some((2, 0.5))), bare(true, None), bare(true, None)], trained_input);
    }
    let frozen = [3, 4, 3].map(|out| Layer::new(out, false, None));
    check(&frozen, true);
}

/// Known answer of Random123, the authors' own library, for Philox4x32 with ten rounds: counter and key of zeros.
const WORDS: [u32; 4] = [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8];

#[test]
fn what_is_dropped_follows_from_the_published_generator() {
    for p in [0.1, 0.5, 0.9] {
        let ones = Tensor::ones([8], (Kind::Float, Device::Cpu));
        let found = Vec::<f32>::try_from(dropout(&ones, p, 0).unwrap()).unwrap();
        let threshold = (p * 65536.0_f64).round();
        let halves = WORDS.iter().flat_map(|word| [word & 0xffff, word >> 16]);
        let expected =
            halves.map(|half| if f64::from(half) < threshold { 0.0 } else { (65536.0 / (65536.0 - threshold)) as f32 });
        assert_eq!(found, expected.collect::<Vec<_>>());
    }
}

#[test]
fn dropout_is_the_same_forward_and_backward_in_every_kind_and_order() {
    for count in [1_i64, 511, 512, 70_001] {
        let (p, seed) = (0.3, 0x1234_5678_9abc_def0);
        let ones = Tensor::ones([count], (Kind::Float, Device::Cpu));
        let mask = dropout(&ones, p, seed).unwrap();
        let share = mask.eq(0.0).to_kind(Kind::Float).mean(Kind::Float).double_value(&[]);
        assert!((share - p).abs() < 5.0 * (p * (1.0 - p) / count as f64).sqrt(), "{share} of {count} dropped");
        assert!(count == 1 || dropout(&ones, p, seed + 1).unwrap() != mask, "another seed drops other numbers");
        let narrow = dropout(&ones.to_kind(Kind::BFloat16), p, seed).unwrap();
        assert_eq!(narrow, mask.to_kind(Kind::BFloat16));

        let [x, to, pull] = [true, true, false].map(|trained| leaf(&[count], trained));
        let found = dropout_add(&x, &to, p, seed).unwrap();
        assert!((&found - (&x * &mask + &to)).abs().max().double_value(&[]) < 1e-6);
        let gradients = Tensor::run_backward(&[(&found * &pull).sum(Kind::Float)], &[&x, &to], false, false);
        assert_eq!(gradients[0], &pull * &mask);
        assert_eq!(gradients[1], pull);
        // A transposed tensor is thinned in the order in which it is read.
        let turned = dropout(&x.detach().view([count, 1]).tr(), p, seed).unwrap();
        assert_eq!(turned.view(count), x.detach() * &mask);
    }
    assert!(dropout_add(&leaf(&[2], false), &leaf(&[3], false), 0.5, 1).is_err());
}

#[test]
fn what_does_not_fit_is_an_error_and_no_end() {
    let layer = Layer::new(3, false, Some((2, 1.0)));
    let error = linears(&leaf(&[7, 6], false), [layer.parts()]).unwrap_err().to_string();
    assert!(error.contains("7x6"), "{error}");
    let constants = AdamW { rate: 0.1, betas: [0.9, 0.9], weight_decay: 0.0, epsilon: 1e-8, step: 1 };
    let [a, b] = [leaf(&[2], false), leaf(&[3], false)];
    assert!(fused_adamw(&[a.shallow_clone()], &[b], &[a.shallow_clone()], &[a.shallow_clone()], constants).is_err());
}
