//! Trainings of a tiny model on a handful of tones.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod python;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use audio::schema::{Row, ShardWriter};
use audio::wav::write_pcm16;
use datasets::shard::RowInfo;
use datasets::{Annotation, Split};
use neural::models::Model;
use neural::models::encoder::random;
use neural::train::{Summary, run};
use neural_spec::{ConvNorm, Decoding, EncoderShape, Evaluate, RandomEncoder, Train};
use pipeline::protocol::FORMAT;
use pipeline::{Digest, Input, Inputs, Job, JobProgress, Places, Spare, Stage, StageError, Stop, Tools};
use python::{python, root};
use serde_json::json;
use tasks::targets::{Target, write_targets};
use tasks::{Outputs, Protocol, Task, TaskFile, Vocabulary};
use tempfile::TempDir;

const RATE: u32 = 16_000;
const LABELS: [&str; 3] = ["low", "middle", "high"];

/// A corpus, an encoder, and room for what trainings leave.
struct Fixture {
    root: TempDir,
    /// libtorch's seed belongs to the whole process, so trainings take turns.
    _turn: MutexGuard<'static, ()>,
}

/// Asks for a stop at the first report of progress from some step on.
#[derive(Debug)]
struct StopAt {
    stop: Stop,
    step: u64,
}

impl JobProgress for StopAt {
    fn tick(&self, done: u64, _: u64, _: &str, _: &str) {
        if done >= self.step {
            self.stop.request();
        }
    }
    fn note(&self, _: &str) {}
    fn fact(&self, _: &str, _: serde_json::Value) {}
}

impl Fixture {
    fn new() -> Self {
        Self::with_clip(|row| tone(row % 3, 900 + 137 * row))
    }

    /// A corpus of 18 + 6 + 6 clips; `clip` gives the samples of each.
    fn with_clip(clip: impl Fn(usize) -> Vec<i16>) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let bench = Self { root: tempfile::tempdir().unwrap(), _turn: turn };
        let outputs = Outputs::Classes { labels: LABELS.map(str::to_owned).to_vec() };
        bench.describe(Task::named("keyword_spotting").unwrap(), outputs, |row, _| {
            (vec![row as i64 % 3], LABELS[row % 3].to_owned())
        });
        let names: Vec<String> = LABELS.iter().map(|&label| label.to_owned()).collect();
        for (split, rows) in [(Split::Train, 0..18), (Split::Dev, 18..24), (Split::Test, 24..30)] {
            let mut shard = ShardWriter::create(&bench.path(&format!("{split}.parquet")), &names, RATE).unwrap();
            for row in rows {
                let samples = clip(row);
                let id = format!("clip-{row:02}");
                let annotation = Annotation {
                    label: Some(names[row % 3].clone()),
                    speaker: Some(format!("speaker-{}", row % 3)),
                    ..Annotation::default()
                };
                let (num_samples, class) = (samples.len(), Some(row as u32 % 3));
                shard
                    .push(Row {
                        bytes: write_pcm16(RATE, &samples),
                        path: format!("{id}.wav"),
                        split,
                        info: RowInfo { id, num_samples, sample_rate: RATE, class, annotation },
                        source_path: String::new(),
                        source_sample_rate: RATE,
                        source_channels: 1,
                    })
                    .unwrap();
            }
            shard.finish().unwrap();
        }
        fs::create_dir(bench.path("encoder")).unwrap();
        random::write(&RandomEncoder { shape: shape(), seed: 5 }, &bench.path("encoder")).unwrap();
        bench
    }

    /// Says what is to be learned: `target` gives tokens or classes, and text, of each clip.
    fn describe(&self, task: Task, outputs: Outputs, target: impl Fn(usize, &Outputs) -> (Vec<i64>, String)) {
        for (split, rows) in [("train", 0..18), ("dev", 18..24), ("test", 24..30)] {
            let of = |row: usize| {
                let (target, text) = target(row, &outputs);
                Target { id: format!("clip-{row:02}"), target, text }
            };
            write_targets(&self.path(&format!("{split}_targets.parquet")), &rows.map(of).collect::<Vec<_>>()).unwrap();
        }
        let protocol = Protocol::Sound;
        TaskFile { task, name: None, protocol, outputs, clips: task.clips(protocol, false) }.write(self.root.path()).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn job(&self, out: &str, resume: &str, stop_at: u64) -> Job {
        let input = |name: &str| vec![Input { path: self.path(name), point: BTreeMap::new(), partition: None }];
        let slots = [
            ("train", "train.parquet"),
            ("dev", "dev.parquet"),
            ("test", "test.parquet"),
            ("train_targets", "train_targets.parquet"),
            ("dev_targets", "dev_targets.parquet"),
            ("targets", "test_targets.parquet"),
            ("task", "task.json"),
            ("encoder", "encoder"),
            ("model", "trained"),
        ];
        let _ = fs::remove_dir_all(self.path(out));
        fs::create_dir(self.path(out)).unwrap();
        let stop = Stop::default();
        Job {
            inputs: Inputs(slots.iter().map(|&(slot, name)| (slot.to_owned(), input(name))).collect()),
            sources: BTreeMap::new(),
            places: Places::default(),
            partition: None,
            out: self.path(out),
            resume: self.path(resume),
            threads: 1,
            spare: Spare::default(),
            tools: Tools::default(),
            gpu: None,
            others: vec![],
            progress: Box::new(StopAt { stop: stop.clone(), step: stop_at }),
            stop,
        }
    }

    /// Trains in a worker process of its own and kills it at the first report from step `kill_at` on. True when it ended by itself.
    fn train_in_worker(&self, params: &Train, out: &str, kill_at: u64) -> bool {
        let mut worker = self.start_worker(params, out, 1);
        let mut last = serde_json::Value::Null;
        for line in BufReader::new(worker.stdout.take().unwrap()).lines() {
            last = serde_json::from_str(&line.unwrap()).unwrap();
            if last["event"] == "tick" && last["done"].as_u64().unwrap() >= kill_at {
                worker.kill().unwrap(); // SIGKILL
                worker.wait().unwrap();
                return false;
            }
        }
        worker.wait().unwrap();
        assert_eq!(last["event"], "done", "{last}");
        true
    }

    /// Starts a training in a worker process, on `devices` devices, each a process on the CPU.
    fn start_worker(&self, params: &Train, out: &str, devices: usize) -> Child {
        let job = self.job(out, &format!("{out}.resume"), u64::MAX);
        // The worker finds its inputs by digest: here one artifact that contains the files of all slots.
        let (artifact, objects) = (Digest([7; 32]), self.path("objects"));
        let folder = artifact.folder_in(&objects);
        fs::create_dir_all(folder.parent().unwrap()).unwrap();
        if !folder.exists() {
            std::os::unix::fs::symlink(self.root.path(), &folder).unwrap();
        }
        let part = |input: &Input| input.path.file_name().unwrap().to_str().unwrap().to_owned();
        let reference = |input: &Input| json!([{"artifact": artifact, "part": part(input), "point": {}, "partition": null}]);
        let inputs: BTreeMap<&String, _> = job.inputs.0.iter().map(|(slot, list)| (slot, reference(&list[0]))).collect();
        let request = json!({
            "format": FORMAT, "kind": Train::KIND, "version": Train::VERSION, "environment": {"libtorch": neural_spec::LIBTORCH},
            "params": params, "inputs": inputs, "sources": {}, "partition": null,
            "site": {"objects": objects, "places": {}, "tools": {}, "out": job.out, "resume": job.resume, "threads": 1, "gpu": null,
                "others": vec![(); devices - 1]},
        });
        let program = env!("CARGO_BIN_EXE_sure-neural");
        let worker = Command::new(program).arg("run").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        writeln!(worker.stdin.as_ref().unwrap(), "{request}").unwrap(); // it stays open: when it closes, the worker exits
        worker
    }

    fn train(&self, params: &Train, out: &str) -> Summary {
        assert_eq!(params.check(), []);
        run(params, &self.job(out, &format!("{out}.resume"), u64::MAX)).unwrap();
        Summary::read(&self.path(out)).unwrap()
    }
}

