//! Training.

use pipeline::{CpuDemand, Demand, GpuDemand, Slot, Stage};
use schemars::JsonSchema;
use scoring::Metric;
use serde::{Deserialize, Serialize};

use crate::{HeadSpec, HeadStart, LastState, Method, Mistakes, environment, require, require_positive, require_probability};

/// Trains a head, and what the method adapts of an encoder, on labelled utterances; keeps the best point on the dev set.
///
/// One *step* is one update of the parameters. It sees `accumulation` micro batches, each of utterances of similar length
/// and of at most `batch_secs` seconds of audio, padding counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Train {
    /// What is trained of the encoder, or beside it.
    pub method: Method,
    /// The task layer on top, always trained.
    pub head: HeadSpec,
    /// Last entry of the mix of a head with `layer_sum`: `before_norm` or `after_norm`. Default `before_norm`, which current versions of
    /// transformers compute, so that they load the model with the same answers.
    #[serde(default)]
    pub layer_sum_last: LastState,
    /// Start of the head: `fresh`, random values; or `checkpoint`, the head that the encoder's checkpoint has. Its outputs must be those of
    /// the task: `inputs.head` of `task.targets`. Default `fresh`.
    #[serde(default)]
    pub head_start: HeadStart,
    /// Learning rate at the top of the schedule.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub learning_rate: f64,
    /// Passes over the training data; either this or `max_steps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub epochs: Option<u32>,
    /// Updates; either this or `epochs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_steps: Option<u32>,
    /// How the learning rate falls after the warm-up. Default `linear`, as in the benchmark's classification tasks.
    #[serde(default = "linear")]
    pub schedule: Schedule,
    /// Share of all steps in which the learning rate rises from 0. Default 0.1, as in the benchmark.
    #[serde(default = "warmup_ratio")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub warmup_ratio: f64,
    /// Steps in which it rises, in the place of `warmup_ratio`: 1000 in the benchmark's phoneme recognition and FLEURS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup_steps: Option<u32>,
    /// Most seconds of audio in a micro batch, padding counted.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub batch_secs: f64,
    /// Most utterances in a micro batch; no limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub batch_size: Option<u32>,
    /// Micro batches per step.
    #[schemars(range(min = 1))]
    pub accumulation: u32,
    /// Largest norm of the gradient; a larger one is scaled down to it. Default 1, as in the benchmark.
    #[serde(default = "one")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub max_grad_norm: f64,
    /// How a gradient becomes an update. Default `adamw`, as in the benchmark.
    #[serde(default = "adamw")]
    pub optimizer: Optimizer,
    /// Weight decay; biases and norms are exempt. Default 0, as in the benchmark.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// Decay rates of Adam's first and second moment, at least 0 and below 1. Default 0.9 and 0.999, as in the benchmark.
    #[serde(default = "betas")]
    pub betas: [f64; 2],
    /// Adam's guard against division by zero. Default 1e-8, as in the benchmark.
    #[serde(default = "epsilon")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub epsilon: f64,
    /// Steps from one evaluation on the dev set to the next; once per epoch when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub eval_every: Option<u32>,
    /// Evaluations in a row without a better metric after which training ends; never early when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub patience: Option<u32>,
    /// Steps from one saved point to the next, as published: the best is chosen among saved points only, and an evaluation
    /// counts as better when it beats the best saved one, so that patience begins with the first save. A multiple of
    /// `eval_every`. When absent, every evaluation may be the best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub save_every: Option<u32>,
    /// How many points of the training to leave under `checkpoints/`: the best, the last, and the newest between. The best
    /// alone, and not there, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub keep_checkpoints: Option<u32>,
    /// Metric that points of the training are compared by on the dev set. The task's entry in the registry lists those that it has.
    pub metric: Metric,
    /// Number format of the computation.
    pub precision: Precision,
    /// Repeats the forward pass of a layer when its gradient is due, instead of keeping what it computed: much
    /// less memory for about a third more work, and the same numbers. Default false, as in the benchmark.
    #[serde(default)]
    pub gradient_checkpointing: bool,
    /// Gives the batches of the first step to every step, to check that a model can learn at all. Default false.
    #[serde(default)]
    pub overfit_batch: bool,
    /// CPU threads of the training; 0 for the whole pool. A number above 1 cuts every micro batch into as many parts, which are computed
    /// side by side on a CPU: on small steps much faster than several threads in each operation. With 1 as many trainings as there are
    /// cores run side by side. The same number gives the same bytes, however many cores there are, on machines with the same
    /// instructions. Default 0.
    #[serde(default)]
    pub threads: u32,
    /// Seed of the new parameters, the order of the data, dropout and masking; a stream of its own for each.
    pub seed: u64,
}

