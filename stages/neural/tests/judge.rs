//! Judges of synthesised speech, trained on tones that two voices make of two words, and a vocoder of the same tones.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use audio::features::stages::{LogMel, TrackPitch, run_log_mel, run_pitch};
use audio::schema::{Row, ShardWriter};
use audio::wav::write_pcm16;
use datasets::shard::RowInfo;
use datasets::{Annotation, Split};
use neural_spec::{JudgeTrain, TtsEvaluate, VocoderTrain};
use pipeline::{Input, Inputs, Job, JobProgress, Places, Silent, Spare, Stage, StageError, Stop, Tools};
use scoring::predictions::{FILE_NAME, Synthesised, read};
use serde_json::{Value, json};

const RATE: u32 = 8_000;

/// Folder of a test.
struct Bench(tempfile::TempDir);

/// Asks for a stop at the first sign of progress.
#[derive(Debug)]
struct StopAtOnce(Stop);

impl JobProgress for StopAtOnce {
    fn tick(&self, _: u64, _: u64, _: &str, _: &str) {
        self.0.request();
    }
    fn note(&self, _: &str) {}
    fn fact(&self, _: &str, _: Value) {}
}

/// Clip of some words by a speaker: a buzz whose pitch is the speaker's and whose resonance is the word's.
fn clip(words: &str, speaker: &str, take: usize) -> Vec<i16> {
    let period = if speaker == "ann" { 40 } else { 72 };
    let mut samples = vec![0.0_f64; 400];
    for word in words.split(' ') {
        let hz = if word == "go" { 600.0 } else { 2_300.0 };
        let length = 1_600 + 80 * (take % 4);
        samples.extend((0..length).map(|at| {
            let since = (at % period) as f64;
            let ring = (2.0 * std::f64::consts::PI * hz * since / f64::from(RATE)).sin();
            0.3 * ring * (-since / 15.0).exp()
        }));
        samples.extend([0.0; 800]);
    }
    let noise = |at: usize| ((at * at * (31 + take)) % 201) as f64 / 201.0 - 0.5;
    samples.iter().enumerate().map(|(at, sample)| (32_767.0 * (sample + 1e-3 * noise(at))) as i16).collect()
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Shards of clips of all texts by both speakers; `take` counts on from `first`.
    fn shards(&self, name: &str, first: usize, counts: [usize; 3]) -> PathBuf {
        let clips = |count| {
            let clip = |at: usize| {
                let text = ["go", "up", "go up", "up go", "up up go"][at / 2 % 5];
                let speaker = ["ann", "bob"][at % 2];
                (speaker, format!("{text}!"), clip(text, speaker, first + at))
            };
            (0..count).map(clip).collect()
        };
        self.shards_of(name, counts.map(clips))
    }

    /// Shards of clips for training, dev and test: speaker, text and samples.
    fn shards_of(&self, name: &str, splits: [Vec<(&str, String, Vec<i16>)>; 3]) -> PathBuf {
        let folder = self.path(name);
        fs::create_dir_all(&folder).unwrap();
        for (split, clips) in [Split::Train, Split::Dev, Split::Test].into_iter().zip(splits) {
            let mut writer = ShardWriter::create(&folder.join(format!("{split}.parquet")), &[], RATE).unwrap();
            for (at, (speaker, text, samples)) in clips.into_iter().enumerate() {
                let id = format!("{split}-{at:03}");
                let annotation =
                    Annotation { transcript: Some(text), speaker: Some(speaker.to_owned()), ..Annotation::default() };
                let info = RowInfo { id: id.clone(), num_samples: samples.len(), sample_rate: RATE, class: None, annotation };
                let row = Row {
                    bytes: write_pcm16(RATE, &samples),
                    path: format!("{id}.wav"),
                    split,
                    info,
                    source_path: String::new(),
                    source_sample_rate: RATE,
                    source_channels: 1,
                };
                writer.push(row).unwrap();
            }
            writer.finish().unwrap();
        }
        folder
    }

    fn job(&self, out: &str, inputs: &[(&str, PathBuf)]) -> Job {
        let out = self.path(out);
        let _ = fs::remove_dir_all(&out);
        fs::create_dir_all(&out).unwrap();
        let input = |path: &PathBuf| vec![Input { path: path.clone(), point: BTreeMap::new(), partition: None }];
        Job {
            inputs: Inputs(inputs.iter().map(|(slot, path)| ((*slot).to_owned(), input(path))).collect()),
            sources: BTreeMap::new(),
            places: Places::default(),
            partition: None,
            resume: out.with_extension("resume"),
            out,
            threads: 1,
            spare: Spare::default(),
            tools: Tools::default(),
            gpu: None,
            others: vec![],
            progress: Box::new(Silent),
            stop: Stop::default(),
        }
    }

    /// Spectrogram and pitch of shards.
    fn features(&self, name: &str, shards: &Path, bands: u32) -> PathBuf {
        let mel: LogMel = serde_json::from_value(json!({
            "sample_rate": RATE, "n_fft": 256, "hop_length": 100, "win_length": 256, "num_mel_bins": bands, "low_hz": 0.0,
            "high_hz": 4000.0, "recipe": "tacotron", "format": "f32", "energy": "log",
        }))
        .unwrap();
        let mel_job = self.job(&format!("{name}-mel"), &[("shards", shards.to_owned())]);
        run_log_mel(&mel, &mel_job).unwrap();
        let pitch = TrackPitch {
            sample_rate: RATE,
            hop_length: 100,
            frame_length: 512,
            min_hz: 60.0,
            max_hz: 400.0,
            mean_threshold: 0.1,
        };
        let job = self.job(name, &[("shards", shards.to_owned()), ("features", mel_job.out)]);
        run_pitch(&pitch, &job).unwrap();
        job.out
    }

    fn judge(&self, out: &str, kind: &str, features: &Path, change: Value) -> Result<PathBuf, StageError> {
        let mut params = json!({"judge": kind, "hidden": 24, "vector_size": 8, "epochs": 24, "batch_size": 8, "learning_rate": 1e-2, "seed": 1});
        params.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let params: JudgeTrain = serde_json::from_value(params).unwrap();
        assert_eq!(params.check(), []);
        let job = self.job(out, &[("features", features.to_owned())]);
        neural::tts::judge::run(&params, &job)?;
        Ok(job.out)
    }

    fn evaluate(&self, inputs: [&Path; 4], params: Value) -> Result<Vec<Synthesised>, StageError> {
        let params: TtsEvaluate = serde_json::from_value(params).unwrap();
        let slots = ["reference", "speech", "words", "voice"];
        let inputs: Vec<_> = slots.into_iter().zip(inputs.map(Path::to_owned)).collect();
        let job = self.job("judged", &inputs);
        neural::tts::judge::evaluate::run(&params, &job)?;
        Ok(read(&job.out.join(FILE_NAME)).unwrap())
    }
}

