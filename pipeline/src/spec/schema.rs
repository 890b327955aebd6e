//! JSON Schema of workflow files, for editors: names, types and descriptions while one types.

use serde_json::{Map, Value, json};

use super::Form;
use super::stages::RESERVED;
use crate::registry::{Kind, Registry};

/// Text with a setting or matrix line in braces, which may stand wherever a value may.
const BRACES: &str = r"\{[A-Za-z_][A-Za-z0-9_]*\}";

/// The schema (draft 2020-12) of workflow files whose stages are of these kinds. It knows no names that a file gives, so it
/// accepts some that [`crate::graph::build`] refuses, and none the other way round.
pub fn schema(registry: &Registry) -> Value {
    let mut writer = Writer { defs: common() };
    let cases: Vec<Value> = registry.kinds().map(|kind| writer.kind(kind)).collect();
    let kinds: Vec<Value> = registry.kinds().map(|kind| json!({"const": kind.name, "description": kind.about})).collect();
    let stage = json!({
        "type": "object",
        "properties": {
            "run": {"description": RESERVED[0].1, "oneOf": kinds},
            "like": {"type": "string", "description": "another stage, which this one is like but for what it names itself"},
        },
        "allOf": cases,
    });
    writer.defs.insert("stage".to_owned(), stage);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "workflow file",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "workflow": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "name": {"type": "string", "description": "the name of the workflow"},
                    "about": {"type": "string", "description": "one line for people"},
                    "include": {
                        "description": "workflows whose settings, matrix and stages are taken over; those of this file win",
                        "type": "array",
                        "items": {"type": "string"},
                    },
                },
            },
            "use": {
                "description": "a line of the matrix whose values are workflows",
                "type": "object",
                "additionalProperties": either(&[
                    json!({"type": "array", "items": {"type": "string"}, "minItems": 1}),
                    json!({"type": "object", "additionalProperties": {"type": ["string", "object"]}}),
                ]),
            },
            "settings": {
                "description": "one value each; `--set name=value` changes them",
                "type": "object",
                "additionalProperties": {"$ref": "#/$defs/setting"},
            },
            "matrix": {
                "description": "many values each: one node per combination",
                "type": "object",
                "properties": {
                    "exclude": {"$ref": "#/$defs/combinations", "description": "combinations that are left out"},
                    "include": {"$ref": "#/$defs/combinations", "description": "combinations beside all others"},
                },
                "additionalProperties": {"$ref": "#/$defs/line"},
            },
            "derived": {
                "description": "values that follow from settings and matrix lines",
                "type": "object",
                "additionalProperties": {"$ref": "#/$defs/derived"},
            },
            "stages": {"type": "object", "additionalProperties": {"$ref": "#/$defs/stage"}},
        },
        "$defs": writer.defs,
    })
}

/// Definitions that all schemas share.
fn common() -> Map<String, Value> {
    let values = json!({"type": "array", "items": {"$ref": "#/$defs/scalar"}, "minItems": 1});
    let detailed = |name: &str, value: Value| {
        let forms: Vec<&str> = Form::NAMED.iter().map(|(name, _)| *name).collect();
        json!({
            "type": "object",
            "additionalProperties": false,
            "required": [name],
            "properties": {
                name: value,
                "type": {"enum": forms},
                "choices": values,
                "min": {"type": "number"},
                "max": {"type": "number"},
                "about": {"type": "string", "description": "one line for people"},
            },
        })
    };
    let scalar = json!({"$ref": "#/$defs/scalar"});
    let combinations = json!({
        "type": "array",
        "items": {"type": "object", "minProperties": 1, "additionalProperties": scalar},
    });
    let reference = either(&[
        json!({"type": "string", "description": "stage[axis=value]/part"}),
        json!({"type": "array", "items": {"$ref": "#/$defs/reference"}}),
    ]);
    let defs = [
        ("scalar", json!({"type": ["string", "number", "boolean"]})),
        ("setting", either(&[scalar.clone(), detailed("default", scalar)])),
        ("line", either(&[values.clone(), detailed("values", values.clone())])),
        ("combinations", combinations),
        ("derived", widened("derived", &json!({"$ref": "#/$defs/scalar"}))),
        ("reference", widened("reference", &reference)),
    ];
    defs.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect()
}

fn either(schemas: &[Value]) -> Value {
    json!({"anyOf": schemas})
}

