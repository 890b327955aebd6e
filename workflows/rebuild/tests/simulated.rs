//! Simulated rebuilds of 42 cells, with evidence of every utterance: how often noise is an alarm, and which losses are found.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::collections::BTreeMap;
use std::path::Path;

use rebuild::alarms::{is_known, settle};
use rebuild::history::{Baseline, History};
use rebuild::judge::{CellNow, Judge, Judged, Results, SeedNow};
use rebuild::record::{Ended, FORMAT, Line, METRIC, Machine, Outcome, Program, SeedDetail, Source};
use rebuild::time::{DAY, Utc};
use scoring::Metric;
use scoring::evidence::{self, Classes, Evidence, Ratio};
use scoring::history::{Lineage, Rule, Verdict};
use scoring::random::SplitMix;

const TASKS: [&str; 7] = ["emotion", "intent", "keyword_spotting", "phonemes", "recognition", "slots", "speaker"];
const METHODS: [&str; 6] = ["bottleneck", "convadapter", "finetune", "head_only", "lora", "prefix"];
/// Standard deviation of the accuracy between trainings, where a test names no other.
const SIGMA: f64 = 0.005;

/// True if slow tests were requested with `RUN_SLOW_TESTS=1`.
fn slow_tests() -> bool {
    std::env::var_os("RUN_SLOW_TESTS").is_some_and(|value| value == "1")
}

/// A laboratory that trains everything again every week.
struct Lab {
    folder: tempfile::TempDir,
    random: SplitMix,
    /// Difficulty of each utterance, the same for all trainings.
    difficulty: Vec<f64>,
    week: i64,
    seeds: u64,
    cells: usize,
    /// Standard deviation of the accuracy between trainings.
    sigma: f64,
    /// True loss of the first cell.
    loss: f64,
}

impl Lab {
    fn new(utterances: usize, seeds: u64, cells: usize) -> Self {
        let mut random = SplitMix::new(20_261_130);
        let difficulty = (0..utterances).map(|_| random.normal()).collect();
        Self { folder: tempfile::tempdir().unwrap(), random, difficulty, week: 0, seeds, cells, sigma: SIGMA, loss: 0.0 }
    }

    /// Answers of one training whose true accuracy is about 90 %.
    fn train(&mut self, history: &History, scratch: &Path, loss: f64) -> SeedNow {
        let accuracy: f64 = 0.9 - loss + self.sigma * self.random.normal();
        // The threshold of a normal variable with the variance of difficulty and chance, by bisection on its distribution.
        let chance = 0.3_f64;
        let below = |t: f64| 0.5 * libm::erfc(-t / (1.0 + chance * chance).sqrt() / std::f64::consts::SQRT_2);
        let (mut low, mut high) = (-6.0, 6.0);
        for _ in 0..50 {
            let middle = f64::midpoint(low, high);
            if below(middle) < accuracy { low = middle } else { high = middle }
        }
        let predictions: Vec<u32> =
            self.difficulty.iter().map(|difficulty| u32::from(difficulty + chance * self.random.normal() >= low)).collect();
        let value = predictions.iter().filter(|wrong| **wrong == 0).count() as f64 / predictions.len() as f64;
        let evidence = Evidence {
            ids: (0..predictions.len()).map(|at| format!("u{at:05}")).collect(),
            classes: Some(Classes { count: 2, labels: vec![0; predictions.len()], predictions }),
            ..Evidence::default()
        };
        let path = scratch.join("e.parquet");
        evidence::write(&path, &evidence).unwrap();
        let name = history.keep(&std::fs::read(&path).unwrap()).unwrap();
        let id = format!("{}", self.random.uniform());
        let detail =
            SeedDetail { utterance_set: "u".to_owned(), trained: id.clone(), scored: id, scores: String::new(), interval: None };
        SeedNow { value, evidence: name, detail }
    }

