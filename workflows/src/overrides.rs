//! Parameters set on the command line: `--set train.max_steps=20`, and what is short for it.
//!
//! A name with a dot is a parameter of a stage, or of every stage of a kind (`peft.train.max_steps`); one without is a setting or
//! a matrix line, which the engine knows. The value stands in the place of the one in the file, at every point of the matrix.

use std::collections::BTreeMap;

use anyhow::Result;
use pipeline::mistake::suggest;
use pipeline::registry::Registry;
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
/// Errors: a name whose front is no stage and no kind of one; one without a front that is a parameter and nothing else.
pub(crate) fn apply(spec: &mut Spec, registry: &Registry, set: &Set) -> Result<Set> {
    let mut rest = Set::new();
    for (name, values) in set {
        let Some((front, parameter)) = name.rsplit_once('.') else {
            let meant = with_parameter(spec, registry, name);
            if !meant.is_empty() && spec.axes.iter().all(|axis| axis.name.value != *name) {
                return Err(problem(format!("--set {name}: no setting and no matrix line `{name}`"), suggest_one(name, &meant)));
            }
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
            let meant = with_parameter(spec, registry, parameter);
            let known = spec.stages.iter().flat_map(|stage| [stage.name.value.as_str(), stage.run.value.as_str()]);
            let hint = if meant.is_empty() { suggest(front, known) } else { suggest_one(name, &meant) };
            return Err(problem(format!("--set {name}: no stage and no kind of stage `{front}`"), hint));
        }
    }
    Ok(rest)
}

/// A parameter of this name, in full, of every stage whose kind has it.
fn with_parameter(spec: &Spec, registry: &Registry, parameter: &str) -> Vec<String> {
    let has = |stage: &&StageSpec| {
        let kind = registry.get(&stage.run.value);
        kind.is_some_and(|kind| kind.schema["properties"].get(parameter).is_some())
    };
    spec.stages.iter().filter(has).map(|stage| format!("{}.{parameter}", stage.name.value)).collect()
}

/// The one that is meant, or all of them.
fn suggest_one(name: &str, meant: &[String]) -> String {
    match meant {
        [one] => format!("did you mean `{one}`?"),
        several => suggest(name, several.iter().map(String::as_str)),
    }
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
    use std::path::Path;

    use super::*;
    use crate::problem::Problem;
    use crate::stages::registry;

    const FILE: &str = "[workflow]\nname = \"w\"\n[stages.train]\nrun = \"peft.train\"\nepochs = 3\nmetric = \"loss\"\n[stages.other]\nrun = \"x\"\n";

    fn params(set: &Set) -> Result<(BTreeMap<String, Value>, Set)> {
        let mut spec = pipeline::spec::parse("w.toml", FILE).unwrap();
        let rest = apply(&mut spec, &registry(Path::new("sure-neural")), set)?;
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

    #[track_caller]
    fn check(name: &str, message: &str, hint: &str) {
        let error = params(&set(name, "3")).unwrap_err();
        let said = error.downcast_ref::<Problem>().unwrap().hint();
        assert!(error.to_string().contains(message) && said == hint, "{error}: {said}");
    }

    #[test]
    fn an_unknown_name_is_told_with_the_parameter_that_ends_so() {
        check("max_steps", "no setting and no matrix line `max_steps`", "did you mean `train.max_steps`?");
        check("trian.epochs", "no stage and no kind of stage `trian`", "did you mean `train.epochs`?");
        check("training.loop.epochs", "no stage and no kind of stage `training.loop`", "did you mean `train.epochs`?");
        check("trian.epoks", "no stage and no kind of stage `trian`", "did you mean `train`?");
        assert_eq!(params(&set("steps", "3")).unwrap().1, set("steps", "3"), "the engine knows what is near");
    }
}
