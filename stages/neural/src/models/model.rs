//! An encoder with its adapters and a head, on one device.

use std::fs;
use std::path::{Path, PathBuf};

use neural_spec::{Architecture, Finetune, HeadSpec, LastState, Lora, Method, Misfit, Scope};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tasks::Vocabulary;
use tch::{Device, Kind, TchError, Tensor};

use super::encoder::{Encoder, Input, Point};
use super::heads::{Head, HeadOutput, SEVERAL_LABELS};
use super::values::assign;
use crate::checkpoint::base::Base;
use crate::checkpoint::config::{EncoderConfig, FeatureNorm, ModelType};
use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::files::WEIGHTS;
use crate::checkpoint::preprocessor::Preprocessor;
use crate::checkpoint::weights::{MASK_EMBEDDING, WHISPER_POSITIONS, is_statistic};
use crate::checkpoint::{safetensors, tokenizer, weights};
use crate::error::ModelError;
use crate::nn::pass::{Mode, Pass};
use crate::nn::weights::Weights;
use crate::peft::files::{self, Origin};
use crate::peft::origin::{BaseReference, Certainty};
use crate::peft::{Adapters, is_outside};

/// The length of a batch in training is a whole number of such parts of a second, see [`Model::pad_to_parts`]. So the shapes of batches repeat:
/// libtorch compiles kernels for each new shape, which took a quarter of the time of small trainings on a CPU.
const PARTS_PER_SEC: i64 = 20;

/// Some utterances, padded to one length.
#[derive(Debug)]
pub struct Batch {
    /// (B, S) float32, normalised, zero padded on the right; or (B, T, C), what the frozen convolutions made of each utterance.
    pub audio: Tensor,
    /// Samples of each utterance.
    pub num_samples: Vec<i64>,
    /// Classes (B), int64.
    pub labels: Option<Tensor>,
}

/// How many parameters a model has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterCounts {
    /// All of them.
    pub total: u64,
    /// Those that are trained.
    pub trainable: u64,
    /// Those of the encoder alone, without adapters.
    pub encoder: u64,
    /// Those of the adapters.
    pub adapters: u64,
    /// Those of the head.
    pub head: u64,
}

/// An encoder with its adapters and a head.
#[derive(Debug)]
pub struct Model {
    config: EncoderConfig,
    preprocessor: Preprocessor,
    method: Method,
    /// Relative to the encoder, without prefix.
    encoder_weights: Weights,
    /// Digest of the encoder as it was read, where training changes its weights and an adapter has to name it all the same.
    base_digest: Option<String>,
    adapters: Adapters,
    head_weights: Weights,
    encoder: Encoder,
    head_spec: HeadSpec,
    head: Head,
    last_state: LastState,
    /// True if an evaluation computes each utterance as if it were alone.
    single_clips: bool,
    /// Tokens of the head, where it recognises text.
    vocabulary: Option<Vocabulary>,
    device: Device,
    /// Number format of the weights.
    kind: Kind,
    /// Updates of its training.
    updates: u64,
}

/// Fields of `config.json` that describe a head: those of an encoder's former head are not those of the new one.
pub(super) const OF_A_HEAD: [&str; 22] = [
    "architectures",
    "bos_token_id",
    "classifier_proj_size",
    "ctc_loss_reduction",
    "ctc_zero_infinity",
    "eos_token_id",
    "final_dropout",
    "finetuning_task",
    "id2label",
    "label2id",
    "layer_sum_last",
    "num_labels",
    "pad_token_id",
    "problem_type",
    "task_specific_params",
    "tdnn_dilation",
    "tdnn_dim",
    "tdnn_kernel",
    "tokenizer_class",
    "use_weighted_layer_sum",
    "vocab_size",
    "xvector_output_dim",
];

/// True if a tensor of the encoder is trained.
fn trains(method: &Method, name: &str, config: &EncoderConfig, architecture: &Architecture) -> Result<bool, Misfit> {
    let used = !is_statistic(name) && name != WHISPER_POSITIONS && (name != MASK_EMBEDDING || config.apply_spec_augment);
    Ok(used && method.trains(name, architecture)?)
}

