//! Settings and matrix lines with the values they have in this build, everything a small number.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use serde_json::Value;

use super::Settings;
use crate::mistake::{Mistake, is_slip};
use crate::spec::{self, Combination, Located, Spec, Term, show};

/// An axis and one of its values, by number.
pub(super) type Pair = (u32, u32);

/// All settings and matrix lines, in order of their names, so that sorted numbers are sorted names.
pub(super) struct Axes<'a> {
    pub(super) list: Vec<Axis<'a>>,
    numbers: BTreeMap<&'a str, u32>,
    derived: &'a [spec::Pair],
    /// Combinations of values that the matrix leaves out.
    pub(super) excluded: Vec<Vec<Pair>>,
    /// Combinations of values that it has beside all others.
    pub(super) included: Vec<Vec<Pair>>,
    /// Mistakes in `--set`; what else is wrong may follow from them.
    pub(super) wrong_settings: Vec<Mistake>,
}

/// One axis. Its values stand in this order: those wanted, others that the file lists, those that only `include` names.
pub(super) struct Axis<'a> {
    pub(super) spec: &'a spec::Axis,
    pub(super) name: Arc<str>,
    pub(super) values: Vec<Known>,
    pub(super) num_wanted: u32,
    num_listed: u32,
    numbers: HashMap<Arc<str>, u32>,
}

/// A value and its text.
pub(super) struct Known {
    pub(super) value: Value,
    pub(super) text: Arc<str>,
}

impl<'a> Axes<'a> {
    /// Takes over `--set`, and checks it with `exclude` and `include`.
    pub(super) fn new(spec: &'a Spec, settings: &Settings, mistakes: &mut Vec<Mistake>) -> Self {
        let mut specs: Vec<&spec::Axis> = spec.axes.iter().collect();
        specs.sort_by(|a, b| a.name.value.cmp(&b.name.value));
        specs.dedup_by(|a, b| a.name.value == b.name.value);
        let numbers = (0..).zip(&specs).map(|(number, axis)| (axis.name.value.as_str(), number)).collect();
        let derived = &spec.derived;
        let mut axes = Self { list: vec![], numbers, derived, excluded: vec![], included: vec![], wrong_settings: vec![] };
        let mut wrong_settings = vec![];
        for name in settings.keys().filter(|name| axes.number(name).is_none()) {
            let derived = axes.derived(name).map(|(name, term)| follows(&name.at, &format!("--set {}", name.value), term));
            let unknown = || Mistake::unknown(&(0..0), "setting in --set:", name, axes.names());
            wrong_settings.push(derived.unwrap_or_else(unknown));
        }
        let read =
            |axis: &&spec::Axis| settings.get(&axis.name.value).and_then(|texts| read_set(axis, texts, &mut wrong_settings));
        let sets: Vec<Option<Vec<Value>>> = specs.iter().map(read).collect();
        let mut wanted: Vec<Vec<Value>> =
            specs.iter().zip(sets).map(|(axis, set)| set.unwrap_or_else(|| axis.values.clone())).collect();
        follow_settings(&specs, &mut wanted, mistakes);
        axes.list.extend(specs.iter().zip(&wanted).map(|(axis, wanted)| Axis::new(axis, wanted)));
        axes.wrong_settings = wrong_settings;
        for combination in &spec.included {
            let Some(pairs) = axes.include(combination, mistakes) else { continue };
            // `--set` says which values are wanted: combinations with others drop out.
            let set = |axis: u32| settings.contains_key(&*axes.list[axis as usize].name);
            if pairs.iter().all(|(axis, value)| !set(*axis) || *value < axes.list[*axis as usize].num_wanted) {
                axes.included.push(pairs);
            }
        }
        for combination in &spec.excluded {
            axes.excluded.extend(axes.pairs(combination, mistakes));
        }
        axes
    }

