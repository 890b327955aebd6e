//! Starting values of parameters, seeded.

use tch::{TchError, Tensor};

use super::random::Rng;

/// Starting values of a tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Start {
    /// All zero.
    Zeros,
    /// All one.
    Ones,
    /// Normal around 0.
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// Uniform in `[low, high)`.
    Uniform {
        /// Lower end.
        low: f64,
        /// Upper end.
        high: f64,
    },
    /// The norm per tap of the direction of a weight-normalised convolution, so that gain and direction multiply to it.
    DirectionNorm,
}

impl Start {
    pub(crate) fn symmetric(bound: f64) -> Self {
        Self::Uniform { low: -bound, high: bound }
    }
}

/// Returns a tensor on the CPU with its starting values, which follow from `name` and `seed`.
pub(crate) fn started(name: &str, shape: &[i64], start: Start, seed: u64) -> Result<Tensor, TchError> {
    let mut rng = Rng::named(seed, name);
    let count = shape.iter().product::<i64>() as usize;
    let mut draw = || match start {
        Start::Zeros | Start::DirectionNorm => 0.0,
        Start::Ones => 1.0,
        Start::Normal { std } => std * rng.normal(),
        Start::Uniform { low, high } => low + (high - low) * rng.uniform(),
    };
    let values: Vec<f32> = (0..count).map(|_| draw() as f32).collect();
    Tensor::f_from_slice(&values)?.f_reshape(shape)
}
