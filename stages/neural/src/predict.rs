//! Answers to recordings without references, by a model from wherever it is: the body of `peft.predict`, which `sure predict` asks for.
//!
//! Recordings stream: a window of clips is decoded while the one before is answered, and rows are written window by window.

mod load;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;

use audio::stream::{Clip, Settings, Windows};
use neural_spec::Predict;
use neural_spec::predict::FFMPEG;
use pipeline::{Job, StageError};
use scoring::answers::{AnswerWriter, Cell, CellType};
use scoring::slots;
use serde_json::{Value, json};
use tasks::align::align;
use tasks::{Outputs, Vocabulary};
use tch::{Device, Kind};

use self::load::Loaded;
use crate::data::{BatchLimit, batch, by_length, prepared};
use crate::device;
use crate::error::ModelError;
use crate::evaluate::{Decoder, decoder, device_name, found};
use crate::models::heads::HeadOutput;
use crate::nn::pass::Mode;

/// A model or a recording that gives no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PredictError {
    /// No recording gave an answer.
    #[error("none of {count} recordings can be answered; {first}")]
    Nothing {
        /// How many there are.
        count: usize,
        /// The first, with the reason.
        first: String,
    },
    /// Only vectors can be compared.
    #[error("--similar-to needs a model of voices (an x-vector head), and this one has {head}")]
    NoVectors {
        /// The head.
        head: &'static str,
    },
}

/// Refused recordings that are named; of the others only the number is told.
const NAMED: usize = 10;
/// Batches of audio in a window, so that a batch has clips of similar lengths.
const BATCHES_PER_WINDOW: usize = 8;

/// The body of the stage `peft.predict`: writes a file of answers, a row for each recording that can be read.
///
/// Errors: a model that cannot be read or does not fit its encoder; no recording that can be read; what libtorch reports.
pub fn run(params: &Predict, job: &Job) -> Result<(), StageError> {
    device::use_threads(job.threads);
    let loaded = load::model(job)?;
    job.progress.fact("device", device_name(loaded.model.device()).into());
    let language_model = job.places.0.get("language_model").map(std::path::PathBuf::as_path);
    let decoding = params.decoding.clone().unwrap_or_else(|| loaded.decoding());
    let decoder = decoder(&decoding, language_model)?;
    let limit = BatchLimit::new(params.batch_secs, None, loaded.model.preprocessor().sampling_rate);
    let mut answerer = Answerer { loaded: &loaded, decoder, limit, voice: None };
    if let Some(list) = job.places.0.get("similar_to") {
        answerer.voice = Some(answerer.voice(list, params, job)?);
    }

    let list = job.places.get("list")?;
    let total = BufReader::new(std::fs::File::open(list).map_err(StageError::io("read", list))?).lines().count();
    let path = job.out.join(params.file_name());
    let mut file = AnswerWriter::create(&path, params.format, answerer.columns()).map_err(StageError::failed)?;
    let (mut done, mut refused) = (0, Vec::new());
    for window in answerer.windows(list, params, job)? {
        if job.stop.requested() {
            return Err(StageError::Stopped);
        }
        let window = window?;
        done += window.len();
        let clips = readable(window, &mut refused);
        file.push(&answerer.rows(&clips)?).map_err(StageError::failed)?;
        job.progress.tick(done as u64, total as u64, "recordings", "");
    }
    report(job, &refused);
    if refused.len() == total {
        let first = refused.into_iter().next().unwrap_or_else(|| "there are none".to_owned());
        return Err(StageError::failed(PredictError::Nothing { count: total, first }));
    }
    file.finish().map_err(StageError::failed)
}

/// Tells which recordings are left out, and why.
fn report(job: &Job, refused: &[String]) {
    for line in refused.iter().take(NAMED) {
        job.progress.note(&format!("left out: {line}"));
    }
    if let Some(more) = refused.len().checked_sub(NAMED).filter(|more| *more > 0) {
        job.progress.note(&format!("left out: {more} more"));
    }
    job.progress.fact("left_out", refused.len().into());
}

/// A recording and its samples.
type Readable = (String, Vec<f32>);

