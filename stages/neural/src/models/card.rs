//! Model cards: `README.md` next to what a training left, with the metadata that the Hugging Face Hub reads and lines of Python that load
//! the folder.

use std::fmt::Write;
use std::path::Path;

use neural_spec::{AdapterActivation, Bottleneck, ConvAdapter, HeadSpec, LIBTORCH, LastState, Layers, Method, Prefix, Train};
use pipeline::StageError;
use serde_json::{Value, json};
use tasks::{Outputs, TaskFile};

use super::model::Model;
use crate::checkpoint::config::ModelType;
use crate::train::Summary;

/// Facts of a trained model.
pub(crate) struct Card<'a> {
    pub(crate) model: &'a Model,
    pub(crate) params: &'a Train,
    pub(crate) task: &'a TaskFile,
    /// Corpus, protocol and licence of the data, as the shards have them.
    pub(crate) origin: Option<&'a str>,
    pub(crate) summary: &'a Summary,
    /// Interval of the score on the dev set.
    pub(crate) interval: Option<[f64; 2]>,
}

/// Name of the file.
const FILE_NAME: &str = "README.md";
/// Outputs of a model that are listed by name; of more, the number is stated alone.
const LISTED: usize = 40;

impl Card<'_> {
    /// Writes the card into the folder of the model.
    ///
    /// Errors: a file that cannot be written, what libtorch reports of the encoder's weights.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), StageError> {
        let path = folder.join(FILE_NAME);
        std::fs::write(&path, self.text()?).map_err(StageError::io("write", &path))
    }

    fn text(&self) -> Result<String, StageError> {
        let (task, method) = (self.task.name().replace('_', " "), self.params.method.name());
        let family = self.model.config().model_type.class();
        let rows: Vec<String> = self.rows()?.iter().map(|(name, value)| format!("| {name} | {value} |\n")).collect();
        let rows = rows.concat();
        let what = if self.is_adapter() { "An adapter" } else { "A fine-tuned encoder" };
        Ok(format!(
            "---\n{}---\n\n# {family} for {task}, {method}\n\n{what} with a head for {task}, trained by `sure`.\n\n| | |\n| --- | --- |\n{rows}\n{}",
            self.metadata(),
            self.usage()
        ))
    }

    fn is_adapter(&self) -> bool {
        !matches!(self.params.method, Method::Finetune(_))
    }

    /// Metadata of the Hub. JSON strings are YAML strings.
    fn metadata(&self) -> String {
        let origin = self.origin();
        let of = |name: &str| origin[name].as_str().unwrap_or("unknown").to_owned();
        let (corpus, protocol) = (of("corpus"), of("protocol"));
        let method = self.params.method.name();
        let pipeline = if matches!(self.params.head, HeadSpec::Ctc { .. }) {
            "automatic-speech-recognition"
        } else {
            "audio-classification"
        };
        let library = if self.is_adapter() && loads_with_peft(&self.params.method) { "peft" } else { "transformers" };
        let mut text = format!("library_name: {library}\npipeline_tag: {pipeline}\ntags: [sure, speech, {method}]\n");
        if let Some(name) = self.base_name().filter(|_| self.is_adapter()) {
            let _ = writeln!(text, "base_model: {}\nbase_model_relation: adapter", json!(name));
        }
        let metric = self.summary.metric;
        let _ = writeln!(text, "metrics: [{}]", metric.name());
        if let Some(value) = self.summary.best_value.filter(|value| value.is_finite()) {
            let (task, name) = (self.task.name(), format!("{}-{method}", self.task.name()));
            let interval = self.interval.map(|[low, high]| format!(", 95 % interval {low:.4} to {high:.4}")).unwrap_or_default();
            let _ = writeln!(
                text,
                "model-index:\n- name: {}\n  results:\n  - task: {{type: {pipeline}, name: {}}}\n    dataset: {{type: {}, name: {}, split: dev}}\n    metrics:\n    - {{type: {}, value: {value:.4}, name: {}}}",
                json!(name),
                json!(task),
                json!(corpus),
                json!(format!("{corpus}, {protocol}")),
                metric.name(),
                json!(format!("{}{interval}", metric.title())),
            );
        }
        text
    }

    fn origin(&self) -> Value {
        self.origin.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// Name of the encoder on the Hub, where its configuration states one.
    fn base_name(&self) -> Option<&str> {
        let name = self.model.config().other.get("_name_or_path")?.as_str()?;
        let is_name = name.split('/').count() == 2 && !name.starts_with(['/', '.', '~']);
        is_name.then_some(name)
    }

    /// Rows of the table: name and value.
    fn rows(&self) -> Result<Vec<(&'static str, String)>, StageError> {
        let Self { params, summary, .. } = self;
        let mut rows = Vec::new();
        if self.is_adapter() {
            rows.push(("encoder", self.model.base()?.to_string()));
            rows.push(("digest of the encoder", format!("`{}`", self.model.base()?.digest)));
        }
        let protocol = serde_json::to_value(self.task.protocol).unwrap_or_default();
        let made_from = self.task.name.as_ref().map(|_| format!(" (`{}`)", self.task.task.name())).unwrap_or_default();
        rows.push(("task", format!("{}{made_from}, protocol {protocol}", self.task.name())));
        let origin = self.origin();
        let of = |name: &str| origin[name].as_str().map(|value| format!("{name} {value}"));
        let data: Vec<String> = ["corpus", "protocol", "licence"].into_iter().filter_map(of).collect();
        rows.push(("data", if data.is_empty() { "not stated".to_owned() } else { data.join(", ") }));
        let names = &summary.outputs;
        let listed = if names.len() <= LISTED {
            names.iter().map(|name| format!(" `{}`", name.replace('|', "\\|"))).collect::<Vec<_>>().concat()
        } else {
            String::new()
        };
        rows.push((
            if matches!(params.head, HeadSpec::Ctc { .. }) { "tokens" } else { "classes" },
            format!("{}:{listed}", names.len()),
        ));
        let score = summary.best_value.map_or("–".to_owned(), |value| summary.metric.print(value));
        let interval = self.interval.map(|ends| ends.map(|end| summary.metric.print(end)));
        let interval =
            interval.map(|[low, high]| format!(", 95 % interval {low} to {high} over its utterances")).unwrap_or_default();
        rows.push((
            "score",
            format!("{} {score} on the dev set{interval}; the point was chosen by it", summary.metric.title_with_unit()),
        ));
        let written = |value: Result<String, serde_json::Error>| format!("`{}`", value.unwrap_or_default().replace('|', "\\|"));
        rows.push(("method", written(serde_json::to_string(&params.method))));
        if params.method.as_saved() != params.method {
            rows.push((
                "saved as",
                "a LoRA of twice the rank on the encoder's own weights, as peft converts PiSSA: the trained update, less the one it started as"
                    .to_owned(),
            ));
        }
        rows.push(("head", written(serde_json::to_string(&params.head))));
        if params.head.layer_sum() {
            rows.push((
                "last entry of the mix of layers",
                match self.model.last_state() {
                    LastState::AfterNorm if self.model.config().model_type == ModelType::Whisper => {
                        "after the final norm of the encoder, as transformers computes it".to_owned()
                    }
                    LastState::BeforeNorm => "before the final norm of the encoder, as transformers 5 computes it".to_owned(),
                    LastState::AfterNorm => {
                        "after the final norm of the encoder, as transformers 4 computed it: version 5 gives other answers for pre-norm encoders"
                            .to_owned()
                    }
                },
            ));
        }
        let counts = summary.parameters;
        rows.push(("parameters", format!("{} trained of {}", counts.trainable, counts.total)));
        let updates = format!("{} of {} updates", summary.best_step, summary.steps);
        let setting = |name: &str, value: String| format!("{name} {value}");
        rows.push((
            "training",
            [
                updates,
                setting("learning rate", format!("{:e}", params.learning_rate)),
                setting("schedule", written(serde_json::to_string(&params.schedule))),
                setting("batches of at most", format!("{} s", params.batch_secs)),
                setting("weight decay", params.weight_decay.to_string()),
                setting("seed", params.seed.to_string()),
                setting("precision", serde_json::to_value(params.precision).unwrap_or_default().to_string()),
                setting("libtorch", LIBTORCH.to_owned()),
            ]
            .join(", "),
        ));
        Ok(rows)
    }

    /// Chapter with lines of Python, or the reason why there are none.
    fn usage(&self) -> String {
        let family = self.model.config().model_type;
        if let Some(reason) = not_in_transformers(family, &self.params.head, &self.params.method) {
            return format!("## Use\n\n{reason} `sure` loads it.\n");
        }
        let names = if self.is_adapter() {
            "`encoder` is the folder of the encoder or its name on the Hub, `adapter` this folder"
        } else {
            "`folder` is this folder"
        };
        let note = match &self.params.method {
            method if loads_with_peft(method) && self.params.head.layer_sum() => {
                "\n`save_pretrained` of peft leaves out `layer_weights`, the weights of the mix of layers: keep this folder's file.\n"
            }
            method if loads_with_peft(method) && matches!(self.params.head, HeadSpec::Xvector { .. }) => {
                "\n`save_pretrained` of peft leaves out `feature_extractor`, a layer of the head: keep this folder's file.\n"
            }
            _ => "",
        };
        format!(
            "## Use\n\n{names}, `samples` one clip as a float array: mono, 16 kHz, between -1 and 1.\nTested with transformers 5.23 and peft 0.21.\n{note}\n```python\n{}```\n",
            self.code()
        )
    }

    fn code(&self) -> String {
        let (model, head) = match self.params.head {
            HeadSpec::Classification { .. } | HeadSpec::MultiLabel { .. } | HeadSpec::Tagging { .. } => {
                ("AutoModelForAudioClassification", "logits")
            }
            HeadSpec::Ctc { .. } => ("AutoModelForCTC", "logits"),
            HeadSpec::Xvector { .. } => ("AutoModelForAudioXVector", "embeddings"),
        };
        let processor = if matches!(self.params.head, HeadSpec::Ctc { .. }) { "AutoProcessor" } else { "AutoFeatureExtractor" };
        let mut code = "import torch\n".to_owned();
        let folder = if self.is_adapter() { "adapter" } else { "folder" };
        if !self.is_adapter() {
            let _ =
                writeln!(code, "from transformers import {processor}, {model}\n\nmodel = {model}.from_pretrained(folder).eval()");
        } else if loads_with_peft(&self.params.method) {
            // transformers' WavLM hands the bare weights of its attention past peft's modules: merged, they are the right ones.
            let merged = if self.model.config().model_type == ModelType::Wavlm { ".merge_and_unload()" } else { "" };
            let _ = writeln!(
                code,
                "from peft import PeftModel\nfrom transformers import AutoConfig, {processor}, {model}\n\nconfig = AutoConfig.from_pretrained(adapter)\nmodel = {model}.from_pretrained(encoder, config=config, ignore_mismatched_sizes=True)\nmodel = PeftModel.from_pretrained(model, adapter){merged}.eval()"
            );
        } else {
            let _ = writeln!(
                code,
                "from safetensors.torch import load_file\nfrom transformers import AutoConfig, {processor}, {model}\n\nconfig = AutoConfig.from_pretrained(adapter)\nmodel = {model}.from_pretrained(encoder, config=config, ignore_mismatched_sizes=True).eval()\ntensors = load_file(f\"{{adapter}}/adapter_model.safetensors\")\nmodel.load_state_dict(tensors, strict=False)"
            );
            code += &self.own_code();
        }
        let _ = writeln!(code, "processor = {processor}.from_pretrained({folder})");
        code += if self.model.config().model_type == ModelType::Whisper { WHISPER_INPUT } else { INPUT };
        let _ = writeln!(code, "with torch.no_grad():\n    output = model(**inputs).{head}");
        let answer = match &self.params.head {
            HeadSpec::Classification { .. } => "print(model.config.id2label[output.argmax(-1).item()])\n".to_owned(),
            HeadSpec::MultiLabel { .. } => {
                let Outputs::Groups { groups } = &self.task.outputs else { return code };
                let sizes: Vec<usize> = groups.iter().map(|group| group.labels.len()).collect();
                format!("print([group.argmax(-1).item() for group in output.split({sizes:?}, -1)])\n")
            }
            HeadSpec::Tagging { .. } => {
                "print([model.config.id2label[at] for at, p in enumerate(output[0].sigmoid().tolist()) if p >= 0.5])\n".to_owned()
            }
            HeadSpec::Ctc { .. } => "print(processor.batch_decode(output.argmax(-1))[0])\n".to_owned(),
            HeadSpec::Xvector { .. } => "print(output.shape)\n".to_owned(),
        };
        code.push_str(&answer);
        code
    }

    /// Lines that attach the modules of a method that peft does not know.
    fn own_code(&self) -> String {
        match &self.params.method {
            Method::Bottleneck(Bottleneck { activation, .. }) => {
                let activation = match activation {
                    AdapterActivation::Relu => "relu",
                    AdapterActivation::Gelu => "gelu",
                    AdapterActivation::Silu => "silu",
                };
                HOOK.replace(
                    "BODY",
                    &format!(
                        "narrow = F.{activation}(F.linear(x, of(\"bottleneck_adapter.adapter_down.0.weight\"), of(\"bottleneck_adapter.adapter_down.0.bias\")))\n        x = x + F.linear(narrow, of(\"bottleneck_adapter.adapter_up.weight\"), of(\"bottleneck_adapter.adapter_up.bias\"))"
                    ),
                )
            }
            Method::ConvAdapter(ConvAdapter { .. }) => self.conv_code(),
            Method::Prefix(prefix) => self.prefix_code(prefix),
            _ => String::new(),
        }
    }

    /// A single clip has no padding, but for Wav2Vec2-BERT: its extractor fills up an odd number of frames to a pair, and masks that pair.
    fn conv_code(&self) -> String {
        let padded = self.model.config().model_type == ModelType::Wav2vec2Bert;
        let (mask, real, mean) = if padded {
            ("real = seen[\"attention_mask\"].unsqueeze(1)\n        ", " * real", "(z * real).sum(2) / real.sum(2)")
        } else {
            ("", "", "z.mean(2)")
        };
        let body = format!(
            "{mask}z = F.layer_norm(x, x.shape[-1:], of(\"layer_norm1.weight\"), of(\"layer_norm1.bias\")).transpose(1, 2){real}
        w1, w2, w3 = (of(f\"conv{{at}}.weight\") for at in (1, 2, 3))
        z = F.conv1d(z, w1, padding=w1.shape[2] // 2, groups=len(w2)).relu(){real}
        z = F.conv1d(z, w2, padding=w2.shape[2] // 2, groups=len(w2)){real}
        z = F.conv1d(z, w3, padding=w3.shape[2] // 2, groups=len(w2))
        gate = F.linear(F.linear({mean}, of(\"se3.fc.0.weight\")).relu(), of(\"se3.fc.2.weight\")).sigmoid()
        x = x + z.transpose(1, 2) * gate.unsqueeze(1)"
        );
        HOOK.replace("BODY", &body) + if padded { SEEN } else { "" }
    }

    fn prefix_code(&self, prefix: &Prefix) -> String {
        let config = self.model.config();
        let stack = &config.architecture().stacks[0];
        let layers = Layers::or_all(prefix.layers.as_ref(), stack).unwrap_or_default();
        let project = if prefix.projection.is_some() {
            "w = [tensors[f\"prefix_encoder.trans.{part}\"] for part in (\"0.weight\", \"0.bias\", \"2.weight\", \"2.bias\")]\ntable = torch.nn.functional.linear(torch.nn.functional.linear(table, w[0], w[1]).tanh(), w[2], w[3])\n"
        } else {
            ""
        };
        format!(
            "
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

table = tensors[\"prefix_encoder.embedding.weight\"]
{project}layers, heads = {layers:?}, {heads}
table = table.view(len(table), len(layers), 2, heads, -1).permute(1, 2, 3, 0, 4)
for at, layer in enumerate(layers):
    model.base_model.encoder.layers[layer].{attention}.prefix = table[at]

def with_prefix(module, query, key, value, mask, **options):
    if hasattr(module, \"prefix\"):
        key, value = (torch.cat([own.expand(len(query), -1, -1, -1), x], 2) for own, x in zip(module.prefix, (key, value)))
    return sdpa_attention_forward(module, query, key, value, None, **options)

AttentionInterface.register(\"prefix\", with_prefix)
model.set_attn_implementation(\"prefix\")
",
            heads = config.num_attention_heads,
            attention = if config.model_type == ModelType::Whisper { "self_attn" } else { "attention" },
        )
    }
}

/// Lines that prepare a clip.
const INPUT: &str = "inputs = processor(samples, sampling_rate=16000, return_tensors=\"pt\")\n";
/// Lines that prepare a clip for Whisper at its own length: transformers pads to 30 s, unless there are fewer positions.
const WHISPER_INPUT: &str =
    "inputs = processor(samples, sampling_rate=16000, padding=\"longest\", pad_to_multiple_of=320, return_tensors=\"pt\")
inner = next(module for name, module in model.named_modules() if name.split(\".\")[-1] == \"encoder\")
inner.config.max_source_positions = inner.embed_positions.num_embeddings = inputs.input_features.shape[-1] // 2
";

/// Lines that put a block behind every module that has one.
const HOOK: &str = "
import torch.nn.functional as F

def block_of(name):
    of = lambda part: tensors[f\"{name}.adapterblock.{part}\"]
    def block(module, inputs, output):
        x, *rest = output if isinstance(output, tuple) else (output,)
        BODY
        return (x, *rest) if isinstance(output, tuple) else x
    return block

for name, module in model.named_modules():
    if any(tensor.startswith(f\"{name}.adapterblock.\") for tensor in tensors):
        module.register_forward_hook(block_of(name))
";

/// Lines that keep the mask of a clip for the blocks.
const SEEN: &str = "
seen = {}
model.register_forward_pre_hook(lambda module, inputs, options: seen.update(options), with_kwargs=True)
";

/// True if the Python library peft knows the method.
fn loads_with_peft(method: &Method) -> bool {
    matches!(method, Method::Lora(_) | Method::AdaLora(_) | Method::Vera(_) | Method::Ia3(_))
}

/// Reason why transformers cannot compute a model.
fn not_in_transformers(family: ModelType, head: &HeadSpec, method: &Method) -> Option<&'static str> {
    let speakers = matches!(head, HeadSpec::Xvector { .. });
    if speakers && matches!(family, ModelType::Hubert | ModelType::Unispeech | ModelType::Whisper) {
        return Some("transformers has no x-vector head for this family of encoders.");
    }
    if matches!(head, HeadSpec::Ctc { layer_sum: true, .. }) {
        return Some("transformers has no CTC head that mixes layers.");
    }
    if matches!(head, HeadSpec::Ctc { .. }) && family == ModelType::Whisper {
        return Some(
            "transformers has no CTC head for Whisper. Its `WhisperForAudioClassification` loads the encoder; the head, `lm_head`, is one linear \
             layer on the encoder's output.",
        );
    }
    if matches!(method, Method::Prefix(_)) && family == ModelType::Wavlm {
        return Some("transformers' WavLM has no place for the keys and values of a prefix.");
    }
    if matches!(method, Method::Prefix(_)) && family == ModelType::Wav2vec2Bert {
        return Some("transformers' Wav2Vec2-BERT has no place for the keys and values of a prefix.");
    }
    None
}
