//! Checks every name that does not depend on the point.

use std::ops::Range;

use serde_json::Value;

use super::axes::Axes;
use super::reference::Reference;
use super::stages::{EVERY_LINE, Stage, Stages};
use super::terms::{inner, references};
use crate::mistake::Mistake;
use crate::registry::{Kind, Registry};
use crate::spec::{self, Constant, Located, Term, braced, by_names};

/// Context of the checks, and the mistakes found so far.
pub(super) struct Check<'a> {
    pub(super) axes: &'a Axes<'a>,
    pub(super) stages: &'a Stages<'a>,
    pub(super) registry: &'a Registry,
    pub(super) mistakes: &'a mut Vec<Mistake>,
}

impl Check<'_> {
    pub(super) fn all(mut self, derived: &[spec::Pair]) {
        for (_, term) in derived {
            self.axes_of(None, term, &[]);
        }
        for stage in &self.stages.list {
            self.stage(stage);
        }
    }

    fn stage(&mut self, stage: &Stage<'_>) {
        let spec = stage.spec;
        if stage.kind.is_none() && !spec.run.value.is_empty() {
            let known = self.registry.kinds().map(|kind| kind.name);
            self.mistakes.push(Mistake::unknown(&spec.run.at, "stage kind", &spec.run.value, known));
        }
        for name in spec.gather.iter().filter(|name| name.value != EVERY_LINE && self.axes.number(&name.value).is_none()) {
            self.mistakes.push(self.axes.unknown(&name.at, &name.value));
        }
        if let Some(each) = spec.each.as_ref().filter(|each| self.stages.number(&each.value).is_none()) {
            self.mistakes.push(Mistake::unknown(&each.at, "stage", &each.value, self.stages.names()));
        }
        for (_, term) in spec.params.iter().chain(&spec.inputs) {
            self.axes_of(Some(stage), term, &[]);
        }
        for (name, values) in &spec.only {
            self.only(name, values);
        }
        for (_, term) in &spec.inputs {
            for (text, at) in references(term) {
                self.reference(text, at);
            }
        }
        if let Some(kind) = &stage.kind {
            self.slots(stage, kind);
        }
    }

    fn slots(&mut self, stage: &Stage<'_>, kind: &Kind) {
        let spec = stage.spec;
        for (slot, _) in &spec.inputs {
            if !kind.slots.iter().any(|known| known.name == slot.value) {
                let known = kind.slots.iter().map(|slot| slot.name);
                self.mistakes.push(Mistake::unknown(&slot.at, &format!("input of `{}`", kind.name), &slot.value, known));
            }
        }
        let missing =
            |slot: &&crate::Slot| !slot.arity.may_be_empty() && !spec.inputs.iter().any(|(name, _)| name.value == slot.name);
        for slot in kind.slots.iter().filter(missing) {
            let text = format!("`stages.{}` lacks `inputs.{}`", spec.name.value, slot.name);
            self.mistakes.push(Mistake::new(&spec.name.at, text).with_hint(format!("{}: {}", slot.name, slot.about)));
        }
    }

    /// The names in `{axis}` and in `by`: they must be known, and have one value here.
    fn axes_of(&mut self, stage: Option<&Stage<'_>>, term: &Located<Term>, constants: &[Constant]) {
        let is_constant = |name: &str| constants.iter().any(|constant| *constant.name == *name);
        match &term.value {
            Term::Scalar(Value::String(text)) => {
                braced(text).filter(|name| !is_constant(name)).for_each(|name| self.axis(stage, name, &term.at));
            }
            Term::Scalar(_) | Term::Absent => {}
            Term::List(items) => items.iter().for_each(|item| self.axes_of(stage, item, constants)),
            Term::Table(pairs) => {
                if let Some(by) = term.value.get("by") {
                    self.by(stage, by, pairs, &is_constant);
                }
                for (_, item) in pairs.iter().filter(|(key, _)| key.value != "by") {
                    self.axes_of(stage, item, constants);
                }
            }
            Term::Within(constants, term) => self.axes_of(stage, term, constants),
        }
    }

    /// Checks `only`: lines of the matrix with values of theirs.
    fn only(&mut self, name: &Located<String>, values: &[Located<String>]) {
        match self.axes.get(&name.value) {
            Some(axis) if axis.spec.matrix => {
                let unknown = |value: &Located<String>| axis.find(&value.value, &value.at).err();
                self.mistakes.extend(values.iter().filter(|value| !axis.may_be(&value.value)).filter_map(unknown));
            }
            _ => {
                let lines = self.axes.list.iter().filter(|axis| axis.spec.matrix).map(|axis| &*axis.name);
                self.mistakes.push(Mistake::unknown(&name.at, "matrix line", &name.value, lines));
            }
        }
    }

    fn axis(&mut self, stage: Option<&Stage<'_>>, name: &str, at: &Range<usize>) {
        if self.axes.number(name).is_none() {
            // A derived value is left where something is wrong with it, which is reported.
            self.mistakes.extend(self.axes.derived(name).is_none().then(|| self.axes.unknown(at, name)));
        } else if let Some(stage) = stage.filter(|stage| stage.spec.gather.iter().any(|gathered| gathered.value == *name)) {
            let text = format!("`stages.{}` gathers `{name}`, so that has no single value here", stage.spec.name.value);
            self.mistakes.push(Mistake::new(at, text));
        }
    }

    /// Checks a `by` table: its axes, and that its keys are values of these.
    fn by(&mut self, stage: Option<&Stage<'_>>, by: &Located<Term>, pairs: &[spec::Pair], is_constant: &dyn Fn(&str) -> bool) {
        let Some(names) = by_names(&by.value) else {
            return self
                .mistakes
                .push(Mistake::new(&by.at, "`by` should be the name of a setting or matrix line, or a list of them"));
        };
        for name in names.iter().filter(|name| !is_constant(name)) {
            self.axis(stage, name, &by.at);
        }
        if names.iter().all(|name| is_constant(name) || self.axes.number(name).is_some()) {
            self.entries(&names, pairs, is_constant);
        }
    }

    /// Checks the keys of a `by` table. A key for a value that does not occur here is no mistake, since a line of the matrix may
    /// have been narrowed; one that looks like a slip of a value without a key is.
    fn entries(&mut self, names: &[&str], pairs: &[spec::Pair], is_constant: &dyn Fn(&str) -> bool) {
        let is_key = |key: &str| pairs.iter().any(|(name, _)| name.value == key);
        for (key, term) in pairs.iter().filter(|(key, _)| !matches!(key.value.as_str(), "by" | "default")) {
            let values: Vec<&str> = key.value.split(',').collect();
            let wrong = (0..values.len().min(names.len())).find_map(|place| {
                let axis = self.axes.get(names[place]).filter(|_| !is_constant(names[place]))?;
                let meant = axis.slip(values[place])?;
                let right: Vec<&str> =
                    values.iter().enumerate().map(|(at, value)| if at == place { meant } else { value }).collect();
                (!is_key(&right.join(","))).then_some((axis, values[place]))
            });
            if let Some((axis, value)) = wrong {
                let known = axis.values.iter().map(|known| &*known.text).chain(["default"]);
                self.mistakes.push(Mistake::unknown(&key.at, &format!("value of `{}`", axis.name), value, known));
            } else if values.len() > names.len() {
                let text = format!("`{}` names {} values, but `by` only {} axes", key.value, values.len(), names.len());
                self.mistakes.push(Mistake::new(&key.at, text));
            } else if let Some(nested) = inner(&term.value).filter(|_| values.len() < names.len()) {
                self.entries(&names[values.len()..], nested, is_constant);
            }
        }
    }

    fn reference(&mut self, text: &str, at: &Range<usize>) {
        let reference = match Reference::parse(text) {
            Ok(reference) => reference,
            Err(message) => return self.mistakes.push(Mistake::new(at, format!("`{text}`: {message}"))),
        };
        if self.stages.number(reference.stage).is_none() {
            self.mistakes.push(Mistake::unknown(at, "stage", reference.stage, self.stages.names()));
        }
        for (name, value) in &reference.pinned {
            match self.axes.get(name) {
                None => self.mistakes.push(self.axes.unknown(at, name)),
                // Text in braces is looked up where it has a value. A setting may be set to what the file does not list.
                Some(axis) if value.starts_with('{') || axis.may_be(value) => {}
                Some(axis) => self.mistakes.extend(axis.find(value, at).err()),
            }
        }
    }
}
