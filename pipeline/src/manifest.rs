//! Manifests: everything that an output depends on. Its hash is the fingerprint; its difference from another is the explanation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Digest;
use crate::stage::Tools;

/// Names and values, sorted by name. Values are JSON text or digests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest(pub BTreeMap<String, String>);

impl Manifest {
    /// The part that is known before any input: stage kind, version, parameters, environment.
    pub fn new(kind: &str, version: u32, params: &Value, environment: &[(&'static str, String)]) -> Self {
        let mut manifest = Self::default();
        manifest.field("stage", kind);
        manifest.field("version", &version.to_string());
        manifest.params("param", params);
        for (name, value) in environment {
            manifest.field(&format!("environment.{name}"), value);
        }
        manifest
    }

    /// Adds a field.
    pub fn field(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }

    /// Adds an input by the digest of its content.
    pub fn input(&mut self, name: &str, digest: Digest) {
        self.field(&format!("{INPUT}{name}"), &digest.to_string());
    }

    /// Returns this manifest with the versions of external programs.
    #[must_use]
    pub(crate) fn with_tools(&self, tools: &Tools) -> Self {
        let mut manifest = self.clone();
        for (name, tool) in &tools.0 {
            manifest.field(&format!("{TOOL}{name}"), &tool.version);
        }
        manifest
    }

    /// One field per leaf. An absent optional parameter (null) leaves no trace, so that adding one moves no fingerprint.
    fn params(&mut self, prefix: &str, value: &Value) {
        match value {
            Value::Null => {}
            Value::Object(fields) => {
                for (name, value) in fields {
                    self.params(&format!("{prefix}.{name}"), value);
                }
            }
            leaf => self.field(prefix, &leaf.to_string()),
        }
    }

    /// Identifies the output: same fingerprint, same content.
    pub fn fingerprint(&self) -> Digest {
        hash(self.0.iter())
    }

    /// The fingerprint that this manifest would have with further fields, none of which it has. A plan asks this of thousands
    /// of nodes that share a manifest and differ in their inputs.
    pub fn fingerprint_with(&self, more: &Self) -> Digest {
        let (mut own, mut other) = (self.0.iter().peekable(), more.0.iter().peekable());
        hash(std::iter::from_fn(|| match (own.peek(), other.peek()) {
            (Some(a), Some(b)) if a.0 < b.0 => own.next(),
            (Some(_), None) => own.next(),
            _ => other.next(),
        }))
    }

    /// The recipe, the partition and the inputs: two nodes with the same recipe do the same to what they are given.
    pub(crate) fn split(&self) -> (Self, Option<u32>, Self) {
        let partition = self.0.get(PARTITION).and_then(|number| number.parse().ok());
        let fields = self.0.iter().filter(|(name, _)| *name != PARTITION).map(|(name, value)| (name.clone(), value.clone()));
        let (inputs, recipe) = fields.partition::<BTreeMap<_, _>, _>(|(name, _)| name.starts_with(INPUT));
        (Self(recipe), partition, Self(inputs))
    }

    /// Returns the fields that differ from an older manifest, by name.
    pub fn since(&self, old: &Self) -> Vec<Change> {
        let names: std::collections::BTreeSet<&String> = old.0.keys().chain(self.0.keys()).collect();
        let change =
            |name: &String| Change { field: name.clone(), old: old.0.get(name).cloned(), new: self.0.get(name).cloned() };
        names.into_iter().map(change).filter(|change| change.old != change.new).collect()
    }
}

/// Prefix of the fields that hold versions of external programs. They begin as inputs do, since they are known only when a body
/// has run, and are no part of the recipe.
pub const TOOL: &str = "input.tool ";

/// The field that holds the number of a partition.
pub(crate) const PARTITION: &str = "partition";

/// Prefix of the fields that hold input digests.
pub const INPUT: &str = "input.";

/// A field that differs between two manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Name of the field.
    pub field: String,
    /// Value before; none when the field is new.
    pub old: Option<String>,
    /// Value now; none when the field is gone.
    pub new: Option<String>,
}

fn hash<'a>(fields: impl Iterator<Item = (&'a String, &'a String)>) -> Digest {
    let mut hasher = blake3::Hasher::new();
    for (name, value) in fields {
        for part in [name, value] {
            hasher.update(&(part.len() as u64).to_le_bytes()); // so that "ab","c" differs from "a","bc"
            hasher.update(part.as_bytes());
        }
    }
    Digest(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn of(params: &Value) -> Manifest {
        Manifest::new("text.count", 1, params, &[])
    }

    #[test]
    fn order_of_parameters_does_not_matter_and_absent_ones_leave_no_trace() {
        let a = of(&json!({"x": 1, "y": {"z": [1, 2]}}));
        assert_eq!(a.fingerprint(), of(&json!({"y": {"z": [1, 2]}, "x": 1, "w": null})).fingerprint());
    }

    #[test]
    fn a_change_names_the_leaf_with_both_values() {
        let changes = of(&json!({"m": {"rank": 16}})).since(&of(&json!({"m": {"rank": 8}})));
        let expected = Change { field: "param.m.rank".into(), old: Some("8".into()), new: Some("16".into()) };
        assert_eq!(changes, [expected]);
    }

    #[test]
    fn inputs_move_the_fingerprint_and_not_the_recipe() {
        let base = of(&json!({}));
        let mut with = base.clone();
        with.input("books", Digest::of(b"a"));
        let (recipe, partition, inputs) = with.split();
        assert_eq!((&recipe, partition, inputs.0.is_empty()), (&base, None, false));
        assert_ne!(base.fingerprint(), with.fingerprint());
    }

    proptest! {
        #[test]
        fn more_fields_count_as_if_they_stood_among_the_others(fields in proptest::collection::btree_map(".{0,4}", ".{0,4}", 0..9), cut in any::<u16>()) {
            let part = |wanted: bool| {
                let chosen = |at: usize| (cut >> at & 1 == 1) == wanted;
                let fields = fields.iter().enumerate().filter(|(at, _)| chosen(*at));
                Manifest(fields.map(|(_, (name, value))| (name.clone(), value.clone())).collect())
            };
            prop_assert_eq!(part(true).fingerprint_with(&part(false)), Manifest(fields.clone()).fingerprint());
        }

        #[test]
        fn fields_never_run_into_each_other(a in ".{0,6}", b in ".{0,6}", c in ".{0,6}", d in ".{0,6}") {
            let one = Manifest([(a.clone(), b.clone())].into());
            let two = Manifest([(c.clone(), d.clone())].into());
            prop_assert_eq!((a, b) == (c, d), one.fingerprint() == two.fingerprint());
        }
    }
}