/// The clips that have samples. The reasons of the others go to `refused`.
fn readable(window: Vec<Clip>, refused: &mut Vec<String>) -> Vec<Readable> {
    let mut clips = Vec::with_capacity(window.len());
    for Clip { wanted, samples } in window {
        match samples {
            Ok(samples) => clips.push((wanted.id, samples)),
            Err(reason) => refused.push(format!("{}: {reason}", wanted.id)),
        }
    }
    clips
}

/// A model that answers.
struct Answerer<'a> {
    loaded: &'a Loaded,
    decoder: Decoder,
    limit: BatchLimit,
    /// The voice that others are compared with, of length 1.
    voice: Option<Vec<f64>>,
}

impl Answerer<'_> {
    fn windows(&self, list: &Path, params: &Predict, job: &Job) -> Result<Windows, StageError> {
        let settings = Settings {
            sample_rate: self.loaded.model.preprocessor().sampling_rate,
            max_secs: params.max_secs,
            window: self.limit.samples.saturating_mul(BATCHES_PER_WINDOW),
            threads: job.threads,
            ffmpeg: job.tool(FFMPEG).map(Path::to_owned),
        };
        Windows::start(list, settings)
    }

    /// The mean direction of the voices in a list.
    ///
    /// Errors: [`PredictError::NoVectors`]; a recording that cannot be read.
    fn voice(&self, list: &Path, params: &Predict, job: &Job) -> Result<Vec<f64>, StageError> {
        let mut sum = Vec::new();
        for window in self.windows(list, params, job)? {
            let mut refused = Vec::new();
            let clips = readable(window?, &mut refused);
            if let Some(first) = refused.into_iter().next() {
                return Err(StageError::failed(PredictError::Nothing { count: 1, first }));
            }
            for answer in self.answers(&clips)? {
                let Some(vector) = answer.vector else {
                    let head = self.loaded.model.head().name();
                    return Err(StageError::failed(PredictError::NoVectors { head }));
                };
                sum.resize(vector.len(), 0.0);
                sum.iter_mut().zip(&vector).for_each(|(sum, x)| *sum += x);
            }
        }
        Ok(unit(sum))
    }

    fn columns(&self) -> Vec<(String, CellType)> {
        let mut columns = vec![("id".to_owned(), CellType::Text), ("secs".to_owned(), CellType::Double)];
        match &self.loaded.task.outputs {
            Outputs::Classes { labels } => {
                columns.extend([("prediction".to_owned(), CellType::Text), ("probability".to_owned(), CellType::Single)]);
                columns.extend(labels.iter().map(|label| (format!("p_{label}"), CellType::Single)));
            }
            Outputs::Tags { labels } => {
                columns.push(("labels".to_owned(), CellType::Nested));
                columns.extend(labels.iter().map(|label| (format!("p_{label}"), CellType::Single)));
            }
            Outputs::Groups { groups } => {
                for group in groups {
                    columns.extend([(group.name.clone(), CellType::Text), (format!("p_{}", group.name), CellType::Single)]);
                }
            }
            Outputs::Tokens(vocabulary) => {
                columns.push(("text".to_owned(), CellType::Text));
                columns.extend(nested(vocabulary).map(|name| (name.to_owned(), CellType::Nested)));
            }
        }
        columns.extend(self.voice.iter().map(|_| ("similarity".to_owned(), CellType::Double)));
        columns
    }

    /// A row for each clip, in order.
    fn rows(&self, clips: &[Readable]) -> Result<Vec<Vec<Cell>>, StageError> {
        let rate = f64::from(self.loaded.model.preprocessor().sampling_rate);
        let answers = self.answers(clips)?;
        let row = |((id, samples), answer): (&Readable, One)| {
            let mut row = vec![Cell::Text(id.clone()), Cell::Double(samples.len() as f64 / rate)];
            row.extend(self.cells(&answer));
            let similarity = |(voice, vector): (&Vec<f64>, Vec<f64>)| voice.iter().zip(&vector).map(|(x, y)| x * y).sum();
            row.extend(self.voice.as_ref().zip(answer.vector).map(|both| Cell::Double(similarity(both))));
            row
        };
        Ok(clips.iter().zip(answers).map(row).collect())
    }

    fn cells(&self, answer: &One) -> Vec<Cell> {
        let One { output, probabilities, path, .. } = answer;
        match &self.loaded.task.outputs {
            Outputs::Classes { labels } => {
                let (class, of_classes) = (output[0] as usize, &probabilities[0]);
                let chosen = [Cell::Text(labels[class].clone()), Cell::Single(of_classes[class])];
                chosen.into_iter().chain(of_classes.iter().map(|p| Cell::Single(*p))).collect()
            }
            Outputs::Tags { labels } => {
                let chosen: Vec<&str> = output.iter().map(|&label| labels[label as usize].as_str()).collect();
                [Cell::Nested(json!(chosen))].into_iter().chain(probabilities[0].iter().map(|p| Cell::Single(*p))).collect()
            }
            Outputs::Groups { groups } => {
                let cells = |((group, &class), p): ((&tasks::Group, &i64), &Vec<f32>)| {
                    [Cell::Text(group.labels[class as usize].clone()), Cell::Single(p[class as usize])]
                };
                groups.iter().zip(output).zip(probabilities).flat_map(cells).collect()
            }
            Outputs::Tokens(vocabulary) => {
                let text = vocabulary.decode_to_score(output);
                match nested(vocabulary) {
                    Some(SLOTS) => of_slots(&text),
                    Some(_) => vec![Cell::Text(text), Cell::Nested(self.words(vocabulary, path))],
                    None => vec![Cell::Text(text)],
                }
            }
        }
    }

    /// Words with their times in seconds, from tokens frame by frame.
    fn words(&self, vocabulary: &Vocabulary, path: &[i64]) -> Value {
        let hop = self.loaded.model.config().hop_length() as f64;
        let secs =
            |frame: usize| (frame as f64 * hop / f64::from(self.loaded.model.preprocessor().sampling_rate) * 1e3).round() / 1e3;
        let word =
            |span: tasks::vocabulary::WordSpan| json!({"word": span.word, "start": secs(span.start), "end": secs(span.end)});
        vocabulary.word_spans(path).into_iter().map(word).collect()
    }

    /// Answers to clips, in order.
    fn answers(&self, clips: &[Readable]) -> Result<Vec<One>, StageError> {
        let Loaded { model, task } = self.loaded;
        let form = &task.clips;
        let lengths: Vec<usize> = clips
            .iter()
            .map(|(_, samples)| samples.len().min(form.cut.unwrap_or(usize::MAX)).max(form.pad.unwrap_or(0)))
            .collect();
        let mut answers: BTreeMap<usize, One> = BTreeMap::new();
        for rows in by_length(&lengths, self.limit) {
            let audio: Vec<Vec<f32>> =
                rows.iter().map(|&row| prepared(clips[row].1.clone(), form, model.preprocessor())).collect();
            let num_samples: Vec<usize> = rows.iter().map(|&row| clips[row].1.len()).collect();
            let batch = batch(&audio, &num_samples, model.preprocessor().width(), form, model.device())?;
            let output = model.outputs(&batch, Mode::Eval)?;
            answers.extend(rows.into_iter().zip(self.answer(&output)?));
        }
        Ok(answers.into_values().collect())
    }

    /// Answers to one batch, in its order.
    fn answer(&self, output: &HeadOutput) -> Result<Vec<One>, ModelError> {
        let Loaded { model, task } = self.loaded;
        let outputs = found(model, output, &task.outputs, &self.decoder)?;
        let count = outputs.len();
        let mut probabilities = vec![Vec::new(); count];
        for group in model.head().probabilities(output)? {
            let rows = Vec::<Vec<f32>>::try_from(group.f_to_device(Device::Cpu)?)?;
            probabilities.iter_mut().zip(rows).for_each(|(all, row)| all.push(row));
        }
        let vectors = match &output.embeddings {
            Some(vectors) => {
                let rows = Vec::<Vec<f64>>::try_from(vectors.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?)?;
                rows.into_iter().map(|row| Some(unit(row))).collect()
            }
            None => vec![None; count],
        };
        let paths = match &task.outputs {
            Outputs::Tokens(vocabulary) => self.paths(output, &outputs, vocabulary)?,
            Outputs::Classes { .. } | Outputs::Tags { .. } | Outputs::Groups { .. } => vec![Vec::new(); count],
        };
        let one = |(((output, probabilities), vector), path)| One { output, probabilities, vector, path };
        Ok(outputs.into_iter().zip(probabilities).zip(vectors).zip(paths).map(one).collect())
    }

    /// Tokens of each frame: the best ones, or for a beam the best way of saying what it found.
    fn paths(&self, output: &HeadOutput, outputs: &[Vec<i64>], vocabulary: &Vocabulary) -> Result<Vec<Vec<i64>>, ModelError> {
        let log_probs = output.logits.f_log_softmax(-1, Kind::Float)?.f_to_device(Device::Cpu)?; // (B, T, V)
        let path = |(row, tokens): (usize, &Vec<i64>)| {
            let own = log_probs.f_get(row as i64)?.f_narrow(0, 0, output.frames[row])?; // (T, V)
            if !matches!(self.decoder, Decoder::Beam(..)) {
                return Vec::<i64>::try_from(own.f_argmax(-1, false)?);
            }
            let scores = Vec::<f32>::try_from(own.f_contiguous()?.f_view(-1)?)?;
            let aligned = align(&scores, vocabulary.tokens().len(), tokens, vocabulary.blank());
            Ok(aligned.map(|frames| frames.iter().map(|frame| frame.token).collect()).unwrap_or_default())
        };
        Ok(outputs.iter().enumerate().map(path).collect::<Result<_, tch::TchError>>()?)
    }
}

