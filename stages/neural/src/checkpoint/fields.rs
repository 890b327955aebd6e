//! Fields of `config.json` that the encoder does not read: which of them are harmless, and which would change the result.

use serde_json::{Map, Value};

/// Fields that would make another encoder, with the values that do not.
const REFUSED: [(&str, &[&str]); 6] = [
    ("add_adapter", &["false"]),
    ("is_encoder_decoder", &["false"]),
    ("position_embeddings_type", &[]),
    ("quantization_config", &[]),
    ("auto_map", &[]),
    ("pruned_heads", &["{}"]),
];

/// Fields that an encoder reads. One that is nearly spelt like them is taken for a slip of the pen.
const READ: [&str; 33] = [
    "model_type",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "conv_dim",
    "conv_kernel",
    "conv_stride",
    "conv_bias",
    "feat_extract_norm",
    "feat_extract_activation",
    "feat_proj_layer_norm",
    "do_stable_layer_norm",
    "num_conv_pos_embeddings",
    "num_conv_pos_embedding_groups",
    "conv_pos_batch_norm",
    "conv_pos_kernel_size",
    "num_buckets",
    "max_bucket_distance",
    "layer_norm_eps",
    "adapter_attn_dim",
    "hidden_dropout",
    "attention_dropout",
    "activation_dropout",
    "feat_proj_dropout",
    "layerdrop",
    "apply_spec_augment",
    "mask_time_prob",
    "mask_time_length",
    "mask_time_min_masks",
    "mask_feature_prob",
    "mask_feature_length",
];

/// Letters that may differ for a name to count as misspelt.
const SLIP: usize = 2;

/// Mistakes among the fields in `other`, which nothing reads. `num_convolutions` is the length of `conv_dim`.
pub(super) fn mistakes(other: &Map<String, Value>, num_convolutions: usize) -> Vec<String> {
    let mut mistakes = Vec::new();
    for (name, value) in other.iter().filter(|(_, value)| !value.is_null()) {
        if let Some((_, harmless)) = REFUSED.iter().find(|(refused, _)| refused == name) {
            let text = value.to_string();
            match harmless {
                _ if harmless.contains(&text.as_str()) => {}
                [] => mistakes.push(format!("{name} is not supported: it asks for another encoder")),
                _ => mistakes.push(format!("{name} is not supported unless {}", harmless.join(" or "))),
            }
        } else if name == "num_feat_extract_layers" {
            if value.as_u64() != Some(num_convolutions as u64) {
                mistakes
                    .push(format!("num_feat_extract_layers ({value}) and the length of conv_dim ({num_convolutions}) differ"));
            }
        } else if let Some(meant) = meant(name) {
            mistakes.push(format!("{name} is unknown; {meant} is meant, it seems"));
        }
    }
    mistakes
}

/// The field that a name nearly spells.
fn meant(name: &str) -> Option<&'static str> {
    READ.into_iter().find(|known| strsim::damerau_levenshtein(known, name) <= SLIP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let Value::Object(other) = serde_json::from_str(text).unwrap() else { panic!("{text}") };
        let found = mistakes(&other, 7);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (sentence, part) in found.iter().zip(expected) {
            assert!(sentence.contains(part), "{sentence}");
        }
    }

    #[test]
    fn what_published_checkpoints_carry_is_harmless() {
        check(
            r#"{"gradient_checkpointing":true,"mask_channel_length":10,"mask_channel_prob":0.0,"mask_time_min_space":1,
                "feat_extract_dropout":0.0,"final_dropout":0.1,"num_feat_extract_layers":7,"tokenizer_class":"Wav2Vec2CTCTokenizer",
                "freeze_feat_extract_train":true,"codevector_dim":256,"num_negatives":100,"torch_dtype":"float16","add_adapter":false,
                "adapter_kernel_size":3,"num_adapter_layers":3,"num_ctc_classes":80,"vocab_size":32,"pruned_heads":{},"position_embeddings_type":null}"#,
            &[],
        );
    }

    #[test]
    fn what_makes_another_encoder_is_refused_and_slips_are_named() {
        check(r#"{"add_adapter":true}"#, &["add_adapter is not supported unless false"]);
        check(r#"{"quantization_config":{"bits":8},"auto_map":{}}"#, &["quantization_config", "auto_map"]);
        check(r#"{"num_feat_extract_layers":6}"#, &["(6)"]);
        check(r#"{"hiden_size":512,"num_hidden_layer":2}"#, &["hidden_size is meant", "num_hidden_layers is meant"]);
    }
}
