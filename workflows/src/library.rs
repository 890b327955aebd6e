//! The workflows that come with the program, and those of the user.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use pipeline::mistake::suggest;
use pipeline::spec::{Load, Spec, parse_with};

use crate::problem::problem;

/// Name, file name and text of a workflow that comes with the program.
macro_rules! built_in {
    ($($name:literal),*) => {
        &[$(($name, concat!("workflows/", $name, ".toml"), include_str!(concat!("../", $name, ".toml")))),*]
    };
}

/// The workflows that come with the program.
const BUILT_IN: &[(&str, &str, &str)] = built_in![
    "benchmark",
    "emotion",
    "intent",
    "keyword_spotting",
    "phoneme_recognition",
    "slot_filling",
    "speaker",
    "speech_recognition",
    "speech_synthesis",
    "tagging"
];

/// Parts that shipped workflows include, by file name.
const PARTS: &[(&str, &str)] = &[
    ("workflows/parts/checkpoint.toml", include_str!("../parts/checkpoint.toml")),
    ("workflows/parts/data.toml", include_str!("../parts/data.toml")),
    ("workflows/parts/encoder.toml", include_str!("../parts/encoder.toml")),
    ("workflows/parts/evaluate.toml", include_str!("../parts/evaluate.toml")),
    ("workflows/parts/judge.toml", include_str!("../parts/judge.toml")),
    ("workflows/parts/voice.toml", include_str!("../parts/voice.toml")),
    ("workflows/parts/voice_checkpoint.toml", include_str!("../parts/voice_checkpoint.toml")),
];

/// Former names of workflows.
const RENAMED: &[(&str, &str)] = &[("sure", "benchmark")];

/// File name and text of a workflow that comes with the program.
fn built_in(name: &str) -> Option<(&'static str, &'static str)> {
    let name = RENAMED.iter().find(|(old, _)| *old == name).map_or(name, |(_, new)| new);
    BUILT_IN.iter().find(|(known, ..)| *known == name).map(|(_, file, text)| (*file, *text))
}

/// Parts that `--checkpoint` lays over a workflow: over one that trains on an encoder, and over one that adapts a voice.
const CHECKPOINTS: [&str; 2] = ["checkpoint", "voice_checkpoint"];

/// Returns the text of a shipped workflow by its name, or of a shipped part by its path, seen from any folder.
pub(crate) fn shipped(path: &str) -> Result<String, String> {
    if CHECKPOINTS.contains(&path) {
        return shipped(&format!("parts/{path}.toml"));
    }
    if !path.contains(['/', '.']) {
        let found = built_in(path).map(|(_, text)| text.to_owned());
        return found.ok_or_else(|| format!("no such workflow; {}", suggest(path, BUILT_IN.iter().map(|(known, ..)| *known))));
    }
    let found = PARTS.iter().find(|(name, _)| *name == path || path.ends_with(name.trim_start_matches("workflows/")));
    found.map(|(_, text)| (*text).to_owned()).ok_or_else(|| "no such file".to_owned())
}

/// True if a workflow is named by its file: the name has an ending or a folder.
pub(crate) fn is_file(name: &str) -> bool {
    name.contains('/') || Path::new(name).extension().is_some()
}

/// Returns file name and text of a workflow: of a file, or of one that comes with the program.
pub(crate) fn source(name: &str) -> Result<(String, String)> {
    if is_file(name) {
        let text = fs::read_to_string(name).with_context(|| format!("cannot read the workflow file `{name}`"))?;
        return Ok((name.to_owned(), text));
    }
    let Some((file, text)) = built_in(name) else {
        let hint = suggest(name, BUILT_IN.iter().map(|(known, ..)| *known));
        let end = if hint.ends_with('?') { "" } else { "." };
        return Err(problem(
            format!("no workflow `{name}`"),
            format!("{hint}{end} A file of your own is named with its ending, `./{name}.toml`"),
        ));
    };
    Ok((file.to_owned(), text.to_owned()))
}

