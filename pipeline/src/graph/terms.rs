//! Values of a workflow file at one point of its matrix, and what they mention.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::{Map, Value};

use super::Point;
use crate::mistake::Mistake;
use crate::spec::{Located, Spec, Term};

/// The value of a term at a point: `by` tables looked up, `{axis}` replaced.
pub(super) fn resolve(term: &Term, at: &Range<usize>, point: &Point, spec: &Spec) -> Result<Value, Mistake> {
    match term {
        Term::Scalar(Value::String(text)) => Ok(interpolate(text, point, spec)),
        Term::Scalar(value) => Ok(value.clone()),
        Term::List(items) => items.iter().map(|item| resolve(&item.value, &item.at, point, spec)).collect(),
        Term::Table(pairs) => {
            let Some(by) = term.get("by") else {
                let field = |(key, item): &(Located<String>, Located<Term>)| {
                    Ok((key.value.clone(), resolve(&item.value, &item.at, point, spec)?))
                };
                return Ok(Value::Object(pairs.iter().map(field).collect::<Result<Map<_, _>, _>>()?));
            };
            let Some(value) = by.value.as_str().and_then(|axis| point.get(axis)) else {
                let known = spec.axes.iter().map(|axis| axis.name.value.as_str());
                return Err(Mistake::unknown(&by.at, "setting or matrix line", by.value.as_str().unwrap_or("?"), known));
            };
            let Some(chosen) = term.get(value) else {
                let axis = by.value.as_str().unwrap_or_default();
                let mistake = Mistake::new(at, format!("no value for {axis} = `{value}`"));
                return Err(mistake.with_hint(format!("add `{value} = ...` here")));
            };
            resolve(&chosen.value, &chosen.at, point, spec)
        }
    }
}

/// `"{axis}"` alone becomes the axis's value with its type; inside other text, its text.
pub(super) fn interpolate(text: &str, point: &Point, spec: &Spec) -> Value {
    let alone = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).filter(|name| point.contains_key(*name));
    if let Some(name) = alone {
        let sample = spec.axes.iter().find(|axis| axis.name.value == name).and_then(|axis| axis.values.first());
        return like(sample.unwrap_or(&Value::Null), &point[name]);
    }
    let mut out = text.to_owned();
    for (name, value) in point {
        out = out.replace(&format!("{{{name}}}"), value);
    }
    Value::String(out)
}

/// The names in `{name}` within a text. What is no name, such as `{2}` or `{}`, is plain text.
pub(super) fn braced(text: &str) -> impl Iterator<Item = &str> {
    let name = |piece: &&str| {
        piece.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && piece.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(inside, _)| inside)).filter(name)
}

/// Text as a value of the same type as a sample, when it can be read so.
pub(super) fn like(sample: &Value, text: &str) -> Value {
    if sample.is_string() {
        return Value::String(text.to_owned());
    }
    match serde_json::from_str::<Value>(text) {
        Ok(value) if value.is_number() || value.is_boolean() => value,
        _ => Value::String(text.to_owned()),
    }
}

pub(super) fn show(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

pub(super) fn texts(values: &[Value]) -> Vec<String> {
    values.iter().map(show).collect()
}

/// Every text of a term that may be a reference: the chosen ones of a `by` table, the items of a list.
pub(super) fn references(term: &Located<Term>) -> Vec<Located<String>> {
    match &term.value {
        Term::Scalar(_) => {
            term.value.as_str().map(|text| Located { value: text.to_owned(), at: term.at.clone() }).into_iter().collect()
        }
        Term::List(items) => items.iter().flat_map(references).collect(),
        Term::Table(pairs) => pairs.iter().filter(|(key, _)| key.value != "by").flat_map(|(_, item)| references(item)).collect(),
    }
}

pub(super) fn strings(value: &Value, at: &Range<usize>) -> Vec<Located<String>> {
    match value {
        Value::String(text) => vec![Located { value: text.clone(), at: at.clone() }],
        Value::Array(items) => items.iter().flat_map(|item| strings(item, at)).collect(),
        _ => vec![],
    }
}

/// The axes that a term mentions as `{axis}` or `by = "axis"`.
pub(super) fn mentioned(term: &Term, known: &BTreeSet<String>, found: &mut BTreeSet<String>) {
    match term {
        Term::Scalar(Value::String(text)) => {
            found.extend(known.iter().filter(|axis| text.contains(&format!("{{{axis}}}"))).cloned());
        }
        Term::Scalar(_) => {}
        Term::List(items) => items.iter().for_each(|item| mentioned(&item.value, known, found)),
        Term::Table(pairs) => {
            found.extend(term.get("by").and_then(|by| by.value.as_str()).filter(|axis| known.contains(*axis)).map(str::to_owned));
            for (_, item) in pairs {
                mentioned(&item.value, known, found);
            }
        }
    }
}
