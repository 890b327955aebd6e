//! Scores made-up predictions of two methods over two seeds, and writes the table, the pictures and the page.
//!
//! `cargo run -p scoring --example report -- FOLDER`

#![expect(clippy::print_stdout, reason = "an example shows its result")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use pipeline::{Input, Inputs, Job, Places, Silent, Stop};
use scoring::{Prediction, ReportTable, ScoreClassification, predictions, report, score};
use serde_json::json;

const DIGITS: [&str; 10] = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from).ok_or("say in which folder to write")?;
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("labels.json"), json!(DIGITS).to_string())?;
    let mut scores = Vec::new();
    // One wrong answer in so many, and trainable parameters of 1.02 million.
    for (method, one_in, trainable) in [("finetune", 19, 1_020_042_u64), ("lora", 11, 43_018)] {
        for seed in ["1314", "1315"] {
            let run = folder.join(method).join(seed);
            fs::create_dir_all(&run)?;
            let shift = u64::from(seed == "1315");
            predictions::write(&run.join(predictions::FILE_NAME), &answers(one_in + shift))?;
            fs::write(run.join("training.json"), training(trainable, one_in as f64).to_string())?;
            let one = |slot: &str, path: &Path| (slot.to_owned(), vec![input(path, &[])]);
            let inputs =
                BTreeMap::from([one("predictions", &run), one("training", &run), one("labels", &folder.join("labels.json"))]);
            let params = ScoreClassification { confidence: 0.95, resamples: 2000, seed: 1314 };
            score::run(&params, &job(inputs, &run))?;
            scores.push(input(&run, &[("corpus", "digits"), ("method", method), ("seed", seed)]));
        }
    }
    let params = ReportTable { title: "Spoken digits".to_owned() };
    report::run(&params, &job(BTreeMap::from([("scores".to_owned(), scores)]), &folder))?;
    println!("{}", fs::read_to_string(folder.join("table.txt"))?);
    println!("the page is {}", folder.join("index.html").display());
    Ok(())
}

/// 300 utterances, one in so many answered by a neighbouring class.
fn answers(one_in: u64) -> Vec<Prediction> {
    let answer = |at: u64| {
        let label = (at % 10) as i64;
        let wrong = at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let prediction = if wrong.is_multiple_of(one_in) { (label + 1 + (wrong % 3) as i64) % 10 } else { label };
        Prediction {
            id: format!("digits-{at:03}"),
            label,
            prediction,
            label_text: DIGITS[label as usize].to_owned(),
            prediction_text: DIGITS[prediction as usize].to_owned(),
            num_samples: 8000,
            loss: if label == prediction { 0.05 } else { 2.5 },
            speaker: None,
        }
    };
    (0..300).map(answer).collect()
}

fn training(trainable: u64, speed: f64) -> serde_json::Value {
    let point = |at: u32| {
        let left = (-f64::from(at) * speed / 60.0).exp();
        json!({"step": at * 20, "train_loss": 2.3 * left, "dev_loss": 2.2 * left + 0.15, "dev_accuracy": 0.95 - 0.85 * left})
    };
    let curve: Vec<_> = (1..=25).map(point).collect();
    json!({"parameters": {"total": 1_020_042_u64.max(trainable), "trainable": trainable}, "best_step": 460, "curve": curve})
}

fn input(path: &Path, point: &[(&str, &str)]) -> Input {
    let point = point.iter().map(|(axis, value)| ((*axis).to_owned(), (*value).to_owned())).collect();
    Input { path: path.to_owned(), point, partition: None }
}

fn job(inputs: BTreeMap<String, Vec<Input>>, out: &Path) -> Job {
    Job {
        inputs: Inputs(inputs),
        sources: BTreeMap::new(),
        places: Places::default(),
        partition: None,
        out: out.to_owned(),
        resume: out.join("resume"),
        threads: 1,
        gpu: None,
        progress: Box::new(Silent),
        stop: Stop::default(),
    }
}
