//! Synthesised speech as judges hear it.

use arrow_array::ArrayRef;
use arrow_schema::{DataType, Field};

use super::column::{double, doubles, field, optional_double, optional_doubles, text, texts};
use super::{PredictionRow, Transcription};

/// Synthesised utterance: the text that a recogniser heard, the voice, and the distance from a recording of the same text.
#[derive(Debug, Clone, PartialEq)]
pub struct Synthesised {
    /// The text that was to be spoken, and the one that was heard. A file of these rows can be read as one of [`Transcription`]s.
    pub text: Transcription,
    /// The voice.
    pub voice: Voice,
    /// Distance from the recording; none where the text was never recorded.
    pub sound: Option<Sound>,
}

/// Voice of a synthesised utterance.
#[derive(Debug, Clone, PartialEq)]
pub struct Voice {
    /// Cosine with the mean vector of the speaker's recordings.
    pub similarity: f64,
    /// Speaker whose mean vector is nearest.
    pub nearest: String,
}

/// Distance of a synthesised utterance from a recording of the same text, along a warping path.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sound {
    /// Mel-cepstral distortion in dB, mean over the path.
    pub mcd: f64,
    /// Mean square error of the fundamental frequency in cents; none without frames that are voiced in both.
    pub squared_cents: Option<f64>,
    /// Share of gross errors among those frames.
    pub gross_pitch_error: Option<f64>,
    /// Share of frames of which one is voiced and the other is not.
    pub voicing_error: f64,
    /// Error of the length relative to the recording; negative where it is too short.
    pub duration_error: f64,
    /// Deviation over time relative to the recording; none for a recording whose spectrum does not move.
    pub variance_ratio: Option<f64>,
}

impl PredictionRow for Synthesised {
    const WHAT: &'static str = "judgements of synthesised speech";

    fn columns() -> Vec<Field> {
        let mut columns = Transcription::columns();
        columns.extend([field("similarity", DataType::Float64), field("nearest", DataType::Utf8)]);
        let names = ["mcd", "squared_cents", "gross_pitch_error", "voicing_error", "duration_error", "variance_ratio"];
        columns.extend(names.map(|name| Field::new(name, DataType::Float64, true)));
        columns
    }
    fn key(&self) -> (&str, &str) {
        self.text.key()
    }
    fn encode(rows: &[&Self]) -> Vec<ArrayRef> {
        let mut columns = Transcription::encode(&rows.iter().map(|row| &row.text).collect::<Vec<_>>());
        columns.push(doubles(rows, |row| row.voice.similarity));
        columns.push(texts(rows, |row| &row.voice.nearest));
        let sounds: [fn(&Sound) -> Option<f64>; 6] = [
            |sound| Some(sound.mcd),
            |sound| sound.squared_cents,
            |sound| sound.gross_pitch_error,
            |sound| Some(sound.voicing_error),
            |sound| Some(sound.duration_error),
            |sound| sound.variance_ratio,
        ];
        columns.extend(sounds.map(|of| optional_doubles(rows, |row| row.sound.as_ref().and_then(of))));
        columns
    }
    fn decode(columns: &[&ArrayRef], rows: usize) -> Vec<Self> {
        let own = Transcription::columns().len();
        let texts = Transcription::decode(&columns[..own], rows);
        let row = |(row, transcription): (usize, Transcription)| {
            let value = |at: usize| optional_double(columns[own + 2 + at], row);
            let sound = |(mcd, (voicing_error, duration_error))| Sound {
                mcd,
                squared_cents: value(1),
                gross_pitch_error: value(2),
                voicing_error,
                duration_error,
                variance_ratio: value(5),
            };
            Self {
                text: transcription,
                voice: Voice { similarity: double(columns[own], row), nearest: text(columns[own + 1], row) },
                sound: value(0).zip(value(3).zip(value(4))).map(sound),
            }
        };
        texts.into_iter().enumerate().map(row).collect()
    }
}