/// How the learning rate falls after the warm-up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// In a straight line to 0.
    Linear {},
    /// Half a cosine wave to 0.
    Cosine {},
    /// Half cosine waves to 0, each from the top again.
    CosineWithRestarts {
        /// Number of half waves.
        num_cycles: u32,
    },
    /// Not at all.
    Constant {},
    /// With the inverse square root of the step.
    InverseSqrt {},
    /// As a power of the share of steps left.
    Polynomial {
        /// The power.
        #[schemars(extend("exclusiveMinimum" = 0))]
        power: f64,
        /// The learning rate at the end, as a share of the one at the top.
        #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
        end: f64,
    },
    /// Stays at the top, then half a cosine wave to 0 (also called WSD).
    WarmupStableDecay {
        /// Share of all steps in which it falls.
        #[schemars(range(min = 0.0, max = 1.0))]
        decay_ratio: f64,
    },
    /// Stays at the top for a share of all steps after the warm-up, then in a straight line to 0 (tri-stage).
    TriStage {
        /// That share. 0.4 in the benchmark's speech recognition and slot filling.
        #[schemars(range(min = 0.0, max = 1.0))]
        hold_ratio: f64,
    },
    /// The same in its published form: the straight line begins at a share of all steps, whether or not the warm-up has ended by
    /// then. Where it has not, the rate drops when it ends.
    TriStageUntil {
        /// That share. 0.4 in the benchmark with `warmup_steps`, 0.4 and the ratio with `warmup_ratio`.
        #[schemars(range(min = 0.0, max = 1.0))]
        until: f64,
    },
    /// As the benchmark's logged `LibriSpeech` runs have it: stays at the top until a share of all steps, then drops onto the
    /// straight line to 0 that began where the warm-up ended.
    TriStageDrop {
        /// That share. 0.5 in those runs, in which the rate dropped to 0.556 of the top.
        #[schemars(range(min = 0.0, max = 1.0))]
        until: f64,
    },
    /// `width^-0.5 * min(s^-0.5, s * warmup^-1.5)` at step `s`, counted from 1: the published schedule of speech synthesis. It has a
    /// warm-up of its own.
    Noam {
        /// Width of the model.
        width: u32,
        /// Steps in which it rises.
        warmup: u32,
        /// Steps behind each of which the rate is multiplied with `anneal_rate`.
        #[serde(default)]
        anneal_steps: Vec<u64>,
        /// That factor. Default 1.
        #[serde(default = "one")]
        #[schemars(extend("exclusiveMinimum" = 0))]
        anneal_rate: f64,
        /// Steps that count as done before the first. Default 0; 900000 where the published code resumes.
        #[serde(default)]
        resume_step: u64,
    },
}

/// How a gradient becomes an update.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum Optimizer {
    /// Adam with weight decay apart from the gradient (Loshchilov and Hutter 2019, arXiv:1711.05101).
    Adamw {},
    /// Adam with weight decay as a part of the gradient (Kingma and Ba 2015, arXiv:1412.6980).
    Adam {},
    /// Stochastic gradient descent, weight decay a part of the gradient.
    Sgd {
        /// Decay rate of the sum of gradients that is followed; 0 to follow each gradient as it is.
        #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
        momentum: f64,
        /// Looks one step ahead (Nesterov).
        nesterov: bool,
    },
}

/// Number format of the computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floats throughout.
    Fp32,
    /// 16-bit brain floats for weights, activations and their gradients. Loss, gradient sums, moments and the trained values
    /// themselves stay in 32 bits, and so do the sums inside norms, softmax and matrix products.
    Bf16,
}

fn linear() -> Schedule {
    Schedule::Linear {}
}
fn adamw() -> Optimizer {
    Optimizer::Adamw {}
}
fn warmup_ratio() -> f64 {
    0.1
}
fn one() -> f64 {
    1.0
}
fn betas() -> [f64; 2] {
    [0.9, 0.999]
}
fn epsilon() -> f64 {
    1e-8
}