    fn results(&mut self, history: &History) -> Results {
        let scratch = tempfile::tempdir().unwrap();
        let mut results = Results { id: format!("week-{:04}", self.week), ..Results::default() };
        for number in 0..self.cells {
            let (task, method) = (TASKS[number / METHODS.len()], METHODS[number % METHODS.len()]);
            let loss = if number == 0 { self.loss } else { 0.0 };
            let seeds = (1..=self.seeds).map(|seed| (seed.to_string(), self.train(history, scratch.path(), loss))).collect();
            let cell = CellNow {
                task: task.to_owned(),
                corpus: "fsdd".to_owned(),
                method: method.to_owned(),
                others: BTreeMap::new(),
                node: format!("score[method={method}]"),
                metric: Some(Metric::Accuracy),
                utterances: self.difficulty.len() as u64,
                failed: None,
                seeds,
                lineage: Lineage {
                    fields: BTreeMap::from([("train/version".to_owned(), "3".to_owned())]),
                    program: format!("commit{} x", self.week),
                    machine: "m".to_owned(),
                },
                costs: BTreeMap::new(),
            };
            results.cells.insert(format!("{task} fsdd {method}"), cell);
        }
        results
    }

    /// Judges and confirms as a rebuild does.
    fn judge(&mut self, history: &History, results: &Results) -> Judged {
        let rule = Rule::default();
        let judge = Judge::new(history, &rule, results);
        let mut judged = judge.judge();
        let scratch = tempfile::tempdir().unwrap();
        for key in judged.to_confirm.clone() {
            let cell = judged.cells.get_mut(&key).unwrap();
            if is_known(history, &key, cell) {
                continue;
            }
            let loss = if key == format!("{} fsdd {}", TASKS[0], METHODS[0]) { self.loss } else { 0.0 };
            let new = (11..13).map(|seed| (seed.to_string(), self.train(history, scratch.path(), loss))).collect();
            judge.confirm(cell, &key, &new);
        }
        judged
    }

    /// Weeks of noise, then one of many next weeks in which the first cell has lost three points, among `cells` that were trained again.
    /// Returns the number of alarms in the weeks, and of trials that found the loss.
    #[expect(clippy::print_stdout, reason = "the figures of a long simulation are what it is run for")]
    fn noise_and_losses(&mut self, weeks: usize, trials: usize, cells: usize) -> (usize, usize) {
        let alarms: usize = (0..weeks).map(|_| self.week().len()).sum();
        let history = History::read(self.folder.path()).unwrap();
        let key = format!("{} fsdd {}", TASKS[0], METHODS[0]);
        self.loss = 0.03;
        let (mut found, mut false_alarms) = (0, 0);
        for _ in 0..trials {
            let all = std::mem::replace(&mut self.cells, cells);
            let results = self.results(&history);
            self.cells = all;
            let judged = self.judge(&history, &results);
            found += usize::from(judged.cells[&key].alarm);
            false_alarms += judged.cells.iter().filter(|(other, cell)| **other != key && cell.alarm).count();
        }
        println!(
            "ALARMS {alarms} in {weeks} rebuilds of {} cells; a loss of 3 points found in {found} of {trials}, with {false_alarms} false alarms next to it",
            self.cells
        );
        (alarms, found)
    }

