//! Tensors of an acoustic model: names, shapes and starting values.

use tch::{Device, TchError};

use super::shape::{Shape, ValueEntry};
use crate::nn::init::{Start, started};
use crate::nn::weights::Weights;

/// A tensor of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Name, as in ming024/FastSpeech2 where it has the tensor.
    pub name: String,
    /// Shape.
    pub shape: Vec<i64>,
    /// Starting values.
    pub start: Start,
    /// False for the running statistics of batch norm and the limits of bins.
    pub trained: bool,
}

/// Number of values of a shape's tensors to draw around.
fn bound(inputs: i64) -> Start {
    let bound = (inputs as f64).sqrt().recip();
    Start::Uniform { low: -bound, high: bound }
}

/// Collects parameters.
struct List(Vec<Parameter>);

impl List {
    fn add(&mut self, name: String, shape: &[i64], start: Start) {
        self.0.push(Parameter { name, shape: shape.to_vec(), start, trained: true });
    }

    fn fixed(&mut self, name: String, shape: &[i64], start: Start) {
        self.0.push(Parameter { name, shape: shape.to_vec(), start, trained: false });
    }

    /// A linear layer or a convolution, `taps` 0 for the former.
    fn layer(&mut self, name: &str, [inputs, outputs, taps]: [i64; 3], bias: bool) {
        let start = bound(inputs * taps.max(1));
        let shape = [outputs, inputs, taps];
        self.add(format!("{name}.weight"), if taps == 0 { &shape[..2] } else { &shape }, start);
        if bias {
            self.add(format!("{name}.bias"), &[outputs], start);
        }
    }

    fn norm(&mut self, name: &str, width: i64) {
        self.add(format!("{name}.weight"), &[width], Start::Ones);
        self.add(format!("{name}.bias"), &[width], Start::Zeros);
    }
}

/// Returns the tensors of a model, in order of the forward pass.
pub fn parameters(shape: &Shape) -> Vec<Parameter> {
    let mut list = List(Vec::new());
    let hidden = shape.hidden;
    list.add("encoder.src_word_emb.weight".to_owned(), &[shape.num_symbols, hidden], Start::Normal { std: 1.0 });
    list.add("speaker_emb.weight".to_owned(), &[shape.num_speakers, hidden], Start::Normal { std: 0.3 });
    for (stack, layers) in [("encoder", shape.encoder_layers), ("decoder", shape.decoder_layers)] {
        for layer in 0..layers {
            let name = format!("{stack}.layer_stack.{layer}");
            for part in ["w_qs", "w_ks", "w_vs", "fc"] {
                list.layer(&format!("{name}.slf_attn.{part}"), [hidden, hidden, 0], shape.projection_bias);
            }
            list.norm(&format!("{name}.slf_attn.layer_norm"), hidden);
            list.layer(&format!("{name}.pos_ffn.w_1"), [hidden, shape.filter, shape.kernels[0]], true);
            list.layer(&format!("{name}.pos_ffn.w_2"), [shape.filter, hidden, shape.kernels[1]], true);
            list.norm(&format!("{name}.pos_ffn.layer_norm"), hidden);
        }
    }
    let filter = shape.predictor.filter;
    for predictor in ["duration", "pitch", "energy"] {
        let name = format!("variance_adaptor.{predictor}_predictor");
        for (layer, inputs) in [(1, hidden), (2, filter)] {
            list.layer(&format!("{name}.conv_layer.conv1d_{layer}.conv"), [inputs, filter, shape.predictor.kernel], true);
            list.norm(&format!("{name}.conv_layer.layer_norm_{layer}"), filter);
        }
        list.layer(&format!("{name}.linear_layer"), [filter, 1, 0], true);
    }
    for value in ["pitch", "energy"] {
        let name = format!("variance_adaptor.{value}_embedding");
        match shape.values {
            ValueEntry::Convolution { kernel } => list.layer(&name, [1, hidden, kernel], true),
            ValueEntry::Bins { count } => {
                list.add(format!("{name}.weight"), &[count, hidden], Start::Normal { std: 1.0 });
                list.fixed(format!("variance_adaptor.{value}_bins"), &[count - 1], Start::Zeros);
            }
        }
    }
    list.layer("mel_linear", [hidden, shape.num_mel_bins, 0], true);
    let postnet = shape.postnet;
    for layer in 0..postnet.layers {
        let inputs = if layer == 0 { shape.num_mel_bins } else { postnet.channels };
        let outputs = if layer + 1 == postnet.layers { shape.num_mel_bins } else { postnet.channels };
        list.layer(&format!("postnet.convolutions.{layer}.0.conv"), [inputs, outputs, postnet.kernel], true);
        let norm = format!("postnet.convolutions.{layer}.1");
        list.norm(&norm, outputs);
        list.fixed(format!("{norm}.running_mean"), &[outputs], Start::Zeros);
        list.fixed(format!("{norm}.running_var"), &[outputs], Start::Ones);
    }
    if shape.aligner {
        let bands = shape.num_mel_bins;
        list.layer("aligner.key_proj.0.conv", [hidden, 2 * hidden, 3], true);
        list.layer("aligner.key_proj.2.conv", [2 * hidden, bands, 1], true);
        list.layer("aligner.query_proj.0.conv", [bands, 2 * bands, 3], true);
        list.layer("aligner.query_proj.2.conv", [2 * bands, bands, 1], true);
        list.layer("aligner.query_proj.4.conv", [bands, bands, 1], true);
        list.layer("aligner.key_spk_proj.linear", [hidden, hidden, 0], false);
        list.layer("aligner.query_spk_proj.linear", [hidden, bands, 0], false);
    }
    list.0
}

/// Returns a model's tensors with their starting values, which follow from names and `seed`.
///
/// Errors: libtorch's, out of memory.
pub fn start(shape: &Shape, seed: u64, device: Device) -> Result<Weights, TchError> {
    let mut weights = Weights::new();
    for Parameter { name, shape, start, .. } in parameters(shape) {
        let tensor = started(&name, &shape, start, seed)?;
        if name == "encoder.src_word_emb.weight" {
            // Padding is the first symbol, and has no embedding.
            let _ = tensor.f_narrow(0, 0, 1)?.f_zero_()?;
        }
        weights.insert(name, tensor.f_to_device(device)?);
    }
    Ok(weights)
}
