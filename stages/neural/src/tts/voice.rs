//! A voice: an acoustic model with its symbols, speakers, statistics and spectrogram.
//!
//! ```text
//! config.json         sizes, method, rules of the text, symbols, speakers, spectrogram, statistics
//! model.safetensors   all tensors: the model's, those of a method, the running statistics of batch norm
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use audio::features::mel::{Energy, MelSpectrogram};
use neural_spec::{Method, TrainVoice, ValueForm, VoiceProtocol, VoiceShape};
use pipeline::StageError;
use serde::{Deserialize, Serialize};
use tasks::lexicon::Lexicon;
use tasks::text::{FrontEnd, Rules};
use tch::{Device, Kind, Tensor};

use super::error::TtsError;
use crate::checkpoint::json::{read_json, write_json};
use crate::checkpoint::safetensors;
use crate::checkpoint::weights::{is_finite, is_statistic};
use crate::error::ModelError;
use crate::models::acoustic::{self, Acoustic, BatchNormMode, PostnetShape, PredictorShape, Shape, ValueEntry};
use crate::nn::weights::Weights;
use crate::peft::Adapters;

/// Format of the files.
const FORMAT: u32 = 1;
const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
/// Folder of a voice in the artifact of a training.
pub const FOLDER: &str = "voice";
/// Table of speakers.
const SPEAKERS: &str = "speaker_emb.weight";
/// Prefixes of the predictors.
const PREDICTORS: [&str; 3] =
    ["variance_adaptor.duration_predictor.", "variance_adaptor.pitch_predictor.", "variance_adaptor.energy_predictor."];

/// Mean and standard deviation of a value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moments {
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub std: f64,
}

impl Moments {
    /// Of values; a deviation that is no number above 0 is 1.
    pub fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let (count, sum) = values.clone().fold((0.0, 0.0), |(count, sum), value| (count + 1.0, sum + value));
        let mean = if count > 0.0 { sum / count } else { 0.0 };
        let squares = values.map(|value| (value - mean).powi(2)).sum::<f64>();
        let std = (squares / (count - 1.0_f64).max(1.0)).sqrt();
        Self { mean, std: if std > 0.0 && std.is_finite() { std } else { 1.0 } }
    }

    /// Standardises a value.
    pub fn standardise(self, value: f64) -> f64 {
        (value - self.mean) / self.std
    }

    /// The value that is standardised to this.
    pub fn restore(self, standard: f64) -> f64 {
        standard * self.std + self.mean
    }
}

/// Scale of the pitch that a voice predicts, and how the pitch of a symbol follows from that of its frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PitchScale {
    /// Natural logarithm; the mean over voiced frames, and the mean of the corpus for a symbol without any.
    #[default]
    Log,
    /// Hz; the mean over all frames, after a line was drawn through the unvoiced ones. As in ming024/FastSpeech2.
    Hertz,
}

impl PitchScale {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
    fn is_log(&self) -> bool {
        *self == Self::Log
    }

    /// A fundamental frequency in Hz, on the scale.
    pub fn of_hertz(self, hz: f64) -> f64 {
        match self {
            Self::Log => hz.ln(),
            Self::Hertz => hz,
        }
    }

    /// A value of the scale, in Hz.
    pub fn to_hertz(self, value: f64) -> f64 {
        match self {
            Self::Log => value.exp(),
            Self::Hertz => value,
        }
    }
}

/// Statistics of the corpus that a voice was first trained on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statistics {
    /// Pitch on its scale: over voiced frames, or as the voice was published.
    pub pitch: Moments,
    /// Energy: over all frames, or as the voice was published.
    pub energy: Moments,
}

/// `config.json` of a voice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VoiceConfig {
    /// Format of the files.
    pub format: u32,
    /// Sizes of the model.
    pub shape: Shape,
    /// Method that it was adapted with; none for a voice that was trained from nothing.
    pub method: Option<Method>,
    /// Rules that turn text into symbols.
    pub text: Rules,
    /// Pronunciations that come before the dictionary.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub words: BTreeMap<String, String>,
    /// Symbols, in the order of the embedding.
    pub symbols: Vec<String>,
    /// Beginning of the names in `symbols` of those that texts are made of: `@` where `AA0` is listed as `@AA0`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub symbol_prefix: String,
    /// Speakers, in the order of their table.
    pub speakers: Vec<String>,
    /// Spectrogram that it speaks.
    pub mel: MelSpectrogram,
    /// Scale of the energy.
    pub energy: Energy,
    /// Scale of the pitch.
    #[serde(default, skip_serializing_if = "PitchScale::is_log")]
    pub pitch: PitchScale,
    /// Statistics of pitch and energy.
    pub statistics: Statistics,
    /// Symbols of the longest text that it was trained on.
    pub longest: usize,
}