    /// One week. Returns the cells with a new alarm.
    fn week(&mut self) -> Vec<String> {
        let lock = History::lock(self.folder.path()).unwrap().unwrap();
        let mut history = History::read(self.folder.path()).unwrap();
        let results = self.results(&history);
        let judged = self.judge(&history, &results);
        let at = Utc(1_800_000_000 + self.week * 7 * DAY);
        let mut ended = Ended {
            format: FORMAT,
            id: results.id.clone(),
            begun: at,
            at,
            outcome: Outcome::Done,
            exit_code: 0,
            reason: None,
            fresh: false,
            file: String::new(),
            workflows: BTreeMap::new(),
            program: Program::default(),
            machine: Machine::default(),
            sources: BTreeMap::new(),
            runs: vec![],
            detail: Some(history.keep(&serde_json::to_vec(&judged.detail).unwrap()).unwrap()),
            cells: judged.cells,
            open: BTreeMap::new(),
            recovered: vec![],
            unconfirmed: vec![],
            differs: vec![],
            failures: 0,
            notices: vec![],
        };
        settle(&mut ended, &history, 0);
        let mut baselines = history.baselines.clone();
        for (key, why) in judged.new_baselines {
            baselines.insert(key, Baseline { rebuild: ended.id.clone(), since: at, by: "sure".to_owned(), why });
        }
        history.set_baselines(&lock, baselines).unwrap();
        let alarms = ended.cells.iter().filter(|(_, cell)| cell.alarm).map(|(key, _)| key.clone()).collect();
        history.append(&lock, Line::Ended(Box::new(ended))).unwrap();
        history.collect(&lock).unwrap();
        self.week += 1;
        alarms
    }
}

#[test]
fn noise_is_hardly_an_alarm_and_three_points_are_found() {
    let (weeks, trials) = if slow_tests() { (200, 40) } else { (10, 12) };
    let mut lab = Lab::new(3000, 3, 42);
    let (alarms, found) = lab.noise_and_losses(weeks, trials, 6);
    assert!(alarms * 20 <= weeks.max(20), "{alarms} alarms in {weeks} rebuilds of noise");
    assert!(found * 100 >= trials * 95, "{found} of {trials}");
}

/// Test sets and noise as they are in practice: noise is hardly ever an alarm in any of them, and the larger the test set, the surer is a
/// loss found.
#[test]
fn small_test_sets_and_few_seeds_alarm_no_more() {
    if !slow_tests() {
        println!("note: left out; RUN_SLOW_TESTS=1 runs it");
        return;
    }
    // Utterances, noise, seeds; share of losses of three points that must be found.
    let settings = [(110, 0.012, 5, 0), (300, 0.008, 1, 0), (300, 0.008, 5, 40), (3000, 0.005, 3, 95), (10_000, 0.003, 3, 95)];
    for (utterances, sigma, seeds, share) in settings {
        let (weeks, trials) = (40, 40);
        let mut lab = Lab::new(utterances, seeds, 42);
        lab.sigma = sigma;
        print!("{utterances} utterances, sigma {sigma}, {seeds} seeds: ");
        let (alarms, found) = lab.noise_and_losses(weeks, trials, 42);
        assert!(alarms * 20 <= weeks, "{alarms} alarms in {weeks} rebuilds of noise");
        assert!(found * 100 >= trials * share, "{found} of {trials}");
    }
}

#[test]
fn a_creeping_loss_is_found_within_twelve_weeks() {
    let mut lab = Lab::new(1000, 5, 6);
    for _ in 0..8 {
        assert_eq!(lab.week(), [""; 0]);
    }
    let key = format!("{} fsdd {}", TASKS[0], METHODS[0]);
    let found = (1..=12).find(|_| {
        lab.loss += 0.3 * SIGMA;
        lab.week().contains(&key)
    });
    println!("CREEPING loss of 0.3 sigma a week found in week {found:?}");
    assert!(found.is_some());
}

