//! Spectrograms of a workflow: a node that takes spectrograms of two kinds is refused before anything runs.

use std::collections::HashMap;

use anyhow::Result;
use audio::features::mel::difference;
use pipeline::graph::{Node, Workflow};
use serde_json::{Map, Value};

use crate::problem::problem;

/// Parameters of a spectrogram.
const PARAMETERS: [&str; 8] = ["sample_rate", "n_fft", "hop_length", "win_length", "num_mel_bins", "low_hz", "high_hz", "recipe"];
/// Stage kinds that state a spectrogram.
const STATES: [&str; 3] = ["features.log_mel", "voice.published", "vocoder.checkpoint"];
/// Stage kinds that take spectrograms of one kind, and their inputs that have them. The first input says what is expected of the others.
const TAKES: [(&str, &[&str]); 8] = [
    ("features.pitch", &["features"]),
    ("judge.train", &["features"]),
    ("tts.align", &["voice", "features"]),
    ("tts.evaluate", &["reference", "speech", "words", "voice"]),
    ("tts.synthesise", &["voice", "vocoder"]),
    ("tts.train", &["base", "train", "dev"]),
    ("vocoder.copy", &["features", "vocoder"]),
    ("vocoder.train", &["features"]),
];

/// Refuses a workflow with a node whose inputs have spectrograms of different kinds, as far as the nodes before them say.
pub(crate) fn check(workflow: &Workflow) -> Result<()> {
    let mut known = HashMap::new();
    for index in &workflow.order {
        let node = &workflow.graph[*index];
        let Some(slots) = TAKES.iter().find_map(|(kind, slots)| (*kind == node.kind.name).then_some(*slots)) else {
            known.extend(stated(node).map(|mel| (*index, mel)));
            continue;
        };
        let inputs = slots.iter().flat_map(|slot| node.inputs.iter().filter(move |input| *input.slot == **slot));
        let found: Vec<_> = inputs.filter_map(|input| Some((input.from, known.get(&input.from)?))).collect();
        let Some((first, expected)) = found.first() else { continue };
        for (other, mel) in &found[1..] {
            let difference = difference(expected, mel);
            if !difference.is_empty() {
                let [first, other] = [first, other].map(|index| &workflow.graph[*index].id);
                let text = format!(
                    "`{}` takes spectrograms of two kinds: those of `{other}` are not those of `{first}`: {difference}",
                    node.id
                );
                return Err(problem(text, "give the nodes that make them the same parameters"));
            }
        }
        let own = Map::clone(expected);
        known.insert(*index, own);
    }
    Ok(())
}

/// Spectrogram that the parameters of a node state.
fn stated(node: &Node) -> Option<Map<String, Value>> {
    let states = STATES.contains(&node.kind.name);
    let own = |name: &&str| Some(((*name).to_owned(), node.placed.params().get(*name)?.clone()));
    states.then(|| PARAMETERS.iter().filter_map(own).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pipeline::graph::{Settings, build};
    use pipeline::spec::parse_with;

    use super::check;
    use crate::library::{all, shipped};
    use crate::stages::registry;

    /// Checks the workflow of voices with changes.
    fn with(changes: &str) -> Result<(), String> {
        let text = "[workflow]\nname = \"voices\"\nabout = \"voices\"\ninclude = [\"speech_synthesis\"]\n";
        let spec = parse_with("voices.toml", &format!("{text}{changes}"), &shipped).unwrap();
        let workflow = build(&spec, &registry(Path::new("sure-neural")), &Settings::new(), &[]).unwrap();
        check(&workflow).map_err(|error| error.to_string())
    }

    #[test]
    fn a_vocoder_of_other_spectrograms_is_refused() {
        let vocoder = "[stages.vocoder]\nrun = \"vocoder.train\"\ninputs.shards = \"base_strings\"\ninputs.features = \"FROM\"\n\
            max_steps = 10\nseed = 1\n[stages.speech]\ninputs.vocoder = \"vocoder\"\n";
        assert_eq!(with(&vocoder.replace("FROM", "base_mel")), Ok(()));
        let other = "[stages.other_mel]\nrun = \"features.log_mel\"\ninputs.shards = \"base_strings\"\nsample_rate = 8000\nn_fft = 512\n\
            hop_length = 80\nwin_length = 400\nnum_mel_bins = 64\nlow_hz = 0.0\nhigh_hz = 3800.0\nrecipe = \"tacotron\"\nformat = \"f32\"\n\
            energy = \"log\"\n";
        let error = with(&format!("{other}{}", vocoder.replace("FROM", "other_mel"))).unwrap_err();
        assert!(error.contains("those of `vocoder` are not those of `voice[method=zero,seed=1314]`"), "{error}");
        assert!(
            error.contains("high_hz is 3800.0, expected 4000.0") && error.contains("hop_length is 80, expected 100"),
            "{error}"
        );
    }

    #[test]
    fn a_voice_is_adapted_to_spectrograms_of_its_own() {
        let error = with("[stages.base_mel]\nnum_mel_bins = 40\n").unwrap_err();
        assert!(error.contains("those of `features` are not those of `base`: num_mel_bins is 64, expected 40"), "{error}");
    }

    #[test]
    fn shipped_workflows_have_spectrograms_of_one_kind() {
        for spec in all().unwrap() {
            let line = |name: &str| spec.axes.iter().any(|axis| axis.name.value == name);
            let backbones: &[&str] = if line("backbone") { &["scratch", "published"] } else { &["scratch"] };
            for backbone in backbones {
                let set = line("backbone").then(|| ("backbone".to_owned(), vec![(*backbone).to_owned()]));
                let workflow = build(&spec, &registry(Path::new("sure-neural")), &set.into_iter().collect(), &[]).unwrap();
                assert!(check(&workflow).is_ok(), "{}", spec.name);
            }
        }
    }
}
