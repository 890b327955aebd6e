//! `preprocessor_config.json`: how a waveform is prepared.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::config::frames::FrameInput;
use super::config::{EncoderConfig, FeatureNorm};
use super::error::CheckpointError;
use super::files::{PREPROCESSOR, PROCESSOR};
use super::json::{read_json, write_json};

/// How a waveform is prepared for an encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preprocessor {
    /// True if each utterance is brought to zero mean and unit variance.
    #[serde(default = "yes")]
    pub do_normalize: bool,
    /// True if the encoder gets a mask of the samples that are padding.
    #[serde(default)]
    pub return_attention_mask: bool,
    /// In Hz.
    #[serde(default = "sample_rate")]
    pub sampling_rate: u32,
    /// Feature frames that are made of the samples; none where the encoder reads samples.
    #[serde(skip)]
    pub frames: Option<FrameInput>,
    /// Every other field, as read.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

fn yes() -> bool {
    true
}
fn sample_rate() -> u32 {
    16_000
}

impl Preprocessor {
    /// Reads the file of a checkpoint folder; where there is none, what published checkpoints of that style use.
    ///
    /// Errors: a file that is not such a file, or asks for another rate than 16 kHz.
    pub fn read(folder: &Path, config: &EncoderConfig) -> Result<Self, CheckpointError> {
        /// The file that version 5 of transformers writes. Earlier versions wrote one of this name without the extractor.
        #[derive(Deserialize)]
        struct Processor<E> {
            feature_extractor: E,
        }
        let (mut path, whole) = (folder.join(PREPROCESSOR), folder.join(PROCESSOR));
        let mut read: Self = match (path.exists(), whole.exists()) {
            (false, false) => return Ok(Self::usual_of(config)),
            (false, true) => {
                path = whole;
                read_json::<Processor<Self>>(&path)?.feature_extractor
            }
            (true, false) => read_json(&path)?,
            (true, true) => {
                let read: Self = read_json(&path)?;
                let other = read_json::<Processor<Option<Self>>>(&whole)?.feature_extractor;
                let mistakes = other.map(|other| read.contradictions(&other)).unwrap_or_default();
                if !mistakes.is_empty() {
                    return Err(CheckpointError::Config { path: whole, mistakes });
                }
                read
            }
        };
        read.frames = config.frames;
        if read.frames.is_some() {
            read.do_normalize = false; // the extractors of frames keep the field, but do not follow it
        }
        let mistakes = read.mistakes();
        if mistakes.is_empty() { Ok(read) } else { Err(CheckpointError::Config { path, mistakes }) }
    }

    /// Settings that another file states differently.
    fn contradictions(&self, other: &Self) -> Vec<String> {
        let settings: [(_, Value, Value); 3] = [
            ("do_normalize", self.do_normalize.into(), other.do_normalize.into()),
            ("return_attention_mask", self.return_attention_mask.into(), other.return_attention_mask.into()),
            ("sampling_rate", self.sampling_rate.into(), other.sampling_rate.into()),
        ];
        let differing = settings.into_iter().filter(|(_, own, other)| own != other);
        differing.map(|(name, own, other)| format!("{name} is {other}, and {own} in {PREPROCESSOR}")).collect()
    }

