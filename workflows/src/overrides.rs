//! Parameters set on the command line: `--set train.max_steps=20`, and the options that are short for it.
//!
//! A name with a dot is a parameter of a stage, or of every stage of a kind (`peft.train.max_steps`) or of every training
//! (`*.train.max_steps`), or a part of a parameter (`train.method.rank`). Its value replaces the one in the file at every point of the
//! matrix. Several values make a line of the matrix: `train.learning_rate=1e-3,3e-3` trains at both rates. A name without a dot is a
//! setting or a line of the matrix.

use std::collections::BTreeMap;

use anyhow::Result;
use pipeline::mistake::suggest;
use pipeline::registry::Registry;
use pipeline::spec::{self, Axis, Form, Located, Spec, StageSpec, Term, by_names};
use serde_json::Value;

use crate::cli::Place;
use crate::problem::problem;

/// Values by name.
type Set = BTreeMap<String, Vec<String>>;

/// The value that removes a parameter.
const NONE: &str = "none";

/// In the place of a stage: every stage of a kind that trains and counts its updates.
const EVERY_TRAINING: &str = "*.train";
/// The parameter that limits the updates of a training. One with 0 of them trains nothing on purpose.
const UPDATES: &str = "max_steps";

/// The most points that sweeps may have together without `--yes`.
const MANY_POINTS: usize = 1000;

/// Returns what a command line sets: by `--set`, and by the options that are short for it.
///
/// Errors: a name that is set twice, of which only one value could count.
pub(crate) fn given(place: &Place) -> Result<Set> {
    let mut set = Set::new();
    for (name, values) in &place.set {
        if let Some(before) = set.insert(name.clone(), split(values)) {
            let before = before.join(",");
            let hint = format!("leave one of them out, or compare both: `--set {name}={before},{values}`");
            return Err(problem(format!("--set {name} is given twice: `{before}` and `{values}`"), hint));
        }
    }
    for (option, name, value) in for_training(place.max_steps, place.overfit_batch) {
        let name = format!("{EVERY_TRAINING}.{name}");
        if let Some(same) = set.keys().find(|given| covers(&name, given)) {
            return Err(problem(format!("--set {same} and {option} set the same parameter"), "leave one of them out"));
        }
        set.insert(name, vec![value]);
    }
    Ok(set)
}

/// True if what is set by the first name is set by the second one, too.
fn covers(name: &str, other: &str) -> bool {
    name == other || name.strip_prefix('*').is_some_and(|end| other.ends_with(end))
}

/// True if one of `given` sets what this name sets.
pub(crate) fn sets(given: &Set, name: &str) -> bool {
    given.keys().any(|given| covers(given, name))
}

/// Returns what `--max-steps` and `--overfit-batch` are short for: option, parameter and value.
fn for_training(max_steps: Option<u32>, overfit_batch: bool) -> Vec<(&'static str, &'static str, String)> {
    let steps = max_steps.map(|steps| [(UPDATES, steps.to_string()), ("epochs", NONE.to_owned())]);
    let steps = steps.into_iter().flatten().map(|(name, value)| ("--max-steps", name, value));
    let batch = overfit_batch.then(|| ("--overfit-batch", "overfit_batch", "true".to_owned()));
    steps.chain(batch).collect()
}