/// Answer to one recording.
#[derive(Debug)]
struct One {
    /// The class; the class of each group; the labels; or the tokens.
    output: Vec<i64>,
    /// Probabilities of the classes of each group.
    probabilities: Vec<Vec<f32>>,
    /// The voice, of length 1, where the head makes vectors.
    vector: Option<Vec<f64>>,
    /// Tokens frame by frame.
    path: Vec<i64>,
}

/// Column of the words of a text with their times.
const WORDS: &str = "words";
/// Column of the slots of a text.
const SLOTS: &str = "slots";

/// The nested column that a vocabulary gives; none where every token is a word.
fn nested(vocabulary: &Vocabulary) -> Option<&'static str> {
    vocabulary.delimiter()?;
    let is_slot = |token: &String| token.len() > 2 && token.starts_with("B-");
    Some(if vocabulary.tokens().iter().any(is_slot) { SLOTS } else { WORDS })
}

/// Cells of a text with markers: its words, and its slots with their values.
fn of_slots(text: &str) -> Vec<Cell> {
    let slot = |slot: slots::Slot| json!({"slot": slot.name, "value": slots::without_markers(&slot.value)});
    vec![Cell::Text(slots::without_markers(text)), Cell::Nested(slots::slots(text).into_iter().map(slot).collect())]
}

