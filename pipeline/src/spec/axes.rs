//! `[settings]` and `[matrix]`: names, values, types.

use std::collections::HashSet;
use std::ops::Range;

use serde_json::Value;

use super::term::{Located, Pair, Term, braced, is_plain_name};
use crate::mistake::Mistake;

/// A setting (one value) or a line of the matrix (several).
#[derive(Debug, Clone)]
pub struct Axis {
    /// Name of the axis.
    pub name: Located<String>,
    /// The values it takes.
    pub values: Vec<Value>,
    /// The values it may take; empty for any.
    pub choices: Vec<Value>,
    /// True for a line of `[matrix]`, false for a setting.
    pub matrix: bool,
    /// Type of the values.
    pub form: Form,
    /// The least value, of a number.
    pub min: Option<f64>,
    /// The greatest value, of a number.
    pub max: Option<f64>,
    /// One line for people.
    pub about: String,
    /// Values that an included file gave it and another file replaced. They may still be keys of a `by` table.
    pub former: Vec<Value>,
}

/// The type of a setting or of a line of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// Text.
    Text,
    /// Values of several types, as a line of the matrix may have.
    Any,
}

/// Some values of the matrix at once, as `exclude` and `include` list them.
#[derive(Debug, Clone)]
pub struct Combination {
    /// Place in the text.
    pub at: Range<usize>,
    /// Names and values.
    pub values: Vec<(Located<String>, Located<Value>)>,
}

/// `[settings]` and `[matrix]`.
#[derive(Debug, Clone, Default)]
pub(super) struct Axes {
    pub(super) list: Vec<Axis>,
    pub(super) excluded: Vec<Combination>,
    pub(super) included: Vec<Combination>,
}

impl Form {
    /// All that a workflow file can ask for.
    pub(super) const NAMED: [(&'static str, Self); 4] =
        [("integer", Self::Integer), ("number", Self::Number), ("boolean", Self::Boolean), ("text", Self::Text)];

    /// Returns the narrowest type that holds all of some values.
    pub fn of(values: &[Value]) -> Self {
        let holds_all = |form: &Self| !values.is_empty() && values.iter().all(|value| form.holds(value));
        Self::NAMED.into_iter().map(|(_, form)| form).find(holds_all).unwrap_or(Self::Any)
    }

    /// Returns the name of the type in a workflow file.
    pub fn name(self) -> &'static str {
        Self::NAMED.iter().find(|(_, form)| *form == self).map_or("text, a number or a truth value", |(name, _)| name)
    }

    fn holds(self, value: &Value) -> bool {
        match self {
            Self::Integer => value.is_i64(),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
            Self::Text => value.is_string(),
            Self::Any => true,
        }
    }

    /// Text, as a command line gives it, as a value of this type.
    pub(crate) fn read(self, text: &str) -> Option<Value> {
        match self {
            Self::Text => Some(Value::String(text.to_owned())),
            Self::Any => {
                let plain = [Self::Integer, Self::Number, Self::Boolean].into_iter().find_map(|form| form.read(text));
                Some(plain.unwrap_or_else(|| Value::String(text.to_owned())))
            }
            Self::Integer => text.parse::<i64>().ok().map(Value::from),
            Self::Number => {
                let whole = Self::Integer.read(text);
                whole.or_else(|| text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from))
            }
            Self::Boolean => text.parse::<bool>().ok().map(Value::from),
        }
    }
}

impl Axis {
    /// Makes a line of the matrix.
    pub fn line(name: Located<String>, values: Vec<Value>, form: Form) -> Self {
        Self { values, form, ..empty(&name, true) }
    }

    /// Returns the fault of a value, if it has one; for messages such as ``the default of `size` ...``.
    pub(crate) fn objection(&self, value: &Value) -> Option<String> {
        if !self.form.holds(value) {
            return Some(format!("should be {}, not {value}", self.form.name()));
        }
        let number = value.as_f64();
        if let (Some(number), Some(min)) = (number, self.min)
            && number < min
        {
            return Some(format!("should be at least {min}, not {value}"));
        }
        if let (Some(number), Some(max)) = (number, self.max)
            && number > max
        {
            return Some(format!("should be at most {max}, not {value}"));
        }
        None
    }
}

impl Axis {
    /// A value as the list of choices spells it (`1` may be meant where it says `1.0`); none when it is not among them.
    pub(crate) fn chosen(&self, value: &Value) -> Option<Value> {
        let same = |choice: &&Value| *choice == value || choice.is_number() && choice.as_f64() == value.as_f64();
        if self.choices.is_empty() { Some(value.clone()) } else { self.choices.iter().find(same).cloned() }
    }
}

