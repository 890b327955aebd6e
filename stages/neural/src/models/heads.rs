//! The task layers on top of an encoder, as one enum: hidden states in, logits and losses out.
//!
//! | head | logits | loss of an utterance |
//! | --- | --- | --- |
//! | `classification` | (B, classes) | cross entropy |
//! | `multi_label` | (B, all groups' classes) | cross entropies of the groups, added |
//! | `tagging` | (B, labels) | mean of the binary cross entropies of all labels |
//! | `ctc` | (B, T, tokens) | CTC per target token; 0 where the target does not fit the frames |
//! | `xvector` | (B, size), and the speaker's vector beside it | cross entropy with an additive margin |
//!
//! Losses are computed in 32-bit floats whatever the encoder computes in.

pub mod classification;
pub mod ctc;
mod mix;
pub mod output;
pub mod xvector;

use neural_spec::HeadSpec;
use serde_json::{Value, json};
use tasks::Outputs;
use tch::{Kind, Reduction, TchError, Tensor};

pub use self::classification::Classification;
pub use self::ctc::Ctc;
pub use self::mix::LayerMix;
pub use self::output::{HeadOutput, Targets};
pub use self::xvector::Xvector;
use crate::nn::frames::Frames;
use crate::nn::init::{Start, started};
use crate::nn::pass::Pass;
use crate::nn::weights::Weights;

/// Standard deviation of transformers' linear layers at the start.
const INITIALIZER_RANGE: f64 = 0.02;

/// A task layer around its tensors.
#[derive(Debug)]
pub enum Head {
    /// One class for an utterance.
    Classification(Classification),
    /// One class of each group.
    MultiLabel {
        /// Logits of all groups' classes, one after the other.
        body: Classification,
        /// Classes of each group.
        sizes: Vec<i64>,
    },
    /// Any number of labels for an utterance.
    Tagging(Classification),
    /// A token or nothing for each frame.
    Ctc(Ctc),
    /// A vector that tells speakers apart.
    Xvector(Xvector),
}

impl Head {
    /// A head's tensors, seeded.
    pub fn start(spec: &HeadSpec, hidden: i64, num_layers: usize, num_outputs: usize, seed: u64) -> Result<Weights, TchError> {
        let (normal, outputs) = (Start::Normal { std: INITIALIZER_RANGE }, num_outputs as i64);
        let list = match spec {
            HeadSpec::Classification { projector_size, .. }
            | HeadSpec::MultiLabel { projector_size, .. }
            | HeadSpec::Tagging { projector_size, .. } => {
                let width = i64::from(*projector_size);
                vec![
                    ("projector.weight".to_owned(), vec![width, hidden], normal),
                    ("projector.bias".to_owned(), vec![width], Start::Zeros),
                    ("classifier.weight".to_owned(), vec![outputs, width], normal),
                    ("classifier.bias".to_owned(), vec![outputs], Start::Zeros),
                ]
            }
            HeadSpec::Ctc { .. } => vec![
                ("lm_head.weight".to_owned(), vec![outputs, hidden], normal),
                ("lm_head.bias".to_owned(), vec![outputs], Start::Zeros),
            ],
            HeadSpec::Xvector { tdnn_dim, tdnn_kernel, output_size, .. } => {
                xvector::tensors(hidden, tdnn_dim, tdnn_kernel, i64::from(*output_size), outputs)
            }
        };
        let mut weights = Weights::new();
        for (name, shape, start) in list {
            let tensor = started(&name, &shape, start, seed)?;
            weights.insert(name, tensor);
        }
        if spec.layer_sum() {
            weights.insert(mix::NAME.to_owned(), LayerMix::start(num_layers)?);
        }
        Ok(weights)
    }

    /// Description of a head of tokens or classes, and the number of its outputs, from the tensors of a checkpoint; none of other heads.
    pub fn of(tensors: &Weights) -> Option<(HeadSpec, usize)> {
        let rows = |name: &str| tensors.get(name).map(|tensor| tensor.size()[0]);
        let layer_sum = tensors.contains_key(mix::NAME);
        if let Some(tokens) = rows("lm_head.weight") {
            return Some((HeadSpec::Ctc { dropout: 0.0, layer_sum }, tokens as usize));
        }
        let (projector_size, classes) = (rows("projector.weight")? as u32, rows("classifier.weight")?);
        let plain = !tensors.keys().any(|name| name.starts_with("objective."));
        plain.then_some((HeadSpec::Classification { projector_size, layer_sum }, classes as usize))
    }

