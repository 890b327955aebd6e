//! Values of a workflow file, each with its place in the text, and the names in them.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use crate::mistake::Mistake;

/// Something with its place in the text.
#[derive(Debug, Clone, PartialEq)]
pub struct Located<T> {
    /// The thing.
    pub value: T,
    /// Place in the text (see [`crate::mistake::Sources`]).
    pub at: Range<usize>,
}

/// A key and what it is set to.
pub type Pair = (Located<String>, Located<Term>);

/// A value of a workflow file.
#[derive(Debug, Clone, PartialEq)]
pub enum Term {
    /// Text, number or truth value.
    Scalar(Value),
    /// `[a, b]`
    List(Vec<Located<Self>>),
    /// `{ a = 1 }`, in the order of the text.
    Table(Vec<Pair>),
    /// A value of a used workflow, in which these names have one value.
    Within(Arc<[Constant]>, Box<Located<Self>>),
    /// No value: the parameter is left out.
    Absent,
}

/// A setting of a used workflow that has one value there, whatever the workflow that uses it says.
#[derive(Debug, Clone, PartialEq)]
pub struct Constant {
    /// Name of the setting.
    pub name: Arc<str>,
    /// Value of the setting.
    pub value: Value,
    /// Text of the value.
    pub text: Arc<str>,
}

impl Term {
    /// Returns the plain value, without places.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Scalar(value) => value.clone(),
            Self::List(items) => items.iter().map(|item| item.value.to_json()).collect(),
            Self::Table(pairs) => {
                Value::Object(pairs.iter().map(|(key, term)| (key.value.clone(), term.value.to_json())).collect::<Map<_, _>>())
            }
            Self::Within(_, term) => term.value.to_json(),
            Self::Absent => Value::Null,
        }
    }
    /// Returns the text of a scalar that is text.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::Scalar(Value::String(text)) = self { Some(text) } else { None }
    }
    /// Returns the value of a key of a table.
    pub fn get(&self, key: &str) -> Option<&Located<Self>> {
        let Self::Table(pairs) = self else { return None };
        pairs.iter().find(|(name, _)| name.value == key).map(|(_, term)| term)
    }
}

/// Reads one value as a workflow file has it: `{ name = "lora", rank = 4 }`.
///
/// # Errors
/// The reason why the text is no such value.
pub fn value(text: &str) -> Result<Term, String> {
    let mut pairs = document(&format!("value = {text}"), 0)
        .map_err(|mistakes| mistakes.into_iter().map(|mistake| mistake.message).collect::<Vec<_>>().join("; "))?;
    if pairs.len() != 1 {
        return Err("more than one value".to_owned());
    }
    Ok(pairs.remove(0).1.value)
}

/// Returns the axes of `by = "axis"` or `by = ["axis", ...]`; none when it is neither.
pub fn by_names(by: &Term) -> Option<Vec<&str>> {
    match by {
        Term::List(items) if !items.is_empty() => items.iter().map(|item| item.value.as_str()).collect(),
        single => Some(vec![single.as_str()?]),
    }
}

/// Iterates over the names in braces in a text. Braces around anything but a name, such as `{2}` or `{}`, are plain text.
pub(crate) fn braced(text: &str) -> impl Iterator<Item = &str> {
    let inside = text.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(inside, _)| inside));
    inside.filter(|name| is_plain_name(name))
}

/// Returns the name of a text that is a name in braces and nothing else.
pub(crate) fn braced_alone(text: &str) -> Option<&str> {
    text.strip_prefix('{')?.strip_suffix('}').filter(|name| is_plain_name(name))
}

/// True if `{name}` in a text can mean an axis.
pub(super) fn is_plain_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Collects the names that a term mentions as `{name}` or in a `by`.
pub fn mentioned<'t>(term: &'t Term, found: &mut BTreeSet<&'t str>) {
    match term {
        Term::Scalar(Value::String(text)) => found.extend(braced(text)),
        Term::Scalar(_) | Term::Absent => {}
        Term::List(items) => items.iter().for_each(|item| mentioned(&item.value, found)),
        Term::Table(pairs) => {
            found.extend(term.get("by").and_then(|by| by_names(&by.value)).unwrap_or_default());
            for (_, item) in pairs {
                mentioned(&item.value, found);
            }
        }
        Term::Within(constants, term) => {
            let mut inside = BTreeSet::new();
            mentioned(&term.value, &mut inside);
            inside.retain(|name| constants.iter().all(|constant| *constant.name != **name));
            found.append(&mut inside);
        }
    }
}

/// The top level of a text whose first byte has the place `base`, or every place at which it is not TOML.
pub(super) fn document(text: &str, base: usize) -> Result<Vec<Pair>, Vec<Mistake>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(pairs(table.get_ref(), base));
    }
    let mistake = |error: &toml::de::Error| {
        Mistake::new(
            &shift(error.span().filter(|span| span.end > 0).unwrap_or(0..1), base),
            format!("not valid TOML: {}", error.message()),
        )
    };
    Err(errors.iter().map(mistake).collect())
}

fn shift(at: Range<usize>, base: usize) -> Range<usize> {
    at.start + base..at.end + base
}

fn pairs(table: &DeTable<'_>, base: usize) -> Vec<Pair> {
    let pair = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
        let key: &toml::Spanned<std::borrow::Cow<'_, str>> = key;
        let name = Located { value: key.get_ref().to_string(), at: shift(key.span(), base) };
        (name, located(value, base))
    };
    let mut pairs: Vec<Pair> = table.iter().map(pair).collect();
    pairs.sort_by_key(|(key, _)| key.at.start);
    pairs
}

fn located(value: &toml::Spanned<DeValue<'_>>, base: usize) -> Located<Term> {
    let term = match value.get_ref() {
        DeValue::Table(table) => Term::Table(pairs(table, base)),
        DeValue::Array(items) => Term::List(items.iter().map(|item| located(item, base)).collect()),
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
    };
    Located { value: term, at: shift(value.span(), base) }
}
