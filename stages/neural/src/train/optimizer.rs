//! AdamW over one flat tensor.
//!
//! All trained tensors are made views of one long vector, so that an update is a dozen operations however many tensors there
//! are, and the state of training is four vectors.

use tch::{Kind, TchError, Tensor, no_grad};

/// The constants of AdamW.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay rates of the first and second moment.
    pub betas: [f64; 2],
    /// Guard against division by zero.
    pub epsilon: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

/// The trained tensors as one vector, and the moments of their gradients.
#[derive(Debug)]
pub struct Parameters {
    tensors: Vec<Tensor>,
    /// All values, in order of the tensors. (P)
    pub values: Tensor,
    /// Decaying mean of the gradient. (P)
    pub first: Tensor,
    /// Decaying mean of its square. (P)
    pub second: Tensor,
    /// 1 where weight decay applies, 0 where not. (P)
    decays: Tensor,
}

impl Parameters {
    /// Makes the tensors views of one vector; they keep their values and must not be given other storage afterwards.
    /// `decays` says by name which are pulled towards zero.
    ///
    /// Errors: what libtorch reports, for example that memory ran out.
    pub fn new(named: Vec<(String, Tensor)>, decays: impl Fn(&str) -> bool) -> Result<Self, TchError> {
        let kept: Vec<Tensor> =
            named.iter().map(|(name, tensor)| tensor.ones_like().detach() * f64::from(decays(name))).collect();
        let mut tensors: Vec<Tensor> = named.into_iter().map(|(_, tensor)| tensor).collect();
        no_grad(|| {
            let values = flatten(&tensors)?;
            let mut start = 0;
            for tensor in &mut tensors {
                let count = tensor.numel() as i64;
                let view = values.f_narrow(0, start, count)?.f_view(tensor.size().as_slice())?;
                tensor.f_set_data(&view)?;
                start += count;
            }
            let (first, second) = (values.f_zeros_like()?, values.f_zeros_like()?);
            Ok(Self { tensors, values, first, second, decays: flatten(&kept)? })
        })
    }

    /// The gradient since the last call as one vector (P), which the tensors then forget. Zero where a tensor got none.
    ///
    /// Errors: what libtorch reports.
    pub fn take_gradient(&mut self) -> Result<Tensor, TchError> {
        no_grad(|| {
            let grads: Vec<Tensor> = self
                .tensors
                .iter()
                .map(|tensor| {
                    let grad = tensor.grad();
                    if grad.defined() { grad } else { tensor.zeros_like() }
                })
                .collect();
            let flat = flatten(&grads)?;
            for tensor in &mut self.tensors {
                tensor.zero_grad();
            }
            Ok(flat)
        })
    }

    /// One update. `step` counts from 1; `rate` is the learning rate.
    ///
    /// Source: Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2, in the order of operations of PyTorch's AdamW.
    /// Errors: what libtorch reports.
    pub fn update(&mut self, gradient: &Tensor, optimizer: &AdamW, rate: f64, step: u64) -> Result<(), TchError> {
        let [beta1, beta2] = optimizer.betas;
        let step = step as f64;
        no_grad(|| {
            if optimizer.weight_decay > 0.0 {
                let shrink = self.decays.f_mul_scalar(-rate * optimizer.weight_decay)?.f_add_scalar_(1.0)?;
                let _ = self.values.f_mul_(&shrink)?;
            }
            let _ = self.first.f_lerp_(gradient, 1.0 - beta1)?;
            let square = gradient.f_mul(gradient)?.f_mul_scalar_(1.0 - beta2)?;
            let _ = self.second.f_mul_scalar_(beta2)?.f_add_(&square)?;
            let root = self.second.f_sqrt()?.f_div_scalar_((1.0 - beta2.powf(step)).sqrt())?.f_add_scalar_(optimizer.epsilon)?;
            let change = self.first.f_div(&root)?.f_mul_scalar_(-rate / (1.0 - beta1.powf(step)))?;
            let _ = self.values.f_add_(&change)?;
            Ok(())
        })
    }
}

/// Scales the gradient down to a norm of at most `max_norm`. Returns the norm before, as a tensor of no axes.
///
/// Errors: what libtorch reports.
pub fn clip(gradient: &mut Tensor, max_norm: f64) -> Result<Tensor, TchError> {
    let norm = gradient.f_norm()?;
    // The small number is PyTorch's guard against a norm of zero.
    let scale = norm.f_add_scalar(1e-6)?.f_reciprocal()?.f_mul_scalar_(max_norm)?.f_clamp_max_(1.0)?;
    let _ = gradient.f_mul_(&scale)?;
    Ok(norm)
}

