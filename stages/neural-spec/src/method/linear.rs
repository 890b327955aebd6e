//! Methods beside the linear layers of the transformer: LoRA and its kin, IA3.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::layers::Layers;
use crate::sites::LinearLayer;
use crate::{Mistakes, require, require_positive, require_probability};

/// A low-rank update beside frozen linear layers: `y = Wx + b + s * up(down(dropout(x)))`.
///
/// Source: Hu et al. 2021, arXiv:2106.09685. Defaults are those of the benchmark's reference code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Lora {
    /// Rank of the update. Default 8.
    #[schemars(range(min = 1))]
    pub rank: u32,
    /// Numerator of its scale: `s = alpha / rank`. Default 1.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub alpha: f64,
    /// Dropout in front of it, in training. Default 0.
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub dropout: f64,
    /// The linear layers that get one. Default all six: `q_proj`, `k_proj`, `v_proj`, `out_proj`, `intermediate_dense`,
    /// `output_dense`.
    pub targets: Vec<LinearLayer>,
    /// True for a scale of `alpha / sqrt(rank)` instead (Kalajdzievski 2023, arXiv:2312.03732). Default false.
    pub rslora: bool,
    /// True if the length of each row of the updated weight is a trained number of its own (DoRA; Liu et al. 2024,
    /// arXiv:2402.09353). Default false.
    pub dora: bool,
    /// True if the update starts as the largest singular values and vectors of the weight, and what is left of the weight is frozen (`PiSSA`;
    /// Meng et al. 2024, arXiv:2404.02948). The adapter is saved as a plain one of twice the rank. Default false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pissa: bool,
    /// Other ranks, by the end of a layer's name: `{ output_dense = 4, "layers.11.attention.q_proj" = 16 }`. Default none.
    pub rank_pattern: BTreeMap<String, u32>,
    /// Other values of `alpha`, likewise. Default none.
    pub alpha_pattern: BTreeMap<String, f64>,
    /// The transformer layers that get them: a list, `{ from, to }` or `{ last }`. Default all.
    pub layers: Option<Layers>,
}

impl Default for Lora {
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: 1.0,
            dropout: 0.0,
            targets: LinearLayer::ALL.to_vec(),
            rslora: false,
            dora: false,
            pissa: false,
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
            layers: None,
        }
    }
}

impl Lora {
    pub(super) fn check(&self, mistakes: &mut Mistakes) {
        require_positive(mistakes, "method.rank", self.rank.into());
        require_positive(mistakes, "method.alpha", self.alpha);
        require_probability(mistakes, "method.dropout", self.dropout);
        check_targets(&self.targets, "method.targets", mistakes);
        require(mistakes, !(self.pissa && self.dora), "method.pissa", "false with dora", self.pissa);
        for (&rank, name) in self.rank_pattern.values().zip(self.rank_pattern.keys()) {
            check_pattern(name, "method.rank_pattern", rank.into(), mistakes);
        }
        for (&alpha, name) in self.alpha_pattern.values().zip(self.alpha_pattern.keys()) {
            check_pattern(name, "method.alpha_pattern", alpha, mistakes);
        }
        Layers::check(self.layers.as_ref(), mistakes);
    }

    /// Returns the plain LoRA of twice the rank that does to the encoder's own weights what this one does to what PiSSA left of them: the
    /// trained update, less the one that it started as. The scale of the updates stays.
    #[must_use]
    pub fn converted(&self) -> Self {
        let wider = if self.rslora { std::f64::consts::SQRT_2 } else { 2.0 };
        Self {
            rank: 2 * self.rank,
            alpha: wider * self.alpha,
            rank_pattern: self.rank_pattern.iter().map(|(name, rank)| (name.clone(), 2 * rank)).collect(),
            alpha_pattern: self.alpha_pattern.iter().map(|(name, alpha)| (name.clone(), wider * alpha)).collect(),
            pissa: false,
            ..self.clone()
        }
    }
}

