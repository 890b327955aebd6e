//! Speech synthesis: training and adapting a voice, alignments, and speech.

use std::collections::BTreeMap;

use pipeline::{Demand, Slot, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasks::text::Rules;

use crate::train::prefer_gpu;
use crate::{
    Lora, Method, Mistakes, Optimizer, Precision, Schedule, environment, require, require_positive, require_probability,
};

/// Trains a voice: an acoustic model that speaks texts as its speakers do. Without `inputs.base` it starts from random weights and
/// `method` is `finetune`; with it, a voice is adapted to the speakers of the recordings.
///
/// Durations come from an aligner that is learned with the model, or from `inputs.alignment`. Every method also trains the rows of the
/// new speakers; `head_only` trains nothing else. A new speaker starts at the mean of the old ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainVoice {
    /// Method of the training: all of the base, or a few parameters beside it.
    pub method: Method,
    /// Sizes of a voice that starts from random weights; a base has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<VoiceShape>,
    /// How texts become symbols, of a voice that starts from random weights; a base has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Rules>,
    /// Pronunciations that come before the dictionary: `{ sure = "SH UH1 R" }`. Those of a base stay.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub words: BTreeMap<String, String>,
    /// `paper`: as the published code has it, defects included (see `docs/protocols.md`). Default `sound`.
    #[serde(default)]
    pub protocol: VoiceProtocol,
    /// True if the predictors of durations, pitch and energy are trained as well where the method freezes them. Default false.
    #[serde(default)]
    pub train_predictors: bool,
    /// Learning rate at the top of the schedule; a factor of it with the schedule `noam`.
    pub learning_rate: f64,
    /// Updates. 0 leaves a base as it is, with its mean speaker for every new one.
    pub max_steps: u32,
    /// How the learning rate falls after the warm-up.
    pub schedule: Schedule,
    /// Share of all steps in which the learning rate rises from 0.
    #[serde(default)]
    pub warmup_ratio: f64,
    /// Most frames in a batch, padding counted.
    #[schemars(range(min = 1))]
    pub batch_frames: u32,
    /// Most utterances in a batch; no limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub batch_size: Option<u32>,
    /// Batches per step. Default 1.
    #[serde(default = "one_batch")]
    #[schemars(range(min = 1))]
    pub accumulation: u32,
    /// Largest norm of the gradient; a larger one is scaled down to it. Default 1, as published.
    #[serde(default = "one")]
    pub max_grad_norm: f64,
    /// How a gradient becomes an update. Default `adam`, as published.
    #[serde(default = "adam")]
    pub optimizer: Optimizer,
    /// Weight decay; biases and norms are exempt. Default 0, as published.
    #[serde(default)]
    pub weight_decay: f64,
    /// Decay rates of Adam's first and second moment. Default 0.9 and 0.98, as published.
    #[serde(default = "betas")]
    pub betas: [f64; 2],
    /// Adam's guard against division by zero. Default 1e-9, as published.
    #[serde(default = "epsilon")]
    pub epsilon: f64,
    /// Weights of the losses.
    #[serde(default)]
    pub losses: LossWeights,
    /// When the aligner's probabilities are pulled to 0 and 1.
    #[serde(default)]
    pub binarisation: Binarisation,
    /// Steps from one evaluation on the dev set to the next.
    #[schemars(range(min = 1))]
    pub eval_every: u32,
    /// Evaluations in a row without a better mel spectrogram after which training ends; never early when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub patience: Option<u32>,
    /// Point of the training that becomes the voice: `best` on the dev set, or `last`. Default `best`.
    #[serde(default)]
    pub keep: Keep,
    /// Number format of the computation.
    pub precision: Precision,
    /// True if every step sees the batches of the first one. For checking that a model can learn at all. Default false.
    #[serde(default)]
    pub overfit_batch: bool,
    /// CPU threads of the training; 0 for the whole pool. Default 0.
    #[serde(default)]
    pub threads: u32,
    /// Seed of the new parameters, the order of the data and dropout; a stream of its own for each.
    pub seed: u64,
}

