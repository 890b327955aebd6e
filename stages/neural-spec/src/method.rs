//! Methods of adapting a model: all of its weights are trained, or a few parameters beside them.

mod adalora;
mod block;
mod count;
mod layers;
mod linear;
mod misfit;
mod tensors;
mod vera;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::adalora::{AdaLora, Phases};
pub use self::block::{AdapterActivation, Bottleneck, ConvAdapter, Prefix};
pub use self::count::Counts;
pub use self::layers::Layers;
pub use self::linear::{Ia3, Lora};
pub use self::misfit::Misfit;
pub use self::tensors::{Added, Start};
pub use self::vera::Vera;
use crate::Mistakes;

/// A way of adapting an encoder to a task. The head is trained in every one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Method {
    /// Trains the encoder's own weights.
    Finetune(Finetune),
    /// Trains the head alone: the baseline that the benchmark left out.
    HeadOnly(HeadOnly),
    /// Trains small feed-forward blocks inside the transformer layers (Houlsby et al. 2019, arXiv:1902.00751).
    Bottleneck(Bottleneck),
    /// Trains keys and values in front of those of every attention (Li and Liang 2021, arXiv:2101.00190).
    Prefix(Prefix),
    /// Trains low-rank updates beside linear layers (LoRA; Hu et al. 2021, arXiv:2106.09685); also rsLoRA, DoRA and PiSSA.
    Lora(Lora),
    /// Trains low-rank updates whose ranks are shared out among the layers in training (Zhang et al. 2023, arXiv:2303.10512).
    #[serde(rename = "adalora")]
    AdaLora(AdaLora),
    /// Trains factors of fixed random low-rank updates that all layers share (Kopiczko et al. 2024, arXiv:2310.11454).
    Vera(Vera),
    /// Trains small convolutional blocks inside the transformer layers, as the benchmark proposes (Li et al. 2023, arXiv:2303.03267).
    #[serde(rename = "convadapter")]
    ConvAdapter(ConvAdapter),
    /// Trains factors of the outputs, or inputs, of linear layers (Liu et al. 2022, arXiv:2205.05638).
    Ia3(Ia3),
    /// Trains the encoder's biases (Ben Zaken et al. 2022, arXiv:2106.10199).
    #[serde(rename = "bitfit")]
    BitFit(BitFit),
}

/// Trains the encoder's own weights.
///
/// The benchmark's speaker recognition trains all but the lower 20 of 24 layers: `{ scope = "all", layers = { last = 4 } }`.
/// Its speech recognition, phonemes and slots: `{ scope = "all_but_conv" }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Finetune {
    /// Which parts. Default `all`, as in the benchmark's emotions, keywords and intents.
    pub scope: Scope,
    /// The transformer layers that are trained: a list, `{ from, to }` or `{ last }`. The others are frozen. Default all.
    pub layers: Option<Layers>,
}

impl Default for Finetune {
    fn default() -> Self {
        Self { scope: Scope::All, layers: None }
    }
}

/// Trains nothing of the encoder and adds nothing to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeadOnly {}

/// Trains the encoder's biases.
///
/// Source: Ben Zaken et al. 2022, arXiv:2106.10199.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BitFit {
    /// In which parts. Default `all`, as in the paper. Without those of the convolutions a training step is much cheaper.
    pub scope: Scope,
    /// The transformer layers whose biases are trained: a list, `{ from, to }` or `{ last }`. Default all.
    pub layers: Option<Layers>,
}

impl Default for BitFit {
    fn default() -> Self {
        Self { scope: Scope::All, layers: None }
    }
}

/// Which parts of the encoder are trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All of them.
    All,
    /// All but the convolutions over the waveform.
    AllButConv,
    /// The transformer layers alone.
    LayersOnly,
}