/// How a value is written in ids and on the command line.
pub(crate) fn show(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Axes {
    pub(super) fn read(settings: &[Pair], matrix: &[Pair], mistakes: &mut Vec<Mistake>) -> Self {
        let mut all = Self::default();
        for (name, value) in settings {
            all.list.push(setting(name, value, mistakes));
        }
        let taken: HashSet<&str> = settings.iter().map(|(name, _)| name.value.as_str()).collect();
        for (name, value) in matrix {
            match name.value.as_str() {
                "exclude" => all.excluded = combinations(name, value, mistakes),
                "include" => all.included = combinations(name, value, mistakes),
                taken_name if taken.contains(taken_name) => {} // reported already
                _ => all.list.push(line(name, value, mistakes)),
            }
        }
        for axis in &all.list {
            let name = &axis.name.value;
            if !is_plain_name(name) {
                let text = format!("the name `{name}` should be letters, digits and `_`, so that `{{{name}}}` can be read");
                mistakes.push(Mistake::new(&axis.name.at, text));
            }
        }
        all
    }
}

fn empty(name: &Located<String>, matrix: bool) -> Axis {
    let (form, about) = (Form::Any, String::new());
    Axis { name: name.clone(), values: vec![], choices: vec![], matrix, form, min: None, max: None, about, former: vec![] }
}

/// `size = 3`, or `size = { default = 3, choices = [...], ... }`. After a mistake it is kept with a guess at its value, so that
/// its uses are not reported as unknown.
fn setting(name: &Located<String>, value: &Located<Term>, mistakes: &mut Vec<Mistake>) -> Axis {
    let mut axis = empty(name, false);
    match &value.value {
        Term::Scalar(single) => {
            axis.form = Form::of(std::slice::from_ref(single));
            axis.values = vec![single.clone()];
        }
        Term::List(items) => {
            let mistake = Mistake::new(&value.at, format!("the setting `{}` should be one value", name.value));
            mistakes.push(mistake.with_hint("several values belong into `[matrix]`"));
            axis.values = items.iter().take(1).map(|item| item.value.to_json()).collect();
        }
        Term::Within(..) | Term::Absent => {} // in stages only
        Term::Table(fields) => {
            read_fields(&mut axis, fields, &["default", "choices", "type", "min", "max", "about"], mistakes);
            match value.value.get("default") {
                Some(default) => axis.values = scalars(name, std::slice::from_ref(default), mistakes),
                None => mistakes.push(Mistake::new(&value.at, format!("the setting `{}` lacks `default = ...`", name.value))),
            }
            check_values(&mut axis, value, mistakes);
        }
    }
    axis
}

/// `seed = [1, 2]`, or `seed = { values = [1, 2], choices = [...], ... }`.
fn line(name: &Located<String>, value: &Located<Term>, mistakes: &mut Vec<Mistake>) -> Axis {
    let mut axis = empty(name, true);
    let values = match &value.value {
        Term::List(_) => Some(value),
        Term::Table(fields) => {
            read_fields(&mut axis, fields, &["values", "choices", "type", "min", "max", "about"], mistakes);
            value.value.get("values")
        }
        Term::Scalar(_) | Term::Within(..) | Term::Absent => None,
    };
    if let Some(Term::List(items)) = values.map(|values| &values.value) {
        axis.values = scalars(name, items, mistakes);
        if items.is_empty() {
            mistakes.push(Mistake::new(&value.at, format!("the matrix line `{}` has no value", name.value)));
        }
    } else {
        mistakes.push(Mistake::new(&value.at, format!("the matrix line `{}` should be a list of values", name.value)));
        axis.values = vec![values.unwrap_or(value).value.to_json()];
    }
    check_values(&mut axis, value, mistakes);
    axis
}

/// The fields beside the values themselves.
fn read_fields(axis: &mut Axis, fields: &[Pair], known: &[&str], mistakes: &mut Vec<Mistake>) {
    let name = axis.name.value.clone();
    let mut wrong = |at: &Range<usize>, key: &str, wanted: &str| {
        mistakes.push(Mistake::new(at, format!("`{key}` of `{name}` should be {wanted}")));
    };
    for (key, term) in fields {
        match (key.value.as_str(), &term.value) {
            ("choices", Term::List(items)) => axis.choices = items.iter().map(|item| item.value.to_json()).collect(),
            ("choices", _) => wrong(&term.at, "choices", "a list of values"),
            ("about", value) => match value.as_str() {
                Some(text) => text.clone_into(&mut axis.about),
                None => wrong(&term.at, "about", "text"),
            },
            ("min" | "max", value) => match value.to_json().as_f64() {
                Some(number) if key.value == "min" => axis.min = Some(number),
                Some(number) => axis.max = Some(number),
                None => wrong(&term.at, &key.value, "a number"),
            },
            ("type", value) => match Form::NAMED.iter().find(|(form, _)| value.as_str() == Some(form)) {
                Some((_, form)) => axis.form = *form,
                None => wrong(&term.at, "type", "one of `integer`, `number`, `boolean` and `text`"),
            },
            _ => {}
        }
    }
    for (key, _) in fields.iter().filter(|(key, _)| !known.contains(&key.value.as_str())) {
        mistakes.push(Mistake::unknown(&key.at, &format!("key of `{name}`"), &key.value, known.iter().copied()));
    }
}

/// Infers the type where none is given, and checks the values against it.
fn check_values(axis: &mut Axis, whole: &Located<Term>, mistakes: &mut Vec<Mistake>) {
    let name = &axis.name.value;
    if axis.form == Form::Any {
        let of_values = Form::of(&axis.values);
        // `default = 1, choices = [1, 1.5]` is a number.
        let all: Vec<Value> = axis.values.iter().chain(&axis.choices).cloned().collect();
        axis.form = if of_values == Form::Integer && Form::of(&all) == Form::Number { Form::Number } else { of_values };
    }
    if (axis.min.is_some() || axis.max.is_some()) && !matches!(axis.form, Form::Integer | Form::Number) {
        mistakes.push(Mistake::new(
            &whole.at,
            format!("`min` and `max` of `{name}` are for numbers, and it is {}", axis.form.name()),
        ));
    }
    let place = |key: &str| whole.value.get(key).map_or(&whole.at, |term| &term.at).clone();
    let what = if axis.matrix { "a value of" } else { "the default of" };
    let refers = |value: &&Value| !axis.matrix && value.as_str().is_some_and(|text| braced(text).next().is_some());
    for value in axis.values.iter().filter(|value| !refers(value)) {
        let at = place(if axis.matrix { "values" } else { "default" });
        if let Some(objection) = axis.objection(value) {
            mistakes.push(Mistake::new(&at, format!("{what} `{name}` {objection}")));
        } else if axis.chosen(value).is_none() {
            mistakes.push(Mistake::new(&at, format!("{what} `{name}` is not one of its choices")));
        }
    }
    for objection in axis.choices.iter().filter_map(|choice| axis.objection(choice)) {
        mistakes.push(Mistake::new(&place("choices"), format!("a choice of `{name}` {objection}")));
    }
}

/// Values are text, numbers or truth values, each given once, and can be part of an id.
fn scalars(axis: &Located<String>, items: &[Located<Term>], mistakes: &mut Vec<Mistake>) -> Vec<Value> {
    let mut seen = HashSet::new();
    let mut values = vec![];
    for item in items {
        let Term::Scalar(value) = &item.value else {
            let text = format!("a value of `{}` should be text, a number or a truth value", axis.value);
            mistakes.push(Mistake::new(&item.at, text));
            continue;
        };
        let shown = show(value);
        let plain = braced(&shown).fold(shown.clone(), |text, name| text.replace(&format!("{{{name}}}"), ""));
        if let Some(sign) = plain.chars().find(|c| ",[]{}#*".contains(*c) || c.is_control()) {
            mistakes.push(Mistake::new(&item.at, format!("the value {value} of `{}` may not contain {sign:?}", axis.value)));
        }
        if seen.insert(shown) {
            values.push(value.clone());
        } else {
            mistakes.push(Mistake::new(&item.at, format!("`{}` has the value {value} twice", axis.value)));
        }
    }
    values
}

/// `[{ method = "lora", seed = 2 }, ...]`. Names and values are checked where all are known.
fn combinations(name: &Located<String>, term: &Located<Term>, mistakes: &mut Vec<Mistake>) -> Vec<Combination> {
    let wanted = "a list of tables such as `{ method = \"lora\", seed = 2 }`";
    let Term::List(items) = &term.value else {
        mistakes.push(Mistake::new(&term.at, format!("`{}` of `[matrix]` should be {wanted}", name.value)));
        return vec![];
    };
    let mut found = vec![];
    for item in items {
        match &item.value {
            Term::Table(pairs) if !pairs.is_empty() => {
                let mut values = vec![];
                for (axis, term) in pairs {
                    let list = scalars(axis, std::slice::from_ref(term), mistakes);
                    values.extend(list.into_iter().map(|value| (axis.clone(), Located { value, at: term.at.clone() })));
                }
                found.push(Combination { at: item.at.clone(), values });
            }
            _ => mistakes.push(Mistake::new(&item.at, format!("`{}` of `[matrix]` should be {wanted}", name.value))),
        }
    }
    found
}
