//! `config.json` of a checkpoint: what of it changes the result, checked; all else is kept and written back.

pub mod frames;

use std::path::Path;

use neural_spec::{Architecture, ConvNorm, EncoderShape};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::frames::FrameInput;
use super::error::CheckpointError;
use super::fields;
use super::files::CONFIG;
use super::json::{read_json, write_json};
use crate::nn::activation::Activation;

/// The shape and the training noise of an encoder. Fields are named as in the file; defaults are those of transformers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, clippy::struct_excessive_bools, reason = "the fields are named and described by the file format")]
pub struct EncoderConfig {
    pub model_type: ModelType,
    pub hidden_size: i64,
    pub num_hidden_layers: usize,
    pub num_attention_heads: i64,
    pub intermediate_size: i64,
    pub hidden_act: Activation,
    pub conv_dim: Vec<i64>,
    pub conv_kernel: Vec<i64>,
    pub conv_stride: Vec<i64>,
    pub conv_bias: bool,
    pub feat_extract_norm: FeatureNorm,
    pub feat_extract_activation: Activation,
    /// HuBERT alone knows this field: whether the features are normalised before their projection.
    #[serde(skip_serializing_if = "is_true")]
    pub feat_proj_layer_norm: bool,
    pub do_stable_layer_norm: bool,
    pub num_conv_pos_embeddings: i64,
    pub num_conv_pos_embedding_groups: i64,
    /// HuBERT alone knows this field: batch norm before the positional convolution in the place of weight norm.
    #[serde(skip_serializing_if = "is_false")]
    pub conv_pos_batch_norm: bool,
    /// data2vec-audio alone knows this field: taps of each of its positional convolutions, of which `num_conv_pos_embeddings` is the number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conv_pos_kernel_size: Option<i64>,
    /// WavLM alone knows these two: how distances between frames share their bias.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_buckets: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bucket_distance: Option<i64>,
    pub layer_norm_eps: f64,
    pub initializer_range: f64,
    pub adapter_attn_dim: Option<i64>,
    pub hidden_dropout: f64,
    pub attention_dropout: f64,
    pub activation_dropout: f64,
    pub feat_proj_dropout: f64,
    pub layerdrop: f64,
    pub apply_spec_augment: bool,
    pub mask_time_prob: f64,
    pub mask_time_length: usize,
    pub mask_time_min_masks: usize,
    pub mask_feature_prob: f64,
    pub mask_feature_length: usize,
    pub mask_feature_min_masks: usize,
    /// Input of an encoder over feature frames; none of one over samples.
    #[serde(skip)]
    pub frames: Option<FrameInput>,
    /// Every other field, as read; of an encoder over feature frames, every field.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A family of encoders. Those over samples share their convolutions and their transformer; WavLM adds a bias to the attention, and
/// data2vec-audio has several narrow positional convolutions in the place of a wide one. The last two read feature frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelType {
    /// Baevski et al. 2020, arXiv:2006.11477; also XLSR, XLS-R and MMS.
    Wav2vec2,
    /// Hsu et al. 2021, arXiv:2106.07447; also DistilHuBERT, arXiv:2110.01900.
    Hubert,
    /// Chen et al. 2021, arXiv:2110.13900.
    Wavlm,
    /// Wang et al. 2021, arXiv:2101.07597.
    Unispeech,
    /// Chen et al. 2021, arXiv:2110.05752.
    #[serde(rename = "unispeech-sat")]
    UnispeechSat,
    /// Baevski et al. 2022, arXiv:2202.03555.
    #[serde(rename = "data2vec-audio")]
    Data2vecAudio,
    /// Radford et al. 2022, arXiv:2212.04356: the encoder alone.
    Whisper,
    /// Barrault et al. 2023, arXiv:2312.05187.
    #[serde(rename = "wav2vec2-bert")]
    Wav2vec2Bert,
}

