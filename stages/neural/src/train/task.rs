//! Training of a task: the loss of its head, the measures that judge a point, and the utterances of a split.

use std::collections::BTreeMap;
use std::sync::Arc;

use neural_spec::{AdaLora, Method, Metric};
use pipeline::{Job, StageError};
use scoring::evidence::{Classes, Evidence, Ratio};
use scoring::significance::{self, Interval, Resampling};
use scoring::tagging::Tags;
use scoring::{Edits, Unit, slots};
use tasks::{Outputs, TaskFile};
use tch::{Device, Kind, Tensor};

use super::learner::{Learner, TrainingData};
use super::side_by_side::Replica;
use crate::data::{BatchLimit, Loader, Prepared, Utterances};
use crate::error::ModelError;
use crate::evaluate::{Answer, Decoder, answers};
use crate::models::Model;
use crate::nn::pass::Mode;

/// Measures of a task on a dev set.
pub(super) struct Measures {
    /// Metrics, the loss always among them.
    pub(super) metrics: &'static [Metric],
    decoder: Decoder,
}

impl Measures {
    /// Measures of the task that a file describes.
    pub(super) fn of(task: &TaskFile) -> Self {
        let decoder = if task.keeps_repeats() { Decoder::Uncollapsed } else { Decoder::Greedy };
        Self { metrics: task.task.dev_metrics(), decoder }
    }
}

/// A model that learns a task.
pub(super) struct TaskLearner<'a> {
    pub(super) model: &'a Model,
    pub(super) measures: &'a Measures,
    pub(super) dev: &'a Arc<Utterances>,
    pub(super) limit: BatchLimit,
}

impl Learner for TaskLearner<'_> {
    type Batch = Prepared;

    fn trainable(&self) -> Vec<(String, Tensor)> {
        self.model.trainable()
    }

    fn device(&self) -> Device {
        self.model.device()
    }

    fn loss(&self, batch: &Prepared, seed: u64) -> Result<Tensor, ModelError> {
        loss(self.model, batch, seed)
    }

    fn backward(&self, loss: &Tensor) -> Result<(), ModelError> {
        self.model.backward(loss)
    }

    fn penalty(&self) -> Result<Option<Tensor>, ModelError> {
        self.model.penalty()
    }

    fn shares_ranks(&self) -> Option<&AdaLora> {
        match self.model.method() {
            Method::AdaLora(adalora) => Some(adalora),
            _ => None,
        }
    }

    fn evaluate(&self, job: &Job) -> Result<Vec<(&'static str, f64)>, StageError> {
        let names = self.measures.metrics.iter().map(|metric| metric.name());
        Ok(names.zip(self.measure(job)?).collect())
    }
}

/// A copy of the model of a [`TaskLearner`].
pub(super) struct TaskReplica(pub(super) Model);

impl Replica for TaskReplica {
    type Batch = Prepared;

    fn trainable(&self) -> Vec<(String, Tensor)> {
        self.0.trainable()
    }

    fn learn(&mut self, batch: &Prepared, count: f64, seed: u64) -> Result<Tensor, ModelError> {
        let loss = loss(&self.0, batch, seed)?.f_div_scalar(count)?;
        self.0.backward(&loss)?;
        Ok(loss.detach())
    }
}

fn loss(model: &Model, batch: &Prepared, seed: u64) -> Result<Tensor, ModelError> {
    let output = model.outputs(&model.pad_to_parts(&batch.batch)?, Mode::Train { seed })?;
    Ok(model.head().losses(&output, &batch.targets)?.f_sum(Kind::Float)?)
}

