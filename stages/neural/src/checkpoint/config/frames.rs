//! Encoders that read feature frames in the place of samples: Whisper and Wav2Vec2-BERT. What their `config.json` says, and the frames of a
//! clip.
//!
//! The file is kept as it was read and written back so: none of what is read here changes in training.

mod tensors;

use audio::features::fbank::{FilterBank, Window, normalise, stack};
use audio::features::whisper::{HOP_LENGTH, whisper};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{EncoderConfig, FeatureNorm, ModelType};
use crate::nn::activation::Activation;

/// Input of an encoder over frames, and what its layers have of their own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FrameInput {
    /// Log-mel frames, of which two convolutions make one frame of the encoder.
    Whisper {
        /// Values of a frame.
        num_mel_bins: i64,
        /// Positions that are stored: frames of the longest clip.
        max_positions: i64,
    },
    /// Frames of Kaldi's filter bank, normalised and stacked.
    Wav2Vec2Bert(Conformer),
}

/// Sizes of conformer layers.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Conformer {
    /// Values of a stacked frame.
    pub feature_projection_input_dim: i64,
    /// Frames to the left from which on all distances share one embedding.
    pub left_max_position_embeddings: i64,
    /// Likewise, to the right.
    pub right_max_position_embeddings: i64,
    /// Taps of the convolution over time.
    pub conv_depthwise_kernel_size: i64,
    /// Dropout behind that convolution.
    pub conformer_conv_dropout: f64,
}

/// Samples from one frame of the encoder to the next, in all of these families.
pub(crate) const SAMPLES_PER_FRAME: i64 = 320;
/// Frames of the input that make one frame of the encoder.
const STACKED: i64 = 2;
/// Samples of a frame of Kaldi's filter bank, and from one to the next.
const KALDI: [i64; 2] = [400, 160];

impl FrameInput {
    /// Values of an input frame.
    pub fn width(&self) -> i64 {
        match self {
            Self::Whisper { num_mel_bins, .. } => *num_mel_bins,
            Self::Wav2Vec2Bert(shape) => shape.feature_projection_input_dim,
        }
    }

    /// Frames of the encoder for a clip; one at least.
    ///
    /// Of Wav2Vec2-BERT's stacked frames, one that the clip fills only in part does not count, as in transformers.
    pub fn num_frames(&self, num_samples: i64) -> i64 {
        match self {
            Self::Whisper { .. } => (num_samples + SAMPLES_PER_FRAME - 1) / SAMPLES_PER_FRAME,
            Self::Wav2Vec2Bert(_) => {
                let [length, hop] = KALDI;
                if num_samples < length { 0 } else { ((num_samples - length) / hop + 1) / STACKED }
            }
        }
        .max(1)
    }

    /// Frames of the input for a clip.
    pub fn num_input_frames(&self, num_samples: i64) -> i64 {
        match self {
            Self::Whisper { .. } => STACKED * self.num_frames(num_samples),
            Self::Wav2Vec2Bert(_) => self.num_frames(num_samples),
        }
    }

    /// Samples of the longest clip; none without a limit.
    pub fn max_samples(&self) -> Option<i64> {
        match self {
            Self::Whisper { max_positions, .. } => Some(max_positions * SAMPLES_PER_FRAME),
            Self::Wav2Vec2Bert(_) => None,
        }
    }

    /// The input frames of a clip at 16 kHz, one after the other.
    ///
    /// A clip is filled up with zeros to whole frames of the encoder (Whisper) or to one frame (Wav2Vec2-BERT).
    pub fn compute(&self, samples: &[f32]) -> Vec<f32> {
        let (mut samples, num_samples) = (samples.to_vec(), samples.len() as i64);
        let frames = match self {
            Self::Whisper { num_mel_bins, .. } => {
                samples.resize(self.num_input_frames(num_samples) as usize * HOP_LENGTH, 0.0);
                whisper(&samples, *num_mel_bins as usize)
            }
            Self::Wav2Vec2Bert(shape) => {
                samples.resize(samples.len().max(KALDI[0] as usize), 0.0);
                let bank = FilterBank {
                    num_mel_bins: (shape.feature_projection_input_dim / STACKED) as usize,
                    low_hz: 20.0,
                    high_hz: 0.0,
                    window: Window::Povey,
                    sample_rate: 16_000,
                };
                let mut frames = bank.apply(&samples);
                normalise(&mut frames);
                let mut stacked = stack(&frames, STACKED as usize);
                stacked.truncate(self.num_input_frames(num_samples) as usize);
                stacked
            }
        };
        frames.into_iter().flatten().map(|value| value as f32).collect()
    }

