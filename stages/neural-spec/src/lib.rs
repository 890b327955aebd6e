//! Neural stages: name, version, parameters and inputs of each. No libtorch.
//!
//! The program that plans knows the stages from here; the worker that runs them reads the same structs. Where a field has
//! a default, the default is a constant of the published benchmark (Li et al. 2023, arXiv:2303.03267, and its reference
//! code) and says so; every other value must be stated.

pub mod benchmark;
pub mod checkpoint;
mod encoder;
mod evaluate;
mod front;
mod head;
mod judge;
mod method;
pub mod predict;
pub mod published;
pub mod sites;
mod train;
mod tts;
mod vocoder;

pub use checkpoint::EncoderCheckpoint;
pub use encoder::{ConvNorm, EncoderShape, RandomEncoder};
pub use evaluate::{Decoding, Evaluate};
pub use front::{FeatureFormat, Front};
pub use head::{HeadSpec, HeadStart, LastState};
pub use judge::{JudgeKind, JudgeTrain, TtsEvaluate};
pub use method::{
    AdaLora, AdapterActivation, Added, BitFit, Bottleneck, ConvAdapter, Counts, Finetune, HeadOnly, Ia3, Layers, Lora, Method,
    Misfit, Phases, Prefix, Scope, Start, Vera,
};
pub use predict::Predict;
pub use published::vocoder::{PublishedVocoder, VocoderCheckpoint};
pub use published::voice::{PublishedFiles, PublishedVoice, VoiceCheckpoint};
pub use scoring::Metric;
pub use sites::{Architecture, BlockPosition, LinearLayer, Site, SiteKind, Stack};
pub use train::{Optimizer, Precision, Schedule, Train};
pub use tts::{
    AlignSpeech, Binarisation, CopySpeech, Keep, LossWeights, Synthesise, TrainVoice, ValueForm, VoiceControls, VoiceProtocol,
    VoiceShape,
};
pub use vocoder::VocoderTrain;

/// The libtorch release that every neural stage is built against. It enters their fingerprints: another release may
/// round differently.
pub const LIBTORCH: &str = "2.11.0";

/// Dependencies of every stage that computes with libtorch, besides its parameters and inputs.
fn environment() -> Vec<(&'static str, String)> {
    vec![("libtorch", LIBTORCH.to_owned())]
}

/// Mistakes found so far, as the stage trait wants them.
type Mistakes = Vec<(&'static str, String)>;

/// Notes a mistake about `parameter` unless `ok`.
fn require(mistakes: &mut Mistakes, ok: bool, parameter: &'static str, expected: &str, found: impl std::fmt::Display) {
    if !ok {
        mistakes.push((parameter, format!("must be {expected}, not {found}")));
    }
}

/// Notes a mistake unless `value` is a probability, 1 excluded.
fn require_probability(mistakes: &mut Mistakes, parameter: &'static str, value: f64) {
    require(mistakes, (0.0..1.0).contains(&value), parameter, "at least 0 and below 1", value);
}

/// Notes a mistake unless `value` is finite and above 0.
fn require_positive(mistakes: &mut Mistakes, parameter: &'static str, value: f64) {
    require(mistakes, value.is_finite() && value > 0.0, parameter, "above 0", value);
}