impl VoiceConfig {
    /// The front end of its texts.
    ///
    /// Errors: a pronunciation that cannot be read, or of symbols that the voice has not.
    pub fn front_end(&self) -> Result<FrontEnd, TtsError> {
        front_end(self.text, &self.words)
    }

    /// Row of a speaker.
    ///
    /// Errors: [`TtsError::Speaker`]
    pub fn speaker(&self, name: &str) -> Result<i64, TtsError> {
        let found = self.speakers.iter().position(|known| known == name);
        found.map(|at| at as i64).ok_or_else(|| TtsError::Speaker { name: name.to_owned(), known: self.speakers.clone() })
    }

    /// Numbers of symbols.
    ///
    /// Errors: the first symbol that the voice does not have.
    pub fn numbers(&self, symbols: &[String]) -> Result<Vec<i64>, String> {
        let is = |known: &String, symbol: &String| known.strip_prefix(&self.symbol_prefix) == Some(symbol.as_str());
        let number = |symbol: &String| self.symbols.iter().position(|known| is(known, symbol)).map(|at| at as i64);
        symbols.iter().map(|symbol| number(symbol).ok_or_else(|| symbol.clone())).collect()
    }
}

/// Front end of rules and pronunciations.
pub(super) fn front_end(rules: Rules, words: &BTreeMap<String, String>) -> Result<FrontEnd, TtsError> {
    let own: Vec<String> = words.iter().map(|(word, phones)| format!("{word} {phones}")).collect();
    let own = Lexicon::parse(&own.join("\n")).map_err(|error| TtsError::Setting(format!("`words`: {error}")))?;
    let known = tasks::text::symbols(true);
    for (word, phones) in own.iter() {
        if let Some(phone) = phones.iter().find(|phone| !known.contains(phone)) {
            return Err(TtsError::Setting(format!("`words`: the pronunciation of `{word}` has the unknown symbol `{phone}`")));
        }
    }
    Ok(FrontEnd::new(own.backed_by(Lexicon::cmudict()), rules))
}

/// A voice in memory.
pub struct Voice {
    /// Description of the voice.
    pub config: VoiceConfig,
    /// The model.
    pub model: Acoustic,
    weights: Weights,
    added: Weights,
}

/// How many parameters a voice has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoiceParameters {
    /// All of them, without those of the method.
    pub encoder: u64,
    /// Those that the method added.
    pub adapters: u64,
    /// Those of the table of speakers.
    pub head: u64,
    /// Those that are trained: of the model, of the method, and of the table of speakers.
    pub trainable: u64,
    /// All of them.
    pub total: u64,
}

/// Sizes of a model.
pub(super) fn shape(shape: &VoiceShape, protocol: VoiceProtocol, symbols: usize, speakers: usize, bands: usize) -> Shape {
    let published = protocol == VoiceProtocol::Paper;
    Shape {
        num_symbols: symbols as i64,
        num_speakers: speakers as i64,
        num_mel_bins: bands as i64,
        hidden: shape.hidden_size.into(),
        heads: shape.num_attention_heads.into(),
        encoder_layers: shape.encoder_layers as usize,
        decoder_layers: shape.decoder_layers as usize,
        filter: shape.filter_size.into(),
        kernels: [shape.kernel_size.into(), 1],
        dropout: shape.dropout,
        predictor: PredictorShape { filter: shape.hidden_size.into(), kernel: 3, dropout: shape.predictor_dropout },
        values: match shape.values {
            ValueForm::Convolution => ValueEntry::Convolution { kernel: 3 },
            ValueForm::Bins => ValueEntry::Bins { count: 256 },
        },
        predictor_gradient: 0.1,
        energy_after_pitch: false,
        least_frames: i64::from(!published),
        postnet: PostnetShape {
            layers: shape.postnet_layers as usize,
            channels: shape.postnet_channels.into(),
            kernel: 5,
            dropout: shape.postnet_dropout,
        },
        projection_bias: true,
        aligner: true,
        published,
    }
}

impl Voice {
    /// A voice with random weights. `limits` are the least and the largest standardised pitch and energy, for tables of bins.
    ///
    /// Errors: libtorch's.
    pub fn random(config: VoiceConfig, limits: [[f64; 2]; 2], seed: u64, device: Device) -> Result<Self, ModelError> {
        let mut weights = acoustic::start(&config.shape, seed, device)?;
        if let ValueEntry::Bins { count } = config.shape.values {
            for (name, [least, largest]) in ["pitch", "energy"].into_iter().zip(limits) {
                let bins = Tensor::f_linspace(least, largest, count - 1, (Kind::Float, device))?;
                weights.insert(format!("variance_adaptor.{name}_bins"), bins);
            }
        }
        Self::build(config, weights, Weights::new())
    }

