//! Number of parameters that a method trains, from shapes alone.

use super::{Method, Misfit};
use crate::encoder::{ConvNorm, EncoderShape};
use crate::sites::Architecture;

/// Parameters of an adapted encoder, without its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Those of the encoder itself.
    pub encoder: u64,
    /// Those that the method adds.
    pub added: u64,
    /// Those that are trained: added ones and the encoder's own.
    pub trained: u64,
}

impl Method {
    /// Counts the parameters of a wav2vec 2.0 encoder of this shape, and those that the method trains.
    ///
    /// Errors: [`Misfit`] when the method does not fit the encoder.
    pub fn count(&self, shape: &EncoderShape) -> Result<Counts, Misfit> {
        let unused = (!shape.masks()).then_some(MASK_EMBEDDING);
        self.count_in(&shape.architecture(), &shape.tensors(), |name| unused != Some(name))
    }

    /// Counts the parameters of a model with these sites and tensors of its own, and those that the method trains. `used`: true for
    /// tensors that training can change.
    ///
    /// Errors: [`Misfit`] when the method does not fit the model.
    pub fn count_in(
        &self,
        model: &Architecture,
        tensors: &[(String, Vec<u32>)],
        used: impl Fn(&str) -> bool,
    ) -> Result<Counts, Misfit> {
        let mut counts = Counts { encoder: 0, added: 0, trained: 0 };
        for added in self.added(model)? {
            counts.added += product(&added.shape);
            counts.trained += if added.trained { product(&added.shape) } else { 0 };
        }
        for (name, sizes) in tensors {
            let size = product(sizes);
            counts.encoder += size;
            if used(name) && self.trains(name, model)? {
                counts.trained += size;
            }
        }
        Ok(counts)
    }
}

fn product(sizes: &[u32]) -> u64 {
    sizes.iter().copied().map(u64::from).product()
}

/// The learned vector that stands for a masked frame.
const MASK_EMBEDDING: &str = "masked_spec_embed";

impl EncoderShape {
    /// Stacks and sites of the encoder.
    pub fn architecture(&self) -> Architecture {
        Architecture::encoder(self.hidden_size, self.intermediate_size, self.num_hidden_layers)
    }

    /// True if frames or features are masked in training.
    fn masks(&self) -> bool {
        self.mask_time_prob > 0.0 || self.mask_feature_prob > 0.0
    }

    /// The names and sizes of a wav2vec 2.0 encoder's tensors, in the order of the forward pass.
    fn tensors(&self) -> Vec<(String, Vec<u32>)> {
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        let mut list = vec![(MASK_EMBEDDING.to_owned(), vec![hidden])];
        let mut channels_in = 1;
        for (at, (&channels, &kernel)) in self.conv_dim.iter().zip(&self.conv_kernel).enumerate() {
            let name = format!("feature_extractor.conv_layers.{at}");
            list.push((format!("{name}.conv.weight"), vec![channels, channels_in, kernel]));
            if self.conv_bias {
                list.push((format!("{name}.conv.bias"), vec![channels]));
            }
            if self.feat_extract_norm == ConvNorm::Layer || at == 0 {
                pair(&mut list, &format!("{name}.layer_norm"), &[channels]);
            }
            channels_in = channels;
        }
        pair(&mut list, "feature_projection.layer_norm", &[channels_in]);
        pair(&mut list, "feature_projection.projection", &[hidden, channels_in]);
        let position = "encoder.pos_conv_embed.conv";
        let (taps, groups) = (self.num_conv_pos_embeddings, self.num_conv_pos_embedding_groups.max(1));
        list.push((format!("{position}.bias"), vec![hidden]));
        list.push((format!("{position}.parametrizations.weight.original0"), vec![1, 1, taps]));
        list.push((format!("{position}.parametrizations.weight.original1"), vec![hidden, hidden / groups, taps]));
        pair(&mut list, "encoder.layer_norm", &[hidden]);
        for layer in 0..self.num_hidden_layers {
            let name = format!("encoder.layers.{layer}");
            for projection in ["q_proj", "k_proj", "v_proj", "out_proj"] {
                pair(&mut list, &format!("{name}.attention.{projection}"), &[hidden, hidden]);
            }
            pair(&mut list, &format!("{name}.layer_norm"), &[hidden]);
            pair(&mut list, &format!("{name}.feed_forward.intermediate_dense"), &[inner, hidden]);
            pair(&mut list, &format!("{name}.feed_forward.output_dense"), &[hidden, inner]);
            pair(&mut list, &format!("{name}.final_layer_norm"), &[hidden]);
        }
        list
    }
}

/// A weight, and a bias as long as its first axis.
fn pair(list: &mut Vec<(String, Vec<u32>)>, name: &str, weight: &[u32]) {
    list.push((format!("{name}.weight"), weight.to_vec()));
    list.push((format!("{name}.bias"), weight[..1].to_vec()));
}