fn flatten(tensors: &[Tensor]) -> Result<Tensor, TchError> {
    let flat: Vec<Tensor> = tensors.iter().map(|tensor| tensor.f_reshape(-1)).collect::<Result<_, _>>()?;
    Tensor::f_cat(&flat, 0)?.f_to_kind(Kind::Float)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::golden::{self, Golden};

    /// The constants of an optimiser in the manifest's words: `adamw: lr 3e-3, betas 0.9 0.98, eps 1e-6, decay 0.05; ...`.
    fn constants(what: &str, name: &str) -> (f64, AdamW) {
        let part = what.split(';').find_map(|part| part.trim().strip_prefix(&format!("{name}: "))).unwrap();
        let words: Vec<&str> = part.split([' ', ',']).filter(|word| !word.is_empty()).collect();
        let after = |name: &str, offset: usize| {
            let at = words.iter().position(|word| *word == name)?;
            words.get(at + offset)?.parse::<f64>().ok()
        };
        let betas = [after("betas", 1).unwrap(), after("betas", 2).unwrap()];
        let optimizer = AdamW { betas, epsilon: after("eps", 1).unwrap(), weight_decay: after("decay", 1).unwrap_or(0.0) };
        (after("lr", 1).unwrap(), optimizer)
    }

    fn check(golden: &Golden, name: &str) {
        let (rate, optimizer) = constants(&golden.what, name);
        let tensors: Vec<(String, Tensor)> = (0..)
            .map_while(|i| Some((i.to_string(), golden.get(&format!("{name}.init.{i}"))?.set_requires_grad(true))))
            .collect();
        assert!(!tensors.is_empty());
        let count = tensors.len();
        let mut parameters = Parameters::new(tensors, |_| true).unwrap();
        for step in 0.. {
            let grads: Option<Vec<Tensor>> = (0..count).map(|i| golden.get(&format!("{name}.grad.{step}.{i}"))).collect();
            let Some(grads) = grads else {
                assert!(step > 0);
                return;
            };
            let gradient = flatten(&grads).unwrap();
            parameters.update(&gradient, &optimizer, rate, step + 1).unwrap();
            for (i, tensor) in parameters.tensors.iter().enumerate() {
                golden.check(&format!("{name}.after.{step}.{i}"), tensor);
            }
        }
    }

    #[test]
    fn updates_are_those_of_the_reference() {
        let Some(golden) = golden::open("train", "optimizers") else { return };
        check(&golden, "adamw");
        check(&golden, "adam");
    }

    #[test]
    fn clipping_is_that_of_the_reference() {
        let Some(golden) = golden::open("train", "optimizers") else { return };
        let max_norm: f64 = golden.what.rsplit("global norm to ").next().unwrap().trim().parse().unwrap();
        let grads: Vec<Tensor> = (0..).map_while(|i| golden.get(&format!("clip.grad.{i}"))).collect();
        let mut flat = flatten(&grads).unwrap();
        let norm = clip(&mut flat, max_norm).unwrap();
        golden.check("clip.total_norm", &norm.view(1));
        let mut start = 0;
        for (i, grad) in grads.iter().enumerate() {
            let count = grad.numel() as i64;
            golden.check(&format!("clip.after.{i}"), &flat.narrow(0, start, count).view_as(grad));
            start += count;
        }
    }

    #[test]
    fn tensors_stay_views_of_the_vector() {
        let named = vec![
            ("a".to_owned(), Tensor::from_slice(&[1.0_f32, 2.0]).set_requires_grad(true)),
            ("b".to_owned(), Tensor::from_slice(&[3.0_f32]).set_requires_grad(true)),
        ];
        let [a, b] = [named[0].1.shallow_clone(), named[1].1.shallow_clone()];
        let mut parameters = Parameters::new(named, |name| name == "a").unwrap();
        (&a * &a).sum(Kind::Float).backward();
        let gradient = parameters.take_gradient().unwrap();
        assert_eq!(Vec::<f32>::try_from(&gradient).unwrap(), [2.0, 4.0, 0.0]);
        assert_eq!(Vec::<f32>::try_from(&parameters.take_gradient().unwrap()).unwrap(), [0.0; 3]);
        let still = AdamW { betas: [0.9, 0.999], epsilon: 1e-8, weight_decay: 1.0 };
        parameters.update(&Tensor::zeros([3], (Kind::Float, tch::Device::Cpu)), &still, 0.5, 1).unwrap();
        assert_eq!(Vec::<f32>::try_from(&a).unwrap(), [0.5, 1.0]);
        assert_eq!(Vec::<f32>::try_from(&b).unwrap(), [3.0], "exempt from decay");
    }
}
