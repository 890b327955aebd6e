//! `[use]`: workflows taken over as the parts of another one, each at one value of a line of the matrix.
//!
//! A stage of several parts becomes one stage. A parameter or input that is the same in all parts stays as it is; another one
//! becomes `{ by = "<line>", <part> = ..., ... }`. A setting may get a list of values; then it is a line of the matrix. A stage of
//! another kind than the stage of that name in an earlier part is called `<part>.<stage>`. A stage that the using file defines itself
//! replaces those of all parts.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::axes::{Axes, Axis, show};
use super::files::{Files, Sections, beside, is_whole_stage, merge};
use super::term::{Constant, Located, Pair, Term, braced, mentioned};
use super::{derived, like};
use crate::mistake::Mistake;

/// A used workflow.
struct Part {
    /// Value of the line at which it holds.
    value: Located<String>,
    sections: Sections,
    /// Settings and lines of the matrix, read.
    axes: Axes,
    /// Settings that keep the value they have in this workflow.
    constants: Vec<Constant>,
}

/// Keys of a stage that all parts of one stage share.
const WHOLE: [&str; 5] = ["run", "each", "gather", "limits", "only"];

/// Merges the workflows that `[use]` names below the sections of the file.
pub(super) fn take_over(files: &mut Files<'_>, file: &str, mut own: Sections) -> Sections {
    let uses = std::mem::take(&mut own.uses);
    let Some((line, term)) = uses.first() else { return own };
    for (name, _) in &uses[1..] {
        files
            .mistakes
            .push(Mistake::new(&name.at, "`[use]` takes one line: the workflows of a second one cannot be combined with it"));
    }
    let mut parts = read_parts(files, file, line, term);
    if parts.is_empty() {
        return own;
    }
    let defined: HashSet<&str> =
        own.stages.iter().filter(|(_, body)| is_whole_stage(&body.value)).map(|(name, _)| name.value.as_str()).collect();
    for part in &mut parts {
        part.sections.stages.retain(|(name, _)| !defined.contains(name.value.as_str()));
    }
    let shared = shared_settings(&parts, &own, &line.value);
    for part in &mut parts {
        part.constants = constants(part, &shared);
    }
    let mut taken = Sections { settings: settings(&parts, &shared), ..Sections::default() };
    taken.matrix = matrix(&parts, line, &mut own, &mut files.mistakes);
    taken.stages = Stages::new(&parts, &line.value).merged();
    let choices = |axis: &Axis| axis.choices.iter().map(|choice| (axis.name.value.clone(), choice.clone())).collect::<Vec<_>>();
    taken.former = parts.iter().flat_map(|part| part.sections.former.iter().cloned()).collect();
    taken.former.extend(parts.iter().flat_map(|part| part.axes.list.iter().filter(|axis| axis.matrix).flat_map(choices)));
    merge(taken, own)
}

/// Reads `["emotion", "./mine.toml"]` or `{ emotion = "emotion", meld = { workflow = "emotion", corpus = "meld" } }`.
fn read_parts(files: &mut Files<'_>, file: &str, line: &Located<String>, term: &Located<Term>) -> Vec<Part> {
    let wanted = "a workflow: `\"NAME\"`, or `{ workflow = \"NAME\", <setting> = ... }`";
    let mut wrong = |at| {
        files.mistakes.push(Mistake::new(at, format!("a part of `use.{}` should be {wanted}", line.value)));
        None
    };
    let mut listed: Vec<(Located<String>, Located<String>, Vec<Pair>)> = vec![];
    match &term.value {
        Term::List(items) => {
            for item in items {
                let Some(text) = item.value.as_str().or_else(|| wrong(&item.at)) else { continue };
                let stem = Path::new(text).file_stem().map_or(text.into(), |stem| stem.to_string_lossy());
                let located = |value: &str| Located { value: value.to_owned(), at: item.at.clone() };
                listed.push((located(&stem), located(text), vec![]));
            }
        }
        Term::Table(pairs) => {
            for (name, item) in pairs {
                let workflow = item.value.get("workflow").unwrap_or(item);
                let Some(text) = workflow.value.as_str().or_else(|| wrong(&item.at)) else { continue };
                let given = if let Term::Table(pairs) = &item.value { pairs.clone() } else { vec![] };
                let given = given.into_iter().filter(|(key, _)| key.value != "workflow").collect();
                listed.push((name.clone(), Located { value: text.to_owned(), at: workflow.at.clone() }, given));
            }
        }
        _ => _ = wrong(&term.at).map(|_: &str| ()),
    }
    let mut parts = vec![];
    for (value, name, given) in listed {
        let name = Located { value: beside(file, &name.value), at: name.at };
        if name.value == file || !files.find(&name) {
            if name.value == file {
                files.mistakes.push(Mistake::new(&name.at, "a workflow cannot use itself"));
            }
            continue;
        }
        let mut sections = files.merged(&name.value);
        if !sections.uses.is_empty() {
            let text = format!("`{}` uses other workflows itself: name them here", name.value);
            files.mistakes.push(Mistake::new(&name.at, text));
        }
        for pair in given {
            set(&mut sections, pair, &name.value, &mut files.mistakes);
        }
        like::resolve(&mut sections.stages, &mut files.mistakes);
        derived::put_in(&mut sections, &mut files.mistakes);
        let axes = Axes::read(&sections.settings, &sections.matrix, &mut files.mistakes);
        parts.push(Part { value, sections, axes, constants: vec![] });
    }
    parts
}