/// A learned factor for each output of some linear layers, and for each input of others.
///
/// Source: Liu et al. 2022, arXiv:2205.05638, with the targets that peft takes for encoders of this kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ia3 {
    /// The linear layers that are scaled. Default `k_proj`, `v_proj` and `output_dense`, as in the paper.
    pub targets: Vec<LinearLayer>,
    /// Those among them whose input is scaled instead of their output. Default `output_dense`, as in the paper.
    pub feedforward: Vec<LinearLayer>,
    /// The transformer layers that are scaled: a list, `{ from, to }` or `{ last }`. Default all.
    pub layers: Option<Layers>,
}

impl Default for Ia3 {
    fn default() -> Self {
        Self {
            targets: vec![LinearLayer::KProj, LinearLayer::VProj, LinearLayer::OutputDense],
            feedforward: vec![LinearLayer::OutputDense],
            layers: None,
        }
    }
}

impl Ia3 {
    pub(super) fn check(&self, mistakes: &mut Mistakes) {
        check_targets(&self.targets, "method.targets", mistakes);
        for layer in &self.feedforward {
            let known = self.targets.contains(layer);
            require(mistakes, known, "method.feedforward", "among the targets", format!("`{}`", layer.name()));
        }
        Layers::check(self.layers.as_ref(), mistakes);
    }
}

pub(super) fn check_targets(targets: &[LinearLayer], parameter: &'static str, mistakes: &mut Mistakes) {
    require(mistakes, !targets.is_empty(), parameter, "a list of one or more layers", "empty");
    for (at, target) in targets.iter().enumerate() {
        let first = !targets[..at].contains(target);
        require(mistakes, first, parameter, "without repeats", format!("`{}` twice", target.name()));
    }
}

/// peft reads a pattern as a regular expression, so only what means the same in both is allowed.
fn check_pattern(name: &str, parameter: &'static str, value: f64, mistakes: &mut Mistakes) {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '.';
    let named = !name.is_empty() && name.chars().all(plain);
    require(mistakes, named, parameter, "the ends of layers' names, as in `layers.3.attention.q_proj`", format!("`{name}`"));
    require_positive(mistakes, parameter, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lora: &Lora, names: &[&str]) {
        let mut mistakes = Vec::new();
        lora.check(&mut mistakes);
        assert_eq!(mistakes.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names);
    }

    #[test]
    fn a_useless_lora_is_refused() {
        check(&Lora::default(), &[]);
        let targets = vec![LinearLayer::QProj, LinearLayer::QProj];
        let useless = Lora { rank: 0, alpha: -1.0, dropout: 1.0, targets, ..Lora::default() };
        check(&useless, &["method.rank", "method.alpha", "method.dropout", "method.targets"]);
        let rank_pattern = BTreeMap::from([("q_proj".to_owned(), 0), (".*_proj".to_owned(), 2)]);
        check(&Lora { rank_pattern, ..Lora::default() }, &["method.rank_pattern", "method.rank_pattern"]);
    }

    #[test]
    fn a_converted_pissa_has_twice_the_rank_and_the_same_scale() {
        for rslora in [false, true] {
            let pattern = |number: f64| BTreeMap::from([("q_proj".to_owned(), number)]);
            let rank_pattern = BTreeMap::from([("v_proj".to_owned(), 3)]);
            let lora =
                Lora { rank: 4, alpha: 6.0, rslora, pissa: true, rank_pattern, alpha_pattern: pattern(5.0), ..Lora::default() };
            let converted = lora.converted();
            assert_eq!((converted.rank, converted.rank_pattern["v_proj"], converted.pissa), (8, 6, false));
            for module in ["q_proj", "v_proj", "k_proj"] {
                let [before, after] = [&lora, &converted].map(|lora| lora.scale_of(module).unwrap());
                assert!((before - after).abs() < 1e-12, "{module}: {before} and {after}");
            }
        }
    }

    #[test]
    fn what_is_scaled_at_its_input_must_be_scaled_at_all() {
        let mut mistakes = Vec::new();
        Ia3 { feedforward: vec![LinearLayer::OutProj], ..Ia3::default() }.check(&mut mistakes);
        assert_eq!(mistakes, [("method.feedforward", "must be among the targets, not `out_proj`".to_owned())]);
    }
}
