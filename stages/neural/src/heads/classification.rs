//! One class for a whole utterance.

use neural_spec::HeadSpec;
use tch::{TchError, Tensor};

use crate::checkpoint::Weights;
use crate::checkpoint::weights::{Start, started};
use crate::encoder::Frames;
use crate::encoder::modules::tensor;

/// What transformers starts the head's linear layers with.
const INITIALIZER_RANGE: f64 = 0.02;

/// Hidden states (B, T, H) -> logits (B, classes): mean over the real frames, projector (P, H), classifier (classes, P).
///
/// The published head projects first and averages then; both are linear, so the order does not change the result, and this one
/// costs a T-th.
#[derive(Debug)]
pub struct Classification {
    projector: [Tensor; 2],
    classifier: [Tensor; 2],
    /// Scores of the layers whose softmax mixes them, (L + 1); none to use the last hidden state alone.
    layer_scores: Option<Tensor>,
}

impl Classification {
    /// A head's tensors, seeded: weights normal with deviation 0.02, biases zero, layer scores equal.
    pub fn start(spec: &HeadSpec, hidden: i64, num_layers: usize, num_classes: usize, seed: u64) -> Result<Weights, TchError> {
        let HeadSpec::Classification { projector_size, layer_sum } = spec;
        let (width, classes) = (i64::from(*projector_size), num_classes as i64);
        let normal = Start::Normal { std: INITIALIZER_RANGE };
        let states = num_layers as i64 + 1;
        let mut list = vec![
            ("projector.weight", vec![width, hidden], normal),
            ("projector.bias", vec![width], Start::Zeros),
            ("classifier.weight", vec![classes, width], normal),
            ("classifier.bias", vec![classes], Start::Zeros),
        ];
        if *layer_sum {
            list.push(("layer_weights", vec![states], Start::Ones));
        }
        let mut weights = Weights::new();
        for (name, shape, start) in list {
            let mut tensor = started(name, &shape, start, seed)?;
            if name == "layer_weights" {
                tensor = tensor.f_div_scalar(states)?;
            }
            weights.insert(name.to_owned(), tensor);
        }
        Ok(weights)
    }

    /// A head around tensors as [`Self::start`] names them.
    pub fn new(weights: &Weights) -> Self {
        let pair = |name: &str| [tensor(weights, &format!("{name}.weight")), tensor(weights, &format!("{name}.bias"))];
        Self {
            projector: pair("projector"),
            classifier: pair("classifier"),
            layer_scores: weights.get("layer_weights").map(Tensor::shallow_clone),
        }
    }

    /// Whether it wants the inputs of every layer too.
    pub fn mixes_layers(&self) -> bool {
        self.layer_scores.is_some()
    }

    /// `states`: the last hidden state; or the inputs of every layer and then the last hidden state, when it mixes layers.
    pub fn forward(&self, states: &[Tensor], frames: Option<&Frames>) -> Result<Tensor, TchError> {
        let mean = |state: &Tensor| match frames {
            Some(frames) => frames.mean(state),
            None => state.f_mean_dim(1, false, tch::Kind::Float),
        };
        let pooled = match &self.layer_scores {
            // The mean of a mix is the mix of the means.
            Some(scores) => {
                let means = states.iter().map(mean).collect::<Result<Vec<_>, _>>()?;
                scores
                    .f_softmax(0, tch::Kind::Float)?
                    .f_view([-1, 1, 1])?
                    .f_mul(&Tensor::f_stack(&means, 0)?)?
                    .f_sum_dim_intlist(0, false, tch::Kind::Float)?
            }
            None => mean(&states[states.len() - 1])?,
        }; // (B, H)
        let [weight, bias] = &self.projector;
        let pooled = pooled.f_to_kind(weight.kind())?;
        let projected = pooled.f_linear(weight, Some(bias))?;
        let [weight, bias] = &self.classifier;
        projected.f_linear(weight, Some(bias))
    }
}

/// Cross entropy of `logits` (B, classes) against `labels` (B), averaged over the batch; natural logarithm.
pub fn loss(logits: &Tensor, labels: &Tensor) -> Result<Tensor, TchError> {
    logits.f_cross_entropy_loss(labels, None::<Tensor>, tch::Reduction::Mean, -100, 0.0)
}
