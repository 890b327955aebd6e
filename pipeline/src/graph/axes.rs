//! Settings and matrix lines with the values they have in this build, everything a small number.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use serde_json::Value;

use super::Settings;
use crate::mistake::Mistake;
use crate::spec::{self, Combination, Spec, show};

/// An axis and one of its values, by number.
pub(super) type Pair = (u32, u32);

/// All settings and matrix lines, in order of their names, so that sorted numbers are sorted names.
pub(super) struct Axes<'a> {
    pub(super) list: Vec<Axis<'a>>,
    numbers: BTreeMap<&'a str, u32>,
    /// Combinations of values that the matrix leaves out.
    pub(super) excluded: Vec<Vec<Pair>>,
    /// Combinations of values that it has beside all others.
    pub(super) included: Vec<Vec<Pair>>,
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
        let mut axes = Self { list: vec![], numbers, excluded: vec![], included: vec![] };
        for name in settings.keys().filter(|name| axes.number(name).is_none()) {
            mistakes.push(Mistake::unknown(&(0..0), "setting in --set:", name, axes.names()));
        }
        for axis in specs {
            let set = settings.get(&axis.name.value).and_then(|texts| read_set(axis, texts, mistakes));
            axes.list.push(Axis::new(axis, set));
        }
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

    pub(super) fn unknown(&self, at: &Range<usize>, name: &str) -> Mistake {
        Mistake::unknown(at, "setting or matrix line", name, self.names())
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
                    match self.list[number as usize].find(&show(&value.value), &value.at) {
                        Ok(value) => pairs.push((number, value)),
                        Err(mistake) => mistakes.push(mistake),
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
    fn new(spec: &'a spec::Axis, set: Option<Vec<Value>>) -> Self {
        let name = Arc::from(spec.name.value.as_str());
        let mut axis = Self { spec, name, values: vec![], num_wanted: 0, num_listed: 0, numbers: HashMap::new() };
        set.as_ref().unwrap_or(&spec.values).iter().for_each(|value| axis.add(value));
        axis.num_wanted = axis.values.len() as u32;
        spec.values.iter().chain(&spec.choices).for_each(|value| axis.add(value));
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

    /// Its name and the values that are wanted, for the record.
    pub(super) fn in_force(&self) -> (String, Vec<String>) {
        let wanted = &self.values[..self.num_wanted as usize];
        (self.name.to_string(), wanted.iter().map(|known| known.text.to_string()).collect())
    }

    /// Whether a value belongs to the line itself, and not only to `include`.
    pub(super) fn is_listed(&self, value: u32) -> bool {
        value < self.num_listed
    }

    /// The number of a value that this build knows.
    pub(super) fn find(&self, text: &str, at: &Range<usize>) -> Result<u32, Mistake> {
        let known = self.values.iter().map(|known| &*known.text);
        let unknown = || Mistake::unknown(at, &format!("value of `{}`", self.name), text, known);
        self.numbers.get(text).copied().ok_or_else(unknown)
    }

    /// Whether a value may come up in some build of this workflow: a setting without choices may be set to anything.
    pub(super) fn may_be(&self, text: &str) -> bool {
        let open = !self.spec.matrix && self.spec.choices.is_empty();
        let readable = || self.spec.form.read(text).is_some_and(|value| self.spec.objection(&value).is_none());
        self.numbers.contains_key(text) || open && readable()
    }
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
