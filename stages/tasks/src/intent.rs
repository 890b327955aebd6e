//! The intents of Fluent Speech Commands: an action, an object and a place.

use datasets::Slot;
use datasets::fluent::SLOTS;

use crate::Group;

/// A slot that an utterance has no class for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoClass {
    /// For example `object`.
    pub slot: String,
    /// Value of the slot, where it has one.
    pub value: Option<String>,
}

/// The three groups of classes, in the benchmark's order.
pub fn groups() -> Vec<Group> {
    let group = |(name, labels): (&str, &[&str])| Group {
        name: name.to_owned(),
        labels: labels.iter().map(|&label| label.to_owned()).collect(),
    };
    SLOTS.map(group).to_vec()
}

/// The classes of an utterance with these slots.
///
/// Errors: the first slot that is absent, or whose value no class is for.
pub fn classes(groups: &[Group], slots: &[Slot]) -> Result<Vec<i64>, NoClass> {
    let class = |group: &Group| {
        let value = slots.iter().find(|slot| slot.name == group.name).map(|slot| &slot.value);
        let known = group.labels.iter().position(|label| Some(label) == value);
        known.map(|at| at as i64).ok_or_else(|| NoClass { slot: group.name.clone(), value: value.cloned() })
    };
    groups.iter().map(class).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_6_14_and_4_classes() {
        assert_eq!(groups().iter().map(|group| group.labels.len()).collect::<Vec<_>>(), [6, 14, 4]);
    }

    #[test]
    fn slots_become_classes_and_strange_ones_are_named() {
        let slots = |object: &str| {
            [("action", "activate"), ("object", object), ("location", "none")]
                .map(|(name, value)| Slot { name: name.to_owned(), value: value.to_owned() })
        };
        assert_eq!(classes(&groups(), &slots("heat")), Ok(vec![1, 4, 0]));
        let no_class = |slot: &str, value: Option<&str>| Err(NoClass { slot: slot.to_owned(), value: value.map(str::to_owned) });
        assert_eq!(classes(&groups(), &slots("piano")), no_class("object", Some("piano")));
        assert_eq!(classes(&groups(), &slots("heat")[..2]), no_class("location", None));
    }
}
