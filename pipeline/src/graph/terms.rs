//! Values of a workflow file at one point of its matrix, and what they mention.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::{Map, Value};

use super::axes::{Axes, Known, Pair};
use crate::mistake::Mistake;
use crate::spec::{self, Located, Term, is_plain_name, show};

/// The values of the axes at a point.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) axes: &'a Axes<'a>,
    pub(super) point: &'a [Pair],
}

impl<'a> Scope<'a> {
    fn known(&self, name: &str) -> Option<&'a Known> {
        let number = self.axes.number(name)?;
        let place = self.point.binary_search_by_key(&number, |(axis, _)| *axis).ok()?;
        Some(self.axes.known(self.point[place]))
    }

    /// The value of a term: `by` tables looked up, `{axis}` replaced; none after a mistake.
    pub(super) fn resolve(&self, term: &Located<Term>, mistakes: &mut Vec<Mistake>) -> Option<Value> {
        match &term.value {
            Term::Scalar(Value::String(text)) => Some(self.fill(text)),
            Term::Scalar(value) => Some(value.clone()),
            Term::List(items) => {
                let values: Vec<_> = items.iter().map(|item| self.resolve(item, mistakes)).collect();
                values.into_iter().collect()
            }
            Term::Table(pairs) => {
                if let Some(by) = term.value.get("by") {
                    let chosen = self.choose(term, pairs, by, mistakes)?;
                    return self.resolve(chosen, mistakes);
                }
                let fields: Vec<_> =
                    pairs.iter().map(|(key, item)| Some((key.value.clone(), self.resolve(item, mistakes)?))).collect();
                Some(Value::Object(fields.into_iter().collect::<Option<Map<_, _>>>()?))
            }
        }
    }

    /// The references of an input, each with its place; none after a mistake.
    pub(super) fn references<'t>(
        &self,
        term: &'t Located<Term>,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<Vec<(String, &'t Range<usize>)>> {
        match &term.value {
            Term::List(items) => {
                let lists: Vec<_> = items.iter().map(|item| self.references(item, mistakes)).collect();
                Some(lists.into_iter().collect::<Option<Vec<_>>>()?.concat())
            }
            Term::Table(pairs) => {
                let Some(by) = term.value.get("by") else { return Some(vec![]) };
                self.references(self.choose(term, pairs, by, mistakes)?, mistakes)
            }
            scalar => Some(scalar.as_str().map(|text| (show(&self.fill(text)), &term.at)).into_iter().collect()),
        }
    }

    /// The entry of a `by` table that holds here.
    fn choose<'t>(
        &self,
        table: &Located<Term>,
        pairs: &'t [spec::Pair],
        by: &Located<Term>,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<&'t Located<Term>> {
        let names = by_names(&by.value)?; // whatever is missing here is reported with the names
        let values: Vec<&str> = names.iter().map(|name| self.known(name).map(|known| &*known.text)).collect::<Option<_>>()?;
        let found = look_up(pairs, &values);
        if found.is_none() {
            let at: Vec<String> = names.iter().zip(&values).map(|(name, value)| format!("{name} = `{value}`")).collect();
            let mistake = Mistake::new(&table.at, format!("no value for {}", at.join(", ")));
            let key = values.join(",");
            let key = if values.len() > 1 { format!("\"{key}\"") } else { key };
            mistakes.push(mistake.with_hint(format!("add `{key} = ...` here, or `default = ...`")));
        }
        found
    }

    /// `"{axis}"` alone becomes the axis's value with its type; inside other text, its text.
    fn fill(&self, text: &str) -> Value {
        let alone = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).and_then(|name| self.known(name));
        if let Some(known) = alone {
            return known.value.clone();
        }
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            filled.push_str(&rest[..open]);
            rest = &rest[open..];
            let known = rest.find('}').and_then(|close| Some((close, self.known(&rest[1..close])?)));
            let (piece, end) = known.map_or(("{", 1), |(close, known)| (&*known.text, close + 1));
            filled.push_str(piece);
            rest = &rest[end..];
        }
        Value::String(filled + rest)
    }
}

/// The axes of `by = "axis"` or `by = ["axis", ...]`; none when it is neither.
pub(super) fn by_names(by: &Term) -> Option<Vec<&str>> {
    match by {
        Term::List(items) if !items.is_empty() => items.iter().map(|item| item.value.as_str()).collect(),
        single => Some(vec![single.as_str()?]),
    }
}

/// The entry for some values: under all of them at once (`"a,b" = ...`) or one table in the other, the longest name first;
/// else `default`. An entry that is no table of further values holds for all of them.
fn look_up<'t>(pairs: &'t [spec::Pair], values: &[&str]) -> Option<&'t Located<Term>> {
    let entry = |key: &str| pairs.iter().find(|(name, _)| name.value == key).map(|(_, term)| term);
    for named in (1..=values.len()).rev() {
        let Some(term) = entry(&values[..named].join(",")) else { continue };
        let found = match inner(&term.value) {
            Some(table) if named < values.len() => look_up(table, &values[named..]),
            _ => Some(term),
        };
        if found.is_some() {
            return found;
        }
    }
    entry("default")
}

/// The entries of a table inside a `by` table of several axes; one with a `by` of its own stands for itself.
pub(super) fn inner(term: &Term) -> Option<&[spec::Pair]> {
    match term {
        Term::Table(pairs) if term.get("by").is_none() => Some(pairs),
        _ => None,
    }
}

/// The names in braces in a text. What cannot be a name, such as `{2}` or `{}`, is plain text.
pub(super) fn braced(text: &str) -> impl Iterator<Item = &str> {
    let inside = text.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(inside, _)| inside));
    inside.filter(|name| is_plain_name(name))
}

/// Every text of a term that may be a reference: the entries of a `by` table, the items of a list.
pub(super) fn references(term: &Located<Term>) -> Vec<(&str, &Range<usize>)> {
    match &term.value {
        Term::Scalar(_) => term.value.as_str().map(|text| (text, &term.at)).into_iter().collect(),
        Term::List(items) => items.iter().flat_map(references).collect(),
        Term::Table(pairs) => pairs.iter().filter(|(key, _)| key.value != "by").flat_map(|(_, item)| references(item)).collect(),
    }
}

/// The axes that a term mentions as `{axis}` or in a `by`.
pub(super) fn mentioned(term: &Term, axes: &Axes<'_>, found: &mut BTreeSet<u32>) {
    match term {
        Term::Scalar(Value::String(text)) => found.extend(braced(text).filter_map(|name| axes.number(name))),
        Term::Scalar(_) => {}
        Term::List(items) => items.iter().for_each(|item| mentioned(&item.value, axes, found)),
        Term::Table(pairs) => {
            let names = term.get("by").and_then(|by| by_names(&by.value)).unwrap_or_default();
            found.extend(names.into_iter().filter_map(|name| axes.number(name)));
            for (_, item) in pairs {
                mentioned(&item.value, axes, found);
            }
        }
    }
}
