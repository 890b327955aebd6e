//! Parameters held against the JSON schema of their stage kind, in the words of whoever writes a workflow file.
//!
//! What a schema cannot tell is left to the stage.

use std::fmt;

use serde_json::{Map, Value};

use super::ParamMistake;
use crate::mistake::suggest;

/// Unknown names, missing names, values of the wrong type or out of bounds and unknown choices, also in tables inside tables.
pub(super) fn mistakes(kind: &str, schema: &Value, params: &Map<String, Value>) -> Vec<ParamMistake> {
    let mut check = Check { schema, param: None, found: vec![] };
    let none = Map::new();
    let known = properties(schema).unwrap_or(&none);
    for (name, value) in params {
        check.param = Some(name);
        match known.get(name) {
            Some(property) => check.value(&Path::Name(name.clone()), property, value),
            None => check.unknown(&format!("`{kind}`"), name, known),
        }
    }
    check.param = None;
    check.missing(&format!("`{kind}`"), schema, params);
    check.found
}

/// Where a value stands.
enum Path {
    /// A parameter, or a value of a table: `method.rank`.
    Name(String),
    /// In a list.
    In(String),
}

impl Path {
    fn name(&self) -> &str {
        let (Self::Name(name) | Self::In(name)) = self;
        name
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "`{name}`"),
            Self::In(list) => write!(f, "a value of `{list}`"),
        }
    }
}

struct Check<'a> {
    /// The whole schema, for what refers to its definitions.
    schema: &'a Value,
    /// The parameter that is looked into; none where one is missing.
    param: Option<&'a str>,
    found: Vec<ParamMistake>,
}

impl<'a> Check<'a> {
    fn note(&mut self, message: String, hint: Option<String>) {
        self.found.push(ParamMistake { param: self.param.map(str::to_owned), message, hint });
    }

    fn unknown(&mut self, table: &str, name: &str, known: &Map<String, Value>) {
        self.note(format!("{table} has no parameter `{name}`"), Some(suggest(name, known.keys().map(String::as_str))));
    }

    fn missing(&mut self, table: &str, schema: &Value, values: &Map<String, Value>) {
        for name in required(schema).filter(|name| !values.contains_key(*name)) {
            let about = properties(schema).and_then(|known| known.get(name)?.get("description")?.as_str());
            self.note(format!("{table} needs the parameter `{name}`"), about.map(|text| format!("{name}: {text}")));
        }
    }

    fn value(&mut self, path: &Path, property: &'a Value, value: &Value) {
        let property = self.followed(property);
        if let Some(forms) = property.get("anyOf").and_then(Value::as_array) {
            let forms: Vec<_> = forms.iter().filter(|form| form.get("type").is_none_or(|name| name != "null")).collect();
            return match forms[..] {
                _ if value.is_null() => {}
                [one] => self.value(path, one, value),
                _ => self.one_of(path, property, &forms, value),
            };
        }
        if let Some((tag, variants)) = variants(property) {
            return self.variant(path, tag, variants, value);
        }
        if let Some(expected) = mismatch(property, value) {
            return self.note(format!("{path} should be {expected}, not {value}"), None);
        }
        match value {
            Value::String(text) => {
                if let Some(choices) = choices(property).filter(|choices| !choices.contains(&text.as_str())) {
                    self.note(format!("{path} cannot be `{text}`"), Some(suggest(text, choices)));
                }
            }
            Value::Array(list) => {
                let Some(items) = property.get("items") else { return };
                for item in list {
                    self.value(&Path::In(path.name().to_owned()), items, item);
                }
            }
            Value::Object(values) => self.table(path, &path.to_string(), property, values),
            _ => {}
        }
    }

    /// Checks a value that takes one of several forms: reports against the only form of its JSON type, else lists all forms.
    fn one_of(&mut self, path: &Path, property: &Value, forms: &[&'a Value], value: &Value) {
        let against = |form: &&'a Value| {
            let mut check = Self { schema: self.schema, param: self.param, found: vec![] };
            check.value(path, form, value);
            check.found
        };
        if forms.iter().any(|form| against(form).is_empty()) {
            return;
        }
        let of_type: Vec<_> = forms.iter().filter(|form| mismatch(self.followed(form), value).is_none()).collect();
        if let [one] = of_type[..] {
            self.found.extend(against(one));
        } else {
            let about = property.get("description").and_then(Value::as_str);
            self.note(format!("{path} cannot be {value}"), about.map(str::to_owned));
        }
    }