/// A vector of length 1.
fn unit(mut vector: Vec<f64>) -> Vec<f64> {
    let norm = vector.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-12);
    for x in &mut vector {
        *x /= norm;
    }
    vector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vocabularies_tell_what_else_a_text_has() {
        let of = |slots: &[&str]| {
            Vocabulary::of_characters(["AB -"].into_iter(), &slots.iter().map(|slot| (*slot).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!((nested(&of(&[])), nested(&of(&["city"]))), (Some(WORDS), Some(SLOTS)));
        let phones = ["<blank>", "<unk>", "AA"].map(str::to_owned).to_vec();
        assert_eq!(nested(&Vocabulary::of_symbols(phones, 0, 1, None)), None);
    }

    #[test]
    fn slots_are_cut_out_of_a_text() {
        let slots = json!([{"slot": "artist", "value": "the beatles"}, {"slot": "year", "value": "1969"}]);
        let cells = of_slots("play B-artist the beatles E-artist of B-year 1969 E-year B-genre now");
        assert_eq!(cells, [Cell::Text("play the beatles of 1969 now".to_owned()), Cell::Nested(slots)]);
        assert_eq!(of_slots(""), [Cell::Text(String::new()), Cell::Nested(json!([]))]);
    }

    #[test]
    fn vectors_have_length_1() {
        assert_eq!(unit(vec![3.0, 4.0]), [0.6, 0.8]);
        assert_eq!(unit(vec![0.0]), [0.0]);
    }
}
