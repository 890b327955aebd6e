//! Comparison of a copy with the published sizes, and of the splits with each other.

use std::collections::{BTreeMap, BTreeSet};

use super::{ClassReport, Finding, Severity, SplitReport};
use crate::{Facts, Listing, Split, Utterance};

/// By how much hours may differ from the published ones, which are rounded and counted in several ways.
const HOURS_SLACK: f64 = 0.02;

/// Utterances of every class, in the order of their indices.
pub(super) fn classes(listing: &Listing, facts: &Facts) -> Vec<ClassReport> {
    let mut counts: BTreeMap<&str, [u64; 3]> = BTreeMap::new();
    for utterance in &listing.utterances {
        if let Some(label) = &utterance.annotation.label {
            counts.entry(label).or_default()[utterance.split as usize] += 1;
        }
    }
    let class = |label: &String| ClassReport {
        label: label.clone(),
        utterances: counts.get(label.as_str()).copied().unwrap_or_default(),
        expected: facts.classes.iter().find(|(known, _)| known == label).map(|(_, expected)| *expected),
    };
    listing.labels.iter().map(class).collect()
}

/// Numbers that differ from the published ones.
pub(super) fn sizes(splits: &[SplitReport; 3], classes: &[ClassReport], facts: &Facts, findings: &mut Vec<Finding>) {
    let mut add = |severity, what| findings.push(Finding { severity, what, names: Vec::new() });
    for report in splits {
        let SplitReport { split, utterances, .. } = report;
        match report.expected {
            Some(expected) if expected != *utterances => {
                add(Severity::Fault, format!("{split} has {utterances} utterances, as published {expected}"));
            }
            _ => {}
        }
        let at = *split as usize;
        if let Some(speakers) = facts.speakers.map(|speakers| speakers[at]).filter(|speakers| *speakers != report.speakers) {
            add(Severity::Warning, format!("{split} has {} speakers, as published {speakers}", report.speakers));
        }
        if let Some(hours) = facts.hours.map(|hours| hours[at]).filter(|_| report.unknown_lengths == 0) {
            // Published hours have one or two digits after the point.
            if (report.hours - hours).abs() > (hours * HOURS_SLACK).max(0.05) {
                add(Severity::Warning, format!("{split} has {:.2} hours, as published {hours}", report.hours));
            }
        }
    }
    for class in classes {
        let Some(expected) = class.expected else { continue };
        for split in Split::ALL {
            let (found, expected) = (class.utterances[split as usize], expected[split as usize]);
            if found.abs_diff(expected) > facts.class_slack {
                add(
                    Severity::Fault,
                    format!("class `{}` has {found} utterances in {split}, as published {expected}", class.label),
                );
            }
        }
    }
}

/// Reports contents, names of recordings and speakers that several splits share.
pub(super) fn splits(listing: &Listing, facts: &Facts, digest: &dyn Fn(&str) -> Option<String>, findings: &mut Vec<Finding>) {
    // Stretches of one recording have the content of all of it, rows of one table that of the table.
    let whole = || listing.utterances.iter().filter(|utterance| utterance.span.is_none() && utterance.embedded.is_none());
    let contents = groups(whole(), |utterance| digest(&utterance.path));
    let (shared, twice): (Vec<_>, Vec<_>) =
        contents.iter().filter(|(_, group)| group.len() > 1).partition(|(_, group)| spans(group));
    let ids = |group: &[&Utterance]| group.iter().map(|utterance| utterance.id.as_str()).collect::<Vec<_>>().join(" = ");
    let mut add = |severity, what: &str, names: Vec<String>| {
        if !names.is_empty() {
            findings.push(Finding { severity, what: format!("{}: {what}", names.len()), names });
        }
    };
    let names = |groups: &[(&String, &Vec<&Utterance>)]| groups.iter().map(|(_, group)| ids(group)).collect();
    add(Severity::Warning, "the same recording in several splits", names(&shared));
    add(Severity::Note, "the same recording more than once in a split", names(&twice));

    if !facts.repeats_names {
        let file = |utterance: &Utterance| utterance.path.rsplit('/').next().map(str::to_owned);
        let shared = groups(whole(), file).into_iter().filter(|(_, group)| spans(group)).map(|(name, _)| name).collect();
        add(Severity::Warning, "names of recordings that occur in several splits", shared);
    }

    let speakers = groups(listing.utterances.iter(), |utterance| utterance.annotation.speaker.clone());
    let shared = speakers.into_iter().filter(|(_, group)| spans(group)).map(|(name, _)| name).collect();
    let severity = if facts.shares_speakers { Severity::Note } else { Severity::Warning };
    add(severity, "speakers that are in several splits", shared);
}

/// Utterances by a property that they may have.
fn groups<'a>(
    utterances: impl Iterator<Item = &'a Utterance>,
    property: impl Fn(&Utterance) -> Option<String>,
) -> BTreeMap<String, Vec<&'a Utterance>> {
    let mut groups: BTreeMap<String, Vec<&Utterance>> = BTreeMap::new();
    for utterance in utterances {
        if let Some(key) = property(utterance) {
            groups.entry(key).or_default().push(utterance);
        }
    }
    groups
}

/// True if a group is in several splits.
fn spans(group: &[&Utterance]) -> bool {
    group.iter().map(|utterance| utterance.split).collect::<BTreeSet<_>>().len() > 1
}