/// A schema, or a `by` table of what the definition `name` allows.
fn widened(name: &str, schema: &Value) -> Value {
    let own = reference(name);
    let by = |axes: Value, entries: Value| {
        let properties = json!({"by": axes});
        json!({"type": "object", "required": ["by"], "properties": properties, "additionalProperties": entries})
    };
    let one = by(json!({"type": "string", "description": "a setting or matrix line"}), own);
    // Entries of several axes stand under the values of one or of several of them: too many forms to tell apart here.
    let several = by(json!({"type": "array", "items": {"type": "string"}, "minItems": 1}), json!(true));
    either(&[schema.clone(), one, several])
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/$defs/{}", name.replace('~', "~0").replace('/', "~1"))})
}

struct Writer {
    defs: Map<String, Value>,
}

impl Writer {
    /// The case of one kind; its definitions go to the others.
    fn kind(&mut self, kind: &Kind) -> Value {
        for (name, schema) in kind.schema.get("$defs").and_then(Value::as_object).into_iter().flatten() {
            let name = format!("{}:{name}", kind.name);
            let schema = self.inside(kind, &name, schema);
            self.defs.insert(name, schema);
        }
        let mut properties = Map::new();
        for (name, about) in RESERVED {
            let schema = match name {
                "inputs" => inputs(kind),
                "gather" => json!({"type": "array", "items": {"type": "string"}}),
                "only" => json!({"type": "object", "additionalProperties": {"type": "array"}}),
                _ => json!({"type": "string"}),
            };
            properties.insert(name.to_owned(), described(schema, Some(about)));
        }
        for (name, schema) in kind.schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let param = self.widen(kind, &format!("{}.{name}", kind.name), schema);
            let about = schema.get("description").and_then(Value::as_str);
            properties.insert(name.clone(), described(param, about));
        }
        let mut required = kind.schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        if kind.slots.iter().any(|slot| !slot.arity.may_be_empty()) {
            required.push("inputs".into());
        }
        let stage = json!({
            "description": kind.about, "properties": properties, "required": required, "additionalProperties": false,
        });
        let name = format!("stage:{}", kind.name);
        let then = reference(&name);
        self.defs.insert(name, stage);
        json!({"if": {"properties": {"run": {"const": kind.name}}, "required": ["run"]}, "then": then})
    }

    /// A schema that also takes `by` tables and text with braces, here and inside; as a reference to a definition.
    fn widen(&mut self, kind: &Kind, name: &str, schema: &Value) -> Value {
        let inside = self.inside(kind, name, schema);
        let braces = json!({"type": "string", "pattern": BRACES});
        self.defs.insert(name.to_owned(), widened(name, &either(&[inside, braces])));
        reference(name)
    }

    /// A schema with its parts widened, and its references led to where the definitions of its kind went.
    fn inside(&mut self, kind: &Kind, name: &str, schema: &Value) -> Value {
        let Some(fields) = schema.as_object() else { return schema.clone() };
        let mut found = Map::new();
        for (key, value) in fields {
            let (key, value) = match (key.as_str(), value) {
                ("$schema" | "$defs" | "title", _) => continue,
                ("$ref", Value::String(path)) => {
                    let target = path.strip_prefix("#/$defs/").unwrap_or(path);
                    (key.as_str(), reference(&format!("{}:{target}", kind.name))["$ref"].clone())
                }
                ("properties", Value::Object(properties)) => {
                    let part =
                        |(part, schema): (&String, &Value)| (part.clone(), self.widen(kind, &format!("{name}.{part}"), schema));
                    (key.as_str(), Value::Object(properties.iter().map(part).collect()))
                }
                ("items" | "additionalProperties", part @ Value::Object(_)) => {
                    (key.as_str(), self.widen(kind, &format!("{name}.{key}"), part))
                }
                // With braces in the field that tells the choices apart, several of them fit.
                ("oneOf" | "anyOf" | "allOf", Value::Array(choices)) => {
                    let choice = |(number, schema): (usize, &Value)| self.inside(kind, &format!("{name}.{number}"), schema);
                    let key = if key == "oneOf" { "anyOf" } else { key };
                    (key, choices.iter().enumerate().map(choice).collect())
                }
                (key, value) => (key, value.clone()),
            };
            found.insert(key.to_owned(), value);
        }
        Value::Object(found)
    }
}

fn described(mut schema: Value, about: Option<&str>) -> Value {
    if let (Some(fields), Some(about)) = (schema.as_object_mut(), about) {
        fields.insert("description".to_owned(), about.into());
    }
    schema
}

/// `inputs.<slot>`.
fn inputs(kind: &Kind) -> Value {
    let slot = |slot: &crate::Slot| (slot.name.to_owned(), described(reference("reference"), Some(slot.about)));
    let required: Vec<&str> = kind.slots.iter().filter(|slot| !slot.arity.may_be_empty()).map(|slot| slot.name).collect();
    json!({
        "type": "object",
        "properties": kind.slots.iter().map(slot).collect::<Map<_, _>>(),
        "required": required,
        "additionalProperties": false,
    })
}
