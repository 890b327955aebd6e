//! Body of the stage `tts.synthesise`.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use audio::features::mel::MelSpectrogram;
use audio::schema::Row;
use audio::speech::{SpeechWriter, Spoken};
use audio::wav::write_pcm16;
use datasets::shard::RowInfo;
use datasets::{Annotation, Split};
use neural_spec::Synthesise;
use pipeline::{Job, StageError};
use serde_json::{Value, json};

use super::data::{speaker_of, text_of, without_reading};
use super::error::TtsError;
use super::speak::{Line, Notes, frames, quantised, speak};
use super::vocoder::{self, Vocoder};
use super::voice::{Voice, VoiceConfig};
use crate::device;
use crate::error::ModelError;

/// Speaks texts: leaves shards of audio and `speech.parquet`.
///
/// Errors: a text or a speaker that the voice cannot speak; a vocoder of other spectrograms; what libtorch reports.
pub fn run(params: &Synthesise, job: &Job) -> Result<(), StageError> {
    device::use_threads(job.threads);
    let device = device::of_job(job);
    let voice = Voice::open(job.inputs.one("voice"), device)?;
    let folder = job.inputs.optional("vocoder");
    let mel = &voice.config.mel;
    let open = || vocoder::open(folder, params.griffin_lim as usize, mel, device).map_err(StageError::from);
    let vocoder = open()?;
    let front = voice.config.front_end()?;
    let lines = lines(params, &voice.config, job)?;
    let mut notes = Notes::default();
    let begun = Instant::now();
    let spoken = speak(&voice, &front, &lines, &params.controls, params.batch_size as usize, &mut notes, &mut |done, total| {
        job.progress.tick(done as u64, total as u64, "texts", "spectrograms");
        !job.stop.requested()
    })?;
    job.progress.note(&format!("spectrograms of {} texts in {:.2} s", spoken.len(), begun.elapsed().as_secs_f64()));
    report(&notes, job);

    let summary = json!({"controls": params.controls});
    let silence = if front.rules().silent_ends { 0.0 } else { params.silence };
    vocode(spoken, vocoder, &Vocoding { open: &open, light: folder.is_none(), mel, silence }, &summary, job)
}

/// How spectrograms become clips.
pub(super) struct Vocoding<'a> {
    /// Opens a vocoder.
    pub(super) open: &'a (dyn Fn() -> Result<Box<dyn Vocoder>, StageError> + Sync),
    /// True if each vocoder is for one thread.
    pub(super) light: bool,
    /// The spectrograms.
    pub(super) mel: &'a MelSpectrogram,
    /// Seconds of silence before and after a clip.
    pub(super) silence: f64,
}

/// Vocodes clips and writes them, beginning with `vocoder`.
pub(super) fn vocode(
    spoken: Vec<Spoken>,
    vocoder: Box<dyn Vocoder>,
    vocoding: &Vocoding<'_>,
    summary: &Value,
    job: &Job,
) -> Result<(), StageError> {
    let Vocoding { open, light, mel, silence } = *vocoding;
    let silence = vec![0; (silence * f64::from(mel.sample_rate)).round() as usize];
    let (name, bands, count) = (vocoder.name(), mel.num_mel_bins, spoken.len());
    let begun = Instant::now();
    let (idle, done) = (Mutex::new(vec![vocoder]), AtomicUsize::new(0));
    let idle = || idle.lock().unwrap_or_else(PoisonError::into_inner);
    let work = |at: usize| -> Result<Vec<i16>, StageError> {
        let taken = idle().pop();
        let mut vocoder = taken.map_or_else(open, Ok)?;
        let samples = vocoder.speak(&frames(&spoken[at].mel, bands)).map_err(ModelError::from)?;
        idle().push(vocoder);
        job.progress.tick(done.fetch_add(1, Ordering::Relaxed) as u64 + 1, count as u64, "clips", name);
        Ok([&silence, &quantised(&samples)[..], &silence].concat())
    };
    let one_by_one = |at| if job.stop.requested() { Err(StageError::Stopped) } else { work(at) };
    // Where libtorch computes, it has the threads.
    let clips = if light { job.spread(count, work)? } else { (0..count).map(one_by_one).collect::<Result<Vec<_>, _>>()? };

    let took = begun.elapsed().as_secs_f64();
    let mut writer = SpeechWriter::create(&job.out, mel)?;
    let mut secs = 0.0;
    for (spoken, samples) in spoken.into_iter().zip(clips) {
        secs += samples.len() as f64 / f64::from(mel.sample_rate);
        writer.push(row(&spoken, &samples), spoken)?;
    }
    job.progress.note(&format!("{secs:.0} s of speech through `{name}` in {took:.1} s"));
    let mut whole = json!({"clips": count, "secs": secs, "vocoder": name, "mel": mel});
    if let (Some(whole), Some(more)) = (whole.as_object_mut(), summary.as_object()) {
        whole.extend(more.clone());
    }
    writer.finish(&whole)
}

