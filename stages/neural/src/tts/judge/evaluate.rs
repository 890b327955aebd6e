//! Judgement of synthesised speech: the stage `tts.evaluate`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use audio::features::mel::MelSpectrogram;
use audio::features::streams::StreamReader;
use neural_spec::{JudgeKind, TtsEvaluate};
use pipeline::{Job, StageError};
use scoring::Transcription;
use scoring::distance::{NUM_COEFFICIENTS, PitchError, cepstra, distortion, duration_error, variance_ratio};
use scoring::predictions::{FILE_NAME, Sound, Synthesised, Voice};
use serde_json::Value;
use tch::Kind;

use super::JudgeError;
use super::clips::{batch, spectrogram, text_of, to_natural};
use super::folder::Judge;
use super::learn::{AT_ONCE, heard, spelled};
use super::network::{Network, Words};
use crate::data::by_length;
use crate::device;
use crate::error::ModelError;
use crate::evaluate::device_name;
use crate::nn::pass::{Mode, Pass};

/// The body of the stage `tts.evaluate`: writes `predictions.parquet`.
///
/// Errors: features or judges that cannot be read or do not belong together ([`JudgeError`]); what libtorch reports.
pub fn run(params: &TtsEvaluate, job: &Job) -> Result<(), StageError> {
    device::use_threads(job.threads);
    let device = device::of_job(job);
    job.progress.fact("device", device_name(device).into());
    let words = Judge::open(job.inputs.one("words"), JudgeKind::Words, device)?;
    let voice = Judge::open(job.inputs.one("voice"), JudgeKind::Voice, device)?;
    let reference = Shard::open(job.inputs.one("reference"))?;
    let speech = Shard::open(job.inputs.one("speech"))?;
    for (folder, mel) in [("words", &words.file.mel), ("voice", &voice.file.mel)] {
        same(&speech, job.inputs.one(folder), mel)?;
    }
    same(&reference, &speech.path, &speech.mel)?;

    let rows = chosen(params, &reference, &speech)?;
    let bands = speech.mel.num_mel_bins;
    let (Network::Words(recogniser), Network::Voice(speakers)) = (&words.network, &voice.network) else { unreachable!() };
    let vectors = |shard: &Shard, rows: &[usize]| -> Result<Vec<Vec<f64>>, StageError> {
        let lengths: Vec<usize> = rows.iter().map(|&row| shard.reader.rows()[row].num_samples).collect();
        let mut vectors = vec![Vec::new(); rows.len()];
        for part in by_length(&lengths, AT_ONCE) {
            if job.stop.requested() {
                return Err(StageError::Stopped);
            }
            let mels = part.iter().map(|&at| shard.mel_of(rows[at])).collect::<Result<Vec<_>, _>>()?;
            let found = tch::no_grad(|| {
                let (mel, counts) = batch(&mels, bands, device)?;
                Ok::<_, ModelError>(Vec::<Vec<f64>>::try_from(speakers.forward(&mel, &counts)?.f_to_kind(Kind::Double)?)?)
            })?;
            for (&at, vector) in part.iter().zip(found) {
                vectors[at] = vector;
            }
        }
        Ok(vectors)
    };

    // The mean voice of every speaker of the recordings.
    let all: Vec<usize> = (0..reference.reader.rows().len()).collect();
    let mut voices: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (row, vector) in all.iter().zip(vectors(&reference, &all)?) {
        let sum = voices.entry(reference.speaker(*row)?).or_insert_with(|| vec![0.0; vector.len()]);
        sum.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value);
    }
    let speech_vectors = vectors(&speech, &rows)?;

    let mut texts = vec![(String::new(), 0.0_f32); rows.len()];
    let lengths: Vec<usize> = rows.iter().map(|&row| speech.reader.rows()[row].num_samples).collect();
    for part in by_length(&lengths, AT_ONCE) {
        let mels = part.iter().map(|&at| speech.mel_of(rows[at])).collect::<Result<Vec<_>, _>>()?;
        let said = part.iter().map(|&at| Ok(spelled(&words.file.outputs, &speech.text(rows[at])?)));
        let said = said.collect::<Result<Vec<_>, StageError>>()?;
        let (found, losses) = tch::no_grad(|| {
            let (mel, counts) = batch(&mels, bands, device)?;
            let (logits, counts) = recogniser.forward(&mel, &counts, &Pass::begin(Mode::Eval))?;
            let losses = Vec::<f32>::try_from(Words::losses(&logits, &counts, &said)?)?;
            Ok::<_, ModelError>((heard(&words.file.outputs, &logits, &counts)?, losses))
        })?;
        for (at, answer) in part.into_iter().zip(found.into_iter().zip(losses)) {
            texts[at] = answer;
        }
    }

    let mut judged = Vec::new();
    for (done, ((&row, vector), (hypothesis, loss))) in rows.iter().zip(&speech_vectors).zip(texts).enumerate() {
        if job.stop.requested() {
            return Err(StageError::Stopped);
        }
        let (info, speaker) = (&speech.reader.rows()[row], speech.speaker(row)?);
        let own = voices.get(speaker).ok_or_else(|| {
            let known = voices.keys().copied().collect::<Vec<_>>().join(", ");
            StageError::failed(JudgeError::NoVoice { speaker: speaker.to_owned(), known })
        })?;
        let nearest = voices.iter().max_by(|a, b| cosine(vector, a.1).total_cmp(&cosine(vector, b.1)));
        judged.push(Synthesised {
            text: Transcription {
                id: info.id.clone(),
                speaker: Some(speaker.to_owned()),
                reference: speech.text(row)?,
                hypothesis,
                num_samples: info.num_samples as i64,
                loss,
            },
            voice: Voice {
                similarity: cosine(vector, own),
                nearest: nearest.map(|(name, _)| (*name).to_owned()).unwrap_or_default(),
            },
            sound: if params.distances { Some(sound(&reference, &speech, row)?) } else { None },
        });
        job.progress.tick(done as u64 + 1, rows.len() as u64, "utterances", &info.id);
    }
    scoring::predictions::write(&job.out.join(FILE_NAME), &judged).map_err(StageError::failed)
}

