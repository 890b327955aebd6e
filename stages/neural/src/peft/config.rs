//! `adapter_config.json` as the Python library peft (0.21) writes and reads it, for LoRA, rsLoRA, DoRA, PiSSA, AdaLoRA, VeRA and IA3.

use std::collections::{BTreeMap, BTreeSet};

use neural_spec::{AdaLora, Architecture, Ia3, Layers, LinearLayer, Lora, Method, Phases, Site, SiteKind, Vera};
use serde::Deserialize;
use serde_json::{Value, json};

/// The fields of a LoRA that change the result. What can only be off here is in [`MUST_BE_OFF`]; the rest is stepped over.
#[derive(Deserialize)]
struct LoraConfig {
    r: u32,
    lora_alpha: f64,
    #[serde(default)]
    lora_dropout: f64,
    target_modules: Names,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    layers_to_transform: Option<OneOrMany>,
    #[serde(default)]
    rank_pattern: BTreeMap<String, u32>,
    #[serde(default)]
    alpha_pattern: BTreeMap<String, f64>,
}

/// Those of an AdaLoRA. What it trained with does not change its answers.
#[derive(Deserialize)]
struct AdaLoraConfig {
    init_r: u32,
    target_r: u32,
    lora_alpha: f64,
    #[serde(default)]
    lora_dropout: f64,
    target_modules: Names,
    tinit: u32,
    tfinal: u32,
    #[serde(rename = "deltaT")]
    delta_t: u32,
    beta1: f64,
    beta2: f64,
    orth_reg_weight: f64,
    #[serde(default)]
    layers_to_transform: Option<OneOrMany>,
}

#[derive(Deserialize)]
struct VeraConfig {
    r: u32,
    #[serde(default)]
    vera_dropout: f64,
    d_initial: f64,
    target_modules: Names,
    #[serde(default)]
    layers_to_transform: Option<OneOrMany>,
}

#[derive(Deserialize)]
struct Ia3Config {
    target_modules: Names,
    #[serde(default)]
    feedforward_modules: Option<Names>,
}

/// peft takes a list of names' ends, or one regular expression.
#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    Listed(Vec<String>),
    Expression(#[expect(dead_code, reason = "the tensors tell what it stands for")] String),
}

