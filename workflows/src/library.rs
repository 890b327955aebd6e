//! The workflows that come with the program, and those of the user.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use pipeline::mistake::suggest;
use pipeline::spec::{Spec, parse, parse_with};

use crate::problem::problem;

/// Name, file name and text of the workflows that come with the program.
const BUILT_IN: &[(&str, &str, &str)] =
    &[("keyword_spotting", "workflows/keyword_spotting.toml", include_str!("../keyword_spotting.toml"))];

/// Finds a workflow: a file when the name has an ending or a folder, else one that comes with the program.
pub(crate) fn find(name: &str) -> Result<Spec> {
    if name.contains('/') || Path::new(name).extension().is_some() {
        let text = fs::read_to_string(name).with_context(|| format!("cannot read the workflow file `{name}`"))?;
        return Ok(parse_with(name, &text, &|path| fs::read_to_string(path).map_err(|error| error.to_string()))?);
    }
    let Some((_, file, text)) = BUILT_IN.iter().find(|(known, ..)| *known == name) else {
        let hint = suggest(name, BUILT_IN.iter().map(|(known, ..)| *known));
        return Err(problem(
            format!("no workflow `{name}`"),
            format!("{hint} A file of your own is named with its ending, `./{name}.toml`"),
        ));
    };
    Ok(parse(file, text)?)
}

/// The workflows that come with the program.
pub(crate) fn all() -> Result<Vec<Spec>> {
    BUILT_IN.iter().map(|(_, file, text)| Ok(parse(file, text)?)).collect()
}

#[cfg(test)]
#[path = "../../pipeline/tests/it/validator.rs"]
mod validator;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{BUILT_IN, validator};
    use crate::stages::registry;

    #[test]
    fn the_schema_for_editors_accepts_our_workflows() {
        let schema = pipeline::spec::schema(&registry(Path::new("sure-neural")));
        for (name, _, text) in BUILT_IN {
            let workflow: serde_json::Value = toml::from_str(text).unwrap();
            assert_eq!(validator::wrong(&schema, &workflow), [""; 0], "{name}");
            let slip = text.replace("inputs.labels", "inputs.lables");
            assert!(!validator::wrong(&schema, &toml::from_str(&slip).unwrap()).is_empty(), "{name}");
        }
    }
}