    /// Puts a voice together: its tensors, and those of its method.
    ///
    /// Errors: libtorch's.
    pub(super) fn build(config: VoiceConfig, weights: Weights, added: Weights) -> Result<Self, ModelError> {
        let handles = added.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        let adapters = match &config.method {
            Some(method) => Adapters::of(method, config.shape.architecture(), handles),
            None => Adapters::new(),
        };
        Ok(Self { model: Acoustic::new(&weights, &config.shape, adapters)?, config, weights, added })
    }

    /// Reads a voice.
    ///
    /// Errors: a folder without one; files that are damaged, or that do not belong together.
    pub fn open(folder: &Path, device: Device) -> Result<Self, StageError> {
        let path = folder.join(CONFIG);
        if !path.is_file() || !folder.join(WEIGHTS).is_file() {
            return Err(TtsError::NoVoice { folder: folder.to_owned() }.into());
        }
        let value: serde_json::Value = read_json(&path).map_err(ModelError::from)?;
        let unusable = |problem: String| StageError::from(TtsError::Voice { folder: folder.to_owned(), problem });
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(format) => return Err(unusable(format!("its format is {format}, expected {FORMAT}"))),
            None => return Err(TtsError::NoVoice { folder: folder.to_owned() }.into()),
        }
        let config: VoiceConfig = serde_json::from_value(value).map_err(|error| unusable(format!("config.json: {error}")))?;
        let sizes = [
            ("symbols", config.symbols.len(), config.shape.num_symbols),
            ("speakers", config.speakers.len(), config.shape.num_speakers),
            ("mel bands", config.mel.num_mel_bins, config.shape.num_mel_bins),
        ];
        if let Some((name, found, expected)) = sizes.into_iter().find(|&(_, found, expected)| found as i64 != expected) {
            return Err(unusable(format!("config.json names {found} {name}, and its shape has {expected}")));
        }
        let mut expected: BTreeMap<String, Vec<i64>> =
            acoustic::parameters(&config.shape).into_iter().map(|parameter| (parameter.name, parameter.shape)).collect();
        let own = expected.len();
        let mut names = Vec::new();
        if let Some(method) = &config.method {
            for added in method.added(&config.shape.architecture()).map_err(ModelError::from)? {
                names.push(added.name.clone());
                expected.insert(added.name, added.shape.into_iter().map(i64::from).collect());
            }
        }
        debug_assert_eq!(expected.len(), own + names.len());
        let mut weights = safetensors::read(&folder.join(WEIGHTS), |_| true).map_err(ModelError::from)?;
        let mut mistakes = Vec::new();
        for (name, shape) in &expected {
            match weights.get(name) {
                None => mistakes.push(format!("`{name}` is missing")),
                Some(tensor) if tensor.size() != *shape => {
                    mistakes.push(format!("`{name}` has the shape {:?}, expected {shape:?}", tensor.size()));
                }
                Some(tensor) if !is_finite(tensor).map_err(ModelError::from)? => {
                    mistakes.push(format!("`{name}` holds NaN or infinite values"));
                }
                Some(_) => {}
            }
        }
        mistakes
            .extend(weights.keys().filter(|name| !expected.contains_key(*name)).map(|name| format!("`{name}` is unexpected")));
        if !mistakes.is_empty() {
            mistakes.truncate(5);
            return Err(unusable(mistakes.join("; ")));
        }
        for tensor in weights.values_mut() {
            *tensor = tensor.f_to_device(device).map_err(ModelError::from)?;
        }
        let added = names.into_iter().filter_map(|name| weights.remove_entry(&name)).collect();
        Ok(Self::build(config, weights, added)?)
    }

    /// Returns a voice of other speakers that starts from this one, with the fresh tensors of a method. A speaker that this voice knows
    /// keeps its row; the others start at the mean of all rows. Returns the names of the former, too.
    ///
    /// Errors: a method that does not fit; a voice that was adapted by adding something already.
    pub fn adapt(self, params: &TrainVoice, speakers: Vec<String>, longest: usize) -> Result<(Self, Vec<String>), StageError> {
        let Self { mut config, mut weights, added, .. } = self;
        if !added.is_empty() {
            let method = config.method.as_ref().map_or("", Method::name);
            let text = format!("the base was adapted with `{method}` already: start from the voice that it was adapted from");
            return Err(TtsError::Setting(text).into());
        }
        let device = weights[SPEAKERS].device();
        let kept: Vec<String> = speakers.iter().filter(|name| config.speakers.contains(name)).cloned().collect();
        let rows = tch::no_grad(|| {
            let old = &weights[SPEAKERS];
            let mean = old.f_mean_dim([0_i64].as_slice(), false, Kind::Float)?;
            let row = |name: &String| match config.speakers.iter().position(|known| known == name) {
                Some(at) => old.f_select(0, at as i64),
                None => Ok(mean.shallow_clone()),
            };
            let rows = speakers.iter().map(row).collect::<Result<Vec<_>, _>>()?;
            Tensor::f_stack(&rows, 0)
        });
        weights.insert(SPEAKERS.to_owned(), rows.map_err(ModelError::from)?);
        config.shape.num_speakers = speakers.len() as i64;
        config.shape.published = params.protocol == VoiceProtocol::Paper;
        config.speakers = speakers;
        config.longest = config.longest.max(longest);
        config.words.extend(params.words.clone());
        config.method = Some(params.method.clone());
        let adapters = Adapters::start(&params.method, config.shape.architecture(), &weights, params.seed, device)?;
        let added = adapters.tensors().iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        Ok((Self::build(config, weights, added)?, kept))
    }

    /// Chooses what is trained, and returns the statistics that its batch norm uses meanwhile. `new` for a voice with random weights,
    /// of which everything is.
    ///
    /// Errors: a method that does not fit.
    pub fn train_parts(&mut self, params: &TrainVoice, new: bool) -> Result<BatchNormMode, ModelError> {
        let architecture = self.config.shape.architecture();
        for parameter in acoustic::parameters(&self.config.shape).into_iter().filter(|parameter| parameter.trained) {
            let name = &parameter.name;
            let predictor = params.train_predictors && PREDICTORS.iter().any(|prefix| name.starts_with(prefix));
            if new || name == SPEAKERS || predictor || params.method.trains(name, &architecture)? {
                let _ = self.weights[name].f_set_requires_grad(true)?;
            }
        }
        for tensor in self.added.values() {
            let _ = tensor.f_set_requires_grad(true)?;
        }
        let moves = new || matches!(params.method, Method::Finetune(_)) || params.protocol == VoiceProtocol::Paper;
        if !moves {
            return Ok(BatchNormMode::Running);
        }
        // The running statistics are no parameters: they get no gradient. They are with them so that a saved state, and the best point
        // of a training, have them too.
        for (_, tensor) in self.weights.iter().filter(|(name, _)| is_statistic(name)) {
            let _ = tensor.f_set_requires_grad(true)?;
        }
        Ok(BatchNormMode::Batch)
    }

    /// Every tensor by name: handles.
    pub fn tensors(&self) -> Weights {
        let all = self.weights.iter().chain(&self.added);
        all.map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
    }

    /// Trained tensors, sorted by name; with moving batch norm, its running statistics as well.
    pub fn trainable(&self) -> Vec<(String, Tensor)> {
        self.tensors().into_iter().filter(|(_, tensor)| tensor.requires_grad()).collect()
    }

    /// Sets what is trained.
    ///
    /// Errors: libtorch's.
    pub fn set_trainable(&self, values: &[(String, Tensor)]) -> Result<(), ModelError> {
        let all = self.tensors();
        tch::no_grad(|| {
            for (name, value) in values {
                all[name].shallow_clone().f_copy_(value)?;
            }
            Ok(())
        })
    }

    /// How many parameters it has.
    pub fn parameters(&self) -> VoiceParameters {
        let count = |tensor: &Tensor| tensor.numel() as u64;
        let fixed = |name: &str| is_statistic(name) || name.ends_with("_bins");
        let own: u64 = self.weights.iter().filter(|(name, _)| !fixed(name)).map(|(_, tensor)| count(tensor)).sum();
        let adapters: u64 = self.added.values().map(count).sum();
        let head = count(&self.weights[SPEAKERS]);
        let trainable = self.trainable().iter().filter(|(name, _)| !fixed(name)).map(|(_, tensor)| count(tensor)).sum();
        VoiceParameters { encoder: own - head, adapters, head, trainable, total: own + adapters }
    }

    /// Writes the voice.
    ///
    /// Errors: files that cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), StageError> {
        std::fs::create_dir_all(folder).map_err(StageError::io("create", folder))?;
        write_json(&folder.join(CONFIG), &self.config).map_err(ModelError::from)?;
        Ok(safetensors::write(&folder.join(WEIGHTS), &self.tensors()).map_err(ModelError::from)?)
    }

    /// Device of its tensors.
    pub fn device(&self) -> Device {
        self.model.device()
    }
}

impl VoiceConfig {
    /// Format of the files that are written.
    pub(super) const FORMAT: u32 = FORMAT;
}