    /// The number of an axis.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Axis<'a>> {
        self.number(name).map(|number| &self.list[number as usize])
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.numbers.keys().copied()
    }

    pub(super) fn known(&self, (axis, value): Pair) -> &Known {
        &self.list[axis as usize].values[value as usize]
    }

    /// Name and value.
    pub(super) fn text(&self, pair: Pair) -> (Arc<str>, Arc<str>) {
        (Arc::clone(&self.list[pair.0 as usize].name), Arc::clone(&self.known(pair).text))
    }

    /// The derived value of a name.
    pub(super) fn derived(&self, name: &str) -> Option<&'a spec::Pair> {
        self.derived.iter().find(|(key, _)| key.value == name)
    }

    pub(super) fn unknown(&self, at: &Range<usize>, name: &str) -> Mistake {
        if let Some((_, term)) = self.derived(name) {
            return follows(at, &format!("`{name}`"), term);
        }
        let derived = self.derived.iter().map(|(key, _)| key.value.as_str());
        Mistake::unknown(at, "setting or matrix line", name, self.names().chain(derived))
    }

    /// A combination of `include`, whose values become known by it.
    fn include(&mut self, combination: &Combination, mistakes: &mut Vec<Mistake>) -> Option<Vec<Pair>> {
        for (name, value) in &combination.values {
            let Some(number) = self.number(&name.value) else { continue };
            let axis = &mut self.list[number as usize];
            match axis.spec.objection(&value.value) {
                Some(objection) => {
                    mistakes.push(Mistake::new(&value.at, format!("a value of `{}` {objection}", name.value)));
                    return None;
                }
                None => axis.spec.chosen(&value.value).iter().for_each(|value| axis.add(value)),
            }
        }
        self.pairs(combination, mistakes)
    }

    fn pairs(&self, combination: &Combination, mistakes: &mut Vec<Mistake>) -> Option<Vec<Pair>> {
        let before = mistakes.len();
        let mut pairs = vec![];
        for (name, value) in &combination.values {
            match self.number(&name.value) {
                Some(number) if self.list[number as usize].spec.matrix => {
                    let (axis, text) = (&self.list[number as usize], show(&value.value));
                    match axis.find(&text, &value.at) {
                        Ok(value) => pairs.push((number, value)),
                        Err(mistake) if axis.slip(&text).is_some() => mistakes.push(mistake),
                        Err(_) => return None, // the line was narrowed, so that the combination cannot occur
                    }
                }
                _ => {
                    let lines = self.list.iter().filter(|axis| axis.spec.matrix).map(|axis| &*axis.name);
                    mistakes.push(Mistake::unknown(&name.at, "matrix line", &name.value, lines));
                }
            }
        }
        pairs.sort_unstable();
        (mistakes.len() == before).then_some(pairs)
    }
}

impl<'a> Axis<'a> {
    fn new(spec: &'a spec::Axis, wanted: &[Value]) -> Self {
        let name = Arc::from(spec.name.value.as_str());
        let mut axis = Self { spec, name, values: vec![], num_wanted: 0, num_listed: 0, numbers: HashMap::new() };
        for value in wanted {
            axis.add(value);
        }
        axis.num_wanted = axis.values.len() as u32;
        for value in spec.values.iter().filter(|value| !refers(value)).chain(&spec.choices) {
            axis.add(value);
        }
        axis.num_listed = axis.values.len() as u32;
        axis
    }

    fn add(&mut self, value: &Value) {
        let text: Arc<str> = show(value).into();
        if !self.numbers.contains_key(&text) {
            self.numbers.insert(Arc::clone(&text), self.values.len() as u32);
            self.values.push(Known { value: value.clone(), text });
        }
    }

    /// Returns name and wanted values, for the record.
    pub(super) fn in_force(&self) -> (String, Vec<String>) {
        let wanted = &self.values[..self.num_wanted as usize];
        (self.name.to_string(), wanted.iter().map(|known| known.text.to_string()).collect())
    }

    /// True if a value belongs to the line itself, and not only to `include`.
    pub(super) fn is_listed(&self, value: u32) -> bool {
        value < self.num_listed
    }

    /// The number of a value that this build knows.
    pub(super) fn find(&self, text: &str, at: &Range<usize>) -> Result<u32, Mistake> {
        let known = self.values.iter().map(|known| &*known.text);
        let unknown = || Mistake::unknown(at, &format!("value of `{}`", self.name), text, known);
        self.numbers.get(text).copied().ok_or_else(unknown)
    }

