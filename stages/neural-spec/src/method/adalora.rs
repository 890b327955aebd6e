//! AdaLoRA: low-rank updates as singular values and vectors, of which the least important are dropped in training.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::layers::Layers;
use super::linear::check_targets;
use super::misfit::Misfit;
use super::tensors::{Added, Start, added, linears, sites};
use crate::sites::{Architecture, LinearLayer, Site};
use crate::{Mistakes, require, require_positive, require_probability};

/// A low-rank update beside frozen linear layers, `s * up (values * down)`, whose rank is shared out among the layers in training.
///
/// Source: Zhang et al. 2023, arXiv:2303.10512. Defaults are those of peft, but for `tinit` and `tfinal`, which are 0 there: ranks would be
/// dropped from the first update to the last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdaLora {
    /// Mean rank of the layers at the end (`target_r` in peft). Default 8.
    #[schemars(range(min = 1))]
    pub rank: u32,
    /// Rank of each layer at the start (`init_r` in peft). Default 12.
    #[schemars(range(min = 1))]
    pub init_rank: u32,
    /// Numerator of the scale: `s = alpha / init_rank`. Default 8.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub alpha: f64,
    /// Dropout in front of the update, in training. Default 0.
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub dropout: f64,
    /// The linear layers that get one. Default all six, as for `lora`.
    pub targets: Vec<LinearLayer>,
    /// Updates before the first rank is dropped. Default a tenth of the training.
    pub tinit: Option<u32>,
    /// Updates after the last rank is dropped. Default three tenths of the training.
    pub tfinal: Option<u32>,
    /// Updates from one choice of the ranks to the next (`deltaT` in peft). Default 1.
    #[schemars(range(min = 1))]
    pub delta_t: u32,
    /// Decay rate of the importance of a parameter. Default 0.85.
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub beta1: f64,
    /// Decay rate of its uncertainty. Default 0.85.
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub beta2: f64,
    /// Weight of the penalty that keeps the singular vectors orthogonal (`orth_reg_weight` in peft). The loss of the training contains it, that
    /// of the dev set does not. Default 0.5.
    #[schemars(range(min = 0.0))]
    pub orthogonal: f64,
    /// The transformer layers that get an update: a list, `{ from, to }` or `{ last }`. Default all.
    pub layers: Option<Layers>,
}

/// Updates at which the ranks of a training change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phases {
    /// Updates before the first rank is dropped.
    pub tinit: u64,
    /// Updates after the last one is.
    pub tfinal: u64,
    /// All updates.
    pub total: u64,
}

impl Default for AdaLora {
    fn default() -> Self {
        Self {
            rank: 8,
            init_rank: 12,
            alpha: 8.0,
            dropout: 0.0,
            targets: LinearLayer::ALL.to_vec(),
            tinit: None,
            tfinal: None,
            delta_t: 1,
            beta1: 0.85,
            beta2: 0.85,
            orthogonal: 0.5,
            layers: None,
        }
    }
}

impl AdaLora {
    pub(super) fn check(&self, mistakes: &mut Mistakes) {
        let fits = (1..=self.init_rank).contains(&self.rank);
        require(mistakes, fits, "method.rank", "at least 1 and at most init_rank", self.rank);
        require_positive(mistakes, "method.alpha", self.alpha);
        require_probability(mistakes, "method.dropout", self.dropout);
        check_targets(&self.targets, "method.targets", mistakes);
        require_positive(mistakes, "method.delta_t", self.delta_t.into());
        for (name, beta) in [("method.beta1", self.beta1), ("method.beta2", self.beta2)] {
            require(mistakes, beta > 0.0 && beta < 1.0, name, "above 0 and below 1", beta);
        }
        let weight = self.orthogonal;
        require(mistakes, weight.is_finite() && weight >= 0.0, "method.orthogonal", "at least 0", weight);
        Layers::check(self.layers.as_ref(), mistakes);
    }

    /// Returns the phases of a training of so many updates; none where they leave no update between them.
    pub fn phases(&self, total: u64) -> Option<Phases> {
        let tinit = self.tinit.map_or(total / 10, u64::from);
        let tfinal = self.tfinal.map_or(3 * total / 10, u64::from);
        (tinit + tfinal < total).then_some(Phases { tinit, tfinal, total })
    }

    /// Factor of the update. The small number is peft's guard against a rank of 0.
    pub fn scale(&self) -> f64 {
        self.alpha / (f64::from(self.init_rank) + 1e-5)
    }

    pub(super) fn added(&self, model: &Architecture) -> Result<Vec<Added>, Misfit> {
        const VECTORS: Start = Start::Normal { std: 0.02 };
        let rank = self.init_rank;
        let mut list = Vec::new();
        for Site { name, size_in, size_out, .. } in sites("adalora", &linears(&self.targets), self.layers.as_ref(), model)? {
            let limit = *size_in.min(size_out);
            if rank > limit {
                let (setting, module) = ("init_rank".to_owned(), name.clone());
                return Err(Misfit::Rank { setting, module, rank, limit, side: "the smaller side" });
            }
            list.push(added(name, "lora_A", &[rank, *size_in], VECTORS));
            list.push(added(name, "lora_E", &[rank, 1], Start::Zeros));
            list.push(added(name, "lora_B", &[*size_out, rank], VECTORS));
        }
        Ok(list)
    }
}

impl Phases {
    /// Sum of the ranks of all layers after an update (counted from 1), and true if ranks are dropped then: falls as the cube of the
    /// time left, from `start` to `end`.
    pub fn budget(&self, update: u64, delta_t: u32, [start, end]: [u64; 2]) -> (u64, bool) {
        let Self { tinit, tfinal, total } = *self;
        let settled = total - tfinal;
        if update <= tinit {
            return (start, false);
        }
        if update >= settled {
            return (end, true);
        }
        let left = 1.0 - (update - tinit) as f64 / (settled - tinit) as f64;
        let budget = (start - end) as f64 * left.powi(3) + end as f64;
        (budget as u64, update.is_multiple_of(delta_t.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_fall_between_the_first_and_the_last_phase() {
        let phases = AdaLora { tinit: Some(2), tfinal: Some(3), ..AdaLora::default() }.phases(10).unwrap();
        let found: Vec<_> = (1..=10).map(|update| phases.budget(update, 2, [24, 16])).collect();
        // 16 + 8 * (1 - 1/5)^3 = 20.096, then 17.728, 16.512, 16.064.
        let expected = [24, 24, 20, 17, 16, 16, 16, 16, 16, 16];
        assert_eq!(found.iter().map(|(budget, _)| *budget).collect::<Vec<_>>(), expected);
        let dropped: Vec<_> = found.iter().map(|(_, drops)| *drops).collect();
        assert_eq!(dropped, [false, false, false, true, false, true, true, true, true, true]);
        assert_eq!(AdaLora::default().phases(40), Some(Phases { tinit: 4, tfinal: 12, total: 40 }));
        assert_eq!(AdaLora { tinit: Some(7), tfinal: Some(3), ..AdaLora::default() }.phases(10), None);
    }
}
