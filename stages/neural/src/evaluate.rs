//! Answers of a trained model: for the dev set during training, and for the test set as a stage of its own.

use std::path::Path;
use std::sync::Arc;

use neural_spec::{Decoding, Evaluate, HeadSpec};
use pipeline::{Job, StageError};
use scoring::{Intents, Prediction, SlotAnswer, Tagged, Transcription, Trial};
use tasks::beam;
use tasks::ngram::NgramModel;
use tasks::{Outputs, TaskFile, Vocabulary};
use tch::{Kind, Tensor};

use crate::data::{BatchLimit, Loader, Prepared, Utterances, by_length};
use crate::device;
use crate::error::ModelError;
use crate::front;
use crate::models::Model;
use crate::models::heads::HeadOutput;
use crate::nn::pass::Mode;
use crate::nn::random::Rng;
use crate::train::summary::Summary;

/// Answer of a model to one utterance.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The class; the class of each group; the labels; or the tokens.
    pub output: Vec<i64>,
    /// Probability of each label, where an utterance has any number of them.
    pub probabilities: Vec<f32>,
    /// The loss of what would have been right, in nats.
    pub loss: f32,
    /// The speaker's vector, where the head makes one.
    pub embedding: Vec<f32>,
}

/// A model and a task that do not belong together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// The head was trained for other outputs.
    #[error("the model was trained for {} outputs, the task has {}; the first that differs is {at}: `{trained}` and `{wanted}`", sizes[0], sizes[1])]
    OtherOutputs {
        /// Outputs of the model and of the task.
        sizes: [usize; 2],
        /// Index of the first that differs.
        at: usize,
        /// Name of the output in the model.
        trained: String,
        /// Name of the output in the task.
        wanted: String,
    },
    /// Trials need a head that makes vectors.
    #[error("`trials` needs a model with an x-vector head, and this one has {head}")]
    NoVectors {
        /// The head.
        head: String,
    },
    /// No two utterances to compare, or no speaker known.
    #[error("no trials: the test set has {pairs} pairs of utterances with known speakers")]
    NoTrials {
        /// Pairs.
        pairs: usize,
    },
}

/// How tokens are found.
pub(crate) enum Decoder {
    Greedy,
    Uncollapsed,
    Beam(Option<NgramModel>, beam::Options),
}

/// The body of the stage `peft.evaluate`: writes `predictions.parquet`.
///
/// Errors: inputs that cannot be read or do not belong together; what libtorch reports.
pub fn run(params: &Evaluate, job: &Job) -> Result<(), StageError> {
    device::use_threads(job.threads);
    let task = TaskFile::read(job.inputs.one("task"))?;
    let encoder = job.inputs.one("encoder");
    let mut model = match job.inputs.optional("model") {
        Some(folder) => trained(params, &task, folder, encoder, job)?,
        None => {
            require_own_head(encoder, &task)?;
            if params.trials > 0 {
                return Err(StageError::failed(EvaluateError::NoVectors { head: "the head of a checkpoint".to_owned() }));
            }
            Model::with_own_head(encoder, device::of_job(job))?
        }
    };
    prepare(&mut model, &task);
    job.progress.fact("device", device_name(model.device()).into());

    let preprocessor = model.preprocessor().clone();
    let test = Arc::new(Utterances::open("test", job.inputs.many("test"), job.inputs.one("targets"), &task, preprocessor)?);
    front::require(&model, test.features())?;
    let limit = BatchLimit::new(params.batch_secs, None, model.preprocessor().sampling_rate);
    let decoder = decoder(&params.decoding, job.inputs.optional("language_model"))?;
    let answers = answers(&model, &test, limit, &decoder, job, &mut |done| {
        job.progress.tick(done as u64, test.lengths().len() as u64, "utterances", "");
    })?;
    let path = job.out.join(scoring::predictions::FILE_NAME);
    match params.trials {
        0 => write(&path, &test, &answers),
        most => {
            let trials = trials(&test, &answers, most as usize).map_err(StageError::failed)?;
            scoring::predictions::write(&path, &trials).map_err(StageError::failed)
        }
    }
}

