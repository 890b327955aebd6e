//! The targets of every task from a corpus that `sure synth` writes, and what a head of the task makes of them.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use audio::manifest::{self, Manifest};
use audio::shards::{self, Shards};
use datasets::synthetic::{Miniature, write_miniature};
use neural::checkpoint::{EncoderConfig, FrameInput, Preprocessor};
use neural::data::{BatchLimit, Loader, Utterances};
use pipeline::source::{Tree, TreeFile};
use pipeline::{Digest, Input, Inputs, Job, Places, Silent, Spare, Stop, Tools};
use serde_json::json;
use tasks::targets::{self, MakeTargets, read_targets};
use tasks::{Outputs, TaskFile};
use tch::Device;

/// A job without an engine.
fn job(out: &Path, inputs: &[(&str, PathBuf)], place: &str, root: &Path, tree: Option<Tree>) -> Job {
    fs::create_dir_all(out).unwrap();
    let input = |path: &PathBuf| vec![Input { path: path.clone(), point: BTreeMap::new(), partition: None }];
    Job {
        inputs: Inputs(inputs.iter().map(|(slot, path)| ((*slot).to_owned(), input(path))).collect()),
        sources: tree.map(|tree| (place.to_owned(), Arc::new(tree))).into_iter().collect(),
        places: Places([(place.to_owned(), root.to_owned())].into()),
        partition: None,
        out: out.to_owned(),
        resume: out.join("resume"),
        threads: 2,
        spare: Spare::default(),
        tools: Tools::default(),
        gpu: None,
        others: vec![],
        progress: Box::new(Silent),
        stop: Stop::default(),
    }
}

