//! Tensors of encoders over feature frames.

use super::Conformer;
use crate::checkpoint::config::EncoderConfig;
use crate::checkpoint::weights::{List, MASK_EMBEDDING, Start, WHISPER_POSITIONS};

impl List {
    /// Adds those of the Whisper encoder.
    pub(in crate::checkpoint) fn whisper(&mut self, config: &EncoderConfig, num_mel_bins: i64, max_positions: i64) {
        let (hidden, inner, std) = (config.hidden_size, config.intermediate_size, config.initializer_range);
        for (name, channels) in [("conv1", num_mel_bins), ("conv2", hidden)] {
            self.add(format!("{name}.weight"), &[hidden, channels, 3], Start::Normal { std });
            self.add(format!("{name}.bias"), &[hidden], Start::Zeros);
        }
        self.add(WHISPER_POSITIONS, &[max_positions, hidden], Start::Normal { std });
        for layer in 0..config.num_hidden_layers {
            let name = format!("layers.{layer}");
            self.add(format!("{name}.self_attn.k_proj.weight"), &[hidden, hidden], Start::Normal { std });
            for projection in ["q_proj", "v_proj", "out_proj"] {
                self.linear(&format!("{name}.self_attn.{projection}"), hidden, hidden, std);
            }
            self.norm(&format!("{name}.self_attn_layer_norm"), hidden);
            self.linear(&format!("{name}.fc1"), hidden, inner, std);
            self.linear(&format!("{name}.fc2"), inner, hidden, std);
            self.norm(&format!("{name}.final_layer_norm"), hidden);
        }
        self.norm("layer_norm", hidden);
    }

    /// Adds those of Wav2Vec2-BERT.
    pub(in crate::checkpoint) fn wav2vec2_bert(&mut self, config: &EncoderConfig, shape: &Conformer) {
        let (hidden, inner, std) = (config.hidden_size, config.intermediate_size, config.initializer_range);
        self.add(MASK_EMBEDDING, &[hidden], Start::Uniform { low: 0.0, high: 1.0 });
        self.norm("feature_projection.layer_norm", shape.feature_projection_input_dim);
        self.linear("feature_projection.projection", shape.feature_projection_input_dim, hidden, std);
        let distances = shape.left_max_position_embeddings + shape.right_max_position_embeddings + 1;
        for layer in 0..config.num_hidden_layers {
            let name = format!("encoder.layers.{layer}");
            for block in ["ffn1", "ffn2"] {
                self.norm(&format!("{name}.{block}_layer_norm"), hidden);
                self.linear(&format!("{name}.{block}.intermediate_dense"), hidden, inner, std);
                self.linear(&format!("{name}.{block}.output_dense"), inner, hidden, std);
            }
            self.norm(&format!("{name}.self_attn_layer_norm"), hidden);
            for projection in ["linear_q", "linear_k", "linear_v", "linear_out"] {
                self.linear(&format!("{name}.self_attn.{projection}"), hidden, hidden, std);
            }
            let width = hidden / config.num_attention_heads;
            self.add(format!("{name}.self_attn.distance_embedding.weight"), &[distances, width], Start::Normal { std });
            let (conv, taps) = (format!("{name}.conv_module"), shape.conv_depthwise_kernel_size);
            self.norm(&format!("{conv}.layer_norm"), hidden);
            self.add(format!("{conv}.pointwise_conv1.weight"), &[2 * hidden, hidden, 1], Start::Normal { std });
            self.add(format!("{conv}.depthwise_conv.weight"), &[hidden, 1, taps], Start::Normal { std });
            self.norm(&format!("{conv}.depthwise_layer_norm"), hidden);
            self.add(format!("{conv}.pointwise_conv2.weight"), &[hidden, hidden, 1], Start::Normal { std });
            self.norm(&format!("{name}.final_layer_norm"), hidden);
        }
    }
}
