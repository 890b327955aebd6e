//! Voices: trained, adapted, aligned and heard, on a handful of tones.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use audio::features::stages::{LogMel, TrackPitch, run_log_mel, run_pitch};
use audio::reader::ShardReader;
use audio::schema::{Row, ShardWriter};
use audio::speech::read_alignments;
use audio::wav::write_pcm16;
use datasets::parquet_file::ParquetFile;
use datasets::shard::RowInfo;
use datasets::{Annotation, Split};
use neural::tts;
use neural::tts::say::{SayRequest, say};
use neural_spec::{AlignSpeech, Architecture, CopySpeech, Method, Synthesise, TrainVoice, VoiceControls};
use pipeline::{Input, Inputs, Job, JobProgress, Places, Spare, Stage, StageError, Stop, Tools};
use serde_json::{Value, json};
use tch::Tensor;
use tempfile::TempDir;

#[path = "voice/published.rs"]
mod published;

const RATE: u32 = 8_000;
const WORDS: [&str; 3] = ["one", "two", "three"];

/// Feature shards, and room for what stages leave.
struct Fixture {
    root: TempDir,
    /// libtorch's seed belongs to the whole process, so trainings take turns.
    _turn: Option<MutexGuard<'static, ()>>,
}

/// Keeps notes, and asks for a stop at the first report of progress from some step on.
#[derive(Debug, Clone, Default)]
struct Listener {
    stop: Stop,
    stop_at: Option<u64>,
    notes: Arc<Mutex<Vec<String>>>,
}

impl JobProgress for Listener {
    fn tick(&self, done: u64, _: u64, unit: &str, _: &str) {
        if unit == "steps" && self.stop_at.is_some_and(|step| done >= step) {
            self.stop.request();
        }
    }
    fn note(&self, line: &str) {
        self.notes.lock().unwrap().push(line.to_owned());
    }
    fn fact(&self, _: &str, _: Value) {}
}

/// A word as a buzz whose second formant tells it, at the pitch of its speaker; silence around.
fn clip(words: &[&str], hz: f64) -> Vec<i16> {
    let mut samples = vec![0.0; 500];
    for word in words {
        let formant = 600.0 + 500.0 * WORDS.iter().position(|known| known == word).unwrap_or(0) as f64;
        for n in 0..2_400 {
            let t = f64::from(n) / f64::from(RATE);
            let harmonic = |k: i32| {
                let own = hz * f64::from(k);
                (-((own - formant) / 300.0).powi(2)).exp() * (std::f64::consts::TAU * own * t).sin()
            };
            let edge = (f64::from(n.min(2_399 - n)) / 200.0).min(1.0);
            samples.push(0.3 * edge * (1..20).map(harmonic).sum::<f64>());
        }
        samples.extend(vec![0.0; 600]);
    }
    samples.iter().map(|sample| (sample * 32_767.0) as i16).collect()
}

/// Folders of the corpora that all tests share: pitch takes longer than anything else here.
const SHARED: [&str; 6] = ["old_shards", "old_mel", "old", "new_shards", "new_mel", "new"];

impl Fixture {
    fn new() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        static CORPORA: OnceLock<TempDir> = OnceLock::new();
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let corpora = CORPORA.get_or_init(|| {
            let maker = Self { root: tempfile::tempdir().unwrap(), _turn: None };
            maker.corpus("old", &[("ann", 110.0), ("bob", 160.0)], 6, 8_000);
            maker.corpus("new", &[("cat", 220.0)], 4, 8_000);
            maker.root
        });
        let fixture = Self { root: tempfile::tempdir().unwrap(), _turn: Some(turn) };
        for name in SHARED {
            std::os::unix::fs::symlink(corpora.path().join(name), fixture.path(name)).unwrap();
        }
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Shards and features of clips of one to three words: so many for training, two each for dev and test.
    fn corpus(&self, name: &str, speakers: &[(&str, f64)], count: usize, high_hz: u32) {
        let folder = self.path(&format!("{name}_shards"));
        fs::create_dir(&folder).unwrap();
        for (split, rows) in [(Split::Train, 0..count), (Split::Dev, count..count + 2), (Split::Test, count + 2..count + 4)] {
            let mut shard = ShardWriter::create(&folder.join(format!("{split}.parquet")), &[], RATE).unwrap();
            for &(speaker, hz) in speakers {
                for row in rows.clone() {
                    let words: Vec<&str> = (0..=row % 3).map(|at| WORDS[(row + at) % 3]).collect();
                    shard
                        .push(row_of(&format!("{speaker}-{row:02}"), speaker, Some(&words.join(" ")), split, &clip(&words, hz)))
                        .unwrap();
                }
            }
            shard.finish().unwrap();
        }
        self.features(name, high_hz);
    }

