//! Writes 16-bit mono samples as a whole WAV or FLAC file in memory, block by block, the same bytes on every machine.

pub(crate) mod flac;

use crate::sums::Summed;
use crate::wav::WavWriter;
use flac::FlacWriter;

/// How the bytes of a clip are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// PCM in RIFF: the fastest to read, 32 000 bytes a second at 16 kHz.
    #[default]
    Wav,
    /// Lossless, about 0.6 of the size.
    Flac,
}

impl Format {
    /// True for WAV, which stays out of fingerprints.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The end of a file name, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Wav => "wav",
            Self::Flac => "flac",
        }
    }
}

/// Collects samples and gives a file.
#[derive(Debug)]
pub(crate) enum Encoder {
    Wav(WavWriter),
    Flac(Box<FlacWriter>),
}

impl Encoder {
    pub(crate) fn new(format: Format, sample_rate: u32) -> Self {
        match format {
            Format::Wav => Self::Wav(WavWriter::new(sample_rate)),
            Format::Flac => Self::Flac(Box::new(FlacWriter::new(sample_rate))),
        }
    }

    pub(crate) fn push(&mut self, samples: &[i16]) {
        match self {
            Self::Wav(writer) => writer.push(samples),
            Self::Flac(writer) => writer.push(samples),
        }
    }

    /// Returns the file, and for FLAC the samples whose sum [`flac::sign`] writes into it.
    pub(crate) fn finish(self) -> (Vec<u8>, Option<Summed>) {
        match self {
            Self::Wav(writer) => (writer.finish(), None),
            Self::Flac(writer) => {
                let (file, samples) = writer.finish_unsigned();
                (file, Some(samples))
            }
        }
    }
}