/// A model as a training left it.
fn trained(params: &Evaluate, task: &TaskFile, folder: &Path, encoder: &Path, job: &Job) -> Result<Model, StageError> {
    let trained = Summary::read(folder)?;
    same_outputs(&trained.outputs, &task.outputs.names())?;
    if params.trials > 0 && !matches!(trained.head, HeadSpec::Xvector { .. }) {
        let head = serde_json::to_string(&trained.head).unwrap_or_default();
        return Err(StageError::failed(EvaluateError::NoVectors { head }));
    }
    // The seed is of no account: every parameter that it would draw is read.
    let mut model = Model::new(encoder, &trained.method.as_saved(), &trained.head, task.outputs.len(), 0, device::of_job(job))?;
    model.load_trained(folder)?;
    model.close_mix_with(trained.layer_sum_last);
    Ok(model)
}

/// Checks that the head of a checkpoint has the outputs of a task.
pub(crate) fn require_own_head(encoder: &Path, task: &TaskFile) -> Result<(), StageError> {
    let own = tasks::head::read(encoder).map_err(|error| {
        StageError::failed(error).with_hint("take a fine-tuned checkpoint with the files of its tokens, or train a head")
    })?;
    same_outputs(&own.names(), &task.outputs.names())
        .map_err(|error| error.with_hint("make the targets with the checkpoint's outputs: `inputs.head` of `task.targets`"))
}

/// Prepares a model for a task.
pub(crate) fn prepare(model: &mut Model, task: &TaskFile) {
    if task.clips.unmasked {
        model.use_attention_mask(false);
    } else {
        model.answer_as_single_clips();
    }
    if let Outputs::Tokens(vocabulary) = &task.outputs {
        model.name_tokens(Some(vocabulary.clone()));
    }
}

/// Errors: a model that was trained for other outputs than those of a task.
pub(crate) fn same_outputs(trained: &[String], wanted: &[String]) -> Result<(), StageError> {
    if trained == wanted {
        return Ok(());
    }
    let at = trained.iter().zip(wanted).take_while(|(a, b)| a == b).count();
    let name = |list: &[String]| list.get(at).cloned().unwrap_or_else(|| "none".to_owned());
    let sizes = [trained.len(), wanted.len()];
    let error = EvaluateError::OtherOutputs { sizes, at, trained: name(trained), wanted: name(wanted) };
    Err(StageError::failed(error).with_hint("evaluate a model with the `task.json` that it was trained with"))
}

/// Returns the decoder of a setting. `model` is a file in the ARPA format.
///
/// Errors: a language model that cannot be read.
pub(crate) fn decoder(decoding: &Decoding, model: Option<&Path>) -> Result<Decoder, StageError> {
    Ok(match *decoding {
        Decoding::Greedy {} => Decoder::Greedy,
        Decoding::Uncollapsed {} => Decoder::Uncollapsed,
        Decoding::Beam { width, lm_weight, word_bonus } => {
            let model = match model {
                Some(path) => {
                    let text = std::fs::read_to_string(path).map_err(StageError::io("read", path))?;
                    Some(NgramModel::parse(&text).map_err(|error| {
                        StageError::failed(error).with_hint(format!("`{}` should be in the ARPA format", path.display()))
                    })?)
                }
                None => None,
            };
            Decoder::Beam(model, beam::Options { width: width as usize, lm_weight, word_bonus })
        }
    })
}

