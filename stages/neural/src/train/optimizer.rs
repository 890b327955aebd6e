//! Updates of one flat tensor: AdamW and its relatives.
//!
//! All trained tensors are made views of one long vector, and their gradients of another, so that an update is a dozen
//! operations however many tensors there are, and the state of training is four vectors. On a GPU AdamW is one pass over them, by
//! libtorch's fused kernel.
//!
//! With 16-bit numbers the tensors are views of a rounded copy, which is made anew after every update of the 32-bit one. No part
//! of a model needs to know: it computes in the format of its weights.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use neural_spec::Optimizer;
use tch::{Device, Kind, TchError, Tensor, no_grad};

use crate::nn::native::{self, AdamW};

/// A rule and its constants.
#[derive(Debug, Clone, PartialEq)]
pub struct Constants {
    /// How a gradient becomes an update.
    pub rule: Optimizer,
    /// Decay rates of Adam's first and second moment.
    pub betas: [f64; 2],
    /// Adam's guard against division by zero.
    pub epsilon: f64,
    /// Weight decay.
    pub weight_decay: f64,
}

/// The trained tensors as one vector, and the moments of their gradients.
#[derive(Debug)]
pub struct Parameters {
    named: Vec<(String, Tensor)>,
    /// All values, in order of the tensors. (P)
    pub values: Tensor,
    /// Decaying mean of the gradient. (P)
    pub first: Tensor,
    /// Decaying mean of its square. (P)
    pub second: Tensor,
    /// 1 where weight decay applies, 0 where not. (P)
    decays: Tensor,
    /// On a GPU: the parts of the vectors that decay, and those that do not.
    fused: Option<[Slices; 2]>,
    /// Storage of the tensors' gradients, in the tensors' format. (P)
    gradient: Tensor,
    /// Tensors of fewer than 32 bits, and what adds up their gradients.
    rounded: Option<Rounded>,
}

/// Equal parts of values, gradient and moments.
#[derive(Debug, Default)]
struct Slices([Vec<Tensor>; 4]);

#[derive(Debug)]
struct Rounded {
    /// The values as the tensors see them. (P)
    values: Tensor,
    /// Sum of the gradients of an update's micro batches. (P)
    sum: Tensor,
    /// True once there is a sum.
    begun: bool,
}

impl Parameters {
    /// Makes the tensors views of one vector of `kind`; they must not be given other storage afterwards. In 32 bits they keep
    /// their values. `decays` says by name which are pulled towards zero.
    ///
    /// Errors: what libtorch reports, for example that memory ran out.
    pub fn new(mut named: Vec<(String, Tensor)>, kind: Kind, decays: impl Fn(&str) -> bool) -> Result<Self, TchError> {
        if named.is_empty() {
            return Err(TchError::Shape("nothing is trained".to_owned()));
        }
        let device = named[0].1.device();
        if kind != Kind::Float {
            // A GPU multiplies matrices at full speed where they start at a multiple of 16 bytes.
            named.sort_by_key(|(_, tensor)| tensor.numel() % LANES != 0);
        }
        let runs = runs(&named, &decays);
        let (values, decays) = no_grad(|| {
            let flat = |(_, tensor): &(String, Tensor)| tensor.f_to_kind(Kind::Float)?.f_reshape(-1);
            let values = Tensor::f_cat(&named.iter().map(flat).collect::<Result<Vec<_>, TchError>>()?, 0)?;
            let decay =
                |&(count, decays): &(i64, bool)| Tensor::f_full([count], f64::from(u8::from(decays)), (Kind::Float, device));
            let decays = Tensor::f_cat(&runs.iter().map(decay).collect::<Result<Vec<_>, TchError>>()?, 0)?;
            Ok::<_, TchError>((values, decays))
        })?;
        let gradient = values.f_to_kind(kind)?.f_zeros_like()?;
        let rounded = (kind != Kind::Float)
            .then(|| Ok::<_, TchError>(Rounded { values: values.f_to_kind(kind)?, sum: values.f_zeros_like()?, begun: false }))
            .transpose()?;
        make_views(&named, rounded.as_ref().map_or(&values, |rounded| &rounded.values), &gradient)?;
        let (first, second) = (values.f_zeros_like()?, values.f_zeros_like()?);
        let sum = rounded.as_ref().map_or(&gradient, |rounded| &rounded.sum);
        let fused = device.is_cuda().then(|| slices([&values, sum, &first, &second], &runs)).transpose()?;
        Ok(Self { named, values, first, second, decays, fused, gradient, rounded })
    }

