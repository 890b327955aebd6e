//! Acoustic model of speech synthesis: symbols of a text and a speaker become a mel spectrogram.
//!
//! ```text
//! symbols -> embedding -> encoder -> + speaker -> durations, pitch, energy -> each position as often as it lasts -> decoder -> mel -> post-net
//!                │                                    ^
//!                └--------------> aligner <- recorded mel: which frames belong to which position, in training only
//! ```
//!
//! Family of `FastSpeech` 2 (Ren et al. 2021, arXiv:2006.04558) in the form of ming024/FastSpeech2: tensors have its names. Durations come from
//! an aligner that is learned with the model (Badlani et al. 2022, arXiv:2108.10447), or are given.
//!
//! Unlike the published code, padding never matters: it is zero before every convolution and left out of every mean, so that a batch
//! gives the same as its utterances alone.
//!
//! Axes: B utterances, P positions (symbols of a text), T frames, H hidden size, M mel bands.

mod aligner;
mod block;
mod convolution;
mod model;
mod parameters;
mod postnet;
pub mod published;
pub mod search;
mod shape;
mod variance;

pub use self::variance::Controls;

#[cfg(test)]
mod tests;

pub use self::model::{Acoustic, Losses, Speech, Target, Text, Trained};
pub use self::parameters::{parameters, start};
pub use self::postnet::BatchNormMode;
pub use self::shape::{PostnetShape, PredictorShape, Shape, ValueEntry};