/// Sizes of a voice. Defaults are those of the published model (35.8 million parameters).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct VoiceShape {
    /// Width of encoder and decoder.
    #[schemars(range(min = 2))]
    pub hidden_size: u32,
    /// Heads of their attentions; divides `hidden_size`.
    #[schemars(range(min = 1))]
    pub num_attention_heads: u32,
    /// Layers of the encoder.
    #[schemars(range(min = 1))]
    pub encoder_layers: u32,
    /// Layers of the decoder.
    #[schemars(range(min = 1))]
    pub decoder_layers: u32,
    /// Channels between the two convolutions of a layer.
    #[schemars(range(min = 1))]
    pub filter_size: u32,
    /// Taps of the first of these convolutions; odd.
    pub kernel_size: u32,
    /// Dropout of encoder and decoder.
    pub dropout: f64,
    /// Dropout of the predictors of durations, pitch and energy, which are as wide as the encoder.
    pub predictor_dropout: f64,
    /// Convolutions of the post-net.
    #[schemars(range(min = 1))]
    pub postnet_layers: u32,
    /// Channels between them.
    #[schemars(range(min = 1))]
    pub postnet_channels: u32,
    /// Dropout of the post-net.
    pub postnet_dropout: f64,
    /// How pitch and energy enter: a convolution of 3 taps, or a table of 256 rows as in ming024/FastSpeech2.
    pub values: ValueForm,
}

impl Default for VoiceShape {
    fn default() -> Self {
        Self {
            hidden_size: 256,
            num_attention_heads: 2,
            encoder_layers: 4,
            decoder_layers: 6,
            filter_size: 1024,
            kernel_size: 9,
            dropout: 0.2,
            predictor_dropout: 0.5,
            postnet_layers: 5,
            postnet_channels: 512,
            postnet_dropout: 0.5,
            values: ValueForm::Convolution,
        }
    }
}

/// How pitch and energy enter a voice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ValueForm {
    /// A convolution of 3 taps.
    Convolution,
    /// A table of 256 rows.
    Bins,
}

/// How faithfully the published code is followed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VoiceProtocol {
    /// Padding never matters, frozen parts do not move, ties of the alignment search stay.
    #[default]
    Sound,
    /// Padding enters aligner, predictors and post-net, its batch norm moves while frozen, ties step on, the energy has an absolute
    /// error, and symbols may last no frame.
    Paper,
}

/// Point of a training that is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// The one with the best mel spectrogram on the dev set.
    #[default]
    Best,
    /// The last.
    Last,
}

/// Weights of the losses of a voice. Default 1 each.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LossWeights {
    /// Mel spectrogram in front of the post-net.
    pub mel: f64,
    /// Mel spectrogram behind the post-net.
    pub postnet: f64,
    /// Durations; above 0, or the voice would never learn when to speak.
    pub duration: f64,
    /// Pitch.
    pub pitch: f64,
    /// Energy.
    pub energy: f64,
    /// All alignments.
    pub forward_sum: f64,
    /// Best alignment, at its full weight.
    pub binarisation: f64,
}

impl Default for LossWeights {
    fn default() -> Self {
        Self { mel: 1.0, postnet: 1.0, duration: 1.0, pitch: 1.0, energy: 1.0, forward_sum: 1.0, binarisation: 1.0 }
    }
}

/// Steps in which the weight of the binarisation rises from 0 to 1, as shares of all steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Binarisation {
    /// Share in which it is 0.
    pub from: f64,
    /// Share in which it rises.
    pub over: f64,
}

impl Default for Binarisation {
    fn default() -> Self {
        Self { from: 0.25, over: 0.1 }
    }
}

fn one_batch() -> u32 {
    1
}
fn one() -> f64 {
    1.0
}
fn adam() -> Optimizer {
    Optimizer::Adam {}
}
fn betas() -> [f64; 2] {
    [0.9, 0.98]
}
fn epsilon() -> f64 {
    1e-9
}

