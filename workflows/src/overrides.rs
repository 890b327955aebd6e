//! Parameters set on the command line: `--set train.max_steps=20`, and what is short for it.
//!
//! A name with a dot is a parameter of a stage, or of every stage of a kind (`peft.train.max_steps`); one without is a setting or
//! a matrix line, which the engine knows. The value stands in the place of the one in the file, at every point of the matrix.

use std::collections::BTreeMap;

use anyhow::Result;
use pipeline::mistake::suggest;
use pipeline::spec::{Located, Spec, StageSpec, Term};
use serde_json::Value;

use crate::problem::problem;

/// What is set, by name.
type Set = BTreeMap<String, Vec<String>>;

/// The value that takes a parameter away.
const NONE: &str = "none";

/// `--max-steps` and `--overfit-batch`, as `--set` would say it.
pub(crate) fn for_training(max_steps: Option<u32>, overfit_batch: bool) -> Set {
    let mut set = Set::new();
    let mut put = |name: &str, value: String| set.insert(format!("peft.train.{name}"), vec![value]);
    if let Some(steps) = max_steps {
        put("max_steps", steps.to_string());
        put("epochs", NONE.to_owned());
    }
    if overfit_batch {
        put("overfit_batch", "true".to_owned());
    }
    set
}

/// Writes the parameters among `set` into the stages; returns the rest.
///
/// Errors: a name whose front is no stage and no kind of one.
pub(crate) fn apply(spec: &mut Spec, set: &Set) -> Result<Set> {
    let mut rest = Set::new();
    for (name, values) in set {
        let Some((front, parameter)) = name.rsplit_once('.') else {
            rest.insert(name.clone(), values.clone());
            continue;
        };
        let stages = spec.stages.iter_mut().filter(|stage| stage.name.value == front || stage.run.value == front);
        let value = values.join(",");
        let mut found = false;
        for stage in stages {
            put(stage, parameter, &value);
            found = true;
        }
        if !found {
            let known = spec.stages.iter().flat_map(|stage| [stage.name.value.as_str(), stage.run.value.as_str()]);
            return Err(problem(format!("--set {name}: no stage and no kind of stage `{front}`"), suggest(front, known)));
        }
    }
    Ok(rest)
}

fn put(stage: &mut StageSpec, parameter: &str, value: &str) {
    stage.params.retain(|(key, _)| key.value != parameter);
    if value != NONE {
        let at = stage.name.at.clone();
        let key = Located { value: parameter.to_owned(), at: at.clone() };
        stage.params.push((key, Located { value: Term::Scalar(read(value)), at }));
    }
}

/// Numbers and truth values as such, anything else as text.
fn read(text: &str) -> Value {
    let plain = serde_json::from_str(text).ok().filter(|value: &Value| value.is_number() || value.is_boolean());
    plain.unwrap_or_else(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "[workflow]\nname = \"w\"\n[stages.train]\nrun = \"peft.train\"\nepochs = 3\nmetric = \"loss\"\n[stages.other]\nrun = \"x\"\n";

    fn params(set: &Set) -> Result<(BTreeMap<String, Value>, Set)> {
        let mut spec = pipeline::spec::parse("w.toml", FILE).unwrap();
        let rest = apply(&mut spec, set)?;
        let stage = &spec.stages[0];
        Ok((stage.params.iter().map(|(key, term)| (key.value.clone(), term.value.to_json())).collect(), rest))
    }

    fn set(name: &str, value: &str) -> Set {
        Set::from([(name.to_owned(), vec![value.to_owned()])])
    }

    #[test]
    fn parameters_are_set_by_stage_and_by_kind_and_the_rest_is_left() {
        let mut asked = for_training(Some(20), true);
        asked.extend(set("train.metric", "accuracy"));
        asked.extend(set("corpus", "fsdd"));
        let (params, rest) = params(&asked).unwrap();
        let expected = [("max_steps", Value::from(20)), ("metric", "accuracy".into()), ("overfit_batch", true.into())];
        assert_eq!(params, expected.map(|(name, value)| (name.to_owned(), value)).into());
        assert_eq!(rest, set("corpus", "fsdd"));
    }

    #[test]
    fn an_unknown_stage_is_named() {
        let error = params(&set("trian.epochs", "3")).unwrap_err();
        assert!(error.to_string().contains("trian"), "{error}");
    }
}
