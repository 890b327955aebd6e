//! VeRA: two random matrices that all layers share, with trained factors of their rows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::layers::Layers;
use super::linear::check_targets;
use super::misfit::Misfit;
use super::tensors::{Added, Start, added, linears, sites};
use crate::sites::{Architecture, LinearLayer, Site};
use crate::{Mistakes, require_positive, require_probability};

/// A low-rank update beside frozen linear layers, `b * up(d * down(x))`: `up` and `down` are random and shared by all layers, the vectors `b`
/// and `d` of each layer are trained.
///
/// Source: Kopiczko et al. 2024, arXiv:2310.11454. Defaults are those of peft.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Vera {
    /// Rank of the update, which may be larger than the layer: only vectors of this length are trained. Default 256.
    #[schemars(range(min = 1))]
    pub rank: u32,
    /// Value of `d` at the start; `b` starts at 0. Default 0.1.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub d_initial: f64,
    /// Dropout in front of the update, in training. Default 0.
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub dropout: f64,
    /// The linear layers that get one. Default all six, as for `lora`.
    pub targets: Vec<LinearLayer>,
    /// The transformer layers that get one: a list, `{ from, to }` or `{ last }`. Default all.
    pub layers: Option<Layers>,
}

impl Default for Vera {
    fn default() -> Self {
        Self { rank: 256, d_initial: 0.1, dropout: 0.0, targets: LinearLayer::ALL.to_vec(), layers: None }
    }
}

impl Vera {
    /// Name of the shared `down`, outside of the model.
    pub const DOWN: &str = "vera_A";
    /// Name of the shared `up`, outside of the model.
    pub const UP: &str = "vera_B";

    pub(super) fn check(&self, mistakes: &mut Mistakes) {
        require_positive(mistakes, "method.rank", self.rank.into());
        require_positive(mistakes, "method.d_initial", self.d_initial);
        require_probability(mistakes, "method.dropout", self.dropout);
        check_targets(&self.targets, "method.targets", mistakes);
        Layers::check(self.layers.as_ref(), mistakes);
    }

    /// The shared matrices are as large as the largest layer needs; smaller ones take their first rows and columns.
    pub(super) fn added(&self, model: &Architecture) -> Result<Vec<Added>, Misfit> {
        let sites = sites("vera", &linears(&self.targets), self.layers.as_ref(), model)?;
        let widest = |size: fn(&Site) -> u32| sites.iter().map(|site| size(site)).max().unwrap_or(0);
        let (inputs, outputs) = (widest(|site| site.size_in), widest(|site| site.size_out));
        // Kaiming uniform over the inputs, with the gain of a rectifier.
        let shared = |name: &str, [rows, columns]: [u32; 2]| Added {
            name: name.to_owned(),
            shape: vec![rows, columns],
            start: Start::Uniform { bound: (6.0 / f64::from(columns)).sqrt() },
            trained: false,
        };
        let mut list = vec![shared(Self::DOWN, [self.rank, inputs]), shared(Self::UP, [outputs, self.rank])];
        for site in sites {
            list.push(added(&site.name, "vera_lambda_b", &[site.size_out], Start::Zeros));
            list.push(added(&site.name, "vera_lambda_d", &[self.rank], Start::Filled { value: self.d_initial }));
        }
        Ok(list)
    }
}
