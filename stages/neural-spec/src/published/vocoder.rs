//! Published vocoders: generators of HiFi-GAN in the files of three projects, and what these say about their spectrograms.
//!
//! | project | sizes | weights |
//! | --- | --- | --- |
//! | jik876/hifi-gan | `config.json` | `generator_v1`, `g_02500000` or another name; one file |
//! | transformers `SpeechT5HifiGan` | `config.json` | `model.safetensors` or `pytorch_model.bin` |
//! | speechbrain | `hyperparams.yaml` | `generator.ckpt` |
//!
//! Sources: the configurations of jik876/hifi-gan, of transformers 5 and of the recipes of speechbrain 1.0.

use std::fs;
use std::path::{Path, PathBuf};

use audio::features::mel::{MelSpectrogram, Recipe};
use pipeline::source::SourceNeed;
use pipeline::{Job, Slot, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Published, PublishedError, copy_all, place, require_name, tree, weights_in};
use crate::checkpoint::{CheckpointError, header, look_at_zip};
use crate::{Mistakes, require_positive};

const JSON: &str = "config.json";
const YAML: &str = "hyperparams.yaml";
/// Taken where there are several files of weights.
const PREFERRED: &str = "model.safetensors";

/// Takes the folder of a published vocoder into the store: a generator of HiFi-GAN of jik876/hifi-gan, transformers (`SpeechT5HifiGan`) or
/// speechbrain. The folder is set under `checkpoints` in the machine's settings.
///
/// The other parameters are those of the spectrograms that it will get, as `features.log_mel` has them. Files that say otherwise are
/// refused while the run is planned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VocoderCheckpoint {
    /// Name of the folder in the machine's settings: `vocoder` for the place `checkpoints.vocoder`.
    pub name: String,
    /// In Hz.
    #[schemars(range(min = 1))]
    pub sample_rate: u32,
    /// Samples of a transform.
    #[schemars(range(min = 1))]
    pub n_fft: u32,
    /// Samples from one frame to the next.
    #[schemars(range(min = 1))]
    pub hop_length: u32,
    /// Samples of the window.
    #[schemars(range(min = 1))]
    pub win_length: u32,
    /// Bands.
    #[schemars(range(min = 1))]
    pub num_mel_bins: u32,
    /// Lower edge of the lowest band in Hz.
    pub low_hz: f64,
    /// Upper edge of the highest band in Hz.
    pub high_hz: f64,
    /// Padding, and the logarithm.
    pub recipe: Recipe,
}

/// Files of a published vocoder, read but for the weights.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishedVocoder {
    /// File of the weights.
    pub weights: PathBuf,
    /// Sizes of its network, with the names of jik876/hifi-gan.
    pub network: Value,
    folder: PathBuf,
    /// Properties of the spectrogram that the files state, with the names of [`MelSpectrogram`].
    says: Map<String, Value>,
    recipes: &'static [Recipe],
}

impl PublishedVocoder {
    /// True if a folder is meant to be a published vocoder: no encoder, no voice and no vocoder of ours.
    pub fn are_in(folder: &Path) -> bool {
        sizes(folder).is_ok()
    }

