//! One forward pass: evaluation, or training with its random draws.

use std::cell::{Cell, RefCell};

use tch::{TchError, Tensor};

use super::activation::Activation;
use super::native::{self, Kernels};
use super::random::Rng;

/// Mode of a forward pass: evaluation, or training with its random draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// No noise, no graph.
    Eval,
    /// Dropout, skipped layers and masks, all decided by the seed: the same seed repeats the pass.
    Train {
        /// Give every step and micro batch its own.
        seed: u64,
    },
}

/// A forward pass under way.
#[derive(Debug, Clone)]
pub struct Pass {
    rng: Option<RefCell<Rng>>,
    seed: u64,
    /// For the next kernel of our own that drops something.
    noise: Cell<u64>,
    /// True if each utterance is computed as if it were alone.
    alone: bool,
}

impl Pass {
    /// Begins a pass. Training seeds libtorch's generator, too, from which attention on a GPU draws what it drops.
    pub fn begin(mode: Mode) -> Self {
        match mode {
            Mode::Eval => Self { rng: None, seed: 0, noise: Cell::new(0), alone: false },
            Mode::Train { seed } => {
                let mut rng = Rng::named(seed, "pass");
                tch::manual_seed((rng.next_u64() >> 1) as i64);
                let noise = Cell::new(Rng::named(seed, "noise").next_u64());
                Self { rng: Some(RefCell::new(rng)), seed, noise, alone: false }
            }
        }
    }

    /// Lets each utterance be computed as if it were alone, whatever is padded.
    pub(crate) fn of_single_clips(mut self, alone: bool) -> Self {
        self.alone = alone;
        self
    }

    /// True if each utterance is computed as if it were alone.
    pub(crate) fn is_alone(&self) -> bool {
        self.alone
    }

    /// True if the pass trains.
    pub(crate) fn trains(&self) -> bool {
        self.rng.is_some()
    }

    /// Begins a layer: in training its dropout draws from a generator seeded for it alone, so that it can be computed again.
    pub(crate) fn begin_layer(&self, index: usize) {
        if self.trains() {
            let seed = Rng::named(self.seed, &format!("layer {index}")).next_u64();
            tch::manual_seed((seed >> 1) as i64);
            self.noise.set(seed);
        }
    }

    /// Zeroes elements with probability `p` and scales the others by 1 / (1 - p); in evaluation the input itself.
    pub(crate) fn dropout(&self, x: &Tensor, p: f64) -> Result<Tensor, TchError> {
        if self.probability(p) == 0.0 {
            return Ok(x.shallow_clone());
        }
        if native::draws_on(x) { native::dropout(x, p, self.next_noise()) } else { x.f_dropout(p, true) }
    }

    /// `to + dropout(x)`.
    pub(crate) fn add_dropped(&self, to: &Tensor, x: &Tensor, p: f64) -> Result<Tensor, TchError> {
        if self.probability(p) > 0.0 && native::draws_on(x) {
            return native::dropout_add(x, to, p, self.next_noise());
        }
        to.f_add(&self.dropout(x, p)?)
    }

    /// `dropout(activation(x))` of a tensor that nobody else reads, as one where the device can.
    pub(crate) fn activate_and_drop(&self, activation: Activation, x: Tensor, p: f64) -> Result<Tensor, TchError> {
        match Kernels::of(&x).filter(|_| activation == Activation::Gelu && self.probability(p) > 0.0) {
            Some(kernels) => kernels.gelu_dropout(&x, p, self.next_noise()),
            None => self.dropout(&activation.replace(x)?, p),
        }
    }

    fn next_noise(&self) -> u64 {
        self.noise.replace(self.noise.get().wrapping_add(1))
    }

    /// `p` in training, 0 in evaluation.
    pub(crate) fn probability(&self, p: f64) -> f64 {
        if self.rng.is_some() { p } else { 0.0 }
    }

    /// Draws whether something with probability `p` happens; never in evaluation.
    pub(crate) fn happens(&self, p: f64) -> bool {
        p > 0.0 && self.with_rng(|rng| rng.uniform() < p).unwrap_or(false)
    }

    /// Lets `draw` use the generator; none in evaluation.
    pub(crate) fn with_rng<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> Option<T> {
        self.rng.as_ref().map(|rng| draw(&mut rng.borrow_mut()))
    }
}
