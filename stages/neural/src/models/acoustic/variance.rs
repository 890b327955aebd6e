//! Durations, pitch and energy: predicted, put in, and used.

use tch::{Device, Kind, TchError, Tensor};

use super::block::NORM_EPS;
use super::convolution::Convolution;
use super::shape::{Shape, ValueEntry};
use crate::nn::frames::Frames;
use crate::nn::norm::LayerNorm;
use crate::nn::pass::Pass;
use crate::nn::weights::{Weights, tensor};

/// Predictor of one number per position.
///
/// Source: Ren et al. 2021, arXiv:2006.04558, section 2.3: twice convolution, `ReLU`, layer norm and dropout, then a linear layer.
#[derive(Debug)]
struct Predictor {
    convolutions: [Convolution; 2],
    norms: [LayerNorm; 2],
    linear: [Tensor; 2],
    dropout: f64,
}

impl Predictor {
    fn new(weights: &Weights, name: &str, dropout: f64) -> Self {
        let part = |part: &str| tensor(weights, &format!("{name}.linear_layer.{part}"));
        Self {
            convolutions: [1, 2].map(|at| Convolution::new(weights, &format!("{name}.conv_layer.conv1d_{at}.conv"))),
            norms: [1, 2].map(|at| LayerNorm::new(weights, &format!("{name}.conv_layer.layer_norm_{at}"), NORM_EPS)),
            linear: [part("weight"), part("bias")],
            dropout,
        }
    }

    /// (B, P, H), 0 at padding -> (B, P), 0 at padding.
    fn forward(&self, x: &Tensor, positions: &Frames, pass: &Pass) -> Result<Tensor, TchError> {
        let mut x = x.shallow_clone();
        for (convolution, norm) in self.convolutions.iter().zip(&self.norms) {
            let convolved = convolution.forward(&x.f_transpose(1, 2)?)?.f_relu()?.f_transpose(1, 2)?;
            x = positions.zero_padding(&pass.dropout(&norm.forward(&convolved)?, self.dropout)?)?;
        }
        let [weight, bias] = &self.linear;
        positions.zero_padding(&x.f_linear(weight, Some(bias))?)?.f_squeeze_dim(-1)
    }
}

/// Entry of one value per position.
#[derive(Debug)]
enum Entry {
    Convolution(Convolution),
    Bins { table: Tensor, limits: Tensor },
}

impl Entry {
    fn new(weights: &Weights, prefix: &str, value: &str, entry: ValueEntry) -> Self {
        let name = format!("{prefix}{value}_embedding");
        match entry {
            ValueEntry::Convolution { .. } => Self::Convolution(Convolution::new(weights, &name)),
            ValueEntry::Bins { .. } => Self::Bins {
                table: tensor(weights, &format!("{name}.weight")),
                limits: tensor(weights, &format!("{prefix}{value}_bins")),
            },
        }
    }

    /// (B, P) -> (B, P, H).
    fn forward(&self, values: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::Convolution(convolution) => convolution.forward(&values.f_unsqueeze(1)?)?.f_transpose(1, 2),
            Self::Bins { table, limits } => {
                let bins = values.f_detach()?.f_contiguous()?.f_bucketize(limits, false, false)?;
                Tensor::f_embedding(table, &bins, -1, false, false)
            }
        }
    }
}

/// Predictors and entries of a model.
#[derive(Debug)]
pub(super) struct Variance {
    duration: Predictor,
    pitch: Predictor,
    energy: Predictor,
    pitch_entry: Entry,
    energy_entry: Entry,
    gradient: f64,
    energy_after_pitch: bool,
}

/// Predictions for the positions of a batch, (B, P) each.
#[derive(Debug)]
pub(super) struct Predicted {
    /// Logarithms of durations in frames plus 1.
    pub(super) log_durations: Tensor,
    /// Standardised pitch.
    pub(super) pitch: Tensor,
    /// Standardised energy.
    pub(super) energy: Tensor,
}

/// Changes to what was predicted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Controls {
    /// Factor of the durations.
    pub pace: f64,
    /// Factor of the standardised pitch.
    pub pitch_factor: f64,
    /// Added to the standardised pitch.
    pub pitch: f64,
    /// Added to the standardised energy.
    pub energy: f64,
}

impl Default for Controls {
    fn default() -> Self {
        Self { pace: 1.0, pitch_factor: 1.0, pitch: 0.0, energy: 0.0 }
    }
}

impl Variance {
    /// Builds it around the tensors whose names begin with `prefix`.
    pub(super) fn new(weights: &Weights, prefix: &str, shape: &Shape) -> Self {
        let predictor = |name: &str| Predictor::new(weights, &format!("{prefix}{name}_predictor"), shape.predictor.dropout);
        Self {
            duration: predictor("duration"),
            pitch: predictor("pitch"),
            energy: predictor("energy"),
            pitch_entry: Entry::new(weights, prefix, "pitch", shape.values),
            energy_entry: Entry::new(weights, prefix, "energy", shape.values),
            gradient: shape.predictor_gradient,
            energy_after_pitch: shape.energy_after_pitch,
        }
    }