impl Method {
    /// The name that workflow files and tables use.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Finetune(_) => "finetune",
            Self::HeadOnly(_) => "head_only",
            Self::Bottleneck(_) => "bottleneck",
            Self::Prefix(_) => "prefix",
            Self::Lora(_) => "lora",
            Self::AdaLora(_) => "adalora",
            Self::Vera(_) => "vera",
            Self::ConvAdapter(_) => "convadapter",
            Self::Ia3(_) => "ia3",
            Self::BitFit(_) => "bitfit",
        }
    }

    /// The transformer layers that it is limited to; none when it may touch all.
    pub fn layers(&self) -> Option<&Layers> {
        match self {
            Self::HeadOnly(_) => None,
            Self::Finetune(Finetune { layers, .. })
            | Self::BitFit(BitFit { layers, .. })
            | Self::Bottleneck(Bottleneck { layers, .. })
            | Self::Prefix(Prefix { layers, .. })
            | Self::Lora(Lora { layers, .. })
            | Self::AdaLora(AdaLora { layers, .. })
            | Self::Vera(Vera { layers, .. })
            | Self::ConvAdapter(ConvAdapter { layers, .. })
            | Self::Ia3(Ia3 { layers, .. }) => layers.as_ref(),
        }
    }

    /// Returns the method of a saved adapter, which is another one with PiSSA: see [`Lora::converted`].
    #[must_use]
    pub fn as_saved(&self) -> Self {
        match self {
            Self::Lora(lora) if lora.pissa => Self::Lora(lora.converted()),
            other => other.clone(),
        }
    }

    /// Returns the method for a model that gets its values from another one: what PiSSA starts from is not computed.
    #[must_use]
    pub fn with_plain_start(&self) -> Self {
        match self {
            Self::Lora(lora) => Self::Lora(Lora { pissa: false, ..lora.clone() }),
            other => other.clone(),
        }
    }

    /// Mistakes in the numbers of a method that do not depend on the encoder, as sentences.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        self.check(&mut mistakes);
        mistakes.into_iter().map(|(name, sentence)| format!("{} {sentence}", name.trim_start_matches("method."))).collect()
    }

    pub(crate) fn check(&self, mistakes: &mut Mistakes) {
        match self {
            Self::HeadOnly(_) => {}
            Self::Finetune(Finetune { layers, .. }) | Self::BitFit(BitFit { layers, .. }) => {
                Layers::check(layers.as_ref(), mistakes);
            }
            Self::Bottleneck(bottleneck) => bottleneck.check(mistakes),
            Self::Prefix(prefix) => prefix.check(mistakes),
            Self::Lora(lora) => lora.check(mistakes),
            Self::AdaLora(adalora) => adalora.check(mistakes),
            Self::Vera(vera) => vera.check(mistakes),
            Self::ConvAdapter(conv) => conv.check(mistakes),
            Self::Ia3(ia3) => ia3.check(mistakes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_read_by_name_and_unknown_fields_refused() {
        let lora = r#"{"name":"lora","rank":8,"alpha":16,"dropout":0,"targets":["q_proj","output_dense"],"rslora":false}"#;
        let method: Method = serde_json::from_str(lora).unwrap();
        assert_eq!(method.name(), "lora");
        for (text, field) in [
            (r#"{"name":"finetune","scope":"all","rank":8}"#, "rank"),
            (r#"{"name":"head_only","rank":8}"#, "rank"),
            (r#"{"name":"convadapter","layers":{"last":2},"kernel":3}"#, "kernel"),
        ] {
            let error = serde_json::from_str::<Method>(text).unwrap_err().to_string();
            assert!(error.contains(&format!("unknown field `{field}`")), "{error}");
        }
    }

    /// The numbers of the benchmark's reference code.
    #[test]
    fn a_name_alone_is_the_published_method() {
        for (name, expected) in [
            ("finetune", Method::Finetune(Finetune { scope: Scope::All, layers: None })),
            ("head_only", Method::HeadOnly(HeadOnly {})),
            ("bottleneck", Method::Bottleneck(Bottleneck::default())),
            ("prefix", Method::Prefix(Prefix { prefix_len: 30, projection: None, dropout: 0.1, init_std: 1.0, layers: None })),
            ("lora", Method::Lora(Lora { rank: 8, alpha: 1.0, ..Lora::default() })),
            (
                "convadapter",
                Method::ConvAdapter(ConvAdapter { kernel_sizes: [3, 5, 3], reduction: 16, ..ConvAdapter::default() }),
            ),
            ("adalora", Method::AdaLora(AdaLora::default())),
            ("vera", Method::Vera(Vera::default())),
            ("ia3", Method::Ia3(Ia3::default())),
            ("bitfit", Method::BitFit(BitFit::default())),
        ] {
            let method: Method = serde_json::from_str(&format!(r#"{{"name":"{name}"}}"#)).unwrap();
            assert_eq!(method, expected);
            assert_eq!(method.name(), name);
            assert_eq!(method.mistakes(), [""; 0]);
            let written = serde_json::to_string(&method).unwrap();
            assert_eq!(serde_json::from_str::<Method>(&written).unwrap(), method, "{written}");
        }
    }

    #[test]
    fn every_mistake_of_a_method_is_named() {
        for (text, mistaken) in [
            (
                r#"{"name":"bottleneck","bottleneck_dim":0,"places":[],"init_std":-1,"layers":[]}"#,
                &["method.bottleneck_dim", "method.places", "method.init_std", "method.layers"][..],
            ),
            (
                r#"{"name":"convadapter","kernel_sizes":[3,4,3],"reduction":0,"places":["attention","attention"]}"#,
                &["method.kernel_sizes", "method.reduction", "method.places"],
            ),
            (
                r#"{"name":"prefix","prefix_len":0,"projection":0,"dropout":1,"layers":{"from":4,"to":2}}"#,
                &["method.prefix_len", "method.projection", "method.dropout", "method.layers"],
            ),
            (r#"{"name":"bitfit","layers":{"last":0}}"#, &["method.layers"]),
            (
                r#"{"name":"adalora","init_rank":4,"delta_t":0,"beta1":1,"beta2":0,"orthogonal":-1}"#,
                &["method.rank", "method.delta_t", "method.beta1", "method.beta2", "method.orthogonal"],
            ),
            (r#"{"name":"vera","rank":0,"d_initial":0,"targets":[]}"#, &["method.rank", "method.d_initial", "method.targets"]),
            (r#"{"name":"lora","dora":true,"pissa":true}"#, &["method.pissa"]),
        ] {
            let mut mistakes = Vec::new();
            serde_json::from_str::<Method>(text).unwrap().check(&mut mistakes);
            let names: Vec<_> = mistakes.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, mistaken);
        }
    }
}