    /// Settings that are not supported.
    fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        if self.sampling_rate != sample_rate() {
            mistakes.push(format!("sampling_rate must be {}, not {}", sample_rate(), self.sampling_rate));
        }
        if let Some(frames) = &self.frames {
            mistakes.extend(frames.mistakes(&self.other));
            return mistakes;
        }
        if let Some(found) = self.other.get("feature_extractor_type").filter(|found| *found != "Wav2Vec2FeatureExtractor") {
            mistakes.push(format!("feature_extractor_type must be \"Wav2Vec2FeatureExtractor\" for this encoder, not {found}"));
        }
        for (name, expected) in
            [("feature_size", Value::from(1.0)), ("padding_value", 0.0.into()), ("padding_side", "right".into())]
        {
            let same = |found: &Value| *found == expected || (found.is_number() && found.as_f64() == expected.as_f64());
            if let Some(found) = self.other.get(name).filter(|found| !same(found)) {
                mistakes.push(format!("{name} must be {expected}, not {found}"));
            }
        }
        mistakes
    }

    /// The usual one, with or without an attention mask.
    pub fn usual(return_attention_mask: bool) -> Self {
        let mut other = Map::new();
        other.insert("feature_extractor_type".to_owned(), "Wav2Vec2FeatureExtractor".into());
        other.insert("feature_size".to_owned(), 1.into());
        other.insert("padding_side".to_owned(), "right".into());
        other.insert("padding_value".to_owned(), 0.0.into());
        Self { do_normalize: true, return_attention_mask, sampling_rate: sample_rate(), frames: None, other }
    }

    /// The usual one of an encoder.
    fn usual_of(config: &EncoderConfig) -> Self {
        let usual = Self::usual(config.feat_extract_norm == FeatureNorm::Layer);
        match config.frames {
            Some(frames) => Self { do_normalize: false, frames: Some(frames), other: frames.usual_extractor(), ..usual },
            None => usual,
        }
    }

    /// Values of a feature frame; none where the encoder reads samples.
    pub fn width(&self) -> Option<usize> {
        self.frames.map(|frames| frames.width() as usize)
    }

    /// Writes the file into `folder`.
    pub fn write(&self, folder: &Path) -> Result<(), CheckpointError> {
        write_json(&folder.join(PREPROCESSOR), self)
    }

    /// Prepares one utterance in place: `(x - mean) / sqrt(var + 1e-7)` with the population variance, when asked for.
    pub fn prepare(&self, samples: &mut [f32]) {
        if !self.do_normalize || samples.is_empty() {
            return;
        }
        let count = samples.len() as f64;
        let mean = samples.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
        let variance = samples.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count;
        let scale = 1.0 / (variance + 1e-7).sqrt();
        for x in samples {
            *x = ((f64::from(*x) - mean) * scale) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;
    use tch::Tensor;

    #[test]
    fn normalised_waveforms_match_the_reference() {
        let Some(case) = golden::open("audio", "normalize") else { return };
        let longest = case.get("with_mask.input_values").unwrap().size()[1];
        let row = |number: i64, padded_before: bool| {
            let mut samples = Vec::<f32>::try_from(case.get(&format!("raw.{number}")).unwrap()).unwrap();
            if padded_before {
                samples.resize(longest as usize, 0.0);
            }
            Preprocessor::usual(true).prepare(&mut samples);
            samples.resize(longest as usize, 0.0);
            Tensor::from_slice(&samples)
        };
        let count = case.get("with_mask.input_values").unwrap().size()[0];
        let rows = |padded_before| Tensor::stack(&(0..count).map(|number| row(number, padded_before)).collect::<Vec<_>>(), 0);
        case.check("with_mask.input_values", &rows(false));
        // Not what we do: transformers normalises padding too where a checkpoint has no mask. The formula is the same.
        case.check("without_mask.input_values", &rows(true));
    }

    #[test]
    fn what_version_5_of_transformers_writes_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"{"feature_extractor":{"do_normalize":false,"return_attention_mask":true,"sampling_rate":16000},"processor_class":"P"}"#;
        std::fs::write(folder.path().join(PROCESSOR), text).unwrap();
        let read = Preprocessor::read(folder.path(), &EncoderConfig::default()).unwrap();
        assert!(!read.do_normalize && read.return_attention_mask);
    }

    #[test]
    fn two_files_that_contradict_each_other_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let read = || Preprocessor::read(folder.path(), &EncoderConfig::default());
        write(PREPROCESSOR, r#"{"do_normalize":true,"return_attention_mask":false,"sampling_rate":16000}"#);
        write(PROCESSOR, r#"{"processor_class":"Wav2Vec2Processor"}"#);
        assert!(read().unwrap().do_normalize, "it says nothing of the extractor");
        write(PROCESSOR, r#"{"feature_extractor":{"do_normalize":true,"return_attention_mask":false,"sampling_rate":16000}}"#);
        assert!(read().unwrap().do_normalize);
        write(PROCESSOR, r#"{"feature_extractor":{"do_normalize":false,"return_attention_mask":true,"sampling_rate":16000}}"#);
        let error = read().unwrap_err().to_string();
        assert!(error.contains("processor_config.json"), "{error}");
        for part in ["do_normalize is false, and true in preprocessor_config.json", "return_attention_mask is true, and false"] {
            assert!(error.contains(part), "{part} is not in {error}");
        }
    }

    #[test]
    fn published_preprocessors_are_read_and_others_refused() {
        let usual = r#"{"do_normalize":true,"feature_size":1,"padding_side":"right","padding_value":0,"return_attention_mask":false,
            "sampling_rate":16000,"feature_extractor_type":"Wav2Vec2FeatureExtractor"}"#;
        let read: Preprocessor = serde_json::from_str(usual).unwrap();
        assert_eq!(read.mistakes(), Vec::<String>::new());
        assert_eq!(Preprocessor::usual(true).mistakes(), Vec::<String>::new());
        let other = r#"{"padding_side":"left","padding_value":1.0,"feature_size":80,"sampling_rate":8000}"#;
        let all = serde_json::from_str::<Preprocessor>(other).unwrap().mistakes().join("; ");
        for part in ["not 8000", "not 80", "not 1.0", "not \"left\""] {
            assert!(all.contains(part), "{part} is not in {all}");
        }
    }
}
