//! The text of a workflow file as a typed description, every part with its place in the text. No I/O.
//!
//! ```toml
//! [workflow]
//! name = "word_count"
//! about = "counts the words of some books"
//! [settings]                      # one value each; `sure run ... --set language=fr` changes them
//! language = { default = "en", choices = ["en", "fr"] }
//! [matrix]                        # many values each: one node per combination
//! smoothing = [0.1, 1.0]
//! [stages.books]
//! run = "text.list"
//! corpus = "{language}"
//! partitions = 4
//! [stages.count]
//! run = "text.count"
//! each = "books"                  # one node per partition
//! inputs.books = "books"
//! [stages.model]
//! run = "text.model"
//! inputs.counts = "count/words.txt"             # a part of an artifact
//! limits = { time = "2h", retries = 2 }          # how it may run (see [`crate::limits`])
//! smoothing = "{smoothing}"
//! order = { by = "language", en = 3, fr = 2 }   # another value per setting or matrix value
//! [stages.table]
//! run = "text.table"
//! gather = ["smoothing"]          # one node for all values
//! inputs.models = "model"
//! ```

use std::collections::HashSet;
use std::ops::Range;

use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use crate::limits::Limits;
use crate::mistake::{Mistake, Mistakes};

/// Something with its place in the text.
#[derive(Debug, Clone, PartialEq)]
pub struct Located<T> {
    /// The thing.
    pub value: T,
    /// Bytes of the text.
    pub at: Range<usize>,
}

/// A value of a workflow file.
#[derive(Debug, Clone, PartialEq)]
pub enum Term {
    /// Text, number or truth value.
    Scalar(Value),
    /// `[a, b]`
    List(Vec<Located<Self>>),
    /// `{ a = 1 }`, in the order of the text.
    Table(Vec<(Located<String>, Located<Self>)>),
}

impl Term {
    /// The plain value, without places.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Scalar(value) => value.clone(),
            Self::List(items) => items.iter().map(|item| item.value.to_json()).collect(),
            Self::Table(pairs) => {
                Value::Object(pairs.iter().map(|(key, term)| (key.value.clone(), term.value.to_json())).collect::<Map<_, _>>())
            }
        }
    }
    /// The text, when it is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::Scalar(Value::String(text)) = self { Some(text) } else { None }
    }
    /// The value of a key, when it is a table that has it.
    pub fn get(&self, key: &str) -> Option<&Located<Self>> {
        let Self::Table(pairs) = self else { return None };
        pairs.iter().find(|(name, _)| name.value == key).map(|(_, term)| term)
    }
}

/// A workflow file.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The file's name, for people.
    pub file: String,
    /// Its text.
    pub text: String,
    /// The workflow's name.
    pub name: String,
    /// One line for people.
    pub about: String,
    /// `[settings]` and `[matrix]`, in the order of the text.
    pub axes: Vec<Axis>,
    /// `[stages.*]`, in the order of the text.
    pub stages: Vec<StageSpec>,
    /// Mistakes of form. [`crate::graph::build`] reports them together with those of content.
    pub(crate) mistakes: Vec<Mistake>,
}

/// A setting (one value) or a line of the matrix (several).
#[derive(Debug, Clone)]
pub struct Axis {
    /// Its name.
    pub name: Located<String>,
    /// The values it takes.
    pub values: Vec<Value>,
    /// The values it may take; empty for any.
    pub choices: Vec<Value>,
    /// Whether it belongs to `[matrix]`.
    pub matrix: bool,
}

/// A stage of a workflow file.
#[derive(Debug, Clone)]
pub struct StageSpec {
    /// Its name in this workflow.
    pub name: Located<String>,
    /// The stage kind.
    pub run: Located<String>,
    /// `inputs.<slot>`.
    pub inputs: Vec<(Located<String>, Located<Term>)>,
    /// The partitioned stage of which each part gets a node.
    pub each: Option<Located<String>>,
    /// The axes over which it takes everything at once.
    pub gather: Vec<Located<String>>,
    /// How it may run; never part of a fingerprint.
    pub limits: Limits,
    /// Everything else.
    pub params: Vec<(Located<String>, Located<Term>)>,
}