/// Reads a workflow (see [`source`]). A file of the user's own may include shipped workflows and their parts.
pub(crate) fn find(name: &str) -> Result<Spec> {
    let (file, text) = source(name)?;
    parse(name, &file, &text)
}

/// Reads a workflow whose encoders or voices are these checkpoints, by name.
pub(crate) fn find_with(name: &str, checkpoints: &[String]) -> Result<Spec> {
    let plain = find(name)?;
    let Some(part) = checkpoint_part(&plain) else {
        return Err(problem(
            format!("`{name}` has no encoder or voice that `--checkpoint` could replace"),
            "workflows with the setting `backbone` have one; in others, name the checkpoint in the stage that reads it"
                .to_owned(),
        ));
    };
    let name = RENAMED.iter().find(|(old, _)| *old == name).map_or(name, |(_, new)| new);
    let text = format!(
        "[workflow]\nname = {:?}\nabout = {:?}\ninclude = [{name:?}, {part:?}]\n[matrix]\ncheckpoint = {checkpoints:?}\n",
        plain.name, plain.about
    );
    parse(name, "--checkpoint", &text)
}

/// Returns the part that `--checkpoint` lays over a workflow; none for one without encoder and voice.
fn checkpoint_part(workflow: &Spec) -> Option<&'static str> {
    let [encoder, voice] = CHECKPOINTS;
    let kind = |kind: &str| workflow.stages.iter().any(|stage| stage.run.value == kind);
    let part = if kind("voice.checkpoint") && !kind("encoder.checkpoint") { voice } else { encoder };
    workflow.axes.iter().any(|axis| axis.name.value == "backbone").then_some(part)
}

fn parse(name: &str, file: &str, text: &str) -> Result<Spec> {
    let own = |path: &str| match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            shipped(path).map_err(|reason| if is_file(path) { error.to_string() } else { reason })
        }
        other => other.map_err(|error| error.to_string()),
    };
    let load: Load<'_> = if is_file(name) { &own } else { &shipped };
    Ok(parse_with(file, text, load)?)
}

/// Reads the workflows that come with the program.
pub(crate) fn all() -> Result<Vec<Spec>> {
    BUILT_IN.iter().map(|(_, file, text)| Ok(parse_with(file, text, &shipped)?)).collect()
}