/// A tone with two overtones whose pitch tells the class.
fn tone(class: usize, num_samples: usize) -> Vec<i16> {
    let pitch = [300.0, 700.0, 1500.0][class];
    let wave = |t: f64| (1..=3).map(|k| (std::f64::consts::TAU * pitch * f64::from(k) * t).sin() / f64::from(k)).sum::<f64>();
    (0..num_samples).map(|n| (8000.0 * wave(n as f64 / f64::from(RATE))) as i16).collect()
}

fn shape() -> EncoderShape {
    EncoderShape {
        hidden_size: 16,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        intermediate_size: 32,
        conv_dim: vec![8, 8, 8],
        conv_kernel: vec![10, 8, 4],
        conv_stride: vec![5, 8, 4],
        conv_bias: true,
        feat_extract_norm: ConvNorm::Layer,
        do_stable_layer_norm: true,
        num_conv_pos_embeddings: 4,
        num_conv_pos_embedding_groups: 2,
        hidden_dropout: 0.1,
        attention_dropout: 0.1,
        activation_dropout: 0.1,
        feat_proj_dropout: 0.1,
        layerdrop: 0.1,
        mask_time_prob: 0.1,
        mask_time_length: 2,
        mask_time_min_masks: 1,
        mask_feature_prob: 0.0,
        mask_feature_length: 10,
    }
}

fn params(change: serde_json::Value) -> Train {
    let mut value = json!({
        "method": {"name": "finetune", "scope": "all"},
        "head": {"name": "classification", "projector_size": 8},
        "learning_rate": 3e-3,
        "epochs": 5,
        "batch_secs": 0.7,
        "accumulation": 2,
        "weight_decay": 0.01,
        "metric": "loss",
        "precision": "fp32",
        "seed": 3,
    });
    let serde_json::Value::Object(change) = change else { panic!("an object") };
    value.as_object_mut().unwrap().extend(change);
    serde_json::from_value(value).unwrap()
}

fn lora() -> serde_json::Value {
    json!({"method": {"name": "lora", "rank": 2, "alpha": 4, "dropout": 0.1, "targets": ["q_proj", "v_proj"], "rslora": false}})
}

/// Every file under a folder with its bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[track_caller]
fn same_files(a: &Path, b: &Path) {
    let (a, b) = (files(a), files(b));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, bytes) in &a {
        assert!(*bytes == b[name], "{} differs", name.display());
    }
}

#[test]
fn the_same_training_twice_leaves_the_same_bytes() {
    let bench = Fixture::new();
    bench.train(&params(json!({"max_steps": 10, "epochs": null})), "a");
    bench.train(&params(json!({"max_steps": 10, "epochs": null})), "b");
    same_files(&bench.path("a"), &bench.path("b"));
}

