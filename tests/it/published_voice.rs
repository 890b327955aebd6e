//! A published voice: what is missing is named, and it is adapted in the place of one that is pretrained. A published vocoder: recordings
//! go through it, and one of other spectrograms is refused before anything runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tests::{Answer, Project};

#[track_caller]
fn good(answer: Answer) -> String {
    assert!(answer.ok, "{}\n{}", answer.out, answer.err);
    answer.out
}

#[track_caller]
fn bad(answer: &Answer, parts: &[&str]) {
    let text = format!("{}\n{}", answer.out, answer.err);
    assert!(!answer.ok && parts.iter().all(|part| text.contains(part)), "{parts:?}\n{text}");
}

/// A few updates of an aligner and of one adaptation, on a synthetic copy of spoken digits.
const BRIEF: [&str; 11] = [
    "size=tiny",
    "method=lora",
    "aligner.max_steps=8",
    "aligner.eval_every=4",
    "voice.max_steps=6",
    "voice.eval_every=3",
    "speech.griffin_lim=2",
    "digits.train={passes=2,recordings=[1,3]}",
    "digits.dev={passes=1,recordings=[2,3]}",
    "digits.test={passes=1,recordings=[3,3],max_strings=4}",
    "digits.speakers=[\"nicolas\",\"theo\"]",
];