    /// Features of the shards of that name.
    fn features(&self, name: &str, high_hz: u32) {
        let mel: LogMel = serde_json::from_value(json!({
            "sample_rate": RATE, "n_fft": 256, "hop_length": 100, "win_length": 256, "num_mel_bins": 20, "low_hz": 0.0,
            "high_hz": f64::from(high_hz) / 2.0, "recipe": "tacotron", "format": "f32", "energy": "log",
        }))
        .unwrap();
        let shards = format!("{name}_shards");
        let job = self.job(&format!("{name}_mel"), &[("shards", &shards)], &Listener::default());
        run_log_mel(&mel, &job).unwrap();
        let pitch = TrackPitch {
            sample_rate: RATE,
            hop_length: 100,
            frame_length: 512,
            min_hz: 60.0,
            max_hz: 400.0,
            mean_threshold: 0.1,
        };
        let job = self.job(name, &[("shards", &shards), ("features", &format!("{name}_mel"))], &Listener::default());
        run_pitch(&pitch, &job).unwrap();
    }

    fn job(&self, out: &str, inputs: &[(&str, &str)], listener: &Listener) -> Job {
        let input = |name: &str| vec![Input { path: self.path(name), point: BTreeMap::new(), partition: None }];
        let _ = fs::remove_dir_all(self.path(out));
        fs::create_dir(self.path(out)).unwrap();
        Job {
            inputs: Inputs(inputs.iter().map(|&(slot, name)| (slot.to_owned(), input(name))).collect()),
            sources: BTreeMap::new(),
            places: Places::default(),
            partition: None,
            out: self.path(out),
            resume: self.path(&format!("{out}.resume")),
            threads: 1,
            spare: Spare::default(),
            tools: Tools::default(),
            gpu: None,
            others: vec![],
            progress: Box::new(listener.clone()),
            stop: listener.stop.clone(),
        }
    }

    fn train_with(&self, out: &str, params: &TrainVoice, inputs: &[(&str, &str)], listener: &Listener) -> Result<(), StageError> {
        tts::train::run(params, &self.job(out, inputs, listener))
    }

    /// Trains a voice from nothing.
    fn base(&self, out: &str, change: Value) {
        let inputs = [("train", "old/train.parquet"), ("dev", "old/dev.parquet")];
        self.train_with(out, &params(change), &inputs, &Listener::default()).unwrap();
    }

    /// Adapts the voice `base` to the new speaker.
    fn adapt(&self, out: &str, change: Value) -> Result<(), StageError> {
        let inputs = [("train", "new/train.parquet"), ("dev", "new/dev.parquet"), ("base", "base/voice")];
        self.train_with(out, &adapting(change), &inputs, &Listener::default())
    }

    fn json(&self, file: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(file)).unwrap()).unwrap()
    }

    fn tensors(&self, voice: &str) -> BTreeMap<String, Tensor> {
        Tensor::read_safetensors(self.path(voice).join("model.safetensors")).unwrap().into_iter().collect()
    }

    fn synthesise(&self, out: &str, change: Value, inputs: &[(&str, &str)]) -> Result<(), StageError> {
        let mut value = json!({"griffin_lim": 4});
        value.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let params: Synthesise = serde_json::from_value(value).unwrap();
        assert_eq!(params.check(), []);
        tts::synthesise::run(&params, &self.job(out, inputs, &Listener::default()))
    }

    /// Spectrograms of all clips, one after the other.
    fn mels(&self, out: &str) -> Vec<f32> {
        let table = ParquetFile::open(&self.path(out).join("speech.parquet"), "speech").unwrap().whole(|_| true).unwrap();
        let column = table.column_by_name("mel").unwrap();
        let column = arrow_array::cast::AsArray::as_binary::<i32>(column);
        column.iter().flat_map(|bytes| audio::features::Format::F32.decode(bytes.unwrap())).collect()
    }

    fn durations(&self, out: &str) -> Vec<i32> {
        let table = ParquetFile::open(&self.path(out).join("speech.parquet"), "speech").unwrap().whole(|_| true).unwrap();
        let frames = table.column_by_name("num_frames").unwrap();
        let frames = arrow_values(frames);
        assert_eq!(table.num_rows(), frames.len());
        frames
    }
}