#[test]
fn stopped_and_resumed_equals_never_stopped() {
    let adalora = json!({"method": {"name": "adalora", "rank": 1, "init_rank": 3, "tinit": 2, "tfinal": 2, "delta_t": 2}});
    let pissa = json!({"method": {"name": "lora", "rank": 2, "pissa": true}, "threads": 2});
    for change in [json!({}), lora(), adalora, pissa] {
        let bench = Fixture::new();
        let params = params(change);
        let whole = bench.train(&params, "whole");
        assert!(whole.steps > 6);
        // Ticks come at most every so often, so the stop falls on some later step; wherever it does, the end is the same.
        let mut stops = 0;
        for step in [1, 4] {
            match run(&params, &bench.job("parts", "resume", step)) {
                Err(StageError::Stopped) => stops += 1,
                other => other.unwrap(),
            }
        }
        assert!(stops > 0);
        run(&params, &bench.job("parts", "resume", u64::MAX)).unwrap();
        same_files(&bench.path("whole"), &bench.path("parts"));
    }
}

#[test]
fn adalora_ends_with_the_ranks_that_it_was_asked_for() {
    let bench = Fixture::new();
    let method = json!({"name": "adalora", "rank": 1, "init_rank": 3, "tinit": 2, "tfinal": 3});
    let change = json!({"method": method, "epochs": null, "max_steps": 12, "eval_every": 12});
    bench.train(&params(change), "trained");
    let config: serde_json::Value =
        serde_json::from_slice(&fs::read(bench.path("trained/adapter/adapter_config.json")).unwrap()).unwrap();
    let pattern = config["rank_pattern"].as_object().unwrap();
    let kept = pattern.values().flat_map(|ranks| ranks.as_array().unwrap()).filter(|kept| **kept == true).count();
    assert_eq!((pattern.len(), kept), (12, 12), "two layers of six, one rank each in the mean");
    assert_eq!((&config["total_step"], &config["tinit"], &config["tfinal"]), (&json!(12), &json!(2), &json!(3)));

    let method = json!({"name": "adalora", "tinit": 900, "tfinal": 900});
    let error = run(&params(json!({"method": method})), &bench.job("a", "a.resume", u64::MAX)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("`tinit` and `tfinal` of `adalora` leave no update of"), "{text}");
}

/// Kills trainings of this many steps at random ones, and compares the end with that of one that nobody killed.
#[expect(clippy::print_stderr, reason = "says aloud what it leaves out")]
fn kill_and_compare(bench: &Fixture, params: &Train, num_steps: usize, seed: u64) {
    let kills = if std::env::var_os("RUN_SLOW_TESTS").is_some() { 10 } else { 2 };
    eprintln!("{kills} kills; RUN_SLOW_TESTS=1 for ten");
    assert!(bench.train_in_worker(params, "whole", u64::MAX));
    let mut rng = neural::nn::random::Rng::new(seed);
    let mut steps: Vec<u64> = (0..kills).map(|_| 1 + rng.below(num_steps - 10) as u64).collect();
    steps.sort_unstable();
    for step in steps {
        bench.train_in_worker(params, "parts", step);
    }
    assert!(bench.train_in_worker(params, "parts", u64::MAX));
    same_files(&bench.path("whole"), &bench.path("parts"));
}

#[test]
fn killed_at_random_steps_and_resumed_equals_never_killed() {
    let bench = Fixture::new();
    let params = params(json!({"epochs": null, "max_steps": 400, "eval_every": 50, "keep_checkpoints": 3}));
    kill_and_compare(&bench, &params, 400, 7);
    assert_eq!(fs::read_dir(bench.path("parts/checkpoints")).unwrap().count(), 3);
}

#[test]
fn texts_killed_at_random_steps_end_the_same_too() {
    let bench = spelling(letter);
    let head = json!({"name": "ctc", "dropout": 0.1, "layer_sum": true});
    kill_and_compare(&bench, &ctc(&json!({"epochs": null, "max_steps": 300, "eval_every": 50, "head": head})), 300, 8);
}

/// Messages of a worker until its end, or until one that `enough` accepts.
fn listen(worker: &mut impl BufRead, enough: impl Fn(&serde_json::Value) -> bool) -> Vec<serde_json::Value> {
    let mut messages = vec![];
    for line in worker.lines() {
        messages.push(serde_json::from_str(&line.unwrap()).unwrap());
        if enough(messages.last().unwrap()) {
            break;
        }
    }
    messages
}

fn output(worker: &mut Child) -> BufReader<ChildStdout> {
    BufReader::new(worker.stdout.take().unwrap())
}

/// True if a process has ended, whether or not anybody waited for it.
fn has_ended(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.is_empty() || rest.trim_start().starts_with('Z'))
}

/// Processes that a worker started.
fn started_by(worker: &Child) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", worker.id())).unwrap();
    let lists = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default());
    lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn several_devices_leave_the_bytes_of_one() {
    let adalora = json!({"method": {"name": "adalora", "rank": 1, "init_rank": 3, "tinit": 2, "tfinal": 2, "delta_t": 2}});
    let pissa =
        json!({"method": {"name": "lora", "rank": 2, "pissa": true}, "threads": 2, "accumulation": 3, "keep_checkpoints": 2});
    let bf16 = json!({"precision": "bf16", "accumulation": 5});
    for (change, devices) in [(json!({}), 2), (adalora, 2), (pissa, 2), (bf16, 3)] {
        let bench = Fixture::new();
        let params = params(change);
        assert!(bench.train_in_worker(&params, "one", u64::MAX));
        let mut worker = bench.start_worker(&params, "several", devices);
        let messages = listen(&mut output(&mut worker), |_| false);
        let device = messages.iter().find(|message| message["name"] == "device").unwrap();
        assert_eq!(device["value"], vec!["cpu"; devices].join(", "));
        assert_eq!(messages.last().unwrap()["event"], "done", "{messages:?}");
        assert!(worker.wait().unwrap().success());
        same_files(&bench.path("one"), &bench.path("several"));
    }
}