impl Schedule {
    pub(crate) fn check(&self, warmup_ratio: f64, mistakes: &mut Mistakes) {
        match self {
            Self::Noam { width, warmup, anneal_rate, .. } => {
                require_positive(mistakes, "schedule.width", (*width).into());
                require_positive(mistakes, "schedule.warmup", (*warmup).into());
                require_positive(mistakes, "schedule.anneal_rate", *anneal_rate);
            }
            Self::Linear {} | Self::Cosine {} | Self::Constant {} | Self::InverseSqrt {} => {}
            Self::CosineWithRestarts { num_cycles } => {
                require_positive(mistakes, "schedule.num_cycles", (*num_cycles).into());
            }
            Self::Polynomial { power, end } => {
                require_positive(mistakes, "schedule.power", *power);
                require_probability(mistakes, "schedule.end", *end);
            }
            Self::TriStageUntil { until } | Self::TriStageDrop { until } => {
                require(mistakes, (0.0..=1.0).contains(until), "schedule.until", "between 0 and 1", until);
            }
            Self::WarmupStableDecay { decay_ratio: ratio } | Self::TriStage { hold_ratio: ratio } => {
                let name = if matches!(self, Self::TriStage { .. }) { "schedule.hold_ratio" } else { "schedule.decay_ratio" };
                let fits = *ratio >= 0.0 && warmup_ratio + ratio <= 1.0;
                require(mistakes, fits, name, "at least 0 and at most 1 together with warmup_ratio", ratio);
            }
        }
    }
}

impl Stage for Train {
    const KIND: &'static str = "peft.train";
    const VERSION: u32 = 10;
    const ABOUT: &'static str = "Trains an adapter and a head on an encoder";

    fn slots() -> Vec<Slot> {
        vec![
            Slot::many("train", "shards of utterances to learn from (train.parquet)"),
            Slot::many("dev", "shards of utterances to choose the best point with (dev.parquet)"),
            Slot::one("train_targets", "what is learned of the first (train.parquet of `task.targets`)"),
            Slot::one("dev_targets", "and of the second (dev.parquet of `task.targets`)"),
            Slot::one("task", "what the task is (task.json of `task.targets`)"),
            Slot::one(
                "encoder",
                "a Hugging Face checkpoint folder; a head in it is used with `head_start = \"checkpoint\"` alone",
            ),
        ]
    }

    fn check(&self) -> Mistakes {
        let mut mistakes = Vec::new();
        self.method.check(&mut mistakes);
        self.head.check(&mut mistakes);
        self.schedule.check(self.warmup_ratio, &mut mistakes);
        for (name, value) in [
            ("learning_rate", self.learning_rate),
            ("batch_secs", self.batch_secs),
            ("max_grad_norm", self.max_grad_norm),
            ("epsilon", self.epsilon),
            ("epochs", self.epochs.map_or(1.0, f64::from)),
            ("max_steps", self.max_steps.map_or(1.0, f64::from)),
            ("batch_size", self.batch_size.map_or(1.0, f64::from)),
            ("accumulation", self.accumulation.into()),
            ("eval_every", self.eval_every.map_or(1.0, f64::from)),
            ("patience", self.patience.map_or(1.0, f64::from)),
            ("save_every", self.save_every.map_or(1.0, f64::from)),
            ("keep_checkpoints", self.keep_checkpoints.map_or(1.0, f64::from)),
        ] {
            require_positive(&mut mistakes, name, value);
        }
        if let Optimizer::Sgd { momentum, .. } = self.optimizer {
            require_probability(&mut mistakes, "optimizer.momentum", momentum);
        }
        for beta in self.betas {
            require_probability(&mut mistakes, "betas", beta);
        }
        let decay = self.weight_decay;
        require(&mut mistakes, decay.is_finite() && decay >= 0.0, "weight_decay", "at least 0", decay);
        let share = self.warmup_ratio;
        require(&mut mistakes, (0.0..=1.0).contains(&share), "warmup_ratio", "between 0 and 1", share);
        if let Some(save) = self.save_every {
            let fits = self.eval_every.is_some_and(|eval| eval > 0 && save.is_multiple_of(eval));
            require(&mut mistakes, fits, "save_every", "a multiple of eval_every, which must be given with it", save);
        }
        if let (Method::AdaLora(adalora), Some(steps)) = (&self.method, self.max_steps) {
            let [first, last] =
                [adalora.tinit, adalora.tfinal].map(|steps| steps.map_or("default".to_owned(), |n| n.to_string()));
            let fits = adalora.phases(steps.into()).is_some();
            require(&mut mistakes, fits, "method.tinit", "below max_steps together with tfinal", format!("{first} and {last}"));
        }
        if self.epochs.is_some() == self.max_steps.is_some() {
            mistakes.push(("epochs", "exactly one of epochs and max_steps must be given".to_owned()));
        }
        mistakes
    }