fn arrow_values(column: &arrow_array::ArrayRef) -> Vec<i32> {
    use arrow_array::cast::AsArray;
    column.as_primitive::<arrow_array::types::Int32Type>().values().to_vec()
}

fn row_of(id: &str, speaker: &str, text: Option<&str>, split: Split, samples: &[i16]) -> Row {
    let annotation =
        Annotation { speaker: Some(speaker.to_owned()), transcript: text.map(str::to_owned), ..Annotation::default() };
    Row {
        bytes: write_pcm16(RATE, samples),
        path: format!("{id}.wav"),
        split,
        info: RowInfo { id: id.to_owned(), num_samples: samples.len(), sample_rate: RATE, class: None, annotation },
        source_path: String::new(),
        source_sample_rate: RATE,
        source_channels: 1,
    }
}

fn merged(mut value: Value, change: &Value) -> Value {
    value.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    value
}

fn params(change: Value) -> TrainVoice {
    let value = json!({
        "method": {"name": "finetune"}, "text": {"stress": false, "word_pauses": true, "unknown_words": "spell"}, "learning_rate": 2e-3, "max_steps": 4,
        "schedule": {"name": "constant"}, "batch_frames": 700, "eval_every": 2, "precision": "fp32", "seed": 7,
        "shape": {
            "hidden_size": 16, "num_attention_heads": 2, "encoder_layers": 1, "decoder_layers": 2, "filter_size": 24,
            "kernel_size": 3, "dropout": 0.1, "predictor_dropout": 0.3, "postnet_layers": 3, "postnet_channels": 12,
            "postnet_dropout": 0.2,
        },
    });
    let params: TrainVoice = serde_json::from_value(merged(value, &change)).unwrap();
    assert_eq!(params.check(), []);
    params
}

fn adapting(change: Value) -> TrainVoice {
    let value = json!({
        "method": {"name": "lora", "rank": 2, "targets": ["q_proj", "v_proj"]}, "learning_rate": 1e-2, "max_steps": 3,
        "schedule": {"name": "constant"}, "batch_frames": 700, "eval_every": 3, "keep": "last", "precision": "fp32", "seed": 7,
    });
    let params: TrainVoice = serde_json::from_value(merged(value, &change)).unwrap();
    assert_eq!(params.check(), []);
    params
}

/// Every file under a folder, with its content.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.file_name().unwrap().into(), fs::read(&path).unwrap());
        }
    }
    found
}

fn message(error: &StageError) -> String {
    format!("{}; hint: {}", pipeline::stage::chain(error).join(": "), error.hint().unwrap_or_default())
}

#[test]
fn a_training_taken_up_again_leaves_the_same_bytes() {
    let fixture = Fixture::new();
    let inputs = [("train", "old/train.parquet"), ("dev", "old/dev.parquet")];
    let params = params(json!({"max_steps": 9}));
    fixture.train_with("whole", &params, &inputs, &Listener::default()).unwrap();
    let listener = Listener { stop_at: Some(1), ..Listener::default() };
    let error = fixture.train_with("again", &params, &inputs, &listener).unwrap_err();
    assert!(matches!(error, StageError::Stopped), "{error}");
    assert!(contents(&fixture.path("again")).is_empty());
    let listener = Listener::default();
    fixture.train_with("again", &params, &inputs, &listener).unwrap();
    assert!(listener.notes.lock().unwrap().iter().any(|line| line.starts_with("resuming after step")));
    let (whole, again) = (contents(&fixture.path("whole")), contents(&fixture.path("again")));
    assert_eq!(whole.keys().collect::<Vec<_>>(), again.keys().collect::<Vec<_>>());
    for (path, bytes) in &whole {
        assert!(again[path] == *bytes, "{}", path.display());
    }
}

#[test]
fn one_batch_can_be_learned_by_heart() {
    let fixture = Fixture::new();
    fixture.base("base", json!({"max_steps": 80, "eval_every": 10, "overfit_batch": true, "learning_rate": 5e-3}));
    let curve = fixture.json("base/training.json")["curve"].clone();
    let losses: Vec<f64> = curve.as_array().unwrap().iter().map(|point| point["train_loss"].as_f64().unwrap()).collect();
    assert!(losses[7] < 0.5 * losses[0], "{losses:?}");
    assert!(curve[7]["dev_mel"].as_f64().unwrap() < 0.7 * curve[0]["dev_mel"].as_f64().unwrap(), "{curve}");
    assert!(curve[0]["dev_path_log_probability"].is_number() && curve[0]["dev_one_frame_share"].is_number());
}