    /// One of several tables, told by a name that each has.
    fn variant(&mut self, path: &Path, tag: &str, variants: &'a [Value], value: &Value) {
        let Value::Object(values) = value else {
            return self.note(format!("{path} should be a table, not {value}"), Some(format!("as in `{{ {tag} = ... }}`")));
        };
        let names = || variants.iter().filter_map(|variant| tag_of(variant)).map(|(_, name)| name);
        match values
            .get(tag)
            .map(|name| (name, variants.iter().find(|variant| tag_of(variant).is_some_and(|(_, one)| name == one))))
        {
            Some((name, Some(variant))) => {
                let name = name.as_str().unwrap_or_default();
                self.table(path, &format!("{path} `{name}`"), variant, values);
            }
            Some((name, None)) => {
                let text = name.as_str().map_or_else(|| name.to_string(), str::to_owned);
                self.note(format!("`{}.{tag}` cannot be `{text}`", path.name()), Some(suggest(&text, names())));
            }
            None => self.note(format!("{path} needs the parameter `{tag}`"), Some(suggest("", names()))),
        }
    }

    /// `table` is how a message calls it.
    fn table(&mut self, path: &Path, table: &str, schema: &'a Value, values: &Map<String, Value>) {
        let others = schema.get("additionalProperties");
        let none = Map::new();
        let known = properties(schema).unwrap_or(&none);
        for (name, value) in values {
            let inside = Path::Name(format!("{}.{name}", path.name()));
            match known.get(name) {
                // Borrowed anew, since it has to live as long as the schema.
                Some(_) => {
                    if let Some(property) = properties(schema).and_then(|known| known.get(name)) {
                        self.value(&inside, property, value);
                    }
                }
                None if others.is_some_and(Value::is_object) => self.value(&inside, &schema["additionalProperties"], value),
                None if others == Some(&Value::Bool(false)) => self.unknown(table, name, known),
                None => {}
            }
        }
        self.missing(table, schema, values);
    }

    /// The definition that a property refers to, or the property itself.
    fn followed(&self, property: &'a Value) -> &'a Value {
        let target = property.get("$ref").and_then(Value::as_str).and_then(|path| self.schema.pointer(path.strip_prefix('#')?));
        target.unwrap_or(property)
    }
}

fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties")?.as_object()
}

fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// The tables that a property may be, when each has a name of its own under the same key.
fn variants(property: &Value) -> Option<(&str, &[Value])> {
    let variants = property.get("oneOf")?.as_array()?;
    let (tag, _) = tag_of(variants.first()?)?;
    variants.iter().all(|variant| tag_of(variant).is_some_and(|(other, _)| other == tag)).then_some((tag, variants))
}

/// The key and the name that tell a table from others.
fn tag_of(variant: &Value) -> Option<(&str, &str)> {
    let known = properties(variant)?;
    required(variant).find_map(|name| Some((known.get_key_value(name)?.0.as_str(), known[name].get("const")?.as_str()?)))
}

/// Returns what a value should be, when it is of another type or out of bounds.
fn mismatch(property: &Value, value: &Value) -> Option<String> {
    let types: Vec<&str> = match property.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    };
    let number = value.as_f64();
    let least = property.get("minimum").and_then(Value::as_f64);
    let most = property.get("maximum").and_then(Value::as_f64).or_else(|| match property.get("format")?.as_str()? {
        "uint8" => Some(u8::MAX.into()),
        "uint16" => Some(u16::MAX.into()),
        "uint32" => Some(u32::MAX.into()),
        _ => None,
    });
    let too_low = least.filter(|&least| number.is_some_and(|number| number < least));
    let too_high = most.filter(|&most| number.is_some_and(|number| number > most));
    if !types.is_empty() && !types.iter().any(|wanted| is_of(wanted, value)) || too_low.is_some() || too_high.is_some() {
        let names: Vec<&str> = types.iter().filter_map(|&name| in_words(name)).collect();
        let name = if names.is_empty() { "a number".to_owned() } else { names.join(" or ") };
        // A bound of 0 is worth a word only where it was overstepped.
        let least = least.filter(|&least| number.is_some() && (least > 0.0 || too_low.is_some()));
        let least = least.map(|least| format!(" of at least {least}")).unwrap_or_default();
        let most = too_high.map(|most| format!(" of at most {most}")).unwrap_or_default();
        return Some(format!("{name}{}{most}", if most.is_empty() { &least } else { "" }));
    }
    let length = |name: &str| property.get(name).and_then(Value::as_u64);
    match (value.as_array(), length("minItems"), length("maxItems")) {
        (Some(list), Some(least), Some(most)) if least == most && list.len() as u64 != least => {
            Some(format!("a list of {least} values"))
        }
        _ => None,
    }
}

/// A type of JSON in the words of people; nothing in a workflow file is null.
fn in_words(name: &str) -> Option<&str> {
    Some(match name {
        "null" => return None,
        "string" => "text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a table",
        other => other,
    })
}