#[test]
fn twenty_planted_changes_get_their_causes() {
    let mut lab = Lab::new(200, 2, 1);
    lab.week();
    let history = History::read(lab.folder.path()).unwrap();
    let base = {
        let mut results = lab.results(&history);
        let cell = results.cells.values_mut().next().unwrap();
        cell.lineage.program = "commit0 x".to_owned();
        results
    };
    // Kind of the field, then the cause that it names.
    let fields = [
        ("manifest/source.corpora.fsdd", "data"),
        ("shards/source.corpora.fsdd", "data"),
        ("lexicon/source.lexicons.cmu", "data"),
        ("published/source.checkpoints.base", "data"),
        ("targets/source.corpora.fsdd", "data"),
        ("train/param.learning_rate", "settings"),
        ("train/param.method.rank", "settings"),
        ("shards/param.sample_rate", "settings"),
        ("evaluate/param.decoding.name", "settings"),
        ("filter/stage", "settings"),
        ("train/version", "code"),
        ("shards/environment.ffmpeg", "library"),
        ("train/environment.libtorch", "library"),
        ("evaluate/environment.libtorch", "library"),
    ];
    let mut right = 0;
    let mut check = |change: &dyn Fn(&mut Lineage), expected: &str| {
        let mut results = base.clone();
        results.sources.insert("corpora.fsdd".to_owned(), Source::default());
        change(&mut results.cells.values_mut().next().unwrap().lineage);
        let rule = Rule::default();
        let judged = Judge::new(&history, &rule, &results).judge();
        let cell = judged.cells.values().next().unwrap();
        let found: Vec<&str> = cell.causes.iter().map(|cause| cause.kind.as_str()).collect();
        assert_eq!(found, [expected], "{:?}", cell.causes);
        right += 1;
    };
    for (field, expected) in fields {
        check(&|lineage| _ = lineage.fields.insert(field.to_owned(), "2".to_owned()), expected);
    }
    for (program, machine, expected) in [
        ("commit1 x", "m", "code without a version"),
        ("commit0 y", "m", "code without a version"),
        ("commit1 y", "n", "code without a version"),
        ("commit0 x", "n", "hardware"),
        ("commit0 x", "m, GPU", "hardware"),
        ("commit0 x", "m", "not repeatable"),
    ] {
        check(&|lineage| (lineage.program, lineage.machine) = (program.to_owned(), machine.to_owned()), expected);
    }
    assert_eq!(right, 20);
}

/// Results of one voice by one further metric: five seeds of 60 utterances whose distortions are about `mcd` dB.
fn voice(lab: &mut Lab, history: &History, id: &str, mcd: f64) -> Results {
    let scratch = tempfile::tempdir().unwrap();
    let mut results = lab.results(history);
    id.clone_into(&mut results.id);
    let (_, mut cell) = results.cells.pop_first().unwrap();
    results.cells.clear();
    cell.metric = Some(Metric::Mcd);
    cell.others.insert(METRIC.to_owned(), "mcd".to_owned());
    for (number, seed) in cell.seeds.values_mut().enumerate() {
        let values: Vec<f64> = (0..60)
            .map(|at| mcd + 0.02 * number as f64 + 0.4 * (f64::from(at) / 7.0).sin() + 0.05 * lab.random.normal())
            .collect();
        let ratios = values.iter().map(|&part| Ratio { part, whole: 1.0 }).collect();
        let evidence = Evidence {
            ids: (0..60).map(|at| format!("u{at:05}")).collect(),
            ratios: BTreeMap::from([(Metric::Mcd, ratios)]),
            ..Evidence::default()
        };
        let path = scratch.path().join("e.parquet");
        evidence::write(&path, &evidence).unwrap();
        seed.evidence = history.keep(&std::fs::read(&path).unwrap()).unwrap();
        seed.value = values.iter().sum::<f64>() / 60.0;
    }
    results.cells.insert("speech_synthesis libritts lora metric=mcd".to_owned(), cell);
    results
}

#[test]
fn a_voice_that_is_farther_from_recordings_is_worse() {
    for (after, expected) in [(4.5, Verdict::Worse), (3.5, Verdict::Better), (4.0, Verdict::Moved), (4.03, Verdict::Moved)] {
        let mut lab = Lab::new(60, 5, 1);
        lab.week();
        let lock = History::lock(lab.folder.path()).unwrap().unwrap();
        let mut history = History::read(lab.folder.path()).unwrap();
        let rule = Rule::default();
        let first = voice(&mut lab, &history, "first", 4.0);
        let judged = Judge::new(&history, &rule, &first).judge();
        let mut ended = history.log.ended().next_back().unwrap().clone();
        ended.id = "first".to_owned();
        (ended.cells, ended.detail) = (judged.cells, Some(history.keep(&serde_json::to_vec(&judged.detail).unwrap()).unwrap()));
        history.append(&lock, Line::Ended(Box::new(ended))).unwrap();
        let now = voice(&mut lab, &history, "second", after);
        let judged = Judge::new(&history, &rule, &now).judge();
        let cell = &judged.cells["speech_synthesis libritts lora metric=mcd"];
        assert_eq!(cell.last.verdict, expected, "{after}: {:?}", cell.last);
        assert_eq!(judged.to_confirm.len(), usize::from(expected == Verdict::Worse), "the cause is no setting");
    }
}

