//! The task layer on top of the encoder.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Mistakes, require, require_positive, require_probability};

/// The task layer on top of the encoder. Its outputs are those of the task: classes, or the tokens of a vocabulary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum HeadSpec {
    /// One class for a whole utterance: projector, mean over its frames, classifier.
    Classification {
        /// Width of the projector. Default 256, as in the benchmark's reference code.
        #[serde(default = "projector_size")]
        #[schemars(range(min = 1))]
        projector_size: u32,
        /// True if the input is a learned mix of all layers instead of the last one. Default false, as in the benchmark's reference code.
        #[serde(default)]
        layer_sum: bool,
    },
    /// Several classes for a whole utterance, one of each group; their losses are added.
    MultiLabel {
        /// Classes of each group. The benchmark's intents have 6 actions, 14 objects and 4 places.
        sizes: Vec<u32>,
        /// Width of the projector. Default 256, as in the benchmark's reference code.
        #[serde(default = "projector_size")]
        #[schemars(range(min = 1))]
        projector_size: u32,
        /// True if the input is a learned mix of all layers instead of the last one. Default false, as in the benchmark's reference code.
        #[serde(default)]
        layer_sum: bool,
    },
    /// Any number of labels for a whole utterance: a probability for each, learned with binary cross entropy.
    Tagging {
        /// Width of the projector. Default 256, as in the benchmark's reference code.
        #[serde(default = "projector_size")]
        #[schemars(range(min = 1))]
        projector_size: u32,
        /// True if the input is a learned mix of all layers instead of the last one. Default false, as in the benchmark's reference code.
        #[serde(default)]
        layer_sum: bool,
    },
    /// A token or nothing for each frame (connectionist temporal classification, Graves et al. 2006).
    Ctc {
        /// Dropout in front of it, in training. Default 0, as in the benchmark's checkpoint; its reference code has 0.1 with prefix tuning.
        #[serde(default)]
        #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
        dropout: f64,
        /// True if the input is a learned mix of all layers instead of the last one. Default false, as in the benchmark's reference code.
        #[serde(default)]
        layer_sum: bool,
    },
    /// A vector for each utterance that tells speakers apart (Snyder et al. 2018), trained with an additive margin.
    Xvector {
        /// Channels of each layer over time. Default as in Snyder et al. 2018, table 1.
        #[serde(default = "tdnn_dim")]
        tdnn_dim: Vec<u32>,
        /// Frames that each of them sees. Default as there.
        #[serde(default = "tdnn_kernel")]
        tdnn_kernel: Vec<u32>,
        /// Distance between those frames. Default as there.
        #[serde(default = "tdnn_dilation")]
        tdnn_dilation: Vec<u32>,
        /// Numbers of the vector. Default 512, as there.
        #[serde(default = "xvector_size")]
        #[schemars(range(min = 1))]
        output_size: u32,
        /// How far cosines are spread before the softmax of the loss. Default 30, as in transformers.
        #[serde(default = "scale")]
        #[schemars(extend("exclusiveMinimum" = 0))]
        scale: f64,
        /// Margin by which the right speaker's cosine has to be better (Wang et al. 2018, arXiv:1801.05599, equation 6). Default 0.4, as in
        /// transformers.
        #[serde(default = "margin")]
        #[schemars(range(min = 0.0))]
        margin: f64,
        /// True if the input is a learned mix of all layers instead of the last one. Default false.
        #[serde(default)]
        layer_sum: bool,
    },
}

/// Last entry of a mix of layers. The two agree for post-norm encoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LastState {
    /// Output of the last layer before the final norm of a pre-norm encoder, as in version 5 of transformers.
    #[default]
    BeforeNorm,
    /// Output of the encoder, after that norm, as in version 4 of transformers.
    AfterNorm,
}

/// Start of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeadStart {
    /// Random values.
    #[default]
    Fresh,
    /// Values of the head that the encoder's checkpoint has.
    Checkpoint,
}

