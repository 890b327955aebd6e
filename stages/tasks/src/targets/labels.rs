//! Labels that cannot be learned: the task has no class for them, or no training utterance has them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::{SPLITS, Target};
use crate::Outputs;

/// An utterance with such a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownLabel {
    /// `train`, `dev` or `test`.
    pub split: &'static str,
    /// The utterance.
    pub id: String,
    /// Label: a class, or `object=piano`.
    pub label: String,
}

/// As many labels as a message lists.
const LISTED: usize = 12;

/// Takes out of the dev and the test set what the training set has no example of. For tasks of classes.
pub(super) fn take_untaught(outputs: &Outputs, targets: &mut [Vec<Target>; 3]) -> Vec<UnknownLabel> {
    let taught = taught(&targets[0]);
    let mut unknown = Vec::new();
    for (split, targets) in SPLITS.into_iter().zip(targets).skip(1) {
        targets.retain(|target| {
            let found = target.target.iter().copied().enumerate().find(|class| !taught.contains(class));
            let Some((group, class)) = found else { return true };
            unknown.push(UnknownLabel { split, id: target.id.clone(), label: name(outputs, group, class) });
            false
        });
    }
    unknown
}

/// The labels of a training set, in order of their classes.
pub(super) fn names(outputs: &Outputs, train: &[Target]) -> Vec<String> {
    let named: BTreeSet<(i64, usize)> = match outputs {
        Outputs::Tags { .. } => train.iter().flat_map(|target| &target.target).map(|class| (*class, 0)).collect(),
        _ => return taught(train).into_iter().map(|(group, class)| name(outputs, group, class)).collect(),
    };
    named.into_iter().map(|(class, group)| name(outputs, group, class)).collect()
}

/// ``7 utterances of the test set are `stop`, the first `u036` ``, and so on.
pub(super) fn describe(unknown: &[UnknownLabel]) -> String {
    let mut labels: BTreeMap<(usize, &str), (usize, &str)> = BTreeMap::new();
    for one in unknown {
        let split = SPLITS.iter().position(|split| *split == one.split).unwrap_or(0);
        labels.entry((split, &one.label)).or_insert((0, &one.id)).0 += 1;
    }
    let line = |((split, label), (count, first)): (&(usize, &str), &(usize, &str))| {
        let (are, s) = if *count == 1 { ("is", "") } else { ("are", "s") };
        format!("{count} utterance{s} of the {} set {are} `{label}`, the first `{first}`", SPLITS[*split])
    };
    shortened(labels.iter().map(line), "; ")
}

/// The labels in one text: a JSON list, or names between separators. Each counts once.
pub(super) fn several(text: &str, separator: &str) -> BTreeSet<String> {
    let listed: Option<Vec<String>> = text.trim_start().starts_with('[').then(|| serde_json::from_str(text).ok()).flatten();
    let listed = listed.unwrap_or_else(|| text.split(separator).map(str::to_owned).collect());
    listed.iter().map(|label| label.trim().to_owned()).filter(|label| !label.is_empty()).collect()
}

/// The first few, and how many more there are.
pub(super) fn shortened(list: impl ExactSizeIterator<Item = String>, separator: &str) -> String {
    let more = list.len().saturating_sub(LISTED);
    let mut text = list.take(LISTED).collect::<Vec<_>>().join(separator);
    if more > 0 {
        let _ = write!(text, "{separator}and {more} more");
    }
    text
}

/// Group and class of everything that there is an example of.
fn taught(train: &[Target]) -> BTreeSet<(usize, i64)> {
    train.iter().flat_map(|target| target.target.iter().copied().enumerate()).collect()
}

fn name(outputs: &Outputs, group: usize, class: i64) -> String {
    match outputs {
        Outputs::Classes { labels } | Outputs::Tags { labels } => labels[class as usize].clone(),
        Outputs::Groups { groups } => format!("{}={}", groups[group].name, groups[group].labels[class as usize]),
        Outputs::Tokens(vocabulary) => vocabulary.tokens()[class as usize].clone(),
    }
}