/// True for a report of progress from a step on.
fn is_at(message: &serde_json::Value, step: u64) -> bool {
    message["event"] == "tick" && message["done"].as_u64().unwrap() >= step
}

#[test]
fn a_training_that_is_killed_leaves_no_device_behind_and_resumes_on_any_number_of_them() {
    let bench = Fixture::new();
    let params = params(json!({"epochs": null, "max_steps": 400, "eval_every": 50}));
    assert!(bench.train_in_worker(&params, "whole", u64::MAX));
    for (devices, step) in [(2, 40), (1, 150), (2, 300)] {
        let mut worker = bench.start_worker(&params, "parts", devices);
        listen(&mut output(&mut worker), |message| is_at(message, step));
        let others = started_by(&worker);
        assert_eq!(others.len(), devices - 1);
        worker.kill().unwrap(); // SIGKILL
        worker.wait().unwrap();
        wait_until(|| others.iter().all(|pid| has_ended(pid)));
    }
    assert!(bench.train_in_worker(&params, "parts", u64::MAX));
    same_files(&bench.path("whole"), &bench.path("parts"));
}

#[test]
fn a_device_that_is_killed_ends_the_training_with_its_name() {
    let bench = Fixture::new();
    let params = params(json!({"epochs": null, "max_steps": 4000, "eval_every": 1000, "accumulation": 3}));
    let mut worker = bench.start_worker(&params, "out", 3);
    let mut messages = output(&mut worker);
    listen(&mut messages, |message| is_at(message, 10));
    let others = started_by(&worker);
    let [_, third] = &others[..] else { panic!("{others:?}") };
    assert!(Command::new("kill").args(["-9", third]).status().unwrap().success());
    let last = listen(&mut messages, |_| false).pop().unwrap();
    assert_eq!((&last["event"], &last["transient"]), (&json!("failed"), &json!(true)), "{last}");
    let text = last["chain"][0].as_str().unwrap();
    assert_eq!(text, "device 3 of 3 (cpu) of this training ended early: signal: 9 (SIGKILL)");
    assert!(!worker.wait().unwrap().success());
    wait_until(|| others.iter().all(|pid| has_ended(pid)));
}

#[test]
fn devices_beyond_the_micro_batches_of_an_update_are_not_used_and_a_loss_that_is_not_finite_ends_all() {
    let bench = Fixture::new();
    let mut worker =
        bench.start_worker(&params(json!({"learning_rate": 1e9, "max_grad_norm": 1e9, "weight_decay": 0})), "out", 3);
    let messages = listen(&mut output(&mut worker), |_| false);
    worker.wait().unwrap();
    let note =
        messages.iter().find(|message| message["event"] == "note" && message["line"].to_string().contains("devices")).unwrap();
    assert!(note["line"].as_str().unwrap().starts_with("of its 3 devices this training uses 2: "), "{note}");
    let last = messages.last().unwrap();
    assert!(last["event"] == "failed" && last["chain"][0].as_str().unwrap().contains("gave loss"), "{last}");
}

