//! Checks a document against a JSON Schema, as far as ours go. A library for all of JSON Schema takes minutes to compile.

use serde_json::{Map, Value};

/// The places at which a document is not as a schema wants it.
pub(crate) fn wrong(schema: &Value, document: &Value) -> Vec<String> {
    let mut check = Check { root: schema, wrong: vec![] };
    check.value(schema, document, "");
    check.wrong
}

struct Check<'a> {
    root: &'a Value,
    wrong: Vec<String>,
}

impl Check<'_> {
    fn fits(&self, schema: &Value, value: &Value) -> bool {
        let mut check = Check { root: self.root, wrong: vec![] };
        check.value(schema, value, "");
        check.wrong.is_empty()
    }

    fn value(&mut self, schema: &Value, value: &Value, at: &str) {
        let Value::Object(keywords) = schema else {
            return self.expect(schema.as_bool() == Some(true), at);
        };
        for (keyword, wanted) in keywords {
            self.keyword(keywords, keyword, wanted, value, at);
        }
    }

    fn expect(&mut self, holds: bool, at: &str) {
        if !holds {
            self.wrong.push(at.to_owned());
        }
    }

    fn keyword(&mut self, all: &Map<String, Value>, keyword: &str, wanted: &Value, value: &Value, at: &str) {
        let list = || wanted.as_array().unwrap();
        let at_least = |found: usize| wanted.as_u64().is_some_and(|least| found as u64 >= least);
        match keyword {
            "$ref" => {
                let target = self.root.pointer(wanted.as_str().unwrap().strip_prefix('#').unwrap());
                self.value(target.unwrap_or_else(|| panic!("{wanted} leads nowhere")), value, at);
            }
            "type" => {
                let names = wanted.as_array().map_or(std::slice::from_ref(wanted), Vec::as_slice);
                self.expect(names.iter().any(|name| is_of(name.as_str().unwrap(), value)), at);
            }
            "enum" => self.expect(list().contains(value), at),
            "const" => self.expect(wanted == value, at),
            "anyOf" => self.expect(list().iter().any(|schema| self.fits(schema, value)), at),
            "oneOf" => self.expect(list().iter().filter(|schema| self.fits(schema, value)).count() == 1, at),
            "allOf" => list().iter().for_each(|schema| self.value(schema, value, at)),
            "if" if self.fits(wanted, value) => self.value(&all["then"], value, at),
            "minimum" => self.expect(value.as_f64().is_none_or(|number| number >= wanted.as_f64().unwrap()), at),
            "exclusiveMinimum" => self.expect(value.as_f64().is_none_or(|number| number > wanted.as_f64().unwrap()), at),
            "maximum" => self.expect(value.as_f64().is_none_or(|number| number <= wanted.as_f64().unwrap()), at),
            "exclusiveMaximum" => self.expect(value.as_f64().is_none_or(|number| number < wanted.as_f64().unwrap()), at),
            "minItems" => self.expect(value.as_array().is_none_or(|items| at_least(items.len())), at),
            "minProperties" => self.expect(value.as_object().is_none_or(|fields| at_least(fields.len())), at),
            "required" => {
                let has = |fields: &Map<String, Value>| list().iter().all(|name| fields.contains_key(name.as_str().unwrap()));
                self.expect(value.as_object().is_none_or(has), at);
            }
            "properties" => {
                for (name, schema) in wanted.as_object().unwrap() {
                    value.get(name).into_iter().for_each(|part| self.value(schema, part, &format!("{at}/{name}")));
                }
            }
            "additionalProperties" => {
                let named = |name: &str| all.get("properties").is_some_and(|known| known.get(name).is_some());
                for (name, part) in value.as_object().into_iter().flatten().filter(|(name, _)| !named(name)) {
                    // What is not allowed at all is a mistake of the whole, as in validators of others.
                    let place = if wanted.is_boolean() { at.to_owned() } else { format!("{at}/{name}") };
                    self.value(wanted, part, &place);
                }
            }
            "items" => {
                for (number, part) in value.as_array().into_iter().flatten().enumerate() {
                    self.value(wanted, part, &format!("{at}/{number}"));
                }
            }
            "pattern" => {
                assert_eq!(wanted, r"\{[A-Za-z_][A-Za-z0-9_]*\}", "the only pattern that is known here");
                let inside = |text: &str| text.split_once('{').is_some_and(|(_, rest)| rest.contains('}'));
                self.expect(value.as_str().is_none_or(inside), at);
            }
            "if" | "then" | "$defs" | "$schema" | "title" | "description" | "default" | "format" => {}
            other => panic!("`{other}` is not known here"),
        }
    }
}

fn is_of(name: &str, value: &Value) -> bool {
    match name {
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        _ => false,
    }
}
