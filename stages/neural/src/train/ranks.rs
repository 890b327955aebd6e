//! Ranks of AdaLoRA: which singular values of all layers are worth their parameters.

use neural_spec::{AdaLora, Phases};
use pipeline::StageError;
use tch::{TchError, Tensor, no_grad};

use super::error::TrainError;
use super::optimizer::Parameters;
use crate::error::ModelError;
use crate::nn::weights::Weights;
use crate::peft::{LEFT, RIGHT, VALUES};

/// Importance of all trained values, and the ranks that they leave.
///
/// An update leaves a value `w` with gradient `g` the sensitivity `|w g|`. Its importance is the decaying mean of that, times the decaying mean
/// of how far it is off.
/// Source: Zhang et al. 2023, arXiv:2303.10512, sections 3.2 and 3.3; order of the operations as in peft.
pub(super) struct Ranks {
    spec: AdaLora,
    phases: Phases,
    /// Decaying mean of the sensitivities. (P)
    importance: Tensor,
    /// Decaying mean of their distance from it. (P)
    uncertainty: Tensor,
    /// 1 for each value, 0 for the singular values of ranks that were dropped last. (P)
    kept: Tensor,
}

impl Ranks {
    /// All ranks, at the start of a training of so many updates; none for a method that shares none out.
    ///
    /// Errors: [`TrainError::Phases`], what libtorch reports.
    pub(super) fn start(spec: Option<&AdaLora>, total: u64, parameters: &Parameters) -> Result<Option<Self>, StageError> {
        let Some(spec) = spec else { return Ok(None) };
        let phases = spec.phases(total).ok_or_else(|| StageError::failed(TrainError::Phases { total }))?;
        let values = &parameters.values;
        let vectors = || Ok::<_, TchError>((values.f_zeros_like()?, values.f_zeros_like()?, values.f_ones_like()?));
        let (importance, uncertainty, kept) = vectors().map_err(ModelError::from)?;
        Ok(Some(Self { spec: spec.clone(), phases, importance, uncertainty, kept }))
    }

    /// Its vectors, which a saved state contains.
    pub(super) fn vectors(&mut self) -> [&mut Tensor; 3] {
        [&mut self.importance, &mut self.uncertainty, &mut self.kept]
    }

    /// To be called after each update, counted from 1, with the gradient that it used.
    ///
    /// Errors: what libtorch reports.
    pub(super) fn after(&mut self, update: u64, gradient: &Tensor, parameters: &mut Parameters) -> Result<(), TchError> {
        let settled = self.phases.total - self.phases.tfinal;
        no_grad(|| {
            if update < settled {
                let sensitivity = parameters.values.f_mul(gradient)?.f_abs()?;
                decay(&mut self.importance, &sensitivity, self.spec.beta1)?;
                let off = sensitivity.f_sub(&self.importance)?.f_abs()?;
                decay(&mut self.uncertainty, &off, self.spec.beta2)?;
            }
            let drops = if update <= settled { self.choose(update, parameters)? } else { true };
            if drops { parameters.set(&parameters.values.f_mul(&self.kept)?) } else { Ok(()) }
        })
    }

    /// Chooses the ranks that stay, if it is time to. Returns true if it did.
    fn choose(&mut self, update: u64, parameters: &Parameters) -> Result<bool, TchError> {
        let scores: Weights = parameters.named_values(&self.importance.f_mul(&self.uncertainty)?)?.into_iter().collect();
        let layers: Vec<&str> = scores.keys().filter_map(|name| name.strip_suffix(VALUES)).collect();
        let of_layer = |layer: &&str| {
            let [values, right, left] = [VALUES, RIGHT, LEFT].map(|part| &scores[&format!("{layer}{part}")]);
            let kind = values.kind();
            let vectors =
                right.f_mean_dim([1_i64].as_slice(), false, kind)?.f_add(&left.f_mean_dim([0_i64].as_slice(), false, kind)?)?;
            values.f_view([-1])?.f_add(&vectors)
        };
        let triplets = layers.iter().map(of_layer).collect::<Result<Vec<_>, TchError>>()?;
        let ranks = triplets.iter().map(|layer| layer.numel() as u64).sum::<u64>();
        let end = u64::from(self.spec.rank) * layers.len() as u64;
        let (budget, drops) = self.phases.budget(update, self.spec.delta_t, [ranks, end]);
        if !drops || budget == ranks {
            return Ok(false);
        }
        let (threshold, _) = Tensor::f_cat(&triplets, 0)?.f_kthvalue((ranks - budget) as i64, 0, false)?;
        let kept: Weights = parameters.named_values(&self.kept)?.into_iter().collect();
        for (layer, triplet) in layers.iter().zip(&triplets) {
            let mut kept = kept[&format!("{layer}{VALUES}")].shallow_clone();
            kept.f_copy_(&triplet.f_gt_tensor(&threshold)?.f_unsqueeze(1)?)?;
        }
        Ok(true)
    }
}

/// `mean = beta * mean + (1 - beta) * value`.
fn decay(mean: &mut Tensor, value: &Tensor, beta: f64) -> Result<(), TchError> {
    mean.f_mul_scalar_(beta)?.f_add_(&value.f_mul_scalar(1.0 - beta)?).map(drop)
}