    /// Makes the tensors of a copy of the model views of the same values. Returns the storage of their own gradients. (P)
    ///
    /// Errors: tensors of other names, and what libtorch reports.
    pub fn attach(&self, copies: &[(String, Tensor)]) -> Result<Tensor, TchError> {
        let by_name: BTreeMap<&str, &Tensor> = copies.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let find = |(name, _): &(String, Tensor)| {
            let copy = by_name.get(name.as_str()).ok_or_else(|| TchError::Shape(format!("the copy has no `{name}`")))?;
            Ok((name.clone(), copy.shallow_clone()))
        };
        let copies = self.named.iter().map(find).collect::<Result<Vec<_>, TchError>>()?;
        let gradient = self.gradient.f_zeros_like()?;
        make_views(&copies, self.rounded.as_ref().map_or(&self.values, |rounded| &rounded.values), &gradient)?;
        Ok(gradient)
    }

    /// The trained tensors by name, in 32 bits, as they are now.
    ///
    /// Errors: what libtorch reports.
    pub fn named_values(&self, values: &Tensor) -> Result<Vec<(String, Tensor)>, TchError> {
        let mut start = 0;
        self.named
            .iter()
            .map(|(name, tensor)| {
                let count = tensor.numel() as i64;
                let part = values.f_narrow(0, start, count)?.f_view(tensor.size().as_slice())?;
                start += count;
                Ok((name.clone(), part))
            })
            .collect()
    }

    /// Sets all values.
    ///
    /// Errors: what libtorch reports.
    pub fn set(&mut self, values: &Tensor) -> Result<(), TchError> {
        no_grad(|| {
            self.values.f_copy_(values)?;
            self.round()
        })
    }

    fn round(&mut self) -> Result<(), TchError> {
        match &mut self.rounded {
            Some(rounded) => rounded.values.f_copy_(&self.values),
            None => Ok(()),
        }
    }

    /// To be called after the backward pass of each micro batch: sums of many gradients need 32 bits.
    ///
    /// Errors: what libtorch reports.
    pub fn collect_gradient(&mut self) -> Result<(), TchError> {
        let Some(rounded) = &mut self.rounded else { return Ok(()) };
        no_grad(|| {
            if rounded.begun {
                let _ = rounded.sum.f_add_(&self.gradient)?;
            } else {
                rounded.sum.f_copy_(&self.gradient)?;
            }
            rounded.begun = true;
            self.gradient.f_zero_().map(drop)
        })
    }

    /// The gradient of an update as one vector (P), to be scaled and used in place. Zero where a tensor got none.
    pub fn gradient(&mut self) -> &mut Tensor {
        self.rounded.as_mut().map_or(&mut self.gradient, |rounded| &mut rounded.sum)
    }

    /// Adds the gradient of a part of the update, computed elsewhere.
    ///
    /// Errors: what libtorch reports.
    pub fn add_gradient(&mut self, gradient: &Tensor) -> Result<(), TchError> {
        no_grad(|| self.gradient().f_add_(gradient).map(drop))
    }

    /// Sets the gradient to zero, for the next update.
    ///
    /// Errors: what libtorch reports.
    pub fn forget_gradient(&mut self) -> Result<(), TchError> {
        let _ = self.gradient.f_zero_()?;
        if let Some(rounded) = &mut self.rounded {
            let _ = rounded.sum.f_zero_()?;
            rounded.begun = false;
        }
        Ok(())
    }