    /// A head around tensors as [`Self::start`] names them.
    pub fn new(spec: &HeadSpec, weights: &Weights) -> Self {
        match spec {
            HeadSpec::Classification { .. } => Self::Classification(Classification::new(weights)),
            HeadSpec::Tagging { .. } => Self::Tagging(Classification::new(weights)),
            HeadSpec::MultiLabel { sizes, .. } => {
                let sizes = sizes.iter().map(|&size| i64::from(size)).collect();
                Self::MultiLabel { body: Classification::new(weights), sizes }
            }
            HeadSpec::Ctc { dropout, .. } => Self::Ctc(Ctc::new(weights, *dropout)),
            HeadSpec::Xvector { tdnn_kernel, tdnn_dilation, scale, margin, .. } => {
                Self::Xvector(Xvector::new(weights, tdnn_kernel, tdnn_dilation, *scale, *margin))
            }
        }
    }

    /// True if the head reads the inputs of every layer too.
    pub fn mixes_layers(&self) -> bool {
        match self {
            Self::Classification(body) | Self::MultiLabel { body, .. } | Self::Tagging(body) => body.mix.is_some(),
            Self::Ctc(head) => head.mix.is_some(),
            Self::Xvector(head) => head.mix.is_some(),
        }
    }

    /// `states`: the last hidden state (B, T, H); or the inputs of every layer and then it, when the head mixes layers.
    /// `frames` says which are real, where that is known.
    pub fn forward(&self, states: &[Tensor], frames: Option<&Frames>, pass: &Pass) -> Result<HeadOutput, TchError> {
        let plain = |logits| HeadOutput { logits, frames: Vec::new(), embeddings: None };
        match self {
            Self::Classification(body) | Self::MultiLabel { body, .. } | Self::Tagging(body) => {
                Ok(plain(body.forward(states, frames)?))
            }
            Self::Ctc(head) => head.forward(states, frames, pass),
            Self::Xvector(head) => head.forward(states, frames),
        }
    }

    /// The loss of each utterance, (B) float32, in nats.
    ///
    /// # Panics
    /// When the targets are of another kind of task than the head. [`Self::fits`] tells beforehand.
    pub fn losses(&self, output: &HeadOutput, targets: &Targets) -> Result<Tensor, TchError> {
        match (self, targets) {
            (Self::Classification(_), Targets::Classes(classes)) => classification::losses(&output.logits, classes),
            (Self::MultiLabel { sizes, .. }, Targets::Groups(classes)) => group_losses(&output.logits, sizes, classes),
            (Self::Tagging(_), Targets::Tags(labels)) => tag_losses(&output.logits, labels),
            (Self::Ctc(_), Targets::Tokens { ids, blank }) => {
                ctc::losses(&output.logits, &output.frames, ids, *blank, Reduction::None, true)
            }
            (Self::Xvector(head), Targets::Classes(classes)) => head.losses(&output.logits, classes),
            (head, targets) => panic!("{} cannot learn {}", head.name(), targets.name()),
        }
    }

    /// True if the outputs of the head are those of a task.
    pub fn fits(&self, outputs: &Outputs) -> bool {
        match (self, outputs) {
            (Self::Classification(_) | Self::Xvector(_), Outputs::Classes { .. })
            | (Self::Tagging(_), Outputs::Tags { .. })
            | (Self::Ctc(_), Outputs::Tokens(_)) => true,
            (Self::MultiLabel { sizes, .. }, Outputs::Groups { groups }) => {
                groups.iter().map(|group| group.labels.len() as i64).eq(sizes.iter().copied())
            }
            _ => false,
        }
    }

    /// The classes or tokens with the highest scores: (B) for one class, (B, groups) for several, (B, T) for tokens. Of labels (B, labels):
    /// 1 for each with a probability of at least one half.
    pub fn best(&self, output: &HeadOutput) -> Result<Tensor, TchError> {
        match self {
            Self::Classification(_) | Self::Ctc(_) => output.logits.f_argmax(-1, false),
            Self::Tagging(_) => output.logits.f_ge(0.0)?.f_to_kind(Kind::Int64),
            Self::Xvector(head) => head.cosines(&output.logits)?.f_argmax(-1, false),
            Self::MultiLabel { sizes, .. } => {
                let parts = output.logits.f_split_with_sizes(&sizes[..], 1)?;
                let best = parts.iter().map(|part| part.f_argmax(-1, false)).collect::<Result<Vec<_>, _>>()?;
                Tensor::f_stack(&best, 1)
            }
        }
    }