/// Every file under a folder.
fn tree(root: &Path) -> Tree {
    let (mut files, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = fs::read(&path).unwrap();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            files.push(TreeFile { path: name, size: bytes.len() as u64, digest: Digest::of(&bytes) });
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Tree { root: root.to_owned(), files }
}

/// Corpus, shards and targets of a task, in a folder of their own.
struct Made {
    folder: tempfile::TempDir,
    task: TaskFile,
}

fn make(corpus: &str, protocol: Option<&str>, task: &str) -> Made {
    make_with(json!({"task": task}), corpus, protocol)
}

fn make_as(way: &str, corpus: &str, protocol: Option<&str>, task: &str) -> Made {
    make_with(json!({"task": task, "protocol": way}), corpus, protocol)
}

fn make_with(of_targets: serde_json::Value, corpus: &str, protocol: Option<&str>) -> Made {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write_miniature(corpus, &at("corpus"), Miniature { takes: 2, more_speakers: 2, seed: 1 }).unwrap();
    let place = format!("corpora.{corpus}");
    let root = at("corpus");
    let manifest: Manifest = serde_json::from_value(json!({"corpus": corpus, "protocol": protocol, "partitions": 1})).unwrap();
    manifest::run(&manifest, &job(&at("manifest"), &[], &place, &root, Some(tree(&root)))).unwrap();
    let inputs = [("manifest", at("manifest").join(manifest::part_folder(0))), ("labels", at("manifest/labels.json"))];
    let params: Shards = serde_json::from_value(json!({"sample_rate": 16000, "max_reject_share": 0.5})).unwrap();
    shards::run(&params, &job(&at("shards"), &inputs, &place, &root, None)).unwrap();
    let params: MakeTargets = serde_json::from_value(of_targets).unwrap();
    targets::run(&params, &job(&at("targets"), &[("shards", at("shards"))], &place, &root, None)).unwrap();
    let task = TaskFile::read(&at("targets")).unwrap();
    Made { folder, task }
}

impl Made {
    fn utterances(&self, split: &'static str) -> Arc<Utterances> {
        let at = |name: String| self.folder.path().join(name);
        let shards = [Input { path: at(format!("shards/{split}.parquet")), point: BTreeMap::new(), partition: None }];
        let path = at(format!("targets/{split}.parquet"));
        Arc::new(Utterances::open(split, &shards, &path, &self.task, preprocessor(self.folder.path())).unwrap())
    }

    /// The text of every target, after checking that batches of all of them can be made.
    fn texts(&self, split: &'static str) -> Vec<String> {
        let utterances = self.utterances(split);
        let limit = BatchLimit::new(4.0, None, 16_000);
        let batches = utterances.batches(limit, 1, 0);
        let seen: usize = Loader::start(&utterances, batches, Device::Cpu).map(|batch| batch.unwrap().rows.len()).sum();
        let targets = read_targets(&self.folder.path().join(format!("targets/{split}.parquet"))).unwrap();
        assert_eq!(seen, targets.len());
        targets.into_iter().map(|target| target.text).collect()
    }
}

fn preprocessor(folder: &Path) -> Preprocessor {
    let shape = json!({"shape": {
        "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8, "conv_dim": [4], "conv_kernel": [10],
        "conv_stride": [5], "conv_bias": true, "feat_extract_norm": "layer", "do_stable_layer_norm": true, "num_conv_pos_embeddings": 2,
        "num_conv_pos_embedding_groups": 1, "hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0,
        "feat_proj_dropout": 0.0, "layerdrop": 0.0, "mask_time_prob": 0.0}, "seed": 1});
    let encoder = folder.join("encoder");
    fs::create_dir_all(&encoder).unwrap();
    neural::models::encoder::random::write(&serde_json::from_value(shape).unwrap(), &encoder).unwrap();
    Preprocessor::read(&encoder, &EncoderConfig::read(&encoder).unwrap()).unwrap()
}

#[test]
fn tasks_of_one_class_have_the_classes_of_their_corpora() {
    let emotion = make("esd", None, "emotion");
    assert_eq!(emotion.task.outputs.names(), ["Angry", "Happy", "Neutral", "Surprise", "Sad"]);
    assert!(emotion.texts("test").iter().any(|text| text == "Surprise"));
    let speaker = make("esd", None, "speaker");
    assert!(speaker.task.outputs.len() > 1, "{:?}", speaker.task.outputs);
    assert!(!speaker.texts("dev").is_empty());
    let keyword = make("fsdd", None, "keyword_spotting");
    assert!(!keyword.texts("train").is_empty());
}

#[test]
fn intents_have_three_classes_each() {
    let intent = make("fluent_speech_commands", None, "intent");
    assert_eq!(intent.task.outputs.len(), 24);
    assert!(intent.texts("train").contains(&"activate, lights, kitchen".to_owned()));
}

#[test]
fn slots_are_marked_in_the_text() {
    let slots = make("audio_snips", Some("snips-all"), "slot_filling");
    let texts = slots.texts("train");
    assert!(texts.iter().any(|text| text.contains("B-genre ROCK E-genre")), "{texts:?}");
    let names = slots.task.outputs.names();
    assert!(names.contains(&"B-city".to_owned()) && names.contains(&"E-city".to_owned()), "{names:?}");
}

#[test]
fn speech_is_spelled_and_said() {
    let speech = make("librispeech", None, "speech_recognition");
    let texts = speech.texts("test");
    assert!(texts.contains(&"turn left and stop".to_owned()), "{texts:?}");
    let phonemes = make("librispeech", None, "phoneme_recognition");
    assert_eq!(phonemes.task.outputs.len(), 74);
    let texts = phonemes.texts("test");
    assert!(texts.contains(&"T ER1 N L EH1 F T AH0 N D S T AA1 P".to_owned()), "{texts:?}");
    assert!(matches!(phonemes.task.outputs, Outputs::Tokens(_)));
}

#[test]
fn the_published_protocol_cuts_and_pads_and_never_shuffles() {
    let limit = BatchLimit::new(1_000.0, Some(4), 16_000);
    let emotion = make_as("paper", "esd", None, "emotion").utterances("train");
    let batch = Loader::start(&emotion, emotion.batches(limit, 1, 0), Device::Cpu).next().unwrap().unwrap();
    assert_eq!(batch.batch.audio.size()[1], 40_000);
    assert!(batch.batch.num_samples.iter().all(|&samples| samples <= 40_000));
    assert_ne!(emotion.batches(limit, 1, 0), emotion.batches(limit, 1, 1));

    let phonemes = make_as("paper", "librispeech", None, "phoneme_recognition").utterances("train");
    let batches = phonemes.batches(limit, 1, 0);
    assert_eq!(batches, phonemes.batches(limit, 2, 5));
    let tokens: Vec<usize> = batches.concat().into_iter().map(|row| phonemes.targets()[row].target.len()).collect();
    assert!(tokens.is_sorted_by(|a, b| a >= b), "{tokens:?}");
    assert!(phonemes.targets().iter().all(|target| target.target.last() == Some(&tasks::lexicon::END)));
}

#[test]
fn recognition_of_short_clips_hears_their_padding_as_sound() {
    let limit = BatchLimit::new(1_000.0, Some(4), 16_000);
    let of = |params| make_with(params, "esd", Some("esd-en-sure-asr"));
    let params = json!({"task": "speech_recognition", "protocol": "paper", "defects_of_esd": true});
    let short = of(params).utterances("train");
    let batch = Loader::start(&short, short.batches(limit, 1, 0), Device::Cpu).next().unwrap().unwrap();
    assert_eq!(batch.batch.audio.size()[1], 200_000);
    assert!((0..4).any(|row| short.num_samples(row) < 40_000), "some clips are shorter than the cut");
    assert!(batch.batch.num_samples.iter().all(|&samples| samples == 40_000), "{:?}", batch.batch.num_samples);
    // Mean and variance are those of what is left.
    let row = (0..short.lengths().len()).max_by_key(|&row| short.num_samples(row)).unwrap();
    let samples = short.samples(row).unwrap();
    let mean = samples.iter().map(|&x| f64::from(x)).sum::<f64>() / samples.len() as f64;
    let variance = samples.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / samples.len() as f64;
    assert!(mean.abs() < 1e-4 && (variance - 1.0).abs() < 1e-3, "{mean} {variance}");
    assert!(short.targets().iter().all(|target| target.text.starts_with("[UNK]")), "no letter is in the vocabulary");
    let whole = of(json!({"task": "speech_recognition", "protocol": "paper"})).utterances("train");
    let batch = Loader::start(&whole, whole.batches(limit, 1, 0), Device::Cpu).next().unwrap().unwrap();
    assert!(batch.batch.num_samples.iter().any(|&samples| samples != 40_000), "the mask of others is not lost");
}

#[test]
fn encoders_over_frames_get_frames_in_batches_counted_in_samples() {
    let made = make("fsdd", None, "keyword_spotting");
    let at = |name: &str| made.folder.path().join(name);
    let open = |max_positions| {
        let frames = Some(FrameInput::Whisper { num_mel_bins: 4, max_positions });
        let preprocessor = Preprocessor { do_normalize: false, frames, ..preprocessor(made.folder.path()) };
        let shards = [Input { path: at("shards/train.parquet"), point: BTreeMap::new(), partition: None }];
        Utterances::open("train", &shards, &at("targets/train.parquet"), &made.task, preprocessor)
    };
    let utterances = Arc::new(open(1_500).unwrap());
    let batches = utterances.batches(BatchLimit::new(4.0, None, 16_000), 1, 0);
    let mut seen = 0;
    for prepared in Loader::start(&utterances, batches, Device::Cpu) {
        let prepared = prepared.unwrap();
        let batch = &prepared.batch;
        let [rows, frames, bands] = batch.audio.size()[..] else { panic!("{:?}", batch.audio.size()) };
        let longest = batch.num_samples.iter().max().unwrap();
        assert_eq!((rows as usize, frames, bands), (prepared.rows.len(), 2 * ((longest + 319) / 320), 4));
        for (&row, &samples) in prepared.rows.iter().zip(&batch.num_samples) {
            assert_eq!(samples as usize, utterances.num_samples(row));
        }
        seen += prepared.rows.len();
    }
    assert_eq!(seen, utterances.lengths().len());
    let longest = utterances.lengths().iter().max().unwrap();
    let fitting = longest.div_ceil(320) as i64;
    assert!(open(fitting).is_ok());
    let error = open(fitting - 1).unwrap_err().to_string();
    assert!(error.contains("of the train set has") && error.contains("this encoder has positions for"), "{error}");
}