impl VoiceShape {
    fn check(&self, mistakes: &mut Mistakes) {
        for (name, value) in [
            ("shape.hidden_size", self.hidden_size),
            ("shape.num_attention_heads", self.num_attention_heads),
            ("shape.encoder_layers", self.encoder_layers),
            ("shape.decoder_layers", self.decoder_layers),
            ("shape.filter_size", self.filter_size),
            ("shape.postnet_layers", self.postnet_layers),
            ("shape.postnet_channels", self.postnet_channels),
        ] {
            require_positive(mistakes, name, value.into());
        }
        let (heads, hidden) = (self.num_attention_heads, self.hidden_size);
        let divides = heads == 0 || hidden.is_multiple_of(heads);
        require(mistakes, divides, "shape.num_attention_heads", &format!("a divisor of hidden_size ({hidden})"), heads);
        require(mistakes, self.kernel_size % 2 == 1, "shape.kernel_size", "odd", self.kernel_size);
        for (name, value) in [
            ("shape.dropout", self.dropout),
            ("shape.predictor_dropout", self.predictor_dropout),
            ("shape.postnet_dropout", self.postnet_dropout),
        ] {
            require_probability(mistakes, name, value);
        }
    }
}

impl LossWeights {
    fn check(&self, mistakes: &mut Mistakes) {
        for (name, value) in [
            ("losses.mel", self.mel),
            ("losses.postnet", self.postnet),
            ("losses.pitch", self.pitch),
            ("losses.energy", self.energy),
            ("losses.forward_sum", self.forward_sum),
            ("losses.binarisation", self.binarisation),
        ] {
            require(mistakes, value.is_finite() && value >= 0.0, name, "at least 0", value);
        }
        let fits = self.duration.is_finite() && self.duration > 0.0;
        require(mistakes, fits, "losses.duration", "above 0, or the voice never learns how long a sound lasts", self.duration);
    }
}

impl Stage for TrainVoice {
    const KIND: &'static str = "tts.train";
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "Trains a voice, or adapts one to new speakers";

    fn slots() -> Vec<Slot> {
        vec![
            Slot::many("train", "feature shards to learn from (train.parquet of `features.pitch`)"),
            Slot::many("dev", "feature shards to choose the best point with (dev.parquet of `features.pitch`)"),
            Slot::optional("base", "a voice to start from (`voice` of another `tts.train`)"),
            Slot::optional("alignment", "durations to learn from, in the place of the aligner (`tts.align`)"),
        ]
    }

    fn check(&self) -> Mistakes {
        let mut mistakes = Vec::new();
        self.method.check(&mut mistakes);
        if matches!(&self.method, Method::AdaLora(_) | Method::Vera(_) | Method::Lora(Lora { pissa: true, .. })) {
            mistakes
                .push(("method", "must not be `adalora`, `vera` or `lora` with `pissa`: these adapt encoders alone".to_owned()));
        }
        if let Some(shape) = &self.shape {
            shape.check(&mut mistakes);
        }
        self.losses.check(&mut mistakes);
        self.schedule.check(self.warmup_ratio, &mut mistakes);
        for (name, value) in [
            ("learning_rate", self.learning_rate),
            ("batch_frames", self.batch_frames.into()),
            ("batch_size", self.batch_size.map_or(1.0, f64::from)),
            ("accumulation", self.accumulation.into()),
            ("max_grad_norm", self.max_grad_norm),
            ("epsilon", self.epsilon),
            ("eval_every", self.eval_every.into()),
            ("patience", self.patience.map_or(1.0, f64::from)),
        ] {
            require_positive(&mut mistakes, name, value);
        }
        for beta in self.betas {
            require_probability(&mut mistakes, "betas", beta);
        }
        for (name, share) in [
            ("warmup_ratio", self.warmup_ratio),
            ("binarisation.from", self.binarisation.from),
            ("binarisation.over", self.binarisation.over),
        ] {
            require(&mut mistakes, (0.0..=1.0).contains(&share), name, "between 0 and 1", share);
        }
        if self.precision == Precision::Bf16 {
            mistakes.push(("precision", "must be `fp32`: voices are not trained in 16 bits yet".to_owned()));
        }
        mistakes
    }

    fn outputs(&self) -> Vec<String> {
        ["voice", "training.json", "alignment.parquet", "events"].map(str::to_owned).to_vec()
    }
    fn environment(&self) -> Vec<(&'static str, String)> {
        environment()
    }
    fn demand(&self) -> Demand {
        prefer_gpu(self.threads)
    }
}

/// Aligns recordings with their texts: the frames of every symbol, by the aligner of a voice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlignSpeech {
    /// Most frames in a batch, padding counted.
    #[schemars(range(min = 1))]
    pub batch_frames: u32,
    /// CPU threads; 0 for the whole pool. Default 0.
    #[serde(default)]
    pub threads: u32,
}