    /// One update with [`Self::gradient`], which is used up afterwards: the next one starts from zero.
    /// `step` counts from 1; `rate` is the learning rate.
    ///
    /// The operations and their order are those of PyTorch's optimizers. On the CPU they go over the vector in pieces that stay
    /// in the cache, since the memory is what they wait for; no number depends on where a piece ends.
    /// Errors: what libtorch reports.
    pub fn update(&mut self, constants: &Constants, rate: f64, step: u64) -> Result<(), TchError> {
        let gradient = self.rounded.as_ref().map_or(&self.gradient, |rounded| &rounded.sum);
        if let (Some([decaying, others]), Optimizer::Adamw {}) = (&self.fused, &constants.rule) {
            no_grad(|| {
                decaying.update(constants, constants.weight_decay, rate, step)?;
                others.update(constants, 0.0, rate, step)?;
                if self.rounded.is_none() { self.gradient.f_zero_().map(drop) } else { Ok(()) }
            })?;
            return self.end_update();
        }
        let whole = Piece {
            values: self.values.shallow_clone(),
            first: self.first.shallow_clone(),
            second: self.second.shallow_clone(),
            decays: self.decays.shallow_clone(),
            gradient: gradient.shallow_clone(),
        };
        if self.values.device() == Device::Cpu {
            let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1).max(1);
            in_pieces(&whole, threads, |piece| piece.update(constants, rate, step))?;
        } else {
            no_grad(|| whole.update(constants, rate, step))?;
        }
        self.end_update()
    }

    fn end_update(&mut self) -> Result<(), TchError> {
        if let Some(rounded) = &mut self.rounded {
            rounded.begun = false; // the next gradient takes the place of the sum
        }
        no_grad(|| self.round())
    }
}

/// Makes the tensors views of `storage`, and their gradients of `gradient`, one after the other.
fn make_views(named: &[(String, Tensor)], storage: &Tensor, gradient: &Tensor) -> Result<(), TchError> {
    let mut start = 0;
    for (_, tensor) in named {
        let (shape, count) = (tensor.size(), tensor.numel() as i64);
        let view = |whole: &Tensor| whole.f_narrow(0, start, count)?.f_view(shape.as_slice());
        let mut tensor = tensor.shallow_clone();
        no_grad(|| tensor.f_set_data(&view(storage)?))?;
        // libtorch makes a gradient at the first backward pass; from then on it adds to what it finds.
        tensor.f_sum(storage.kind())?.f_backward()?;
        tensor.grad().f_set_data(&view(gradient)?)?;
        start += count;
    }
    Ok(())
}

/// Sixteen bytes of the numbers with the fewest bits.
const LANES: usize = 8;

/// How many numbers in a row decay, or do not.
fn runs(named: &[(String, Tensor)], decays: &impl Fn(&str) -> bool) -> Vec<(i64, bool)> {
    let mut runs: Vec<(i64, bool)> = Vec::new();
    for (name, tensor) in named {
        let (count, decays) = (tensor.numel() as i64, decays(name));
        match runs.last_mut() {
            Some((sum, same)) if *same == decays => *sum += count,
            _ => runs.push((count, decays)),
        }
    }
    runs
}

/// The vectors cut into what decays and what does not.
fn slices(vectors: [&Tensor; 4], runs: &[(i64, bool)]) -> Result<[Slices; 2], TchError> {
    let mut slices = [Slices::default(), Slices::default()];
    let mut start = 0;
    for &(count, decays) in runs {
        for (slices, vector) in slices[usize::from(!decays)].0.iter_mut().zip(vectors) {
            slices.push(vector.f_narrow(0, start, count)?);
        }
        start += count;
    }
    Ok(slices)
}

impl Slices {
    fn update(&self, constants: &Constants, weight_decay: f64, rate: f64, step: u64) -> Result<(), TchError> {
        let Self([values, gradient, first, second]) = self;
        let Constants { betas, epsilon, .. } = *constants;
        native::fused_adamw(values, gradient, first, second, AdamW { rate, betas, weight_decay, epsilon, step })
    }
}

