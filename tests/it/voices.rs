//! Speech synthesis from recordings to speech: kills, reruns, and corpora with test sentences of their own.

use std::path::Path;
use std::thread::sleep;
use std::time::Instant;

use datasets::shard::RowInfo;
use serde_json::Value;
use tests::{Answer, Project, slow_tests};

use crate::survival::{children, kill};

#[track_caller]
fn good(answer: Answer) -> String {
    assert!(answer.ok, "{}\n{}", answer.out, answer.err);
    answer.out
}

/// A base and one adaptation of a few updates each, on a synthetic copy of spoken digits.
const BRIEF: [&str; 13] = [
    "size=tiny",
    "method=lora",
    "base.max_steps=12",
    "base.eval_every=4",
    "voice.max_steps=8",
    "voice.eval_every=4",
    "speech.griffin_lim=2",
    "digits.train={passes=2,recordings=[1,3]}",
    "digits.dev={passes=1,recordings=[2,3]}",
    "digits.test={passes=1,recordings=[3,3],max_strings=4}",
    "base_strings.train={passes=2,recordings=[1,4]}",
    "base_strings.speakers=[\"jackson\",\"mary_ann\"]",
    "digits.speakers=[\"nicolas\",\"theo\"]",
];

fn with_sets<'a>(command: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    let sets = BRIEF.iter().chain(more).flat_map(|set| ["--set", *set]);
    command.iter().copied().chain(sets).collect()
}

/// Digests of the artifacts of nodes.
fn digests(project: &Project) -> Vec<String> {
    ["base", "voice[method=lora]", "speech[method=lora]"]
        .map(|node| {
            let path = good(project.sure(&with_sets(&["path", &format!("speech_synthesis:{node}")], &[])));
            Path::new(path.trim()).file_name().unwrap().to_str().unwrap().to_owned()
        })
        .to_vec()
}

#[test]
fn pretraining_and_adaptation_killed_at_random_moments_end_with_the_same_bytes() {
    let run = with_sets(&["run", "speech_synthesis", "speech", "-q"], &[]);
    let undisturbed = Project::of("fsdd");
    let begun = Instant::now();
    good(undisturbed.sure(&run));
    let whole = begun.elapsed();
    let expected = digests(&undisturbed);

    let project = Project::of("fsdd");
    let rounds = if slow_tests() { 20 } else { 10 };
    let mut random: u64 = 0x2545_F491;
    for round in 0..rounds {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let share = (random >> 33) as f64 / f64::from(1u32 << 31);
        let mut child = project.start(&run);
        sleep(whole.mul_f64(share * 0.5));
        let workers = children(child.id());
        if round % 2 == 0 || workers.is_empty() {
            kill(child.id());
        } else {
            workers.into_iter().for_each(kill);
        }
        let _ = child.wait().unwrap();
    }
    good(project.sure(&run));
    assert_eq!(digests(&project), expected);

    // Another rank of one method: its voice and its speech, nothing else.
    let plan = with_sets(&["plan", "speech_synthesis", "speech", "--json"], &["voice.method.rank=4"]);
    let plan: Value = serde_json::from_str(&good(project.sure(&plan))).unwrap();
    let to_run: Vec<&str> = plan["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|node| node["verdict"] != "reuse")
        .map(|node| node["node"].as_str().unwrap().split('[').next().unwrap())
        .collect();
    assert_eq!(to_run, ["voice", "speech"], "{plan}");
}

#[test]
fn sentences_of_the_test_set_are_in_no_other_set() {
    for corpus in ["libritts", "l2_arctic"] {
        let project = Project::of(corpus);
        let own = format!("corpus={corpus}");
        let vctk = project.path("corpus").display().to_string();
        let args = ["run", "speech_synthesis", "own", "-q", "--corpus", &format!("vctk={vctk}"), "--set", "size=tiny"];
        good(project.sure(&[&args[..], &["--set", &own]].concat()));
        let folder = good(project.sure(&["path", "speech_synthesis:own", "--set", &own, "--set", "size=tiny"]));
        let texts = ["train", "dev", "test"].map(|split| {
            let (rows, _) = RowInfo::read(&Path::new(folder.trim()).join(format!("{split}.parquet")), |_| true).unwrap();
            rows.into_iter().filter_map(|row| row.annotation.transcript).collect::<std::collections::BTreeSet<_>>()
        });
        let [train, dev, test] = &texts;
        assert!(texts.iter().all(|texts| !texts.is_empty()), "{corpus}: {texts:?}");
        assert!(train.is_disjoint(test) && train.is_disjoint(dev) && dev.is_disjoint(test), "{corpus}: {texts:?}");
    }
}

#[test]
fn a_voice_is_judged_and_each_of_its_metrics_is_a_cell_of_the_history() {
    let project = Project::of("fsdd");
    let more = [
        "heard.train={passes=2,recordings=[1,5]}",
        "heard.dev={passes=1,recordings=[2,3]}",
        "heard.test={passes=1,recordings=[3,3],max_strings=4}",
        "words.epochs=2",
        "voice_judge.epochs=2",
    ];
    let sets: Vec<String> = BRIEF.iter().chain(&more).map(|set| format!("--set '{}'", set.replace('"', "\\\""))).collect();
    let run = format!("speech_synthesis {} --set seed=1,2", sets.join(" "));
    project.write(
        "voices.toml",
        &format!("name = \"voices\"\nevery = \"sunday 02:30\"\nruns = [\"{run}\"]\n[site]\nfolder = \"www\"\n"),
    );
    good(project.sure_with(&["rebuild", "voices.toml", "--quiet"], &[("SURE_NOW", "2026-03-01T03:00:00Z")]));
    let shown = good(project.sure(&["history", "voices.toml"]));
    for line in ["fsdd lora ", "fsdd lora metric=mcd ", "fsdd lora metric=wer "] {
        assert!(shown.contains(&format!("speech_synthesis {line}")), "{shown}");
    }
    assert!(shown.contains("MCD (dB)") && shown.contains("WER (%)") && shown.contains("speaker similarity"), "{shown}");
    let page = std::fs::read_to_string(project.path("www/cell/speech_synthesis-fsdd-lora-metric=mcd.html")).unwrap();
    assert!(page.contains("MCD (dB), lower is better"), "{page}");

    // Trained again, so that every metric is compared.
    project.replace("voices.toml", "voice.max_steps=8", "voice.max_steps=4");
    let next = project.sure_with(&["rebuild", "voices.toml", "--quiet"], &[("SURE_NOW", "2026-03-08T03:00:00Z")]);
    assert!(matches!(next.code, Some(0 | 3)), "{}{}", next.out, next.err);
    let shown = good(project.sure(&["history", "voices.toml", "lora", "metric=mcd"]));
    assert!(shown.contains("settings: voice.max_steps 8 -> 4"), "{shown}");
}