/// Gives a setting another value, or a line of the matrix other values. A setting with a list of values becomes a line of the matrix.
fn set(sections: &mut Sections, (name, term): Pair, workflow: &str, mistakes: &mut Vec<Mistake>) {
    let into = |slot: &mut Located<Term>, key: &str, value: Located<Term>| match &mut slot.value {
        Term::Table(fields) => match fields.iter_mut().find(|(field, _)| field.value == key) {
            Some((_, old)) => *old = value,
            None => fields.push((Located { value: key.to_owned(), at: name.at.clone() }, value)),
        },
        _ => *slot = value,
    };
    let setting = sections.settings.iter().position(|(key, _)| key.value == name.value);
    if let (Some(at), Term::List(_)) = (setting, &term.value) {
        let (key, mut slot) = sections.settings.remove(at);
        if let Term::Table(fields) = &mut slot.value {
            fields.retain(|(field, _)| field.value != "default");
        }
        into(&mut slot, "values", term);
        sections.matrix.push((key, slot));
    } else if let Some(at) = setting {
        into(&mut sections.settings[at].1, "default", term);
    } else if let Some((_, slot)) = sections.matrix.iter_mut().find(|(key, _)| key.value == name.value) {
        let list = match term.value {
            Term::List(_) => term,
            _ => Located { at: term.at.clone(), value: Term::List(vec![term]) },
        };
        into(slot, "values", list);
    } else {
        let known = sections.settings.iter().chain(&sections.matrix).map(|(key, _)| key.value.as_str());
        mistakes.push(Mistake::unknown(&name.at, &format!("setting of `{workflow}`"), &name.value, known));
    }
}

/// Returns the settings that have one value for all parts: those that the using file gives, and those that all parts declare
/// alike.
fn shared_settings(parts: &[Part], own: &Sections, line: &str) -> HashSet<String> {
    let given = own.settings.iter().chain(&own.matrix).chain(&own.derived);
    let given: HashSet<&str> = given.map(|(name, _)| name.value.as_str()).collect();
    let mut values: HashMap<&str, Vec<Value>> = HashMap::new();
    for (name, term) in parts.iter().flat_map(|part| &part.sections.settings) {
        values.entry(&name.value).or_default().push(term.value.to_json());
    }
    let is_shared = |(name, values): &(&str, Vec<Value>)| {
        *name != line && (given.contains(name) || values.iter().all(|value| *value == values[0]))
    };
    values.into_iter().filter(is_shared).map(|(name, _)| name.to_owned()).collect()
}

fn settings(parts: &[Part], shared: &HashSet<String>) -> Vec<Pair> {
    let mut seen = HashSet::new();
    let all = parts.iter().flat_map(|part| &part.sections.settings);
    all.filter(|(name, _)| shared.contains(&name.value) && seen.insert(name.value.clone())).cloned().collect()
}

fn constants(part: &Part, shared: &HashSet<String>) -> Vec<Constant> {
    let setting = |name: &str| part.axes.list.iter().find(|axis| !axis.matrix && axis.name.value == name);
    let value = |name: &str| setting(name).and_then(|axis| axis.values.first().cloned()).unwrap_or_default();
    let own = part.axes.list.iter().filter(|axis| !axis.matrix && !shared.contains(&axis.name.value));
    let constant = |axis: &super::Axis| {
        let mut found = value(&axis.name.value);
        if let Some(text) = found.as_str() {
            let filled =
                braced(text).fold(text.to_owned(), |text, name| text.replace(&format!("{{{name}}}"), &show(&value(name))));
            found = axis.form.read(&filled).unwrap_or(Value::String(filled));
        }
        Constant { name: axis.name.value.as_str().into(), text: show(&found).into(), value: found }
    };
    own.map(constant).collect()
}

