//! `[derived]`: named values that follow from settings and lines of the matrix.
//!
//! They are put in where stages mention them, before anything else looks at the stages: `{ by = "scale", small = 1, large = 2 }`
//! becomes the `by` table of `scale` with 1 and 2 in place of its values. So a stage varies over what the value follows from.

use std::collections::HashMap;
use std::ops::Range;

use serde_json::Value;

use super::axes::show;
use super::files::Sections;
use super::term::{Constant, Located, Pair, Term, braced, braced_alone, by_names, is_plain_name};
use crate::mistake::{Mistake, is_slip};

/// Derived values in a row, each of which mentions the next.
const LONGEST_CHAIN: usize = 16;
/// Bytes that derived values may put into the stages of a workflow.
const LARGEST: usize = 1_000_000;

/// Puts the derived values of a file into its stages, and returns them, put into each other.
pub(super) fn put_in(sections: &mut Sections, mistakes: &mut Vec<Mistake>) -> Vec<Pair> {
    let given = std::mem::take(&mut sections.derived);
    let mut values = Values { given: &given, known: HashMap::new(), open: vec![], left: LARGEST, mistakes };
    for name in given.iter().map(|(name, _)| name).filter(|name| !is_plain_name(&name.value)) {
        let text = format!("the name `{0}` should be letters, digits and `_`, so that `{{{0}}}` can be read", name.value);
        values.mistakes.push(Mistake::new(&name.at, text));
    }
    for (_, body) in sections.stages.iter_mut().filter(|_| !given.is_empty()) {
        *body = values.put(body.clone(), &[]);
    }
    let known = |(name, term): &Pair| (name.clone(), values.get(&name.value).unwrap_or_else(|| term.clone()));
    given.iter().map(known).collect()
}

/// Returns the values that a term chooses from, each once.
pub fn leaves(term: &Term) -> Vec<Value> {
    let mut found = vec![];
    let located = Located { value: term.clone(), at: 0..0 };
    map_leaves(located, &mut |leaf| {
        let value = leaf.value.to_json();
        if !found.contains(&value) {
            found.push(value);
        }
        leaf
    });
    found
}

/// Replaces every value that a term chooses from.
fn map_leaves(term: Located<Term>, replace: &mut dyn FnMut(Located<Term>) -> Located<Term>) -> Located<Term> {
    let Term::Table(pairs) = term.value else { return replace(term) };
    let entry = |(key, term): Pair| if key.value == "by" { (key, term) } else { (key, map_leaves(term, replace)) };
    Located { value: Term::Table(pairs.into_iter().map(entry).collect()), at: term.at }
}

/// The derived values of a file, put into each other as far as they were asked for.
struct Values<'a> {
    given: &'a [Pair],
    /// None after a mistake.
    known: HashMap<&'a str, Option<Located<Term>>>,
    /// Values that are being read, each mentioned by the one before.
    open: Vec<&'a str>,
    /// Bytes that may still be put in.
    left: usize,
    mistakes: &'a mut Vec<Mistake>,
}