    fn outputs(&self) -> Vec<String> {
        let (folder, config, weights) = match self.method {
            Method::Finetune(_) => ("checkpoint", "config.json", "model.safetensors"),
            _ => ("adapter", "adapter_config.json", "adapter_model.safetensors"),
        };
        vec!["training.json".to_owned(), "events".to_owned(), format!("{folder}/{config}"), format!("{folder}/{weights}")]
    }
    fn environment(&self) -> Vec<(&'static str, String)> {
        environment()
    }
    fn demand(&self) -> Demand {
        Demand { devices: Some(1), ..prefer_gpu(self.threads) }
    }
}

/// Demand of a stage that runs on a GPU where there is one.
pub(crate) fn prefer_gpu(number: u32) -> Demand {
    Demand { cpu: threads(number), gpu: GpuDemand::Prefer, ..Demand::default() }
}

/// Demand of CPU threads; 0 for the whole pool.
pub(crate) fn threads(number: u32) -> CpuDemand {
    if number == 0 { CpuDemand::All } else { CpuDemand::Threads(number as usize) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(change: &str) -> Train {
        let text = r#"{"method":{"name":"finetune","scope":"all"},"head":{"name":"classification"},"learning_rate":1e-3,
            "epochs":2,"batch_secs":16,"accumulation":1,"metric":"accuracy","precision":"fp32","seed":1314}"#;
        let mut value: serde_json::Value = serde_json::from_str(text).unwrap();
        let change: serde_json::Map<String, serde_json::Value> = serde_json::from_str(change).unwrap();
        value.as_object_mut().unwrap().extend(change);
        serde_json::from_value(value).unwrap()
    }

    #[track_caller]
    fn check(change: &str, mistaken: &[&str]) {
        let names: Vec<_> = parse(change).check().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, mistaken);
    }

    #[test]
    fn what_is_published_needs_not_be_stated() {
        let train = parse("{}");
        assert_eq!(train.check(), []);
        assert_eq!((train.max_grad_norm, train.weight_decay, train.betas, train.epsilon), (1.0, 0.0, [0.9, 0.999], 1e-8));
        assert_eq!(train.schedule, Schedule::Linear {});
        assert_eq!((train.demand().cpu, parse(r#"{"threads":1}"#).demand().cpu), (CpuDemand::All, CpuDemand::Threads(1)));
    }

    #[test]
    fn numbers_without_sense_are_named() {
        check(r#"{"learning_rate":-1}"#, &["learning_rate"]);
        check(r#"{"batch_secs":0,"accumulation":0,"patience":0}"#, &["batch_secs", "accumulation", "patience"]);
        check(r#"{"betas":[0.9,1.0]}"#, &["betas"]);
        check(r#"{"max_steps":10}"#, &["epochs"]);
        check(r#"{"epochs":null}"#, &["epochs"]);
        check(r#"{"save_every":10}"#, &["save_every"]);
        check(r#"{"save_every":10,"eval_every":4}"#, &["save_every"]);
        check(r#"{"save_every":12,"eval_every":4}"#, &[]);
        let phases = r#"{"method":{"name":"adalora","tinit":6,"tfinal":4},"epochs":null,"max_steps":"#;
        check(&format!("{phases}10}}"), &["method.tinit"]);
        check(&format!("{phases}11}}"), &[]);
        check(r#"{"warmup_ratio":0.7,"schedule":{"name":"tri_stage","hold_ratio":0.4}}"#, &["schedule.hold_ratio"]);
    }
}