impl ModelType {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Wav2vec2,
        Self::Hubert,
        Self::Wavlm,
        Self::Unispeech,
        Self::UnispeechSat,
        Self::Data2vecAudio,
        Self::Whisper,
        Self::Wav2vec2Bert,
    ];

    /// Prefix of the encoder's names in models with a head.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Wav2vec2 => "wav2vec2.",
            Self::Hubert => "hubert.",
            Self::Wavlm => "wavlm.",
            Self::Unispeech => "unispeech.",
            Self::UnispeechSat => "unispeech_sat.",
            Self::Data2vecAudio => "data2vec_audio.",
            Self::Whisper => "encoder.",
            Self::Wav2vec2Bert => "wav2vec2_bert.",
        }
    }

    /// The name of its classes in transformers: `Wav2Vec2` of `Wav2Vec2Model`.
    pub fn class(self) -> &'static str {
        match self {
            Self::Wav2vec2 => "Wav2Vec2",
            Self::Hubert => "Hubert",
            Self::Wavlm => "WavLM",
            Self::Unispeech => "UniSpeech",
            Self::UnispeechSat => "UniSpeechSat",
            Self::Data2vecAudio => "Data2VecAudio",
            Self::Whisper => "Whisper",
            Self::Wav2vec2Bert => "Wav2Vec2Bert",
        }
    }

    /// A family other than this one, that these names of a full model or of an adapter belong to.
    ///
    /// Whisper's prefix tells nothing: a bare encoder of another family has it, too.
    pub(crate) fn other_in<'a>(self, mut names: impl Iterator<Item = &'a String>) -> Option<Self> {
        let of = |name: &String| Self::ALL.into_iter().find(|&other| other != Self::Whisper && name.starts_with(other.prefix()));
        names.find_map(|name| of(name).filter(|&other| other != self))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_true(value: &bool) -> bool {
    *value
}
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// See `feat_extract_norm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeatureNorm {
    /// Group norm after the first convolution only, one group per channel.
    Group,
    /// Layer norm over channels after every convolution.
    Layer,
}

impl Default for EncoderConfig {
    fn default() -> Self {
        Self {
            model_type: ModelType::Wav2vec2,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: Activation::Gelu,
            conv_dim: vec![512; 7],
            conv_kernel: vec![10, 3, 3, 3, 3, 2, 2],
            conv_stride: vec![5, 2, 2, 2, 2, 2, 2],
            conv_bias: false,
            feat_extract_norm: FeatureNorm::Group,
            feat_extract_activation: Activation::Gelu,
            feat_proj_layer_norm: true,
            do_stable_layer_norm: false,
            num_conv_pos_embeddings: 128,
            num_conv_pos_embedding_groups: 16,
            conv_pos_batch_norm: false,
            conv_pos_kernel_size: None,
            frames: None,
            num_buckets: None,
            max_bucket_distance: None,
            layer_norm_eps: 1e-5,
            initializer_range: 0.02,
            adapter_attn_dim: None,
            hidden_dropout: 0.1,
            attention_dropout: 0.1,
            activation_dropout: 0.1,
            feat_proj_dropout: 0.0,
            layerdrop: 0.1,
            apply_spec_augment: true,
            mask_time_prob: 0.05,
            mask_time_length: 10,
            mask_time_min_masks: 2,
            mask_feature_prob: 0.0,
            mask_feature_length: 10,
            mask_feature_min_masks: 0,
            other: Map::new(),
        }
    }
}

impl EncoderConfig {
    /// Reads and checks the `config.json` of a checkpoint folder.
    ///
    /// Errors: [`CheckpointError::Config`] with every mistake at once.
    pub fn read(folder: &Path) -> Result<Self, CheckpointError> {
        let path = folder.join(CONFIG);
        let file: Map<String, Value> = read_json(&path)?;
        let read = frames::read(&file).unwrap_or_else(|| serde_json::from_value(Value::Object(file)));
        let mut config: Self = read.map_err(|source| CheckpointError::Json { path: path.clone(), source })?;
        if config.model_type == ModelType::Data2vecAudio {
            config.feat_extract_norm = FeatureNorm::Layer; // it has no such field
        }
        let mistakes = config.mistakes();
        if mistakes.is_empty() { Ok(config) } else { Err(CheckpointError::Config { path, mistakes }) }
    }