/// Waits for what must happen soon.
#[track_caller]
fn wait_until(happened: impl Fn() -> bool) {
    for _ in 0..1000 {
        if happened() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("not within ten seconds");
}

#[test]
fn sixteen_bits_learn_too_and_leave_what_is_frozen_as_it_was() {
    let bench = Fixture::new();
    let change = json!({"epochs": 12, "learning_rate": 5e-3, "weight_decay": 0});
    let mut losses = vec![];
    for precision in ["fp32", "bf16"] {
        let mut params = params(change.clone());
        params.precision = serde_json::from_value(precision.into()).unwrap();
        losses.push(bench.train(&params, precision).best_value.unwrap());
    }
    assert!((losses[0] - losses[1]).abs() < 0.15, "{losses:?}");
    // Frozen convolutions and, with an adapter, the whole encoder are as they came.
    let start = files(&bench.path("encoder"));
    let mut frozen = params(json!({"method": {"name": "finetune", "scope": "all_but_conv"}, "epochs": 2}));
    frozen.precision = neural_spec::Precision::Bf16;
    bench.train(&frozen, "frozen");
    let read = |bytes: &[u8]| -> BTreeMap<String, Vec<u8>> {
        let tensors = safetensors::SafeTensors::deserialize(bytes).unwrap();
        let conv = tensors.tensors().into_iter().filter(|(name, _)| name.contains("feature_extractor"));
        conv.map(|(name, view)| (name.trim_start_matches("wav2vec2.").to_owned(), view.data().to_vec())).collect()
    };
    let trained = fs::read(bench.path("frozen/checkpoint/model.safetensors")).unwrap();
    let before = read(&start[Path::new("model.safetensors")]);
    assert!(!before.is_empty());
    assert_eq!(read(&trained), before);
}

#[test]
fn sixteen_bits_resume_too() {
    let bench = Fixture::new();
    let params = params(json!({"precision": "bf16"}));
    bench.train(&params, "whole");
    assert!(matches!(run(&params, &bench.job("parts", "resume", 1)), Err(StageError::Stopped)));
    run(&params, &bench.job("parts", "resume", u64::MAX)).unwrap();
    same_files(&bench.path("whole"), &bench.path("parts"));
}

#[test]
fn parts_of_a_batch_do_not_depend_on_the_threads_that_compute_them() {
    for mut change in [json!({"epochs": 2}), lora()] {
        change["threads"] = json!(3);
        let bench = Fixture::new();
        for (out, threads) in [("one", 1), ("two", 2)] {
            let job = Job { threads, ..bench.job(out, &format!("{out}.resume"), u64::MAX) };
            run(&params(change.clone()), &job).unwrap();
        }
        same_files(&bench.path("one"), &bench.path("two"));
    }
}

#[test]
fn without_noise_a_batch_in_parts_is_that_batch() {
    let bench = Fixture::new();
    let path = bench.path("encoder/config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (name, value) in config.as_object_mut().unwrap() {
        if name.ends_with("dropout") || name == "layerdrop" {
            *value = json!(0.0);
        }
    }
    config["apply_spec_augment"] = json!(false);
    fs::write(&path, config.to_string()).unwrap();
    let curve = |threads: u32| {
        let summary = bench.train(&params(json!({"epochs": 3, "threads": threads})), &format!("on {threads}"));
        summary.curve.iter().map(|evaluation| evaluation.train_loss).collect::<Vec<_>>()
    };
    let (whole, parts) = (curve(1), curve(2));
    assert!(whole.len() == 3 && whole[2] < whole[0], "{whole:?}");
    for (a, b) in whole.iter().zip(&parts) {
        assert!((a - b).abs() < 1e-4 * a, "{whole:?} {parts:?}");
    }
}

#[test]
fn layers_computed_again_change_no_bit() {
    for change in [json!({"epochs": 2}), lora()] {
        let bench = Fixture::new();
        let mut params = params(change);
        bench.train(&params, "kept");
        params.gradient_checkpointing = true;
        bench.train(&params, "again");
        same_files(&bench.path("kept"), &bench.path("again"));
    }
}

#[test]
fn one_batch_is_learned_by_heart() {
    let bench = Fixture::new();
    let change = json!({"overfit_batch": true, "epochs": null, "max_steps": 150, "learning_rate": 5e-3, "accumulation": 1, "eval_every": 75});
    let summary = bench.train(&params(change), "trained");
    assert_eq!(summary.steps, 150);
    let events = fs::read(bench.path("trained/events").join(neural::tensorboard::FILE_NAME)).unwrap();
    assert!(!events.is_empty());
    assert!(summary.curve[1].train_loss < 0.2, "{:?}", summary.curve);
}

#[test]
fn tensorboard_reads_what_was_measured() {
    let Some(python) = python() else { return };
    let bench = Fixture::new();
    let summary = bench.train(&params(json!({"epochs": null, "max_steps": 20, "eval_every": 10})), "trained");
    let asked =
        Command::new(python).arg(root().join("tests/compat/events.py")).arg(bench.path("trained/events")).output().unwrap();
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    let scalars: BTreeMap<String, Vec<(u64, f64)>> = serde_json::from_slice(&asked.stdout).unwrap();
    let steps = |tag: &str| scalars.get(tag).unwrap_or_else(|| panic!("{:?}", scalars.keys())).iter().map(|(step, _)| *step);
    for tag in ["train/loss", "train/learning_rate", "train/gradient_norm"] {
        assert!(steps(tag).eq(1..=20), "{tag}: {:?}", scalars[tag]);
    }
    assert!(steps("dev/accuracy").eq([10, 20]));
    for (point, (_, read)) in summary.curve.iter().zip(&scalars["dev/accuracy"]) {
        assert!((point.value("accuracy") - read).abs() < 1e-5, "{read}");
    }
}

#[test]
fn with_rare_saves_the_best_is_a_saved_point() {
    let bench = Fixture::new();
    let change = json!({"epochs": null, "max_steps": 20, "eval_every": 2, "save_every": 8});
    let summary = bench.train(&params(change), "trained");
    assert!([8, 16].contains(&summary.best_step), "{}", summary.best_step);
    assert_eq!(summary.curve.len(), 10);
}

#[test]
fn a_metric_of_another_task_is_refused() {
    let bench = Fixture::new();
    let error = run(&params(json!({"metric": "wer"})), &bench.job("out", "resume", u64::MAX)).unwrap_err();
    assert!(error.to_string().contains("`wer` is not measured") && error.to_string().contains("accuracy"), "{error}");
}

#[test]
fn a_torn_state_is_set_aside_and_the_end_is_the_same() {
    let bench = Fixture::new();
    let params = params(json!({}));
    bench.train(&params, "whole");
    assert!(matches!(run(&params, &bench.job("parts", "resume", 1)), Err(StageError::Stopped)));
    let state = bench.path("resume/state");
    let bytes = fs::read(&state).unwrap();
    fs::write(&state, &bytes[..bytes.len() / 2]).unwrap();
    run(&params, &bench.job("parts", "resume", u64::MAX)).unwrap();
    assert!(bench.path("resume/state.damaged").exists());
    same_files(&bench.path("whole"), &bench.path("parts"));
}

#[test]
fn frozen_weights_keep_every_bit() {
    let bench = Fixture::new();
    let params = params(lora());
    bench.train(&params, "trained");
    fs::create_dir(bench.path("fresh")).unwrap();
    let fresh = Model::new(&bench.path("encoder"), &params.method, &params.head, 3, 3, tch::Device::Cpu).unwrap();
    fresh.save(&bench.path("fresh"), &LABELS.map(str::to_owned)).unwrap();
    let (trained, fresh) = (files(&bench.path("trained/adapter")), files(&bench.path("fresh/adapter")));
    let [origin, weights] = ["sure.json", "adapter_model.safetensors"].map(PathBuf::from);
    // The origin holds a digest of the encoder as it was when the adapter was saved.
    let origin: serde_json::Value = serde_json::from_slice(&trained[&origin]).unwrap();
    let untouched: serde_json::Value = serde_json::from_slice(&fresh[Path::new("sure.json")]).unwrap();
    assert!(!origin["base"].is_null());
    assert_eq!(origin, untouched);
    assert!(trained[&weights] != fresh[&weights]);
}

#[test]
fn a_small_set_is_learned_by_heart() {
    let bench = Fixture::new();
    fs::copy(bench.path("train.parquet"), bench.path("dev.parquet")).unwrap();
    fs::copy(bench.path("train_targets.parquet"), bench.path("dev_targets.parquet")).unwrap();
    let change = json!({"epochs": 60, "learning_rate": 5e-3, "batch_secs": 4, "accumulation": 1, "metric": "accuracy"});
    let summary = bench.train(&params(change), "trained");
    assert!(summary.best_value.unwrap() > 0.99, "{:?}", summary.curve.last());
}

#[test]
fn evaluation_answers_each_utterance_with_the_parameters_that_were_kept() {
    let bench = Fixture::new();
    let answers = |slot: &str, batch_secs: f64| {
        let mut job = bench.job("answers", "none", u64::MAX);
        let shards = job.inputs.many(slot).to_vec();
        job.inputs.0.insert("test".to_owned(), shards);
        if slot == "dev" {
            let targets = job.inputs.many("dev_targets").to_vec();
            job.inputs.0.insert("targets".to_owned(), targets);
        }
        neural::evaluate::run(&Evaluate { batch_secs, threads: 0, decoding: Decoding::default(), trials: 0 }, &job).unwrap();
        scoring::predictions::read::<scoring::Prediction>(&bench.path("answers").join(scoring::predictions::FILE_NAME)).unwrap()
    };
    for change in [json!({}), lora()] {
        let summary = bench.train(&params(change), "trained");
        let rows = answers("test", 0.5);
        let ids: Vec<_> = rows.iter().map(|row| row.id.clone()).collect();
        assert_eq!(ids, (24..30).map(|row| format!("clip-{row}")).collect::<Vec<_>>());
        assert!(rows.iter().all(|row| row.label_text == LABELS[row.label as usize] && row.loss.is_finite()));

        let rows = answers("dev", 0.7);
        let loss = rows.iter().map(|row| f64::from(row.loss)).sum::<f64>() / rows.len() as f64;
        assert!((loss - summary.best_value.unwrap()).abs() < 1e-6, "{loss}, {:?}", summary.best_value);
        fs::remove_dir_all(bench.path("trained.resume")).unwrap();
    }
}

#[test]
fn patience_ends_a_training_that_does_not_improve() {
    let bench = Fixture::new();
    let summary =
        bench.train(&params(json!({"learning_rate": 1e-12, "metric": "accuracy", "patience": 2, "eval_every": 1})), "trained");
    assert!(summary.stopped_early);
    assert_eq!((summary.steps, summary.best_step), (3, 1));
}

#[test]
fn a_run_away_training_names_its_utterances() {
    let bench = Fixture::new();
    let change = json!({"learning_rate": 1e30, "warmup_ratio": 0, "max_grad_norm": 1e30, "epochs": 50});
    let error = run(&params(change), &bench.job("out", "resume", u64::MAX)).unwrap_err();
    assert!(error.to_string().contains("clip-"), "{error}");
    assert_eq!(files(&bench.path("out")).len(), 0);
}

#[test]
fn absurd_learning_rates_are_refused_or_end_without_harm() {
    let bench = Fixture::new();
    assert_eq!(params(json!({"learning_rate": 0})).check()[0].0, "learning_rate");
    // It either runs away, which is an error that names the clips, or ends with a point that was measured.
    match run(&params(json!({"learning_rate": 1e9})), &bench.job("out", "resume", u64::MAX)) {
        Ok(()) => assert!(Summary::read(&bench.path("out")).unwrap().best_value.is_none_or(f64::is_finite)),
        Err(error) => assert!(error.to_string().contains("clip-"), "{error}"),
    }
}

#[test]
fn clips_shorter_than_a_frame_are_trained_on_too() {
    let bench = Fixture::with_clip(|row| tone(row % 3, if row % 2 == 0 { 30 } else { 1200 }));
    bench.train(&params(json!({"epochs": 2})), "trained");
}

#[test]
fn a_set_without_utterances_is_refused() {
    let bench = Fixture::new();
    write_targets(&bench.path("dev_targets.parquet"), &[]).unwrap();
    let error = run(&params(json!({})), &bench.job("out", "resume", u64::MAX)).unwrap_err();
    assert!(error.to_string().contains("dev set has no utterances"), "{error}");
}

/// A bench whose clips say one letter each, by their pitch.
fn spelling(letters: impl Fn(usize) -> &'static str) -> Fixture {
    let bench = Fixture::with_clip(|row| tone(row % 3, 2400 + 137 * row));
    let vocabulary = Vocabulary::of_characters(["lmh"].into_iter(), &[]);
    bench.describe(Task::named("speech_recognition").unwrap(), Outputs::Tokens(vocabulary), |row, outputs| {
        let Outputs::Tokens(vocabulary) = outputs else { unreachable!("they were given above") };
        (vocabulary.encode(letters(row)), letters(row).to_owned())
    });
    bench
}

fn letter(row: usize) -> &'static str {
    ["l", "m", "h"][row % 3]
}