#[track_caller]
fn fails<T: std::fmt::Debug>(result: Result<T, StageError>, part: &str) {
    let error = result.unwrap_err();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    assert!(text.contains(part), "{text}");
}

#[test]
fn judges_hear_the_words_and_the_voice_of_clips_that_they_never_saw() {
    let bench = Bench(tempfile::tempdir().unwrap());
    let features = bench.features("features", &bench.shards("shards", 0, [60, 20, 20]), 24);
    let words = bench.judge("words", "words", &features, json!({"vary": false, "hidden": 32, "epochs": 40})).unwrap();
    let voice = bench.judge("voice", "voice", &features, json!({"epochs": 8})).unwrap();
    let training: Value = serde_json::from_slice(&fs::read(words.join("training.json")).unwrap()).unwrap();
    assert!(training["best_value"].as_f64().unwrap() < 0.1, "{training}");
    assert!(words.join("events").read_dir().unwrap().count() > 0);

    let real = bench.evaluate([&features, &features, &words, &voice], json!({})).unwrap();
    assert_eq!(real.len(), 20);
    for row in &real {
        let sound = row.sound.unwrap();
        assert_eq!((sound.mcd, sound.voicing_error, sound.duration_error), (0.0, 0.0, 0.0), "{row:?}");
        assert_eq!(Some(&row.voice.nearest), row.text.speaker.as_ref());
        assert!(row.voice.similarity > 0.8, "{row:?}");
    }
    let right = real.iter().filter(|row| row.text.hypothesis == row.text.reference).count();
    assert!(right >= 18, "{real:?}");

    // Other clips of the same texts, twice as long where they are of one word by bob: distances are above 0.
    let twin = bench.features("twin", &bench.shards("twins", 1, [2, 2, 20]), 24);
    let judged = bench.evaluate([&features, &twin, &words, &voice], json!({"speakers": ["bob"]})).unwrap();
    assert_eq!(judged.len(), 10);
    let sounds: Vec<_> = judged.iter().map(|row| row.sound.unwrap()).collect();
    assert!(sounds.iter().all(|sound| sound.mcd > 0.1 && sound.duration_error != 0.0), "{sounds:?}");
    assert!(sounds.iter().all(|sound| sound.squared_cents.is_some_and(|cents| cents < 100.0 * 100.0)), "{sounds:?}");

    // Texts that were never recorded have words and voice alone.
    let some = bench.features("some", &bench.shards("few", 1, [2, 2, 24]), 24);
    fails(bench.evaluate([&features, &some, &words, &voice], json!({})), "the recordings have no `test-020`");
    let judged = bench.evaluate([&features, &some, &words, &voice], json!({"distances": false})).unwrap();
    assert!(judged.len() == 24 && judged.iter().all(|row| row.sound.is_none()));
    // A clip that was not made is not left out.
    fails(
        bench.evaluate([&some, &features, &words, &voice], json!({})),
        "4 recordings have no synthesised counterpart, `test-020` for one",
    );
    fails(bench.evaluate([&features, &features, &voice, &words], json!({})), "holds no judge of words: it judges voices");
    fails(bench.evaluate([&features, &features, &features, &voice], json!({})), "holds no judge of words");
    let other = bench.features("other", &bench.shards("others", 1, [2, 2, 4]), 20);
    fails(bench.evaluate([&features, &other, &words, &voice], json!({})), "num_mel_bins is 20 and 24");
    fails(bench.evaluate([&features, &features, &words, &voice], json!({"speakers": ["cleo"]})), "has no utterances");
}