    /// Reads a folder. Of the weights it checks only that the file is whole.
    ///
    /// Errors: [`PublishedError`]
    pub fn open(folder: &Path) -> Result<Self, PublishedError> {
        let (path, sizes, project) = sizes(folder)?;
        let weights = weights(folder)?;
        if weights.extension().is_some_and(|end| end == "safetensors") {
            let unread = |source| PublishedError::Read { model: Published::Vocoder, path: weights.clone(), source };
            let damaged =
                |error: header::HeaderError| CheckpointError::Damaged { path: weights.clone(), reason: error.to_string() };
            header::read(&mut fs::File::open(&weights).map_err(unread)?)
                .map_err(|error| PublishedError::Weights(damaged(error)))?;
        } else {
            look_at_zip(&weights).map_err(PublishedError::Weights)?;
        }
        let rates: Option<Vec<u64>> = serde_json::from_value(sizes["upsample_rates"].clone()).ok();
        let hop = rates.and_then(|rates| rates.into_iter().try_fold(1_u64, u64::checked_mul));
        let hop = hop.ok_or_else(|| {
            let problem = "is expected to hold a list of whole numbers, the rates of the upsampling".to_owned();
            PublishedError::Content { path: path.clone(), problem }
        })?;
        let mut says = Map::from_iter([("hop_length".to_owned(), json!(hop))]);
        let named = [
            ("sample_rate", &["sampling_rate", "sample_rate"][..]),
            ("n_fft", &["n_fft"]),
            ("win_length", &["win_size", "win_length"]),
            ("num_mel_bins", &["num_mels", "model_in_dim", "in_channels"]),
            ("low_hz", &["fmin", "mel_fmin"]),
            ("high_hz", &["fmax", "mel_fmax"]),
        ];
        for (name, theirs) in named {
            let found = theirs.iter().find_map(|theirs| sizes.get(*theirs).filter(|value| !value.is_null()));
            says.extend(found.map(|value| (name.to_owned(), value.clone())));
        }
        if let Some(stated) = sizes.get("hop_size").filter(|stated| **stated != hop) {
            let problem = format!("contradicts itself: the product of its upsample_rates is {hop}, and its hop_size {stated}");
            return Err(PublishedError::Content { path, problem });
        }
        let mut recipes: &[Recipe] = &[Recipe::Tacotron, Recipe::Hifigan];
        if project == Project::Transformers {
            // Its feature extractor is a class of its own, not part of the files.
            recipes = &[Recipe::Speecht5];
            for (name, value) in [("n_fft", 1024.0), ("win_length", 1024.0), ("low_hz", 80.0), ("high_hz", 7600.0)] {
                says.insert(name.to_owned(), json!(value));
            }
        }
        Ok(Self { weights, network: sizes.into(), folder: folder.to_owned(), says, recipes })
    }

    /// Checks that it was made for a spectrogram, as far as its files say.
    ///
    /// Errors: [`PublishedError::OtherSpectrogram`]
    pub fn check(&self, mel: &MelSpectrogram) -> Result<(), PublishedError> {
        let given = serde_json::to_value(mel).unwrap_or_default();
        let other = |(name, said): (&String, &Value)| {
            let given = &given[name];
            (said.as_f64() != given.as_f64()).then(|| format!("{name} is {said}, expected {given}"))
        };
        let mut differences: Vec<String> = self.says.iter().filter_map(other).collect();
        if !self.recipes.contains(&mel.recipe) {
            let name = |recipe: &Recipe| json!(recipe).as_str().unwrap_or_default().to_owned();
            let own: Vec<String> = self.recipes.iter().map(name).collect();
            differences.push(format!("recipe is {}, expected {}", own.join(" or "), name(&mel.recipe)));
        }
        if differences.is_empty() {
            return Ok(());
        }
        Err(PublishedError::OtherSpectrogram { folder: self.folder.clone(), difference: differences.join("; ") })
    }
}

/// Origin of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Project {
    Original,
    Transformers,
    Speechbrain,
}

/// Sizes of a generator with the names of jik876/hifi-gan, the file they are from, and its project.
fn sizes(folder: &Path) -> Result<(PathBuf, Map<String, Value>, Project), PublishedError> {
    let read = |file: &str| {
        let path = folder.join(file);
        let text = fs::read_to_string(&path).map_err(|source| PublishedError::Read {
            model: Published::Vocoder,
            path: path.clone(),
            source,
        })?;
        Ok((path, text))
    };
    let content = |path: PathBuf, problem: String| Err(PublishedError::Content { path, problem });
    let (path, sizes, project) = if folder.join(JSON).is_file() {
        let (path, text) = read(JSON)?;
        let sizes: Map<String, Value> = match serde_json::from_str(&text) {
            Ok(sizes) => sizes,
            Err(error) => return content(path, format!("is expected to hold the sizes of a generator: {error}")),
        };
        let project = match sizes.get("model_type").and_then(Value::as_str) {
            None => Project::Original,
            Some("speecht5_hifigan") => Project::Transformers,
            Some(other) => return content(path, format!("is that of a model `{other}`, expected `speecht5_hifigan`")),
        };
        (path, sizes, project)
    } else if folder.join(YAML).is_file() {
        let (path, text) = read(YAML)?;
        (path, flat(&text), Project::Speechbrain)
    } else {
        return Err(missing(folder, "`config.json` and no `hyperparams.yaml`"));
    };
    if !sizes.contains_key("upsample_rates") {
        let name = if project == Project::Speechbrain { "upsample_factors" } else { "upsample_rates" };
        return content(path, format!("has no `{name}`: it is not that of a generator of HiFi-GAN"));
    }
    Ok((path, sizes, project))
}