/// Writes the answers in the form of the task.
fn write(path: &Path, test: &Utterances, answers: &[Answer]) -> Result<(), StageError> {
    let rows = answers.iter().enumerate();
    let (id, samples) = (|row: usize| test.id(row).to_owned(), |row: usize| test.num_samples(row) as i64);
    let speaker = |row: usize| test.speaker(row).map(str::to_owned);
    let written = match test.outputs() {
        Outputs::Classes { labels } => {
            let name = |class: i64| labels[class as usize].clone();
            let prediction = |(row, answer): (usize, &Answer)| {
                let (label, prediction) = (test.targets()[row].target[0], answer.output[0]);
                Prediction {
                    id: id(row),
                    speaker: speaker(row),
                    label,
                    prediction,
                    label_text: name(label),
                    prediction_text: name(prediction),
                    num_samples: samples(row),
                    loss: answer.loss,
                }
            };
            scoring::predictions::write(path, &rows.map(prediction).collect::<Vec<_>>())
        }
        Outputs::Tags { labels } => {
            let names = |ids: &[i64]| ids.iter().map(|&id| labels[id as usize].clone()).collect();
            let tagged = |(row, answer): (usize, &Answer)| Tagged {
                id: id(row),
                speaker: speaker(row),
                labels: names(&test.targets()[row].target),
                predictions: names(&answer.output),
                scores: answer.probabilities.clone(),
                num_samples: samples(row),
                loss: answer.loss,
            };
            scoring::predictions::write(path, &rows.map(tagged).collect::<Vec<_>>())
        }
        Outputs::Groups { groups } => {
            let intents = |(row, answer): (usize, &Answer)| {
                let both = test.targets()[row].target.iter().zip(&answer.output);
                let slot = |(group, (&label, &prediction)): (&tasks::Group, (&i64, &i64))| SlotAnswer {
                    slot: group.name.clone(),
                    label: group.labels[label as usize].clone(),
                    prediction: group.labels[prediction as usize].clone(),
                };
                let slots = groups.iter().zip(both).map(slot).collect();
                Intents { id: id(row), speaker: speaker(row), slots, num_samples: samples(row), loss: answer.loss }
            };
            scoring::predictions::write(path, &rows.map(intents).collect::<Vec<_>>())
        }
        Outputs::Tokens(vocabulary) => {
            let transcription = |(row, answer): (usize, &Answer)| Transcription {
                id: id(row),
                speaker: speaker(row),
                reference: test.targets()[row].text.clone(),
                hypothesis: vocabulary.decode_to_score(&answer.output),
                num_samples: samples(row),
                loss: answer.loss,
            };
            scoring::predictions::write(path, &rows.map(transcription).collect::<Vec<_>>())
        }
    };
    written.map_err(StageError::failed)
}

/// Seed of the draw of trials: fixed, so that every method is tested on the same ones.
const TRIAL_SEED: u64 = 1;

/// Cosines between the vectors of pairs of utterances: all pairs, or `most` of them, half of each kind as far as there are so many.
fn trials(test: &Utterances, answers: &[Answer], most: usize) -> Result<Vec<Trial>, EvaluateError> {
    let known: Vec<(usize, &str)> = (0..answers.len()).filter_map(|row| Some((row, test.speaker(row)?))).collect();
    let (mut same, mut different) = (Vec::new(), Vec::new());
    for (at, &(a, speaker)) in known.iter().enumerate() {
        for &(b, other) in &known[at + 1..] {
            if speaker == other { same.push((a, b)) } else { different.push((a, b)) }
        }
    }
    let pairs = same.len() + different.len();
    if same.is_empty() || different.is_empty() {
        return Err(EvaluateError::NoTrials { pairs });
    }
    let draw = |list: Vec<(usize, usize)>, name: &str| {
        let mut chosen = Rng::named(TRIAL_SEED, name).choose(if pairs > most { most / 2 } else { list.len() }, list.len());
        chosen.sort_unstable();
        chosen.into_iter().map(|at| list[at]).collect::<Vec<_>>()
    };
    let unit = |row: usize| {
        let vector = &answers[row].embedding;
        let norm = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt().max(1e-12);
        vector.iter().map(move |x| f64::from(*x) / norm)
    };
    let trial = |target: bool| {
        move |(a, b): (usize, usize)| Trial {
            enrol_id: test.id(a).to_owned(),
            test_id: test.id(b).to_owned(),
            score: unit(a).zip(unit(b)).map(|(x, y)| x * y).sum(),
            target,
        }
    };
    let (same, different) = (draw(same, "same"), draw(different, "different"));
    Ok(same.into_iter().map(trial(true)).chain(different.into_iter().map(trial(false))).collect())
}

/// Answers to all utterances, by row. `tick` hears how many are done.
///
/// Errors: audio that cannot be read, what libtorch reports, [`StageError::Stopped`].
pub(crate) fn answers(
    model: &Model,
    utterances: &Arc<Utterances>,
    limit: BatchLimit,
    decoder: &Decoder,
    job: &Job,
    tick: &mut dyn FnMut(usize),
) -> Result<Vec<Answer>, StageError> {
    let mut answers = vec![None; utterances.lengths().len()];
    let mut done = 0;
    for prepared in Loader::start(utterances, by_length(utterances.lengths(), limit), model.device()) {
        if job.stop.requested() {
            return Err(StageError::Stopped);
        }
        let prepared = prepared?;
        for (&row, answer) in prepared.rows.iter().zip(answer(model, &prepared, utterances.outputs(), decoder)?) {
            answers[row] = Some(answer);
        }
        done += prepared.rows.len();
        tick(done);
    }
    Ok(answers.into_iter().flatten().collect())
}

