//! What is trained: all of the encoder, or a few parameters beside it; and the head on top.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Mistakes, require, require_positive, require_probability};

/// A way of adapting an encoder to a task. The head is trained in every one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum Method {
    /// Trains the encoder's own weights.
    Finetune {
        /// Which of them.
        scope: Scope,
    },
    /// Trains a low-rank update beside frozen linear layers: `y = Wx + b + s * up(down(dropout(x)))` (Hu et al. 2021, arXiv:2106.09685).
    Lora {
        /// Rank of the update.
        rank: u32,
        /// Numerator of its scale: `s = alpha / rank`.
        alpha: f64,
        /// Dropout in front of it, in training.
        dropout: f64,
        /// The linear layers that get one, in every transformer layer.
        targets: Vec<LoraTarget>,
        /// Whether the scale is `alpha / sqrt(rank)` instead (Kalajdzievski 2023, arXiv:2312.03732).
        rslora: bool,
    },
}

/// Which of the encoder's own weights are trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All of them.
    All,
    /// All but the convolutions over the waveform.
    AllButConv,
}

/// A linear layer of a transformer layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoraTarget {
    /// Queries of the attention.
    QProj,
    /// Keys of the attention.
    KProj,
    /// Values of the attention.
    VProj,
    /// Output of the attention.
    OutProj,
    /// First layer of the feed-forward block.
    IntermediateDense,
    /// Second layer of the feed-forward block.
    OutputDense,
}

impl LoraTarget {
    /// The last part of the layer's name in a checkpoint.
    pub fn module(self) -> &'static str {
        match self {
            Self::QProj => "q_proj",
            Self::KProj => "k_proj",
            Self::VProj => "v_proj",
            Self::OutProj => "out_proj",
            Self::IntermediateDense => "intermediate_dense",
            Self::OutputDense => "output_dense",
        }
    }
}

/// The task layer on top of the encoder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum HeadSpec {
    /// One class for a whole utterance: projector, mean over its frames, classifier.
    Classification {
        /// Width of the projector. Default 256, as in the benchmark's reference code.
        #[serde(default = "projector_size")]
        projector_size: u32,
        /// Whether its input is a learned mix of all layers instead of the last one. Default false, as in the benchmark's reference code.
        #[serde(default)]
        layer_sum: bool,
    },
}

fn projector_size() -> u32 {
    256
}

impl Method {
    /// The name that workflow files and tables use.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Finetune { .. } => "finetune",
            Self::Lora { .. } => "lora",
        }
    }

    pub(crate) fn check(&self, mistakes: &mut Mistakes) {
        match self {
            Self::Finetune { .. } => {}
            Self::Lora { rank, alpha, dropout, targets, .. } => {
                require_positive(mistakes, "method.rank", (*rank).into());
                require_positive(mistakes, "method.alpha", *alpha);
                require_probability(mistakes, "method.dropout", *dropout);
                require(mistakes, !targets.is_empty(), "method.targets", "a list of one or more layers", "empty");
                for (at, target) in targets.iter().enumerate() {
                    let first = !targets[..at].contains(target);
                    require(mistakes, first, "method.targets", "without repeats", format!("`{}` twice", target.module()));
                }
            }
        }
    }
}

impl HeadSpec {
    pub(crate) fn check(&self, mistakes: &mut Mistakes) {
        let Self::Classification { projector_size, .. } = self;
        require_positive(mistakes, "head.projector_size", (*projector_size).into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_read_by_name_and_unknown_fields_refused() {
        let lora = r#"{"name":"lora","rank":8,"alpha":16,"dropout":0,"targets":["q_proj","output_dense"],"rslora":false}"#;
        let method: Method = serde_json::from_str(lora).unwrap();
        assert_eq!(method.name(), "lora");
        let error = serde_json::from_str::<Method>(r#"{"name":"finetune","scope":"all","rank":8}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `rank`"), "{error}");
        let error = serde_json::from_str::<HeadSpec>(r#"{"name":"classification","projector":8}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `projector`"), "{error}");
    }

    #[test]
    fn a_useless_lora_is_refused() {
        let targets = vec![LoraTarget::QProj, LoraTarget::QProj];
        let mut mistakes = Vec::new();
        Method::Lora { rank: 0, alpha: -1.0, dropout: 1.0, targets, rslora: false }.check(&mut mistakes);
        let names: Vec<_> = mistakes.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["method.rank", "method.alpha", "method.dropout", "method.targets"]);
    }
}