/// Numbers, strings and lists that a YAML file has at its top, on a line each, with the names of jik876/hifi-gan.
fn flat(text: &str) -> Map<String, Value> {
    let entry = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        let name = match name {
            "upsample_factors" => "upsample_rates",
            "resblock_type" => "resblock",
            other => other,
        };
        let value = value.split(" #").next().unwrap_or_default().trim();
        Some((name.to_owned(), serde_json::from_str(value).ok()?))
    };
    text.lines().filter(|line| !line.starts_with([' ', '#', '-'])).filter_map(entry).collect()
}

/// The file of weights in a folder.
fn weights(folder: &Path) -> Result<PathBuf, PublishedError> {
    let files = weights_in(Published::Vocoder, folder, is_weights)?;
    match &files[..] {
        [] => Err(missing(folder, "file of weights")),
        [only] => Ok(folder.join(only)),
        several if several.iter().any(|name| name == PREFERRED) => Ok(folder.join(PREFERRED)),
        _ => Err(PublishedError::Several { folder: folder.to_owned(), files }),
    }
}

fn missing(folder: &Path, what: &str) -> PublishedError {
    PublishedError::Missing { model: Published::Vocoder, folder: folder.to_owned(), what: what.to_owned() }
}

/// True if a file next to the others has weights.
fn is_weights(path: &str) -> bool {
    const ENDS: [&str; 6] = [".safetensors", ".bin", ".ckpt", ".pt", ".pth", ".pth.tar"];
    let named = ENDS.iter().any(|end| path.ends_with(end)) || path.starts_with("generator") || path.starts_with("g_");
    named && !path.starts_with('.') && !path.contains('/')
}

impl VocoderCheckpoint {
    fn mel(&self) -> MelSpectrogram {
        MelSpectrogram {
            sample_rate: self.sample_rate,
            n_fft: self.n_fft as usize,
            hop_length: self.hop_length as usize,
            win_length: self.win_length as usize,
            num_mel_bins: self.num_mel_bins as usize,
            low_hz: self.low_hz,
            high_hz: self.high_hz,
            recipe: self.recipe,
        }
    }
}

impl Stage for VocoderCheckpoint {
    const KIND: &'static str = "vocoder.checkpoint";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Takes the folder of a published vocoder of this machine into the store";

    fn slots() -> Vec<Slot> {
        Vec::new()
    }
    fn outputs(&self) -> Vec<String> {
        Vec::new()
    }
    fn check(&self) -> Mistakes {
        let mut mistakes = Vec::new();
        require_name(&mut mistakes, &self.name);
        for (name, value) in [
            ("sample_rate", self.sample_rate),
            ("n_fft", self.n_fft),
            ("hop_length", self.hop_length),
            ("win_length", self.win_length),
            ("num_mel_bins", self.num_mel_bins),
        ] {
            require_positive(&mut mistakes, name, value.into());
        }
        mistakes
    }
    fn sources(&self) -> Vec<SourceNeed> {
        let wants = |path: &str| is_weights(path) || [JSON, YAML].contains(&path);
        vec![SourceNeed { place: place(&self.name), wants: Box::new(wants) }]
    }
}