/// Rows of the speech that are judged, after checking that each has a recording and each recording its speech.
fn chosen(params: &TtsEvaluate, reference: &Shard, speech: &Shard) -> Result<Vec<usize>, StageError> {
    let wanted = |speaker: &str| params.speakers.is_empty() || params.speakers.iter().any(|name| name == speaker);
    let mut rows = Vec::new();
    for row in 0..speech.reader.rows().len() {
        if wanted(speech.speaker(row)?) {
            rows.push(row);
        }
    }
    if rows.is_empty() {
        return Err(StageError::failed(JudgeError::Empty { path: speech.path.clone() }).with_hint("look at `speakers`"));
    }
    if !params.distances {
        return Ok(rows);
    }
    let mut speakers: Vec<&str> = rows.iter().map(|&row| speech.speaker(row)).collect::<Result<_, _>>()?;
    speakers.sort_unstable();
    speakers.dedup();
    for &row in &rows {
        let id = &speech.reader.rows()[row].id;
        let Some(recording) = reference.row_of(id) else {
            let error = StageError::failed(JudgeError::NoRecording { id: id.clone() });
            return Err(error.with_hint("give the recordings whose texts were spoken, or set `distances = false`"));
        };
        let (said, recorded) = (speech.text(row)?, reference.text(recording)?);
        if said != recorded {
            return Err(StageError::failed(JudgeError::OtherText { id: id.clone(), speech: said, recording: recorded }));
        }
    }
    let mut missing = Vec::new();
    for (row, info) in reference.reader.rows().iter().enumerate() {
        if speakers.binary_search(&reference.speaker(row)?).is_ok() && speech.row_of(&info.id).is_none() {
            missing.push(&info.id);
        }
    }
    match missing.first() {
        Some(first) => Err(StageError::failed(JudgeError::NoSpeech { count: missing.len(), id: (*first).clone() })
            .with_hint("every recording of these speakers must have its speech, so that nothing that failed is left out")),
        None => Ok(rows),
    }
}