    /// Writes `config.json` into `folder`.
    pub fn write(&self, folder: &Path) -> Result<(), CheckpointError> {
        let path = folder.join(CONFIG);
        if self.frames.is_some() { write_json(&path, &self.other) } else { write_json(&path, self) }
    }

    /// The configuration of an encoder of a given shape.
    pub fn of_shape(shape: &EncoderShape) -> Self {
        let wide = |list: &[u32]| list.iter().map(|&value| i64::from(value)).collect();
        let mut other = Map::new();
        other.insert("architectures".to_owned(), Value::from(vec!["Wav2Vec2Model"]));
        Self {
            hidden_size: shape.hidden_size.into(),
            num_hidden_layers: shape.num_hidden_layers as usize,
            num_attention_heads: shape.num_attention_heads.into(),
            intermediate_size: shape.intermediate_size.into(),
            conv_dim: wide(&shape.conv_dim),
            conv_kernel: wide(&shape.conv_kernel),
            conv_stride: wide(&shape.conv_stride),
            conv_bias: shape.conv_bias,
            feat_extract_norm: match shape.feat_extract_norm {
                ConvNorm::Group => FeatureNorm::Group,
                ConvNorm::Layer => FeatureNorm::Layer,
            },
            do_stable_layer_norm: shape.do_stable_layer_norm,
            num_conv_pos_embeddings: shape.num_conv_pos_embeddings.into(),
            num_conv_pos_embedding_groups: shape.num_conv_pos_embedding_groups.into(),
            hidden_dropout: shape.hidden_dropout,
            attention_dropout: shape.attention_dropout,
            activation_dropout: shape.activation_dropout,
            feat_proj_dropout: shape.feat_proj_dropout,
            layerdrop: shape.layerdrop,
            apply_spec_augment: shape.mask_time_prob > 0.0 || shape.mask_feature_prob > 0.0,
            mask_time_prob: shape.mask_time_prob,
            mask_time_length: shape.mask_time_length as usize,
            mask_time_min_masks: shape.mask_time_min_masks as usize,
            mask_feature_prob: shape.mask_feature_prob,
            mask_feature_length: shape.mask_feature_length as usize,
            other,
            ..Self::default()
        }
    }

    /// Stacks of layers, and the sites where adapters can be attached.
    pub fn architecture(&self) -> Architecture {
        let build = match self.model_type {
            ModelType::Whisper => Architecture::whisper,
            ModelType::Wav2vec2Bert => Architecture::wav2vec2_bert,
            _ => Architecture::encoder,
        };
        build(self.hidden_size as u32, self.intermediate_size as u32, self.num_hidden_layers as u32)
    }

    /// The large style: XLSR-53, XLS-R 300M, `wav2vec2-large-lv60`. The default is the base style, `wav2vec2-base`.
    pub fn large() -> Self {
        Self {
            hidden_size: 1024,
            num_hidden_layers: 24,
            num_attention_heads: 16,
            intermediate_size: 4096,
            conv_bias: true,
            feat_extract_norm: FeatureNorm::Layer,
            do_stable_layer_norm: true,
            ..Self::default()
        }
    }

    /// Samples that one frame needs: 400 for the published shapes. Encoders over feature frames make one of any clip.
    pub fn receptive_field(&self) -> i64 {
        if self.frames.is_some() {
            return 1;
        }
        self.convolutions().rev().fold(1, |frames, (kernel, stride)| (frames - 1) * stride + kernel)
    }

    /// Frames that `num_samples` samples give; 0 when they are fewer than [`Self::receptive_field`].
    pub fn num_frames(&self, num_samples: i64) -> i64 {
        if let Some(frames) = &self.frames {
            return frames.num_frames(num_samples);
        }
        self.convolutions().fold(
            num_samples,
            |length, (kernel, stride)| {
                if length < kernel { 0 } else { (length - kernel) / stride + 1 }
            },
        )
    }

