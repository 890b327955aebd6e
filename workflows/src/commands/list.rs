//! `sure list`

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use pipeline::Arity;
use pipeline::mistake::suggest;
use pipeline::registry::Kind;
use pipeline::spec::{Spec, leaves, mentioned};
use serde_json::Value;

use crate::console::tell;
use crate::library;
use crate::problem::problem;
use crate::stages::registry;

#[derive(Args)]
pub(crate) struct ListArgs {
    /// A workflow, workflow file, stage kind or corpus to describe
    pub(crate) name: Option<String>,
    /// A choice of a parameter of the stage kind: `sure list peft.train lora` describes the method LoRA
    pub(crate) choice: Option<String>,
    /// Print the text of the workflow
    #[arg(long, requires = "name")]
    pub(crate) source: bool,
}

pub(crate) fn list(args: &ListArgs) -> Result<ExitCode> {
    let (registry, workflows) = (registry("sure-neural".as_ref()), library::all()?);
    let Some(name) = &args.name else {
        tell!("Workflows (sure run NAME):");
        for spec in &workflows {
            tell!("  {:<22} {}", spec.name, spec.about);
        }
        tell!("\nStage kinds (run = \"NAME\" in a workflow file; sure list NAME describes one):");
        for kind in registry.kinds() {
            tell!("  {:<22} {}", kind.name, kind.about);
        }
        tell!("\nCorpora (corpus = \"NAME\"; sure list NAME describes one):");
        for corpus in datasets::ALL {
            tell!("  {:<22} {}", corpus.name(), corpus.about());
        }
        return Ok(ExitCode::SUCCESS);
    };
    if args.source {
        print!("{}", library::source(name)?.1);
    } else if library::is_file(name) && registry.get(name).is_none() {
        describe_workflow(&library::find(name)?);
    } else if let Some(spec) = workflows.iter().find(|spec| spec.name == *name) {
        describe_workflow(spec);
    } else if let Some(kind) = registry.get(name) {
        match &args.choice {
            Some(choice) => describe_choice(kind, choice)?,
            None => describe_kind(kind),
        }
    } else if let Some(corpus) = datasets::ALL.iter().find(|corpus| corpus.name() == name) {
        tell!("{}: {}", corpus.name(), corpus.about());
        tell!("licence: {}", corpus.licence());
        tell!("protocols (the first is the default):");
        for protocol in corpus.protocols() {
            tell!("  {:<12} {}", protocol.name, protocol.about);
        }
        if name == "table" {
            super::tables::describe();
        }
    } else {
        let known = workflows.iter().map(|spec| spec.name.as_str());
        let known = known.chain(registry.kinds().map(|kind| kind.name)).chain(datasets::ALL.iter().map(|corpus| corpus.name()));
        return Err(problem(format!("no workflow, stage kind or corpus `{name}`"), suggest(name, known)));
    }
    Ok(ExitCode::SUCCESS)
}

fn describe_workflow(spec: &Spec) {
    tell!("{}: {}", spec.name, spec.about);
    for axis in &spec.axes {
        let (values, choices) = (shown(&axis.values), shown(&axis.choices));
        let choices = if choices.is_empty() { String::new() } else { format!("  (one of {choices})") };
        let about = if axis.about.is_empty() { String::new() } else { format!("  # {}", axis.about) };
        tell!("  {:<8} {} = {values}{choices}{about}", if axis.matrix { "matrix" } else { "setting" }, axis.name.value);
    }
    for (name, term) in &spec.derived {
        let mut from = BTreeSet::new();
        mentioned(&term.value, &mut from);
        let from = from.into_iter().collect::<Vec<_>>().join(", ");
        let from = if from.is_empty() { from } else { format!("  (by {from})") };
        tell!("  {:<8} {} = {}{from}", "derived", name.value, shown(&leaves(&term.value)));
    }
    for stage in &spec.stages {
        tell!("  {:<8} {} ({})", "stage", stage.name.value, stage.run.value);
    }
}

fn shown(values: &[Value]) -> String {
    values.iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect::<Vec<_>>().join(", ")
}

fn describe_kind(kind: &Kind) {
    tell!("{} (version {}): {}", kind.name, kind.version, kind.about);
    for slot in &kind.slots {
        let arity = match slot.arity {
            Arity::One => "one",
            Arity::Optional => "optional",
            Arity::Any => "any number",
            Arity::Many => "one or more",
        };
        tell!("  inputs.{:<16} {arity}: {}", slot.name, slot.about);
    }
    describe_params(&kind.schema, &kind.schema);
}

/// Prints the parameters of a schema: name, type, whether required, meaning.
fn describe_params(root: &Value, schema: &Value) {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        if property["const"].is_string() {
            continue; // the name of the choice itself
        }
        let choices = choices(root, property);
        let form = match (property["type"].as_str().or_else(|| property["type"][0].as_str()), choices.is_empty()) {
            (Some(form), _) => form.to_owned(),
            (None, false) => format!("one of {}", choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")),
            (None, true) => "table or text".to_owned(),
        };
        let bound = |key: &str, sign: &str| property[key].as_f64().map(|bound| format!(" {sign} {bound}"));
        let bounds = [
            bound("minimum", "at least"),
            bound("exclusiveMinimum", "above"),
            bound("maximum", "at most"),
            bound("exclusiveMaximum", "below"),
        ];
        let bounds = bounds.into_iter().flatten().collect::<Vec<_>>().join(" and");
        let default = match &property["default"] {
            Value::Null if required.contains(&name.as_str()) => "required".to_owned(),
            Value::Null => "optional".to_owned(),
            default => format!("default {default}"),
        };
        let about = property["description"].as_str().unwrap_or_default().replace('\n', " ");
        tell!("  {name:<23} {form}{bounds}, {default}: {about}");
    }
}

/// Returns the choices of a parameter that takes one of several tables, by their `name`.
fn choices<'s>(root: &'s Value, property: &'s Value) -> Vec<(&'s str, &'s Value)> {
    let property = resolved(root, property);
    let options = ["oneOf", "anyOf"].into_iter().filter_map(|key| property[key].as_array()).flatten();
    let options = options.map(|option| resolved(root, option));
    options.filter_map(|option| Some((option["properties"]["name"]["const"].as_str()?, option))).collect()
}

/// Follows a reference to a definition of the schema.
fn resolved<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    let path = schema["$ref"].as_str().and_then(|path| path.strip_prefix('#'));
    path.and_then(|path| root.pointer(path)).unwrap_or(schema)
}

/// Prints the parameters of one choice, such as the method `lora` of `peft.train`.
fn describe_choice(kind: &Kind, choice: &str) -> Result<()> {
    let params = kind.schema["properties"].as_object().into_iter().flatten();
    let all: Vec<(&str, &str, &Value)> = params
        .flat_map(|(param, property)| {
            choices(&kind.schema, property).into_iter().map(|(name, schema)| (param.as_str(), name, schema))
        })
        .collect();
    let Some((param, name, schema)) = all.iter().find(|(_, name, _)| *name == choice) else {
        let message = format!("`{}` has no choice `{choice}` for any of its parameters", kind.name);
        return Err(problem(message, suggest(choice, all.iter().map(|(_, name, _)| *name))));
    };
    let about = schema["description"].as_str().unwrap_or_default().replace('\n', " ");
    tell!("{param} = {{ name = \"{name}\", ... }} of {}: {about}", kind.name);
    describe_params(&kind.schema, schema);
    Ok(())
}