    /// Settings of a feature extractor that would make other frames, as sentences.
    pub(crate) fn mistakes(&self, extractor: &Map<String, Value>) -> Vec<String> {
        let bands = match self {
            Self::Whisper { num_mel_bins, .. } => *num_mel_bins,
            Self::Wav2Vec2Bert(shape) => shape.feature_projection_input_dim / STACKED,
        };
        // What the extractors take where the file says nothing.
        let (class, expected) = match self {
            Self::Whisper { .. } => (
                "WhisperFeatureExtractor",
                vec![("feature_size", bands, 80), ("hop_length", 160, 160), ("n_fft", 400, 400), ("dither", 0, 0)],
            ),
            Self::Wav2Vec2Bert(_) => (
                "SeamlessM4TFeatureExtractor",
                vec![("feature_size", bands, 80), ("num_mel_bins", bands, 80), ("stride", STACKED, STACKED)],
            ),
        };
        let mut mistakes = Vec::new();
        if let Some(found) = extractor.get("feature_extractor_type").filter(|found| *found != class) {
            mistakes.push(format!("feature_extractor_type must be \"{class}\" for this encoder, not {found}"));
        }
        for (name, expected, usual) in expected {
            let found = extractor.get(name).map_or(Some(usual as f64), Value::as_f64);
            if found != Some(expected as f64) {
                let found = extractor.get(name).map_or_else(|| format!("{usual}, its default"), Value::to_string);
                mistakes.push(format!("{name} must be {expected}, as config.json has it, not {found}"));
            }
        }
        if extractor.get("padding_side").is_some_and(|side| side != "right") {
            mistakes.push(format!("padding_side must be \"right\", not {}", extractor["padding_side"]));
        }
        mistakes
    }

    /// The fields of the feature extractor of published checkpoints.
    pub(crate) fn usual_extractor(&self) -> Map<String, Value> {
        let bands = self.width();
        let fields = match self {
            Self::Whisper { .. } => json!({"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": bands,
                "hop_length": 160, "n_fft": 400, "padding_side": "right", "padding_value": 0.0}),
            Self::Wav2Vec2Bert(_) => {
                json!({"feature_extractor_type": "SeamlessM4TFeatureExtractor", "feature_size": bands / STACKED,
                "num_mel_bins": bands / STACKED, "stride": STACKED, "padding_side": "right", "padding_value": 1.0})
            }
        };
        match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        }
    }
}

/// Fields of a Whisper's configuration that its encoder reads; defaults are those of transformers.
#[derive(Deserialize)]
#[serde(default)]
struct WhisperFields {
    d_model: i64,
    encoder_layers: usize,
    encoder_attention_heads: i64,
    encoder_ffn_dim: i64,
    num_mel_bins: i64,
    max_source_positions: i64,
    activation_function: Activation,
    dropout: f64,
    attention_dropout: f64,
    activation_dropout: f64,
    encoder_layerdrop: f64,
    init_std: f64,
}

impl Default for WhisperFields {
    fn default() -> Self {
        Self {
            d_model: 384,
            encoder_layers: 4,
            encoder_attention_heads: 6,
            encoder_ffn_dim: 1536,
            num_mel_bins: 80,
            max_source_positions: 1500,
            activation_function: Activation::Gelu,
            dropout: 0.0,
            attention_dropout: 0.0,
            activation_dropout: 0.0,
            encoder_layerdrop: 0.0,
            init_std: 0.02,
        }
    }
}

/// Reads the configuration of an encoder over frames; none for other families.
pub(super) fn read(file: &Map<String, Value>) -> Option<Result<EncoderConfig, serde_json::Error>> {
    match file.get("model_type")?.as_str()? {
        "whisper" => Some(whisper_config(file)),
        "wav2vec2-bert" => Some(bert_config(file)),
        _ => None,
    }
}

/// What the two families have in common: no convolutions over samples, and padding that is known to be padding.
fn over_frames(frames: FrameInput, file: &Map<String, Value>) -> EncoderConfig {
    EncoderConfig {
        frames: Some(frames),
        feat_extract_norm: FeatureNorm::Layer,
        num_conv_pos_embedding_groups: 1,
        other: file.clone(),
        ..EncoderConfig::default()
    }
}

fn whisper_config(file: &Map<String, Value>) -> Result<EncoderConfig, serde_json::Error> {
    let own: WhisperFields = serde_json::from_value(Value::Object(file.clone()))?;
    let frames = FrameInput::Whisper { num_mel_bins: own.num_mel_bins, max_positions: own.max_source_positions };
    Ok(EncoderConfig {
        model_type: ModelType::Whisper,
        hidden_size: own.d_model,
        num_hidden_layers: own.encoder_layers,
        num_attention_heads: own.encoder_attention_heads,
        intermediate_size: own.encoder_ffn_dim,
        hidden_act: own.activation_function,
        do_stable_layer_norm: true,
        initializer_range: own.init_std,
        hidden_dropout: own.dropout,
        attention_dropout: own.attention_dropout,
        activation_dropout: own.activation_dropout,
        layerdrop: own.encoder_layerdrop,
        // Whatever the file says: transformers masks the input of its speech recogniser alone.
        apply_spec_augment: false,
        ..over_frames(frames, file)
    })
}