/// Reads the text of a workflow file.
///
/// # Errors
/// Every place at which the text is not TOML. All other mistakes are kept for [`crate::graph::build`], which reports them at once.
pub fn parse(file: &str, text: &str) -> Result<Spec, Mistakes> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let mistake =
            |error: &toml::de::Error| Mistake::new(&error.span().unwrap_or(0..0), format!("not valid TOML: {}", error.message()));
        return Err(Mistakes::new(file, text, errors.iter().map(mistake).collect()));
    }
    let mut mistakes = vec![];
    let Term::Table(top) = from_table(table.get_ref()) else { unreachable!("a document is a table") };
    let mut spec = Spec {
        file: file.to_owned(),
        text: text.to_owned(),
        name: String::new(),
        about: String::new(),
        axes: vec![],
        stages: vec![],
        mistakes: vec![],
    };
    for (key, term) in &top {
        match key.value.as_str() {
            "workflow" => read_head(term, &mut spec, &mut mistakes),
            "settings" => read_axes(term, false, &mut spec.axes, &mut mistakes),
            "matrix" => read_axes(term, true, &mut spec.axes, &mut mistakes),
            "stages" => read_stages(term, &mut spec.stages, &mut mistakes),
            other => mistakes.push(Mistake::unknown(&key.at, "section", other, ["workflow", "settings", "matrix", "stages"])),
        }
    }
    if spec.name.is_empty() && mistakes.is_empty() {
        mistakes.push(Mistake::new(&(0..0), "no name: expected `[workflow]` with `name = \"...\"`"));
    }
    if spec.stages.is_empty() && mistakes.is_empty() {
        mistakes.push(Mistake::new(&(0..0), "no stages: expected at least one `[stages.<name>]`"));
    }
    Ok(Spec { mistakes, ..spec })
}

fn from_table(table: &DeTable<'_>) -> Term {
    let mut pairs: Vec<_> = table
        .iter()
        .map(|(key, value)| {
            let key = Located { value: key.get_ref().to_string(), at: key.span() };
            (key, Located { value: from_value(value.get_ref()), at: value.span() })
        })
        .collect();
    pairs.sort_by_key(|(key, _)| key.at.start);
    Term::Table(pairs)
}

fn from_value(value: &DeValue<'_>) -> Term {
    match value {
        DeValue::Table(table) => from_table(table),
        DeValue::Array(items) => {
            Term::List(items.iter().map(|item| Located { value: from_value(item.get_ref()), at: item.span() }).collect())
        }
        DeValue::String(text) => Term::Scalar(Value::String(text.to_string())),
        DeValue::Boolean(truth) => Term::Scalar(Value::Bool(*truth)),
        DeValue::Integer(number) => {
            let digits = number.as_str().replace('_', "");
            let parsed = i64::from_str_radix(&digits, number.radix());
            Term::Scalar(parsed.map_or_else(|_| Value::String(digits), Value::from))
        }
        DeValue::Float(number) => {
            let digits = number.as_str().replace('_', "");
            Term::Scalar(digits.parse::<f64>().map_or(Value::Null, Value::from))
        }
        DeValue::Datetime(date) => Term::Scalar(Value::String(date.to_string())),
    }
}

fn read_head(term: &Located<Term>, spec: &mut Spec, mistakes: &mut Vec<Mistake>) {
    let Term::Table(pairs) = &term.value else {
        return mistakes.push(Mistake::new(&term.at, "`workflow` should be a table"));
    };
    for (key, value) in pairs {
        match (key.value.as_str(), value.value.as_str()) {
            ("name", Some(text)) => text.clone_into(&mut spec.name),
            ("about", Some(text)) => text.clone_into(&mut spec.about),
            ("name" | "about", None) => mistakes.push(Mistake::new(&value.at, format!("`{}` should be text", key.value))),
            (other, _) => mistakes.push(Mistake::unknown(&key.at, "key of `[workflow]`", other, ["name", "about"])),
        }
    }
}