/// An adapter that does not fit an encoder.
pub(super) fn other_shape(adapter: &Path, config: &EncoderConfig, mistakes: Vec<String>) -> ModelError {
    ModelError::OtherShape { folder: adapter.to_owned(), encoder: described(config), mistakes }
}

/// Says how certain it is that an adapter belongs to an encoder.
///
/// Errors: [`ModelError::OtherBase`] where it does not.
pub(super) fn require_base(folder: &Path, encoder: impl FnOnce() -> Result<Base, ModelError>) -> Result<Certainty, ModelError> {
    let reference = files::base_of(folder)?;
    let Some(expected) = reference.base() else {
        return Ok(match reference {
            BaseReference::Named(name) => Certainty::Named(name),
            BaseReference::Recorded(_) | BaseReference::Absent => Certainty::Unknown,
        });
    };
    let found = encoder()?;
    if expected == found {
        return Ok(Certainty::Same);
    }
    Err(ModelError::OtherBase { folder: folder.to_owned(), expected: Box::new(expected), found: Box::new(found) })
}

/// Refuses an adapter whose names are those of another family of encoders.
pub(super) fn require_family(folder: &Path, adapter: &Weights, family: ModelType) -> Result<(), ModelError> {
    match family.other_in(adapter.keys()) {
        Some(other) => {
            let (expected, found) = (family.class(), other.class());
            Err(ModelError::OtherFamily { folder: folder.to_owned(), expected, found })
        }
        None => Ok(()),
    }
}

/// Class of a model in transformers, by the end of its name in most families; none where there is no such class.
pub(super) fn class_of(family: ModelType, head: &str) -> Option<String> {
    let head = match (family, head) {
        (ModelType::Whisper, "ForSequenceClassification") => "ForAudioClassification",
        (ModelType::Whisper, "ForCTC" | "ForXVector" | "ForAudioFrameClassification") => return None,
        _ => head,
    };
    Some(format!("{}{head}", family.class()))
}

/// Description of an encoder in messages about adapters.
pub(super) fn described(config: &EncoderConfig) -> String {
    let EncoderConfig { model_type, hidden_size, num_hidden_layers, .. } = config;
    format!("an encoder ({}) with {num_hidden_layers} layers of {hidden_size}", model_type.class())
}

impl Model {
    /// An encoder from a checkpoint folder, with fresh adapters and a fresh head, both seeded.
    pub fn new(
        encoder: &Path,
        method: &Method,
        head: &HeadSpec,
        num_labels: usize,
        seed: u64,
        device: Device,
    ) -> Result<Self, ModelError> {
        let config = EncoderConfig::read(encoder)?;
        let preprocessor = Preprocessor::read(encoder, &config)?;
        let mut encoder_weights = weights::read(encoder, &config, device)?;
        let architecture = config.architecture();
        for (name, tensor) in &mut encoder_weights {
            *tensor = tensor.f_set_requires_grad(trains(method, name, &config, &architecture)?)?;
        }
        let changes = matches!(method, Method::BitFit(_) | Method::Lora(Lora { pissa: true, .. }));
        let base_digest = changes.then(|| weights::digest(&encoder_weights)).transpose()?;
        let adapters = Adapters::start(method, architecture, &encoder_weights, seed, device)?;
        let mut head_weights = Head::start(head, config.hidden_size, config.num_hidden_layers, num_labels, seed)?;
        for tensor in head_weights.values_mut() {
            *tensor = tensor.f_to_device(device)?.f_set_requires_grad(true)?;
        }
        let whisper = config.model_type == ModelType::Whisper;
        let last_state = if whisper { LastState::AfterNorm } else { LastState::default() };
        Ok(Self {
            encoder: Encoder::new(&config, &encoder_weights, &adapters)?,
            head_spec: head.clone(),
            head: Head::new(head, &head_weights),
            config,
            preprocessor,
            method: method.clone(),
            encoder_weights,
            base_digest,
            adapters,
            head_weights,
            last_state,
            single_clips: false,
            vocabulary: None,
            device,
            kind: Kind::Float,
            updates: 1,
        })
    }