#[test]
fn a_judge_that_was_stopped_ends_with_the_same_bytes() {
    let bench = Bench(tempfile::tempdir().unwrap());
    let features = bench.features("features", &bench.shards("shards", 0, [24, 8, 2]), 16);
    let few = json!({"epochs": 3, "hidden": 8});
    let bytes = |folder: &Path| fs::read(folder.join("model.safetensors")).unwrap();
    for kind in ["words", "voice"] {
        let whole = bytes(&bench.judge("whole", kind, &features, few.clone()).unwrap());
        let mut params = json!({"judge": kind, "vector_size": 8, "batch_size": 8, "learning_rate": 1e-2, "seed": 1});
        params.as_object_mut().unwrap().extend(few.as_object().unwrap().clone());
        let params: JudgeTrain = serde_json::from_value(params).unwrap();
        let job = bench.job("parts", &[("features", features.clone())]);
        let _ = fs::remove_dir_all(&job.resume);
        // Stopped after its first step, and after the first of every time that it is taken up again.
        let mut times = 0;
        loop {
            let mut job = bench.job("parts", &[("features", features.clone())]);
            job.progress = Box::new(StopAtOnce(job.stop.clone()));
            match neural::tts::judge::run(&params, &job) {
                Ok(()) => break,
                Err(StageError::Stopped) => times += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(times >= 5, "{times}");
        assert_eq!(bytes(&bench.path("parts")), whole, "{kind}");
        fs::remove_dir_all(bench.path("parts.resume")).unwrap();
        fs::remove_dir_all(bench.path("whole.resume")).unwrap();
    }
}

#[test]
fn recordings_that_no_judge_can_learn_from_are_named() {
    let bench = Bench(tempfile::tempdir().unwrap());
    let one = bench.features("one", &bench.shards("shards", 0, [1, 1, 1]), 16);
    fails(bench.judge("voice", "voice", &one, json!({})), "has one speaker, `ann`");
    let none = bench.features("none", &bench.shards("none-shards", 0, [4, 0, 1]), 16);
    fails(bench.judge("words", "words", &none, json!({})), "has no utterances");
    let shards = bench.shards("audio", 0, [4, 2, 1]);
    fails(bench.judge("words", "words", &shards, json!({})), "does not say which spectrogram");
}

#[test]
fn a_judge_of_words_leaves_out_texts_without_words_and_counts_letters_that_it_never_saw() {
    let bench = Bench(tempfile::tempdir().unwrap());
    let said = |text: &str, at: usize| ("ann", text.to_owned(), clip("go", "ann", at));
    let train = vec![said("go", 0), said("?!", 1), said("go", 2)];
    let features = bench.features("features", &bench.shards_of("shards", [train, vec![said("up", 3)], vec![said("go", 4)]]), 16);
    let judge = bench.judge("judge", "words", &features, json!({"epochs": 1})).unwrap();
    let summary: Value = serde_json::from_slice(&fs::read(judge.join("training.json")).unwrap()).unwrap();
    // `u` and `p` are in no training text, so that neither can be heard.
    assert!(summary["best_value"].as_f64().unwrap() >= 1.0, "{summary}");
    let nothing = || vec![said("?!", 0)];
    let features = bench.features("none", &bench.shards_of("none-shards", [nothing(), nothing(), nothing()]), 16);
    fails(bench.judge("none-judge", "words", &features, json!({})), "`train-000` in");
}

#[test]
fn a_vocoder_learns_tones_and_the_same_seed_gives_the_same_bytes() {
    let bench = Bench(tempfile::tempdir().unwrap());
    let shards = bench.shards("shards", 0, [12, 4, 1]);
    let features = bench.features("features", &shards, 24);
    let params = |steps: u32, segment: u32| -> VocoderTrain {
        let params = json!({"channels": 32, "inner": 48, "layers": 2, "max_steps": steps, "batch_size": 4,
            "segment_frames": segment, "learning_rate": 5e-3, "eval_every": 20, "seed": 3});
        serde_json::from_value(params).unwrap()
    };
    let job = |out: &str, features: &Path| bench.job(out, &[("shards", shards.clone()), ("features", features.to_owned())]);
    let train = |out: &str, steps: u32, features: &Path| {
        let job = job(out, features);
        neural::tts::train_vocoder::run(&params(steps, 20), &job).map(|()| job.out)
    };
    let whole = train("whole", 80, &features).unwrap();
    let training: Value = serde_json::from_slice(&fs::read(whole.join("training.json")).unwrap()).unwrap();
    let curve: Vec<f64> = training["curve"].as_array().unwrap().iter().map(|at| at["dev_mel_error"].as_f64().unwrap()).collect();
    assert!(curve.len() == 4 && training["best_value"].as_f64().unwrap() < 0.75 * curve[0], "{curve:?}");
    // Stopped after every step and taken up again: the same bytes.
    let bytes = |folder: &Path| fs::read(folder.join("model.safetensors")).unwrap();
    let (few, mut times) = (train("few", 4, &features).unwrap(), 0);
    let parts = loop {
        let mut job = job("parts", &features);
        job.progress = Box::new(StopAtOnce(job.stop.clone()));
        match neural::tts::train_vocoder::run(&params(4, 20), &job) {
            Ok(()) => break job.out,
            Err(StageError::Stopped) => times += 1,
            Err(error) => panic!("{error}"),
        }
    };
    assert!(times == 3 && bytes(&few) == bytes(&parts), "stopped {times} times");
    let short = neural::tts::train_vocoder::run(&params(4, 2), &job("short", &features));
    fails(short, "a stretch has 100 samples, expected more than half of the 256 samples of a transform");
    let other = bench.features("other", &bench.shards("others", 1, [10, 4, 1]), 24);
    fails(train("other-out", 5, &other), "has the utterance `` where the shards have `train-010`");
}
