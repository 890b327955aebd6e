//! `sure list`

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use pipeline::Arity;
use pipeline::mistake::suggest;
use pipeline::registry::Kind;
use pipeline::spec::Spec;
use serde_json::Value;

use crate::library;
use crate::problem::problem;
use crate::stages::registry;

#[derive(Args)]
pub(crate) struct ListArgs {
    /// A workflow, stage kind or corpus to describe
    pub(crate) name: Option<String>,
}

pub(crate) fn list(args: &ListArgs) -> Result<ExitCode> {
    let (registry, workflows) = (registry("sure-neural".as_ref()), library::all()?);
    let Some(name) = &args.name else {
        println!("Workflows (sure run NAME):");
        for spec in &workflows {
            println!("  {:<22} {}", spec.name, spec.about);
        }
        println!("\nStage kinds (run = \"NAME\" in a workflow file; sure list NAME describes one):");
        for kind in registry.kinds() {
            println!("  {:<22} {}", kind.name, kind.about);
        }
        println!("\nCorpora (corpus = \"NAME\"; sure list NAME describes one):");
        for corpus in datasets::ALL {
            println!("  {:<22} {}", corpus.name(), corpus.about());
        }
        return Ok(ExitCode::SUCCESS);
    };
    if let Some(spec) = workflows.iter().find(|spec| spec.name == *name) {
        describe_workflow(spec);
    } else if let Some(kind) = registry.get(name) {
        describe_kind(kind);
    } else if let Some(corpus) = datasets::ALL.iter().find(|corpus| corpus.name() == name) {
        println!("{}: {}", corpus.name(), corpus.about());
        println!("licence: {}", corpus.licence());
        println!("protocols (the first is the default):");
        for protocol in corpus.protocols() {
            println!("  {:<12} {}", protocol.name, protocol.about);
        }
    } else {
        let known = workflows.iter().map(|spec| spec.name.as_str());
        let known = known.chain(registry.kinds().map(|kind| kind.name)).chain(datasets::ALL.iter().map(|corpus| corpus.name()));
        return Err(problem(format!("no workflow, stage kind or corpus `{name}`"), suggest(name, known)));
    }
    Ok(ExitCode::SUCCESS)
}

fn describe_workflow(spec: &Spec) {
    println!("{}: {}", spec.name, spec.about);
    for axis in &spec.axes {
        let (values, choices) = (shown(&axis.values), shown(&axis.choices));
        let choices = if choices.is_empty() { String::new() } else { format!("  (one of {choices})") };
        let about = if axis.about.is_empty() { String::new() } else { format!("  # {}", axis.about) };
        println!("  {:<8} {} = {values}{choices}{about}", if axis.matrix { "matrix" } else { "setting" }, axis.name.value);
    }
    for stage in &spec.stages {
        println!("  {:<8} {} ({})", "stage", stage.name.value, stage.run.value);
    }
}

fn shown(values: &[Value]) -> String {
    values.iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect::<Vec<_>>().join(", ")
}

fn describe_kind(kind: &Kind) {
    println!("{} (version {}): {}", kind.name, kind.version, kind.about);
    for slot in &kind.slots {
        let arity = match slot.arity {
            Arity::One => "one",
            Arity::Optional => "optional",
            Arity::Many => "one or more",
        };
        println!("  inputs.{:<16} {arity}: {}", slot.name, slot.about);
    }
    let required: Vec<&str> = kind.schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, property) in kind.schema["properties"].as_object().into_iter().flatten() {
        let form = property["type"].as_str().or_else(|| property["type"][0].as_str()).unwrap_or("table or text");
        let needed = if required.contains(&name.as_str()) { "required" } else { "optional" };
        let about = property["description"].as_str().unwrap_or_default().replace('\n', " ");
        println!("  {name:<23} {form}, {needed}: {about}");
    }
}