/// The texts, in order of id.
fn lines(params: &Synthesise, config: &VoiceConfig, job: &Job) -> Result<Vec<Line>, StageError> {
    let mut lines = Vec::new();
    let mut left_out = BTreeSet::new();
    for input in job.inputs.many("texts") {
        let (rows, _) = RowInfo::read(&input.path, |column| column != "features" && !column.starts_with("features_"))
            .map_err(StageError::failed)?;
        for RowInfo { id, annotation, .. } in rows {
            let Some(text) = text_of(&annotation) else {
                return Err(TtsError::Text { id, problem: "it has no text".to_owned() }.into());
            };
            let own = speaker_of(&annotation);
            if params.speakers.is_empty() {
                if params.known_speakers_only && !config.speakers.iter().any(|known| known == own) {
                    left_out.insert(own.to_owned());
                    continue;
                }
                lines.push(Line { id, text: text.to_owned(), speaker: own.to_owned() });
            } else {
                let line = |speaker: &String| {
                    let id = if speaker == own { id.clone() } else { format!("{speaker}-{id}") };
                    Line { id, text: text.to_owned(), speaker: speaker.clone() }
                };
                lines.extend(params.speakers.iter().map(line));
            }
        }
    }
    let speakers = if params.speakers.is_empty() { &config.speakers } else { &params.speakers };
    for (text, number) in params.sentences.iter().zip(1..) {
        let line = |speaker: &String| Line {
            id: format!("{speaker}-sentence-{number:04}"),
            text: text.clone(),
            speaker: speaker.clone(),
        };
        lines.extend(speakers.iter().map(line));
    }
    if !left_out.is_empty() {
        let names = left_out.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        job.progress.note(&format!("texts of speakers that the voice does not know are left out: {names}"));
    }
    lines.sort_by(|a, b| a.id.cmp(&b.id));
    if lines.is_empty() {
        return Err(TtsError::NoTexts.into());
    }
    Ok(lines)
}

/// Reports what was not read as it was written.
pub(super) fn report(notes: &Notes, job: &Job) {
    let guessed: BTreeSet<String> =
        notes.guessed.iter().map(|(word, phones)| format!("`{word}` as {}", phones.join(" "))).collect();
    if !guessed.is_empty() {
        let count = guessed.len();
        let shown = guessed.into_iter().take(10).collect::<Vec<_>>().join(", ");
        job.progress.note(&format!("{count} words are not in the dictionary, and read {shown}"));
    }
    if let Some(unread) = without_reading(&notes.unread) {
        job.progress.note(&unread);
    }
}

/// Row of a shard of audio.
fn row(spoken: &Spoken, samples: &[i16]) -> Row {
    let annotation =
        Annotation { speaker: Some(spoken.speaker.clone()), transcript: Some(spoken.text.clone()), ..Annotation::default() };
    let (id, sample_rate) = (spoken.id.clone(), spoken.sample_rate);
    Row {
        bytes: write_pcm16(sample_rate, samples),
        path: format!("{id}.wav"),
        split: Split::Test,
        source_path: format!("{id}.wav"),
        info: RowInfo { id, num_samples: samples.len(), sample_rate, class: None, annotation },
        source_sample_rate: sample_rate,
        source_channels: 1,
    }
}