impl TaskLearner<'_> {
    /// Confidence interval of a metric on the dev set, over its utterances; none where it cannot be told.
    pub(super) fn interval(&self, metric: Metric, job: &Job) -> Result<Option<Interval>, StageError> {
        let Self { model, measures, dev, limit } = self;
        let answers = answers(model, dev, *limit, &measures.decoder, job, &mut |_| {})?;
        let ids = (0..answers.len()).map(|row| dev.id(row).to_owned()).collect();
        let mut evidence = Evidence { ids, ..Evidence::default() };
        let pairs = || dev.targets().iter().zip(&answers);
        let one = |part: f64| Ratio { part, whole: 1.0 };
        let of = |edits: Edits| Ratio { part: edits.errors() as f64, whole: edits.tokens as f64 };
        let shares: Vec<Ratio> = match dev.outputs() {
            _ if metric == Metric::Loss => answers.iter().map(|answer| one(answer.loss.into())).collect(),
            Outputs::Classes { labels } => {
                let labels_of = pairs().map(|(target, _)| target.target[0] as u32).collect();
                let predictions = answers.iter().map(|answer| answer.output[0] as u32).collect();
                evidence.classes = Some(Classes { count: labels.len(), labels: labels_of, predictions });
                Vec::new()
            }
            Outputs::Tags { .. } if metric != Metric::Accuracy => {
                evidence.tags = Some(tags(dev, &answers));
                Vec::new()
            }
            Outputs::Groups { .. } | Outputs::Tags { .. } => {
                pairs().map(|(target, answer)| one(f64::from(u8::from(target.target == answer.output)))).collect()
            }
            Outputs::Tokens(vocabulary) => {
                let share = |(said, found): (&str, String)| match metric {
                    Metric::Cer => of(Unit::Character.count(said, &found)),
                    Metric::SlotTypeF1 => one(slots::score(said, &found).type_f1),
                    Metric::SlotValueCer => of(slots::score(said, &found).edits()),
                    _ => of(Unit::Word.count(said, &found)),
                };
                pairs().map(|(target, answer)| share((&target.text, vocabulary.decode_to_score(&answer.output)))).collect()
            }
        };
        if !shares.is_empty() {
            evidence.ratios.insert(metric, shares);
        }
        let intervals = significance::intervals(&evidence, &Resampling::default());
        Ok(intervals.and_then(|intervals| intervals.get(&metric).copied()))
    }

    /// Measures the model on the dev set: one value for each metric, in their order.
    fn measure(&self, job: &Job) -> Result<Vec<f64>, StageError> {
        let Self { model, measures: Measures { metrics, decoder }, dev, limit } = self;
        let answers = answers(model, dev, *limit, decoder, job, &mut |_| {})?;
        let loss = answers.iter().map(|answer| f64::from(answer.loss)).sum::<f64>() / answers.len() as f64;
        let pairs = || dev.targets().iter().zip(&answers);
        let other: Box<dyn Fn(Metric) -> f64> = match dev.outputs() {
            Outputs::Classes { labels } => {
                let classes = pairs().map(|(target, answer)| (target.target[0], answer.output[0]));
                let counts = scoring::Confusion::count(labels.len(), classes).map_err(StageError::failed)?.counts();
                Box::new(move |metric| counts.value(metric))
            }
            Outputs::Tags { .. } => {
                let exact = pairs().filter(|(target, answer)| target.target == answer.output).count();
                let mut values = BTreeMap::from(tags(dev, &answers).ranked().values(&vec![1; answers.len()]));
                values.insert(Metric::Accuracy, exact as f64 / answers.len() as f64);
                Box::new(move |metric| values.get(&metric).copied().unwrap_or(f64::NAN))
            }
            Outputs::Groups { .. } => {
                let right = pairs().filter(|(target, answer)| target.target == answer.output).count();
                let accuracy = right as f64 / answers.len() as f64;
                Box::new(move |_| accuracy)
            }
            Outputs::Tokens(vocabulary) => {
                let text = |answer: &Answer| vocabulary.decode_to_score(&answer.output);
                let texts: Vec<(String, String)> = pairs().map(|(target, answer)| (target.text.clone(), text(answer))).collect();
                Box::new(move |metric| match metric {
                    Metric::Cer => rate(texts.iter().map(|(said, found)| Unit::Character.count(said, found))),
                    Metric::SlotTypeF1 => {
                        texts.iter().map(|(said, found)| slots::score(said, found).type_f1).sum::<f64>() / texts.len() as f64
                    }
                    Metric::SlotValueCer => rate(texts.iter().map(|(said, found)| slots::score(said, found).edits())),
                    _ => rate(texts.iter().map(|(said, found)| Unit::Word.count(said, found))),
                })
            }
        };
        Ok(metrics.iter().map(|metric| if *metric == Metric::Loss { loss } else { other(*metric) }).collect())
    }
}

/// Right labels of utterances next to the answers.
fn tags(dev: &Utterances, answers: &[Answer]) -> Tags {
    let numbers = |labels: &[i64]| labels.iter().map(|&label| label as u32).collect();
    Tags {
        count: dev.outputs().len(),
        labels: dev.targets().iter().map(|target| numbers(&target.target)).collect(),
        predictions: answers.iter().map(|answer| numbers(&answer.output)).collect(),
        scores: answers.iter().map(|answer| answer.probabilities.clone()).collect(),
    }
}

/// Utterances to learn from, and the size of a batch.
pub(super) struct TaskData<'a> {
    pub(super) utterances: &'a Arc<Utterances>,
    pub(super) limit: BatchLimit,
    /// Seed of the order.
    pub(super) seed: u64,
    /// In Hz.
    pub(super) sample_rate: u32,
}

impl TrainingData for TaskData<'_> {
    type Batch = Prepared;

    fn batches(&self, epoch: u64) -> Vec<Vec<usize>> {
        self.utterances.batches(self.limit, self.seed, epoch)
    }

    fn load(&self, rows: Vec<Vec<usize>>, device: Device) -> impl Iterator<Item = Result<Prepared, StageError>> {
        Loader::start(self.utterances, rows, device).map(|prepared| prepared.map_err(StageError::from))
    }

    fn id(&self, row: usize) -> &str {
        self.utterances.id(row)
    }

    fn secs(&self, row: usize) -> f64 {
        self.utterances.lengths()[row] as f64 / f64::from(self.sample_rate)
    }
}

/// All errors over all reference tokens.
fn rate(edits: impl Iterator<Item = Edits>) -> f64 {
    let mut all = Edits::default();
    for own in edits {
        all += own;
    }
    all.rate()
}