/// Returns the lines of all parts and the line of the parts themselves. At a part, a line has the values that the part gives it.
fn matrix(parts: &[Part], line: &Located<String>, own: &mut Sections, mistakes: &mut Vec<Mistake>) -> Vec<Pair> {
    let key = |name: &str| Located { value: name.to_owned(), at: line.at.clone() };
    let table = |part: &Part, more: Vec<Pair>| {
        let first = (line.clone(), Located { value: Term::Scalar(part.value.value.clone().into()), at: part.value.at.clone() });
        Located { value: Term::Table([vec![first], more].concat()), at: part.value.at.clone() }
    };
    let values =
        parts.iter().map(|part| Located { value: Term::Scalar(part.value.value.clone().into()), at: part.value.at.clone() });
    let mut lines = vec![(line.clone(), Located { value: Term::List(values.collect()), at: line.at.clone() })];
    let (mut excluded, mut included) = (vec![], vec![]);
    let mut names: Vec<&Located<String>> = vec![];
    for name in parts.iter().flat_map(|part| part.axes.list.iter().filter(|axis| axis.matrix).map(|axis| &axis.name)) {
        if names.iter().all(|known| known.value != name.value) && name.value != line.value {
            names.push(name);
        }
    }
    for name in names.into_iter().filter(|name| own.matrix.iter().all(|(given, _)| given.value != name.value)) {
        let of = |part: &Part| {
            part.axes.list.iter().find(|axis| axis.matrix && axis.name.value == name.value).map(|axis| axis.values.clone())
        };
        let mut all: Vec<Value> = vec![];
        parts.iter().filter_map(of).flatten().for_each(|value| {
            if !all.contains(&value) {
                all.push(value);
            }
        });
        let scalar = |value: &Value| Located { value: Term::Scalar(value.clone()), at: name.at.clone() };
        for part in parts {
            let Some(has) = of(part) else {
                let text = format!("`{}` has no matrix line `{}`, and other parts have one", part.value.value, name.value);
                let hint = format!("`[matrix] {} = [...]` here gives it to all", name.value);
                mistakes.push(Mistake::new(&part.value.at, text).with_hint(hint));
                continue;
            };
            let lacks = all.iter().filter(|value| !has.contains(value));
            excluded.extend(lacks.map(|value| table(part, vec![(key(&name.value), scalar(value))])));
        }
        lines.push((name.clone(), Located { value: Term::List(all.iter().map(scalar).collect()), at: name.at.clone() }));
    }
    for part in parts {
        for (name, into) in [("exclude", &mut excluded), ("include", &mut included)] {
            let given = part.sections.matrix.iter().find(|(key, _)| key.value == name);
            let Some(Term::List(items)) = given.map(|(_, term)| &term.value) else { continue };
            for item in items {
                let Term::Table(pairs) = &item.value else { continue };
                into.push(table(part, pairs.clone()));
            }
        }
    }
    for (name, items) in [("exclude", excluded), ("include", included)] {
        match own.matrix.iter_mut().find(|(key, _)| key.value == name).map(|(_, term)| &mut term.value) {
            Some(Term::List(given)) => given.extend(items),
            _ if items.is_empty() => {}
            _ => lines.push((key(name), Located { value: Term::List(items), at: line.at.clone() })),
        }
    }
    lines
}

/// The stages of all parts.
struct Stages<'p> {
    parts: &'p [Part],
    line: &'p str,
    names: Vec<&'p Located<String>>,
    /// Stages that have another name here than in their part, by part and name there.
    renamed: HashMap<(usize, &'p str), String>,
}

impl<'p> Stages<'p> {
    fn new(parts: &'p [Part], line: &'p str) -> Self {
        let mut names: Vec<&Located<String>> = vec![];
        for (name, _) in parts.iter().flat_map(|part| &part.sections.stages) {
            if names.iter().all(|known| known.value != name.value) {
                names.push(name);
            }
        }
        let mut stages = Self { parts, line, names, renamed: HashMap::new() };
        // A stage that goes by the parts of a renamed one is another stage, too.
        loop {
            let before = stages.renamed.len();
            for name in stages.names.clone() {
                for part in stages.groups(&name.value).into_iter().skip(1).flatten() {
                    let full = format!("{}.{}", parts[part].value.value, name.value);
                    stages.renamed.entry((part, &name.value)).or_insert(full);
                }
            }
            if stages.renamed.len() == before {
                return stages;
            }
        }
    }