/// Splits `1e-3,3e-3` at the commas outside of brackets, braces and quotes.
pub(crate) fn split(text: &str) -> Vec<String> {
    let (mut depth, mut quoted) = (0_i32, false);
    let mut parts = vec![String::new()];
    for sign in text.chars() {
        match sign {
            '"' => quoted = !quoted,
            '[' | '{' if !quoted => depth += 1,
            ']' | '}' if !quoted => depth -= 1,
            ',' if !quoted && depth <= 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().expect("there is always a part").push(sign);
    }
    parts.into_iter().map(|part| part.trim().to_owned()).collect()
}

/// Writes the parameters among `set` into the stages, and sweeps into the matrix; returns the rest.
///
/// Errors: a name that begins with no stage and no kind; a name without a dot that is a parameter and nothing else; a value that
/// cannot be read; a sweep of more than [`MANY_POINTS`] points unless `large` allows it.
pub(crate) fn apply(spec: &mut Spec, registry: &Registry, set: &Set, large: bool) -> Result<Set> {
    let mut rest = Set::new();
    let mut points = 1_usize;
    // What is set on a stage wins over what is set on its kind.
    let names_stage =
        |name: &str| target(spec, name).is_some_and(|(front, _)| spec.stages.iter().any(|stage| stage.name.value == front));
    let mut ordered: Vec<_> = set.iter().map(|(name, values)| (names_stage(name), name, values)).collect();
    ordered.sort_by_key(|(is_stage, ..)| *is_stage);
    for (_, name, values) in ordered {
        let Some((front, parameter)) = target(spec, name) else {
            if name.contains('.') {
                return Err(unknown(spec, registry, name));
            }
            let meant = with_parameter(spec, registry, name);
            let axis = spec.axes.iter_mut().find(|axis| axis.name.value == *name);
            if axis.is_none() && !meant.is_empty() {
                return Err(problem(format!("--set {name}: no setting and no matrix line `{name}`"), suggest_one(name, &meant)));
            }
            if let Some(axis) = axis.filter(|_| values.len() > 1) {
                axis.matrix = true; // several values of a setting are compared with each other
            }
            rest.insert(name.clone(), values.clone());
            continue;
        };
        let value = match values.as_slice() {
            [value] if value == NONE => None,
            [value] => Some(read(name, value)?),
            several => {
                points = points.saturating_mul(several.len());
                Some(sweep(spec, name, several)?)
            }
        };
        let path: Vec<&str> = parameter.split('.').collect();
        let is_meant = |stage: &StageSpec| match front.as_str() {
            EVERY_TRAINING => trains_with(registry, &stage.run.value, path[0]),
            front => stage.name.value == front || stage.run.value == front,
        };
        let limits_updates = front == EVERY_TRAINING && parameter == UPDATES;
        let mut found = false;
        for stage in spec.stages.iter_mut().filter(|stage| is_meant(stage)) {
            found = true;
            let before = stage.params.iter().find(|(key, _)| limits_updates && key.value == UPDATES);
            let value = match (before, &value) {
                (Some((_, before)), Some(value)) => Some(all_but_zero(&before.value, value)),
                _ => value.clone(),
            };
            put(stage, name, &path, value.as_ref())?;
        }
        if !found && value.is_some() {
            return Err(problem(format!("--set {name}: no stage of this workflow trains so"), "leave it out"));
        }
    }
    if points > MANY_POINTS && !large {
        let message = format!("the sweep has {points} points, each a training for every method and seed");
        return Err(problem(message, "give fewer values, or `--yes` when that is meant"));
    }
    Ok(rest)
}

/// True for a kind of stage that trains, counts its updates and has this parameter.
fn trains_with(registry: &Registry, kind: &str, parameter: &str) -> bool {
    let has = |name: &str| registry.get(kind).is_some_and(|kind| kind.schema["properties"].get(name).is_some());
    covers(EVERY_TRAINING, kind) && has(UPDATES) && has(parameter)
}

/// A value in the place of every value but 0, in all branches.
fn all_but_zero(term: &Term, value: &Term) -> Term {
    match term {
        Term::Scalar(number) if *number == 0 => term.clone(),
        Term::Within(names, inner) => {
            let inner = Located { value: all_but_zero(&inner.value, value), at: inner.at.clone() };
            Term::Within(names.clone(), Box::new(inner))
        }
        Term::Table(pairs) => {
            let branch = |(key, term): &spec::Pair| {
                let new = if key.value == "by" { term.value.clone() } else { all_but_zero(&term.value, value) };
                (key.clone(), Located { value: new, at: term.at.clone() })
            };
            Term::Table(pairs.iter().map(branch).collect())
        }
        _ => value.clone(),
    }
}

/// Splits a name into a stage or kind, the longest that there is, and a parameter.
fn target(spec: &Spec, name: &str) -> Option<(String, String)> {
    if let Some(parameter) = name.strip_prefix(EVERY_TRAINING).and_then(|rest| rest.strip_prefix('.')) {
        return Some((EVERY_TRAINING.to_owned(), parameter.to_owned()));
    }
    let is_front = |front: &str| spec.stages.iter().any(|stage| stage.name.value == front || stage.run.value == front);
    let dots = name.match_indices('.').map(|(at, _)| at).rev();
    let mut fronts = dots.filter(|at| is_front(&name[..*at]));
    fronts.next().map(|at| (name[..at].to_owned(), name[at + 1..].to_owned()))
}

fn unknown(spec: &Spec, registry: &Registry, name: &str) -> anyhow::Error {
    let (front, parameter) = name.rsplit_once('.').unwrap_or(("", name));
    let meant = with_parameter(spec, registry, parameter);
    let known = spec.stages.iter().flat_map(|stage| [stage.name.value.as_str(), stage.run.value.as_str()]);
    let hint = if meant.is_empty() { suggest(front, known) } else { suggest_one(name, &meant) };
    problem(format!("--set {name}: no stage and no kind of stage `{front}`"), hint)
}

/// Returns the full name of a parameter for every stage whose kind has it.
fn with_parameter(spec: &Spec, registry: &Registry, parameter: &str) -> Vec<String> {
    let has = |stage: &&StageSpec| {
        let kind = registry.get(&stage.run.value);
        kind.is_some_and(|kind| kind.schema["properties"].get(parameter).is_some())
    };
    spec.stages.iter().filter(has).map(|stage| format!("{}.{parameter}", stage.name.value)).collect()
}

/// Suggests the only name, or the nearest of several.
fn suggest_one(name: &str, meant: &[String]) -> String {
    match meant {
        [one] => format!("did you mean `{one}`?"),
        several => suggest(name, several.iter().map(String::as_str)),
    }
}

/// Makes a line of the matrix of several values; returns the term that stands for each of them.
fn sweep(spec: &mut Spec, name: &str, values: &[String]) -> Result<Term> {
    let read = values.iter().map(|value| read(name, value)).collect::<Result<Vec<Term>>>()?;
    let scalar = |term: Term| if let Term::Scalar(value) = term { Some(value) } else { None };
    let Some(mut values) = read.into_iter().map(scalar).collect::<Option<Vec<Value>>>() else {
        let message = format!("--set {name}: several values should be numbers, text or truth values");
        return Err(problem(message, "sweep a part of a table: `--set train.method.rank=4,8`"));
    };
    let mut seen = vec![];
    values.retain(|value| {
        !seen.contains(value) && {
            seen.push(value.clone());
            true
        }
    });
    // `learning_rate`; `train_learning_rate` where the file has the short name already.
    let short = name.rsplit('.').next().unwrap_or(name).to_owned();
    let taken = spec.axes.iter().any(|axis| axis.name.value == short);
    let axis = if taken { name.replace(['.', '-'], "_") } else { short };
    let at = spec.stages.first().map_or(0..0, |stage| stage.name.at.clone());
    let form = Form::of(&values);
    spec.axes.push(Axis::line(Located { value: axis.clone(), at }, values, form));
    Ok(Term::Scalar(format!("{{{axis}}}").into()))
}

/// Sets a parameter of a stage, or a part of it; none removes it.
fn put(stage: &mut StageSpec, name: &str, path: &[&str], value: Option<&Term>) -> Result<()> {
    let at = stage.name.at.clone();
    let mut params = Located { value: Term::Table(std::mem::take(&mut stage.params)), at };
    let done = put_inside(&mut params, name, path, value);
    if let Term::Table(pairs) = params.value {
        stage.params = pairs;
    }
    done
}

/// Sets a part of a value, in every branch of a `by` table.
fn put_inside(term: &mut Located<Term>, name: &str, path: &[&str], value: Option<&Term>) -> Result<()> {
    let at = term.at.clone();
    let axes = term.value.get("by").and_then(|by| by_names(&by.value)).map(|names| names.len());
    match &mut term.value {
        Term::Within(_, inner) => put_inside(inner, name, path, value),
        Term::Absent => Ok(()),
        Term::Table(pairs) => match axes {
            Some(axes) => put_in_branches(pairs, axes, name, path, value),
            None => {
                let (first, rest) = (path[0], &path[1..]);
                let known = pairs.iter_mut().find(|(key, _)| key.value == first);
                match (known, value) {
                    (_, None) if rest.is_empty() => pairs.retain(|(key, _)| key.value != first),
                    (Some((_, slot)), Some(value)) if rest.is_empty() => *slot = Located { value: value.clone(), at },
                    (Some((_, slot)), value) => return put_inside(slot, name, rest, value),
                    (None, None) => {}
                    (None, Some(value)) => {
                        let nested = |part: &&str, inner: Term| {
                            let key = Located { value: (*part).to_owned(), at: at.clone() };
                            Term::Table(vec![(key, Located { value: inner, at: at.clone() })])
                        };
                        let value = rest.iter().rev().fold(value.clone(), |inner, part| nested(part, inner));
                        pairs.push((Located { value: first.to_owned(), at: at.clone() }, Located { value, at }));
                    }
                }
                Ok(())
            }
        },
        Term::Scalar(_) | Term::List(_) => {
            let message = format!("--set {name}: `{}` is a part of something that is no table", path.join("."));
            Err(problem(message, "`sure list KIND` shows the parameters of a stage kind"))
        }
    }
}

/// Goes to the values of a `by` table over so many axes.
fn put_in_branches(pairs: &mut [spec::Pair], axes: usize, name: &str, path: &[&str], value: Option<&Term>) -> Result<()> {
    for (key, branch) in pairs.iter_mut().filter(|(key, _)| key.value != "by") {
        let left = if key.value == "default" { 0 } else { axes.saturating_sub(key.value.split(',').count()) };
        match &mut branch.value {
            Term::Table(nested) if left > 0 && nested.iter().all(|(key, _)| key.value != "by") => {
                put_in_branches(nested, left, name, path, value)?;
            }
            _ => put_inside(branch, name, path, value)?,
        }
    }
    Ok(())
}

/// Reads a value: a number, a truth value, a table or list as in a workflow file, anything else as text.
fn read(name: &str, text: &str) -> Result<Term> {
    if text.starts_with(['{', '[', '"']) {
        return spec::value(text).map_err(|reason| {
            problem(
                format!("--set {name}: `{text}` is not a value: {reason}"),
                "write it as in a workflow file, in quotes for the shell: 'train.method={name=\"lora\",rank=4}'",
            )
        });
    }
    let plain = serde_json::from_str(text).ok().filter(|value: &Value| value.is_number() || value.is_boolean());
    Ok(Term::Scalar(plain.unwrap_or_else(|| text.into())))
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
        let rest = apply(&mut spec, &registry(Path::new("sure-neural")), set, false)?;
        let stage = &spec.stages[0];
        Ok((stage.params.iter().map(|(key, term)| (key.value.clone(), term.value.to_json())).collect(), rest))
    }

    fn set(name: &str, value: &str) -> Set {
        Set::from([(name.to_owned(), vec![value.to_owned()])])
    }

    #[test]
    fn parameters_are_set_by_stage_and_by_kind_and_the_rest_is_left() {
        let pairs = [("train.metric", "accuracy"), ("corpus", "fsdd")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let asked = given(&Place { set: pairs.into(), max_steps: Some(20), overfit_batch: true, ..Place::default() }).unwrap();
        let (params, rest) = params(&asked).unwrap();
        let expected = [("max_steps", Value::from(20)), ("metric", "accuracy".into()), ("overfit_batch", true.into())];
        assert_eq!(params, expected.map(|(name, value)| (name.to_owned(), value)).into());
        assert_eq!(rest, set("corpus", "fsdd"));
    }

    #[test]
    fn a_trial_run_shortens_every_training_but_those_that_train_nothing() {
        let spec = crate::library::find("speech_synthesis").unwrap();
        let asked = given(&Place { max_steps: Some(20), overfit_batch: true, ..Place::default() }).unwrap();
        let updates = |spec: &Spec, name: &str| {
            let stage = spec.stages.iter().find(|stage| stage.name.value == name).unwrap();
            let of = |key: &str| stage.params.iter().find(|(own, _)| own.value == key).map(|(_, term)| term.value.to_json());
            (of("max_steps"), of("epochs"), of("overfit_batch"))
        };
        let mut short = spec.clone();
        assert!(apply(&mut short, &registry(Path::new("sure-neural")), &asked, false).unwrap().is_empty());
        let (voice, ..) = updates(&short, "voice");
        assert_eq!(voice.as_ref().map(|voice| (&voice["zero"], &voice["default"]["tiny"])), Some((&0.into(), &20.into())));
        let (Some(base), None, Some(Value::Bool(true))) = updates(&short, "base") else { panic!("a base is trained") };
        assert_eq!((&base["tiny"], &base["default"]), (&20.into(), &20.into()));
        assert_eq!(updates(&short, "words"), updates(&spec, "words"), "a judge counts epochs");

        let mut none = pipeline::spec::parse("w.toml", &FILE.replace("peft.train", "score.task")).unwrap();
        let error = apply(&mut none, &registry(Path::new("sure-neural")), &asked, false).unwrap_err();
        assert!(error.to_string().contains("no stage of this workflow trains so"), "{error}");
    }

    #[test]
    fn a_name_that_is_set_twice_is_refused() {
        let refused = |pairs: &[(&str, &str)]| {
            let set = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let error = given(&Place { set, max_steps: Some(20), ..Place::default() }).unwrap_err();
            format!("{error}: {}", error.downcast_ref::<Problem>().unwrap().hint())
        };
        let said = refused(&[("method", "lora, bitfit"), ("seed", "1"), ("method", "finetune")]);
        let expected = "--set method is given twice: `lora,bitfit` and `finetune`: leave one of them out, or compare both: \
                        `--set method=lora,bitfit,finetune`";
        assert_eq!(said, expected);
        let said = refused(&[("peft.train.epochs", "3")]);
        assert_eq!(said, "--set peft.train.epochs and --max-steps set the same parameter: leave one of them out");
    }

    #[test]
    fn a_stage_wins_over_its_kind_in_any_order_of_names() {
        for stage in ["train", "a_stage"] {
            let text = FILE.replace("[stages.train]", &format!("[stages.{stage}]"));
            let mut spec = pipeline::spec::parse("w.toml", &text).unwrap();
            let mut asked = set("peft.train.epochs", "7");
            asked.extend(set(&format!("{stage}.epochs"), "5"));
            apply(&mut spec, &registry(Path::new("sure-neural")), &asked, false).unwrap();
            let value = spec.stages[0].params.iter().find(|(key, _)| key.value == "epochs").unwrap().1.value.to_json();
            assert_eq!(value, 5, "{stage}");
        }
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
        check(
            "train.epochs.more",
            "`more` is a part of something that is no table",
            "`sure list KIND` shows the parameters of a stage kind",
        );
        check("trian.epoks", "no stage and no kind of stage `trian`", "did you mean `train`?");
        assert_eq!(params(&set("steps", "3")).unwrap().1, set("steps", "3"), "the engine knows what is near");
    }

    #[test]
    fn several_values_make_a_line_of_the_matrix() {
        let mut spec = pipeline::spec::parse("w.toml", FILE).unwrap();
        let mut asked = Set::from([("train.learning_rate".to_owned(), split("1e-3, 3e-3"))]);
        asked.extend(Set::from([("train.method".to_owned(), split("{name=\"lora\",rank=4}"))]));
        asked.extend(Set::from([("train.method.rank".to_owned(), split("4,8"))]));
        let registry = registry(Path::new("sure-neural"));
        apply(&mut spec, &registry, &asked, false).unwrap();
        let lines: Vec<(&str, &[Value])> = spec.axes.iter().map(|axis| (axis.name.value.as_str(), &*axis.values)).collect();
        let (rates, ranks) = ([Value::from(1e-3), 3e-3.into()], [Value::from(4), 8.into()]);
        assert_eq!(lines, [("learning_rate", &rates[..]), ("rank", &ranks[..])]);
        let params: Value = Term::Table(spec.stages[0].params.clone()).to_json();
        assert_eq!(params["learning_rate"], "{learning_rate}");
        assert_eq!(params["method"], serde_json::json!({"name": "lora", "rank": "{rank}"}));

        let many = Set::from([("train.seed".to_owned(), (0..2000).map(|seed| seed.to_string()).collect())]);
        let error = apply(&mut spec, &registry, &many, false).unwrap_err();
        assert!(error.to_string().contains("2000 points") && error.downcast_ref::<Problem>().unwrap().hint().contains("--yes"));
        apply(&mut spec, &registry, &many, true).unwrap();
    }

    #[test]
    fn a_part_is_set_in_every_branch() {
        let text = "[workflow]\nname = \"w\"\n[settings]\na = 1\nb = 2\n[stages.train]\nrun = \"peft.train\"\n\
            method = { by = [\"a\", \"b\"], 1 = { 2 = { name = \"lora\" }, default = { by = \"b\", 3 = { rank = 1 } } }, \"2,2\" = {} }\n";
        let mut spec = pipeline::spec::parse("w.toml", text).unwrap();
        apply(&mut spec, &registry(Path::new("sure-neural")), &set("train.method.rank", "4"), false).unwrap();
        let expected = serde_json::json!({
            "by": ["a", "b"],
            "1": {"2": {"name": "lora", "rank": 4}, "default": {"by": "b", "3": {"rank": 4}}},
            "2,2": {"rank": 4},
        });
        assert_eq!(spec.stages[0].params[0].1.value.to_json(), expected);
    }
}