/// Answers to one batch, in its order.
fn answer(model: &Model, prepared: &Prepared, outputs: &Outputs, decoder: &Decoder) -> Result<Vec<Answer>, ModelError> {
    let output = model.outputs(&prepared.batch, Mode::Eval)?;
    let losses = Vec::<f32>::try_from(model.head().losses(&output, &prepared.targets)?)?;
    let embeddings = match &output.embeddings {
        Some(vectors) => Vec::<Vec<f32>>::try_from(vectors.f_to_kind(Kind::Float)?)?,
        None => vec![Vec::new(); losses.len()],
    };
    let probabilities = match (outputs, &model.head().probabilities(&output)?[..]) {
        (Outputs::Tags { .. }, [labels]) => Vec::<Vec<f32>>::try_from(labels.f_to_device(tch::Device::Cpu)?)?,
        _ => vec![Vec::new(); losses.len()],
    };
    let answer = |(((output, loss), embedding), probabilities)| Answer { output, probabilities, loss, embedding };
    let found = found(model, &output, outputs, decoder)?;
    Ok(found.into_iter().zip(losses).zip(embeddings).zip(probabilities).map(answer).collect())
}

/// The class, the class of each group, the labels, or the tokens that the output of a head stands for, by utterance.
pub(crate) fn found(
    model: &Model,
    output: &HeadOutput,
    outputs: &Outputs,
    decoder: &Decoder,
) -> Result<Vec<Vec<i64>>, ModelError> {
    Ok(match outputs {
        Outputs::Tokens(vocabulary) => tokens(&output.logits, &output.frames, vocabulary, decoder)?,
        Outputs::Classes { .. } => {
            Vec::<i64>::try_from(model.head().best(output)?)?.into_iter().map(|class| vec![class]).collect()
        }
        Outputs::Groups { .. } => Vec::<Vec<i64>>::try_from(model.head().best(output)?)?,
        Outputs::Tags { .. } => {
            let rows = Vec::<Vec<i64>>::try_from(model.head().best(output)?)?;
            let chosen = |row: Vec<i64>| (0..).zip(row).filter_map(|(label, has)| (has == 1).then_some(label)).collect();
            rows.into_iter().map(chosen).collect()
        }
    })
}

/// Tokens of each utterance: `logits` (B, T, tokens), of which `frames` are real.
fn tokens(logits: &Tensor, frames: &[i64], vocabulary: &Vocabulary, decoder: &Decoder) -> Result<Vec<Vec<i64>>, ModelError> {
    if let Decoder::Beam(model, options) = decoder {
        let log_probs = logits.f_log_softmax(-1, Kind::Float)?.f_to_device(tch::Device::Cpu)?;
        let utterance = |(row, &count): (usize, &i64)| {
            let own = log_probs.f_get(row as i64)?.f_narrow(0, 0, count)?.f_contiguous()?;
            let own = Vec::<f32>::try_from(own.f_view(-1)?)?;
            Ok(beam::search(&own, vocabulary, model.as_ref(), *options))
        };
        return frames.iter().enumerate().map(utterance).collect();
    }
    let best = Vec::<Vec<i64>>::try_from(logits.f_argmax(-1, false)?)?;
    let cut = best.iter().zip(frames).map(|(path, &count)| &path[..count as usize]);
    Ok(match decoder {
        Decoder::Uncollapsed => cut.map(|path| vocabulary.without_blanks(path)).collect(),
        _ => cut.map(|path| vocabulary.collapse(path)).collect(),
    })
}

/// `cpu`, `cuda:0`.
pub(crate) fn device_name(device: tch::Device) -> String {
    match device {
        tch::Device::Cuda(index) => format!("cuda:{index}"),
        other => format!("{other:?}").to_lowercase(),
    }
}
