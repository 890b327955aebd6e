//! Check of a copy of a corpus: is it complete and sound? Decodes no sample.
//!
//! It lists the corpus, reads the headers of the recordings, and holds both against what is published. Contents are compared by
//! digests that the caller has; here nothing is hashed.

mod compare;
mod damage;
mod display;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

use damage::Damage;

use crate::{Cause, Corpus, CorpusError, Facts, Length, Listing, Protocol, Split, Utterance};

/// Outcome of a check.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Name of the reader.
    pub corpus: &'static str,
    /// Name of the protocol.
    pub protocol: &'static str,
    /// The licence of the recordings.
    pub licence: &'static str,
    /// Published sizes that the copy is compared with.
    pub basis: Basis,
    /// Train, dev and test.
    pub splits: [SplitReport; 3],
    /// In the order of their indices.
    pub classes: Vec<ClassReport>,
    /// The worst first.
    pub findings: Vec<Finding>,
}

/// Published sizes of a corpus: all, some or none are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// There are, of all or some splits.
    Published,
    /// None are known for the protocol.
    Unpublished,
    /// The copy says that it is synthetic, so they do not apply.
    Synthetic,
}

/// Counts of one split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SplitReport {
    /// Which one.
    pub split: Split,
    /// Utterances.
    pub utterances: u64,
    /// Utterances as published, where that is known and applies.
    pub expected: Option<u64>,
    /// Different speakers.
    pub speakers: u64,
    /// Hours of the utterances whose length is known.
    pub hours: f64,
    /// Utterances whose length neither a header nor a label file says.
    pub unknown_lengths: u64,
}

/// Counts of one class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClassReport {
    /// The class.
    pub label: String,
    /// Utterances of train, dev and test.
    pub utterances: [u64; 3],
    /// Published utterances of each split, where they are known and apply.
    pub expected: Option<[u64; 3]>,
}

/// Something worth knowing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// One sentence without a full stop.
    pub what: String,
    /// All names that the finding concerns: ids, or files with reasons.
    pub names: Vec<String>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The copy is not the published corpus, or not all of it.
    Fault,
    /// A person should look at it.
    Warning,
    /// Known or meant to be so.
    Note,
}

impl Report {
    /// True if the copy is complete: no finding is a fault.
    pub fn passes(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity != Severity::Fault)
    }
}

/// Checks a copy of a corpus. `digest` gives the digest of a recording's content by its path, where the caller has one: two
/// recordings with one digest are the same.
///
/// Errors: [`CorpusError`] when nothing of the corpus can be read.
pub fn check(
    corpus: &dyn Corpus,
    protocol: &'static Protocol,
    root: &Path,
    digest: &dyn Fn(&str) -> Option<String>,
) -> Result<Report, CorpusError> {
    let listing = corpus.list(root, protocol)?;
    let facts = if listing.is_synthetic { unpublished(corpus, protocol) } else { corpus.facts(protocol) };
    let mut damage = Damage::default();
    let splits = Split::ALL.map(|split| split_report(root, &listing, &facts, split, &mut damage));
    let classes = compare::classes(&listing, &facts);
    let basis = match (listing.is_synthetic, splits.iter().any(|split| split.expected.is_some())) {
        (true, _) => Basis::Synthetic,
        (false, true) => Basis::Published,
        (false, false) => Basis::Unpublished,
    };

    let mut findings = Vec::new();
    compare::sizes(&splits, &classes, &facts, &mut findings);
    let is_whole = listing.expected.is_some() && findings.is_empty();
    damage.report(&mut findings);
    skipped(&listing, is_whole, &mut findings);
    flagged(&listing, &mut findings);
    compare::splits(&listing, &facts, digest, &mut findings);
    let named = |severity, texts: &[String]| {
        texts.iter().map(move |what| Finding { severity, what: what.clone(), names: Vec::new() }).collect::<Vec<_>>()
    };
    findings.extend(named(Severity::Warning, &listing.warnings));
    findings.extend(named(Severity::Note, &listing.notes));
    for (why, count) in &listing.unused {
        findings.push(Finding {
            severity: Severity::Note,
            what: format!("{count} recordings are not used: {why}"),
            names: Vec::new(),
        });
    }
    findings.sort_by_key(|finding| finding.severity);
    Ok(Report { corpus: corpus.name(), protocol: protocol.name, licence: corpus.licence(), basis, splits, classes, findings })
}

/// Returns the facts that hold for a corpus of any size.
fn unpublished(corpus: &dyn Corpus, protocol: &Protocol) -> Facts {
    let facts = corpus.facts(protocol);
    Facts { utterances: [None; 3], classes: &[], class_slack: 0, hours: None, speakers: None, ..facts }
}

fn split_report(root: &Path, listing: &Listing, facts: &Facts, split: Split, damage: &mut Damage) -> SplitReport {
    let (mut secs, mut unknown_lengths) = (0.0, 0);
    let of_split = || listing.utterances.iter().filter(move |utterance| utterance.split == split);
    for utterance in of_split() {
        let header = Length::read(&root.join(&utterance.path));
        damage.note(root, &utterance.path, header);
        match length_secs(utterance, header) {
            Some(length) => secs += length,
            None => unknown_lengths += 1,
        }
    }
    let speakers: BTreeSet<&str> = of_split().filter_map(|utterance| utterance.annotation.speaker.as_deref()).collect();
    SplitReport {
        split,
        utterances: listing.count(split),
        expected: listing.expected.map(|expected| expected[split as usize]).or(facts.utterances[split as usize]),
        speakers: speakers.len() as u64,
        hours: secs / 3_600.0,
        unknown_lengths,
    }
}

/// How long an utterance lasts: by the header of its recording, else by its label file.
fn length_secs(utterance: &Utterance, header: Option<Length>) -> Option<f64> {
    match (utterance.span, header) {
        (Some(span), Some(length)) => Some(span.num_samples as f64 / f64::from(length.sample_rate)),
        (None, Some(length)) => Some(length.secs()),
        (Some(_), None) => None,
        (None, None) => utterance.duration_ms.map(|millis| millis as f64 / 1e3),
    }
}

/// Reports the entries that were left out, by cause. If a corpus has all its utterances, nothing that matters is missing.
fn skipped(listing: &Listing, is_whole: bool, findings: &mut Vec<Finding>) {
    let missing = if is_whole { Severity::Note } else { Severity::Fault };
    let kinds = [
        (Cause::Missing, missing, "named by label files and not there"),
        (Cause::Unusable, Severity::Warning, "left out because it is not as it should be"),
        (Cause::Extra, Severity::Warning, "there without a label"),
        (Cause::Known, Severity::Note, "left out because every copy has it wrong"),
    ];
    for (cause, severity, what) in kinds {
        let of_cause = listing.skipped.iter().filter(|skipped| skipped.cause == cause);
        let names: Vec<_> = of_cause.map(|skipped| format!("{}: {}", skipped.path, skipped.reason)).collect();
        if !names.is_empty() {
            findings.push(Finding { severity, what: format!("{}: {what}", names.len()), names });
        }
    }
}

/// Reports the utterances that were kept with a flag, by flag.
fn flagged(listing: &Listing, findings: &mut Vec<Finding>) {
    let mut flags: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for utterance in &listing.utterances {
        for flag in &utterance.annotation.flags {
            flags.entry(flag).or_default().push(utterance.id.clone());
        }
    }
    for (flag, names) in flags {
        findings.push(Finding { severity: Severity::Note, what: format!("{} kept, though: {flag}", names.len()), names });
    }
}

#[cfg(test)]
mod tests;