impl Stage for AlignSpeech {
    const KIND: &'static str = "tts.align";
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "Finds the frames of every symbol of recordings, by the aligner of a voice";

    fn slots() -> Vec<Slot> {
        vec![
            Slot::one("voice", "a voice with an aligner that knows the speakers (`voice` of `tts.train`)"),
            Slot::many("features", "feature shards (train.parquet, dev.parquet or test.parquet of `features.pitch`)"),
        ]
    }
    fn check(&self) -> Mistakes {
        let mut mistakes = Vec::new();
        require_positive(&mut mistakes, "batch_frames", self.batch_frames.into());
        mistakes
    }
    fn outputs(&self) -> Vec<String> {
        ["alignment.parquet"].map(str::to_owned).to_vec()
    }
    fn environment(&self) -> Vec<(&'static str, String)> {
        environment()
    }
    fn demand(&self) -> Demand {
        prefer_gpu(self.threads)
    }
}

/// Speaks texts with a voice: those of a test set, or sentences.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Synthesise {
    /// Sentences to speak, besides the texts of `inputs.texts`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sentences: Vec<String>,
    /// Speakers that speak every text. Default: the speaker of each recording; for sentences, all speakers of the voice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub speakers: Vec<String>,
    /// True if texts of speakers that the voice does not know are left out. Default false: they are an error.
    #[serde(default)]
    pub known_speakers_only: bool,
    /// Changes to what the voice would say.
    #[serde(default)]
    pub controls: VoiceControls,
    /// Seconds of silence before and after every clip of a voice whose texts have none at their ends, as published ones: so that it is
    /// compared with recordings that have it. Default 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub silence: f64,
    /// Iterations of Griffin-Lim, where no vocoder is given. Default 60.
    #[serde(default = "sixty")]
    #[schemars(range(min = 1))]
    pub griffin_lim: u32,
    /// Texts in a batch of the acoustic model; batches of another shape round the last digits differently. Default 30.
    #[serde(default = "thirty")]
    #[schemars(range(min = 1))]
    pub batch_size: u32,
    /// CPU threads; 0 for the whole pool. Default 0.
    #[serde(default)]
    pub threads: u32,
}

/// Changes to what a voice would say.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct VoiceControls {
    /// Factor of all durations: 1.2 is slower, 0.8 faster. Default 1.
    pub pace: f64,
    /// Change of the pitch, in semitones. Default 0.
    pub pitch: f64,
    /// Change of the energy, in decibels. Default 0.
    pub energy: f64,
}

impl Default for VoiceControls {
    fn default() -> Self {
        Self { pace: 1.0, pitch: 0.0, energy: 0.0 }
    }
}

impl VoiceControls {
    /// Mistakes of the numbers, as pairs of parameter and sentence.
    pub fn check(&self) -> Mistakes {
        let mut mistakes = Vec::new();
        require(&mut mistakes, (0.1..=10.0).contains(&self.pace), "controls.pace", "between 0.1 and 10", self.pace);
        require(
            &mut mistakes,
            (-24.0..=24.0).contains(&self.pitch),
            "controls.pitch",
            "between -24 and 24 semitones",
            self.pitch,
        );
        require(&mut mistakes, (-40.0..=40.0).contains(&self.energy), "controls.energy", "between -40 and 40 dB", self.energy);
        mistakes
    }
}

fn sixty() -> u32 {
    60
}
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}
fn thirty() -> u32 {
    30
}

impl Stage for Synthesise {
    const KIND: &'static str = "tts.synthesise";
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "Speaks texts with a voice";

    fn slots() -> Vec<Slot> {
        vec![
            Slot::one("voice", "a voice (`voice` of `tts.train`)"),
            Slot::any("texts", "shards whose texts are spoken (test.parquet of `audio.shards` or of features)"),
            Slot::optional("vocoder", "a vocoder of the same spectrograms; Griffin-Lim without"),
        ]
    }
    fn check(&self) -> Mistakes {
        let mut mistakes = self.controls.check();
        require(&mut mistakes, (0.0..=10.0).contains(&self.silence), "silence", "between 0 and 10 seconds", self.silence);
        require_positive(&mut mistakes, "griffin_lim", self.griffin_lim.into());
        require_positive(&mut mistakes, "batch_size", self.batch_size.into());
        mistakes
    }
    fn outputs(&self) -> Vec<String> {
        ["train.parquet", "dev.parquet", "test.parquet", "speech.parquet", "speech.json"].map(str::to_owned).to_vec()
    }
    fn environment(&self) -> Vec<(&'static str, String)> {
        environment()
    }
    fn demand(&self) -> Demand {
        prefer_gpu(self.threads)
    }
}