/// The texts that a property may be, when it is one of a few.
fn choices(property: &Value) -> Option<Vec<&str>> {
    if let Some(list) = property.get("enum").and_then(Value::as_array) {
        return list.iter().map(Value::as_str).collect();
    }
    let mut found = vec![];
    for choice in property.get("oneOf")?.as_array()? {
        match choice.get("enum").and_then(Value::as_array) {
            Some(list) => found.extend(list.iter().filter_map(Value::as_str)),
            None => found.push(choice.get("const")?.as_str()?),
        }
    }
    Some(found)
}

fn is_of(wanted: &str, value: &Value) -> bool {
    match wanted {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the schema is looked at")]
    struct Toy {
        way: Way,
        pair: Option<[u32; 2]>,
        spare: Option<Spare>,
        form: Option<Form>,
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(tag = "name", rename_all = "snake_case")]
    #[expect(dead_code, reason = "only the schema is looked at")]
    enum Way {
        Plain {},
        Ranked(Ranked),
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the schema is looked at")]
    struct Ranked {
        #[schemars(range(min = 1))]
        rank: u32,
        #[serde(default)]
        ranks: std::collections::BTreeMap<String, u32>,
        #[serde(default)]
        on: Vec<Spare>,
        #[serde(default)]
        sure: bool,
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    enum Spare {
        Query,
        Value,
    }

    /// A list or the last ones.
    #[derive(Deserialize, JsonSchema)]
    #[serde(untagged, deny_unknown_fields)]
    #[expect(dead_code, reason = "only the schema is looked at")]
    enum Form {
        Listed(Vec<u32>),
        Last { last: u32 },
    }

    #[track_caller]
    fn check(params: Value, expected: &[&str]) {
        let Value::Object(params) = params else { panic!("a table") };
        let schema = schemars::schema_for!(Toy).to_value();
        let said =
            |mistake: ParamMistake| [Some(mistake.message), mistake.hint].into_iter().flatten().collect::<Vec<_>>().join(" | ");
        let found: Vec<String> = mistakes("toy", &schema, &params).into_iter().map(said).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn tables_inside_tables_are_looked_into() {
        check(json!({"way": {"name": "plain"}, "pair": [1, 2], "spare": null, "form": {"last": 1}}), &[]);
        let ranked = |change: Value| {
            let mut way = json!({"name": "ranked", "rank": 2});
            way.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            json!({"way": way})
        };
        check(ranked(json!({"ranks": {"a.b": 3}, "on": ["query"], "sure": true})), &[]);
        check(ranked(json!({"rank": -1})), &["`way.rank` should be a whole number of at least 1, not -1"]);
        check(ranked(json!({"rank": 2.5})), &["`way.rank` should be a whole number of at least 1, not 2.5"]);
        check(ranked(json!({"rank": "many"})), &["`way.rank` should be a whole number, not \"many\""]);
        check(
            ranked(json!({"rank": 4_294_967_296_u64})),
            &["`way.rank` should be a whole number of at most 4294967295, not 4294967296"],
        );
        check(ranked(json!({"ranks": {"a.b": -3}})), &["`way.ranks.a.b` should be a whole number of at least 0, not -3"]);
        check(ranked(json!({"on": ["qeury"]})), &["a value of `way.on` cannot be `qeury` | did you mean `query`?"]);
        check(ranked(json!({"sure": 1})), &["`way.sure` should be true or false, not 1"]);
        check(ranked(json!({"rnak": 3})), &["`way` `ranked` has no parameter `rnak` | did you mean `rank`?"]);
    }

    #[test]
    fn names_that_choose_a_table_are_suggested() {
        check(json!({"way": {"name": "rankd"}}), &["`way.name` cannot be `rankd` | did you mean `ranked`?"]);
        check(json!({"way": {"rank": 1}}), &["`way` needs the parameter `name` | there is `plain`, `ranked`"]);
        check(json!({"way": {"name": "ranked"}}), &["`way` `ranked` needs the parameter `rank`"]);
        check(json!({"way": "ranked"}), &["`way` should be a table, not \"ranked\" | as in `{ name = ... }`"]);
    }

    #[test]
    fn what_may_be_left_out_is_held_against_the_rest() {
        let with = |name: &str, value: Value| json!({"way": {"name": "plain"}, name: value});
        check(with("pair", json!([1])), &["`pair` should be a list of 2 values, not [1]"]);
        check(with("pair", json!([1, -2])), &["a value of `pair` should be a whole number of at least 0, not -2"]);
        check(with("pair", json!("x")), &["`pair` should be a list, not \"x\""]);
        check(with("spare", json!("value ")), &["`spare` cannot be `value ` | did you mean `value`?"]);
        check(with("form", json!([3, 4])), &[]);
        check(with("form", json!([3, -4])), &["a value of `form` should be a whole number of at least 0, not -4"]);
        check(
            with("form", json!({"first": 1})),
            &["`form` has no parameter `first` | there is `last`", "`form` needs the parameter `last`"],
        );
        check(with("form", json!("top")), &["`form` cannot be \"top\" | A list or the last ones."]);
    }
}