    /// How waveforms are prepared for it.
    pub fn preprocessor(&self) -> &Preprocessor {
        &self.preprocessor
    }

    /// The shape of its encoder.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// Method that adapts the encoder.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Where its tensors are.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Tells the encoder, or stops telling it, which samples are padding. A new model does as its checkpoint's preprocessor says.
    pub fn use_attention_mask(&mut self, mask: bool) {
        self.preprocessor.return_attention_mask = mask;
    }

    /// Lets evaluation compute each utterance as if it were alone, whatever batch it is in. Encoders that are told which samples are
    /// padding and normalise no convolution over time do so anyway.
    pub fn answer_as_single_clips(&mut self) {
        self.single_clips = true;
    }

    /// Sets the tokens that the head recognises, which a saved model describes.
    pub fn name_tokens(&mut self, vocabulary: Option<Vocabulary>) {
        self.vocabulary = vocabulary;
    }

    /// Sets the last entry of the mix of layers. Only heads that mix layers read it. That of Whisper stays the state after the norm, which
    /// every version of transformers takes there.
    pub fn close_mix_with(&mut self, last: LastState) {
        if self.config.model_type != ModelType::Whisper {
            self.last_state = last;
        }
    }

    /// Sets the updates of its training, which a saved adapter of AdaLoRA states.
    pub fn note_updates(&mut self, updates: u64) {
        self.updates = updates;
    }

    /// Last entry of the mix of layers.
    pub fn last_state(&self) -> LastState {
        self.last_state
    }

    /// Rounds every weight to `kind`, and with it what is computed from now on. For training and answers in 16 bits; what is
    /// to be saved is set in a model in 32 bits.
    pub fn compute_in(&mut self, kind: Kind) -> Result<(), ModelError> {
        if kind == Kind::Float {
            return Ok(());
        }
        tch::no_grad(|| {
            for tensor in self.tensors().values_mut() {
                let rounded = tensor.f_to_kind(kind)?;
                tensor.f_set_data(&rounded)?;
            }
            Ok::<_, TchError>(())
        })?;
        self.kind = kind;
        // What it had made of the weights beforehand is made again.
        self.encoder = Encoder::new(&self.config, &self.encoder_weights, &self.adapters)?;
        Ok(())
    }

    /// Reads what is frozen where another model of the same checkpoint and method has it, instead of keeping a copy.
    pub fn share_frozen(&self, other: &Self) -> Result<(), ModelError> {
        let others = other.tensors();
        for (name, mut tensor) in self.tensors().into_iter().filter(|(_, tensor)| !tensor.requires_grad()) {
            if let Some(same) = others.get(&name) {
                tch::no_grad(|| tensor.f_set_data(same))?;
            }
        }
        Ok(())
    }

    /// Takes the values of the head from the encoder's checkpoint.
    ///
    /// Errors: [`ModelError::OtherHead`] when it has no head, or one of another shape.
    pub fn adopt_head(&self, encoder: &Path) -> Result<(), ModelError> {
        let stored = weights::read_head(encoder, &self.config)?;
        assign(&self.head_weights, &stored).map_err(|error| match error {
            ModelError::Values { mistakes } => ModelError::OtherHead { folder: encoder.to_owned(), mistakes },
            other => other,
        })
    }