#[test]
fn results_that_stay_are_not_judged_and_missing_evidence_is_told() {
    let mut lab = Lab::new(100, 3, 6);
    lab.week();
    let history = History::read(lab.folder.path()).unwrap();
    let last = history.log.ended().next_back().unwrap().clone();
    let detail = history.detail(last.detail.as_ref().unwrap()).unwrap();
    let mut same = lab.results(&history);
    for (key, cell) in &mut same.cells {
        for (seed, result) in &mut cell.seeds {
            let known = &last.cells[key];
            *result = SeedNow {
                value: known.values[seed],
                evidence: known.evidence[seed].clone(),
                detail: detail.cells[key].seeds[seed].clone(),
            };
        }
    }
    let rule = Rule::default();
    let judged = Judge::new(&history, &rule, &same).judge();
    assert!(judged.cells.values().all(|cell| cell.last.verdict == Verdict::Same && cell.since == last.id), "{:?}", judged.cells);
    assert!(judged.to_confirm.is_empty() && judged.new_baselines.is_empty() && judged.notices.is_empty());
    assert_eq!(judged.detail, detail, "what made the results is kept, so that the details are the same blob");

    // Killed between the baseline and the end of its rebuild: the baseline is of no rebuild, and the next one replaces it.
    let mut broken = History::read(lab.folder.path()).unwrap();
    broken.baselines.values_mut().for_each(|baseline| "gone".clone_into(&mut baseline.rebuild));
    assert_eq!(Judge::new(&broken, &rule, &same).judge().new_baselines.len(), 6);

    // One blob of evidence is gone: its cell is not judged, the others are.
    let other = lab.results(&history);
    let gone = &last.cells.values().next().unwrap().evidence["1"];
    std::fs::remove_file(lab.folder.path().join("blobs").join(&gone[..2]).join(&gone[2..])).unwrap();
    let judged = Judge::new(&history, &rule, &other).judge();
    let verdicts: Vec<Verdict> = judged.cells.values().map(|cell| cell.last.verdict).collect();
    assert_eq!(verdicts[0], Verdict::NotJudged);
    assert!(verdicts[1..].iter().all(|verdict| *verdict != Verdict::NotJudged), "{verdicts:?}");
    assert!(judged.notices[0].contains(gone), "{:?}", judged.notices);

    // A cell that is gone, one that failed, and one that is new.
    let mut changed = lab.results(&history);
    let keys: Vec<String> = changed.cells.keys().cloned().collect();
    let cell = changed.cells.remove(&keys[1]).unwrap();
    changed.cells.insert("new fsdd lora".to_owned(), cell);
    let failed = changed.cells.get_mut(&keys[2]).unwrap();
    (failed.seeds, failed.metric, failed.failed) = (BTreeMap::new(), None, Some("train: no memory".to_owned()));
    let judged = Judge::new(&history, &rule, &changed).judge();
    let verdict = |key: &str| judged.cells[key].last.verdict;
    assert_eq!((verdict(&keys[1]), verdict(&keys[2]), verdict("new fsdd lora")), (Verdict::Gone, Verdict::Failed, Verdict::New));
    assert_eq!(judged.new_baselines.keys().collect::<Vec<_>>(), ["new fsdd lora"]);
}
