//! Speaks texts with a voice: from text to samples.

use audio::speech::Spoken;
use neural_spec::VoiceControls;
use tasks::text::{FrontEnd, Pronounced};
use tch::Tensor;

use super::error::TtsError;
use super::voice::{PitchScale, Voice, VoiceConfig};
use crate::error::ModelError;
use crate::models::acoustic::{Controls, Speech, Text};

/// A text to be spoken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Id of the clip.
    pub id: String,
    /// The text.
    pub text: String,
    /// The speaker.
    pub speaker: String,
}

/// Parts of texts that were not read as they were written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// Words that the dictionary lacks, with the phonemes they got.
    pub guessed: Vec<(String, Vec<String>)>,
    /// Characters that have no reading.
    pub unread: Vec<char>,
}

/// A part of a text that is spoken at once.
struct Piece {
    line: usize,
    symbols: Vec<String>,
    numbers: Vec<i64>,
    speaker: i64,
}

/// Symbols of the longest piece: those of the longest text that the voice was trained on, and no fewer than make a short clause.
fn most_symbols(config: &VoiceConfig) -> usize {
    const LEAST: usize = 20;
    config.longest.max(LEAST)
}

/// Converts controls to the units of a model.
fn controls(of: &VoiceControls, config: &VoiceConfig) -> Controls {
    /// Natural logarithm of a semitone and of a decibel.
    const SEMITONE: f64 = std::f64::consts::LN_2 / 12.0;
    const DECIBEL: f64 = std::f64::consts::LN_10 / 20.0;
    let statistics = &config.statistics;
    let energy = match config.energy {
        audio::features::mel::Energy::Log => of.energy * DECIBEL,
        // A factor of the energy is a shift of its mean.
        audio::features::mel::Energy::Linear => statistics.energy.mean * (of.energy * DECIBEL).exp_m1(),
    };
    let factor = (of.pitch * SEMITONE).exp();
    let (pitch_factor, pitch) = match config.pitch {
        PitchScale::Log => (1.0, of.pitch * SEMITONE),
        PitchScale::Hertz => (factor, statistics.pitch.mean * (factor - 1.0)),
    };
    Controls { pace: of.pace, pitch_factor, pitch: pitch / statistics.pitch.std, energy: energy / statistics.energy.std }
}

/// Speaks lines: spectrograms and what is behind them, in the order of the lines. Long texts are spoken in pieces, between which is
/// silence or a pause. `done` hears how many pieces of how many are spoken, and may end it early by `false`.
///
/// Errors: a text without words, or with a word or symbol that the voice cannot say; an unknown speaker; libtorch's.
pub fn speak(
    voice: &Voice,
    front: &FrontEnd,
    lines: &[Line],
    of: &VoiceControls,
    batch_size: usize,
    notes: &mut Notes,
    done: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<Vec<Spoken>, SpeakError> {
    let config = &voice.config;
    let mut pieces = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let speaker = config.speaker(&line.speaker)?;
        let wrong = |problem: String| TtsError::Text { id: line.id.clone(), problem };
        let spoken = front.pronounce_long(&line.text, most_symbols(config)).map_err(|error| wrong(error.to_string()))?;
        for Pronounced { symbols, guessed, unread } in spoken {
            notes.guessed.extend(guessed);
            notes.unread.extend(unread);
            let numbers = config.numbers(&symbols).map_err(|symbol| wrong(format!("the voice has no symbol `{symbol}`")))?;
            pieces.push(Piece { line: at, symbols, numbers, speaker });
        }
    }
    let controls = controls(of, config);
    // Pieces of similar length together, so that little is padding.
    let mut order: Vec<usize> = (0..pieces.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(pieces[at].numbers.len()));
    let mut spoken: Vec<Option<Speech>> = pieces.iter().map(|_| None).collect();
    let mut count = 0;
    for rows in order.chunks(batch_size.max(1)) {
        if !done(count, pieces.len()) {
            return Err(SpeakError::Stopped);
        }
        let text = text(rows.iter().map(|&at| &pieces[at])).and_then(|text| text.to(voice.device())).map_err(ModelError::from)?;
        let found = voice.model.speak(&text, &controls).map_err(ModelError::from)?;
        for (&at, speech) in rows.iter().zip(found) {
            spoken[at] = Some(speech);
        }
        count += rows.len();
    }
    let mut whole: Vec<Spoken> = lines.iter().map(|line| empty(line, config)).collect();
    for (piece, speech) in pieces.into_iter().zip(spoken.into_iter().flatten()) {
        let to = &mut whole[piece.line];
        to.symbols.extend(piece.symbols);
        to.durations.extend(speech.durations.iter().map(|&frames| frames as i32));
        let statistics = &config.statistics;
        let pitch = |&value: &f32| {
            let moved = f64::from(value) * controls.pitch_factor + controls.pitch;
            config.pitch.to_hertz(statistics.pitch.restore(moved)) as f32
        };
        let energy = |&value: &f32| statistics.energy.restore(f64::from(value) + controls.energy) as f32;
        to.pitch.extend(speech.pitch.iter().map(pitch));
        to.energy.extend(speech.energy.iter().map(energy));
        let mel = speech.mel.f_contiguous().and_then(|mel| Vec::<f32>::try_from(mel.f_view([-1])?));
        to.mel.extend(mel.map_err(ModelError::from)?);
    }
    Ok(whole)
}

fn empty(line: &Line, config: &VoiceConfig) -> Spoken {
    Spoken {
        id: line.id.clone(),
        text: line.text.clone(),
        speaker: line.speaker.clone(),
        sample_rate: config.mel.sample_rate,
        symbols: Vec::new(),
        durations: Vec::new(),
        pitch: Vec::new(),
        energy: Vec::new(),
        mel: Vec::new(),
    }
}

/// Puts pieces together.
fn text<'a>(pieces: impl Iterator<Item = &'a Piece> + Clone) -> Result<Text, tch::TchError> {
    let longest = pieces.clone().map(|piece| piece.numbers.len()).max().unwrap_or(0);
    let padded = pieces.clone().flat_map(|piece| piece.numbers.iter().copied().chain(std::iter::repeat(0)).take(longest));
    let symbols: Vec<i64> = padded.collect();
    let counts: Vec<i64> = pieces.clone().map(|piece| piece.numbers.len() as i64).collect();
    let speakers: Vec<i64> = pieces.map(|piece| piece.speaker).collect();
    Ok(Text {
        symbols: Tensor::f_from_slice(&symbols)?.f_view([counts.len() as i64, longest as i64])?,
        counts,
        speakers: Tensor::f_from_slice(&speakers)?,
    })
}

/// Frames of a spectrogram, as vocoders take them.
pub fn frames(mel: &[f32], bands: usize) -> Vec<Vec<f64>> {
    mel.chunks_exact(bands).map(|frame| frame.iter().map(|&value| f64::from(value)).collect()).collect()
}

/// Samples as 16-bit numbers.
pub fn quantised(samples: &[f32]) -> Vec<i16> {
    samples.iter().map(|sample| (sample * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16).collect()
}

/// Speech that was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpeakError {
    /// A text or a speaker that the voice cannot speak.
    #[error(transparent)]
    Text(#[from] TtsError),
    /// libtorch refused.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// It was to end early.
    #[error("stopped")]
    Stopped,
}

impl From<SpeakError> for pipeline::StageError {
    fn from(error: SpeakError) -> Self {
        match error {
            SpeakError::Text(error) => error.into(),
            SpeakError::Model(error) => error.into(),
            SpeakError::Stopped => Self::Stopped,
        }
    }
}