    /// An encoder with the head of its checkpoint, and without adapters.
    ///
    /// Errors: [`ModelError::OtherHead`] when it has none of tokens or classes.
    pub fn with_own_head(encoder: &Path, device: Device) -> Result<Self, ModelError> {
        let config = EncoderConfig::read(encoder)?;
        let stored = weights::read_head(encoder, &config)?;
        let Some((head, outputs)) = Head::of(&stored) else {
            let mistakes = vec!["it has no head of tokens or classes".to_owned()];
            return Err(ModelError::OtherHead { folder: encoder.to_owned(), mistakes });
        };
        let several = config.other.get("problem_type").is_some_and(|kind| kind == SEVERAL_LABELS);
        let head = match head {
            HeadSpec::Classification { projector_size, layer_sum } if several => HeadSpec::Tagging { projector_size, layer_sum },
            other => other,
        };
        let mut model = Self::new(encoder, &Method::HeadOnly(neural_spec::HeadOnly {}), &head, outputs, 0, device)?;
        model.adopt_head(encoder)?;
        if let Some(last) = config.other.get("layer_sum_last").and_then(|last| serde_json::from_value(last.clone()).ok()) {
            model.close_mix_with(last);
        }
        Ok(model)
    }

    /// Every tensor by its name in a full model, without peft's prefix. The tensors are handles.
    pub fn tensors(&self) -> Weights {
        let prefix = self.config.model_type.prefix();
        let encoder = self.encoder_weights.iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor.shallow_clone()));
        let head = self.head_weights.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
        let mut all: Weights = encoder.chain(head).collect();
        for (name, tensor) in self.adapters.tensors() {
            let prefix = if is_outside(name) { "" } else { prefix };
            all.insert(format!("{prefix}{name}"), tensor.shallow_clone());
        }
        all
    }

    /// Trained tensors, sorted by name. They are handles: changing them in place changes the model.
    pub fn trainable(&self) -> Vec<(String, Tensor)> {
        self.tensors().into_iter().filter(|(_, tensor)| tensor.requires_grad()).collect()
    }

    /// Tensors that an adapter folder contains: the trained ones, and what they need beside the encoder.
    fn stored(&self) -> Weights {
        self.tensors().into_iter().filter(|(name, tensor)| tensor.requires_grad() || is_outside(name)).collect()
    }

    /// How many parameters it has.
    pub fn num_parameters(&self) -> ParameterCounts {
        let sum = |weights: &Weights| weights.values().map(|tensor| tensor.numel() as u64).sum::<u64>();
        let all = self.tensors();
        let (total, encoder, head) = (sum(&all), sum(&self.encoder_weights), sum(&self.head_weights));
        let trainable = all.values().filter(|tensor| tensor.requires_grad()).map(|tensor| tensor.numel() as u64).sum();
        ParameterCounts { total, trainable, encoder, adapters: total - encoder - head, head }
    }

    /// The head on top.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Logits, see [`HeadOutput`]. Evaluation keeps no graph.
    ///
    /// Errors: [`ModelError::Batch`] when the lengths do not fit the audio.
    pub fn forward(&self, batch: &Batch, mode: Mode) -> Result<Tensor, ModelError> {
        Ok(self.outputs(batch, mode)?.logits)
    }

    /// Output of the head for a batch. Evaluation keeps no graph.
    ///
    /// Errors: [`ModelError::Batch`] when the lengths do not fit the audio.
    pub fn outputs(&self, batch: &Batch, mode: Mode) -> Result<HeadOutput, ModelError> {
        match mode {
            Mode::Train { .. } => self.run(batch, mode),
            Mode::Eval => tch::no_grad(|| self.run(batch, mode)),
        }
    }

    fn run(&self, batch: &Batch, mode: Mode) -> Result<HeadOutput, ModelError> {
        let shape = batch.audio.size();
        let (rows, samples) = (shape.first().copied().unwrap_or(0), shape.get(1).copied().unwrap_or(0));
        // What the convolutions made of each utterance alone says nothing of padding: its length alone tells it from sound.
        let features = shape.len() == 3;
        let needed = |length: i64| if features { self.config.num_input_frames(length) } else { length };
        if let Some(longest) = self.config.max_samples() {
            let rate = f64::from(self.preprocessor.sampling_rate);
            if let Some(&length) = batch.num_samples.iter().find(|&&length| length > longest) {
                return Err(ModelError::TooLong { secs: length as f64 / rate, limit_secs: longest as f64 / rate });
            }
        }
        let fits = |&length: &i64| length > 0 && needed(length) <= samples;
        let reads = features || self.config.frames.is_none();
        if rows == 0 || !reads || batch.num_samples.len() as i64 != rows || !batch.num_samples.iter().all(fits) {
            return Err(ModelError::Batch { rows, samples, lengths: batch.num_samples.clone() });
        }
        // From pinned memory the copy is only ordered here, before what is computed of it.
        let audio = batch.audio.f_to_device_(self.device, batch.audio.kind(), true, false)?.f_to_kind(self.kind)?;
        let alone = self.single_clips && matches!(mode, Mode::Eval);
        let single = alone && !features;
        let pass = Pass::begin(mode).of_single_clips(alone);
        let normed_over_time = self.config.feat_extract_norm == FeatureNorm::Group;
        let padded = batch.num_samples.iter().any(|&own| own != samples);
        let audio = if single && normed_over_time && padded {
            self.encoder.convolve_each(&audio, &batch.num_samples, &pass)?
        } else {
            audio
        };
        let tells = features || single || self.preprocessor.return_attention_mask;
        let num_samples = tells.then_some(batch.num_samples.as_slice());
        let mut states = Vec::new();
        let mut last_layer = None;
        let mut keep = |point: Point, tensor: &Tensor| match point {
            Point::LayerInput(_) if self.head.mixes_layers() => states.push(tensor.shallow_clone()),
            Point::LastLayer => last_layer = Some(tensor.shallow_clone()),
            _ => {}
        };
        let input = Input { audio: &audio, num_samples, masked: None };
        let output = self.encoder.forward(input, &pass, &mut keep)?;
        states.push(match (self.last_state, last_layer) {
            (LastState::BeforeNorm, Some(state)) if self.head.mixes_layers() => state,
            _ => output.last_hidden_state,
        });
        Ok(self.head.forward(&states, output.frames.as_ref(), &pass)?)
    }

    /// A batch on the model's device, padded to whole parts of a second where that changes no value of what is sound.
    ///
    /// Errors: libtorch's, out of memory.
    pub fn pad_to_parts(&self, batch: &Batch) -> Result<Batch, TchError> {
        // From pinned memory the copy is only ordered here, before what is computed of it.
        let audio = batch.audio.f_to_device_(self.device, batch.audio.kind(), true, false)?;
        let size = audio.size();
        let num_samples = &batch.num_samples;
        let (features, config) = (size.len() == 3, &self.config);
        let longest = if features { num_samples.iter().copied().max().unwrap_or(0) } else { size[1] };
        let part = i64::from(self.preprocessor.sampling_rate) / PARTS_PER_SEC;
        let length = longest + (-longest).rem_euclid(part);
        let length = config.max_samples().map_or(length, |most| length.min(most));
        let (length, frame) = if features { (config.num_input_frames(length), &[0, 0][..]) } else { (length, &[][..]) };
        let missing = length - size[1];
        let audio = if missing > 0 && self.ignores_padding(features) {
            audio.f_constant_pad_nd([frame, &[0, missing]].concat())?
        } else {
            audio
        };
        Ok(Batch { audio, num_samples: num_samples.clone(), labels: batch.labels.as_ref().map(Tensor::shallow_clone) })
    }

    /// True if nothing that is computed of sound in training depends on how much padding comes after it.
    fn ignores_padding(&self, features: bool) -> bool {
        let config = &self.config;
        let told = features || (self.preprocessor.return_attention_mask && config.feat_extract_norm == FeatureNorm::Layer);
        let narrow_positions = config.conv_pos_kernel_size.is_some();
        told && !narrow_positions && !matches!(&self.method, Method::ConvAdapter(conv) if !conv.masked)
    }

    /// Lets training keep no activations of the encoder's layers, see [`Encoder::recompute_layers`].
    pub fn recompute_layers(&mut self, on: bool) {
        self.encoder.recompute_layers(on);
    }

    /// Goes backward from a loss of the last training pass; gradients add up in what is trained.
    pub fn backward(&self, loss: &Tensor) -> Result<(), ModelError> {
        Ok(self.encoder.backward(loss)?)
    }

    /// Penalty on the trained tensors themselves, which the loss of an update contains; none for most methods.
    ///
    /// Errors: libtorch's.
    pub fn penalty(&self) -> Result<Option<Tensor>, ModelError> {
        Ok(self.adapters.penalty()?)
    }

    /// Sets trained tensors, all of them, to values made earlier by [`Self::trainable`].
    ///
    /// Errors: [`ModelError::Values`] when a name or a shape does not fit; nothing is changed then.
    pub fn set_trainable(&self, values: &[(String, Tensor)]) -> Result<(), ModelError> {
        let values = values.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        assign(&self.trainable().into_iter().collect(), &values)
    }

    /// Writes what was trained under `folder`, and returns the folder inside: for fine-tuning `checkpoint/`, a whole model in the Hugging Face layout, which
    /// may serve as an encoder again; for other methods `adapter/`, see [`files`].
    pub fn save(&self, folder: &Path, labels: &[String]) -> Result<PathBuf, ModelError> {
        let folder = self.saved_folder(folder);
        fs::create_dir_all(&folder).map_err(CheckpointError::io("create", &folder))?;
        if self.saves_whole() {
            return self.save_whole(&folder, labels).map(|()| folder);
        }
        self.describe(&folder, labels)?;
        let note = files::caveat(&self.config, &self.method);
        let (base, head, last_state) = (self.base()?, self.head_spec.clone(), self.last_state);
        let vocabulary = self.vocabulary.clone();
        let origin = Origin { base, labels: labels.to_vec(), vocabulary, head, layer_sum_last: last_state, note };
        let mut stored = self.stored();
        self.adapters.convert(&mut stored, self.config.model_type.prefix())?;
        let saved =
            files::Saved { method: &self.method.as_saved(), updates: self.updates, tensors: stored, head: &self.head_weights };
        files::write(&folder, saved, &self.config.architecture(), &origin)?;
        Ok(folder)
    }

    fn saved_folder(&self, folder: &Path) -> PathBuf {
        folder.join(if self.saves_whole() { "checkpoint" } else { "adapter" })
    }

    /// True if the outcome is a model of its own, rather than something beside a frozen encoder.
    fn saves_whole(&self) -> bool {
        matches!(self.method, Method::Finetune(_))
    }

    pub(super) fn save_whole(&self, folder: &Path, labels: &[String]) -> Result<(), ModelError> {
        self.describe(folder, labels)?;
        Ok(safetensors::write(&folder.join(WEIGHTS), &self.tensors())?)
    }

    /// Writes the files that describe the encoder with this head: configuration, preparation of waveforms, tokens.
    fn describe(&self, folder: &Path, labels: &[String]) -> Result<(), ModelError> {
        let mut config = self.config.clone();
        for name in OF_A_HEAD {
            config.other.remove(name);
        }
        config.other.remove("torch_dtype");
        config.other.insert("dtype".to_owned(), "float32".into());
        if let Some(class) = class_of(self.config.model_type, self.head.class()) {
            config.other.insert("architectures".to_owned(), json!([class]));
        }
        config.other.insert("use_weighted_layer_sum".to_owned(), self.head.mixes_layers().into());
        if self.head.mixes_layers() {
            config.other.insert("layer_sum_last".to_owned(), json!(self.last_state));
        }
        if matches!(self.head_spec, HeadSpec::Ctc { .. }) {
            if let Some(vocabulary) = &self.vocabulary {
                config.other.insert("pad_token_id".to_owned(), vocabulary.blank().into());
                tokenizer::write(folder, vocabulary, self.config.model_type)?;
            }
        } else {
            let ids = labels.iter().enumerate();
            let by_id: Map<String, Value> = ids.clone().map(|(id, label)| (id.to_string(), label.clone().into())).collect();
            let by_label: Map<String, Value> = ids.map(|(id, label)| (label.clone(), id.into())).collect();
            config.other.extend([("id2label".to_owned(), by_id.into()), ("label2id".to_owned(), by_label.into())]);
        }
        config.other.extend(Head::config(&self.head_spec, labels.len()));
        config.write(folder)?;
        Ok(self.preprocessor.write(folder)?)
    }

    /// Takes up what [`Self::save`] wrote, on a model of the same encoder, method and head.
    ///
    /// Errors: [`ModelError::OtherBase`] for an adapter of another encoder, [`ModelError::OtherShape`] for one of another shape.
    pub fn load_trained(&mut self, folder: &Path) -> Result<(), ModelError> {
        let folder = self.saved_folder(folder);
        if !self.saves_whole() {
            return self.load_adapter(&folder).map(|_| ());
        }
        // Everything is in the checkpoint, so everything is taken from it.
        assign(&self.tensors(), &safetensors::read(&folder.join(WEIGHTS), |_| true)?)?;
        // A frozen positional convolution was folded when the encoder was built.
        self.encoder = Encoder::new(&self.config, &self.encoder_weights, &self.adapters)?;
        Ok(())
    }

    /// Reads the head of a checkpoint folder.
    ///
    /// Errors: files that cannot be read, [`ModelError::Values`] when the head is another one.
    pub(crate) fn load_head(&self, folder: &Path) -> Result<(), ModelError> {
        let (_, values) = weights::read_files(folder, |name| self.head_weights.contains_key(name))?;
        assign(&self.head_weights, &values)
    }

    /// Reads an adapter folder itself, wherever it lies: `adapter/` of a saved model, or one that peft wrote. Says how certain it is
    /// that it belongs to this encoder.
    ///
    /// Errors: [`ModelError::OtherBase`] and [`ModelError::OtherFamily`] for an adapter of another encoder, [`ModelError::OtherShape`]
    /// for one whose tensors do not fit.
    pub fn load_adapter(&mut self, folder: &Path) -> Result<Certainty, ModelError> {
        let certainty = require_base(folder, || self.base())?;
        let values = files::read_weights(folder)?;
        require_family(folder, &values, self.config.model_type)?;
        assign(&self.stored(), &values).map_err(|error| match error {
            ModelError::Values { mistakes } => other_shape(folder, &self.config, mistakes),
            other => other,
        })?;
        Ok(certainty)
    }

    /// The encoder as it was read.
    pub(super) fn base(&self) -> Result<Base, ModelError> {
        let digest = self.base_digest.clone().map_or_else(|| weights::digest(&self.encoder_weights), Ok)?;
        Ok(Base::new(&self.config, digest))
    }

    /// Returns a model without adapters, which are merged into its weights. This one keeps its own weights, bit for bit.
    ///
    /// Errors: [`ModelError::CannotMerge`] for a method that is more than a change of weights.
    pub fn merged(&self) -> Result<Self, ModelError> {
        let encoder_weights = self.adapters.merge_into(&self.encoder_weights)?;
        Ok(Self {
            encoder: Encoder::new(&self.config, &encoder_weights, &Adapters::new())?,
            head_spec: self.head_spec.clone(),
            head: Head::new(&self.head_spec, &self.head_weights),
            config: self.config.clone(),
            preprocessor: self.preprocessor.clone(),
            method: Method::Finetune(Finetune { scope: Scope::All, layers: None }),
            encoder_weights,
            base_digest: None,
            adapters: Adapters::new(),
            head_weights: self.head_weights.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect(),
            last_state: self.last_state,
            single_clips: self.single_clips,
            vocabulary: self.vocabulary.clone(),
            device: self.device,
            kind: self.kind,
            updates: self.updates,
        })
    }
}