    /// Frames that are stored or prepared in the place of `num_samples` samples: feature frames, or the output of the convolutions.
    pub fn num_input_frames(&self, num_samples: i64) -> i64 {
        self.frames.as_ref().map_or_else(|| self.num_frames(num_samples).max(1), |frames| frames.num_input_frames(num_samples))
    }

    /// Samples of the longest clip; none without a limit.
    pub fn max_samples(&self) -> Option<i64> {
        self.frames.as_ref().and_then(FrameInput::max_samples)
    }

    /// Samples from one frame to the next.
    pub fn hop_length(&self) -> i64 {
        if self.frames.is_some() { frames::SAMPLES_PER_FRAME } else { self.conv_stride.iter().product() }
    }

    fn convolutions(&self) -> impl DoubleEndedIterator<Item = (i64, i64)> + '_ {
        self.conv_kernel.iter().copied().zip(self.conv_stride.iter().copied())
    }

    /// Settings that are unsupported or contradict each other.
    fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let mut require = |ok: bool, sentence: String| {
            if !ok {
                mistakes.push(sentence);
            }
        };
        for (name, value) in [
            ("hidden_size", self.hidden_size),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("num_conv_pos_embeddings", self.num_conv_pos_embeddings),
            ("num_conv_pos_embedding_groups", self.num_conv_pos_embedding_groups),
            ("num_hidden_layers", self.num_hidden_layers as i64),
            ("adapter_attn_dim", self.adapter_attn_dim.unwrap_or(1)),
            ("conv_pos_kernel_size", self.conv_pos_kernel_size.unwrap_or(1)),
            ("mask_time_length", self.mask_time_length as i64),
            ("mask_feature_length", self.mask_feature_length as i64),
        ] {
            require(value > 0, format!("{name} must be above 0, not {value}"));
        }
        for (name, divisor) in [
            ("num_attention_heads", self.num_attention_heads),
            ("num_conv_pos_embedding_groups", self.num_conv_pos_embedding_groups),
        ] {
            let divides = divisor <= 0 || self.hidden_size % divisor == 0;
            require(divides, format!("{name} ({divisor}) must divide hidden_size ({})", self.hidden_size));
        }
        for (name, list) in [("conv_dim", &self.conv_dim), ("conv_kernel", &self.conv_kernel), ("conv_stride", &self.conv_stride)]
        {
            let fits = !list.is_empty() && list.len() == self.conv_dim.len() && list.iter().all(|&value| value > 0);
            require(fits, format!("{name} must hold {} numbers above 0, not {list:?}", self.conv_dim.len().max(1)));
        }
        for (name, value) in [
            ("hidden_dropout", self.hidden_dropout),
            ("attention_dropout", self.attention_dropout),
            ("activation_dropout", self.activation_dropout),
            ("feat_proj_dropout", self.feat_proj_dropout),
            ("layerdrop", self.layerdrop),
            ("mask_time_prob", self.mask_time_prob),
            ("mask_feature_prob", self.mask_feature_prob),
        ] {
            require((0.0..=1.0).contains(&value), format!("{name} must be between 0 and 1, not {value}"));
        }
        mistakes.append(&mut self.family_mistakes());
        mistakes.extend(match &self.frames {
            Some(frames) => frames::mistakes(frames, &self.other),
            None => fields::mistakes(&self.other, self.conv_dim.len()),
        });
        mistakes
    }

    /// Fields of one family in a checkpoint of another, and what a family asks of its fields.
    fn family_mistakes(&self) -> Vec<String> {
        let (hubert, wavlm) = (self.model_type == ModelType::Hubert, self.model_type == ModelType::Wavlm);
        let data2vec = self.model_type == ModelType::Data2vecAudio;
        let buckets = self.buckets();
        let checks = [
            (self.adapter_attn_dim.is_none() || self.do_stable_layer_norm, "adapter_attn_dim needs do_stable_layer_norm"),
            (self.adapter_attn_dim.is_none() || !wavlm, "adapter_attn_dim is not a field of WavLM"),
            (!data2vec || !self.do_stable_layer_norm, "do_stable_layer_norm is not a field of data2vec-audio: it must be false"),
            (!data2vec || self.conv_pos_kernel_size.is_some(), "conv_pos_kernel_size is missing"),
            (data2vec || self.conv_pos_kernel_size.is_none(), "conv_pos_kernel_size is a field of data2vec-audio alone"),
            (self.feat_proj_layer_norm || hubert, "feat_proj_layer_norm is a field of HuBERT alone: it must be true"),
            (!self.conv_pos_batch_norm || hubert, "conv_pos_batch_norm is a field of HuBERT alone: it must be false"),
            (self.num_buckets.is_none() || wavlm, "num_buckets is a field of WavLM alone"),
            (self.max_bucket_distance.is_none() || wavlm, "max_bucket_distance is a field of WavLM alone"),
            (!wavlm || buckets.count >= 4, "num_buckets must be 4 or more"),
            (!wavlm || buckets.max_distance > buckets.count / 4, "max_bucket_distance must be above a quarter of num_buckets"),
        ];
        checks.into_iter().filter(|(ok, _)| !ok).map(|(_, sentence)| sentence.to_owned()).collect()
    }

    /// How WavLM's position bias shares its values.
    pub fn buckets(&self) -> Buckets {
        Buckets { count: self.num_buckets.unwrap_or(320), max_distance: self.max_bucket_distance.unwrap_or(800) }
    }
}