/// Sends the spectrograms of recordings through a vocoder: the loss that no voice can avoid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CopySpeech {
    /// Iterations of Griffin-Lim, where no vocoder is given. Default 60.
    #[serde(default = "sixty")]
    #[schemars(range(min = 1))]
    pub griffin_lim: u32,
    /// CPU threads; 0 for the whole pool. Default 0.
    #[serde(default)]
    pub threads: u32,
}

impl Stage for CopySpeech {
    const KIND: &'static str = "vocoder.copy";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Sends the spectrograms of recordings through a vocoder";

    fn slots() -> Vec<Slot> {
        vec![
            Slot::many("features", "feature shards with spectrograms and an energy (test.parquet of `features.log_mel`)"),
            Slot::optional("vocoder", "a vocoder of the same spectrograms; Griffin-Lim without"),
        ]
    }
    fn check(&self) -> Mistakes {
        let mut mistakes = Vec::new();
        require_positive(&mut mistakes, "griffin_lim", self.griffin_lim.into());
        mistakes
    }
    fn outputs(&self) -> Vec<String> {
        ["train.parquet", "dev.parquet", "test.parquet", "speech.parquet", "speech.json"].map(str::to_owned).to_vec()
    }
    fn environment(&self) -> Vec<(&'static str, String)> {
        environment()
    }
    fn demand(&self) -> Demand {
        prefer_gpu(self.threads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(change: &str) -> TrainVoice {
        let text = r#"{"method":{"name":"finetune"},"learning_rate":1e-3,"max_steps":100,"schedule":{"name":"linear"},
            "batch_frames":4000,"eval_every":50,"precision":"fp32","seed":1}"#;
        let mut value: serde_json::Value = serde_json::from_str(text).unwrap();
        let change: serde_json::Map<String, serde_json::Value> = serde_json::from_str(change).unwrap();
        value.as_object_mut().unwrap().extend(change);
        serde_json::from_value(value).unwrap()
    }

    #[track_caller]
    fn check(change: &str, mistaken: &[&str]) {
        let names: Vec<_> = parse(change).check().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, mistaken);
    }

    #[test]
    fn methods_that_need_more_than_the_tensors_of_a_voice_are_refused() {
        for method in [r#""adalora""#, r#""vera""#, r#""lora","pissa":true"#] {
            check(&format!(r#"{{"method":{{"name":{method}}}}}"#), &["method"]);
        }
    }

    #[test]
    fn published_numbers_are_the_defaults() {
        let train = parse("{}");
        assert_eq!(train.check(), []);
        assert_eq!(
            (train.betas, train.epsilon, train.losses, train.keep),
            ([0.9, 0.98], 1e-9, LossWeights::default(), Keep::Best)
        );
        check(r#"{"shape":{}}"#, &[]);
    }

    #[test]
    fn every_mistake_is_named() {
        check(r#"{"losses":{"duration":0}}"#, &["losses.duration"]);
        check(r#"{"losses":{"mel":-1},"batch_frames":0,"eval_every":0}"#, &["losses.mel", "batch_frames", "eval_every"]);
        check(
            r#"{"shape":{"hidden_size":10,"num_attention_heads":4,"kernel_size":4,"dropout":1}}"#,
            &["shape.num_attention_heads", "shape.kernel_size", "shape.dropout"],
        );
        check(r#"{"binarisation":{"from":2},"precision":"bf16"}"#, &["binarisation.from", "precision"]);
        let text = parse(r#"{"losses":{"duration":0}}"#).check().remove(0).1;
        assert_eq!(text, "must be above 0, or the voice never learns how long a sound lasts, not 0");
        let controls = VoiceControls { pace: 0.0, pitch: 30.0, energy: f64::NAN };
        let names: Vec<_> = controls.check().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["controls.pace", "controls.pitch", "controls.energy"]);
    }
}
