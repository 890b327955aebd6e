//! Mel spectrograms of clips with their texts and speakers.

use std::path::{Path, PathBuf};

use audio::features::FeatureInfo;
use audio::features::mel::{MelSpectrogram, Recipe};
use audio::reader::ShardReader;
use datasets::shard::RowInfo;
use pipeline::StageError;
use tch::{Device, Kind, TchError, Tensor};

use super::JudgeError;

/// Mean and deviation to which all spectrograms are brought: fixed, so that a level is not lost.
const STANDARD: [f32; 2] = [-4.0, 2.5];

/// Clips of one shard.
#[derive(Debug)]
pub(crate) struct Clips {
    path: PathBuf,
    shards: ShardReader,
    mel: MelSpectrogram,
}

/// The spectrogram that a feature shard describes.
pub(crate) fn spectrogram(path: &Path, info: Option<&FeatureInfo>) -> Result<MelSpectrogram, StageError> {
    info.and_then(|info| info.mel.clone()).ok_or_else(|| {
        let error = StageError::failed(JudgeError::NoSpectrogram { path: path.to_owned() });
        error.with_hint("give a features.log_mel node with `energy`, which describes its spectrogram, or features.pitch of one")
    })
}

/// Brings values of a recipe to natural logarithms.
pub(crate) fn to_natural(mel: &MelSpectrogram, values: &mut [f32]) {
    let factor = match mel.recipe {
        Recipe::Tacotron | Recipe::Hifigan => return,
        Recipe::Speecht5 => std::f32::consts::LN_10,
        Recipe::PowerDb => std::f32::consts::LN_10 / 20.0, // of the power, whose root is the magnitude
    };
    for value in values {
        *value *= factor;
    }
}

impl Clips {
    /// Opens a shard, or the one of that name in a folder.
    pub(super) fn open(path: &Path, name: &str) -> Result<Self, StageError> {
        let path = if path.is_dir() { path.join(format!("{name}.parquet")) } else { path.to_owned() };
        let shards = ShardReader::open(&[&path]).map_err(StageError::failed)?;
        let mel = spectrogram(&path, shards.features())?;
        if shards.rows().is_empty() {
            return Err(StageError::failed(JudgeError::Empty { path }));
        }
        Ok(Self { path, shards, mel })
    }

    pub(super) fn mel(&self) -> &MelSpectrogram {
        &self.mel
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn rows(&self) -> &[RowInfo] {
        self.shards.rows()
    }

    /// Spectrogram of a row, natural logarithm.
    pub(super) fn load(&self, row: usize) -> Result<Vec<f32>, StageError> {
        let mut values = self.shards.load_features(row).map_err(StageError::failed)?.unwrap_or_default();
        if values.len() < self.mel.num_mel_bins {
            let (id, path) = (self.rows()[row].id.clone(), self.path.clone());
            return Err(StageError::failed(JudgeError::Missing { id, path, missing: "frame" }));
        }
        to_natural(&self.mel, &mut values);
        Ok(values)
    }
}

/// Spectrograms of natural logarithms as one batch (B, T, bands), standardised, padded with zeros; and the frames of each.
///
/// Errors: libtorch's.
pub(crate) fn batch(mels: &[Vec<f32>], bands: usize, device: Device) -> Result<(Tensor, Vec<i64>), TchError> {
    let counts: Vec<i64> = mels.iter().map(|mel| (mel.len() / bands) as i64).collect();
    let longest = counts.iter().copied().max().unwrap_or(0) as usize;
    let mut values = vec![0.0_f32; mels.len() * longest * bands];
    for (mel, place) in mels.iter().zip(values.chunks_exact_mut(longest * bands)) {
        for (value, log) in place.iter_mut().zip(mel) {
            *value = (log - STANDARD[0]) / STANDARD[1];
        }
    }
    let tensor = Tensor::f_from_slice(&values)?.f_view([mels.len() as i64, longest as i64, bands as i64])?;
    Ok((tensor.f_to_device(device)?.f_to_kind(Kind::Float)?, counts))
}

/// Text as judges spell it: lower case, letters, digits and apostrophes, one space between words.
pub(crate) fn spell(text: &str) -> String {
    let kept = |c: char| if c.is_alphanumeric() || c == '\'' { c } else { ' ' };
    let text: String = text.replace('\u{2019}', "'").to_lowercase().chars().map(kept).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Text of a clip: as the corpus normalises it, as it is distributed, or its label.
pub(crate) fn text_of(row: &RowInfo) -> Option<String> {
    let annotation = &row.annotation;
    let texts = [&annotation.normalised, &annotation.transcript, &annotation.label];
    texts.into_iter().flatten().map(|text| spell(text)).find(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_spelled_without_case_and_punctuation() {
        assert_eq!(spell("  Don\u{2019}t stop -- NOW, 2 times! "), "don't stop now 2 times");
        assert_eq!(spell("?!"), "");
    }
}
