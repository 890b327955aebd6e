//! Values of a workflow file, each with its place in the text.

use std::ops::Range;

use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use crate::mistake::Mistake;

/// Something with its place in the text.
#[derive(Debug, Clone, PartialEq)]
pub struct Located<T> {
    /// The thing.
    pub value: T,
    /// Its place (see [`crate::mistake::Sources`]).
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
