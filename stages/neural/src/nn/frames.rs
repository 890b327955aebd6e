//! Which frames of a batch are real and which come from padding.

use tch::{Device, Kind, TchError, Tensor};

/// The real frames of a padded batch.
#[derive(Debug)]
pub struct Frames {
    /// Real frames of each utterance.
    pub counts: Vec<i64>,
    /// True where a frame is real, (B, T). None when all are: unpadded batches are computed without masks.
    pub real: Option<Tensor>,
    /// True if padding must not change a result: for modules that otherwise treat it as sound, as they were published.
    pub(crate) alone: bool,
}

impl Frames {
    /// The first `counts` frames of each utterance in a batch padded to `num_frames`. Every utterance has at least one.
    pub fn new(counts: &[i64], num_frames: i64, device: Device) -> Result<Self, TchError> {
        let counts: Vec<i64> = counts.iter().map(|&count| count.clamp(1, num_frames)).collect();
        if counts.iter().all(|&count| count == num_frames) {
            return Ok(Self { counts, real: None, alone: false });
        }
        let index = Tensor::f_arange(num_frames, (Kind::Int64, device))?;
        let ends = Tensor::f_from_slice(&counts)?.f_to_device(device)?.f_unsqueeze(1)?;
        Ok(Self { counts, real: Some(index.f_lt_tensor(&ends)?), alone: false })
    }

    /// Sets the frames of `x` (B, T, H) that are padding to 0.
    pub(crate) fn zero_padding(&self, x: &Tensor) -> Result<Tensor, TchError> {
        match &self.real {
            Some(real) => x.f_masked_fill(&real.f_logical_not()?.f_unsqueeze(-1)?, 0.0),
            None => Ok(x.shallow_clone()),
        }
    }

    /// The frames that may be attended to, (B, 1, 1, T).
    pub(crate) fn keys(&self) -> Result<Option<Tensor>, TchError> {
        self.real.as_ref().map(|real| real.f_unsqueeze(1)?.f_unsqueeze(1)).transpose()
    }

    /// The mean of `x` (B, T, H) over the real frames: (B, H).
    pub(crate) fn mean(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let Some(real) = &self.real else { return x.f_mean_dim(1, false, Kind::Float) };
        // As one batched product, so that the masked copy of `x` is never made.
        let counts = Tensor::f_from_slice(&self.counts)?.f_to_device(x.device())?.f_unsqueeze(1)?;
        let shares = real.f_to_kind(x.kind())?.f_div(&counts)?; // (B, T)
        shares.f_unsqueeze(1)?.f_bmm(x)?.f_squeeze_dim(1)
    }
}
