//! Values of a workflow file at one point of its matrix, and what they mention.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::{Map, Value};

use super::axes::{Axes, Pair};
use crate::mistake::Mistake;
use crate::spec::{self, Constant, Located, Term, by_names, show};

/// Values of the names in a term: those of the axes at a point, and before them the constants of a used workflow.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) axes: &'a Axes<'a>,
    pub(super) point: &'a [Pair],
    pub(super) constants: &'a [Constant],
}

impl<'a> Scope<'a> {
    /// Returns the value of a name and its text.
    fn known(&self, name: &str) -> Option<(&'a Value, &'a str)> {
        if let Some(constant) = self.constants.iter().find(|constant| *constant.name == *name) {
            return Some((&constant.value, &constant.text));
        }
        let number = self.axes.number(name)?;
        let place = self.point.binary_search_by_key(&number, |(axis, _)| *axis).ok()?;
        let known = self.axes.known(self.point[place]);
        Some((&known.value, &known.text))
    }

    /// Returns the scope of a term inside [`Term::Within`].
    fn inside<'s>(&self, constants: &'s [Constant]) -> Scope<'s>
    where
        'a: 's,
    {
        Scope { axes: self.axes, point: self.point, constants }
    }

    /// Returns the value of a term: `by` tables looked up, `{axis}` replaced. Inside, none stands for a parameter that is left
    /// out; an error for a mistake, which is in `mistakes`.
    pub(super) fn resolve(&self, term: &Located<Term>, mistakes: &mut Vec<Mistake>) -> Result<Option<Value>, ()> {
        match &term.value {
            Term::Scalar(Value::String(text)) => Ok(Some(self.fill(text))),
            Term::Scalar(value) => Ok(Some(value.clone())),
            Term::Absent => Ok(None),
            Term::Within(constants, term) => self.inside(constants).resolve(term, mistakes),
            Term::List(items) => {
                let values: Vec<_> = items.iter().map(|item| self.resolve(item, mistakes)).collect();
                let values: Vec<_> = values.into_iter().collect::<Result<_, ()>>()?;
                Ok(Some(values.into_iter().flatten().collect()))
            }
            Term::Table(pairs) => {
                if let Some(by) = term.value.get("by") {
                    let chosen = self.choose(term, pairs, by, mistakes).ok_or(())?;
                    return self.resolve(chosen, mistakes);
                }
                let fields: Vec<_> = pairs.iter().map(|(key, item)| Ok((&key.value, self.resolve(item, mistakes)?))).collect();
                let fields: Vec<_> = fields.into_iter().collect::<Result<_, ()>>()?;
                let given = fields.into_iter().filter_map(|(key, value)| Some((key.clone(), value?)));
                Ok(Some(Value::Object(given.collect::<Map<_, _>>())))
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
            Term::Within(constants, term) => self.inside(constants).references(term, mistakes),
            Term::Absent => Some(vec![]),
            Term::Scalar(_) => Some(term.value.as_str().map(|text| (show(&self.fill(text)), &term.at)).into_iter().collect()),
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
        let values: Vec<&str> = names.iter().map(|name| self.known(name).map(|(_, text)| text)).collect::<Option<_>>()?;
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
        let alone = spec::braced_alone(text).and_then(|name| self.known(name));
        if let Some((value, _)) = alone {
            return value.clone();
        }
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            filled.push_str(&rest[..open]);
            rest = &rest[open..];
            let known = rest.find('}').and_then(|close| Some((close, self.known(&rest[1..close])?)));
            let (piece, end) = known.map_or(("{", 1), |(close, (_, text))| (text, close + 1));
            filled.push_str(piece);
            rest = &rest[end..];
        }
        Value::String(filled + rest)
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

/// Every text of a term that may be a reference: the entries of a `by` table, the items of a list.
pub(super) fn references(term: &Located<Term>) -> Vec<(&str, &Range<usize>)> {
    match &term.value {
        Term::Scalar(_) => term.value.as_str().map(|text| (text, &term.at)).into_iter().collect(),
        Term::List(items) => items.iter().flat_map(references).collect(),
        Term::Table(pairs) => pairs.iter().filter(|(key, _)| key.value != "by").flat_map(|(_, item)| references(item)).collect(),
        Term::Within(_, term) => references(term),
        Term::Absent => vec![],
    }
}

/// Collects the axes that a term mentions as `{axis}` or in a `by`.
pub(super) fn mentioned(term: &Term, axes: &Axes<'_>, found: &mut BTreeSet<u32>) {
    let mut names = BTreeSet::new();
    spec::mentioned(term, &mut names);
    found.extend(names.into_iter().filter_map(|name| axes.number(name)));
}