/// Looks at a folder and copies its files into the artifact.
///
/// Errors: [`PublishedError`] for a folder that is no published vocoder or one of other spectrograms,
/// [`StageError::SourceChanged`] for a file that is no longer the one the plan saw.
pub fn run(params: &VocoderCheckpoint, job: &Job) -> Result<(), StageError> {
    let tree = tree(&params.name, job)?;
    let vocoder = PublishedVocoder::open(&tree.root)?;
    vocoder.check(&params.mel())?;
    // Of several files of weights one is taken.
    copy_all(tree, job, |path| Some(path).filter(|path| !is_weights(path) || tree.root.join(path) == vocoder.weights))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZIP: &str = "PK\x03\x04 and so on PK\x05\x06 the end";
    const ORIGINAL: &str = r#"{"resblock": "1", "upsample_rates": [5, 5, 4], "num_mels": 64, "n_fft": 512, "hop_size": 100,
        "win_size": 400, "sampling_rate": 8000, "fmin": 0, "fmax": 4000, "fmax_for_loss": null}"#;

    fn mel() -> MelSpectrogram {
        MelSpectrogram {
            sample_rate: 8000,
            n_fft: 512,
            hop_length: 100,
            win_length: 400,
            num_mel_bins: 64,
            low_hz: 0.0,
            high_hz: 4000.0,
            recipe: Recipe::Tacotron,
        }
    }

    /// Opens a folder with these files and compares it with a spectrogram.
    fn open(files: &[(&str, &str)], mel: &MelSpectrogram) -> Result<PublishedVocoder, PublishedError> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let vocoder = PublishedVocoder::open(folder.path())?;
        vocoder.check(mel)?;
        Ok(vocoder)
    }

    #[track_caller]
    fn refused(files: &[(&str, &str)], mel: &MelSpectrogram, expected: &str) {
        let error = open(files, mel).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn the_files_of_three_projects_are_read() {
        let vocoder = open(&[(JSON, ORIGINAL), ("g_02500000", ZIP), ("do_02500000", ZIP)], &mel()).unwrap();
        assert!(vocoder.weights.ends_with("g_02500000"));
        open(&[(JSON, ORIGINAL), ("generator_v1", ZIP)], &MelSpectrogram { recipe: Recipe::Hifigan, ..mel() }).unwrap();

        let speecht5 =
            r#"{"model_type": "speecht5_hifigan", "model_in_dim": 80, "sampling_rate": 16000, "upsample_rates": [4, 4, 4, 4]}"#;
        let theirs = MelSpectrogram {
            sample_rate: 16_000,
            n_fft: 1024,
            hop_length: 256,
            win_length: 1024,
            num_mel_bins: 80,
            low_hz: 80.0,
            high_hz: 7600.0,
            recipe: Recipe::Speecht5,
        };
        open(&[(JSON, speecht5), ("pytorch_model.bin", ZIP)], &theirs).unwrap();
        let natural = MelSpectrogram { recipe: Recipe::Tacotron, ..theirs.clone() };
        refused(&[(JSON, speecht5), ("pytorch_model.bin", ZIP)], &natural, "recipe is speecht5, expected tacotron");
        let wide = MelSpectrogram { low_hz: 0.0, ..theirs };
        refused(&[(JSON, speecht5), ("pytorch_model.bin", ZIP)], &wide, "low_hz is 80.0, expected 0.0");

        let yaml = "# sizes\nin_channels: 64\nresblock_type: \"1\"\nupsample_factors: [5, 5, 4]   # 100\n\
                    resblock_kernel_sizes: [3, 7]\ngenerator: !new:speechbrain.HifiganGenerator\n  in_channels: !ref <in_channels>\n";
        let vocoder = open(&[(YAML, yaml), ("generator.ckpt", ZIP)], &mel()).unwrap();
        let sizes = json!({"in_channels": 64, "resblock": "1", "upsample_rates": [5, 5, 4], "resblock_kernel_sizes": [3, 7]});
        assert_eq!(vocoder.network, sizes);
    }

    #[test]
    fn what_is_missing_or_does_not_fit_is_named() {
        let good = [(JSON, ORIGINAL), ("generator_v1", ZIP)];
        refused(&good[..1], &mel(), "no file of weights");
        refused(&good[1..], &mel(), "no `config.json` and no `hyperparams.yaml`");
        refused(&[good[0], good[1], ("generator_v2", ZIP)], &mel(), "several files of weights");
        refused(&[good[0], ("generator_v1", "PK\x03\x04 and so on")], &mel(), "the end of the zip archive is missing");
        refused(&[good[0], ("generator_v1", "a pickle")], &mel(), "is no zip archive");
        refused(&[good[0], ("model.safetensors", "short")], &mel(), "`");
        refused(&[(JSON, "{"), good[1]], &mel(), "is expected to hold the sizes of a generator");
        refused(&[(JSON, "{}"), good[1]], &mel(), "has no `upsample_rates`");
        refused(&[(JSON, r#"{"model_type": "hubert"}"#), good[1]], &mel(), "is that of a model `hubert`");
        refused(&[(JSON, &ORIGINAL.replace("[5, 5, 4]", "[5, 5]")), good[1]], &mel(), "the product of its upsample_rates is 25");
        refused(&[(JSON, &ORIGINAL.replace("[5, 5, 4]", "5")), good[1]], &mel(), "a list of whole numbers");
        refused(&good, &MelSpectrogram { sample_rate: 16_000, ..mel() }, "sample_rate is 8000, expected 16000");
        refused(&good, &MelSpectrogram { hop_length: 128, ..mel() }, "hop_length is 100, expected 128");
        refused(&good, &MelSpectrogram { high_hz: 3800.0, ..mel() }, "high_hz is 4000, expected 3800.0");
        refused(&good, &MelSpectrogram { recipe: Recipe::Speecht5, ..mel() }, "recipe is tacotron or hifigan, expected speecht5");
    }
}