    /// Probabilities of the classes, (B, classes) float32 for each group of classes; none of tokens. Those of labels are independent.
    pub fn probabilities(&self, output: &HeadOutput) -> Result<Vec<Tensor>, TchError> {
        let softmax = |scores: &Tensor| scores.f_softmax(-1, Kind::Float);
        match self {
            Self::Classification(_) => Ok(vec![softmax(&output.logits)?]),
            Self::Tagging(_) => Ok(vec![output.logits.f_to_kind(Kind::Float)?.f_sigmoid()?]),
            Self::Xvector(head) => Ok(vec![softmax(&head.scores(&output.logits)?)?]),
            Self::MultiLabel { sizes, .. } => output.logits.f_split_with_sizes(&sizes[..], 1)?.iter().map(softmax).collect(),
            Self::Ctc(_) => Ok(Vec::new()),
        }
    }

    /// Class of a model with this head in transformers, without the encoder's name.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Classification(_) | Self::MultiLabel { .. } | Self::Tagging(_) => "ForSequenceClassification",
            Self::Ctc(_) => "ForCTC",
            Self::Xvector(_) => "ForXVector",
        }
    }

    /// Fields of `config.json` that describe the head to transformers.
    pub(crate) fn config(spec: &HeadSpec, num_outputs: usize) -> Vec<(String, Value)> {
        let list = match spec {
            HeadSpec::Classification { projector_size, .. } | HeadSpec::MultiLabel { projector_size, .. } => {
                vec![("classifier_proj_size", json!(projector_size))]
            }
            HeadSpec::Tagging { projector_size, .. } => {
                vec![("classifier_proj_size", json!(projector_size)), ("problem_type", json!(SEVERAL_LABELS))]
            }
            HeadSpec::Ctc { dropout, .. } => vec![
                ("final_dropout", json!(dropout)),
                ("vocab_size", json!(num_outputs)),
                ("ctc_loss_reduction", json!("mean")),
                ("ctc_zero_infinity", json!(true)),
            ],
            HeadSpec::Xvector { tdnn_dim, tdnn_kernel, tdnn_dilation, output_size, .. } => vec![
                ("tdnn_dim", json!(tdnn_dim)),
                ("tdnn_kernel", json!(tdnn_kernel)),
                ("tdnn_dilation", json!(tdnn_dilation)),
                ("xvector_output_dim", json!(output_size)),
            ],
        };
        list.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// For people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Classification(_) => "a classification head",
            Self::MultiLabel { .. } => "a head for several classes",
            Self::Tagging(_) => "a head for any number of labels",
            Self::Ctc(_) => "a CTC head",
            Self::Xvector(_) => "an x-vector head",
        }
    }
}

/// `problem_type` of transformers for a model that gives any number of labels.
pub(crate) const SEVERAL_LABELS: &str = "multi_label_classification";

/// Binary cross entropies of `logits` (B, labels) against `labels`, averaged over the labels: (B).
fn tag_losses(logits: &Tensor, labels: &Tensor) -> Result<Tensor, TchError> {
    let (logits, labels) = (logits.f_to_kind(Kind::Float)?, labels.f_to_device(logits.device())?);
    let none = None::<Tensor>;
    let losses = logits.f_binary_cross_entropy_with_logits(&labels, none.as_ref(), none.as_ref(), Reduction::None)?;
    losses.f_mean_dim(-1, false, Kind::Float)
}

/// Cross entropies of groups of classes, added: (B).
fn group_losses(logits: &Tensor, sizes: &[i64], classes: &Tensor) -> Result<Tensor, TchError> {
    let mut sum = Tensor::f_zeros(logits.size()[0], (Kind::Float, logits.device()))?;
    for (at, part) in logits.f_split_with_sizes(sizes, 1)?.iter().enumerate() {
        sum = sum.f_add(&classification::losses(part, &classes.f_select(1, at as i64)?)?)?;
    }
    Ok(sum)
}