    /// True if a value may occur in some build of this workflow: a setting without choices may be set to anything, and a line may
    /// have been narrowed.
    pub(super) fn may_be(&self, text: &str) -> bool {
        let open = !self.spec.matrix && self.spec.choices.is_empty();
        let readable = || self.spec.form.read(text).is_some_and(|value| self.spec.objection(&value).is_none());
        self.numbers.contains_key(text) || self.spec.former.iter().any(|value| show(value) == text) || open && readable()
    }

    /// Returns the value that a text looks like a misspelling of, when it is none itself.
    pub(super) fn slip(&self, text: &str) -> Option<&str> {
        let mut known = self.values.iter().map(|known| &*known.text);
        if self.may_be(text) { None } else { known.find(|known| is_slip(text, known)) }
    }
}

/// True if a value is text that names another setting: `default = "{corpus}"`.
fn refers(value: &Value) -> bool {
    value.as_str().is_some_and(|text| spec::braced(text).next().is_some())
}

/// Replaces values such as `"{corpus}"` by the values of the settings that they name.
fn follow_settings(specs: &[&spec::Axis], wanted: &mut [Vec<Value>], mistakes: &mut Vec<Mistake>) {
    let is_setting = |name: &str| specs.iter().position(|axis| axis.name.value == name && !axis.matrix);
    for _ in 0..specs.len() {
        let before = wanted.to_vec();
        for (axis, values) in specs.iter().zip(wanted.iter_mut()).filter(|(axis, _)| !axis.matrix) {
            for value in values.iter_mut().filter(|value| refers(value)) {
                let mut text = value.as_str().unwrap_or_default().to_owned();
                for name in spec::braced(&text.clone()) {
                    let Some(place) = is_setting(name) else {
                        let settings = specs.iter().filter(|axis| !axis.matrix).map(|axis| axis.name.value.as_str());
                        mistakes.push(Mistake::unknown(&axis.name.at, "setting", name, settings));
                        continue;
                    };
                    if let Some(other) = before[place].first().filter(|other| !refers(other)) {
                        text = text.replace(&format!("{{{name}}}"), &show(other));
                    }
                }
                *value = axis.form.read(&text).unwrap_or(Value::String(text));
            }
        }
        if *wanted == *before {
            break;
        }
    }
    for (axis, _) in specs.iter().zip(wanted).filter(|(axis, values)| !axis.matrix && values.iter().any(refers)) {
        let text = format!("the setting `{}` takes its value from settings that take theirs from it", axis.name.value);
        mistakes.push(Mistake::new(&axis.name.at, text));
    }
}

/// A derived value where a setting or a line of the matrix is expected.
fn follows(at: &Range<usize>, what: &str, term: &Located<Term>) -> Mistake {
    let mut names = BTreeSet::new();
    spec::mentioned(&term.value, &mut names);
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    let mistake = Mistake::new(at, format!("{what}: a derived value, where a setting or matrix line is expected"));
    mistake.with_hint(format!("it follows from {}", if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }))
}

/// The values of `--set`.
fn read_set(axis: &spec::Axis, texts: &[String], mistakes: &mut Vec<Mistake>) -> Option<Vec<Value>> {
    let (name, at) = (&axis.name.value, &axis.name.at);
    if !axis.matrix && texts.len() != 1 {
        let text = format!("--set {name}: a setting takes one value, not {}", texts.len());
        mistakes.push(Mistake::new(at, text).with_hint("several values belong into `[matrix]`"));
        return None;
    }
    let mut values = vec![];
    for text in texts {
        let Some(value) = axis.form.read(text) else {
            mistakes.push(Mistake::new(at, format!("--set {name}: expected {}, found `{text}`", axis.form.name())));
            continue;
        };
        if let Some(objection) = axis.objection(&value) {
            mistakes.push(Mistake::new(at, format!("--set {name}: {objection}")));
        } else if axis.chosen(&value).is_none() {
            let choices: Vec<String> = axis.choices.iter().map(show).collect();
            let known = choices.iter().map(String::as_str);
            mistakes.push(Mistake::unknown(at, &format!("value of `{name}`"), text, known));
        }
        values.push(axis.chosen(&value).unwrap_or(value));
    }
    Some(values)
}
