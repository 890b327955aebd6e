//! Body of the stage `vocoder.copy`.

use audio::features::mel::MelSpectrogram;
use audio::features::streams::StreamReader;
use audio::reader::ShardReader;
use audio::speech::Spoken;
use neural_spec::CopySpeech;
use pipeline::{Job, StageError};
use serde_json::json;

use super::data::{speaker_of, text_of};
use super::error::TtsError;
use super::synthesise::{Vocoding, vocode};
use super::vocoder;
use crate::device;

/// Sends the spectrograms of recordings through a vocoder: leaves shards of audio and `speech.parquet`.
///
/// Errors: shards that cannot be read or have no spectrograms; a vocoder of other spectrograms; what libtorch reports.
pub fn run(params: &CopySpeech, job: &Job) -> Result<(), StageError> {
    device::use_threads(job.threads);
    let device = device::of_job(job);
    let mut kind: Option<MelSpectrogram> = None;
    let mut spoken = Vec::new();
    for input in job.inputs.many("features") {
        let wrong = |problem: &str| TtsError::Features { path: input.path.clone(), problem: problem.to_owned() };
        let rows = StreamReader::open(&input.path).map_err(StageError::failed)?;
        let mel = rows.info().mel.clone().ok_or_else(|| wrong("its features are no spectrogram with an energy"))?;
        if kind.as_ref().is_some_and(|known| *known != mel) {
            return Err(wrong("its spectrograms are of another kind than those of the first shard").into());
        }
        let reader = ShardReader::open(&[&input.path]).map_err(StageError::failed)?;
        for (at, (row, same)) in reader.rows().iter().zip(rows.rows()).enumerate() {
            if row.id != same.id {
                return Err(wrong(&format!("its rows are not in order of id at `{}`", same.id)).into());
            }
            spoken.push(Spoken {
                id: row.id.clone(),
                text: text_of(&same.annotation).unwrap_or_default().to_owned(),
                speaker: speaker_of(&same.annotation).to_owned(),
                sample_rate: mel.sample_rate,
                symbols: Vec::new(),
                durations: Vec::new(),
                pitch: Vec::new(),
                energy: Vec::new(),
                mel: reader.load_features(at).map_err(StageError::failed)?.unwrap_or_default(),
            });
        }
        kind = Some(mel);
    }
    spoken.sort_by(|a, b| a.id.cmp(&b.id));
    let Some(mel) = kind.filter(|_| !spoken.is_empty()) else {
        return Err(TtsError::Nothing { split: "given", reason: "it is empty".to_owned() }.into());
    };
    let folder = job.inputs.optional("vocoder");
    let open = || vocoder::open(folder, params.griffin_lim as usize, &mel, device).map_err(StageError::from);
    let vocoding = Vocoding { open: &open, light: folder.is_none(), mel: &mel, silence: 0.0 };
    vocode(spoken, open()?, &vocoding, &json!({}), job)
}