impl LastState {
    /// Entry of the heads that were trained before this was recorded.
    pub fn of_old_files() -> Self {
        Self::AfterNorm
    }
}

fn projector_size() -> u32 {
    256
}
fn tdnn_dim() -> Vec<u32> {
    vec![512, 512, 512, 512, 1500]
}
fn tdnn_kernel() -> Vec<u32> {
    vec![5, 3, 3, 1, 1]
}
fn tdnn_dilation() -> Vec<u32> {
    vec![1, 2, 3, 1, 1]
}
fn scale() -> f64 {
    30.0
}
fn margin() -> f64 {
    0.4
}
fn xvector_size() -> u32 {
    512
}

impl HeadSpec {
    /// True if the input is a learned mix of all layers.
    pub fn layer_sum(&self) -> bool {
        match self {
            Self::Classification { layer_sum, .. }
            | Self::MultiLabel { layer_sum, .. }
            | Self::Tagging { layer_sum, .. }
            | Self::Ctc { layer_sum, .. }
            | Self::Xvector { layer_sum, .. } => *layer_sum,
        }
    }

    pub(crate) fn check(&self, mistakes: &mut Mistakes) {
        match self {
            Self::Classification { projector_size, .. } | Self::Tagging { projector_size, .. } => {
                require_positive(mistakes, "head.projector_size", (*projector_size).into());
            }
            Self::MultiLabel { sizes, projector_size, .. } => {
                require_positive(mistakes, "head.projector_size", (*projector_size).into());
                let fits = !sizes.is_empty() && !sizes.contains(&0);
                require(mistakes, fits, "head.sizes", "a list of numbers above 0", format!("{sizes:?}"));
            }
            Self::Ctc { dropout, .. } => require_probability(mistakes, "head.dropout", *dropout),
            Self::Xvector { tdnn_dim, tdnn_kernel, tdnn_dilation, output_size, scale, margin, .. } => {
                require_positive(mistakes, "head.scale", *scale);
                require(mistakes, margin.is_finite() && *margin >= 0.0, "head.margin", "at least 0", margin);
                require_positive(mistakes, "head.output_size", (*output_size).into());
                let layers = tdnn_dim.len();
                for (name, list) in
                    [("head.tdnn_dim", tdnn_dim), ("head.tdnn_kernel", tdnn_kernel), ("head.tdnn_dilation", tdnn_dilation)]
                {
                    let fits = !list.is_empty() && list.len() == layers && !list.contains(&0);
                    require(mistakes, fits, name, "numbers above 0, as many as tdnn_dim has", format!("{list:?}"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(head: &str, mistaken: &[&str]) {
        let head: HeadSpec = serde_json::from_str(head).unwrap();
        let mut found = Vec::new();
        head.check(&mut found);
        assert_eq!(found.iter().map(|(name, _)| *name).collect::<Vec<_>>(), mistaken);
    }

    #[test]
    fn what_is_published_needs_not_be_stated() {
        check(r#"{"name":"classification"}"#, &[]);
        check(r#"{"name":"multi_label","sizes":[6,14,4]}"#, &[]);
        check(r#"{"name":"tagging"}"#, &[]);
        check(r#"{"name":"ctc"}"#, &[]);
        check(r#"{"name":"xvector"}"#, &[]);
    }

    #[test]
    fn heads_without_sense_are_named() {
        check(r#"{"name":"classification","projector_size":0}"#, &["head.projector_size"]);
        check(r#"{"name":"multi_label","sizes":[6,0]}"#, &["head.sizes"]);
        check(r#"{"name":"ctc","dropout":1.0}"#, &["head.dropout"]);
        check(r#"{"name":"xvector","tdnn_kernel":[5,3]}"#, &["head.tdnn_kernel"]);
        check(r#"{"name":"xvector","scale":0,"margin":-1}"#, &["head.scale", "head.margin"]);
    }

    #[test]
    fn unknown_fields_are_refused() {
        let error = serde_json::from_str::<HeadSpec>(r#"{"name":"classification","projector":8}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `projector`"), "{error}");
    }
}