fn read_axes(term: &Located<Term>, matrix: bool, axes: &mut Vec<Axis>, mistakes: &mut Vec<Mistake>) {
    let section = if matrix { "matrix" } else { "settings" };
    let Term::Table(pairs) = &term.value else {
        return mistakes.push(Mistake::new(&term.at, format!("`{section}` should be a table")));
    };
    for (name, value) in pairs {
        if axes.iter().any(|axis| axis.name.value == name.value) {
            mistakes.push(Mistake::new(&name.at, format!("`{}` is given in `[settings]` and in `[matrix]`", name.value)));
            continue;
        }
        // After a mistake the axis is kept with a guess at its values, so that its uses are not reported as unknown.
        let (values, choices) = match (&value.value, matrix) {
            (Term::List(items), true) => {
                check_values(name, items, mistakes);
                if items.is_empty() {
                    mistakes.push(Mistake::new(&value.at, format!("the matrix line `{}` has no value", name.value)));
                }
                (jsons(items), vec![])
            }
            (single, true) => {
                mistakes.push(Mistake::new(&value.at, format!("the matrix line `{}` should be a list of values", name.value)));
                (vec![single.to_json()], vec![])
            }
            (Term::Scalar(single), false) => (vec![single.clone()], vec![]),
            (Term::Table(_), false) => {
                let (default, choices) = (value.value.get("default"), value.value.get("choices"));
                let choices = choices.map(|choices| choices.value.to_json()).and_then(|json| json.as_array().cloned());
                match (default.map(|default| default.value.to_json()), choices) {
                    (Some(default), Some(choices)) => {
                        if !choices.contains(&default) {
                            let text = format!("the default of `{}` is not one of its choices", name.value);
                            mistakes.push(Mistake::new(&value.at, text));
                        }
                        (vec![default], choices)
                    }
                    (default, _) => {
                        let text = format!("the setting `{}` should be `{{ default = ..., choices = [...] }}`", name.value);
                        mistakes.push(Mistake::new(&value.at, text));
                        (default.into_iter().collect(), vec![])
                    }
                }
            }
            (Term::List(items), false) => {
                let mistake = Mistake::new(&value.at, format!("the setting `{}` should be one value", name.value));
                mistakes.push(mistake.with_hint("several values belong into `[matrix]`"));
                (jsons(&items[..items.len().min(1)]), vec![])
            }
        };
        axes.push(Axis { name: name.clone(), values, choices, matrix });
    }
}

fn jsons(items: &[Located<Term>]) -> Vec<Value> {
    items.iter().map(|item| item.value.to_json()).collect()
}

/// Matrix values are text, numbers or truth values, each given once.
fn check_values(axis: &Located<String>, items: &[Located<Term>], mistakes: &mut Vec<Mistake>) {
    let mut seen = HashSet::new();
    for item in items {
        if !matches!(item.value, Term::Scalar(_)) {
            let text = format!("a value of `{}` should be text, a number or a truth value", axis.value);
            mistakes.push(Mistake::new(&item.at, text));
        } else if !seen.insert(item.value.to_json().to_string()) {
            mistakes.push(Mistake::new(&item.at, format!("`{}` has the value {} twice", axis.value, item.value.to_json())));
        }
    }
}

fn read_stages(term: &Located<Term>, stages: &mut Vec<StageSpec>, mistakes: &mut Vec<Mistake>) {
    let Term::Table(pairs) = &term.value else {
        return mistakes.push(Mistake::new(&term.at, "`stages` should be a table of tables"));
    };
    for (name, body) in pairs {
        let Term::Table(fields) = &body.value else {
            mistakes.push(Mistake::new(&body.at, format!("`stages.{}` should be a table", name.value)));
            continue;
        };
        let mut stage = StageSpec {
            name: name.clone(),
            run: Located { value: String::new(), at: name.at.clone() },
            inputs: vec![],
            each: None,
            gather: vec![],
            limits: Limits::default(),
            params: vec![],
        };
        for (key, value) in fields {
            match (key.value.as_str(), &value.value) {
                ("run", term) => match term.as_str() {
                    Some(kind) => stage.run = Located { value: kind.to_owned(), at: value.at.clone() },
                    None => mistakes.push(Mistake::new(&value.at, "`run` should name a stage kind")),
                },
                ("inputs", Term::Table(slots)) => stage.inputs.clone_from(slots),
                ("inputs", _) => {
                    mistakes.push(Mistake::new(&value.at, "`inputs` should be a table: `inputs.<slot> = \"<stage>\"`"));
                }
                ("each", term) => match term.as_str() {
                    Some(text) => stage.each = Some(Located { value: text.to_owned(), at: value.at.clone() }),
                    None => mistakes.push(Mistake::new(&value.at, "`each` should name a partitioned stage")),
                },
                ("gather", Term::List(items)) => {
                    for item in items {
                        match item.value.as_str() {
                            Some(text) => stage.gather.push(Located { value: text.to_owned(), at: item.at.clone() }),
                            None => {
                                mistakes.push(Mistake::new(&item.at, "`gather` should list names of settings or matrix lines"));
                            }
                        }
                    }
                }
                ("gather", _) => mistakes.push(Mistake::new(&value.at, "`gather` should be a list of names")),
                ("limits", _) => stage.limits = crate::limits::read(value, mistakes),
                _ => stage.params.push((key.clone(), value.clone())),
            }
        }
        if stage.run.value.is_empty() {
            mistakes.push(Mistake::new(&name.at, format!("`stages.{}` lacks `run = \"<stage kind>\"`", name.value)));
        }
        stages.push(stage);
    }
}
