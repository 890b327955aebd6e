//! One text, spoken to a WAV file: the command `sure-neural say`, which `sure say` starts.

use std::path::{Path, PathBuf};

use audio::wav::write_pcm16;
use neural_spec::VoiceControls;
use pipeline::StageError;
use serde::{Deserialize, Serialize};
use tch::Device;

use super::error::TtsError;
use super::speak::{Line, Notes, frames, quantised, speak};
use super::vocoder;
use super::voice::{FOLDER, Voice};
use crate::error::ModelError;

/// A text to be spoken, as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SayRequest {
    /// A voice, or the artifact of a training.
    pub voice: PathBuf,
    /// The speaker; not needed for a voice of one.
    pub speaker: Option<String>,
    /// The text.
    pub text: String,
    /// The WAV file to write.
    pub out: PathBuf,
    /// A vocoder; Griffin-Lim without.
    pub vocoder: Option<PathBuf>,
    /// Iterations of Griffin-Lim.
    pub griffin_lim: u32,
    /// Changes to what the voice would say.
    pub controls: VoiceControls,
}

/// A text that was spoken.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// Length of the clip in seconds.
    pub secs: f64,
    /// In Hz.
    pub sample_rate: u32,
    /// The speaker.
    pub speaker: String,
    /// Name of the vocoder.
    pub vocoder: &'static str,
    /// Parts of the text that were not read as they were written.
    pub notes: Notes,
}

/// Speaks a text to a file, which is written whole or not at all.
///
/// Errors: a voice or vocoder that cannot be read or do not fit each other; a text or speaker that the voice cannot speak; a file that
/// cannot be written.
pub fn say(request: &SayRequest) -> Result<Said, StageError> {
    if let Some((name, sentence)) = request.controls.check().into_iter().next() {
        return Err(TtsError::Setting(format!("`{}` {sentence}", name.trim_start_matches("controls."))).into());
    }
    let inner = request.voice.join(FOLDER);
    let folder = if inner.is_dir() { &inner } else { &request.voice };
    let voice = Voice::open(folder, Device::Cpu)?;
    let mel = &voice.config.mel;
    let mut vocoder = vocoder::open(request.vocoder.as_deref(), request.griffin_lim as usize, mel, Device::Cpu)?;
    let speaker = match (&request.speaker, &voice.config.speakers[..]) {
        (Some(name), _) => name.clone(),
        (None, [only]) => only.clone(),
        (None, all) => {
            let names = all.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            return Err(TtsError::Setting(format!("which speaker? the voice has {names}")).into());
        }
    };
    let line = Line { id: "text".to_owned(), text: request.text.clone(), speaker: speaker.clone() };
    let front = voice.config.front_end()?;
    let mut notes = Notes::default();
    let spoken = speak(&voice, &front, &[line], &request.controls, 30, &mut notes, &mut |_, _| true)?.remove(0);
    let samples = quantised(&vocoder.speak(&frames(&spoken.mel, mel.num_mel_bins)).map_err(ModelError::from)?);
    write_whole(&request.out, &write_pcm16(mel.sample_rate, &samples))?;
    let secs = samples.len() as f64 / f64::from(mel.sample_rate);
    Ok(Said { secs, sample_rate: mel.sample_rate, speaker, vocoder: vocoder.name(), notes })
}

/// Writes a file aside, then renames it.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), StageError> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}.part", std::process::id()));
    let aside = PathBuf::from(aside);
    let written = std::fs::write(&aside, bytes).and_then(|()| std::fs::rename(&aside, path));
    written.map_err(|error| {
        let _ = std::fs::remove_file(&aside);
        StageError::io("write", path)(error)
    })
}
