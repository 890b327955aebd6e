//! A small encoder's shape, a batch for it, and the order of tests: what the tests of models and of methods begin with.

use std::sync::{Mutex, MutexGuard, PoisonError};

use neural::models::Batch;
use neural_spec::{ConvNorm, EncoderShape};
use tch::{Device, Kind, Tensor};

/// libtorch's seed belongs to the whole process, so tests that draw from it take turns.
pub(crate) fn take_turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// 32 wide and 3 layers deep, in the style of a large (layer norm) or a base (group norm) encoder.
pub(crate) fn shape(norm: ConvNorm, layerdrop: f64) -> EncoderShape {
    EncoderShape {
        hidden_size: 32,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        intermediate_size: 48,
        conv_dim: vec![16, 16],
        conv_kernel: vec![10, 3],
        conv_stride: vec![5, 2],
        conv_bias: norm == ConvNorm::Layer,
        feat_extract_norm: norm,
        do_stable_layer_norm: norm == ConvNorm::Layer,
        num_conv_pos_embeddings: 8,
        num_conv_pos_embedding_groups: 4,
        hidden_dropout: 0.1,
        attention_dropout: 0.1,
        activation_dropout: 0.1,
        feat_proj_dropout: 0.1,
        layerdrop,
        mask_time_prob: 0.2,
        mask_time_length: 4,
        mask_time_min_masks: 1,
        mask_feature_prob: 0.1,
        mask_feature_length: 4,
    }
}

/// Three utterances of 700, 512 and 90 samples, always the same.
pub(crate) fn batch() -> Batch {
    tch::manual_seed(1);
    let audio = Tensor::randn([3, 700], (Kind::Float, Device::Cpu));
    let num_samples = vec![700, 512, 90];
    for (row, &length) in num_samples.iter().enumerate() {
        let _ = audio.get(row as i64).narrow(0, length, 700 - length).zero_();
    }
    Batch { audio, num_samples, labels: Some(Tensor::from_slice(&[0_i64, 3, 4])) }
}
