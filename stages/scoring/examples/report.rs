//! Scores made-up predictions of four methods and two seeds on every kind of task, and writes the tables, the pictures and the page.
//!
//! `cargo run -p scoring --example report -- FOLDER`

#![expect(clippy::print_stdout, reason = "an example shows its result")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use pipeline::{Input, Inputs, Job, Places, Silent, Spare, StageError, Stop, Tools};
use scoring::predictions::{FILE_NAME, PredictionRow, write};
use scoring::random::SplitMix;
use scoring::significance::Resampling;
use scoring::{
    Intents, Prediction, ReportTable, ScoreClassification, ScoreIntent, ScoreSlots, ScoreText, ScoreVerification, SlotAnswer,
    Transcription, Trial, Unit, report, score,
};
use serde_json::json;

const DIGITS: [&str; 10] = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
/// Methods, how often they err, and their trainable parameters.
const METHODS: [(&str, f64, u64); 4] =
    [("finetune", 0.05, 94_400_000), ("prefix", 0.16, 1_480_000), ("lora", 0.07, 590_000), ("convadapter", 0.065, 890_000)];
const UTTERANCES: u64 = 300;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from).ok_or("say in which folder to write")?;
    let mut scores = Vec::new();
    for (method, errs, trainable) in METHODS {
        for seed in 0..2 {
            let run = Run { folder: folder.join(method).join(seed.to_string()), method, errs, trainable, seed };
            scores.extend(run.score()?);
        }
    }
    let params = ReportTable { title: "Made-up scores".to_owned(), published: true, anchors: Vec::new(), rounds: 10_000 };
    report::run(&params, &job([("scores", scores)], &folder))?;
    println!("{}", fs::read_to_string(folder.join("table.txt"))?);
    println!("the page is {}", folder.join("index.html").display());
    Ok(())
}

/// A method with a seed.
struct Run {
    folder: PathBuf,
    method: &'static str,
    errs: f64,
    trainable: u64,
    seed: u64,
}

impl Run {
    /// A number from 0 to 1 that is the same for all methods, so that they err on the same utterances.
    fn chance(&self, utterance: u64, draw: u64) -> f64 {
        let hash = |z: u64| SplitMix::new(z).uniform();
        0.7 * hash(utterance * 64 + draw + 1) + 0.3 * hash((utterance * 64 + draw + 7) * 31 + self.seed * 977 + self.trainable)
    }
    fn errs(&self, utterance: u64, draw: u64) -> bool {
        self.chance(utterance, draw) < 0.25 * self.errs.sqrt() + self.errs
    }

    fn score(&self) -> Result<Vec<Input>, Box<dyn Error>> {
        let mut found = Vec::new();
        let mut add = |task: &str, corpus: &str, run: &dyn Fn(&Path) -> Result<(), StageError>| -> Result<(), Box<dyn Error>> {
            let out = self.folder.join(task).join(corpus);
            fs::create_dir_all(&out)?;
            run(&out)?;
            let seed = self.seed.to_string();
            found.push(input(&out, &[("task", task), ("corpus", corpus), ("method", self.method), ("seed", &seed)]));
            Ok(())
        };
        add("keyword_spotting", "fsdd", &|out| {
            fs::write(out.join("labels.json"), json!(DIGITS).to_string()).map_err(StageError::failed)?;
            let job = self.job(out, &self.classes(), "accuracy")?;
            score::run(&ScoreClassification::default(), &job)
        })?;
        for corpus in ["fleurs", "librispeech"] {
            add("speech_recognition", corpus, &|out| {
                let params = ScoreText { unit: Unit::Word, interval: Resampling::default(), task: None, corpus: None };
                score::run(&params, &self.job(out, &self.texts(if corpus == "fleurs" { 3.0 } else { 1.2 }), "wer")?)
            })?;
        }
        add("slot_filling", "audio_snips", &|out| {
            score::run(&ScoreSlots::default(), &self.job(out, &self.slots(), "slot_type_f1")?)
        })?;
        add("intent", "fluent_speech_commands", &|out| {
            score::run(&ScoreIntent::default(), &self.job(out, &self.intents(), "accuracy")?)
        })?;
        add("speaker_verification", "vctk", &|out| {
            score::run(&ScoreVerification::default(), &self.job(out, &self.trials(), "eer")?)
        })?;
        Ok(found)
    }

    /// Predictions and a training in a folder, which is also where scores go.
    fn job<R: PredictionRow>(&self, out: &Path, rows: &[R], metric: &str) -> Result<Job, StageError> {
        write(&out.join(FILE_NAME), rows).map_err(StageError::failed)?;
        let total = 94_400_000.max(self.trainable);
        let point = |at: u32| {
            let left = (-f64::from(at) * (0.4 - self.errs) / 2.0).exp();
            let dev = if metric.ends_with("er") { self.errs + 0.9 * left } else { 1.0 - self.errs - 0.85 * left };
            let metric = format!("dev_{metric}");
            json!({"step": at * 20, "train_loss": 2.3 * left, "dev_loss": 2.2 * left + 0.15, metric: dev})
        };
        let curve: Vec<_> = (1..=25).map(point).collect();
        let training =
            json!({"parameters": {"total": total, "trainable": self.trainable}, "best_step": 460, "curve": curve}).to_string();
        fs::write(out.join("training.json"), training).map_err(StageError::failed)?;
        let one = |slot| (slot, vec![input(out, &[])]);
        Ok(job([one("predictions"), one("training"), one("labels")], out))
    }