#[test]
fn what_is_frozen_stays_bit_for_bit() {
    let fixture = Fixture::new();
    fixture.base("base", json!({}));
    let base = fixture.tensors("base/voice");
    let architecture = Architecture::acoustic(16, [1, 2]);
    for (method, moves) in [
        (json!({"name": "lora", "rank": 2, "targets": ["q_proj", "v_proj"]}), &["speaker_emb"][..]),
        (json!({"name": "bottleneck"}), &["speaker_emb"]),
        (json!({"name": "convadapter", "reduction": 4}), &["speaker_emb"]),
        (json!({"name": "prefix", "prefix_len": 3}), &["speaker_emb"]),
        (json!({"name": "head_only"}), &["speaker_emb"]),
        (json!({"name": "bitfit"}), &["speaker_emb", ".bias"]),
    ] {
        fixture.adapt("adapted", json!({"method": method})).unwrap();
        let adapted = fixture.tensors("adapted/voice");
        let mut frozen = 0;
        for (name, before) in &base {
            if !moves.iter().any(|part| name.contains(part)) {
                assert!(*before == adapted[name], "{method}: {name}");
                frozen += 1;
            }
        }
        assert!(frozen > 40, "{frozen}");
        let spec: Method = serde_json::from_value(method.clone()).unwrap();
        let added = spec.added(&architecture).unwrap();
        let count: u32 = added.iter().map(|added| added.shape.iter().product::<u32>()).sum();
        let biases: usize = if method["name"] == "bitfit" {
            base.iter().filter(|(name, _)| name.ends_with(".bias")).map(|(_, tensor)| tensor.numel()).sum()
        } else {
            0
        };
        let summary = fixture.json("adapted/training.json");
        let parameters = &summary["parameters"];
        assert_eq!(parameters["adapters"], count, "{method}");
        assert_eq!(parameters["trainable"].as_u64().unwrap(), u64::from(count) + 16 + biases as u64, "{method}");
        assert_eq!(summary["speakers"], json!({"cat": "mean"}));
        // What is trained has moved: rows of speakers, and with them what the method adds.
        let mean = base["speaker_emb.weight"].mean_dim([0_i64].as_slice(), true, tch::Kind::Float);
        assert!(adapted["speaker_emb.weight"] != mean, "{method}");
        if spec.added(&architecture).unwrap().iter().any(|added| added.name.ends_with("lora_B.weight")) {
            let moved = added.iter().filter(|added| added.name.ends_with("lora_B.weight"));
            assert!(moved.into_iter().all(|added| adapted[&added.name].abs().sum(tch::Kind::Float).double_value(&[]) > 0.0));
        }
    }
    // Fine-tuning moves weights and running statistics; the published code moves the latter even while they are frozen.
    for change in [json!({"method": {"name": "finetune"}}), json!({"protocol": "paper"})] {
        fixture.adapt("adapted", change).unwrap();
        let adapted = fixture.tensors("adapted/voice");
        let statistic = "postnet.convolutions.0.1.running_mean";
        assert!(base[statistic] != adapted[statistic]);
    }
    fixture.adapt("adapted", json!({"train_predictors": true})).unwrap();
    let adapted = fixture.tensors("adapted/voice");
    let name = "variance_adaptor.duration_predictor.linear_layer.weight";
    assert!(base[name] != adapted[name]);
}

#[test]
fn no_update_leaves_the_base_with_its_mean_speaker() {
    let fixture = Fixture::new();
    fixture.base("base", json!({}));
    fixture.adapt("zero", json!({"max_steps": 0, "method": {"name": "head_only"}})).unwrap();
    let (base, zero) = (fixture.tensors("base/voice"), fixture.tensors("zero/voice"));
    for (name, before) in &base {
        if name != "speaker_emb.weight" {
            assert!(*before == zero[name], "{name}");
        }
    }
    let mean = base["speaker_emb.weight"].mean_dim([0_i64].as_slice(), true, tch::Kind::Float);
    assert!(zero["speaker_emb.weight"] == mean);
    let config = fixture.json("zero/voice/config.json");
    assert_eq!((&config["speakers"], &config["method"]["name"]), (&json!(["cat"]), &json!("head_only")));
    assert_eq!(config["statistics"], fixture.json("base/voice/config.json")["statistics"]);
}