impl Values<'_> {
    /// Returns a value with those that it mentions in it; none after a mistake, which was reported.
    fn get(&mut self, name: &str) -> Option<Located<Term>> {
        let (key, term) = self.given.iter().find(|(key, _)| key.value == name)?;
        if !self.known.contains_key(name) {
            let first = self.open.iter().position(|open| *open == name);
            if first.is_some() || self.open.len() == LONGEST_CHAIN {
                let what = if first.is_some() { "these follow from each other" } else { "too many follow from each other" };
                let names = [&self.open[first.unwrap_or(0)..], &[name]].concat().join(" -> ");
                self.mistakes.push(Mistake::new(&key.at, format!("derived values: {what}: {names}")));
                return None;
            }
            let before = self.mistakes.len();
            check(name, term, 0, self.mistakes);
            self.open.push(&key.value);
            let value = self.put(term.clone(), &[]);
            self.open.pop();
            self.known.insert(&key.value, (self.mistakes.len() == before).then_some(value));
        }
        self.known[name].clone()
    }

    /// Puts derived values into a term. Names that a used workflow fixes are none.
    fn put(&mut self, term: Located<Term>, fixed: &[Constant]) -> Located<Term> {
        let is_derived = |name: &str, given: &[Pair]| {
            given.iter().any(|(key, _)| key.value == name) && fixed.iter().all(|constant| *constant.name != *name)
        };
        let value = match term.value {
            Term::Scalar(Value::String(text)) => {
                let names: Vec<String> = braced(&text).filter(|name| is_derived(name, self.given)).map(str::to_owned).collect();
                return self.fill(&names, Located { value: Term::Scalar(text.into()), at: term.at });
            }
            Term::List(items) => Term::List(items.into_iter().map(|item| self.put(item, fixed)).collect()),
            Term::Within(constants, term) => {
                let term = self.put(*term, &constants);
                Term::Within(constants, Box::new(term))
            }
            Term::Table(pairs) => {
                let entry = |(key, term): Pair| if key.value == "by" { (key, term) } else { (key, self.put(term, fixed)) };
                let table = Located { value: Term::Table(pairs.into_iter().map(entry).collect()), at: term.at };
                let by = table.value.get("by").and_then(|by| Some((by_names(&by.value)?, by.at.clone())));
                let Some((names, at)) = by else { return table };
                match names.iter().find(|name| is_derived(name, self.given)).map(|name| (*name).to_owned()) {
                    Some(name) if names.len() == 1 => return self.choose(&name, table),
                    Some(name) => {
                        let text = format!("`{name}` is a derived value, which `by` takes alone");
                        let hint =
                            format!("write one table in the other: `{{ by = \"{name}\", <value> = {{ by = ..., ... }} }}`");
                        self.mistakes.push(Mistake::new(&at, text).with_hint(hint));
                        return table;
                    }
                    None => return table,
                }
            }
            other => other,
        };
        Located { value, at: term.at }
    }

    /// Puts values into a text. `"{scale}"` alone becomes the value; inside other text, each of its values makes a text.
    fn fill(&mut self, names: &[String], text: Located<Term>) -> Located<Term> {
        let mut filled = text;
        for name in names {
            let (Some(value), braces) = (self.get(name), format!("{{{name}}}")) else { continue };
            filled = map_leaves(filled, &mut |outer| match show(&outer.value.to_json()) {
                text if text == braces => self.bought(value.clone(), &outer.at),
                text if text.contains(&braces) => map_leaves(value.clone(), &mut |leaf| {
                    let text = text.replace(&braces, &show(&leaf.value.to_json()));
                    self.bought(Located { value: Term::Scalar(text.into()), at: outer.at.clone() }, &outer.at)
                }),
                _ => outer,
            });
        }
        filled
    }

    /// Replaces a table that chooses by a derived value by one that chooses by what this follows from.
    fn choose(&mut self, name: &str, table: Located<Term>) -> Located<Term> {
        let Some(value) = self.get(name) else { return table };
        let known: Vec<String> = leaves(&value.value).iter().map(show).collect();
        let Term::Table(pairs) = &table.value else { return table };
        for (key, _) in pairs.iter().filter(|(key, _)| !matches!(key.value.as_str(), "by" | "default")) {
            let lacks_key = |value: &String| table.value.get(value).is_none() && is_slip(&key.value, value);
            if !known.contains(&key.value) && known.iter().any(lacks_key) {
                let known = known.iter().map(String::as_str).chain(["default"]);
                self.mistakes.push(Mistake::unknown(&key.at, &format!("value of `{name}`"), &key.value, known));
            }
        }
        map_leaves(value, &mut |leaf| {
            let text = show(&leaf.value.to_json());
            if let Some(setting) = braced_alone(&text) {
                let by_setting = |(key, term): &Pair| {
                    let value = if key.value == "by" { Term::Scalar(setting.into()) } else { term.value.clone() };
                    (key.clone(), Located { value, at: term.at.clone() })
                };
                let by_setting = Term::Table(pairs.iter().map(by_setting).collect());
                return self.bought(Located { value: by_setting, at: table.at.clone() }, &leaf.at);
            }
            if let Some(found) = table.value.get(&text).or_else(|| table.value.get("default")) {
                return self.bought(found.clone(), &leaf.at);
            }
            let mistake = Mistake::new(&table.at, format!("no value for {name} = `{text}`"));
            self.mistakes.push(mistake.with_hint(format!("add `{text} = ...` here, or `default = ...`")));
            leaf
        })
    }

    /// Returns a term that is put in, or nothing when so much was put in that a file must be wrong.
    fn bought(&mut self, term: Located<Term>, at: &Range<usize>) -> Located<Term> {
        let cost = term.value.to_json().to_string().len();
        if cost <= self.left {
            self.left -= cost;
            return term;
        }
        if self.left > 0 {
            self.left = 0;
            self.mistakes.push(Mistake::new(at, format!("derived values make this workflow larger than {LARGEST} bytes")));
        }
        Located { value: Term::Absent, at: at.clone() }
    }
}

/// Reports what is no text, number or truth value and no `by` table of these. `levels`: names of `by` whose values follow.
fn check(name: &str, term: &Located<Term>, levels: usize, mistakes: &mut Vec<Mistake>) {
    let names = term.value.get("by").and_then(|by| by_names(&by.value)).map_or(levels, |names| names.len());
    match &term.value {
        Term::Scalar(_) => {}
        Term::Table(pairs) if names > 0 => {
            for (key, term) in pairs.iter().filter(|(key, _)| key.value != "by") {
                let used = if key.value == "default" { names } else { key.value.split(',').count() };
                check(name, term, names.saturating_sub(used), mistakes);
            }
        }
        _ => {
            let text = format!("the derived value `{name}` should be text, a number, a truth value, or a `by` table of these");
            mistakes.push(Mistake::new(&term.at, text));
        }
    }
}