    fn body(&self, part: usize, name: &str) -> Option<&'p Located<Term>> {
        let (_, body) = self.parts[part].sections.stages.iter().find(|(known, _)| known.value == name)?;
        Some(body)
    }

    /// Groups the parts that have a stage by what must be the same in one stage. Parts in which it was renamed come last, alone.
    fn groups(&self, name: &str) -> Vec<Vec<usize>> {
        let mut groups: Vec<(Vec<Value>, Vec<usize>)> = vec![];
        for part in 0..self.parts.len() {
            let Some(body) = self.body(part, name) else { continue };
            let mut key: Vec<Value> =
                WHOLE.iter().map(|key| self.whole(part, body, key).map_or(Value::Null, |term| term.value.to_json())).collect();
            key.push(if self.renamed.contains_key(&(part, name)) { part.into() } else { Value::Null });
            match groups.iter_mut().find(|(known, _)| *known == key) {
                Some((_, parts)) => parts.push(part),
                None => groups.push((key, vec![part])),
            }
        }
        groups.sort_by_key(|(key, _)| !key[WHOLE.len()].is_null());
        groups.into_iter().map(|(_, parts)| parts).collect()
    }

    /// Returns one of the shared keys of a stage, with names as they are here.
    fn whole(&self, part: usize, body: &Located<Term>, key: &str) -> Option<Located<Term>> {
        let mut term = body.value.get(key)?.clone();
        match (key, &mut term.value) {
            ("each", _) => term = self.rename(part, term),
            ("gather", Term::List(items)) => {
                let constants = &self.parts[part].constants;
                items.retain(|item| constants.iter().all(|constant| item.value.as_str() != Some(&constant.name)));
            }
            _ => {}
        }
        Some(term)
    }

    fn merged(&self) -> Vec<Pair> {
        let mut all = vec![];
        for name in &self.names {
            for group in self.groups(&name.value) {
                let full = self.renamed.get(&(group[0], name.value.as_str())).unwrap_or(&name.value);
                let name_here = Located { value: full.clone(), at: name.at.clone() };
                all.push((name_here, self.stage(&name.value, &group)));
            }
        }
        all
    }

    /// Merges the stage that some parts have in common.
    fn stage(&self, name: &str, group: &[usize]) -> Located<Term> {
        let bodies: Vec<&Located<Term>> = group.iter().filter_map(|part| self.body(*part, name)).collect();
        let at = &bodies[0].at;
        let key = |name: &str| Located { value: name.to_owned(), at: at.clone() };
        let mut pairs: Vec<Pair> =
            WHOLE.iter().filter_map(|name| Some((key(name), self.whole(group[0], bodies[0], name)?))).collect();
        let fields: Vec<&[Pair]> = bodies.iter().map(|body| table(Some(*body))).collect();
        let is_param = |name: &str| name != "inputs" && !WHOLE.contains(&name);
        pairs.extend(self.fields(group, &fields, is_param));
        let read = |(part, body): (&usize, &&Located<Term>)| -> Vec<Pair> {
            let slots = table(body.value.get("inputs")).iter();
            slots.map(|(slot, term)| (slot.clone(), self.rename(*part, term.clone()))).collect()
        };
        let inputs: Vec<Vec<Pair>> = group.iter().zip(&bodies).map(read).collect();
        let inputs = self.fields(group, &inputs.iter().map(Vec::as_slice).collect::<Vec<_>>(), |_| true);
        if !inputs.is_empty() {
            pairs.push((key("inputs"), Located { value: Term::Table(inputs), at: at.clone() }));
        }
        if group.len() < self.parts.len() && !self.is_common(name, group, &pairs) {
            let value =
                |part: &usize| Located { value: Term::Scalar(self.parts[*part].value.value.clone().into()), at: at.clone() };
            let values = Located { value: Term::List(group.iter().map(value).collect()), at: at.clone() };
            let only = (key(self.line), values);
            match pairs.iter_mut().find(|(key, _)| key.value == "only").map(|(_, term)| &mut term.value) {
                Some(Term::Table(lines)) => lines.push(only),
                _ => pairs.push((key("only"), Located { value: Term::Table(vec![only]), at: at.clone() })),
            }
        }
        Located { value: Term::Table(pairs), at: at.clone() }
    }

    /// True if a stage of several parts is the same in all of them, and runs only for others that read it: one node serves them all.
    fn is_common(&self, name: &str, group: &[usize], pairs: &[Pair]) -> bool {
        let mut names = BTreeSet::new();
        for (_, term) in pairs {
            mentioned(&term.value, &mut names);
        }
        let reads = |body: &Located<Term>| {
            ["each", "inputs"].iter().any(|key| body.value.get(key).is_some_and(|term| names_stage(&term.value, name)))
        };
        let is_read = |part: &usize| self.parts[*part].sections.stages.iter().any(|(_, body)| reads(body));
        group.len() > 1 && !names.contains(self.line) && group.iter().all(is_read)
    }

    /// Merges tables key by key.
    fn fields(&self, group: &[usize], tables: &[&[Pair]], wanted: impl Fn(&str) -> bool) -> Vec<Pair> {
        let mut seen = HashSet::new();
        let names = tables.iter().flat_map(|pairs| pairs.iter().map(|(name, _)| name));
        let names: Vec<&Located<String>> = names.filter(|name| wanted(&name.value) && seen.insert(name.value.as_str())).collect();
        let of = |name: &str, pairs: &[Pair]| pairs.iter().find(|(key, _)| key.value == name).map(|(_, term)| term.clone());
        let merged = |name: &Located<String>| {
            let terms: Vec<Option<Located<Term>>> = tables.iter().map(|pairs| of(&name.value, pairs)).collect();
            (name.clone(), self.term(group, terms, &name.at))
        };
        names.into_iter().map(merged).collect()
    }

    /// Merges one value: the same of all parts, or one by part.
    fn term(&self, group: &[usize], terms: Vec<Option<Located<Term>>>, at: &std::ops::Range<usize>) -> Located<Term> {
        let alone = |(part, term): (&usize, Option<Located<Term>>)| match term {
            Some(term) => self.within(*part, term),
            None => Located { value: Term::Absent, at: at.clone() },
        };
        let terms: Vec<Located<Term>> = group.iter().zip(terms).map(alone).collect();
        let same = |term: &Located<Term>| match (&term.value, &terms[0].value) {
            (Term::Within(a, first), Term::Within(b, second)) => a == b && first.value.to_json() == second.value.to_json(),
            (Term::Within(..), _) | (_, Term::Within(..)) => false,
            (one, other) => one.to_json() == other.to_json(),
        };
        if terms.iter().all(same) {
            return terms.into_iter().next().expect("a group is never empty");
        }
        let key = |name: &str| Located { value: name.to_owned(), at: at.clone() };
        let by = (key("by"), Located { value: Term::Scalar(self.line.into()), at: at.clone() });
        let entries = group.iter().zip(terms).map(|(part, term)| (key(&self.parts[*part].value.value), term));
        Located { value: Term::Table(std::iter::once(by).chain(entries).collect()), at: at.clone() }
    }

    /// Fixes the constants of a part that a term mentions.
    fn within(&self, part: usize, term: Located<Term>) -> Located<Term> {
        let mut names = BTreeSet::new();
        mentioned(&term.value, &mut names);
        let constants: Arc<[Constant]> =
            self.parts[part].constants.iter().filter(|constant| names.contains(&*constant.name)).cloned().collect();
        if constants.is_empty() { term } else { Located { at: term.at.clone(), value: Term::Within(constants, Box::new(term)) } }
    }

    /// Replaces the names of renamed stages in references.
    fn rename(&self, part: usize, mut term: Located<Term>) -> Located<Term> {
        term.value = match term.value {
            Term::Scalar(Value::String(text)) => {
                let end = text.find(['[', '/']).unwrap_or(text.len());
                let renamed = self.renamed.get(&(part, &text[..end]));
                Term::Scalar(renamed.map_or_else(|| text.clone(), |name| format!("{name}{}", &text[end..])).into())
            }
            Term::List(items) => Term::List(items.into_iter().map(|item| self.rename(part, item)).collect()),
            Term::Table(pairs) => {
                let entry = |(key, item): Pair| if key.value == "by" { (key, item) } else { (key, self.rename(part, item)) };
                Term::Table(pairs.into_iter().map(entry).collect())
            }
            other => other,
        };
        term
    }
}

/// True if a term of inputs names a stage, whole or a part of it.
fn names_stage(term: &Term, name: &str) -> bool {
    match term {
        Term::Scalar(Value::String(text)) => text[..text.find(['[', '/']).unwrap_or(text.len())] == *name,
        Term::List(items) => items.iter().any(|item| names_stage(&item.value, name)),
        Term::Table(pairs) => pairs.iter().any(|(key, item)| key.value != "by" && names_stage(&item.value, name)),
        Term::Within(_, term) => names_stage(&term.value, name),
        Term::Scalar(_) | Term::Absent => false,
    }
}

fn table(term: Option<&Located<Term>>) -> &[Pair] {
    if let Some(Term::Table(pairs)) = term.map(|term| &term.value) { pairs } else { &[] }
}