/// See `num_buckets` and `max_bucket_distance`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buckets {
    /// Values of the bias per head, for both directions.
    pub count: i64,
    /// Frames from which on all distances share one value.
    pub max_distance: i64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    #[test]
    fn numbers_of_frames_match_the_reference() {
        let Some(cases) = golden::json("audio", "frame_counts") else { return };
        let pairs: Vec<(i64, i64)> = serde_json::from_value(cases).unwrap();
        for (samples, frames) in pairs {
            assert_eq!(EncoderConfig::default().num_frames(samples), frames, "{samples} samples");
            println!("GOLDEN frame_counts {samples} 0"); // read by scripts/golden_table.py
        }
    }

    #[test]
    fn absent_fields_take_the_published_defaults_and_unknown_ones_are_kept() {
        let text = r#"{"vocab_size":18,"hidden_size":96,"adapter_attn_dim":null,"odd":{"b":1,"a":[2]}}"#;
        let config: EncoderConfig = serde_json::from_str(text).unwrap();
        assert_eq!((config.hidden_size, config.num_hidden_layers, config.layerdrop), (96, 12, 0.1));
        assert_eq!(config.mistakes(), Vec::<String>::new());
        let again = serde_json::to_value(&config).unwrap();
        assert_eq!((&again["vocab_size"], &again["odd"]["a"][0]), (&18.into(), &2.into()));
    }

    #[test]
    fn frames_follow_the_convolutions() {
        let config = EncoderConfig::default();
        assert_eq!(config.receptive_field(), 400);
        for (samples, frames) in [(0, 0), (399, 0), (400, 1), (719, 1), (720, 2), (16_000, 49)] {
            assert_eq!(config.num_frames(samples), frames, "{samples} samples");
        }
    }

    #[test]
    fn every_mistake_is_listed_at_once() {
        let text = r#"{"hidden_size":50,"conv_pos_batch_norm":true,"num_buckets":320,"num_attention_heads":4,"conv_kernel":[3],"layerdrop":2,"add_adapter":true}"#;
        let config: EncoderConfig = serde_json::from_str(text).unwrap();
        let all = config.mistakes().join("\n");
        for part in ["conv_pos_batch_norm", "num_buckets", "num_attention_heads (4)", "conv_kernel", "layerdrop", "add_adapter"] {
            assert!(all.contains(part), "{part} is not in {all}");
        }
        let error = serde_json::from_str::<EncoderConfig>(r#"{"hidden_act":"mish"}"#).unwrap_err();
        assert!(error.to_string().contains("mish"), "{error}");
        let error = serde_json::from_str::<EncoderConfig>(r#"{"model_type":"bert"}"#).unwrap_err();
        assert!(error.to_string().contains("bert") && error.to_string().contains("wavlm"), "{error}");
    }
}
