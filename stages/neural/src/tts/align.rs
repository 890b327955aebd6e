//! Body of the stage `tts.align`.

use audio::speech::{ALIGNMENT, write_alignments};
use neural_spec::AlignSpeech;
use pipeline::{Job, StageError};

use super::data::{Corpus, VoiceData};
use super::error::TtsError;
use super::learner::{AlignmentQuality, align};
use super::voice::Voice;
use crate::data::BatchLimit;
use crate::device;

/// Aligns recordings with their texts: leaves `alignment.parquet`.
///
/// Errors: a voice without an aligner, or that does not know a speaker; shards that cannot be read; what libtorch reports.
pub fn run(params: &AlignSpeech, job: &Job) -> Result<(), StageError> {
    device::use_threads(job.threads);
    let folder = job.inputs.one("voice");
    let voice = Voice::open(folder, device::of_job(job))?;
    if !voice.model.has_aligner() {
        return Err(TtsError::Voice { folder: folder.to_owned(), problem: "it has no aligner".to_owned() }.into());
    }
    let front = voice.config.front_end()?;
    let corpus = Corpus::open("given", job.inputs.many("features"), &front, job)?;
    if corpus.mel != voice.config.mel || corpus.energy != voice.config.energy {
        let difference = super::vocoder::difference(&voice.config.mel, &corpus.mel);
        let text = format!("the spectrograms are not those of the voice: {difference}");
        return Err(TtsError::Setting(text).into());
    }
    let data = VoiceData::new(corpus, &voice.config, None)?;
    let limit = BatchLimit { samples: params.batch_frames as usize, utterances: usize::MAX };
    let rows = align(&voice, &data, limit, job)?;
    let durations: Vec<Vec<i64>> = rows.iter().map(|row| row.durations.iter().map(|&frames| frames.into()).collect()).collect();
    let paths: Vec<f64> = rows.iter().filter_map(|row| row.path_log_probability).collect();
    if let Some(complaint) = AlignmentQuality::of(durations.iter().map(Vec::as_slice), &paths).complaint() {
        job.progress.note(&format!("warning: {complaint}"));
    }
    write_alignments(&job.out.join(ALIGNMENT), &rows)
}