fn ctc(change: &serde_json::Value) -> Train {
    let mut value = json!({"head": {"name": "ctc"}, "metric": "wer", "batch_secs": 2.0, "accumulation": 1});
    value.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    params(value)
}

#[test]
fn texts_are_learned_and_written_as_they_were_measured() {
    let bench = spelling(letter);
    fs::copy(bench.path("train.parquet"), bench.path("dev.parquet")).unwrap();
    fs::copy(bench.path("train_targets.parquet"), bench.path("dev_targets.parquet")).unwrap();
    let summary = bench.train(&ctc(&json!({"epochs": 600, "eval_every": 75, "learning_rate": 1e-2})), "trained");
    assert!(summary.best_value.unwrap() < 0.2, "{:?}", summary.curve.last());

    let mut job = bench.job("answers", "none", u64::MAX);
    for (slot, from) in [("test", "dev"), ("targets", "dev_targets")] {
        let same = job.inputs.many(from).to_vec();
        job.inputs.0.insert(slot.to_owned(), same);
    }
    for name in ["greedy", "beam"] {
        let beam = json!({"name": "beam", "width": 16, "lm_weight": 0.0, "word_bonus": 0.0});
        let decoding = if name == "beam" { beam } else { json!({"name": "greedy"}) };
        let evaluate: Evaluate = serde_json::from_value(json!({"batch_secs": 1.0, "decoding": decoding})).unwrap();
        neural::evaluate::run(&evaluate, &job).unwrap();
        let path = bench.path("answers").join(scoring::predictions::FILE_NAME);
        let rows = scoring::predictions::read::<scoring::Transcription>(&path).unwrap();
        let wrong = rows.iter().filter(|row| row.reference != row.hypothesis).count() as f64 / rows.len() as f64;
        assert!(wrong < 0.2, "{name}: {rows:?}");
        assert_eq!(rows[0].reference, "l");
    }
}