/// Distance of an utterance from its recording.
fn sound(reference: &Shard, speech: &Shard, row: usize) -> Result<Sound, StageError> {
    let info = &speech.reader.rows()[row];
    let recording =
        reference.row_of(&info.id).ok_or_else(|| StageError::failed(JudgeError::NoRecording { id: info.id.clone() }))?;
    let ([real_mel, real_f0], [mel, f0]) = (reference.streams(recording)?, speech.streams(row)?);
    let frames = |mel: &[f32]| -> Vec<Vec<f64>> {
        mel.chunks_exact(speech.mel.num_mel_bins).map(|frame| frame.iter().map(|&log| f64::from(log)).collect()).collect()
    };
    let real = cepstra(&frames(&real_mel), NUM_COEFFICIENTS + 1);
    let found = cepstra(&frames(&mel), NUM_COEFFICIENTS + 1);
    let empty = || StageError::failed(JudgeError::Missing { id: info.id.clone(), path: speech.path.clone(), missing: "frame" });
    let (path, mcd) = distortion(&real, &found).ok_or_else(empty)?;
    let pitch = PitchError::along(&path, &real_f0, &f0);
    let length = reference.reader.rows()[recording].num_samples;
    Ok(Sound {
        mcd,
        squared_cents: pitch.rmse_cents().map(|cents| cents * cents),
        gross_pitch_error: pitch.gross_error(),
        voicing_error: pitch.voicing_error().ok_or_else(empty)?,
        duration_error: duration_error(length, info.num_samples).ok_or_else(empty)?,
        variance_ratio: variance_ratio(&real, &found),
    })
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(1e-12)
}

/// Checks that a shard has these spectrograms.
fn same(shard: &Shard, other: &Path, mel: &MelSpectrogram) -> Result<(), StageError> {
    if shard.mel == *mel {
        return Ok(());
    }
    let fields = [&shard.mel, mel].map(|mel| serde_json::to_value(mel).unwrap_or_default());
    let differs = |(name, value): (&String, &Value)| {
        let other = &fields[1][name];
        (other != value).then(|| format!("{name} is {value} and {other}"))
    };
    let difference = fields[0].as_object().into_iter().flatten().filter_map(differs).collect::<Vec<_>>().join("; ");
    let error = JudgeError::OtherSpectrogram { first: shard.path.clone(), second: other.to_owned(), difference };
    Err(StageError::failed(error).with_hint("give all features.log_mel nodes the same parameters"))
}

/// Feature shard with pitch.
struct Shard {
    path: PathBuf,
    reader: StreamReader,
    mel: MelSpectrogram,
}

impl Shard {
    /// Opens a shard, or `test.parquet` of a folder.
    fn open(path: &Path) -> Result<Self, StageError> {
        let path = if path.is_dir() { path.join("test.parquet") } else { path.to_owned() };
        let reader = StreamReader::open(&path).map_err(StageError::failed)?;
        if reader.rows().is_empty() {
            return Err(StageError::failed(JudgeError::Empty { path }));
        }
        Ok(Self { mel: spectrogram(&path, Some(reader.info()))?, reader, path })
    }

    /// Row of an id; rows are in order of id.
    fn row_of(&self, id: &str) -> Option<usize> {
        self.reader.rows().binary_search_by(|row| row.id.as_str().cmp(id)).ok()
    }

    fn missing(&self, row: usize, missing: &'static str) -> StageError {
        StageError::failed(JudgeError::Missing { id: self.reader.rows()[row].id.clone(), path: self.path.clone(), missing })
    }

    fn speaker(&self, row: usize) -> Result<&str, StageError> {
        self.reader.rows()[row].annotation.speaker.as_deref().ok_or_else(|| self.missing(row, "speaker"))
    }

    fn text(&self, row: usize) -> Result<String, StageError> {
        text_of(&self.reader.rows()[row]).ok_or_else(|| self.missing(row, "text"))
    }

    /// Spectrogram of a row, natural logarithm.
    fn mel_of(&self, row: usize) -> Result<Vec<f32>, StageError> {
        let mut streams = self.reader.load(row, &[]).map_err(StageError::failed)?;
        let mut mel = streams.swap_remove(0);
        if mel.len() < self.mel.num_mel_bins {
            return Err(self.missing(row, "frame"));
        }
        to_natural(&self.mel, &mut mel);
        Ok(mel)
    }

    /// Spectrogram of a row, natural logarithm, and its pitch track.
    fn streams(&self, row: usize) -> Result<[Vec<f32>; 2], StageError> {
        let mut streams = self
            .reader
            .load(row, &["f0"])
            .map_err(|error| StageError::failed(error).with_hint("give a features.pitch node, which adds `f0`"))?;
        let f0 = streams.swap_remove(1);
        let mut mel = streams.swap_remove(0);
        to_natural(&self.mel, &mut mel);
        Ok([mel, f0])
    }
}