    fn classes(&self) -> Vec<Prediction> {
        let answer = |at: u64| {
            let label = (at % 10) as i64;
            let wrong = self.errs(at, 0);
            let prediction = if wrong { (label + 1 + (at / 10 % 3) as i64) % 10 } else { label };
            Prediction {
                id: format!("digits-{at:03}"),
                label,
                prediction,
                label_text: DIGITS[label as usize].to_owned(),
                prediction_text: DIGITS[prediction as usize].to_owned(),
                num_samples: 8000,
                loss: if wrong { 2.5 } else { 0.05 },
                speaker: Some(format!("s{}", at % 6)),
            }
        };
        (0..UTTERANCES).map(answer).collect()
    }

    /// Words of `words`, some replaced, left out or doubled.
    fn spoil(&self, at: u64, words: &[&str], factor: f64) -> String {
        let mut out = Vec::new();
        for (k, word) in words.iter().enumerate() {
            let chance = self.chance(at, k as u64) / factor;
            match chance {
                _ if chance > 0.25 * self.errs.sqrt() + self.errs => out.push(*word),
                _ if k % 5 == 0 => {}
                _ if k % 5 == 1 => out.extend([*word, "uh"]),
                _ => out.push(DIGITS[(at as usize + k) % 10]),
            }
        }
        out.join(" ")
    }

    fn texts(&self, factor: f64) -> Vec<Transcription> {
        let answer = |at: u64| {
            let words: Vec<&str> = (0..4 + at % 7).map(|k| DIGITS[((at * 7 + k * 3) % 10) as usize]).collect();
            transcription(at, words.join(" "), self.spoil(at, &words, factor))
        };
        (0..UTTERANCES).map(answer).collect()
    }

    fn slots(&self) -> Vec<Transcription> {
        let answer = |at: u64| {
            let (city, day) = (DIGITS[(at % 10) as usize], DIGITS[(at / 10 % 10) as usize]);
            let mark = |city: &str, day: &str| format!("weather in B-city {city} E-city on B-date {day} E-date");
            let hypothesis = match (self.errs(at, 1), self.errs(at, 2)) {
                (true, _) => format!("weather in {city} on B-date {day} E-date"),
                (_, true) => mark(city, "tomorrow"),
                _ => mark(city, day),
            };
            transcription(at, mark(city, day), hypothesis)
        };
        (0..UTTERANCES).map(answer).collect()
    }

    fn intents(&self) -> Vec<Intents> {
        let slot = |at: u64, draw: u64, slot: &str, values: &[&str]| {
            let value = (at + draw) as usize % values.len();
            let answered = if self.errs(at, draw) { (value + 1) % values.len() } else { value };
            SlotAnswer { slot: slot.to_owned(), label: values[value].to_owned(), prediction: values[answered].to_owned() }
        };
        let answer = |at: u64| Intents {
            id: format!("fsc-{at:03}"),
            slots: vec![
                slot(at, 3, "action", &["activate", "deactivate", "increase", "decrease"]),
                slot(at, 4, "object", &["lights", "music", "heat", "volume", "lamp"]),
                slot(at, 5, "location", &["none", "kitchen", "bedroom"]),
            ],
            num_samples: 30_000,
            loss: 0.3,
            speaker: Some(format!("s{}", at % 9)),
        };
        (0..UTTERANCES).map(answer).collect()
    }

    fn trials(&self) -> Vec<Trial> {
        let trial = |at: u64| {
            let target = at.is_multiple_of(3);
            let score = f64::from(u8::from(target)) + (2.0 + 6.0 * self.errs) * (self.chance(at, 6) - 0.5);
            Trial { enrol_id: format!("e{}", at % 20), test_id: format!("t{at:03}"), score, target }
        };
        (0..UTTERANCES).map(trial).collect()
    }
}

fn transcription(at: u64, reference: String, hypothesis: String) -> Transcription {
    let speaker = Some(format!("s{}", at % 8));
    Transcription { id: format!("utt-{at:03}"), reference, hypothesis, num_samples: 40_000, loss: 0.4, speaker }
}

fn input(path: &Path, point: &[(&str, &str)]) -> Input {
    let point = point.iter().map(|(axis, value)| ((*axis).to_owned(), (*value).to_owned())).collect();
    Input { path: path.to_owned(), point, partition: None }
}

fn job<const N: usize>(inputs: [(&str, Vec<Input>); N], out: &Path) -> Job {
    Job {
        inputs: Inputs(inputs.map(|(slot, inputs)| (slot.to_owned(), inputs)).into()),
        sources: BTreeMap::new(),
        places: Places::default(),
        partition: None,
        out: out.to_owned(),
        resume: out.join("resume"),
        threads: 1,
        spare: Spare::default(),
        tools: Tools::default(),
        gpu: None,
        others: vec![],
        progress: Box::new(Silent),
        stop: Stop::default(),
    }
}