#[test]
fn texts_resume_like_classes() {
    let bench = spelling(letter);
    let params = ctc(&json!({"epochs": 6, "head": {"name": "ctc", "dropout": 0.1, "layer_sum": true}}));
    bench.train(&params, "whole");
    assert!(matches!(run(&params, &bench.job("parts", "resume", 1)), Err(StageError::Stopped)));
    run(&params, &bench.job("parts", "resume", u64::MAX)).unwrap();
    same_files(&bench.path("whole"), &bench.path("parts"));
}

#[test]
fn texts_longer_than_their_frames_and_empty_ones_harm_nothing() {
    let long = "lmhlmhlmhlmhlmhlmhlmhlmhlmhlmhlmhlmhlmhlmhlmhlmhlmhlmhlmhlmhlmh";
    let bench = spelling(move |row| [long, "", "m"][row % 3]);
    let summary = bench.train(&ctc(&json!({"epochs": 3, "metric": "loss"})), "trained");
    assert!(summary.curve.iter().all(|point| point.train_loss.is_finite()), "{:?}", summary.curve);
    assert!(summary.best_value.unwrap().is_finite());
}

#[test]
fn a_head_of_another_task_and_a_model_of_other_outputs_are_refused() {
    let bench = spelling(letter);
    let error = run(&params(json!({})), &bench.job("out", "resume", u64::MAX)).unwrap_err().to_string();
    assert_eq!(error, "a classification head cannot learn speech_recognition");

    bench.train(&ctc(&json!({"epochs": 1})), "trained");
    let other = Vocabulary::of_characters(["lmx"].into_iter(), &[]);
    bench.describe(Task::named("speech_recognition").unwrap(), Outputs::Tokens(other), |_, _| (vec![0], "l".to_owned()));
    let evaluate: Evaluate = serde_json::from_value(json!({"batch_secs": 1.0})).unwrap();
    let error = neural::evaluate::run(&evaluate, &bench.job("answers", "none", u64::MAX)).unwrap_err().to_string();
    assert!(error.contains("the first that differs is 0: `h` and `l`"), "{error}");
}

#[test]
fn targets_of_another_corpus_are_named() {
    let bench = Fixture::new();
    let stray = Target { id: "elsewhere".to_owned(), target: vec![1], text: "middle".to_owned() };
    write_targets(&bench.path("dev_targets.parquet"), &[stray]).unwrap();
    let error = run(&params(json!({})), &bench.job("out", "resume", u64::MAX)).unwrap_err().to_string();
    assert!(error.contains("has a target for `elsewhere`, which is not in the shards of the dev set"), "{error}");
    let strange = Target { id: "clip-18".to_owned(), target: vec![7], text: "none".to_owned() };
    write_targets(&bench.path("dev_targets.parquet"), &[strange]).unwrap();
    let error = run(&params(json!({})), &bench.job("out", "resume", u64::MAX)).unwrap_err().to_string();
    assert!(error.contains("the target of `clip-18`") && error.contains("the task has 3 outputs"), "{error}");
}

#[test]
fn targets_made_for_other_outputs_are_refused_though_their_numbers_fit() {
    let bench = Fixture::new();
    let moved = Target { id: "clip-18".to_owned(), target: vec![1], text: "sideways".to_owned() };
    write_targets(&bench.path("dev_targets.parquet"), &[moved]).unwrap();
    let error = run(&params(json!({})), &bench.job("out", "resume", u64::MAX)).unwrap_err();
    let said = error.to_string();
    assert!(said.contains("`clip-18`") && said.contains("is `sideways`, and with the outputs of the task it would be"), "{said}");
    assert!(error.hint().unwrap().contains("one and the same `task.targets`"), "{error:?}");
}

