//! Writes the site of a made-up history: a year of weekly rebuilds of 42 cells, with a loss, a changed setting and a full disk.
//!
//! ```sh
//! cargo run -p rebuild --example made_up -- FOLDER
//! ```
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use rebuild::alarms::settle;
use rebuild::history::{Baseline, History};
use rebuild::record::{
    Cell, Confirmation, Cost, Ended, FORMAT, Finding, Line, Machine, NamedCause, Numbers, Outcome, Program, RunOutcome, Source,
};
use rebuild::site::{Site, write};
use rebuild::time::{DAY, Utc};
use scoring::Metric;
use scoring::history::Verdict;
use scoring::random::SplitMix;

const TASKS: [(&str, &str, Metric, f64); 7] = [
    ("emotion", "esd", Metric::Accuracy, 0.92),
    ("intent", "fluent_speech_commands", Metric::Accuracy, 0.97),
    ("keyword_spotting", "speech_commands", Metric::Accuracy, 0.95),
    ("phoneme_recognition", "librispeech", Metric::Per, 0.12),
    ("slot_filling", "audio_snips", Metric::SlotTypeF1, 0.88),
    ("speaker", "vctk", Metric::Accuracy, 0.9),
    ("speech_recognition", "librispeech", Metric::Wer, 0.073),
];
const METHODS: [&str; 6] = ["bottleneck", "convadapter", "finetune", "head_only", "lora", "prefix"];

fn cause(kind: &str, text: &str) -> Vec<NamedCause> {
    vec![NamedCause { kind: kind.to_owned(), text: text.to_owned() }]
}

/// A cell in a week: noise, but for a loss in week 30 and a better setting in week 40.
fn cell(at: (usize, usize), week: i64, ids: [&str; 2], random: &mut SplitMix) -> (String, Cell) {
    let ((task, corpus, metric, level), method) = (TASKS[at.0], METHODS[at.1]);
    let (is_loss, is_better) = (at == (6, 4) && week == 30, at.0 == 4 && week == 40);
    let shift = if at == (6, 4) && week >= 30 { 0.008 } else { 0.0 } + if at.0 == 4 && week >= 40 { 0.02 } else { 0.0 };
    let values: BTreeMap<String, f64> = (1..=3).map(|seed| (seed.to_string(), level + shift + 0.002 * random.normal())).collect();
    let (verdict, causes) = match week {
        0 => (Verdict::New, vec![]),
        _ if is_loss => (Verdict::Worse, cause("library", "libtorch 2.11.0 -> 2.12.0")),
        _ if is_better => (Verdict::Better, cause("settings", "train.max_steps 400 -> 800")),
        _ => (Verdict::Moved, vec![]),
    };
    let test = Numbers {
        difference: shift,
        utterance_variance: 1e-6,
        training_variance: 2e-6,
        seeds: 3,
        degrees: Some(16),
        p: if is_loss { 0.0004 } else { 0.4 },
    };
    let last = Finding { verdict, against: (week > 0).then(|| ids[0].to_owned()), test: (week > 0).then_some(test) };
    let mut cell = Cell {
        task: task.to_owned(),
        corpus: corpus.to_owned(),
        method: method.to_owned(),
        others: BTreeMap::new(),
        node: format!("score[method={method}]"),
        metric: Some(metric),
        evidence: values.iter().map(|(seed, value)| (seed.clone(), format!("{:032x}", value.to_bits()))).collect(),
        values,
        utterances: 2_620,
        failed: None,
        since: ids[1].to_owned(),
        last,
        baseline: Finding::of(if at == (6, 4) && week >= 30 { Verdict::Worse } else { verdict }),
        causes,
        confirmation: None,
        alarm: is_loss,
        costs: [("train".to_owned(), Cost { secs: 900.0, peak_gib: Some(31.5), on: ["8 GPU".to_owned()].into() })].into(),
    };
    if is_loss {
        let values = BTreeMap::from([("4".to_owned(), 0.081), ("5".to_owned(), 0.0805)]);
        cell.confirmation = Some(Confirmation { values, confirmed: true, p: Some(0.0002) });
    }
    (format!("{task} {corpus} {method}"), cell)
}

fn main() {
    let folder = std::env::args_os().nth(1).expect("a folder");
    let folder = Path::new(&folder);
    let lock = History::lock(folder).unwrap().expect("no other process uses it");
    let mut history = History::read(folder).unwrap();
    let mut random = SplitMix::new(1);
    let mut before = String::new();
    for week in 0..52 {
        let begun = Utc(1_760_236_200 + week * 7 * DAY);
        let id = format!("{begun}-{week:04x}");
        let full = week == 35;
        let cells = (0..42).filter(|_| !full).map(|at| cell((at / 6, at % 6), week, [&before, &id], &mut random)).collect();
        let run = RunOutcome {
            request: "benchmark --set seed=1,2,3".to_owned(),
            run: week,
            outcome: "done".to_owned(),
            secs: 18_000.0,
            nodes: [("ran".to_owned(), 378)].into(),
            failed: vec![],
        };
        let source =
            Source { digest: "9fe62ee67e7719037613ef705ac6c194".to_owned(), files: 28_539, bytes: 6_300_000_000, list: None };
        let mut ended = Ended {
            format: FORMAT,
            id: id.clone(),
            begun,
            at: Utc(begun.0 + 18_000),
            outcome: if full { Outcome::NotStarted } else { Outcome::Done },
            exit_code: 0,
            reason: full.then(|| {
                "only 3.2 GB are free where the store is, 20.0 GB are wanted, and nothing more can be removed".to_owned()
            }),
            fresh: false,
            file: String::new(),
            workflows: BTreeMap::new(),
            program: Program {
                version: "0.1.0".to_owned(),
                commit: format!("{:012x}", 0x5c56_06e9_a0c1_i64 + week / 10),
                rustc: "rustc 1.95.0".to_owned(),
                executables: BTreeMap::new(),
            },
            machine: Machine {
                host: "lab-1".to_owned(),
                cpu: "AMD EPYC 9354".to_owned(),
                cores: 32,
                gpus: vec!["NVIDIA H200".to_owned()],
                kernel: "6.1.0".to_owned(),
                driver: Some("570.86.15".to_owned()),
            },
            sources: [("corpora.librispeech".to_owned(), source)].into(),
            runs: if full { vec![] } else { vec![run] },
            detail: None,
            cells,
            open: BTreeMap::new(),
            recovered: vec![],
            unconfirmed: vec![],
            differs: vec![],
            failures: 0,
            notices: if week == 20 {
                vec![
                    "the rebuild that began at 2026-02-22T02:30:00Z did not end: it was killed, or the machine went down"
                        .to_owned(),
                ]
            } else {
                vec![]
            },
        };
        settle(&mut ended, &history, if full { 4 } else { 0 });
        history.append(&lock, Line::Ended(Box::new(ended))).unwrap();
        if !full {
            before = id;
        }
    }
    let first = history.log.ended().next().unwrap();
    let base = Baseline { rebuild: first.id.clone(), since: first.at, by: "sure".to_owned(), why: "first result".to_owned() };
    let baselines = first.cells.keys().map(|key| (key.clone(), base.clone())).collect();
    history.set_baselines(&lock, baselines).unwrap();
    let site =
        Site { name: "weekly", every: "sunday 02:30".parse().unwrap(), url: "https://example.org/sure", history: &history };
    let begun = Instant::now();
    let count = write(&site, &folder.join("www")).unwrap();
    println!("{count} files in {:.2} s, in {}", begun.elapsed().as_secs_f64(), folder.join("www").display());
}