#[cfg(test)]
#[path = "../../pipeline/tests/it/validator.rs"]
mod validator;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use neural_spec::Train;
    use pipeline::graph::{Node, Settings, Workflow, build};
    use pipeline::spec::parse_with;

    use super::{BUILT_IN, all, find, find_with, shipped, validator};
    use crate::stages::registry;

    /// The workflows that train on an encoder; one of speech synthesis has none.
    fn with_encoder() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, ..)| *name).filter(|name| *name != "speech_synthesis")
    }

    fn built(name: &str, settings: &[(&str, &str)]) -> Workflow {
        let settings: Settings = settings.iter().map(|&(name, value)| (name.to_owned(), vec![value.to_owned()])).collect();
        build(&find(name).unwrap(), &registry(Path::new("sure-neural")), &settings, &[])
            .unwrap_or_else(|mistakes| panic!("{name} with {settings:?}: {mistakes}"))
    }

    #[test]
    fn the_schema_for_editors_accepts_our_workflows() {
        let schema = pipeline::spec::schema(&registry(Path::new("sure-neural")));
        for (name, _, text) in BUILT_IN {
            let workflow: serde_json::Value = toml::from_str(text).unwrap();
            assert_eq!(validator::wrong(&schema, &workflow), [""; 0], "{name}");
            let slip = text.replace("inputs.scores", "inputs.scoers").replace("about = ", "abuot = ");
            assert!(!validator::wrong(&schema, &toml::from_str(&slip).unwrap()).is_empty(), "{name}");
        }
    }

    #[test]
    fn every_workflow_is_right_at_every_choice() {
        for spec in all().unwrap() {
            let name = spec.name.as_str();
            for axis in &spec.axes {
                for choice in &axis.choices {
                    let choice = choice.as_str().map_or_else(|| choice.to_string(), str::to_owned);
                    for (backbone, protocol) in [("scratch", "sound"), ("published", "sound"), ("published", "paper")] {
                        let mut all = vec![("backbone", backbone), ("protocol", protocol)];
                        let is_known = |setting: &str| spec.axes.iter().any(|axis| axis.name.value == setting);
                        all.retain(|(setting, _)| *setting != axis.name.value && is_known(setting));
                        all.push((axis.name.value.as_str(), choice.as_str()));
                        built(name, &all);
                    }
                }
            }
        }
    }

    /// The stage that a node reads in a slot.
    fn source(workflow: &Workflow, node: &Node, slot: &str) -> String {
        let from = node.inputs.iter().find(|edge| &*edge.slot == slot).map(|edge| &workflow.graph[edge.from].stage);
        from.unwrap_or_else(|| panic!("{} has no `{slot}`", node.id)).to_string()
    }

    #[test]
    fn stored_convolutions_are_read_where_they_stay_frozen_and_made_nowhere_else() {
        let mut read = 0;
        for name in with_encoder() {
            for settings in [&[("front", "audio")][..], &[("front", "cached"), ("protocol", "paper")]] {
                assert_eq!(built(name, settings).find("front"), [], "{name} with {settings:?}");
            }
            let workflow = built(name, &[("front", "cached")]);
            let mut needed = 0;
            for node in workflow.find("train") {
                let node = &workflow.graph[node];
                let train: Train = serde_json::from_value(node.placed.params().clone()).unwrap();
                let large = neural_spec::Architecture::encoder(1024, 4096, 24);
                let frozen = !train.method.trains("feature_extractor.conv_layers.0.conv.weight", &large).unwrap();
                let sources = (source(&workflow, node, "train"), source(&workflow, node, "dev"));
                let expected = if frozen { "front" } else { "shards" };
                assert_eq!(sources, (expected.to_owned(), expected.to_owned()), "{}", node.id);
                needed += u32::from(frozen);
            }
            for node in workflow.find("evaluate") {
                let node = &workflow.graph[node];
                let expected = if node.id.contains("method=finetune") { "shards" } else { "front" };
                assert_eq!(source(&workflow, node, "test"), expected, "{}", node.id);
            }
            assert!(needed >= 5 && !workflow.find("front").is_empty(), "{name}");
            read += needed;
        }
        assert_eq!(read, 5 * 5 + 3 * 6 + 6 * 5 + 5 * 6, "eight workflows, and the eleven pairs of the benchmark");
    }

    #[test]
    fn the_whole_benchmark_trains_as_each_tasks_own_workflow_does() {
        for (backbone, size, protocol) in
            [("scratch", "tiny", "sound"), ("published", "full", "sound"), ("published", "full", "paper")]
        {
            let settings = [("backbone", backbone), ("size", size), ("protocol", protocol), ("front", "cached")];
            let whole = built("sure", &settings); // the former name of `benchmark`
            let mut compared = 0;
            let pairs: Vec<(String, String)> = whole
                .find("score[method=lora]")
                .into_iter()
                .map(|node| whole.graph[node].point.to_map())
                .map(|point| (point["task"].clone(), point["corpus"].clone()))
                .collect();
            assert_eq!(pairs.len(), 11, "{pairs:?}");
            for (name, corpus) in &pairs {
                let name = name.as_str();
                let learns = if name == "speaker" { "voices" } else { "words" };
                let own = built(name, &[&settings[..], &[("corpus", corpus), ("encoder_learns", learns)]].concat());
                for stage in ["train", "targets", "evaluate"] {
                    for node in own.find(stage) {
                        let node = &own.graph[node];
                        let id = &node.id;
                        let method = id.split("method=").nth(1).map(|rest| rest.split([',', ']']).next().unwrap_or_default());
                        let same = whole.find(stage).into_iter().map(|node| &whole.graph[node]).find(|other| {
                            let other = &other.id;
                            let of_corpus = other.contains(&format!("corpus={corpus}")) || !other.contains("corpus=");
                            other.contains(&format!("task={name}"))
                                && of_corpus
                                && method.is_none_or(|method| other.contains(&format!("method={method}")))
                        });
                        let same = same.unwrap_or_else(|| panic!("no {stage} of {name} in the whole benchmark"));
                        assert_eq!(same.placed.params(), node.placed.params(), "{id} of {name} and {}", same.id);
                        for edge in &node.inputs {
                            let slot = &edge.slot;
                            assert_eq!(source(&whole, same, slot), source(&own, node, slot), "`{slot}` of {id} of {name}");
                        }
                        compared += 1;
                    }
                }
            }
            assert!(compared >= 11 * 6, "{compared} nodes were compared");
        }
    }

    #[test]
    fn voices_of_the_whole_benchmark_are_trained_and_judged_as_in_their_own_workflow() {
        for (size, protocol) in [("tiny", "sound"), ("full", "sound"), ("full", "paper")] {
            let settings = [("size", size), ("protocol", protocol)];
            let whole = built("benchmark", &settings);
            assert_eq!(whole.find("speech_synthesis.score").len(), 2 * 6);
            assert_eq!(whole.find("table").len() + whole.find("speech_synthesis.table").len(), 1);
            for corpus in ["libritts", "l2_arctic"] {
                let own = built("speech_synthesis", &[&settings[..], &[("corpus", corpus)]].concat());
                let stages = ["base", "voice", "words", "voice_judge", "speech", "speech_features", "evaluate", "score"];
                for stage in stages {
                    let full = if matches!(stage, "evaluate" | "score") {
                        format!("speech_synthesis.{stage}")
                    } else {
                        stage.to_owned()
                    };
                    let mut compared = 0;
                    for node in whole.find(&full).into_iter().map(|node| &whole.graph[node]) {
                        if node.point.get("corpus") != Some(corpus) {
                            continue;
                        }
                        let same = own.find(stage).into_iter().map(|node| &own.graph[node]);
                        let same = same.filter(|other| other.point.get("method") == node.point.get("method"));
                        let same: Vec<&Node> = same.collect();
                        assert_eq!(same.len(), 1, "{}", node.id);
                        assert_eq!(same[0].placed.params(), node.placed.params(), "{}", node.id);
                        for edge in &node.inputs {
                            let from = source(&whole, node, &edge.slot).replace("speech_synthesis.", "");
                            assert_eq!(from, source(&own, same[0], &edge.slot), "`{}` of {}", edge.slot, node.id);
                        }
                        compared += 1;
                    }
                    let methods = if node_has_methods(stage) { 6 } else { 1 };
                    assert_eq!(compared, methods, "{stage} of {corpus}");
                }
            }
        }
        let narrow =
            built("benchmark", &[("task", "speech_synthesis"), ("method", "lora"), ("corpus", "libritts"), ("size", "tiny")]);
        assert_eq!((narrow.find("speech_synthesis.score").len(), narrow.find("scratch").len()), (1, 0));
        let without = built("benchmark", &[("task", "emotion")]);
        assert!(without.order.iter().all(|node| !without.graph[*node].id.contains("synthesis")));
    }

    /// True for stages of a voice that exist once per method.
    fn node_has_methods(stage: &str) -> bool {
        !matches!(stage, "base" | "words" | "voice_judge")
    }

    /// The examples of `docs/workflow-files.md`: every block that is a whole workflow.
    #[test]
    fn the_examples_of_the_documentation_are_right() {
        let text = include_str!("../../docs/workflow-files.md");
        let blocks = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
        let mut names = vec![];
        for block in blocks.filter(|block| block.contains("[workflow]")) {
            let spec = parse_with("example.toml", block, &shipped).unwrap_or_else(|mistakes| panic!("{mistakes}\n{block}"));
            let workflow = build(&spec, &registry(Path::new("sure-neural")), &Settings::new(), &[])
                .unwrap_or_else(|mistakes| panic!("{mistakes}\n{block}"));
            names.push((workflow.name.clone(), workflow.find("train").len(), workflow.find("table").len()));
        }
        let expected =
            [("shards", 0, 0), ("low_rank", 3, 1), ("ranks", 5, 1), ("twice", 4, 1), ("accents", 9, 1), ("paralinguistic", 6, 1)];
        assert_eq!(names, expected.map(|(name, trainings, tables)| (name.to_owned(), trainings, tables)));
    }

    #[test]
    fn a_checkpoint_is_laid_over_every_workflow_with_an_encoder() {
        for name in with_encoder() {
            let spec = find_with(name, &["base".to_owned(), "large".to_owned()]).unwrap();
            let workflow = build(&spec, &registry(Path::new("sure-neural")), &Settings::new(), &[])
                .unwrap_or_else(|mistakes| panic!("{name}: {mistakes}"));
            let train = &workflow.graph[workflow.find("train[checkpoint=large,method=lora]")[0]];
            let params = train.placed.params();
            assert_eq!((&params["learning_rate"], &params["max_steps"]), (&5e-4.into(), &2000.into()), "{name}");
            assert_eq!(source(&workflow, train, "encoder"), "published");
            assert_eq!((workflow.find("published").len(), workflow.find("table").len()), (2, 1), "{name}");
        }
    }

    #[test]
    fn a_checkpoint_is_laid_over_the_workflow_of_voices() {
        let spec = find_with("speech_synthesis", &["libritts".to_owned()]).unwrap();
        let workflow = build(&spec, &registry(Path::new("sure-neural")), &Settings::new(), &[])
            .unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let files = &workflow.graph[workflow.find("voice_files[checkpoint=libritts]")[0]];
        assert_eq!(files.placed.params()["name"], "libritts");
        let voice = &workflow.graph[workflow.find("voice[checkpoint=libritts,method=lora]")[0]];
        assert_eq!(
            (source(&workflow, voice, "base"), source(&workflow, voice, "alignment")),
            ("published_voice".to_owned(), "alignment".to_owned())
        );
        assert!(workflow.find("base").is_empty() && !workflow.find("speech").is_empty());
    }

    #[test]
    fn voices_are_pretrained_unless_a_published_one_is_asked_for() {
        let workflow = built("speech_synthesis", &[]);
        assert!(workflow.find("published_voice").is_empty() && workflow.find("aligner").is_empty());
        for corpus in ["fsdd", "libritts"] {
            let workflow = built("speech_synthesis", &[("backbone", "published"), ("corpus", corpus)]);
            assert!(workflow.find("base").is_empty() && workflow.find("base_strings").is_empty());
            let params = |stage: &str| workflow.graph[workflow.find(stage)[0]].placed.params().clone();
            // The spectrograms of the recordings are those of the voice.
            for name in ["sample_rate", "n_fft", "hop_length", "win_length", "num_mel_bins", "low_hz", "high_hz"] {
                assert_eq!(params("mel")[name], params("published_voice")[name], "{name}");
            }
            assert_eq!(params("mel")["energy"], "linear");
        }
    }

    #[test]
    fn a_checkpoint_needs_an_encoder_or_a_voice_to_replace() {
        let plain = "[workflow]\nname = \"plain\"\nabout = \"no encoder\"\n";
        assert_eq!(super::checkpoint_part(&parse_with("plain.toml", plain, &shipped).unwrap()), None);
        assert_eq!(super::checkpoint_part(&find("intent").unwrap()), Some("checkpoint"));
        assert_eq!(super::checkpoint_part(&find("speech_synthesis").unwrap()), Some("voice_checkpoint"));
    }

    #[test]
    fn parts_are_found_by_name_and_from_beside_a_copy() {
        assert!(shipped("workflows/parts/data.toml").is_ok() && shipped("mine/parts/data.toml").is_ok());
        assert_eq!(shipped("parts/other.toml").unwrap_err(), "no such file");
        assert!(shipped("intent").is_ok() && shipped("intnet").unwrap_err().contains("did you mean `intent`?"));
    }
}
