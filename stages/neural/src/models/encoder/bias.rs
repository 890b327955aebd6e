//! WavLM's position bias: what attention adds to its scores for the distance between two frames.
//!
//! Source: Chen et al. 2021, arXiv:2110.13900, section IV-B; buckets as in Raffel et al. 2020, arXiv:1910.10683.

use tch::{TchError, Tensor};

use crate::checkpoint::config::{Buckets, EncoderConfig};
use crate::checkpoint::weights::POSITION_BIAS;
use crate::nn::weights::{Weights, tensor};

/// One value per head and bucket of distances, shared by all layers.
#[derive(Debug)]
pub(crate) struct PositionBias {
    /// (buckets, A).
    values: Tensor,
    buckets: Buckets,
}

impl PositionBias {
    pub(crate) fn new(config: &EncoderConfig, weights: &Weights) -> Self {
        Self { values: tensor(weights, POSITION_BIAS), buckets: config.buckets() }
    }

    /// The bias of every pair of query and key, (A, T, T).
    pub(crate) fn forward(&self, num_frames: i64) -> Result<Tensor, TchError> {
        // All distances key - query that occur, one look-up each; row q of the result is a window of them.
        let wanted: Vec<i64> = (1 - num_frames..num_frames).map(|distance| self.buckets.of(distance)).collect();
        let wanted = Tensor::f_from_slice(&wanted)?.f_to_device(self.values.device())?;
        let by_distance = self.values.f_index_select(0, &wanted)?.f_transpose(0, 1)?; // (A, 2T - 1)
        by_distance.f_unfold(1, num_frames, 1)?.f_flip([1])
    }
}

impl Buckets {
    /// The bucket of a distance `key - query`: exact when it is small, on a logarithmic scale when large. In float32, as published.
    pub fn of(self, distance: i64) -> i64 {
        let half = self.count / 2;
        let exact = half / 2;
        let side = if distance > 0 { half } else { 0 };
        let span = distance.abs();
        if span < exact {
            return side + span;
        }
        let octaves = (span as f32 / exact as f32).ln() / (self.max_distance as f64 / exact as f64).ln() as f32;
        let far = exact + (octaves * (half - exact) as f32) as i64;
        side + far.min(half - 1)
    }
}

/// How strongly one layer applies the bias, decided by its own input.
#[derive(Debug)]
pub(crate) struct BiasGate {
    /// (1, A, 1, 1).
    constant: Tensor,
    /// (8, D), (8).
    linear: [Tensor; 2],
}

impl BiasGate {
    pub(crate) fn new(weights: &Weights, attention: &str) -> Self {
        let part = |name: &str| tensor(weights, &format!("{attention}.{name}"));
        Self { constant: part("gru_rel_pos_const"), linear: [part("gru_rel_pos_linear.weight"), part("gru_rel_pos_linear.bias")] }
    }

    /// Bias of this layer's scores: `x` (B, T, H), the input of its attention, and `bias` (A, T, T) -> (B, A, T, T).
    pub(crate) fn forward(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor, TchError> {
        let [weight, shift] = &self.linear;
        let (heads, width) = (self.constant.size()[1], weight.size()[1]);
        // The published layer makes eight numbers and adds them up in fours; adding up its rows first gives the same two.
        let weight = weight.f_view([2, 4, width])?.f_sum_dim_intlist(1, false, None)?;
        let shift = shift.f_view([2, 4])?.f_sum_dim_intlist(1, false, None)?;
        let &[batch, frames, _] = x.size().as_slice() else { return Err(TchError::Shape("expected (B, T, H)".to_owned())) };
        let gates = x.f_view([batch, frames, heads, width])?.f_linear(&weight, Some(&shift))?.f_sigmoid()?; // (B, T, A, 2)
        let gates = gates.f_transpose(1, 2)?; // (B, A, T, 2)
        let (reset, update) = (gates.f_narrow(3, 0, 1)?, gates.f_narrow(3, 1, 1)?);
        let gate = reset.f_mul(&update.f_mul(&self.constant)?.f_sub_scalar(1.0)?)?.f_add_scalar(2.0)?; // (B, A, T, 1)
        gate.f_mul(bias)
    }
}