/// Numbers that lie together in all the vectors of an update.
struct Piece {
    values: Tensor,
    first: Tensor,
    second: Tensor,
    decays: Tensor,
    gradient: Tensor,
}

/// Numbers in a piece: five vectors and what is computed from them fit a core's own cache (2^14 x 4 bytes each), and libtorch, which
/// shares out operations over 2^15 numbers among threads, leaves them to the thread that asks.
const PIECE: i64 = 1 << 14;

/// Calls `update` for every piece of the vectors, in several threads.
fn in_pieces(whole: &Piece, threads: usize, update: impl Fn(Piece) -> Result<(), TchError> + Sync) -> Result<(), TchError> {
    let pieces = whole.values.numel().div_ceil(PIECE as usize);
    let share = pieces.div_ceil(threads);
    let of_a_thread = |thread: usize| -> Vec<Result<Piece, TchError>> {
        (thread * share..pieces.min((thread + 1) * share)).map(|at| whole.part(at as i64 * PIECE)).collect()
    };
    let run = |parts: Vec<Result<Piece, TchError>>| no_grad(|| parts.into_iter().try_for_each(|part| update(part?)));
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(of_a_thread).filter(|parts| !parts.is_empty()).collect();
        let others: Vec<_> = others.into_iter().map(|parts| scope.spawn(|| run(parts))).collect();
        let mine = run(of_a_thread(0));
        let joined = others.into_iter().map(|other| other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.fold(mine, Result::and)
    })
}

impl Piece {
    /// The numbers from `start` on.
    fn part(&self, start: i64) -> Result<Self, TchError> {
        let count = PIECE.min(self.values.numel() as i64 - start);
        let part = |tensor: &Tensor| tensor.f_narrow(0, start, count);
        Ok(Self {
            values: part(&self.values)?,
            first: part(&self.first)?,
            second: part(&self.second)?,
            decays: part(&self.decays)?,
            gradient: part(&self.gradient)?,
        })
    }

    /// Leaves the gradient zero.
    fn update(mut self, constants: &Constants, rate: f64, step: u64) -> Result<(), TchError> {
        let Constants { rule, betas: [beta1, beta2], epsilon, weight_decay } = constants;
        let step = step as f64;
        if *weight_decay > 0.0 {
            if matches!(rule, Optimizer::Adamw {}) {
                let shrink = self.decays.f_mul_scalar(-rate * weight_decay)?.f_add_scalar_(1.0)?;
                let _ = self.values.f_mul_(&shrink)?;
            } else {
                let pull = self.decays.f_mul(&self.values)?.f_mul_scalar_(*weight_decay)?;
                let _ = self.gradient.f_add_(&pull)?;
            }
        }
        match rule {
            Optimizer::Adamw {} | Optimizer::Adam {} => {
                let _ = self.first.f_lerp_(&self.gradient, 1.0 - beta1)?;
                let square = self.gradient.f_mul(&self.gradient)?.f_mul_scalar_(1.0 - beta2)?;
                let _ = self.second.f_mul_scalar_(*beta2)?.f_add_(&square)?;
                let root = (1.0 - beta2.powf(step)).sqrt();
                let root = self.second.f_sqrt()?.f_div_scalar_(root)?.f_add_scalar_(*epsilon)?;
                let change = self.first.f_div(&root)?.f_mul_scalar_(-rate / (1.0 - beta1.powf(step)))?;
                let _ = self.values.f_add_(&change)?;
            }
            Optimizer::Sgd { momentum, nesterov } => {
                let _ = self.first.f_mul_scalar_(*momentum)?.f_add_(&self.gradient)?;
                let ahead = nesterov.then(|| self.first.f_mul_scalar(*momentum)?.f_add(&self.gradient)).transpose()?;
                let change = ahead.as_ref().unwrap_or(&self.first).f_mul_scalar(-rate)?;
                let _ = self.values.f_add_(&change)?;
            }
        }
        self.gradient.f_zero_().map(drop) // here, where it is in the cache
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