#[test]
fn alignments_are_found_and_can_be_given() {
    let fixture = Fixture::new();
    fixture.base("base", json!({"max_steps": 30, "eval_every": 30}));
    let params: AlignSpeech = serde_json::from_value(json!({"batch_frames": 500})).unwrap();
    let inputs = [("voice", "base/voice"), ("features", "old/train.parquet")];
    tts::align::run(&params, &fixture.job("aligned", &inputs, &Listener::default())).unwrap();
    let rows = read_alignments(&fixture.path("aligned/alignment.parquet")).unwrap();
    assert_eq!(rows.len(), 12);
    for row in &rows {
        assert_eq!((row.symbols.len(), row.symbols[0].as_str()), (row.durations.len(), "sil"));
        assert!(row.path_log_probability.unwrap() < 0.0 && row.durations.iter().all(|&frames| frames >= 1));
    }
    let worst = read_alignments(&fixture.path("base/alignment.parquet")).unwrap();
    assert_eq!(worst.len(), 12);
    assert!(worst[0].path_log_probability.unwrap() <= worst[11].path_log_probability.unwrap());

    let inputs = [("train", "old/train.parquet"), ("dev", "old/dev.parquet"), ("alignment", "aligned")];
    fixture.train_with("given", &self::params(json!({})), &inputs, &Listener::default()).unwrap();
    let given = read_alignments(&fixture.path("given/alignment.parquet")).unwrap();
    for row in given {
        let found = rows.iter().find(|other| other.id == row.id).unwrap();
        assert_eq!((row.path_log_probability, &row.durations), (None, &found.durations));
    }
    let inputs = [("train", "new/train.parquet"), ("dev", "new/dev.parquet"), ("alignment", "aligned")];
    let error = fixture.train_with("other", &self::params(json!({})), &inputs, &Listener::default()).unwrap_err();
    assert!(message(&error).contains("the alignment of `cat-00` does not fit: the table has no such utterance"), "{error}");
}

#[test]
fn an_alignment_that_does_not_form_is_reported_on_the_way_and_at_the_end() {
    let fixture = Fixture::new();
    let folder = fixture.path("long_shards");
    fs::create_dir(&folder).unwrap();
    let words = ["one", "two", "three", "two", "one", "three", "one", "two"];
    for split in [Split::Train, Split::Dev, Split::Test] {
        let mut shard = ShardWriter::create(&folder.join(format!("{split}.parquet")), &[], RATE).unwrap();
        for at in 0..3 {
            let id = format!("{split}-{at}");
            shard.push(row_of(&id, "ann", Some(&words[at..].join(" ")), split, &clip(&words[at..], 150.0))).unwrap();
        }
        shard.finish().unwrap();
    }
    fixture.features("long", 8_000);
    let listener = Listener::default();
    let inputs = [("train", "long/train.parquet"), ("dev", "long/dev.parquet")];
    let nothing = json!({"learning_rate": 1e-9, "max_steps": 10, "eval_every": 1});
    fixture.train_with("base", &params(nothing), &inputs, &listener).unwrap();
    let notes = listener.notes.lock().unwrap().clone();
    let place =
        |start: &str| notes.iter().position(|note| note.starts_with(start)).unwrap_or_else(|| panic!("{start}: {notes:?}"));
    let warnings = notes.iter().filter(|note| note.starts_with("warning: dev: the alignment has not formed")).count();
    assert_eq!(warnings, 1, "{notes:?}");
    let (dev, end, train) = (place("warning: dev"), place("alignment: mean log"), place("warning: train"));
    assert!(dev < end && end < train, "{notes:?}");
    let named = |at: usize| notes[at].split("the worst utterances: ").nth(1).unwrap().split(", ").map(str::to_owned).collect();
    let [of_dev, of_train]: [Vec<String>; 2] = [named(dev), named(train)];
    let worst = read_alignments(&fixture.path("base/alignment.parquet")).unwrap();
    assert_eq!(of_train, worst.iter().map(|row| row.id.clone()).collect::<Vec<_>>());
    assert!(of_dev.len() == 3 && of_dev.iter().all(|id| id.starts_with("dev-")), "{of_dev:?}");
}