#[test]
fn a_published_voice_is_adapted_in_the_place_of_a_pretrained_one() {
    let Some(reference) = reference::find("tts/model") else { return };
    let config = reference::json(&reference.join("config.json"));
    let speakers = config["speakers"].as_u64().unwrap() as usize;
    let bands = &config["preprocess"]["mel"]["n_mel_channels"];
    let bands = ["published_voice", "mel", "speech_mel"].map(|stage| format!("{stage}.num_mel_bins={bands}"));
    let project = Project::of("fsdd");
    let with = |command: &[&'static str], sets: &[&str]| {
        let all = BRIEF.iter().copied().chain(sets.iter().copied()).chain(bands.iter().map(String::as_str));
        let args: Vec<&str> = command.iter().copied().chain(all.flat_map(|set| ["--set", set])).collect();
        project.sure(&args)
    };

    // What is missing, from nothing to a whole folder.
    let published = "backbone=published";
    bad(&with(&["plan", "speech_synthesis"], &[published]), &["`checkpoints.voice`", "`voice = \"FOLDER\"` to `[checkpoints]`"]);
    project.write("sure.toml", "[corpora]\nfsdd = \"corpus\"\n[checkpoints]\nvoice = \"files\"\n");
    fs::create_dir(project.path("files")).unwrap();
    fs::copy(reference.join("900000.pth.tar"), project.path("files/900000.pth.tar")).unwrap();
    let missing =
        ["no `stats.json` in the folder of a published voice", "hint: put `*.pth.tar`, `stats.json` and `speakers.json`"];
    bad(&with(&["plan", "speech_synthesis"], &[published]), &missing);
    bad(&project.sure(&["doctor"]), &[missing[0], "put `*.pth.tar`"]);
    let [pitch, energy] = ["pitch", "energy"].map(|name| &config["stats"][name]);
    let stats = json!({"pitch": [pitch[0], pitch[1], 150.0, 40.0], "energy": [energy[0], energy[1], 20.0, 9.0]});
    project.write("files/stats.json", &stats.to_string());
    let name_speakers = |count: usize| {
        let named = ["ann", "ben"].into_iter().map(str::to_owned).chain((2..).map(|row| format!("speaker-{row}")));
        let rows: BTreeMap<String, usize> = named.zip(0..count).collect();
        project.write("files/speakers.json", &json!(rows).to_string());
    };
    name_speakers(speakers + 1);
    let doctor = project.sure(&["doctor"]);
    assert!(doctor.out.contains(&format!("a voice of {} speakers", speakers + 1)), "{}", doctor.out);
    let refused = with(&["run", "speech_synthesis", "published_voice", "-q"], &[published]);
    let table = format!("its table has {speakers} speakers, and speakers.json {}", speakers + 1);
    bad(&refused, &[&table, "hint: put weights, `stats.json`"]);
    name_speakers(speakers);

    // The folder by the command line is the same as that of sure.toml.
    good(with(&["run", "speech_synthesis", "speech", "-q"], &[published]));
    let folder = |node: &str| {
        let node = format!("speech_synthesis:{node}");
        let sets = BRIEF.iter().copied().chain([published]).chain(bands.iter().map(String::as_str));
        let args: Vec<&str> = ["path", &node].into_iter().chain(sets.flat_map(|set| ["--set", set])).collect();
        PathBuf::from(good(project.sure(&args)).trim())
    };
    let voice: Value =
        serde_json::from_slice(&fs::read(folder("voice[method=lora]").join("voice/config.json")).unwrap()).unwrap();
    assert_eq!((&voice["speakers"], &voice["pitch"]), (&json!(["nicolas", "theo"]), &json!("hertz")));
    assert!(is_shard(&folder("speech[method=lora]").join("test.parquet")));
    let again = with(&["plan", "speech_synthesis", "speech", "--json"], &[published]);
    let plan: Value = serde_json::from_str(&good(again)).unwrap();
    assert!(plan["nodes"].as_array().unwrap().iter().all(|node| node["verdict"] == "reuse"), "{plan}");
    let plan = with(&["plan", "speech_synthesis", "speech", "--json", "--checkpoint", "files"], &[]);
    let plan: Value = serde_json::from_str(&good(plan)).unwrap();
    let names: Vec<&str> = plan["nodes"].as_array().unwrap().iter().map(|node| node["node"].as_str().unwrap()).collect();
    assert!(names.iter().any(|name| name.starts_with("voice[checkpoint=files")), "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with("base[") || *name == "base"), "{names:?}");

    let wav = project.path("a.wav").display().to_string();
    for (voice, speaker) in [("voice[method=lora]", "theo"), ("published_voice", "ben")] {
        let voice = folder(voice).display().to_string();
        good(project.sure(&["say", "--voice", &voice, "--speaker", speaker, "seven two nine", "-o", &wav]));
        assert!(fs::metadata(&wav).unwrap().len() > 44);
        fs::remove_file(&wav).unwrap();
    }
}

/// Spectrograms of a corpus through the vocoder `checkpoints.vocoder`.
const THROUGH_A_VOCODER: &str = r#"
[workflow]
name = "copies"
about = "recordings through a vocoder"
[stages.manifest]
run = "corpus.manifest"
corpus = "fsdd"
partitions = 1
[stages.shards]
run = "audio.shards"
each = "manifest"
inputs.manifest = "manifest"
inputs.labels = "manifest/labels.json"
sample_rate = 8000
max_reject_share = 0.0
[stages.mel]
run = "features.log_mel"
inputs.shards = "shards"
sample_rate = 8000
n_fft = 256
hop_length = HOP
win_length = 256
num_mel_bins = BANDS
low_hz = 0.0
high_hz = 4000.0
recipe = "tacotron"
format = "f32"
energy = "log"
[stages.vocoder]
run = "vocoder.checkpoint"
name = "vocoder"
sample_rate = 8000
n_fft = 256
hop_length = HOP
win_length = 256
num_mel_bins = BANDS
low_hz = 0.0
high_hz = 4000.0
recipe = "tacotron"
[stages.copies]
run = "vocoder.copy"
inputs.features = "mel/test.parquet"
inputs.vocoder = "vocoder"
"#;

#[test]
fn recordings_go_through_a_published_vocoder() {
    let Some(reference) = reference::find("tts/hifigan") else { return };
    let config = reference::json(&reference.join("config.json"));
    let rates: Vec<u64> = serde_json::from_value(config["upsample_rates"].clone()).unwrap();
    let hop: u64 = rates.iter().product();
    let project = Project::of("fsdd");
    let workflow = THROUGH_A_VOCODER.replace("HOP", &hop.to_string()).replace("BANDS", &config["num_mels"].to_string());
    project.write("copies.toml", &workflow);
    let plan = ["plan", "copies.toml"];
    bad(&project.sure(&plan), &["`checkpoints.vocoder`"]);
    project.write("sure.toml", "[corpora]\nfsdd = \"corpus\"\n[checkpoints]\nvocoder = \"files\"\n");
    fs::create_dir(project.path("files")).unwrap();
    fs::copy(reference.join("config.json"), project.path("files/config.json")).unwrap();
    let missing = ["no file of weights in the folder of a published vocoder", "hint: put a generator of HiFi-GAN"];
    bad(&project.sure(&plan), &missing);
    bad(&project.sure(&["doctor"]), &[missing[0]]);
    fs::copy(reference.join("generator.pth"), project.path("files/generator.pth")).unwrap();
    let doctor = project.sure(&["doctor"]);
    assert!(doctor.out.contains("a vocoder"), "{}", doctor.out);
    let more = hop + 1;
    let [mel, vocoder] = ["mel", "vocoder"].map(|stage| format!("{stage}.hop_length={more}"));
    let expected = format!("hop_length is {more}, expected {hop}");
    bad(&project.sure(&["plan", "copies.toml", "--set", &vocoder]), &["`copies` takes spectrograms of two kinds", &expected]);
    let expected = format!("hop_length is {hop}, expected {more}");
    let both = ["plan", "copies.toml", "--set", &mel, "--set", &vocoder];
    bad(&project.sure(&both), &["is for other spectrograms", &expected]);

    good(project.sure(&["run", "copies.toml", "-q"]));
    let folder = PathBuf::from(good(project.sure(&["path", "copies.toml:copies"])).trim());
    let speech: Value = serde_json::from_slice(&fs::read(folder.join("speech.json")).unwrap()).unwrap();
    assert_eq!((&speech["vocoder"], speech["mel"]["hop_length"].as_u64()), (&json!("hifigan"), Some(hop)));
    assert!(speech["secs"].as_f64().unwrap() > 0.0 && is_shard(&folder.join("test.parquet")), "{speech}");
}

fn is_shard(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.len() > 0)
}
