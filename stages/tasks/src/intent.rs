//! The intents of Fluent Speech Commands: an action, an object and a place.

use datasets::fluent::SLOTS;

use crate::Group;

/// The three groups of classes, in the benchmark's order.
pub fn groups() -> Vec<Group> {
    let group = |(name, labels): (&str, &[&str])| Group {
        name: name.to_owned(),
        labels: labels.iter().map(|&label| label.to_owned()).collect(),
    };
    SLOTS.map(group).to_vec()
}

/// The classes of an utterance with these slots; or which slot has a value that no class is for.
///
/// Errors: the slot, and its value where it has one.
pub fn classes(groups: &[Group], slots: &[(String, String)]) -> Result<Vec<i64>, String> {
    let class = |group: &Group| {
        let value = slots.iter().find(|(name, _)| *name == group.name).map(|(_, value)| value.as_str());
        let value = value.ok_or_else(|| format!("no {}", group.name))?;
        let known = group.labels.iter().position(|label| label == value);
        known.map(|at| at as i64).ok_or_else(|| format!("{} `{value}`", group.name))
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
            [("action", "activate"), ("object", object), ("location", "none")].map(|(n, v)| (n.to_owned(), v.to_owned()))
        };
        assert_eq!(classes(&groups(), &slots("heat")), Ok(vec![1, 4, 0]));
        assert_eq!(classes(&groups(), &slots("piano")), Err("object `piano`".to_owned()));
        assert_eq!(classes(&groups(), &slots("heat")[..2]), Err("no location".to_owned()));
    }
}
