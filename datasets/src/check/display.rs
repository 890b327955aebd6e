//! A report for people.

use std::fmt;

use super::{Basis, ClassReport, Report, Severity};

/// How many names of a finding are shown.
const MOST_NAMES: usize = 10;

const CLASS: &str = "class";

impl Report {
    /// The whole of it, with every name.
    pub fn in_full(&self) -> String {
        self.text(usize::MAX)
    }

    fn text(&self, most_names: usize) -> String {
        let mut text = String::new();
        let _ = self.write(&mut text, most_names); // writing to a string cannot fail
        text
    }

    fn write(&self, f: &mut impl fmt::Write, most_names: usize) -> fmt::Result {
        writeln!(f, "{} as {} (licence: {})", self.corpus, self.protocol, self.licence)?;
        for report in &self.splits {
            let published = report.expected.map_or_else(String::new, |expected| format!(" of {expected}"));
            let (split, hours) = (report.split.name(), report.hours);
            write!(f, "  {split:<5} {}{published} utterances, {} speakers, {hours:.2} h", report.utterances, report.speakers)?;
            match report.unknown_lengths {
                0 => writeln!(f)?,
                unknown => writeln!(f, " without {unknown} of unknown length")?,
            }
        }
        self.write_classes(f)?;
        for finding in &self.findings {
            let severity = match finding.severity {
                Severity::Fault => "fault",
                Severity::Warning => "warning",
                Severity::Note => "note",
            };
            writeln!(f, "{severity}: {}", finding.what)?;
            for name in finding.names.iter().take(most_names) {
                writeln!(f, "  {name}")?;
            }
            match finding.names.len().saturating_sub(most_names) {
                0 => {}
                more => writeln!(f, "  and {more} more")?,
            }
        }
        f.write_str(match (self.passes(), self.basis) {
            (false, _) => "not complete\n",
            (true, Basis::Published) => "complete\n",
            (true, Basis::Synthetic) => "nothing that is named is missing (synthetic: published sizes do not apply)\n",
            (true, Basis::Unpublished) => "nothing that is named is missing (no published sizes are known to hold it against)\n",
        })
    }

    /// The classes as a table. A miniature lacks most of many classes: those without an utterance are only counted.
    fn write_classes(&self, f: &mut impl fmt::Write) -> fmt::Result {
        let of_use = |class: &&ClassReport| class.expected.is_some() || class.utterances != [0; 3];
        let shown: Vec<_> = self.classes.iter().filter(of_use).collect();
        let width = shown.iter().map(|class| class.label.chars().count()).max().unwrap_or(0).max(CLASS.len());
        if !self.classes.is_empty() {
            writeln!(f, "  {CLASS:<width$} {:>7} {:>7} {:>7}", "train", "dev", "test")?;
        }
        for class in &shown {
            let [train, dev, test] = class.utterances;
            writeln!(f, "  {:<width$} {train:>7} {dev:>7} {test:>7}", class.label)?;
        }
        match self.classes.len() - shown.len() {
            0 => Ok(()),
            none => writeln!(f, "  and {none} classes without an utterance"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(MOST_NAMES))
    }
}