#[test]
fn texts_are_spoken_the_same_every_time_and_controls_change_them() {
    let fixture = Fixture::new();
    fixture.base("base", json!({"max_steps": 30, "eval_every": 30}));
    let inputs = [("voice", "base/voice"), ("texts", "old_shards/test.parquet")];
    fixture.synthesise("speech", json!({}), &inputs).unwrap();
    fixture.synthesise("again", json!({}), &inputs).unwrap();
    fixture.synthesise("alone", json!({"batch_size": 1}), &inputs).unwrap();
    let reader = ShardReader::open(&[fixture.path("speech/test.parquet")]).unwrap();
    let ids: Vec<&str> = reader.rows().iter().map(|row| row.id.as_str()).collect();
    assert_eq!(ids, ["ann-08", "ann-09", "bob-08", "bob-09"]);
    let row = &reader.rows()[0];
    assert_eq!(row.annotation.speaker.as_deref(), Some("ann"));
    let frames = fixture.durations("speech");
    // One frame more than there are hops: frames are centred on their samples.
    assert_eq!(reader.load(0).unwrap().len(), (frames[0] as usize - 1) * 100);
    assert!(contents(&fixture.path("speech")) == contents(&fixture.path("again")));
    // Batches of another shape round differently, and no more.
    assert_eq!(fixture.durations("alone"), frames);
    for (a, b) in fixture.mels("alone").iter().zip(fixture.mels("speech")) {
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
    fixture.synthesise("slow", json!({"controls": {"pace": 2.0}}), &inputs).unwrap();
    let slow = fixture.durations("slow");
    assert!(slow.iter().zip(&frames).all(|(slow, frames)| *slow as f64 > 1.5 * f64::from(*frames)), "{slow:?} {frames:?}");

    // Real spectrograms through the same vocoder.
    let copy: CopySpeech = serde_json::from_value(json!({"griffin_lim": 30})).unwrap();
    let inputs = [("features", "old/test.parquet")];
    tts::copy::run(&copy, &fixture.job("copied", &inputs, &Listener::default())).unwrap();
    let (copied, real): (Vec<f32>, Vec<f32>) = ["copied/test.parquet", "old_shards/test.parquet"]
        .map(|path| ShardReader::open(&[fixture.path(path)]).unwrap().load(2).unwrap())
        .into();
    assert!(copied.len().abs_diff(real.len()) < 100);
    let power = |samples: &[f32]| samples.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>();
    let ratio = power(&copied) / power(&real); // 20 bands lose what lies between the harmonics
    assert!((0.5..2.0).contains(&ratio), "{ratio}");

    let sentences = json!({"sentences": ["One, two. Three!", "Three twos."], "speakers": ["bob"]});
    fixture.synthesise("said", sentences, &[("voice", "base/voice")]).unwrap();
    let reader = ShardReader::open(&[fixture.path("said/test.parquet")]).unwrap();
    assert_eq!(reader.rows()[0].id, "bob-sentence-0001");
    // Features and every later stage take it as recordings.
    let mel: LogMel = serde_json::from_value(json!({
        "sample_rate": RATE, "n_fft": 256, "hop_length": 100, "win_length": 256, "num_mel_bins": 20, "low_hz": 0.0,
        "high_hz": 4000.0, "recipe": "tacotron", "format": "f32", "energy": "log",
    }))
    .unwrap();
    run_log_mel(&mel, &fixture.job("said_mel", &[("shards", "said")], &Listener::default())).unwrap();
}

#[test]
fn long_texts_are_spoken_in_pieces() {
    let fixture = Fixture::new();
    fixture.base("base", json!({}));
    let sentence = vec!["one two three"; 30].join(" ");
    let change = json!({"sentences": [sentence], "speakers": ["ann"]});
    fixture.synthesise("long", change, &[("voice", "base/voice")]).unwrap();
    let table = ParquetFile::open(&fixture.path("long/speech.parquet"), "speech").unwrap().whole(|_| true).unwrap();
    let symbols = table.column_by_name("symbols").unwrap();
    let symbols = arrow_array::cast::as_list_array(symbols).value(0);
    let symbols: Vec<&str> = arrow_array::cast::as_string_array(&symbols).iter().map(Option::unwrap).collect();
    let pieces: Vec<&[&str]> = symbols.split(|symbol| *symbol == "sil").filter(|piece| !piece.is_empty()).collect();
    assert!(pieces.len() > 4 && pieces.iter().all(|piece| piece.len() <= 20), "{pieces:?}");
    assert_eq!(symbols.iter().filter(|symbol| **symbol == "W").count(), 30);
}

#[test]
fn a_text_is_said_to_a_file_or_not_at_all() {
    let fixture = Fixture::new();
    fixture.base("base", json!({}));
    let out = fixture.path("a.wav");
    let request = |text: &str, speaker: Option<&str>| SayRequest {
        voice: fixture.path("base"),
        speaker: speaker.map(str::to_owned),
        text: text.to_owned(),
        out: out.clone(),
        vocoder: None,
        griffin_lim: 2,
        controls: VoiceControls::default(),
    };
    for (text, speaker, expected) in [
        ("one", Some("eve"), "the voice does not know the speaker `eve`: it knows `ann`, `bob`"),
        ("one", None, "which speaker? the voice has `ann`, `bob`"),
        ("...", Some("ann"), "the text `...` has no words"),
        ("\u{4e2d}\u{6587}", Some("ann"), "only English letters can be read"),
    ] {
        let error = message(&say(&request(text, speaker)).unwrap_err());
        assert!(error.contains(expected), "{error}");
        assert!(!out.exists());
    }
    let error = say(&SayRequest { voice: fixture.path("old"), ..request("one", None) }).unwrap_err();
    assert!(message(&error).contains("holds no voice: expected `config.json`"), "{error}");
    let error = say(&SayRequest { vocoder: Some(fixture.path("old")), ..request("one", Some("ann")) }).unwrap_err();
    assert!(message(&error).contains("holds no vocoder"), "{error}");
    let said = say(&request("one blorptang", Some("ann"))).unwrap();
    assert_eq!((said.speaker.as_str(), said.sample_rate, said.vocoder), ("ann", RATE, "griffin_lim"));
    assert_eq!(said.notes.guessed[0].0, "blorptang");
    let bytes = fs::read(&out).unwrap();
    assert_eq!((&bytes[..4], bytes.len()), (&b"RIFF"[..], 44 + 2 * (said.secs * f64::from(RATE)).round() as usize));
    assert_eq!(
        fs::read_dir(fixture.root.path())
            .unwrap()
            .filter(|entry| { entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with("a.wav") })
            .count(),
        1
    );
}

#[test]
fn utterances_that_cannot_be_learned_from_are_rejected_with_the_reason() {
    let fixture = Fixture::new();
    let folder = fixture.path("odd_shards");
    fs::create_dir(&folder).unwrap();
    let good = clip(&["one", "two"], 150.0);
    for split in [Split::Train, Split::Dev, Split::Test] {
        let mut shard = ShardWriter::create(&folder.join(format!("{split}.parquet")), &[], RATE).unwrap();
        let silence = vec![0; 8_000];
        let long: Vec<i16> = good.iter().copied().cycle().take(30 * RATE as usize).collect();
        shard.push(row_of("a-good", "ann", Some("one two"), split, &good)).unwrap();
        if split == Split::Train {
            shard.push(row_of("b-long", "ann", Some("one two"), split, &long)).unwrap();
            shard.push(row_of("c-none", "ann", None, split, &good)).unwrap();
            shard.push(row_of("d-marks", "ann", Some("?!"), split, &good)).unwrap();
            shard.push(row_of("e-short", "bob", Some("one two three one two three"), split, &good[..1_000])).unwrap();
            shard.push(row_of("f-silent", "bob", Some("two"), split, &silence)).unwrap();
        }
        shard.finish().unwrap();
    }
    fixture.features("odd", 8_000);
    let listener = Listener::default();
    let inputs = [("train", "odd/train.parquet"), ("dev", "odd/dev.parquet")];
    fixture.train_with("base", &params(json!({})), &inputs, &listener).unwrap();
    let summary = fixture.json("base/training.json");
    let reasons: Vec<(&str, &str)> = summary["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["id"].as_str().unwrap(), one["reason"].as_str().unwrap()))
        .collect();
    assert_eq!(reasons[0], ("c-none", "it has no text"));
    assert_eq!(reasons[1], ("d-marks", "the text `?!` has no words"));
    assert_eq!(reasons[2].0, "e-short");
    assert!(reasons[2].1.ends_with("symbols and only 11 frames"), "{}", reasons[2].1);
    assert_eq!(summary["unvoiced"], json!(["f-silent"]));
    let notes = listener.notes.lock().unwrap().clone();
    assert!(notes.iter().any(|note| note.contains("3 of 6 utterances rejected; `c-none`: it has no text")), "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("without a voiced frame; the first: `f-silent`")), "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("single utterance to learn from, `bob`")), "{notes:?}");

    let reject = json!({"text": {"stress": false, "unknown_words": "reject"}});
    let mut only = ShardWriter::create(&fixture.path("odd_shards/train.parquet"), &[], RATE).unwrap();
    only.push(row_of("a-odd", "ann", Some("blorptang"), Split::Train, &good)).unwrap();
    only.finish().unwrap();
    fs::remove_dir_all(fixture.path("odd")).unwrap();
    fixture.features("odd", 8_000);
    let error = fixture.train_with("base", &params(reject), &inputs, &Listener::default()).unwrap_err();
    let expected = "the train set has no utterance to use: `a-odd`: the dictionary does not know `blorptang`";
    assert!(message(&error).contains(expected), "{error}");
    let own = json!({"text": {"stress": false, "unknown_words": "reject"}, "words": {"blorptang": "B L AO1 R P"}});
    let inputs = [("train", "odd/train.parquet"), ("dev", "odd/dev.parquet")];
    fixture.train_with("base", &params(own), &inputs, &Listener::default()).unwrap();
    let wrong = json!({"words": {"blorptang": "B L OH"}});
    let error = fixture.train_with("base", &params(wrong), &inputs, &Listener::default()).unwrap_err();
    assert!(message(&error).contains("the pronunciation of `blorptang` has the unknown symbol `OH`"), "{error}");
}

#[test]
fn inputs_that_contradict_each_other_are_refused() {
    let fixture = Fixture::new();
    fixture.base("base", json!({}));
    let old = [("train", "old/train.parquet"), ("dev", "old/dev.parquet")];
    let refused = |params: &TrainVoice, inputs: &[(&str, &str)], expected: &str| {
        let error = message(&fixture.train_with("out", params, inputs, &Listener::default()).unwrap_err());
        assert!(error.contains(expected), "{error}");
        assert!(contents(&fixture.path("out")).is_empty());
    };
    refused(&adapting(json!({})), &old, "without `inputs.base` needs its sizes");
    let lora = json!({"method": {"name": "lora"}});
    refused(&params(lora), &old, "`lora` adapts a voice: give `inputs.base`");
    let with_base = [("train", "new/train.parquet"), ("dev", "new/dev.parquet"), ("base", "base/voice")];
    refused(&params(json!({})), &with_base, "`shape` is that of the base");
    refused(
        &adapting(json!({})),
        &[("train", "new/train.parquet"), ("dev", "new/dev.parquet"), ("base", "base")],
        "holds no voice",
    );
    refused(
        &params(json!({})),
        &[("train", "old_shards/train.parquet"), ("dev", "old/dev.parquet")],
        "expected features, found a shard of audio",
    );
    refused(&params(json!({})), &[("train", "old_mel/train.parquet"), ("dev", "old/dev.parquet")], "it has no pitch");
    refused(
        &params(json!({})),
        &[("train", "old/train.parquet"), ("dev", "new/dev.parquet")],
        "does not know the speaker `cat`: it knows `ann`, `bob`",
    );
    fixture.corpus("narrow", &[("dan", 130.0)], 6, 6_000);
    let narrow = [("train", "narrow/train.parquet"), ("dev", "narrow/dev.parquet"), ("base", "base/voice")];
    refused(&adapting(json!({})), &narrow, "are not those of the base: high_hz is 3000.0, expected 4000.0");
    fixture.adapt("adapted", json!({})).unwrap();
    let twice = [("train", "new/train.parquet"), ("dev", "new/dev.parquet"), ("base", "adapted/voice")];
    refused(&adapting(json!({})), &twice, "adapted with `lora` already");

    let inputs = [("voice", "base/voice"), ("texts", "new_shards/test.parquet")];
    let error = message(&fixture.synthesise("speech", json!({}), &inputs).unwrap_err());
    assert!(error.contains("does not know the speaker `cat`"), "{error}");
    assert!(contents(&fixture.path("speech")).is_empty());
    let error = message(&fixture.synthesise("speech", json!({"known_speakers_only": true}), &inputs).unwrap_err());
    assert!(error.contains("nothing to say"), "{error}");
    let path = fixture.path("base/voice/model.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let error = message(&fixture.synthesise("speech", json!({}), &inputs).unwrap_err());
    assert!(error.contains("model.safetensors` is damaged"), "{error}");
}