    /// Puts the true pitch and energy in: positions with them (B, P, H), and what would have been predicted.
    pub(super) fn teach(
        &self,
        x: &Tensor,
        [pitch, energy]: [&Tensor; 2],
        positions: &Frames,
        pass: &Pass,
    ) -> Result<(Tensor, Predicted), TchError> {
        let thinned = if (self.gradient - 1.0).abs() < f64::EPSILON {
            x.shallow_clone()
        } else {
            x.f_detach()?.f_mul_scalar(1.0 - self.gradient)?.f_add(&x.f_mul_scalar(self.gradient)?)?
        };
        let log_durations = self.duration.forward(&thinned, positions, pass)?;
        let predicted_pitch = self.pitch.forward(&thinned, positions, pass)?;
        let with_pitch = positions.zero_padding(&x.f_add(&self.pitch_entry.forward(pitch)?)?)?;
        let for_energy = if self.energy_after_pitch { &with_pitch } else { x };
        let predicted_energy = self.energy.forward(for_energy, positions, pass)?;
        let x = positions.zero_padding(&with_pitch.f_add(&self.energy_entry.forward(energy)?)?)?;
        Ok((x, Predicted { log_durations, pitch: predicted_pitch, energy: predicted_energy }))
    }

    /// Puts predicted pitch and energy in, changed by `controls`.
    pub(super) fn predict(
        &self,
        x: &Tensor,
        controls: &Controls,
        positions: &Frames,
        pass: &Pass,
    ) -> Result<(Tensor, Predicted), TchError> {
        let log_durations = self.duration.forward(x, positions, pass)?;
        let pitch = self.pitch.forward(x, positions, pass)?;
        let moved = |x: &Tensor, factor: f64, by: f64| column(positions, &x.f_mul_scalar(factor)?.f_add_scalar(by)?);
        let moved_pitch = moved(&pitch, controls.pitch_factor, controls.pitch)?;
        let with_pitch = positions.zero_padding(&x.f_add(&self.pitch_entry.forward(&moved_pitch)?)?)?;
        let for_energy = if self.energy_after_pitch { &with_pitch } else { x };
        let energy = self.energy.forward(for_energy, positions, pass)?;
        let x = with_pitch.f_add(&self.energy_entry.forward(&moved(&energy, 1.0, controls.energy)?)?)?;
        Ok((positions.zero_padding(&x)?, Predicted { log_durations, pitch, energy }))
    }
}

/// Sets values (B, P) of padding to 0.
fn column(positions: &Frames, values: &Tensor) -> Result<Tensor, TchError> {
    positions.zero_padding(&values.f_unsqueeze(-1)?)?.f_squeeze_dim(-1)
}

/// Frames of positions (B, P) from the logarithms that were predicted: `round((exp(x) - 1) * pace)`, half to even, at least `least`.
pub(super) fn durations(log_durations: &Tensor, pace: f64, positions: &Frames, least: i64) -> Result<Vec<Vec<i64>>, TchError> {
    let exact = log_durations.f_exp()?.f_sub_scalar(1.0)?.f_mul_scalar(pace)?.f_to_device(Device::Cpu)?;
    let rounded = exact.f_round()?.f_clamp_min(least as f64)?.f_to_kind(Kind::Int64)?;
    let own = |(at, &count): (usize, &i64)| {
        let row = rounded.f_select(0, at as i64)?.f_narrow(0, 0, count)?.f_contiguous()?;
        Vec::<i64>::try_from(row)
    };
    positions.counts.iter().enumerate().map(own).collect()
}

/// Matrix of a path, (B, T, P): 1 where a frame belongs to a position. `num_positions` is the padded length.
pub(super) fn path_matrix(durations: &[Vec<i64>], num_positions: i64, device: Device) -> Result<(Tensor, Frames), TchError> {
    let counts: Vec<i64> = durations.iter().map(|own| own.iter().sum()).collect();
    let num_frames = counts.iter().copied().max().unwrap_or(0).max(1);
    let (batch, width) = (durations.len(), num_positions as usize);
    let mut values = vec![0.0_f32; batch * num_frames as usize * width];
    for (own, rows) in durations.iter().zip(values.chunks_exact_mut(num_frames as usize * width)) {
        let positions = own.iter().enumerate().flat_map(|(position, &count)| std::iter::repeat_n(position, count as usize));
        for (row, position) in rows.chunks_exact_mut(width).zip(positions) {
            row[position] = 1.0;
        }
    }
    let matrix = Tensor::f_from_slice(&values)?.f_view([batch as i64, num_frames, num_positions])?.f_to_device(device)?;
    Ok((matrix, Frames::new(&counts, num_frames, device)?))
}

/// Means per position (B, P) of values per frame (B, T) over the frames that count (B, T), 0 where none does.
pub(super) fn means(path: &Tensor, values: &Tensor, counted: &Tensor) -> Result<Tensor, TchError> {
    let to_positions = path.f_transpose(1, 2)?; // (B, P, T)
    let sums = to_positions.f_bmm(&values.f_mul(counted)?.f_unsqueeze(-1)?)?;
    let counts = to_positions.f_bmm(&counted.f_unsqueeze(-1)?)?.f_clamp_min(1.0)?;
    sums.f_div(&counts)?.f_squeeze_dim(-1)
}