#[test]
fn targets_of_another_vocabulary_of_the_same_size_are_refused() {
    let bench = spelling(letter);
    let other = Vocabulary::of_characters(["xyz"].into_iter(), &[]);
    let mut task = TaskFile::read(&bench.path("task.json")).unwrap();
    task.outputs = Outputs::Tokens(other);
    task.write(&bench.path("")).unwrap();
    let error = run(&ctc(&json!({"epochs": 1})), &bench.job("out", "resume", u64::MAX)).unwrap_err().to_string();
    assert!(error.contains("is `l`, and with the outputs of the task it would be `y`"), "{error}");
}

#[test]
fn a_model_that_is_no_training_is_refused_with_what_should_be_there() {
    let error = Summary::read(Path::new("nowhere")).unwrap_err();
    assert_eq!(error.to_string(), "`nowhere` holds no trained model: expected `training.json` in it");
    assert!(error.hint().unwrap().contains("all that `peft.train` left"), "{error:?}");
}

/// Runs the convolutions over all shards; returns the folder with what they made.
fn front(bench: &Fixture, format: &str) -> PathBuf {
    let mut job = bench.job("front", "none", u64::MAX);
    job.inputs.0.insert("shards".to_owned(), vec![Input { path: bench.path(""), point: BTreeMap::new(), partition: None }]);
    neural::front::run(&serde_json::from_value(json!({ "format": format })).unwrap(), &job).unwrap();
    bench.path("front")
}

/// Trains on what the convolutions made of the audio.
fn train_on_front(bench: &Fixture, params: &Train, out: &str) -> Result<Summary, StageError> {
    let mut job = bench.job(out, &format!("{out}.resume"), u64::MAX);
    for split in ["train", "dev"] {
        let path = bench.path(&format!("front/{split}.parquet"));
        job.inputs.0.insert(split.to_owned(), vec![Input { path, point: BTreeMap::new(), partition: None }]);
    }
    run(params, &job)?;
    Summary::read(&bench.path(out))
}

fn losses(summary: &Summary) -> Vec<f64> {
    summary.curve.iter().flat_map(|point| [f64::from(point.train_loss), point.value("loss")]).collect()
}

#[test]
fn training_on_stored_convolutions_gives_the_same_losses() {
    let mut change = lora();
    change["eval_every"] = json!(1);
    let params = params(change);
    let bench = Fixture::with_clip(|row| tone(row % 3, if row == 3 { 30 } else { 900 + 137 * row }));
    let from_audio = losses(&bench.train(&params, "audio"));
    let compare = |format: &str, allowed: f64| {
        front(&bench, format);
        let from_front = losses(&train_on_front(&bench, &params, &format!("from_{format}")).unwrap());
        assert_eq!(from_audio.len(), from_front.len());
        let worst = from_audio.iter().zip(&from_front).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst <= allowed, "{format}: losses differ by {worst:e}");
        worst
    };
    compare("f32", 2e-5);
    assert!(compare("bf16", 2e-2) > 0.0);
    assert!(from_audio.len() > 10);
    let first = files(&front(&bench, "f32"));
    assert!(first == files(&front(&bench, "f32")), "the same audio gives other bytes");
}

#[test]
fn stored_convolutions_are_refused_where_they_do_not_belong() {
    let bench = Fixture::new();
    front(&bench, "f32");
    let error = train_on_front(&bench, &params(json!({})), "out").unwrap_err().to_string();
    assert!(error.contains("trains `feature_extractor."), "{error}");
    fs::remove_dir_all(bench.path("encoder")).unwrap();
    fs::create_dir(bench.path("encoder")).unwrap();
    random::write(&RandomEncoder { shape: shape(), seed: 6 }, &bench.path("encoder")).unwrap();
    let error = train_on_front(&bench, &params(lora()), "out").unwrap_err().to_string();
    assert!(error.contains("digest"), "{error}");
}

#[test]
fn vectors_of_speakers_are_compared_in_pairs() {
    let bench = Fixture::new();
    let head = json!({"name": "xvector", "tdnn_dim": [8, 8], "tdnn_kernel": [3, 1], "tdnn_dilation": [1, 1], "output_size": 6});
    let summary = bench.train(&params(json!({"head": head, "metric": "accuracy", "epochs": 3})), "trained");
    assert!(summary.best_value.unwrap().is_finite());
    let answers = |trials: u32| {
        let evaluate: Evaluate = serde_json::from_value(json!({"batch_secs": 1.0, "trials": trials})).unwrap();
        neural::evaluate::run(&evaluate, &bench.job("answers", "none", u64::MAX)).unwrap();
        let path = bench.path("answers").join(scoring::predictions::FILE_NAME);
        scoring::predictions::read::<scoring::Trial>(&path).unwrap()
    };
    // Six clips of three speakers: three pairs of one speaker, twelve of two.
    let all = answers(100);
    assert_eq!((all.len(), all.iter().filter(|trial| trial.target).count()), (15, 3));
    assert!(all.iter().all(|trial| trial.score.abs() <= 1.0 + 1e-9));
    assert_eq!(answers(6).len(), 6);

    bench.train(&params(json!({"epochs": 1})), "trained");
    let evaluate: Evaluate = serde_json::from_value(json!({"batch_secs": 1.0, "trials": 5})).unwrap();
    let error = neural::evaluate::run(&evaluate, &bench.job("answers", "none", u64::MAX)).unwrap_err().to_string();
    assert!(error.contains("needs a model with an x-vector head"), "{error}");
}