impl Names {
    /// Listed names, or those that an expression stands for.
    fn or(self, adapted: &[String]) -> Vec<String> {
        match self {
            Self::Listed(names) => names,
            Self::Expression(_) => adapted.to_vec(),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

/// Variants of LoRA and ways of choosing modules that this project does not compute: absent, null, false or empty, or refused.
const MUST_BE_OFF: [&str; 14] = [
    "alora_invocation_tokens",
    "arrow_config",
    "exclude_modules",
    "fan_in_fan_out",
    "layer_replication",
    "lora_bias",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_qalora",
    "use_kasa",
    "kasa_config",
    "velora_config",
];

/// The `init_lora_weights` of PiSSA with exact singular values. Its faster form draws random numbers, which nobody can repeat.
pub(super) const PISSA: &str = "pissa";

/// Fields of a configuration that ask for what this project does not compute, as sentences.
pub(super) fn not_computed(config: &Value) -> Vec<String> {
    let off = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    let on = |name: &&&str| config.get(**name).is_some_and(|value| !off(value));
    let mut mistakes: Vec<String> = MUST_BE_OFF.iter().filter(on).map(|name| format!("{name} is not supported")).collect();
    if config.get("bias").is_some_and(|bias| bias != "none") {
        mistakes.push(format!("bias must be \"none\", not {}", config["bias"]));
    }
    mistakes
}

/// Ways of starting a LoRA that change the frozen weights, which the adapter alone does not tell, as a sentence.
pub(super) fn start_mistakes(config: &Value) -> Vec<String> {
    let start = config.get("init_lora_weights").cloned().unwrap_or(Value::Bool(true));
    let harmless = start.is_boolean() || ["gaussian", "orthogonal", "eva", PISSA].iter().any(|&known| start == known);
    let sentence = (!harmless).then(|| format!("init_lora_weights {start} changes the frozen weights, which is not supported"));
    sentence.into_iter().collect()
}

/// The method that a configuration of peft describes.
///
/// Errors: every mistake, as sentences.
///
/// `adapted`: the modules that have tensors in the adapter, which stand for a regular expression.
pub(super) fn read(peft_type: &str, config: &Value, model: &Architecture, adapted: &[String]) -> Result<Method, Vec<String>> {
    let mut mistakes = not_computed(config);
    // Told here, since serde would name neither the field nor what a person writes there.
    let is_whole = |value: &Value| value.as_u64().is_some_and(|number| u32::try_from(number).is_ok());
    let ranks = config.get("rank_pattern").filter(|_| peft_type == "LORA");
    let whole = [
        config.get("r").into_iter().collect::<Vec<_>>(),
        ranks.and_then(Value::as_object).into_iter().flat_map(serde_json::Map::values).collect(),
        config.get("layers_to_transform").and_then(Value::as_array).into_iter().flatten().collect(),
    ];
    for (name, values) in ["r", "rank_pattern", "layers_to_transform"].into_iter().zip(whole) {
        let wrong = values.into_iter().filter(|value| !is_whole(value));
        mistakes.extend(wrong.map(|value| format!("{name} must be a whole number, not {value}")));
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    if peft_type == "LORA" {
        mistakes = start_mistakes(config);
    }
    let method = match peft_type {
        "LORA" => {
            let pissa = config.get("init_lora_weights").is_some_and(|start| start == PISSA);
            serde_json::from_value(config.clone()).map(|config| lora(config, pissa, model, adapted, &mut mistakes))
        }
        "ADALORA" => serde_json::from_value(config.clone()).map(|config| adalora(config, model, adapted, &mut mistakes)),
        "VERA" => serde_json::from_value(config.clone()).map(|config| vera(config, model, adapted, &mut mistakes)),
        _ => serde_json::from_value(config.clone()).map(|config| ia3(config, model, adapted, &mut mistakes)),
    };
    match method {
        Ok(method) => {
            mistakes.extend(method.mistakes());
            if mistakes.is_empty() { Ok(method) } else { Err(mistakes) }
        }
        Err(error) => {
            mistakes.push(error.to_string());
            Err(mistakes)
        }
    }
}

fn lora(config: LoraConfig, pissa: bool, model: &Architecture, adapted: &[String], mistakes: &mut Vec<String>) -> Method {
    let (targets, layers) = places(config.target_modules, config.layers_to_transform, model, adapted, mistakes);
    Method::Lora(Lora {
        rank: config.r,
        alpha: config.lora_alpha,
        dropout: config.lora_dropout,
        targets,
        rslora: config.use_rslora,
        dora: config.use_dora,
        pissa,
        rank_pattern: config.rank_pattern,
        alpha_pattern: config.alpha_pattern,
        layers,
    })
}

fn adalora(config: AdaLoraConfig, model: &Architecture, adapted: &[String], mistakes: &mut Vec<String>) -> Method {
    let (targets, layers) = places(config.target_modules, config.layers_to_transform, model, adapted, mistakes);
    Method::AdaLora(AdaLora {
        rank: config.target_r,
        init_rank: config.init_r,
        alpha: config.lora_alpha,
        dropout: config.lora_dropout,
        targets,
        tinit: Some(config.tinit),
        tfinal: Some(config.tfinal),
        delta_t: config.delta_t,
        beta1: config.beta1,
        beta2: config.beta2,
        orthogonal: config.orth_reg_weight,
        layers,
    })
}

fn vera(config: VeraConfig, model: &Architecture, adapted: &[String], mistakes: &mut Vec<String>) -> Method {
    let (targets, layers) = places(config.target_modules, config.layers_to_transform, model, adapted, mistakes);
    Method::Vera(Vera { rank: config.r, d_initial: config.d_initial, dropout: config.vera_dropout, targets, layers })
}

/// The linear layers that are adapted, and the transformer layers when they are not all of them.
fn places(
    targets: Names,
    layers: Option<OneOrMany>,
    model: &Architecture,
    adapted: &[String],
    mistakes: &mut Vec<String>,
) -> (Vec<LinearLayer>, Option<Layers>) {
    let (targets, named_layers) = linear_layers("target_modules", targets.or(adapted), model, mistakes);
    let listed = layers.map(|layers| match layers {
        OneOrMany::One(layer) => vec![layer],
        OneOrMany::Many(layers) => layers,
    });
    if named_layers.is_some() && listed.is_some() {
        mistakes.push("layers are named both in target_modules and in layers_to_transform".to_owned());
    }
    (targets, listed.or(named_layers).map(Layers::Listed))
}

fn ia3(config: Ia3Config, model: &Architecture, adapted: &[String], mistakes: &mut Vec<String>) -> Method {
    let (targets, layers) = linear_layers("target_modules", config.target_modules.or(adapted), model, mistakes);
    let (feedforward, _) = config
        .feedforward_modules
        .map_or_else(Default::default, |names| linear_layers("feedforward_modules", names.or(&[]), model, mistakes));
    Method::Ia3(Ia3 { targets, feedforward, layers: layers.map(Layers::Listed) })
}

/// The linear layers that names end in, and the transformer layers when they are not all of them.
fn linear_layers(
    field: &str,
    names: Vec<String>,
    model: &Architecture,
    mistakes: &mut Vec<String>,
) -> (Vec<LinearLayer>, Option<Vec<u32>>) {
    let mut found: BTreeMap<(usize, u32), BTreeSet<LinearLayer>> = BTreeMap::new();
    for name in names {
        let ends =
            |site: &Site| site.name.strip_suffix(name.as_str()).is_some_and(|front| front.is_empty() || front.ends_with('.'));
        let mut is_known = false;
        for site in model.sites.iter().filter(|site| ends(site)) {
            if let SiteKind::Linear(linear) = site.kind {
                found.entry((site.stack, site.layer)).or_default().insert(linear);
                is_known = true;
            }
        }
        if !is_known {
            mistakes.push(format!("{field} has `{name}`, which is no linear layer of a transformer layer"));
        }
    }
    let linears: BTreeSet<LinearLayer> = found.values().flatten().copied().collect();
    let in_stack = |at| found.keys().filter(|(stack, _)| *stack == at).map(|&(_, layer)| layer).collect::<Vec<_>>();
    let layers: Vec<Vec<u32>> = (0..model.stacks.len()).map(in_stack).collect();
    let whole = layers.iter().zip(&model.stacks).all(|(layers, stack)| layers.len() == stack.num_layers as usize);
    let first = layers.first().cloned().unwrap_or_default();
    if found.values().any(|own| *own != linears) || !(whole || layers.iter().all(|own| *own == first)) {
        mistakes.push(format!("{field} names other modules in one transformer layer than in another"));
    }
    (linears.into_iter().collect(), (!whole).then_some(first).filter(|layers| !layers.is_empty()))
}

/// The configuration of a method that peft knows, for a model with these sites; none for other methods.
///
/// `head`: the modules that are trained whole; `updates`: those of the training.
pub(super) fn write(method: &Method, model: &Architecture, head: &BTreeSet<String>, updates: u64) -> Option<Value> {
    let layers = method.layers().map(|layers| layers.of(&model.stacks[0]).expect("the model was built with these layers"));
    let sites = |linears: &[LinearLayer]| {
        let wanted = |site: &&Site| matches!(site.kind, SiteKind::Linear(linear) if linears.contains(&linear));
        model.sites.iter().filter(wanted).collect::<Vec<_>>()
    };
    let names = |linears: &[LinearLayer]| {
        let last = |site: &Site| site.name.rsplit('.').next().unwrap_or_default().to_owned();
        sites(linears).into_iter().map(last).collect::<BTreeSet<_>>()
    };
    match method {
        Method::Lora(lora) => Some(json!({
            "peft_type": "LORA",
            "task_type": null,
            "base_model_name_or_path": null,
            "inference_mode": true,
            "r": lora.rank,
            "lora_alpha": whole_number(lora.alpha),
            "lora_dropout": lora.dropout,
            "target_modules": names(&lora.targets),
            "modules_to_save": head,
            "bias": "none",
            "fan_in_fan_out": false,
            "init_lora_weights": true,
            "use_rslora": lora.rslora,
            "use_dora": lora.dora,
            "layers_to_transform": layers,
            "rank_pattern": lora.rank_pattern,
            "alpha_pattern": lora.alpha_pattern.iter().map(|(name, &alpha)| (name, whole_number(alpha))).collect::<BTreeMap<_, _>>(),
        })),
        Method::AdaLora(adalora) => {
            // One that has no phases was not trained, and peft wants some.
            let none = Phases { tinit: 0, tfinal: 0, total: updates.max(1) };
            let Phases { tinit, tfinal, total } = adalora.phases(updates).unwrap_or(none);
            Some(json!({
                "peft_type": "ADALORA",
                "task_type": null,
                "base_model_name_or_path": null,
                "inference_mode": true,
                "init_r": adalora.init_rank,
                "target_r": adalora.rank,
                "lora_alpha": whole_number(adalora.alpha),
                "lora_dropout": adalora.dropout,
                "target_modules": names(&adalora.targets),
                "modules_to_save": head,
                "bias": "none",
                "fan_in_fan_out": false,
                "init_lora_weights": true,
                "tinit": tinit,
                "tfinal": tfinal,
                "total_step": total,
                "deltaT": adalora.delta_t,
                "beta1": adalora.beta1,
                "beta2": adalora.beta2,
                "orth_reg_weight": adalora.orthogonal,
                "rank_pattern": null,
                "layers_to_transform": layers,
            }))
        }
        Method::Vera(vera) => Some(json!({
            "peft_type": "VERA",
            "task_type": null,
            "base_model_name_or_path": null,
            "inference_mode": true,
            "r": vera.rank,
            "vera_dropout": vera.dropout,
            "d_initial": vera.d_initial,
            "target_modules": names(&vera.targets),
            "modules_to_save": head,
            "bias": "none",
            "fan_in_fan_out": false,
            "init_weights": true,
            "projection_prng_key": 0,
            "save_projection": true,
            "layers_to_transform": layers,
        })),
        Method::Ia3(ia3) => {
            // There is no list of layers in it, so that limited modules have to be named one by one.
            let in_layers = |linears: &[LinearLayer]| match &layers {
                None => names(linears),
                Some(layers) => {
                    let own = sites(linears).into_iter().filter(|site| layers.contains(&site.layer));
                    own.map(|site| site.name.clone()).collect()
                }
            };
            Some(json!({
                "peft_type": "IA3",
                "task_type": null,
                "base_model_name_or_path": null,
                "inference_mode": true,
                "target_modules": in_layers(&ia3.targets),
                "feedforward_modules": in_layers(&ia3.feedforward),
                "modules_to_save": head,
                "fan_in_fan_out": false,
                "init_ia3_weights": true,
            }))
        }
        _ => None,
    }
}

/// `8` rather than `8.0`: peft declares the field an integer.
fn whole_number(alpha: f64) -> Value {
    if alpha.fract().abs() < f64::EPSILON { Value::from(alpha as i64) } else { Value::from(alpha) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn method(text: &str) -> Method {
        serde_json::from_str(text).unwrap()
    }

    fn model() -> Architecture {
        Architecture::encoder(8, 16, 4)
    }

    #[test]
    fn what_is_written_is_read_again() {
        for text in [
            r#"{"name":"lora","rank":4,"alpha":8.5,"dropout":0.1,"targets":["q_proj","output_dense"],"rslora":true,"dora":true,
                "rank_pattern":{"q_proj":2},"alpha_pattern":{"layers.1.attention.q_proj":3},"layers":[0,1]}"#,
            r#"{"name":"lora","rank":2}"#,
            r#"{"name":"adalora","rank":2,"init_rank":3,"alpha":4,"dropout":0.1,"targets":["q_proj","output_dense"],"tinit":5,"tfinal":7,
                "delta_t":2,"beta1":0.8,"beta2":0.7,"orthogonal":0.1,"layers":[1]}"#,
            r#"{"name":"vera","rank":4,"d_initial":0.2,"dropout":0.1,"targets":["v_proj","intermediate_dense"],"layers":[0,3]}"#,
            r#"{"name":"ia3"}"#,
            r#"{"name":"ia3","targets":["q_proj","intermediate_dense"],"feedforward":[],"layers":[1,2]}"#,
            r#"{"name":"ia3","layers":[3]}"#,
        ] {
            let method = method(text);
            let written = write(&method, &model(), &BTreeSet::new(), 20).unwrap();
            assert_eq!(read(written["peft_type"].as_str().unwrap(), &written, &model(), &[]), Ok(method));
        }
        assert_eq!(write(&method(r#"{"name":"prefix"}"#), &model(), &BTreeSet::new(), 20), None);
    }

    #[test]
    fn layers_with_two_blocks_of_a_kind_are_written_and_read_again() {
        let model = Architecture::wav2vec2_bert(8, 16, 3);
        for text in [
            r#"{"name":"ia3","targets":["v_proj","intermediate_dense"],"feedforward":["intermediate_dense"],"layers":[1]}"#,
            r#"{"name":"lora","rank":2,"targets":["q_proj","output_dense"],"layers":[0,2]}"#,
        ] {
            let method = method(text);
            let written = write(&method, &model, &BTreeSet::new(), 20).unwrap();
            assert_eq!(read(written["peft_type"].as_str().unwrap(), &written, &model, &[]), Ok(method));
        }
    }

    #[track_caller]
    fn check(change: &str, expected: &str) {
        let mut config = json!({"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]});
        let change: serde_json::Map<String, Value> = serde_json::from_str(change).unwrap();
        config.as_object_mut().unwrap().extend(change);
        let mistakes = read("LORA", &config, &model(), &[]).unwrap_err();
        assert!(mistakes.len() == 1 && mistakes[0].contains(expected), "{mistakes:?}");
    }

    #[test]
    fn the_tensors_tell_what_an_expression_stands_for() {
        let adapted: Vec<String> = (0..4).map(|layer| format!("encoder.layers.{layer}.attention.q_proj")).collect();
        for expression in ["all-linear", r".*\.attention\.q_proj"] {
            let config = json!({"r": 4, "lora_alpha": 8, "target_modules": expression});
            let Ok(Method::Lora(lora)) = read("LORA", &config, &model(), &adapted) else { panic!("{expression}") };
            assert_eq!((lora.targets, lora.layers), (vec![LinearLayer::QProj], None));
        }
    }

    #[test]
    fn pissa_is_read_as_such() {
        let config = json!({"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "init_lora_weights": "pissa"});
        let Ok(Method::Lora(lora)) = read("LORA", &config, &model(), &[]) else { panic!() };
        assert!(lora.pissa);
    }

    #[test]
    fn what_is_not_computed_here_is_refused() {
        check(r#"{"lora_bias":true}"#, "lora_bias is not supported");
        check(r#"{"bias":"all"}"#, "bias must be \"none\", not \"all\"");
        check(r#"{"init_lora_weights":"pissa_niter_4"}"#, "\"pissa_niter_4\" changes the frozen weights");
        check(r#"{"init_lora_weights":"pissa","use_dora":true}"#, "pissa must be false with dora");
        check(r#"{"target_modules":["q_proj","projector"]}"#, "`projector`, which is no linear layer");
        check(r#"{"target_modules":["layers.0.attention.q_proj","v_proj"]}"#, "other modules in one transformer layer");
        check(r#"{"rank_pattern":{"q_.*":3}}"#, "rank_pattern must be the ends of layers' names");
        check(r#"{"r":0}"#, "rank must be above 0, not 0");
        check(r#"{"r":-1}"#, "r must be a whole number, not -1");
        check(r#"{"r":2.5}"#, "r must be a whole number, not 2.5");
        check(r#"{"rank_pattern":{"q_proj":-2}}"#, "rank_pattern must be a whole number, not -2");
        check(r#"{"layers_to_transform":[0,-1]}"#, "layers_to_transform must be a whole number, not -1");
    }
}
