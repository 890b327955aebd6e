//! Causes of a change, from what both results were made of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everything that a result of a cell was made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// Fields of the manifests of all nodes behind the result, by `node/field`: `train/param.seed`, `shards/source.places`.
    pub fields: BTreeMap<String, String>,
    /// Digest of the executables.
    pub program: String,
    /// CPU model, cores, GPU and number of threads.
    pub machine: String,
}

/// Cause of a change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Cause {
    /// Files that go in: a source, targets, a lexicon, a checkpoint.
    Data {
        /// Fields that differ.
        fields: Vec<String>,
    },
    /// Parameters of a stage, or a stage that was added or left out.
    Settings {
        /// Fields that differ.
        fields: Vec<String>,
    },
    /// Version of a stage.
    Code {
        /// Fields that differ.
        fields: Vec<String>,
    },
    /// Release of a library that a stage names as its environment.
    Environment {
        /// Fields that differ.
        fields: Vec<String>,
    },
    /// Another program, although no stage has another version.
    CodeWithoutVersion,
    /// The same program on another machine.
    Hardware,
    /// The same program on the same machine.
    NotRepeatable,
}

/// Returns the causes of a change between two results; none where both were made of the same and have the same value.
///
/// `differs` is true if the values differ. Inputs of a node that are results of other nodes name no cause, because those nodes do.
pub fn causes(before: &Lineage, after: &Lineage, differs: bool) -> Vec<Cause> {
    let names: std::collections::BTreeSet<&String> = before.fields.keys().chain(after.fields.keys()).collect();
    let (mut data, mut settings, mut code, mut environment) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for name in names.into_iter().filter(|name| before.fields.get(*name) != after.fields.get(*name)) {
        let field = name.rsplit('/').next().unwrap_or(name);
        let list = match field.split('.').next().unwrap_or(field) {
            "source" => &mut data,
            "version" if before.fields.contains_key(name) && after.fields.contains_key(name) => &mut code,
            "param" | "stage" | "partition" | "version" => &mut settings,
            "environment" => &mut environment,
            _ => continue,
        };
        list.push(name.clone());
    }
    let mut found = Vec::new();
    let mut add = |fields: Vec<String>, cause: fn(Vec<String>) -> Cause| {
        if !fields.is_empty() {
            found.push(cause(fields));
        }
    };
    add(data, |fields| Cause::Data { fields });
    add(settings, |fields| Cause::Settings { fields });
    add(code, |fields| Cause::Code { fields });
    add(environment, |fields| Cause::Environment { fields });
    if found.is_empty() && differs {
        found.push(match (before.program == after.program, before.machine == after.machine) {
            (false, _) => Cause::CodeWithoutVersion,
            (true, false) => Cause::Hardware,
            (true, true) => Cause::NotRepeatable,
        });
    }
    found
}

impl Cause {
    /// True if the user changed what goes in, so that a change needs no confirmation.
    pub fn is_intended(&self) -> bool {
        matches!(self, Self::Data { .. } | Self::Settings { .. })
    }

    /// Name in messages.
    pub fn title(&self) -> &'static str {
        match self {
            Self::Data { .. } => "data",
            Self::Settings { .. } => "settings",
            Self::Code { .. } => "code",
            Self::Environment { .. } => "library",
            Self::CodeWithoutVersion => "code without a version",
            Self::Hardware => "hardware",
            Self::NotRepeatable => "not repeatable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lineage(changes: &[(&str, &str)]) -> Lineage {
        let mut fields: BTreeMap<String, String> = [
            ("shards/source.corpora.fsdd", "a"),
            ("shards/version", "4"),
            ("train/input.shards", "b"),
            ("train/param.learning_rate", "0.001"),
            ("train/environment.libtorch", "2.11.0"),
            ("train/version", "3"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        fields.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Lineage { fields, program: "p".to_owned(), machine: "m".to_owned() }
    }

    #[track_caller]
    fn check(changes: &[(&str, &str)], expected: &[Cause]) {
        assert_eq!(causes(&lineage(&[]), &lineage(changes), true), expected);
    }

    fn named(name: &str) -> Vec<String> {
        vec![name.to_owned()]
    }

    #[test]
    fn fields_name_the_cause_and_inputs_do_not() {
        let source = "shards/source.corpora.fsdd";
        let data = Cause::Data { fields: named(source) };
        check(&[(source, "x"), ("train/input.shards", "y")], std::slice::from_ref(&data));
        let settings = Cause::Settings { fields: named("train/param.learning_rate") };
        check(&[("train/param.learning_rate", "0.1")], std::slice::from_ref(&settings));
        check(&[("train/version", "4")], &[Cause::Code { fields: named("train/version") }]);
        let library = Cause::Environment { fields: named("train/environment.libtorch") };
        check(&[("train/environment.libtorch", "2.12.0")], &[library]);
        check(&[(source, "x"), ("train/param.learning_rate", "0.1")], &[data, settings]);
        check(&[("filter/version", "1")], &[Cause::Settings { fields: named("filter/version") }]);
    }

    #[test]
    fn equal_lineages_leave_program_machine_or_chance() {
        check(&[], &[Cause::NotRepeatable]);
        let other = Lineage { machine: "n".to_owned(), ..lineage(&[]) };
        assert_eq!(causes(&lineage(&[]), &other, true), [Cause::Hardware]);
        let other = Lineage { program: "q".to_owned(), ..other };
        assert_eq!(causes(&lineage(&[]), &other, true), [Cause::CodeWithoutVersion]);
        assert_eq!(causes(&lineage(&[]), &other, false), []);
        assert!(Cause::Data { fields: Vec::new() }.is_intended() && !Cause::Hardware.is_intended());
    }
}