fn bert_config(file: &Map<String, Value>) -> Result<EncoderConfig, serde_json::Error> {
    // Where the defaults of transformers are others than those of wav2vec 2.0.
    let defaults = json!({"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
        "hidden_act": "swish", "hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0,
        "feature_projection_input_dim": 160, "left_max_position_embeddings": 64, "right_max_position_embeddings": 8,
        "conv_depthwise_kernel_size": 31, "conformer_conv_dropout": 0.1});
    let Value::Object(mut whole) = defaults else { unreachable!("an object is written above") };
    whole.extend(file.iter().map(|(name, value)| (name.clone(), value.clone())));
    let shape: Conformer = serde_json::from_value(Value::Object(whole.clone()))?;
    let read: EncoderConfig = serde_json::from_value(Value::Object(whole))?;
    let over_frames = over_frames(FrameInput::Wav2Vec2Bert(shape), file);
    Ok(EncoderConfig {
        frames: over_frames.frames,
        feat_extract_norm: over_frames.feat_extract_norm,
        num_conv_pos_embedding_groups: over_frames.num_conv_pos_embedding_groups,
        other: over_frames.other,
        ..read
    })
}

/// Settings of an encoder over frames that are not supported, as sentences.
pub(super) fn mistakes(frames: &FrameInput, file: &Map<String, Value>) -> Vec<String> {
    let mut mistakes = Vec::new();
    let mut require = |ok: bool, sentence: &str| {
        if !ok {
            mistakes.push(sentence.to_owned());
        }
    };
    let absent = |name: &str| file.get(name).is_none_or(Value::is_null);
    require(absent("quantization_config"), "quantization_config is not supported: it asks for another encoder");
    require(absent("auto_map"), "auto_map is not supported: it asks for another encoder");
    match frames {
        FrameInput::Whisper { num_mel_bins, max_positions } => {
            require(*num_mel_bins > 0, "num_mel_bins must be above 0");
            require(*max_positions > 0, "max_source_positions must be above 0");
        }
        FrameInput::Wav2Vec2Bert(shape) => {
            let off = |name: &str| absent(name) || file[name] == false;
            let positions = file.get("position_embeddings_type").is_none_or(|value| value == "relative_key");
            require(positions, "position_embeddings_type is not supported unless \"relative_key\"");
            require(off("add_adapter"), "add_adapter is not supported unless false");
            let before = "use_intermediate_ffn_before_adapter";
            require(off(before), "use_intermediate_ffn_before_adapter is not supported unless false");
            let width = shape.feature_projection_input_dim;
            require(width > 0 && width % STACKED == 0, "feature_projection_input_dim must be above 0 and even");
            let distances = [shape.left_max_position_embeddings, shape.right_max_position_embeddings];
            require(distances.iter().all(|&frames| frames >= 0), "left_ and right_max_position_embeddings must be 0 or more");
            let taps = shape.conv_depthwise_kernel_size;
            require(taps > 0 && taps % 2 == 1, "conv_depthwise_kernel_size must be odd");
        }
    }
    mistakes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_as_many_as_the_configuration_says() {
        let conformer = Conformer {
            feature_projection_input_dim: 16,
            left_max_position_embeddings: 2,
            right_max_position_embeddings: 1,
            conv_depthwise_kernel_size: 3,
            conformer_conv_dropout: 0.0,
        };
        let whisper = FrameInput::Whisper { num_mel_bins: 8, max_positions: 1500 };
        for input in [whisper, FrameInput::Wav2Vec2Bert(conformer)] {
            for num_samples in [1, 159, 160, 161, 319, 320, 321, 399, 400, 559, 560, 719, 720, 16_000] {
                let samples: Vec<f32> = (0..num_samples).map(|at| (at as f32 * 0.3).sin()).collect();
                let found = input.compute(&samples);
                let expected = input.num_input_frames(num_samples) * input.width();
                assert_eq!(found.len() as i64, expected, "{input:?} {num_samples}");
                assert!(found.iter().all(|value| value.is_finite()), "{input:?} {num_samples}");
            }
        }
        assert_eq!(whisper.max_samples(), Some(480_000));
        assert_eq!((whisper.num_frames(320), whisper.num_frames(321)), (1, 2));
        let bert = FrameInput::Wav2Vec2Bert(conformer);
        assert_eq!((bert.num_frames(559), bert.num_frames(560), bert.num_frames(880)), (1, 1, 2));
    }

    #[test]
    fn an_extractor_that_makes_other_frames_is_refused() {
        let input = FrameInput::Whisper { num_mel_bins: 128, max_positions: 1500 };
        let Value::Object(other) = json!({"feature_extractor_type": "Wav2Vec2FeatureExtractor", "hop_length": 80}) else {
            panic!()
        };
        let found = input.mistakes(&other).join("; ");
        for part in [
            "\"WhisperFeatureExtractor\" for this encoder",
            "feature_size must be 128",
            "not 80, its default",
            "hop_length must be 160",
        ] {
            assert!(found.contains(part), "{part} is not in {found}");
        }
        assert_eq!(input.mistakes(&input.usual_extractor()), Vec::<String>::new());
    }
}
